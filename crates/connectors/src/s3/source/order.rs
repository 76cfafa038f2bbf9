//! From the order of keys to the order of a tree. In a listing `a-b` comes before `a/b`, of which
//! the directory `a` comes before `a-b` in the tree; and names that stand for odd parts of keys
//! have places of their own.
//!
//! A listing of one directory is put in order while it comes: a name is handed out once nothing
//! that is still to come can be sorted before it. Most names wait for no longer than the next one.

use std::collections::BTreeMap;
use std::ops::Range;

use super::facts::Facts;
use crate::s3::names;

/// An object of a listing.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) key: String,
    pub(super) facts: Facts,
}

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What<D> {
    File(Facts),
    Directory(D),
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Child<D> {
    pub(super) name: String,
    pub(super) what: What<D>,
}

/// Entries of a directory, on their way into order. Directories carry `D`.
#[derive(Debug)]
pub(super) struct Hold<D> {
    held: BTreeMap<String, Names<D>>,
}

#[derive(Debug)]
struct Names<D> {
    /// The last part of the key, and the object.
    file: Option<(String, Facts)>,
    directory: Option<D>,
}

impl<D> Default for Names<D> {
    fn default() -> Self {
        Self { file: None, directory: None }
    }
}

impl<D> Default for Hold<D> {
    fn default() -> Self {
        Self { held: BTreeMap::new() }
    }
}

impl<D> Hold<D> {
    /// An object whose key ends with this part.
    pub(super) fn file(&mut self, part: &str, facts: Facts) {
        let names = self.held.entry(names::name_of(part)).or_default();
        names.file = Some((part.to_owned(), facts));
    }

    /// A part below which there are objects.
    pub(super) fn directory(&mut self, part: &str, what: D) {
        self.held.entry(names::name_of(part)).or_default().directory = Some(what);
    }

    /// Takes out, in order, what nothing can precede that comes behind `position`: what the last
    /// key has behind the directory's prefix. `None`: nothing comes any more.
    pub(super) fn release(&mut self, position: Option<&str>) -> Vec<Child<D>> {
        let mut ready = Vec::new();
        let bound = position.map(bound);
        while let Some(first) = self.held.first_entry() {
            if bound.is_some_and(|bound| first.key().as_str() >= bound) {
                break;
            }
            let (name, names) = first.remove_entry();
            if let Some(directory) = names.directory {
                // An object of the same name goes by another one.
                if let Some((part, facts)) = names.file {
                    let object = self.held.entry(names::object_name_of(&part)).or_default();
                    object.file = Some((part, facts));
                }
                ready.push(Child { name, what: What::Directory(directory) });
            } else if let Some((_, facts)) = names.file {
                ready.push(Child { name, what: What::File(facts) });
            }
        }
        ready
    }
}

/// No name that is less can come behind this position.
///
/// What comes is a name that is not less than the position, or a directory whose name is a beginning
/// of it: `2024` may come behind `2024-05`, since `/` comes behind `-`. Odd parts (empty, dots),
/// whose names begin with `%`, come at a slash at the latest; until then this is empty.
fn bound(position: &str) -> &str {
    let end = position.bytes().position(|byte| byte <= b'/');
    position.get(..end.unwrap_or(position.len())).unwrap_or_default()
}

/// What stands right below the prefix of this length, of sorted keys that all begin with it.
/// Directories carry the range of their keys.
pub(super) fn children(found: &[Found], prefix: usize) -> Vec<Child<Range<usize>>> {
    let mut hold = Hold::default();
    let mut at = 0;
    while let Some(object) = found.get(at) {
        let rest = object.key.get(prefix..).unwrap_or_default();
        let Some(slash) = rest.find('/') else {
            hold.file(rest, object.facts);
            at += 1;
            continue;
        };
        let below = object.key.get(..prefix + slash + 1).unwrap_or_default();
        let rest_of = found.get(at..).unwrap_or_default();
        let end = at + rest_of.partition_point(|next| next.key.starts_with(below));
        hold.directory(rest.get(..slash).unwrap_or_default(), at..end);
        at = end;
    }
    hold.release(None)
}

#[cfg(test)]
mod tests {
    use holdfast_testkit::clock::random_bytes;

    use super::*;
    use crate::s3::client::Listed;

    fn facts(size: u64) -> Facts {
        Facts::of(&Listed {
            key: String::new(),
            size,
            modified: 0,
            etag: None,
            storage_class: None,
        })
    }

    fn found(keys: &[&str]) -> Vec<Found> {
        let mut keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        keys.sort();
        keys.into_iter().map(|key| Found { facts: facts(key.len() as u64), key }).collect()
    }

    fn shown<D>(children: &[Child<D>]) -> Vec<String> {
        let slash = |what: &What<D>| if matches!(what, What::File(_)) { "" } else { "/" };
        children.iter().map(|child| format!("{}{}", child.name, slash(&child.what))).collect()
    }

    #[test]
    fn directories_come_before_longer_names() {
        let all = found(&["a-b", "a/b", "a.c/x", "a0", "a", "b/", ".hidden", "/x", "./y"]);
        assert_eq!(
            shown(&children(&all, 0)),
            ["%s3:dot/", "%s3:empty/", ".hidden", "a/", "a%s3:object", "a-b", "a.c/", "a0", "b/"]
        );
        let below = found(&["b/", "b/c"]);
        assert_eq!(shown(&children(&below, 2)), ["%s3:empty", "c"]);
    }

    #[test]
    fn names_are_handed_out_as_soon_as_nothing_can_precede_them() {
        let mut hold = Hold::<()>::default();
        hold.file("-x", facts(1));
        hold.file("2024-01.log", facts(1));
        // `2024/` may come, and `%…` cannot any more.
        assert_eq!(shown(&hold.release(Some("2024-01.log"))), ["-x"]);
        hold.file("2024-02.log", facts(1));
        hold.directory("2024", ());
        let position = Some("2024/");
        assert_eq!(shown(&hold.release(position)), Vec::<String>::new());
        hold.file("2025", facts(1));
        let ready = hold.release(Some("2025"));
        assert_eq!(shown(&ready), ["2024/", "2024-01.log", "2024-02.log"]);
        assert_eq!(shown(&hold.release(None)), ["2025"]);
        assert_eq!((bound("abc.txt"), bound("abc")), ("abc", "abc"));
        assert_eq!((bound(".x"), bound("/")), ("", ""));
    }

    /// Any listing, in pages of any size, comes out sorted, whole and without waiting for its end.
    #[test]
    fn pages_come_out_in_the_order_of_the_tree() {
        let letters = ["", "a", "b", "-", ".", "/", "%", "\0", "0", "%s3:", "é"];
        for case in 0..2000 {
            let mut random = random_bytes(case, 400).into_iter().map(usize::from);
            let mut below = |end| random.next().unwrap_or(0) % end;
            let mut keys: Vec<String> = Vec::new();
            for _ in 0..1 + below(30) {
                keys.push((0..1 + below(5)).map(|_| letters[below(11)]).collect());
            }
            keys.retain(|key| !key.is_empty());
            keys.sort();
            keys.dedup();
            let all: Vec<_> =
                keys.iter().map(|key| Found { key: key.clone(), facts: facts(1) }).collect();
            let whole = shown(&children(&all, 0));
            // As a server lists one directory: objects and common prefixes by their bytes.
            let mut items: Vec<String> = Vec::new();
            for key in &keys {
                let end = key.find('/').map_or(key.len(), |slash| slash + 1);
                if items.last().map(String::as_str) != Some(&key[..end]) {
                    items.push(key[..end].to_owned());
                }
            }
            let (mut hold, mut came) = (Hold::<()>::default(), Vec::new());
            for page in items.chunks(1 + below(3)) {
                for item in page {
                    match item.strip_suffix('/') {
                        Some(part) => hold.directory(part, ()),
                        None => hold.file(item, facts(1)),
                    }
                }
                came.extend(shown(&hold.release(page.last().map(String::as_str))));
            }
            came.extend(shown(&hold.release(None)));
            assert_eq!(came, whole, "{keys:?}");
            let names: Vec<_> = came.iter().map(|name| name.trim_end_matches('/')).collect();
            assert!(names.is_sorted() && names.len() == items.len(), "{names:?}");
        }
    }
}
