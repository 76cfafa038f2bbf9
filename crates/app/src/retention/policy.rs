//! What retention rules make of a list of snapshots: a decision with its reasons for each. Nothing
//! is read or changed here, so that a preview and the act cannot differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use holdfast_engine::hash::SnapshotId;
use holdfast_engine::repo::snapshots::{Filter, SnapshotInfo};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::{Age, Count, GroupBy, GroupKey, Period, Retention};

/// A snapshot whose time lies further ahead than this was dated by a clock that was wrong. It must
/// not make all the others look old.
const FUTURE: i64 = 24 * 3600 * 1_000_000_000;

/// What is to be decided.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The rules.
    pub retention: &'a Retention,
    /// How snapshots are grouped.
    pub group_by: GroupBy,
    /// Only these are decided about; interrupted runs are, whatever it says of them.
    pub filter: &'a Filter,
    /// A group of which the rules keep nothing may go.
    pub allow_empty: bool,
    /// Now, nanoseconds since the epoch.
    pub now: i64,
    /// Whose calendar counts.
    pub zone: &'a TimeZone,
}

/// Why a snapshot stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is the so-and-so-many-th newest, from 1.
    Last(u32, Count),
    /// It is the newest of its period, which is the so-and-so-many-th that has one, from 1.
    Period(Period, u32, Count),
    /// It is at most this much older than the newest.
    Within(Age),
    /// It is at most this much older than the newest, and the newest of its period.
    PeriodWithin(Period, Age),
    /// It has all these tags.
    Tags(Vec<String>),
    /// Somebody said that it is to stay.
    Pinned,
    /// A note of it cannot be read: somebody may have said so.
    Unreadable,
    /// It is of an interrupted run, and no later one was complete.
    Unfinished,
    /// It is dated more than a day ahead.
    Future,
    /// No rule keeps anything of its group.
    NothingKept,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |f: &mut fmt::Formatter<'_>, name: &str, number: &u32, of: &Count| match of {
            Count::Some(of) => write!(f, "{name} {number}/{of}"),
            Count::All => write!(f, "{name} {number}"),
        };
        match self {
            Self::Last(n, of) => number(f, "last", n, of),
            Self::Period(period, n, of) => number(f, period.name(), n, of),
            Self::Within(age) => write!(f, "within {age}"),
            Self::PeriodWithin(period, age) => write!(f, "{} within {age}", period.name()),
            Self::Tags(tags) => write!(f, "tag {}", tags.join(",")),
            Self::Pinned => f.write_str("pinned"),
            Self::Unreadable => f.write_str("a note of it cannot be read"),
            Self::Unfinished => f.write_str("interrupted, and nothing complete since"),
            Self::Future => f.write_str("dated in the future"),
            Self::NothingKept => f.write_str("the rules keep nothing of the group"),
        }
    }
}

/// What becomes of a snapshot.
#[derive(Debug, Clone)]
pub struct Decision<'a> {
    /// The snapshot.
    pub snapshot: &'a SnapshotInfo,
    /// Why it stays; if there is no reason it goes.
    pub reasons: Vec<Reason>,
    /// The complete snapshot that this one of an interrupted run is superseded by.
    pub superseded_by: Option<SnapshotId>,
}

impl Decision<'_> {
    /// Whether it stays.
    pub fn stays(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// A group and what becomes of it.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    /// What its snapshots have in common.
    pub key: GroupKey,
    /// Newest first.
    pub decisions: Vec<Decision<'a>>,
    /// The rules would have left nothing of it, so all of it stays.
    pub refused: bool,
}

/// Decides about the snapshots that the filter admits, groups in the order of their keys.
/// `snapshots` are all of the repository, oldest first; `is_unreadable` says of which ones notes
/// cannot be read.
pub fn decide<'a>(
    question: &Question<'_>,
    snapshots: &'a [SnapshotInfo],
    is_unreadable: &dyn Fn(SnapshotId) -> bool,
) -> Vec<Group<'a>> {
    let filter = Filter { partial: true, ..question.filter.clone() };
    let mut groups: BTreeMap<GroupKey, Vec<Decision<'a>>> = BTreeMap::new();
    for snapshot in snapshots.iter().rev().filter(|snapshot| filter.admits(&snapshot.record)) {
        let mut decision = Decision { snapshot, reasons: Vec::new(), superseded_by: None };
        if snapshot.record.pinned {
            decision.reasons.push(Reason::Pinned);
        }
        if is_unreadable(snapshot.id) {
            decision.reasons.push(Reason::Unreadable);
        }
        if snapshot.record.partial {
            decision.superseded_by = superseding(snapshot, snapshots);
            if decision.superseded_by.is_none() {
                decision.reasons.push(Reason::Unfinished);
            }
        }
        let key = question.group_by.key(&snapshot.record);
        groups.entry(key).or_default().push(decision);
    }
    let decided = groups.into_iter().map(|(key, mut decisions)| {
        let refused = apply(question, &mut decisions);
        Group { key, decisions, refused }
    });
    decided.collect()
}

