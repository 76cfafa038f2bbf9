//! Recovery kits: a page of text to be printed, with a key of its own and the bytes of `config`, so
//! that both can be typed in again. Every line carries a checksum of its own, so that a slip of the
//! finger is named with its line. Only lines that begin with `key` or `config` and a number count.

use std::collections::BTreeMap;
use std::path::Path;

use holdfast_engine::Error;
use holdfast_engine::format::keyslot::{Cost, Secret};
use holdfast_engine::hash::{RecordId, Sha256};
use holdfast_engine::repo::Repository;
use holdfast_engine::storage::ObjectName;
use zeroize::Zeroizing;

use crate::problem::{Class, Problem};
use crate::text::{printable, printable_os};
use crate::times;

/// Digits that are hard to confuse; `I`, `L` and `O` are read as what they look like.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Bytes in a line, without its checksum.
const LINE: usize = 8;

/// A kit that was made.
#[derive(Debug)]
pub struct Kit {
    /// The slot that its key opens.
    pub slot: RecordId,
    /// The page.
    pub text: Zeroizing<String>,
}

/// Gives the repository a slot with a new key, and makes the page that holds it. `host` is this
/// machine's name. Whoever cannot hand the page over should remove the slot.
pub fn make(repository: &Repository, host: &str) -> Result<Kit, Error> {
    let config = repository.storage().get(&ObjectName::config())?;
    let key = Zeroizing::new(
        holdfast_engine::crypto::random::<32>().map_err(|e| Error::Worker(e.to_string()))?,
    );
    let now = times::now();
    let secret = Secret::KeyFile(key.clone());
    let slot = repository.add_slot(&secret, Cost::default(), "recovery kit", host, now)?;
    let text = page(&Page {
        location: &repository.location(),
        repository: &repository.id().to_string(),
        slot: &slot.short(),
        made: &format!("{} on {}", times::local(now), printable(host.as_bytes())),
        key: &key,
        config: &config,
    });
    Ok(Kit { slot, text })
}

/// What a page says.
#[derive(Debug)]
struct Page<'a> {
    /// Where the repository is, to be typed.
    location: &'a str,
    /// Its id.
    repository: &'a str,
    /// The slot that the key opens.
    slot: &'a str,
    /// When and where the page was made.
    made: &'a str,
    /// The key: what a key file holds.
    key: &'a [u8; 32],
    /// The bytes of `config`.
    config: &'a [u8],
}

/// The page.
fn page(page: &Page<'_>) -> Zeroizing<String> {
    let Page { location, repository, slot, made, key, config } = page;
    let (key, config) = (armour("key", &key[..]), armour("config", config));
    Zeroizing::new(format!(
        "\
HOLDFAST RECOVERY KIT

Repository  {location}
Id          {repository}
Made        {made}
Key slot    {slot}

This page opens the repository, whatever becomes of passphrases and key files.
Keep it where you keep papers of value, not beside the backups: whoever has both
can read everything. `holdfast key remove {slot}` makes the page worthless.

HOW TO GET FILES BACK

1. Have the program at hand, and the repository or a copy of it.
2. Type the lines below that begin with \"key\" and \"config\" into a file kit.txt.
   Each line is checked by itself. Spaces, dashes and capitals do not matter.
3. holdfast at LOCATION ls --key-file kit.txt
   LOCATION is what stands above behind \"Repository\", or where it is now.
4. If step 3 says that there is no repository, its config is gone. Put it back:
   holdfast at LOCATION repair config --kit kit.txt
5. holdfast at LOCATION restore -to /tmp/restored latest --key-file kit.txt

THE KEY

{key}
THE CONFIG

{config}"
    ))
}

/// The key in the lines of a kit; `None` if `text`, read from `path`, is none.
pub fn key(text: &str, path: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, Problem> {
    let Some(bytes) = read("key", text, path)? else { return Ok(None) };
    let key = <[u8; 32]>::try_from(&bytes[..]).map_err(|_| incomplete("key", path))?;
    Ok(Some(Zeroizing::new(key)))
}

/// The bytes of `config` in the lines of a kit; `None` if there are none.
pub fn config(text: &str, path: &Path) -> Result<Option<Vec<u8>>, Problem> {
    Ok(read("config", text, path)?.map(|bytes| bytes.to_vec()))
}

/// The lines of a part: length (two bytes, little-endian) and bytes, filled with zeros.
fn armour(part: &str, bytes: &[u8]) -> String {
    let mut plain = Zeroizing::new((bytes.len() as u16).to_le_bytes().to_vec());
    plain.extend_from_slice(bytes);
    let mut text = String::new();
    for (number, line) in (1..).zip(plain.chunks(LINE)) {
        let mut eight = [0; LINE];
        eight.iter_mut().zip(line).for_each(|(to, from)| *to = *from);
        let [a, b] = checksum(part, number, &eight);
        let mut value =
            eight.iter().chain(&[a, b]).fold(0_u128, |v, byte| v << 8 | u128::from(*byte));
        let mut digits = [0_u8; 16];
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS.get((value % 32) as usize).copied().unwrap_or_default();
            value /= 32;
        }
        let groups: Vec<_> = digits.chunks(4).map(String::from_utf8_lossy).collect();
        text.push_str(&format!("{part} {number:>2}: {}\n", groups.join(" ")));
    }
    text
}

