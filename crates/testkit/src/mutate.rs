//! Fuzzing of decoders on stable Rust: a seeded mutator of bytes, and a loop that feeds what it
//! makes to a function and reports the input that made it panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngCore};

use crate::clock::rng;

/// Inputs never grow beyond this: decoders are to be fast on small inputs, and longer ones only
/// make fewer of them.
const LONGEST: usize = 64 * 1024;

/// Integers at which lengths, offsets and counts tend to break.
const INTERESTING: [u64; 22] = [
    0,
    1,
    7,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x3fff,
    0x4000,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX as u64 - 1,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX - 1,
    u64::MAX,
];

/// Makes mutants of a corpus. The same seed and corpus make the same mutants.
#[derive(Debug, Clone)]
pub struct Mutator {
    rng: StdRng,
}

impl Mutator {
    /// A mutator with this seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: rng(seed) }
    }

    /// The next mutant: an input of the corpus with one to six changes; now and then random bytes
    /// or nothing at all. An empty corpus is as good as one empty input.
    pub fn next(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = match self.below(64) {
            0 => Vec::new(),
            1 => {
                let mut noise = vec![0; self.below(300)];
                self.rng.fill_bytes(&mut noise);
                noise
            }
            _ => self.pick(corpus),
        };
        // Mostly few changes: many at once seldom get past the first check of a decoder.
        for _ in 0..=self.below(6).min(self.below(6)) {
            self.change(&mut bytes, corpus);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    /// A number below `end`, 0 if `end` is 0.
    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.rng.random_range(0..end) }
    }

    fn pick(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let choice = self.below(corpus.len());
        corpus.get(choice).cloned().unwrap_or_default()
    }

    /// A range of `bytes`, short more often than long.
    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(bytes.len() + 1);
        let longest = if self.rng.random() { 16 } else { bytes.len() };
        let length = self.below((bytes.len() - start).min(longest) + 1);
        start..start + length
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let position = self.below(bytes.len());
        match self.below(14) {
            0 | 1 => {
                let bit = self.below(8);
                if let Some(byte) = bytes.get_mut(position) {
                    *byte ^= 1 << bit;
                }
            }
            2 => {
                let value = self.rng.random();
                if let Some(byte) = bytes.get_mut(position) {
                    *byte = value;
                }
            }
            3 => {
                // Off by a little: lengths and offsets that just miss.
                let by = self.rng.random_range(1..=4_u8);
                let up = self.rng.random();
                if let Some(byte) = bytes.get_mut(position) {
                    *byte = if up { byte.wrapping_add(by) } else { byte.wrapping_sub(by) };
                }
            }
            4 => bytes.truncate(position),
            5 => {
                let range = self.range(bytes);
                bytes.drain(range);
            }
            6 => {
                let range = self.range(bytes);
                let copy = bytes[range].to_vec();
                let at = self.below(bytes.len() + 1);
                insert(bytes, at, &copy);
            }
            7 => {
                let mut noise = vec![0; 1 + self.below(16)];
                self.rng.fill_bytes(&mut noise);
                let at = self.below(bytes.len() + 1);
                insert(bytes, at, &noise);
            }
            8 => {
                // The head of one and the tail of another.
                let other = self.pick(corpus);
                bytes.truncate(position);
                bytes.extend_from_slice(&other[self.below(other.len() + 1)..]);
            }
            9 => {
                let other = self.pick(corpus);
                let range = self.range(&other);
                let at = self.below(bytes.len() + 1);
                insert(bytes, at, &other[range]);
            }
            10 => {
                let value = INTERESTING[self.below(INTERESTING.len())];
                let width = [1, 2, 4, 8][self.below(4)];
                let little = value.to_le_bytes();
                let big = value.to_be_bytes();
                let from = if self.rng.random() { &little[..width] } else { &big[8 - width..] };
                overwrite(bytes, position, from);
            }
            11 | 12 => self.change_varint(bytes),
            _ => {
                let range = self.range(bytes);
                let fill = [0, 0xff, 0x80, b'/'][self.below(4)];
                bytes[range].fill(fill);
            }
        }
        // Corpora of splices would otherwise grow without end.
        bytes.truncate(LONGEST);
    }

    /// Replaces a byte run that reads as a varint by another varint: its value off by a little, an
    /// interesting value, or the same value in more bytes than it needs.
    fn change_varint(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        let (value, length) = read_varint(&bytes[at..]);
        let choice = self.below(5);
        let mut coded = varint(match choice {
            0 => value.wrapping_add(1),
            1 => value.wrapping_sub(1),
            2 => value.wrapping_mul(2),
            3 => value,
            _ => INTERESTING[self.below(INTERESTING.len())],
        });
        if choice == 3 {
            // Longer than needed, at times longer than any valid one.
            if let Some(last) = coded.last_mut() {
                *last |= 0x80;
            }
            coded.resize(coded.len() + self.below(10), 0x80);
            coded.push(0);
        }
        bytes.splice(at..at + length, coded);
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, part: &[u8]) {
    bytes.splice(at..at, part.iter().copied());
}

fn overwrite(bytes: &mut [u8], at: usize, part: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(part) {
        *to = *from;
    }
}

