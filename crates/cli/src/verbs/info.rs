//! `info`: a repository or a snapshot in numbers.

use std::ffi::OsString;

use clap::Args;
use holdfast_app::json::{Repository, blob_kind_name};
use holdfast_app::select::Spec;
use holdfast_app::text::{count, duration, plural, printable, size};
use holdfast_app::times::local;
use holdfast_engine::ops::info::{RepositoryInfo, info};
use holdfast_engine::repo::snapshots::SnapshotInfo;

use crate::args::Selection;
use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::ui::json;

/// Show a repository or a snapshot in numbers
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast at /mnt/disk/backups info
  holdfast info latest")]
pub(crate) struct Info {
    /// A snapshot; without: the repository
    #[arg(value_name = "SNAPSHOT")]
    snapshot: Option<OsString>,
    #[command(flatten)]
    selection: Selection,
}

pub(crate) fn run(context: &Context, options: &Info) -> Result {
    let filter = options.selection.filter()?;
    let spec = options.snapshot.as_deref().map(Spec::parse).transpose()?;
    let repository = context.open()?;
    if let Some(spec) = spec {
        let snapshot = context.snapshot(&repository, &spec, &filter)?;
        tell_snapshot(context, &snapshot)?;
        return Ok(Outcome::Done);
    }
    let index = context.index(&repository)?;
    let info = info(&repository, &index)?;
    if context.ui.is_json() {
        context.ui.event("info", &Repository::from(&info))?;
    } else {
        tell_repository(context, &info)?;
    }
    Ok(Outcome::Done)
}

fn tell_repository(context: &Context, info: &RepositoryInfo) -> Result<()> {
    let line = |name: &str, text: String| context.ui.line(&format!("{name:<15} {text}"));
    let partial = match info.partial {
        0 => String::new(),
        n => format!(", {} of them of interrupted runs", count(n)),
    };
    line("location", printable(info.location.as_bytes()))?;
    line("id", info.id.to_string())?;
    line("created", local(info.created))?;
    line("encrypted", if info.encrypted { "yes" } else { "NO" }.into())?;
    line("snapshots", format!("{}{partial}", count(info.snapshots)))?;
    let files = count(info.logical.files);
    line("they hold", format!("{} in {files} files", size(info.logical.bytes)))?;
    line("stored", format!("{} in {} packs", size(info.stored), count(info.packs)))?;
    line("index", format!("{} in {} segments", size(info.index), count(info.segments)))?;
    line("different data", format!("{} in {} blobs", size(info.plain()), count(info.blobs())))?;
    for kind in info.kinds.iter().filter(|kind| kind.count > 0) {
        let (plain, stored) = (size(kind.plain), size(kind.stored));
        let name = format!("  {}", blob_kind_name(kind.kind));
        line(&name, format!("{}, {plain}, stored as {stored}", count(kind.count)))?;
    }
    line("compression", format!("{:.2}", info.compression()))?;
    line("deduplication", format!("{:.2}", info.deduplication()))?;
    let savings = info.savings();
    // What every repository holds weighs more than the first few files.
    let in_all = match savings < 1.0 && savings > 0.0 {
        true => format!("{:.2} times larger than its snapshots", 1.0 / savings),
        false => format!("{savings:.2} times smaller than its snapshots"),
    };
    Ok(line("in all", in_all)?)
}

fn tell_snapshot(context: &Context, snapshot: &SnapshotInfo) -> Result<()> {
    if context.ui.is_json() {
        return Ok(context.ui.event("snapshot", &json::Snapshot::from(snapshot))?);
    }
    let record = &snapshot.record;
    let line = |name: &str, text: &str| {
        let text = printable(text.as_bytes());
        if text.is_empty() { Ok(()) } else { context.ui.line(&format!("{name:<15} {text}")) }
    };
    let sum = record.sum();
    line("snapshot", &snapshot.id.to_string())?;
    line("begun", &local(record.time))?;
    line("host", &record.host)?;
    line("user", &record.user)?;
    line("kind", &record.kind)?;
    line("tags", &record.tags.join(","))?;
    line("description", &record.description)?;
    line("made by", &record.program)?;
    line("partial", if record.partial { "yes: the run was interrupted" } else { "" })?;
    line("pinned", if record.pinned { "yes: no rule forgets it" } else { "" })?;
    line("compared with", &holdfast_engine::hash::to_hex(&record.parent))?;
    if let Some(origin) = &record.origin {
        let [snapshot, repository] =
            [&origin.snapshot, &origin.repository].map(|id| holdfast_engine::hash::to_hex(id));
        line("copied from", &format!("{snapshot} of repository {repository}"))?;
    }
    for root in &record.roots {
        let (sum, path) = (root.sum.unwrap_or_default(), printable(&root.path));
        let files = count(sum.files);
        line("place", &format!("{path}: {} in {files} files", size(sum.bytes)))?;
    }
    let files = plural(sum.files, "file", "files");
    let directories = plural(sum.directories, "directory", "directories");
    let others = plural(sum.others, "other", "others");
    line("in all", &format!("{files}, {directories}, {others}"))?;
    if let Some(stats) = &record.stats {
        let (new, changed) = (count(stats.files_new), count(stats.files_changed));
        let same = count(stats.files_unchanged);
        line("files", &format!("{new} new, {changed} changed, {same} unchanged"))?;
        let (read, stored) = (size(stats.bytes_read), size(stats.bytes_stored));
        let time = duration(std::time::Duration::from_nanos(stats.nanos));
        line("bytes", &format!("{read} read, {stored} stored; {time}"))?;
    }
    for unread in &record.unread {
        line("unread", &format!("{}: {}", printable(&unread.path), unread.reason))?;
    }
    line("left out", &record.excludes.join("  "))?;
    Ok(())
}
