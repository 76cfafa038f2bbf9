//! Keeping an accepted key: one line, appended whole, once, also when several runs do it at a time.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use russh::keys::PublicKey;
use rustix::fs::{FlockOperation, flock};

use super::file::{self, Marker};

/// Appends `name` and `key` to `path` unless they stand there. The file is made 0600, its
/// directory 0700. Blocks while another process writes.
pub(in super::super) fn append(path: &Path, name: &str, key: &PublicKey) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    // Two runs that meet a new host at once would write it twice, or into one another's line end.
    flock(&file, FlockOperation::LockExclusive)?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    let shared: Arc<Path> = path.into();
    let text = String::from_utf8_lossy(&bytes);
    let there = text.lines().filter_map(|line| file::parse(line, &shared, 0)).any(|entry| {
        entry.marker == Marker::Key && entry.key.key_data() == key.key_data() && entry.matches(name)
    });
    if there {
        return Ok(());
    }
    let key = PublicKey::new(key.key_data().clone(), "").to_openssh().map_err(io::Error::other)?;
    let break_line = if bytes.last().is_none_or(|last| *last == b'\n') { "" } else { "\n" };
    file.write_all(format!("{break_line}{name} {key}\n").as_bytes())?;
    file.sync_all()
}
