//! The configuration file and named locations. Rows C1 and C2 of the requirements stand here as
//! far as they need no server.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use std::io::{Read, Write};
use std::process::Stdio;

use crate::sandbox::{Answer, Sandbox, answer, files};

pub(crate) const KEY: &str =
    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn==\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----";

fn mode(sandbox: &Sandbox) -> u32 {
    sandbox.config().metadata().unwrap().permissions().mode() & 0o777
}

fn set(sandbox: &Sandbox, name: &str, key: &str, value: &str) -> Answer {
    sandbox.run_words(["config", "repository", "set", name, key, value])
}

#[test]
fn c1_the_lines_of_the_document_word_for_word() {
    let sandbox = Sandbox::new();
    let lines = [
        "config repository create s3-krepository",
        "config repository set s3-krepository location s3://s3.fr-par.scw.cloud/mysuperbucket",
        "config repository set s3-krepository access_key AKXXXXXXXX",
        "config repository set s3-krepository secret_access_key hunter2hunter2",
        "config repository set mys3 location s3://s3.us-east-1.amazonaws.com/mybucket",
        "config repository set mys3 location s3://localhost:9000/mybucket",
        "config repository set mys3 use_tls false",
        "config repository set mys3 location s3://s3.fr-par.scw.cloud/mybucket",
        "config repository set mys3 location s3://s3.eu-central-003.backblazeb2.com/mybucket",
        "config repository set mys3 location s3://cellar-c2.services.clever-cloud.com/mybucket",
    ];
    for line in lines {
        let answer = sandbox.run(line).ok();
        let is_first_of_mys3 = line.contains("us-east-1");
        assert_eq!(answer.out.contains("made the location mys3"), is_first_of_mys3, "{line}");
        let hints = line.contains("access_key");
        assert_eq!(answer.err.contains("shell's history"), hints, "{line}: {}", answer.err);
        assert!(!answer.err.contains("hunter2"), "{}", answer.err);
    }
    let expected = "[repository.s3-krepository]
location = \"s3://s3.fr-par.scw.cloud/mysuperbucket\"
access_key = \"AKXXXXXXXX\"
secret_access_key = \"hunter2hunter2\"

[repository.mys3]
location = \"s3://cellar-c2.services.clever-cloud.com/mybucket\"
use_tls = false
";
    assert_eq!(sandbox.config_text(), expected);
    assert_eq!(mode(&sandbox), 0o600);
    let directory = sandbox.config().parent().unwrap().metadata().unwrap();
    assert_eq!(directory.permissions().mode() & 0o777, 0o700);
    let shown = sandbox.run("config repository show").ok().out;
    assert_eq!(
        shown,
        expected.replace("AKXXXXXXXX", "********").replace("hunter2hunter2", "********")
    );
}

#[test]
fn c2_a_named_location_goes_wherever_a_location_goes() {
    let sandbox = Sandbox::with_repository();
    sandbox.run("config repository set nas location repo").ok();
    sandbox.run("config repository set docs location src").ok();
    let out = sandbox.text("out");
    sandbox.run(&format!("config remote set other location {out}")).ok();
    sandbox.run("at @nas backup @docs").ok();
    sandbox.run("at @nas backup @docs:/sub").ok();
    let list = sandbox.run("at @nas ls").ok().out;
    let ends = |end: &str| list.lines().any(|line| line.ends_with(&sandbox.text(end)));
    assert!(ends("src") && ends("src/sub"), "{list}");
    let src = sandbox.text("src");
    sandbox.run(&format!("-at @nas restore -to @other latest~1:{src}")).ok();
    assert_eq!(files(&sandbox.path("src")), files(&sandbox.path("out")));
    sandbox.run(&format!("-at @nas restore -to @other:/a/b latest~1:{src}")).ok();
    assert_eq!(files(&sandbox.path("src")), files(&sandbox.path("out/a/b")));
    sandbox.run("at @nas diff latest~1 @docs --exit-code").ok();
    sandbox.write("src/a.txt", b"changed");
    assert_eq!(sandbox.run("at @nas diff latest~1 @docs --exit-code").code, 1);
    let mut command = sandbox.command_with_secret();
    answer(command.env("HOLDFAST_REPOSITORY", "@nas").arg("ls")).ok();
    let unknown = sandbox.run("at @nsa ls").fails(1, "there is no location nsa");
    assert!(unknown.err.contains("hint: did you mean @nas?"), "{}", unknown.err);
    sandbox.run("at @nas:/../x ls").fails(2, "`..`");
    sandbox.run("at @nas/sub ls").fails(2, "@nas:/sub");
    sandbox.run("at @ ls").fails(2, "names nothing");
}

