//! The test of a bucket: the way there, who may do what, and what the server accepts without doing
//! it. The keys need not be allowed everything: what they lack is told, and its use.

use std::ops::ControlFlow;
use std::time::Instant;

use bytes::Bytes;
use holdfast_connectors::s3::client::{Class as S3, ListedPage, Put, S3Client, Stage};
use holdfast_engine::hash::Sha256;

use super::{Outcome, SPEED, Steps, came_back_changed, noise, rate, unique};
use crate::catalogue::{self, s3_stage};
use crate::config::Options;
use crate::location::S3Location;
use crate::problem::Problem;
use crate::s3;
use crate::text::printable;

/// Bytes of the object that shows what is allowed.
const SMALL: &[u8] = b"written by holdfast test; it can be deleted\n";

pub(super) fn test(
    place: &S3Location,
    options: &Options,
    steps: &Steps<'_>,
) -> Result<(), Problem> {
    steps.begin(s3_stage(Stage::Settings));
    let client = s3::client(place, options)?;
    client.block_on(remote(&client, steps))
}

async fn remote(client: &S3Client, steps: &Steps<'_>) -> Result<(), Problem> {
    if !reach(client, steps).await? {
        return Ok(());
    }
    let key = client.key(&format!(".tmp-{}", unique()?));
    if !write(client, &key, steps).await? {
        return Ok(());
    }
    let tested = async {
        read(client, &key, steps).await?;
        conditional_write(client, &key, steps).await;
        if !delete(client, &key, steps).await? {
            return Ok(());
        }
        if let Some(class) = client.options().storage_class.clone() {
            storage_class(client, &key, class, steps).await?;
        }
        speed(client, &key, steps).await
    };
    let tested = tested.await;
    if tested.is_err() {
        let _ = client.delete(&key).await;
    }
    tested
}

/// The way to the bucket. `false`: it is not there yet, and would be made.
async fn reach(client: &S3Client, steps: &Steps<'_>) -> Result<bool, Problem> {
    let mut page = 0;
    let prefix = client.key("");
    let found = client.head_bucket().await;
    // A HEAD is refused without words; a listing says why.
    let found = match found {
        Err(error) if error.stage < Stage::Request => Err(error),
        _ => {
            let mut first = |listed: ListedPage| {
                page = listed.objects.len() + listed.prefixes.len();
                ControlFlow::Break(())
            };
            client.list(&prefix, true, None, &mut first).await
        }
    };
    let reached = found.as_ref().err().map_or(Stage::Request, |error| error.stage);
    let way = [Stage::Resolve, Stage::Connect, Stage::Tls];
    for stage in way {
        let is_used = stage != Stage::Tls || client.options().use_tls;
        if is_used && reached >= stage {
            steps.begin(s3_stage(stage));
        }
    }
    if reached < Stage::Request {
        return found.map(|()| true).map_err(|error| catalogue::s3(&error));
    }
    steps.begin("bucket");
    match found {
        Err(error) if error.class == S3::NoSuchBucket && client.options().create_bucket => {
            steps.end(Outcome::Limited, "it is not there yet; `create` will make it");
            return Ok(false);
        }
        // Writing needs no listing, all else does.
        other => other.map_err(|error| catalogue::s3(&error))?,
    }
    let region = client.region().unwrap_or_default();
    let since = Instant::now();
    let _ = client.head_bucket().await;
    let millis = since.elapsed().as_millis();
    steps.pass(format!("region {}, {millis} ms a request", printable(region.as_bytes())));
    steps.begin("list");
    steps.pass(match page {
        0 => "nothing there yet".to_owned(),
        _ => format!("{page} entries on the first page"),
    });
    Ok(true)
}

/// Writes a small object. `false`: that is not allowed.
async fn write(client: &S3Client, key: &str, steps: &Steps<'_>) -> Result<bool, Problem> {
    steps.begin("write");
    let how = Put { sha256: Some(*Sha256::of(SMALL).as_bytes()), ..Put::default() };
    match client.put(key, Bytes::from_static(SMALL), &how).await {
        Ok(_) => Ok(true),
        Err(error) if error.class == S3::AccessDenied => {
            steps.end(Outcome::Limited, "not allowed: it can be a source, and nothing else");
            Ok(false)
        }
        Err(error) => Err(catalogue::s3(&error)),
    }
}

