//! Listing one directory: names with their attributes, the filters asked, all of it sorted. The
//! server's order means nothing, so a directory has to be there whole before its first entry can
//! be handed out; until then entries are kept in a small form.

use std::ops::Range;
use std::sync::Arc;

use holdfast_engine::meta::Kind;
use holdfast_engine::source::{
    SourceDirectory, SourceEntry, SourceError, SourceErrorKind, SourceResult, WalkBatch,
};
use tokio::task::JoinSet;

use super::metadata::Facts;
use super::{Inner, became_another, nameless_kind};
use crate::filter::{CACHE_SIGNATURE, CACHE_TAG};
use crate::sftp::client::{
    Attributes, Client, ClientErrorKind, ClientResult, DirectoryEntry, FileKind, OpenFlags,
};
use crate::{empty_batch, join};

/// Entries of a directory whose attributes are asked for at once.
const LOOKS: usize = 64;

/// A directory that was listed.
#[derive(Debug, Default)]
pub(super) struct Listing {
    names: Vec<u8>,
    /// Sorted by name.
    found: Vec<Found>,
    errors: Vec<SourceError>,
    excluded: u64,
}

#[derive(Debug)]
struct Found {
    name: Range<usize>,
    facts: Facts,
}

impl Listing {
    /// Of a directory that could not be listed.
    pub(super) fn failed(error: SourceError) -> Self {
        Self { errors: vec![error], ..Self::default() }
    }

    fn name(&self, found: &Found) -> &[u8] {
        self.names.get(found.name.clone()).unwrap_or_default()
    }

    /// Bytes that this takes, about.
    pub(super) fn cost(&self) -> usize {
        self.names.len() + self.found.len() * size_of::<Found>()
    }

    /// The directories below, sorted.
    pub(super) fn directories(&self, at: &SourceDirectory) -> Vec<Arc<SourceDirectory>> {
        let directories = self.found.iter().filter(|found| found.facts.kind == Kind::Directory);
        let path = |found| join(&at.path, self.name(found));
        directories
            .map(|found| Arc::new(SourceDirectory { path: path(found), handle: None }))
            .collect()
    }

    /// The entries, so many in a batch; one batch at least.
    pub(super) fn batches(
        mut self,
        inner: &Inner,
        at: &Arc<SourceDirectory>,
        most: usize,
    ) -> impl Iterator<Item = WalkBatch> {
        let mut first = empty_batch(at);
        first.errors = std::mem::take(&mut self.errors);
        first.excluded = self.excluded;
        let mut from = 0;
        let mut next = Some(first);
        std::iter::from_fn(move || {
            let mut batch = next.take()?;
            let some = self.found.iter().skip(from).take(most);
            batch.entries.extend(some.map(|found| {
                let metadata = found.facts.metadata(&inner.owners);
                let name = self.name(found).to_vec();
                SourceEntry { name, metadata, device: 0, sparse: false }
            }));
            from += batch.entries.len();
            if from < self.found.len() {
                next = Some(empty_batch(at));
            }
            Some(batch)
        })
    }

    fn push(&mut self, name: &[u8], facts: Facts) {
        let start = self.names.len();
        self.names.extend_from_slice(name);
        self.found.push(Found { name: start..self.names.len(), facts });
    }

    /// Sorts, and refuses what came twice: a tree cannot hold it.
    fn sort(&mut self, shown: impl Fn(&[u8]) -> String) {
        let mut found = std::mem::take(&mut self.found);
        found.sort_unstable_by(|a, b| self.name(a).cmp(self.name(b)));
        let mut kept: Vec<Found> = Vec::with_capacity(found.len());
        for next in found {
            if kept.last().is_some_and(|last| self.name(last) == self.name(&next)) {
                let why = std::io::Error::other("the server listed it twice");
                self.errors.push(SourceError::from_io("list", shown(self.name(&next)), why));
            } else {
                kept.push(next);
            }
        }
        self.found = kept;
    }
}

/// Lists directories of one walk.
#[derive(Debug)]
pub(super) struct Lister {
    pub(super) inner: Arc<Inner>,
    /// Paths relative to the root that are left out.
    pub(super) never: Vec<Vec<u8>>,
}

