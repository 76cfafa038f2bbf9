//! `config repository generate-key`: a key pair of its own for an SFTP location.

use std::path::PathBuf;

use clap::Args;
use holdfast_app::keypair::{KeyRequest, generate};
use holdfast_app::text::{printable_os, shell_word};
use serde::Serialize;

use crate::context::{Context, home, host};
use crate::failure::{Outcome, Result};

/// Make a key pair to sign in to an SFTP location
///
/// An Ed25519 key without passphrase, in OpenSSH's format, in a file that only you can read. It is
/// set as the location's key_file; the line for the server's authorized_keys is printed, and kept
/// beside it as FILE.pub. A location that is not there is made.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast config repository generate-key nas
  holdfast config repository generate-key nas --file ~/.ssh/nas -q > nas.line")]
pub(crate) struct GenerateKey {
    /// Name or title
    name: String,
    /// Where the private key goes [else keys/NAME beside the configuration]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Set it in place of the key, agent or certificate that is set; files stay
    #[arg(long)]
    replace: bool,
}

#[derive(Serialize)]
struct Made<'a> {
    name: &'a str,
    created: bool,
    key_file: String,
    public_line: &'a str,
    fingerprint: &'a str,
    replaced: &'a [String],
}

pub(super) fn run(context: &Context, options: &GenerateKey) -> Result {
    let request = KeyRequest {
        name: options.name.clone(),
        file: options.file.clone(),
        comment: format!("holdfast of {}", host()),
        replace: options.replace,
    };
    let made = generate(&context.config_path()?, home(), &request)?;
    let ui = &context.ui;
    if ui.is_json() {
        let event = Made {
            name: &made.name,
            created: made.created,
            key_file: printable_os(&made.pair.key_file),
            public_line: &made.pair.public_line,
            fingerprint: &made.pair.fingerprint,
            replaced: &made.replaced,
        };
        ui.event("key", &event)?;
        return Ok(Outcome::Done);
    }
    if made.created {
        ui.note(&format!("made the location {}", made.name))?;
    }
    for option in &made.replaced {
        ui.note(&format!("{option} of {} is gone: the new key takes its place", made.name))?;
    }
    ui.note(&format!("made {}, {}", printable_os(&made.pair.key_file), made.pair.fingerprint))?;
    ui.note("add this line to ~/.ssh/authorized_keys of the account on the server:")?;
    ui.line(&made.pair.public_line)?;
    let public = shell_word(&made.pair.public_file);
    ui.note(&format!("or, where you can sign in already: ssh-copy-id -f -i {public} USER@HOST"))?;
    Ok(Outcome::Done)
}
