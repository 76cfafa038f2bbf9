use super::*;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const FULL: &str = r#"# mine
hooks = true

[repository.nas]
location = "/nas"
[repository.attic]
location = "/attic"

[plan.home] # the home
title = "Home folders"
sources = ["/home/anna", "@attic:/x"] # two
exclude = [".cache/"]
exclude_larger_than = "2G"
exclude_caches = true
repository = "nas"
tags = ["home"]
schedule = "Daily at 2:30"   # at night
timezone = "Europe/Kyiv"
jitter = "10m"
catch_up = false
overlap = "queue"
wait_for_network = 0
keep = { daily = 7, within = "2w", tag = ["a,b"] }
gc = "weekly on sun at 04:00"
check = { data = "5%", schedule = "weekly on sun at 05:00" }
mirror = ["attic"]
retry = { times = 1, wait = "30s" }
limit_upload = "5M"
hooks = { before = [["systemctl", "stop", "shop"]], timeout = "5m" }
notify = { phone = ["missed", "failure"] }
drill = { schedule = "monthly on 1 at 06:00", files = 5 }
"#;

fn edited(
    text: &str,
    change: impl FnOnce(&mut Config) -> Result<(), Problem>,
) -> Result<String, Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text)?;
    Config::edit(&path, None, change)?;
    Ok(std::fs::read_to_string(&path)?)
}

fn config(text: &str) -> Result<Config, Problem> {
    let dir = tempfile::tempdir().map_err(|e| Problem::usage(e.to_string()))?;
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).map_err(|e| Problem::usage(e.to_string()))?;
    Config::load(&path, None)
}

#[test]
fn what_json_says_of_a_plan_is_what_the_file_says() -> Result<(), Box<dyn std::error::Error>> {
    let mut plan = Plan::new("home");
    for key in keys::KEYS {
        plan.set(key.name, key.example)?;
    }
    let json = plan.to_json();
    let mut again = Plan::new("home");
    for (key, value) in json.as_object().ok_or("no object")?.iter().filter(|(k, _)| *k != "name") {
        again.set_json(key, value)?;
    }
    assert_eq!(again, plan);
    again.set_json("keep", &serde_json::Value::Null)?;
    again.set_json("check", &serde_json::json!({ "data": "5%", "schedule": null }))?;
    assert!(again.keep.pairs().is_empty());
    assert_eq!(again.check, Some(Check { data: 5, schedule: None }));
    for (key, value, word) in [
        ("jittr", serde_json::json!("1m"), "did you mean jitter?"),
        ("keep", serde_json::json!({ "dayly": 7 }), "\"keep\": {"),
        ("exclude", serde_json::json!([null]), "cannot say"),
        ("schedule", serde_json::json!("soon"), "no schedule"),
        ("enabled", serde_json::json!("yes"), "true or false"),
    ] {
        let problem = again.set_json(key, &value).err().ok_or(key)?;
        let text = format!("{problem} {}", problem.hints.join(" "));
        assert!(text.contains(word), "{key}: {text}");
    }
    Ok(())
}

#[test]
fn every_key_is_read_and_written_back() -> Outcome {
    let plan = config(FULL)?.plan("home")?;
    assert_eq!(plan.repository_location(), "@nas");
    assert_eq!(plan.mirror_locations(), ["@attic"]);
    assert_eq!(plan.tag(), "plan:home");
    assert_eq!(plan.exclude_larger_than, Some(2 << 30));
    assert_eq!(plan.schedule.as_ref().map(ToString::to_string).as_deref(), Some("daily at 02:30"));
    assert_eq!((plan.catch_up, plan.overlap), (false, Overlap::Queue));
    assert_eq!(plan.wait_for_network, Duration::ZERO);
    assert_eq!(plan.check.as_ref().map(|check| check.data), Some(5));
    assert_eq!(plan.retry, Retry { times: 1, wait: Duration::from_secs(30) });
    assert_eq!(plan.hooks.before, [["systemctl", "stop", "shop"]]);
    assert_eq!(plan.hooks.timeout, Duration::from_secs(300));
    let events = plan.notify.first().map(|notify| notify.events.clone());
    assert_eq!(events, Some(vec![Event::Failure, Event::Missed]));
    assert_eq!(plan.drill.as_ref().map(|drill| (drill.files, drill.bytes)), Some((5, 1 << 30)));
    let parts: Vec<_> = plan.calendars().into_iter().map(|(part, _)| part.name()).collect();
    assert_eq!(parts, ["backup", "gc", "check", "drill"]);
    // All keys but one_file_system, enabled and limit_download differ from what holds anyway.
    assert_eq!(plan.pairs().len(), keys::KEYS.len() - 3);
    let again = config(&plan.to_toml())?.plan("home")?;
    assert_eq!(again, plan);
    assert_eq!(plan.to_json()["keep"]["daily"], 7);
    Ok(())
}

