//! `cat`: the content of files in a snapshot, to standard output.

use std::ffi::OsString;
use std::io::Write;

use clap::Args;
use holdfast_app::select::Spec;
use holdfast_app::text::printable;
use holdfast_app::{Class, Problem};
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::meta::Kind;
use holdfast_engine::repo::BlobReader;
use holdfast_engine::tree::{Content, Entry, chunks};

use super::entries;
use crate::args::Selection;
use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};

/// Write the content of a file in a snapshot to standard output
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast cat latest:/etc/fstab
  holdfast cat 1a2b3c4d:/shop.sql | psql shop")]
pub(crate) struct Cat {
    /// Files in snapshots
    #[arg(required = true, value_name = "SNAPSHOT:/PATH")]
    files: Vec<OsString>,
    #[command(flatten)]
    selection: Selection,
}

pub(crate) fn run(context: &Context, options: &Cat) -> Result {
    let filter = options.selection.filter()?;
    let mut specs = Vec::with_capacity(options.files.len());
    for text in &options.files {
        let spec = Spec::parse(text)?;
        if spec.path.is_none() {
            return Err(Problem::usage(format!("{} names no file", spec.text))
                .hint(format!("write {}:/path/of/a/file", spec.text))
                .into());
        }
        specs.push(spec);
    }
    let repository = context.open()?;
    let index = context.index(&repository)?;
    let reader = BlobReader::new(&repository, &index);
    for spec in &specs {
        let snapshot = context.snapshot(&repository, spec, &filter)?;
        let path = spec.path.as_deref().unwrap_or(b"/");
        let found = entries::find(&reader, &snapshot, path)?;
        let entry = found.map(|found| found.entry).filter(|e| e.metadata.kind == Kind::File);
        let entry = entry.ok_or_else(|| {
            let text = format!("{} is no regular file", printable(path));
            let line = context.line(&format!("ls {}:{}", spec.text, printable(path)));
            Problem::new(Class::NoSuchPath, text).hint(format!("to see what it is: {line}"))
        })?;
        if !entry.error.is_empty() {
            context.ui.problem(&printable(path), &entry.error)?;
        }
        let mut out = context.ui.out();
        write_content(&reader, &entry, &mut |bytes| out.write_all(bytes))?;
    }
    Ok(Outcome::Done)
}

fn write_content(
    reader: &BlobReader<'_>,
    entry: &Entry,
    write: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<()> {
    let mut holes = Holes { entry, extent: 0, offset: 0, write };
    match &entry.content {
        Content::None => {}
        Content::Inline(bytes) => holes.data(bytes)?,
        Content::Member { bundle, number, .. } => {
            let bundle = reader.bundle(bundle)?;
            holes.data(bundle.member(*number)?)?;
        }
        content => {
            let mut failed = None;
            chunks::for_each(reader, content, &mut |chunk| {
                let bytes = reader.read(BlobKind::Chunk, &chunk.id)?;
                holes.data(&bytes).map_err(|e| {
                    failed = Some(e);
                    holdfast_engine::Error::Interrupted
                })
            })
            .map_err(|e| failed.take().map_or(Failure::Engine(e), Failure::Output))?;
        }
    }
    Ok(holes.zeros_to(entry.metadata.size)?)
}

/// Puts the zeros back that sparse files are stored without.
struct Holes<'a> {
    entry: &'a Entry,
    extent: usize,
    offset: u64,
    write: &'a mut dyn FnMut(&[u8]) -> std::io::Result<()>,
}

impl Holes<'_> {
    fn data(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        if self.entry.extents.is_empty() {
            self.offset += bytes.len() as u64;
            return (self.write)(bytes);
        }
        while let Some(extent) = self.entry.extents.get(self.extent) {
            if bytes.is_empty() {
                return Ok(());
            }
            if self.offset < extent.offset {
                self.zeros_to(extent.offset)?;
            }
            let left = extent.offset + extent.length - self.offset;
            let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (head, tail) = bytes.split_at(taken);
            (self.write)(head)?;
            self.offset += taken as u64;
            bytes = tail;
            if taken as u64 == left {
                self.extent += 1;
            }
        }
        Ok(())
    }

    fn zeros_to(&mut self, end: u64) -> std::io::Result<()> {
        // A file that could not be read has a size and no content.
        if self.entry.extents.is_empty() {
            return Ok(());
        }
        let zeros = vec![0; 64 << 10];
        while self.offset < end {
            let length = (end - self.offset).min(zeros.len() as u64);
            (self.write)(zeros.get(..length as usize).unwrap_or_default())?;
            self.offset += length;
        }
        Ok(())
    }
}
