//! From what runs tell to what open pages show.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use askama::Template;
use holdfast_app::Problem;
use holdfast_app::runner::{Event, Progress, Runner, What, broadcast::error::RecvError};
use holdfast_app::runs::{By, Outcome, Page, Run, RunId};
use holdfast_app::text::{count, duration, size};

use super::Figure;
use crate::live::Change;
use crate::state::{Shared, State};

/// Pages hear of a run's figures no more often than this.
const INTERVAL: Duration = Duration::from_millis(250);
/// How often runs of other processes are looked for.
const LOOK: Duration = Duration::from_secs(2);

/// The part of a page that moves: phase, figures, what is read now.
#[derive(Template)]
#[template(path = "run-live.html")]
struct Live {
    phase: String,
    percent: Option<u8>,
    left: String,
    figures: Vec<Figure>,
    current: String,
    waits: bool,
}

/// How far a run is, as a part of its page; empty if it is not at work.
pub(crate) fn part(runner: &Runner, run: RunId) -> String {
    runner.live(run).map(|progress| render(&progress)).unwrap_or_default()
}

fn render(progress: &Progress) -> String {
    let of = |total: Option<u64>, text: fn(u64) -> String| match total {
        Some(total) => format!("of {}", text(total)),
        None => "so far".to_owned(),
    };
    let mut figures = vec![
        Figure {
            name: "Files",
            value: count(progress.files),
            beside: of(progress.total_files, count),
        },
        Figure {
            name: "Done",
            value: size(progress.bytes),
            beside: of(progress.total_bytes, size),
        },
        Figure { name: "Rate", value: format!("{}/s", size(progress.rate)), beside: String::new() },
    ];
    if progress.stored > 0 {
        let value = size(progress.stored);
        figures.insert(2, Figure { name: "New in storage", value, beside: String::new() });
    }
    if progress.errors > 0 {
        let value = count(progress.errors);
        figures.push(Figure { name: "Errors", value, beside: "named below at the end".into() });
    }
    let phase = match progress.step.as_str() {
        "" => progress.phase.clone(),
        step if step == progress.phase => progress.phase.clone(),
        step => format!("{step}: {}", progress.phase),
    };
    let live = Live {
        waits: phase.is_empty(),
        phase,
        percent: progress.percent(),
        left: progress
            .left()
            .map(|left| format!("about {} left", duration(left)))
            .unwrap_or_default(),
        figures,
        current: progress.current.clone(),
    };
    live.render().unwrap_or_default()
}

/// Tells pages of what happens to runs, for as long as there is a console.
pub(crate) async fn follow(state: Shared) {
    let mut events = state.runner.subscribe();
    let mut told: HashMap<RunId, Instant> = HashMap::new();
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => {
                // The end of a run may be among what was lost.
                for (run, _) in told.drain() {
                    reload(&state, run);
                }
                state.hub.tell("runs", "", Change::Reload, String::new());
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        tell(&state, &event, &mut told);
    }
}

fn tell(state: &Shared, event: &Event, told: &mut HashMap<RunId, Instant>) {
    match &event.what {
        What::Queued | What::Started => reload(state, event.run),
        What::Progress(progress) => {
            let fresh = told.get(&event.run).is_some_and(|last| last.elapsed() < INTERVAL);
            if fresh {
                return;
            }
            told.insert(event.run, Instant::now());
            moved(state, event.run, progress);
        }
        What::Log(_) => {}
        What::Ended(_) => {
            told.remove(&event.run);
            reload(state, event.run);
        }
    }
}

/// A run began or ended.
fn reload(state: &State, run: RunId) {
    state.hub.tell("runs", "", Change::Reload, String::new());
    state.hub.tell(&format!("run-{run}"), "", Change::Reload, String::new());
}

/// A run is further than it was.
fn moved(state: &State, run: RunId, progress: &Progress) {
    let topic = format!("run-{run}");
    state.hub.tell(&topic, &topic, Change::Replace, render(progress));
    let percent = progress.percent();
    let text = percent.map_or_else(|| size(progress.bytes), |p| format!("{p} %"));
    state.hub.tell("runs", &format!("{topic}-short"), Change::Replace, text);
}

/// Tells pages of runs of other processes: those tell nothing here, so the history is looked at.
pub(crate) async fn watch(state: Shared) {
    let mut others = Others::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let state = state.clone();
        let looked = tokio::task::spawn_blocking(move || {
            // What cannot be read now is looked at again.
            let _ = others.look(&state);
            others
        });
        others = looked.await.unwrap_or_default();
    }
}

/// What the history said of other processes when it was looked at last.
#[derive(Debug, Default)]
struct Others {
    /// The newest run.
    newest: Option<RunId>,
    /// Those at work: how they stand, and what they told of it.
    open: HashMap<RunId, (Outcome, Option<String>)>,
}

impl Others {
    fn look(&mut self, state: &State) -> Result<(), Problem> {
        let others = state.runner.others()?;
        let page = Page { limit: Some(20), ..Page::default() };
        let runs = state.runner.history().runs(&page)?;
        // Those that began and ended since the last look are found by their numbers.
        let is_new =
            |run: &&Run| run.by == By::Command && self.newest.is_some_and(|newest| run.id > newest);
        let mut changed: BTreeSet<_> = runs.iter().filter(is_new).map(|run| run.id).collect();
        let open: HashMap<_, _> =
            others.into_iter().map(|run| (run.id, (run.outcome, run.progress))).collect();
        let outcome =
            |of: &HashMap<RunId, (Outcome, _)>, id| of.get(id).map(|(outcome, _)| *outcome);
        let ids = open.keys().chain(self.open.keys());
        changed.extend(ids.filter(|id| outcome(&open, id) != outcome(&self.open, id)));
        for run in &changed {
            reload(state, *run);
        }
        for (run, stands) in open.iter().filter(|(run, _)| !changed.contains(*run)) {
            if self.open.get(run) != Some(stands)
                && let Some(progress) = state.runner.live(*run)
            {
                moved(state, *run, &progress);
            }
        }
        self.newest = runs.first().map(|run| run.id).or(Some(0));
        self.open = open;
        Ok(())
    }
}
