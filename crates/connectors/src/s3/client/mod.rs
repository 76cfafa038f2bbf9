//! Requests to one bucket. The SDK makes, signs and reads them; [`http`] carries them. What is done
//! again, how long and how many at once is decided here: the SDK's own retries are off.
//!
//! The engine's threads call [`S3Client::block_on`]; within it everything is asynchronous.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client as Sdk;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_types::DateTime;
use tokio::runtime::Handle;

use self::clock::Clock;
use self::failure::Failure;
use self::http::Transport;
use self::http::connect::Connector;
use self::http::tls::Trust;
use self::limiter::Limiter;
use crate::network::Patience;
use crate::{LONGEST_TIMEOUT, locked};

mod bucket;
mod clock;
mod credentials;
mod delete;
mod endpoint;
mod error;
mod failure;
mod http;
mod limiter;
mod list;
mod multipart;
mod objects;
mod options;
mod read;
mod record;
mod uploads;
mod write;

pub use endpoint::{is_amazon, region_of};
pub use error::{Answer, Class, S3Error, S3Result, Stage};
pub use list::Pages;
pub use multipart::Multipart;
pub use objects::{Archive, Headers, Listed, ListedPage, Object, ObjectInfo, Put, Stored, Wanted};
pub use options::{Credentials, S3Options, Sse};
pub use record::{Operation, Recorder};
pub use uploads::OpenUpload;

/// The first pause between attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Attempts on connections that break, before anything was ever answered.
const FIRST_ATTEMPTS: u32 = 3;

/// Where nothing else says it. Most servers that are not Amazon's take it for theirs.
const USUAL_REGION: &str = "us-east-1";

struct Inner {
    runtime: Handle,
    options: S3Options,
    recorder: Arc<Recorder>,
    limiter: Limiter,
    transport: Transport,
    clock: Clock,
    credentials: tokio::sync::OnceCell<SharedCredentialsProvider>,
    region: Mutex<Option<String>>,
    sdk: Mutex<Option<(String, Sdk)>>,
    /// A server has answered. If so, what fails now may be a passing trouble.
    was_reached: AtomicBool,
    /// The server refuses SHA-256 checksums.
    no_sha256: AtomicBool,
    /// The server refuses to delete many objects by one request.
    no_bulk_delete: AtomicBool,
}

/// Requests to one bucket. Clones share connections and limits. Its futures belong on the runtime
/// that it was made with.
#[derive(Clone)]
pub struct S3Client(Arc<Inner>);

impl fmt::Debug for S3Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Client({})", self.location())
    }
}

impl S3Client {
    /// Connects nothing yet; reads the certificates that options name. `runtime` needs I/O and
    /// time, and threads of its own. `Settings` if the options cannot be used.
    pub fn new(runtime: Handle, options: S3Options) -> S3Result<Self> {
        let recorder = Arc::new(Recorder::default());
        let unusable = |what: Failure| {
            let object =
                if options.bucket.is_empty() { &options.endpoint } else { &options.bucket };
            what.error(Operation::HeadBucket, object, &secrets(&options))
        };
        check(&options).map_err(|what| unusable(Failure::settings(what)))?;
        let trust = match &options.tls_ca_file {
            _ if options.tls_insecure_no_verify => Trust::Anybody,
            Some(file) => Trust::File(file),
            None => Trust::System,
        };
        let tls = options.use_tls.then(|| http::tls::settings(trust)).transpose();
        let tls = tls.map_err(|error| unusable(error.into()))?;
        let connector = Connector::new(tls, options.timeout);
        let transport = Transport::new(connector, options.timeout, recorder.clone());
        let limiter = Limiter::new(options.connections.unwrap_or(limiter::MOST));
        let region = options.region.clone().or_else(|| region_of(&options.endpoint));
        Ok(Self(Arc::new(Inner {
            runtime,
            options,
            recorder,
            limiter,
            transport,
            clock: Clock::default(),
            credentials: tokio::sync::OnceCell::new(),
            region: Mutex::new(region),
            sdk: Mutex::default(),
            was_reached: AtomicBool::new(false),
            no_sha256: AtomicBool::new(false),
            no_bulk_delete: AtomicBool::new(false),
        })))
    }

    /// What was asked for.
    pub fn options(&self) -> &S3Options {
        &self.0.options
    }

    /// The place as a person would write it.
    pub fn location(&self) -> String {
        let S3Options { bucket, prefix, .. } = &self.0.options;
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("s3://{}/{bucket}{slash}{prefix}", endpoint::authority(&self.0.options))
    }

    /// The full key of what is called `relative` below the prefix.
    pub fn key(&self, relative: &str) -> String {
        match (self.0.options.prefix.as_str(), relative) {
            ("", relative) => relative.to_owned(),
            (prefix, relative) => format!("{prefix}/{relative}"),
        }
    }

    /// Counts requests and bytes.
    pub fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// How many requests run at once now, at most.
    pub fn concurrency(&self) -> usize {
        self.0.limiter.limit()
    }

    /// The region that requests are signed for, once it is known.
    pub fn region(&self) -> Option<String> {
        locked(&self.0.region).clone()
    }

    /// The time in seconds since the epoch; the server's, once it has said that ours is wrong.
    pub fn now(&self) -> i64 {
        DateTime::from(self.0.clock.now()).secs()
    }

