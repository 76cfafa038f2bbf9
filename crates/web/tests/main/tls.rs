//! TLS of the console's own: real handshakes with certificates of an authority of ours, renewals, bad
//! files, clients that say nothing or speak no TLS, and a browser.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_app::paths::Paths;
use holdfast_app::runner::{self, Runner};
use holdfast_engine::hash::Sha256;
use holdfast_web::{Accounts, Console, Options, Tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::browser::{Screen, browse};
use super::site::{Result, Site};

const NAME: &str = "backup.example";

/// An authority, and what it signs.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// Certificate and key as PEM, good in these years.
    fn sign(&self, from: i32, to: i32) -> Result<(String, String)> {
        let mut params = CertificateParams::new(vec![NAME.to_owned()])?;
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

/// A console with certificate and key in files.
struct Served {
    console: Console,
    authority: Authority,
    home: tempfile::TempDir,
}

fn write(path: &Path, text: &str, mode: u32) -> Result {
    std::fs::write(path, text)?;
    Ok(std::fs::set_permissions(path, Permissions::from_mode(mode))?)
}

fn files(home: &Path) -> (PathBuf, PathBuf) {
    (home.join("fullchain.pem"), home.join("privkey.pem"))
}

fn start(home: &Path, tls: Tls) -> std::result::Result<Console, holdfast_app::Problem> {
    let at = |name: &str| home.join(name);
    let paths = Paths { config: at("c.toml"), state: at("state"), cache: None, home: None };
    Console::start(Options {
        runner: Runner::new(paths, runner::Options::default())?,
        listen: Console::loopback(0),
        machine: "tern".into(),
        hosts: vec![NAME.into()],
        is_behind_proxy: false,
        tls: Some(tls),
        is_foreground: false,
    })
}

impl Served {
    fn new() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let authority = Authority::new()?;
        let (certificate, key) = files(home.path());
        let pair = authority.sign(2020, 2090)?;
        write(&certificate, &pair.0, 0o644)?;
        write(&key, &pair.1, 0o640)?;
        let console = start(home.path(), Tls::Files { certificate, key })?;
        Ok(Self { console, authority, home })
    }

    /// A connection with its handshake done.
    fn connect(&self, version: &'static SupportedProtocolVersion) -> Result<Connection> {
        connect(&self.console, &self.authority.certificate, version)
    }

    fn get(&self, path: &str) -> Result<String> {
        ask(&mut self.connect(&TLS13)?, &self.host(), path)
    }

    fn host(&self) -> String {
        format!("{NAME}:{}", self.console.address().port())
    }
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

fn connect(
    console: &Console,
    root: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> Result<Connection> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(NAME)?;
    let mut stream = TcpStream::connect(console.address())?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut client = ClientConnection::new(Arc::new(config), name)?;
    while client.is_handshaking() {
        client.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(client, stream))
}

/// One request; the connection ends with its answer.
fn ask(stream: &mut Connection, host: &str, path: &str) -> Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn shown(stream: &Connection) -> Result<Vec<u8>> {
    let chain = stream.conn.peer_certificates().ok_or("no certificate")?;
    Ok(chain.first().ok_or("none")?.to_vec())
}

#[test]
fn browsers_are_held_to_tls_and_get_cookies_for_it_alone() -> Result {
    let served = Served::new()?;
    let url = served.console.one_time_url()?;
    let path = url.strip_prefix(&format!("https://{}", served.host())).ok_or(url.clone())?;
    let opened = served.get(path)?;
    let strict = "strict-transport-security: max-age=31536000\r\n";
    assert!(opened.starts_with("HTTP/1.1 200") && opened.contains(strict), "{opened}");
    assert!(opened.contains("set-cookie: __Host-") && opened.contains("; Secure"), "{opened}");
    for version in [&TLS12, &TLS13] {
        let mut stream = served.connect(version)?;
        assert_eq!(stream.conn.protocol_version(), Some(version.version));
        assert_eq!(stream.conn.alpn_protocol(), None);
        // The same without the port, as it is where that is 443.
        let answer = ask(&mut stream, NAME, "/sign-in")?;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // Not for all that listens on this machine.
    let local = format!("localhost:{}", served.console.address().port());
    let answer = ask(&mut served.connect(&TLS13)?, &local, "/sign-in")?;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains(strict), "{answer}");
    let answer = ask(&mut served.connect(&TLS13)?, "evil.example", "/sign-in")?;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("--host"), "{answer}");
    Ok(())
}

#[test]
fn a_renewed_certificate_is_shown_and_a_bad_one_is_not() -> Result {
    let served = Served::new()?;
    let certificates = served.console.certificates().ok_or("no TLS")?;
    let before = served.connect(&TLS13)?;
    assert!(!certificates.refresh()?, "nothing changed");
    let (certificate, key) = files(served.home.path());
    let renewed = served.authority.sign(2020, 2091)?;
    // In the middle of a renewal: the key is still that of before.
    write(&certificate, &renewed.0, 0o644)?;
    let problem = certificates.refresh().err().ok_or("taken without its key")?;
    assert!(problem.message.contains("does not belong to the certificate"), "{problem}");
    assert!(problem.hints.iter().any(|hint| hint.contains("goes on with")), "{problem:?}");
    assert!(!certificates.refresh()?, "told twice");
    let old = shown(&before)?;
    assert_eq!(shown(&served.connect(&TLS13)?)?, old);
    write(&key, &renewed.1, 0o600)?;
    assert!(certificates.refresh()?);
    let new = CertificateDer::from_pem_slice(renewed.0.as_bytes())?;
    assert_eq!(shown(&served.connect(&TLS12)?)?, new.to_vec());
    // Who was there before is not disturbed.
    let mut before = before;
    let answer = ask(&mut before, &served.host(), "/sign-in")?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    std::fs::remove_file(&certificate)?;
    assert!(certificates.refresh().is_err());
    assert_eq!(shown(&served.connect(&TLS13)?)?, new.to_vec());
    Ok(())
}

#[test]
fn files_that_would_not_do_are_refused_with_the_reason() -> Result {
    let home = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let good = authority.sign(2020, 2090)?;
    let other = authority.sign(2020, 2090)?;
    let (certificate, key) = files(home.path());
    let encrypted = good.1.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                  DEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let damaged_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let old = authority.sign(2000, 2001)?;
    let future = authority.sign(2080, 2090)?;
    for (chain, secret, mode, said) in [
        (&*old.0, &*old.1, 0o600, "expired: it was good until 200"),
        (&*future.0, &*future.1, 0o600, "is not good yet"),
        (&*good.0, &*other.1, 0o600, "does not belong to the certificate"),
        (&*good.0, &*good.1, 0o644, "others can read or change the key"),
        (&*good.0, &*good.1, 0o620, "others can read or change the key"),
        (&*good.0, &*encrypted, 0o600, "holds a key that is encrypted"),
        (&*good.0, legacy, 0o600, "holds a key that is encrypted"),
        (&*good.1, &*good.0, 0o600, "holds no certificate"),
        (&*good.0, &*good.0, 0o600, "holds no private key"),
        (&*good.0, "", 0o600, "holds no private key"),
        ("nonsense", &*good.1, 0o600, "holds no certificate"),
        (damaged, &*good.1, 0o600, "holds a certificate that cannot be read"),
        (&*good.0, damaged_key, 0o600, "holds a key that cannot be used"),
    ] {
        write(&certificate, chain, 0o644)?;
        write(&key, secret, mode)?;
        let tls = Tls::Files { certificate: certificate.clone(), key: key.clone() };
        let problem = start(home.path(), tls).err().ok_or(format!("taken: {said}"))?;
        assert!(problem.message.contains(said), "{said}: {problem}");
        assert!(!problem.hints.is_empty() || said.contains("cannot be read"), "{problem:?}");
        assert!(!format!("{problem:?}").contains("PRIVATE KEY-----\n"), "{problem:?}");
    }
    for missing in [&certificate, &key] {
        write(&certificate, &good.0, 0o644)?;
        write(&key, &good.1, 0o600)?;
        std::fs::remove_file(missing)?;
        let tls = Tls::Files { certificate: certificate.clone(), key: key.clone() };
        let problem = start(home.path(), tls).err().ok_or("taken")?;
        assert!(problem.to_string().contains(&missing.display().to_string()), "{problem}");
    }
    Ok(())
}

#[test]
fn who_says_nothing_or_speaks_no_tls_keeps_nobody_out() -> Result {
    let served = Served::new()?;
    let address = served.console.address();
    let began = Instant::now();
    let silent: Vec<_> =
        (0..100).map(|_| TcpStream::connect(address)).collect::<std::io::Result<_>>()?;
    // One that begins a handshake and goes no further.
    let mut half = TcpStream::connect(address)?;
    half.write_all(&[0x16, 3, 1, 2, 0])?;
    let mut plain = TcpStream::connect(address)?;
    plain.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(plain, "GET / HTTP/1.1\r\nHost: {}\r\n\r\n", served.host())?;
    let mut answer = String::new();
    plain.read_to_string(&mut answer)?;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("begins with https://"),
        "{answer}"
    );
    let answer = served.get("/sign-in")?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(8), "others waited for the silent ones");
    // They are let go.
    for mut stream in silent.into_iter().chain([half]) {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let end = stream.read(&mut [0; 16]);
        assert!(!matches!(end, Ok(1..)), "{end:?}");
        assert!(!end.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "it stays open");
    }
    Ok(())
}

