//! tar in its PAX form: what a ustar header cannot say is said in records before it. Extended
//! attributes are `SCHILY.xattr.*`, POSIX ACLs `SCHILY.acl.*` in text form, files with holes GNU's
//! sparse format 1.0, as GNU tar and star write and read them.

use std::fmt;
use std::io::{self, Write};

use ::tar::{EntryType, Header};
use holdfast_engine::meta::{Kind, Time};
use holdfast_engine::ops::archive::{Member, Sink};
use holdfast_engine::tree::Entry;

/// Size of a block.
const BLOCK: usize = 512;

/// Largest numbers that fit into the octal fields of a header: owners, and sizes and times.
const OCTAL: (u32, u64) = (0o7_777_777, 0o77_777_777_777);

/// Longest names in a header: of members, and of owners with the zero byte at their end.
const NAME: (usize, usize) = (100, 31);

/// Writes tar.
pub(super) struct TarSink<W> {
    out: W,
    /// Bytes of the member's content still to come, and those after them that fill its last block.
    left: u64,
    padding: usize,
}

impl<W> fmt::Debug for TarSink<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TarSink").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<W: Write> TarSink<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, left: 0, padding: 0 }
    }

    /// Writes the end of the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn pad(&mut self, length: usize) -> io::Result<()> {
        let zeros = [0; BLOCK];
        self.out.write_all(zeros.get(..length).unwrap_or_default())
    }
}

impl<W: Write> Sink for TarSink<W> {
    fn holds(&self, kind: Kind) -> bool {
        kind != Kind::Socket
    }

    fn holds_hard_links(&self) -> bool {
        true
    }

    fn skips_holes(&self) -> bool {
        true
    }

    fn begin(&mut self, member: &Member<'_>) -> io::Result<()> {
        let entry = member.entry;
        let mut records = Records::default();
        let mut name = member.name.to_vec();
        if entry.metadata.kind == Kind::Directory {
            if name.is_empty() {
                name.push(b'.');
            }
            name.push(b'/');
        }
        // Links have the attributes of what they lead to.
        if member.link_to.is_none() {
            for xattr in member.xattrs {
                records.xattr(&xattr.name, &xattr.value);
            }
        }
        let map = match member.has_content() && !entry.extents.is_empty() {
            true => Some(sparse_map(entry)),
            false => None,
        };
        let data = match (&map, member.has_content()) {
            (_, false) => 0,
            (None, true) => entry.metadata.size,
            (Some(_), true) => entry.extents.iter().map(|extent| extent.length).sum(),
        };
        let size = data + map.as_ref().map_or(0, Vec::len) as u64;
        if map.is_some() {
            records.add(b"GNU.sparse.major", b"1");
            records.add(b"GNU.sparse.minor", b"0");
            records.add(b"GNU.sparse.name", &name);
            records.add(b"GNU.sparse.realsize", entry.metadata.size.to_string().as_bytes());
            let at = name.iter().rposition(|c| *c == b'/').map_or(0, |at| at + 1);
            name.splice(at..at, *b"GNUSparseFile.0/");
        }
        let link = match (member.link_to, entry.metadata.kind) {
            (Some(first), _) => first,
            (None, Kind::Symlink) => &entry.target,
            _ => b"",
        };
        let mut header = Header::new_ustar();
        header.set_entry_type(entry_type(member));
        header.set_size(size);
        if size > OCTAL.1 {
            records.add(b"size", size.to_string().as_bytes());
        }
        fill(&mut header, &mut records, entry)?;
        records.path(b"path", &name, field(&mut header, 0));
        records.path(b"linkpath", link, field(&mut header, 157));
        header.set_cksum();
        records.write(&mut self.out, &name)?;
        self.out.write_all(header.as_bytes())?;
        if let Some(map) = &map {
            self.out.write_all(map)?;
        }
        self.left = data;
        self.padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let rest = self.left.checked_sub(bytes.len() as u64);
        self.left =
            rest.ok_or_else(|| io::Error::other("a file is longer than its header says"))?;
        self.out.write_all(bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::other("a file is shorter than its header says"));
        }
        self.pad(self.padding)
    }
}

