//! Where disposable copies of index and snapshots are kept. Nothing in there is needed.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::location::absolute;

/// The cache directory: what was asked for, else what belongs to this user. `None` if there is no
/// home to keep one in.
pub fn directory(
    asked: Option<PathBuf>,
    environment: &dyn Fn(&str) -> Option<OsString>,
    is_root: bool,
) -> Option<PathBuf> {
    let asked = asked.or_else(|| path_in(environment, "HOLDFAST_CACHE_DIR"));
    match asked {
        Some(path) => Some(absolute(&path)),
        None if is_root => Some(PathBuf::from("/var/cache/holdfast")),
        None => own_directory(environment, "XDG_CACHE_HOME", ".cache"),
    }
}

/// A path that the environment names.
pub(crate) fn path_in(
    environment: &dyn Fn(&str) -> Option<OsString>,
    name: &str,
) -> Option<PathBuf> {
    environment(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Our directory among those of a user: below what the `xdg` variable names, else in this folder
/// of the home directory.
pub(crate) fn own_directory(
    environment: &dyn Fn(&str) -> Option<OsString>,
    xdg: &str,
    folder: &str,
) -> Option<PathBuf> {
    let named = path_in(environment, xdg).filter(|path| path.is_absolute());
    let base = named.or_else(|| Some(path_in(environment, "HOME")?.join(folder)))?;
    Some(base.join("holdfast"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_choice() {
        let environment = |name: &str| match name {
            "HOME" => Some("/home/a".into()),
            "XDG_CACHE_HOME" => Some("/xdg".into()),
            _ => None,
        };
        let none = |_: &str| None;
        assert_eq!(directory(Some("/c".into()), &environment, true), Some("/c".into()));
        assert_eq!(directory(None, &environment, true), Some("/var/cache/holdfast".into()));
        assert_eq!(directory(None, &environment, false), Some("/xdg/holdfast".into()));
        assert_eq!(directory(None, &none, false), None);
    }
}
