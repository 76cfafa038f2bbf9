//! The damage matrix: every kind of object, damaged in every way, is found and named by `check`,
//! nothing panics, and what is not hit still reads back byte for byte.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::common::{back_up, repository, secret, try_repository};
use holdfast_engine::Error;
use holdfast_engine::crypto::ObjectKind;
use holdfast_engine::format::envelope;
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::monitor::{Interrupt, Monitor, NoMonitor};
use holdfast_engine::ops::backup::backup;
use holdfast_engine::ops::check::{CheckOptions, CheckReport, ReadData, Severity, check};
use holdfast_engine::ops::forget::{ForgetOptions, forget};
use holdfast_engine::ops::gc::{GcOptions, gc};
use holdfast_engine::ops::repair::snapshots;
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::storage::{Folder, ObjectName, Storage, StorageErrorKind};
use holdfast_engine::tree::content::read_content;
use holdfast_engine::tree::view;
use holdfast_testkit::clock::{random_bytes, text_bytes};
use holdfast_testkit::memory::Dump;
use holdfast_testkit::{Fault, FaultStorage, MemoryStorage, MemoryTree};

type Change = Box<dyn Fn(&mut Vec<u8>)>;
type Files = BTreeMap<Vec<u8>, Vec<u8>>;

/// A repository with three snapshots and at least two objects of every kind.
struct World {
    storage: MemoryStorage,
    repository: Repository,
    whole: Dump,
    snapshots: BTreeMap<SnapshotId, Files>,
}

fn world() -> World {
    let storage = MemoryStorage::new();
    let repository = repository(storage.clone());
    repository.add_slot(&secret(), Default::default(), "second", "host", 2).expect("slot");
    let mut tree = MemoryTree::new();
    // Few enough that no finding's paths are cut short.
    for i in 0..22_u64 {
        tree.file(format!("dir{}/file{i}", i % 5), text_bytes(i, 100 + 110 * i as usize));
    }
    tree.file("big", random_bytes(1, 300_000));
    let mut snapshots = BTreeMap::new();
    for time in 1..=3 {
        tree.file(format!("new{time}"), random_bytes(time + 50, 150_000));
        tree.file(format!("dir1/new{time}"), text_bytes(time + 50, 900));
        let id = back_up(&repository, &tree, time as i64).snapshot.expect("snapshot");
        let files = tree.paths_of(holdfast_engine::meta::Kind::File).into_iter();
        snapshots
            .insert(id, files.map(|path| (path.clone(), tree.content(&path).to_vec())).collect());
    }
    for salt in 1..3_u8 {
        let id = SnapshotId::new([salt; 16]);
        plant(&storage, &repository, ObjectKind::Fence, &ObjectName::fence(id), salt);
        plant(&storage, &repository, ObjectKind::Fence, &ObjectName::fence_confirmed(id), salt + 8);
        let record = holdfast_engine::hash::RecordId::new([salt; 16]);
        plant(&storage, &repository, ObjectKind::Condemned, &ObjectName::condemned(record), salt);
        let of = *snapshots.keys().next().expect("one");
        plant(&storage, &repository, ObjectKind::Note, &ObjectName::note(of, record), salt);
    }
    World { whole: storage.dump(), storage, repository, snapshots }
}

/// An object of the commit protocol, with an empty message: all fields at their defaults.
fn plant(
    storage: &MemoryStorage,
    repository: &Repository,
    kind: ObjectKind,
    name: &ObjectName,
    salt: u8,
) {
    let (keys, id) = (repository.keys(), repository.id());
    let bytes = envelope::seal(keys, id, kind, &[salt; 32], name.as_str(), b"").expect("seal");
    storage.plant(name, bytes);
}

impl World {
    fn check(&self, read_data: ReadData) -> CheckReport {
        let options = CheckOptions { read_data, ..CheckOptions::default() };
        check(&self.repository, &options, &NoMonitor, &Interrupt::new()).expect("check")
    }

