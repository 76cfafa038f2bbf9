use holdfast_connectors::local::source::LocalSourceOptions;
use holdfast_engine::monitor::NoMonitor;
use holdfast_engine::repo::Repository;

use super::*;
use crate::open::SourceContext;
use crate::roots;
use crate::runner::Runner;
use crate::runner::tests::Bench;
use crate::runs::{Outcome, Run};

type Test = Result<(), Box<dyn std::error::Error>>;

fn opened(bench: &Bench, at: &str) -> Result<Repository, Problem> {
    let place = bench.paths.resolve(at.as_ref(), &bench.paths.load_config()?)?;
    let access = bench.paths.access(std::sync::Arc::new(crate::ask::Nobody));
    bench.paths.open_repository(&place, &access)
}

/// Runs a job to its end.
fn ran(runner: &Runner, job: Job) -> Result<Run, Problem> {
    let id = runner.start(job, By::Command)?;
    runner.wait(id);
    runner.history().run(id)
}

fn plan() -> Job {
    Job::Plan("home".into())
}

fn log(runner: &Runner, run: &Run) -> Result<String, Problem> {
    let lines = runner.history().log_lines(run.id, 0, None)?;
    Ok(lines.into_iter().map(|(_, line)| line.text + "\n").collect())
}

#[test]
fn what_follows_a_backup_is_done_and_counted() -> Test {
    let bench = Bench::new()?;
    bench.create("second")?;
    let second = bench.text("second");
    bench.configure(&[(
        "home",
        &format!(
            "keep = {{ last = 2 }}\ngc = true\ncheck = {{ data = \"100%\" }}\nmirror = [{second:?}]"
        ),
    )])?;
    let runner = bench.runner(2)?;
    // A snapshot of the same places that is not the plan's own: its rules never touch it.
    let other = backup::Backup {
        repository: "@nas".into(),
        places: vec![bench.text("src")],
        ..backup::Backup::default()
    };
    assert_eq!(ran(&runner, Job::Backup(other))?.outcome, Outcome::Ok);
    for n in 0..3 {
        std::fs::write(bench.root.join("src/file"), format!("version {n}"))?;
        let run = ran(&runner, plan())?;
        assert_eq!(run.outcome, Outcome::Ok, "{:?} {}", run.report.problem, log(&runner, &run)?);
        assert_eq!(run.report.number("snapshots_copied"), 1);
        assert!(run.report.number("packs_read") > 0);
        assert_eq!(run.report.number("snapshots_forgotten"), u64::from(n == 2));
        let steps: Vec<_> = run.report.phases.iter().map(|phase| phase.name.as_str()).collect();
        for step in ["backup", "retention", "gc", "mirror", "check"] {
            assert!(steps.contains(&step), "{step}: {steps:?}");
        }
    }
    assert_eq!(opened(&bench, "@nas")?.snapshots()?.len(), 3);
    assert_eq!(opened(&bench, &second)?.snapshots()?.len(), 3);
    Ok(())
}

#[test]
fn a_step_that_fails_makes_the_run_fail_and_the_others_are_done_anyway() -> Test {
    let bench = Bench::new()?;
    let nowhere = bench.text("nowhere");
    bench.configure(&[("home", &format!("mirror = [{nowhere:?}]\ncheck = true"))])?;
    let runner = bench.runner(2)?;
    let run = ran(&runner, plan())?;
    assert_eq!(run.outcome, Outcome::Failed);
    assert_eq!(run.report.snapshots.len(), 1);
    assert!(run.report.number("snapshots_checked") > 0);
    let problem = run.report.problem.ok_or("no problem")?;
    assert!(problem.message.starts_with("mirror: no repository"), "{problem:?}");
    Ok(())
}

/// A snapshot of the bench's sources with the tag of the plan `home`, and this record of it.
fn tagged(bench: &Bench, record: &str) -> Test {
    let place = bench.paths.resolve(bench.text("src").as_ref(), &bench.paths.load_config()?)?;
    let access = bench.paths.access(Arc::new(Nobody));
    let options = &LocalSourceOptions::default();
    let context = SourceContext { options, repository: None, access: &access };
    let settings = backup::Settings {
        tags: vec!["plan:home".into()],
        plan: record.into(),
        ..backup::Settings::default()
    };
    for origin in roots::plan(&[place], "stdin", &context)?.origins {
        let repository = opened(bench, "@nas")?;
        backup::snapshot(&repository, origin, &settings, &NoMonitor, &Interrupt::new())?;
    }
    Ok(())
}