/// What one connection has told of a directory so far.
struct Attempt<'a> {
    lister: &'a Lister,
    at: &'a SourceDirectory,
    listing: Listing,
    /// All names, those left out among them.
    names: u64,
    is_tagged: bool,
    /// Entries that the listing does not tell enough of.
    unclear: Vec<Vec<u8>>,
    /// Path of the entry in hand, relative to the root.
    path: Vec<u8>,
}

impl Lister {
    /// Lists a directory, from the start again if the connection breaks.
    pub(super) async fn list(&self, at: &SourceDirectory) -> SourceResult<Listing> {
        let path = self.inner.path(&at.path, b"");
        let from = &path[..];
        let attempt = |client| async move { self.attempt(at, from, &client).await };
        let listed = self.inner.run(attempt).await;
        listed.map_err(|e| self.inner.error("list", &path, e))?
    }

    async fn attempt(
        &self,
        at: &SourceDirectory,
        path: &[u8],
        client: &Client,
    ) -> ClientResult<SourceResult<Listing>> {
        // A link put in the directory's place would be followed. Asked at the same time, so that
        // this takes no time.
        let (opened, looked) = tokio::join!(client.open_directory(path), client.lstat(path));
        let kind = match looked {
            Ok(attributes) => attributes.kind(),
            Err(error) if opened.is_ok() || error.is_disconnect() => return Err(error),
            Err(_) => None,
        };
        if kind.is_some_and(|kind| kind != FileKind::Directory) {
            return Ok(Err(became_another("list", path)));
        }
        let mut directory = opened?;
        let mut attempt = Attempt {
            lister: self,
            at,
            listing: Listing::default(),
            names: 0,
            is_tagged: false,
            unclear: Vec::new(),
            path: Vec::new(),
        };
        while let Some(entries) = directory.next().await? {
            entries.into_iter().for_each(|entry| attempt.take(entry));
        }
        drop(directory);
        if attempt.names == 0 {
            check_searchable(client, path).await?;
        }
        if attempt.is_tagged && is_cache(client, path).await? {
            return Ok(Ok(Listing { excluded: attempt.names, ..Listing::default() }));
        }
        attempt.look_closer(client).await?;
        let mut listing = attempt.listing;
        let mut owners: Vec<_> = listing.found.iter().map(|found| found.facts.owner).collect();
        owners.sort_unstable();
        owners.dedup();
        self.inner.owners.learn(client, &owners).await?;
        let shown =
            |name: &[u8]| String::from_utf8_lossy(&self.inner.path(&at.path, name)).into_owned();
        listing.sort(shown);
        listing.names.shrink_to_fit();
        Ok(Ok(listing))
    }
}

