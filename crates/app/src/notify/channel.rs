//! Channels as the configuration holds them.

use std::fmt;

use toml_edit::{Item, TableLike};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::config::keys::nearest_of;
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
}

/// A key of a channel.
#[derive(Debug, Clone, Copy)]
pub struct ChannelKey {
    /// Its name in the file.
    pub name: &'static str,
    kinds: &'static [Kind],
    /// One line for people.
    pub about: &'static str,
    /// Its value is for nobody's eyes, unless it is `env:NAME`.
    pub is_secret: bool,
}

impl ChannelKey {
    const fn of(kinds: &'static [Kind], name: &'static str, about: &'static str) -> Self {
        Self { name, kinds, about, is_secret: false }
    }

    const fn secret(kinds: &'static [Kind], name: &'static str, about: &'static str) -> Self {
        Self { name, kinds, about, is_secret: true }
    }
}

/// Every key of a `[channel.NAME]` but its type.
const KEYS: &[ChannelKey] = &[
    ChannelKey::of(&Kind::ALL, "title", "What people call it"),
    ChannelKey::secret(NOT_MAIL, "url", "Where to send. env:NAME takes it from a variable"),
    ChannelKey::secret(
        &[Kind::Ntfy, Kind::Webhook],
        "token",
        "Access token, sent as Bearer; or env:NAME",
    ),
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
    ChannelKey::secret(MAIL, "password", "Its password; or env:NAME"),
    ChannelKey::of(MAIL, "from", "Address of the sender"),
    ChannelKey::of(MAIL, "to", "Addresses of the recipients"),
];
const MAIL: &[Kind] = &[Kind::Mail];
const NOT_MAIL: &[Kind] = &[Kind::Webhook, Kind::Ntfy, Kind::Slack, Kind::Discord, Kind::Ping];

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
    pub(super) url: Zeroizing<String>,
    pub(super) token: Option<Zeroizing<String>>,
    pub(super) server: String,
    pub(super) security: Security,
    pub(super) user: Option<(String, Zeroizing<String>)>,
    pub(super) from: String,
    pub(super) to: Vec<String>,
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

/// Reads a channel's table. `variable` gives what a variable of the environment holds.
pub(super) fn read(
    name: &str,
    table: &dyn TableLike,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Channel, Problem> {
    let shown = printable(name.as_bytes());
    let problem =
        |text: String| Problem::new(Class::Configuration, format!("[channel.{shown}]: {text}"));
    let kinds = || Kind::ALL.map(Kind::name).join(", ");
    let kind = table.get("type").and_then(Item::as_str);
    let kind = kind.ok_or_else(|| problem(format!("its type is not set: {}", kinds())))?;
    let kind = Kind::named(kind).ok_or_else(|| {
        problem(format!("{:?} is no type: {}", printable(kind.as_bytes()), kinds()))
    })?;
    for (key, _) in table.iter() {
        if key == "type" || kind.keys().any(|known| known.name == key) {
            continue;
        }
        let names = kind.keys().map(|known| known.name.to_owned());
        let wrong = problem(format!(
            "{:?} is no key of a {} channel",
            printable(key.as_bytes()),
            kind.name()
        ));
        return Err(match nearest_of(key, names) {
            Some(nearest) => wrong.hint(format!("did you mean {nearest}?")),
            None => wrong,
        });
    }
    let text = |key: &str| -> Result<Option<String>, Problem> {
        let Some(item) = table.get(key) else { return Ok(None) };
        let text = item
            .as_str()
            .filter(|text| !text.trim().is_empty() && !text.contains(char::is_control));
        text.map(|text| Some(text.to_owned()))
            .ok_or_else(|| problem(format!("{key} must be text in quotes")))
    };
    let secret = |key: &str| -> Result<Option<Zeroizing<String>>, Problem> {
        let Some(value) = text(key)?.map(Zeroizing::new) else { return Ok(None) };
        let Some(name) = value.strip_prefix("env:") else { return Ok(Some(value)) };
        let found = variable(name).filter(|value| !value.is_empty());
        let missing =
            || problem(format!("{key}: the variable {} is not set", printable(name.as_bytes())));
        found.map(|value| Some(Zeroizing::new(value))).ok_or_else(missing)
    };
    let needed = |key: &str, value: Option<String>| {
        value.ok_or_else(|| problem(format!("{key} is not set")))
    };
    let mut channel = Channel {
        name: name.to_owned(),
        kind,
        title: text("title")?,
        url: Zeroizing::default(),
        token: secret("token")?,
        server: String::new(),
        security: Security::StartTls,
        user: None,
        from: String::new(),
        to: Vec::new(),
    };
    if kind != Kind::Mail {
        let url = secret("url")?.ok_or_else(|| problem("url is not set".into()))?;
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(problem("url must begin with https:// or http://".into()));
        }
        channel.url = url;
        return Ok(channel);
    }
    channel.server = needed("server", text("server")?)?;
    channel.from = needed("from", text("from")?)?;
    channel.security = match text("security")?.as_deref() {
        None | Some("starttls") => Security::StartTls,
        Some("tls") => Security::Tls,
        Some("none") => Security::None,
        Some(other) => {
            return Err(problem(format!("{other:?} is no security: starttls, tls, none")));
        }
    };
    let to = table.get("to").ok_or_else(|| problem("to is not set".into()))?;
    let several =
        to.as_array().map(|to| to.iter().map(|to| to.as_str().map(String::from)).collect());
    let to: Option<Vec<String>> =
        several.unwrap_or_else(|| to.as_str().map(|to| vec![to.to_owned()]));
    channel.to = to
        .filter(|to| !to.is_empty())
        .ok_or_else(|| problem("to must be an address, or an array of addresses".into()))?;
    channel.user = match (text("username")?, secret("password")?) {
        (Some(user), Some(password)) => Some((user, password)),
        (None, None) => None,
        (Some(_), None) => return Err(problem("password is not set".into())),
        (None, Some(_)) => return Err(problem("username is not set".into())),
    };
    if channel.user.is_some() && channel.security == Security::None {
        return Err(problem(
            "a password must not go over a connection that is not encrypted".into(),
        )
        .hint("set security to starttls or tls"));
    }
    Ok(channel)
}
