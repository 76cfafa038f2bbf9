//! `archive`: a snapshot, or a part of it, as tar or zip.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use holdfast_app::archive::{Format, OutputFile, write_archive};
use holdfast_app::select::Spec;
use holdfast_app::text::{count, plural, printable_os, shell_word, size};
use holdfast_app::{Problem, catalogue, patterns, roots};
use holdfast_engine::Error;
use holdfast_engine::ops::archive::{ArchiveError, ArchiveOptions, ArchiveReport};
use holdfast_engine::repo::BlobReader;
use serde::Serialize;

use crate::args::Selection;
use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::interrupt;
use crate::ui::progress::Progress;

/// Write a snapshot as a tar or zip archive
///
/// Without a path all paths are in it; SNAPSHOT:/etc puts what is in /etc at the top. tar keeps
/// everything but sockets: unpack with tar -x --xattrs --xattrs-include=* --acls
/// --delay-directory-restore. zip keeps files, directories, symbolic links, permissions and times.
/// Every byte is verified. A damaged file is left out and named; one of more
/// than 32 MiB ends the archive, since its beginning is written by then.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast archive latest --to /tmp/home.tar.zst
  holdfast archive 1a2b3c4d:/srv/www --to www.zip
  holdfast archive latest:/etc | ssh web2 tar -x -C /tmp/etc --xattrs --acls")]
pub(crate) struct Archive {
    /// A snapshot, and a path in it
    #[arg(value_name = "SNAPSHOT[:/PATH]")]
    snapshot: OsString,
    /// File to write; standard output if there is none, or -
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Which kind; else as the file's name says, else tar
    #[arg(long, value_name = "FORMAT", value_enum)]
    format: Option<Kind>,
    /// Replace a file that is there
    #[arg(long, requires = "to")]
    overwrite: bool,
    /// Not what fits this .gitignore rule; may be repeated
    #[arg(long, value_name = "RULE")]
    exclude: Vec<String>,
    #[command(flatten)]
    selection: Selection,
}

/// What an archive looks like.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// tar
    Tar,
    /// tar, compressed with zstd
    #[value(name = "tar.zst")]
    TarZst,
    /// zip
    Zip,
}

impl From<Kind> for Format {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Tar => Self::Tar,
            Kind::TarZst => Self::TarZst,
            Kind::Zip => Self::Zip,
        }
    }
}

#[derive(Serialize)]
struct Summary {
    snapshot: String,
    target: String,
    format: &'static str,
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    left_out: u64,
    failures: u64,
}

pub(crate) fn run(context: &Context, options: &Archive) -> Result {
    let filter = options.selection.filter()?;
    let spec = Spec::parse(&options.snapshot)?;
    let to = options.to.as_deref().filter(|path| path.as_os_str() != "-");
    let format = format(options, to)?;
    check_output(context, to)?;
    let chosen = patterns::archive_filter(&options.exclude).map_err(|e| roots::bad_rule(&e))?;
    let repository = context.open()?;
    let (snapshots, index) = context.snapshots_and_index(&repository)?;
    let snapshot = spec.find(snapshots, &filter)?;
    let reader = BlobReader::new(&repository, &index);
    let mut archive_options =
        ArchiveOptions { path: spec.path.clone(), filter: chosen, ..ArchiveOptions::default() };
    if let Some(memory) = context.memory()? {
        // Two windows are in memory at once, and what is read for them.
        archive_options.window = archive_options.window.min(memory as u64 / 4);
        archive_options.threads = context.reading_threads(0)?;
    }
    let mut file = to.map(|path| OutputFile::create(path, options.overwrite)).transpose()?;
    let mut stdout = io::stdout();
    let out: &mut dyn Write = match &mut file {
        Some(file) => file,
        None => &mut stdout,
    };
    let progress = Progress::new(&context.ui);
    let watch = interrupt::watch();
    let result = write_archive(&reader, &snapshot, &archive_options, format, out, &progress, watch);
    progress.finish();
    let report = result.map_err(|error| failure(error, to))?;
    if let Some(file) = file {
        file.commit()?;
    }
    let target = to.map_or(OsStr::new("-"), Path::as_os_str);
    tell(context, &snapshot.id.to_string(), target, format, &report)?;
    Ok(if report.failures > 0 { Outcome::Incomplete } else { Outcome::Done })
}

fn format(options: &Archive, to: Option<&Path>) -> Result<Format> {
    let Some(path) = to.filter(|_| options.format.is_none()) else {
        return Ok(options.format.map_or_else(Format::default, Format::from));
    };
    // A device or pipe has no telling name.
    if path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Ok(Format::default());
    }
    Ok(Format::of(path).ok_or_else(|| {
        Problem::usage(format!("the name {} tells no format", printable_os(path)))
            .hint("end it in .tar, .tar.zst or .zip, or say --format")
    })?)
}

/// Refuses to mix an archive with what is for eyes or programs.
fn check_output(context: &Context, to: Option<&Path>) -> Result<()> {
    if to.is_some() {
        return Ok(());
    }
    if io::stdout().is_terminal() {
        return Err(Problem::usage("an archive is nothing for a terminal")
            .hint("say --to FILE, or redirect the output")
            .into());
    }
    if context.ui.is_json() {
        return Err(Problem::usage("--json and the archive would both go to standard output")
            .hint("say --to FILE")
            .into());
    }
    Ok(())
}

fn failure(error: ArchiveError, to: Option<&Path>) -> Failure {
    match (error, to) {
        // Even if the reader has had enough: what it got is no archive.
        (ArchiveError::Output(e), None) => catalogue::io("write to", "standard output", &e).into(),
        (ArchiveError::Output(e), Some(path)) => catalogue::io("write", path, &e).into(),
        (ArchiveError::Engine(error @ Error::Damaged { .. }), _) => {
            let problem = Failure::Engine(error).explain(None);
            let text =
                "leave that file out with --exclude, or use restore, which keeps all the rest";
            problem.hint(text).into()
        }
        (ArchiveError::Engine(error), _) => error.into(),
    }
}

fn tell(
    context: &Context,
    snapshot: &str,
    target: &OsStr,
    format: Format,
    report: &ArchiveReport,
) -> Result<()> {
    let ui = &context.ui;
    let ArchiveReport { files, directories, others, bytes, left_out, failures, .. } = *report;
    if ui.is_json() {
        let summary = Summary {
            snapshot: snapshot.to_owned(),
            target: printable_os(target),
            format: format.name(),
            files,
            directories,
            others,
            bytes,
            left_out,
            failures,
        };
        return Ok(ui.event("summary", &summary)?);
    }
    // Standard output may be the archive.
    ui.note(&format!(
        "archived {}, {}, {} to {}",
        plural(files, "file", "files"),
        plural(directories, "directory", "directories"),
        size(bytes),
        if target == "-" { "standard output".to_owned() } else { shell_word(target) },
    ))?;
    if left_out > 0 {
        ui.note(&format!("{} of a kind that {} cannot hold", count(left_out), format.name()))?;
    }
    if failures > 0 {
        let what = plural(failures, "entry", "entries");
        ui.warn(&format!("{what} could not be archived; all the rest is there"))?;
    }
    Ok(())
}
