//! A real mount: copies of it are what a restore makes, damage stays where it is, and it ends as it
//! should. Needs /dev/fuse, and root or fusermount3; ./test says so where they are missing.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{CompareOptions, TreeFixture, TreeOptions, assert_same_tree};

use crate::sandbox::{Answer, Sandbox};
use crate::whole::options;

/// How long something may take that is not known to be slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mount at `mnt` that is there.
pub(crate) struct Mount {
    child: Option<Child>,
    directory: PathBuf,
    /// What it said so far.
    said: Vec<String>,
    out: BufReader<std::process::ChildStdout>,
}

impl Mount {
    /// Of the repository at `repo`.
    fn new(sandbox: &Sandbox, words: &[&str]) -> Self {
        Self::of(sandbox, "repo", words)
    }

    pub(crate) fn of(sandbox: &Sandbox, repository: &str, words: &[&str]) -> Self {
        let directory = sandbox.path("mnt");
        if !directory.exists() {
            std::fs::create_dir(&directory).unwrap();
        }
        let mut command = sandbox.command_with_secret();
        command.args(["at", repository, "mount", "--json"]).args(words).arg(&directory);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut mount = Self { child: Some(child), directory, said: Vec::new(), out };
        let line = mount.line();
        assert!(line.contains("\"mounted\""), "{line} {:?}", mount.end("INT"));
        mount
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        self.said.push(line.clone());
        line
    }

    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.directory.join(below)
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(run("kill", &["-s", name, &id]).success());
    }

    /// Ends it by a signal; how it ended.
    pub(crate) fn end(&mut self, signal: &str) -> Answer {
        self.signal(signal);
        self.wait()
    }

    fn wait(&mut self) -> Answer {
        let begun = Instant::now();
        let mut child = self.child.take().unwrap();
        while child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        while !self.line().is_empty() {}
        let output = child.wait_with_output().unwrap();
        Answer {
            code: output.status.code().unwrap_or(-1),
            out: self.said.concat(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Mount {
    /// A test that failed leaves no mount behind.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            let _ = Command::new("umount").arg("-l").arg(&self.directory).output();
        }
    }
}

fn run<S: AsRef<OsStr>>(program: &str, words: &[S]) -> std::process::ExitStatus {
    Command::new(program).args(words).status().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_copy_of_a_mount_is_what_restore_makes() {
    let sandbox = Sandbox::with_repository();
    let tree = TreeFixture::new(3, &TreeOptions { entries: 200, ..TreeOptions::default() });
    // Of many chunks, so that it has a list of them.
    std::fs::write(tree.path("big"), random_bytes(1, 48 << 20)).unwrap();
    let root = tree.root().canonicalize().unwrap();
    let words: [&OsStr; 4] = ["at".as_ref(), "repo".as_ref(), "backup".as_ref(), root.as_os_str()];
    sandbox.run_words(words).ok();
    sandbox.run(&format!("at repo restore latest:{} -to out", root.display())).ok();

    let mut mount = Mount::new(&sandbox, &[]);
    let shown = mount.path("latest").join(root.strip_prefix("/").unwrap());
    // Looked at directly, from several threads, and again from what the kernel keeps.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_same_tree(&root, &shown, &options()));
        }
    });
    let copy = sandbox.path("copy");
    assert!(run("cp", &["-a".as_ref(), shown.as_os_str(), copy.as_os_str()]).success());
    assert_same_tree(&sandbox.path("out"), &copy, &options());
    let ended = mount.end("INT").ok();
    assert!(ended.out.contains("\"unreadable\":0,\"in_use\":false"), "{}", ended.out);
    assert!(names(&sandbox.path("mnt")).is_empty());
}

