//! One connection from name to sign-in, stage by stage; jump hosts are connections of their own.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use russh::SshId;
use russh::client::{self, Handle};
use russh::keys::{Algorithm, PublicKeyOrCertificate};
use tokio::time::timeout;

use super::algorithms::{self, host_key_algorithms, no_common, same_key_type};
use super::command::ChildIo;
use super::handler::{Facts, Notes};
use super::hostkey::{self, Expected, HostNames, KnownHosts, Verdict};
use super::interaction::printable;
use super::records;
use super::session::Kind;
use super::signin::{self, Memory, SignIn};
use super::target::{self, Hop, Route, Target};
use super::transport::{self, Io};
use super::{
    HostKeyQuestion, Interaction, Problem, SessionFacts, SftpReport, SftpStream, SshError,
    SshOptions, SshSession, Stage, Step,
};
use crate::locked;

/// Jump hosts that have jump hosts of their own, at most this deep.
const DEEPEST: usize = 8;

/// What a run needs to connect as often as it likes: the options, whom to ask, and what was
/// answered. Connections made at a time wait for the first one, so that nobody is asked twice.
pub struct Connector {
    options: SshOptions,
    interaction: Arc<dyn Interaction>,
    memory: Arc<Memory>,
    /// Held by the first connection until it stands.
    first: tokio::sync::Mutex<()>,
    connected: AtomicBool,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Who is told of the stages.
type Stages<'a> = &'a (dyn Fn(Step<'_>) + Send + Sync);

impl Connector {
    /// Reads and connects nothing yet.
    pub fn new(options: SshOptions, interaction: Arc<dyn Interaction>) -> Self {
        Self {
            options,
            interaction,
            memory: Arc::default(),
            first: tokio::sync::Mutex::new(()),
            connected: AtomicBool::new(false),
        }
    }

    /// What was asked for.
    pub fn options(&self) -> &SshOptions {
        &self.options
    }

    /// Connects and signs in. `stages` is told of each stage as it begins. Must be called on a
    /// tokio runtime with I/O and time; the connection's tasks live on it.
    ///
    /// With `ssh_command`, only the options are checked: the command runs, and fails, in
    /// [`SshSession::sftp`] and the stream that it gives.
    pub async fn connect(&self, stages: Stages<'_>) -> Result<SshSession, SshError> {
        let turn = match self.connected.load(Ordering::Acquire) {
            true => None,
            false => Some(self.first.lock().await),
        };
        // The one before may have answered all questions while this one waited.
        let turn = turn.filter(|_| !self.connected.load(Ordering::Acquire));
        let session = self.to(&self.options, stages, 0).await?;
        self.connected.store(true, Ordering::Release);
        drop(turn);
        Ok(session)
    }

    fn to<'a>(
        &'a self,
        options: &'a SshOptions,
        stages: Stages<'a>,
        depth: usize,
    ) -> Pin<Box<dyn Future<Output = Result<SshSession, SshError>> + Send + 'a>> {
        Box::pin(async move {
            let asked = target::asked(options);
            stages(Step { stage: Stage::Settings, host: &asked });
            let settings =
                |what: String| SshError::new(Stage::Settings, &asked, Problem::Settings { what });
            if let Some(command) = &options.ssh_command {
                target::check(options).map_err(settings)?;
                super::command::words(command, options, &["-s", "sftp"], true).map_err(settings)?;
                return Ok(SshSession {
                    host: asked,
                    timeout: options.timeout,
                    facts: SessionFacts::default(),
                    kind: Kind::Command {
                        command: command.clone(),
                        options: Box::new(options.clone()),
                    },
                });
            }
            // Opening a key takes long on purpose, and files may lie on slow disks.
            let (copy, memory) = (options.clone(), Arc::clone(&self.memory));
            let plan = tokio::task::spawn_blocking(move || Plan::make(&copy, &memory));
            let plan = plan.await.map_err(|error| settings(error.to_string()))??;
            let shown = plan.target.shown();
            One { connector: self, options, stages, depth, shown, target: plan.target }
                .connect(plan.expected.as_ref(), &plan.known, &plan.names)
                .await
        })
    }
}

/// What is known before connecting.
struct Plan {
    target: Target,
    expected: Option<Expected>,
    names: HostNames,
    known: KnownHosts,
}

impl Plan {
    fn make(options: &SshOptions, memory: &Memory) -> Result<Self, SshError> {
        let asked = target::asked(options);
        let settings =
            |what: String| SshError::new(Stage::Settings, &asked, Problem::Settings { what });
        let (target, names, known) = records::look_up(options)?;
        let expected = options.host_key.as_deref().map(Expected::parse).transpose();
        let expected = expected.map_err(settings)?;
        signin::check_configured(options, &target, memory)?;
        Ok(Self { target, expected, names, known })
    }
}

/// One connection on its way.
struct One<'a> {
    connector: &'a Connector,
    options: &'a SshOptions,
    stages: Stages<'a>,
    depth: usize,
    shown: String,
    target: Target,
}

