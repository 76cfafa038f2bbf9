//! Writing a file whose content is at hand, and putting a finished file in its place: temporary
//! names, renaming with and without replacing, and finding out what became of a request whose
//! answer was lost.

use std::cell::Cell;

use holdfast_engine::destination::Unset;

use super::Inner;
use super::attributes::{Target, Wanted, set};
use super::paths::{Origin, kind, split};
use super::problem::{Problem, is_refusal};
use crate::sftp::client::{
    Attributes, Client, ClientError, ClientErrorKind, ClientResult, Extension, FileKind, OpenFlags,
    Operation, WriteSmall,
};
use crate::sftp::pool::Retry;

/// What temporary names in a restored tree start with.
const TEMPORARY: &[u8] = b".holdfast-tmp-";

/// Whether the server does what it is asked for one after the other, and does not replace with a
/// plain rename: OpenSSH, and those that follow it this far. Others may set a time before they
/// write what changes it again.
fn is_orderly(client: &Client) -> bool {
    client.supports(Extension::Fsync)
}

/// A name beside `at` that nobody else uses.
pub(super) fn temporary(at: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|_| Problem::senseless("the system has no random numbers"))?;
    let (directory, _) = split(at);
    let name = format!("{:016x}", u64::from_le_bytes(random));
    Ok([directory, b"/", TEMPORARY, name.as_bytes()].concat())
}

pub(super) fn new_file() -> (OpenFlags, Attributes) {
    let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    (flags, Attributes::with_permissions(0o600))
}

impl Inner {
    /// Makes the file at `at`, in a directory of this origin.
    pub(super) async fn write_whole(
        &self,
        at: &[u8],
        origin: Origin,
        content: &[u8],
        wanted: &Wanted,
        replace: bool,
    ) -> Result<Unset, Problem> {
        // In a directory of our own, the name itself is as good as a temporary one.
        let mut direct = origin == Origin::Made && !replace;
        let mut replace = replace;
        let mut litter = Vec::new();
        let mut patience = self.pool.patience();
        let (name, unset) = loop {
            let name = if direct { at.to_vec() } else { temporary(at)? };
            let lease = self.pool.lease(&mut patience).await?;
            match self.write_once(lease.client(), &name, content, wanted).await {
                Ok(unset) => break (name, unset),
                Err(error) if error.is_disconnect() => {
                    self.pool.discard(&lease);
                    if direct {
                        // What stands there, if anything, is our own half file.
                        (direct, replace) = (false, true);
                    } else {
                        litter.push(name);
                    }
                    if !patience.pause().await {
                        return Err(error.into());
                    }
                }
                Err(error) => {
                    let is_ours = error.operation != Operation::Open;
                    // Before it gives room back.
                    let problem = self.look_for_space(error.into()).await;
                    litter.extend(is_ours.then_some(name));
                    self.discard_names(&litter).await;
                    return Err(problem);
                }
            }
        };
        let placed = if direct { Ok(()) } else { self.place(&name, at, replace).await };
        self.discard_names(&litter).await;
        placed.map(|()| unset)
    }

    async fn write_once(
        &self,
        client: &Client,
        name: &[u8],
        content: &[u8],
        wanted: &Wanted,
    ) -> ClientResult<Unset> {
        let (flags, permissions) = new_file();
        if !is_orderly(client) || !wanted.is_plain() {
            let file = client.open(name, flags, &permissions).await?;
            file.write_at(0, content).await?;
            let unset = set(Target::File(&file), &self.learnt, wanted, None).await?;
            file.close().await?;
            return Ok(unset);
        }
        let (attributes, unset) = wanted.at_once(&self.learnt);
        let how = WriteSmall {
            permissions: permissions.permissions,
            attributes: Some(attributes),
            sync: false,
        };
        match client.write_small(name, content, &how).await {
            Ok(()) => Ok(unset),
            // All is written, and some attribute was refused.
            Err(error) if error.operation == Operation::Fsetstat && is_refusal(&error) => {
                let present = client.lstat(name).await?;
                if present.size != Some(content.len() as u64) {
                    return Err(error);
                }
                set(Target::Path(client, name), &self.learnt, wanted, Some(&present)).await
            }
            Err(error) => Err(error),
        }
    }

