//! The local destination: what was asked for stands there, seen with the standard library's eyes,
//! and nothing is written through what somebody planted.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_connectors::conformance::destination::destination_conformance;
use holdfast_connectors::local::destination::{LocalDestination, LocalDestinationOptions};
use holdfast_engine::destination::{
    Attributes, Destination, DestinationErrorKind, DestinationResult, Unset,
};
use holdfast_engine::meta::{Kind, Metadata, Owner, Time, Xattr};
use holdfast_testkit::MemoryDestination;

use crate::{as_nobody, is_root, scratch};

fn destination(path: &Path) -> LocalDestination {
    let destination = LocalDestination::new(path, LocalDestinationOptions { numeric_ids: true });
    destination.prepare().unwrap();
    destination
}

fn metadata(kind: Kind, mode: u32) -> Metadata {
    let owner = Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        ..Owner::default()
    };
    Metadata {
        kind,
        mode,
        owner: Arc::new(owner),
        mtime: Time { seconds: 1_234_567_890, nanos: 123_456_789 },
        ..Metadata::default()
    }
}

fn owned(mut metadata: Metadata, uid: u32, gid: u32) -> Metadata {
    metadata.owner = Arc::new(Owner { uid, gid, ..Owner::default() });
    metadata
}

fn plain(metadata: &Metadata) -> Attributes<'_> {
    Attributes { metadata, xattrs: &[] }
}

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.into(), value: value.to_vec() }
}