impl Attempt<'_> {
    fn take(&mut self, entry: DirectoryEntry) {
        self.names += 1;
        let DirectoryEntry { name, attributes, .. } = entry;
        self.is_tagged |= self.lister.inner.options.exclude_caches && name == CACHE_TAG.as_bytes();
        // Before a closer look: what is excluded may well be so because a look fails.
        if attributes.kind().is_some_and(|kind| self.is_excluded(&name, &attributes, kind)) {
            self.listing.excluded += 1;
        } else if Facts::are_whole(&attributes) {
            self.add(&name, &attributes);
        } else {
            self.unclear.push(name);
        }
    }

    fn is_excluded(&mut self, name: &[u8], attributes: &Attributes, kind: FileKind) -> bool {
        let filter = &self.lister.inner.filter;
        let is_file = kind == FileKind::File;
        if is_file && attributes.size.is_some_and(|size| filter.excludes_size(size)) {
            return true;
        }
        if !filter.has_rules() && self.lister.never.is_empty() {
            return false;
        }
        self.path.clear();
        if !self.at.path.is_empty() {
            self.path.extend_from_slice(&self.at.path);
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        self.lister.never.contains(&self.path)
            || filter.has_rules() && filter.excludes(&self.path, kind == FileKind::Directory)
    }

    fn add(&mut self, name: &[u8], attributes: &Attributes) {
        match Facts::of(attributes, self.lister.inner.begun) {
            Some(facts) => self.listing.push(name, facts),
            None => {
                let path = self.lister.inner.path(&self.at.path, name);
                self.listing.errors.push(nameless_kind(&path));
            }
        }
    }

    /// Asks for the attributes that did not come with the listing, many at once.
    async fn look_closer(&mut self, client: &Client) -> ClientResult<()> {
        let mut names = std::mem::take(&mut self.unclear).into_iter();
        let mut looks = JoinSet::new();
        loop {
            while looks.len() < LOOKS
                && let Some(name) = names.next()
            {
                let path = self.lister.inner.path(&self.at.path, &name);
                let client = client.clone();
                looks.spawn(async move {
                    let looked = client.lstat(&path).await;
                    (name, path, looked)
                });
            }
            match looks.join_next().await {
                None => return Ok(()),
                Some(Ok((name, path, looked))) => self.looked(&name, &path, looked)?,
                Some(Err(_)) => {
                    let why = std::io::Error::other("a task of the walk died");
                    let path = self.lister.inner.path(&self.at.path, b"");
                    let path = String::from_utf8_lossy(&path);
                    self.listing.errors.push(SourceError::from_io("list", path, why));
                }
            }
        }
    }

    fn looked(
        &mut self,
        name: &[u8],
        path: &[u8],
        looked: ClientResult<Attributes>,
    ) -> ClientResult<()> {
        match looked {
            Err(error) if error.is_disconnect() => return Err(error),
            Err(error) => {
                let error = self.lister.inner.error("stat", path, error.into());
                // Gone since it was listed.
                if error.kind != SourceErrorKind::NotFound {
                    self.listing.errors.push(error);
                }
            }
            Ok(attributes) => {
                let kind = attributes.kind();
                if kind.is_some_and(|kind| self.is_excluded(name, &attributes, kind)) {
                    self.listing.excluded += 1;
                } else {
                    self.add(name, &attributes);
                }
            }
        }
        Ok(())
    }
}

/// OpenSSH's server passes over entries that it cannot examine. Where it may read a directory but
/// not search it, that is all of them, even `.`: such a listing is empty and must not count.
async fn check_searchable(client: &Client, path: &[u8]) -> ClientResult<()> {
    let within = below(path, b".");
    match client.lstat(&within).await {
        Err(error) if error.is_disconnect() || error.kind == ClientErrorKind::PermissionDenied => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// `name` in the directory at an absolute path.
fn below(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
    [directory, slash, name].concat()
}

/// Whether the tag says what it must; one that cannot be read says nothing.
async fn is_cache(client: &Client, directory: &[u8]) -> ClientResult<bool> {
    let path = below(directory, CACHE_TAG.as_bytes());
    let read = async {
        // Opening anything else might wait for ever.
        if client.lstat(&path).await?.kind() != Some(FileKind::File) {
            return Ok(false);
        }
        let file = client.open(&path, OpenFlags::READ, &Attributes::default()).await?;
        Ok(file.read_range(0, CACHE_SIGNATURE.len()).await? == CACHE_SIGNATURE)
    };
    let read: ClientResult<bool> = read.await;
    match read {
        Err(error) if error.is_disconnect() => Err(error),
        read => Ok(read.unwrap_or(false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_servers_root_has_an_absolute_path_too() {
        assert_eq!(below(b"/", b"x"), b"/x");
        assert_eq!(below(b"/a", b"x"), b"/a/x");
    }

    #[test]
    fn names_that_come_twice_are_refused() {
        let attributes = Attributes { size: Some(1), ..Attributes::with_permissions(0o100_644) };
        let facts = Facts::of(&attributes, 0).unwrap();
        let mut listing = Listing::default();
        for name in [&b"b"[..], b"a", b"\xff", b"b", b"a.b", b"b"] {
            listing.push(name, facts);
        }
        listing.sort(|name| String::from_utf8_lossy(name).into_owned());
        let names: Vec<_> = listing.found.iter().map(|found| listing.name(found)).collect();
        assert_eq!(names, [&b"a"[..], b"a.b", b"b", b"\xff"]);
        let errors: Vec<_> = listing.errors.iter().map(SourceError::text).collect();
        assert_eq!(errors, ["list b: the server listed it twice"; 2]);
    }
}
