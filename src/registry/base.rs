//! The base of a push: the content that it replaces.

use tokio::time::Instant;

use super::entry::Revision;
use super::fallback::registry_deadline;
use super::{Durability, Registry};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{ArtifactId, Stamp};

/// The reason for a conflict that the mount detects without asking the registry.
pub(super) const MOVED_ON: &str = "another push or deletion has changed it since it was opened";

/// The content that a handle was opened on, which its push may replace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BaseVersion {
    /// The content's revision; `None` if the artifact did not exist.
    pub(super) revision: Option<u64>,
    /// The handle's own push that seems to have failed.
    pub(super) attempt: Option<Stamp>,
}

impl BaseVersion {
    /// Returns the base of a handle that is opened now.
    pub fn of(known: Option<&Revision>) -> Self {
        Self {
            revision: known.map(|known| known.revision),
            attempt: None,
        }
    }

    /// Returns whether the artifact did not exist.
    pub fn is_absent(&self) -> bool {
        self.revision.is_none()
    }

    /// Returns whether the base is still the newest content. A failed push of the same handle may
    /// have reached a target all the same; that is no conflict.
    pub(super) fn is(&self, current: Option<&Revision>) -> bool {
        #[cfg(test)]
        if injected(Bug::BaseIgnored) {
            return true;
        }
        let own = current.and_then(|known| known.stamp());
        self.revision == current.map(|known| known.revision)
            || (own.is_some() && own == self.attempt)
    }

    /// Returns the stamp for a push. A close that retries the same content keeps the stamp: it is
    /// the same push, and some target may have it already. It gets a new one if another push was
    /// tried since, `newest`, which some target may have as well.
    pub(super) fn attempt(&mut self, fresh: Stamp, newest: u64) -> Stamp {
        let again = self
            .attempt
            .filter(|attempt| attempt.is_alike(&fresh) && attempt.when >= newest);
        *self.attempt.insert(again.unwrap_or(fresh))
    }
}

impl Registry {
    /// Tells whether a push would change nothing: the registry says that it holds the same content, and
    /// no target is known to lack it.
    pub(super) async fn has_already(
        &self,
        id: &ArtifactId,
        stamp: &Stamp,
        base: &BaseVersion,
        end: Instant,
    ) -> bool {
        let is_likely = self.index.peek(id, |entry| {
            let is_base = base.revision == entry.revision();
            let is_alike = entry.current().is_some_and(|known| match known.stamp() {
                Some(known) => known.is_alike(stamp),
                None => known.size == stamp.size,
            });
            is_base && is_alike && entry.error().is_none() && entry.pending().is_empty()
        });
        // Another push of the same content decides a conflict.
        let is_settled = || self.journal.select(|record| record.id == *id).is_empty();
        let Ok(replicas) = self.replicas(&id.section()) else {
            return false;
        };
        if is_likely != Some(true) || !is_settled() {
            return false;
        }
        let end = registry_deadline(replicas, end);
        let deciders = match self.settings.durability {
            Durability::All => replicas.targets().collect(),
            Durability::Any | Durability::Registry => vec![&replicas.registry],
        };
        let heads = deciders
            .into_iter()
            .map(|target| target.ask(|target| target.head(id, end)));
        let heads = futures::future::join_all(heads).await;
        heads.into_iter().all(|meta| {
            let there = meta.ok().and_then(|meta| meta.stamp);
            there.is_some_and(|it| it.is_alike(stamp))
        })
    }
}
