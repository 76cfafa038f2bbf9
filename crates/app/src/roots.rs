//! From the places that were written to what a backup reads: absolute roots of one origin, none
//! within another, each with the directories above it.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_connectors::filter::BadRule;
use holdfast_connectors::local::source::{LocalSource, LocalSourceOptions};
use holdfast_connectors::stream::source::StreamSource;
use holdfast_engine::meta::{Kind, Metadata};
use holdfast_engine::ops::backup::RootSource;
use holdfast_engine::repo::snapshots::is_within;

use crate::catalogue;
use crate::location::absolute;
use crate::open::{OpenedSource, SourceContext, open_source};
use crate::problem::Problem;
use crate::resolve::{Place, Resolved};
use crate::text::{printable, printable_os};

/// What becomes one snapshot.
#[derive(Debug)]
pub struct Origin {
    /// "local", "stdin", "sftp", "s3".
    pub kind: &'static str,
    /// The host that it is of; `None` for this machine.
    pub host: Option<String>,
    /// Its roots, sorted by path.
    pub roots: Vec<RootSource>,
}

/// The origins of a backup, and what is worth saying about how places were understood.
#[derive(Debug, Default)]
pub struct Plan {
    /// One snapshot each.
    pub origins: Vec<Origin>,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// Turns places into roots. Exclude rules that begin with a root's own path are taken as
/// absolute. `stream_name` is what standard input is called in its snapshot.
pub fn plan(
    places: &[Resolved],
    stream_name: &str,
    context: &SourceContext<'_>,
) -> Result<Plan, Problem> {
    let mut plan = Plan::default();
    let mut paths = BTreeMap::new();
    let mut streams = 0;
    let mut remote = Vec::new();
    for place in places {
        match &place.place {
            Place::Stream => streams += 1,
            Place::Local(path) => {
                let (path, real) = resolve(path, &mut plan.notes)?;
                paths.insert(path, real);
            }
            Place::Sftp(_) | Place::S3(_) => remote.push(open_source(place, context)?),
        }
    }
    if streams > 1 {
        return Err(Problem::usage("standard input can be backed up only once"));
    }
    let paths = without_inner(paths, &mut plan.notes);
    let mut roots = Vec::with_capacity(paths.len());
    for (path, real) in paths {
        roots.push(local_root(&path, &real, context.options)?);
    }
    if !roots.is_empty() {
        plan.origins.push(Origin { kind: "local", host: None, roots });
    }
    plan.origins.extend(by_origin(remote, &mut plan.notes));
    if streams > 0 {
        let roots = vec![stream_root(stream_name)?];
        plan.origins.push(Origin { kind: "stdin", host: None, roots });
    }
    Ok(plan)
}

/// One origin for each kind and host, in the order in which they were named.
fn by_origin(sources: Vec<OpenedSource>, notes: &mut Vec<String>) -> Vec<Origin> {
    let mut origins: Vec<Origin> = Vec::new();
    for OpenedSource { root, kind, host, note } in sources {
        notes.extend(note);
        match origins.iter_mut().find(|origin| origin.kind == kind && origin.host == host) {
            Some(origin) => origin.roots.push(root),
            None => origins.push(Origin { kind, host, roots: vec![root] }),
        }
    }
    for origin in &mut origins {
        origin.roots.sort_by(|a, b| a.path.cmp(&b.path));
        let roots = std::mem::take(&mut origin.roots);
        for root in roots {
            let outer = origin.roots.iter().find(|outer| is_within(&root.path, &outer.path));
            match outer.map(|outer| printable(&outer.path)) {
                Some(outer) if root.path.len() > outer.len() => notes.push(format!(
                    "{} lies in {outer}, which is backed up anyway",
                    printable(&root.path)
                )),
                Some(_) => {}
                None => origin.roots.push(root),
            }
        }
    }
    origins
}

/// The root's path in the snapshot, and what to open. A symbolic link is itself the root unless
/// it is written with a slash at its end; then what it leads to is.
fn resolve(place: &Path, notes: &mut Vec<String>) -> Result<(PathBuf, PathBuf), Problem> {
    let path = absolute(place);
    let metadata = path.symlink_metadata().map_err(|e| catalogue::io("back up", &path, &e))?;
    let wants_target = place.as_os_str().as_bytes().ends_with(b"/") || place.ends_with(".");
    if !metadata.is_symlink() {
        return Ok((path.clone(), path));
    }
    if !wants_target {
        let shown = printable_os(&path);
        notes.push(format!(
            "{shown} is a symbolic link and is backed up as one; write {shown}/ for what it leads to"
        ));
        return Ok((path.clone(), path));
    }
    let real = path.canonicalize().map_err(|e| catalogue::io("follow", &path, &e))?;
    notes.push(format!(
        "{} leads to {}, which is backed up",
        printable_os(&path),
        printable_os(&real)
    ));
    Ok((real.clone(), real))
}

/// Places within other places come along with them.
fn without_inner(
    paths: BTreeMap<PathBuf, PathBuf>,
    notes: &mut Vec<String>,
) -> Vec<(PathBuf, PathBuf)> {
    let mut kept: Vec<(PathBuf, PathBuf)> = Vec::with_capacity(paths.len());
    // `Path` orders name by name, so that a directory comes before all that is in it.
    for (path, real) in paths {
        match kept.last() {
            Some((outer, _)) if path.starts_with(outer) => notes.push(format!(
                "{} lies in {}, which is backed up anyway",
                printable_os(&path),
                printable_os(outer)
            )),
            _ => kept.push((path, real)),
        }
    }
    kept
}

/// A local root: `real` is what is read, which the snapshot knows as `path`.
pub(crate) fn local_root(
    path: &Path,
    real: &Path,
    options: &LocalSourceOptions,
) -> Result<RootSource, Problem> {
    let bytes = path.as_os_str().as_bytes();
    let source = source(bytes, real, options)?;
    let mut ancestors = Vec::new();
    for above in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
        let Some(name) = above.file_name() else { continue };
        ancestors.push((name.as_bytes().to_vec(), directory_metadata(&source, above)));
    }
    Ok(RootSource { path: bytes.to_vec(), source: Arc::new(source), ancestors, stream: false })
}

