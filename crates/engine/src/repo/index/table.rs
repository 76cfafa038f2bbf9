//! A table of the index: lines sorted by blob id, the packs they lie in, and the segments all of
//! it was taken from. It is never changed. Page 0 is a sealed object's header and the counts;
//! each section begins with a page of its own, and no record lies in two pages.
//!
//! `counts | segments | supersedes | packs | pack headers | lines | first ids of line pages`

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::crypto::{BlobKind, Keys, ObjectKind};
use crate::format::envelope::{HEADER_LEN, Header};
use crate::hash::{BlobId, ObjectId, RepositoryId};
use crate::{Error, Result};

use super::Place;
use super::page::{Backing, PAGE, PAYLOAD, Pages, Scan, damaged};

/// First bytes of the counts; the last one is the version.
pub(super) const MAGIC: [u8; 8] = *b"HFTABLE\x01";

/// Kinds of records, in the order of their sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    /// Id, flags, number of lines: [`SegmentRow`].
    Segments = 0,
    /// Number of a segment here, and the id of one that it replaces.
    Supersedes = 1,
    /// Id, size, segment, number of lines: [`PackRow`].
    Packs = 2,
    /// The 80 bytes at the start of each pack.
    Headers = 3,
    /// Blob id and place.
    Lines = 4,
    /// The first eight bytes of the first blob id of each page of lines.
    Fan = 5,
}

/// Lengths of the records.
const RECORDS: [usize; 6] = [44, 36, 48, HEADER_LEN, LINE, 8];

/// Length of a line.
pub(super) const LINE: usize = 56;

impl Section {
    /// Length of its records.
    pub(super) fn record(self) -> usize {
        RECORDS.get(self as usize).copied().unwrap_or(PAYLOAD)
    }

    /// How many of them a page holds.
    pub(super) fn per_page(self) -> u64 {
        (PAYLOAD / self.record()) as u64
    }
}

/// Takes fields from the front of a record.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// A segment that a table has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentRow {
    /// Its name.
    pub(super) id: ObjectId,
    /// Whether its lines are here. Those of a superseded one are not.
    pub(super) lined: bool,
    /// How many lines.
    pub(super) lines: u64,
}

impl SegmentRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let flags = u32::from(self.lined).to_le_bytes();
        [&self.id.as_bytes()[..], &flags, &self.lines.to_le_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let id = ObjectId::new(fields.take()?);
        Some(Self { id, lined: fields.u32()? & 1 == 1, lines: fields.u64()? })
    }
}

/// A pack in a table, as one segment describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackRow {
    pub(super) id: ObjectId,
    pub(super) size: u64,
    /// Number of the segment in this table.
    pub(super) segment: u32,
    /// How many lines it has.
    pub(super) lines: u32,
}

impl PackRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (segment, lines) = (self.segment.to_le_bytes(), self.lines.to_le_bytes());
        [&self.id.as_bytes()[..], &self.size.to_le_bytes(), &segment, &lines].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let id = ObjectId::new(fields.take()?);
        Some(Self { id, size: fields.u64()?, segment: fields.u32()?, lines: fields.u32()? })
    }
}

/// Most members that a line can tell: far above what fits into a bundle.
pub(super) const MAX_MEMBERS: u32 = (1 << 28) - 1;

/// A line: blob and place, the pack's number being that in the table.
pub(super) fn encode_line(id: &BlobId, place: &Place) -> [u8; LINE] {
    let last =
        place.members & MAX_MEMBERS | (place.kind as u32) << 28 | u32::from(place.hollow) << 31;
    let numbers = [place.pack, place.ordinal, place.offset, place.sealed, place.plain, last];
    let mut line = [0; LINE];
    let (to_id, to_numbers) = line.split_at_mut(32);
    to_id.copy_from_slice(id.as_bytes());
    for (to, number) in to_numbers.chunks_exact_mut(4).zip(numbers) {
        to.copy_from_slice(&number.to_le_bytes());
    }
    line
}

pub(super) fn decode_line(bytes: &[u8]) -> Option<(BlobId, Place)> {
    let mut fields = Fields(bytes);
    let id = BlobId::new(fields.take()?);
    let (pack, ordinal, offset) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let (sealed, plain, last) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let kind = BlobKind::from_number(last >> 28 & 7)?;
    let (members, hollow) = (last & MAX_MEMBERS, last >> 31 == 1);
    Some((id, Place { pack, ordinal, offset, sealed, plain, members, hollow, kind }))
}

