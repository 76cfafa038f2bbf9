//! `channel`: ways to tell people how runs ended. Channels are tables of the configuration; whatever
//! is changed here may as well be edited in the file.

mod edit;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use holdfast_app::Config;
use holdfast_app::notify;
use holdfast_app::runs::History;
use holdfast_app::text::printable;
use holdfast_app::times::{local, rfc3339};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::ui::table::{Align, Table};

/// Make, change and test channels of notifications
///
/// A channel is a way to tell people how runs ended: mail, webhook, ntfy, slack, discord, and ping
/// for dead-man switches (docs/plans.md). Plans say which of them is told of what.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast channel create phone ntfy
  holdfast channel create mail mail server=smtp.example.com username=anna \\
      password_file=~/.smtp from=anna@example.com \\
      to=anna@example.com,bob@example.com
  holdfast channel set phone token
  holdfast channel test phone
  holdfast plan edit home --set 'notify={ phone = [\"failure\", \"missed\"] }'")]
pub(crate) struct Channel {
    #[command(subcommand)]
    what: What,
}

/// What to do with channels.
#[derive(Debug, Subcommand)]
enum What {
    Create(edit::Create),
    Set(edit::Set),
    /// Take a key out
    Unset {
        /// The channel
        name: String,
        /// The key, in whichever form it is given
        key: String,
    },
    /// Remove a channel; plans tell it of nothing any more
    Remove {
        /// The channel
        name: String,
    },
    /// List the channels of the configuration
    List,
    /// Show one channel, or all of them; secrets are hidden
    Show {
        /// The channel
        name: Option<String>,
    },
    /// Send a test to a channel
    Test {
        /// The channel
        name: String,
    },
    /// Show what was sent, and what did not come through
    Log {
        /// The newest N; 0 for all
        #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
        number: u32,
    },
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    kind: Option<&'static str>,
    title: Option<String>,
    problem: Option<String>,
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    kind: Option<&'static str>,
    keys: BTreeMap<String, String>,
    problem: Option<&'a str>,
}

#[derive(Serialize)]
struct Tested<'a> {
    channel: &'a str,
}

#[derive(Serialize)]
struct Sent<'a> {
    time: String,
    channel: &'a str,
    event: &'a str,
    plan: Option<&'a str>,
    run: Option<i64>,
    error: Option<&'a str>,
}

pub(crate) fn run(context: &Context, options: &Channel) -> Result {
    let paths = context.paths()?;
    let config = paths.load_config()?;
    match &options.what {
        What::Create(options) => edit::create(context, options),
        What::Set(options) => edit::set(context, options),
        What::Unset { name, key } => edit::unset(context, name, key),
        What::Remove { name } => edit::remove(context, name),
        What::Show { name } => {
            let names = match name {
                Some(name) => vec![name.clone()],
                None => config.channel_names(),
            };
            for (i, name) in names.iter().enumerate() {
                if i > 0 && !context.ui.is_json() {
                    context.ui.line("")?;
                }
                show(context, &config, name)?;
            }
            Ok(Outcome::Done)
        }
        What::List => {
            let columns = ["NAME", "TYPE", "TITLE", "NOTE"];
            let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
            for name in config.channel_names() {
                let channel = config.channel(&name);
                let kind = channel.as_ref().ok().map(|channel| channel.kind.name());
                let title = channel.as_ref().ok().and_then(|channel| channel.title.clone());
                let problem = channel.err().map(|problem| problem.message);
                if context.ui.is_json() {
                    context.ui.row("channel", &Row { name: &name, kind, title, problem })?;
                    continue;
                }
                let row = [
                    name,
                    kind.unwrap_or_default().into(),
                    title.unwrap_or_default(),
                    problem.unwrap_or_default(),
                ];
                table.add(row.iter().map(|text| printable(text.as_bytes())).collect());
            }
            let empty = "no channels; to make one: holdfast channel create NAME TYPE";
            listed(context, &table, empty)
        }
        What::Test { name } => {
            let history = History::open(&paths.state)?;
            notify::test(&config, &history, name)?;
            context.ui.summary(&format!("the test came through to {name}"))?;
            if context.ui.is_json() {
                context.ui.event("summary", &Tested { channel: name })?;
            }
            Ok(Outcome::Done)
        }
        What::Log { number } => {
            let history = History::open(&paths.state)?;
            let columns = ["TIME", "CHANNEL", "EVENT", "PLAN", "RUN", "RESULT"];
            let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
            for sent in history.deliveries((*number > 0).then_some(*number))? {
                if context.ui.is_json() {
                    let row = Sent {
                        time: rfc3339(sent.time),
                        channel: &sent.channel,
                        event: &sent.event,
                        plan: sent.plan.as_deref(),
                        run: sent.run,
                        error: sent.error.as_deref(),
                    };
                    context.ui.row("delivery", &row)?;
                    continue;
                }
                table.add(vec![
                    local(sent.time),
                    sent.channel,
                    sent.event,
                    sent.plan.unwrap_or_default(),
                    sent.run.map(|run| run.to_string()).unwrap_or_default(),
                    sent.error.unwrap_or_else(|| "sent".into()),
                ]);
            }
            listed(context, &table, "nothing was sent yet")
        }
    }
}

/// Shows what a channel says, and what is wrong with it.
fn show(context: &Context, config: &Config, name: &str) -> Result<()> {
    let lines = config.channel_lines(name)?;
    let kind = config.channel_kind(name).ok().map(notify::Kind::name);
    let problem = config.channel(name).err();
    if context.ui.is_json() {
        let keys = lines.into_iter().map(|line| (line.name, line.text)).collect();
        let problem = problem.as_ref().map(|problem| problem.message.as_str());
        return Ok(context.ui.row("channel", &Shown { name, kind, keys, problem })?);
    }
    context.ui.line(&format!("[channel.{}]", printable(name.as_bytes())))?;
    context.ui.line(&format!("type = \"{}\"", kind.unwrap_or("?")))?;
    for line in lines {
        let (name, value) = (printable(line.name.as_bytes()), printable(line.value.as_bytes()));
        context.ui.line(&format!("{name} = {value}"))?;
    }
    if let Some(problem) = problem {
        context.ui.flush()?;
        context.ui.warn(&problem.to_string())?;
        problem.hints.iter().try_for_each(|hint| context.ui.note(&format!("  hint: {hint}")))?;
    }
    Ok(())
}

fn listed(context: &Context, table: &Table, empty: &str) -> Result {
    match (context.ui.is_json(), table.is_empty()) {
        (true, _) => {}
        (false, true) => context.ui.note(empty)?,
        (false, false) => table.write(&mut *context.ui.out())?,
    }
    Ok(Outcome::Done)
}
