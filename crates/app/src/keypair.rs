//! A key pair of its own for an SFTP location: made here, its private half in a file that nobody
//! else can read, its public half as the line that the server's account wants.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use holdfast_connectors::sftp::ssh::{self, KeyProblem};
use zeroize::Zeroizing;

use crate::catalogue;
use crate::config::{Config, name_of};
use crate::location::absolute;
use crate::problem::{Class, Problem};
use crate::text::{printable_os, shell_word};

/// Options that another key has brought with it.
const OF_A_KEY: [&str; 5] = ["key", "key_file", "key_passphrase", "certificate", "public_key_file"];

/// What is asked for.
#[derive(Debug, Clone)]
pub struct KeyRequest {
    /// Name or title of the location; one that is not there is made.
    pub name: String,
    /// Where the private half goes; else `keys/NAME` beside the configuration.
    pub file: Option<PathBuf>,
    /// What ends the public line: whose key it is.
    pub comment: String,
    /// Take the place of a key that is set already. Its file stays.
    pub replace: bool,
}

/// A key pair that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// The location's name.
    pub name: String,
    /// The location was made, too.
    pub created: bool,
    /// Its two halves.
    pub pair: Pair,
    /// Options that went.
    pub replaced: Vec<String>,
}

/// The files of a key pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The private half.
    pub key_file: PathBuf,
    /// The public half, beside it.
    pub public_file: PathBuf,
    /// The line for `authorized_keys`.
    pub public_line: String,
    /// `SHA256:…`.
    pub fingerprint: String,
}

/// Makes a key pair and sets it as the location's `key_file`. Nothing is overwritten, and nothing
/// is left behind if it fails.
pub fn generate(
    config: &Path,
    home: Option<PathBuf>,
    request: &KeyRequest,
) -> Result<NewKey, Problem> {
    let mut made = Vec::new();
    let directory = config.parent().unwrap_or(Path::new("/")).join("keys");
    let result = Config::edit(config, home, |config| {
        let name = config.existing(&request.name);
        let name = name.or_else(|_| name_of(&request.name).map(|(name, _)| name))?;
        let replaced = in_the_way(config, &name)?;
        if let (Some(option), false) = (replaced.first(), request.replace) {
            let text = format!("{name} signs in by its {option} already");
            return Err(Problem::new(Class::AlreadyExists, text)
                .hint("--replace makes a new key in its place; what is in files stays"));
        }
        for option in &replaced {
            config.unset(&name, option)?;
        }
        let path = match &request.file {
            Some(path) => absolute(path),
            None => {
                make_directory(&directory)?;
                directory.join(&name)
            }
        };
        let text = path.to_str().ok_or_else(|| Problem::usage("a key's path must be UTF-8"))?;
        // The option first: what it refuses needs no files.
        let changed = config.set(&request.name, "key_file", text)?;
        let pair = write_pair(path, &request.comment)?;
        made.extend([pair.key_file.clone(), pair.public_file.clone()]);
        Ok(NewKey { name: changed.name, created: changed.created, pair, replaced })
    });
    if result.is_err() {
        for path in made {
            let _ = std::fs::remove_file(path);
        }
    }
    result
}

/// Makes a key pair in files beside the configuration, for a location that is still being typed.
/// A number follows the name where there is a key of that name already.
pub fn make_for(config: &Path, name: &str, comment: &str) -> Result<Pair, Problem> {
    const TRIES: usize = 100;
    let (name, _) = name_of(name)?;
    let directory = config.parent().unwrap_or(Path::new("/")).join("keys");
    make_directory(&directory)?;
    let mut last = None;
    for number in 1..=TRIES {
        let file = if number == 1 { name.clone() } else { format!("{name}-{number}") };
        match write_pair(directory.join(file), comment) {
            Err(problem) if problem.class == Class::AlreadyExists => last = Some(problem),
            written => return written,
        }
    }
    Err(last.unwrap_or_else(|| Problem::new(Class::AlreadyExists, "too many keys of this name")))
}

fn make_directory(directory: &Path) -> Result<(), Problem> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|e| catalogue::io("make", directory, &e))
}

/// Makes a key pair and writes its halves. Nothing is left behind if it fails.
fn write_pair(path: PathBuf, comment: &str) -> Result<Pair, Problem> {
    let key = ssh::generate_key(comment)
        .map_err(|e| Problem::new(Class::Internal, "no key could be made").cause(e))?;
    let public = path.with_file_name(format!(
        "{}.pub",
        path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default()
    ));
    write_new(&path, key.private.expose().as_bytes(), 0o600)?;
    if let Err(problem) = write_new(&public, format!("{}\n", key.public_line).as_bytes(), 0o644) {
        let _ = std::fs::remove_file(&path);
        return Err(problem);
    }
    Ok(Pair {
        key_file: path,
        public_file: public,
        public_line: key.public_line,
        fingerprint: key.fingerprint,
    })
}

/// What a private key shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenKey {
    /// How it is written down: "OpenSSH", "PKCS#8 PEM", …
    pub format: String,
    /// Such as `ssh-ed25519`.
    pub algorithm: String,
    /// `SHA256:…`.
    pub fingerprint: String,
    /// The line for `authorized_keys`.
    pub public_line: String,
}

