//! Channels as the configuration holds them.

use std::fmt;

use lettre::message::Mailbox;
use toml_edit::{Item, TableLike};
use zeroize::Zeroizing;

use crate::config::keys::{Form, Type, nearest_of};
use crate::config::values::Setting;
use crate::config::{Base, Config, secret, values};
use crate::problem::{Class, Problem};
use crate::text::printable;

/// What a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Mail by SMTP.
    Mail,
    /// A POST of JSON.
    Webhook,
    /// A topic of ntfy.
    Ntfy,
    /// An incoming webhook of Slack, or of what speaks like it.
    Slack,
    /// A webhook of Discord.
    Discord,
    /// A dead-man switch such as healthchecks.io: `URL/start`, `URL`, `URL/fail`.
    Ping,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Mail, Self::Webhook, Self::Ntfy, Self::Slack, Self::Discord, Self::Ping];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Webhook => "webhook",
            Self::Ntfy => "ntfy",
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Ping => "ping",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What a channel of this kind may say beside its type, in the order in which it is written.
    pub fn keys(self) -> impl Iterator<Item = &'static ChannelKey> {
        KEYS.iter().filter(move |key| key.kinds.contains(&self))
    }

    /// The key that a name means, and its form; a problem that says what was meant.
    pub fn key(self, name: &str) -> Result<(&'static ChannelKey, Form), Problem> {
        let forms = |key: &'static ChannelKey| {
            key.forms().iter().map(move |form| (form.name(key.name), key, *form))
        };
        let found = self.keys().flat_map(forms).find(|(known, ..)| known == name);
        found.map(|(_, key, form)| (key, form)).ok_or_else(|| {
            let shown = printable(name.as_bytes());
            let problem =
                Problem::usage(format!("{shown:?} is no key of a {} channel", self.name()));
            let names = self.keys().flat_map(forms).map(|(known, ..)| known);
            match nearest_of(&name.to_ascii_lowercase().replace('-', "_"), names) {
                Some(nearest) => problem.hint(format!("did you mean {nearest}?")),
                None => {
                    let names: Vec<_> = self.keys().map(|key| key.name).collect();
                    problem.hint(format!("it has {}", names.join(", ")))
                }
            }
        })
    }
}

/// A key of a channel.
#[derive(Debug, Clone, Copy)]
pub struct ChannelKey {
    /// Its name in the file.
    pub name: &'static str,
    kinds: &'static [Kind],
    /// One line for people.
    pub about: &'static str,
    /// Its value is for nobody's eyes, unless it says where the secret is. It may also be given as
    /// `X_file` and `X_command`.
    pub is_secret: bool,
}

impl ChannelKey {
    const fn of(kinds: &'static [Kind], name: &'static str, about: &'static str) -> Self {
        Self { name, kinds, about, is_secret: false }
    }

    const fn secret(kinds: &'static [Kind], name: &'static str, about: &'static str) -> Self {
        Self { name, kinds, about, is_secret: true }
    }

    /// The forms in which it may be written.
    pub fn forms(&self) -> &'static [Form] {
        match self.is_secret {
            true => &[Form::Value, Form::File, Form::Command],
            false => &[Form::Value],
        }
    }

    /// What it holds, in a form.
    pub(super) fn value(&self, form: Form) -> Type {
        form.value(if self.is_secret { Type::Secret } else { Type::Text })
    }

    /// The kinds of channel that have it.
    pub fn kinds(&self) -> &'static [Kind] {
        self.kinds
    }
}

/// Every key of a `[channel.NAME]` but its type.
pub const KEYS: &[ChannelKey] = &[
    ChannelKey::of(&Kind::ALL, "title", "What people call it"),
    ChannelKey::secret(NOT_MAIL, "url", "Where to send; who knows it may often send as well"),
    ChannelKey::secret(&[Kind::Ntfy, Kind::Webhook], "token", "Access token, sent as Bearer"),
    ChannelKey::of(
        MAIL,
        "server",
        "SMTP server: host, or host:port [587, 465 for tls, 25 for none]",
    ),
    ChannelKey::of(
        MAIL,
        "security",
        "starttls, tls, or none (only for localhost and trusted nets) [starttls]",
    ),
    ChannelKey::of(MAIL, "username", "User to sign in as"),
    ChannelKey::secret(MAIL, "password", "Its password"),
    ChannelKey::of(MAIL, "from", "Address of the sender"),
    ChannelKey::of(MAIL, "to", "Addresses of the recipients"),
];
const MAIL: &[Kind] = &[Kind::Mail];
const NOT_MAIL: &[Kind] = &[Kind::Webhook, Kind::Ntfy, Kind::Slack, Kind::Discord, Kind::Ping];

