//! Where tables are kept: in files of the cache folder, in files without a name for a single run,
//! or, where there is no folder that can be written, in memory. The folder may be shared between
//! processes, and may go away at any time.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::crypto::{Keys, ObjectCipher, ObjectKind};
use crate::format::envelope::{HEADER_LEN, Header};
use crate::hash::{RepositoryId, to_hex};
use crate::repo::{Repository, random};
use crate::{Error, Result};

use super::page::{PAGE, PAYLOAD, Pages};
use super::table::{Layout, Section, Table, prefix};

/// End of the names of tables.
const TABLE: &str = "table";

/// End of the names of files that are being written.
const TEMPORARY: &str = "tmp";

/// A temporary file that has not changed for so long was left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes collected before they are written.
const BUFFER: usize = 64 * PAGE;

/// When tables are made and merged. Tests make them small.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Lines of new segments that are sorted at once, 60 bytes each.
    pub(super) batch: usize,
    /// Tables of new segments that may wait to be merged.
    pub(super) waiting: usize,
    /// A table with no more lines than this is merged with whatever comes next.
    pub(super) small: u64,
    /// Lines of this run that are settled together.
    pub(super) settled: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch: 256 << 10, waiting: 128, small: 8192, settled: 128 << 10 }
    }
}

/// Makes and finds the tables of one index.
#[derive(Debug)]
pub(super) struct Store {
    folder: Option<PathBuf>,
    /// Whether files keep their names, for the next command to find.
    keep: bool,
    keys: Arc<Keys>,
    repository: RepositoryId,
    pages: Arc<Pages>,
    pub(super) limits: Limits,
}

impl Store {
    /// Tables are kept in the repository's cache, if it has one.
    pub(super) fn kept(repository: &Repository) -> Self {
        Self { keep: true, ..Self::scratch(repository) }
    }

    /// Tables are used by this run alone, in files if there is a cache to put them into.
    pub(super) fn scratch(repository: &Repository) -> Self {
        let folder = repository.cache().map(|dir| dir.join("index"));
        let keys = repository.keys.clone();
        Self { folder, ..Self::memory(keys, *repository.id()) }
    }

    /// Tables are in memory.
    pub(super) fn memory(keys: Arc<Keys>, repository: RepositoryId) -> Self {
        let (pages, limits) = Default::default();
        Self { folder: None, keep: false, keys, repository, pages, limits }
    }

    /// The same without a folder.
    pub(super) fn in_memory(&self) -> Self {
        Self { limits: self.limits, ..Self::memory(self.keys.clone(), self.repository) }
    }

    /// Whether the next command will find what is written to files.
    pub(super) fn is_kept(&self) -> bool {
        self.keep && self.folder.is_some()
    }

    /// The tables in the folder, the largest first, each with its file's name. Removes files that
    /// were left behind, those of earlier versions, and tables that are damaged.
    pub(super) fn tables(&self) -> Vec<(PathBuf, Arc<Table>)> {
        let Some(folder) = self.folder.as_deref().filter(|_| self.keep) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.extension().and_then(|end| end.to_str()) {
                Some(TABLE) => {}
                Some(end) if end.starts_with(TEMPORARY) => {
                    let modified = entry.metadata().and_then(|m| m.modified());
                    let age = modified.ok().and_then(|time| time.elapsed().ok());
                    if age.is_some_and(|age| age > LEFT_BEHIND) {
                        let _ = std::fs::remove_file(&path);
                    }
                    continue;
                }
                // A copy of one segment.
                None if crate::hash::ObjectId::from_hex(&entry.file_name().to_string_lossy())
                    .is_ok() =>
                {
                    let _ = std::fs::remove_file(&path);
                    continue;
                }
                _ => continue,
            }
            // One that went since it was listed was merged by somebody else.
            let Ok(file) = File::open(&path) else { continue };
            if let Ok(table) = self.open(file, Some(path.clone())) {
                found.push((path, Arc::new(table)));
            }
        }
        found.sort_by(|(a, x), (b, y)| y.lines().cmp(&x.lines()).then_with(|| a.cmp(b)));
        found
    }

    fn open(&self, file: File, path: Option<PathBuf>) -> Result<Table> {
        Table::open_file(file, path, &self.keys, &self.repository, self.pages.clone())
    }

    /// Starts a table in a file, if one can be had.
    pub(super) fn create_file(&self) -> Option<TableWriter> {
        self.folder.as_ref().and_then(|folder| self.create_in(folder).ok())
    }

    /// Starts a table in memory. `lines` is about how many it will have.
    pub(super) fn create_in_memory(&self, lines: u64) -> TableWriter {
        let pages = lines / Section::Lines.per_page() * 21 / 20 + 16;
        let mut bytes = Vec::with_capacity(usize::try_from(pages).unwrap_or(0) * PAGE);
        bytes.resize(PAGE, 0);
        TableWriter::new(self, Sink::Memory, bytes)
    }

    fn create_in(&self, folder: &Path) -> io::Result<TableWriter> {
        let no_random = |e: Error| io::Error::other(e.to_string());
        let name = to_hex(&random::<16>().map_err(no_random)?);
        let salt = random::<32>().map_err(no_random)?;
        let temporary = folder.join(&name).with_extension(TEMPORARY);
        let create = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600).open(&temporary)
        };
        let file = match create() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder)?;
                create()?
            }
            other => other?,
        };
        let (header, cipher) =
            Header::create(&self.keys, &self.repository, ObjectKind::CacheTable, &salt);
        let path = match self.keep {
            true => Some(folder.join(name).with_extension(TABLE)),
            false => {
                std::fs::remove_file(&temporary)?;
                None
            }
        };
        let sink = Sink::File { file, temporary, path, header, cipher };
        let mut writer = TableWriter::new(self, sink, Vec::with_capacity(BUFFER));
        writer.buffer.resize(PAGE, 0);
        Ok(writer)
    }

    /// Bytes that opened pages take.
    pub(super) fn memory_used(&self) -> usize {
        self.pages.memory_used()
    }
}

