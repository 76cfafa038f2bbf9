//! The storage over SFTP against real servers: the conformance suite, and what is particular to it.

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use holdfast_connectors::conformance::storage_conformance;
use holdfast_connectors::local::storage::LocalStorage;
use holdfast_connectors::sftp::client::Operation;
use holdfast_connectors::sftp::pool::{Pool, SftpError, SftpOptions};
use holdfast_connectors::sftp::ssh::{Class, ConfigFiles, NoInteraction, SshOptions};
use holdfast_connectors::sftp::storage::SftpStorage;
use holdfast_engine::hash::{ObjectId, RecordId, Sha256, SnapshotId};
use holdfast_engine::storage::{Folder, ObjectName, Storage, StorageErrorKind};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::sshd::{KeyKind, keygen, public_line};
use holdfast_testkit::{Proxy, RecordStorage, Sshd, SshdOptions};

use crate::scratch;

/// Extensions that this connector may use.
const EXTENSIONS: &str = "posix-rename,hardlink,fsync,statvfs,fstatvfs,lsetstat,limits,expand-path,\
                          copy-data,home-directory,users-groups-by-id";

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().unwrap()
    })
}

/// A server with a key that opens it.
pub(crate) struct Server {
    pub(crate) sshd: Sshd,
}

impl Server {
    pub(crate) fn start(options: SshdOptions) -> Self {
        let sshd = Sshd::start(options).unwrap();
        let key = sshd.directory().join("key");
        keygen(&key, KeyKind::Ed25519, "", None).unwrap();
        sshd.authorize(&[&public_line(&key).unwrap()]).unwrap();
        Self { sshd }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.sshd.port()))
    }

    pub(crate) fn options(&self, port: u16, path: &Path) -> SftpOptions {
        let ssh = SshOptions {
            host: "127.0.0.1".into(),
            port: Some(port),
            username: Some(self.sshd.user().into()),
            key_file: Some(self.sshd.directory().join("key")),
            use_agent: Some(false),
            ssh_config: ConfigFiles::None,
            home: Some(self.sshd.directory().join("our-home")),
            accept_new_host_key: true,
            timeout: Duration::from_secs(10),
            ..SshOptions::default()
        };
        let path = path.as_os_str().as_bytes().to_vec();
        SftpOptions { ssh, path, ..SftpOptions::default() }
    }

    pub(crate) fn storage(&self, path: &Path) -> SftpStorage {
        storage(self.options(self.sshd.port(), path))
    }
}

/// The plainest server there is.
pub(crate) fn without_extensions() -> Server {
    let program = format!("/usr/lib/openssh/sftp-server -P {EXTENSIONS}");
    Server::start(SshdOptions { subsystem: Some(program), ..SshdOptions::default() })
}

pub(crate) fn storage(options: SftpOptions) -> SftpStorage {
    SftpStorage::new(Pool::new(runtime().handle().clone(), options, Arc::new(NoInteraction)))
}

/// Temporary files anywhere below a directory.
pub(crate) fn temporaries(below: &Path) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(below).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found += temporaries(&entry.path());
        } else if entry.file_name().as_bytes().starts_with(b".tmp-") {
            found += 1;
        }
    }
    found
}

/// The suite, each time on a fresh path of one pool's server.
fn conforms(directory: &Path, seen_as: &Path, make: &dyn Fn(&Path) -> Box<dyn Storage>) {
    let number = AtomicU32::new(0);
    storage_conformance(&|| {
        let n = number.fetch_add(1, Ordering::Relaxed);
        make(&seen_as.join(format!("a/{n}")))
    });
    assert_eq!(temporaries(directory), 0);
}

#[test]
fn conformance() {
    let server = Server::start(SshdOptions::default());
    let scratch = scratch();
    conforms(scratch.path(), scratch.path(), &|path| Box::new(server.storage(path)));
    let record = |path: &Path| RecordStorage::new(Arc::new(server.storage(path)));
    conforms(&scratch.path().join("a"), &scratch.path().join("b"), &|path| Box::new(record(path)));
}

