//! The local source against real files of every kind, and against a plain recursive walk.

use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use holdfast_connectors::local::source::{LocalSource, LocalSourceOptions};
use holdfast_engine::meta::{Extent, Kind};
use holdfast_engine::source::{Source, SourceEntry, SourceErrorKind, WalkBatch};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};

use crate::{as_nobody, is_root, scratch};

fn source(root: &Path, options: LocalSourceOptions) -> LocalSource {
    LocalSource::new(root, options).unwrap()
}

fn batches(source: &LocalSource) -> Vec<WalkBatch> {
    let mut batches = Vec::new();
    source
        .walk(&mut |batch| {
            batches.push(batch);
            ControlFlow::Continue(())
        })
        .unwrap();
    batches
}

/// Paths in the walk's order, the root as the empty one.
fn paths(batches: &[WalkBatch]) -> Vec<Vec<u8>> {
    let path = |batch: &WalkBatch, entry: &SourceEntry| {
        [batch.directory.path.as_slice(), &entry.name]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(&b'/')
    };
    batches.iter().flat_map(|b| b.entries.iter().map(move |e| path(b, e))).collect()
}

fn walked(root: &Path, options: LocalSourceOptions) -> Vec<String> {
    let lossy = |p: Vec<u8>| String::from_utf8_lossy(&p).into_owned();
    paths(&batches(&source(root, options))).into_iter().skip(1).map(lossy).collect()
}

/// The order that the contract asks for, done in the plainest way.
fn reference(root: &Path, below: &[u8], into: &mut Vec<Vec<u8>>) {
    let at = root.join(OsStr::from_bytes(below));
    let mut children: Vec<_> = fs::read_dir(at)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.file_name().as_bytes().to_vec(), e.file_type().unwrap().is_dir()))
        .collect();
    children.sort();
    let path = |name: &[u8]| match below {
        b"" => name.to_vec(),
        below => [below, name].join(&b'/'),
    };
    into.extend(children.iter().map(|(name, _)| path(name)));
    for (name, _) in children.iter().filter(|(_, is_directory)| *is_directory) {
        reference(root, &path(name), into);
    }
}

#[track_caller]
fn compare_with_reference(root: &Path) {
    let mut wanted = vec![Vec::new()];
    reference(root, b"", &mut wanted);
    for threads in [1, 2, 5] {
        let batches = batches(&source(root, LocalSourceOptions { threads, ..Default::default() }));
        assert!(batches.iter().all(|b| b.errors.is_empty() && b.excluded == 0));
        assert!(batches.iter().all(|b| b.entries.len() <= 1024));
        let found = paths(&batches);
        let first = found.iter().zip(&wanted).position(|(a, b)| a != b);
        assert_eq!(first, None, "order differs");
        assert_eq!(found.len(), wanted.len());
    }
}

/// A bumpy tree from a seed: names that sort oddly, empty directories, many levels.
fn grow(at: &Path, depth: u32, seed: &mut u64) {
    fn next(seed: &mut u64, limit: u64) -> usize {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        ((*seed >> 33) % limit) as usize
    }
    for i in 0..next(seed, 12) {
        let name = format!("{}{i}", ["f", "a.b", "a", "a-", "\u{e9}", "Z"][next(seed, 6)]);
        fs::write(at.join(name), b"x").unwrap();
    }
    for i in 0..if depth > 6 { 0 } else { next(seed, 5) } {
        let name = format!("{}{i}d", ["a", "a.", "a-", "\u{e9}", "Z", "~"][next(seed, 6)]);
        fs::create_dir(at.join(&name)).unwrap();
        grow(&at.join(&name), depth + 1, seed);
    }
}

#[test]
fn order_is_the_trees() {
    let scratch = scratch();
    for seed in 1..20 {
        let root = scratch.path().join(seed.to_string());
        fs::create_dir(&root).unwrap();
        grow(&root, 0, &mut { seed * 77 });
    }
    compare_with_reference(scratch.path());
}

