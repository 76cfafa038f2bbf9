//! The SFTP destination against a real OpenSSH server: what was asked for stands there, seen with
//! the standard library's eyes, and nothing is written through what somebody planted.

mod figures;
mod restore;
mod rights;

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use holdfast_connectors::conformance::destination::destination_conformance;
use holdfast_connectors::sftp::client::Operation;
use holdfast_connectors::sftp::destination::SftpDestination;
use holdfast_connectors::sftp::pool::{Pool, SftpOptions};
use holdfast_connectors::sftp::ssh::{ConfigFiles, NoInteraction, Secret, SshOptions};
use holdfast_engine::destination::{
    Attributes, Destination, DestinationErrorKind, DestinationResult, Unset,
};
use holdfast_engine::meta::{Kind, Metadata, Owner, Time, Xattr};
use holdfast_testkit::sshd::{KeyKind, keygen, public_line};
use holdfast_testkit::{Proxy, Sshd, SshdOptions};
use tokio::runtime::{Builder, Runtime};

use crate::destination::plant_links;
use crate::is_root;

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// A server, and a directory on it.
pub(crate) struct Server {
    sshd: Sshd,
    key: String,
    scratch: tempfile::TempDir,
}

impl Server {
    fn new() -> Self {
        Self::with(SshdOptions::default())
    }

    fn with(options: SshdOptions) -> Self {
        let scratch = crate::scratch();
        let key = keygen(&scratch.path().join("key"), KeyKind::Ed25519, "", None).unwrap();
        let line = public_line(&scratch.path().join("key")).unwrap();
        let sshd = Sshd::start(SshdOptions { authorized_keys: vec![line], ..options }).unwrap();
        Self { sshd, key, scratch }
    }

    /// A server without these extensions.
    fn without(extensions: &str) -> Self {
        let program = crate::sftp_client::server_program();
        let subsystem = Some(format!("{program} -P {extensions}"));
        Self::with(SshdOptions { subsystem, ..SshdOptions::default() })
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.sshd.port()).into()
    }

    fn options(&self, port: u16, path: &[u8]) -> SftpOptions {
        let ssh = SshOptions {
            host: "127.0.0.1".into(),
            port: Some(port),
            username: Some(self.sshd.user().into()),
            key: Some(Secret::new(self.key.clone())),
            use_agent: Some(false),
            ssh_config: ConfigFiles::None,
            home: Some(self.scratch.path().join("our-home")),
            accept_new_host_key: true,
            timeout: Duration::from_secs(20),
            ..SshOptions::default()
        };
        SftpOptions { ssh, path: path.to_vec(), ..SftpOptions::default() }
    }

    fn pool(&self, port: u16, path: &Path) -> Pool {
        let options = self.options(port, path.as_os_str().as_bytes());
        Pool::new(runtime().handle().clone(), options, Arc::new(NoInteraction))
    }

    /// The destination, prepared, and its connections.
    fn destination(&self) -> (SftpDestination, Pool) {
        let pool = self.pool(self.sshd.port(), &self.root());
        let destination = SftpDestination::new(pool.clone());
        good(destination.prepare());
        (destination, pool)
    }

    fn through(&self, proxy: &Proxy) -> (SftpDestination, Pool) {
        let pool = self.pool(proxy.port(), &self.root());
        let destination = SftpDestination::new(pool.clone());
        good(destination.prepare());
        (destination, pool)
    }
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
        mtime: Time { seconds: 1_234_567_890, nanos: 0 },
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

#[track_caller]
fn check(path: &Path, wanted: &Metadata) {
    let truth = fs::symlink_metadata(path).unwrap();
    if wanted.kind != Kind::Symlink {
        assert_eq!(format!("{:o}", truth.mode() & 0o7777), format!("{:o}", wanted.mode));
    }
    assert_eq!((truth.uid(), truth.gid()), (wanted.owner.uid, wanted.owner.gid));
    assert_eq!((truth.mtime(), truth.mtime_nsec()), (wanted.mtime.seconds, 0));
}

#[track_caller]
fn good<T>(answer: DestinationResult<T>) -> T {
    match answer {
        Ok(value) => value,
        Err(e) => panic!("{}", e.text()),
    }
}

#[track_caller]
fn complete(unset: DestinationResult<Unset>) {
    assert_eq!(good(unset), Unset::default());
}

#[track_caller]
fn fails<T>(answer: DestinationResult<T>, kind: DestinationErrorKind) {
    match answer {
        Ok(_) => panic!("went well"),
        Err(e) => assert_eq!(e.kind, kind, "{}", e.text()),
    }
}

