//! `config repository import`: remotes of rclone's configuration become named locations.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use holdfast_app::config::import::{Fate, Imported, Remotes, Wish, default_file};
use holdfast_app::text::{plural, printable, printable_os};
use holdfast_app::{Config as File, catalogue};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::context::{Context, home, variable};
use crate::failure::{Outcome, Result};

/// Import remotes of rclone's configuration
///
/// Remotes of the types sftp, s3, local and alias become named locations, with their passwords and
/// keys. What has no equal is named. NAME:PATH also says where on the remote: for S3 the bucket and
/// a prefix (NAME:BUCKET/PREFIX), which rclone does not keep. Without names, all are imported, and
/// those that cannot be are told of.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast config repository import --dry-run
  holdfast config repository import nas minio:mybucket/backups
  rclone config show | holdfast config repository import --from -")]
pub(crate) struct Import {
    /// Only these, with a path if need be
    #[arg(value_name = "NAME[:PATH]")]
    remotes: Vec<String>,
    /// rclone's configuration; `-` for standard input [else $RCLONE_CONFIG, else where rclone has it]
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Change locations that are there already; title, passphrase and limits stay
    #[arg(long)]
    replace: bool,
    /// Tell what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    remote: &'a str,
    name: &'a str,
    outcome: &'static str,
    options: &'a [String],
    ignored: &'a [String],
    notes: &'a [String],
}

#[derive(Serialize)]
struct Summary {
    imported: usize,
    replaced: usize,
    exists: usize,
    left_out: usize,
    dry_run: bool,
}

pub(super) fn run(context: &Context, import: &Import) -> Result {
    let remotes = read(import)?;
    let wishes: Vec<_> = import.remotes.iter().map(|text| Wish::parse(text)).collect();
    let told = if import.dry_run {
        let mut config = File::load(&context.config_path()?, home())?;
        config.import(&remotes, &wishes, import.replace)?
    } else {
        context.edit_config(|config| config.import(&remotes, &wishes, import.replace))?
    };
    for imported in &told {
        tell(context, imported)?;
    }
    let count = |fate| told.iter().filter(|imported| imported.fate == fate).count();
    let summary = Summary {
        imported: count(Fate::Imported),
        replaced: count(Fate::Replaced),
        exists: count(Fate::Exists),
        left_out: count(Fate::LeftOut),
        dry_run: import.dry_run,
    };
    if context.ui.is_json() {
        context.ui.event("summary", &summary)?;
    }
    let done = plural((summary.imported + summary.replaced) as u64, "location", "locations");
    let would = if import.dry_run { "dry run: would import" } else { "imported" };
    context.ui.summary(&format!("{would} {done}"))?;
    if !import.dry_run && summary.imported + summary.replaced > 0 {
        context.ui.summary("  next:  holdfast config repository test NAME")?;
    }
    Ok(Outcome::Done)
}

fn read(import: &Import) -> Result<Remotes> {
    let mut text = Zeroizing::new(String::new());
    let path = match &import.from {
        Some(path) if path.as_os_str() == "-" => {
            let mut input = std::io::stdin().lock();
            input
                .read_to_string(&mut text)
                .map_err(|e| catalogue::io("read", "standard input", &e))?;
            return Ok(Remotes::parse(&text, "standard input")?);
        }
        Some(path) => path.clone(),
        None => default_file(&variable)?,
    };
    std::fs::File::open(&path)
        .and_then(|mut file| file.read_to_string(&mut text))
        .map_err(|e| catalogue::io("read", &path, &e))?;
    Ok(Remotes::parse(&text, &printable_os(path))?)
}

fn tell(context: &Context, imported: &Imported) -> Result<()> {
    let Imported { remote, name, fate, options, ignored, notes } = imported;
    let outcome = match fate {
        Fate::Imported => "imported",
        Fate::Replaced => "replaced",
        Fate::Exists => "exists",
        Fate::LeftOut => "left out",
    };
    if context.ui.is_json() {
        let row = Row { remote, name, outcome, options, ignored, notes };
        return Ok(context.ui.row("import", &row)?);
    }
    let as_name =
        if name.is_empty() || name == remote { String::new() } else { format!(" as @{name}") };
    context.ui.line(&format!("{outcome:<9} {}{as_name}", printable(remote.as_bytes())))?;
    if !ignored.is_empty() {
        context.ui.line(&format!(
            "          without {}, which Holdfast does not have",
            ignored.join(", ")
        ))?;
    }
    for note in notes {
        context.ui.line(&format!("          {}", printable(note.as_bytes())))?;
    }
    Ok(())
}
