//! From the fields of the form to the configuration: what was not touched stays as it is written,
//! and an empty field for a secret leaves the secret alone.

use holdfast_app::Problem;
use holdfast_app::config::keys::{Key, Kind};
use holdfast_app::config::{Config, Entry, name_of};
use holdfast_app::location::{S3Location, SftpLocation};
use holdfast_app::text::printable;

use super::form::{self, Control, Field, Place};
use crate::posted::Posted;

/// The kind that a form is about.
pub(super) fn kind(text: &str) -> Result<Kind, Problem> {
    match text {
        "local" => Ok(Kind::Local),
        "sftp" => Ok(Kind::Sftp),
        "s3" => Ok(Kind::S3),
        other => {
            let shown = printable(other.as_bytes());
            Err(Problem::usage(format!("{shown:?} is no kind of storage"))
                .hint("it is local, sftp or s3"))
        }
    }
}

/// Writes what was typed into `config`. The answer is the storage's name.
pub(super) fn apply(config: &mut Config, posted: &Posted) -> Result<String, Problem> {
    let kind = kind(posted.text("kind"))?;
    let title = posted.text("title").trim();
    let name = match posted.text("entry") {
        "" => {
            if title.is_empty() {
                return Err(Problem::usage("the storage has no name yet")
                    .hint("any text will do, such as Office NAS"));
            }
            config.create(title)?.name
        }
        entry => {
            let entry = config.expect(entry)?;
            let (now, name) = (entry.title().unwrap_or(entry.name()), entry.name().to_owned());
            match title.is_empty() || title == now {
                true => name,
                false => config.rename(&name, title)?.name,
            }
        }
    };
    set_place(config, &name, kind, posted)?;
    for key in form::fields(kind) {
        let field = current(config, &name, key)?;
        match field.control() {
            Control::Secret | Control::SecretLines => set_secret(config, &name, &field, posted)?,
            control => set_plain(config, &name, &field, control, posted)?,
        }
    }
    Ok(name)
}

fn set_place(config: &mut Config, name: &str, kind: Kind, posted: &Posted) -> Result<(), Problem> {
    let typed = |field: &str| posted.text(field).trim().to_owned();
    let wanted = Place {
        host: typed("host"),
        port: typed("port"),
        user: typed("username"),
        path: typed("location"),
        endpoint: typed("endpoint"),
        bucket: typed("bucket"),
    };
    let entry = config.expect(name)?;
    if let Ok(location) = entry.location() {
        let now = form::place(config, name, &location)?;
        let same = |one: &Place, two: &Place| {
            let parts = |p: &Place| {
                [&p.host, &p.port, &p.user, &p.path, &p.endpoint, &p.bucket].map(Clone::clone)
            };
            parts(one) == parts(two)
        };
        if same(&now, &wanted) {
            return Ok(());
        }
    }
    let location = match kind {
        Kind::Sftp => {
            SftpLocation::from_fields(&wanted.user, &wanted.host, &wanted.port, &wanted.path)?
                .to_string()
        }
        Kind::S3 => {
            S3Location::from_fields(&wanted.endpoint, &wanted.bucket, &wanted.path)?.to_string()
        }
        Kind::Local => {
            if !wanted.path.starts_with(['/', '~']) {
                return Err(Problem::usage("the directory is not given from the root")
                    .hint("write its absolute path: /mnt/disk/backups"));
            }
            wanted.path
        }
    };
    config.set(name, "location", &location)?;
    // The location says it all now.
    for option in ["host", "port", "username"] {
        if has(&config.expect(name)?, option) {
            config.unset(name, option)?;
        }
    }
    Ok(())
}

fn has(entry: &Entry<'_>, option: &str) -> bool {
    entry.lines().iter().any(|line| line.name == option)
}

/// The field as it would be shown now.
fn current(config: &Config, name: &str, key: &'static Key) -> Result<Field, Problem> {
    let lines = config.expect(name)?.lines();
    let line = |name: &str| {
        let found = lines.iter().find(|line| line.name == name);
        found.map(|line| line.text.clone()).unwrap_or_default()
    };
    Ok(Field::of(key, &line))
}

fn set_plain(
    config: &mut Config,
    name: &str,
    field: &Field,
    control: Control,
    posted: &Posted,
) -> Result<(), Problem> {
    let Some(typed) = posted.sent(field.name()) else { return Ok(()) };
    let typed = if control == Control::Lines { typed } else { typed.trim() };
    let unticked = control == Control::Box && typed == "false" && field.value != "true";
    if typed == field.value || unticked {
        return Ok(());
    }
    let clear = typed.is_empty() || (control == Control::Box && typed == "false");
    if clear {
        config.unset(name, field.name())?;
    } else {
        config.set(name, field.name(), typed)?;
    }
    Ok(())
}

fn set_secret(
    config: &mut Config,
    name: &str,
    field: &Field,
    posted: &Posted,
) -> Result<(), Problem> {
    let option = field.name();
    let (as_file, as_command) = (format!("{option}_file"), format!("{option}_command"));
    let value = posted.text(option);
    let file = posted.text(&as_file).trim();
    let command = posted.text(&as_command).trim();
    if !value.trim().is_empty() {
        config.set(name, option, value)?;
    } else if field.key.has_file_form() && !file.is_empty() && file != field.file {
        config.set(name, &as_file, file)?;
    } else if !command.is_empty() && command != field.command {
        config.set(name, &as_command, command)?;
    } else {
        // A form that was emptied, or the word for it.
        let emptied = |form: &str, now: &str, typed: &str| {
            !now.is_empty() && typed.is_empty() && posted.sent(form).is_some()
        };
        let clear = posted.text(&format!("{option}.clear")) == "true";
        for (form, there, gone) in [
            (option, field.is_set, clear),
            (&as_file, !field.file.is_empty(), clear || emptied(&as_file, &field.file, file)),
            (
                &as_command,
                !field.command.is_empty(),
                clear || emptied(&as_command, &field.command, command),
            ),
        ] {
            if there && gone {
                config.unset(name, form)?;
            }
        }
    }
    Ok(())
}

/// The name that a title will have.
pub(super) fn name_for(title: &str) -> Result<String, Problem> {
    name_of(title).map(|(name, _)| name)
}
