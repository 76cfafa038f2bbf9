//! The first start: from nothing to a first backup, by clicking.

use super::browser::{Screen, browse};
use super::site::{Result, Site};

#[test]
fn an_empty_console_leads_to_the_first_start() -> Result {
    let site = Site::new()?;
    browse(&site, Screen::Desk, async |tab| {
        tab.see("Set up your first backup").await?;
        tab.screenshot("start").await?;
        tab.click("Dark").await?;
        tab.find("html[data-theme=dark]").await?;
        tab.screenshot("start-dark").await?;
        tab.open("/nowhere").await?;
        tab.see("There is no page /nowhere").await
    })?;
    browse(&site, Screen::Phone, async |tab| {
        tab.see("Set up your first backup").await?;
        tab.screenshot("start-phone").await?;
        tab.fits().await
    })
}

#[test]
fn four_answers_lead_to_a_backup_and_home_says_that_it_holds() -> Result {
    let site = Site::new()?;
    let folder = site.home().join("home/documents");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("letter.txt"), "what must not be lost\n")?;
    std::fs::create_dir(site.home().join("disk"))?;
    browse(&site, Screen::Desk, async |tab| {
        tab.fill("sources", "").await?;
        tab.click("Add folder").await?;
        tab.click(&site.home().join("home").to_string_lossy()).await?;
        tab.click(&format!("Add {}", folder.display())).await?;
        tab.click("Directory").await?;
        tab.fill("title", "Attic disk").await?;
        tab.fill("location", &site.home().join("disk").to_string_lossy()).await?;
        tab.click("Test connection").await?;
        tab.see("It works").await?;
        tab.click("Save storage").await?;
        tab.see("New passphrase").await?;
        tab.screenshot("start-passphrase").await?;
        tab.fill("passphrase", "correct horse").await?;
        tab.fill("again", "correct horse").await?;
        tab.click("Create repository").await?;
        tab.see("The repository was created").await?;
        tab.click("Make a recovery kit").await?;
        tab.see("HOLDFAST RECOVERY KIT").await?;
        tab.screenshot("start-kit").await?;
        tab.click("Back up now").await?;
        tab.see("First backup, run 1").await?;
        tab.see("Done").await?;
        tab.see("1 new, 0 changed").await?;
        tab.screenshot("run-done").await?;
        tab.open("/").await?;
        tab.see("Your plan holds.").await?;
        tab.screenshot("home").await?;
        tab.click("Dark").await?;
        tab.find("html[data-theme=dark]").await?;
        tab.screenshot("home-dark").await?;
        tab.open("/plans/first-backup").await?;
        tab.see("Next five runs").await?;
        tab.screenshot("plan-dark").await?;
        for rule in ["k-hourly", "k-weekly", "k-monthly"] {
            tab.fill(rule, "").await?;
        }
        tab.fill("k-daily", "3").await?;
        tab.see("With these rules 3 of the").await?;
        tab.click("Save plan").await?;
        tab.see("daily at 02:30").await?;
        tab.screenshot("plans").await
    })?;
    let config = std::fs::read_to_string(site.home().join("config/config.toml"))?;
    assert!(config.contains("daily = 3"), "{config}");
    browse(&site, Screen::Phone, async |tab| {
        for page in ["/", "/plans", "/plans/first-backup", "/runs", "/runs/1", "/storages"] {
            tab.open(page).await?;
            tab.find("h1").await?;
            tab.screenshot(&format!("phone{}", page.replace('/', "-"))).await?;
            tab.fits().await.map_err(|e| format!("{page}: {e}"))?;
        }
        Ok(())
    })
}