fn no_temporary(root: &Path) -> bool {
    fs::read_dir(root).unwrap().map(|e| e.unwrap()).all(|e| {
        !e.file_name().as_bytes().starts_with(b".holdfast-tmp")
            && (!e.file_type().unwrap().is_dir() || no_temporary(&e.path()))
    })
}

fn read(to: &SftpDestination, path: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    good(to.open_file(path)).read_to_end(&mut content).unwrap();
    content
}

/// What every server has to do, whatever its extensions.
fn every_kind(server: &Server, links: bool) {
    let (to, _) = server.destination();
    let root = server.root();
    assert_eq!(fs::metadata(&root).unwrap().mode() & 0o7777, 0o700);
    assert!(good(to.make_directory(b"dir")));
    assert!(!good(to.make_directory(b"dir")));
    fs::create_dir(root.join("there")).unwrap();
    assert!(!good(to.make_directory(b"there")));
    assert_eq!(fs::metadata(root.join("dir")).unwrap().mode() & 0o7777, 0o700);

    for directory in ["dir", "there"] {
        for mode in [0o644, 0o600, 0o444, 0, 0o777, 0o4755, 0o2755, 0o1644] {
            for (size, replace) in [(0, false), (10_000, true), (600_000, true)] {
                let name = format!("{directory}/{mode:o}");
                let m = metadata(Kind::File, mode);
                complete(to.write_file(name.as_bytes(), &vec![7; size], plain(&m), replace));
                check(&root.join(&name), &m);
                if is_root() {
                    assert_eq!(fs::read(root.join(&name)).unwrap(), vec![7; size]);
                }
            }
        }
    }
    if is_root() {
        for mode in [0o6755, 0o640] {
            let m = owned(metadata(Kind::File, mode), 12, 34);
            let name = format!("theirs-{mode:o}");
            complete(to.write_file(name.as_bytes(), b"x", plain(&m), false));
            check(&root.join(&name), &m);
            let file = good(to.create_file(b"parts", 10, true));
            good(file.write_at(0, b"0123456789"));
            complete(file.finish(plain(&m)));
            check(&root.join("parts"), &m);
        }
    }
    for (name, target) in [("link", &b"dir/\xff"[..]), ("dir/\u{e9}", b"/nowhere at all")] {
        let m = metadata(Kind::Symlink, 0o777);
        let unset = good(to.make_symlink(name.as_bytes(), target, plain(&m)));
        assert_eq!(unset.times, !links);
        if links {
            check(&root.join(name), &m);
        }
        let said = fs::read_link(root.join(name)).unwrap();
        assert_eq!(said.as_os_str().as_bytes(), target);
    }
    let m = metadata(Kind::Directory, 0o2750);
    complete(to.set_attributes(b"dir", plain(&m)));
    check(&root.join("dir"), &m);
    complete(to.set_attributes(b"dir", plain(&m)));
    check(&root.join("dir"), &m);
    let m = metadata(Kind::Directory, 0o755);
    complete(to.set_attributes(b"there", plain(&m)));
    check(&root.join("there"), &m);
    complete(to.set_attributes(b"", plain(&m)));
    check(&root, &m);
    let m = metadata(Kind::File, 0o4711);
    complete(to.set_attributes(b"there/644", plain(&m)));
    check(&root.join("there/644"), &m);
    fails(to.set_attributes(b"there", plain(&m)), DestinationErrorKind::AlreadyExists);

    let found = good(to.stat(b"there/644")).unwrap();
    assert_eq!((found.kind, found.mode, found.size), (Kind::File, 0o4711, 600_000));
    assert_eq!((found.mtime.seconds, found.inode), (1_234_567_890, 0));
    assert!(good(to.stat(b"nothing")).is_none() && good(to.stat(b"no/thing")).is_none());
    let names = good(to.list(b""));
    assert!(names.is_sorted() && names.contains(&b"there".to_vec()), "{names:?}");
    assert_eq!(read(&to, b"there/777"), vec![7; 600_000]);
    let fifo = metadata(Kind::Fifo, 0o600);
    fails(to.make_special(b"fifo", plain(&fifo)), DestinationErrorKind::Unsupported);
    assert!(no_temporary(server.scratch.path()));
}

