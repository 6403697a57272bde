//! The targets of each repository, and their health.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::breaker::{Breaker, pressing_by};
use super::lock;
use super::metrics::Counter;
use crate::model::{nanos, when_to_text};
use crate::store::{Capabilities, Failure, Identity, Kind, Target};

/// A target of this mount, by its position in the list of all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub usize);

/// The state of a target, judged by its newest reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// It has not been asked anything yet.
    Unknown,
    /// It answers.
    Ok,
    /// It answers with refusals.
    Refuses,
    /// It can't be reached.
    Outage,
    /// This version has no backend for it.
    Unsupported,
}

impl TargetState {
    /// Returns the state's name in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            TargetState::Unknown => "unknown",
            TargetState::Ok => "ok",
            TargetState::Refuses => "denied",
            TargetState::Outage => "outage",
            TargetState::Unsupported => "unsupported",
        }
    }
}

/// The known health of a target.
#[derive(Debug, Clone)]
pub struct Health {
    /// The state of the target.
    pub state: TargetState,
    /// The time when this state began.
    pub since: Option<SystemTime>,
    /// Its newest failure, with the time.
    pub last_failure: Option<(SystemTime, Failure)>,
    /// Failures by kind.
    pub failures: BTreeMap<&'static str, u64>,
}

/// A target, and its health as the mount has seen it.
#[derive(Debug)]
pub struct Replica {
    /// The target's position in the list.
    pub id: TargetId,
    target: Target,
    health: Mutex<Health>,
    pub(super) breaker: Breaker,
    /// Whether the store honours conditions, once known.
    conditions: OnceLock<bool>,
    /// Wakes the task that waits for an answer to try conditions again.
    answered: Notify,
    /// Pulls that the target has served.
    pub pulls: Counter,
    /// Pushes that the target has.
    pub pushes: Counter,
    /// Questions that the target did not answer by their deadline.
    pub timeouts: Counter,
    answers: Counter,
}

impl Replica {
    /// Creates the replica of a target that has not been asked anything yet.
    pub fn new(id: TargetId, target: Target) -> Self {
        Self {
            id,
            target,
            health: Mutex::new(Health {
                state: TargetState::Unknown,
                since: None,
                last_failure: None,
                failures: BTreeMap::new(),
            }),
            breaker: Breaker::default(),
            conditions: OnceLock::new(),
            answered: Notify::new(),
            pulls: Counter::default(),
            pushes: Counter::default(),
            timeouts: Counter::default(),
            answers: Counter::default(),
        }
    }

    /// Returns the target, for requests beside a mount.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Returns the target's URL as it may be shown.
    pub fn url(&self) -> &str {
        self.target.url()
    }

    /// Returns why this version has no backend for the target, if so: then it is never used.
    pub fn unsupported(&self) -> Option<&Failure> {
        self.target.unsupported()
    }

