//! What a plan would do: its next runs, what its rules would leave of a year of runs, and all of it
//! in words.

use askama::Template;
use axum::response::Response;
use holdfast_app::plans::Plan;
use holdfast_app::retention::{GroupBy, Question, Reason, decide};
use holdfast_app::schedule::Calendar;
use holdfast_app::text::plural;
use holdfast_app::{Problem, times};
use holdfast_engine::format::snapshot::Snapshot;
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::repo::snapshots::{Filter, SnapshotInfo};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::form;
use crate::failure::{Failure, Note};
use crate::posted::Posted;
use crate::view::{View, html};
use crate::words;

/// Runs that are shown.
const NEXT: usize = 5;
/// Months that are shown.
const MONTHS: i32 = 3;
/// Imagined runs: a year of hourly ones, or the months that are shown of one every quarter of an hour.
const MOST: u64 = 9000;
const DAY: i64 = 86_400 * 1_000_000_000;
/// How far back runs are imagined.
const YEAR: i64 = 366 * DAY;

/// A day of a month: its number and how it stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    day: String,
    class: &'static str,
    mark: String,
}

#[derive(Debug)]
pub(super) struct Month {
    name: String,
    weeks: Vec<Vec<Cell>>,
}

#[derive(Debug, Default, Template)]
#[template(path = "plan-preview.html")]
pub(super) struct Preview {
    next: Vec<(String, String)>,
    months: Vec<Month>,
    words: String,
    kept: String,
    note: Option<Note>,
}

/// `POST /plan-form/preview`
pub(super) async fn show(view: View, posted: Posted) -> Result<Response, Failure> {
    let preview = view
        .blocking(move |_| {
            let plan = form::read(Plan::new("preview"), &posted);
            Ok::<_, Problem>(match plan {
                Ok(plan) => of(&plan),
                Err(problem) => Preview { note: Some(Note::from(&problem)), ..Preview::default() },
            })
        })
        .await?;
    Ok(html(&preview))
}

/// What this plan would do.
pub(super) fn of(plan: &Plan) -> Preview {
    let attempt = || -> Result<Preview, Problem> {
        let now = times::now();
        let Some(calendar) = plan.calendar() else {
            let words = "It runs only when somebody, or cron, starts it.".to_owned();
            return Ok(Preview { words, ..Preview::default() });
        };
        let next = calendar.next(now, NEXT)?;
        let next = next.iter().map(|due| (words::moment(*due, now), words::relative(*due, now)));
        let zone = calendar.time_zone()?;
        let (past, back) = past(&calendar, now)?;
        let (months, kept) = simulate(plan, &past, back, now, &zone);
        let words = format!(
            "{}: {} to {}.",
            calendar.schedule,
            plural(plan.sources.len() as u64, "place goes", "places go"),
            match plan.repository.is_empty() {
                true => "a storage that is still to be chosen".to_owned(),
                false => plan.repository_location(),
            }
        );
        Ok(Preview { next: next.collect(), months, words, kept, note: None })
    };
    attempt().unwrap_or_else(|problem| Preview {
        note: Some(Note::from(&problem)),
        ..Preview::default()
    })
}

/// The runs that would have been until now, and how far back they go: less than a year where those
/// of a year are too many.
fn past(calendar: &Calendar, now: i64) -> Result<(Vec<i64>, i64), Problem> {
    let count = |back: i64| -> Result<u64, Problem> {
        Ok(calendar.overdue(now - back, now)?.map_or(0, |due| due.count))
    };
    // Nothing runs more than once a minute: those of so few days are never too many.
    let mut back = YEAR / 64;
    while back < YEAR && count(back * 2)? <= MOST {
        back *= 2;
    }
    let past = calendar.next(now - back, usize::try_from(count(back)?).unwrap_or_default())?;
    Ok((past.into_iter().filter(|due| *due <= now).collect(), back))
}

