//! The HTTP client under object_store, and its log of an operation's requests.
//!
//! object_store converts status, error code and transport error to text. The verdict must not
//! depend on text, so the client logs them for the running operation. It also reads listings,
//! because object_store fails a whole listing for a single key that it finds strange.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{ClientOptions, Error as StoreError};
use reqwest::StatusCode;
use reqwest::header::HeaderValue;

use super::connection::{ConnectionPath, Proxies, wants_https};
use super::credential_cache::Renewal;
use super::reply::{
    BodyEnd, ErrorDocument, MAX_ERROR_BYTES, Provider, RequestKind, RequestOutcome, StoreReply,
    bounded, shown_word,
};
use super::xml::{self, ListPage};
use http_body_util::BodyExt;

/// The longest time to connect. 2 s: a working peer answers a handshake within a round trip, and
/// the caller's deadline may leave room for a second address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The time that an idle connection is kept. Servers and load balancers drop idle connections after
/// 20 s (S3) to 60 s, and a dropped connection costs a retry.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// The number of idle connections that a burst of reads leaves behind.
const MAX_IDLE_CONNECTIONS: usize = 8;

/// The longest page of a listing: 5,000 keys (Azure's page) of 1,024 bytes, or 1,000 keys with
/// every byte escaped.
const MAX_PAGE_BYTES: usize = 16 << 20;
/// The longest accepted `Retry-After`: longer than any operation lasts.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);
/// The name in the error of a client that can't be made.
pub(crate) const CLIENT_ERROR: &str = "http client";
/// The name in the error of an invalid proxy.
pub(crate) const PROXY_ERROR: &str = "proxy";
/// The page that object_store gets: an empty one in every provider's format, because the client
/// reads the real page.
const EMPTY_PAGE: &[u8] = b"<Page><Blobs></Blobs></Page>";

tokio::task_local! {
    static CURRENT: Arc<RequestLog>;
}

/// The client's log of one operation.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    listing: bool,
    outcome: Mutex<RequestOutcome>,
    page: Mutex<Option<ListPage>>,
    /// The status of a refusal with a `Retry-After`, and the time of the next attempt.
    refused: Mutex<Option<(StatusCode, Instant)>>,
}

impl RequestLog {
    /// Runs an operation and returns its log. `listing` says that its replies are pages of a
    /// listing.
    pub(crate) async fn record<T>(
        listing: bool,
        operation: impl Future<Output = T>,
    ) -> (T, Arc<Self>) {
        let log = Arc::new(Self {
            listing,
            ..Self::default()
        });
        let result = CURRENT.scope(Arc::clone(&log), operation).await;
        (result, log)
    }

    /// Returns the outcome of the last request.
    pub(crate) fn outcome(&self) -> RequestOutcome {
        lock(&self.outcome).clone()
    }

    /// Takes the page from the last reply.
    pub(crate) fn page(&self) -> Option<ListPage> {
        lock(&self.page).take()
    }

    fn note(&self, outcome: RequestOutcome) {
        *lock(&self.outcome) = outcome;
    }

    /// Tells whether the store has asked for a pause that still lasts.
    pub(crate) fn is_refused(&self) -> bool {
        self.refusal().is_some()
    }

