//! Copying what is needed out of packs that are about to go. Every blob is opened and its id is
//! checked on the way; its frame is stored again as it is, without compressing anew. Of bundles
//! only the members that are needed are copied, if that makes a difference.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::bundle::{self, Members};
use crate::compress::Decompressor;
use crate::crypto::{BlobKind, TAG_LEN};
use crate::hash::{BlobId, ObjectId};
use crate::monitor::{Phase, Progress};
use crate::repo::BlobReader;
use crate::repo::index::inventory::{Inventory, Spot};
use crate::repo::index::{PackInfo, PackLines, Place};
use crate::repo::reader::may_heal;
use crate::repo::writer::{BlobWriter, Copied, CopiedContent, with_writer};
use crate::storage::ObjectName;
use crate::{Error, Result};

use super::marks::Marks;
use super::{Amount, GcReport, PutOff, Run, is_full};

/// Lines of packs that are held at once, 64 bytes each: finding them costs a pass over the index.
const LINES: usize = 1 << 20;

/// Bytes that are read at once, and unwanted bytes that are read rather than asking again.
const READ: (u64, u64) = (4 << 20, 128 << 10);

/// A blob to copy.
pub(super) type Line = (BlobId, Place);

/// Copies blobs of packs through a writer.
struct Copier<'a> {
    run: &'a Run<'a>,
    marks: &'a Marks<'a>,
    reader: &'a BlobReader<'a>,
    blobs: &'a BlobWriter<'a>,
}

impl Run<'_> {
    /// Step 4: copies what is needed out of the packs of these numbers. Those that are not needed
    /// any more then. Stops early, in good order, if the time is up, if there is no space left, or
    /// if asked to.
    pub(super) fn repack(
        &self,
        inventory: &Inventory,
        marks: &Marks<'_>,
        sparse: &[u32],
        report: &mut GcReport,
    ) -> Result<Vec<(ObjectId, u64)>> {
        if sparse.is_empty() {
            return Ok(Vec::new());
        }
        self.monitor.phase(Phase::Repacking);
        let reader = BlobReader::of_index(self.repository, &inventory.index);
        let (begun, mut done) = (Mutex::new(Vec::new()), Vec::new());
        let moved = AtomicU64::new(0);
        let total_bytes = Some(report.plan.moved);
        let result = with_writer(self.repository, &inventory.index, self.options.writer, |blobs| {
            let copier = Copier { run: self, marks, reader: &reader, blobs };
            let (mut rest, mut count) = (sparse, 1);
            // In steps that grow: each is durable before the next one begins, so that little space
            // is enough to begin with.
            while !rest.is_empty() && !self.interrupt.is_raised() && !self.is_late() {
                let (now, later) = rest.split_at(rest.len().min(count));
                (rest, count) = (later, count * 2);
                let mut numbers = now.to_vec();
                numbers.sort_unstable();
                inventory.index.packs_with_lines(&numbers, LINES, &mut |packs| {
                    self.each_pack(packs, &|pack| {
                        if self.interrupt.is_raised() || self.is_late() {
                            return Ok(());
                        }
                        moved.fetch_add(copier.needed_of(&pack)?, Ordering::Relaxed);
                        let PackInfo { id, size, .. } = pack.pack;
                        begun.lock().unwrap_or_else(PoisonError::into_inner).push((id, size));
                        let bytes = moved.load(Ordering::Relaxed);
                        let progress = Progress { bytes, total_bytes, ..Progress::default() };
                        self.monitor.progress(&progress, b"");
                        Ok(())
                    })
                })?;
                blobs.flush()?;
                done.append(&mut begun.lock().unwrap_or_else(PoisonError::into_inner));
                let written = blobs.written();
                report.copied = Amount { count: written.packs, bytes: written.stored };
            }
            Ok(())
        });
        match result {
            // What was copied since the last step is there twice for now; the next run sees to it.
            Err(error) if is_full(&error) => report.put_off = Some(PutOff::Space),
            other => other?,
        }
        if done.len() < sparse.len() && self.is_late() {
            report.put_off = Some(PutOff::Time);
        }
        done.sort_unstable();
        Ok(done)
    }

    fn is_late(&self) -> bool {
        self.options.max_time.is_some_and(|most| self.begun.elapsed() > most)
    }

    /// Step 7: copies what is needed and lies only in condemned packs. Those of them that hold
    /// something needed which cannot be read: they stay, for it may be readable one day.
    pub(super) fn save(
        &self,
        inventory: &Inventory,
        marks: &Marks<'_>,
        report: &mut GcReport,
    ) -> Result<BTreeSet<ObjectId>> {
        let mut condemned = Vec::new();
        inventory.index.each_pack(&mut |number, _, _| {
            if inventory.index.is_usable(number) && marks.is_condemned(number) {
                condemned.push(number);
            }
            Ok(())
        })?;
        if condemned.is_empty() {
            return Ok(BTreeSet::new());
        }
        let reader = BlobReader::of_index(self.repository, &inventory.index);
        let (saved, unsaved) = (Mutex::new(BTreeSet::new()), Mutex::new(BTreeSet::new()));
        let written =
            with_writer(self.repository, &inventory.index, self.options.writer, |blobs| {
                let copier = Copier { run: self, marks, reader: &reader, blobs };
                inventory.index.packs_with_lines(&condemned, LINES, &mut |packs| {
                    self.each_pack(packs, &|pack| {
                        self.stop_if_asked()?;
                        copier.lost_with(&pack, &saved, &unsaved)
                    })
                })?;
                blobs.flush()?;
                Ok(blobs.written())
            })?;
        report.copied.count += written.packs;
        report.copied.bytes += written.stored;
        Ok(unsaved.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does something with each pack, several at once.
    fn each_pack(
        &self,
        packs: Vec<PackLines>,
        each: &(dyn Fn(PackLines) -> Result<()> + Sync),
    ) -> Result<()> {
        let threads = self.threads.min(packs.len());
        let packs: Vec<_> = packs.into_iter().map(|pack| Mutex::new(Some(pack))).collect();
        let next = AtomicUsize::new(0);
        let one = || -> Result<()> {
            while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let taken = pack.lock().unwrap_or_else(PoisonError::into_inner).take();
                taken.map_or(Ok(()), each)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            let died = |_| Error::Worker("a copying thread".into());
            handles.into_iter().try_for_each(|handle| handle.join().map_err(died)?)
        })
    }
}

