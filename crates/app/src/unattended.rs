//! Opening a repository when nobody is there to type: a key file of the service, in the state
//! directory, that opens a key slot of its own. The passphrase is never stored.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use holdfast_engine::format::keyslot::Cost;
use holdfast_engine::repo::Repository;

use crate::catalogue;
use crate::config::Config;
use crate::jobs::host;
use crate::paths::Paths;
use crate::problem::{Class, Problem};
use crate::resolve::Resolved;
use crate::secrets::read_or_make_key_file;
use crate::times;

/// Whether the configuration says what opens the repository at `place`, if anything is needed.
pub fn is_ready(place: &Resolved) -> bool {
    place.options.has("passphrase") || place.options.path("repository_key_file").is_some()
}

/// Makes it possible to open the repository of a named location without asking: a key file, a key
/// slot that it opens, and `repository_key_file` in the configuration. `repository` was opened with
/// what somebody typed. The key file, or `None` where the repository is not encrypted.
pub fn enroll(
    paths: &Paths,
    name: &str,
    repository: &Repository,
) -> Result<Option<PathBuf>, Problem> {
    if !repository.config().is_encrypted() {
        return Ok(None);
    }
    let name = paths.load_config()?.existing(name)?;
    let directory = paths.state.join("keys");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(|e| catalogue::io("make", &directory, &e))?;
    // A name has no slash; a key of another repository that was called so stays what it is.
    let id = repository.id().short();
    let path = directory.join(format!("{name}-{id}.key"));
    let text = path.to_str().map(String::from).ok_or_else(|| {
        Problem::new(Class::Configuration, "a path in the configuration must be UTF-8")
    })?;
    let (secret, made) = read_or_make_key_file(&path)?;
    let config = paths.load_config()?;
    let known = config.expect(&name)?.options()?;
    if !made && known.path("repository_key_file") == Some(&path) {
        return Ok(Some(path));
    }
    let label = format!("service of {}", host());
    repository
        .add_slot(&secret, Cost::default(), &label, &host(), times::now())
        .map_err(|e| catalogue::explain(&e, None))?;
    Config::edit(&paths.config, paths.home.clone(), |config| {
        config.set(&name, "repository_key_file", &text).map(drop)
    })?;
    Ok(Some(path))
}
