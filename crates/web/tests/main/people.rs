//! People with a password, programs with a token, and where the console may be at all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use holdfast_app::paths::Paths;
use holdfast_app::runner::{self, Runner};
use holdfast_web::{Accounts, Console, Options};
use totp_rs::{Algorithm, TOTP};

use super::browser::{Screen, browse};
use super::site::{Result, Site};

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

#[test]
fn tries_are_counted_and_slowed_down() -> Result {
    let site = Site::new()?;
    Accounts::open(&site.home().join("state"))?.set_password("correct horse")?;
    let enter = |password: &str| -> Result<u16> {
        let headers = "Origin: http://HOST\r\nSec-Fetch-Site: same-origin\r\n";
        Ok(site.post("/sign-in", headers, &format!("password={password}&to=/"))?.status)
    };
    for _ in 0..5 {
        assert_eq!(enter("wrong")?, 401);
    }
    assert_eq!(enter("correct+horse")?, 429, "the limit was passed by");
    let elsewhere = site.post("/sign-in", "Origin: http://evil.example\r\n", "password=x")?;
    assert_eq!(elsewhere.status, 403);
    assert_eq!(site.post("/sign-in", "", "password=x")?.status, 403, "no origin");
    Ok(())
}

#[test]
fn the_console_is_nowhere_else_without_password_and_encryption() -> Result {
    let home = tempfile::tempdir()?;
    let start = |listen: &str, is_behind_proxy: bool| -> Result<Console> {
        let at = |name: &str| home.path().join(name);
        let paths = Paths { config: at("c.toml"), state: at("state"), cache: None, home: None };
        Ok(Console::start(Options {
            runner: Runner::new(paths, runner::Options::default())?,
            listen: listen.parse()?,
            machine: "tern".into(),
            hosts: vec!["backup.example".into()],
            is_behind_proxy,
            is_foreground: false,
        })?)
    };
    let refusal = |listen: &str, proxy: bool| match start(listen, proxy) {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    };
    assert!(refusal("0.0.0.0:0", true).contains("has no password"));
    assert!(refusal("127.0.0.1:0", true).contains("has no password"));
    Accounts::open(&home.path().join("state"))?.set_password("correct horse")?;
    assert!(refusal("0.0.0.0:0", false).contains("unencrypted"));
    let console = start("127.0.0.1:0", true)?;
    let mut stream = TcpStream::connect(console.address())?;
    stream
        .write_all(b"GET /sign-in HTTP/1.1\r\nHost: backup.example\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(holdfast_web::running(&home.path().join("state"))?.is_some());
    drop(console);
    assert!(holdfast_web::running(&home.path().join("state"))?.is_none());
    Ok(())
}

/// A stream of events that somebody with this cookie follows, begun.
fn stream(site: &Site, cookie: &str) -> Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect(site.console.address())?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let host = site.console.address();
    let request = format!(
        "GET /events?topics=runs HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("event: hello") {
        let length = stream.read(&mut buffer)?;
        assert!(length > 0, "the stream ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    Ok((stream, seen))
}

/// Whether a stream is still open: nothing is told, and it has not ended.
fn is_open(stream: &mut TcpStream) -> Result<bool> {
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let read = stream.read(&mut [0; 4096]);
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    match read {
        Ok(length) => Ok(length > 0),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(true),
        Err(e) => Err(e.into()),
    }
}

#[test]
fn a_stream_tells_what_happens_and_begins_with_where_it_is() -> Result {
    let site = Site::new()?;
    let (_stream, seen) = stream(&site, &site.sign_in()?.0)?;
    assert!(seen.contains("text/event-stream") && seen.contains("id: "), "{seen}");
    Ok(())
}

#[test]
fn a_stream_ends_with_its_session_and_with_no_other() -> Result {
    let site = Site::new()?;
    let (one, csrf) = site.sign_in()?;
    let (two, _) = site.sign_in()?;
    let (mut of_one, _) = stream(&site, &one)?;
    let (mut of_two, _) = stream(&site, &two)?;
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
