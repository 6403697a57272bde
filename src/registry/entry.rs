//! The index's entry for one artifact, and the rules for accepting what a target returns.
//!
//! Pure bookkeeping, without a clock or a store, so that every rule is a test: a mount never goes
//! back in time, content from a target that is behind is not accepted, and a push that the registry
//! has not got yet does not count as deleted.

mod ancestry;
mod facts;
mod observed;
mod pending;
mod revision;

use tokio::time::Instant;

use super::replica::TargetId;
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::Stamp;
use crate::store::{Content, Meta};

use observed::{ObservedState, ObservedStates, SharedStamp};
use pending::PendingState;
use revision::unique_time;

pub use facts::{Facts, Shown};
pub use revision::{Expectation, Freshness, Revision, Source, View};

/// The mount's knowledge of one artifact. Every listed artifact has an entry, so fields that few of
/// them need are kept apart.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    current: Option<Revision>,
    /// The newest stamp that this mount has served, shown or pushed.
    high_water: SharedStamp,
    seen: ObservedStates,
    /// The registry lists a content that the mount has not identified yet.
    unidentified: bool,
    /// The registry has answered that the artifact is absent.
    gone: bool,
    /// The registry lacks the artifact, and has no tombstone for it.
    vanished: bool,
    /// The last pull was a look-up's: the open that follows finds the bytes in the cache, and yet
    /// their source is the target that answered the look-up.
    looked_up: bool,
    /// The source of the last pull.
    source: Option<Source>,
    own: Option<Box<PendingState>>,
}

impl Entry {
    /// Returns the newest known content, if the artifact exists.
    pub fn current(&self) -> Option<&Revision> {
        self.current.as_ref()
    }

    /// Returns the newest known content for display: its time is fixed from now on.
    pub fn show(&mut self) -> Option<Revision> {
        let current = self.current.as_mut()?;
        current.shown = true;
        Some(current.clone())
    }

    /// Returns whether only a read can tell the newest content, or with `stamp` its stamp.
    pub fn must_be_read(&self, stamp: bool) -> bool {
        let current = self.current.as_ref();
        let unread =
            current.is_some_and(|known| known.stamp().is_none() && (stamp || !known.shown));
        self.unidentified || unread
    }

    /// Returns whether the registry lists a content that must be read before anything is served.
    pub fn is_unidentified(&self) -> bool {
        self.unidentified
    }

    /// Returns the source of the last pull.
    pub fn source(&self) -> Option<Source> {
        self.source
    }

    /// Records the source of a pull.
    pub fn answered(&mut self, source: Source) {
        let looked_up = std::mem::take(&mut self.looked_up);
        let before = self.source.filter(|_| looked_up && source == Source::Cache);
        self.source = before.or(Some(source));
    }

    /// Records that the last pull was a look-up's own, and no reader's yet.
    pub fn was_looked_up(&mut self) {
        self.looked_up = true;
    }

    /// Returns the revision of the newest known content.
    pub fn revision(&self) -> Option<u64> {
        self.current().map(|known| known.revision)
    }

    /// Returns whether the registry lists an unread content that is not the newest known one: the
    /// size differs, or the newest one was known `before` the registry listed its content.
    pub fn lists_another(&self, registry: TargetId, before: Option<u64>) -> bool {
        let unread = self.unread(registry);
        let size = self.current().map(|known| known.size);
        unread.is_some_and(|seen| {
            Some(seen.size) != size || (self.unidentified && self.revision() == before)
        })
    }

    /// Records that content was served without the registry's confirmation. If the registry lists
    /// an unread content, the next read asks the registry.
    pub fn unconfirmed(&mut self, registry: TargetId) {
        self.unidentified |= self.unread(registry).is_some();
    }

    fn unread(&self, registry: TargetId) -> Option<&ObservedState> {
        let seen = self.seen.get(&registry);
        seen.filter(|seen| seen.stamp.get().is_none())
    }

    /// Returns whether the entry holds nothing that could not be learned again.
    pub fn is_blank(&self) -> bool {
        self.current.is_none()
            && self.high_water.get().is_none()
            && !self.gone
            && self.error().is_none()
            && self.attempted() == 0
            && self.seen.is_empty()
    }

    /// Returns whether the registry has answered that the artifact is absent.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Returns whether the entry holds nothing but a deletion.
    pub fn is_deletion(&self) -> bool {
        self.gone && self.current.is_none() && self.error().is_none()
    }

