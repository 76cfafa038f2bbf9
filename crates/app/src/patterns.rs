//! Which paths of a snapshot to restore: gitignore rules over its absolute paths. A rule without
//! a slash fits a name anywhere, one that begins with a slash fits from the top.

use std::sync::Arc;

use holdfast_connectors::filter::{BadRule, Filter};
use holdfast_engine::ops::restore::{Choice, PathFilter};

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
        Ok(())
    }
}
