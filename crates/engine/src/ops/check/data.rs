//! Third step of a check, if asked for: packs are read whole and every byte is accounted for. A
//! pack's SHA-256 is its name, its header and directory are what the index says, and every blob
//! opens and has its id. Each thread takes a pack at a time and reads it in pieces that end where
//! blobs end, so that nothing is copied and memory does not depend on the size of packs.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::compress::Decompressor;
use crate::crypto::ObjectKind;
use crate::format::envelope::{HEADER_LEN, Header};
use crate::format::pack::{Line, TRAILER_LEN, directory_place, open_directory};
use crate::format::parity::{Parity, Pieces};
use crate::hash::{BlobId, ObjectId, Sha256};
use crate::monitor::Progress;
use crate::repo::index::{PackInfo, PackLines, Place};
use crate::repo::memory::Verified;
use crate::storage::{ObjectName, StorageErrorKind};
use crate::{Error, Result};

use super::{CheckOptions, Context, HEALS, ReadData, Severity, checksums, fault_text};

/// Bytes read at once, rounded up to whole blobs. Big, since far storages answer slowly; small
/// enough that sixteen threads keep within the memory that a check may take.
const PIECE: u64 = 8 << 20;

/// Longest end of a pack (directory and padding) that is read: far above any that is written.
const MAX_TAIL: u64 = 256 << 20;

/// Lines of the index that are held at once, 60 bytes each. A pass over the index for each so many
/// is little beside reading the packs.
const LINES: usize = 1 << 20;

/// What was read.
#[derive(Default)]
pub(super) struct Read {
    /// Not read, since the storage's checksum was right.
    pub(super) hashed: u64,
    pub(super) packs: u64,
    pub(super) bytes: u64,
}

/// What is wrong with a pack.
#[derive(Default)]
struct Faults {
    /// With the pack as a whole.
    whole: Vec<String>,
    /// With its blobs, by ordinal.
    blobs: Vec<(u32, String)>,
}

/// What a thread keeps from pack to pack: fresh memory costs a page fault every 4 KiB.
#[derive(Default)]
struct Buffers {
    piece: Vec<u8>,
    plain: Vec<u8>,
    decompressor: Decompressor,
}

/// A pack to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen {
    /// Its number in the index.
    pub(super) number: u32,
    pub(super) id: ObjectId,
    pub(super) size: u64,
}

