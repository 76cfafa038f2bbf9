//! `archive` into a sink that keeps everything in memory, beside what `restore` makes of the same.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use holdfast_engine::meta::{Kind, Xattr};
use holdfast_engine::monitor::{Interrupt, Monitor, NoMonitor};
use holdfast_engine::ops::archive::{
    ArchiveError, ArchiveOptions, ArchiveReport, Member, Sink, archive,
};
use holdfast_engine::repo::BlobReader;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::tree::Entry;
use holdfast_engine::{Error, hash::BlobId};
use holdfast_testkit::{MemoryTree, TreeOptions};

use crate::common;
use crate::restore::fixture::{Fixture, noise};

/// A member as it came.
#[derive(Debug, Clone)]
struct Kept {
    entry: Entry,
    xattrs: Vec<Xattr>,
    link_to: Option<Vec<u8>>,
    content: Vec<u8>,
}

#[derive(Debug, Default)]
struct Keeper {
    links: bool,
    skips: bool,
    /// Fails after so many bytes.
    room: Option<usize>,
    order: Vec<Vec<u8>>,
    members: BTreeMap<Vec<u8>, Kept>,
    open: Option<Vec<u8>>,
}

impl Sink for Keeper {
    fn holds(&self, kind: Kind) -> bool {
        kind != Kind::Socket
    }

    fn holds_hard_links(&self) -> bool {
        self.links
    }

    fn skips_holes(&self) -> bool {
        self.skips
    }

    fn begin(&mut self, member: &Member<'_>) -> io::Result<()> {
        assert!(self.open.is_none(), "the one before has ended");
        let kept = Kept {
            entry: member.entry.clone(),
            xattrs: member.xattrs.to_vec(),
            link_to: member.link_to.map(<[u8]>::to_vec),
            content: Vec::new(),
        };
        if let Some(first) = &kept.link_to {
            assert!(self.members.contains_key(first), "the first name comes first");
        }
        self.order.push(member.name.to_vec());
        assert!(self.members.insert(member.name.to_vec(), kept).is_none(), "each comes once");
        self.open = member.has_content().then(|| member.name.to_vec());
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(bytes.len()).ok_or_else(|| io::Error::other("full"))?;
        }
        let name = self.open.as_ref().expect("a file is open");
        self.members.get_mut(name).expect("begun").content.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.open.take().expect("a file is open");
        Ok(())
    }
}

fn keeper() -> Keeper {
    Keeper { links: true, ..Keeper::default() }
}

fn write(
    fixture: &Fixture,
    snapshot: &SnapshotInfo,
    options: &ArchiveOptions,
    sink: &mut Keeper,
) -> Result<ArchiveReport, ArchiveError> {
    let index = fixture.index();
    let reader = BlobReader::new(&fixture.repository, &index);
    archive(&reader, snapshot, options, sink, &NoMonitor, &Interrupt::new())
}

fn at(path: &str) -> ArchiveOptions {
    ArchiveOptions { path: Some(path.as_bytes().to_vec()), ..ArchiveOptions::default() }
}

/// The members as a tree says they are. Links are told by their first names.
fn assert_is(sink: &Keeper, tree: &MemoryTree) {
    let kept: Vec<_> = sink.members.keys().filter(|name| !name.is_empty()).cloned().collect();
    let is_kept = |path: &Vec<u8>| tree.node(path).expect("node").metadata.kind != Kind::Socket;
    let mut paths: Vec<_> = tree.paths().into_iter().filter(is_kept).collect();
    paths.sort();
    assert_eq!(kept, paths);
    for (name, kept) in &sink.members {
        let node = tree.node(name).expect("node");
        let shown = name.escape_ascii().to_string();
        assert_eq!(kept.entry.metadata, node.metadata, "{shown}");
        assert_eq!(kept.xattrs, node.xattrs, "{shown}");
        assert_eq!(kept.entry.target, node.target, "{shown}");
        match &kept.link_to {
            Some(first) => {
                assert!(sink.links, "{shown}");
                let other = tree.node(first).expect("node").metadata.inode;
                assert_eq!(other, node.metadata.inode, "{shown}");
            }
            None if node.metadata.kind == Kind::File => {
                let mut content = node.content.to_vec();
                if sink.skips
                    && let Some(extents) = &node.extents
                {
                    let data = extents
                        .iter()
                        .map(|e| &node.content[e.offset as usize..(e.offset + e.length) as usize]);
                    content = data.collect::<Vec<_>>().concat();
                }
                assert!(kept.content == content, "content of {shown}");
            }
            None => {}
        }
    }
}

