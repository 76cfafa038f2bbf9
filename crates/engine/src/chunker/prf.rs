//! The secret half of the chunker: a keyed pseudo-random function over the 64 bytes before a
//! candidate. Whoever does not know the key cannot tell which candidates become cuts, and cuts
//! tell nothing about the key. The choice of the function is explained in the parent module.

use super::gear::WINDOW;
use zeroize::Zeroizing;

/// Keyed BLAKE3 of a window; holds the key and wipes it when dropped.
#[derive(Clone)]
pub(super) struct Prf(Zeroizing<[u8; 32]>);

impl Prf {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*key))
    }

    /// The first eight bytes of the keyed hash, little-endian.
    pub(super) fn value(&self, window: &[u8; WINDOW]) -> u64 {
        let hash = blake3::keyed_hash(&self.0, window);
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_frozen() {
        let counting: [u8; 32] = std::array::from_fn(|i| i as u8);
        let window: [u8; 64] = std::array::from_fn(|i| 255 - i as u8);
        let values = [
            Prf::new(&[0; 32]).value(&[0; 64]),
            Prf::new(&counting).value(&[0; 64]),
            Prf::new(&counting).value(&window),
        ];
        let frozen = [0x0014_4255_7186_ca26, 0x6d16_fc3f_321c_3a25, 0xe3f2_44c0_fabf_0d99];
        assert_eq!(values, frozen);
    }

    #[test]
    fn key_and_every_byte_of_the_window_matter() {
        let prf = Prf::new(&[7; 32]);
        let value = prf.value(&[9; 64]);
        assert_ne!(value, Prf::new(&[8; 32]).value(&[9; 64]));
        for i in 0..64 {
            let mut window = [9; 64];
            window[i] ^= 1;
            assert_ne!(value, prf.value(&window), "{i}");
        }
    }
}