fn entry_type(member: &Member<'_>) -> EntryType {
    match member.entry.metadata.kind {
        _ if member.link_to.is_some() => EntryType::Link,
        Kind::Directory => EntryType::Directory,
        Kind::Symlink => EntryType::Symlink,
        Kind::CharDevice => EntryType::Char,
        Kind::BlockDevice => EntryType::Block,
        Kind::Fifo => EntryType::Fifo,
        Kind::File | Kind::Socket => EntryType::Regular,
    }
}

/// A name's field in a header.
fn field(header: &mut Header, at: usize) -> &mut [u8] {
    header.as_mut_bytes().get_mut(at..at + NAME.0).unwrap_or_default()
}

/// Puts metadata into a header, and what does not fit into records.
fn fill(header: &mut Header, records: &mut Records, entry: &Entry) -> io::Result<()> {
    let m = &entry.metadata;
    header.set_mode(m.mode);
    for (key, number) in [(&b"uid"[..], m.owner.uid), (b"gid", m.owner.gid)] {
        if number > OCTAL.0 {
            records.add(key, number.to_string().as_bytes());
        }
    }
    header.set_uid(u64::from(m.owner.uid));
    header.set_gid(u64::from(m.owner.gid));
    let seconds = u64::try_from(m.mtime.seconds).unwrap_or(0);
    header.set_mtime(seconds.min(OCTAL.1));
    if m.mtime.nanos > 0 || seconds > OCTAL.1 || m.mtime.seconds < 0 {
        records.add(b"mtime", decimal(m.mtime).as_bytes());
    }
    let fits = |name: &str| name.len() <= NAME.1 && name.is_ascii();
    if fits(&m.owner.user) {
        header.set_username(&m.owner.user)?;
    } else {
        records.add(b"uname", m.owner.user.as_bytes());
    }
    if fits(&m.owner.group) {
        header.set_groupname(&m.owner.group)?;
    } else {
        records.add(b"gname", m.owner.group.as_bytes());
    }
    if let Some((major, minor)) = m.device {
        header.set_device_major(major.min(OCTAL.0))?;
        header.set_device_minor(minor.min(OCTAL.0))?;
        if major > OCTAL.0 || minor > OCTAL.0 {
            records.add(b"SCHILY.devmajor", major.to_string().as_bytes());
            records.add(b"SCHILY.devminor", minor.to_string().as_bytes());
        }
    }
    Ok(())
}

/// Seconds since the epoch with nine decimals: -0.5 s is `-0.500000000`.
fn decimal(time: Time) -> String {
    let Time { seconds, nanos } = time;
    match (seconds, nanos) {
        (seconds, 0) => seconds.to_string(),
        (..0, nanos) => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
        (seconds, nanos) => format!("{seconds}.{nanos:09}"),
    }
}

/// Where the data of a file with holes lies, before it: the number of extents, then offset and
/// length of each, one a line, filled up to whole blocks. A hole at the end needs an empty extent.
fn sparse_map(entry: &Entry) -> Vec<u8> {
    let size = entry.metadata.size;
    let data = entry.extents.iter().filter(|extent| extent.length > 0);
    let mut lines: Vec<(u64, u64)> = data.map(|extent| (extent.offset, extent.length)).collect();
    if lines.last().is_none_or(|(offset, length)| offset + length < size) {
        lines.push((size, 0));
    }
    let mut map = format!("{}\n", lines.len()).into_bytes();
    for (offset, length) in lines {
        map.extend_from_slice(format!("{offset}\n{length}\n").as_bytes());
    }
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// Records of an extended header.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
}

