//! Tests of the chunker as a whole: frozen cuts, independence of how data arrives, bounds, the
//! distribution of lengths, and that cuts come back after a change.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;
use std::fmt::Write as _;

const KEY: [u8; 32] = [0x5a; 32];

fn small() -> Params {
    Params::new(2 << 10, 8 << 10, 64 << 10).unwrap()
}

/// The first `len` bytes of the BLAKE3 output stream of `seed`.
fn stream(seed: &str, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut data);
    data
}

/// Letters from a linear congruential generator (Knuth's MMIX constants, started at 1): the top
/// four bits of each state choose one of sixteen characters.
fn letters(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b"etaoinshrdlu ,.\n"[(state >> 60) as usize]
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn periodic(period: usize, len: usize) -> Vec<u8> {
    stream("holdfast period", period).into_iter().cycle().take(len).collect()
}

fn cuts(chunker: &Chunker, data: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut start = 0;
    while let Some(cut) = chunker.next_cut(&data[start..], true) {
        start += cut;
        ends.push(start);
    }
    assert_eq!(start, data.len());
    ends
}

fn lengths(ends: &[usize]) -> Vec<usize> {
    ends.iter().scan(0, |start, end| Some(end - std::mem::replace(start, *end))).collect()
}

/// Naive and slow, straight from the definition in the module's documentation.
fn by_definition(key: &[u8; 32], params: Params, data: &[u8]) -> Vec<usize> {
    let (min, avg, max) = (params.min as usize, params.avg as usize, params.max as usize);
    let slope = 1608 * (1u128 << 64) / ((avg - min) as u128).pow(2);
    let knee = avg + (max - avg) / 2;
    let ramp = (1u128 << 64) / ((max - knee) / 2).max(1) as u128 + 1;
    let (mut ends, mut start) = (Vec::new(), 0);
    while start < data.len() {
        let chunk = &data[start..];
        let mut end = chunk.len().min(max);
        let mut counted = HashSet::new();
        for p in min + 1..end {
            let window = &chunk[p - 64..p];
            let hash =
                window.iter().fold(0u64, |h, b| (h << 1).wrapping_add(gear::TABLE[*b as usize]));
            if hash >> 54 != 0 || !(0..4).any(|nth| counted.insert((p / 1024, nth))) {
                continue;
            }
            let value = blake3::keyed_hash(key, window);
            let value = u64::from_le_bytes(value.as_bytes()[..8].try_into().unwrap());
            let threshold = slope * (p - min) as u128 + ramp * p.saturating_sub(knee) as u128;
            if u128::from(value) < threshold {
                end = p;
                break;
            }
        }
        start += end;
        ends.push(start);
    }
    ends
}

#[test]
fn parameters_are_checked() {
    assert_eq!(Params::new(63, 100, 200), Err(ParamsError::MinTooSmall(63)));
    for (min, avg, max) in [(100, 100, 200), (100, 200, 200), (300, 200, 400)] {
        assert_eq!(Params::new(min, avg, max), Err(ParamsError::NotRising { min, avg, max }));
    }
    assert_eq!(Params::new(64, 65, LARGEST + 1), Err(ParamsError::MaxTooLarge(LARGEST + 1)));
    assert!(Params::new(64, 65, LARGEST).is_ok());
    let default = Params::default();
    assert_eq!(Params::new(default.min(), default.avg(), default.max()), Ok(default));
    for size in [0, 63, LARGEST + 1] {
        assert_eq!(Chunker::fixed(size).err(), Some(ParamsError::FixedSize(size)));
    }
}

#[test]
fn debug_output_does_not_show_the_key() {
    let shown = format!("{:?}", Chunker::new(&[0xab; 32], small()));
    assert_eq!(shown, "Chunker(Content(Params { min: 2048, avg: 8192, max: 65536 }))");
}

#[test]
fn cuts_are_frozen() {
    let inputs = [
        ("default stream", Params::default(), stream("holdfast chunker vector", 16 << 20)),
        ("default letters", Params::default(), letters(8 << 20)),
        ("default zeros", Params::default(), vec![0; 9 << 20]),
        ("default period-149", Params::default(), periodic(149, 9 << 20)),
        ("small stream", small(), stream("holdfast chunker vector", 512 << 10)),
        ("small letters", small(), letters(256 << 10)),
        ("small zeros", small(), vec![0; 150_000]),
        ("small period-48", small(), periodic(48, 150_000)),
        ("small period-260", small(), periodic(260, 150_000)),
    ];
    let mut found = String::new();
    for (name, params, data) in inputs {
        write!(found, "{name}:").unwrap();
        for length in lengths(&cuts(&Chunker::new(&KEY, params), &data)) {
            write!(found, " {length}").unwrap();
        }
        found.push('\n');
    }
    let frozen = include_str!("../../testdata/chunker_vectors.txt");
    let frozen: String = frozen
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(found == frozen, "the cuts have changed, and with them the format:\n{found}");
}

#[test]
fn cuts_follow_the_definition() {
    let data = stream("definition", 1 << 20);
    let odd = Params::new(64, 300, 5_000).unwrap();
    let tight = Params::new(1_000, 1_001, 1_002).unwrap();
    for params in [small(), odd, tight] {
        let chunker = Chunker::new(&KEY, params);
        assert_eq!(cuts(&chunker, &data), by_definition(&KEY, params, &data));
        for period in [48, 149, 260, 700, 5_000] {
            let data = periodic(period, 200_000);
            assert_eq!(cuts(&chunker, &data), by_definition(&KEY, params, &data), "{period}");
        }
    }
}

/// Cycles with 10 to 21 candidates a KiB: whether and how the cap counts decides where they are cut,
/// and a candidate that is seen again because data arrives byte by byte must not count again.
#[test]
fn the_cap_counts_each_candidate_once() {
    for (period, number) in
        [48, 91, 92, 96, 97].into_iter().flat_map(|p| (0..16).map(move |n| (p, n)))
    {
        let key = [number; 32];
        let chunker = Chunker::new(&key, small());
        let data = periodic(period, 20_000);
        let expected = by_definition(&key, small(), &data)[0];
        assert_eq!(chunker.next_cut(&data, true), Some(expected), "{period} {number}");
        let mut state = ScanState::default();
        let bytewise =
            (0..=data.len()).find_map(|n| chunker.scan(&mut state, &data[..n], n == data.len()));
        assert_eq!(bytewise, Some(expected), "{period} {number}");
    }
}

#[test]
fn the_threshold_starts_at_zero_rises_and_is_certain_before_the_maximum() {
    for params in [Params::default(), small(), Params::new(64, 65, LARGEST).unwrap()] {
        let threshold = Threshold::new(params);
        let (min, max) = (u64::from(params.min), u64::from(params.max));
        assert_eq!((threshold.at(0), threshold.at(min)), (0, 0));
        let steps: Vec<u128> =
            (0..=1000).map(|i| threshold.at(min + (max - min) * i / 1000)).collect();
        assert!(steps.windows(2).all(|pair| pair[0] <= pair[1]));
        let certain = max - u64::from(params.max - params.avg) / 4 + 1;
        assert_eq!(threshold.at(certain), CERTAIN);
    }
}

#[test]
fn mean_and_bounds_on_random_data() {
    for (params, len) in [(Params::default(), 96 << 20), (small(), 24 << 20)] {
        let ends = cuts(&Chunker::new(&KEY, params), &stream("mean", len));
        let lengths = lengths(&ends);
        let (last, whole) = lengths.split_last().unwrap();
        assert!(*last <= params.max as usize);
        for length in whole {
            assert!((params.min as usize + 1..params.max as usize).contains(length), "{length}");
        }
        let mean = whole.iter().sum::<usize>() as f64 / whole.len() as f64;
        let ratio = mean / f64::from(params.avg);
        // The standard error of 190 chunks is 2.8 %; larger samples are in the module's figures.
        assert!((0.95..1.05).contains(&ratio), "mean {mean} of {} chunks", whole.len());
    }
}

#[test]
fn constant_data_is_cut_only_at_the_maximum() {
    for byte in [0, 1, 0x20, 0x7f, 0xff] {
        let ends = cuts(&Chunker::new(&KEY, small()), &vec![byte; 200_000]);
        assert_eq!(ends, [65_536, 131_072, 196_608, 200_000]);
    }
}

#[test]
fn fixed_size() {
    let chunker = Chunker::fixed(4096).unwrap();
    assert_eq!(chunker.mode(), Mode::Fixed(4096));
    assert_eq!(cuts(&chunker, &stream("fixed", 10_000)), [4096, 8192, 10_000]);
    assert_eq!(cuts(&chunker, &[0; 8192]), [4096, 8192]);
    assert_eq!(chunker.next_cut(&[0; 4095], false), None);
    assert_eq!(chunker.next_cut(&[0; 4096], false), Some(4096));
}

#[test]
fn little_data() {
    let chunker = Chunker::new(&KEY, small());
    assert_eq!(chunker.next_cut(&[], true), None);
    assert_eq!(chunker.next_cut(&[], false), None);
    assert_eq!(chunker.next_cut(&[1], true), Some(1));
    assert_eq!(chunker.next_cut(&[1; 65_535], false), None);
    assert_eq!(chunker.next_cut(&[1; 65_536], false), Some(65_536));
}

#[test]
fn a_state_from_elsewhere_does_no_harm() {
    let chunker = Chunker::new(&KEY, small());
    let mut state = ScanState::default();
    assert_eq!(chunker.scan(&mut state, &[0; 60_000], false), None);
    assert_eq!(chunker.scan(&mut state, &[1; 10], false), None);
    assert_eq!(chunker.scan(&mut state, &[1; 10], true), Some(10));
}

#[test]
fn another_key_cuts_elsewhere() {
    let data = stream("keys", 4 << 20);
    let one: HashSet<usize> = cuts(&Chunker::new(&KEY, small()), &data).into_iter().collect();
    let other = cuts(&Chunker::new(&[0x5b; 32], small()), &data);
    let common = other.iter().filter(|end| one.contains(end)).count();
    // About one candidate in eight is a cut, so that many cuts coincide by chance.
    assert!(common * 4 < other.len(), "{common} of {}", other.len());
}

#[test]
fn cuts_come_back_after_an_insert_at_the_front() {
    let data = stream("insert", 2 << 20);
    let chunker = Chunker::new(&KEY, small());
    let before = cuts(&chunker, &data);
    for inserted in [1, 7, 64, 1000, 5000] {
        let longer = [stream("new", inserted), data.clone()].concat();
        let after: HashSet<usize> = cuts(&chunker, &longer)
            .into_iter()
            .filter_map(|end| end.checked_sub(inserted))
            .collect();
        let missing: Vec<usize> =
            before.iter().copied().filter(|end| !after.contains(end)).collect();
        assert!(missing.iter().all(|end| *end < 100_000), "{inserted}: {missing:?}");
    }
}

#[test]
fn the_fuzz_entry_takes_anything() {
    fuzz_chunker(&[]);
    for seed in 0..40u8 {
        let mut data = stream(&format!("fuzz {seed}"), 60_000);
        data[7] = seed % 8;
        fuzz_chunker(&data);
        data[8..].fill(seed);
        fuzz_chunker(&data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_cut_does_not_depend_on_how_data_arrives(
        steps in prop::collection::vec(1usize..9_000, 1..40),
        period in prop_oneof![Just(0usize), 1usize..3_000],
        seed in 0u32..1_000,
    ) {
        let seed = seed.to_string();
        let mut data = stream(&seed, 300_000);
        if period > 0 {
            data = data.into_iter().take(period).collect::<Vec<_>>().repeat(300_000 / period);
        }
        let chunker = Chunker::new(&KEY, small());
        let expected = cuts(&chunker, &data);
        let mut steps = steps.into_iter().cycle();
        let (mut start, mut seen) = (0, 0);
        let mut state = ScanState::default();
        let mut found = Vec::new();
        while start < data.len() {
            match chunker.scan(&mut state, &data[start..seen], seen == data.len()) {
                Some(cut) => {
                    start += cut;
                    found.push(start);
                }
                None => seen = (seen + steps.next().unwrap()).min(data.len()),
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn nothing_panics(
        head in any::<[u8; 8]>(),
        pattern in prop::collection::vec(any::<u8>(), 1..2_000),
        times in 1usize..40,
    ) {
        fuzz_chunker(&[head.to_vec(), pattern.repeat(times)].concat());
    }

    #[test]
    fn parameters_never_overflow(min: u32, avg: u32, max: u32, length in 0u64..u64::from(LARGEST)) {
        let (min, avg, max) = (min % (LARGEST + 9), avg % (LARGEST + 9), max % (LARGEST + 9));
        if let Ok(params) = Params::new(min, avg, max) {
            prop_assert!(Threshold::new(params).at(length) <= CERTAIN);
        }
    }
}
