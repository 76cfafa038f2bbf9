//! Runs that do not end well, in the browser: cancelled and explained, failed and explained, in words
//! that can be followed here.

use holdfast_app::Config;
use holdfast_testkit::{S3Server, S3ServerOptions};

use super::browser::{Screen, browse};
use super::site::{Result, Site};
use super::stored::Stored;

/// Adds a plan as its table is written.
fn plan(site: &Site, text: &str) -> Result {
    let path = &site.paths().config;
    let before = std::fs::read_to_string(path)?;
    Ok(std::fs::write(path, format!("{before}\n{text}"))?)
}

/// A plan that is at work for a while.
fn slow(site: &Site) -> Result {
    let stored = Stored::with(site, |files| {
        let mut noise = vec![0_u8; 24 << 20];
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        for chunk in noise.chunks_mut(8) {
            word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            chunk.copy_from_slice(&word.rotate_left(29).to_le_bytes());
        }
        Ok(std::fs::write(files.join("../noise.bin"), noise)?)
    })?;
    let source = stored.files.parent().ok_or("no parent")?.display().to_string();
    let text = format!(
        "[plan.home]\nsources = [{source:?}]\nrepository = \"attic\"\nlimit_upload = \"1M\"\n"
    );
    plan(site, &text)
}

#[test]
fn which_file_is_read_now_is_told_to_those_who_may_see_names() -> Result {
    let site = Site::new()?;
    slow(&site)?;
    let (reads, restores) = (site.token("read")?, site.token("restore")?);
    let run = site.ask("POST", "/api/v1/plans/home/run", &restores, "")?.1["run"].clone();
    let address = format!("/api/v1/runs/{run}");
    let current = |token: &str| -> Result<Option<String>> {
        let told = site.ask("GET", &address, token, "")?.1;
        assert!(told["ended"].is_null(), "it is over: {told}");
        Ok(told["progress"]["current"].as_str().map(String::from))
    };
    while current(&restores)?.unwrap_or_default().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(current(&reads)?.as_deref(), Some(""), "a name of a file");
    assert!(current(&restores)?.is_some_and(|name| name.contains("noise.bin")));
    site.ask("POST", &format!("{address}/cancel"), &restores, "")?;
    assert_eq!(site.ended(&run, &restores)?["outcome"], "cancelled");
    Ok(())
}

#[test]
fn a_run_is_cancelled_and_says_what_stays() -> Result {
    let site = Site::new()?;
    slow(&site)?;
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/plans/home").await?;
        tab.click("Run now").await?;
        tab.see("Cancel run").await?;
        tab.screenshot("run-live").await?;
        tab.click("Cancel run").await?;
        tab.see("This run was cancelled").await?;
        tab.see("No older snapshot was touched").await?;
        tab.screenshot("run-cancelled").await?;
        tab.open("/").await?;
        tab.see("Cancelled").await?;
        tab.see("Nothing has been saved yet.").await
    })?;
    browse(&site, Screen::Phone, async |tab| {
        tab.open("/runs/1").await?;
        tab.see("This run was cancelled").await?;
        tab.screenshot("run-cancelled-phone").await?;
        tab.fits().await
    })
}

#[test]
fn a_run_that_failed_says_why_and_what_to_do_here() -> Result {
    let server = S3Server::start(S3ServerOptions::default())?;
    let endpoint = server.endpoint();
    let endpoint = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
    let site = Site::new()?;
    let folder = site.home().join("home/documents");
    std::fs::create_dir_all(&folder)?;
    Config::edit(&site.paths().config, None, |config| {
        config.set("bucket", "location", &format!("s3://{endpoint}/bucket"))?;
        config.set("bucket", "access_key", server.access_key())?;
        config.set("bucket", "secret_access_key", "not the key")?;
        config.set("bucket", "use_tls", "false")?;
        config.set("gone", "location", "sftp://anna@127.0.0.1:1/srv/backups").map(drop)
    })?;
    plan(
        &site,
        &format!(
            "[plan.cloud]\nsources = [{folder:?}]\nrepository = \"bucket\"\n\
             [plan.nas]\nsources = [{folder:?}]\nrepository = \"gone\"\nwait_for_network = 0\n\
             retry = {{ times = 0 }}\n"
        ),
    )?;
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/plans").await?;
        tab.click("Run now: cloud").await?;
        tab.see("Failed").await?;
        tab.see("«Secret access key» in the form of the storage").await?;
        tab.see("Details: authentication").await?;
        tab.screenshot("run-failed-s3").await?;
        tab.open("/plans").await?;
        tab.click("Run now: nas").await?;
        tab.see("Failed").await?;
        tab.see("Check that the SSH service runs there, and that the port is right").await?;
        tab.see("Details: refused").await?;
        tab.screenshot("run-failed-sftp").await?;
        for run in [1, 2] {
            tab.open(&format!("/runs/{run}")).await?;
            tab.find("h1").await?;
            let said = tab.find("main .note").await?.text().await?;
            assert!(!said.contains("holdfast ") && !said.contains("-o "), "{said}");
        }
        tab.open("/").await?;
        tab.see("has never been saved").await?;
        tab.screenshot("home-failed").await
    })?;
    browse(&site, Screen::Phone, async |tab| {
        for page in ["/", "/runs/1", "/runs/2", "/runs"] {
            tab.open(page).await?;
            tab.find("h1").await?;
            tab.fits().await.map_err(|e| format!("{page}: {e}"))?;
        }
        tab.open("/runs/2").await?;
        tab.find("h1").await?;
        tab.screenshot("run-failed-phone").await
    })
}
