//! `find`, `history` and `dup` against a look at every entry of every snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_engine::hash::SnapshotId;
use holdfast_engine::meta::Kind;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::dup::{DupGroup, DupOptions, DupReport, dup};
use holdfast_engine::ops::find::{FindOptions, FindReport, FoundVersion, content_ids, find};
use holdfast_engine::ops::history::{Event, HistoryReport, history};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::tree::Entry;
use holdfast_engine::{Error, Result};
use holdfast_testkit::{MemoryTree, TreeOptions};

use crate::common::{Stored, back_up, memory, options, read_back, run};

/// A repository with a history, and what each snapshot holds.
struct World {
    repository: Repository,
    snapshots: Vec<SnapshotInfo>,
    stored: BTreeMap<SnapshotId, Stored>,
}

impl World {
    /// So many snapshots of one tree that is edited in between.
    fn new(seed: u64, snapshots: usize) -> Self {
        let (_, repository) = memory();
        let mut tree =
            MemoryTree::generate(seed, &TreeOptions { entries: 150, ..TreeOptions::default() });
        tree.file("kept/same", "the same for ever").file("kept/copy", "the same for ever");
        for number in 0..snapshots {
            back_up(&repository, &tree, number as i64 * 1000);
            // Now and then nothing changes.
            if number % 3 != 2 {
                tree.mutate(seed * 1000 + number as u64, 6);
            }
        }
        Self::of(repository)
    }

    fn of(repository: Repository) -> Self {
        let snapshots = repository.snapshots().expect("snapshots");
        let read = |info: &SnapshotInfo| (info.id, read_back(&repository, info.id).expect("read"));
        let stored = snapshots.iter().map(read).collect();
        Self { repository, snapshots, stored }
    }

