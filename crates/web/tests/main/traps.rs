//! Traps that other consoles fell into, and the tests that keep this one out of them.
//!
//! | Trap | Tests |
//! |---|---|
//! | An interval becomes another one on its way to the clock; hours of a twelve-hour clock | app `schedule::tests::an_interval_is_what_it_says`, `what_is_written_is_kept_in_one_form`, `what_makes_no_sense_is_refused_with_a_reason` |
//! | An edited schedule keeps the old times | app `service::tests::an_edited_schedule_is_armed_anew` |
//! | Days when clocks change lose a run, or have two | app `schedule::tests::when_the_clock_goes_forward…`, `when_the_clock_goes_back…` |
//! | A field is dropped between form and engine; an empty secret is taken as one | [`every_field_of_the_form_arrives_in_the_file`], [`a_port_that_was_typed_is_where_it_connects`] |
//! | The second factor is asked for by the page alone, or is good without the first | `people::a_right_code_with_a_wrong_password_is_no_sign_in`, `people::a_password_and_a_code_sign_in_and_neither_alone_does` |
//! | Saving a storage erases secrets that were not shown, or sends them again | `storages::what_is_not_touched_stays_as_it_is_written` |
//! | A storage cannot be renamed | [`a_storage_is_renamed_and_its_plans_and_secrets_follow`] |
//! | A cancelled run leaves a lock | [`a_cancelled_run_leaves_nothing_in_the_way`] |
//! | Runs of a process that is gone stay «in progress» | app `runs::tests::runs_whose_process_is_gone_become_interrupted`, cli `plans::a_service_that_is_killed…` |
//! | Progress is polled for, and missing once there are many runs | [`a_run_shows_how_far_it_is_after_a_hundred_others`] |
//! | An error is cut to its first line, and is gone after seconds | [`a_problem_is_shown_whole`], `seeds::b5_what_commonly_goes_wrong_is_named_with_what_to_do` |
//! | A storage is changed under a run at work | [`a_run_ends_where_it_began_though_its_storage_was_changed`] |
//! | Another password of the console changes what opens repositories | [`another_password_of_the_console_changes_no_key`] |
//! | Everything is read once to tell how long it takes | [`a_run_shows_how_far_it_is_after_a_hundred_others`]: it says «so far», and works meanwhile |

use std::net::TcpListener;
use std::time::Instant;

use holdfast_app::config::Config;
use holdfast_app::config::keys::{KEYS, Key, Kind, Type};
use holdfast_app::runs::{By, History, NewRun, Outcome, Report};
use holdfast_testkit::clock::random_bytes;
use holdfast_web::Accounts;
use serde_json::Value;

use super::site::{PATIENCE, Result, Site};
use super::stored::Stored;

/// Fields of the place itself.
const PLACE: [&str; 5] = ["title", "location", "host", "port", "username"];

/// Something that an option may be set to.
fn sample(key: &Key) -> String {
    match (key.name, key.value) {
        ("host_key", _) => format!("SHA256:{}", "A".repeat(43)),
        ("shell_path", _) => "/volume1".into(),
        ("proxy_jump", _) => "anna@jump.example:2222".into(),
        ("sse", _) => "AES256".into(),
        ("ssh_command", _) => "ssh -q".into(),
        (name, Type::Path) => format!("/etc/{name}"),
        (_, Type::Duration) => "45s".into(),
        (_, Type::Rate) => "2M".into(),
        (_, Type::Number(..)) => "7".into(),
        (_, Type::Bool) => (key.default == "false").to_string(),
        (name, Type::SecretLines | Type::Lines) => format!("-----BEGIN {name}-----\nQUJD\n"),
        (name, Type::Text | Type::Secret | Type::Words) => format!("some-{name}"),
    }
}

fn encode(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric();
    let byte = |c| if plain(c) { char::from(c).to_string() } else { format!("%{c:02X}") };
    text.bytes().map(byte).collect()
}

