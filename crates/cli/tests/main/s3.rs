//! The lines of the S3 page against a real S3 server in this process: repositories, sources and
//! destinations in buckets, and what is said when it does not work.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use holdfast_testkit::s3::{S3Tls, Thawed};
use holdfast_testkit::sshd::HostKeyKind;
use holdfast_testkit::{
    Direction, Proxy, S3Fault, S3Object, S3Operation, S3Refusal, S3Rule, S3Server, S3ServerOptions,
    Sshd, SshdOptions,
};
use serde_json::Value;

use crate::sandbox::{Answer, Sandbox, answer, files};

const ACCESS: &str = "AKPLANTEDACCESSKEY42";
const SECRET: &str = "hunter2/Planted+Secret/ofS3hunter2hunter";

/// A sandbox and a server with the buckets `mysuperbucket` and `mybucket`.
pub(crate) struct Cloud {
    pub(crate) sandbox: Sandbox,
    server: S3Server,
}

impl Cloud {
    pub(crate) fn new() -> Self {
        Self::with(S3ServerOptions::default())
    }

    fn with(options: S3ServerOptions) -> Self {
        let server = S3Server::start(S3ServerOptions {
            buckets: vec!["mysuperbucket".into(), "mybucket".into()],
            access_key: ACCESS.into(),
            secret_key: SECRET.into(),
            ..options
        });
        Self { sandbox: Sandbox::with_repository(), server: server.unwrap() }
    }

    /// With a repository at `@s3` that holds one snapshot.
    fn with_snapshot() -> Self {
        let cloud = Self::new();
        cloud.place("s3", "mysuperbucket/here", &[]);
        cloud.run("at @s3 create --key-file home/key").ok();
        cloud.run("at @s3 backup src").ok();
        cloud
    }

    pub(crate) fn run(&self, line: &str) -> Answer {
        self.sandbox.run(line)
    }

    fn set(&self, name: &str, key: &str, value: &str) {
        self.sandbox.run_words(["config", "repository", "set", name, key, value]).ok();
    }

    /// Makes the named location of a bucket with its keys.
    pub(crate) fn place(&self, name: &str, bucket: &str, options: &[(&str, &str)]) {
        let location = format!("s3://{}/{bucket}", self.server.address());
        let all = [("location", location.as_str()), ("use_tls", "false")];
        let keys = [("access_key", ACCESS), ("secret_access_key", SECRET)];
        for (key, value) in all.iter().chain(&keys).chain(options) {
            self.set(name, key, value);
        }
    }

    /// Runs a command line that fails; its error as an event.
    fn error(&self, line: &str) -> Value {
        let answer = self.run(&format!("{line} --json"));
        assert_ne!(answer.code, 0, "{answer:?}");
        for secret in [ACCESS, SECRET] {
            assert!(!answer.out.contains(secret) && !answer.err.contains(secret), "{answer:?}");
        }
        let event = answer.events().pop().unwrap();
        assert!(event["hints"].as_array().is_some_and(|hints| !hints.is_empty()), "{event}");
        event
    }
}

#[test]
fn c1_c2_c4_c5_the_lines_of_the_page() {
    let cloud = Cloud::new();
    let endpoint = cloud.server.address();
    let lines = [
        "config repository create s3-krepository".to_owned(),
        format!("config repository set s3-krepository location s3://{endpoint}/mysuperbucket"),
        format!("config repository set s3-krepository access_key {ACCESS}"),
        format!("config repository set s3-krepository secret_access_key {SECRET}"),
        // The server of the test speaks no TLS.
        "config repository set s3-krepository use_tls false".to_owned(),
        format!("config repository set mys3 location s3://{endpoint}/mybucket"),
        "config repository set mys3 use_tls false".to_owned(),
        format!("config repository set mys3 access_key {ACCESS}"),
        format!("config repository set mys3 secret_access_key {SECRET}"),
    ];
    for line in lines {
        let answer = cloud.run(&line).ok();
        assert_eq!(answer.out.contains("made the location mys3"), line.contains("mybucket"));
    }
    cloud.run("at @s3-krepository create --key-file home/key").ok();
    let src = cloud.sandbox.text("src");
    cloud.run(&format!("at @s3-krepository backup {src}/")).ok();
    let list = cloud.run("at @s3-krepository ls").ok().out;
    assert!(list.lines().nth(1).is_some_and(|line| line.ends_with(&src)), "{list}");
    let to = cloud.sandbox.text("back");
    cloud.run(&format!("at @s3-krepository restore -to {to} latest:{src}")).ok();
    assert_eq!(files(&cloud.sandbox.path("src")), files(&cloud.sandbox.path("back")));
    cloud.run("at @s3-krepository check --read-data").ok();
    // What left this machine is encrypted.
    let keys = cloud.server.keys("mysuperbucket");
    assert!(keys.iter().any(|key| key.starts_with("packs/")), "{keys:?}");
    for key in keys {
        let object = cloud.server.object("mysuperbucket", &key).unwrap();
        assert!(!object.content.windows(5).any(|part| part == b"hello"), "{key}");
    }
}

