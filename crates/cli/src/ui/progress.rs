//! Progress of an operation: a bar on a terminal where the total is known, a spinner where it is
//! not, an event now and then for programs, and nothing where nobody looks.

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use holdfast_app::jobs::phase_name;
use holdfast_app::runner;
use holdfast_app::text::{count, duration, printable, size};
use holdfast_engine::monitor::{Monitor, Phase, Progress as Counters};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Ui, json};

/// How often programs are told.
const INTERVAL: Duration = Duration::from_millis(500);

const WITH_TOTAL: &str = "{spinner} {prefix} [{bar:24}] {percent:>3}%  {wide_msg}";
const WITHOUT: &str = "{spinner} {prefix}  {wide_msg}";

/// Shows what an operation tells.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    ui: &'a Ui,
    bar: Option<ProgressBar>,
    is_silent: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: String,
    begun: Instant,
    told: Option<Instant>,
    has_total: bool,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(ui: &'a Ui) -> Self {
        let bar = (ui.shows_progress() && !ui.is_json()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
            bar.set_style(style(false));
            bar.set_prefix(phase_text(Phase::Opening));
            bar.enable_steady_tick(Duration::from_millis(125));
            bar
        });
        let phase = phase_name(Phase::Opening).to_owned();
        let state = State { phase, begun: Instant::now(), told: None, has_total: false };
        Self { ui, bar, is_silent: false, state: Mutex::new(state) }
    }

    /// The same, for an operation whose problems are told from its report.
    pub(crate) fn without_problems(ui: &'a Ui) -> Self {
        let mut progress = Self::new(ui);
        progress.is_silent = true;
        progress
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Says something with the bar out of its way.
    pub(crate) fn suspend<T>(&self, say: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a run of the history tells, in place of an operation of this process.
    pub(crate) fn show(&self, progress: &runner::Progress) {
        let name = match (progress.step.as_str(), progress.phase.as_str()) {
            ("", phase) => phase.to_owned(),
            (step, "") => step.to_owned(),
            (step, phase) if step == phase => phase.to_owned(),
            (step, phase) => format!("{step}, {phase}"),
        };
        if self.state().phase != name {
            self.begin(name.clone(), &name);
        }
        let counters = Counters {
            files: progress.files,
            bytes: progress.bytes,
            total_files: progress.total_files,
            total_bytes: progress.total_bytes,
            stored: progress.stored,
        };
        self.progress(&counters, progress.current.as_bytes());
    }

    fn begin(&self, phase: String, text: &str) {
        let mut state = self.state();
        state.phase = phase;
        state.begun = Instant::now();
        state.told = None;
        drop(state);
        if let Some(bar) = &self.bar {
            bar.set_prefix(text.to_owned());
            bar.set_message("");
        }
    }

    fn draw(&self, bar: &ProgressBar, counters: &Counters, current: &[u8]) {
        let mut state = self.state();
        let seconds = state.begun.elapsed().as_secs_f64();
        let total = counters.total_bytes.filter(|total| *total > 0);
        if total.is_some() != state.has_total {
            state.has_total = total.is_some();
            bar.set_style(style(state.has_total));
        }
        drop(state);
        let rate = counters.bytes as f64 / seconds.max(0.001);
        let mut text = format!("{} files, {}", count(counters.files), size(counters.bytes));
        if let Some(total) = total {
            bar.set_length(total);
            bar.set_position(counters.bytes.min(total));
            text.push_str(&format!(" of {}", size(total)));
        }
        // A rate over less than a second says nothing.
        if seconds > 1.0 && counters.bytes > 0 {
            text.push_str(&format!(", {}/s", size(rate as u64)));
            if let Some(left) = total.and_then(|total| total.checked_sub(counters.bytes)) {
                let left = Duration::from_secs_f64((left as f64 / rate.max(1.0)).min(1e8));
                text.push_str(&format!(", {} left", duration(left)));
            }
        }
        if !current.is_empty() {
            text.push_str(&format!("  {}", shortened(&printable(current), 48)));
        }
        bar.set_message(text);
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Monitor for Progress<'_> {
    fn phase(&self, phase: Phase) {
        self.begin(phase_name(phase).to_owned(), phase_text(phase));
    }

    fn progress(&self, counters: &Counters, current: &[u8]) {
        if let Some(bar) = &self.bar {
            return self.draw(bar, counters, current);
        }
        if !(self.ui.is_json() && self.ui.shows_progress()) {
            return;
        }
        let mut state = self.state();
        if state.told.is_some_and(|told| told.elapsed() < INTERVAL) {
            return;
        }
        state.told = Some(Instant::now());
        let (phase, seconds) = (state.phase.clone(), state.begun.elapsed().as_secs_f64());
        drop(state);
        let event = json::Progress::new(&phase, counters, seconds, current);
        let _ = self.ui.event("progress", &event);
    }

    fn problem(&self, what: &str, message: &str) {
        if self.is_silent {
            return;
        }
        let _ = self.suspend(|| self.ui.problem(what, message));
    }

    fn note(&self, message: &str) {
        let _ = self.suspend(|| self.ui.note(message));
    }
}

fn style(has_total: bool) -> ProgressStyle {
    let template = if has_total { WITH_TOTAL } else { WITHOUT };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Opening => "opening",
        Phase::Backup => "backing up",
        Phase::Copying => "copying",
        Phase::Committing => "writing the snapshot",
        Phase::Planning => "planning",
        Phase::Restore => "restoring",
        Phase::Finishing => "finishing",
        Phase::Archive => "archiving",
        Phase::CheckStructure => "checking structure",
        Phase::CheckData => "reading data",
        Phase::Marking => "finding out what is needed",
        Phase::Repacking => "copying what is needed",
        Phase::Waiting => "waiting",
        Phase::Deleting => "deleting",
        Phase::Repairing => "repairing",
        _ => "working",
    }
}

/// The end of a text, which tells more of a path than its start.
fn shortened(text: &str, limit: usize) -> Cow<'_, str> {
    let length = text.chars().count();
    if length <= limit {
        return Cow::Borrowed(text);
    }
    let tail: String = text.chars().skip(length - limit + 1).collect();
    Cow::Owned(format!("…{tail}"))
}
