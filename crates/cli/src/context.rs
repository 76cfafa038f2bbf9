//! What every verb needs: the global options, the environment, the terminal, and the way to the
//! repository through its location and secret.

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use holdfast_app::paths::Paths;
use holdfast_app::secrets::{self, Sources};
use holdfast_app::select::Spec;
use holdfast_app::text::{parse_size, printable_os, shell_word, size};
use holdfast_app::{
    Access, Ask, Config, Location, Options, Place, Problem, Resolved, cache, catalogue, config,
    open as places,
};
use holdfast_engine::Error;
use holdfast_engine::error::chain_text;
use holdfast_engine::format::keyslot::Secret;
use holdfast_engine::repo::notes::Notes;
use holdfast_engine::repo::snapshots::{Filter, SnapshotInfo};
use holdfast_engine::repo::{Index, OpenOptions, Repository, VANISHED, open};
use holdfast_engine::storage::{ObjectName, Storage};

use crate::args::{Global, OtherSecret};
use crate::failure::{Failure, Result};
use crate::ui::{Ui, prompt::Terminal};

pub(crate) use holdfast_app::jobs::host;

/// The least that `--memory` may be, in bytes.
const LEAST_MEMORY: usize = 32 << 20;

/// What a thread that reads packs takes, in bytes: a piece of one, and a blob.
const READING: usize = 12 << 20;

/// More such threads serve nothing.
const MOST_READING: usize = 16;

/// How often a person may try.
const TRIES: usize = 3;

