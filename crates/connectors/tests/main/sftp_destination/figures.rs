//! How fast it is: printed, not asserted.
//!
//! `cargo test --release -p holdfast-connectors --test main figures -- --ignored --nocapture`

#![expect(clippy::print_stderr, reason = "figures are printed")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast_engine::destination::Destination;
use holdfast_engine::meta::Kind;
use holdfast_testkit::Proxy;

use super::{Server, good, metadata, plain};

#[test]
#[ignore = "for its figures"]
fn figures() {
    for latency in [0, 20] {
        let server = Server::new();
        let proxy = Proxy::start(server.address()).unwrap();
        let (to, _) = server.through(&proxy);
        good(to.make_directory(b"small"));
        // Connections are there before the clock runs.
        let m = metadata(Kind::File, 0o644);
        let files = if latency == 0 { 20_000 } else { 5_000 };
        for n in 0..files / 500 {
            good(to.make_directory(format!("small/{n}").as_bytes()));
        }
        proxy.set_latency(Duration::from_millis(latency) / 2);
        let next = AtomicU64::new(0);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..to.concurrency() {
                scope.spawn(|| {
                    while let Some(n) =
                        Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < files)
                    {
                        let path = format!("small/{}/{n}", n / 500);
                        good(to.write_file(path.as_bytes(), &[7; 420], plain(&m), false));
                    }
                });
            }
        });
        let took = start.elapsed().as_secs_f64();
        eprintln!("{latency} ms: {:.0} files/s", files as f64 / took);

        let size = 512 << 20;
        let start = Instant::now();
        let file = good(to.create_file(b"big", size, false));
        let next = AtomicU64::new(0);
        let part = vec![9; 2 << 20];
        std::thread::scope(|scope| {
            for _ in 0..to.concurrency() {
                scope.spawn(|| {
                    loop {
                        let offset = next.fetch_add(part.len() as u64, Ordering::Relaxed);
                        if offset >= size {
                            break;
                        }
                        good(file.write_at(offset, &part));
                    }
                });
            }
        });
        good(file.finish(plain(&m)));
        let took = start.elapsed().as_secs_f64();
        eprintln!("{latency} ms: {:.0} MB/s", size as f64 / 1e6 / took);
    }
}