#[test]
fn a_bucket_is_made_only_if_that_was_asked_for() {
    let cloud = Cloud::new();
    cloud.place("s3", "fresh", &[]);
    let event = cloud.error("at @s3 create --key-file home/key");
    assert_eq!(event["class"], "no such bucket");
    assert!(event["hints"].to_string().contains("create_bucket true"), "{event}");
    cloud.set("s3", "create_bucket", "true");
    let out = cloud.run("test @s3").ok().out;
    assert!(out.contains("it is not there yet"), "{out}");
    assert!(cloud.server.keys("fresh").is_empty());
    cloud.run("at @s3 create --key-file home/key").ok();
    cloud.run("at @s3 backup src").ok();
}

#[test]
fn keys_come_from_the_environment_or_a_profile() {
    let cloud = Cloud::new();
    let location = format!("s3://{}/mybucket", cloud.server.address());
    let with = |options: &[&str], variables: &[(&str, &str)], files: &str| {
        cloud.sandbox.write("home/.aws/credentials", files.as_bytes());
        cloud.set("of-test", "location", &location);
        cloud.set("of-test", "use_tls", "false");
        for option in options {
            let (key, value) = option.split_once('=').unwrap();
            cloud.set("of-test", key, value);
        }
        let mut command = cloud.sandbox.command_with_secret();
        command.args(["test", "@of-test"]).envs(variables.iter().copied());
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        answer(&mut command)
    };
    let profile = format!("[work]\naws_access_key_id={ACCESS}\naws_secret_access_key={SECRET}\n");
    with(&[], &[], "").fails(1, "no valid access key").fails_with("set NAME access_key");
    with(&[], &[("AWS_ACCESS_KEY_ID", ACCESS), ("AWS_SECRET_ACCESS_KEY", SECRET)], "").ok();
    with(&["profile=work"], &[], &profile).ok();
    with(&["profile=other"], &[], &profile).fails(1, "no valid access key");
    cloud.run("config repository unset of-test profile").ok();
    with(&["access_key=AK"], &[], "").fails(1, "secret_access_key is not");
}

