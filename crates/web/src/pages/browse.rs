//! Browse: the folders of a snapshot, one page of entries at a time. [`folder`] reads them,
//! [`preview`] shows a file and its versions, [`download`] sends files and archives.

pub(crate) mod download;
pub(crate) mod folder;
pub(crate) mod preview;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use holdfast_app::Problem;
use holdfast_app::text::{count, plural, printable, size};
use holdfast_app::times::now;
use holdfast_engine::format::snapshot::Sum;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::tree::split;
use holdfast_engine::tree::view::normalize;
use serde::Deserialize;

use self::folder::{Entries, Folder, Order};
use self::preview::Preview;
use super::snapshots::encode;
use super::unlock::{Refused, with};
use crate::names::{escape, line, name, parent, spec, unescape};
use crate::opened::Open;
use crate::posted::Posted;
use crate::state::Shared;
use crate::view::{Frame, Nav, View, html};
use crate::words;

/// The longest address that is led to: what is much longer is answered without a word.
const ADDRESS: usize = 60_000;

/// The addresses.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/browse/{at}/{id}", get(show))
        .route("/browse/{at}/{id}/preview", get(preview::show))
        .route("/browse/{at}/{id}/versions", get(preview::versions))
        .route("/browse/{at}/{id}/picked", post(picked))
        .route("/raw/{at}/{id}", get(download::raw))
        .route("/download/{at}/{id}", get(download::file))
        .route("/archive/{at}/{id}", get(download::archive))
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Asked {
    /// The folder, as `names` writes it.
    path: String,
    /// The file that is shown beside it.
    file: String,
    sort: String,
    /// Only names with this in them.
    q: String,
    /// The entry after which the page begins.
    after: String,
    /// Entries before the page, where the whole folder was sorted.
    from: usize,
}

/// A part of the path above the folder.
#[derive(Debug)]
struct Crumb {
    name: String,
    href: String,
}

/// An entry as a row.
#[derive(Debug)]
struct Row {
    name: String,
    href: String,
    /// Its path as `names` writes it; folders have no preview.
    key: String,
    preview: Option<String>,
    icon: &'static str,
    is_folder: bool,
    size: String,
    share: Option<u64>,
    changed: String,
    owner: String,
    target: String,
    error: String,
    is_shown: bool,
}

/// A column that can be sorted by.
#[derive(Debug)]
struct Column {
    label: &'static str,
    class: &'static str,
    href: String,
    sorted: &'static str,
}

#[derive(Template)]
#[template(path = "browse.html")]
struct Page {
    frame: Frame,
    at: String,
    id: String,
    short: String,
    key: String,
    title: String,
    sub: String,
    crumbs: Vec<Crumb>,
    columns: Vec<Column>,
    rows: Vec<Row>,
    asked: Asked,
    next: Option<String>,
    first: Option<String>,
    all: String,
    preview: Option<Preview>,
    below: String,
}