/// What a handshake runs over.
struct Transport {
    stream: Box<dyn Io>,
    /// The jump host's connection.
    below: Option<Box<SshSession>>,
    /// What a proxy command says beside its bytes.
    beside: Option<SftpReport>,
}

/// A finished handshake with a host that is not yet trusted.
struct Shaken {
    handle: Handle<Notes>,
    notes: Arc<Mutex<Facts>>,
    key: PublicKeyOrCertificate,
    below: Option<Box<SshSession>>,
}

impl One<'_> {
    async fn connect(
        &self,
        expected: Option<&Expected>,
        known: &KnownHosts,
        names: &HostNames,
    ) -> Result<SshSession, SshError> {
        let mut warnings = Vec::new();
        let shaken = self.trusted(expected, known, names, &mut warnings).await?;

        self.begin(Stage::SignIn);
        let signed = SignIn {
            options: self.options,
            target: &self.target,
            interaction: &self.connector.interaction,
            memory: &self.connector.memory,
            handle: shaken.handle,
            notes: Arc::clone(&shaken.notes),
        };
        let signed = signed.run().await?;
        warnings.extend(signed.warnings);
        let facts = {
            let notes = locked(&shaken.notes);
            SessionFacts {
                server_version: notes.server_version.clone(),
                key_exchange: notes.key_exchange.clone(),
                host_key_algorithm: notes.host_key_algorithm.clone(),
                cipher: notes.cipher.clone(),
                mac: notes.mac.clone(),
                host_key: Some(hostkey::shown(&shaken.key.public_key())),
                host_certificate: shaken.key.certificate().is_some(),
                methods: signed.methods,
                key: signed.key,
                banner: notes.banner.clone(),
                warnings,
            }
        };
        Ok(SshSession {
            host: self.shown.clone(),
            timeout: self.options.timeout,
            facts,
            kind: Kind::Own { handle: signed.handle, notes: shaken.notes, _below: shaken.below },
        })
    }

    /// A handshake, and the judgement on the key that it showed.
    async fn trusted(
        &self,
        expected: Option<&Expected>,
        known: &KnownHosts,
        names: &HostNames,
        warnings: &mut Vec<String>,
    ) -> Result<Shaken, SshError> {
        let mut algorithms = known.order(host_key_algorithms(self.options.allow_insecure_ciphers));
        let Some(expected) = expected else {
            let shaken = self.shake(&algorithms, known.has_authority()).await?;
            self.begin(Stage::HostKey);
            self.judge(&shaken.key, known, names, warnings).await?;
            return Ok(shaken);
        };
        algorithms = expected.order(algorithms);
        let mut presented = Vec::new();
        loop {
            let shaken = match self.shake(&algorithms, false).await {
                // All its keys were seen.
                Err(error)
                    if !presented.is_empty()
                        && matches!(*error.problem, Problem::NoCommonAlgorithm { .. }) =>
                {
                    break;
                }
                other => other?,
            };
            self.begin(Stage::HostKey);
            let key = shaken.key.public_key();
            if let Verdict::Revoked(record) = self.verdict(&shaken.key, known) {
                return Err(self.revoked(&shaken.key, record));
            }
            if expected.has(&key) {
                if let Verdict::Unknown = self.verdict(&shaken.key, known) {
                    self.store(&key, names, warnings).await;
                }
                return Ok(shaken);
            }
            presented.push(hostkey::shown(&key));
            // The fingerprint may be that of another of the host's keys: it shows one at a time.
            algorithms.retain(|algorithm| !same_key_type(algorithm, &key.algorithm()));
            if algorithms.is_empty() || presented.len() >= 5 {
                break;
            }
        }
        let known = expected.known();
        let (name, port) = (names.main.clone(), self.target.port);
        Err(self.error(Stage::HostKey, Problem::HostKeyChanged { name, port, presented, known }))
    }

    fn verdict(&self, key: &PublicKeyOrCertificate, known: &KnownHosts) -> Verdict {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        known.judge(key, now, self.options.allow_insecure_ciphers)
    }

    async fn judge(
        &self,
        shown: &PublicKeyOrCertificate,
        known: &KnownHosts,
        names: &HostNames,
        warnings: &mut Vec<String>,
    ) -> Result<(), SshError> {
        let key = shown.public_key();
        let presented = hostkey::shown(&key);
        let (name, port) = (names.main.clone(), self.target.port);
        let problem = match self.verdict(shown, known) {
            Verdict::Known => return Ok(()),
            Verdict::Revoked(record) => return Err(self.revoked(shown, record)),
            Verdict::Changed(known) => {
                Problem::HostKeyChanged { name, port, presented: vec![presented], known }
            }
            Verdict::BadCertificate(reason) => Problem::HostCertificate { name, presented, reason },
            Verdict::Unknown if self.options.accept_new_host_key => {
                self.store(&key, names, warnings).await;
                return Ok(());
            }
            Verdict::Unknown => {
                let question = HostKeyQuestion {
                    host: self.target.host.clone(),
                    port,
                    key: presented.clone(),
                };
                let asked = signin::ask(&self.connector.interaction, move |interaction| {
                    interaction.confirm_host_key(&question)
                });
                let answer = asked.await.map_err(|error| {
                    let what = "the question cannot be asked".to_owned();
                    self.error(Stage::HostKey, Problem::Settings { what }).because(error)
                })?;
                if answer == Some(true) {
                    self.store(&key, names, warnings).await;
                    return Ok(());
                }
                Problem::HostKeyUnknown { name, port, key: presented, asked: answer.is_some() }
            }
        };
        Err(self.error(Stage::HostKey, problem))
    }

    fn revoked(&self, shown: &PublicKeyOrCertificate, known: super::KnownKey) -> SshError {
        let presented = hostkey::shown(&shown.public_key());
        let name = self.target.host.clone();
        self.error(Stage::HostKey, Problem::HostKeyRevoked { name, presented, known })
    }

    /// Keeps an accepted key. That it cannot be kept is a warning: this time it was accepted.
    async fn store(
        &self,
        key: &russh::keys::PublicKey,
        names: &HostNames,
        warnings: &mut Vec<String>,
    ) {
        let Some(path) = self.target.known_hosts_written.clone() else { return };
        let (name, key, to) = (names.main.clone(), key.clone(), path.clone());
        let write = tokio::task::spawn_blocking(move || hostkey::append(&to, &name, &key));
        if let Err(error) = write.await.map_err(std::io::Error::other).and_then(|r| r) {
            warnings.push(format!(
                "the host key was accepted but not stored in {}: {error}",
                path.display()
            ));
        }
    }

    /// Transport and handshake.
    async fn shake(
        &self,
        algorithms: &[Algorithm],
        certificates: bool,
    ) -> Result<Shaken, SshError> {
        let Transport { stream, below, beside } = self.transport().await?;
        self.begin(Stage::Handshake);
        let insecure = self.options.allow_insecure_ciphers;
        let preferred = algorithms::preferred(insecure, algorithms.to_vec(), certificates);
        let config = Arc::new(client::Config {
            client_id: SshId::Standard(
                concat!("SSH-2.0-Holdfast_", env!("CARGO_PKG_VERSION")).into(),
            ),
            // One window is what may be on its way: 16 MiB is 160 MB/s at 100 ms.
            window_size: 16 << 20,
            maximum_packet_size: 65_535,
            channel_buffer_size: 1024,
            preferred,
            keepalive_interval: Some(Duration::from_secs(15)),
            keepalive_max: 3,
            // For a peer that stops reading as well: then no keepalive gets out. Longer than
            // OpenSSH lets a person think before sign-in.
            inactivity_timeout: Some(self.options.timeout + Duration::from_secs(120)),
            nodelay: true,
            ..client::Config::default()
        });
        let notes = Notes::default();
        let facts = Arc::clone(&notes.0);
        let shaking = client::connect_stream(config, stream, notes);
        let handle = match timeout(self.options.timeout, shaking).await {
            Ok(Ok(handle)) => handle,
            Ok(Err(error)) => {
                let error = self.handshake_error(error, &facts);
                return Err(match beside {
                    Some(report) if matches!(*error.problem, Problem::Disconnected { .. }) => {
                        self.error(Stage::Handshake, *report.error(&[]).await.problem)
                    }
                    _ => error,
                });
            }
            Err(_) => {
                let after = self.options.timeout;
                return Err(self.error(Stage::Handshake, Problem::Timeout { after }));
            }
        };
        let key = locked(&facts).host_key.take();
        let key = key.ok_or_else(|| self.error(Stage::Handshake, Problem::Protocol))?;
        Ok(Shaken { handle, notes: facts, key, below })
    }

    fn handshake_error(&self, error: russh::Error, facts: &Mutex<Facts>) -> SshError {
        let problem = match &error {
            russh::Error::NoCommonAlgo { kind, ours, theirs } => {
                let (kind, insecure_would_help) = no_common(kind, theirs);
                Problem::NoCommonAlgorithm {
                    kind,
                    ours: ours.clone(),
                    offered: theirs.iter().map(|name| printable(name)).collect(),
                    insecure_would_help: insecure_would_help
                        && !self.options.allow_insecure_ciphers,
                }
            }
            russh::Error::Disconnect
            | russh::Error::HUP
            | russh::Error::IO(_)
            | russh::Error::SendError => {
                Problem::Disconnected { message: locked(facts).ended.clone() }
            }
            _ => Problem::Protocol,
        };
        self.error(Stage::Handshake, problem).because(error)
    }

    async fn transport(&self) -> Result<Transport, SshError> {
        let failed = |stage| {
            move |(problem, source): transport::Failed| {
                let error = self.error(stage, problem);
                match source {
                    Some(source) => error.because(source),
                    None => error,
                }
            }
        };
        match &self.target.route {
            Route::Direct => {
                self.begin(Stage::Resolve);
                let (host, port, limit) =
                    (&self.target.host, self.target.port, self.options.timeout);
                let found = transport::addresses(host, port, limit).await;
                let found = found.map_err(failed(Stage::Resolve))?;
                self.begin(Stage::Tcp);
                let stream =
                    transport::tcp(host, &found, limit).await.map_err(failed(Stage::Tcp))?;
                Ok(Transport { stream: Box::new(stream), below: None, beside: None })
            }
            Route::Command(words) => {
                self.begin(Stage::Tcp);
                let program = words.first().cloned().unwrap_or_default();
                let child = ChildIo::start(words).map_err(|error| {
                    let (program, stderr) = (program.clone(), "it cannot be started".to_owned());
                    let problem =
                        Problem::Command { program, exit_status: None, stderr, class: None };
                    self.error(Stage::Tcp, problem).because(error)
                })?;
                let stream = SftpStream::child(child, &self.shown, program);
                let beside = Some(stream.report());
                Ok(Transport { stream: Box::new(stream), below: None, beside })
            }
            Route::Jump(hops) => {
                if self.depth >= DEEPEST {
                    let what = "jump hosts lead to jump hosts without end".to_owned();
                    return Err(self.error(Stage::Settings, Problem::Settings { what }));
                }
                let session = self.jump(hops).await?;
                self.begin(Stage::Tcp);
                let tunnel = session.tunnel(&self.target.host, self.target.port).await;
                let tunnel = tunnel.map_err(|error| self.through(session.host(), error))?;
                let below = Some(Box::new(session));
                Ok(Transport { stream: Box::new(tunnel), below, beside: None })
            }
        }
    }

    /// The connection to the last of `hops`, through those before it.
    async fn jump(&self, hops: &[Hop]) -> Result<SshSession, SshError> {
        let Some((last, before)) = hops.split_last() else {
            return Err(self.error(Stage::Settings, Problem::Protocol));
        };
        let options = target::hop_options(self.options, last, before);
        let session = self.connector.to(&options, self.stages, self.depth + 1).await;
        session.map_err(|error| match *error.problem {
            // Of a chain, the host that failed is what matters.
            Problem::ProxyJump { .. } => error,
            _ => self.through(&error.host.clone(), error),
        })
    }

    fn through(&self, hop: &str, error: SshError) -> SshError {
        let stage = error.stage;
        let problem = Problem::ProxyJump { hop: hop.to_owned(), error: Box::new(error) };
        self.error(stage, problem)
    }

    fn begin(&self, stage: Stage) {
        (self.stages)(Step { stage, host: &self.shown });
    }

    fn error(&self, stage: Stage, problem: Problem) -> SshError {
        SshError::new(stage, &self.shown, problem)
    }
}
