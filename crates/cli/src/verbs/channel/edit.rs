//! Making and changing channels. A secret need not be typed as an argument: it is asked for, read from
//! standard input, or kept elsewhere (`X_file`, `X_command`, `env:NAME`, `keyring:NAME`).

use clap::Args;
use holdfast_app::config::keys::{Form, Type};
use holdfast_app::config::{name_of, options::is_reference};
use holdfast_app::notify::{ChannelKey, KEYS, Kind};
use holdfast_app::text::{key_line, printable, shell_word};
use holdfast_app::{Config, Problem};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::ui::value::{Secretive, ask};

/// Make a channel
///
/// What it cannot be without and is secret, the url or the password, is asked for where it is not
/// given; if standard input is no terminal, it is read from there. A secret on the command line stays
/// in the shell's history, and others on the machine can see it while the command runs.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(super) struct Create {
    /// A name, or a title to make one from
    name: String,
    /// mail, webhook, ntfy, slack, discord or ping
    #[arg(value_name = "TYPE")]
    kind: String,
    /// What it says; several values with commas
    #[arg(value_name = "KEY=VALUE")]
    pairs: Vec<Secretive>,
}

/// Set a key of a channel
///
/// Without VALUE it is asked for, without echo if it is a secret; if standard input is no terminal, it
/// is read from there. A secret on the command line stays in the shell's history.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(super) struct Set {
    /// The channel
    name: String,
    /// The key
    key: String,
    /// Its value; several with commas
    #[arg(allow_hyphen_values = true)]
    value: Option<Secretive>,
}

fn after_help() -> String {
    let mut text = String::from("Keys of a channel:\n");
    for key in KEYS {
        let kinds: Vec<_> = key.kinds().iter().map(|kind| kind.name()).collect();
        let of = match kinds.len() == Kind::ALL.len() {
            true => String::new(),
            false => format!(" ({})", kinds.join(", ")),
        };
        text.push_str(&key_line(key.name, 10, &format!("{}{of}", key.about)));
    }
    text.push_str(
        "\nA secret (url, token, password) may also be given as X_file or X_command, or have \
         env:VARIABLE or keyring:NAME as its value.",
    );
    text
}

#[derive(Serialize)]
struct Done<'a> {
    channel: &'a str,
    done: &'a str,
    /// Other forms of the secret that went.
    replaced: &'a [String],
    /// Plans that told it of something.
    plans: &'a [String],
}

/// One key with its value.
struct Pair {
    key: &'static ChannelKey,
    form: Form,
    value: Zeroizing<String>,
    /// It was an argument.
    is_typed: bool,
}

impl Pair {
    fn named(&self) -> String {
        self.form.name(self.key.name)
    }

    fn put(&self, config: &mut Config, channel: &str) -> std::result::Result<Vec<String>, Problem> {
        // Addresses; nothing else of a channel has several values.
        let text = match self.key.name {
            "to" => Zeroizing::new(self.value.replace(',', "\n")),
            _ => self.value.clone(),
        };
        config.set_channel_form(channel, self.key, self.form, &text)
    }
}

pub(super) fn create(context: &Context, options: &Create) -> Result {
    let kind = Kind::named(&options.kind).ok_or_else(|| {
        let text = format!("{:?} is no type of channel", printable(options.kind.as_bytes()));
        Problem::usage(text).hint(format!("it is one of {}", Kind::ALL.map(Kind::name).join(", ")))
    })?;
    let mut pairs = Vec::new();
    for pair in &options.pairs {
        let (key, value) = pair.0.split_once('=').ok_or_else(|| {
            Problem::usage("a key of a channel is written KEY=VALUE")
                .hint("for instance server=smtp.example.com")
        })?;
        let (key, form) = kind.key(key.trim())?;
        let value = Zeroizing::new(value.to_owned());
        pairs.push(Pair { key, form, value, is_typed: true });
    }
    // What is wrong without the secret is told before anybody is asked for it.
    let made = |config: &mut Config, pairs: &[Pair]| {
        let name = config.create_channel(&options.name, kind)?;
        pairs.iter().try_for_each(|pair| pair.put(config, &name).map(drop))?;
        config.check_channel(&name)?;
        Ok(name)
    };
    if let Some(key) = lacking(kind, &pairs) {
        let any = Zeroizing::new("https://example.com".to_owned());
        pairs.push(Pair { key, form: Form::Value, value: any, is_typed: false });
        made(&mut context.paths()?.load_config()?, &pairs)?;
        pairs.pop();
        let (owner, _) = name_of(&options.name)?;
        let set = format!("{}_file=FILE, {}_command=COMMAND or env:NAME", key.name, key.name);
        let value = ask(context, &owner, key.name, Type::Secret, &set)?;
        pairs.push(Pair { key, form: Form::Value, value, is_typed: false });
    }
    let name = context.edit_config(|config| made(config, &pairs))?;
    context.ui.summary(&format!("made the channel {name}"))?;
    pairs.iter().try_for_each(|pair| warn_of(context, &name, pair))?;
    let word = shell_word(&name);
    context.ui.summary(&format!("  to try it:  holdfast channel test {word}"))?;
    context.ui.summary(&format!(
        "  to use it:  holdfast plan edit PLAN --set 'notify={{ {} = [\"failure\", \"missed\"] }}'",
        toml_key(&name)
    ))?;
    done(context, &name, "created", &[], &[])
}

