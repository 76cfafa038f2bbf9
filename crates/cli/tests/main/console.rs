//! The console as the command line opens it: `ui`, the one that is at work already, and a password
//! that was forgotten.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::config::in_terminal;
use crate::sandbox::Sandbox;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A command that serves, and the address that it told.
struct Served {
    child: Child,
    url: String,
    /// Open as long as the command may write to it.
    _out: BufReader<ChildStdout>,
}

impl Served {
    fn new(sandbox: &Sandbox, line: &str) -> Self {
        let mut command = sandbox.command();
        command.args(line.split(' ')).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut told = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut told).unwrap();
        let event: serde_json::Value = serde_json::from_str(&told).expect(&told);
        assert_eq!(event["type"], "console", "{told}");
        Self { child, url: event["url"].as_str().unwrap().to_owned(), _out: out }
    }

    /// Ends it as Ctrl-C does; its exit code.
    fn end(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", pid.as_str()]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

/// The status and the text that an address of a console gives.
fn get(url: &str) -> (u16, String) {
    get_with(url, "")
}

/// The same with more lines in the request's head.
fn get_with(url: &str, head: &str) -> (u16, String) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let fixed = format!("Host: {host}\r\nConnection: close\r\n");
    write!(stream, "GET /{path} HTTP/1.1\r\n{fixed}{head}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[test]
fn a_token_made_here_opens_the_api_until_it_is_revoked() {
    let sandbox = Sandbox::with_passphrase();
    let served = Served::new(&sandbox, "ui --no-open --port 0 --json");
    let plans = format!("{}/api/v1/plans", served.url.split("/open?").next().unwrap());
    let made = sandbox.run_bare("token create watcher --json").ok().events().remove(0);
    let head = format!("Authorization: Bearer {}\r\n", made["token"].as_str().unwrap());
    assert_eq!((made["scope"].as_str(), made["used"].is_null()), (Some("read"), true));
    assert_eq!((get(&plans).0, get_with(&plans, &head).0), (401, 200));
    let listed = sandbox.run_bare("token list --json").ok().events().remove(0);
    assert!(listed["used"].is_string() && listed.get("token").is_none(), "{listed}");
    sandbox.run_bare("token revoke watcher").ok();
    assert_eq!(get_with(&plans, &head).0, 401);
    assert_eq!(served.end(), Some(0));
}

#[test]
fn ui_opens_a_console_of_its_own_or_the_one_that_is_at_work() {
    let sandbox = Sandbox::with_passphrase();
    sandbox.run("config repository set nas location repo").ok();
    let served = Served::new(&sandbox, "ui --no-open --port 0 --json");
    let (status, page) = get(&served.url);
    assert!(status == 200 && page.contains("HttpOnly"), "{page}");
    assert_eq!(get(&served.url).0, 401, "an address was good twice");
    // From now on that one is opened, also at a repository.
    let host = |url: &str| url.split("/open?").next().unwrap().to_owned();
    for (line, ending) in [("ui", ""), ("at @nas ui", "&at=nas")] {
        let events = sandbox.run_bare(&format!("{line} --no-open --json")).ok().events();
        let url = events[0]["url"].as_str().unwrap();
        assert_eq!(host(url), host(&served.url), "{line}");
        assert!(url.ends_with(ending), "{url}");
        let (status, page) = get(url);
        let to = if ending.is_empty() { "url=/\"" } else { "url=/snapshots?at=nas\"" };
        assert!(status == 200 && page.contains(to), "{line}: {page}");
    }
    sandbox.run_bare("at @other ui --no-open").fails_with("there is no location other");
    sandbox.run_bare("at repo ui --no-open").fails_with("by their names");
    assert_eq!(served.end(), Some(0));
    assert!(!sandbox.path("state/console.json").exists());
    // Nobody serves any more: the next one is a console of its own.
    assert_eq!(Served::new(&sandbox, "ui --no-open --port 0 --json").end(), Some(0));
}

#[test]
fn a_password_that_was_forgotten_is_set_anew_in_a_terminal() {
    let sandbox = Sandbox::new();
    let exposed = || sandbox.run_bare("serve --listen 0.0.0.0:0");
    sandbox.run_bare("ui reset-password").fails_with("no terminal");
    exposed().fails_with("has no password");
    let typed = "correct horse\ncorrect horse\n";
    let seen = in_terminal(&sandbox, "ui reset-password", "New password of the console: ", typed);
    assert!(seen.contains("has a new password") && !seen.contains("horse"), "{seen}");
    exposed().fails_with("unencrypted");
}

#[test]
fn the_console_speaks_tls_itself_and_rereads_its_certificate_on_sighup() {
    let sandbox = Sandbox::new();
    sandbox.run_bare("serve --tls-cert x.pem").fails_with("--tls-key");
    sandbox.run_bare("serve --tls-cert no.pem --tls-key no.pem").fails_with("no.pem");
    let mut command = sandbox.command();
    command.args(["serve", "--listen", "127.0.0.1:0", "--tls-self-signed"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (sender, told) = std::sync::mpsc::channel();
    let err = BufReader::new(child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        err.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
    });
    let wait_for = |what: &str| loop {
        let line = told.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("{what}: {e}"));
        if line.contains(what) {
            return line;
        }
    };
    assert!(wait_for("the console is at").contains("https://127.0.0.1:"));
    wait_for("its SHA-256 is");
    let fingerprint = wait_for(":");
    let opened = sandbox.run_bare("ui --no-open --json").ok();
    let url = opened.events()[0]["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let signal = |name: &str| {
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([name, pid.as_str()]).status().unwrap().success());
    };
    signal("-HUP");
    wait_for("has not changed");
    // Where it is gone, another one is made.
    std::fs::remove_file(sandbox.path("state/console-tls.pem")).unwrap();
    signal("-HUP");
    wait_for("shows a new certificate");
    wait_for("its SHA-256 is");
    assert_ne!(wait_for(":"), fingerprint);
    signal("-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    reader.join().unwrap();
}
