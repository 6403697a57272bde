//! Credentials that are fetched: once for all who wait, kept while they last, anew before they
//! end, and when the store takes them no longer.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use object_store::Error as StoreError;
use object_store::aws::AwsCredential;
use object_store::azure::AzureCredential;
use object_store::client::CredentialProvider;
use object_store::gcp::GcpCredential;
use tokio::time::{Instant, timeout};

use crate::store::Kind;
use crate::store::waiting::waits_for;

/// Credentials are fetched anew so long before they end, or when a quarter of their time is left.
/// Google's metadata address gives out a new token some four minutes before the end, Azure's five.
const EARLY: Duration = Duration::from_secs(300);
/// As long as a service that gives out credentials is waited for, by whoever may be waiting still:
/// an operation whose own deadline is shorter fails, and the next one finds them there.
const PATIENCE: Duration = Duration::from_secs(10);
/// A service that has failed, or whose credentials the store did not take, is not asked again
/// sooner while there are some.
const PAUSE: Duration = Duration::from_secs(30);

/// Why there are no credentials: a failure that is not the store's. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct CredentialError {
    /// What that means for the operation that wants some.
    pub(crate) kind: Kind,
    /// Who was asked, and what came of it.
    pub(crate) why: String,
    /// What to do, if that is known.
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

/// What opens a store for a time.
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
pub(crate) struct Lasting<C> {
    pub(crate) credential: C,
    /// For so long no better one is asked for.
    pub(crate) fresh: Duration,
    /// For so long it serves if there is no better one.
    pub(crate) good: Duration,
}

impl<C> Lasting<C> {
    /// Makes it of how long it is good for.
    pub(crate) fn new(credential: C, good: Duration) -> Self {
        Self {
            credential,
            fresh: good - EARLY.min(good / 4),
            good,
        }
    }
}

/// Where credentials come from.
#[async_trait]
pub(crate) trait Source<C>: Send + Sync {
    /// Fetches one.
    async fn fetch(&self) -> Result<Lasting<C>, CredentialError>;
    /// Returns who gives them out, for messages.
    fn place(&self) -> String;
}

/// The credentials of one store.
pub(crate) struct Kept<C> {
    source: Arc<dyn Source<C>>,
    state: Mutex<State<C>>,
}

struct State<C> {
    held: Option<Held<C>>,
    fetching: Option<Fetching<C>>,
    /// No sooner is one fetched to replace one that is still good.
    rests_until: Option<Instant>,
}

/// The credential that is there.
struct Held<C> {
    lasting: Lasting<C>,
    fetched: Instant,
    /// Whether the store has taken it before.
    taken: bool,
}

/// A fetch that is under way, for all who wait for it.
type Fetching<C> = Shared<BoxFuture<'static, Result<C, CredentialError>>>;

impl<C: Credential> Kept<C> {
    /// Makes them of their source. Nothing is fetched.
    pub(crate) fn new(source: impl Source<C> + 'static) -> Arc<Self> {
        Arc::new(Self {
            source: Arc::new(source),
            state: Mutex::new(State {
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
    pub(crate) fn taken(&self, name: &str) {
        let mut state = self.lock();
        let held = state.held.as_mut();
        if let Some(held) = held.filter(|held| held.lasting.credential.name() == name) {
            held.taken = true;
        }
    }

    /// Returns a credential in place of one that the store has refused, if there may be a better
    /// one: for one that was good, and is over or has been revoked.
    pub(crate) async fn instead_of(
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
                Some(held) if !held.taken && held.fetched.elapsed() < PAUSE => return Ok(None),
                _ => self.begin(&mut state),
            }
        };
        let fresh = self.wait(fetching).await?;
        Ok(Some(fresh).filter(|fresh| fresh.name() != refused))
    }

    /// Waits for a fetch; the deadline that may end that tells of it.
    async fn wait(&self, fetching: Fetching<C>) -> Result<C, CredentialError> {
        waits_for(Some(format!("{} does not answer", self.source.place())));
        let fetched = fetching.await;
        waits_for(None);
        fetched
    }

    /// Begins to fetch a credential, unless somebody has begun already.
    fn begin(self: &Arc<Self>, state: &mut State<C>) -> Fetching<C> {
        if let Some(fetching) = &state.fetching {
            return fetching.clone();
        }
        let kept = Arc::clone(self);
        // In a task of its own: who waits may give up, and the credential is wanted all the same.
        let task = tokio::spawn(async move {
            let fetched = timeout(PATIENCE, kept.source.fetch()).await;
            let fetched = fetched.unwrap_or_else(|_| {
                let waited = PATIENCE.as_secs();
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

    fn settle(&self, fetched: Result<Lasting<C>, CredentialError>) -> Result<C, CredentialError> {
        let mut state = self.lock();
        state.fetching = None;
        state.rests_until = fetched.is_err().then(|| Instant::now() + PAUSE);
        let lasting = fetched?;
        let credential = lasting.credential.clone();
        state.held = Some(Held {
            lasting,
            fetched: Instant::now(),
            taken: false,
        });
        Ok(credential)
    }

    fn failed(&self, why: &str) -> CredentialError {
        let why = format!(": {} {why}", self.source.place());
        CredentialError::new(Kind::Unreachable, why)
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> fmt::Debug for Kept<C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Kept of {}", self.source.place())
    }
}

/// Gives keys to object_store's client of S3.
#[derive(Debug)]
pub(crate) struct AwsProvider(pub(crate) Arc<Kept<Arc<AwsCredential>>>);

/// Gives tokens to object_store's client of Google.
#[derive(Debug)]
pub(crate) struct GcsProvider(pub(crate) Arc<Kept<String>>);

/// Gives tokens to object_store's client of Azure.
#[derive(Debug)]
pub(crate) struct AzureProvider(pub(crate) Arc<Kept<String>>);

#[async_trait]
impl CredentialProvider for AwsProvider {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        Ok(self.0.get().await?)
    }
}

#[async_trait]
impl CredentialProvider for GcsProvider {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        let bearer = self.0.get().await?;
        Ok(Arc::new(GcpCredential { bearer }))
    }
}

#[async_trait]
impl CredentialProvider for AzureProvider {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AzureCredential>> {
        let bearer = self.0.get().await?;
        Ok(Arc::new(AzureCredential::BearerToken(bearer)))
    }
}
