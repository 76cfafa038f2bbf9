//! `digest`: checksums of the files of a snapshot, as `sha256sum` would print them of the files
//! themselves. Every byte is read from the repository and verified on its way.

use crate::format::snapshot::Root;
use crate::hash::{Sha256, SnapshotId};
use crate::meta::Kind;
use crate::monitor::{Interrupt, Monitor, Progress};
use crate::repo::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::tree::content::read_content;
use crate::tree::entry::Entry;
use crate::tree::read::PathEntry;
use crate::tree::view::{self, Located, absolute};
use crate::{Error, Result};

/// Which checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// As `sha256sum`.
    #[default]
    Sha256,
    /// As `b3sum`.
    Blake3,
}

/// How to digest.
#[derive(Debug, Clone, Default)]
pub struct DigestOptions {
    /// Absolute path: a file, or a directory for all files below it; `/` for all.
    pub path: Vec<u8>,
    /// Which checksum.
    pub algorithm: Algorithm,
}

/// The checksum of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigest {
    /// Absolute path.
    pub path: Vec<u8>,
    /// Bytes in the file.
    pub size: u64,
    /// The checksum; `None` if the file could not be read at the backup.
    pub digest: Option<[u8; 32]>,
    /// What the snapshot says went wrong with the file at the backup, if anything.
    pub error: String,
}

/// What was digested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DigestReport {
    /// Files with a checksum.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that could not be read at the backup, and files whose content is damaged now (each
    /// of these is told to the monitor).
    pub unread: u64,
}

enum Hasher {
    Sha256(Sha256),
    Blake3(Box<blake3::Hasher>),
}

/// Computes the checksums of the regular files at and below a path, in the order of the tree, and
/// gives each to `each`. A file whose content is damaged is a problem and the rest goes on.
pub fn digest(
    reader: &BlobReader<'_>,
    snapshot: &SnapshotInfo,
    options: &DigestOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
    each: &mut dyn FnMut(&FileDigest) -> Result<()>,
) -> Result<DigestReport> {
    let located = view::locate(&snapshot.record, &options.path)
        .ok_or_else(|| no_such_path(snapshot.id, &options.path))?;
    let algorithm = options.algorithm;
    let report = DigestReport::default();
    let mut digester = Digester { reader, algorithm, monitor, interrupt, each, report };
    match located {
        Located::Above(roots) => {
            for root in roots {
                for found in view::tree(reader, root)?.entries() {
                    digester.file(root, &found?)?;
                }
            }
        }
        Located::Within { root, path } => {
            let tree = view::tree(reader, root)?;
            let found = tree.lookup(&path)?;
            let found = found.ok_or_else(|| no_such_path(snapshot.id, &options.path))?;
            digester.file(root, &found)?;
            for found in tree.below(&path) {
                digester.file(root, &found?)?;
            }
        }
    }
    reader.healed_notes().iter().for_each(|note| monitor.note(note));
    Ok(digester.report)
}

fn no_such_path(snapshot: SnapshotId, path: &[u8]) -> Error {
    let path = String::from_utf8_lossy(path).into_owned();
    Error::NoSuchPath { snapshot: snapshot.short(), path }
}

struct Digester<'a> {
    reader: &'a BlobReader<'a>,
    algorithm: Algorithm,
    monitor: &'a dyn Monitor,
    interrupt: &'a Interrupt,
    each: &'a mut dyn FnMut(&FileDigest) -> Result<()>,
    report: DigestReport,
}

impl Digester<'_> {
    fn file(&mut self, root: &Root, found: &PathEntry) -> Result<()> {
        if self.interrupt.is_raised() {
            return Err(Error::Interrupted);
        }
        let entry = &found.entry;
        if entry.metadata.kind != Kind::File {
            return Ok(());
        }
        let path = absolute(&root.path, &found.parent, &entry.name);
        let error = entry.error.clone();
        let is_unread = !error.is_empty()
            && entry.content == crate::tree::Content::None
            && entry.metadata.size > 0;
        if is_unread {
            self.report.unread += 1;
            let size = entry.metadata.size;
            return (self.each)(&FileDigest { path, size, digest: None, error });
        }
        match self.content(entry) {
            Ok((size, digest)) => {
                self.report.files += 1;
                self.report.bytes += size;
                let DigestReport { files, bytes, .. } = self.report;
                if files.is_multiple_of(64) || size > 1 << 20 {
                    self.monitor.progress(&Progress { files, bytes, ..Default::default() }, &path);
                }
                (self.each)(&FileDigest { path, size, digest: Some(digest), error })
            }
            Err(error) if error.is_local() => {
                self.report.unread += 1;
                self.monitor.problem(&String::from_utf8_lossy(&path), &error.to_string());
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    fn content(&self, entry: &Entry) -> Result<(u64, [u8; 32])> {
        let mut hasher = match self.algorithm {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::default()),
            Algorithm::Blake3 => Hasher::Blake3(Box::default()),
        };
        let size = read_content(self.reader, entry, &mut |bytes| {
            if self.interrupt.is_raised() {
                return Err(Error::Interrupted);
            }
            match &mut hasher {
                Hasher::Sha256(hasher) => hasher.update(bytes),
                Hasher::Blake3(hasher) => drop(hasher.update(bytes)),
            }
            Ok(())
        })?;
        let digest = match hasher {
            Hasher::Sha256(hasher) => *hasher.finish().as_bytes(),
            Hasher::Blake3(hasher) => *hasher.finalize().as_bytes(),
        };
        Ok((size, digest))
    }
}
