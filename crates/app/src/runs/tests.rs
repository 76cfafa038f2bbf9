use std::time::Duration;

use jiff::tz::TimeZone;

use super::*;

type Test = Result<(), Box<dyn std::error::Error>>;

fn new(plan: &str) -> NewRun {
    NewRun {
        plan: Some(plan.into()),
        verb: "backup".into(),
        place: "@nas".into(),
        by: By::Schedule,
        due: None,
    }
}

#[test]
fn a_run_is_kept_from_its_begin_to_its_end() -> Test {
    let dir = tempfile::tempdir()?;
    let state = dir.path().join("state");
    let history = History::open(&state)?;
    let owner = history.own()?;
    let id = history.begin(&new("home"), &owner, true)?;
    assert_eq!(history.run(id)?.outcome, Outcome::Queued);
    history.start(id)?;
    let line = LogLine { time: 5, level: Level::Warning, text: "careful".into() };
    history.log(id, &[line.clone(), LogLine { text: "more".into(), ..line.clone() }])?;
    history.log(id, &[LogLine { text: "last".into(), ..line.clone() }])?;
    let mut report = Report::default();
    report.add("bytes", 7);
    report.snapshots.push("abc".into());
    assert_eq!(history.update(id, "{}", &report)?, 0);
    assert_eq!(history.ask_to_cancel(id)?, Some(1));
    assert_eq!(history.update(id, "{}", &report)?, 1);
    history.end(id, Outcome::Ok, &report)?;
    assert_eq!(history.ask_to_cancel(id)?, None);
    // Another process, or this one after a restart, sees the same.
    drop((history, owner));
    let history = History::open(&state)?;
    assert!(history.reconcile()?.is_empty());
    let run = history.run(id)?;
    assert_eq!((run.outcome, run.plan.as_deref(), run.report), (Outcome::Ok, Some("home"), report));
    let lines = history.log_lines(id, 2, None)?;
    assert_eq!(
        lines.iter().map(|(n, l)| (*n, l.text.as_str())).collect::<Vec<_>>(),
        [(2, "more"), (3, "last")]
    );
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| path.metadata().map(|m| m.permissions().mode() & 0o777);
    assert_eq!((mode(&state)?, mode(&state.join("holdfast.sqlite"))?), (0o700, 0o600));
    assert!(history.run(99).is_err_and(|problem| problem.message.contains("no run 99")));
    Ok(())
}

#[test]
fn a_plan_runs_once_at_a_time_whoever_begins_it() -> Test {
    let dir = tempfile::tempdir()?;
    let (one, two) = (History::open(dir.path())?, History::open(dir.path())?);
    let (first, second) = (one.own()?, two.own()?);
    let id = one.begin(&new("home"), &first, true)?;
    let busy = two.begin(&new("home"), &second, true).err().ok_or("two at once")?;
    assert_eq!(busy.class, Class::Busy);
    assert!(busy.message.contains(&format!("run {id}")), "{busy}");
    two.begin(&new("web"), &second, true)?;
    let queued = two.begin(&new("home"), &second, false)?;
    let open: Vec<_> = one.open_runs()?.into_iter().map(|run| run.id).collect();
    assert_eq!(open, [id, id + 1, queued]);
    Ok(())
}

#[test]
fn runs_whose_process_is_gone_become_interrupted() -> Test {
    let dir = tempfile::tempdir()?;
    let history = History::open(dir.path())?;
    let (dead, alive) = (history.own()?, history.own()?);
    let lost = history.begin(&new("home"), &dead, true)?;
    history.start(lost)?;
    let mut report = Report::default();
    report.add("bytes", 7);
    history.update(lost, "{\"files\":3}", &report)?;
    let kept = history.begin(&new("web"), &alive, true)?;
    assert!(history.reconcile()?.is_empty());
    // The lock goes with the process; its file may stay.
    drop(dead);
    assert_eq!(history.reconcile()?, [lost]);
    let run = history.run(lost)?;
    assert_eq!(
        (run.outcome, run.progress, run.report.number("bytes")),
        (Outcome::Interrupted, None, 7)
    );
    assert!(run.ended.is_some() && run.report.problem.is_some());
    assert_eq!(history.run(kept)?.outcome, Outcome::Queued);
    // And its plan may run again.
    history.begin(&new("home"), &alive, true)?;
    Ok(())
}

