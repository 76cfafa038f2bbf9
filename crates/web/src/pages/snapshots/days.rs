//! Days as headings of a list, newest first: today and yesterday, days of this week, the rest of the
//! month, months.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// How a time is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Day {
    /// The heading before it, where it is another one than before.
    pub(super) group: Option<String>,
    /// The time, as far as the heading does not say it.
    pub(super) time: String,
}

/// Headings and times; both in nanoseconds since the epoch.
pub(super) fn days(times: &[i64], now: i64) -> Vec<Day> {
    days_in(times, now, &TimeZone::system())
}

fn days_in(times: &[i64], now: i64, zone: &TimeZone) -> Vec<Day> {
    let zoned = |nanos: i64| {
        let time = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH);
        time.to_zoned(zone.clone())
    };
    let today = zoned(now).date();
    let mut last = None;
    let mut days = Vec::with_capacity(times.len());
    for time in times.iter().map(|nanos| zoned(*nanos)) {
        let (heading, is_day) = heading(time.date(), today);
        let format = if is_day { "%H:%M" } else { "%a %-d %H:%M" };
        let time = time.strftime(format).to_string();
        let group = (last.as_ref() != Some(&heading)).then(|| heading.clone());
        last = Some(heading);
        days.push(Day { group, time });
    }
    days
}

/// The heading, and whether it is a single day.
fn heading(date: Date, today: Date) -> (String, bool) {
    let before = today.since(date).map(|span| span.get_days()).unwrap_or(i32::MAX);
    let long = || date.strftime("%A %-d %B").to_string();
    match before {
        ..0 => (date.strftime("%-d %B %Y").to_string(), true),
        0 => (format!("Today, {}", long()), true),
        1 => (format!("Yesterday, {}", long()), true),
        2..7 => (long(), true),
        _ if (date.year(), date.month()) == (today.year(), today.month()) => {
            (date.strftime("Earlier in %B").to_string(), false)
        }
        _ if date.year() == today.year() => (date.strftime("%B").to_string(), false),
        _ => (date.strftime("%B %Y").to_string(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_go_into_groups() -> Result<(), Box<dyn std::error::Error>> {
        let zone = TimeZone::UTC;
        let at = |text: &str| -> Result<i64, Box<dyn std::error::Error>> {
            Ok(i64::try_from(text.parse::<Timestamp>()?.as_nanosecond())?)
        };
        let times = [
            "2026-11-20T02:41:00Z",
            "2026-11-20T01:00:00Z",
            "2026-11-19T02:36:00Z",
            "2026-11-15T02:31:00Z",
            "2026-11-08T02:30:00Z",
            "2026-11-01T02:30:00Z",
            "2026-10-31T02:30:00Z",
            "2025-10-31T02:30:00Z",
        ];
        let times = times.iter().map(|text| at(text)).collect::<Result<Vec<_>, _>>()?;
        let days = days_in(&times, at("2026-11-20T14:00:00Z")?, &zone);
        let found: Vec<_> =
            days.iter().map(|day| (day.group.as_deref(), day.time.as_str())).collect();
        let expected = [
            (Some("Today, Friday 20 November"), "02:41"),
            (None, "01:00"),
            (Some("Yesterday, Thursday 19 November"), "02:36"),
            (Some("Sunday 15 November"), "02:31"),
            (Some("Earlier in November"), "Sun 8 02:30"),
            (None, "Sun 1 02:30"),
            (Some("October"), "Sat 31 02:30"),
            (Some("October 2025"), "Fri 31 02:30"),
        ];
        assert_eq!(found, expected);
        Ok(())
    }
}
