//! Between a plan and the fields of its form, both ways. What has no field stays as it was before.

use std::time::Duration;

use holdfast_app::Problem;
use holdfast_app::config::duration;
use holdfast_app::plans::keys::time_text;
use holdfast_app::plans::{Check, Drill, Event, Follows, Notify, Overlap, Plan, Retry};
use holdfast_app::retention::Retention;
use holdfast_app::schedule::Schedule;
use holdfast_app::text::parse_size;

use crate::posted::Posted;

/// The rules of retention that have a field, and what they are called.
pub(super) const RULES: [(&str, &str); 6] = [
    ("last", "Last"),
    ("hourly", "Hourly"),
    ("daily", "Daily"),
    ("weekly", "Weekly"),
    ("monthly", "Monthly"),
    ("yearly", "Yearly"),
];

/// Keys that are typed as in the file, and what their fields are called.
const TYPED: [(&str, &str); 5] = [
    ("exclude_larger_than", "Skip files larger than"),
    ("jitter", "Spread by up to"),
    ("wait_for_network", "Wait for the network"),
    ("limit_upload", "Send at most"),
    ("limit_download", "Receive at most"),
];

/// How often, as the form says it.
#[derive(Debug, Default)]
pub(super) struct When {
    /// "hand", "hourly", "daily", "weekly", "monthly" or "own".
    pub(super) often: &'static str,
    pub(super) at: String,
    pub(super) day: String,
    pub(super) date: String,
    pub(super) own: String,
}

/// What a plan says in the fields that are not simply its own; empty for what holds anyway.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) when: When,
    /// Name, label and value of each rule of retention.
    pub(super) keep: Vec<(&'static str, &'static str, String)>,
    pub(super) within: String,
    pub(super) gc: String,
    pub(super) check: String,
    pub(super) check_on: String,
    pub(super) drill: String,
    pub(super) drill_files: String,
    pub(super) drill_bytes: String,
    pub(super) retry_times: String,
    pub(super) retry_wait: String,
}

