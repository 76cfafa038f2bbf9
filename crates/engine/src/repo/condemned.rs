//! What gcs and repairs have condemned: records of packs and index segments that will be deleted
//! once nobody can rely on them any more (docs/format.md, "Sessions and commit").

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::crypto::ObjectKind;
use crate::format::session::Condemned;
use crate::hash::{ObjectId, RecordId, SnapshotId};
use crate::storage::{Folder, ObjectName};
use crate::{Error, Result};

use super::Repository;

/// Packs that one record names: whoever reads records holds a few of them as they were stored. A
/// million packs of 32 MiB are sixty-four records.
pub(crate) const PACKS_PER_RECORD: usize = 1 << 14;

/// A record, without what in it is no name.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Packs that go.
    pub(crate) packs: Vec<ObjectId>,
    /// Index segments that go.
    pub(crate) segments: Vec<ObjectId>,
}

impl Repository {
    /// Packs that some gc has condemned.
    pub fn condemned_packs(&self) -> Result<BTreeSet<ObjectId>> {
        Ok(self.condemned_beside(&BTreeSet::new())?.1)
    }

    /// What gcs have condemned: the records, by their ids.
    pub(crate) fn condemned(&self) -> Result<BTreeMap<RecordId, Record>> {
        self.condemned_and(|record| record)
    }

    /// The records, and what packs they name beside those that are `known`.
    pub(crate) fn condemned_beside(
        &self,
        known: &BTreeSet<ObjectId>,
    ) -> Result<(Vec<RecordId>, BTreeSet<ObjectId>)> {
        let records = self.condemned_and(|mut record| {
            record.packs.retain(|pack| !known.contains(pack));
            record.packs
        })?;
        let ids = records.keys().copied().collect();
        // A set is made of one row that is large enough: it may be a million packs.
        let mut packs = Vec::with_capacity(records.values().map(Vec::len).sum());
        records.into_values().for_each(|mut some| packs.append(&mut some));
        Ok((ids, packs.into_iter().collect()))
    }

    /// What `take` takes of each record.
    fn condemned_and<T: Send>(
        &self,
        take: impl Fn(Record) -> T + Sync,
    ) -> Result<BTreeMap<RecordId, T>> {
        let mut found = Vec::new();
        self.storage.list(Folder::Condemned, &mut |info| {
            found.extend(RecordId::from_hex(info.name.base()).map(|id| (id, info.name)));
        })?;
        let ids =
            |names: &[Vec<u8>]| names.iter().filter_map(|id| ObjectId::from_slice(id)).collect();
        let read = self.each_of(&found, |(id, name)| {
            let message = match self.get_sealed(ObjectKind::Condemned, name) {
                // The gc finished with it since the listing.
                Err(Error::Storage(e)) if e.is_not_found() => return Ok(None),
                other => other?,
            };
            let record = Condemned::decode(&message[..]).map_err(|e| Error::damaged(name, e))?;
            let record = Record { packs: ids(&record.packs), segments: ids(&record.segments) };
            Ok(Some((*id, take(record))))
        })?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Stores a record of `session`, whose id nobody has used.
    pub(crate) fn put_condemned(
        &self,
        id: RecordId,
        session: SnapshotId,
        packs: &[ObjectId],
        segments: &[ObjectId],
    ) -> Result<()> {
        let names = |ids: &[ObjectId]| ids.iter().map(|id| id.as_bytes().to_vec()).collect();
        let session = session.as_bytes().to_vec();
        let record = Condemned { packs: names(packs), segments: names(segments), session };
        let name = ObjectName::condemned(id);
        self.put_sealed(ObjectKind::Condemned, &name, &record.encode_to_vec())
    }
}

/// All packs that these records name.
pub(crate) fn packs_of(records: &BTreeMap<RecordId, Record>) -> BTreeSet<ObjectId> {
    records.values().flat_map(|record| &record.packs).copied().collect()
}

/// All segments that these records name.
pub(crate) fn segments_of(records: &BTreeMap<RecordId, Record>) -> BTreeSet<ObjectId> {
    records.values().flat_map(|record| &record.segments).copied().collect()
}
