//! Parity objects: checksums of the pieces of a pack and recovery pieces, header and checksums
//! twice (docs/format.md, "Parity"). What the pieces are made of is in [`crate::parity`].

/// Points of the code that recovery pieces stand at.
pub const RECOVERY_POINTS: usize = 1024;

/// Most pieces that a pack may have.
pub const MAX_PIECES: usize = (1 << 16) - RECOVERY_POINTS;

/// Longest piece that is read.
const MAX_PIECE: u32 = 1 << 20;

const MAGIC: [u8; 8] = *b"HFPARITY";
const VERSION: u8 = 1;
const HEADER_LEN: usize = 32;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Length of a piece in bytes, a multiple of 64.
    pub piece: u32,
    /// Length of the pack in bytes.
    pub size: u64,
    /// Recovery pieces.
    pub recovery: u32,
}

impl Header {
    /// Pieces of the pack.
    pub fn pieces(&self) -> usize {
        usize::try_from(self.size.div_ceil(u64::from(self.piece.max(1)))).unwrap_or(usize::MAX)
    }

    fn write(&self) -> [u8; HEADER_LEN] {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        bytes.extend_from_slice(&self.piece.to_le_bytes());
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(&self.recovery.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes.first_chunk().copied().unwrap_or_default()
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or("it is too short")?;
        if *magic != MAGIC {
            return Err("it does not start like a parity object".into());
        }
        let (version, rest) = rest.split_first_chunk::<4>().ok_or("it is too short")?;
        let (piece, rest) = rest.split_first_chunk::<4>().ok_or("it is too short")?;
        let (size, rest) = rest.split_first_chunk::<8>().ok_or("it is too short")?;
        let (recovery, rest) = rest.split_first_chunk::<4>().ok_or("it is too short")?;
        let (sum, _) = rest.split_first_chunk::<4>().ok_or("it is too short")?;
        let summed = bytes.get(..HEADER_LEN - 4).unwrap_or_default();
        if crc32fast::hash(summed) != u32::from_le_bytes(*sum) {
            return Err("its header is damaged".into());
        }
        if version.first() != Some(&VERSION) {
            return Err("its version is not known here".into());
        }
        let header = Self {
            piece: u32::from_le_bytes(*piece),
            size: u64::from_le_bytes(*size),
            recovery: u32::from_le_bytes(*recovery),
        };
        let is_sound = (64..=MAX_PIECE).contains(&header.piece)
            && header.piece.is_multiple_of(64)
            && (1..=MAX_PIECES).contains(&header.pieces())
            && (1..=RECOVERY_POINTS).contains(&(header.recovery as usize));
        if is_sound { Ok(header) } else { Err("its header says what cannot be".into()) }
    }

    /// Bytes of the checksums.
    fn table(&self) -> usize {
        4 * (self.pieces() + self.recovery as usize)
    }

    fn length(&self) -> usize {
        2 * (HEADER_LEN + self.table()) + self.recovery as usize * self.piece as usize
    }
}

/// A parity object's bytes. `checksums` are those of the pieces of the pack; `recovery` are the
/// recovery pieces one after the other.
pub fn write(header: &Header, checksums: &[u32], recovery: &[u8]) -> Vec<u8> {
    let start = header.write();
    let pieces = recovery.chunks_exact((header.piece as usize).max(1));
    let own = pieces.map(crc32fast::hash);
    let all = checksums.iter().copied().chain(own);
    let table: Vec<u8> = all.flat_map(u32::to_le_bytes).collect();
    [&start[..], &table, recovery, &table, &start].concat()
}

/// A parity object, damaged or not.
#[derive(Debug)]
pub struct Parity {
    header: Header,
    bytes: Vec<u8>,
}

impl Parity {
    /// Reads a parity object. Of its two headers one is enough.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let end = bytes.len().saturating_sub(HEADER_LEN);
        let header = match Header::parse(&bytes) {
            Ok(header) => header,
            Err(error) => {
                // Only at its full length is what lies in it where this header says.
                let last = bytes.get(end..).and_then(|last| Header::parse(last).ok());
                last.filter(|last| last.length() == bytes.len()).ok_or(error)?
            }
        };
        Ok(Self { header, bytes })
    }

    /// What its header says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether all of it is as it was written.
    pub fn is_whole(&self) -> bool {
        let Header { recovery, .. } = self.header;
        let table = self.bytes.get(HEADER_LEN..HEADER_LEN + self.header.table());
        let again = self.second_table();
        let second = self.bytes.get(again..again.saturating_add(self.header.table()));
        let ends = self.bytes.get(self.bytes.len().saturating_sub(HEADER_LEN)..);
        self.bytes.len() == self.header.length()
            && table == second
            && ends.is_some_and(|end| Header::parse(end) == Ok(self.header))
            && Header::parse(&self.bytes) == Ok(self.header)
            && (0..recovery as usize).all(|number| self.recovery(number).is_some())
    }

    fn second_table(&self) -> usize {
        self.header.length() - HEADER_LEN - self.header.table()
    }

    /// Whether a piece of the pack, filled up with zeros, is as it was.
    pub fn is_right(&self, number: usize, piece: &[u8]) -> bool {
        self.fits(number, crc32fast::hash(piece))
    }

    fn fits(&self, number: usize, sum: u32) -> bool {
        let at = |table: usize| {
            let entry = self.bytes.get(table + 4 * number..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*entry))
        };
        [HEADER_LEN, self.second_table()].into_iter().any(|table| at(table) == Some(sum))
    }

    /// A recovery piece, if it is as it was.
    pub fn recovery(&self, number: usize) -> Option<&[u8]> {
        let (pieces, piece) = (self.header.pieces(), self.header.piece as usize);
        if number >= self.header.recovery as usize {
            return None;
        }
        let from = HEADER_LEN + self.header.table() + number * piece;
        let bytes = self.bytes.get(from..from + piece)?;
        self.fits(pieces + number, crc32fast::hash(bytes)).then_some(bytes)
    }
}

/// Compares the pieces of a pack that comes in parts with what its parity says of them: parity of
/// another pack is as whole as that of this one.
#[derive(Debug)]
pub struct Pieces<'a> {
    parity: &'a Parity,
    sum: crc32fast::Hasher,
    /// Bytes so far.
    size: u64,
    are_right: bool,
}

impl<'a> Pieces<'a> {
    /// None has come yet.
    pub fn new(parity: &'a Parity) -> Self {
        Self { parity, sum: crc32fast::Hasher::new(), size: 0, are_right: true }
    }

    /// Takes more of the pack.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let piece = u64::from(self.parity.header.piece);
        while !bytes.is_empty() {
            let room = usize::try_from(piece - self.size % piece).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.sum.update(now);
            self.size += now.len() as u64;
            bytes = later;
            if self.size.is_multiple_of(piece) {
                self.end(self.size / piece - 1);
            }
        }
    }

    /// Whether all pieces were those that the parity was made of.
    pub fn are_right(mut self) -> bool {
        let piece = u64::from(self.parity.header.piece);
        let over = self.size % piece;
        if over > 0 {
            // The last one was filled up with zeros.
            let zeros = vec![0; usize::try_from(piece - over).unwrap_or_default()];
            self.sum.update(&zeros);
            self.end(self.size / piece);
        }
        self.are_right && self.size == self.parity.header.size
    }

    fn end(&mut self, number: u64) {
        let sum = std::mem::take(&mut self.sum).finalize();
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        self.are_right &= number < self.parity.header.pieces() && self.parity.fits(number, sum);
    }
}
