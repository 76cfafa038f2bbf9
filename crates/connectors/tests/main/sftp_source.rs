//! The SFTP source against a real OpenSSH server, compared with the local source on the same tree.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holdfast_connectors::local::source::{LocalSource, LocalSourceOptions};
use holdfast_connectors::sftp::client::Operation;
use holdfast_connectors::sftp::pool::{Pool, SftpOptions};
use holdfast_connectors::sftp::source::{SftpSource, SftpSourceError, SftpSourceOptions};
use holdfast_connectors::sftp::ssh::{ConfigFiles, NoInteraction, SshOptions};
use holdfast_engine::meta::{Kind, Metadata};
use holdfast_engine::source::{Source, SourceEntry, SourceErrorKind, SourceResult, WalkBatch};
use holdfast_testkit::sshd::{keygen, public_line};
use holdfast_testkit::{KeyKind, Sshd, SshdOptions, TreeFixture, TreeOptions};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::runtime::Runtime;

use crate::{is_root, scratch};

/// A server with a key that opens it, and the runtime of those who connect.
pub(crate) struct Server {
    pub(crate) sshd: Sshd,
    pub(crate) runtime: Runtime,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(SshdOptions::default())
    }

    pub(crate) fn with(options: SshdOptions) -> Self {
        let sshd = Sshd::start(options).unwrap();
        let key = sshd.directory().join("key");
        keygen(&key, KeyKind::Ed25519, "", None).unwrap();
        sshd.authorize(&[&public_line(&key).unwrap()]).unwrap();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        Self { sshd, runtime }
    }

    /// Connections to this port: the server's, or a proxy's before it.
    pub(crate) fn pool_at(&self, port: u16, patience: Duration) -> Pool {
        let ssh = SshOptions {
            host: "127.0.0.1".into(),
            port: Some(port),
            username: Some(self.sshd.user().into()),
            use_agent: Some(false),
            ssh_config: ConfigFiles::None,
            home: Some(self.sshd.directory().join("our-home")),
            key_file: Some(self.sshd.directory().join("key")),
            accept_new_host_key: true,
            timeout: Duration::from_secs(10),
            ..SshOptions::default()
        };
        let options = SftpOptions { ssh, patience, ..SftpOptions::default() };
        Pool::new(self.runtime.handle().clone(), options, Arc::new(NoInteraction))
    }

    pub(crate) fn pool(&self) -> Pool {
        self.pool_at(self.sshd.port(), Duration::from_secs(60))
    }

    fn source(&self, root: &Path, options: SftpSourceOptions) -> SftpSource {
        source(&self.pool(), root, options)
    }
}

pub(crate) fn source(pool: &Pool, root: &Path, options: SftpSourceOptions) -> SftpSource {
    SftpSource::new(pool.clone(), root.as_os_str().as_bytes(), options).unwrap()
}

pub(crate) fn batches(source: &dyn Source) -> SourceResult<Vec<WalkBatch>> {
    let mut batches = Vec::new();
    source.walk(&mut |batch| {
        batches.push(batch);
        ControlFlow::Continue(())
    })?;
    Ok(batches)
}

/// Paths with their entries in the walk's order.
fn walked(batches: &[WalkBatch]) -> Vec<(Vec<u8>, SourceEntry)> {
    let path = |batch: &WalkBatch, entry: &SourceEntry| match batch.directory.path.as_slice() {
        b"" => entry.name.clone(),
        directory => [directory, &entry.name].join(&b'/'),
    };
    let entries = batches.iter().flat_map(|b| b.entries.iter().map(move |e| (path(b, e), e)));
    entries.map(|(path, entry)| (path, entry.clone())).collect()
}

fn names(source: &dyn Source) -> Vec<String> {
    let walked = walked(&batches(source).unwrap());
    walked.iter().skip(1).map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect()
}

fn entry(
    source: &dyn Source,
    wanted: &str,
) -> (Arc<holdfast_engine::source::SourceDirectory>, SourceEntry) {
    let batches = batches(source).unwrap();
    let (directory, name) = wanted.rsplit_once('/').unwrap_or(("", wanted));
    let batch = batches.iter().find(|batch| {
        batch.directory.path == directory.as_bytes()
            && batch.entries.iter().any(|entry| entry.name == name.as_bytes())
    });
    let batch = batch.unwrap_or_else(|| panic!("no {wanted}"));
    let entry = batch.entries.iter().find(|entry| entry.name == name.as_bytes()).unwrap();
    (batch.directory.clone(), entry.clone())
}

