//! The first look: an empty console.

use super::browser::{Screen, browse};
use super::site::{Result, Site};

#[test]
fn home_says_what_to_do_first() -> Result {
    let site = Site::new()?;
    assert!(site.home().is_dir());
    browse(&site, Screen::Desk, async |tab| {
        tab.see("Nothing is protected yet").await?;
        tab.screenshot("home-empty").await?;
        tab.click("Dark").await?;
        tab.find("html[data-theme=dark]").await?;
        tab.screenshot("home-empty-dark").await?;
        tab.click("Storages").await?;
        tab.find("h1").await?;
        tab.open("/nowhere").await?;
        tab.see("There is no page /nowhere").await
    })?;
    browse(&site, Screen::Phone, async |tab| {
        tab.see("Nothing is protected yet").await?;
        tab.screenshot("home-empty-phone").await?;
        tab.fits().await
    })
}
