//! What needs root here: an account on the server that has none of root's rights, and a disk that
//! is full.

#![expect(clippy::print_stderr, reason = "what is left out is said")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use holdfast_connectors::sftp::client::Operation;
use holdfast_connectors::sftp::destination::SftpDestination;
use holdfast_connectors::sftp::pool::Pool;
use holdfast_connectors::sftp::ssh::NoInteraction;
use holdfast_engine::destination::{Destination, DestinationErrorKind, Unset};
use holdfast_engine::meta::Kind;
use holdfast_testkit::SshdOptions;

use super::{Server, check, complete, fails, good, metadata, no_temporary, owned, plain, runtime};
use crate::is_root;

#[test]
fn what_only_root_may_do_is_not_asked_for_again_and_again() {
    if !is_root() {
        eprintln!("left out, needs root: an account without rights");
        return;
    }
    let server = Server::with(SshdOptions { password: Some("x".into()), ..SshdOptions::default() });
    let connections = pool(&server, b"~/restored");
    let to = SftpDestination::new(connections.clone());
    good(to.prepare());
    let home = server.sshd.directory().join("home");
    let own = fs::metadata(&home).unwrap();
    let root = home.join("restored");
    let short = Unset { owner: true, ..Unset::default() };
    let set = || connections.recorder().requests(Operation::Fsetstat);
    for i in 0..20 {
        let before = set();
        let m = owned(metadata(Kind::File, 0o444), 12, 34);
        assert_eq!(good(to.write_file(format!("f{i}").as_bytes(), b"x", plain(&m), false)), short);
        if i > 0 {
            assert_eq!(set() - before, 1);
        }
        let mine = owned(m, own.uid(), own.gid());
        check(&root.join(format!("f{i}")), &mine);
    }
    // Not set-id to the wrong user.
    let m = owned(metadata(Kind::File, 0o4755), 12, 34);
    let unset = good(to.write_file(b"setuid", b"x", plain(&m), false));
    assert_eq!(unset, Unset { mode: true, ..short });
    check(&root.join("setuid"), &owned(metadata(Kind::File, 0o755), own.uid(), own.gid()));
    // What is theirs comes back whole.
    for mode in [0o640, 0o6755] {
        let m = owned(metadata(Kind::File, mode), own.uid(), own.gid());
        complete(to.write_file(format!("own{mode:o}").as_bytes(), b"x", plain(&m), false));
        check(&root.join(format!("own{mode:o}")), &m);
    }
    let m = owned(metadata(Kind::Symlink, 0o777), 12, 34);
    assert_eq!(good(to.make_symlink(b"link", b"x", plain(&m))), short);
    good(to.make_directory(b"dir"));
    let m = owned(metadata(Kind::Directory, 0o750), 12, 34);
    assert_eq!(good(to.set_attributes(b"dir", plain(&m))), short);
    check(&root.join("dir"), &owned(m, own.uid(), own.gid()));
    fails(
        SftpDestination::new(pool(&server, b"/root/x")).prepare(),
        DestinationErrorKind::PermissionDenied,
    );
}

fn pool(server: &Server, path: &[u8]) -> Pool {
    let options = server.options(server.sshd.port(), path);
    Pool::new(runtime().handle().clone(), options, Arc::new(NoInteraction))
}

#[test]
fn a_full_disk_is_told_as_such() {
    if !is_root() {
        eprintln!("left out, needs root: a small file system");
        return;
    }
    let server = Server::new();
    fs::create_dir(server.root()).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let done = std::process::Command::new(program).args(arguments).status();
        done.is_ok_and(|status| status.success())
    };
    let root = server.root();
    let at = root.to_str().unwrap();
    if !run("mount", &["-t", "tmpfs", "-o", "size=8m,nr_inodes=50", "none", at]) {
        eprintln!("left out, needs the right to mount");
        return;
    }
    let outcome = std::panic::catch_unwind(|| {
        let (to, _) = server.destination();
        let m = metadata(Kind::File, 0o644);
        let full = DestinationErrorKind::NoSpace;
        good(to.make_directory(b"made"));
        for name in [&b"small"[..], b"made/small"] {
            fails(to.write_file(name, &vec![7; 9 << 20], plain(&m), false), full);
        }
        let file = good(to.create_file(b"big", 100 << 20, false));
        let written = (0..100).try_for_each(|n| file.write_at(n << 20, &vec![7; 1 << 20]));
        fails(written, full);
        drop(file);
        assert!(no_temporary(&root) && fs::read_dir(root.join("made")).unwrap().count() == 0);
        complete(to.write_file(b"fits", &vec![7; 4 << 20], plain(&m), false));
        let made = (0..50).try_for_each(|n| {
            to.write_file(format!("made/{n}").as_bytes(), b"", plain(&m), false).map(drop)
        });
        fails(made, full);
    });
    assert!(run("umount", &["-l", at]));
    outcome.unwrap();
}