#[test]
fn conformance_without_extensions() {
    let server = without_extensions();
    let scratch = scratch();
    conforms(scratch.path(), scratch.path(), &|path| Box::new(server.storage(path)));
    let storage = server.storage(&scratch.path().join("b"));
    storage.prepare().unwrap();
    storage.put(&ObjectName::config(), b"config").unwrap();
    let seen = storage.pool().recorder();
    assert_eq!(seen.requests(Operation::Rename), 1);
    let none = [Operation::Hardlink, Operation::Fsync, Operation::Statvfs, Operation::PosixRename];
    assert!(none.iter().all(|operation| seen.requests(*operation) == 0));
}

#[test]
fn conformance_in_a_chroot() {
    if !crate::is_root() {
        eprintln!("left out, needs root: chroot");
        return;
    }
    // All that leads there has to be root's, and nobody else's to write.
    let jail = tempfile::tempdir_in("/run").unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(jail.path(), 0o755);
    let data = jail.path().join("data");
    std::fs::create_dir(&data).unwrap();
    mode(&data, 0o777);
    let lines =
        [format!("ChrootDirectory {}", jail.path().display()), "ForceCommand internal-sftp".into()];
    let options =
        SshdOptions { password: Some("pw".into()), extra: lines.into(), ..Default::default() };
    let server = Server::start(options);
    conforms(&data, Path::new("/data"), &|path| Box::new(server.storage(path)));
}

#[test]
fn conformance_over_a_slow_network() {
    let server = Server::start(SshdOptions::default());
    let proxy = Proxy::start(server.address()).unwrap();
    let scratch = scratch();
    proxy.set_latency(Duration::from_millis(10));
    conforms(scratch.path(), scratch.path(), &|path| {
        Box::new(storage(server.options(proxy.port(), path)))
    });
}

#[test]
fn one_repository_locally_and_over_sftp() {
    let server = Server::start(SshdOptions::default());
    let scratch = scratch();
    let path = scratch.path().join("repository");
    let (far, near) = (server.storage(&path), LocalStorage::new(&path));
    far.prepare().unwrap();
    let local = scratch.path().join("local");
    LocalStorage::new(&local).prepare().unwrap();
    let tree = |path: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .chain(std::fs::read_dir(path.join("packs")).unwrap())
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().permissions().mode()))
            .collect();
        names.sort();
        names
    };
    assert_eq!(tree(&path), tree(&local));

    let bytes = random_bytes(1, 3_000_000);
    let name = ObjectName::pack(Sha256::of(&bytes));
    let mut upload = far.upload().unwrap();
    assert_eq!(temporaries(&path.join("packs")), 1);
    for part in bytes.chunks(70_001) {
        upload.write(part).unwrap();
    }
    upload.finish(&name).unwrap();
    assert!(near.get(&name).unwrap() == bytes);
    let mode = path.join(name.as_str()).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    near.put(&ObjectName::config(), b"config").unwrap();
    assert_eq!(far.get(&ObjectName::config()).unwrap(), b"config");
    assert!(far.get(&name).unwrap() == bytes);
    assert_eq!(far.stat(&name).unwrap(), near.stat(&name).unwrap());
    far.delete(&name).unwrap();
    assert!(near.stat(&name).unwrap_err().is_not_found());

    // Reached by a link, and by the home directory.
    std::os::unix::fs::symlink(&path, scratch.path().join("link")).unwrap();
    let linked = server.storage(&scratch.path().join("link"));
    assert_eq!(linked.get(&ObjectName::config()).unwrap(), b"config");
    let mut found = 0;
    far.put(&ObjectName::key(RecordId::new([1; 16])), b"key").unwrap();
    linked.list(Folder::Keys, &mut |_| found += 1).unwrap();
    assert_eq!(found, 1);
}

