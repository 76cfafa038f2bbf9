//! The service as a process of its own, with browsers that look at it: killed in the middle of a run,
//! and with more to do at once than it likes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant, SystemTime};

use holdfast_testkit::clock::random_bytes;

use crate::plans::{PATIENCE, spawn, wait_for, with_plan};
use crate::sandbox::Sandbox;

/// A service, and somebody who is signed in to its console.
struct Service {
    child: Child,
    address: String,
    cookie: String,
    csrf: String,
}

impl Service {
    fn start(sandbox: &Sandbox) -> Self {
        let child = spawn(sandbox, "serve --listen 127.0.0.1:0");
        let until = Instant::now() + PATIENCE;
        // Before the console is there, `ui` would open one of its own.
        while !sandbox.path("state/console.json").exists() {
            assert!(Instant::now() < until, "no console");
            sleep(Duration::from_millis(50));
        }
        let opened = sandbox.run_bare("ui --no-open --json").ok();
        let url = opened.events()[0]["url"].as_str().unwrap().to_owned();
        let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut service =
            Self { child, address: address.into(), cookie: String::new(), csrf: String::new() };
        let answer = service.get(&format!("/{path}"));
        let cookie = answer.split("set-cookie: ").nth(1).unwrap_or_else(|| panic!("{answer}"));
        service.cookie = cookie.split(';').next().unwrap().to_owned();
        let page = service.get("/storages");
        let csrf = page.split("name=\"csrf\" content=\"").nth(1).unwrap();
        service.csrf = csrf.split('"').next().unwrap().to_owned();
        service
    }

    fn get(&self, path: &str) -> String {
        whole(get(&self.address, &self.cookie, path, "Connection: close\r\n").unwrap())
    }

    /// Clicks a button of the console.
    fn post(&self, path: &str) -> String {
        let form = format!("csrf={}", self.csrf);
        let (host, cookie, length) = (&self.address, &self.cookie, form.len());
        let mut stream = TcpStream::connect(host).unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        whole(stream)
    }

    /// Ends it with no chance to say anything.
    fn kill(mut self, sandbox: &Sandbox) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // It leaves the note of where it was.
        std::fs::remove_file(sandbox.path("state/console.json")).unwrap();
    }

    /// A line of what the system says of the process, in KiB.
    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn whole(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: &str, cookie: &str, path: &str, more: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\n{more}\r\n");
    stream.write_all(head.as_bytes())?;
    Ok(stream)
}

#[test]
fn a_service_that_is_killed_in_a_run_tells_the_truth_and_the_next_run_succeeds() {
    let sandbox = with_plan(" --set limit_upload=1M");
    for n in 0..40 {
        sandbox.write(&format!("src/{n}"), &random_bytes(n, 300_000));
    }
    let service = Service::start(&sandbox);
    let began = service.post("/plans/home/run");
    assert!(began.contains("location: /runs/1\r\n"), "{began}");
    let is_far = |run: &serde_json::Value| run["phases"].as_array().is_some_and(|p| p.len() > 2);
    let run = wait_for(&sandbox, |run| run["outcome"] == "running" && is_far(run));
    service.kill(&sandbox);
    sandbox.run_bare("plan edit home --unset limit_upload").ok();
    let service = Service::start(&sandbox);
    let dead = wait_for(&sandbox, |run| run["id"] == 1 && run["outcome"] == "interrupted");
    assert_eq!(dead["started"], run["started"]);
    assert!(dead["ended"].is_string() && dead["problem"]["message"].is_string(), "{dead}");
    assert!(service.get("/runs/1").contains("ended in the middle"));
    let began = service.post("/plans/home/run");
    assert!(began.contains("location: /runs/2\r\n"), "{began}");
    let next = wait_for(&sandbox, |run| run["id"] == 2 && run["outcome"] == "ok");
    assert_eq!(next["numbers"]["files"], 42);
    sandbox.run("at @nas check --read-data").ok();
}

