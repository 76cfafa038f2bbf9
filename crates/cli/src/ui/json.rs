//! The events of `--json`: one object a line, `v` and `type` first. docs/json.md describes them;
//! fields are added in place, and `v` grows when one changes its meaning or goes.

use std::io::{self, Write};

pub(crate) use holdfast_app::json::{Entry, Path, Snapshot, Version};
use holdfast_engine::monitor::Progress as Counters;
use serde::Serialize;

const VERSION: u32 = 1;

#[derive(Serialize)]
struct Event<'a, T> {
    v: u32,
    r#type: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

/// Writes one event and its newline.
pub(crate) fn write(out: &mut impl Write, kind: &str, body: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Event { v: VERSION, r#type: kind, body })?;
    out.write_all(b"\n")
}

#[derive(Serialize)]
pub(crate) struct Message<'a> {
    pub(crate) message: &'a str,
}

#[derive(Serialize)]
pub(crate) struct Trouble<'a> {
    pub(crate) what: &'a str,
    pub(crate) message: &'a str,
}

#[derive(Serialize)]
pub(crate) struct Error<'a> {
    class: &'static str,
    message: &'a str,
    stage: Option<&'static str>,
    causes: &'a [String],
    hints: &'a [String],
    exit_code: u8,
}

impl<'a> From<&'a holdfast_app::Problem> for Error<'a> {
    fn from(problem: &'a holdfast_app::Problem) -> Self {
        Self {
            class: problem.class.name(),
            message: &problem.message,
            stage: problem.stage,
            causes: &problem.causes,
            hints: &problem.hints,
            exit_code: problem.exit_code(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Progress<'a> {
    phase: &'a str,
    files: u64,
    bytes: u64,
    total_files: Option<u64>,
    total_bytes: Option<u64>,
    stored: u64,
    seconds: f64,
    #[serde(flatten)]
    current: Path,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(phase: &'a str, c: &Counters, seconds: f64, current: &[u8]) -> Self {
        Self {
            phase,
            files: c.files,
            bytes: c.bytes,
            total_files: c.total_files,
            total_bytes: c.total_bytes,
            stored: c.stored,
            seconds,
            current: Path::new(current),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_type_come_first() -> Result<(), Box<dyn std::error::Error>> {
        let mut line = Vec::new();
        write(&mut line, "note", &Path::new(b"/a/\xff"))?;
        let expected =
            "{\"v\":1,\"type\":\"note\",\"path\":\"/a/\u{fffd}\",\"path_bytes\":\"2f612fff\"}\n";
        assert_eq!(String::from_utf8(line)?, expected);
        Ok(())
    }
}
