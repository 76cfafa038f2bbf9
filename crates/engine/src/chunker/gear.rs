//! The public half of the chunker: the gear table and the scan for candidate positions.
//! There are two scans with identical results: a plain reference and four lanes side by side.
//! Nothing here is secret and nothing here decides a cut; the definition stands in the parent module.

use std::sync::LazyLock;

/// Bytes that a gear hash depends on: each step shifts by one bit, so after 64 steps a byte is gone.
pub(super) const WINDOW: usize = 64;

/// A position is a candidate when its hash is below this, that is, when the top ten bits are zero.
const CANDIDATE_BELOW: u64 = 1 << 54;

/// What the table is made from, followed by a counter; see [`TABLE`].
const SEED: &[u8] = b"holdfast chunker gear table v1";

/// One public word for every byte value.
pub(super) type Table = [u64; 256];

/// The table of the format: that of the smallest counter whose table nominates no constant run.
pub(super) static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut counter = 0;
    loop {
        let table = table_for(counter);
        if nominates_no_constant_run(&table) {
            return table;
        }
        counter += 1;
    }
});

/// 256 little-endian words from the BLAKE3 output stream of the seed and the counter (u32, LE).
fn table_for(counter: u32) -> Table {
    let mut stream =
        blake3::Hasher::new().update(SEED).update(&counter.to_le_bytes()).finalize_xof();
    std::array::from_fn(|_| {
        let mut word = [0; 8];
        stream.fill(&mut word);
        u64::from_le_bytes(word)
    })
}

/// Long runs of one byte (zeros above all) are common; a table that nominated one would nominate
/// every position in it. The hash of a run of a byte is its word times 2^64 - 1.
fn nominates_no_constant_run(table: &Table) -> bool {
    table.iter().all(|word| word.wrapping_neg() >= CANDIDATE_BELOW)
}

#[inline(always)]
fn step(table: &Table, hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(table[usize::from(byte)])
}

fn hash_of(table: &Table, bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |hash, byte| step(table, hash, *byte))
}

/// Visits the candidates `p` with `after < p <= to` in rising order until `visit` says true, and
/// returns that one. Positions up to [`WINDOW`] and beyond the data are never candidates.
pub(super) fn find_reference(
    table: &Table,
    data: &[u8],
    after: usize,
    to: usize,
    mut visit: impl FnMut(usize) -> bool,
) -> Option<usize> {
    let after = after.max(WINDOW);
    let to = to.min(data.len());
    let warm = data.get(after - WINDOW..after)?;
    let body = data.get(after..to)?;
    let mut hash = hash_of(table, warm);
    for (position, byte) in (after + 1..).zip(body) {
        hash = step(table, hash, *byte);
        if hash < CANDIDATE_BELOW && visit(position) {
            return Some(position);
        }
    }
    None
}

const LANES: usize = 4;
/// Bytes of a lane in one go: long enough to hide the 64 bytes of warm-up, short enough that
/// little is scanned in vain beyond a cut. A multiple of 64.
const LANE: usize = 2048;
/// Shorter lanes than this are not worth their warm-up.
const SHORTEST_LANE: usize = 256;
/// Steps written out in a row.
const STRIDE: usize = 8;

/// For each lane a bit map of its candidates: 64 positions a word, the first one in the top bit.
type Hits = [[u64; LANE / 64]; LANES];

/// The same as [`find_reference`], about twice as fast: a gear hash is a chain of dependent steps,
/// so one lane leaves most of a core idle.
pub(super) fn find(
    table: &Table,
    data: &[u8],
    after: usize,
    to: usize,
    mut visit: impl FnMut(usize) -> bool,
) -> Option<usize> {
    let mut after = after.max(WINDOW);
    let to = to.min(data.len());
    loop {
        let lane = (to.saturating_sub(after) / LANES / 64 * 64).min(LANE);
        if lane < SHORTEST_LANE {
            return find_reference(table, data, after, to, visit);
        }
        let hits = four_lanes(table, data.get(after - WINDOW..after + LANES * lane)?, lane);
        for (of_lane, start) in hits.iter().zip((after..).step_by(lane)) {
            for (word, start) in of_lane.iter().zip((start..).step_by(64)) {
                let mut left = *word;
                while left != 0 {
                    let bit = left.leading_zeros();
                    left ^= 1 << (63 - bit);
                    let position = start + bit as usize + 1;
                    if visit(position) {
                        return Some(position);
                    }
                }
            }
        }
        after += LANES * lane;
    }
}

/// Scans four neighbouring lanes of `lane` bytes; `block` is they and the 64 bytes before them.
fn four_lanes(table: &Table, block: &[u8], lane: usize) -> Hits {
    let mut hits: Hits = [[0; LANE / 64]; LANES];
    let part = |number: usize| {
        let (warm, body) = block.get(number * lane..)?.split_at_checked(WINDOW)?;
        Some((hash_of(table, warm), body.get(..lane)?.as_chunks::<STRIDE>().0))
    };
    let (Some((mut h0, b0)), Some((mut h1, b1)), Some((mut h2, b2)), Some((mut h3, b3))) =
        (part(0), part(1), part(2), part(3))
    else {
        return hits;
    };
    for (stride, (((c0, c1), c2), c3)) in b0.iter().zip(b1).zip(b2).zip(b3).enumerate() {
        // A branch at every position, nearly never taken, is one instruction; looking at a
        // stride at once (least hash, or of all outcomes) was measured to be slower.
        for i in 0..STRIDE {
            h0 = step(table, h0, c0[i]);
            h1 = step(table, h1, c1[i]);
            h2 = step(table, h2, c2[i]);
            h3 = step(table, h3, c3[i]);
            if h0 < CANDIDATE_BELOW {
                mark(&mut hits[0], stride * STRIDE + i);
            }
            if h1 < CANDIDATE_BELOW {
                mark(&mut hits[1], stride * STRIDE + i);
            }
            if h2 < CANDIDATE_BELOW {
                mark(&mut hits[2], stride * STRIDE + i);
            }
            if h3 < CANDIDATE_BELOW {
                mark(&mut hits[3], stride * STRIDE + i);
            }
        }
    }
    hits
}

