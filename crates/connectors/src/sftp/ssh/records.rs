//! What this machine has on record of a host and of the jump hosts before it, without connecting: so
//! that accepted host keys can be kept elsewhere, and brought back on another machine.

use std::path::PathBuf;

use russh::keys::PublicKey;

use super::hostkey::{self, HostNames, KnownHosts};
use super::target::{self, Route, Target};
use super::{HostKey, Problem, SshError, SshOptions, Stage};

/// A host, and the keys that are accepted for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRecord {
    /// As in a file of known hosts: `host`, `[host]:port`, or the alias that `ssh_config` gives it.
    pub name: String,
    /// Revoked ones are not among them, nor authorities.
    pub keys: Vec<HostKey>,
    /// Where accepted keys are written.
    written: Option<PathBuf>,
}

impl HostRecord {
    /// Accepts a key, as a person would who is asked: it is known from now on. Without a file for
    /// such keys nothing is done.
    pub fn accept(&self, key: &HostKey) -> std::io::Result<()> {
        let (Some(path), Ok(key)) = (&self.written, PublicKey::from_openssh(&key.line)) else {
            return Ok(());
        };
        hostkey::append(path, &self.name, &key)
    }
}

impl HostKey {
    /// A key as a file of known hosts has it: `ssh-ed25519 AAAA…`.
    pub fn parse(line: &str) -> Option<Self> {
        PublicKey::from_openssh(line).ok().map(|key| hostkey::shown(&key))
    }
}

/// The records of the host that `options` name, and of the jump hosts before it. Reads files alone;
/// where a command makes the connection, there are none.
pub fn host_records(options: &SshOptions) -> Result<Vec<HostRecord>, SshError> {
    if options.ssh_command.is_some() {
        return Ok(Vec::new());
    }
    let (target, names, known) = look_up(options)?;
    let mut found = Vec::new();
    if let Route::Jump(hops) = &target.route {
        for (at, hop) in hops.iter().enumerate() {
            let before = hops.get(..at).unwrap_or_default();
            let (target, names, known) = look_up(&target::hop_options(options, hop, before))?;
            found.push(record(target, &names, &known));
        }
    }
    found.push(record(target, &names, &known));
    Ok(found)
}

fn record(target: Target, names: &HostNames, known: &KnownHosts) -> HostRecord {
    let keys = known.accepted();
    HostRecord { name: names.main.clone(), keys, written: target.known_hosts_written }
}

/// Where a host is, by which names its key is known, and what is known of it.
pub(super) fn look_up(options: &SshOptions) -> Result<(Target, HostNames, KnownHosts), SshError> {
    let asked = target::asked(options);
    let settings =
        |what: String| SshError::new(Stage::Settings, &asked, Problem::Settings { what });
    let target = target::resolve(options).map_err(settings)?;
    let names = HostNames::new(&target.host, target.port, target.key_alias.as_deref());
    let known = KnownHosts::load(&target.known_hosts, &names).map_err(|(path, error)| {
        SshError::new(Stage::Settings, &asked, Problem::LocalFile { path }).because(error)
    })?;
    Ok((target, names, known))
}
