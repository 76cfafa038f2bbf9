//! Forgetting by rules: which snapshots stay and why, what would become free, and only then, if
//! asked for, the act.

use clap::Args;
use holdfast_app::Problem;
use holdfast_app::retention::{Decision, Group, GroupBy, Question, Retention, decide};
use holdfast_app::text::{count, plural, printable, shell_word, size};
use holdfast_app::times::{local, now};
use holdfast_engine::error::chain_text;
use holdfast_engine::ops::forget::{Freed, freed};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::repo::{BlobReader, Repository};
use holdfast_engine::{Error, Result as EngineResult};
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::args::Narrowing;
use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::interrupt;
use crate::ui::json;
use crate::ui::progress::Progress;
use crate::ui::table::{Align, Table};
use crate::verbs::gc;

/// Which snapshots stay. Numbers may be `all`.
#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// Keep the newest N of each group; `all` for all of them, here and below
    #[arg(long, value_name = "N")]
    keep_last: Option<String>,
    /// Keep the newest of each of the last N hours that have one
    #[arg(long, value_name = "N")]
    keep_hourly: Option<String>,
    /// … of each of the last N days that have one
    #[arg(long, value_name = "N")]
    keep_daily: Option<String>,
    /// … weeks, from Monday on
    #[arg(long, value_name = "N")]
    keep_weekly: Option<String>,
    /// … months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<String>,
    /// … years
    #[arg(long, value_name = "N")]
    keep_yearly: Option<String>,
    /// Keep what is at most this much older than the newest of its group: 1y6m, 2w, 30d, 12h
    #[arg(long, value_name = "AGE")]
    keep_within: Option<String>,
    /// Keep the newest of each hour of that time
    #[arg(long, value_name = "AGE")]
    keep_within_hourly: Option<String>,
    /// … of each day of that time
    #[arg(long, value_name = "AGE")]
    keep_within_daily: Option<String>,
    /// … week
    #[arg(long, value_name = "AGE")]
    keep_within_weekly: Option<String>,
    /// … month
    #[arg(long, value_name = "AGE")]
    keep_within_monthly: Option<String>,
    /// … year
    #[arg(long, value_name = "AGE")]
    keep_within_yearly: Option<String>,
    /// Keep what has this tag, or all of a list with commas; may be repeated
    #[arg(long, value_name = "TAGS")]
    keep_tag: Vec<String>,
    /// What makes a group: host, paths, tags, plan, with commas between them, or none
    /// [default: host,paths]
    #[arg(long, value_name = "LIST")]
    group_by: Option<String>,
    /// Remove what the rules let go
    #[arg(long)]
    apply: bool,
    /// Give the space back afterwards, as `gc` does
    #[arg(long, requires = "apply")]
    gc: bool,
    /// Let go of a group whole if the rules keep nothing of it
    #[arg(long)]
    allow_empty: bool,
    /// Do not work out what becomes free, which reads the structure of all snapshots
    #[arg(long)]
    no_size: bool,
}

impl Rules {
    /// Values in the order of [`Retention::NAMES`], without tags.
    fn values(&self) -> [&Option<String>; 12] {
        [
            &self.keep_last,
            &self.keep_hourly,
            &self.keep_daily,
            &self.keep_weekly,
            &self.keep_monthly,
            &self.keep_yearly,
            &self.keep_within,
            &self.keep_within_hourly,
            &self.keep_within_daily,
            &self.keep_within_weekly,
            &self.keep_within_monthly,
            &self.keep_within_yearly,
        ]
    }

