//! Channels by clicking: made, tried, changed and removed; their secrets go in and never come out.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use super::browser::{Screen, browse};
use super::site::{Result, Site};

/// A server that takes whatever is posted: its address, and the heads and bodies it was sent.
fn listener() -> Result<(String, Receiver<String>)> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let address = server.local_addr()?.to_string();
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for stream in server.incoming().map_while(std::result::Result::ok) {
            let mut stream = BufReader::new(stream);
            let (mut said, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                said.push_str(&line);
            }
            let mut body = vec![0; length];
            let _ = stream.read_exact(&mut body);
            said.push_str(&String::from_utf8_lossy(&body));
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.get_mut().write_all(answer);
            if send.send(said).is_err() {
                break;
            }
        }
    });
    Ok((address, receive))
}

#[test]
fn a_channel_is_made_tried_changed_and_removed() -> Result {
    let site = Site::new()?;
    let (address, said) = listener()?;
    let config = || std::fs::read_to_string(&site.paths().config);
    let url = format!("http://{address}/secret-topic");
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/alerts").await?;
        tab.see("Nobody is told yet").await?;
        tab.click("Add channel").await?;
        tab.screenshot("channel-kinds").await?;
        tab.click("ntfy").await?;
        tab.fill("title", "Phone of Anna").await?;
        tab.fill("url", "ntfy.sh/x").await?;
        tab.click("Save channel").await?;
        tab.see("url must begin with https://").await?;
        tab.screenshot("channel-refused").await?;
        tab.fill("url", &url).await?;
        tab.fill("token", "secret-token").await?;
        tab.click("Send a test").await?;
        tab.see("Sent to phone-of-anna").await?;
        let first = said.recv()?;
        assert!(first.starts_with("POST /secret-topic") && first.contains("a test"), "{first}");
        assert!(first.to_ascii_lowercase().contains("authorization: bearer secret-token"));
        assert!(!site.paths().config.exists(), "a test saved the channel");
        tab.click("Save channel").await?;
        tab.see("What was sent").await?;
        tab.see("Phone of Anna").await?;
        tab.click("Send a test to Phone of Anna").await?;
        tab.see("Sent to phone-of-anna").await?;
        said.recv()?;
        tab.open("/alerts").await?;
        tab.screenshot("alerts").await?;
        // Everything but the title stays, and no secret comes back.
        let saved = config()?;
        tab.click("Phone of Anna").await?;
        tab.see("set; what you type takes its place").await?;
        let page = tab.script("return document.documentElement.outerHTML").await?.to_string();
        assert!(!page.contains("secret-topic") && !page.contains("secret-token"), "{page}");
        tab.screenshot("channel").await?;
        tab.fill("title", "Anna").await?;
        tab.click("Save channel").await?;
        tab.see("What was sent").await?;
        assert_eq!(config()?, saved.replace("Phone of Anna", "Anna"));
        tab.click("Anna").await?;
        tab.click("Take it out").await?;
        tab.click("Save channel").await?;
        tab.see("What was sent").await?;
        let now = config()?;
        assert!(now.contains("secret-topic") && !now.contains("token"), "{now}");
        tab.click("Anna").await?;
        tab.click("Remove…").await?;
        tab.see("No plan tells it of anything").await?;
        tab.click("Remove Anna").await?;
        tab.see("Nobody is told yet").await?;
        // What was sent is still known.
        tab.see("phone-of-anna").await?;
        assert!(!config()?.contains("[channel"));
        Ok(())
    })?;
    browse(&site, Screen::Phone, async |tab| {
        for page in ["/alerts", "/add-channel", "/add-channel?kind=mail", "/add-channel?kind=ntfy"]
        {
            tab.open(page).await?;
            tab.find("h1").await?;
            tab.fits().await.map_err(|e| format!("{page}: {e}"))?;
        }
        tab.open("/add-channel?kind=mail").await?;
        tab.screenshot("channel-mail-phone").await
    })
}

#[test]
fn every_kind_has_a_form_that_can_be_saved() -> Result {
    let site = Site::new()?;
    let (cookie, token) = site.sign_in()?;
    let save = |form: &str| -> Result<u16> {
        let form = format!("csrf={token}&{form}");
        Ok(site.post("/channel-form/save", &format!("Cookie: {cookie}\r\n"), &form)?.status)
    };
    for kind in ["webhook", "ntfy", "slack", "discord", "ping"] {
        let page = site.get(&format!("/add-channel?kind={kind}"), &cookie)?;
        assert!(page.body.contains("name=\"url\"") && !page.body.contains("name=\"to\""), "{kind}");
        assert_eq!(save(&format!("kind={kind}&title={kind}"))?, 422, "{kind} without an address");
        assert_eq!(save(&format!("kind={kind}&title={kind}&url=env%3ATOPIC"))?, 303, "{kind}");
    }
    let mail = "kind=mail&title=Post&server=smtp.example.com&from=a%40b.example&to=c%40d.example";
    assert_eq!(save(&format!("{mail}&username=anna"))?, 422, "a user without a password");
    let whole = format!("{mail}%0D%0Ae%40f.example&username=anna&password=x&security=tls");
    assert_eq!(save(&whole)?, 303);
    assert_eq!(save(&whole)?, 409, "two of one name");
    let config = std::fs::read_to_string(&site.paths().config)?;
    assert!(config.contains("to = [\"c@d.example\", \"e@f.example\"]"), "{config}");
    assert_eq!(config.matches("[channel.").count(), 6, "{config}");
    let page = site.get("/channels/Post", &cookie)?;
    assert!(page.body.contains("smtp.example.com") && page.body.contains("e@f.example"));
    // Nothing typed: nothing changes, the password neither.
    assert_eq!(save(&whole.replace("&password=x", "").replace("kind=mail", "entry=Post"))?, 303);
    assert_eq!(std::fs::read_to_string(&site.paths().config)?, config);
    // The same where the password is kept elsewhere: the form does not show it, and keeps it.
    let elsewhere = config.replace("password = \"x\"", "password_command = \"pass show post\"");
    std::fs::write(&site.paths().config, &elsewhere)?;
    assert!(!site.get("/channels/Post", &cookie)?.body.contains("pass show"));
    assert_eq!(save(&whole.replace("&password=x", "").replace("kind=mail", "entry=Post"))?, 303);
    assert_eq!(std::fs::read_to_string(&site.paths().config)?, elsewhere);
    assert_eq!(save(&whole.replace("kind=mail", "entry=Post"))?, 303);
    let now = std::fs::read_to_string(&site.paths().config)?;
    assert!(now.contains("password = \"x\"") && !now.contains("pass show"), "{now}");
    Ok(())
}
