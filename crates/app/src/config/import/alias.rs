//! rclone's `alias` remotes: another name for a remote with a path, or for a local path.

use super::rclone::{Remotes, Section};
use super::{Draft, Reason, local};

/// Names behind names; rclone's own are rarely two deep.
const DEPTH: usize = 8;

pub(super) fn draft(
    remotes: &Remotes,
    section: Section,
    path: &str,
) -> Result<(Draft, Vec<String>), Reason> {
    let mut section = section;
    let mut path = path.to_owned();
    for _ in 0..DEPTH {
        let target = section.take("remote").ok_or("it is an alias of nothing")?;
        let Some((name, below)) = target.split_once(':').filter(|(name, _)| !name.contains('/'))
        else {
            return local(&joined(&target, &path)).map(|draft| (draft, section.left()));
        };
        path = joined(below, &path);
        section = remotes.get(name).ok_or("it is an alias of a remote that is not there")?;
        section.take("description");
        if section.kind() != Some("alias") {
            return super::draft(remotes, section, &path);
        }
        section.take("type");
    }
    Err("its alias leads in a circle".into())
}

fn joined(outer: &str, inner: &str) -> String {
    match (outer, inner.trim_start_matches('/')) {
        (outer, "") => outer.to_owned(),
        ("", _) => inner.to_owned(),
        (outer, inner) => format!("{}/{inner}", outer.trim_end_matches('/')),
    }
}
