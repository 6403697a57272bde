//! Credentials that are fetched: once for all who wait, and kept while they last.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, WeakShared};
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Error as StoreError, Result as StoreResult};

use crate::target::Kind;

/// The longest that a fetch may take. The callers' deadlines are shorter; this one is for the fetch
/// that hangs while one caller after the other waits for it.
const FETCHING: Duration = Duration::from_secs(5);
/// How long what is kept serves on after a fetch that failed, before the next one.
const AGAIN: Duration = Duration::from_secs(10);

/// Why there are no credentials: a failure that is not the store's. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(super) struct Lacking {
    pub(super) kind: Kind,
    pub(super) why: String,
    /// What to do, if that is known.
    pub(super) fix: Option<String>,
}

impl Lacking {
    pub(super) fn new(kind: Kind, why: impl Into<String>) -> Self {
        Self {
            kind,
            why: why.into(),
            fix: None,
        }
    }

    /// Says what to do.
    pub(super) fn with_fix(mut self, fix: Option<String>) -> Self {
        self.fix = fix;
        self
    }

    /// Finds out whether it is for lack of credentials that an operation has failed.
    pub(super) fn of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut inner = Some(error);
        while let Some(error) = inner {
            if let Some(lacking) = error.downcast_ref() {
                return Some(lacking);
            }
            inner = error.source();
        }
        None
    }
}

impl From<Lacking> for StoreError {
    fn from(lacking: Lacking) -> Self {
        StoreError::Generic {
            store: "credentials",
            source: Box::new(lacking),
        }
    }
}

/// Credentials, and how long they last.
#[derive(Debug, Clone)]
pub(super) struct Lasting {
    pub(super) credential: Arc<AwsCredential>,
    /// From here on better ones are asked for.
    pub(super) fresh_until: Instant,
    /// Until here they serve if there are no better ones.
    pub(super) good_until: Instant,
}

/// What fetches credentials.
pub(super) trait Fetch: fmt::Debug + Send + Sync + 'static {
    /// Fetches some.
    fn fetch(self: Arc<Self>) -> BoxFuture<'static, Result<Lasting, Lacking>>;
}

type Fetched = Result<Arc<AwsCredential>, Lacking>;

/// Credentials that are fetched when they are needed.
#[derive(Debug)]
pub(super) struct Fetching<F> {
    fetch: Arc<F>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    kept: Option<Lasting>,
    /// The fetch that somebody is waiting for.
    under_way: Option<WeakShared<BoxFuture<'static, Fetched>>>,
}

impl fmt::Debug for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("State")
    }
}

impl<F: Fetch> Fetching<F> {
    pub(super) fn new(fetch: F) -> Self {
        Self {
            fetch: Arc::new(fetch),
            state: Arc::default(),
        }
    }

    /// Returns credentials: those that are kept while they are fresh, and else those that are
    /// fetched, by one request for all who wait. While the old ones still serve nobody waits.
    async fn get(&self) -> Fetched {
        let (fetched, old) = {
            let mut state = lock(&self.state);
            let now = Instant::now();
            let kept = state.kept.as_ref();
            if let Some(kept) = kept.filter(|kept| now < kept.fresh_until) {
                return Ok(Arc::clone(&kept.credential));
            }
            let old = kept.filter(|kept| now < kept.good_until);
            let old = old.map(|kept| Arc::clone(&kept.credential));
            let under_way = state.under_way.as_ref().and_then(WeakShared::upgrade);
            match (under_way, old) {
                (Some(_), Some(old)) => return Ok(old),
                (Some(fetched), None) => (fetched, None),
                (None, old) => {
                    let fetched = self.begin().shared();
                    state.under_way = fetched.downgrade();
                    (fetched, old)
                }
            }
        };
        match old {
            Some(old) => {
                tokio::spawn(fetched);
                Ok(old)
            }
            None => fetched.await,
        }
    }

    fn begin(&self) -> BoxFuture<'static, Fetched> {
        let (fetch, state) = (Arc::clone(&self.fetch), Arc::clone(&self.state));
        Box::pin(async move {
            let fetched = tokio::time::timeout(FETCHING, fetch.fetch()).await;
            let fetched = fetched.unwrap_or_else(|_| {
                let why = format!(
                    "no credentials to be had: no answer within {} s",
                    FETCHING.as_secs()
                );
                Err(Lacking::new(Kind::Unreachable, why))
            });
            let mut state = lock(&state);
            match fetched {
                Ok(lasting) => {
                    let credential = Arc::clone(&lasting.credential);
                    state.kept = Some(lasting);
                    Ok(credential)
                }
                Err(lacking) => {
                    if let Some(kept) = &mut state.kept {
                        kept.fresh_until = (Instant::now() + AGAIN).min(kept.good_until);
                    }
                    Err(lacking)
                }
            }
        })
    }
}