impl Fields {
    pub(super) fn of(plan: &Plan) -> Self {
        let pairs = plan.keep.pairs();
        let rule = |name: &str| {
            let found = pairs.iter().find(|(n, _)| n == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let (check, drill, retry) = (plan.check.as_ref(), plan.drill.as_ref(), Retry::default());
        let unless = |text: String, is_usual: bool| if is_usual { String::new() } else { text };
        let (files, bytes) = Drill::USUAL;
        Self {
            when: when(plan.schedule.as_ref()),
            keep: RULES.map(|(name, label)| (name, label, rule(name))).to_vec(),
            within: rule("within"),
            gc: match &plan.gc {
                Follows::Never => String::new(),
                Follows::Run => "run".into(),
                Follows::On(schedule) => schedule.to_string(),
            },
            check: check.map(|check| check.data.to_string()).unwrap_or_default(),
            check_on: check
                .and_then(|check| check.schedule.as_ref())
                .map(ToString::to_string)
                .unwrap_or_default(),
            drill: drill.map(|drill| drill.schedule.to_string()).unwrap_or_default(),
            drill_files: drill
                .map(|drill| unless(drill.files.to_string(), drill.files == files))
                .unwrap_or_default(),
            drill_bytes: drill
                .map(|drill| unless(size(drill.bytes), drill.bytes == bytes))
                .unwrap_or_default(),
            retry_times: unless(plan.retry.times.to_string(), plan.retry.times == retry.times),
            retry_wait: unless(time_text(plan.retry.wait), plan.retry.wait == retry.wait),
        }
    }
}

/// A schedule in the fields of the form.
fn when(schedule: Option<&Schedule>) -> When {
    let Some(text) = schedule.map(ToString::to_string) else {
        return When { often: "hand", at: "02:30".into(), ..When::default() };
    };
    let base = When { at: "02:30".into(), day: "sun".into(), date: "1".into(), ..When::default() };
    let one = |at: &str| at.len() == 5 && !at.contains(',');
    if text == "hourly" {
        return When { often: "hourly", ..base };
    }
    if let Some(at) = text.strip_prefix("daily at ").filter(|at| one(at)) {
        return When { often: "daily", at: at.into(), ..base };
    }
    for (start, often) in [("weekly on ", "weekly"), ("monthly on ", "monthly")] {
        let parts = text.strip_prefix(start).and_then(|rest| rest.split_once(" at "));
        if let Some((on, at)) = parts.filter(|(on, at)| one(at) && !on.contains(',')) {
            return match often {
                "weekly" => When { often, day: on.into(), at: at.into(), ..base },
                _ => When { often, date: on.into(), at: at.into(), ..base },
            };
        }
    }
    When { often: "own", own: text, ..base }
}

/// The schedule that a form says; `None`: by hand.
fn schedule(posted: &Posted) -> Result<Option<Schedule>, Problem> {
    let at = posted.text("at").trim();
    let text = match posted.text("often") {
        "hand" => return Ok(None),
        "hourly" => "hourly".to_owned(),
        "daily" => format!("daily at {at}"),
        "weekly" => format!("weekly on {} at {at}", posted.text("day")),
        "monthly" => format!("monthly on {} at {at}", posted.text("date")),
        _ => posted.text("own").trim().to_owned(),
    };
    text.parse().map(Some)
}

/// The plan that a form says, on top of what was there before.
pub(super) fn read(mut plan: Plan, posted: &Posted) -> Result<Plan, Problem> {
    let ticked = |field: &str| posted.text(field) == "true";
    let title = posted.text("title").trim();
    plan.title = Some(title.to_owned()).filter(|title| !title.is_empty() && *title != plan.name);
    plan.enabled = !ticked("disabled");
    let repository = posted.text("repository");
    if !is_same_place(repository, &plan.repository) {
        plan.repository = repository.to_owned();
    }
    plan.sources = lines(posted, "sources", &plan.sources);
    plan.exclude = lines(posted, "exclude", &plan.exclude);
    plan.exclude_caches = ticked("exclude_caches");
    plan.one_file_system = ticked("one_file_system");
    plan.tags = lines(posted, "tags", &plan.tags);
    plan.schedule = schedule(posted)?;
    let zone = posted.text("timezone").trim();
    plan.timezone = (!zone.is_empty()).then(|| zone.to_owned());
    plan.catch_up = ticked("catch_up");
    plan.overlap = if posted.text("overlap") == "queue" { Overlap::Queue } else { Overlap::Skip };
    plan.keep = keep(&plan.keep, posted)?;
    plan.gc = match posted.text("gc").trim() {
        "" => Follows::Never,
        "run" => Follows::Run,
        text => Follows::On(text.parse()?),
    };
    plan.check = check(posted)?;
    plan.drill = drill(posted)?;
    plan.mirror = mirror(&plan.mirror, posted);
    plan.retry = retry(posted)?;
    notify(&mut plan.notify, posted);
    for (key, label) in TYPED {
        match posted.text(key).trim() {
            "" => plan.unset(key)?,
            text => plan.set(key, text).map_err(|problem| {
                // In the words of the page.
                let what = problem.message.trim_start_matches(key).trim_start().to_owned();
                Problem::usage(format!("«{label}» {what}"))
            })?,
        }
    }
    Ok(plan)
}

/// The lines of a field. Spaces around a line go, unless it stood there with them.
fn lines(posted: &Posted, field: &str, before: &[String]) -> Vec<String> {
    let lines = posted.text(field).lines().filter(|line| !line.trim().is_empty());
    let line = |line: &str| match before.iter().any(|known| known == line) {
        true => line.to_owned(),
        false => line.trim().to_owned(),
    };
    lines.map(line).collect()
}

/// A whole number; `None` where nothing was typed.
fn number(posted: &Posted, field: &str, label: &str) -> Result<Option<u64>, Problem> {
    match posted.text(field).trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            Problem::usage(format!("«{label}» must be a number")).hint("write digits, or nothing")
        }),
    }
}