#[test]
fn a_certificate_of_its_own_is_made_once_and_its_fingerprint_shown() -> Result {
    let home = tempfile::tempdir()?;
    Accounts::open(&home.path().join("state"))?;
    let console = start(home.path(), Tls::SelfSigned)?;
    let path = home.path().join("state/console-tls.pem");
    assert_eq!(path.metadata()?.permissions().mode() & 0o777, 0o600);
    let kept = std::fs::read(&path)?;
    let certificate = CertificateDer::from_pem_slice(&kept)?;
    // It says the name, and no browser is held to it.
    let mut stream = connect(&console, &certificate, &TLS13)?;
    let answer = ask(&mut stream, NAME, "/sign-in")?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("strict-transport-security"), "{answer}");
    let certificates = console.certificates().ok_or("no TLS")?;
    let plain = certificates.fingerprint().replace(':', "").to_lowercase();
    assert_eq!(plain, Sha256::of(&certificate).to_string());
    drop(console);
    let console = start(home.path(), Tls::SelfSigned)?;
    assert!(std::fs::read(&path)? == kept, "another one at the next start");
    assert_eq!(console.certificates().map(|c| c.fingerprint()), Some(certificates.fingerprint()));
    Ok(())
}

#[test]
fn a_browser_works_over_tls() -> Result {
    let site = Site::with_tls(Tls::SelfSigned)?;
    let fingerprint = site.console.certificates().ok_or("no TLS")?.fingerprint();
    browse(&site, Screen::Desk, async |tab| {
        tab.click("Dark").await?;
        tab.find("html[data-theme=dark]").await?;
        tab.open("/settings").await?;
        tab.see(&fingerprint).await?;
        tab.screenshot("settings-tls").await?;
        tab.fits().await?;
        // What is followed over a stream, and a form by script.
        tab.fill("tok-n", "dashboard").await?;
        tab.click("Make a token").await?;
        tab.see("hf_").await
    })?;
    browse(&site, Screen::Phone, async |tab| {
        tab.open("/settings").await?;
        tab.see(&fingerprint).await?;
        tab.fits().await
    })
}