/// Reads the packs that `how` chooses, but those whose checksum the storage itself (if it is to be
/// asked) finds right; with `only`, of those packs alone (one bit each).
pub(super) fn check(
    context: &Context<'_>,
    how: ReadData,
    options: &CheckOptions,
    only: Option<&Vec<AtomicU64>>,
) -> Result<Read> {
    let mut verified = Verified::load(context.repository);
    let chosen = choose(context, how, only, &verified)?;
    let told = match options.server_checksums {
        true => checksums::ask(context, &chosen)?,
        false => checksums::Hashed::default(),
    };
    let (hashed, chosen): (Vec<Chosen>, Vec<Chosen>) =
        chosen.into_iter().partition(|pack| told.right.contains(&pack.number));
    let total = chosen.iter().map(|pack| pack.size).sum();
    let chosen: Vec<u32> = chosen.into_iter().map(|pack| pack.number).collect();
    let (bytes, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let seen = Mutex::new(hashed.into_iter().map(|pack| pack.id).collect::<Vec<_>>());
    let result = context.index.packs_with_lines(&chosen, LINES, &mut |packs| {
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let fail = |error| {
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            // The other threads find no more packs.
            next.store(usize::MAX / 2, Ordering::Relaxed);
        };
        let work = || {
            let mut buffers = Buffers::default();
            while let Some(one) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                match check_pack(context, one, &mut buffers) {
                    Ok(true) if told.wrong.contains(&one.number) => {
                        let what = "the storage's own checksum of it is not its name, though it \
                                    reads well: watch the medium";
                        context.ledger.add(ObjectName::pack(one.pack.id), what, Severity::Damage);
                    }
                    Ok(_) => {}
                    Err(error) => return fail(error),
                }
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(one.pack.id);
                done.fetch_add(1, Ordering::Relaxed);
                let bytes = bytes.fetch_add(one.pack.size, Ordering::Relaxed) + one.pack.size;
                let progress = Progress { bytes, total_bytes: Some(total), ..Progress::default() };
                let name = ObjectName::pack(one.pack.id);
                context.monitor.progress(&progress, name.as_str().as_bytes());
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..context.threads.min(packs.len()) {
                scope.spawn(work);
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    });
    // Also where it was stopped: what was read had its turn.
    if options.time > 0 {
        for pack in seen.into_inner().unwrap_or_else(PoisonError::into_inner) {
            verified.note(&pack, options.time);
        }
        let mut present = Vec::new();
        context.index.each_pack(&mut |_, id, _| {
            present.push(id);
            Ok(())
        })?;
        verified.save(present.into_iter());
    }
    result?;
    let hashed = told.right.len() as u64;
    let read = Read { hashed, packs: done.into_inner(), bytes: bytes.into_inner() };
    if read.packs < chosen.len() as u64 {
        return Err(Error::Worker("pack reader".into()));
    }
    Ok(read)
}

/// The packs to read, their numbers rising.
fn choose(
    context: &Context<'_>,
    how: ReadData,
    only: Option<&Vec<AtomicU64>>,
    verified: &Verified,
) -> Result<Vec<Chosen>> {
    let is_wanted = |number: u32| {
        only.is_none_or(|only| {
            let word = only.get(number as usize / 64).map_or(0, |w| w.load(Ordering::Relaxed));
            word >> (number % 64) & 1 == 1
        })
    };
    let seed = match how {
        ReadData::Subset { seed, .. } => seed,
        _ => 0,
    };
    let mut drawn = Vec::new();
    context.index.each_pack(&mut |number, id, size| {
        // What is missing or of the wrong size was found already.
        if context.index.is_usable(number) && is_wanted(number) {
            let lot = (verified.when(&id), draw(seed, &id));
            drawn.push((lot, Chosen { number, id, size }));
        }
        Ok(())
    })?;
    if let ReadData::Subset { fraction, .. } = how {
        drawn.sort_unstable_by_key(|(lot, pack)| (*lot, pack.number));
        drawn.truncate(((drawn.len() as f64 * fraction).round() as usize).max(1));
        drawn.sort_unstable_by_key(|(_, pack)| pack.number);
    }
    Ok(drawn.into_iter().map(|(_, pack)| pack).collect())
}

/// A pack's lot. Of the lowest ones, and of packs that were read longest ago, the subset is made.
fn draw(seed: u64, pack: &ObjectId) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(pack.as_bytes());
    hasher.finalize().as_bytes().first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b))
}

/// Checks a pack, a second time before it is called damaged, and writes down what is wrong.
/// Whether it was whole at once.
fn check_pack(context: &Context<'_>, one: &PackLines, buffers: &mut Buffers) -> Result<bool> {
    let PackLines { number, pack, lines } = one;
    let name = ObjectName::pack(pack.id);
    let parity = read_parity(context, pack)?;
    let mut pieces = parity.as_ref().and_then(|parity| parity.as_ref().ok()).map(Pieces::new);
    let first = read_pack(context, pack, lines, buffers, pieces.as_mut())?;
    if first.is_empty() {
        let is_foreign = pieces.is_some_and(|pieces| !pieces.are_right());
        let foreign = "it is that of another pack; `repair parity --all` writes it anew";
        let what = parity.and_then(std::result::Result::err);
        if let Some(what) = what.or_else(|| is_foreign.then(|| foreign.into())) {
            context.ledger.add(ObjectName::parity(pack.id), what, Severity::Damage);
        }
        return Ok(true);
    }
    let faults = read_pack(context, pack, lines, buffers, None)?;
    let Some(what) = faults.first() else {
        let what = first.first().map_or("", String::as_str);
        let what = format!("read badly once and well the second time ({what}): watch the medium");
        context.ledger.add(name, what, Severity::Note);
        return Ok(false);
    };
    let what = match faults.blobs.len() {
        0 => what.clone(),
        bad => format!("{bad} of its {} blobs cannot be read: {what}", lines.len()),
    };
    let what = match context.reader.heal(pack)? {
        Ok(_) => {
            context.ledger.add(name, format!("{what}; {HEALS}"), Severity::Damage);
            return Ok(false);
        }
        Err(why) if context.parity.contains(&pack.id) => format!("{what}; {why}"),
        Err(_) => what,
    };
    let handle = context.ledger.add(name, what, Severity::Damage);
    for (ordinal, _) in &faults.blobs {
        context.ledger.bad_place(*number, *ordinal, handle);
    }
    Ok(false)
}

