//! The server itself: binds an address, serves until it is asked to stop.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_app::runner::Runner;
use holdfast_app::{Class, Problem, catalogue};
use holdfast_engine::monitor::Interrupt;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::accounts::Accounts;
use crate::opened::IDLE;
use crate::serve::{HEAD, serve};
use crate::state::{Shared, State};
use crate::tls::door::Door;
use crate::tls::{Certificates, Tls, bare_name};
use crate::{pages, router};

/// How often an interrupt is looked at.
const GLANCE: Duration = Duration::from_millis(200);
/// How often repositories are looked for that nobody looks at.
const SWEEP: Duration = Duration::from_secs(60);
/// How long a connection may take to be made, and blocking work to end; requests that only wait end
/// at once.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the console serves, and where.
#[derive(Debug)]
pub struct Options {
    /// What works, and where its things are.
    pub runner: Runner,
    /// Where to listen; port 0 is any free one.
    pub listen: SocketAddr,
    /// This machine's name, for pages.
    pub machine: String,
    /// Names with ports that a request may ask for, beside the address itself.
    pub hosts: Vec<String>,
    /// Something in front of it speaks TLS, and names who asks in `X-Forwarded-For`.
    pub is_behind_proxy: bool,
    /// It speaks TLS itself, with this.
    pub tls: Option<Tls>,
    /// The console ends with a command that somebody typed, and plans with it.
    pub is_foreground: bool,
}

/// The console at work. Dropping it ends it.
pub struct Console {
    address: SocketAddr,
    root: String,
    state: Shared,
    note: Note,
    runtime: Option<Runtime>,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Console {
    /// This port of this machine alone; 0 is any free one.
    pub fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// Listens and serves. Errors: the address cannot be had, or is not this machine's alone.
    pub fn start(options: Options) -> Result<Self, Problem> {
        let listen = options.listen;
        let directory = options.runner.paths().state.clone();
        let accounts = Accounts::open(&directory)?;
        check_exposure(&options, &accounts)?;
        let note = Note::take(&directory)?;
        let tls = options.tls.clone();
        let tls =
            tls.map(|tls| Certificates::open(tls, &directory, names(&options))).transpose()?;
        let tls = tls.map(Arc::new);
        let listener = TcpListener::bind(listen)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|e| cannot_listen(listen, &e))?;
        let address = listener.local_addr().map_err(|e| cannot_listen(listen, &e))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("console")
            .enable_all()
            .build()
            .map_err(|e| catalogue::io("start", "the console's threads", &e))?;
        let root = match &tls {
            // What the certificate says is what is opened.
            Some(_) => format!("https://{}", first_host(&options, address)),
            None => format!("http://{}", reachable(address)),
        };
        let state = State::new(options, accounts, address, tls.clone())?;
        let app = router::router(state.clone());
        let inside = runtime.enter();
        let listener =
            tokio::net::TcpListener::from_std(listener).map_err(|e| cannot_listen(listen, &e))?;
        match &tls {
            Some(tls) => {
                let door = Door::open(listener, tls.config()?);
                let door = door.map_err(|e| cannot_listen(listen, &e))?;
                runtime.spawn(serve(door, app, HEAD));
            }
            None => {
                runtime.spawn(serve(listener, app, HEAD));
            }
        }
        runtime.spawn(pages::runs::live::follow(state.clone()));
        runtime.spawn(pages::runs::live::watch(state.clone()));
        let watched = state.clone();
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let state = watched.clone();
                let _ = tokio::task::spawn_blocking(move || state.shelf.sweep(IDLE)).await;
            }
        });
        note.write(&Running { address, root: Some(root.clone()) })?;
        drop(inside);
        Ok(Self { address, root, state, note, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the addresses of its pages begin with, without a slash at the end.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The certificate that it shows, if it speaks TLS itself.
    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        self.state.tls.clone()
    }

    /// An address that opens the console once, without a password.
    pub fn one_time_url(&self) -> Result<String, Problem> {
        one_time_url(&self.state.accounts, &self.root)
    }

    /// Serves until `interrupt` is raised.
    pub fn wait(&self, interrupt: &Interrupt) {
        while !interrupt.is_raised() {
            std::thread::sleep(GLANCE);
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.note.remove();
        self.state.hub.close();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(PATIENCE);
        }
    }
}

fn one_time_url(accounts: &Accounts, root: &str) -> Result<String, Problem> {
    Ok(format!("{root}/open?token={}", accounts.new_once()?))
}

/// An address that can be asked for: one that means all of this machine cannot.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// By which host browsers ask for a console that speaks TLS itself.
fn first_host(options: &Options, address: SocketAddr) -> String {
    match options.hosts.first() {
        Some(host) => with_port(host, address.port()),
        None => reachable(address).to_string(),
    }
}

