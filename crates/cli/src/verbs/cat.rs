//! `cat`: the content of files in a snapshot, to standard output.

use std::ffi::OsString;
use std::io::Write;

use clap::Args;
use holdfast_app::entries;
use holdfast_app::select::Spec;
use holdfast_app::text::printable;
use holdfast_app::{Class, Problem};
use holdfast_engine::Error;
use holdfast_engine::meta::Kind;
use holdfast_engine::repo::BlobReader;
use holdfast_engine::tree::content::read_content;

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
    let (snapshots, index) = context.snapshots_and_index(&repository)?;
    let reader = BlobReader::new(&repository, &index);
    let mut outcome = Outcome::Done;
    for spec in &specs {
        let snapshot = spec.find(snapshots.clone(), &filter)?;
        let path = spec.path.as_deref().unwrap_or(b"/");
        let found = entries::find(&reader, &snapshot, path)?;
        let entry = found.map(|found| found.entry).filter(|e| e.metadata.kind == Kind::File);
        let entry = entry.ok_or_else(|| {
            let text = format!("{} is no regular file", printable(path));
            let line = context.line(&format!("ls {}:{}", spec.text, printable(path)));
            Problem::new(Class::NoSuchPath, text).hint(format!("to see what it is: {line}"))
        })?;
        if !entry.error.is_empty() {
            // What there is of it comes, and is not passed off as whole.
            context.ui.problem(&printable(path), &entry.error)?;
            outcome = Outcome::Incomplete;
        }
        let mut out = context.ui.out();
        let mut unwritten = None;
        let read = read_content(&reader, &entry, &mut |bytes| {
            out.write_all(bytes).map_err(|e| {
                unwritten = Some(e);
                Error::Interrupted
            })
        });
        match unwritten {
            Some(error) => return Err(Failure::Output(error)),
            None => read?,
        };
    }
    for note in reader.healed_notes() {
        context.ui.note(&note)?;
    }
    Ok(outcome)
}
