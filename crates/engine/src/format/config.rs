//! The `config` object: what a repository is (docs/format.md, "Config"). Readable without a key;
//! its MAC is checked as soon as there is one.

use prost::Message;

use super::VERSION;
use super::envelope::MAGIC;
use crate::bundle::BundleLimits;
use crate::crypto::Keys;

/// Features this program knows: none yet beyond version 1.
const KNOWN_FEATURES: &[&str] = &[];

/// Parameters of a repository, fixed when it is created.
#[derive(Clone, PartialEq, Message)]
pub struct Config {
    /// 32 random bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub repository: Vec<u8>,
    /// When it was created, nanoseconds since the epoch.
    #[prost(sint64, tag = "2")]
    pub created: i64,
    /// The root key, of a repository that is not encrypted; else empty.
    #[prost(bytes = "vec", tag = "3")]
    pub root_key: Vec<u8>,
    /// Features without which a program must not read.
    #[prost(string, repeated, tag = "4")]
    pub features_read: Vec<String>,
    /// Features without which a program must not write.
    #[prost(string, repeated, tag = "5")]
    pub features_write: Vec<String>,
    /// Features without which a program must not run gc.
    #[prost(string, repeated, tag = "6")]
    pub features_gc: Vec<String>,
    /// Features without which a program must not check or repair.
    #[prost(string, repeated, tag = "7")]
    pub features_check: Vec<String>,
    /// Smallest chunk but the last of a file, in bytes.
    #[prost(uint32, tag = "8")]
    pub chunk_min: u32,
    /// Mean chunk.
    #[prost(uint32, tag = "9")]
    pub chunk_avg: u32,
    /// Largest chunk.
    #[prost(uint32, tag = "10")]
    pub chunk_max: u32,
    /// Files smaller than this are bundled.
    #[prost(uint32, tag = "11")]
    pub bundle_below: u32,
    /// Files up to this size sit inside their entry.
    #[prost(uint32, tag = "12")]
    pub inline_up_to: u32,
    /// Bundles: bytes before content may end one.
    #[prost(uint32, tag = "13")]
    pub bundle_min: u32,
    /// Bundles: mean.
    #[prost(uint32, tag = "14")]
    pub bundle_avg: u32,
    /// Bundles: end in any case.
    #[prost(uint32, tag = "15")]
    pub bundle_max: u32,
    /// Tree nodes: bytes before a name may end one.
    #[prost(uint32, tag = "16")]
    pub node_min: u32,
    /// Tree nodes: mean.
    #[prost(uint32, tag = "17")]
    pub node_avg: u32,
    /// Tree nodes: end in any case.
    #[prost(uint32, tag = "18")]
    pub node_max: u32,
    /// Aimed-at size of data packs.
    #[prost(uint32, tag = "19")]
    pub data_pack: u32,
    /// Aimed-at size of tree packs.
    #[prost(uint32, tag = "20")]
    pub tree_pack: u32,
    /// Data packs are padded to this at least; 0: no object is padded.
    #[prost(uint32, tag = "21")]
    pub data_pack_min: u32,
    /// Chunks all of this size instead of content-defined ones, if not 0.
    #[prost(uint32, tag = "22")]
    pub chunk_fixed: u32,
}

impl Config {
    /// The defaults, which docs/format.md explains.
    pub fn with_defaults(repository: [u8; 32], created: i64) -> Self {
        let bundle = BundleLimits::default();
        Self {
            repository: repository.to_vec(),
            created,
            chunk_min: 128 << 10,
            chunk_avg: 512 << 10,
            chunk_max: 4 << 20,
            bundle_below: 128 << 10,
            inline_up_to: 256,
            bundle_min: bundle.min,
            bundle_avg: bundle.avg,
            bundle_max: bundle.max,
            node_min: 1 << 10,
            node_avg: 4 << 10,
            node_max: 64 << 10,
            data_pack: 32 << 20,
            tree_pack: 8 << 20,
            data_pack_min: 256 << 10,
            ..Self::default()
        }
    }

    /// Where bundles end.
    pub fn bundle_limits(&self) -> BundleLimits {
        BundleLimits { min: self.bundle_min, avg: self.bundle_avg, max: self.bundle_max }
    }

    /// Whether there is no root key in it.
    pub fn is_encrypted(&self) -> bool {
        self.root_key.is_empty()
    }

    /// The object: magic, version, length, message, MAC.
    pub fn seal(&self, keys: &Keys) -> Vec<u8> {
        let message = self.encode_to_vec();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        bytes.extend_from_slice(&(message.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&message);
        let mac = keys.config_mac(&bytes);
        bytes.extend_from_slice(&mac);
        bytes
    }

    /// Reads the object. Its MAC is not checked yet: see [`verify`](Self::verify).
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let bad = |what: &str| ConfigError::Damaged(what.into());
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(ConfigError::NotAConfig)?;
        if *magic != MAGIC {
            return Err(ConfigError::NotAConfig);
        }
        let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(|| bad("too short"))?;
        match *version {
            [VERSION, ..] => {}
            [other, ..] => return Err(ConfigError::Newer(format!("format version {other}"))),
        }
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(|| bad("too short"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let message = rest.get(..length).ok_or_else(|| bad("too short"))?;
        if rest.len() != length + 32 {
            return Err(bad("its length is wrong"));
        }
        let config = Self::decode(message).map_err(|e| bad(&e.to_string()))?;
        config.check_bounds().map_err(bad)?;
        Ok(config)
    }

    /// Whether the MAC at the end of the object is right.
    pub fn verify(keys: &Keys, bytes: &[u8]) -> bool {
        bytes
            .split_last_chunk::<32>()
            .is_some_and(|(message, mac)| keys.config_mac(message) == *mac)
    }

    /// The first feature of this list that is not known here.
    pub fn unknown_feature(list: &[String]) -> Option<&str> {
        list.iter().map(String::as_str).find(|f| !KNOWN_FEATURES.contains(f))
    }

    fn check_bounds(&self) -> Result<(), &'static str> {
        const MIB: u32 = 1 << 20;
        if self.repository.len() != 32 {
            return Err("the repository id is not 32 bytes long");
        }
        if !matches!(self.root_key.len(), 0 | 32) {
            return Err("the root key is not 32 bytes long");
        }
        let rising = |min, avg, max, limit| 64 <= min && min < avg && avg < max && max <= limit;
        if !rising(self.chunk_min, self.chunk_avg, self.chunk_max, 64 * MIB)
            || self.chunk_fixed > 64 * MIB
            || (1..64).contains(&self.chunk_fixed)
        {
            return Err("the chunk sizes make no sense");
        }
        if !rising(self.bundle_min, self.bundle_avg, self.bundle_max, 64 * MIB)
            || self.bundle_below > 64 * MIB
            || self.inline_up_to > 64 << 10
        {
            return Err("the bundle sizes make no sense");
        }
        if !rising(self.node_min, self.node_avg, self.node_max, 16 * MIB) {
            return Err("the node sizes make no sense");
        }
        let pack = 64 << 10..=1024 * MIB;
        if !pack.contains(&self.data_pack)
            || !pack.contains(&self.tree_pack)
            || self.data_pack_min > MIB
        {
            return Err("the pack sizes make no sense");
        }
        Ok(())
    }
}

/// A config object could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Some other file.
    #[error("it is not a Holdfast config")]
    NotAConfig,
    /// Of a later format.
    #[error("{0} is not known here")]
    Newer(String),
    /// Broken.
    #[error("{0}")]
    Damaged(String),
}