    /// Packs of one kind, told by the kind number in their header.
    fn packs(&self, kind: ObjectKind) -> Vec<ObjectName> {
        let is_kind = |name: &ObjectName| self.storage.get(name).expect("pack")[9] == kind as u8;
        self.storage.names_in(Folder::Packs).into_iter().filter(is_kind).collect()
    }

    /// Two objects of each kind.
    fn objects(&self) -> Vec<(&'static str, Vec<ObjectName>)> {
        let of = |folder| self.storage.names_in(folder);
        let leases: Vec<_> = of(Folder::Sessions).into_iter().filter(|n| n.base() == "0").collect();
        let (confirmed, fences): (Vec<_>, Vec<_>) =
            of(Folder::Fences).into_iter().partition(|n| n.base().ends_with(".confirmed"));
        let mut objects = vec![
            ("config", vec![ObjectName::config()]),
            ("key slot", of(Folder::Keys)),
            ("data pack", self.packs(ObjectKind::DataPack)),
            ("tree pack", self.packs(ObjectKind::TreePack)),
            ("segment", of(Folder::Index)),
            ("snapshot", of(Folder::Snapshots)),
            ("lease", leases),
            ("fence", fences),
            ("confirmation", confirmed),
            ("condemned", of(Folder::Condemned)),
            ("note", of(Folder::Notes)),
        ];
        for (kind, names) in &mut objects {
            assert!(names.len() >= 2 || *kind == "config", "{kind}: {names:?}");
            names.truncate(2);
        }
        objects
    }

    /// Whatever no finding names reads back byte for byte.
    fn assert_rest_reads(&self, report: &CheckReport, what: &str) {
        let (index, _) = Index::load_readable(&self.repository).expect("index");
        let reader = BlobReader::new(&self.repository, &index);
        for (id, files) in &self.snapshots {
            let is_hit = |path: &[u8]| {
                report.findings.iter().any(|finding| {
                    // Where part of a tree is lost, one path stands for many.
                    let content_only = self.is_content(&finding.object);
                    finding.snapshots.contains(id)
                        && (!content_only
                            || finding.paths.iter().any(|p| p.0 == *id && p.1 == path))
                })
            };
            let untouched = !report.findings.iter().any(|f| f.snapshots.contains(id));
            let record = match self.repository.snapshot(*id) {
                Ok(record) => record,
                Err(error) => {
                    let named = ObjectName::snapshot(*id).to_string();
                    let found = report.findings.iter().any(|f| f.object == named);
                    assert!(found, "{what}: {error}");
                    continue;
                }
            };
            let mut read = 0;
            for root in &record.roots {
                for found in view::tree(&reader, root).expect("tree").entries() {
                    let Ok(found) = found else {
                        assert!(!untouched, "{what}: {}", found.expect_err("just seen"));
                        break;
                    };
                    let path = found.path();
                    let Some(expected) = files.get(&path) else { continue };
                    let absolute = [b"/data/", &path[..]].concat();
                    let mut content = Vec::new();
                    let result = read_content(&reader, &found.entry, &mut |bytes| {
                        content.extend_from_slice(bytes);
                        Ok(())
                    });
                    match result {
                        Ok(_) => assert!(content == *expected, "{what}: wrong bytes"),
                        Err(error) => assert!(is_hit(&absolute), "{what}: {error}"),
                    }
                    read += 1;
                }
            }
            assert!(!untouched || read == files.len(), "{what}: {read} files");
        }
    }

    fn is_content(&self, object: &str) -> bool {
        let bytes = ObjectName::parse(object).and_then(|name| self.whole.0.get(&name));
        bytes.is_some_and(|o| {
            object.starts_with("packs/") && o.bytes.get(9) == Some(&(ObjectKind::DataPack as u8))
        })
    }
}