async fn read(client: &S3Client, key: &str, steps: &Steps<'_>) -> Result<(), Problem> {
    steps.begin("read");
    match client.get(key, None).await {
        Ok(object) if object.bytes == SMALL => Ok(()),
        Ok(_) => Err(came_back_changed(&printable(key.as_bytes()))),
        Err(error) => Err(catalogue::s3(&error)),
    }
}

/// Whether a second object of the same name is refused where that is asked for. Nothing relies on
/// it: names of objects are never used twice.
async fn conditional_write(client: &S3Client, key: &str, steps: &Steps<'_>) {
    steps.begin("conditional write");
    let how = Put { only_if_absent: true, ..Put::default() };
    match client.put(key, Bytes::from_static(SMALL), &how).await {
        Err(error) if error.class == S3::PreconditionFailed => steps.pass("honoured"),
        Err(_) => steps.end(Outcome::Limited, "refused; Holdfast does without"),
        Ok(_) => steps.end(Outcome::Limited, "accepted and not honoured; Holdfast does without"),
    }
}

/// Deletes what was written. `false`: that is not allowed. Then, whether it can be overwritten.
async fn delete(client: &S3Client, key: &str, steps: &Steps<'_>) -> Result<bool, Problem> {
    steps.begin("delete");
    let why = match client.delete(key).await {
        Ok(()) => {
            steps.pass(super::CAN_DELETE);
            return Ok(true);
        }
        Err(error) if error.class == S3::AccessDenied => "not allowed",
        Err(error) if error.class == S3::Locked => "locked",
        Err(error) => return Err(catalogue::s3(&error)),
    };
    steps.end(Outcome::Limited, super::cannot_delete(why, &printable(key.as_bytes())));
    steps.begin("overwrite");
    match client.put(key, Bytes::from_static(SMALL), &Put::default()).await {
        Ok(_) => steps.end(
            Outcome::Limited,
            "allowed: without versions or an object lock, what is there can be destroyed that way",
        ),
        Err(_) => {
            steps.pass("not allowed either: what is there is safe from whoever has this access");
        }
    }
    Ok(false)
}

/// Whether the server knows the storage class of data packs, and keeps it.
async fn storage_class(
    client: &S3Client,
    key: &str,
    class: String,
    steps: &Steps<'_>,
) -> Result<(), Problem> {
    steps.begin("storage class");
    let how = Put { storage_class: Some(class.clone()), ..Put::default() };
    let stored = client.put(key, Bytes::from_static(SMALL), &how).await;
    stored.map_err(|error| catalogue::s3(&error))?;
    let found = client.head(key).await.map_err(|error| catalogue::s3(&error))?;
    let class = printable(class.as_bytes());
    match found.storage_class {
        Some(found) if found == class => steps.pass(class),
        None if class == "STANDARD" => steps.pass(class),
        _ => steps.end(Outcome::Limited, format!("{class} is accepted and not kept")),
    }
    client.delete(key).await.map_err(|error| catalogue::s3(&error))
}

async fn speed(client: &S3Client, key: &str, steps: &Steps<'_>) -> Result<(), Problem> {
    steps.begin("speed");
    let bytes = Bytes::from(noise(SPEED));
    let how = Put { sha256: Some(*Sha256::of(&bytes).as_bytes()), ..Put::default() };
    let since = Instant::now();
    let stored = client.put(key, bytes.clone(), &how).await;
    stored.map_err(|error| catalogue::s3(&error))?;
    let up = rate(bytes.len(), since.elapsed());
    let since = Instant::now();
    let object = client.get(key, None).await.map_err(|error| catalogue::s3(&error))?;
    if object.bytes != bytes {
        return Err(came_back_changed(&printable(key.as_bytes())));
    }
    steps.pass(format!("{up} up, {} down", rate(bytes.len(), since.elapsed())));
    client.delete(key).await.map_err(|error| catalogue::s3(&error))
}
