//! The test of a directory on an SFTP server.

use std::time::Instant;

use holdfast_connectors::sftp::client::{
    Attributes, Client, ClientError, ClientErrorKind, ClientOptions, OpenFlags,
};
use holdfast_connectors::sftp::pool::{Pool, SftpError};
use holdfast_connectors::sftp::ssh::{SessionFacts, Stage};

use super::{
    CAN_DELETE, Outcome, SPEED, Steps, came_back_changed, cannot_delete, noise, rate, unique,
};
use crate::catalogue::{self, stage_name};
use crate::problem::{Class, Problem};
use crate::text::{printable, size};

pub(super) async fn test(pool: &Pool, steps: &Steps<'_>) -> Result<(), Problem> {
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
            return Err(came_back_changed(&printable(&one)));
        }
        steps.pass(rate(bytes.len(), since.elapsed()));
        steps.begin("rename");
        client.rename(&one, &two).await.map_err(|e| failed("rename", e))?;
        steps.begin("delete");
        match client.remove(&two).await {
            Err(e) if e.kind == ClientErrorKind::PermissionDenied => {
                steps.end(Outcome::Limited, cannot_delete("not allowed", &printable(&two)));
                overwrite(client, &two, steps).await;
                return Ok(());
            }
            other => other.map_err(|e| failed("delete", e))?,
        }
        steps.pass(CAN_DELETE);
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

/// Whether what cannot be deleted can be overwritten.
async fn overwrite(client: &Client, path: &[u8], steps: &Steps<'_>) {
    steps.begin("overwrite");
    match client.open(path, OpenFlags::WRITE, &Attributes::default()).await {
        Ok(file) => {
            let _ = file.close().await;
            steps.end(Outcome::Limited, "allowed: what is there can be destroyed that way");
        }
        Err(_) => {
            steps.pass("not allowed either: what is there is safe from whoever has this access");
        }
    }
}

fn failed(what: &'static str, error: ClientError) -> Problem {
    let object = printable(&error.path);
    catalogue::sftp(&SftpError::from(error), what, &object)
}
