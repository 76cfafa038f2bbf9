//! Walks a directory several times and prints how fast that went.
//!
//! `cargo run --release -p holdfast-connectors --example walk -- /some/directory [threads]`

#![expect(clippy::print_stdout, reason = "an example talks")]

use std::ops::ControlFlow;
use std::time::Instant;

use holdfast_connectors::local::source::{LocalSource, LocalSourceOptions};
use holdfast_engine::source::Source;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("which directory?")?;
    let threads = arguments.next().map_or(Ok(0), |n| n.parse())?;
    for _ in 0..5 {
        let source = LocalSource::new(&root, LocalSourceOptions { threads, ..Default::default() })?;
        let begin = Instant::now();
        let (mut entries, mut batches, mut errors) = (0, 0, 0);
        source.walk(&mut |batch| {
            entries += batch.entries.len();
            errors += batch.errors.len();
            batches += 1;
            ControlFlow::Continue(())
        })?;
        let took = begin.elapsed().as_secs_f64();
        println!(
            "{entries} entries, {batches} batches, {errors} errors: {took:.3} s, {:.0} entries/s",
            entries as f64 / took
        );
    }
    Ok(())
}
