//! What the things look like that answers hold: the fields of `app/json.rs` and of the history, with
//! their types, at every depth. A test asks all addresses and finds what is not described.

use super::describe::{Field, Type, may, must};

pub(super) const PROBLEM: &[Field] = &[
    must("class", Type::Text, "As in docs/json.md"),
    must("message", Type::Text, "What happened"),
    may("stage", Type::Text, "How far a connection came"),
    must("causes", Type::Texts, "Why"),
    must("hints", Type::Texts, "What to do next"),
];

const PHASE: &[Field] = &[
    must("name", Type::Text, "Its name"),
    must("began", Type::Whole, "When; nanoseconds since the epoch"),
    must("millis", Type::Whole, "How long it took so far"),
];

const SAMPLE: &[Field] = &[
    must("what", Type::Text, "A path, or an object"),
    must("message", Type::Text, "What is wrong with it"),
];

const ERRORS: &[Field] = &[
    must("class", Type::Text, "What kind, in words"),
    must("count", Type::Whole, "How many"),
    must("samples", Type::Objects(SAMPLE), "The first of them"),
];

const PROGRESS: &[Field] = &[
    must("step", Type::Text, "What of a plan is done; empty if there are no parts"),
    must("phase", Type::Text, "Its phase"),
    must("files", Type::Whole, "Files done in this phase"),
    must("bytes", Type::Whole, "Bytes done in this phase"),
    may("total_files", Type::Whole, "Files in all, once that is known"),
    may("total_bytes", Type::Whole, "Bytes in all, once that is known"),
    must("stored", Type::Whole, "Bytes sent to the storage in this phase"),
    must("rate", Type::Whole, "Bytes a second, over this phase"),
    must("millis", Type::Whole, "How long this phase took so far"),
    must("current", Type::Text, "What is read or written now"),
    must("errors", Type::Whole, "Errors so far"),
];

pub(super) const RUN_FIELDS: &[Field] = &[
    must("id", Type::Whole, "Its number"),
    may("plan", Type::Text, "Its plan"),
    must("verb", Type::Text, "backup, restore, check, gc, forget or drill"),
    must("place", Type::Text, "The repository"),
    must("by", Type::Text, "Who began it"),
    may("due", Type::Text, "When it was due"),
    must("started", Type::Text, "When it began"),
    may("ended", Type::Text, "When it ended"),
    must("outcome", Type::Text, "How it ended; queued or running until then"),
    must("phases", Type::Objects(PHASE), "What it did when"),
    must("numbers", Type::Map(&Type::Whole), "Its figures, by name"),
    must("errors", Type::Objects(ERRORS), "Errors by class"),
    must("snapshots", Type::Texts, "Ids of snapshots that it made"),
    may("problem", Type::Object(PROBLEM), "What ended it"),
    may("progress", Type::Object(PROGRESS), "How far it is, while it is at work"),
];

pub(super) const LINE: &[Field] = &[
    must("number", Type::Whole, "Its number, from 1"),
    must("time", Type::Text, "When"),
    must("level", Type::Text, "info, warning or error"),
    must("message", Type::Text, "What it says"),
];

/// A plan in the list.
pub(super) const LISTED: &[Field] = &[
    must("name", Type::Text, "Its name"),
    may("title", Type::Text, "What people call it"),
    may("enabled", Type::Flag, "Whether its schedules count"),
    may("sources", Type::Texts, "What is backed up"),
    may("repository", Type::Text, "Where to"),
    may("schedule", Type::Text, "When it runs"),
    may("next", Type::Text, "When it runs next"),
    may("last_good", Type::Text, "When the last good backup began"),
    may("last", Type::Object(RUN_FIELDS), "Its last backup"),
    may("problem", Type::Text, "Why it cannot be read"),
];

const PATH: Field = must("path", Type::Text, "Its path");
pub(super) const PATH_BYTES: Field =
    may("path_bytes", Type::Text, "The same in base 16, where it is no text");

