//! Where disposable copies of index and snapshots are kept. Nothing in there is needed.

use std::ffi::OsString;
use std::path::PathBuf;

/// The cache directory: what was asked for, else what belongs to this user. `None` if there is no
/// home to keep one in.
pub fn directory(
    asked: Option<PathBuf>,
    environment: &dyn Fn(&str) -> Option<OsString>,
    is_root: bool,
) -> Option<PathBuf> {
    let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
    if let Some(path) = asked.or_else(|| variable("HOLDFAST_CACHE_DIR").map(PathBuf::from)) {
        return Some(crate::location::absolute(&path));
    }
    if is_root {
        return Some(PathBuf::from("/var/cache/holdfast"));
    }
    let xdg = variable("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = xdg.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
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
