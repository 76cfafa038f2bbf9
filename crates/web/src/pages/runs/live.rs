//! From what runs tell to what open pages show.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use askama::Template;
use holdfast_app::runner::{Event, Progress, Runner, What, broadcast::error::RecvError};
use holdfast_app::runs::RunId;
use holdfast_app::text::{count, duration, size};

use super::Figure;
use crate::live::Change;
use crate::state::Shared;

/// Pages hear of a run's figures no more often than this.
const INTERVAL: Duration = Duration::from_millis(250);

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
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        tell(&state, &event, &mut told);
    }
}

fn tell(state: &Shared, event: &Event, told: &mut HashMap<RunId, Instant>) {
    let topic = format!("run-{}", event.run);
    match &event.what {
        What::Queued | What::Started => {
            state.hub.tell("runs", "", Change::Reload, String::new());
            state.hub.tell(&topic, "", Change::Reload, String::new());
        }
        What::Progress(progress) => {
            let fresh = told.get(&event.run).is_some_and(|last| last.elapsed() < INTERVAL);
            if fresh {
                return;
            }
            told.insert(event.run, Instant::now());
            state.hub.tell(&topic, &topic, Change::Replace, render(progress));
            let percent = progress.percent();
            let text = percent.map_or_else(|| size(progress.bytes), |p| format!("{p} %"));
            state.hub.tell("runs", &format!("{topic}-short"), Change::Replace, text);
        }
        What::Log(_) => {}
        What::Ended(_) => {
            told.remove(&event.run);
            state.hub.tell("runs", "", Change::Reload, String::new());
            state.hub.tell(&topic, "", Change::Reload, String::new());
        }
    }
}