fn check(posted: &Posted) -> Result<Option<Check>, Problem> {
    let Some(percent) = number(posted, "check", "Check, percent of the data")? else {
        return Ok(None);
    };
    let data = u8::try_from(percent).ok().filter(|percent| *percent <= 100).ok_or_else(|| {
        Problem::usage(format!("{percent} is no share of the data in percent"))
            .hint("write 0 (structure alone) to 100")
    })?;
    let schedule = match posted.text("check_on").trim() {
        "" => None,
        text => Some(text.parse()?),
    };
    Ok(Some(Check { data, schedule }))
}

fn drill(posted: &Posted) -> Result<Option<Drill>, Problem> {
    let usual = match posted.text("drill").trim() {
        "" => return Ok(None),
        text => Drill::new(text.parse()?),
    };
    let files = match number(posted, "drill_files", "Files in the sample")? {
        None => usual.files,
        Some(files @ 1..=1_000_000) => files,
        Some(_) => return Err(Problem::usage("«Files in the sample» must be 1 to 1000000")),
    };
    let bytes = match posted.text("drill_bytes").trim() {
        "" => usual.bytes,
        text => parse_size(text).filter(|bytes| *bytes > 0).ok_or_else(|| {
            Problem::usage("«And of at most» must be a size").hint("such as 500M or 1G")
        })?,
    };
    Ok(Some(Drill { files, bytes, ..usual }))
}

fn retry(posted: &Posted) -> Result<Retry, Problem> {
    const MOST: Duration = Duration::from_secs(7 * 24 * 3600);
    let usual = Retry::default();
    let times = match number(posted, "retry_times", "Try again")? {
        None => usual.times,
        Some(times) => u32::try_from(times)
            .ok()
            .filter(|times| *times <= 100)
            .ok_or_else(|| Problem::usage("«Try again» must be 0 to 100 times"))?,
    };
    let wait = match posted.text("retry_wait").trim() {
        "" => usual.wait,
        text => duration(text).filter(|wait| *wait <= MOST).ok_or_else(|| {
            Problem::usage("«First after» must be a time").hint("such as 30s, 10m or 2h")
        })?,
    };
    Ok(Retry { times, wait })
}

/// The ticked repositories: those of before as they are written, then new ones.
fn mirror(before: &[String], posted: &Posted) -> Vec<String> {
    let ticked: Vec<_> = posted.all("mirror").collect();
    let kept = before.iter().filter(|text| ticked.iter().any(|t| is_same_place(t, text)));
    let mut mirror: Vec<String> = kept.cloned().collect();
    for text in ticked {
        if !mirror.iter().any(|known| is_same_place(known, text)) {
            mirror.push(text.to_owned());
        }
    }
    mirror
}

/// Whether two texts mean one place: a name may stand with or without its `@`.
pub(super) fn is_same_place(one: &str, other: &str) -> bool {
    one.trim_start_matches('@') == other.trim_start_matches('@')
}

/// The ticked events of the channels that the form shows; others stay.
fn notify(all: &mut Vec<Notify>, posted: &Posted) {
    for channel in posted.all("channel") {
        let ticked = |event: &Event| posted.text(&format!("notify.{channel}.{}", event.name()));
        let events = Event::ALL.into_iter().filter(|event| ticked(event) == "true");
        let events: Vec<_> = events.collect();
        let Some(notify) = all.iter_mut().find(|notify| notify.channel == channel) else {
            if !events.is_empty() {
                all.push(Notify { channel: channel.to_owned(), events });
            }
            continue;
        };
        if notify.events == events {
            continue;
        }
        notify.events = events;
        all.retain(|notify| notify.channel != channel || !notify.events.is_empty());
    }
}

/// The rules of the form, and those of before that have no field.
fn keep(before: &Retention, posted: &Posted) -> Result<Retention, Problem> {
    let mut keep = Retention::default();
    let has_field = |name: &str| name == "within" || RULES.iter().any(|(rule, _)| *rule == name);
    for (name, value) in before.pairs().into_iter().filter(|(name, _)| !has_field(name)) {
        keep.set(&name, &value)?;
    }
    for name in RULES.map(|(name, _)| name).into_iter().chain(["within"]) {
        let value = posted.text(&format!("keep.{name}")).trim().to_owned();
        if !value.is_empty() && value != "0" {
            keep.set(name, &value)?;
        }
    }
    Ok(keep)
}

