use std::path::PathBuf;

use holdfast_engine::repo::{CreateOptions, open};

use super::*;
use crate::jobs::backup::Backup;
use crate::runs::Page;

type Test = Result<(), Box<dyn std::error::Error>>;

/// How long a run may take here.
const PATIENCE: Duration = Duration::from_secs(300);

/// A home with a configuration, sources and an unencrypted repository.
pub(crate) struct Bench {
    _dir: tempfile::TempDir,
    pub(crate) root: PathBuf,
    pub(crate) paths: Paths,
}

impl Bench {
    pub(crate) fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let root = dir.path().to_path_buf();
        std::fs::create_dir(root.join("src"))?;
        std::fs::write(root.join("src/file"), "hello")?;
        let paths = Paths {
            config: root.join("config.toml"),
            state: root.join("state"),
            cache: None,
            home: Some(root.clone()),
        };
        let bench = Self { _dir: dir, root, paths };
        bench.create("repo")?;
        Ok(bench)
    }

    pub(crate) fn create(&self, name: &str) -> Test {
        let text = self.root.join(name);
        let place = self.paths.resolve(text.as_os_str(), &self.paths.load_config()?)?;
        let access = self.paths.access(Arc::new(crate::ask::Nobody));
        let storage = crate::open::open_storage(&place, &access)?;
        open::create(storage, CreateOptions::default())?;
        Ok(())
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.root.join(name).to_string_lossy().into_owned()
    }

    /// A configuration with plans of these names and further lines each.
    pub(crate) fn configure(&self, plans: &[(&str, &str)]) -> Test {
        let mut text = format!("[repository.nas]\nlocation = {:?}\n", self.text("repo"));
        for (name, more) in plans {
            let source = self.text("src");
            text.push_str(&format!(
                "[plan.{name}]\nsources = [{source:?}]\nrepository = \"nas\"\n{more}\n"
            ));
        }
        Ok(std::fs::write(&self.paths.config, text)?)
    }

    pub(crate) fn runner(&self, concurrent: usize) -> Result<Runner, Problem> {
        Runner::new(self.paths.clone(), Options { concurrent })
    }
}

/// Bytes that cannot be compressed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed + 1;
    let step = |_| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) as u8
    };
    (0..length).map(step).collect()
}

#[test]
fn a_plan_runs_and_its_history_says_what_it_did() -> Test {
    let bench = Bench::new()?;
    bench.configure(&[("home", "tags = [\"x\"]")])?;
    let runner = bench.runner(2)?;
    let mut events = runner.subscribe();
    let id = runner.start(Job::Plan("home".into()), By::Console)?;
    runner.wait(id);
    let run = runner.history().run(id)?;
    assert_eq!((run.outcome, run.by, run.place.as_str()), (Outcome::Ok, By::Console, "@nas"));
    assert_eq!((run.report.number("files_new"), run.report.number("bytes")), (1, 5));
    assert_eq!(run.report.snapshots.len(), 1);
    assert!(run.report.phases.iter().any(|phase| phase.name == "backup/committing"));
    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        assert_eq!(event.run, id);
        seen.push(match event.what {
            What::Queued => "queued",
            What::Started => "started",
            What::Progress(_) | What::Log(_) => continue,
            What::Ended(_) => "ended",
        });
    }
    assert_eq!(seen, ["queued", "started", "ended"]);
    assert!(runner.live(id).is_none());
    let place = bench.paths.resolve("@nas".as_ref(), &bench.paths.load_config()?)?;
    let access = bench.paths.access(Arc::new(crate::ask::Nobody));
    let snapshots = bench.paths.open_repository(&place, &access)?.snapshots()?;
    let tags = snapshots.first().map(|info| info.record.tags.clone());
    assert_eq!(tags, Some(vec!["plan:home".to_owned(), "x".to_owned()]));
    Ok(())
}

#[test]
fn what_fails_is_explained_and_tried_again_only_if_it_may_pass() -> Test {
    let bench = Bench::new()?;
    bench.configure(&[("home", "retry = { times = 2, wait = \"10ms\" }")])?;
    std::fs::rename(bench.root.join("repo"), bench.root.join("gone"))?;
    let runner = bench.runner(2)?;
    let id = runner.start(Job::Plan("home".into()), By::Schedule)?;
    runner.wait(id);
    let run = runner.history().run(id)?;
    assert_eq!(run.outcome, Outcome::Failed);
    let problem = run.report.problem.ok_or("no problem")?;
    assert_eq!(problem.class, "no repository");
    assert!(!problem.hints.is_empty());
    // A repository that is not there does not come by itself.
    let log = runner.history().log_lines(id, 0, None)?;
    assert!(log.iter().all(|(_, line)| !line.text.contains("trying again")), "{log:?}");
    assert!(runner.start(Job::Plan("hme".into()), By::Console).is_err());
    Ok(())
}

