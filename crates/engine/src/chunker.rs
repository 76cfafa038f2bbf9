//! Cuts content into chunks. "Public gear proposes, secret PRF disposes": a fast public hash
//! nominates candidates, a keyed function decides which of them become boundaries.
//! Pure functions of bytes: no I/O, no allocation while scanning, no panic on any input.
//! What follows under "Definition" is format: two programs with the same key and parameters cut
//! the same bytes at the same places, on every machine.
//!
//! # Definition
//!
//! All words are unsigned 64-bit and wrap, all divisions round down, all words in bytes are
//! little-endian. A chunk begins where the previous one ended; `data` are the bytes from its
//! beginning to the end of the content, and a *position* `p` is a number of bytes from its
//! beginning. `min < avg < max` are the parameters of the repository, `key` is its 32-byte chunker key.
//!
//! 1. **Table.** For a counter `n = 0, 1, 2, …` let the table `T[0..256]` be the first 2048 bytes
//!    of the BLAKE3 output stream (XOF) of the 30 ASCII bytes `holdfast chunker gear table v1`
//!    followed by `n` as 4 bytes little-endian, read as 256 words. The table is that of the least
//!    `n` for which `2^64 - T[b]` (that is the gear hash of 64 bytes `b`) is at least `2^54` for
//!    all `b`; this is `n = 1`. The BLAKE3 hash of those 2048 bytes is
//!    `095803fafc8b9256a51782182ffc726f1bc208057757724faed75a3fac2b8d68`.
//! 2. **Candidates.** `h(p)` is the sum of `T[data[p - 64 + i]] << (63 - i)` for `i` in `0..64`.
//!    (Computed as `h = (h << 1) + T[byte]` over any 64 or more bytes before `p`.) `p` is a
//!    candidate if `min < p < max` and `h(p) < 2^54`: about one position in 1024.
//! 3. **Cap.** The positions fall into blocks by `p / 1024`. Only the first four candidates of a
//!    block count; the others are ignored.
//! 4. **Decision.** `v(p)` is the first eight bytes of keyed BLAKE3 (key: `key`, input: the 64
//!    bytes `data[p - 64..p]`) as a word. The chunk ends at the first candidate with
//!    `v(p) < t(p)`.
//! 5. **Threshold.** In integers without overflow (they fit into 128 bits):
//!    ```text
//!    slope = 1608 * 2^64 / (avg - min)^2
//!    knee  = avg + (max - avg) / 2
//!    ramp  = 2^64 / max(1, (max - knee) / 2) + 1
//!    t(p)  = min(2^64, slope * (p - min) + ramp * max(0, p - knee))
//!    ```
//! 6. **Ends.** If no candidate ended it, the chunk ends at `max`, or at the end of the content if
//!    that comes first. Empty content has no chunks.
//!
//! In the fixed-size mode a chunk ends at `size` or at the end of the content.
//!
//! # Reasons
//!
//! *Two steps.* Chunk lengths can be seen in a repository by whoever holds it. Attacks published
//! in 2025 recover the secret of chunkers that cut directly on a keyed rolling hash (a secret
//! polynomial, a secret gear table), from the lengths of chunks of known content, and then tell
//! whether a known file is stored. Such hashes are linear; no secret survives in them. Here the hash
//! is public and says only where a cut might be; what is seen of the secret are comparisons
//! of the outputs of a PRF, which tell nothing about the key nor about other windows.
//! (Lengths of chunks remain visible and repeat when content repeats; padding is the packs' task.)
//!
//! *64 bytes.* Hash and PRF depend on these bytes only, so cuts come back after a change, and
//! lanes can be scanned side by side from any place. The shortest `min` is 64, so the window
//! never reaches back before the chunk.
//!
//! *The high bits* of a gear hash depend on all 64 bytes, the low ones on a few.
//!
//! *Threshold.* The chance of a cut grows in proportion to the length beyond `min`, so lengths follow
//! a Rayleigh distribution; `1608 ≈ 1024 π / 2` makes its mean `avg - min`. Simulated with the
//! default parameters, one small insert costs 640 KiB of new chunks on average, against 805 with a
//! constant chance (long chunks are hit more often), 665 to 800 with one step at `avg`, 700
//! and 800 with a chance growing with the square or the cube (cuts come back later). Above the
//! knee the threshold rises quickly to certainty at three quarters of the way from `avg` to `max`:
//! data with few candidates is still cut at its content and not at `max`. A normal chunk does not get there.
//!
//! *Cap.* Cycles can be crafted (and occur) in which every position is a candidate. Four PRF calls
//! a KiB bound the cost; random data has more than four candidates in one block of 270.
//!
//! *Table.* Nobody could choose it: it comes from a hash of a plain text. Runs of a constant
//! byte are the one cycle that is common, so it nominates none.
//!
//! # Measured
//!
//! `cargo bench -p holdfast-engine --bench chunker`: fastest of 300 samples of 4 MiB on one virtual
//! core (AMD EPYC, 3.2 GHz) of a machine loaded several times over, so trust the ratios.
//! Default parameters: random data 2.4 GB/s, text 2.5; the `fastcdc` crate on random data 2.6 (medians
//! under that load 1.2, 1.6, 1.6). Zeros, which is the scan alone, 2.1. Four lanes were about twice as
//! fast as one in a loop measured apart (2.36 and 1.05). The worst cycle known (21 candidates a KiB,
//! four of them put to the PRF) 1.1 GB/s. To be measured again on an idle machine: four lanes
//! fill a core and so may lose more to a busy sibling thread than a single chain of steps does.
//!
//! PRF of 64 bytes, ns a call: keyed BLAKE3 85, AES-128-CBC-MAC 72, AES-128-CMAC 142, HMAC-SHA-256 296
//! (the last three aws-lc-rs). BLAKE3 it is: a sixth faster would be about 2 % of the chunker's
//! time, and CBC-MAC by hand is easier to get wrong, can fail at run time, and is slow without AES in hardware.
//!
//! Lengths on random data (by the independent program that made the vectors): default parameters mean 0.991 ± 0.010 of `avg` (1534 chunks), 2/8/64 KiB
//! 1.009 ± 0.009 (2020 chunks); standard deviation 0.38 and 0.39 of the mean; the longest 3.1 and 2.4 times `avg`.

