//! The modelled storage: sets of write-once objects, as bit sets.
//!
//! Blobs are bits of a `u8`, packs and index segments bits of a `u16`, sessions (and so
//! snapshots and fences) and condemned records bits of a `u8`. What a deleted object held is
//! kept, for a process that has read it still knows it; names are never used twice.

use super::rules::Scene;

pub(crate) const SLOTS: usize = 16;

/// The pack that is damaged, where one is.
pub(crate) const DAMAGED: u8 = 0;

pub(crate) fn bit(n: u8) -> u16 {
    1 << n
}

pub(crate) fn bit8(n: u8) -> u8 {
    1 << n
}

/// Numbers of the bits set, lowest first.
pub(crate) fn each(set: u16) -> impl DoubleEndedIterator<Item = u8> {
    (0..16u8).filter(move |n| set & bit(*n) != 0)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Segment {
    pub(crate) packs: u16,
    pub(crate) supersedes: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) packs: u16,
    pub(crate) segments: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) packs: u16,
    content: [u8; SLOTS],
    /// Blobs that do not open in the damaged pack.
    bad: u8,
    pub(crate) segments: u16,
    pub(crate) index: [Segment; SLOTS],
    /// Condemned records: 0 and 1 belong to the gcs, 2 was there before, 3 is that of a repair.
    pub(crate) records: u8,
    pub(crate) condemned: [Record; 4],
    pub(crate) leases: u8,
    pub(crate) ended: u8,
    pub(crate) acks: [u8; 8],
    pub(crate) snapshots: u8,
    /// What snapshot `id` refers to; kept after a delete while a copy of its PUT is under way.
    pub(crate) refers: [u8; 8],
    pub(crate) fences: u8,
    pub(crate) confirmed: u8,
    /// Snapshot PUTs that may still take place.
    pub(crate) in_flight: u8,
}

impl Store {
    pub(crate) fn new(scene: Scene) -> Self {
        let mut s = Self::default();
        let two = matches!(scene, Scene::Sparse | Scene::Damaged | Scene::DamagedTwice);
        s.put_pack(0, if two { 3 } else { 1 });
        s.put_segment(0, Segment { packs: 1, supersedes: 0 });
        match scene {
            Scene::Garbage => {}
            Scene::Live | Scene::LostSegment => s.put_snapshot(0, 1),
            Scene::Sparse => s.put_snapshot(0, 2),
            Scene::Twice => {
                s.put_pack(1, 1);
                s.put_segment(1, Segment { packs: 2, supersedes: 0 });
                s.put_snapshot(0, 1);
            }
            Scene::Condemned => s.put_record(2, Record { packs: 1, segments: 0 }),
            Scene::CondemnedLive => {
                s.put_record(2, Record { packs: 1, segments: 0 });
                s.put_snapshot(0, 1);
            }
            Scene::Superseded => {
                s.put_segment(1, Segment { packs: 1, supersedes: 1 });
                s.put_snapshot(0, 1);
            }
            Scene::LostPack => s.delete_pack(0),
            Scene::Damaged | Scene::DamagedTwice => {
                s.bad = 1;
                s.put_snapshot(0, 3);
            }
        }
        if scene == Scene::DamagedTwice {
            s.put_pack(1, 1);
            s.put_segment(1, Segment { packs: 2, supersedes: 0 });
        }
        if scene == Scene::LostSegment {
            s.delete_segment(0);
        }
        s
    }

    pub(crate) fn put_pack(&mut self, n: u8, blobs: u8) {
        self.packs |= bit(n);
        self.content[n as usize] = blobs;
    }

    pub(crate) fn delete_pack(&mut self, n: u8) {
        self.packs &= !bit(n);
    }

    pub(crate) fn put_segment(&mut self, n: u8, segment: Segment) {
        self.segments |= bit(n);
        self.index[n as usize] = segment;
    }

    pub(crate) fn delete_segment(&mut self, n: u8) {
        self.segments &= !bit(n);
    }

    pub(crate) fn put_record(&mut self, n: u8, record: Record) {
        self.records |= bit8(n);
        self.condemned[n as usize] = record;
    }

    pub(crate) fn delete_record(&mut self, n: u8) {
        self.records &= !bit8(n);
        for acks in &mut self.acks {
            *acks &= !bit8(n);
        }
    }

    pub(crate) fn put_snapshot(&mut self, id: u8, blobs: u8) {
        self.snapshots |= bit8(id);
        self.refers[id as usize] = blobs;
    }

    pub(crate) fn delete_snapshot(&mut self, id: u8) {
        self.snapshots &= !bit8(id);
        if self.in_flight & bit8(id) == 0 {
            self.refers[id as usize] = 0;
        }
    }

    /// Packs and segments named by the records, there or not.
    pub(crate) fn named_by(&self, records: u8) -> Record {
        let mut all = Record::default();
        for n in each(u16::from(records)) {
            all.packs |= self.condemned[n as usize].packs;
            all.segments |= self.condemned[n as usize].segments;
        }
        all
    }

    /// Blobs held by the packs, present or not: what index entries say.
    pub(crate) fn held(&self, packs: u16) -> u8 {
        each(packs).fold(0, |all, n| all | self.content[n as usize])
    }

    /// Blobs held by those of the packs that are present.
    pub(crate) fn blobs(&self, packs: u16) -> u8 {
        self.held(packs & self.packs)
    }

    /// Of these, blobs that open.
    pub(crate) fn good(&self, packs: u16) -> u8 {
        self.blobs(packs & !bit(DAMAGED)) | self.blobs(packs & bit(DAMAGED)) & !self.bad
    }

    /// Those of the segments that no other of them supersedes.
    pub(crate) fn live(&self, segments: u16) -> u16 {
        let gone = each(segments).fold(0, |all, n| all | self.index[n as usize].supersedes);
        segments & !gone
    }

    /// Packs named by the segments that are live among `segments`.
    pub(crate) fn indexed(&self, segments: u16) -> u16 {
        each(self.live(segments)).fold(0, |all, n| all | self.index[n as usize].packs)
    }

    /// Of the segments listed, those that can still be read; `None` where one that is gone is
    /// not superseded by one that was read, so that the index has to be listed again.
    pub(crate) fn load(&self, listed: u16) -> Option<u16> {
        let read = listed & self.segments;
        let gone = each(read).fold(0, |all, n| all | self.index[n as usize].supersedes);
        (listed & !read & !gone == 0).then_some(read)
    }

    /// Snapshots that readers see.
    pub(crate) fn visible(&self) -> u8 {
        self.snapshots & !self.confirmed
    }

    /// Blobs that a reader can find now.
    pub(crate) fn readable(&self) -> u8 {
        self.blobs(self.indexed(self.segments))
    }

    /// Of these, blobs that open.
    pub(crate) fn whole(&self) -> u8 {
        self.good(self.indexed(self.segments))
    }

    /// Sessions that can no longer commit anything that gc's next mark would not see.
    pub(crate) fn resolved(&self) -> u8 {
        self.ended | self.snapshots | self.confirmed
    }
}
