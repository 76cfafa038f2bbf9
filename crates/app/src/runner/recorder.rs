//! What a run tells while it works: for its row in the history, for its log, and for whoever
//! watches.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use holdfast_engine::monitor::{Monitor, Phase, Progress as Counters};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::{Event, What};
use crate::jobs::{Failures, Watch, phase_name};
use crate::runs::{ErrorClass, Level, LogLine, PhaseTime, ProblemRecord, Report, RunId, Sample};
use crate::text::printable;
use crate::times;

/// How often watchers are told of progress.
const INTERVAL: Duration = Duration::from_millis(250);
/// Errors of a kind that are named; all are counted.
const SAMPLES: usize = 20;
/// Errors that have a line in the log; all are counted.
const LINES: u64 = 10_000;

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What of a plan is done: "backup", "retention", …; empty if there are no parts.
    pub step: String,
    /// Its phase, as in docs/json.md.
    pub phase: String,
    /// Files done in this phase.
    pub files: u64,
    /// Bytes done in this phase.
    pub bytes: u64,
    /// Files in all, once that is known.
    pub total_files: Option<u64>,
    /// Bytes in all, once that is known.
    pub total_bytes: Option<u64>,
    /// Bytes sent to the storage in this phase.
    pub stored: u64,
    /// Bytes a second, over this phase.
    pub rate: u64,
    /// Milliseconds that this phase took so far.
    pub millis: u64,
    /// What is read or written now, printable.
    pub current: String,
    /// Errors so far, in all phases.
    pub errors: u64,
}

impl Progress {
    /// How much is done, in percent, once the whole is known.
    pub fn percent(&self) -> Option<u8> {
        let total = self.total_bytes.filter(|total| *total > 0)?;
        let percent = u128::from(self.bytes) * 100 / u128::from(total);
        Some(u8::try_from(percent.min(100)).unwrap_or(100))
    }

    /// How long it takes from now on, at the rate so far.
    pub fn left(&self) -> Option<Duration> {
        let left = self.total_bytes?.checked_sub(self.bytes)?;
        // A rate over less than a second says nothing.
        (self.rate > 0 && self.millis > 1000).then(|| Duration::from_secs(left / self.rate))
    }
}

/// Receives what a run tells.
#[derive(Debug)]
pub struct Recorder {
    run: RunId,
    events: broadcast::Sender<Event>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    progress: Progress,
    report: Report,
    /// Lines that the history does not have yet.
    lines: Vec<LogLine>,
    /// When the phase began.
    begun: Instant,
    told: Option<Instant>,
    errors: u64,
    /// How often another process asked for the end of it.
    asked: u8,
}

impl Recorder {
    /// Of a run whose watchers listen to `events`.
    pub fn new(run: RunId, events: broadcast::Sender<Event>) -> Self {
        let state = State {
            progress: Progress::default(),
            report: Report::default(),
            lines: Vec::new(),
            begun: Instant::now(),
            told: None,
            errors: 0,
            asked: 0,
        };
        Self { run, events, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: What) {
        let _ = self.events.send(Event { run: self.run, what });
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.state().progress_now()
    }

    pub(super) fn has_errors(&self) -> bool {
        self.state().errors > 0
    }

    pub(super) fn merge(&self, done: Report) {
        let mut state = self.state();
        // What is recorded here says more than a list of the first thousand.
        let errors = if state.report.errors.is_empty() { done.errors } else { Vec::new() };
        state.report.merge(Report { errors, ..done });
    }

    /// What there is for the history now.
    pub(super) fn beat(&self) -> (Progress, Report, Vec<LogLine>) {
        let mut state = self.state();
        state.time_phase();
        (state.progress_now(), state.report.clone(), std::mem::take(&mut state.lines))
    }

    /// Takes lines again that the history did not take.
    pub(super) fn put_back(&self, mut lines: Vec<LogLine>) {
        let mut state = self.state();
        lines.append(&mut state.lines);
        state.lines = lines;
    }

    /// How often it was asked to end before; from now on `asked` times.
    pub(super) fn heeded(&self, asked: u8) -> u8 {
        let mut state = self.state();
        let before = state.asked;
        state.asked = before.max(asked);
        before
    }

    /// The whole report, and the last lines.
    pub(super) fn finish(&self, problem: Option<ProblemRecord>) -> (Report, Vec<LogLine>) {
        let mut state = self.state();
        state.time_phase();
        let mut report = std::mem::take(&mut state.report);
        report.problem = problem.or(report.problem.take());
        (report, std::mem::take(&mut state.lines))
    }

    fn begin_phase(&self, change: impl FnOnce(&mut Progress) -> String) {
        let mut state = self.state();
        state.time_phase();
        state.begun = Instant::now();
        state.told = Some(state.begun);
        let errors = state.progress.errors;
        let step = std::mem::take(&mut state.progress.step);
        state.progress = Progress { step, errors, ..Progress::default() };
        let name = change(&mut state.progress);
        state.report.phases.push(PhaseTime { name, began: times::now(), millis: 0 });
        let progress = state.progress_now();
        drop(state);
        self.tell(What::Progress(Box::new(progress)));
    }
}

impl State {
    fn millis(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn progress_now(&self) -> Progress {
        let millis = self.millis();
        let rate = u128::from(self.progress.bytes) * 1000 / u128::from(millis.max(1));
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        Progress { millis, rate, errors: self.errors, ..self.progress.clone() }
    }

    fn time_phase(&mut self) {
        let millis = self.millis();
        if let Some(phase) = self.report.phases.last_mut() {
            phase.millis = millis;
        }
    }
}

impl Monitor for Recorder {
    fn phase(&self, phase: Phase) {
        self.begin_phase(|progress| {
            progress.phase = phase_name(phase).to_owned();
            match progress.step.as_str() {
                "" => progress.phase.clone(),
                step => format!("{step}/{}", progress.phase),
            }
        });
    }

