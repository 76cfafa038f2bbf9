//! What the documents that this console answers to ask of it, by clicking, against real servers.
//!
//! | | What | Test |
//! |---|---|---|
//! | B1 | an SFTP storage by name, host, user, port and password | `storages::an_sftp_storage_is_tested_trusted_and_saved` |
//! | B2 | pasted key, its passphrase, certificate, key file, agent | [`b2_keys_certificates_and_the_agent_sign_in`]; old ciphers, hash check and all other options: `traps::every_field_of_the_form_arrives_in_the_file` |
//! | B3 | tested before it is saved; saved, it is ready for plans; the same in file and command line | `storages::an_sftp_storage_is_tested_trusted_and_saved`, `traps::every_field_of_the_form_arrives_in_the_file` |
//! | B4 | a plan to it: sources, schedule, retention; a live run; a restore | [`b4_a_plan_to_sftp_runs_live_and_comes_back`] |
//! | B5 | refused, authentication, permission, host key, timeout: named, with what to do | [`b5_what_commonly_goes_wrong_is_named_with_what_to_do`], and the other two in B1 and B6 |
//! | B6 | the first host key is shown and kept, another one blocks | [`b6_a_host_key_is_kept_and_another_one_blocks`] |
//! | C5 | `at @s3-krepository ui` | [`c5_ui_at_an_s3_repository_shows_its_snapshots`] |

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use holdfast_app::Config;
use holdfast_app::adopt;
use holdfast_engine::format::keyslot::Secret;
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::sshd::{certify, keygen, public_line};
use holdfast_testkit::{
    Agent, HostKeyKind, KeyKind, Proxy, S3Server, S3ServerOptions, Sshd, SshdOptions,
};
use zeroize::Zeroizing;

use super::browser::{Screen, Tab, browse};
use super::site::{Result, Site};
use super::stored::read;

const PASSWORD: &str = "right one";

fn sshd() -> Result<Sshd> {
    Ok(Sshd::start(SshdOptions { password: Some(PASSWORD.into()), ..SshdOptions::default() })?)
}

/// Opens the form of a new SFTP storage and types what every one has.
async fn typed(tab: &Tab, server: &Sshd, title: &str, port: u16) -> Result {
    tab.open("/add-storage?kind=sftp").await?;
    tab.fill("title", title).await?;
    tab.fill("host", "127.0.0.1").await?;
    tab.fill("port", &port.to_string()).await?;
    tab.fill("username", server.user()).await?;
    tab.fill("location", &server.directory().join("home/store").to_string_lossy()).await?;
    tab.script("document.querySelectorAll('main details').forEach(part => part.open = true)")
        .await
        .map(drop)
}

#[test]
fn b2_keys_certificates_and_the_agent_sign_in() -> Result {
    let keys = tempfile::tempdir()?;
    let key = |name: &str| keys.path().join(name);
    keygen(&key("authority"), KeyKind::Ed25519, "", None)?;
    let locked = keygen(&key("locked"), KeyKind::Ed25519, "key words", None)?;
    let certified = keygen(&key("certified"), KeyKind::Ecdsa(256), "", Some("PEM"))?;
    keygen(&key("held"), KeyKind::Ed25519, "", None)?;
    keygen(&key("kept"), KeyKind::Rsa, "", None)?;
    let server = Sshd::start(SshdOptions {
        password: Some(PASSWORD.into()),
        authorized_keys: vec![
            public_line(&key("locked"))?,
            public_line(&key("held"))?,
            public_line(&key("kept"))?,
        ],
        user_authority: Some(public_line(&key("authority"))?),
        extra: vec!["PasswordAuthentication no".into()],
        ..SshdOptions::default()
    })?;
    let certificate = certify(&key("authority"), &key("certified"), server.user(), &[])?;
    let certificate = std::fs::read_to_string(certificate)?;
    let agent = Agent::start()?;
    agent.add(&key("held"))?;
    let site = Site::new()?;
    browse(&site, Screen::Desk, async |tab| {
        typed(tab, &server, "pasted", server.port()).await?;
        tab.fill("key", &locked).await?;
        tab.see("This key is encrypted").await?;
        tab.fill("key_passphrase", "key words").await?;
        tab.see("SHA256:").await?;
        tab.see("ssh-ed25519").await?;
        tab.click("Test connection").await?;
        tab.click("Trust this key").await?;
        tab.see("It works").await?;
        tab.screenshot("storage-sftp-key").await?;
        tab.click("Save untested").await?;
        tab.see("Create a repository in pasted").await?;
        typed(tab, &server, "certified", server.port()).await?;
        tab.fill("key", &certified).await?;
        tab.click("Test connection").await?;
        tab.see("sign-in: failed").await?;
        tab.fill("certificate", certificate.trim()).await?;
        tab.click("Test connection").await?;
        tab.see("It works").await?;
        typed(tab, &server, "kept", server.port()).await?;
        tab.fill("key_file", &key("kept").to_string_lossy()).await?;
        tab.click("Test connection").await?;
        tab.see("It works").await?;
        typed(tab, &server, "held", server.port()).await?;
        tab.script("document.getElementById('f-use_agent').value = 'true'").await?;
        tab.fill("agent_socket", &agent.socket().to_string_lossy()).await?;
        tab.click("Test connection").await?;
        tab.see("It works").await
    })?;
    let config = std::fs::read_to_string(site.home().join("config/config.toml"))?;
    assert!(config.contains("BEGIN OPENSSH PRIVATE KEY") && config.contains("key words"));
    Ok(())
}

