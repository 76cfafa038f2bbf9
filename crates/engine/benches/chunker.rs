//! Speed of the chunker beside the fastcdc crate, and of the functions that could be its PRF.
//! `cargo bench -p holdfast-engine --bench chunker`; compare the fastest samples on a shared machine.

use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{cmac, hmac};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use holdfast_engine::chunker::{Chunker, Params};

fn main() {
    divan::main();
}

/// Small enough that a sample often runs undisturbed, large enough for a few chunks.
const LEN: usize = 4 << 20;

fn random() -> Vec<u8> {
    let mut data = vec![0; LEN];
    blake3::Hasher::new().update(b"bench").finalize_xof().fill(&mut data);
    data
}

fn text() -> Vec<u8> {
    let words = ["the ", "backup ", "of ", "a ", "file\n", "is ", "kept, ", "restored ", "and "];
    random()
        .iter()
        .flat_map(|byte| words[usize::from(*byte) % words.len()].bytes())
        .take(LEN)
        .collect()
}

fn cut_all(bencher: Bencher, chunker: &Chunker, data: &[u8]) {
    bencher.counter(BytesCount::new(LEN)).bench(|| {
        let mut rest = black_box(data);
        let mut chunks = 0;
        while let Some(cut) = chunker.next_cut(rest, true) {
            rest = &rest[cut..];
            chunks += 1;
        }
        chunks
    });
}

#[divan::bench_group(sample_count = 300, sample_size = 1)]
mod chunker {
    use super::*;

    #[divan::bench]
    fn random_default(bencher: Bencher) {
        cut_all(bencher, &Chunker::new(&[1; 32], Params::default()), &random());
    }

    /// Almost nothing is skipped: the speed of the scan itself.
    #[divan::bench]
    fn random_min_64(bencher: Bencher) {
        let params = Params::new(64, 512 << 10, 4 << 20).unwrap();
        cut_all(bencher, &Chunker::new(&[1; 32], params), &random());
    }

    #[divan::bench]
    fn random_small(bencher: Bencher) {
        let params = Params::new(2 << 10, 8 << 10, 64 << 10).unwrap();
        cut_all(bencher, &Chunker::new(&[1; 32], params), &random());
    }

    #[divan::bench]
    fn text_default(bencher: Bencher) {
        cut_all(bencher, &Chunker::new(&[1; 32], Params::default()), &text());
    }

    #[divan::bench]
    fn zeros_default(bencher: Bencher) {
        cut_all(bencher, &Chunker::new(&[1; 32], Params::default()), &vec![0; LEN]);
    }

    /// Twenty-one candidates a KiB: the cap on PRF calls at work.
    #[divan::bench]
    fn dense_default(bencher: Bencher) {
        let mut data = vec![0; 48];
        blake3::Hasher::new().update(b"holdfast period").finalize_xof().fill(&mut data);
        let data: Vec<u8> = data.into_iter().cycle().take(LEN).collect();
        cut_all(bencher, &Chunker::new(&[1; 32], Params::default()), &data);
    }

    #[divan::bench]
    fn fastcdc_crate(bencher: Bencher) {
        let data = random();
        let cut = || {
            let (min, avg, max) = (128 << 10, 512 << 10, 4 << 20);
            fastcdc::v2020::FastCDC::new(black_box(&data), min, avg, max).count()
        };
        bencher.counter(BytesCount::new(LEN)).bench(cut);
    }
}

/// One call over a window of 64 bytes.
#[divan::bench_group(sample_count = 300, sample_size = 1000)]
mod prf {
    use super::*;

    #[divan::bench]
    fn blake3_keyed() -> blake3::Hash {
        blake3::keyed_hash(black_box(&[1; 32]), black_box(&[2; 64]))
    }

    /// A PRF for inputs of one length: the last block of AES-CBC.
    #[divan::bench]
    fn aes_128_cbc_mac(bencher: Bencher) {
        let key = UnboundCipherKey::new(&AES_128, &[1; 16]).unwrap();
        let key = EncryptingKey::cbc(key).unwrap();
        bencher.bench_local(|| {
            let mut window = black_box([2; 64]);
            let iv = EncryptionContext::Iv128(FixedLength::from([0; 16]));
            key.less_safe_encrypt(&mut window, iv).unwrap();
            window
        });
    }

    #[divan::bench]
    fn aes_128_cmac(bencher: Bencher) {
        let key = cmac::Key::new(cmac::AES_128, &[1; 16]).unwrap();
        bencher.bench_local(|| cmac::sign(&key, black_box(&[2; 64])).unwrap());
    }

    #[divan::bench]
    fn hmac_sha256(bencher: Bencher) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
        bencher.bench_local(|| hmac::sign(&key, black_box(&[2; 64])));
    }
}
