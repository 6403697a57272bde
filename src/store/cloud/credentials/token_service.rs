//! The sources of tokens: an HTTP service, or a key that signs them.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use object_store::Error as StoreError;
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorageBuilder};
use reqwest::Method;
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::store::Kind;
use crate::store::http::connection::ConnectionPath;
use crate::store::http::credential_cache::{CredentialError, CredentialSource, FetchedCredential};
use crate::store::http::middleware;
use crate::store::http::opening::{OpenError, denied, is_loopback, is_of_client, unbuilt};
use crate::store::http::reply::{shown_message, shown_word};
use crate::store::http::retry_once;

/// The longest reply; tokens have a few kilobytes.
const MAX_REPLY_BYTES: usize = 64 << 10;
/// The lifetime of a token that doesn't state its own.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// The lifetime of a self-signed token: the most that Google accepts.
const SIGNED_LIFETIME: Duration = Duration::from_secs(3600);

/// A field of a form.
pub(crate) enum FormField {
    /// The text of the field.
    Text(String),
    /// A file with the text. It is read for every request, because it is replaced before the text
    /// expires.
    File(PathBuf),
}

/// The request to a token service.
pub(crate) enum TokenRequest {
    /// A GET with these headers: a metadata address.
    Get(Vec<(&'static str, String)>),
    /// A POST of a form: OAuth 2.0, RFC 6749.
    Form(Vec<(&'static str, FormField)>),
}

/// A service that provides tokens.
pub(crate) struct TokenService {
    client: reqwest::Client,
    way: ConnectionPath,
    url: Url,
    ask: TokenRequest,
    place: String,
    /// The remedy for a refusal.
    advice: &'static str,
}

impl TokenService {
    /// Makes a service from its URL, without sending anything.
    pub(crate) fn new(
        url: Url,
        ask: TokenRequest,
        advice: &'static str,
    ) -> Result<Self, OpenError> {
        let secure = url.scheme() == "https";
        let (client, proxies) = middleware::client(secure).map_err(unbuilt)?;
        let way = ConnectionPath {
            secure,
            peer: Some(url.authority().to_owned()),
            through: proxies.of(url.as_str()),
        };
        let place = format!("{}://{}", url.scheme(), url.authority());
        Ok(Self {
            client,
            way,
            url,
            ask,
            place,
            advice,
        })
    }

    async fn ask(&self) -> Result<FetchedCredential<String>, CredentialError> {
        let none = |kind, why: String| self.credential_error(kind, &why);
        let broken = |error: reqwest::Error| {
            let (why, fix) = self.way.broken(&error, error.is_connect());
            self.credential_error(Kind::Unreachable, &why).with_fix(fix)
        };
        let request = self.request()?;
        let mut response = self.client.execute(request).await.map_err(broken)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_REPLY_BYTES {
                break;
            }
        }
        if status.is_success() {
            let why = "its answer has no token";
            return token(&body).ok_or_else(|| none(Kind::Unreachable, why.into()));
        }
        let kind = Kind::of_credentials(status.as_u16());
        let advice = match kind {
            Kind::Denied => self.advice,
            _ => "",
        };
        Err(none(
            kind,
            format!("{}{}{advice}", status.as_u16(), said(&body)),
        ))
    }

    fn credential_error(&self, kind: Kind, why: &str) -> CredentialError {
        CredentialError::new(kind, format!(" from {}: {why}", self.place))
    }

    fn request(&self) -> Result<reqwest::Request, CredentialError> {
        let (method, headers) = match &self.ask {
            TokenRequest::Get(headers) => (Method::GET, headers.clone()),
            TokenRequest::Form(_) => (
                Method::POST,
                vec![("content-type", "application/x-www-form-urlencoded".into())],
            ),
        };
        let mut request = reqwest::Request::new(method, self.url.clone());
        for (name, value) in headers {
            let unsent =
                |_| self.credential_error(Kind::Denied, &format!("{name} can't be sent as it is"));
            let value = value.parse().map_err(unsent)?;
            request.headers_mut().insert(name, value);
        }
        if let TokenRequest::Form(fields) = &self.ask {
            let mut form = Serializer::new(String::new());
            for (name, field) in fields {
                form.append_pair(name, &field.text()?);
            }
            *request.body_mut() = Some(form.finish().into());
        }
        Ok(request)
    }
}

impl FormField {
    fn text(&self) -> Result<String, CredentialError> {
        match self {
            FormField::Text(text) => Ok(text.clone()),
            FormField::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(text.trim().into()),
                // The file may be about to be written.
                Err(error) => {
                    let path = path.display();
                    let why = format!(" from the token file {path}, which can't be read: {error}");
                    Err(CredentialError::new(Kind::Unreachable, why))
                }
            },
        }
    }
}

#[async_trait]
impl CredentialSource<String> for TokenService {
    async fn fetch(&self) -> Result<FetchedCredential<String>, CredentialError> {
        retry_once(
            || self.ask(),
            |asked| match asked {
                Err(error) => error.kind != Kind::Denied,
                Ok(_) => false,
            },
        )
        .await
    }

    fn source_name(&self) -> String {
        self.place.clone()
    }
}

/// Tells whether secrets may be sent to a URL: it must be https, or on this machine.
pub(crate) fn is_safe(url: &Url) -> bool {
    url.has_host() && (url.scheme() == "https" || url.scheme() == "http" && is_loopback(url))
}

/// Reads a token; `None` if the body has none.
fn token(body: &[u8]) -> Option<FetchedCredential<String>> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let bearer = json.get("access_token")?.as_str()?;
    if bearer.is_empty() || !bearer.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    // Either a number, or a string with a number.
    let seconds = |name: &str| match json.get(name)? {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64(),
    };
    let until = |end: u64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        end.saturating_sub(now.map_or(0, |since| since.as_secs()))
    };
    let lasts = seconds("expires_in").or_else(|| seconds("expires_on").map(until));
    let lasts = lasts.map_or(DEFAULT_LIFETIME, |seconds| {
        Duration::from_secs(seconds.min(86_400))
    });
    Some(FetchedCredential::new(bearer.into(), lasts))
}

