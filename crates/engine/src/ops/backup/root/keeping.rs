//! Partial snapshots on the way: what a root has come to so far is kept now and then.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::Result;

use super::{Finished, RootRun, Tally};

/// How what a root has come to so far is kept as a partial snapshot.
pub(in super::super) struct Keeping<'a> {
    pub(in super::super) every: Option<Duration>,
    pub(in super::super) last: &'a Cell<Kept>,
    pub(in super::super) keep: &'a dyn Fn(Finished, &Tally) -> Result<()>,
    /// Renews the lease if it is time.
    pub(in super::super) renew: &'a dyn Fn(),
}

/// When a partial snapshot was last made, or the run began; the plain bytes that were written by
/// then, and the entries that were done.
#[derive(Clone, Copy)]
pub(in super::super) struct Kept {
    pub(in super::super) when: Instant,
    pub(in super::super) bytes: u64,
    pub(in super::super) files: u64,
}

impl RootRun<'_> {
    /// Now and then, if anything was stored and done since: the next run then finds what this one did,
    /// even if this one is killed.
    pub(super) fn keep_partial(&mut self) -> Result<()> {
        (self.parts.keeping.renew)();
        let Keeping { every: Some(every), last, keep, .. } = self.parts.keeping else {
            return Ok(());
        };
        let writer = self.parts.context.writer;
        let before = last.get();
        let (bytes, files) = (writer.written().plain, self.parts.tally.files);
        // The chunks of a file that is still being read are found again without a snapshot.
        if before.when.elapsed() < every || bytes == before.bytes || files == before.files {
            return Ok(());
        }
        let put = |kind, plain| writer.put_structure(kind, plain);
        let (totals, sum) = self.totals.clone().finish(&put)?;
        if let Some(tree) = self.tree.clone().finish(&put)? {
            keep(Finished { tree, totals, sum }, self.parts.tally)?;
        }
        last.set(Kept { when: Instant::now(), bytes: writer.written().plain, files });
        Ok(())
    }
}
