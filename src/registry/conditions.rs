//! Trials of conditional writes, on which the decision between two writers rests.
//!
//! A registry is tried when a mount begins and, if that fails, as soon as it answers. Until a trial
//! shows that it honours conditions, the mount checks them itself before each push; that leaves a
//! moment in which two mounts can still overwrite each other. A registry that ignores conditions is
//! reported.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::Registry;
use super::events::{Event, Level};
use super::replica::Replica;
use crate::model::ArtifactId;
use crate::store::{Condition, Failure, Kind};

/// How long after an outage a registry is tried again, unless it answers another request first.
/// 30 s: the longest pause between the probes of a skipped target.
const OUTAGE_PAUSE: Duration = Duration::from_secs(30);
/// The shortest pause before the next trial, even if the registry answers. 1 s: a probe's pause.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// How long after a refusal a registry is tried again. 5 min: a new mount usually follows the
/// repair of a policy, so the trial is not urgent.
const REFUSAL_PAUSE: Duration = Duration::from_secs(300);

impl Registry {
    /// Tries all registries at once, and waits for their answers until `end`; a registry without a
    /// result is tried again in the background. Returns the refusals of operations that pushes
    /// need.
    pub async fn try_conditions(self: &Arc<Self>, end: Instant) -> Vec<(Arc<Replica>, Failure)> {
        let replica_sets = self.replica_sets.open().iter();
        let replica_sets = replica_sets.filter(|replicas| replicas.has_registry());
        let tries = replica_sets.map(|replicas| async move {
            let registry = &replicas.registry;
            let refused = match self.try_one(registry, end).await {
                Ok(refused) => refused,
                Err(failure) => {
                    self.try_later(registry, &failure);
                    Some(failure).filter(|failure| !failure.is_outage())
                }
            };
            refused.map(|refused| (Arc::clone(registry), refused))
        });
        let refused = futures::future::join_all(tries).await;
        refused.into_iter().flatten().collect()
    }

    /// Tries a registry and reports the result. Returns the refusal of another operation, if writes
    /// work.
    async fn try_one(&self, registry: &Replica, end: Instant) -> Result<Option<Failure>, Failure> {
        let url = registry.url();
        let trial = registry.try_conditions(end).await.inspect_err(|failure| {
            tracing::debug!("can't tell whether {url} honours conditions: {failure}");
        })?;
        if !trial.honours_conditions {
            let message = "the store ignores conditional writes: two mounts can overwrite each \
                           other's pushes, although each checks before it writes";
            let event = Event::new(Level::Warn, "conditions-ignored", message);
            self.report(event.with("target", url));
        }
        if let Some(refused) = &trial.refused {
            let message = "the store accepts writes, but refuses other needed operations";
            let event = Event::new(Level::Warn, "denied", message);
            let event = event.with("target", url);
            self.report(event.with("reason", refused.to_string()));
        }
        Ok(trial.refused)
    }

    fn report_unknown(&self, registry: &Replica, failure: &Failure) {
        let message = "can't probe the store for conditional writes, so the mount checks it before \
                       each push; let this mount write, read and delete below .atlasfs/probe";
        let event = Event::new(Level::Warn, "conditions-unknown", message);
        self.report(
            event
                .with("target", registry.url())
                .with("reason", failure.to_string()),
        );
    }

    /// Tries a registry again when it answers, or after a pause.
    fn try_later(self: &Arc<Self>, registry: &Arc<Replica>, failure: &Failure) {
        let mut refused = !failure.is_outage();
        if refused {
            self.report_unknown(registry, failure);
        }
        let (weak, registry) = (Arc::downgrade(self), Arc::clone(registry));
        tokio::spawn(async move {
            loop {
                if refused {
                    sleep(REFUSAL_PAUSE).await;
                } else {
                    sleep(SHORTEST_PAUSE).await;
                    let _ = timeout(OUTAGE_PAUSE - SHORTEST_PAUSE, registry.answered()).await;
                }
                let Some(mount) = Weak::upgrade(&weak) else {
                    return;
                };
                let end = Instant::now() + mount.settings.push;
                let Err(failure) = mount.try_one(&registry, end).await else {
                    return;
                };
                if !refused && !failure.is_outage() {
                    mount.report_unknown(&registry, &failure);
                }
                refused |= !failure.is_outage();
            }
        });
    }
}

impl Replica {
    /// Checks whether a condition holds, unless the store is known to check it.
    ///
    /// # Errors
    ///
    /// [`Kind::Conflict`] if it doesn't; otherwise the registry's failure.
    pub(super) async fn check_condition(
        &self,
        id: &ArtifactId,
        condition: &Condition,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if self.conditions() == Some(true) || *condition == Condition::None {
            return Ok(());
        }
        let there = match self.ask(|target| target.head(id, deadline)).await {
            Ok(meta) => Some(meta.token),
            Err(failure) if failure.kind == Kind::NotFound => None,
            Err(failure) => return Err(failure),
        };
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => there.is_none(),
            Condition::Unchanged(token) => there == Some(Some(token.clone())),
        };
        match holds {
            true => Ok(()),
            false => Err(Failure::new(
                Kind::Conflict,
                format!("another writer has changed {id} at {}", self.url()),
            )),
        }
    }
}
