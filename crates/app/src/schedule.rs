//! Schedules as people write them: "hourly", "every 6 hours", "daily at 02:30", "weekdays at 22:00",
//! "weekly on sun at 03:00", "monthly on 1 at 04:00", "cron 30 2 * * *". What is written is kept and
//! never turned into another form; when it is due is worked out in [`times`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{Time, Weekday};

use crate::problem::Problem;

mod parse;
#[cfg(test)]
mod tests;
mod times;

pub use times::{Calendar, Due, time_zone};

/// The days of the week, as they are written.
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// When something is to be done.
#[derive(Debug, Clone)]
pub struct Schedule(Rule);

#[derive(Debug, Clone)]
enum Rule {
    /// Every so many minutes of time that passes, from each midnight on: at most a day.
    Every { minutes: u16, past: u16 },
    /// On every `days`th day, counted through all years.
    Days { days: u16, at: Vec<Time> },
    /// On days of the week.
    Weekly { on: Vec<Weekday>, at: Vec<Time> },
    /// On days of the month; a day that a month does not have is its last.
    Monthly { on: Vec<i8>, at: Vec<Time> },
    /// Five fields.
    Cron(Box<Cron>, String),
}

/// Stands for the last day of a month.
const LAST: i8 = 31;

impl FromStr for Schedule {
    type Err = Problem;

    /// Reads a schedule. Times are of the day, `02:30`, `2:30 pm` or `12am`; several stand with commas.
    fn from_str(text: &str) -> Result<Self, Problem> {
        let rule = parse::rule(text).map_err(|what| {
            Problem::usage(format!("{text:?} is no schedule: {what}")).hint(
                "write hourly, every 6 hours, daily at 02:30, weekdays at 22:00, \
                 weekly on sun at 03:00, monthly on 1 at 04:00, or cron 30 2 * * *",
            )
        })?;
        Ok(Self(rule))
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Schedule {}

impl fmt::Display for Schedule {
    /// The one way to write it that [`from_str`](Self::from_str) gives back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Every { minutes: 60, past: 0 } => f.write_str("hourly"),
            Rule::Every { minutes: 60, past } => write!(f, "hourly at :{past:02}"),
            Rule::Every { minutes, .. } if minutes % 60 == 0 => {
                write!(f, "every {} hours", minutes / 60)
            }
            Rule::Every { minutes, .. } => write!(f, "every {minutes} minutes"),
            Rule::Days { days: 1, at } => write!(f, "daily at {}", clock(at)),
            Rule::Days { days, at } => write!(f, "every {days} days at {}", clock(at)),
            Rule::Weekly { on, at } => {
                let names = |wanted: &[Weekday]| {
                    let of = DAYS.iter().filter(|(_, day)| wanted.contains(day));
                    of.map(|(name, _)| *name).collect::<Vec<_>>().join(",")
                };
                match names(on).as_str() {
                    "mon,tue,wed,thu,fri" => write!(f, "weekdays at {}", clock(at)),
                    names => write!(f, "weekly on {names} at {}", clock(at)),
                }
            }
            Rule::Monthly { on, at } => {
                let day = |day: &i8| match *day {
                    LAST => "last".to_owned(),
                    day => day.to_string(),
                };
                let days = on.iter().map(day).collect::<Vec<_>>().join(",");
                write!(f, "monthly on {days} at {}", clock(at))
            }
            Rule::Cron(_, text) => write!(f, "cron {text}"),
        }
    }
}

/// Times of the day, with commas.
fn clock(times: &[Time]) -> String {
    let text = |time: &Time| format!("{:02}:{:02}", time.hour(), time.minute());
    times.iter().map(text).collect::<Vec<_>>().join(",")
}

/// Reads five fields of cron.
fn cron(text: &str) -> Result<Cron, String> {
    let fields = text.split_whitespace().count();
    if fields != 5 {
        return Err(format!(
            "cron has five fields (minute, hour, day, month, weekday), and here are {fields}"
        ));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).map_err(|e| e.to_string())
}

/// How much later than it is due something runs, so that many machines do not all begin at once:
/// less than `most`, and always the same for the same name and time.
pub fn jitter(most: Duration, name: &str, due: i64) -> Duration {
    let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return Duration::ZERO;
    }
    // FNV-1a: any spread will do, but it must be the same after a restart and an update.
    let bytes = name.bytes().chain(due.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The low bits of it are the worse ones.
    Duration::from_millis((hash ^ (hash >> 29)) % millis)
}
