//! The configuration to take away: as it is, or without any secret.

use toml_edit::{DocumentMut, Item, Table, Value};

use super::{Config, MASK};
use crate::problem::Problem;

impl Config {
    /// The file as it is, secrets and comments included.
    pub fn whole(&self) -> String {
        self.document.to_string()
    }

    /// The same settings without any secret: comments stay behind, since they may hold some, and
    /// what is left out is named at the top. References such as `env:NAME`, and files and commands
    /// that hold a secret, are none.
    pub fn without_secrets(&self) -> Result<String, Problem> {
        let mut left_out = Vec::new();
        let mut clean = DocumentMut::new();
        for (name, item) in self.document.iter() {
            if let Some(value) = item.as_value().filter(|value| !value.is_inline_table()) {
                clean.insert(name, Item::Value(bare(value)));
            }
        }
        let mut locations = implicit();
        for name in self.names() {
            let mut table = Table::new();
            for line in self.expect(&name)?.lines() {
                if line.text == MASK || line.text.ends_with(&format!("://{MASK}")) {
                    left_out.push(format!("repository.{name}.{}", line.name));
                } else if let Ok(value) = line.value.parse::<Value>() {
                    table.insert(&line.name, Item::Value(value));
                }
            }
            locations.insert(&name, Item::Table(table));
        }
        clean.insert("repository", Item::Table(locations));
        let mut channels = implicit();
        for name in self.channel_names() {
            let mut table = Table::new();
            if let Ok(kind) = self.channel_kind(&name) {
                table.insert("type", Item::Value(kind.name().into()));
            }
            for line in self.channel_lines(&name)? {
                if line.text == MASK {
                    left_out.push(format!("channel.{name}.{}", line.name));
                } else if let Ok(value) = line.value.parse::<Value>() {
                    table.insert(&line.name, Item::Value(value));
                }
            }
            channels.insert(&name, Item::Table(table));
        }
        clean.insert("channel", Item::Table(channels));
        let mut plans = implicit();
        for (name, plan) in self.plans() {
            match plan.or_else(|_| self.plan_as_written(&name)) {
                Ok(plan) => {
                    let pairs = plan.pairs().into_iter();
                    let table: Table =
                        pairs.map(|(key, value)| (key, Item::Value(value))).collect();
                    plans.insert(&name, Item::Table(table));
                }
                Err(_) => left_out.push(format!("plan.{name}, which cannot be read")),
            }
        }
        clean.insert("plan", Item::Table(plans));
        let mut text = String::from("# Holdfast's configuration, without secrets.\n");
        for name in left_out {
            text.push_str(&format!("# left out: {}\n", crate::text::printable(name.as_bytes())));
        }
        Ok(format!("{text}\n{clean}"))
    }
}

fn implicit() -> Table {
    let mut table = Table::new();
    table.set_implicit(true);
    table
}

fn undecorated(value: &Value) -> Value {
    let mut value = value.clone();
    value.decor_mut().clear();
    value
}

/// A value without the comments around it.
pub(crate) fn bare(value: &Value) -> Value {
    match value {
        Value::Array(array) => {
            let values = array.iter().map(undecorated);
            Value::Array(values.collect())
        }
        value => undecorated(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_away_without_secrets_holds_none_and_means_the_same()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("config.toml");
        let text = "default = \"nas\" # hidden-1\nhooks = true\n# password = \"hidden-2\"\n\
                    [repository.nas]\nlocation = \"sftp://a@nas/b\"\npassword = \"hidden-3\"\n\
                    key_passphrase_command = [\"pass\", \"show\"]\npasword = \"hidden-4\"\n\
                    [channel.phone]\ntype = \"ntfy\"\nurl = \"https://hidden-5\"\ntoken_file = \"/t\"\n\
                    [channel.mail]\ntype = \"mail\"\nto = [\"a@b\", # hidden-6\n \"c@d\"]\n\
                    [plan.home]\nsources = [\"/a\", # hidden-7\n \"/b\"]\nrepository = \"nas\"\n\
                    tags = []\n[plan.odd]\nnothing = \"hidden-8\"\n";
        std::fs::write(&path, text)?;
        let config = Config::load(&path, None)?;
        assert_eq!(config.whole(), text);
        let clean = config.without_secrets()?;
        assert!(!clean.contains("hidden"), "{clean}");
        for named in [
            "# left out: repository.nas.password\n",
            "# left out: repository.nas.pasword\n",
            "# left out: channel.phone.url\n",
            "# left out: plan.odd, which cannot be read\n",
            "default = \"nas\"",
            "hooks = true",
            "token_file = \"/t\"",
            "to = [\"a@b\", \"c@d\"]",
            "key_passphrase_command = [\"pass\", \"show\"]",
        ] {
            assert!(clean.contains(named), "{named} is missing: {clean}");
        }
        std::fs::write(&path, &clean)?;
        let again = Config::load(&path, None)?;
        assert_eq!(again.plan("home")?, config.plan("home")?);
        Ok(())
    }
}