#[test]
fn every_refusal_has_a_name_and_a_next_step() {
    let cloud = Cloud::with_snapshot();
    let told = |rule: S3Rule, line: &str, class: &str, hint: &str| {
        cloud.server.clear_faults();
        cloud.server.add_fault(rule);
        let event = cloud.error(&format!("{line} --no-cache -o timeout=500ms"));
        cloud.server.clear_faults();
        assert_eq!(event["class"], class, "{event}");
        assert!(event["hints"].to_string().contains(hint), "{hint}: {event}");
        event.to_string()
    };
    let all = S3Rule::refuse;
    let ls = "at @s3 ls";
    use S3Refusal as R;
    told(all(R::AccessDenied), ls, "permission denied", "give the access key s3:GetObject");
    let listing = all(R::AccessDenied).on(S3Operation::List);
    let denied = told(listing, ls, "permission denied", "s3:ListBucket");
    assert!(denied.contains("arn:aws:s3:::mysuperbucket\\\""), "{denied}");
    let writing = all(R::AccessDenied).on(S3Operation::Put);
    told(writing, "at @s3 backup src --force", "permission denied", "s3:PutObject");
    let deleting = all(R::AccessDenied).on(S3Operation::Delete);
    told(deleting, "at @s3 forget latest", "permission denied", "s3:DeleteObject");
    told(all(R::InvalidAccessKeyId), ls, "authentication", "set NAME access_key");
    told(all(R::ExpiredToken), ls, "authentication", "session_token");
    told(all(R::SignatureDoesNotMatch), ls, "authentication", "set NAME secret_access_key");
    let skewed = told(all(R::RequestTimeTooSkewed), ls, "clock skew", "set-ntp true");
    assert!(skewed.contains("the server says it is 20"), "{skewed}");
    told(all(R::SlowDown), ls, "slow down", "connections=4");
    told(all(R::InternalError), ls, "i/o", "try again later");
    told(all(R::PermanentRedirect("eu-west-9".into())), ls, "wrong region", "region eu-west-9");
    let full = all(R::QuotaExceeded).on(S3Operation::Put);
    told(full, "at @s3 backup src --force", "no space", "raise the quota");
    let full = all(R::InsufficientStorage).on(S3Operation::Put);
    told(full, "at @s3 backup src --force", "no space", "what was written so far is kept");
    let cold = all(R::InvalidObjectState).on(S3Operation::Get).key("here/packs/*");
    let src = cloud.sandbox.text("src");
    let cat = format!("at @s3 cat latest:{src}/a.txt");
    let cold = told(cold, &cat, "cold object", "aws s3api restore-object --bucket mysuperbucket");
    assert!(cold.contains("--key here/packs/"), "{cold}");
    let locked = all(R::Other(403, "ObjectLocked")).on(S3Operation::Delete);
    told(locked, "at @s3 forget latest", "locked", "when its retention ends");
    let bad = all(R::Other(400, "BadDigest")).on(S3Operation::Put);
    told(bad, "at @s3 backup src --force", "i/o", "this machine's memory is bad");
    let flipped = S3Rule::new(S3Fault::FlipBit).on(S3Operation::Get).key("here/config");
    told(flipped, ls, "damage", "check --read-data");
    told(all(R::NotImplemented), ls, "unsupported", "leave out what this server does not know");
    let class = all(R::Other(400, "InvalidStorageClass")).on(S3Operation::Put);
    told(class, "at @s3 backup src --force", "configuration", "unset NAME storage_class");
    cloud.run(ls).ok();
}