pub(super) const PLACE: &[Field] = &[PATH, PATH_BYTES];

/// What could not be read, or restored.
pub(super) const LOST: &[Field] =
    &[PATH, PATH_BYTES, must("reason", Type::Text, "Why it could not be")];

const ORIGIN: &[Field] = &[
    must("repository", Type::Text, "Id of the repository"),
    must("snapshot", Type::Text, "Id of the snapshot there"),
];

/// A snapshot, all that may be said of one.
pub(super) const SNAPSHOT: &[Field] = &[
    must("id", Type::Text, "Its id"),
    must("time", Type::Text, "When it was begun"),
    must("host", Type::Text, "Of which machine"),
    must("user", Type::Text, "By whom"),
    must("kind", Type::Text, "Kind of its places"),
    must("tags", Type::Texts, "Its tags"),
    must("description", Type::Text, "What is said of it"),
    must("program", Type::Text, "What made it"),
    must("partial", Type::Flag, "Its run was interrupted"),
    must("pinned", Type::Flag, "No rule forgets it"),
    may("parent", Type::Text, "The snapshot that it was compared with"),
    may("origin", Type::Object(ORIGIN), "Of a copy: where the backup was made"),
    must("files", Type::Whole, "Files in it"),
    must("directories", Type::Whole, "Directories in it"),
    must("bytes", Type::Whole, "Bytes of these files"),
    must("errors", Type::Whole, "What could not be read"),
    must("roots", Type::Objects(PLACE), "Its places"),
    may("unread", Type::Objects(LOST), "By itself: the first of what could not be read"),
    may("kept", Type::Text, "Among those to forget: why it may not go"),
];

const BELOW: &[Field] =
    &[must("files", Type::Whole, "Files below it"), must("bytes", Type::Whole, "Their bytes")];

pub(super) const ENTRY: &[Field] = &[
    PATH,
    PATH_BYTES,
    must("kind", Type::Text, "file, dir, symlink, …"),
    must("mode", Type::Text, "Permissions, in base 8"),
    must("uid", Type::Whole, "Number of its owner"),
    must("gid", Type::Whole, "Number of its group"),
    must("user", Type::Text, "Its owner"),
    must("group", Type::Text, "Its group"),
    must("size", Type::Whole, "Its bytes"),
    must("mtime", Type::Text, "When it was modified"),
    must("inode", Type::Whole, "Its inode"),
    must("links", Type::Whole, "Names that it has"),
    may("target", Type::Text, "Where a link leads"),
    may("error", Type::Text, "Why it could not be read"),
    may("below", Type::Object(BELOW), "What is in a directory, where that is known"),
];

const VERSION_RUN: &[Field] = &[
    must("first", Type::Text, "Id of the first snapshot"),
    must("last", Type::Text, "Id of the last one"),
    must("count", Type::Whole, "How many there are from one to the other"),
];

pub(super) const VERSION: &[Field] = &[
    PATH,
    PATH_BYTES,
    must("kind", Type::Text, "file, dir, symlink, …"),
    must("mode", Type::Text, "Permissions, in base 8"),
    must("size", Type::Whole, "Its bytes"),
    must("mtime", Type::Text, "When it was modified"),
    must("snapshots", Type::Whole, "Snapshots that hold it"),
    must("runs", Type::Objects(VERSION_RUN), "Which, one after the other"),
];

pub(super) const CHANGE: &[Field] = &[
    must("change", Type::Text, "added, removed or modified"),
    PATH,
    PATH_BYTES,
    must("content", Type::Flag, "Its content was modified"),
    must("metadata", Type::Flag, "Owner, permissions, time or attributes were modified"),
    must("kind", Type::Flag, "It is of another type"),
    may("size_before", Type::Whole, "Its bytes before"),
    may("size_after", Type::Whole, "Its bytes after"),
];

