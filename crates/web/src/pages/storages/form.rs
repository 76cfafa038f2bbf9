//! The form of a storage, made from the table of options: each of them that a kind of location can
//! have is a field, so that none can be forgotten. Secrets are told to be set, never shown.

use std::collections::HashMap;

use holdfast_app::config::keys::{KEYS, Key, Kind, Type};
use holdfast_app::config::{Config, MASK};
use holdfast_app::location::{Location, S3Location, SftpLocation};
use holdfast_app::{Options, Problem, Resolved};

/// Options that the fields for the place itself stand for.
pub(super) const OF_THE_PLACE: [&str; 5] = ["title", "location", "host", "port", "username"];

/// Options that people need at once; the others are folded away.
const PLAIN: [&str; 6] =
    ["password", "key", "key_file", "key_passphrase", "access_key", "secret_access_key"];

/// An option as a field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) key: &'static Key,
    /// What it is set to; empty if it is not, and for secrets.
    pub(super) value: String,
    /// The secret is set, here.
    pub(super) is_set: bool,
    /// The file that the secret is read from.
    pub(super) file: String,
    /// The command that prints it.
    pub(super) command: String,
}

/// What kind of control a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    Line,
    Lines,
    Number,
    Secret,
    SecretLines,
    /// A box to tick: false unless it is.
    Box,
    /// Yes, no, or what holds otherwise.
    Choice,
}

impl Field {
    /// An option as it stands in the file; `line` gives the shown value of a line, or nothing.
    pub(super) fn of(key: &'static Key, line: &dyn Fn(&str) -> String) -> Self {
        let secret = key.value.is_secret();
        let value = line(key.name);
        let form = |suffix: &str, can: bool| match secret && can {
            true => line(&format!("{}{suffix}", key.name)),
            false => String::new(),
        };
        Self {
            key,
            is_set: secret && !value.is_empty(),
            file: form("_file", key.has_file_form()),
            command: form("_command", true),
            // What says where a secret is may be seen; the secret itself comes masked.
            value: if secret && value == MASK { String::new() } else { value },
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.key.name
    }

    pub(super) fn label(&self) -> String {
        label(self.key.name)
    }

    pub(super) fn control(&self) -> Control {
        match self.key.value {
            Type::Secret => Control::Secret,
            Type::SecretLines => Control::SecretLines,
            Type::Lines => Control::Lines,
            Type::Bool if self.key.default == "false" => Control::Box,
            Type::Bool => Control::Choice,
            Type::Number(..) => Control::Number,
            Type::Text | Type::Path | Type::Duration | Type::Rate | Type::Words => Control::Line,
        }
    }

    /// How a secret is set that is not here, in words; empty if it is not.
    pub(super) fn state(&self) -> &'static str {
        match (self.file.is_empty(), self.command.is_empty()) {
            (false, _) => "It is read from a file.",
            (_, false) => "A command prints it.",
            _ => "",
        }
    }
}

/// What the field of an option is called.
pub(crate) fn label(option: &str) -> String {
    match option {
        "key" => "Private key".into(),
        "tls_ca_file" => "File with certificate authorities".into(),
        "tls_insecure_no_verify" => "Accept any TLS certificate".into(),
        "use_tls" => "TLS".into(),
        "sse" => "Encryption by the server".into(),
        "host_key" => "Expected host key".into(),
        "disable_hash_check" => "Run no commands on the server".into(),
        "object_lock" => "Object lock, days".into(),
        "repository_key_file" => "Key file of the repository".into(),
        "passphrase" => "Passphrase of the repository".into(),
        "use_agent" => "SSH agent".into(),
        "agent_socket" => "Socket of the SSH agent".into(),
        "ssh_command" => "SSH command".into(),
        option => {
            let words = option.replace('_', " ");
            let mut letters = words.chars();
            let first = letters.next().map(|c| c.to_ascii_uppercase());
            first.into_iter().chain(letters).collect()
        }
    }
}

/// Where it is, in the fields of its kind.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: String,
    pub(super) user: String,
    /// Directory here or on the server, or prefix in the bucket.
    pub(super) path: String,
    pub(super) endpoint: String,
    pub(super) bucket: String,
}

/// The whole form.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) kind: Kind,
    /// Its name, if it is there already.
    pub(super) entry: Option<String>,
    /// What people call it.
    pub(super) title: String,
    pub(super) place: Place,
    pub(super) plain: Vec<Field>,
    pub(super) advanced: Vec<Field>,
}

impl Form {
    /// The form for a new storage.
    pub(super) fn new(kind: Kind) -> Self {
        Self::with(kind, None, String::new(), Place::default(), &HashMap::new())
    }

