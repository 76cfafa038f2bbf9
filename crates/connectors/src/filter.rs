//! What a backup leaves out by name or size: gitignore rules read relative to the source's root,
//! and what marks a directory as a cache. The same for every kind of source.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// What a directory with a cache in it holds, and how that file starts.
/// <https://bford.info/cachedir/>
pub(crate) const CACHE_TAG: &str = "CACHEDIR.TAG";
pub(crate) const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// A rule that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("exclude rule {rule:?}")]
pub struct BadRule {
    /// The rule as given.
    pub rule: String,
    #[source]
    source: ignore::Error,
}

/// Decides what is left out. A directory that is left out takes all below it along, so a later
/// `!rule` cannot bring back anything there, as in git.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    rules: Option<Gitignore>,
    larger_than: Option<u64>,
}

impl Filter {
    /// A filter of these gitignore lines (empty ones and comments are fine), the last that
    /// matches deciding, and of a size in bytes above which regular files are left out.
    pub fn new<S: AsRef<str>>(rules: &[S], larger_than: Option<u64>) -> Result<Self, BadRule> {
        let mut builder = GitignoreBuilder::new("");
        // A typing error must be said, not be a rule that matches nothing.
        builder.allow_unclosed_class(false);
        for rule in rules {
            let rule = rule.as_ref();
            builder.add_line(None, rule).map_err(|source| BadRule { rule: rule.into(), source })?;
        }
        let rules =
            builder.build().map_err(|source| BadRule { rule: "all together".into(), source })?;
        Ok(Self { rules: (!rules.is_empty()).then_some(rules), larger_than })
    }

    /// Whether names matter at all, so that paths need not be put together for nothing.
    pub fn has_rules(&self) -> bool {
        self.rules.is_some()
    }

    /// Whether the rules leave out the entry at `path`, relative to the root. That no directory
    /// above it is left out is for the caller to know.
    pub fn excludes(&self, path: &[u8], is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        self.rules.as_ref().is_some_and(|rules| rules.matched(path, is_directory).is_ignore())
    }

    /// Whether a regular file of `size` bytes is too large.
    pub fn excludes_size(&self, size: u64) -> bool {
        self.larger_than.is_some_and(|limit| size > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gitignore_rules() {
        let rules = ["# comment", "", "*.o", "!keep.o", "/top", "build/", "a/*/c", "**/deep"];
        let filter = Filter::new(&rules, Some(10)).unwrap();
        let file = |path: &str| filter.excludes(path.as_bytes(), false);
        let directory = |path: &str| filter.excludes(path.as_bytes(), true);
        assert!(file("x.o") && file("d/x.o") && !file("d/keep.o") && !file("x.c"));
        assert!(file("top") && !file("d/top"));
        assert!(directory("build") && directory("d/build") && !file("build"));
        assert!(file("a/b/c") && !file("a/c") && !file("x/a/b/c"));
        assert!(file("d/e/deep") && file("deep"));
        assert!(filter.excludes(b"\xff\xfe.o", false));
        assert!(filter.excludes_size(11) && !filter.excludes_size(10));
        assert!(!Filter::new(&["# nothing"], None).unwrap().has_rules());
        assert!(Filter::new(&["a[b"], None).is_err());
    }
}
