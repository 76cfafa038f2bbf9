//! What a restore would do. A look that takes longer than a moment becomes a run, which the page
//! follows and which can be cancelled; its figures come back to the page when it ends.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use holdfast_app::Problem;
use holdfast_app::jobs::Job;
use holdfast_app::jobs::restore::{Restore, To, preview, report_of};
use holdfast_app::runs::{By, Outcome, Report, RunId};
use holdfast_app::text::{count, plural, printable, size};
use holdfast_engine::monitor::Interrupt;
use holdfast_engine::ops::restore::RestoreReport;

use super::{asked, in_folders, new, words};
use crate::failure::{Failure, Note};
use crate::names::line;
use crate::opened::Open;
use crate::pages::runs::{Figure, live};
use crate::pages::snapshots::encode;
use crate::pages::unlock::{Refused, with};
use crate::posted::Posted;
use crate::state::State;
use crate::view::{View, html};

/// Entries that a preview names.
const NAMED: usize = 20;
/// What takes longer is a run.
const MOMENT: Duration = Duration::from_secs(1);
/// How long an answer waits for the end of a run before the page asks again.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it looks.
const BEAT: Duration = Duration::from_millis(100);
/// Looks that are remembered.
const REMEMBERED: usize = 32;

/// Previews that became runs, and what each was asked.
#[derive(Debug, Default)]
pub(crate) struct Looks(Mutex<VecDeque<(RunId, Restore)>>);

impl Looks {
    fn add(&self, run: RunId, mut restore: Restore) {
        // The words are remembered, not the open repository.
        restore.from.opened = None;
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.push_back((run, restore));
        if looks.len() > REMEMBERED {
            looks.pop_front();
        }
    }

    fn of(&self, run: RunId) -> Option<Restore> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.iter().find(|(id, _)| *id == run).map(|(_, restore)| restore.clone())
    }
}

#[derive(Template)]
#[template(path = "restore-preview.html")]
struct Looked {
    line: String,
    address: String,
    figures: Vec<Figure>,
    failures: u64,
    cannot: Vec<(String, String)>,
    cannot_more: bool,
    needs: String,
    free: String,
    is_full: bool,
    action: String,
    in_words: String,
    nothing: bool,
    verify: bool,
}

/// A look that goes on as a run.
#[derive(Template)]
#[template(path = "restore-waits.html")]
struct Waits {
    run: RunId,
    live: String,
    again: String,
}

/// What a run of a preview came to, or that it is still at work.
#[derive(Template)]
#[template(path = "restore-waited.html")]
struct Waited {
    run: RunId,
    again: String,
    looked: Option<Looked>,
    note: Option<Note>,
}

enum Found {
    Now(Box<Looked>),
    Later(Waits),
}

/// `POST /restore/{at}/{id}/preview`: a part of the page.
pub(super) async fn look(
    view: View,
    Path((at, id)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Refused> {
    let found = with(&view, &at, false, move |state, open| {
        let restore = asked(open, &id, &posted)?;
        if let Some(report) = try_at_once(state, open, &id, &restore)? {
            let named = report.failed.iter().map(|(path, why)| (printable(path), why.clone()));
            let named = named.take(NAMED).collect();
            let looked = looked(&open.name, &restore, &report_of(&report), named);
            return Ok(Found::Now(Box::new(looked)));
        }
        let run = state
            .runner
            .start(Job::Restore(Restore { dry_run: true, ..restore.clone() }), By::Console)?;
        state.looks.add(run, restore);
        let again = format!("/restore/{}/{id}/preview/{run}", open.name);
        Ok(Found::Later(Waits { run, live: live::part(&state.runner, run), again }))
    })
    .await?;
    Ok(match found {
        Found::Now(looked) => html(&*looked),
        Found::Later(waits) => html(&waits),
    })
}

/// Looks on a thread of its own; `None` if that takes longer than a moment: it is told to end then,
/// and nobody waits until it does.
fn try_at_once(
    state: &State,
    open: &Open,
    id: &str,
    restore: &Restore,
) -> Result<Option<RestoreReport>, Problem> {
    let (paths, restore, info) = (state.paths.clone(), restore.clone(), open.snapshot(id)?.clone());
    let (repository, index) = (open.repository.clone(), open.shared_index());
    let interrupt = Arc::new(Interrupt::new());
    let asked = interrupt.clone();
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let found = preview(&paths, &restore, &repository, &index, &info, &asked);
        // Nobody may be waiting any more.
        let _ = send.send(found);
    });
    match receive.recv_timeout(MOMENT) {
        Ok(found) => found.map(Some),
        Err(_) => {
            interrupt.raise();
            Ok(None)
        }
    }
}

