//! Asking a person at the terminal. Standard input may be the data to back up, so that answers
//! are read from the terminal itself.

use std::io::{self, BufRead, IsTerminal, Write};

use holdfast_app::Ask;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
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

    /// Reads lines without echo, until one ends a key (`-----END …`), or until Ctrl-D.
    /// `Ok(None)`: there is nobody to ask.
    pub(crate) fn secret_lines(self, prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
        let Some(mut terminal) = self.open() else { return Ok(None) };
        write!(terminal, "{prompt}")?;
        let _silence = Silence::new(&terminal)?;
        let mut text = Zeroizing::new(String::new());
        let mut reader = io::BufReader::new(&terminal);
        loop {
            let from = text.len();
            let read = reader.read_line(&mut text)?;
            let line = text.get(from..).unwrap_or_default();
            if read == 0 || line.trim_start().starts_with("-----END ") {
                break;
            }
        }
        writeln!(&terminal)?;
        Ok(Some(text))
    }
}

/// No echo on a terminal until it is dropped.
struct Silence<'a> {
    terminal: &'a std::fs::File,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn new(terminal: &'a std::fs::File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Now, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

impl Ask for Terminal {
    fn secret(&self, prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
        if !self.is_there() {
            return Ok(None);
        }
        rpassword::prompt_password(prompt).map(|text| Some(Zeroizing::new(text)))
    }

    fn line(&self, prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
        let Some(mut terminal) = self.open() else { return Ok(None) };
        write!(terminal, "{prompt}")?;
        let mut answer = Zeroizing::new(String::new());
        if io::BufReader::new(terminal).read_line(&mut answer)? == 0 {
            return Ok(None);
        }
        let end = answer.trim_end_matches(['\n', '\r']).len();
        answer.truncate(end);
        Ok(Some(answer))
    }

    fn confirm(&self, question: &str) -> io::Result<Option<bool>> {
        let answer = self.line(&format!("{question} [y/N] "))?;
        let is_yes = |answer: &str| matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes");
        Ok(answer.map(|answer| is_yes(answer.trim())))
    }

    fn tell(&self, text: &str) -> io::Result<()> {
        match self.open() {
            Some(mut terminal) => writeln!(terminal, "{text}"),
            None => Ok(()),
        }
    }
}
