//! `repair packs`: what can still be read of damaged packs, by itself or by their parity, is stored
//! once more in new packs, and the damaged ones are condemned, as gc condemns packs that it has
//! copied from. So their content does not count as stored: the next backup stores again what it
//! finds still there, and a gc deletes them once nothing that is needed is in them alone.
//! Order of calls: lease; LIST `condemned/`, `index/`, `packs/`; packs; segments; record; GET of the
//! own fence; end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::compress::Decompressor;
use crate::crypto::{BlobKind, TAG_LEN};
use crate::hash::{BlobId, ObjectId, RecordId};
use crate::monitor::{Interrupt, Monitor, Phase, Progress};
use crate::repo::condemned::PACKS_PER_RECORD;
use crate::repo::index::listing::PackListing;
use crate::repo::index::{PackInfo, PackLines, Place};
use crate::repo::session::{Session, Writer};
use crate::repo::writer::{BlobWriter, Copied, CopiedContent, WriterOptions, with_writer};
use crate::repo::{BlobReader, Repository, random};
use crate::storage::ObjectName;
use crate::{Error, Result};

use super::super::check::{self, CheckOptions, CheckReport, Finding, ReadData, Severity};
use super::check_features;
use super::donor;

/// Lines of damaged packs that are held at once.
const LINES: usize = 1 << 20;

/// How to repair packs.
#[derive(Debug, Default)]
pub struct RepairPacksOptions<'a> {
    /// Who repairs, for the lease.
    pub writer: Writer,
    /// These packs; `None`: all are read to find out which are damaged.
    pub packs: Option<BTreeSet<ObjectId>>,
    /// Let the storage compute checksums where it can, to find out.
    pub server_checksums: bool,
    /// A second repository to take from what is lost here.
    pub donor: Option<&'a Repository>,
    /// How to write.
    pub store: WriterOptions,
    /// Threads for reading; 0 means as many as the cores and the storage make worthwhile.
    pub threads: usize,
}

/// What became of a damaged pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairedPack {
    /// It.
    pub id: ObjectId,
    /// What is wrong with it: the pack is missing.
    pub missing: bool,
    /// Pieces that parity computed, if it healed the pack.
    pub healed: Option<u64>,
    /// Blobs that were stored once more, out of it or of a pack that is on its way out as well.
    pub copied: u64,
    /// Blobs that are whole in another pack.
    pub elsewhere: u64,
    /// Blobs that came from the second repository.
    pub donated: u64,
    /// Blobs that are lost, needed or not.
    pub lost: u64,
}

/// What a repair of packs did.
#[derive(Debug, Clone, Default)]
pub struct RepairPacksReport {
    /// What the check found, if one was needed to find out what is damaged.
    pub check: Option<CheckReport>,
    /// Packs that were to be repaired.
    pub packs: Vec<RepairedPack>,
    /// Packs condemned by this run.
    pub condemned: u64,
    /// What the second repository gave, if there is one.
    pub donated: Option<donor::Donated>,
}

impl RepairPacksReport {
    /// Blobs that are lost.
    pub fn lost(&self) -> u64 {
        self.packs.iter().map(|pack| pack.lost).sum()
    }

    /// Damage that the check found in other objects than packs, which a repair of packs does not
    /// mend: how many they are.
    pub fn other_damage(&self) -> u64 {
        let is_other = |finding: &&Finding| {
            finding.severity >= Severity::Damage && !finding.object.starts_with("packs/")
        };
        self.check.iter().flat_map(|check| &check.findings).filter(is_other).count() as u64
    }
}

/// Stores once more what can be had of damaged packs.
pub fn packs(
    repository: &Repository,
    options: &RepairPacksOptions<'_>,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<RepairPacksReport> {
    check_features(repository)?;
    let mut report = RepairPacksReport::default();
    let damaged = match &options.packs {
        Some(packs) => packs.clone(),
        None => {
            let check_options = CheckOptions {
                read_data: ReadData::All,
                server_checksums: options.server_checksums,
                threads: options.threads,
                ..CheckOptions::default()
            };
            let (check, told) =
                check::check_and_tell(repository, &check_options, monitor, interrupt)?;
            report.check = Some(check);
            told.packs
        }
    };
    if damaged.is_empty() {
        return Ok(report);
    }
    monitor.phase(Phase::Repairing);
    let session = Session::begin(repository, options.writer.clone())?;
    let listing = PackListing::of(repository)?;
    let result = with_writer(repository, session.index(), options.store, |writer| {
        let reader = BlobReader::of_index(repository, session.index());
        let run = Run { repository, listing, reader, writer, damaged, monitor, interrupt };
        run.run(&session, options, &mut report)
    });
    let ended = session.end(if result.is_ok() { "packs repaired" } else { "failed" });
    result.and(ended).map(|()| report)
}

