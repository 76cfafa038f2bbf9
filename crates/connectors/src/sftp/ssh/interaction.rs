//! Asking a person: the command line and the console each have their own way. `Ok(None)` always
//! means that there is nobody to ask; then nothing is guessed and the connection fails with a
//! reason. Text from a server is cleaned of control characters before it is shown.

use std::io;

use super::{HostKey, Secret};

/// Who answers while a connection is made. Called on a thread that may block.
pub trait Interaction: Send + Sync + 'static {
    /// Shows `prompt` (such as `SSH password of anna@nas`) and reads a line without echo.
    fn password(&self, prompt: &str) -> io::Result<Option<Secret>>;

    /// Shows `prompt` (such as `Passphrase of SSH key /home/anna/.ssh/id_rsa`), reads without echo.
    fn key_passphrase(&self, prompt: &str) -> io::Result<Option<Secret>>;

    /// Answers a server's questions, one answer each.
    fn keyboard_interactive(&self, question: &KeyboardQuestion) -> io::Result<Option<Vec<Secret>>>;

    /// Whether this host's key may be trusted from now on.
    fn confirm_host_key(&self, question: &HostKeyQuestion) -> io::Result<Option<bool>>;
}

/// What a server asks during sign-in, cleaned for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyboardQuestion {
    /// `user@host`.
    pub who: String,
    /// Title, often empty.
    pub name: String,
    /// Explanation, often empty.
    pub instruction: String,
    /// The questions, at least one.
    pub prompts: Vec<Prompt>,
}

/// One question of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Such as `Password: `.
    pub text: String,
    /// Whether the answer may be seen while it is typed.
    pub echo: bool,
}

/// First contact with a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKeyQuestion {
    /// The name that the key will be known by.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The key that the host showed, and proved to hold.
    pub key: HostKey,
}

/// There is nobody to ask.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoInteraction;

impl Interaction for NoInteraction {
    fn password(&self, _: &str) -> io::Result<Option<Secret>> {
        Ok(None)
    }

    fn key_passphrase(&self, _: &str) -> io::Result<Option<Secret>> {
        Ok(None)
    }

    fn keyboard_interactive(&self, _: &KeyboardQuestion) -> io::Result<Option<Vec<Secret>>> {
        Ok(None)
    }

    fn confirm_host_key(&self, _: &HostKeyQuestion) -> io::Result<Option<bool>> {
        Ok(None)
    }
}

/// Text from outside without control characters (line ends stay), at most 2 000 characters.
pub(super) fn printable(text: &str) -> String {
    let hidden = |c: char| {
        (c.is_control() && c != '\n')
            // Direction marks can make a line read as another one.
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(|c| !hidden(*c)).take(2000).collect()
}