    /// Returns the store's refusal while its pause lasts.
    fn refusal(&self) -> Option<HttpResponse> {
        let (status, until) = (*lock(&self.refused))?;
        let mut response = HttpResponse::new(Bytes::new().into());
        *response.status_mut() = status;
        (Instant::now() < until).then_some(response)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the clients of one store.
#[derive(Debug, Default)]
pub(crate) struct Connector {
    /// Host and port of the store, as in its endpoint.
    pub(crate) authority: String,
    /// The credentials that requests carry, if they can be renewed after a refusal.
    pub(crate) renewal: Option<Renewal>,
    /// The provider whose success statuses apply; `None` for a credentials service.
    pub(crate) provider: Option<Provider>,
}

/// Makes an HTTP client, which uses the proxies that the environment names.
pub(crate) fn client(https_only: bool) -> object_store::Result<(reqwest::Client, Proxies)> {
    let generic = |store, source| StoreError::Generic { store, source };
    let proxies = Proxies::find(|name| std::env::var(name).ok())
        .map_err(|why| generic(PROXY_ERROR, why.into()))?;
    let builder = reqwest::Client::builder()
        .user_agent(concat!("atlasfs/", env!("CARGO_PKG_VERSION")))
        // A redirect would carry a signed request, and a push, to an unknown host.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
        .http1_only()
        .https_only(https_only);
    let client = proxies.apply(builder).and_then(|builder| builder.build());
    let client = client.map_err(|error| generic(CLIENT_ERROR, Box::new(error)))?;
    Ok((client, proxies))
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let (client, proxies) = client(http.as_deref() != Some("true"))?;
        Ok(HttpClient::new(Observer {
            client,
            proxies,
            authority: self.authority.clone(),
            renewal: self.renewal.clone(),
            provider: self.provider,
        }))
    }
}

#[derive(Debug)]
struct Observer {
    client: reqwest::Client,
    proxies: Proxies,
    authority: String,
    renewal: Option<Renewal>,
    provider: Option<Provider>,
}

#[async_trait::async_trait]
impl HttpService for Observer {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let log = CURRENT.try_with(Arc::clone).unwrap_or_default();
        let from_store = request
            .uri()
            .authority()
            .is_some_and(|host| host.as_str().eq_ignore_ascii_case(&self.authority));
        if let Some(refusal) = log.refusal() {
            // object_store would retry at once.
            return Ok(refusal);
        }
        let way = ConnectionPath {
            secure: request.uri().scheme_str() == Some("https"),
            peer: request.uri().authority().map(|host| host.to_string()),
            through: self.proxies.of(&request.uri().to_string()),
        };
        let renewable = self.renewal.as_ref();
        let renewable = renewable.and_then(|renewal| Some((renewal, renewal.carried(&request)?)));
        let result = match renewable {
            Some((renewal, carried)) if from_store => {
                self.renewing(request, &log, &way, renewal, &carried).await
            }
            _ => self.converse(request, &log, from_store, &way).await,
        };
        if let Err(error) = &result {
            let connecting = error.kind() == HttpErrorKind::Connect;
            let (why, fix) = way.broken(error, connecting);
            log.note(RequestOutcome::Broken { why, fix });
        }
        result
    }
}

impl Observer {
    /// Sends a request to the store. If the store no longer accepts the credential, sends it once
    /// more with a new one.
    async fn renewing(
        &self,
        request: HttpRequest,
        log: &RequestLog,
        way: &ConnectionPath,
        renewal: &Renewal,
        carried: &str,
    ) -> Result<HttpResponse, HttpError> {
        let mut again = request.clone();
        let response = self.converse(request, log, true, way).await?;
        if response.status().is_success() {
            renewal.accepted(carried);
            return Ok(response);
        }
        let method = again.method().as_str();
        let due =
            matches!(log.outcome(), RequestOutcome::Reply(seen) if renewal.is_due(method, &seen));
        let unknown = |error| HttpError::new(HttpErrorKind::Unknown, error);
        match due && renewal.renew(&mut again, carried).await.map_err(unknown)? {
            true => self.converse(again, log, true, way).await,
            false => Ok(response),
        }
    }