#[test]
fn the_way_to_the_server_has_names_too() {
    let cloud = Cloud::new();
    cloud.place("s3", "mybucket", &[]);
    let class = |location: &str| {
        cloud.set("s3", "location", location);
        let event = cloud.error("at @s3 -o timeout=1s ls");
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        (text("class"), text("stage"))
    };
    let told = |class: &str, stage: &str| (class.to_owned(), stage.to_owned());
    assert_eq!(class("s3://no-such-host.invalid/b"), told("name not found", "resolve"));
    assert_eq!(class("s3://127.0.0.1:1/b"), told("refused", "connect"));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("s3://{}/b", silent.local_addr().unwrap());
    assert_eq!(class(&silent).0, "timeout");
    let page = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("s3://{}/b", page.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in page.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let body = "<html>welcome</html>";
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close";
            let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    cloud.set("s3", "location", &place);
    assert_eq!(cloud.error("test @s3")["class"], "wrong endpoint");
    // What lies in between cuts every connection.
    let proxy = Proxy::start(cloud.server.address()).unwrap();
    proxy.cut_every(Direction::Down, 40, u32::MAX);
    cloud.set("s3", "location", &format!("s3://{}/mybucket", proxy.address()));
    let event = cloud.error("at @s3 -o timeout=1s ls");
    assert_eq!((&event["class"], &event["stage"]), (&"unreachable".into(), &"request".into()));
    assert!(event["hints"].to_string().contains("connections=4"), "{event}");
    assert!(proxy.cuts() > 1, "it was tried again");
}

#[test]
fn a_missing_bucket_is_named_and_is_no_missing_repository() {
    let cloud = Cloud::new();
    cloud.place("s3", "nowhere/here", &[]);
    for line in ["at @s3 ls", "at @s3 backup src"] {
        let event = cloud.error(line);
        assert_eq!(event["class"], "no such bucket", "{event}");
        assert!(event["message"].as_str().is_some_and(|m| m.contains("nowhere")), "{event}");
    }
    cloud.place("s3", "mybucket/here", &[]);
    let event = cloud.error("at @s3 ls");
    assert_eq!((&event["class"], &event["exit_code"]), (&"no repository".into(), &10.into()));
}

#[test]
fn what_a_restore_needs_is_brought_back_from_an_archive() {
    let cloud = Cloud::new();
    cloud.place("s3", "mysuperbucket", &[("storage_class", "GLACIER")]);
    cloud.run("at @s3 create --key-file home/key").ok();
    for (name, factor) in [("old", 3), ("new", 5)] {
        let numbers = (0..60_000_u32).map(|i| i.wrapping_mul(i).wrapping_mul(factor));
        let content: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
        cloud.sandbox.write(&format!("src/{name}"), &content);
        cloud.run(&format!("at @s3 backup src/{name}")).ok();
    }
    let packs = |thawed: Thawed| {
        let keys = cloud.server.keys("mysuperbucket").into_iter();
        let objects = keys.filter_map(|key| cloud.server.object("mysuperbucket", &key));
        let cold = objects.filter(|o| o.storage_class.as_deref() == Some("GLACIER"));
        cold.filter(|object| object.thawed == thawed).count()
    };
    assert_eq!(packs(Thawed::No), 2);
    let to = cloud.sandbox.text("back");
    let line = format!("at @s3 restore latest -to {to}");
    cloud.run(&line).fails(14, "archived").fails_with("restore … --warm-up");
    std::fs::remove_dir_all(cloud.sandbox.path("back")).unwrap();
    let warm_up = format!("{line} --warm-up");
    let dry_run = format!("{warm_up} --dry-run");
    cloud.run(&dry_run).fails(2, "cannot be used with");
    cloud.run(&format!("{line} --warm-up=0")).fails(2, "0 is not in 1..=365");
    let first = cloud.run(&format!("{line} --warm-up=3"));
    first
        .fails(14, "packs needed that are still archived: 1 of 1")
        .fails_with("asked for now, to be readable for 3 days: 1")
        .fails_with("come back in about 5 hours");
    // What this restore does not need stays where it is.
    assert_eq!((packs(Thawed::No), packs(Thawed::Asked)), (1, 1));
    let event = cloud.error(&warm_up);
    assert_eq!((&event["class"], &event["exit_code"]), (&"cold object".into(), &14.into()));
    assert!(event.to_string().contains("asked for before"), "{event}");
    assert!(!cloud.sandbox.path("back").exists());
    cloud.server.thaw();
    cloud.run(&warm_up).ok();
    let restored = files(&cloud.sandbox.path("back"));
    assert!(restored[0].0.ends_with("src/new"), "{}", restored[0].0);
    let content = std::fs::read(cloud.sandbox.path("src/new")).unwrap();
    assert_eq!(restored[0].1, content);
    // What is there already needs no pack, and a place without archives has nothing to bring back.
    for key in cloud.server.keys("mysuperbucket") {
        cloud.server.change("mysuperbucket", &key, |object| object.thawed = Thawed::No);
    }
    cloud.run(&warm_up).ok();
    cloud.sandbox.backup();
    cloud.run(&format!("at repo restore latest -to {to}-local --warm-up")).ok();
    // check reads all packs.
    cloud.run("at @s3 check --warm-up").fails(2, "--read-data");
    cloud.run("at @s3 check --read-data --warm-up").fails(14, "still archived");
    assert_eq!(cloud.server.thaw(), 2);
    cloud.run("at @s3 check --read-data --warm-up").ok();
}

#[test]
fn gc_extends_the_lock_of_what_is_needed_and_of_nothing_else() {
    let cloud = Cloud::with(S3ServerOptions { object_lock: true, ..S3ServerOptions::default() });
    cloud.place("locked", "mysuperbucket/here", &[("object_lock", "10")]);
    cloud.run("at @locked create --key-file home/key").ok();
    cloud.run("at @locked backup src").ok();
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let all = || cloud.server.keys("mysuperbucket");
    let until = |key: &str| {
        let versions = cloud.server.versions("mysuperbucket", key);
        versions.iter().filter_map(|version| version.retention).map(|lock| lock.until).max()
    };
    let age = |by: u64| {
        for key in all() {
            cloud.server.change("mysuperbucket", &key, |object| {
                object.modified -= days(by);
                if let Some(lock) = &mut object.retention {
                    lock.until -= days(by);
                }
            });
        }
    };
    let gc = || {
        let summary = cloud.run("at @locked gc --json").ok().events().pop().unwrap();
        summary["locked_again"].as_u64().unwrap()
    };
    age(4);
    assert_eq!(gc(), 0, "not half of the time is over");
    age(2);
    let mut kept = all();
    kept.retain(|key| until(key).is_some());
    assert!(kept.len() > 5, "{kept:?}");
    assert_eq!(gc(), kept.len() as u64);
    assert_eq!(gc(), 0, "the locks are new, though the objects are old");
    // Locks that are to be shorter from now on run out as they are.
    cloud.place("shorter", "mysuperbucket/here", &[("object_lock", "2")]);
    cloud.run("at @shorter gc").ok();
    let soon = SystemTime::now() + days(9);
    for key in &kept {
        assert!(until(key).is_some_and(|until| until > soon), "{key}");
    }
    // What a gc removes is not locked for longer than it was.
    cloud.sandbox.write("src/other", &[7; 100_000]);
    cloud.run("at @locked backup src").ok();
    age(6);
    cloud.run("at @locked forget latest~1").ok();
    assert!(gc() > 0);
    let left = all();
    let (stay, gone): (Vec<_>, Vec<_>) = kept.iter().partition(|key| left.contains(key));
    assert!(gone.iter().any(|key| key.contains("/snapshots/")), "{gone:?}");
    assert!(stay.iter().all(|key| until(key).is_some_and(|until| until > soon)));
    assert!(gone.iter().all(|key| until(key).is_some_and(|until| until < soon)), "{gone:?}");
    cloud.run("at @locked check --read-data").ok();

    let denied = S3Rule::refuse(S3Refusal::AccessDenied).on(S3Operation::Retention);
    cloud.server.add_fault(denied);
    age(6);
    let error = cloud.error("at @locked gc");
    assert_eq!(error["class"], "permission denied");
    assert!(error.to_string().contains("s3:PutObjectRetention"), "{error}");
}

#[test]
fn certificates_are_verified_and_can_be_named() {
    let with = |tls: S3Tls| Cloud::with(S3ServerOptions { tls, ..S3ServerOptions::default() });
    let cloud = with(S3Tls::On);
    cloud.place("s3", "mybucket", &[("use_tls", "true")]);
    let event = cloud.error("test @s3");
    assert_eq!((&event["class"], &event["stage"]), (&"tls".into(), &"tls".into()));
    assert!(event["hints"].to_string().contains("tls_ca_file FILE"), "{event}");
    cloud.run("test @s3 --json").fails(1, "certificate");
    cloud.set("s3", "tls_ca_file", cloud.server.ca_file().unwrap().to_str().unwrap());
    cloud.run("test @s3").ok();
    for (tls, words) in [(S3Tls::WrongName, "not valid for name"), (S3Tls::Expired, "expired")] {
        let cloud = with(tls);
        cloud.place("s3", "mybucket", &[("use_tls", "true")]);
        cloud.set("s3", "tls_ca_file", cloud.server.ca_file().unwrap().to_str().unwrap());
        let event = cloud.error("test @s3");
        assert_eq!(event["class"], "tls");
        assert!(event.to_string().contains(words), "{event}");
        cloud.set("s3", "tls_insecure_no_verify", "true");
        cloud.run("test @s3").ok();
    }
    // TLS where there is none.
    let cloud = Cloud::new();
    cloud.place("s3", "mybucket", &[("use_tls", "true")]);
    let event = cloud.error("test @s3");
    assert_eq!(event["class"], "tls");
    assert!(event["hints"].to_string().contains("use_tls false"), "{event}");
}

#[test]
fn the_staged_test_tells_each_step_and_what_keys_may_not_do() {
    let cloud = Cloud::new();
    cloud.place("s3", "mybucket/p", &[]);
    for line in ["test @s3", "config repository test s3"] {
        let out = cloud.run(line).ok().out;
        for step in ["settings", "resolve", "connect", "bucket", "list", "write", "read"]
            .into_iter()
            .chain(["conditional write", "delete", "speed"])
        {
            assert!(
                out.lines().any(|l| l.starts_with(step) && l.contains(" ok ")),
                "{step}: {out}"
            );
        }
        assert!(out.contains("region us-east-1"), "{out}");
    }
    assert!(cloud.server.keys("mybucket").is_empty(), "what it wrote is gone");
    let limited = |operation: S3Operation, step: &str, words: &str| {
        cloud.server.clear_faults();
        cloud.server.add_fault(S3Rule::refuse(S3Refusal::AccessDenied).on(operation));
        let events = cloud.run("test @s3 --json").ok().events();
        let last = events.last().unwrap();
        assert_eq!((&last["step"], &last["outcome"]), (&step.into(), &"limited".into()));
        assert!(last["detail"].as_str().unwrap().contains(words), "{last}");
    };
    limited(S3Operation::Put, "write", "can be a source");
    limited(S3Operation::Delete, "overwrite", "can be destroyed that way");
    // Keys that cannot delete leave one small object behind, and the large one is not written.
    assert_eq!(cloud.server.keys("mybucket").len(), 1);
    let out = cloud.run("test @s3").ok().out;
    assert!(out.contains("nothing can be removed"), "{out}");
    cloud.server.clear_faults();
    cloud.server.add_fault(S3Rule::refuse(S3Refusal::AccessDenied).on(S3Operation::List));
    assert!(cloud.error("test @s3")["hints"].to_string().contains("s3:ListBucket"));
    cloud.server.clear_faults();
    cloud.set("s3", "storage_class", "STANDARD_IA");
    let out = cloud.run("test @s3").ok().out;
    assert!(out.lines().any(|line| line.starts_with("storage class")), "{out}");
}

impl Cloud {
    /// Puts an object into `mybucket` by hand.
    fn put(&self, key: &str, content: &[u8]) {
        let object = S3Object::new(content.to_vec());
        assert!(self.server.put("mybucket", key, object), "{key}");
    }

    /// What `mybucket` holds below a prefix.
    fn objects(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let keys = self.server.keys("mybucket").into_iter();
        let below = keys.filter_map(|key| Some((key.strip_prefix(prefix)?.to_owned(), key)));
        below
            .map(|(name, key)| {
                (name, self.server.object("mybucket", &key).unwrap().content.to_vec())
            })
            .collect()
    }
}

impl Cloud {
    /// Makes the named location `nas`: a folder of the sandbox on an SFTP server, which is returned.
    fn nas(&self, folder: &str) -> Sshd {
        let made = self.run("config repository generate-key nas").ok();
        let authorized_keys = vec![made.out.trim_end().to_owned()];
        let sshd = Sshd::start(SshdOptions { authorized_keys, ..SshdOptions::default() }).unwrap();
        let known = sshd.known_hosts_line(HostKeyKind::Ed25519).unwrap();
        self.sandbox.write("home/.ssh/known_hosts", known.as_bytes());
        let there = self.sandbox.text(folder);
        let location = format!("sftp://{}@127.0.0.1:{}{there}", sshd.user(), sshd.port());
        self.set("nas", "location", &location);
        sshd
    }
}

#[test]
fn c4_sync_from_s3_to_sftp_to_local_and_back() {
    let cloud = Cloud::with_snapshot();
    let _sshd = cloud.nas("far");
    cloud.run("at @nas create --key-file home/key").ok();
    cloud.run("at @s3 sync to @nas").ok();
    cloud.run("at local create --key-file home/key").ok();
    cloud.run("at local sync from @nas").ok();
    cloud.sandbox.write("src/more", b"more");
    cloud.run("at local backup src").ok();
    let back = cloud.run("at local sync to @s3").ok().out;
    assert!(back.contains("1 snapshot copied"), "what came from there is there: {back}");
    let src = cloud.sandbox.text("src");
    for (number, at) in ["@nas", "local", "@s3"].into_iter().enumerate() {
        cloud.run(&format!("at {at} check --read-data")).ok();
        let to = format!("back{number}");
        cloud.run(&format!("at {at} restore latest:{src} --to {to}")).ok();
        let mut wanted = files(&cloud.sandbox.path("src"));
        wanted.retain(|(name, _)| at != "@nas" || name != "more");
        assert_eq!(files(&cloud.sandbox.path(&to)), wanted, "{at}");
    }
}

#[test]
fn c2_a_bucket_is_a_source() {
    let cloud = Cloud::with_snapshot();
    cloud.place("mys3", "mybucket", &[]);
    cloud.put("photos/a.jpg", b"a photo");
    cloud.put("photos/2024/b.jpg", &[9; 70_000]);
    cloud.put("notes", b"text");
    cloud.run("at @s3 backup @mys3").ok();
    let list = cloud.run("at @s3 ls").ok().out;
    let host = cloud.server.address().to_string();
    assert!(list.lines().any(|l| l.contains(&host) && l.ends_with("/mybucket")), "{list}");
    let again = cloud.run("at @s3 backup @mys3 --json").ok().events().pop().unwrap();
    assert_eq!(
        (&again["bytes_read"], &again["files_unchanged"]),
        (&0.into(), &3.into()),
        "{again}"
    );
    // S3 to a local directory.
    let to = cloud.sandbox.text("back");
    cloud.run(&format!("at @s3 restore -to {to} latest:/mybucket")).ok();
    assert_eq!(files(&cloud.sandbox.path("back")), cloud.objects(""));
    // What lies below a name, and a location on the command line with keys of the environment.
    cloud.run("at repo backup @mys3:/photos").ok();
    let one = cloud.run("at repo cat latest:/mybucket/photos/a.jpg").ok().out;
    assert_eq!(one, "a photo");
    // The repository is not backed up into itself.
    cloud.place("all", "mysuperbucket", &[]);
    let all = cloud.run("at @s3 backup @all --json").ok().events().pop().unwrap();
    assert_eq!(all["files"], 0, "{all}");
}

#[test]
fn c4_from_local_by_s3_to_a_bucket_and_back() {
    let cloud = Cloud::with_snapshot();
    cloud.place("other", "mybucket/restored", &[]);
    let src = cloud.sandbox.text("src");
    std::fs::remove_file(cloud.sandbox.path("src/link")).unwrap();
    cloud.run("at @s3 backup src").ok();
    cloud.run(&format!("at @s3 restore -to @other latest:{src}")).ok();
    let objects = cloud.objects("restored/");
    for (name, content) in files(&cloud.sandbox.path("src")) {
        assert!(objects.contains(&(name.clone(), content)), "{name}: {objects:?}");
    }
    cloud.run("at repo backup @other").ok();
    let to = cloud.sandbox.text("back");
    cloud.run(&format!("at repo restore -to {to} latest:/mybucket/restored")).ok();
    assert_eq!(files(&cloud.sandbox.path("src")), files(&cloud.sandbox.path("back")));
}

#[test]
fn c4_from_s3_by_a_local_repository_to_sftp() {
    let cloud = Cloud::new();
    cloud.place("mys3", "mybucket", &[]);
    cloud.put("deep/er/x", &[1; 5000]);
    cloud.put("y", b"y");
    cloud.run("at repo backup @mys3").ok();
    let _sshd = cloud.nas("there");
    cloud.run("at repo restore -to @nas latest:/mybucket").ok();
    assert_eq!(files(&cloud.sandbox.path("there")), cloud.objects(""));
}
