//! Every option that a named location can have, in one table. Validation, masking, the typed
//! getters, `docs/configuration.md` and the command line's messages are all made from it.

use std::fmt;

/// What a location is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A path of this machine.
    Local,
    /// `sftp://`.
    Sftp,
    /// `s3://`.
    S3,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Sftp => "sftp",
            Self::S3 => "s3",
        })
    }
}

/// What an option holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// One line.
    Text,
    /// Text that may have several lines.
    Lines,
    /// A secret of one line. Also as `X_file`, `X_command`, and `env:NAME` or `keyring:NAME` as
    /// its value.
    Secret,
    /// A secret that may have several lines; `\n` written out is a line's end, too.
    SecretLines,
    /// A path of this machine; `~/` is the home directory.
    Path,
    /// true or false.
    Bool,
    /// A whole number from the first to the second, inclusive.
    Number(u64, u64),
    /// Seconds, or a number with `ms`, `s`, `m` or `h`.
    Duration,
    /// Bytes a second: `10M`, `512KiB`.
    Rate,
    /// A command: text for a shell, or an array of words.
    Words,
}

impl Type {
    /// Whether it is masked wherever it is shown.
    pub fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::SecretLines)
    }

    /// Whether line ends are part of the value.
    pub fn has_lines(self) -> bool {
        matches!(self, Self::Lines | Self::SecretLines)
    }

    /// What a person would call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Lines => "text, several lines",
            Self::Secret => "secret",
            Self::SecretLines => "secret, several lines",
            Self::Path => "path",
            Self::Bool => "true or false",
            Self::Number(..) => "number",
            Self::Duration => "duration",
            Self::Rate => "bytes a second",
            Self::Words => "command",
        }
    }
}

/// An option.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name in the file and on the command line.
    pub name: &'static str,
    /// What it holds.
    pub value: Type,
    /// The kinds of location that it applies to; empty for all.
    pub kinds: &'static [Kind],
    /// One line for people.
    pub about: &'static str,
    /// What holds where it is not given; empty for nothing.
    pub default: &'static str,
}

impl Key {
    /// Whether locations of this kind can have it.
    pub fn applies_to(&self, kind: Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    /// Whether `X_file` is a form of this secret. `key_file` is an option of its own: what reads
    /// it looks for the public half and the certificate beside it.
    pub fn has_file_form(&self) -> bool {
        self.value.is_secret() && self.name != "key"
    }
}

/// In which of its forms an option is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// The value itself.
    Value,
    /// `X_file`: a file that holds the secret.
    File,
    /// `X_command`: a command that prints the secret.
    Command,
}

impl Form {
    /// What is written in this form of an option that holds a `value`.
    pub fn value(self, value: Type) -> Type {
        match self {
            Self::Value => value,
            Self::File => Type::Path,
            Self::Command => Type::Words,
        }
    }

    /// The name of a secret in this form.
    pub fn name(self, secret: &str) -> String {
        match self {
            Self::Value => secret.to_owned(),
            Self::File => format!("{secret}_file"),
            Self::Command => format!("{secret}_command"),
        }
    }
}

const ANY: &[Kind] = &[];
const SFTP: &[Kind] = &[Kind::Sftp];
const S3: &[Kind] = &[Kind::S3];
const REMOTE: &[Kind] = &[Kind::Sftp, Kind::S3];

const fn key(
    name: &'static str,
    value: Type,
    kinds: &'static [Kind],
    default: &'static str,
    about: &'static str,
) -> Key {
    Key { name, value, kinds, about, default }
}

