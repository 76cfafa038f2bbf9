//! The walk: tasks list directories ahead of the consumer, who gets them in the order of the tree.
//!
//! What lies below a prefix is first listed as a whole, so that many small directories take one
//! request; if that takes more than a few pages, the directory is listed by itself, page by page,
//! and those below it one by one, several at the same time.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use holdfast_engine::source::{
    SourceDirectory, SourceEntry, SourceError, SourceErrorKind, SourceResult, WalkBatch,
};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::Inner;
use super::facts::{self, Facts};
use super::order::{Child, Found, Hold, What, children};
use crate::empty_batch;
use crate::filter::CACHE_TAG;
use crate::s3::client::ListedPage;

/// A subtree of at most so many pages is listed at once.
const WHOLE: usize = 4;
/// Directories that are being listed or wait, listed, for the consumer.
const AHEAD: usize = 16;
/// Pages of one directory that wait for the consumer.
const PAGES: usize = 2;
/// Entries in a batch.
const BATCH: usize = 1024;

/// What a task finds out about a directory.
#[derive(Debug)]
enum Page {
    /// All that lies below, by key.
    Subtree(Vec<Found>),
    /// Entries, or the next of them.
    Children(Vec<Child<()>>),
    /// All it holds is left out.
    Cache(u64),
    /// All of it was told.
    End,
}

/// A directory to be listed.
#[derive(Debug)]
struct Job {
    directory: Arc<SourceDirectory>,
    prefix: Arc<String>,
    pages: Option<mpsc::Receiver<SourceResult<Page>>>,
    task: Option<AbortHandle>,
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Job {
    /// The directory at `path` that holds what begins with `prefix`.
    fn new(path: Vec<u8>, prefix: String) -> Self {
        let prefix = Arc::new(prefix);
        let handle: Arc<dyn std::any::Any + Send + Sync> = prefix.clone();
        let directory = Arc::new(SourceDirectory { path, handle: Some(handle) });
        Self { directory, prefix, pages: None, task: None }
    }

    fn begin(&mut self, inner: &Arc<Inner>) {
        if self.pages.is_some() {
            return;
        }
        let (pages, receiver) = mpsc::channel(PAGES);
        let (inner, prefix) = (Arc::clone(inner), Arc::clone(&self.prefix));
        let runtime = inner.client.runtime().clone();
        let task = runtime.spawn(async move {
            let end = match list(&inner, &prefix, &pages).await {
                Ok(()) => Ok(Page::End),
                Err(error) => Err(error),
            };
            // Nobody listens any more if the walk was ended.
            let _ = pages.send(end).await;
        });
        self.pages = Some(receiver);
        self.task = Some(task.abort_handle());
    }

    fn next(&mut self) -> SourceResult<Page> {
        let page = self.pages.as_mut().and_then(mpsc::Receiver::blocking_recv);
        page.unwrap_or_else(|| {
            let died = std::io::Error::other("a task of the walk died");
            Err(SourceError::from_io("list", self.prefix.as_str(), died))
        })
    }
}

type Pages = mpsc::Sender<SourceResult<Page>>;

/// Lists a directory. What fails is an error, and what was told until then is not all of it.
async fn list(inner: &Inner, prefix: &str, pages: &Pages) -> SourceResult<()> {
    let failed = |error| inner.error("list", prefix, error);
    let mut listing = inner.client.pages(prefix, false);
    let mut found: Vec<Found> = Vec::new();
    let mut is_whole = false;
    for _ in 0..WHOLE {
        let Some(page) = listing.next().await.map_err(failed)? else { break };
        is_whole = page.is_last;
        let objects = page.objects.into_iter();
        found.extend(objects.map(|of| Found { facts: Facts::of(&of), key: of.key }));
    }
    if is_whole {
        // Not every server sorts as the others do.
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        found.dedup_by(|a, b| a.key == b.key);
        send(pages, Page::Subtree(found)).await;
        return Ok(());
    }
    drop(found);
    if inner.options.exclude_caches && inner.is_cache(prefix).await? {
        let mut excluded = 0;
        let mut listing = inner.client.pages(prefix, true);
        while let Some(page) = listing.next().await.map_err(failed)? {
            excluded += (page.objects.len() + page.prefixes.len()) as u64;
        }
        send(pages, Page::Cache(excluded)).await;
        return Ok(());
    }
    let mut listing = inner.client.pages(prefix, true);
    let mut hold = Hold::default();
    let mut position = String::new();
    while let Some(page) = listing.next().await.map_err(failed)? {
        let Some(last) = take(&mut hold, prefix, &position, page) else {
            let why = std::io::Error::other("the server does not list keys in their order");
            return Err(SourceError::from_io("list", inner.shown(prefix), why));
        };
        position = last;
        send_children(pages, hold.release(Some(&position))).await;
    }
    send_children(pages, hold.release(None)).await;
    Ok(())
}

/// Takes a page in. The last key, without the prefix; `None` if one comes that should have come
/// before.
fn take(hold: &mut Hold<()>, prefix: &str, position: &str, page: ListedPage) -> Option<String> {
    let mut last = position.to_owned();
    for object in &page.objects {
        let rest = object.key.strip_prefix(prefix)?;
        if rest < position {
            return None;
        }
        hold.file(rest, Facts::of(object));
        last = last.max(rest.to_owned());
    }
    for common in &page.prefixes {
        let rest = common.strip_prefix(prefix)?;
        if rest < position {
            return None;
        }
        hold.directory(rest.strip_suffix('/')?, ());
        last = last.max(rest.to_owned());
    }
    Some(last)
}

async fn send(pages: &Pages, page: Page) {
    // Nobody listens any more if the walk was ended; then this task is too.
    let _ = pages.send(Ok(page)).await;
}

async fn send_children(pages: &Pages, children: Vec<Child<()>>) {
    if !children.is_empty() {
        send(pages, Page::Children(children)).await;
    }
}

pub(super) fn walk(
    inner: &Arc<Inner>,
    sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>,
) -> SourceResult<()> {
    let prefix = inner.root_prefix();
    if inner.is_never(&prefix) {
        let why = std::io::Error::other("this is where the backup itself is kept");
        return Err(SourceError::from_io("list", inner.shown(&prefix), why));
    }
    let mut root = Job::new(Vec::new(), prefix);
    root.begin(inner);
    // Before anything is handed out: a root that cannot be listed is an error of the whole.
    let first = root.next()?;
    let is_empty = matches!(&first, Page::Subtree(found) if found.is_empty());
    if is_empty && !inner.client.options().prefix.is_empty() {
        return object(inner, &root.directory, sink);
    }
    let entry = directory_entry(Vec::new());
    let mut walk = Walk { inner, sink, stack: Vec::new() };
    if walk.emit(&root.directory, vec![entry], 0).is_break() {
        return Ok(());
    }
    let mut next = Some((root, Some(first)));
    while let Some((mut job, first)) = next {
        match walk.consume(&mut job, first) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return Ok(()),
            Err(error) => {
                let is_root = job.directory.path.is_empty();
                if is_root || error.kind == SourceErrorKind::Unreachable {
                    return Err(error);
                }
                let mut batch = empty_batch(&job.directory);
                batch.errors.push(error);
                if (walk.sink)(batch).is_break() {
                    return Ok(());
                }
            }
        }
        walk.begin_more();
        next = walk.stack.pop().map(|job| (job, None));
    }
    Ok(())
}

