//! A problem as a person meets it: what kind it is, what happened, why, and what to type next.
//! The classes and their exit codes are the whole list; faces print them, tests match on them.

use std::fmt;

/// What kind of problem. The names are part of the JSON output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The command does not make sense as written.
    Usage,
    /// The configuration does not say what it should, or cannot be understood.
    Configuration,
    /// The configuration has no plan, location or channel of this name, or the console no token.
    NoSuchName,
    /// There is no repository there.
    NoRepository,
    /// There is one already.
    RepositoryExists,
    /// Something else is there.
    NotARepository,
    /// Written by a later version.
    NewerFormat,
    /// What was given does not open it.
    WrongPassphrase,
    /// It is encrypted, and nothing was given.
    PassphraseNeeded,
    /// A passphrase was given for a repository that has none.
    NotEncrypted,
    /// A key file or passphrase file cannot be used.
    KeyUnreadable,
    /// The user may not do that there.
    PermissionDenied,
    /// No such file or directory.
    NoSuchPath,
    /// No snapshot fits.
    NoSuchSnapshot,
    /// The snapshot is to be kept for ever.
    Pinned,
    /// No such key slot.
    NoSuchKey,
    /// The last key slot cannot go.
    LastKey,
    /// No space or quota left.
    NoSpace,
    /// The medium is read-only.
    ReadOnly,
    /// Somebody else is at work.
    Busy,
    /// Bytes are not what they must be.
    Damage,
    /// A gc took this session for dead.
    Fenced,
    /// The user stopped it.
    Interrupted,
    /// The medium failed.
    Io,
    /// It could not be reached.
    Unreachable,
    /// A host's name has no address.
    NameNotFound,
    /// Nobody listens there.
    Refused,
    /// No answer in time.
    Timeout,
    /// A host is met for the first time, and nobody vouched for its key.
    HostKeyUnknown,
    /// A host shows another key than it should.
    HostKeyChanged,
    /// Both sides know no common way to encrypt.
    NoCommonAlgorithm,
    /// The server does not let this user in.
    Authentication,
    /// The encrypted connection could not be made.
    Tls,
    /// The clocks of both sides differ by too much.
    ClockSkew,
    /// There is no such bucket.
    NoSuchBucket,
    /// The bucket is in another region.
    WrongRegion,
    /// What answers there is something else.
    WrongEndpoint,
    /// The server asks for fewer requests.
    SlowDown,
    /// The object is archived and cannot be read now.
    ColdObject,
    /// A lock keeps it from being deleted.
    Locked,
    /// The place cannot do this.
    Unsupported,
    /// Something stands where something is to be made.
    AlreadyExists,
    /// It changed while it was read.
    Changed,
    /// A command of a plan failed.
    Hook,
    /// A fault of the program itself.
    Internal,
}

impl Class {
    const ALL: &[Self] = &[
        Self::Usage,
        Self::Configuration,
        Self::NoSuchName,
        Self::NoRepository,
        Self::RepositoryExists,
        Self::NotARepository,
        Self::NewerFormat,
        Self::WrongPassphrase,
        Self::PassphraseNeeded,
        Self::NotEncrypted,
        Self::KeyUnreadable,
        Self::PermissionDenied,
        Self::NoSuchPath,
        Self::NoSuchSnapshot,
        Self::Pinned,
        Self::NoSuchKey,
        Self::LastKey,
        Self::NoSpace,
        Self::ReadOnly,
        Self::Busy,
        Self::Damage,
        Self::Fenced,
        Self::Interrupted,
        Self::Io,
        Self::Unreachable,
        Self::NameNotFound,
        Self::Refused,
        Self::Timeout,
        Self::HostKeyUnknown,
        Self::HostKeyChanged,
        Self::NoCommonAlgorithm,
        Self::Authentication,
        Self::Tls,
        Self::ClockSkew,
        Self::NoSuchBucket,
        Self::WrongRegion,
        Self::WrongEndpoint,
        Self::SlowDown,
        Self::ColdObject,
        Self::Locked,
        Self::Unsupported,
        Self::AlreadyExists,
        Self::Changed,
        Self::Hook,
        Self::Internal,
    ];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Configuration => "configuration",
            Self::NoSuchName => "no such name",
            Self::NoRepository => "no repository",
            Self::RepositoryExists => "repository already there",
            Self::NotARepository => "not a repository",
            Self::NewerFormat => "newer format",
            Self::WrongPassphrase => "wrong passphrase",
            Self::PassphraseNeeded => "passphrase needed",
            Self::NotEncrypted => "not encrypted",
            Self::KeyUnreadable => "key unreadable",
            Self::PermissionDenied => "permission denied",
            Self::NoSuchPath => "no such path",
            Self::NoSuchSnapshot => "no such snapshot",
            Self::Pinned => "pinned",
            Self::NoSuchKey => "no such key",
            Self::LastKey => "last key",
            Self::NoSpace => "no space",
            Self::ReadOnly => "read-only",
            Self::Busy => "busy",
            Self::Damage => "damage",
            Self::Fenced => "fenced",
            Self::Interrupted => "interrupted",
            Self::Io => "i/o",
            Self::Unreachable => "unreachable",
            Self::NameNotFound => "name not found",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::HostKeyUnknown => "host key unknown",
            Self::HostKeyChanged => "host key changed",
            Self::NoCommonAlgorithm => "no common algorithm",
            Self::Authentication => "authentication",
            Self::Tls => "tls",
            Self::ClockSkew => "clock skew",
            Self::NoSuchBucket => "no such bucket",
            Self::WrongRegion => "wrong region",
            Self::WrongEndpoint => "wrong endpoint",
            Self::SlowDown => "slow down",
            Self::ColdObject => "cold object",
            Self::Locked => "locked",
            Self::Unsupported => "unsupported",
            Self::AlreadyExists => "already exists",
            Self::Changed => "changed",
            Self::Hook => "hook",
            Self::Internal => "internal",
        }
    }

    /// The class of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|class| class.name() == name)
    }

    /// The exit code that ends a command with it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::NoRepository => 10,
            Self::Busy => 11,
            Self::WrongPassphrase | Self::PassphraseNeeded => 12,
            Self::Damage => 13,
            Self::ColdObject => 14,
            Self::Interrupted => 130,
            _ => 1,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A problem, ready to be shown. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind.
    pub class: Class,
    /// What happened, in one sentence without a full stop.
    pub message: String,
    /// How far a connection came: "resolve", "connect", …
    pub stage: Option<&'static str>,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to type or do next.
    pub hints: Vec<String>,
}

impl Problem {
    /// A problem without causes and hints.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), stage: None, causes: Vec::new(), hints: Vec::new() }
    }

    /// The command makes no sense as written.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Class::Usage, message)
    }

    /// The same with one more hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same with one more cause.
    #[must_use]
    pub fn cause(mut self, cause: impl ToString) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// The exit code that ends a command with it.
    pub fn exit_code(&self) -> u8 {
        self.class.exit_code()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Problem {}