    /// Asks the target a question, and records the reply. While the breaker is open, only a
    /// `pressing` request waits for admission, and all others fail at once.
    pub async fn ask<'a, T, F>(
        &'a self,
        question: impl FnOnce(&'a Target) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>> + 'a,
    {
        if let Some(failure) = self.unsupported() {
            return Err(failure.clone());
        }
        let Some(_admission) = self.breaker.admit().await else {
            return Err(self.skipped());
        };
        let unanswered = self.breaker.question();
        let reply = question(&self.target).await;
        unanswered.answered();
        self.note(reply.as_ref().err());
        reply
    }

    /// Asks the target a question with a deadline of its own; a pressing request waits for
    /// admission only until then.
    pub(super) async fn ask_by<'a, T, F>(
        &'a self,
        deadline: Instant,
        question: impl FnOnce(&'a Target) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>> + 'a,
    {
        pressing_by(deadline, self.ask(question)).await
    }

    /// Asks the target which store it is; `None` if the store doesn't say. The answer serves the next
    /// check, too.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn read_identity(&self, deadline: Instant) -> Result<Option<Identity>, Failure> {
        let heard = self.ask(|target| target.read_identity(deadline)).await?;
        if let Some(membership) = self.target.membership() {
            membership.hear(heard.clone());
        }
        Ok(heard.map(|(identity, _)| identity))
    }

    /// Gives a store that has lost its identity the one that the mount expects, on a person's word.
    ///
    /// # Errors
    ///
    /// [`Kind::WrongStore`], or the target's failing answer.
    pub(super) async fn restore_identity(&self, deadline: Instant) -> Result<(), Failure> {
        let restored = self.target.restore_identity(deadline).await;
        self.note(restored.as_ref().err());
        restored
    }

    /// Returns the id of the target's store; of a store without identity, its URL.
    pub fn name(&self) -> String {
        match self.target.membership() {
            Some(membership) => membership.own().id().to_string(),
            None => self.url().to_owned(),
        }
    }

    /// Tells whether the target's store has a name, or had it before the mount knew better.
    pub fn is_named(&self, name: &str) -> bool {
        match self.target.membership() {
            Some(membership) => membership.own().is(name),
            None => self.url() == name,
        }
    }

    /// Probes whether the target answers, even while it is skipped.
    pub(super) async fn probe(&self, deadline: Instant) {
        let reply = self.target.probe(deadline).await;
        self.note(reply.as_ref().err());
    }

    /// Tries whether the store honours conditions, and whether written objects can be read and
    /// deleted. Refusals are recorded in the target's health.
    ///
    /// # Errors
    ///
    /// The reason why the trial had no result.
    pub(super) async fn try_conditions(&self, deadline: Instant) -> Result<Capabilities, Failure> {
        let trial = self.target.try_conditions(deadline).await;
        let refused = match &trial {
            Ok(trial) => {
                let _ = self.conditions.set(trial.honours_conditions);
                trial.refused.as_ref()
            }
            Err(failure) => Some(failure).filter(|failure| !failure.is_outage()),
        };
        if let Some(refused) = refused {
            self.note(Some(refused));
        }
        trial
    }

    /// Sets whether the store honours conditions, without a trial.
    #[cfg(test)]
    pub(crate) fn presume_conditions(&self, honoured: bool) {
        let _ = self.conditions.set(honoured);
    }

    /// Waits until the target answers any request, or has since the last wait.
    pub(super) async fn answered(&self) {
        self.answered.notified().await;
    }

    /// Returns whether the store honours conditions, if known.
    pub(super) fn conditions(&self) -> Option<bool> {
        self.conditions.get().copied()
    }

    fn skipped(&self) -> Failure {
        let health = lock(&self.health);
        let since = health.since.map(|since| when_to_text(nanos(since)));
        let reason = match &health.last_failure {
            Some((_, failure)) => failure.reason.as_str(),
            None => "no answer",
        };
        let since = since.unwrap_or_default();
        Failure::new(
            Kind::Unreachable,
            format!("skipped: out since {since}: {reason}"),
        )
    }

    /// Records a reply.
    pub fn note(&self, failure: Option<&Failure>) {
        self.breaker.note(failure);
        if failure.is_some_and(|failure| failure.timed_out) {
            self.timeouts.increment();
        }
        let state = match failure.map(|failure| failure.kind) {
            None | Some(Kind::NotFound | Kind::Conflict) => TargetState::Ok,
            Some(Kind::Denied | Kind::Invalid | Kind::NoSpace) => TargetState::Refuses,
            Some(
                Kind::StoreMissing
                | Kind::WrongStore
                | Kind::Unreachable
                | Kind::Busy
                | Kind::Corrupt
                | Kind::TooBig,
            ) => TargetState::Outage,
        };
        let now = SystemTime::now();
        let mut health = lock(&self.health);
        if let Some(failure) = failure.filter(|_| state != TargetState::Ok) {
            *health.failures.entry(failure.kind.as_str()).or_default() += 1;
            health.last_failure = Some((now, failure.clone()));
        } else {
            self.answers.increment();
            if self.conditions().is_none() {
                self.answered.notify_one();
            }
        }
        if health.state != state {
            let before = std::mem::replace(&mut health.state, state);
            health.since = Some(now);
            let url = self.url();
            match failure {
                Some(failure) if state != TargetState::Ok => {
                    tracing::warn!(
                        "target {url}: {} → {}: {failure}",
                        before.as_str(),
                        state.as_str()
                    );
                }
                _ if before != TargetState::Unknown => tracing::info!("target {url} answers again"),
                _ => {}
            }
        }
    }

    /// Returns the target's known health.
    pub fn health(&self) -> Health {
        let mut health = lock(&self.health).clone();
        if self.unsupported().is_some() {
            health.state = TargetState::Unsupported;
        }
        health
    }

    /// Returns how many questions the target has answered.
    pub fn answers(&self) -> u64 {
        self.answers.get()
    }
}

/// The targets of a repository: its registry, and its backups in the order of the configuration.
#[derive(Debug, Clone)]
pub struct ReplicaSet {
    /// The primary store.
    pub registry: Arc<Replica>,
    /// The backups, first one first.
    pub backups: Vec<Arc<Replica>>,
}

impl ReplicaSet {
    /// Returns all targets, the registry first, unless this version has no backend for it.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Replica>> {
        let registry = Some(&self.registry).filter(|_| self.has_registry());
        registry.into_iter().chain(&self.backups)
    }

    /// Returns whether this version has a backend for the registry.
    pub fn has_registry(&self) -> bool {
        self.registry.unsupported().is_none()
    }

    /// Returns whether any target is skipped.
    pub(super) fn is_any_skipped(&self) -> bool {
        self.targets().any(|target| target.breaker.is_open())
    }

    /// Returns whether a target is the registry of this replica set.
    pub fn is_registry(&self, id: TargetId) -> bool {
        self.registry.id == id
    }
}

/// Returns the deadline of the next of `left` targets: an even share of the time until `end`, so
/// that hung targets before it leave time for the last one.
pub fn share(end: Instant, left: usize) -> Instant {
    let now = Instant::now();
    let remaining = end.saturating_duration_since(now);
    now + remaining / u32::try_from(left.max(1)).unwrap_or(u32::MAX)
}
