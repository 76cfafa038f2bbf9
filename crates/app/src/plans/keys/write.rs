//! From the values of a plan to those of the file; `None` where it is what holds anyway.

use std::time::Duration;

use toml_edit::{Array, InlineTable, Value};

use crate::plans::{Check, Drill, Follows, Hooks, Notify, Retry};
use crate::retention::Retention;

pub(super) fn unless(value: bool, usual: bool) -> Option<Value> {
    (value != usual).then(|| value.into())
}

pub(super) fn list(words: &[String]) -> Option<Value> {
    (!words.is_empty()).then(|| Value::Array(words.iter().collect::<Array>()))
}

pub(super) fn text_of(value: &impl ToString) -> Value {
    value.to_string().into()
}

/// A number of bytes, with the largest unit that leaves it whole.
pub(super) fn bytes(number: u64) -> Value {
    for (shift, unit) in [(30, 'G'), (20, 'M'), (10, 'K')] {
        if number >> shift << shift == number && number > 0 {
            return format!("{}{unit}", number >> shift).into();
        }
    }
    i64::try_from(number).map_or_else(|_| number.to_string().into(), Value::from)
}

/// A time, with the largest unit that leaves it whole.
pub(super) fn seconds(time: Duration) -> Value {
    let seconds = time.as_secs();
    match () {
        () if time.subsec_millis() > 0 => format!("{}ms", time.as_millis()).into(),
        () if seconds > 0 && seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600).into(),
        () if seconds > 0 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60).into(),
        () => format!("{seconds}s").into(),
    }
}

pub(super) fn table(pairs: Vec<(&str, Value)>) -> Value {
    Value::InlineTable(pairs.into_iter().collect::<InlineTable>())
}

pub(super) fn kept(rules: &Retention) -> Option<Value> {
    let mut table = InlineTable::new();
    let mut tags = Array::new();
    for (name, value) in rules.pairs() {
        match value.parse::<i64>() {
            _ if name == "tag" => tags.push(value),
            Ok(number) => drop(table.insert(&name, number.into())),
            Err(_) => drop(table.insert(&name, value.into())),
        }
    }
    if !tags.is_empty() {
        table.insert("tag", Value::Array(tags));
    }
    (!table.is_empty()).then_some(Value::InlineTable(table))
}

pub(super) fn followed(follows: &Follows) -> Option<Value> {
    match follows {
        Follows::Never => None,
        Follows::Run => Some(true.into()),
        Follows::On(schedule) => Some(text_of(schedule)),
    }
}

pub(super) fn checked(check: &Check) -> Value {
    let schedule = check.schedule.as_ref().map(|schedule| ("schedule", text_of(schedule)));
    let data = ("data", Value::from(format!("{}%", check.data)));
    table(Some(data).into_iter().chain(schedule).collect())
}

pub(super) fn retried(retry: Retry) -> Option<Value> {
    let pairs = vec![("times", i64::from(retry.times).into()), ("wait", seconds(retry.wait))];
    (retry != Retry::default()).then(|| table(pairs))
}

pub(super) fn hooked(hooks: &Hooks) -> Option<Value> {
    if hooks.is_empty() {
        return None;
    }
    let mut pairs = Vec::new();
    let all = [
        ("before", &hooks.before),
        ("after", &hooks.after),
        ("success", &hooks.success),
        ("failure", &hooks.failure),
    ];
    for (name, commands) in all.into_iter().filter(|(_, commands)| !commands.is_empty()) {
        let commands = commands.iter().map(|words| Value::Array(words.iter().collect()));
        pairs.push((name, Value::Array(commands.collect())));
    }
    if hooks.timeout != Hooks::default().timeout {
        pairs.push(("timeout", seconds(hooks.timeout)));
    }
    Some(table(pairs))
}

pub(super) fn notified(notify: &[Notify]) -> Option<Value> {
    let pair = |notify: &Notify| {
        let events: Array = notify.events.iter().map(|event| event.name()).collect();
        (notify.channel.clone(), Value::Array(events))
    };
    let table: InlineTable = notify.iter().map(pair).collect();
    (!table.is_empty()).then_some(Value::InlineTable(table))
}

pub(super) fn drilled(drill: &Drill) -> Value {
    let usual = Drill::new(drill.schedule.clone());
    let mut pairs = vec![("schedule", text_of(&drill.schedule))];
    if let Ok(files) = i64::try_from(drill.files)
        && drill.files != usual.files
    {
        pairs.push(("files", files.into()));
    }
    if drill.bytes != usual.bytes {
        pairs.push(("bytes", bytes(drill.bytes)));
    }
    table(pairs)
}