/// What SFTP can tell of local metadata.
pub(crate) fn as_told(metadata: &Metadata) -> Metadata {
    let mut told = metadata.clone();
    // Which century it was is a guess.
    (told.mtime.seconds, told.mtime.nanos) = (i64::from(told.mtime.seconds as u32), 0);
    (told.ctime, told.inode, told.links, told.device) = (None, 0, 1, None);
    let owner = Arc::make_mut(&mut told.owner);
    for name in [&mut owner.user, &mut owner.group] {
        // A user whom another test has made meanwhile.
        if name.starts_with("holdfast-test-") {
            name.clear();
        }
    }
    told
}

#[test]
fn a_walk_finds_what_a_local_walk_finds() {
    let server = Server::start();
    let tree = TreeFixture::new(11, &TreeOptions { entries: 1500, ..TreeOptions::default() });
    let local = LocalSource::new(tree.root(), LocalSourceOptions::default()).unwrap();
    let wanted = batches(&local).unwrap();
    let remote = server.source(tree.root(), SftpSourceOptions::default());
    for _ in 0..3 {
        let found = batches(&remote).unwrap();
        assert!(found.iter().all(|batch| batch.errors.is_empty() && batch.excluded == 0));
        let (found, wanted) = (walked(&found), walked(&wanted));
        for ((path, entry), (wanted_path, wanted)) in found.iter().zip(&wanted) {
            let shown = wanted_path.escape_ascii();
            assert_eq!(path.escape_ascii().to_string(), shown.to_string());
            let metadata = as_told(&entry.metadata);
            assert_eq!(metadata, as_told(&wanted.metadata), "{shown}");
            assert_eq!((entry.metadata.ctime, entry.metadata.mtime.nanos), (None, 0));
        }
        assert_eq!(found.len(), wanted.len());
        assert!(found.len() > 1500);
    }
    assert!(remote.is_remote());
    assert_eq!(
        remote.location(),
        format!(
            "sftp://{}@127.0.0.1:{}{}",
            server.sshd.user(),
            server.sshd.port(),
            tree.root().display()
        )
    );
}

#[test]
fn link_targets_come_in_whatever_order() {
    let server = Server::start();
    let directory = scratch();
    for i in 0..300 {
        let below = directory.path().join(format!("d{}", i % 7));
        let _ = fs::create_dir(&below);
        symlink(format!("target {i}"), below.join(format!("link{i}"))).unwrap();
    }
    let pool = server.pool();
    let source = source(&pool, directory.path(), SftpSourceOptions::default());
    let batches = batches(&source).unwrap();
    let links = batches.iter().flat_map(|b| b.entries.iter().map(move |e| (b, e)));
    let mut links: Vec<_> =
        links.filter(|(_, entry)| entry.metadata.kind == Kind::Symlink).collect();
    assert_eq!(links.len(), 300);
    let check = |links: &[(&WalkBatch, &SourceEntry)]| {
        for (batch, entry) in links {
            let details = source.details(&batch.directory, entry).unwrap();
            let number = entry.name.strip_prefix(b"link").unwrap();
            assert_eq!(details.target, [b"target ", number].concat());
            assert!(details.xattrs.is_empty());
        }
    };
    check(&links);
    assert_eq!(pool.recorder().requests(Operation::Readlink), 300, "none twice");
    links.reverse();
    check(&links);

    // What became of it since.
    let (batch, entry) = links[0];
    let path = directory.path().join(String::from_utf8_lossy(&batch.directory.path).as_ref());
    let path = path.join(String::from_utf8_lossy(&entry.name).as_ref());
    fs::remove_file(&path).unwrap();
    let error = source.details(&batch.directory, entry).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::NotFound);
    fs::write(&path, "a file").unwrap();
    let error = source.details(&batch.directory, entry).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Changed);
}