    /// Whether no rule was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.values().iter().all(|value| value.is_none()) && self.keep_tag.is_empty()
    }

    /// Whether nothing at all of this was written.
    pub(crate) fn is_unused(&self) -> bool {
        let others = self.apply || self.allow_empty || self.no_size || self.group_by.is_some();
        self.is_empty() && !others
    }

    fn retention(&self) -> Result<Retention> {
        let mut retention = Retention::default();
        for (name, value) in Retention::NAMES.iter().zip(self.values()) {
            if let Some(value) = value {
                retention.set(name, value)?;
            }
        }
        self.keep_tag.iter().try_for_each(|tags| retention.set("tag", tags))?;
        Ok(retention)
    }
}

#[derive(Serialize)]
struct Row<'a> {
    keep: bool,
    reasons: Vec<String>,
    superseded_by: Option<String>,
    group: &'a str,
    #[serde(flatten)]
    snapshot: json::Snapshot<'a>,
}

#[derive(Serialize)]
struct Summary {
    applied: bool,
    kept: u64,
    removed: u64,
    groups: u64,
    groups_refused: u64,
    bytes_freed: Option<u64>,
    forgotten: Vec<String>,
}

pub(crate) fn by_rules(context: &Context, rules: &Rules, narrowing: &Narrowing) -> Result {
    let retention = rules.retention()?;
    if retention.is_empty() {
        return Err(Problem::usage("nothing says which snapshots stay, or which one should go")
            .hint(format!("by rules: {}", context.line("forget --keep-daily 7 --keep-weekly 5")))
            .hint(format!(
                "by ids, which {} shows: {}",
                context.line("ls"),
                context.line("forget ID")
            ))
            .into());
    }
    let group_by = rules.group_by.as_deref().map_or(Ok(GroupBy::default()), GroupBy::parse)?;
    let filter = narrowing.filter()?;
    let repository = context.open()?;
    let (all, notes) = context.snapshots(&repository)?;
    let question = Question {
        retention: &retention,
        group_by,
        filter: &filter,
        allow_empty: rules.allow_empty,
        now: now(),
        zone: &TimeZone::system(),
    };
    let groups = decide(&question, &all, &|id| notes.is_unreadable(id));
    if groups.is_empty() {
        context.ui.note(if all.is_empty() { "no snapshots yet" } else { "no snapshot fits" })?;
    }
    for group in &groups {
        show(context, group)?;
    }
    let of = |stays: bool| -> Vec<&SnapshotInfo> {
        let decisions = groups.iter().flat_map(|group| &group.decisions);
        decisions.filter(|d| d.stays() == stays).map(|d| d.snapshot).collect()
    };
    let (kept, going) = (of(true), of(false));
    let free = match rules.no_size || going.is_empty() {
        true => None,
        false => measure(context, &repository, &all, &going)?,
    };
    tell(context, &kept, &going, free)?;
    let mut summary = Summary {
        applied: rules.apply,
        kept: kept.len() as u64,
        removed: going.len() as u64,
        groups: groups.len() as u64,
        groups_refused: groups.iter().filter(|group| group.refused).count() as u64,
        bytes_freed: free.map(|free| free.bytes),
        forgotten: Vec::new(),
    };
    if rules.apply {
        let ids = going.iter().map(|info| info.id).collect();
        summary.forgotten = super::remove(context, &repository, ids, false)?;
    } else if !going.is_empty() {
        let line = context.line(&format!("forget {}", words(&retention, rules, narrowing)));
        context.ui.summary(&format!("dry run, nothing was removed; to do it: {line}"))?;
    }
    if context.ui.is_json() {
        context.ui.event("summary", &summary)?;
    }
    if summary.groups_refused > 0 {
        let groups = plural(summary.groups_refused, "group", "groups");
        context.ui.warn(&format!(
            "the rules keep nothing of {groups}, which were left as they are; \
             --allow-empty lets them go"
        ))?;
    }
    let done = match rules.apply && summary.groups_refused > 0 {
        true => Outcome::Incomplete,
        false => Outcome::Done,
    };
    if !rules.gc {
        return Ok(done);
    }
    gc::collect(context, &repository, &gc::Gc::default()).map(|_| done)
}