impl Copier<'_> {
    /// Copies what is needed from a pack; about how many bytes that was.
    fn needed_of(&self, pack: &PackLines) -> Result<u64> {
        let (mut wanted, mut spots) = (Vec::new(), Vec::new());
        for (id, place) in &pack.lines {
            self.marks.index().spots(id, &mut spots)?;
            if self.marks.is_marked(&spots) && self.marks.kept(&spots).any(|kept| kept == place) {
                wanted.push((*id, *place));
            }
        }
        self.copy(&pack.pack, &wanted)
    }

    /// Copies what is needed from a condemned pack and would be lost with it, unless that is
    /// `saved` already.
    fn lost_with(
        &self,
        pack: &PackLines,
        saved: &Mutex<BTreeSet<BlobId>>,
        unsaved: &Mutex<BTreeSet<ObjectId>>,
    ) -> Result<()> {
        let (mut wanted, mut spots) = (Vec::new(), Vec::new());
        for (id, place) in &pack.lines {
            self.marks.index().spots(id, &mut spots)?;
            if !self.marks.is_marked(&spots) || self.has_all(id, &spots)? {
                continue;
            }
            // A whole copy, if there is one; else all that copies have together.
            let whole = spots.iter().any(|spot| !spot.place.hollow);
            if whole && place.hollow
                || !saved.lock().unwrap_or_else(PoisonError::into_inner).insert(*id)
            {
                continue;
            }
            match whole {
                true => wanted.push((*id, *place)),
                false => self.put_together(id, &spots, unsaved)?,
            }
        }
        for (id, place) in &wanted {
            self.save_one(&pack.pack, id, place, unsaved)?;
        }
        Ok(())
    }

    /// Copies a blob out of a condemned pack, or from wherever else it can be read whole. If it
    /// cannot, the packs that hold something of it stay.
    fn save_one(
        &self,
        pack: &PackInfo,
        id: &BlobId,
        place: &Place,
        unsaved: &Mutex<BTreeSet<ObjectId>>,
    ) -> Result<()> {
        let mut plain = Vec::new();
        let error = match self.read_alone(pack, id, place, &mut plain) {
            Ok((frame, _)) => return self.put_frame(id, place, frame),
            Err(error) if may_heal(&error) => error,
            Err(error) => return Err(error),
        };
        let mut spots = Vec::new();
        self.marks.index().spots(id, &mut spots)?;
        // A hollow copy opens as well, and is no substitute for a whole one.
        let whole = |spot: &&Spot| spot.place != *place && !spot.place.hollow;
        for Spot { place: other, .. } in spots.iter().filter(whole) {
            let Some(info) = self.marks.index().pack(other.pack)? else { continue };
            match self.read_alone(&info, id, other, &mut plain) {
                Ok((frame, _)) => return self.put_frame(id, other, frame),
                Err(error) if may_heal(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.stay(&spots, &error.to_string(), unsaved)
    }

    /// Says that the condemned ones among the packs of a blob stay, for it cannot be saved.
    fn stay(&self, spots: &[Spot], why: &str, unsaved: &Mutex<BTreeSet<ObjectId>>) -> Result<()> {
        for Spot { place, .. } in spots {
            if !self.marks.is_condemned(place.pack) {
                continue;
            }
            let Some(pack) = self.marks.index().pack(place.pack)? else { continue };
            let name = ObjectName::pack(pack.id);
            let what =
                format!("it stays, for snapshots need something in it that is damaged: {why}");
            if unsaved.lock().unwrap_or_else(PoisonError::into_inner).insert(pack.id) {
                self.run.monitor.problem(name.as_str(), &what);
            }
        }
        Ok(())
    }

    /// Whether what is needed of a blob is in copies that will stay.
    fn has_all(&self, id: &BlobId, spots: &[Spot]) -> Result<bool> {
        let mut kept = self.marks.kept(spots).peekable();
        match kept.peek() {
            None => return Ok(false),
            Some(place) if !place.hollow => return Ok(true),
            Some(_) => {}
        }
        let mut lacking = self.needed_members(spots);
        for place in kept {
            if let Some(bundle) = self.reader.bundle_at(place, id)? {
                lacking.retain(|number| bundle.get(*number).is_none());
            }
        }
        Ok(lacking.is_empty())
    }

    fn needed_members(&self, spots: &[Spot]) -> Vec<u32> {
        let count = spots.first().map_or(0, |first| first.place.members);
        (0..count).filter(|number| self.marks.is_member_marked(spots, *number)).collect()
    }

    /// Stores a bundle with all its members that are needed, from wherever they are. If one of
    /// them can be read nowhere, all that is left of the bundle stays.
    fn put_together(
        &self,
        id: &BlobId,
        spots: &[Spot],
        unsaved: &Mutex<BTreeSet<ObjectId>>,
    ) -> Result<()> {
        let mut copies = Vec::with_capacity(spots.len());
        for spot in spots {
            copies.extend(self.reader.bundle_at(&spot.place, id)?);
        }
        let find = |number| copies.iter().find_map(|copy| copy.get(number));
        let needed = self.needed_members(spots);
        let lost = needed.iter().find(|number| find(**number).is_none());
        let (Some(first), None) = (copies.first(), lost) else {
            let member = lost.map_or_else(String::new, |number| format!(" member {number}"));
            return self.stay(spots, &format!("bundle {}{member}", id.short()), unsaved);
        };
        let content = |number| find(number).filter(|_| needed.binary_search(&number).is_ok());
        self.put_hollow(id, first.members(), content)
    }

    fn put_hollow<'b>(
        &self,
        id: &BlobId,
        members: &Members,
        content: impl Fn(u32) -> Option<&'b [u8]>,
    ) -> Result<()> {
        let bytes = bundle::with_members(members, content);
        // What is about to take the place of something must be right.
        bundle::open(self.run.repository.keys(), id, &bytes)?;
        self.blobs.copy(Copied {
            kind: BlobKind::Bundle,
            id: *id,
            members: members.len() as u32,
            content: CopiedContent::Plain { bytes, hollow: true },
        })
    }

    fn put_frame(&self, id: &BlobId, place: &Place, frame: Vec<u8>) -> Result<()> {
        let Place { kind, members, plain, hollow, .. } = *place;
        let content = CopiedContent::Frame { bytes: frame, plain, hollow };
        self.blobs.copy(Copied { kind, id: *id, members, content })
    }

    /// Copies these blobs of a pack, which are in the order in which they lie. About how many
    /// bytes that was.
    fn copy(&self, pack: &PackInfo, lines: &[Line]) -> Result<u64> {
        let (mut moved, mut plain) = (0, Vec::new());
        let mut decompressor = Decompressor::default();
        let mut rest = lines;
        while let Some((_, first)) = rest.first() {
            let start = u64::from(first.offset);
            let mut end = start + u64::from(first.sealed);
            let joined = rest.iter().take_while(|(_, place)| {
                let (from, to) = range(place);
                let fits = from <= end + READ.1 && (to - start <= READ.0 || from == start);
                end = if fits { to.max(end) } else { end };
                fits
            });
            let (now, later) = rest.split_at(joined.count());
            rest = later;
            let mut read = Vec::new();
            let length = usize::try_from(end - start).unwrap_or(usize::MAX);
            let name = ObjectName::pack(pack.id);
            self.run.repository.storage().get_range(&name, start, length, &mut read)?;
            for (id, place) in now {
                let (from, to) = range(place);
                let sealed = read.get_mut((from - start) as usize..(to - start) as usize);
                let mut sealed = sealed.map_or_else(Vec::new, |sealed| sealed.to_vec());
                let repository = self.run.repository;
                let opened = repository.open_blob(
                    pack,
                    place,
                    id,
                    &mut sealed,
                    &mut decompressor,
                    &mut plain,
                );
                let (frame, members) = match opened {
                    Ok(members) => (without_tag(sealed), members),
                    // Read once more before it is called damaged.
                    Err(_) => self.read_alone(pack, id, place, &mut plain)?,
                };
                moved += self.copy_one(id, place, frame, &plain, &members)?;
            }
        }
        Ok(moved)
    }

    fn read_alone(
        &self,
        pack: &PackInfo,
        id: &BlobId,
        place: &Place,
        plain: &mut Vec<u8>,
    ) -> Result<(Vec<u8>, Members)> {
        let repository = self.run.repository;
        let mut open = |mut sealed: Vec<u8>| {
            let mut decompressor = Decompressor::default();
            let members =
                repository.open_blob(pack, place, id, &mut sealed, &mut decompressor, plain)?;
            Ok((without_tag(sealed), members))
        };
        let mut attempt = || {
            let (mut sealed, name) = (Vec::new(), ObjectName::pack(pack.id));
            let (from, length) = (u64::from(place.offset), place.sealed as usize);
            repository.storage().get_range(&name, from, length, &mut sealed)?;
            open(sealed)
        };
        let error = match attempt() {
            Err(Error::Damaged { .. }) => match attempt() {
                Err(error) => error,
                read => return read,
            },
            Err(error) => error,
            read => return read,
        };
        if may_heal(&error)
            && let Ok(healed) = self.reader.heal(pack)?
        {
            let (from, to) = range(place);
            let sealed = healed.bytes.get(from as usize..to as usize);
            return open(sealed.unwrap_or_default().to_vec());
        }
        Err(error)
    }

    fn copy_one(
        &self,
        id: &BlobId,
        place: &Place,
        frame: Vec<u8>,
        plain: &[u8],
        members: &Members,
    ) -> Result<u64> {
        if place.kind == BlobKind::Bundle {
            let mut spots = Vec::new();
            self.marks.index().spots(id, &mut spots)?;
            let is_needed = |number| self.marks.is_member_marked(&spots, number);
            let there = |number| members.get(number).and_then(|(range, _)| plain.get(range));
            let length = |number| there(number).map_or(0, <[u8]>::len) as u64;
            let count = members.len() as u32;
            let all: u64 = (0..count).map(length).sum();
            let dead: u64 = (0..count).filter(|n| !is_needed(*n)).map(length).sum();
            if dead as f64 > all as f64 * self.run.dead_in_bundles() {
                self.put_hollow(id, members, |number| there(number).filter(|_| is_needed(number)))?;
                return Ok(u64::from(place.sealed).saturating_mul(all - dead) / all.max(1));
            }
        }
        self.put_frame(id, place, frame)?;
        Ok(u64::from(place.sealed))
    }
}

fn range(place: &Place) -> (u64, u64) {
    let from = u64::from(place.offset);
    (from, from + u64::from(place.sealed))
}

/// What is left of an opened blob: its frame.
fn without_tag(mut opened: Vec<u8>) -> Vec<u8> {
    opened.truncate(opened.len().saturating_sub(TAG_LEN));
    opened
}