/// A secret that is fetched when a message is sent, and not before: its command need not run for a
/// list of channels.
#[derive(Clone)]
pub(super) struct Kept {
    /// What messages call it.
    name: String,
    setting: Setting,
}

impl Kept {
    pub(super) fn fetch(&self) -> Result<Zeroizing<String>, Problem> {
        secret::fetch(&self.name, &self.setting)
    }

    /// The secret, if it stands in the file itself.
    fn literal(&self) -> Option<&str> {
        match &self.setting {
            Setting::Text(text) if !secret::is_reference(text) => Some(text),
            _ => None,
        }
    }

    /// Refuses a variable that is not set.
    fn check_variable(&self) -> Result<(), Problem> {
        match &self.setting {
            Setting::Text(text) if secret::is_variable(text) => self.fetch().map(drop),
            _ => Ok(()),
        }
    }
}

/// How mail is protected on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Security {
    StartTls,
    Tls,
    None,
}

/// A channel. `Debug` shows nothing that is secret.
#[derive(Clone)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What people call it.
    pub title: Option<String>,
    /// All but mail have it.
    url: Option<Kept>,
    token: Option<Kept>,
    /// What mail alone has.
    pub(super) mail: Option<Mail>,
}

#[derive(Clone)]
pub(super) struct Mail {
    pub(super) server: String,
    pub(super) security: Security,
    user: Option<(String, Kept)>,
    pub(super) from: Mailbox,
    pub(super) to: Vec<Mailbox>,
}

impl Mail {
    /// Who signs in to the server, and the password.
    pub(super) fn user(&self) -> Result<Option<(&str, Zeroizing<String>)>, Problem> {
        let Some((user, password)) = &self.user else { return Ok(None) };
        Ok(Some((user, password.fetch()?)))
    }
}

impl Channel {
    /// Where to send; a secret.
    pub(super) fn url(&self) -> Result<Zeroizing<String>, Problem> {
        let url = self.url.as_ref().map(Kept::fetch).transpose()?.unwrap_or_default();
        check_url(&url).map_err(|what| problem(&self.name, &what))?;
        Ok(url)
    }

    pub(super) fn token(&self) -> Result<Option<Zeroizing<String>>, Problem> {
        self.token.as_ref().map(Kept::fetch).transpose()
    }

    /// Refuses variables of the environment that are not set.
    pub(super) fn check_variables(&self) -> Result<(), Problem> {
        let user = self.mail.as_ref().and_then(|mail| mail.user.as_ref());
        let password = user.map(|(_, password)| password);
        let all = [self.url.as_ref(), self.token.as_ref(), password];
        all.into_iter().flatten().try_for_each(Kept::check_variable)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("name", &self.name).field("kind", &self.kind).finish()
    }
}

impl Config {
    pub(super) fn channel_tables(&self) -> impl Iterator<Item = (&str, &dyn TableLike)> {
        let tables = self.document().get("channel").and_then(Item::as_table_like);
        let tables = tables.into_iter().flat_map(TableLike::iter);
        tables.filter_map(|(name, item)| Some((name, item.as_table_like()?)))
    }
}

fn problem(name: &str, text: &str) -> Problem {
    let shown = printable(name.as_bytes());
    Problem::new(Class::Configuration, format!("[channel.{shown}]: {text}"))
}

fn check_url(url: &str) -> Result<(), String> {
    match url.starts_with("https://") || url.starts_with("http://") {
        true => Ok(()),
        false => Err("url must begin with https:// or http://".into()),
    }
}

