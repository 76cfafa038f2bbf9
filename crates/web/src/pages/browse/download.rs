//! Content on its way out: single files, what previews show, and archives, each as a stream that is
//! made while it is sent. What fails before the first byte is a page; what fails later ends the
//! download as incomplete. No answer of this file can run a script as one of our pages.

use std::io::{self, Write};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, RawQuery};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use holdfast_app::archive::{Format, write_archive};
use holdfast_app::text::plural;
use holdfast_app::{Class, Problem, catalogue};
use holdfast_engine::Error;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::archive::{ArchiveError, ArchiveOptions, PathFilter};
use holdfast_engine::repo::snapshots::{SnapshotInfo, is_within};
use holdfast_engine::tree::content::read_content;
use holdfast_engine::tree::{Entry, split};
use http::header::{self, HeaderMap, HeaderValue};
use tokio::sync::mpsc;

use super::preview::{Sort, Which, begin, file as find, sort};
use crate::opened::Open;
use crate::pages::unlock::{Refused, with};
use crate::view::{View, pairs};

/// Pieces that wait to be sent.
const WAITING: usize = 4;

/// What is loaded here may show itself, inside one of our pages, and do nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
    frame-ancestors 'self'; form-action 'none'; base-uri 'none'; sandbox";
/// The same for PDF. Browsers do not show it in a sandbox; their viewer is a page of another origin.
const PDF_POLICY: &str = "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'; \
    frame-ancestors 'self'; form-action 'none'; base-uri 'none'";

/// What is made on another thread: pieces of the content, or why there are no more.
type Piece = Result<Bytes, Problem>;

/// Makes a stream of what `make` sends, and waits for its first piece.
async fn streamed(
    make: impl FnOnce(&mut Pipe) -> Result<(), Problem> + Send + 'static,
) -> Result<Body, Problem> {
    let (send, mut receive) = mpsc::channel::<Piece>(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe(send);
        if let Err(problem) = make(&mut pipe) {
            // Nobody may be listening any more.
            let _ = pipe.0.blocking_send(Err(problem));
        }
    });
    let first = receive.recv().await.transpose()?;
    let rest = stream::unfold((first, receive), |(first, mut receive)| async move {
        let piece = match first {
            Some(first) => Some(Ok(first)),
            None => receive.recv().await,
        };
        Some((piece?.map_err(|problem| io::Error::other(problem.to_string())), (None, receive)))
    });
    Ok(Body::from_stream(rest))
}

/// Where the content goes.
struct Pipe(mpsc::Sender<Piece>);

impl Pipe {
    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn content(open: Arc<Open>, entry: Entry) -> Result<Body, Problem> {
    streamed(move |pipe| {
        let reader = open.reader();
        let mut is_gone = false;
        let result = read_content(&reader, &entry, &mut |bytes| {
            pipe.send(bytes).map_err(|_| {
                is_gone = true;
                Error::Interrupted
            })
        });
        match result {
            Err(_) if is_gone => Ok(()),
            result => result.map(drop).map_err(|e| catalogue::explain(&e, None)),
        }
    })
    .await
}

/// The header that names a download.
fn attachment(name: &[u8]) -> HeaderValue {
    let plain: String = name
        .iter()
        .map(|c| match c {
            b'"' | b'\\' => '_',
            c if c.is_ascii_graphic() || *c == b' ' => char::from(*c),
            _ => '_',
        })
        .collect();
    let encoded: String = String::from_utf8_lossy(name)
        .bytes()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() || b"-_.".contains(&c) => char::from(c).to_string(),
            c => format!("%{c:02X}"),
        })
        .collect();
    let text = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("attachment"))
}

fn answer(kind: &'static str, policy: &'static str, length: Option<u64>, body: Body) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    (headers, body).into_response()
}

/// Its length, if all of it could be read at the backup.
fn length(entry: &Entry) -> Option<u64> {
    entry.error.is_empty().then_some(entry.metadata.size)
}