#[test]
fn snapshots_are_found_by_id_host_tag_and_time_and_new_ones_appear() {
    let sandbox = Sandbox::with_repository();
    sandbox.run("at repo backup -tag first --host alpha src").ok();
    let first = sandbox.run("at repo ls --json").ok().events()[0]["id"].to_string();
    let first = first.trim_matches('"')[..8].to_owned();
    let mut mount = Mount::new(&sandbox, &[]);
    assert_eq!(names(&mount.directory), ["hosts", "latest", "snapshots", "tags", "times"]);
    assert_eq!(names(&mount.path("snapshots")), [first.as_str()]);
    assert_eq!(names(&mount.path("hosts")), ["alpha"]);
    let inside = sandbox.path("src/a.txt");
    let inside = inside.strip_prefix("/").unwrap();
    for way in ["latest", "hosts/alpha/latest", "tags/first/latest"] {
        assert_eq!(std::fs::read(mount.path(way).join(inside)).unwrap(), b"hello\n", "{way}");
    }
    let time = names(&mount.path("times")).remove(0);
    assert_eq!(time.len(), "2026-11-20T10:00:00".len());
    assert_eq!(std::fs::read(mount.path("times").join(&time).join(inside)).unwrap(), b"hello\n");

    sandbox.write("src/a.txt", b"changed\n");
    sandbox.run("at repo backup --host beta src").ok();
    let begun = Instant::now();
    while names(&mount.path("hosts")) != ["alpha", "beta"] {
        assert!(begun.elapsed() < PATIENCE, "the new snapshot does not appear");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(names(&mount.path("snapshots")).len(), 2);
    assert_eq!(std::fs::read(mount.path("hosts/beta/latest").join(inside)).unwrap(), b"changed\n");
    assert_eq!(
        std::fs::read(mount.path("snapshots").join(&first).join(inside)).unwrap(),
        b"hello\n"
    );
    assert!(std::fs::write(mount.path("latest").join(inside), b"x").is_err(), "read-only");

    let found = Command::new("grep").args(["-rl", "hello"]).arg(mount.path("snapshots")).output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    assert_eq!(found.lines().count(), 1, "{found}");
    assert!(found.contains(&first), "{found}");
    mount.end("TERM").ok();
}

#[test]
fn one_snapshot_is_mounted_alone_and_unmounted_from_outside() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    let place = format!("latest:{}", sandbox.text("src"));
    let mut mount = Mount::new(&sandbox, &[&place]);
    assert_eq!(names(&mount.directory), ["a.txt", "link", "sub"]);
    let content_only = CompareOptions { directory_mtime: false, ..options() };
    assert_same_tree(&sandbox.path("src"), &mount.directory, &content_only);
    let umount = if rustix::process::geteuid().is_root() { "umount" } else { "fusermount3" };
    let words: &[&str] = if umount == "umount" { &["mnt"] } else { &["-u", "mnt"] };
    let status = Command::new(umount).args(words).current_dir(sandbox.path(".")).status();
    assert!(status.unwrap().success());
    mount.wait().ok();
}

#[test]
fn whoever_is_in_it_does_not_keep_it_from_ending() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    let mut mount = Mount::new(&sandbox, &[]);
    let file = std::fs::File::open(mount.path("latest")).unwrap();
    let ended = mount.end("INT").ok();
    assert!(ended.out.contains("\"in_use\":true"), "{}", ended.out);
    assert!(names(&sandbox.path("mnt")).is_empty());
    drop(file);
}

#[test]
fn damage_is_an_error_of_its_file_alone() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/broken", &random_bytes(5, 3 << 20));
    sandbox.run("at repo backup src").ok();
    let packs = || -> Vec<PathBuf> {
        let folders = std::fs::read_dir(sandbox.path("repo/packs")).unwrap();
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().path()).collect()
    };
    let size = |path: &PathBuf| path.metadata().unwrap().len();
    let biggest = packs().into_iter().max_by_key(size).unwrap();
    sandbox.write("src/whole", &random_bytes(6, 3 << 20));
    sandbox.run("at repo backup src").ok();
    let mut bytes = std::fs::read(&biggest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&biggest, bytes).unwrap();

    let mut mount = Mount::new(&sandbox, &[]);
    let shown = mount.path("latest").join(sandbox.path("src").strip_prefix("/").unwrap());
    let error = std::fs::read(shown.join("broken")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    assert_eq!(std::fs::read(shown.join("whole")).unwrap(), random_bytes(6, 3 << 20));
    assert_eq!(std::fs::metadata(shown.join("broken")).unwrap().len(), 3 << 20);
    let ended = mount.end("INT");
    assert_eq!(ended.code, 3, "{ended:?}");
    let told: Vec<_> = ended.out.lines().filter(|line| line.contains("\"problem\"")).collect();
    assert_eq!(told.len(), 1, "once for a file: {told:?}");
    assert!(told[0].contains("src/broken") && told[0].contains("damaged"), "{told:?}");
}

