//! zip as a stream: sizes and checksums follow the content, since they are not known before.
//! Names are the bytes they are, marked as UTF-8 where they are; times and owners are also in the
//! extra fields of Info-ZIP. ZIP64 where a number needs it. The directory at the end is kept in
//! memory until then, some 120 bytes and a name for each member.

use std::fmt;
use std::io::{self, Write};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use holdfast_engine::meta::{Kind, Metadata, Time};
use holdfast_engine::ops::archive::{Member, Sink};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A number that stands in the ZIP64 field in place of here.
const ELSEWHERE: u32 = u32::MAX;

/// A file of this size might not fit without ZIP64: deflate adds a little to what it cannot make
/// smaller.
const BIG: u64 = 0xfff0_0000;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Flags: sizes and checksum follow the content; the name is UTF-8.
const FOLLOWS: u16 = 1 << 3;
const UTF8: u16 = 1 << 11;

/// Version of the format that is needed to read a member: 2.0, or 4.5 for ZIP64.
const VERSIONS: (u16, u16) = (20, 45);

/// Counts what is written.
struct Counted<W> {
    out: W,
    at: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What is being written.
enum State<W: Write> {
    Between(Counted<W>),
    Content(Box<DeflateEncoder<Counted<W>>>),
    /// An error came between.
    Broken,
}

/// What is said of a member both before it and at the end.
struct Header {
    name: Vec<u8>,
    extra: Vec<u8>,
    flags: u16,
    method: u16,
    time: (u16, u16),
    attributes: u32,
    is_big: bool,
    offset: u64,
    crc: u32,
    packed: u64,
    plain: u64,
}

/// Writes zip.
pub(super) struct ZipSink<W: Write> {
    state: State<W>,
    member: Option<(Header, Crc, u64)>,
    directory: Vec<u8>,
    members: u64,
}

impl<W: Write> fmt::Debug for ZipSink<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZipSink").field("members", &self.members).finish_non_exhaustive()
    }
}

fn broken() -> io::Error {
    io::Error::other("the archive cannot go on after an error")
}

impl<W: Write> ZipSink<W> {
    pub(super) fn new(out: W) -> Self {
        let state = State::Between(Counted { out, at: 0 });
        Self { state, member: None, directory: Vec::new(), members: 0 }
    }

    /// Writes the directory and the end of the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let mut out = self.between()?;
        let (start, size) = (out.at, self.directory.len() as u64);
        out.write_all(&self.directory)?;
        let end = out.at;
        let is_big = start >= u64::from(ELSEWHERE)
            || size >= u64::from(ELSEWHERE)
            || self.members >= u64::from(u16::MAX);
        let mut tail = Vec::new();
        if is_big {
            put(&mut tail, 4, 0x0606_4b50);
            put(&mut tail, 8, 44);
            put(&mut tail, 2, u64::from(3 << 8 | VERSIONS.1));
            put(&mut tail, 2, u64::from(VERSIONS.1));
            for (bytes, number) in
                [(4, 0), (4, 0), (8, self.members), (8, self.members), (8, size), (8, start)]
            {
                put(&mut tail, bytes, number);
            }
            // Where that is, and the number of disks.
            put(&mut tail, 4, 0x0706_4b50);
            for (bytes, number) in [(4, 0), (8, end), (4, 1)] {
                put(&mut tail, bytes, number);
            }
        }
        put(&mut tail, 4, 0x0605_4b50);
        let members = self.members.min(u64::from(u16::MAX));
        let most = u64::from(ELSEWHERE);
        let (size, start) = (size.min(most), start.min(most));
        for (bytes, number) in
            [(2, 0), (2, 0), (2, members), (2, members), (4, size), (4, start), (2, 0)]
        {
            put(&mut tail, bytes, number);
        }
        out.write_all(&tail)?;
        Ok(out.out)
    }

    fn between(&mut self) -> io::Result<Counted<W>> {
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Between(out) => Ok(out),
            _ => Err(broken()),
        }
    }

    /// Adds a member that is complete to the directory.
    fn record(&mut self, header: Header) {
        let Header { offset, crc, packed, plain, .. } = header;
        let most = u64::from(ELSEWHERE);
        let mut numbers = Vec::new();
        for number in [plain, packed, offset].into_iter().filter(|number| *number >= most) {
            put(&mut numbers, 8, number);
        }
        let mut extra = Vec::new();
        if !numbers.is_empty() {
            put(&mut extra, 2, 1);
            put(&mut extra, 2, numbers.len() as u64);
            extra.append(&mut numbers);
        }
        let is_big = header.is_big || !extra.is_empty();
        extra.extend_from_slice(&header.extra);
        let version = if is_big { VERSIONS.1 } else { VERSIONS.0 };
        let to = &mut self.directory;
        put(to, 4, 0x0201_4b50);
        // Made on Unix, so that the attributes are a Unix mode.
        put(to, 2, u64::from(3 << 8 | version));
        let fields = [
            (2, u64::from(version)),
            (2, u64::from(header.flags)),
            (2, u64::from(header.method)),
            (2, u64::from(header.time.0)),
            (2, u64::from(header.time.1)),
            (4, u64::from(crc)),
            (4, packed.min(most)),
            (4, plain.min(most)),
            (2, header.name.len() as u64),
            (2, extra.len() as u64),
            (2, 0),
            (2, 0),
            (2, 0),
            (4, u64::from(header.attributes)),
            (4, offset.min(most)),
        ];
        for (bytes, number) in fields {
            put(to, bytes, number);
        }
        to.extend_from_slice(&header.name);
        to.extend_from_slice(&extra);
        self.members += 1;
    }
}

