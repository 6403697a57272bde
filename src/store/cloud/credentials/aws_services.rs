//! The services that provide AWS keys: STS for a role, a container's service, and the metadata
//! address of an instance.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use object_store::aws::{
    AmazonS3Builder, AmazonS3ConfigKey as Key, AwsAuthorizer, AwsCredential, AwsCredentialProvider,
};
use object_store::client::{HttpClient, HttpConnector, HttpRequest};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use url::{Url, form_urlencoded};

use crate::store::Kind;
use crate::store::http::connection::innermost;
use crate::store::http::credential_cache::{CredentialError, CredentialSource, FetchedCredential};
use crate::store::http::middleware::{Connector, RequestLog};
use crate::store::http::opening::{
    Env, OpenError, denied, invalid, is_loopback, is_word, options, refuse, set, unbuilt,
};
use crate::store::http::reply::{BodyEnd, RequestOutcome, bounded};
use crate::store::http::retry_once;
use crate::store::http::xml;

/// The longest answer of STS; its answers have a few kilobytes.
const MAX_STS_REPLY_BYTES: usize = 64 << 10;
/// The time before their expiry at which keys are no longer used: a request signed later may arrive
/// after the expiry.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);

/// The proof that STS requires for a role.
#[derive(Debug)]
pub(crate) enum RoleProof {
    /// Other credentials, which sign the request.
    Keys(AwsCredentialProvider),
    /// The token of an identity provider, from a file.
    Token(PathBuf),
}

/// A role to assume.
#[derive(Debug)]
pub(crate) struct AssumedRole {
    pub(crate) arn: String,
    pub(crate) session: String,
    pub(crate) external_id: Option<String>,
    /// The length of a session in seconds; the default is the role's.
    pub(crate) seconds: Option<String>,
    pub(crate) by: RoleProof,
    pub(crate) service: StsEndpoint,
}

/// The endpoint of STS.
#[derive(Debug, Clone)]
pub(crate) struct StsEndpoint {
    url: Url,
    region: String,
    client: HttpClient,
}

impl StsEndpoint {
    /// Opens STS in a region, or at a custom endpoint, without sending anything.
    pub(crate) fn open(endpoint: Option<&str>, region: &str) -> Result<Self, OpenError> {
        let url = match endpoint {
            Some(endpoint) => Url::parse(endpoint).ok(),
            None => Url::parse(&format!("https://sts.{region}.{}", domain(region))).ok(),
        };
        let fits = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        let Some(url) = url.filter(fits) else {
            return Err(invalid(
                "the endpoint of STS is not a url: write AWS_ENDPOINT_URL_STS=https://host",
            ));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("the endpoint of STS must not hold credentials"));
        }
        let connector = Connector {
            authority: url.authority().to_owned(),
            ..Connector::default()
        };
        Ok(Self {
            client: connector.connect(&options(&url)).map_err(unbuilt)?,
            url,
            region: region.into(),
        })
    }
}

/// Returns AWS's domain for a region's partition.
pub(crate) fn domain(region: &str) -> &'static str {
    match region.starts_with("cn-") {
        true => "amazonaws.com.cn",
        false => "amazonaws.com",
    }
}

impl AssumedRole {
    /// Refuses values that STS would refuse, and requests that must not be sent.
    pub(crate) fn checked(self) -> Result<Self, OpenError> {
        // An ARN has no blank, and at most 2,048 characters.
        let fits = |text: &str, more: &str, most: usize| is_word(text, more) && text.len() <= most;
        if !self.arn.starts_with("arn:") || !fits(&self.arn, ":/_+=,.@-", 2048) {
            return Err(invalid(
                "invalid role ARN: write arn:aws:iam::123456789012:role/name",
            ));
        }
        // The characters that STS documents.
        if !fits(&self.session, "_+=,.@-", 64) || self.session.len() < 2 {
            return Err(invalid(
                "the session's name (AWS_ROLE_SESSION_NAME, role_session_name) must have 2 to 64 \
                 letters, digits and _+=,.@-",
            ));
        }
        let number = |text: &String| text.parse::<u32>().is_ok();
        if self.seconds.as_ref().is_some_and(|text| !number(text)) {
            return Err(denied("the profile's duration_seconds is not a number"));
        }
        let plain = self.service.url.scheme() == "http" && !is_loopback(&self.service.url);
        if plain && matches!(self.by, RoleProof::Token(_)) {
            return Err(invalid(
                "a web identity's token needs TLS: AWS_ENDPOINT_URL_STS must be https://",
            ));
        }
        Ok(self)
    }

