//! The client of an OCI registry: it sends requests, and logs in when the registry demands it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use object_store::Error as StoreError;
use object_store::client::{HttpClient, HttpRequest, HttpResponse};
use tokio::time::Instant;
use url::Url;

use super::auth::{Auth, Challenge, TokenScope};
use super::docker::DockerCredentials;
use crate::store::Kind;
use crate::store::http::RETRY_PAUSE;

/// The longest manifest; a longer one is not an artifact's.
pub(super) const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// The client for one repository of a registry.
pub(super) struct Client {
    http: HttpClient,
    /// `https://host/v2/repository/`.
    pub(super) base: Url,
    pub(super) auth: Auth,
    /// Held during the upload of a blob that every artifact has.
    pub(super) common: tokio::sync::Mutex<()>,
    /// The registry's time in its last reply, and the moment before that request.
    clock: Mutex<Option<(Instant, u64)>>,
}

impl Client {
    /// Makes a client for a repository at `https://host/v2/repository/`.
    pub(super) fn new(http: HttpClient, base: Url, auth: Auth) -> Self {
        Self {
            http,
            base,
            auth,
            common: tokio::sync::Mutex::default(),
            clock: Mutex::default(),
        }
    }

    pub(super) fn at(&self, path: &str) -> Result<Url, StoreError> {
        self.base.join(path).map_err(|_| error("no such url"))
    }

    pub(super) async fn send(
        &self,
        method: &str,
        url: &Url,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<HttpResponse, StoreError> {
        let bad = |_| error("a header can't be sent");
        let mut request = HttpRequest::new(body.into());
        *request.method_mut() = method.parse().map_err(|_| error("no such method"))?;
        *request.uri_mut() = url.as_str().parse().map_err(|_| error("no such url"))?;
        for (name, value) in headers {
            let value = value.parse().map_err(bad)?;
            request.headers_mut().insert(*name, value);
        }
        let sent = self.http.execute(request).await;
        sent.map_err(|source| StoreError::Generic {
            store: "oci",
            source: Box::new(source),
        })
    }

    /// Resolves a reference from the registry. A reference to the registry itself keeps https,
    /// because a registry behind a TLS proxy may not know about it.
    pub(super) fn follow(&self, from: &Url, to: &str) -> Option<Url> {
        let mut url = from.join(to).ok()?;
        if self.base.scheme() == "https" && url.authority() == self.base.authority() {
            url.set_scheme("https").ok()?;
        }
        Some(url)
    }

    /// Tells whether a URL is on the registry itself, and not on a host that it redirects to.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.authority() == self.base.authority() && url.scheme() == self.base.scheme()
    }

