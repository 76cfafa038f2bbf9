//! Parity: the code is that of docs/format.md, and what is promised heals.

use super::*;
use crate::format::parity::RECOVERY_POINTS;

/// Bytes that look random.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn encoded(pack: &[u8], longest: u64) -> Vec<u8> {
    let mut encoder = Encoder::new(longest);
    // In parts that fit nothing.
    for part in pack.chunks(70_001) {
        encoder.update(part);
    }
    encoder.finish().expect("parity")
}

fn parity_of(pack: &[u8]) -> Parity {
    Parity::parse(encoded(pack, pack.len() as u64)).expect("parity")
}

/// Damages a pack and heals it; how many pieces that took.
fn heals(pack: &[u8], parity: &Parity, change: impl Fn(&mut [u8])) -> Result<usize, String> {
    let mut damaged = pack.to_vec();
    change(&mut damaged);
    let pieces = heal(parity, &mut damaged, &[])?;
    if damaged == pack { Ok(pieces) } else { Err("healed to something else".into()) }
}

/// The field of 65536 elements, from its polynomial alone.
fn times(mut a: u32, b: u32) -> u32 {
    let mut product = 0;
    for bit in 0..16 {
        if b >> bit & 1 == 1 {
            product ^= a;
        }
        a <<= 1;
        if a >> 16 == 1 {
            a ^= 0x1_002d;
        }
    }
    product
}

/// The element that a word stands for.
fn element(word: u16) -> u32 {
    const BASIS: [u32; 16] = [
        0x0001, 0xacca, 0x3c0e, 0x163e, 0xc582, 0xed2e, 0x914c, 0x4012, 0x6c98, 0x10d8, 0x6a72,
        0xb900, 0xfdb8, 0xfb34, 0xff38, 0x991e,
    ];
    (0..16).filter(|bit| word >> bit & 1 == 1).fold(0, |sum, bit| sum ^ BASIS[bit])
}

#[test]
fn the_code_is_the_one_that_the_format_describes() {
    // All 1024 recovery pieces, so that the sums can be formed.
    let piece = 64;
    for count in [1, 3, 1024, 2050] {
        let pack = bytes(count as u64, count * piece);
        let mut encoder = Encoder::new(1);
        encoder.piece = piece as u32;
        encoder.work = vec![[0; 64]; 2 * RECOVERY_POINTS * piece / 64];
        encoder.update(&pack);
        encoder.add();
        let mut shards = ShardsRefMut::new(2 * RECOVERY_POINTS, piece / 64, &mut encoder.work);
        encoder.engine.fft(&mut shards, 0, RECOVERY_POINTS, RECOVERY_POINTS, 0);
        let recovery = encoder.work.as_flattened()[..RECOVERY_POINTS * piece].to_vec();
        let word =
            |bytes: &[u8], at: usize| element(u16::from_le_bytes([bytes[at], bytes[32 + at]]));
        for row in [0, 31] {
            let points: Vec<(u32, u32)> = recovery
                .chunks(piece)
                .chain(pack.chunks(piece))
                .zip(0..)
                .map(|(bytes, point)| (element(point), word(bytes, row)))
                .collect();
            for power in [0, 1, 2, 5, 1022, 1023] {
                let sum = points.iter().fold(0, |sum, (point, word)| {
                    let factor = (0..power).fold(1, |product, _| times(product, *point));
                    sum ^ times(factor, *word)
                });
                assert_eq!(sum, 0, "{count} pieces, power {power}");
            }
        }
    }
}

#[test]
fn any_three_percent_heal() {
    for length in [1, 1000, 1024, 5000, 262_144, 3_000_001] {
        let pack = bytes(length as u64, length);
        let parity = parity_of(&pack);
        assert!(parity.is_whole());
        assert_eq!(heals(&pack, &parity, |_| {}), Ok(0));
        let run = (length * 3 / 100).max(1);
        let starts = [0, 1, length / 3, length - run].into_iter();
        for start in starts.filter(|start| start + run <= length) {
            for flip in [true, false] {
                let told = heals(&pack, &parity, |damaged| {
                    for byte in &mut damaged[start..start + run] {
                        *byte = if flip { *byte ^ 0xff } else { 0 };
                    }
                });
                assert!(told.is_ok(), "{run} of {length} from {start}: {told:?}");
            }
        }
    }
}

