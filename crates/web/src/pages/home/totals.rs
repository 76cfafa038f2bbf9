//! All storages in a few figures, of what is recorded: nothing is opened for them. What a storage
//! holds is recorded whenever a page measures it, and Home does that for each after it was shown.

use askama::Template;
use axum::response::Response;
use holdfast_app::plans::Plan;
use holdfast_app::text::{count, plural, size};
use holdfast_app::{Problem, times};

use crate::accounts::Measured;
use crate::failure::Failure;
use crate::state::State;
use crate::view::{View, html};
use crate::words;

/// The figures: name, value, and what is beside it.
#[derive(Debug, Template)]
#[template(path = "totals.html")]
pub(super) struct Totals {
    figures: Vec<(&'static str, String, String)>,
}

/// `GET /totals`: a part of Home, once a storage was measured.
pub(crate) async fn show(view: View) -> Result<Response, Failure> {
    let totals = view
        .blocking(|state| {
            let config = state.paths.load_config()?;
            let plans = config.plans();
            let storages = super::storages(&config, &plans);
            Totals::of(state, &plans, &storages, times::now())
        })
        .await?;
    Ok(html(&totals))
}

impl Totals {
    /// Of these plans, and of these storages by name and title.
    pub(super) fn of(
        state: &State,
        plans: &[(String, Result<Plan, Problem>)],
        storages: &[(String, String)],
        now: i64,
    ) -> Result<Self, Problem> {
        let history = state.runner.history();
        let (mut protected, mut saved) = (0_u64, 0_u64);
        for (plan, _) in plans {
            if let Some(run) = history.last(plan, "backup", true)? {
                protected = protected.saturating_add(run.report.number("bytes"));
                saved += 1;
            }
        }
        let mut measured = state.accounts.measured()?;
        measured.retain(|found| storages.iter().any(|(name, _)| *name == found.storage));
        let mut checks = Vec::new();
        for (name, title) in storages {
            let good = history.last_check(&format!("@{name}"), true)?;
            checks.push((title.clone(), good.and_then(|run| run.ended)));
        }
        let newest = format!("in the newest backup of {}", plural(saved, "plan", "plans"));
        let mut figures = vec![("Protected", size(protected), newest)];
        figures.extend(held(&measured, storages.len(), now));
        figures.extend(checked(&checks, now));
        Ok(Self { figures })
    }
}

/// What the storages hold together.
fn held(measured: &[Measured], all: usize, now: i64) -> Vec<(&'static str, String, String)> {
    let Some(since) = measured.iter().map(|found| found.time).min() else {
        let text = "no storage was measured yet".to_owned();
        return vec![("Stored", "not known".into(), text)];
    };
    let sum = |of: fn(&Measured) -> u64| measured.iter().map(of).fold(0, u64::saturating_add);
    let (stored, logical) = (sum(|found| found.stored), sum(|found| found.logical));
    let storages = match all - measured.len() {
        0 => plural(all as u64, "storage", "storages"),
        missing => format!("{} of {all} storages, {missing} not measured yet", measured.len()),
    };
    let mut figures = vec![
        ("Stored", size(stored), format!("in {storages}, {}", words::relative(since, now))),
        (
            "Snapshots",
            count(sum(|found| found.snapshots)),
            format!("{} at full size", size(logical)),
        ),
    ];
    if stored > 0 && logical > 0 {
        let ratio = format!("{:.1} ×", logical as f64 / stored as f64);
        figures.push(("Saved", ratio, "by deduplication and compression".into()));
    }
    figures
}

/// Which storage was not checked for the longest time.
fn checked(checks: &[(String, Option<i64>)], now: i64) -> Option<(&'static str, String, String)> {
    let name = "Last checked";
    let never: Vec<_> = checks.iter().filter(|(_, time)| time.is_none()).collect();
    if let [(first, _), others @ ..] = &*never {
        let more =
            if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        return Some((name, "never".into(), format!("{first}{more}")));
    }
    let (title, time) =
        checks.iter().filter_map(|(t, time)| Some((t, (*time)?))).min_by_key(|c| c.1)?;
    let of = if checks.len() == 1 { title.clone() } else { format!("{title}; others later") };
    Some((name, words::relative(time, now), of))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400 * 1_000_000_000;

    #[test]
    fn totals_say_what_is_missing_in_them() {
        let measured = |name: &str, time: i64, stored: u64| Measured {
            storage: name.into(),
            time,
            stored,
            snapshots: 3,
            logical: 10 * stored,
        };
        let now = 10 * DAY;
        let values = |figures: Vec<(&'static str, String, String)>| -> Vec<_> {
            figures.into_iter().map(|(_, value, beside)| format!("{value}: {beside}")).collect()
        };
        let none = values(held(&[], 2, now));
        assert_eq!(none, ["not known: no storage was measured yet"]);
        let all = [measured("a", now - DAY, 1000), measured("b", now, 500)];
        let found = values(held(&all, 2, now));
        assert_eq!(found[0], format!("{}: in 2 storages, 1 day ago", size(1500)));
        assert_eq!(found[1], format!("6: {} at full size", size(15_000)));
        assert_eq!(found[2], "10.0 ×: by deduplication and compression");
        let part = values(held(&all[..1], 3, now));
        assert!(part[0].contains("in 1 of 3 storages, 2 not measured yet"), "{part:?}");
        let empty = values(held(&[measured("a", now, 0)], 1, now));
        assert_eq!(empty.len(), 2, "a ratio of nothing: {empty:?}");
    }

    #[test]
    fn the_storage_that_waits_longest_for_a_check_is_named() {
        let now = 10 * DAY;
        let say = |checks: &[(&str, Option<i64>)]| {
            let checks: Vec<_> = checks.iter().map(|(t, time)| ((*t).to_owned(), *time)).collect();
            checked(&checks, now).map(|(_, value, beside)| (value, beside))
        };
        let some = |value: &str, beside: &str| Some((value.to_owned(), beside.to_owned()));
        assert_eq!(say(&[]), None);
        assert_eq!(say(&[("A", Some(now - DAY))]), some("1 day ago", "A"));
        let two = [("A", Some(now - DAY)), ("B", Some(now - 3 * DAY))];
        assert_eq!(say(&two), some("3 days ago", "B; others later"));
        assert_eq!(say(&[two[0], ("B", None), ("C", None)]), some("never", "B and 1 more"));
    }
}
