//! A real OpenSSH server on a free loopback port, with its own keys, log and, if it runs as root,
//! its own system user with a password. All of it is gone when the fixture is dropped, also by a
//! panic. As an ordinary user there is one account, the caller's, and no passwords.

mod agent;
mod keys;
mod process;
mod user;

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use agent::Agent;
pub use keys::{HostKeyKind, KeyKind, certify, certify_host, keygen, public_line};
use user::TestUser;
pub use user::is_root;

/// Where Debian has it.
const SSHD: &str = "/usr/sbin/sshd";

/// What kind of server.
#[derive(Debug, Clone)]
pub struct SshdOptions {
    /// In the order of `HostKey` lines.
    pub host_keys: Vec<HostKeyKind>,
    /// Makes a system user with this password. Needs root.
    pub password: Option<String>,
    /// Questions by PAM. Needs root and a password.
    pub keyboard_interactive: bool,
    /// Lines of `authorized_keys`.
    pub authorized_keys: Vec<String>,
    /// Public key of an authority for user certificates.
    pub user_authority: Option<String>,
    /// What `Subsystem sftp` runs; `None` for no SFTP.
    pub subsystem: Option<String>,
    /// Locks the user into a directory that holds `data`, which is theirs. Needs root.
    pub chroot: bool,
    /// Lines put before all others, so that they win.
    pub extra: Vec<String>,
}