/// `user::rwx, user:12:rw-, group::r--, mask::rw-, other::---`, as the kernel writes it.
fn acl() -> Vec<u8> {
    let entry = |tag: u16, perm: u16, id: u32| {
        [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    [
        2_u32.to_le_bytes().to_vec(),
        entry(1, 7, none),
        entry(2, 6, 12),
        entry(4, 4, none),
        entry(0x10, 6, none),
        entry(0x20, 0, none),
    ]
    .concat()
}

#[track_caller]
fn check(path: &Path, wanted: Attributes<'_>) {
    let truth = fs::symlink_metadata(path).unwrap();
    let m = wanted.metadata;
    if m.kind != Kind::Symlink {
        assert_eq!(format!("{:o}", truth.mode() & 0o7777), format!("{:o}", m.mode));
    }
    assert_eq!((truth.uid(), truth.gid()), (m.owner.uid, m.owner.gid));
    assert_eq!((truth.mtime(), truth.mtime_nsec()), (m.mtime.seconds, i64::from(m.mtime.nanos)));
    let mut found: Vec<_> = xattr::list(path)
        .unwrap()
        .map(|name| (name.as_bytes().to_vec(), xattr::get(path, &name).unwrap().unwrap()))
        .collect();
    found.sort();
    let mut wanted: Vec<_> =
        wanted.xattrs.iter().map(|x| (x.name.clone(), x.value.clone())).collect();
    wanted.sort();
    assert_eq!(found, wanted);
}

#[track_caller]
fn complete(unset: DestinationResult<Unset>) {
    assert_eq!(unset.unwrap(), Unset::default());
}

#[track_caller]
fn fails<T>(answer: DestinationResult<T>, kind: DestinationErrorKind) {
    match answer {
        Ok(_) => panic!("went well"),
        Err(e) => assert_eq!(e.kind, kind, "{}", e.text()),
    }
}

#[test]
fn local_and_memory_do_what_every_destination_must() {
    let scratch = tempfile::tempdir().unwrap();
    let next = AtomicUsize::new(0);
    destination_conformance(&|| {
        let path = scratch.path().join(next.fetch_add(1, Ordering::Relaxed).to_string());
        let options = LocalDestinationOptions { numeric_ids: true };
        Box::new(LocalDestination::new(path, options))
    });
    destination_conformance(&|| Box::new(MemoryDestination::new()));
}

#[test]
fn every_kind_comes_back_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("made/here");
    let to = destination(&root);
    assert!(to.make_directory(b"dir").unwrap());
    assert!(!to.make_directory(b"dir").unwrap());
    assert_eq!(fs::metadata(root.join("dir")).unwrap().mode() & 0o7777, 0o700);
    let user = [xattr("user.a", b"1"), xattr("user.empty", b"")];
    let with_acl = [xattr("system.posix_acl_access", &acl()), xattr("user.a", &[0, 255])];

    for mode in [0o644, 0o600, 0o444, 0, 0o777, 0o4755, 0o2755, 0o1644] {
        for (size, x) in [(0, &[][..]), (10_000, &user)] {
            let name = format!("dir/{mode:o}-{size}");
            let m = metadata(Kind::File, mode);
            let a = Attributes { metadata: &m, xattrs: x };
            complete(to.write_file(name.as_bytes(), &vec![7; size], a, false));
            check(&root.join(&name), a);
            assert_eq!(fs::read(root.join(&name)).unwrap(), vec![7; size]);
        }
    }
    let m = metadata(Kind::File, 0o760);
    let a = Attributes { metadata: &m, xattrs: &with_acl };
    complete(to.write_file(b"acl", b"x", a, false));
    check(&root.join("acl"), a);
    assert_eq!(to.xattrs(b"acl").unwrap(), with_acl);

    if is_root() {
        let m = owned(metadata(Kind::File, 0o6755), 12, 34);
        let a = Attributes { metadata: &m, xattrs: &user };
        complete(to.write_file(b"theirs", b"x", a, false));
        check(&root.join("theirs"), a);
        for (name, kind, device) in [
            ("char", Kind::CharDevice, Some((1, 3))),
            ("block", Kind::BlockDevice, Some((7, 300))),
            ("fifo", Kind::Fifo, None),
            ("socket", Kind::Socket, None),
        ] {
            let m = Metadata { device, ..owned(metadata(kind, 0o640), 12, 34) };
            complete(to.make_special(name.as_bytes(), plain(&m)));
            check(&root.join(name), plain(&m));
            let back = to.stat(name.as_bytes()).unwrap().unwrap();
            assert_eq!((back.kind, back.device), (kind, device));
        }
        let m = owned(metadata(Kind::Symlink, 0o777), 12, 34);
        let trusted = [xattr("trusted.x", b"of the link")];
        let a = Attributes { metadata: &m, xattrs: &trusted };
        complete(to.make_symlink(b"link", b"dir/\xff", a));
        check(&root.join("link"), a);
        assert_eq!(fs::read_link(root.join("link")).unwrap().as_os_str().as_bytes(), b"dir/\xff");
    }
    to.make_hard_link(b"dir/other", b"dir/644-0").unwrap();
    let inode = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
    assert_eq!(inode("dir/other"), inode("dir/644-0"));
    fails(to.make_hard_link(b"dir/other", b"acl"), DestinationErrorKind::AlreadyExists);

    let m = metadata(Kind::Directory, 0o2750);
    let defaults = [xattr("system.posix_acl_default", &acl()), xattr("user.d", b"1")];
    let a = Attributes { metadata: &m, xattrs: &defaults };
    complete(to.set_attributes(b"dir", a));
    check(&root.join("dir"), a);
    // Made where ACLs are inherited, an entry still has only its own; taken back, they are gone.
    let m = metadata(Kind::File, 0o644);
    complete(to.write_file(b"dir/own", b"x", plain(&m), false));
    complete(to.write_file(b"dir/own2", b"x", plain(&m), false));
    check(&root.join("dir/own"), plain(&m));
    check(&root.join("dir/own2"), plain(&m));
    let m = metadata(Kind::Directory, 0o700);
    complete(to.set_attributes(b"dir", Attributes { metadata: &m, xattrs: &defaults[1..] }));
    check(&root.join("dir"), Attributes { metadata: &m, xattrs: &defaults[1..] });
    complete(to.set_attributes(b"", plain(&m)));
    check(&root, plain(&m));

    assert!(to.free_space().unwrap().unwrap() > 0);
    let names = to.list(b"").unwrap();
    assert!(
        names.is_sorted() && names.contains(&b"acl".to_vec()) && names.contains(&b"dir".to_vec())
    );
    let mut content = Vec::new();
    to.open_file(b"dir/644-10000").unwrap().read_to_end(&mut content).unwrap();
    assert_eq!(content, vec![7; 10_000]);
    assert!(to.stat(b"nothing").unwrap().is_none() && to.stat(b"no/thing").unwrap().is_none());
    assert!(no_temporary(scratch.path()));
}

fn no_temporary(root: &Path) -> bool {
    fs::read_dir(root).unwrap().map(|e| e.unwrap()).all(|e| {
        !e.file_name().as_bytes().starts_with(b".holdfast-tmp")
            && (!e.file_type().unwrap().is_dir() || no_temporary(&e.path()))
    })
}

#[test]
fn names_in_the_way() {
    let scratch = scratch();
    let root = scratch.path();
    let to = destination(root);
    let m = metadata(Kind::File, 0o644);
    let a = plain(&m);
    fs::write(root.join("outside"), b"precious").unwrap();
    let write = |name: &str, replace| to.write_file(name.as_bytes(), b"new", a, replace);
    let create = |name: &str, replace| {
        let file = to.create_file(name.as_bytes(), 3, replace)?;
        file.write_at(0, b"new")?;
        file.finish(a)
    };
    type Way<'a> = &'a dyn Fn(&str, bool) -> DestinationResult<Unset>;
    for (n, way) in [&write as Way<'_>, &create].into_iter().enumerate() {
        let name = |base: &str| format!("{base}{n}");
        let at = |base: &str| root.join(name(base));
        fs::write(at("file"), b"old").unwrap();
        symlink("outside", at("link")).unwrap();
        fs::create_dir(at("dir")).unwrap();
        for base in ["file", "link", "dir"] {
            fails(way(&name(base), false), DestinationErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read(at("file")).unwrap(), b"old");
        fails(way(&name("dir"), true), DestinationErrorKind::AlreadyExists);
        for base in ["file", "link", "fresh"] {
            complete(way(&name(base), true));
            assert_eq!(fs::read(at(base)).unwrap(), b"new");
            assert!(fs::symlink_metadata(at(base)).unwrap().is_file());
            check(&at(base), a);
        }
        assert_eq!(fs::read(root.join("outside")).unwrap(), b"precious");
        fails(way("no/where", false), DestinationErrorKind::NotFound);
    }
    fails(to.make_symlink(b"file0", b"x", a), DestinationErrorKind::AlreadyExists);
    fails(to.make_directory(b"file0"), DestinationErrorKind::AlreadyExists);
    fails(to.open_file(b"dir0"), DestinationErrorKind::AlreadyExists);
    to.remove(b"file0").unwrap();
    fails(to.remove(b"file0"), DestinationErrorKind::NotFound);
    // A directory made anew is not mistaken for the one that was there.
    to.make_directory(b"dir0/in").unwrap();
    complete(to.write_file(b"dir0/in/x", b"", a, false));
    fails(to.remove(b"dir0/in"), DestinationErrorKind::AlreadyExists);
    to.remove(b"dir0/in/x").unwrap();
    to.remove(b"dir0/in").unwrap();
    to.make_directory(b"dir0/in").unwrap();
    complete(to.write_file(b"dir0/in/x", b"", a, false));
    assert!(root.join("dir0/in/x").exists());
    assert!(no_temporary(root));
}

/// Plants links to what is beside `root`, and tries every way through them. Returns what is beside.
pub(crate) fn plant_links(to: &dyn Destination, root: &Path) -> PathBuf {
    let outside = root.parent().unwrap().join("outside");
    fs::create_dir_all(outside.join("sub")).unwrap();
    fs::write(outside.join("precious"), b"precious").unwrap();
    fs::set_permissions(outside.join("precious"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&outside, root.join("planted")).unwrap();
    symlink("../outside/precious", root.join("file")).unwrap();
    to.make_directory(b"real").unwrap();
    symlink("../../outside", root.join("real/planted")).unwrap();
    let m = metadata(Kind::File, 0o644);
    let d = metadata(Kind::Directory, 0o777);
    let l = metadata(Kind::Symlink, 0o777);
    let taken = DestinationErrorKind::AlreadyExists;
    for at in ["planted", "planted/sub", "real/planted", "real/planted/sub"] {
        let path = format!("{at}/x").into_bytes();
        for replace in [false, true] {
            fails(to.write_file(&path, b"x", plain(&m), replace), taken);
            fails(to.create_file(&path, 1, replace), taken);
        }
        fails(to.make_directory(&path), taken);
        fails(to.make_symlink(&path, b"x", plain(&l)), taken);
        fails(to.make_hard_link(&path, b"file"), taken);
        fails(to.make_special(&path, plain(&metadata(Kind::Fifo, 0o600))), taken);
        fails(to.set_attributes(&path, plain(&d)), taken);
        fails(to.list(&path), taken);
        fails(to.xattrs(&path), taken);
        fails(to.stat(&path), taken);
        fails(to.remove(format!("{at}/sub").as_bytes()), taken);
    }
    fails(to.make_directory(b"planted"), taken);
    fails(to.list(b"planted"), taken);
    fails(to.open_file(b"file"), taken);
    fails(to.open_file(b"planted/precious"), taken);
    fails(to.make_hard_link(b"stolen", b"planted/precious"), taken);
    fails(to.set_attributes(b"planted", plain(&d)), taken);
    fails(to.set_attributes(b"file", plain(&m)), taken);
    for path in [&b".."[..], b"../x", b"real/../../x", b"real//x", b"./x", b"a\0b", b"/etc"] {
        fails(to.stat(path).map(drop), DestinationErrorKind::Io);
        fails(to.write_file(path, b"x", plain(&m), true), DestinationErrorKind::Io);
    }
    let truth = fs::metadata(outside.join("precious")).unwrap();
    assert_eq!(
        (truth.mode() & 0o777, fs::read(outside.join("precious")).unwrap()),
        (0o600, b"precious".to_vec())
    );
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 2);
    outside
}

#[test]
fn planted_links_are_not_followed() {
    let scratch = scratch();
    let root = scratch.path().join("root");
    let to = destination(&root);
    let outside = plant_links(&to, &root);
    let m = metadata(Kind::File, 0o644);
    // Planted after its handle was opened: the handle still leads to the real one.
    complete(to.write_file(b"real/before", b"x", plain(&m), false));
    fs::rename(root.join("real"), root.join("moved")).unwrap();
    symlink("../outside", root.join("real")).unwrap();
    let _ = to.write_file(b"real/after", b"x", plain(&m), false);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 2);
}

#[test]
fn files_in_parts() {
    let scratch = scratch();
    let root = scratch.path();
    let to = destination(root);
    let m = metadata(Kind::File, 0o640);
    let x = [xattr("user.a", b"1")];
    let a = Attributes { metadata: &m, xattrs: if is_root() { &x } else { &[] } };
    let file = to.create_file(b"big", 8 << 20, false).unwrap();
    std::thread::scope(|scope| {
        for part in 0..4_u64 {
            let file = &file;
            scope.spawn(move || file.write_at(part * (2 << 20), &[part as u8 + 1; 4096]).unwrap());
        }
    });
    assert!(!root.join("big").exists());
    let unset = file.finish(a).unwrap();
    // tmpfs has had user attributes only since Linux 6.6.
    if !unset.xattrs {
        check(&root.join("big"), a);
    }
    let truth = fs::metadata(root.join("big")).unwrap();
    assert_eq!(truth.len(), 8 << 20);
    assert!(truth.blocks() * 512 < 1 << 20, "holes stay holes");
    let content = fs::read(root.join("big")).unwrap();
    assert_eq!(
        (content[4095], content[4096], content[2 << 20], content[(6 << 20) + 4095]),
        (1, 0, 2, 4)
    );

    let dropped = to.create_file(b"dropped", 100, false).unwrap();
    dropped.write_at(0, b"half").unwrap();
    drop(dropped);
    assert!(!root.join("dropped").exists());
    // Another took the name meanwhile.
    let late = to.create_file(b"late", 1, false).unwrap();
    fs::write(root.join("late"), b"first").unwrap();
    fails(late.finish(a), DestinationErrorKind::AlreadyExists);
    assert_eq!(fs::read(root.join("late")).unwrap(), b"first");
    assert!(no_temporary(root));
}

#[test]
fn groups_are_inherited_only_where_wanted() {
    if !is_root() {
        return;
    }
    let scratch = scratch();
    let root = scratch.path();
    fs::create_dir(root.join("shared")).unwrap();
    std::os::unix::fs::chown(root.join("shared"), None, Some(34)).unwrap();
    fs::set_permissions(root.join("shared"), fs::Permissions::from_mode(0o2775)).unwrap();
    let to = destination(root);
    let m = metadata(Kind::File, 0o644);
    for name in ["shared/a", "shared/b"] {
        complete(to.write_file(name.as_bytes(), b"x", plain(&m), false));
        check(&root.join(name), plain(&m));
    }
    to.make_directory(b"shared/sub").unwrap();
    let d = metadata(Kind::Directory, 0o755);
    complete(to.set_attributes(b"shared/sub", plain(&d)));
    check(&root.join("shared/sub"), plain(&d));
}

#[test]
fn owners_by_name() {
    if !is_root() {
        return;
    }
    let scratch = scratch();
    let by_name = LocalDestination::new(scratch.path(), LocalDestinationOptions::default());
    let owner =
        |user: &str| Owner { uid: 4321, gid: 1234, user: user.into(), group: "daemon".into() };
    let daemon = fs::read_to_string("/etc/passwd").unwrap();
    let daemon = daemon.lines().find(|l| l.starts_with("daemon:")).unwrap();
    let uid: u32 = daemon.split(':').nth(2).unwrap().parse().unwrap();
    let mut m = metadata(Kind::File, 0o644);
    m.owner = Arc::new(owner("daemon"));
    complete(by_name.write_file(b"known", b"", plain(&m), false));
    complete(destination(scratch.path()).write_file(b"numbers", b"", plain(&m), false));
    m.owner = Arc::new(owner("nobody-has-this-name"));
    complete(by_name.write_file(b"unknown", b"", plain(&m), false));
    let uid_of = |name: &str| fs::metadata(scratch.path().join(name)).unwrap().uid();
    assert_eq!((uid_of("known"), uid_of("unknown"), uid_of("numbers")), (uid, 4321, 4321));
}

#[test]
fn deep_paths() {
    let scratch = scratch();
    let to = destination(scratch.path());
    let m = metadata(Kind::File, 0o644);
    let mut path = Vec::new();
    for _ in 0..100 {
        path.extend_from_slice(&[b'd'; 60]);
        to.make_directory(&path).unwrap();
        path.push(b'/');
    }
    path.push(b'f');
    complete(to.write_file(&path, b"deep", plain(&m), false));
    let mut content = Vec::new();
    to.open_file(&path).unwrap().read_to_end(&mut content).unwrap();
    assert_eq!(content, b"deep");
    assert_eq!(to.stat(&path).unwrap().unwrap().size, 4);
}

#[test]
fn what_needs_root_is_reported() {
    if !is_root() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
    as_nobody("destination::what_needs_root_as_nobody", scratch.path());
}

#[test]
#[ignore = "run by what_needs_root_is_reported"]
fn what_needs_root_as_nobody() {
    let Some(root) = std::env::var_os("HOLDFAST_TEST_DIRECTORY") else { return };
    let root = PathBuf::from(root).join("restored");
    let to = destination(&root);
    let x = [xattr("user.a", b"1"), xattr("trusted.b", b"2")];
    for i in 0..3 {
        let m = owned(metadata(Kind::File, 0o4444), 12, 34);
        let name = format!("file{i}");
        let a = Attributes { metadata: &m, xattrs: &x };
        let unset = to.write_file(name.as_bytes(), b"x", a, false).unwrap();
        assert_eq!(unset, Unset { owner: true, mode: true, xattrs: true, ..Unset::default() });
        let truth = fs::metadata(root.join(&name)).unwrap();
        // Not set-id to the wrong user, and attributes set although nobody may write it.
        assert_eq!(truth.mode() & 0o7777, 0o444);
        assert_eq!(truth.mtime(), 1_234_567_890);
        let value = xattr::get(root.join(&name), OsStr::new("user.a")).unwrap();
        assert_eq!(value.as_deref(), Some(&b"1"[..]));
    }
    let m = Metadata { device: Some((1, 3)), ..metadata(Kind::CharDevice, 0o600) };
    fails(to.make_special(b"null", plain(&m)), DestinationErrorKind::Unsupported);
    complete(to.make_special(b"fifo", plain(&metadata(Kind::Fifo, 0o600))));
    complete(to.make_special(b"socket", plain(&metadata(Kind::Socket, 0o600))));
    let m = metadata(Kind::File, 0o644);
    complete(to.write_file(b"mine", b"x", plain(&m), false));
    check(&root.join("mine"), plain(&m));
}
