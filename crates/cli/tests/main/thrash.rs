//! Several real processes at once in one local repository, with one cache: they back up, forget, gc
//! and restore, each as fast as it can, for twenty seconds or as many as HOLDFAST_THRASH_SECONDS
//! says. What is there afterwards is exactly what nobody has forgotten, and all of it comes back.
//! Who meets whom is up to the system: orders of calls that can be repeated are in the engine's
//! simulation.

use std::time::{Duration, Instant};

use holdfast_testkit::clock::{random_bytes, rng, sub_seed};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::Value;

use crate::sandbox::{Answer, Sandbox, files};

/// Processes at once.
const MACHINES: u64 = 3;

/// Commands that each runs at least, however slow the computer is.
const LEAST: usize = 8;

/// Files of each tree.
const FILES: u64 = 12;

type Content = Vec<(String, Vec<u8>)>;

/// One of a few contents that all trees are made of, so that everybody needs what others store and
/// what is being deleted.
fn content(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(3) { 150_000 } else { 300 + 900 * number };
    random_bytes(number, length as usize)
}

/// How often something was done.
#[derive(Debug, Default)]
struct Done {
    backups: u64,
    forgets: u64,
    restores: u64,
    gcs: u64,
    /// Packs that these deleted.
    deleted: u64,
}

/// Somebody who backs up a tree of his own, and forgets none but his own snapshots.
struct Machine<'a> {
    sandbox: &'a Sandbox,
    number: u64,
    random: StdRng,
    /// His snapshots, and what is in them.
    kept: Vec<(String, Content)>,
    done: Done,
}

impl<'a> Machine<'a> {
    fn new(sandbox: &'a Sandbox, number: u64) -> Self {
        let random = rng(sub_seed(5, number));
        Self { sandbox, number, random, kept: Vec::new(), done: Done::default() }
    }

    fn tree(&self) -> String {
        format!("tree{}", self.number)
    }

    #[track_caller]
    fn run(&self, line: &str) -> Answer {
        self.sandbox.run(line).ok()
    }

    fn go_on_until(mut self, end: Instant) -> Self {
        let mut commands = 0;
        while commands < LEAST || Instant::now() < end {
            match self.random.random_range(0..10) {
                0..4 => self.back_up(),
                4..6 => self.forget(),
                6..8 => self.gc("2s"),
                _ => {
                    let number = self.random.random_range(0..self.kept.len().max(1));
                    self.restore(number);
                }
            }
            commands += 1;
        }
        self
    }

    fn back_up(&mut self) {
        for _ in 0..self.random.random_range(1..6) {
            let name = format!("{}/{}", self.tree(), self.random.random_range(0..FILES));
            let bytes = content(self.random.random_range(0..20));
            self.sandbox.write(&name, &bytes);
        }
        let line = format!("at repo backup --host host{} {} --json", self.number, self.tree());
        let events = self.run(&line).events();
        let id = text_of(&events, "snapshot");
        self.kept.push((id, files(&self.sandbox.path(&self.tree()))));
        self.done.backups += 1;
    }

    fn forget(&mut self) {
        if self.kept.len() > 1 {
            let (id, _) = self.kept.remove(self.random.random_range(0..self.kept.len()));
            self.run(&format!("at repo forget {id}"));
            self.done.forgets += 1;
        }
    }

    fn gc(&mut self, wait: &str) {
        let events = self.run(&format!("at repo gc --max-unused 0% --wait {wait} --json")).events();
        let summary = summary(&events);
        self.done.deleted += summary["deleted"]["count"].as_u64().expect("a number");
        self.done.gcs += 1;
    }

    /// One of his snapshots, if there is one, comes back as it was.
    fn restore(&mut self, number: usize) {
        let Some((id, expected)) = self.kept.get(number) else { return };
        let out = self.sandbox.path(&format!("out{}", self.number));
        let place = format!("{id}:{}", self.sandbox.text(&self.tree()));
        self.run(&format!("at repo restore {place} -to out{}", self.number));
        assert!(files(&out) == *expected, "{id} is not what was backed up");
        std::fs::remove_dir_all(out).unwrap();
        self.done.restores += 1;
    }
}

#[track_caller]
fn summary(events: &[Value]) -> &Value {
    events.iter().find(|event| event["type"] == "summary").expect("a summary")
}

#[track_caller]
fn text_of(events: &[Value], field: &str) -> String {
    summary(events)[field].as_str().expect(field).to_owned()
}

fn seconds() -> Duration {
    let text = std::env::var("HOLDFAST_THRASH_SECONDS").unwrap_or_else(|_| "20".into());
    Duration::from_secs(text.parse().expect("HOLDFAST_THRASH_SECONDS is a number"))
}

#[test]
fn processes_in_thrash_lose_nothing() {
    let sandbox = Sandbox::with_repository();
    let end = Instant::now() + seconds();
    let mut machines: Vec<Machine<'_>> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..MACHINES)
            .map(|number| {
                let machine = Machine::new(&sandbox, number);
                scope.spawn(move || machine.go_on_until(end))
            })
            .collect();
        all.into_iter().map(|machine| machine.join().expect("a machine")).collect()
    });
    let found = sandbox.run("at repo check --read-data --json").ok().events();
    assert_eq!(summary(&found)["findings"], 0, "{found:?}");
    // In peace two gcs leave nothing that is not needed, and no snapshot minds.
    for _ in 0..2 {
        machines[0].gc("0s");
    }
    let planned = sandbox.run("at repo gc --max-unused 0% --dry-run --json").ok().events();
    let plan = planned.iter().find(|event| event["type"] == "plan").expect("a plan");
    for what in ["dead", "orphans", "condemned", "young"] {
        assert_eq!(plan[what]["count"], 0, "{what}: {plan}");
    }
    assert_eq!(plan["open"], serde_json::json!([]), "everybody has ended");
    let found = sandbox.run("at repo check --read-data --json").ok().events();
    assert_eq!(summary(&found)["findings"], 0, "{found:?}");
    let listed = sandbox.run("at repo ls --json").ok().events();
    let mut listed: Vec<&str> = listed.iter().filter_map(|event| event["id"].as_str()).collect();
    let mut kept: Vec<&str> =
        machines.iter().flat_map(|m| m.kept.iter().map(|(id, _)| id.as_str())).collect();
    listed.sort_unstable();
    kept.sort_unstable();
    assert_eq!(listed, kept);
    for machine in &mut machines {
        for number in 0..machine.kept.len() {
            machine.restore(number);
        }
    }
    let all: Vec<&Done> = machines.iter().map(|machine| &machine.done).collect();
    let deleted: u64 = all.iter().map(|done| done.deleted).sum();
    assert!(deleted > 0, "{all:?}");
    assert!(all.iter().all(|done| done.backups > 0), "{all:?}");
}
