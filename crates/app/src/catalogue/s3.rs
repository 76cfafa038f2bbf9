//! What can go wrong with a bucket, and what to do about it.

use holdfast_connectors::s3::client::{Class as S3, S3Error, Stage};
use jiff::Timestamp;

use super::{causes_of, clean};
use crate::problem::{Class, Problem};

/// Explains a failed request.
pub fn s3(error: &S3Error) -> Problem {
    let mut problem = Problem::new(class(error.class), clean(&error.to_string()));
    problem.stage = Some(s3_stage(error.stage));
    hints(causes_of(problem, error), error)
}

/// What people call a stage.
pub fn s3_stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Settings => "settings",
        Stage::Resolve => "resolve",
        Stage::Connect => "connect",
        Stage::Tls => "tls",
        Stage::Request => "request",
    }
}

fn class(class: S3) -> Class {
    match class {
        S3::Settings | S3::InvalidStorageClass => Class::Configuration,
        S3::NameNotFound => Class::NameNotFound,
        S3::Refused => Class::Refused,
        S3::Unreachable | S3::Disconnected => Class::Unreachable,
        S3::Timeout => Class::Timeout,
        S3::Tls => Class::Tls,
        S3::Credentials | S3::Signature => Class::Authentication,
        S3::ClockSkew => Class::ClockSkew,
        S3::AccessDenied => Class::PermissionDenied,
        S3::NoSuchBucket => Class::NoSuchBucket,
        S3::NoSuchKey => Class::NoSuchPath,
        S3::BucketExists | S3::PreconditionFailed => Class::AlreadyExists,
        S3::WrongRegion => Class::WrongRegion,
        S3::WrongEndpoint => Class::WrongEndpoint,
        S3::SlowDown => Class::SlowDown,
        S3::Quota => Class::NoSpace,
        S3::ColdObject => Class::ColdObject,
        S3::Locked => Class::Locked,
        S3::NotImplemented => Class::Unsupported,
        _ => Class::Io,
    }
}

fn hints(problem: Problem, error: &S3Error) -> Problem {
    let (bucket, key) = error.object.split_once('/').unwrap_or((&error.object, ""));
    let (bucket, key) = (clean(bucket), clean(key));
    match error.class {
        S3::Settings => problem.hint("to see them: holdfast config repository show NAME"),
        S3::NameNotFound => problem
            .hint("check the endpoint, which is the first part of the location: s3://ENDPOINT/BUCKET")
            .hint("each provider's form is in docs/s3.md"),
        S3::Refused => problem
            .hint("check the endpoint and its port: s3://ENDPOINT:PORT/BUCKET")
            .hint("a firewall may refuse it: allow the port for this machine"),
        S3::Unreachable => problem.hint("check the network of this machine, and the endpoint"),
        S3::Timeout => problem
            .hint("check that the server is on, and that no firewall drops the port")
            .hint("if it is only slow, wait longer: -o timeout=2m"),
        S3::Disconnected => {
            problem.hint("try again; if it happens again, with fewer connections: -o connections=4")
        }
        S3::Tls => tls(problem),
        S3::Credentials => problem
            .hint("set both anew: holdfast config repository set NAME access_key, and secret_access_key")
            .hint("or a profile of ~/.aws: holdfast config repository set NAME profile PROFILE")
            .hint("temporary keys also need session_token, and expire"),
        S3::Signature => problem
            .hint("set the secret key anew: holdfast config repository set NAME secret_access_key")
            .hint("it belongs to one access key: check that both are of the same one"),
        S3::ClockSkew => clock_skew(problem, error),
        S3::AccessDenied => permission(problem, error, &bucket),
        S3::NoSuchBucket => problem
            .hint("check its name, and the endpoint: a bucket belongs to one region and one account")
            .hint("to have it made: holdfast config repository set NAME create_bucket true"),
        S3::NoSuchKey => problem.hint("check the path as the provider's console shows it"),
        S3::BucketExists => problem
            .hint("names of buckets are shared by all accounts of a provider: choose another one"),
        S3::WrongRegion => wrong_region(problem, error, &bucket),
        S3::WrongEndpoint => problem
            .hint("the endpoint may be a console or a web server; MinIO answers S3 on port 9000")
            .hint("each provider's form is in docs/s3.md"),
        S3::SlowDown => problem
            .hint("work with fewer connections: -o connections=4")
            .hint("what was done so far is kept: the same command goes on from there"),
        S3::Quota => problem.hint(
            "free some space there, or raise the quota; what was written so far is kept, so the \
             next backup goes on where this one ended",
        ),
        S3::ColdObject => problem
            .hint("a restore asks for all that it needs: holdfast restore … --warm-up")
            .hint(format!(
                "bring this one back: aws s3api restore-object --bucket {bucket} --key {key} \
                 --restore-request Days=7"
            ))
            .hint("that takes minutes to days; then run the same command again (docs/s3.md)"),
        S3::Locked => problem
            .hint("it can be deleted when its retention ends; until then nobody can, by design"),
        S3::NotImplemented => problem
            .hint("leave out what this server does not know: sse, object_lock, storage_class")
            .hint("holdfast test LOCATION shows what it can do"),
        S3::InvalidStorageClass => problem
            .hint("set one that the provider has: holdfast config repository set NAME storage_class CLASS")
            .hint("or none: holdfast config repository unset NAME storage_class"),
        S3::Checksum => problem
            .hint("try again; if it happens again, something on the way or this machine's memory is bad"),
        S3::Server => problem
            .hint("try again later; the provider's status page may say more")
            .hint("what was done so far is kept: the same command goes on from there"),
        _ => problem,
    }
}