#[test]
fn a_server_that_does_not_answer_is_tried_again() -> Test {
    let bench = Bench::new()?;
    // Nobody listens there, and nobody is given it.
    let port = 1;
    let text = format!(
        "[repository.far]\nlocation = \"sftp://a@127.0.0.1:{port}/x\"\npassword = \"x\"\n\
         [plan.home]\nsources = [{:?}]\nrepository = \"far\"\n\
         retry = {{ times = 2, wait = \"10ms\" }}\n",
        bench.text("src")
    );
    std::fs::write(&bench.paths.config, text)?;
    let runner = bench.runner(2)?;
    let id = runner.start(Job::Plan("home".into()), By::Schedule)?;
    runner.wait(id);
    let run = runner.history().run(id)?;
    assert_eq!(run.outcome, Outcome::Failed);
    assert_eq!(run.report.problem.map(|problem| problem.class).as_deref(), Some("refused"));
    let log = runner.history().log_lines(id, 0, None)?;
    let again = log.iter().filter(|(_, line)| line.text.contains("trying again")).count();
    assert_eq!(again, 2, "{log:?}");
    Ok(())
}

#[test]
fn what_cannot_be_read_makes_warnings_with_a_class() -> Test {
    let bench = Bench::new()?;
    bench.configure(&[("home", "")])?;
    let runner = bench.runner(2)?;
    let recorder = Recorder::new(1, runner.0.events.clone());
    use holdfast_engine::monitor::Monitor;
    for n in 0..30 {
        recorder.problem(&format!("/x/{n}"), "Permission denied (os error 13)");
    }
    recorder.problem("/y", "it changed while it was read");
    let (report, lines) = recorder.finish(None);
    let classes: Vec<_> =
        report.errors.iter().map(|c| (c.class.as_str(), c.count, c.samples.len())).collect();
    assert_eq!(classes, [("permission denied", 30, 20), ("changed while read", 1, 1)]);
    assert_eq!(lines.len(), 31);
    Ok(())
}

