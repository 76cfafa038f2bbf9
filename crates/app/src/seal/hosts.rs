//! The host keys that were accepted for the SFTP places of a plan. They are public, and go into
//! snapshots with it: a machine that is recovered then knows the servers that its backups were made
//! to, and asks nobody to compare fingerprints.

use holdfast_connectors::sftp::ssh::{HostKey, HostRecord};
use toml_edit::{Array, DocumentMut, Item, Value};

use super::Sealed;
use crate::access::Access;
use crate::config::{Config, Options};
use crate::location::Location;
use crate::plans::Plan;
use crate::problem::{Class, Problem};
use crate::resolve::Resolved;
use crate::sftp;
use crate::text::{printable, printable_os};

/// The array that holds them, each a line as in a file of known hosts.
pub(super) const KNOWN_HOSTS: &str = "known_hosts";

/// A key that was accepted for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedKey {
    /// The host, as in a file of known hosts.
    pub host: String,
    /// The key.
    pub key: HostKey,
}

impl AcceptedKey {
    /// Reads a line. Patterns are none: it is one key of one host.
    fn parse(line: &str) -> Option<Self> {
        let (host, key) = line.split_once(' ')?;
        let is_name = |c: char| c.is_alphanumeric() || "-_.:[]%".contains(c);
        let is_host = !host.is_empty() && host.chars().all(is_name);
        Some(Self { host: host.to_owned(), key: HostKey::parse(key)? }).filter(|_| is_host)
    }

    fn line(&self) -> String {
        format!("{} {}", self.host, self.key.line)
    }

    /// For people.
    pub fn shown(&self) -> String {
        let HostKey { algorithm, fingerprint, .. } = &self.key;
        format!("{}: {algorithm} {fingerprint}", printable(self.host.as_bytes()))
    }
}

/// The records of all SFTP places of a plan, each host once. What cannot be looked up is left out: a
/// backup does not fail for it, and who recovers is asked in its place.
fn records(config: &Config, plan: &Plan, access: &Access) -> Vec<HostRecord> {
    let mut found: Vec<HostRecord> = Vec::new();
    for text in super::places_of(plan) {
        let place = Location::parse(text.as_ref())
            .and_then(|location| Resolved::new(&location, Some(config), &Options::default()));
        let records = place.and_then(|place| sftp::host_records(&place, access));
        for record in records.unwrap_or_default() {
            if !found.iter().any(|other| other.name == record.name) {
                found.push(record);
            }
        }
    }
    found
}

/// What goes into a snapshot.
pub(super) fn seal(config: &Config, plan: &Plan, access: &Access, document: &mut DocumentMut) {
    let mut lines = Array::new();
    for record in records(config, plan, access) {
        for key in record.keys {
            lines.push(AcceptedKey { host: record.name.clone(), key }.line());
        }
    }
    if !lines.is_empty() {
        document.insert(KNOWN_HOSTS, Item::Value(Value::Array(lines)));
    }
}

/// What came out of one. A line that makes no sense says nothing.
pub(super) fn open(document: &DocumentMut) -> Vec<AcceptedKey> {
    let lines = document.get(KNOWN_HOSTS).and_then(Item::as_array);
    let lines = lines.into_iter().flatten().filter_map(Value::as_str);
    lines.filter_map(AcceptedKey::parse).collect()
}

/// What became of host keys that a snapshot says.
#[derive(Debug, Default)]
pub struct HostKeys {
    /// Known from now on.
    pub accepted: Vec<AcceptedKey>,
    /// Left out: this machine knows another key of the host.
    pub differing: Vec<AcceptedKey>,
    /// Left out: nothing that was recovered reaches this host, by the names of this machine.
    pub unused: Vec<AcceptedKey>,
}

impl Sealed {
    /// Accepts its host keys for the places of its plan, which `config` has now. A host of which this
    /// machine knows a key already keeps that.
    pub fn accept_host_keys(
        &self,
        config: &Config,
        access: &Access,
        done: &mut HostKeys,
    ) -> Result<(), Problem> {
        let plan = config.plan_as_written(&self.name)?;
        let records = records(config, &plan, access);
        for sealed in &self.host_keys {
            let known = [&done.accepted, &done.differing, &done.unused];
            if known.iter().any(|known| known.contains(sealed)) {
                continue;
            }
            let Some(record) = records.iter().find(|record| record.name == sealed.host) else {
                done.unused.push(sealed.clone());
                continue;
            };
            if record.keys.contains(&sealed.key) {
                continue;
            }
            if !record.keys.is_empty() && !done.accepted.iter().any(|a| a.host == sealed.host) {
                done.differing.push(sealed.clone());
                continue;
            }
            record.accept(&sealed.key).map_err(|e| {
                let path = access.known_hosts.as_deref().map(printable_os).unwrap_or_default();
                let text = format!("the host key of {} cannot be kept", sealed.shown());
                Problem::new(Class::Io, text).cause(format!("{path}: {e}"))
            })?;
            done.accepted.push(sealed.clone());
        }
        Ok(())
    }
}