/// The parity of a pack, or what is wrong with it; `None` if it has none.
fn read_parity(
    context: &Context<'_>,
    pack: &PackInfo,
) -> Result<Option<std::result::Result<Parity, String>>> {
    if !context.parity.contains(&pack.id) {
        return Ok(None);
    }
    let name = ObjectName::parity(pack.id);
    let is_whole = |parity: &Parity| parity.is_whole() && parity.header().size == pack.size;
    let attempt = || -> Result<Parity> {
        let bytes = context.repository.storage().get(&name)?;
        let parity = Parity::parse(bytes).map_err(|what| Error::damaged(&name, what))?;
        let what = "it is not as it was written; `repair parity --all` writes it anew";
        if is_whole(&parity) { Ok(parity) } else { Err(Error::damaged(&name, what)) }
    };
    match attempt().or_else(|_| attempt()) {
        // A gc deleted it since the listing, with its pack.
        Err(Error::Storage(e)) if e.is_not_found() => Ok(None),
        Err(error) => Ok(Some(Err(fault_text(error)?))),
        Ok(parity) => Ok(Some(Ok(parity))),
    }
}

impl Faults {
    fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.blobs.is_empty()
    }

    fn first(&self) -> Option<&String> {
        self.blobs.first().map(|(_, what)| what).or(self.whole.first())
    }
}

/// Reads all of a pack once, and compares it with what its parity says of it.
fn read_pack(
    context: &Context<'_>,
    pack: &PackInfo,
    lines: &[(BlobId, Place)],
    buffers: &mut Buffers,
    mut pieces: Option<&mut Pieces<'_>>,
) -> Result<Faults> {
    let name = ObjectName::pack(pack.id);
    let storage = context.repository.storage();
    let mut faults = Faults::default();
    let mut hash = Some(Sha256::default());
    let end_of = |place: &Place| u64::from(place.offset) + u64::from(place.sealed);
    let mut rest = lines;
    let mut start = 0_u64;
    while !rest.is_empty() {
        context.stop_if_asked()?;
        let within = rest.partition_point(|(_, place)| end_of(place) <= start + PIECE).max(1);
        let (piece, after) = rest.split_at(within.min(rest.len()));
        let end = piece.last().map_or(start, |(_, place)| end_of(place));
        match storage.get_range(&name, start, (end - start) as usize, &mut buffers.piece) {
            Ok(()) => {
                if let Some(hash) = &mut hash {
                    hash.update(&buffers.piece);
                }
                pieces.iter_mut().for_each(|pieces| pieces.update(&buffers.piece));
                if start == 0 && buffers.piece.get(..HEADER_LEN) != Some(&pack.header[..]) {
                    faults.whole.push("its header is not the one in the index".into());
                }
                open_all(context, pack, piece, start, buffers, &mut faults);
            }
            Err(e) if e.kind == StorageErrorKind::Io => {
                hash = None;
                faults.whole.push(fault_text(e.into())?);
                // One bad sector must not cost what lies beside it.
                for one in piece {
                    read_one(context, pack, one, buffers, &mut faults)?;
                }
            }
            Err(e) => {
                let what = fault_text(e.into())?;
                faults.blobs.extend(lines.iter().map(|(_, p)| (p.ordinal, what.clone())));
                faults.whole.push(what);
                return Ok(faults);
            }
        }
        (start, rest) = (end, after);
    }
    let tail = pack.size.saturating_sub(start);
    if tail > MAX_TAIL {
        faults.whole.push("what follows its blobs is impossibly long".into());
        return Ok(faults);
    }
    match storage.get_range(&name, start, tail as usize, &mut buffers.piece) {
        Ok(()) => {
            if let Some(hash) = &mut hash {
                hash.update(&buffers.piece);
            }
            pieces.iter_mut().for_each(|pieces| pieces.update(&buffers.piece));
            let checked = check_directory(context, pack, lines, start, &buffers.piece);
            faults.whole.extend(checked.err());
        }
        Err(e) => {
            hash = None;
            faults.whole.push(fault_text(e.into())?);
        }
    }
    if hash.is_some_and(|hash| hash.finish() != pack.id) {
        faults.whole.push("its SHA-256 is not its name".into());
    }
    Ok(faults)
}

