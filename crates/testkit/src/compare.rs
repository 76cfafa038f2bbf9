//! An independent look at trees: a walker on `std::fs` alone that shares nothing with the
//! connectors, and a comparison that says every difference in a line. Trees in memory are listed
//! in the same form, so that disk and memory can be compared with each other too.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_engine::meta::{Kind, Time};

use crate::memtree::{MemoryTree, join};
use crate::show;

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompareOptions {
    /// Bytes of regular files.
    pub content: bool,
    /// Permission bits (never those of symbolic links, which mean nothing).
    pub mode: bool,
    /// User and group numbers; names where both sides know them.
    pub owner: bool,
    /// Modification times to the nanosecond, of all but directories.
    pub mtime: bool,
    /// Modification times of directories.
    pub directory_mtime: bool,
    /// Extended attributes, ACLs included.
    pub xattrs: bool,
    /// Which names are hard links of one inode.
    pub hard_links: bool,
    /// Numbers of device files.
    pub devices: bool,
    /// By how many bytes the allocated space of a file may differ; `None` to ignore holes. File
    /// systems round and preallocate, so small values fail for no reason.
    pub sparse: Option<u64>,
    /// Attributes of the root itself.
    pub root: bool,
}

impl Default for CompareOptions {
    /// Everything.
    fn default() -> Self {
        Self {
            content: true,
            mode: true,
            owner: true,
            mtime: true,
            directory_mtime: true,
            xattrs: true,
            hard_links: true,
            devices: true,
            sparse: Some(256 * 1024),
            root: true,
        }
    }
}

impl CompareOptions {
    /// Names, kinds, contents and link targets alone.
    pub fn content_only() -> Self {
        Self {
            content: true,
            mode: false,
            owner: false,
            mtime: false,
            directory_mtime: false,
            xattrs: false,
            hard_links: false,
            devices: false,
            sparse: None,
            root: false,
        }
    }

    /// Everything that a user who is not root can restore.
    pub fn unprivileged() -> Self {
        Self { owner: false, ..Self::default() }
    }
}

#[derive(Debug, Clone)]
enum Content {
    None,
    Memory(Arc<Vec<u8>>),
    Disk(PathBuf),
}

/// What is known of an entry.
#[derive(Debug, Clone)]
struct Facts {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    names: Option<(String, String)>,
    size: u64,
    mtime: Time,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    target: Vec<u8>,
    device: Option<(u32, u32)>,
    inode: (u64, u64),
    allocated: u64,
    content: Content,
}

/// All entries of a tree by path, the root under the empty one. A listing of a tree on disk reads
/// contents only when compared.
#[derive(Debug, Clone)]
pub struct Listing {
    location: String,
    entries: BTreeMap<Vec<u8>, Facts>,
}