#[test]
fn a_hundred_thousand_entries_in_one_directory() {
    let server = Server::start();
    let directory = scratch();
    let count = 100_000;
    for i in 0..count {
        let name = directory.path().join(format!("{}", i * 7919 % count));
        mknodat(CWD, name, FileType::RegularFile, Mode::from(0o644), 0).unwrap();
    }
    let pool = server.pool();
    let source = source(&pool, directory.path(), SftpSourceOptions::default());
    let batches = batches(&source).unwrap();
    assert!(batches.iter().all(|batch| batch.entries.len() <= 1024 && batch.errors.is_empty()));
    let found = walked(&batches);
    assert_eq!(found.len(), count + 1);
    assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
    // One of the root, one of the directory.
    assert_eq!(pool.recorder().requests(Operation::Lstat), 2);
    let listings = pool.recorder().requests(Operation::Readdir);
    assert!(listings < 1100, "{listings} requests for a thousand lists of a hundred names");
}

#[test]
fn filters() {
    let server = Server::start();
    let directory = scratch();
    let root = directory.path();
    for name in ["build", "cache/deep", "not-cache", "repo/packs", "repository"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for (name, length) in [("a.o", 1), ("big", 1000), ("build/x", 1), ("keep", 10), ("keep.o", 1)] {
        fs::write(root.join(name), vec![7; length]).unwrap();
    }
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# and more";
    fs::write(root.join("cache/CACHEDIR.TAG"), tag).unwrap();
    fs::write(root.join("cache/deep/file"), "").unwrap();
    fs::write(root.join("not-cache/CACHEDIR.TAG"), "something else").unwrap();
    fs::write(root.join("repo/packs/p"), "").unwrap();
    symlink(root, root.join("repository/way-round")).unwrap();
    let as_bytes = |path: &str| root.join(path).as_os_str().as_bytes().to_vec();
    let options = SftpSourceOptions {
        excludes: vec!["*.o".into(), "!keep.o".into(), "/build/".into()],
        exclude_larger_than: Some(100),
        exclude_caches: true,
        // By another way, and one that is not there.
        never: vec![as_bytes("repository/way-round/repo"), as_bytes("nowhere")],
        ..SftpSourceOptions::default()
    };
    let source = server.source(root, options.clone());
    let wanted = [
        "cache",
        "keep",
        "keep.o",
        "not-cache",
        "repository",
        "not-cache/CACHEDIR.TAG",
        "repository/way-round",
    ];
    assert_eq!(names(&source), wanted);
    let excluded: u64 = batches(&source).unwrap().iter().map(|batch| batch.excluded).sum();
    // a.o, big, build, repo; deep and the tag.
    assert_eq!(excluded, 6);

    let within = server.source(&root.join("repo/packs"), options.clone());
    let error = batches(&within).unwrap_err();
    assert!(error.text().contains("where the backup itself is kept"), "{}", error.text());
    let bad = SftpSourceOptions { excludes: vec!["a[b".into()], ..options.clone() };
    let new = |options| SftpSource::new(server.pool(), b"/", options);
    assert!(matches!(new(bad), Err(SftpSourceError::Rule(_))));
    let one = SftpSourceOptions { one_file_system: true, ..options };
    assert!(matches!(new(one), Err(SftpSourceError::OneFileSystem)));
}

#[test]
fn roots_of_other_kinds() {
    let server = Server::start();
    let directory = scratch();
    let root = directory.path().canonicalize().unwrap();
    fs::write(root.join("file"), "content").unwrap();
    fs::create_dir(root.join("below")).unwrap();
    fs::write(root.join("below/x"), "").unwrap();
    fs::set_permissions(root.join("below"), fs::Permissions::from_mode(0o710)).unwrap();
    symlink("below", root.join("link")).unwrap();
    let pool = server.pool();
    let at = |name: &str| source(&pool, &root.join(name), SftpSourceOptions::default());
    let only = |name: &str| {
        let source = at(name);
        let batches = batches(&source).unwrap();
        let [batch] = &batches[..] else { panic!("{batches:?}") };
        let [entry] = &batch.entries[..] else { panic!("{batch:?}") };
        assert!(entry.name.is_empty());
        (source, batch.directory.clone(), entry.clone())
    };

    let (source, at_root, file) = only("file");
    assert_eq!((file.metadata.kind, file.metadata.size), (Kind::File, 7));
    let mut bytes = Vec::new();
    source.read_small(&at_root, &file, 100, &mut bytes).unwrap();
    assert_eq!(bytes, b"content");
    let mut buffer = [0; 20];
    assert_eq!(source.open(&at_root, &file).unwrap().read_at(3, &mut buffer).unwrap(), 4);
    assert_eq!(&buffer[..4], b"tent");

    let (source, at_root, link) = only("link");
    assert_eq!(link.metadata.kind, Kind::Symlink);
    assert_eq!(source.details(&at_root, &link).unwrap().target, b"below");
    assert_eq!(names(&at("link/")), ["x"]);

    let path = |name: &str| root.join(name).as_os_str().as_bytes().to_vec();
    let above = source.metadata_of(&path("below")).unwrap();
    assert_eq!((above.kind, above.mode), (Kind::Directory, 0o710));
    assert_eq!(source.metadata_of(&path("link")).unwrap().kind, Kind::Symlink);
    assert_eq!(source.canonical(&path("link/x")).unwrap(), path("below/x"));
    let error = source.metadata_of(&path("none")).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::NotFound);

    let error = batches(&at("none")).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::NotFound);
    assert!(error.text().contains("none"), "{}", error.text());
    let relative = SftpSource::new(pool.clone(), b"docs", SftpSourceOptions::default());
    assert!(matches!(relative, Err(SftpSourceError::RelativePath { .. })));
}

