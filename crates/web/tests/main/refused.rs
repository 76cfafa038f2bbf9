//! What is not done, and says so: what is not clear, what is not there, what a storage refuses, and what
//! waits for a passphrase.

use holdfast_app::Config;
use holdfast_testkit::{S3Server, S3ServerOptions};

use super::site::{Result, Site};
use super::stored::Stored;

#[test]
fn the_begin_of_several_ids_means_none_of_them() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    // With one more than there are digits, two begin alike.
    let digit = loop {
        let all = stored.snapshots()?;
        let mut digits: Vec<_> = all.iter().map(|info| info.id.to_string()).collect();
        digits.iter_mut().for_each(|id| id.truncate(1));
        digits.sort();
        let twice = digits.windows(2).find(|two| two[0] == two[1]).map(|two| two[0].clone());
        if let Some(digit) = twice {
            break digit;
        }
        stored.back_up(&[], false)?;
    };
    let token = site.token("admin")?;
    let at = "/api/v1/storages/attic";
    for (method, path, body) in [
        ("GET", format!("{at}/snapshots/{digit}"), String::new()),
        ("POST", format!("{at}/forget"), format!("{{\"snapshots\":[\"{digit}\"]}}")),
        (
            "POST",
            format!("{at}/snapshots/{digit}/restore"),
            format!("{{\"to\":{:?}}}", site.home().join("back")),
        ),
    ] {
        let (status, answer) = site.ask(method, &path, &token, &body)?;
        let (problem, begin) =
            (&answer["problem"], format!("several snapshots begin with {digit}"));
        assert_eq!((status, &problem["message"]), (404, &begin.into()), "{path}: {answer}");
        assert_eq!(problem["hints"][0], "send more of the id");
    }
    let newest = stored.newest()?.id;
    for clear in ["latest".to_owned(), newest.to_string()] {
        let (status, answer) = site.ask("GET", &format!("{at}/snapshots/{clear}"), &token, "")?;
        assert_eq!((status, &answer["id"]), (200, &newest.to_string().into()), "{answer}");
    }
    Ok(())
}

#[test]
fn an_address_names_a_storage_that_there_is() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    let who = site.sign_in()?;
    let evil = format!("{}/evil.html", crate::stored::key(&stored.files));
    // A page that is led into a file of a backup would show it as a part of itself.
    let at = format!("..%2Fraw%2Fattic%2Flatest%3Fpath%3D{evil}%23");
    for path in ["/find?q=x&at=", "/snapshots?at="] {
        let page = site.get(&format!("{path}{at}"), &who.0)?;
        assert_eq!(page.status, 404, "{path}: {}", page.body);
        assert!(!page.body.contains("data-load=\"/find/"), "{path}: {}", page.body);
        assert_eq!(site.get(&format!("{path}attic"), &who.0)?.status, 200, "{path}");
    }
    let run = site.run(&who, "/repository/attic/check", "data=0")?.id;
    let look = |at: &str| site.get(&format!("/restore/{at}/latest/preview/{run}"), &who.0);
    assert_eq!(look("attic")?.status, 200);
    for at in ["nobody", "..%2Fraw%2Fattic%2Flatest%3F"] {
        assert_eq!(look(at)?.status, 404, "{at}");
    }
    Ok(())
}

#[test]
fn what_a_storage_refuses_is_no_end_of_a_session_and_no_bad_token() -> Result {
    let server = S3Server::start(S3ServerOptions::default())?;
    let site = Site::new()?;
    Config::edit(&site.paths().config, None, |config| {
        config.set("bucket", "location", &format!("s3://{}/bucket", server.address()))?;
        config.set("bucket", "access_key", server.access_key())?;
        config.set("bucket", "secret_access_key", "not the key")?;
        config.set("bucket", "use_tls", "false").map(drop)
    })?;
    let path = "/api/v1/storages/bucket/snapshots";
    let (status, answer) = site.ask("GET", path, &site.token("read")?, "")?;
    let class = answer["problem"]["class"].as_str().unwrap_or_default();
    assert!(matches!(class, "authentication" | "permission denied"), "{answer}");
    assert_eq!(status, 502, "{answer}");
    let page = site.get("/snapshots?at=bucket", &site.sign_in()?.0)?;
    assert_eq!(page.status, 502, "{}", page.body);
    Ok(())
}

#[test]
fn what_waits_for_a_passphrase_is_not_noted_as_done() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    stored.forget_key()?;
    let who = site.sign_in()?;
    let sent = site.submit(&who, "/repository/attic/check", "", "data=0")?;
    let to = sent.header("location").unwrap_or_default();
    // The address of a form is no page to come back to.
    assert_eq!((sent.status, to), (303, "/unlock/attic?back=/snapshots~3fat~3dattic"));
    let record = site.get("/settings", &who.0)?.body;
    assert!(!record.contains("began a check"), "{record}");
    let asked = site.get("/repository/attic", &who.0)?;
    assert_eq!(asked.header("location"), Some("/unlock/attic?back=/repository/attic"));
    Ok(())
}

#[test]
fn all_of_a_page_is_picked_or_refused_in_words() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    let who = site.sign_in()?;
    let id = stored.newest()?.id;
    let send = |folder: &str, names: &[String]| {
        let picks: String = names.iter().map(|name| format!("&pick={folder}/{name}")).collect();
        let form = format!("path={folder}{picks}&do=zip");
        site.submit(&who, &format!("/browse/attic/{id}/picked"), "", &form)
    };
    let deep = format!("/{}", "d".repeat(250));
    let names = |name: &str| (100..300).map(|n| format!("{name}{n}")).collect::<Vec<_>>();
    let sent = send(&deep, &names(&"x".repeat(100)))?;
    let to = sent.header("location").unwrap_or_default();
    assert_eq!(sent.status, 303, "{}", sent.body);
    assert!(to.len() < 60_000 && to.contains("&pick=xxx"), "{} bytes", to.len());
    assert_eq!(site.get(to, &who.0)?.status, 404, "there is no such folder");
    let sent = send(&deep, &names(&"~7e".repeat(100)))?;
    assert!(sent.status == 422 && sent.body.contains("Pick the folder"), "{}", sent.body);
    // What is there comes.
    let folder = crate::stored::key(&stored.files);
    let sent = send(&folder, &["Letters".into(), "budget.csv".into()])?;
    let (zip, bytes) = site.bytes(sent.header("location").unwrap_or_default(), &who.0)?;
    assert_eq!((zip.status, zip.header("content-type")), (200, Some("application/zip")));
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("Letters/one.txt") && text.contains("budget.csv"), "{text}");
    assert!(!text.contains("photo.png"), "more than was picked");
    Ok(())
}