#[test]
fn it_does_what_every_destination_must() {
    let without = "posix-rename,hardlink,fsync,lsetstat";
    for server in [Server::new(), Server::without(without)] {
        let next = AtomicUsize::new(0);
        destination_conformance(&|| {
            let path = server.root().join(next.fetch_add(1, Ordering::Relaxed).to_string());
            Box::new(SftpDestination::new(server.pool(server.sshd.port(), &path)))
        });
    }
}

#[test]
fn every_kind_that_sftp_has_comes_back() {
    let server = Server::new();
    every_kind(&server, true);
    let (to, _) = server.destination();
    assert!(good(to.free_space()).unwrap() > 0);
    good(to.make_hard_link(b"there/other", b"there/644"));
    let inode = |name: &str| fs::metadata(server.root().join(name)).unwrap().ino();
    assert_eq!(inode("there/other"), inode("there/644"));
    fails(to.make_hard_link(b"there/other", b"there/600"), DestinationErrorKind::AlreadyExists);
    good(to.make_hard_link(b"link2", b"link"));
    assert!(fs::symlink_metadata(server.root().join("link2")).unwrap().is_symlink());
}

#[test]
fn servers_without_extensions_do_it_too() {
    let server = Server::without(
        "limits,posix-rename,hardlink,fsync,statvfs,lsetstat,users-groups-by-id,expand-path,\
         home-directory",
    );
    every_kind(&server, false);
    let (to, _) = server.destination();
    assert_eq!(good(to.free_space()), None);
    fails(to.make_hard_link(b"l", b"there/644"), DestinationErrorKind::Unsupported);
    names_in_the_way(&server);
    // With hard links and no order: the way of servers that may replace with a plain rename.
    let server = Server::without("fsync,lsetstat,posix-rename");
    every_kind(&server, false);
    names_in_the_way(&server);
}

#[test]
fn what_sftp_cannot_keep_is_told() {
    let server = Server::new();
    let (to, _) = server.destination();
    let at =
        |seconds, nanos| Metadata { mtime: Time { seconds, nanos }, ..metadata(Kind::File, 0o644) };
    let x = [Xattr { name: b"user.a".to_vec(), value: Vec::new() }];
    let acl = [Xattr { name: b"system.posix_acl_access".to_vec(), value: Vec::new() }];
    let latest = i64::from(u32::MAX);
    let none = Unset::default();
    for (m, xattrs, unset, kept) in [
        (at(0, 0), &[][..], none, 0),
        (at(latest, 0), &[], none, latest),
        (at(7, 1), &[], Unset { fractions: true, ..none }, 7),
        (at(-1, 5), &[], Unset { times: true, fractions: true, ..none }, 0),
        (at(latest + 1, 0), &[], Unset { times: true, ..none }, latest),
        (at(9, 0), &x, Unset { xattrs: true, ..none }, 9),
        (at(9, 0), &acl, Unset { acls: true, ..none }, 9),
    ] {
        let a = Attributes { metadata: &m, xattrs };
        assert_eq!(good(to.write_file(b"f", b"x", a, true)), unset);
        let file = good(to.create_file(b"g", 1, true));
        assert_eq!(good(file.finish(a)), unset);
        assert_eq!(good(to.set_attributes(b"f", a)), unset);
        for name in ["f", "g"] {
            assert_eq!(fs::metadata(server.root().join(name)).unwrap().mtime(), kept);
            let found = good(to.stat(name.as_bytes())).unwrap();
            assert_eq!(found.mtime, to.kept_time(m.mtime));
        }
    }
    assert_eq!(good(to.xattrs(b"f")), []);
}