#[test]
fn members_are_what_was_backed_up() {
    for seed in [1, 2, 3] {
        let options = TreeOptions { entries: 300, privileged: true, ..TreeOptions::default() };
        let mut tree = MemoryTree::generate(seed, &options);
        tree.file("big", noise(1, 3 << 20)).hard_link("zz-link", "big");
        tree.sparse_file("holes", 1 << 20, &[(4096, noise(5, 5000)), (65_536, noise(6, 10))]);
        tree.sparse_file("hole", 1 << 20, &[]);
        tree.node_mut("big").xattrs =
            vec![Xattr { name: b"user.long".to_vec(), value: vec![b'v'; 5000] }];
        let fixture = Fixture::new();
        let snapshot = fixture.backup(&[("/data", &tree)]);
        for (links, skips, window, threads) in
            [(true, true, 32 << 20, 0), (false, false, 100_000, 1), (true, false, 1, 3)]
        {
            let mut sink = Keeper { links, skips, ..Keeper::default() };
            let options = ArchiveOptions { window, threads, ..at("/data") };
            let report = write(&fixture, &snapshot, &options, &mut sink).expect("archive");
            assert_is(&sink, &tree);
            let sum = snapshot.record.roots[0].sum.unwrap_or_default();
            assert_eq!((report.failures, &report.failed[..]), (0, &[][..]));
            assert_eq!(report.files, sum.files);
            assert_eq!(report.directories, sum.directories);
            assert_eq!(report.others + report.left_out, sum.others);
            let first = sink.order.first().map(Vec::len);
            assert_eq!(first, Some(0), "the directory itself comes first");
        }
    }
}

#[test]
fn names_are_those_of_a_restore() {
    let mut tree = MemoryTree::new();
    tree.file("a/b/file", "1").file("a/c", "22");
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/home/anna", &tree), ("/home/zoe/x", &tree)]);
    let names = |options: &ArchiveOptions| {
        let mut sink = keeper();
        write(&fixture, &snapshot, options, &mut sink).expect("archive");
        sink.order.iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect::<Vec<_>>()
    };
    let all = names(&ArchiveOptions::default());
    assert_eq!(all[..3], ["home", "home/zoe", "home/anna"]);
    assert!(all.contains(&"home/zoe/x/a/b/file".to_owned()) && all.len() == 12, "{all:?}");
    assert_eq!(names(&at("/"))[..], all);
    assert_eq!(names(&at("/home/anna/a")), ["", "b", "c", "b/file"]);
    assert_eq!(names(&at("/home/anna/a/c")), ["c"]);
    let above = names(&at("/home"));
    assert_eq!(above[..2], ["zoe", "anna"]);
    assert!(above.contains(&"zoe/x/a/b/file".to_owned()), "{above:?}");
    let filter = |path: &[u8], _: bool| !path.starts_with(b"/home/anna/a/b");
    let filtered = ArchiveOptions { filter: Some(Arc::new(filter)), ..at("/home/anna") };
    assert_eq!(names(&filtered), ["", "a", "a/c"]);
    let mut sink = keeper();
    let error = write(&fixture, &snapshot, &at("/nowhere"), &mut sink).expect_err("nothing there");
    assert!(matches!(error, ArchiveError::Engine(Error::NoSuchPath { .. })), "{error}");
}

#[derive(Debug, Default)]
struct Listener(Mutex<Vec<String>>);

impl Monitor for Listener {
    fn problem(&self, what: &str, _: &str) {
        self.0.lock().expect("lock").push(what.to_owned());
    }
}