#[test]
fn the_default_comes_before_the_home_directory() {
    let sandbox = Sandbox::with_repository();
    let none = sandbox.run("config repository default").ok();
    assert!(none.err.contains("no default"), "{}", none.err);
    sandbox.run("config repository set nas location repo").ok();
    sandbox.run("config repository default nas").ok();
    assert_eq!(sandbox.run("config repository default").ok().out, "@nas\n");
    sandbox.run("backup src").ok();
    assert_eq!(sandbox.run("ls").ok().out.lines().count(), 2);
    assert!(!sandbox.path("home/.holdfast").exists());
    assert!(sandbox.config_text().starts_with("default = \"nas\"\n"), "{}", sandbox.config_text());
    // Off a terminal nothing is made at a configured place either.
    sandbox.run("config repository set nas location elsewhere").ok();
    sandbox.run("backup src").fails(10, "no repository at");
    sandbox.run("config repository default nothing").fails(1, "no location nothing");
    sandbox.run("config repository default --unset").ok();
    sandbox.run("ls").fails(10, "/home/.holdfast");
}

#[test]
fn titles_become_names_and_names_can_change() {
    let sandbox = Sandbox::with_repository();
    let create = |name: &str| sandbox.run_words(["config", "repository", "create", name]);
    let made = create("Office NAS SFTP").ok();
    assert!(made.out.contains("made the location office-nas-sftp"), "{}", made.out);
    assert!(sandbox.config_text().contains("title = \"Office NAS SFTP\""));
    create("Office NAS SFTP").fails(1, "there is a location office-nas-sftp already");
    set(&sandbox, "Office NAS SFTP", "location", "repo").ok();
    for bad in ["", "!!", "a\nb", "/"] {
        create(bad).fails(2, "is no name");
    }
    let config = std::fs::read_to_string(sandbox.config()).unwrap();
    let plan = "\n# what we keep\n[plan.home] # every night\nsources = [\"/home\", \"@office-nas-sftp:/x\"] # both\n\
                repository = \"office-nas-sftp\"  # there\nfuture = { a = 1 }\n";
    let text = format!("# ours\ndefault = \"office-nas-sftp\" # yes\n\n{config}{plan}");
    std::fs::write(sandbox.config(), &text).unwrap();
    let used = sandbox.run("config repository remove office-nas-sftp").fails(1, "plans home");
    assert!(used.err.contains("hint: "), "{}", used.err);
    sandbox.run("config repository rename office-nas-sftp nas").ok();
    let renamed = text
        .replace("[repository.office-nas-sftp]", "[repository.nas]")
        .replace("\"office-nas-sftp\"", "\"nas\"")
        .replace("@office-nas-sftp:/x", "@nas:/x");
    assert_eq!(sandbox.config_text(), renamed);
    sandbox.run("ls").ok();
}