    /// Adds the attempt and the endpoint to an error.
    fn credential_error(&self, kind: Kind, why: &str) -> CredentialError {
        let Self { arn, service, .. } = self;
        CredentialError::new(
            kind,
            format!(
                ": cannot assume {arn} at {}: {why}",
                service.url.authority()
            ),
        )
    }

    async fn request(&self) -> Result<HttpRequest, CredentialError> {
        let (action, credential, token) = match &self.by {
            RoleProof::Keys(keys) => ("AssumeRole", Some(self.keys(keys).await?), None),
            RoleProof::Token(path) => {
                let token = self.token(path).await?;
                ("AssumeRoleWithWebIdentity", None, Some(token))
            }
        };
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", action)
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", &self.arn)
            .append_pair("RoleSessionName", &self.session);
        for (name, value) in [
            ("ExternalId", &self.external_id),
            ("DurationSeconds", &self.seconds),
            ("WebIdentityToken", &token),
        ] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        let mut request = HttpRequest::new(form.finish().into());
        *request.method_mut() = reqwest::Method::POST;
        let uri = self.service.url.as_str().parse();
        *request.uri_mut() =
            uri.map_err(|_| self.credential_error(Kind::Invalid, "invalid url"))?;
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        if let Some(credential) = credential {
            AwsAuthorizer::new(&credential, "sts", &self.service.region)
                .try_authorize(&mut request, None)
                .map_err(|_| self.credential_error(Kind::Unreachable, "it can't be signed"))?;
        }
        Ok(request)
    }

    /// Returns the credentials for assuming the role.
    async fn keys(
        &self,
        keys: &AwsCredentialProvider,
    ) -> Result<Arc<AwsCredential>, CredentialError> {
        let got = keys.get_credential().await;
        got.map_err(|error| match CredentialError::of(&error) {
            Some(credential_error) => credential_error.clone(),
            None => self.credential_error(Kind::Unreachable, "its source has no credentials"),
        })
    }

    async fn token(&self, path: &Path) -> Result<String, CredentialError> {
        let read = tokio::task::spawn_blocking({
            let path = path.to_owned();
            move || std::fs::read_to_string(path)
        });
        let told = |why: &str| {
            let why = format!("the token file {} {why}", path.display());
            self.credential_error(Kind::Denied, &why)
        };
        let text = match read.await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => return Err(told(&format!("can't be read: {error}"))),
            Err(_) => return Err(told("can't be read")),
        };
        match text.trim() {
            "" => Err(told("is empty")),
            token => Ok(token.into()),
        }
    }

    async fn once(&self) -> Result<FetchedCredential<Arc<AwsCredential>>, CredentialError> {
        let request = self.request().await?;
        let client = &self.service.client;
        let answer = async {
            let (_, body) = client.execute(request).await?.into_parts();
            match bounded(body, MAX_STS_REPLY_BYTES).await {
                (document, BodyEnd::Whole) => Ok(Some(document)),
                (_, BodyEnd::TooLong) => Ok(None),
                (_, BodyEnd::CutOff(error)) => Err(error),
            }
        };
        let (answer, log) = RequestLog::record(false, answer).await;
        let answer: Result<Option<Vec<u8>>, object_store::client::HttpError> = answer;
        let outcome = log.outcome();
        let succeeded =
            matches!(&outcome, RequestOutcome::Reply(seen) if (200..300).contains(&seen.status));
        let document = match answer {
            Ok(Some(document)) if succeeded => document,
            other => {
                let broken = other.err().map(|error| innermost(&error));
                let broken = broken.as_deref().unwrap_or("its answer was cut off");
                let (kind, why, fix) = outcome.of_credentials(broken);
                return Err(self.credential_error(kind, &why).with_fix(fix));
            }
        };
        let strange =
            || self.credential_error(Kind::Unreachable, "its answer holds no credentials");
        let given = xml::credentials(&document).ok_or_else(strange)?;
        let now = SystemTime::now();
        let Ok(left) = given.ends.duration_since(now) else {
            let skewed = "its credentials have already expired (is this machine's clock right?)";
            let fix = "correct this machine's clock".to_owned();
            return Err(self
                .credential_error(Kind::Denied, skewed)
                .with_fix(Some(fix)));
        };
        let credential = AwsCredential {
            key_id: given.id,
            secret_key: given.key,
            token: Some(given.token),
        };
        let good = left.saturating_sub(EXPIRY_MARGIN);
        Ok(FetchedCredential::new(Arc::new(credential), good))
    }
}

