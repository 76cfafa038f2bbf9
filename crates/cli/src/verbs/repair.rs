//! `repair`: makes good what can be made good: an index from the packs, what can be had of damaged
//! packs ([`packs`]), snapshots without what they lack, a config from a recovery kit.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Subcommand;
use holdfast_app::select::Spec;
use holdfast_app::text::{plural, printable, printable_os};
use holdfast_app::{Class, Problem, catalogue, kit, secrets, times};
use holdfast_engine::ops::check::{CheckOptions, ReadData};
use holdfast_engine::ops::repair::{
    self, RepairIndexOptions, RepairIndexReport, RepairSnapshotsOptions, RepairSnapshotsReport,
    Repaired,
};
use holdfast_engine::repo::open::restore_config;
use holdfast_engine::repo::session::Writer;
use holdfast_engine::repo::snapshots::Filter;
use holdfast_engine::storage::ObjectName;
use serde::Serialize;
use zeroize::Zeroizing;

use super::backup::writer_options;
use crate::args::OtherSecret;
use crate::context::{Context, host};
use crate::failure::{Outcome, Result};
use crate::interrupt;
use crate::ui::json;
use crate::ui::progress::Progress;

mod packs;

/// Lost paths that are shown of a snapshot; its record names more.
const SHOWN: usize = 20;

/// Make good what is damaged, as far as that can be done
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  holdfast repair index
  holdfast repair packs --from /mnt/usb/backups
  holdfast repair snapshots --read-data
  holdfast repair parity
  holdfast at /mnt/disk/backups repair config --kit kit.txt

docs/recovery.md says which of them is for what. None deletes a backup, or what could heal one.")]
pub(crate) enum Repair {
    /// List packs again that no index segment lists
    ///
    /// Packs say themselves what they hold. Works with all of the index gone, and beside backups.
    /// Damaged segments count no more afterwards. Exits with 13 if packs could not be read.
    Index {
        /// Read all packs, and believe nothing that the index says now
        #[arg(long)]
        all: bool,
        /// Threads
        #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
        threads: usize,
    },
    /// Store anew what can be had of damaged packs, and let go of them
    ///
    /// Reads all packs. What still opens in a damaged one, by itself or by its parity, is stored
    /// once more; with --from also what a second repository has of the rest. The damaged pack counts
    /// no more: the next backup stores again what is still there to be backed up, and gc deletes it
    /// once nothing that a snapshot needs is in it alone. Exits with 13 if something of it
    /// is still lost, needed or not.
    Packs {
        /// Only these packs, as check names them
        #[arg(value_name = "PACK")]
        packs: Vec<String>,
        /// A second repository to take from what is lost in this one
        #[arg(long, value_name = "LOCATION")]
        from: Option<OsString>,
        #[command(flatten)]
        secret: OtherSecret,
        /// Let the server compute the checksums of packs, and read only what it cannot verify
        #[arg(long, conflicts_with = "packs")]
        server_checksums: bool,
        /// Threads
        #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
        threads: usize,
    },
    /// Give parity to all packs, from now on and those that have none
    ///
    /// Parity heals up to 3 % of a pack, wherever the damage is, and takes about 4 % more space.
    /// Packs without it are read whole. Exits with 13 if one of them is damaged already.
    Parity {
        /// Read what parity there is as well, and write anew what is damaged of it
        #[arg(long)]
        all: bool,
        /// Give packs no parity any more; the next gc deletes what there is
        #[arg(long, conflicts_with_all = ["all", "threads"])]
        off: bool,
        /// Threads
        #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
        threads: usize,
    },
    /// Write a whole snapshot beside each one of which something is lost
    ///
    /// Repairs the index, checks, and stores for each hurt snapshot another one without what is
    /// lost: files that lack something are in it, marked as unread; what a lost part of a tree held
    /// is cut out. The hurt one stays; forget it once you are sure that nothing brings back what it
    /// lacks. Exits with 13 if a snapshot, or a pack that no index lists, cannot be read at all.
    Snapshots {
        /// Only these snapshots
        #[arg(value_name = "SNAPSHOT")]
        snapshots: Vec<OsString>,
        /// Read every pack to find out what is lost, not only the trees
        #[arg(long)]
        read_data: bool,
        /// Threads
        #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
        threads: usize,
    },
    /// Put back a lost config from a recovery kit
    ///
    /// `key recovery-kit` makes one. A config that is there is never replaced.
    Config {
        /// The kit, or a file with those of its lines that begin with "key" and "config"
        #[arg(long, value_name = "FILE")]
        kit: PathBuf,
    },
}

#[derive(Serialize)]
struct IndexSummary {
    packs: u64,
    listed: u64,
    blobs: u64,
    segments: u64,
    superseded: Vec<String>,
    unreadable: Vec<Unreadable>,
}

