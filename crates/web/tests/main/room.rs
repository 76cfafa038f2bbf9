//! Room that is free, as far as a storage tells, and looks that take longer than a moment.

use std::time::Duration;

use holdfast_app::Config;
use holdfast_testkit::{HostKeyKind, Proxy, S3Server, S3ServerOptions, Sshd, SshdOptions};

use super::browser::{Screen, browse};
use super::site::{Result, Site};
use super::stored::Stored;

/// A server over a connection that can be made slow, known under the name "nas".
fn nas(site: &Site, password: &str) -> Result<(Sshd, Proxy)> {
    let sshd =
        Sshd::start(SshdOptions { password: Some(password.into()), ..SshdOptions::default() })?;
    let proxy = Proxy::start(([127, 0, 0, 1], sshd.port()).into())?;
    let known = site.home().join("known_hosts");
    let key = sshd.host_key(HostKeyKind::Ed25519)?;
    std::fs::write(&known, format!("[127.0.0.1]:{} {key}\n", proxy.port()))?;
    let place = format!(
        "sftp://{}@127.0.0.1:{}{}",
        sshd.user(),
        proxy.port(),
        sshd.directory().join("store").display()
    );
    std::fs::create_dir_all(sshd.directory().join("store"))?;
    Config::edit(&site.paths().config, None, |config| {
        config.set("nas", "location", &place)?;
        config.set("nas", "password", password)?;
        config.set("nas", "known_hosts_file", &known.to_string_lossy()).map(drop)
    })?;
    Ok((sshd, proxy))
}

#[test]
fn cards_and_home_say_what_is_free_or_else_what_is_stored() -> Result {
    let s3 = S3Server::start(S3ServerOptions::default())?;
    let endpoint = s3.endpoint();
    let endpoint = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    let _nas = nas(&site, "right one")?;
    Config::edit(&site.paths().config, None, |config| {
        config.set("bucket", "location", &format!("s3://{endpoint}/bucket"))?;
        config.set("bucket", "access_key", s3.access_key())?;
        config.set("bucket", "secret_access_key", s3.secret_key())?;
        config.set("bucket", "use_tls", "false").map(drop)
    })?;
    let secret = || {
        holdfast_engine::format::keyslot::Secret::Passphrase(zeroize::Zeroizing::new(
            b"right one".to_vec(),
        ))
    };
    holdfast_app::adopt::create(site.paths(), "bucket", secret())?;
    let before = std::fs::read_to_string(&site.paths().config)?;
    let plan = format!(
        "{before}\n[plan.home]\nsources = [{:?}]\nrepository = \"attic\"\nmirror = [\"bucket\"]\n",
        stored.files
    );
    std::fs::write(&site.paths().config, plan)?;
    let cookie = site.sign_in()?.0;
    let part = |path: &str| -> Result<String> { Ok(site.get(path, &cookie)?.body) };
    for local in ["attic", "nas"] {
        let card = part(&format!("/storages/{local}/state"))?;
        assert!(card.contains("<dt>Free</dt>"), "{local}: {card}");
    }
    let card = part("/storages/bucket/state")?;
    assert!(card.contains("<dt>Stored</dt>") && !card.contains("<dt>Free</dt>"), "{card}");
    let line = part("/storages/attic/room")?;
    assert!(line.contains(" stored, ") && line.contains(" free"), "{line}");
    let line = part("/storages/bucket/room")?;
    assert!(line.contains(" stored") && !line.contains(" free"), "{line}");
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/").await?;
        tab.see(" stored, ").await?;
        tab.settled().await?;
        tab.screenshot("home-room").await?;
        tab.open("/storages").await?;
        tab.settled().await?;
        tab.screenshot("storages-room").await
    })?;
    browse(&site, Screen::Phone, async |tab| {
        tab.open("/").await?;
        tab.settled().await?;
        tab.fits().await?;
        tab.screenshot("home-room-phone").await
    })
}

#[test]
fn a_look_that_takes_long_goes_on_as_a_run() -> Result {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    let id = stored.newest()?.id;
    let (_sshd, proxy) = nas(&site, "right one")?;
    proxy.set_latency(Duration::from_millis(300));
    browse(&site, Screen::Desk, async |tab| {
        let path = crate::stored::key(&stored.files);
        tab.open(&format!("/restore/attic/{id}?path={path}")).await?;
        tab.script("document.querySelector('[name=to][value=storage]').click()").await?;
        tab.script("document.querySelector('[name=storage]').value = 'nas'").await?;
        tab.click("Preview").await?;
        tab.see("This look takes longer").await?;
        tab.screenshot("restore-waits").await?;
        tab.see("Restore 8 files").await?;
        tab.see("and 2 folders").await?;
        tab.screenshot("restore-waited").await?;
        tab.open("/runs").await?;
        tab.see("preview").await?;
        tab.open("/runs/1").await?;
        tab.see("Would be written").await?;
        tab.screenshot("run-preview").await
    })
}

#[test]
fn the_configuration_is_taken_away_with_secrets_only_for_the_password() -> Result {
    let site = Site::new()?;
    Config::edit(&site.paths().config, None, |config| {
        config.set("nas", "location", "sftp://a@nas/b")?;
        config.set("nas", "password", "secret one").map(drop)
    })?;
    let (cookie, token) = site.sign_in()?;
    let head = format!("Cookie: {cookie}\r\n");
    let plain = site.post("/settings/export", &head, &format!("csrf={token}"))?;
    assert_eq!(plain.status, 200);
    assert!(plain.header("content-disposition").is_some_and(|d| d.starts_with("attachment")));
    assert!(plain.body.contains("# left out: repository.nas.password"), "{}", plain.body);
    assert!(!plain.body.contains("secret one"), "{}", plain.body);
    let whole = |current: &str| {
        site.post("/settings/export/whole", &head, &format!("csrf={token}&current={current}"))
    };
    let refused = whole("")?;
    assert_eq!(refused.status, 422, "without a password to know");
    holdfast_web::Accounts::open(&site.home().join("state"))?.set_password("correct horse")?;
    let (cookie, token) = site.sign_in()?;
    let head = format!("Cookie: {cookie}\r\n");
    let whole = |current: &str| {
        site.post("/settings/export/whole", &head, &format!("csrf={token}&current={current}"))
    };
    let wrong = whole("wrong")?;
    assert!(wrong.status == 401 && !wrong.body.contains("secret one"), "{}", wrong.body);
    let right = whole("correct+horse")?;
    assert!(right.status == 200 && right.body.contains("secret one"), "{}", right.body);
    let record = site.get("/settings", &cookie)?.body;
    assert!(record.contains("exported the configuration with its secrets"));
    Ok(())
}
