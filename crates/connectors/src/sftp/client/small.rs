//! Small files in two round trips: one to open, one for all the rest.

use super::error::ClientResult;
use super::file::OpenFlags;
use super::{Attributes, Client};

/// A small file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallFile {
    /// The content, at most as many bytes as were asked for.
    pub bytes: Vec<u8>,
    /// The attributes, asked for of the open file after its content: if they are those that it
    /// had before it was opened, the content belongs to them.
    pub attributes: Attributes,
    /// Whether the file has more than these bytes.
    pub has_more: bool,
}

/// How to write a small file.
#[derive(Debug, Clone, Default)]
pub struct WriteSmall {
    /// Permissions to make it with; the server takes its umask off.
    pub permissions: Option<u32>,
    /// Attributes to set when it is written.
    pub attributes: Option<Attributes>,
    /// Whether to force it to disk; an error where the server cannot.
    pub sync: bool,
}

impl Client {
    /// The first `limit` bytes of a file, and its attributes. All of `limit` is asked for at once:
    /// it should be the length that the file is expected to have.
    pub async fn read_small(&self, path: &[u8], limit: u32) -> ClientResult<SmallFile> {
        let mut file = self.open(path, OpenFlags::READ, &Attributes::default()).await?;
        let mut reads = Vec::new();
        let mut offset = 0;
        while offset < limit {
            let length = file.read_size().min(limit - offset);
            reads.push((length, file.submit_read(u64::from(offset), length).await?));
            offset += length;
        }
        let stat = file.submit_stat().await?;
        let close = file.submit_close().await?;

        let mut bytes = Vec::new();
        let mut is_short = false;
        for (length, read) in reads {
            let data = read.get_unless_end(|reply| reply.data(length as usize)).await?;
            if is_short {
                // Whether more follows, the attributes tell.
                continue;
            }
            let data = data.unwrap_or_default();
            is_short = data.len() < length as usize;
            if bytes.is_empty() {
                bytes = data;
            } else {
                bytes.extend(data);
            }
        }
        let attributes = stat.get(|reply| reply.attributes()).await?;
        close.done().await?;
        let found = bytes.len() as u64;
        match attributes.size {
            Some(size) if size == found || (size > found && !is_short) => {
                Ok(SmallFile { bytes, attributes, has_more: size > found })
            }
            // The server returned less than there is, or the size says nothing: files that change,
            // files of /proc.
            _ => self.read_slowly(path, limit).await,
        }
    }

    /// To the true end of the file, step by step.
    async fn read_slowly(&self, path: &[u8], limit: u32) -> ClientResult<SmallFile> {
        let file = self.open(path, OpenFlags::READ, &Attributes::default()).await?;
        let mut bytes = file.read_range(0, limit as usize + 1).await?;
        let attributes = file.attributes().await?;
        let has_more = bytes.len() > limit as usize;
        bytes.truncate(limit as usize);
        file.close().await?;
        Ok(SmallFile { bytes, attributes, has_more })
    }

    /// Makes a file that is not there yet
    /// ([`AlreadyExists`](super::ClientErrorKind::AlreadyExists) otherwise), writes it, and closes
    /// it. After any other error, a part of it may be there.
    pub async fn write_small(
        &self,
        path: &[u8],
        bytes: &[u8],
        how: &WriteSmall,
    ) -> ClientResult<()> {
        if how.sync {
            self.shared.need(super::Operation::Fsync, path)?;
        }
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        let permissions = Attributes { permissions: how.permissions, ..Attributes::default() };
        let mut file = self.open(path, flags, &permissions).await?;
        let mut waiters = Vec::new();
        let mut offset = 0;
        for piece in bytes.chunks(file.write_size() as usize) {
            waiters.push(file.submit_write(offset, piece).await?);
            offset += piece.len() as u64;
        }
        if let Some(attributes) = &how.attributes {
            waiters.push(file.submit_set(attributes).await?);
        }
        if how.sync {
            waiters.push(file.submit_sync().await?);
        }
        waiters.push(file.submit_close().await?);
        // All of them: an error that comes first is returned when nothing is under way any more.
        let mut outcome = Ok(());
        for waiter in waiters {
            outcome = outcome.and(waiter.done().await);
        }
        outcome
    }
}