#[test]
fn a_change_touches_what_it_changes_and_nothing_else() -> Outcome {
    let after = edited(FULL, |config| {
        let plan = config.plan("home")?;
        let schedule = Some("every 6 hours".parse()?);
        config.change_plan(&Plan { schedule, catch_up: true, ..plan })
    })?;
    let expected = FULL
        .replace("schedule = \"Daily at 2:30\"   # at", "schedule = \"every 6 hours\"   # at")
        .replace("catch_up = false\n", "");
    assert_eq!(after, expected);
    // The same again changes nothing, not even how the schedule is spelt.
    let same = edited(FULL, |config| {
        let plan = config.plan("home")?;
        config.change_plan(&plan)
    })?;
    assert_eq!(same, FULL);
    let renamed = edited(FULL, |config| config.rename_plan("home", "House & home").map(drop))?;
    let expected = FULL
        .replace("[plan.home] # the", "[plan.house-home] # the")
        .replace("Home folders", "House & home");
    assert_eq!(renamed, expected);
    let removed = edited(FULL, |config| config.remove_plan("home"))?;
    assert!(removed.contains("# mine") && !removed.contains("plan"));
    Ok(())
}

#[test]
fn a_plan_is_made_with_a_name_from_its_title() -> Outcome {
    let made = edited("[repository.nas]\nlocation = \"/nas\"\n", |config| {
        let plan = Plan {
            sources: vec!["/home/anna".into()],
            repository: "nas".into(),
            ..Plan::new("Home folders")
        };
        assert_eq!(config.create_plan(&plan)?.name, "home-folders");
        let again = config.create_plan(&plan);
        assert!(again.is_err_and(|problem| problem.class == Class::AlreadyExists));
        Ok(())
    })?;
    let expected = "[repository.nas]\nlocation = \"/nas\"\n\n[plan.home-folders]\ntitle = \"Home folders\"\nsources = [\"/home/anna\"]\nrepository = \"nas\"\n";
    assert_eq!(made, expected);
    Ok(())
}

#[test]
fn locations_that_plans_use_can_be_renamed_but_not_removed() -> Outcome {
    let renamed = edited(FULL, |config| config.rename("attic", "loft").map(drop))?;
    assert!(renamed.contains("\"@loft:/x\"") && renamed.contains("mirror = [\"loft\"]"));
    let refused = edited(FULL, |config| config.remove("attic").map(drop));
    assert!(refused.is_err_and(|problem| problem.to_string().contains("home")));
    Ok(())
}

