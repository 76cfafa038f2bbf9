//! Every key of a `[plan.NAME]`, in one table: what it is called and what it means, how it is read
//! and how it is written.

use std::time::Duration;

use serde_json::json;
use toml_edit::{InlineTable, Item, TableLike, Value};

use self::read::{
    check, drill, flag, follows, hooks, keep, line, lines, notify, overlap, retry, schedule, size,
    speed, time, zone,
};
use self::write::{
    bytes, checked, drilled, followed, hooked, kept, list, notified, retried, seconds, text_of,
    unless,
};
use super::{Overlap, Plan};
use crate::config::Config;
use crate::problem::{Class, Problem};
use crate::text::{key_line, printable};

mod read;
mod write;

/// A key of a plan.
#[derive(Debug, Clone, Copy)]
pub struct PlanKey {
    /// Its name in the file.
    pub name: &'static str,
    /// How its value looks, as an example.
    pub example: &'static str,
    /// One line for people.
    pub about: &'static str,
    read: fn(&mut Plan, &Item) -> Result<(), String>,
    write: fn(&Plan) -> Option<Value>,
}

impl PlanKey {
    /// Its value in `plan`, as it is written; `None` if it is what holds anyway.
    pub fn value(&self, plan: &Plan) -> Option<Value> {
        (self.write)(plan)
    }
}

macro_rules! key {
    ($name:literal, $example:literal, $about:literal, $read:expr, $write:expr) => {
        PlanKey { name: $name, example: $example, about: $about, read: $read, write: $write }
    };
}