/// The first complete snapshot of all the places of a partial one, of the same run or a later one.
fn superseding(partial: &SnapshotInfo, snapshots: &[SnapshotInfo]) -> Option<SnapshotId> {
    let record = &partial.record;
    let holds_all = |other: &SnapshotInfo| {
        let holds = |path: &[u8]| other.record.roots.iter().any(|root| root.path == path);
        record.roots.iter().all(|root| holds(&root.path))
    };
    let after = |other: &&SnapshotInfo| {
        !other.record.partial
            // What a run leaves on its way carries its time.
            && other.record.time >= record.time
            && other.record.host == record.host
            && other.record.kind == record.kind
            && holds_all(other)
    };
    snapshots.iter().find(after).map(|other| other.id)
}

/// One rule that counts, on its way from the newest snapshot to the oldest.
struct Counter {
    period: Option<Period>,
    count: Count,
    kept: u32,
    /// Periods it has kept one of. Not only the last: where clocks are set back over midnight, a
    /// day comes twice.
    seen: BTreeSet<Bucket>,
}

/// Applies the rules to one group, newest first. Whether they were refused.
fn apply(question: &Question<'_>, decisions: &mut [Decision<'_>]) -> bool {
    let Question { retention, zone, .. } = *question;
    let mut complete = Vec::new();
    for decision in decisions.iter_mut().filter(|d| !d.snapshot.record.partial) {
        if decision.snapshot.record.time > question.now.saturating_add(FUTURE) {
            decision.reasons.push(Reason::Future);
        } else {
            let time = local(decision.snapshot.record.time, zone);
            complete.push((decision, time));
        }
    }
    let Some(newest) = complete.first().map(|(_, time)| time.clone()) else { return false };
    let is_within = |age: &Age, time: &Zoned| age.before(&newest).is_none_or(|from| *time >= from);
    let counter = |period, count: Option<Count>| {
        count.map(|count| Counter { period, count, kept: 0, seen: BTreeSet::new() })
    };
    let periods = || Period::ALL.into_iter();
    let mut counters: Vec<_> = counter(None, retention.last)
        .into_iter()
        .chain(periods().zip(retention.periods).filter_map(|(p, count)| counter(Some(p), count)))
        .collect();
    let mut seen_within: [BTreeSet<Bucket>; 5] = Default::default();
    for (decision, time) in &mut complete {
        let tags = &decision.snapshot.record.tags;
        for wanted in &retention.tags {
            if wanted.iter().all(|tag| tags.contains(tag)) {
                decision.reasons.push(Reason::Tags(wanted.clone()));
            }
        }
        for counter in &mut counters {
            decision.reasons.extend(counter.visit(time));
        }
        if let Some(age) = retention.within.filter(|age| is_within(age, time)) {
            decision.reasons.push(Reason::Within(age));
        }
        for ((period, age), seen) in periods().zip(retention.periods_within).zip(&mut seen_within) {
            if let Some(age) = age.filter(|age| is_within(age, time))
                && seen.insert(Bucket::of(period, time))
            {
                decision.reasons.push(Reason::PeriodWithin(period, age));
            }
        }
    }
    let would_go = |decision: &Decision<'_>| !decision.stays();
    // Pins are no rules: a mistyped tag would let go of all the rest.
    let is_rule = |reason: &Reason| !matches!(reason, Reason::Pinned | Reason::Unreadable);
    let keeps = |decision: &Decision<'_>| decision.reasons.iter().any(is_rule);
    let refused = !question.allow_empty
        && complete.iter().any(|(decision, _)| would_go(decision))
        && !complete.iter().any(|(decision, _)| keeps(decision));
    if refused {
        for (decision, _) in complete.iter_mut().filter(|(decision, _)| would_go(decision)) {
            decision.reasons.push(Reason::NothingKept);
        }
    }
    refused
}

impl Counter {
    /// The reason to keep the next older snapshot, if this rule has one.
    fn visit(&mut self, time: &Zoned) -> Option<Reason> {
        if !self.count.exceeds(self.kept) {
            return None;
        }
        let Some(period) = self.period else {
            self.kept += 1;
            return Some(Reason::Last(self.kept, self.count));
        };
        if !self.seen.insert(Bucket::of(period, time)) {
            return None;
        }
        self.kept += 1;
        Some(Reason::Period(period, self.kept, self.count))
    }
}

/// A period that a moment lies in: year, number in it, and for hours the hour and the distance from
/// UTC, since where clocks are set back an hour of that name comes twice.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bucket(i16, i16, i8, i32);

impl Bucket {
    fn of(period: Period, time: &Zoned) -> Self {
        let date = time.date();
        let year = date.year();
        match period {
            Period::Hourly => Self(year, date.day_of_year(), time.hour(), time.offset().seconds()),
            Period::Daily => Self(year, date.day_of_year(), 0, 0),
            Period::Weekly => {
                let week = date.iso_week_date();
                Self(week.year(), i16::from(week.week()), 0, 0)
            }
            Period::Monthly => Self(year, i16::from(date.month()), 0, 0),
            Period::Yearly => Self(year, 0, 0, 0),
        }
    }
}

/// A moment by the clocks of a place. Every time that fits a snapshot is within the calendar.
fn local(nanos: i64, zone: &TimeZone) -> Zoned {
    let time = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(zone.clone())
}
