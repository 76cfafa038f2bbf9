//! `token`: what programs show to be let into the console's API. Kept in the state directory, as the
//! console's settings show them.

use clap::{Args, Subcommand};
use holdfast_app::text::{plural, printable};
use holdfast_app::times::{local, rfc3339};
use holdfast_app::{Class, Problem};
use holdfast_web::{Accounts, LIVES, Token};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::ui::table::{Align, Table};

/// Where the record says that something was done from.
const HERE: &str = "command line";

/// Make and take away tokens, with which programs use the API
///
/// A token is shown once. It lets a program into the console that `serve` serves on this machine
/// (docs/api.md), as far as its scope goes. Whoever can write the state directory may make one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast token create dashboard
  holdfast token create deploy --scope run --days 90
  holdfast token list
  holdfast token revoke dashboard")]
pub(crate) struct Tokens {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a token, and print it
    Create {
        /// What to call it: what will use it
        name: String,
        /// What it may do; each includes those before it
        ///
        /// read: see plans, runs, storages and figures. run: also run, check and cancel. restore:
        /// also look into snapshots, and write files. admin: everything, forget and gc too.
        #[arg(long, default_value = "read", value_parser = ["read", "run", "restore", "admin"])]
        scope: String,
        /// For how many days it is good
        #[arg(long, default_value = LIVES[0].0, value_parser = LIVES.map(|(days, _)| days))]
        days: String,
    },
    /// List the tokens
    List,
    /// Take a token away: it is refused from now on
    Revoke {
        /// Its name, or its number in the list
        token: String,
    },
}

/// A token as JSON. Its value is known when it is made, and never again.
#[derive(Serialize)]
struct Row<'a> {
    id: i64,
    name: &'a str,
    scope: &'a str,
    made: String,
    used: Option<String>,
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

impl<'a> Row<'a> {
    fn new(token: &'a Token, value: Option<&'a str>) -> Self {
        Self {
            id: token.id,
            name: &token.name,
            scope: &token.scope,
            made: rfc3339(token.made),
            used: token.used.map(rfc3339),
            expires: token.expires.map(rfc3339),
            token: value,
        }
    }
}

pub(crate) fn run(context: &Context, options: &Tokens) -> Result {
    let accounts = Accounts::open(&context.paths()?.state)?;
    match &options.what {
        What::Create { name, scope, days } => create(context, &accounts, name, scope, days),
        What::List => list(context, &accounts),
        What::Revoke { token } => revoke(context, &accounts, token),
    }
}

fn create(context: &Context, accounts: &Accounts, name: &str, scope: &str, days: &str) -> Result {
    let value = accounts.new_token(name, scope, days)?;
    accounts.note(HERE, &format!("made the token {}, which may {scope}", name.trim()))?;
    if context.ui.is_json() {
        let tokens = accounts.tokens()?;
        if let Some(made) = tokens.iter().rev().find(|token| token.name == name.trim()) {
            context.ui.event("token", &Row::new(made, Some(&value)))?;
        }
        return Ok(Outcome::Done);
    }
    context.ui.line(&value)?;
    context.ui.flush()?;
    context.ui.note("it is not shown again; send it as  Authorization: Bearer TOKEN")?;
    Ok(Outcome::Done)
}

fn list(context: &Context, accounts: &Accounts) -> Result {
    let columns = ["ID", "NAME", "SCOPE", "MADE", "USED", "UNTIL"];
    let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
    for token in accounts.tokens()? {
        if context.ui.is_json() {
            context.ui.row("token", &Row::new(&token, None))?;
            continue;
        }
        table.add(vec![
            token.id.to_string(),
            printable(token.name.as_bytes()),
            printable(token.scope.as_bytes()),
            local(token.made),
            token.used.map_or_else(|| "never".into(), local),
            token.expires.map_or_else(|| "for good".into(), local),
        ]);
    }
    match (context.ui.is_json(), table.is_empty()) {
        (true, _) => {}
        (false, true) => {
            context.ui.note("no tokens; to make one: holdfast token create NAME")?;
        }
        (false, false) => table.write(&mut *context.ui.out())?,
    }
    Ok(Outcome::Done)
}

fn revoke(context: &Context, accounts: &Accounts, which: &str) -> Result {
    let tokens = accounts.tokens()?;
    let named: Vec<_> = tokens.iter().filter(|token| token.name == which).collect();
    let numbered = || tokens.iter().filter(|token| token.id.to_string() == which).collect();
    let found: Vec<_> = if named.is_empty() { numbered() } else { named };
    let shown = printable(which.as_bytes());
    let token = match found[..] {
        [token] => token,
        [] => {
            return Err(Problem::new(Class::NoSuchName, format!("there is no token {shown}"))
                .hint("to see what there is: holdfast token list")
                .into());
        }
        _ => {
            let number = plural(found.len() as u64, "token is", "tokens are");
            let ids: Vec<_> = found.iter().map(|token| token.id.to_string()).collect();
            return Err(Problem::usage(format!("{number} called {shown}"))
                .hint(format!("name one by its number, one of {}", ids.join(", ")))
                .into());
        }
    };
    accounts.revoke(token.id)?;
    accounts.note(HERE, &format!("took the token {} away", token.name))?;
    context.ui.summary(&format!(
        "the token {} is refused from now on",
        printable(token.name.as_bytes())
    ))?;
    if context.ui.is_json() {
        context.ui.event("summary", &Row::new(token, None))?;
    }
    Ok(Outcome::Done)
}
