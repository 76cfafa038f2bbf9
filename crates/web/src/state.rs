//! What all requests share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use holdfast_app::Problem;
use holdfast_app::paths::Paths;
use holdfast_app::runner::Runner;

use crate::console::Options;
use crate::live::Hub;
use crate::pages::storages::Trials;
use crate::sessions::Sessions;

/// One console.
#[derive(Debug)]
pub(crate) struct State {
    /// Files and directories of ours.
    pub(crate) paths: Paths,
    /// What works.
    pub(crate) runner: Runner,
    /// What a request's `Host` may say.
    pub(crate) hosts: Vec<String>,
    /// This machine's name.
    pub(crate) machine: String,
    /// The console ends with a command that somebody typed, and plans with it.
    pub(crate) is_foreground: bool,
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
            paths: options.runner.paths().clone(),
            runner: options.runner,
            hosts,
            machine: options.machine,
            is_foreground: options.is_foreground,
            sessions: Sessions::new(port),
            hub: Hub::new()?,
            trials: Trials::default(),
        }))
    }

    /// What people call plans, as the configuration says now.
    pub(crate) fn titles(&self) -> Titles {
        let config = self.paths.load_config().ok();
        let plans = config.iter().flat_map(|config| {
            config.plan_names().into_iter().filter_map(|name| {
                let title = config.plan_as_written(&name).ok()?.title?;
                Some((name, title))
            })
        });
        Titles(plans.collect())
    }
}

/// Titles of plans that have one, by name.
#[derive(Debug)]
pub(crate) struct Titles(HashMap<String, String>);

impl Titles {
    /// What to call a plan; `None` if it has no title.
    pub(crate) fn of(&self, plan: Option<&str>) -> Option<String> {
        self.0.get(plan?).cloned()
    }
}