#[test]
fn what_is_kept_of_what_was_read_is_bounded() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/big", &random_bytes(9, 128 << 20));
    sandbox.run("at repo backup src").ok();
    let place = format!("latest:{}", sandbox.text("src"));
    let peak = |words: &[&str]| {
        let mut mount = Mount::new(&sandbox, &[words, &[&place]].concat());
        let id = mount.child.as_ref().unwrap().id();
        let shown = std::fs::read(mount.path("big")).unwrap();
        assert!(shown == std::fs::read(sandbox.path("src/big")).unwrap());
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        mount.end("INT").ok();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    };
    let (usual, little) = (peak(&[]), peak(&["--memory", "32M"]));
    // Beside the cache there are the reads under way, and the program itself.
    assert!(usual > 128 && little < 96, "MiB: usually {usual}, with a limit {little}");
}

#[test]
fn a_long_directory_is_listed_and_looked_into_from_any_place() {
    let sandbox = Sandbox::with_repository();
    for number in 0..3000 {
        sandbox.write(&format!("src/many/{number:05}-{}", "x".repeat(60)), b"");
    }
    sandbox.run("at repo backup src").ok();
    let place = format!("latest:{}/many", sandbox.text("src"));
    let mut mount = Mount::new(&sandbox, &[&place]);
    let expected = names(&sandbox.path("src/many"));
    assert_eq!(expected.len(), 3000);
    assert_eq!(names(&mount.directory), expected);
    // Back and on again, as seekdir does.
    let file = std::fs::File::open(&mount.directory).unwrap();
    let mut dir = rustix::fs::Dir::new(file).unwrap();
    let mut seen = Vec::new();
    let mut place = None;
    while let Some(entry) = dir.read() {
        let entry = entry.unwrap();
        seen.push((entry.file_name().to_owned(), entry.ino()));
        if seen.len() == 1700 {
            place = Some(entry.offset());
        }
    }
    dir.seek(place.unwrap()).unwrap();
    let again: Vec<_> =
        dir.map(|e| e.map(|e| (e.file_name().to_owned(), e.ino())).unwrap()).collect();
    assert_eq!(again, seen[1700..]);
    mount.end("INT").ok();
}

#[test]
fn what_cannot_be_mounted_is_said_before_anything_is_opened() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    std::fs::create_dir(sandbox.path("mnt")).unwrap();
    sandbox
        .run("at repo mount nowhere")
        .fails(1, "there is no directory nowhere")
        .fails_with("mkdir -p nowhere");
    sandbox.run("at repo mount src").fails(1, "src is not empty");
    sandbox.run("at repo mount src/a.txt").fails(1, "src/a.txt is no directory");
    sandbox.run("at nothing mount nowhere").fails(1, "there is no directory nowhere");
    sandbox.run("at repo mount ffff mnt").fails(1, "no snapshot matches ffff");
    let file = format!("latest:{}", sandbox.text("src/a.txt"));
    sandbox.run(&format!("at repo mount {file} mnt")).fails(1, "a.txt is no directory");
    sandbox.run("at repo mount latest:/none mnt").fails(1, "holds no /none");
    sandbox.run("at repo mount --tag none mnt extra more").fails(2, "");
    assert!(names(&sandbox.path("mnt")).is_empty());
}
