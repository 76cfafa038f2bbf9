//! Trees on disk for tests of connectors and of the whole program: made from a seed, changed by
//! random edits through the file system, gone when the fixture is dropped.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use holdfast_engine::meta::Kind;
use rand::Rng;
use rand::rngs::StdRng;
use tempfile::TempDir;

use crate::clock::{random_bytes, rng, text_bytes};
use crate::compare::Listing;
use crate::memtree::{MemoryTree, Omitted};
use crate::show;

/// What a random tree is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeOptions {
    /// How many random entries, beside the edge cases.
    pub entries: usize,
    /// No file is larger, sparse ones among the edge cases apart (4 MiB, mostly holes).
    pub largest_file: usize,
    /// One of each that is known to be difficult, below `edge`.
    pub edge_cases: bool,
    /// Other owners, devices, trusted attributes, capabilities, unreadable modes.
    pub privileged: bool,
}

impl Default for TreeOptions {
    /// 200 entries and the edge cases, files up to 5 MiB, and what needs root if we are root.
    fn default() -> Self {
        Self {
            entries: 200,
            largest_file: 5 << 20,
            edge_cases: true,
            privileged: rustix::process::geteuid().is_root(),
        }
    }
}

impl TreeOptions {
    /// 30 entries up to 20 kB, without edge cases.
    pub fn small() -> Self {
        Self { entries: 30, largest_file: 20_000, edge_cases: false, ..Self::default() }
    }
}

/// A tree on disk.
#[derive(Debug)]
pub struct TreeFixture {
    root: PathBuf,
    omitted: Omitted,
    // Removes the tree when dropped; `None` for a tree at a place the test chose.
    _directory: Option<TempDir>,
}

