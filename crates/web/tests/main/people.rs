//! People with a password, programs with a token, and where the console may be at all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use holdfast_app::paths::Paths;
use holdfast_app::runner::{self, Runner};
use holdfast_app::runs::{By, History, NewRun, Outcome, Report};
use holdfast_web::{Accounts, Console, Options, Tls};
use totp_rs::{Algorithm, TOTP};

use super::browser::{Screen, browse};
use super::site::{PATIENCE, Result, Site};

#[test]
fn a_password_and_a_code_sign_in_and_neither_alone_does() -> Result {
    let site = Site::new()?;
    let now =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map(|d| d.as_secs());
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/settings").await?;
        tab.fill("new", "correct horse").await?;
        tab.fill("again", "correct horse").await?;
        tab.click("Set a password").await?;
        // All sessions ended: the new password is asked for.
        tab.find("input[name=password]").await?;
        tab.screenshot("sign-in").await?;
        tab.fill("password", "wrong horse").await?;
        tab.click("Sign in").await?;
        tab.see("Password or code is not right").await?;
        tab.fill("password", "correct horse").await?;
        tab.click("Sign in").await?;
        tab.find("nav.rail").await?;
        tab.open("/settings").await?;
        tab.fill("f2-c", "correct horse").await?;
        tab.click("Set up a second factor").await?;
        let secret = tab.find("#f2-note .print").await?.text().await?;
        let secret = BASE32_NOPAD.decode(secret.trim().as_bytes())?;
        let app = TOTP::new(Algorithm::SHA1, 6, 1, 30, secret, None, "x".into())?;
        tab.fill("code", &app.generate(now()?)).await?;
        tab.click("Turn it on").await?;
        tab.see("The second factor is on").await?;
        let codes = tab.find("#codes").await?.text().await?;
        tab.screenshot("settings").await?;
        tab.click("Sign out").await?;
        tab.find("input[name=code]").await?;
        tab.fill("password", "correct horse").await?;
        tab.fill("code", "000000").await?;
        tab.click("Sign in").await?;
        tab.see("Password or code is not right").await?;
        tab.fill("password", "correct horse").await?;
        tab.fill("code", codes.lines().next().ok_or("no codes")?).await?;
        tab.click("Sign in").await?;
        tab.find("nav.rail").await?;
        tab.open("/settings").await?;
        tab.see("failed to sign in").await?;
        tab.see("turned the second factor on").await
    })
}

/// What our script must not do: send twice, lose what was told, or take away what is typed.
#[test]
fn the_script_sends_once_and_keeps_what_is_typed() -> Result {
    let site = Site::new()?;
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/settings").await?;
        tab.fill("tok-n", "dashboard").await?;
        tab.script(
            "const form = document.getElementById('tok-n').form; \
             form.requestSubmit(); form.requestSubmit();",
        )
        .await?;
        tab.find("#token").await?;
        tab.open("/settings").await?;
        let rows = "return document.querySelectorAll('[name=token]').length";
        assert_eq!(tab.script(rows).await?, 1, "sent twice");
        // A form follows nothing by itself: it is not loaded again.
        tab.open("/add-storage?kind=local").await?;
        tab.fill("title", "Attic disk").await?;
        tab.script("document.activeElement.blur(); return refresh()").await?;
        let typed = "return document.querySelector('[name=title]').value";
        assert_eq!(tab.script(typed).await?, "Attic disk");
        // What comes while the page is loaded is not lost, and loads it once more.
        tab.open("/runs").await?;
        let loads = "window.loads = 0; const real = window.fetch; \
                     window.fetch = (...all) => { window.loads++; return real(...all); }; \
                     refresh(); refresh(); refresh(); \
                     return new Promise((done) => { const look = setInterval(() => { \
                     if (window.loads < 2) return; clearInterval(look); done(true); }, 20); })";
        assert_eq!(tab.script(loads).await?, true, "what came meanwhile was lost");
        // Nor what comes while somebody types.
        tab.open("/runs").await?;
        tab.script(
            "const field = document.createElement('input'); field.id = 'typed'; \
             document.getElementById('main').append(field); field.focus(); refresh();",
        )
        .await?;
        assert_eq!(tab.script("return !!document.getElementById('typed')").await?, true);
        tab.script("document.getElementById('typed').blur()").await?;
        tab.find("main:not(:has(#typed))").await.map(drop)
    })
}

