//! What opens a repository: its key slots, a new passphrase, and taking one away.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use holdfast_app::jobs::host;
use holdfast_app::text::printable;
use holdfast_app::times::now;
use holdfast_app::{Problem, catalogue, secrets};
use holdfast_engine::Error;
use holdfast_engine::format::keyslot::Cost;
use holdfast_engine::repo::Repository;

use crate::pages::unlock::{Refused, with};
use crate::posted::Posted;
use crate::view::{View, html};
use crate::words;

#[derive(Debug)]
struct Slot {
    id: String,
    short: String,
    label: String,
    opens: String,
    made: String,
    host: String,
}

#[derive(Template)]
#[template(path = "keys.html")]
struct Keys {
    at: String,
    csrf: String,
    slots: Vec<Slot>,
    told: &'static str,
}

/// `GET /repository/{at}/keys`: a part of the page.
pub(super) async fn list(view: View, Path(at): Path<String>) -> Result<Response, Refused> {
    show(&view, at, "", |_| Ok(())).await
}

/// `POST /repository/{at}/keys`: a passphrase of its own.
pub(super) async fn add(
    view: View,
    Path(at): Path<String>,
    posted: Posted,
) -> Result<Response, Refused> {
    show(&view, at, "The new passphrase opens it from now on.", move |repository| {
        let passphrase = posted.text("passphrase");
        if passphrase != posted.text("again") {
            return Err(Problem::usage("the two passphrases differ")
                .hint("nothing was changed; type the same twice"));
        }
        let secret = secrets::passphrase(passphrase, "the form")?;
        let label = posted.text("label").trim();
        repository
            .add_slot(&secret, Cost::default(), label, &host(), now())
            .map(drop)
            .map_err(explain)
    })
    .await
}

/// `POST /repository/{at}/keys/remove`
pub(super) async fn remove(
    view: View,
    Path(at): Path<String>,
    posted: Posted,
) -> Result<Response, Refused> {
    show(&view, at, "That slot opens it no more.", move |repository| {
        let id = repository.find_slot(posted.text("slot")).map_err(explain)?;
        repository.remove_slot(id).map_err(explain)
    })
    .await
}

fn explain(error: Error) -> Problem {
    catalogue::explain(&error, None)
}

async fn show(
    view: &View,
    at: String,
    told: &'static str,
    change: impl FnOnce(&Repository) -> Result<(), Problem> + Send + 'static,
) -> Result<Response, Refused> {
    let slots = with(view, &at, false, move |_, open| {
        change(&open.repository)?;
        let now = now();
        let slots = open.repository.slots().map_err(explain)?;
        let slot = |slot: holdfast_engine::repo::keyslots::SlotInfo| {
            let opens = match slot.cost {
                Some(cost) => {
                    format!("passphrase, Argon2id {} MiB", cost.memory_kib / 1024)
                }
                None => slot.kind.to_owned(),
            };
            let text = |text: &str| printable(text.as_bytes());
            let (label, made, host) = match &slot.label {
                Some(label) => {
                    (text(&label.text), words::moment(label.created, now), text(&label.host))
                }
                None => {
                    ("opens nothing: damaged, or left over".into(), String::new(), String::new())
                }
            };
            let label = if label.is_empty() { slot.kind.to_owned() } else { label };
            Slot { id: slot.id.to_string(), short: slot.id.short(), label, opens, made, host }
        };
        Ok(slots.into_iter().map(slot).collect())
    })
    .await?;
    let csrf = view.session.csrf.clone();
    Ok(html(&Keys { at, csrf, slots, told }))
}
