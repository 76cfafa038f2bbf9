//! The SSH connection below SFTP: names and `ssh_config`, transport, host keys, sign-in, channels.
//!
//! [`Connector`] holds what is asked for and what was learned (answers, opened keys), so that many
//! connections of one run ask a person once. [`Connector::connect`] goes through the stages of
//! [`Stage`] and gives an [`SshSession`]; [`SshSession::sftp`] gives the byte stream on which an
//! SFTP client speaks. Every step that waits for the network has a deadline. Errors are
//! [`SshError`]: how far it got, with whom, and the facts that a hint needs.

mod algorithms;
mod channel;
mod command;
mod config;
mod connect;
mod error;
mod handler;
mod hostkey;
mod interaction;
mod keys;
mod options;
mod records;
mod session;
mod signin;
mod target;
mod transport;

pub use channel::{SftpReport, SftpStream};
pub use connect::Connector;
pub use error::{
    Attempt, AuthFailure, Class, HostKey, KeyProblem, KnownKey, KnownPlace, Outcome, Problem,
    ShownKey, SignInMethod, SkippedKey, SshError, Stage, Step,
};
pub use interaction::{HostKeyQuestion, Interaction, KeyboardQuestion, NoInteraction, Prompt};
pub use keys::{GeneratedKey, KeyFormat, UserKey, generate_key, read_key};
pub use options::{ConfigFiles, Secret, SshOptions};
pub use records::{HostRecord, host_records};
pub use session::{ExecOutput, SessionFacts, SshSession};
