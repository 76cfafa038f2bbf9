//! A plan and the locations it names as they go into its snapshots, and back: from a repository and
//! its passphrase alone the configuration of a lost machine can be made again. Secrets do not go in,
//! nor what would run a command: who can write to a repository must not be able to start programs on
//! the machine that recovers from it.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_engine::repo::snapshots::SnapshotInfo;
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use crate::access::Access;
use crate::config::keys::{self, Form, Type};
use crate::config::{Config, name_of};
use crate::location::Location;
use crate::plans::Plan;
use crate::problem::{Class, Problem};

mod hosts;

pub use hosts::{AcceptedKey, HostKeys};

/// The table that names the secrets that were left out.
const SECRETS: &str = "secret";

/// Whose plan it is: the name of the machine.
const HOST: &str = "host";

/// The commands of a plan, which stay on the machine that runs them.
const HOOKS: &str = "hooks";

/// Says that there were some.
const COMMANDS: &str = "commands";

/// The plan of this machine, its locations, and the host keys that `access` knows of them as TOML.
pub fn seal(config: &Config, plan: &Plan, access: &Access) -> Result<String, Problem> {
    let mut document = DocumentMut::new();
    let mut secrets = Table::new();
    let mut locations = implicit();
    for name in locations_of(plan) {
        let Some(entry) = config.entry(&name) else { continue };
        let mut table = Table::new();
        let mut left_out = Array::new();
        for line in entry.lines() {
            match keys::find(&line.name) {
                Some((key, form)) if is_plain(key, form) => {
                    let value = line.value.parse::<Value>().unwrap_or_else(|_| line.text.into());
                    table.insert(&line.name, Item::Value(value));
                }
                Some((key, _)) => left_out.push(key.name),
                None => {}
            }
        }
        locations.insert(&name, Item::Table(table));
        if !left_out.is_empty() {
            secrets.insert(&name, Item::Value(Value::Array(left_out)));
        }
    }
    let mut plans = implicit();
    let mut table = Table::new();
    for (key, value) in plan.pairs().into_iter().filter(|(key, _)| *key != HOOKS) {
        table.insert(key, Item::Value(value));
    }
    if !plan.hooks.is_empty() {
        // That there were some is told: without them its backups may be others.
        document.insert(COMMANDS, Item::Value(true.into()));
    }
    plans.insert(&plan.name, Item::Table(table));
    document.insert(HOST, Item::Value(crate::jobs::host().into()));
    hosts::seal(config, plan, access, &mut document);
    document.insert("repository", Item::Table(locations));
    document.insert("plan", Item::Table(plans));
    if !secrets.is_empty() {
        document.insert(SECRETS, Item::Table(secrets));
    }
    Ok(document.to_string())
}

fn implicit() -> Table {
    let mut table = Table::new();
    table.set_implicit(true);
    table
}

/// Whether an option may go into a snapshot, and come out of one.
fn is_plain(key: &keys::Key, form: Form) -> bool {
    let is_command = form == Form::Command || key.value == Type::Words;
    form == Form::Value
        && !key.value.is_secret()
        && !is_command
        && key.name != "repository_key_file"
}

/// Everything that a plan reaches, as locations.
fn places_of(plan: &Plan) -> impl Iterator<Item = String> {
    let all = plan.sources.iter().cloned();
    all.chain([plan.repository_location()]).chain(plan.mirror_locations())
}

/// The names of the locations that a plan uses, each once.
fn locations_of(plan: &Plan) -> BTreeSet<String> {
    let names = places_of(plan).filter_map(|text| match Location::parse(text.as_ref()) {
        Ok(Location::Named { name, .. }) => Some(name),
        _ => None,
    });
    names.collect()
}

/// What a snapshot says of the plan that made it.
#[derive(Debug)]
pub struct Sealed {
    /// The machine that it is of.
    pub host: String,
    /// The plan's name.
    pub name: String,
    /// When the snapshot was begun; nanoseconds since the epoch.
    pub time: i64,
    plan: Table,
    had_hooks: bool,
    locations: BTreeMap<String, Table>,
    /// Secrets that are missing: names of options, by location.
    secrets: BTreeMap<String, Vec<String>>,
    /// Accepted host keys of its places over SFTP.
    host_keys: Vec<AcceptedKey>,
}

/// The newest that snapshots say of each plan of each machine, by their names; of one that cannot be
/// understood, why.
pub fn find(snapshots: &[SnapshotInfo]) -> (Vec<Sealed>, Vec<Problem>) {
    let (mut found, mut problems) = (BTreeMap::new(), Vec::new());
    // Oldest first: what comes later takes the place of what was before.
    for info in snapshots.iter().filter(|info| !info.record.plan.is_empty()) {
        match open(&info.record.plan, info.record.time) {
            Ok(all) => found.extend(
                all.into_iter().map(|sealed| ((sealed.host.clone(), sealed.name.clone()), sealed)),
            ),
            Err(what) => {
                let text = format!("what snapshot {} says of its plan is {what}", info.id.short());
                problems.push(Problem::new(Class::Damage, text));
            }
        }
    }
    (found.into_values().collect(), problems)
}

