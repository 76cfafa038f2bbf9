//! Telling people how runs ended: by mail, webhook, ntfy, Slack, Discord, or a ping to a dead-man
//! switch. Channels are the `[channel.NAME]` tables of the configuration; a plan says which of them
//! is told of what. Each attempt is in the history.

use std::time::Duration;

use crate::config::Config;
use crate::plans::{Event, Part};
use crate::problem::Problem;
use crate::runs::{Delivery, History, Outcome, Run};
use crate::text::{count, duration, size};
use crate::times::{local, now};

mod channel;
mod edit;
mod send;
#[cfg(test)]
mod tests;

pub use channel::{Channel, ChannelKey, KEYS, Kind};

/// Attempts for each message, and the wait before the second.
const TRIES: u32 = 2;
const WAIT: Duration = Duration::from_secs(2);

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What happened.
    pub event: Event,
    /// One line.
    pub subject: String,
    /// More of it.
    pub text: String,
    /// The run as JSON, for programs; null for a test.
    pub run: serde_json::Value,
}

impl Message {
    /// That a channel works.
    pub fn test(host: &str) -> Self {
        Self {
            event: Event::Success,
            subject: format!("Holdfast on {host}: a test"),
            text: "If you can read this, notifications come through.".into(),
            run: serde_json::Value::Null,
        }
    }

    /// Of a run, as it is now. `shown` is what people call its plan.
    pub fn of(run: &Run, event: Event, shown: &str, host: &str) -> Self {
        let what = match event {
            Event::Start => "begins",
            Event::Success => "is done",
            Event::Warnings => "is done, with warnings",
            Event::Failure => "FAILED",
            Event::Missed => "was missed",
        };
        let report = &run.report;
        let mut text = String::new();
        let mut line = |name: &str, value: String| text.push_str(&format!("{name}: {value}\n"));
        line("To", run.place.clone());
        line(if event == Event::Missed { "Due" } else { "Began" }, local(run.started));
        if let Some(took) = run.took() {
            line("Took", duration(took));
        }
        if report.numbers.contains_key("files_new") {
            let (new, changed) = (report.number("files_new"), report.number("files_changed"));
            line("Files", format!("{} new, {} changed", count(new), count(changed)));
            let (all, stored) = (report.number("bytes"), report.number("bytes_stored"));
            line("Size", format!("{} in all, {} stored", size(all), size(stored)));
        }
        for class in &report.errors {
            line("Not saved", format!("{} ({})", count(class.count), class.class));
        }
        if let Some(problem) = &report.problem {
            line("Why", problem.message.clone());
            problem.causes.iter().for_each(|cause| line("Because", cause.clone()));
            problem.hints.iter().for_each(|hint| line("Hint", hint.clone()));
        }
        line("More", format!("holdfast runs show {}", run.id));
        Self {
            event,
            subject: format!("Holdfast on {host}: {} of {shown} {what}", run.verb),
            text,
            run: run.to_json(),
        }
    }
}

/// The event that the end of a run is.
pub(crate) fn event_of(outcome: Outcome) -> Option<Event> {
    Some(match outcome {
        Outcome::Ok => Event::Success,
        Outcome::Warnings => Event::Warnings,
        Outcome::Failed | Outcome::Interrupted => Event::Failure,
        // Somebody did that, and knows it. The others are no ends.
        Outcome::Cancelled | Outcome::Queued | Outcome::Running | Outcome::Missed => return None,
    })
}

/// Tells the channels of a plan of a run. What does not come through is in the history.
pub fn tell(config: &Config, history: &History, run: &Run, event: Event) -> Result<(), Problem> {
    let Some(name) = &run.plan else { return Ok(()) };
    let plan = config.plan_as_written(name)?;
    let host = crate::jobs::host();
    let mut told = Ok(());
    for notify in &plan.notify {
        let channel = config.channel(&notify.channel);
        let is_wanted = match &channel {
            // A dead-man switch hears of every end of a backup, or it would ring, and of nothing
            // else: a gc that is done says nothing of the backup before it.
            Ok(channel) if channel.kind == Kind::Ping => {
                event != Event::Missed && run.verb == Part::Backup.name()
            }
            _ => notify.events.contains(&event),
        };
        if !is_wanted {
            continue;
        }
        let message = Message::of(run, event, plan.shown(), &host);
        let sent = channel.and_then(|channel| deliver(&channel, &message));
        let error = sent.as_ref().err();
        // The others hear of it even where that cannot be written down.
        told = told.and(record(history, &notify.channel, event.name(), Some(run), error));
    }
    told
}

/// Sends a test to a channel.
pub fn test(config: &Config, history: &History, name: &str) -> Result<(), Problem> {
    let channel = config.channel(name)?;
    let sent = send::send(&channel, &Message::test(&crate::jobs::host()));
    record(history, name, "test", None, sent.as_ref().err())?;
    sent
}

fn deliver(channel: &Channel, message: &Message) -> Result<(), Problem> {
    let mut tries = 1;
    loop {
        match send::send(channel, message) {
            Err(_) if tries < TRIES => {
                tries += 1;
                std::thread::sleep(WAIT);
            }
            result => return result,
        }
    }
}

fn record(
    history: &History,
    channel: &str,
    event: &str,
    run: Option<&Run>,
    problem: Option<&Problem>,
) -> Result<(), Problem> {
    history.delivered(&Delivery {
        time: now(),
        channel: channel.to_owned(),
        event: event.to_owned(),
        plan: run.and_then(|run| run.plan.clone()),
        run: run.map(|run| run.id),
        error: problem.map(ToString::to_string),
    })
}

impl Config {
    /// The names of all channels, in the file's order.
    pub fn channel_names(&self) -> Vec<String> {
        self.channel_tables().map(|(name, _)| name.to_owned()).collect()
    }

    pub(crate) fn has_channel(&self, name: &str) -> bool {
        self.channel_tables().any(|(known, _)| known == name)
    }

    /// The channel of this name, checked. Its secrets are fetched when something is sent; that
    /// variables of the environment are set is looked at here.
    pub fn channel(&self, name: &str) -> Result<Channel, Problem> {
        let channel = channel::read(name, self.channel_table(name)?, self.base())?;
        channel.check_variables()?;
        Ok(channel)
    }
}
