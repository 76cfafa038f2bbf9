//! Staged tests of storages, saved or still being typed. A test runs by itself; the page follows
//! it by events, and answers when a server is met for the first time.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use askama::Template;
use axum::extract::{Path, State as Extract};
use axum::response::{Html, IntoResponse, Response};
use holdfast_app::ask::Ask;
use holdfast_app::connection_test::{self, Outcome, Step};
use holdfast_app::text::duration;
use holdfast_app::{Class, Problem, Resolved, random};
use holdfast_engine::hash::to_hex;
use http::StatusCode;

use crate::failure::{Failure, Note};
use crate::live::Change;
use crate::posted::Posted;
use crate::state::Shared;
use crate::view::View;

/// Tests that are remembered.
const REMEMBERED: usize = 32;
/// How long a test waits for a person to compare a host key.
const PATIENCE: Duration = Duration::from_secs(300);

/// A step as it is shown.
#[derive(Debug, Clone)]
struct Row {
    name: &'static str,
    class: &'static str,
    icon: &'static str,
    took: String,
    detail: String,
}

/// A server that was met for the first time.
#[derive(Debug, Clone)]
struct Question {
    at: String,
    algorithm: String,
    fingerprint: String,
    answer: Sender<bool>,
}

#[derive(Debug, Clone, Default)]
struct Progress {
    rows: Vec<Row>,
    question: Option<Question>,
    ended: bool,
    note: Option<Note>,
}

/// Where the form is that was tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsaved {
    /// On its own page.
    Form,
    /// On the page of the first start.
    Start,
}

/// A test, from its start on.
#[derive(Debug)]
pub(crate) struct Trial {
    id: String,
    /// What is tested, as its location.
    place: String,
    began: String,
    /// The form to save, if what was tested is not saved yet.
    unsaved: Option<Unsaved>,
    progress: Mutex<Progress>,
}

/// The tests of a console.
#[derive(Debug, Default)]
pub(crate) struct Trials(Mutex<VecDeque<Arc<Trial>>>);

#[derive(Template)]
#[template(path = "trial.html")]
struct Stages<'a> {
    trial: &'a Trial,
    progress: Progress,
}

#[derive(Template)]
#[template(path = "host-key.html")]
struct HostKey<'a> {
    trial: &'a Trial,
    question: Option<Question>,
}

/// Starts a test of `place`. The answer is the part of the page that follows it.
pub(super) async fn start(
    view: &View,
    place: Resolved,
    unsaved: Option<Unsaved>,
) -> Result<Response, Failure> {
    let trial = Arc::new(Trial {
        id: to_hex(&random::<8>()?),
        place: place.to_string(),
        began: jiff::Zoned::now().strftime("%H:%M:%S").to_string(),
        unsaved,
        progress: Mutex::default(),
    });
    let state = view.state.clone();
    {
        let mut trials = state.trials.0.lock().unwrap_or_else(PoisonError::into_inner);
        trials.push_back(trial.clone());
        if trials.len() > REMEMBERED {
            trials.pop_front();
        }
    }
    let first = trial.frame();
    tokio::task::spawn_blocking(move || trial.run(&state, &place));
    Ok(first)
}

impl Trial {
    /// The part of a page that follows this test.
    fn frame(&self) -> Response {
        let topic = self.topic();
        let stages = self.stages();
        Html(format!(
            "<div data-follow=\"{topic}\" data-live=\"{topic}\">{stages}</div>\
             <div data-live=\"{topic}-ask\"></div>"
        ))
        .into_response()
    }

    fn topic(&self) -> String {
        format!("trial-{}", self.id)
    }

    fn stages(&self) -> String {
        let progress = self.with(|progress| progress.clone());
        Stages { trial: self, progress }.render().unwrap_or_default()
    }

    fn with<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells open pages how far it is.
    fn tell(&self, state: &Shared) {
        let topic = self.topic();
        state.hub.tell(&topic, &topic, Change::Replace, self.stages());
    }

    fn ask(&self, state: &Shared) {
        let topic = self.topic();
        let question = self.with(|progress| progress.question.clone());
        let html = HostKey { trial: self, question }.render().unwrap_or_default();
        state.hub.tell(&topic, &format!("{topic}-ask"), Change::Replace, html);
    }

    fn run(self: &Arc<Self>, state: &Shared, place: &Resolved) {
        let asking = Asking { trial: self.clone(), state: state.clone() };
        let access = state.paths.access(Arc::new(asking));
        let tell = |step: Step| {
            self.with(|progress| progress.rows.push(Row::from(&step)));
            self.tell(state);
        };
        let tested = connection_test::run(place, &access, &tell);
        self.with(|progress| {
            progress.ended = true;
            progress.note = tested.err().map(|problem| Note::from(&for_a_form(problem)));
        });
        self.tell(state);
    }
}

/// Hints speak of the command line; here the password is a field.
fn for_a_form(mut problem: Problem) -> Problem {
    if problem.class == Class::Authentication {
        let asks = |hint: &str| {
            hint.starts_with("run it in a terminal") || hint.starts_with("or keep it: holdfast")
        };
        let before = problem.hints.len();
        problem.hints.retain(|hint| !asks(hint));
        if problem.hints.len() < before {
            problem.hints.insert(0, "check user name and password".into());
        }
    }
    problem
}

impl From<&Step> for Row {
    fn from(step: &Step) -> Self {
        let (class, icon) = match step.outcome {
            Outcome::Passed => ("ok", "i-ok"),
            Outcome::Limited => ("warn", "i-warn"),
            Outcome::Failed => ("bad", "i-bad"),
        };
        let took = match step.took.as_millis() {
            millis @ 0..1000 => format!("{millis} ms"),
            _ => duration(step.took),
        };
        Self { name: step.name, class, icon, took, detail: step.detail.clone() }
    }
}

/// Passes the question for a host key on to the page. Other questions have fields in the form.
#[derive(Debug)]
struct Asking {
    trial: Arc<Trial>,
    state: Shared,
}

impl Ask for Asking {
    fn host_key(&self, at: &str, algorithm: &str, fingerprint: &str) -> io::Result<Option<bool>> {
        let (answer, answered) = mpsc::channel();
        let question = Question {
            at: at.to_owned(),
            algorithm: algorithm.to_owned(),
            fingerprint: fingerprint.to_owned(),
            answer,
        };
        self.trial.with(|progress| progress.question = Some(question));
        self.trial.tell(&self.state);
        self.trial.ask(&self.state);
        let answer = answered.recv_timeout(PATIENCE).ok();
        self.trial.with(|progress| progress.question = None);
        self.trial.ask(&self.state);
        self.trial.tell(&self.state);
        Ok(answer)
    }
}

/// `POST /trials/{id}`: the answer of a person who compared the host key.
pub(super) async fn answer(
    Extract(state): Extract<Shared>,
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Failure> {
    let trial = {
        let trials = state.trials.0.lock().unwrap_or_else(PoisonError::into_inner);
        trials.iter().find(|trial| trial.id == id).cloned()
    };
    let question = trial.and_then(|trial| trial.with(|progress| progress.question.take()));
    let Some(question) = question else {
        return Err(Problem::new(Class::Changed, "nobody waits for this answer any more")
            .hint("test the connection again")
            .into());
    };
    // A test that gave up waiting has said so.
    let _ = question.answer.send(posted.text("trust") == "yes");
    Ok(StatusCode::NO_CONTENT.into_response())
}
