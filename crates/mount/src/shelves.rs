//! The directories that lead to snapshots: `snapshots/ID`, and links to there by host, tag and
//! time, with `latest` in each.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_app::times;
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::repo::snapshots::{Filter, SnapshotInfo};

use crate::view::View;

/// The longest name of a file.
const NAME_MAX: usize = 255;

/// A directory of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Shelf {
    Top,
    Snapshots,
    Hosts,
    Tags,
    Times,
    Host(String),
    Tag(String),
}

/// What a name on a shelf stands for.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Shelf(Shelf),
    /// A link, and where to.
    Link(String),
    Snapshot(Arc<View>),
}

/// A link and where it leads, by its name.
type Links = BTreeMap<String, String>;

/// The snapshots as they are shown.
#[derive(Debug, Default)]
pub(crate) struct Shelves {
    snapshots: BTreeMap<String, Arc<View>>,
    hosts: BTreeMap<String, Links>,
    tags: BTreeMap<String, Links>,
    times: Links,
    /// The newest one's name.
    latest: Option<String>,
}

impl Shelves {
    /// Those of `snapshots` (oldest first) that fit.
    pub(crate) fn new(snapshots: Vec<SnapshotInfo>, filter: &Filter) -> Self {
        Self::default().renewed(snapshots, filter)
    }

    /// The same for what there is now. Snapshots that were shown before are the same views.
    pub(crate) fn renewed(&self, snapshots: Vec<SnapshotInfo>, filter: &Filter) -> Self {
        let mut views: Vec<Arc<View>> = Vec::new();
        let known: BTreeMap<SnapshotId, &Arc<View>> =
            self.snapshots.values().map(|view| (view.id, view)).collect();
        for info in snapshots.into_iter().filter(|info| filter.admits(&info.record)) {
            // What is said of a snapshot may change.
            let same = known.get(&info.id).filter(|view| view.record == info.record);
            views.push(same.map_or_else(|| View::new(info), |view| (*view).clone()));
        }
        let mut uses: BTreeMap<String, usize> = BTreeMap::new();
        for view in &views {
            *uses.entry(view.id.short()).or_default() += 1;
        }
        let mut shown = Self::default();
        for view in &views {
            let short = view.id.short();
            let is_unique = uses.get(&short) == Some(&1);
            shown.add(if is_unique { short } else { view.id.to_string() }, view);
        }
        shown
    }

    fn add(&mut self, name: String, view: &Arc<View>) {
        let record = &view.record;
        let time = times::local(record.time).replace(' ', "T");
        let target = format!("../../snapshots/{name}");
        let add = |links: &mut Links| {
            link(links, &time, &name, &target);
            links.insert("latest".into(), target.clone());
        };
        add(self.hosts.entry(file_name(&record.host)).or_default());
        for tag in &record.tags {
            add(self.tags.entry(file_name(tag)).or_default());
        }
        link(&mut self.times, &time, &name, &format!("../snapshots/{name}"));
        self.snapshots.insert(name.clone(), view.clone());
        self.latest = Some(name);
    }

    /// Whether there is a snapshot that `other` does not have.
    pub(crate) fn has_more_than(&self, other: &Self) -> bool {
        let ids = |shelves: &Self| -> Vec<SnapshotId> {
            let mut ids: Vec<_> = shelves.snapshots.values().map(|view| view.id).collect();
            ids.sort_unstable();
            ids
        };
        let known = ids(other);
        ids(self).iter().any(|id| known.binary_search(id).is_err())
    }

    /// What `name` on a shelf is.
    pub(crate) fn find(&self, shelf: &Shelf, name: &str) -> Option<Item> {
        let link = |links: &Links| links.get(name).cloned().map(Item::Link);
        match shelf {
            Shelf::Top => match name {
                "latest" => self.latest().map(Item::Link),
                "snapshots" => Some(Item::Shelf(Shelf::Snapshots)),
                "hosts" => Some(Item::Shelf(Shelf::Hosts)),
                "tags" => Some(Item::Shelf(Shelf::Tags)),
                "times" => Some(Item::Shelf(Shelf::Times)),
                _ => None,
            },
            Shelf::Snapshots => self.snapshots.get(name).cloned().map(Item::Snapshot),
            Shelf::Hosts => {
                self.hosts.contains_key(name).then(|| Item::Shelf(Shelf::Host(name.into())))
            }
            Shelf::Tags => {
                self.tags.contains_key(name).then(|| Item::Shelf(Shelf::Tag(name.into())))
            }
            Shelf::Times => link(&self.times),
            Shelf::Host(host) => self.hosts.get(host).and_then(link),
            Shelf::Tag(tag) => self.tags.get(tag).and_then(link),
        }
    }

    /// The names on a shelf.
    pub(crate) fn names(&self, shelf: &Shelf) -> Vec<String> {
        let keys =
            |links: Option<&Links>| links.into_iter().flat_map(Links::keys).cloned().collect();
        match shelf {
            Shelf::Top => {
                let latest = self.latest.iter().map(|_| "latest");
                latest.chain(["hosts", "snapshots", "tags", "times"]).map(String::from).collect()
            }
            Shelf::Snapshots => self.snapshots.keys().cloned().collect(),
            Shelf::Hosts => self.hosts.keys().cloned().collect(),
            Shelf::Tags => self.tags.keys().cloned().collect(),
            Shelf::Times => keys(Some(&self.times)),
            Shelf::Host(host) => keys(self.hosts.get(host)),
            Shelf::Tag(tag) => keys(self.tags.get(tag)),
        }
    }

