//! What can go wrong on the way to an SSH server, and what to do about it.

use holdfast_connectors::sftp::ssh::{
    AuthFailure, Class as Ssh, KeyProblem, KnownPlace, Outcome, Problem as What, SignInMethod,
    SshError, Stage,
};

use super::{causes_of, clean};
use crate::problem::{Class, Problem};
use crate::text::shell_word;

/// Explains a failed connection.
pub fn ssh(error: &SshError) -> Problem {
    let class = class(error.class());
    let mut problem = Problem::new(class, clean(&error.to_string()));
    problem.stage = Some(stage_name(error.stage));
    let problem = causes_of(problem, error);
    hints(problem, error)
}

/// What people call a stage.
pub fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Settings => "settings",
        Stage::Resolve => "resolve",
        Stage::Tcp => "connect",
        Stage::Handshake => "handshake",
        Stage::HostKey => "host key",
        Stage::SignIn => "sign-in",
        Stage::Channel => "sftp",
    }
}

fn class(class: Ssh) -> Class {
    match class {
        Ssh::NameNotFound => Class::NameNotFound,
        Ssh::Refused => Class::Refused,
        Ssh::Timeout => Class::Timeout,
        Ssh::HostKeyUnknown => Class::HostKeyUnknown,
        Ssh::HostKeyChanged | Ssh::HostKeyRevoked | Ssh::HostCertificate => Class::HostKeyChanged,
        Ssh::NoCommonAlgorithm => Class::NoCommonAlgorithm,
        Ssh::Authentication | Ssh::Agent => Class::Authentication,
        Ssh::KeyUnreadable => Class::KeyUnreadable,
        Ssh::Settings => Class::Configuration,
        Ssh::LocalFile => Class::Io,
        Ssh::SftpUnavailable => Class::Unsupported,
        _ => Class::Unreachable,
    }
}

fn hints(problem: Problem, error: &SshError) -> Problem {
    match &*error.problem {
        What::NameNotFound { name } => problem
            .hint(format!(
                "check the spelling of {name}, and try: getent hosts {}",
                shell_word(name)
            ))
            .hint("a Host of ~/.ssh/config, a full name or an address will do as well"),
        What::Refused { .. } => problem
            .hint(
                "check that the SSH service runs there, and that the port is right (-o port=2222)",
            )
            .hint("a firewall may refuse it: allow the port for this machine"),
        What::Timeout { .. } => problem
            .hint("check that the machine is on, and that no firewall or router drops the port")
            .hint("if it is only slow: -o timeout=2m"),
        What::Unreachable { .. } => {
            problem.hint("check this machine's network and the route there")
        }
        What::HostKeyUnknown { asked: true, .. } => problem
            .hint("nothing was sent. Ask the server's administrator for the right fingerprint"),
        What::HostKeyUnknown { key, .. } => problem
            .hint("run the command in a terminal to compare and accept the key")
            .hint(format!("or pin it, if it is right: -o host_key={}", key.fingerprint))
            .hint("or say --accept-new-host-key to trust whatever answers now"),
        What::HostKeyChanged { known, .. } => changed(problem, known.iter().map(|k| &k.place)),
        What::HostKeyRevoked { known, .. } => {
            problem.hint(format!("it is marked as revoked in {}", place(&known.place)))
        }
        What::HostCertificate { .. } => {
            problem.hint("ask the server's administrator to renew its host certificate")
        }
        What::NoCommonAlgorithm { insecure_would_help: true, .. } => problem
            .hint("the server offers only outdated algorithms: update it if you can")
            .hint("or accept the risk for this place: -o allow_insecure_ciphers=true"),
        What::NoCommonAlgorithm { .. } => {
            problem.hint("allow a current algorithm on the server (see sshd_config)")
        }
        What::Authentication(failure) => sign_in(problem, failure),
        What::KeyUnreadable { problem: what, .. } => key(problem, what),
        What::Agent { .. } => problem
            .hint("start an agent and load the key: eval \"$(ssh-agent -s)\"; ssh-add")
            .hint("to see what it holds: ssh-add -l")
            .hint("or say which agent: -o agent_socket=PATH"),
        What::SftpUnavailable { output, .. } if output.is_empty() => {
            problem.hint("turn SFTP on at the server: Subsystem sftp internal-sftp in sshd_config")
        }
        What::SftpUnavailable { .. } => problem.hint(
            "a login script of that account prints text: let it print only in interactive shells",
        ),
        What::Command { .. } => problem.hint("run the ssh_command by itself to see what is wrong"),
        What::ProxyJump { error, .. } => hints(problem, error),
        What::Disconnected { .. } | What::Protocol => problem
            .hint("look at the server's log (journalctl -u ssh) for why it hung up")
            .hint("a server that limits connections may need: -o connections=1"),
        What::Settings { .. } | What::LocalFile { .. } | What::ChannelRefused { .. } => problem,
    }
}

