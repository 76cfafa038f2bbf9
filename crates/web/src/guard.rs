//! What every request passes: the host that it names must be ours (no foreign name may point
//! here), a change must come from our own pages and carry the session's token, and pages go to
//! signed-in people only. Answers leave with headers that keep foreign code out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use holdfast_app::{Class, Problem};

use crate::accounts::{Accounts, Session};
use crate::failure::{self, Failure, Shown};
use crate::pages::sign_in;
use crate::record::{self, Unchanged};
use crate::state::Shared;
use crate::tls::bare_name;
use crate::view::View;

/// The most that a form may hold, in bytes: long exclude lists and pasted keys fit.
const FORM: usize = 1 << 20;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; frame-src 'self'; frame-ancestors 'none'; \
    base-uri 'none'";

const UNKNOWN: &str = "the address that it names is not the console's (holdfast serve --host NAME lets \
    browsers ask for another name)";

/// The header in which our script sends the session's token.
pub(crate) const TOKEN: &str = "x-csrf";

/// How long browsers are to know that there is TLS here.
const STRICT: &str = "max-age=31536000";

/// Headers of every answer. A handler may set its own policy (previews do).
pub(crate) async fn seal(State(state): State<Shared>, request: Request, next: Next) -> Response {
    let host = text(request.headers(), &header::HOST).unwrap_or_default();
    // Browsers hold a name to it for all its ports: this machine's own name has others. Where nobody
    // vouches for the certificate, they would let nobody past the warning any more.
    let is_strict = state.tls.as_ref().is_some_and(|tls| !tls.is_self_signed())
        && bare_name(host) != "localhost";
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if is_strict {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(STRICT));
    }
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not `no-referrer`: browsers would then say `Origin: null` of our own forms.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Refuses hosts that are not ours, and changes that do not come from our pages.
pub(crate) async fn same_site(
    State(state): State<Shared>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let Some(host) = text(headers, &header::HOST) else { return refuse("it names no host") };
    if !state.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host)) {
        return refuse(UNKNOWN);
    }
    if changes(request.method()) {
        let origin = text(headers, &header::ORIGIN);
        let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
        let ours = |origin: &str| {
            origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host))
        };
        if origin.is_some_and(|origin| !ours(origin)) || site.is_some_and(|s| s != "same-origin") {
            return refuse("it comes from another site");
        }
    }
    next.run(request).await
}

/// Lets signed-in people in, and their changes only with the token of their session. Failures
/// become pages here, where the frame is known.
pub(crate) async fn signed_in(
    State(state): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let cookies = text(request.headers(), &header::COOKIE).unwrap_or_default().to_owned();
    let id = state.session_id(&cookies).map(String::from);
    let found = apart(&state, move |accounts| id.map_or(Ok(None), |id| accounts.session(&id)));
    let session = match found.await {
        Ok(Some(session)) => session,
        Ok(None) => {
            let wanted = sign_in::wanted(&request);
            return sign_in::needed(&state, wanted, &cookies).await;
        }
        Err(problem) => return failure::bare(&problem, &cookies),
    };
    let client = client(&state, &request);
    let what = changes(request.method()).then(|| record::words(request.uri().path())).flatten();
    let fragment = request.headers().contains_key("x-fragment");
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let asked = (request.method(), path);
    let view = View::new(state.clone(), session.clone(), client, &cookies, asked, fragment);
    request.extensions_mut().insert(view.clone());
    if changes(request.method()) {
        match with_token(request, &session).await {
            Ok(checked) => request = checked,
            Err(problem) => return failure::page(&view, &problem, StatusCode::FORBIDDEN, fragment),
        }
    }
    let response = next.run(request).await;
    let is_done = !response.status().is_client_error() && !response.status().is_server_error();
    let is_change = is_done && response.extensions().get::<Unchanged>().is_none();
    if let Some(what) = what.filter(|_| is_change)
        && let Err(problem) =
            apart(&state, move |accounts| accounts.note(&client.to_string(), &what)).await
    {
        return failure::page(&view, &problem, StatusCode::INTERNAL_SERVER_ERROR, fragment);
    }
    match response.extensions().get::<Shown>() {
        Some(Shown(problem)) => failure::page(&view, problem, response.status(), fragment),
        None => response,
    }
}

/// Asks the accounts on a thread that may wait: another process may hold them.
pub(crate) async fn apart<T: Send + 'static>(
    state: &Shared,
    work: impl FnOnce(&Accounts) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let state = state.clone();
    let done = tokio::task::spawn_blocking(move || work(&state.accounts)).await;
    done.unwrap_or_else(|e| {
        Err(Problem::new(Class::Internal, "a part of the console broke off").cause(e))
    })
}

/// Reads the body of a form to see whether it carries the session's token; the request goes on
/// whole.
async fn with_token(request: Request, session: &Session) -> Result<Request, Problem> {
    let refused = || {
        Problem::new(Class::PermissionDenied, "this form was not made by this session")
            .hint("load the page again, and send it once more")
    };
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, FORM).await.map_err(|e| {
        Problem::usage("what was sent is too large, or broke off")
            .cause(e)
            .hint(format!("a form may hold {}", holdfast_app::text::size(FORM as u64)))
    })?;
    let header = parts.headers.get(TOKEN).and_then(|value| value.to_str().ok());
    let sent = match header {
        Some(token) => token == session.csrf,
        None => crate::view::pairs(&body)
            .iter()
            .any(|(name, value)| name == "csrf" && *value == session.csrf),
    };
    if !sent {
        return Err(refused());
    }
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// Who asks.
pub(crate) fn client(state: &Shared, request: &Request) -> IpAddr {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    peer.map_or(nobody, |peer| state.client(peer.0, request.headers()))
}

fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn refuse(why: &str) -> Response {
    let text = format!("The console does not answer this request: {why}.\n");
    (StatusCode::FORBIDDEN, text).into_response()
}

/// What answers an address that there is not.
pub(crate) async fn nowhere(request: Request) -> Failure {
    let path = holdfast_app::text::printable(request.uri().path().as_bytes());
    Problem::new(Class::NoSuchPath, format!("there is no page {path}"))
        .hint("go on from Home")
        .into()
}
