//! The SFTP client's operations against OpenSSH's own server, over pipes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use holdfast_connectors::sftp::client::{
    Attributes, Client, ClientError, ClientErrorKind, ClientOptions, Extension, FileKind,
    OpenFlags, Operation, Recorder, SymlinkOrder, WriteSmall,
};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A server with a directory of its own; both go when this is dropped.
pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) process: Child,
}

/// OpenSSH's server.
pub(crate) fn server_program() -> &'static str {
    let places = ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server"];
    let server = places.into_iter().find(|place| std::path::Path::new(place).exists());
    server.expect("OpenSSH's sftp-server (Debian: openssh-sftp-server)")
}

/// Starts a server with these arguments.
pub(crate) fn start(arguments: &[&str]) -> (Child, ChildStdout, ChildStdin) {
    // Many handles need many files.
    let mut process = Command::new("sh")
        .args(["-c", "ulimit -n 4096; exec \"$0\" \"$@\"", server_program()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (output, input) = (process.stdout.take().unwrap(), process.stdin.take().unwrap());
    (process, output, input)
}

impl Server {
    pub(crate) async fn new(arguments: &[&str]) -> Self {
        Self::with(arguments, ClientOptions::default()).await
    }

    pub(crate) async fn with(arguments: &[&str], options: ClientOptions) -> Self {
        let (process, output, input) = start(arguments);
        let client = Client::connect_halves(output, input, &options).await.unwrap();
        Self { client, directory: crate::scratch(), process }
    }

    /// The path of a name in the directory, as the server gets it.
    pub(crate) fn at(&self, name: impl AsRef<[u8]>) -> Vec<u8> {
        [self.directory.path().as_os_str().as_bytes(), b"/", name.as_ref()].concat()
    }

    /// The path of a name in the directory, for this side.
    pub(crate) fn local(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.directory.path().join(OsStr::from_bytes(name.as_ref()))
    }

    pub(crate) fn requests(&self, operation: Operation) -> u64 {
        self.client.recorder().requests(operation)
    }
}

#[track_caller]
pub(crate) fn kind<T: std::fmt::Debug>(outcome: Result<T, ClientError>) -> ClientErrorKind {
    outcome.expect_err("it should have failed").kind
}

/// Fails rather than waits for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it hangs")
}

const NEW: fn() -> OpenFlags = || OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;

fn none() -> Attributes {
    Attributes::default()
}

#[tokio::test]
async fn names_are_bytes_everywhere() {
    let server = Server::new(&[]).await;
    let (client, name) = (&server.client, b"\xff\xfe caf\xe9 \n\t\\ \x01");
    client.make_directory(&server.at(name), &Attributes::with_permissions(0o700)).await.unwrap();
    let inside = [&server.at(name)[..], b"/\x80"].concat();
    client.write_small(&inside, b"content", &WriteSmall::default()).await.unwrap();
    let link = server.at(b"\xc3\x28");
    client.symlink(name, &link).await.unwrap();

    assert_eq!(
        std::fs::read(server.local(name).join(OsStr::from_bytes(b"\x80"))).unwrap(),
        b"content"
    );
    let target = std::fs::read_link(server.local(b"\xc3\x28")).unwrap();
    assert_eq!(target.as_os_str().as_bytes(), name);
    assert_eq!(client.read_link(&link).await.unwrap(), name);
    assert_eq!(client.realpath(&link).await.unwrap(), server.at(name));
    let mut names: Vec<_> =
        client.list(&server.at("")).await.unwrap().into_iter().map(|entry| entry.name).collect();
    names.sort();
    assert_eq!(names, [&b"\xc3\x28"[..], name]);
    assert_eq!(client.read_small(&inside, 100).await.unwrap().bytes, b"content");
    client.rename(&inside, &[&server.at(name)[..], b"/\x81"].concat()).await.unwrap();
    let error = client.stat(&inside).await.unwrap_err();
    assert_eq!((error.kind, &error.path), (ClientErrorKind::NotFound, &inside));
    assert!(error.to_string().contains("\\xff\\xfe caf\\xe9 \\n"), "{error}");
}

#[tokio::test]
async fn attributes_are_told_and_set() {
    let server = Server::new(&[]).await;
    let client = &server.client;
    std::fs::write(server.local("f"), b"12345").unwrap();
    std::os::unix::fs::symlink("f", server.local("l")).unwrap();
    let on_disk = std::fs::metadata(server.local("f")).unwrap();
    for attributes in [
        client.stat(&server.at("f")).await.unwrap(),
        client.stat(&server.at("l")).await.unwrap(),
        client.lstat(&server.at("f")).await.unwrap(),
    ] {
        assert_eq!(attributes.size, Some(5));
        assert_eq!(attributes.owner, Some((on_disk.uid(), on_disk.gid())));
        assert_eq!(attributes.permissions, Some(on_disk.mode()));
        assert_eq!(attributes.modified(), Some(on_disk.mtime() as u32));
        assert_eq!(attributes.kind(), Some(FileKind::File));
    }
    let link = client.lstat(&server.at("l")).await.unwrap();
    assert_eq!(link.kind(), Some(FileKind::Symlink));
    assert_eq!(client.lstat(&server.at("")).await.unwrap().kind(), Some(FileKind::Directory));

    let to = Attributes {
        size: Some(3),
        permissions: Some(0o640),
        times: Some((1_000_000_000, 1_100_000_000)),
        ..none()
    };
    client.set_attributes(&server.at("l"), &to).await.unwrap();
    let on_disk = std::fs::metadata(server.local("f")).unwrap();
    assert_eq!((on_disk.len(), on_disk.mode() & 0o7777), (3, 0o640));
    assert_eq!((on_disk.atime(), on_disk.mtime()), (1_000_000_000, 1_100_000_000));

    let to = Attributes { times: Some((5, 6)), ..none() };
    client.set_link_attributes(&server.at("l"), &to).await.unwrap();
    assert_eq!(std::fs::symlink_metadata(server.local("l")).unwrap().mtime(), 6);
    assert_eq!(std::fs::metadata(server.local("f")).unwrap().mtime(), 1_100_000_000);

    let file = client.open(&server.at("f"), OpenFlags::WRITE, &none()).await.unwrap();
    file.set_attributes(&Attributes { permissions: Some(0o600), ..to }).await.unwrap();
    assert_eq!(file.attributes().await.unwrap().permissions, Some(0o100_600));
    assert_eq!(file.attributes().await.unwrap().modified(), Some(6));
    file.close().await.unwrap();
}

#[tokio::test]
async fn nothing_that_exists_is_replaced_unless_asked_for() {
    let server = Server::new(&[]).await;
    let client = &server.client;
    let (old, new) = (server.at("old"), server.at("new"));
    std::fs::write(server.local("old"), b"old").unwrap();
    std::fs::write(server.local("new"), b"new").unwrap();
    let exists = ClientErrorKind::AlreadyExists;

    assert_eq!(kind(client.open(&old, NEW(), &none()).await), exists);
    assert_eq!(kind(client.write_small(&old, b"x", &WriteSmall::default()).await), exists);
    assert_eq!(kind(client.rename(&new, &old).await), exists);
    assert_eq!(kind(client.hardlink(&new, &old).await), exists);
    assert_eq!(kind(client.symlink(b"x", &old).await), exists);
    assert_eq!(kind(client.make_directory(&old, &none()).await), exists);
    let error = client.rename(&new, &old).await.unwrap_err();
    assert_eq!(error.path, old);
    assert_eq!(error.status.as_ref().map(|status| status.code), Some(4));
    // Failures of another reason stay what they are.
    assert_eq!(kind(client.rename(&server.at("x"), &old).await), ClientErrorKind::NotFound);
    assert_eq!(
        kind(client.open(&server.at("x/y"), NEW(), &none()).await),
        ClientErrorKind::NotFound
    );
    assert_eq!(std::fs::read(server.local("old")).unwrap(), b"old");

    client.hardlink(&new, &server.at("second")).await.unwrap();
    assert_eq!(std::fs::metadata(server.local("new")).unwrap().nlink(), 2);
    client.rename(&server.at("second"), &server.at("third")).await.unwrap();
    client.posix_rename(&new, &old).await.unwrap();
    assert_eq!(std::fs::read(server.local("old")).unwrap(), b"new");
    assert!(!server.local("new").exists());
}

#[tokio::test]
async fn directories_are_made_and_removed() {
    let server = Server::new(&["-u", "0022"]).await;
    let client = &server.client;
    let path = server.at("d");
    client.make_directory(&path, &Attributes::with_permissions(0o777)).await.unwrap();
    let mode = std::fs::metadata(server.local("d")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    assert!(client.list(&path).await.unwrap().is_empty());
    std::fs::write(server.local("d/f"), b"").unwrap();
    assert!(client.remove_directory(&path).await.is_err());
    client.remove(&server.at("d/f")).await.unwrap();
    client.remove_directory(&path).await.unwrap();
    assert_eq!(kind(client.remove_directory(&path).await), ClientErrorKind::NotFound);
    assert_eq!(kind(client.open_directory(&path).await), ClientErrorKind::NotFound);
    // A file is no directory: OpenSSH says that there is none.
    std::fs::write(server.local("f"), b"").unwrap();
    assert_eq!(kind(client.list(&server.at("f")).await), ClientErrorKind::NotFound);
    assert_eq!(kind(client.read_link(&server.at("f")).await), ClientErrorKind::BadMessage);
}

/// Waits until the server's limits are known: nobody else does.
async fn told(client: &Client) {
    let known = async {
        while client.limits().packet.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), known).await.unwrap();
}

#[tokio::test]
async fn the_server_tells_its_limits_file_systems_names_and_homes() {
    let server = Server::new(&[]).await;
    let client = &server.client;
    told(client).await;
    assert_eq!(client.limits().packet, Some(256 * 1024));
    assert_eq!((client.read_size(), client.write_size()), (255 * 1024, 255 * 1024));
    assert!(client.supports(Extension::Limits) && client.supports(Extension::Statvfs));
    assert!(client.extensions().len() > 5);

    let found = client.file_system(&server.at("")).await.unwrap();
    let here = rustix::fs::statvfs(server.directory.path()).unwrap();
    assert_eq!(found.total(), here.f_blocks * here.f_frsize);
    assert_eq!((found.longest_name, found.read_only), (here.f_namemax, false));
    assert!(found.available() > 0 && found.available() <= found.total());
    assert_eq!(kind(client.file_system(&server.at("x")).await), ClientErrorKind::NotFound);

    let names = client.names_by_id(&[0, 4_000_000_000, 65_534], &[0]).await.unwrap();
    let name = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(names.users, [name("root"), None, name("nobody")]);
    assert_eq!(names.groups, [name("root")]);
    let many: Vec<u32> = (0..1000).map(|i| i % 2).collect();
    let names = client.names_by_id(&[], &many).await.unwrap();
    assert_eq!((names.users.len(), names.groups.len()), (0, 1000));
    assert_eq!((&names.groups[998], &names.groups[999]), (&name("root"), &name("daemon")));

    assert_eq!(client.expand_path(b"~root/x").await.unwrap(), b"/root/x");
    assert_eq!(client.home_directory(b"root").await.unwrap(), b"/root");
    let start = std::env::current_dir().unwrap();
    assert_eq!(client.realpath(b".").await.unwrap(), start.as_os_str().as_bytes());
}

#[tokio::test]
async fn a_thousand_files_are_open_at_once() {
    let server = Server::new(&[]).await;
    let mut files = Vec::new();
    for i in 0..1000 {
        std::fs::write(server.local(format!("f{i}")), format!("content of {i}")).unwrap();
        let path = server.at(format!("f{i}"));
        files.push(server.client.open(&path, OpenFlags::READ, &none()).await.unwrap());
    }
    let handles: BTreeSet<_> = files.iter().map(|file| file.handle().to_vec()).collect();
    assert_eq!(handles.len(), 1000);
    let descriptors = format!("/proc/{}/fd", server.process.id().unwrap());
    assert!(std::fs::read_dir(&descriptors).unwrap().count() > 1000);
    let mut readers = tokio::task::JoinSet::new();
    for (i, file) in files.into_iter().enumerate() {
        readers.spawn(async move {
            assert_eq!(
                file.read_range(0, 100).await.unwrap(),
                format!("content of {i}").as_bytes()
            );
            // Half of them are closed, half of them dropped.
            if i % 2 == 0 {
                file.close().await.unwrap();
            }
        });
    }
    while let Some(outcome) = readers.join_next().await {
        outcome.unwrap();
    }
    // The server is done with the closes before it answers this.
    server.client.stat(b"/").await.unwrap();
    assert!(std::fs::read_dir(&descriptors).unwrap().count() < 20);
}

#[tokio::test]
async fn large_directories_come_in_batches_whole() {
    let server = Server::new(&[]).await;
    let many = server.local("many");
    std::fs::create_dir(&many).unwrap();
    for i in 0..100_000 {
        std::fs::hard_link(server.directory.path().join("many/0"), many.join(i.to_string()))
            .or_else(|_| std::fs::write(many.join(i.to_string()), b""))
            .unwrap();
    }
    let mut directory = server.client.open_directory(&server.at("many")).await.unwrap();
    let (mut names, mut batches) = (BTreeSet::new(), 0);
    while let Some(batch) = soon(directory.next()).await.unwrap() {
        assert!(!batch.is_empty());
        batches += 1;
        for entry in batch {
            assert_eq!(entry.attributes.kind(), Some(FileKind::File));
            assert_eq!(entry.long_name, None);
            assert!(names.insert(entry.name));
        }
    }
    assert!(directory.next().await.unwrap().is_none());
    assert_eq!(names, (0..100_000).map(|i: u32| i.to_string().into_bytes()).collect());
    assert!(batches >= 1000);
    let requests = server.requests(Operation::Readdir);
    assert!(requests <= batches + 16, "{requests} requests for {batches} batches");
}

#[tokio::test]
async fn a_small_directory_is_listed_in_two_round_trips() {
    let server = Server::new(&[]).await;
    std::fs::write(server.local("f"), b"").unwrap();
    let mut directory =
        server.client.open_directory(&server.at("")).await.unwrap().keep_long_names();
    let batch = directory.next().await.unwrap().unwrap();
    assert!(batch[0].long_name.as_ref().unwrap().ends_with(b" f"));
    assert!(directory.next().await.unwrap().is_none());
    drop(directory);
    assert_eq!(server.requests(Operation::Readdir), 2);
    assert_eq!(server.requests(Operation::Close), 1);
    assert_eq!(server.requests(Operation::Lstat) + server.requests(Operation::Stat), 0);
}

#[tokio::test]
async fn what_the_server_lacks_is_not_asked_for() {
    let without = "limits,posix-rename,hardlink,fsync,statvfs,lsetstat,users-groups-by-id,\
                   expand-path,home-directory";
    let server = Server::new(&["-P", without]).await;
    let client = &server.client;
    assert_eq!((client.read_size(), client.write_size()), (32 * 1024, 32 * 1024));
    let path = server.at("f");
    let before = client.recorder().total();
    let unsupported = ClientErrorKind::Unsupported;
    assert_eq!(kind(client.posix_rename(&path, &path).await), unsupported);
    assert_eq!(kind(client.hardlink(&path, &path).await), unsupported);
    assert_eq!(kind(client.file_system(&path).await), unsupported);
    assert_eq!(kind(client.set_link_attributes(&path, &none()).await), unsupported);
    assert_eq!(kind(client.names_by_id(&[0], &[]).await), unsupported);
    assert_eq!(kind(client.expand_path(b"~").await), unsupported);
    assert_eq!(kind(client.home_directory(b"").await), unsupported);
    let how = WriteSmall { sync: true, ..WriteSmall::default() };
    assert_eq!(kind(client.write_small(&path, b"x", &how).await), unsupported);
    assert_eq!(client.recorder().total(), before);

    client.write_small(&path, &vec![7; 300_000], &WriteSmall::default()).await.unwrap();
    assert_eq!(client.read_small(&path, 300_000).await.unwrap().bytes, vec![7; 300_000]);
    let file = client.open(&path, OpenFlags::WRITE, &none()).await.unwrap();
    assert_eq!(kind(file.sync().await), unsupported);
}

#[tokio::test]
async fn denied_requests_are_named() {
    let server = Server::new(&["-P", "write,readdir,symlink"]).await;
    let client = &server.client;
    std::fs::write(server.local("f"), b"old").unwrap();
    let denied = ClientErrorKind::PermissionDenied;
    let file = client.open(&server.at("f"), OpenFlags::WRITE, &none()).await.unwrap();
    let error = file.write_at(0, &vec![1; 1_000_000]).await.unwrap_err();
    assert_eq!((error.kind, error.operation), (denied, Operation::Write));
    assert_eq!(error.path, server.at("f"));
    let mut writer = file.writer(0, 1 << 20);
    let mut outcome = writer.write(&[1; 100]).await;
    outcome = outcome.and(writer.write(&vec![1; 1_000_000]).await);
    assert_eq!(
        kind(match outcome {
            Ok(()) => writer.finish().await.map(drop),
            failed => failed,
        }),
        denied
    );
    assert_eq!(
        kind(client.write_small(&server.at("g"), b"x", &WriteSmall::default()).await),
        denied
    );
    let mut directory = client.open_directory(&server.at("")).await.unwrap();
    assert_eq!(kind(directory.next().await), denied);
    assert_eq!(kind(directory.next().await), denied);
    assert_eq!(kind(client.symlink(b"x", &server.at("l")).await), denied);
    assert!(!client.is_dead());

    let server = Server::new(&["-R"]).await;
    std::fs::write(server.local("f"), b"old").unwrap();
    let client = &server.client;
    assert_eq!(kind(client.open(&server.at("g"), NEW(), &none()).await), denied);
    assert_eq!(kind(client.remove(&server.at("f")).await), denied);
    assert_eq!(kind(client.make_directory(&server.at("d"), &none()).await), denied);
    assert_eq!(client.read_small(&server.at("f"), 3).await.unwrap().bytes, b"old");
}

#[tokio::test]
async fn senseless_paths_are_refused_before_they_are_sent() {
    let server = Server::new(&[]).await;
    let client = &server.client;
    told(client).await;
    let invalid = ClientErrorKind::InvalidArgument;
    assert_eq!(kind(client.stat(b"/a\0b").await), invalid);
    assert_eq!(kind(client.rename(b"/a", b"/a\0b").await), invalid);
    assert_eq!(kind(client.stat(&vec![b'a'; 300_000]).await), invalid);
    // Long, but not for a request: the server's system has the word.
    assert_eq!(kind(client.stat(&vec![b'a'; 200_000]).await), ClientErrorKind::BadMessage);
    client.stat(b"/").await.unwrap();
}

#[tokio::test]
async fn the_draft_has_links_the_other_way_round() {
    let options = ClientOptions { symlink_order: SymlinkOrder::LinkFirst, ..Default::default() };
    let server = Server::with(&[], options).await;
    // What OpenSSH makes of it is a link at the other path.
    server.client.symlink(&server.at("a"), &server.at("b")).await.unwrap();
    let found = std::fs::read_link(server.local("a")).unwrap();
    assert_eq!(found, server.local("b"));
}

#[tokio::test]
async fn what_goes_over_the_wire_is_counted() {
    let recorder = Arc::new(Recorder::new());
    let options = ClientOptions { recorder: Some(recorder.clone()), ..Default::default() };
    let server = Server::with(&[], options.clone()).await;
    let _other = Server::with(&[], options).await;
    assert_eq!((recorder.requests(Operation::Init), recorder.requests(Operation::Limits)), (2, 2));
    let before = (recorder.bytes_sent(), recorder.bytes_received());
    server.client.write_small(&server.at("f"), &[1; 5000], &WriteSmall::default()).await.unwrap();
    let sent = recorder.bytes_sent() - before.0;
    assert!((5000..5300).contains(&sent), "{sent}");
    let received = recorder.bytes_received() - before.1;
    assert!(received < 200, "{received}");
    server.client.read_small(&server.at("f"), 5000).await.unwrap();
    let received = recorder.bytes_received() - before.1 - received;
    assert!((5000..5300).contains(&received), "{received}");
    let count = |operation| recorder.requests(operation);
    assert_eq!((count(Operation::Open), count(Operation::Close)), (2, 2));
    assert_eq!((count(Operation::Read), count(Operation::Write)), (1, 1));
    assert_eq!((count(Operation::Fstat), recorder.total()), (1, 11));
}
