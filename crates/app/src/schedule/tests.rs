use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::times::rfc3339;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn nanos(text: &str) -> Result<i64, Box<dyn std::error::Error>> {
    Ok(i64::try_from(text.parse::<Timestamp>()?.as_nanosecond())?)
}

/// The next times after `after`, in UTC, less their date where it is `after`'s.
fn next(
    text: &str,
    zone: &str,
    after: &str,
    count: usize,
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let calendar = Calendar {
        schedule: text.parse()?,
        zone: Some(zone.into()),
        jitter: Duration::ZERO,
        name: "x".into(),
    };
    let times = calendar.next(nanos(after)?, count)?;
    Ok(times.into_iter().map(|at| rfc3339(at).replace(":00Z", "")).collect())
}

#[test]
fn what_is_written_is_kept_in_one_form() -> Outcome {
    for (text, form) in [
        ("hourly", "hourly"),
        ("every hour", "hourly"),
        ("Hourly at :15", "hourly at :15"),
        ("every 6 hours", "every 6 hours"),
        ("every 15 minutes", "every 15 minutes"),
        ("every 90 min", "every 90 minutes"),
        ("daily", "daily at 00:00"),
        ("every day at 2:30", "daily at 02:30"),
        ("daily at 12am", "daily at 00:00"),
        ("daily at 12 pm", "daily at 12:00"),
        ("daily at 12:30 AM", "daily at 00:30"),
        ("daily at 2:30pm and 02:30", "daily at 02:30,14:30"),
        ("every 2 days at 02:30", "every 2 days at 02:30"),
        ("weekdays at 22:00", "weekdays at 22:00"),
        ("weekly on Sunday at 03:00", "weekly on sun at 03:00"),
        ("weekly on fri, mon and wed at 7 am", "weekly on mon,wed,fri at 07:00"),
        ("weekly on mon,tue,wed,thu,fri", "weekdays at 00:00"),
        ("monthly on 1 at 04:00", "monthly on 1 at 04:00"),
        ("monthly on 15th and last at 04:00", "monthly on 15,last at 04:00"),
        ("cron  30 2  * * mon-fri", "cron 30 2 * * mon-fri"),
    ] {
        let schedule: Schedule = text.parse()?;
        assert_eq!(schedule.to_string(), form, "{text}");
        assert_eq!(form.parse::<Schedule>()?.to_string(), form);
    }
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    for (text, reason) in [
        ("", "empty"),
        ("soon", "soon is none"),
        ("daily at 25:00", "no time"),
        ("daily at 13pm", "no time"),
        ("daily at 0am", "no time"),
        ("daily at 2", "no time"),
        ("daily 02:30", "written at 02:30"),
        ("every 0 hours", "never"),
        ("every 24 hours", "daily at"),
        ("every 6 hours at 02:00", "no place"),
        ("every 2 weeks", "weekly on"),
        ("weekly", "lacks its days"),
        ("weekly on someday at 03:00", "no day of the week"),
        ("monthly on 32 at 03:00", "no day of the month"),
        ("30 2 * * *", "write cron 30 2"),
        // Six fields would be seconds first elsewhere: every 6 minutes in place of 6 hours.
        ("cron 0 0 */6 * * *", "five fields"),
        ("cron 0 */6 * *", "five fields"),
        ("cron 61 * * * *", "Component"),
    ] {
        let error = text.parse::<Schedule>().err().map(|p| p.message).unwrap_or_default();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn an_interval_is_what_it_says() -> Outcome {
    let from = "2026-11-20T00:10:00Z";
    let hours = next("every 6 hours", "UTC", from, 5)?;
    let expected = ["20T06:00", "20T12:00", "20T18:00", "21T00:00", "21T06:00"];
    assert_eq!(hours, expected.map(|t| format!("2026-11-{t}")));
    let minutes = next("every 15 minutes", "UTC", from, 2)?;
    assert_eq!(minutes, ["2026-11-20T00:15", "2026-11-20T00:30"]);
    assert_eq!(next("cron 0 */6 * * *", "UTC", from, 5)?, hours);
    let days = next("every 2 days at 02:30", "UTC", from, 3)?;
    assert_eq!(days, ["2026-11-21T02:30", "2026-11-23T02:30", "2026-11-25T02:30"]);
    Ok(())
}

#[test]
fn days_of_week_and_month() -> Outcome {
    let from = "2026-11-20T12:00:00Z";
    let weekly = next("weekly on sun,fri at 03:00", "UTC", from, 2)?;
    assert_eq!(weekly, ["2026-11-22T03:00", "2026-11-27T03:00"]);
    let weekdays = next("weekdays at 22:00", "UTC", from, 2)?;
    assert_eq!(weekdays, ["2026-11-20T22:00", "2026-11-23T22:00"]);
    // A month without a 30th has its last day in place of it, once.
    let monthly = next("monthly on 30,last at 04:00", "UTC", "2027-01-30T12:00:00Z", 4)?;
    let expected = ["01-31T04:00", "02-28T04:00", "03-30T04:00", "03-31T04:00"];
    assert_eq!(monthly, expected.map(|t| format!("2027-{t}")));
    let leap = next("cron 0 4 29 2 *", "UTC", from, 1)?;
    assert_eq!(leap, ["2028-02-29T04:00"]);
    assert!(next("cron 0 4 30 2 *", "UTC", from, 1)?.is_empty());
    Ok(())
}

#[test]
fn when_the_clock_goes_forward_nothing_is_lost_and_nothing_runs_twice() -> Outcome {
    // Berlin, 29 March 2026: after 01:59 comes 03:00 (01:00Z).
    let from = "2026-03-28T22:59:00Z";
    let daily = next("daily at 02:30", "Europe/Berlin", from, 2)?;
    assert_eq!(daily, ["2026-03-29T01:30", "2026-03-30T00:30"]);
    assert_eq!(next("cron 30 2 * * *", "Europe/Berlin", from, 2)?, daily);
    let both = next("daily at 02:30,03:30", "Europe/Berlin", from, 2)?;
    assert_eq!(both, ["2026-03-29T01:30", "2026-03-30T00:30"]);
    for text in ["hourly", "cron 0 * * * *", "every 1 hour"] {
        let hours = next(text, "Europe/Berlin", from, 24)?;
        let on_day = hours.iter().filter(|t| ***t < *"2026-03-29T22:00").count();
        assert_eq!((on_day, hours.len()), (23, 24), "{text}");
        assert_eq!(
            hours.get(1..3).map(<[_]>::to_vec).unwrap_or_default(),
            ["2026-03-29T00:00", "2026-03-29T01:00"]
        );
    }
    Ok(())
}

#[test]
fn when_the_clock_goes_back_a_time_that_comes_twice_is_due_once() -> Outcome {
    // Berlin, 25 October 2026: 02:00 to 02:59 comes twice (00:00Z and 01:00Z).
    let from = "2026-10-24T21:59:00Z";
    let daily = next("daily at 02:30", "Europe/Berlin", from, 2)?;
    assert_eq!(daily, ["2026-10-25T00:30", "2026-10-26T01:30"]);
    // Also if the first of the two is over.
    let daily = next("daily at 02:30", "Europe/Berlin", "2026-10-25T00:45:00Z", 1)?;
    assert_eq!(daily, ["2026-10-26T01:30"]);
    for text in ["hourly", "cron 0 * * * *"] {
        let hours = next(text, "Europe/Berlin", from, 26)?;
        let on_day = hours.iter().filter(|t| ***t < *"2026-10-25T23:00").count();
        assert_eq!(on_day, 25, "{text}");
    }
    Ok(())
}

#[test]
fn jitter_spreads_and_stays_the_same() -> Outcome {
    let most = Duration::from_secs(600);
    let due = nanos("2026-11-20T02:30:00Z")?;
    let spread: std::collections::BTreeSet<_> =
        (0..100).map(|n| jitter(most, &format!("plan-{n}"), due)).collect();
    assert!(spread.len() > 95 && spread.iter().all(|by| *by < most));
    assert!(spread.last() > Some(&Duration::from_secs(500)));
    assert!(spread.first() < Some(&Duration::from_secs(100)));
    let mut calendar = Calendar {
        schedule: "every 15 minutes".parse()?,
        zone: Some("UTC".into()),
        jitter: most,
        name: "home".into(),
    };
    calendar.check()?;
    // Whoever looks at any time sees the same.
    let all = calendar.next(due, 8)?;
    for (before, at) in all.iter().zip(all.iter().skip(1)) {
        assert_eq!(calendar.next(*before, 1)?, [*at]);
        assert_eq!(calendar.next(*at - 1, 1)?, [*at]);
    }
    let (before, until) = (all.first().ok_or("never")?, all.last().ok_or("never")?);
    let overdue = calendar.overdue(due - 1, *until)?.ok_or("nothing is due")?;
    assert_eq!((overdue.count, overdue.first.at, overdue.last.at), (8, *before, *until));
    assert_eq!(overdue.first.nominal, due);
    assert_eq!(calendar.overdue(overdue.last.nominal, *until)?, None);
    assert_eq!(calendar.overdue(due - 1, before - 1)?, None);
    calendar.schedule = "every 5 minutes".parse()?;
    assert!(calendar.check().is_err_and(|p| p.message.contains("between two runs")));
    calendar.zone = Some("Europe/Nowhere".into());
    assert!(calendar.check().is_err_and(|p| p.message.contains("no time zone")));
    Ok(())
}
