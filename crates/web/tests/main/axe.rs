//! Every page, in light and dark, under the rules of axe-core for WCAG 2.2 AA. axe-core comes from
//! the npm registry into target/, once; it is no part of this program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use holdfast_app::Config;
use holdfast_app::jobs::Job;
use holdfast_app::runner::{self, Runner};
use holdfast_app::runs::By;
use holdfast_testkit::{Sshd, SshdOptions};

use super::browser::{Screen, Tab, browse};
use super::site::{Result, Site};
use super::stored::Stored;

/// Which axe-core: another one may find other things.
const VERSION: &str = "4.14.1";

/// Runs the rules on the page as it is, and gives what they find as lines of text.
const RUN: &str = "
    const done = arguments[arguments.length - 1];
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    axe.run(document, { runOnly: tags, resultTypes: ['violations'] }).then((found) => done(
      found.violations.flatMap((rule) => rule.nodes.map((node) =>
        rule.id + ' at ' + node.target.join(' ') + ': ' + node.failureSummary.replace(/\\s+/g, ' ')))
    ), (error) => done(['axe: ' + error]));";

/// The script, fetched if it is not there. Errors: npm is not there, or does not get it.
fn script() -> Result<String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("axe-core");
    let script = folder.join(format!("axe-{VERSION}.js"));
    if let Ok(text) = std::fs::read_to_string(&script) {
        return Ok(text);
    }
    std::fs::create_dir_all(&folder)?;
    let scratch = tempfile::tempdir_in(&folder)?;
    let package = format!("axe-core@{VERSION}");
    run(scratch.path(), "npm", &["pack", "--silent", &package])?;
    run(
        scratch.path(),
        "tar",
        &["-xzf", &format!("axe-core-{VERSION}.tgz"), "package/axe.min.js"],
    )?;
    std::fs::rename(scratch.path().join("package/axe.min.js"), &script)?;
    Ok(std::fs::read_to_string(&script)?)
}

