//! Keys and certificates by `ssh-keygen`, so that what is read was written by somebody else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A user's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// ssh-ed25519
    Ed25519,
    /// ecdsa-sha2-nistp256, 384 or 521, by the number of bits
    Ecdsa(u32),
    /// ssh-rsa of 2048 bits
    Rsa,
}

/// A host's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKeyKind {
    /// ssh-ed25519
    Ed25519,
    /// ecdsa-sha2-nistp256
    Ecdsa,
    /// ssh-rsa of 2048 bits
    Rsa,
}

impl KeyKind {
    fn arguments(self) -> Vec<String> {
        match self {
            Self::Ed25519 => vec!["-t".into(), "ed25519".into()],
            Self::Ecdsa(bits) => vec!["-t".into(), "ecdsa".into(), "-b".into(), bits.to_string()],
            Self::Rsa => vec!["-t".into(), "rsa".into(), "-b".into(), "2048".into()],
        }
    }
}

impl HostKeyKind {
    fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "host_ed25519",
            Self::Ecdsa => "host_ecdsa",
            Self::Rsa => "host_rsa",
        }
    }

    pub(super) fn path(self, directory: &Path) -> PathBuf {
        directory.join(self.name())
    }

    pub(super) fn certificate(self, directory: &Path) -> PathBuf {
        directory.join(format!("{}-cert.pub", self.name()))
    }

    pub(super) fn generate(self, directory: &Path) -> io::Result<()> {
        let kind = match self {
            Self::Ed25519 => KeyKind::Ed25519,
            Self::Ecdsa => KeyKind::Ecdsa(256),
            Self::Rsa => KeyKind::Rsa,
        };
        keygen(&self.path(directory), kind, "", None).map(|_| ())
    }

    pub(super) fn remove(self, directory: &Path) {
        let name = self.name();
        for name in [name.to_owned(), format!("{name}.pub"), format!("{name}-cert.pub")] {
            let _ = fs::remove_file(directory.join(name));
        }
    }
}

/// Makes a key pair at `path` and `path.pub`. `format`: `PEM` or `PKCS8` instead of OpenSSH's own.
/// Returns the private key's text.
pub fn keygen(
    path: &Path,
    kind: KeyKind,
    passphrase: &str,
    format: Option<&str>,
) -> io::Result<String> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-C", "test", "-N", passphrase]).args(kind.arguments());
    if let Some(format) = format {
        command.args(["-m", format]);
    }
    run(command.arg("-f").arg(path))?;
    fs::read_to_string(path)
}

/// The public half of the private key at `path`: `algorithm base64`.
pub fn public_line(path: &Path) -> io::Result<String> {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    let text = fs::read_to_string(name)?;
    Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

/// Signs `key.pub` for a user by the authority; returns the path of `key-cert.pub`.
pub fn certify(
    authority: &Path,
    key: &Path,
    principals: &str,
    extra: &[&str],
) -> io::Result<PathBuf> {
    sign(authority, key, &[&["-I", "user", "-n", principals], extra].concat())
}

/// Signs `key.pub` for a host.
pub fn certify_host(
    authority: &Path,
    key: &Path,
    principals: &str,
    extra: &[&str],
) -> io::Result<PathBuf> {
    sign(authority, key, &[&["-h", "-I", "host", "-n", principals], extra].concat())
}

fn sign(authority: &Path, key: &Path, arguments: &[&str]) -> io::Result<PathBuf> {
    let mut public = key.as_os_str().to_owned();
    public.push(".pub");
    run(Command::new("ssh-keygen").args(["-q", "-s"]).arg(authority).args(arguments).arg(public))?;
    let mut certificate = key.as_os_str().to_owned();
    certificate.push("-cert.pub");
    Ok(certificate.into())
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?}: {text}")))
}