    fn with_reader<T>(&self, body: impl FnOnce(&BlobReader<'_>) -> T) -> T {
        let index = Index::load(&self.repository, &BTreeSet::new()).expect("index");
        body(&BlobReader::new(&self.repository, &index))
    }

    fn find(&self, options: &FindOptions) -> Result<FindReport> {
        self.with_reader(|reader| {
            find(reader, &self.snapshots, options, &NoMonitor, &Interrupt::new())
        })
    }

    fn history(&self, path: &[u8]) -> HistoryReport {
        self.with_reader(|reader| {
            history(reader, &self.snapshots, path, &NoMonitor, &Interrupt::new()).expect("history")
        })
    }

    fn dup(&self, snapshots: &[SnapshotInfo], options: &DupOptions) -> DupReport {
        self.with_reader(|reader| {
            dup(reader, snapshots, options, &NoMonitor, &Interrupt::new()).expect("dup")
        })
    }

    /// Which snapshots hold an entry that passes, by path and what tells versions apart.
    fn brute_force(
        &self,
        test: impl Fn(&[u8], &Entry) -> bool,
    ) -> BTreeMap<(Vec<u8>, Version), Vec<SnapshotId>> {
        let mut all: BTreeMap<_, Vec<SnapshotId>> = BTreeMap::new();
        for snapshot in &self.snapshots {
            for (path, (entry, content)) in &self.stored[&snapshot.id] {
                let path = absolute(path);
                if test(&path, entry) {
                    let version = version(entry, content.clone());
                    all.entry((path, version)).or_default().push(snapshot.id);
                }
            }
        }
        all
    }

    /// The snapshots of a version that was found. Runs must be as long as they say.
    fn expand(&self, version: &FoundVersion) -> Vec<SnapshotId> {
        let at = |id: SnapshotId| self.snapshots.iter().position(|s| s.id == id).expect("known");
        let mut ids = Vec::new();
        let mut last = None;
        for run in &version.snapshots {
            let (first, end) = (at(run.first), at(run.last));
            assert_eq!(run.count, (end - first + 1) as u64);
            assert!(last.is_none_or(|last| last + 1 < first), "runs that touch are one");
            last = Some(end);
            ids.extend(self.snapshots[first..=end].iter().map(|snapshot| snapshot.id));
        }
        ids
    }

    fn assert_finds(&self, options: &FindOptions, test: impl Fn(&[u8], &Entry) -> bool) -> usize {
        let report = self.find(options).expect("find");
        let expected = self.brute_force(test);
        let mut found: BTreeMap<Vec<u8>, Vec<Vec<SnapshotId>>> = BTreeMap::new();
        for path in &report.found {
            let versions = path.versions.iter().map(|version| self.expand(version)).collect();
            assert!(found.insert(path.path.clone(), versions).is_none(), "a path comes once");
        }
        let mut wanted: BTreeMap<Vec<u8>, Vec<Vec<SnapshotId>>> = BTreeMap::new();
        for ((path, _), ids) in expected {
            wanted.entry(path).or_default().push(ids);
        }
        let order = |ids: &Vec<SnapshotId>| self.snapshots.iter().position(|s| s.id == ids[0]);
        wanted.values_mut().for_each(|versions| versions.sort_by_key(order));
        assert_eq!(found, wanted);
        found.len()
    }
}

type Version = (u8, u64, i64, Vec<u8>, Vec<u8>, Vec<u64>);

fn version(entry: &Entry, content: Vec<u8>) -> Version {
    let m = &entry.metadata;
    let extents = entry.extents.iter().flat_map(|e| [e.offset, e.length]).collect();
    (m.kind as u8, m.size, m.mtime.total_nanos(), content, entry.target.clone(), extents)
}

fn absolute(path: &[u8]) -> Vec<u8> {
    if path.is_empty() { b"/data".to_vec() } else { [b"/data/", path].concat() }
}

#[test]
fn what_is_found_is_what_is_there() {
    for seed in [1, 2, 3] {
        let world = World::new(seed, 12);
        let all = world.assert_finds(&FindOptions::default(), |_, _| true);
        assert!(all > 150, "{all}");
        for threads in [1, 4] {
            let options = FindOptions { larger: Some(5000), threads, ..FindOptions::default() };
            let large = |_: &[u8], entry: &Entry| {
                entry.metadata.kind == Kind::File && entry.metadata.size > 5000
            };
            assert!(world.assert_finds(&options, large) > 0);
        }
        let middle = world.stored.values().next_back().expect("one").values();
        let mut times: Vec<i64> = middle.map(|(e, _)| e.metadata.mtime.total_nanos()).collect();
        times.sort_unstable();
        let (older, newer) = (times[times.len() / 3 * 2], times[times.len() / 3]);
        let options = FindOptions {
            newer: Some(newer),
            older: Some(older),
            kinds: vec![Kind::Directory, Kind::Symlink],
            ..FindOptions::default()
        };
        world.assert_finds(&options, |_, entry| {
            let time = entry.metadata.mtime.total_nanos();
            matches!(entry.metadata.kind, Kind::Directory | Kind::Symlink)
                && time > newer
                && time <= older
        });
        let test = |path: &[u8]| path.ends_with(b"e") || path.contains(&b'1');
        let options = FindOptions {
            path: Some(Arc::new(test)),
            smaller: Some(100),
            ..FindOptions::default()
        };
        world.assert_finds(&options, |path, entry| {
            test(path) && entry.metadata.kind == Kind::File && entry.metadata.size < 100
        });
    }
}

#[test]
fn a_search_below_a_path_reads_little_else() {
    let world = World::new(4, 8);
    let everything = world.find(&FindOptions::default()).expect("find").nodes;
    let paths: BTreeSet<Vec<u8>> =
        world.stored.values().flat_map(|stored| stored.keys().map(|path| absolute(path))).collect();
    let mut least = u64::MAX;
    for below in paths.iter().step_by(7).map(Vec::as_slice).chain([&b"/"[..], b"/data", b"/no"]) {
        let options = FindOptions { below: Some(below.to_vec()), ..FindOptions::default() };
        world.assert_finds(&options, |path, _| {
            let rest = path.strip_prefix(below);
            rest.is_some_and(|r| r.is_empty() || r.starts_with(b"/") || below == b"/")
        });
        if below != b"/no" {
            least = least.min(world.find(&options).expect("find").nodes);
        }
    }
    assert!(least * 3 < everything, "{least} of {everything}");
}

#[test]
fn every_distinct_node_is_read_once() {
    let (_, repository) = memory();
    let mut tree = MemoryTree::new();
    for number in 0..3000 {
        tree.file(format!("d{}/file-{number}", number % 40), format!("content {number}"));
    }
    for number in 0..40 {
        tree.set_content(format!("d{number}/file-{}", number + 40), vec![b'x'; number]);
        back_up(&repository, &tree, number as i64);
    }
    let world = World::of(repository);
    let name = |path: &[u8]| path.ends_with(b"/file-1000");
    let options = FindOptions { path: Some(Arc::new(name)), ..FindOptions::default() };
    let report = world.find(&options).expect("find");
    let first = world.with_reader(|reader| {
        let one = std::slice::from_ref(&world.snapshots[0]);
        find(reader, one, &options, &NoMonitor, &Interrupt::new()).expect("find").nodes
    });
    // Forty trees share nearly all: each adds the nodes above one leaf.
    assert!(first > 30 && report.nodes < first + 40 * 6, "{first} {}", report.nodes);
    assert_eq!(report.found.len(), 1);
    assert_eq!(world.expand(&report.found[0].versions[0]).len(), 40);
    // The history of a path needs those above it alone.
    let history = world.history(b"/data/d0/file-1000");
    assert_eq!((history.periods.len(), history.periods[0].snapshots), (1, 40));
    assert!(history.nodes < 150, "{}", history.nodes);
}

#[test]
fn origins_have_runs_of_their_own() {
    let (_, repository) = memory();
    let mut tree = MemoryTree::new();
    tree.file("a", "1").file("b", "2");
    // Two hosts take turns.
    for number in 0..6_i64 {
        let host = if number % 2 == 0 { "one" } else { "two" };
        run(&repository, &common_options(&tree, number, host)).expect("backup");
        if number == 2 {
            tree.remove("b");
        }
    }
    let world = World::of(repository);
    let report = world.find(&FindOptions::default()).expect("find");
    let of = |path: &[u8]| {
        let found = report.found.iter().find(|found| found.path == path).expect("found");
        let runs = found.versions[0].snapshots.iter().map(|run| run.count).collect::<Vec<_>>();
        (found.versions.len(), runs)
    };
    assert_eq!(of(b"/data/a"), (1, vec![3, 3]));
    assert_eq!(of(b"/data/b"), (1, vec![2, 1]));
    let history = world.history(b"/data/b");
    let told: Vec<_> = history
        .periods
        .iter()
        .map(|period| (period.host.as_str(), period.event, period.snapshots))
        .collect();
    let expected = [
        ("one", Event::Appeared, 2),
        ("two", Event::Appeared, 1),
        ("two", Event::Vanished, 2),
        ("one", Event::Vanished, 1),
    ];
    assert_eq!(told, expected);
}

fn common_options(
    tree: &MemoryTree,
    time: i64,
    host: &str,
) -> holdfast_engine::ops::backup::BackupOptions {
    let options = options(tree.source(), time);
    holdfast_engine::ops::backup::BackupOptions { host: host.into(), ..options }
}

#[test]
fn files_like_another_are_found_by_content() {
    let (_, repository) = memory();
    let mut tree = MemoryTree::new();
    let noise = |seed: u64, length: usize| {
        let mut bytes = vec![0; length];
        rand::RngCore::fill_bytes(&mut holdfast_testkit::rng(seed), &mut bytes);
        bytes
    };
    // Inline, bundled, of one chunk, of some and of very many.
    let sizes = [0, 10, 5000, 130 << 10, 3 << 20, 40 << 20];
    for (number, size) in sizes.into_iter().enumerate() {
        let bytes = noise(number as u64 + 1, size);
        tree.file(format!("first/{number}"), bytes.clone()).file(format!("other/{number}"), bytes);
        tree.file(format!("differs/{number}"), noise(number as u64 + 101, size.max(1)));
    }
    back_up(&repository, &tree, 1);
    let snapshots = repository.snapshots().expect("snapshots");
    let world = World { repository, snapshots, stored: BTreeMap::new() };
    for (number, size) in sizes.into_iter().enumerate() {
        let bytes = noise(number as u64 + 1, size);
        let ids = content_ids(&world.repository, &mut &bytes[..]).expect("ids");
        let options = FindOptions { content: Some(ids), ..FindOptions::default() };
        let report = world.find(&options).expect("find");
        let paths: Vec<_> =
            report.found.iter().map(|f| String::from_utf8_lossy(&f.path).into_owned()).collect();
        let expected = ["first", "other"].map(|dir| format!("/data/{dir}/{number}"));
        assert_eq!(paths, expected, "{size} bytes");
    }
    let groups = world.dup(&world.snapshots, &DupOptions::default()).groups;
    let sizes: Vec<_> = groups.iter().map(|group| (group.size, group.paths.len())).collect();
    let expected = [(40 << 20, 2), (3 << 20, 2), (130 << 10, 2), (5000, 2), (10, 2)];
    assert_eq!(sizes, expected);
}

#[test]
fn too_much_is_said_and_damage_is_passed_over() {
    let (storage, repository) = memory();
    let mut tree = MemoryTree::random(7, 400);
    back_up(&repository, &tree, 1);
    let before = storage.names_in(holdfast_engine::storage::Folder::Packs);
    tree.file("zz/new", "new");
    back_up(&repository, &tree, 2);
    let world = World::of(repository);
    let few = FindOptions { most: 10, ..FindOptions::default() };
    let error = world.find(&few).expect_err("too many");
    assert!(matches!(&error, Error::Usage(text) if text.contains("10 versions")), "{error}");
    let whole = world.find(&FindOptions::default()).expect("find");
    // What the second backup wrote is lost.
    for name in storage.names_in(holdfast_engine::storage::Folder::Packs) {
        if !before.contains(&name) {
            storage.corrupt(&name, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1));
        }
    }
    let damaged = world.find(&FindOptions::default()).expect("find");
    assert!(damaged.unread > 0 && whole.unread == 0);
    assert!(damaged.found.len() > 300, "{}", damaged.found.len());
    assert_eq!(world.history(b"/data/zz/new").unread, 1);
    for name in storage.names_in(holdfast_engine::storage::Folder::Packs) {
        if !before.contains(&name) {
            storage.remove(&name);
        }
    }
    let gone = world.find(&FindOptions::default()).expect("find");
    assert_eq!((gone.unread, gone.found.len()), (damaged.unread, damaged.found.len()));
    assert_eq!(world.history(b"/data/zz/new").unread, 1);
}

