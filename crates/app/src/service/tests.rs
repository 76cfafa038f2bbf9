use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::paths::Paths;
use crate::runs::{Owner, Page, Report};
use crate::times::rfc3339;

type Test = Result<(), Box<dyn std::error::Error>>;

const HOUR: i64 = 3600 * SECOND;

/// Notes what is begun, and begins it in the history alone.
struct Noting {
    history: Arc<History>,
    owner: Owner,
    begun: Mutex<VecDeque<(String, By, i64)>>,
}

impl Begin for Arc<Noting> {
    fn begin(&self, job: Job, by: By, due: Option<i64>, if_busy: IfBusy) -> Result<RunId, Problem> {
        let (plan, verb) = match &job {
            Job::Plan(name) => (name.clone(), "backup"),
            Job::Drill(name) => (name.clone(), "drill"),
            Job::Check(check) => (check.plan.clone().unwrap_or_default(), "check"),
            Job::Gc(gc) => (gc.plan.clone().unwrap_or_default(), "gc"),
            Job::Backup(_) => (String::new(), "backup"),
            Job::Restore(_) => (String::new(), "restore"),
            Job::Forget(_) => (String::new(), "forget"),
        };
        let new =
            NewRun { plan: Some(plan.clone()), verb: verb.into(), place: "@nas".into(), by, due };
        let run = self.history.begin(&new, &self.owner, if_busy == IfBusy::Refuse)?;
        if let Ok(mut begun) = self.begun.lock() {
            begun.push_back((format!("{plan} {verb}"), by, due.unwrap_or(0)));
        }
        Ok(run)
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    paths: Paths,
    noting: Arc<Noting>,
    scheduler: Scheduler<Arc<Noting>>,
    told: Vec<Told>,
}

impl Bench {
    fn new(plans: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let paths = Paths {
            config: dir.path().join("config.toml"),
            state: dir.path().join("state"),
            cache: None,
            home: None,
        };
        std::fs::write(&paths.config, plans)?;
        let history = Arc::new(History::open(&paths.state)?);
        let owner = history.own()?;
        let noting = Arc::new(Noting { history: history.clone(), owner, begun: Mutex::default() });
        let scheduler = Scheduler::new(noting.clone(), history, &paths);
        Ok(Self { _dir: dir, paths, noting, scheduler, told: Vec::new() })
    }

    /// One round: what was begun, with its due time.
    fn tick(&mut self, now: i64) -> Result<Vec<String>, Problem> {
        let told = &mut self.told;
        let next = self.scheduler.tick(now, &mut |what| told.push(what))?;
        assert!(next > now && next <= now + LOOK);
        let begun = self.noting.begun.lock().map(|mut all| all.drain(..).collect::<Vec<_>>());
        let begun = begun.unwrap_or_default();
        Ok(begun
            .iter()
            .map(|(what, by, due)| format!("{what} {} {}", by.name(), rfc3339(*due)))
            .collect())
    }

    /// Ends all that is open.
    fn end(&self) -> Result<(), Problem> {
        let history = &self.noting.history;
        let open = history.open_runs()?;
        open.iter().try_for_each(|run| history.end(run.id, Outcome::Ok, &Report::default()))
    }

