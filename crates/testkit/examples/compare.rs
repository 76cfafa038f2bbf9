//! Compares two directory trees with all metadata, by hand:
//! `cargo run -p holdfast-testkit --example compare -- ONE OTHER`. Exit code 1 if they differ.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::path::PathBuf;
use std::process::ExitCode;

use holdfast_testkit::{CompareOptions, compare_trees};

fn main() -> std::io::Result<ExitCode> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [one, other] = &paths[..] else {
        println!("usage: compare ONE OTHER");
        return Ok(ExitCode::from(2));
    };
    let differences = compare_trees(one, other, &CompareOptions::default())?;
    for line in differences.iter().take(100) {
        println!("{line}");
    }
    println!("{} differences", differences.len());
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
