//! The restore: what it would do, and the act as a run.

use axum::extract::State;
use axum::response::Response;
use holdfast_app::jobs::Job;
use holdfast_app::jobs::restore::{Restore, To, preview};
use holdfast_app::json::Path;
use holdfast_app::runs::By;
use holdfast_app::{Location, Problem};
use holdfast_engine::monitor::Interrupt;
use holdfast_engine::ops::restore::{Overwrite, RestoreReport};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::{At, Sent, path};
use super::describe::{RUN, Type, may};
use super::shapes::{LOST, PATH_BYTES};
use super::{Answer, Operation, opened, value};
use crate::accounts::Scope;
use crate::opened::Open;
use crate::state::Shared;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post(
            "/api/v1/storages/{name}/snapshots/{id}/restore",
            Scope::Restore,
            "Restores, as a run; with dry_run says what that would do",
            restore,
        )
        .body(&[
            may("to", Type::Text, "A directory, or a location: @NAME, sftp://…, s3://…"),
            may("in_place", Type::Flag, "To the original paths instead"),
            may("path", Type::Text, "Only this; what is in a directory goes right into `to`"),
            PATH_BYTES,
            may("include", Type::Texts, "Of it only these absolute paths, and all below them"),
            may(
                "overwrite",
                Type::Text,
                "always, if-changed (if nothing is said), if-newer, never",
            ),
            may("delete", Type::Flag, "Remove what the snapshot does not hold from directories"),
            may("numeric_ids", Type::Flag, "Take owners by number"),
            may("verify", Type::Flag, "Read back and compare afterwards; true if nothing is said"),
            may("dry_run", Type::Flag, "Only look"),
        ])
        .answer(&[
            RUN,
            may("files", Type::Whole, "Files to be written"),
            may("directories", Type::Whole, "Directories to be made, or given attributes"),
            may("others", Type::Whole, "Links, devices and so on to be made"),
            may("bytes", Type::Whole, "Bytes to be written"),
            may("created", Type::Whole, "Of all that: what is not there yet"),
            may("replaced", Type::Whole, "Of all that: what takes the place of something"),
            may("unchanged", Type::Whole, "What is there already"),
            may("skipped", Type::Whole, "What `overwrite` leaves as it is"),
            may("deleted", Type::Whole, "What is removed"),
            may("failures", Type::Whole, "What cannot be restored"),
            may("failed", Type::Objects(LOST), "The first of that"),
            may("free_space", Type::Whole, "Bytes free there, where that is known"),
        ]),
    ]
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wish {
    to: Option<String>,
    in_place: bool,
    path: Option<String>,
    path_bytes: Option<String>,
    include: Vec<String>,
    overwrite: Option<String>,
    delete: bool,
    numeric_ids: bool,
    verify: Option<bool>,
    dry_run: bool,
}

impl Wish {
    fn to(&self) -> Result<To, Problem> {
        let text = match (&self.to, self.in_place) {
            (None, true) => return Ok(To::InPlace),
            (Some(text), false) => text,
            _ => {
                return Err(Problem::usage("nothing says clearly where to restore to")
                    .hint("send either {\"to\": \"/a/directory\"} or {\"in_place\": true}"));
            }
        };
        let is_local = matches!(Location::parse(text.as_ref())?, Location::Local(_));
        if is_local && !text.starts_with('/') && !text.starts_with("file:") {
            return Err(Problem::usage("the directory is not given from the root")
                .hint("write it like /home/anna/restored"));
        }
        Ok(To::Location(text.clone()))
    }

    fn overwrite(&self) -> Result<Overwrite, Problem> {
        Ok(match self.overwrite.as_deref() {
            Some("always") => Overwrite::Always,
            None | Some("if-changed") => Overwrite::IfChanged,
            Some("if-newer") => Overwrite::IfNewer,
            Some("never") => Overwrite::Never,
            Some(other) => {
                let shown = holdfast_app::text::printable(other.as_bytes());
                return Err(Problem::usage(format!("{shown} is no rule for what is there"))
                    .hint("overwrite is always, if-changed, if-newer or never"));
            }
        })
    }

    fn restore(&self, open: &Open, info: &SnapshotInfo) -> Result<Restore, Problem> {
        let mut picks = Vec::with_capacity(self.include.len());
        for text in &self.include {
            picks.extend(path(Some(text), None)?);
        }
        Ok(Restore {
            from: open.target(),
            snapshot: info.id,
            path: path(self.path.as_deref(), self.path_bytes.as_deref())?,
            picks,
            to: self.to()?,
            overwrite: self.overwrite()?,
            delete: self.delete,
            numeric_ids: self.numeric_ids,
            verify: self.verify.unwrap_or(true),
            dry_run: self.dry_run,
        })
    }
}

/// `POST /api/v1/storages/{name}/snapshots/{id}/restore`
async fn restore(
    State(state): State<Shared>,
    At((name, id)): At<(String, String)>,
    Sent(wish): Sent<Wish>,
) -> Response {
    opened(state, name, false, move |state, open| {
        let info = open.snapshot(&id)?;
        let restore = wish.restore(open, info)?;
        if wish.dry_run {
            let (repository, index) = (&open.repository, open.index());
            let interrupt = Interrupt::new();
            let report = preview(&state.paths, &restore, repository, index, info, &interrupt)?;
            return Ok(Answer::from(told(&report)?));
        }
        let place = match &restore.to {
            To::InPlace => "its original paths".to_owned(),
            To::Location(location) => location.clone(),
        };
        let run = state.runner.start(Job::Restore(restore), By::Console)?;
        let (short, name) = (info.id.short(), &open.name);
        let done = format!("restored from {short} of {name} to {place}, run {run}");
        Ok(Answer::of(done, json!({ "run": run })))
    })
    .await
}

fn told(report: &RestoreReport) -> Result<Value, Problem> {
    let mut failed = Vec::with_capacity(report.failed.len());
    for (path, reason) in &report.failed {
        let mut entry = value(Path::new(path))?;
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("reason".into(), reason.clone().into());
        }
        failed.push(entry);
    }
    Ok(json!({
        "files": report.files,
        "directories": report.directories,
        "others": report.others,
        "bytes": report.bytes,
        "created": report.created,
        "replaced": report.replaced,
        "unchanged": report.unchanged,
        "skipped": report.skipped,
        "deleted": report.deleted,
        "failures": report.failures,
        "failed": failed,
        "free_space": report.free_space,
    }))
}
