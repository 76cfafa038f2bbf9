//! The encryption that OpenSSL used inside PKCS#1 and SEC1 files: a key from MD5 of passphrase and
//! salt (`EVP_BytesToKey`, one round), then CBC. Weak, but such keys are in use.

use aes::{Aes128, Aes192, Aes256};
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use des::TdesEde3;
use zeroize::Zeroizing;

use super::KeyProblem;

/// Plain bytes. A wrong passphrase is seen here by the padding, else by what reads the result.
pub(super) fn decrypt(
    cipher: &str,
    iv: &[u8],
    passphrase: &str,
    bytes: &[u8],
) -> Result<Zeroizing<Vec<u8>>, KeyProblem> {
    let length = match cipher {
        "AES-128-CBC" => 16,
        "AES-192-CBC" | "DES-EDE3-CBC" => 24,
        "AES-256-CBC" => 32,
        other => return Err(KeyProblem::UnsupportedEncryption(other.chars().take(40).collect())),
    };
    let key = derive(passphrase, iv, length);
    let plain = match cipher {
        "AES-128-CBC" => open::<Decryptor<Aes128>>(&key, iv, bytes),
        "AES-192-CBC" => open::<Decryptor<Aes192>>(&key, iv, bytes),
        "AES-256-CBC" => open::<Decryptor<Aes256>>(&key, iv, bytes),
        _ => open::<Decryptor<TdesEde3>>(&key, iv, bytes),
    };
    plain.ok_or(KeyProblem::WrongPassphrase)
}

fn open<D: KeyIvInit + BlockModeDecrypt>(
    key: &[u8],
    iv: &[u8],
    bytes: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let decryptor = D::new_from_slices(key, iv).ok()?;
    let mut buffer = Zeroizing::new(bytes.to_vec());
    let length = decryptor.decrypt_padded::<Pkcs7>(&mut buffer).ok()?.len();
    buffer.truncate(length);
    Some(buffer)
}

fn derive(passphrase: &str, iv: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let salt = iv.get(..8).unwrap_or(iv);
    let mut key = Zeroizing::new(Vec::with_capacity(48));
    let mut last: Option<[u8; 16]> = None;
    while key.len() < length {
        let mut hash = md5::Context::new();
        if let Some(last) = last {
            hash.consume(last);
        }
        hash.consume(passphrase.as_bytes());
        hash.consume(salt);
        let digest = hash.finalize().0;
        key.extend_from_slice(&digest);
        last = Some(digest);
    }
    key.truncate(length);
    key
}