/// Looks at the text of a private key, as it was pasted. The error says what is wrong with it, or
/// that it needs its passphrase.
pub fn inspect(text: &str, passphrase: Option<Zeroizing<String>>) -> Result<SeenKey, Problem> {
    let passphrase = passphrase.filter(|text| !text.is_empty()).map(ssh::Secret::from);
    match ssh::read_key(text, passphrase.as_ref()) {
        Ok(key) => Ok(SeenKey {
            format: key.format.to_string(),
            algorithm: key.algorithm(),
            fingerprint: key.fingerprint(),
            public_line: key.public_line(),
        }),
        Err(what) => {
            let class = match what {
                KeyProblem::PassphraseNeeded => Class::PassphraseNeeded,
                KeyProblem::WrongPassphrase => Class::WrongPassphrase,
                _ => Class::KeyUnreadable,
            };
            Err(catalogue::ssh_key(Problem::new(class, format!("this key {what}")), &what))
        }
    }
}

/// Options of the location that would not fit the new key, or hide it.
fn in_the_way(config: &Config, name: &str) -> Result<Vec<String>, Problem> {
    let Some(entry) = config.entry(name) else { return Ok(Vec::new()) };
    let of_a_key = |option: &str| {
        let named = crate::config::keys::find(option).map(|(key, _)| key.name);
        named.is_some_and(|name| OF_A_KEY.contains(&name))
    };
    let is_in_the_way = |line: &crate::config::Shown| {
        of_a_key(&line.name) || (line.name == "use_agent" && line.text == "true")
    };
    let lines = entry.lines().into_iter().filter(is_in_the_way);
    Ok(lines.map(|line| line.name).collect())
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Problem> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if written.is_err() {
            let _ = std::fs::remove_file(path);
        }
        written
    });
    written.map_err(|e| {
        let problem = catalogue::io("make", path, &e);
        match e.kind() {
            std::io::ErrorKind::AlreadyExists => problem.hint(format!(
                "to use that one: holdfast config repository set NAME key_file {}",
                shell_word(path)
            )),
            std::io::ErrorKind::NotFound => {
                problem.hint(format!("its directory must be there: {}", printable_os(path)))
            }
            _ => problem,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_set_and_never_overwritten() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("config.toml");
        let request = |name: &str, replace| KeyRequest {
            name: name.into(),
            file: None,
            comment: "holdfast of here".into(),
            replace,
        };
        let made = generate(&config, None, &request("Office NAS", false))?;
        assert!(made.created && made.pair.public_line.starts_with("ssh-ed25519 AAAA"));
        assert!(made.pair.public_line.ends_with("holdfast of here"));
        let file = dir.path().join("keys/office-nas");
        assert_eq!((made.name.as_str(), &made.pair.key_file), ("office-nas", &file));
        assert_eq!(file.metadata()?.permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&file)?.starts_with("-----BEGIN OPENSSH PRIVATE KEY"));
        let public = std::fs::read_to_string(dir.path().join("keys/office-nas.pub"))?;
        assert_eq!(public.trim_end(), made.pair.public_line);
        let text = std::fs::read_to_string(&config)?;
        assert!(text.contains(&format!("key_file = \"{}\"", file.display())), "{text}");
        // A key that is set, or a file that is there, stays.
        let again = generate(&config, None, &request("office-nas", false));
        assert!(again.is_err_and(|p| p.class == Class::AlreadyExists && p.hints.len() == 1));
        let again = generate(&config, None, &request("office-nas", true));
        assert!(again.is_err_and(|p| p.class == Class::AlreadyExists));
        assert_eq!(std::fs::read_to_string(&config)?, text);
        let mut other = request("office-nas", true);
        other.file = Some(dir.path().join("other"));
        std::fs::write(dir.path().join("other.pub"), "theirs")?;
        assert!(generate(&config, None, &other).is_err());
        assert!(!dir.path().join("other").exists(), "half a pair was left");
        std::fs::remove_file(dir.path().join("other.pub"))?;
        let made = generate(&config, None, &other)?;
        assert_eq!(made.replaced, ["key_file"]);
        Ok(())
    }

    #[test]
    fn what_belongs_to_another_key_goes_with_it() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("config.toml");
        let agent = "[repository.a]\nlocation = \"sftp://h/x\"\nuse_agent = true\n";
        let text = format!("{agent}key_passphrase_command = \"x\"\ncertificate = \"c\"\n");
        std::fs::write(&config, text)?;
        let mut request =
            KeyRequest { name: "a".into(), file: None, comment: String::new(), replace: false };
        assert!(generate(&config, None, &request).is_err());
        assert!(!dir.path().join("keys/a").exists());
        request.replace = true;
        let made = generate(&config, None, &request)?;
        assert_eq!(made.replaced, ["use_agent", "key_passphrase_command", "certificate"]);
        // A local place signs in nowhere.
        std::fs::write(&config, "[repository.a]\nlocation = \"/x\"\n")?;
        request.file = Some(dir.path().join("k"));
        assert!(generate(&config, None, &request).is_err_and(|p| p.message.contains("sftp")));
        assert!(!dir.path().join("k").exists());
        Ok(())
    }
}
