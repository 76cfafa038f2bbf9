//! Content of snapshots: a file, or an archive of what was asked for, streamed while it is read. What
//! fails before the first byte is a problem as JSON; what fails later breaks the answer off.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use holdfast_app::Problem;
use holdfast_app::archive::Format;
use holdfast_app::text::printable;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::tree::split;
use serde::Deserialize;

use super::ask::{Asked, At, path};
use super::describe::{Type, may};
use super::shapes::PATH_BYTES;
use super::{Done, Operation, broken, refused};
use crate::accounts::Scope;
use crate::opened::Open;
use crate::pages::browse::download::{Packed, packed, whole_file};
use crate::pages::browse::preview;
use crate::state::Shared;
use crate::view::pairs;

/// The formats of archives.
const FORMATS: [(&str, Format); 3] =
    [("tar", Format::Tar), ("tar.zst", Format::TarZst), ("zip", Format::Zip)];

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/storages/{name}/snapshots/{id}/download",
            Scope::Restore,
            "The content of a file",
            file,
        )
        .query(&[may("path", Type::Text, "The file, as an absolute path"), PATH_BYTES])
        .media(&["application/octet-stream"]),
        Operation::get(
            "/api/v1/storages/{name}/snapshots/{id}/archive",
            Scope::Restore,
            "An archive of a snapshot, or of parts of it",
            archive,
        )
        .query(&[
            may("path", Type::Text, "Only this, as an absolute path; members are named from there"),
            PATH_BYTES,
            may("include", Type::Texts, "Of it only these absolute paths; may be repeated"),
            may("format", Type::Text, "tar, tar.zst or zip (if nothing is said)"),
        ])
        .media(&["application/zip", "application/x-tar", "application/zstd"]),
    ]
}

/// A snapshot of a repository, found on a thread that may wait, and what `work` makes of it.
async fn found<T: Send + 'static>(
    state: &Shared,
    (name, id): (String, String),
    work: impl FnOnce(&Open, &SnapshotInfo) -> Result<T, Problem> + Send + 'static,
) -> Result<(std::sync::Arc<Open>, T), Problem> {
    let state = state.clone();
    let done = tokio::task::spawn_blocking(move || {
        let open = state.shelf.open(&state.paths, &name, false)?;
        let made = work(&open, open.snapshot(&id)?)?;
        Ok((open, made))
    });
    done.await.map_err(|e| broken(&e))?
}

/// The answer, which says for the record what left.
fn recorded(answer: Result<Response, Problem>, what: String) -> Response {
    match answer {
        Ok(mut response) => {
            response.extensions_mut().insert(Done(what));
            response
        }
        Err(problem) => refused(&problem).into_response(),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    path: Option<String>,
    path_bytes: Option<String>,
}

/// `GET /api/v1/storages/{name}/snapshots/{id}/download`
async fn file(
    State(state): State<Shared>,
    At(at): At<(String, String)>,
    Asked(which): Asked<Which>,
) -> Response {
    let what = format!("downloaded a file of {}", at.0);
    let answer = async {
        let path = path(which.path.as_deref(), which.path_bytes.as_deref())?.ok_or_else(|| {
            Problem::usage("nothing says which file to download")
                .hint("send its absolute path: path=/home/anna/letter.txt")
        })?;
        let name = split(&path).1.to_vec();
        let found = found(&state, at, move |open, info| preview::file(open, info, &path));
        let (open, entry) = found.await?;
        whole_file(open, entry, &name).await
    };
    recorded(answer.await, what)
}

/// What a query says of an archive: nothing unknown is passed over.
fn wanted(query: &str, snapshot: SnapshotInfo) -> Result<Packed, Problem> {
    let (mut text, mut bytes, mut picks, mut format) = (None, None, Vec::new(), Format::Zip);
    for (name, value) in pairs(query.as_bytes()) {
        match name.as_str() {
            "path" => text = Some(value),
            "path_bytes" => bytes = Some(value),
            "include" => picks.extend(path(Some(&value), None)?),
            "format" => {
                let known = FORMATS.into_iter().find(|(known, _)| *known == value);
                (_, format) = known.ok_or_else(|| {
                    let shown = printable(value.as_bytes());
                    Problem::usage(format!("{shown} is no format of an archive"))
                        .hint("format is tar, tar.zst or zip")
                })?;
            }
            other => {
                let shown = printable(other.as_bytes());
                return Err(Problem::usage(format!("an archive is not asked for with {shown}"))
                    .hint("/api/v1/openapi.json describes what may be in the query"));
            }
        }
    }
    let path = path(text.as_deref(), bytes.as_deref())?;
    Ok(Packed { snapshot, path, picks, format })
}

/// `GET /api/v1/storages/{name}/snapshots/{id}/archive`
async fn archive(
    State(state): State<Shared>,
    At(at): At<(String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let what = format!("downloaded an archive of {}", at.0);
    let answer = async {
        let query = query.unwrap_or_default();
        let found = found(&state, at, move |_, info| wanted(&query, info.clone()));
        let (open, wanted) = found.await?;
        packed(open, wanted).await
    };
    recorded(answer.await, what)
}
