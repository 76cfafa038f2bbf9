//! Standard input, or any reader, as a source of one file. It can be read once, from front to
//! back, and its size is known only at its end.

use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use holdfast_engine::meta::{Extent, Kind, Metadata, Owner, Time};
use holdfast_engine::source::{
    Details, SmallRead, Source, SourceDirectory, SourceEntry, SourceError, SourceErrorKind,
    SourceFile, SourceResult, WalkBatch,
};

use crate::locked;

/// A reader as a source. Its root is a regular file with an empty name, size 0 and no inode.
///
/// **The size is not known beforehand**: whoever backs this up must treat the file as a big one
/// of unknown size, read it with [`open`](Source::open) until nothing more comes, and record what
/// came as its size. [`read_small`](Source::read_small) works for what fits its limit; what does
/// not is lost with the `Changed` it answers, since a stream cannot be read again.
pub struct StreamSource {
    location: String,
    owner: Arc<Owner>,
    begun: Time,
    reader: Mutex<Option<Box<dyn Read + Send>>>,
}

impl fmt::Debug for StreamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamSource({})", self.location)
    }
}

impl StreamSource {
    /// The source that `reader` brings, named `location` in messages ("standard input").
    pub fn new(location: impl Into<String>, reader: Box<dyn Read + Send>) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        Self {
            location: location.into(),
            owner: Arc::new(crate::local::owner_of(uid, gid)),
            begun: Time {
                seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
                nanos: now.subsec_nanos(),
            },
            reader: Mutex::new(Some(reader)),
        }
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            kind: Kind::File,
            mode: 0o600,
            owner: Arc::clone(&self.owner),
            mtime: self.begun,
            links: 1,
            ..Metadata::default()
        }
    }

    fn error(&self, kind: SourceErrorKind, why: &str) -> SourceError {
        SourceError {
            kind,
            operation: "read",
            path: self.location.clone(),
            source: Some(why.into()),
        }
    }

    fn take(&self) -> SourceResult<StreamFile> {
        let reader = locked(&self.reader).take();
        let reader = reader
            .ok_or_else(|| self.error(SourceErrorKind::Io, "a stream can be read only once"))?;
        Ok(StreamFile { location: self.location.clone(), metadata: self.metadata(), reader, at: 0 })
    }
}

impl Source for StreamSource {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn walk(&self, sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>) -> SourceResult<()> {
        let entry =
            SourceEntry { name: Vec::new(), metadata: self.metadata(), device: 0, sparse: false };
        let _ = sink(WalkBatch {
            directory: Arc::new(SourceDirectory { path: Vec::new(), handle: None }),
            entries: vec![entry],
            errors: Vec::new(),
            excluded: 0,
        });
        Ok(())
    }

    fn details(&self, _: &SourceDirectory, _: &SourceEntry) -> SourceResult<Details> {
        Ok(Details::default())
    }

    fn read_small(
        &self,
        _: &SourceDirectory,
        _: &SourceEntry,
        limit: usize,
        into: &mut Vec<u8>,
    ) -> SourceResult<SmallRead> {
        let mut file = self.take()?;
        let start = into.len();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let read = file.reader.by_ref().take(most).read_to_end(into);
        if let Err(e) = read {
            into.truncate(start);
            return Err(SourceError::from_io("read", &self.location, e));
        }
        let size = into.len() - start;
        if size > limit {
            into.truncate(start);
            return Err(self.error(SourceErrorKind::Changed, "more came than expected"));
        }
        let metadata = Metadata { size: size as u64, ..self.metadata() };
        Ok(SmallRead { details: Details::default(), metadata })
    }

    fn open(&self, _: &SourceDirectory, _: &SourceEntry) -> SourceResult<Box<dyn SourceFile>> {
        Ok(Box::new(self.take()?))
    }
}

/// The stream, being read. Its metadata's size is what has come so far.
struct StreamFile {
    location: String,
    metadata: Metadata,
    reader: Box<dyn Read + Send>,
    at: u64,
}

impl SourceFile for StreamFile {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> SourceResult<usize> {
        if offset != self.at {
            let why = std::io::Error::other("a stream can be read only from front to back");
            return Err(SourceError::from_io("read", &self.location, why));
        }
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(SourceError::from_io("read", &self.location, e)),
            }
        }
        self.at += done as u64;
        Ok(done)
    }

    fn extents(&mut self) -> SourceResult<Option<Vec<Extent>>> {
        Ok(None)
    }

    fn details(&mut self) -> SourceResult<Details> {
        Ok(Details::default())
    }

    fn metadata(&mut self) -> SourceResult<Metadata> {
        Ok(Metadata { size: self.at, ..self.metadata.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_one_file_read_once() {
        let source = StreamSource::new("standard input", Box::new(&b"0123456789"[..]));
        let mut seen = Vec::new();
        source
            .walk(&mut |batch| {
                seen.push(batch);
                ControlFlow::Continue(())
            })
            .unwrap();
        let [batch] = seen.as_slice() else { panic!("{seen:?}") };
        let [entry] = batch.entries.as_slice() else { panic!("{batch:?}") };
        assert_eq!((entry.name.len(), entry.metadata.kind), (0, Kind::File));
        let mut file = source.open(&batch.directory, entry).unwrap();
        let mut buffer = [0; 6];
        assert_eq!(file.read_at(0, &mut buffer).unwrap(), 6);
        assert!(file.read_at(0, &mut buffer).is_err());
        assert_eq!(file.read_at(6, &mut buffer).unwrap(), 4);
        assert_eq!(buffer[..4], *b"6789");
        assert_eq!(file.read_at(10, &mut buffer).unwrap(), 0);
        assert_eq!(file.metadata().unwrap().size, 10);
        assert!(source.open(&batch.directory, entry).is_err());
    }
}