    /// The form for a storage that is there. Without a location it has no kind: an error.
    pub(super) fn of(config: &Config, name: &str) -> Result<Self, Problem> {
        let entry = config.expect(name)?;
        let Some(kind) = entry.kind() else {
            return Err(entry.location().err().unwrap_or_else(|| {
                Problem::usage(format!("what {name} means cannot be edited here"))
                    .hint(format!("to see it: holdfast config repository show {name}"))
            }));
        };
        let place = place(config, name, &entry.location()?)?;
        let lines = entry.lines().into_iter().map(|line| (line.name, line.text)).collect();
        let title = entry.title().unwrap_or(name).to_owned();
        Ok(Self::with(kind, Some(name.to_owned()), title, place, &lines))
    }

    fn with(
        kind: Kind,
        entry: Option<String>,
        title: String,
        place: Place,
        lines: &HashMap<String, String>,
    ) -> Self {
        let (plain, advanced) = fields(kind)
            .map(|key| Field::of(key, &|name| lines.get(name).cloned().unwrap_or_default()))
            .partition(|field| PLAIN.contains(&field.name()));
        Self { kind, entry, title, place, plain, advanced }
    }

    pub(super) fn is_sftp(&self) -> bool {
        self.kind == Kind::Sftp
    }

    pub(super) fn is_s3(&self) -> bool {
        self.kind == Kind::S3
    }
}

/// The options of a kind that are fields of their own.
pub(super) fn fields(kind: Kind) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.applies_to(kind) && !OF_THE_PLACE.contains(&key.name))
}

/// The place in the fields of its kind, whether the location or options beside it say it.
pub(super) fn place(config: &Config, name: &str, location: &Location) -> Result<Place, Problem> {
    Ok(match location {
        Location::S3(S3Location { bucket, prefix, .. }) => Place {
            endpoint: s3(location).unwrap_or_default(),
            bucket: bucket.clone(),
            path: prefix.clone(),
            ..Place::default()
        },
        _ => {
            let location = Location::Named { name: name.to_owned(), below: Vec::new() };
            let resolved = Resolved::new(&location, Some(config), &Options::default())?;
            match resolved.place {
                holdfast_app::Place::Sftp(at) => {
                    let port = at.port.map(|port| port.to_string()).unwrap_or_default();
                    let (host, user) = (at.host.clone(), at.user.clone().unwrap_or_default());
                    let at = SftpLocation {
                        user: at.user,
                        host: Some(at.host),
                        port: at.port,
                        path: at.path,
                        follows: at.follows,
                    };
                    Place { host, port, user, path: at.directory(), ..Place::default() }
                }
                place => Place { path: place.to_string(), ..Place::default() },
            }
        }
    })
}

fn s3(location: &Location) -> Option<String> {
    match location {
        Location::S3(location) => Some(location.endpoint_field()),
        _ => None,
    }
}

/// A provider of S3 storage, and the endpoint to begin with.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) name: &'static str,
    pub(super) endpoint: &'static str,
}

const fn provider(name: &'static str, endpoint: &'static str) -> Provider {
    Provider { name, endpoint }
}

/// Providers whose endpoints are known; a region in them is an example.
pub(super) const PROVIDERS: [Provider; 11] = [
    provider("AWS", "s3.eu-central-1.amazonaws.com"),
    provider("Backblaze B2", "s3.eu-central-003.backblazeb2.com"),
    provider("Clever Cloud", "cellar-c2.services.clever-cloud.com"),
    provider("Cloudflare R2", "ACCOUNT.r2.cloudflarestorage.com"),
    provider("Garage", "garage.example.com:3900"),
    provider("Google Cloud Storage", "storage.googleapis.com"),
    provider("MinIO", "minio.example.com:9000"),
    provider("OVHcloud", "s3.gra.io.cloud.ovh.net"),
    provider("Scaleway", "s3.fr-par.scw.cloud"),
    provider("Wasabi", "s3.eu-central-1.wasabisys.com"),
    provider("Ceph", "rgw.example.com:7480"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_a_kind_is_a_field() {
        for kind in [Kind::Local, Kind::Sftp, Kind::S3] {
            let form = Form::new(kind);
            let all: Vec<_> = form.plain.iter().chain(&form.advanced).map(Field::name).collect();
            for key in KEYS.iter().filter(|key| key.applies_to(kind)) {
                let there = all.contains(&key.name) || OF_THE_PLACE.contains(&key.name);
                assert!(there, "{} of {kind}", key.name);
            }
        }
    }
}
