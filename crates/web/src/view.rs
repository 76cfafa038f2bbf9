//! What every page needs: who asks, the frame around the page, and the way to blocking work.

use std::net::IpAddr;

use askama::Template;
use axum::extract::FromRequestParts;
use axum::response::{Html, IntoResponse, Response};
use http::request::Parts;
use http::{Method, StatusCode};

use holdfast_app::{Class, Problem};

use crate::accounts::Session;
use crate::assets;
use crate::failure::Failure;
use crate::state::{Shared, State};

/// The place in the rail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nav {
    Home,
    Plans,
    Runs,
    Snapshots,
    Find,
    Storages,
    Alerts,
    Settings,
    None,
}

/// A request of somebody who is signed in.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) state: Shared,
    /// The session that asks.
    pub(crate) session: Session,
    /// Who asks.
    pub(crate) client: IpAddr,
    theme: &'static str,
    path: String,
    is_get: bool,
    /// Our script asks for a part of a page.
    pub(crate) is_fragment: bool,
}

/// What the layout shows around a page.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) title: String,
    pub(crate) nav: Nav,
    /// The command line that does what this page does; may be empty.
    pub(crate) cli: String,
    /// The session's token, for forms.
    pub(crate) csrf: String,
    /// "light", "dark" or "" for what the system says.
    pub(crate) theme: &'static str,
    pub(crate) machine: String,
    /// Date, time and zone now.
    pub(crate) now: String,
    /// Where to come back to after the appearance was changed.
    pub(crate) path: String,
    /// Where events are: what comes later than the page is told to it.
    pub(crate) live: String,
    pub(crate) style: &'static str,
    pub(crate) script: &'static str,
}

impl View {
    pub(crate) fn new(
        state: Shared,
        session: Session,
        client: IpAddr,
        cookies: &str,
        (method, path): (&Method, &str),
        is_fragment: bool,
    ) -> Self {
        let (theme, path, is_get) = (theme(cookies), path.to_owned(), method == Method::GET);
        Self { state, session, client, theme, path, is_get, is_fragment }
    }

    /// The address of the page that was asked for, without the host; `None`: it is no page.
    pub(crate) fn page(&self) -> Option<&str> {
        (self.is_get && !self.is_fragment).then_some(self.path.as_str())
    }

    /// The frame of a page. `cli` is the command line that does the same.
    pub(crate) fn frame(&self, title: &str, nav: Nav, cli: &str) -> Frame {
        let now = jiff::Zoned::now();
        let zone = now.time_zone().iana_name().unwrap_or("local time").to_owned();
        Frame {
            title: title.to_owned(),
            nav,
            cli: cli.to_owned(),
            csrf: self.session.csrf.clone(),
            theme: self.theme,
            machine: self.state.machine.clone(),
            now: format!("{zone} · {}", now.strftime("%H:%M")),
            path: self.path.clone(),
            live: self.state.hub.position(),
            style: assets::url("console.css"),
            script: assets::url("console.js"),
        }
    }

    /// Runs `work` on a thread that may wait for disks and networks.
    pub(crate) async fn blocking<T, E>(
        &self,
        work: impl FnOnce(&State) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let state = self.state.clone();
        match tokio::task::spawn_blocking(move || work(&state)).await {
            Ok(result) => result.map_err(Into::into),
            Err(e) => Err(Problem::new(Class::Internal, "a part of the console broke off")
                .cause(e)
                .hint("please report this with what you did")
                .into()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for View {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::UNAUTHORIZED)
    }
}

/// A template as an answer.
pub(crate) fn html(template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => Html(text).into_response(),
        Err(e) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the page could not be written: {e}\n"))
                .into_response()
        }
    }
}

/// The appearance that was chosen.
pub(crate) fn theme(cookies: &str) -> &'static str {
    match cookie(cookies, "theme") {
        Some("light") => "light",
        Some("dark") => "dark",
        _ => "",
    }
}

/// The value of a cookie in the text of a `Cookie` header.
pub(crate) fn cookie<'a>(cookies: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(n, _)| *n == name).map(|(_, value)| value)
}

/// A part of an address without its `%NN`.
pub(crate) fn decoded(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
        match (byte, hex(rest.clone().next()), hex(rest.clone().nth(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest.nth(1);
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The fields of a form as they were sent, in order; names may repeat.
pub(crate) fn pairs(body: &[u8]) -> Vec<(String, String)> {
    let decode = |bytes: &[u8]| {
        let spaced = bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte });
        decoded(&spaced.collect::<Vec<u8>>())
    };
    body.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            (decode(halves.next().unwrap_or_default()), decode(halves.next().unwrap_or_default()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_as_browsers_write_them() {
        let read = pairs(b"a=1+2&b=%C3%BC%0D%0A&a=&c&=x&d=50%&e=%4");
        let expected = [
            ("a", "1 2"),
            ("b", "\u{fc}\r\n"),
            ("a", ""),
            ("c", ""),
            ("", "x"),
            ("d", "50%"),
            ("e", "%4"),
        ];
        assert_eq!(
            read.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn only_known_appearances_are_taken() {
        assert_eq!(theme("x=1; theme=dark"), "dark");
        assert_eq!(theme("theme=\"><script>"), "");
    }
}