#[test]
fn comments_order_and_links_survive_edits() {
    let sandbox = Sandbox::new();
    let text = "# mine\n\n[repository.b]   # second letter\nlocation = \"/b\" # here\n  title='B'\n\n\
                # the first\n[repository.a]\nlocation = \"/a\"\n\n[plan.x]\nrepository = \"a\"\n";
    sandbox.write("dotfiles/holdfast.toml", text.as_bytes());
    std::fs::create_dir_all(sandbox.config().parent().unwrap()).unwrap();
    symlink("../../../dotfiles/holdfast.toml", sandbox.config()).unwrap();
    let real = sandbox.path("dotfiles/holdfast.toml");
    std::fs::set_permissions(&real, PermissionsExt::from_mode(0o640)).unwrap();
    let answer = set(&sandbox, "b", "title", "Bee").ok();
    assert!(answer.err.contains("others can read the configuration"), "{}", answer.err);
    assert!(answer.err.contains("chmod 600"), "{}", answer.err);
    set(&sandbox, "b", "location", "/bb").ok();
    set(&sandbox, "a", "passphrase_command", "[\"pass\", \"a\"]").ok();
    sandbox.run("config repository unset b title").ok();
    let expected = text
        .replace("\"/b\"", "\"/bb\"")
        .replace("  title='B'\n", "")
        .replace("\"/a\"\n", "\"/a\"\npassphrase_command = [\"pass\", \"a\"]\n");
    assert_eq!(std::fs::read_to_string(&real).unwrap(), expected);
    assert!(sandbox.config().is_symlink());
    assert_eq!(real.metadata().unwrap().mode() & 0o777, 0o640);
    let left: Vec<_> = std::fs::read_dir(sandbox.path("dotfiles")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn what_is_wrong_with_the_file_is_said_without_secrets() {
    let sandbox = Sandbox::with_repository();
    let with = |text: &str, line: &str| {
        sandbox.write("home/.config/holdfast/config.toml", text.as_bytes());
        std::fs::set_permissions(sandbox.config(), PermissionsExt::from_mode(0o600)).unwrap();
        let answer = sandbox.run(line);
        assert!(!answer.err.contains("hunter2") && !answer.out.contains("hunter2"), "{answer:?}");
        answer
    };
    let nas = "[repository.nas]\nlocation = \"repo\"\n";
    let broken = with(&format!("{nas}password = hunter2\n"), "at @nas ls");
    broken
        .fails(1, "config.toml, line 3, column 12")
        .fails_with("the line is: password = ********");
    // Who names no location needs no configuration.
    with("password = hunter2\n", "at repo ls").ok();
    with("[repositroy.a]\n", "at @a ls").fails(1, "did you mean repository?");
    with(&format!("{nas}passwrod = \"hunter2\"\n"), "at @nas ls")
        .fails(1, "[repository.nas]: there is no option passwrod")
        .fails_with("did you mean password?");
    let shown = with(&format!("{nas}passwrod = \"hunter2\"\n"), "config repository show nas");
    assert!(shown.out.contains("passwrod = \"********\""), "{}", shown.out);
    assert!(shown.err.contains("did you mean password?"), "{}", shown.err);
    with(&format!("{nas}password = \"hunter2\"\n"), "at @nas ls")
        .fails(1, "password is an option of sftp locations, and this one is local");
    with(&format!("{nas}passphrase = 17\n"), "at @nas ls").fails(1, "passphrase must be text");
    with(&format!("{nas}passphrase = \"hunter2\"\npassphrase_file = \"x\"\n"), "at @nas ls")
        .fails(1, "has both passphrase and passphrase_file");
    let url = "[repository.nas]\nlocation = \"sftp://anna:hunter2@h/x\"\n";
    with(url, "at @nas ls").fails(1, "no password");
    assert!(with(url, "config repository show").out.contains("location = \"sftp://********\""));
    assert!(with(url, "config repository list --json").out.contains("sftp://********"));
    with("[repository.nas]\ntitle = \"x\"\n", "at @nas ls").fails(1, "location of nas is not set");
    with("default = \"nas\"\n", "ls").fails(1, "there is no location nas");
    // A slip can be taken out.
    with(&format!("{nas}passwrod = \"hunter2\"\n"), "config repository unset nas passwrod").ok();
    assert_eq!(sandbox.config_text(), nas);
}

#[test]
fn options_are_checked_when_they_are_set() {
    let sandbox = Sandbox::new();
    // Any type's options until the location says which it is.
    set(&sandbox, "x", "password", "hunter2").ok();
    set(&sandbox, "x", "storage_class", "GLACIER").ok();
    set(&sandbox, "x", "location", "sftp://h/x")
        .fails(2, "storage_class is an option of s3 locations, and this one is sftp")
        .fails_with("unset x storage_class");
    sandbox.run("config repository unset x storage_class").ok();
    set(&sandbox, "x", "location", "sftp://h/x").ok();
    set(&sandbox, "x", "region", "eu").fails(2, "region is an option of s3 locations");
    set(&sandbox, "x", "passwrod", "y").fails(2, "did you mean password?");
    set(&sandbox, "x", "port", "ssh").fails(2, "port must be a number from 1 to 65535");
    set(&sandbox, "x", "use_agent", "maybe").fails(2, "use_agent must be true or false");
    set(&sandbox, "x", "timeout", "soon").fails(2, "timeout must be a time");
    set(&sandbox, "x", "limit_upload", "fast").fails(2, "bytes a second");
    set(&sandbox, "x", "host", "-oProxyCommand=x").fails(2, "is no name of a host");
    set(&sandbox, "x", "location", "s3://mybucket/x").fails(2, "names no endpoint");
    set(&sandbox, "x", "location", "@y").fails(2, "a named location is a path");
    set(&sandbox, "x", "location", "sftp://u:hunter2@h/x").fails(2, "no password");
    set(&sandbox, "x", "port", "").fails(2, "port must be");
    // One form of a secret takes the place of another.
    let replaced = set(&sandbox, "x", "password_command", "pass x").ok();
    assert!(replaced.err.contains("password is gone"), "{}", replaced.err);
    assert!(!sandbox.config_text().contains("hunter2"));
    // The fields of a form: the path alone, and the host beside it.
    set(&sandbox, "form", "location", "/volume1/x").ok();
    set(&sandbox, "form", "port", "2222").fails(2, "set its host first");
    set(&sandbox, "form", "host", "nas.invalid").ok();
    set(&sandbox, "form", "port", "2222").ok();
    set(&sandbox, "form", "username", "anna").ok();
    sandbox.run("at @form ls").fails(1, "anna@nas.invalid:2222: the name nas.invalid has no");
    sandbox.run("config repository unset form host").fails(2, "option of sftp locations");
    set(&sandbox, "form", "location", "sftp://other/volume1").ok();
    sandbox
        .run("at @form ls")
        .fails(1, "the location says host other, its option host nas.invalid");
    sandbox.run("at @form -o host=third.invalid ls").fails(1, "anna@third.invalid:2222");
}

#[test]
fn values_may_begin_with_dashes_and_come_from_standard_input() {
    let sandbox = Sandbox::new();
    let is_kept = |text: &str| {
        let config = sandbox.config_text();
        assert!(config.contains(text), "{text:?} is not in {config}");
    };
    set(&sandbox, "nas", "key", KEY).ok();
    is_kept(KEY);
    set(&sandbox, "nas", "key", &KEY.replace('\n', "\\n")).ok();
    sandbox.run("config repository unset nas key").ok();
    sandbox.run_with_input("config repository set nas key", format!("{KEY}\n").as_bytes()).ok();
    is_kept(KEY);
    set(&sandbox, "nas", "password", "-to").ok();
    is_kept("password = \"-to\"");
    sandbox.run("config repository set nas password -tagged --json").ok();
    is_kept("password = \"-tagged\"");
    sandbox.run("config repository set nas password -- --json").ok();
    is_kept("password = \"--json\"");
    let piped = sandbox.run_with_input("config repository set nas password", b"hunter2\n").ok();
    assert!(!piped.err.contains("history"), "{}", piped.err);
    is_kept("password = \"hunter2\"");
    sandbox.run_with_input("config repository set nas password", b"a\nb\n").fails(2, "one line");
    sandbox.run("config repository set nas password").fails(2, "there is no value for password");
    sandbox.run("config repository set nas nonsense").fails(2, "there is no option nonsense");
    let shown = sandbox.run("config repository show nas --json").ok().out;
    assert!(!shown.contains("hunter2") && !shown.contains("BEGIN"), "{shown}");
    let options = &serde_json::from_str::<serde_json::Value>(&shown).unwrap()["options"];
    assert_eq!(options["password"], "********");
}

#[test]
fn a_named_repository_brings_its_secret() {
    let sandbox = Sandbox::new();
    sandbox.write_sources();
    sandbox.write("home/pass", b"from the file\n");
    set(&sandbox, "nas", "location", "repo").ok();
    set(&sandbox, "nas", "repository_key_file", "home/nas.key").ok();
    let created = sandbox.run_bare("at @nas create").ok();
    assert!(created.err.contains("made the key file"), "{}", created.err);
    sandbox.run_bare("at @nas backup @nas:/../src").fails(2, "`..`");
    sandbox.run_bare("at @nas backup src").ok();
    // The same place without its name has no secret.
    sandbox.run_bare("at repo ls").fails(12, "is encrypted");
    // The command line comes first, then the environment, then the configuration.
    sandbox.run("at @nas ls").fails(12, "has no passphrase");
    sandbox.run_bare("at @nas ls --passphrase-file home/pass").fails(12, "has no passphrase");
    sandbox.run_bare("at @nas -o passphrase_file=home/pass ls").fails(12, "has no passphrase");
    let add = "at @nas key add --new-passphrase-file home/pass";
    sandbox.run_bare(add).ok();
    sandbox.run_bare("config repository unset nas repository_key_file").ok();
    for (key, value) in [
        ("passphrase", "from the file"),
        ("passphrase_file", "home/pass"),
        ("passphrase_command", "cat home/pass"),
        ("passphrase", "env:MY_PASS"),
    ] {
        set(&sandbox, "nas", key, value).ok();
        let mut command = sandbox.command();
        answer(command.env("MY_PASS", "from the file").args(["at", "@nas", "ls"])).ok();
    }
    sandbox.run_bare("at @nas ls").fails(1, "the variable MY_PASS is not set");
    set(&sandbox, "nas", "passphrase_command", "echo hunter2; exit 3").ok();
    let failed = sandbox.run_bare("at @nas ls").fails(1, "passphrase_command of @nas gives no");
    assert!(!failed.err.contains("hunter2"), "{}", failed.err);
}

#[test]
fn options_of_the_command_line_take_no_secrets() {
    let sandbox = Sandbox::with_repository();
    sandbox.run("at repo -o passphrase=hunter2 ls").fails(2, "list of processes");
    let refused = sandbox.run("at sftp://h/x -o password=hunter2 ls");
    let refused = refused.fails(2, "-o password=… is refused");
    assert!(!refused.err.contains("hunter2"), "{}", refused.err);
    assert!(refused.err.contains("password=env:VARIABLE"), "{}", refused.err);
    sandbox.run("at repo -o passwrod=x ls").fails(2, "did you mean password?");
    sandbox.run("at repo -o location=/x ls").fails(2, "is no option of a location");
    sandbox.run("at repo -o connections ls").fails(2, "KEY=VALUE");
    sandbox.run("at repo -o region=x ls").fails(2, "region is an option of s3 locations");
    sandbox.run("at repo -o limit_download=1G ls").ok();
    sandbox.run("ls -o limit_download=1G -at repo --limit-upload 10M").ok();
    sandbox.run("at repo ls --limit-upload x").fails(2, "x is no rate");
    sandbox.run("at sftp:///x -o host=nas.invalid ls").fails(1, "nas.invalid:22: the name");
    sandbox.run("at sftp:///x ls").fails(2, "names no host");
}

#[test]
fn a8_a_relative_remote_path_is_refused_with_the_reason() {
    let sandbox = Sandbox::with_repository();
    for place in ["sftp://user@remote-host", "sftp://user@remote-host/./etc"] {
        let answer = sandbox.run(&format!("at repo backup {place}")).fails(2, "absolute path");
        let hint = "hint: write sftp://user@remote-host/absolute/path";
        assert!(answer.err.contains(hint), "{}", answer.err);
    }
    let scp = sandbox.run("at repo backup user@remote-host:etc").fails(2, "absolute path");
    assert!(scp.err.contains("write sftp://user@remote-host/etc"), "{}", scp.err);
    sandbox.run("at repo backup sftp://user@remote-host:etc/x").fails(2, "is no port");
}

#[test]
fn where_things_are_is_said() {
    let sandbox = Sandbox::new();
    let bare = sandbox.run("config").ok().out;
    assert!(bare.contains(".config/holdfast/config.toml (not there yet)"), "{bare}");
    assert!(!sandbox.config().exists());
    let list = sandbox.run("config repository list").ok();
    assert!(list.err.contains("config repository create NAME"), "{}", list.err);
    set(&sandbox, "nas", "location", "/nas").ok();
    sandbox.run("config repository create empty").ok();
    sandbox.run("config repository default nas").ok();
    let list = sandbox.run("config repository list").ok().out;
    assert!(list.lines().any(|l| l == "nas    local  /nas      default"), "{list}");
    assert!(list.contains("empty") && list.contains("see `show`"), "{list}");
    let events = sandbox.run("config repository list --json").ok().events();
    assert_eq!(events[0]["name"], "nas");
    assert_eq!(events[0]["default"], true);
    assert_eq!(events[1]["problem"], "the location of empty is not set");
    let event = &sandbox.run("config --json").ok().events()[0];
    assert_eq!(event["type"], "config");
    assert_eq!(event["locations"][1], "empty");
    sandbox.run("config repository remove nas").ok();
    assert_eq!(sandbox.config_text(), "[repository.empty]\n");
    // An own file; one that is not there is made by `create`, and missed by others.
    sandbox.run("--config own.toml at @x ls").fails(1, "own.toml");
    sandbox.run("config repository create x --config own.toml").ok();
    assert!(sandbox.path("own.toml").exists());
    sandbox.run("--config own.toml at @x ls").fails(1, "location of x is not set");
}

#[test]
fn edits_at_once_are_all_kept() {
    let sandbox = Sandbox::new();
    let children: Vec<_> = (0..12)
        .map(|i| {
            let mut command = sandbox.command();
            let name = format!("n{i}");
            command.args(["config", "repository", "set", name.as_str(), "location", "/x", "-q"]);
            command.spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let text = sandbox.config_text();
    for i in 0..12 {
        assert!(text.contains(&format!("[repository.n{i}]")), "{i}: {text}");
    }
}

/// Runs a command line in a terminal of its own and types `typed` once `prompt` is there; what
/// was on the screen.
pub(crate) fn in_terminal(sandbox: &Sandbox, line: &str, prompt: &str, typed: &str) -> String {
    let program = env!("CARGO_BIN_EXE_holdfast");
    let plain = sandbox.command();
    let mut command = std::process::Command::new("script");
    command.env_clear().envs(plain.get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.env("PATH", "/usr/bin:/bin").env("SHELL", "/bin/sh");
    command.current_dir(plain.get_current_dir().unwrap());
    command.args(["-qfec", &format!("{program} {line}"), "/dev/null"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("script (bsdutils) is needed");
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut seen = Vec::new();
    let mut typed = Some(typed);
    let mut byte = [0];
    while screen.read(&mut byte).unwrap() > 0 {
        seen.push(byte[0]);
        if seen.ends_with(prompt.as_bytes())
            && let Some(typed) = typed.take()
        {
            keyboard.write_all(typed.as_bytes()).unwrap();
        }
    }
    let seen = String::from_utf8_lossy(&seen).replace('\r', "");
    assert!(child.wait().unwrap().success(), "{seen}");
    seen
}

#[test]
fn a_location_is_tested_by_its_title() {
    let sandbox = Sandbox::with_repository();
    sandbox.run_words(["config", "repository", "create", "Office NAS"]).ok();
    set(&sandbox, "office-nas", "location", "repo").ok();
    sandbox.run("config repository rename office-nas nas").ok();
    sandbox.run_words(["config", "repository", "test", "Office NAS"]).ok();
    sandbox.run_words(["config", "repository", "test", "Other NAS"]).fails(1, "no location");
}

#[test]
fn secrets_are_asked_for_without_echo_and_other_values_with() {
    let sandbox = Sandbox::new();
    let set = |key: &str, prompt: &str, typed: &str| {
        let line = format!("config repository set nas {key}");
        in_terminal(&sandbox, &line, prompt, typed)
    };
    let seen = set("password", "password of nas: ", "hunter2\n");
    assert!(seen.contains("set password of nas") && !seen.contains("hunter2"), "{seen}");
    assert!(!seen.contains("history"), "{seen}");
    let seen = set("host", "host of nas: ", "nas.example.com\n");
    assert!(seen.contains("host of nas: nas.example.com"), "{seen}");
    let seen = set("key", "does not end): ", &format!("{KEY}\n"));
    assert!(!seen.contains("c2VjcmV0"), "{seen}");
    let text = sandbox.config_text();
    for part in ["password = \"hunter2\"", "host = \"nas.example.com\"", KEY] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn limits_hold_for_the_whole_run() {
    let sandbox = Sandbox::with_repository();
    let mut noise = vec![0; 300_000];
    rand::RngCore::fill_bytes(&mut holdfast_testkit::clock::rng(1), &mut noise);
    sandbox.write("src/noise", &noise);
    let seconds = |line: &str| {
        let start = std::time::Instant::now();
        sandbox.run(line).ok();
        start.elapsed().as_secs_f64()
    };
    // 300 kB at 200 kB/s, less what a moment of rest leaves over. Only a lower bound cannot flake.
    assert!(seconds("at repo backup src --limit-upload 200000") > 1.2);
    sandbox.run("config repository set slow location repo").ok();
    set(&sandbox, "slow", "limit_download", "200000").ok();
    let cat = format!("at @slow --no-cache cat latest:{}", sandbox.text("src/noise"));
    assert!(seconds(&cat) > 1.2);
}
