//! A file beside its folder: the begin of a text, an image, a PDF, and what stood at its path over
//! time. Nothing of a file ever runs as a page of the console: texts are shown as text, and what a
//! frame or an image loads comes with a policy that forbids scripts ([`super::download`]).

use askama::Template;
use axum::extract::{Path, Query};
use axum::response::Response;
use holdfast_app::text::{plural, printable, size};
use holdfast_app::times::now;
use holdfast_app::{Class, Problem, catalogue, entries};
use holdfast_engine::Error;
use holdfast_engine::meta::Kind;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::history::history;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::tree::Entry;
use holdfast_engine::tree::content::read_content;
use holdfast_engine::tree::view::normalize;
use serde::Deserialize;

use crate::names::{escape, name, parent, unescape};
use crate::opened::Open;
use crate::pages::unlock::{Refused, with};
use crate::view::{View, html};
use crate::words;

/// Bytes of a text that are shown.
const TEXT: usize = 64 << 10;
/// Versions that are listed.
const VERSIONS: usize = 100;

/// What a file is, for a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// Text in UTF-8.
    Text,
    /// An image of this type.
    Image(&'static str),
    /// A PDF.
    Pdf,
    /// Something else.
    Other,
}

/// What a file is, by its first bytes and, for images that are text, its name.
pub(super) fn sort(first: &[u8], path: &[u8]) -> Sort {
    let starts = |magic: &[u8]| first.starts_with(magic);
    if starts(b"%PDF-") {
        return Sort::Pdf;
    }
    let riff = |kind: &[u8]| starts(b"RIFF") && first.get(8..12) == Some(kind);
    let images: [(bool, &'static str); 7] = [
        (starts(b"\x89PNG\r\n\x1a\n"), "image/png"),
        (starts(b"\xff\xd8\xff"), "image/jpeg"),
        (starts(b"GIF87a") || starts(b"GIF89a"), "image/gif"),
        (riff(b"WEBP"), "image/webp"),
        (starts(b"BM") && !first.is_ascii(), "image/bmp"),
        (first.get(4..12) == Some(b"ftypavif"), "image/avif"),
        (path.to_ascii_lowercase().ends_with(b".svg") && is_text(first), "image/svg+xml"),
    ];
    if let Some((_, kind)) = images.iter().find(|(is, _)| *is) {
        return Sort::Image(kind);
    }
    if is_text(first) { Sort::Text } else { Sort::Other }
}

/// Whether the begin of a file is text; a character may be cut at the end.
fn is_text(first: &[u8]) -> bool {
    if first.contains(&0) {
        return false;
    }
    match std::str::from_utf8(first) {
        Ok(_) => true,
        Err(e) => e.error_len().is_none(),
    }
}

/// Whether a name is one that images have.
pub(super) fn is_image_name(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let ends = [&b".png"[..], b".jpg", b".jpeg", b".gif", b".webp", b".bmp", b".avif", b".svg"];
    ends.iter().any(|end| name.ends_with(end))
}

/// The regular file at a path.
pub(crate) fn file(open: &Open, info: &SnapshotInfo, path: &[u8]) -> Result<Entry, Problem> {
    let entry = entry(open, info, path)?;
    if entry.metadata.kind == Kind::File {
        return Ok(entry);
    }
    let text = format!("{} is no regular file", printable(path));
    Err(Problem::new(Class::NoSuchPath, text).hint("open the folder that it is in"))
}

fn entry(open: &Open, info: &SnapshotInfo, path: &[u8]) -> Result<Entry, Problem> {
    let reader = open.reader();
    let found = entries::find(&reader, info, path).map_err(explain)?;
    found
        .map(|found| found.entry)
        .ok_or_else(|| Problem::new(Class::NoSuchPath, format!("{} is a folder", printable(path))))
}

fn explain(error: Error) -> Problem {
    catalogue::explain(&error, None)
}

/// The first bytes of a file, at most so many.
pub(super) fn begin(open: &Open, entry: &Entry, most: usize) -> Result<Vec<u8>, Problem> {
    let reader = open.reader();
    let mut first = Vec::new();
    let result = read_content(&reader, entry, &mut |bytes| {
        let room = most.saturating_sub(first.len());
        first.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        // That is all that is wanted.
        if first.len() >= most { Err(Error::Interrupted) } else { Ok(()) }
    });
    match result {
        Err(Error::Interrupted) if first.len() >= most => Ok(first),
        result => result.map(|_| first).map_err(explain),
    }
}

/// What is shown of a file.
#[derive(Debug)]
pub(super) struct Preview {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) error: String,
    pub(super) problem: String,
    pub(super) text: Option<String>,
    pub(super) image: bool,
    pub(super) pdf: bool,
    pub(super) target: String,
    pub(super) is_file: bool,
    pub(super) raw: String,
    pub(super) download: String,
    pub(super) restore: String,
    pub(super) versions: String,
}

