//! THE on-disk format, and nothing else: bytes to types and back, after docs/format.md. No input
//! or output, no clock. Decoders are total: any bytes give a value or an error, never a panic.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

pub mod config;
pub mod envelope;
pub mod index;
pub mod keyslot;
pub mod pack;
pub mod parity;
pub mod session;
pub mod snapshot;
pub mod tree;

/// Format version written and read by this program.
pub const VERSION: u8 = 1;

/// Rounds a length up by Padmé (Nikitin et al., 2019): at most 12 % more, and only
/// O(log log length) bits of the length are told.
pub fn padme(length: u64) -> u64 {
    if length < 2 {
        return length;
    }
    let exponent = length.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1_u64 << exponent.saturating_sub(kept)) - 1;
    length.saturating_add(mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::padme;

    #[test]
    fn padme_rounds_up_a_little() {
        assert_eq!([0, 1, 2, 9, 100, 1025].map(padme), [0, 1, 2, 10, 104, 1088]);
        for length in (1..1_000_000_u64).step_by(997) {
            let padded = padme(length);
            assert!(padded >= length && padded <= length + length / 8, "{length} {padded}");
        }
    }
}