/// All keys, in the order in which they are written.
pub const KEYS: &[PlanKey] = &[
    key!(
        "title",
        "\"Home folders\"",
        "What people call it; any text",
        |p, i| line(i).map(|v| p.title = Some(v)),
        |p| p.title.clone().map(Value::from)
    ),
    key!(
        "enabled",
        "false",
        "Whether its schedules count; `holdfast run` always works",
        |p, i| flag(i).map(|v| p.enabled = v),
        |p| unless(p.enabled, true)
    ),
    key!(
        "sources",
        "[\"/home/anna\", \"@mys3\"]",
        "What is backed up: any locations",
        |p, i| lines(i).map(|v| p.sources = v),
        |p| list(&p.sources)
    ),
    key!(
        "exclude",
        "[\".cache/\", \"*.iso\"]",
        "What is left out, by rules as in .gitignore",
        |p, i| lines(i).map(|v| p.exclude = v),
        |p| list(&p.exclude)
    ),
    key!(
        "exclude_larger_than",
        "\"2G\"",
        "Files of more than this are left out",
        |p, i| size(i).map(|v| p.exclude_larger_than = Some(v)),
        |p| p.exclude_larger_than.map(bytes)
    ),
    key!(
        "exclude_caches",
        "true",
        "Leave out directories marked with CACHEDIR.TAG",
        |p, i| flag(i).map(|v| p.exclude_caches = v),
        |p| unless(p.exclude_caches, false)
    ),
    key!(
        "one_file_system",
        "true",
        "Do not go into other file systems",
        |p, i| flag(i).map(|v| p.one_file_system = v),
        |p| unless(p.one_file_system, false)
    ),
    key!(
        "repository",
        "\"office-nas\"",
        "Where to: the name of a location, or any location",
        |p, i| line(i).map(|v| p.repository = v),
        |p| (!p.repository.is_empty()).then(|| p.repository.as_str().into())
    ),
    key!(
        "tags",
        "[\"home\"]",
        "Tags of its snapshots, beside plan:NAME",
        |p, i| lines(i).map(|v| p.tags = v),
        |p| list(&p.tags)
    ),
    key!(
        "schedule",
        "\"daily at 02:30\"",
        "When it runs; without it by hand or by cron",
        |p, i| schedule(i).map(|v| p.schedule = Some(v)),
        |p| p.schedule.as_ref().map(text_of)
    ),
    key!(
        "timezone",
        "\"Europe/Kyiv\"",
        "Time zone of its schedules [that of the machine]",
        |p, i| zone(i).map(|v| p.timezone = Some(v)),
        |p| p.timezone.clone().map(Value::from)
    ),
    key!(
        "jitter",
        "\"10m\"",
        "Spread its runs over so much time after they are due",
        |p, i| time(i).map(|v| p.jitter = v),
        |p| (!p.jitter.is_zero()).then(|| seconds(p.jitter))
    ),
    key!(
        "catch_up",
        "false",
        "Whether a missed run is made up for, once [true]",
        |p, i| flag(i).map(|v| p.catch_up = v),
        |p| unless(p.catch_up, true)
    ),
    key!(
        "overlap",
        "\"queue\"",
        "If the run before is still at work: \"skip\" this one, or \"queue\" it [skip]",
        |p, i| overlap(i).map(|v| p.overlap = v),
        |p| (p.overlap == Overlap::Queue).then(|| "queue".into())
    ),
    key!(
        "wait_for_network",
        "\"10m\"",
        "How long a run waits for the network; 0 for not at all [5m]",
        |p, i| time(i).map(|v| p.wait_for_network = v),
        |p| (p.wait_for_network != super::NETWORK_WAIT).then(|| seconds(p.wait_for_network))
    ),
    key!(
        "keep",
        "{ daily = 7, weekly = 5, monthly = 12 }",
        "Which of its snapshots stay, by the rules of `holdfast forget`",
        |p, i| keep(i).map(|v| p.keep = v),
        |p| kept(&p.keep)
    ),
    key!(
        "gc",
        "\"weekly on sun at 04:00\"",
        "Free what forgotten snapshots leave: true after each run, or a schedule [false]",
        |p, i| follows(i).map(|v| p.gc = v),
        |p| followed(&p.gc)
    ),
    key!(
        "check",
        "{ data = \"5%\", schedule = \"weekly on sun at 05:00\" }",
        "Check the repository, with so much of its data; without a schedule after each run",
        |p, i| check(i).map(|v| p.check = v),
        |p| p.check.as_ref().map(checked)
    ),
    key!(
        "mirror",
        "[\"attic\"]",
        "Repositories to which its snapshots are copied after each run",
        |p, i| lines(i).map(|v| p.mirror = v),
        |p| list(&p.mirror)
    ),
    key!(
        "retry",
        "{ times = 3, wait = \"1m\" }",
        "How often a run is tried again after what may pass; the wait doubles",
        |p, i| retry(i).map(|v| p.retry = v),
        |p| retried(p.retry)
    ),
    key!(
        "limit_upload",
        "\"5M\"",
        "Send no more than this a second",
        |p, i| speed(i).map(|v| p.limit_upload = Some(v)),
        |p| p.limit_upload.map(bytes)
    ),
    key!(
        "limit_download",
        "\"5M\"",
        "Receive no more than this a second",
        |p, i| speed(i).map(|v| p.limit_download = Some(v)),
        |p| p.limit_download.map(bytes)
    ),
    key!(
        "hooks",
        "{ before = [[\"systemctl\", \"stop\", \"shop\"]], timeout = \"5m\" }",
        "Commands before, after, on success, on failure; run only if the file says hooks = true",
        |p, i| hooks(i).map(|v| p.hooks = v),
        |p| hooked(&p.hooks)
    ),
    key!(
        "notify",
        "{ phone = [\"failure\", \"missed\"] }",
        "Channels, and what each is told of: start, success, warnings, failure, missed",
        |p, i| notify(i).map(|v| p.notify = v),
        |p| notified(&p.notify)
    ),
    key!(
        "drill",
        "{ schedule = \"monthly on 1 at 06:00\", files = 20, bytes = \"1G\" }",
        "Restore a sample to a scratch directory and compare it",
        |p, i| drill(i).map(|v| p.drill = Some(v)),
        |p| p.drill.as_ref().map(drilled)
    ),
];

/// Reads a plan's table.
pub(super) fn read_plan(
    name: &str,
    table: &dyn TableLike,
    config: &Config,
) -> Result<Plan, Problem> {
    let mut plan = Plan::new(name);
    let at = |text: String| {
        let path = crate::text::printable_os(config.path());
        let name = printable(name.as_bytes());
        Problem::new(Class::Configuration, format!("{path}: [plan.{name}]: {text}"))
    };
    for (key, item) in table.iter() {
        let known =
            find(key).map_err(|problem| Problem { hints: problem.hints, ..at(problem.message) })?;
        (known.read)(&mut plan, item).map_err(|what| {
            at(format!("{key} {what}")).hint(format!("{key} = {}", known.example))
        })?;
    }
    Ok(plan)
}

/// The key of this name; if there is none, a problem that says which may be meant.
fn find(key: &str) -> Result<&'static PlanKey, Problem> {
    if let Some(known) = KEYS.iter().find(|known| known.name == key) {
        return Ok(known);
    }
    let lower = key.to_ascii_lowercase().replace('-', "_");
    let names = KEYS.iter().map(|known| known.name.to_owned());
    let problem = Problem::usage(format!("{:?} is no key of a plan", printable(key.as_bytes())));
    Err(match crate::config::keys::nearest_of(&lower, names) {
        Some(nearest) => problem.hint(format!("did you mean {nearest}?")),
        None => problem.hint("docs/plans.md lists all keys, `holdfast plan edit --help` as well"),
    })
}