/// Exit code where nobody reads the output any more: that of a process that SIGPIPE ended.
const READER_GONE: u8 = 141;

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) ui: Ui,
    /// Read when something is asked of it, once.
    config: OnceCell<Option<Config>>,
    repository: OnceCell<Resolved>,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        let ui = Ui::new(global.json, global.quiet, !global.no_progress);
        Self { global, ui, config: OnceCell::new(), repository: OnceCell::new() }
    }

    /// Says how it ended, and with which code.
    pub(crate) fn finish(&self, result: Result) -> ExitCode {
        let result = result.and_then(|outcome| match self.ui.flush() {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
            // It ended as it ended, however much of it was read.
            _ => Ok(outcome),
        });
        match result {
            Ok(outcome) => outcome.exit_code().into(),
            // Whoever read our output has had enough: no error to tell of, but not all was done.
            Err(Failure::Output(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => {
                READER_GONE.into()
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
        line_at(self.at(), rest)
    }

    /// Where the repository is: as written, as the environment says, as the configuration says,
    /// or in the home directory.
    pub(crate) fn location(&self) -> Result<&Resolved> {
        if let Some(resolved) = self.repository.get() {
            return Ok(resolved);
        }
        let location = match self.named_location() {
            Some(text) => Location::parse(&text)?,
            None => match self.default_name()? {
                Some(name) => Location::Named { name, below: Vec::new() },
                None => Location::Local(self.default_path()?),
            },
        };
        let resolved = self.resolve(&location, &self.overrides()?)?;
        if resolved.place == Place::Stream {
            resolved.local("repository")?;
        }
        Ok(self.repository.get_or_init(|| resolved))
    }

    /// What the command line or the environment says.
    fn named_location(&self) -> Option<OsString> {
        self.at().map(OsString::from).or_else(|| variable("HOLDFAST_REPOSITORY"))
    }

    fn default_name(&self) -> Result<Option<String>> {
        Ok(self.config()?.and_then(Config::default_name).map(String::from))
    }

    /// Whether nobody said where the repository is.
    pub(crate) fn is_default_location(&self) -> Result<bool> {
        Ok(self.named_location().is_none() && self.default_name()?.is_none())
    }

    /// Resolves a location that was written for something else than the repository. Of the command
    /// line's options only the limits hold for it.
    pub(crate) fn place(&self, text: &OsStr) -> Result<Resolved> {
        let mut options = Options::default();
        self.add_limits(&mut options)?;
        self.resolve(&Location::parse(text)?, &options)
    }

    fn resolve(&self, location: &Location, overrides: &Options) -> Result<Resolved> {
        let config = match location {
            Location::Named { .. } => self.config()?,
            _ => None,
        };
        let mut resolved = Resolved::new(location, config, overrides)?;
        if let Some(connections) = self.global.connections
            && matches!(resolved.place, Place::Sftp(_) | Place::S3(_))
        {
            resolved.options.set_limit("connections", connections);
        }
        Ok(resolved)
    }

    /// Resolves the location of another repository, as [`place`](Self::place) does.
    pub(crate) fn other(&self, text: &OsStr) -> Result<Resolved> {
        let resolved = self.place(text)?;
        if resolved.place == Place::Stream {
            resolved.local("repository")?;
        }
        Ok(resolved)
    }

    /// What the command line says of the repository's location.
    fn overrides(&self) -> Result<Options> {
        let mut options = Options::from_words(&self.global.option, home())?;
        self.add_limits(&mut options)?;
        Ok(options)
    }

    /// `--limit-upload` and `--limit-download`.
    fn add_limits(&self, options: &mut Options) -> Result<()> {
        let limits = [
            ("limit_upload", &self.global.limit_upload),
            ("limit_download", &self.global.limit_download),
        ];
        for (name, text) in limits {
            let Some(text) = text else { continue };
            let rate = config::rate(text).ok_or_else(|| {
                Problem::usage(format!("{text} is no rate"))
                    .hint("write bytes a second: 512K, 10M, 1.5M")
            })?;
            options.set_limit(name, rate);
        }
        Ok(())
    }

    /// `--memory`, in bytes.
    pub(crate) fn memory(&self) -> Result<Option<usize>> {
        let Some(text) = &self.global.memory else { return Ok(None) };
        let bytes = parse_size(text).and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = bytes.ok_or_else(|| {
            Problem::usage(format!("{text} is no size")).hint("write 64M, 500M or 1G")
        })?;
        if bytes < LEAST_MEMORY {
            return Err(Problem::usage(format!("--memory {text} is too little"))
                .hint(format!("give at least {}", size(LEAST_MEMORY as u64)))
                .into());
        }
        Ok(Some(bytes))
    }

    /// Threads that read packs in half of the memory that may be taken, where `wanted` of them (0:
    /// as many as suit) were asked for.
    pub(crate) fn reading_threads(&self, wanted: usize) -> Result<usize> {
        let Some(memory) = self.memory()? else { return Ok(wanted) };
        let most = (memory / 2 / READING).max(1);
        // Where there is memory for more than ever suit, those that suit may be found out.
        Ok(match wanted {
            0 if most >= MOST_READING => 0,
            0 => most,
            wanted => wanted.min(most),
        })
    }

    /// Where the configuration is, or would be.
    pub(crate) fn config_path(&self) -> Result<PathBuf> {
        let is_root = rustix::process::geteuid().is_root();
        let path = config::locate(self.global.config.clone(), &variable, is_root);
        Ok(path.ok_or_else(|| {
            Problem::usage("there is no place for a configuration, since HOME is not set")
                .hint("say --config FILE, or set HOLDFAST_CONFIG")
        })?)
    }

    /// The configuration; `None` if there is no place for one. A file that was asked for must be
    /// there.
    pub(crate) fn config(&self) -> Result<Option<&Config>> {
        if let Some(config) = self.config.get() {
            return Ok(config.as_ref());
        }
        let config = match self.config_path() {
            Ok(path) => Some(self.load_config(&path)?),
            Err(_) => None,
        };
        Ok(self.config.get_or_init(|| config).as_ref())
    }

    fn load_config(&self, path: &Path) -> Result<Config> {
        let config = Config::load(path, home())?;
        if !config.exists() && self.global.config.is_some() {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(catalogue::io("read", path, &missing).into());
        }
        self.warn_of(&config)?;
        Ok(config)
    }

    /// Refuses a configuration that was asked for and is not there, where one that is empty would be
    /// taken for no plans.
    pub(crate) fn expect_named_config(&self) -> Result<()> {
        let Some(path) = &self.global.config else { return Ok(()) };
        path.metadata().map(drop).map_err(|e| catalogue::io("read", path, &e).into())
    }

    /// Refuses the options that say how a repository is reached: plans, and the locations that they
    /// name, say that themselves. `what` does not heed them.
    pub(crate) fn refuse_what_plans_say(&self, what: &str) -> Result<()> {
        const IN_PLAN: &str = "set it in the plan: holdfast plan edit PLAN --set";
        const AT_NAME: &str = "set it for the location: holdfast config repository set NAME";
        let global = &self.global;
        let given = [
            (
                "at LOCATION",
                global.at.is_some(),
                "set it in the plan: holdfast plan edit PLAN",
                "--to LOCATION",
            ),
            (
                "--no-encryption",
                global.no_encryption,
                "leave it out:",
                "it is the repository that says so",
            ),
            ("--accept-new-host-key", global.accept_new_host_key, AT_NAME, "host_key KEY"),
            ("--limit-upload", global.limit_upload.is_some(), IN_PLAN, "limit_upload=RATE"),
            ("--limit-download", global.limit_download.is_some(), IN_PLAN, "limit_download=RATE"),
            ("--connections", global.connections.is_some(), AT_NAME, "connections NUMBER"),
            ("--option", !global.option.is_empty(), AT_NAME, "KEY VALUE"),
            ("--key-file", global.key_file.is_some(), AT_NAME, "repository_key_file FILE"),
            (
                "--passphrase-file",
                global.passphrase_file.is_some(),
                AT_NAME,
                "passphrase_file FILE",
            ),
            ("--memory", global.memory.is_some(), "leave it out:", "nothing limits its memory"),
        ];
        let Some((option, _, how, key)) = given.into_iter().find(|given| given.1) else {
            return Ok(());
        };
        Err(Problem::usage(format!("{what} does not heed {option}"))
            .hint(format!("{how} {key}"))
            .into())
    }

    /// Changes the configuration, and warns if others can read it.
    pub(crate) fn edit_config<T>(
        &self,
        change: impl FnOnce(&mut Config) -> std::result::Result<T, Problem>,
    ) -> Result<T> {
        let path = self.config_path()?;
        let answer = Config::edit(&path, home(), change)?;
        self.warn_of(&Config::load(&path, home())?)?;
        Ok(answer)
    }

    /// Warns if others can read the configuration.
    pub(crate) fn warn_of(&self, config: &Config) -> Result<()> {
        Ok(config.warning().map_or(Ok(()), |text| self.ui.warn(&text))?)
    }

    /// How places over a network are reached. Accepted host keys are kept beside the configuration.
    pub(crate) fn access(&self) -> Access {
        let mut access = Access::new(Arc::new(Terminal));
        access.home = home();
        access.known_hosts = self.config_path().ok().map(|path| path.with_file_name("known_hosts"));
        access.accept_new_host_key = self.global.accept_new_host_key;
        access
    }

    /// Where the things of this user are, for what runs without a command line.
    pub(crate) fn paths(&self) -> Result<Paths> {
        let is_root = rustix::process::geteuid().is_root();
        let paths = Paths::locate(self.global.config.clone(), &variable, is_root)?;
        Ok(Paths { cache: self.cache(), ..paths })
    }

    fn default_path(&self) -> Result<PathBuf> {
        let home = home().ok_or_else(|| {
            Problem::usage("no repository was named, and HOME is not set")
                .hint("write holdfast at LOCATION …, or set HOLDFAST_REPOSITORY")
        })?;
        Ok(home.join(".holdfast"))
    }

    /// The directory for disposable copies.
    pub(crate) fn cache(&self) -> Option<PathBuf> {
        if self.global.no_cache {
            return None;
        }
        let is_root = rustix::process::geteuid().is_root();
        cache::directory(self.global.cache_dir.clone(), &variable, is_root)
    }

    /// Where the repository's secret may come from without asking.
    pub(crate) fn secret_sources(&self) -> Result<Sources> {
        if self.global.no_encryption {
            return Ok(Sources::default());
        }
        Ok(Sources::default()
            .with_key_file(self.global.key_file.clone())
            .with_passphrase_file(self.global.passphrase_file.clone())
            .with_options(&self.overrides()?)
            .with_environment(&variable)
            .with_options(&self.location()?.options))
    }

    pub(crate) fn storage(&self) -> Result<Arc<dyn Storage>> {
        Ok(places::open_storage(self.location()?, &self.access())?)
    }

    /// Opens the repository, asking for its passphrase if need be.
    pub(crate) fn open(&self) -> Result<Repository> {
        self.open_with_secret().map(|(repository, _)| repository)
    }

    /// Opens the repository; also what opened it.
    pub(crate) fn open_with_secret(&self) -> Result<(Repository, Option<Secret>)> {
        self.unlock(self.storage()?, &self.secret_sources()?)
    }

    /// Opens another repository. What the environment says may be meant for the first one: it is
    /// tried if nothing else is said, and if it does not fit, a person is asked.
    pub(crate) fn open_other(&self, place: &Resolved, secret: &OtherSecret) -> Result<Repository> {
        let storage = places::open_storage(place, &self.access())?;
        let none = Sources::default();
        if secret.other_no_encryption {
            return Ok(self.unlock(storage, &none)?.0);
        }
        let own = none
            .clone()
            .with_key_file(secret.other_key_file.clone())
            .with_passphrase_file(secret.other_passphrase_file.clone())
            .with_options(&place.options);
        if !own.is_empty() {
            return Ok(self.unlock(storage, &own)?.0);
        }
        match self.unlock(storage.clone(), &none.clone().with_environment(&variable)) {
            Err(Failure::Engine(Error::WrongKey { .. })) if Terminal.is_there() => {
                Ok(self.unlock(storage, &none)?.0)
            }
            opened => Ok(opened?.0),
        }
    }

    /// Opens the repository in `storage`, asking for its passphrase if no source has a secret; also
    /// what opened it.
    fn unlock(
        &self,
        storage: Arc<dyn Storage>,
        sources: &Sources,
    ) -> Result<(Repository, Option<Secret>)> {
        let probe = open::probe(&*storage)?;
        let options = |secret| OpenOptions { secret, cache: self.cache() };
        let found = sources.find()?;
        if let Some((path, _)) = sources.key_file()
            && secrets::is_too_open(path)
        {
            let shown = printable_os(path);
            self.ui.warn(&format!("others can read the key file {shown}: chmod 600 it"))?;
        }
        if found.is_some() || !probe.encrypted {
            let repository = open::open_probed(storage, probe, options(found.clone()))?;
            return Ok((repository, found));
        }
        let prompt = format!("Passphrase of repository {}: ", storage.location());
        let mut tries = 0;
        loop {
            tries += 1;
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

    /// The snapshot of the repository that `spec` means.
    pub(crate) fn snapshot(
        &self,
        repository: &Repository,
        spec: &Spec,
        filter: &Filter,
    ) -> Result<SnapshotInfo> {
        Ok(spec.find(self.snapshots(repository)?.0, filter)?)
    }

    /// All snapshots that can be read, oldest first, and their notes. What cannot be read is named,
    /// and so are snapshots that are gone for no known reason.
    pub(crate) fn snapshots(&self, repository: &Repository) -> Result<(Vec<SnapshotInfo>, Notes)> {
        self.tell_snapshots(repository, repository.snapshots_with_notes()?)
    }

    /// [`Self::snapshots`] and [`Self::index`], read at once.
    pub(crate) fn snapshots_and_index(
        &self,
        repository: &Repository,
    ) -> Result<(Vec<SnapshotInfo>, Index)> {
        let (listed, loaded) = repository.snapshots_and_index()?;
        Ok((self.tell_snapshots(repository, listed)?.0, self.tell_index(loaded)?))
    }

    fn tell_snapshots(
        &self,
        repository: &Repository,
        (all, notes): (Vec<SnapshotInfo>, Notes),
    ) -> Result<(Vec<SnapshotInfo>, Notes)> {
        for (_, problem) in notes.unreadable() {
            self.ui.warn(&format!("{}; going on without it", chain_text(problem)))?;
        }
        for id in repository.vanished(&all) {
            if !notes.lost().any(|(lost, _)| lost == id) {
                self.ui.warn(&format!("{}: {VANISHED}", ObjectName::snapshot(id)))?;
            }
        }
        Ok((all, notes))
    }

    /// The index as it is now, for reading: a damaged segment is named, and costs only what no
    /// other segment knows.
    pub(crate) fn index(&self, repository: &Repository) -> Result<Index> {
        self.tell_index(Index::load_readable(repository)?)
    }

    fn tell_index(&self, (index, problems): (Index, Vec<Error>)) -> Result<Index> {
        for problem in problems {
            self.ui.note(&format!("{}; going on with the rest", chain_text(&problem)))?;
        }
        Ok(index)
    }
}

/// A command line for the repository at `at`, as it was written, to be typed.
pub(crate) fn line_at(at: Option<&OsStr>, rest: &str) -> String {
    match at {
        Some(at) => format!("holdfast at {} {rest}", shell_word(at)),
        None => format!("holdfast {rest}"),
    }
}

/// A variable of the environment that is not empty. `HOLDFAST_PASSPHRASE` alone may be, to be
/// refused.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty() || name == "HOLDFAST_PASSPHRASE")
}

/// The home directory.
pub(crate) fn home() -> Option<PathBuf> {
    variable("HOME").map(PathBuf::from)
}
