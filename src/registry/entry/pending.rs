//! The effects of this mount's own pushes and deletions on an entry.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::observed::ObservedState;
use super::revision::Revision;
use super::{Entry, SharedStamp};
use crate::model::{Sha256, Stamp};
use crate::registry::replica::TargetId;
use crate::store::Token;

/// The effects of this mount's own pushes and deletions on an entry, and of the registry's report
/// that the artifact is absent.
#[derive(Debug, Clone, Default)]
pub(super) struct PendingState {
    /// The targets that are still missing this mount's newest push.
    pub(super) pending: BTreeSet<TargetId>,
    /// When each target got its pending push. A request begun earlier knows nothing of that push.
    pub(super) settled: BTreeMap<TargetId, Instant>,
    /// When this mount's own last push or deletion ended. A listing begun earlier knows nothing of
    /// it.
    pub(super) changed: Option<Instant>,
    /// The time of the newest stamp that this mount has tried to push, or 0. Some target may have
    /// it, even if the push has failed.
    pub(super) attempted: u64,
    /// Why the last push failed; cleared by the next one that succeeds.
    pub(super) error: Option<String>,
    /// The contents that the newest one replaced, newest first.
    pub(super) past: Vec<Sha256>,
    /// The content that was deleted last, if the artifact has not been pushed since.
    pub(super) deleted: Option<Sha256>,
    /// A push of this mount that conflicts with the registry's content. Its bytes are kept.
    pub(super) lost: Option<Stamp>,
    /// The receipt of the last push that succeeded, as JSON.
    pub(super) receipt: Option<String>,
}

/// The state of nearly every artifact.
static NOTHING: PendingState = PendingState {
    pending: BTreeSet::new(),
    settled: BTreeMap::new(),
    changed: None,
    attempted: 0,
    error: None,
    past: Vec::new(),
    deleted: None,
    lost: None,
    receipt: None,
};

impl Entry {
    /// Returns the targets that are still missing this mount's newest push.
    pub fn pending(&self) -> &BTreeSet<TargetId> {
        &self.own().pending
    }

    /// Returns the time of the newest stamp that this mount has tried to push.
    pub fn attempted(&self) -> u64 {
        self.own().attempted
    }

    /// Records a stamp that this mount is about to push.
    pub fn attempt(&mut self, stamp: &Stamp) {
        let own = self.own_mut();
        own.attempted = own.attempted.max(stamp.when);
    }

    /// Returns why the last push failed, unless one has succeeded since.
    pub fn error(&self) -> Option<&str> {
        self.own().error.as_deref()
    }

    /// Records why the last push failed.
    pub fn failed(&mut self, error: String) {
        self.own_mut().error = Some(error);
    }

    /// Forgets why the last push failed. Tells whether it had failed.
    pub fn forget_error(&mut self) -> bool {
        let own = self.own.as_mut();
        own.is_some_and(|own| own.error.take().is_some())
    }

    /// Returns the receipt of the last push that succeeded, as JSON.
    pub fn receipt(&self) -> Option<&str> {
        self.own().receipt.as_deref()
    }

    /// Records the receipt of a push that has succeeded.
    pub fn set_receipt(&mut self, receipt: String) {
        self.own_mut().receipt = Some(receipt);
    }

    /// Records this mount's own push: the targets that have it, with their tokens, and the targets
    /// that are missing it.
    pub fn pushed(
        &mut self,
        stamp: Stamp,
        got: &[(TargetId, Option<Token>)],
        missing: &[TargetId],
        at: Instant,
        revision: impl FnOnce() -> u64,
    ) {
        self.vanished = false;
        for (target, token) in got {
            let seen = ObservedState {
                token: token.clone(),
                size: stamp.size,
                modified: None,
                stamp: self.keep(Some(stamp)),
                had: SharedStamp::default(),
            };
            self.saw(*target, seen);
        }
        let from = got
            .first()
            .map_or(TargetId::default(), |(target, _)| *target);
        self.follow(from, false, &stamp);
        self.accept(from, stamp, revision);
        self.gone = false;
        self.unidentified = false;
        let own = self.own_mut();
        own.pending = missing.iter().copied().collect();
        own.changed = Some(at);
        own.error = None;
        own.lost = None;
    }

    /// Records that a push of this mount conflicts with the registry, which holds `there`. The registry
    /// decides.
    pub fn yield_to(
        &mut self,
        registry: TargetId,
        (there, token): (Stamp, Option<Token>),
        lost: Stamp,
        at: Instant,
        revision: impl FnOnce() -> u64,
    ) {
        let is_newest = self.current().and_then(Revision::stamp) == Some(lost);
        let own = self.own_mut();
        own.pending.clear();
        own.lost = Some(lost);
        if !is_newest {
            return;
        }
        let seen = ObservedState {
            token,
            size: there.size,
            modified: None,
            stamp: self.keep(Some(there)),
            had: SharedStamp::default(),
        };
        self.seen.insert(registry, seen);
        self.follow(registry, false, &there);
        self.accept(registry, there, revision);
        self.unidentified = false;
        self.own_mut().changed = Some(at);
    }

    /// Tells whether a content is a push that conflicts with the registry's.
    pub(super) fn is_lost(&self, stamp: &Stamp) -> bool {
        self.current.is_some() && self.own().lost.as_ref() == Some(stamp)
    }

    /// Records that a target got its pending push.
    pub fn given(&mut self, target: TargetId, stamp: &Stamp, token: Option<Token>, at: Instant) {
        if let Some(token) = token {
            let seen = ObservedState {
                token: Some(token),
                size: stamp.size,
                modified: None,
                stamp: self.keep(Some(*stamp)),
                had: SharedStamp::default(),
            };
            self.saw(target, seen);
        }
        self.settle(target, stamp, at);
    }

    /// Records this mount's own deletion.
    pub fn deleted(&mut self, at: Instant) {
        self.end_lineage();
        self.current = None;
        self.high_water = SharedStamp::default();
        self.seen.clear();
        self.unidentified = false;
        (self.gone, self.vanished) = (true, false);
        let own = self.own_mut();
        own.pending.clear();
        own.changed = Some(at);
        own.error = None;
        own.receipt = None;
    }

    /// Clears the pending push of a target that holds a stamp at least as new as the current one.
    pub(super) fn settle(&mut self, target: TargetId, stamp: &Stamp, at: Instant) {
        let newest = self.current().and_then(Revision::stamp);
        if newest.is_none_or(|newest| *stamp >= newest)
            && let Some(own) = &mut self.own
            && own.pending.remove(&target)
        {
            own.settled.insert(target, at);
        }
    }

    pub(super) fn own(&self) -> &PendingState {
        self.own.as_deref().unwrap_or(&NOTHING)
    }

    pub(super) fn own_mut(&mut self) -> &mut PendingState {
        self.own.get_or_insert_default()
    }
}