    /// Runs a future to its end. Not to be called on a thread of the runtime.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.runtime.block_on(future)
    }

    /// The runtime.
    pub fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// What requests are made with, for the region as it is known now.
    async fn sdk(&self) -> Sdk {
        let known = self.region();
        let region = match known {
            Some(region) => region,
            None => {
                let found = credentials::region(&self.0.options.credentials).await;
                let found = found.unwrap_or_else(|| USUAL_REGION.into());
                locked(&self.0.region).get_or_insert(found).clone()
            }
        };
        let provide = || credentials::provider(&self.0.options.credentials, &region);
        let credentials = self.0.credentials.get_or_init(provide).await.clone();
        let mut made = locked(&self.0.sdk);
        match &*made {
            Some((of, sdk)) if *of == region => sdk.clone(),
            _ => {
                let sdk = Sdk::from_conf(self.config(&region, credentials));
                *made = Some((region, sdk.clone()));
                sdk
            }
        }
    }

    fn config(&self, region: &str, credentials: SharedCredentialsProvider) -> Config {
        let options = &self.0.options;
        let scheme = if options.use_tls { "https" } else { "http" };
        Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(format!("{scheme}://{}", endpoint::authority_in(options, region)))
            .force_path_style(endpoint::path_style(options))
            .region(Region::new(region.to_owned()))
            .credentials_provider(credentials)
            .http_client(SharedHttpClient::new(self.0.transport.clone()))
            .time_source(SharedTimeSource::new(self.0.clock.clone()))
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // Servers that are not Amazon's refuse checksums that nobody asked for.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .disable_s3_express_session_auth(true)
            .build()
    }

    /// Does `send` until it is answered, `once` only while nothing can have come of it.
    async fn call<T, F>(
        &self,
        operation: Operation,
        key: &str,
        once: bool,
        mut send: impl FnMut(Sdk) -> F,
    ) -> S3Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let inner = &*self.0;
        let slash = if key.is_empty() { "" } else { "/" };
        let object = format!("{}{slash}{key}", inner.options.bucket);
        let mut patience = self.patience();
        let (mut taught, mut corrected, mut attempts) = (false, false, 0);
        let mut was_repeated = false;
        loop {
            let turn = inner.limiter.acquire().await;
            let sdk = self.sdk().await;
            inner.recorder.count(operation);
            let failure = match send(sdk).await {
                Ok(done) => {
                    inner.was_reached.store(true, Ordering::Relaxed);
                    turn.went_well();
                    return Ok(done);
                }
                Err(failure) => failure,
            };
            let mut error = failure.error(operation, &object, &secrets(&inner.options));
            error.was_repeated = was_repeated;
            if error.class == Class::SlowDown {
                turn.slow_down();
            }
            drop(turn);
            if let Some(answer) = &error.answer {
                inner.was_reached.store(true, Ordering::Relaxed);
                if error.class == Class::WrongRegion && !taught {
                    taught = true;
                    if self.learn(answer.region.as_deref()) {
                        continue;
                    }
                }
                if let (Class::ClockSkew, false, Some(date)) = (error.class, corrected, answer.date)
                {
                    corrected = true;
                    inner.clock.set(date);
                    continue;
                }
            }
            attempts += 1;
            if !self.may_pass(&error, attempts) || (once && error.may_be_done) {
                return Err(error);
            }
            was_repeated |= error.may_be_done;
            if !patience.pause().await {
                return Err(error);
            }
        }
    }

    /// Remembers the region that the server named. `false` if that is nothing new.
    fn learn(&self, region: Option<&str>) -> bool {
        let Some(region) = region else { return false };
        let mut known = locked(&self.0.region);
        let is_new = known.as_deref() != Some(region);
        *known = Some(region.to_owned());
        is_new
    }

    /// Whether it is worth trying again. Where nothing was ever answered: hardly.
    fn may_pass(&self, error: &S3Error, attempts: u32) -> bool {
        let was_reached = self.0.was_reached.load(Ordering::Relaxed);
        match error.class {
            Class::SlowDown | Class::Server | Class::Checksum => true,
            Class::Disconnected => was_reached || attempts < FIRST_ATTEMPTS,
            // A network that breaks in the middle of a handshake looks like bad TLS.
            Class::NameNotFound
            | Class::Refused
            | Class::Unreachable
            | Class::Timeout
            | Class::Tls => was_reached,
            // Two writers at once; Amazon asks to try again.
            Class::PreconditionFailed => error.code() == Some("ConditionalRequestConflict"),
            _ => false,
        }
    }

    /// How long to go on trying, from now on.
    fn patience(&self) -> Patience {
        Patience::new(self.0.options.timeout * 4, PAUSE)
    }
}

/// What must never show.
fn secrets(options: &S3Options) -> Vec<&str> {
    match &options.credentials {
        Credentials::Keys { access_key, secret_access_key, session_token } => {
            let token = session_token.as_ref().map(|token| token.expose());
            [Some(access_key.as_str()), Some(secret_access_key.expose()), token]
                .into_iter()
                .flatten()
                .collect()
        }
        Credentials::Profile(_) | Credentials::Environment => Vec::new(),
    }
}

/// Why options cannot be used.
fn check(options: &S3Options) -> Result<(), String> {
    let S3Options { endpoint, bucket, prefix, .. } = options;
    if endpoint.is_empty() || endpoint.contains(['/', '@', '?', '#', ' ']) {
        return Err(format!("\"{endpoint}\" is no host name or address of a server"));
    }
    if bucket.is_empty() || bucket.contains(['/', '?', '#', ' ']) {
        return Err(format!("\"{bucket}\" is no bucket's name"));
    }
    if prefix.starts_with('/') || prefix.ends_with('/') {
        return Err(format!("the prefix \"{prefix}\" begins or ends with a slash"));
    }
    if options.timeout.is_zero() {
        return Err("a timeout of nothing".into());
    }
    if options.timeout > LONGEST_TIMEOUT {
        return Err("a timeout of more than a year".into());
    }
    Ok(())
}
