//! Writes many small files into a directory and prints how fast that went.
//!
//! `cargo run --release -p holdfast-connectors --example restore -- /dev/shm/somewhere 300000`

#![expect(clippy::print_stdout, reason = "an example talks")]

use std::sync::Arc;
use std::time::Instant;

use holdfast_connectors::local::destination::{LocalDestination, LocalDestinationOptions};
use holdfast_engine::destination::{Attributes, Destination};
use holdfast_engine::meta::{Metadata, Owner, Time};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("which directory?")?;
    let files: usize = arguments.next().map_or(Ok(300_000), |n| n.parse())?;
    let to = LocalDestination::new(root, LocalDestinationOptions::default());
    to.prepare()?;
    let begin = Instant::now();
    let owner = Owner { user: "root".into(), group: "root".into(), ..Owner::default() };
    let metadata = Metadata {
        mode: 0o644,
        owner: Arc::new(owner),
        mtime: Time { seconds: 1_700_000_000, nanos: 1 },
        ..Metadata::default()
    };
    let attributes = Attributes { metadata: &metadata, xattrs: &[] };
    for i in 0..files {
        let directory = format!("directory-{}", i / 50);
        if i % 50 == 0 {
            to.make_directory(directory.as_bytes())?;
        }
        to.write_file(format!("{directory}/{i}").as_bytes(), &[7; 420], attributes, false)?;
    }
    let took = begin.elapsed().as_secs_f64();
    println!("{files} files: {took:.3} s, {:.0} files/s", files as f64 / took);
    Ok(())
}