    /// Updates the entry from a target's listing, begun at `begun`, that holds the artifact.
    pub fn listed(
        &mut self,
        from: TargetId,
        is_registry: bool,
        listed: &Meta,
        begun: Instant,
        revision: impl FnOnce() -> u64,
    ) {
        if self.is_older_than_own_change(begun) || (self.gone && !is_registry) {
            return;
        }
        let before = self.seen.get(&from).filter(|seen| seen.is(listed));
        let unchanged = before.is_some();
        let stamp = listed.stamp.or(before.and_then(|seen| seen.stamp.get()));
        let seen = ObservedState {
            token: listed.token.clone(),
            size: listed.size,
            modified: Some(listed.modified),
            stamp: self.keep(stamp),
            had: SharedStamp::default(),
        };
        self.saw(from, seen);
        if is_registry {
            (self.gone, self.vanished) = (false, false);
        }
        match stamp {
            Some(stamp) => {
                if is_registry {
                    self.unidentified = false;
                }
                let is_old = self.is_old(from, is_registry, &stamp);
                if self.is_newer(&stamp) && !is_old {
                    self.follow(from, is_registry, &stamp);
                    self.accept(from, stamp, revision);
                }
                self.settle(from, &stamp, begun);
            }
            None if unchanged && self.current.is_some() => {}
            None if self.high_water.get().is_some() => {
                // Don't ask a backup for unknown content: it may just be behind, and the registry
                // or the cache has the newest content.
                self.unidentified |= is_registry;
                if self.current.is_none() {
                    self.set_unstamped(from, listed, revision);
                }
            }
            None => {
                let settled = self
                    .current
                    .as_ref()
                    .is_some_and(|known| known.from != from);
                if is_registry || !settled {
                    self.set_unstamped(from, listed, revision);
                }
            }
        }
    }

    /// Updates the entry from a target's listing, begun at `begun`, that lacks the artifact.
    /// `decides`: the listing is the registry's, and its answer counts.
    pub fn unlisted(&mut self, from: TargetId, decides: bool, begun: Instant) {
        if self.is_older_than_own_change(begun) {
            return;
        }
        self.seen.remove(&from);
        if decides && !self.vanished {
            self.absent(from, begun);
        }
    }

    /// Updates the entry from the registry's answer, to a request begun at `begun`, that the
    /// artifact is absent. Returns whether the answer is accepted: a push that is pending for the
    /// registry can't be there yet.
    pub fn absent(&mut self, registry: TargetId, begun: Instant) -> bool {
        if self.pending().contains(&registry)
            || self.is_older_than_replay(registry, begun)
            || self.is_older_than_own_change(begun)
        {
            return false;
        }
        self.end_lineage();
        self.seen.clear();
        self.current = None;
        // Content that appears after a deletion begins anew, even if it is a restored old copy.
        self.high_water = SharedStamp::default();
        self.unidentified = false;
        (self.gone, self.vanished) = (true, false);
        self.own_mut().changed = Some(begun);
        true
    }

    /// Records that the registry lists a content and can't return it. The mount doesn't ask for it
    /// again until the registry lists another one.
    pub fn unreadable(&mut self) {
        self.unidentified = false;
    }

    /// Records a content that a target returned to a request begun at `begun`, and decides whether
    /// to accept it.
    pub fn read(
        &mut self,
        from: TargetId,
        is_registry: bool,
        content: &Content,
        begun: Instant,
        revision: impl FnOnce() -> u64,
    ) -> Freshness {
        // Content without a stamp counts as newer than a replay, unless the replay overwrote it.
        let is_overwritten = !content.stamped && self.is_older_than_replay(from, begun);
        if is_overwritten || self.is_older_than_own_change(begun) {
            return Freshness::Behind;
        }
        let before = self.seen.get(&from).filter(|seen| match &seen.token {
            Some(_) => seen.token == content.token,
            None => seen.size == content.stamp.size,
        });
        let same_object = before.is_some();
        let modified = before.and_then(|seen| seen.modified);
        let stamp = match content.stamped {
            true => content.stamp,
            false => self.stamp_by_hand(from, is_registry, &content.stamp),
        };
        let seen = ObservedState {
            token: content.token.clone(),
            size: stamp.size,
            modified,
            stamp: self.keep(Some(stamp)),
            had: SharedStamp::default(),
        };
        self.saw(from, seen);
        if is_registry {
            self.unidentified = false;
        }
        let is_current = self
            .current
            .as_ref()
            .is_some_and(|known| match known.stamp() {
                Some(known) => known == stamp,
                None => known.from == from && same_object,
            });
        let is_old = self.is_old(from, is_registry, &stamp);
        let is_newest = Some(stamp) >= self.high_water.get() && !is_old;
        if is_current {
            self.identify(stamp);
        } else if is_newest || self.is_replaced_by(&stamp) {
            self.follow(from, is_registry, &stamp);
            self.accept(from, stamp, revision);
        } else {
            return Freshness::Behind;
        }
        if is_registry {
            (self.gone, self.vanished) = (false, false);
        }
        self.settle(from, &stamp, begun);
        Freshness::Current
    }

