//! Where keys come from, and the region that the same place may name.

use std::sync::Arc;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::ProvideRegion;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::Region;
use aws_smithy_async::rt::sleep::TokioSleep;

use super::http::Transport;
use super::http::connect::Connector;
use super::http::tls::{self, Trust};
use super::options::Credentials;
use super::record::Recorder;

/// What is asked for credentials answers at once or never.
const LIMIT: Duration = Duration::from_secs(10);

/// What signs requests.
pub(super) async fn provider(credentials: &Credentials, region: &str) -> SharedCredentialsProvider {
    // Token services have certificates that the whole world trusts, whatever the endpoint has.
    let config = || {
        let connector = Connector::new(tls::settings(Trust::System).ok(), LIMIT);
        ProviderConfig::empty()
            .with_http_client(Transport::new(connector, LIMIT, Arc::new(Recorder::default())))
            .with_sleep_impl(TokioSleep::new())
            .with_region(Some(Region::new(region.to_owned())))
    };
    match credentials {
        Credentials::Keys { access_key, secret_access_key, session_token } => {
            SharedCredentialsProvider::new(aws_credential_types::Credentials::new(
                access_key.clone(),
                secret_access_key.expose(),
                session_token.as_ref().map(|token| token.expose().to_owned()),
                None,
                "options",
            ))
        }
        Credentials::Profile(name) => SharedCredentialsProvider::new(
            ProfileFileCredentialsProvider::builder()
                .configure(&config())
                .profile_name(name)
                .build(),
        ),
        Credentials::Environment => SharedCredentialsProvider::new(
            DefaultCredentialsChain::builder().configure(config()).build().await,
        ),
    }
}

/// The region that belongs to the credentials, where they come from outside.
pub(super) async fn region(credentials: &Credentials) -> Option<String> {
    let profile = ProfileFileRegionProvider::builder();
    let region = match credentials {
        Credentials::Keys { .. } => None,
        Credentials::Profile(name) => profile.profile_name(name).build().region().await,
        Credentials::Environment => match EnvironmentVariableRegionProvider::new().region().await {
            Some(region) => Some(region),
            None => profile.build().region().await,
        },
    };
    region.map(|region| region.to_string())
}
