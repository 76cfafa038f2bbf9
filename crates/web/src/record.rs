//! What the record of the console calls a change. Whatever changes something is in it: what has no
//! words here stands there with its address.

use holdfast_app::text::printable;

use crate::view::decoded;

/// Travels with an answer to a request that has words, and yet changed nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unchanged;

/// The words for a `POST` to `path`; `None` for what changes nothing.
pub(crate) fn words(path: &str) -> Option<String> {
    let part = |part: &str| printable(decoded(part.as_bytes()).as_bytes());
    let parts: Vec<_> = path.split('/').skip(1).map(part).collect();
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    Some(match *parts.as_slice() {
        ["appearance"] => return None,
        ["browse", _, _, "picked"] | ["restore", _, _, "preview"] => return None,
        ["trials", _] => "answered whether the key of a server is trusted".into(),
        ["snapshots", at, "picked"] => format!("marked snapshots of {at} to be kept"),
        ["snapshots", at, _] => format!("changed what is said of a snapshot of {at}"),
        ["forget", at] => format!("began to forget snapshots of {at}"),
        ["restore", at, _] => format!("began a restore from {at}"),
        ["unlock", at] => format!("opened the repository at {at}"),
        ["repository", at, "gc"] => format!("began a gc of {at}"),
        ["repository", at, "check"] => format!("began a check of {at}"),
        ["repository", at, "keys"] => format!("added a passphrase to {at}"),
        ["repository", at, "keys", "remove"] => format!("took a key of {at} away"),
        ["plan-form", "preview" | "folders"] | ["storage-form", "key" | "test"] => return None,
        ["storage-form", "save"] => "saved a storage".into(),
        ["storage-form", "new-key"] => "made a key for SFTP".into(),
        ["storages", name, "remove"] => format!("removed the storage {name}"),
        ["storages", name, "create"] => format!("created a repository at {name}"),
        ["storages", name, "open"] => format!("opened the repository at {name}"),
        ["storages", name, "kit"] => format!("made a recovery kit of {name}"),
        ["storages", _, "test"] => return None,
        ["channel-form", "save"] => "saved a channel".into(),
        ["channel-form", "test"] => "sent a test to a channel that was not saved".into(),
        ["channels", name, "remove"] => format!("removed the channel {name}"),
        ["plan-form", "save"] => "saved a plan".into(),
        ["plans", name, "run"] => format!("ran the plan {name}"),
        ["plans", name, "remove"] => format!("removed the plan {name}"),
        ["runs", id, "cancel"] => format!("cancelled run {id}"),
        ["start", "go"] => "set up the first backup".into(),
        ["settings", "password"] => "changed the password".into(),
        ["settings", "factor", "off"] => "turned the second factor off".into(),
        ["settings", "factor", "confirm"] => "turned the second factor on".into(),
        ["settings", "factor"] => return None,
        ["settings", "export"] => "exported the configuration without secrets".into(),
        ["settings", "export", "whole"] => "exported the configuration with its secrets".into(),
        ["settings", "tokens"] => "made a token for a program".into(),
        ["settings", "tokens", "revoke"] => "took a program's token away".into(),
        ["settings", "sessions", "end"] => "ended sessions".into(),
        ["alerts", name, "test"] => format!("sent a test to {name}"),
        ["sign-out"] => "signed out".into(),
        _ => format!("changed /{}", parts.join("/")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_change_is_forgotten() {
        assert_eq!(words("/storages/nas/remove").as_deref(), Some("removed the storage nas"));
        assert_eq!(words("/what/comes/later").as_deref(), Some("changed /what/comes/later"));
        let said = words("/plans/b%C3%BCro+1/run");
        assert_eq!(said.as_deref(), Some("ran the plan b\u{fc}ro+1"));
        assert_eq!(words("/x/%1B[2J").as_deref(), Some("changed /x/\\x1b[2J"));
        for path in ["/trials/00", "/forget/nas", "/repository/nas/keys", "/unlock/nas"] {
            assert!(words(path).is_some_and(|said| !said.starts_with("changed")), "{path}");
        }
        for path in ["/appearance", "/browse/nas/0/picked", "/restore/nas/0/preview"] {
            assert_eq!(words(path), None, "{path}");
        }
    }
}