fn place(place: &KnownPlace) -> String {
    match place {
        KnownPlace::File { path, line } => format!("{} line {line}", path.display()),
        KnownPlace::Option => "the option host_key".into(),
    }
}

fn changed<'a>(problem: Problem, places: impl Iterator<Item = &'a KnownPlace>) -> Problem {
    let mut places: Vec<_> = places.map(place).collect();
    places.dedup();
    problem
        .hint("nothing was sent. Either the server was set up anew, or somebody stands in between")
        .hint(format!(
            "if its administrator confirms the new key, take the old one out of {}",
            places.join(", ")
        ))
}

fn sign_in(mut problem: Problem, failure: &AuthFailure) -> Problem {
    let tried = failure.attempts.iter().filter(|a| a.method != SignInMethod::None).map(|attempt| {
        let what = match (&attempt.key, attempt.method) {
            (Some(key), _) => format!("{} {} ({})", key.algorithm, key.fingerprint, key.origin),
            (None, SignInMethod::Password) => "password".into(),
            (None, _) => "keyboard-interactive".into(),
        };
        match &attempt.outcome {
            Outcome::Accepted => format!("{what}: accepted"),
            Outcome::Partial => format!("{what}: accepted, and the server wants more"),
            Outcome::Rejected => format!("{what}: refused"),
            Outcome::Failed(why) => format!("{what}: {}", clean(why)),
        }
    });
    let tried: Vec<_> = tried.collect();
    problem.causes.push(match tried.is_empty() {
        true => "there was nothing to try".into(),
        false => format!("tried {}", tried.join("; ")),
    });
    for skipped in &failure.skipped {
        problem.causes.push(format!("not tried: {} {}", skipped.origin, skipped.problem));
        if tried.is_empty() {
            problem = key(problem, &skipped.problem);
        }
    }
    if let Some(text) = &failure.disconnected {
        problem.causes.push(format!("the server hung up: {}", clean(text)));
    }
    let offers = |method: &str| failure.offered.iter().any(|offered| offered == method);
    let password = offers("password") || offers("keyboard-interactive");
    if failure.nobody_asked && password {
        problem = problem
            .hint("run it in a terminal to be asked for the password")
            .hint("or keep it: holdfast config repository set NAME password");
    }
    if offers("publickey") {
        problem = problem
            .hint(format!(
                "check that the key's public half is in ~{}/.ssh/authorized_keys there",
                failure.user
            ))
            .hint("name another key with -o key_file=FILE; for an agent, see: ssh-add -l");
    } else if password && !failure.nobody_asked {
        problem = problem.hint("check user name and password");
    }
    problem
}

pub(crate) fn key(problem: Problem, what: &KeyProblem) -> Problem {
    match what {
        KeyProblem::PassphraseNeeded => problem
            .hint("run it in a terminal to be asked for it")
            .hint("or keep it: holdfast config repository set NAME key_passphrase"),
        KeyProblem::WrongPassphrase => problem.hint("check keyboard layout and capitals"),
        KeyProblem::PublicKey => {
            problem.hint("name the file without .pub, or paste the text that begins with -----BEGIN")
        }
        KeyProblem::Missing => problem.hint("check the path in key_file"),
        KeyProblem::Damaged { .. } | KeyProblem::NotAKey => problem.hint(
            "a private key begins with -----BEGIN and ends with -----END; check that all of it is there",
        ),
        KeyProblem::Dsa => problem.hint("make a new key: ssh-keygen -t ed25519"),
        _ => problem,
    }
}
