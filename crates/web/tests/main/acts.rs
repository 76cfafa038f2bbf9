//! What forms do, without a browser: each act, what it leaves in the record, and what is refused.

use holdfast_app::config::Config;
use holdfast_app::runs::Outcome;

use super::site::{Result, Site};
use super::stored::{Stored, key, read};

#[test]
fn a_restore_goes_to_a_storage_and_to_the_original_place() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    let who = site.sign_in()?;
    let other = site.home().join("other");
    std::fs::create_dir(&other)?;
    Config::edit(&site.paths().config, None, |config| {
        config.set("other", "location", &other.to_string_lossy()).map(drop)
    })?;
    let act = format!("/restore/attic/{}", stored.newest()?.id);
    let folder = key(&stored.files);
    let form = format!(
        "path={folder}&pick={folder}/budget.csv&to=storage&storage=other&below=/back/1/&verify=true"
    );
    let preview = site.submit(&who, &format!("{act}/preview"), "", &form)?;
    assert_eq!(preview.status, 200, "{}", preview.body);
    assert!(preview.body.contains("--to @other:/back/1 "), "{}", preview.body);
    assert!(!other.join("back").exists(), "a preview wrote something");
    let run = site.run(&who, &act, &form)?;
    assert_eq!(run.outcome, Outcome::Ok, "{:?}", run.report.problem);
    let budget = stored.files.join("budget.csv");
    let saved = read(&budget)?;
    assert_eq!(read(&other.join("back/1/budget.csv"))?, saved);
    std::fs::write(&budget, "spoilt")?;
    let form = format!("path={folder}&pick={folder}/budget.csv&to=original&overwrite=changed");
    let run = site.run(&who, &act, &form)?;
    assert_eq!(run.outcome, Outcome::Ok, "{:?}", run.report.problem);
    assert_eq!(read(&budget)?, saved);
    let record = site.get("/settings", &who.0)?.body;
    assert_eq!(record.matches("began a restore from attic").count(), 2, "{record}");
    Ok(())
}

#[test]
fn a_repository_that_is_open_in_memory_only_is_checked_and_collected() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    stored.forget_key()?;
    let who = site.sign_in()?;
    let unlock = |passphrase: &str| {
        site.submit(&who, "/unlock/attic", "", &format!("passphrase={passphrase}&keep=memory"))
    };
    assert_eq!(unlock("wrong+one")?.status, 403);
    let record = || -> Result<String> { Ok(site.get("/settings", &who.0)?.body) };
    assert!(!record()?.contains("opened the repository"), "noted though it was refused");
    assert_eq!(unlock("right+one")?.status, 303);
    for (path, form) in [("/repository/attic/check", "data=100"), ("/repository/attic/gc", "")] {
        let run = site.run(&who, path, form)?;
        assert_eq!(run.outcome, Outcome::Ok, "{path}: {:?}", run.report.problem);
        assert_eq!(run.place, "@attic");
    }
    for share in ["", "101", "some"] {
        let refused = site.submit(&who, "/repository/attic/check", "", &format!("data={share}"))?;
        assert!(refused.status == 422 && refused.body.contains("no share of the data"), "{share}");
    }
    let record = record()?;
    for what in ["opened the repository at", "began a check of", "began a gc of"] {
        assert!(record.contains(&format!("{what} attic")), "{what}: {record}");
    }
    Ok(())
}

#[test]
fn a_name_of_any_letters_leads_on() -> Result {
    let site = Site::new()?;
    let who = site.sign_in()?;
    let place = site.home().join("disk");
    std::fs::create_dir(&place)?;
    let form = format!("kind=local&title=B%C3%BCro%3A+Keller&location={}", key(&place));
    let saved = site.submit(&who, "/storage-form/save", "x-fragment: 1\r\n", &form)?;
    let to = saved.header("x-location").ok_or("no address")?.to_owned();
    assert_eq!(to, "/storages/b%C3%BCro-keller/ready", "{}", saved.body);
    let page = site.get(&to, &who.0)?;
    assert!(page.status == 200 && page.body.contains("B\u{fc}ro: Keller"), "{}", page.body);
    let removed = site.submit(&who, "/storages/b%C3%BCro-keller/remove", "", "")?;
    assert_eq!(removed.status, 303);
    let record = site.get("/settings", &who.0)?.body;
    assert!(record.contains("removed the storage b\u{fc}ro-keller"), "{record}");
    Ok(())
}

#[test]
fn a_form_that_says_nothing_changes_nothing_and_one_that_leads_on_is_not_noted() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    let who = site.sign_in()?;
    let pinned = stored.snapshots()?.into_iter().next().ok_or("no snapshot")?;
    assert!(pinned.record.pinned);
    let send = |act: &str| -> Result<u16> {
        let form = format!("pick={}&do={act}", pinned.id);
        Ok(site.submit(&who, "/snapshots/attic/picked", "", &form)?.status)
    };
    assert_eq!((send("")?, send("unpin")?), (422, 422));
    assert!(stored.snapshots()?.iter().any(|info| info.record.pinned), "it is kept no more");
    assert_eq!((send("compare")?, send("forget")?), (303, 303));
    let record = site.get("/settings", &who.0)?.body;
    assert!(!record.contains("to be kept") && !record.contains("picked"), "{record}");
    assert_eq!(send("keep")?, 303);
    assert!(site.get("/settings", &who.0)?.body.contains("marked snapshots of attic to be kept"));
    // What cannot be meant is refused, or is a page with nothing on it.
    assert_eq!(site.get("/runs?outcome=typo", &who.0)?.status, 422);
    let far = format!("/snapshots?at=attic&from={}", usize::MAX);
    assert_eq!(site.get(&far, &who.0)?.status, 200);
    Ok(())
}
