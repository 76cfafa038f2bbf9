//! Where a walk starts: the root as it is on the server, and what must be left out below it.

use std::io;

use holdfast_engine::source::{SourceError, SourceErrorKind, SourceResult};

use super::Inner;
use super::metadata::Facts;

/// The root of a walk.
pub(super) struct Root {
    pub(super) facts: Facts,
    /// Paths relative to the root that are left out.
    pub(super) never: Vec<Vec<u8>>,
}

impl Inner {
    pub(super) async fn find_root(&self) -> SourceResult<Root> {
        let resolve = async || match self.given.strip_suffix(b"/") {
            // Not every server follows a link because of the slash.
            Some(path) if !path.is_empty() => self.canonical(path).await,
            _ => Ok(self.given.clone()),
        };
        let root = self.root.get_or_try_init(resolve).await?;
        let facts = self.facts_of(root).await?;
        Ok(Root { facts, never: self.never(root).await? })
    }

    /// What is to be left out, compared with all links resolved.
    async fn never(&self, root: &[u8]) -> SourceResult<Vec<Vec<u8>>> {
        if self.options.never.is_empty() {
            return Ok(Vec::new());
        }
        let real_root = self.canonical(root).await?;
        let mut below = Vec::new();
        for path in &self.options.never {
            let real = match self.canonical(path).await {
                Ok(real) => real,
                // What does not exist cannot be met either.
                Err(error) if error.kind == SourceErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if relative(&real, &real_root).is_some() {
                let why = io::Error::other("this is where the backup itself is kept");
                return Err(SourceError::from_io("list", String::from_utf8_lossy(root), why));
            }
            below.extend(relative(&real_root, &real).map(<[u8]>::to_vec));
        }
        Ok(below)
    }
}

/// `path` relative to `root`, if it is that or lies below.
fn relative<'a>(root: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(root)?;
    if rest.is_empty() || root.ends_with(b"/") { Some(rest) } else { rest.strip_prefix(b"/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_relative_to_a_root() {
        assert_eq!(relative(b"/", b"/a/b"), Some(&b"a/b"[..]));
        assert_eq!(relative(b"/a", b"/a/b"), Some(&b"b"[..]));
        assert_eq!(relative(b"/a", b"/a"), Some(&b""[..]));
        assert_eq!(relative(b"/a", b"/ab"), None);
        assert_eq!(relative(b"/a/b", b"/a"), None);
    }
}
