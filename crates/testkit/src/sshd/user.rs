//! A system user that lives as long as a test.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once};
use std::thread::sleep;
use std::time::Duration;

use super::process;
use crate::lock;

const PREFIX: &str = "holdfast-test-";

/// `useradd` and its like lock the password files and give up at once if they are locked.
static TURN: Mutex<()> = Mutex::new(());
static NEXT: AtomicU32 = AtomicU32::new(0);
static SWEPT: Once = Once::new();

/// Whether tests may make users.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The caller's account.
pub(super) fn own_name() -> io::Result<String> {
    let id = Command::new("id").arg("-un").output()?;
    Ok(String::from_utf8_lossy(&id.stdout).trim().to_owned())
}

/// Removed on drop.
#[derive(Debug)]
pub(super) struct TestUser(String);

impl TestUser {
    pub(super) fn create(password: &str, home: &Path) -> io::Result<Self> {
        SWEPT.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let user = Self(format!("{PREFIX}{}-{number}", std::process::id()));
        run(
            Command::new("useradd").args(["-m", "-s", "/bin/sh", "-d"]).arg(home).arg(&user.0),
            "",
        )?;
        run(&mut Command::new("chpasswd"), &format!("{}:{password}\n", user.0))?;
        Ok(user)
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for TestUser {
    fn drop(&mut self) {
        let _ = run(Command::new("userdel").arg("-f").arg(&self.0), "");
    }
}

/// Users of test processes that were killed.
fn sweep() {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    for name in text.lines().filter_map(|line| line.split(':').next()) {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let pid = rest.split('-').next().and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| !process::runs(pid)) {
            drop(TestUser(name.to_owned()));
        }
    }
}

/// Runs one of the tools, again while another process holds the lock.
fn run(command: &mut Command, input: &str) -> io::Result<()> {
    let _turn = lock(&TURN);
    let mut text = String::new();
    for _ in 0..100 {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        text = String::from_utf8_lossy(&output.stderr).into_owned();
        if !text.contains("lock") {
            break;
        }
        sleep(Duration::from_millis(50));
    }
    Err(io::Error::other(format!("{command:?}: {text}")))
}