#[test]
fn scattered_sectors_and_bytes_heal_as_far_as_is_promised() {
    let pack = bytes(7, 4 << 20);
    let parity = parity_of(&pack);
    let recovery = parity.header().recovery as usize;
    assert_eq!(recovery, 124, "3 % of 4096 pieces, and one");
    // Sectors of 4096 bytes: 30 of 1024 are 2.9 %.
    let sectors = heals(&pack, &parity, |damaged| {
        for sector in damaged.chunks_mut(4096).step_by(34).take(30) {
            sector.fill(0);
        }
    });
    assert_eq!(sectors, Ok(120));
    let flips = |count: usize| {
        heals(&pack, &parity, |damaged| {
            for piece in damaged.chunks_mut(1024).step_by(33).take(count) {
                piece[500] ^= 1;
            }
        })
    };
    assert_eq!(flips(recovery), Ok(recovery));
    let told = flips(recovery + 1).expect_err("one too many");
    assert!(told.contains("125 of its 4096 pieces") && told.contains("heals 124"), "{told}");
}

#[test]
fn what_cannot_be_read_is_told_apart() {
    let pack = bytes(8, 1 << 20);
    let parity = parity_of(&pack);
    let mut damaged = pack.clone();
    let hole = 500_000..520_480;
    damaged[hole.clone()].fill(0);
    // A piece that is right by accident, but was not read, is lost as well.
    let unread = hole.start as u64..hole.end as u64 + 1024;
    assert_eq!(heal(&parity, &mut damaged, std::slice::from_ref(&unread)), Ok(22));
    assert!(damaged == pack);
    assert!(heal(&parity, &mut damaged[1..], &[]).is_err(), "another length");
}

#[test]
fn damage_to_the_parity_itself_is_borne() {
    let pack = bytes(9, 1 << 20);
    let whole = encoded(&pack, pack.len() as u64);
    let table = 32 + 4 * (1024 + 32);
    let spoil = |damaged: &mut [u8]| damaged[70_000..90_000].fill(1);
    for (from, to) in [(0, table), (whole.len() - table, whole.len())] {
        let mut bytes = whole.clone();
        bytes[from..to].fill(0);
        let parity = Parity::parse(bytes).expect("one header is left");
        assert!(!parity.is_whole());
        assert!(heals(&pack, &parity, spoil).is_ok());
    }
    let mut bytes = whole.clone();
    bytes.truncate(whole.len() - table - 5000);
    let parity = Parity::parse(bytes).expect("the first header");
    assert!(!parity.is_whole());
    assert_eq!(heals(&pack, &parity, spoil), Ok(20), "27 recovery pieces are left");
    // A recovery piece that is damaged is not used.
    let mut bytes = whole.clone();
    for piece in 0..11 {
        bytes[table + piece * 1024 + 7] ^= 1;
    }
    let parity = Parity::parse(bytes).expect("parity");
    assert_eq!(heals(&pack, &parity, spoil), Ok(20));
    assert!(heals(&pack, &parity, |damaged| damaged[..22 * 1024].fill(3)).is_err());
    for at in 0..32 {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        let last = bytes.len() - 32;
        bytes[last + at] ^= 4;
        assert!(Parity::parse(bytes).is_err(), "byte {at} of both headers");
    }
}

#[test]
fn pieces_grow_with_the_longest_pack() {
    for (longest, piece) in [(1, 1024), (32 << 20, 1024), ((32 << 20) + 1, 2048), (1 << 30, 32768)]
    {
        assert_eq!(Encoder::new(longest).piece, piece, "{longest}");
    }
    assert_eq!(recovery_for(32 << 20, 1024), 985);
    assert_eq!(recovery_for(1, 1024), 2);
    let mut encoder = Encoder::new(1);
    assert!(Encoder::new(1).finish().is_none(), "nothing");
    encoder.update(&vec![0; (MAX_PIECES + 1) * 1024]);
    assert!(encoder.finish().is_none(), "longer than was said");
}

#[test]
fn long_pieces_heal_part_by_part() {
    let pack = bytes(11, 1_000_001);
    let parity = Parity::parse(encoded(&pack, 512 << 20)).expect("parity");
    // So long that not all bytes of all pieces are in memory at once.
    assert_eq!(parity.header().piece, 16 << 10);
    assert_eq!(heals(&pack, &parity, |damaged| damaged[500_000..520_000].fill(0)), Ok(2));
    assert_eq!(heals(&pack, &parity, |damaged| damaged[990_000..].fill(0)), Ok(2));
}
