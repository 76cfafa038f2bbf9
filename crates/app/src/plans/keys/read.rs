//! From the values of the file to those of a plan. The errors say what a value must be.

use std::time::Duration;

use toml_edit::{Item, Value};

use crate::config::{duration, rate};
use crate::plans::{Check, Drill, Event, Follows, Hooks, Notify, Overlap, Retry};
use crate::problem::Problem;
use crate::retention::Retention;
use crate::schedule::Schedule;
use crate::text::parse_size;

pub(super) fn line(item: &Item) -> Result<String, String> {
    let text = item.as_str().filter(|text| !text.trim().is_empty());
    let text = text.ok_or("must be text in quotes")?;
    match text.contains(char::is_control) {
        true => Err("must be one line".into()),
        false => Ok(text.to_owned()),
    }
}

pub(super) fn lines(item: &Item) -> Result<Vec<String>, String> {
    const FORM: &str = "must be an array of texts";
    if item.is_str() {
        return Ok(vec![line(item)?]);
    }
    let words = item.as_array().ok_or(FORM)?.iter().map(|value| {
        let text = value.as_str().filter(|text| !text.trim().is_empty());
        text.filter(|text| !text.contains(['\n', '\r', '\0'])).map(String::from)
    });
    words.collect::<Option<_>>().ok_or_else(|| FORM.into())
}

pub(super) fn flag(item: &Item) -> Result<bool, String> {
    item.as_bool().ok_or_else(|| "must be true or false".into())
}

pub(super) fn whole(item: &Item) -> Option<u64> {
    item.as_integer().and_then(|number| u64::try_from(number).ok())
}

pub(super) fn size(item: &Item) -> Result<u64, String> {
    let size = whole(item).or_else(|| item.as_str().and_then(parse_size));
    size.filter(|size| *size > 0).ok_or_else(|| "must be a size such as 500K, 10M or 1.5G".into())
}

pub(super) fn speed(item: &Item) -> Result<u64, String> {
    let speed = whole(item).or_else(|| item.as_str().and_then(rate)).filter(|rate| *rate > 0);
    speed.ok_or_else(|| "must be bytes a second, such as 512K or 10M".into())
}

pub(super) fn time(item: &Item) -> Result<Duration, String> {
    let time = whole(item).map(Duration::from_secs).or_else(|| item.as_str().and_then(duration));
    let time = time.filter(|time| time.as_secs() <= 7 * 24 * 3600);
    time.ok_or_else(|| "must be a time, such as 30s, 10m or 2h".into())
}

pub(super) fn schedule(item: &Item) -> Result<Schedule, String> {
    let text = line(item)?;
    text.parse().map_err(|problem: Problem| match problem.message.split_once(": ") {
        Some((_, what)) => format!("{text:?} is no schedule: {what}"),
        None => problem.message,
    })
}

pub(super) fn zone(item: &Item) -> Result<String, String> {
    let name = line(item)?;
    crate::schedule::time_zone(Some(&name))
        .map(|_| name.clone())
        .map_err(|_| format!("{name:?} is no time zone"))
}

pub(super) fn overlap(item: &Item) -> Result<Overlap, String> {
    match item.as_str() {
        Some("skip") => Ok(Overlap::Skip),
        Some("queue") => Ok(Overlap::Queue),
        _ => Err("must be \"skip\" or \"queue\"".into()),
    }
}

/// The entries of a table in either form; `known` are the names it may hold.
pub(super) fn entries<'a>(
    item: &'a Item,
    known: &[&str],
) -> Result<Vec<(&'a str, &'a Item)>, String> {
    let table = item.as_table_like().ok_or("must be a table in braces")?;
    for (name, _) in table.iter() {
        if !known.is_empty() && !known.contains(&name) {
            let names = known.iter().map(ToString::to_string);
            let near = crate::config::keys::nearest_of(name, names);
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            return Err(format!("has no {name:?}: it holds {}{near}", known.join(", ")));
        }
    }
    Ok(table.iter().collect())
}

pub(super) fn keep(item: &Item) -> Result<Retention, String> {
    let mut rules = Retention::default();
    for (name, item) in entries(item, &[])? {
        let name = name.replace('_', "-");
        let values = match (item.as_array(), whole(item)) {
            (Some(_), _) => lines(item)?,
            (None, Some(number)) => vec![number.to_string()],
            (None, None) => vec![line(item).map_err(|what| format!("{name} {what}"))?],
        };
        for value in values {
            rules.set(&name, &value).map_err(|problem| {
                let hints = problem.hints.join(", ");
                match Retention::NAMES.contains(&name.as_str()) {
                    true => format!("{name} cannot be {value:?}: {hints}"),
                    false => format!("has no rule {name}: {hints}"),
                }
            })?;
        }
    }
    Ok(rules)
}