#[test]
fn a_plan_leaves_alone_what_one_of_the_same_name_made_elsewhere() -> Test {
    let bench = Bench::new()?;
    bench.create("second")?;
    let second = bench.text("second");
    bench.configure(&[("home", &format!("keep = {{ last = 1 }}\nmirror = [{second:?}]"))])?;
    for record in ["host = \"elsewhere\"\n[plan.home]\n", "host = \"elsewhere\"\n", ""] {
        tagged(&bench, record)?;
    }
    let runner = bench.runner(1)?;
    let drill = ran(&runner, Job::Drill("home".into()))?;
    assert_eq!(drill.report.problem.map(|p| p.class).as_deref(), Some("no such snapshot"));
    for n in 0..2 {
        let run = ran(&runner, plan())?;
        assert_eq!(run.outcome, Outcome::Ok, "{:?}", run.report.problem);
        assert_eq!(run.report.number("snapshots_forgotten"), n);
        assert_eq!(run.report.number("snapshots_copied"), 1);
    }
    assert_eq!(opened(&bench, "@nas")?.snapshots()?.len(), 4);
    Ok(())
}

#[test]
fn a_place_that_fails_keeps_no_other_from_being_backed_up() -> Test {
    let bench = Bench::new()?;
    let text = format!(
        "[repository.nas]\nlocation = {:?}\n\
         [repository.far]\nlocation = \"sftp://a@127.0.0.1:1/x\"\npassword = \"x\"\n\
         [repository.off]\nlocation = \"sftp://a@127.0.0.2:1/x\"\npassword = \"x\"\n\
         [plan.home]\nsources = [\"@far\", \"@off\", {:?}]\nrepository = \"nas\"\ncheck = true\n\
         retry = {{ times = 2, wait = \"10ms\" }}\n",
        bench.text("repo"),
        bench.text("src")
    );
    std::fs::write(&bench.paths.config, text)?;
    let runner = bench.runner(1)?;
    let run = ran(&runner, plan())?;
    assert_eq!(run.outcome, Outcome::Failed);
    let problem = run.report.problem.as_ref().map(|problem| problem.class.as_str());
    assert_eq!(problem, Some("refused"));
    // What is done is not done again, and what follows it is done.
    assert_eq!((run.report.snapshots.len(), run.report.number("files")), (1, 1));
    assert_eq!(opened(&bench, "@nas")?.snapshots()?.len(), 1);
    assert_eq!(run.report.number("snapshots_checked"), 1);
    let log = log(&runner, &run)?;
    assert_eq!(log.matches("trying again").count(), 2);
    assert!(["127.0.0.1:1", "127.0.0.2:1"].iter().all(|place| log.contains(place)), "{log}");
    Ok(())
}

#[test]
fn each_part_of_a_plan_waits_for_the_network_and_is_tried_again() -> Test {
    let bench = Bench::new()?;
    let text = format!(
        "[repository.far]\nlocation = \"sftp://a@nowhere.invalid/x\"\npassword = \"x\"\n\
         [plan.home]\nsources = [{:?}]\nrepository = \"far\"\nwait_for_network = 1\n\
         retry = {{ times = 2, wait = \"10ms\" }}\n",
        bench.text("src")
    );
    std::fs::write(&bench.paths.config, text)?;
    let runner = bench.runner(1)?;
    for part in Part::ALL {
        let job = Job::of_part(&bench.paths.load_config()?.plan("home")?, part);
        let run = ran(&runner, job)?;
        let log = log(&runner, &run)?;
        assert!(log.contains("no way to nowhere.invalid"), "{part:?}: {log}");
        assert_eq!(log.matches("trying again").count(), 2, "{part:?}: {log}");
    }
    Ok(())
}

