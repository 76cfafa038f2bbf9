//! `dup`: files with the same content in a snapshot.

use std::ffi::OsString;
use std::io::Write;

use clap::Args;
use holdfast_app::Problem;
use holdfast_app::select::Spec;
use holdfast_app::text::{count, parse_size, plural, printable, size};
use holdfast_engine::ops::dup::{DupGroup, DupOptions, dup};
use holdfast_engine::repo::BlobReader;
use serde::Serialize;

use crate::args::Selection;
use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::interrupt;
use crate::ui::json;
use crate::ui::progress::Progress;

/// List files that have the same content
///
/// What the extra copies take is space at the origin: a repository holds each content once. The
/// group that takes most comes first. Content is told by its ids; none is read. Hard links are one
/// file.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast dup
  holdfast dup latest:/home/anna --larger 1M
  holdfast dup --all --below /srv")]
pub(crate) struct Dup {
    /// A snapshot, and a directory in it
    #[arg(value_name = "SNAPSHOT[:/PATH]", default_value = "latest", hide_default_value = true)]
    snapshot: OsString,
    /// In all snapshots that fit: also files that were in different ones
    #[arg(long, conflicts_with = "snapshot")]
    all: bool,
    /// Only at and below this absolute path
    #[arg(long, value_name = "PATH")]
    below: Option<OsString>,
    /// Only files of more bytes than this: 4096, 10M
    #[arg(long, value_name = "SIZE")]
    larger: Option<String>,
    #[command(flatten)]
    selection: Selection,
}

#[derive(Serialize)]
struct Row {
    size: u64,
    count: u64,
    wasted: u64,
    paths: Vec<json::Path>,
}

#[derive(Serialize)]
struct Summary {
    groups: u64,
    copies: u64,
    wasted: u64,
    files: u64,
    unread: u64,
}

pub(crate) fn run(context: &Context, options: &Dup) -> Result {
    use std::os::unix::ffi::OsStrExt;
    let filter = options.selection.filter()?;
    let spec = Spec::parse(&options.snapshot)?;
    let larger = options.larger.as_deref().map(|text| {
        parse_size(text).ok_or_else(|| {
            Problem::usage(format!("{text} is no size")).hint("write 4096, 100K, 10M or 1.5G")
        })
    });
    let larger = larger.transpose()?.unwrap_or(0);
    let below = options.below.as_ref().map(|path| path.as_bytes().to_vec());
    let repository = context.open()?;
    let (mut snapshots, index) = context.snapshots_and_index(&repository)?;
    if options.all {
        snapshots.retain(|snapshot| filter.admits(&snapshot.record));
    } else {
        snapshots = vec![spec.find(snapshots, &filter)?];
    }
    let reader = BlobReader::new(&repository, &index);
    let dup_options = DupOptions {
        below: below.or(spec.path),
        at_least: larger.saturating_add(1),
        ..DupOptions::default()
    };
    let progress = Progress::new(&context.ui);
    let result = dup(&reader, &snapshots, &dup_options, &progress, interrupt::watch());
    progress.finish();
    let report = result?;
    for group in &report.groups {
        show(context, group)?;
    }
    let copies = report.groups.iter().map(|group| group.paths.len() as u64 - 1).sum();
    let groups = report.groups.len() as u64;
    if context.ui.is_json() {
        let (wasted, files, unread) = (report.wasted(), report.files, report.unread);
        context.ui.event("summary", &Summary { groups, copies, wasted, files, unread })?;
    } else {
        context.ui.note(&format!(
            "{} of {}; the extra ones take {}",
            plural(copies, "extra copy", "extra copies"),
            plural(groups, "file", "files"),
            size(report.wasted()),
        ))?;
    }
    if report.unread == 0 {
        return Ok(Outcome::Done);
    }
    let what = format!("{} of the trees could not be read", count(report.unread));
    context.ui.warn(&format!("{what}; something may be missed: {}", context.line("check")))?;
    Ok(Outcome::Incomplete)
}

fn show(context: &Context, group: &DupGroup) -> std::io::Result<()> {
    let number = group.paths.len() as u64;
    if context.ui.is_json() {
        let paths = group.paths.iter().map(|path| json::Path::new(path)).collect();
        let row = Row { size: group.size, count: number, wasted: group.wasted(), paths };
        return context.ui.row("group", &row);
    }
    let mut out = context.ui.out();
    let (each, wasted) = (size(group.size), size(group.wasted()));
    writeln!(out, "{} of {each}, {wasted} more than one takes", plural(number, "file", "files"))?;
    for path in &group.paths {
        writeln!(out, "  {}", printable(path))?;
    }
    Ok(())
}
