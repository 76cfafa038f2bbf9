//! An `ssh-agent` of one's own.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Killed on drop.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    directory: tempfile::TempDir,
}

impl Agent {
    /// Starts an empty agent.
    pub fn start() -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("holdfast-agent-").tempdir()?;
        let child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(directory.path().join("socket"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let agent = Self { child, directory };
        for _ in 0..500 {
            // The socket is there a moment before it is listened on.
            if UnixStream::connect(agent.socket()).is_ok() {
                return Ok(agent);
            }
            sleep(Duration::from_millis(10));
        }
        Err(io::Error::other("ssh-agent does not listen after 5 s"))
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Adds a private key without passphrase, and the certificate beside it if there is one.
    pub fn add(&self, key: &Path) -> io::Result<()> {
        let output = Command::new("ssh-add")
            .env("SSH_AUTH_SOCK", self.socket())
            .arg("-q")
            .arg(key)
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
