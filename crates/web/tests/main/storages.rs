//! Storages by clicking: typed, tested, trusted, saved, made ready.

use holdfast_testkit::{S3Server, S3ServerOptions, Sshd, SshdOptions};

use super::browser::{Screen, Tab, browse};
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

/// Opens the form of an SFTP storage and says all that it needs, with a password that is wrong.
async fn fill_sftp(tab: &Tab, sshd: &Sshd) -> Result {
    tab.open("/add-storage?kind=sftp").await?;
    tab.fill("title", "Office NAS SFTP").await?;
    tab.fill("host", "127.0.0.1").await?;
    tab.fill("port", &sshd.port().to_string()).await?;
    tab.fill("username", sshd.user()).await?;
    tab.fill("location", &sshd.directory().join("store").to_string_lossy()).await?;
    tab.fill("password", "wrong one").await?;
    Ok(())
}

#[test]
fn an_sftp_storage_is_tested_trusted_and_saved() -> Result {
    let sshd =
        Sshd::start(SshdOptions { password: Some("right one".into()), ..SshdOptions::default() })?;
    let site = Site::new()?;
    browse(&site, Screen::Desk, async |tab| {
        fill_sftp(tab, &sshd).await?;
        tab.click("Test connection").await?;
        tab.find("dialog[open]").await?;
        tab.see("Is this the key of 127.0.0.1").await?;
        tab.screenshot("host-key").await?;
        tab.click("Do not trust it").await?;
        tab.see("The test failed").await?;
        tab.click("Test connection").await?;
        tab.click("Trust this key").await?;
        tab.see("sign-in: failed").await?;
        tab.see("Check user name and password").await?;
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

#[test]
fn an_s3_storage_is_tested_and_saved_and_a_wrong_key_explained() -> Result {
    let server = S3Server::start(S3ServerOptions::default())?;
    let endpoint = server.endpoint();
    let endpoint = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
    let site = Site::new()?;
    browse(&site, Screen::Desk, async |tab| {
        tab.open("/add-storage?kind=s3").await?;
        tab.screenshot("storage-s3-form").await?;
        tab.fill("title", "s3-krepository").await?;
        tab.fill("endpoint", endpoint).await?;
        tab.fill("bucket", "bucket").await?;
        tab.fill("access_key", server.access_key()).await?;
        tab.fill("secret_access_key", "not the key").await?;
        tab.script("document.querySelector('details.pad').open = true").await?;
        tab.script("document.getElementById('f-use_tls').value = 'false'").await?;
        tab.click("Test connection").await?;
        tab.see("The test failed").await?;
        tab.screenshot("storage-s3-refused").await?;
        tab.fill("secret_access_key", server.secret_key()).await?;
        tab.click("Test connection").await?;
        tab.see("It works").await?;
        tab.click("Save storage").await?;
        tab.see("Create a repository in s3-krepository").await?;
        tab.fill("passphrase", "a long one").await?;
        tab.fill("again", "a long one").await?;
        tab.click("Create repository").await?;
        tab.see("The repository was created").await?;
        tab.open("/storages").await?;
        tab.see("0 snapshots").await?;
        tab.screenshot("storages").await
    })?;
    let config = std::fs::read_to_string(site.home().join("config/config.toml"))?;
    assert!(config.contains("use_tls = false") && config.contains("[repository.s3-krepository]"));
    Ok(())
}

#[test]
fn what_is_not_touched_stays_as_it_is_written() -> Result {
    let site = Site::new()?;
    let path = site.home().join("config/config.toml");
    std::fs::create_dir_all(path.parent().ok_or("no parent")?)?;
    let text = "# mine\n[repository.nas] # here\nlocation = \"/volume1/x\"\nhost = \"nas\"\n\
                port = 2222\npassword = \"secret one\"\nconnections = 2\n\
                key_passphrase_command = [\"pass\", \"show\", \"nas\"]\n";
    std::fs::write(&path, text)?;
    let (cookie, token) = site.sign_in()?;
    let page = site.get("/storages/nas", &cookie)?;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(!page.body.contains("secret one"), "a secret came back");
    let save = |fields: &str| -> Result<u16> {
        let form = format!(
            "csrf={token}&kind=sftp&entry=nas&title=nas&host=nas&port=2222&username=&\
             location=%2Fvolume1%2Fx&password=&password_file=&{fields}"
        );
        Ok(site.post("/storage-form/save", &format!("Cookie: {cookie}\r\n"), &form)?.status)
    };
    assert_eq!(save("connections=2&allow_insecure_ciphers=false")?, 303);
    assert_eq!(std::fs::read_to_string(&path)?, text);
    assert_eq!(save("connections=8")?, 303);
    assert_eq!(std::fs::read_to_string(&path)?, text.replace("connections = 2", "connections = 8"));
    assert_eq!(save("connections=&password.clear=true")?, 303);
    let left = std::fs::read_to_string(&path)?;
    assert!(!left.contains("connections") && !left.contains("password ="), "{left}");
    assert!(left.contains("# mine") && left.contains("\"show\""), "{left}");
    // What cannot be is refused, and nothing of it is written.
    assert_eq!(save("connections=1000")?, 422);
    assert_eq!(std::fs::read_to_string(&path)?, left);
    Ok(())
}

/// What lies over a button or a field when it has the focus, of all that the page has.
const COVERED: &str = "
    const found = [];
    for (const part of document.querySelectorAll('#main button, #main input, #main select, \
        #main textarea, #main summary')) {
      if (!part.checkVisibility() || part.type === 'hidden') continue;
      part.focus();
      part.scrollIntoView({ block: 'nearest' });
      const box = part.getBoundingClientRect();
      const over = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
      if (!over || !(part.contains(over) || over.contains(part) && over.tagName === 'LABEL')) {
        const name = part.name || part.textContent.trim();
        found.push(name + ': ' + (over ? over.outerHTML.slice(0, 80) : 'outside'));
      }
    }
    return found.join('\\n')";

#[test]
fn nothing_lies_over_what_the_sftp_form_asks_with_every_fold_open() -> Result {
    let password = Some("right one".into());
    let sshd = Sshd::start(SshdOptions { password, ..SshdOptions::default() })?;
    let site = Site::new()?;
    let unfold = "document.querySelectorAll('details').forEach((d) => { d.open = true; })";
    browse(&site, Screen::Desk, async |tab| {
        fill_sftp(tab, &sshd).await?;
        tab.script(unfold).await?;
        assert_eq!(tab.script(COVERED).await?, "");
        tab.click("Test connection").await?;
        tab.click("Trust this key").await?;
        tab.see("The test failed").await?;
        tab.script(unfold).await?;
        tab.screenshot("storage-sftp-unfolded").await?;
        assert_eq!(tab.script(COVERED).await?, "");
        tab.fill("password", "right one").await?;
        tab.click("Test connection").await?;
        tab.see("Ready to be saved").await?;
        tab.script(unfold).await?;
        for at in ["start", "center", "end"] {
            let to = format!(
                "const save = document.querySelector('[formaction=\"/storage-form/save\"].primary'); \
                 save.scrollIntoView({{ block: '{at}' }}); \
                 const box = save.getBoundingClientRect(); \
                 const over = document.elementFromPoint(box.left + 9, box.top + 9); \
                 return save.contains(over) ? '' : over?.outerHTML.slice(0, 200)"
            );
            tab.screenshot(&format!("storage-sftp-save-{at}")).await?;
            assert_eq!(tab.script(&to).await?, "", "scrolled to its {at}");
        }
        assert_eq!(tab.script(COVERED).await?, "");
        tab.click("Save storage").await?;
        tab.see("Create a repository in Office NAS SFTP").await
    })
}
