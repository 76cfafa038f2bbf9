//! What is decided before the first packet.

use std::fs;

use super::*;

fn options(home: &Path, host: &str) -> SshOptions {
    SshOptions {
        host: host.into(),
        home: Some(home.to_owned()),
        ssh_config: ConfigFiles::Files(vec![home.join("config")]),
        use_agent: Some(false),
        ..SshOptions::default()
    }
}

#[test]
fn options_beat_the_file_and_tokens_are_replaced() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    fs::write(
        home.join("config"),
        "Host nas\nHostName %h.lan\nUser anna\nPort 2022\nIdentityFile ~/.ssh/%r-%h\n\
         CertificateFile ~/c\nUserKnownHostsFile ~/known-%p\nProxyJump bob@gate:23,[::1]:24\n\
         IdentityAgent ~/agent\nHostKeyAlias %n-key\n",
    )
    .unwrap();
    let mut asked = options(home, "nas");
    asked.use_agent = None;
    let target = resolve(&asked).unwrap();
    assert_eq!(target.shown(), "anna@nas.lan:2022");
    assert_eq!(target.identities, [home.join(".ssh/anna-nas.lan")]);
    assert_eq!(target.certificates, [home.join("c")]);
    assert_eq!(target.known_hosts, [home.join("known-2022")]);
    assert_eq!(target.agent, Some(home.join("agent")));
    assert_eq!(target.key_alias.as_deref(), Some("nas-key"));
    let hop = |host: &str, user: Option<&str>, port| Hop {
        host: host.into(),
        user: user.map(Into::into),
        port: Some(port),
    };
    assert_eq!(target.route, Route::Jump(vec![hop("gate", Some("bob"), 23), hop("::1", None, 24)]));

    let asked = SshOptions {
        port: Some(5),
        username: Some("root".into()),
        proxy_jump: Some("none".into()),
        ..asked
    };
    let target = resolve(&asked).unwrap();
    assert_eq!((target.port, target.user.as_str()), (5, "root"));
    assert_eq!(target.route, Route::Direct);
    assert_eq!(target.identities, [home.join(".ssh/root-nas.lan")]);
}

#[test]
fn proxy_commands_run_without_a_shell_or_not_at_all() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    fs::write(home.join("config"), "ProxyCommand exec nc -X '5 x' %h %p\n").unwrap();
    let target = resolve(&options(home, "nas")).unwrap();
    let words = ["nc", "-X", "5 x", "nas", "22"].map(String::from).to_vec();
    assert_eq!(target.route, Route::Command(words));
    fs::write(home.join("config"), "ProxyCommand nc %h %p | tee log\n").unwrap();
    assert!(resolve(&options(home, "nas")).unwrap_err().contains("shell"));
}

#[test]
fn names_that_would_be_options_are_refused() {
    let home = tempfile::tempdir().unwrap();
    for name in ["-oProxyCommand=x", "", "a b", "a\nb", "a/b"] {
        assert!(resolve(&options(home.path(), name)).is_err(), "{name:?}");
    }
    let mut asked = options(home.path(), "nas");
    asked.username = Some("-l".into());
    assert!(resolve(&asked).is_err());
    asked.username = None;
    asked.proxy_jump = Some("-x".into());
    assert!(resolve(&asked).is_err());
}

#[test]
fn a_timeout_that_no_clock_can_tell_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut asked = options(home.path(), "nas");
    asked.timeout = std::time::Duration::MAX;
    assert!(resolve(&asked).unwrap_err().contains("timeout"));
}