/// The machine that a record is of; `None` if it says none, or cannot be read.
pub fn host_of(record: &str) -> Option<String> {
    let document: DocumentMut = record.parse().ok()?;
    let host = document.get(HOST).and_then(Item::as_str)?;
    Some(host.to_owned()).filter(|host| !host.is_empty())
}

fn open(text: &str, time: i64) -> Result<Vec<Sealed>, String> {
    let document: DocumentMut = text.parse().map_err(|_| "no TOML".to_owned())?;
    let value = |name: &str| document.get(name).and_then(Item::as_value);
    let host = value(HOST).and_then(Value::as_str).unwrap_or_default().to_owned();
    let tables = |name: &str| {
        let table = document.get(name).and_then(Item::as_table_like);
        table.into_iter().flat_map(TableLike::iter).map(|(name, item)| {
            // Whatever it says will be shown, and stand in a configuration.
            match name_of(name) {
                Ok((same, None)) => Ok((same, item)),
                _ => Err("with a name that is none".to_owned()),
            }
        })
    };
    let as_table = |item: &Item| item.as_table().cloned().ok_or("no table".to_owned());
    let mut locations = BTreeMap::new();
    for table in tables("repository") {
        let (name, item) = table?;
        let mut table = as_table(item)?;
        table.retain(|key, _| keys::find(key).is_some_and(|(key, form)| is_plain(key, form)));
        locations.insert(name, table);
    }
    let mut secrets = BTreeMap::new();
    for table in tables(SECRETS) {
        let (name, item) = table?;
        let words = item.as_array().into_iter().flatten().filter_map(Value::as_str);
        let is_secret = |word: &&str| {
            keys::find(word).is_some_and(|(key, form)| form == Form::Value && !is_plain(key, form))
        };
        secrets.insert(name, words.filter(is_secret).map(String::from).collect::<Vec<_>>());
    }
    let host_keys = hosts::open(&document);
    let mut found = Vec::new();
    for table in tables("plan") {
        let (name, item) = table?;
        let mut plan = as_table(item)?;
        let had_hooks = plan.remove(HOOKS).is_some() || value(COMMANDS).is_some();
        let (host, locations, secrets) = (host.clone(), locations.clone(), secrets.clone());
        let host_keys = host_keys.clone();
        found.push(Sealed { host, name, time, plan, had_hooks, locations, secrets, host_keys });
    }
    Ok(found)
}

/// What was put into a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Locations that were made.
    pub locations: Vec<String>,
    /// Plans that were made.
    pub plans: Vec<String>,
    /// What was there already, and stays as it is: "location x", "plan y".
    pub kept: Vec<String>,
    /// Secrets that the made locations lack: location and option.
    pub secrets: Vec<(String, String)>,
    /// Channels of notifications that a plan names and the configuration does not have.
    pub channels: Vec<String>,
    /// Made plans that had hooks.
    pub hooks: Vec<String>,
}

impl Sealed {
    /// Its text as it would stand in a configuration, for people.
    pub fn shown(&self) -> String {
        let mut document = DocumentMut::new();
        let mut locations = implicit();
        for (name, table) in &self.locations {
            locations.insert(name, Item::Table(table.clone()));
        }
        let mut plans = implicit();
        plans.insert(&self.name, Item::Table(self.plan.clone()));
        document.insert("repository", Item::Table(locations));
        document.insert("plan", Item::Table(plans));
        let keys = self.host_keys.iter().map(|key| format!("# host key of {}\n", key.shown()));
        document.to_string() + &keys.collect::<String>()
    }

    /// Adds its plan and locations to `config`, where there is nothing of these names yet; all of
    /// them or nothing.
    pub fn add_to(&self, config: &mut Config, done: &mut Recovered) -> Result<(), Problem> {
        let mut now = done.clone();
        let added = self.try_add_to(config, &mut now);
        if added.is_ok() {
            *done = now;
            return Ok(());
        }
        for name in self.locations.keys().filter(|name| !done.locations.contains(name)) {
            if now.locations.contains(name) {
                config.tables_mut("repository")?.remove(name);
            }
        }
        if !done.plans.contains(&self.name) && now.plans.contains(&self.name) {
            config.tables_mut("plan")?.remove(&self.name);
        }
        added
    }

