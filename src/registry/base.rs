//! The base of a push: the content that it replaces.

use super::entry::Revision;
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::Stamp;

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
        let again = self.attempt.filter(|attempt| {
            attempt.sha256 == fresh.sha256
                && attempt.format == fresh.format
                && attempt.when >= newest
        });
        *self.attempt.insert(again.unwrap_or(fresh))
    }
}