/// Reads a channel's table. Secrets are not fetched.
pub(super) fn read(name: &str, table: &dyn TableLike, base: &Base) -> Result<Channel, Problem> {
    let problem = |text: String| problem(name, &text);
    let kinds = || Kind::ALL.map(Kind::name).join(", ");
    let kind = table.get("type").and_then(Item::as_str);
    let kind = kind.ok_or_else(|| problem(format!("its type is not set: {}", kinds())))?;
    let kind = Kind::named(kind).ok_or_else(|| {
        problem(format!("{:?} is no type: {}", printable(kind.as_bytes()), kinds()))
    })?;
    for (key, _) in table.iter().filter(|(key, _)| *key != "type") {
        kind.key(key).map_err(|wrong| Problem {
            class: Class::Configuration,
            message: problem(wrong.message.clone()).message,
            ..wrong
        })?;
    }
    let text = |key: &str| -> Result<Option<String>, Problem> {
        let Some(item) = table.get(key) else { return Ok(None) };
        let text = item
            .as_str()
            .filter(|text| !text.trim().is_empty() && !text.contains(char::is_control));
        text.map(|text| Some(text.to_owned()))
            .ok_or_else(|| problem(format!("{key} must be text in quotes")))
    };
    let secret = |key: &str| -> Result<Option<Kept>, Problem> {
        let Some(known) = kind.keys().find(|known| known.name == key) else { return Ok(None) };
        let mut found: Option<Kept> = None;
        for form in known.forms() {
            let written = form.name(key);
            let Some(item) = table.get(&written) else { continue };
            let value =
                item.as_value().ok_or_else(|| problem(format!("{written} must be a value")))?;
            let setting = values::read(known.value(*form), value, base)
                .map_err(|what| problem(format!("{written} {what}")))?;
            if found.is_some() {
                let several = problem(format!("{key} is given in several forms"));
                return Err(several.hint(format!("keep one of {key}, {key}_file, {key}_command")));
            }
            let shown = printable(name.as_bytes());
            found = Some(Kept { name: format!("{written} of the channel {shown}"), setting });
        }
        Ok(found)
    };
    let lacks = |key: &str| {
        let about = kind.keys().find(|known| known.name == key).map(|known| known.about);
        problem(format!("{key} is not set")).hint(format!("{key}: {}", about.unwrap_or_default()))
    };
    let needed = |key: &str, value: Option<String>| value.ok_or_else(|| lacks(key));
    let address = |key: &str, text: &str| -> Result<Mailbox, Problem> {
        text.parse().map_err(|_| {
            let shown = printable(text.as_bytes());
            problem(format!("{key}: {shown:?} is no address of mail"))
                .hint("for instance anna@example.com, or Anna <anna@example.com>")
        })
    };
    let title = text("title")?;
    if kind != Kind::Mail {
        let url = secret("url")?.ok_or_else(|| lacks("url"))?;
        url.literal().map_or(Ok(()), check_url).map_err(problem)?;
        let (url, token) = (Some(url), secret("token")?);
        return Ok(Channel { name: name.to_owned(), kind, title, url, token, mail: None });
    }
    let server = needed("server", text("server")?)?;
    let from = address("from", &needed("from", text("from")?)?)?;
    let security = match text("security")?.as_deref() {
        None | Some("starttls") => Security::StartTls,
        Some("tls") => Security::Tls,
        Some("none") => Security::None,
        Some(other) => {
            return Err(problem(format!("{other:?} is no security: starttls, tls, none")));
        }
    };
    let to = table.get("to").ok_or_else(|| lacks("to"))?;
    let several =
        to.as_array().map(|to| to.iter().map(|to| to.as_str().map(String::from)).collect());
    let to: Option<Vec<String>> =
        several.unwrap_or_else(|| to.as_str().map(|to| vec![to.to_owned()]));
    let to = to
        .filter(|to| !to.is_empty())
        .ok_or_else(|| problem("to must be an address, or an array of addresses".into()))?;
    let to = to.iter().map(|to| address("to", to)).collect::<Result<_, _>>()?;
    let user = match (text("username")?, secret("password")?) {
        (Some(user), Some(password)) => Some((user, password)),
        (None, None) => None,
        (Some(_), None) => return Err(lacks("password")),
        (None, Some(_)) => return Err(lacks("username")),
    };
    if user.is_some() && security == Security::None {
        return Err(problem(
            "a password must not go over a connection that is not encrypted".into(),
        )
        .hint("set security to starttls or tls"));
    }
    let mail = Some(Mail { server, security, user, from, to });
    Ok(Channel { name: name.to_owned(), kind, title, url: None, token: None, mail })
}