impl Listing {
    /// Walks a tree on disk. A root that is no directory is a tree of one entry.
    pub fn of_disk(root: &Path) -> io::Result<Self> {
        let mut entries = BTreeMap::new();
        walk(root, Vec::new(), &mut entries).map_err(|(path, error)| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        Ok(Self { location: root.display().to_string(), entries })
    }

    /// Lists a tree in memory.
    pub fn of_memory(tree: &MemoryTree) -> Self {
        let mut entries = BTreeMap::new();
        for path in std::iter::once(Vec::new()).chain(tree.paths()) {
            let Some(node) = tree.node(&path) else { continue };
            let metadata = &node.metadata;
            let owner = &metadata.owner;
            let names = (!owner.user.is_empty() || !owner.group.is_empty())
                .then(|| (owner.user.clone(), owner.group.clone()));
            let pairs = node.xattrs.iter().map(|x| (x.name.clone(), x.value.clone()));
            let facts = Facts {
                kind: metadata.kind,
                mode: metadata.mode,
                uid: owner.uid,
                gid: owner.gid,
                names,
                size: metadata.size,
                mtime: metadata.mtime,
                xattrs: pairs.collect(),
                target: node.target.clone(),
                device: metadata.device,
                inode: (0, metadata.inode),
                allocated: node.allocated(),
                content: match metadata.kind {
                    Kind::File => Content::Memory(Arc::clone(&node.content)),
                    _ => Content::None,
                },
            };
            entries.insert(path, facts);
        }
        Self { location: "memory".into(), entries }
    }

    /// Every path with its kind, in the order of the bytes of the paths; the root is the empty
    /// path.
    pub fn paths(&self) -> impl Iterator<Item = (&[u8], Kind)> {
        self.entries.iter().map(|(path, facts)| (path.as_slice(), facts.kind))
    }

    /// Differences to `other`, one a line, none if the trees are the same.
    pub fn differences(&self, other: &Self, options: &CompareOptions) -> Vec<String> {
        let mut found = Vec::new();
        let (our_groups, their_groups) = (self.groups(), other.groups());
        for (path, ours) in &self.entries {
            let Some(theirs) = other.entries.get(path) else {
                found.push(format!("{}: missing in {}", show(path), other.location));
                continue;
            };
            if !(path.is_empty() && !options.root && ours.kind == Kind::Directory) {
                let mut say = |what: String| found.push(format!("{}: {what}", show(path)));
                compare(ours, theirs, options, &mut say);
            }
            let (a, b) = (our_groups.get(path), their_groups.get(path));
            if options.hard_links && a != b {
                let text = |names: Option<&String>| names.cloned().unwrap_or("nothing".into());
                let (a, b) = (text(a), text(b));
                found.push(format!("{}: hard link of {a} and of {b}", show(path)));
            }
        }
        for path in other.entries.keys().filter(|path| !self.entries.contains_key(*path)) {
            found.push(format!("{}: missing in {}", show(path), self.location));
        }
        found
    }

    /// Panics with all differences (the first 50) if the trees are not the same.
    pub fn assert_same(&self, other: &Self, options: &CompareOptions) {
        let found = self.differences(other, options);
        let count = found.len();
        let lines = found.into_iter().take(50).collect::<Vec<_>>().join("\n  ");
        assert!(
            count == 0,
            "{} and {} differ in {count} places:\n  {lines}",
            self.location,
            other.location
        );
    }

    /// For every path with further names: all names of its inode in this tree.
    fn groups(&self) -> BTreeMap<&Vec<u8>, String> {
        let mut by_inode: BTreeMap<(u64, u64), Vec<&Vec<u8>>> = BTreeMap::new();
        for (path, facts) in self.entries.iter().filter(|(_, f)| f.kind != Kind::Directory) {
            by_inode.entry(facts.inode).or_default().push(path);
        }
        let mut groups = BTreeMap::new();
        for paths in by_inode.into_values().filter(|paths| paths.len() > 1) {
            let text = paths.iter().map(|path| show(path)).collect::<Vec<_>>().join(" = ");
            groups.extend(paths.into_iter().map(|path| (path, text.clone())));
        }
        groups
    }
}

/// Differences between two trees on disk, one a line.
pub fn compare_trees(a: &Path, b: &Path, options: &CompareOptions) -> io::Result<Vec<String>> {
    Ok(Listing::of_disk(a)?.differences(&Listing::of_disk(b)?, options))
}

/// Panics with all differences if two trees on disk are not the same, or cannot be read.
pub fn assert_same_tree(a: &Path, b: &Path, options: &CompareOptions) {
    let list = |path| Listing::of_disk(path).unwrap_or_else(|error| panic!("{error}"));
    list(a).assert_same(&list(b), options);
}

type At<T> = Result<T, (PathBuf, io::Error)>;

fn walk(at: &Path, path: Vec<u8>, into: &mut BTreeMap<Vec<u8>, Facts>) -> At<()> {
    let facts = examine(at).map_err(|error| (at.to_path_buf(), error))?;
    let kind = facts.kind;
    into.insert(path.clone(), facts);
    if kind == Kind::Directory {
        for entry in std::fs::read_dir(at).map_err(|error| (at.to_path_buf(), error))? {
            let name = entry.map_err(|error| (at.to_path_buf(), error))?.file_name();
            walk(&at.join(&name), join(&path, name.as_bytes()), into)?;
        }
    }
    Ok(())
}

fn examine(path: &Path) -> io::Result<Facts> {
    let metadata = std::fs::symlink_metadata(path)?;
    let file_type = metadata.file_type();
    let kind = if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_symlink() {
        Kind::Symlink
    } else if file_type.is_char_device() {
        Kind::CharDevice
    } else if file_type.is_block_device() {
        Kind::BlockDevice
    } else if file_type.is_fifo() {
        Kind::Fifo
    } else if file_type.is_socket() {
        Kind::Socket
    } else {
        Kind::File
    };
    let mut xattrs = BTreeMap::new();
    // The crate's plain functions do not follow links.
    for name in xattr::list(path)? {
        if let Some(value) = xattr::get(path, &name)? {
            xattrs.insert(name.as_bytes().to_vec(), value);
        }
    }
    let target = match kind {
        Kind::Symlink => std::fs::read_link(path)?.as_os_str().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    let number = metadata.rdev();
    Ok(Facts {
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        names: None,
        size: metadata.size(),
        mtime: Time { seconds: metadata.mtime(), nanos: metadata.mtime_nsec() as u32 },
        xattrs,
        target,
        device: is_device.then(|| (rustix::fs::major(number), rustix::fs::minor(number))),
        inode: (metadata.dev(), metadata.ino()),
        allocated: metadata.blocks() * 512,
        content: if kind == Kind::File { Content::Disk(path.into()) } else { Content::None },
    })
}

fn compare(a: &Facts, b: &Facts, options: &CompareOptions, say: &mut dyn FnMut(String)) {
    if a.kind != b.kind {
        return say(format!("{} and {}", a.kind.name(), b.kind.name()));
    }
    let kind = a.kind;
    if options.mode && kind != Kind::Symlink && a.mode != b.mode {
        say(format!("mode {:04o} and {:04o}", a.mode, b.mode));
    }
    if options.owner && (a.uid, a.gid) != (b.uid, b.gid) {
        say(format!("owner {}:{} and {}:{}", a.uid, a.gid, b.uid, b.gid));
    }
    if let (true, Some(ours), Some(theirs)) = (options.owner, &a.names, &b.names)
        && ours != theirs
    {
        say(format!("owner {}:{} and {}:{}", ours.0, ours.1, theirs.0, theirs.1));
    }
    let times = if kind == Kind::Directory { options.directory_mtime } else { options.mtime };
    if times && a.mtime != b.mtime {
        let text = |time: Time| format!("{}.{:09}", time.seconds, time.nanos);
        say(format!("mtime {} and {}", text(a.mtime), text(b.mtime)));
    }
    if a.target != b.target {
        say(format!("target {} and {}", show(&a.target), show(&b.target)));
    }
    if options.devices && a.device != b.device {
        say(format!("device {:?} and {:?}", a.device, b.device));
    }
    if options.xattrs {
        compare_xattrs(&a.xattrs, &b.xattrs, say);
    }
    if kind != Kind::File {
        return;
    }
    if options.content {
        if a.size != b.size {
            say(format!("size {} and {}", a.size, b.size));
        }
        match first_difference(&a.content, &b.content) {
            Ok(None) => {}
            // Where one merely ends earlier, the sizes have said so.
            Ok(Some(at)) if a.size != b.size && at == a.size.min(b.size) => {}
            Ok(Some(at)) => say(format!("content differs from byte {at}")),
            Err(error) => say(format!("content cannot be compared: {error}")),
        }
    }
    if options.sparse.is_some_and(|tolerance| a.allocated.abs_diff(b.allocated) > tolerance) {
        say(format!("allocated {} and {} of {} bytes", a.allocated, b.allocated, a.size));
    }
}

fn compare_xattrs(
    a: &BTreeMap<Vec<u8>, Vec<u8>>,
    b: &BTreeMap<Vec<u8>, Vec<u8>>,
    say: &mut dyn FnMut(String),
) {
    for (name, ours) in a {
        match b.get(name) {
            Some(theirs) if ours == theirs => {}
            Some(theirs) => {
                say(format!("xattr {} = {} and {}", show(name), show(ours), show(theirs)));
            }
            None => say(format!("xattr {} only in the first", show(name))),
        }
    }
    for name in b.keys().filter(|name| !a.contains_key(*name)) {
        say(format!("xattr {} only in the second", show(name)));
    }
}

fn first_difference(a: &Content, b: &Content) -> io::Result<Option<u64>> {
    let open = |content: &Content| -> io::Result<Box<dyn Read>> {
        Ok(match content {
            Content::None => Box::new(io::empty()),
            Content::Memory(bytes) => Box::new(io::Cursor::new(bytes.to_vec())),
            Content::Disk(path) => Box::new(File::open(path)?),
        })
    };
    let (mut a, mut b) = (open(a)?, open(b)?);
    let mut at = 0;
    loop {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        a.by_ref().take(1 << 20).read_to_end(&mut ours)?;
        b.by_ref().take(1 << 20).read_to_end(&mut theirs)?;
        if ours != theirs {
            let same = ours.iter().zip(&theirs).take_while(|(x, y)| x == y).count();
            return Ok(Some(at + same as u64));
        }
        if ours.is_empty() {
            return Ok(None);
        }
        at += ours.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tree::{TreeFixture, TreeOptions};

    type Change = Box<dyn Fn(&Path) -> io::Result<()>>;

    #[test]
    fn every_difference_is_said() {
        let options = TreeOptions { entries: 0, largest_file: 300_000, ..TreeOptions::default() };
        let (one, two) = (TreeFixture::new(1, &options), TreeFixture::new(1, &options));
        let links = |path: &Path| {
            fs::copy(path.join("edge/links/1"), path.join("new"))?;
            fs::rename(path.join("new"), path.join("edge/other/3"))
        };
        let at = |path: &'static str, change: fn(&Path) -> io::Result<()>| -> Change {
            Box::new(move |root| change(&root.join(path)))
        };
        let fill = |path: &Path| fs::write(path, vec![0; 4 << 20]);
        let retarget = |path: &Path| {
            fs::remove_file(path)?;
            std::os::unix::fs::symlink("elsewhere", path)
        };
        let cases: Vec<(&str, Change)> = vec![
            (
                "edge/sizes/257: content differs from byte 0",
                at("edge/sizes/257", |path| fs::write(path, [0; 257])),
            ),
            ("edge/sizes/2: size 2 and 3", at("edge/sizes/2", |path| fs::write(path, "abc"))),
            (
                "edge/twins/1: mtime",
                at("edge/twins/1", |path| {
                    File::open(path)?.set_modified(std::time::SystemTime::now())
                }),
            ),
            (
                "edge/twins/2: mode",
                at("edge/twins/2", |path| {
                    use std::os::unix::fs::PermissionsExt;
                    fs::set_permissions(path, fs::Permissions::from_mode(0o7777))
                }),
            ),
            (
                "edge/empty: xattr user.new only in the second",
                at("edge/empty", |path| xattr::set(path, "user.new", b"x")),
            ),
            ("edge/links/soft: target 1 and elsewhere", at("edge/links/soft", retarget)),
            (
                "edge/special/fifo: fifo and file",
                at("edge/special/fifo", |path| {
                    fs::remove_file(path)?;
                    fs::write(path, "")
                }),
            ),
            ("edge/sizes/4097: missing in", at("edge/sizes/4097", |path| fs::remove_file(path))),
            ("edge/sizes: mtime", at("edge/sizes/new", |path| fs::write(path, ""))),
            ("edge/sparse/all-hole: allocated", at("edge/sparse/all-hole", fill)),
            ("edge/other/3: hard link of", Box::new(links)),
        ];
        for (expected, change) in cases {
            change(two.root()).unwrap();
            let found = compare_trees(one.root(), two.root(), &CompareOptions::default()).unwrap();
            assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}: {found:#?}");
        }
    }
}
