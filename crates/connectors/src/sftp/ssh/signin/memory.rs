//! What was learned while signing in, for the other connections of the same run.

use std::collections::HashMap;
use std::sync::Mutex;

use super::super::{Secret, UserKey};
use super::Candidate;
use crate::locked;

/// Shared by all connections of one connector.
#[derive(Debug, Default)]
pub(in super::super) struct Memory(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    hosts: HashMap<String, HostMemory>,
    /// Opened keys by origin.
    keys: HashMap<String, UserKey>,
}

/// About one account on one host.
#[derive(Debug, Default, Clone)]
pub(super) struct HostMemory {
    /// Typed by a person, and accepted.
    pub(super) password: Option<Secret>,
    /// What was accepted, to be tried first.
    pub(super) won: Vec<Candidate>,
}

impl Memory {
    pub(super) fn host(&self, host: &str) -> HostMemory {
        locked(&self.0).hosts.get(host).cloned().unwrap_or_default()
    }

    pub(super) fn password(&self, host: &str, password: Secret) {
        locked(&self.0).hosts.entry(host.to_owned()).or_default().password = Some(password);
    }

    pub(super) fn won(&self, host: &str, candidate: Candidate) {
        let mut inner = locked(&self.0);
        let won = &mut inner.hosts.entry(host.to_owned()).or_default().won;
        // A typed password is remembered; it need not be asked for again.
        let candidate = match candidate {
            Candidate::AskPassword => Candidate::Password,
            other => other,
        };
        if !won.contains(&candidate) {
            won.push(candidate);
        }
    }

    pub(super) fn key(&self, origin: &str) -> Option<UserKey> {
        locked(&self.0).keys.get(origin).cloned()
    }

    pub(super) fn keep_key(&self, origin: &str, key: &UserKey) {
        locked(&self.0).keys.insert(origin.to_owned(), key.clone());
    }
}