/// Where the sections are, which follows from how many records each has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    counts: [u64; 6],
    first: [u64; 6],
    pages: u64,
}

impl Layout {
    /// `None` if such a table would be too long to exist.
    pub(super) fn new(segments: u64, supersedes: u64, packs: u64, lines: u64) -> Option<Self> {
        let fan = lines.div_ceil(Section::Lines.per_page());
        let counts = [segments, supersedes, packs, packs, lines, fan];
        let (mut first, mut pages) = ([0; 6], 1_u64);
        for ((first, count), record) in first.iter_mut().zip(counts).zip(RECORDS) {
            *first = pages;
            pages = pages.checked_add(count.div_ceil((PAYLOAD / record) as u64))?;
        }
        let fits = pages.checked_mul(PAGE as u64).is_some() && packs < u64::from(u32::MAX);
        fits.then_some(Self { counts, first, pages })
    }

    pub(super) fn count(&self, section: Section) -> u64 {
        self.counts.get(section as usize).copied().unwrap_or(0)
    }

    /// First page of a section.
    pub(super) fn first(&self, section: Section) -> u64 {
        self.first.get(section as usize).copied().unwrap_or(0)
    }

    /// Length in bytes.
    pub(super) fn length(&self) -> u64 {
        self.pages * PAGE as u64
    }

    /// Page and place in it of a record.
    fn find(&self, section: Section, number: u64) -> (u64, usize) {
        let per_page = section.per_page();
        let at = (number % per_page) as usize * section.record();
        (self.first(section) + number / per_page, at)
    }

    /// What page 0 says after the object's header.
    pub(super) fn encode(&self, repository: &RepositoryId) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], repository.as_bytes()].concat();
        for section in [Section::Segments, Section::Supersedes, Section::Packs, Section::Lines] {
            bytes.extend_from_slice(&self.count(section).to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8], repository: &RepositoryId) -> Option<Self> {
        let mut fields = Fields(bytes);
        let own = fields.take()? == MAGIC && fields.take()? == *repository.as_bytes();
        let (segments, supersedes) = (fields.u64()?, fields.u64()?);
        Self::new(segments, supersedes, fields.u64()?, fields.u64()?).filter(|_| own)
    }
}

/// An open table.
#[derive(Debug)]
pub(super) struct Table {
    backing: Backing,
    layout: Layout,
    pages: Arc<Pages>,
    /// Tells its pages from those of others.
    tag: u64,
    fan: Vec<u64>,
    segments: Vec<SegmentRow>,
    supersedes: Vec<(u32, ObjectId)>,
}

impl Table {
    /// Opens a file. One that is not whole is removed, and the error says so.
    pub(super) fn open_file(
        file: File,
        path: Option<PathBuf>,
        keys: &Keys,
        repository: &RepositoryId,
        pages: Arc<Pages>,
    ) -> Result<Self> {
        use std::os::unix::fs::FileExt;
        let bad = || {
            let no_name = || Error::DamagedCache { path: "of this run".into(), removed: true };
            path.as_deref().map_or_else(no_name, damaged)
        };
        let mut page = vec![0; PAGE];
        file.read_exact_at(&mut page, 0).map_err(|_| bad())?;
        let (header, body) = page.split_at_mut(HEADER_LEN);
        let cipher = Header::cipher(keys, repository, ObjectKind::CacheTable, header);
        let cipher = cipher.map_err(|_| bad())?;
        let layout = cipher.open(0, &[], body).ok().and_then(|b| Layout::decode(b, repository));
        let layout = layout.ok_or_else(bad)?;
        let length = file.metadata().map_err(|_| bad())?.len();
        if length != layout.length() {
            return Err(bad());
        }
        Self::open(Backing::File { file, cipher, path }, layout, pages)
    }

