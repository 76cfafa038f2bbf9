//! Retention against an oracle that knows the rules as sentences and not as a walk through a list,
//! over random histories in zones whose clocks are set in odd ways; and the cases that people ask
//! about, one by one.

use std::collections::BTreeSet;

use holdfast_engine::format::snapshot::{Root, Snapshot};
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::repo::snapshots::{Filter, SnapshotInfo};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};
use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3600 * 1_000_000_000;
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

/// Clocks that are set at odd moments: at 3 at night, at a minute past midnight, by half an hour.
const ZONES: [&str; 4] =
    ["UTC0", BERLIN, "NST3:30NDT,M3.2.0/0:01,M11.1.0/0:01", "LHST-10:30LHDT-11,M10.1.0,M4.1.0"];

fn zone(posix: &str) -> TimeZone {
    TimeZone::posix(posix).expect("zone")
}

fn nanos(text: &str) -> i64 {
    let time: Timestamp = text.parse().expect("time");
    i64::try_from(time.as_nanosecond()).expect("in range")
}

fn snapshot(number: u8, time: i64) -> SnapshotInfo {
    let root = Root { path: b"/data".to_vec(), ..Root::default() };
    let record = Snapshot { time, host: "host".into(), roots: vec![root], ..Snapshot::default() };
    SnapshotInfo { id: SnapshotId::new([number; 16]), record }
}

fn history(times: &[&str]) -> Vec<SnapshotInfo> {
    times.iter().zip(1..).map(|(time, number)| snapshot(number, nanos(time))).collect()
}

fn rules(pairs: &[(&str, &str)]) -> Retention {
    let mut retention = Retention::default();
    for (name, value) in pairs {
        retention.set(name, value).expect("rule");
    }
    retention
}

/// The numbers of the snapshots that stay, each with its reasons.
fn stays(retention: &Retention, snapshots: &[SnapshotInfo], posix: &str) -> Vec<(u8, String)> {
    let zone = zone(posix);
    let (filter, group_by) = (Filter::default(), GroupBy::default());
    let now = snapshots.last().map_or(0, |s| s.record.time);
    let question =
        Question { retention, group_by, filter: &filter, allow_empty: true, now, zone: &zone };
    let groups = decide(&question, snapshots, &|_| false);
    let decisions = groups.iter().flat_map(|group| &group.decisions).filter(|d| d.stays());
    let reasons =
        |d: &Decision<'_>| d.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let mut all: Vec<_> = decisions.map(|d| (d.snapshot.id.as_bytes()[0], reasons(d))).collect();
    all.sort();
    all
}

fn numbers(retention: &Retention, snapshots: &[SnapshotInfo], posix: &str) -> Vec<u8> {
    stays(retention, snapshots, posix).into_iter().map(|(number, _)| number).collect()
}

/// Whether a rule keeps a snapshot, said as a sentence. `group` are the complete ones, any order.
fn keeps(
    name: &str,
    value: &str,
    one: &SnapshotInfo,
    group: &[&SnapshotInfo],
    zone: &TimeZone,
) -> bool {
    let local = |s: &SnapshotInfo| {
        let time = Timestamp::from_nanosecond(i128::from(s.record.time)).expect("time");
        time.to_zoned(zone.clone())
    };
    let order = |s: &SnapshotInfo| (s.record.time, s.id);
    let newer: Vec<_> = group.iter().filter(|other| order(other) > order(one)).collect();
    let most = || if value == "all" { usize::MAX } else { value.parse().expect("number") };
    let is_within = || {
        let newest = group.iter().max_by_key(|s| order(s)).expect("newest");
        let (number, unit) = value.split_at(value.len() - 1);
        let number: i64 = number.parse().expect("number");
        let span = match unit {
            "y" => Span::new().years(number),
            "m" => Span::new().months(number),
            "w" => Span::new().weeks(number),
            "d" => Span::new().days(number),
            _ => Span::new().hours(number),
        };
        local(one) >= local(newest).checked_sub(span).expect("in range")
    };
    let bucket = |s: &SnapshotInfo, period: &str| {
        let form = match period {
            "hourly" => "%Y-%m-%d %H %z",
            "daily" => "%Y-%m-%d",
            "weekly" => "%G-%V",
            "monthly" => "%Y-%m",
            _ => "%Y",
        };
        local(s).strftime(form).to_string()
    };
    let is_newest_of =
        |period: &str| newer.iter().all(|s| bucket(s, period) != bucket(one, period));
    match name {
        "last" => newer.len() < most(),
        "within" => is_within(),
        "tag" => value.split(',').all(|tag| one.record.tags.iter().any(|t| t == tag)),
        _ => match name.strip_prefix("within-") {
            Some(period) => is_within() && is_newest_of(period),
            None => {
                let periods: BTreeSet<_> = newer.iter().map(|s| bucket(s, name)).collect();
                is_newest_of(name) && periods.len() < most()
            }
        },
    }
}