mod gear;
mod prf;

use gear::WINDOW;
use prf::Prf;

/// Of the candidates in a block of [`CAP_BLOCK`] bytes, this many are put to the PRF.
const CAP: u8 = 4;
const CAP_BLOCK: usize = 1024;
/// Nothing larger is cut as one chunk, in either mode: chunks are held in memory whole.
const LARGEST: u32 = 64 << 20;
/// The range of the PRF: a threshold of this is certainty.
const CERTAIN: u128 = 1 << 64;

/// Parameters that no chunker can work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    #[error("the minimum chunk size is {0} bytes; it must be at least 64")]
    MinTooSmall(u32),
    #[error("chunk sizes must rise: minimum {min}, average {avg}, maximum {max}")]
    NotRising { min: u32, avg: u32, max: u32 },
    #[error("the maximum chunk size is {0} bytes; at most 67108864 (64 MiB) are allowed")]
    MaxTooLarge(u32),
    #[error("a fixed chunk size of {0} bytes is not between 64 and 67108864 (64 MiB)")]
    FixedSize(u32),
}

/// Sizes of content-defined chunks, in bytes. The mean on random data is `avg`, if `avg - min` is
/// many KiB (candidates are a KiB apart) and `max` at least twice `avg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    min: u32,
    avg: u32,
    max: u32,
}

