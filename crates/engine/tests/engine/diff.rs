//! `diff` of snapshots, and of a snapshot with the files of today.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::check::{rich_tree, snapshot};
use crate::common::{back_up, read_back, repository};
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::monitor::{Interrupt, Monitor, NoMonitor, Progress};
use holdfast_engine::ops::diff::{
    Change, ChangeKind, DiffOptions, DiffTotals, LiveOptions, LiveRoot, diff, diff_live,
};
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::tree::Entry;
use holdfast_testkit::clock::text_bytes;
use holdfast_testkit::{MemoryStorage, MemoryTree, Trouble};

fn diff_all(
    repository: &Repository,
    before: SnapshotId,
    after: SnapshotId,
    path: Option<&[u8]>,
) -> (Vec<Change>, DiffTotals) {
    let index = Index::load(repository, &BTreeSet::new()).expect("index");
    let reader = BlobReader::new(repository, &index);
    let options = DiffOptions { path: path.map(<[u8]>::to_vec) };
    let mut changes = Vec::new();
    let totals = diff(
        &reader,
        &snapshot(repository, before),
        &snapshot(repository, after),
        &options,
        &NoMonitor,
        &Interrupt::new(),
        &mut |change| {
            changes.push(change);
            Ok(())
        },
    );
    (changes, totals.expect("diff"))
}

/// What differs, worked out from everything that both snapshots hold.
fn expected_changes(
    before: &BTreeMap<Vec<u8>, (Entry, Vec<u8>)>,
    after: &BTreeMap<Vec<u8>, (Entry, Vec<u8>)>,
) -> BTreeMap<Vec<u8>, &'static str> {
    let mut changes = BTreeMap::new();
    for path in before.keys().chain(after.keys()) {
        let kind = match (before.get(path), after.get(path)) {
            (Some(_), None) => "removed",
            (None, Some(_)) => "added",
            (Some((a, old)), Some((b, new))) => {
                let (x, y) = (&a.metadata, &b.metadata);
                if x.kind != y.kind || old != new || a.target != b.target {
                    "changed"
                } else if (x.mode, x.mtime, &x.owner) != (y.mode, y.mtime, &y.owner) {
                    "touched"
                } else {
                    continue;
                }
            }
            (None, None) => continue,
        };
        let path =
            if path.is_empty() { b"/data".to_vec() } else { [b"/data/", &path[..]].concat() };
        changes.insert(path, kind);
    }
    changes
}

fn told(changes: &[Change]) -> BTreeMap<Vec<u8>, &'static str> {
    let name = |change: &Change| match change.kind {
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
        ChangeKind::Modified { content: false, kind: false, .. } => "touched",
        ChangeKind::Modified { .. } => "changed",
    };
    let told: BTreeMap<_, _> = changes.iter().map(|c| (c.path.clone(), name(c))).collect();
    assert_eq!(told.len(), changes.len(), "a path twice");
    told
}

#[test]
fn diff_tells_exactly_what_differs() {
    let storage = MemoryStorage::new();
    let repository = repository(storage);
    let mut tree = MemoryTree::new();
    for i in 0..6000_u64 {
        tree.file(format!("d{}/e{}/f{i}", i % 7, i % 31), text_bytes(i, i as usize % 700));
    }
    let mut ids = vec![back_up(&repository, &tree, 1).snapshot.expect("snapshot")];
    for round in 0..6_u64 {
        let f = |i: u64| format!("d{}/e{}/f{i}", i % 7, i % 31);
        let at = 100 + round * 900;
        tree.remove(f(at)).file(format!("d3/new{round}"), text_bytes(round, 300));
        tree.set_content(f(at + 1), text_bytes(round, 5000));
        tree.node_mut(f(at + 2)).metadata.mode = 0o600;
        tree.rename(f(at + 3), format!("moved/f{round}"));
        tree.remove(f(at + 4)).symlink(f(at + 4), "elsewhere");
        if round == 5 {
            tree.remove("d5");
        }
        ids.push(back_up(&repository, &tree, 2 + round as i64).snapshot.expect("snapshot"));
    }
    let all: Vec<_> = ids.iter().map(|id| read_back(&repository, *id).expect("read")).collect();
    for (i, a) in ids.iter().enumerate() {
        for (j, b) in ids.iter().enumerate().filter(|(j, _)| i.abs_diff(*j) <= 1 || i * j == 0) {
            let (changes, totals) = diff_all(&repository, *a, *b, None);
            let expected = expected_changes(&all[i], &all[j]);
            assert_eq!(told(&changes), expected, "{i} to {j}");
            let count = totals.added + totals.removed + totals.changed + totals.touched;
            assert_eq!(count, expected.len() as u64);
            for path in [&b"/data/d3"[..], b"/data/moved", b"/data/d5/e3"] {
                let below = expected
                    .iter()
                    .filter(|(p, _)| holdfast_engine::repo::snapshots::is_within(p, path));
                let below: BTreeMap<_, _> = below.map(|(p, k)| (p.clone(), *k)).collect();
                assert_eq!(told(&diff_all(&repository, *a, *b, Some(path)).0), below, "{i} to {j}");
            }
        }
    }
}

