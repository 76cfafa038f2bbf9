//! `ls`: the snapshots of a repository, or the entries of one snapshot.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;

use clap::Args;
use holdfast_app::entries::{self, mode_text};
use holdfast_app::select::Spec;
use holdfast_app::text::{count, printable, size};
use holdfast_app::times::local;
use holdfast_engine::Error;
use holdfast_engine::error::chain_text;
use holdfast_engine::hash::BlobId;
use holdfast_engine::meta::{Kind, Metadata};
use holdfast_engine::repo::BlobReader;
use holdfast_engine::repo::snapshots::{Filter, SnapshotInfo};
use holdfast_engine::tree::view::{self, Located};
use holdfast_engine::tree::{Entry, split, totals};

use crate::args::Selection;
use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::ui::json;
use crate::ui::table::{Align, Table};

/// List snapshots, or files in one
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast at /mnt/disk/backups ls
  holdfast ls --tag home --before yesterday
  holdfast ls latest:/home/anna --long --human
  holdfast ls 1a2b3c4d -r")]
pub(crate) struct Ls {
    /// A snapshot, and a directory in it; without: list the snapshots
    #[arg(value_name = "SNAPSHOT[:/PATH]")]
    snapshot: Option<OsString>,
    #[command(flatten)]
    selection: Selection,
    /// Whole ids; for files mode, owner, size and time
    #[arg(long, short)]
    long: bool,
    /// All that lies below
    #[arg(long, short)]
    recursive: bool,
    /// Sizes with a unit
    #[arg(long)]
    human: bool,
}

pub(crate) fn run(context: &Context, options: &Ls) -> Result {
    let filter = options.selection.filter()?;
    let spec = options.snapshot.as_deref().map(Spec::parse).transpose()?;
    let repository = context.open()?;
    let Some(spec) = spec else {
        let (all, _) = context.snapshots(&repository)?;
        return list_snapshots(context, options, &filter, &all);
    };
    let (snapshots, index) = context.snapshots_and_index(&repository)?;
    let snapshot = spec.find(snapshots, &filter)?;
    let reader = BlobReader::new(&repository, &index);
    let path = match &spec.path {
        Some(path) => path.clone(),
        // A snapshot of one place shows that place; its name is not shown by its entries.
        None => match &snapshot.record.roots[..] {
            [root] => {
                if !options.recursive && !context.ui.is_json() {
                    context.ui.line(&format!("{}:", printable(&root.path)))?;
                }
                root.path.clone()
            }
            _ => b"/".to_vec(),
        },
    };
    list_entries(context, options, &reader, &snapshot, &path)
}

fn list_snapshots(
    context: &Context,
    options: &Ls,
    filter: &Filter,
    all: &[SnapshotInfo],
) -> Result {
    let fitting = || all.iter().filter(|info| filter.admits(&info.record));
    if context.ui.is_json() {
        for info in fitting() {
            context.ui.row("snapshot", &json::Snapshot::from(info))?;
        }
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("DATE", Align::Left),
        ("HOST", Align::Left),
        ("SIZE", Align::Right),
        ("FILES", Align::Right),
        ("TAGS", Align::Left),
        ("PATHS", Align::Left),
        ("", Align::Left),
    ]);
    for info in fitting() {
        let record = &info.record;
        let sum = record.sum();
        let paths: Vec<_> = record.roots.iter().map(|root| printable(&root.path)).collect();
        let mut remarks = Vec::new();
        if record.partial {
            remarks.push("partial".to_owned());
        }
        if record.pinned {
            remarks.push("pinned".to_owned());
        }
        if sum.errors > 0 {
            remarks.push(format!("{} unread", count(sum.errors)));
        }
        if options.long && !record.description.is_empty() {
            remarks.push(printable(record.description.as_bytes()));
        }
        table.add(vec![
            if options.long { info.id.to_string() } else { info.id.short() },
            local(record.time),
            printable(record.host.as_bytes()),
            size(sum.bytes),
            count(sum.files),
            printable(record.tags.join(",").as_bytes()),
            paths.join(" "),
            remarks.join("; "),
        ]);
    }
    if table.is_empty() {
        let hidden = all.iter().filter(|info| info.record.partial).count();
        context.ui.note(if all.is_empty() { "no snapshots yet" } else { "no snapshot fits" })?;
        if hidden > 0 && !options.selection.partial {
            context
                .ui
                .note(&format!("{hidden} of interrupted runs: {}", context.line("ls --partial")))?;
        }
    } else {
        table.write(&mut *context.ui.out())?;
    }
    Ok(Outcome::Done)
}

