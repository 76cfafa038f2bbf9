//! rclone's `s3` remotes. They name no bucket: it comes with the path, or the location is left to
//! be completed.

use super::rclone::Section;
use super::{Draft, Incomplete, Reason, parse_location};
use crate::location::{Location, S3Location};
use crate::text::printable;

/// Providers that refuse `endpoint/bucket/key`.
const VIRTUAL_HOSTS_ONLY: &[&str] = &["Alibaba", "HuaweiOBS", "TencentCOS"];

pub(super) fn draft(section: &mut Section, path: &str) -> Result<Draft, Reason> {
    let mut draft = Draft::default();
    let provider = section.take("provider").map(|p| p.to_string()).unwrap_or_default();
    let region = section.take("region").map(|region| region.to_string());
    if region.as_deref() == Some("other-v2-signature") || section.take_flag("v2_auth") == Some(true)
    {
        return Err("it signs by version 2, which is not supported".into());
    }
    let endpoint = match section.take("endpoint") {
        Some(endpoint) => endpoint.to_string(),
        None if matches!(provider.as_str(), "AWS" | "") => aws(region.as_deref()),
        None => {
            let shown = printable(provider.as_bytes());
            return Err(format!("it has no endpoint; add that of {shown} in rclone"));
        }
    };
    let (endpoint, has_tls) = place(&endpoint)?;
    match path.trim_matches('/').split_once('/').unwrap_or((path.trim_matches('/'), "")) {
        ("", _) => {
            let shown = S3Location { bucket: String::new(), ..endpoint }.to_string();
            let begin = shown.trim_end_matches('/').to_owned();
            draft.incomplete = Some(Incomplete { begin, rest: "BUCKET" });
        }
        (bucket, prefix) => {
            let prefix = prefix.trim_matches('/').to_owned();
            let location = S3Location { bucket: bucket.to_owned(), prefix, ..endpoint };
            draft.set("location", location.to_string());
        }
    }
    if !has_tls {
        draft.set("use_tls", "false".to_owned());
    }
    credentials(&mut draft, section);
    if let Some(region) = region {
        draft.set("region", region);
    }
    match section.take_flag("force_path_style") {
        Some(is_path_style) => draft.set("virtual_host", (!is_path_style).to_string()),
        None if VIRTUAL_HOSTS_ONLY.contains(&provider.as_str()) => {
            draft.set("virtual_host", "true".to_owned());
        }
        None => {}
    }
    draft.set_if("storage_class", section.take("storage_class"));
    encryption(&mut draft, section);
    Ok(draft)
}

fn aws(region: Option<&str>) -> String {
    let region = region.unwrap_or("us-east-1");
    let china = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("s3.{region}.amazonaws.com{china}")
}

/// Host and port of an endpoint, in a location without bucket, and whether TLS is used.
fn place(endpoint: &str) -> Result<(S3Location, bool), Reason> {
    let (host, has_tls) = match endpoint.split_once("://") {
        Some(("http", host)) => (host, false),
        Some(("https", host)) => (host, true),
        Some(_) => return Err("its endpoint is neither http:// nor https://".into()),
        None => (endpoint, true),
    };
    let host = host.trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '?', '@']) {
        return Err("its endpoint is more than a host and a port".into());
    }
    // A name without dots needs its port to be taken for a host.
    let port = if has_tls { ":443" } else { ":80" };
    let port = if host.contains(['.', ':']) { "" } else { port };
    match parse_location(&format!("s3://{host}{port}/bucket"))? {
        Location::S3(location) => Ok((location, has_tls)),
        _ => Err("its endpoint is not understood".into()),
    }
}

fn credentials(draft: &mut Draft, section: &mut Section) {
    let uses_environment = section.take_flag("env_auth") == Some(true);
    let access_key = section.take("access_key_id");
    let secret = section.take("secret_access_key");
    let token = section.take("session_token");
    let profile = section.take("profile");
    if access_key.is_none() && secret.is_none() {
        if uses_environment {
            draft.set_if("profile", profile);
        } else {
            draft.notes.push(
                "rclone used it without keys; Holdfast signs, with access_key and \
                 secret_access_key, a profile, or what the environment has"
                    .into(),
            );
        }
        return;
    }
    draft.set_if("access_key", access_key);
    draft.set_if("secret_access_key", secret);
    draft.set_if("session_token", token);
}

fn encryption(draft: &mut Draft, section: &mut Section) {
    let mode = section.take("server_side_encryption");
    let key = section.take("sse_kms_key_id");
    match (mode.as_deref().map(String::as_str), key) {
        (Some("aws:kms"), Some(key)) => draft.set("sse", format!("aws:kms:{}", key.as_str())),
        (Some(mode), _) => draft.set("sse", mode.to_owned()),
        (None, _) => {}
    }
    let mut has_key = false;
    for key in ["sse_customer_key", "sse_customer_key_base64", "sse_customer_key_md5"] {
        has_key |= section.take(key).is_some();
    }
    section.take("sse_customer_algorithm");
    if has_key {
        draft.notes.push(
            "what rclone stored there with a customer's own key (SSE-C) cannot be read by Holdfast"
                .into(),
        );
    }
}