/// All options, in the order of the reference.
pub const KEYS: &[Key] = &[
    key("title", Type::Text, ANY, "", "What people call it; any text"),
    key(
        "location",
        Type::Text,
        ANY,
        "",
        "A path, sftp://[user@]host[:port]/absolute/path, or s3://endpoint[:port]/bucket[/prefix]",
    ),
    key("passphrase", Type::Secret, ANY, "", "Passphrase of the repository there"),
    key("repository_key_file", Type::Path, ANY, "", "Key file of the repository there"),
    key(
        "limit_upload",
        Type::Rate,
        ANY,
        "no limit",
        "Send no more than this to a repository there, or over a network",
    ),
    key(
        "limit_download",
        Type::Rate,
        ANY,
        "no limit",
        "Receive no more than this from a repository there, or over a network",
    ),
    key(
        "connections",
        Type::Number(1, 64),
        REMOTE,
        "4; for S3 as many as serve, at most 64",
        "Connections at once",
    ),
    key("timeout", Type::Duration, REMOTE, "30s", "Give up on an answer after this time"),
    key(
        "host",
        Type::Text,
        SFTP,
        "",
        "Name or address of the server, or a Host of ~/.ssh/config, if location does not say it",
    ),
    key(
        "port",
        Type::Number(1, 65535),
        SFTP,
        "22, or what ~/.ssh/config says",
        "Port of the server, if location does not say it",
    ),
    key(
        "username",
        Type::Text,
        SFTP,
        "what ~/.ssh/config says, or your own",
        "User to sign in as, if location does not say it",
    ),
    key("password", Type::Secret, SFTP, "", "Password of the user"),
    key("key", Type::SecretLines, SFTP, "", "Text of a private key, pasted"),
    key("key_file", Type::Path, SFTP, "what ~/.ssh/config says", "File with a private key"),
    key("key_passphrase", Type::Secret, SFTP, "", "Passphrase of the private key"),
    key("certificate", Type::Lines, SFTP, "", "Text of the OpenSSH certificate for the key"),
    key(
        "public_key_file",
        Type::Path,
        SFTP,
        "",
        "File with the certificate or the public half of the key",
    ),
    key(
        "use_agent",
        Type::Bool,
        SFTP,
        "if one runs",
        "true: sign in by the SSH agent alone; false: never ask it",
    ),
    key("agent_socket", Type::Path, SFTP, "$SSH_AUTH_SOCK", "Socket of the SSH agent"),
    key(
        "allow_insecure_ciphers",
        Type::Bool,
        SFTP,
        "false",
        "Also accept old, weak algorithms, for old servers",
    ),
    key(
        "disable_hash_check",
        Type::Bool,
        SFTP,
        "false",
        "Run no commands on the server to verify what was stored",
    ),
    key(
        "shell_path",
        Type::Text,
        SFTP,
        "",
        "Where a shell on the server sees the root of SFTP (Synology: /volume1)",
    ),
    key(
        "ssh_command",
        Type::Words,
        SFTP,
        "",
        "Connect by this command, for instance `ssh -o ControlPath=none`, instead of by ourselves",
    ),
    key(
        "known_hosts_file",
        Type::Path,
        SFTP,
        "~/.ssh/known_hosts, and one of our own",
        "File with the host keys to trust",
    ),
    key(
        "host_key",
        Type::Text,
        SFTP,
        "",
        "The host key to expect, as fingerprint (SHA256:…) or public key",
    ),
    key(
        "proxy_jump",
        Type::Text,
        SFTP,
        "what ~/.ssh/config says",
        "Hosts to go through: [user@]host[:port], several with commas",
    ),
    key("access_key", Type::Secret, S3, "", "Access key"),
    key("secret_access_key", Type::Secret, S3, "", "Secret key"),
    key("session_token", Type::Secret, S3, "", "Session token of temporary keys"),
    key("profile", Type::Text, S3, "", "Profile of ~/.aws/config to take keys and region from"),
    key("region", Type::Text, S3, "from the endpoint, the profile or the server", "Region"),
    key("use_tls", Type::Bool, S3, "true", "Connect by https"),
    key("tls_ca_file", Type::Path, S3, "", "File with the certificate authorities to trust"),
    key("tls_insecure_no_verify", Type::Bool, S3, "false", "Accept any certificate: unsafe"),
    key(
        "virtual_host",
        Type::Bool,
        S3,
        "for AWS",
        "true: bucket.endpoint/key; false: endpoint/bucket/key",
    ),
    key("storage_class", Type::Text, S3, "", "Storage class of data packs"),
    key("sse", Type::Text, S3, "", "Encryption by the server: AES256, aws:kms or aws:kms:KEY"),
    key(
        "object_lock",
        Type::Number(1, 36500),
        S3,
        "",
        "Days for which what is stored cannot be deleted, by nobody",
    ),
    key("create_bucket", Type::Bool, S3, "false", "Make the bucket if it is not there"),
];

/// The option that a name means, and its form.
pub fn find(name: &str) -> Option<(&'static Key, Form)> {
    let exact = |name: &str| KEYS.iter().find(|key| key.name == name);
    if let Some(key) = exact(name) {
        return Some((key, Form::Value));
    }
    if let Some(key) = name.strip_suffix("_file").and_then(exact) {
        return key.has_file_form().then_some((key, Form::File));
    }
    let key = name.strip_suffix("_command").and_then(exact)?;
    key.value.is_secret().then_some((key, Form::Command))
}

/// Every name that the file may hold.
fn names() -> impl Iterator<Item = String> {
    KEYS.iter().flat_map(|key| {
        let file = key.has_file_form().then(|| format!("{}_file", key.name));
        let command = key.value.is_secret().then(|| format!("{}_command", key.name));
        [Some(key.name.to_owned()), file, command].into_iter().flatten()
    })
}

/// The known name that `unknown` is most likely meant to be.
pub fn nearest(unknown: &str) -> Option<String> {
    let unknown = unknown.to_ascii_lowercase().replace('-', "_");
    nearest_of(&unknown, names())
}

/// The one of `known` that is most like `unknown`, if any is.
pub fn nearest_of(unknown: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let distance = |name: &str| {
        let is_part = name.starts_with(unknown) || unknown.starts_with(name);
        let whole = strsim::damerau_levenshtein(unknown, name);
        if unknown.len() >= 3 && is_part { (whole.min(2), 0) } else { (whole, 1) }
    };
    known
        .map(|name| (distance(&name), name))
        .filter(|((distance, _), _)| *distance <= 1 + unknown.chars().count() / 4)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found_in_their_form() {
        let mut all: Vec<_> = names().collect();
        for name in &all {
            assert!(find(name).is_some(), "{name}");
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        let form = |name: &str| find(name).map(|(key, form)| (key.name, form));
        assert_eq!(form("password_command"), Some(("password", Form::Command)));
        assert_eq!(form("passphrase_file"), Some(("passphrase", Form::File)));
        // The SSH key's file is an option of its own.
        assert_eq!(form("key_file"), Some(("key_file", Form::Value)));
        assert_eq!(form("key_command"), Some(("key", Form::Command)));
        for name in ["region_file", "title_command", "key_file_file", "", "Location"] {
            assert_eq!(form(name), None, "{name}");
        }
    }

    #[test]
    fn slips_lead_to_the_key_that_was_meant() {
        for (slip, meant) in [
            ("passwrod", "password"),
            ("acces_key", "access_key"),
            ("user", "username"),
            ("use-tls", "use_tls"),
            ("keyfile", "key_file"),
            ("Location", "location"),
        ] {
            assert_eq!(nearest(slip).as_deref(), Some(meant));
        }
        assert_eq!(nearest("colour"), None);
    }
}