#[async_trait::async_trait]
impl<F: Fetch> CredentialProvider for Fetching<F> {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> StoreResult<Arc<AwsCredential>> {
        Ok(self.get().await?)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Gives out credentials numbered from 1, as long-lived as it is told; fails at 0.
    #[derive(Debug, Default)]
    struct Counter {
        asked: AtomicU32,
        fresh: Mutex<Duration>,
        good: Mutex<Option<Duration>>,
    }

    impl Fetch for Counter {
        fn fetch(self: Arc<Self>) -> BoxFuture<'static, Result<Lasting, Lacking>> {
            Box::pin(async move {
                let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::task::yield_now().await;
                let good = *lock(&self.good);
                let good = good.ok_or_else(|| Lacking::new(Kind::Denied, "refused"))?;
                Ok(Lasting {
                    credential: Arc::new(AwsCredential {
                        key_id: number.to_string(),
                        secret_key: String::new(),
                        token: None,
                    }),
                    fresh_until: Instant::now() + *lock(&self.fresh),
                    good_until: Instant::now() + good,
                })
            })
        }
    }

    const LONG: Duration = Duration::from_secs(3600);

    fn counter(fresh: Duration, good: Option<Duration>) -> Fetching<Counter> {
        Fetching::new(Counter {
            fresh: Mutex::new(fresh),
            good: Mutex::new(good),
            ..Counter::default()
        })
    }

    async fn id(fetching: &Fetching<Counter>) -> Result<String, Lacking> {
        fetching.get().await.map(|got| got.key_id.clone())
    }

    #[tokio::test]
    async fn many_who_wait_cost_one_fetch_and_it_is_kept() {
        let fetching = counter(LONG, Some(LONG));
        let waiting = futures::future::join_all((0..100).map(|_| id(&fetching))).await;
        assert!(waiting.iter().all(|got| got.as_deref() == Ok("1")));
        assert_eq!(id(&fetching).await.as_deref(), Ok("1"));
    }

    #[tokio::test]
    async fn all_who_wait_are_told_why_and_the_next_asks_again() {
        let fetching = counter(LONG, None);
        let waiting = futures::future::join_all((0..10).map(|_| id(&fetching))).await;
        assert!(waiting.iter().all(|got| got.is_err()));
        assert_eq!(fetching.fetch.asked.load(Ordering::SeqCst), 1);
        *lock(&fetching.fetch.good) = Some(LONG);
        assert_eq!(id(&fetching).await.as_deref(), Ok("2"));
    }

    #[tokio::test]
    async fn what_is_over_is_fetched_anew() {
        let fetching = counter(Duration::ZERO, Some(Duration::ZERO));
        assert_eq!(id(&fetching).await.as_deref(), Ok("1"));
        assert_eq!(id(&fetching).await.as_deref(), Ok("2"));
    }

    #[tokio::test]
    async fn while_the_old_ones_serve_nobody_waits_and_a_failure_is_not_asked_for_again_at_once() {
        let fetching = counter(Duration::ZERO, Some(LONG));
        assert_eq!(id(&fetching).await.as_deref(), Ok("1"));
        *lock(&fetching.fetch.good) = None;
        for _ in 0..10 {
            assert_eq!(id(&fetching).await.as_deref(), Ok("1"));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(fetching.fetch.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_fetch_that_nobody_waits_for_any_more_is_given_up() {
        let fetching = counter(LONG, Some(LONG));
        assert!(id(&fetching).now_or_never().is_none());
        assert_eq!(id(&fetching).await.as_deref(), Ok("2"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_hangs_ends_though_somebody_waits_all_the_time() {
        #[derive(Debug)]
        struct Hung;
        impl Fetch for Hung {
            fn fetch(self: Arc<Self>) -> BoxFuture<'static, Result<Lasting, Lacking>> {
                Box::pin(std::future::pending())
            }
        }
        let hung = Fetching::new(Hung);
        let lacking = hung.get().await.unwrap_err();
        assert_eq!(lacking.kind, Kind::Unreachable);
        let error = StoreError::from(lacking.clone());
        assert_eq!(Lacking::of(&error), Some(&lacking));
    }
}
