//! One plain function for every decoder and the chunker, fed with bytes that may be anything:
//! `tests/engine/fuzz.rs` runs them on stable Rust with a seeded mutator, `fuzz/` under coverage. They return nothing; what counts is that they do,
//! without a panic and without taking memory that the input does not justify.

use prost::Message;

use crate::bundle;
use crate::chunker::{Chunker, Params, ScanState};
use crate::compress::Decompressor;
use crate::crypto::{Keys, ObjectKind};
use crate::format::config::Config;
use crate::format::envelope::{self, Header};
use crate::format::index::Segment;
use crate::format::keyslot::{KeySlot, Label, Secret};
use crate::format::pack::{self, Directory, MAX_BLOB};
use crate::format::parity::Parity;
use crate::format::session::{Condemned, Lease, Mark, Setting};
use crate::format::snapshot::{Note, Snapshot};
use crate::format::tree::{AttributeList, ChunkList, Node, TotalsNode};
use crate::hash::{BlobId, ObjectId, RecordId, RepositoryId};
use crate::repo::Index;
use crate::storage::ObjectName;
use crate::tree::entry::decode_alone;
use crate::tree::read::leaf_entries;

/// A decoder: the repository's keys and id, and the bytes.
pub type Target = fn(&Keys, &RepositoryId, &[u8]);

/// Every decoder with its name.
pub const TARGETS: [(&str, Target); 18] = [
    ("config", config),
    ("key slot", key_slot),
    ("envelope", sealed),
    ("trailer", trailer),
    ("directory", directory),
    ("segment", segment),
    ("index table", index_table),
    ("snapshot", snapshot),
    ("note", note),
    ("records", records),
    ("node", node),
    ("totals", totals),
    ("chunk list", chunk_list),
    ("bundle", open_bundle),
    ("frame", frame),
    ("parity", heal),
    ("object name", object_name),
    ("chunker", cut),
];

/// A parity object, and healing a pack of the size that it names, if that is small.
pub fn heal(_: &Keys, _: &RepositoryId, bytes: &[u8]) {
    let Ok(parity) = Parity::parse(bytes.to_vec()) else { return };
    let _ = parity.is_whole();
    let Ok(size @ 0..=65_536) = usize::try_from(parity.header().size) else { return };
    let _ = crate::parity::heal(&parity, &mut vec![7; size], &[]);
}

/// The config object.
pub fn config(keys: &Keys, _: &RepositoryId, bytes: &[u8]) {
    if let Ok(config) = Config::parse(bytes) {
        let _ = (Config::verify(keys, bytes), config.bundle_limits(), config.is_encrypted());
        let _ = Config::parse(&config.seal(keys));
    }
}

/// A key slot, and trying to open it. Passphrase slots are left out there: their cost is bounded,
/// but at what a person may wait for.
pub fn key_slot(_: &Keys, repository: &RepositoryId, bytes: &[u8]) {
    let Ok(slot) = KeySlot::parse(bytes) else { return };
    let _ = slot.body_hash();
    let secret = Secret::KeyFile(zeroize::Zeroizing::new([7; 32]));
    let _ = slot.unwrap(&secret, repository, RecordId::default());
    let _ = Label::decode(&slot.label[..]);
}

/// A sealed object of any kind.
pub fn sealed(keys: &Keys, repository: &RepositoryId, bytes: &[u8]) {
    let Ok(header) = Header::parse(bytes) else { return };
    let _ = envelope::open(keys, repository, header.kind, "index", bytes.to_vec());
}

/// The end of a pack, and its directory there.
pub fn trailer(keys: &Keys, repository: &RepositoryId, bytes: &[u8]) {
    let at = bytes.len().saturating_sub(pack::TRAILER_LEN);
    let end = bytes.get(at..).unwrap_or_default();
    let Ok((offset, length)) = pack::directory_place(end, bytes.len() as u64) else { return };
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let Some(sealed) = bytes.get(from..).and_then(|rest| rest.get(..length)) else { return };
    for kind in [ObjectKind::DataPack, ObjectKind::TreePack] {
        let _ = pack::open_directory(keys, repository, kind, bytes, sealed.to_vec());
    }
}

/// A pack's directory in the clear.
pub fn directory(_: &Keys, _: &RepositoryId, bytes: &[u8]) {
    if let Ok(directory) = Directory::decode(bytes) {
        for size in [0, bytes.len() as u64, 1 << 25, u64::MAX] {
            let _ = directory.lines(size);
        }
    }
}

/// An index segment in the clear, and the index made of it.
pub fn segment(_: &Keys, _: &RepositoryId, bytes: &[u8]) {
    if let Some(index) = index_of(bytes) {
        let _ = index.each_blob(&mut |id, _| index.find(&id).map(drop));
    }
}

fn index_of(segment: &[u8]) -> Option<Index> {
    let segment = Segment::decode(segment).ok()?;
    let present = segment.packs.iter().filter_map(|pack| Some((pack.object_id()?, pack.size)));
    let present = present.collect();
    Index::from_segments(&[(ObjectId::default(), segment)], present).ok()
}