fn list_entries(
    context: &Context,
    options: &Ls,
    reader: &BlobReader<'_>,
    snapshot: &SnapshotInfo,
    path: &[u8],
) -> Result {
    if context.ui.is_json() {
        let mut each = |path: &[u8], entry: &Entry| -> Result<()> {
            let row = json::Entry::new(path, &entry.metadata, &entry.target, &entry.error);
            Ok(context.ui.row("entry", &row)?)
        };
        entries::list(reader, snapshot, path, options.recursive, &mut each)?;
        return Ok(Outcome::Done);
    }
    let below = if options.long && !options.recursive {
        directory_sizes(context, reader, snapshot, path)?
    } else {
        HashMap::new()
    };
    let mut out = context.ui.out();
    let mut each = |path: &[u8], entry: &Entry| -> Result<()> {
        let name = if options.recursive { path } else { split(path).1 };
        if options.long {
            let m = &entry.metadata;
            let total = below.get(&entry.name).copied();
            write_long(&mut *out, m, total.unwrap_or(m.size), options.human)?;
        }
        out.write_all(printable(name).as_bytes())?;
        if entry.metadata.kind == Kind::Directory {
            out.write_all(b"/")?;
        }
        if options.long && entry.metadata.kind == Kind::Symlink {
            write!(out, " -> {}", printable(&entry.target))?;
        }
        if options.long && !entry.error.is_empty() {
            write!(out, "  ({})", printable(entry.error.as_bytes()))?;
        }
        Ok(out.write_all(b"\n")?)
    };
    entries::list(reader, snapshot, path, options.recursive, &mut each)?;
    Ok(Outcome::Done)
}

/// Bytes below each directory in `path`, which the repository keeps ready. Where they are lost, the
/// entries are listed without them.
fn directory_sizes(
    context: &Context,
    reader: &BlobReader<'_>,
    snapshot: &SnapshotInfo,
    path: &[u8],
) -> Result<HashMap<Vec<u8>, u64>> {
    let Some(Located::Within { root, path }) = view::locate(&snapshot.record, path) else {
        return Ok(HashMap::new());
    };
    let Some(id) = BlobId::from_slice(&root.totals) else { return Ok(HashMap::new()) };
    match totals::children(reader, &id, &path) {
        Ok(lines) => {
            let bytes = lines.into_iter().map(|l| (l.name, l.sum.unwrap_or_default().bytes));
            Ok(bytes.collect())
        }
        Err(error @ (Error::Damaged { .. } | Error::MissingBlob { .. })) => {
            let (text, check) = (chain_text(&error), context.line("check"));
            context.ui.warn(&format!("sizes of directories are not known: {text}; see {check}"))?;
            Ok(HashMap::new())
        }
        Err(error) => Err(error.into()),
    }
}

fn write_long(out: &mut impl Write, m: &Metadata, bytes: u64, human: bool) -> std::io::Result<()> {
    let name = |name: &str, number: u32| {
        if name.is_empty() { number.to_string() } else { printable(name.as_bytes()) }
    };
    let owner = name(&m.owner.user, m.owner.uid);
    let group = name(&m.owner.group, m.owner.gid);
    let bytes = match m.device {
        Some((major, minor)) => format!("{major},{minor}"),
        None if human => size(bytes),
        None => bytes.to_string(),
    };
    let time = local(m.mtime.total_nanos());
    let (mode, width) = (mode_text(m.kind, m.mode), if human { 8 } else { 12 });
    write!(out, "{mode} {owner:<8} {group:<8} {bytes:>width$} {time} ")
}