#[test]
fn every_field_of_the_form_arrives_in_the_file() -> Result {
    let site = Site::new()?;
    let (cookie, csrf) = site.sign_in()?;
    let save = |kind: Kind, title: &str, more: &str| -> Result {
        let place = match kind {
            Kind::Local => "location=%2Fdisk",
            Kind::Sftp => "host=nas.example&port=2222&username=anna&location=%2Fvolume1",
            Kind::S3 => "endpoint=s3.example%3A9000&bucket=box&location=folder",
        };
        let form = format!("csrf={csrf}&kind={kind}&entry=&title={title}&{place}&{more}");
        let saved = site.post("/storage-form/save", &format!("Cookie: {cookie}\r\n"), &form)?;
        match saved.status {
            303 => Ok(()),
            _ => Err(format!("{title}: {}", saved.body).into()),
        }
    };
    let load = || Config::load(&site.paths().config, site.paths().home.clone());
    for (kind, location) in [
        (Kind::Local, "/disk"),
        (Kind::Sftp, "sftp://anna@nas.example:2222/volume1"),
        (Kind::S3, "s3://s3.example:9000/box/folder"),
    ] {
        for key in KEYS.iter().filter(|key| key.applies_to(kind) && !PLACE.contains(&key.name)) {
            let (value, title) = (sample(key), format!("{kind}{}", key.name.replace('_', "")));
            save(kind, &title, &format!("{}={}", key.name, encode(&value)))?;
            let config = load()?;
            let entry = config.expect(&title)?;
            let shown = entry.location()?;
            assert_eq!(
                format!("{shown:?}"),
                format!("{:?}", holdfast_app::Location::parse(location.as_ref())?),
                "{title}"
            );
            assert!(
                entry.lines().iter().any(|line| line.name == key.name),
                "{title} lost its value"
            );
            let text = std::fs::read_to_string(&site.paths().config)?;
            let last = text.rsplit("[repository.").next().unwrap_or_default();
            let word = value.lines().next().unwrap_or_default().split(' ').next_back();
            assert!(last.contains(word.unwrap_or_default()), "{title}: {last}");
        }
        // Nothing typed is nothing set, secrets above all.
        let secrets = KEYS.iter().filter(|key| key.value.is_secret() && key.applies_to(kind));
        let empty: Vec<_> = secrets.map(|key| format!("{}=", key.name)).collect();
        save(kind, &format!("{kind}empty"), &empty.join("&"))?;
        let config = load()?;
        let lines = config.expect(&format!("{kind}empty"))?.lines();
        let names: Vec<_> = lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["location"], "{kind}");
    }
    Ok(())
}

/// A port of this machine where nothing listens.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A place behind a port where nothing listens.
fn refusing(site: &Site) -> Result<u16> {
    let port = free_port()?;
    Config::edit(&site.paths().config, None, |config| {
        config.set("nas", "location", &format!("sftp://anna@127.0.0.1:{port}/backups")).map(drop)
    })?;
    Ok(port)
}

#[test]
fn a_port_that_was_typed_is_where_it_connects() -> Result {
    let site = Site::new()?;
    let port = refusing(&site)?;
    let token = site.token("run")?;
    let tested = site.ask("POST", "/api/v1/storages/nas/test", &token, "")?.1;
    assert_eq!(tested["passed"], false, "{tested}");
    assert!(
        tested["problem"]["message"].as_str().is_some_and(|m| m.contains(&port.to_string())),
        "{tested}"
    );
    Ok(())
}

