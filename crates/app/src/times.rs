//! Times as people write them: `2026-11-20`, `2026-11-20T10:00`, `2 days ago`, `yesterday`.
//! Read in the local time zone unless they say another; shown in the local time zone.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// Nanoseconds since the epoch, now.
pub fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// The last nanosecond that the text means, counted from the epoch: the end of a day for a date
/// alone. `None` if it is no time.
pub fn parse(text: &str) -> Option<i64> {
    parse_at(text, &Zoned::now())
}

/// [`parse`] as if it were `now`.
pub fn parse_at(text: &str, now: &Zoned) -> Option<i64> {
    let text = text.trim();
    let zone = now.time_zone();
    // A bare number is an id, never a time.
    let zoned = if text.len() >= 10 && text.as_bytes().get(4) == Some(&b'-') {
        absolute(text, zone)?
    } else {
        relative(&text.to_ascii_lowercase(), now)?
    };
    i64::try_from(zoned.timestamp().as_nanosecond()).ok()
}

fn absolute(text: &str, zone: &TimeZone) -> Option<Zoned> {
    if let Ok(zoned) = text.parse::<Zoned>() {
        return Some(zoned);
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.to_zoned(zone.clone()));
    }
    if text.len() == 10 {
        return end_of_day(text.parse().ok()?, zone);
    }
    // Not every text with a date in it: `2026-11-20 nonsense` is refused by the parser.
    text.parse::<DateTime>().ok()?.to_zoned(zone.clone()).ok()
}

fn end_of_day(date: Date, zone: &TimeZone) -> Option<Zoned> {
    date.to_zoned(zone.clone()).ok()?.end_of_day().ok()
}

fn relative(text: &str, now: &Zoned) -> Option<Zoned> {
    match text {
        "now" => return Some(now.clone()),
        "today" => return end_of_day(now.date(), now.time_zone()),
        "yesterday" => return end_of_day(now.date().yesterday().ok()?, now.time_zone()),
        _ => {}
    }
    let rest = text.strip_suffix("ago")?.trim_end();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, unit) = rest.split_at(end);
    let number: i64 = match (number, unit.trim_start()) {
        ("", unit) if unit.starts_with("a ") || unit.starts_with("an ") => 1,
        (digits, _) => digits.parse().ok().filter(|n| *n < 1_000_000)?,
    };
    let unit = unit.trim_start();
    let unit = unit.strip_prefix("a ").or_else(|| unit.strip_prefix("an ")).unwrap_or(unit);
    let span = match unit.trim() {
        "s" | "sec" | "second" | "seconds" => number.seconds(),
        "min" | "minute" | "minutes" => number.minutes(),
        "h" | "hour" | "hours" => number.hours(),
        "d" | "day" | "days" => number.days(),
        "w" | "week" | "weeks" => number.weeks(),
        "month" | "months" => i32::try_from(number).ok().filter(|n| *n < 12_000)?.months(),
        "y" | "year" | "years" => i32::try_from(number).ok().filter(|n| *n < 1000)?.years(),
        _ => return None,
    };
    now.checked_sub(span).ok()
}

/// `2026-11-20 10:00:30` in the local time zone.
pub fn local(nanos: i64) -> String {
    format_in(nanos, &TimeZone::system())
}

fn format_in(nanos: i64, zone: &TimeZone) -> String {
    match Timestamp::from_nanosecond(i128::from(nanos)) {
        Ok(time) => time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => nanos.to_string(),
    }
}

/// `2026-11-20T09:00:30.5Z`: RFC 3339 in UTC, for machines.
pub fn rfc3339(nanos: i64) -> String {
    Timestamp::from_nanosecond(i128::from(nanos))
        .map_or_else(|_| nanos.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<String> {
        let now = "2026-11-21T12:00:00+01:00[+01:00]".parse::<Zoned>().ok()?;
        parse_at(text, &now).map(rfc3339)
    }

    #[test]
    fn people_write_times_in_many_ways() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(at("2026-11-20"), some("2026-11-20T22:59:59.999999999Z"));
        assert_eq!(at("2026-11-20T10:00"), some("2026-11-20T09:00:00Z"));
        assert_eq!(at("2026-11-20 10:00:01"), some("2026-11-20T09:00:01Z"));
        assert_eq!(at("2026-11-20T10:00:00Z"), some("2026-11-20T10:00:00Z"));
        assert_eq!(at("2 days ago"), some("2026-11-19T11:00:00Z"));
        assert_eq!(at("an hour ago"), some("2026-11-21T10:00:00Z"));
        assert_eq!(at("3h ago"), some("2026-11-21T08:00:00Z"));
        assert_eq!(at("1 month ago"), some("2026-10-21T11:00:00Z"));
        assert_eq!(at("yesterday"), some("2026-11-20T22:59:59.999999999Z"));
        for no in ["", "latest", "20261120", "2026", "abc123", "2026-13-01", "5 apples ago", "ago"]
        {
            assert_eq!(at(no), None, "{no}");
        }
    }
}
