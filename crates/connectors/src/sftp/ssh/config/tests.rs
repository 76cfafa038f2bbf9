//! `ssh_config`: what the manual promises, seen on small files.

use std::fs;
use std::path::Path;

use super::*;

fn asking<'a>(host: &'a str, home: &'a Path) -> Asking<'a> {
    Asking { host, user: None, local_user: "me", home }
}

fn settings(text: &str, host: &str) -> Settings {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("config");
    fs::write(&path, text).unwrap();
    let files = [ConfigFile { path, includes: home.path().to_owned() }];
    read(&files, &asking(host, home.path())).unwrap()
}

#[test]
fn the_first_value_wins_and_identities_add_up() {
    let text =
        "Host nas\n  Port 2222\n  IdentityFile a\nHost *\n  Port 1\n  User x\n IdentityFile b\n";
    let found = settings(text, "nas");
    assert_eq!(found.port, Some(2222));
    assert_eq!(found.user.as_deref(), Some("x"));
    assert_eq!(found.identity_files, ["a", "b"]);
    assert_eq!(settings(text, "other").port, Some(1));
}

#[test]
fn patterns_and_negation() {
    let text = "Host *.example.com !bad.example.com web?\n Port 7\n";
    assert_eq!(settings(text, "a.example.com").port, Some(7));
    assert_eq!(settings(text, "WEB1").port, Some(7));
    assert_eq!(settings(text, "bad.example.com").port, None);
    assert_eq!(settings(text, "web12").port, None);
    assert_eq!(
        settings("Host !nas\n Port 7\n", "other").port,
        None,
        "a negation alone matches nothing"
    );
    assert!(pattern::matches("a*b*c", "aXbYbZc") && !pattern::matches("a*b*c", "aXbYbZ"));
    assert!(!pattern::matches(&"*a".repeat(30), &"a".repeat(29)));
}

#[test]
fn forms_of_lines() {
    let text = "# c\n\nHost=nas\n\tHostName = \"10.0.0.1\"\n IDENTITYFILE=\"a b\"  # tail\n\
        UserKnownHostsFile ~/a \"b c\"\n ProxyCommand ssh -W '%h:%p' \"jump host\"\n";
    let found = settings(text, "nas");
    assert_eq!(found.hostname.as_deref(), Some("10.0.0.1"));
    assert_eq!(found.identity_files, ["a b"]);
    assert_eq!(found.user_known_hosts.unwrap(), ["~/a", "b c"]);
    assert_eq!(found.proxy, Some(Proxy::Command("ssh -W '%h:%p' \"jump host\"".into())));
    let jump = settings("ProxyJump none\nProxyCommand x\n", "nas");
    assert_eq!(jump.proxy, Some(Proxy::None), "the first of the two counts");
}

#[test]
fn simple_matches_apply_and_others_do_not() {
    let text = "Match host 10.* originalhost nas\n Port 5\nMatch user me\n Port 6\n\
        Match exec \"true\"\n User evil\nMatch final all\n User evil\n\
        Match !host nas,x\n HostKeyAlias y\nMatch all\n IdentitiesOnly yes\n";
    let found = settings(&format!("Host nas\nHostName 10.1\n{text}"), "nas");
    assert_eq!(found.port, Some(5));
    assert_eq!(found.user, None);
    assert_eq!(found.host_key_alias.as_deref(), Some("y"));
    assert_eq!(found.identities_only, Some(true));
    let found = settings(text, "nas");
    assert_eq!(found.port, Some(6));
    assert_eq!(found.host_key_alias, None);
}

#[test]
fn includes_are_globbed_in_order_and_only_where_the_block_applies() {
    let home = tempfile::tempdir().unwrap();
    let ssh = home.path().join(".ssh");
    fs::create_dir_all(ssh.join("conf.d")).unwrap();
    fs::write(ssh.join("conf.d/2.conf"), "Port 2\n").unwrap();
    fs::write(ssh.join("conf.d/1.conf"), "Host zzz\n Port 9\nHost nas\n Port 1\n").unwrap();
    fs::write(home.path().join("no"), "User no\n").unwrap();
    let path = ssh.join("config");
    fs::write(&path, "Host other\nInclude ~/no\nHost nas\nInclude conf.d/*.conf\nUser u\n")
        .unwrap();
    let files = [ConfigFile { path: path.clone(), includes: ssh.clone() }];
    let found = read(&files, &asking("nas", home.path())).unwrap();
    assert_eq!(found.port, Some(1));
    assert_eq!(found.user.as_deref(), Some("u"), "the block goes on after the include");

    fs::write(&path, "Include config\n").unwrap();
    assert!(matches!(
        read(&files, &asking("nas", home.path())),
        Err(ConfigError::Line { line: 1, .. })
    ));
}

#[test]
fn faulty_lines_are_named() {
    let home = tempfile::tempdir().unwrap();
    for (text, line) in [("User a\nPort x\n", 2), ("HostName \"a\n", 1), ("User\n", 1)] {
        let path = home.path().join("config");
        fs::write(&path, text).unwrap();
        let files = [ConfigFile { path, includes: home.path().to_owned() }];
        match read(&files, &asking("nas", home.path())) {
            Err(ConfigError::Line { line: found, .. }) => assert_eq!(found, line, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn tokens() {
    let tokens = Tokens {
        host: "h",
        original: "n",
        port: 3,
        user: "r",
        local_user: "u",
        home: "/d",
        uid: 4,
        local_host: "l.x",
    };
    assert_eq!(tokens.expand("%d/%u-%r@%h:%p %n %i %l %L %%").unwrap(), "/d/u-r@h:3 n 4 l.x l %");
    assert!(tokens.expand("%z").is_err() && tokens.expand("x%").is_err());
    assert!(tokens.expand("${HOLDFAST_NOT_SET_ANYWHERE}").is_err());
    assert_eq!(tokens.expand("${PATH}").unwrap(), std::env::var("PATH").unwrap());
}

#[test]
fn any_text_is_settings_or_an_error() {
    use holdfast_testkit::{Budget, fuzz_for};

    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("config");
    let corpus = [
        "Host a !b*\nPort 22\nMatch !host=x user y\nProxyCommand a \"b c\" %h\nInclude x*/?\n",
        "IdentityFile='a b' # c\nUserKnownHostsFile ~/a ${HOME}/b\nProxyJump a@[::1]:3\n",
    ];
    let corpus: Vec<_> = corpus.map(|text| text.as_bytes().to_vec()).into();
    let files = [ConfigFile { path: path.clone(), includes: home.path().to_owned() }];
    fuzz_for(Budget::from_env_or(2_000), 7, &corpus, &|input| {
        fs::write(&path, input).unwrap();
        let _ = read(&files, &asking("a", home.path()));
    });
}
