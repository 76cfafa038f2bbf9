//! Filling bundles with small files, one open bundle an owner, and remembering where each file
//! went until its bundle has an id.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::Result;
use crate::bundle::{BundleBuilder, BundleLimits};
use crate::crypto::{BlobKind, Keys};
use crate::hash::{BlobId, MemberHash};
use crate::repo::writer::BlobWriter;

/// Owners with a bundle open at once: enough for a tree of home directories.
const OPEN: usize = 8;

/// Small files of this run that are remembered, to store equal ones once.
const REMEMBERED: usize = 1 << 16;

/// A file's place: the bundle, whose id is there once it has been closed, and the member.
pub(super) type Ticket = (Arc<OnceLock<BlobId>>, u32);

#[derive(Debug)]
struct Open {
    owner: u32,
    id: Arc<OnceLock<BlobId>>,
    builder: BundleBuilder,
}

/// The open bundles.
pub(super) struct Bundles<'a> {
    writer: &'a BlobWriter<'a>,
    keys: &'a Keys,
    limits: BundleLimits,
    open: Vec<Open>,
    recent: HashMap<MemberHash, Ticket>,
}

impl<'a> Bundles<'a> {
    pub(super) fn new(writer: &'a BlobWriter<'a>, keys: &'a Keys, limits: BundleLimits) -> Self {
        Self { writer, keys, limits, open: Vec::new(), recent: HashMap::new() }
    }

    /// Where bundles go.
    pub(super) fn writer(&self) -> &'a BlobWriter<'a> {
        self.writer
    }

    /// Adds a file of this owner, or finds the equal one that was added before.
    pub(super) fn add(&mut self, owner: u32, content: &[u8], hash: MemberHash) -> Result<Ticket> {
        if let Some(ticket) = self.recent.get(&hash) {
            return Ok(ticket.clone());
        }
        let at = match self.open.iter().position(|open| open.owner == owner) {
            Some(at) => at,
            None => {
                if self.open.len() >= OPEN {
                    self.close(0)?;
                }
                let builder = BundleBuilder::with_buffer(self.writer.buffer());
                self.open.push(Open { owner, id: Arc::default(), builder });
                self.open.len() - 1
            }
        };
        let Some(open) = self.open.get_mut(at) else { return Ok(Ticket::default()) };
        let ticket = (open.id.clone(), open.builder.add(content, hash));
        if self.recent.len() >= REMEMBERED {
            self.recent.clear();
        }
        self.recent.insert(hash, ticket.clone());
        if self.limits.ends_after(open.builder.len(), &hash, content.len()) {
            self.close(at)?;
        }
        Ok(ticket)
    }

    /// Closes every bundle.
    pub(super) fn close_all(&mut self) -> Result<()> {
        while !self.open.is_empty() {
            self.close(0)?;
        }
        Ok(())
    }

    fn close(&mut self, at: usize) -> Result<()> {
        let Open { id: told, builder, .. } = self.open.remove(at);
        let members = builder.members() as u32;
        let (id, bytes) = builder.finish(self.keys);
        let _ = told.set(id);
        if self.writer.known_or_claim(&id) {
            self.writer.recycle(bytes);
            return Ok(());
        }
        self.writer.put(BlobKind::Bundle, id, members, bytes)
    }
}
