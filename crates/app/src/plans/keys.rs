//! Every key of a `[plan.NAME]`, in one table: what it is called and what it means, how it is read
//! and how it is written.

use std::time::Duration;

use serde_json::json;
use toml_edit::{Array, InlineTable, Item, TableLike, Value};

use super::{Check, Drill, Event, Follows, Hooks, Notify, Overlap, Plan, Retry};
use crate::config::{Config, duration, rate};
use crate::problem::{Class, Problem};
use crate::retention::Retention;
use crate::schedule::Schedule;
use crate::text::{parse_size, printable};

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
pub(super) fn read(name: &str, table: &dyn TableLike, config: &Config) -> Result<Plan, Problem> {
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

/// All keys with one line each, for the command line's help.
pub fn summary() -> String {
    let line = |key: &PlanKey| format!("  {:<20}  {}\n", key.name, key.about);
    KEYS.iter().map(line).collect()
}

impl Plan {
    /// What it says beyond what holds anyway, in the order of [`KEYS`].
    pub fn pairs(&self) -> Vec<(&'static str, Value)> {
        KEYS.iter().filter_map(|key| Some((key.name, key.value(self)?))).collect()
    }

    /// Sets a key as it is typed: a value of TOML, or text without quotes.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), Problem> {
        let known = find(key)?;
        let value = text.trim().parse().unwrap_or_else(|_| Value::from(text));
        (known.read)(self, &Item::Value(value)).map_err(|what| {
            Problem::usage(format!("{key} {what}")).hint(format!("{key} = {}", known.example))
        })
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

fn line(item: &Item) -> Result<String, String> {
    let text = item.as_str().filter(|text| !text.trim().is_empty());
    let text = text.ok_or("must be text in quotes")?;
    match text.contains(char::is_control) {
        true => Err("must be one line".into()),
        false => Ok(text.to_owned()),
    }
}

fn lines(item: &Item) -> Result<Vec<String>, String> {
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

fn flag(item: &Item) -> Result<bool, String> {
    item.as_bool().ok_or_else(|| "must be true or false".into())
}

fn whole(item: &Item) -> Option<u64> {
    item.as_integer().and_then(|number| u64::try_from(number).ok())
}

fn size(item: &Item) -> Result<u64, String> {
    let size = whole(item).or_else(|| item.as_str().and_then(parse_size));
    size.filter(|size| *size > 0).ok_or_else(|| "must be a size such as 500K, 10M or 1.5G".into())
}

fn speed(item: &Item) -> Result<u64, String> {
    let speed = whole(item).or_else(|| item.as_str().and_then(rate)).filter(|rate| *rate > 0);
    speed.ok_or_else(|| "must be bytes a second, such as 512K or 10M".into())
}

fn time(item: &Item) -> Result<Duration, String> {
    let time = whole(item).map(Duration::from_secs).or_else(|| item.as_str().and_then(duration));
    let time = time.filter(|time| time.as_secs() <= 7 * 24 * 3600);
    time.ok_or_else(|| "must be a time, such as 30s, 10m or 2h".into())
}

fn schedule(item: &Item) -> Result<Schedule, String> {
    let text = line(item)?;
    text.parse().map_err(|problem: Problem| match problem.message.split_once(": ") {
        Some((_, what)) => format!("{text:?} is no schedule: {what}"),
        None => problem.message,
    })
}

fn zone(item: &Item) -> Result<String, String> {
    let name = line(item)?;
    crate::schedule::time_zone(Some(&name))
        .map(|_| name.clone())
        .map_err(|_| format!("{name:?} is no time zone"))
}

fn overlap(item: &Item) -> Result<Overlap, String> {
    match item.as_str() {
        Some("skip") => Ok(Overlap::Skip),
        Some("queue") => Ok(Overlap::Queue),
        _ => Err("must be \"skip\" or \"queue\"".into()),
    }
}

/// The entries of a table in either form; `known` are the names it may hold.
fn entries<'a>(item: &'a Item, known: &[&str]) -> Result<Vec<(&'a str, &'a Item)>, String> {
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

fn keep(item: &Item) -> Result<Retention, String> {
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
                format!("{name} cannot be {value:?}: {}", problem.hints.join(", "))
            })?;
        }
    }
    Ok(rules)
}

