//! Choosing folders of this machine for a plan. Only names of directories are shown, inside the
//! places where people keep things; our own data and keys are out of reach.

use std::path::{Path, PathBuf};

use askama::Template;
use axum::response::Response;
use holdfast_app::paths::Paths;
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
    let listed = move |state: &State| list(&state.paths, &at).map_err(Failure::refusal);
    let folders = view.blocking(listed).await?;
    Ok(html(&folders))
}

fn roots(paths: &Paths) -> Vec<PathBuf> {
    let home = &paths.home;
    let others = ROOTS.map(PathBuf::from).into_iter().filter(|root| Some(root) != home.as_ref());
    home.iter().cloned().chain(others).filter(|path| path.is_dir()).collect()
}

/// The path itself, links followed, if it may be shown.
fn allowed(paths: &Paths, at: &Path) -> Result<PathBuf, Problem> {
    let refused = || {
        let shown = printable_os(at);
        Problem::new(Class::PermissionDenied, format!("{shown} cannot be browsed here"))
            .hint("type its path instead: plans may hold any place that the service can read")
    };
    let real = at.canonicalize().map_err(|e| catalogue::io("look at", at, &e))?;
    let inside = |root: &Path| root.canonicalize().is_ok_and(|root| real.starts_with(root));
    // A configuration that somebody keeps among other things closes none of them.
    let beside = paths.config.parent().filter(|folder| folder.ends_with("holdfast"));
    let is_own = [Some(paths.state.as_path()), beside].into_iter().flatten().any(inside);
    if is_own || !roots(paths).iter().any(|root| inside(root)) {
        return Err(refused());
    }
    Ok(real)
}

fn list(paths: &Paths, at: &str) -> Result<Folders, Problem> {
    if at.is_empty() {
        let folder =
            |path: PathBuf| Folder { name: printable_os(&path), path: printable_os(&path) };
        let folders = roots(paths).into_iter().map(folder).collect();
        return Ok(Folders { at: None, above: String::new(), folders, more: false });
    }
    let path = allowed(paths, Path::new(at))?;
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
    let above = path.parent().filter(|above| allowed(paths, above).is_ok());
    let above = above.map(printable_os).unwrap_or_default();
    Ok(Folders { at: Some(printable_os(&path)), above, folders, more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_people_are_shown_and_none_of_ours() -> Result<(), Box<dyn std::error::Error>>
    {
        let dir = tempfile::tempdir()?;
        let home = dir.path().join("home");
        for folder in ["papers", ".config/holdfast", "state/keys"] {
            std::fs::create_dir_all(home.join(folder))?;
        }
        std::os::unix::fs::symlink("/proc", home.join("out"))?;
        std::os::unix::fs::symlink(home.join("state"), home.join("papers/in"))?;
        let mut paths = Paths {
            config: home.join(".config/holdfast/config.toml"),
            state: home.join("state"),
            cache: None,
            home: Some(home.clone()),
        };
        let class = |paths: &Paths, at: &str| allowed(paths, &home.join(at)).err().map(|p| p.class);
        assert_eq!(class(&paths, "papers"), None);
        for at in ["state", "state/keys", "papers/in", ".config/holdfast", "out", "/proc"] {
            assert_eq!(class(&paths, at), Some(Class::PermissionDenied), "{at}");
        }
        assert_eq!(class(&paths, "nowhere"), Some(Class::NoSuchPath));
        let shown = list(&paths, &home.to_string_lossy())?;
        let names: Vec<_> = shown.folders.iter().map(|folder| folder.name.as_str()).collect();
        assert_eq!(names, ["papers", "state", ".config"]);
        // One that lies in the home itself closes nothing of it.
        paths.config = home.join("c.toml");
        assert_eq!(class(&paths, ""), None);
        // Of root, the home is one of the usual places, and stands there once.
        paths.home = Some("/etc".into());
        let roots = roots(&paths);
        assert_eq!(roots.iter().filter(|root| root.as_path() == Path::new("/etc")).count(), 1);
        Ok(())
    }
}
