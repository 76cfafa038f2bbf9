//! How a verb ends: done, done in part, or with what stopped it.

use holdfast_app::{Class, Problem, catalogue};
use holdfast_engine::Error;

/// A verb came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it.
    Done,
    /// Some files could not be read or written.
    Incomplete,
    /// Damage was found.
    Damage,
    /// What was compared differs (`diff --exit-code`).
    Differs,
    /// Interrupted in good order.
    Interrupted,
}

impl Outcome {
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Differs => 1,
            Self::Incomplete => 3,
            Self::Damage => Class::Damage.exit_code(),
            Self::Interrupted => Class::Interrupted.exit_code(),
        }
    }
}

/// A verb was stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// By the engine.
    Engine(Error),
    /// By something that is explained already.
    Problem(Box<Problem>),
    /// Because its output could not be written.
    Output(std::io::Error),
}

pub(crate) type Result<T = Outcome> = std::result::Result<T, Failure>;

impl Failure {
    /// What to tell. `at` as in [`catalogue::explain`].
    pub(crate) fn explain(self, at: Option<&std::ffi::OsStr>) -> Problem {
        match self {
            Self::Engine(error) => catalogue::explain(&error, at),
            Self::Problem(problem) => *problem,
            Self::Output(error) => catalogue::io("write to", "standard output", &error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}