#[derive(Serialize)]
struct Unreadable {
    pack: String,
    reason: String,
}

#[derive(Serialize)]
struct RepairedSnapshot {
    hurt: String,
    whole: Option<String>,
    earlier: bool,
    unread: u64,
    cut: u64,
    files: Vec<Lost>,
}

#[derive(Serialize)]
struct Lost {
    #[serde(flatten)]
    path: json::Path,
    reason: String,
}

#[derive(Serialize)]
struct SnapshotsSummary {
    lost: Vec<String>,
    snapshots: u64,
    findings: u64,
    hurt: u64,
    written: u64,
    listed: u64,
}

#[derive(Serialize)]
struct Config {
    repository: String,
    location: String,
}

pub(crate) fn run(context: &Context, repair: &Repair) -> Result {
    match repair {
        Repair::Index { all, threads } => index(context, *all, *threads),
        Repair::Snapshots { snapshots: chosen, read_data, threads } => {
            snapshots(context, chosen, *read_data, *threads)
        }
        Repair::Packs { packs, from, secret, server_checksums, threads } => {
            let choice = packs::Choice {
                packs,
                from: from.as_deref(),
                secret,
                server_checksums: *server_checksums,
                threads: *threads,
            };
            packs::packs(context, &choice)
        }
        Repair::Parity { off: true, .. } => packs::no_parity(context),
        Repair::Parity { all, threads, .. } => packs::parity(context, *all, *threads),
        Repair::Config { kit } => config(context, kit),
    }
}

fn writer() -> Writer {
    let process = std::process::id();
    Writer { host: host(), process, verb: "repair".into(), time: times::now() }
}

fn index(context: &Context, all: bool, threads: usize) -> Result {
    let repository = context.open()?;
    let progress = Progress::new(&context.ui);
    let options = RepairIndexOptions { writer: writer(), all, threads };
    let result = repair::index(&repository, &options, &progress, interrupt::watch());
    progress.finish();
    let report = result?;
    if context.ui.is_json() {
        let unreadable = report.unreadable.iter();
        let event = IndexSummary {
            packs: report.packs,
            listed: report.listed,
            blobs: report.blobs,
            segments: report.segments,
            superseded: report.superseded.iter().map(ToString::to_string).collect(),
            unreadable: unreadable
                .map(|(id, reason)| Unreadable { pack: id.to_string(), reason: reason.clone() })
                .collect(),
        };
        context.ui.event("summary", &event)?;
    } else {
        tell_index(context, &report)?;
        if report.unreadable.is_empty() {
            let check = context.line("check");
            context.ui.summary(&format!("to see whether all is there now: {check}"))?;
        } else {
            let repair = context.line("repair snapshots --read-data");
            context.ui.line(&format!("  hint: {repair}"))?;
        }
    }
    Ok(if report.unreadable.is_empty() { Outcome::Done } else { Outcome::Damage })
}

fn tell_index(context: &Context, report: &RepairIndexReport) -> Result<()> {
    let ui = &context.ui;
    if report.segments == 0 {
        let packs = plural(report.packs, "pack", "packs");
        ui.summary(&format!("the index lists all it can of {packs}: nothing was written"))?;
    } else {
        let packs = plural(report.listed, "pack", "packs");
        let blobs = plural(report.blobs, "blob", "blobs");
        ui.summary(&format!("{packs} with {blobs} listed in the index again"))?;
    }
    if !report.superseded.is_empty() {
        let many = plural(report.superseded.len() as u64, "segment", "segments");
        ui.summary(&format!("{many} of the index, damaged or read anew, count no more"))?;
    }
    if !report.unreadable.is_empty() {
        let many = plural(report.unreadable.len() as u64, "pack", "packs");
        ui.line(&format!("DAMAGE: {many} cannot be read, and nobody knows what was in them"))?;
    }
    Ok(())
}

fn snapshots(context: &Context, chosen: &[OsString], read_data: bool, threads: usize) -> Result {
    let specs = chosen.iter().map(|text| Spec::parse(text));
    let specs = specs.collect::<std::result::Result<Vec<_>, _>>()?;
    let repository = context.open()?;
    let ids = if specs.is_empty() {
        None
    } else {
        let (all, _) = context.snapshots(&repository)?;
        let found = specs.iter().map(|spec| spec.find(all.clone(), &Filter::default()));
        Some(found.map(|found| Ok(found?.id)).collect::<Result<Vec<_>>>()?)
    };
    let read_data = if read_data { ReadData::All } else { ReadData::No };
    let threads = context.reading_threads(threads)?;
    let options = RepairSnapshotsOptions {
        writer: writer(),
        check: CheckOptions { read_data, snapshots: ids, threads, ..CheckOptions::default() },
        store: writer_options(context, None, None)?,
    };
    let progress = Progress::without_problems(&context.ui);
    let result = repair::snapshots(&repository, &options, &progress, interrupt::watch());
    progress.finish();
    let report = result?;
    for repaired in &report.repaired {
        tell_repaired(context, repaired)?;
    }
    tell_snapshots(context, &report)?;
    let is_whole = report.lost.is_empty() && report.index.unreadable.is_empty();
    Ok(if is_whole { Outcome::Done } else { Outcome::Damage })
}

