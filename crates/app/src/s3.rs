//! S3 as the configuration describes it: from a location and its options to a client, and what is
//! opened with it. Keys come from the options, or else from where Amazon's own programs look.

use std::sync::Arc;

use holdfast_connectors::s3::client::{Credentials, S3Client, S3Options, Sse};
use holdfast_connectors::s3::source::{S3Source, S3SourceOptions};
use holdfast_connectors::secret::Secret;
use holdfast_engine::ops::backup::RootSource;

use crate::access::runtime;
use crate::config::Options;
use crate::location::S3Location;
use crate::open::{OpenedSource, SourceContext};
use crate::problem::{Class, Problem};
use crate::resolve::{Place, Resolved};
use crate::{catalogue, roots};

/// What makes requests to a place. Nothing is connected yet; secrets that the options name are
/// fetched now.
pub fn client(place: &S3Location, options: &Options) -> Result<S3Client, Problem> {
    let options = connection(place, options)?;
    S3Client::new(runtime()?, options).map_err(|error| catalogue::s3(&error))
}

/// What is backed up at a bucket, or below a prefix of it.
pub fn source(
    at: &S3Location,
    place: &Resolved,
    context: &SourceContext<'_>,
) -> Result<OpenedSource, Problem> {
    let mut never = Vec::new();
    if let Some(Place::S3(repository)) = context.repository.map(|r| &r.place)
        && (&repository.endpoint, repository.port) == (&at.endpoint, at.port)
        && repository.bucket == at.bucket
    {
        never.push(repository.prefix.clone());
    }
    let client = client(at, &place.options)?;
    let path = S3Source::new(client.clone(), S3SourceOptions::default())
        .map_err(|rule| roots::bad_rule(&rule))?
        .snapshot_path();
    let given = context.options;
    let rules = given.excludes.iter().map(|rule| roots::relative_rule(rule, &path));
    let options = S3SourceOptions {
        excludes: rules.collect(),
        exclude_larger_than: given.exclude_larger_than,
        exclude_caches: given.exclude_caches,
        never,
    };
    let source = S3Source::new(client, options).map_err(|rule| roots::bad_rule(&rule))?;
    let ends = path.iter().enumerate().skip(1).filter(|(_, c)| **c == b'/').map(|(at, _)| at);
    let ancestors = ends.filter_map(|end| path.get(..end)).map(|above| {
        let name = above.rsplit(|c| *c == b'/').next().unwrap_or_default();
        (name.to_vec(), S3Source::directory_metadata())
    });
    let ancestors = ancestors.collect();
    let root = RootSource { path, source: Arc::new(source), ancestors, stream: false };
    let (kind, host) = place.place.origin();
    Ok(OpenedSource { root, kind, host, note: None })
}

/// What the connector has to know of a place.
pub fn connection(place: &S3Location, options: &Options) -> Result<S3Options, Problem> {
    let text = |name| options.text(name).map(String::from);
    let defaults = S3Options::default();
    Ok(S3Options {
        endpoint: place.endpoint.clone(),
        port: place.port,
        bucket: place.bucket.clone(),
        prefix: place.prefix.clone(),
        region: text("region"),
        use_tls: options.is_on("use_tls"),
        tls_ca_file: options.path("tls_ca_file").map(Into::into),
        tls_insecure_no_verify: options.is_on("tls_insecure_no_verify"),
        virtual_host: options.flag("virtual_host"),
        credentials: credentials(options)?,
        storage_class: text("storage_class"),
        sse: options.text("sse").map(encryption).transpose()?,
        object_lock: options.number("object_lock").and_then(|days| u32::try_from(days).ok()),
        create_bucket: options.is_on("create_bucket"),
        connections: options.number("connections").and_then(|n| usize::try_from(n).ok()),
        timeout: options.duration("timeout").unwrap_or(defaults.timeout),
    })
}

fn credentials(options: &Options) -> Result<Credentials, Problem> {
    let has = |name| options.has(name);
    let wrong = |text: &str| Problem::new(Class::Configuration, text);
    let missing = |given: &str, missing: &str| {
        wrong(&format!("{given} is set, and {missing} is not"))
            .hint(format!("to be asked for it: holdfast config repository set NAME {missing}"))
    };
    match (has("access_key"), has("secret_access_key")) {
        (true, false) => return Err(missing("access_key", "secret_access_key")),
        (false, true) => return Err(missing("secret_access_key", "access_key")),
        (false, false) if has("session_token") => {
            return Err(missing("session_token", "access_key"));
        }
        (true, true) if has("profile") => {
            return Err(wrong("both a profile and an access_key are set")
                .hint("keep one: holdfast config repository unset NAME profile"));
        }
        _ => {}
    }
    let key = options.secret("access_key")?;
    let secret = options.secret("secret_access_key")?;
    let (Some(key), Some(secret)) = (key, secret) else {
        return Ok(match options.text("profile") {
            Some(profile) => Credentials::Profile(profile.to_owned()),
            None => Credentials::Environment,
        });
    };
    Ok(Credentials::Keys {
        access_key: key.to_string(),
        secret_access_key: Secret::from(secret),
        session_token: options.secret("session_token")?.map(Secret::from),
    })
}