#[test]
fn histories_tell_every_change() {
    for seed in [11, 12] {
        let world = World::new(seed, 10);
        let paths: BTreeSet<_> = world.stored.values().flat_map(BTreeMap::keys).collect();
        for path in paths {
            let report = world.history(&absolute(path));
            assert_eq!((report.unread, report.covering), (0, 10));
            let mut expected: Vec<(Event, u64)> = Vec::new();
            let mut before: Option<&(Entry, Vec<u8>)> = None;
            for snapshot in &world.snapshots {
                let now = world.stored[&snapshot.id].get(path);
                let event = match (before, now) {
                    (None, None) => None,
                    (None, Some(_)) => Some(Event::Appeared),
                    (Some(_), None) => Some(Event::Vanished),
                    (Some((a, x)), Some((b, y))) => {
                        let kind = a.metadata.kind != b.metadata.kind;
                        let content =
                            !kind && (x != y || a.target != b.target || a.extents != b.extents);
                        let metadata = (a.metadata.mode, a.metadata.mtime, &a.metadata.owner)
                            != (b.metadata.mode, b.metadata.mtime, &b.metadata.owner)
                            || a.xattrs != b.xattrs
                            || a.xattrs_blob != b.xattrs_blob
                            || a.metadata.device != b.metadata.device;
                        (kind || content || metadata).then_some(Event::Modified {
                            content,
                            metadata,
                            kind,
                        })
                    }
                };
                before = now;
                match (event, expected.last_mut()) {
                    (Some(event), _) => expected.push((event, 1)),
                    (None, Some(last)) => last.1 += 1,
                    (None, None) => {}
                }
            }
            let told: Vec<_> = report.periods.iter().map(|p| (p.event, p.snapshots)).collect();
            assert_eq!(told, expected, "{}", path.escape_ascii());
        }
    }
}

