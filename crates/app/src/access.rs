//! How places over a network are reached: who may be asked, where accepted host keys are kept,
//! and the one asynchronous runtime that connectors work on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use holdfast_connectors::sftp::pool::Pool;
use tokio::runtime::{Handle, Runtime};

use crate::ask::Ask;
use crate::catalogue;
use crate::problem::Problem;

/// What opening a place needs beside its location and options.
#[derive(Debug, Clone)]
pub struct Access {
    /// Who may be asked.
    pub ask: Arc<dyn Ask>,
    /// The home directory.
    pub home: Option<PathBuf>,
    /// Our own file of accepted host keys.
    pub known_hosts: Option<PathBuf>,
    /// Accept the key of a host that is met for the first time without asking.
    pub accept_new_host_key: bool,
    /// Connections to servers with several sources, by server: so that nobody is asked twice.
    pub(crate) servers: Arc<Mutex<BTreeMap<String, Pool>>>,
}

impl Access {
    /// Access without files of our own.
    pub fn new(ask: Arc<dyn Ask>) -> Self {
        Self {
            ask,
            home: None,
            known_hosts: None,
            accept_new_host_key: false,
            servers: Arc::default(),
        }
    }
}

/// The runtime, started when the first place needs it; it lasts as long as the process.
pub fn runtime() -> Result<Handle, Problem> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let started = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).min(4))
        .thread_name("network")
        .enable_all()
        .build()
        .map_err(|e| catalogue::io("start", "the network threads", &e))?;
    Ok(RUNTIME.get_or_init(|| started).handle().clone())
}