    /// Opens a table in memory.
    pub(super) fn open_memory(
        bytes: Vec<u8>,
        repository: &RepositoryId,
        pages: Arc<Pages>,
    ) -> Result<Self> {
        let counts = bytes.get(HEADER_LEN..).unwrap_or_default();
        let layout = Layout::decode(counts, repository)
            .filter(|layout| layout.length() == bytes.len() as u64);
        let backing = Backing::Memory(bytes);
        let layout = layout.ok_or_else(|| backing.damaged())?;
        Self::open(backing, layout, pages)
    }

    fn open(backing: Backing, layout: Layout, pages: Arc<Pages>) -> Result<Self> {
        static TAGS: AtomicU64 = AtomicU64::new(0);
        let tag = TAGS.fetch_add(1, Ordering::Relaxed);
        let (fan, segments, supersedes) = Default::default();
        let mut table = Self { backing, layout, pages, tag, fan, segments, supersedes };
        table.segments = table.all(Section::Segments, SegmentRow::decode)?;
        table.supersedes = table.all(Section::Supersedes, |bytes| {
            let mut fields = Fields(bytes);
            Some((fields.u32()?, ObjectId::new(fields.take()?)))
        })?;
        table.fan =
            table.all(Section::Fan, |bytes| bytes.try_into().ok().map(u64::from_le_bytes))?;
        Ok(table)
    }

    fn all<T>(&self, section: Section, decode: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>> {
        // As many as the length of the file has shown to be there.
        let mut all = Vec::with_capacity(self.layout.count(section) as usize);
        let mut scan = self.scan(section);
        while let Some(record) = scan.next(&self.backing)? {
            all.push(decode(record).ok_or_else(|| self.backing.damaged())?);
        }
        Ok(all)
    }

    fn scan(&self, section: Section) -> Scan {
        Scan::new(self.layout.first(section), section.record(), self.layout.count(section))
    }

    /// Where it is.
    pub(super) fn backing(&self) -> &Backing {
        &self.backing
    }

    /// Segments that were read for it.
    pub(super) fn segments(&self) -> &[SegmentRow] {
        &self.segments
    }

    /// Which of its segments replace which others.
    pub(super) fn supersedes(&self) -> impl Iterator<Item = (ObjectId, ObjectId)> + '_ {
        let of = |by: &u32| self.segments.get(*by as usize).map(|row| row.id);
        self.supersedes.iter().filter_map(move |(by, id)| Some((of(by)?, *id)))
    }

    /// How many packs it has, dead ones included.
    pub(super) fn packs(&self) -> u32 {
        // The layout has seen to that.
        self.layout.count(Section::Packs) as u32
    }

    /// How many lines it has, dead ones included.
    pub(super) fn lines(&self) -> u64 {
        self.layout.count(Section::Lines)
    }

    /// Bytes in memory that are its own.
    pub(super) fn memory_used(&self) -> usize {
        self.backing.memory_used()
            + self.fan.capacity() * size_of::<u64>()
            + self.segments.capacity() * size_of::<SegmentRow>()
            + self.supersedes.capacity() * size_of::<(u32, ObjectId)>()
    }

    /// A pack by its number here, with its header.
    pub(super) fn pack(&self, number: u32) -> Result<Option<(PackRow, [u8; HEADER_LEN])>> {
        if number >= self.packs() {
            return Ok(None);
        }
        let record = |section: Section| {
            let (page, at) = self.layout.find(section, u64::from(number));
            self.pages.look(&self.backing, self.tag, page, |payload| {
                payload.get(at..at + section.record()).map(<[u8]>::to_vec)
            })
        };
        let row = record(Section::Packs)?.and_then(|bytes| PackRow::decode(&bytes));
        let header = record(Section::Headers)?.and_then(|bytes| bytes.try_into().ok());
        row.zip(header).map(Some).ok_or_else(|| self.backing.damaged())
    }

    /// Calls `each` with every pack's number and row, in order.
    pub(super) fn each_pack<E: From<Error>>(
        &self,
        mut each: impl FnMut(u32, PackRow) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut scan = self.scan(Section::Packs);
        for number in 0.. {
            let Some(record) = scan.next(&self.backing)? else { break };
            let row = PackRow::decode(record).ok_or_else(|| self.backing.damaged())?;
            each(number, row)?;
        }
        Ok(())
    }