    /// Gives a finished file its name. Whatever happens, the temporary name is gone afterwards, if
    /// the server can be reached.
    pub(super) async fn place(
        &self,
        temporary: &[u8],
        at: &[u8],
        replace: bool,
    ) -> Result<(), Problem> {
        let tried = Cell::new(false);
        let placed = self.pool.run(Retry::Yes, async |client| {
            let again = tried.replace(true);
            let placed = match replace {
                true => replace_with(client, temporary, at).await,
                false => rename(client, temporary, at).await,
            };
            match placed {
                Err(error) if again => was_placed(client, temporary, at, error).await,
                answer => answer,
            }
        });
        match placed.await {
            Ok(()) => Ok(()),
            Err(error) => {
                let problem = self.look_for_space(error.into()).await;
                self.discard_names(&[temporary.to_vec()]).await;
                Err(problem)
            }
        }
    }

    /// Removes files of ours, as far as they are there and can be removed.
    pub(super) async fn discard_names(&self, names: &[Vec<u8>]) {
        for name in names {
            let _ = self.pool.run(Retry::Yes, async |client| client.remove(name).await).await;
        }
    }
}

/// Puts `from` where something may stand, in one step if the server can.
async fn replace_with(client: &Client, from: &[u8], to: &[u8]) -> ClientResult<()> {
    let taken = match client.posix_rename(from, to).await {
        Err(error) if error.kind == ClientErrorKind::Unsupported => None,
        Err(error) if is_refusal(&error) => Some(error),
        answer => return answer,
    };
    let found = match client.lstat(to).await {
        Err(error) if error.kind == ClientErrorKind::NotFound => None,
        found => Some(found?),
    };
    if found.as_ref().is_some_and(|found| found.kind() == Some(FileKind::Directory)) {
        return Err(exists(Operation::PosixRename, to));
    }
    if let Some(error) = taken {
        return Err(error);
    }
    if found.is_some() {
        // A request whose answer was lost may have put ours there, and nothing is left to replace
        // it with.
        client.lstat(from).await?;
        client.remove(to).await?;
    }
    client.rename(from, to).await
}

/// Puts `from` where nothing stands.
async fn rename(client: &Client, from: &[u8], to: &[u8]) -> ClientResult<()> {
    if is_orderly(client) {
        return client.rename(from, to).await;
    }
    match client.hardlink(from, to).await {
        Ok(()) => return client.remove(from).await,
        Err(error) if is_refusal(&error) => {}
        Err(error) => return Err(error),
    }
    // A look before the leap is what is left.
    match client.lstat(to).await {
        Ok(_) => Err(exists(Operation::Rename, to)),
        Err(error) if error.kind == ClientErrorKind::NotFound => client.rename(from, to).await,
        Err(error) => Err(error),
    }
}

/// After a lost answer: whether what failed now was done before.
async fn was_placed(
    client: &Client,
    temporary: &[u8],
    at: &[u8],
    error: ClientError,
) -> ClientResult<()> {
    let look = async |path| match client.lstat(path).await {
        Err(e) if e.kind == ClientErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    };
    match (error.kind, look(temporary).await?, look(at).await?) {
        (ClientErrorKind::NotFound, None, Some(there))
            if kind(&there).ok() == Some(FileKind::File) =>
        {
            Ok(())
        }
        // Two names of one file, as far as can be seen: the link was made, and the temporary name
        // is still to go.
        (ClientErrorKind::AlreadyExists, Some(ours), Some(there)) if ours == there => {
            client.remove(temporary).await
        }
        _ => Err(error),
    }
}

fn exists(operation: Operation, path: &[u8]) -> ClientError {
    ClientError::new(ClientErrorKind::AlreadyExists, operation, path)
}
