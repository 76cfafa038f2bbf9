//! The SSH connection against a real OpenSSH server, one module for each theme. Parts that need
//! root (system users, passwords, chroot) say so and are left out without it.

mod agent;
mod algorithms;
mod certificates;
mod channels;
mod command;
mod failures;
mod host_key;
mod jump;
mod sign_in;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_connectors::sftp::ssh::{
    AuthFailure, Class, ConfigFiles, Connector, HostKeyQuestion, Interaction, KeyboardQuestion,
    NoInteraction, Outcome, Problem, Secret, SftpStream, SignInMethod, SshError, SshOptions,
    SshSession, Stage,
};
use holdfast_testkit::sshd::{KeyKind, keygen, public_line};
use holdfast_testkit::{Sshd, SshdOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A test's runtime, and a deadline for all of it: nothing here may hang.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), future).await.expect("the test hangs")
    })
}

/// Says that a part was left out, and whether it is.
#[expect(clippy::print_stderr, reason = "a test that is left out must say so")]
fn without_root(part: &str) -> bool {
    if crate::is_root() {
        return false;
    }
    eprintln!("left out, needs root: {part}");
    true
}

/// A server with one account with a password.
fn server_with_password() -> Sshd {
    Sshd::start(SshdOptions { password: Some("pa ss:wörd".into()), ..SshdOptions::default() })
        .unwrap()
}

/// Options that reach `server` and nothing of the user who runs the test.
fn options(server: &Sshd) -> SshOptions {
    SshOptions {
        host: "127.0.0.1".into(),
        port: Some(server.port()),
        username: Some(server.user().into()),
        use_agent: Some(false),
        ssh_config: ConfigFiles::None,
        home: Some(server.directory().join("our-home")),
        accept_new_host_key: true,
        timeout: Duration::from_secs(10),
        ..SshOptions::default()
    }
}

/// A server that lets `key` in, and the key's path.
fn server_with_key(kind: KeyKind, options: SshdOptions) -> (Sshd, PathBuf) {
    let server = Sshd::start(options).unwrap();
    let path = server.directory().join("key");
    keygen(&path, kind, "", None).unwrap();
    server.authorize(&[&public_line(&path).unwrap()]).unwrap();
    (server, path)
}

/// Options that sign in with that key.
fn with_key(server: &Sshd, key: &Path) -> SshOptions {
    SshOptions { key_file: Some(key.to_owned()), ..options(server) }
}

async fn connect(options: SshOptions) -> Result<SshSession, SshError> {
    Connector::new(options, Arc::new(NoInteraction)).connect(&|_| {}).await
}

async fn refused(options: SshOptions) -> SshError {
    match connect(options).await {
        Ok(session) => panic!("connected: {:?}", session.facts()),
        Err(error) => error,
    }
}

/// Connects with a person who answers from a script.
async fn connect_asking(options: SshOptions, script: &Arc<Script>) -> Result<SshSession, SshError> {
    Connector::new(options, Arc::clone(script) as Arc<dyn Interaction>).connect(&|_| {}).await
}

fn auth(error: SshError) -> AuthFailure {
    assert_eq!(error.stage, Stage::SignIn, "{error}");
    match *error.problem {
        Problem::Authentication(failure) => failure,
        other => panic!("{other}"),
    }
}

fn methods(failure: &AuthFailure) -> Vec<SignInMethod> {
    failure.attempts.iter().map(|attempt| attempt.method).collect()
}

/// The server answers SFTP on this session: `INIT` gets a `VERSION` 3.
async fn assert_sftp(session: &SshSession) {
    assert_answers(&mut session.sftp().await.unwrap()).await;
}

async fn assert_answers(stream: &mut SftpStream) {
    stream.write_all(&[0, 0, 0, 5, 1, 0, 0, 0, 3]).await.unwrap();
    let mut answer = [0u8; 9];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer[4..], [2, 0, 0, 0, 3]);
}

/// Answers from a script, and notes what was asked.
#[derive(Default)]
struct Script {
    passwords: Mutex<Vec<&'static str>>,
    passphrases: Mutex<Vec<&'static str>>,
    answers: Mutex<Vec<Vec<&'static str>>>,
    trust: Option<bool>,
    asked: Mutex<Vec<String>>,
}

impl Script {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn next<T>(list: &Mutex<Vec<T>>) -> Option<T> {
    let mut list = list.lock().unwrap();
    (!list.is_empty()).then(|| list.remove(0))
}

impl Interaction for Script {
    fn password(&self, prompt: &str) -> io::Result<Option<Secret>> {
        self.note(prompt.into());
        Ok(next(&self.passwords).map(Secret::from))
    }

    fn key_passphrase(&self, prompt: &str) -> io::Result<Option<Secret>> {
        self.note(prompt.into());
        Ok(next(&self.passphrases).map(Secret::from))
    }

    fn keyboard_interactive(&self, question: &KeyboardQuestion) -> io::Result<Option<Vec<Secret>>> {
        let prompts: Vec<_> = question.prompts.iter().map(|p| p.text.trim().to_owned()).collect();
        self.note(prompts.join("|"));
        Ok(next(&self.answers).map(|list| list.into_iter().map(Secret::from).collect()))
    }

    fn confirm_host_key(&self, question: &HostKeyQuestion) -> io::Result<Option<bool>> {
        self.note(format!("{} {}", question.key.algorithm, question.key.fingerprint));
        Ok(self.trust)
    }
}

/// Waits until the server has written one of these.
async fn wait_for(server: &Sshd, words: &[&str]) {
    for _ in 0..500 {
        let log = server.log();
        if words.iter().any(|words| log.contains(words)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the log lacks {words:?}:\n{}", server.log());
}