impl Params {
    /// Requires `64 <= min < avg < max <= 64 MiB`.
    pub fn new(min: u32, avg: u32, max: u32) -> Result<Self, ParamsError> {
        if (min as usize) < WINDOW {
            return Err(ParamsError::MinTooSmall(min));
        }
        if min >= avg || avg >= max {
            return Err(ParamsError::NotRising { min, avg, max });
        }
        if max > LARGEST {
            return Err(ParamsError::MaxTooLarge(max));
        }
        Ok(Self { min, avg, max })
    }

    /// No chunk but the last of its content is shorter.
    pub fn min(&self) -> u32 {
        self.min
    }

    /// The mean to expect.
    pub fn avg(&self) -> u32 {
        self.avg
    }

    /// No chunk is longer.
    pub fn max(&self) -> u32 {
        self.max
    }
}

impl Default for Params {
    /// 128 KiB, 512 KiB, 4 MiB.
    fn default() -> Self {
        Self { min: 128 << 10, avg: 512 << 10, max: 4 << 20 }
    }
}

/// How a [`Chunker`] cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Where the content says so.
    Content(Params),
    /// Every so many bytes: for page-aligned files such as databases and disk images.
    Fixed(u32),
}

/// Finds the ends of chunks. Holds no state of any content, so one serves all threads.
#[derive(Clone)]
pub struct Chunker(Kind);

#[derive(Clone)]
enum Kind {
    Content(Content),
    Fixed(u32),
}

/// How far a chunk has been scanned, so that asking again with more data costs nothing twice.
/// Starts as `default()` for every chunk; [`Chunker::scan`] leaves it so when it returns a cut.
#[derive(Clone, Debug, Default)]
pub struct ScanState {
    /// Positions up to here are decided.
    scanned: usize,
    /// The last block in which there was a candidate, and how many counted there.
    block: usize,
    counted: u8,
}

impl Chunker {
    /// A content-defined chunker; `key` is the repository's chunker key.
    pub fn new(key: &[u8; 32], params: Params) -> Self {
        Self(Kind::Content(Content::new(key, params)))
    }

    /// A chunker of pieces of `size` bytes, 64 bytes to 64 MiB.
    pub fn fixed(size: u32) -> Result<Self, ParamsError> {
        if (size as usize) < WINDOW || size > LARGEST {
            return Err(ParamsError::FixedSize(size));
        }
        Ok(Self(Kind::Fixed(size)))
    }

    /// How this chunker cuts.
    pub fn mode(&self) -> Mode {
        match &self.0 {
            Kind::Content(content) => Mode::Content(content.params),
            Kind::Fixed(size) => Mode::Fixed(*size),
        }
    }

    /// The longest chunk in bytes: with so much data, a cut is always found.
    pub fn max(&self) -> usize {
        match &self.0 {
            Kind::Content(content) => content.params.max as usize,
            Kind::Fixed(size) => *size as usize,
        }
    }

    /// The length of the chunk that `data` begins with; `eof` says that nothing follows `data`.
    /// `None`: more data is needed or, at the end, there is none.
    pub fn next_cut(&self, data: &[u8], eof: bool) -> Option<usize> {
        self.scan(&mut ScanState::default(), data, eof)
    }

    /// Like [`Self::next_cut`] for data that grows: `data` always starts at the start of the chunk
    /// and repeats what was shown before; only what is new is scanned. The cut does not depend on
    /// the pieces in which the data arrives.
    pub fn scan(&self, state: &mut ScanState, data: &[u8], eof: bool) -> Option<usize> {
        let inside = match &self.0 {
            Kind::Content(content) => content.scan(state, data),
            Kind::Fixed(_) => None,
        };
        let cut = match inside {
            Some(cut) => Some(cut),
            None if data.len() >= self.max() => Some(self.max()),
            None if eof && !data.is_empty() => Some(data.len()),
            None => None,
        };
        if cut.is_some() {
            *state = ScanState::default();
        }
        cut
    }
}

/// Shows the mode and never the key.
impl std::fmt::Debug for Chunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Chunker").field(&self.mode()).finish()
    }
}

