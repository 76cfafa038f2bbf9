//! One option's value: from the file or from words on a command line to what its type says. No
//! error holds the value.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml_edit::Value;
use zeroize::Zeroizing;

use super::keys::Type;
use crate::command::CommandLine;
use crate::text::parse_size;

/// A value that was checked against its type.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Setting {
    Text(Zeroizing<String>),
    Path(PathBuf),
    Flag(bool),
    Number(u64),
    Duration(Duration),
    Command(CommandLine),
}

/// What paths are relative to.
#[derive(Debug, Clone, Default)]
pub struct Base {
    /// What `~/` means.
    pub home: Option<PathBuf>,
    /// Where relative paths begin.
    pub directory: PathBuf,
}

impl Base {
    /// The absolute path that `text` means.
    pub fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix('~'), &self.home) {
            (Some(""), Some(home)) => home.clone(),
            (Some(rest), Some(home)) if rest.starts_with('/') => {
                home.join(rest.trim_start_matches('/'))
            }
            _ => self.directory.join(Path::new(text)),
        }
    }
}

/// Reads a value of the file. The error says what it must be.
pub(crate) fn read(kind: Type, value: &Value, base: &Base) -> Result<Setting, String> {
    let text = value.as_str();
    let whole = value.as_integer().and_then(|number| u64::try_from(number).ok());
    Ok(match kind {
        Type::Text | Type::Lines | Type::Secret | Type::SecretLines => {
            let text = text.ok_or("must be text in quotes")?;
            if text.is_empty() {
                return Err("must not be empty".into());
            }
            if !kind.has_lines() && text.contains(['\n', '\r', '\0']) {
                return Err("must be one line".into());
            }
            Setting::Text(Zeroizing::new(text.to_owned()))
        }
        Type::Path => {
            let text = text.ok_or("must be a path in quotes")?;
            if text.is_empty() || text.contains('\0') {
                return Err("must be a path".into());
            }
            Setting::Path(base.path(text))
        }
        Type::Bool => {
            let flag = value.as_bool().or_else(|| text.and_then(flag));
            Setting::Flag(flag.ok_or("must be true or false")?)
        }
        Type::Number(from, to) => {
            let number = whole.or_else(|| text.and_then(|text| text.trim().parse().ok()));
            let number = number.filter(|number| (from..=to).contains(number));
            Setting::Number(number.ok_or(format!("must be a number from {from} to {to}"))?)
        }
        Type::Duration => {
            let parsed = whole.map(Duration::from_secs).or_else(|| text.and_then(duration));
            let parsed = parsed.filter(|d| !d.is_zero() && d.as_secs() <= 7 * 24 * 3600);
            Setting::Duration(parsed.ok_or("must be a time, such as 30s, 500ms or 2m")?)
        }
        Type::Rate => {
            let parsed = whole.or_else(|| text.and_then(rate)).filter(|rate| *rate > 0);
            Setting::Number(parsed.ok_or("must be bytes a second, such as 512K or 10M")?)
        }
        Type::Words => {
            const WHAT: &str = "must be a command: text, or an array of words";
            if let Some(line) = text.filter(|line| !line.trim().is_empty()) {
                return Ok(Setting::Command(CommandLine::Shell(line.into())));
            }
            let words = value.as_array().map(|words| words.iter().map(Value::as_str));
            let words = words.and_then(|words| words.collect::<Option<Vec<_>>>()).ok_or(WHAT)?;
            if words.first().is_none_or(|program| program.is_empty()) {
                return Err(WHAT.into());
            }
            let words = words.into_iter().map(String::from).collect();
            Setting::Command(CommandLine::Words(words))
        }
    })
}

/// What to write into the file for `text`, as it was typed. The error says what it must be.
pub(crate) fn write(kind: Type, text: &str) -> Result<Value, String> {
    let plain = text.trim();
    let whole = || plain.parse::<u64>().ok().and_then(|number| i64::try_from(number).ok());
    let value = match kind {
        Type::Bool => flag(plain).map(Value::from),
        Type::Number(..) | Type::Duration | Type::Rate => whole().map(Value::from),
        Type::Words if plain.starts_with('[') => plain.parse::<Value>().ok(),
        _ => None,
    };
    let value = value.unwrap_or_else(|| Value::from(text));
    read(kind, &value, &Base::default()).map(|_| value)
}

