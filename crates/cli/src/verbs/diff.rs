//! `diff`: what differs between two snapshots, or between a snapshot and what is there now.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use holdfast_app::location::absolute;
use holdfast_app::select::Spec;
use holdfast_app::text::{count, printable, size};
use holdfast_app::{Class, Problem, Resolved, json, roots};
use holdfast_connectors::local::source::LocalSourceOptions;
use holdfast_engine::ops::diff::{
    Change, ChangeKind, DiffOptions, DiffTotals, LiveOptions, LiveRoot, diff, diff_live,
};
use holdfast_engine::repo::BlobReader;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::{Error, Result as EngineResult};

use crate::args::Selection;
use crate::context::{Context, host};
use crate::failure::{Failure, Outcome, Result};
use crate::interrupt;
use crate::ui::progress::Progress;

/// Compare two snapshots, or a snapshot with files as they are now
///
/// Each line begins with + (added), - (removed), M (content changed), T (other type) or
/// m (only permissions, owner, times or attributes changed).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast diff latest~1 latest
  holdfast diff latest:/etc --live
  holdfast diff 1a2b3c4d:/home/anna /tmp/restored")]
pub(crate) struct Diff {
    /// The earlier snapshot; with a path, only what lies there
    #[arg(value_name = "SNAPSHOT[:/PATH]")]
    first: OsString,
    /// The later snapshot, or a directory (written with a slash), or @NAME
    #[arg(value_name = "SNAPSHOT|PLACE", required_unless_present = "live")]
    second: Option<OsString>,
    /// Compare with the places that were backed up, as they are now
    #[arg(long, conflicts_with = "second")]
    live: bool,
    /// Read files of equal size and time as well
    #[arg(long)]
    read_data: bool,
    /// Only the totals
    #[arg(long)]
    stat: bool,
    /// Exit with 1 if anything differs
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    selection: Selection,
}

pub(crate) fn run(context: &Context, options: &Diff) -> Result {
    let filter = options.selection.filter()?;
    let before_spec = Spec::parse(&options.first)?;
    let place = options.second.as_deref().filter(|text| is_place(text));
    let place = place.map(|place| context.place(place)).transpose()?;
    let after_spec = match (&place, &options.second) {
        (None, Some(text)) => Some(Spec::parse(text)?),
        _ => None,
    };
    if let Some(first) = &before_spec.path
        && let Some(second) = after_spec.as_ref().and_then(|spec| spec.path.as_ref())
        && first != second
    {
        let (first, second) = (printable(first), printable(second));
        return Err(Problem::usage(format!("{first} and {second} are two different paths"))
            .hint("say one path: what lies there is compared in both snapshots")
            .into());
    }
    let repository = context.open()?;
    let (snapshots, index) = context.snapshots_and_index(&repository)?;
    let reader = BlobReader::new(&repository, &index);
    let before = before_spec.find(snapshots.clone(), &filter)?;
    let progress = Progress::new(&context.ui);
    let mut unwritten = None;
    let mut each = |change: Change| -> EngineResult<()> {
        if options.stat {
            return Ok(());
        }
        show(context, &change).map_err(|e| {
            unwritten = Some(e);
            Error::Interrupted
        })
    };
    let result = if let Some(spec) = after_spec {
        let after = spec.find(snapshots, &filter)?;
        let path = before_spec.path.clone().or(spec.path);
        let options = DiffOptions { path };
        diff(&reader, &before, &after, &options, &progress, interrupt::watch(), &mut each)
    } else {
        let roots = live_roots(context, &before, before_spec.path.as_deref(), place.as_ref())?;
        let live = LiveOptions { attributes: true, content: options.read_data };
        diff_live(&reader, &before, &roots, live, &progress, interrupt::watch(), &mut each)
    };
    progress.finish();
    if let Some(error) = unwritten {
        return Err(Failure::Output(error));
    }
    let totals = result?;
    tell(context, &totals)?;
    let differs = totals.added + totals.removed + totals.changed + totals.touched > 0;
    match () {
        () if totals.unknown > 0 => Ok(Outcome::Incomplete),
        () if differs && options.exit_code => Ok(Outcome::Differs),
        () => Ok(Outcome::Done),
    }
}

/// Whether a word is a place and no snapshot.
fn is_place(text: &OsStr) -> bool {
    let bytes = text.as_bytes();
    [&b"/"[..], b"./", b"../", b"file://", b"@", b"sftp://", b"s3://"]
        .iter()
        .any(|start| bytes.starts_with(start))
        || bytes == b"."
        || bytes == b".."
}

/// The roots to walk: those of the snapshot where they were, or one of them elsewhere.
fn live_roots(
    context: &Context,
    before: &SnapshotInfo,
    path: Option<&[u8]>,
    place: Option<&Resolved>,
) -> Result<Vec<LiveRoot>> {
    let record = &before.record;
    if record.kind != "local" {
        let text = format!("snapshot {} is not of local files", before.id.short());
        return Err(Problem::new(Class::Unsupported, text).into());
    }
    if record.host != host() && place.is_none() {
        let other = printable(record.host.as_bytes());
        context.ui.warn(&format!("this snapshot is of {other}, not of this machine"))?;
    }
    let options = LocalSourceOptions {
        excludes: record.excludes.clone(),
        never: context.cache().into_iter().collect(),
        ..LocalSourceOptions::default()
    };
    let place = place.map(|place| place.local("place").map(absolute)).transpose()?;
    let is_wanted = |root: &[u8]| match (path, &place) {
        (Some(path), _) => root == path,
        (None, Some(place)) if record.roots.len() > 1 => root == place.as_os_str().as_bytes(),
        _ => true,
    };
    let mut live = Vec::new();
    for root in record.roots.iter().filter(|root| is_wanted(&root.path)) {
        let real = place.as_deref().unwrap_or(Path::new(OsStr::from_bytes(&root.path)));
        let source = roots::source(&root.path, real, &options)?;
        live.push(LiveRoot { path: root.path.clone(), source: Arc::new(source) });
    }
    if live.is_empty() {
        let places: Vec<_> = record.roots.iter().map(|root| printable(&root.path)).collect();
        let id = before.id.short();
        return Err(Problem::usage("only whole places of a snapshot can be compared with files")
            .hint(format!("snapshot {id} holds {}: write {id}:/place", places.join(", ")))
            .into());
    }
    Ok(live)
}

fn show(context: &Context, change: &Change) -> std::io::Result<()> {
    let letter = match change.kind {
        ChangeKind::Added => '+',
        ChangeKind::Removed => '-',
        ChangeKind::Modified { kind: true, .. } => 'T',
        ChangeKind::Modified { content: true, .. } => 'M',
        ChangeKind::Modified { .. } => 'm',
    };
    if !context.ui.is_json() {
        return writeln!(context.ui.out(), "{letter} {}", printable(&change.path));
    }
    context.ui.row("change", &json::Change::from(change))
}

fn tell(context: &Context, totals: &DiffTotals) -> Result<()> {
    let DiffTotals { added, removed, changed, touched, unknown, .. } = *totals;
    let DiffTotals { bytes_added, bytes_removed, .. } = *totals;
    if context.ui.is_json() {
        return Ok(context.ui.event("summary", &json::Differences::from(totals))?);
    }
    context.ui.summary(&format!(
        "{} added, {} removed, {} changed, {} touched; {} more, {} less",
        count(added),
        count(removed),
        count(changed),
        count(touched),
        size(bytes_added),
        size(bytes_removed),
    ))?;
    if unknown > 0 {
        context.ui.warn(&format!("{} could not be compared", count(unknown)))?;
    }
    Ok(())
}