/// Paths by content and extents.
type Contents<'a> = BTreeMap<(&'a Vec<u8>, Vec<u64>), BTreeSet<Vec<u8>>>;

#[test]
fn duplicates_are_those_of_a_look_at_all_contents() {
    for seed in [21, 22] {
        let world = World::new(seed, 6);
        let last = &world.snapshots[world.snapshots.len() - 1..];
        for snapshots in [last, &world.snapshots[..]] {
            let mut contents: Contents<'_> = BTreeMap::new();
            for snapshot in snapshots {
                for (path, (entry, content)) in &world.stored[&snapshot.id] {
                    let is_one = entry.metadata.kind == Kind::File && entry.hard_link.is_empty();
                    if is_one && !content.is_empty() {
                        let extents = entry.extents.iter().flat_map(|e| [e.offset, e.length]);
                        let paths = contents.entry((content, extents.collect())).or_default();
                        paths.insert(absolute(path));
                    }
                }
            }
            let files: usize = contents.values().map(BTreeSet::len).sum();
            let mut expected: Vec<BTreeSet<Vec<u8>>> =
                contents.into_values().filter(|paths| paths.len() > 1).collect();
            expected.sort();
            let report = world.dup(snapshots, &DupOptions::default());
            let mut found: Vec<BTreeSet<Vec<u8>>> =
                report.groups.iter().map(|group| group.paths.iter().cloned().collect()).collect();
            found.sort();
            assert_eq!(found, expected);
            assert_eq!(report.files, files as u64);
            assert!(report.groups.is_sorted_by_key(|group| std::cmp::Reverse(group.wasted())));
            assert!(!expected.is_empty());
        }
    }
    let group = DupGroup { size: 10, paths: vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()] };
    assert_eq!(group.wasted(), 20);
}

