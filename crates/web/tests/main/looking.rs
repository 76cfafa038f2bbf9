//! Looking into a repository by clicking: snapshots, folders, previews, versions, archives, and what
//! a file from a backup can do to the console, which is nothing.

use std::path::{Path, PathBuf};

use super::browser::{Screen, browse};
use super::site::{Result, Site};
use super::stored::{Stored, read};

#[test]
fn a_file_is_found_looked_at_and_taken_home() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    let short = stored.newest()?.id.short();
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/snapshots").await?;
        tab.see("3 of 3 in Attic disk").await?;
        tab.see("before-upgrade").await?;
        tab.screenshot("snapshots").await?;
        tab.script("document.querySelectorAll('td.pick input')[0].click()").await?;
        tab.script("document.querySelectorAll('td.pick input')[1].click()").await?;
        tab.see("2 picked").await?;
        tab.click("Compare").await?;
        tab.see("What changed").await?;
        tab.see("added.txt").await?;
        tab.screenshot("compare").await?;
        tab.open(&format!("/browse/attic/{short}")).await?;
        tab.see("Letters").await?;
        tab.screenshot("browse").await?;
        tab.click("budget.csv").await?;
        tab.see("month,group,plan").await?;
        tab.see("Versions of this path").await?;
        tab.see("2 in 3 snapshots").await?;
        tab.screenshot("browse-preview").await?;
        tab.open("/find?q=budget").await?;
        tab.see("2 versions of 1 path").await?;
        tab.screenshot("find").await?;
        tab.open(&format!("/snapshots/attic/{short}")).await?;
        tab.fill("tags", "good, kept").await?;
        tab.script("document.querySelector('[name=pinned]').click()").await?;
        tab.click("Save").await?;
        tab.see("Kept").await?;
        tab.screenshot("snapshot").await?;
        tab.open("/repository/attic").await?;
        tab.see("Saved by deduplication").await?;
        tab.see("service of").await?;
        tab.click("Preview").await?;
        tab.see("Run gc").await?;
        tab.screenshot("repository").await?;
        tab.click("Dark").await?;
        tab.see("Saved by deduplication").await?;
        tab.screenshot("repository-dark").await
    })?;
    let tags = stored.newest()?.record.tags;
    assert_eq!(tags, ["good", "kept"]);
    browse(&site, Screen::Phone, async |tab| {
        for (path, text, name) in [
            ("/snapshots".to_owned(), "3 of 3", "snapshots-phone"),
            (format!("/browse/attic/{short}"), "Letters", "browse-phone"),
            (format!("/restore/attic/{short}"), "Where to", "restore-phone"),
            ("/repository/attic".to_owned(), "service of", "repository-phone"),
            ("/find?q=budget".to_owned(), "2 versions", "find-phone"),
        ] {
            tab.open(&path).await?;
            tab.see(text).await?;
            tab.fits().await.map_err(|e| format!("{path}: {e}"))?;
            tab.screenshot(name).await?;
        }
        Ok(())
    })
}

#[test]
fn downloads_hold_what_was_backed_up() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    let cookie = site.sign_in()?.0;
    let id = stored.newest()?.id;
    let at = |path: &str| crate::stored::key(&stored.files.join(path));
    let file = site.bytes(&format!("/download/attic/{id}?path={}", at("photo.png")), &cookie)?;
    assert_eq!(
        file.0.header("content-disposition"),
        Some("attachment; filename=\"photo.png\"; filename*=UTF-8''photo.png")
    );
    assert_eq!(file.1, read(&stored.files.join("photo.png"))?);
    let folder = at("");
    let query = format!(
        "path={}&pick={}&pick={}",
        folder.trim_end_matches('/'),
        at("Letters"),
        at("budget.csv")
    );
    let zip = site.bytes(&format!("/archive/attic/{id}?{query}&format=zip"), &cookie)?;
    assert_eq!(zip.0.status, 200);
    let out = site.home().join("unpacked");
    let archive = site.home().join("a.zip");
    std::fs::write(&archive, &zip.1)?;
    unpack("unzip", &["-q", "-d"], &out, &archive)?;
    let mut names = list(&out)?;
    names.sort();
    assert_eq!(names, ["Letters", "budget.csv"]);
    for name in ["budget.csv", "Letters/one.txt", "Letters/two.txt"] {
        assert_eq!(read(&out.join(name))?, read(&stored.files.join(name))?, "{name}");
    }
    let tar = site.bytes(&format!("/archive/attic/{id}?{query}&format=tar"), &cookie)?;
    std::fs::write(site.home().join("a.tar"), &tar.1)?;
    let status =
        std::process::Command::new("tar").args(["-tf"]).arg(site.home().join("a.tar")).output()?;
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains("Letters/one.txt") && !text.contains("photo"), "{text}");
    Ok(())
}

