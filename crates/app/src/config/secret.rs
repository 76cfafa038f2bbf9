//! A secret as the configuration has it: the value itself, or where it is kept. It is fetched when it
//! is needed and not before, since that may run a command or ask the desktop's keyring.

use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use super::values::Setting;
use crate::command::without_newline;
use crate::problem::{Class, Problem};
use crate::{catalogue, keyring};

/// A file that holds a secret has no more bytes.
const FILE_MAX: u64 = 1 << 20;

/// A secret's value that names a variable of the environment.
const VARIABLE: &str = "env:";
/// A secret's value that names what the desktop's keyring has.
const KEYRING: &str = "keyring:";

/// Whether a secret's value says where the secret is, and is none itself.
pub fn is_reference(text: &str) -> bool {
    text.starts_with(VARIABLE) || text.starts_with(KEYRING)
}

/// Whether a secret's value names a variable of the environment.
pub(crate) fn is_variable(text: &str) -> bool {
    text.starts_with(VARIABLE)
}

/// The secret itself; never empty. `name` is what messages call it, as it is written:
/// `password_file of @nas`.
pub(crate) fn fetch(name: &str, setting: &Setting) -> Result<Zeroizing<String>, Problem> {
    let unreadable = |cause: &str| {
        Problem::new(Class::KeyUnreadable, format!("{name} gives no secret")).cause(cause)
    };
    let text = match setting {
        Setting::Text(text) => {
            if let Some(kept) = text.strip_prefix(KEYRING) {
                keyring::look_up(kept)
                    .map_err(|missing| unreadable(&missing.cause).hint(missing.hint))?
            } else if let Some(variable) = text.strip_prefix(VARIABLE) {
                let found = std::env::var_os(variable).and_then(|value| value.into_string().ok());
                let found = found.filter(|value| !value.is_empty()).ok_or_else(|| {
                    let shown = crate::text::printable(variable.as_bytes());
                    unreadable(&format!("the variable {shown} is not set"))
                })?;
                Zeroizing::new(found)
            } else {
                text.clone()
            }
        }
        Setting::Path(path) => read_file(path).map_err(|problem| Problem {
            message: format!("{name}: {}", problem.message),
            ..problem
        })?,
        Setting::Command(command) => command.output().map_err(|cause| {
            unreadable(&cause).hint("run the command by itself to see what is wrong")
        })?,
        Setting::Flag(_) | Setting::Number(_) | Setting::Duration(_) => {
            return Err(unreadable("it is neither text, a file nor a command"));
        }
    };
    match text.is_empty() {
        true => Err(unreadable("it is empty")),
        false => Ok(text),
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, Problem> {
    let failed = |e: std::io::Error| Problem {
        class: Class::KeyUnreadable,
        ..catalogue::io("read", path, &e)
    };
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(Zeroizing::new(without_newline(&text).to_owned()))
}
