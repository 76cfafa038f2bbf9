//! What programs ask: what pages show and do, as JSON under `/api/v1`, figures for Prometheus, and
//! whether the console is alive. A token of Settings opens it; sessions of browsers do not. Each
//! address is an [`Operation`], from which both its gate and its description are made.

mod ask;
mod compare;
mod describe;
mod download;
mod edit;
mod files;
mod metrics;
mod plans;
mod repository;
mod restore;
mod shapes;
mod snapshots;
mod storages;
mod told;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use axum::{Json, Router};
use holdfast_app::{Class, Problem};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use self::describe::{Field, Method};
use crate::accounts::{Program, Scope};
use crate::failure;
use crate::guard::client;
use crate::opened::Open;
use crate::state::{Shared, State as Console};

/// Something that a program may ask for.
struct Operation {
    method: Method,
    path: &'static str,
    /// What a token needs for it.
    scope: Scope,
    /// A line that says what it is.
    summary: &'static str,
    /// What may stand in the query.
    query: Vec<Field>,
    /// What may stand in the body.
    body: Vec<Field>,
    /// What the answer holds, if it is JSON.
    answer: Vec<Field>,
    /// What else the answer may be; empty for JSON.
    media: &'static [&'static str],
    handler: MethodRouter<Shared>,
}

impl Operation {
    fn get<T: 'static>(
        path: &'static str,
        scope: Scope,
        summary: &'static str,
        handler: impl Handler<T, Shared>,
    ) -> Self {
        Self::new(Method::Get, path, scope, summary, routing::get(handler))
    }

    fn post<T: 'static>(
        path: &'static str,
        scope: Scope,
        summary: &'static str,
        handler: impl Handler<T, Shared>,
    ) -> Self {
        Self::new(Method::Post, path, scope, summary, routing::post(handler))
    }

    fn put<T: 'static>(
        path: &'static str,
        scope: Scope,
        summary: &'static str,
        handler: impl Handler<T, Shared>,
    ) -> Self {
        Self::new(Method::Put, path, scope, summary, routing::put(handler))
    }

    fn delete<T: 'static>(
        path: &'static str,
        scope: Scope,
        summary: &'static str,
        handler: impl Handler<T, Shared>,
    ) -> Self {
        Self::new(Method::Delete, path, scope, summary, routing::delete(handler))
    }

    fn new(
        method: Method,
        path: &'static str,
        scope: Scope,
        summary: &'static str,
        handler: MethodRouter<Shared>,
    ) -> Self {
        let (query, body, answer) = (Vec::new(), Vec::new(), Vec::new());
        Self { method, path, scope, summary, query, body, answer, media: &[], handler }
    }

    fn media(self, media: &'static [&'static str]) -> Self {
        Self { media, ..self }
    }

    fn query(self, fields: &[Field]) -> Self {
        Self { query: fields.to_vec(), ..self }
    }

    fn body(self, fields: &[Field]) -> Self {
        Self { body: fields.to_vec(), ..self }
    }

    fn answer(self, fields: &[Field]) -> Self {
        Self { answer: fields.to_vec(), ..self }
    }
}

/// All of them.
fn operations() -> Vec<Operation> {
    let mut all = plans::operations();
    all.extend(edit::operations());
    all.extend(storages::operations());
    all.extend(snapshots::operations());
    all.extend(files::operations());
    all.extend(download::operations());
    all.extend(compare::operations());
    all.extend(restore::operations());
    all.extend(repository::operations());
    all.extend(told::operations());
    all.push(metrics::operation());
    all
}

/// The addresses for programs.
pub(crate) fn routes(state: Shared) -> Router<Shared> {
    let operations = operations();
    let description = Json(describe::document(&operations));
    let answer = move || std::future::ready(description);
    let mut router = Router::new().route("/api/v1/openapi.json", routing::get(answer));
    for operation in operations {
        let gate = Gate { state: state.clone(), scope: operation.scope };
        let handler = operation.handler.route_layer(from_fn_with_state(gate, Gate::pass));
        router = router.route(operation.path, handler);
    }
    router.route("/api/{*rest}", routing::any(nowhere))
}

/// What is under `/api` and not described: no page, and nobody to sign in.
async fn nowhere() -> Response {
    let problem = Problem::new(Class::NoSuchPath, "there is nothing at this address")
        .hint("what there is: /api/v1/openapi.json");
    answer(StatusCode::NOT_FOUND, &problem)
}

/// `GET /healthz`: alive, whoever asks.
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