/// A host with its port, as browsers say it where no proxy stands in between.
pub(crate) fn with_port(host: &str, port: u16) -> String {
    let has_port = match host.rsplit_once(':') {
        Some((_, end)) => end.parse::<u16>().is_ok() && host.parse::<Ipv6Addr>().is_err(),
        None => false,
    };
    match has_port || port == 443 {
        true => host.to_owned(),
        false => format!("{host}:{port}"),
    }
}

/// What a certificate of our own is made for.
fn names(options: &Options) -> Vec<String> {
    let ip = options.listen.ip();
    let mut names: Vec<_> = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    names.extend((!ip.is_unspecified()).then(|| ip.to_string()));
    names.extend(options.hosts.iter().map(|host| bare_name(host)));
    names.sort();
    names.dedup();
    names
}

/// Says where the console of a state directory is, for commands that come later.
#[derive(Debug, Serialize, Deserialize)]
struct Running {
    address: SocketAddr,
    /// What its pages begin with; older versions spoke no TLS, and said nothing.
    #[serde(default)]
    root: Option<String>,
}

/// The file that says where a console is. It holds while the lock beside it is held: one that was
/// killed leaves the file, and something else may listen there by now.
#[derive(Debug)]
struct Note {
    path: PathBuf,
    _lock: File,
}

impl Note {
    fn lock_file(state: &Path) -> Result<File, Problem> {
        let path = state.join("console.lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.open(&path).map_err(|e| catalogue::io("open", &path, &e))
    }

    /// Takes the lock. Errors: [`Class::Busy`] if another console has it.
    fn take(state: &Path) -> Result<Self, Problem> {
        let lock = Self::lock_file(state)?;
        let until = Instant::now() + GLANCE * 5;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                // Somebody may only be looking.
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(GLANCE / 10);
                }
                Err(TryLockError::WouldBlock) => {
                    let text = "another console of this user is at work already";
                    return Err(Problem::new(Class::Busy, text).hint("to open it: holdfast ui"));
                }
                Err(TryLockError::Error(e)) => {
                    return Err(catalogue::io("lock", state.join("console.lock"), &e));
                }
            }
        }
        let note = Self { path: state.join("console.json"), _lock: lock };
        note.remove();
        Ok(note)
    }

    fn write(&self, running: &Running) -> Result<(), Problem> {
        let text = serde_json::to_string(running).unwrap_or_default();
        std::fs::write(&self.path, text).map_err(|e| catalogue::io("write", &self.path, &e))
    }

    fn remove(&self) {
        // There may be none.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A one-time address of the console that is at work for this state directory; `None` if none is.
pub fn running(state: &Path) -> Result<Option<String>, Problem> {
    let text = std::fs::read_to_string(state.join("console.json")).unwrap_or_default();
    let Ok(Running { address, root }) = serde_json::from_str(&text) else { return Ok(None) };
    match Note::lock_file(state)?.try_lock_shared() {
        // Nobody has it.
        Ok(()) => return Ok(None),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(e)) => {
            return Err(catalogue::io("lock", state.join("console.lock"), &e));
        }
    }
    if TcpStream::connect_timeout(&reachable(address), PATIENCE).is_err() {
        return Ok(None);
    }
    let root = root.unwrap_or_else(|| format!("http://{address}"));
    one_time_url(&Accounts::open(state)?, &root).map(Some)
}

/// Refuses to be where others can reach it without a password and something that encrypts.
fn check_exposure(options: &Options, accounts: &Accounts) -> Result<(), Problem> {
    let listen = options.listen;
    if listen.ip().is_loopback() && !options.is_behind_proxy {
        return Ok(());
    }
    let refused = || Problem::usage(format!("the console does not listen on {listen} like this"));
    if !accounts.has_password()? {
        return Err(refused()
            .cause("others could reach it, and it has no password")
            .hint("set one first: holdfast ui reset-password"));
    }
    if !options.is_behind_proxy && options.tls.is_none() {
        return Err(refused()
            .cause("passwords would travel unencrypted")
            .hint("give it a certificate: --tls-cert FILE --tls-key FILE --host NAME")
            .hint("or have it make one that browsers warn of: --tls-self-signed --host NAME")
            .hint("or put a proxy with TLS in front of it, and say --behind-proxy --host NAME")
            .hint("or use 127.0.0.1, and reach it from elsewhere through ssh -L"));
    }
    Ok(())
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Problem {
    use std::io::ErrorKind;
    let problem = |class, text: String| Problem::new(class, text).cause(error);
    match error.kind() {
        ErrorKind::AddrInUse => problem(Class::Busy, format!("{address} is in use"))
            .hint("is a console open already? Give another port: --port 0 takes any free one"),
        ErrorKind::PermissionDenied => {
            problem(Class::PermissionDenied, format!("this user may not listen on {address}"))
                .hint("ports below 1024 belong to root: use a higher one")
        }
        _ => problem(Class::Io, format!("cannot listen on {address}")),
    }
}

/// A one-time address that begins with the snapshots of the repository of this name.
pub fn to_snapshots(url: &str, name: &str) -> String {
    format!("{url}&at={}", pages::snapshots::encode(name))
}
