//! One file a verb: its options, what it calls in the engine, and what it tells.

pub(crate) mod archive;
pub(crate) mod backup;
pub(crate) mod cat;
pub(crate) mod channel;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod create;
pub(crate) mod diff;
pub(crate) mod digest;
pub(crate) mod drill;
pub(crate) mod dup;
pub(crate) mod find;
pub(crate) mod forget;
pub(crate) mod gc;
pub(crate) mod history;
pub(crate) mod info;
pub(crate) mod keep;
pub(crate) mod key;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod mount;
pub(crate) mod plan;
pub(crate) mod prune;
pub(crate) mod recover;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod serve;
pub(crate) mod sync;
pub(crate) mod tag;
pub(crate) mod test;
pub(crate) mod token;
pub(crate) mod ui;
pub(crate) mod version;
mod warm_up;

use crate::args::Verb;
use crate::context::Context;
use crate::failure::Result;

/// Does what was asked for.
pub(crate) fn run(context: &Context, verb: Verb) -> Result {
    // What is wrong with it is said before anything is opened.
    context.memory()?;
    match verb {
        Verb::Create(options) => create::run(context, &options),
        Verb::Backup(options) => backup::run(context, &options),
        Verb::Ls(options) => ls::run(context, &options),
        Verb::Restore(options) => restore::run(context, &options),
        Verb::Cat(options) => cat::run(context, &options),
        Verb::Diff(options) => diff::run(context, &options),
        Verb::Find(options) => find::run(context, &options),
        Verb::History(options) => history::run(context, &options),
        Verb::Dup(options) => dup::run(context, &options),
        Verb::Mount(options) => mount::run(context, &options),
        Verb::Archive(options) => archive::run(context, &options),
        Verb::Check(options) => check::run(context, &options),
        Verb::Repair(options) => repair::run(context, &options),
        Verb::Info(options) => info::run(context, &options),
        Verb::Digest(options) => digest::run(context, &options),
        Verb::Forget(options) => forget::run(context, &options),
        Verb::Prune(options) => prune::run(context, &options),
        Verb::Keep(options) => keep::run(context, &options),
        Verb::Tag(options) => tag::run(context, &options),
        Verb::Sync(options) => sync::run(context, &options),
        Verb::Gc(options) => gc::run(context, &options),
        Verb::Key(options) => key::run(context, &options),
        Verb::Plan(options) => plan::run(context, &options),
        Verb::Run(options) => run::run(context, &options),
        Verb::Drill(options) => drill::run(context, &options),
        Verb::Serve(options) => serve::run(context, &options),
        Verb::Recover(options) => recover::run(context, &options),
        Verb::Channel(options) => channel::run(context, &options),
        Verb::Token(options) => token::run(context, &options),
        Verb::Runs(options) => runs::run(context, &options),
        Verb::Config(options) => config::run(context, &options),
        Verb::Test(options) => test::run(context, &options),
        Verb::Ui(options) => ui::run(context, &options),
        Verb::Completions(options) => completions::run(context, &options),
        Verb::Man(options) => man::run(context, &options),
        Verb::Version(options) => version::run(context, &options),
    }
}
