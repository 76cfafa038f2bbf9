//! The staged test of a location: every step on the way there by itself, so that the first one
//! that fails says what is wrong. What it writes, it removes.

use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use holdfast_connectors::sftp::client::{
    Attributes, Client, ClientError, ClientErrorKind, ClientOptions, OpenFlags,
};
use holdfast_connectors::sftp::pool::{Pool, SftpError};
use holdfast_connectors::sftp::ssh::{SessionFacts, Stage};
use holdfast_engine::crypto;

use crate::access::Access;
use crate::catalogue::{self, stage_name};
use crate::location::absolute;
use crate::problem::{Class, Problem};
use crate::resolve::{Place, Resolved};
use crate::sftp;
use crate::text::{printable, size};

/// Bytes written and read for the speed.
const SPEED: usize = 16 << 20;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// Not possible here, which some uses do not mind.
    Limited,
    /// The test ends here.
    Failed,
}

/// A step that is done.
#[derive(Debug, Clone)]
pub struct Step {
    /// "resolve", "connect", …
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found; may be empty.
    pub detail: String,
    /// How long it took.
    pub took: Duration,
}

/// Who is told of each step as it ends.
pub type Tell<'a> = &'a (dyn Fn(Step) + Send + Sync);

/// Tests a place. An error says at which stage, and has hints; the steps before it were told.
pub fn run(place: &Resolved, access: &Access, tell: Tell<'_>) -> Result<(), Problem> {
    let steps = Steps { tell, open: Mutex::new(None) };
    let tested = match &place.place {
        Place::Local(path) => local(&absolute(path), &steps),
        Place::Sftp(at) => {
            let pool = sftp::pool(at, &place.options, access)?;
            pool.block_on(remote(&pool, &steps))
        }
        Place::Stream | Place::S3(_) => Err(place.refused("place to test")),
    };
    match tested {
        Ok(()) => steps.end(Outcome::Passed, ""),
        Err(_) => steps.end(Outcome::Failed, ""),
    }
    tested
}

/// The step at hand, and those who want to know.
struct Steps<'a> {
    tell: Tell<'a>,
    open: Mutex<Option<(&'static str, Instant)>>,
}

impl Steps<'_> {
    /// Begins a step; the one before has passed.
    fn begin(&self, name: &'static str) {
        self.pass("");
        if let Ok(mut open) = self.open.lock() {
            *open = Some((name, Instant::now()));
        }
    }

    fn pass(&self, detail: impl Into<String>) {
        self.end(Outcome::Passed, detail);
    }

    fn end(&self, outcome: Outcome, detail: impl Into<String>) {
        let open = self.open.lock().ok().and_then(|mut open| open.take());
        let Some((name, since)) = open else { return };
        (self.tell)(Step { name, outcome, detail: detail.into(), took: since.elapsed() });
    }
}

async fn remote(pool: &Pool, steps: &Steps<'_>) -> Result<(), Problem> {
    let connector = pool.connector();
    let session = connector
        .connect(&|step| steps.begin(stage_name(step.stage)))
        .await
        .map_err(|e| catalogue::ssh(&e))?;
    steps.pass(facts(session.facts()));
    steps.begin(stage_name(Stage::Channel));
    let stream = session.sftp().await.map_err(|e| catalogue::ssh(&e))?;
    let report = stream.report();
    let Ok(client) = Client::connect(stream, &ClientOptions::default()).await else {
        return Err(catalogue::ssh(&report.error(b"").await));
    };
    let since = Instant::now();
    let home = client.realpath(b".").await.map_err(|e| failed("ask for the home directory", e))?;
    let extensions = client.extensions().len();
    steps.pass(format!(
        "{extensions} extensions, {} ms a request, home is {}",
        since.elapsed().as_millis(),
        printable(&home)
    ));

    steps.begin("directory");
    let base = match pool.options().path.strip_prefix(b"~") {
        Some(below) => [&home[..], below].concat(),
        None => pool.options().path.clone(),
    };
    let (directory, is_there) = nearest(&client, &base).await?;
    steps.pass(match is_there {
        true => printable(&base),
        false => format!("{} is not there yet; {} is", printable(&base), printable(&directory)),
    });
    if !is_file(&client, &directory).await? {
        probe(&client, &directory, steps).await?;
    }
    steps.begin("free space");
    match client.file_system(&directory).await {
        Ok(found) => steps.pass(format!("{} of {}", size(found.available()), size(found.total()))),
        Err(_) => steps.end(Outcome::Limited, "the server does not tell"),
    }
    session.close().await;
    Ok(())
}

fn facts(facts: &SessionFacts) -> String {
    let mut parts = Vec::new();
    if !facts.server_version.is_empty() {
        parts.push(printable(facts.server_version.as_bytes()));
        parts.push(facts.cipher.clone());
    }
    if let Some(key) = &facts.host_key {
        parts.push(format!("host key {} {}", key.algorithm, key.fingerprint));
    }
    if let Some(key) = &facts.key {
        parts.push(format!("signed in with {} {}", key.algorithm, key.fingerprint));
    }
    parts.join(", ")
}

/// The place, or the nearest directory above it that is there.
async fn nearest(client: &Client, base: &[u8]) -> Result<(Vec<u8>, bool), Problem> {
    let mut path = base;
    loop {
        match client.stat(path).await {
            Ok(_) => return Ok((path.to_vec(), path.len() == base.len())),
            Err(e) if e.kind == ClientErrorKind::NotFound && path.len() > 1 => {
                let end = path.iter().rposition(|c| *c == b'/').unwrap_or(0);
                path = path.get(..end.max(1)).unwrap_or(b"/");
            }
            Err(e) => return Err(failed("look at", e)),
        }
    }
}

