//! The temporary credentials of a role, had from AWS's Security Token Service (STS).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector, HttpRequest};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use url::{Url, form_urlencoded};

use crate::store::Kind;
use crate::store::http::credential_cache::{CredentialError, Lasting, Source};
use crate::store::http::middleware::{Connector, End, Exchange, Outcome, bounded, innermost};
use crate::store::http::opening::{
    Refusal, denied, invalid, is_loopback, is_word, options, unbuilt,
};
use crate::store::http::xml;

/// STS's answer is some kilobytes.
const ANSWER_BYTES: usize = 64 << 10;
/// A request that is signed so shortly before their end may arrive after it.
const SPARE: Duration = Duration::from_secs(10);
/// The pause before the one retry.
const PAUSE: Duration = Duration::from_millis(50);

/// Whose word STS takes.
#[derive(Debug)]
pub(crate) enum By {
    /// The holder's of other credentials.
    Keys(AwsCredentialProvider),
    /// An identity provider's, whose token is in a file.
    Token(PathBuf),
}

/// A role that is assumed.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) arn: String,
    pub(crate) session: String,
    pub(crate) external_id: Option<String>,
    /// How long a session lasts, in seconds; by default it is the role's.
    pub(crate) seconds: Option<String>,
    pub(crate) by: By,
    pub(crate) service: Service,
}

/// Where STS answers.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    url: Url,
    region: String,
    client: HttpClient,
}

impl Service {
    /// Opens STS in a region, or at an endpoint of one's own. Nothing is sent.
    pub(crate) fn open(endpoint: Option<&str>, region: &str) -> Result<Self, Refusal> {
        let url = match endpoint {
            Some(endpoint) => Url::parse(endpoint).ok(),
            None => Url::parse(&format!("https://sts.{region}.{}", domain(region))).ok(),
        };
        let fits = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        let Some(url) = url.filter(fits) else {
            return Err(invalid(
                "the endpoint of STS is no url: write AWS_ENDPOINT_URL_STS=https://host",
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

/// Returns the domain of AWS in the part of the world that a region lies in.
pub(crate) fn domain(region: &str) -> &'static str {
    match region.starts_with("cn-") {
        true => "amazonaws.com.cn",
        false => "amazonaws.com",
    }
}

impl Role {
    /// Refuses what STS would refuse, and what must not be sent.
    pub(crate) fn checked(self) -> Result<Self, Refusal> {
        // An ARN has no blank, and none is so long.
        let fits = |text: &str, more: &str, most: usize| is_word(text, more) && text.len() <= most;
        if !self.arn.starts_with("arn:") || !fits(&self.arn, ":/_+=,.@-", 2048) {
            return Err(invalid(
                "that is no ARN of a role: write arn:aws:iam::123456789012:role/name",
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
            return Err(denied("duration_seconds of the profile is no number"));
        }
        let plain = self.service.url.scheme() == "http" && !is_loopback(&self.service.url);
        if plain && matches!(self.by, By::Token(_)) {
            return Err(invalid(
                "a web identity's token is not sent without TLS: AWS_ENDPOINT_URL_STS must be \
                 https://",
            ));
        }
        Ok(self)
    }

    /// Tells of a failure what was attempted and where.
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
            By::Keys(keys) => ("AssumeRole", Some(self.keys(keys).await?), None),
            By::Token(path) => {
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
            uri.map_err(|_| self.credential_error(Kind::Invalid, "that is no url"))?;
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        if let Some(credential) = credential {
            AwsAuthorizer::new(&credential, "sts", &self.service.region)
                .try_authorize(&mut request, None)
                .map_err(|_| self.credential_error(Kind::Unreachable, "it can't be signed"))?;
        }
        Ok(request)
    }

    /// Returns the credentials that open the role.
    async fn keys(
        &self,
        keys: &AwsCredentialProvider,
    ) -> Result<Arc<AwsCredential>, CredentialError> {
        let got = keys.get_credential().await;
        got.map_err(|error| match CredentialError::of(&error) {
            Some(credential_error) => credential_error.clone(),
            None => self.credential_error(Kind::Unreachable, "its source has none"),
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

    async fn once(&self) -> Result<Lasting<Arc<AwsCredential>>, CredentialError> {
        let request = self.request().await?;
        let client = &self.service.client;
        let answer = async {
            let (_, body) = client.execute(request).await?.into_parts();
            match bounded(body, ANSWER_BYTES).await {
                (document, End::Whole) => Ok(Some(document)),
                (_, End::TooLong) => Ok(None),
                (_, End::CutOff(error)) => Err(error),
            }
        };
        let (answer, exchange) = Exchange::of(false, answer).await;
        let answer: Result<Option<Vec<u8>>, object_store::client::HttpError> = answer;
        let outcome = exchange.outcome();
        let succeeded =
            matches!(&outcome, Outcome::Reply(seen) if (200..300).contains(&seen.status));
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
            let skewed = "the credentials that it gives are over already (is this machine's clock \
                          right?)";
            let fix = "set this machine's clock right".to_owned();
            return Err(self
                .credential_error(Kind::Denied, skewed)
                .with_fix(Some(fix)));
        };
        let credential = AwsCredential {
            key_id: given.id,
            secret_key: given.key,
            token: Some(given.token),
        };
        let good = left.saturating_sub(SPARE);
        Ok(Lasting::new(Arc::new(credential), good))
    }
}

#[async_trait]
impl Source<Arc<AwsCredential>> for Role {
    async fn fetch(&self) -> Result<Lasting<Arc<AwsCredential>>, CredentialError> {
        match self.once().await {
            Err(credential_error)
                if matches!(credential_error.kind, Kind::Unreachable | Kind::Busy) =>
            {
                // As for the store: one quick retry, for one bad moment.
                tokio::time::sleep(PAUSE).await;
                self.once().await
            }
            done => done,
        }
    }

    fn place(&self) -> String {
        format!("STS at {}", self.service.url.authority())
    }
}
