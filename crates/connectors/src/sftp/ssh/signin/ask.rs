//! Questions to a person: on a thread that may block, and with the clock stopped.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::super::{Interaction, Problem, Secret};
use super::{Answer, Run, SignInMethod, SshError, limited};
use crate::locked;

/// Tries at a passphrase or password that a person types.
pub(super) const TRIES: usize = 3;

/// Whether somebody is being asked, or when that was last so.
#[derive(Debug, Default)]
pub(super) struct Pause(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    asking: usize,
    ended: Option<Instant>,
}

impl Pause {
    /// A deadline that has passed, moved by what was spent asking. `None`: nothing was.
    pub(super) fn extended(&self, limit: Duration) -> Option<Instant> {
        let state = locked(&self.0);
        let from = if state.asking > 0 { Some(Instant::now()) } else { state.ended };
        from.map(|from| from + limit)
    }

    fn begin(&self) {
        locked(&self.0).asking += 1;
    }

    fn end(&self) {
        let mut state = locked(&self.0);
        state.asking = state.asking.saturating_sub(1);
        state.ended = Some(Instant::now());
    }
}

/// Runs `question` where it may block.
pub(super) async fn ask<T: Send + 'static>(
    interaction: &Arc<dyn Interaction>,
    pause: &Pause,
    question: impl FnOnce(&dyn Interaction) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let interaction = Arc::clone(interaction);
    pause.begin();
    let answer = tokio::task::spawn_blocking(move || question(interaction.as_ref())).await;
    pause.end();
    answer.map_err(io::Error::other)?
}

/// For one wait that is nobody's question but needs a person: an agent that wants a touch.
pub(super) async fn paused<T>(pause: &Pause, future: impl Future<Output = T>) -> T {
    pause.begin();
    let value = future.await;
    pause.end();
    value
}

impl Run<'_> {
    pub(super) fn password(&self) -> Option<Secret> {
        let memory = || self.with.memory.host(&self.with.target.shown()).password;
        self.with.options.password.clone().or_else(memory)
    }

    pub(super) async fn send_password(&mut self, password: Secret) -> Result<Answer, SshError> {
        let user = self.with.target.user.clone();
        let sent = self.with.handle.authenticate_password(user, password.expose());
        let result = limited(sent, self.with.options.timeout, &self.pause).await;
        self.answer(SignInMethod::Password, None, result)
    }

    pub(super) async fn ask_password(&mut self) -> Result<Answer, SshError> {
        for _ in 0..TRIES {
            if !self.offered.contains(&"password") {
                break;
            }
            let prompt = format!("SSH password of {}", self.with.target.who());
            let asked = ask(self.with.interaction, &self.pause, move |i| i.password(&prompt)).await;
            let Some(password) = asked.map_err(|e| self.cannot_ask(e))? else {
                self.failure.nobody_asked = true;
                break;
            };
            let answer = self.send_password(password.clone()).await?;
            if answer == Answer::Accepted || answer == Answer::Partial {
                // More connections of this run will need it.
                self.with.memory.password(&self.with.target.shown(), password);
            }
            if answer != Answer::Rejected {
                return Ok(answer);
            }
        }
        Ok(Answer::Rejected)
    }

    pub(super) fn cannot_ask(&self, error: io::Error) -> SshError {
        self.error(Problem::Settings { what: "the question cannot be asked".into() }).because(error)
    }
}