#[test]
fn reading_and_what_changed_meanwhile() {
    let server = Server::start();
    let directory = scratch();
    let root = directory.path();
    let content = |i: usize| holdfast_testkit::clock::random_bytes(i as u64, i * 997 % 40_000);
    for i in 0..200 {
        fs::write(root.join(format!("{i:03}")), content(i)).unwrap();
    }
    let pool = server.pool();
    let source = source(&pool, root, SftpSourceOptions::default());
    let batches = batches(&source).unwrap();
    let files: Vec<_> =
        batches[1].entries.iter().map(|entry| (&*batches[1].directory, entry)).collect();
    fs::remove_file(root.join("003")).unwrap();
    fs::remove_file(root.join("004")).unwrap();
    fs::create_dir(root.join("004")).unwrap();
    fs::write(root.join("005"), vec![1; 50_000]).unwrap();
    fs::write(root.join("006"), vec![1; 60_001]).unwrap();
    fs::write(root.join("007"), b"less").unwrap();
    fs::remove_file(root.join("008")).unwrap();
    // Other owners cannot be made by all who run this; another mode can.
    fs::write(root.join("secret"), content(8)).unwrap();
    fs::set_permissions(root.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("secret", root.join("008")).unwrap();

    let mut into = b"before".to_vec();
    let read = source.read_many(&files, 60_000, &mut into);
    assert_eq!(read.len(), 200);
    let mut end = 6;
    for (i, outcome) in read.iter().enumerate() {
        match (i, outcome) {
            (3, outcome) => {
                assert_eq!(outcome.as_ref().unwrap_err().kind, SourceErrorKind::NotFound);
            }
            (4 | 6 | 8, outcome) => {
                let kind = outcome.as_ref().unwrap_err().kind;
                assert_eq!(kind, SourceErrorKind::Changed, "{i}");
            }
            (i, outcome) => {
                let file = outcome.as_ref().unwrap();
                assert_eq!(file.range.start, end);
                end = file.range.end;
                let wanted = match i {
                    5 => vec![1; 50_000],
                    7 => b"less".to_vec(),
                    i => content(i),
                };
                assert!(into[file.range.clone()] == wanted, "{i}");
                assert_eq!(file.read.metadata.size, wanted.len() as u64);
            }
        }
    }
    assert_eq!(into.len(), end);
    for wanted in ["004", "008"] {
        let at = files.iter().find(|(_, entry)| entry.name == wanted.as_bytes()).unwrap();
        let error = source.open(at.0, at.1).err().unwrap();
        assert_eq!(error.kind, SourceErrorKind::Changed, "{wanted}");
    }
    assert!(source.read_many(&[], 10, &mut into).is_empty());
}

#[test]
fn files_by_parts() {
    let server = Server::start();
    let directory = scratch();
    let path = directory.path().join("big");
    let content = holdfast_testkit::clock::random_bytes(5, 20_000_001);
    fs::write(&path, &content).unwrap();
    let pool = server.pool();
    let source = source(&pool, directory.path(), SftpSourceOptions::default());
    let (at, big) = entry(&source, "big");
    let mut file = source.open(&at, &big).unwrap();
    assert_eq!(file.metadata().unwrap(), big.metadata);
    assert_eq!(file.extents().unwrap(), None);
    let mut buffer = vec![0; 512 << 10];
    let mut read = Vec::new();
    loop {
        let bytes = file.read_at(read.len() as u64, &mut buffer).unwrap();
        read.extend_from_slice(&buffer[..bytes]);
        if bytes < buffer.len() {
            break;
        }
    }
    assert!(read == content);
    let requests = pool.recorder().requests(Operation::Read);
    assert!(requests < 130, "{requests} requests for 79 pieces");
    for (offset, length) in
        [(0, 10), (15_000_000, 700_000), (10, 300_000), (300_010, 5), (19_999_999, 9)]
    {
        let mut buffer = vec![0; length];
        let bytes = file.read_at(offset as u64, &mut buffer).unwrap();
        assert!(buffer[..bytes] == content[offset..content.len().min(offset + length)]);
    }
    assert_eq!(file.read_at(20_000_001, &mut buffer).unwrap(), 0);
    assert_eq!(file.read_at(u64::MAX, &mut buffer).unwrap(), 0);

    // It shrinks, and grows, while it is open.
    let opened = fs::OpenOptions::new().write(true).open(&path).unwrap();
    opened.set_len(1000).unwrap();
    assert_eq!(file.metadata().unwrap().size, 1000);
    assert_eq!(file.read_at(900, &mut buffer).unwrap(), 100);
    opened.set_len(2000).unwrap();
    assert_eq!(file.read_at(990, &mut buffer).unwrap(), 1010);
    assert_eq!(file.metadata().unwrap().size, 2000);
}

#[test]
fn what_may_not_be_read_is_an_error_of_its_own() {
    // Whoever is root may read everything, so it needs another user then.
    let password = is_root().then(|| "of no use".to_owned());
    let server = Server::with(SshdOptions { password, ..SshdOptions::default() });
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["closed", "open", "unsearchable", "z"] {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("file"), "content").unwrap();
    }
    fs::write(root.join("secret"), "content").unwrap();
    let chmod = |name: &str, mode| {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod("closed", 0o311);
    chmod("unsearchable", 0o644);
    chmod("secret", 0o200);
    let source = server.source(root, SftpSourceOptions::default());
    let batches = batches(&source).unwrap();
    let errors: Vec<_> =
        batches.iter().flat_map(|b| b.errors.iter().map(move |e| (b, e))).collect();
    let at: Vec<_> =
        errors.iter().map(|(batch, _)| batch.directory.path.escape_ascii().to_string()).collect();
    assert_eq!(at, ["closed", "unsearchable"]);
    assert!(errors.iter().all(|(_, e)| e.kind == SourceErrorKind::PermissionDenied), "{errors:?}");
    let paths: Vec<_> = walked(&batches).into_iter().map(|(path, _)| path).collect();
    let wanted: [&[u8]; 8] =
        [b"", b"closed", b"open", b"secret", b"unsearchable", b"z", b"open/file", b"z/file"];
    assert_eq!(paths, wanted);
    let secret = batches[1].entries.iter().find(|entry| entry.name == b"secret").unwrap();
    let read = source.read_small(&batches[1].directory, secret, 100, &mut Vec::new());
    assert_eq!(read.unwrap_err().kind, SourceErrorKind::PermissionDenied);
    let opened = source.open(&batches[1].directory, secret);
    assert_eq!(opened.err().unwrap().kind, SourceErrorKind::PermissionDenied);
    chmod("closed", 0o755);
    chmod("unsearchable", 0o755);

    chmod("z", 0o311);
    let denied = server.source(&root.join("z"), SftpSourceOptions::default());
    let error = self::batches(&denied).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::PermissionDenied);
    chmod("z", 0o755);
}
