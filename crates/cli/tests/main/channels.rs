//! Channels of notifications on the command line.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::sandbox::Sandbox;

/// Answers one request; what it was.
fn serve_one() -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/s3cret-topic", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        let mut said = String::new();
        while !said.contains("notifications come through") {
            let read = stream.read(&mut bytes).unwrap();
            assert!(read > 0, "{said}");
            said.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        said
    });
    (url, served)
}

#[test]
fn a_channel_is_made_tried_changed_and_removed() {
    let sandbox = Sandbox::new();
    let (url, served) = serve_one();
    // The secret address comes in by standard input.
    let made = sandbox.run_with_input("channel create phone ntfy", format!("{url}\n").as_bytes());
    assert!(made.ok().out.contains("holdfast channel test phone"));
    sandbox.run_bare("channel test phone").ok();
    assert!(served.join().unwrap().starts_with("POST /s3cret-topic "));
    let set = sandbox.run_with_input("channel set phone token --json", b"t0ken").ok();
    assert_eq!(set.events()[0]["done"], "changed");
    let shown = sandbox.run_bare("channel show").ok().out;
    assert!(shown.contains("token = \"********\"") && !shown.contains("s3cret"), "{shown}");
    // Another form takes its place, and what it says is no secret.
    sandbox.write("home/token", b"t0ken");
    let set = sandbox.run_bare("channel set phone token_file home/token").ok();
    assert!(set.err.contains("token is gone"), "{}", set.err);
    let shown = sandbox.run_bare("channel show phone --json").ok().events();
    assert_eq!(shown[0]["keys"]["token_file"], sandbox.text("home/token"));
    sandbox.run_bare("channel unset phone token").ok();
    assert!(!sandbox.config_text().contains("token"), "{}", sandbox.config_text());
    sandbox.run_bare("channel unset phone token").fails(2, "phone has no token");
    sandbox.run_bare("channel unset phone url").fails(1, "url is not set");
    sandbox.run("at repo create").ok();
    sandbox.write_sources();
    sandbox.run("config repository set nas location repo").ok();
    let notify = "notify={ phone = [\"failure\"] }";
    sandbox.run_words(["plan", "create", "home", "--to", "@nas", "--set", notify, "src"]).ok();
    let removed = sandbox.run_bare("channel remove phone --json").ok().events();
    assert_eq!(removed.last().unwrap()["plans"], serde_json::json!(["home"]));
    let text = sandbox.config_text();
    assert!(!text.contains("phone") && !text.contains("notify"), "{text}");
}

#[test]
fn slips_are_told_and_no_secret_has_to_be_typed() {
    let sandbox = Sandbox::new();
    let create = |words: &[&str]| sandbox.run_words(["channel", "create"].iter().chain(words));
    create(&["x", "sms"]).fails(2, "it is one of mail, webhook");
    create(&["x", "ntfy", "urll=https://x"]).fails(2, "did you mean url?");
    create(&["x", "ntfy", "https://x"]).fails(2, "KEY=VALUE");
    create(&["x", "ntfy", "url=ftp://x"]).fails(1, "must begin with https://");
    create(&["x", "ntfy"]).fails(2, "url_file=FILE");
    create(&["x", "mail", "server=s", "from=a@x.example"]).fails(1, "to is not set");
    create(&["x", "mail", "server=s", "from=a", "to=b@x.example"]).fails(1, "no address of mail");
    // Before it is asked for the password.
    create(&["x", "mail", "server=s", "from=a@x.example", "username=a"]).fails(1, "to is not set");
    sandbox.run_bare("channel set x url").fails(1, "there is no channel x");
    assert!(!sandbox.config().exists());
    let line = ["m", "mail", "server=s", "from=a@x.example", "to=b@x.example,c@x.example"];
    create(&line).ok();
    assert!(sandbox.config_text().contains("to = [\"b@x.example\", \"c@x.example\"]"));
    create(&line).fails(1, "there is a channel m already");
    // A value may begin with a dash.
    sandbox.run_bare("channel set m title -value").ok();
    assert!(sandbox.config_text().contains("title = \"-value\""), "{}", sandbox.config_text());
    sandbox.run_bare("channel set m url").fails(2, "no key of a mail channel");
    let typed = sandbox.run_bare("channel set m title s").ok();
    assert!(!typed.err.contains("history"), "{}", typed.err);
    let typed = create(&["y", "slack", "url=https://hooks.example/1"]).ok();
    assert!(typed.err.contains("holdfast channel set y url"), "{}", typed.err);
    let listed = sandbox.run_bare("channel list --json").ok().events();
    assert_eq!((listed.len(), &listed[1]["kind"]), (2, &"slack".into()));
}
