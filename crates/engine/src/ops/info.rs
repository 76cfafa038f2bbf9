//! `info`: what a repository or a snapshot holds, in numbers.

use crate::Result;
use crate::crypto::BlobKind;
use crate::format::snapshot::Sum;
use crate::hash::RepositoryId;
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::{Index, Repository};
use crate::storage::Folder;

/// Blobs of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindInfo {
    /// The kind.
    pub kind: BlobKind,
    /// How many different ones.
    pub count: u64,
    /// Their plain bytes.
    pub plain: u64,
    /// Their bytes as stored.
    pub stored: u64,
}

/// A repository in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct RepositoryInfo {
    /// Where it is.
    pub location: String,
    /// Its id.
    pub id: RepositoryId,
    /// When it was created, nanoseconds since the epoch.
    pub created: i64,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Smallest, mean and largest chunk in bytes; three times the same if they are all of one
    /// size.
    pub chunks: [u32; 3],
    /// Aimed-at sizes of data packs and tree packs.
    pub pack_sizes: [u32; 2],
    /// Snapshots, interrupted runs included.
    pub snapshots: u64,
    /// Interrupted runs among them.
    pub partial: u64,
    /// Packs in the storage.
    pub packs: u64,
    /// Their bytes.
    pub stored: u64,
    /// Index segments.
    pub segments: u64,
    /// Their bytes.
    pub index: u64,
    /// Different blobs, by kind.
    pub kinds: Vec<KindInfo>,
    /// What the snapshots hold together, as if each were restored.
    pub logical: Sum,
}

impl RepositoryInfo {
    /// Different blobs.
    pub fn blobs(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.count).sum()
    }

    /// Plain bytes of different blobs.
    pub fn plain(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.plain).sum()
    }

    /// Plain bytes of different blobs for each byte that they take; 1 for an empty repository.
    pub fn compression(&self) -> f64 {
        ratio(self.plain(), self.kinds.iter().map(|kind| kind.stored).sum())
    }

    /// Bytes of files in all snapshots for each byte of different content.
    pub fn deduplication(&self) -> f64 {
        let content = self.kinds.iter().filter(|kind| !kind.kind.is_structure());
        ratio(self.logical.bytes, content.map(|kind| kind.plain).sum())
    }

    /// Bytes of files in all snapshots for each byte in the storage.
    pub fn savings(&self) -> f64 {
        ratio(self.logical.bytes, self.stored + self.index)
    }
}

fn ratio(of: u64, to: u64) -> f64 {
    if to == 0 { 1.0 } else { of as f64 / to as f64 }
}

/// A repository in numbers. `index` counts packs that are present; the storage is listed for
/// those that are not indexed, and for sizes.
pub fn info(repository: &Repository, index: &Index) -> Result<RepositoryInfo> {
    let config = repository.config();
    let (packs, stored) = measure(repository, Folder::Packs)?;
    let (segments, index_bytes) = measure(repository, Folder::Index)?;
    let (snapshots, _) = repository.snapshots_with_notes()?;
    let mut logical = Sum::default();
    for snapshot in &snapshots {
        logical.add(&sum(snapshot));
    }
    let chunks = match config.chunk_fixed {
        0 => [config.chunk_min, config.chunk_avg, config.chunk_max],
        fixed => [fixed; 3],
    };
    Ok(RepositoryInfo {
        location: repository.location(),
        id: *repository.id(),
        created: config.created,
        encrypted: config.is_encrypted(),
        chunks,
        pack_sizes: [config.data_pack, config.tree_pack],
        snapshots: snapshots.len() as u64,
        partial: snapshots.iter().filter(|s| s.record.partial).count() as u64,
        packs,
        stored,
        segments,
        index: index_bytes,
        kinds: kinds(index)?,
        logical,
    })
}

/// What a snapshot holds, all roots together.
pub fn sum(snapshot: &SnapshotInfo) -> Sum {
    let mut sum = Sum::default();
    for root in &snapshot.record.roots {
        sum.add(&root.sum.unwrap_or_default());
    }
    sum
}

/// Number and bytes of the objects in a folder.
fn measure(repository: &Repository, folder: Folder) -> Result<(u64, u64)> {
    let (mut count, mut bytes) = (0, 0);
    repository.storage().list(folder, &mut |info| {
        count += 1;
        bytes += info.size;
    })?;
    Ok((count, bytes))
}

fn kinds(index: &Index) -> Result<Vec<KindInfo>> {
    let none = |kind| KindInfo { kind, count: 0, plain: 0, stored: 0 };
    let mut kinds: Vec<_> = BlobKind::ALL.into_iter().map(none).collect();
    let mut last = None;
    index.each_blob(&mut |id, place| {
        // Copies of a blob lie side by side.
        if last == Some(id) || !index.is_usable(place.pack) {
            return Ok(());
        }
        last = Some(id);
        if let Some(kind) = kinds.get_mut(place.kind as usize) {
            kind.count += 1;
            kind.plain += u64::from(place.plain);
            kind.stored += u64::from(place.sealed);
        }
        Ok(())
    })?;
    Ok(kinds)
}
