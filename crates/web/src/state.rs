//! What all requests share.

use std::net::SocketAddr;
use std::sync::Arc;

use holdfast_app::Problem;
use holdfast_app::paths::Paths;

use crate::console::Options;
use crate::live::Hub;
use crate::pages::storages::Trials;
use crate::sessions::Sessions;

/// One console.
#[derive(Debug)]
pub(crate) struct State {
    /// Files and directories of ours.
    pub(crate) paths: Paths,
    /// What a request's `Host` may say.
    pub(crate) hosts: Vec<String>,
    /// This machine's name.
    pub(crate) machine: String,
    /// Who is signed in.
    pub(crate) sessions: Sessions,
    /// Events for open pages.
    pub(crate) hub: Hub,
    /// Connection tests.
    pub(crate) trials: Trials,
}

pub(crate) type Shared = Arc<State>;

impl State {
    pub(crate) fn new(options: Options, address: SocketAddr) -> Result<Shared, Problem> {
        let port = address.port();
        let hosts =
            ["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{port}")).to_vec();
        Ok(Arc::new(Self {
            paths: options.paths,
            hosts,
            machine: options.machine,
            sessions: Sessions::new(port),
            hub: Hub::new()?,
            trials: Trials::default(),
        }))
    }
}
