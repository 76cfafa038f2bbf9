//! Choosing folders of this machine for a plan. Only names of directories are shown, inside the
//! places where people keep things; our own data and keys are out of reach.

use std::path::{Path, PathBuf};

use askama::Template;
use axum::response::Response;
use holdfast_app::text::printable_os;
use holdfast_app::{Class, Problem, catalogue};

use crate::failure::Failure;
use crate::posted::Posted;
use crate::state::State;
use crate::view::{View, html};

/// Where browsing may begin, beside the home directory.
const ROOTS: [&str; 9] =
    ["/home", "/root", "/etc", "/srv", "/mnt", "/media", "/opt", "/var", "/usr/local"];
/// Folders that are shown of one directory.
const MOST: usize = 500;

/// A folder to go into or to take.
#[derive(Debug)]
struct Folder {
    name: String,
    path: String,
}

#[derive(Template)]
#[template(path = "folders.html")]
struct Folders {
    /// The folder that is shown; `None`: where one may begin.
    at: Option<String>,
    above: String,
    folders: Vec<Folder>,
    more: bool,
}

/// `POST /plan-form/folders`: the folders below `folder`.
pub(super) async fn show(view: View, posted: Posted) -> Result<Response, Failure> {
    let at = posted.text("folder").to_owned();
    let folders = view.blocking(move |state| list(state, &at)).await?;
    Ok(html(&folders))
}

fn roots(state: &State) -> Vec<PathBuf> {
    let home = state.paths.home.iter().cloned();
    let mut roots: Vec<_> = home.chain(ROOTS.map(PathBuf::from)).filter(|p| p.is_dir()).collect();
    roots.dedup();
    roots
}

/// The path itself, links followed, if it may be shown.
fn allowed(state: &State, at: &Path) -> Result<PathBuf, Problem> {
    let refused = || {
        let shown = printable_os(at);
        Problem::new(Class::PermissionDenied, format!("{shown} cannot be browsed here"))
            .hint("type its path instead: plans may hold any place that the service can read")
    };
    let real = at.canonicalize().map_err(|e| catalogue::io("look at", at, &e))?;
    let inside = |root: &Path| root.canonicalize().is_ok_and(|root| real.starts_with(root));
    let own = [Some(state.paths.state.as_path()), state.paths.config.parent()];
    let is_own = own.into_iter().flatten().any(inside);
    if is_own || !roots(state).iter().any(|root| inside(root)) {
        return Err(refused());
    }
    Ok(real)
}

fn list(state: &State, at: &str) -> Result<Folders, Problem> {
    if at.is_empty() {
        let folder =
            |path: PathBuf| Folder { name: printable_os(&path), path: printable_os(&path) };
        let folders = roots(state).into_iter().map(folder).collect();
        return Ok(Folders { at: None, above: String::new(), folders, more: false });
    }
    let path = allowed(state, Path::new(at))?;
    let read = std::fs::read_dir(&path).map_err(|e| catalogue::io("list", &path, &e))?;
    let mut folders: Vec<_> = read
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| {
            // A name that is no text cannot be typed either.
            let path = entry.path().to_str()?.to_owned();
            Some(Folder { name: entry.file_name().to_str()?.to_owned(), path })
        })
        .collect();
    folders.sort_by_key(|folder| (folder.name.starts_with('.'), folder.name.to_lowercase()));
    let more = folders.len() > MOST;
    folders.truncate(MOST);
    let above = path.parent().filter(|above| allowed(state, above).is_ok());
    let above = above.map(printable_os).unwrap_or_default();
    Ok(Folders { at: Some(printable_os(&path)), above, folders, more })
}
