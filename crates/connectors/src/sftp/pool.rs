//! Connections to one server, shared by all that works on it. Connections are made when they are
//! needed, a few at most; what fails because a connection broke is tried again on another one,
//! with growing, jittered pauses, until [`SftpOptions::patience`] is over.
//!
//! The engine's threads call [`Pool::block_on`]; within it, [`Pool::run`] gives work a client.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::client::{Client, ClientError, ClientErrorKind, ClientOptions, Recorder};
use super::ssh::{
    Class, Connector, ExecOutput, Interaction, Problem, SshError, SshOptions, SshSession,
};
use crate::network::Patience;
use crate::{LONGEST_TIMEOUT, locked};

/// Calls that one connection serves before another one is made.
const BUSY: usize = 2;

/// How long a server that refused one more connection is not asked for another.
const REFUSED: Duration = Duration::from_secs(30);

/// The first pause between attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// A place on a server, and how to work there.
#[derive(Debug, Clone)]
pub struct SftpOptions {
    /// The connection.
    pub ssh: SshOptions,
    /// Absolute path, or below the home directory if it starts with `~/` or is `~`.
    pub path: Vec<u8>,
    /// Connections at once, at most.
    pub connections: usize,
    /// How long to go on trying when connections break.
    pub patience: Duration,
    /// Never run commands on the server.
    pub disable_hash_check: bool,
    /// Where a command on the server finds the directory that SFTP shows as `/`.
    pub shell_path: Option<String>,
}

impl Default for SftpOptions {
    fn default() -> Self {
        Self {
            ssh: SshOptions::default(),
            path: b"/".to_vec(),
            connections: 4,
            patience: Duration::from_secs(120),
            disable_hash_check: false,
            shell_path: None,
        }
    }
}

/// Working on the server failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SftpError {
    /// There is no connection.
    #[error(transparent)]
    Ssh(Arc<SshError>),
    /// A request failed.
    #[error(transparent)]
    Request(ClientError),
}

impl SftpError {
    /// Whether it is the connection that failed, so that what the last request did is not known.
    pub fn is_disconnect(&self) -> bool {
        match self {
            Self::Ssh(_) => true,
            Self::Request(error) => error.is_disconnect(),
        }
    }

    /// The kind, if a request failed.
    pub fn kind(&self) -> Option<ClientErrorKind> {
        match self {
            Self::Ssh(_) => None,
            Self::Request(error) => Some(error.kind),
        }
    }
}

impl From<SshError> for SftpError {
    fn from(error: SshError) -> Self {
        Self::Ssh(Arc::new(error))
    }
}

impl From<ClientError> for SftpError {
    fn from(error: ClientError) -> Self {
        Self::Request(error)
    }
}

/// Whether work is tried again after a connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It may be done twice.
    Yes,
    /// It must be sent once: what became of it is for the caller to find out. Finding a
    /// connection is still tried again.
    No,
}

/// One connection.
struct Connection {
    number: u64,
    session: SshSession,
    client: Client,
    active: AtomicUsize,
}

/// A client in use, which counts as one call on its connection.
pub struct Lease(Arc<Connection>);

impl Lease {
    /// The client.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Tells connections of a pool apart: handles are good on their own connection only.
    pub fn connection(&self) -> u64 {
        self.0.number
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.0.number)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Inner {
    runtime: Handle,
    connector: Connector,
    options: SftpOptions,
    client_options: ClientOptions,
    recorder: Arc<Recorder>,
    open: Mutex<Open>,
    /// Held while a connection is made that somebody waits for.
    making: tokio::sync::Mutex<()>,
    /// The path, once a server has said where home is.
    base: tokio::sync::OnceCell<Vec<u8>>,
}

#[derive(Default)]
struct Open {
    connections: Vec<Arc<Connection>>,
    /// Connections being made that nobody waits for.
    extra: usize,
    /// Connections made so far. If there was one, what fails now may be a passing trouble.
    made: u64,
    /// When the server last refused to have one more than it had.
    refused: Option<Instant>,
    /// How often a connection could not be made, and why the last time.
    failures: (u64, Option<SftpError>),
}

/// The connections to one server. Clones share them.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.location())
    }
}

