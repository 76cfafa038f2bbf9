//! A pack while it is written: frames are sealed and appended, and its directory is kept until it
//! ends. Its name is the SHA-256 of it all, which is computed by a thread of its own: no step of a pack
//! takes longer.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::crypto::{ObjectCipher, ObjectKind, TAG_LEN};
use crate::format::envelope::{HEADER_LEN, Header};
use crate::format::index::IndexedPack;
use crate::format::pack::{self, Directory, TRAILER_LEN};
use crate::hash::{BlobId, ObjectId, Sha256};
use crate::parity::Encoder;
use crate::repo::Repository;
use crate::storage::Upload;
use crate::{Error, Result};

use super::Frame;

/// A pack that is complete.
type Closed<'s> = (Box<dyn Upload + 's>, IndexedPack, Option<Encoder>);

/// What is hashed.
enum Hashed {
    /// A pack begins, with its header.
    Start([u8; HEADER_LEN]),
    /// A frame of it, and of how many plain bytes that is.
    Frame(Vec<u8>, usize),
    /// What it ends with: the answer is its name.
    End(Vec<u8>, Sender<ObjectId>),
}

/// The way to the thread that hashes packs of one kind, one after the other.
#[derive(Clone)]
pub(super) struct Hasher(Sender<Hashed>);

/// The other end of it.
pub(super) struct HashQueue(Receiver<Hashed>);

impl Hasher {
    pub(super) fn new() -> (Self, HashQueue) {
        let (send, receive) = bounded(2);
        (Self(send), HashQueue(receive))
    }

    fn send(&self, what: Hashed) -> Result<()> {
        self.0.send(what).map_err(|_| Error::Worker("the thread that hashes packs".into()))
    }
}

impl HashQueue {
    /// Works until nothing more can come. `done` gets each frame that was hashed, and of how many plain
    /// bytes it is.
    pub(super) fn work(self, done: impl Fn(Vec<u8>, usize)) {
        let mut hash = Sha256::default();
        for what in self.0 {
            match what {
                Hashed::Start(header) => {
                    hash = Sha256::default();
                    hash.update(&header);
                }
                Hashed::Frame(bytes, plain) => {
                    hash.update(&bytes);
                    done(bytes, plain);
                }
                Hashed::End(tail, answer) => {
                    hash.update(&tail);
                    let _ = answer.send(std::mem::take(&mut hash).finish());
                }
            }
        }
    }
}

/// A pack being written.
pub(super) struct OpenPack<'s> {
    pub(super) kind: ObjectKind,
    upload: Box<dyn Upload + 's>,
    hasher: Hasher,
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
        hasher: &Hasher,
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
            hasher: hasher.clone(),
            parity,
            header,
            cipher,
            directory: Directory::default(),
            length: 0,
        };
        pack.write(&header)?;
        hasher.send(Hashed::Start(header))?;
        Ok(pack)
    }

    /// How long the pack would be with this frame, directory and all.
    pub(super) fn length_with(&self, frame: &Frame) -> u64 {
        let line = 52; // 32 bytes of id and at most 20 of numbers.
        let directory = line * (self.directory.len() + 1) + 2 * TAG_LEN + TRAILER_LEN;
        self.length + (frame.bytes.len() + directory) as u64
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(parity) = &mut self.parity {
            parity.update(bytes);
        }
        self.upload.write(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Seals and appends a frame. If that succeeds, the queue of the hasher gets it.
    pub(super) fn add(&mut self, frame: Frame) -> Result<()> {
        let Frame { kind, id, members, hollow, plain, mut bytes } = frame;
        let ordinal = self.directory.len() as u64;
        self.cipher.seal(ordinal, &[], &mut bytes).map_err(|e| Error::damaged("pack", e))?;
        self.directory.push(&id, kind, bytes.len() as u32, plain, members);
        if hollow {
            self.directory.hollow.push(ordinal as u32);
        }
        self.write(&bytes)?;
        self.hasher.send(Hashed::Frame(bytes, plain as usize))
    }

    pub(super) fn close(mut self, min_size: u32) -> Result<Closed<'s>> {
        let tail = pack::finish(&self.cipher, &self.directory, self.length, min_size)?;
        self.write(&tail)?;
        let (answer, id) = bounded(1);
        self.hasher.send(Hashed::End(tail, answer))?;
        let id = id.recv().map_err(|_| Error::Worker("the thread that hashes packs".into()))?;
        let indexed = IndexedPack {
            id: id.as_bytes().to_vec(),
            size: self.length,
            header: self.header.to_vec(),
            directory: Some(self.directory),
        };
        Ok((self.upload, indexed, self.parity))
    }
}
