//! The registry first, and the backups when it has an outage or has not answered in time.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout, timeout_at};

use super::FallbackOn;
use super::breaker::pressing;
use super::metrics::Counter;
use super::replica::{Replica, ReplicaSet, share};
use crate::store::{Failure, Kind};

/// How long the other backups have once one has answered, when the registry has an outage: each may
/// hold a push that another misses, and a hung one must not use up the deadline.
const GRACE: Duration = Duration::from_millis(250);

/// A target and its reply.
pub(super) type TargetReply<T> = (Arc<Replica>, Result<T, Failure>);

/// The answers that count, and the failures. If the registry has not answered, its failure is the
/// first.
pub(super) struct Replies<T> {
    pub(super) answers: Vec<(Arc<Replica>, T)>,
    pub(super) failures: Vec<(Arc<Replica>, Failure)>,
}

impl<T> Replies<T> {
    /// Returns whether the request ends with these: with answers, or with the registry's refusal.
    fn serve(&self, fallback: &Fallback) -> bool {
        let refusal = self.failures.first();
        !self.answers.is_empty()
            || refusal.is_some_and(|(_, failure)| !fallback.takes_over(failure))
    }
}

/// The rule that decides when a request goes on to the backups.
#[derive(Debug)]
pub(super) struct Fallback {
    /// How long the registry has to answer before the backups are asked as well; zero for never.
    hedge: Duration,
    on: FallbackOn,
    /// The requests that have asked the backups because the registry was slow.
    pub(super) hedges: Counter,
}

impl Fallback {
    pub(super) fn new(hedge: Duration, on: FallbackOn) -> Self {
        Self {
            hedge,
            on,
            hedges: Counter::default(),
        }
    }

    /// Returns whether a read goes on to the backups after this failure of the registry.
    pub(super) fn takes_over(&self, failure: &Failure) -> bool {
        failure.is_outage()
            || (failure.kind == Kind::Denied && self.on.denied)
            || (failure.kind == Kind::NotFound && self.on.not_found)
    }

    /// How long a request waits for targets if known data would do: until a request with `--hedge`
    /// should be answered, including the backups' grace. `None`, without `--hedge`: for as long as
    /// it takes.
    pub(super) fn patience(&self) -> Option<Duration> {
        const MARGIN: Duration = Duration::from_millis(50);
        let hedge = self.hedge;
        (!hedge.is_zero()).then(|| hedge * 2 + MARGIN)
    }

    /// Makes a request of a replica set that nothing else can serve: if the targets that are not
    /// skipped have failed, or take too long, the skipped ones are asked too.
    pub(super) async fn press<T, F>(
        &self,
        replicas: &ReplicaSet,
        end: Instant,
        serves: impl Fn(&T) -> bool,
        request: impl Fn() -> F,
    ) -> T
    where
        F: Future<Output = T>,
    {
        if !replicas.is_any_skipped() {
            return request().await;
        }
        // A registry that is not skipped has its usual share of the time.
        let hedge = self.hedge;
        let soon = match hedge.is_zero() || !replicas.registry.breaker.is_open() {
            true => share(end, 2),
            false => end.min(Instant::now() + hedge),
        };
        let mut first = pin!(request());
        let late = match timeout_at(soon, first.as_mut()).await {
            Ok(reply) if serves(&reply) => return reply,
            Ok(_) => None,
            Err(_) => Some(first),
        };
        let pressed = pin!(pressing(Some(end), request()));
        let Some(first) = late else {
            return pressed.await;
        };
        match select(pressed, first).await {
            Either::Left((reply, _)) if serves(&reply) => reply,
            Either::Left((_, other)) => other.await,
            Either::Right((reply, _)) if serves(&reply) => reply,
            Either::Right((_, other)) => other.await,
        }
    }