#[test]
fn runs_wait_for_their_turn_and_a_cancelled_one_never_begins() -> Test {
    let bench = Bench::new()?;
    let names: Vec<_> = (0..50).map(|n| format!("p{n}")).collect();
    let plans: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    bench.configure(&plans)?;
    let runner = bench.runner(3)?;
    let mut events = runner.subscribe();
    let ids: Vec<_> = names
        .iter()
        .map(|name| runner.start(Job::Plan(name.clone()), By::Schedule))
        .collect::<Result<_, _>>()?;
    let last = ids.last().copied().ok_or("no run")?;
    runner.cancel(last)?;
    let until = Instant::now() + PATIENCE;
    let (mut running, mut most, mut ended) = (0_i32, 0, 0);
    while ended < ids.len() {
        assert!(Instant::now() < until, "{ended} of {} ended", ids.len());
        match events.try_recv().map(|event| event.what) {
            Ok(What::Started) => running += 1,
            Ok(What::Ended(outcome)) => {
                running -= i32::from(outcome != Outcome::Cancelled);
                ended += 1;
            }
            Ok(_) => {}
            Err(broadcast::error::TryRecvError::Lagged(_)) => {
                return Err("more events than there can be of so many runs".into());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
        most = most.max(running);
    }
    assert!((1..=3).contains(&most), "{most} at once");
    let runs = runner.history().runs(&Page::default())?;
    let cancelled: Vec<_> = runs.iter().filter(|run| run.outcome != Outcome::Ok).collect();
    assert_eq!(
        cancelled.iter().map(|run| (run.id, run.outcome)).collect::<Vec<_>>(),
        [(last, Outcome::Cancelled)]
    );
    assert_eq!(runs.len(), 50);
    Ok(())
}

#[test]
fn a_cancelled_run_keeps_what_it_did_and_close_waits_for_it() -> Test {
    let bench = Bench::new()?;
    for n in 0..60 {
        std::fs::write(bench.root.join(format!("src/{n}")), noise(n, 300_000))?;
    }
    bench.configure(&[("home", "limit_upload = \"500K\"")])?;
    let runner = bench.runner(2)?;
    let mut events = runner.subscribe();
    let id = runner.start(Job::Plan("home".into()), By::Console)?;
    let until = Instant::now() + PATIENCE;
    // Until it has read something.
    loop {
        assert!(Instant::now() < until);
        match events.try_recv().map(|event| event.what) {
            Ok(What::Progress(progress)) if progress.files > 3 => break,
            Ok(What::Ended(outcome)) => return Err(format!("{outcome:?} too early").into()),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    let busy = runner.start(Job::Plan("home".into()), By::Console);
    assert!(busy.is_err_and(|problem| problem.class == Class::Busy));
    // As another process would: through the history.
    let other = bench.runner(2)?;
    while other.live(id).is_none_or(|progress| progress.step != "backup") {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
    let is_ending =
        |runner: &Runner| Ok::<_, Problem>(runner.is_ending(&runner.history().run(id)?));
    assert!(!is_ending(&runner)? && !is_ending(&other)?);
    assert_eq!(other.others()?.iter().map(|run| run.id).collect::<Vec<_>>(), [id]);
    assert!(runner.others()?.is_empty(), "its own run is none of another process");
    other.cancel(id)?;
    assert!(is_ending(&other)?);
    runner.wait(id);
    let run = runner.history().run(id)?;
    assert_eq!(run.outcome, Outcome::Cancelled);
    assert!(runner.cancel(id).is_err_and(|problem| problem.message.contains("cancelled")));
    // Asked here, that stands in no history.
    let here = runner.start(Job::Plan("home".into()), By::Console)?;
    let run = runner.history().run(here)?;
    assert!(!runner.is_ending(&run));
    runner.cancel(here)?;
    assert!(runner.is_ending(&run) || !runner.history().run(here)?.outcome.is_open());
    runner.wait(here);
    // A run that ends because the process does is one that nobody meant to end.
    let cut = runner.start(Job::Plan("home".into()), By::Schedule)?;
    assert!(runner.close(PATIENCE));
    assert_eq!(runner.history().run(cut)?.outcome, Outcome::Interrupted);
    assert_eq!(runner.history().untold()?, [cut]);
    assert!(runner.start(Job::Plan("home".into()), By::Console).is_err());
    Ok(())
}

#[test]
fn a_backup_needs_no_plan() -> Test {
    let bench = Bench::new()?;
    let runner = bench.runner(2)?;
    let backup = Backup {
        repository: bench.text("repo"),
        places: vec![bench.text("src")],
        ..Backup::default()
    };
    let id = runner.start(Job::Backup(backup), By::Console)?;
    runner.wait(id);
    let run = runner.history().run(id)?;
    assert_eq!((run.outcome, run.plan), (Outcome::Ok, None));
    assert_eq!(run.report.snapshots.len(), 1);
    let backup =
        Backup { places: vec!["-".into()], repository: bench.text("repo"), ..Backup::default() };
    let id = runner.start(Job::Backup(backup), By::Console)?;
    runner.wait(id);
    assert_eq!(runner.history().run(id)?.outcome, Outcome::Failed);
    Ok(())
}

#[test]
fn an_end_that_cannot_be_written_is_written_later() -> Test {
    let bench = Bench::new()?;
    bench.configure(&[("home", "")])?;
    let runner = bench.runner(2)?;
    let database = rusqlite::Connection::open(bench.paths.state.join("holdfast.sqlite"))?;
    let refuse = "CREATE TRIGGER full BEFORE UPDATE OF outcome ON runs WHEN NEW.outcome = 'ok' \
                  BEGIN SELECT RAISE(ABORT, 'full'); END";
    database.execute_batch(refuse)?;
    let id = runner.start(Job::Plan("home".into()), By::Schedule)?;
    runner.wait(id);
    assert_eq!(runner.history().run(id)?.outcome, Outcome::Running);
    database.execute_batch("DROP TRIGGER full")?;
    let until = Instant::now() + PATIENCE;
    while runner.history().run(id)?.outcome != Outcome::Ok {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(runner.history().run(id)?.report.snapshots.len(), 1);
    Ok(())
}

#[test]
fn a_plan_at_work_elsewhere_holds_up_nobody_else() -> Test {
    let bench = Bench::new()?;
    bench.configure(&[("home", ""), ("web", "")])?;
    let (here, elsewhere) = (bench.runner(1)?, bench.runner(1)?);
    let new = NewRun {
        plan: Some("home".into()),
        verb: "backup".into(),
        place: "@nas".into(),
        by: By::Command,
        due: None,
    };
    let busy = elsewhere.history().begin(&new, &elsewhere.0.owner, true)?;
    let wait =
        |plan: &str| here.start_due(Job::Plan(plan.into()), By::Schedule, None, IfBusy::Wait);
    let (home, web) = (wait("home")?, wait("web")?);
    let outcome = |run| here.history().run(run).map(|run| run.outcome);
    let until = Instant::now() + PATIENCE;
    while outcome(web)?.is_open() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((outcome(home)?, outcome(web)?), (Outcome::Queued, Outcome::Ok));
    elsewhere.history().end(busy, Outcome::Ok, &Report::default())?;
    here.wait(home);
    assert_eq!(outcome(home)?, Outcome::Ok);
    Ok(())
}

#[test]
fn who_is_to_be_told_is_remembered_while_the_configuration_makes_no_sense() -> Test {
    let bench = Bench::new()?;
    bench.configure(&[("home", "notify = { phone = [\"failure\"] }")])?;
    let text = std::fs::read_to_string(&bench.paths.config)?;
    let channel = "[channel.phone]\ntype = \"ntfy\"\nurl = \"http://127.0.0.1:1/x\"\n";
    std::fs::write(&bench.paths.config, format!("{channel}{text}"))?;
    let runner = bench.runner(1)?;
    assert!(runner.0.config()?.has_channel("phone"));
    std::fs::write(&bench.paths.config, "[plan.")?;
    assert!(bench.paths.load_config().is_err());
    assert!(runner.0.config()?.has_channel("phone"));
    Ok(())
}
