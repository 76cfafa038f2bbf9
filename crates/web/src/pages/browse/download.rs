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
use holdfast_app::text::{plural, printable};
use holdfast_app::{Class, Problem, catalogue};
use holdfast_engine::Error;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::archive::{ArchiveError, ArchiveOptions, ArchiveReport, PathFilter};
use holdfast_engine::repo::snapshots::{SnapshotInfo, is_within};
use holdfast_engine::tree::content::read_content;
use holdfast_engine::tree::{Content, Entry, split};
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

/// What is made on another thread: pieces of the content, `None` after the last one, or why there
/// are no more. Where it ends without either, its maker broke off.
type Piece = Result<Option<Bytes>, Problem>;

/// Makes a stream of what `make` sends, and waits for its first piece.
async fn streamed(
    make: impl FnOnce(&mut Pipe) -> Result<(), Problem> + Send + 'static,
) -> Result<Body, Problem> {
    let (send, mut receive) = mpsc::channel::<Piece>(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe(send);
        let end = make(&mut pipe).map(|()| None);
        // Nobody may be listening any more.
        let _ = pipe.0.blocking_send(end);
    });
    let first = receive.recv().await.unwrap_or_else(|| Err(broken()))?;
    let rest = stream::unfold((Some(first), receive), |(first, mut receive)| async move {
        let piece = match first {
            Some(first) => Ok(first),
            None => receive.recv().await.unwrap_or_else(|| Err(broken())),
        };
        let piece = piece.map_err(|problem| io::Error::other(problem.to_string()));
        Some((piece.transpose()?, (None, receive)))
    });
    Ok(Body::from_stream(rest))
}

fn broken() -> Problem {
    Problem::new(Class::Internal, "what makes this download broke off")
        .hint("please report this with what you did")
}

/// Where the content goes.
struct Pipe(mpsc::Sender<Piece>);

impl Pipe {
    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Some(Bytes::copy_from_slice(bytes)))).map_err(gone)
    }

    /// Whether nobody listens any more.
    fn is_gone(&self) -> bool {
        self.0.is_closed()
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
    check_read(&entry)?;
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

/// Refuses a file of which nothing could be read at the backup: an empty one would look like it.
fn check_read(entry: &Entry) -> Result<(), Problem> {
    let is_missing = entry.content == Content::None && entry.metadata.size > 0;
    if !is_missing || entry.error.is_empty() {
        return Ok(());
    }
    let why = printable(entry.error.as_bytes());
    let text = format!("the file could not be read when it was backed up: {why}");
    Err(Problem::new(Class::Damage, text).hint("take it from another snapshot, if one has it"))
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
        packed_well(made, pipe.is_gone())
    });
    let mut response = answer(kind, POLICY, None, body.await?);
    response.headers_mut().insert(header::CONTENT_DISPOSITION, attachment(&name));
    Ok(response)
}

/// Whether an archive is whole. Errors: why not, unless nobody listens any more.
fn packed_well(made: Result<ArchiveReport, ArchiveError>, is_gone: bool) -> Result<(), Problem> {
    match made {
        Ok(report) if report.failures == 0 => Ok(()),
        // An archive that lacks files must not look like a whole one.
        Ok(report) => {
            let files = plural(report.failures, "file", "files");
            let text = format!("{files} could not be read, so that the archive is not whole");
            Err(Problem::new(Class::Damage, text).hint("a restore brings back all the rest"))
        }
        Err(ArchiveError::Output(_)) if is_gone => Ok(()),
        Err(ArchiveError::Output(e)) => Err(catalogue::io("write", "the archive", &e)),
        Err(ArchiveError::Engine(e)) => Err(catalogue::explain(&e, None)),
    }
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

    /// What arrives of a stream. Errors: it is not whole.
    async fn arrived(body: Body) -> Result<String, Box<dyn std::error::Error>> {
        let bytes = axum::body::to_bytes(body, 1 << 20).await?;
        Ok(String::from_utf8(bytes.to_vec())?)
    }

    #[tokio::test]
    async fn a_stream_is_whole_only_if_its_maker_says_so() -> Result<(), Box<dyn std::error::Error>>
    {
        let whole = streamed(|pipe| pipe.send(b"a").and_then(|()| pipe.send(b"b")).map_err(fail));
        assert_eq!(arrived(whole.await?).await?, "ab");
        assert_eq!(arrived(streamed(|_| Ok(())).await?).await?, "");
        let refused = |result: Result<Body, Problem>| result.err().map(|problem| problem.class);
        let early = streamed(|_| Err(Problem::new(Class::Damage, "no"))).await;
        assert_eq!(refused(early), Some(Class::Damage));
        let late = streamed(|pipe| {
            pipe.send(b"a").map_err(fail)?;
            Err(Problem::new(Class::Damage, "no more"))
        });
        assert!(arrived(late.await?).await.is_err(), "what failed looks whole");
        // A maker that is gone has said nothing.
        assert_eq!(refused(streamed(|_| panic!("at once")).await), Some(Class::Internal));
        let gone = streamed(|pipe| {
            pipe.send(b"a").map_err(fail)?;
            panic!("later")
        });
        assert!(arrived(gone.await?).await.is_err(), "what broke off looks whole");
        Ok(())
    }

    fn fail(e: io::Error) -> Problem {
        catalogue::io("write", "the test", &e)
    }

    #[test]
    fn an_archive_that_could_not_be_encoded_is_not_whole() {
        let made = |kind: io::ErrorKind| Err(ArchiveError::Output(io::Error::from(kind)));
        assert!(packed_well(Ok(ArchiveReport::default()), false).is_ok());
        assert!(
            packed_well(Ok(ArchiveReport { failures: 1, ..Default::default() }), false).is_err()
        );
        assert!(packed_well(made(io::ErrorKind::InvalidInput), false).is_err());
        // Who went away misses nothing.
        assert!(packed_well(made(io::ErrorKind::BrokenPipe), true).is_ok());
    }

    #[test]
    fn a_file_that_was_not_read_is_no_empty_file() {
        let entry = |size: u64, content: Content, error: &str| {
            let mut entry = Entry { content, error: error.into(), ..Entry::default() };
            entry.metadata.size = size;
            entry
        };
        let refused = |entry: &Entry| check_read(entry).err();
        let problem = refused(&entry(5, Content::None, "permission denied"));
        assert!(
            problem.is_some_and(|p| p.class == Class::Damage
                && p.message.ends_with("when it was backed up: permission denied")),
            "an unread file is sent"
        );
        // One that is empty, one with holes alone, and one that changed meanwhile.
        for whole in [
            entry(0, Content::None, "it changed while it was read"),
            entry(5, Content::None, ""),
            entry(5, Content::Inline(vec![7; 5]), "it changed while it was read"),
        ] {
            assert!(refused(&whole).is_none(), "{whole:?}");
        }
    }
}