    /// Asks the registry, and the backups too if its reply `goes_on` to them, or if it has not
    /// replied within `--hedge`. In that case the backups' replies are enough if they come first
    /// and `serve`. Requests still under way in the end are dropped.
    pub(super) async fn registry_first<R, B>(
        &self,
        replicas: &ReplicaSet,
        registry: impl Future<Output = R>,
        backups: impl Future<Output = B>,
        goes_on: impl Fn(&R) -> bool,
        serve: impl Fn(&B) -> bool,
    ) -> (Option<R>, Option<B>) {
        let (mut registry, backups) = (pin!(registry), pin!(backups));
        let hedge = self.hedge;
        let in_time = match hedge.is_zero() || replicas.backups.is_empty() {
            true => Some(registry.as_mut().await),
            false => timeout(hedge, registry.as_mut()).await.ok(),
        };
        let (reply, backups) = match in_time {
            Some(reply) => (reply, backups),
            None => {
                self.hedges.increment();
                // If both are ready, the registry's reply counts.
                match select(registry, backups).await {
                    Either::Left(registry_is_first) => registry_is_first,
                    Either::Right((replies, _)) if serve(&replies) => return (None, Some(replies)),
                    Either::Right((replies, registry)) => {
                        return (Some(registry.await), Some(replies));
                    }
                }
            }
        };
        match goes_on(&reply) {
            true => (Some(reply), Some(backups.await)),
            false => (Some(reply), None),
        }
    }

    /// Asks the registry of a replica set for a listing, and all backups at once if they have to
    /// stand in for it. `is_pressing`: skipped targets are asked too, if nothing else helps.
    pub(super) async fn ask_replicas<T, F>(
        &self,
        replicas: &ReplicaSet,
        end: Instant,
        is_pressing: bool,
        ask: impl Fn(Arc<Replica>, Instant) -> F,
    ) -> Replies<T>
    where
        F: Future<Output = TargetReply<T>>,
    {
        let request = || self.ask_replicas_once(replicas, end, &ask);
        match is_pressing {
            true => {
                let serve = |replies: &Replies<T>| replies.serve(self);
                self.press(replicas, end, serve, request).await
            }
            false => request().await,
        }
    }

    async fn ask_replicas_once<T, F>(
        &self,
        replicas: &ReplicaSet,
        end: Instant,
        ask: impl Fn(Arc<Replica>, Instant) -> F,
    ) -> Replies<T>
    where
        F: Future<Output = TargetReply<T>>,
    {
        let registry = ask(
            Arc::clone(&replicas.registry),
            registry_deadline(replicas, end),
        );
        let asked = replicas.backups.iter().map(|it| ask(Arc::clone(it), end));
        let mut backups = Gathering {
            questions: asked.collect(),
            answers: Vec::new(),
            failures: Vec::new(),
        };
        let goes_on = |(_, reply): &TargetReply<T>| {
            let failure = reply.as_ref().err();
            failure.is_some_and(|failure| self.takes_over(failure))
        };
        let gathered = backups.gather(end);
        let (reply, _) = self
            .registry_first(replicas, registry, gathered, goes_on, |&answered| answered)
            .await;
        match reply {
            Some((registry, Ok(answer))) => {
                match self.on.not_found {
                    true => drop(backups.gather(end.min(Instant::now() + GRACE)).await),
                    false => backups.answers.clear(),
                }
                backups.answers.insert(0, (registry, answer));
                backups.failures.clear();
            }
            Some((registry, Err(failure))) => {
                if !self.takes_over(&failure) {
                    backups.answers.clear();
                }
                backups.failures.insert(0, (registry, failure));
            }
            None => {
                let slow = Failure::new(Kind::Unreachable, "a backup was faster");
                let registry = Arc::clone(&replicas.registry);
                backups.failures.insert(0, (registry, slow));
            }
        }
        Replies {
            answers: backups.answers,
            failures: backups.failures,
        }
    }
}

/// Questions to several backups under way, and the replies so far.
struct Gathering<T, F> {
    questions: FuturesUnordered<F>,
    answers: Vec<(Arc<Replica>, T)>,
    failures: Vec<(Arc<Replica>, Failure)>,
}

impl<T, F: Future<Output = TargetReply<T>>> Gathering<T, F> {
    /// Waits for all replies until there is an answer, and then only for the grace time; returns
    /// whether there is one.
    async fn gather(&mut self, end: Instant) -> bool {
        let mut until = end;
        while let Ok(Some((target, reply))) = timeout_at(until, self.questions.next()).await {
            match reply {
                Ok(answer) => {
                    until = until.min(Instant::now() + GRACE);
                    self.answers.push((target, answer));
                }
                Err(failure) => self.failures.push((target, failure)),
            }
        }
        self.answers.sort_by_key(|(target, _)| target.id);
        self.failures.sort_by_key(|(target, _)| target.id);
        !self.answers.is_empty()
    }
}

/// Returns the registry's deadline: all of the time if there is no backup to ask, half of it
/// otherwise.
pub(super) fn registry_deadline(replicas: &ReplicaSet, end: Instant) -> Instant {
    share(end, if replicas.backups.is_empty() { 1 } else { 2 })
}