    async fn converse(
        &self,
        request: HttpRequest,
        log: &RequestLog,
        from_store: bool,
        way: &ConnectionPath,
    ) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let reads = parts.method == "GET";
        let (method, ranged) = (parts.method.clone(), parts.headers.contains_key("range"));
        let plain = parts.uri.scheme_str() == Some("http");
        let url = parts.uri.to_string().parse();
        let url = url.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        let authorization = request.headers().get("authorization");
        if authorization.is_some_and(|value| value.as_bytes().trim_ascii() == b"Bearer") {
            // object_store sends this to GCS if there is no token.
            request.headers_mut().remove("authorization");
        }
        *request.body_mut() = Some(match body.as_bytes() {
            Some(bytes) => bytes.clone().into(),
            None => reqwest::Body::wrap(body),
        });
        let response = self.client.execute(request).await.map_err(broken)?;
        let mut seen = StoreReply {
            status: response.status().as_u16(),
            error: ErrorDocument::default(),
            from_store,
            ahead: None,
            secure: way.secure,
            is_page: false,
            unfit: None,
            through: way.through.clone(),
        };
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        let word = |name: &str| header(name).and_then(shown_word);
        seen.ahead = header("date").and_then(ahead);
        seen.is_page = header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
        seen.error.region = word("x-amz-bucket-region");
        let after = response.headers().get("retry-after").map(patience);
        if let Some(after) = after.filter(|after| !after.is_zero()) {
            *lock(&log.refused) = Some((response.status(), Instant::now() + after));
        }
        // The reply to HEAD has no document.
        seen.error.code = word("x-ms-error-code");
        let success = response.status().is_success();
        let (mut parts, body) = convert(response).into_parts();
        if !success {
            // Keep the document from object_store, which would put it into its messages: error
            // documents hold key ids and the string to sign.
            let (document, end) = bounded(body, MAX_ERROR_BYTES).await;
            let https = plain && wants_https(&document);
            let mut document = ErrorDocument::parse(&document);
            if https {
                document.hint = Some("the server speaks https, not http");
            }
            if let (404, true, BodyEnd::CutOff(error)) = (seen.status, reads, end) {
                // Only the code, which is lost, distinguishes a missing object from a missing
                // store.
                return Err(error);
            }
            seen.error = ErrorDocument {
                region: seen.error.region.or(document.region),
                code: seen.error.code.or(document.code),
                ..document
            };
            log.note(RequestOutcome::Reply(seen));
            return Ok(HttpResponse::from_parts(parts, Bytes::new().into()));
        }
        // An upload to an OCI registry may end at its storage, which is another host.
        let uploads = self.provider == Some(Provider::Oci) && method == "PUT";
        let body = match self.provider.filter(|_| from_store || uploads) {
            None => body,
            Some(provider) => {
                let asked = RequestKind {
                    provider,
                    method,
                    ranged,
                };
                match asked.judge(parts.status, body).await? {
                    Ok(body) => body,
                    Err(unfit) => {
                        seen.error = unfit.error;
                        seen.unfit = Some(unfit.why);
                        log.note(RequestOutcome::Reply(seen));
                        // object_store does not retry after a 4xx.
                        parts.status = StatusCode::IM_A_TEAPOT;
                        return Ok(HttpResponse::from_parts(parts, Bytes::new().into()));
                    }
                }
            }
        };
        if !(log.listing && from_store) {
            log.note(RequestOutcome::Reply(seen));
            return Ok(HttpResponse::from_parts(parts, body));
        }
        let document = match bounded(body, MAX_PAGE_BYTES).await {
            (document, BodyEnd::Whole) => document,
            (_, BodyEnd::CutOff(error)) => return Err(error),
            (_, BodyEnd::TooLong) => {
                let error = std::io::Error::other("the listing is too long");
                return Err(HttpError::new(HttpErrorKind::Decode, error));
            }
        };
        let page = xml::page(&document);
        if page.is_none() {
            seen.error = ErrorDocument::parse(&document);
        }
        *lock(&log.page) = page;
        log.note(RequestOutcome::Reply(seen));
        let nothing = Bytes::from_static(EMPTY_PAGE);
        Ok(HttpResponse::from_parts(parts, nothing.into()))
    }
}

/// Returns how far this machine's clock is ahead of a reply's date, in seconds.
fn ahead(date: &str) -> Option<i64> {
    let sent = chrono::DateTime::parse_from_rfc2822(date).ok()?;
    Some(chrono::Utc::now().timestamp() - sent.timestamp())
}

/// Reads a `Retry-After`: a number of seconds. A date counts as [`MAX_RETRY_AFTER`].
fn patience(after: &HeaderValue) -> Duration {
    let seconds = after
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    seconds
        .map_or(MAX_RETRY_AFTER, Duration::from_secs)
        .min(MAX_RETRY_AFTER)
}

/// Converts a response to object_store's type.
fn convert(mut response: reqwest::Response) -> HttpResponse {
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let body = reqwest::Body::from(response).map_err(broken);
    let mut response = HttpResponse::new(HttpResponseBody::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Classifies a transport error by whether the request may have reached the store.
fn broken(error: reqwest::Error) -> HttpError {
    let kind = if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_decode() {
        HttpErrorKind::Decode
    } else {
        // The request may have arrived, so only idempotent requests are retried.
        HttpErrorKind::Interrupted
    };
    HttpError::new(kind, error.without_url())
}