/// Every way to damage one object, with a name.
fn damages(length: usize) -> Vec<(String, Change)> {
    let mut damages: Vec<(String, Change)> = Vec::new();
    // Magic, kind, salt, commitment, body, directory or end of the body, trailer.
    let places = [3, 9, 30, 60, 85, length / 2, length.saturating_sub(60), length - 5, length - 14];
    for at in places.into_iter().filter(|at| *at < length) {
        damages.push((format!("bit at {at}"), Box::new(move |bytes| bytes[at] ^= 0x20)));
        let end = (at + 40).min(length);
        damages.push((format!("zeros at {at}"), Box::new(move |bytes| bytes[at..end].fill(0))));
    }
    for keep in [0, 7, 40, length / 2, length - 1] {
        damages.push((format!("cut to {keep}"), Box::new(move |bytes| bytes.truncate(keep))));
    }
    damages.push(("a byte more".into(), Box::new(|bytes| bytes.push(0))));
    damages
}

#[test]
fn a_whole_repository_has_no_finding() {
    let world = world();
    let report = world.check(ReadData::All);
    assert_eq!(report.findings, [], "{report:#?}");
    assert_eq!((report.snapshots, report.packs_read), (3, report.packs));
    world.assert_rest_reads(&report, "whole");
}

#[test]
fn every_damage_to_every_kind_of_object_is_found_and_named() {
    let world = world();
    let mut tried = 0;
    for (kind, names) in world.objects() {
        for name in names {
            let whole = world.storage.get(&name).expect("object");
            for (damage, change) in damages(whole.len()) {
                world.storage.corrupt(&name, change);
                let what = format!("{kind} {name}, {damage}");
                if world.storage.get(&name).expect("object") == whole {
                    continue;
                }
                let report = world.check(ReadData::All);
                let found = report.findings.iter().find(|f| f.object == name.as_str());
                let found = found.unwrap_or_else(|| panic!("{what}: {:#?}", report.findings));
                assert!(found.severity >= Severity::Damage, "{what}");
                world.assert_rest_reads(&report, &what);
                world.storage.load(world.whole.clone());
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn what_is_gone_is_found_and_named() {
    let world = world();
    for (kind, names) in world.objects() {
        for name in names {
            world.storage.remove(&name);
            let report = world.check(ReadData::All);
            let named = |object: &str| report.findings.iter().any(|f| f.object == object);
            let what = format!("{kind} {name}");
            match kind {
                // Whether there should be another one is written nowhere.
                "key slot" | "confirmation" | "condemned" | "note" => {
                    assert_eq!(report.findings, [], "{what}");
                }
                // Forgetting looks the same, so it is a note; nothing depends on a lease.
                "snapshot" | "lease" => {
                    assert!(named(name.as_str()), "{what}: {report:#?}");
                    assert!(!report.is_damaged(), "{what}");
                }
                // Its name is written nowhere; what it listed is named.
                "segment" => {
                    assert!(report.unlisted > 0 && report.orphans.is_empty(), "{what}");
                    assert_eq!(report.worst(), Some(Severity::Loss));
                }
                "data pack" | "tree pack" => {
                    assert!(named(name.as_str()), "{what}: {report:#?}");
                    assert_eq!(report.worst(), Some(Severity::Loss), "{what}");
                }
                _ => assert!(named(name.as_str()) && report.is_damaged(), "{what}: {report:#?}"),
            }
            world.assert_rest_reads(&report, &what);
            world.storage.load(world.whole.clone());
        }
    }
    for name in world.storage.names_in(Folder::Keys) {
        world.storage.remove(&name);
    }
    let report = world.check(ReadData::No);
    assert!(report.findings.iter().any(|f| f.object == "keys" && f.severity == Severity::Damage));
}

#[test]
fn swapped_objects_are_found_and_named() {
    let world = world();
    for (kind, names) in world.objects() {
        let [one, other] = &names[..] else { continue };
        world.storage.swap(one, other);
        let report = world.check(ReadData::All);
        for name in [one, other] {
            let found = report.findings.iter().find(|f| f.object == name.as_str());
            let found = found.unwrap_or_else(|| panic!("{kind}: {name}: {:#?}", report.findings));
            assert!(found.severity >= Severity::Damage, "{kind}");
        }
        world.assert_rest_reads(&report, kind);
        world.storage.load(world.whole.clone());
    }
}

#[test]
fn a_damaged_snapshot_costs_itself_alone() {
    let (storage, repository) = crate::common::memory();
    let mut tree = MemoryTree::new();
    let mut ids = Vec::new();
    for time in 1..=3 {
        tree.file(format!("f{time}"), random_bytes(time, 150_000));
        ids.push(back_up(&repository, &tree, time as i64).snapshot.expect("snapshot"));
    }
    let hurt = ids.remove(1);
    storage.corrupt(&ObjectName::snapshot(hurt), |bytes| bytes[100] ^= 1);
    assert!(matches!(repository.snapshots(), Err(Error::Damaged { .. })), "not all are there");
    let (listed, notes) = repository.snapshots_with_notes().expect("list");
    assert_eq!(listed.iter().map(|info| info.id).collect::<Vec<_>>(), ids);
    assert_eq!(notes.lost().map(|(id, _)| id).collect::<Vec<_>>(), [hurt]);
    // Backups go on and say so.
    let told = Told::default();
    let options = crate::common::options(tree.source(), 4);
    let report = backup(&repository, &options, &told, &Interrupt::new()).expect("backup");
    assert_eq!(report.parent, ids.last().copied());
    let told = std::mem::take(&mut *told.0.lock().expect("lock"));
    assert_eq!(told, [ObjectName::snapshot(hurt).to_string()]);
    // A gc stops: nobody knows what is needed.
    let options = GcOptions { threads: 1, ..GcOptions::default() };
    let collect = || gc(&repository, &options, &NoMonitor, &Interrupt::new(), &mut |_| {});
    let before = storage.names_in(Folder::Packs);
    assert!(matches!(collect(), Err(Error::Damaged { .. })));
    assert_eq!(storage.names_in(Folder::Packs), before);
    // It is repaired by nothing, and can be forgotten.
    let report =
        snapshots(&repository, &Default::default(), &NoMonitor, &Interrupt::new()).expect("repair");
    assert_eq!((report.lost, report.repaired.len()), (vec![hurt], 0));
    let forgets = ForgetOptions { snapshots: vec![hurt], force: false };
    let mut gone = Vec::new();
    forget(&repository, &forgets, &Interrupt::new(), &mut |info| {
        gone.push(info.id);
        Ok(())
    })
    .expect("forget");
    assert_eq!(gone, [hurt]);
    collect().expect("gc");
    assert_eq!(repository.snapshots().expect("list").len(), 3);
}

/// Objects that a problem was told of.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl Monitor for Told {
    fn problem(&self, what: &str, _message: &str) {
        self.0.lock().expect("lock").push(what.to_owned());
    }
}

#[test]
fn a_key_slot_that_cannot_be_read_locks_out_nobody_else() {
    let (storage, repository) = crate::common::memory();
    repository.add_slot(&secret(), Default::default(), "second", "host", 2).expect("slot");
    let slots = storage.names_in(Folder::Keys);
    assert_eq!(slots.len(), 2);
    for bad in &slots {
        let faulty = FaultStorage::new(storage.clone()).failing_as(StorageErrorKind::Io);
        let bad = bad.to_string();
        faulty.set_plan(move |_, call| (call.object == bad).then_some(Fault::ErrorBefore));
        try_repository(faulty).expect("the other one opens it");
    }
    let faulty = FaultStorage::new(storage).failing_as(StorageErrorKind::Io);
    faulty.set_plan(|_, call| call.object.starts_with("keys/").then_some(Fault::ErrorBefore));
    let error = try_repository(faulty).expect_err("none is left");
    assert!(matches!(error, Error::Storage(_)), "{error}");
}