    /// The missed rows: how many each stands for, from when to when.
    fn missed(&self) -> Result<Vec<(u64, String, String)>, Problem> {
        let page = Page { outcome: Some(Outcome::Missed), ..Page::default() };
        let runs = self.noting.history.runs(&page)?;
        let row = |run: &crate::runs::Run| {
            let last = rfc3339(run.ended.unwrap_or(0));
            (run.report.number("missed"), rfc3339(run.started), last)
        };
        Ok(runs.iter().map(row).collect())
    }
}

fn plan(name: &str, more: &str) -> String {
    format!("[plan.{name}]\nsources = [\"/a\"]\nrepository = \"nas\"\ntimezone = \"UTC\"\n{more}\n")
}

fn at(text: &str) -> Result<i64, Box<dyn std::error::Error>> {
    Ok(i64::try_from(text.parse::<jiff::Timestamp>()?.as_nanosecond())?)
}

#[test]
fn a_plan_runs_when_it_is_due_and_not_before() -> Test {
    let mut bench = Bench::new(&plan("home", "schedule = \"daily at 02:30\""))?;
    let evening = at("2026-11-20T20:00:00Z")?;
    assert!(bench.tick(evening)?.is_empty());
    assert_eq!(bench.told, [Told::Read(1)]);
    assert!(bench.tick(at("2026-11-21T02:29:59Z")?)?.is_empty());
    let due = ["home backup schedule 2026-11-21T02:30:00Z"];
    assert_eq!(bench.tick(at("2026-11-21T02:30:00Z")?)?, due);
    assert!(bench.tick(at("2026-11-21T02:30:01Z")?)?.is_empty());
    assert!(bench.missed()?.is_empty());
    Ok(())
}

#[test]
fn what_was_missed_is_recorded_and_made_up_for_once() -> Test {
    let mut bench = Bench::new(&plan("home", "schedule = \"daily at 02:30\""))?;
    bench.tick(at("2026-11-20T20:00:00Z")?)?;
    // Three days later the machine is switched on again.
    let morning = at("2026-11-23T09:00:00Z")?;
    assert_eq!(bench.tick(morning)?, ["home backup catch-up 2026-11-23T02:30:00Z"]);
    bench.end()?;
    let missed = (3, "2026-11-21T02:30:00Z".to_owned(), "2026-11-23T02:30:00Z".to_owned());
    assert_eq!(bench.missed()?, [missed]);
    assert!(matches!(bench.told.last(), Some(Told::Missed(..))));
    assert!(bench.tick(morning + SECOND)?.is_empty());
    let due = ["home backup schedule 2026-11-24T02:30:00Z"];
    assert_eq!(bench.tick(at("2026-11-24T02:30:03Z")?)?, due);
    assert_eq!(bench.missed()?.len(), 1);
    Ok(())
}

#[test]
fn who_wants_no_catch_up_has_none_and_the_last_of_many_is_no_miss() -> Test {
    let text = plan("home", "schedule = \"hourly\"\ncatch_up = false");
    let mut bench = Bench::new(&text)?;
    let start = at("2026-11-20T20:00:00Z")?;
    bench.tick(start)?;
    assert!(bench.tick(start + 3 * HOUR + 10 * 60 * SECOND)?.is_empty());
    assert_eq!(bench.missed()?.first().map(|missed| missed.0), Some(3));
    // At 02:01 the one of 02:00 is due; those of 00:00 and 01:00 were missed.
    let begun = bench.tick(start + 6 * HOUR + 60 * SECOND)?;
    assert_eq!(begun, ["home backup schedule 2026-11-21T02:00:00Z"]);
    assert_eq!(bench.missed()?.first().map(|missed| missed.0), Some(2));
    Ok(())
}

#[test]
fn an_edited_schedule_is_armed_anew() -> Test {
    let mut bench = Bench::new(&plan("home", "schedule = \"daily at 02:30\""))?;
    let start = at("2026-11-20T20:00:00Z")?;
    bench.tick(start)?;
    // Earlier than now: it is due tomorrow, and nothing was missed.
    std::fs::write(&bench.paths.config, plan("home", "schedule = \"daily at 19:00\""))?;
    assert!(bench.tick(start + 60 * SECOND)?.is_empty());
    // A quarter past eight would have been due by this one: it was not said then.
    std::fs::write(&bench.paths.config, plan("home", "schedule = \"every 15 minutes\""))?;
    assert!(bench.tick(start + 16 * 60 * SECOND)?.is_empty());
    let begun = bench.tick(start + 30 * 60 * SECOND)?;
    assert_eq!(begun, ["home backup schedule 2026-11-20T20:30:00Z"]);
    bench.end()?;
    // Disabled for a while: that is no miss when it comes back.
    let disabled = plan("home", "schedule = \"every 15 minutes\"\nenabled = false");
    std::fs::write(&bench.paths.config, disabled)?;
    assert!(bench.tick(start + HOUR)?.is_empty());
    std::fs::write(&bench.paths.config, plan("home", "schedule = \"every 15 minutes\" "))?;
    assert!(bench.tick(start + 2 * HOUR + SECOND)?.is_empty());
    assert!(bench.missed()?.is_empty());
    Ok(())
}

#[test]
fn a_configuration_that_makes_no_sense_changes_nothing() -> Test {
    let good = plan("home", "schedule = \"hourly\"");
    let mut bench = Bench::new(&good)?;
    let start = at("2026-11-20T20:00:00Z")?;
    bench.tick(start)?;
    std::fs::write(&bench.paths.config, "[plan.home\n")?;
    assert_eq!(bench.tick(start + HOUR)?.len(), 1);
    assert!(bench.told.iter().any(|told| matches!(told, Told::Wrong(_))));
    bench.end()?;
    let told = bench.told.len();
    bench.tick(start + HOUR + SECOND)?;
    // It is told once, not every ten seconds.
    assert_eq!(bench.told.len(), told);
    // One plan that makes no sense does not stop the others.
    let text = format!("{good}{}", plan("web", "schedule = \"soon\""));
    std::fs::write(&bench.paths.config, text)?;
    assert_eq!(bench.tick(start + 2 * HOUR)?.len(), 1);
    assert!(
        matches!(bench.told.iter().rev().nth(1), Some(Told::Wrong(p)) if p.message.contains("web"))
    );
    Ok(())
}

#[test]
fn plans_are_read_again_where_the_history_could_not_take_them() -> Test {
    let mut bench = Bench::new(&plan("home", "schedule = \"hourly\""))?;
    let start = at("2026-11-20T20:00:00Z")?;
    bench.tick(start)?;
    let database = rusqlite::Connection::open(bench.paths.state.join("holdfast.sqlite"))?;
    database.execute_batch(
        "CREATE TRIGGER full BEFORE DELETE ON armed BEGIN SELECT RAISE(ABORT, 'full'); END",
    )?;
    std::fs::write(&bench.paths.config, plan("web", "schedule = \"hourly\""))?;
    assert!(bench.tick(start + SECOND).is_err());
    database.execute_batch("DROP TRIGGER full")?;
    bench.tick(start + 2 * SECOND)?;
    assert_eq!(bench.tick(start + HOUR)?, ["web backup schedule 2026-11-20T21:00:00Z"]);
    Ok(())
}

#[test]
fn a_run_that_is_due_while_the_one_before_works_is_skipped_or_queued() -> Test {
    let text = plan("skip", "schedule = \"hourly\"")
        + &plan("queue", "schedule = \"hourly\"\noverlap = \"queue\"");
    let mut bench = Bench::new(&text)?;
    let start = at("2026-11-20T20:00:00Z")?;
    bench.tick(start)?;
    assert_eq!(bench.tick(start + HOUR)?.len(), 2);
    let history = bench.noting.history.clone();
    for run in history.open_runs()? {
        history.start(run.id)?;
    }
    let begun = bench.tick(start + 2 * HOUR)?;
    assert_eq!(begun, ["queue backup schedule 2026-11-20T22:00:00Z"]);
    let page = Page { outcome: Some(Outcome::Missed), ..Page::default() };
    let missed = history.runs(&page)?;
    let why = missed.first().and_then(|run| run.report.problem.clone());
    assert_eq!(why.map(|problem| problem.class).as_deref(), Some("busy"));
    assert_eq!(missed.first().and_then(|run| run.plan.clone()).as_deref(), Some("skip"));
    // One that waits is enough.
    assert!(bench.tick(start + 3 * HOUR)?.is_empty());
    assert_eq!(history.runs(&page)?.len(), 3);
    Ok(())
}

#[test]
fn fifty_plans_due_in_one_minute_all_run() -> Test {
    let text: String = (0..50)
        .map(|n| plan(&format!("p{n}"), "schedule = \"daily at 02:30\"\njitter = \"1m\""))
        .collect();
    let mut bench = Bench::new(&text)?;
    let start = at("2026-11-21T02:29:00Z")?;
    bench.tick(start)?;
    let mut begun = std::collections::BTreeSet::new();
    let mut rounds = 0;
    for second in 0..125 {
        let now = bench.tick(start + second * SECOND)?;
        rounds += usize::from(!now.is_empty());
        begun.extend(now.into_iter().filter_map(|what| what.split(' ').next().map(String::from)));
    }
    assert_eq!(begun.len(), 50);
    assert!(rounds > 10, "they were not spread");
    assert!(bench.missed()?.is_empty());
    Ok(())
}

#[test]
fn all_parts_of_a_plan_have_their_own_time() -> Test {
    let more = "schedule = \"hourly\"\ngc = \"daily at 21:00\"\n\
                check = { data = \"5%\", schedule = \"daily at 22:00\" }\n\
                drill = \"daily at 22:00\"";
    let mut bench = Bench::new(&plan("home", more))?;
    let start = at("2026-11-20T20:10:00Z")?;
    bench.tick(start)?;
    let now = at("2026-11-20T21:00:00Z")?;
    let due = |what: &str| format!("home {what} schedule 2026-11-20T21:00:00Z");
    // What is no backup waits for it, and is not refused.
    assert_eq!(bench.tick(now)?, [due("backup"), due("gc")]);
    bench.end()?;
    let begun = bench.tick(now + HOUR)?;
    assert_eq!(begun.len(), 3, "{begun:?}");
    // A check that takes long makes no backup missed, and is not begun twice.
    let history = bench.noting.history.clone();
    for run in history.open_runs()?.iter().filter(|run| run.verb == "backup") {
        history.end(run.id, Outcome::Ok, &Report::default())?;
    }
    assert_eq!(bench.tick(now + 2 * HOUR)?, ["home backup schedule 2026-11-20T23:00:00Z"]);
    assert!(bench.missed()?.is_empty());
    bench.tick(now + 25 * HOUR)?;
    let missed = history.runs(&Page { outcome: Some(Outcome::Missed), ..Page::default() })?;
    assert!(missed.iter().any(|run| run.verb == "check"), "{missed:?}");
    Ok(())
}

#[test]
fn a_clock_that_goes_back_stops_nothing() -> Test {
    let mut bench = Bench::new(&plan("home", "schedule = \"hourly\""))?;
    let wrong = at("2030-01-01T00:10:00Z")?;
    bench.tick(wrong)?;
    assert_eq!(bench.tick(wrong + HOUR)?.len(), 1);
    bench.end()?;
    let right = at("2026-11-20T20:00:00Z")?;
    assert!(bench.tick(right)?.is_empty());
    assert_eq!(bench.tick(right + HOUR)?, ["home backup schedule 2026-11-20T21:00:00Z"]);
    bench.end()?;
    // By a little: what ran at 21:00 does not run again at 21:00.
    bench.tick(at("2026-11-20T22:00:00Z")?)?;
    bench.end()?;
    assert!(bench.tick(at("2026-11-20T21:59:58Z")?)?.is_empty());
    assert!(bench.tick(at("2026-11-20T22:00:01Z")?)?.is_empty());
    Ok(())
}

#[test]
fn what_a_crash_cut_off_is_run_again_once() -> Test {
    let mut bench = Bench::new(&plan("home", "schedule = \"hourly\""))?;
    bench.tick(at("2026-11-20T20:10:00Z")?)?;
    let history = bench.noting.history.clone();
    let lost = |by: By| -> Result<RunId, Problem> {
        let owner = history.own()?;
        let new = NewRun {
            plan: Some("home".into()),
            verb: "backup".into(),
            place: "@nas".into(),
            by,
            due: Some(7),
        };
        history.begin(&new, &owner, false)
    };
    let begun = || bench.noting.begun.lock().map(|all| all.len()).unwrap_or(0);
    let first = lost(By::Schedule)?;
    // Whoever finds out first: the service makes up for it anyway.
    assert_eq!(history.reconcile()?, [first]);
    assert_eq!((history.untold()?, history.untold()?), (vec![first], vec![]));
    bench.scheduler.make_up()?;
    assert_eq!(begun(), 1);
    bench.scheduler.make_up()?;
    bench.end()?;
    bench.scheduler.make_up()?;
    lost(By::CatchUp)?;
    history.reconcile()?;
    bench.scheduler.make_up()?;
    assert_eq!(begun(), 1);
    Ok(())
}

#[test]
fn one_service_at_a_time() -> Test {
    let dir = tempfile::tempdir()?;
    let lock = Lock::take(dir.path())?;
    assert!(Lock::take(dir.path()).is_err_and(|problem| problem.class == Class::Busy));
    drop(lock);
    Lock::take(dir.path())?;
    Ok(())
}
