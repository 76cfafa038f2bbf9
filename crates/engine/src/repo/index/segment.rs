//! Index segments as they come from the storage: read several at once, checked against their
//! names, and taken apart into lines.

use prost::Message;

use crate::crypto::ObjectKind;
use crate::format::envelope::{self, HEADER_LEN, Header};
use crate::format::index::{IndexedPack, Segment};
use crate::format::pack::Line;
use crate::hash::{ObjectId, Sha256};
use crate::repo::Repository;
use crate::storage::ObjectName;
use crate::{Error, Result};

use super::table::MAX_MEMBERS;

/// A pack as a segment describes it.
#[derive(Debug, Clone)]
pub(crate) struct ReadPack {
    /// Its name.
    pub(crate) id: ObjectId,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its header.
    pub(crate) header: [u8; HEADER_LEN],
    /// What it holds, in its order.
    pub(crate) lines: Vec<Line>,
}

/// A segment, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct ReadSegment {
    /// Its name.
    pub(crate) id: ObjectId,
    /// Segments that it replaces.
    pub(crate) supersedes: Vec<ObjectId>,
    /// Packs that it describes well.
    pub(crate) packs: Vec<ReadPack>,
    /// What is wrong with the others.
    pub(crate) problems: Vec<String>,
}

impl ReadPack {
    /// Takes apart what a segment says of a pack; an error if that makes no sense.
    pub(crate) fn new(pack: &IndexedPack) -> std::result::Result<Self, String> {
        let id = pack.object_id().ok_or("a pack's name is not 32 bytes long")?;
        let wrong = |what: &str| format!("pack {id}: {what}");
        let header = <[u8; HEADER_LEN]>::try_from(&pack.header[..])
            .map_err(|_| wrong("its header has the wrong length"))?;
        let directory = pack.directory.as_ref().ok_or_else(|| wrong("it has no directory"))?;
        let lines = directory.lines(pack.size).map_err(|what| wrong(&what))?;
        if lines.iter().any(|line| line.members > MAX_MEMBERS) {
            return Err(wrong("a bundle has an impossible number of members"));
        }
        Ok(Self { id, size: pack.size, header, lines })
    }

    /// An error if its header is not that of a pack of this repository, or does not fit what the
    /// pack holds.
    pub(crate) fn check(&self, repository: &Repository) -> std::result::Result<(), String> {
        let header = Header::parse(&self.header)?;
        let structure = match header.kind {
            ObjectKind::DataPack => false,
            ObjectKind::TreePack => true,
            other => return Err(format!("its header is that of a {other:?}")),
        };
        if self.lines.iter().any(|line| line.kind.is_structure() != structure) {
            return Err("it mixes content and structure".into());
        }
        Header::cipher(repository.keys(), repository.id(), header.kind, &self.header)?;
        Ok(())
    }
}

impl ReadSegment {
    pub(crate) fn new(id: ObjectId, segment: &Segment) -> Self {
        let (mut packs, mut problems) = (Vec::with_capacity(segment.packs.len()), Vec::new());
        for pack in &segment.packs {
            match ReadPack::new(pack) {
                Ok(pack) => packs.push(pack),
                Err(what) => problems.push(what),
            }
        }
        let supersedes = segment.supersedes.iter().filter_map(|id| ObjectId::from_slice(id));
        Self { id, supersedes: supersedes.collect(), packs, problems }
    }

    /// An error if it describes a pack wrongly.
    pub(super) fn whole(self) -> Result<Self> {
        match self.problems.first() {
            Some(what) => Err(Error::damaged(ObjectName::index(self.id), what)),
            None => Ok(self),
        }
    }

    /// Takes apart what [`fetch_message`] gave.
    pub(super) fn parse(id: ObjectId, message: &[u8]) -> Result<Self> {
        Ok(Self::new(id, &decode(id, message)?))
    }
}

/// Reads a segment.
pub(crate) fn fetch_raw(repository: &Repository, id: ObjectId) -> Result<Segment> {
    decode(id, &fetch_message(repository, id)?)
}

fn decode(id: ObjectId, message: &[u8]) -> Result<Segment> {
    Segment::decode(message).map_err(|e| Error::damaged(ObjectName::index(id), e))
}

/// Reads a segment, up to its message.
pub(super) fn fetch_message(repository: &Repository, id: ObjectId) -> Result<Vec<u8>> {
    let name = ObjectName::index(id);
    let fetch = || {
        let bytes = repository.storage().get(&name)?;
        // It would open under any segment's name, so that one could stand in for another, and
        // what the other one lists would be missing without a word.
        if Sha256::of(&bytes) != id {
            return Err(Error::damaged(&name, "its SHA-256 is not its name"));
        }
        // A segment's name is the hash of its bytes, so the name cannot be part of what is
        // sealed.
        let (keys, kind) = (repository.keys(), ObjectKind::Index);
        envelope::open(keys, repository.id(), kind, "index", bytes).map_err(|e| match e {
            Error::Damaged { what, .. } => Error::damaged(&name, what),
            other => other,
        })
    };
    match fetch() {
        Err(Error::Damaged { .. }) => fetch(),
        other => other,
    }
}