/// The named location `office` on the server, with the repository that stands there.
fn office(site: &Site, server: &Sshd, more: &[(&str, &str)]) -> Result {
    let paths = site.paths();
    let store = server.directory().join("home/store");
    let known = site.home().join("known");
    std::fs::write(&known, server.known_hosts_line(HostKeyKind::Ed25519)?)?;
    let location =
        format!("sftp://{}@127.0.0.1:{}{}", server.user(), server.port(), store.display());
    Config::edit(&paths.config, None, |config| {
        config.set("office", "location", &location)?;
        config.set("office", "title", "Office NAS SFTP")?;
        config.set("office", "password", PASSWORD)?;
        config.set("office", "known_hosts_file", &known.to_string_lossy())?;
        for (name, value) in more {
            config.set("office", name, value)?;
        }
        Ok(())
    })?;
    let secret = Secret::Passphrase(Zeroizing::new(b"a long one".to_vec()));
    adopt::create(paths, "office", secret)?;
    Ok(())
}

#[test]
fn b4_a_plan_to_sftp_runs_live_and_comes_back() -> Result {
    let server = sshd()?;
    let site = Site::new()?;
    office(&site, &server, &[("limit_upload", "1M")])?;
    let folder = site.home().join("home/papers");
    std::fs::create_dir(&folder)?;
    for number in 0..16 {
        std::fs::write(folder.join(number.to_string()), random_bytes(number, 300_000))?;
    }
    let back = site.home().join("back");
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/add-plan").await?;
        tab.fill("title", "Papers").await?;
        tab.fill("sources", &folder.to_string_lossy()).await?;
        tab.script("document.querySelector('input[name=often][value=daily]').click()").await?;
        tab.fill("k-daily", "7").await?;
        tab.see("Next five runs").await?;
        tab.click("Save and run").await?;
        // It moves while it works, and is not asked for again.
        tab.see("so far").await?;
        tab.screenshot("run-live").await?;
        tab.see("16 new, 0 changed").await?;
        tab.open("/plans").await?;
        tab.see("Office NAS SFTP").await?;
        tab.open("/snapshots?at=office").await?;
        tab.see("1 of 1 in Office NAS SFTP").await?;
        tab.open("/restore/office/latest").await?;
        tab.fill("folder", &back.to_string_lossy()).await?;
        tab.click("Preview").await?;
        tab.click("Restore 16 files").await?;
        tab.see("read back and equal").await
    })?;
    let text = std::fs::read_to_string(site.home().join("config/config.toml"))?;
    assert!(text.contains("daily = 7") && text.contains("schedule = \"daily at"), "{text}");
    let below = |file: &str| back.join(folder.strip_prefix("/").unwrap_or(&folder)).join(file);
    for number in 0..16 {
        let name = number.to_string();
        assert_eq!(read(&below(&name))?, read(&folder.join(&name))?, "{name}");
    }
    Ok(())
}

