//! Storages by clicking: typed, tested, trusted, saved, made ready.

use holdfast_testkit::{Sshd, SshdOptions};

use super::browser::{Screen, browse};
use super::site::{Result, Site};

#[test]
fn a_directory_becomes_a_repository() -> Result {
    let site = Site::new()?;
    let store = site.home().join("disk");
    std::fs::create_dir(&store)?;
    browse(&site, Screen::Desk, async |tab| {
        tab.click("Storages").await?;
        tab.click("Add storage").await?;
        tab.click("Directory").await?;
        tab.fill("title", "Attic disk").await?;
        tab.fill("location", "attic").await?;
        tab.click("Test connection").await?;
        tab.see("The directory is not given from the root").await?;
        tab.fill("location", &store.to_string_lossy()).await?;
        tab.click("Test connection").await?;
        tab.see("It works").await?;
        tab.screenshot("storage-local-tested").await?;
        tab.click("Save storage").await?;
        tab.see("Create a repository in Attic disk").await?;
        tab.fill("passphrase", "a long one").await?;
        tab.fill("again", "another one").await?;
        tab.click("Create repository").await?;
        tab.see("passphrases differ").await?;
        tab.screenshot("storage-differ").await
    })?;
    assert!(!store.join("config").exists());
    browse(&site, Screen::Phone, async |tab| {
        tab.open("/storages/attic-disk/ready").await?;
        tab.fits().await?;
        tab.fill("passphrase", "a long one").await?;
        tab.fill("again", "a long one").await?;
        tab.click("Create repository").await?;
        tab.see("The repository was created").await?;
        tab.click("Make a recovery kit").await?;
        tab.see("HOLDFAST RECOVERY KIT").await?;
        tab.fits().await?;
        tab.screenshot("kit-phone").await?;
        tab.open("/storages").await?;
        tab.see("0 snapshots").await?;
        tab.fits().await?;
        tab.screenshot("storages-phone").await
    })?;
    assert!(store.join("config").exists());
    let config = std::fs::read_to_string(site.home().join("config/config.toml"))?;
    assert!(config.contains("repository_key_file") && !config.contains("a long one"), "{config}");
    Ok(())
}

#[test]
fn an_sftp_storage_is_tested_trusted_and_saved() -> Result {
    let sshd =
        Sshd::start(SshdOptions { password: Some("right one".into()), ..SshdOptions::default() })?;
    let site = Site::new()?;
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/add-storage?kind=sftp").await?;
        tab.fill("title", "Office NAS SFTP").await?;
        tab.fill("host", "127.0.0.1").await?;
        tab.fill("port", &sshd.port().to_string()).await?;
        tab.fill("username", sshd.user()).await?;
        tab.fill("location", &sshd.directory().join("store").to_string_lossy()).await?;
        tab.fill("password", "wrong one").await?;
        tab.click("Test connection").await?;
        tab.find("dialog[open]").await?;
        tab.see("Is this the key of 127.0.0.1").await?;
        tab.screenshot("host-key").await?;
        tab.click("Do not trust it").await?;
        tab.see("The test failed").await?;
        tab.click("Test connection").await?;
        tab.click("Trust this key").await?;
        tab.see("sign-in: failed").await?;
        tab.see("check user name and password").await?;
        tab.screenshot("storage-sftp-refused").await?;
        tab.fill("password", "right one").await?;
        tab.click("Test connection").await?;
        tab.see("It works").await?;
        tab.screenshot("storage-sftp-tested").await?;
        tab.click("Save storage").await?;
        tab.see("Create a repository in Office NAS SFTP").await?;
        tab.open("/storages/office-nas-sftp").await?;
        let page = tab.script("return document.documentElement.outerHTML").await?;
        assert!(!page.to_string().contains("right one"), "a secret came back");
        tab.screenshot("storage-sftp-form").await
    })?;
    let config = std::fs::read_to_string(site.home().join("config/config.toml"))?;
    assert!(config.contains("password = \"right one\""), "{config}");
    assert!(site.home().join("config/known_hosts").exists());
    Ok(())
}
