//! Reed–Solomon parity of packs (docs/format.md, "Parity"): made while a pack streams by, in two
//! mebibytes of memory, and used to compute what a damaged pack has lost.

use std::fmt;

use reed_solomon_simd::engine::{DefaultEngine, Engine, ShardsRefMut};
use reed_solomon_simd::rate::{HighRateDecoder, RateDecoder};

use crate::format::parity::{self, Header, MAX_PIECES, Parity, RECOVERY_POINTS};

/// Shortest piece that is written.
const PIECE: u32 = 1024;

/// Pieces that the longest pack has at most.
const PIECES: u64 = 32 << 10;

/// Memory that healing takes beside the pack: so many bytes of each piece at once as fit.
const HEAL_AT_ONCE: usize = 16 << 20;

/// Pieces that make up for a loss of 3 %: one run of that touches one piece more than it fills.
fn recovery_for(size: u64, piece: u32) -> u32 {
    let lost = (size * 3).div_ceil(100 * u64::from(piece)) + 1;
    u32::try_from(lost).unwrap_or(u32::MAX).min(RECOVERY_POINTS as u32)
}

/// Makes parity of a pack that comes in parts.
pub struct Encoder {
    engine: DefaultEngine,
    piece: u32,
    size: u64,
    /// What the pieces so far come to; then room for as many pieces as there are recovery points.
    work: Vec<[u8; 64]>,
    /// Bytes in that room.
    filled: usize,
    checksums: Vec<u32>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoder({} bytes)", self.size)
    }
}

impl Encoder {
    /// For a pack of at most `longest` bytes.
    pub fn new(longest: u64) -> Self {
        let least = longest.div_ceil(PIECES).next_power_of_two();
        let piece = u32::try_from(least).unwrap_or(1 << 20).clamp(PIECE, 1 << 20);
        let work = vec![[0; 64]; 2 * RECOVERY_POINTS * piece as usize / 64];
        let (engine, checksums) = (DefaultEngine::new(), Vec::new());
        Self { engine, piece, size: 0, work, filled: 0, checksums }
    }

    fn room(&mut self) -> &mut [u8] {
        let half = self.work.len() / 2;
        self.work.get_mut(half..).unwrap_or_default().as_flattened_mut()
    }

    /// Takes more of the pack.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            let filled = self.filled;
            let room = self.room().get_mut(filled..).unwrap_or_default();
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            let is_full = now.len() == room.len();
            if let Some(room) = room.get_mut(..now.len()) {
                room.copy_from_slice(now);
            }
            self.filled += now.len();
            bytes = later;
            if is_full {
                self.add();
            }
        }
    }

    /// Adds the pieces in the room to what there is.
    fn add(&mut self) {
        let piece = self.piece as usize;
        let filled = self.filled;
        let before = self.checksums.len();
        if filled == 0 {
            return;
        }
        if before >= MAX_PIECES {
            // Too long: there are no points left.
            self.checksums.resize(MAX_PIECES + 1, 0);
            self.filled = 0;
            return;
        }
        let room = self.room();
        room.get_mut(filled..).unwrap_or_default().fill(0);
        let count = filled.div_ceil(piece);
        let sums: Vec<u32> = room.chunks_exact(piece).take(count).map(crc32fast::hash).collect();
        self.checksums.extend(sums);
        let half = self.work.len() / 2;
        let mut shards = ShardsRefMut::new(2 * RECOVERY_POINTS, piece / 64, &mut self.work);
        let (all, point) = (RECOVERY_POINTS, before + RECOVERY_POINTS);
        self.engine.ifft(&mut shards, all, all, count, point);
        let (sum, room) = self.work.split_at_mut(half);
        for (to, from) in sum.as_flattened_mut().iter_mut().zip(room.as_flattened()) {
            *to ^= from;
        }
        self.filled = 0;
    }

    /// The parity object. `None` of an empty pack, and of one longer than was said.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        self.add();
        let recovery = recovery_for(self.size, self.piece);
        let header = Header { piece: self.piece, size: self.size, recovery };
        if !(1..=MAX_PIECES).contains(&self.checksums.len()) {
            return None;
        }
        let mut shards =
            ShardsRefMut::new(2 * RECOVERY_POINTS, self.piece as usize / 64, &mut self.work);
        self.engine.fft(&mut shards, 0, RECOVERY_POINTS, recovery as usize, 0);
        let pieces = self.work.as_flattened().get(..recovery as usize * self.piece as usize)?;
        Some(parity::write(&header, &self.checksums, pieces))
    }
}