#[test]
fn a_file_of_a_backup_runs_nothing() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    let cookie = site.sign_in()?.0;
    let id = stored.newest()?.id;
    let at = |path: &str| crate::stored::key(&stored.files.join(path));
    for (name, kind) in [("evil.html", "text/plain; charset=utf-8"), ("evil.svg", "image/svg+xml")]
    {
        let answer = site.get(&format!("/raw/attic/{id}?path={}", at(name)), &cookie)?;
        assert_eq!(answer.header("content-type"), Some(kind), "{name}");
        let policy = answer.header("content-security-policy").ok_or("no policy")?;
        assert!(
            policy.starts_with("default-src 'none';") && policy.ends_with("; sandbox"),
            "{policy}"
        );
    }
    browse(&site, Screen::Desk, async |tab| {
        let folder = crate::stored::key(&stored.files);
        for name in ["evil.html", "evil.svg"] {
            let key = at(name);
            tab.open(&format!("/browse/attic/{id}?path={folder}&file={key}")).await?;
            tab.see("verified while read").await?;
            tab.screenshot(&format!("preview-{name}")).await?;
            let title = tab.script("return document.title").await?;
            assert!(!title.to_string().contains("OWNED"), "{name} ran in the page");
            // Opened by itself it has no scripts, and no cookie of ours.
            tab.open(&format!("/raw/attic/{id}?path={key}")).await?;
            let state = "return [document.title, window.OWNED === undefined]";
            let found = tab.script(state).await?;
            assert!(!found.to_string().contains("OWNED"), "{name} ran by itself: {found}");
            assert_eq!(found.get(1), Some(&serde_json::Value::Bool(true)), "{name}");
        }
        Ok(())
    })
}

#[test]
fn a_restore_is_previewed_run_and_verified() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    let id = stored.newest()?.id;
    let target = site.home().join("back");
    browse(&site, Screen::Desk, async |tab| {
        tab.open(&format!("/browse/attic/{id}")).await?;
        tab.script(
            "for (const box of document.querySelectorAll('td.pick input')) \
             if (/Letters|budget/.test(box.value)) box.click()",
        )
        .await?;
        tab.see("2 picked").await?;
        tab.click("Restore…").await?;
        tab.see("Restore 2 picked in").await?;
        tab.fill("folder", "back").await?;
        tab.click("Preview").await?;
        tab.see("not given from the root").await?;
        tab.fill("folder", &target.to_string_lossy()).await?;
        tab.click("Preview").await?;
        tab.see("Restore 3 files").await?;
        tab.see(&format!("--to {}", target.display())).await?;
        tab.screenshot("restore-preview").await?;
        // A preview holds for what it was made of.
        let left = "document.querySelector('[name=delete]').click(); \
                    return document.getElementById('preview').children.length";
        assert_eq!(tab.script(left).await?, 0, "an old preview can be acted on");
        tab.script("document.querySelector('[name=delete]').click()").await?;
        tab.click("Preview").await?;
        tab.see("Restore 3 files").await?;
        tab.click("Restore 3 files").await?;
        tab.see("read back and equal").await?;
        tab.screenshot("restore-run").await?;
        // What is there already is not written again.
        std::fs::write(target.join("budget.csv"), "mine, and newer")?;
        tab.open(&format!("/restore/attic/{id}?path={}", crate::stored::key(&stored.files)))
            .await?;
        tab.fill("folder", &target.to_string_lossy()).await?;
        tab.click("Preview").await?;
        tab.see("1 stays as it is").await
    })?;
    for name in ["Letters/one.txt", "Letters/two.txt"] {
        assert_eq!(read(&target.join(name))?, read(&stored.files.join(name))?, "{name}");
    }
    assert!(!target.join("photo.png").exists());
    Ok(())
}