fn encryption(text: &str) -> Result<Sse, Problem> {
    match text.split_at_checked("aws:kms".len()) {
        _ if text == "AES256" => Ok(Sse::S3),
        Some(("aws:kms", "")) => Ok(Sse::Kms(None)),
        Some(("aws:kms", key)) if key.len() > 1 && key.starts_with(':') => {
            Ok(Sse::Kms(key.get(1..).map(String::from)))
        }
        _ => Err(Problem::new(Class::Configuration, "sse is no encryption that S3 knows")
            .hint("write AES256, aws:kms, or aws:kms:KEY")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Location;

    fn options(text: &str) -> Result<S3Options, String> {
        let attempt = || -> Result<S3Options, Box<dyn std::error::Error>> {
            let dir = tempfile::tempdir()?;
            let path = dir.path().join("config.toml");
            let location = "s3://localhost:9000/bucket/a/b";
            std::fs::write(&path, format!("[repository.n]\nlocation = \"{location}\"\n{text}"))?;
            let config = crate::Config::load(&path, Some("/home/a".into()))?;
            let Location::S3(place) = Location::parse(location.as_ref())? else {
                return Err("no s3".into());
            };
            Ok(connection(&place, &config.expect("n")?.options()?)?)
        };
        attempt().map_err(|e| e.to_string())
    }

    #[test]
    fn what_the_configuration_says_reaches_the_client() -> Result<(), String> {
        let plain = options("")?;
        assert!(plain.use_tls && !plain.create_bucket && plain.virtual_host.is_none());
        assert!(matches!(plain.credentials, Credentials::Environment));
        assert_eq!((plain.port, plain.prefix.as_str()), (Some(9000), "a/b"));
        let all = options(
            "use_tls = false\ntls_ca_file = '~/ca'\nvirtual_host = true\nregion = 'eu'\n\
             access_key = 'AK'\nsecret_access_key = 'hunter2'\nsession_token_command = 'echo t'\n\
             storage_class = 'COLD'\nsse = 'aws:kms:arn:1'\nobject_lock = 30\n\
             create_bucket = true\nconnections = 8\ntimeout = '2m'\ntls_insecure_no_verify = true\n",
        )?;
        assert!(!all.use_tls && all.create_bucket && all.tls_insecure_no_verify);
        assert_eq!(all.tls_ca_file.as_deref(), Some(std::path::Path::new("/home/a/ca")));
        assert_eq!((all.virtual_host, all.object_lock), (Some(true), Some(30)));
        assert_eq!((all.connections, all.timeout.as_secs()), (Some(8), 120));
        assert_eq!(all.sse, Some(Sse::Kms(Some("arn:1".into()))));
        let shown = format!("{all:?}");
        let Credentials::Keys { access_key, secret_access_key, session_token } = all.credentials
        else {
            return Err("no keys".into());
        };
        assert_eq!((access_key.as_str(), secret_access_key.expose()), ("AK", "hunter2"));
        assert_eq!(session_token.as_ref().map(Secret::expose), Some("t"));
        assert!(!shown.contains("hunter2"), "{shown}");
        let profile = options("profile = 'work'")?.credentials;
        assert!(matches!(profile, Credentials::Profile(name) if name == "work"));
        Ok(())
    }

    #[test]
    fn keys_come_in_pairs_and_from_one_place() {
        for (text, part) in [
            ("access_key = 'AK'", "secret_access_key is not"),
            ("secret_access_key = 'x'", "access_key is not"),
            ("session_token = 'x'", "access_key is not"),
            ("access_key = 'AK'\nsecret_access_key = 'x'\nprofile = 'p'", "both a profile"),
            ("sse = 'aws:kms:'", "no encryption"),
            ("sse = 'aes256'", "no encryption"),
        ] {
            assert!(options(text).is_err_and(|m| m.contains(part)), "{text}");
        }
    }
}