/// Which of these runs' snapshots would stay, month by month.
fn simulate(
    plan: &Plan,
    past: &[i64],
    back: i64,
    now: i64,
    zone: &TimeZone,
) -> (Vec<Month>, String) {
    let snapshots: Vec<SnapshotInfo> = past
        .iter()
        .enumerate()
        .map(|(number, time)| {
            let record = Snapshot { time: *time, ..Snapshot::default() };
            SnapshotInfo { id: SnapshotId::new((number as u128).to_be_bytes()), record }
        })
        .collect();
    let filter = Filter::default();
    let question = Question {
        retention: &plan.keep,
        group_by: GroupBy { host: false, paths: false, tags: false, plan: false },
        filter: &filter,
        allow_empty: true,
        now,
        zone,
    };
    let groups = decide(&question, &snapshots, &|_| false);
    let date = |nanos: i64| {
        Timestamp::from_nanosecond(i128::from(nanos)).ok().map(|t| t.to_zoned(zone.clone()).date())
    };
    let mut days: std::collections::BTreeMap<Date, (bool, String)> = Default::default();
    let mut stay = 0_u64;
    for decision in groups.iter().flat_map(|group| &group.decisions) {
        let Some(day) = date(decision.snapshot.record.time) else { continue };
        let entry = days.entry(day).or_default();
        if plan.keep.is_empty() || decision.stays() {
            stay += 1;
            entry.0 = true;
            let best = decision.reasons.iter().rev().find_map(letter);
            if let Some(best) = best.filter(|_| entry.1.is_empty()) {
                entry.1 = best.to_string();
            }
        }
    }
    let kept = match (plan.keep.is_empty(), past.len()) {
        (true, _) => "Without rules every snapshot stays.".to_owned(),
        (_, 0) => String::new(),
        (false, all) => format!(
            "With these rules {stay} of the {} of {} would stay.",
            plural(all as u64, "snapshot", "snapshots"),
            match back {
                YEAR => "a year".to_owned(),
                less => format!("the last {}", plural((less / DAY).unsigned_abs(), "day", "days")),
            }
        ),
    };
    let Some(today) = date(now) else { return (Vec::new(), kept) };
    let months = (0..MONTHS).rev().filter_map(|back| {
        let first = today.first_of_month().checked_sub(back.months()).ok()?;
        Some(month(first, today, &days))
    });
    (months.collect(), kept)
}

fn letter(reason: &Reason) -> Option<char> {
    let text = reason.to_string();
    ["hourly", "daily", "weekly", "monthly", "yearly", "last"]
        .iter()
        .find(|name| text.contains(**name))
        .and_then(|name| name.chars().next())
}

fn month(
    first: Date,
    today: Date,
    days: &std::collections::BTreeMap<Date, (bool, String)>,
) -> Month {
    let before = first.weekday().to_monday_zero_offset();
    let mut cells: Vec<Cell> = (0..before).map(|_| Cell::default()).collect();
    for number in 1..=first.days_in_month() {
        let Ok(day) = Date::new(first.year(), first.month(), number) else { continue };
        let (class, mark) = match days.get(&day) {
            Some((true, mark)) if day == today => ("k to", mark.clone()),
            Some((true, mark)) => ("k", mark.clone()),
            Some((false, _)) => ("x", String::new()),
            None if day == today => ("to", String::new()),
            None => ("", String::new()),
        };
        cells.push(Cell { day: number.to_string(), class, mark });
    }
    let weeks = cells.chunks(7).map(|week| {
        let mut week = week.to_vec();
        week.resize(7, Cell::default());
        week
    });
    Month { name: first.strftime("%B %Y").to_string(), weeks: weeks.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_imagined_until_now_however_often_they_are() -> Result<(), Box<dyn std::error::Error>>
    {
        let now = 1_790_000_000 * 1_000_000_000;
        for (schedule, distance, said) in [
            ("daily at 02:30", DAY, "of a year would"),
            ("hourly", DAY / 24, "of a year would"),
            ("every 15 minutes", DAY / 96, "of the last 91 days would"),
            ("every 1 minutes", DAY / 1440, "of the last 5 days would"),
        ] {
            let mut plan = Plan::new("p");
            plan.schedule = Some(schedule.parse()?);
            plan.keep.set("daily", "7")?;
            let calendar = plan.calendar().ok_or("no calendar")?;
            let (past, back) = past(&calendar, now)?;
            let distance = distance + DAY / 24;
            let (first, last) = past.first().zip(past.last()).ok_or("no runs")?;
            assert!(
                now - last <= distance && *last <= now,
                "{schedule}: the last runs are missing"
            );
            assert!(first - (now - back) <= distance, "{schedule}: the first runs are missing");
            let (months, kept) = simulate(&plan, &past, back, now, &TimeZone::UTC);
            assert!(kept.contains(said) && months.len() == 3, "{schedule}: {kept}");
        }
        Ok(())
    }
}
