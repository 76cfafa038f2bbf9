//! Making tables: from segments that were just read or written, and from other tables. Neither
//! takes more memory than a batch of lines, or a few pages of each table.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::io;
use std::sync::Arc;

use crate::format::envelope::HEADER_LEN;
use crate::hash::{BlobId, ObjectId};
use crate::{Error, Result};

use super::Place;
use super::segment::ReadSegment;
use super::store::{Store, TableWriter};
use super::table::{Lines, PackRow, Section, SegmentRow, Table, encode_line};

/// A pack that goes into no table.
const NONE: u32 = u32::MAX;

/// Segments on their way into a table.
#[derive(Debug, Default)]
pub(super) struct Batch {
    segments: Vec<SegmentRow>,
    supersedes: Vec<(u32, ObjectId)>,
    packs: Vec<(PackRow, [u8; HEADER_LEN])>,
    lines: Vec<(BlobId, Place)>,
}

impl Batch {
    /// Adds a segment; without its lines if another one supersedes it.
    pub(super) fn add(&mut self, segment: &ReadSegment, lined: bool) {
        let number = self.segments.len() as u32;
        self.supersedes.extend(segment.supersedes.iter().map(|id| (number, *id)));
        let before = self.lines.len();
        for pack in segment.packs.iter().filter(|_| lined) {
            let place = self.packs.len() as u32;
            let lines = pack.lines.len() as u32;
            let row = PackRow { id: pack.id, size: pack.size, segment: number, lines };
            self.packs.push((row, pack.header));
            self.lines.extend(pack.lines.iter().map(|line| (line.id, Place::of(line, place))));
        }
        let lines = (self.lines.len() - before) as u64;
        self.segments.push(SegmentRow { id: segment.id, lined, lines });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Lines so far.
    pub(super) fn lines(&self) -> usize {
        self.lines.len()
    }

    /// Makes a table of it, in memory if a file cannot be written.
    pub(super) fn finish(mut self, store: &Store) -> Result<Table> {
        self.lines.sort_unstable_by_key(|(id, place)| (*id, place.pack, place.ordinal));
        let count = self.lines.len() as u64;
        if let Some(writer) = store.create_file()
            && let Ok(Ok(table)) = self.write(writer)
        {
            return Ok(table);
        }
        self.write(store.create_in_memory(count)).map_err(in_memory)?
    }

    fn write(&self, mut to: TableWriter) -> io::Result<Result<Table>> {
        for segment in &self.segments {
            to.push(Section::Segments, &segment.encode())?;
        }
        for (by, id) in &self.supersedes {
            to.push(Section::Supersedes, &encode_superseded(*by, id))?;
        }
        for (pack, _) in &self.packs {
            to.push(Section::Packs, &pack.encode())?;
        }
        for (_, header) in &self.packs {
            to.push(Section::Headers, header)?;
        }
        for (id, place) in &self.lines {
            to.push(Section::Lines, &encode_line(id, place))?;
        }
        to.finish()
    }
}

fn in_memory(error: io::Error) -> Error {
    Error::Worker(format!("index in memory: {error}"))
}

fn encode_superseded(by: u32, id: &ObjectId) -> Vec<u8> {
    [&by.to_le_bytes()[..], id.as_bytes()].concat()
}

/// Why tables were not merged.
pub(super) enum NotMerged {
    /// One of them cannot be read.
    Input(Error),
    /// The new one cannot be written: no space, perhaps. The old ones serve as well.
    Output,
}

impl From<Error> for NotMerged {
    fn from(error: Error) -> Self {
        Self::Input(error)
    }
}

impl From<io::Error> for NotMerged {
    fn from(_: io::Error) -> Self {
        Self::Output
    }
}

/// Makes one table of several. Only what `is_live` segments say is taken along, and what `is_known`
/// segments supersede; packs stay in the order of the tables.
pub(super) fn merge(
    store: &Store,
    tables: &[Arc<Table>],
    is_live: &dyn Fn(&ObjectId) -> bool,
    is_known: &dyn Fn(&ObjectId) -> bool,
) -> std::result::Result<Table, NotMerged> {
    let mut to = match tables.iter().any(|table| table.backing().is_file()) {
        // What is in files does not go to memory.
        true => store.create_file().ok_or(NotMerged::Output)?,
        false => store.create_in_memory(tables.iter().map(|table| table.lines()).sum()),
    };
    let plan = Plan::new(tables, is_live, is_known)?;
    for segment in &plan.segments {
        to.push(Section::Segments, &segment.encode())?;
    }
    for (by, id) in &plan.supersedes {
        to.push(Section::Supersedes, &encode_superseded(*by, id))?;
    }
    for (table, (segments, packs)) in tables.iter().zip(plan.segment_of.iter().zip(&plan.pack_of)) {
        table.each_pack(|number, row| {
            let segment = segments.get(row.segment as usize).copied().flatten();
            match segment.filter(|_| is_kept(packs, number)) {
                Some(segment) => to.push(Section::Packs, &PackRow { segment, ..row }.encode()),
                None => Ok(()),
            }
            .map_err(NotMerged::from)
        })?;
    }
    for (table, packs) in tables.iter().zip(&plan.pack_of) {
        table.each_header(|number, header| match is_kept(packs, number) {
            true => to.push(Section::Headers, header).map_err(NotMerged::from),
            false => Ok(()),
        })?;
    }
    let mut merged = Merge::new(tables);
    let wanted = |table: usize, pack| plan.pack_of.get(table).is_some_and(|p| is_kept(p, pack));
    while let Some((table, id, place)) = merged.next(&wanted)? {
        let pack = plan.pack_of.get(table).and_then(|packs| packs.get(place.pack as usize));
        let pack = pack.copied().unwrap_or(NONE);
        to.push(Section::Lines, &encode_line(&id, &Place { pack, ..place }))?;
    }
    Ok(to.finish()??)
}

fn is_kept(packs: &[u32], number: u32) -> bool {
    packs.get(number as usize).is_some_and(|new| *new != NONE)
}

/// What goes where in a merged table.
struct Plan {
    segments: Vec<SegmentRow>,
    supersedes: BTreeSet<(u32, ObjectId)>,
    /// For each table: the new numbers of the segments whose packs are taken along.
    segment_of: Vec<Vec<Option<u32>>>,
    /// For each table: the new numbers of its packs.
    pack_of: Vec<Vec<u32>>,
}

impl Plan {
    fn new(
        tables: &[Arc<Table>],
        is_live: &dyn Fn(&ObjectId) -> bool,
        is_known: &dyn Fn(&ObjectId) -> bool,
    ) -> Result<Self> {
        let mut segments: Vec<SegmentRow> = Vec::new();
        let mut number_of: HashMap<ObjectId, u32> = HashMap::new();
        let mut segment_of = Vec::with_capacity(tables.len());
        for table in tables {
            let mut new_numbers = Vec::with_capacity(table.segments().len());
            for row in table.segments() {
                let (live, known) = (is_live(&row.id), is_known(&row.id));
                let number = known.then(|| {
                    *number_of.entry(row.id).or_insert_with(|| {
                        segments.push(SegmentRow { id: row.id, lined: false, lines: 0 });
                        segments.len() as u32 - 1
                    })
                });
                // The lines of a segment are taken from one table.
                let own = number.and_then(|n| segments.get_mut(n as usize));
                let taken = own.is_some_and(|own| {
                    let take = live && row.lined && !own.lined;
                    if take {
                        (own.lined, own.lines) = (true, row.lines);
                    }
                    take
                });
                new_numbers.push(number.filter(|_| taken));
            }
            segment_of.push(new_numbers);
        }
        let pairs = tables.iter().flat_map(|table| table.supersedes());
        let supersedes = pairs.filter_map(|(by, id)| Some((*number_of.get(&by)?, id))).collect();
        let mut count = 0;
        let mut pack_of = Vec::with_capacity(tables.len());
        for (table, segments) in tables.iter().zip(&segment_of) {
            let mut numbers = Vec::with_capacity(table.packs() as usize);
            table.each_pack(|_, row| {
                let kept = segments.get(row.segment as usize).copied().flatten().is_some();
                numbers.push(if kept { count } else { NONE });
                count += u32::from(kept);
                Ok::<(), Error>(())
            })?;
            pack_of.push(numbers);
        }
        Ok(Self { segments, supersedes, segment_of, pack_of })
    }
}

/// The lines of several tables in the order of their ids; copies in the order of the tables.
pub(super) struct Merge {
    lines: Vec<Lines>,
    heads: BinaryHeap<Reverse<Head>>,
    started: bool,
}

/// The next line of a table. Of one table there is never more than one.
#[derive(PartialEq, Eq)]
struct Head {
    id: BlobId,
    table: usize,
    place: Place,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id).then(self.table.cmp(&other.table))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Merge {
    pub(super) fn new(tables: &[Arc<Table>]) -> Self {
        let lines = tables.iter().map(Table::lines_in_order).collect();
        Self { lines, heads: BinaryHeap::new(), started: false }
    }

    fn refill(&mut self, table: usize, wanted: &dyn Fn(usize, u32) -> bool) -> Result<()> {
        let Some(lines) = self.lines.get_mut(table) else { return Ok(()) };
        if let Some((id, place)) = lines.next(|pack| wanted(table, pack))? {
            self.heads.push(Reverse(Head { id, table, place }));
        }
        Ok(())
    }

    /// The next line of a pack that is `wanted`: the number of its table, and the line as it
    /// stands there.
    pub(super) fn next(
        &mut self,
        wanted: &dyn Fn(usize, u32) -> bool,
    ) -> Result<Option<(usize, BlobId, Place)>> {
        if !self.started {
            self.started = true;
            for table in 0..self.lines.len() {
                self.refill(table, wanted)?;
            }
        }
        let Some(Reverse(head)) = self.heads.pop() else { return Ok(None) };
        self.refill(head.table, wanted)?;
        Ok(Some((head.table, head.id, head.place)))
    }
}
