//! A push on its way: what it may replace, and how far it has come.

use std::sync::Arc;

use bytes::Bytes;

use super::entry::Revision;
use super::replica::{Replica, ReplicaSet, TargetId};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{ArtifactId, Stamp};
use crate::store::{Failure, Token};

/// Why a push is a conflict, where the mount knows it without asking the registry.
pub(super) const MOVED_ON: &str = "it has been pushed, or deleted, since it was opened";

/// What a handle was opened on: the content that its push may replace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BaseVersion {
    /// The content's number; `None` if there was no such artifact.
    pub(super) revision: Option<u64>,
    /// The handle's own push that has failed, as far as anybody knows.
    pub(super) attempt: Option<Stamp>,
}

impl BaseVersion {
    /// Returns the base that a handle has which is opened now.
    pub fn of(known: Option<&Revision>) -> Self {
        Self {
            revision: known.map(|known| known.revision),
            attempt: None,
        }
    }

    /// Tells whether there was no such artifact.
    pub fn is_absent(&self) -> bool {
        self.revision.is_none()
    }

    /// Tells whether the base is still the newest content. A failed push of this very handle that
    /// a target has got all the same is nobody else's.
    pub(super) fn is(&self, current: Option<&Revision>) -> bool {
        #[cfg(test)]
        if injected(Bug::BaseIgnored) {
            return true;
        }
        let own = current.and_then(|known| known.stamp());
        self.revision == current.map(|known| known.revision)
            || (own.is_some() && own == self.attempt)
    }

    /// Returns the stamp for a push. One that is tried again, by the next close after a failed
    /// one, is the same push: a target that has got it by then has got it.
    pub(super) fn attempt(&mut self, fresh: Stamp) -> Stamp {
        let again = self
            .attempt
            .filter(|attempt| attempt.sha256 == fresh.sha256 && attempt.format == fresh.format);
        *self.attempt.insert(again.unwrap_or(fresh))
    }
}

/// How long a push waits for backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until its deadline.
    ForAll,
    /// Once the verdict is decided, for as long as a target has to answer a listing. The journal
    /// gives a slower backup the push later.
    ForVerdict,
}

/// A document on its way, and how far it has come.
pub(super) struct Push<'a> {
    pub(super) id: &'a ArtifactId,
    pub(super) replicas: &'a ReplicaSet,
    pub(super) content: &'a Bytes,
    pub(super) stamp: Stamp,
    /// An earlier push of the same handle that has failed, as far as anybody knows.
    pub(super) attempt: Option<Stamp>,
    pub(super) got: Vec<(TargetId, Option<Token>)>,
    pub(super) missing: Vec<(&'a Arc<Replica>, Failure)>,
}
