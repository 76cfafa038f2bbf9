//! `history`: the versions of one path over snapshots.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use holdfast_app::entries::mode_text;
use holdfast_app::text::{count, plural, printable, shell_word, size};
use holdfast_app::times::{local, rfc3339};
use holdfast_app::{Class, Problem};
use holdfast_engine::meta::Kind;
use holdfast_engine::ops::history::{Event, Period, history};
use holdfast_engine::repo::BlobReader;
use holdfast_engine::tree::{split, view};
use serde::Serialize;

use crate::args::Selection;
use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::interrupt;
use crate::ui::json;
use crate::ui::progress::Progress;
use crate::ui::table::{Align, Table};

/// Show when a path appeared, changed and vanished
///
/// Each line is a run of snapshots of one host in which the path was the same. Snapshots that do
/// not cover the path are passed over.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast history /home/anna/thesis.tex
  holdfast history /etc/ssh/sshd_config --host web1")]
pub(crate) struct History {
    /// Absolute path of a file or directory
    #[arg(value_name = "PATH")]
    what: OsString,
    #[command(flatten)]
    selection: Selection,
}

#[derive(Serialize)]
struct Row<'a> {
    event: &'static str,
    content: bool,
    metadata: bool,
    kind: bool,
    host: &'a str,
    first: String,
    first_time: String,
    last: String,
    last_time: String,
    snapshots: u64,
    /// What stood there; null: nothing.
    entry: Option<json::Entry<'a>>,
}

#[derive(Serialize)]
struct Summary {
    #[serde(flatten)]
    path: json::Path,
    periods: u64,
    snapshots: u64,
    unread: u64,
}

pub(crate) fn run(context: &Context, options: &History) -> Result {
    let path = options.what.as_bytes();
    if !path.starts_with(b"/") {
        let line = context.line(&format!("find {}", shell_word(&options.what)));
        return Err(Problem::usage(format!("{} is no absolute path", printable(path)))
            .hint(format!("write it from the top, or look for it: {line}"))
            .into());
    }
    let path = view::normalize(path);
    let filter = options.selection.filter()?;
    let repository = context.open()?;
    let (mut snapshots, index) = context.snapshots_and_index(&repository)?;
    snapshots.retain(|snapshot| filter.admits(&snapshot.record));
    let reader = BlobReader::new(&repository, &index);
    let progress = Progress::new(&context.ui);
    let result = history(&reader, &snapshots, &path, &progress, interrupt::watch());
    progress.finish();
    let report = result?;
    if report.periods.is_empty() && report.unread == 0 {
        let text = format!("no snapshot holds {}", printable(&path));
        let name = printable(split(&path).1);
        let line = context.line(&format!("find {}", shell_word(name)));
        return Err(Problem::new(Class::NoSuchPath, text)
            .hint(format!("it may be elsewhere: {line}"))
            .into());
    }
    if context.ui.is_json() {
        for period in &report.periods {
            context.ui.row("period", &row(&path, period))?;
        }
        let summary = Summary {
            path: json::Path::new(&path),
            periods: report.periods.len() as u64,
            snapshots: report.covering,
            unread: report.unread,
        };
        context.ui.event("summary", &summary)?;
    } else if !report.periods.is_empty() {
        table(&report.periods).write(&mut *context.ui.out())?;
    }
    if report.unread == 0 {
        return Ok(Outcome::Done);
    }
    let many = plural(report.unread, "snapshot", "snapshots");
    let what = format!("{many} could not be looked into");
    context.ui.warn(&format!("{what}: {}", context.line("check")))?;
    Ok(Outcome::Incomplete)
}

fn row<'a>(path: &[u8], period: &'a Period) -> Row<'a> {
    let (event, content, metadata, kind) = match period.event {
        Event::Appeared => ("appeared", false, false, false),
        Event::Vanished => ("vanished", false, false, false),
        Event::Modified { content, metadata, kind } => ("modified", content, metadata, kind),
    };
    let entry = period.entry.as_ref();
    let entry = entry.map(|e| json::Entry::new(path, &e.metadata, &e.target, &e.error));
    Row {
        event,
        content,
        metadata,
        kind,
        host: &period.host,
        first: period.first.0.to_string(),
        first_time: rfc3339(period.first.1),
        last: period.last.0.to_string(),
        last_time: rfc3339(period.last.1),
        snapshots: period.snapshots,
        entry,
    }
}

fn table(periods: &[Period]) -> Table {
    let mut table = Table::new(&[
        ("CHANGE", Align::Left),
        ("MODE", Align::Left),
        ("SIZE", Align::Right),
        ("MODIFIED", Align::Left),
        ("SNAPSHOTS", Align::Right),
        ("FIRST", Align::Left),
        ("LAST", Align::Left),
        ("HOST", Align::Left),
    ]);
    let several = periods.windows(2).any(|w| matches!(w, [a, b] if a.host != b.host));
    for period in periods {
        let change = match period.event {
            Event::Appeared => "appeared",
            Event::Vanished => "vanished",
            Event::Modified { kind: true, .. } => "type",
            Event::Modified { content: true, .. } => "content",
            Event::Modified { .. } => "metadata",
        };
        let m = period.entry.as_ref().map(|entry| &entry.metadata);
        let at = |(id, time): (holdfast_engine::hash::SnapshotId, i64)| {
            format!("{} {}", id.short(), local(time))
        };
        let last = if period.snapshots > 1 { at(period.last) } else { String::new() };
        table.add(vec![
            change.to_owned(),
            m.map(|m| mode_text(m.kind, m.mode)).unwrap_or_default(),
            m.filter(|m| m.kind == Kind::File).map(|m| size(m.size)).unwrap_or_default(),
            m.map(|m| local(m.mtime.total_nanos())).unwrap_or_default(),
            count(period.snapshots),
            at(period.first),
            last,
            if several { printable(period.host.as_bytes()) } else { String::new() },
        ]);
    }
    table
}
