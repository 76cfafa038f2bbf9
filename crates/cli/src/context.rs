//! What every verb needs: the global options, the environment, the terminal, and the way to the
//! repository through its location and secret.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use holdfast_app::secrets::{self, Ask, Sources};
use holdfast_app::select::Spec;
use holdfast_app::text::printable_os;
use holdfast_app::{Location, Problem, cache, catalogue};
use holdfast_engine::Error;
use holdfast_engine::error::chain_text;
use holdfast_engine::format::keyslot::Secret;
use holdfast_engine::repo::snapshots::{Filter, SnapshotInfo};
use holdfast_engine::repo::{Index, OpenOptions, Repository, open};
use holdfast_engine::storage::Storage;

use crate::args::Global;
use crate::failure::{Failure, Result};
use crate::ui::{Ui, prompt::Terminal};

/// How often a person may try.
const TRIES: usize = 3;

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) ui: Ui,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        let ui = Ui::new(global.json, global.quiet, !global.no_progress);
        Self { global, ui }
    }

    /// Says how it ended, and with which code.
    pub(crate) fn finish(&self, result: Result) -> ExitCode {
        let result = result.and_then(|outcome| {
            self.ui.flush()?;
            Ok(outcome)
        });
        match result {
            Ok(outcome) => outcome.exit_code().into(),
            // Whoever read our output has had enough.
            Err(Failure::Output(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => {
                ExitCode::SUCCESS
            }
            Err(failure) => {
                let problem = failure.explain(self.at());
                self.ui.error(&problem);
                problem.exit_code().into()
            }
        }
    }

    /// The repository's location if it was written on the command line.
    pub(crate) fn at(&self) -> Option<&OsStr> {
        self.global.at.as_deref()
    }

    /// A command line for this repository, to be typed.
    pub(crate) fn line(&self, rest: &str) -> String {
        match self.at() {
            Some(at) => format!("holdfast at {} {rest}", holdfast_app::text::shell_word(at)),
            None => format!("holdfast {rest}"),
        }
    }

    /// Where the repository is: as written, as the environment says, or in the home directory.
    pub(crate) fn location(&self) -> Result<Location> {
        let chosen = self.at().map(OsString::from);
        let chosen = chosen.or_else(|| variable("HOLDFAST_REPOSITORY"));
        let location = match chosen {
            Some(text) => Location::parse(&text)?,
            // A default repository of the configuration will come in between.
            None => Location::Local(self.default_path()?),
        };
        location.local("repository")?;
        Ok(location)
    }

    /// Whether nobody said where the repository is.
    pub(crate) fn is_default_location(&self) -> bool {
        self.at().is_none() && variable("HOLDFAST_REPOSITORY").is_none()
    }

    fn default_path(&self) -> Result<PathBuf> {
        let home = variable("HOME").ok_or_else(|| {
            Problem::usage("no repository was named, and HOME is not set")
                .hint("write holdfast at LOCATION …, or set HOLDFAST_REPOSITORY")
        })?;
        Ok(PathBuf::from(home).join(".holdfast"))
    }

    /// The directory for disposable copies.
    pub(crate) fn cache(&self) -> Option<PathBuf> {
        if self.global.no_cache {
            return None;
        }
        let is_root = rustix::process::geteuid().is_root();
        cache::directory(self.global.cache_dir.clone(), &variable, is_root)
    }

    /// Where a secret may come from without asking.
    pub(crate) fn secret_sources(&self) -> Sources {
        if self.global.no_encryption {
            return Sources::default();
        }
        Sources {
            key_file: self.global.key_file.clone(),
            passphrase_file: self.global.passphrase_file.clone(),
            ..Sources::default()
        }
        .with_environment(&variable)
    }

    pub(crate) fn storage(&self) -> Result<Arc<dyn Storage>> {
        Ok(self.location()?.storage()?)
    }

    /// Opens the repository, asking for its passphrase if need be.
    pub(crate) fn open(&self) -> Result<Repository> {
        self.open_with_secret().map(|(repository, _)| repository)
    }

    /// Opens the repository; also what opened it.
    pub(crate) fn open_with_secret(&self) -> Result<(Repository, Option<Secret>)> {
        let storage = self.storage()?;
        let probe = open::probe(&*storage)?;
        let options = |secret| OpenOptions { secret, cache: self.cache() };
        let found = self.secret_sources().find()?;
        if let Some(path) = self.key_file_in_use()
            && secrets::is_too_open(&path)
        {
            let shown = printable_os(&path);
            self.ui.warn(&format!("others can read the key file {shown}: chmod 600 it"))?;
        }
        if found.is_some() || !probe.encrypted {
            let repository = open::open_probed(storage, probe, options(found.clone()))?;
            return Ok((repository, found));
        }
        let prompt = format!("Passphrase of repository {}: ", storage.location());
        for tries in 1.. {
            let Some(secret) = self.ask(&prompt)? else {
                return Err(Error::KeyNeeded { location: storage.location() }.into());
            };
            let given = options(Some(secret.clone()));
            match open::open_probed(storage.clone(), probe.clone(), given) {
                Err(Error::WrongKey { slots, .. }) if slots > 0 && tries < TRIES => {
                    self.ui.say("That passphrase does not open it.")?;
                }
                result => return Ok((result?, Some(secret))),
            }
        }
        Err(Error::Interrupted.into())
    }

    fn key_file_in_use(&self) -> Option<PathBuf> {
        self.global.key_file.clone()
    }

    fn ask(&self, prompt: &str) -> Result<Option<Secret>> {
        for _ in 0..TRIES {
            let answer =
                Terminal.secret(prompt).map_err(|e| catalogue::io("read", "terminal", &e))?;
            let Some(text) = answer else { return Ok(None) };
            match secrets::passphrase(&text, "the terminal") {
                Ok(secret) => return Ok(Some(secret)),
                Err(problem) => self.ui.say(&problem.to_string())?,
            }
        }
        Err(Problem::usage("no passphrase was typed").into())
    }

    /// Asks for a new passphrase twice. `Ok(None)`: there is nobody to ask.
    pub(crate) fn ask_new(&self, prompt: &str) -> Result<Option<Secret>> {
        for _ in 0..TRIES {
            let Some(first) = self.ask(prompt)? else { return Ok(None) };
            let Some(second) = self.ask("Again: ")? else { return Ok(None) };
            match (&first, &second) {
                (Secret::Passphrase(a), Secret::Passphrase(b)) if a == b => return Ok(Some(first)),
                _ => self.ui.say("These two differ.")?,
            }
        }
        Err(Problem::usage("the passphrases differed three times; nothing was changed").into())
    }

    /// Opens the repository and finds the snapshot that `spec` means.
    pub(crate) fn snapshot(
        &self,
        repository: &Repository,
        spec: &Spec,
        filter: &Filter,
    ) -> Result<SnapshotInfo> {
        Ok(spec.find(repository.snapshots()?, filter)?)
    }

    /// The index as it is now, for reading: a damaged segment is named, and costs only what no
    /// other segment knows.
    pub(crate) fn index(&self, repository: &Repository) -> Result<Index> {
        let (index, problems) = Index::load_readable(repository)?;
        for problem in problems {
            self.ui.note(&format!("{}; going on with the rest", chain_text(&problem)))?;
        }
        Ok(index)
    }
}

/// A variable of the environment that is not empty. `HOLDFAST_PASSPHRASE` alone may be, to be
/// refused.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty() || name == "HOLDFAST_PASSPHRASE")
}

/// This machine's name.
pub(crate) fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}
