//! Plans from their making to a machine that is recovered from a repository, with real processes:
//! some of them are killed.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_app::ask::Nobody;
use holdfast_app::jobs::backup::{Settings, snapshot};
use holdfast_app::open::SourceContext;
use holdfast_app::paths::Paths;
use holdfast_app::roots;
use holdfast_connectors::local::source::LocalSourceOptions;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_testkit::clock::random_bytes;

use crate::config::{KEY, in_terminal};
use crate::sandbox::{Answer, Sandbox, answer};

/// How long anything may take here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A named location @nas, which a passphrase opens, and a plan `home` of `src` to it.
pub(crate) fn with_plan(more: &str) -> Sandbox {
    let sandbox = Sandbox::with_passphrase();
    sandbox.run("config repository set nas location repo").ok();
    let line = format!("plan create home --to @nas{more} src");
    sandbox.run(&line).ok();
    sandbox
}

fn run_of(answer: &Answer) -> serde_json::Value {
    let events = answer.events();
    let run = events.iter().find(|event| event["type"] == "run");
    run.unwrap_or_else(|| panic!("{}", answer.out)).clone()
}

/// Waits until the history says that run 1 stands so; its JSON.
pub(crate) fn wait_for(
    sandbox: &Sandbox,
    what: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = sandbox.run_bare("runs --json").ok();
        if let Some(run) = answer.events().into_iter().find(|run| what(run)) {
            return run;
        }
        assert!(Instant::now() < until, "{}", answer.out);
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(crate) fn spawn(sandbox: &Sandbox, line: &str) -> Child {
    let mut command = sandbox.command();
    command.args(line.split(' ')).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn a_plan_is_made_once_and_runs_without_a_passphrase() {
    let sandbox = with_plan(" --schedule hourly --keep daily=7");
    let text = sandbox.config_text();
    assert!(text.contains("repository_key_file") && !text.contains("correct horse"), "{text}");
    // Nobody is there to type.
    let run = run_of(&sandbox.run_bare("run home --json").ok());
    assert_eq!((&run["outcome"], &run["numbers"]["files_new"]), (&"ok".into(), &2.into()));
    sandbox.write("src/new", b"more");
    let again = run_of(&sandbox.run_bare("run home --json").ok());
    assert_eq!(again["numbers"]["files_unchanged"], 2);
    let shown = sandbox.run_bare("runs show 2").ok().out;
    assert!(shown.contains("run 2: backup of plan home to @nas, by command"), "{shown}");
    assert!(sandbox.run_bare("plan show home").ok().out.contains("next runs:"));
    let due = sandbox.run_bare("plan next home -n 3 --json").ok().events();
    assert_eq!(due.len(), 3);
    sandbox.run_bare("plan disable home").ok();
    assert_eq!(sandbox.run_bare("plan next home --json").ok().events().len(), 0);
    sandbox
        .run_words(["plan", "edit", "home", "--schedule", "daily at 02:30", "--set", "jitter=10m"])
        .ok();
    sandbox.run_bare("plan rename home house").ok();
    let list = sandbox.run_bare("plan list --json").ok().events();
    assert_eq!((&list[0]["name"], &list[0]["last"]["id"]), (&"house".into(), &2.into()));
    assert_eq!(list[0]["schedule"], "daily at 02:30");
    sandbox.run_bare("config repository remove nas").fails(1, "house");
    sandbox.run_bare("plan remove house").ok();
    sandbox.run_bare("run house").fails(1, "there is no plan house");
    assert!(sandbox.run("at @nas ls").ok().out.contains("plan:home"));
}

#[test]
fn slips_are_told_before_anybody_is_asked() {
    let sandbox = Sandbox::with_passphrase();
    sandbox.run("config repository set nas location repo").ok();
    let create = |words: &[&str]| sandbox.run_words(["plan", "create", "x"].iter().chain(words));
    create(&["src"]).fails(2, "--to @NAME");
    create(&["--to", "@nass", "src"]).fails(1, "did you mean @nas?");
    create(&["--to", "@nas", "--schedule", "soon", "src"]).fails(2, "no schedule");
    create(&["--to", "@nas", "--keep", "dayly=7", "src"]).fails(2, "no rule");
    create(&["--to", "@nas", "--set", "jittr=7", "src"]).fails(2, "did you mean jitter?");
    create(&["--to", "repo", "src"]).fails(2, "make it one: holdfast config repository set");
    create(&["--to", "@nas", "-"]).fails(2, "standard input");
    assert!(!sandbox.config_text().contains("plan"));
    sandbox.run_bare("runs show 7").fails(1, "there is no run 7");
    sandbox.run_bare("runs --outcome good").fails(2, "no outcome");
}

#[test]
fn a_run_that_is_killed_is_known_as_interrupted_and_the_next_goes_on() {
    let sandbox = with_plan(" --set limit_upload=1M");
    for n in 0..40 {
        sandbox.write(&format!("src/{n}"), &random_bytes(n, 300_000));
    }
    let mut child = spawn(&sandbox, "run home");
    let bytes = |run: &serde_json::Value| run["phases"].as_array().is_some_and(|p| p.len() > 2);
    let run = wait_for(&sandbox, |run| run["outcome"] == "running" && bytes(run));
    // It is one run, whoever looks.
    sandbox.run_bare("run home").fails(11, "at work already: run 1");
    child.kill().unwrap();
    child.wait().unwrap();
    let dead = wait_for(&sandbox, |run| run["outcome"] == "interrupted");
    assert_eq!((&dead["id"], &dead["started"]), (&run["id"], &run["started"]));
    assert!(dead["problem"]["message"].as_str().unwrap().contains("ended in the middle"));
    sandbox.run_bare("plan edit home --unset limit_upload").ok();
    let next = run_of(&sandbox.run_bare("run home --json").ok());
    assert_eq!((&next["outcome"], &next["id"]), (&"ok".into(), &2.into()));
    sandbox.run("at @nas check --read-data").ok();
}

#[test]
fn a_run_of_another_process_can_be_cancelled() {
    let sandbox = with_plan(" --set limit_upload=1M");
    for n in 0..60 {
        sandbox.write(&format!("src/{n}"), &random_bytes(n, 300_000));
    }
    let mut child = spawn(&sandbox, "run home");
    let is_far = |run: &serde_json::Value| run["phases"].as_array().is_some_and(|p| p.len() > 2);
    wait_for(&sandbox, |run| run["outcome"] == "running" && is_far(run));
    sandbox.run_bare("runs cancel 1").ok();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    wait_for(&sandbox, |run| run["outcome"] == "cancelled");
    sandbox.run_bare("runs cancel 1").fails(2, "it is cancelled");
}

#[test]
fn a_machine_comes_back_from_its_repository_alone() {
    let sandbox = with_plan(" --keep daily=7");
    sandbox.run_words(["plan", "edit", "home", "--schedule", "daily at 02:30"]).ok();
    sandbox.run_bare("run home").ok();
    for lost in ["home/.config", "state", "cache"] {
        std::fs::remove_dir_all(sandbox.path(lost)).unwrap();
    }
    let line = format!("recover {}", sandbox.text("repo"));
    sandbox.run(&line).fails(2, "--dry-run");
    let shown = sandbox.run(&format!("{line} --dry-run")).ok();
    assert!(shown.err.contains("schedule = \"daily at 02:30\""), "{}", shown.err);
    assert!(!sandbox.config().exists());
    sandbox.run(&format!("{line} --yes")).ok();
    assert!(sandbox.config_text().contains("keep = { daily = 7 }"));
    // The service opens it by itself again.
    let run = run_of(&sandbox.run_bare("run home --json").ok());
    assert_eq!((&run["outcome"], &run["numbers"]["files_unchanged"]), (&"ok".into(), &2.into()));
    let again = sandbox.run(&format!("{line} --yes --json")).ok().events();
    let summary = again.last().unwrap();
    assert_eq!(summary["kept"], serde_json::json!(["location nas", "plan home"]));
}

/// A snapshot of `src` with this record of the plans of a machine.
fn snapshot_with(sandbox: &Sandbox, record: &str) {
    let paths = Paths {
        config: sandbox.config(),
        state: sandbox.path("state"),
        cache: None,
        home: Some(sandbox.path("home")),
    };
    let access = paths.access(Arc::new(Nobody));
    let place = |text: &str| paths.resolve(text.as_ref(), &paths.load_config().unwrap()).unwrap();
    let repository = paths.open_repository(&place("@nas"), &access).unwrap();
    let options = &LocalSourceOptions::default();
    let context = SourceContext { options, repository: None, access: &access };
    let planned = roots::plan(&[place(&sandbox.text("src"))], "stdin", &context).unwrap();
    let settings = Settings { plan: record.into(), ..Settings::default() };
    for origin in planned.origins {
        snapshot(&repository, origin, &settings, &NoMonitor, &Interrupt::new()).unwrap();
    }
}

const ELSEWHERE: &str = "host = \"elsewhere\"\n\
    [repository.far]\nlocation = \"sftp://a@nowhere.invalid/x\"\n\
    [secret]\nfar = [\"key\"]\n\
    [plan.web]\nsources = [\"/a\"]\nrepository = \"far\"\n";

#[test]
fn a_plan_that_is_refused_is_told_of_and_keeps_no_other_from_coming_back() {
    let sandbox = with_plan("");
    let odd = "[plan.odd]\nsources = [\"/a\"]\nrepository = \"far\"\nof_tomorrow = 1\n";
    snapshot_with(&sandbox, &format!("{ELSEWHERE}{odd}"));
    let answer = sandbox.run_bare("recover @nas --yes --json").fails(3, "of_tomorrow");
    assert!(answer.out.contains("this machine is not called elsewhere"), "{}", answer.out);
    let events = answer.events();
    let summary = events.iter().find(|event| event["type"] == "summary").unwrap();
    assert_eq!(summary["plans"], serde_json::json!(["web"]));
    assert_eq!(
        (&summary["refused"][0]["plan"], summary["refused"][1].is_null()),
        (&"odd".into(), true)
    );
    assert!(summary["refused"][0]["problem"].as_str().unwrap().contains("of_tomorrow"));
}

#[test]
fn a_key_that_is_pasted_comes_back_whole() {
    let sandbox = with_plan("");
    snapshot_with(&sandbox, ELSEWHERE);
    let seen = in_terminal(&sandbox, "recover @nas --yes", "later): ", &format!("{KEY}\n"));
    assert!(seen.contains("added the plan web") && !seen.contains("c2VjcmV0"), "{seen}");
    let text = sandbox.config_text();
    assert!(text.contains(KEY), "{text}");
}

#[test]
fn a_configuration_that_is_asked_for_must_be_there() {
    let sandbox = with_plan("");
    for line in ["run home", "drill home", "plan list", "plan next", "serve --no-console"] {
        sandbox.run_bare(&format!("{line} --config typo.toml")).fails(1, "typo.toml");
    }
}

#[test]
fn a_run_refuses_what_it_would_not_heed() {
    let sandbox = with_plan("");
    for (option, part) in [
        ("--limit-upload nonsense", "holdfast plan edit PLAN --set limit_upload=RATE"),
        ("--limit-download 1M", "holdfast plan edit PLAN --set limit_download=RATE"),
        ("--connections 2", "holdfast config repository set NAME connections NUMBER"),
        ("-o port=1", "holdfast config repository set NAME KEY VALUE"),
        ("--key-file x", "repository_key_file FILE"),
        ("--passphrase-file x", "passphrase_file FILE"),
        ("--memory 64M", "--memory"),
        ("--at repo", "holdfast plan edit PLAN --to LOCATION"),
        ("--no-encryption", "--no-encryption"),
        ("--accept-new-host-key", "holdfast config repository set NAME host_key KEY"),
    ] {
        for verb in ["run home", "drill home", "serve --print-unit"] {
            sandbox.run_bare(&format!("{verb} {option}")).fails(2, part);
        }
    }
    let unit = sandbox.run_bare("serve --print-unit --background --no-cache").ok().out;
    assert!(unit.contains(" serve --background --no-cache\n"), "{unit}");
    assert!(!unit.contains("HOLDFAST_CACHE_DIR"), "{unit}");
    let unit = sandbox.run_bare("serve --print-unit --cache-dir other").ok().out;
    assert!(unit.contains(&format!("HOLDFAST_CACHE_DIR={}\n", sandbox.text("other"))), "{unit}");
}

#[test]
fn what_is_hinted_at_takes_no_copy_out_of_a_plan() {
    let sandbox = Sandbox::with_passphrase();
    sandbox.run_bare("at b create --key-file home/key").ok();
    sandbox.run_bare("at c create --key-file home/key").ok();
    for (name, location) in [("nas", "repo"), ("b", "b"), ("c", "c")] {
        sandbox.run_bare(&format!("config repository set {name} location {location}")).ok();
    }
    let words =
        ["plan", "create", "home", "--to", "@nas", "--set", "mirror=[\"@b\", \"@c\"]", "src"];
    let made = answer(sandbox.command().args(words)).ok();
    let line = "holdfast plan edit home --to @nas";
    assert_eq!(made.err.matches(line).count(), 3, "{}", made.err);
    let run = sandbox.run_bare("run home").fails(12, line);
    assert!(!run.err.contains("--set"), "{}", run.err);
    let before = sandbox.config_text();
    sandbox.run_bare(line.strip_prefix("holdfast ").unwrap()).ok();
    assert_eq!(sandbox.config_text(), before);
}

#[test]
fn a_drill_by_hand_says_what_came_back() {
    let sandbox = with_plan("");
    sandbox.run_bare("run home").ok();
    let answer = sandbox.run_bare("drill home").ok();
    assert!(answer.out.contains("2 files restored"), "{}", answer.out);
    let drills = sandbox.run_bare("runs --json --plan home -n 1").ok().events();
    assert_eq!(
        (&drills[0]["verb"], &drills[0]["numbers"]["drill_differing"]),
        (&"drill".into(), &0.into())
    );
}

#[test]
fn one_service_runs_at_a_time_and_ends_when_it_is_told_to() {
    let sandbox = with_plan(" --schedule hourly");
    let mut service = spawn(&sandbox, "serve --no-console");
    let until = Instant::now() + PATIENCE;
    while !sandbox.path("state/serve.lock").exists() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(50));
    }
    sandbox.run_bare("serve --no-console").fails(11, "serves already");
    let pid = service.id().to_string();
    assert!(std::process::Command::new("kill").arg(pid).status().unwrap().success());
    assert_eq!(service.wait().unwrap().code(), Some(0));
    let unit = sandbox.run_bare("serve --print-unit --concurrent 3").ok().out;
    assert!(
        unit.contains(" serve --concurrent 3\n") && unit.contains("HOLDFAST_CONFIG="),
        "{unit}"
    );
}

