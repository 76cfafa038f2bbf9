//! `check` on whole, crooked and unlucky repositories, and `digest`, `info`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::common::{back_up, blobs, memory, options, repository, run};
use crate::repair_packs::mend;
use holdfast_engine::Error;
use holdfast_engine::bundle;
use holdfast_engine::compress::Level;
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::hash::{Sha256, SnapshotId};
use holdfast_engine::meta::Kind;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::check::{CheckOptions, CheckReport, Finding, ReadData, Severity, check};
use holdfast_engine::ops::digest::{Algorithm, DigestOptions, digest};
use holdfast_engine::ops::info::info;
use holdfast_engine::repo::open::{CreateOptions, create};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::repo::writer::{Copied, CopiedContent, WriterOptions, with_writer};
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::storage::{Folder, ObjectName};
use holdfast_testkit::clock::{random_bytes, text_bytes};
use holdfast_testkit::{Fault, FaultStorage, MemoryStorage, MemoryTree, Operation};

/// Something of everything: small, bundled and big files, links, holes, devices, attributes.
pub(crate) fn rich_tree() -> MemoryTree {
    let mut tree = MemoryTree::new();
    for i in 0..200_u64 {
        tree.file(format!("many/d{}/f{i}", i % 9), text_bytes(i, (i * i) as usize % 5000));
    }
    tree.file("big", random_bytes(1, 6 << 20)).hard_link("same", "big").symlink("link", "big");
    tree.file("empty", "").directory("void").special("tty", Kind::CharDevice, Some((5, 1)));
    tree.sparse_file(
        "sparse",
        2 << 20,
        &[(4096, vec![1; 8192]), (1 << 20, random_bytes(2, 200_000))],
    );
    tree.sparse_file("hole", 1 << 20, &[]);
    tree
}

fn check_with(repository: &Repository, read_data: ReadData) -> CheckReport {
    let how = CheckOptions { read_data, ..CheckOptions::default() };
    check(repository, &how, &NoMonitor, &Interrupt::new()).expect("check")
}

pub(crate) fn snapshot(repository: &Repository, id: SnapshotId) -> SnapshotInfo {
    SnapshotInfo { id, record: repository.snapshot(id).expect("snapshot") }
}

#[test]
fn whole_repositories_pass() {
    for chunk_fixed in [None, Some(64 << 10)] {
        let storage = MemoryStorage::new();
        let create_options = CreateOptions { chunk_fixed, ..CreateOptions::default() };
        let repository = create(Arc::new(storage.clone()), create_options).expect("create");
        assert_eq!(check_with(&repository, ReadData::All).findings, []);
        let mut tree = rich_tree();
        back_up(&repository, &tree, 1);
        tree.remove("many/d3")
            .file("many/d4/new", "new")
            .set_content("big", random_bytes(3, 5 << 20));
        back_up(&repository, &tree, 2);
        let report = check_with(&repository, ReadData::All);
        assert_eq!(report.findings, [], "{report:#?}");
        assert_eq!((report.snapshots, report.orphans_total), (2, 0));
        assert_eq!(
            (report.packs_read, report.packs as usize),
            (report.packs, storage.names_in(Folder::Packs).len())
        );
        assert!(report.nodes >= 4 && report.entries > 200 && report.bytes_read > 5 << 20);
        let structure = check_with(&repository, ReadData::No);
        assert_eq!((structure.nodes, structure.packs_read), (report.nodes, 0));
    }
}

