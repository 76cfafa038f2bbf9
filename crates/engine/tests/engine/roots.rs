//! Several roots in one backup: what becomes of the others when one comes to nothing.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::common::{memory, options};
use holdfast_engine::Error;
use holdfast_engine::meta::{Kind, Metadata};
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::backup::{RootSource, backup};
use holdfast_engine::source::{
    Details, SmallRead, Source, SourceDirectory, SourceEntry, SourceError, SourceErrorKind,
    SourceFile, SourceResult, WalkBatch,
};
use holdfast_testkit::MemoryTree;

/// A single file that is gone when it is to be read; or, where the run is to be interrupted, a place
/// of which nothing has been listed by then.
#[derive(Debug)]
struct Nothing(Option<Arc<Interrupt>>);

fn gone<T>() -> SourceResult<T> {
    let (kind, path) = (SourceErrorKind::NotFound, "/late".into());
    Err(SourceError { kind, operation: "read", path, source: None })
}

impl Source for Nothing {
    fn location(&self) -> String {
        "/late".into()
    }

    fn walk(&self, sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>) -> SourceResult<()> {
        if let Some(interrupt) = &self.0 {
            interrupt.raise();
            return Ok(());
        }
        let metadata = Metadata { kind: Kind::File, size: 3000, ..Metadata::default() };
        let entry = SourceEntry { name: Vec::new(), metadata, device: 1, sparse: false };
        let directory = Arc::new(SourceDirectory { path: Vec::new(), handle: None });
        let batch = WalkBatch { directory, entries: vec![entry], errors: Vec::new(), excluded: 0 };
        let _ = sink(batch);
        Ok(())
    }

    fn details(&self, _: &SourceDirectory, _: &SourceEntry) -> SourceResult<Details> {
        gone()
    }

    fn read_small(
        &self,
        _: &SourceDirectory,
        _: &SourceEntry,
        _: usize,
        _: &mut Vec<u8>,
    ) -> SourceResult<SmallRead> {
        gone()
    }

    fn open(&self, _: &SourceDirectory, _: &SourceEntry) -> SourceResult<Box<dyn SourceFile + '_>> {
        gone()
    }
}

fn tree() -> MemoryTree {
    MemoryTree::random(1, 30)
}

#[test]
fn an_interruption_before_the_next_root_has_begun_keeps_the_one_before() {
    let (_, repository) = memory();
    let interrupt = Arc::new(Interrupt::new());
    let mut both = options(tree().source(), 1);
    both.roots.push(RootSource::new("/late", Arc::new(Nothing(Some(interrupt.clone())))));
    let report = backup(&repository, &both, &NoMonitor, &interrupt).expect("backup");
    assert!(report.partial);
    let record = repository.snapshot(report.snapshot.expect("snapshot")).expect("record");
    let roots: Vec<_> = record.roots.iter().map(|root| &root.path[..]).collect();
    assert_eq!(roots, [b"/data"]);
}

#[test]
fn a_file_that_is_gone_when_it_is_read_was_not_an_interruption() {
    let (_, repository) = memory();
    let mut both = options(tree().source(), 1);
    both.roots.push(RootSource::new("/late", Arc::new(Nothing(None))));
    let error = backup(&repository, &both, &NoMonitor, &Interrupt::new()).expect_err("gone");
    let Error::Source(error) = error else { panic!("{error}") };
    assert_eq!((error.kind, &error.path[..]), (SourceErrorKind::NotFound, "/late"));
}