/// Plans that are due at once, and pages that are open meanwhile.
const PLANS: u64 = 50;
const TABS: usize = 20;
/// What the process may take at most, in KiB, two runs at work included.
const MEMORY: u64 = 300 << 10;

/// A page of runs, open: follows events, and loads itself again when it is told to.
fn tab(service: &Service, ends: Arc<AtomicBool>, told: Arc<AtomicU64>) -> JoinHandle<()> {
    let (address, cookie) = (service.address.clone(), service.cookie.clone());
    std::thread::spawn(move || {
        let stream = get(&address, &cookie, "/events?topics=runs", "").unwrap();
        for line in BufReader::new(stream).lines() {
            if ends.load(Ordering::Relaxed) {
                return;
            }
            let line = line.expect("a stream broke off");
            if line.contains("\"change\":\"reload\"") {
                let page = get(&address, &cookie, "/runs", "Connection: close\r\n").unwrap();
                let text = whole(page);
                assert!(text.starts_with("HTTP/1.1 200"), "{text}");
                told.fetch_add(1, Ordering::Relaxed);
            }
        }
        assert!(ends.load(Ordering::Relaxed), "a stream ended");
    })
}

/// Takes some minutes: plans are due at a minute, and there are many.
#[test]
#[ignore = "waits for the clock"]
fn fifty_plans_due_at_once_and_twenty_pages_fit_and_none_is_lost() {
    let sandbox = with_plan("");
    let minutes = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 60 + 2;
    let at = format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60);
    let mut config = sandbox.config_text();
    for plan in 0..PLANS {
        for file in 0..20 {
            let bytes = random_bytes(plan * 100 + file, 50_000);
            sandbox.write(&format!("many/{plan}/{file}"), &bytes);
        }
        let source = sandbox.text(&format!("many/{plan}"));
        config.push_str(&format!(
            "[plan.p{plan}]\nsources = [{source:?}]\nrepository = \"nas\"\n\
             schedule = \"daily at {at}\"\ntimezone = \"UTC\"\n"
        ));
    }
    std::fs::write(sandbox.config(), config).unwrap();
    let service = Service::start(&sandbox);
    let (ends, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let tabs: Vec<_> = (0..TABS).map(|_| tab(&service, ends.clone(), told.clone())).collect();
    let until = Instant::now() + 8 * PATIENCE;
    let (mut runs, mut most) = (Vec::new(), 0);
    while runs.len() < PLANS as usize {
        assert!(Instant::now() < until, "{} of {PLANS} ended: {runs:?}", runs.len());
        for _ in 0..20 {
            most = most.max(service.memory("VmRSS:"));
            sleep(Duration::from_millis(100));
        }
        runs = sandbox.run_bare("runs --json --number 0").ok().events();
        assert!(runs.iter().all(|run| run["outcome"] != "missed"), "{runs:?}");
        runs.retain(|run| run["ended"].is_string());
    }
    let mut plans: Vec<_> = runs.iter().filter_map(|run| run["plan"].as_str()).collect();
    plans.sort_unstable();
    plans.dedup();
    assert_eq!(plans.len(), PLANS as usize, "{plans:?}");
    for run in &runs {
        assert_eq!((&run["outcome"], &run["by"]), (&"ok".into(), &"schedule".into()), "{run}");
        assert_eq!(run["numbers"]["files"], 20, "{run}");
    }
    assert!(tabs.iter().all(|tab| !tab.is_finished()), "a page is not followed any more");
    // Each page heard of each run: queued, begun, ended.
    assert!(told.load(Ordering::Relaxed) >= PLANS * TABS as u64, "{told:?}");
    most = most.max(service.memory("VmHWM:"));
    assert!(most <= MEMORY, "{most} KiB at most");
    ends.store(true, Ordering::Relaxed);
    drop(service);
    for tab in tabs {
        tab.join().unwrap();
    }
    sandbox.run("at @nas check").ok();
}
