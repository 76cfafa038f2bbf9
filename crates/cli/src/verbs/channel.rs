//! `channel`: ways to tell people how runs ended.

use clap::{Args, Subcommand};
use holdfast_app::notify;
use holdfast_app::runs::History;
use holdfast_app::text::printable;
use holdfast_app::times::{local, rfc3339};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::ui::table::{Align, Table};

/// Show and test channels of notifications
///
/// Channels are [channel.NAME] tables of the configuration (docs/plans.md): mail, webhook, ntfy,
/// slack, discord, and ping for dead-man switches. Plans say which of them is told of what.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast channel list
  holdfast channel test phone
  holdfast plan edit home --set 'notify={ phone = [\"failure\", \"missed\"] }'")]
pub(crate) struct Channel {
    #[command(subcommand)]
    what: What,
}

/// What to do with channels.
#[derive(Debug, Subcommand)]
enum What {
    /// List the channels of the configuration
    List,
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
            show(context, &table, "no channels; docs/plans.md shows how they are written")
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
            show(context, &table, "nothing was sent yet")
        }
    }
}

fn show(context: &Context, table: &Table, empty: &str) -> Result {
    match (context.ui.is_json(), table.is_empty()) {
        (true, _) => {}
        (false, true) => context.ui.note(empty)?,
        (false, false) => table.write(&mut *context.ui.out())?,
    }
    Ok(Outcome::Done)
}
