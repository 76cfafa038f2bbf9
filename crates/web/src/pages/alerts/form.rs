//! The form of a channel: every key of its kind is a field. Secrets are told to be set, never shown;
//! an empty field for one leaves it alone.

use askama::Template;
use axum::extract::{Path, Query};
use axum::response::Response;
use holdfast_app::config::MASK;
use holdfast_app::notify::{self, ChannelKey, Kind};
use holdfast_app::text::{printable, shell_word};
use holdfast_app::{Config, Problem};
use http::HeaderMap;
use serde::Deserialize;

use super::Tested;
use crate::failure::{Failure, Note};
use crate::pages::go;
use crate::posted::Posted;
use crate::view::{Frame, Nav, View, html};

/// A key as a field.
#[derive(Debug)]
struct Field {
    key: &'static ChannelKey,
    label: &'static str,
    /// An example of what may stand there.
    example: &'static str,
    /// What it says; empty for a secret that is not `env:NAME`.
    value: String,
    /// A secret is set.
    is_set: bool,
    /// The channel is nothing without it.
    is_needed: bool,
}

impl Field {
    fn of(kind: Kind, key: &'static ChannelKey, text: String) -> Self {
        let (label, example) = words(kind, key.name);
        let is_set = key.is_secret && !text.is_empty();
        let value = if text == MASK { String::new() } else { text };
        let is_needed = matches!(key.name, "url" | "server" | "from" | "to");
        Self { key, label, example, value, is_set, is_needed }
    }

    fn id(&self) -> &'static str {
        self.key.name
    }
}

/// What a field is called, and an example for it.
fn words(kind: Kind, key: &'static str) -> (&'static str, &'static str) {
    match (key, kind) {
        ("url", Kind::Ntfy) => ("Address of the topic", "https://ntfy.sh/a-long-secret-name"),
        ("url", Kind::Slack) => ("Address of the webhook", "https://hooks.slack.com/services/…"),
        ("url", Kind::Discord) => ("Address of the webhook", "https://discord.com/api/webhooks/…"),
        ("url", Kind::Ping) => ("Address to ping", "https://hc-ping.com/…"),
        ("url", _) => ("Address", "https://example.com/hook"),
        ("token", _) => ("Access token", ""),
        ("server", _) => ("SMTP server", "smtp.example.com"),
        ("security", _) => ("Security", ""),
        ("username", _) => ("User", ""),
        ("password", _) => ("Password", ""),
        ("from", _) => ("Sender", "Holdfast <holdfast@example.com>"),
        ("to", _) => ("Recipients", "anna@example.com"),
        (key, _) => (key, ""),
    }
}

/// A kind of channel, for people.
#[derive(Debug)]
struct Choice {
    kind: &'static str,
    title: &'static str,
    about: &'static str,
}

fn choice(kind: Kind) -> Choice {
    let (title, about) = match kind {
        Kind::Mail => ("Mail", "By any SMTP server, to one or more addresses."),
        Kind::Webhook => ("Webhook", "A POST of JSON to an address of yours."),
        Kind::Ntfy => ("ntfy", "To phones and desktops, over ntfy.sh or your own server."),
        Kind::Slack => ("Slack", "An incoming webhook; Mattermost and others speak it, too."),
        Kind::Discord => ("Discord", "A webhook of a channel there."),
        Kind::Ping => {
            ("Dead-man ping", "healthchecks.io and the like: they ring when they hear nothing.")
        }
    };
    Choice { kind: kind.name(), title, about }
}

#[derive(Template)]
#[template(path = "add-channel.html")]
struct Kinds {
    frame: Frame,
    choices: Vec<Choice>,
}

#[derive(Template)]
#[template(path = "channel.html")]
struct Page {
    frame: Frame,
    /// Its name, if it is there already.
    entry: Option<String>,
    title: String,
    choice: Choice,
    fields: Vec<Field>,
    plans: Vec<String>,
    note: Option<Note>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    kind: String,
}

