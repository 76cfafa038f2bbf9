//! The tree in memory against the contracts it stands in for.

use std::ops::ControlFlow;

use holdfast_engine::destination::{Attributes, Destination, DestinationErrorKind};
use holdfast_engine::source::{Source, SourceDirectory, SourceEntry, SourceErrorKind, WalkBatch};

use super::*;

fn walk(source: &MemorySource) -> Vec<WalkBatch> {
    let mut batches = Vec::new();
    source
        .walk(&mut |batch| {
            batches.push(batch);
            ControlFlow::Continue(())
        })
        .unwrap();
    batches
}

fn names(source: &MemorySource) -> Vec<String> {
    let entry =
        |batch: &WalkBatch, entry: &SourceEntry| show(&join(&batch.directory.path, &entry.name));
    walk(source)
        .iter()
        .flat_map(|b| b.entries.iter().map(|e| entry(b, e)).collect::<Vec<_>>())
        .collect()
}

fn find(source: &MemorySource, path: &str) -> (Arc<SourceDirectory>, SourceEntry) {
    for batch in walk(source) {
        for entry in &batch.entries {
            if join(&batch.directory.path, &entry.name) == path.as_bytes() {
                return (Arc::clone(&batch.directory), entry.clone());
            }
        }
    }
    panic!("no {path}")
}

fn sample() -> MemoryTree {
    let mut tree = MemoryTree::new();
    tree.file("a/x/1", "one").file("a-b", "two").file("a/y", "three").directory("b");
    tree.hard_link("b/also", "a/y").symlink("c", "a/x").file("a.b/z", "four");
    tree
}

