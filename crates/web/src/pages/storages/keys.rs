//! Keys for SFTP: what a pasted key is, and a new one of our own.

use askama::Template;
use axum::response::Response;
use holdfast_app::keypair::{self, Pair, SeenKey};
use holdfast_app::text::printable_os;
use holdfast_app::{Class, Problem};
use zeroize::Zeroizing;

use super::apply;
use crate::failure::{Failure, Note};
use crate::posted::Posted;
use crate::view::{View, html};

#[derive(Template)]
#[template(path = "key-seen.html")]
struct Seen {
    key: Option<SeenKey>,
    /// It needs its passphrase, which was not typed yet.
    locked: bool,
    note: Option<Note>,
}

/// `POST /storage-form/key`: type and fingerprint of what was pasted.
pub(super) async fn look(view: View, posted: Posted) -> Result<Response, Failure> {
    let text = Zeroizing::new(posted.text("key").to_owned());
    let passphrase = Zeroizing::new(posted.text("key_passphrase").to_owned());
    if text.trim().is_empty() {
        return Ok(html(&Seen { key: None, locked: false, note: None }));
    }
    // Opening an encrypted key takes a moment.
    let seen =
        view.blocking(move |_| Ok::<_, Problem>(keypair::inspect(&text, Some(passphrase)))).await?;
    Ok(html(&match seen {
        Ok(key) => Seen { key: Some(key), locked: false, note: None },
        Err(problem) if problem.class == Class::PassphraseNeeded => {
            Seen { key: None, locked: true, note: None }
        }
        Err(problem) => Seen { key: None, locked: false, note: Some(Note::from(&problem)) },
    }))
}

#[derive(Template)]
#[template(path = "key-made.html")]
struct Made {
    pair: Pair,
    file: String,
    user: String,
}

/// `POST /storage-form/new-key`: a key pair for the storage that is being typed.
pub(super) async fn make(view: View, posted: Posted) -> Result<Response, Failure> {
    let title = posted.text("title").trim().to_owned();
    let user = posted.text("username").trim().to_owned();
    let name = match posted.text("entry") {
        "" if title.is_empty() => "holdfast".to_owned(),
        "" => apply::name_for(&title)?,
        entry => entry.to_owned(),
    };
    let machine = view.state.machine.clone();
    let pair = view
        .blocking(move |state| {
            keypair::make_for(&state.paths.config, &name, &format!("holdfast of {machine}"))
        })
        .await?;
    let file = printable_os(&pair.key_file);
    Ok(html(&Made { pair, file, user }))
}
