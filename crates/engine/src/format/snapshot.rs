//! Snapshot records: one small object is the whole commit (docs/format.md, "Snapshots").

use prost::Message;

use super::tree::{Entry, OwnerRecord};

/// One source root in a snapshot.
#[derive(Clone, PartialEq, Message)]
pub struct Root {
    /// Absolute path of the root at its origin.
    #[prost(bytes = "vec", tag = "1")]
    pub path: Vec<u8>,
    /// Root node of its tree.
    #[prost(bytes = "vec", tag = "2")]
    pub tree: Vec<u8>,
    /// Root node of its totals tree.
    #[prost(bytes = "vec", tag = "3")]
    pub totals: Vec<u8>,
    /// What it holds in all.
    #[prost(message, optional, tag = "4")]
    pub sum: Option<Sum>,
    /// The directories above it, from the topmost down, so that a restore can make them again.
    #[prost(message, repeated, tag = "5")]
    pub ancestors: Vec<Ancestor>,
}

/// A directory above a root.
#[derive(Clone, PartialEq, Message)]
pub struct Ancestor {
    /// Its entry; `name` is the last part of its path.
    #[prost(message, optional, tag = "1")]
    pub entry: Option<Entry>,
    /// Its owner.
    #[prost(message, optional, tag = "2")]
    pub owner: Option<OwnerRecord>,
}

/// Totals of a subtree.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Sum {
    /// Regular files.
    #[prost(uint64, tag = "1")]
    pub files: u64,
    /// Directories.
    #[prost(uint64, tag = "2")]
    pub directories: u64,
    /// Everything else.
    #[prost(uint64, tag = "3")]
    pub others: u64,
    /// Bytes of regular files.
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
    /// Latest modification below, nanoseconds since the epoch.
    #[prost(sint64, tag = "5")]
    pub latest: i64,
    /// Entries that could not be read.
    #[prost(uint64, tag = "6")]
    pub errors: u64,
}

impl Sum {
    /// Entries of every kind.
    pub fn entries(&self) -> u64 {
        self.files.saturating_add(self.directories).saturating_add(self.others)
    }

    /// Adds another subtree's totals.
    pub fn add(&mut self, other: &Self) {
        self.files = self.files.saturating_add(other.files);
        self.directories = self.directories.saturating_add(other.directories);
        self.others = self.others.saturating_add(other.others);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.latest = self.latest.max(other.latest);
        self.errors = self.errors.saturating_add(other.errors);
    }
}

/// What a backup did.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Stats {
    /// Files that the parent snapshot did not hold.
    #[prost(uint64, tag = "1")]
    pub files_new: u64,
    /// Files that differ from the parent's.
    #[prost(uint64, tag = "2")]
    pub files_changed: u64,
    /// Files as in the parent.
    #[prost(uint64, tag = "3")]
    pub files_unchanged: u64,
    /// Bytes read from the source.
    #[prost(uint64, tag = "4")]
    pub bytes_read: u64,
    /// Plain bytes of blobs that were not in the repository yet.
    #[prost(uint64, tag = "5")]
    pub bytes_new: u64,
    /// Bytes of packs written.
    #[prost(uint64, tag = "6")]
    pub bytes_stored: u64,
    /// Blobs written.
    #[prost(uint64, tag = "7")]
    pub blobs_new: u64,
    /// Entries that filters left out.
    #[prost(uint64, tag = "8")]
    pub excluded: u64,
    /// Nanoseconds it took.
    #[prost(uint64, tag = "9")]
    pub nanos: u64,
}

/// Something that could not be read.
#[derive(Clone, PartialEq, Message)]
pub struct Unread {
    /// Absolute path at the origin.
    #[prost(bytes = "vec", tag = "1")]
    pub path: Vec<u8>,
    /// Why, in words.
    #[prost(string, tag = "2")]
    pub reason: String,
}

/// A snapshot.
#[derive(Clone, PartialEq, Message)]
pub struct Snapshot {
    /// When the backup began, nanoseconds since the epoch by the writer's clock.
    #[prost(sint64, tag = "1")]
    pub time: i64,
    /// Host the data came from.
    #[prost(string, tag = "2")]
    pub host: String,
    /// User who ran the backup.
    #[prost(string, tag = "3")]
    pub user: String,
    /// Kind of source: "local", "sftp", "s3", "stdin".
    #[prost(string, tag = "4")]
    pub kind: String,
    /// Tags, sorted.
    #[prost(string, repeated, tag = "5")]
    pub tags: Vec<String>,
    /// Description.
    #[prost(string, tag = "6")]
    pub description: String,
    /// Program and version that wrote it.
    #[prost(string, tag = "7")]
    pub program: String,
    /// An interrupted run: never chosen by `latest`, rules or restore.
    #[prost(bool, tag = "8")]
    pub partial: bool,
    /// Roots, sorted by path.
    #[prost(message, repeated, tag = "9")]
    pub roots: Vec<Root>,
    /// Snapshot it was compared with; empty if none.
    #[prost(bytes = "vec", tag = "10")]
    pub parent: Vec<u8>,
    /// Newest snapshots that the writer had seen, so that omission by the storage shows.
    #[prost(bytes = "vec", repeated, tag = "11")]
    pub heads: Vec<Vec<u8>>,
    /// What the backup did.
    #[prost(message, optional, tag = "12")]
    pub stats: Option<Stats>,
    /// What could not be read, at most a thousand of them; the totals count all.
    #[prost(message, repeated, tag = "13")]
    pub unread: Vec<Unread>,
    /// Exclude rules in force.
    #[prost(string, repeated, tag = "14")]
    pub excludes: Vec<String>,
    /// Keep for ever: no rule forgets it.
    #[prost(bool, tag = "15")]
    pub pinned: bool,
    /// Where it was copied from; absent if it was made here.
    #[prost(message, optional, tag = "16")]
    pub origin: Option<Origin>,
    /// The plan that made it and its locations, as a configuration in TOML without secrets; empty
    /// if there was none.
    #[prost(string, tag = "17")]
    pub plan: String,
}

impl Snapshot {
    /// What it holds in all its roots.
    pub fn sum(&self) -> Sum {
        let mut total = Sum::default();
        self.roots.iter().filter_map(|root| root.sum).for_each(|sum| total.add(&sum));
        total
    }
}

/// The snapshot that a copy was first made from: however often it is copied on, that stays.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct Origin {
    /// Id of the repository in which the backup was made.
    #[prost(bytes = "vec", tag = "1")]
    pub repository: Vec<u8>,
    /// Id of its snapshot there.
    #[prost(bytes = "vec", tag = "2")]
    pub snapshot: Vec<u8>,
}

/// `notes/<snapshot>/<id>`: what was said of a snapshot later. The set is merged in the order of
/// time, then of id.
#[derive(Clone, PartialEq, Message)]
pub struct Note {
    /// Nanoseconds since the epoch by the writer's clock.
    #[prost(sint64, tag = "1")]
    pub time: i64,
    /// Tags to add.
    #[prost(string, repeated, tag = "2")]
    pub add_tags: Vec<String>,
    /// Tags to take away.
    #[prost(string, repeated, tag = "3")]
    pub remove_tags: Vec<String>,
    /// New description.
    #[prost(string, optional, tag = "4")]
    pub description: Option<String>,
    /// Keep for ever, or no longer.
    #[prost(bool, optional, tag = "5")]
    pub pinned: Option<bool>,
}