/// Value and length of the varint at the start (LEB128, as in protobuf); whatever is there counts.
fn read_varint(bytes: &[u8]) -> (u64, usize) {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).wrapping_shl(7 * i as u32);
        if byte & 0x80 == 0 {
            return (value, i + 1);
        }
    }
    (value, bytes.len().min(10))
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut coded = Vec::new();
    while value >= 0x80 {
        coded.push(value as u8 | 0x80);
        value >>= 7;
    }
    coded.push(value as u8);
    coded
}

/// How long to fuzz.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// So many inputs: the same work in every run.
    Iterations(u64),
    /// So long. How many inputs that makes differs from run to run.
    Time(Duration),
}

impl Budget {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self::Time(Duration::from_secs(seconds))
    }

    /// As many seconds as the environment variable `HOLDFAST_FUZZ_SECONDS` says, otherwise so many
    /// inputs.
    pub fn from_env_or(iterations: u64) -> Self {
        match std::env::var("HOLDFAST_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()) {
            Some(seconds) => Self::seconds(seconds),
            None => Self::Iterations(iterations),
        }
    }
}

/// Feeds every input of the corpus as it is, then mutants, to `target`. If it panics, the input is
/// made smaller while it still panics, and this panics in turn with the input in hexadecimal.
/// Returns the number of inputs tried.
pub fn fuzz_for(budget: Budget, seed: u64, corpus: &[Vec<u8>], target: &dyn Fn(&[u8])) -> u64 {
    let start = Instant::now();
    let mut mutator = Mutator::new(seed);
    let mut tried = 0;
    for input in corpus {
        try_one(input, seed, tried, target);
        tried += 1;
    }
    loop {
        let done = match budget {
            Budget::Iterations(count) => tried >= count,
            Budget::Time(time) => start.elapsed() >= time,
        };
        if done {
            return tried;
        }
        let input = mutator.next(corpus);
        try_one(&input, seed, tried, target);
        tried += 1;
    }
}

fn try_one(input: &[u8], seed: u64, number: u64, target: &dyn Fn(&[u8])) {
    let panics = |bytes: &[u8]| catch_unwind(AssertUnwindSafe(|| target(bytes))).err();
    let Some(mut payload) = panics(input) else { return };
    let mut smallest = input.to_vec();
    let mut step = smallest.len().div_ceil(2);
    // Halves, quarters, … are cut out while the rest still panics. Bounded, for slow targets.
    let mut attempts = 200;
    while step > 0 && attempts > 0 {
        let mut at = 0;
        while at < smallest.len() && attempts > 0 {
            attempts -= 1;
            let mut shorter = smallest.clone();
            shorter.drain(at..(at + step).min(smallest.len()));
            match panics(&shorter) {
                Some(other) => (smallest, payload) = (shorter, other),
                None => at += step,
            }
        }
        step /= 2;
    }
    let message = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("(no message)");
    panic!(
        "the target panicked: {message}\n  seed {seed}, input {number}, {} bytes:\n  {}\n  \
         made smaller, {} bytes:\n  {}",
        input.len(),
        hex(input),
        smallest.len(),
        hex(&smallest),
    );
}

fn hex(bytes: &[u8]) -> String {
    holdfast_engine::hash::to_hex(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_depend_on_the_seed_and_reach_the_interesting() {
        let corpus = vec![b"abcdefgh".to_vec(), vec![0x96, 0x01, 0x12, 0x03, 1, 2, 3]];
        let run = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..2000).map(|_| mutator.next(&corpus)).collect::<Vec<_>>()
        };
        let mutants = run(1);
        assert_eq!(mutants, run(1));
        assert_ne!(mutants, run(2));
        assert!(mutants.iter().any(Vec::is_empty));
        assert!(mutants.iter().any(|m| m.windows(8).any(|w| w == [0xff; 8])));
        assert!(mutants.iter().any(|m| m.len() > 15));
        let changed = mutants.iter().filter(|m| !corpus.contains(m)).count();
        assert!(changed > 1700, "{changed}");
        let mut from_nothing = Mutator::new(3);
        assert!((0..500).any(|_| !from_nothing.next(&[]).is_empty()));
    }

    #[test]
    fn varints_read_back() {
        for value in INTERESTING {
            let coded = varint(value);
            assert_eq!(read_varint(&coded), (value, coded.len()));
        }
        assert_eq!(read_varint(&[]), (0, 0));
        assert_eq!(read_varint(&[0x80; 20]).1, 10);
    }

    #[test]
    fn panics_are_reported_with_a_small_input() {
        let corpus = vec![b"key=value; other=thing".to_vec()];
        let target = |bytes: &[u8]| assert!(!bytes.ends_with(b"=thin"), "thin ice");
        let report = catch_unwind(|| fuzz_for(Budget::Iterations(20_000), 7, &corpus, &target));
        let payload = report.expect_err("should have been found");
        let message = payload.downcast_ref::<String>().expect("a message");
        assert!(message.contains("thin ice") && message.contains("seed 7"), "{message}");
        assert!(message.ends_with(&format!("5 bytes:\n  {}", hex(b"=thin"))), "{message}");

        assert_eq!(fuzz_for(Budget::Iterations(50), 7, &corpus, &|_| {}), 50);
    }
}
