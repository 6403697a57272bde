//! The tokens of a store: one at a time, fetched anew before it ends, and when the store takes it
//! no longer.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use object_store::Error as StoreError;
use object_store::azure::AzureCredential;
use object_store::client::CredentialProvider;
use object_store::gcp::GcpCredential;
use tokio::time::{Instant, timeout};

use crate::target::Kind;

/// A token is fetched anew so long before it ends, or when a quarter of its time is left. Google's
/// metadata address gives out a new one some four minutes before the end, Azure's five.
const EARLY: Duration = Duration::from_secs(300);
/// As long as a service that gives out tokens is waited for, by whoever may be waiting still: an
/// operation whose own deadline is shorter fails, and the next one finds the token there.
const PATIENCE: Duration = Duration::from_secs(10);
/// A service that has failed, or whose token the store did not take, is not asked again sooner
/// while there is a token.
const PAUSE: Duration = Duration::from_secs(30);

/// Why there is no token. Never holds one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(super) struct NoToken {
    /// What that means for the operation that wants one.
    pub(super) kind: Kind,
    /// Who was asked, and what came of it.
    pub(super) why: String,
}

impl NoToken {
    /// Finds out whether it is for want of a token that an operation failed.
    pub(super) fn of(error: &StoreError) -> Option<&Self> {
        let mut error: &(dyn std::error::Error + 'static) = error;
        loop {
            if let Some(none) = error.downcast_ref() {
                return Some(none);
            }
            error = error.source()?;
        }
    }
}

impl From<NoToken> for StoreError {
    fn from(none: NoToken) -> Self {
        StoreError::Generic {
            store: "credentials",
            source: Box::new(none),
        }
    }
}

/// A token as it comes from its source.
pub(super) struct Fetched {
    /// What the store gets to see.
    pub(super) bearer: String,
    /// How long it is good for.
    pub(super) lasts: Duration,
}

/// Where tokens come from.
#[async_trait]
pub(super) trait Source: Send + Sync {
    /// Fetches a token.
    async fn fetch(&self) -> Result<Fetched, NoToken>;
    /// Returns who gives them out, for messages.
    fn place(&self) -> &str;
}

/// The tokens of one store.
pub(super) struct Tokens {
    source: Arc<dyn Source>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    fetching: Option<Fetching>,
    /// No sooner is one fetched to replace one that is still good.
    rests_until: Option<Instant>,
}

/// The token that is there.
struct Held {
    bearer: String,
    fetched: Instant,
    lasts: Duration,
    /// Whether the store has taken it before.
    taken: bool,
}

/// A fetch that is under way, for all who wait for it.
type Fetching = Shared<BoxFuture<'static, Result<String, NoToken>>>;

impl Tokens {
    /// Makes them of their source. Nothing is fetched.
    pub(super) fn new(source: impl Source + 'static) -> Arc<Self> {
        Arc::new(Self {
            source: Arc::new(source),
            state: Mutex::default(),
        })
    }

    /// Returns a token, fetching one if there is none that is good.
    pub(super) async fn get(self: &Arc<Self>) -> Result<String, NoToken> {
        let fetching = {
            let mut state = self.lock();
            let now = Instant::now();
            match &state.held {
                Some(held) if now < held.fetched + held.lasts => {
                    let bearer = held.bearer.clone();
                    let early = EARLY.min(held.lasts / 4);
                    let rests = state.rests_until.is_some_and(|until| now < until);
                    if now + early >= held.fetched + held.lasts && !rests {
                        drop(self.begin(&mut state));
                    }
                    return Ok(bearer);
                }
                _ => self.begin(&mut state),
            }
        };
        fetching.await
    }

    /// Notes that the store has taken a token.
    pub(super) fn taken(&self, bearer: &str) {
        let mut state = self.lock();
        if let Some(held) = state.held.as_mut().filter(|held| held.bearer == bearer) {
            held.taken = true;
        }
    }

    /// Returns a token in place of one that the store has refused (401), if there may be a better
    /// one: a token that was good, and has been revoked.
    pub(super) async fn instead_of(
        self: &Arc<Self>,
        refused: &str,
    ) -> Result<Option<String>, NoToken> {
        let fetching = {
            let mut state = self.lock();
            match &state.held {
                Some(held) if held.bearer != refused => return Ok(Some(held.bearer.clone())),
                // As new as it is, it won't be another one that the store wants.
                Some(held) if !held.taken && held.fetched.elapsed() < PAUSE => return Ok(None),
                _ => self.begin(&mut state),
            }
        };
        let fresh = fetching.await?;
        Ok(Some(fresh).filter(|fresh| fresh != refused))
    }

    /// Begins to fetch a token, unless somebody has begun already.
    fn begin(self: &Arc<Self>, state: &mut State) -> Fetching {
        if let Some(fetching) = &state.fetching {
            return fetching.clone();
        }
        let tokens = Arc::clone(self);
        // In a task of its own: who waits may give up, and the token is wanted all the same.
        let task = tokio::spawn(async move {
            let fetched = timeout(PATIENCE, tokens.source.fetch()).await;
            let fetched = fetched.unwrap_or_else(|_| Err(tokens.too_late()));
            tokens.settle(fetched)
        });
        let tokens = Arc::clone(self);
        let ended = async move {
            task.await.unwrap_or_else(|_| {
                tokens.settle(Err(NoToken {
                    kind: Kind::Unreachable,
                    why: format!("{} met a bug; please report it", tokens.source.place()),
                }))
            })
        };
        let fetching = ended.boxed().shared();
        state.fetching = Some(fetching.clone());
        fetching
    }

    fn settle(&self, fetched: Result<Fetched, NoToken>) -> Result<String, NoToken> {
        let mut state = self.lock();
        state.fetching = None;
        state.rests_until = Some(Instant::now() + PAUSE);
        let Fetched { bearer, lasts } = fetched?;
        state.held = Some(Held {
            bearer: bearer.clone(),
            fetched: Instant::now(),
            lasts,
            taken: false,
        });
        Ok(bearer)
    }

    fn too_late(&self) -> NoToken {
        let waited = PATIENCE.as_secs();
        NoToken {
            kind: Kind::Unreachable,
            why: format!("{} does not answer within {waited} s", self.source.place()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Tokens of {}", self.source.place())
    }
}

/// Gives the tokens to object_store's client of Google.
#[derive(Debug)]
pub(super) struct GcsProvider(pub(super) Arc<Tokens>);

/// Gives the tokens to object_store's client of Azure.
#[derive(Debug)]
pub(super) struct AzureProvider(pub(super) Arc<Tokens>);

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