    fn progress(&self, counters: &Counters, current: &[u8]) {
        let mut state = self.state();
        let progress = &mut state.progress;
        progress.files = counters.files;
        progress.bytes = counters.bytes;
        progress.total_files = counters.total_files;
        progress.total_bytes = counters.total_bytes;
        progress.stored = counters.stored;
        progress.current = printable(current);
        if state.told.is_some_and(|told| told.elapsed() < INTERVAL) {
            return;
        }
        state.told = Some(Instant::now());
        let progress = state.progress_now();
        drop(state);
        self.tell(What::Progress(Box::new(progress)));
    }

    fn problem(&self, what: &str, message: &str) {
        let class = class_of(message);
        let sample = Sample { what: what.to_owned(), message: message.to_owned() };
        let mut state = self.state();
        state.errors += 1;
        let errors = state.errors;
        let classes = &mut state.report.errors;
        match classes.iter_mut().find(|known| known.class == class) {
            Some(known) => {
                known.count += 1;
                if known.samples.len() < SAMPLES {
                    known.samples.push(sample);
                }
            }
            None => {
                classes.push(ErrorClass { class: class.into(), count: 1, samples: vec![sample] });
            }
        }
        drop(state);
        match errors {
            0..=LINES => self.log(Level::Warning, &format!("{what}: {message}")),
            n if n == LINES + 1 => {
                self.log(Level::Warning, "further problems are counted, and not listed here");
            }
            _ => {}
        }
    }

    fn note(&self, message: &str) {
        self.log(Level::Info, message);
    }
}

impl Watch for Recorder {
    fn step(&self, name: &str) {
        self.begin_phase(|progress| {
            progress.step = name.to_owned();
            name.to_owned()
        });
    }

    fn failures(&self) -> Failures {
        let state = self.state();
        Failures(state.errors, state.report.errors.clone())
    }

    fn forget_since(&self, before: Failures) {
        let mut state = self.state();
        (state.errors, state.report.errors) = (before.0, before.1);
    }

    fn log(&self, level: Level, text: &str) {
        let line = LogLine { time: times::now(), level, text: printable(text.as_bytes()) };
        self.state().lines.push(line.clone());
        self.tell(What::Log(line));
    }
}

/// What kind of error a message tells of, in words: a [`Monitor`] is told no more than the message.
fn class_of(message: &str) -> &'static str {
    const CLASSES: [(&str, &str); 10] = [
        ("permission denied", "permission denied"),
        ("access denied", "permission denied"),
        ("operation not permitted", "permission denied"),
        ("no such file", "no such path"),
        ("not found", "no such path"),
        ("changed while", "changed while read"),
        ("input/output error", "read error"),
        ("no space", "no space"),
        ("timed out", "timeout"),
        ("damaged", "damage"),
    ];
    let message = message.to_ascii_lowercase();
    let found = CLASSES.iter().find(|(part, _)| message.contains(part));
    found.map_or("other", |(_, class)| class)
}