#[test]
fn a_subset_of_packs_is_read() {
    let storage = MemoryStorage::new();
    let repository = repository(storage);
    let mut tree = MemoryTree::new();
    for time in 1..=6 {
        tree.file(format!("f{time}"), random_bytes(time, 150_000));
        back_up(&repository, &tree, time as i64);
    }
    let read = |fraction, seed| check_with(&repository, ReadData::Subset { fraction, seed });
    assert_eq!(read(0.0, 1).packs_read, 1);
    assert_eq!(read(0.5, 1).packs_read, 6);
    assert_eq!(read(1.0, 1).packs_read, 12);
    let oldest = repository.snapshots().expect("list").remove(0).id;
    let options = CheckOptions {
        read_data: ReadData::All,
        snapshots: Some(vec![oldest]),
        ..CheckOptions::default()
    };
    let report = check(&repository, &options, &NoMonitor, &Interrupt::new()).expect("check");
    assert_eq!((report.snapshots, report.packs_read), (1, 2));
    let options = CheckOptions { snapshots: Some(vec![SnapshotId::default()]), ..options };
    let result = check(&repository, &options, &NoMonitor, &Interrupt::new());
    assert!(matches!(result, Err(Error::NoSuchSnapshot { .. })));
}

#[test]
fn packs_of_an_interrupted_run_are_no_damage() {
    let storage = MemoryStorage::new();
    let repository = repository(storage.clone());
    back_up(&repository, &rich_tree(), 1);
    let segments = storage.names_in(Folder::Index);
    let mut more = rich_tree();
    more.file("more", random_bytes(9, 300_000));
    let id = back_up(&repository, &more, 2).snapshot.expect("snapshot");
    storage.remove(&ObjectName::snapshot(id));
    storage.remove(&ObjectName::session_end(id));
    for name in storage.names_in(Folder::Index).iter().filter(|n| !segments.contains(n)) {
        storage.remove(name);
    }
    let report = check_with(&repository, ReadData::All);
    assert_eq!(report.findings, []);
    assert!(report.orphans_total >= 2);
}

#[test]
fn a_lost_segment_costs_nothing_that_cannot_be_undone() {
    let storage = MemoryStorage::new();
    let repository = repository(storage.clone());
    let id = back_up(&repository, &rich_tree(), 1).snapshot.expect("snapshot");
    for name in storage.names_in(Folder::Index) {
        storage.remove(&name);
    }
    let report = check_with(&repository, ReadData::No);
    assert_eq!((report.findings_total, report.orphans_total), (report.unlisted, 0), "{report:#?}");
    for finding in &report.findings {
        assert!(finding.what.contains("repair index"), "{finding:?}");
        assert_eq!(finding.snapshots, [id]);
    }
    // The walk went on through the packs that no segment lists.
    assert!(report.entries > 200);
}

#[test]
fn a_missing_pack_names_the_files_it_hits_and_no_others() {
    let storage = MemoryStorage::new();
    let repository = repository(storage.clone());
    let mut tree = MemoryTree::new();
    tree.file("a/old", random_bytes(1, 300_000)).file("b", "inline");
    let first = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
    let before = storage.names_in(Folder::Packs);
    tree.file("a/new", random_bytes(2, 300_000)).file("c", text_bytes(1, 9000));
    let second = back_up(&repository, &tree, 2).snapshot.expect("snapshot");
    let is_data = |n: &ObjectName| storage.dump().0[n].bytes[9] == 1;
    let packs = storage.names_in(Folder::Packs);
    let new = packs.iter().find(|n| !before.contains(n) && is_data(n)).expect("a data pack");
    let old = before.iter().find(|n| is_data(n)).expect("a data pack");
    storage.remove(new);
    storage.corrupt(old, |bytes| bytes[500] ^= 1);
    // Damage inside data shows only when data is read.
    let report = check_with(&repository, ReadData::No);
    assert_eq!(report.findings_total, 1);
    let report = check_with(&repository, ReadData::All);
    let of = |name: &ObjectName| {
        let found = report.findings.iter().find(|f| f.object == name.as_str()).expect("finding");
        let paths: BTreeSet<_> = found.paths.iter().cloned().collect();
        (found.snapshots.clone(), paths)
    };
    let a_new = (second, b"/data/a/new".to_vec());
    let c = (second, b"/data/c".to_vec());
    assert_eq!(of(new), (vec![second], [a_new, c].into()));
    let old_in = |id| (id, b"/data/a/old".to_vec());
    assert_eq!(of(old), (vec![first, second], [old_in(first), old_in(second)].into()));
    assert_eq!(report.findings_total, 2);
}