#[test]
fn an_owner_that_was_killed_leaves_a_file_that_counts_for_nothing() -> Test {
    let dir = tempfile::tempdir()?;
    let history = History::open(dir.path())?;
    let owner = history.own()?;
    let id = history.begin(&new("home"), &owner, true)?;
    let path = dir.path().join("at-work").join(owner.name());
    assert!(path.exists());
    let text = std::fs::read(&path)?;
    drop(owner);
    std::fs::write(&path, text)?;
    assert_eq!(history.reconcile()?, [id]);
    assert!(!path.exists());
    Ok(())
}

#[test]
fn what_is_armed_counts_from_when_it_was_changed() -> Test {
    let dir = tempfile::tempdir()?;
    let history = History::open(dir.path())?;
    assert_eq!(history.armed("home", "backup", "daily", 100)?, 100);
    assert_eq!(history.armed("home", "backup", "daily", 200)?, 100);
    history.advance("home", "backup", 150)?;
    assert_eq!(history.armed("home", "backup", "daily", 300)?, 150);
    assert_eq!(history.armed("home", "backup", "hourly", 400)?, 400);
    assert_eq!(history.armed("home", "check", "daily", 500)?, 500);
    history.disarm_all_but(&[("home".into(), "backup")])?;
    assert_eq!(history.armed("home", "backup", "hourly", 900)?, 400);
    assert_eq!(history.armed("home", "check", "daily", 900)?, 900);
    Ok(())
}

#[test]
fn a_check_is_found_behind_any_number_of_backups_and_within_one() -> Test {
    let dir = tempfile::tempdir()?;
    let history = History::open(dir.path())?;
    let owner = history.own()?;
    let run = |verb: &str, outcome, checked: bool| -> Result<_, Problem> {
        let id = history.begin(&NewRun { verb: verb.into(), ..new("home") }, &owner, true)?;
        let mut report = Report::default();
        if checked {
            report.add("snapshots_checked", 3);
        }
        history.end(id, outcome, &report)?;
        Ok(id)
    };
    let place = new("home").place;
    let newest = |place: &str| -> Result<_, Problem> {
        let id = |good| history.last_check(place, good).map(|run| run.map(|run| run.id));
        Ok((id(false)?, id(true)?))
    };
    run("backup", Outcome::Ok, false)?;
    assert_eq!(newest(&place)?, (None, None));
    let within = run("backup", Outcome::Warnings, true)?;
    for _ in 0..20 {
        run("backup", Outcome::Ok, false)?;
    }
    assert_eq!(newest(&place)?, (Some(within), Some(within)));
    assert_eq!(newest("elsewhere")?, (None, None));
    let failed = run("check", Outcome::Failed, false)?;
    assert_eq!(newest(&place)?, (Some(failed), Some(within)));
    Ok(())
}