#[test]
fn listings_leave_out_what_is_foreign_and_are_never_shorter() {
    let server = Server::start(SshdOptions::default());
    let scratch = scratch();
    let storage = server.storage(scratch.path());
    storage.prepare().unwrap();
    let name = ObjectName::pack(ObjectId::new([0xab; 32]));
    storage.put(&name, b"pack").unwrap();
    let path = |name: &str| scratch.path().join(name);
    for foreign in ["packs/ab/.tmp-1", "packs/ab/UPPER", "packs/ab/a b", "packs/loose", "keys/~x"] {
        std::fs::write(path(foreign), b"?").unwrap();
    }
    std::fs::create_dir(path("packs/ab/directory")).unwrap();
    std::os::unix::fs::symlink("/nowhere", path("packs/ab/dangling")).unwrap();
    for (target, link) in [("ab", "packs/cd"), ("loose", "packs/ef")] {
        std::fs::remove_dir(path(link)).unwrap();
        std::os::unix::fs::symlink(target, path(link)).unwrap();
    }
    let count = |folder| {
        let mut names = Vec::new();
        storage.list(folder, &mut |info| names.push(info.name.to_string())).map(|()| names.len())
    };
    // The second by way of the linked directory.
    assert_eq!(count(Folder::Packs).unwrap(), 2);
    assert_eq!(count(Folder::Keys).unwrap(), 0);

    assert_eq!(storage.reap(Duration::from_secs(3600)).unwrap(), 0);
    std::fs::File::options()
        .write(true)
        .open(path("packs/ab/.tmp-1"))
        .unwrap()
        .set_modified(std::time::SystemTime::now() - Duration::from_secs(7200))
        .unwrap();
    assert_eq!(storage.reap(Duration::from_secs(3600)).unwrap(), 1);

    // Missing folders are empty, a missing repository is an error, and so is a file in their place.
    std::fs::remove_dir_all(path("packs")).unwrap();
    std::fs::remove_dir_all(path("notes")).unwrap();
    assert_eq!((count(Folder::Packs).unwrap(), count(Folder::Notes).unwrap()), (0, 0));
    storage.put(&name, b"x").unwrap();
    storage.put(&ObjectName::note(SnapshotId::new([1; 16]), RecordId::default()), b"x").unwrap();
    assert_eq!((count(Folder::Packs).unwrap(), count(Folder::Notes).unwrap()), (1, 1));
    for (folder, name) in [(Folder::Keys, "keys"), (Folder::Packs, "packs")] {
        std::fs::remove_dir_all(path(name)).unwrap();
        std::fs::write(path(name), b"a file").unwrap();
        assert_eq!(count(folder).unwrap_err().kind, StorageErrorKind::Io);
        // As where another disk should be.
        std::fs::remove_file(path(name)).unwrap();
        std::os::unix::fs::symlink("/nowhere", path(name)).unwrap();
        assert_eq!(count(folder).unwrap_err().kind, StorageErrorKind::Io);
    }
    std::fs::remove_dir_all(scratch.path()).unwrap();
    assert_eq!(count(Folder::Packs).unwrap_err().kind, StorageErrorKind::NotFound);
    let error = storage.put(&ObjectName::config(), b"x").unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::NotFound);
    std::fs::create_dir(scratch.path()).unwrap();
}

#[test]
fn abandoned_uploads_leave_nothing() {
    let server = Server::start(SshdOptions::default());
    let scratch = scratch();
    let storage = server.storage(scratch.path());
    storage.prepare().unwrap();
    let mut upload = storage.upload().unwrap();
    upload.write(&random_bytes(1, 5_000_000)).unwrap();
    assert_eq!(temporaries(scratch.path()), 1);
    drop(upload);
    assert_eq!(temporaries(scratch.path()), 0);
}

#[test]
fn few_requests() {
    let server = Server::start(SshdOptions::default());
    let scratch = scratch();
    let mut options = server.options(server.sshd.port(), scratch.path());
    options.connections = 1;
    let storage = storage(options);
    storage.prepare().unwrap();
    let seen = || {
        let recorder = storage.pool().recorder();
        let mut requests: Vec<_> = Operation::ALL
            .into_iter()
            .map(|operation| (operation.name(), recorder.requests(operation)))
            .collect();
        requests.retain(|(_, count)| *count > 0);
        requests
    };
    let mut before = seen();
    let mut since = |what: &str| {
        let now = seen();
        let count = |list: &[(&str, u64)], name: &str| {
            list.iter().find(|(n, _)| *n == name).map_or(0, |(_, count)| *count)
        };
        let more: Vec<_> = now
            .iter()
            .map(|(name, n)| (*name, n - count(&before, name)))
            .filter(|(_, n)| *n > 0)
            .collect();
        before = now;
        let total: u64 = more.iter().map(|(_, n)| n).sum();
        println!("{what}: {total} requests {more:?}");
        total
    };
    let name = ObjectName::index(ObjectId::new([1; 32]));
    storage.put(&name, &[1; 1000]).unwrap();
    // Open, write, fsync, close, link, remove; the directory is opened and forced to disk.
    assert_eq!(since("put"), 8);
    storage.put(&ObjectName::index(ObjectId::new([2; 32])), &[1; 1000]).unwrap();
    assert_eq!(since("put again"), 7);
    storage.get(&name).unwrap();
    assert_eq!(since("get"), 4);
    let mut into = Vec::new();
    storage.get_range(&name, 10, 100, &mut into).unwrap();
    assert_eq!(since("first range"), 2);
    storage.get_range(&name, 500, 100, &mut into).unwrap();
    assert_eq!(since("second range"), 1);
    storage.list(Folder::Index, &mut |_| {}).unwrap();
    assert!(since("list") <= 5);
    storage.delete(&name).unwrap();
    since("delete");
    let mut upload = storage.upload().unwrap();
    upload.write(&random_bytes(1, 2 << 20)).unwrap();
    upload.finish(&ObjectName::pack(ObjectId::new([1; 32]))).unwrap();
    assert!(since("upload of 2 MiB") <= 24);
}