impl Records {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        record(&mut self.bytes, key, value);
    }

    /// Puts a path into a header's field, or into a record if it does not fit there. A field needs
    /// no zero byte at its end.
    fn path(&mut self, key: &[u8], path: &[u8], field: &mut [u8]) {
        let length = path.len().min(field.len());
        if let (Some(field), Some(path)) = (field.get_mut(..length), path.get(..length)) {
            field.copy_from_slice(path);
        }
        if path.len() > length || !path.is_ascii() {
            self.add(key, path);
        }
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) {
        let acl = match name {
            b"system.posix_acl_access" => acl_text(value).map(|text| ("access", text)),
            b"system.posix_acl_default" => acl_text(value).map(|text| ("default", text)),
            _ => None,
        };
        if let Some((which, text)) = acl {
            return self.add(format!("SCHILY.acl.{which}").as_bytes(), text.as_bytes());
        }
        let mut key = b"SCHILY.xattr.".to_vec();
        for c in name {
            // The record ends its key with this.
            match c {
                b'=' => key.extend_from_slice(b"%3D"),
                b'%' => key.extend_from_slice(b"%25"),
                c => key.push(*c),
            }
        }
        self.add(&key, value);
    }

    /// Writes the extended header of the member `name`, if there is anything in it.
    fn write(self, out: &mut impl Write, name: &[u8]) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        // A path that is not UTF-8 is written as it is, as GNU tar does, and not announced by
        // `hdrcharset`, of which GNU tar complains.
        let mut bytes = self.bytes;
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        for set in [Header::set_uid, Header::set_gid, Header::set_mtime] {
            set(&mut header, 0);
        }
        let last = name.strip_suffix(b"/").unwrap_or(name).rsplit(|c| *c == b'/').next();
        let shown = [b"PaxHeaders/", last.unwrap_or_default()].concat();
        let into = field(&mut header, 0);
        into.iter_mut().zip(shown).for_each(|(to, from)| *to = from);
        header.set_cksum();
        out.write_all(header.as_bytes())?;
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        out.write_all(&bytes)
    }
}

/// `LENGTH KEY=VALUE` and a newline; the length counts all of it, its own digits included.
fn record(into: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() > length {
        length += 1;
    }
    into.extend_from_slice(format!("{length} ").as_bytes());
    into.extend_from_slice(key);
    into.push(b'=');
    into.extend_from_slice(value);
    into.push(b'\n');
}

/// The text form of a POSIX ACL as the kernel gives it (version 2). `None` if it is none.
fn acl_text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 || entries.is_empty() || entries.len() % 8 != 0 {
        return None;
    }
    let mut text = String::new();
    for entry in entries.chunks_exact(8) {
        let (tag, rest) = entry.split_first_chunk::<2>()?;
        let (rights, id) = rest.split_first_chunk::<2>()?;
        let id = u32::from_le_bytes(*id.first_chunk::<4>()?);
        let (tag, id) = match u16::from_le_bytes(*tag) {
            0x01 => ("user", String::new()),
            0x02 => ("user", id.to_string()),
            0x04 => ("group", String::new()),
            0x08 => ("group", id.to_string()),
            0x10 => ("mask", String::new()),
            0x20 => ("other", String::new()),
            _ => return None,
        };
        let rights = u16::from_le_bytes(*rights);
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&format!("{tag}:{id}:"));
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            text.push(if rights & bit != 0 { letter } else { '-' });
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_length() {
        let of = |value: &[u8]| {
            let mut bytes = Vec::new();
            record(&mut bytes, b"path", value);
            bytes
        };
        assert_eq!(of(b"x"), b"9 path=x\n");
        assert_eq!(of(b"xy"), b"11 path=xy\n");
        for length in [1, 2, 90, 91, 92, 93, 984, 985, 990, 9981] {
            let bytes = of(&vec![b'x'; length]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let told = text.split(' ').next().and_then(|number| number.parse().ok());
            assert_eq!(told, Some(bytes.len()));
        }
    }

    #[test]
    fn times_before_the_epoch_are_whole_numbers_with_decimals() {
        let of = |seconds, nanos| decimal(Time { seconds, nanos });
        assert_eq!(of(5, 30), "5.000000030");
        assert_eq!(of(-1, 500_000_000), "-0.500000000");
        assert_eq!(of(-2, 999_999_999), "-1.000000001");
        assert_eq!((of(-2, 0), of(i64::MIN, 1).as_str().len() > 10), ("-2".into(), true));
    }

    #[test]
    fn acls_have_a_text_form() {
        let entry = |tag: u16, rights: u16, id: u32| {
            [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let none = u32::MAX;
        let entries = [
            entry(1, 6, none),
            entry(2, 4, 1000),
            entry(4, 5, none),
            entry(8, 7, 20),
            entry(16, 4, none),
            entry(32, 0, none),
        ];
        let value = [2_u32.to_le_bytes().to_vec(), entries.concat()].concat();
        let text = "user::rw-,user:1000:r--,group::r-x,group:20:rwx,mask::r--,other::---";
        assert_eq!(acl_text(&value).as_deref(), Some(text));
        assert_eq!(
            (acl_text(b""), acl_text(b"\x01\0\0\0"), acl_text(&value[..10])),
            (None, None, None)
        );
    }
}