fn checksum(part: &str, number: usize, line: &[u8; LINE]) -> [u8; 2] {
    let mut hash = Sha256::default();
    hash.update(format!("holdfast kit {part} {number} ").as_bytes());
    hash.update(line);
    let [a, b, ..] = *hash.finish().as_bytes();
    [a, b]
}

fn incomplete(part: &str, path: &Path) -> Problem {
    let shown = printable_os(path);
    Problem::new(
        Class::KeyUnreadable,
        format!("{shown} lacks lines of the kit that begin with {part}"),
    )
    .hint(format!("type all lines that begin with {part}, the last one too"))
}

/// Reads the lines of a part back.
fn read(part: &str, text: &str, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Problem> {
    let mut lines = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim().to_ascii_lowercase();
        let Some((number, digits)) = line.strip_prefix(part).and_then(|rest| rest.split_once(':'))
        else {
            continue;
        };
        let Ok(number) = number.trim().parse::<usize>() else { continue };
        let eight = read_line(part, number, digits).ok_or_else(|| {
            let shown = printable_os(path);
            Problem::new(
                Class::KeyUnreadable,
                format!("line {part} {number} of {shown} is mistyped"),
            )
            .hint("compare it with the page, digit by digit: 16 of them")
        })?;
        lines.insert(number, eight);
    }
    if lines.is_empty() {
        return Ok(None);
    }
    if !lines.keys().copied().eq(1..=lines.len()) {
        return Err(incomplete(part, path));
    }
    let plain: Zeroizing<Vec<u8>> = Zeroizing::new(lines.into_values().flatten().collect());
    let bytes = plain
        .split_first_chunk::<2>()
        .and_then(|(length, rest)| rest.get(..usize::from(u16::from_le_bytes(*length))));
    bytes.map(|bytes| Some(Zeroizing::new(bytes.to_vec()))).ok_or_else(|| incomplete(part, path))
}

fn read_line(part: &str, number: usize, digits: &str) -> Option<[u8; LINE]> {
    let (mut value, mut count) = (0_u128, 0);
    for digit in digits.bytes().filter(|c| !matches!(c, b' ' | b'\t' | b'-')) {
        let digit = match digit.to_ascii_uppercase() {
            b'I' | b'L' => b'1',
            b'O' => b'0',
            other => other,
        };
        let digit = DIGITS.iter().position(|d| *d == digit)?;
        (value, count) = (value.checked_mul(32)?.checked_add(digit as u128)?, count + 1);
    }
    let bytes = value.to_be_bytes();
    let (eight, sum) = bytes.get(6..)?.split_first_chunk::<LINE>()?;
    (count == 16 && *sum == checksum(part, number, eight)[..]).then_some(*eight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kit() -> Zeroizing<String> {
        let config: Vec<u8> = (0..151).collect();
        let key = std::array::from_fn(|i| 255 - i as u8);
        page(&Page {
            location: "/mnt/a",
            repository: "00ff",
            slot: "1a2b3c4d",
            made: "now",
            key: &key,
            config: &config,
        })
    }

    #[test]
    fn what_is_typed_in_again_is_what_was_printed() -> Result<(), Problem> {
        let (text, path) = (kit(), Path::new("kit.txt"));
        let typed = text.to_lowercase().replace('0', "o").replace('1', "l");
        // The numbers of lines are numbers.
        let typed: Vec<_> = typed
            .lines()
            .zip(text.lines())
            .map(|(typed, line)| match (typed.split_once(':'), line.split_once(':')) {
                (Some((_, digits)), Some((name, _))) => {
                    format!("  {}:{}", name.to_uppercase(), digits.replace(' ', "-"))
                }
                _ => typed.to_owned(),
            })
            .collect();
        for text in [text.to_string(), typed.join("\r\n")] {
            let key = key(&text, path)?.map(|key| (key[0], key[31]));
            assert_eq!(key, Some((255, 224)));
            assert_eq!(config(&text, path)?, Some((0..151).collect()));
        }
        assert!(text.lines().all(|line| line.len() <= 80), "it must fit a page");
        assert!(key("some text\nkey: none", path)?.is_none());
        Ok(())
    }

    #[test]
    fn a_slip_is_named_with_its_line() {
        let (text, path) = (kit(), Path::new("kit.txt"));
        let lines: Vec<&str> = text.lines().collect();
        let at = lines.iter().position(|line| line.starts_with("key  3")).unwrap_or_default();
        let with = |line: &str| {
            let mut lines = lines.clone();
            lines[at] = line;
            key(&lines.join("\n"), path).map(|key| key.is_some()).map_err(|p| p.message)
        };
        let good = lines[at].to_owned();
        assert_eq!(with(&good), Ok(true));
        for i in 8..good.len() {
            let digit = if &good[i..=i] == "7" { "8" } else { "7" };
            let bad = format!("{}{digit}{}", &good[..i], &good[i + 1..]);
            assert_eq!(with(&bad), Err("line key 3 of kit.txt is mistyped".into()), "{bad}");
        }
        let other = lines[at + 1].replace("key  4", "key  3");
        assert!(with(&other).is_err(), "lines may not change places");
        assert!(with("").is_err_and(|message| message.contains("lacks lines")));
        let short = lines[..lines.len() - 1].join("\n");
        assert!(config(&short, path).is_err_and(|p| p.message.contains("lacks lines")));
    }
}
