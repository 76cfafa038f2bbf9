//! `known_hosts`: plain and hashed names, `[host]:port`, wildcards, negation, `@revoked` and
//! `@cert-authority`. Lines that cannot be read are skipped, as OpenSSH does.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use russh::keys::{PublicKey, parse_public_key_base64};

use super::super::config::pattern::matches_list;

const LONGEST: u64 = 32 << 20;

/// What a line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    Key,
    Authority,
    Revoked,
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) marker: Marker,
    hosts: Hosts,
    pub(super) key: PublicKey,
    pub(super) file: Arc<Path>,
    /// From 1.
    pub(super) line: usize,
}

#[derive(Debug, Clone)]
enum Hosts {
    /// Comma-separated, with wildcards and negations.
    Patterns(String),
    /// `|1|salt|HMAC-SHA1(salt, name)`
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

impl Entry {
    /// Whether this line is about `name`.
    pub(super) fn matches(&self, name: &str) -> bool {
        match &self.hosts {
            Hosts::Patterns(list) => matches_list(name, list.split(',')),
            Hosts::Hashed { salt, hash } => {
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
                hmac::verify(&key, name.as_bytes(), hash).is_ok()
            }
        }
    }
}

/// All lines that can be read. A missing file has none.
pub(super) fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 32 MiB"));
    }
    let file: Arc<Path> = path.into();
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().enumerate();
    Ok(lines.filter_map(|(at, line)| parse(line, &file, at + 1)).collect())
}

/// One line, or nothing if it says nothing.
pub(super) fn parse(line: &str, file: &Arc<Path>, number: usize) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let first = words.next().filter(|word| !word.starts_with('#'))?;
    let (marker, hosts) = match first {
        "@revoked" => (Marker::Revoked, words.next()?),
        "@cert-authority" => (Marker::Authority, words.next()?),
        other if other.starts_with('@') => return None,
        hosts => (Marker::Key, hosts),
    };
    let algorithm = words.next()?;
    let key = parse_public_key_base64(words.next()?).ok()?;
    if key.algorithm().as_str() != algorithm {
        return None;
    }
    let hosts = match hosts.strip_prefix("|1|") {
        None => Hosts::Patterns(hosts.to_owned()),
        Some(rest) => {
            let (salt, hash) = rest.split_once('|')?;
            let decode = |text: &str| BASE64.decode(text.as_bytes()).ok();
            Hosts::Hashed { salt: decode(salt)?, hash: decode(hash)? }
        }
    };
    Some(Entry { marker, hosts, key, file: Arc::clone(file), line: number })
}
