//! A console with scratch state, and a small HTTP client that can say what browsers would not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use holdfast_app::paths::Paths;
use holdfast_app::runner::{self, Runner};
use holdfast_app::runs::{History, Run};
use holdfast_web::{Console, Options, Tls};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A status, and the answer of the API.
pub(crate) type Asked = (u16, Value);

/// How long anything may take here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A console on a free port.
pub(crate) struct Site {
    pub(crate) console: Console,
    paths: Paths,
    home: TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named =
            |line: &&str| line.split_once(':').is_some_and(|(n, _)| n.eq_ignore_ascii_case(name));
        self.head.lines().find(named).and_then(|line| line.split_once(": ")).map(|(_, v)| v.trim())
    }
}

impl Site {
    pub(crate) fn new() -> Result<Self> {
        Self::with(false, |_| Ok(()))
    }

    /// Behind a proxy or not, after `before` prepared its state.
    pub(crate) fn with(
        is_behind_proxy: bool,
        before: impl FnOnce(&Paths) -> Result,
    ) -> Result<Self> {
        Self::start(is_behind_proxy, None, before)
    }

    /// One that speaks TLS itself.
    pub(crate) fn with_tls(tls: Tls) -> Result<Self> {
        Self::start(false, Some(tls), |_| Ok(()))
    }

    fn start(
        is_behind_proxy: bool,
        tls: Option<Tls>,
        before: impl FnOnce(&Paths) -> Result,
    ) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let at = |name: &str| home.path().join(name);
        let paths = Paths {
            config: at("config/config.toml"),
            state: at("state"),
            cache: Some(at("cache")),
            home: Some(at("home")),
        };
        std::fs::create_dir(at("home"))?;
        before(&paths)?;
        let listen = Console::loopback(0);
        let runner = Runner::new(paths.clone(), runner::Options::default())?;
        let console = Console::start(Options {
            runner,
            listen,
            machine: "tern".into(),
            hosts: Vec::new(),
            is_behind_proxy,
            tls,
            is_foreground: true,
        })?;
        Ok(Self { console, paths, home })
    }

    /// The directory with all that this console has.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Where its things are.
    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Sends a request as it is; "HOST" stands for the console's address.
    pub(crate) fn raw(&self, request: &str) -> Result<Answer> {
        let bytes = self.send(request)?;
        answer(&String::from_utf8_lossy(&bytes))
    }

    fn send(&self, request: &str) -> Result<Vec<u8>> {
        let host = self.console.address().to_string();
        let mut stream = TcpStream::connect(self.console.address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.replace("HOST", &host).as_bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// `GET` of what may be no text: the answer without its body, and that.
    pub(crate) fn bytes(&self, path: &str, cookie: &str) -> Result<(Answer, Vec<u8>)> {
        let bytes = self.send(&get(path, cookie))?;
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no answer")?;
        let (head, body) = bytes.split_at(end + 4);
        let answer = answer(&String::from_utf8_lossy(head))?;
        let body = match answer.header("transfer-encoding") {
            Some(_) => unchunked(body)?,
            None => body.to_vec(),
        };
        Ok((answer, body))
    }

    /// `GET` with a `Cookie`.
    pub(crate) fn get(&self, path: &str, cookie: &str) -> Result<Answer> {
        self.raw(&get(path, cookie))
    }

    /// `POST` of a form with more header lines, each ending in CR LF.
    pub(crate) fn post(&self, path: &str, headers: &str, form: &str) -> Result<Answer> {
        self.raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: HOST\r\n{headers}Connection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ))
    }

    /// Sends a form as somebody who is signed in, with more header lines.
    pub(crate) fn submit(
        &self,
        (cookie, token): &(String, String),
        path: &str,
        headers: &str,
        form: &str,
    ) -> Result<Answer> {
        let headers = format!("Cookie: {cookie}\r\nx-csrf: {token}\r\n{headers}");
        self.post(path, &headers, form)
    }

    /// Sends a form that begins a run, and waits for its end.
    pub(crate) fn run(&self, who: &(String, String), path: &str, form: &str) -> Result<Run> {
        let answer = self.submit(who, path, "", form)?;
        let id = answer.header("location").and_then(|to| to.strip_prefix("/runs/"));
        let id = id.ok_or_else(|| format!("{path}: {} {}", answer.status, answer.body))?.parse()?;
        let history = History::open(&self.paths.state)?;
        let until = Instant::now() + PATIENCE;
        loop {
            let run = history.run(id)?;
            if !run.outcome.is_open() {
                return Ok(run);
            }
            if Instant::now() > until {
                return Err(format!("{path}: it does not end").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Signs in: the cookie, and the token for forms.
    pub(crate) fn sign_in(&self) -> Result<(String, String)> {
        let url = self.console.one_time_url()?;
        let path = url.split_once("//").and_then(|(_, rest)| rest.find('/').map(|i| &rest[i..]));
        let answer = self.get(path.ok_or("no path")?, "")?;
        let cookie = answer.header("set-cookie").and_then(|c| c.split(';').next());
        let cookie = cookie.ok_or("no cookie")?.to_owned();
        let page = self.get("/storages", &cookie)?;
        let token = page.body.split("name=\"csrf\" content=\"").nth(1);
        let token = token.and_then(|rest| rest.split('"').next()).ok_or("no token")?.to_owned();
        Ok((cookie, token))
    }
}

impl Site {
    /// A token for a program, made in Settings.
    pub(crate) fn token(&self, scope: &str) -> Result<String> {
        let (cookie, csrf) = self.sign_in()?;
        let form = format!("csrf={csrf}&name=x&scope={scope}");
        let page = self.post("/settings/tokens", &format!("Cookie: {cookie}\r\n"), &form)?.body;
        let token = page.split("id=\"token\">").nth(1).and_then(|rest| rest.split('<').next());
        Ok(token.ok_or("no token")?.to_owned())
    }

    /// What a program asks, with its token: the status, and the text of the answer.
    pub(crate) fn ask_text(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: &str,
    ) -> Result<(u16, String)> {
        let answer = self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))?;
        Ok((answer.status, answer.body))
    }

    /// The same, of which the answer is JSON.
    pub(crate) fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> Result<Asked> {
        let (status, text) = self.ask_text(method, path, token, body)?;
        let json = serde_json::from_str(&text).map_err(|e| format!("{path}: {e}: {text}"))?;
        Ok((status, json))
    }

    /// Waits until a run has ended; the run.
    pub(crate) fn ended(&self, run: &Value, token: &str) -> Result<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let (status, run) = self.ask("GET", &format!("/api/v1/runs/{run}"), token, "")?;
            assert_eq!(status, 200, "{run}");
            if !matches!(run["outcome"].as_str(), Some("queued" | "running")) {
                return Ok(run);
            }
            if Instant::now() > until {
                return Err(format!("no end: {run}").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn get(path: &str, cookie: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: HOST\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n")
}

fn answer(text: &str) -> Result<Answer> {
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
    Ok(Answer { status, head: head.into(), body: body.into() })
}

/// A body that was sent in chunks. Errors: it broke off.
fn unchunked(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").ok_or("broken off")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?, 16)?;
        if size == 0 {
            return Ok(body);
        }
        let start = end + 2;
        body.extend_from_slice(rest.get(start..start + size).ok_or("broken off")?);
        rest = rest.get(start + size + 2..).ok_or("broken off")?;
    }
}