impl<W: Write> Sink for ZipSink<W> {
    fn holds(&self, kind: Kind) -> bool {
        matches!(kind, Kind::File | Kind::Directory | Kind::Symlink)
    }

    fn holds_hard_links(&self) -> bool {
        false
    }

    fn skips_holes(&self) -> bool {
        false
    }

    fn begin(&mut self, member: &Member<'_>) -> io::Result<()> {
        let metadata = &member.entry.metadata;
        let mut name = member.name.to_vec();
        if metadata.kind == Kind::Directory {
            if name.is_empty() {
                // The top has no name here.
                return Ok(());
            }
            name.push(b'/');
        }
        if name.len() > usize::from(u16::MAX) {
            return Err(io::Error::other("a path is too long for zip"));
        }
        let follows = metadata.kind == Kind::File && metadata.size > 0;
        let content: &[u8] = match metadata.kind {
            Kind::Symlink => &member.entry.target,
            _ => b"",
        };
        let mut crc = Crc::new();
        crc.update(content);
        let mut out = self.between()?;
        let mut header = Header {
            flags: if follows { FOLLOWS } else { 0 },
            method: if follows { DEFLATED } else { STORED },
            time: dos_time(metadata.mtime),
            attributes: attributes(metadata),
            extra: extra(metadata),
            is_big: follows && metadata.size >= BIG,
            offset: out.at,
            crc: crc.sum(),
            packed: content.len() as u64,
            plain: content.len() as u64,
            name,
        };
        if std::str::from_utf8(&header.name).is_ok() && !header.name.is_ascii() {
            header.flags |= UTF8;
        }
        write_local(&mut out, &header)?;
        out.write_all(content)?;
        if follows {
            let start = out.at;
            self.member = Some((header, Crc::new(), start));
            let encoder = DeflateEncoder::new(out, Compression::fast());
            self.state = State::Content(Box::new(encoder));
        } else {
            // An empty file comes to its end as well.
            self.record(header);
            self.state = State::Between(out);
        }
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (State::Content(encoder), Some((_, crc, _))) = (&mut self.state, &mut self.member)
        else {
            return if bytes.is_empty() { Ok(()) } else { Err(broken()) };
        };
        crc.update(bytes);
        encoder.write_all(bytes)?;
        if let Some((header, ..)) = &mut self.member {
            header.plain += bytes.len() as u64;
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let Some((mut header, crc, start)) = self.member.take() else { return Ok(()) };
        let State::Content(encoder) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(broken());
        };
        let mut out = encoder.finish()?;
        header.crc = crc.sum();
        header.packed = out.at - start;
        let number = if header.is_big { 8 } else { 4 };
        if !header.is_big && header.plain.max(header.packed) >= u64::from(ELSEWHERE) {
            return Err(io::Error::other("a file is longer than its header says"));
        }
        let mut descriptor = Vec::new();
        put(&mut descriptor, 4, 0x0807_4b50);
        put(&mut descriptor, 4, u64::from(header.crc));
        put(&mut descriptor, number, header.packed);
        put(&mut descriptor, number, header.plain);
        out.write_all(&descriptor)?;
        self.record(header);
        self.state = State::Between(out);
        Ok(())
    }
}

