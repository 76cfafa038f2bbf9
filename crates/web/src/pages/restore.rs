//! The restore: what, where to, what becomes of what is there, a preview of that, and the run, which
//! reads back what it wrote.

use askama::Template;
use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use axum::routing::{get, post};
use holdfast_app::jobs::Job;
use holdfast_app::jobs::restore::{Restore, To, check_in_place, preview};
use holdfast_app::runs::{By, Run};
use holdfast_app::text::{count, plural, printable, shell_word, size};
use holdfast_app::times::now;
use holdfast_app::{Location, Problem};
use holdfast_engine::monitor::Interrupt;
use holdfast_engine::ops::restore::{Overwrite, RestoreReport};
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

/// Entries that a preview names.
const NAMED: usize = 20;

/// The addresses.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/restore/{at}/{id}", get(show).post(start))
        .route("/restore/{at}/{id}/preview", post(look))
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

#[derive(Template)]
#[template(path = "restore-preview.html")]
struct Looked {
    line: String,
    address: String,
    figures: Vec<Figure>,
    failures: u64,
    cannot: Vec<(String, String)>,
    cannot_more: bool,
    needs: String,
    free: String,
    is_full: bool,
    action: String,
    in_words: String,
    nothing: bool,
    verify: bool,
}

/// `POST /restore/{at}/{id}/preview`: a part of the page.
async fn look(
    view: View,
    Path((at, id)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Refused> {
    let looked = with(&view, &at, false, move |state, open| {
        let restore = asked(open, &id, &posted)?;
        let info = open.snapshot(&id)?;
        let (repository, index) = (&open.repository, open.index());
        let interrupt = Interrupt::new();
        let report = preview(&state.paths, &restore, repository, index, info, &interrupt)?;
        Ok(looked(open, &restore, &report))
    })
    .await?;
    Ok(html(&looked))
}

fn looked(open: &Open, restore: &Restore, report: &RestoreReport) -> Looked {
    let figure = |name, number: u64, beside: String| Figure { name, value: count(number), beside };
    let written = report.files + report.others;
    let mut figures = vec![
        figure("New", report.created, String::new()),
        figure("Replaced", report.replaced, String::new()),
        figure("Kept as they are", report.skipped, String::new()),
        figure("Equal, left alone", report.unchanged, size(report.unchanged_bytes)),
    ];
    if restore.delete {
        figures.push(figure("Deleted", report.deleted, "not in the snapshot".into()));
    }
    if report.failures > 0 {
        figures.push(figure("Cannot be written", report.failures, String::new()));
    }
    let place = match &restore.to {
        To::InPlace => "their original places".to_owned(),
        To::Location(location) => location.clone(),
    };
    let mut in_words = format!("{} to {place}.", plural(written, "file goes", "files go"));
    if report.replaced > 0 {
        let what = plural(report.replaced, "file there is replaced", "files there are replaced");
        in_words.push_str(&format!(" {what}."));
    }
    if report.skipped > 0 {
        let what = plural(report.skipped, "stays as it is", "stay as they are");
        in_words.push_str(&format!(" {what}."));
    }
    if report.deleted > 0 {
        in_words.push_str(&format!(" {} deleted.", plural(report.deleted, "is", "are")));
    }
    let failed = report.failed.iter().take(NAMED);
    Looked {
        line: line(&open.name, &words(restore)),
        address: format!("/restore/{}/{}", open.name, restore.snapshot),
        figures,
        failures: report.failures,
        cannot: failed.map(|(path, why)| (printable(path), why.clone())).collect(),
        cannot_more: report.failures > NAMED as u64,
        needs: size(report.bytes),
        free: report.free_space.map(size).unwrap_or_default(),
        is_full: report.free_space.is_some_and(|free| free < report.bytes),
        action: format!("Restore {}", plural(written, "file", "files")),
        in_words,
        nothing: written + report.directories + report.deleted == 0,
        verify: restore.verify,
    }
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

/// The figures of a restore that ended.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    let number = |name: &str| run.report.number(name);
    let mut figures = vec![Figure {
        name: "Written",
        value: plural(number("files") + number("others"), "file", "files"),
        beside: size(number("bytes")),
    }];
    for (key, name, beside) in [
        ("created", "New", "not there before"),
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
}
