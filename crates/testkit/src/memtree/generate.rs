//! Random trees and random edits, a function of their seed: every kind of entry, sizes around the
//! boundaries that matter to chunking and bundling, names that break sorting and encoding, odd
//! times, modes and attributes.

use holdfast_engine::meta::{Kind, Owner, Time, Xattr};
use rand::Rng;
use rand::rngs::StdRng;
use std::sync::Arc;

use super::{MemoryTree, join, split, write::acl_for_mode};
use crate::clock::{random_bytes, rng, text_bytes};
use crate::show;
use crate::tree::TreeOptions;

/// Sizes around bundle, chunk and page boundaries.
const SIZES: [usize; 18] = [
    0, 1, 2, 255, 256, 257, 1000, 4095, 4096, 4097, 16_384, 65_535, 65_536, 65_537, 131_071,
    131_072, 131_073, 300_000,
];

const TIMES: [Time; 7] = [
    Time { seconds: 0, nanos: 0 },
    Time { seconds: -1, nanos: 999_999_999 },
    Time { seconds: -1_000_000_000, nanos: 1 },
    Time { seconds: 1_700_000_000, nanos: 123_456_789 },
    Time { seconds: 2_147_483_647, nanos: 0 },
    Time { seconds: 2_147_483_648, nanos: 5 },
    Time { seconds: 4_000_000_000, nanos: 999_999_999 },
];

impl MemoryTree {
    /// A random tree of about so many entries, small files mostly, none above 300 kB.
    pub fn random(seed: u64, entries: usize) -> Self {
        let options =
            TreeOptions { entries, largest_file: 300_000, edge_cases: false, privileged: true };
        Self::generate(seed, &options)
    }

    /// A random tree as the options say.
    pub fn generate(seed: u64, options: &TreeOptions) -> Self {
        let mut rng = rng(seed);
        let mut tree = Self::new();
        if options.edge_cases {
            tree.add_edge_cases(options);
        }
        for _ in 0..options.entries {
            tree.add_random(&mut rng, options);
        }
        // Last, since adding entries moves the times of directories.
        let mut decorated = std::collections::BTreeSet::new();
        for path in tree.paths() {
            // An inode with several names gets one set of metadata.
            if tree.number(&path).is_some_and(|number| decorated.insert(number)) {
                tree.decorate(&path, &mut rng, options);
            }
        }
        tree
    }

    /// One of each that is known to be difficult, below `edge`.
    fn add_edge_cases(&mut self, options: &TreeOptions) {
        for size in SIZES.into_iter().filter(|size| *size <= options.largest_file) {
            self.file(format!("edge/sizes/{size}"), random_bytes(size as u64, size));
        }
        for size in [1 << 20, 3_000_001, 5 << 20] {
            if size <= options.largest_file {
                self.file(format!("edge/big/{size}"), random_bytes(1, size));
                self.file(format!("edge/big/{size}.zeros"), vec![0; size]);
                self.file(format!("edge/big/{size}.text"), text_bytes(2, size));
            }
        }
        self.file("edge/twins/1", random_bytes(9, 50_000));
        self.file("edge/twins/2", random_bytes(9, 50_000));
        self.directory("edge/empty").directory("edge/nest/1/2/3/4/5/6/7/8/9");
        // In byte order of whole paths, `a.b` and `a-b` come before `a/…`: not in tree order.
        for path in
            ["edge/sort/a/x", "edge/sort/a-b", "edge/sort/a.b/y", "edge/sort/a0", "edge/sort/A"]
        {
            self.file(path, path);
        }
        let long = [b"edge/names/".to_vec(), vec![b'n'; 255]].concat();
        for path in [
            &b"edge/names/\xff\xfe not utf-8"[..],
            b"edge/names/new\nline",
            b"edge/names/ space ",
            b"edge/names/-rf",
            b"edge/names/back\\slash*?",
            b"edge/names/...",
            "edge/names/\u{e9}".as_bytes(),
            "edge/names/e\u{301}".as_bytes(),
            &long,
        ] {
            self.file(path, path);
        }
        self.file("edge/links/1", b"one file, three names".to_vec());
        self.hard_link("edge/links/2", "edge/links/1");
        self.hard_link("edge/other/3", "edge/links/1");
        self.symlink("edge/links/soft", "1").symlink("edge/links/dangling", b"no\xffwhere");
        self.symlink("edge/links/up", "../..").symlink("edge/links/absolute", "/etc/hostname");
        self.hard_link("edge/links/soft2", "edge/links/soft");
        self.special("edge/special/fifo", Kind::Fifo, None);
        self.special("edge/special/socket", Kind::Socket, None);
        if options.privileged {
            self.special("edge/special/null", Kind::CharDevice, Some((1, 3)));
            self.special("edge/special/block", Kind::BlockDevice, Some((259, 70_000)));
            self.file("edge/modes/none", b"unreadable".to_vec());
            self.node_mut("edge/modes/none").metadata.mode = 0;
            self.file("edge/modes/capable", b"may bind port 80".to_vec());
            self.add_xattr("edge/modes/capable", b"security.capability", CAPABILITY.to_vec());
        }
        for mode in [0o400, 0o4755, 0o2755, 0o1644, 0o777] {
            let path = format!("edge/modes/{mode:04o}");
            self.file(&path, path.as_str());
            self.node_mut(&path).metadata.mode = mode;
        }
        for mode in [0o1777, 0o2770, 0o500] {
            let path = format!("edge/modes/dir{mode:04o}");
            self.directory(&path);
            // A directory without `w` cannot be filled or removed again but by root.
            let mode = if options.privileged { mode } else { mode | 0o700 };
            self.node_mut(&path).metadata.mode = mode;
        }
        self.sparse_file("edge/sparse/hole-first", 2 << 20, &[(1 << 20, random_bytes(3, 1 << 20))]);
        self.sparse_file("edge/sparse/hole-last", 3 << 20, &[(0, random_bytes(4, 65_536))]);
        self.sparse_file("edge/sparse/all-hole", 4 << 20, &[]);
    }

