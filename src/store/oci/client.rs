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

/// A longer manifest is none of an artifact's.
pub(super) const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Asks a registry about one repository.
pub(super) struct Client {
    http: HttpClient,
    /// `https://host/v2/repository/`.
    pub(super) base: Url,
    pub(super) auth: Auth,
    /// Held while a blob is uploaded that every artifact has.
    pub(super) common: tokio::sync::Mutex<()>,
    /// The registry's time at its last reply, and when that was asked for.
    clock: Mutex<Option<(Instant, u64)>>,
}

impl Client {
    /// Makes a client of a repository at `https://host/v2/repository/`.
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

    /// Follows a reference that the registry gives. One to itself keeps TLS, of which a registry
    /// behind a front need not know.
    pub(super) fn follow(&self, from: &Url, to: &str) -> Option<Url> {
        let mut url = from.join(to).ok()?;
        if self.base.scheme() == "https" && url.authority() == self.base.authority() {
            url.set_scheme("https").ok()?;
        }
        Some(url)
    }

    /// Tells whether a URL is the registry's own, and not of one that it has sent us to.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.authority() == self.base.authority() && url.scheme() == self.base.scheme()
    }

    /// Sends a request with credentials: again after a bad moment, and again with a new token.
    pub(super) async fn ask(
        &self,
        method: &str,
        url: &Url,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<HttpResponse, StoreError> {
        // An upload session takes one upload. A manifest that seems lost may arrive late, over
        // another writer's.
        let puts = method == "PUT";
        let mut again = !puts || !url.path().contains("/blobs/uploads/");
        let right = TokenScope::to(method);
        let own = self.is_own(url);
        // The token of another request's login may not open this: then log in once more.
        let mut logins = if own { 2 } else { 0 };
        let mut authorization = self.auth.header(right);
        loop {
            let mut all = headers.to_vec();
            // The registry's, and nobody else's.
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

    /// Returns what time it was by the registry's own clock, in seconds since 1970, at its last
    /// reply, and when that was asked for; `None` if it has not said.
    pub(super) fn clock(&self) -> Option<(Instant, u64)> {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether http is spoken, without TLS.
    pub(super) fn speaks_http(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// Says what to do when one is not let in.
    pub(super) fn hint(&self) -> String {
        self.auth.hint()
    }

    /// Answers a registry's demand, or uses what another one has been given meanwhile; `None` if
    /// there is nothing to answer it with. Tells whether it is new.
    pub(super) async fn log_in(
        &self,
        right: TokenScope,
        response: &HttpResponse,
        refused: Option<&str>,
    ) -> Result<Option<(Arc<str>, bool)>, StoreError> {
        let demands = response.headers().get_all("www-authenticate").iter();
        let demands = demands.filter_map(|demand| demand.to_str().ok());
        let demands = demands.filter_map(|demand| Challenge::read(demand, &self.base));
        // A token says what it is for, and a password opens everything.
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

    /// Has a token service make a token.
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
        // The token service speaks for the registry, but its 404 is about no artifact.
        let status = response.status().as_u16();
        let host = realm.host_str().unwrap_or_default();
        if !response.status().is_success() {
            let mut why = format!("{host} gives no token: {status}");
            let kind = Kind::of_credentials(status);
            if kind == Kind::Denied {
                why = format!("{why}: {}", self.auth.hint());
            }
            return Err(told(kind, why));
        }
        let document = body(response, MAX_MANIFEST_BYTES).await?;
        let header = self.auth.answer_bearer(right, &document);
        header.ok_or_else(|| {
            let why = format!("{host} gives no token: its answer has none");
            told(Kind::Unreachable, why)
        })
    }
}

/// Returns the form that asks for a token with an identity token.
fn refresh(realm: &Url, token: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(realm.query_pairs())
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", "atlasfs")
        .append_pair("refresh_token", token)
        .finish()
}

/// Returns what time a reply says that it is, in seconds since 1970.
fn time_of(response: &HttpResponse) -> Option<u64> {
    let time = chrono::DateTime::parse_from_rfc2822(header(response, "date")?).ok()?;
    u64::try_from(time.timestamp()).ok()
}

/// Reads a body of at most so many bytes; one more says that there are more.
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

/// An error that has a kind and words of its own, whatever the last reply was.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct OciError {
    pub(super) kind: Kind,
    pub(super) why: String,
}

/// Makes an error whose verdict comes from the last reply.
pub(super) fn error(why: &str) -> StoreError {
    StoreError::Generic {
        store: "oci",
        source: why.into(),
    }
}

/// Makes an error that says itself what it is. The words are shown: they hold no secret.
pub(super) fn told(kind: Kind, why: impl Into<String>) -> StoreError {
    let why = why.into();
    StoreError::Generic {
        store: "oci",
        source: Box::new(OciError { kind, why }),
    }
}

/// Demands success of a reply.
pub(super) fn succeeded(response: HttpResponse) -> Result<HttpResponse, StoreError> {
    match response.status().is_success() {
        true => Ok(response),
        false => Err(error("refused")),
    }
}

/// Returns a header's text.
pub(super) fn header<'r>(response: &'r HttpResponse, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}