pub(super) const SLOT: &[Field] = &[
    must("id", Type::Text, "Its id"),
    must("kind", Type::Text, "passphrase, key file, or unknown: it cannot be read"),
    may("label", Type::Text, "What it is for"),
    may("host", Type::Text, "On which machine it was made"),
    may("created", Type::Text, "When"),
];

pub(super) const BLOBS: &[Field] = &[
    must("kind", Type::Text, "chunks, bundles, tree nodes, …"),
    must("blobs", Type::Whole, "How many"),
    must("bytes_plain", Type::Whole, "Their bytes before compression"),
    must("bytes_stored", Type::Whole, "Their bytes as they are stored"),
];

pub(super) const STEP: &[Field] = &[
    must("step", Type::Text, "resolve, connect, …"),
    must("outcome", Type::Text, "ok, limited or failed"),
    must("detail", Type::Text, "What was found"),
    must("seconds", Type::Number, "How long it took"),
];

pub(super) const STORAGE: &[Field] = &[
    must("name", Type::Text, "Its name: @NAME is the location"),
    may("title", Type::Text, "What people call it"),
    may("kind", Type::Text, "local, sftp or s3"),
    may("location", Type::Text, "Where it is, without a password"),
    must("default", Type::Flag, "It stands where no other is named"),
    must("plans", Type::Texts, "Plans that use it"),
    may("options", Type::Map(&Type::Text), "By itself: options as text, secrets as ********"),
    may("problem", Type::Text, "What is wrong with it"),
];

const COUNT: &[Field] =
    &[must("count", Type::Whole, "Packs"), must("bytes", Type::Whole, "Their bytes")];

const SESSION: &[Field] = &[
    must("id", Type::Text, "Its id"),
    must("host", Type::Text, "On which machine"),
    must("process", Type::Whole, "In which process"),
    must("verb", Type::Text, "What it does"),
    must("started", Type::Text, "When it began"),
    must("silent", Type::Whole, "Seconds since it was heard of"),
];

/// What a gc would do.
pub(super) const PLANNED: &[Field] = &[
    must("packs", Type::Object(COUNT), "All packs"),
    must("dead", Type::Object(COUNT), "Of them: with nothing that is needed"),
    must("orphans", Type::Object(COUNT), "Of them: in no index"),
    must("sparse", Type::Object(COUNT), "Of them: to be written anew"),
    must("condemned", Type::Object(COUNT), "Of them: condemned by earlier runs"),
    must("young", Type::Object(COUNT), "Of them: left alone, since they are new"),
    must("needed", Type::Whole, "Bytes of blobs that are needed"),
    must("unneeded", Type::Whole, "Bytes of those that are not"),
    must("moved", Type::Whole, "Bytes to be written anew"),
    must("left", Type::Whole, "Bytes that are not needed and stay"),
    must("frees", Type::Whole, "Bytes that become free"),
    must("open", Type::Objects(SESSION), "Sessions at work"),
    must("shut_out", Type::Objects(SESSION), "Sessions that are taken for dead"),
    must("fenced", Type::Texts, "Ids of snapshots that are waited for"),
];

pub(super) const CHANNEL: &[Field] = &[
    must("name", Type::Text, "Its name"),
    may("title", Type::Text, "What people call it"),
    may("kind", Type::Text, "mail, webhook, ntfy, slack, discord or ping"),
    must("plans", Type::Texts, "Plans that tell it of something"),
    may("problem", Type::Text, "What is wrong with it"),
];

pub(super) const DELIVERY: &[Field] = &[
    must("time", Type::Text, "When"),
    must("channel", Type::Text, "To which channel"),
    must("event", Type::Text, "start, success, warnings, failure, missed or test"),
    may("plan", Type::Text, "Of which plan"),
    may("run", Type::Whole, "Of which run"),
    may("error", Type::Text, "Why it did not come through"),
];

pub(super) const RECORDED: &[Field] = &[
    must("time", Type::Text, "When"),
    must("address", Type::Text, "From where"),
    must("what", Type::Text, "What was done"),
];