    /// A name that is free in `directory`.
    fn free_name(&self, directory: &[u8], rng: &mut StdRng) -> Vec<u8> {
        loop {
            let n: u32 = rng.random_range(0..10_000);
            let name = match rng.random_range(0..12) {
                0 => format!("{n} with space").into_bytes(),
                1 => [b"\xff\x80".to_vec(), n.to_string().into_bytes()].concat(),
                2 => format!("{n}.b").into_bytes(),
                3 => format!("{n}-b").into_bytes(),
                4 => format!(".{n}").into_bytes(),
                5 => format!("\u{e4}{n}").into_bytes(),
                6 => [vec![b'x'; 200], n.to_string().into_bytes()].concat(),
                _ => format!("f{n}").into_bytes(),
            };
            let path = join(directory, &name);
            if self.node(&path).is_none() {
                return path;
            }
        }
    }

    fn random_place(&self, rng: &mut StdRng) -> Vec<u8> {
        let directories = self.paths_of(Kind::Directory);
        let choice = rng.random_range(0..=directories.len());
        let directory = directories.get(choice).cloned().unwrap_or_default();
        self.free_name(&directory, rng)
    }

    fn random_content(rng: &mut StdRng, largest: usize) -> Vec<u8> {
        let size = match rng.random_range(0..10) {
            0..4 => SIZES[rng.random_range(0..SIZES.len())],
            4..9 => rng.random_range(0..5_000),
            _ => rng.random_range(0..=largest),
        };
        // Few seeds, so that equal contents come up.
        let seed = rng.random_range(0..50);
        let size = size.min(largest);
        if rng.random() { random_bytes(seed, size) } else { text_bytes(seed, size) }
    }

    fn add_random(&mut self, rng: &mut StdRng, options: &TreeOptions) {
        let path = self.random_place(rng);
        match rng.random_range(0..40) {
            0..8 => self.directory(path),
            8..11 => self.symlink(path, format!("../target{}", rng.random_range(0..5))),
            11..14 => {
                let files = self.paths_of(Kind::File);
                match files.get(rng.random_range(0..=files.len())) {
                    Some(existing) => self.hard_link(path, existing),
                    None => self.file(path, b"alone".to_vec()),
                }
            }
            14 => self.special(path, Kind::Fifo, None),
            15 => self.special(path, Kind::Socket, None),
            16 if options.privileged => self.special(path, Kind::CharDevice, Some((1, 5))),
            17 if options.largest_file >= 262_144 => {
                self.sparse_file(path, 262_144, &[(131_072, random_bytes(5, 65_536))])
            }
            _ => self.file(path, Self::random_content(rng, options.largest_file)),
        };
    }

    fn add_xattr(&mut self, path: impl AsRef<[u8]>, name: &[u8], value: Vec<u8>) {
        let xattrs = &mut self.node_mut(path).xattrs;
        xattrs.retain(|xattr| xattr.name != name);
        xattrs.push(Xattr { name: name.to_vec(), value });
        xattrs.sort();
    }

