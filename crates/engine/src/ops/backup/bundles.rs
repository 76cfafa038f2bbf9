//! Filling bundles with small files, one open bundle an owner, and remembering where each file
//! went until its bundle has an id.

use std::collections::HashMap;

use crate::Result;
use crate::bundle::{BundleBuilder, BundleLimits};
use crate::crypto::{BlobKind, Keys};
use crate::hash::{BlobId, MemberHash};
use crate::repo::writer::BlobWriter;

/// Owners with a bundle open at once: enough for a tree of home directories.
const OPEN: usize = 8;

/// Small files of this run that are remembered, to store equal ones once.
const REMEMBERED: usize = 1 << 16;

/// A file's place: the bundle (by a number of this run's own) and the member.
pub(super) type Ticket = (u64, u32);

#[derive(Debug)]
struct Open {
    owner: u32,
    ticket: u64,
    builder: BundleBuilder,
}

/// The open bundles.
pub(super) struct Bundles<'a> {
    writer: &'a BlobWriter<'a>,
    keys: &'a Keys,
    limits: BundleLimits,
    open: Vec<Open>,
    closed: HashMap<u64, BlobId>,
    recent: HashMap<MemberHash, Ticket>,
    next: u64,
}

impl<'a> Bundles<'a> {
    pub(super) fn new(writer: &'a BlobWriter<'a>, keys: &'a Keys, limits: BundleLimits) -> Self {
        Self {
            writer,
            keys,
            limits,
            open: Vec::new(),
            closed: HashMap::new(),
            recent: HashMap::new(),
            next: 0,
        }
    }

    /// Where bundles go.
    pub(super) fn writer(&self) -> &'a BlobWriter<'a> {
        self.writer
    }

    /// Adds a file of this owner, or finds the equal one that was added before.
    pub(super) fn add(&mut self, owner: u32, content: &[u8], hash: MemberHash) -> Result<Ticket> {
        if let Some(ticket) = self.recent.get(&hash) {
            return Ok(*ticket);
        }
        let at = match self.open.iter().position(|open| open.owner == owner) {
            Some(at) => at,
            None => {
                if self.open.len() >= OPEN {
                    self.close(0)?;
                }
                let builder = BundleBuilder::with_buffer(self.writer.buffer());
                self.open.push(Open { owner, ticket: self.next, builder });
                self.next += 1;
                self.open.len() - 1
            }
        };
        let Some(open) = self.open.get_mut(at) else { return Ok((0, 0)) };
        let ticket = (open.ticket, open.builder.add(content, hash));
        if self.recent.len() >= REMEMBERED {
            self.recent.clear();
        }
        self.recent.insert(hash, ticket);
        if self.limits.ends_after(open.builder.len(), &hash, content.len()) {
            self.close(at)?;
        }
        Ok(ticket)
    }

    /// The bundle of a ticket, once it has been closed.
    pub(super) fn id(&self, ticket: Ticket) -> Option<BlobId> {
        self.closed.get(&ticket.0).copied()
    }

    /// Closes every bundle.
    pub(super) fn close_all(&mut self) -> Result<()> {
        while !self.open.is_empty() {
            self.close(0)?;
        }
        Ok(())
    }

    /// Forgets the closed bundles before `ticket` that no remembered file refers to.
    pub(super) fn prune(&mut self, ticket: u64) {
        if self.closed.len() > REMEMBERED {
            self.recent.clear();
            self.closed.retain(|number, _| *number >= ticket);
        }
    }

    fn close(&mut self, at: usize) -> Result<()> {
        let Open { ticket, builder, .. } = self.open.remove(at);
        let members = builder.members() as u32;
        let (id, bytes) = builder.finish(self.keys);
        self.closed.insert(ticket, id);
        if self.writer.known_or_claim(&id) {
            self.writer.recycle(bytes);
            return Ok(());
        }
        self.writer.put(BlobKind::Bundle, id, members, bytes)
    }
}