/// What reads `real`, which snapshots know as `root`.
pub fn source(
    root: &[u8],
    real: &Path,
    options: &LocalSourceOptions,
) -> Result<LocalSource, Problem> {
    let excludes = options.excludes.iter().map(|rule| relative_rule(rule, root)).collect();
    let options = LocalSourceOptions { excludes, ..options.clone() };
    LocalSource::new(real, options).map_err(|e| bad_rule(&e))
}

/// What to say of an exclude rule that cannot be understood.
pub fn bad_rule(error: &BadRule) -> Problem {
    Problem::usage(error.to_string())
        .cause(std::error::Error::source(error).map(ToString::to_string).unwrap_or_default())
        .hint("rules are written as in a .gitignore file")
}

/// What is known of a directory above a root. A link on the way is taken for the directory it
/// leads to, since a restore makes a directory there.
fn directory_metadata(source: &LocalSource, path: &Path) -> Metadata {
    let plain = || Metadata { kind: Kind::Directory, mode: 0o755, links: 1, ..Metadata::default() };
    let found = match source.metadata_of(path) {
        Ok(metadata) if metadata.kind == Kind::Symlink => {
            path.canonicalize().ok().and_then(|real| source.metadata_of(&real).ok())
        }
        found => found.ok(),
    };
    found.filter(|metadata| metadata.kind == Kind::Directory).unwrap_or_else(plain)
}

/// A rule that begins with the root's own path means that place in it; rules of the source are
/// relative to the root.
pub(crate) fn relative_rule(rule: &str, root: &[u8]) -> String {
    let (negation, pattern) = match rule.strip_prefix('!') {
        Some(rest) => ("!", rest),
        None => ("", rule),
    };
    let root = if root == b"/" { b"".as_slice() } else { root };
    if root.is_empty() || !pattern.starts_with('/') || !is_within(pattern.as_bytes(), root) {
        return rule.to_owned();
    }
    match pattern.get(root.len()..) {
        Some(rest) if rest.len() > 1 => format!("{negation}{rest}"),
        _ => rule.to_owned(),
    }
}

