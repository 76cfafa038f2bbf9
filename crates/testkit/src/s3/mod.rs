//! A real S3 server in this process, on a free loopback port: signatures are verified, listings
//! have pages, objects can be locked, cold or damaged. In front of it, faults and a record of
//! requests. All of it is gone when the fixture is dropped.

mod fault;
mod log;
mod memory;
mod object;
mod request;
mod serve;
mod store;
mod tls;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use s3s::host::SingleDomain;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::sync::watch;

pub use fault::{S3Fault, S3Refusal, S3Rule};
pub use log::S3Request;
pub use object::{Retention, S3Object, Thawed};
pub use request::S3Operation;
pub use tls::S3Tls;

use crate::lock;
use memory::Memory;
use serve::{Keys, Shared};
use store::Store;

/// Where objects are kept.
#[derive(Debug, Clone, Default)]
pub enum S3Backend {
    /// In memory: any key, versions, locks, cold classes.
    #[default]
    Memory,
    /// As files below a directory, or a temporary one, by another implementation. It cannot hold
    /// `a` beside `a/b`, nor empty, `.` and `..` parts of keys, and knows no versions, locks and
    /// other classes than STANDARD.
    Directory(Option<PathBuf>),
}

/// What kind of server.
#[derive(Debug, Clone)]
pub struct S3ServerOptions {
    /// Where objects are kept.
    pub backend: S3Backend,
    /// Buckets that are there at the start.
    pub buckets: Vec<String>,
    /// They keep versions.
    pub versions: bool,
    /// They have object lock, and versions.
    pub object_lock: bool,
    /// The one account.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// Where the server says that it is.
    pub region: String,
    /// Requests that are signed for another region are refused, as AWS does.
    pub check_region: bool,
    /// The most keys of one page of a listing.
    pub page: usize,
    /// Encryption of connections.
    pub tls: S3Tls,
    /// Also takes `bucket.localhost`.
    pub virtual_hosts: bool,
    /// TCP port; 0 for any free one.
    pub port: u16,
}

impl Default for S3ServerOptions {
    fn default() -> Self {
        Self {
            backend: S3Backend::Memory,
            buckets: vec!["bucket".into()],
            versions: false,
            object_lock: false,
            access_key: "test-access-key".into(),
            secret_key: "test-secret-key".into(),
            region: "us-east-1".into(),
            check_region: false,
            page: 1000,
            tls: S3Tls::Off,
            virtual_hosts: false,
            port: 0,
        }
    }
}

/// A running server.
pub struct S3Server {
    options: S3ServerOptions,
    address: SocketAddr,
    shared: Arc<Shared>,
    store: Option<Arc<Store>>,
    stop: watch::Sender<()>,
    thread: Option<JoinHandle<()>>,
    ca_file: Option<PathBuf>,
    files: PathBuf,
    // Removed after the server that uses it.
    _directory: tempfile::TempDir,
}

impl fmt::Debug for S3Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Server({})", self.address)
    }
}