#[test]
fn a_problem_is_shown_whole() -> Result {
    let site = Site::new()?;
    refusing(&site)?;
    let (status, answer) =
        site.ask("GET", "/api/v1/storages/nas/state", &site.token("read")?, "")?;
    assert_eq!((status, &answer["problem"]["class"]), (502, &"refused".into()), "{answer}");
    let page = site.get("/storages/nas/state", &site.sign_in()?.0)?.body;
    let plain = |text: &str| {
        text.replace("&#34;", "\"")
            .replace("&#39;", "'")
            .replace("&#60;", "<")
            .replace("&#62;", ">")
    };
    let page = plain(&page).to_lowercase();
    let parts = ["hints", "causes"].map(|name| answer["problem"][name].as_array().cloned());
    let parts = parts.into_iter().flatten().flatten().chain([answer["problem"]["message"].clone()]);
    let mut seen = 0;
    for part in parts {
        // What only a command line has is no part of what a page says.
        let text = part.as_str().ok_or("no text")?.to_lowercase();
        let text = text.split(" (-o ").next().unwrap_or_default();
        assert!(page.contains(text), "{text} is not in {page}");
        seen += 1;
    }
    assert!(seen > 2, "{answer}");
    Ok(())
}

#[test]
fn a_storage_is_renamed_and_its_plans_and_secrets_follow() -> Result {
    let site = Site::new()?;
    let path = &site.paths().config;
    std::fs::create_dir_all(path.parent().ok_or("no parent")?)?;
    std::fs::write(
        path,
        "[repository.nas]\nlocation = \"sftp://anna@nas/x\"\npassword = \"secret one\"\n\
         [plan.home]\nsources = [\"/home\"]\nrepository = \"nas\"\n",
    )?;
    let (cookie, csrf) = site.sign_in()?;
    let form = format!(
        "csrf={csrf}&kind=sftp&entry=nas&title=Office+NAS&host=nas&port=&username=anna&\
         location=%2Fx&password="
    );
    let saved = site.post("/storage-form/save", &format!("Cookie: {cookie}\r\n"), &form)?;
    assert_eq!(saved.status, 303, "{}", saved.body);
    let text = std::fs::read_to_string(path)?;
    assert!(
        text.contains("[repository.office-nas]") && !text.contains("[repository.nas]"),
        "{text}"
    );
    assert!(text.contains("repository = \"office-nas\"") && text.contains("secret one"), "{text}");
    Ok(())
}

/// A repository, and a plan `slow` to it that takes some seconds.
fn slow(site: &Site) -> Result<Stored> {
    let stored = Stored::new(site)?;
    let folder = site.home().join("home/much");
    std::fs::create_dir(&folder)?;
    for number in 0..40 {
        std::fs::write(folder.join(number.to_string()), random_bytes(number, 300_000))?;
    }
    set_plan(site, "limit_upload = \"1M\"\n")?;
    Ok(stored)
}

/// Writes the plan `slow` anew, with these lines.
fn set_plan(site: &Site, more: &str) -> Result {
    let path = &site.paths().config;
    let text = std::fs::read_to_string(path)?;
    let before = text.split("[plan.slow]").next().unwrap_or_default();
    let folder = site.home().join("home/much");
    let plan = format!("[plan.slow]\nsources = [{folder:?}]\nrepository = \"attic\"\n{more}");
    Ok(std::fs::write(path, format!("{before}{plan}"))?)
}

