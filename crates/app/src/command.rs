//! Commands that the configuration or the environment names: text for a shell, or words.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

/// A command to run. Its text may hold what is nobody's business: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// A line for `/bin/sh`.
    Shell(OsString),
    /// A program and its arguments; never empty.
    Words(Vec<String>),
}

impl std::fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Shell(_) => "CommandLine::Shell",
            Self::Words(_) => "CommandLine::Words",
        })
    }
}

impl CommandLine {
    /// What starts it, without the variables that hold our own secrets.
    pub fn to_command(&self) -> Command {
        let mut command = match self {
            Self::Shell(line) => {
                let mut command = Command::new("/bin/sh");
                command.arg("-c").arg(line);
                command
            }
            Self::Words(words) => {
                let mut words = words.iter();
                let mut command = Command::new(words.next().map_or("", String::as_str));
                command.args(words);
                command
            }
        };
        command.env_remove("HOLDFAST_PASSPHRASE");
        command
    }

    /// Runs it and takes what it prints, less the line's end. The error says what went wrong and
    /// holds nothing of what was printed.
    pub fn output(&self) -> Result<Zeroizing<String>, String> {
        // It may ask whoever sits there; what is no terminal may be the data to back up.
        let stdin = match std::io::stdin().is_terminal() {
            true => Stdio::inherit(),
            false => Stdio::null(),
        };
        let command = &mut self.to_command();
        let output = command.stderr(Stdio::inherit()).stdin(stdin).output();
        let output = output.map_err(|e| e.to_string())?;
        let bytes = Zeroizing::new(output.stdout);
        if !output.status.success() {
            return Err(output.status.to_string());
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| "it printed what is not text")?;
        Ok(Zeroizing::new(without_newline(text).to_owned()))
    }
}

/// Text without the line's end at its end.
pub(crate) fn without_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_not_split_again_and_failures_say_why() {
        let words =
            |words: &[&str]| CommandLine::Words(words.iter().map(|w| w.to_string()).collect());
        let text = |command: &CommandLine| command.output().map(|text| text.to_string());
        assert_eq!(text(&words(&["printf", "%s\n", "a b; c"])), Ok("a b; c".into()));
        assert_eq!(text(&CommandLine::Shell("echo a; echo b".into())), Ok("a\nb".into()));
        assert!(
            text(&CommandLine::Shell("echo secret; exit 3".into()))
                .is_err_and(|e| e.contains('3') && !e.contains("secret"))
        );
        assert!(text(&words(&["/nonexistent/program"])).is_err());
        assert!(!format!("{:?}", words(&["echo", "hunter2"])).contains("hunter2"));
    }
}