fn show(context: &Context, group: &Group<'_>) -> Result<()> {
    let key = group.key.to_string();
    let reasons = |decision: &Decision<'_>| -> Vec<String> {
        decision.reasons.iter().map(|reason| printable(reason.to_string().as_bytes())).collect()
    };
    if context.ui.is_json() {
        for decision in &group.decisions {
            let row = Row {
                keep: decision.stays(),
                reasons: reasons(decision),
                superseded_by: decision.superseded_by.map(|id| id.to_string()),
                group: &key,
                snapshot: json::Snapshot::from(decision.snapshot),
            };
            context.ui.row("decision", &row)?;
        }
        return Ok(());
    }
    let mut table = Table::new(&[
        ("", Align::Left),
        ("ID", Align::Left),
        ("DATE", Align::Left),
        ("SIZE", Align::Right),
        ("TAGS", Align::Left),
        ("WHY", Align::Left),
    ]);
    for decision in &group.decisions {
        let info = decision.snapshot;
        let mut why = reasons(decision);
        why.extend(decision.superseded_by.map(|id| format!("superseded by {}", id.short())));
        table.add(vec![
            if decision.stays() { "keep" } else { "remove" }.into(),
            info.id.short(),
            local(info.record.time),
            size(info.record.sum().bytes),
            printable(info.record.tags.join(",").as_bytes()),
            why.join("; "),
        ]);
    }
    context.ui.line(&format!("{key}:"))?;
    table.write(&mut *context.ui.out())?;
    Ok(context.ui.line("")?)
}

/// What would become free. Damage is told of and nothing more: it must not keep anybody from
/// forgetting.
fn measure(
    context: &Context,
    repository: &Repository,
    all: &[SnapshotInfo],
    going: &[&SnapshotInfo],
) -> Result<Option<Freed>> {
    let index = context.index(repository)?;
    let reader = BlobReader::new(repository, &index);
    let staying = all.iter().filter(|info| !going.iter().any(|other| other.id == info.id));
    let progress = Progress::new(&context.ui);
    let result: EngineResult<Freed> = freed(
        &reader,
        staying.map(|info| &info.record),
        going.iter().map(|info| &info.record),
        &progress,
        interrupt::watch(),
    );
    progress.finish();
    match result {
        Ok(free) => Ok(Some(free)),
        Err(error @ (Error::Damaged { .. } | Error::MissingBlob { .. })) => {
            let check = context.line("check");
            let text = chain_text(&error);
            context.ui.warn(&format!("what becomes free is not known: {text}; see {check}"))?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn tell(
    context: &Context,
    kept: &[&SnapshotInfo],
    going: &[&SnapshotInfo],
    free: Option<Freed>,
) -> Result<()> {
    let kept = plural(kept.len() as u64, "snapshot stays", "snapshots stay");
    let free = free
        .map_or_else(String::new, |free| format!("; about {} only they hold", size(free.bytes)));
    Ok(context.ui.summary(&format!("{kept}, {} to remove{free}", count(going.len() as u64)))?)
}

/// The options that do what was shown.
fn words(retention: &Retention, rules: &Rules, narrowing: &Narrowing) -> String {
    let mut words = Vec::new();
    let mut add = |name: &str, value: &str| words.push(format!("--{name} {}", shell_word(value)));
    for (name, value) in retention.pairs() {
        add(&format!("keep-{name}"), &value);
    }
    rules.group_by.iter().for_each(|by| add("group-by", by));
    narrowing.tag.iter().for_each(|tag| add("tag", tag));
    narrowing.host.iter().for_each(|host| add("host", host));
    narrowing.before.iter().for_each(|time| add("before", time));
    if let Some(path) = &narrowing.path {
        words.push(format!("--path {}", shell_word(path)));
    }
    if rules.allow_empty {
        words.push("--allow-empty".into());
    }
    words.push("--apply".into());
    words.join(" ")
}
