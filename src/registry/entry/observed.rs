//! What each target was last seen to hold.

use std::time::SystemTime;

use super::shared_stamp::SharedStamp;
use crate::registry::replica::TargetId;
use crate::store::{Meta, Token};

/// What a target was last seen to hold.
#[derive(Debug, Clone)]
pub(super) struct ObservedState {
    pub(super) token: Option<Token>,
    pub(super) size: u64,
    pub(super) modified: Option<SystemTime>,
    pub(super) stamp: SharedStamp,
    /// The stamp of what it was seen to hold before.
    pub(super) had: SharedStamp,
}

impl ObservedState {
    /// Returns the newest stamp that it was ever seen to hold.
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

/// What all targets were last seen to hold: a map for one to five keys. There is one for each
/// artifact, so it takes no more room than its entries.
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