/// A time as it is typed: `90s`, `10m`.
pub fn time_text(time: Duration) -> String {
    match seconds(time) {
        Value::String(text) => text.into_value(),
        other => other.to_string(),
    }
}

/// All keys with one line each, for the command line's help.
pub fn summary() -> String {
    KEYS.iter().map(|key| key_line(key.name, 20, key.about)).collect()
}

impl Plan {
    /// What it says beyond what holds anyway, in the order of [`KEYS`].
    pub fn pairs(&self) -> Vec<(&'static str, Value)> {
        KEYS.iter().filter_map(|key| Some((key.name, key.value(self)?))).collect()
    }

    /// A key as it is typed; empty if it says what holds anyway, or nothing known.
    pub fn text(&self, key: &str) -> String {
        let value = KEYS.iter().find(|known| known.name == key).and_then(|key| key.value(self));
        match value {
            Some(Value::String(text)) => text.into_value(),
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }

    /// Sets a key as it is typed: a value of TOML, or text without quotes.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), Problem> {
        let known = find(key)?;
        let value = text.trim().parse().unwrap_or_else(|_| Value::from(text));
        (known.read)(self, &Item::Value(value)).map_err(|what| {
            Problem::usage(format!("{key} {what}")).hint(format!("{key} = {}", known.example))
        })
    }

    /// Sets a key as JSON has it, in the form of [`to_json`](Self::to_json); null means what holds
    /// anyway.
    pub fn set_json(&mut self, key: &str, value: &serde_json::Value) -> Result<(), Problem> {
        let known = find(key)?;
        if value.is_null() {
            return self.unset(key);
        }
        let wrong = |what: String| {
            let example = known.example.parse().map(|value| to_json(&value).to_string());
            let problem = Problem::usage(format!("{key} {what}"));
            match example {
                Ok(example) => problem.hint(format!("for instance \"{key}\": {example}")),
                Err(_) => problem,
            }
        };
        let item = from_json(value).ok_or_else(|| wrong("holds what a plan cannot say".into()))?;
        (known.read)(self, &Item::Value(item)).map_err(wrong)
    }

    /// What holds anyway, in place of what a key says.
    pub fn unset(&mut self, key: &str) -> Result<(), Problem> {
        let known = find(key)?;
        let mut plain = Self::new(self.name.clone());
        for (name, value) in self.pairs() {
            if let Some(other) = KEYS.iter().find(|other| other.name == name && name != known.name)
            {
                (other.read)(&mut plain, &Item::Value(value)).map_err(Problem::usage)?;
            }
        }
        *self = plain;
        Ok(())
    }

    /// [`pairs`](Self::pairs) as an object of JSON, with its name.
    pub fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::Map::new();
        object.insert("name".into(), json!(self.name));
        object.extend(self.pairs().into_iter().map(|(key, value)| (key.into(), to_json(&value))));
        serde_json::Value::Object(object)
    }

    /// Its table as it stands in a configuration.
    pub fn to_toml(&self) -> String {
        let name = toml_edit::Key::new(&self.name);
        let mut text = format!("[plan.{name}]\n");
        for (key, value) in self.pairs() {
            text.push_str(&format!("{key} = {value}\n"));
        }
        text
    }
}

/// A value of the file from one of JSON. Fields of objects that are null are left out.
fn from_json(value: &serde_json::Value) -> Option<Value> {
    Some(match value {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::from(whole),
            None => Value::from(number.as_f64()?),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => {
            Value::Array(items.iter().map(from_json).collect::<Option<_>>()?)
        }
        serde_json::Value::Object(fields) => {
            let mut table = InlineTable::new();
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                table.insert(name, from_json(value)?);
            }
            Value::InlineTable(table)
        }
    })
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::String(text) => json!(text.value()),
        Value::Integer(number) => json!(number.value()),
        Value::Float(number) => json!(number.value()),
        Value::Boolean(flag) => json!(flag.value()),
        Value::Datetime(time) => json!(time.value().to_string()),
        Value::Array(items) => items.iter().map(to_json).collect(),
        Value::InlineTable(table) => {
            let pairs = table.iter().map(|(key, value)| (key.to_owned(), to_json(value)));
            serde_json::Value::Object(pairs.collect())
        }
    }
}
