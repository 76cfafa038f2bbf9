//! What a person or a program sees. Results go to standard output, all talk to standard error;
//! with `--json` every line of standard output is one event (docs/json.md).

pub(crate) mod json;
pub(crate) mod progress;
pub(crate) mod prompt;
pub(crate) mod table;
pub(crate) mod value;

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_app::Problem;
use holdfast_app::text::printable;
use serde::Serialize;

/// Bytes gathered before they are written: listings may have millions of lines.
const BUFFER: usize = 64 << 10;

/// The face of one run.
#[derive(Debug)]
pub(crate) struct Ui {
    json: bool,
    quiet: bool,
    progress: bool,
    out: Mutex<BufWriter<Stdout>>,
}

impl Ui {
    pub(crate) fn new(json: bool, quiet: bool, progress: bool) -> Self {
        let bars = progress && !quiet && (json || io::stderr().is_terminal());
        let out = Mutex::new(BufWriter::with_capacity(BUFFER, io::stdout()));
        Self { json, quiet, progress: bars, out }
    }

    /// The same face for threads that outlive a borrow of this one. Each writes whole lines.
    pub(crate) fn another(&self) -> Self {
        let out = Mutex::new(BufWriter::with_capacity(BUFFER, io::stdout()));
        Self { out, ..*self }
    }

    /// Whether a program reads.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether progress is wanted.
    pub(crate) fn shows_progress(&self) -> bool {
        self.progress
    }

    /// Standard output, buffered.
    pub(crate) fn out(&self) -> MutexGuard<'_, BufWriter<Stdout>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.out().flush()
    }

    /// A line of result for people.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        if self.json { writeln!(io::stderr(), "{text}") } else { writeln!(self.out(), "{text}") }
    }

    /// A line of result that nobody needs who wants quiet.
    pub(crate) fn summary(&self, text: &str) -> io::Result<()> {
        if self.quiet || self.json { Ok(()) } else { self.line(text) }
    }

    /// One JSON event, seen at once.
    pub(crate) fn event(&self, kind: &str, body: &impl Serialize) -> io::Result<()> {
        let mut out = self.out();
        json::write(&mut *out, kind, body)?;
        out.flush()
    }

    /// One JSON event of many.
    pub(crate) fn row(&self, kind: &str, body: &impl Serialize) -> io::Result<()> {
        json::write(&mut *self.out(), kind, body)
    }

    /// Talk that must be seen: an answer to what was typed.
    pub(crate) fn say(&self, text: &str) -> io::Result<()> {
        let _ = writeln!(io::stderr(), "{text}");
        Ok(())
    }

    /// Something worth saying that is no problem.
    pub(crate) fn note(&self, text: &str) -> io::Result<()> {
        if self.json {
            return self.event("note", &json::Message { message: text });
        }
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{}", shown(text));
        }
        Ok(())
    }

    /// Something that should be looked into, even where quiet is wanted.
    pub(crate) fn warn(&self, text: &str) -> io::Result<()> {
        if self.json {
            return self.event("problem", &json::Trouble { what: "", message: text });
        }
        let _ = writeln!(io::stderr(), "holdfast: {}", shown(text));
        Ok(())
    }

    /// A problem with one path or object, while the operation goes on.
    pub(crate) fn problem(&self, what: &str, message: &str) -> io::Result<()> {
        if self.json {
            return self.event("problem", &json::Trouble { what, message });
        }
        let what = printable(what.as_bytes());
        let _ = writeln!(io::stderr(), "holdfast: {what}: {}", shown(message));
        Ok(())
    }

    /// What ended the command.
    pub(crate) fn error(&self, problem: &Problem) {
        // Results that are on their way belong before it.
        let _ = self.flush();
        if self.json {
            let _ = self.event("error", &json::Error::from(problem));
        }
        write_problem(problem);
    }
}

fn write_problem(problem: &Problem) {
    let mut text = format!("holdfast: {}\n", problem.message);
    for cause in &problem.causes {
        text.push_str(&format!("  because: {cause}\n"));
    }
    for hint in &problem.hints {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    let _ = io::stderr().write_all(shown(&text).as_bytes());
}

/// Talk as a terminal may have it: names of files and words of servers are in it, and what they hold
/// must not move a cursor or set a title. Lines stay lines.
fn shown(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(|line| printable(line.as_bytes())).collect();
    lines.join("\n")
}

/// Tells of a command line that makes no sense, or prints the help that was asked for.
pub(crate) fn usage(error: &clap::Error, words: &[OsString]) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let code = ExitCode::from(holdfast_app::Class::Usage.exit_code());
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return code;
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    if words.iter().any(|word| word == "--json") {
        let message = text.lines().next().unwrap_or_default().to_owned();
        let problem = Problem::usage(message);
        let _ = json::write(&mut io::stdout().lock(), "error", &json::Error::from(&problem));
    }
    let text = format!("holdfast: {}", text.replace("\n  tip: ", "\n  hint: "));
    let _ = io::stderr().write_all(text.as_bytes());
    code
}
