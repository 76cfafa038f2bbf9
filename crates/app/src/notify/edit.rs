//! Changes to channels in the configuration, each as small as what was asked for. Secrets go in and
//! do not come out.

use toml_edit::{Array, Item, Table, TableLike, Value};

use super::channel::{ChannelKey, Kind, read};
use crate::config::keys::Form;
use crate::config::options::is_reference;
use crate::config::{Config, MASK, Shown, bare, name_of, put, to_keep};
use crate::problem::{Class, Problem};
use crate::text::{printable, shell_word};

impl Config {
    pub(super) fn channel_table(&self, name: &str) -> Result<&dyn TableLike, Problem> {
        let found = self.channel_tables().find(|(known, _)| *known == name);
        found.map(|(_, table)| table).ok_or_else(|| {
            let shown = printable(name.as_bytes());
            let text = format!("there is no channel {shown} in the configuration");
            let problem = Problem::new(Class::NoSuchName, text);
            match crate::config::keys::nearest_of(name, self.channel_names().into_iter()) {
                Some(nearest) => problem.hint(format!("did you mean {nearest}?")),
                None => problem.hint("to see what there is: holdfast channel list"),
            }
        })
    }

    /// What a channel is, even where something else of it cannot be read.
    pub fn channel_kind(&self, name: &str) -> Result<Kind, Problem> {
        let table = self.channel_table(name)?;
        let kind = table.get("type").and_then(Item::as_str).and_then(Kind::named);
        // The reader says what is wrong with it.
        kind.map_or_else(|| self.channel(name).map(|channel| channel.kind), Ok)
    }

    /// What a key of a channel says, several values as lines; a secret as [`MASK`], in whichever
    /// form it is given, unless it is a reference. Empty if it is not set.
    pub fn channel_text(&self, name: &str, key: &ChannelKey) -> Result<String, Problem> {
        let table = self.channel_table(name)?;
        let Some(item) = table.get(key.name) else {
            let mut forms = key.forms().iter().map(|form| form.name(key.name));
            let is_elsewhere = forms.any(|form| table.contains_key(&form));
            return Ok(if is_elsewhere { MASK.to_owned() } else { String::new() });
        };
        let text = match item.as_array() {
            Some(values) => {
                let lines: Vec<_> = values.iter().filter_map(Value::as_str).collect();
                lines.join("\n")
            }
            None => item.as_str().unwrap_or_default().to_owned(),
        };
        let is_hidden = key.is_secret && !text.is_empty() && !is_reference(&text);
        Ok(if is_hidden { MASK.to_owned() } else { text })
    }

    /// All that a channel holds beside its type, as it is written, secrets as [`MASK`].
    pub fn channel_lines(&self, name: &str) -> Result<Vec<Shown>, Problem> {
        let kind = self.channel_kind(name).ok();
        let line = |(key, item): (&str, &Item)| {
            // What is no known key may be a misspelt secret.
            let known = kind.and_then(|kind| kind.key(key).ok());
            let is_open = known.is_some_and(|(known, form)| {
                !known.is_secret || form != Form::Value || item.as_str().is_some_and(is_reference)
            });
            let value = match item.as_value().filter(|_| is_open) {
                Some(value) => bare(value),
                None => Value::from(MASK),
            };
            let text = value.as_str().map_or_else(|| value.to_string(), String::from);
            Shown { name: key.to_owned(), value: value.to_string(), text }
        };
        let lines = self.channel_table(name)?.iter().filter(|(key, _)| *key != "type");
        Ok(lines.map(line).collect())
    }

    /// Makes a channel that says nothing but what it is; its name now. `text` may be any text: what
    /// is no name becomes its title.
    pub fn create_channel(&mut self, text: &str, kind: Kind) -> Result<String, Problem> {
        let (name, title) = name_of(text)?;
        if self.channel_tables().any(|(known, _)| known == name) {
            let text = format!("there is a channel {name} already");
            let word = shell_word(&name);
            return Err(Problem::new(Class::AlreadyExists, text)
                .hint(format!("to change it: holdfast channel set {word} KEY"))
                .hint(format!("to try it: holdfast channel test {word}")));
        }
        let mut table = Table::new();
        table.insert("type", Item::Value(kind.name().into()));
        if let Some(title) = title {
            table.insert("title", Item::Value(title.into()));
        }
        self.tables_mut("channel")?.insert(&name, Item::Table(table));
        Ok(name)
    }

    /// Sets a key of a channel. Several values, where it may have them, are lines.
    pub fn set_channel(&mut self, name: &str, key: &ChannelKey, text: &str) -> Result<(), Problem> {
        self.set_channel_form(name, key, Form::Value, text).map(drop)
    }

    /// Sets a key of a channel in one of its forms. The answer is the other forms that were there,
    /// and went.
    pub fn set_channel_form(
        &mut self,
        name: &str,
        key: &ChannelKey,
        form: Form,
        text: &str,
    ) -> Result<Vec<String>, Problem> {
        let written = form.name(key.name);
        let value = match key.name {
            "to" => Value::Array(
                text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Array>(),
            ),
            _ => to_keep(key.value(form), text)?
                .map_err(|what| Problem::usage(format!("{written} {what}")))?,
        };
        let gone = self.unset_forms(name, key, Some(form))?;
        put(self.channel_mut(name)?, &written, value);
        Ok(gone)
    }