/// A size as it is typed, with the largest unit that leaves it whole.
fn size(bytes: u64) -> String {
    let mut plan = Plan::new("");
    plan.limit_upload = Some(bytes);
    plan.text("limit_upload")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_stays_what_it_is_in_the_fields() -> Result<(), Problem> {
        let mut before = Plan::new("x");
        for (key, text) in [
            ("jitter", "90s"),
            ("wait_for_network", "0s"),
            ("exclude_larger_than", "1500"),
            ("limit_upload", "3M"),
            ("limit_download", "1000000"),
            ("retry", "{ times = 0, wait = \"1500ms\" }"),
            ("check", "{ data = \"7%\", schedule = \"weekly on sun at 05:00\" }"),
            ("drill", "{ schedule = \"monthly on 1 at 06:00\", files = 7, bytes = \"3G\" }"),
            ("tags", "[\"with, comma\", \"b\"]"),
            ("exclude", "[\"ends in a space\\\\ \"]"),
            ("mirror", "[\"@two\", \"/mnt/three\"]"),
            ("notify", "{ b = [\"failure\"], a = [\"start\", \"missed\"] }"),
            ("keep", "{ daily = 7, tag = [\"gold\"] }"),
            ("hooks", "{ before = [[\"true\"]] }"),
        ] {
            before.set(key, text)?;
        }
        let fields = Fields::of(&before);
        let mut form: Vec<(String, String)> = vec![
            ("often".into(), fields.when.often.into()),
            ("catch_up".into(), "true".into()),
            ("exclude".into(), before.exclude.join("\n")),
            ("tags".into(), before.tags.join("\n")),
            ("check".into(), fields.check),
            ("check_on".into(), fields.check_on),
            ("drill".into(), fields.drill),
            ("drill_files".into(), fields.drill_files),
            ("drill_bytes".into(), fields.drill_bytes),
            ("retry_times".into(), fields.retry_times),
            ("retry_wait".into(), fields.retry_wait),
            ("mirror".into(), "three-is-not-there".into()),
            ("mirror".into(), "/mnt/three".into()),
            ("mirror".into(), "two".into()),
            ("channel".into(), "a".into()),
            ("notify.a.start".into(), "true".into()),
            ("notify.a.missed".into(), "true".into()),
        ];
        form.extend(TYPED.map(|(key, _)| (key.to_owned(), before.text(key))));
        form.extend(fields.keep.into_iter().map(|(n, _, v)| (format!("keep.{n}"), v)));
        let mut after = read(before.clone(), &Posted::of(&form))?;
        assert_eq!(after.mirror, ["@two", "/mnt/three", "three-is-not-there"]);
        after.mirror.pop();
        assert_eq!(after, before);
        let wrong = Posted::of(&[("often".into(), "hand".into()), ("jitter".into(), "x".into())]);
        let said = read(before, &wrong).err().map(|problem| problem.message);
        assert_eq!(
            said.as_deref(),
            Some("«Spread by up to» must be a time, such as 30s, 10m or 2h")
        );
        Ok(())
    }

    #[test]
    fn a_schedule_stands_in_the_fields_that_say_it_and_comes_back() -> Result<(), Problem> {
        for (text, often) in [
            ("hourly", "hourly"),
            ("daily at 02:30", "daily"),
            ("weekly on sun at 03:00", "weekly"),
            ("monthly on 1 at 04:00", "monthly"),
            ("daily at 02:30,14:30", "own"),
            ("weekly on mon,fri at 03:00", "own"),
            ("every 6 hours", "own"),
            ("cron 30 2 * * *", "own"),
        ] {
            let schedule: Schedule = text.parse()?;
            let when = when(Some(&schedule));
            assert_eq!(when.often, often, "{text}");
            let form = format!(
                "often={}&at={}&day={}&date={}&own={}",
                when.often, when.at, when.day, when.date, when.own
            );
            let posted = Posted::new(form.replace(' ', "+").as_bytes());
            assert_eq!(super::schedule(&posted)?.map(|s| s.to_string()).as_deref(), Some(text));
        }
        Ok(())
    }
}