/// The content-defined mode with what follows from its parameters.
#[derive(Clone)]
struct Content {
    params: Params,
    threshold: Threshold,
    prf: Prf,
}

impl Content {
    fn new(key: &[u8; 32], params: Params) -> Self {
        Self { params, threshold: Threshold::new(params), prf: Prf::new(key) }
    }

    /// The first cut before the maximum.
    fn scan(&self, state: &mut ScanState, data: &[u8]) -> Option<usize> {
        let after = state.scanned.max(self.params.min as usize);
        let to = data.len().min(self.params.max as usize - 1);
        let cut = gear::find(&gear::TABLE, data, after, to, |position| {
            let block = position / CAP_BLOCK;
            if block != state.block {
                (state.block, state.counted) = (block, 0);
            }
            if state.counted == CAP {
                return false;
            }
            state.counted += 1;
            self.decides(data, position)
        });
        state.scanned = after.max(to);
        cut
    }

    fn decides(&self, data: &[u8], position: usize) -> bool {
        let window = data.get(..position).and_then(<[u8]>::last_chunk::<WINDOW>);
        window.is_some_and(|window| {
            u128::from(self.prf.value(window)) < self.threshold.at(position as u64)
        })
    }
}

/// The chance of a cut at a candidate as a function of the length, in units of 2^-64.
#[derive(Clone, Copy)]
struct Threshold {
    min: u64,
    slope: u128,
    knee: u64,
    ramp: u128,
}

impl Threshold {
    fn new(params: Params) -> Self {
        let [min, avg, max] = [params.min, params.avg, params.max].map(u64::from);
        let spread = u128::from(avg - min);
        let knee = avg + (max - avg) / 2;
        Self {
            min,
            slope: 1608 * CERTAIN / (spread * spread),
            knee,
            ramp: CERTAIN / u128::from(((max - knee) / 2).max(1)) + 1,
        }
    }

    fn at(&self, length: u64) -> u128 {
        let beyond = |start: u64| u128::from(length.saturating_sub(start));
        (self.slope * beyond(self.min) + self.ramp * beyond(self.knee)).min(CERTAIN)
    }
}

/// Cuts `data` with parameters taken from its first bytes and checks what must always hold.
/// An entry for fuzzers; panics are its findings.
#[doc(hidden)]
pub fn fuzz_chunker(data: &[u8]) {
    let Some((head, data)) = data.split_first_chunk::<8>() else { return };
    let [a, b, c, d, e, f, step, kind] = head.map(u32::from);
    let params = (64 + a * b, 1 + c * d, 1 + e * f);
    let params = Params::new(params.0, params.0 + params.1, params.0 + params.1 + params.2);
    let (Ok(params), Ok(fixed)) = (params, Chunker::fixed(64 + a * b)) else { return };
    let chunker = if kind == 0 { fixed } else { Chunker::new(&[kind as u8; 32], params) };
    let step = step as usize * 16 + 1;
    let mut rest = data;
    while let Some(cut) = chunker.next_cut(rest, true) {
        assert!(cut > 0 && cut <= chunker.max().min(rest.len()), "a chunk of {cut} bytes");
        let last = cut == rest.len();
        assert!(last || kind == 0 || cut > params.min as usize, "a short chunk of {cut} bytes");
        let mut state = ScanState::default();
        let mut seen = 0;
        let split = loop {
            seen = (seen + step).min(rest.len());
            let shown = rest.get(..seen).unwrap_or(rest);
            if let Some(cut) = chunker.scan(&mut state, shown, seen == rest.len()) {
                break cut;
            }
            assert!(seen < rest.len(), "no cut at the end of the data");
        };
        assert_eq!(split, cut, "the cut depends on how the data arrives");
        rest = rest.get(cut..).unwrap_or_default();
    }
    assert!(rest.is_empty(), "{} bytes left over", rest.len());
}

#[cfg(test)]
mod tests;