/// Takes up to two minutes: the shortest interval is one.
#[test]
#[ignore = "waits for the clock"]
fn a_service_that_is_killed_in_the_middle_tells_the_truth_and_makes_up_for_it() {
    let sandbox = with_plan(" --set limit_upload=1M");
    for n in 0..60 {
        sandbox.write(&format!("src/{n}"), &random_bytes(n, 300_000));
    }
    sandbox.run_words(["plan", "edit", "home", "--schedule", "every 1 minutes"]).ok();
    let mut service = spawn(&sandbox, "serve --no-console");
    let is_far = |run: &serde_json::Value| run["phases"].as_array().is_some_and(|p| p.len() > 2);
    let run = wait_for(&sandbox, |run| run["outcome"] == "running" && is_far(run));
    assert_eq!(run["by"], "schedule");
    service.kill().unwrap();
    service.wait().unwrap();
    sandbox.run_bare("plan edit home --unset limit_upload").ok();
    let mut service = spawn(&sandbox, "serve --no-console");
    wait_for(&sandbox, |run| run["id"] == 1 && run["outcome"] == "interrupted");
    let made_up = wait_for(&sandbox, |run| run["by"] == "catch-up" && run["outcome"] == "ok");
    assert_eq!(made_up["id"], 2);
    let next = wait_for(&sandbox, |run| run["id"] == 3 && run["outcome"] == "ok");
    assert_eq!(next["by"], "schedule");
    service.kill().unwrap();
    service.wait().unwrap();
}
