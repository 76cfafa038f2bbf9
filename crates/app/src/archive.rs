//! Archives as streams: the formats, and the file that one goes to. What is in them comes from the
//! engine's `archive`; [`tar`] and [`zip`] encode it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use holdfast_engine::monitor::{Interrupt, Monitor};
use holdfast_engine::ops::archive::{ArchiveError, ArchiveOptions, ArchiveReport, archive};
use holdfast_engine::repo::BlobReader;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use tempfile::NamedTempFile;

use crate::catalogue;
use crate::problem::{Class, Problem};
use crate::text::printable_os;

mod tar;
mod zip;

use self::tar::TarSink;
use self::zip::ZipSink;

/// Bytes gathered before they are written.
const BUFFER: usize = 256 << 10;

/// How zstd compresses: fast, and already small.
const ZSTD: i32 = 3;

/// What an archive looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// tar in its PAX form, as GNU tar, star and bsdtar read it.
    #[default]
    Tar,
    /// The same, compressed.
    TarZst,
    /// zip, with ZIP64 where it is needed.
    Zip,
}

impl Format {
    /// The format that a file's name tells.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let ends = [
            (".tar", Self::Tar),
            (".tar.zst", Self::TarZst),
            (".tzst", Self::TarZst),
            (".zip", Self::Zip),
        ];
        ends.into_iter().find(|(end, _)| name.ends_with(end)).map(|(_, format)| format)
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::TarZst => "tar.zst",
            Self::Zip => "zip",
        }
    }
}

/// Writes an archive to `out`. After an error what was written is no whole archive, and programs
/// that unpack it say so.
pub fn write_archive(
    reader: &BlobReader<'_>,
    snapshot: &SnapshotInfo,
    options: &ArchiveOptions,
    format: Format,
    out: &mut dyn Write,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<ArchiveReport, ArchiveError> {
    let out = BufWriter::with_capacity(BUFFER, out);
    let (report, mut out) = match format {
        Format::Tar => {
            let mut sink = TarSink::new(out);
            let report = archive(reader, snapshot, options, &mut sink, monitor, interrupt)?;
            (report, sink.finish()?)
        }
        Format::TarZst => {
            let mut sink = TarSink::new(zstd::Encoder::new(out, ZSTD)?);
            let report = archive(reader, snapshot, options, &mut sink, monitor, interrupt)?;
            (report, sink.finish()?.finish()?)
        }
        Format::Zip => {
            let mut sink = ZipSink::new(out);
            let report = archive(reader, snapshot, options, &mut sink, monitor, interrupt)?;
            (report, sink.finish()?)
        }
    };
    out.flush()?;
    Ok(report)
}

/// A file that gets its name when it is complete. A device or pipe is written to as it is.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: Output,
    overwrite: bool,
}

#[derive(Debug)]
enum Output {
    Temporary(NamedTempFile),
    Special(File),
}

impl OutputFile {
    /// Begins a file at `path`, which only its owner can read. Where one is already it is refused,
    /// unless it may be overwritten.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self, Problem> {
        let failed = |e: &io::Error| catalogue::io("write", path, e);
        let found = match path.metadata() {
            Ok(found) => Some(found),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(failed(&e)),
        };
        let file = match found {
            Some(found) if found.is_dir() => {
                let shown = printable_os(path);
                return Err(Problem::usage(format!("{shown} is a directory"))
                    .hint(format!("name a file in it: {shown}/archive.tar")));
            }
            Some(found) if !found.is_file() => {
                Output::Special(OpenOptions::new().write(true).open(path).map_err(|e| failed(&e))?)
            }
            Some(_) if !overwrite => return Err(taken(path)),
            _ => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let parent = parent.unwrap_or(Path::new("."));
                parent.metadata().map_err(|e| catalogue::io("write into", parent, &e))?;
                let mut builder = tempfile::Builder::new();
                builder.prefix(".holdfast-archive-");
                let made = builder.tempfile_in(parent);
                Output::Temporary(made.map_err(|e| failed(&e))?)
            }
        };
        Ok(Self { path: path.to_path_buf(), file, overwrite })
    }

    /// Puts the file in its place, durably.
    pub fn commit(self) -> Result<(), Problem> {
        let Self { path, file, overwrite } = self;
        let failed = |e: &io::Error| catalogue::io("write", &path, e);
        let Output::Temporary(file) = file else { return Ok(()) };
        file.as_file().sync_all().map_err(|e| failed(&e))?;
        let kept = match overwrite {
            true => file.persist(&path),
            false => file.persist_noclobber(&path),
        };
        kept.map(drop).map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => taken(&path),
            _ => failed(&e.error),
        })
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Output::Temporary(file) => file.write(bytes),
            Output::Special(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn taken(path: &Path) -> Problem {
    Problem::new(Class::AlreadyExists, format!("{} is there already", printable_os(path)))
        .hint("say --overwrite, or name another file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats() {
        let of = |name: &str| Format::of(Path::new(name));
        assert_eq!((of("a.tar"), of("/x/A.TAR.ZST")), (Some(Format::Tar), Some(Format::TarZst)));
        assert_eq!((of("a.tzst"), of("a.zip")), (Some(Format::TarZst), Some(Format::Zip)));
        assert_eq!((of("a.tar.gz"), of("zip"), of("/")), (None, None, None));
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_complete() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a.tar");
        let mut output = OutputFile::create(&path, false)?;
        output.write_all(b"one")?;
        assert!(!path.exists());
        output.commit()?;
        assert_eq!(std::fs::read(&path)?, b"one");
        let refused = OutputFile::create(&path, false).err().ok_or("not refused")?;
        assert_eq!(refused.class, Class::AlreadyExists);
        let mut output = OutputFile::create(&path, true)?;
        output.write_all(b"two")?;
        drop(output);
        assert_eq!(std::fs::read(&path)?, b"one", "what was not committed is gone");
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 1);
        let mut output = OutputFile::create(&path, true)?;
        output.write_all(b"two")?;
        output.commit()?;
        assert_eq!(std::fs::read(&path)?, b"two");
        assert!(OutputFile::create(dir.path(), true).is_err());
        OutputFile::create(Path::new("/dev/null"), false)?.commit()?;
        Ok(())
    }
}
