//! Targets of symbolic links. The engine asks for one after the other, and only for those that are
//! new; so once it asks for one, those that the walk found next are asked for as well.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use holdfast_engine::source::SourceResult;
use tokio::task::JoinHandle;

use super::{Inner, became_another};
use crate::locked;
use crate::sftp::client::ClientErrorKind;
use crate::sftp::pool::SftpError;

/// Links that are remembered.
const REMEMBERED: usize = 4096;
/// Links that are asked for in advance.
const AHEAD: usize = 64;

/// Links in the order in which the walk found them.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<VecDeque<Link>>);

#[derive(Debug)]
struct Link {
    path: Vec<u8>,
    target: Option<JoinHandle<Result<Vec<u8>, SftpError>>>,
}

impl Links {
    pub(super) fn clear(&self) {
        locked(&self.0).clear();
    }

    /// The walk found a link.
    pub(super) fn note(&self, path: Vec<u8>) {
        let mut links = locked(&self.0);
        if links.len() == REMEMBERED {
            links.pop_front();
        }
        links.push_back(Link { path, target: None });
    }

    /// What was asked for already. Those before it were not wanted, those after it may be.
    fn take(
        &self,
        path: &[u8],
        ask: impl Fn(Vec<u8>) -> JoinHandle<Result<Vec<u8>, SftpError>>,
    ) -> Option<JoinHandle<Result<Vec<u8>, SftpError>>> {
        let mut links = locked(&self.0);
        let at = links.iter().position(|link| link.path == path)?;
        links.drain(..at);
        let link = links.pop_front()?;
        for next in links.iter_mut().take(AHEAD) {
            next.target.get_or_insert_with(|| ask(next.path.clone()));
        }
        link.target
    }
}

impl Inner {
    /// What the link says. No longer a link: `Changed`.
    pub(super) fn link_target(
        self: &Arc<Self>,
        directory: &[u8],
        name: &[u8],
    ) -> SourceResult<Vec<u8>> {
        let path = self.path(directory, name);
        let asked = self.links.take(&path, |path| {
            let inner = Arc::clone(self);
            self.pool.runtime().spawn(async move { inner.read_link(&path).await })
        });
        let target = self.pool.block_on(async {
            match asked {
                // A task that died is no answer.
                Some(task) => match task.await {
                    Ok(target) => target,
                    Err(_) => self.read_link(&path).await,
                },
                None => self.read_link(&path).await,
            }
        });
        target.map_err(|error| match error.kind() {
            // What OpenSSH answers where there is no link.
            Some(ClientErrorKind::BadMessage) => became_another("read", &path),
            _ => self.error("read", &path, error),
        })
    }

    async fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, SftpError> {
        self.run(|client| async move { client.read_link(path).await }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn links_after_the_wanted_one_are_asked_for_once() {
        let links = Links::default();
        for i in 0..200_u8 {
            links.note(vec![i]);
        }
        let asked = Mutex::new(Vec::new());
        let ask = |path: Vec<u8>| {
            locked(&asked).push(path[0]);
            tokio::spawn(async move { Ok(path) })
        };
        assert!(links.take(&[10], ask).is_none());
        assert_eq!(*locked(&asked), (11..75).collect::<Vec<u8>>());
        // Before the last one that was taken.
        assert!(links.take(&[3], ask).is_none());
        let found = links.take(&[12], ask).unwrap().await.unwrap();
        assert_eq!(found.unwrap(), [12]);
        assert_eq!(*locked(&asked), (11..77).collect::<Vec<u8>>());
        assert!(links.take(&[11], ask).is_none());
    }
}
