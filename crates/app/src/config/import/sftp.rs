//! rclone's `sftp` remotes. A path that does not begin with a slash is relative to the home
//! directory there, as rclone takes it.

use zeroize::Zeroizing;

use super::obscure::reveal;
use super::rclone::Section;
use super::{Draft, Reason};
use crate::location::{RemotePath, SftpLocation, url};

pub(super) fn draft(section: &mut Section, path: &str) -> Result<Draft, Reason> {
    let mut draft = Draft::default();
    let name = |text: &str, what| url::name(text.as_bytes(), what).map_err(|p| p.message);
    let host = section.take("host").ok_or("it has no host")?;
    let host = name(&host, "host")?;
    let user = section.take("user").map(|user| name(&user, "user")).transpose()?;
    let port = match section.take("port") {
        None => None,
        Some(port) => {
            let number = port.trim().parse().ok().filter(|port: &u16| *port > 0);
            Some(number.ok_or("its port is no port")?)
        }
    };
    let location = SftpLocation {
        user: user.clone(),
        host: Some(host.clone()),
        port,
        path: remote_path(path)?,
        follows: false,
    };
    draft.set("location", location.to_string());
    secret(&mut draft, section, "pass", "password");
    keys(&mut draft, section);
    secret(&mut draft, section, "key_file_pass", "key_passphrase");
    host_keys(&mut draft, section);
    if section.take_flag("use_insecure_cipher") == Some(true) {
        draft.set("allow_insecure_ciphers", "true".to_owned());
    }
    if section.take_flag("disable_hashcheck") == Some(true) {
        draft.set("disable_hash_check", "true".to_owned());
    }
    if let Some(path) = section.take("path_override") {
        match path.strip_prefix('@') {
            Some(root) => draft.set("shell_path", root.to_owned()),
            None => draft.notes.push(
                "path_override is for one path; set shell_path to where a shell sees the root of \
                 SFTP"
                    .into(),
            ),
        }
    }
    connections(&mut draft, section);
    // Whoever is at a terminal is asked anyway.
    section.take_flag("ask_password");
    if let Some(command) = section.take("ssh") {
        match ssh_command(&command, &host, user.as_deref()) {
            Some(command) => draft.set("ssh_command", command),
            None => draft
                .notes
                .push("its ssh command is not understood; set ssh_command if it is needed".into()),
        }
    }
    Ok(draft)
}

fn remote_path(path: &str) -> Result<RemotePath, Reason> {
    let is_relative = |part: &str| matches!(part, "." | "..");
    if path.split('/').any(is_relative) || path.contains('\0') {
        return Err("its path must be without `.` and `..`".into());
    }
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let joined = parts.join("/");
    Ok(match path.starts_with('/') {
        true => RemotePath::Absolute(format!("/{joined}").into_bytes()),
        false => RemotePath::Home(joined.into_bytes()),
    })
}

/// Takes an obscured password.
fn secret(draft: &mut Draft, section: &mut Section, theirs: &str, ours: &'static str) {
    let Some(text) = section.take(theirs) else { return };
    match reveal(&text).filter(|plain| !plain.is_empty()) {
        Some(plain) => draft.set(ours, plain),
        None => draft.notes.push(format!("{theirs} is not in rclone's form: set {ours} anew")),
    }
}

fn keys(draft: &mut Draft, section: &mut Section) {
    let uses_agent = section.take_flag("key_use_agent") == Some(true);
    let key_pem = section.take("key_pem");
    let key_file = path(draft, section, "key_file");
    let certificate = section.take("pubkey");
    let mut public_key_file = path(draft, section, "pubkey_file");
    if uses_agent {
        draft.set("use_agent", "true".to_owned());
    }
    match (key_pem, key_file) {
        // As in rclone, the pasted key goes before the file.
        (Some(pem), _) => draft.set("key", pem),
        (None, Some(file)) if uses_agent => {
            // It says which of the agent's keys is meant.
            public_key_file.get_or_insert(Zeroizing::new(format!("{}.pub", file.as_str())));
        }
        (None, file) => draft.set_if("key_file", file),
    }
    draft.set_if("certificate", certificate);
    draft.set_if("public_key_file", public_key_file);
}

fn host_keys(draft: &mut Draft, section: &mut Section) {
    let file = match section.take("known_hosts_file") {
        Some(file) if file.as_str() == "none" => None,
        Some(file) => expanded(draft, "known_hosts_file", file),
        None => None,
    };
    let keys = section.take("host_keys");
    section.take_flag("pin_host_key");
    if keys.is_none() && file.is_none() {
        draft.notes.push(
            "rclone did not check its host key, Holdfast does: the first contact shows it, to be \
             accepted once"
                .into(),
        );
    }
    draft.set_if("host_key", keys);
    draft.set_if("known_hosts_file", file);
}

fn connections(draft: &mut Draft, section: &mut Section) {
    let Some(text) = section.take("connections") else { return };
    match text.trim().parse() {
        Ok(0) => {}
        Ok(number @ 1..=64_u64) => draft.set("connections", number.to_string()),
        _ => draft.notes.push("connections must be from 1 to 64 here: not taken over".into()),
    }
}

/// Takes a path of this machine.
fn path(draft: &mut Draft, section: &mut Section, key: &str) -> Option<Zeroizing<String>> {
    let path = section.take(key)?;
    expanded(draft, key, path)
}

/// A path in which rclone would fill in variables. The home directory is the one that occurs.
fn expanded(draft: &mut Draft, key: &str, path: Zeroizing<String>) -> Option<Zeroizing<String>> {
    let below_home = ["$HOME/", "${HOME}/"].iter().find_map(|home| path.strip_prefix(home));
    let path = match below_home {
        Some(below) => Zeroizing::new(format!("~/{below}")),
        None => path,
    };
    if path.contains('$') {
        draft
            .notes
            .push(format!("{key} has variables in it, which are not filled in: set it anew"));
        return None;
    }
    Some(path)
}

/// rclone's command names user and host itself and gets `-s sftp` behind it.
fn ssh_command(command: &str, host: &str, user: Option<&str>) -> Option<String> {
    let words = shell_words::split(command).ok()?;
    let full = user.map(|user| format!("{user}@{host}"));
    let is_address = |word: &String| word == host || Some(word) == full.as_ref();
    let at = words.iter().rposition(is_address)?;
    let mut words: Vec<_> =
        words.iter().map(|word| shell_words::quote(word).into_owned()).collect();
    *words.get_mut(at)? = "{}".into();
    words.extend(["-s".to_owned(), "sftp".to_owned()]);
    Some(words.join(" "))
}
