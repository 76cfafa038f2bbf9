//! Asking a person at the terminal. Standard input may be the data to back up, so that answers
//! are read from the terminal itself.

use std::io::{self, BufRead, IsTerminal, Write};

use holdfast_app::secrets::Ask;
use zeroize::Zeroizing;

/// The terminal that the command was typed in, if there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal;

impl Terminal {
    fn open(self) -> Option<std::fs::File> {
        if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
            return None;
        }
        std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty").ok()
    }

    /// Whether there is somebody to ask.
    pub(crate) fn is_there(self) -> bool {
        self.open().is_some()
    }

    /// Asks a question that only `yes` or `y` answers. `None`: there is nobody to ask.
    pub(crate) fn confirm(self, question: &str) -> io::Result<Option<bool>> {
        let Some(mut terminal) = self.open() else { return Ok(None) };
        write!(terminal, "{question} [y/N] ")?;
        let mut answer = String::new();
        io::BufReader::new(terminal).read_line(&mut answer)?;
        Ok(Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")))
    }
}

impl Ask for Terminal {
    fn secret(&self, prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
        if !self.is_there() {
            return Ok(None);
        }
        rpassword::prompt_password(prompt).map(|text| Some(Zeroizing::new(text)))
    }
}