/// The secret that the channel cannot be without and that is not among `pairs`.
fn lacking(kind: Kind, pairs: &[Pair]) -> Option<&'static ChannelKey> {
    let has = |name: &str| pairs.iter().any(|pair| pair.key.name == name);
    let name = match kind {
        Kind::Mail if !has("username") => return None,
        Kind::Mail => "password",
        _ => "url",
    };
    kind.keys().find(|key| key.name == name && !has(name))
}

/// A name as a key of TOML.
fn toml_key(name: &str) -> String {
    let is_bare = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if is_bare { name.to_owned() } else { format!("\"{name}\"") }
}

pub(super) fn set(context: &Context, options: &Set) -> Result {
    // Nobody is asked for the value of what does not exist.
    let kind = context.paths()?.load_config()?.channel_kind(&options.name)?;
    let (key, form) = kind.key(&options.key)?;
    let value = match &options.value {
        Some(value) => value.0.clone(),
        None => {
            let kind = form.value(if key.is_secret { Type::Secret } else { Type::Text });
            let set = format!("… set NAME {} VALUE", options.key);
            ask(context, &options.name, &options.key, kind, &set)?
        }
    };
    let pair = Pair { key, form, value, is_typed: options.value.is_some() };
    let replaced = context.edit_config(|config| {
        let replaced = pair.put(config, &options.name)?;
        config.check_channel(&options.name)?;
        Ok(replaced)
    })?;
    context.ui.summary(&format!("set {} of {}", options.key, options.name))?;
    for other in &replaced {
        context.ui.note(&format!("{other} is gone: {} takes its place", options.key))?;
    }
    warn_of(context, &options.name, &pair)?;
    done(context, &options.name, "changed", &replaced, &[])
}

/// Says what became of a secret that was typed.
fn warn_of(context: &Context, channel: &str, pair: &Pair) -> Result<()> {
    let is_shown = pair.key.is_secret && pair.form == Form::Value && pair.is_typed;
    if !is_shown || is_reference(&pair.value) {
        return Ok(());
    }
    let (word, key) = (shell_word(channel), pair.named());
    Ok(context.ui.note(&format!(
        "the {key} may now be in your shell's history; to be asked for it instead:\n  \
         holdfast channel set {word} {key}"
    ))?)
}

pub(super) fn unset(context: &Context, name: &str, key: &str) -> Result {
    context.edit_config(|config| {
        let (known, _) = config.channel_kind(name)?.key(key)?;
        if config.channel_text(name, known)?.is_empty() {
            let word = shell_word(name);
            return Err(Problem::usage(format!("{name} has no {key}"))
                .hint(format!("to see it: holdfast channel show {word}")));
        }
        config.unset_channel(name, known)?;
        config.check_channel(name)
    })?;
    context.ui.summary(&format!("took {key} out of {name}"))?;
    done(context, name, "changed", &[], &[])
}

pub(super) fn remove(context: &Context, name: &str) -> Result {
    let plans = context.edit_config(|config| config.remove_channel(name))?;
    context.ui.summary(&format!("removed the channel {name}; what was sent stays in the log"))?;
    if !plans.is_empty() {
        context.ui.note(&format!("plans that told it of something: {}", plans.join(", ")))?;
    }
    done(context, name, "removed", &[], &plans)
}

fn done(
    context: &Context,
    channel: &str,
    done: &str,
    replaced: &[String],
    plans: &[String],
) -> Result {
    if context.ui.is_json() {
        context.ui.event("summary", &Done { channel, done, replaced, plans })?;
    }
    Ok(Outcome::Done)
}
