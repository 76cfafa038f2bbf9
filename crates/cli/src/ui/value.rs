//! Values of options: typed as an argument, asked for at the terminal, or read from standard input.
//! They may be secrets.

use std::io::{IsTerminal, Read};

use holdfast_app::config::keys::Type;
use holdfast_app::text::printable;
use holdfast_app::{Ask, Problem, catalogue};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::failure::Result;
use crate::interrupt;
use crate::ui::prompt::Terminal;

/// No value is longer.
const MAX: u64 = 1 << 20;

/// A value that may be a secret.
#[derive(Clone)]
pub(crate) struct Secretive(pub(crate) Zeroizing<String>);

impl std::fmt::Debug for Secretive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl std::str::FromStr for Secretive {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

/// Asks for an option that holds a `kind`, without echo if that is secret; if standard input is no
/// terminal, it is read from there. `set` is what to type before the option to give it at once.
pub(crate) fn ask(
    context: &Context,
    owner: &str,
    option: &str,
    kind: Type,
    set: &str,
) -> Result<Zeroizing<String>> {
    if !std::io::stdin().is_terminal() {
        return read(option, kind, set);
    }
    let of = printable(format!("{option} of {owner}").as_bytes());
    let answer = interrupt::while_asking(|| match () {
        () if kind.has_lines() => {
            Terminal.secret_lines(&format!("{of} (paste it, then Ctrl-D if it does not end): "))
        }
        () if kind.is_secret() => Terminal.secret(&format!("{of}: ")),
        () => Terminal.line(&format!("{of}: ")),
    });
    let answer = answer.map_err(|e| catalogue::io("read", "terminal", &e))?;
    context.ui.flush()?;
    match answer {
        Some(answer) if !answer.trim().is_empty() => Ok(answer),
        _ => Err(Problem::usage(format!("no {option} was typed; nothing was changed")).into()),
    }
}

/// The value from standard input, less the line's end.
fn read(option: &str, kind: Type, set: &str) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .take(MAX)
        .read_to_string(&mut text)
        .map_err(|e| catalogue::io("read", "standard input", &e))?;
    if !kind.has_lines() {
        let end = text.trim_end_matches(['\n', '\r']).len();
        text.truncate(end);
    }
    if text.trim().is_empty() {
        return Err(Problem::usage(format!("there is no value for {option}"))
            .hint(format!("write it: {set}; or give it on standard input"))
            .hint("in a terminal it is asked for")
            .into());
    }
    Ok(text)
}