/// Reads `true`, `yes`, `on`, `1` and their opposites.
fn flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Reads `30`, `30s`, `500ms`, `2m`, `1h`, `7d`.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" | "min" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        "d" => Some(Duration::from_secs(number.checked_mul(86_400)?)),
        _ => None,
    }
}

/// Reads bytes a second: `10M`, `512KiB`, `1.5 MB/s`.
pub fn rate(text: &str) -> Option<u64> {
    let text = text.trim();
    parse_size(text.strip_suffix("/s").unwrap_or(text)).filter(|rate| *rate > 0)
}

#[cfg(test)]
mod tests {
    use super::super::keys::find;
    use super::*;

    fn written(name: &str, text: &str) -> Result<String, String> {
        let (key, form) = find(name).ok_or("unknown")?;
        write(form.value(key.value), text).map(|value| value.to_string())
    }

    fn as_read(name: &str, toml: &str) -> Result<Setting, String> {
        let (key, form) = find(name).ok_or("unknown")?;
        let value: Value = toml.parse().map_err(|_| "toml")?;
        let base = Base { home: Some("/home/a".into()), directory: "/etc/holdfast".into() };
        read(form.value(key.value), &value, &base)
    }

    #[test]
    fn words_become_values_of_their_type() {
        for (name, text, toml) in [
            ("use_tls", "false", "false"),
            ("use_tls", "Yes", "true"),
            ("port", "2222", "2222"),
            ("timeout", "90", "90"),
            ("timeout", "2m", "\"2m\""),
            ("limit_upload", "10M", "\"10M\""),
            ("key_file", "~/.ssh/id", "\"~/.ssh/id\""),
            ("password", "123", "\"123\""),
            ("password", " x ", "\" x \""),
            ("password_command", "pass show x", "\"pass show x\""),
            ("password_command", "[\"pass\", \"x\"]", "[\"pass\", \"x\"]"),
        ] {
            assert_eq!(written(name, text).as_deref(), Ok(toml), "{name}");
        }
        for (name, text) in [
            ("use_tls", "maybe"),
            ("port", "0"),
            ("port", "65536"),
            ("port", "-1"),
            ("timeout", "soon"),
            ("timeout", "0"),
            ("limit_upload", "fast"),
            ("limit_upload", "0"),
            ("password", ""),
            ("password", "a\nb"),
            ("password_command", " "),
            ("password_command", "[]"),
        ] {
            let error = written(name, text).err().unwrap_or_default();
            assert!(error.starts_with("must"), "{name} {text}: {error}");
        }
    }

    #[test]
    fn values_of_the_file_may_be_written_loosely_where_the_meaning_is_plain() {
        let number = |number| Ok(Setting::Number(number));
        let path = |path: &str| Ok(Setting::Path(path.into()));
        assert!(as_read("use_tls", "\"no\"") == Ok(Setting::Flag(false)));
        assert!(as_read("port", "\"22\"") == number(22));
        assert!(as_read("limit_upload", "\"512KiB/s\"") == number(512 << 10));
        assert!(as_read("limit_upload", "1000") == number(1000));
        let second = Ok(Setting::Duration(Duration::from_millis(500)));
        assert!(as_read("timeout", "\"500ms\"") == second);
        assert!(as_read("key_file", "\"~/.ssh/id\"") == path("/home/a/.ssh/id"));
        assert!(as_read("key_file", "\"keys/id\"") == path("/etc/holdfast/keys/id"));
        assert!(as_read("key_file", "\"~anna\"") == path("/etc/holdfast/~anna"));
        for (name, toml) in [("password", "17"), ("port", "2.5"), ("host", "[]"), ("use_tls", "1")]
        {
            assert!(as_read(name, toml).is_err(), "{name}");
        }
    }
}