#[async_trait]
impl CredentialSource<Arc<AwsCredential>> for AssumedRole {
    async fn fetch(&self) -> Result<FetchedCredential<Arc<AwsCredential>>, CredentialError> {
        retry_once(
            || self.once(),
            |assumed| match assumed {
                Err(error) => matches!(error.kind, Kind::Unreachable | Kind::Busy),
                Ok(_) => false,
            },
        )
        .await
    }

    fn source_name(&self) -> String {
        format!("STS at {}", self.service.url.authority())
    }
}

/// The time before the keys are requested again. 4 min: the services have new keys at least five
/// minutes before the old ones expire, and this client does not learn the expiry.
const MACHINE_KEYS_FRESH: Duration = Duration::from_secs(240);
/// The time that the keys still serve while the service fails; the store refuses expired ones.
const MACHINE_KEYS_LIFETIME: Duration = Duration::from_secs(3600);

/// A service that provides keys.
pub(crate) struct MachineService {
    builder: AmazonS3Builder,
    place: &'static str,
}

impl MachineService {
    /// Finds a container's service, if the environment names one, without sending anything.
    pub(crate) fn container(
        builder: &AmazonS3Builder,
        env: Env<'_>,
    ) -> Result<Option<Self>, OpenError> {
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

    /// Finds the metadata address of an instance: the one in the environment, or EC2's if
    /// `called_for`. It sends nothing.
    pub(crate) fn instance(
        builder: &AmazonS3Builder,
        env: Env<'_>,
        called_for: bool,
    ) -> Result<Option<Self>, OpenError> {
        let builder = match set(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT") {
            Some(service) => {
                let service = service.trim_end_matches('/');
                let unread = |_| invalid("AWS_EC2_METADATA_SERVICE_ENDPOINT is not a url");
                Url::parse(service).map_err(unread)?;
                builder.clone().with_metadata_endpoint(service)
            }
            None if called_for => builder.clone(),
            None => return Ok(None),
        };
        Self::built(builder, "the instance's metadata").map(Some)
    }

    fn built(builder: AmazonS3Builder, place: &'static str) -> Result<Self, OpenError> {
        builder.clone().build().map_err(unbuilt)?;
        Ok(Self { builder, place })
    }
}

#[async_trait]
impl CredentialSource<Arc<AwsCredential>> for MachineService {
    async fn fetch(&self) -> Result<FetchedCredential<Arc<AwsCredential>>, CredentialError> {
        let credential_error =
            |kind, why: &str| CredentialError::new(kind, format!(" from {}: {why}", self.place));
        // A new client each time: object_store's own cache would keep keys until they expire, even
        // if the store refuses them.
        let store = self.builder.clone().build();
        let store =
            store.map_err(|error| credential_error(Kind::Unreachable, &innermost(&error)))?;
        let (got, log) = RequestLog::record(false, store.credentials().get_credential()).await;
        let credential = got.map_err(|error| {
            let (kind, why, fix) = log.outcome().of_credentials(&innermost(&error));
            credential_error(kind, &why).with_fix(fix)
        })?;
        Ok(FetchedCredential {
            credential,
            fresh: MACHINE_KEYS_FRESH,
            good: MACHINE_KEYS_LIFETIME,
        })
    }

    fn source_name(&self) -> String {
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