fn tls(problem: Problem) -> Problem {
    let says = |text: &str| problem.causes.iter().any(|cause| cause.contains(text));
    if says("InvalidContentType") || says("corrupt message") {
        return problem
            .hint(
                "the server speaks no TLS there: holdfast config repository set NAME use_tls false",
            )
            .hint("or its port is another one: s3://ENDPOINT:PORT/BUCKET");
    }
    problem
        .hint(
            "for a certificate of your own: holdfast config repository set NAME tls_ca_file FILE \
             (PEM, of the authority that signed it)",
        )
        .hint("if the name is not in the certificate, write the location with one that is")
}

fn clock_skew(problem: Problem, error: &S3Error) -> Problem {
    let theirs = error.answer.as_ref().and_then(|answer| answer.date);
    let theirs = theirs.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let ours = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    let problem = match theirs {
        Some(theirs) => {
            problem.cause(format!("the server says it is {theirs}, this machine {ours}"))
        }
        None => problem.cause(format!("this machine says it is {ours}")),
    };
    problem.hint("set this machine's clock: timedatectl set-ntp true")
}

/// The permission that is missing, and the statement that gives it.
fn permission(problem: Problem, error: &S3Error, bucket: &str) -> Problem {
    let action = error.action();
    let of_bucket = matches!(action, "s3:ListBucket" | "s3:CreateBucket");
    let below = if of_bucket { "" } else { "/*" };
    problem
        .hint(format!(
            "give the access key {action}: {{ \"Effect\": \"Allow\", \"Action\": \"{action}\", \
             \"Resource\": \"arn:aws:s3:::{bucket}{below}\" }}"
        ))
        .hint("whole policies for backup, gc and restore are in docs/s3.md")
}

fn wrong_region(problem: Problem, error: &S3Error, bucket: &str) -> Problem {
    let region = error.answer.as_ref().and_then(|answer| answer.region.as_deref());
    match region {
        Some(region) => problem
            .hint(format!("it is in {region}: holdfast config repository set NAME region {region}"))
            .hint(format!(
                "or write its endpoint; for AWS: s3://s3.{region}.amazonaws.com/{bucket}"
            )),
        None => problem
            .hint(
                "write the endpoint of the bucket's region; each provider's form is in docs/s3.md",
            )
            .hint("or name it: holdfast config repository set NAME region REGION"),
    }
}
