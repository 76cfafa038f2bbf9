//! How to write: how hard to compress, with how many threads, and in how much memory.

use crate::compress::Level;
use crate::storage::UploadHint;

/// How to write.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    /// How hard to compress.
    pub level: Level,
    /// Compressing threads.
    pub threads: usize,
    /// Bytes of plain blobs that may be on their way.
    pub budget: usize,
    /// Bytes of packs that may be on their way, where the storage keeps them in memory until they
    /// are finished.
    pub held: usize,
    /// Whether packs get parity, if the caller knows; else the repository is asked when the first one is
    /// begun.
    pub parity: Option<bool>,
    /// Threads of a backup that read files; 0 for as many as suit the source.
    pub readers: usize,
    /// No more of them, whatever suits.
    pub most_readers: usize,
}

/// Bytes that a compressing thread takes for itself.
const COMPRESSING: usize = 8 << 20;

/// Bytes that a thread takes that reads files: what was read, and a chunk of the largest size.
const READING: usize = 8 << 20;

impl Default for WriterOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let budget = (4 + 6 * threads).min(128) << 20;
        Self {
            level: Level::default(),
            threads,
            budget,
            held: usize::MAX,
            parity: None,
            readers: 0,
            most_readers: usize::MAX,
        }
    }
}

impl WriterOptions {
    /// These, within so many bytes of memory in all.
    pub fn within(self, memory: usize) -> Self {
        let quarter = memory / 4;
        Self {
            threads: self.threads.min(quarter / COMPRESSING).max(1),
            budget: self.budget.min(quarter).max(1 << 20),
            held: self.held.min(quarter),
            most_readers: self.most_readers.min(quarter / READING).max(1),
            ..self
        }
    }

    /// Threads that read files where so many would suit.
    pub(crate) fn readers(&self, suits: usize) -> usize {
        match self.readers {
            0 => suits.min(self.most_readers),
            asked => asked.min(self.most_readers),
        }
    }

    /// What suits uploads within these bounds, to a storage that says `hint`: of each of the two
    /// kinds of packs one is being filled while others are on their way.
    pub(super) fn uploads(&self, hint: UploadHint) -> UploadHint {
        let Some(longest) = hint.longest else { return hint };
        let longest = longest.min(u32::try_from(self.held / 4).unwrap_or(u32::MAX)).max(1 << 20);
        let at_once = (self.held / 2 / longest as usize).saturating_sub(1);
        UploadHint { longest: Some(longest), at_once: at_once.clamp(1, hint.at_once.max(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a storage that keeps uploads in memory.
    const HINT: UploadHint = UploadHint { longest: Some(16 << 20), at_once: 4 };

    #[test]
    fn what_is_on_its_way_stays_within_the_memory_given() {
        let most = WriterOptions { threads: 16, budget: 128 << 20, ..WriterOptions::default() };
        assert_eq!(most.uploads(HINT), HINT, "without a bound, as it suits");
        assert_eq!((most.readers(8), most.readers(2)), (8, 2));
        for megabytes in [32, 64, 200, 1000] {
            let memory = megabytes << 20;
            let bounded = most.within(memory);
            let UploadHint { longest, at_once } = bounded.uploads(HINT);
            let longest = longest.unwrap_or(0) as usize;
            // Two kinds of packs: of each one is filled, and some are on their way.
            let held = 2 * (1 + at_once) * longest;
            let readers = bounded.readers(8);
            let all = bounded.budget + held + bounded.threads * COMPRESSING + readers * READING;
            assert!(all <= memory, "{megabytes}: {all} {bounded:?} {at_once} of {longest}");
            assert!(longest >= 1 << 20 && at_once >= 1 && bounded.threads >= 1 && readers >= 1);
        }
        let numbers = |memory: usize| {
            let bounded = most.within(memory << 20);
            (bounded.threads, bounded.readers(8), bounded.budget >> 20)
        };
        assert_eq!(numbers(32), (1, 1, 8));
        assert_eq!(numbers(64), (2, 2, 16));
        assert_eq!(numbers(1000), (16, 8, 128));
        // What is written a little at a time is not held.
        let hint = UploadHint::default();
        assert_eq!(most.within(32 << 20).uploads(hint), hint);
    }
}
