//! The command line: global options, the list of verbs, and options that several verbs share.
//! A verb's own options stand in its file in `verbs/`.

pub(crate) mod normalise;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use holdfast_app::Problem;
use holdfast_engine::repo::snapshots::Filter;
use holdfast_engine::tree::view;

use crate::verbs;

const GLOBAL: &str = "\
Global options, before or after the verb:
      --at LOCATION           The repository; the same as `at LOCATION` in front
                              [else $HOLDFAST_REPOSITORY, else the configured
                              default, else ~/.holdfast]
  -o, --option KEY=VALUE      An option for the repository's location, in place
                              of what the configuration says; may be repeated
      --config FILE           The configuration [$HOLDFAST_CONFIG]
      --key-file FILE         Open (or create) the repository with this key file
      --passphrase-file FILE  Read the passphrase from this file
      --no-encryption         The repository is not encrypted, and need not be
      --cache-dir DIR         Where to keep disposable copies
                              [$HOLDFAST_CACHE_DIR]
      --no-cache              Keep none
      --limit-upload RATE     Send no more than this a second: 512K, 10M; to the
                              repository and to each place over a network
      --limit-download RATE   Receive no more than this a second, from each of
                              them
      --connections NUMBER    Use so many connections to each server, 1 to 64
      --memory SIZE           Keep buffers and caches within this: 64M, 1G; at
                              least 32M. The rest of the program takes 10 to 50
                              MB besides, and the index of a large repository
                              more
      --background            Give way to all else that runs here: lowest
                              priority for processor and disk
      --accept-new-host-key   Trust the host key of a server met for the first
                              time
      --json                  Write one JSON object a line (docs/json.md)
  -q, --quiet                 Say nothing but errors and what was asked for
      --no-progress           Show no progress

Plans say themselves how fast they run and how their places are reached: run,
drill and serve refuse -o, --key-file, --passphrase-file, --limit-upload,
--limit-download, --connections and --memory.

Long options may be written with one dash (-tag) and after arguments; `--` ends
them.

A LOCATION is a path, sftp://[user@]host[:port]/absolute/path,
s3://endpoint[:port]/bucket[/prefix], or @NAME for what the configuration holds
(@NAME:/sub/path for what is below it).

Environment: HOLDFAST_REPOSITORY, HOLDFAST_CONFIG, HOLDFAST_PASSPHRASE,
HOLDFAST_KEY_FILE, HOLDFAST_PASSPHRASE_FILE, HOLDFAST_PASSPHRASE_COMMAND,
HOLDFAST_CACHE_DIR

Examples:
  holdfast at /mnt/disk/backups create
  holdfast at /mnt/disk/backups backup -tag home ~/Documents
  holdfast at /mnt/disk/backups ls
  holdfast at /mnt/disk/backups restore -to /tmp/restored latest:/home/anna

Exit codes: 0 done, 1 failed, 2 usage, 3 finished with some files unread or
unwritten, 10 no repository, 11 busy, 12 wrong passphrase, 13 damage found,
14 archived and not readable yet, 130 interrupted, 141 its output was not read
to the end";

