//! Repositories that work while nobody is there to type: a person types the passphrase once, and
//! the service gets a key file of its own. The passphrase is kept nowhere.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use holdfast_engine::Error;
use holdfast_engine::format::keyslot::{Cost, Secret};
use holdfast_engine::repo::Repository;
use holdfast_engine::repo::open::{self, CreateOptions, OpenOptions};
use holdfast_engine::storage::Storage;

use crate::ask::Nobody;
use crate::catalogue;
use crate::config::Config;
use crate::open::open_storage;
use crate::paths::Paths;
use crate::problem::{Class, Problem};
use crate::resolve::Resolved;
use crate::secrets::read_or_make_key_file;
use crate::times;

/// What stands at a named location.
#[derive(Debug)]
pub enum Found {
    /// Nothing: a repository can be made.
    Vacant,
    /// A repository that opens without asking.
    Open(Box<Repository>),
    /// A repository that asks for its passphrase.
    Locked,
}

/// Looks what stands at the location `name`. Errors: it cannot be reached, or holds something else.
pub fn look(paths: &Paths, name: &str) -> Result<Found, Problem> {
    let place = named(paths, name)?;
    let storage = storage(paths, &place)?;
    match open::probe(&*storage) {
        Ok(_) => {}
        Err(Error::NoRepository { .. }) => {
            open::check_vacant(&*storage).map_err(explain)?;
            return Ok(Found::Vacant);
        }
        Err(e) => return Err(explain(e)),
    }
    match paths.open_repository(&place, &paths.access(Arc::new(Nobody))) {
        Ok(repository) => Ok(Found::Open(Box::new(repository))),
        Err(problem) if problem.class == Class::PassphraseNeeded => Ok(Found::Locked),
        Err(problem) => Err(problem),
    }
}

/// Whether the configuration says what opens the repository at `place`, if anything is needed.
pub fn is_ready(place: &Resolved) -> bool {
    place.options.has("passphrase") || place.options.path("repository_key_file").is_some()
}

/// Makes a repository at the location `name`, with one slot for the passphrase and one for a key
/// file of this machine's service. `host` is this machine's name.
pub fn create(
    paths: &Paths,
    name: &str,
    passphrase: Secret,
    host: &str,
) -> Result<Repository, Problem> {
    let place = named(paths, name)?;
    let storage = storage(paths, &place)?;
    open::check_vacant(&*storage).map_err(explain)?;
    let options = CreateOptions {
        secrets: vec![(passphrase, "passphrase".into())],
        host: host.to_owned(),
        time: times::now(),
        cache: paths.cache.clone(),
        ..CreateOptions::default()
    };
    let repository = open::create(storage, options).map_err(explain)?;
    enroll(paths, name, &repository, host)?;
    Ok(repository)
}

/// Opens the repository at the location `name` with its passphrase, and gives this machine's
/// service a key file for it. `host` is this machine's name.
pub fn adopt(
    paths: &Paths,
    name: &str,
    passphrase: Secret,
    host: &str,
) -> Result<Repository, Problem> {
    let place = named(paths, name)?;
    let storage = storage(paths, &place)?;
    let options = OpenOptions { secret: Some(passphrase), cache: paths.cache.clone() };
    let repository = open::open(storage, options).map_err(explain)?;
    enroll(paths, name, &repository, host)?;
    Ok(repository)
}

/// Makes it possible to open the repository of the location `name` without asking: a key file, a
/// key slot that it opens, and `repository_key_file` in the configuration. `repository` was opened
/// with what somebody typed. The key file, or `None` where the repository is not encrypted.
pub fn enroll(
    paths: &Paths,
    name: &str,
    repository: &Repository,
    host: &str,
) -> Result<Option<PathBuf>, Problem> {
    if !repository.config().is_encrypted() {
        return Ok(None);
    }
    let config = paths.load_config()?;
    let name = config.existing(name)?;
    let directory = paths.state.join("keys");
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(&directory);
    made.map_err(|e| catalogue::io("make", &directory, &e))?;
    // A name has no slash; a key of another repository that was called so stays what it is.
    let id = repository.id().short();
    let path = directory.join(format!("{name}-{id}.key"));
    let text = path.to_str().map(String::from).ok_or_else(|| {
        Problem::usage("the state directory's path must be UTF-8")
            .hint("set HOLDFAST_STATE_DIR to another")
    })?;
    let (secret, made) = read_or_make_key_file(&path)?;
    let known = config.expect(&name)?.options()?;
    if !made && known.path("repository_key_file") == Some(&path) {
        return Ok(Some(path));
    }
    let label = format!("service on {host}");
    repository.add_slot(&secret, Cost::default(), &label, host, times::now()).map_err(explain)?;
    Config::edit(&paths.config, paths.home.clone(), |config| {
        config.set(&name, "repository_key_file", &text).map(drop)
    })?;
    Ok(Some(path))
}

fn named(paths: &Paths, name: &str) -> Result<Resolved, Problem> {
    paths.resolve(format!("@{name}").as_ref(), &paths.load_config()?)
}

fn storage(paths: &Paths, place: &Resolved) -> Result<Arc<dyn Storage>, Problem> {
    open_storage(place, &paths.access(Arc::new(Nobody)))
}

fn explain(error: Error) -> Problem {
    catalogue::explain(&error, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::Passphrase(zeroize::Zeroizing::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_repository_is_made_or_adopted_once_and_opens_by_itself_from_then_on()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| Paths {
            config: dir.path().join(name).join("config.toml"),
            state: dir.path().join(name).join("state"),
            cache: None,
            home: None,
        };
        let (one, two) = (at("one"), at("two"));
        let store = dir.path().join("store");
        for paths in [&one, &two] {
            Config::edit(&paths.config, None, |config| {
                config.set("disk", "location", &store.to_string_lossy()).map(drop)
            })?;
        }
        assert!(matches!(look(&one, "disk")?, Found::Vacant));
        let made = create(&one, "disk", secret("right"), "tern")?;
        assert!(matches!(look(&one, "disk")?, Found::Open(_)));
        let again = create(&one, "disk", secret("right"), "tern");
        assert_eq!(again.err().map(|p| p.class), Some(Class::RepositoryExists));
        // Another machine knows no key yet.
        assert!(matches!(look(&two, "disk")?, Found::Locked));
        let wrong = adopt(&two, "disk", secret("wrong"), "gull");
        assert_eq!(wrong.err().map(|p| p.class), Some(Class::WrongPassphrase));
        assert_eq!(adopt(&two, "disk", secret("right"), "gull")?.id(), made.id());
        assert!(matches!(look(&two, "disk")?, Found::Open(_)));
        let labels = made.slots()?.into_iter().filter_map(|slot| slot.label);
        let labels: std::collections::BTreeSet<_> = labels.map(|label| label.text).collect();
        let expected = ["passphrase", "service on gull", "service on tern"].map(String::from);
        assert_eq!(labels, expected.into());
        let text = std::fs::read_to_string(&one.config)?;
        assert!(!text.contains("right"), "{text}");
        Ok(())
    }
}