fn any_rules() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let counted =
        prop::sample::select(&["last", "hourly", "daily", "weekly", "monthly", "yearly"][..]);
    let count = prop_oneof![(1..6_u8).prop_map(|n| n.to_string()), Just("all".to_owned())];
    let within = prop::sample::select(
        &[
            "within",
            "within-hourly",
            "within-daily",
            "within-weekly",
            "within-monthly",
            "within-yearly",
        ][..],
    );
    let age = (1..40_u8, prop::sample::select(&["h", "d", "w", "m", "y"][..]));
    let rule = prop_oneof![
        4 => (counted, count),
        3 => (within, age.prop_map(|(n, unit)| format!("{n}{unit}"))),
        1 => prop::sample::select(&["a", "b", "a,b"][..]).prop_map(|tags| ("tag", tags.to_owned())),
    ];
    prop::collection::vec(rule, 1..4)
}

/// Snapshots some minutes to some months apart, the last ones around a day on which clocks are set.
fn any_history() -> impl Strategy<Value = Vec<SnapshotInfo>> {
    let minutes = prop_oneof![5 => 0..90_i64, 4 => 0..3_000_i64, 1 => 0..100_000_i64];
    let one = (minutes, 0..4_u8, prop::bool::weighted(0.1), prop::bool::weighted(0.2));
    const ENDS: [&str; 3] =
        ["2026-03-29T06:00:00Z", "2026-11-01T06:00:00Z", "2027-01-03T12:00:00Z"];
    (prop::collection::vec(one, 1..40), prop::sample::select(&ENDS[..])).prop_map(|(steps, end)| {
        let mut time = nanos(end);
        let mut all = Vec::new();
        for ((minutes, tags, pinned, partial), number) in steps.into_iter().zip(1..) {
            let mut info = snapshot(number, time);
            let names = ["a", "b"].iter().enumerate().filter(|(bit, _)| tags >> bit & 1 == 1);
            info.record.tags = names.map(|(_, name)| (*name).to_owned()).collect();
            (info.record.pinned, info.record.partial) = (pinned, partial);
            all.push(info);
            time -= minutes * 60 * 1_000_000_000;
        }
        all.sort_by_key(|s| (s.record.time, s.id));
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decisions_are_what_the_rules_say(
        all in any_history(),
        pairs in any_rules(),
        posix in prop::sample::select(&ZONES[..]),
    ) {
        // A later rule of the same name takes the place of an earlier one; tags add up.
        let mut retention = Retention::default();
        let mut last: Vec<(&str, String)> = Vec::new();
        for (name, value) in pairs {
            prop_assert!(retention.set(name, &value).is_ok());
            last.retain(|(other, _)| *other != name || name == "tag");
            last.push((name, value));
        }
        let zone = zone(posix);
        let complete: Vec<_> = all.iter().filter(|s| !s.record.partial).collect();
        let newest_complete = complete.iter().map(|s| s.record.time).max();
        let mut expected = Vec::new();
        for one in &all {
            let stays = one.record.pinned
                || match one.record.partial {
                    true => newest_complete < Some(one.record.time),
                    false => last.iter().any(|(n, v)| keeps(n, v, one, &complete, &zone)),
                };
            if stays {
                expected.push(one.id.as_bytes()[0]);
            }
        }
        expected.sort_unstable();
        prop_assert_eq!(numbers(&retention, &all, posix), expected);
    }

    #[test]
    fn rules_are_written_as_they_are_read(pairs in any_rules()) {
        let mut retention = Retention::default();
        for (name, value) in pairs {
            prop_assert!(retention.set(name, &value).is_ok());
        }
        let mut again = Retention::default();
        for (name, value) in retention.pairs() {
            prop_assert!(again.set(&name, &value).is_ok());
        }
        prop_assert_eq!(again, retention);
    }
}

#[test]
fn reasons_are_given_by_number() {
    let all = history(&[
        "2026-11-01T10:00:00Z",
        "2026-11-02T10:00:00Z",
        "2026-11-03T08:00:00Z",
        "2026-11-03T10:00:00Z",
    ]);
    let found = stays(&rules(&[("last", "1"), ("daily", "2"), ("monthly", "all")]), &all, "UTC0");
    let expected = [(2, "daily 2/2".to_owned()), (4, "last 1/1; daily 1/2; monthly 1".to_owned())];
    assert_eq!(found, expected);
}

#[test]
fn days_are_those_of_the_calendar_at_hand() {
    // In Berlin the first two are of one day and the last two of the next, in UTC it is 1, 2, 1.
    let all = history(&[
        "2026-07-01T20:00:00Z",
        "2026-07-01T21:59:59Z",
        "2026-07-01T22:00:00Z",
        "2026-07-02T21:00:00Z",
    ]);
    let daily = rules(&[("daily", "7")]);
    assert_eq!(numbers(&daily, &all, BERLIN), [2, 4]);
    assert_eq!(numbers(&daily, &all, "UTC0"), [3, 4]);
}

#[test]
fn the_hour_that_comes_twice_is_two_hours_and_its_day_one() {
    // 02:30 summer time, 02:30 winter time, 03:30; the day has 25 hours.
    let all = history(&["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]);
    assert_eq!(numbers(&rules(&[("hourly", "9")]), &all, BERLIN), [1, 2, 3]);
    assert_eq!(numbers(&rules(&[("daily", "9")]), &all, BERLIN), [3]);
    // A day before 03:30 is 03:30 of the day before, 25 hours back.
    let all = history(&["2026-10-24T01:29:00Z", "2026-10-24T01:31:00Z", "2026-10-25T02:30:00Z"]);
    assert_eq!(numbers(&rules(&[("within", "1d")]), &all, BERLIN), [2, 3]);
    assert_eq!(numbers(&rules(&[("within", "24h")]), &all, BERLIN), [3]);
}

#[test]
fn what_is_exactly_as_old_as_an_age_stays() {
    let all = history(&["2026-11-01T11:59:59Z", "2026-11-01T12:00:00Z", "2026-11-02T12:00:00Z"]);
    assert_eq!(numbers(&rules(&[("within", "24h")]), &all, "UTC0"), [2, 3]);
}

#[test]
fn weeks_are_of_iso_8601() {
    // Monday to Sunday of week 53 of 2026, over the end of the year; then week 1 of 2027.
    let all = history(&["2026-12-28T00:00:00Z", "2027-01-03T23:59:59Z", "2027-01-04T00:00:00Z"]);
    assert_eq!(numbers(&rules(&[("weekly", "9")]), &all, "UTC0"), [2, 3]);
    assert_eq!(numbers(&rules(&[("yearly", "9")]), &all, "UTC0"), [1, 3]);
}

#[test]
fn interrupted_runs_stay_until_a_complete_one_has_followed_and_never_count() {
    let mut all =
        history(&["2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z"]);
    for number in [1, 2] {
        all[number].record.partial = true;
    }
    // Both are newer than the only complete one, which a count of the last ones would have let go.
    assert_eq!(numbers(&rules(&[("last", "1")]), &all, "UTC0"), [1, 2, 3]);
    // A later one of fewer places is no substitute; one of more is, in whatever group it lies.
    let other = |path: &str| Root { path: path.into(), ..Root::default() };
    all.push(snapshot(4, nanos("2026-11-04T00:00:00Z")));
    all[3].record.roots = vec![other("/else")];
    assert_eq!(numbers(&rules(&[("last", "1")]), &all, "UTC0"), [1, 2, 3, 4]);
    all[3].record.roots.insert(0, other("/data"));
    assert_eq!(numbers(&rules(&[("last", "1")]), &all, "UTC0"), [1, 4]);
    all[3].record.host = "another".into();
    assert_eq!(numbers(&rules(&[("last", "1")]), &all, "UTC0"), [1, 2, 3, 4]);
}

#[test]
fn what_a_run_left_on_its_way_goes_when_it_has_come_to_its_end() {
    let mut all = history(&["2026-11-01T00:00:00Z"; 3]);
    for number in [0, 2] {
        all[number].record.partial = true;
    }
    assert_eq!(numbers(&rules(&[("last", "1")]), &all, "UTC0"), [2], "whatever their ids");
}

#[test]
fn a_clock_that_ran_ahead_pushes_nothing_out() {
    let mut all = history(&["2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"]);
    let now = all[1].record.time;
    all.push(snapshot(3, nanos("2070-01-01T00:00:00Z")));
    let (retention, zone) = (rules(&[("within", "3d"), ("last", "1")]), zone("UTC0"));
    let (filter, group_by) = (Filter::default(), GroupBy::default());
    let question = Question {
        retention: &retention,
        group_by,
        filter: &filter,
        allow_empty: false,
        now: now + HOUR,
        zone: &zone,
    };
    let groups = decide(&question, &all, &|_| false);
    assert!(groups[0].decisions.iter().all(Decision::stays));
    assert_eq!(groups[0].decisions[0].reasons, [Reason::Future]);
    assert!(groups[0].decisions[1].reasons.contains(&Reason::Last(1, Count::Some(1))));
}

#[test]
fn a_group_is_never_emptied_unless_that_is_wanted() {
    let mut all = history(&["2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"]);
    all[1].record.host = "other".into();
    all[1].record.tags = vec!["keep".into()];
    let (retention, zone) = (rules(&[("tag", "keep")]), zone("UTC0"));
    let filter = Filter::default();
    let mut question = Question {
        retention: &retention,
        group_by: GroupBy::default(),
        filter: &filter,
        allow_empty: false,
        now: nanos("2026-11-03T00:00:00Z"),
        zone: &zone,
    };
    let outcome = |question: &Question<'_>| {
        let groups = decide(question, &all, &|_| false);
        let stays = |g: &Group<'_>| g.decisions.iter().all(Decision::stays);
        groups.iter().map(|g| (g.refused, stays(g))).collect::<Vec<_>>()
    };
    assert_eq!(outcome(&question), [(true, true), (false, true)]);
    question.allow_empty = true;
    assert_eq!(outcome(&question), [(false, false), (false, true)]);
    // A pin is no rule.
    all[0].record.pinned = true;
    let mut newer = snapshot(3, nanos("2026-11-02T12:00:00Z"));
    newer.record.host.clone_from(&all[0].record.host);
    all.push(newer);
    question.allow_empty = false;
    let groups = decide(&question, &all, &|_| false);
    let reasons: Vec<_> = groups[0].decisions.iter().map(|d| &d.reasons[..]).collect();
    assert_eq!(reasons, [&[Reason::NothingKept][..], &[Reason::Pinned]]);
    assert!(groups[0].refused);
    all.pop();
    assert!(!decide(&question, &all, &|_| false)[0].refused, "nothing would go");
    all[0].record.pinned = false;
    question.allow_empty = true;
    // What a note may have pinned stays in any case.
    let groups = decide(&question, &all, &|id| id.as_bytes()[0] == 1);
    assert_eq!(groups[0].decisions[0].reasons, [Reason::Unreadable]);
}

#[test]
fn groups_are_by_what_was_asked() {
    let mut all =
        history(&["2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z"]);
    all[0].record.tags = vec!["plan:nightly".into()];
    all[1].record.host = "other".into();
    let keys = |text: &str| {
        let by = GroupBy::parse(text).expect("list");
        let keys: BTreeSet<_> = all.iter().map(|s| by.key(&s.record)).collect();
        keys.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(keys("host,paths"), ["host, /data", "other, /data"]);
    assert_eq!(keys("plan"), ["no plan", "plan nightly"]);
    assert_eq!(keys("tags"), ["no tags", "tags plan:nightly"]);
    assert_eq!(keys("none"), ["all"]);
    assert!(GroupBy::parse("host,moon").is_err_and(|p| p.message.contains("moon")));
    assert_eq!(GroupBy::parse("paths, host").expect("list"), GroupBy::default());
}

#[test]
fn what_is_no_rule_is_refused_with_a_reason() {
    for (name, value) in [
        ("daily", "0"),
        ("daily", "-1"),
        ("daily", "x"),
        ("within", "30"),
        ("within", "5x"),
        ("within", ""),
        ("within", "1d1d"),
        ("within", "99999999999d"),
        ("within-hourly", "d"),
        ("tag", " , "),
        ("fortnightly", "1"),
        ("within-last", "1"),
    ] {
        let problem = Retention::default().set(name, value).expect_err(name);
        assert_eq!(problem.exit_code(), 2, "{name} {value}");
        assert!(!problem.hints.is_empty() && problem.message.contains(name), "{problem:?}");
    }
    let all = Retention::NAMES.map(|name| match name {
        "tag" => ("tag", "a,b"),
        name if name.starts_with("within") => (name, "1y2m3w4d5h"),
        name => (name, "7"),
    });
    let pairs = rules(&all).pairs();
    let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(pairs, all);
}

#[test]
fn ages_reach_back_before_all_time() {
    let all = history(&["2000-01-01T00:00:00Z", "2026-11-02T00:00:00Z"]);
    assert_eq!(numbers(&rules(&[("within", "65000y")]), &all, "UTC0"), [1, 2]);
    let newest: Zoned = "2026-11-02T00:00:00+00:00[UTC]".parse().expect("time");
    assert!(Age::parse("9000y").expect("age").before(&newest).is_some());
}
