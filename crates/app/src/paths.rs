//! Where the things of this user (or of this machine, as root) are, and how named locations are
//! found and repositories opened without a command line: by the scheduler, and by the console.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

use holdfast_engine::repo::{OpenOptions, Repository, open};

use crate::access::Access;
use crate::ask::Ask;
use crate::cache::{self, own_directory, path_in};
use crate::catalogue;
use crate::config::{self, Config, Options};
use crate::location::{Location, absolute};
use crate::open::open_storage;
use crate::plans::Plan;
use crate::problem::{Class, Problem};
use crate::resolve::{Place, Resolved};
use crate::secrets::Sources;
use crate::text::shell_word;

/// Files and directories of ours.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The configuration file.
    pub config: PathBuf,
    /// What may not be lost: run history, sign-ins, key files of the service. Mode 0700.
    pub state: PathBuf,
    /// Disposable copies; `None`: none are kept.
    pub cache: Option<PathBuf>,
    /// What `~/` means.
    pub home: Option<PathBuf>,
}

impl Paths {
    /// As the environment says: `HOLDFAST_CONFIG`, `HOLDFAST_STATE_DIR`, `HOLDFAST_CACHE_DIR`, else
    /// the places that belong to root or to this user. Without a home there is none.
    pub fn locate(
        config: Option<PathBuf>,
        environment: &dyn Fn(&str) -> Option<OsString>,
        is_root: bool,
    ) -> Result<Self, Problem> {
        let nowhere = || {
            Problem::usage("there is no place for configuration and history, since HOME is not set")
                .hint("set HOME, or HOLDFAST_CONFIG and HOLDFAST_STATE_DIR")
        };
        let state = match path_in(environment, "HOLDFAST_STATE_DIR") {
            Some(path) => absolute(&path),
            None if is_root => PathBuf::from("/var/lib/holdfast"),
            None => {
                own_directory(environment, "XDG_STATE_HOME", ".local/state").ok_or_else(nowhere)?
            }
        };
        Ok(Self {
            config: config::locate(config, environment, is_root).ok_or_else(nowhere)?,
            state,
            cache: cache::directory(None, environment, is_root),
            home: path_in(environment, "HOME"),
        })
    }

    /// The configuration as it is now; a file that is not there is empty.
    pub fn load_config(&self) -> Result<Config, Problem> {
        Config::load(&self.config, self.home.clone())
    }

    /// How places over a network are reached, with `ask` to answer questions. Accepted host keys
    /// are kept beside the configuration.
    pub fn access(&self, ask: Arc<dyn Ask>) -> Access {
        let mut access = Access::new(ask);
        access.home.clone_from(&self.home);
        access.known_hosts = Some(self.config.with_file_name("known_hosts"));
        access
    }

    /// A location as written in a plan or a form: `@name`, a path, sftp:// or s3://.
    pub fn resolve(&self, text: &OsStr, config: &Config) -> Result<Resolved, Problem> {
        Resolved::new(&Location::parse(text)?, Some(config), &Options::default())
    }

    /// What to type so that the passphrase of the repository `at` is asked for once. It names a plan
    /// with the repository that this has already: nothing of it changes, and all its repositories
    /// are looked at.
    pub fn typed_once(&self, at: &str) -> String {
        let config = self.load_config().ok();
        let mut plans = config.iter().flat_map(Config::plans).filter_map(|(_, plan)| plan.ok());
        let is_its = |plan: &Plan| {
            plan.repository_location() == at || plan.mirror_locations().iter().any(|of| of == at)
        };
        let (plan, to) = match plans.find(is_its) {
            Some(plan) => (shell_word(&plan.name), shell_word(plan.repository_location())),
            None => ("PLAN".into(), "REPOSITORY, which is the one that it has".into()),
        };
        format!("to type it once, in the console, or by: holdfast plan edit {plan} --to {to}")
    }

    /// Opens the repository at `place` with what its options name (key file, passphrase by file,
    /// command, environment or keyring), asking nobody.
    pub fn open_repository(
        &self,
        place: &Resolved,
        access: &Access,
    ) -> Result<Repository, Problem> {
        if place.place == Place::Stream {
            return Err(place.refused("repository"));
        }
        let at = place.name.as_ref().map_or_else(|| place.to_string(), |name| format!("@{name}"));
        let explain = |error| catalogue::explain(&error, Some(at.as_ref()));
        let storage = open_storage(place, access)?;
        let probe = open::probe(&*storage).map_err(explain)?;
        let secret = Sources::default().with_options(&place.options).find()?;
        if secret.is_none() && probe.encrypted {
            let shown = storage.location();
            let problem = Problem::new(
                Class::PassphraseNeeded,
                format!("no key file and no passphrase is set for the repository {shown}"),
            );
            return Err(problem
                .hint(self.typed_once(&at))
                .hint("or set repository_key_file, or a passphrase by file, command or keyring"));
        }
        open::open_probed(storage, probe, OpenOptions { secret, cache: self.cache.clone() })
            .map_err(explain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_type_changes_no_plan() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = |name: &str| dir.path().join(name);
        let paths = Paths { config: path("c"), state: path("s"), cache: None, home: None };
        let line = "[plan.home]\nsources = [\"/a\"]\nrepository = \"nas\"\n";
        std::fs::write(&paths.config, format!("{line}mirror = [\"a\", \"b\"]\n"))?;
        for at in ["@nas", "@a", "@b"] {
            assert!(paths.typed_once(at).ends_with(": holdfast plan edit home --to @nas"), "{at}");
        }
        assert!(paths.typed_once("@c").contains("plan edit PLAN --to REPOSITORY"));
        Ok(())
    }

    #[test]
    fn the_environment_goes_before_root_and_root_before_home() -> Result<(), Problem> {
        let none = |_: &str| None;
        let home = |name: &str| (name == "HOME").then(|| "/home/a".into());
        let own = |name: &str| match name {
            "HOLDFAST_STATE_DIR" => Some("/s".into()),
            other => home(other),
        };
        assert!(Paths::locate(None, &none, false).is_err());
        assert_eq!(Paths::locate(None, &none, true)?.state, PathBuf::from("/var/lib/holdfast"));
        let paths = Paths::locate(None, &home, false)?;
        assert_eq!(paths.state, PathBuf::from("/home/a/.local/state/holdfast"));
        assert_eq!(paths.config, PathBuf::from("/home/a/.config/holdfast/config.toml"));
        assert_eq!(Paths::locate(None, &own, true)?.state, PathBuf::from("/s"));
        Ok(())
    }
}
