//! The keys that a machine gives to what runs on it: a container's service, or the metadata
//! address of an instance.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key, AwsCredential};
use url::Url;

use crate::store::Kind;
use crate::store::http::credential_cache::{CredentialError, Lasting, Source};
use crate::store::http::middleware::{Exchange, innermost};
use crate::store::http::opening::{Env, Refusal, invalid, is_loopback, refuse, set, unbuilt};

/// How long keys count before they are asked for again: the services have new ones at least five
/// minutes before the old ones end, and nobody says here when that is.
const FRESH: Duration = Duration::from_secs(240);
/// How long they serve on while the service fails; those that are over, the store refuses.
const GOOD: Duration = Duration::from_secs(3600);

/// A service that gives out keys.
pub(crate) struct Machine {
    builder: AmazonS3Builder,
    place: &'static str,
}

impl Machine {
    /// Finds a container's service, if the environment names one. Nothing is sent.
    pub(crate) fn container(
        builder: &AmazonS3Builder,
        env: Env<'_>,
    ) -> Result<Option<Self>, Refusal> {
        let pairs = if let Some(path) = set(env, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            if !path.starts_with('/') {
                return refuse("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI must start with a slash");
            }
            vec![(Key::ContainerCredentialsRelativeUri, path)]
        } else {
            let Some(service) = set(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI") else {
                return Ok(None);
            };
            let Some(file) = set(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") else {
                return refuse(
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI needs AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                );
            };
            if !trusted(&service) {
                return refuse(
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or an address of this host, \
                     ECS or EKS",
                );
            }
            vec![
                (Key::ContainerCredentialsFullUri, service),
                (Key::ContainerAuthorizationTokenFile, file),
            ]
        };
        let with = |builder: AmazonS3Builder, (key, value)| builder.with_config(key, value);
        let builder = pairs.into_iter().fold(builder.clone(), with);
        Self::built(builder, "the container's service").map(Some)
    }

    /// Finds the metadata address of an instance: where the environment says, or else EC2's if
    /// `called_for`. Nothing is sent.
    pub(crate) fn instance(
        builder: &AmazonS3Builder,
        env: Env<'_>,
        called_for: bool,
    ) -> Result<Option<Self>, Refusal> {
        let builder = match set(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT") {
            Some(service) => {
                let service = service.trim_end_matches('/');
                let unread = |_| invalid("AWS_EC2_METADATA_SERVICE_ENDPOINT is no url");
                Url::parse(service).map_err(unread)?;
                builder.clone().with_metadata_endpoint(service)
            }
            None if called_for => builder.clone(),
            None => return Ok(None),
        };
        Self::built(builder, "the instance's metadata").map(Some)
    }

    fn built(builder: AmazonS3Builder, place: &'static str) -> Result<Self, Refusal> {
        builder.clone().build().map_err(unbuilt)?;
        Ok(Self { builder, place })
    }
}

#[async_trait]
impl Source<Arc<AwsCredential>> for Machine {
    async fn fetch(&self) -> Result<Lasting<Arc<AwsCredential>>, CredentialError> {
        let credential_error =
            |kind, why: &str| CredentialError::new(kind, format!(" from {}: {why}", self.place));
        // Made anew each time, for object_store's own keeps keys to their end, whatever the store
        // says of them.
        let store = self.builder.clone().build();
        let store =
            store.map_err(|error| credential_error(Kind::Unreachable, &innermost(&error)))?;
        let (got, exchange) = Exchange::of(false, store.credentials().get_credential()).await;
        let credential = got.map_err(|error| {
            let (kind, why, fix) = exchange.outcome().of_credentials(&innermost(&error));
            credential_error(kind, &why).with_fix(fix)
        })?;
        Ok(Lasting {
            credential,
            fresh: FRESH,
            good: GOOD,
        })
    }

    fn place(&self) -> String {
        self.place.into()
    }
}

/// Tells whether the token for a container's credentials may be sent to a service, by the rule of
/// the AWS SDKs.
fn trusted(service: &str) -> bool {
    let Ok(url) = Url::parse(service) else {
        return false;
    };
    let known = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];
    let local = is_loopback(&url);
    let known = url.host_str().is_some_and(|host| known.contains(&host));
    url.scheme() == "https" || (url.scheme() == "http" && (local || known))
}
