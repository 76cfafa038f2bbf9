//! `check`: whether everything that was backed up is still there.

use std::ffi::OsString;

use clap::Args;
use holdfast_app::jobs::check::damaged_text;
use holdfast_app::select::Spec;
use holdfast_app::text::{plural, printable, size};
use holdfast_app::{Problem, times};
use holdfast_engine::Error;
use holdfast_engine::ops::check::{CheckOptions, CheckReport, Finding, ReadData, Severity, check};
use holdfast_engine::repo::snapshots::Filter;
use holdfast_engine::storage::Folder;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::interrupt;
use crate::ui::json;
use crate::ui::progress::Progress;
use crate::verbs::warm_up;

/// Check that everything that was backed up is still there
///
/// Reads the index and all trees; with --read-data also every byte of every pack. What is found
/// is told with the snapshots and files that it hits. Exits with 13 if there is damage.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast check
  holdfast check --read-data
  holdfast check --read-data-subset 5%
  holdfast check latest --read-data
  holdfast check --server-checksums")]
pub(crate) struct Check {
    /// Check only these snapshots and what they need
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    /// Read and verify every pack
    #[arg(long)]
    read_data: bool,
    /// Read and verify some packs: 5%, or 1/20
    ///
    /// Those first that this machine has not verified for the longest time, so that in the end all
    /// have had their turn.
    #[arg(long, value_name = "PART", conflicts_with = "read_data")]
    read_data_subset: Option<String>,
    /// Let the server compute the checksums of packs, and read only what it cannot verify
    ///
    /// Over SFTP, where the account may run sha256sum. Of all packs, or of those that
    /// --read-data-subset chooses. A server that lies is not found out this way.
    #[arg(long)]
    server_checksums: bool,
    /// Have archived packs brought back first, to be readable for so many days
    ///
    /// For storage classes such as GLACIER. As long as one cannot be read nothing is checked, and it
    /// exits with 14.
    #[arg(
        long,
        value_name = "DAYS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "7",
        value_parser = clap::value_parser!(u32).range(1..=365),
        requires = "read_data",
        conflicts_with = "snapshots"
    )]
    warm_up: Option<u32>,
    /// Threads
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    threads: usize,
}

#[derive(Serialize)]
struct Found<'a> {
    severity: &'static str,
    object: &'a str,
    message: &'a str,
    faults: u64,
    snapshots: Vec<String>,
    files: Vec<File>,
}

#[derive(Serialize)]
struct File {
    snapshot: String,
    #[serde(flatten)]
    path: json::Path,
}

#[derive(Serialize)]
struct Summary {
    damaged: bool,
    findings: u64,
    snapshots: u64,
    segments: u64,
    packs: u64,
    blobs: u64,
    nodes: u64,
    entries: u64,
    packs_hashed: u64,
    packs_read: u64,
    bytes_read: u64,
    orphans: u64,
    without_parity: u64,
}

pub(crate) fn run(context: &Context, options: &Check) -> Result {
    let read_data = match &options.read_data_subset {
        None if options.read_data => ReadData::All,
        None => ReadData::No,
        Some(text) => {
            let fraction = parse_part(text).ok_or_else(|| {
                Problem::usage(format!("{text} is no part of the whole")).hint("write 5% or 1/20")
            })?;
            ReadData::Subset { fraction, seed: times::now().cast_unsigned() }
        }
    };
    let mut specs = Vec::with_capacity(options.snapshots.len());
    for text in &options.snapshots {
        specs.push(Spec::parse(text)?);
    }
    let repository = context.open()?;
    let snapshots = if specs.is_empty() {
        None
    } else {
        let (all, _) = context.snapshots(&repository)?;
        let mut ids = Vec::with_capacity(specs.len());
        for spec in &specs {
            ids.push(spec.find(all.clone(), &Filter::default())?.id);
        }
        Some(ids)
    };
    if let Some(days) = options.warm_up {
        let mut packs = Vec::new();
        let storage = repository.storage();
        storage.list(Folder::Packs, &mut |info| packs.push(info.name)).map_err(Error::from)?;
        warm_up::bring_back(&repository, &packs, days)?;
    }
    let check_options = CheckOptions {
        read_data,
        server_checksums: options.server_checksums,
        snapshots,
        threads: context.reading_threads(options.threads)?,
        time: times::now(),
    };
    let progress = Progress::without_problems(&context.ui);
    let result = check(&repository, &check_options, &progress, interrupt::watch());
    progress.finish();
    let report = result?;
    for finding in &report.findings {
        tell_finding(context, finding)?;
    }
    tell(context, &report, &check_options)?;
    Ok(if report.is_damaged() { Outcome::Damage } else { Outcome::Done })
}

