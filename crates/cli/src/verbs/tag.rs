//! `tag`: tags and description of snapshots that are there. `keep` changes them in the same way.

use std::ffi::OsString;

use clap::Args;
use holdfast_app::Problem;
use holdfast_app::select::Spec;
use holdfast_app::text::printable;
use holdfast_app::times::{local, now};
use holdfast_engine::repo::notes::Change;
use holdfast_engine::repo::snapshots::{Filter, SnapshotInfo};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Outcome, Result};

/// Change tags and description of snapshots
///
/// What several people change at the same time all counts.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast tag latest --add before-upgrade
  holdfast tag 1a2b3c4d 5e6f7a8b --remove draft --add final
  holdfast tag latest~2 --set home,weekly --description 'the good one'")]
pub(crate) struct Tag {
    /// Ids, starts of ids, latest, latest~N, tag:NAME or a time
    #[arg(required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    /// Add this tag; may be repeated, or a list with commas
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    add: Vec<String>,
    /// Take this tag away
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    remove: Vec<String>,
    /// Take all tags away but these; empty: all
    #[arg(long, value_name = "TAG", value_delimiter = ',', conflicts_with_all = ["add", "remove"])]
    set: Option<Vec<String>>,
    /// Describe them; empty: take the description away
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Serialize)]
struct Summary {
    changed: Vec<String>,
    unchanged: Vec<String>,
}

pub(crate) fn run(context: &Context, options: &Tag) -> Result {
    let tags = |list: &[String]| -> Vec<String> {
        let list = list.iter().map(|tag| tag.trim().to_owned());
        list.filter(|tag| !tag.is_empty()).collect()
    };
    let change = Change {
        replace_tags: options.set.is_some(),
        add_tags: tags(options.set.as_deref().unwrap_or(&options.add)),
        remove_tags: tags(&options.remove),
        description: options.description.clone(),
        pinned: None,
    };
    if change == Change::default() {
        return Err(Problem::usage("nothing was said that should change")
            .hint("say --add TAG, --remove TAG, --set TAGS or --description TEXT")
            .into());
    }
    if let Some(tag) = change.add_tags.iter().find(|tag| change.remove_tags.contains(tag)) {
        return Err(Problem::usage(format!("{tag} is to be added and removed at once")).into());
    }
    annotate(context, &options.snapshots, &change, &|info, _| {
        let record = &info.record;
        let tags = match &record.tags[..] {
            [] => "no tags".into(),
            tags => format!("tags {}", printable(tags.join(",").as_bytes())),
        };
        let description = match &record.description[..] {
            "" => String::new(),
            text => format!("; {}", printable(text.as_bytes())),
        };
        format!("{} of {}: {tags}{description}", info.id.short(), local(record.time))
    })?;
    Ok(Outcome::Done)
}

/// Changes what is said of some snapshots; `line` makes a line for people of each as it is then,
/// and of whether anything had to change. All are found before the first is changed.
pub(super) fn annotate(
    context: &Context,
    snapshots: &[OsString],
    change: &Change,
    line: &dyn Fn(&SnapshotInfo, bool) -> String,
) -> Result<()> {
    let specs = whole(snapshots)?;
    let repository = context.open()?;
    let (all, notes) = context.snapshots(&repository)?;
    let chosen = find(&specs, &all, &Filter::default())?;
    let mut summary = Summary { changed: Vec::new(), unchanged: Vec::new() };
    for mut info in chosen {
        let changed = repository.annotate(&info, &notes, change, now())?;
        let list = if changed.is_some() { &mut summary.changed } else { &mut summary.unchanged };
        list.push(info.id.to_string());
        let is_new = changed.is_some();
        info.record = changed.unwrap_or(info.record);
        context.ui.summary(&line(&info, is_new))?;
    }
    if context.ui.is_json() {
        context.ui.event("summary", &summary)?;
    }
    Ok(())
}

/// Reads words that name snapshots, none of them with a path.
pub(super) fn whole(words: &[OsString]) -> Result<Vec<Spec>> {
    let parse = |word: &OsString| Ok(Spec::parse(word)?);
    let specs: Vec<Spec> = words.iter().map(parse).collect::<Result<_>>()?;
    if let Some(spec) = specs.iter().find(|spec| spec.path.is_some()) {
        let text = format!("{} is wanted as a whole: leave out the path", spec.text);
        return Err(Problem::usage(text).into());
    }
    Ok(specs)
}

/// The snapshots that words name, each once.
pub(super) fn find(
    specs: &[Spec],
    all: &[SnapshotInfo],
    filter: &Filter,
) -> Result<Vec<SnapshotInfo>> {
    let mut chosen: Vec<SnapshotInfo> = Vec::with_capacity(specs.len());
    for spec in specs {
        let info = spec.find(all.to_vec(), filter)?;
        if !chosen.iter().any(|other| other.id == info.id) {
            chosen.push(info);
        }
    }
    Ok(chosen)
}