async fn is_file(client: &Client, path: &[u8]) -> Result<bool, Problem> {
    use holdfast_connectors::sftp::client::FileKind;
    let found = client.stat(path).await.map_err(|e| failed("look at", e))?;
    Ok(found.kind().is_some_and(|kind| kind == FileKind::File))
}

/// Writes, reads, renames and deletes a file. Not being allowed to write is no failure: a source
/// need not be.
async fn probe(client: &Client, directory: &[u8], steps: &Steps<'_>) -> Result<(), Problem> {
    let in_directory = |name: &str| {
        let slash = if directory.ends_with(b"/") { "" } else { "/" };
        [directory, slash.as_bytes(), name.as_bytes()].concat()
    };
    let unique = unique()?;
    let (one, two) =
        (in_directory(&format!(".tmp-{unique}")), in_directory(&format!(".tmp-{unique}b")));
    steps.begin("write");
    let bytes = noise(SPEED);
    let since = Instant::now();
    let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    let file = match client.open(&one, flags, &Attributes::with_permissions(0o600)).await {
        Ok(file) => file,
        Err(e) if e.kind == ClientErrorKind::PermissionDenied => {
            steps.end(Outcome::Limited, "not allowed: it can be a source, and nothing else");
            return Ok(());
        }
        Err(e) => return Err(failed("write", e)),
    };
    let written = async {
        file.write_at(0, &bytes).await.map_err(|e| failed("write", e))?;
        file.close().await.map_err(|e| failed("write", e))?;
        steps.pass(rate(bytes.len(), since.elapsed()));
        steps.begin("read");
        let since = Instant::now();
        let file = client.open(&one, OpenFlags::READ, &Attributes::default()).await;
        let file = file.map_err(|e| failed("read", e))?;
        let read = file.read_range(0, bytes.len()).await.map_err(|e| failed("read", e))?;
        file.close().await.map_err(|e| failed("read", e))?;
        if read != bytes {
            let text = format!("{} came back with other bytes", printable(&one));
            return Err(Problem::new(Class::Damage, text));
        }
        steps.pass(rate(bytes.len(), since.elapsed()));
        steps.begin("rename");
        client.rename(&one, &two).await.map_err(|e| failed("rename", e))?;
        steps.begin("delete");
        client.remove(&two).await.map_err(|e| failed("delete", e))?;
        match client.stat(&two).await {
            Err(e) if e.kind == ClientErrorKind::NotFound => Ok(()),
            _ => Err(Problem::new(Class::Unsupported, "what was deleted is still there")),
        }
    };
    let outcome = written.await;
    if outcome.is_err() {
        let _ = client.remove(&one).await;
        let _ = client.remove(&two).await;
    }
    outcome
}

fn failed(what: &'static str, error: ClientError) -> Problem {
    let object = printable(&error.path);
    catalogue::sftp(&SftpError::from(error), what, &object)
}

fn local(path: &Path, steps: &Steps<'_>) -> Result<(), Problem> {
    steps.begin("directory");
    let directory = path.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/"));
    std::fs::read_dir(directory).map_err(|e| catalogue::io("list", directory, &e))?;
    let shown = path.display();
    steps.pass(match directory == path {
        true => shown.to_string(),
        false => format!("{shown} is not there yet; {} is", directory.display()),
    });
    steps.begin("write");
    let unique = unique()?;
    let (one, two) =
        (directory.join(format!(".tmp-{unique}")), directory.join(format!(".tmp-{unique}b")));
    let bytes = noise(SPEED);
    let since = Instant::now();
    let written = || -> std::io::Result<()> {
        let mut file = std::fs::File::create_new(&one)?;
        file.write_all(&bytes)?;
        file.sync_all()
    };
    let probe = || -> Result<(), Problem> {
        match written() {
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                steps.end(Outcome::Limited, "not allowed: it can be a source, and nothing else");
                return Ok(());
            }
            other => other.map_err(|e| catalogue::io("write", &one, &e))?,
        }
        steps.pass(rate(bytes.len(), since.elapsed()));
        steps.begin("read");
        let since = Instant::now();
        let read = std::fs::read(&one).map_err(|e| catalogue::io("read", &one, &e))?;
        if read != bytes {
            let text = format!("{} came back with other bytes", one.display());
            return Err(Problem::new(Class::Damage, text));
        }
        steps.pass(rate(bytes.len(), since.elapsed()));
        steps.begin("rename");
        std::fs::rename(&one, &two).map_err(|e| catalogue::io("rename", &one, &e))?;
        steps.begin("delete");
        std::fs::remove_file(&two).map_err(|e| catalogue::io("delete", &two, &e))
    };
    let outcome = probe();
    if outcome.is_err() {
        let _ = std::fs::remove_file(&one);
        let _ = std::fs::remove_file(&two);
    }
    outcome?;
    steps.begin("free space");
    match rustix::fs::statvfs(directory) {
        Ok(found) => {
            let bytes = |blocks: u64| size(blocks.saturating_mul(found.f_frsize));
            steps.pass(format!("{} of {}", bytes(found.f_bavail), bytes(found.f_blocks)));
        }
        Err(_) => steps.end(Outcome::Limited, "the file system does not tell"),
    }
    Ok(())
}

fn rate(bytes: usize, took: Duration) -> String {
    let rate = bytes as f64 / took.as_secs_f64().max(1e-6);
    format!("{}/s", size(rate as u64))
}

fn unique() -> Result<String, Problem> {
    let random = crypto::random::<8>()
        .map_err(|e| Problem::new(Class::Internal, "the system gives no random bytes").cause(e))?;
    Ok(format!("test-{:016x}", u64::from_le_bytes(random)))
}

/// Bytes that nothing on the way can compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}
