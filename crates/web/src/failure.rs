//! A problem as a page: what happened, why, what to do next, and the raw detail on demand.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use holdfast_app::{Class, Problem};

use crate::hints;
use crate::view::{self, Frame, Nav, View};

/// A handler could not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    problem: Box<Problem>,
    status: StatusCode,
}

impl Failure {
    /// The console itself lets nobody do this, or not without another password.
    pub(crate) fn refusal(problem: Problem) -> Self {
        Self { status: refusal(problem.class), problem: Box::new(problem) }
    }
}

/// Travels with an answer to where it becomes a page.
#[derive(Debug, Clone)]
pub(crate) struct Shown(pub(crate) Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { status: status(problem.class), problem: Box::new(problem) }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(Shown(*self.problem));
        response
    }
}

/// The status of what the console itself refuses to those who are not known to it, or may not.
pub(crate) fn refusal(class: Class) -> StatusCode {
    match class {
        Class::Authentication => StatusCode::UNAUTHORIZED,
        Class::PermissionDenied => StatusCode::FORBIDDEN,
        class => status(class),
    }
}

/// The status that tells programs what kind of problem it is. A storage that lets the console in no
/// more says nothing of who asks the console: that is no 401 and no 403.
pub(crate) fn status(class: Class) -> StatusCode {
    match class {
        Class::Usage | Class::Configuration => StatusCode::UNPROCESSABLE_ENTITY,
        Class::NoSuchName
        | Class::NoSuchPath
        | Class::NoSuchSnapshot
        | Class::NoSuchKey
        | Class::NoRepository => StatusCode::NOT_FOUND,
        Class::PassphraseNeeded => StatusCode::LOCKED,
        Class::WrongPassphrase => StatusCode::FORBIDDEN,
        Class::SlowDown => StatusCode::TOO_MANY_REQUESTS,
        Class::Busy | Class::AlreadyExists | Class::RepositoryExists => StatusCode::CONFLICT,
        Class::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// A problem as templates show it.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    /// Its class.
    pub(crate) class: &'static str,
    /// What happened, as a sentence.
    pub(crate) title: String,
    /// What to do next.
    pub(crate) hints: Vec<String>,
    /// Causes and the stage, for those who ask.
    pub(crate) raw: String,
}

impl From<&Problem> for Note {
    fn from(problem: &Problem) -> Self {
        let mut raw = problem.causes.clone();
        raw.extend(problem.stage.map(|stage| format!("stage: {stage}")));
        let hints = problem.hints.iter().filter_map(|hint| hints::said(hint));
        Self {
            class: problem.class.name(),
            title: sentence(&problem.message),
            hints: hints.map(|hint| sentence(&hint)).collect(),
            raw: raw.join("\n"),
        }
    }
}

/// A text as a sentence begins: large. Names of hosts, files and options keep their letters.
fn sentence(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default().trim_end_matches(',');
    match text.split_at_checked(1) {
        Some((first, rest)) if word.chars().all(|c| c.is_ascii_lowercase()) => {
            first.to_ascii_uppercase() + rest
        }
        _ => text.to_owned(),
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct Page {
    frame: Frame,
    note: Note,
}

#[derive(Template)]
#[template(path = "note.html")]
struct Fragment {
    note: Note,
}

/// The page of a problem; only the note where our script asked for a part.
pub(crate) fn page(view: &View, problem: &Problem, status: StatusCode, fragment: bool) -> Response {
    let note = Note::from(problem);
    if fragment {
        return (status, view::html(&Fragment { note })).into_response();
    }
    let frame = view.frame("Problem", Nav::None, "");
    (status, view::html(&Page { frame, note })).into_response()
}

#[derive(Template)]
#[template(path = "bare-error.html")]
struct Bare {
    theme: &'static str,
    note: Note,
}

/// The page of a problem for somebody who is not signed in.
pub(crate) fn bare(problem: &Problem, cookies: &str) -> Response {
    let page = Bare { theme: view::theme(cookies), note: Note::from(problem) };
    (status(problem.class), view::html(&page)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_begins_as_sentences_do() {
        let problem = Problem::usage("nas.example.com: no answer")
            .hint("check user name and password")
            .hint("if it is only slow: -o timeout=2m")
            .hint("then, later")
            .hint("nas.example.com may be down")
            .hint("");
        let note = Note::from(&problem);
        assert_eq!(note.title, "nas.example.com: no answer");
        let expected = [
            "Check user name and password",
            "If it is only slow: «Timeout» in the form of the storage: 2m",
            "Then, later",
            "nas.example.com may be down",
            "",
        ];
        assert_eq!(note.hints, expected);
        assert_eq!(sentence("ssh-add is needed"), "ssh-add is needed");
        assert_eq!(sentence("nas: no answer"), "nas: no answer");
        assert_eq!(sentence("there is no page"), "There is no page");
    }
}
