//! Changes to channels in the configuration, each as small as what was asked for. Secrets go in and
//! do not come out.

use toml_edit::{Array, Item, Table, TableLike, Value};

use super::channel::{ChannelKey, Kind, read};
use crate::config::{Config, MASK, name_of, put};
use crate::problem::{Class, Problem};
use crate::text::{printable, shell_word};

impl Config {
    pub(super) fn channel_table(&self, name: &str) -> Result<&dyn TableLike, Problem> {
        let found = self.channel_tables().find(|(known, _)| *known == name);
        found.map(|(_, table)| table).ok_or_else(|| {
            let shown = printable(name.as_bytes());
            let text = format!("there is no channel {shown} in the configuration");
            let problem = Problem::new(Class::Configuration, text);
            match crate::config::keys::nearest_of(name, self.channel_names().into_iter()) {
                Some(nearest) => problem.hint(format!("did you mean {nearest}?")),
                None => problem.hint("docs/plans.md shows how channels are written"),
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

    /// What a key of a channel says, several values as lines; a secret as [`MASK`]. Empty if it
    /// is not set.
    pub fn channel_text(&self, name: &str, key: &ChannelKey) -> Result<String, Problem> {
        let Some(item) = self.channel_table(name)?.get(key.name) else { return Ok(String::new()) };
        let text = match item.as_array() {
            Some(values) => {
                let lines: Vec<_> = values.iter().filter_map(Value::as_str).collect();
                lines.join("\n")
            }
            None => item.as_str().unwrap_or_default().to_owned(),
        };
        let is_hidden = key.is_secret && !text.is_empty() && !text.starts_with("env:");
        Ok(if is_hidden { MASK.to_owned() } else { text })
    }

    /// Makes a channel that says nothing but what it is; its name now. `text` may be any text: what
    /// is no name becomes its title.
    pub fn create_channel(&mut self, text: &str, kind: Kind) -> Result<String, Problem> {
        let (name, title) = name_of(text)?;
        if self.channel_tables().any(|(known, _)| known == name) {
            let text = format!("there is a channel {name} already");
            let hint = format!("to try it: holdfast channel test {}", shell_word(&name));
            return Err(Problem::new(Class::AlreadyExists, text).hint(hint));
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
        let value = match key.name {
            "to" => Value::Array(
                text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Array>(),
            ),
            _ => text.into(),
        };
        put(self.channel_mut(name)?, key.name, value);
        Ok(())
    }

    /// Takes a key of a channel out.
    pub fn unset_channel(&mut self, name: &str, key: &ChannelKey) -> Result<(), Problem> {
        self.channel_mut(name)?.remove(key.name);
        Ok(())
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

    /// Refuses a channel that lacks something or contradicts itself. Variables of the environment
    /// that it names count as set: who sends may have others than who writes.
    pub fn check_channel(&self, name: &str) -> Result<(), Problem> {
        // Passes for an address as well.
        let any = |_: &str| Some("https://".to_owned());
        read(name, self.channel_table(name)?, &any).map(drop)
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