fn names_in_the_way(server: &Server) {
    let (to, _) = server.destination();
    let root = server.root();
    let m = metadata(Kind::File, 0o644);
    let a = plain(&m);
    fs::write(root.join("outside"), b"precious").unwrap();
    good(to.make_directory(b"made"));
    let write = |name: &str, replace| to.write_file(name.as_bytes(), b"new", a, replace);
    let create = |name: &str, replace| {
        let file = to.create_file(name.as_bytes(), 3, replace)?;
        file.write_at(0, b"new")?;
        file.finish(a)
    };
    type Way<'a> = &'a dyn Fn(&str, bool) -> DestinationResult<Unset>;
    for (n, way) in [&write as Way<'_>, &create].into_iter().enumerate() {
        for directory in ["", "made/"] {
            let name = |base: &str| format!("{directory}{base}{n}");
            let at = |base: &str| root.join(name(base));
            fs::write(at("file"), b"old").unwrap();
            symlink(root.join("outside"), at("link")).unwrap();
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
                check(&at(base), &m);
            }
            assert_eq!(fs::read(root.join("outside")).unwrap(), b"precious");
            fails(way("no/where", false), DestinationErrorKind::NotFound);
        }
    }
    fails(to.make_symlink(b"file0", b"x", a), DestinationErrorKind::AlreadyExists);
    fails(to.make_directory(b"file0"), DestinationErrorKind::AlreadyExists);
    fails(to.make_directory(b"made/file0"), DestinationErrorKind::AlreadyExists);
    fails(to.open_file(b"dir0"), DestinationErrorKind::AlreadyExists);
    good(to.remove(b"file0"));
    fails(to.remove(b"file0"), DestinationErrorKind::NotFound);
    // A directory made anew is not mistaken for the one that was there.
    good(to.make_directory(b"dir0/in"));
    complete(to.write_file(b"dir0/in/x", b"", a, false));
    fails(to.remove(b"dir0/in"), DestinationErrorKind::AlreadyExists);
    good(to.remove(b"dir0/in/x"));
    good(to.remove(b"dir0/in"));
    good(to.make_directory(b"dir0/in"));
    complete(to.write_file(b"dir0/in/x", b"", a, false));
    assert!(root.join("dir0/in/x").exists());
    assert!(no_temporary(&root));
}

#[test]
fn names_that_are_taken() {
    names_in_the_way(&Server::new());
}

#[test]
fn planted_links_are_not_followed() {
    let server = Server::new();
    let root = server.root();
    let (to, _) = server.destination();
    let outside = plant_links(&to, &root);
    let m = metadata(Kind::File, 0o644);
    let taken = DestinationErrorKind::AlreadyExists;
    // A directory that goes away and comes back as a link, with an error in between, is looked at
    // again.
    complete(to.write_file(b"real/before", b"x", plain(&m), false));
    fs::rename(root.join("real"), root.join("moved")).unwrap();
    fails(to.write_file(b"real/after", b"x", plain(&m), false), DestinationErrorKind::NotFound);
    symlink("../outside", root.join("real")).unwrap();
    fails(to.write_file(b"real/after", b"x", plain(&m), false), taken);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 2);
}

#[test]
fn files_in_parts_are_striped_and_whole() {
    let server = Server::new();
    let root = server.root();
    let proxy = Proxy::start(server.address()).unwrap();
    let (to, pool) = server.through(&proxy);
    // Connections are made when there is work for them, and take a while.
    while proxy.accepted() < 4 {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|_| drop(good(to.stat(b"big")))));
            }
        });
    }
    let m = metadata(Kind::File, 0o640);
    let size = 40 << 20;
    let file = good(to.create_file(b"big", size, false));
    let part = |number: u64| vec![number as u8 + 1; 1 << 20];
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let file = &file;
            scope.spawn(move || {
                // The last eight are left out.
                for n in (0..32).rev().filter(|n| n % 8 == thread) {
                    good(file.write_at(n << 20, &part(n)));
                }
            });
        }
    });
    assert!(!root.join("big").exists());
    complete(file.finish(plain(&m)));
    check(&root.join("big"), &m);
    let truth = fs::metadata(root.join("big")).unwrap();
    assert_eq!(truth.len(), size);
    assert!(truth.blocks() * 512 < 33 << 20, "holes stay holes");
    let content = read(&to, b"big");
    for n in 0..40 {
        let wanted = if n < 32 { part(n) } else { vec![0; 1 << 20] };
        assert!(content[(n as usize) << 20..][..1 << 20] == wanted, "part {n}");
    }
    // Opened to make it, and once more on other connections; not for each part. A connection that
    // was too slow is replaced, and opens it again.
    let opened = pool.recorder().requests(Operation::Open);
    assert!((2..=8).contains(&opened), "{opened}");

    let dropped = good(to.create_file(b"dropped", 100, false));
    good(dropped.write_at(0, b"half"));
    fails(dropped.write_at(98, b"beyond"), DestinationErrorKind::Io);
    drop(dropped);
    assert!(!root.join("dropped").exists() && no_temporary(&root));
    // Another took the name meanwhile.
    let late = good(to.create_file(b"late", 1, false));
    fs::write(root.join("late"), b"first").unwrap();
    fails(late.finish(plain(&m)), DestinationErrorKind::AlreadyExists);
    assert_eq!(fs::read(root.join("late")).unwrap(), b"first");
    assert!(no_temporary(&root));
}