impl Default for SshdOptions {
    fn default() -> Self {
        Self {
            host_keys: vec![HostKeyKind::Ed25519],
            password: None,
            keyboard_interactive: false,
            authorized_keys: Vec::new(),
            user_authority: None,
            subsystem: Some("internal-sftp".into()),
            chroot: false,
            extra: Vec::new(),
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Sshd {
    options: SshdOptions,
    port: u16,
    child: Child,
    user: Option<TestUser>,
    account: String,
    // Last: removed after the processes that use it.
    directory: tempfile::TempDir,
}

impl Sshd {
    /// Starts a server. Errors name what is missing.
    pub fn start(options: SshdOptions) -> io::Result<Self> {
        if !Path::new(SSHD).exists() {
            return Err(io::Error::other("no /usr/sbin/sshd: apt install openssh-server"));
        }
        if is_root() {
            fs::create_dir_all("/run/sshd")?;
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix("holdfast-sshd-");
        // No directory on the way to a chroot may be writable for others.
        let directory =
            if options.chroot { builder.tempdir_in("/run/sshd")? } else { builder.tempdir()? };
        // The user's side of sshd reads authorized_keys here.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        for kind in &options.host_keys {
            kind.generate(directory.path())?;
        }
        let user = match &options.password {
            Some(password) => Some(TestUser::create(password, &directory.path().join("home"))?),
            None => None,
        };
        let account = match &user {
            Some(user) => user.name().to_owned(),
            None => user::own_name()?,
        };
        let mut last = io::Error::other("sshd did not start");
        for _ in 0..5 {
            let port = free_port()?;
            write_config(&options, directory.path(), port, &account)?;
            match launch(directory.path(), port) {
                Ok(child) => return Ok(Self { options, port, child, user, account, directory }),
                // Somebody else took the port meanwhile.
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The account to sign in to.
    pub fn user(&self) -> &str {
        &self.account
    }

    /// The password of that account, if it has one.
    pub fn password(&self) -> Option<&str> {
        self.options.password.as_deref()
    }

    /// A directory of this fixture; tests may put files there.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The public half of a host key: `algorithm base64`.
    pub fn host_key(&self, kind: HostKeyKind) -> io::Result<String> {
        public_line(&kind.path(self.directory.path()))
    }

    /// A line for `known_hosts`.
    pub fn known_hosts_line(&self, kind: HostKeyKind) -> io::Result<String> {
        Ok(format!("[127.0.0.1]:{} {}", self.port, self.host_key(kind)?))
    }

    /// Replaces `authorized_keys`.
    pub fn authorize(&self, lines: &[&str]) -> io::Result<()> {
        fs::write(self.directory.path().join("authorized_keys"), lines.join("\n") + "\n")
    }

    /// What the server has written so far.
    pub fn log(&self) -> String {
        log_text(&self.directory.path().join("log"))
    }

    /// Kills all connections; the server goes on.
    pub fn cut(&self) {
        process::kill_all(&process::descendants(self.child.id()));
    }

    /// The same port, with other host keys of these kinds.
    pub fn restart_with_keys(&mut self, kinds: &[HostKeyKind]) -> io::Result<()> {
        self.stop();
        for kind in [HostKeyKind::Ed25519, HostKeyKind::Ecdsa, HostKeyKind::Rsa] {
            kind.remove(self.directory.path());
        }
        self.options.host_keys = kinds.to_vec();
        for kind in kinds {
            kind.generate(self.directory.path())?;
        }
        self.restart()
    }

    /// Puts `lines` before the configuration and starts again on the same port.
    pub fn restart_with(&mut self, lines: &[&str]) -> io::Result<()> {
        self.stop();
        self.options.extra = lines.iter().map(|&l| l.to_owned()).collect();
        self.restart()
    }

    fn restart(&mut self) -> io::Result<()> {
        write_config(&self.options, self.directory.path(), self.port, &self.account)?;
        self.child = launch(self.directory.path(), self.port)?;
        Ok(())
    }

    fn stop(&mut self) {
        let mut all = process::descendants(self.child.id());
        all.push(self.child.id());
        process::kill_all(&all);
        let _ = self.child.wait();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
        // The user's processes are gone, so the user can go.
        self.user = None;
    }
}

fn log_text(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn write_config(
    options: &SshdOptions,
    directory: &Path,
    port: u16,
    account: &str,
) -> io::Result<()> {
    let show = |name: &str| directory.join(name).display().to_string();
    let yes = |on: bool| if on { "yes" } else { "no" };
    let mut lines = options.extra.clone();
    lines.extend([
        format!("Port {port}"),
        "ListenAddress 127.0.0.1".into(),
        format!("PidFile {}", show("pid")),
        format!("AuthorizedKeysFile {}", show("authorized_keys")),
        "StrictModes no".into(),
        "PermitRootLogin yes".into(),
        "LogLevel VERBOSE".into(),
        "UseDNS no".into(),
        "PrintMotd no".into(),
        "MaxStartups 100".into(),
        // Debian's bash reads ~/.bashrc when sshd starts it as the first shell. What somebody has put
        // there must not decide whether the tests pass.
        "SetEnv SHLVL=2".into(),
        format!("PasswordAuthentication {}", yes(options.password.is_some())),
        format!("KbdInteractiveAuthentication {}", yes(options.keyboard_interactive)),
        format!("UsePAM {}", yes(options.keyboard_interactive)),
        format!("AllowUsers {account}"),
    ]);
    for kind in &options.host_keys {
        lines.push(format!("HostKey {}", kind.path(directory).display()));
        let certificate = kind.certificate(directory);
        if certificate.exists() {
            lines.push(format!("HostCertificate {}", certificate.display()));
        }
    }
    if let Some(authority) = &options.user_authority {
        fs::write(directory.join("authority.pub"), format!("{authority}\n"))?;
        lines.push(format!("TrustedUserCAKeys {}", show("authority.pub")));
    }
    if let Some(command) = &options.subsystem {
        lines.push(format!("Subsystem sftp {command}"));
    }
    if options.chroot {
        let root = directory.join("chroot");
        let data = root.join("data");
        fs::create_dir_all(&data)?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o777))?;
        lines.push(format!("ChrootDirectory {}", root.display()));
        lines.push("ForceCommand internal-sftp".into());
    }
    let authorized = directory.join("authorized_keys");
    if !authorized.exists() {
        fs::write(&authorized, options.authorized_keys.join("\n") + "\n")?;
    }
    fs::write(directory.join("config"), lines.join("\n") + "\n")
}

/// Starts the server and waits until it listens.
fn launch(directory: &Path, port: u16) -> io::Result<Child> {
    let log = directory.join("log");
    let written = log_text(&log).len();
    let listening = format!("Server listening on 127.0.0.1 port {port}.");
    let mut child = Command::new(SSHD)
        .args(["-D", "-f"])
        .arg(directory.join("config"))
        .arg("-E")
        .arg(&log)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait()? {
            let mut text = log_text(&log);
            if let Some(mut stderr) = child.stderr.take() {
                let _ = io::Read::read_to_string(&mut stderr, &mut text);
            }
            return Err(io::Error::other(format!("sshd ended with {status}: {text}")));
        }
        // Not by connecting: that would be one connection more in the log.
        if log_text(&log).get(written..).is_some_and(|text| text.contains(&listening)) {
            return Ok(child);
        }
        if Instant::now() > end {
            process::kill_all(&[child.id()]);
            let _ = child.wait();
            return Err(io::Error::other("sshd does not listen after 20 s"));
        }
        sleep(Duration::from_millis(10));
    }
}
