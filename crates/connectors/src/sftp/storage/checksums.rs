//! Checksums by a command on the server, so that packs are verified without being sent. Which
//! command there is, and whether the shell sees the same directory as SFTP does, is found out with
//! the repository's `config`: only a shell that gives its true checksum is believed.

use std::collections::HashMap;
use std::time::Duration;

use holdfast_engine::hash::{ObjectId, Sha256};
use holdfast_engine::storage::{ObjectName, StorageErrorKind};

use super::SftpStorage;
use super::problem::Trouble;
use crate::sftp::pool::SftpError;
use crate::sftp::ssh::Class;

/// Linux, macOS and others with Perl, the BSDs. File names follow.
const COMMANDS: [&str; 3] = ["sha256sum", "shasum -a 256", "sha256 -r"];

/// Objects in one command: its line stays below 8 KiB.
const BATCH: usize = 64;

/// How long one command may take: 64 of the longest packs, at 10 MB/s.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// How long it may take to find out whether there is such a command.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

impl SftpStorage {
    /// See [`holdfast_engine::storage::Storage::sha256`].
    pub(super) async fn checksums(
        &self,
        names: &[ObjectName],
    ) -> Result<Option<Vec<Option<ObjectId>>>, Trouble> {
        let command = match self.command.get_or_try_init(|| self.find_command()).await {
            Ok(Some(command)) => command,
            Ok(None) => return Ok(None),
            // Not known for ever: there may be a repository later.
            Err(trouble) if trouble.kind() == StorageErrorKind::NotFound => return Ok(None),
            Err(trouble) => return Err(trouble),
        };
        let mut found = Vec::with_capacity(names.len());
        for some in names.chunks(BATCH) {
            let text = self.ask(command, some, LIMIT).await?.unwrap_or_default();
            let told = read_output(&text);
            found.extend(some.iter().map(|name| told.get(name.as_str()).copied().flatten()));
        }
        Ok(Some(found))
    }

    async fn find_command(&self) -> Result<Option<&'static str>, Trouble> {
        if self.pool.options().disable_hash_check {
            return Ok(None);
        }
        let config = ObjectName::config();
        let wanted = Sha256::of(&self.read_whole(&self.path(config.as_str()).await?).await?);
        for command in COMMANDS {
            // A server that runs no command runs no other one either.
            let asked = self.ask(command, std::slice::from_ref(&config), PROBE_LIMIT).await?;
            let Some(text) = asked else { return Ok(None) };
            if read_output(&text).get(config.as_str()) == Some(&Some(wanted)) {
                return Ok(Some(command));
            }
        }
        Ok(None)
    }

    /// What the command prints; `None` if the server runs none, or not in time.
    async fn ask(
        &self,
        command: &str,
        names: &[ObjectName],
        limit: Duration,
    ) -> Result<Option<String>, Trouble> {
        let Some(directory) = self.shell_directory().await? else { return Ok(None) };
        // Names of objects are made of letters, digits, `.`, `-` and `/`: no shell minds them.
        let mut line = format!("cd {directory} && {command}");
        for name in names {
            line.push(' ');
            line.push_str(name.as_str());
        }
        let mut patience = self.pool.patience();
        loop {
            let error = match self.pool.exec(&line, limit).await {
                Ok(output) => return Ok(Some(String::from_utf8_lossy(&output.stdout).into())),
                Err(error) => error,
            };
            let SftpError::Ssh(ssh) = &error else { return Err(error.into()) };
            match ssh.class() {
                Class::ChannelRefused | Class::Timeout => return Ok(None),
                Class::Disconnected if patience.pause().await => {}
                _ => return Err(error.into()),
            }
        }
    }

    /// The repository's directory for a shell, quoted; `None` if it cannot be said to one.
    async fn shell_directory(&self) -> Result<Option<String>, Trouble> {
        let path = self.path("").await?;
        let Ok(path) = std::str::from_utf8(&path) else { return Ok(None) };
        let root = self.pool.options().shell_path.as_deref().unwrap_or_default();
        Ok(quoted(&format!("{}{path}", root.strip_suffix('/').unwrap_or(root))))
    }
}

/// A path as one word for the usual shells, the C shell among them.
fn quoted(path: &str) -> Option<String> {
    // The C shell replaces `!` even within quotes, and takes no line break.
    if path.contains(['\n', '\r', '!', '\0']) {
        return None;
    }
    Some(format!("'{}'", path.replace('\'', "'\\''")))
}

/// Checksums by name, from lines as `sha256sum` prints them (`hash  name`, `hash *name`) and as
/// the BSDs do (`hash name`, `SHA256 (name) = hash`). `None` for what is told in two ways.
fn read_output(text: &str) -> HashMap<&str, Option<ObjectId>> {
    let mut found: HashMap<&str, Option<ObjectId>> = HashMap::new();
    for line in text.lines() {
        let bsd = line.strip_prefix("SHA256 (").and_then(|rest| rest.rsplit_once(") = "));
        let pair = match bsd {
            Some((name, hash)) => Some((hash, name)),
            None => line.split_once(' '),
        };
        let Some((hash, name)) = pair else { continue };
        let Ok(id) = ObjectId::from_hex(hash.trim()) else { continue };
        let name = name.strip_prefix([' ', '*']).unwrap_or(name);
        let told = found.entry(name).or_insert(Some(id));
        if *told != Some(id) {
            *told = None;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_every_known_command_is_read() {
        let (a, b) = (ObjectId::new([0xaa; 32]), ObjectId::new([0xbb; 32]));
        let text = format!(
            "Welcome!\n{a}  packs/aa/1\n{a} *packs/aa/2\n{a} packs/aa/3\nSHA256 (packs/aa/4) = {a}\n\
             sha256sum: packs/aa/5: No such file\n{a}  twice\n{b}  twice\n{a}\n\nxyz  packs/aa/6\n"
        );
        let found = read_output(&text);
        for name in ["packs/aa/1", "packs/aa/2", "packs/aa/3", "packs/aa/4"] {
            assert_eq!(found.get(name), Some(&Some(a)), "{name}");
        }
        assert_eq!(found.get("twice"), Some(&None));
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn paths_are_one_word_for_a_shell() {
        assert_eq!(quoted("/a b/$c").as_deref(), Some("'/a b/$c'"));
        assert_eq!(quoted("/it's").as_deref(), Some("'/it'\\''s'"));
        assert_eq!(quoted("/a\nb"), None);
    }
}