#[test]
fn slips_are_named_with_what_was_meant() {
    let plan = |line: &str| {
        let text = format!("[plan.x]\nsources = [\"/a\"]\nrepository = \"nas\"\n{line}\n");
        config(&text).and_then(|config| config.plan("x"))
    };
    assert!(plan("").is_ok());
    for (line, message, hint) in [
        ("shedule = \"hourly\"", "\"shedule\" is no key", "did you mean schedule?"),
        ("colour = 1", "no key of a plan", "docs/plans.md"),
        ("schedule = \"soon\"", "schedule \"soon\" is no schedule: soon is none", "daily at"),
        ("schedule = 6", "must be text", "daily at"),
        ("timezone = \"Mars/Base\"", "no time zone", "Europe"),
        ("keep = { dayly = 7 }", "keep has no rule dayly: did you mean daily?", "weekly"),
        ("keep = { daily = 0 }", "0 keeps nothing", "weekly"),
        ("check = { dta = \"5%\" }", "did you mean data?", "5%"),
        ("check = { data = \"101%\" }", "in percent", "5%"),
        ("overlap = \"kill\"", "must be \"skip\"", "queue"),
        ("hooks = { before = [\"systemctl stop shop\"] }", "an array of words", "systemctl"),
        ("hooks = { befor = [] }", "did you mean before?", "systemctl"),
        ("notify = { phone = [\"fail\"] }", "\"fail\" is no event: start", "missed"),
        ("jitter = \"2h\"\nschedule = \"hourly\"", "between two runs", ""),
        ("mirror = [\"@nas\"]", "is its repository", ""),
        ("sources = []", "duplicate key", ""),
    ] {
        let Err(problem) = plan(line) else {
            assert!(line.is_empty(), "{line} was taken");
            continue;
        };
        let all = format!("{problem} {}", problem.hints.join(" "));
        assert!(all.contains(message) && all.contains(hint), "{line}: {all}");
    }
    let config = config("[plan.home]\nsources = [\"/a\"]\n[plan.web]\nrepository = \"x\"\n");
    let message = |name: &str| match config.as_ref().map(|config| config.plan(name)) {
        Ok(Err(problem)) => format!("{problem} {}", problem.hints.join(" ")),
        other => format!("{other:?}"),
    };
    assert!(message("home").contains("its repository is not set"), "{}", message("home"));
    assert!(message("web").contains("its sources are not set"));
    assert!(message("hom").contains("did you mean home?"));
}

#[test]
fn keys_are_set_as_they_are_typed() -> Outcome {
    let mut plan = Plan::new("x");
    plan.set("jitter", "10m")?;
    plan.set("gc", "true")?;
    plan.set("mirror", "[\"attic\"]")?;
    plan.set("check", "{ data = \"5%\" }")?;
    plan.set("schedule", "daily at 02:30")?;
    assert_eq!(plan.jitter, Duration::from_secs(600));
    assert_eq!((&plan.gc, plan.mirror.len()), (&Follows::Run, 1));
    assert!(plan.schedule.is_some());
    plan.unset("schedule")?;
    plan.unset("gc")?;
    assert_eq!((&plan.gc, plan.schedule.is_none(), plan.mirror.len()), (&Follows::Never, true, 1));
    assert!(plan.set("jittr", "1").is_err_and(|p| p.hints.concat().contains("jitter")));
    assert!(plan.unset("x").is_err());
    Ok(())
}

#[test]
fn waits_between_tries_double_up_to_an_hour() {
    let retry = Retry { times: 9, wait: Duration::from_secs(60) };
    let minutes: Vec<_> = (0..10).map(|n| retry.wait(n).map(|wait| wait.as_secs() / 60)).collect();
    let expected = [1, 2, 4, 8, 16, 32, 60, 60, 60].map(Some);
    assert_eq!(minutes.get(..9), Some(&expected[..]));
    assert_eq!(minutes.get(9), Some(&None));
}

#[test]
fn the_reference_lists_all_keys() -> Outcome {
    const HEAD: &str = "| Key | For instance | What |\n|---|---|---|\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plans.md");
    let kept = std::fs::read_to_string(path)?;
    let (before, _) = kept.split_once(HEAD).ok_or("the table is gone")?;
    let row = |key: &keys::PlanKey| {
        format!("| `{}` | `{}` | {} |\n", key.name, key.example, key.about.replace('|', "\\|"))
    };
    let rows: String = keys::KEYS.iter().map(row).collect();
    let text = format!("{before}{HEAD}{rows}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &text)?;
    }
    assert!(kept == text, "docs/plans.md is out of date: UPDATE_DOCS=1 cargo test -p holdfast-app");
    Ok(())
}

#[test]
fn what_would_be_passed_over_is_refused() {
    for (text, part) in [
        ("[[plan.lost]]\nsources = [\"/a\"]\n", "plan.lost must be a table of its own"),
        ("plan = { lost = 1 }\n", "plan.lost must be a table"),
        ("[repository]\nlocation = \"/a\"\n", "repository.location must be a table"),
        ("[[channel.phone]]\ntype = \"ntfy\"\n", "channel.phone must be a table"),
    ] {
        let problem = config(text).err();
        assert!(problem.is_some_and(|problem| problem.message.contains(part)), "{text}");
    }
    assert!(config("[repository]\n[plan]\nhome = { sources = [] }\n").is_ok());
}