impl TreeFixture {
    /// Makes a tree in a temporary directory that goes with the fixture. Panics if it cannot.
    pub fn new(seed: u64, options: &TreeOptions) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let mut fixture = Self::at(directory.path().join("tree"), seed, options)
            .unwrap_or_else(|error| panic!("making a tree: {error}"));
        fixture._directory = Some(directory);
        fixture
    }

    /// Makes a tree at `root`, which must be an empty directory or not there, and leaves it there.
    pub fn at(root: impl Into<PathBuf>, seed: u64, options: &TreeOptions) -> io::Result<Self> {
        let root = root.into();
        let omitted = MemoryTree::generate(seed, options).write_to(&root)?;
        Ok(Self { root, omitted, _directory: None })
    }

    /// The root of the tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What could not be made here.
    pub fn omitted(&self) -> &Omitted {
        &self.omitted
    }

    /// A path of the tree.
    pub fn path(&self, path: impl AsRef<[u8]>) -> PathBuf {
        self.root.join(OsStr::from_bytes(path.as_ref()))
    }

    /// Makes so many random edits through the file system, and says what they were. What may not
    /// be edited (read-only, not ours) is skipped.
    pub fn mutate(&self, seed: u64, edits: usize) -> io::Result<Vec<String>> {
        let mut rng = rng(seed);
        let mut done = Vec::new();
        for _ in 0..edits {
            match self.edit(&mut rng) {
                Ok(Some(text)) => done.push(text),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn edit(&self, rng: &mut StdRng) -> io::Result<Option<String>> {
        let listing = Listing::of_disk(&self.root)?;
        let entries: Vec<_> = listing.paths().filter(|(path, _)| !path.is_empty()).collect();
        let fresh = format!("new{}", rng.random_range(0..1_000_000));
        let Some((path, kind)) = entries.get(rng.random_range(0..=entries.len())).copied() else {
            fs::write(self.root.join(&fresh), text_bytes(rng.random(), 3000))?;
            return Ok(Some(format!("create {fresh}")));
        };
        let at = self.path(path);
        let beside = at.parent().unwrap_or(&self.root).join(&fresh);
        let shown = show(path);
        let metadata = fs::symlink_metadata(&at)?;
        let size = metadata.len();
        let text = match (kind, rng.random_range(0..13)) {
            (Kind::File, 0..3) if size > 0 => {
                let offset = rng.random_range(0..size);
                let length = (size - offset).min(rng.random_range(1..3000)) as usize;
                let file = OpenOptions::new().write(true).open(&at)?;
                file.write_all_at(&random_bytes(rng.random(), length), offset)?;
                format!("modify {shown} at {offset}")
            }
            (Kind::File, 3) => {
                let mut file = OpenOptions::new().append(true).open(&at)?;
                file.write_all(&random_bytes(rng.random(), 700))?;
                format!("append to {shown}")
            }
            (Kind::File, 4) => {
                let to = rng.random_range(0..=size);
                OpenOptions::new().write(true).open(&at)?.set_len(to)?;
                format!("truncate {shown} to {to}")
            }
            (Kind::File, 5) if size > 0 => {
                // Size and mtime stay: ctime alone tells.
                let file = OpenOptions::new().write(true).open(&at)?;
                file.write_all_at(&[rng.random()], 0)?;
                file.set_modified(metadata.modified()?)?;
                format!("modify {shown} and set its mtime back")
            }
            (Kind::Directory, 6) => {
                fs::remove_dir_all(&at)?;
                format!("remove {shown}")
            }
            (_, 6) => {
                fs::remove_file(&at)?;
                format!("remove {shown}")
            }
            (_, 7) => {
                fs::rename(&at, &beside)?;
                format!("rename {shown} to {fresh} beside it")
            }
            (_, 8) => {
                let (other, _) = entries[rng.random_range(0..entries.len())];
                let other = self.path(other);
                if !fs::symlink_metadata(&other)?.is_dir() || other.starts_with(&at) {
                    return Ok(None);
                }
                fs::rename(&at, other.join(&fresh))?;
                format!("move {shown} to {}", other.join(&fresh).display())
            }
            (Kind::File | Kind::Directory, 9) => {
                let mode = metadata.permissions().mode() ^ 0o020;
                fs::set_permissions(&at, Permissions::from_mode(mode))?;
                format!("chmod {shown}")
            }
            (Kind::File | Kind::Directory, 10) => {
                File::open(&at)?.set_modified(SystemTime::now())?;
                format!("touch {shown}")
            }
            (Kind::File, 11) => {
                fs::remove_file(&at)?;
                fs::create_dir(&at)?;
                fs::write(at.join("inside"), b"was a file")?;
                format!("replace {shown} by a directory")
            }
            (Kind::Directory, 11) => {
                fs::remove_dir_all(&at)?;
                fs::write(&at, b"was a directory")?;
                format!("replace {shown} by a file")
            }
            (Kind::File, 12) => {
                fs::hard_link(&at, &beside)?;
                format!("link {shown} as {fresh} beside it")
            }
            _ => {
                let length = rng.random_range(0..20_000);
                fs::write(&beside, text_bytes(rng.random(), length))?;
                format!("create {fresh} beside {shown}")
            }
        };
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{CompareOptions, assert_same_tree, compare_trees};

    #[test]
    fn the_same_seed_makes_the_same_tree() {
        let options = TreeOptions { entries: 60, largest_file: 200_000, ..TreeOptions::default() };
        let one = TreeFixture::new(1, &options);
        let two = TreeFixture::new(1, &options);
        assert_same_tree(one.root(), two.root(), &CompareOptions::default());

        // The model in memory and what the independent walker finds on disk agree.
        let on_disk = Listing::of_disk(one.root()).unwrap();
        if one.omitted().is_empty() {
            let model = Listing::of_memory(&MemoryTree::generate(1, &options));
            model.assert_same(&on_disk, &CompareOptions::default());
        }

        let edits = two.mutate(5, 20).unwrap();
        assert!(edits.len() > 10, "{edits:?}");
        let found = compare_trees(one.root(), two.root(), &CompareOptions::default()).unwrap();
        assert!(!found.is_empty());
    }

    #[test]
    fn trees_survive_many_edits() {
        let fixture = TreeFixture::new(2, &TreeOptions::small());
        fixture.mutate(3, 150).unwrap();
    }
}
