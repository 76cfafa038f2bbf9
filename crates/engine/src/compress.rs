//! Compression of blobs: zstd, or the bytes as they are where that is no longer. A frame is the
//! payload and one byte at its end that says which (docs/format.md, "Frames").

use std::fmt;

use crate::crypto::TAG_LEN;
use crate::{Error, Result};

/// What a frame takes besides its payload, sealed.
pub const FRAME_OVERHEAD: usize = 1 + TAG_LEN;

const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Not at all.
    None,
    /// A zstd level.
    Zstd(i32),
}

impl Default for Level {
    fn default() -> Self {
        Self::Zstd(3)
    }
}

impl Level {
    /// Parses `none`, `fast`, `default`, `better`, `max` or a zstd level from -7 to 22.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "none" => Self::None,
            "fast" => Self::Zstd(1),
            "default" => Self::default(),
            "better" => Self::Zstd(9),
            "max" => Self::Zstd(19),
            number => match number.parse() {
                Ok(0) => Self::None,
                Ok(level) if (-7..=22).contains(&level) => Self::Zstd(level),
                _ => return None,
            },
        })
    }
}

/// Compresses frames with one reused context. One a thread.
pub struct Compressor {
    level: Level,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compressor({:?})", self.level)
    }
}

impl Compressor {
    /// A compressor of this level.
    pub fn new(level: Level) -> Self {
        let zstd = match level {
            Level::None => None,
            Level::Zstd(level) => zstd::bulk::Compressor::new(level).ok(),
        };
        Self { level, zstd }
    }

    /// Replaces `frame` by the frame of `plain`, if that is shorter than `plain`. Whether it is; if
    /// not, the frame is [`raw`].
    pub fn shrink(&mut self, plain: &[u8], frame: &mut Vec<u8>) -> bool {
        frame.clear();
        let Some(zstd) = &mut self.zstd else { return false };
        frame.reserve(zstd::zstd_safe::compress_bound(plain.len()) + 1);
        let length = zstd.compress_to_buffer(plain, frame);
        let is_shorter = length.is_ok_and(|length| length < plain.len());
        frame.push(ZSTD);
        is_shorter
    }
}

/// The frame of bytes that stay as they are. Nothing is copied if there is room for what a frame takes
/// besides.
pub fn raw(mut plain: Vec<u8>) -> Vec<u8> {
    // The tag is appended later.
    plain.reserve_exact(FRAME_OVERHEAD);
    plain.push(RAW);
    plain
}

/// Expands frames with one reused context. One a thread.
pub struct Decompressor(Option<zstd::bulk::Decompressor<'static>>);

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressor")
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self(zstd::bulk::Decompressor::new().ok())
    }
}

impl Decompressor {
    /// Replaces `plain` by the content of `frame`, which must be `length` bytes long.
    pub fn expand(&mut self, frame: &[u8], length: usize, plain: &mut Vec<u8>) -> Result<()> {
        let bad = |what: &str| Error::damaged("frame", what);
        let (method, payload) = frame.split_last().ok_or_else(|| bad("it is empty"))?;
        plain.clear();
        match *method {
            RAW if payload.len() == length => plain.extend_from_slice(payload),
            RAW => return Err(bad("its length is not the indexed one")),
            ZSTD => {
                plain.reserve(length);
                let zstd = self.0.as_mut().ok_or_else(|| bad("no memory for zstd"))?;
                zstd.decompress_to_buffer(payload, plain).map_err(|e| bad(&e.to_string()))?;
                if plain.len() != length {
                    return Err(bad("its length is not the indexed one"));
                }
            }
            other => return Err(bad(&format!("unknown compression method {other}"))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_lies() -> Result<()> {
        let text = b"abcabcabc".repeat(1000);
        let noise: Vec<u8> = blake3::hash(b"noise").as_bytes().to_vec();
        for level in [Level::None, Level::Zstd(1), Level::default()] {
            for plain in [&text[..], &noise, b""] {
                let (mut frame, mut out) = (Vec::new(), Vec::new());
                if !Compressor::new(level).shrink(plain, &mut frame) {
                    frame = raw(plain.into());
                }
                assert!(frame.len() <= plain.len() + 1);
                Decompressor::default().expand(&frame, plain.len(), &mut out)?;
                assert_eq!(out, plain);
                for lie in [plain.len() + 1, plain.len().wrapping_sub(1) % 10_000] {
                    assert!(Decompressor::default().expand(&frame, lie, &mut out).is_err());
                }
            }
        }
        Ok(())
    }
}