/// The root is a single object.
fn object(
    inner: &Arc<Inner>,
    directory: &Arc<SourceDirectory>,
    sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>,
) -> SourceResult<()> {
    let key = inner.client.options().prefix.clone();
    let info = inner.client.block_on(inner.client.head(&key));
    let info = info.map_err(|error| inner.error("list", &key, error))?;
    let metadata = facts::of_info(&info);
    let mut batch = empty_batch(directory);
    batch.entries.push(SourceEntry { name: Vec::new(), metadata, device: 0, sparse: false });
    let _ = sink(batch);
    Ok(())
}

fn directory_entry(name: Vec<u8>) -> SourceEntry {
    SourceEntry { name, metadata: facts::directory(), device: 0, sparse: false }
}

/// The consumer's side.
struct Walk<'a> {
    inner: &'a Arc<Inner>,
    sink: &'a mut dyn FnMut(WalkBatch) -> ControlFlow<()>,
    /// Directories to come; the next is the last.
    stack: Vec<Job>,
}

impl Walk<'_> {
    /// Begins the directories that come next.
    fn begin_more(&mut self) {
        let mut begun = self.stack.iter().filter(|job| job.pages.is_some()).count();
        for (at, job) in self.stack.iter_mut().rev().take(AHEAD).enumerate() {
            if job.pages.is_some() {
                continue;
            }
            if at > 0 && begun >= AHEAD {
                return;
            }
            job.begin(self.inner);
            begun += 1;
        }
    }

    /// Hands out a directory, and notes those below it: also if the listing fails midway, since
    /// those were handed out, and must not look empty.
    fn consume(&mut self, job: &mut Job, first: Option<Page>) -> SourceResult<ControlFlow<()>> {
        let mut below = Vec::new();
        let flow = self.hand_out(job, first, &mut below);
        self.stack.extend(below.into_iter().rev());
        flow
    }

    fn hand_out(
        &mut self,
        job: &mut Job,
        mut first: Option<Page>,
        below: &mut Vec<Job>,
    ) -> SourceResult<ControlFlow<()>> {
        loop {
            let page = match first.take() {
                Some(page) => page,
                None => job.next()?,
            };
            let flow = match page {
                Page::End => return Ok(ControlFlow::Continue(())),
                Page::Subtree(found) => self.subtree(job, &found)?,
                Page::Cache(excluded) => self.emit(&job.directory, Vec::new(), excluded),
                Page::Children(children) => {
                    let (entries, directories, excluded) = self.sort_out(job, children);
                    below.extend(directories.into_iter().map(|(job, ())| job));
                    self.emit(&job.directory, entries, excluded)
                }
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
    }

    /// Hands out all that lies below a directory.
    fn subtree(&mut self, job: &Job, found: &[Found]) -> SourceResult<ControlFlow<()>> {
        let root = Job::new(job.directory.path.clone(), job.prefix.to_string());
        let mut stack = vec![(root, 0..found.len())];
        while let Some((job, range)) = stack.pop() {
            let inside = found.get(range.clone()).unwrap_or_default();
            let children = children(inside, job.prefix.len());
            let tag = |child: &Child<Range<usize>>| {
                child.name == CACHE_TAG && matches!(child.what, What::File(_))
            };
            let is_cache = self.inner.options.exclude_caches
                && children.iter().any(tag)
                && self.inner.client.block_on(self.inner.is_cache(&job.prefix))?;
            if is_cache {
                if self.emit(&job.directory, Vec::new(), children.len() as u64).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                continue;
            }
            let (entries, directories, excluded) = self.sort_out(&job, children);
            if self.emit(&job.directory, entries, excluded).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let directories = directories.into_iter().rev();
            stack.extend(directories.map(|(job, within)| {
                let start = range.start + within.start;
                (job, start..range.start + within.end)
            }));
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Asks the filters: the entries, the directories among them, and how many are left out.
    fn sort_out<D>(
        &self,
        job: &Job,
        children: Vec<Child<D>>,
    ) -> (VecDeque<SourceEntry>, Vec<(Job, D)>, u64) {
        let (inner, mut excluded) = (self.inner, 0);
        let mut entries = VecDeque::with_capacity(children.len());
        let mut directories = Vec::new();
        for Child { name, what } in children {
            let path = crate::join(&job.directory.path, name.as_bytes());
            let is_directory = matches!(what, What::Directory(_));
            let key = crate::s3::names::key_of(name.as_bytes()).unwrap_or_default();
            let is_left_out = match &what {
                What::File(facts) => inner.filter.excludes_size(facts.size),
                What::Directory(_) => inner.is_never(&format!("{}{key}/", job.prefix)),
            };
            if is_left_out || inner.filter.has_rules() && inner.filter.excludes(&path, is_directory)
            {
                excluded += 1;
                continue;
            }
            match what {
                What::File(facts) => entries.push_back(SourceEntry {
                    name: name.into_bytes(),
                    metadata: facts.metadata(),
                    device: 0,
                    sparse: false,
                }),
                What::Directory(below) => {
                    let prefix = format!("{}{key}/", job.prefix);
                    directories.push((Job::new(path, prefix), below));
                    entries.push_back(directory_entry(name.into_bytes()));
                }
            }
        }
        (entries, directories, excluded)
    }

    fn emit(
        &mut self,
        directory: &Arc<SourceDirectory>,
        entries: impl Into<VecDeque<SourceEntry>>,
        excluded: u64,
    ) -> ControlFlow<()> {
        let (mut entries, mut excluded) = (entries.into(), excluded);
        while !entries.is_empty() || excluded > 0 {
            let mut batch = empty_batch(directory);
            let some = entries.len().min(BATCH);
            batch.entries.extend(entries.drain(..some));
            batch.excluded = std::mem::take(&mut excluded);
            (self.sink)(batch)?;
        }
        ControlFlow::Continue(())
    }
}