/// Computes the pieces of `pack` that are damaged, or lie in one of the `holes` (ranges of bytes
/// that could not be read). How many there were.
///
/// The pack must have the length that the parity was made of. What comes out is right if its
/// SHA-256 is the pack's name.
pub fn heal(
    parity: &Parity,
    pack: &mut [u8],
    holes: &[std::ops::Range<u64>],
) -> Result<usize, String> {
    let Header { piece, size, recovery } = *parity.header();
    if pack.len() as u64 != size {
        return Err(format!("its parity is that of a pack of {size} bytes"));
    }
    let (length, count) = (piece as usize, parity.header().pieces());
    let is_hole = |number: usize| {
        let from = (number * length) as u64;
        holes.iter().any(|hole| hole.start < from + length as u64 && hole.end > from)
    };
    let mut last = Vec::new();
    let mut lost = Vec::new();
    for (number, bytes) in pack.chunks(length).enumerate() {
        let bytes = match bytes.len() == length {
            true => bytes,
            false => {
                last.extend_from_slice(bytes);
                last.resize(length, 0);
                &last
            }
        };
        if is_hole(number) || !parity.is_right(number, bytes) {
            lost.push(number);
        }
    }
    if lost.is_empty() {
        return Ok(0);
    }
    let good = (0..recovery as usize).filter(|number| parity.recovery(*number).is_some()).count();
    if lost.len() > good {
        let lost = lost.len();
        return Err(format!(
            "{lost} of its {count} pieces of {piece} bytes are damaged, and its parity heals {good}"
        ));
    }
    let points = (RECOVERY_POINTS + count).next_power_of_two();
    let wide = (HEAL_AT_ONCE / points / 64 * 64).clamp(64, length);
    let mut from = 0;
    while from < length {
        let to = (from + wide).min(length);
        heal_columns(parity, pack, &lost, from..to).map_err(|e| e.to_string())?;
        from = to;
    }
    Ok(lost.len())
}

/// Computes these bytes of each lost piece.
fn heal_columns(
    parity: &Parity,
    pack: &mut [u8],
    lost: &[usize],
    columns: std::ops::Range<usize>,
) -> Result<(), reed_solomon_simd::Error> {
    let Header { piece, recovery, .. } = *parity.header();
    let (length, count) = (piece as usize, parity.header().pieces());
    let mut decoder =
        HighRateDecoder::new(count, RECOVERY_POINTS, columns.len(), DefaultEngine::new(), None)?;
    let mut part = Vec::new();
    for number in (0..count).filter(|number| lost.binary_search(number).is_err()) {
        let start = number * length;
        let end = pack.len().min(start + columns.end);
        part.clear();
        part.extend_from_slice(pack.get(start + columns.start..end).unwrap_or_default());
        part.resize(columns.len(), 0);
        decoder.add_original_shard(number, &part)?;
    }
    let good = (0..recovery as usize).filter_map(|number| Some((number, parity.recovery(number)?)));
    for (number, bytes) in good.take(lost.len()) {
        decoder.add_recovery_shard(number, bytes.get(columns.clone()).unwrap_or_default())?;
    }
    let decoded = decoder.decode()?;
    for (number, bytes) in decoded.restored_original_iter() {
        let start = number * length + columns.start;
        // The last piece ends with the pack.
        for (to, from) in pack.iter_mut().skip(start).zip(bytes) {
            *to = *from;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
