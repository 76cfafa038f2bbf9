//! `repair packs` and `repair parity`: what they tell.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use holdfast_app::text::{count, plural, size};
use holdfast_app::{Problem, times};
use holdfast_engine::hash::ObjectId;
use holdfast_engine::ops::repair::{
    self, RepairPacksOptions, RepairPacksReport, RepairParityOptions, RepairedPack,
};
use serde::Serialize;

use super::super::backup::writer_options;
use super::super::sync::of_other;
use super::{Unreadable, writer};
use crate::args::OtherSecret;
use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::interrupt;
use crate::ui::progress::Progress;

/// What the command line says.
pub(super) struct Choice<'a> {
    pub(super) packs: &'a [String],
    pub(super) from: Option<&'a OsStr>,
    pub(super) secret: &'a OtherSecret,
    pub(super) server_checksums: bool,
    pub(super) threads: usize,
}

#[derive(Serialize)]
struct Pack {
    pack: String,
    missing: bool,
    healed: Option<u64>,
    copied: u64,
    elsewhere: u64,
    donated: u64,
    lost: u64,
}

#[derive(Serialize)]
struct PacksSummary {
    damaged: u64,
    condemned: u64,
    copied: u64,
    donated: u64,
    lost: u64,
    other: u64,
    donor: Option<Donor>,
}

#[derive(Serialize)]
struct Donor {
    copy: bool,
    wanted: u64,
    found: u64,
    bytes: u64,
    files: u64,
}

#[derive(Serialize, Default)]
struct ParitySummary {
    on: bool,
    switched: bool,
    packs: u64,
    made: u64,
    renewed: u64,
    bytes: u64,
    damaged: Vec<Unreadable>,
}

pub(super) fn packs(context: &Context, choice: &Choice<'_>) -> Result {
    let mut named = BTreeSet::new();
    for text in choice.packs {
        let id = text.rsplit('/').next().and_then(|id| ObjectId::from_hex(id).ok());
        named.insert(id.ok_or_else(|| {
            Problem::usage(format!("{text} is no name of a pack"))
                .hint("write it as check names it: packs/ab/ab01… with all 64 digits")
        })?);
    }
    let place = choice.from.map(|from| context.other(from)).transpose()?;
    let repository = context.open()?;
    let donor = match (&place, choice.from) {
        (Some(place), Some(from)) => {
            let opened = context.open_other(place, choice.secret);
            Some(opened.map_err(|e| of_other(e, from))?)
        }
        _ => None,
    };
    let options = RepairPacksOptions {
        writer: writer(),
        packs: (!named.is_empty()).then_some(named),
        server_checksums: choice.server_checksums,
        donor: donor.as_ref(),
        store: writer_options(context, None, None)?,
        threads: context.reading_threads(choice.threads)?,
    };
    let progress = Progress::without_problems(&context.ui);
    let result = repair::packs(&repository, &options, &progress, interrupt::watch());
    progress.finish();
    let report = result?;
    for pack in &report.packs {
        tell_pack(context, pack)?;
    }
    tell_packs(context, &report)?;
    let is_mended = report.lost() == 0 && report.other_damage() == 0;
    Ok(if is_mended { Outcome::Done } else { Outcome::Damage })
}

fn tell_pack(context: &Context, pack: &RepairedPack) -> Result<()> {
    let RepairedPack { id, missing, healed, copied, elsewhere, donated, lost } = pack;
    if context.ui.is_json() {
        let event = Pack {
            pack: id.to_string(),
            missing: *missing,
            healed: *healed,
            copied: *copied,
            elsewhere: *elsewhere,
            donated: *donated,
            lost: *lost,
        };
        return Ok(context.ui.event("pack", &event)?);
    }
    let mut parts = Vec::new();
    match healed {
        Some(pieces) => {
            let pieces = plural(*pieces, "piece", "pieces");
            parts.push(format!("healed by its parity ({pieces})"));
        }
        None if *missing => parts.push("missing".into()),
        None => {}
    }
    let blobs = [
        (copied, "stored anew"),
        (elsewhere, "whole elsewhere"),
        (donated, "donated"),
        (lost, "lost"),
    ];
    for (number, what) in blobs.into_iter().filter(|(number, _)| **number > 0) {
        parts.push(format!("{} {what}", plural(*number, "blob", "blobs")));
    }
    Ok(context.ui.line(&format!("pack {id}: {}", parts.join(", ")))?)
}

