//! The state of each target as it was last observed, and the stamps that an entry shares.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::Entry;
use crate::model::{Stamp, nanos};
use crate::registry::replica::TargetId;
use crate::store::{Content, Meta, Token};

/// The last observed state of an artifact on one target.
#[derive(Debug, Clone)]
pub(super) struct ObservedState {
    pub(super) token: Option<Token>,
    pub(super) size: u64,
    pub(super) modified: Option<SystemTime>,
    pub(super) stamp: SharedStamp,
    /// The newest stamp that was observed there before.
    pub(super) had: SharedStamp,
}

impl ObservedState {
    /// Returns the newest stamp that was ever observed there.
    pub(super) fn newest(&self) -> SharedStamp {
        self.stamp.clone().max(self.had.clone())
    }

    pub(super) fn is(&self, listed: &Meta) -> bool {
        match (&self.token, &listed.token) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.size == listed.size && self.modified == Some(listed.modified),
        }
    }
}

/// The last observed state on every target: a map for one to five keys. Each artifact has one, so
/// it takes no more memory than its elements.
#[derive(Debug, Clone, Default)]
pub(super) struct ObservedStates(Vec<(TargetId, ObservedState)>);

impl ObservedStates {
    pub(super) fn get(&self, target: &TargetId) -> Option<&ObservedState> {
        let mut all = self.0.iter();
        all.find(|(id, _)| id == target).map(|(_, seen)| seen)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &ObservedState> {
        self.0.iter().map(|(_, seen)| seen)
    }

    pub(super) fn insert(&mut self, target: TargetId, seen: ObservedState) {
        match self.0.iter_mut().find(|(id, _)| *id == target) {
            Some((_, before)) => *before = seen,
            None => {
                self.0.reserve_exact(1);
                self.0.push((target, seen));
            }
        }
    }

    pub(super) fn remove(&mut self, target: &TargetId) {
        self.0.retain(|(id, _)| id != target);
    }

    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An optional stamp in the size of a pointer. The fields of an entry, and the inodes of its
/// contents, mostly hold the same stamp, so they share one copy in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SharedStamp(Option<Arc<Stamp>>);

impl SharedStamp {
    pub(super) fn new(stamp: Option<Stamp>) -> Self {
        Self(stamp.map(Arc::new))
    }

    pub(super) fn get(&self) -> Option<Stamp> {
        self.0.as_deref().copied()
    }

    /// Tells whether both are the same copy in memory.
    #[cfg(test)]
    pub(super) fn is(&self, other: &Self) -> bool {
        let both = self.0.as_ref().zip(other.0.as_ref());
        both.is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }
}

impl Entry {
    /// Returns whether a target has returned an older content, by the store's own time, than it has
    /// listed. Stores cut the times of contents to the second.
    pub fn is_outdated(&self, from: TargetId, content: &Content) -> bool {
        const SECOND: u64 = 1_000_000_000;
        let seen = self.seen.get(&from);
        let listed = seen.and_then(|seen| Some((seen.token.as_ref()?, seen.modified?)));
        let is_another = |listed| content.token.as_ref().is_some_and(|token| token != listed);
        listed.is_some_and(|(token, modified)| {
            is_another(token) && nanos(content.modified) / SECOND < nanos(modified) / SECOND
        })
    }

    /// Returns a shared stamp. If a field of the entry already holds that stamp, shares its copy:
    /// mostly, all fields hold the same one.
    pub(super) fn keep(&self, stamp: Option<Stamp>) -> SharedStamp {
        let current = self.current.iter().map(|known| &known.stamp);
        let seen = self.seen.iter().map(|seen| &seen.stamp);
        let mut kept = current.chain([&self.high_water]).chain(seen);
        kept.find(|kept| kept.get() == stamp)
            .cloned()
            .unwrap_or_else(|| SharedStamp::new(stamp))
    }

    /// Records that the registry has lost the artifact, by an answer to a request begun at `begun`;
    /// returns whether that is news.
    pub fn vanish(&mut self, registry: TargetId, begun: Instant) -> bool {
        if self.pending().contains(&registry)
            || self.is_older_than_replay(registry, begun)
            || self.is_older_than_own_change(begun)
        {
            return false;
        }
        self.seen.remove(&registry);
        self.unidentified = false;
        !std::mem::replace(&mut self.vanished, true)
    }

    /// Returns whether the registry has lost the artifact.
    pub fn has_vanished(&self) -> bool {
        self.vanished
    }
}
