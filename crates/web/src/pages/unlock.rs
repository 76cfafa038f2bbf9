//! The way to an open repository. Where its passphrase is needed, the page asks for it once and leads
//! back: the service gets a key file of its own, or the repository stays open in memory only.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use holdfast_app::{Class, Problem, adopt, secrets};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::failure::{Failure, Note};
use crate::opened::Open;
use crate::pages::sign_in::own_path;
use crate::pages::snapshots::encode;
use crate::pages::{go, lead};
use crate::posted::Posted;
use crate::record::Unchanged;
use crate::state::{Shared, State};
use crate::view::{Frame, Nav, View, html};

/// The addresses.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/unlock/{at}", get(show).post(unlock))
}

/// Why a page of a repository is not shown.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Its passphrase is needed first.
    Locked {
        at: String,
        /// The page to come back to; `None`: a part of one, or a change, and neither is a page.
        back: Option<String>,
        is_fragment: bool,
    },
    Failed(Failure),
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem.into())
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Failed(failure) => failure.into_response(),
            Self::Locked { at, back, is_fragment } => {
                let snapshots = || format!("/snapshots?at={}", encode(&at));
                let back = crate::names::escape(back.unwrap_or_else(snapshots).as_bytes());
                let to = lead(is_fragment, &format!("/unlock/{at}?back={back}"));
                // What was to be done is not done.
                (Extension(Unchanged), to).into_response()
            }
        }
    }
}

/// Runs `work` with the repository of the location `at`, open, on a thread that may wait.
pub(crate) async fn with<T: Send + 'static>(
    view: &View,
    at: &str,
    now: bool,
    work: impl FnOnce(&State, &Arc<Open>) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Refused> {
    let (name, at, back) = (at.to_owned(), at.to_owned(), view.page().map(String::from));
    let done = view
        .blocking(move |state| {
            let open = match state.shelf.open(&state.paths, &name, now) {
                Err(problem) if problem.class == Class::PassphraseNeeded => return Ok(None),
                open => open?,
            };
            work(state, &open).map(Some)
        })
        .await?;
    done.ok_or(Refused::Locked { at, back, is_fragment: view.is_fragment })
}

#[derive(Debug, Deserialize)]
pub(crate) struct Back {
    #[serde(default)]
    back: String,
}

#[derive(Template)]
#[template(path = "unlock.html")]
struct Page {
    frame: Frame,
    at: String,
    title: String,
    back: String,
    note: Option<Note>,
}

async fn page(
    view: &View,
    at: String,
    back: String,
    note: Option<Note>,
) -> Result<Response, Failure> {
    let name = at.clone();
    let title = view
        .blocking(move |state| {
            let config = state.paths.load_config()?;
            config.expect(&name)?;
            Ok::<_, Problem>(config.title_of(&name).to_owned())
        })
        .await?;
    let frame = view.frame("Passphrase", Nav::Snapshots, &crate::names::line(&at, "ls"));
    Ok(html(&Page { frame, at, title, back, note }))
}

/// `GET /unlock/{at}?back=…`
async fn show(
    view: View,
    Path(at): Path<String>,
    Query(back): Query<Back>,
) -> Result<Response, Failure> {
    page(&view, at, back.back, None).await
}

/// `POST /unlock/{at}`
async fn unlock(
    view: View,
    headers: HeaderMap,
    Path(at): Path<String>,
    posted: Posted,
) -> Result<Response, Failure> {
    let back = posted.text("back").to_owned();
    let name = at.clone();
    let opened = view
        .blocking(move |state| {
            let secret = secrets::passphrase(posted.text("passphrase"), "the form")?;
            if posted.text("keep") == "service" {
                adopt::adopt(&state.paths, &name, secret).map(drop)
            } else {
                state.shelf.unlock(&state.paths, &name, secret)
            }
            .map_or_else(
                |problem| match problem.class {
                    Class::WrongPassphrase => Ok(Some(Note::from(&problem))),
                    _ => Err(problem),
                },
                |()| Ok(None),
            )
        })
        .await?;
    if opened.is_some() {
        let page = page(&view, at, back, opened).await?;
        return Ok((StatusCode::FORBIDDEN, page).into_response());
    }
    let to = String::from_utf8_lossy(&crate::names::unescape(&back)).into_owned();
    let to = if to.is_empty() { "/snapshots" } else { own_path(&to) };
    Ok(go(&headers, to))
}
