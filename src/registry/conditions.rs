//! Whether a registry honours conditional writes, on which the choice between two writers rests.
//!
//! It is tried when a mount begins. A registry that ignores them is told of, and looked at before
//! each push: that leaves a moment in which two mounts can still overwrite each other.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::Registry;
use super::events::{Event, Level};
use super::route::Watched;
use crate::artifact::ArtifactId;
use crate::target::{Condition, Failure, Kind};

/// How long a registry that could not be tried is left in peace. 30 s: as long as one that is
/// skipped, at most.
const PAUSE: Duration = Duration::from_secs(30);

impl Registry {
    /// Tries the registries, all at once, and waits for their answers until `end`; whoever can't
    /// be told by then is tried again in the background.
    pub async fn try_conditions(self: &Arc<Self>, end: Instant) {
        let routes = self.routes.open().iter();
        let tries = routes.map(|route| async move {
            let registry = &route.registry;
            match registry.try_conditions(end).await {
                Ok(honoured) => self.tell_conditions(registry, honoured),
                Err(failure) => self.try_later(registry, &failure),
            }
        });
        futures::future::join_all(tries).await;
    }

    fn tell_conditions(&self, registry: &Watched, honoured: bool) {
        if !honoured {
            let message = "the store ignores conditional writes: two mounts can overwrite each \
                           other's pushes there, though each looks before it writes";
            let event = Event::new(Level::Warn, "conditions-ignored", message);
            self.tell(event.with("target", registry.url()));
        }
    }

    fn tell_unknown(&self, registry: &Watched, failure: &Failure) {
        let message = "the store does not let itself be tried: whether it honours conditional \
                       writes is not known; let this mount write and delete below .atlasfs/probe";
        let event = Event::new(Level::Warn, "conditions-unknown", message);
        self.tell(
            event
                .with("target", registry.url())
                .with("reason", failure.to_string()),
        );
    }

    fn try_later(self: &Arc<Self>, registry: &Arc<Watched>, failure: &Failure) {
        tracing::debug!(
            "can't tell whether {} honours conditions: {failure}",
            registry.url()
        );
        if !failure.is_outage() {
            return self.tell_unknown(registry, failure);
        }
        let (weak, registry) = (Arc::downgrade(self), Arc::clone(registry));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PAUSE).await;
                let Some(mount) = Weak::upgrade(&weak) else {
                    return;
                };
                let end = Instant::now() + mount.settings.push;
                match registry.try_conditions(end).await {
                    Ok(honoured) => return mount.tell_conditions(&registry, honoured),
                    Err(failure) if failure.is_outage() => {}
                    Err(failure) => return mount.tell_unknown(&registry, &failure),
                }
            }
        });
    }

    /// Looks whether a condition holds, where the store itself doesn't.
    ///
    /// # Errors
    ///
    /// [`Kind::Conflict`] if it doesn't; what the registry answered instead.
    pub(super) async fn check_condition(
        &self,
        id: &ArtifactId,
        registry: &Watched,
        condition: &Condition,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if registry.conditions() != Some(false) || *condition == Condition::None {
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
