//! docs/configuration.md: the reference of the configuration, its tables made from [`KEYS`]. The
//! test below keeps the two the same; `UPDATE_DOCS=1 cargo test -p holdfast-app` writes the file
//! anew. The short list for the command line's help is made here, too.

use super::keys::{KEYS, Key, Kind};
use crate::text::key_line;

/// All options with one line each, for the command line's help.
pub fn summary() -> String {
    let mut text = String::new();
    let groups = [("Any location", None), ("SFTP", Some(Kind::Sftp)), ("S3", Some(Kind::S3))];
    for (heading, kind) in groups {
        text.push_str(&format!("{heading}:\n"));
        for key in KEYS.iter().filter(|key| belongs(key, kind)) {
            text.push_str(&key_line(key.name, 22, key.about));
        }
        text.push('\n');
    }
    text.push_str(
        "A secret X may also be given as X_file or X_command, or have env:VARIABLE or \
         keyring:NAME as its value.",
    );
    text
}

/// Options of several kinds of location stand with each of them.
fn belongs(key: &Key, kind: Option<Kind>) -> bool {
    match kind {
        None => key.kinds.is_empty(),
        Some(kind) => key.kinds.contains(&kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "\
# The configuration

<!-- The tables are made from the program's own: UPDATE_DOCS=1 cargo test -p holdfast-app -->

One file in TOML holds named locations, which of them is the default, plans, and channels of
notifications. Edit it by hand, or with `holdfast config repository …` (`holdfast config remote …` is
the same), `holdfast plan …` and `holdfast channel …`; comments and order stay.

| Where | When |
|---|---|
| `--config FILE` | if given |
| `$HOLDFAST_CONFIG` | else, if set |
| `/etc/holdfast/config.toml` | else, as root |
| `$XDG_CONFIG_HOME/holdfast/config.toml` | else, if set |
| `~/.config/holdfast/config.toml` | else |

It holds secrets: it is made readable by you alone (0600), and every command that reads it warns
if others can. A symbolic link is followed, so that the file may live elsewhere.

```toml
default = \"office-nas\"

[repository.office-nas]
title = \"Office NAS SFTP\"
location = \"sftp://backup@nas.example.com:2222/volume1/holdfast\"
key_file = \"~/.ssh/id_ed25519\"
key_passphrase_command = [\"pass\", \"show\", \"nas-key\"]
passphrase_file = \"~/.config/holdfast/office-nas.pass\"

[repository.mys3]
location = \"s3://s3.fr-par.scw.cloud/mysuperbucket\"
access_key = \"…\"
secret_access_key = \"env:SCW_SECRET_KEY\"
```

## Using a named location

`@office-nas` stands wherever a location goes: `holdfast at @office-nas ls`, `backup @mys3`,
`restore --to @other`. `@office-nas:/sub/path` means a path below it. The default is the
repository of commands that name none, unless `HOLDFAST_REPOSITORY` is set.

A name has letters, digits, `-`, `_` and `.`. Other text given to `create` is kept as the title:
`\"Office NAS SFTP\"` becomes `office-nas-sftp`.

`-o KEY=VALUE` gives an option for the repository's location on the command line, in place of
what the configuration says. It takes no literal secrets, since others can see the arguments of a
process.

## Secrets

Every option of type *secret*, here `password`, can be written in one of these ways:

| Written as | Taken from |
|---|---|
| `password = \"…\"` | the file itself |
| `password = \"env:NAME\"` | the variable NAME of the environment |
| `password = \"keyring:NAME\"` | the desktop's keyring, by `secret-tool` |
| `password_file = \"…\"` | a file; a line end at its end is left out |
| `password_command = \"…\"` | what a command prints, run by a shell |
| `password_command = [\"…\", \"…\"]` | the same, without a shell |

`holdfast config repository set NAME password` without a value asks for it, or reads standard
input, so that it is not kept in the shell's history. `show` never shows secrets.

A secret is put into the keyring (GNOME Keyring, KWallet, KeePassXC) under a NAME with

```sh
secret-tool store --label='Holdfast office-nas' service holdfast name NAME
```

`secret-tool` is in the package libsecret-tools or libsecret. There is a keyring in a desktop
session only: for runs by a service write the secret in one of the other ways.

The repository's passphrase is looked for in this order: command line, environment,
configuration, and then it is asked for.

## Options

Relative paths begin at the directory of the file, and `~/` is your home directory. A time is
`500ms`, `30s`, `2m` or `1h`; a rate is bytes a second: `512K`, `10M`.
";

    fn table(kind: Option<Kind>) -> String {
        let mut text = String::from("\n| Option | Type | Default | What |\n|---|---|---|---|\n");
        for key in KEYS.iter().filter(|key| belongs(key, kind)) {
            let Key { name, value, about, default, .. } = key;
            let about = about.replace('|', "\\|");
            text.push_str(&format!("| `{name}` | {} | {default} | {about} |\n", value.name()));
        }
        text
    }

    #[test]
    fn the_reference_is_what_the_table_says() -> Result<(), Box<dyn std::error::Error>> {
        let mut text = HEAD.to_owned();
        for (heading, kind) in
            [("Any location", None), ("SFTP", Some(Kind::Sftp)), ("S3", Some(Kind::S3))]
        {
            text.push_str(&format!("\n### {heading}\n{}", table(kind)));
        }
        text.push_str(
            "\nFor SFTP, `location` may also be the path alone, with `host`, `port` and `username` \
             beside it.\n\n## Channels\n\n`[channel.NAME]` tables say how people are told how \
             runs ended; `type` is what a\nchannel is. A secret here can be written in every way that is \
             shown above, and is\nfetched when a message is sent. [plans.md](plans.md) has examples.\n\n\
             | Key | Type | Of | What |\n|---|---|---|---|\n",
        );
        for key in crate::notify::KEYS {
            let kinds: Vec<_> = key.kinds().iter().map(|kind| kind.name()).collect();
            let value = if key.is_secret { "secret" } else { "text" };
            let (name, about) = (key.name, key.about);
            text.push_str(&format!("| `{name}` | {value} | {} | {about} |\n", kinds.join(", ")));
        }
        text.push_str(
            "\n## Plans\n\n`[plan.NAME]` tables say what is backed up by itself, when and where to: \
             [plans.md](plans.md).\n",
        );
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &text)?;
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        let hint = "docs/configuration.md is out of date: UPDATE_DOCS=1 cargo test -p holdfast-app";
        assert!(kept == text, "{hint}");
        Ok(())
    }
}
