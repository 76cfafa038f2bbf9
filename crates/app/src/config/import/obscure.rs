//! rclone's obscured passwords: AES-256 in counter mode under a key that is published with rclone,
//! behind the counter's first value, in base64 for URLs. No protection but from a glance.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

const KEY: [u8; 32] = [
    0x9c, 0x93, 0x5b, 0x48, 0x73, 0x0a, 0x55, 0x4d, 0x6b, 0xfd, 0x7c, 0x63, 0xc8, 0x86, 0xa9, 0x2b,
    0xd3, 0x90, 0x19, 0x8e, 0xb8, 0x12, 0x8a, 0xfb, 0xf4, 0xde, 0x16, 0x2b, 0x8b, 0x95, 0xf6, 0x38,
];
const BLOCK: usize = 16;

/// The password; `None` if it was not obscured.
pub(super) fn reveal(text: &str) -> Option<Zeroizing<String>> {
    let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(text.trim().as_bytes()).ok()?);
    let (first, hidden) = bytes.split_first_chunk::<BLOCK>()?;
    let cipher = Aes256::new(&KEY.into());
    let mut counter = u128::from_be_bytes(*first);
    let mut plain = Zeroizing::new(Vec::with_capacity(hidden.len()));
    for block in hidden.chunks(BLOCK) {
        let mut stream = counter.to_be_bytes().into();
        cipher.encrypt_block(&mut stream);
        plain.extend(block.iter().zip(stream.iter()).map(|(hidden, key)| hidden ^ key));
        counter = counter.wrapping_add(1);
    }
    let text = std::str::from_utf8(&plain).ok()?;
    (!text.contains('\0')).then(|| Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rclone_obscured_is_revealed() {
        for (obscured, plain) in [
            ("YWFhYWFhYWFhYWFhYWFhYQ", ""),
            ("YWFhYWFhYWFhYWFhYWFhYXMaGgIlEQ", "potato"),
            ("YmJiYmJiYmJiYmJiYmJiYp3gcEWbAw", "potato"),
            // Several blocks, and a counter that begins anew, as OpenSSL does it.
            (LONG, "hunter2 is a long enough secret for three blocks."),
        ] {
            assert_eq!(reveal(obscured).as_deref().map(String::as_str), Some(plain));
        }
        for other in ["", "YWFh", "not base64!", "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8"] {
            assert_eq!(reveal(other), None, "{other}");
        }
    }

    const LONG: &str =
        "_____________________4Rmudd5QLm52zRFftOXuqwj-8wMOorPqQFCcUiB4O0trfuB7r8FC7o3-NkiSe2ghGk";
}