/// Begins the plan, and waits until the run is past its opening.
fn begun(site: &Site, token: &str) -> Result<Value> {
    let run = site.ask("POST", "/api/v1/plans/slow/run", token, "")?.1["run"].clone();
    let until = Instant::now() + PATIENCE;
    loop {
        let now = site.ask("GET", &format!("/api/v1/runs/{run}"), token, "")?.1;
        if matches!(now["progress"]["phase"].as_str(), Some("backup" | "committing")) {
            return Ok(run);
        }
        if Instant::now() > until || now["ended"].is_string() {
            return Err(format!("not at work: {now}").into());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_cancelled_run_leaves_nothing_in_the_way() -> Result {
    let site = Site::new()?;
    let stored = slow(&site)?;
    let token = site.token("admin")?;
    let run = begun(&site, &token)?;
    let busy = site.ask("POST", "/api/v1/plans/slow/run", &token, "")?;
    assert_eq!(busy.0, 409, "{}", busy.1);
    let (status, _) = site.ask("POST", &format!("/api/v1/runs/{run}/cancel"), &token, "")?;
    assert_eq!(status, 200);
    assert_eq!(site.ended(&run, &token)?["outcome"], "cancelled");
    let gc = site.ask("POST", "/api/v1/storages/attic/gc", &token, "{\"dry_run\":true}")?.1;
    assert_eq!(gc["plan"]["open"], serde_json::json!([]), "a session is left: {gc}");
    set_plan(&site, "")?;
    let next = site.ask("POST", "/api/v1/plans/slow/run", &token, "")?.1["run"].clone();
    assert_eq!(site.ended(&next, &token)?["outcome"], "ok");
    assert!(!stored.newest()?.record.partial);
    Ok(())
}

#[test]
fn a_run_shows_how_far_it_is_after_a_hundred_others() -> Result {
    let site = Site::new()?;
    slow(&site)?;
    let history = History::open(&site.paths().state)?;
    let owner = history.own()?;
    for _ in 0..120 {
        let new = NewRun {
            plan: Some("slow".into()),
            verb: "backup".into(),
            place: "@attic".into(),
            by: By::Schedule,
            due: None,
        };
        let run = history.begin(&new, &owner, false)?;
        history.end(run, Outcome::Ok, &Report::default())?;
    }
    let token = site.token("run")?;
    let run = begun(&site, &token)?;
    let cookie = site.sign_in()?.0;
    for page in ["/runs".to_owned(), format!("/runs/{run}")] {
        let shown = site.get(&page, &cookie)?.body;
        assert!(shown.contains(&format!("data-live=\"run-{run}")), "{page}: {shown}");
    }
    let shown = site.get(&format!("/runs/{run}"), &cookie)?.body;
    assert!(shown.contains("so far"), "{shown}");
    // Pages follow one stream; none of them asks again and again.
    let script = site.get("/assets/console.js", "")?.body;
    assert!(script.contains("new EventSource(") && !script.contains("setInterval"));
    site.ask("POST", &format!("/api/v1/runs/{run}/cancel"), &token, "")?;
    site.ended(&run, &token)?;
    Ok(())
}

#[test]
fn a_run_ends_where_it_began_though_its_storage_was_changed() -> Result {
    let site = Site::new()?;
    let stored = slow(&site)?;
    let token = site.token("run")?;
    let run = begun(&site, &token)?;
    let (cookie, csrf) = site.sign_in()?;
    let other = site.home().join("other");
    std::fs::create_dir(&other)?;
    let form = format!(
        "csrf={csrf}&kind=local&entry=attic&title=Attic+disk&location={}",
        encode(&other.to_string_lossy())
    );
    let saved = site.post("/storage-form/save", &format!("Cookie: {cookie}\r\n"), &form)?;
    assert_eq!(saved.status, 303, "{}", saved.body);
    assert_eq!(site.ended(&run, &token)?["outcome"], "ok");
    assert_eq!(stored.snapshots()?.len(), 4, "it went elsewhere");
    assert_eq!(std::fs::read_dir(&other)?.count(), 0, "something of it went elsewhere");
    Ok(())
}

#[test]
fn another_password_of_the_console_changes_no_key() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    let token = site.token("admin")?;
    let keys = || site.ask("GET", "/api/v1/storages/attic/keys", &token, "");
    let before = keys()?.1;
    let accounts = Accounts::open(&site.home().join("state"))?;
    accounts.set_password("correct horse")?;
    accounts.set_password("another horse")?;
    assert_eq!(keys()?.1, before);
    stored.forget_key()?;
    let secret = |text: &str| {
        let text = zeroize::Zeroizing::new(text.as_bytes().to_vec());
        holdfast_engine::format::keyslot::Secret::Passphrase(text)
    };
    let opened = |text: &str| holdfast_app::adopt::adopt(site.paths(), "attic", secret(text));
    assert!(opened("another horse").is_err(), "the console's password opens a repository");
    opened("right one")?;
    Ok(())
}
