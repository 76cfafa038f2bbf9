//! The events of `--json`: one object a line, `v` and `type` first. docs/json.md describes them;
//! fields are added in place, and `v` grows when one changes its meaning or goes.

use std::io::{self, Write};

use holdfast_app::times::rfc3339;
use holdfast_engine::format::snapshot::{self, Root};
use holdfast_engine::hash::to_hex;
use holdfast_engine::meta::{Metadata, Time};
use holdfast_engine::monitor::Progress as Counters;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use serde::Serialize;

const VERSION: u32 = 1;

#[derive(Serialize)]
struct Event<'a, T> {
    v: u32,
    r#type: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

/// Writes one event and its newline.
pub(crate) fn write(out: &mut impl Write, kind: &str, body: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Event { v: VERSION, r#type: kind, body })?;
    out.write_all(b"\n")
}

#[derive(Serialize)]
pub(crate) struct Message<'a> {
    pub(crate) message: &'a str,
}

#[derive(Serialize)]
pub(crate) struct Trouble<'a> {
    pub(crate) what: &'a str,
    pub(crate) message: &'a str,
}

#[derive(Serialize)]
pub(crate) struct Error<'a> {
    class: &'static str,
    message: &'a str,
    stage: Option<&'static str>,
    causes: &'a [String],
    hints: &'a [String],
    exit_code: u8,
}

impl<'a> From<&'a holdfast_app::Problem> for Error<'a> {
    fn from(problem: &'a holdfast_app::Problem) -> Self {
        Self {
            class: problem.class.name(),
            message: &problem.message,
            stage: problem.stage,
            causes: &problem.causes,
            hints: &problem.hints,
            exit_code: problem.exit_code(),
        }
    }
}

/// A path: as text, with what is not UTF-8 replaced, and then also as bytes in base 16.
#[derive(Serialize)]
pub(crate) struct Path {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl Path {
    pub(crate) fn new(path: &[u8]) -> Self {
        let path_bytes = std::str::from_utf8(path).is_err().then(|| to_hex(path));
        Self { path: String::from_utf8_lossy(path).into_owned(), path_bytes }
    }
}

#[derive(Serialize)]
pub(crate) struct Progress<'a> {
    phase: &'a str,
    files: u64,
    bytes: u64,
    total_files: Option<u64>,
    total_bytes: Option<u64>,
    stored: u64,
    seconds: f64,
    #[serde(flatten)]
    current: Path,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(phase: &'a str, c: &Counters, seconds: f64, current: &[u8]) -> Self {
        Self {
            phase,
            files: c.files,
            bytes: c.bytes,
            total_files: c.total_files,
            total_bytes: c.total_bytes,
            stored: c.stored,
            seconds,
            current: Path::new(current),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Snapshot<'a> {
    id: String,
    time: String,
    host: &'a str,
    user: &'a str,
    kind: &'a str,
    tags: &'a [String],
    description: &'a str,
    program: &'a str,
    partial: bool,
    pinned: bool,
    parent: Option<String>,
    origin: Option<Origin>,
    files: u64,
    directories: u64,
    bytes: u64,
    errors: u64,
    roots: Vec<Path>,
}

/// Where a copy was made from.
#[derive(Serialize)]
struct Origin {
    repository: String,
    snapshot: String,
}

impl From<&snapshot::Origin> for Origin {
    fn from(origin: &snapshot::Origin) -> Self {
        Self { repository: to_hex(&origin.repository), snapshot: to_hex(&origin.snapshot) }
    }
}

impl<'a> From<&'a SnapshotInfo> for Snapshot<'a> {
    fn from(info: &'a SnapshotInfo) -> Self {
        let record = &info.record;
        let sum = record.sum();
        Self {
            id: info.id.to_string(),
            time: rfc3339(record.time),
            host: &record.host,
            user: &record.user,
            kind: &record.kind,
            tags: &record.tags,
            description: &record.description,
            program: &record.program,
            partial: record.partial,
            pinned: record.pinned,
            parent: (!record.parent.is_empty()).then(|| to_hex(&record.parent)),
            origin: record.origin.as_ref().map(Origin::from),
            files: sum.files,
            directories: sum.directories,
            bytes: sum.bytes,
            errors: sum.errors,
            roots: record.roots.iter().map(|root: &Root| Path::new(&root.path)).collect(),
        }
    }
}

/// An entry of a tree.
#[derive(Serialize)]
pub(crate) struct Entry<'a> {
    #[serde(flatten)]
    path: Path,
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    user: &'a str,
    group: &'a str,
    size: u64,
    mtime: String,
    inode: u64,
    links: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

impl<'a> Entry<'a> {
    pub(crate) fn new(path: &[u8], m: &'a Metadata, target: &[u8], error: &'a str) -> Self {
        Self {
            path: Path::new(path),
            kind: m.kind.name(),
            mode: format!("{:04o}", m.mode),
            uid: m.owner.uid,
            gid: m.owner.gid,
            user: &m.owner.user,
            group: &m.owner.group,
            size: m.size,
            mtime: time(m.mtime),
            inode: m.inode,
            links: m.links.max(1),
            target: (!target.is_empty()).then(|| String::from_utf8_lossy(target).into_owned()),
            error,
        }
    }
}

fn time(time: Time) -> String {
    rfc3339(time.total_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_type_come_first() -> Result<(), Box<dyn std::error::Error>> {
        let mut line = Vec::new();
        write(&mut line, "note", &Path::new(b"/a/\xff"))?;
        let expected =
            "{\"v\":1,\"type\":\"note\",\"path\":\"/a/\u{fffd}\",\"path_bytes\":\"2f612fff\"}\n";
        assert_eq!(String::from_utf8(line)?, expected);
        Ok(())
    }
}