impl Pool {
    /// Connects nothing yet. `runtime` needs I/O and time, and threads of its own.
    pub fn new(runtime: Handle, options: SftpOptions, interaction: Arc<dyn Interaction>) -> Self {
        let recorder = Arc::new(Recorder::new());
        let client_options = ClientOptions {
            timeout: options.ssh.timeout.clamp(Duration::from_secs(1), LONGEST_TIMEOUT) * 2,
            recorder: Some(recorder.clone()),
            ..ClientOptions::default()
        };
        Self(Arc::new(Inner {
            runtime,
            connector: Connector::new(options.ssh.clone(), interaction),
            options,
            client_options,
            recorder,
            open: Mutex::default(),
            making: tokio::sync::Mutex::new(()),
            base: tokio::sync::OnceCell::new(),
        }))
    }

    /// The place as a person would write it.
    pub fn location(&self) -> String {
        let SftpOptions { ssh, path, .. } = &self.0.options;
        let user = ssh.username.as_ref().map_or(String::new(), |user| format!("{user}@"));
        let port = ssh.port.map_or(String::new(), |port| format!(":{port}"));
        let host =
            if ssh.host.contains(':') { format!("[{}]", ssh.host) } else { ssh.host.clone() };
        let slash = if path.starts_with(b"/") { "" } else { "/" };
        format!("sftp://{user}{host}{port}{slash}{}", String::from_utf8_lossy(path))
    }

    /// What was asked for.
    pub fn options(&self) -> &SftpOptions {
        &self.0.options
    }

    /// What makes the connections: for those who want to see the stages.
    pub fn connector(&self) -> &Connector {
        &self.0.connector
    }