    /// Returns the stamp of a content that was put into a store by hand. It has only the store's
    /// own time, which comes from another clock and is often cut to the second. Content that
    /// replaces the newest known content by hand counts as later than that.
    fn stamp_by_hand(&self, from: TargetId, is_registry: bool, made: &Stamp) -> Stamp {
        let known = self.seen.get(&from).and_then(|seen| seen.stamp.get());
        if let Some(known) = known.filter(|known| known.sha256 == made.sha256) {
            return known;
        }
        let had = self.seen.get(&from).and_then(|seen| seen.newest().get());
        match self.high_water.get() {
            // An earlier mount has read these bytes there, and they are the newest known ones.
            Some(high_water) if is_registry && high_water.sha256 == made.sha256 => high_water,
            Some(high_water) if is_registry && had == Some(high_water) => Stamp {
                when: made.when.max(high_water.when.saturating_add(1)),
                ..*made
            },
            _ => *made,
        }
    }

    /// Returns the known state of the registry, for a push that replaces the current content.
    pub fn view(&self, registry: TargetId) -> View {
        let seen = self.seen.get(&registry);
        let newest = self.current().and_then(Revision::stamp);
        let expectation = match (&self.current, seen) {
            (None, None) if !self.unidentified => Expectation::Absent,
            (Some(current), Some(seen)) if !self.unidentified => {
                let is_current = match current.stamp() {
                    Some(stamp) => seen.stamp.get() == Some(stamp),
                    None => current.from == registry,
                };
                match &seen.token {
                    Some(token) if is_current => Expectation::Token(token.clone()),
                    _ => Expectation::Ask,
                }
            }
            _ => Expectation::Ask,
        };
        View {
            expectation,
            newest,
            may_be_absent: self.current.is_none()
                || self.vanished
                || self.pending().contains(&registry),
        }
    }

    fn saw(&mut self, target: TargetId, seen: ObservedState) {
        let before = self.seen.get(&target);
        let had = before.map(ObservedState::newest).unwrap_or_default();
        self.seen.insert(target, ObservedState { had, ..seen });
    }

    fn is_older_than_replay(&self, target: TargetId, begun: Instant) -> bool {
        let settled = self.own().settled.get(&target);
        settled.is_some_and(|settled| begun < *settled)
    }

    fn is_older_than_own_change(&self, begun: Instant) -> bool {
        self.own().changed.is_some_and(|changed| begun < changed)
    }

    /// Returns whether a stamp is at least as new as everything that the mount has served or shown.
    fn is_newer(&self, stamp: &Stamp) -> bool {
        #[cfg(test)]
        if injected(Bug::OldStampBelieved) {
            return true;
        }
        let current = self.current().and_then(Revision::stamp);
        let is_newest = Some(*stamp) >= self.high_water.get() && Some(*stamp) >= current;
        is_newest || self.is_replaced_by(stamp)
    }

    /// Sets the stamp of the newest known content.
    fn identify(&mut self, stamp: Stamp) {
        let kept = self.keep(Some(stamp));
        if let Some(known) = &mut self.current {
            known.stamp = kept.clone();
            known.size = stamp.size;
            if !known.shown {
                known.time = stamp.time();
            }
        }
        self.high_water = std::mem::take(&mut self.high_water).max(kept);
    }

    /// Makes a stamped content the newest known one: nothing older is accepted after it.
    fn accept(&mut self, from: TargetId, stamp: Stamp, revision: impl FnOnce() -> u64) {
        let kept = self.keep(Some(stamp));
        if self
            .current
            .as_ref()
            .is_none_or(|known| known.stamp != kept)
        {
            self.current = Some(Revision {
                revision: revision(),
                size: stamp.size,
                time: stamp.time(),
                stamp: kept.clone(),
                from,
                shown: false,
            });
        }
        self.high_water = kept;
    }

    fn set_unstamped(&mut self, from: TargetId, listed: &Meta, revision: impl FnOnce() -> u64) {
        self.current = Some(Revision {
            revision: revision(),
            size: listed.size,
            time: unique_time(listed),
            stamp: SharedStamp::default(),
            from,
            shown: false,
        });
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