/// Encrypted, deduplicated, versioned backups.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    after_help = GLOBAL,
    override_usage = "holdfast [GLOBAL OPTIONS] [at LOCATION] VERB [OPTIONS] [ARGUMENTS]",
    subcommand_help_heading = "Verbs",
    subcommand_value_name = "VERB",
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options of every verb. They are described once, in [`GLOBAL`].
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    #[arg(long, global = true, hide = true, value_name = "LOCATION", allow_hyphen_values = false)]
    pub(crate) at: Option<OsString>,
    #[arg(long, short, global = true, hide = true, value_name = "KEY=VALUE")]
    pub(crate) option: Vec<String>,
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    #[arg(long, global = true, hide = true, value_name = "FILE", conflicts_with = "key_file")]
    pub(crate) passphrase_file: Option<PathBuf>,
    #[arg(long, global = true, hide = true, conflicts_with_all = ["key_file", "passphrase_file"])]
    pub(crate) no_encryption: bool,
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    #[arg(long, global = true, hide = true)]
    pub(crate) no_cache: bool,
    #[arg(long, global = true, hide = true, value_name = "RATE")]
    pub(crate) limit_upload: Option<String>,
    #[arg(long, global = true, hide = true, value_name = "RATE")]
    pub(crate) limit_download: Option<String>,
    #[arg(long, global = true, hide = true, value_name = "NUMBER",
        value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(crate) connections: Option<u64>,
    #[arg(long, global = true, hide = true, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    #[arg(long, global = true, hide = true)]
    pub(crate) background: bool,
    #[arg(long, global = true, hide = true)]
    pub(crate) accept_new_host_key: bool,
    #[arg(long, global = true, hide = true)]
    pub(crate) json: bool,
    #[arg(long, short, global = true, hide = true)]
    pub(crate) quiet: bool,
    #[arg(long, global = true, hide = true)]
    pub(crate) no_progress: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Create(verbs::create::Create),
    Backup(verbs::backup::Backup),
    Ls(verbs::ls::Ls),
    Restore(verbs::restore::Restore),
    Cat(verbs::cat::Cat),
    Diff(verbs::diff::Diff),
    Find(verbs::find::Find),
    History(verbs::history::History),
    Dup(verbs::dup::Dup),
    Archive(verbs::archive::Archive),
    Mount(verbs::mount::Mount),
    Check(verbs::check::Check),
    #[command(subcommand)]
    Repair(verbs::repair::Repair),
    Info(verbs::info::Info),
    Digest(verbs::digest::Digest),
    Forget(verbs::forget::Forget),
    Prune(verbs::prune::Prune),
    Keep(verbs::keep::Keep),
    Tag(verbs::tag::Tag),
    Sync(verbs::sync::Sync),
    Gc(verbs::gc::Gc),
    #[command(subcommand)]
    Key(verbs::key::Key),
    Plan(verbs::plan::Plan),
    Run(verbs::run::Run),
    Runs(verbs::runs::Runs),
    Drill(verbs::drill::Drill),
    Serve(verbs::serve::Serve),
    Recover(verbs::recover::Recover),
    Channel(verbs::channel::Channel),
    Token(verbs::token::Tokens),
    Config(verbs::config::Config),
    Test(verbs::test::Test),
    Ui(verbs::ui::Ui),
    Completions(verbs::completions::Completions),
    Man(verbs::man::Man),
    Version(verbs::version::Version),
}

/// Which snapshots to consider, interrupted runs aside.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Narrowing {
    /// Only snapshots with this tag; several must all be there
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub(crate) tag: Vec<String>,
    /// Only snapshots of this host
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Only snapshots that hold this absolute path
    #[arg(long)]
    pub(crate) path: Option<OsString>,
    /// Only snapshots begun then or before: 2026-11-20, 2026-11-20T10:00, "2 days ago"
    #[arg(long, value_name = "TIME", alias = "at-time")]
    pub(crate) before: Option<String>,
}

/// Which snapshots to consider.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Selection {
    #[command(flatten)]
    pub(crate) narrowing: Narrowing,
    /// Also interrupted runs
    #[arg(long)]
    pub(crate) partial: bool,
}

/// What opens another repository than the one that the global options are about.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct OtherSecret {
    /// Open the other repository with this key file
    #[arg(long, value_name = "FILE")]
    pub(crate) other_key_file: Option<PathBuf>,
    /// Read the passphrase of the other repository from this file
    #[arg(long, value_name = "FILE", conflicts_with = "other_key_file")]
    pub(crate) other_passphrase_file: Option<PathBuf>,
    /// The other repository is not encrypted, and need not be
    #[arg(long, conflicts_with_all = ["other_key_file", "other_passphrase_file"])]
    pub(crate) other_no_encryption: bool,
}

impl Narrowing {
    pub(crate) fn filter(&self) -> Result<Filter, Problem> {
        use std::os::unix::ffi::OsStrExt;
        let until = self.before.as_deref().map(|text| {
            holdfast_app::times::parse(text).ok_or_else(|| {
                Problem::usage(format!("{text} is no time"))
                    .hint("write 2026-11-20, 2026-11-20T10:00, \"2 days ago\" or yesterday")
            })
        });
        Ok(Filter {
            tags: self.tag.clone(),
            host: self.host.clone(),
            path: self.path.as_ref().map(|path| view::normalize(path.as_bytes())),
            until: until.transpose()?,
            partial: false,
        })
    }
}

impl Selection {
    pub(crate) fn filter(&self) -> Result<Filter, Problem> {
        Ok(Filter { partial: self.partial, ..self.narrowing.filter()? })
    }
}

/// Parses words that were normalised.
pub(crate) fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(words)
}

/// The whole command line as clap knows it.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_global_option_is_described() {
        for arg in command().get_arguments().filter(|arg| arg.is_global_set()) {
            let long = arg.get_long().unwrap_or_default();
            assert!(GLOBAL.contains(&format!("--{long}")), "{long}");
        }
    }
}
