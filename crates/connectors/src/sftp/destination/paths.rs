//! Paths on the server, and which directories on the way are known to be directories.

use std::collections::HashMap;
use std::sync::Mutex;

use super::Inner;
use super::problem::Problem;
use crate::locked;
use crate::sftp::client::{Attributes, ClientErrorKind, FileKind};
use crate::sftp::pool::Retry;

/// Directories that are remembered: some 10 MB. Then it starts anew, which costs a look at each.
const REMEMBERED: usize = 1 << 16;

/// Directories that this run made, or looked at: none of them is a link. Paths are relative.
#[derive(Debug, Default)]
pub(super) struct Directories(Mutex<HashMap<Box<[u8]>, Origin>>);

/// How a directory came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// This run made it, for this account alone, and is not done with it.
    Made,
    /// It was there.
    Found,
}

impl Directories {
    pub(super) fn get(&self, path: &[u8]) -> Option<Origin> {
        locked(&self.0).get(path).copied()
    }

    pub(super) fn insert(&self, path: &[u8], origin: Origin) {
        let mut known = locked(&self.0);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(path.into(), origin);
    }

    pub(super) fn forget(&self, path: &[u8]) {
        locked(&self.0).remove(path);
    }

    fn clear(&self) {
        locked(&self.0).clear();
    }
}

/// The directory and the name of a path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => {
            (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default())
        }
        None => (b"", path),
    }
}

pub(super) fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&0) && !name.contains(&b'/')
}

impl Inner {
    /// The path on the server.
    pub(super) async fn at(&self, path: &[u8]) -> Result<Vec<u8>, Problem> {
        // The caller has checked; a mistake there must not lead outside.
        if !path.is_empty() && !path.split(|b| *b == b'/').all(is_name) {
            return Err(Problem::senseless("this is no path below the destination"));
        }
        let mut at = self.pool.base().await?.to_vec();
        if !path.is_empty() {
            if !at.ends_with(b"/") {
                at.push(b'/');
            }
            at.extend_from_slice(path);
        }
        Ok(at)
    }

    /// As [`Inner::at`], when the directory that holds the path has been looked at.
    pub(super) async fn entry(&self, path: &[u8]) -> Result<Vec<u8>, Problem> {
        let at = self.at(path).await?;
        self.directory(split(path).0).await?;
        Ok(at)
    }

    /// Makes sure that `path` and everything above it, below the destination, are directories and
    /// no links.
    pub(super) async fn directory(&self, path: &[u8]) -> Result<Origin, Problem> {
        if let Some(origin) = self.directories.get(path) {
            return Ok(origin);
        }
        if path.is_empty() {
            // The destination itself may be reached by links: the user chose it.
            return Ok(Origin::Found);
        }
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let part = path.get(..end).unwrap_or_default();
            if self.directories.get(part).is_some() {
                continue;
            }
            let at = self.at(part).await?;
            if kind(&self.look(&at).await?)? != FileKind::Directory {
                return Err(Problem::in_the_way("no directory stands on the way there"));
            }
            self.directories.insert(part, Origin::Found);
        }
        Ok(self.directories.get(path).unwrap_or(Origin::Found))
    }

    /// What stands at a path on the server, itself and not where it leads.
    pub(super) async fn look(&self, at: &[u8]) -> Result<Attributes, Problem> {
        Ok(self.pool.run(Retry::Yes, async |client| client.lstat(at).await).await?)
    }

    /// As [`Inner::look`]; `None` if nothing is there.
    pub(super) async fn look_for(&self, at: &[u8]) -> Result<Option<Attributes>, Problem> {
        match self.look(at).await {
            Ok(found) => Ok(Some(found)),
            Err(problem) if problem.request() == Some(ClientErrorKind::NotFound) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Something was not found below a directory that is remembered: what is remembered may be
    /// wrong. Looks anew, and tells the better reason if there is one.
    pub(super) async fn doubt(&self, path: &[u8], problem: Problem) -> Problem {
        if problem.request() != Some(ClientErrorKind::NotFound) {
            return problem;
        }
        self.directories.clear();
        self.directory(split(path).0).await.err().unwrap_or(problem)
    }
}

/// What it is.
pub(super) fn kind(attributes: &Attributes) -> Result<FileKind, Problem> {
    attributes.kind().ok_or_else(|| Problem::senseless("the server does not tell what it is"))
}
