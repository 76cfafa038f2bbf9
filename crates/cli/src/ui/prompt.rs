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
        self.silently(prompt, |line| line.trim_start().starts_with("-----END "))
    }

    /// Reads lines without echo, until `is_last` says so.
    fn silently(
        self,
        prompt: &str,
        is_last: impl Fn(&str) -> bool,
    ) -> io::Result<Option<Zeroizing<String>>> {
        let Some(mut terminal) = self.open() else { return Ok(None) };
        // Before the prompt: what is typed as soon as it is seen must not be shown.
        let silence = Silence::new(terminal.try_clone()?)?;
        write!(terminal, "{prompt}")?;
        let mut text = Zeroizing::new(String::new());
        let mut reader = io::BufReader::new(&terminal);
        loop {
            let from = text.len();
            let read = reader.read_line(&mut text)?;
            if read == 0 || is_last(text.get(from..).unwrap_or_default()) {
                break;
            }
        }
        drop(silence);
        writeln!(&terminal)?;
        Ok(Some(text))
    }
}

/// No echo on a terminal until it is dropped.
struct Silence {
    terminal: std::fs::File,
    before: Termios,
}

impl Silence {
    fn new(terminal: std::fs::File) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Now, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

fn without_line_end(text: &mut Zeroizing<String>) {
    let end = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(end);
}

impl Ask for Terminal {
    fn secret(&self, prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
        let Some(mut text) = self.silently(prompt, |_| true)? else { return Ok(None) };
        without_line_end(&mut text);
        Ok(Some(text))
    }

    fn line(&self, prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
        let Some(mut terminal) = self.open() else { return Ok(None) };
        write!(terminal, "{prompt}")?;
        let mut answer = Zeroizing::new(String::new());
        if io::BufReader::new(terminal).read_line(&mut answer)? == 0 {
            return Ok(None);
        }
        without_line_end(&mut answer);
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
