//! The cache of fetched credentials. One fetch serves all waiting operations. The cache keeps
//! credentials until they expire, and renews them before that, or when the store refuses them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use object_store::Error as StoreError;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequest;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use tokio::time::{Instant, timeout};

use super::reply::StoreReply;
use crate::store::Kind;
use crate::store::backend::waits_for;

/// The time before the expiry at which the cache renews a credential; at most a quarter of its
/// lifetime. Google's metadata service has a new token about four minutes before the expiry,
/// Azure's five.
const RENEWAL_MARGIN: Duration = Duration::from_secs(300);
/// The longest wait for a credentials service. An operation with a shorter deadline fails, and the
/// next one finds the credentials there.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before the cache asks again while it has credentials: after a failed fetch, and for
/// new credentials that the store refuses.
const REFETCH_INTERVAL: Duration = Duration::from_secs(30);

/// The reason why there are no credentials: a failure that is not the store's. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct CredentialError {
    /// The kind of failure for the operation that needs credentials.
    pub(crate) kind: Kind,
    /// The service that was asked, and its answer.
    pub(crate) why: String,
    /// The remedy, if it is known.
    pub(crate) fix: Option<String>,
}

impl CredentialError {
    /// Makes the error. `why` follows "can't get credentials".
    pub(crate) fn new(kind: Kind, why: impl fmt::Display) -> Self {
        Self {
            kind,
            why: format!("can't get credentials{why}"),
            fix: None,
        }
    }

    /// Adds the remedy.
    pub(crate) fn with_fix(mut self, fix: Option<String>) -> Self {
        self.fix = fix;
        self
    }

    /// Finds the credential error behind an error, if there is one.
    pub(crate) fn of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut inner = Some(error);
        while let Some(error) = inner {
            if let Some(credential_error) = error.downcast_ref() {
                return Some(credential_error);
            }
            inner = error.source();
        }
        None
    }
}

impl From<CredentialError> for StoreError {
    fn from(credential_error: CredentialError) -> Self {
        StoreError::Generic {
            store: "credentials",
            source: Box::new(credential_error),
        }
    }
}

/// A credential that opens a store for a time.
pub(crate) trait Credential: Clone + Send + Sync + 'static {
    /// Returns a name that differs between two credentials.
    fn name(&self) -> &str;
}

/// A bearer token; it is its own name.
impl Credential for String {
    fn name(&self) -> &str {
        self
    }
}

/// AWS keys; the keys of a session have a unique token.
impl Credential for Arc<AwsCredential> {
    fn name(&self) -> &str {
        self.token.as_ref().unwrap_or(&self.key_id)
    }
}

/// A credential as its source returns it.
pub(crate) struct FetchedCredential<C> {
    pub(crate) credential: C,
    /// The time until the cache asks for a new one.
    pub(crate) fresh: Duration,
    /// The time until the credential expires.
    pub(crate) good: Duration,
}

impl<C> FetchedCredential<C> {
    /// Makes it from the credential's lifetime.
    pub(crate) fn new(credential: C, good: Duration) -> Self {
        Self {
            credential,
            fresh: good - RENEWAL_MARGIN.min(good / 4),
            good,
        }
    }
}

/// A source of credentials.
#[async_trait]
pub(crate) trait CredentialSource<C>: Send + Sync {
    /// Fetches a credential.
    async fn fetch(&self) -> Result<FetchedCredential<C>, CredentialError>;
    /// Returns the name of the source, for messages.
    fn source_name(&self) -> String;
}

/// The credentials of one store.
pub(crate) struct CredentialCache<C> {
    source: Arc<dyn CredentialSource<C>>,
    state: Mutex<CacheState<C>>,
}

struct CacheState<C> {
    held: Option<CachedCredential<C>>,
    fetching: Option<Fetching<C>>,
    /// No earlier renewal of a credential that is still good.
    rests_until: Option<Instant>,
}

/// The cached credential.
struct CachedCredential<C> {
    lasting: FetchedCredential<C>,
    fetched: Instant,
    /// Whether the store has accepted it before.
    accepted: bool,
}

