//! A session beside gcs: what it relies on moves with each renewal, so that a gc need not wait for
//! its end, and partial snapshots rely on what has moved.

use std::collections::BTreeSet;

use crate::common::{back_up, blobs, memory};
use holdfast_engine::Result;
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::format::snapshot::Snapshot;
use holdfast_engine::hash::BlobId;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::gc::{GcOptions, GcReport, gc};
use holdfast_engine::repo::notes::Notes;
use holdfast_engine::repo::session::{Session, Writer};
use holdfast_engine::repo::writer::{BlobWriter, WriterOptions, with_writer};
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::storage::Folder;
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{MemoryStorage, MemoryTree};

fn collect(repository: &Repository) -> GcReport {
    let options = GcOptions { threads: 1, max_unused: 0.0, ..GcOptions::default() };
    gc(repository, &options, &NoMonitor, &Interrupt::new(), &mut |_| {}).expect("gc")
}

/// A session relies on a chunk of a snapshot, which is forgotten then; a gc condemns its pack.
fn relying(
    then: impl FnOnce(&MemoryStorage, &Repository, &Session<'_>, &BlobWriter<'_>, BlobId) -> Result<()>,
) {
    let (storage, repository) = memory();
    let mut tree = MemoryTree::new();
    tree.file("f", random_bytes(1, 200_000));
    let old = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
    let writer = Writer { host: "other".into(), time: 1, ..Writer::default() };
    let session = Session::begin(&repository, writer).expect("session");
    // What it writes is younger than it is.
    storage.clock().advance(60);
    let chunk = blobs(session.index()).into_iter().find(|(_, place)| place.kind == BlobKind::Chunk);
    let (chunk, _) = chunk.expect("a chunk");
    with_writer(&repository, session.index(), WriterOptions::default(), |writer| {
        assert!(writer.is_stored(&chunk));
        repository.forget(old, &Notes::default())?;
        let report = collect(&repository);
        assert!(report.condemned.count > 0 && report.waiting.len() == 1, "{report:?}");
        then(&storage, &repository, &session, writer, chunk)
    })
    .expect("session");
}

fn reads(repository: &Repository, chunk: &BlobId) -> bool {
    let index = Index::load(repository, &BTreeSet::new()).expect("index");
    BlobReader::new(repository, &index).read(BlobKind::Chunk, chunk).is_ok()
}

#[test]
fn a_renewal_moves_what_is_relied_on_and_gc_need_not_wait() {
    relying(|storage, repository, session, blobs, chunk| {
        let packs = storage.names_in(Folder::Packs);
        session.renew(blobs)?;
        assert!(blobs.is_stored(&chunk), "where it is now");
        let report = collect(repository);
        assert!(report.waiting.is_empty() && report.deleted.count > 0, "{report:?}");
        let now = storage.names_in(Folder::Packs);
        assert!(packs.iter().all(|pack| !now.contains(pack)), "all that there was is gone");
        assert!(reads(repository, &chunk), "its copy is what the session wrote");
        session.commit(blobs, &Snapshot::default()).map(drop)
    });
}

#[test]
fn partial_snapshots_go_on_after_a_renewal_and_not_before() {
    relying(|_, repository, session, blobs, _| {
        let partial = Snapshot { partial: true, ..Snapshot::default() };
        assert_eq!(session.commit_partial(blobs, &partial)?, None, "its pack is on its way out");
        session.renew(blobs)?;
        assert!(session.commit_partial(blobs, &partial)?.is_some());
        collect(repository);
        assert!(session.commit_partial(blobs, &partial)?.is_some(), "and once the pack is gone");
        session.end("done")
    });
}

#[test]
fn what_is_relied_on_moves_at_the_commit_at_the_latest() {
    relying(|_, repository, session, blobs, chunk| {
        session.commit(blobs, &Snapshot::default())?;
        // Nothing refers to it, but it is there until the gc that begins now.
        let condemned = repository.condemned_packs()?;
        let index = Index::load(repository, &condemned)?;
        assert!(index.find(&chunk)?.is_some());
        Ok(())
    });
}
