//! What the record of the console calls a change. Whatever changes something is in it: what has no
//! words here stands there with its address.

/// The words for a `POST` to `path`; `None` for what changes nothing.
pub(crate) fn words(path: &str) -> Option<String> {
    let parts: Vec<_> = path.split('/').skip(1).collect();
    Some(match *parts.as_slice() {
        ["appearance" | "trials", ..] => return None,
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
        _ => format!("changed {}", holdfast_app::text::printable(path.as_bytes())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_change_is_forgotten() {
        assert_eq!(words("/storages/nas/remove").as_deref(), Some("removed the storage nas"));
        assert_eq!(words("/what/comes/later").as_deref(), Some("changed /what/comes/later"));
        assert_eq!(words("/appearance"), None);
    }
}
