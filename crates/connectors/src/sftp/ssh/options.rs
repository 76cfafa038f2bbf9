//! What a person or a configuration says about an SSH connection, before `ssh_config` is read.

use std::path::PathBuf;
use std::time::Duration;

pub use crate::secret::Secret;

/// Which `ssh_config` files are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ConfigFiles {
    /// `~/.ssh/config`, then `/etc/ssh/ssh_config`. Missing files are no error.
    #[default]
    UserAndSystem,
    /// None, and no `/etc/ssh/ssh_known_hosts` either.
    None,
    /// These, in this order; the first value of a setting wins.
    Files(Vec<PathBuf>),
}

/// An SSH connection as it was asked for. What is set here beats `ssh_config`; what is not set is
/// looked up there, and then has OpenSSH's default.
#[derive(Debug, Clone)]
pub struct SshOptions {
    /// Name, address, or alias of a `Host` block in `ssh_config`.
    pub host: String,
    /// Default: `Port` of `ssh_config`, else 22.
    pub port: Option<u16>,
    /// Default: `User` of `ssh_config`, else the local user's name.
    pub username: Option<String>,
    /// The account's password; also answers a hidden keyboard-interactive password prompt.
    pub password: Option<Secret>,
    /// Text of a private key. Literal `\n`, CRLF and a lost line structure are repaired.
    pub key: Option<Secret>,
    /// A private key's file. `~` is the home directory. A `<key_file>-cert.pub` beside it is used.
    pub key_file: Option<PathBuf>,
    /// Passphrase of `key` or `key_file`.
    pub key_passphrase: Option<Secret>,
    /// Text of an OpenSSH certificate for one of the keys.
    pub certificate: Option<String>,
    /// An OpenSSH certificate, or the public key that selects one key of the agent.
    pub public_key_file: Option<PathBuf>,
    /// `Some(true)`: the agent's keys first. `Some(false)`: no agent. `None`: as `ssh` does, but
    /// not if a password or a key is set here.
    pub use_agent: Option<bool>,
    /// Default: `IdentityAgent` of `ssh_config`, else `$SSH_AUTH_SOCK`.
    pub agent_socket: Option<PathBuf>,
    /// Also offer CBC and 3DES ciphers, SHA-1 signatures, key exchange and MACs.
    pub allow_insecure_ciphers: bool,
    /// Runs this instead of our own SSH. See [`super::SshSession`].
    pub ssh_command: Option<String>,
    /// One more file of known host keys; new keys are written to it rather than to `own_known_hosts`.
    pub known_hosts_file: Option<PathBuf>,
    /// Expected host key: one or several `SHA256:…` fingerprints or public key lines, separated by
    /// commas or line ends. Nothing else is accepted then.
    pub host_key: Option<String>,
    /// `[user@]host[:port]` of jump hosts, comma-separated, nearest first; `none` for none.
    pub proxy_jump: Option<String>,
    /// Deadline of each step: names, TCP, handshake, each message of the sign-in, opening a
    /// channel. Time in which a person answers does not count.
    pub timeout: Duration,
    /// Accept and store the key of a host that is not known. A changed key blocks all the same.
    pub accept_new_host_key: bool,
    /// Where accepted host keys are kept (0600, created with its directory). `None`: nowhere.
    pub own_known_hosts: Option<PathBuf>,
    /// Which `ssh_config` files are read.
    pub ssh_config: ConfigFiles,
    /// `~`. Default: the user's home directory.
    pub home: Option<PathBuf>,
}

impl Default for SshOptions {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: None,
            username: None,
            password: None,
            key: None,
            key_file: None,
            key_passphrase: None,
            certificate: None,
            public_key_file: None,
            use_agent: None,
            agent_socket: None,
            allow_insecure_ciphers: false,
            ssh_command: None,
            known_hosts_file: None,
            host_key: None,
            proxy_jump: None,
            timeout: Duration::from_secs(30),
            accept_new_host_key: false,
            own_known_hosts: None,
            ssh_config: ConfigFiles::default(),
            home: None,
        }
    }
}

impl SshOptions {
    /// Whether a credential is set here rather than found.
    pub(super) fn has_credential(&self) -> bool {
        self.password.is_some() || self.key.is_some() || self.key_file.is_some()
    }
}
