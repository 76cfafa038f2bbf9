//! What every destination must do, seen through the trait alone. What a destination says that it
//! left unset is not asked for.

use std::io::Read;
use std::sync::Arc;

use holdfast_engine::destination::{
    Attributes, Destination, DestinationErrorKind as Error, DestinationResult, Unset,
};
use holdfast_engine::meta::{Kind, Metadata, Owner, Time, Xattr};

/// What not every destination can, asked for in this form.
#[derive(Debug, Clone, Copy)]
pub struct Capabilities {
    /// Names may be any bytes; else one that is not UTF-8 is `Unsupported`.
    pub any_name: bool,
    /// Directories have modes, and are closed to others at first.
    pub directory_modes: bool,
    /// Links lead somewhere, so that what lies behind one is refused; else nothing is there.
    pub links_lead: bool,
}

impl Capabilities {
    /// A file system.
    pub const FILES: Self = Self { any_name: true, directory_modes: true, links_lead: true };
    /// Objects with keys.
    pub const OBJECTS: Self = Self { any_name: false, directory_modes: false, links_lead: false };
}

/// Runs the whole suite for a file system; `make` gives a fresh destination whose place does not
/// exist yet.
///
/// # Panics
/// When the destination breaks a promise.
#[doc(hidden)]
pub fn destination_conformance(make: &dyn Fn() -> Box<dyn Destination>) {
    destination_conformance_of(make, Capabilities::FILES);
}

/// As [`destination_conformance`], for a destination that can this.
///
/// # Panics
/// When the destination breaks a promise.
#[doc(hidden)]
pub fn destination_conformance_of(make: &dyn Fn() -> Box<dyn Destination>, can: Capabilities) {
    type Check = fn(&dyn Destination, Capabilities);
    expect(make().list(b""), Error::NotFound);
    let checks: &[Check] = &[directories, files, parts, replacing, links, removing, many_threads];
    for check in checks {
        let destination = make();
        good(destination.prepare());
        good(destination.prepare());
        check(&*destination, can);
    }
}

#[track_caller]
fn good<T>(answer: DestinationResult<T>) -> T {
    match answer {
        Ok(value) => value,
        Err(e) => panic!("{}", e.text()),
    }
}

#[track_caller]
fn expect<T>(answer: DestinationResult<T>, kind: Error) {
    match answer {
        Ok(_) => panic!("went well, though it had to fail as {kind:?}"),
        Err(e) => assert_eq!(e.kind, kind, "{}", e.text()),
    }
}

/// Metadata of a thing that the account of the destination may own.
fn wanted(to: &dyn Destination, kind: Kind, mode: u32) -> Metadata {
    let own = good(to.stat(b"")).map_or_else(|| Arc::new(Owner::default()), |m| m.owner);
    let mtime = Time { seconds: 1_234_567_890, nanos: 123_456_789 };
    Metadata { kind, mode, owner: own, mtime, ..Metadata::default() }
}

fn plain(metadata: &Metadata) -> Attributes<'_> {
    Attributes { metadata, xattrs: &[] }
}

fn read(to: &dyn Destination, path: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    match good(to.open_file(path)).read_to_end(&mut content) {
        Ok(_) => content,
        Err(e) => panic!("read {}: {e}", String::from_utf8_lossy(path)),
    }
}

/// What stands there is what was asked for, but for what was said to be unset.
#[track_caller]
fn check(to: &dyn Destination, path: &[u8], wanted: &Metadata, size: usize, unset: Unset) {
    let Some(found) = good(to.stat(path)) else {
        panic!("nothing at {}", String::from_utf8_lossy(path));
    };
    assert_eq!((found.kind, found.size), (wanted.kind, size as u64));
    if !unset.mode && wanted.kind != Kind::Symlink {
        assert_eq!(format!("{:o}", found.mode), format!("{:o}", wanted.mode));
    }
    if !unset.owner {
        assert_eq!((found.owner.uid, found.owner.gid), (wanted.owner.uid, wanted.owner.gid));
    }
    if !unset.times {
        let kept = to.kept_time(wanted.mtime);
        assert_eq!(found.mtime, kept);
        assert_eq!(found.mtime != wanted.mtime, unset.fractions, "fractions lost in silence");
    }
}

