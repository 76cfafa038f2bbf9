//! rclone's configuration file: where it is, and its sections. The format is that of an INI file:
//! `[name]`, then `key = value` or `key: value`, comments with `#` or `;`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::config::keys;
use crate::problem::{Class, Problem};
use crate::text::printable;

/// What an encrypted file begins with, comments aside.
const ENCRYPTED: &str = "RCLONE_ENCRYPT_V";

/// Options that rclone keeps for itself, and that say nothing about how to get there.
const INTERNAL: &[&str] = &[
    "shell_type",
    "md5sum_command",
    "sha1sum_command",
    "crc32sum_command",
    "sha256sum_command",
    "blake3sum_command",
    "xxh3sum_command",
    "xxh128sum_command",
    "no_check_bucket",
    "provider",
    "type",
];

/// The file that rclone would use: `$RCLONE_CONFIG`, else the first of its usual places that is
/// there. The error names those that were looked at.
pub fn default_file(environment: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf, Problem> {
    let variable = |name: &str| environment(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(path) = variable("RCLONE_CONFIG") {
        return Ok(path);
    }
    let home = variable("HOME");
    let usual = [
        variable("XDG_CONFIG_HOME").map(|path| path.join("rclone/rclone.conf")),
        home.as_ref().map(|home| home.join(".config/rclone/rclone.conf")),
        home.as_ref().map(|home| home.join(".rclone.conf")),
    ];
    let usual: Vec<_> = usual.into_iter().flatten().collect();
    if let Some(found) = usual.iter().find(|path| path.exists()) {
        return Ok(found.clone());
    }
    let shown: Vec<_> = usual.iter().map(crate::text::printable_os).collect();
    let text = format!("rclone's configuration is not at {}", shown.join(" or "));
    Err(Problem::new(Class::NoSuchPath, text)
        .hint("`rclone config file` says where it is; give it with --from FILE"))
}

/// What the file holds.
pub struct Remotes(Vec<(String, Section)>);

/// A remote's options; those that were taken are gone.
#[derive(Clone, Default)]
pub(super) struct Section(BTreeMap<String, Zeroizing<String>>);

impl std::fmt::Debug for Remotes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Remotes {
    /// Reads the text of the file. `from` is how the file is called in messages, which never hold
    /// a value.
    pub fn parse(text: &str, from: &str) -> Result<Self, Problem> {
        let mut sections: Vec<(String, Section)> = Vec::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            let wrong = |what: &str| {
                let number = number + 1;
                let text = format!("{from}, line {number}: {what}");
                Problem::new(Class::Configuration, text)
                    .hint("is it rclone's configuration? `rclone config file` says where that is")
            };
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with(ENCRYPTED) {
                return Err(encrypted(from));
            }
            if let Some(name) = line.strip_prefix('[') {
                let name = name.strip_suffix(']').ok_or_else(|| wrong("] is missing"))?.trim();
                if !sections.iter().any(|(known, _)| known == name) {
                    sections.push((name.to_owned(), Section::default()));
                }
                continue;
            }
            let at = line.find(['=', ':']).ok_or_else(|| wrong("it is no KEY = VALUE"))?;
            let (key, value) = line.split_at_checked(at).unwrap_or((line, ""));
            let value = value.get(1..).unwrap_or_default().trim();
            let (_, section) =
                sections.last_mut().ok_or_else(|| wrong("a [NAME] must come first"))?;
            let value = Zeroizing::new(unquoted(value).to_owned());
            section.0.insert(key.trim().to_owned(), value);
        }
        Ok(Self(sections))
    }

    /// The remotes' names, in the file's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub(super) fn get(&self, name: &str) -> Option<Section> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, section)| section.clone())
    }

    pub(super) fn expect(&self, name: &str) -> Result<Section, Problem> {
        self.get(name).ok_or_else(|| {
            let shown = printable(name.as_bytes());
            let text = format!("rclone's configuration has no remote {shown}");
            let problem = Problem::new(Class::Configuration, text);
            let names = || self.names().map(String::from);
            match keys::nearest_of(name, names()) {
                Some(nearest) => problem.hint(format!("did you mean {nearest}?")),
                None => {
                    let names = names().collect::<Vec<_>>().join(", ");
                    problem.hint(format!("it has: {}", printable(names.as_bytes())))
                }
            }
        })
    }
}

fn encrypted(from: &str) -> Problem {
    Problem::new(Class::Configuration, format!("{from} is encrypted"))
        .hint("let rclone open it (it asks for the password):")
        .hint("rclone config show | holdfast config repository import --from -")
}

/// Quotes that rclone's reader takes off: backquotes, and three double ones.
fn unquoted(value: &str) -> &str {
    ["\"\"\"", "`"]
        .iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value)
}

impl Section {
    /// What type of remote it is.
    pub(super) fn kind(&self) -> Option<&str> {
        self.0.get("type").map(|kind| kind.as_str())
    }

    /// Takes an option; one that is empty is as good as none.
    pub(super) fn take(&mut self, key: &str) -> Option<Zeroizing<String>> {
        self.0.remove(key).filter(|value| !value.is_empty())
    }

    /// Takes a switch; what is no switch stays, and is told of.
    pub(super) fn take_flag(&mut self, key: &str) -> Option<bool> {
        let flag = match self.0.get(key)?.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => true,
            "0" | "f" | "false" => false,
            _ => return None,
        };
        self.0.remove(key);
        Some(flag)
    }

    /// What was not taken and may matter.
    pub(super) fn left(self) -> Vec<String> {
        let matters = |(key, value): (String, Zeroizing<String>)| {
            let is_internal = INTERNAL.contains(&key.as_str()) || value.is_empty();
            (!is_internal).then(|| printable(key.as_bytes()))
        };
        self.0.into_iter().filter_map(matters).collect()
    }
}
