//! What ends: sessions under pages that are open, and tokens of programs whose time is over.

use std::time::Duration;

use super::browser::{Screen, browse};
use super::site::{Result, Site};

/// How often the page asked for events.
const STREAMS: &str = "return performance.getEntriesByType('resource')
    .filter((entry) => entry.name.includes('/events?')).length";

#[test]
fn a_page_says_that_its_session_has_ended_and_leads_back() -> Result {
    let site = Site::new()?;
    let other = site.sign_in()?;
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/runs").await?;
        let hidden = "return document.getElementById('ended').checkVisibility()";
        assert_eq!(tab.script(hidden).await?, false);
        let status = site.submit(&other, "/settings/sessions/end", "", "")?.status;
        assert_eq!(status, 303);
        tab.see("This session has ended").await?;
        tab.see("Sign in again").await?;
        assert_eq!(tab.script("return 'offline' in document.body.dataset").await?, false);
        tab.fits().await?;
        tab.screenshot("session-ended").await?;
        let before = tab.script(STREAMS).await?;
        // Longer than the script waits before it asks again.
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(tab.script(STREAMS).await?, before, "it goes on asking");
        tab.click("Sign in again").await?;
        tab.see("holdfast ui").await?;
        let to = "return new URLSearchParams(location.search).get('to')";
        assert_eq!(tab.script(to).await?, "/runs");
        Ok(())
    })
}

#[test]
fn a_token_is_good_until_its_time_is_over() -> Result {
    let site = Site::new()?;
    let who = site.sign_in()?;
    let make = |form: &str| site.submit(&who, "/settings/tokens", "", form);
    let page = make("name=dashboard&scope=read&days=30")?.body;
    let token = page.split("id=\"token\">").nth(1).and_then(|rest| rest.split('<').next());
    let token = token.ok_or("no token")?;
    assert_eq!(make("name=x&scope=read&days=12")?.status, 422);
    let settings = || -> Result<String> { Ok(site.get("/settings", &who.0)?.body) };
    assert!(!settings()?.contains("Expires soon"));
    let age = |days: i64| -> Result {
        let database = rusqlite::Connection::open(site.paths().state.join("console.sqlite"))?;
        let sql = "UPDATE tokens SET expires = expires - ?1";
        database.execute(sql, [days * 86_400 * 1_000_000_000])?;
        Ok(())
    };
    age(20)?;
    assert_eq!(site.ask("GET", "/api/v1/plans", token, "")?.0, 200);
    let page = settings()?;
    assert!(page.contains("Expires soon") && page.contains("soon to be: dashboard"), "{page}");
    age(11)?;
    let (status, answer) = site.ask("GET", "/api/v1/plans", token, "")?;
    let said = answer["problem"]["message"].as_str().unwrap_or_default();
    assert_eq!((status, &answer["problem"]["class"]), (401, &"authentication".into()), "{answer}");
    assert!(said.starts_with("the token dashboard expired on 20"), "{answer}");
    assert!(settings()?.contains("Expired"));
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/settings").await?;
        tab.see("Expired").await?;
        tab.fits().await?;
        tab.script("document.getElementById('tok').scrollIntoView()").await?;
        tab.screenshot("token-expired").await
    })
}
