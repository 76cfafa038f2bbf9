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
fn programs_need_a_token_that_may() -> Result {
    let site = Site::new()?;
    let (cookie, csrf) = site.sign_in()?;
    let make = |scope: &str| -> Result<String> {
        let form = format!("csrf={csrf}&name=x&scope={scope}");
        let page = site.post("/settings/tokens", &format!("Cookie: {cookie}\r\n"), &form)?.body;
        let token = page.split("id=\"token\">").nth(1).and_then(|rest| rest.split('<').next());
        Ok(token.ok_or("no token")?.to_owned())
    };
    let (read, run) = (make("read")?, make("run")?);
    let ask = |method: &str, path: &str, token: &str| -> Result<(u16, String)> {
        let answer = site.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        ))?;
        Ok((answer.status, answer.body))
    };
    assert_eq!(ask("GET", "/api/v1/plans", &read)?, (200, "{\"plans\":[]}".into()));
    assert_eq!(ask("GET", "/api/v1/plans", "hf_00")?.0, 401);
    assert_eq!(site.get("/api/v1/plans", &cookie)?.status, 401, "a browser's session");
    assert_eq!(ask("GET", "/api/v1/runs/7", &read)?.0, 404);
    assert_eq!(ask("POST", "/api/v1/plans/x/run", &read)?.0, 403);
    assert_eq!(ask("POST", "/api/v1/plans/x/run", &run)?.0, 422);
    assert!(ask("GET", "/metrics", &read)?.1.contains("\nholdfast_runs_open 0\n"));
    assert_eq!(ask("GET", "/metrics", "")?.0, 401);
    assert_eq!(site.get("/healthz", "")?.body, "ok\n");
    // Every address of the description is there.
    let description: serde_json::Value =
        serde_json::from_str(&site.get("/api/v1/openapi.json", "")?.body)?;
    for (path, methods) in description["paths"].as_object().ok_or("no paths")? {
        for method in methods.as_object().ok_or("no methods")?.keys() {
            let path = path.replace("{name}", "x").replace("{id}", "7");
            let (status, _) = ask(&method.to_uppercase(), &path, &run)?;
            assert!(!matches!(status, 401 | 403 | 405), "{method} {path}: {status}");
        }
    }
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

#[test]
fn a_stream_tells_what_happens_and_begins_with_where_it_is() -> Result {
    let site = Site::new()?;
    let (cookie, _) = site.sign_in()?;
    let mut stream = TcpStream::connect(site.console.address())?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let host = site.console.address();
    let request =
        format!("GET /events?topics=runs HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("event: hello") {
        let length = stream.read(&mut buffer)?;
        assert!(length > 0, "the stream ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    assert!(seen.contains("text/event-stream") && seen.contains("id: "), "{seen}");
    Ok(())
}