/// The header in front of a member.
fn write_local(out: &mut impl Write, header: &Header) -> io::Result<()> {
    let mut extra = Vec::new();
    let (mut packed, mut plain) = (header.packed, header.plain);
    if header.is_big {
        // Tells that the sizes behind the content have eight bytes.
        put(&mut extra, 2, 1);
        put(&mut extra, 2, 16);
        extra.resize(extra.len() + 16, 0);
        (packed, plain) = (u64::from(ELSEWHERE), u64::from(ELSEWHERE));
    }
    extra.extend_from_slice(&header.extra);
    let crc = if header.flags & FOLLOWS == 0 { header.crc } else { 0 };
    let mut bytes = Vec::new();
    put(&mut bytes, 4, 0x0403_4b50);
    let fields = [
        (2, u64::from(if header.is_big { VERSIONS.1 } else { VERSIONS.0 })),
        (2, u64::from(header.flags)),
        (2, u64::from(header.method)),
        (2, u64::from(header.time.0)),
        (2, u64::from(header.time.1)),
        (4, u64::from(crc)),
        (4, packed),
        (4, plain),
        (2, header.name.len() as u64),
        (2, extra.len() as u64),
    ];
    for (size, number) in fields {
        put(&mut bytes, size, number);
    }
    bytes.extend_from_slice(&header.name);
    bytes.extend_from_slice(&extra);
    out.write_all(&bytes)
}

/// Appends the lowest bytes of a number.
fn put(to: &mut Vec<u8>, bytes: usize, number: u64) {
    to.extend_from_slice(number.to_le_bytes().get(..bytes).unwrap_or_default());
}

/// The mode of a Unix file with its type, and the flag of a directory elsewhere.
fn attributes(metadata: &Metadata) -> u32 {
    let (kind, mode, flag) = match metadata.kind {
        Kind::Directory => (0o040_000, metadata.mode, 0x10),
        Kind::Symlink => (0o120_000, 0o777, 0),
        _ => (0o100_000, metadata.mode, 0),
    };
    (kind | mode & 0o7777) << 16 | flag
}

/// Extra fields: modification time where it fits, and owners.
fn extra(metadata: &Metadata) -> Vec<u8> {
    let mut extra = Vec::new();
    if let Ok(seconds) = i32::try_from(metadata.mtime.seconds) {
        put(&mut extra, 2, 0x5455);
        put(&mut extra, 2, 5);
        put(&mut extra, 1, 1);
        extra.extend_from_slice(&seconds.to_le_bytes());
    }
    put(&mut extra, 2, 0x7875);
    put(&mut extra, 2, 11);
    put(&mut extra, 1, 1);
    for number in [metadata.owner.uid, metadata.owner.gid] {
        put(&mut extra, 1, 4);
        put(&mut extra, 4, u64::from(number));
    }
    extra
}

/// Time and date as DOS has them, in local time, from 1980 to 2107.
fn dos_time(time: Time) -> (u16, u16) {
    let zoned = Timestamp::from_second(time.seconds).ok().map(|t| t.to_zoned(TimeZone::system()));
    let number = |value: i8| u16::from(value.unsigned_abs());
    match zoned {
        Some(z) if (1980..2108).contains(&z.year()) => {
            let years = z.year().unsigned_abs() - 1980;
            let clock = number(z.hour()) << 11 | number(z.minute()) << 5 | (number(z.second()) / 2);
            (clock, years << 9 | number(z.month()) << 5 | number(z.day()))
        }
        Some(z) if z.year() >= 2108 => (23 << 11 | 59 << 5 | 29, 127 << 9 | 12 << 5 | 31),
        _ => (0, 1 << 5 | 1),
    }
}

#[cfg(test)]
mod tests {
    use holdfast_engine::tree::Entry;

    use super::*;

    #[test]
    fn times_outside_of_what_dos_knows_are_moved_into_it() {
        let at = |seconds| dos_time(Time { seconds, nanos: 0 });
        assert_eq!(at(-1), (0, 33));
        assert_eq!(at(i64::MAX), (0, 33), "no time at all");
        assert_eq!(at(5_000_000_000).1 >> 9, 2128 - 2001, "2128 is shown as 2107");
    }

    #[test]
    fn files_that_may_be_big_say_so_before() -> io::Result<()> {
        let mut entry = Entry::default();
        entry.metadata.size = 5 << 30;
        let mut sink = ZipSink::new(Vec::new());
        let member = Member { name: b"big", entry: &entry, xattrs: &[], link_to: None };
        sink.begin(&member)?;
        sink.data(b"not as big as that")?;
        sink.end()?;
        let bytes = sink.finish()?;
        assert_eq!(bytes.get(4..6), Some(&[45, 0][..]), "version 4.5");
        assert_eq!(bytes.get(18..26), Some(&[0xff; 8][..]), "sizes are elsewhere");
        // Signature, checksum and two sizes of eight bytes stand before the directory.
        let directory = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap_or_default();
        let descriptor = bytes.get(directory - 24..directory - 20);
        assert_eq!(descriptor, Some(&b"PK\x07\x08"[..]));
        Ok(())
    }
}