/// `GET /add-channel?kind=…`
pub(super) async fn add(view: View, Query(wanted): Query<Wanted>) -> Result<Response, Failure> {
    let frame = view.frame("Add channel", Nav::Alerts, "holdfast channel list");
    if wanted.kind.is_empty() {
        return Ok(html(&Kinds { frame, choices: Kind::ALL.map(choice).into() }));
    }
    let kind = kind(&wanted.kind)?;
    let fields = kind.keys().filter(|key| key.name != "title");
    let fields = fields.map(|key| Field::of(kind, key, String::new())).collect();
    Ok(html(&Page {
        frame,
        entry: None,
        title: String::new(),
        choice: choice(kind),
        fields,
        plans: Vec::new(),
        note: None,
    }))
}

/// `GET /channels/{name}`
pub(super) async fn edit(view: View, Path(name): Path<String>) -> Result<Response, Failure> {
    let line = format!("holdfast channel test {}", shell_word(&name));
    let mut frame = view.frame(&name, Nav::Alerts, &line);
    let page = view
        .blocking(move |state| {
            let config = state.paths.load_config()?;
            let kind = config.channel_kind(&name)?;
            let mut title = name.clone();
            let mut fields = Vec::new();
            for key in kind.keys() {
                let text = config.channel_text(&name, key)?;
                match key.name {
                    "title" if text.is_empty() => {}
                    "title" => title = text,
                    _ => fields.push(Field::of(kind, key, text)),
                }
            }
            frame.title.clone_from(&title);
            let note = config.channel(&name).err();
            Ok::<_, Problem>(Page {
                plans: super::told(&config, &name),
                note: note.as_ref().map(Note::from),
                choice: choice(kind),
                entry: Some(name),
                frame,
                title,
                fields,
            })
        })
        .await?;
    Ok(html(&page))
}

fn kind(text: &str) -> Result<Kind, Problem> {
    Kind::named(text).ok_or_else(|| {
        Problem::usage(format!("{:?} is no kind of channel", printable(text.as_bytes())))
            .hint(format!("it is one of {}", Kind::ALL.map(Kind::name).join(", ")))
    })
}

/// Writes what was typed into `config`. The answer is the channel's name.
fn apply(config: &mut Config, posted: &Posted) -> Result<String, Problem> {
    let title = posted.text("title").trim();
    let entry = posted.text("entry");
    let (name, kind) = match entry {
        "" if title.is_empty() => {
            return Err(Problem::usage("the channel has no name yet")
                .hint("any text will do, such as Phone of Anna"));
        }
        "" => {
            let kind = kind(posted.text("kind"))?;
            (config.create_channel(title, kind)?, kind)
        }
        entry => (entry.to_owned(), config.channel_kind(entry)?),
    };
    for key in kind.keys() {
        let now = config.channel_text(&name, key)?;
        let typed = posted.text(key.name).trim();
        let is_same = typed == now || (key.name == "title" && now.is_empty() && typed == name);
        if key.name == "title" && entry.is_empty() || is_same {
            continue;
        }
        let clear = posted.text(&format!("{}.clear", key.name)) == "true";
        match typed.is_empty() {
            false => config.set_channel(&name, key, typed)?,
            true if now.is_empty() || (key.is_secret && !clear) => {}
            true => config.unset_channel(&name, key)?,
        }
    }
    config.check_channel(&name)?;
    Ok(name)
}

/// `POST /channel-form/save`
pub(super) async fn save(
    view: View,
    headers: HeaderMap,
    posted: Posted,
) -> Result<Response, Failure> {
    view.blocking(move |state| {
        let home = state.paths.home.clone();
        Config::edit(&state.paths.config, home, |config| apply(config, &posted).map(drop))
    })
    .await?;
    Ok(go(&headers, "/alerts"))
}

/// `POST /channel-form/test`: sends a test to what is typed, without saving it.
pub(super) async fn test(view: View, posted: Posted) -> Result<Response, Failure> {
    let name = view
        .blocking(move |state| {
            let mut config = state.paths.load_config()?;
            let name = apply(&mut config, &posted)?;
            notify::test(&config, state.runner.history(), &name)?;
            Ok::<_, Problem>(name)
        })
        .await?;
    Ok(html(&Tested { name }))
}

/// `POST /channels/{name}/remove`
pub(super) async fn remove(
    view: View,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    view.blocking(move |state| {
        let home = state.paths.home.clone();
        Config::edit(&state.paths.config, home, |config| config.remove_channel(&name))
    })
    .await?;
    Ok(go(&headers, "/alerts"))
}