#[test]
fn tries_are_counted_and_slowed_down() -> Result {
    let site = Site::new()?;
    Accounts::open(&site.home().join("state"))?.set_password("correct horse")?;
    let enter = |password: &str| -> Result<u16> {
        let headers = "Origin: http://HOST\r\nSec-Fetch-Site: same-origin\r\n";
        Ok(site.post("/sign-in", headers, &format!("password={password}&to=/"))?.status)
    };
    // How long each wait is depends on the time that a try takes: limit.rs counts it.
    let mut status = 0;
    for _ in 0..12 {
        status = enter("wrong")?;
        if status == 429 {
            break;
        }
        assert_eq!(status, 401);
    }
    assert_eq!(status, 429, "the limit was passed by");
    let elsewhere = site.post("/sign-in", "Origin: http://evil.example\r\n", "password=x")?;
    assert_eq!(elsewhere.status, 403);
    assert_eq!(site.post("/sign-in", "", "password=x")?.status, 403, "no origin");
    Ok(())
}

/// A session that was stolen cannot try passwords without end either.
#[test]
fn the_current_password_is_not_guessed() -> Result {
    let site = Site::new()?;
    Accounts::open(&site.home().join("state"))?.set_password("correct horse")?;
    let who = site.sign_in()?;
    let mut status = 0;
    for _ in 0..12 {
        let form = "current=wrong&new=another+horse&again=another+horse";
        status = site.submit(&who, "/settings/password", "", form)?.status;
        assert!(matches!(status, 401 | 429), "{status}");
        if status == 429 {
            break;
        }
    }
    assert_eq!(status, 429, "the limit was passed by");
    Ok(())
}

/// Behind a proxy people are told apart by whom it names last; what a browser wrote before that
/// counts for nothing. Without one nobody is believed.
#[test]
fn who_asks_is_whom_the_proxy_names() -> Result {
    for is_behind_proxy in [true, false] {
        let site = Site::with(is_behind_proxy, |paths| {
            Ok(Accounts::open(&paths.state)?.set_password("correct horse")?)
        })?;
        let enter = |from: &str| -> Result<u16> {
            let headers = format!("Origin: http://HOST\r\nX-Forwarded-For: {from}\r\n");
            Ok(site.post("/sign-in", &headers, "password=wrong&to=/")?.status)
        };
        let mut n = 0;
        let mut status = 0;
        while status != 429 && n < 12 {
            n += 1;
            status = enter(&format!("10.0.0.{n}, 192.0.2.1"))?;
        }
        assert_eq!(status, 429, "the limit was passed by");
        let other = enter("192.0.2.1, 192.0.2.2")?;
        assert_eq!(other, if is_behind_proxy { 401 } else { 429 });
        if is_behind_proxy {
            let headers = "Origin: https://HOST\r\nX-Forwarded-For: 192.0.2.3\r\n";
            let entered = site.post("/sign-in", headers, "password=correct+horse&to=/")?;
            let cookie = entered.header("set-cookie").ok_or("not signed in")?;
            assert!(cookie.starts_with("__Host-") && cookie.contains("; Secure"), "{cookie}");
            let cookie = cookie.split(';').next().ok_or("empty")?;
            assert_eq!(site.get("/settings", cookie)?.status, 200);
        }
    }
    Ok(())
}

#[test]
fn a_part_of_a_page_is_no_place_to_sign_in() -> Result {
    let site = Site::new()?;
    let request = "GET /repository/nas/figures HTTP/1.1\r\nHost: HOST\r\nx-fragment: 1\r\n\
                   Connection: close\r\n\r\n";
    let answer = site.raw(request)?;
    assert_eq!((answer.status, answer.body.as_str()), (401, ""));
    assert_eq!(answer.header("x-location"), Some("/sign-in"));
    Ok(())
}