/// `GET /browse/{at}/{id}?path=…`
async fn show(
    view: View,
    Path((at, id)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refused> {
    let own = view.clone();
    let page = with(&view, &at, false, move |_, open| {
        let info = open.snapshot(&id)?;
        let path = folder_of(open, info, &asked.path);
        let preview = match asked.file.as_str() {
            "" => None,
            file => Some(Preview::read(open, info, &unescape(file))?),
        };
        page(&own, open, info, &path, asked, preview)
    })
    .await?;
    Ok(html(&page))
}

/// The folder that an address means: without one, the only place of the snapshot, or all of them.
fn folder_of(open: &Open, info: &SnapshotInfo, path: &str) -> Vec<u8> {
    match (path, &info.record.roots[..]) {
        ("", [root]) => match preview::file(open, info, &root.path) {
            // A place may be a single file.
            Ok(_) => parent(&root.path).to_vec(),
            Err(_) => root.path.clone(),
        },
        ("", _) => b"/".to_vec(),
        (path, _) => normalize(&unescape(path)),
    }
}

fn page(
    view: &View,
    open: &Open,
    info: &SnapshotInfo,
    path: &[u8],
    asked: Asked,
    preview: Option<Preview>,
) -> Result<Page, Problem> {
    let (at, id) = (open.name.clone(), info.id.to_string());
    let title = name(path);
    let line = line(&at, &format!("ls --long {}", spec(&info.id.short(), path)));
    let frame = view.frame(&format!("{title} in {}", info.id.short()), Nav::Snapshots, &line);
    let base = format!("/browse/{at}/{id}");
    let order = Order::parse(&asked.sort);
    let reader = open.reader();
    let folder = Folder::find(&reader, info, path)?;
    let found = folder.entries(&Entries {
        order,
        only: asked.q.trim().to_lowercase(),
        after: unescape(&asked.after),
        from: asked.from,
    })?;
    let now = now();
    let whole = folder.sum.bytes;
    let shown = unescape(&asked.file);
    let here = match (asked.after.as_str(), asked.from) {
        ("", 0) => query_rest(&asked),
        ("", from) => format!("{}&from={from}", query_rest(&asked)),
        (after, _) => format!("{}&after={}", query_rest(&asked), escape(&unescape(after))),
    };
    let rows = found.rows.into_iter().map(|(entry, sum)| {
        let full = folder::join(path, &entry.name);
        let key = escape(&full);
        let m = &entry.metadata;
        let is_folder = m.kind == holdfast_engine::meta::Kind::Directory;
        let bytes = sum.map_or(m.size, |sum| sum.bytes);
        let has_size = sum.is_some() || m.kind == holdfast_engine::meta::Kind::File;
        let place = escape(path);
        let with_file = format!("{base}?path={place}&file={key}{here}");
        Row {
            href: if is_folder { format!("{base}?path={key}") } else { with_file },
            preview: (!is_folder).then(|| format!("{base}/preview?path={key}")),
            icon: folder::icon(&entry),
            name: printable(&entry.name),
            size: if has_size { size(bytes) } else { m.kind.name().to_owned() },
            share: (is_folder && whole > 0)
                .then(|| (u128::from(bytes) * 100 / u128::from(whole)).min(100) as u64),
            changed: words::moment(
                sum.map_or(m.mtime.total_nanos(), |s| s.latest.max(m.mtime.total_nanos())),
                now,
            ),
            owner: folder::owner(&entry),
            target: printable(&entry.target),
            error: entry.error.clone(),
            is_shown: full == shown,
            is_folder,
            key,
        }
    });
    let rows: Vec<_> = rows.collect();
    let sub = sub(info, &folder, &view.state.machine, now);
    let place = escape(path);
    let sorted = |asked: &Asked| format!("{base}?path={place}{}", query_rest(asked));
    let next = match (&found.after, found.from) {
        (Some(after), _) => Some(format!("{}&after={}", sorted(&asked), escape(after))),
        (None, Some(from)) => Some(format!("{}&from={from}", sorted(&asked))),
        (None, None) => None,
    };
    let is_later = !asked.after.is_empty() || asked.from > 0;
    Ok(Page {
        frame,
        short: info.id.short(),
        title,
        crumbs: crumbs(&base, path),
        columns: columns(&sorted(&Asked { sort: String::new(), ..asked.clone() }), order),
        next,
        first: is_later.then(|| sorted(&asked)),
        all: found.all.map(|all| plural(all, "entry", "entries")).unwrap_or_default(),
        preview,
        below: printable(path),
        key: place,
        sub,
        rows,
        asked,
        at,
        id,
    })
}

/// What stays the same when another page of the folder is shown.
fn query_rest(asked: &Asked) -> String {
    let mut rest = String::new();
    for (name, value) in [("sort", &asked.sort), ("q", &asked.q)] {
        if !value.is_empty() {
            rest.push_str(&format!("&{name}={}", encode(value)));
        }
    }
    rest
}

fn sub(info: &SnapshotInfo, folder: &Folder<'_>, machine: &str, now: i64) -> String {
    let Sum { files, bytes, latest, errors, .. } = folder.sum;
    let mut sub = format!(
        "As it was {}. {}, {}",
        words::moment(info.record.time, now),
        plural(files, "file", "files"),
        size(bytes)
    );
    if files > 0 {
        sub.push_str(&format!(", latest change {}", words::moment(latest, now)));
    }
    sub.push('.');
    if errors > 0 {
        sub.push_str(&format!(" {} could not be read.", count(errors)));
    }
    if info.record.host != machine {
        sub.push_str(&format!(" From {}.", printable(info.record.host.as_bytes())));
    }
    sub
}

fn crumbs(base: &str, path: &[u8]) -> Vec<Crumb> {
    let mut crumbs = Vec::new();
    let mut at = path;
    while at != b"/" {
        at = parent(at);
        if at != b"/" {
            crumbs.push(Crumb { name: name(at), href: format!("{base}?path={}", escape(at)) });
        }
    }
    crumbs.reverse();
    crumbs
}

fn columns(sorted: &str, order: Order) -> Vec<Column> {
    let column = |label, class, by: &str, ascending: Order, descending: Order| {
        let (mark, next) = match order {
            o if o == ascending => ("ascending", format!("-{by}")),
            o if o == descending => ("descending", by.to_owned()),
            _ => ("none", if by == "name" { by.to_owned() } else { format!("-{by}") }),
        };
        Column { label, class, href: format!("{sorted}&sort={next}"), sorted: mark }
    };
    vec![
        column("Name", "", "name", Order::Name, Order::NameDown),
        column("Size", "num", "size", Order::Size, Order::SizeDown),
        column("Changed", "", "time", Order::Time, Order::TimeDown),
    ]
}

/// `POST /browse/{at}/{id}/picked`: leads picked entries to an archive, or to the restore.
async fn picked(
    Path((at, id)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Refused> {
    let (at, id) = (encode(&at), encode(&id));
    let folder = unescape(posted.text("path"));
    let mut query = format!("path={}", escape(&folder));
    for pick in posted.all("pick") {
        let path = unescape(pick);
        // Names alone, so that many fit into an address.
        let (_, name) = split(&path);
        let is_in_it = !name.is_empty() && parent(&path) == folder;
        query.push_str(&format!("&pick={}", escape(if is_in_it { name } else { &path })));
    }
    let to = match posted.text("do") {
        "restore" => format!("/restore/{at}/{id}?{query}"),
        format => format!("/archive/{at}/{id}?{query}&format={}", encode(format)),
    };
    if to.len() > ADDRESS {
        let problem = Problem::usage("more is picked than fits into an address");
        return Err(problem.hint("pick the folder that it is in, or fewer at once").into());
    }
    Ok(Redirect::to(&to).into_response())
}

/// Paths in a query: the folder, and what was picked in it, as names or as absolute paths.
pub(crate) fn picks(query: &str) -> (Option<Vec<u8>>, Vec<Vec<u8>>) {
    let pairs = crate::view::pairs(query.as_bytes());
    let of = |wanted: &str| {
        let values = pairs.iter().filter(move |(name, value)| name == wanted && !value.is_empty());
        values.map(|(_, value)| unescape(value)).collect::<Vec<_>>()
    };
    let folder = of("path").pop().map(|path| normalize(&path));
    let within = |pick: Vec<u8>| match &folder {
        Some(folder) if !pick.starts_with(b"/") => normalize(&folder::join(folder, &pick)),
        _ => normalize(&pick),
    };
    let picks = of("pick").into_iter().map(within).collect();
    (folder, picks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_picked_lies_in_the_folder_unless_its_whole_path_is_given() {
        let paths = |query: &str| {
            let text = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
            let (folder, picks) = picks(query);
            (folder.as_ref().map(text), picks.iter().map(text).collect::<Vec<_>>())
        };
        assert_eq!(
            paths("path=/a/b~20c&pick=x&pick=/a/b~20c/y&pick=~7e&pick="),
            (Some("/a/b c".into()), vec!["/a/b c/x".into(), "/a/b c/y".into(), "/a/b c/~".into()])
        );
        assert_eq!(paths("path=/&pick=home"), (Some("/".into()), vec!["/home".into()]));
        assert_eq!(paths("pick=/home/x"), (None, vec!["/home/x".into()]));
    }
}
