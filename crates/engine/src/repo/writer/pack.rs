//! A pack while it is written: frames are sealed and appended, and its directory is kept until it
//! ends.

use crate::crypto::{ObjectCipher, ObjectKind, TAG_LEN};
use crate::format::envelope::{HEADER_LEN, Header};
use crate::format::index::IndexedPack;
use crate::format::pack::{self, Directory, TRAILER_LEN};
use crate::hash::{BlobId, Sha256};
use crate::parity::Encoder;
use crate::repo::Repository;
use crate::storage::Upload;
use crate::{Error, Result};

use super::Frame;

/// A pack that is complete.
type Closed<'s> = (Box<dyn Upload + 's>, IndexedPack, Option<Encoder>);

/// A pack being written.
pub(super) struct OpenPack<'s> {
    pub(super) kind: ObjectKind,
    upload: Box<dyn Upload + 's>,
    hash: Sha256,
    parity: Option<Encoder>,
    header: [u8; HEADER_LEN],
    cipher: ObjectCipher,
    directory: Directory,
    length: u64,
}

impl<'s> OpenPack<'s> {
    pub(super) fn start(
        repository: &'s Repository,
        kind: ObjectKind,
        first: &BlobId,
        parity: Option<Encoder>,
    ) -> Result<Self> {
        let salt = repository.salt(first.as_bytes())?;
        let (header, cipher) = Header::create(repository.keys(), repository.id(), kind, &salt);
        let mut upload = repository.storage().upload()?;
        if kind == ObjectKind::DataPack {
            upload.may_be_cold();
        }
        let mut pack = Self {
            kind,
            upload,
            hash: Sha256::default(),
            parity,
            header,
            cipher,
            directory: Directory::default(),
            length: 0,
        };
        pack.write(&header)?;
        Ok(pack)
    }

    /// How long the pack would be with this frame, directory and all.
    pub(super) fn length_with(&self, frame: &Frame) -> u64 {
        let line = 52; // 32 bytes of id and at most 20 of numbers.
        let directory = line * (self.directory.len() + 1) + 2 * TAG_LEN + TRAILER_LEN;
        self.length + (frame.bytes.len() + directory) as u64
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        if let Some(parity) = &mut self.parity {
            parity.update(bytes);
        }
        self.upload.write(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Seals and appends a frame.
    pub(super) fn add(&mut self, frame: Frame) -> Result<()> {
        let Frame { kind, id, members, hollow, plain, mut bytes } = frame;
        let ordinal = self.directory.len() as u64;
        self.cipher.seal(ordinal, &[], &mut bytes).map_err(|e| Error::damaged("pack", e))?;
        self.directory.push(&id, kind, bytes.len() as u32, plain, members);
        if hollow {
            self.directory.hollow.push(ordinal as u32);
        }
        self.write(&bytes)
    }

    pub(super) fn close(mut self, min_size: u32) -> Result<Closed<'s>> {
        let tail = pack::finish(&self.cipher, &self.directory, self.length, min_size)?;
        self.write(&tail)?;
        let indexed = IndexedPack {
            id: self.hash.finish().as_bytes().to_vec(),
            size: self.length,
            header: self.header.to_vec(),
            directory: Some(self.directory),
        };
        Ok((self.upload, indexed, self.parity))
    }
}