#[test]
fn big_directories_and_odd_names() {
    let scratch = scratch();
    let root = scratch.path();
    for i in 0..20_000 {
        rustix::fs::mknodat(
            CWD,
            root.join(format!("file-{}", i * 7919 % 20_000)),
            FileType::RegularFile,
            Mode::RUSR,
            0,
        )
        .unwrap();
    }
    // Subdirectories among them, in several batches.
    for i in [3, 9_000, 19_999] {
        fs::create_dir_all(root.join(format!("file-{i}-d/inner"))).unwrap();
        fs::write(root.join(format!("file-{i}-d/inner/x")), b"x").unwrap();
    }
    for name in [&b"\xff\xfe"[..], b"new\nline", &[b'n'; 255], b" ", b"-rf", &[0xc3; 255]] {
        fs::write(root.join(OsStr::from_bytes(name)), b"x").unwrap();
    }
    compare_with_reference(root);
    // The consumer may leave early.
    let mut seen = 0;
    let source = source(root, LocalSourceOptions::default());
    source
        .walk(&mut |_| {
            seen += 1;
            if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(seen, 3);
}

/// Far deeper than PATH_MAX and than the number of handles kept, each level with siblings that
/// are visited on the way back up.
#[test]
fn deep_paths() {
    let scratch = scratch();
    let mut at = rustix::fs::open(scratch.path(), OFlags::RDONLY, Mode::empty()).unwrap();
    let name = "d".repeat(10);
    for _ in 0..600 {
        rustix::fs::mkdirat(&at, &*name, Mode::RWXU).unwrap();
        rustix::fs::mkdirat(&at, "e", Mode::RWXU).unwrap();
        mknodat(&at, "e/file", FileType::RegularFile, Mode::RUSR, 0).unwrap();
        at = rustix::fs::openat(&at, &*name, OFlags::RDONLY, Mode::empty()).unwrap();
    }
    let file = rustix::fs::openat(&at, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"deep").unwrap();

    let source = source(scratch.path(), LocalSourceOptions::default());
    let batches = batches(&source);
    assert!(batches.iter().all(|b| b.errors.is_empty()));
    let paths = paths(&batches);
    assert_eq!(paths.len(), 1 + 600 * 3 + 1);
    assert!(paths.iter().any(|p| p.len() > 6_000));
    let (batch, entry) = batches
        .iter()
        .find_map(|b| b.entries.iter().find(|e| e.name == b"f").map(|e| (b, e)))
        .unwrap();
    let mut content = Vec::new();
    source.read_small(&batch.directory, entry, 100, &mut content).unwrap();
    assert_eq!(content, b"deep");
    source.details(&batch.directory, entry).unwrap();
    // And with a handle that is not there any more.
    let bare = holdfast_engine::source::SourceDirectory {
        path: batch.directory.path.clone(),
        handle: None,
    };
    content.clear();
    source.read_small(&bare, entry, 100, &mut content).unwrap();
    assert_eq!(content, b"deep");
}

fn find<'a>(batches: &'a [WalkBatch], name: &str) -> (&'a WalkBatch, &'a SourceEntry) {
    let name = name.as_bytes();
    let found =
        batches.iter().find_map(|b| b.entries.iter().find(|e| e.name == name).map(|e| (b, e)));
    found.unwrap()
}

#[test]
fn every_kind_with_its_metadata() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    fs::write(root.join("file"), b"content").unwrap();
    fs::set_permissions(root.join("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(root.join("file"), root.join("link")).unwrap();
    symlink("no/where", root.join("symlink")).unwrap();
    fs::create_dir(root.join("dir")).unwrap();
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    if is_root() {
        std::os::unix::fs::lchown(root.join("symlink"), Some(12), Some(34)).unwrap();
        let device = |name, kind, major, minor| {
            mknodat(CWD, root.join(name), kind, Mode::RUSR, makedev(major, minor)).unwrap();
        };
        device("char", FileType::CharacterDevice, 1, 3);
        device("block", FileType::BlockDevice, 7, 300);
    }
    let source = source(root, LocalSourceOptions::default());
    let batches = batches(&source);
    for (batch, entry) in batches.iter().flat_map(|b| b.entries.iter().map(move |e| (b, e))) {
        let truth = fs::symlink_metadata(root.join(OsStr::from_bytes(&entry.name))).unwrap();
        let m = &entry.metadata;
        let kind = match truth.mode() & 0o170_000 {
            0o100_000 => Kind::File,
            0o040_000 => Kind::Directory,
            0o120_000 => Kind::Symlink,
            0o020_000 => Kind::CharDevice,
            0o060_000 => Kind::BlockDevice,
            0o010_000 => Kind::Fifo,
            _ => Kind::Socket,
        };
        assert_eq!(m.kind, kind);
        assert_eq!(m.mode, truth.mode() & 0o7777);
        assert_eq!((m.owner.uid, m.owner.gid), (truth.uid(), truth.gid()));
        let sized = matches!(kind, Kind::File | Kind::Symlink);
        assert_eq!(m.size, if sized { truth.len() } else { 0 });
        assert_eq!(
            (m.mtime.seconds, i64::from(m.mtime.nanos)),
            (truth.mtime(), truth.mtime_nsec())
        );
        let ctime = m.ctime.unwrap();
        assert_eq!((ctime.seconds, i64::from(ctime.nanos)), (truth.ctime(), truth.ctime_nsec()));
        assert_eq!((m.inode, u64::from(m.links)), (truth.ino(), truth.nlink()));
        let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        assert_eq!(m.device.map(|(a, b)| makedev(a, b)), is_device.then_some(truth.rdev()));
        let details = source.details(&batch.directory, entry).unwrap();
        assert_eq!(details.target, if kind == Kind::Symlink { &b"no/where"[..] } else { b"" });
        if m.owner.uid == 0 {
            assert_eq!(m.owner.user, "root");
        }
    }
    let (_, file) = find(&batches, "file");
    let (_, link) = find(&batches, "link");
    assert_eq!((file.device, file.metadata.inode), (link.device, link.metadata.inode));
    assert_eq!(file.metadata.links, 2);
    let metadata = source.metadata_of(&root.join("file")).unwrap();
    assert_eq!(metadata, file.metadata);
}

#[test]
fn xattrs_and_acls() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    fs::write(root.join("file"), b"x").unwrap();
    fs::create_dir(root.join("dir")).unwrap();
    let long = vec![b'v'; 3_000];
    for name in ["file", "dir"] {
        xattr::set(root.join(name), "user.b", b"\0\xff").unwrap();
        xattr::set(root.join(name), "user.a", &long).unwrap();
        xattr::set(root.join(name), "user.empty", b"").unwrap();
    }
    let acl = |spec: &str, name: &str| {
        let status = std::process::Command::new("setfacl")
            .args(["-m", spec])
            .arg(root.join(name))
            .status()
            .unwrap();
        assert!(status.success());
    };
    acl("u:12:rw", "file");
    acl("d:u:12:rwx", "dir");
    let source = source(root, LocalSourceOptions::default());
    let batches = batches(&source);
    for (name, acl) in [("file", "system.posix_acl_access"), ("dir", "system.posix_acl_default")] {
        let (batch, entry) = find(&batches, name);
        let details = source.details(&batch.directory, entry).unwrap();
        let names: Vec<_> =
            details.xattrs.iter().map(|x| String::from_utf8_lossy(&x.name)).collect();
        assert_eq!(names, [acl, "user.a", "user.b", "user.empty"]);
        for xattr in &details.xattrs {
            let truth = xattr::get(root.join(name), OsStr::from_bytes(&xattr.name)).unwrap();
            assert_eq!(truth.as_deref(), Some(xattr.value.as_slice()));
        }
        if name == "file" {
            let mut content = Vec::new();
            let read = source.read_small(&batch.directory, entry, 10, &mut content).unwrap();
            assert_eq!(read.details, details);
            let mut file = source.open(&batch.directory, entry).unwrap();
            assert_eq!(file.details().unwrap(), details);
        }
    }
}

#[test]
fn reading_and_what_changed_meanwhile() {
    let scratch = scratch();
    let root = scratch.path();
    let content: Vec<u8> = (0..100_000_u32).map(|i| (i * 7) as u8).collect();
    for name in ["a", "b", "c", "d", "e", "empty"] {
        fs::write(root.join(name), &content).unwrap();
    }
    fs::write(root.join("empty"), b"").unwrap();
    let source = source(root, LocalSourceOptions::default());
    let batches = batches(&source);
    let read = |name: &str, limit| {
        let (batch, entry) = find(&batches, name);
        let mut into = b"before".to_vec();
        let answer = source.read_small(&batch.directory, entry, limit, &mut into);
        assert_eq!(&into[..6], b"before");
        answer.map(|small| (into[6..].to_vec(), small.metadata)).map_err(|e| e.kind)
    };
    assert_eq!(read("a", 100_000).unwrap().0, content);
    assert_eq!(read("empty", 0).unwrap().0, b"");
    assert_eq!(read("a", 99_999), Err(SourceErrorKind::Changed));
    // Grown, shrunk, replaced by another file: read as it is, and the metadata tells.
    fs::write(root.join("a"), vec![1; 150_000]).unwrap();
    let (bytes, metadata) = read("a", 200_000).unwrap();
    assert_eq!((bytes.len(), metadata.size), (150_000, 150_000));
    fs::write(root.join("a"), b"short").unwrap();
    assert_eq!(read("a", 200_000).unwrap().0, b"short");
    // Another kind, or gone.
    fs::remove_file(root.join("b")).unwrap();
    assert_eq!(read("b", 1).unwrap_err(), SourceErrorKind::NotFound);
    symlink("a", root.join("b")).unwrap();
    assert_eq!(read("b", 1).unwrap_err(), SourceErrorKind::Changed);
    fs::remove_file(root.join("c")).unwrap();
    fs::create_dir(root.join("c")).unwrap();
    assert_eq!(read("c", 1).unwrap_err(), SourceErrorKind::Changed);
    fs::remove_file(root.join("d")).unwrap();
    mknodat(CWD, root.join("d"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert_eq!(read("d", 1).unwrap_err(), SourceErrorKind::Changed);
    let (batch, entry) = find(&batches, "d");
    let error = source.open(&batch.directory, entry).map(|_| ()).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Changed);

    let (batch, entry) = find(&batches, "e");
    let mut file = source.open(&batch.directory, entry).unwrap();
    let mut buffer = vec![0; 60_000];
    assert_eq!(file.read_at(50_000, &mut buffer).unwrap(), 50_000);
    assert_eq!(buffer[..50_000], content[50_000..]);
    assert_eq!(file.read_at(100_000, &mut buffer).unwrap(), 0);
    assert_eq!(file.extents().unwrap(), None);
    assert_eq!(file.metadata().unwrap().size, 100_000);
}

#[test]
fn sparse_files() {
    let scratch = scratch();
    let root = scratch.path();
    let file = fs::File::create(root.join("sparse")).unwrap();
    file.set_len(10 << 20).unwrap();
    file.write_all_at(&[1; 4096], 1 << 20).unwrap();
    file.write_all_at(&[2; 8192], 5 << 20).unwrap();
    let hole = fs::File::create(root.join("hole")).unwrap();
    hole.set_len(1 << 30).unwrap();
    fs::write(root.join("dense"), vec![7; 1 << 20]).unwrap();
    let source = source(root, LocalSourceOptions::default());
    let batches = batches(&source);
    let extents = |name| {
        let (batch, entry) = find(&batches, name);
        let extents = source.open(&batch.directory, entry).unwrap().extents().unwrap();
        (entry.sparse, extents)
    };
    let extent = |offset, length| Extent { offset, length };
    let wanted = vec![extent(1 << 20, 4096), extent(5 << 20, 8192)];
    assert_eq!(extents("sparse"), (true, Some(wanted)));
    assert_eq!(extents("hole"), (true, Some(vec![])));
    assert_eq!(extents("dense"), (false, None));
}

#[test]
fn filters() {
    let scratch = scratch();
    let root = scratch.path();
    for path in [
        "a/keep.o",
        "a/x.o",
        "a/x.c",
        "build/deep/x",
        "cache/data",
        "cache/sub/x",
        "repo/config",
        "fake/x",
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"12345").unwrap();
    }
    fs::write(root.join("large"), vec![0; 1000]).unwrap();
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# more";
    fs::write(root.join("cache/CACHEDIR.TAG"), tag).unwrap();
    fs::write(root.join("fake/CACHEDIR.TAG"), "Signature: of something else, as long as it")
        .unwrap();
    let other_way = root.join("a/../repo");
    let options = LocalSourceOptions {
        excludes: ["*.o", "!keep.o", "/build/"].map(String::from).to_vec(),
        exclude_larger_than: Some(999),
        exclude_caches: true,
        never: vec![other_way, root.join("absent")],
        ..Default::default()
    };
    let all: Vec<String> =
        ["a", "cache", "fake", "a/keep.o", "a/x.c", "fake/CACHEDIR.TAG", "fake/x"]
            .map(String::from)
            .to_vec();
    assert_eq!(walked(root, options.clone()), all);
    let batches = batches(&source(root, options.clone()));
    let excluded = |path: &[u8]| -> u64 {
        batches.iter().filter(|b| b.directory.path == path).map(|b| b.excluded).sum()
    };
    assert_eq!((excluded(b""), excluded(b"a"), excluded(b"cache")), (3, 1, 3));
    // Nothing at all is not a backup: the repository as its own source.
    let error = source(&root.join("repo"), options).walk(&mut |_| ControlFlow::Continue(()));
    assert!(error.is_err());
}

#[test]
fn one_file_system() {
    // Mounted in a container or not, /dev/shm is another file system than /dev.
    let device = |path: &str| fs::symlink_metadata(path).map(|m| m.dev());
    assert_ne!(device("/dev").unwrap(), device("/dev/shm").unwrap(), "needs another test bed");
    let inside = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::write(inside.path().join("marker"), b"x").unwrap();
    let name = inside.path().file_name().unwrap().to_str().unwrap();
    let wanted = format!("shm/{name}/marker");
    let on_all = walked(Path::new("/dev"), LocalSourceOptions::default());
    assert!(on_all.contains(&wanted));
    let options = LocalSourceOptions { one_file_system: true, ..Default::default() };
    let on_one = walked(Path::new("/dev"), options);
    assert!(!on_one.iter().any(|path| path.starts_with("shm/")));
    assert!(on_one.contains(&"shm".to_owned()), "the mount point itself stays");
}

#[test]
fn roots_of_other_kinds_and_errors() {
    let scratch = scratch();
    let root = scratch.path();
    fs::write(root.join("file"), b"content").unwrap();
    symlink("file", root.join("link")).unwrap();
    let file = source(&root.join("file"), LocalSourceOptions::default());
    let [batch] = batches(&file).try_into().unwrap();
    assert_eq!((batch.directory.path.len(), batch.entries.len()), (0, 1));
    assert!(batch.entries[0].name.is_empty());
    let mut content = Vec::new();
    file.read_small(&batch.directory, &batch.entries[0], 100, &mut content).unwrap();
    assert_eq!(content, b"content");
    file.details(&batch.directory, &batch.entries[0]).unwrap();
    let mut part = [0; 3];
    file.open(&batch.directory, &batch.entries[0]).unwrap().read_at(3, &mut part).unwrap();
    assert_eq!(&part, b"ten");

    let link = source(&root.join("link"), LocalSourceOptions::default());
    let [batch] = batches(&link).try_into().unwrap();
    assert_eq!(batch.entries[0].metadata.kind, Kind::Symlink);
    assert_eq!(link.details(&batch.directory, &batch.entries[0]).unwrap().target, b"file");

    let absent = source(&root.join("absent"), LocalSourceOptions::default());
    let error = absent.walk(&mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::NotFound);
    assert!(
        LocalSource::new(
            "/",
            LocalSourceOptions { excludes: vec!["a[".into()], ..Default::default() }
        )
        .is_err()
    );
}

#[test]
fn a_directory_that_vanishes_is_an_error_in_its_batch() {
    let scratch = scratch();
    let root = scratch.path();
    for i in 0..40 {
        fs::create_dir(root.join(format!("a{i:02}"))).unwrap();
    }
    for i in 0..20_000 {
        mknodat(CWD, root.join(format!("a00/{i}")), FileType::RegularFile, Mode::RUSR, 0).unwrap();
    }
    fs::create_dir(root.join("z")).unwrap();
    fs::write(root.join("z/x"), b"x").unwrap();
    // When the first batch comes, nobody can have read ahead as far as z.
    let source = source(root, LocalSourceOptions { threads: 1, ..Default::default() });
    let (mut first, mut error) = (true, None);
    source
        .walk(&mut |mut batch| {
            if std::mem::take(&mut first) {
                fs::rename(root.join("z"), root.join("y")).unwrap();
            }
            if batch.directory.path == b"z" {
                error = batch.errors.pop().map(|e| e.kind);
                assert!(batch.entries.is_empty());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(error, Some(SourceErrorKind::NotFound));
}

#[test]
fn out_of_files() {
    let scratch = scratch();
    fs::create_dir(scratch.path().join("d")).unwrap();
    fs::write(scratch.path().join("d/x"), b"content").unwrap();
    // The limit is the whole process's.
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["source::out_of_files_alone", "--exact", "--ignored"])
        .env("HOLDFAST_TEST_DIRECTORY", scratch.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by out_of_files"]
fn out_of_files_alone() {
    let Some(root) = std::env::var_os("HOLDFAST_TEST_DIRECTORY") else { return };
    let source = source(Path::new(&root), LocalSourceOptions::default());
    let batches = batches(&source);
    let (batch, entry) = find(&batches, "x");
    let read = || source.read_small(&batch.directory, entry, 10, &mut Vec::new());
    // The directory is kept open.
    read().unwrap();
    let limit = rustix::process::Rlimit { current: Some(100), maximum: Some(100) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let taken: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    assert!(!taken.is_empty());
    read().unwrap();
    source.open(&batch.directory, entry).unwrap();
}

#[test]
fn without_permission() {
    if !is_root() {
        return;
    }
    let scratch = scratch();
    let root = scratch.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir_all(root.join("t/closed/x")).unwrap();
    fs::create_dir(root.join("t/open")).unwrap();
    fs::write(root.join("t/secret"), b"x").unwrap();
    fs::write(root.join("t/readable"), b"x").unwrap();
    let mode = |path: &str, mode| {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("t/closed", 0o700);
    mode("t/secret", 0o600);
    as_nobody("source::without_permission_as_nobody", root);
}

#[test]
#[ignore = "run by without_permission"]
fn without_permission_as_nobody() {
    let Some(root) = std::env::var_os("HOLDFAST_TEST_DIRECTORY") else { return };
    let source = source(&PathBuf::from(&root).join("t"), LocalSourceOptions::default());
    let batches = batches(&source);
    let paths = paths(&batches);
    assert_eq!(paths.len(), 5);
    let closed = batches.iter().find(|b| b.directory.path == b"closed").unwrap();
    assert_eq!(closed.errors.first().unwrap().kind, SourceErrorKind::PermissionDenied);
    let (batch, entry) = find(&batches, "secret");
    let error = source.read_small(&batch.directory, entry, 10, &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::PermissionDenied);
    let (batch, entry) = find(&batches, "readable");
    source.read_small(&batch.directory, entry, 10, &mut Vec::new()).unwrap();
    let closed =
        LocalSource::new(PathBuf::from(root).join("t/closed"), Default::default()).unwrap();
    let error = closed.walk(&mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::PermissionDenied);
}
