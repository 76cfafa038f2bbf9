//! Keyboard-interactive: the server asks, the configured password or a person answers.

use russh::client::AuthResult;
use russh::client::{KeyboardInteractiveAuthResponse as Response, Prompt as TheirPrompt};

use super::super::interaction::printable;
use super::super::{KeyboardQuestion, Prompt, Secret, SignInMethod};
use super::ask::{TRIES, ask};
use super::{Answer, Run, SshError, limited};

/// Questions of one try. PAM needs two or three; more than this is a loop.
const ROUNDS: usize = 20;

impl Run<'_> {
    /// Tries until it is accepted, three times if a person answers.
    pub(super) async fn keyboard(&mut self) -> Result<Answer, SshError> {
        for _ in 0..TRIES {
            if !self.offered.contains(&"keyboard-interactive") {
                break;
            }
            let (answer, asked) = self.keyboard_once().await?;
            if answer != Answer::Rejected || !asked {
                return Ok(answer);
            }
        }
        Ok(Answer::Rejected)
    }

    /// One try, and whether a person answered in it.
    async fn keyboard_once(&mut self) -> Result<(Answer, bool), SshError> {
        let user = self.with.target.user.clone();
        let limit = self.with.options.timeout;
        let start = self.with.handle.authenticate_keyboard_interactive_start(user, None);
        let mut response = limited(start, limit, &self.pause).await;
        // The password is good for one question; asked again, the first answer was wrong.
        let mut password = self.password();
        let (mut asked, mut nobody, mut typed) = (false, false, None);
        for _ in 0..ROUNDS {
            let (name, instructions, prompts) = match response {
                Some(Ok(Response::InfoRequest { name, instructions, prompts })) => {
                    (name, instructions, prompts)
                }
                done => {
                    let result = done.map(|done| {
                        done.map(|done| match done {
                            Response::Failure { remaining_methods, partial_success } => {
                                AuthResult::Failure { remaining_methods, partial_success }
                            }
                            _ => AuthResult::Success,
                        })
                    });
                    let answer = self.answer(SignInMethod::KeyboardInteractive, None, result)?;
                    self.failure.nobody_asked |= nobody;
                    if let (Answer::Accepted | Answer::Partial, Some(typed)) = (answer, typed) {
                        self.with.memory.password(&self.with.target.shown(), typed);
                    }
                    return Ok((answer, asked));
                }
            };
            let answers = self.answers(&name, &instructions, &prompts, &mut password).await?;
            let answers = match answers {
                Some(Answers { texts, by_person }) => {
                    asked |= by_person;
                    if by_person && let ([prompt], [text]) = (prompts.as_slice(), texts.as_slice())
                    {
                        typed = asks_password(prompt).then(|| Secret::new(text.clone()));
                    }
                    texts
                }
                // The library waits for an answer, and the server counts silence as one.
                None => {
                    nobody = true;
                    vec![String::new(); prompts.len()]
                }
            };
            let sent = self.with.handle.authenticate_keyboard_interactive_respond(answers);
            response = limited(sent, limit, &self.pause).await;
        }
        self.note_failed(
            SignInMethod::KeyboardInteractive,
            None,
            format!("the server asked more than {ROUNDS} times"),
        );
        Ok((Answer::Gone, asked))
    }

    /// Answers to one set of questions; `None` if nobody is there.
    async fn answers(
        &mut self,
        name: &str,
        instruction: &str,
        prompts: &[TheirPrompt],
        password: &mut Option<Secret>,
    ) -> Result<Option<Answers>, SshError> {
        // PAM ends with an empty set of questions, to be answered by an empty set of answers.
        if prompts.is_empty() {
            return Ok(Some(Answers::default()));
        }
        if let [prompt] = prompts
            && asks_password(prompt)
            && let Some(password) = password.take()
        {
            let texts = vec![password.expose().to_owned()];
            return Ok(Some(Answers { texts, by_person: false }));
        }
        let question = KeyboardQuestion {
            who: self.with.target.who(),
            name: printable(name),
            instruction: printable(instruction),
            prompts: prompts
                .iter()
                .map(|p| Prompt { text: printable(&p.prompt), echo: p.echo })
                .collect(),
        };
        let asked = ask(self.with.interaction, &self.pause, move |interaction| {
            interaction.keyboard_interactive(&question)
        });
        let answers = asked.await.map_err(|error| self.cannot_ask(error))?;
        Ok(match answers {
            Some(answers) => {
                let mut texts: Vec<_> = answers.iter().map(|a| a.expose().to_owned()).collect();
                texts.resize(prompts.len(), String::new());
                Some(Answers { texts, by_person: true })
            }
            // In a language that we do not know: a lone hidden question is the best guess.
            None => match (prompts, password.take()) {
                ([prompt], Some(password)) if !prompt.echo && !asks_code(&prompt.prompt) => {
                    let texts = vec![password.expose().to_owned()];
                    Some(Answers { texts, by_person: false })
                }
                _ => None,
            },
        })
    }
}

#[derive(Default)]
struct Answers {
    texts: Vec<String>,
    by_person: bool,
}

/// A hidden question for a password, rather than for a code or a new password.
fn asks_password(prompt: &TheirPrompt) -> bool {
    let text = prompt.prompt.to_lowercase();
    let words = ["passw", "kennwort", "mot de passe", "contrase", "senha", "wachtwoord", "lösen"];
    !prompt.echo
        && words.iter().any(|word| text.contains(word))
        && !asks_code(&text)
        && !["new ", "retype", "again"].iter().any(|word| text.contains(word))
}

fn asks_code(text: &str) -> bool {
    let text = text.to_lowercase();
    ["one-time", "otp", "code", "token", "verification", "duo", "pin"]
        .iter()
        .any(|word| text.contains(word))
}