/// `GET /raw/{at}/{id}?path=…`: what an image or a frame of a preview loads.
pub(super) async fn raw(
    view: View,
    Path((at, id)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> Result<Response, Refused> {
    let (open, entry, sort) = with(&view, &at, false, move |_, open| {
        let path = which.path();
        let entry = find(open, open.snapshot(&id)?, &path)?;
        let first = begin(open, &entry, 4096)?;
        Ok((open.clone(), entry, sort(&first, &path)))
    })
    .await?;
    let (kind, policy) = match sort {
        Sort::Image(kind) => (kind, POLICY),
        Sort::Pdf => ("application/pdf", PDF_POLICY),
        // A page of somebody's is shown as its source.
        Sort::Text => ("text/plain; charset=utf-8", POLICY),
        Sort::Other => ("application/octet-stream", POLICY),
    };
    let length = length(&entry);
    Ok(answer(kind, policy, length, content(open, entry).await?))
}

/// `GET /download/{at}/{id}?path=…`
pub(super) async fn file(
    view: View,
    Path((at, id)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> Result<Response, Refused> {
    let path = which.path();
    let name = split(&path).1.to_vec();
    let (open, entry) = with(&view, &at, false, move |_, open| {
        Ok((open.clone(), find(open, open.snapshot(&id)?, &path)?))
    })
    .await?;
    Ok(whole_file(open, entry, &name).await?)
}

/// A file as a download of this name.
pub(crate) async fn whole_file(
    open: Arc<Open>,
    entry: Entry,
    name: &[u8],
) -> Result<Response, Problem> {
    let length = length(&entry);
    let body = content(open, entry).await?;
    let mut response = answer("application/octet-stream", POLICY, length, body);
    response.headers_mut().insert(header::CONTENT_DISPOSITION, attachment(name));
    Ok(response)
}

/// An archive of a snapshot that is to be sent.
pub(crate) struct Packed {
    pub(crate) snapshot: SnapshotInfo,
    /// Only this.
    pub(crate) path: Option<Vec<u8>>,
    /// Of it only these paths and all below them; everything, if there are none.
    pub(crate) picks: Vec<Vec<u8>>,
    pub(crate) format: Format,
}

/// `GET /archive/{at}/{id}?path=…&pick=…&format=zip`: a folder, or what was picked in it.
pub(super) async fn archive(
    view: View,
    Path((at, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let query = query.unwrap_or_default();
    let (path, picks) = super::picks(&query);
    let asked = pairs(query.as_bytes()).into_iter().rfind(|(name, _)| name == "format");
    let format = match asked.as_ref().map(|(_, value)| value.as_str()) {
        Some("tar") => Format::Tar,
        Some("tar.zst") => Format::TarZst,
        _ => Format::Zip,
    };
    let open =
        with(&view, &at, false, move |_, open| Ok((open.clone(), open.snapshot(&id)?.clone())));
    let (open, snapshot) = open.await?;
    Ok(packed(open, Packed { snapshot, path, picks, format }).await?)
}

/// An archive as a download, named after what is in it.
pub(crate) async fn packed(open: Arc<Open>, wanted: Packed) -> Result<Response, Problem> {
    let Packed { snapshot, path, picks, format } = wanted;
    let (end, kind) = match format {
        Format::Tar => ("tar", "application/x-tar"),
        Format::TarZst => ("tar.zst", "application/zstd"),
        Format::Zip => ("zip", "application/zip"),
    };
    let folder = path.as_deref().map(|path| split(path).1).unwrap_or_default();
    let short = snapshot.id.short();
    let mut name = if folder.is_empty() { short.into_bytes() } else { folder.to_vec() };
    name.extend_from_slice(format!(".{end}").as_bytes());
    let options = ArchiveOptions { path, filter: only(picks), ..ArchiveOptions::default() };
    let body = streamed(move |pipe| {
        let reader = open.reader();
        let (monitor, interrupt) = (NoMonitor, Interrupt::new());
        let made = write_archive(&reader, &snapshot, &options, format, pipe, &monitor, &interrupt);
        match made {
            Ok(report) if report.failures == 0 => Ok(()),
            // An archive that lacks files must not look like a whole one.
            Ok(report) => {
                let files = plural(report.failures, "file", "files");
                let text = format!("{files} could not be read, so that the archive is not whole");
                Err(Problem::new(Class::Damage, text).hint("a restore brings back all the rest"))
            }
            Err(ArchiveError::Output(_)) => Ok(()),
            Err(ArchiveError::Engine(e)) => Err(catalogue::explain(&e, None)),
        }
    });
    let mut response = answer(kind, POLICY, None, body.await?);
    response.headers_mut().insert(header::CONTENT_DISPOSITION, attachment(&name));
    Ok(response)
}

/// What takes these paths and all below them; everything, if there are none.
fn only(picks: Vec<Vec<u8>>) -> Option<PathFilter> {
    if picks.is_empty() {
        return None;
    }
    Some(Arc::new(move |path: &[u8], _| picks.iter().any(|pick| is_within(path, pick))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_downloads_cannot_break_out_of_their_header() {
        let text = |name: &[u8]| attachment(name).to_str().map(String::from).unwrap_or_default();
        assert_eq!(
            text(b"a\"; x=\r\n\xc3\xbc.txt"),
            "attachment; filename=\"a_; x=____.txt\"; \
             filename*=UTF-8''a%22%3B%20x%3D%0D%0A%C3%BC.txt"
        );
    }
}
