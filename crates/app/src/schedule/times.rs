//! When a schedule is due. Times of the day are those of a time zone: one that a day does not have,
//! since the clock goes forward, is due by as much later; one that a day has twice is due the first
//! time. Intervals count time that passes, so that such a day has one hourly run less, or more.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use super::{LAST, Rule, Schedule, jitter};
use crate::problem::{Class, Problem};

/// Days looked at for the next time: enough for the 29th of February, over 1900 and 2100.
const HORIZON: usize = 8 * 366 + 2;

/// Runs whose distance is looked at, from a moment that is as good as any.
const CHECKED: usize = 50;
const CHECKED_FROM: i64 = 1_800_000_000_000_000_000;

/// When something is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// By the schedule; nanoseconds since the epoch.
    pub nominal: i64,
    /// With its part of the spread.
    pub at: i64,
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A schedule in its time zone, with its spread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    /// When.
    pub schedule: Schedule,
    /// Name of the time zone; `None` for that of the machine.
    pub zone: Option<String>,
    /// Runs are spread over so much time after they are due.
    pub jitter: Duration,
    /// Whose it is: what is spread differs by it.
    pub name: String,
}

impl Calendar {
    /// The time zone.
    pub fn time_zone(&self) -> Result<TimeZone, Problem> {
        time_zone(self.zone.as_deref())
    }

    /// The first time after `after`, which is one that [`Due::nominal`] gave, or any other.
    pub fn due_after(&self, after: i64) -> Result<Option<Due>, Problem> {
        let zone = self.time_zone()?;
        Ok(self.schedule.next(after, &zone).map(|nominal| self.spread(nominal)))
    }

    /// When it runs, from after `after` on, the first `count` times; nanoseconds since the epoch.
    /// Fewer if there are no more, as for the 30th of February.
    pub fn next(&self, after: i64, count: usize) -> Result<Vec<i64>, Problem> {
        let zone = self.time_zone()?;
        let mut found = Vec::with_capacity(count.min(64));
        // What was due shortly before may run after, since it is spread.
        let mut nominal = after.saturating_sub(nanos(self.jitter));
        while found.len() < count {
            let Some(next) = self.schedule.next(nominal, &zone) else { break };
            nominal = next;
            found.extend(Some(self.spread(next).at).filter(|at| *at > after));
        }
        Ok(found)
    }

    fn spread(&self, nominal: i64) -> Due {
        let by = jitter(self.jitter, &self.name, nominal);
        Due { nominal, at: nominal.saturating_add(nanos(by)) }
    }

    /// Refuses a time zone that is not there, and a spread over more time than is between two runs.
    pub fn check(&self) -> Result<(), Problem> {
        let zone = self.time_zone()?;
        let mut before = None;
        let mut next = self.schedule.next(CHECKED_FROM, &zone);
        for _ in 0..CHECKED {
            let Some(due) = next else { break };
            if before.is_some_and(|before| due - before < nanos(self.jitter)) {
                let text = format!(
                    "a jitter of {} is more than there is between two runs ({})",
                    crate::text::duration(self.jitter),
                    self.schedule
                );
                return Err(Problem::new(Class::Configuration, text));
            }
            before = next;
            next = self.schedule.next(due, &zone);
        }
        Ok(())
    }

    /// What tells whether it was changed.
    pub fn fingerprint(&self) -> String {
        let zone = self.zone.as_deref().unwrap_or("local");
        format!("{} | {zone} | {}", self.schedule, self.jitter.as_millis())
    }
}

/// The time zone of this name; without one, that of the machine.
pub fn time_zone(name: Option<&str>) -> Result<TimeZone, Problem> {
    let Some(name) = name else { return Ok(TimeZone::system()) };
    TimeZone::get(name).map_err(|e| {
        Problem::new(Class::Configuration, format!("there is no time zone {name:?}"))
            .cause(e)
            .hint("write a name such as Europe/Kyiv, America/New_York or UTC")
    })
}

