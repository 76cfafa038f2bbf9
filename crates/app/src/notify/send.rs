//! Sending one message over one channel.

use std::sync::Arc;
use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{SmtpTransport, Transport};
use serde_json::json;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use zeroize::Zeroizing;

use super::Message;
use super::channel::{Channel, Kind, Security};
use crate::plans::Event;
use crate::problem::{Class, Problem};
use crate::text::printable;

/// How long a server may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Characters of a chat message: Discord takes no more than 2000.
const CHAT: usize = 1800;

pub(super) fn send(channel: &Channel, message: &Message) -> Result<(), Problem> {
    match channel.kind {
        Kind::Mail => mail(channel, message),
        Kind::Webhook => {
            let body = json!({
                "event": message.event.name(),
                "subject": message.subject,
                "text": message.text,
                "run": message.run,
            });
            post(channel, &body.to_string(), &[("Content-Type", "application/json")])
        }
        Kind::Slack => {
            // Of a text that may hold a file's name: no links, and nobody is called.
            let text = chat(message, "*").replace('&', "&amp;").replace('<', "&lt;");
            let body = json!({ "text": text.replace('>', "&gt;") }).to_string();
            post(channel, &body, &[("Content-Type", "application/json")])
        }
        Kind::Discord => {
            // Nobody is to be called by what a file's name says.
            let mentions = json!({ "parse": [] });
            let body = json!({ "content": chat(message, "**"), "allowed_mentions": mentions });
            post(channel, &body.to_string(), &[("Content-Type", "application/json")])
        }
        Kind::Ntfy => {
            let (priority, tag) = match message.event {
                Event::Failure | Event::Missed => ("high", "rotating_light"),
                Event::Warnings => ("default", "warning"),
                Event::Start | Event::Success => ("low", "white_check_mark"),
            };
            let title = ascii(&message.subject);
            post(
                channel,
                &message.text,
                &[("Title", &title), ("Priority", priority), ("Tags", tag)],
            )
        }
        Kind::Ping => {
            let end = match message.event {
                Event::Start => "/start",
                Event::Success | Event::Warnings => "",
                Event::Failure | Event::Missed => "/fail",
            };
            let url = channel.url()?;
            let url = Zeroizing::new(format!("{}{end}", url.trim_end_matches('/')));
            request(channel, &url, &message.subject, &[])
        }
    }
}

/// What a chat shows: the subject in bold, then the text.
fn chat(message: &Message, bold: &str) -> String {
    let text = format!("{bold}{}{bold}\n{}", message.subject, message.text);
    match text.char_indices().nth(CHAT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// A header holds nothing else.
fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' }).collect()
}

fn post(channel: &Channel, body: &str, headers: &[(&str, &str)]) -> Result<(), Problem> {
    request(channel, &channel.url()?, body, headers)
}

fn request(
    channel: &Channel,
    url: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> Result<(), Problem> {
    let mut request = agent()?.post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(token) = channel.token()? {
        request = request.header("Authorization", format!("Bearer {}", token.as_str()));
    }
    match request.send(body) {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(failed(channel, &format!("the server answers {}", response.status()))),
        // Its text may hold the address, and that is a secret.
        Err(error) => Err(failed(channel, &describe(&error))),
    }
}

fn describe(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "the server does not answer in time".into(),
        ureq::Error::HostNotFound => "the name of the server has no address".into(),
        ureq::Error::ConnectionFailed => "the server cannot be reached".into(),
        ureq::Error::Io(e) => e.to_string(),
        ureq::Error::Rustls(e) => format!("no encrypted connection: {e}"),
        ureq::Error::BadUri(_) => "its url makes no sense".into(),
        _ => "the request could not be made".into(),
    }
}

fn agent() -> Result<Agent, Problem> {
    let found = rustls_native_certs::load_native_certs();
    let certificates: Vec<_> =
        found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&certificates))
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(3)
        .user_agent(crate::jobs::program())
        .build();
    Ok(config.into())
}

fn mail(channel: &Channel, message: &Message) -> Result<(), Problem> {
    let mail = channel.mail.as_ref().ok_or_else(|| failed(channel, "it is no mail"))?;
    let mut built = lettre::Message::builder()
        .from(mail.from.clone())
        .subject(message.subject.as_str())
        .header(ContentType::TEXT_PLAIN);
    for to in &mail.to {
        built = built.to(to.clone());
    }
    let built = built.body(message.text.clone()).map_err(|e| failed(channel, &e.to_string()))?;
    let (host, port) = match mail.server.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            let port =
                port.parse().map_err(|_| failed(channel, "the port of its server is no number"))?;
            (host.trim_matches(['[', ']']).to_owned(), Some(port))
        }
        _ => (mail.server.clone(), None),
    };
    let parameters =
        || TlsParameters::new(host.clone()).map_err(|e| failed(channel, &e.to_string()));
    let (tls, usual) = match mail.security {
        Security::StartTls => (Tls::Required(parameters()?), 587),
        Security::Tls => (Tls::Wrapper(parameters()?), 465),
        Security::None => (Tls::None, 25),
    };
    let mut server = SmtpTransport::builder_dangerous(&host)
        .tls(tls)
        .port(port.unwrap_or(usual))
        .timeout(Some(TIMEOUT));
    if let Some((user, password)) = mail.user()? {
        server = server.credentials(Credentials::new(user.to_owned(), password.to_string()));
    }
    server.build().send(&built).map(drop).map_err(|e| {
        let cause = std::error::Error::source(&e).map(|cause| format!(": {cause}"));
        failed(channel, &format!("{e}{}", cause.unwrap_or_default()))
    })
}

fn failed(channel: &Channel, what: &str) -> Problem {
    let text = format!("the channel {} could not be told", printable(channel.name.as_bytes()));
    Problem::new(Class::Unreachable, text).cause(printable(what.as_bytes()))
}
