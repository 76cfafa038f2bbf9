//! `info`: a repository or a snapshot in numbers.

use std::ffi::OsString;

use clap::Args;
use holdfast_app::select::Spec;
use holdfast_app::text::{count, duration, printable, size};
use holdfast_app::times::{local, rfc3339};
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::ops::info::{RepositoryInfo, info};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use serde::Serialize;

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

#[derive(Serialize)]
struct Repository {
    location: String,
    id: String,
    created: String,
    encrypted: bool,
    chunk_min: u32,
    chunk_avg: u32,
    chunk_max: u32,
    snapshots: u64,
    partial: u64,
    packs: u64,
    bytes_packs: u64,
    segments: u64,
    bytes_index: u64,
    blobs: u64,
    bytes_plain: u64,
    files: u64,
    bytes_logical: u64,
    compression: f64,
    deduplication: f64,
    savings: f64,
    kinds: Vec<Kind>,
}

#[derive(Serialize)]
struct Kind {
    kind: &'static str,
    blobs: u64,
    bytes_plain: u64,
    bytes_stored: u64,
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
        context.ui.event("info", &event(&info))?;
    } else {
        tell_repository(context, &info)?;
    }
    Ok(Outcome::Done)
}

fn event(info: &RepositoryInfo) -> Repository {
    let [chunk_min, chunk_avg, chunk_max] = info.chunks;
    let kind = |k: &holdfast_engine::ops::info::KindInfo| Kind {
        kind: kind_name(k.kind),
        blobs: k.count,
        bytes_plain: k.plain,
        bytes_stored: k.stored,
    };
    Repository {
        location: info.location.clone(),
        id: info.id.to_string(),
        created: rfc3339(info.created),
        encrypted: info.encrypted,
        chunk_min,
        chunk_avg,
        chunk_max,
        snapshots: info.snapshots,
        partial: info.partial,
        packs: info.packs,
        bytes_packs: info.stored,
        segments: info.segments,
        bytes_index: info.index,
        blobs: info.blobs(),
        bytes_plain: info.plain(),
        files: info.logical.files,
        bytes_logical: info.logical.bytes,
        compression: info.compression(),
        deduplication: info.deduplication(),
        savings: info.savings(),
        kinds: info.kinds.iter().map(kind).collect(),
    }
}

fn kind_name(kind: BlobKind) -> &'static str {
    match kind {
        BlobKind::Chunk => "chunks",
        BlobKind::Bundle => "bundles",
        BlobKind::Node => "tree nodes",
        BlobKind::ChunkList => "chunk lists",
        BlobKind::Totals => "totals",
        BlobKind::Attributes => "attributes",
    }
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
        let name = format!("  {}", kind_name(kind.kind));
        line(&name, format!("{}, {plain}, stored as {stored}", count(kind.count)))?;
    }
    line("compression", format!("{:.2}", info.compression()))?;
    line("deduplication", format!("{:.2}", info.deduplication()))?;
    Ok(line("in all", format!("{:.2} times smaller than its snapshots", info.savings()))?)
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
    let (files, directories, others) =
        (count(sum.files), count(sum.directories), count(sum.others));
    line("in all", &format!("{files} files, {directories} directories, {others} others"))?;
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
