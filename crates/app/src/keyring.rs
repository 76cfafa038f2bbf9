//! Secrets of the desktop's keyring, written `keyring:NAME` in the configuration. They are looked
//! up by `secret-tool`, which speaks with whatever keeps them (GNOME Keyring, KWallet, KeePassXC).

use std::process::Stdio;

use zeroize::Zeroizing;

use crate::command::{CommandLine, without_newline};
use crate::text::{printable, shell_word};

const PROGRAM: &str = "secret-tool";

/// Why there is no secret, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) cause: String,
    pub(crate) hint: String,
}

/// The secret that is kept under `name`; the keyring may ask to be unlocked.
pub(crate) fn look_up(name: &str) -> Result<Zeroizing<String>, Missing> {
    let shown = printable(name.as_bytes());
    let word = shell_word(name);
    let store = format!(
        "to keep it there: {PROGRAM} store --label='Holdfast {shown}' service holdfast name {word}"
    );
    let words = [PROGRAM, "lookup", "service", "holdfast", "name", name];
    let mut command = CommandLine::Words(words.map(String::from).to_vec()).to_command();
    let output = command.stdin(Stdio::null()).output().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Missing {
            cause: format!("the program {PROGRAM} is not there"),
            hint: "install it (libsecret-tools), or keep the secret in a file, a command or a \
                   variable"
                .into(),
        },
        _ => Missing { cause: format!("{PROGRAM}: {e}"), hint: store.clone() },
    })?;
    let bytes = Zeroizing::new(output.stdout);
    if !output.status.success() {
        // What it prints to standard error is about the keyring, never what is in it.
        let words = printable(String::from_utf8_lossy(&output.stderr).trim().as_bytes());
        return Err(match words.is_empty() {
            true => {
                Missing { cause: format!("the keyring has nothing named {shown}"), hint: store }
            }
            false => Missing {
                cause: format!("the keyring cannot be asked: {words}"),
                hint: "outside of a desktop session there is no keyring: keep the secret in a \
                       file, a command or a variable"
                    .into(),
            },
        });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Missing {
        cause: format!("what the keyring has as {shown} is not text"),
        hint: store.clone(),
    })?;
    match without_newline(text) {
        "" => Err(Missing { cause: format!("the keyring has nothing named {shown}"), hint: store }),
        text => Ok(Zeroizing::new(text.to_owned())),
    }
}
