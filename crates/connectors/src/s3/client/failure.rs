//! From what the SDK says to what went wrong.

use std::error::Error as StdError;
use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::{RequestId, RequestIdExt};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

use super::error::{Answer, Cause, Class, S3Error, Stage, class_of, scrubbed};
use super::http::TransportError;
use super::record::Operation;

/// Codes that the SDK makes of a status without a body.
const MADE_UP: [&str; 4] = ["NotFound", "Forbidden", "BadRequest", "Unknown"];

/// One attempt that failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Below HTTP, or before.
    Way { class: Class, stage: Stage, what: String, may_be_done: bool },
    /// The server answered.
    Answer(Answer),
    /// It answered with something that S3 does not answer.
    Foreign(Answer, String),
}

impl Failure {
    /// A failure after the answer began.
    pub(super) fn late(class: Class, what: impl Into<String>) -> Self {
        Self::Way { class, stage: Stage::Request, what: what.into(), may_be_done: true }
    }

    /// The settings do not make a request.
    pub(super) fn settings(what: impl Into<String>) -> Self {
        let stage = Stage::Settings;
        Self::Way { class: Class::Settings, stage, what: what.into(), may_be_done: false }
    }

    /// The error about `object`, without any of `secrets`.
    pub(super) fn error(self, operation: Operation, object: &str, secrets: &[&str]) -> S3Error {
        let object = object.to_owned();
        let cause = |what: &str| Some(Arc::new(Cause(scrubbed(what, secrets))));
        let error = S3Error {
            class: Class::Other,
            stage: Stage::Request,
            operation,
            object,
            answer: None,
            cause: None,
            may_be_done: true,
            was_repeated: false,
        };
        match self {
            Self::Way { class, stage, what, may_be_done } => {
                S3Error { class, stage, cause: cause(&what), may_be_done, ..error }
            }
            Self::Answer(mut answer) => {
                let class = class_of(&answer, operation);
                answer.message = answer.message.map(|message| scrubbed(&message, secrets));
                // A refusal in S3's own words is one; others may come from somebody in between.
                let may_be_done = match class {
                    Class::Server => true,
                    Class::SlowDown => answer.code.is_none(),
                    Class::Disconnected => true,
                    _ => false,
                };
                S3Error { class, answer: Some(Box::new(answer)), may_be_done, ..error }
            }
            Self::Foreign(answer, what) => S3Error {
                class: Class::WrongEndpoint,
                answer: Some(Box::new(answer)),
                cause: cause(&what),
                ..error
            },
        }
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        let TransportError { class, stage, what, was_sent } = error;
        Self::Way { class, stage, what, may_be_done: was_sent }
    }
}

/// What the SDK returns for a failed operation.
pub(super) fn failure<E>(error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    match &error {
        SdkError::ServiceError(service) => {
            let mut answer = answer(service.raw());
            let meta = service.err().meta();
            answer.code = meta.code().filter(|code| !MADE_UP.contains(code)).map(str::to_owned);
            answer.message = meta.message().map(str::to_owned);
            answer.request_id = answer.request_id.or_else(|| meta.request_id().map(str::to_owned));
            // Whoever numbers requests is S3, whatever it calls an answer without a body.
            let is_nameless = answer.code.is_none() && answer.request_id.is_none();
            match is_nameless && answer.status < 500 && is_page(service.raw()) {
                true => Failure::Foreign(answer, "it sent a web page".into()),
                false => Failure::Answer(answer),
            }
        }
        SdkError::ResponseError(response) => {
            let answer = answer(response.raw());
            match answer.status {
                500.. => Failure::Answer(answer),
                _ => match find::<TransportError>(&error) {
                    Some(broken) => Failure::late(broken.class, broken.what.clone()),
                    None => Failure::Foreign(answer, texts(&error)),
                },
            }
        }
        _ => below(&error),
    }
}

/// What failed without an answer.
pub(super) fn below(error: &(dyn StdError + 'static)) -> Failure {
    if let Some(transport) = find::<TransportError>(error) {
        return Failure::Way {
            class: transport.class,
            stage: transport.stage,
            what: transport.what.clone(),
            may_be_done: transport.was_sent,
        };
    }
    let (class, stage) = match find::<CredentialsError>(error) {
        Some(_) => (Class::Credentials, Stage::Settings),
        None => (Class::Other, Stage::Settings),
    };
    Failure::Way { class, stage, what: texts(error), may_be_done: false }
}

fn answer(raw: &HttpResponse) -> Answer {
    let header = |name: &str| raw.headers().get(name).map(str::to_owned);
    let body = raw.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
    let in_body = || {
        let (_, after) = body.split_once("<Region>")?;
        let (region, _) = after.split_once("</Region>")?;
        Some(region.trim().to_owned())
    };
    let region = header("x-amz-bucket-region").or_else(in_body);
    let is_name = |region: &String| {
        !region.is_empty() && region.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    let date = header("date").and_then(|d| DateTime::from_str(&d, Format::HttpDate).ok());
    Answer {
        status: raw.status().as_u16(),
        code: None,
        message: None,
        request_id: header("x-amz-request-id")
            .or_else(|| raw.extended_request_id().map(str::to_owned)),
        region: region.filter(is_name),
        date: date.map(|date| date.secs()),
    }
}

fn is_page(raw: &HttpResponse) -> bool {
    let kind = raw.headers().get("content-type").unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("text/html")
}

/// An error of this type, at any depth.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The words of all causes; the SDK's outermost ones say little.
fn texts(error: &(dyn StdError + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if words.last() != Some(&text) {
            words.push(text);
        }
        next = error.source();
    }
    words.join(": ")
}