    /// Calls `each` with every pack's header, in order.
    pub(super) fn each_header<E: From<Error>>(
        &self,
        mut each: impl FnMut(u32, &[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut scan = self.scan(Section::Headers);
        for number in 0.. {
            let Some(record) = scan.next(&self.backing)? else { break };
            each(number, record)?;
        }
        Ok(())
    }

    /// Calls `each` with every place of a blob, the pack's number being that here, until it
    /// returns true. Whether it did.
    pub(super) fn visit(&self, id: &BlobId, each: &mut dyn FnMut(Place) -> bool) -> Result<bool> {
        self.visit_slots(id, &mut |place, _| each(place))
    }

    /// The same; `each` is also told where the line is.
    pub(super) fn visit_slots(
        &self,
        id: &BlobId,
        each: &mut dyn FnMut(Place, Slot) -> bool,
    ) -> Result<bool> {
        let prefix = prefix(id);
        // The page before the first one that begins at the prefix may end with it.
        let mut page = self.fan.partition_point(|first| *first < prefix).saturating_sub(1) as u64;
        while self.fan.get(page as usize).is_some_and(|first| *first <= prefix) {
            let per_page = Section::Lines.per_page();
            let lines = (self.lines() - page * per_page).min(per_page) as usize;
            let (number, tag) = (self.layout.first(Section::Lines) + page, self.tag);
            let seen = self.pages.look(&self.backing, tag, number, |payload| {
                visit_page(payload, lines, id, &mut |place, line| {
                    let members = if place.kind == BlobKind::Bundle { line } else { 0 };
                    each(
                        place,
                        Slot { page, line: line as u32, members: members_in(payload, members) },
                    )
                })
            })?;
            match seen.ok_or_else(|| self.backing.damaged())? {
                Seen::Enough => return Ok(true),
                Seen::All => break,
                Seen::PerhapsMore => page += 1,
            }
        }
        Ok(false)
    }

    /// Its lines in order.
    pub(super) fn lines_in_order(self: &Arc<Self>) -> Lines {
        Lines { table: self.clone(), scan: self.scan(Section::Lines) }
    }
}

/// Lines of a table one after the other.
#[derive(Debug)]
pub(super) struct Lines {
    table: Arc<Table>,
    scan: Scan,
}

impl Lines {
    /// The next line of a pack that is `wanted`.
    pub(super) fn next(&mut self, wanted: impl Fn(u32) -> bool) -> Result<Option<(BlobId, Place)>> {
        while let Some(record) = self.scan.next(&self.table.backing)? {
            let pack = record.get(32..).and_then(|rest| Fields(rest).u32());
            if pack.is_some_and(&wanted) {
                let line = decode_line(record).filter(|(_, p)| p.pack < self.table.packs());
                return line.map(Some).ok_or_else(|| self.table.backing.damaged());
            }
        }
        Ok(None)
    }
}

/// Where in its table a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Number of the page among those of lines.
    pub(super) page: u64,
    /// Number of the line in it.
    pub(super) line: u32,
    /// For a bundle: members of the bundles before it in the page.
    pub(super) members: u64,
}

/// Members of the bundles among the first `lines` lines of a page.
fn members_in(payload: &[u8], lines: usize) -> u64 {
    let lines = payload.chunks_exact(LINE).take(lines).filter_map(decode_line);
    lines.map(|(_, place)| u64::from(place.members)).sum()
}

/// What a page was to a search.
enum Seen {
    Enough,
    All,
    PerhapsMore,
}

fn visit_page(
    payload: &[u8],
    lines: usize,
    id: &BlobId,
    each: &mut dyn FnMut(Place, usize) -> bool,
) -> Option<Seen> {
    let line = |number: usize| payload.get(number * LINE..(number + 1) * LINE);
    let id_of = |number: usize| line(number).and_then(|line| line.get(..32));
    let (mut low, mut high) = (0, lines);
    while low < high {
        let middle = low.midpoint(high);
        match id_of(middle)? < &id.as_bytes()[..] {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    for number in low..lines {
        if id_of(number)? != id.as_bytes() {
            return Some(Seen::All);
        }
        if each(decode_line(line(number)?)?.1, number) {
            return Some(Seen::Enough);
        }
    }
    Some(Seen::PerhapsMore)
}

/// What the fan-out knows of a blob id.
pub(super) fn prefix(id: &BlobId) -> u64 {
    id.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
