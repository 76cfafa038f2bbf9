//! Times and outcomes as pages say them: absolute first, relative beside it, a state always as icon
//! and word.

use holdfast_app::runs::{By, Outcome};
use jiff::{Timestamp, Zoned, tz::TimeZone};

/// A state's class, icon and word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sign {
    /// Class of `.state`.
    pub(crate) class: &'static str,
    /// Id of the icon.
    pub(crate) icon: &'static str,
    /// What it is called.
    pub(crate) word: &'static str,
    /// Whether the icon turns.
    pub(crate) turns: bool,
}

/// How a run stands.
pub(crate) fn sign(outcome: Outcome) -> Sign {
    let sign = |class, icon, word| Sign { class, icon, word, turns: false };
    match outcome {
        Outcome::Queued => sign("idle", "i-todo", "Waits for its turn"),
        Outcome::Running => Sign { turns: true, ..sign("run", "i-busy", "Running") },
        Outcome::Ok => sign("ok", "i-ok", "Done"),
        Outcome::Warnings => sign("warn", "i-warn", "With warnings"),
        Outcome::Failed => sign("bad", "i-bad", "Failed"),
        Outcome::Cancelled => sign("idle", "i-stop", "Cancelled"),
        Outcome::Interrupted => sign("bad", "i-bad", "Interrupted"),
        Outcome::Missed => sign("miss", "i-todo", "Missed"),
    }
}

/// Who began a run, as the end of "started …".
pub(crate) fn by(by: By) -> &'static str {
    match by {
        By::Schedule => "by its schedule",
        By::CatchUp => "to make up for a missed run",
        By::Console => "here",
        By::Command => "on the command line",
    }
}

fn zoned(nanos: i64) -> Zoned {
    let time = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(TimeZone::system())
}

/// "today 02:30", "tomorrow 03:00", "Sun 22 Nov 04:00", "22 Nov 2025 04:00".
pub(crate) fn moment(nanos: i64, now: i64) -> String {
    let (time, now) = (zoned(nanos), zoned(now));
    let clock = time.strftime("%H:%M");
    let days = time.date().since(now.date()).map(|span| span.get_days()).unwrap_or(i32::MAX);
    match days {
        0 => format!("today {clock}"),
        1 => format!("tomorrow {clock}"),
        -1 => format!("yesterday {clock}"),
        -300..=300 => format!("{} {clock}", time.strftime("%a %-d %b")),
        _ => format!("{} {clock}", time.strftime("%-d %b %Y")),
    }
}

/// "22 October".
pub(crate) fn day(nanos: i64) -> String {
    zoned(nanos).strftime("%-d %B").to_string()
}

/// "in 3 h 28 min", "2 days ago", "just now".
pub(crate) fn relative(nanos: i64, now: i64) -> String {
    const MINUTE: u64 = 60;
    let seconds = nanos.abs_diff(now) / 1_000_000_000;
    let plain = match seconds {
        0..60 if nanos <= now => return "just now".into(),
        0..60 => return "in less than a minute".into(),
        60..3600 => format!("{} min", seconds / MINUTE),
        3600..86_400 => match seconds / MINUTE % 60 {
            0 => format!("{} h", seconds / 3600),
            minutes => format!("{} h {minutes} min", seconds / 3600),
        },
        86_400..172_800 => "1 day".into(),
        _ => format!("{} days", seconds / 86_400),
    };
    if nanos > now { format!("in {plain}") } else { format!("{plain} ago") }
}

/// "14:31:58", for logs.
pub(crate) fn clock(nanos: i64) -> String {
    zoned(nanos).strftime("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_do() {
        let second = 1_000_000_000;
        let now = 1_700_000_000 * second;
        for (seconds, said) in [
            (0, "just now"),
            (-59, "just now"),
            (30, "in less than a minute"),
            (-300, "5 min ago"),
            (3600 * 3 + 1680, "in 3 h 28 min"),
            (-7200, "2 h ago"),
            (90_000, "in 1 day"),
            (-86_400 * 47, "47 days ago"),
        ] {
            assert_eq!(relative(now + seconds * second, now), said);
        }
        assert!(moment(now, now).starts_with("today "));
        assert!(moment(now - 400 * 86_400 * second, now).contains(" 2022 "));
    }
}