fn stream_root(name: &str) -> Result<RootSource, Problem> {
    let name = name.trim_start_matches('/');
    let valid = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if !name.split('/').all(valid) {
        return Err(Problem::usage(format!(
            "{:?} cannot be a file name for standard input",
            printable(name.as_bytes())
        )));
    }
    let source = StreamSource::new("standard input", Box::new(std::io::stdin()));
    Ok(RootSource {
        path: format!("/{name}").into_bytes(),
        source: Arc::new(source),
        ancestors: Vec::new(),
        stream: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Nobody;
    use crate::config::Options;
    use std::error::Error;

    fn place(place: Place) -> Resolved {
        Resolved { place, options: Options::default(), name: None }
    }

    fn local(path: &Path) -> Resolved {
        place(Place::Local(path.into()))
    }

    fn planned(places: &[Resolved], stream_name: &str) -> Result<Plan, Problem> {
        let nobody = crate::Access::new(Arc::new(Nobody));
        let options = &LocalSourceOptions::default();
        let context = SourceContext { options, repository: None, access: &nobody };
        plan(places, stream_name, &context)
    }

    #[test]
    fn places_become_sorted_roots_without_overlap() -> Result<(), Box<dyn Error>> {
        let dir = tempfile::tempdir()?;
        let base = dir.path().canonicalize()?;
        for name in ["b", "a/inner", "a-b"] {
            std::fs::create_dir_all(base.join(name))?;
        }
        std::os::unix::fs::symlink("a", base.join("link"))?;
        let places = ["b", "a/./inner", "a-b/", "a", "link"].map(|name| local(&base.join(name)));
        let plan = planned(&places, "stdin")?;
        let [origin] = &plan.origins[..] else { return Err("one origin".into()) };
        let names: Vec<_> =
            origin.roots.iter().map(|r| PathBuf::from(printable(&r.path))).collect();
        assert_eq!(names, ["a", "a-b", "b", "link"].map(|name| base.join(name)));
        assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
        let ancestors = &origin.roots.first().ok_or("none")?.ancestors;
        assert_eq!(ancestors.len(), base.components().count() - 1);
        assert!(ancestors.iter().all(|(_, m)| m.kind == Kind::Directory));
        Ok(())
    }

    #[test]
    fn a_link_with_a_slash_is_followed() -> Result<(), Box<dyn Error>> {
        let dir = tempfile::tempdir()?;
        let base = dir.path().canonicalize()?;
        std::fs::create_dir(base.join("a"))?;
        std::os::unix::fs::symlink("a", base.join("link"))?;
        let linked = place(Place::Local(format!("{}/link/", base.display()).into()));
        let plan = planned(&[linked, place(Place::Stream)], "dump.sql")?;
        let paths: Vec<_> =
            plan.origins.iter().flat_map(|o| &o.roots).map(|r| printable(&r.path)).collect();
        assert_eq!(paths, [printable_os(base.join("a")), "/dump.sql".into()]);
        Ok(())
    }

    #[test]
    fn each_host_is_an_origin_of_its_own() -> Result<(), Problem> {
        let opened = |host: &str, path: &str| -> Result<OpenedSource, Problem> {
            let path = Path::new(path);
            let root = local_root(path, path, &LocalSourceOptions::default())?;
            Ok(OpenedSource { root, kind: "sftp", host: Some(host.into()), note: None })
        };
        let mut notes = Vec::new();
        let sources = vec![
            opened("b", "/etc")?,
            opened("a", "/usr")?,
            opened("b", "/dev")?,
            opened("b", "/etc")?,
        ];
        let origins = by_origin(sources, &mut notes);
        let shown: Vec<_> = origins
            .iter()
            .map(|o| (o.host.as_deref(), o.roots.iter().map(|r| printable(&r.path)).collect()))
            .collect();
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = [(Some("b"), names(&["/dev", "/etc"])), (Some("a"), names(&["/usr"]))];
        assert_eq!(shown, expected);
        Ok(())
    }

    #[test]
    fn rules_may_name_absolute_paths() {
        assert_eq!(relative_rule("/home/anna/tmp", b"/home"), "/anna/tmp");
        assert_eq!(relative_rule("!/home/anna/tmp/*", b"/home"), "!/anna/tmp/*");
        assert_eq!(relative_rule("/homework", b"/home"), "/homework");
        assert_eq!(relative_rule("*.o", b"/home"), "*.o");
        assert_eq!(relative_rule("/etc", b"/"), "/etc");
    }
}