    /// Counts the requests and bytes of all connections.
    pub fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// Runs a future to its end. Not to be called on a thread of the runtime.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.runtime.block_on(future)
    }

    /// The runtime.
    pub fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// The absolute path on the server that the place is.
    pub async fn base(&self) -> Result<&[u8], SftpError> {
        let path = &self.0.options.path;
        let base = self.0.base.get_or_try_init(|| async {
            let below = match path.strip_prefix(b"~") {
                Some(below) if below.is_empty() || below.starts_with(b"/") => below,
                _ => return Ok::<_, SftpError>(path.clone()),
            };
            let mut home = self.run(Retry::Yes, async |client| client.realpath(b".").await).await?;
            if home.ends_with(b"/") {
                home.pop();
            }
            home.extend_from_slice(below);
            Ok(home)
        });
        base.await.map(Vec::as_slice)
    }

    /// Does `work` with a client, again on another connection if one breaks and `retry` allows.
    pub async fn run<T>(
        &self,
        retry: Retry,
        mut work: impl AsyncFnMut(&Client) -> Result<T, ClientError>,
    ) -> Result<T, SftpError> {
        self.run_on(retry, async |lease| work(lease.client()).await).await
    }

    /// As [`Pool::run`], for work that needs to know the connection.
    pub async fn run_on<T>(
        &self,
        retry: Retry,
        mut work: impl AsyncFnMut(&Lease) -> Result<T, ClientError>,
    ) -> Result<T, SftpError> {
        let mut patience = self.patience();
        loop {
            let lease = self.lease(&mut patience).await?;
            match work(&lease).await {
                Err(error) if error.is_disconnect() => {
                    self.discard(&lease);
                    if retry == Retry::No {
                        return Err(error.into());
                    }
                    if !patience.pause().await {
                        return Err(error.into());
                    }
                }
                other => return Ok(other?),
            }
        }
    }

    /// How long to go on trying, from now on.
    pub fn patience(&self) -> Patience {
        Patience::new(self.0.options.patience, PAUSE)
    }

    /// A client to work with; makes a connection if there is none.
    pub async fn lease(&self, patience: &mut Patience) -> Result<Lease, SftpError> {
        loop {
            if let Some(lease) = self.take() {
                return Ok(lease);
            }
            let failures = locked(&self.0.open).failures.0;
            let turn = self.0.making.lock().await;
            if let Some(lease) = self.take() {
                return Ok(lease);
            }
            // Who waited for a turn while somebody else tried in vain, has tried as well: many
            // callers give up together, not one after the other.
            let failed = match &locked(&self.0.open).failures {
                (count, failed) if *count > failures => failed.clone(),
                _ => None,
            };
            let error = match failed {
                Some(error) => error,
                None => match self.connect().await {
                    Ok(connection) => {
                        locked(&self.0.open).connections.push(Arc::new(connection));
                        continue;
                    }
                    Err(error) => {
                        let mut open = locked(&self.0.open);
                        open.failures = (open.failures.0 + 1, Some(error.clone()));
                        error
                    }
                },
            };
            drop(turn);
            if !self.may_pass(&error) {
                return Err(error);
            }
            if !patience.pause().await {
                return Err(error);
            }
        }
    }

    /// Whether the connection of this number is one of those in use.
    pub(super) fn is_open(&self, number: u64) -> bool {
        let open = locked(&self.0.open);
        open.connections.iter().any(|c| c.number == number && !c.client.is_dead())
    }

    /// Gives up a connection that broke.
    pub fn discard(&self, lease: &Lease) {
        lease.0.client.disconnect();
        locked(&self.0.open).connections.retain(|c| !Arc::ptr_eq(c, &lease.0));
    }

    /// Runs a command on the server, for at most `limit`.
    pub async fn exec(&self, command: &str, limit: Duration) -> Result<ExecOutput, SftpError> {
        let mut patience = self.patience();
        let lease = self.lease(&mut patience).await?;
        Ok(lease.0.session.exec(command.as_bytes(), limit).await?)
    }

    /// The connection that does the least. If all are busy, one more is made meanwhile.
    fn take(&self) -> Option<Lease> {
        let mut open = locked(&self.0.open);
        open.connections.retain(|c| !c.client.is_dead());
        let least = open.connections.iter().min_by_key(|c| c.active.load(Ordering::Relaxed))?;
        let lease = Lease(least.clone());
        let before = lease.0.active.fetch_add(1, Ordering::Relaxed);
        let most = self.0.options.connections.max(1);
        if before >= BUSY
            && open.connections.len() + open.extra < most
            && open.refused.is_none_or(|when| when.elapsed() >= REFUSED)
        {
            open.extra += 1;
            let pool = self.clone();
            self.0.runtime.spawn(async move { pool.connect_extra().await });
        }
        Some(lease)
    }

    async fn connect_extra(&self) {
        let made = self.connect().await;
        let mut open = locked(&self.0.open);
        open.extra -= 1;
        match made {
            Ok(connection) => open.connections.push(Arc::new(connection)),
            // Servers limit sessions; what is there has to do for a while.
            Err(_) => open.refused = Some(Instant::now()),
        }
    }

    async fn connect(&self) -> Result<Connection, SftpError> {
        let session = self.0.connector.connect(&|_| {}).await?;
        let stream = session.sftp().await?;
        let report = stream.report();
        let client = match Client::connect(stream, &self.0.client_options).await {
            Ok(client) => client,
            // Why it ended, the layer below may know better.
            Err(error) if error.is_disconnect() => return Err(report.error(b"").await.into()),
            Err(error) => return Err(error.into()),
        };
        let number = {
            let mut open = locked(&self.0.open);
            open.made += 1;
            open.made
        };
        Ok(Connection { number, session, client, active: AtomicUsize::new(0) })
    }

    /// Whether it is worth trying again to connect: only where it was possible before.
    fn may_pass(&self, error: &SftpError) -> bool {
        let passing = match error {
            SftpError::Ssh(error) => may_pass(&error.problem),
            SftpError::Request(error) => error.is_disconnect(),
        };
        passing && locked(&self.0.open).made > 0
    }
}

/// Whether what is wrong is the network, or a server that is about to start or has no room now.
fn may_pass(problem: &Problem) -> bool {
    match problem {
        // A sign-in that was cut short is not one that was refused.
        Problem::Authentication(failure) => failure.disconnected.is_some(),
        Problem::ProxyJump { error, .. } => may_pass(&error.problem),
        problem => matches!(
            problem.class(),
            Class::Refused
                | Class::Timeout
                | Class::Unreachable
                | Class::Disconnected
                | Class::NameNotFound
                | Class::ChannelRefused
        ),
    }
}
