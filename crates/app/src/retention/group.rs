//! Groups of snapshots: rules are applied to each group by itself, so that the snapshots of one
//! machine do not push out those of another.

use std::fmt;

use holdfast_engine::format::snapshot::Snapshot;

use crate::problem::Problem;
use crate::text::printable;

/// What a plan's runs are tagged with, before the plan's name.
pub const PLAN_TAG: &str = "plan:";

/// What snapshots of one group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The host.
    pub host: bool,
    /// The places that were backed up, all of them.
    pub paths: bool,
    /// All tags.
    pub tags: bool,
    /// The plan that made them.
    pub plan: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, paths: true, tags: false, plan: false }
    }
}

impl GroupBy {
    /// Reads `host,paths`; `none` puts all into one group.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let mut by = Self { host: false, paths: false, tags: false, plan: false };
        if text.trim() == "none" {
            return Ok(by);
        }
        for word in text.split(',') {
            match word.trim() {
                "host" => by.host = true,
                "paths" | "path" | "source" => by.paths = true,
                "tags" | "tag" => by.tags = true,
                "plan" => by.plan = true,
                other => {
                    return Err(Problem::usage(format!(
                        "snapshots cannot be grouped by {other:?}"
                    ))
                    .hint("write host, paths, tags, plan with commas between them, or none"));
                }
            }
        }
        Ok(by)
    }

    /// The group of a snapshot.
    pub fn key(self, snapshot: &Snapshot) -> GroupKey {
        let plan = || {
            let names = snapshot.tags.iter().filter_map(|tag| tag.strip_prefix(PLAN_TAG));
            names.collect::<Vec<_>>().join(",")
        };
        let paths = || snapshot.roots.iter().map(|root| root.path.clone()).collect();
        GroupKey {
            host: self.host.then(|| snapshot.host.clone()),
            paths: self.paths.then(paths),
            tags: self.tags.then(|| snapshot.tags.clone()),
            plan: self.plan.then(plan),
        }
    }
}

impl fmt::Display for GroupBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all =
            [(self.host, "host"), (self.paths, "paths"), (self.tags, "tags"), (self.plan, "plan")];
        let names: Vec<_> = all.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "none".into() } else { names.join(",") }.as_str())
    }
}

/// What the snapshots of a group have in common; `None` for what they were not grouped by.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// Host.
    pub host: Option<String>,
    /// Places.
    pub paths: Option<Vec<Vec<u8>>>,
    /// Tags, sorted.
    pub tags: Option<Vec<String>>,
    /// Plan; empty for snapshots of none.
    pub plan: Option<String>,
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.host.as_ref().map(|host| printable(host.as_bytes())));
        parts.extend(
            self.paths.as_ref().map(|paths| {
                paths.iter().map(|path| printable(path)).collect::<Vec<_>>().join(" ")
            }),
        );
        parts.extend(self.tags.as_ref().map(|tags| match &tags[..] {
            [] => "no tags".into(),
            tags => format!("tags {}", printable(tags.join(",").as_bytes())),
        }));
        parts.extend(self.plan.as_ref().map(|plan| match &plan[..] {
            "" => "no plan".into(),
            plan => format!("plan {}", printable(plan.as_bytes())),
        }));
        f.write_str(if parts.is_empty() { "all".into() } else { parts.join(", ") }.as_str())
    }
}