#[test]
fn a_snapshot_is_forgotten_after_its_effect_was_shown() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    let oldest = stored.snapshots()?.into_iter().next().ok_or("no snapshot")?;
    let newest = stored.newest()?;
    browse(&site, Screen::Desk, async |tab| {
        // The one that is kept cannot go.
        tab.open(&format!("/forget/attic?pick={}", oldest.id)).await?;
        tab.see("Some are to be kept").await?;
        tab.open(&format!("/forget/attic?pick={}", newest.id)).await?;
        tab.see("Only they hold about").await?;
        tab.screenshot("forget").await?;
        tab.click("Forget 1 snapshot").await?;
        tab.see("Snapshots forgotten").await?;
        tab.open("/snapshots").await?;
        tab.see("2 of 2").await
    })?;
    let left = stored.snapshots()?;
    assert!(left.len() == 2 && left.iter().all(|info| info.id != newest.id));
    Ok(())
}

#[test]
fn a_passphrase_is_asked_for_once() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    stored.forget_key()?;
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/snapshots?at=attic").await?;
        tab.see("Passphrase of Attic disk").await?;
        tab.screenshot("unlock").await?;
        tab.fill("passphrase", "wrong one").await?;
        tab.click("Open repository").await?;
        tab.see("Passphrase of Attic disk").await?;
        tab.fill("passphrase", "right one").await?;
        tab.script("document.querySelector('input[value=memory]').click()").await?;
        tab.click("Open repository").await?;
        tab.see("3 of 3 in Attic disk").await
    })?;
    let config = std::fs::read_to_string(site.home().join("config/config.toml"))?;
    assert!(!config.contains("repository_key_file") && !config.contains("right one"), "{config}");
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/repository/attic").await?;
        tab.see("Saved by deduplication").await
    })
}

/// A folder of many entries comes page by page; another order and a search read all of it.
#[test]
fn a_large_folder_comes_in_pages() -> Result {
    let site = Site::new()?;
    let stored = Stored::with(&site, |files| {
        for number in 0..450 {
            std::fs::write(files.join(format!("f{number:04}")), vec![b'x'; number])?;
        }
        for number in 0..210 {
            std::fs::create_dir(files.join(format!("d{number:04}")))?;
        }
        Ok(())
    })?;
    let cookie = site.sign_in()?.0;
    let id = stored.newest()?.id;
    let first = format!("/browse/attic/{id}?path={}", crate::stored::key(&stored.files));
    let mut address = first.clone();
    let mut names = Vec::new();
    let mut pages = 0;
    loop {
        let page = site.get(&address, &cookie)?.body;
        names.extend(picks(&page));
        pages += 1;
        let next = page.split("\" rel=\"next\"").next().filter(|head| head.len() < page.len());
        let Some(next) = next.and_then(|head| head.rsplit("href=\"").next()) else { break };
        address = next.replace("&amp;", "&").replace("&#38;", "&");
        assert!(pages < 9, "no end");
    }
    let mut expected: Vec<_> = (0..210).map(|n| format!("d{n:04}")).collect();
    expected.push("Letters".into());
    expected.sort();
    let folders = expected.len();
    assert_eq!(names.get(..folders), Some(&expected[..]), "folders first");
    let files: Vec<_> = names.iter().skip(folders).collect();
    assert!(files.is_sorted() && files.len() == 450 + 6, "{}", files.len());
    assert_eq!(pages, names.len().div_ceil(200));
    let largest = site.get(&format!("{first}&sort=-size"), &cookie)?.body;
    let by_size = picks(&largest);
    let at = |name: &str| by_size.iter().position(|found| found == name);
    assert!(at("f0449") < at("f0448") && at("f0448").is_some());
    assert!(largest.contains("667 entries"), "not counted");
    let found = picks(&site.get(&format!("{first}&q=F004"), &cookie)?.body);
    assert_eq!(found.len(), 10, "{found:?}");
    let none = site.get(&format!("{first}&q=nothing-like-it"), &cookie)?.body;
    assert!(none.contains("No name here holds"), "{none}");
    Ok(())
}

/// Names of the rows of a page.
fn picks(page: &str) -> Vec<String> {
    let parts = page.split("name=\"pick\" value=\"").skip(1);
    parts.filter_map(|part| part.split('"').next()?.rsplit('/').next().map(String::from)).collect()
}

fn unpack(program: &str, args: &[&str], to: &Path, archive: &Path) -> Result {
    let mut command = std::process::Command::new(program);
    let status = command.args(args).arg(to).arg(archive).status()?;
    if status.success() { Ok(()) } else { Err(format!("{program}: {status}").into()) }
}

fn list(folder: &PathBuf) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}
