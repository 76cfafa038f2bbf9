//! Asking a person. The command line and the console each have their own way; where there is
//! nobody, every question is answered with `None`.

use std::fmt;
use std::io;

use zeroize::Zeroizing;

use crate::text::printable;

/// One question of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// What to show.
    pub text: String,
    /// Whether the answer may be seen while it is typed.
    pub echo: bool,
}

/// Somebody who may answer. Questions name what they are about: "SSH password of anna@nas". What
/// is not implemented, nobody answers.
pub trait Ask: Send + Sync + fmt::Debug {
    /// Shows `prompt` and reads a line without echo. `Ok(None)`: there is nobody to ask.
    fn secret(&self, prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
        let _ = prompt;
        Ok(None)
    }

    /// Shows `prompt` and reads a line with echo.
    fn line(&self, prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
        let _ = prompt;
        Ok(None)
    }

    /// Asks a question that only `yes` or `y` answers.
    fn confirm(&self, question: &str) -> io::Result<Option<bool>> {
        let _ = question;
        Ok(None)
    }

    /// Shows a line that belongs to the questions after it.
    fn tell(&self, text: &str) -> io::Result<()> {
        let _ = text;
        Ok(())
    }

    /// Asks whether the key of a server that is met for the first time is the right one. `at` is
    /// the server, the key has an algorithm and a fingerprint (`SHA256:…`).
    fn host_key(&self, at: &str, algorithm: &str, fingerprint: &str) -> io::Result<Option<bool>> {
        self.tell(&format!("First contact with {at}. Its host key:"))?;
        self.tell(&format!("  {algorithm} {fingerprint}"))?;
        self.tell("Compare it with what the server's administrator says, or on the server with")?;
        self.tell("  ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")?;
        self.confirm("Trust this key from now on?")
    }

    /// Asks what a server wants to know (keyboard-interactive sign-in): one answer to each
    /// prompt. `what` says who asks. No prompts: no answers, and nothing is shown.
    fn answers(
        &self,
        what: &str,
        instructions: &str,
        prompts: &[Prompt],
    ) -> io::Result<Option<Vec<Zeroizing<String>>>> {
        if prompts.is_empty() {
            return Ok(Some(Vec::new()));
        }
        for line in instructions.lines().filter(|line| !line.trim().is_empty()) {
            self.tell(&printable(line.as_bytes()))?;
        }
        let mut answers = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            // The server's words come from outside: they may not steer the terminal.
            let text = format!("{what}: {} ", printable(prompt.text.trim().as_bytes()));
            let answer = if prompt.echo { self.line(&text)? } else { self.secret(&text)? };
            let Some(answer) = answer else { return Ok(None) };
            answers.push(answer);
        }
        Ok(Some(answers))
    }
}

/// Nobody to ask.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Ask for Nobody {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Debug, Default)]
    struct Scripted(Mutex<Vec<String>>);

    impl Scripted {
        fn note(&self, text: String) {
            if let Ok(mut seen) = self.0.lock() {
                seen.push(text);
            }
        }
    }

    impl Ask for Scripted {
        fn secret(&self, prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
            self.note(format!("secret {prompt}"));
            Ok(Some(Zeroizing::new("s".into())))
        }
        fn line(&self, prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
            self.note(format!("line {prompt}"));
            Ok(Some(Zeroizing::new("l".into())))
        }
        fn confirm(&self, _question: &str) -> io::Result<Option<bool>> {
            Ok(None)
        }
        fn tell(&self, text: &str) -> io::Result<()> {
            self.note(format!("tell {text}"));
            Ok(())
        }
    }

    #[test]
    fn a_servers_questions_are_asked_with_the_echo_it_wants_and_cannot_steer_the_terminal()
    -> Result<(), Box<dyn std::error::Error>> {
        let ask = Scripted::default();
        let prompts = [
            Prompt { text: "Password: ".into(), echo: false },
            Prompt { text: "Code\u{1b}[2J".into(), echo: true },
        ];
        let answers = ask.answers("anna@nas", "Two\nsteps", &prompts)?.ok_or("nobody")?;
        assert_eq!(answers.iter().map(|a| a.as_str()).collect::<Vec<_>>(), ["s", "l"]);
        let seen = ask.0.lock().map_err(|e| e.to_string())?.clone();
        let expected = [
            "tell Two",
            "tell steps",
            "secret anna@nas: Password: ",
            "line anna@nas: Code\\x1b[2J ",
        ];
        assert_eq!(seen, expected);
        assert_eq!(Nobody.answers("x", "", &prompts)?, None);
        assert_eq!(Nobody.answers("x", "", &[])?, Some(Vec::new()));
        Ok(())
    }
}
