//! Whether a registry honours conditional writes, on which the choice between two writers rests.
//!
//! It is tried when a mount begins, and from then on as soon as it answers. Until it has shown that
//! it honours them, it is looked at before each push: that leaves a moment in which two mounts can
//! still overwrite each other. One that ignores them is told of.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::Registry;
use super::events::{Event, Level};
use super::replica::Replica;
use crate::model::ArtifactId;
use crate::store::{Condition, Failure, Kind};

/// How long a registry that could not be tried is left in peace, unless it answers somebody else
/// meanwhile. 30 s: as long as one that is skipped, at most.
const PAUSE: Duration = Duration::from_secs(30);
/// How long it is left in peace though it answers. 1 s: a probe's pause.
const BREATH: Duration = Duration::from_secs(1);
/// How long one that refuses to be tried is left in peace. 5 min: who has mended a policy mounts
/// anew, or has something else to do meanwhile.
const REFUSED: Duration = Duration::from_secs(300);

impl Registry {
    /// Tries the registries, all at once, and waits for their answers until `end`; whoever can't
    /// be told by then is tried again in the background. Returns what they refuse of what pushes
    /// need.
    pub async fn try_conditions(self: &Arc<Self>, end: Instant) -> Vec<(Arc<Replica>, Failure)> {
        let routes = self.routes.open().iter();
        let routes = routes.filter(|replicas| replicas.has_registry());
        let tries = routes.map(|replicas| async move {
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

    /// Tries a registry, tells of it, and returns what it refuses though it can be written to.
    async fn try_one(&self, registry: &Replica, end: Instant) -> Result<Option<Failure>, Failure> {
        let url = registry.url();
        let trial = registry.try_conditions(end).await.inspect_err(|failure| {
            tracing::debug!("can't tell whether {url} honours conditions: {failure}");
        })?;
        if !trial.honours_conditions {
            let message = "the store ignores conditional writes: two mounts can overwrite each \
                           other's pushes there, though each looks before it writes";
            let event = Event::new(Level::Warn, "conditions-ignored", message);
            self.tell(event.with("target", url));
        }
        if let Some(refused) = &trial.refused {
            let message = "the store lets this mount write, and refuses something else it needs";
            let event = Event::new(Level::Warn, "denied", message);
            let event = event.with("target", url);
            self.tell(event.with("reason", refused.to_string()));
        }
        Ok(trial.refused)
    }

    fn tell_unknown(&self, registry: &Replica, failure: &Failure) {
        let message = "the store does not let itself be tried: whether it honours conditional \
                       writes is not known, and it is looked at before each push; let this mount \
                       write, read and delete below .atlasfs/probe";
        let event = Event::new(Level::Warn, "conditions-unknown", message);
        self.tell(
            event
                .with("target", registry.url())
                .with("reason", failure.to_string()),
        );
    }

    /// Tries a registry again when it answers, or after a while.
    fn try_later(self: &Arc<Self>, registry: &Arc<Replica>, failure: &Failure) {
        let mut refused = !failure.is_outage();
        if refused {
            self.tell_unknown(registry, failure);
        }
        let (weak, registry) = (Arc::downgrade(self), Arc::clone(registry));
        tokio::spawn(async move {
            loop {
                if refused {
                    sleep(REFUSED).await;
                } else {
                    sleep(BREATH).await;
                    let _ = timeout(PAUSE - BREATH, registry.answered()).await;
                }
                let Some(mount) = Weak::upgrade(&weak) else {
                    return;
                };
                let end = Instant::now() + mount.settings.push;
                let Err(failure) = mount.try_one(&registry, end).await else {
                    return;
                };
                if !refused && !failure.is_outage() {
                    mount.tell_unknown(&registry, &failure);
                }
                refused |= !failure.is_outage();
            }
        });
    }

    /// Looks whether a condition holds, where the store itself is not known to.
    ///
    /// # Errors
    ///
    /// [`Kind::Conflict`] if it doesn't; what the registry answered instead.
    pub(super) async fn check_condition(
        &self,
        id: &ArtifactId,
        registry: &Replica,
        condition: &Condition,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if registry.conditions() == Some(true) || *condition == Condition::None {
            return Ok(());
        }
        let there = match registry.ask(|target| target.head(id, deadline)).await {
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
                format!("somebody else has written {id} at {}", registry.url()),
            )),
        }
    }
}