impl Preview {
    pub(super) fn read(open: &Open, info: &SnapshotInfo, path: &[u8]) -> Result<Self, Problem> {
        let path = &normalize(path)[..];
        let entry = entry(open, info, path)?;
        let is_file = entry.metadata.kind == Kind::File;
        let (key, at) = (escape(path), format!("{}/{}", open.name, info.id));
        let mut preview = Self {
            name: name(path),
            about: if is_file {
                size(entry.metadata.size)
            } else {
                entry.metadata.kind.name().into()
            },
            error: printable(entry.error.as_bytes()),
            problem: String::new(),
            text: None,
            image: false,
            pdf: false,
            target: printable(&entry.target),
            is_file,
            raw: format!("/raw/{at}?path={key}"),
            download: format!("/download/{at}?path={key}"),
            restore: format!("/restore/{at}?path={}&pick={key}", escape(parent(path))),
            versions: format!("/browse/{at}/versions?path={key}"),
        };
        if !is_file {
            return Ok(preview);
        }
        let first = match begin(open, &entry, TEXT) {
            Ok(first) => first,
            Err(problem) => {
                // The rest of the page is there all the same.
                preview.problem = problem.to_string();
                return Ok(preview);
            }
        };
        let kind = match sort(&first, path) {
            Sort::Text => {
                let cut = entry.metadata.size > first.len() as u64;
                preview.text = Some(String::from_utf8_lossy(&first).into_owned());
                if cut { "text, its begin" } else { "text" }
            }
            Sort::Image(_) => {
                preview.image = true;
                "image"
            }
            Sort::Pdf => {
                preview.pdf = true;
                "PDF"
            }
            Sort::Other => "no preview of this kind",
        };
        preview.about = format!("{}, {kind}, verified while read", preview.about);
        Ok(preview)
    }
}

#[derive(Template)]
#[template(path = "preview.html")]
struct Part {
    preview: Preview,
}

#[derive(Debug, Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    path: String,
}

impl Which {
    pub(super) fn path(&self) -> Vec<u8> {
        normalize(&unescape(&self.path))
    }
}

/// `GET /browse/{at}/{id}/preview?path=…`: a part of the page.
pub(super) async fn show(
    view: View,
    Path((at, id)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> Result<Response, Refused> {
    let preview = with(&view, &at, false, move |_, open| {
        Preview::read(open, open.snapshot(&id)?, &which.path())
    })
    .await?;
    Ok(html(&Part { preview }))
}

#[derive(Debug)]
struct Version {
    what: String,
    is_shown: bool,
    is_gone: bool,
    size: String,
    href: String,
    compare: String,
}

#[derive(Template)]
#[template(path = "versions.html")]
struct Versions {
    versions: Vec<Version>,
    about: String,
    unread: String,
    more: bool,
}

/// `GET /browse/{at}/{id}/versions?path=…`: a part of the preview.
pub(super) async fn versions(
    view: View,
    Path((at, id)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> Result<Response, Refused> {
    let versions = with(&view, &at, false, move |_, open| {
        find_versions(open, open.snapshot(&id)?, &which.path())
    })
    .await?;
    Ok(html(&versions))
}

fn find_versions(open: &Open, info: &SnapshotInfo, path: &[u8]) -> Result<Versions, Problem> {
    let reader = open.reader();
    let mut of_host = open.snapshots.clone();
    of_host.retain(|other| other.record.host == info.record.host && !other.record.partial);
    let report =
        history(&reader, &of_host, path, &NoMonitor, &Interrupt::new()).map_err(explain)?;
    let order = |id| of_host.iter().position(|other| other.id == id);
    let this = order(info.id);
    let (at, now) = (&open.name, now());
    let (file, folder) = (escape(path), escape(parent(path)));
    let mut versions: Vec<_> = report
        .periods
        .iter()
        .map(|period| {
            let is_shown = order(period.first.0) <= this && this <= order(period.last.0);
            let entry = period.entry.as_ref();
            let changed = entry.map(|entry| entry.metadata.mtime.total_nanos());
            let last = period.last.0;
            Version {
                what: match changed {
                    Some(time) => words::moment(time, now),
                    None => format!("gone since {}", words::moment(period.first.1, now)),
                },
                is_shown: is_shown && this.is_some(),
                is_gone: entry.is_none(),
                size: entry.map(|entry| size(entry.metadata.size)).unwrap_or_default(),
                href: format!("/browse/{at}/{last}?path={folder}&file={file}"),
                compare: format!("/compare?at={at}&a={last}&b={}&path={file}", info.id),
            }
        })
        .collect();
    versions.reverse();
    let more = versions.len() > VERSIONS;
    versions.truncate(VERSIONS);
    let there = report.periods.iter().filter(|period| period.entry.is_some()).count() as u64;
    let about = format!("{there} in {}", plural(report.covering, "snapshot", "snapshots"));
    let unread = match report.unread {
        0 => String::new(),
        unread => format!(
            "{} could not be looked into: check the repository",
            plural(unread, "snapshot", "snapshots")
        ),
    };
    Ok(Versions { versions, about, unread, more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_what_their_first_bytes_say() {
        let png = b"\x89PNG\r\n\x1a\n....";
        assert_eq!(sort(png, b"/x.txt"), Sort::Image("image/png"));
        assert_eq!(sort(b"%PDF-1.7\n", b"/x"), Sort::Pdf);
        assert_eq!(sort(b"<svg onload='x()'/>", b"/x.SVG"), Sort::Image("image/svg+xml"));
        assert_eq!(sort(b"<html><script>", b"/x.png"), Sort::Text);
        assert_eq!(sort("Gr\u{fc}\u{df}e".as_bytes(), b"/x"), Sort::Text);
        assert_eq!(sort(b"cut \xc3", b"/x"), Sort::Text);
        assert_eq!(sort(b"", b"/x"), Sort::Text);
        assert_eq!(sort(b"\x7fELF\0", b"/x"), Sort::Other);
        assert_eq!(sort(b"bad \xff\xff byte", b"/x.svg"), Sort::Other);
    }
}