/// A running fetch, shared by all waiting callers.
type Fetching<C> = Shared<BoxFuture<'static, Result<C, CredentialError>>>;

impl<C: Credential> CredentialCache<C> {
    /// Makes the cache for a source, without fetching anything.
    pub(crate) fn new(source: impl CredentialSource<C> + 'static) -> Arc<Self> {
        Arc::new(Self {
            source: Arc::new(source),
            state: Mutex::new(CacheState {
                held: None,
                fetching: None,
                rests_until: None,
            }),
        })
    }

    /// Returns a credential; fetches one if none is good. While the old one is good, no caller
    /// waits.
    pub(crate) async fn get(self: &Arc<Self>) -> Result<C, CredentialError> {
        let fetching = {
            let mut state = self.lock();
            let now = Instant::now();
            match &state.held {
                Some(held) if now < held.fetched + held.lasting.good => {
                    let credential = held.lasting.credential.clone();
                    let rests = state.rests_until.is_some_and(|until| now < until);
                    if now >= held.fetched + held.lasting.fresh && !rests {
                        drop(self.begin(&mut state));
                    }
                    return Ok(credential);
                }
                _ => self.begin(&mut state),
            }
        };
        self.wait(fetching).await
    }

    /// Notes that the store has accepted the named credential.
    pub(crate) fn accepted(&self, name: &str) {
        let mut state = self.lock();
        let held = state.held.as_mut();
        if let Some(held) = held.filter(|held| held.lasting.credential.name() == name) {
            held.accepted = true;
        }
    }

    /// Returns a replacement for a credential that the store has refused, if there may be a better
    /// one: the old one may have expired or been revoked.
    pub(crate) async fn replace_refused(
        self: &Arc<Self>,
        refused: &str,
    ) -> Result<Option<C>, CredentialError> {
        let fetching = {
            let mut state = self.lock();
            match &state.held {
                Some(held) if held.lasting.credential.name() != refused => {
                    return Ok(Some(held.lasting.credential.clone()));
                }
                // The credential is too new: another one would not help.
                Some(held) if !held.accepted && held.fetched.elapsed() < REFETCH_INTERVAL => {
                    return Ok(None);
                }
                _ => self.begin(&mut state),
            }
        };
        let fresh = self.wait(fetching).await?;
        Ok(Some(fresh).filter(|fresh| fresh.name() != refused))
    }

    /// Waits for a fetch. If the deadline passes, its message names the source.
    async fn wait(&self, fetching: Fetching<C>) -> Result<C, CredentialError> {
        waits_for(Some(format!(
            "{} does not answer",
            self.source.source_name()
        )));
        let fetched = fetching.await;
        waits_for(None);
        fetched
    }

    /// Begins a fetch, unless one is running already.
    fn begin(self: &Arc<Self>, state: &mut CacheState<C>) -> Fetching<C> {
        if let Some(fetching) = &state.fetching {
            return fetching.clone();
        }
        let kept = Arc::clone(self);
        // The fetch has its own task: its result is needed even if the caller gives up.
        let task = tokio::spawn(async move {
            let fetched = timeout(FETCH_TIMEOUT, kept.source.fetch()).await;
            let fetched = fetched.unwrap_or_else(|_| {
                let waited = FETCH_TIMEOUT.as_secs();
                Err(kept.failed(&format!("does not answer within {waited} s")))
            });
            kept.settle(fetched)
        });
        let kept = Arc::clone(self);
        let ended = async move {
            let ended = task.await;
            ended.unwrap_or_else(|_| kept.settle(Err(kept.failed("hit a bug; please report it"))))
        };
        let fetching = ended.boxed().shared();
        state.fetching = Some(fetching.clone());
        fetching
    }

    fn settle(
        &self,
        fetched: Result<FetchedCredential<C>, CredentialError>,
    ) -> Result<C, CredentialError> {
        let mut state = self.lock();
        state.fetching = None;
        state.rests_until = fetched.is_err().then(|| Instant::now() + REFETCH_INTERVAL);
        let lasting = fetched?;
        let credential = lasting.credential.clone();
        state.held = Some(CachedCredential {
            lasting,
            fetched: Instant::now(),
            accepted: false,
        });
        Ok(credential)
    }

