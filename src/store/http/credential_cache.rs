//! Credentials that are fetched: once for all who wait, kept while they last, anew before they
//! end, and when the store takes them no longer.

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

/// Credentials are fetched anew so long before they end, or when a quarter of their time is left.
/// Google's metadata address gives out a new token some four minutes before the end, Azure's five.
const RENEWAL_MARGIN: Duration = Duration::from_secs(300);
/// The longest wait for a service that gives out credentials:
/// an operation whose own deadline is shorter fails, and the next one finds them there.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// A service that has failed, or whose credentials the store did not take, is not asked again
/// sooner while there are some.
const REFETCH_INTERVAL: Duration = Duration::from_secs(30);

/// Why there are no credentials: a failure that is not the store's. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct CredentialError {
    /// The kind of failure for the operation that wants some.
    pub(crate) kind: Kind,
    /// The service that was asked, and its answer.
    pub(crate) why: String,
    /// The remedy, if it is known.
    pub(crate) fix: Option<String>,
}

impl CredentialError {
    /// Makes it of what comes after "no credentials to be had".
    pub(crate) fn new(kind: Kind, why: impl fmt::Display) -> Self {
        Self {
            kind,
            why: format!("no credentials to be had{why}"),
            fix: None,
        }
    }

    /// Says what to do.
    pub(crate) fn with_fix(mut self, fix: Option<String>) -> Self {
        self.fix = fix;
        self
    }

    /// Finds out whether it is for lack of credentials that an operation has failed.
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
    /// Returns what tells it from the next one.
    fn name(&self) -> &str;
}

/// A token, as the store gets to see it.
impl Credential for String {
    fn name(&self) -> &str {
        self
    }
}

/// Keys; those of a session have a token that no other has.
impl Credential for Arc<AwsCredential> {
    fn name(&self) -> &str {
        self.token.as_ref().unwrap_or(&self.key_id)
    }
}

/// A credential as it comes from its source.
pub(crate) struct FetchedCredential<C> {
    pub(crate) credential: C,
    /// For so long no better one is asked for.
    pub(crate) fresh: Duration,
    /// For so long it serves if there is no better one.
    pub(crate) good: Duration,
}

impl<C> FetchedCredential<C> {
    /// Makes it of how long it is good for.
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
    /// Fetches one.
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
    /// No sooner is one fetched to replace one that is still good.
    rests_until: Option<Instant>,
}

/// The credential that is there.
struct CachedCredential<C> {
    lasting: FetchedCredential<C>,
    fetched: Instant,
    /// Whether the store has taken it before.
    accepted: bool,
}

/// A fetch that is under way, for all who wait for it.
type Fetching<C> = Shared<BoxFuture<'static, Result<C, CredentialError>>>;

impl<C: Credential> CredentialCache<C> {
    /// Makes them of their source. Nothing is fetched.
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

    /// Returns a credential, fetching one if there is none that is good. While the old one serves
    /// nobody waits.
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

    /// Notes that the store has taken the credential of a name.
    pub(crate) fn accepted(&self, name: &str) {
        let mut state = self.lock();
        let held = state.held.as_mut();
        if let Some(held) = held.filter(|held| held.lasting.credential.name() == name) {
            held.accepted = true;
        }
    }

    /// Returns a credential in place of one that the store has refused, if there may be a better
    /// one: for one that was good, and is over or has been revoked.
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
                // As new as it is, it won't be another one that the store wants.
                Some(held) if !held.accepted && held.fetched.elapsed() < REFETCH_INTERVAL => {
                    return Ok(None);
                }
                _ => self.begin(&mut state),
            }
        };
        let fresh = self.wait(fetching).await?;
        Ok(Some(fresh).filter(|fresh| fresh.name() != refused))
    }

    /// Waits for a fetch; the deadline that may end that tells of it.
    async fn wait(&self, fetching: Fetching<C>) -> Result<C, CredentialError> {
        waits_for(Some(format!(
            "{} does not answer",
            self.source.source_name()
        )));
        let fetched = fetching.await;
        waits_for(None);
        fetched
    }

    /// Begins to fetch a credential, unless somebody has begun already.
    fn begin(self: &Arc<Self>, state: &mut CacheState<C>) -> Fetching<C> {
        if let Some(fetching) = &state.fetching {
            return fetching.clone();
        }
        let kept = Arc::clone(self);
        // In a task of its own: a caller may give up, and the credential is wanted all the same.
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
            ended.unwrap_or_else(|_| kept.settle(Err(kept.failed("met a bug; please report it"))))
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

/// The credentials that a store's requests carry, for those that have to be replaced.
#[derive(Debug, Clone)]
pub(crate) enum Renewal {
    /// Tokens.
    Bearer(Arc<CredentialCache<String>>),
    /// Keys, with which S3's requests in a region are signed.
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

    /// Notes that the store has taken the credential of a name.
    pub(crate) fn accepted(&self, name: &str) {
        match self {
            Renewal::Bearer(tokens) => tokens.accepted(name),
            Renewal::Signed(keys, _) => keys.accepted(name),
        }
    }

    /// Tells whether the store takes a credential no longer, by its reply to a method.
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

    /// Gives a request another credential, if there is a better one than that of a name.
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

/// Signs a request anew that others have signed.
fn sign(request: &mut HttpRequest, keys: &AwsCredential, region: &str) -> Option<()> {
    let digest = request.headers().get(CONTENT_SHA256_HEADER)?.to_str().ok();
    // It says "UNSIGNED-PAYLOAD" where the bytes aren't signed.
    let digest = digest.and_then(from_hex);
    // Whatever has a name of its own is signed; the old signature has none.
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
