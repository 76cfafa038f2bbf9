//! The main path on S3 servers that are not ours. `./test --long` starts them (`.ci/s3-servers`) and
//! names them in `HOLDFAST_S3_SERVERS`, a line each: name, address, access key, secret key, region.

use std::io::Write;

use holdfast_testkit::clock::random_bytes;

use crate::sandbox::{Sandbox, files};

/// A server as the environment names it.
struct Server<'a> {
    name: &'a str,
    address: &'a str,
    access: &'a str,
    secret: &'a str,
    region: &'a str,
}

impl<'a> Server<'a> {
    fn parse(line: &'a str) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, address, access, secret, region] = words[..] else { panic!("{line}") };
        Self { name, address, access, secret, region }
    }

    /// Names a bucket there, with more options.
    fn place(&self, sandbox: &Sandbox, name: &str, bucket: &str, options: &[(&str, &str)]) {
        let location = format!("s3://{}/{bucket}", self.address);
        let all = [
            ("location", location.as_str()),
            ("use_tls", "false"),
            ("access_key", self.access),
            ("secret_access_key", self.secret),
            ("region", self.region),
            ("create_bucket", "true"),
        ];
        for (key, value) in all.iter().chain(options) {
            sandbox.run_words(["config", "repository", "set", name, key, value]).ok();
        }
    }
}

#[test]
#[ignore = "needs S3 servers that are not ours: ./test --long starts them"]
fn the_main_path_works_on_servers_that_are_not_ours() {
    let servers = std::env::var("HOLDFAST_S3_SERVERS").expect("HOLDFAST_S3_SERVERS is not set");
    let servers: Vec<Server<'_>> = servers.lines().map(Server::parse).collect();
    assert!(!servers.is_empty());
    for server in &servers {
        say(&format!("== {}", server.name));
        main_path(server);
        locked(server);
    }
}

/// For whoever reads the log of `./test --long`.
fn say(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

fn main_path(server: &Server<'_>) {
    let sandbox = Sandbox::with_repository();
    let stamp = std::process::id();
    server.place(&sandbox, "cloud", &format!("hf-{stamp}/re po/ü"), &[]);
    server.place(&sandbox, "data", &format!("hf-{stamp}-data"), &[]);
    sandbox.write("src/large", &random_bytes(5, 40 << 20));
    for number in 0..300 {
        sandbox.write(&format!("src/many/{number}"), format!("{number}").as_bytes());
    }
    sandbox.run("test @cloud").ok();
    sandbox.run("at @cloud create --key-file home/key").ok();
    sandbox.run("at @cloud create --key-file home/key").fails(1, "already");
    let src = sandbox.text("src");
    sandbox.run(&format!("at @cloud backup {src}")).ok();
    sandbox.write("src/a.txt", b"changed\n");
    sandbox.run(&format!("at @cloud backup {src}")).ok();
    assert_eq!(sandbox.run("at @cloud ls --json").ok().events().len(), 2);
    sandbox.run(&format!("at @cloud restore latest:{src} --to back")).ok();
    assert_eq!(files(&sandbox.path("src")), files(&sandbox.path("back")));
    sandbox.run("at @cloud check --read-data").ok();

    // A bucket as destination and as source.
    sandbox.run(&format!("at @cloud restore latest:{src} --to @data")).ok();
    sandbox.run("at @cloud backup @data").ok();
    let again = sandbox.run("at @cloud backup @data --json").ok().events().pop().unwrap();
    assert_eq!(again["bytes_read"], 0, "{again}");
    let bucket = format!("/hf-{stamp}-data");
    sandbox.run(&format!("at @cloud restore latest:{bucket} --to from-bucket")).ok();
    let wanted = files(&sandbox.path("src")).into_iter().filter(|(name, _)| name != "link");
    let there = files(&sandbox.path("from-bucket"));
    assert_eq!(
        there.into_iter().filter(|(name, _)| name != "link").collect::<Vec<_>>(),
        wanted.collect::<Vec<_>>()
    );

    sandbox.run("at @cloud sync to repo").ok();
    sandbox.run("at repo check --read-data").ok();
    sandbox.run("at @cloud forget --keep-last 1 --apply --gc").ok();
    sandbox.run("at @cloud check --read-data").ok();
    sandbox.run(&format!("at @cloud restore latest:{bucket} --to last")).ok();
    assert_eq!(files(&sandbox.path("last")), files(&sandbox.path("from-bucket")));
}

/// With object lock, where the server has it.
fn locked(server: &Server<'_>) {
    let sandbox = Sandbox::with_repository();
    let bucket = format!("hf-{}-locked", std::process::id());
    server.place(&sandbox, "locked", &bucket, &[("object_lock", "1")]);
    let made = sandbox.run("at @locked create --key-file home/key");
    if made.code != 0 {
        say(&format!("{} has no object lock: {}", server.name, made.err));
        return;
    }
    sandbox.run("at @locked backup src").ok();
    sandbox.run("at @locked backup src --force").ok();
    sandbox.run("at @locked forget latest~1").ok();
    sandbox.run("at @locked gc").ok();
    sandbox.run("at @locked check --read-data").ok();
}
