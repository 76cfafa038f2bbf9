//! Changes to plans in the configuration, each as small as what was asked for: all else in the file
//! stays as it was written. The same for the command line and the console.

use toml_edit::{Item, Table, TableLike};

use super::Plan;
use super::keys::KEYS;
use crate::config::{Config, name_of, put, rename_key};
use crate::problem::{Class, Problem};
use crate::text::shell_word;

impl Config {
    /// The plans' tables, with their names.
    pub(super) fn plan_tables(&self) -> impl Iterator<Item = (&str, &dyn TableLike)> {
        let tables = self.document().get("plan").and_then(Item::as_table_like);
        let tables = tables.into_iter().flat_map(TableLike::iter);
        tables.filter_map(|(name, item)| Some((name, item.as_table_like()?)))
    }

    fn plans_mut(&mut self) -> Result<&mut dyn TableLike, Problem> {
        self.tables_mut("plan")
    }

    /// Makes a plan. Its name may be any text: what is no name becomes its title.
    pub fn create_plan(&mut self, plan: &Plan) -> Result<Plan, Problem> {
        let (name, title) = name_of(&plan.name)?;
        if self.plan_tables().any(|(known, _)| known == name) {
            let word = shell_word(&name);
            return Err(Problem::new(
                Class::AlreadyExists,
                format!("there is a plan {name} already"),
            )
            .hint(format!("to see it: holdfast plan show {word}"))
            .hint(format!("to change it: holdfast plan edit {word}")));
        }
        let plan = Plan { name, title: plan.title.clone().or(title), ..plan.clone() };
        plan.validate()?;
        plan.check_places(self)?;
        plan.check_channels(self, &[])?;
        let mut table = Table::new();
        for (key, value) in plan.pairs() {
            table.insert(key, Item::Value(value));
        }
        self.plans_mut()?.insert(&plan.name, Item::Table(table));
        // What was written must be what is read.
        self.plan(&plan.name)
    }

    /// Writes what differs between the plan of this name in the file and `plan`.
    pub fn change_plan(&mut self, plan: &Plan) -> Result<(), Problem> {
        let before = self.plan_as_written(&plan.name)?;
        plan.validate()?;
        plan.check_places(self)?;
        plan.check_channels(self, &before.notify)?;
        let table = self.plans_mut()?.get_mut(&plan.name).and_then(Item::as_table_like_mut);
        let Some(table) = table else { return Ok(()) };
        for key in KEYS {
            let (old, new) = (key.value(&before), key.value(plan));
            let is_same = match (&old, &new) {
                (Some(old), Some(new)) => old.to_string() == new.to_string(),
                (old, new) => old.is_none() && new.is_none(),
            };
            match new {
                _ if is_same => {}
                Some(value) => put(table, key.name, value),
                None => drop(table.remove(key.name)),
            }
        }
        self.plan(&plan.name).map(drop)
    }

    /// Takes a plan out. Its snapshots and its history stay.
    pub fn remove_plan(&mut self, name: &str) -> Result<(), Problem> {
        self.plan_as_there(name)?;
        self.plans_mut()?.remove(name);
        Ok(())
    }

    /// Gives a plan another name; a text that is no name becomes its title as well. The new name.
    pub fn rename_plan(&mut self, old: &str, new: &str) -> Result<String, Problem> {
        self.plan_as_there(old)?;
        let (new, title) = name_of(new)?;
        if new != old && self.plan_tables().any(|(known, _)| known == new) {
            let text = format!("there is a plan {new} already");
            return Err(Problem::new(Class::AlreadyExists, text));
        }
        let plans = self.plans_mut()?;
        if new != old {
            rename_key(plans, old, &new);
        }
        if let (Some(title), Some(table)) =
            (title, plans.get_mut(&new).and_then(Item::as_table_like_mut))
        {
            put(table, "title", title.into());
        }
        Ok(new)
    }

    /// Refuses a name that no plan has. The plan itself may be one that cannot be read.
    fn plan_as_there(&self, name: &str) -> Result<(), Problem> {
        match self.plan_tables().any(|(known, _)| known == name) {
            true => Ok(()),
            false => Err(self.no_plan(name)),
        }
    }
}
