//! The restore: what, where to, what becomes of what is there, a preview of that, and the run, which
//! reads back what it wrote.

pub(crate) mod preview;

use askama::Template;
use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use axum::routing::{get, post};
use holdfast_app::jobs::Job;
use holdfast_app::jobs::restore::{Restore, To, check_in_place};
use holdfast_app::runs::{By, Report, Run};
use holdfast_app::text::{count, plural, printable, shell_word, size};
use holdfast_app::times::now;
use holdfast_app::{Location, Problem};
use holdfast_engine::ops::restore::Overwrite;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::tree::view::normalize;
use http::HeaderMap;

use super::browse::picks;
use super::runs::Figure;
use super::snapshots::{Storage, storages};
use super::unlock::{Refused, with};
use crate::names::{self, escape, line, spec, unescape};
use crate::opened::Open;
use crate::pages::go;
use crate::posted::Posted;
use crate::state::Shared;
use crate::view::{Frame, Nav, View, html};
use crate::words;

/// The addresses.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/restore/{at}/{id}", get(show).post(start))
        .route("/restore/{at}/{id}/preview", post(preview::look))
        .route("/restore/{at}/{id}/preview/{run}", get(preview::wait))
}

#[derive(Template)]
#[template(path = "restore.html")]
struct Page {
    frame: Frame,
    at: String,
    id: String,
    short: String,
    when: String,
    what: String,
    key: String,
    picks: Vec<(String, String)>,
    back: String,
    original: Option<String>,
    not_original: String,
    /// The machine that the snapshot is of, if it is another one.
    other: String,
    folder: String,
    storages: Vec<Storage>,
}

