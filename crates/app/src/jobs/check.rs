//! Checking a repository: its structure, and as much of its data as asked for.

use holdfast_engine::ops::check::{CheckOptions, CheckReport, ReadData, Severity, check};
use holdfast_engine::repo::Repository;

use super::{Limits, Target, Work};
use crate::catalogue;
use crate::problem::{Class, Problem};
use crate::runs::{Level, ProblemRecord, Report};
use crate::text::{plural, printable, shell_word, size};
use crate::times;

/// A check of a repository.
#[derive(Debug, Clone, Default)]
pub struct Check {
    /// The plan that it is of, if any.
    pub plan: Option<String>,
    /// The repository.
    pub repository: Target,
    /// How much of the data is read, in percent: 0 for the structure alone.
    pub data: u8,
    /// How fast, where it is not open already.
    pub limits: Limits,
}

/// Opens the repository and checks it.
pub fn run(work: &Work<'_>, options: &Check) -> Result<Report, Problem> {
    let repository = options.repository.open(work, options.limits)?;
    look(work, &repository, &options.repository.location, options.data)
}

/// Checks a repository that is open already; `at` is its location.
pub fn look(
    work: &Work<'_>,
    repository: &Repository,
    at: &str,
    data: u8,
) -> Result<Report, Problem> {
    let read_data = match data {
        0 => ReadData::No,
        100.. => ReadData::All,
        // Another part each time: after a while all was read.
        part => ReadData::Subset {
            fraction: f64::from(part) / 100.0,
            seed: times::now().cast_unsigned(),
        },
    };
    let options = CheckOptions { read_data, ..CheckOptions::default() };
    let done = check(repository, &options, work.watch, work.interrupt)
        .map_err(|e| catalogue::explain(&e, Some(at.as_ref())))?;
    let mut report = Report::default();
    for (name, number) in [
        ("snapshots_checked", done.snapshots),
        ("packs_checked", done.packs),
        ("packs_read", done.packs_read),
        ("bytes_checked", done.bytes_read),
        ("findings", done.findings_total),
    ] {
        report.add(name, number);
    }
    tell(work, &done);
    if done.is_damaged() {
        let at = shell_word(at);
        let problem = Problem::new(Class::Damage, damaged_text(done.damaged()))
            .hint("keep the repository as it is, and make a copy before anything else")
            .hint(format!("to see what is hit: holdfast at {at} check --read-data"))
            .hint("what can be done: docs/recovery.md");
        report.problem = Some(ProblemRecord::from(&problem));
    }
    Ok(report)
}

/// How many objects are damaged.
pub fn damaged_text(objects: u64) -> String {
    plural(objects, "object is not as it must be", "objects are not as they must be")
}

fn tell(work: &Work<'_>, done: &CheckReport) {
    for finding in &done.findings {
        let mut text = format!("{}: {}", finding.object, finding.what);
        for (id, path) in &finding.paths {
            text.push_str(&format!("; hits {}:{}", id.short(), printable(path)));
        }
        let level = match finding.severity {
            Severity::Note => Level::Info,
            Severity::Damage | Severity::Loss => Level::Error,
        };
        work.watch.log(level, &text);
    }
    let packs = plural(done.packs_read, "pack", "packs");
    let text = format!(
        "{} and {} checked; {packs} read, {}",
        plural(done.snapshots, "snapshot", "snapshots"),
        plural(done.packs, "pack", "packs"),
        size(done.bytes_read)
    );
    work.watch.log(Level::Info, &text);
}