#[test]
fn missed_runs_show_on_their_days_and_never_hide_a_run() -> Test {
    let dir = tempfile::tempdir()?;
    let history = History::open(dir.path())?;
    let owner = history.own()?;
    let day = 86_400_000_000_000;
    // Its day is today, also if midnight comes meanwhile.
    let id = history.begin(&new("home"), &owner, true)?;
    let now = history.run(id)?.started;
    let missed = Missed {
        count: 3,
        first: now - 3 * day,
        last: now - day,
        problem: Problem::new(Class::Interrupted, "the machine was off"),
    };
    history.missed(&new("home"), &missed)?;
    history.end(id, Outcome::Warnings, &Report::default())?;
    let days = history.days("home", "backup", 5, now, &TimeZone::UTC)?;
    let outcomes: Vec<_> = days.iter().map(|day| (day.outcome, day.runs)).collect();
    let missed = (Some(Outcome::Missed), 0);
    assert_eq!(outcomes, [(None, 0), missed, missed, missed, (Some(Outcome::Warnings), 1)]);
    let run = history.runs(&Page { outcome: Some(Outcome::Missed), ..Page::default() })?;
    assert_eq!(run.first().map(|run| run.report.number("missed")), Some(3));
    assert_eq!(history.last("home", "backup", true)?.map(|run| run.id), Some(id));
    let at = |place: &str| history.runs(&Page { place: Some(place.into()), ..Page::default() });
    assert_eq!((at(&history.run(id)?.place)?.len(), at("elsewhere")?.len()), (2, 0));
    assert_eq!(Outcome::parse("missed")?, Outcome::Missed);
    assert!(Outcome::parse("typo").is_err_and(|problem| problem.message.contains("typo")));
    assert!(history.last("home", "backup", false)?.is_some_and(|run| run.id == id));
    assert!(history.last("web", "backup", false)?.is_none());
    Ok(())
}

#[test]
fn old_runs_go_but_for_the_newest_of_each_kind() -> Test {
    let dir = tempfile::tempdir()?;
    let history = History::open(dir.path())?;
    let owner = history.own()?;
    let line = LogLine { time: 5, level: Level::Info, text: "x".into() };
    let mut ids = Vec::new();
    for outcome in [Outcome::Ok, Outcome::Failed, Outcome::Ok, Outcome::Ok] {
        let id = history.begin(&new("home"), &owner, true)?;
        assert_eq!(history.last_line(id)?, 0);
        history.log(id, std::slice::from_ref(&line))?;
        assert_eq!(history.last_line(id)?, 1);
        history.end(id, outcome, &Report::default())?;
        ids.push(id);
    }
    let open = history.begin(&new("home"), &owner, true)?;
    history.log(open, &[line])?;
    let later = times::now() + 1;
    assert_eq!(history.rotate(later + super::KEEP_LOGS)?, 0);
    assert_eq!(history.runs(&Page::default())?.len(), 5);
    assert!(history.log_lines(ids[3], 0, None)?.is_empty());
    assert_eq!(history.log_lines(open, 0, None)?.len(), 1);
    assert_eq!(history.rotate(later + super::KEEP_RUNS)?, 2);
    let left: Vec<_> = history.runs(&Page::default())?.iter().map(|run| run.id).collect();
    assert_eq!(left, [open, ids[3], ids[1]]);
    Ok(())
}

#[test]
fn a_history_of_a_later_version_or_of_something_else_is_left_alone() -> Test {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("holdfast.sqlite");
    let history = History::open(dir.path())?;
    history.write(|t| t.pragma_update(None, "user_version", 99))?;
    drop(history);
    assert!(History::open(dir.path()).is_err_and(|p| p.class == Class::NewerFormat));
    std::fs::write(&path, [7; 5000])?;
    for name in ["holdfast.sqlite-wal", "holdfast.sqlite-shm"] {
        let _ = std::fs::remove_file(dir.path().join(name));
    }
    let problem = History::open(dir.path()).err().ok_or("opened")?;
    assert_eq!(problem.class, Class::Damage);
    assert_eq!(std::fs::read(&path)?, [7; 5000]);
    Ok(())
}

#[test]
fn it_says_how_long_a_run_took() {
    let run = Run {
        id: 1,
        plan: None,
        verb: "backup".into(),
        place: String::new(),
        by: By::Command,
        due: None,
        started: 1_000_000_000,
        ended: Some(3_500_000_000),
        outcome: Outcome::Ok,
        cancel: 0,
        progress: None,
        report: Report::default(),
    };
    assert_eq!(run.took(), Some(Duration::from_millis(2500)));
    assert_eq!(Run { outcome: Outcome::Missed, ..run.clone() }.took(), None);
    assert_eq!(run.to_json()["outcome"], "ok");
}