/// Prints how long searches take: 50 000 files, a thousand snapshots (or as many as
/// HOLDFAST_SNAPSHOTS says) that differ in ten files each.
#[test]
#[ignore = "makes a thousand snapshots, and only prints"]
#[expect(clippy::print_stdout, reason = "figures are for people")]
fn figures_of_searches_over_many_snapshots() {
    let number = std::env::var("HOLDFAST_SNAPSHOTS").ok().and_then(|text| text.parse().ok());
    let snapshots: usize = number.unwrap_or(1000);
    let (_, repository) = memory();
    let mut tree = MemoryTree::new();
    let path = |file: usize| format!("d{}/e{}/file-{file}.txt", file % 50, file % 1000);
    for file in 0..50_000 {
        tree.file(path(file), format!("content {}", file / 2));
    }
    for snapshot in 0..snapshots {
        for change in 0..10 {
            let file = (snapshot * 7919 + change * 4999) % 50_000;
            tree.set_content(path(file), format!("changed in {snapshot}").into_bytes());
        }
        back_up(&repository, &tree, snapshot as i64);
    }
    let world = World {
        snapshots: repository.snapshots().expect("snapshots"),
        repository,
        stored: BTreeMap::new(),
    };
    let begun = std::time::Instant::now();
    let told = |what: &str, begun: std::time::Instant| println!("{what}: {:?}", begun.elapsed());
    let name = |path: &[u8]| path.ends_with(b"/file-7919.txt");
    let options = FindOptions { path: Some(Arc::new(name)), ..FindOptions::default() };
    let report = world.find(&options).expect("find");
    told(&format!("find a name, {} nodes", report.nodes), begun);
    let begun = std::time::Instant::now();
    let report = world.find(&FindOptions::default()).expect("find");
    told(&format!("find everything, {} paths", report.found.len()), begun);
    let begun = std::time::Instant::now();
    let report = world.history(b"/data/d19/e919/file-7919.txt");
    told(&format!("history, {} nodes", report.nodes), begun);
    let begun = std::time::Instant::now();
    let report = world.dup(&world.snapshots[snapshots - 1..], &DupOptions::default());
    told(&format!("dup in one snapshot, {} groups", report.groups.len()), begun);
}