#[test]
fn a_copy_elsewhere_makes_damage_harmless() {
    let storage = MemoryStorage::new();
    let repository = repository(storage.clone());
    let mut tree = MemoryTree::new();
    tree.file("f", random_bytes(1, 300_000));
    back_up(&repository, &tree, 1);
    let pack =
        storage.names_in(Folder::Packs).into_iter().find(|n| storage.dump().0[n].bytes[9] == 1);
    let pack = pack.expect("a data pack");
    let whole = storage.dump().0[&pack].bytes.to_vec();
    storage.remove(&pack);
    // The next backup stores what is missing once more.
    back_up(&repository, &tree, 2);
    storage.plant(&pack, whole);
    storage.corrupt(&pack, |bytes| bytes[500] ^= 1);
    let report = check_with(&repository, ReadData::All);
    let [finding] = &report.findings[..] else { panic!("{report:#?}") };
    assert_eq!((finding.severity, finding.object.as_str()), (Severity::Damage, pack.as_str()));
    assert!(finding.snapshots.is_empty());
    for snapshot in repository.snapshots().expect("list") {
        crate::common::assert_holds(&repository, snapshot.id, &tree);
    }
}

#[test]
fn one_bad_reading_is_no_damage() {
    let storage = FaultStorage::new(MemoryStorage::new());
    let repository = repository(storage.clone());
    back_up(&repository, &rich_tree(), 1);
    let mut left = 1;
    storage.set_plan(move |_, call| {
        let is_pack = call.operation == Operation::GetRange && call.bytes > 1 << 20;
        (is_pack && std::mem::take(&mut left) == 1).then_some(Fault::FlipBit)
    });
    let report = check_with(&repository, ReadData::All);
    assert_eq!(storage.injected().len(), 1);
    assert!(!report.is_damaged(), "{report:#?}");
    assert_eq!(report.findings.len(), 1, "and yet it is told");
}

#[test]
fn a_storage_out_of_reach_is_an_error_and_an_interrupt_too() {
    let storage = FaultStorage::new(MemoryStorage::new());
    let repository = repository(storage.clone());
    back_up(&repository, &rich_tree(), 1);
    let interrupt = Interrupt::new();
    interrupt.raise();
    let result = check(&repository, &CheckOptions::default(), &NoMonitor, &interrupt);
    assert!(matches!(result, Err(Error::Interrupted)));
    storage.reset_log();
    // One thread: two may read the same part of a pack at once, or not.
    let options = CheckOptions { read_data: ReadData::All, threads: 1, ..CheckOptions::default() };
    check(&repository, &options, &NoMonitor, &Interrupt::new()).expect("check");
    for k in 0..storage.calls() {
        storage.reset_log();
        storage.fail_at(k, Fault::ErrorBefore);
        let result = check(&repository, &options, &NoMonitor, &Interrupt::new());
        assert!(matches!(result, Err(Error::Storage(_))), "call {k}: {result:?}");
        storage.clear_faults();
    }
}

#[test]
fn digests_are_those_of_the_files() {
    let storage = MemoryStorage::new();
    let repository = repository(storage.clone());
    let tree = rich_tree();
    let id = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let reader = BlobReader::new(&repository, &index);
    let of = |path: &str, algorithm| {
        let options = DigestOptions { path: path.into(), algorithm };
        let mut found = BTreeMap::new();
        let result = digest(
            &reader,
            &snapshot(&repository, id),
            &options,
            &NoMonitor,
            &Interrupt::new(),
            &mut |file| {
                found.insert(file.path.clone(), (file.size, file.digest.expect("readable")));
                Ok(())
            },
        );
        result.map(|report| (found, report))
    };
    let (found, report) = of("/", Algorithm::Sha256).expect("digest");
    let files = tree.paths_of(Kind::File);
    assert_eq!((report.files, found.len(), report.unread), (files.len() as u64, files.len(), 0));
    for path in &files {
        let content = tree.content(path);
        let absolute = [b"/data/", &path[..]].concat();
        let expected = (content.len() as u64, *Sha256::of(content).as_bytes());
        assert_eq!(found.get(&absolute), Some(&expected), "{}", path.escape_ascii());
    }
    let (found, _) = of("/data/sparse", Algorithm::Blake3).expect("digest");
    let expected = *blake3::hash(tree.content("sparse")).as_bytes();
    assert_eq!(found, [(b"/data/sparse".to_vec(), (2 << 20, expected))].into());
    assert_eq!(of("/data/many/d1", Algorithm::Sha256).expect("digest").0.len(), 23);
    assert!(matches!(of("/data/no", Algorithm::Sha256), Err(Error::NoSuchPath { .. })));
}

