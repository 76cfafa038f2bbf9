//! What all requests share.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use holdfast_app::Problem;
use holdfast_app::paths::Paths;
use holdfast_app::runner::Runner;
use holdfast_engine::ops::info::{RepositoryInfo, info};
use http::HeaderMap;

use crate::accounts::{Accounts, Limiter};
use crate::console::{Options, with_port};
use crate::live::Hub;
use crate::opened::{Open, Shelf};
use crate::pages::restore::preview::Looks;
use crate::pages::storages::Trials;
use crate::tls::Certificates;
use crate::view::cookie;

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
    /// Who may use it.
    pub(crate) accounts: Accounts,
    /// What failed to sign in.
    pub(crate) limiter: Limiter,
    /// Cookies know no port: consoles beside each other must not share one.
    pub(crate) cookie: String,
    /// Something in front of it speaks TLS, and says who asks.
    pub(crate) is_behind_proxy: bool,
    /// The certificate that it shows, if it speaks TLS itself.
    pub(crate) tls: Option<Arc<Certificates>>,
    /// Events for open pages.
    pub(crate) hub: Hub,
    /// Connection tests.
    pub(crate) trials: Trials,
    /// Repositories that are open.
    pub(crate) shelf: Shelf,
    /// Previews of restores that became runs.
    pub(crate) looks: Looks,
}

pub(crate) type Shared = Arc<State>;

impl State {
    pub(crate) fn new(
        options: Options,
        accounts: Accounts,
        address: SocketAddr,
        tls: Option<Arc<Certificates>>,
    ) -> Result<Shared, Problem> {
        let port = address.port();
        let own = ["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{port}"));
        let mut hosts = own.to_vec();
        hosts.push(address.to_string());
        if tls.is_some() {
            // Nobody stands in between who would hide the port.
            hosts.extend(options.hosts.iter().map(|host| with_port(host, port)));
        }
        hosts.extend(options.hosts);
        Ok(Arc::new(Self {
            paths: options.runner.paths().clone(),
            runner: options.runner,
            hosts,
            machine: options.machine,
            is_foreground: options.is_foreground,
            accounts,
            limiter: Limiter::default(),
            // Behind TLS no other host beside ours can set it either.
            cookie: match options.is_behind_proxy || tls.is_some() {
                true => format!("__Host-holdfast-{port}"),
                false => format!("holdfast-{port}"),
            },
            is_behind_proxy: options.is_behind_proxy,
            tls,
            hub: Hub::new()?,
            trials: Trials::default(),
            shelf: Shelf::default(),
            looks: Looks::default(),
        }))
    }

    /// Browsers speak TLS, to it or to what stands in front.
    fn is_encrypted(&self) -> bool {
        self.is_behind_proxy || self.tls.is_some()
    }

    /// Who asks: the other end of the connection, or whom the proxy in front names last.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let named = headers.get_all("x-forwarded-for").iter().next_back();
        let named =
            named.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        named.filter(|_| self.is_behind_proxy).unwrap_or(peer.ip())
    }

    /// The secret in the session's cookie, if there is one.
    pub(crate) fn session_id<'a>(&self, cookies: &'a str) -> Option<&'a str> {
        cookie(cookies, &self.cookie)
    }

    /// The `Set-Cookie` of a session; without an id, that ends it.
    pub(crate) fn set_cookie(&self, id: Option<&str>) -> String {
        let secure = if self.is_encrypted() { "; Secure" } else { "" };
        let (id, age) = id.map_or(("", "; Max-Age=0"), |id| (id, ""));
        format!("{}={id}; Path=/; HttpOnly; SameSite=Strict{secure}{age}", self.cookie)
    }

    /// What a repository holds, found out now and remembered.
    pub(crate) fn measure(&self, open: &Open) -> Result<RepositoryInfo, Problem> {
        let found = info(&open.repository, open.index());
        let found = found.map_err(|e| holdfast_app::catalogue::explain(&e, None))?;
        self.accounts.remember(&open.name, Some(&found))?;
        Ok(found)
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
