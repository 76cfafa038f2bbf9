//! Finds the armoured block in whatever was pasted: literal `\n`, CRLF, indentation, quotes, all
//! on one line, dashes that a word processor has joined, a lost last line.

use data_encoding::{BASE64, BASE64_NOPAD};
use zeroize::Zeroizing;

use super::{KeyFormat, KeyProblem};

/// One private key's block.
pub(super) struct Block {
    pub(super) format: KeyFormat,
    /// `DEK-Info`: cipher name and initial vector.
    pub(super) dek: Option<(String, Vec<u8>)>,
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

/// Line ends, byte order mark and surrounding quotes as they should be.
pub(super) fn normalise(text: &str) -> Zeroizing<String> {
    // No armour, base64 or key line holds a backslash.
    let text = Zeroizing::new(text.replace("\\r", "\n"));
    let text = Zeroizing::new(text.replace("\\n", "\n"));
    let text = Zeroizing::new(text.replace('\r', "\n"));
    let text = text.trim_matches(|c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | '\u{feff}' | '\\' | '\0')
    });
    Zeroizing::new(text.to_owned())
}

/// The first private key in `text`, or what it is instead.
pub(super) fn find(text: &str) -> Result<Block, KeyProblem> {
    let text = normalise(text);
    if text.is_empty() {
        return Err(KeyProblem::Empty);
    }
    if text.starts_with("PuTTY-User-Key-File-") {
        return Err(KeyProblem::PuTTY);
    }
    // Without armour, a key of the OpenSSH format still begins with its magic.
    if text.starts_with("b3BlbnNzaC1rZXktdjE") {
        return block(KeyFormat::OpenSsh, &text);
    }
    let mut rest: &str = &text;
    let mut instead = None;
    while let Some((_, after)) = rest.split_once("BEGIN ") {
        let end = after.find(is_dash).unwrap_or(after.len());
        let (label, after) = after.split_at(end);
        let after = after.trim_start_matches(is_dash);
        let (body, next) = after.split_once("END ").unwrap_or((after, ""));
        let body = body.trim_end_matches(|c: char| is_dash(c) || c.is_whitespace());
        rest = next;
        let format = match label.split_whitespace().collect::<Vec<_>>().join(" ").as_str() {
            "OPENSSH PRIVATE KEY" => KeyFormat::OpenSsh,
            "RSA PRIVATE KEY" => KeyFormat::Pkcs1,
            "EC PRIVATE KEY" => KeyFormat::Sec1,
            "PRIVATE KEY" => KeyFormat::Pkcs8,
            "ENCRYPTED PRIVATE KEY" => KeyFormat::Pkcs8Encrypted,
            "DSA PRIVATE KEY" => return Err(KeyProblem::Dsa),
            "SSH2 ENCRYPTED PRIVATE KEY" => return Err(KeyProblem::SshCom),
            "PUBLIC KEY" | "RSA PUBLIC KEY" | "SSH2 PUBLIC KEY" => {
                instead.get_or_insert(KeyProblem::PublicKey);
                continue;
            }
            "CERTIFICATE" => {
                instead.get_or_insert(KeyProblem::Certificate);
                continue;
            }
            // `openssl ecparam` writes this before the key.
            "EC PARAMETERS" => continue,
            other => {
                instead.get_or_insert(KeyProblem::Unsupported(other.chars().take(60).collect()));
                continue;
            }
        };
        return block(format, body);
    }
    Err(instead.unwrap_or_else(|| public_line(&text)))
}

/// What a text without armour is.
fn public_line(text: &str) -> KeyProblem {
    let has = |what: &str| text.split_whitespace().any(|word| word.contains(what));
    if has("-cert-v01@openssh.com") {
        KeyProblem::Certificate
    } else if ["ssh-", "ecdsa-sha2-", "sk-"].iter().any(|start| {
        text.split_whitespace()
            .zip(text.split_whitespace().skip(1))
            .any(|(name, body)| name.starts_with(start) && body.starts_with("AAAA"))
    }) {
        KeyProblem::PublicKey
    } else {
        KeyProblem::NotAKey
    }
}

fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

fn block(format: KeyFormat, body: &str) -> Result<Block, KeyProblem> {
    let damaged = || KeyProblem::Damaged { format: format.to_string() };
    let (dek, body) = match body.split_once("DEK-Info:") {
        None => (None, body),
        Some((_, rest)) => {
            let (name, rest) = rest.split_once(',').ok_or_else(damaged)?;
            let name = name.trim().to_owned();
            // The length comes from the cipher: a one-line paste may leave no blank behind it.
            let digits = if name.starts_with("DES") { 16 } else { 32 };
            let rest = rest.trim_start();
            let hex = rest.get(..digits).ok_or_else(damaged)?.to_ascii_uppercase();
            let iv = data_encoding::HEXUPPER.decode(hex.as_bytes()).map_err(|_| damaged())?;
            (Some((name, iv)), rest.get(digits..).unwrap_or_default())
        }
    };
    let keep = |c: &char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\' | ',' | '\u{200b}');
    // With all its room at once: grown, it would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(body.len()));
    text.extend(body.chars().filter(keep));
    let bytes = BASE64
        .decode(text.as_bytes())
        .or_else(|_| BASE64_NOPAD.decode(text.trim_end_matches('=').as_bytes()))
        .map_err(|_| damaged())?;
    if bytes.is_empty() {
        return Err(damaged());
    }
    Ok(Block { format, dek, bytes: Zeroizing::new(bytes) })
}