#[test]
fn info_counts() {
    let storage = MemoryStorage::new();
    let repository = repository(storage.clone());
    let tree = rich_tree();
    for time in 1..=3 {
        run(&repository, &options(tree.source(), time)).expect("backup");
    }
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let info = info(&repository, &index).expect("info");
    let bytes = |folder| -> u64 {
        let names = storage.names_in(folder);
        names.iter().map(|n| storage.dump().0[n].bytes.len() as u64).sum()
    };
    assert_eq!(
        (info.snapshots, info.stored, info.index),
        (3, bytes(Folder::Packs), bytes(Folder::Index))
    );
    assert_eq!(info.blobs(), index.blob_count());
    let files = tree.paths_of(Kind::File);
    let logical: u64 = files.iter().map(|path| tree.content(path).len() as u64).sum();
    assert_eq!((info.logical.bytes, info.logical.files), (3 * logical, 3 * files.len() as u64));
    assert!(info.deduplication() > 3.0, "the hard link and the holes count too");
    assert!(info.encrypted && info.compression() > 1.0 && info.savings() > 1.0);
}

#[test]
fn crooked_trees_are_found() {
    use holdfast_engine::crypto::BlobKind;
    use holdfast_engine::format::snapshot::{Root, Snapshot};
    use holdfast_engine::format::tree::{Child, Entry as Record, Group, Node, OwnerRecord};
    use holdfast_engine::repo::session::{Session, Writer};
    use prost::Message;

    let entry = |name: &[u8]| Record {
        name: name.to_vec(),
        kind_mode: 1 << 12 | 0o644,
        ..Record::default()
    };
    let leaf = |entries: Vec<Record>| {
        let count = entries.len() as u32;
        let owners = vec![OwnerRecord::default()];
        Node {
            groups: vec![Group { parent: Vec::new(), count }],
            owners,
            entries,
            ..Node::default()
        }
    };
    let sized = |size| Record { size, ..entry(b"a") };
    let chunk = |length| Record { chunks: vec![9; 32], chunk_lengths: vec![length], ..sized(5) };
    let child = |name: &[u8], id: &[u8], entries| Child {
        name: name.to_vec(),
        id: id.to_vec(),
        entries,
        ..Child::default()
    };
    // A good leaf, and what its parent may say of it.
    let good = leaf(vec![entry(b"b"), entry(b"c")]);
    let cases: Vec<(&str, Node)> = vec![
        ("out of order", leaf(vec![entry(b"b"), entry(b"a")])),
        ("twice", leaf(vec![entry(b"a"), entry(b"a")])),
        ("groups", Node { groups: Vec::new(), ..good.clone() }),
        ("empty", Node::default()),
        ("a size and no content", leaf(vec![sized(5)])),
        ("inline", leaf(vec![Record { inline: vec![1], ..sized(5) }])),
        ("a missing chunk", leaf(vec![chunk(5)])),
        ("chunks that do not add up", leaf(vec![chunk(6)])),
        (
            "a missing bundle",
            leaf(vec![Record { bundle: 1, member_hash: vec![1; 16], ..sized(5) }]),
        ),
        (
            "a missing child",
            Node { level: 1, children: vec![child(b"b", &[7; 32], 2)], ..Node::default() },
        ),
    ];
    type Children = Vec<(&'static [u8], u64)>;
    let wrong_parents: Vec<(&str, u32, Children)> = vec![
        ("fine", 1, vec![(b"b", 2)]),
        ("first key", 1, vec![(b"a", 2)]),
        ("count", 1, vec![(b"b", 3)]),
        ("level", 2, vec![(b"b", 2)]),
        ("twice", 1, vec![(b"b", 2), (b"c", 2)]),
    ];
    let storage = MemoryStorage::new();
    let repository = repository(storage.clone());
    let empty = storage.dump();
    let commit = |nodes: &[Node]| {
        storage.load(empty.clone());
        let session = Session::begin(&repository, Writer::default()).expect("begin");
        let options = WriterOptions {
            level: Level::None,
            threads: 1,
            budget: 1 << 20,
            ..WriterOptions::default()
        };
        with_writer(&repository, session.index(), options, |writer| {
            let mut tree = Vec::new();
            for node in nodes {
                let id = writer.put_structure(BlobKind::Node, node.encode_to_vec())?;
                tree = id.as_bytes().to_vec();
            }
            let root = Root { path: b"/data".to_vec(), tree, ..Root::default() };
            session.commit(writer, &Snapshot { roots: vec![root], ..Snapshot::default() })
        })
        .expect("commit")
    };
    for (case, node) in cases {
        let id = commit(&[node]);
        let report = check_with(&repository, ReadData::All);
        assert_eq!(report.worst(), Some(Severity::Loss), "{case}: {report:#?}");
        assert!(report.findings.iter().all(|f| f.snapshots == [id]), "{case}: {report:#?}");
    }
    let good_id = repository.keys().blob_id(BlobKind::Node, &good.encode_to_vec());
    for (case, level, children) in wrong_parents {
        let children = children.into_iter().map(|(name, n)| child(name, good_id.as_bytes(), n));
        let above = Node { level, children: children.collect(), ..Node::default() };
        commit(&[good.clone(), above]);
        let report = check_with(&repository, ReadData::All);
        assert_eq!(report.is_damaged(), case != "fine", "{case}: {report:#?}");
    }
}

/// What a writer that relies on it would lose.
#[test]
fn a_bundle_that_lacks_members_and_does_not_say_so_is_found() {
    let (_, repository) = memory();
    let mut tree = MemoryTree::new();
    for i in 0..9 {
        tree.file(format!("f{i}"), random_bytes(i, 5_000));
    }
    back_up(&repository, &tree, 1);
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let bundle = blobs(&index).into_iter().find(|(_, place)| place.kind == BlobKind::Bundle);
    let (id, place) = bundle.expect("a bundle");
    let plain = BlobReader::new(&repository, &index).read(BlobKind::Bundle, &id).expect("bundle");
    let members = bundle::open(repository.keys(), &id, &plain).expect("members");
    let first = members.get(0).and_then(|(range, _)| plain.get(range)).expect("a member");
    let bytes = bundle::with_members(&members, |number| (number == 0).then_some(first));
    with_writer(&repository, &index, WriterOptions::default(), |writer| {
        let content = CopiedContent::Plain { bytes, hollow: false };
        writer.copy(Copied { kind: BlobKind::Bundle, id, members: place.members, content })?;
        writer.flush()
    })
    .expect("a copy");
    let report = check_with(&repository, ReadData::All);
    let lies = |f: &&Finding| f.what.contains("lacks members");
    let found: Vec<_> = report.findings.iter().filter(lies).map(|f| f.object.clone()).collect();
    assert_eq!(found.len(), 1, "{:#?}", report.findings);
    // A repair lets go of it: nobody relies on that copy any more, and the whole one serves.
    let repaired = mend(&repository, None).expect("repair");
    assert_eq!((repaired.condemned, repaired.lost()), (1, 0), "{repaired:#?}");
    let condemned = repository.condemned_packs().expect("condemned");
    assert!(condemned.iter().all(|pack| found == [ObjectName::pack(*pack).as_str()]));
}