pub(super) fn follows(item: &Item) -> Result<Follows, String> {
    match item.as_bool() {
        Some(true) => Ok(Follows::Run),
        Some(false) => Ok(Follows::Never),
        None => schedule(item).map(Follows::On),
    }
}

pub(super) fn check(item: &Item) -> Result<Option<Check>, String> {
    match item.as_bool() {
        Some(true) => return Ok(Some(Check { data: 0, schedule: None })),
        Some(false) => return Ok(None),
        None => {}
    }
    let mut check = Check { data: 0, schedule: None };
    for (name, item) in entries(item, &["data", "schedule"])? {
        match name {
            "data" => check.data = percent(item)?,
            _ => check.schedule = Some(schedule(item)?),
        }
    }
    Ok(Some(check))
}

pub(super) fn percent(item: &Item) -> Result<u8, String> {
    let text = item.as_str().map(|text| text.trim().trim_end_matches('%').trim_end());
    let number = whole(item).or_else(|| text.and_then(|text| text.parse().ok()));
    let number =
        number.and_then(|number| u8::try_from(number).ok()).filter(|number| *number <= 100);
    number.ok_or_else(|| "data must be a part in percent, \"0%\" to \"100%\"".into())
}

pub(super) fn retry(item: &Item) -> Result<Retry, String> {
    let mut retry = Retry::default();
    for (name, item) in entries(item, &["times", "wait"])? {
        match name {
            "times" => {
                let times = whole(item).and_then(|times| u32::try_from(times).ok());
                retry.times =
                    times.filter(|times| *times <= 100).ok_or("times must be 0 to 100")?;
            }
            _ => retry.wait = time(item)?,
        }
    }
    Ok(retry)
}

pub(super) fn hooks(item: &Item) -> Result<Hooks, String> {
    let mut hooks = Hooks::default();
    for (name, item) in entries(item, &["before", "after", "success", "failure", "timeout"])? {
        let commands = match name {
            "before" => &mut hooks.before,
            "after" => &mut hooks.after,
            "success" => &mut hooks.success,
            "failure" => &mut hooks.failure,
            _ => {
                hooks.timeout = time(item)?;
                if hooks.timeout.is_zero() {
                    return Err("timeout must be more than 0".into());
                }
                continue;
            }
        };
        *commands = commands_of(item).ok_or(format!(
            "{name} must hold commands, each an array of words: [[\"program\", \"argument\"]]"
        ))?;
    }
    Ok(hooks)
}

pub(super) fn commands_of(item: &Item) -> Option<Vec<Vec<String>>> {
    let command = |value: &Value| -> Option<Vec<String>> {
        let words = value.as_array()?.iter();
        let words: Vec<_> =
            words.map(|word| word.as_str().map(String::from)).collect::<Option<_>>()?;
        let is_whole = words.iter().all(|word| !word.contains('\0'));
        (is_whole && words.first().is_some_and(|program| !program.is_empty())).then_some(words)
    };
    item.as_array()?.iter().map(command).collect()
}

pub(super) fn notify(item: &Item) -> Result<Vec<Notify>, String> {
    let mut found = Vec::new();
    for (channel, item) in entries(item, &[])? {
        let mut events = Vec::new();
        for name in lines(item).map_err(|what| format!("{channel} {what}"))? {
            let event = Event::ALL.into_iter().find(|event| event.name() == name);
            events.push(event.ok_or(format!(
                "{channel}: {name:?} is no event: {}",
                Event::ALL.map(Event::name).join(", ")
            ))?);
        }
        events.sort_unstable();
        events.dedup();
        found.push(Notify { channel: channel.to_owned(), events });
    }
    Ok(found)
}

pub(super) fn drill(item: &Item) -> Result<Drill, String> {
    let (mut files, mut bytes, mut when) = (None, None, None);
    if item.is_str() {
        return schedule(item).map(Drill::new);
    }
    for (name, item) in entries(item, &["schedule", "files", "bytes"])? {
        match name {
            "schedule" => when = Some(schedule(item)?),
            "files" => {
                let number = whole(item).filter(|number| (1..=1_000_000).contains(number));
                files = Some(number.ok_or("files must be 1 to 1000000")?);
            }
            _ => bytes = Some(size(item)?),
        }
    }
    let usual = Drill::new(when.ok_or("lacks its schedule")?);
    let (files, bytes) = (files.unwrap_or(usual.files), bytes.unwrap_or(usual.bytes));
    Ok(Drill { files, bytes, ..usual })
}