fn run(at: &Path, program: &str, arguments: &[&str]) -> Result {
    let output = Command::new(program).args(arguments).current_dir(at).output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Loads the rules into the page and runs them, light and dark.
async fn check(tab: &Tab, axe: &str, page: &str, found: &mut Vec<String>) -> Result {
    tab.settled().await?;
    tab.script(axe).await?;
    for theme in ["light", "dark"] {
        tab.script(&format!("document.documentElement.dataset.theme = '{theme}'")).await?;
        let lines: Vec<String> = serde_json::from_value(tab.wait_for_script(RUN).await?)?;
        found.extend(lines.into_iter().map(|line| format!("{page}, {theme}: {line}")));
    }
    Ok(())
}

#[test]
fn no_page_breaks_a_rule_of_accessibility() -> Result {
    let axe = match script() {
        Ok(axe) => axe,
        Err(e) if std::env::var_os("CI").is_some_and(|ci| ci == "true") => return Err(e),
        Err(e) => {
            let text = format!("accessibility was not checked, axe-core is missing: {e}\n");
            std::io::stderr().write_all(text.as_bytes())?;
            return Ok(());
        }
    };
    let password = Some("right one".into());
    let server = Sshd::start(SshdOptions { password, ..SshdOptions::default() })?;
    let site = Site::new()?;
    let empty = Site::new()?;
    let stored = Stored::new(&site)?;
    let ids: Vec<_> = stored.snapshots()?.iter().map(|info| info.id.short()).collect();
    let (first, newest) = (ids.first().ok_or("none")?, ids.last().ok_or("none")?);
    let files = crate::stored::key(&stored.files);
    Config::edit(&site.paths().config, None, |config| {
        config.set("gone", "location", "sftp://anna@127.0.0.1:1/srv/backups").map(drop)
    })?;
    let before = std::fs::read_to_string(&site.paths().config)?;
    let plans = format!(
        "{before}\n[channel.phone]\ntype = \"ntfy\"\nurl = \"http://127.0.0.1:1/x\"\n\
         [plan.home]\ntitle = \"Home folders\"\nsources = [{files:?}]\nrepository = \"attic\"\n\
         schedule = \"daily at 02:30\"\nkeep = {{ daily = 7 }}\nnotify = {{ phone = [\"failure\"] }}\n\
         drill = \"monthly on 1 at 06:00\"\n\
         [plan.nas]\nsources = [{files:?}]\nrepository = \"gone\"\nwait_for_network = 0\n\
         retry = {{ times = 0 }}\nhooks = {{ before = [[\"true\"]] }}\n\
         [plan.broken]\nsources = []\nrepository = \"gone\"\n"
    );
    std::fs::write(&site.paths().config, plans)?;
    let runner = Runner::new(site.paths().clone(), runner::Options::default())?;
    for plan in ["home", "nas"] {
        runner.wait(runner.start(Job::Plan(plan.into()), By::Console)?);
    }
    let mut found = Vec::new();
    browse(&site, Screen::Desk, async |tab| {
        let pages = [
            "/".to_owned(),
            "/plans".into(),
            "/add-plan".into(),
            "/plans/home".into(),
            "/plans/nas".into(),
            "/plans/broken".into(),
            "/runs".into(),
            "/runs/1".into(),
            "/runs/2".into(),
            "/snapshots".into(),
            format!("/snapshots/attic/{newest}"),
            format!("/browse/attic/{newest}"),
            format!("/browse/attic/{newest}?path={files}"),
            format!("/browse/attic/{newest}?path={files}&file={files}/budget.csv"),
            format!("/compare?at=attic&a={first}&b={newest}"),
            "/find".into(),
            "/find?q=budget".into(),
            format!("/restore/attic/{newest}"),
            "/repository/attic".into(),
            "/storages".into(),
            "/add-storage".into(),
            "/add-storage?kind=local".into(),
            "/add-storage?kind=sftp".into(),
            "/add-storage?kind=s3".into(),
            "/storages/attic".into(),
            "/storages/attic/ready".into(),
            "/unlock/attic?back=/snapshots".into(),
            "/alerts".into(),
            "/add-channel".into(),
            "/add-channel?kind=mail".into(),
            "/add-channel?kind=ntfy".into(),
            "/channels/phone".into(),
            "/settings".into(),
            "/nowhere".into(),
        ];
        for page in pages {
            tab.open(&page).await?;
            check(tab, &axe, &page, &mut found).await.map_err(|e| format!("{page}: {e}"))?;
        }
        // What opens and what arrives later.
        tab.open(&format!("/restore/attic/{newest}")).await?;
        tab.fill("folder", &site.home().join("out").to_string_lossy()).await?;
        tab.click("Preview").await?;
        tab.see("nothing has been written yet").await?;
        check(tab, &axe, "the preview of a restore", &mut found).await?;
        tab.open("/repository/attic").await?;
        tab.click("Preview").await?;
        tab.see("Run gc").await?;
        check(tab, &axe, "the preview of gc", &mut found).await?;
        tab.open("/plans/home").await?;
        tab.script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
            .await?;
        tab.click("Remove…").await?;
        check(tab, &axe, "a dialog and what is folded", &mut found).await?;
        tab.open("/unlock/attic").await?;
        tab.fill("passphrase", "not this one").await?;
        tab.click("Open repository").await?;
        tab.see("does not open with this passphrase").await?;
        check(tab, &axe, "a passphrase that does not fit", &mut found).await?;
        tab.open("/storages/attic/ready").await?;
        tab.click("Make a recovery kit").await?;
        tab.see("HOLDFAST RECOVERY KIT").await?;
        check(tab, &axe, "a recovery kit", &mut found).await?;
        tab.open("/add-storage?kind=sftp").await?;
        tab.fill("title", "Office").await?;
        tab.fill("host", "127.0.0.1").await?;
        tab.fill("port", &server.port().to_string()).await?;
        tab.fill("username", server.user()).await?;
        tab.fill("location", &server.directory().join("store").to_string_lossy()).await?;
        tab.fill("password", "right one").await?;
        tab.click("Test connection").await?;
        tab.see("Is this the key of").await?;
        check(tab, &axe, "the key of a host", &mut found).await?;
        tab.click("Trust this key").await?;
        tab.see("It works").await?;
        check(tab, &axe, "a connection test", &mut found).await?;
        tab.open("/settings").await?;
        tab.fill("tok-n", "dashboard").await?;
        tab.click("Make a token").await?;
        tab.see("hf_").await?;
        tab.script("ended()").await?;
        tab.see("This session has ended").await?;
        check(tab, &axe, "a token, and a session that ended", &mut found).await
    })?;
    browse(&empty, Screen::Phone, async |tab| {
        for page in ["/start", "/storages", "/alerts", "/runs", "/snapshots", "/plans"] {
            tab.open(page).await?;
            check(tab, &axe, &format!("{page} with nothing in it"), &mut found).await?;
        }
        tab.open("/settings").await?;
        tab.click("Sign out").await?;
        tab.open("/sign-in").await?;
        check(tab, &axe, "/sign-in", &mut found).await
    })?;
    assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
    Ok(())
}