/// Returns the message of a refusal, made safe to show.
fn said(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |pointer: &str| json.pointer(pointer)?.as_str();
    let code = text("/error").or_else(|| text("/error/status"));
    let message = text("/error_description").or_else(|| text("/error/message"));
    let mut said = String::new();
    for (separator, more) in [
        (" ", code.and_then(shown_word)),
        (": ", message.and_then(shown_message)),
    ] {
        said.extend(more.map(|more| format!("{separator}{more}")));
    }
    said
}

/// A service account's key, which signs tokens itself. Google accepts them without an exchange at
/// the file's `token_uri` (<https://google.aip.dev/auth/4111>), and outside of its own universe
/// accepts no others.
pub(crate) struct SelfSigned {
    file: String,
}

impl SelfSigned {
    /// Makes it from the content of a key file.
    pub(crate) fn new(file: String) -> Result<Self, OpenError> {
        let signed = Self { file };
        match signed.provider() {
            Ok(_) => Ok(signed),
            Err(error) if is_of_client(&error) => Err(unbuilt(error)),
            // The reason may quote the file.
            Err(_) => Err(denied(
                "the private_key of the credentials file can't be read: download the key again",
            )),
        }
    }

    fn provider(&self) -> Result<GcpCredentialProvider, StoreError> {
        // A new client each time: object_store's own cache would keep a token until it expires.
        let store = GoogleCloudStorageBuilder::new()
            .with_bucket_name("none")
            .with_service_account_key(&self.file)
            .with_http_connector(middleware::Connector::default())
            .build()?;
        Ok(store.credentials().clone())
    }
}

#[async_trait]
impl CredentialSource<String> for SelfSigned {
    async fn fetch(&self) -> Result<FetchedCredential<String>, CredentialError> {
        let why = ": the private_key of the credentials file can't sign";
        let none = |_| CredentialError::new(Kind::Denied, why);
        let credential = self.provider().map_err(none)?.get_credential().await;
        let bearer = credential.map_err(none)?.bearer.clone();
        Ok(FetchedCredential::new(bearer, SIGNED_LIFETIME))
    }

    fn source_name(&self) -> String {
        "the key file".into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{bytes, config};

    fn lasts(more: &str) -> Option<u64> {
        let body = format!("{{\"access_token\": \"t\"{more}}}");
        token(body.as_bytes()).map(|token| token.good.as_secs())
    }

    #[test]
    fn the_end_of_a_token_is_a_number_or_a_text_and_may_be_missing() {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        assert_eq!(lasts(", \"expires_in\": 3599"), Some(3599));
        assert_eq!(lasts(", \"expires_in\": \"3599\""), Some(3599));
        for end in [format!("{}", now + 1_000), format!("\"{}\"", now + 1_000)] {
            let told = lasts(&format!(", \"expires_on\": {end}")).unwrap();
            assert!((900..=1_000).contains(&told), "{told}");
        }
        assert_eq!(lasts(", \"expires_on\": 5"), Some(0));
        assert_eq!(lasts(""), Some(300));
        assert_eq!(lasts(", \"expires_on\": \"tomorrow\""), Some(300));
        assert_eq!(
            lasts(", \"expires_in\": 18446744073709551615"),
            Some(86_400)
        );
        assert_eq!(lasts(", \"expires_in\": -1"), Some(300));
    }

    #[test]
    fn secrets_are_sent_to_https_or_to_this_very_machine() {
        for (url, safe) in [
            ("https://login.example/t", true),
            ("http://127.0.0.1:1/t", true),
            ("http://localhost/t", true),
            ("http://login.example/t", false),
            ("ftp://127.0.0.1/t", false),
            ("file:///t", false),
        ] {
            assert_eq!(is_safe(&Url::parse(url).unwrap()), safe, "{url}");
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn no_reply_of_a_service_panics_or_shows_more_than_a_line(body in bytes(vec![
            br#"{"access_token": "t", "expires_in": 3599, "expires_on": "1"}"#.to_vec(),
            br#"{"error": "invalid_grant", "error_description": "no c0VjUmVUc0VjUmVU"}"#.to_vec(),
            br#"{"error": {"status": "DENIED", "message": "no"}}"#.to_vec(),
        ])) {
            if let Some(token) = token(&body) {
                prop_assert!(token.credential.bytes().all(|byte| byte.is_ascii_graphic()));
            }
            let said = said(&body);
            prop_assert!(said.chars().count() < 300 && !said.contains('\n'), "{:?}", said);
        }
    }
}