#[test]
fn errors_have_kinds_and_keep_their_cause() {
    let server = Server::start(SshdOptions::default());
    let scratch = scratch();
    // Nobody there: at once, since nobody ever was.
    let mut options = server.options(1, scratch.path());
    let error = storage(options.clone()).get(&ObjectName::config()).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Unreachable);
    let cause = error.source.as_ref().unwrap().downcast_ref::<SftpError>().unwrap();
    assert!(matches!(cause, SftpError::Ssh(ssh) if ssh.class() == Class::Refused), "{cause:?}");
    assert!(error.object.starts_with("sftp://") && error.object.ends_with("/config"));
    // A key that opens nothing says nothing about any object either.
    options.ssh.port = Some(server.sshd.port());
    options.ssh.key_file = Some(server.sshd.directory().join("other"));
    keygen(&server.sshd.directory().join("other"), KeyKind::Ed25519, "", None).unwrap();
    let error = storage(options).stat(&ObjectName::config()).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Unreachable);
    let cause = error.source.as_ref().unwrap().downcast_ref::<SftpError>().unwrap();
    assert!(matches!(cause, SftpError::Ssh(ssh) if ssh.class() == Class::Authentication));

    // A server that only reads.
    let program = "internal-sftp -R".to_owned();
    let server = Server::start(SshdOptions { subsystem: Some(program), ..Default::default() });
    let storage = server.storage(scratch.path());
    LocalStorage::new(scratch.path()).prepare().unwrap();
    let error = storage.put(&ObjectName::config(), b"x").unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::PermissionDenied);
    let Err(error) = storage.upload() else { panic!("it may write") };
    assert_eq!(error.kind, StorageErrorKind::PermissionDenied);
    storage.list(Folder::Packs, &mut |_| {}).unwrap();
}

/// A file system of 12 MiB, for as long as this lives.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=12m", "none"]).arg(at);
        (crate::is_root() && mount.status().is_ok_and(|status| status.success()))
            .then_some(Self(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily: the server may still be in there.
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_called_so() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(_mount) = SmallDisk::mount(scratch.path()) else {
        eprintln!("left out, needs to mount: a full disk");
        return;
    };
    let server = Server::start(SshdOptions::default());
    let storage = server.storage(scratch.path());
    storage.prepare().unwrap();
    let fill = || {
        let mut upload = storage.upload()?;
        for _ in 0..16 {
            upload.write(&[7; 1 << 20])?;
        }
        upload.finish(&ObjectName::pack(ObjectId::new([1; 32])))
    };
    let error = fill().unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::NoSpace, "{error:?}");
    assert_eq!(temporaries(scratch.path()), 0);
    // There is room for small objects, until there is none.
    storage.put(&ObjectName::config(), b"x").unwrap();
    std::fs::write(scratch.path().join("filler"), vec![0; 11 << 20]).unwrap();
    let filled = (0..100)
        .find_map(|i| storage.put(&ObjectName::key(RecordId::new([i; 16])), &[i; 100_000]).err());
    let error = filled.unwrap();
    assert_eq!(error.kind, StorageErrorKind::NoSpace, "{error:?}");
}