fn directories(to: &dyn Destination, can: Capabilities) {
    assert_eq!(good(to.list(b"")), Vec::<Vec<u8>>::new());
    assert!(good(to.stat(b"d")).is_none() && good(to.stat(b"d/e")).is_none());
    expect(to.make_directory(b"d/e"), Error::NotFound);
    expect(to.list(b"d"), Error::NotFound);
    assert!(good(to.make_directory(b"d")));
    assert!(!good(to.make_directory(b"d")));
    let found = good(to.stat(b"d"));
    let mode = if can.directory_modes { 0o700 } else { 0o755 };
    assert_eq!(found.map(|d| (d.kind, d.mode)), Some((Kind::Directory, mode)));
    let odd: &[u8] = if can.any_name { b"d/\xff\n" } else { b"d/\x01\n" };
    assert!(good(to.make_directory(odd)));
    assert!(good(to.make_directory(b"d/-e")));
    let mut names = good(to.list(b"d"));
    names.sort();
    let mut both = [&b"-e"[..], &odd[2..]];
    both.sort();
    assert_eq!(names, both);
    if !can.any_name {
        expect(to.make_directory(b"d/\xff"), Error::Unsupported);
    }
    for (path, mode) in [(&b"d/-e"[..], 0o500), (b"d", 0o1777), (b"", 0o750)] {
        let m = wanted(to, Kind::Directory, mode);
        let unset = good(to.set_attributes(path, plain(&m)));
        check(to, path, &m, 0, unset);
    }
}

fn files(to: &dyn Destination, _: Capabilities) {
    good(to.make_directory(b"made"));
    let x = [Xattr { name: b"user.x".to_vec(), value: b"1".to_vec() }];
    for (number, size) in [0, 1, 4096, 300_000, 3_000_000].into_iter().enumerate() {
        for (mode, xattrs) in [(0o644, &[][..]), (0o400, &x), (0o1755, &[])] {
            for directory in ["", "made/"] {
                let path = format!("{directory}{number}-{mode:o}").into_bytes();
                let content: Vec<u8> = (0..size).map(|i| (i * 31 + i / 251) as u8).collect();
                let m = wanted(to, Kind::File, mode);
                let unset = good(to.write_file(
                    &path,
                    &content,
                    Attributes { metadata: &m, xattrs },
                    false,
                ));
                check(to, &path, &m, size, unset);
                assert!(read(to, &path) == content);
                let found = good(to.xattrs(&path));
                assert_eq!(found, if unset.xattrs { &[] } else { xattrs });
            }
        }
    }
    let m = wanted(to, Kind::File, 0o644);
    expect(to.write_file(b"no/where", b"", plain(&m), false), Error::NotFound);
    expect(to.open_file(b"no/where"), Error::NotFound);
    let m = wanted(to, Kind::File, 0o600);
    let unset = good(to.set_attributes(b"1-644", plain(&m)));
    check(to, b"1-644", &m, 1, unset);
}

fn parts(to: &dyn Destination, _: Capabilities) {
    let m = wanted(to, Kind::File, 0o640);
    let file = good(to.create_file(b"big", 1_000_000, false));
    good(file.write_at(900_000, &[1; 100_000]));
    good(file.write_at(0, &[2; 10]));
    assert!(good(to.stat(b"big")).is_none(), "there before it is finished");
    let unset = good(file.finish(plain(&m)));
    check(to, b"big", &m, 1_000_000, unset);
    let content = read(to, b"big");
    assert!(
        content
            .iter()
            .enumerate()
            .all(|(i, byte)| { *byte == if i < 10 { 2 } else { u8::from(i >= 900_000) } })
    );
    // Nothing written at its end, and nothing at all.
    let file = good(to.create_file(b"hole", 500_000, false));
    good(file.write_at(0, b"x"));
    good(file.finish(plain(&m)));
    assert_eq!(read(to, b"hole").len(), 500_000);
    good(good(to.create_file(b"empty", 0, false)).finish(plain(&m)));
    assert_eq!(read(to, b"empty"), b"");
    let dropped = good(to.create_file(b"dropped", 100, false));
    good(dropped.write_at(0, b"half"));
    drop(dropped);
    let mut names = good(to.list(b""));
    names.sort();
    assert_eq!(names, [&b"big"[..], b"empty", b"hole"], "something is left behind");
}