impl Schedule {
    /// The first time after `after` that it is due; nanoseconds since the epoch.
    pub fn next(&self, after: i64, zone: &TimeZone) -> Option<i64> {
        let start = Timestamp::from_nanosecond(i128::from(after)).ok()?.to_zoned(zone.clone());
        // A time that the day before does not have may be due today.
        let mut date = start.date().yesterday().ok()?;
        for _ in 0..HORIZON {
            let due = self.on(date, zone).into_iter();
            let due = due.filter_map(|zoned| i64::try_from(zoned.timestamp().as_nanosecond()).ok());
            if let Some(next) = due.filter(|due| *due > after).min() {
                return Some(next);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// When it is due on a day.
    fn on(&self, date: Date, zone: &TimeZone) -> Vec<Zoned> {
        let at = |times: &[jiff::civil::Time]| -> Vec<Zoned> {
            times.iter().filter_map(|t| date.to_datetime(*t).to_zoned(zone.clone()).ok()).collect()
        };
        match &self.0 {
            Rule::Every { minutes, past } => passing(date, zone, *minutes, *past),
            Rule::Days { days, at: times } if number(date) % i64::from(*days) == 0 => at(times),
            Rule::Weekly { on, at: times } if on.contains(&date.weekday()) => at(times),
            Rule::Monthly { on, at: times } => {
                let last = date.days_in_month();
                let is_on = |day: &i8| *day == date.day() || (date.day() == last && *day > last);
                let is_last = date.day() == last && on.contains(&LAST);
                if is_last || on.iter().any(is_on) { at(times) } else { Vec::new() }
            }
            Rule::Days { .. } | Rule::Weekly { .. } => Vec::new(),
            Rule::Cron(cron, _) => cron_on(cron, date, zone),
        }
    }
}

/// Days since the epoch.
fn number(date: Date) -> i64 {
    let epoch = Date::constant(1970, 1, 1);
    date.since(epoch).map_or(0, |span| i64::from(span.get_days()))
}

/// Every so many minutes that pass from the day's midnight, and `past` more, to the next one.
fn passing(date: Date, zone: &TimeZone, minutes: u16, past: u16) -> Vec<Zoned> {
    let midnight = |date: Date| date.to_zoned(zone.clone()).ok();
    let (Some(start), Some(end)) = (midnight(date), date.tomorrow().ok().and_then(midnight)) else {
        return Vec::new();
    };
    let mut times = Vec::new();
    let mut next = start.checked_add(i64::from(past).minutes()).ok();
    while let Some(time) = next.filter(|time| *time < end) {
        next = time.checked_add(i64::from(minutes.max(1)).minutes()).ok();
        times.push(time);
    }
    times
}

/// When five fields of cron are due on a day. If every hour fits, time that
/// passes counts; otherwise each hour that fits is due once.
fn cron_on(cron: &croner::Cron, date: Date, zone: &TimeZone) -> Vec<Zoned> {
    let pattern = &cron.pattern;
    let part = |value: i8| u32::try_from(value).unwrap_or(0);
    let (month, day) = (part(date.month()), part(date.day()));
    let fits = pattern.month_match(month).unwrap_or(false)
        && pattern.day_match(i32::from(date.year()), month, day).unwrap_or(false);
    if !fits {
        return Vec::new();
    }
    let hour = |hour: i8| pattern.hour_match(part(hour)).unwrap_or(false);
    let minute = |minute: i8| pattern.minute_match(part(minute)).unwrap_or(false);
    if (0..24).all(hour) {
        let mut times = passing(date, zone, 1, 0);
        times.retain(|time| minute(time.minute()));
        return times;
    }
    let mut times = Vec::new();
    for h in (0..24).filter(|h| hour(*h)) {
        for m in (0..60).filter(|m| minute(*m)) {
            times.extend(date.at(h, m, 0, 0).to_zoned(zone.clone()).ok());
        }
    }
    times
}