/// `GET /restore/{at}/{id}/preview/{run}`: what the run came to, as soon as it ends.
pub(super) async fn wait(
    view: View,
    Path((at, id, run)): Path<(String, String, RunId)>,
) -> Result<Response, Failure> {
    // It comes back in the page, which asks for it again.
    let again = format!("/restore/{}/{}/preview/{run}", encode(&at), encode(&id));
    let waited = view
        .blocking(move |state| {
            state.paths.load_config()?.expect(&at)?;
            waited(state, &at, run, again)
        })
        .await?;
    Ok(html(&waited))
}

fn waited(state: &State, at: &str, id: RunId, again: String) -> Result<Waited, Problem> {
    let until = Instant::now() + PATIENCE;
    let run = loop {
        let run = state.runner.history().run(id)?;
        if !run.outcome.is_open() || Instant::now() > until {
            break run;
        }
        std::thread::sleep(BEAT);
    };
    let ended = Waited { run: id, again: String::new(), looked: None, note: None };
    if run.outcome.is_open() {
        return Ok(Waited { again, ..ended });
    }
    if let Some(problem) = &run.report.problem {
        return Ok(Waited { note: Some(Note::from(problem)), ..ended });
    }
    let restore = state.looks.of(id).filter(|_| run.outcome != Outcome::Cancelled);
    let Some(restore) = restore else { return Ok(ended) };
    let samples = run.report.errors.iter().flat_map(|class| &class.samples);
    let named = samples.map(|s| (s.what.clone(), s.message.clone())).take(NAMED).collect();
    Ok(Waited { looked: Some(looked(at, &restore, &run.report, named)), ..ended })
}

/// The preview, from what a restore would do and what could not be written.
fn looked(at: &str, restore: &Restore, report: &Report, cannot: Vec<(String, String)>) -> Looked {
    let number = |name: &str| report.number(name);
    let figure = |name, number: u64, beside: String| Figure { name, value: count(number), beside };
    let written = number("files") + number("others");
    let (new, folders) = new(report);
    let mut figures = vec![
        figure("New", new, in_folders(folders)),
        figure("Replaced", number("replaced"), String::new()),
        figure("Kept as they are", number("left"), String::new()),
        figure("Equal, left alone", number("unchanged"), size(number("unchanged_bytes"))),
    ];
    if restore.delete {
        figures.push(figure("Deleted", number("deleted"), "not in the snapshot".into()));
    }
    let failures = number("errors");
    if failures > 0 {
        figures.push(figure("Cannot be written", failures, String::new()));
    }
    let free = report.numbers.get("free_space").copied();
    Looked {
        line: line(at, &words(restore)),
        address: format!("/restore/{at}/{}", restore.snapshot),
        figures,
        failures,
        cannot_more: failures > cannot.len() as u64,
        cannot,
        needs: size(number("bytes")),
        free: free.map(size).unwrap_or_default(),
        is_full: free.is_some_and(|free| free < number("bytes")),
        action: match (written, folders) {
            (0, 1..) => format!("Restore {}", plural(folders, "folder", "folders")),
            _ => format!("Restore {}", plural(written, "file", "files")),
        },
        in_words: in_words(restore, report, written, folders),
        nothing: written + number("directories") + number("deleted") == 0,
        verify: restore.verify,
    }
}

fn in_words(restore: &Restore, report: &Report, written: u64, folders: u64) -> String {
    let place = match &restore.to {
        To::InPlace => "their original places",
        To::Location(location) => location,
    };
    let mut text = match (written, folders) {
        (0, 1..) => format!("{} made in {place}.", plural(folders, "folder is", "folders are")),
        _ => format!("{} to {place}.", plural(written, "file goes", "files go")),
    };
    let mut add = |name: &str, one: &str, many: &str, end: &str| {
        let number = report.number(name);
        if number > 0 {
            text.push_str(&format!(" {}{end}.", plural(number, one, many)));
        }
    };
    add("replaced", "file there is replaced", "files there are replaced", "");
    add("left", "stays as it is", "stay as they are", "");
    add("deleted", "is", "are", " deleted");
    text
}