/// The table that is made of a segment: what [`index_table`] takes.
pub fn table_of(segment: &[u8]) -> Vec<u8> {
    index_of(segment).and_then(|index| index.table_bytes().map(<[u8]>::to_vec)).unwrap_or_default()
}

/// A table of the index in the clear, and all lookups in it.
pub fn index_table(_: &Keys, _: &RepositoryId, bytes: &[u8]) {
    let Ok(index) = Index::from_table(bytes.to_vec()) else { return };
    let _ = index.each_pack(&mut |number, _, _| index.pack(number).map(drop));
    let _ = index.each_blob(&mut |id, place| {
        let _ = (index.find(&id)?, index.find_any(&id)?, index.pack(place.pack)?);
        Ok(())
    });
    for first in (0..=u8::MAX).step_by(5) {
        let _ = index.places(&BlobId::new([first; 32]));
    }
    let packs: Vec<u32> = (0..index.end().min(100)).collect();
    let _ = index.packs_with_lines(&packs, 50, &mut |_| Ok(()));
}

/// A snapshot in the clear.
pub fn snapshot(_: &Keys, _: &RepositoryId, bytes: &[u8]) {
    let Ok(snapshot) = Snapshot::decode(bytes) else { return };
    for ancestor in snapshot.roots.into_iter().flat_map(|root| root.ancestors) {
        let _ =
            decode_alone(ancestor.entry.unwrap_or_default(), ancestor.owner.unwrap_or_default());
    }
}

/// A note in the clear.
pub fn note(_: &Keys, _: &RepositoryId, bytes: &[u8]) {
    let _ = Note::decode(bytes);
}

/// Leases, marks, condemned records and settings in the clear.
pub fn records(_: &Keys, _: &RepositoryId, bytes: &[u8]) {
    let _ = (Lease::decode(bytes), Mark::decode(bytes), Condemned::decode(bytes));
    let _ = Setting::decode(bytes);
}

/// A node of a tree and its entries.
pub fn node(_: &Keys, _: &RepositoryId, bytes: &[u8]) {
    let Ok(node) = Node::decode(bytes) else { return };
    for found in leaf_entries(&BlobId::default(), node).unwrap_or_default() {
        let metadata = &found.entry.metadata;
        let _ = (found.path(), metadata.mtime.total_nanos(), metadata.ctime);
    }
}

/// A node of a totals tree, and long attributes.
pub fn totals(_: &Keys, _: &RepositoryId, bytes: &[u8]) {
    let _ = (TotalsNode::decode(bytes), AttributeList::decode(bytes));
}

/// A node of a chunk list.
pub fn chunk_list(_: &Keys, _: &RepositoryId, bytes: &[u8]) {
    let _ = ChunkList::decode(bytes);
}

/// A bundle. Its id is part of the input, else nothing would get past it.
pub fn open_bundle(keys: &Keys, _: &RepositoryId, bytes: &[u8]) {
    let Some((id, content)) = bytes.split_first_chunk::<32>() else { return };
    let Ok(members) = bundle::open(keys, &BlobId::new(*id), content) else { return };
    for number in 0..members.len() as u32 + 1 {
        let _ = members.get(number).and_then(|(range, _)| content.get(range));
    }
}

/// A frame: the length that the index tells, then the frame.
pub fn frame(_: &Keys, _: &RepositoryId, bytes: &[u8]) {
    let Some((length, frame)) = bytes.split_first_chunk::<4>() else { return };
    let length = u32::from_le_bytes(*length);
    // What the index may say at all is bounded where it is read.
    if length <= MAX_BLOB {
        let _ = Decompressor::default().expand(frame, length as usize, &mut Vec::new());
    }
}

/// A name from a listing.
pub fn object_name(_: &Keys, _: &RepositoryId, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(name) = ObjectName::parse(text) {
        let base = name.base();
        let _ = (ObjectId::from_hex(base), RecordId::from_hex(base));
    }
}

/// Cuts bytes as a whole and in pieces. Unlike the decoders it panics if the cuts differ, do not
/// cover the bytes, or break the limits.
pub fn cut(keys: &Keys, _: &RepositoryId, bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let Ok(params) = Params::new(256, 512, 1024) else { return };
    let chunker = Chunker::new(keys.chunker(), params);
    let piece = usize::from(*first) + 1;
    let mut rest = bytes;
    while !rest.is_empty() {
        let whole = chunker.scan(&mut ScanState::default(), rest, true);
        let mut state = ScanState::default();
        let ends = (piece..rest.len()).step_by(piece).map(|end| (end, false));
        let in_pieces = ends
            .chain([(rest.len(), true)])
            .find_map(|(end, last)| chunker.scan(&mut state, rest.get(..end)?, last));
        assert_eq!(whole, in_pieces, "cut in pieces of {piece}");
        let length = whole.unwrap_or_default();
        assert!((1..=1024).contains(&length) && (length >= 256 || length == rest.len()));
        rest = rest.get(length..).unwrap_or_default();
    }
}