#[test]
fn a_damaged_file_is_left_out_whole_or_ends_the_archive() {
    let mut tree = MemoryTree::new();
    tree.file("a", noise(1, 200_000)).file("b", noise(2, 1 << 20)).file("c", noise(3, 200_000));
    tree.hard_link("d", "b");
    let fixture = Fixture::with_chunks(Some(64 << 10));
    let snapshot = fixture.backup(&[("/data", &tree)]);
    // One of the chunks of `b`.
    let index = fixture.index();
    let reader = BlobReader::new(&fixture.repository, &index);
    let root = BlobId::from_slice(&snapshot.record.roots[0].tree).expect("id");
    let found = holdfast_engine::tree::TreeReader::new(&reader, root).lookup(b"b").expect("look");
    let holdfast_engine::tree::Content::Chunks(chunks) = found.expect("b").entry.content else {
        panic!("chunks")
    };
    let place = index.find_any(&chunks[9].id).expect("index").expect("place");
    let pack = index.pack(place.pack).expect("index").expect("pack");
    let name = holdfast_engine::storage::ObjectName::pack(pack.id);
    fixture.storage.corrupt(&name, |bytes| bytes[place.offset as usize + 100] ^= 1);
    drop(reader);

    let listener = Listener::default();
    let mut sink = keeper();
    let reader = BlobReader::new(&fixture.repository, &index);
    let interrupt = Interrupt::new();
    let report = archive(&reader, &snapshot, &at("/data"), &mut sink, &listener, &interrupt);
    let report = report.expect("archive");
    assert_eq!(sink.order, [&b""[..], b"a", b"c"]);
    let failed: Vec<_> = report.failed.iter().map(|(path, _)| path.as_slice()).collect();
    assert_eq!((report.failures, failed), (2, vec![&b"/data/b"[..], b"/data/d"]));
    assert!(report.failed[0].1.contains("packs/"), "{:?}", report.failed);
    assert_eq!(*listener.0.lock().expect("lock"), ["/data/b", "/data/d"]);
    assert!(sink.members[&b"c".to_vec()].content == noise(3, 200_000));

    // With windows smaller than the file its beginning is out before the damage is met.
    let options = ArchiveOptions { window: 300_000, ..at("/data") };
    let error = write(&fixture, &snapshot, &options, &mut keeper()).expect_err("damage");
    let text = error.to_string();
    assert!(matches!(error, ArchiveError::Engine(Error::Damaged { .. })), "{text}");
    assert!(text.contains("/data/b"), "{text}");
}

#[test]
fn a_sink_that_fails_and_an_interruption_end_it() {
    let mut tree = MemoryTree::new();
    for number in 0..20 {
        tree.file(format!("{number}"), noise(number, 100_000));
    }
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let options = ArchiveOptions { window: 150_000, ..at("/data") };
    let mut sink = Keeper { room: Some(500_000), ..keeper() };
    let error = write(&fixture, &snapshot, &options, &mut sink).expect_err("full");
    assert!(matches!(&error, ArchiveError::Output(e) if e.to_string() == "full"), "{error}");
    let interrupt = Interrupt::new();
    interrupt.raise();
    let index = fixture.index();
    let reader = BlobReader::new(&fixture.repository, &index);
    let ended = archive(&reader, &snapshot, &options, &mut keeper(), &NoMonitor, &interrupt);
    assert!(matches!(ended, Err(ArchiveError::Engine(Error::Interrupted))));
}

#[test]
fn small_files_may_lie_in_many_bundles() {
    // Files of one directory that were backed up one by one lie in bundles of their own, together
    // with much that is not wanted.
    let (_, repository) = common::memory();
    let mut tree = MemoryTree::new();
    for round in 0..6_u64 {
        tree.file(format!("wanted/{round}"), noise(round, 4000));
        for other in 0..40 {
            tree.file(format!("other/{round}-{other}"), noise(round * 100 + other + 7, 20_000));
        }
        common::back_up(&repository, &tree, round as i64);
    }
    let snapshot = repository.snapshots().expect("snapshots").pop().expect("one");
    let index =
        holdfast_engine::repo::Index::load(&repository, &Default::default()).expect("index");
    let reader = BlobReader::new(&repository, &index);
    let mut sink = keeper();
    let options = ArchiveOptions { window: 1 << 20, ..at("/data/wanted") };
    archive(&reader, &snapshot, &options, &mut sink, &NoMonitor, &Interrupt::new())
        .expect("archive");
    assert_eq!(sink.order.len(), 7);
    for round in 0..6_u64 {
        assert!(sink.members[format!("{round}").as_bytes()].content == noise(round, 4000));
    }
}
