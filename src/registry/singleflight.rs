//! Single flight: many callers that want the same thing at once cost one request.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::{Instant, timeout_at};

use super::lock;
use super::metrics::Counter;

type Shares<V> = Shared<BoxFuture<'static, Option<V>>>;
/// The time when the work began, and its result to come.
type Running<V> = (Instant, Shares<V>);

/// Work under way, by key.
pub struct SingleFlight<K, V: Clone> {
    running: Arc<Mutex<HashMap<K, Running<V>>>>,
    joined: Counter,
}

impl<K, V: Clone> fmt::Debug for SingleFlight<K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Flights({})", lock(&self.running).len())
    }
}

impl<K, V: Clone> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self {
            running: Arc::default(),
            joined: Counter::default(),
        }
    }
}

impl<K, V: Clone> SingleFlight<K, V> {
    /// Returns how many callers shared another caller's request.
    pub fn joined(&self) -> u64 {
        self.joined.get()
    }
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the work under way for `key`, or starts it. The work runs in a task of its own: a
    /// caller that gives up takes nothing away from the others. Returns `None` if the work
    /// panicked.
    pub async fn join<F>(&self, key: &K, start: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        self.shared(key, start).1.await
    }

    /// Joins like [`SingleFlight::join`], until the work has been under way for `patience`, however
    /// late the caller joins.
    ///
    /// # Errors
    ///
    /// [`Overdue`] if the work takes longer. The work goes on.
    pub async fn join_for<F>(
        &self,
        key: &K,
        patience: Duration,
        start: impl FnOnce() -> F,
    ) -> Result<Option<V>, Overdue>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (begun, shared) = self.shared(key, start);
        timeout_at(begun + patience, shared)
            .await
            .map_err(|_| Overdue)
    }

    fn shared<F>(&self, key: &K, start: impl FnOnce() -> F) -> Running<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = lock(&self.running);
        if let Some(known) = running.get(key) {
            self.joined.increment();
            return known.clone();
        }
        let landing = Landing {
            running: Arc::clone(&self.running),
            key: key.clone(),
        };
        let work = start();
        let task = tokio::spawn(async move {
            let _landing = landing;
            work.await
        });
        let shared = async move { task.await.ok() }.boxed().shared();
        let begun = (Instant::now(), shared);
        running.insert(key.clone(), begun.clone());
        begun
    }
}

/// The error of work that takes longer than the caller wants to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue;

/// Removes the work from the map when it ends, even by a panic.
struct Landing<K: Eq + Hash, V: Clone> {
    running: Arc<Mutex<HashMap<K, Running<V>>>>,
    key: K,
}

impl<K: Eq + Hash, V: Clone> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let _landed = lock(&self.running).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_callers_cost_one_run_and_the_next_caller_a_new_one() {
        let flights = SingleFlight::<u8, usize>::default();
        let runs = Arc::new(AtomicUsize::new(0));
        let run = || {
            let runs = Arc::clone(&runs);
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                runs.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let callers = (0..100).map(|_| flights.join(&1, run));
        let answers = futures::future::join_all(callers).await;
        assert!(answers.iter().all(|&answer| answer == Some(1)));
        assert_eq!(flights.joined(), 99);
        assert_eq!(flights.join(&1, run).await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_gives_up_does_not_end_the_work() {
        let flights = SingleFlight::<u8, u8>::default();
        let work = || async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            7
        };
        let impatient = tokio::time::timeout(Duration::from_secs(1), flights.join(&1, work));
        let (gave_up, patient) = tokio::join!(impatient, flights.join(&1, || async { 8 }));
        assert!(gave_up.is_err());
        assert_eq!(patient, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_counts_from_the_beginning_of_the_work() {
        let flights = SingleFlight::<u8, u8>::default();
        let work = || async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            7
        };
        let patience = Duration::from_secs(1);
        let first = flights.join_for(&1, patience, work).await;
        assert_eq!(first, Err(Overdue));
        let begun = Instant::now();
        let second = flights.join_for(&1, patience, work).await;
        assert_eq!((second, begun.elapsed()), (Err(Overdue), Duration::ZERO));
        let third = flights.join_for(&1, Duration::from_secs(9), work).await;
        assert_eq!(third, Ok(Some(7)));
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_panic_reaches_nobody_as_a_panic_and_the_next_run_is_fresh() {
        let flights = SingleFlight::<u8, u8>::default();
        assert_eq!(flights.join(&1, || async { panic!("planted") }).await, None);
        assert_eq!(flights.join(&1, || async { 3 }).await, Some(3));
    }
}