    fn latest(&self) -> Option<String> {
        self.latest.as_ref().map(|name| format!("snapshots/{name}"))
    }
}

/// Adds a link under a time, and under a longer name if that second is taken.
fn link(links: &mut Links, time: &str, name: &str, target: &str) {
    let time = match links.get(time) {
        Some(there) if there != target => format!("{time}-{name}"),
        _ => time.to_owned(),
    };
    links.insert(time, target.to_owned());
}

/// A text that can be any as the name of a file: what no name may hold is written as in a URL.
fn file_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '/' | '%' | '\0' => name.push_str(&format!("%{:02X}", u32::from(c))),
            c => name.push(c),
        }
    }
    match name.as_str() {
        "" => "%".into(),
        "." => "%2E".into(),
        ".." => "%2E%2E".into(),
        // Two texts that begin alike stay apart by what follows from all of them.
        long if long.len() > NAME_MAX => {
            let hash = holdfast_engine::hash::Sha256::of(text.as_bytes()).to_string();
            let end = (0..=NAME_MAX - 17).rev().find(|end| long.is_char_boundary(*end));
            let start = long.get(..end.unwrap_or(0)).unwrap_or_default();
            format!("{start}~{}", hash.get(..16).unwrap_or_default())
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use holdfast_engine::format::snapshot::Snapshot;

    use super::*;

    fn snapshot(number: u8, time: i64, host: &str, tags: &[&str]) -> SnapshotInfo {
        let tags = tags.iter().map(ToString::to_string).collect();
        let record = Snapshot { time, host: host.into(), tags, ..Snapshot::default() };
        SnapshotInfo { id: SnapshotId::new([number; 16]), record }
    }

    fn target(shelves: &Shelves, shelf: &Shelf, name: &str) -> Option<String> {
        match shelves.find(shelf, name)? {
            Item::Link(target) => Some(target),
            _ => None,
        }
    }

    #[test]
    fn links_lead_from_hosts_tags_and_times_to_snapshots() {
        let snapshots = vec![
            snapshot(1, 0, "a", &["x", "x"]),
            snapshot(2, 0, "a", &[]),
            snapshot(3, 5_000_000_000, "b", &["x"]),
        ];
        let shelves = Shelves::new(snapshots, &Filter::default());
        assert_eq!(shelves.names(&Shelf::Snapshots), ["01010101", "02020202", "03030303"]);
        assert_eq!(target(&shelves, &Shelf::Top, "latest").as_deref(), Some("snapshots/03030303"));
        let a = Shelf::Host("a".into());
        assert_eq!(target(&shelves, &a, "latest").as_deref(), Some("../../snapshots/02020202"));
        // Two of one second are both there.
        let names = shelves.names(&a);
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names.iter().any(|name| name.ends_with("-02020202")), "{names:?}");
        let x = shelves.names(&Shelf::Tag("x".into()));
        assert_eq!(x.len(), 3, "{x:?}");
        assert_eq!(shelves.names(&Shelf::Times).len(), 3);
        for shelf in [a, Shelf::Tag("x".into()), Shelf::Times] {
            for name in shelves.names(&shelf) {
                let target = target(&shelves, &shelf, &name).unwrap_or_default();
                let name = target.rsplit('/').next().unwrap_or_default();
                assert!(shelves.find(&Shelf::Snapshots, name).is_some(), "{target}");
            }
        }
    }

    #[test]
    fn what_is_shown_again_is_the_same() {
        let filter = Filter { host: Some("a".into()), ..Filter::default() };
        let old = Shelves::new(vec![snapshot(1, 0, "a", &[]), snapshot(2, 0, "b", &[])], &filter);
        let again = old.renewed(vec![snapshot(1, 0, "a", &[]), snapshot(3, 1, "a", &[])], &filter);
        let view = |shelves: &Shelves| match shelves.find(&Shelf::Snapshots, "01010101") {
            Some(Item::Snapshot(view)) => Some(Arc::as_ptr(&view)),
            _ => None,
        };
        assert!(view(&old).is_some() && view(&old) == view(&again));
        assert!(again.has_more_than(&old) && !old.has_more_than(&again));
        assert!(old.find(&Shelf::Snapshots, "02020202").is_none());
    }

    #[test]
    fn names_that_are_no_file_names_are_written_otherwise() {
        assert_eq!(file_name("web-1"), "web-1");
        assert_eq!(file_name("a/b%"), "a%2Fb%25");
        assert_eq!(
            (file_name("."), file_name(".."), file_name("")),
            ("%2E".into(), "%2E%2E".into(), "%".into())
        );
        let (a, b) = (format!("{}a", "ä".repeat(200)), format!("{}b", "ä".repeat(200)));
        assert!(file_name(&a).len() <= NAME_MAX && file_name(&a) != file_name(&b));
    }
}
