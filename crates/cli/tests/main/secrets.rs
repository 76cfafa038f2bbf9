//! Secrets are planted wherever one can be written, and looked for wherever one could come out:
//! output, errors, JSON, the cache, the configuration's listing, the arguments of processes.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use holdfast_testkit::{S3Operation, S3Refusal, S3Rule, S3Server, S3ServerOptions};

use crate::sandbox::{Answer, Sandbox, answer, files};

/// Every secret of this test holds this.
const MARK: &str = "pLaNtEd";

fn planted(what: &str) -> String {
    format!("{MARK}{what}")
}

/// Commands that the configuration names write down the arguments of all processes.
fn spy(sandbox: &Sandbox, secret: &str) -> String {
    let script = "#!/bin/sh\nfor p in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$p; echo; done \
                  2>/dev/null >>\"$(dirname \"$0\")/seen\"\ncat \"$1\"\n";
    sandbox.write("spy/spy", script.as_bytes());
    let path = sandbox.path("spy/spy");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    sandbox.write(&format!("spy/{secret}.secret"), planted(secret).as_bytes());
    format!("{} {}", path.display(), sandbox.path(&format!("spy/{secret}.secret")).display())
}

#[track_caller]
fn is_clean(answer: &Answer) {
    for text in [&answer.out, &answer.err] {
        assert!(!text.contains(MARK), "{text}");
    }
}

#[test]
fn no_secret_comes_out_anywhere() {
    let sandbox = Sandbox::new();
    sandbox.write_sources();
    let server = S3Server::start(S3ServerOptions {
        access_key: planted("AccessKey"),
        secret_key: planted("SecretKey"),
        ..S3ServerOptions::default()
    });
    let server = server.unwrap();
    let location = format!("s3://{}/bucket/x", server.address());
    let command = |name: &str| spy(&sandbox, name);
    for (name, key, value) in [
        ("s3", "location", location.as_str()),
        ("s3", "use_tls", "false"),
        ("s3", "access_key", "env:PLANTED_ACCESS"),
        ("s3", "secret_access_key_command", &command("SecretKey")),
        ("s3", "passphrase_command", &command("Passphrase")),
        ("wrong", "location", location.as_str()),
        ("wrong", "use_tls", "false"),
        ("wrong", "access_key", &planted("WrongKey")),
        ("wrong", "secret_access_key", &planted("WrongSecret")),
        ("wrong", "session_token", &planted("Token")),
        ("wrong", "passphrase_file", &sandbox.text("spy/Passphrase.secret")),
        ("nas", "location", "sftp://anna@127.0.0.1:1/x"),
        ("nas", "password", &planted("Password")),
        ("nas", "key", &planted("Key")),
        ("nas", "key_passphrase", &planted("KeyPassphrase")),
    ] {
        is_clean(&answer(sandbox.command().args([
            "config",
            "repository",
            "set",
            name,
            key,
            value,
        ])));
    }
    // A slip may be a secret.
    let config = sandbox.config_text() + &format!("\n[repository.slip]\npasswrod = \"{MARK}\"\n");
    std::fs::write(sandbox.config(), config).unwrap();
    let run = |line: &str| {
        let mut command: Command = sandbox.command();
        command.env("PLANTED_ACCESS", planted("AccessKey"));
        command.env("AWS_SECRET_ACCESS_KEY", planted("Environment"));
        let answer = answer(command.args(line.split(' ')));
        is_clean(&answer);
        answer
    };
    run("at @s3 create").ok();
    for line in ["at @s3 backup src", "at @s3 ls", "at @s3 info", "at @s3 check", "test @s3"] {
        run(line).ok();
        run(&format!("{line} --json")).ok();
    }
    run("config").ok();
    for line in ["at @wrong ls", "test @wrong", "test @nas", "at @slip ls", "at @nas ls"] {
        for more in ["", " --json"] {
            assert_ne!(run(&format!("{line}{more}")).code, 0, "{line}");
        }
    }
    for line in ["config repository show", "config repository list", "config"] {
        run(line).ok();
        run(&format!("{line} --json")).ok();
    }
    use S3Refusal as R;
    for refusal in [R::AccessDenied, R::SignatureDoesNotMatch, R::InvalidAccessKeyId] {
        server.add_fault(S3Rule::refuse(refusal));
        assert_ne!(run("at @s3 ls --json").code, 0);
        server.clear_faults();
    }
    server.add_fault(S3Rule::refuse(R::AccessDenied).on(S3Operation::Put));
    assert_ne!(run("at @s3 backup src --force").code, 0);
    for (name, bytes) in files(&sandbox.path("cache")) {
        assert!(!bytes.windows(MARK.len()).any(|part| part == MARK.as_bytes()), "{name}");
    }
    let seen =
        String::from_utf8_lossy(&std::fs::read(sandbox.path("spy/seen")).unwrap()).into_owned();
    assert!(seen.contains("at @s3 backup src"), "the spy saw nothing: {seen}");
    // Nor the arguments of any process, our own included. Those that plant them are over.
    assert!(!seen.contains(MARK), "a secret is an argument of a process");
}