fn tell_repaired(context: &Context, repaired: &Repaired) -> Result<()> {
    let Repaired { hurt, whole, is_old, cut } = repaired;
    let ui = &context.ui;
    if ui.is_json() {
        let lost = cut.paths.iter();
        let lost =
            lost.map(|(path, what)| Lost { path: json::Path::new(path), reason: what.clone() });
        let event = RepairedSnapshot {
            hurt: hurt.to_string(),
            whole: whole.map(|id| id.to_string()),
            earlier: *is_old,
            unread: cut.files,
            cut: cut.entries,
            files: lost.collect(),
        };
        return Ok(ui.event("repaired", &event)?);
    }
    let hurt = hurt.short();
    match whole {
        None => ui.line(&format!("snapshot {hurt}: what it lacked was made anew"))?,
        Some(whole) => {
            let (whole, earlier) =
                (whole.short(), if *is_old { ", by an earlier repair" } else { "" });
            let files = plural(cut.files, "entry", "entries");
            let lost = match cut.entries {
                0 => String::new(),
                many => format!(", {} cut out", plural(many, "entry", "entries")),
            };
            let text = format!("snapshot {hurt}: whole as {whole}, {files} unread{lost}{earlier}");
            ui.line(&text)?;
        }
    }
    for (path, what) in cut.paths.iter().take(SHOWN) {
        ui.line(&format!("  {}: {what}", printable(path)))?;
    }
    if let Some(more) = cut.paths.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        ui.line(&format!("  and {}", plural(more as u64, "path more", "paths more")))?;
    }
    Ok(())
}

fn tell_snapshots(context: &Context, report: &RepairSnapshotsReport) -> Result<()> {
    let ui = &context.ui;
    let written = report.repaired.iter().filter(|r| r.whole.is_some() && !r.is_old).count() as u64;
    let hurt = report.repaired.len() as u64;
    if ui.is_json() {
        let event = SnapshotsSummary {
            lost: report.lost.iter().map(ToString::to_string).collect(),
            snapshots: report.check.snapshots,
            findings: report.check.findings_total,
            hurt,
            written,
            listed: report.index.listed,
        };
        return Ok(ui.event("summary", &event)?);
    }
    if report.index.segments > 0 || !report.index.unreadable.is_empty() {
        tell_index(context, &report.index)?;
    }
    let checked = plural(report.check.snapshots, "snapshot", "snapshots");
    ui.summary(&format!("{checked} checked, {hurt} hurt, {written} written"))?;
    let beside = report.repaired.iter().filter(|repaired| repaired.whole.is_some());
    let ids: Vec<_> = beside.map(|repaired| repaired.hurt.short()).collect();
    if !ids.is_empty() {
        let forget = context.line(&format!("forget {}", ids.join(" ")));
        ui.summary("the hurt ones stay: a good copy of what is damaged would make them whole")?;
        ui.summary(&format!("if there is none: {forget}"))?;
    }
    for id in &report.lost {
        ui.line(&format!(
            "DAMAGE: snapshot {} cannot be read, and nothing can be had of it",
            id.short()
        ))?;
        let name = ObjectName::snapshot(*id);
        ui.line(&format!(
            "  hint: a good copy of {name} from elsewhere, put back there, brings it back"
        ))?;
        ui.line(&format!("  hint: if there is none: {}", context.line(&format!("forget {id}"))))?;
    }
    Ok(())
}

fn config(context: &Context, path: &PathBuf) -> Result {
    // It holds the key as well.
    let text = std::fs::read_to_string(path).map_err(|e| catalogue::io("read", path, &e))?;
    let text = Zeroizing::new(text);
    let bytes = kit::config(&text, path)?.ok_or_else(|| {
        let shown = printable_os(path);
        let message = format!("{shown} holds no line of a recovery kit that begins with config");
        Problem::new(Class::KeyUnreadable, message)
            .hint("type those lines of the page as well, each with its number")
    })?;
    let secret = secrets::read_key_file(path)?;
    let storage = context.storage()?;
    let repository = restore_config(&*storage, &bytes, &secret)?;
    if context.ui.is_json() {
        let event = Config { repository: repository.to_string(), location: storage.location() };
        context.ui.event("summary", &event)?;
    }
    context.ui.summary(&format!("config of repository {} is back", repository.short()))?;
    Ok(Outcome::Done)
}
