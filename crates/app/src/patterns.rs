//! Which paths of a snapshot to restore or archive: gitignore rules over its absolute paths. A rule
//! without a slash fits a name anywhere, one that begins with a slash fits from the top. And which
//! to find: shell patterns.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use holdfast_connectors::filter::{BadRule, Filter};
use holdfast_engine::ops::archive;
use holdfast_engine::ops::find::PathTest;
use holdfast_engine::ops::restore::{Choice, PathFilter};

use crate::problem::Problem;

/// What takes paths that fit a rule of `include` (all, if there are none), and none that fit a
/// rule of `exclude`. A directory that fits stands for all that is in it.
pub fn restore_filter(
    include: &[String],
    exclude: &[String],
) -> Result<Option<PathFilter>, BadRule> {
    if include.is_empty() && exclude.is_empty() {
        return Ok(None);
    }
    let include = (!include.is_empty()).then(|| Filter::new(include, None)).transpose()?;
    let exclude = Filter::new(exclude, None)?;
    Ok(Some(Arc::new(move |path: &[u8], is_directory| {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        if fits(&exclude, path, is_directory) {
            return Choice::Skip;
        }
        match &include {
            Some(include) if !fits(include, path, is_directory) => {
                if is_directory {
                    Choice::Enter
                } else {
                    Choice::Skip
                }
            }
            _ => Choice::Take,
        }
    })))
}

/// What takes all paths but those that fit a rule, and what lies below them.
pub fn archive_filter(exclude: &[String]) -> Result<Option<archive::PathFilter>, BadRule> {
    if exclude.is_empty() {
        return Ok(None);
    }
    let exclude = Filter::new(exclude, None)?;
    Ok(Some(Arc::new(move |path: &[u8], is_directory| {
        !fits(&exclude, path.strip_prefix(b"/").unwrap_or(path), is_directory)
    })))
}

/// What takes paths that fit one of these shell patterns (all, if there are none): `*` and `?`
/// stand for anything but a slash, `**` for any number of names. A pattern without a slash fits a
/// name, one with a slash the end of a path, from a name on; one that begins with a slash fits a
/// whole path.
pub fn path_test(patterns: &[String], any_case: bool) -> Result<Option<PathTest>, Problem> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
    for pattern in patterns {
        let is_name = !pattern.contains('/');
        let whole = match is_name || pattern.starts_with('/') {
            true => pattern.clone(),
            false => format!("**/{pattern}"),
        };
        let glob = GlobBuilder::new(&whole)
            .literal_separator(true)
            .case_insensitive(any_case)
            .empty_alternates(true)
            .build();
        let glob = glob.map_err(|e| bad_pattern(pattern, &e))?;
        if is_name {
            names.add(glob)
        } else {
            paths.add(glob)
        };
    }
    let build = |set: GlobSetBuilder| set.build().map_err(|e| bad_pattern("pattern", &e));
    let (names, paths): (GlobSet, GlobSet) = (build(names)?, build(paths)?);
    Ok(Some(Arc::new(move |path: &[u8]| {
        let name = path.rsplit(|c| *c == b'/').next().unwrap_or_default();
        names.is_match(Path::new(OsStr::from_bytes(name)))
            || !paths.is_empty() && paths.is_match(Path::new(OsStr::from_bytes(path)))
    })))
}

fn bad_pattern(pattern: &str, error: &globset::Error) -> Problem {
    Problem::usage(format!("{pattern} is no pattern"))
        .cause(error.kind())
        .hint("write a backslash before *, ?, [ or { that are meant as they are")
}

/// Whether a path or a directory above it fits.
fn fits(rules: &Filter, path: &[u8], is_directory: bool) -> bool {
    let above = path.iter().enumerate().filter(|(_, c)| **c == b'/').map(|(i, _)| i);
    rules.has_rules()
        && (above
            .filter_map(|end| path.get(..end))
            .any(|directory| rules.excludes(directory, true))
            || rules.excludes(path, is_directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_choose_paths() -> Result<(), Box<dyn std::error::Error>> {
        let rules = |list: &[&str]| list.iter().map(|r| (*r).to_owned()).collect::<Vec<_>>();
        let filter = restore_filter(&rules(&["/etc/ssh", "*.conf"]), &rules(&["*.bak"]))?;
        let filter = filter.ok_or("no filter")?;
        assert_eq!(filter(b"/etc", true), Choice::Enter);
        assert_eq!(filter(b"/etc/hosts", false), Choice::Skip);
        assert_eq!(filter(b"/etc/ssh", true), Choice::Take);
        assert_eq!(filter(b"/etc/ssh/key", false), Choice::Take);
        assert_eq!(filter(b"/etc/ssh/key.bak", false), Choice::Skip);
        assert_eq!(filter(b"/var/x.conf", false), Choice::Take);
        assert!(restore_filter(&[], &[])?.is_none());
        let filter = archive_filter(&rules(&["/etc/ssh", "*.bak"]))?.ok_or("no filter")?;
        assert!(filter(b"/etc", true) && filter(b"/etc/sshd", false));
        assert!(!filter(b"/etc/ssh", true) && !filter(b"/etc/ssh/key", false));
        assert!(!filter(b"/x.bak", false));
        Ok(())
    }

    #[test]
    fn patterns_fit_names_or_paths() -> Result<(), Box<dyn std::error::Error>> {
        let fits = |pattern: &str, path: &str, any_case| -> Result<bool, Problem> {
            let test = path_test(&[pattern.to_owned()], any_case)?;
            Ok(test.is_some_and(|test| test(path.as_bytes())))
        };
        for (pattern, path, expected) in [
            ("*.txt", "/a/b/x.txt", true),
            ("*.txt", "/a/b.txt/x", false),
            ("x.txt", "/a/x.txt", true),
            ("x.txt", "/a/xx.txt", false),
            ("b/*.txt", "/a/b/x.txt", true),
            ("b/*.txt", "/a/bb/x.txt", false),
            ("b/*.txt", "/a/b/c/x.txt", false),
            ("b/**/x.txt", "/a/b/c/d/x.txt", true),
            ("/a/*", "/a/b", true),
            ("/a/*", "/b/a/b", false),
            ("{one,two}.?", "/two.c", true),
            ("X.TXT", "/x.txt", false),
        ] {
            assert_eq!(fits(pattern, path, false)?, expected, "{pattern} {path}");
        }
        assert!(fits("X.TXT", "/x.txt", true)?);
        let test = path_test(&["\u{fffd}*".into(), "n?me".into()], false)?.ok_or("no test")?;
        assert!(test(b"/a/n\xffme"));
        assert!(path_test(&[], false)?.is_none());
        let problem = path_test(&["a[".into()], false).err().ok_or("accepted")?;
        assert!(problem.to_string().contains("a["), "{problem}");
        Ok(())
    }
}