/// `GET /restore/{at}/{id}?path=…&pick=…`
async fn show(
    view: View,
    Path((at, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let own = view.clone();
    let (path, picks) = picks(&query.unwrap_or_default());
    let page = with(&view, &at, false, move |state, open| {
        let info = open.snapshot(&id)?;
        let storages = storages(state)?;
        let home = state.paths.home.as_ref().map(|home| home.display().to_string());
        page(&own, open, info, path, &picks, storages, home.unwrap_or_default())
    })
    .await?;
    Ok(html(&page))
}

fn page(
    view: &View,
    open: &Open,
    info: &SnapshotInfo,
    path: Option<Vec<u8>>,
    picks: &[Vec<u8>],
    storages: Vec<Storage>,
    home: String,
) -> Result<Page, Problem> {
    let (at, id, short) = (open.name.clone(), info.id.to_string(), info.id.short());
    let shown = path.as_deref().map(names::name);
    let what = match (picks, &shown) {
        ([], None) => "the whole snapshot".to_owned(),
        ([], Some(folder)) => folder.clone(),
        ([only], _) => names::name(only),
        (many, Some(folder)) => format!("{} picked in {folder}", count(many.len() as u64)),
        (many, None) => format!("{} picked", count(many.len() as u64)),
    };
    let allowed = check_in_place(info);
    let place = match picks {
        [only] => only.clone(),
        _ => path.clone().unwrap_or_else(|| b"/".to_vec()),
    };
    let folder = format!("{}/restored-{short}", home.trim_end_matches('/'));
    let from = path.as_deref().map_or_else(|| short.clone(), |path| spec(&short, path));
    let line = line(&at, &format!("restore {from} --to {}", shell_word(&folder)));
    let original = allowed.is_ok().then(|| printable(&place));
    let not_original = allowed.err().map(|problem| problem.message).unwrap_or_default();
    let key = path.as_deref().map(escape).unwrap_or_default();
    let is_other = info.record.host != view.state.machine;
    let other = if is_other { printable(info.record.host.as_bytes()) } else { String::new() };
    Ok(Page {
        frame: view.frame("Restore", Nav::Snapshots, &line),
        when: words::moment(info.record.time, now()),
        picks: picks.iter().map(|pick| (escape(pick), names::name(pick))).collect(),
        back: format!("/browse/{at}/{id}?path={key}"),
        what,
        key,
        original,
        not_original,
        other,
        folder,
        storages,
        at,
        id,
        short,
    })
}

/// Where the form wants it.
fn target(posted: &Posted) -> Result<To, Problem> {
    let location = match posted.text("to") {
        "original" => return Ok(To::InPlace),
        "storage" => {
            let below = posted.text("below").trim().trim_matches('/');
            format!("@{}:/{below}", posted.text("storage"))
        }
        _ => {
            let folder = posted.text("folder").trim();
            if !folder.starts_with('/') {
                return Err(Problem::usage("the folder is not given from the root")
                    .hint("write it like /home/anna/restored"));
            }
            folder.to_owned()
        }
    };
    Location::parse(location.as_ref())?;
    Ok(To::Location(location))
}

/// What the form asks for.
fn asked(open: &Open, id: &str, posted: &Posted) -> Result<Restore, Problem> {
    let info = open.snapshot(id)?;
    let to = target(posted)?;
    let overwrite = match posted.text("overwrite") {
        "changed" => Overwrite::IfChanged,
        "never" => Overwrite::Never,
        "always" => Overwrite::Always,
        _ => Overwrite::IfNewer,
    };
    let path = posted.text("path");
    Ok(Restore {
        from: open.target(),
        snapshot: info.id,
        path: (!path.is_empty()).then(|| normalize(&unescape(path))),
        picks: posted.all("pick").map(|pick| normalize(&unescape(pick))).collect(),
        to,
        overwrite,
        delete: posted.text("delete") == "true",
        numeric_ids: posted.text("numeric_ids") == "true",
        verify: posted.text("verify") == "true",
        dry_run: false,
    })
}

/// The same on the command line.
fn words(restore: &Restore) -> String {
    let short = restore.snapshot.short();
    let mut words = "restore ".to_owned();
    words.push_str(&match &restore.path {
        Some(path) => spec(&short, path),
        None => short,
    });
    match &restore.to {
        To::InPlace => words.push_str(" --in-place"),
        To::Location(location) => words.push_str(&format!(" --to {}", shell_word(location))),
    }
    words.push_str(match restore.overwrite {
        Overwrite::Always => " --overwrite always",
        Overwrite::IfNewer => " --overwrite if-newer",
        Overwrite::Never => " --overwrite never",
        Overwrite::IfChanged => "",
    });
    for pick in &restore.picks {
        words.push_str(&format!(" --include {}", shell_word(rule(pick))));
    }
    for (is, word) in [(restore.delete, " --delete"), (restore.numeric_ids, " --numeric-ids")] {
        if is {
            words.push_str(word);
        }
    }
    words
}

/// A rule as in .gitignore that fits this path alone.
fn rule(path: &[u8]) -> String {
    let mut rule = String::new();
    for c in printable(path).chars() {
        if "*?[]\\!#".contains(c) {
            rule.push('\\');
        }
        rule.push(c);
    }
    rule
}

/// `POST /restore/{at}/{id}`: the act, as a run.
async fn start(
    view: View,
    headers: HeaderMap,
    Path((at, id)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Refused> {
    let run = with(&view, &at, false, move |state, open| {
        state.runner.start(Job::Restore(asked(open, &id, &posted)?), By::Console)
    })
    .await?;
    Ok(go(&headers, &format!("/runs/{run}")))
}

/// Files and folders that were not there before. The report counts them together, and of what is
/// written only files.
fn new(report: &Report) -> (u64, u64) {
    let written = report.number("files") + report.number("others");
    let new = written.saturating_sub(report.number("replaced"));
    (new, report.number("created").saturating_sub(new))
}

/// Folders beside a number of files.
fn in_folders(folders: u64) -> String {
    match folders {
        0 => String::new(),
        _ => format!("and {}", plural(folders, "folder", "folders")),
    }
}

/// The figures of a restore that ended.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    let number = |name: &str| run.report.number(name);
    let name = if run.verb == "preview" { "Would be written" } else { "Written" };
    let mut figures = vec![Figure {
        name,
        value: plural(number("files") + number("others"), "file", "files"),
        beside: size(number("bytes")),
    }];
    let (new, folders) = new(&run.report);
    if new + folders > 0 {
        figures.push(Figure { name: "New", value: count(new), beside: in_folders(folders) });
    }
    for (key, name, beside) in [
        ("replaced", "Replaced", ""),
        ("left", "Kept as they were", ""),
        ("unchanged", "Equal, left alone", ""),
        ("deleted", "Deleted", ""),
        ("verified", "Verified", "read back and equal"),
        ("differ", "Differ", "read back, and not equal"),
        ("errors", "Not restored", ""),
    ] {
        if number(key) > 0 {
            figures.push(Figure { name, value: count(number(key)), beside: beside.into() });
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_app::jobs::Target;
    use holdfast_engine::hash::SnapshotId;

    #[test]
    fn a_form_says_where_it_goes() -> Result<(), Problem> {
        let target = |form: &str| target(&Posted::new(form.as_bytes()));
        let at = |location: &str| To::Location(location.into());
        assert_eq!(target("to=original&folder=/x")?, To::InPlace);
        assert_eq!(target("to=folder&folder=+/home/a+b/")?, at("/home/a b/"));
        assert_eq!(target("to=storage&storage=nas&below=/back/1/")?, at("@nas:/back/1"));
        assert_eq!(target("to=storage&storage=nas&below=")?, at("@nas:/"));
        for wrong in ["to=folder&folder=back", "to=storage&storage=nas&below=a/../b", "to=storage"]
        {
            assert!(target(wrong).is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn the_command_line_does_the_same() {
        let restore = Restore {
            from: Target { location: "@nas".into(), opened: None },
            snapshot: SnapshotId::new([0xab; 16]),
            path: Some(b"/home/anna".to_vec()),
            picks: vec![b"/home/anna/a b".to_vec(), b"/home/anna/x[1]*".to_vec()],
            to: To::InPlace,
            overwrite: Overwrite::IfNewer,
            delete: true,
            numeric_ids: false,
            verify: true,
            dry_run: false,
        };
        assert_eq!(
            words(&restore),
            "restore abababab:/home/anna --in-place --overwrite if-newer \
             --include '/home/anna/a b' --include '/home/anna/x\\[1\\]\\*' --delete"
        );
        let to = To::Location("/tmp/x".into());
        let picks = Vec::new();
        let (overwrite, delete) = (Overwrite::IfChanged, false);
        let other = Restore { to, picks, overwrite, delete, path: None, ..restore };
        assert_eq!(words(&other), "restore abababab --to /tmp/x");
    }

    #[test]
    fn folders_are_not_counted_as_files() {
        let mut report = Report::default();
        for (name, number) in [("files", 5), ("others", 1), ("replaced", 2), ("created", 7)] {
            report.add(name, number);
        }
        assert_eq!(new(&report), (4, 3));
        assert_eq!((in_folders(0), in_folders(1)), (String::new(), "and 1 folder".into()));
    }
}