    /// Random metadata, within what a Linux file system can hold.
    fn decorate(&mut self, path: &[u8], rng: &mut StdRng, options: &TreeOptions) {
        let node = self.node_mut(path);
        let kind = node.metadata.kind;
        if options.privileged {
            let (uid, gid, user, group) = [
                (0, 0, "root", "root"),
                (1000, 1000, "alice", "alice"),
                (1001, 100, "bob", "users"),
                (3_000_000_000, 4_000_000_000, "", ""),
            ][rng.random_range(0..4)];
            node.metadata.owner =
                Arc::new(Owner { uid, gid, user: user.into(), group: group.into() });
        }
        node.metadata.mtime = match rng.random_range(0..4) {
            0 => TIMES[rng.random_range(0..TIMES.len())],
            _ => Time {
                seconds: rng.random_range(1_000_000_000..1_767_000_000),
                nanos: rng.random_range(0..1_000_000_000),
            },
        };
        let is_plain = matches!(kind, Kind::File | Kind::Directory);
        if is_plain && matches!(node.metadata.mode, 0o644 | 0o755) && rng.random_ratio(1, 3) {
            node.metadata.mode = match kind {
                Kind::Directory => [0o700, 0o750, 0o775, 0o1777][rng.random_range(0..4)],
                _ => [0o600, 0o400, 0o444, 0o755, 0o664][rng.random_range(0..5)],
            };
        }
        let mode = node.metadata.mode;
        if is_plain && rng.random_ratio(1, 8) {
            let length = rng.random_range(0..100);
            self.add_xattr(path, b"user.note", random_bytes(1, length));
            self.add_xattr(path, "user.\u{fc}ber".as_bytes(), b"two".to_vec());
        }
        if is_plain && mode & 0o7000 == 0 && rng.random_ratio(1, 10) {
            self.add_xattr(path, b"system.posix_acl_access", acl_for_mode(mode));
            if kind == Kind::Directory {
                self.add_xattr(path, b"system.posix_acl_default", acl_for_mode(0o750));
            }
        }
        if options.privileged && is_plain && rng.random_ratio(1, 15) {
            self.add_xattr(path, b"trusted.holdfast", b"for root's eyes".to_vec());
        }
    }

    /// Makes so many random edits and says what they were.
    pub fn mutate(&mut self, seed: u64, edits: usize) -> Vec<String> {
        let mut rng = rng(seed);
        (0..edits).map(|_| self.edit(&mut rng)).collect()
    }

    fn edit(&mut self, rng: &mut StdRng) -> String {
        let options = TreeOptions { privileged: true, ..TreeOptions::small() };
        let paths = self.paths();
        let Some(path) = paths.get(rng.random_range(0..=paths.len())).cloned() else {
            self.add_random(rng, &options);
            return "add an entry".into();
        };
        let shown = show(&path);
        let node = self.node(&path).expect("just listed");
        let (kind, mtime) = (node.metadata.kind, node.metadata.mtime);
        let mut content = node.content.to_vec();
        match (kind, rng.random_range(0..12)) {
            (Kind::File, 0..3) if !content.is_empty() => {
                let at = rng.random_range(0..content.len());
                let end = (at + rng.random_range(1..2000)).min(content.len());
                content[at..end].iter_mut().for_each(|b| *b ^= 0x55);
                self.set_content(&path, content);
                format!("modify {shown}")
            }
            (Kind::File, 3) => {
                content.extend(random_bytes(rng.random(), 700));
                self.set_content(&path, content);
                format!("append to {shown}")
            }
            (Kind::File, 4) => {
                content.truncate(rng.random_range(0..=content.len()));
                self.set_content(&path, content);
                format!("truncate {shown}")
            }
            (Kind::File, 5) if !content.is_empty() => {
                // Size and mtime stay: ctime alone tells.
                content[0] ^= 0xff;
                self.set_content(&path, content);
                self.node_mut(&path).metadata.mtime = mtime;
                format!("modify {shown} and set its mtime back")
            }
            (_, 6) => {
                self.remove(&path);
                format!("remove {shown}")
            }
            (_, 7) => {
                let to = self.random_place(rng);
                if to.starts_with(&join(&path, b"")) {
                    return format!("keep {shown}");
                }
                self.rename(&path, &to);
                format!("rename {shown} to {}", show(&to))
            }
            (Kind::File | Kind::Directory, 8) => {
                let node = self.node_mut(&path);
                node.metadata.mode ^= 0o020;
                // As the kernel does: the mask of an ACL is the group's bits.
                let acl = acl_for_mode(node.metadata.mode);
                if node.xattrs.iter().any(|x| x.name == b"system.posix_acl_access") {
                    self.add_xattr(&path, b"system.posix_acl_access", acl);
                }
                format!("chmod {shown}")
            }
            (_, 9) => {
                let now = self.now();
                self.node_mut(&path).metadata.mtime = now;
                format!("touch {shown}")
            }
            (Kind::File, 10) => {
                self.remove(&path).file(join(&path, b"inside"), b"was a file".to_vec());
                format!("replace {shown} by a directory")
            }
            (Kind::Directory, 10) => {
                self.remove(&path).file(&path, b"was a directory".to_vec());
                format!("replace {shown} by a file")
            }
            (Kind::File | Kind::Directory, 11) => {
                self.add_xattr(&path, b"user.edited", random_bytes(rng.random(), 8));
                format!("set an attribute of {shown}")
            }
            _ => {
                let beside = self.free_name(split(&path).0, rng);
                self.file(&beside, Self::random_content(rng, 20_000));
                format!("create {}", show(&beside))
            }
        }
    }
}

/// `cap_net_bind_service` permitted and effective, in the second version of the layout.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