/// What stands before an address.
#[derive(Clone)]
struct Gate {
    state: Shared,
    scope: Scope,
}

impl Gate {
    /// Lets programs with a token of enough scope pass, and records what they change.
    async fn pass(State(gate): State<Self>, mut request: Request, next: Next) -> Response {
        let program = match program(&gate.state, request.headers()) {
            Ok(program) => program,
            Err(refusal) => return refusal,
        };
        if program.scope < gate.scope {
            let text = format!(
                "the token {} may {}, and this needs one that may {}",
                program.name,
                program.scope.name(),
                gate.scope.name()
            );
            let problem = Problem::new(Class::PermissionDenied, text)
                .hint("make another token in the console's settings");
            return answer(StatusCode::FORBIDDEN, &problem);
        }
        request.extensions_mut().insert(program.scope);
        let address = client(&gate.state, &request).to_string();
        let response = next.run(request).await;
        if let Some(Done(words)) = response.extensions().get() {
            let text = format!("{words}, with the token {}", program.name);
            if let Err(problem) = gate.state.accounts.note(&address, &text) {
                return refused(&problem);
            }
        }
        response
    }
}

/// Whose token a request carries; else what to answer.
#[expect(clippy::result_large_err, reason = "an answer is large, and made once")]
fn program(state: &Console, headers: &HeaderMap) -> Result<Program, Response> {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|text| text.strip_prefix("Bearer "));
    match token.map(|token| state.accounts.program(token.trim())) {
        Some(Ok(Some(program))) => Ok(program),
        Some(Err(problem)) => Err(answer(failure::refusal(problem.class), &problem)),
        _ => {
            let problem = Problem::new(Class::Authentication, "there is no good token with this")
                .hint("send one of the console's settings: Authorization: Bearer …");
            let mut refusal = answer(StatusCode::UNAUTHORIZED, &problem);
            let challenge = http::HeaderValue::from_static("Bearer");
            refusal.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            Err(refusal)
        }
    }
}

/// A problem as JSON.
fn problem_json(problem: &Problem) -> Value {
    json!({
        "class": problem.class.name(),
        "message": problem.message,
        "stage": problem.stage,
        "causes": problem.causes,
        "hints": problem.hints,
    })
}

fn answer(status: StatusCode, problem: &Problem) -> Response {
    (status, Json(json!({ "problem": problem_json(problem) }))).into_response()
}

fn refused(problem: &Problem) -> Response {
    answer(failure::status(problem.class), problem)
}

/// Travels with an answer: what was done, for the record.
#[derive(Debug, Clone)]
struct Done(String);

/// An answer, and what was done, if that is to be recorded.
struct Answer {
    body: Value,
    done: Option<String>,
}

impl Answer {
    /// The answer of an act, with the words of the record for it.
    fn of(done: impl Into<String>, body: Value) -> Self {
        Self { body, done: Some(done.into()) }
    }
}

impl From<Value> for Answer {
    fn from(body: Value) -> Self {
        Self { body, done: None }
    }
}

/// What serializes, as JSON.
fn value(of: impl serde::Serialize) -> Result<Value, Problem> {
    let failed = |e| Problem::new(Class::Internal, "the answer cannot be written").cause(e);
    serde_json::to_value(of).map_err(failed)
}

/// Answers with what `work` finds, on a thread that may wait for disks and networks.
async fn blocking<A: Into<Answer>>(
    state: Shared,
    work: impl FnOnce(&Console) -> Result<A, Problem> + Send + 'static,
) -> Response {
    let done = tokio::task::spawn_blocking(move || work(&state).map(Into::into)).await;
    match done {
        Ok(Ok(Answer { body, done })) => {
            let mut response = Json(body).into_response();
            if let Some(done) = done {
                response.extensions_mut().insert(Done(done));
            }
            response
        }
        Ok(Err(problem)) => refused(&problem),
        Err(e) => refused(&broken(&e)),
    }
}

/// Like [`blocking`], with the repository of the storage `name`, open; with `now`, its snapshots as
/// they are now.
async fn opened<A: Into<Answer>>(
    state: Shared,
    name: String,
    now: bool,
    work: impl FnOnce(&Console, &Arc<Open>) -> Result<A, Problem> + Send + 'static,
) -> Response {
    blocking(state, move |state| work(state, &state.shelf.open(&state.paths, &name, now)?)).await
}

fn broken(error: &tokio::task::JoinError) -> Problem {
    Problem::new(Class::Internal, "a part of the console broke off")
        .cause(error)
        .hint("please report this with what you asked for")
}