#[test]
fn b5_what_commonly_goes_wrong_is_named_with_what_to_do() -> Result {
    let server = sshd()?;
    let site = Site::new()?;
    // Where nothing listens any more.
    let nobody = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let silent = Proxy::start(([127, 0, 0, 1], server.port()).into())?;
    silent.set_stalled(true);
    let shut = site.home().join("shut");
    std::fs::create_dir(&shut)?;
    std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o700))?;
    browse(&site, Screen::Desk, async |tab| {
        typed(tab, &server, "refused", nobody).await?;
        tab.fill("password", PASSWORD).await?;
        tab.click("Test connection").await?;
        tab.see("The test failed").await?;
        tab.see("connect: failed").await?;
        tab.see("Check that the SSH service runs there").await?;
        // It is no word that goes by: who was away reads it as well.
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;
        tab.see("A firewall may refuse it").await?;
        typed(tab, &server, "silent", silent.port()).await?;
        tab.fill("password", PASSWORD).await?;
        tab.fill("timeout", "2s").await?;
        tab.click("Test connection").await?;
        tab.see("The test failed").await?;
        tab.see("Check that the machine is on").await?;
        // What may be read and not written can be a source; what may not be read, nothing.
        typed(tab, &server, "foreign", server.port()).await?;
        tab.fill("password", PASSWORD).await?;
        tab.fill("location", "/etc/holdfast-is-not-here").await?;
        tab.click("Test connection").await?;
        tab.click("Trust this key").await?;
        tab.see("write: limited").await?;
        tab.see("not allowed: it can be a source, and nothing else").await?;
        typed(tab, &server, "forbidden", server.port()).await?;
        tab.fill("password", PASSWORD).await?;
        tab.fill("location", &shut.join("store").to_string_lossy()).await?;
        tab.click("Test connection").await?;
        tab.see("The test failed").await?;
        tab.see("ermission").await?;
        tab.screenshot("storage-sftp-forbidden").await
    })
}

#[test]
fn b6_a_host_key_is_kept_and_another_one_blocks() -> Result {
    let mut server = sshd()?;
    let site = Site::new()?;
    browse(&site, Screen::Desk, async |tab| {
        typed(tab, &server, "office", server.port()).await?;
        tab.fill("password", PASSWORD).await?;
        tab.click("Test connection").await?;
        tab.click("Trust this key").await?;
        tab.see("It works").await?;
        // Once is enough.
        tab.click("Test connection").await?;
        tab.see("It works").await?;
        server.restart_with_keys(&[HostKeyKind::Ed25519])?;
        tab.click("Test connection").await?;
        tab.see("The test failed").await?;
        tab.see("host key: failed").await?;
        tab.see("somebody stands in between").await?;
        tab.screenshot("host-key-changed").await?;
        let asks = tab.script("return document.querySelector('dialog[open]') !== null").await?;
        assert_eq!(asks, false, "a changed key can be waved through");
        Ok(())
    })?;
    Ok(())
}

#[test]
fn c5_ui_at_an_s3_repository_shows_its_snapshots() -> Result {
    let server = S3Server::start(S3ServerOptions::default())?;
    let site = Site::new()?;
    let folder = site.home().join("home/etc");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("hosts"), "127.0.0.1 localhost\n")?;
    let paths = site.paths();
    let location = format!("s3://{}/bucket/store", server.address());
    Config::edit(&paths.config, None, |config| {
        config.set("s3-krepository", "location", &location)?;
        config.set("s3-krepository", "access_key", server.access_key())?;
        config.set("s3-krepository", "secret_access_key", server.secret_key())?;
        config.set("s3-krepository", "use_tls", "false").map(drop)
    })?;
    let secret = Secret::Passphrase(Zeroizing::new(b"a long one".to_vec()));
    adopt::create(paths, "s3-krepository", secret)?;
    let mut text = std::fs::read_to_string(&paths.config)?;
    text.push_str(&format!(
        "[plan.etc]\nsources = [{folder:?}]\nrepository = \"s3-krepository\"\n"
    ));
    std::fs::write(&paths.config, text)?;
    let token = site.token("run")?;
    let run = site.ask("POST", "/api/v1/plans/etc/run", &token, "")?.1["run"].clone();
    assert_eq!(site.ended(&run, &token)?["outcome"], "ok");
    browse(&site, Screen::Desk, async |tab| {
        // What `holdfast at @s3-krepository ui` prints.
        let url = holdfast_web::to_snapshots(&site.console.one_time_url()?, "s3-krepository");
        let path = url.replace(&format!("http://{}", site.console.address()), "");
        tab.open(&path).await?;
        tab.see("1 of 1 in s3-krepository").await?;
        tab.screenshot("snapshots-s3").await?;
        tab.open("/browse/s3-krepository/latest").await?;
        tab.click("hosts").await?;
        tab.see("127.0.0.1 localhost").await?;
        tab.open("/repository/s3-krepository").await?;
        tab.see("Saved by deduplication").await
    })
}