/// `5%`, `1/20` or `0.05`.
fn parse_part(text: &str) -> Option<f64> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let part = match (text.strip_suffix('%'), text.split_once('/')) {
        (Some(percent), _) => number(percent)? / 100.0,
        (None, Some((part, whole))) => number(part)? / number(whole)?,
        (None, None) => number(text)?,
    };
    (part > 0.0 && part <= 1.0).then_some(part)
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Damage => "damage",
        Severity::Loss => "loss",
    }
}

fn tell_finding(context: &Context, finding: &Finding) -> Result<()> {
    if context.ui.is_json() {
        let file = |(id, path): &(holdfast_engine::hash::SnapshotId, Vec<u8>)| File {
            snapshot: id.to_string(),
            path: json::Path::new(path),
        };
        let event = Found {
            severity: severity(finding.severity),
            object: &finding.object,
            message: &finding.what,
            faults: finding.faults,
            snapshots: finding.snapshots.iter().map(ToString::to_string).collect(),
            files: finding.paths.iter().map(file).collect(),
        };
        return Ok(context.ui.event("finding", &event)?);
    }
    if finding.severity == Severity::Note {
        return context
            .ui
            .note(&format!("{}: {}", finding.object, finding.what))
            .map_err(Into::into);
    }
    let kind = severity(finding.severity);
    context.ui.line(&format!("{kind}: {}: {}", finding.object, finding.what))?;
    if !finding.snapshots.is_empty() {
        let ids: Vec<_> = finding.snapshots.iter().map(|id| id.short()).collect();
        context.ui.line(&format!("  hits snapshots {}", ids.join(" ")))?;
    }
    for (id, path) in &finding.paths {
        context.ui.line(&format!("  {}:{}", id.short(), printable(path)))?;
    }
    Ok(())
}

fn tell(context: &Context, report: &CheckReport, options: &CheckOptions) -> Result<()> {
    let ui = &context.ui;
    if ui.is_json() {
        let summary = Summary {
            damaged: report.is_damaged(),
            findings: report.findings_total,
            snapshots: report.snapshots,
            segments: report.segments,
            packs: report.packs,
            blobs: report.blobs,
            nodes: report.nodes,
            entries: report.entries,
            packs_hashed: report.packs_hashed,
            packs_read: report.packs_read,
            bytes_read: report.bytes_read,
            orphans: report.orphans_total,
            without_parity: report.without_parity,
        };
        return Ok(ui.event("summary", &summary)?);
    }
    ui.summary(&format!(
        "{}, {}, {} checked",
        plural(report.snapshots, "snapshot", "snapshots"),
        plural(report.entries, "entry", "entries"),
        plural(report.packs, "pack", "packs"),
    ))?;
    if options.server_checksums {
        let packs = plural(report.packs_hashed, "pack", "packs");
        ui.summary(&format!("{packs} verified by the server's checksums"))?;
    }
    let reads = options.server_checksums || options.read_data != ReadData::No;
    if reads && (report.packs_read > 0 || !options.server_checksums) {
        let packs = plural(report.packs_read, "pack", "packs");
        ui.summary(&format!("{packs} read and verified, {}", size(report.bytes_read)))?;
    }
    if report.orphans_total > 0 {
        let packs = plural(report.orphans_total, "pack", "packs");
        ui.summary(&format!("{packs} of interrupted or running backups: no damage"))?;
    }
    if report.without_parity > 0 {
        let packs = plural(report.without_parity, "pack", "packs");
        let repair = context.line("repair parity");
        ui.summary(&format!("{packs} without parity; to give them some: {repair}"))?;
    }
    if report.is_damaged() {
        ui.line(&format!("DAMAGE: {}", damaged_text(report.damaged())))?;
        ui.line("  hint: keep the repository as it is, and make a copy before anything else")?;
        let is_index = |finding: &Finding| finding.object.starts_with("index/");
        if report.unlisted > 0 || report.findings.iter().any(is_index) {
            let repair = context.line("repair index");
            ui.line(&format!("  hint: then list again what the index lacks: {repair}"))?;
            if report.unlisted == report.damaged() {
                return Ok(ui.line("  hint: then check again")?);
            }
        }
        let repair = context.line("repair packs");
        ui.line(&format!("  hint: then store anew what can be had of damaged packs: {repair}"))?;
        ui.line("  hint: a backup after that stores again what is lost here but still on disk")?;
        let repair = context.line("repair snapshots");
        ui.line(&format!("  hint: for what is lost for good: {repair}; see docs/recovery.md"))?;
    } else if !reads {
        ui.summary("no damage found; --read-data would read the packs as well")?;
    } else {
        ui.summary("no damage found")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_whole() {
        assert_eq!(parse_part("5%"), Some(0.05));
        assert_eq!(parse_part("1/20"), Some(0.05));
        assert_eq!(parse_part("100%"), Some(1.0));
        for bad in ["0%", "120%", "x", "1/0", "-1", ""] {
            assert_eq!(parse_part(bad), None, "{bad}");
        }
    }
}