struct Run<'a> {
    repository: &'a Repository,
    listing: PackListing,
    reader: BlobReader<'a>,
    writer: &'a BlobWriter<'a>,
    damaged: BTreeSet<ObjectId>,
    monitor: &'a dyn Monitor,
    interrupt: &'a Interrupt,
}

/// What is lost, and the packs that held it.
type Lost = HashMap<BlobId, (Place, BTreeSet<ObjectId>)>;

impl Run<'_> {
    fn run(
        &self,
        session: &Session<'_>,
        options: &RepairPacksOptions<'_>,
        report: &mut RepairPacksReport,
    ) -> Result<()> {
        let index = self.reader.index();
        let (mut numbers, mut seen) = (Vec::new(), BTreeSet::new());
        index.each_pack(&mut |number, id, _| {
            if self.damaged.contains(&id) && seen.insert(id) {
                numbers.push(number);
            }
            Ok(())
        })?;
        if options.packs.is_some()
            && let Some(unknown) = self.damaged.difference(&seen).next()
        {
            return Err(Error::Usage(format!(
                "{} is in no index segment: run repair index first, or look for its name in what \
                 check says",
                ObjectName::pack(*unknown)
            )));
        }
        let (mut copied, mut lost) = (HashSet::new(), Lost::new());
        let mut repaired = BTreeMap::new();
        index.packs_with_lines(&numbers, LINES, &mut |packs| {
            for pack in packs {
                if self.interrupt.is_raised() {
                    return Err(Error::Interrupted);
                }
                let one = self.one(&pack, &mut copied, &mut lost)?;
                repaired.insert(pack.pack.id, one);
                let progress = Progress { files: repaired.len() as u64, ..Progress::default() };
                let name = ObjectName::pack(pack.pack.id);
                self.monitor.progress(&progress, name.as_str().as_bytes());
            }
            Ok(())
        })?;
        // What one damaged pack lost another one may have had.
        lost.retain(|id, _| !copied.contains(id));
        if let Some(donor) = options.donor {
            let wanted = lost.iter().map(|(id, (place, _))| (*id, *place)).collect();
            let donation = donor::Donation {
                repository: self.repository,
                reader: &self.reader,
                writer: self.writer,
                donor,
                monitor: self.monitor,
                interrupt: self.interrupt,
            };
            let (told, given) = donation.run(&wanted)?;
            for id in given {
                for pack in lost.remove(&id).into_iter().flat_map(|(_, packs)| packs) {
                    if let Some(one) = repaired.get_mut(&pack) {
                        one.donated += 1;
                    }
                }
            }
            report.donated = Some(told);
        }
        for pack in lost.values().flat_map(|(_, packs)| packs) {
            if let Some(one) = repaired.get_mut(pack) {
                one.lost += 1;
            }
        }
        self.writer.flush()?;
        let there = |id: &&ObjectId| self.listing.size(id).is_some();
        let condemned = self.repository.condemned_packs()?;
        let go: Vec<ObjectId> =
            repaired.keys().filter(there).filter(|id| !condemned.contains(id)).copied().collect();
        for packs in go.chunks(PACKS_PER_RECORD) {
            let id = RecordId::new(random()?);
            self.repository.put_condemned(id, session.id(), packs, &[])?;
        }
        session.test_fence()?;
        report.condemned = go.len() as u64;
        report.packs = repaired.into_values().collect();
        Ok(())
    }

    /// Stores once more what opens of a pack.
    fn one(
        &self,
        lines: &PackLines,
        copied: &mut HashSet<BlobId>,
        lost: &mut Lost,
    ) -> Result<RepairedPack> {
        let PackLines { pack, lines, .. } = lines;
        let mut one = RepairedPack {
            id: pack.id,
            missing: self.listing.size(&pack.id).is_none(),
            healed: None,
            copied: 0,
            elsewhere: 0,
            donated: 0,
            lost: 0,
        };
        let name = ObjectName::pack(pack.id);
        let bytes = match self.reader.heal(pack)? {
            Ok(healed) => {
                one.healed = Some(healed.pieces);
                healed.bytes
            }
            Err(_) => match self.repository.read_with_holes(&name, pack.size)? {
                Some((bytes, _)) => Arc::new(bytes),
                None => {
                    one.missing = true;
                    Arc::default()
                }
            },
        };
        let mut decompressor = Decompressor::default();
        for (id, place) in lines {
            if copied.contains(id) || self.is_elsewhere(pack, place, id)? {
                one.elsewhere += 1;
                continue;
            }
            let Place { kind, members, plain, hollow, .. } = *place;
            let frame = self.frame(pack, place, id, &bytes, &mut decompressor);
            let (content, hollow) = if let Some(bytes) = frame {
                (CopiedContent::Frame { bytes, plain, hollow }, hollow)
            } else if let Some(bytes) = self.on_its_way_out(pack, place, id)? {
                (CopiedContent::Plain { bytes, hollow: false }, false)
            } else {
                lost.entry(*id).or_insert((*place, BTreeSet::new())).1.insert(pack.id);
                continue;
            };
            self.writer.copy(Copied { kind, id: *id, members, content })?;
            // Of a hollow bundle other packs may hold other members.
            if !hollow {
                copied.insert(*id);
            }
            one.copied += 1;
        }
        Ok(one)
    }

    /// Whether a whole copy of a blob can be read from a pack that is not damaged and stays.
    fn is_elsewhere(&self, pack: &PackInfo, place: &Place, id: &BlobId) -> Result<bool> {
        let stays = |info: &PackInfo| info.usable && !self.damaged.contains(&info.id);
        self.read_other(pack, place, id, &stays).map(|found| found.is_some())
    }

    /// A whole copy of a blob from a pack that a gc has condemned: nobody may rely on it there, and
    /// it is better than none.
    fn on_its_way_out(
        &self,
        pack: &PackInfo,
        place: &Place,
        id: &BlobId,
    ) -> Result<Option<Vec<u8>>> {
        self.read_other(pack, place, id, &|info| !info.usable)
    }

    /// A whole copy of a blob from a pack that `fits` and is not this one.
    fn read_other(
        &self,
        pack: &PackInfo,
        place: &Place,
        id: &BlobId,
        fits: &dyn Fn(&PackInfo) -> bool,
    ) -> Result<Option<Vec<u8>>> {
        let index = self.reader.index();
        for other in index.places(id)? {
            let Some(info) = index.pack(other.pack)? else { continue };
            if info.id != pack.id && !other.hollow && fits(&info) {
                match self.reader.read_place(index, &other, place.kind, id) {
                    Ok((plain, members)) if members.are_all_there() => return Ok(Some(plain)),
                    Ok(_) => {}
                    Err(error) => drop(check::fault_text(error)?),
                }
            }
        }
        Ok(None)
    }

    /// The frame of a blob out of its pack's bytes, if it opens.
    fn frame(
        &self,
        pack: &PackInfo,
        place: &Place,
        id: &BlobId,
        bytes: &[u8],
        decompressor: &mut Decompressor,
    ) -> Option<Vec<u8>> {
        let from = place.offset as usize;
        let mut sealed = bytes.get(from..from.checked_add(place.sealed as usize)?)?.to_vec();
        let mut plain = Vec::new();
        let opened =
            self.repository.open_blob(pack, place, id, &mut sealed, decompressor, &mut plain);
        let members = opened.ok()?;
        let is_bundle = place.kind == BlobKind::Bundle;
        let lacks =
            members.len() != place.members as usize || !place.hollow && !members.are_all_there();
        if is_bundle && lacks {
            return None;
        }
        sealed.truncate(sealed.len().saturating_sub(TAG_LEN));
        Some(sealed)
    }
}
