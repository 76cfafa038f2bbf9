//! `digest`: checksums of files in a snapshot, in the format of sha256sum, so that files that
//! were restored can be verified without holdfast.

use std::ffi::OsString;
use std::io::Write;

use clap::Args;
use holdfast_app::select::Spec;
use holdfast_app::text::printable;
use holdfast_engine::Error;
use holdfast_engine::hash::to_hex;
use holdfast_engine::ops::digest::{Algorithm, DigestOptions, FileDigest, digest};
use holdfast_engine::repo::BlobReader;
use serde::Serialize;

use crate::args::Selection;
use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::interrupt;
use crate::ui::json;
use crate::ui::progress::Progress;

/// Print checksums of files in a snapshot, as sha256sum does
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast digest latest:/etc | sha256sum --check --quiet
  holdfast digest 1a2b3c4d:/etc --relative | (cd /tmp/restored && sha256sum -c)")]
pub(crate) struct Digest {
    /// A snapshot, and a file or directory in it
    #[arg(value_name = "SNAPSHOT[:/PATH]")]
    snapshot: OsString,
    /// Paths relative to the directory instead of absolute ones
    #[arg(long)]
    relative: bool,
    /// BLAKE3, as b3sum
    #[arg(long)]
    blake3: bool,
    #[command(flatten)]
    selection: Selection,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    path: json::Path,
    size: u64,
    algorithm: &'a str,
    digest: Option<String>,
    error: &'a str,
}

pub(crate) fn run(context: &Context, options: &Digest) -> Result {
    let filter = options.selection.filter()?;
    let spec = Spec::parse(&options.snapshot)?;
    let repository = context.open()?;
    let (snapshots, index) = context.snapshots_and_index(&repository)?;
    let snapshot = spec.find(snapshots, &filter)?;
    let reader = BlobReader::new(&repository, &index);
    let path = spec.path.unwrap_or_else(|| b"/".to_vec());
    let algorithm = if options.blake3 { Algorithm::Blake3 } else { Algorithm::Sha256 };
    let digest_options = DigestOptions { path: path.clone(), algorithm };
    let progress = Progress::new(&context.ui);
    let mut unwritten = None;
    let mut each = |file: &FileDigest| {
        show(context, options, &path, file).map_err(|e| {
            unwritten = Some(e);
            Error::Interrupted
        })
    };
    let result =
        digest(&reader, &snapshot, &digest_options, &progress, interrupt::watch(), &mut each);
    progress.finish();
    if let Some(error) = unwritten {
        return Err(Failure::Output(error));
    }
    Ok(if result?.unread > 0 { Outcome::Incomplete } else { Outcome::Done })
}

fn show(
    context: &Context,
    options: &Digest,
    base: &[u8],
    file: &FileDigest,
) -> std::io::Result<()> {
    let below = file.path.strip_prefix(base).map(|rest| rest.strip_prefix(b"/").unwrap_or(rest));
    let path = match below {
        Some([]) | None => file.path.rsplit(|c| *c == b'/').next().unwrap_or_default(),
        Some(rest) => rest,
    };
    let path = if options.relative { path } else { &file.path };
    if context.ui.is_json() {
        let row = Row {
            path: json::Path::new(path),
            size: file.size,
            algorithm: if options.blake3 { "blake3" } else { "sha256" },
            digest: file.digest.map(|digest| to_hex(&digest)),
            error: &file.error,
        };
        return context.ui.row("digest", &row);
    }
    let Some(digest) = &file.digest else {
        let why = format!("could not be read at the backup: {}", file.error);
        return context.ui.problem(&printable(path), &why);
    };
    if !file.error.is_empty() {
        // The checksum is that of what there is.
        context.ui.problem(&printable(path), &format!("at the backup: {}", file.error))?;
    }
    let mut line = Vec::with_capacity(path.len() + 70);
    let name = escaped(path);
    if name.is_some() {
        line.push(b'\\');
    }
    line.extend_from_slice(to_hex(digest).as_bytes());
    line.extend_from_slice(b"  ");
    line.extend_from_slice(name.as_deref().unwrap_or(path));
    line.push(b'\n');
    context.ui.out().write_all(&line)
}

/// A name as sha256sum escapes it, if it must be.
fn escaped(name: &[u8]) -> Option<Vec<u8>> {
    if !name.iter().any(|c| matches!(c, b'\\' | b'\n' | b'\r')) {
        return None;
    }
    let mut text = Vec::with_capacity(name.len() + 8);
    for c in name {
        match c {
            b'\\' => text.extend_from_slice(b"\\\\"),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            c => text.push(*c),
        }
    }
    Some(text)
}
