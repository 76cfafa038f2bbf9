//! What happened in a schedule, for whoever looks for the cause of a loss: with `HOLDFAST_TRACE` set to
//! a file, every call is kept with what it stored, and written there, opened and in words, when a
//! schedule fails.

use std::fmt::Write;
use std::sync::Mutex;

use holdfast_engine::crypto::ObjectKind;
use holdfast_engine::format::envelope::{self, HEADER_LEN, Header};
use holdfast_engine::format::index::Segment;
use holdfast_engine::format::pack::{Directory, TRAILER_LEN, directory_place, open_directory};
use holdfast_engine::format::session::{Condemned, Lease};
use holdfast_engine::format::snapshot::Snapshot;
use holdfast_engine::repo::Repository;
use prost::Message;

/// A call, or something that an actor says.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) step: u64,
    pub(super) actor: usize,
    pub(super) process: usize,
    pub(super) text: String,
    pub(super) object: String,
    /// What is stored under that name afterwards, of a call that stores.
    pub(super) bytes: Option<Vec<u8>>,
}

/// The calls so far, if they are kept.
#[derive(Debug)]
pub(super) struct Trace(Option<Mutex<Vec<Line>>>);

impl Trace {
    pub(super) fn new() -> Self {
        Self(std::env::var_os("HOLDFAST_TRACE").map(|_| Mutex::default()))
    }

    pub(super) fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn add(&self, line: Line) {
        if let Some(lines) = &self.0 {
            lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line);
        }
    }

    /// Writes all lines into the file.
    pub(super) fn write(&self, repository: &Repository) {
        let (Some(lines), Some(path)) = (&self.0, std::env::var_os("HOLDFAST_TRACE")) else {
            return;
        };
        let mut text = String::new();
        for line in lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
            let Line { step, actor, process, text: what, object, bytes } = line;
            let _ = write!(text, "{step} actor {actor}.{process} {what} {object}");
            if let Some(bytes) = bytes {
                let _ = write!(text, " {}", opened(repository, object, bytes));
            }
            text.push('\n');
        }
        std::fs::write(path, text).expect("the trace");
    }
}

fn short(bytes: &[u8]) -> String {
    holdfast_engine::hash::to_hex(bytes.get(..4).unwrap_or(bytes))
}

fn shorts(ids: &[Vec<u8>]) -> String {
    ids.iter().map(|id| short(id)).collect::<Vec<_>>().join(" ")
}

/// What an object says, in words.
fn opened(repository: &Repository, name: &str, bytes: &[u8]) -> String {
    let open = |kind, name: &str| {
        envelope::open(repository.keys(), repository.id(), kind, name, bytes.to_vec()).ok()
    };
    let said = match name.split('/').next() {
        Some("packs") => directory(repository, bytes).map(|directory| blobs(&directory)),
        Some("index") => open(ObjectKind::Index, "index").and_then(|message| {
            let segment = Segment::decode(&message[..]).ok()?;
            let ids: Vec<_> = segment.packs.into_iter().map(|pack| pack.id).collect();
            let supersedes = shorts(&segment.supersedes);
            Some(format!("packs [{}] supersedes [{supersedes}]", shorts(&ids)))
        }),
        Some("condemned") => open(ObjectKind::Condemned, name).and_then(|message| {
            let record = Condemned::decode(&message[..]).ok()?;
            let (packs, segments) = (shorts(&record.packs), shorts(&record.segments));
            Some(format!("packs [{packs}] segments [{segments}]"))
        }),
        Some("sessions") => open(ObjectKind::Session, name).and_then(|message| {
            let lease = Lease::decode(&message[..]).ok()?;
            Some(format!("{} acknowledges [{}]", lease.verb, shorts(&lease.acknowledged)))
        }),
        Some("snapshots") => open(ObjectKind::Snapshot, name).and_then(|message| {
            let snapshot = Snapshot::decode(&message[..]).ok()?;
            let roots: Vec<_> = snapshot.roots.into_iter().map(|root| root.tree).collect();
            let partial = if snapshot.partial { "partial " } else { "" };
            let parent = short(&snapshot.parent);
            Some(format!("{partial}{} trees [{}] parent {parent}", snapshot.host, shorts(&roots)))
        }),
        _ => None,
    };
    said.unwrap_or_default()
}

fn directory(repository: &Repository, bytes: &[u8]) -> Option<Directory> {
    let (header, trailer) = (bytes.get(..HEADER_LEN)?, bytes.len().checked_sub(TRAILER_LEN)?);
    let (at, length) = directory_place(bytes.get(trailer..)?, bytes.len() as u64).ok()?;
    let sealed = bytes.get(at as usize..)?.get(..length)?.to_vec();
    let kind = Header::parse(header).ok()?.kind;
    open_directory(repository.keys(), repository.id(), kind, header, sealed).ok()
}

fn blobs(directory: &Directory) -> String {
    let mut text = String::from("blobs [");
    for (id, number) in directory.ids.chunks_exact(32).zip(0_u32..) {
        let hollow = if directory.hollow.contains(&number) { "hollow " } else { "" };
        let kind = directory.kinds.get(number as usize).copied().unwrap_or_default();
        let _ = write!(text, "{hollow}{}/{kind} ", short(id));
    }
    text.push(']');
    text
}