impl S3Server {
    /// Starts a server.
    pub fn start(options: S3ServerOptions) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("holdfast-s3-").tempdir()?;
        let files = match &options.backend {
            S3Backend::Directory(Some(path)) => path.clone(),
            _ => directory.path().join("buckets"),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        let address = listener.local_addr()?;
        let mut store = None;
        let mut builder = match &options.backend {
            S3Backend::Memory => {
                let made = Arc::new(Store::new(&options.region, options.page));
                for name in &options.buckets {
                    let versions = options.versions || options.object_lock;
                    made.buckets().create(name, versions, options.object_lock);
                }
                store = Some(made.clone());
                S3ServiceBuilder::new(Memory(made))
            }
            S3Backend::Directory(_) => {
                for name in &options.buckets {
                    std::fs::create_dir_all(files.join(name))?;
                }
                std::fs::create_dir_all(&files)?;
                let system = FileSystem::new(&files);
                S3ServiceBuilder::new(system.map_err(|e| io::Error::other(format!("{e:?}")))?)
            }
        };
        builder.set_auth(Keys {
            access_key: options.access_key.clone(),
            secret_key: options.secret_key.clone(),
        });
        let domain = options.virtual_hosts.then(|| format!("localhost:{}", address.port()));
        if let Some(domain) = &domain {
            builder.set_host(SingleDomain::new(domain).map_err(io::Error::other)?);
        }
        let (ca_file, acceptor) = match tls::acceptor(options.tls)? {
            None => (None, None),
            Some((authority, acceptor)) => {
                let path = directory.path().join("ca.pem");
                std::fs::write(&path, authority)?;
                (Some(path), Some(acceptor))
            }
        };
        let shared = Arc::new(Shared {
            service: builder.build(),
            region: options.check_region.then(|| options.region.clone()),
            domain,
            rules: Mutex::default(),
            log: Mutex::default(),
            running: Default::default(),
            most: Default::default(),
        });
        let (stop, stopped) = watch::channel(());
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            // Without a runtime nobody is answered, and the test says so.
            let _ = serve::run(listener, acceptor, of_thread, stopped);
        });
        Ok(Self {
            options,
            address,
            shared,
            store,
            stop,
            thread: Some(thread),
            ca_file,
            files,
            _directory: directory,
        })
    }

    /// `host:port` as a location names it.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.address.port())
    }

    /// Where it listens, to put a [`Proxy`](crate::Proxy) in front.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The one account.
    pub fn access_key(&self) -> &str {
        &self.options.access_key
    }

    /// Its secret.
    pub fn secret_key(&self) -> &str {
        &self.options.secret_key
    }

    /// Where the server says that it is.
    pub fn region(&self) -> &str {
        &self.options.region
    }

    /// The certificate that clients must trust, as PEM.
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// Where the files of a bucket lie, if objects are files.
    pub fn bucket_dir(&self, bucket: &str) -> Option<PathBuf> {
        self.store.is_none().then(|| self.files.join(bucket))
    }

    /// Adds a fault. Of several that fit a request the first strikes.
    pub fn add_fault(&self, rule: S3Rule) {
        lock(&self.shared.rules).push(rule);
    }

    /// Nothing goes wrong any more.
    pub fn clear_faults(&self) {
        lock(&self.shared.rules).clear();
    }

    /// The requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<S3Request> {
        lock(&self.shared.log).requests.clone()
    }

    /// How many requests of this kind there were.
    pub fn count(&self, operation: S3Operation) -> usize {
        let log = lock(&self.shared.log);
        log.requests.iter().filter(|request| request.operation == operation).count()
    }

    /// Forgets requests and the most at once.
    pub fn clear_requests(&self) {
        let mut log = lock(&self.shared.log);
        log.cleared += log.requests.len();
        log.requests.clear();
        self.shared.most.store(0, Ordering::SeqCst);
    }

    /// The most requests that were served at the same time.
    pub fn most_at_once(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }

    /// Keys of a bucket, sorted. Like all that follows: around the protocol, in memory only.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let Some(store) = &self.store else { return Vec::new() };
        let buckets = store.buckets();
        let Some(bucket) = buckets.all.get(bucket) else { return Vec::new() };
        let shown =
            bucket.keys.iter().filter(|(_, of)| of.last().is_some_and(|v| v.object().is_some()));
        shown.map(|(key, _)| key.clone()).collect()
    }

    /// The current version of an object.
    pub fn object(&self, bucket: &str, key: &str) -> Option<S3Object> {
        self.store.as_ref()?.buckets().current(bucket, key).cloned()
    }

    /// Stores an object as another client would, at the server's time. `false` without bucket.
    pub fn put(&self, bucket: &str, key: &str, object: S3Object) -> bool {
        let stored = self.store.as_ref().and_then(|s| s.buckets().store(bucket, key, object));
        stored.is_some()
    }

    /// Changes an object as a failing disk would: nothing else notices. `false` if there is none.
    pub fn change(&self, bucket: &str, key: &str, change: impl FnOnce(&mut S3Object)) -> bool {
        let Some(store) = &self.store else { return false };
        store.buckets().current_mut(bucket, key).map(change).is_some()
    }

    /// Removes an object with all versions, whatever locks say. `false` if there was none.
    pub fn remove(&self, bucket: &str, key: &str) -> bool {
        let Some(store) = &self.store else { return false };
        let mut buckets = store.buckets();
        buckets.all.get_mut(bucket).is_some_and(|bucket| bucket.keys.remove(key).is_some())
    }

    /// Versions of a key that are kept, marks of deletion not counted.
    pub fn versions(&self, bucket: &str, key: &str) -> Vec<S3Object> {
        let Some(store) = &self.store else { return Vec::new() };
        let buckets = store.buckets();
        let versions = buckets.all.get(bucket).and_then(|bucket| bucket.keys.get(key));
        versions.into_iter().flatten().filter_map(|version| version.object()).cloned().collect()
    }

    /// Multipart uploads that are neither completed nor aborted.
    pub fn open_uploads(&self, bucket: &str) -> usize {
        let Some(store) = &self.store else { return 0 };
        store.buckets().all.get(bucket).map_or(0, |bucket| bucket.uploads.len())
    }

    /// Sets the server's clock ahead of the real one.
    pub fn set_clock_ahead(&self, time: Duration) {
        if let Some(store) = &self.store {
            store.buckets().ahead = time;
        }
    }

    /// Makes all cold objects readable that were asked for. Returns how many.
    pub fn thaw(&self) -> usize {
        let Some(store) = &self.store else { return 0 };
        let mut thawed = 0;
        let mut buckets = store.buckets();
        for versions in buckets.all.values_mut().flat_map(|bucket| bucket.keys.values_mut()) {
            if let Some(store::Version::Object(object)) = versions.last_mut()
                && object.thawed == Thawed::Asked
            {
                object.thawed = Thawed::Yes;
                thawed += 1;
            }
        }
        thawed
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
