//! `find`: files by name, size, time, type or content over all snapshots.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use holdfast_app::select::Spec;
use holdfast_app::text::{count, parse_size, plural, printable, printable_os, size};
use holdfast_app::times::local;
use holdfast_app::{Problem, catalogue, patterns, times};
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::meta::Kind;
use holdfast_engine::ops::find::{
    FindOptions, FindReport, Found, FoundVersion, LikeError, content_ids, find,
};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::repo::{BlobReader, Repository};
use holdfast_engine::tree::same::ContentId;
use serde::Serialize;

use crate::args::Selection;
use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::interrupt;
use crate::ui::json;
use crate::ui::progress::Progress;

/// Find files in all snapshots
///
/// Each version of a file (its type, size, time and content) is one line, with the snapshots that
/// hold it. A pattern without a slash fits names, one with a slash the end of a path or, beginning
/// with a slash, a whole path; ** stands for any number of names.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast find report.odt
  holdfast find '*.jpg' --below /home/anna --newer 2026-11-01
  holdfast find --larger 1G --snapshot latest
  holdfast find --like ./found-on-a-stick.pdf")]
pub(crate) struct Find {
    /// Names or shell patterns; several: any of them
    #[arg(value_name = "PATTERN")]
    patterns: Vec<OsString>,
    /// Upper and lower case are the same
    #[arg(long, short)]
    ignore_case: bool,
    /// Only at and below this absolute path
    #[arg(long, value_name = "PATH")]
    below: Option<OsString>,
    /// Only in this snapshot; may be repeated
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Vec<OsString>,
    /// Only this type; may be repeated
    #[arg(long, value_name = "TYPE", value_enum)]
    r#type: Vec<Type>,
    /// Only files of more bytes than this: 4096, 10M
    #[arg(long, value_name = "SIZE")]
    larger: Option<String>,
    /// Only files of fewer bytes than this
    #[arg(long, value_name = "SIZE")]
    smaller: Option<String>,
    /// Only what was modified after then (a date: after that day)
    #[arg(long, value_name = "TIME")]
    newer: Option<String>,
    /// Only what was modified then or before (a date: up to the end of that day)
    #[arg(long, value_name = "TIME")]
    older: Option<String>,
    /// Only files with the same content as this local file
    #[arg(long, value_name = "FILE")]
    like: Option<PathBuf>,
    #[command(flatten)]
    selection: Selection,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Type {
    /// Regular file
    #[value(alias = "f")]
    File,
    /// Directory
    #[value(alias = "d")]
    Dir,
    /// Symbolic link
    #[value(alias = "l")]
    Symlink,
    /// Character device
    #[value(alias = "c")]
    Chardev,
    /// Block device
    #[value(alias = "b")]
    Blockdev,
    /// Named pipe
    #[value(alias = "p")]
    Fifo,
    /// Socket
    #[value(alias = "s")]
    Socket,
}

impl From<Type> for Kind {
    fn from(kind: Type) -> Self {
        match kind {
            Type::File => Self::File,
            Type::Dir => Self::Directory,
            Type::Symlink => Self::Symlink,
            Type::Chardev => Self::CharDevice,
            Type::Blockdev => Self::BlockDevice,
            Type::Fifo => Self::Fifo,
            Type::Socket => Self::Socket,
        }
    }
}

/// Those that were searched, by id.
type Snapshots<'a> = HashMap<SnapshotId, &'a SnapshotInfo>;

#[derive(Serialize)]
struct Summary {
    paths: u64,
    versions: u64,
    snapshots: u64,
    nodes: u64,
    unread: u64,
}

pub(crate) fn run(context: &Context, options: &Find) -> Result {
    let filter = options.selection.filter()?;
    let specs = options.snapshot.iter().map(|text| Spec::parse(text));
    let specs = specs.collect::<std::result::Result<Vec<_>, _>>()?;
    let mut find_options = criteria(options)?;
    let like = options.like.as_ref().map(|path| {
        File::open(path).map_err(|e| catalogue::io("read", path, &e)).map(|file| (path, file))
    });
    let like = like.transpose()?;
    let repository = context.open()?;
    if let Some((path, mut file)) = like {
        find_options.content = Some(content(&repository, path, &mut file)?);
    }
    let (mut snapshots, index) = context.snapshots_and_index(&repository)?;
    if specs.is_empty() {
        snapshots.retain(|snapshot| filter.admits(&snapshot.record));
    } else {
        let wanted: Vec<SnapshotId> = specs
            .iter()
            .map(|spec| spec.find(snapshots.clone(), &filter).map(|found| found.id))
            .collect::<std::result::Result<_, _>>()?;
        snapshots.retain(|snapshot| wanted.contains(&snapshot.id));
    }
    let reader = BlobReader::new(&repository, &index);
    let progress = Progress::new(&context.ui);
    let found = find(&reader, &snapshots, &find_options, &progress, interrupt::watch());
    progress.finish();
    let report = found?;
    let snapshots: Snapshots<'_> = snapshots.iter().map(|s| (s.id, s)).collect();
    for found in &report.found {
        show(context, &snapshots, found)?;
    }
    tell(context, &report)?;
    Ok(if report.unread > 0 { Outcome::Incomplete } else { Outcome::Done })
}

fn criteria(options: &Find) -> Result<FindOptions> {
    let bytes = |text: &Option<String>| {
        let size = text.as_deref().map(|text| {
            parse_size(text).ok_or_else(|| {
                Problem::usage(format!("{text} is no size")).hint("write 4096, 100K, 10M or 1.5G")
            })
        });
        size.transpose()
    };
    let time = |text: &Option<String>| {
        let time = text.as_deref().map(|text| {
            times::parse(text).ok_or_else(|| {
                Problem::usage(format!("{text} is no time"))
                    .hint("write 2026-11-20, 2026-11-20T10:00, \"2 days ago\" or yesterday")
            })
        });
        time.transpose()
    };
    let patterns = options.patterns.iter().map(|pattern| {
        pattern.to_str().map(str::to_owned).ok_or_else(|| {
            Problem::usage(format!("{} is no pattern", printable_os(pattern)))
                .hint("patterns are text; write ? for a byte that is none")
        })
    });
    let patterns = patterns.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(FindOptions {
        below: options.below.as_ref().map(|path| path.as_bytes().to_vec()),
        path: patterns::path_test(&patterns, options.ignore_case)?,
        kinds: options.r#type.iter().map(|kind| Kind::from(*kind)).collect(),
        larger: bytes(&options.larger)?,
        smaller: bytes(&options.smaller)?,
        newer: time(&options.newer)?,
        older: time(&options.older)?,
        ..FindOptions::default()
    })
}

/// What the content of a local file would be stored as.
fn content(repository: &Repository, path: &PathBuf, file: &mut File) -> Result<Vec<ContentId>> {
    content_ids(repository, file).map_err(|error| match error {
        LikeError::Read(e) => catalogue::io("read", path, &e).into(),
        LikeError::Repository(e) => e.into(),
    })
}

fn held_by(version: &FoundVersion) -> u64 {
    version.snapshots.iter().map(|run| run.count).sum()
}

fn show(context: &Context, snapshots: &Snapshots<'_>, found: &Found) -> std::io::Result<()> {
    if context.ui.is_json() {
        for version in &found.versions {
            context.ui.row("version", &json::Version::new(&found.path, version))?;
        }
        return Ok(());
    }
    let mut out = context.ui.out();
    writeln!(out, "{}", printable(&found.path))?;
    for version in &found.versions {
        let m = &version.metadata;
        let bytes = match m.kind {
            Kind::File => size(m.size),
            kind => kind.name().to_owned(),
        };
        let time = local(m.mtime.total_nanos());
        let held = plural(held_by(version), "snapshot", "snapshots");
        let ends = ends(version, snapshots);
        writeln!(out, "  {bytes:>9}  {time}  in {held}: {ends}")?;
    }
    Ok(())
}

/// The oldest and the newest snapshot of a version.
fn ends(version: &FoundVersion, snapshots: &Snapshots<'_>) -> String {
    let find = |id: SnapshotId| snapshots.get(&id).copied();
    let name = |snapshot: &SnapshotInfo| {
        format!("{} {}", snapshot.id.short(), local(snapshot.record.time))
    };
    let time = |snapshot: &&SnapshotInfo| (snapshot.record.time, snapshot.id);
    let first = version.snapshots.iter().filter_map(|run| find(run.first)).min_by_key(time);
    let last = version.snapshots.iter().filter_map(|run| find(run.last)).max_by_key(time);
    match (first, last) {
        (Some(first), Some(last)) if first.id != last.id => {
            format!("{} … {}", name(first), name(last))
        }
        (Some(only), _) => name(only),
        _ => String::new(),
    }
}

fn tell(context: &Context, report: &FindReport) -> Result<()> {
    let paths = report.found.len() as u64;
    let versions = report.found.iter().map(|found| found.versions.len() as u64).sum();
    let FindReport { snapshots, nodes, unread, .. } = *report;
    if context.ui.is_json() {
        let summary = Summary { paths, versions, snapshots, nodes, unread };
        return Ok(context.ui.event("summary", &summary)?);
    }
    context.ui.note(&format!(
        "{} in {}, in {}",
        plural(versions, "version", "versions"),
        plural(paths, "path", "paths"),
        plural(snapshots, "snapshot", "snapshots searched"),
    ))?;
    if unread > 0 {
        let what = format!("{} of the trees could not be read", count(unread));
        context.ui.warn(&format!("{what}; something may be missed: {}", context.line("check")))?;
    }
    Ok(())
}