    fn failed(&self, why: &str) -> CredentialError {
        let why = format!(": {} {why}", self.source.source_name());
        CredentialError::new(Kind::Unreachable, why)
    }

    fn lock(&self) -> MutexGuard<'_, CacheState<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> fmt::Debug for CredentialCache<C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Kept of {}", self.source.source_name())
    }
}

const CONTENT_SHA256_HEADER: &str = "x-amz-content-sha256";
const SESSION_TOKEN_HEADER: &str = "x-amz-security-token";

/// The renewal of the credentials that a store's requests carry.
#[derive(Debug, Clone)]
pub(crate) enum Renewal {
    /// Bearer tokens.
    Bearer(Arc<CredentialCache<String>>),
    /// AWS keys, which sign S3's requests in a region.
    Signed(Arc<CredentialCache<Arc<AwsCredential>>>, String),
}

impl Renewal {
    /// Returns the name of the credential that a request carries.
    pub(crate) fn carried(&self, request: &HttpRequest) -> Option<String> {
        let header = |name: &str| request.headers().get(name)?.to_str().ok();
        let authorization = header("authorization");
        let name = match self {
            Renewal::Bearer(_) => authorization?.strip_prefix("Bearer ")?,
            Renewal::Signed(..) => match header(SESSION_TOKEN_HEADER) {
                Some(session) => session,
                None => {
                    let (_, scope) = authorization?.split_once("Credential=")?;
                    scope.split_once('/')?.0
                }
            },
        };
        (!name.is_empty()).then(|| name.into())
    }

    /// Notes that the store has accepted the named credential.
    pub(crate) fn accepted(&self, name: &str) {
        match self {
            Renewal::Bearer(tokens) => tokens.accepted(name),
            Renewal::Signed(keys, _) => keys.accepted(name),
        }
    }

    /// Tells from a reply whether the store no longer accepts a credential.
    pub(crate) fn is_due(&self, method: &str, seen: &StoreReply) -> bool {
        match (self, seen.status, seen.error.code.as_deref()) {
            (Renewal::Bearer(_), status, _) => status == 401,
            (
                Renewal::Signed(..),
                400 | 401 | 403,
                Some(
                    "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "InvalidAccessKeyId",
                ),
            ) => true,
            // The reply to HEAD has no document, and every other refusal is a 403.
            (Renewal::Signed(..), status, None) => status == 400 && method == "HEAD",
            (Renewal::Signed(..), ..) => false,
        }
    }

    /// Gives a request another credential, if there is a better one than the refused one.
    pub(crate) async fn renew(
        &self,
        request: &mut HttpRequest,
        refused: &str,
    ) -> Result<bool, CredentialError> {
        match self {
            Renewal::Bearer(tokens) => {
                let fresh = tokens.replace_refused(refused).await?;
                let value = fresh.and_then(|fresh| format!("Bearer {fresh}").parse().ok());
                let value: Option<HeaderValue> = value;
                Ok(value.is_some_and(|value| {
                    request.headers_mut().insert(AUTHORIZATION, value).is_some()
                }))
            }
            Renewal::Signed(keys, region) => {
                let fresh = keys.replace_refused(refused).await?;
                Ok(fresh.is_some_and(|fresh| sign(request, &fresh, region).is_some()))
            }
        }
    }
}

/// Replaces the signature of a request.
fn sign(request: &mut HttpRequest, keys: &AwsCredential, region: &str) -> Option<()> {
    let digest = request.headers().get(CONTENT_SHA256_HEADER)?.to_str().ok();
    // The header says "UNSIGNED-PAYLOAD" if the bytes are not signed.
    let digest = digest.and_then(from_hex);
    // The authorizer signs all headers that are present, so remove the old signature first.
    request.headers_mut().remove(AUTHORIZATION);
    request.headers_mut().remove(SESSION_TOKEN_HEADER);
    AwsAuthorizer::new(keys, "s3", region)
        .with_sign_payload(digest.is_some())
        .try_authorize(request, digest.as_deref())
        .ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}