#[test]
fn hooks_run_only_where_the_file_allows_them() -> Test {
    let bench = Bench::new()?;
    let (before, after) = (bench.text("before"), bench.text("after"));
    let hooks = format!(
        "hooks = {{ before = [[\"touch\", {before:?}], [\"sh\", \"-c\", \"seq 500; echo said $HOLDFAST_PLAN; echo two >&2\"]], \
         after = [[\"sh\", \"-c\", \"echo $HOLDFAST_OUTCOME $HOLDFAST_SNAPSHOTS > {after}\"]] }}"
    );
    bench.configure(&[("home", &hooks)])?;
    let runner = bench.runner(2)?;
    let run = ran(&runner, plan())?;
    assert_eq!(run.outcome, Outcome::Failed);
    let problem = run.report.problem.ok_or("no problem")?;
    assert!(
        problem.message.contains("does not allow")
            && problem.hints.concat().contains("hooks = true")
    );
    assert!(!bench.root.join("before").exists() && run.report.snapshots.is_empty());
    let text = std::fs::read_to_string(&bench.paths.config)?;
    std::fs::write(&bench.paths.config, format!("hooks = true\n{text}"))?;
    let run = ran(&runner, plan())?;
    assert_eq!(run.outcome, Outcome::Ok, "{:?}", run.report.problem);
    assert!(bench.root.join("before").exists());
    let log = log(&runner, &run)?;
    assert!(log.contains("said home") && log.contains("  two"), "{log}");
    let told = std::fs::read_to_string(bench.root.join("after"))?;
    assert_eq!(told.trim(), format!("success {}", run.report.snapshots.concat()));
    Ok(())
}

#[test]
fn a_hook_that_fails_or_hangs_ends_the_run_and_what_was_stopped_is_started_again() -> Test {
    let bench = Bench::new()?;
    let (after, failure) = (bench.text("after"), bench.text("failure"));
    let child = bench.text("child");
    let configure = |before: &str, timeout: u32| -> Test {
        let hooks = format!(
            "hooks = {{ before = [{before}], timeout = {timeout}, after = [[\"touch\", {after:?}]], \
             failure = [[\"touch\", {failure:?}]] }}"
        );
        bench.configure(&[("home", &hooks)])?;
        let text = std::fs::read_to_string(&bench.paths.config)?;
        Ok(std::fs::write(&bench.paths.config, format!("hooks = true\n{text}"))?)
    };
    let runner = bench.runner(2)?;
    for (before, part, timeout) in [
        ("[\"false\"]", "ended with code 1", 60),
        // A shell that waits for a child: both must go.
        (
            &format!("[\"sh\", \"-c\", \"sleep 1000 & echo $! > {child}; wait\"]"),
            "took longer than",
            // Time enough to write down the child's number.
            10,
        ),
        ("[\"/nonexistent/program\"]", "could not be started", 60),
    ] {
        configure(before, timeout)?;
        for name in ["after", "failure"] {
            let _ = std::fs::remove_file(bench.root.join(name));
        }
        let run = ran(&runner, plan())?;
        assert_eq!(run.outcome, Outcome::Failed);
        let problem = run.report.problem.ok_or("no problem")?;
        assert_eq!(problem.class, "hook");
        assert!(problem.message.contains(part), "{problem:?}");
        assert!(run.report.snapshots.is_empty());
        assert!(bench.root.join("after").exists() && bench.root.join("failure").exists());
    }
    let pid = std::fs::read_to_string(&child)?;
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
    Ok(())
}

#[test]
fn a_drill_restores_a_sample_and_sees_what_does_not_come_back() -> Test {
    let bench = Bench::new()?;
    for n in 0..40 {
        std::fs::create_dir_all(bench.root.join(format!("src/{}", n % 4)))?;
        let bytes: Vec<u8> = (0..50_000_u32).map(|i| (i.wrapping_mul(n + 3) >> 5) as u8).collect();
        std::fs::write(bench.root.join(format!("src/{}/{n}", n % 4)), bytes)?;
    }
    bench
        .configure(&[("home", "drill = { schedule = \"daily\", files = 15, bytes = \"10M\" }")])?;
    let runner = bench.runner(2)?;
    let drill = || Job::Drill("home".into());
    let early = ran(&runner, drill())?;
    assert_eq!(early.report.problem.map(|p| p.class).as_deref(), Some("no such snapshot"));
    assert_eq!(ran(&runner, plan())?.outcome, Outcome::Ok);
    let run = ran(&runner, drill())?;
    assert_eq!(run.outcome, Outcome::Ok, "{:?} {}", run.report.problem, log(&runner, &run)?);
    assert_eq!((run.report.number("drill_files"), run.report.number("drill_differing")), (15, 0));
    assert_eq!(std::fs::read_dir(bench.paths.state.join("drills"))?.count(), 0);
    // A drill that restores nothing proves nothing.
    let small = "drill = { schedule = \"daily\", files = 15, bytes = 1 }";
    bench.configure(&[("home", small)])?;
    let run = ran(&runner, drill())?;
    assert_eq!(run.outcome, Outcome::Failed);
    assert_eq!(run.report.problem.map(|p| p.class).as_deref(), Some("unsupported"));
    bench.configure(&[("home", "")])?;
    assert!(runner.history().last("home", "drill", true)?.is_some());
    // All that is stored is damaged: nothing comes back.
    for pack in walk(&bench.root.join("repo/packs"))? {
        let mut bytes = std::fs::read(&pack)?;
        if bytes.len() > 100_000 {
            bytes.iter_mut().skip(200).step_by(97).for_each(|byte| *byte ^= 0x55);
            std::fs::write(&pack, bytes)?;
        }
    }
    let run = ran(&runner, drill())?;
    assert_eq!(run.outcome, Outcome::Failed, "{}", log(&runner, &run)?);
    assert_eq!(run.report.problem.map(|problem| problem.class).as_deref(), Some("damage"));
    Ok(())
}