fn follows(item: &Item) -> Result<Follows, String> {
    match item.as_bool() {
        Some(true) => Ok(Follows::Run),
        Some(false) => Ok(Follows::Never),
        None => schedule(item).map(Follows::On),
    }
}

fn check(item: &Item) -> Result<Option<Check>, String> {
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

fn percent(item: &Item) -> Result<u8, String> {
    let text = item.as_str().map(|text| text.trim().trim_end_matches('%').trim_end());
    let number = whole(item).or_else(|| text.and_then(|text| text.parse().ok()));
    let number =
        number.and_then(|number| u8::try_from(number).ok()).filter(|number| *number <= 100);
    number.ok_or_else(|| "data must be a part in percent, \"0%\" to \"100%\"".into())
}

fn retry(item: &Item) -> Result<Retry, String> {
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

fn hooks(item: &Item) -> Result<Hooks, String> {
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

fn commands_of(item: &Item) -> Option<Vec<Vec<String>>> {
    let command = |value: &Value| -> Option<Vec<String>> {
        let words = value.as_array()?.iter();
        let words: Vec<_> =
            words.map(|word| word.as_str().map(String::from)).collect::<Option<_>>()?;
        let is_whole = words.iter().all(|word| !word.contains('\0'));
        (is_whole && words.first().is_some_and(|program| !program.is_empty())).then_some(words)
    };
    item.as_array()?.iter().map(command).collect()
}

fn notify(item: &Item) -> Result<Vec<Notify>, String> {
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

fn drill(item: &Item) -> Result<Drill, String> {
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

fn unless(value: bool, usual: bool) -> Option<Value> {
    (value != usual).then(|| value.into())
}

fn list(words: &[String]) -> Option<Value> {
    (!words.is_empty()).then(|| Value::Array(words.iter().collect::<Array>()))
}

fn text_of(value: &impl ToString) -> Value {
    value.to_string().into()
}

/// A number of bytes, with the largest unit that leaves it whole.
fn bytes(number: u64) -> Value {
    for (shift, unit) in [(30, 'G'), (20, 'M'), (10, 'K')] {
        if number >> shift << shift == number && number > 0 {
            return format!("{}{unit}", number >> shift).into();
        }
    }
    i64::try_from(number).map_or_else(|_| number.to_string().into(), Value::from)
}

/// A time, with the largest unit that leaves it whole.
fn seconds(time: Duration) -> Value {
    let seconds = time.as_secs();
    match () {
        () if time.subsec_millis() > 0 => format!("{}ms", time.as_millis()).into(),
        () if seconds > 0 && seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600).into(),
        () if seconds > 0 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60).into(),
        () => format!("{seconds}s").into(),
    }
}

fn table(pairs: Vec<(&str, Value)>) -> Value {
    Value::InlineTable(pairs.into_iter().collect::<InlineTable>())
}

fn kept(rules: &Retention) -> Option<Value> {
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

fn followed(follows: &Follows) -> Option<Value> {
    match follows {
        Follows::Never => None,
        Follows::Run => Some(true.into()),
        Follows::On(schedule) => Some(text_of(schedule)),
    }
}

fn checked(check: &Check) -> Value {
    let schedule = check.schedule.as_ref().map(|schedule| ("schedule", text_of(schedule)));
    let data = ("data", Value::from(format!("{}%", check.data)));
    table(Some(data).into_iter().chain(schedule).collect())
}

fn retried(retry: Retry) -> Option<Value> {
    let pairs = vec![("times", i64::from(retry.times).into()), ("wait", seconds(retry.wait))];
    (retry != Retry::default()).then(|| table(pairs))
}

fn hooked(hooks: &Hooks) -> Option<Value> {
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

fn notified(notify: &[Notify]) -> Option<Value> {
    let pair = |notify: &Notify| {
        let events: Array = notify.events.iter().map(|event| event.name()).collect();
        (notify.channel.clone(), Value::Array(events))
    };
    let table: InlineTable = notify.iter().map(pair).collect();
    (!table.is_empty()).then_some(Value::InlineTable(table))
}

fn drilled(drill: &Drill) -> Value {
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