#[test]
fn the_walk_is_in_tree_order() {
    let expected =
        ["(root)", "a", "a-b", "a.b", "b", "c", "a/x", "a/y", "a/x/1", "a.b/z", "b/also"];
    assert_eq!(names(&sample().source()), expected);
    assert_eq!(names(&sample().source().with_batch(2)), expected);
    let mut count = 0;
    sample()
        .source()
        .walk(&mut |_| {
            count += 1;
            if count == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(count, 2, "the sink ends the walk");
    assert_eq!(names(&MemoryTree::single_file(b"x").source()), ["(root)"]);
}

#[test]
fn links_and_counts_are_kept_right() {
    let mut tree = sample();
    assert_eq!(tree.node("b/also").unwrap().metadata.links, 2);
    assert_eq!(tree.node("a").unwrap().metadata.links, 3);
    tree.remove("a/y");
    assert_eq!(tree.node("b/also").unwrap().metadata.links, 1);
    assert_eq!(tree.content("b/also"), b"three");
    tree.rename("a", "b/a");
    assert_eq!(tree.content("b/a/x/1"), b"one");
    assert!(tree.node("a").is_none());
}

#[test]
fn troubles_are_met() {
    let mut tree = sample();
    tree.trouble("a", Trouble::Unlistable).trouble("c", Trouble::Unexaminable);
    tree.trouble("a-b", Trouble::Unreadable).trouble("a.b/z", Trouble::Changing(1));
    let source = tree.source();
    assert_eq!(names(&source), ["(root)", "a", "a-b", "a.b", "b", "a.b/z", "b/also"]);
    assert_eq!(walk(&source).iter().map(|b| b.errors.len()).sum::<usize>(), 2);

    let (directory, entry) = find(&source, "a-b");
    let refused = source.read_small(&directory, &entry, 100, &mut Vec::new()).unwrap_err();
    assert_eq!(refused.kind, SourceErrorKind::PermissionDenied);

    let (directory, entry) = find(&source, "a.b/z");
    let mut bytes = b"before ".to_vec();
    let read = source.read_small(&directory, &entry, 100, &mut bytes).unwrap();
    assert_ne!(read.metadata, entry.metadata, "it changed under the reader");
    assert_ne!(bytes, b"before four");
    bytes.clear();
    let again = source.read_small(&directory, &entry, 100, &mut bytes).unwrap();
    assert_eq!((again.metadata, bytes), (entry.metadata.clone(), b"four".to_vec()));
    let long = source.read_small(&directory, &entry, 3, &mut Vec::new()).unwrap_err();
    assert_eq!(long.kind, SourceErrorKind::Changed);
    assert_eq!(source.files_read(), 4);

    tree.clear_troubles().trouble("a.b/z", Trouble::BadFrom(2));
    let source = tree.source();
    let mut file = source.open(&directory, &entry).unwrap();
    assert_eq!(file.read_at(0, &mut [0; 2]).unwrap(), 2);
    assert!(file.read_at(0, &mut [0; 9]).is_err());
    tree.trouble("", Trouble::Unlistable);
    assert!(tree.source().walk(&mut |_| ControlFlow::Continue(())).is_err());
}

/// A plain restore by hand: what goes in through the source comes out of the destination.
fn copy(tree: &MemoryTree, to: &MemoryDestination) {
    to.prepare().unwrap();
    let mut first_names: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut directories = vec![Vec::new()];
    for path in tree.paths() {
        let node = tree.node(&path).unwrap();
        let attributes = Attributes { metadata: &node.metadata, xattrs: &node.xattrs };
        if let Some(existing) = first_names.get(&node.metadata.inode) {
            to.make_hard_link(&path, existing).unwrap();
            continue;
        }
        first_names.insert(node.metadata.inode, path.clone());
        match node.metadata.kind {
            Kind::Directory => {
                assert!(to.make_directory(&path).unwrap());
                directories.push(path);
            }
            Kind::Symlink => drop(to.make_symlink(&path, &node.target, attributes).unwrap()),
            Kind::File => {
                if let Some(extents) = &node.extents {
                    let file = to.create_file(&path, node.metadata.size, false).unwrap();
                    for extent in extents.iter().rev() {
                        let start = extent.offset as usize;
                        let bytes = &node.content[start..start + extent.length as usize];
                        file.write_at(extent.offset, bytes).unwrap();
                    }
                    file.finish(attributes).unwrap();
                } else {
                    to.write_file(&path, &node.content, attributes, false).unwrap();
                }
            }
            _ => drop(to.make_special(&path, attributes).unwrap()),
        }
    }
    for path in directories.iter().rev() {
        let node = tree.node(path).unwrap();
        let attributes = Attributes { metadata: &node.metadata, xattrs: &node.xattrs };
        to.set_attributes(path, attributes).unwrap();
    }
}

#[test]
fn random_trees_copy_and_differ_readably() {
    let options = CompareOptions::default();
    for seed in 0..5 {
        let mut tree = MemoryTree::random(seed, 80);
        tree.assert_same(&MemoryTree::random(seed, 80), &options);
        for round in 0..4 {
            let destination = MemoryDestination::new();
            copy(&tree, &destination);
            destination.into_tree().assert_same(&tree, &options);
            let before = tree.clone();
            let edits = tree.mutate(round, 10);
            assert!(!tree.differences(&before, &options).is_empty(), "{edits:?}");
        }
    }
    let mut other = sample();
    other.set_content("a-b", b"twO".to_vec()).remove("b/also").file("b/also", "three");
    other.node_mut("c").target = b"elsewhere".to_vec();
    let found = sample().differences(&other, &CompareOptions::content_only());
    assert_eq!(found, ["a-b: content differs from byte 2", "c: target a/x and elsewhere"]);
    let links = CompareOptions { hard_links: true, ..CompareOptions::content_only() };
    let found = sample().differences(&other, &links);
    assert!(
        found.contains(&"b/also: hard link of a/y = b/also and of nothing".into()),
        "{found:?}"
    );
}

#[test]
fn destinations_follow_no_links_and_refuse() {
    let destination = MemoryDestination::over(sample());
    let node = Node::new(Kind::File);
    let attributes = Attributes { metadata: &node.metadata, xattrs: &[] };
    let write = |path: &[u8], replace| {
        destination.write_file(path, b"new", attributes, replace).map_err(|error| error.kind)
    };
    use DestinationErrorKind as E;
    assert_eq!(write(b"c/planted", false), Err(E::Io), "c is a symbolic link");
    assert_eq!(write(b"none/file", false), Err(E::NotFound));
    assert_eq!(write(b"a-b", false), Err(E::AlreadyExists));
    assert_eq!(write(b"a", true), Err(E::AlreadyExists), "a directory is not replaced");
    destination.refuse("b/no", E::NoSpace);
    assert_eq!(write(b"b/no", false), Err(E::NoSpace));
    write(b"b/also", true).unwrap();
    let tree = destination.tree();
    assert_eq!(tree.content("a/y"), b"three", "replacing breaks the link");
    assert_eq!(tree.node("a/y").unwrap().metadata.links, 1);
    assert!(destination.remove(b"a").is_err(), "not empty");
    assert!(!destination.make_directory(b"a").unwrap());
    let unfinished = destination.create_file(b"part", 10, false).unwrap();
    unfinished.write_at(0, b"x").unwrap();
    assert!(unfinished.write_at(8, b"xyz").is_err());
    drop(unfinished);
    assert_eq!(destination.stat(b"part").unwrap(), None);
}