fn tell_packs(context: &Context, report: &RepairPacksReport) -> Result<()> {
    let ui = &context.ui;
    let sum = |of: fn(&RepairedPack) -> u64| report.packs.iter().map(of).sum::<u64>();
    let (copied, donated, lost) = (sum(|p| p.copied), sum(|p| p.donated), report.lost());
    if ui.is_json() {
        let donor = report.donated.map(|told| Donor {
            copy: told.is_copy,
            wanted: told.wanted,
            found: told.blobs,
            bytes: told.bytes,
            files: told.files,
        });
        let (damaged, condemned) = (report.packs.len() as u64, report.condemned);
        let other = report.other_damage();
        let event = PacksSummary { damaged, condemned, copied, donated, lost, other, donor };
        return Ok(ui.event("summary", &event)?);
    }
    if report.other_damage() > 0 {
        let many = plural(report.other_damage(), "object that is", "objects that are");
        ui.line(&format!("DAMAGE: {many} no packs"))?;
        ui.line(&format!("  hint: to see which: {}", context.line("check")))?;
    }
    if report.packs.is_empty() {
        return Ok(ui.summary("no damaged pack found: nothing was written")?);
    }
    if let Some(told) = &report.donated {
        let found = format!("{} of {}", count(told.blobs), count(told.wanted));
        let how = match told.is_copy {
            true => "a copy of this repository's files".to_owned(),
            false => format!("{} read there", plural(told.files, "file", "files")),
        };
        ui.summary(&format!("of what is lost here, found there: {found} ({how})"))?;
    }
    let packs = plural(report.condemned, "damaged pack counts", "damaged packs count");
    ui.summary(&format!("{packs} no more; gc deletes what nothing needs any more"))?;
    if lost == 0 {
        let gc = context.line("gc");
        return Ok(ui.summary(&format!("nothing of them is lost. To be rid of them: {gc}"))?);
    }
    let blobs = plural(lost, "blob", "blobs");
    ui.line(&format!("DAMAGE: {blobs} of these packs cannot be had back from here"))?;
    ui.line("  hint: the next backup stores again what is still where it was backed up from")?;
    if report.donated.is_none() {
        let from = context.line("repair packs --from LOCATION");
        ui.line(&format!("  hint: a second repository may have some of it: {from}"))?;
    }
    ui.line(&format!("  hint: to see what that hits: {}", context.line("check --read-data")))?;
    Ok(())
}

pub(super) fn parity(context: &Context, all: bool, threads: usize) -> Result {
    let repository = context.open()?;
    let threads = context.reading_threads(threads)?;
    let options = RepairParityOptions { time: times::now(), all, threads };
    let progress = Progress::new(&context.ui);
    let result = repair::parity(&repository, &options, &progress, interrupt::watch());
    progress.finish();
    let report = result?;
    let outcome = if report.damaged.is_empty() { Outcome::Done } else { Outcome::Damage };
    let ui = &context.ui;
    if ui.is_json() {
        let damaged = report.damaged.into_iter();
        let event = ParitySummary {
            on: true,
            switched: report.switched_on,
            packs: report.packs,
            made: report.made,
            renewed: report.renewed,
            bytes: report.bytes,
            damaged: damaged
                .map(|(id, reason)| Unreadable { pack: id.to_string(), reason })
                .collect(),
        };
        ui.event("summary", &event)?;
        return Ok(outcome);
    }
    if report.switched_on {
        ui.summary("packs get parity from now on")?;
    }
    let made = plural(report.made, "pack", "packs");
    let (bytes, of) = (size(report.bytes), count(report.packs));
    ui.summary(&format!("parity of {made} written, {bytes}; there are {of} packs in all"))?;
    if !report.damaged.is_empty() {
        let many = plural(report.damaged.len() as u64, "pack is", "packs are");
        ui.line(&format!("DAMAGE: {many} damaged, and got no parity"))?;
        ui.line(&format!("  hint: {}", context.line("repair packs")))?;
    }
    Ok(outcome)
}

pub(super) fn no_parity(context: &Context) -> Result {
    let switched = context.open()?.set_parity(false, times::now())?;
    let ui = &context.ui;
    if ui.is_json() {
        ui.event("summary", &ParitySummary { switched, ..ParitySummary::default() })?;
    } else {
        ui.summary(match switched {
            true => "packs get no parity any more; the next gc deletes what there is",
            false => "packs get no parity as it is",
        })?;
    }
    Ok(Outcome::Done)
}