fn replacing(to: &dyn Destination, _: Capabilities) {
    let m = wanted(to, Kind::File, 0o644);
    let a = plain(&m);
    let write = |path: &[u8], replace| to.write_file(path, b"new", a, replace);
    let create = |path: &[u8], replace| {
        let file = to.create_file(path, 3, replace)?;
        file.write_at(0, b"new")?;
        file.finish(a)
    };
    type Way<'a> = &'a dyn Fn(&[u8], bool) -> DestinationResult<Unset>;
    good(to.make_directory(b"d"));
    for way in [&write as Way<'_>, &create] {
        for path in [&b"f"[..], b"d/f"] {
            good(to.write_file(path, b"old and longer", a, true));
            expect(way(path, false), Error::AlreadyExists);
            assert_eq!(read(to, path), b"old and longer");
            good(way(path, true));
            assert_eq!(read(to, path), b"new");
        }
        expect(way(b"d", false), Error::AlreadyExists);
        expect(way(b"d", true), Error::AlreadyExists);
        assert_eq!(good(to.list(b"d")), [b"f"]);
    }
}

fn links(to: &dyn Destination, can: Capabilities) {
    good(to.make_directory(b"d"));
    let file = wanted(to, Kind::File, 0o644);
    let m = wanted(to, Kind::Symlink, 0o777);
    good(to.write_file(b"d/f", b"precious", plain(&file), false));
    for (path, target) in [(&b"l"[..], &b"d/f"[..]), (b"dl", b"d"), (b"n", b"\xff nowhere")] {
        let unset = good(to.make_symlink(path, target, plain(&m)));
        check(to, path, &m, target.len(), unset);
        assert_eq!(good(to.link_target(path)), target);
    }
    assert!(to.link_target(b"none").is_err());
    expect(to.make_symlink(b"l", b"x", plain(&m)), Error::AlreadyExists);
    expect(to.make_directory(b"dl"), Error::AlreadyExists);
    // Not through a link, neither at the end of a path nor on the way.
    assert!(to.open_file(b"l").is_err());
    assert!(to.list(b"dl").is_err());
    for replace in [false, true] {
        assert!(to.write_file(b"dl/x", b"", plain(&file), replace).is_err());
        assert!(to.create_file(b"dl/x", 0, replace).is_err());
    }
    assert!(to.make_directory(b"dl/x").is_err() && to.remove(b"dl/f").is_err());
    match can.links_lead {
        true => assert!(to.stat(b"dl/f").is_err()),
        false => assert!(good(to.stat(b"dl/f")).is_none()),
    }
    good(to.write_file(b"l", b"own", plain(&file), true));
    assert_eq!((read(to, b"l"), read(to, b"d/f")), (b"own".to_vec(), b"precious".to_vec()));
    assert_eq!(good(to.list(b"d")), [b"f"]);

    match to.make_hard_link(b"h", b"d/f") {
        Err(e) => assert_eq!(e.kind, Error::Unsupported, "{}", e.text()),
        Ok(()) => {
            assert_eq!(read(to, b"h"), b"precious");
            expect(to.make_hard_link(b"h", b"d/f"), Error::AlreadyExists);
            expect(to.make_hard_link(b"i", b"d/none"), Error::NotFound);
        }
    }
}

fn removing(to: &dyn Destination, _: Capabilities) {
    let m = wanted(to, Kind::File, 0o644);
    expect(to.remove(b"d"), Error::NotFound);
    good(to.make_directory(b"d"));
    good(to.write_file(b"d/f", b"", plain(&m), false));
    expect(to.remove(b"d"), Error::AlreadyExists);
    good(to.remove(b"d/f"));
    good(to.remove(b"d"));
    assert!(good(to.stat(b"d")).is_none());
    // The name is free, for something else too.
    good(to.write_file(b"d", b"a file", plain(&m), false));
    assert!(to.write_file(b"d/f", b"", plain(&m), false).is_err());
    good(to.remove(b"d"));
    assert!(good(to.make_directory(b"d")));
    good(to.write_file(b"d/f", b"", plain(&m), false));
}

fn many_threads(to: &dyn Destination, _: Capabilities) {
    let m = wanted(to, Kind::File, 0o644);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let m = &m;
            scope.spawn(move || {
                good(to.make_directory(format!("{thread}").as_bytes()));
                for i in 0..20 {
                    let path = format!("{thread}/{i}");
                    let content = path.repeat(i + 1).into_bytes();
                    good(to.write_file(path.as_bytes(), &content, plain(m), false));
                }
            });
        }
    });
    for thread in 0..8 {
        assert_eq!(good(to.list(format!("{thread}").as_bytes())).len(), 20);
        let path = format!("{thread}/19");
        assert_eq!(read(to, path.as_bytes()), path.repeat(20).into_bytes());
    }
}