enum Sink {
    File {
        file: File,
        temporary: PathBuf,
        path: Option<PathBuf>,
        header: [u8; HEADER_LEN],
        cipher: ObjectCipher,
    },
    Memory,
}

/// Writes a table: records section by section, in their order.
pub(super) struct TableWriter {
    sink: Sink,
    keys: Arc<Keys>,
    repository: RepositoryId,
    pages: Arc<Pages>,
    counts: [u64; 5],
    section: Section,
    fan: Vec<u64>,
    /// The page being filled.
    page: Vec<u8>,
    /// Its number.
    number: u64,
    /// Pages not written yet; in memory, all.
    buffer: Vec<u8>,
    is_renamed: bool,
}

impl TableWriter {
    fn new(store: &Store, sink: Sink, buffer: Vec<u8>) -> Self {
        Self {
            sink,
            keys: store.keys.clone(),
            repository: store.repository,
            pages: store.pages.clone(),
            counts: [0; 5],
            section: Section::Segments,
            fan: Vec::new(),
            page: Vec::with_capacity(PAGE),
            number: 1,
            buffer,
            is_renamed: false,
        }
    }

    /// Adds a record. Sections come in their order, lines sorted by id and pack.
    pub(super) fn push(&mut self, section: Section, record: &[u8]) -> io::Result<()> {
        if section != self.section || self.page.len() + record.len() > PAYLOAD {
            self.end_page()?;
            self.section = section;
        }
        if section == Section::Lines && self.page.is_empty() {
            let first = record.first_chunk::<32>().map(|id| prefix(&crate::hash::BlobId::new(*id)));
            self.fan.push(first.unwrap_or_default());
        }
        if let Some(count) = self.counts.get_mut(section as usize) {
            *count += 1;
        }
        self.page.extend_from_slice(record);
        Ok(())
    }

    fn end_page(&mut self) -> io::Result<()> {
        if self.page.is_empty() {
            return Ok(());
        }
        self.page.resize(PAYLOAD, 0);
        match &self.sink {
            Sink::File { cipher, .. } => {
                let sealed = cipher.seal(self.number, &[], &mut self.page);
                sealed.map_err(io::Error::other)?;
            }
            Sink::Memory => self.page.resize(PAGE, 0),
        }
        self.number += 1;
        self.buffer.append(&mut self.page);
        if self.buffer.len() >= BUFFER {
            self.write_buffer()?;
        }
        Ok(())
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        if let Sink::File { file, .. } = &mut self.sink {
            file.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Ends the table and opens it. `Err` of the outer result: it could not be written.
    pub(super) fn finish(mut self) -> io::Result<Result<Table>> {
        for first in std::mem::take(&mut self.fan) {
            self.push(Section::Fan, &first.to_le_bytes())?;
        }
        self.end_page()?;
        self.write_buffer()?;
        let [segments, supersedes, packs, _, lines] = self.counts;
        let layout = Layout::new(segments, supersedes, packs, lines);
        let layout = layout.ok_or_else(|| io::Error::other("too many packs"))?;
        let mut counts = layout.encode(&self.repository);
        match &mut self.sink {
            Sink::Memory => {
                for (to, from) in self.buffer.iter_mut().skip(HEADER_LEN).zip(counts) {
                    *to = from;
                }
                let bytes = std::mem::take(&mut self.buffer);
                Ok(Table::open_memory(bytes, &self.repository, self.pages.clone()))
            }
            Sink::File { file, temporary, path, header, cipher } => {
                counts.resize(PAYLOAD - HEADER_LEN, 0);
                cipher.seal(0, &[], &mut counts).map_err(io::Error::other)?;
                file.write_all_at(&[&header[..], &counts].concat(), 0)?;
                if let Some(path) = path {
                    std::fs::rename(temporary, path)?;
                    self.is_renamed = true;
                }
                let (file, path) = (file.try_clone()?, path.clone());
                let (keys, pages) = (&self.keys, self.pages.clone());
                Ok(Table::open_file(file, path, keys, &self.repository, pages))
            }
        }
    }
}

impl Drop for TableWriter {
    fn drop(&mut self) {
        if let Sink::File { temporary, path: Some(_), .. } = &self.sink
            && !self.is_renamed
        {
            let _ = std::fs::remove_file(temporary);
        }
    }
}