/// Opens the blobs of a piece that starts at `start`.
fn open_all(
    context: &Context<'_>,
    pack: &PackInfo,
    lines: &[(BlobId, Place)],
    start: u64,
    buffers: &mut Buffers,
    faults: &mut Faults,
) {
    for (id, place) in lines {
        let from = u64::from(place.offset).saturating_sub(start) as usize;
        let Some(sealed) = buffers.piece.get_mut(from..from + place.sealed as usize) else {
            faults.blobs.push((place.ordinal, "it lies outside the pack".into()));
            continue;
        };
        let opened = context.repository.open_blob(
            pack,
            place,
            id,
            sealed,
            &mut buffers.decompressor,
            &mut buffers.plain,
        );
        let what = match opened {
            Ok(members) if members.len() != place.members as usize => {
                format!("{} {}: not as many members as indexed", place.kind.name(), id.short())
            }
            // Whoever reads the index takes it for whole, and relies on it.
            Ok(members) if !place.hollow && !members.are_all_there() => {
                format!("bundle {}: it lacks members, and does not say so", id.short())
            }
            Ok(_) => continue,
            Err(Error::Damaged { what, .. }) => what,
            Err(other) => other.to_string(),
        };
        faults.blobs.push((place.ordinal, what));
    }
}

fn read_one(
    context: &Context<'_>,
    pack: &PackInfo,
    line: &(BlobId, Place),
    buffers: &mut Buffers,
    faults: &mut Faults,
) -> Result<()> {
    let (offset, length) = (u64::from(line.1.offset), line.1.sealed as usize);
    let name = ObjectName::pack(pack.id);
    let read = context.repository.storage().get_range(&name, offset, length, &mut buffers.piece);
    match read {
        Ok(()) => open_all(context, pack, std::slice::from_ref(line), offset, buffers, faults),
        Err(e) => faults.blobs.push((line.1.ordinal, fault_text(e.into())?)),
    }
    Ok(())
}

/// Checks the end of a pack, which starts at `start`: the directory says what the index says.
fn check_directory(
    context: &Context<'_>,
    pack: &PackInfo,
    lines: &[(BlobId, Place)],
    start: u64,
    tail: &[u8],
) -> std::result::Result<(), String> {
    let trailer = tail.len().checked_sub(TRAILER_LEN).and_then(|at| tail.get(at..));
    let (offset, length) = directory_place(trailer.ok_or("it has no trailer")?, pack.size)?;
    // Without blobs the piece begins with the header.
    let expected = if lines.is_empty() { HEADER_LEN as u64 } else { start };
    if offset != expected {
        return Err("its directory is not where its blobs end".into());
    }
    let from = (offset - start) as usize;
    let sealed = tail.get(from..from + length).ok_or("its trailer is wrong")?.to_vec();
    let kind = Header::parse(&pack.header)?.kind;
    if !matches!(kind, ObjectKind::DataPack | ObjectKind::TreePack) {
        return Err("it is no pack".into());
    }
    let (keys, repository) = (context.repository.keys(), context.repository.id());
    let directory = open_directory(keys, repository, kind, &pack.header, sealed)?;
    let same = |line: &Line, (id, place): &(BlobId, Place)| {
        let indexed = Line {
            id: *id,
            kind: place.kind,
            ordinal: place.ordinal,
            offset: place.offset,
            sealed: place.sealed,
            plain: place.plain,
            members: place.members,
            hollow: place.hollow,
        };
        *line == indexed
    };
    let told = directory.lines(pack.size)?;
    if told.len() != lines.len() || !told.iter().zip(lines).all(|(line, one)| same(line, one)) {
        return Err("its directory is not what the index says".into());
    }
    Ok(())
}