#[test]
fn the_console_is_nowhere_else_without_password_and_encryption() -> Result {
    let home = tempfile::tempdir()?;
    let begin = |listen: &str, is_behind_proxy: bool, tls: Option<Tls>| -> Result<Console> {
        let at = |name: &str| home.path().join(name);
        let paths = Paths { config: at("c.toml"), state: at("state"), cache: None, home: None };
        Ok(Console::start(Options {
            runner: Runner::new(paths, runner::Options::default())?,
            listen: listen.parse()?,
            machine: "tern".into(),
            hosts: vec!["backup.example".into()],
            is_behind_proxy,
            tls,
            is_foreground: false,
        })?)
    };
    let start = |listen: &str, is_behind_proxy: bool| begin(listen, is_behind_proxy, None);
    let refusal = |listen: &str, proxy: bool| match start(listen, proxy) {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    };
    assert!(refusal("0.0.0.0:0", true).contains("has no password"));
    assert!(refusal("127.0.0.1:0", true).contains("has no password"));
    let own = begin("0.0.0.0:0", false, Some(Tls::SelfSigned));
    assert!(own.err().is_some_and(|e| e.to_string().contains("has no password")));
    Accounts::open(&home.path().join("state"))?.set_password("correct horse")?;
    assert!(refusal("0.0.0.0:0", false).contains("unencrypted"));
    let own = begin("0.0.0.0:0", false, Some(Tls::SelfSigned))?;
    let (root, port) = (own.root().to_owned(), own.address().port());
    assert_eq!(root, format!("https://backup.example:{port}"));
    let told = holdfast_web::running(&home.path().join("state"))?;
    assert!(told.is_some_and(|url| url.starts_with(&format!("{root}/open?"))));
    drop(own);
    let console = start("127.0.0.1:0", true)?;
    let mut stream = TcpStream::connect(console.address())?;
    stream
        .write_all(b"GET /sign-in HTTP/1.1\r\nHost: backup.example\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let state = home.path().join("state");
    assert!(holdfast_web::running(&state)?.is_some());
    assert!(refusal("127.0.0.1:0", true).contains("at work already"));
    let note = std::fs::read(state.join("console.json"))?;
    let address = console.address();
    drop(console);
    assert!(holdfast_web::running(&state)?.is_none());
    // One that was killed leaves its note, and something else listens there: it gets no token.
    std::fs::write(state.join("console.json"), note)?;
    let _other = std::net::TcpListener::bind(address)?;
    assert!(holdfast_web::running(&state)?.is_none());
    Ok(())
}

/// Whether a stream is still open: nothing is told, and it has not ended.
fn is_open(stream: &mut TcpStream) -> Result<bool> {
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let read = stream.read(&mut [0; 4096]);
    stream.set_read_timeout(Some(PATIENCE))?;
    match read {
        Ok(length) => Ok(length > 0),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(true),
        Err(e) => Err(e.into()),
    }
}

#[test]
fn a_stream_tells_what_happens_and_begins_with_where_it_is() -> Result {
    let site = Site::new()?;
    let seen = Follower::new(&site, &site.sign_in()?.0, "runs")?.until("event: hello")?;
    assert!(seen.contains("text/event-stream") && seen.contains("id: "), "{seen}");
    Ok(())
}

/// Cron and the command line write to the history, and nothing else.
#[test]
fn a_run_of_another_process_moves_on_the_page() -> Result {
    let site = Site::new()?;
    let (cookie, _) = site.sign_in()?;
    let history = History::open(&site.paths().state)?;
    let owner = history.own()?;
    let begin = || {
        let new = NewRun {
            plan: None,
            verb: "backup".into(),
            place: "@nas".into(),
            by: By::Command,
            due: None,
        };
        history.begin(&new, &owner, false)
    };
    let mut stream = Follower::new(&site, &cookie, "run-1")?;
    stream.until("event: hello")?;
    let first = begin()?;
    stream.until("\"change\":\"reload\"")?;
    history.end(first, Outcome::Ok, &Report::default())?;
    stream.until("\"change\":\"reload\"")?;
    // Over before anybody looked.
    let mut stream = Follower::new(&site, &cookie, "runs")?;
    stream.until("event: hello")?;
    let second = begin()?;
    history.end(second, Outcome::Ok, &Report::default())?;
    stream.until("\"change\":\"reload\"")?;
    Ok(())
}

/// A stream of events.
struct Follower {
    stream: TcpStream,
    /// What came and was not waited for yet.
    rest: String,
}

impl Follower {
    fn new(site: &Site, cookie: &str, topics: &str) -> Result<Self> {
        let host = site.console.address();
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!(
            "GET /events?topics={topics} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        Ok(Self { stream, rest: String::new() })
    }

    /// Waits for this text: what came before it, and it.
    fn until(&mut self, text: &str) -> Result<String> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.rest.find(text) {
                let rest = self.rest.split_off(at + text.len());
                return Ok(std::mem::replace(&mut self.rest, rest));
            }
            let failed = |e| format!("waiting for {text}: {e}; {}", self.rest);
            let length = self.stream.read(&mut buffer).map_err(failed)?;
            assert!(length > 0, "the stream ended: {}", self.rest);
            self.rest.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }
}

#[test]
fn a_stream_ends_with_its_session_and_with_no_other() -> Result {
    let site = Site::new()?;
    let (one, csrf) = site.sign_in()?;
    let (two, _) = site.sign_in()?;
    let follow = |cookie: &str| -> Result<TcpStream> {
        let mut follower = Follower::new(&site, cookie, "runs")?;
        follower.until("event: hello")?;
        Ok(follower.stream)
    };
    let (mut of_one, mut of_two) = (follow(&one)?, follow(&two)?);
    let out = site.post("/sign-out", &format!("Cookie: {one}\r\n"), &format!("csrf={csrf}"))?;
    assert_eq!(out.status, 303);
    // Nothing but its end comes.
    let mut rest = Vec::new();
    of_one.read_to_end(&mut rest)?;
    assert!(!String::from_utf8_lossy(&rest).contains("data:"), "{rest:?}");
    assert!(is_open(&mut of_two)?, "another session's stream ended");
    // What another process ends, `ui reset-password` for one, is seen soon.
    Accounts::open(&site.home().join("state"))?.set_password("correct horse")?;
    of_two.read_to_end(&mut rest)?;
    Ok(())
}

#[test]
fn a_right_code_with_a_wrong_password_is_no_sign_in() -> Result {
    let site = Site::new()?;
    Accounts::open(&site.home().join("state"))?.set_password("correct horse")?;
    let (cookie, csrf) = site.sign_in()?;
    let post = |path: &str, form: &str| {
        let form = format!("csrf={csrf}&{form}");
        site.post(path, &format!("Cookie: {cookie}\r\n"), &form)
    };
    let offer = post("/settings/factor", "current=correct+horse")?.body;
    let secret = offer.split("class=\"print\">").nth(1).and_then(|rest| rest.split('<').next());
    let secret = BASE32_NOPAD.decode(secret.ok_or("no secret")?.trim().as_bytes())?;
    let app = TOTP::new(Algorithm::SHA1, 6, 1, 30, secret, None, "x".into())?;
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().map(|now| now.as_secs());
    let confirmed = post("/settings/factor/confirm", &format!("code={}", app.generate(now()?)))?;
    assert_eq!(confirmed.status, 200, "{}", confirmed.body);
    let enter = |form: &str| site.post("/sign-in", "Origin: http://HOST\r\n", form);
    // The next step's code: one that was used is used up.
    let code = app.generate(now()? + 30);
    for form in [
        format!("password=wrong&code={code}"),
        format!("code={code}"),
        "password=correct+horse".to_owned(),
    ] {
        let answer = enter(&form)?;
        assert_eq!((answer.status, answer.header("set-cookie")), (401, None), "{form}");
    }
    assert_eq!(enter(&format!("password=correct+horse&code={code}"))?.status, 303);
    Ok(())
}