/// Out of line, so that the loop above keeps its registers.
#[cold]
#[inline(never)]
fn mark(of_lane: &mut [u64; LANE / 64], offset: usize) {
    if let Some(word) = of_lane.get_mut(offset / 64) {
        *word |= 1 << (63 - offset % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Find = fn(&Table, &[u8], usize, usize, &mut dyn FnMut(usize) -> bool) -> Option<usize>;
    const REFERENCE: Find = |t, d, a, b, v| find_reference(t, d, a, b, v);
    const LANED: Find = |t, d, a, b, v| find(t, d, a, b, v);

    fn all(scan: Find, data: &[u8], after: usize, to: usize) -> Vec<usize> {
        let mut found = Vec::new();
        scan(&TABLE, data, after, to, &mut |position| {
            found.push(position);
            false
        });
        found
    }

    fn random(len: usize, seed: &[u8]) -> Vec<u8> {
        let mut data = vec![0; len];
        blake3::Hasher::new().update(seed).finalize_xof().fill(&mut data);
        data
    }

    #[test]
    fn the_table_is_frozen() {
        let bytes: Vec<u8> = TABLE.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), FROZEN_TABLE);
        assert_eq!((0..).position(|n| table_for(n) == *TABLE), Some(FROZEN_COUNTER));
        assert_eq!(TABLE[0], FROZEN_WORDS.0);
        assert_eq!(TABLE[255], FROZEN_WORDS.1);
    }
    const FROZEN_TABLE: &str = "095803fafc8b9256a51782182ffc726f1bc208057757724faed75a3fac2b8d68";
    const FROZEN_COUNTER: usize = 1;
    const FROZEN_WORDS: (u64, u64) = (0xb403_5fba_7aef_93ca, 0x1031_16db_f49b_4249);

    #[test]
    fn a_candidate_is_what_the_definition_says() {
        let data = random(40_000, b"definition");
        let mut expected = Vec::new();
        for position in 65..=data.len() {
            let window = &data[position - 64..position];
            let hash = (0..64).fold(0u64, |hash, i| {
                hash.wrapping_add(TABLE[usize::from(window[i])].wrapping_shl(63 - i as u32))
            });
            if hash >> 54 == 0 {
                expected.push(position);
            }
        }
        assert!(expected.len() > 20);
        assert_eq!(all(REFERENCE, &data, 0, usize::MAX), expected);
    }

    #[test]
    fn constant_runs_nominate_nothing() {
        for byte in 0..=255 {
            assert!(all(REFERENCE, &[byte; 300], 0, 300).is_empty(), "{byte}");
            assert!(all(LANED, &[byte; 20_000], 0, 20_000).is_empty(), "{byte}");
        }
    }

    #[test]
    fn lanes_and_reference_agree_at_all_small_lengths() {
        let data = random(20_000, b"small");
        for len in (0..4_000).chain(8_100..8_400).chain(16_300..16_600) {
            let part = &data[..len];
            assert_eq!(all(LANED, part, 0, len), all(REFERENCE, part, 0, len), "{len}");
        }
        for after in 0..4_000 {
            let expected = all(REFERENCE, &data, after, 12_345);
            assert_eq!(all(LANED, &data, after, 12_345), expected, "{after}");
        }
    }

    #[test]
    fn lanes_and_reference_agree_on_large_and_on_periodic_data() {
        let data = random(1 << 20, b"large");
        let found = all(LANED, &data, 0, data.len());
        assert_eq!(found, all(REFERENCE, &data, 0, data.len()));
        assert!((900..1150).contains(&found.len()), "about one in 1024: {}", found.len());
        let mut dense = 0;
        for period in 2..1500 {
            let data: Vec<u8> = data.iter().take(period).copied().cycle().take(30_000).collect();
            let found = all(LANED, &data, 0, data.len());
            assert_eq!(found, all(REFERENCE, &data, 0, data.len()), "{period}");
            dense += usize::from(found.len() > 300);
        }
        assert!(dense > 0, "some cycle must nominate more than ten times as often as random data");
    }

    #[test]
    fn both_stop_where_the_visitor_says() {
        let data = random(100_000, b"stop");
        for wanted in all(REFERENCE, &data, 0, data.len()) {
            for scan in [REFERENCE, LANED] {
                let mut last = 0;
                let stopped = scan(&TABLE, &data, 0, data.len(), &mut |position| {
                    last = position;
                    position == wanted
                });
                assert_eq!((stopped, last), (Some(wanted), wanted));
            }
        }
    }

    #[test]
    fn ranges_that_make_no_sense_find_nothing() {
        let data = random(1_000, b"ranges");
        for scan in [REFERENCE, LANED] {
            for (after, to) in [(2_000, 3_000), (900, 10), (usize::MAX, usize::MAX), (1_000, 1_000)]
            {
                assert!(all(scan, &data, after, to).is_empty());
            }
            assert!(all(scan, &[], 0, 0).is_empty());
        }
    }
}
