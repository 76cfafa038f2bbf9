//! What a file would be stored as here: for finding files with the same content.

use std::io::{self, Read};

use crate::Error;
use crate::chunker::ScanState;
use crate::crypto::BlobKind;
use crate::hash::BlobId;
use crate::repo::Repository;
use crate::tree::entry::{ChunkRef, Content, Entry};
use crate::tree::{chunks, same::ContentId};

/// How much of a file is read at once.
const READ: usize = 512 << 10;

/// Why there are no ids.
#[derive(Debug, thiserror::Error)]
pub enum LikeError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// Something is wrong with the repository.
    #[error(transparent)]
    Repository(#[from] Error),
}

/// The ids that what `file` holds has in this repository, if it was stored without holes: as a
/// small file, as one that was cut into chunks, or both. Nothing is stored.
pub fn content_ids(
    repository: &Repository,
    file: &mut dyn Read,
) -> std::result::Result<Vec<ContentId>, LikeError> {
    let keys = repository.keys();
    let below = u64::from(repository.config().bundle_below);
    let mut start = Vec::new();
    file.take(below).read_to_end(&mut start)?;
    let mut contents = Vec::new();
    if !start.is_empty() && (start.len() as u64) < below {
        let hash = keys.member_hash(&start);
        contents.push(Content::Member { bundle: BlobId::default(), number: 0, hash });
    }
    // Small files that came as a stream were cut as well.
    let (chunks, size) = cut(repository, start, file)?;
    let put = |kind: BlobKind, plain: Vec<u8>| Ok(keys.blob_id(kind, &plain));
    contents.push(chunks::store(&put, chunks)?);
    let id = |content| {
        let mut entry = Entry { content, ..Entry::default() };
        entry.metadata.size = size;
        ContentId::of(keys, &entry)
    };
    Ok(contents.into_iter().filter_map(id).collect())
}

/// Cuts `start` and the rest of `file` into chunks; also their bytes in all.
fn cut(
    repository: &Repository,
    start: Vec<u8>,
    file: &mut dyn Read,
) -> std::result::Result<(Vec<ChunkRef>, u64), LikeError> {
    let chunker = repository.chunker()?;
    let (mut chunks, mut size, mut at_end) = (Vec::new(), 0, false);
    let (mut buffer, mut state, mut at) = (start, ScanState::default(), 0);
    loop {
        let available = buffer.get(at..).unwrap_or_default();
        if let Some(length) = chunker.scan(&mut state, available, at_end) {
            let chunk = available.get(..length).unwrap_or_default();
            let id = repository.keys().blob_id(BlobKind::Chunk, chunk);
            chunks.push(ChunkRef { id, length: length as u32 });
            size += length as u64;
            at += length;
            state = ScanState::default();
            continue;
        }
        if at_end {
            return Ok((chunks, size));
        }
        buffer.drain(..at);
        at = 0;
        at_end = file.take(READ as u64).read_to_end(&mut buffer)? == 0;
    }
}