    /// Sends a request with credentials. It tries again after a temporary failure, and again with a
    /// new token.
    pub(super) async fn ask(
        &self,
        method: &str,
        url: &Url,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<HttpResponse, StoreError> {
        // An upload session accepts one upload only. A manifest that seems lost may arrive late and
        // replace another writer's.
        let puts = method == "PUT";
        let mut again = !puts || !url.path().contains("/blobs/uploads/");
        let right = TokenScope::to(method);
        let own = self.is_own(url);
        // The token from another request's login may not cover this request: then log in once more.
        let mut logins = if own { 2 } else { 0 };
        let mut authorization = self.auth.header(right);
        loop {
            let mut all = headers.to_vec();
            // Send the credentials to the registry only.
            if let Some(authorization) = authorization.as_deref().filter(|_| own) {
                all.push(("authorization", authorization));
            }
            let asked = Instant::now();
            let reply = self.send(method, url, &all, body.clone()).await;
            if let Some(now) = reply.as_ref().ok().filter(|_| own).and_then(time_of) {
                *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, now));
            }
            let bad = match reply {
                Ok(response) => match response.status().as_u16() {
                    401 if logins > 0 => {
                        match self
                            .log_in(right, &response, authorization.as_deref())
                            .await?
                        {
                            Some((header, new)) => {
                                authorization = Some(header);
                                logins = if new { 0 } else { logins - 1 };
                                false
                            }
                            None => return Ok(response),
                        }
                    }
                    429 | 500 | 503 if again => true,
                    501..=599 if again && !puts => true,
                    _ => return Ok(response),
                },
                Err(_) if again && !puts => true,
                Err(error) => return Err(error),
            };
            if bad {
                again = false;
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Returns the registry's time in its last reply, in seconds since 1970, and the moment before
    /// that request. `None` if no reply had a time.
    pub(super) fn clock(&self) -> Option<(Instant, u64)> {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether the client uses http, without TLS.
    pub(super) fn speaks_http(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// Says what to do if the registry refuses the credentials.
    pub(super) fn hint(&self) -> String {
        self.auth.hint()
    }

    /// Answers a registry's challenge, or uses the header that another request has received
    /// meanwhile. Returns the header and whether it is new; `None` if there are no credentials for
    /// the challenge.
    pub(super) async fn log_in(
        &self,
        right: TokenScope,
        response: &HttpResponse,
        refused: Option<&str>,
    ) -> Result<Option<(Arc<str>, bool)>, StoreError> {
        let demands = response.headers().get_all("www-authenticate").iter();
        let demands = demands.filter_map(|demand| demand.to_str().ok());
        let demands = demands.filter_map(|demand| Challenge::read(demand, &self.base));
        // Prefer a token: it has a limited scope, and a password opens everything.
        let demand = demands.max_by_key(|demand| matches!(demand, Challenge::Bearer(_)));
        let Some(demand) = demand else {
            return Ok(None);
        };
        let _login = self.auth.login_lock.lock().await;
        if let Some(header) = self.auth.header(right).filter(|h| Some(&**h) != refused) {
            return Ok(Some((header, false)));
        }
        let credentials = self.auth.credentials().await;
        let credentials = credentials.map_err(|(kind, why)| told(kind, why))?;
        let header = match demand {
            Challenge::Basic => self.auth.answer_basic(right, &credentials),
            Challenge::Bearer(realm) => Some(self.token(right, realm, &credentials).await?),
        };
        Ok(header.map(|header| (header, true)))
    }

    /// Requests a token from a token service.
    async fn token(
        &self,
        right: TokenScope,
        realm: Url,
        credentials: &DockerCredentials,
    ) -> Result<Arc<str>, StoreError> {
        let response = match credentials {
            DockerCredentials::None => self.send("GET", &realm, &[], Bytes::new()).await?,
            DockerCredentials::Basic(pair) => {
                let basic = format!("Basic {pair}");
                let headers = [("authorization", &*basic)];
                self.send("GET", &realm, &headers, Bytes::new()).await?
            }
            DockerCredentials::Identity(token) => {
                let body = Bytes::from(refresh(&realm, token));
                let mut place = realm.clone();
                place.set_query(None);
                let headers = [("content-type", "application/x-www-form-urlencoded")];
                self.send("POST", &place, &headers, body).await?
            }
        };
        // The token service speaks for the registry, but its 404 says nothing about an artifact.
        let status = response.status().as_u16();
        let host = realm.host_str().unwrap_or_default();
        if !response.status().is_success() {
            let mut why = format!("{host} returned no token: {status}");
            let kind = Kind::of_credentials(status);
            if kind == Kind::Denied {
                why = format!("{why}: {}", self.auth.hint());
            }
            return Err(told(kind, why));
        }
        let document = body(response, MAX_MANIFEST_BYTES).await?;
        let header = self.auth.answer_bearer(right, &document);
        header.ok_or_else(|| {
            let why = format!("{host} returned no token: its answer has none");
            told(Kind::Unreachable, why)
        })
    }
}

/// Returns the form that exchanges an identity token for a token.
fn refresh(realm: &Url, token: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(realm.query_pairs())
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", "atlasfs")
        .append_pair("refresh_token", token)
        .finish()
}

/// Returns the time in a reply's `Date` header, in seconds since 1970.
fn time_of(response: &HttpResponse) -> Option<u64> {
    let time = chrono::DateTime::parse_from_rfc2822(header(response, "date")?).ok()?;
    u64::try_from(time.timestamp()).ok()
}

/// Reads a body. It stops soon after `limit`, so a longer result means a longer body.
pub(super) async fn body(response: HttpResponse, limit: u64) -> Result<Bytes, StoreError> {
    let mut stream = response.into_body().bytes_stream();
    let mut read = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|source| StoreError::Generic {
            store: "oci",
            source: Box::new(source),
        })?;
        read.extend_from_slice(&chunk);
        if read.len() as u64 > limit {
            break;
        }
    }
    Ok(read.into())
}

/// An error with its own kind and message, whatever the last reply was.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct OciError {
    pub(super) kind: Kind,
    pub(super) why: String,
}

/// Makes an error whose kind follows from the last reply.
pub(super) fn error(why: &str) -> StoreError {
    StoreError::Generic {
        store: "oci",
        source: why.into(),
    }
}

/// Makes an error with its own kind. The message is shown, so it holds no secret.
pub(super) fn told(kind: Kind, why: impl Into<String>) -> StoreError {
    let why = why.into();
    StoreError::Generic {
        store: "oci",
        source: Box::new(OciError { kind, why }),
    }
}

/// Returns an error unless the reply is a success.
pub(super) fn succeeded(response: HttpResponse) -> Result<HttpResponse, StoreError> {
    match response.status().is_success() {
        true => Ok(response),
        false => Err(error("refused")),
    }
}

/// Returns the text of a header.
pub(super) fn header<'r>(response: &'r HttpResponse, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}
