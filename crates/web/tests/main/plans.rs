//! The editor of plans: it shows all that a plan can say, changes what was changed, and leaves the
//! rest of the file as it is written.

use super::browser::{Screen, browse};
use super::site::{Result, Site};

/// Two storages, two channels, and a plan that says something with every key, in ways that the
/// program would not write.
const FILE: &str = r#"# mine
[repository.attic]
location = "/mnt/attic"
[repository.cellar]
title = "Cellar disk"
location = "/mnt/cellar"

[channel.phone]
type = "ntfy"
url = "https://ntfy.example/secret-topic"
[channel.watch]
type = "ping"
url = "https://ping.example/secret"

[plan.home] # here
title = 'Home folders'
sources = [ "/home/anna",   # hers
  "@cellar" ]
exclude = ["ends in a space\\ ", "*.iso"]
exclude_larger_than = 1500
exclude_caches = true
one_file_system = true
repository = "@attic"
tags = ["with, comma"]
schedule = "every 6 hours"
timezone = "Europe/Kyiv"
jitter = 90
catch_up = false
overlap = "queue"
wait_for_network = "0s"
keep = { tag = ["gold"], daily = 7, within = "2w" }
gc = "monthly on 1 at 04:00"
check = { schedule = "weekly on sun at 05:00", data = 7 }
mirror = ["/mnt/third"]
retry = { times = 1, wait = "90s" }
limit_upload = 3145728
limit_download = "1000K"
hooks = { before = [["systemctl", "stop", "the shop"]], timeout = "5m" }
notify = { watch = ["failure"], gone = ["missed"], phone = ["missed", "failure"] }
drill = { files = 7, bytes = "3G", schedule = "monthly on 1 at 06:00" }
"#;

fn write(site: &Site, text: &str) -> Result {
    let path = &site.paths().config;
    std::fs::create_dir_all(path.parent().ok_or("no parent")?)?;
    Ok(std::fs::write(path, text)?)
}

#[test]
fn a_plan_is_shown_whole_and_saved_as_it_was_until_something_changes() -> Result {
    let site = Site::new()?;
    write(&site, FILE)?;
    let file = || std::fs::read_to_string(&site.paths().config);
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/plans/home").await?;
        tab.see("Off until the file says hooks = true").await?;
        tab.see("systemctl stop 'the shop'").await?;
        tab.screenshot("plan-whole").await?;
        tab.click("Save plan").await?;
        tab.see("Add plan").await?;
        assert_eq!(file()?, FILE, "a save that changes nothing changed the file");
        tab.open("/plans/home").await?;
        tab.click("Cellar disk").await?;
        tab.fill("tags", "one\ntwo").await?;
        tab.fill("retry_times", "5").await?;
        tab.fill("retry_wait", "").await?;
        tab.fill("wait_for_network", "10m").await?;
        tab.fill("limit_upload", "").await?;
        tab.fill("limit_download", "2M").await?;
        tab.script("document.getElementsByName('notify.phone.start')[0].click()").await?;
        tab.fill("jitter", "soon").await?;
        tab.click("Save plan").await?;
        tab.see("«Spread by up to» must be a time").await?;
        tab.screenshot("plan-refused").await?;
        assert_eq!(file()?, FILE, "what was refused was written");
        tab.fill("jitter", "2m").await?;
        tab.click("Save plan").await?;
        tab.see("Add plan").await
    })?;
    let expected = FILE
        .replace("tags = [\"with, comma\"]", "tags = [\"one\", \"two\"]")
        .replace("jitter = 90", "jitter = \"2m\"")
        .replace("wait_for_network = \"0s\"", "wait_for_network = \"10m\"")
        .replace("mirror = [\"/mnt/third\"]", "mirror = [\"/mnt/third\", \"cellar\"]")
        .replace("retry = { times = 1, wait = \"90s\" }", "retry = { times = 5, wait = \"1m\" }")
        .replace("limit_upload = 3145728\n", "")
        .replace("limit_download = \"1000K\"", "limit_download = \"2M\"")
        .replace(
            "phone = [\"missed\", \"failure\"]",
            "phone = [\"start\", \"failure\", \"missed\"]",
        );
    assert_eq!(file()?, expected);
    browse(&site, Screen::Phone, async |tab| {
        tab.open("/plans/home").await?;
        tab.find("#retry_times").await?;
        tab.screenshot("plan-whole-phone").await?;
        tab.fits().await
    })
}

#[test]
fn no_browser_can_set_a_hook() -> Result {
    let site = Site::new()?;
    write(&site, FILE)?;
    let (cookie, token) = site.sign_in()?;
    let form = format!(
        "csrf={token}&entry=home&title=Home+folders&repository=attic&sources=%2Fhome&often=hand\
         &hooks=%7B+before+%3D+%5B%5B%22touch%22%5D%5D+%7D&hooks.before=touch&hooks.after=touch"
    );
    let answer = site.post("/plan-form/save", &format!("Cookie: {cookie}\r\n"), &form)?;
    assert_eq!(answer.status, 303, "{}", answer.body);
    let file = std::fs::read_to_string(&site.paths().config)?;
    assert!(!file.contains("touch") && file.contains("\"the shop\""), "{file}");
    assert!(file.contains("gone = [\"missed\"]"), "a channel without fields was lost: {file}");
    Ok(())
}

#[test]
fn a_repository_without_a_name_stays_where_it_is() -> Result {
    let site = Site::new()?;
    let text = FILE.replace("repository = \"@attic\"", "repository = \"/mnt/fourth\"");
    write(&site, &text)?;
    let (cookie, _) = site.sign_in()?;
    let page = site.get("/plans/home", &cookie)?.body;
    assert!(page.contains("<option value=\"/mnt/fourth\" selected>"), "{page}");
    Ok(())
}
