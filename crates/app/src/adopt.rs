//! Repositories that work while nobody is there to type: a person types the passphrase once, and
//! the service gets a key file of its own. The passphrase is kept nowhere.

use std::sync::Arc;

use holdfast_engine::Error;
use holdfast_engine::format::keyslot::Secret;
use holdfast_engine::repo::Repository;
use holdfast_engine::repo::open::{self, CreateOptions, OpenOptions};
use holdfast_engine::storage::Storage;

use crate::ask::Nobody;
use crate::catalogue;
use crate::jobs;
use crate::open::open_storage;
use crate::paths::Paths;
use crate::problem::{Class, Problem};
use crate::resolve::Resolved;
use crate::{times, unattended};

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

/// Makes a repository at the location `name`, with one slot for the passphrase and one for a key
/// file of this machine's service.
pub fn create(paths: &Paths, name: &str, passphrase: Secret) -> Result<Repository, Problem> {
    let place = named(paths, name)?;
    let storage = storage(paths, &place)?;
    open::check_vacant(&*storage).map_err(explain)?;
    let options = CreateOptions {
        secrets: vec![(passphrase, "passphrase".into())],
        host: jobs::host(),
        time: times::now(),
        cache: paths.cache.clone(),
        ..CreateOptions::default()
    };
    let repository = open::create(storage, options).map_err(explain)?;
    unattended::enroll(paths, name, &repository)?;
    Ok(repository)
}

/// Opens the repository at the location `name` with its passphrase, and gives this machine's
/// service a key file for it.
pub fn adopt(paths: &Paths, name: &str, passphrase: Secret) -> Result<Repository, Problem> {
    let place = named(paths, name)?;
    let storage = storage(paths, &place)?;
    let options = OpenOptions { secret: Some(passphrase), cache: paths.cache.clone() };
    let repository = open::open(storage, options).map_err(explain)?;
    unattended::enroll(paths, name, &repository)?;
    Ok(repository)
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
    use crate::config::Config;

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
        let made = create(&one, "disk", secret("right"))?;
        assert!(matches!(look(&one, "disk")?, Found::Open(_)));
        let again = create(&one, "disk", secret("right"));
        assert_eq!(again.err().map(|p| p.class), Some(Class::RepositoryExists));
        // Another machine knows no key yet.
        assert!(matches!(look(&two, "disk")?, Found::Locked));
        let wrong = adopt(&two, "disk", secret("wrong"));
        assert_eq!(wrong.err().map(|p| p.class), Some(Class::WrongPassphrase));
        assert_eq!(adopt(&two, "disk", secret("right"))?.id(), made.id());
        assert!(matches!(look(&two, "disk")?, Found::Open(_)));
        let labels = made.slots()?.into_iter().filter_map(|slot| slot.label);
        assert_eq!(labels.filter(|label| label.text.starts_with("service")).count(), 2);
        let text = std::fs::read_to_string(&one.config)?;
        assert!(!text.contains("right"), "{text}");
        Ok(())
    }
}