fn walk(directory: &std::path::Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        match path.is_dir() {
            true => files.extend(walk(&path)?),
            false => files.push(path),
        }
    }
    Ok(files)
}

#[test]
fn a_snapshot_knows_its_plan() -> Test {
    let bench = Bench::new()?;
    bench.configure(&[("home", "schedule = \"daily at 02:30\"\nkeep = { daily = 7 }")])?;
    let runner = bench.runner(2)?;
    assert_eq!(ran(&runner, plan())?.outcome, Outcome::Ok);
    let snapshots = opened(&bench, "@nas")?.snapshots()?;
    let (found, problems) = crate::seal::find(&snapshots);
    assert!(problems.is_empty());
    let shown = found.first().ok_or("nothing")?.shown();
    assert!(shown.contains("[repository.nas]") && shown.contains("daily at 02:30"), "{shown}");
    Ok(())
}

#[test]
fn a_cancelled_run_starts_again_what_its_hooks_stopped() -> Test {
    let bench = Bench::new()?;
    let after = bench.text("after");
    let hooks = format!(
        "hooks = {{ before = [[\"sleep\", \"1000\"]], \
         after = [[\"sh\", \"-c\", \"echo $HOLDFAST_OUTCOME > {after}\"]] }}"
    );
    bench.configure(&[("home", &hooks)])?;
    let text = std::fs::read_to_string(&bench.paths.config)?;
    std::fs::write(&bench.paths.config, format!("hooks = true\n{text}"))?;
    let runner = bench.runner(2)?;
    let id = runner.start(plan(), By::Console)?;
    let until = Instant::now() + Duration::from_secs(300);
    while runner.live(id).is_none_or(|progress| progress.step != "before") {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(10));
    }
    runner.cancel(id)?;
    runner.wait(id);
    assert_eq!(runner.history().run(id)?.outcome, Outcome::Cancelled);
    assert_eq!(std::fs::read_to_string(bench.root.join("after"))?.trim(), "cancelled");
    Ok(())
}

#[test]
fn a_run_waits_for_the_network_and_no_longer_than_it_is_told_to() -> Test {
    let bench = Bench::new()?;
    let source = bench.text("src");
    let text = format!(
        "[repository.far]\nlocation = \"sftp://a@nowhere.invalid/x\"\npassword = \"x\"\n\
         [plan.home]\nsources = [{source:?}]\nrepository = \"far\"\nwait_for_network = 1\n\
         retry = {{ times = 0 }}\n"
    );
    std::fs::write(&bench.paths.config, text)?;
    let runner = bench.runner(2)?;
    let run = ran(&runner, plan())?;
    assert!(run.took() >= Some(Duration::from_secs(1)));
    assert!(log(&runner, &run)?.contains("waiting for the network: no way to nowhere.invalid"));
    let problem = run.report.problem.ok_or("no problem")?;
    assert_eq!(problem.class, "name not found", "{problem:?}");
    Ok(())
}

#[test]
fn copies_of_the_repository_are_no_part_of_a_backup() -> Test {
    let bench = Bench::new()?;
    bench.create("src/copy")?;
    let copy = bench.text("src/copy");
    bench.configure(&[("home", &format!("mirror = [{copy:?}]"))])?;
    let runner = bench.runner(1)?;
    for _ in 0..2 {
        let run = ran(&runner, plan())?;
        assert_eq!(run.outcome, Outcome::Ok, "{:?}", run.report.problem);
        assert_eq!((run.report.number("files"), run.report.number("snapshots_copied")), (1, 1));
    }
    Ok(())
}
