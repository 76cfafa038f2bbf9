//! Waiting until the places of a plan can be reached: after a machine wakes up, its network takes a
//! while. Nothing is sent but questions for names.

use std::net::{ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use super::{Work, pause};
use crate::problem::Problem;
use crate::resolve::{Place, Resolved};
use crate::runs::Level;

const EVERY: Duration = Duration::from_secs(5);

/// Waits until there is a way to each of these places, at most so long. What is not reached then
/// says itself what is wrong.
pub(super) fn wait(work: &Work<'_>, places: &[Resolved], most: Duration) -> Result<(), Problem> {
    let hosts: Vec<_> = places.iter().filter_map(host_of).collect();
    let until = Instant::now() + most;
    let mut told = false;
    loop {
        let Some((host, _)) = hosts.iter().find(|(host, port)| !has_way(host, *port)) else {
            if told {
                work.watch.log(Level::Info, "the network is there");
            }
            return Ok(());
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        if !told {
            work.watch.step("network");
            work.watch.log(Level::Info, &format!("waiting for the network: no way to {host}"));
            told = true;
        }
        if !pause(work, left.min(EVERY)) {
            return Ok(());
        }
    }
}

/// Host and port of a place over a network. One that is reached through something else (a proxy, a
/// command, a name of ssh_config) is left to those who know the way.
fn host_of(place: &Resolved) -> Option<(String, u16)> {
    match &place.place {
        Place::Sftp(at) => {
            let options = &place.options;
            let is_direct = !options.has("ssh_command") && !options.has("proxy_jump");
            let is_name = at.host.contains('.') || at.host.contains(':') || at.host == "localhost";
            (is_direct && is_name).then(|| (at.host.clone(), at.port.unwrap_or(22)))
        }
        Place::S3(at) => Some((at.endpoint.clone(), at.port.unwrap_or(443))),
        Place::Local(_) | Place::Stream => None,
    }
}

/// Whether the name has an address and there is a route to it.
fn has_way(host: &str, port: u16) -> bool {
    let Ok(addresses) = (host, port).to_socket_addrs() else { return false };
    addresses.into_iter().any(|address| {
        let here = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        // Connecting such a socket sends nothing: it asks for a route.
        UdpSocket::bind(here).and_then(|socket| socket.connect(address)).is_ok()
    })
}
