//! The systemd unit of `holdfast serve`: of the machine for root, else of the user.

use std::fs::DirBuilder;
use std::path::{Path, PathBuf};

use crate::catalogue;
use crate::problem::{Class, Problem};
use crate::text::printable_os;

/// What tells that a file is ours to replace.
const MARK: &str = "# Made by holdfast serve --install-unit";

/// Whose unit, and what runs in it.
#[derive(Debug, Clone)]
pub struct Unit {
    /// The program.
    pub program: PathBuf,
    /// Of the machine; else of the user.
    pub is_root: bool,
    /// What else stands on its command line.
    pub arguments: Vec<String>,
    /// It listens on a port that belongs to root.
    pub low_port: bool,
    /// Variables that were set when it was made, and must be when it runs.
    pub environment: Vec<(String, String)>,
}

impl Unit {
    /// Where it belongs. `home` is that of the user.
    pub fn path(&self, home: Option<&Path>) -> Result<PathBuf, Problem> {
        if self.is_root {
            return Ok("/etc/systemd/system/holdfast.service".into());
        }
        let home = home.ok_or_else(|| Problem::usage("HOME is not set"))?;
        Ok(home.join(".config/systemd/user/holdfast.service"))
    }

    /// What to type so that it runs, now and from now on.
    pub fn next(&self) -> &'static [&'static str] {
        match self.is_root {
            true => &["systemctl daemon-reload", "systemctl enable --now holdfast"],
            false => &[
                "systemctl --user daemon-reload",
                "systemctl --user enable --now holdfast",
                "loginctl enable-linger    (so that it runs while you are not signed in)",
            ],
        }
    }

    /// Its text. Local repositories may lie anywhere, and restores write anywhere with any owner and
    /// mode: what would forbid that is not among its restrictions.
    pub fn text(&self) -> String {
        let mut command = vec![quoted(&printable_os(&self.program)), "serve".into()];
        command.extend(self.arguments.iter().map(|word| quoted(word)));
        // On a command line alone, `$` means something.
        let command = command.join(" ").replace('$', "$$");
        let set = self.environment.iter();
        let environment: String = set
            .map(|(name, value)| format!("Environment={}\n", quoted(&format!("{name}={value}"))))
            .collect();
        let low_port = if self.low_port { " CAP_NET_BIND_SERVICE" } else { "" };
        // Without a certificate of the console a SIGHUP ends the service.
        let has_certificate = self.arguments.iter().any(|word| word.starts_with("--tls-"));
        let reload = if has_certificate { "ExecReload=/bin/kill -HUP $MAINPID\n" } else { "" };
        let (of_machine, target) = match self.is_root {
            true => (
                format!(
                    "StateDirectory=holdfast\nStateDirectoryMode=0700\nCacheDirectory=holdfast\n\
                 CacheDirectoryMode=0700\nConfigurationDirectory=holdfast\n\
                 ProtectKernelTunables=yes\nProtectKernelModules=yes\nProtectKernelLogs=yes\n\
                 ProtectControlGroups=yes\nProtectClock=yes\nProtectHostname=yes\n\
                 CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER \
                 CAP_FSETID CAP_MKNOD CAP_SETFCAP CAP_KILL CAP_SETUID CAP_SETGID{low_port}\n"
                ),
                "multi-user.target",
            ),
            false => (String::new(), "default.target"),
        };
        format!(
            "{MARK}; changes of yours are best made with\n# systemctl edit holdfast\n\
             [Unit]\nDescription=Holdfast backups: scheduler and console\n\
             Wants=network-online.target\nAfter=network-online.target\n\n\
             [Service]\nType=simple\nExecStart={command}\n{reload}{environment}Restart=on-failure\nRestartSec=30\n\
             TimeoutStopSec=90\nKillMode=mixed\nNice=10\nIOSchedulingClass=best-effort\n\
             IOSchedulingPriority=7\nUMask=0077\nNoNewPrivileges=yes\nLockPersonality=yes\n\
             RestrictRealtime=yes\nRestrictNamespaces=yes\n\
             RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n\
             SystemCallArchitectures=native\n{of_machine}\n[Install]\nWantedBy={target}\n"
        )
    }

    /// Writes it. A file of that name that is not ours is left alone.
    pub fn install(&self, path: &Path) -> Result<(), Problem> {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.starts_with(MARK) => {
                let shown = printable_os(path);
                let text = format!("there is a unit {shown} already, and holdfast did not make it");
                return Err(Problem::new(Class::AlreadyExists, text)
                    .hint("move it away, or say --print-unit and see what is different"));
            }
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(catalogue::io("read", path, &e));
            }
            Ok(_) | Err(_) => {}
        }
        if let Some(directory) = path.parent() {
            let made = DirBuilder::new().recursive(true).create(directory);
            made.map_err(|e| catalogue::io("make", directory, &e))?;
        }
        std::fs::write(path, self.text()).map_err(|e| catalogue::io("write", path, &e))
    }
}

/// A word of a unit file: systemd's own quoting, in which `%` means something.
fn quoted(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    match word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-=:@,".contains(c)) {
        true => word,
        false => format!("\"{word}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_ours_to_replace_or_left_alone() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let unit = Unit {
            program: "/opt/my $tools/holdfast".into(),
            is_root: false,
            arguments: vec!["--concurrent".into(), "3".into()],
            low_port: false,
            environment: vec![("HOLDFAST_CONFIG".into(), "/x/50%$.toml".into())],
        };
        let path = unit.path(Some(dir.path()))?;
        unit.install(&path)?;
        unit.install(&path)?;
        let text = std::fs::read_to_string(&path)?;
        assert!(text.contains("ExecStart=\"/opt/my $$tools/holdfast\" serve --concurrent 3\n"));
        assert!(text.contains("Environment=\"HOLDFAST_CONFIG=/x/50%%$.toml\"\n"), "{text}");
        assert!(text.contains("\nWantedBy=default.target\n") && !text.contains("StateDirectory"));
        assert!(text.lines().all(|line| !line.starts_with(' ')), "{text}");
        let root = Unit { is_root: true, ..unit.clone() }.text();
        assert!(
            root.contains("\nStateDirectory=holdfast\n") && root.contains("\nProtectClock=yes\n")
        );
        assert!(!text.contains("ExecReload") && !root.contains("CAP_NET_BIND_SERVICE"));
        let arguments = vec!["--tls-self-signed".to_owned()];
        let encrypted = Unit { is_root: true, low_port: true, arguments, ..unit.clone() }.text();
        assert!(encrypted.contains("\nExecReload=/bin/kill -HUP $MAINPID\n"), "{encrypted}");
        assert!(encrypted.contains(" CAP_NET_BIND_SERVICE\n"), "{encrypted}");
        std::fs::write(&path, "[Service]\n")?;
        assert!(unit.install(&path).is_err_and(|p| p.class == Class::AlreadyExists));
        Ok(())
    }
}