    fn try_add_to(&self, config: &mut Config, done: &mut Recovered) -> Result<(), Problem> {
        for (name, table) in &self.locations {
            if done.locations.contains(name) {
                continue;
            }
            if config.entry(name).is_some() {
                let text = format!("location {name}");
                if !done.kept.contains(&text) {
                    done.kept.push(text);
                }
                continue;
            }
            config.tables_mut("repository")?.insert(name, Item::Table(table.clone()));
            done.locations.push(name.clone());
            let missing = self.secrets.get(name).into_iter().flatten();
            done.secrets.extend(missing.map(|key| (name.clone(), key.clone())));
            config.expect(name)?.options()?;
        }
        if config.plan_names().contains(&self.name) {
            done.kept.push(format!("plan {}", self.name));
            return Ok(());
        }
        config.tables_mut("plan")?.insert(&self.name, Item::Table(self.plan.clone()));
        done.plans.push(self.name.clone());
        let plan = config.plan(&self.name)?;
        for notify in &plan.notify {
            if !config.has_channel(&notify.channel) && !done.channels.contains(&notify.channel) {
                done.channels.push(notify.channel.clone());
            }
        }
        if self.had_hooks {
            done.hooks.push(self.name.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "default = \"nas\"\nhooks = true\n\
        [repository.nas]\ntitle = \"Office NAS\"\nlocation = \"sftp://a@nas/x\"\npassword = \"hunter2\"\n\
        repository_key_file = \"/state/k\"\nconnections = 8\nssh_command = \"ssh -x\"\n\
        [repository.s3]\nlocation = \"s3://s3.x.com/b\"\naccess_key = \"env:KEY\"\nregion = \"r\"\n\
        [repository.other]\nlocation = \"/o\"\n\
        [plan.home]\nsources = [\"/home\", \"@s3:/x\"]\nrepository = \"nas\"\n\
        schedule = \"daily at 02:30\"\nkeep = { daily = 7 }\nnotify = { phone = [\"failure\"] }\n\
        hooks = { before = [[\"evil\", \"--token\", \"hunter3\"]] }\n";

    fn config(text: &str) -> Result<(tempfile::TempDir, Config), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text)?;
        let config = Config::load(&path, None)?;
        Ok((dir, config))
    }

    #[test]
    fn a_plan_comes_back_without_secrets_and_commands() -> Result<(), Box<dyn std::error::Error>> {
        let (_dir, before) = config(CONFIG)?;
        let access = Access::new(std::sync::Arc::new(crate::ask::Nobody));
        let text = seal(&before, &before.plan("home")?, &access)?;
        for secret in ["hunter", "env:KEY", "ssh -x", "/state/k", "hooks", "evil", "other"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        let sealed = open(&text, 7)?;
        let sealed = sealed.first().ok_or("nothing")?;
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("config.toml");
        let recover = || {
            Config::edit(&path, None, |config| {
                let mut done = Recovered::default();
                sealed.add_to(config, &mut done)?;
                Ok(done)
            })
        };
        let done = recover()?;
        assert_eq!(
            (&done.locations[..], &done.plans[..]),
            (&["nas".into(), "s3".into()][..], &["home".into()][..])
        );
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let missing = [
            pair("nas", "password"),
            pair("nas", "repository_key_file"),
            pair("nas", "ssh_command"),
            pair("s3", "access_key"),
        ];
        assert_eq!(done.secrets, missing);
        assert_eq!(done.channels, ["phone"]);
        assert_eq!(done.hooks, ["home"]);
        let after = Config::load(&path, None)?;
        let without = crate::plans::Plan { hooks: Default::default(), ..before.plan("home")? };
        assert_eq!(after.plan("home")?, without);
        assert_eq!(after.entry("nas").and_then(|entry| entry.title()), Some("Office NAS"));
        // What is there already stays as it is.
        let again = recover()?;
        assert_eq!(again.kept, ["location nas", "location s3", "plan home"]);
        assert!(again.plans.is_empty());
        Ok(())
    }

    #[test]
    fn host_keys_come_back_where_the_machine_knows_none() -> Result<(), Box<dyn std::error::Error>>
    {
        const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA";
        let key = |letter: char| format!("{ED}{}", letter.to_string().repeat(42));
        let text = "[repository.nas]\nlocation = \"sftp://a@nas:2222/x\"\nproxy_jump = \"gate\"\n\
                    [repository.run]\nlocation = \"sftp://b@run/x\"\nssh_command = \"ssh\"\n\
                    [plan.home]\nsources = [\"sftp://c@src/x\", \"@run:/y\"]\nrepository = \"nas\"\n";
        let (dir, config) = config(text)?;
        let mut access = Access::new(std::sync::Arc::new(crate::ask::Nobody));
        access.home = Some(dir.path().into());
        let file = dir.path().join("known_hosts");
        access.known_hosts = Some(file.clone());
        let line = |host: &str, letter| format!("{host} {}\n", key(letter));
        let known = [line("[nas]:2222", 'a'), line("gate", 'b'), line("*", 'c'), line("x", 'd')];
        std::fs::write(&file, format!("{}@revoked * {}\n", known.concat(), key('c')))?;
        let sealed = seal(&config, &config.plan("home")?, &access)?;
        let keys = || Ok::<_, String>(open(&sealed, 7)?.remove(0));
        let lines = |keys: &[AcceptedKey]| keys.iter().map(AcceptedKey::shown).collect::<Vec<_>>();
        assert_eq!(keys()?.host_keys.len(), 2, "{sealed}");
        assert!(keys()?.shown().contains("# host key of [nas]:2222: ssh-ed25519 SHA256:"));
        // A machine that knows one of them otherwise, and one not at all.
        std::fs::write(&file, line("gate", 'e'))?;
        let mut done = HostKeys::default();
        keys()?.accept_host_keys(&config, &access, &mut done)?;
        assert!(lines(&done.accepted).concat().contains("nas") && done.accepted.len() == 1);
        assert!(lines(&done.differing).concat().contains("gate") && done.differing.len() == 1);
        let now = std::fs::read_to_string(&file)?;
        assert_eq!(now, line("gate", 'e') + &line("[nas]:2222", 'a'));
        // Once more nothing is left to do, and what no place needs is no matter.
        let odd = sealed.replace("gate ssh", "other ssh");
        let mut again = HostKeys::default();
        open(&odd, 7)?.remove(0).accept_host_keys(&config, &access, &mut again)?;
        assert!(again.accepted.is_empty() && again.differing.is_empty());
        assert_eq!(lines(&again.unused).len(), 1);
        assert_eq!(std::fs::read_to_string(&file)?, now);
        // What is no key of one host is none, and an old record has no such keys.
        for bad in ["* ", "a,b ", "@revoked x ", "", "a\\nb "] {
            let odd = sealed.replace("gate ssh", &format!("{bad}ssh"));
            assert_eq!(open(&odd, 7)?.remove(0).host_keys.len(), 1, "{bad}");
        }
        let old = sealed.replace("known_hosts =", "of_tomorrow =");
        assert!(open(&old, 7)?.remove(0).host_keys.is_empty());
        Ok(())
    }

    #[test]
    fn what_cannot_be_added_leaves_nothing() -> Result<(), Box<dyn std::error::Error>> {
        let text = "[repository.nas]\nlocation = \"/a\"\n\
                    [plan.home]\nsources = [\"/a\"]\nrepository = \"nas\"\nof_tomorrow = 1\n";
        let sealed = open(text, 7)?;
        let (_dir, mut config) = config("")?;
        let mut done = Recovered::default();
        assert!(sealed.first().ok_or("nothing")?.add_to(&mut config, &mut done).is_err());
        assert_eq!(done, Recovered::default());
        assert!(config.entry("nas").is_none() && config.plan_names().is_empty());
        Ok(())
    }

    #[test]
    fn what_would_run_a_command_never_comes_out() -> Result<(), Box<dyn std::error::Error>> {
        let text = "[repository.nas]\nlocation = \"sftp://a@nas/x\"\npassword_command = \"rm -r /\"\n\
                    ssh_command = \"evil\"\npassword_file = \"/etc/shadow\"\npassword = \"x\"\nwhat = 1\n\
                    [secret]\nnas = [\"password\", \"password_command\", \"location\", \"x\"]\n\
                    [plan.home]\nsources = [\"/a\"]\nrepository = \"nas\"\n\
                    hooks = { before = [[\"evil\"]] }\n";
        let sealed = open(text, 7)?;
        let sealed = sealed.first().ok_or("nothing")?;
        let shown = sealed.shown();
        for bad in ["command", "evil", "shadow", "password", "what", "hooks"] {
            assert!(!shown.contains(bad), "{shown}");
        }
        assert!(sealed.had_hooks);
        assert_eq!(sealed.secrets.get("nas").map(Vec::as_slice), Some(&["password".into()][..]));
        assert_eq!(host_of("host = \"a\"\n[plan.home]\n").as_deref(), Some("a"));
        for none in ["", "host = \"\"\n", "host = 1\n", "host =", "[host]\n"] {
            assert_eq!(host_of(none), None, "{none}");
        }
        assert!(open("[plan.home\n", 7).is_err() && open("plan = { a = 1 }", 7).is_err());
        assert!(open("[plan.\"a\\u001b[1m\"]\nsources = []\n", 7).is_err());
        Ok(())
    }
}