    /// Takes a key of a channel out, in whichever form it is given.
    pub fn unset_channel(&mut self, name: &str, key: &ChannelKey) -> Result<(), Problem> {
        self.unset_forms(name, key, None).map(drop)
    }

    fn unset_forms(
        &mut self,
        name: &str,
        key: &ChannelKey,
        but: Option<Form>,
    ) -> Result<Vec<String>, Problem> {
        let table = self.channel_mut(name)?;
        let forms = key.forms().iter().filter(|form| Some(**form) != but);
        let forms = forms.map(|form| form.name(key.name));
        Ok(forms.filter(|written| table.remove(written).is_some()).collect())
    }

    /// Takes a channel out; plans that told it tell it no more. Which these are.
    pub fn remove_channel(&mut self, name: &str) -> Result<Vec<String>, Problem> {
        self.channel_table(name)?;
        self.tables_mut("channel")?.remove(name);
        let mut told = Vec::new();
        for plan in self.plan_names() {
            let plans = self.tables_mut("plan")?;
            let Some(table) = plans.get_mut(&plan).and_then(Item::as_table_like_mut) else {
                continue;
            };
            let Some(notify) = table.get_mut("notify").and_then(Item::as_table_like_mut) else {
                continue;
            };
            if notify.remove(name).is_none() {
                continue;
            }
            if notify.is_empty() {
                table.remove("notify");
            }
            told.push(plan);
        }
        Ok(told)
    }

    /// Refuses a channel that lacks something or contradicts itself. Secrets that are kept elsewhere
    /// are not fetched: who sends may have others than who writes.
    pub fn check_channel(&self, name: &str) -> Result<(), Problem> {
        read(name, self.channel_table(name)?, self.base()).map(drop)
    }

    fn channel_mut(&mut self, name: &str) -> Result<&mut dyn TableLike, Problem> {
        self.channel_table(name)?;
        let table = self.tables_mut("channel")?.get_mut(name).and_then(Item::as_table_like_mut);
        table.ok_or_else(|| Problem::new(Class::Configuration, format!("{name} must be a table")))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn key(kind: Kind, name: &str) -> Result<&'static ChannelKey, Box<dyn Error>> {
        kind.keys().find(|key| key.name == name).ok_or_else(|| format!("no {name}").into())
    }

    #[test]
    fn what_is_not_ours_stays_and_no_secret_comes_back() -> Result<(), Box<dyn Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("config.toml");
        let text = "# mine\n[channel.phone] # here\ntype = 'ntfy'\nurl = \"https://n.example/x\" # secret\n\
                    [plan.a]\nnotify = { phone = [\"failure\"], x = [\"missed\"] } # who\n\
                    [plan.b]\nnotify = { phone = [\"failure\"] }\n";
        std::fs::write(&path, text)?;
        let url = key(Kind::Ntfy, "url")?;
        Config::edit(&path, None, |config| {
            assert_eq!(config.channel_text("phone", url)?, MASK);
            config.set_channel("phone", url, "env:TOPIC")?;
            assert_eq!(config.channel_text("phone", url)?, "env:TOPIC");
            // A secret has one form. One that is kept elsewhere counts as set, and is not shown.
            assert_eq!(config.set_channel_form("phone", url, Form::File, "/u")?, ["url"]);
            assert_eq!(config.channel_text("phone", url)?, MASK);
            assert_eq!(config.channel_lines("phone")?.last().map(|l| &l.text[..]), Some("/u"));
            config.check_channel("phone")?;
            assert_eq!(config.set_channel_form("phone", url, Form::Command, "x")?, ["url_file"]);
            config.unset_channel("phone", url)?;
            assert!(config.check_channel("phone").is_err());
            Err::<(), _>(Problem::usage("nothing of it stays"))
        })
        .err();
        assert_eq!(std::fs::read_to_string(&path)?, text);
        Config::edit(&path, None, |config| {
            config.set_channel("phone", url, "env:TOPIC")?;
            config.check_channel("phone")
        })?;
        let now = std::fs::read_to_string(&path)?;
        assert_eq!(now, text.replace("\"https://n.example/x\"", "\"env:TOPIC\""));
        Config::edit(&path, None, |config| {
            let name = config.create_channel("Anna's mail", Kind::Mail)?;
            assert_eq!(name, "anna-s-mail");
            assert!(config.create_channel("Anna's mail", Kind::Ping).is_err());
            for (name, value) in
                [("server", "x"), ("from", "a@b.example"), ("to", " c@d.example\n\n")]
            {
                assert!(config.check_channel("anna-s-mail").is_err(), "whole without {name}");
                config.set_channel(
                    "anna-s-mail",
                    key(Kind::Mail, name).map_err(|e| Problem::usage(e.to_string()))?,
                    value,
                )?;
            }
            config.check_channel("anna-s-mail")?;
            assert_eq!(config.remove_channel("phone")?, ["a", "b"]);
            assert!(config.remove_channel("phone").is_err());
            Ok(())
        })?;
        let now = std::fs::read_to_string(&path)?;
        assert!(!now.contains("phone") && now.contains("{ x = [\"missed\"] } # who"), "{now}");
        assert!(now.contains("to = [\"c@d.example\"]") && !now.contains("notify = { }"), "{now}");
        Ok(())
    }
}