/// Counts calls of `progress`, which `diff` makes for every 4096 entries it looks at.
#[derive(Debug, Default)]
struct Steps(std::sync::atomic::AtomicU64);

impl Monitor for Steps {
    fn progress(&self, _: &Progress, _: &[u8]) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn diff_looks_only_at_what_may_differ() {
    let repository = repository(MemoryStorage::new());
    let mut tree = MemoryTree::new();
    for i in 0..20_000_u64 {
        tree.file(format!("d{}/f{i:06}", i / 100), i.to_string());
    }
    let a = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
    tree.set_content("d50/f005005", b"other".to_vec());
    let b = back_up(&repository, &tree, 2).snapshot.expect("snapshot");
    tree = MemoryTree::new();
    let c = back_up(&repository, &tree, 3).snapshot.expect("snapshot");
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let reader = BlobReader::new(&repository, &index);
    let steps = |one, other| {
        let (one, other) = (snapshot(&repository, one), snapshot(&repository, other));
        let (steps, interrupt, mut count) = (Steps::default(), Interrupt::new(), 0);
        let options = DiffOptions::default();
        diff(&reader, &one, &other, &options, &steps, &interrupt, &mut |_| {
            count += 1;
            Ok(())
        })
        .expect("diff");
        (steps.0.into_inner(), count)
    };
    assert_eq!(steps(a, b), (0, 1));
    assert_eq!(steps(b, c), (4, 20_201), "the counting works");
}

#[test]
fn a_snapshot_compares_with_what_is_there() {
    let storage = MemoryStorage::new();
    let repository = repository(storage);
    let mut tree = rich_tree();
    let id = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let reader = BlobReader::new(&repository, &index);
    let before = snapshot(&repository, id);
    let live = |tree: &MemoryTree, options| {
        let root = LiveRoot { path: b"/data".to_vec(), source: Arc::new(tree.source()) };
        let mut changes = Vec::new();
        let totals = diff_live(
            &reader,
            &before,
            &[root],
            options,
            &NoMonitor,
            &Interrupt::new(),
            &mut |c| {
                changes.push(c);
                Ok(())
            },
        );
        (told(&changes), totals.expect("diff"))
    };
    let thorough = LiveOptions { attributes: true, content: true };
    for options in [LiveOptions::default(), thorough] {
        assert_eq!(live(&tree, options).0, BTreeMap::new());
    }
    // Other bytes under the same size and time: only reading tells.
    let other = |content: &[u8]| content.iter().map(|b| b ^ 1).collect::<Vec<_>>();
    for path in ["big", "sparse", "many/d1/f10", "many/d1/f19"] {
        let node = tree.node_mut(path);
        node.content = Arc::new(other(&node.content));
    }
    assert_eq!(live(&tree, LiveOptions::default()).0, BTreeMap::new());
    let found = live(&tree, LiveOptions { content: true, ..LiveOptions::default() }).0;
    let changed = ["big", "many/d1/f10", "many/d1/f19", "same", "sparse"];
    let expected = changed.map(|p| (format!("/data/{p}").into_bytes(), "changed"));
    assert_eq!(found, expected.into());

    tree.remove("many/d2").file("many/zz", "z").remove("link").symlink("link", "small");
    let next = back_up(&repository, &tree, 2).snapshot.expect("snapshot");
    let (old, new) = (read_back(&repository, id), read_back(&repository, next));
    let expected = expected_changes(&old.expect("read"), &new.expect("read"));
    assert_eq!(live(&tree, thorough).0, expected);
    // Nobody can tell what became of a directory that cannot be listed.
    tree.trouble("many/d4", Trouble::Unlistable);
    let (found, totals) = live(&tree, LiveOptions::default());
    assert!(totals.unknown > 10);
    assert!(!found.keys().any(|path| path.starts_with(b"/data/many/d4/")));
    // Nor whether a file that cannot be read is the same; only reading tells.
    tree.trouble("big", Trouble::Unreadable);
    assert_eq!(live(&tree, LiveOptions::default()).1.unknown, totals.unknown);
    let found = live(&tree, LiveOptions { content: true, ..LiveOptions::default() }).1;
    assert_eq!(found.unknown, totals.unknown + 1);
}
