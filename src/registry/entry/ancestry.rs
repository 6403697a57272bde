//! The lineage of an entry's newest content: what it replaced, as far as this mount has seen.

use super::Entry;
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{Base, Lineage, Sha256, Stamp};
use crate::registry::replica::TargetId;

impl Entry {
    /// Returns the base of a push that is made now.
    pub fn base(&self) -> Base {
        match (&self.current, self.own().deleted) {
            (Some(known), _) => known
                .stamp()
                .map_or(Base::Unknown, |stamp| Base::Content(stamp.sha256)),
            (None, Some(deleted)) => Base::Deleted(deleted),
            (None, None) => Base::New,
        }
    }

    /// Returns the lineage of the newest known content, if that has been read.
    pub fn lineage(&self) -> Option<Lineage> {
        let stamp = self.current.as_ref()?.stamp()?;
        Some(Lineage::new(&stamp, true, &self.own().past))
    }

    /// Tells whether a target was seen to hold the newest known content.
    pub fn was_on(&self, target: TargetId) -> bool {
        let newest = self.current.as_ref().and_then(|known| known.stamp());
        let seen = self.seen.get(&target);
        newest.is_some() && seen.is_some_and(|seen| seen.newest().get() == newest)
    }

    /// Tells whether the newest known content was listed by a target, and not read yet.
    pub fn is_unread_on(&self, target: TargetId) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|known| known.from == target && known.stamp().is_none())
    }

    /// Restores the past of a push from the journal.
    pub fn remember_past(&mut self, replaces: Option<&Lineage>) {
        let past = replaces.into_iter().flat_map(|replaces| {
            let past = replaces.past.iter().copied();
            std::iter::once(replaces.sha256).chain(past)
        });
        self.own_mut().past = past.collect();
    }

    /// Tells whether a push has replaced the newest known content. Its time may be earlier, by
    /// another clock.
    pub(super) fn is_replaced_by(&self, stamp: &Stamp) -> bool {
        let current = self.current.as_ref().and_then(|known| known.stamp());
        current.is_some_and(|current| {
            stamp.base == Base::Content(current.sha256)
                && stamp.sha256 != current.sha256
                && !self.is_past(stamp.sha256)
        })
    }

    /// Tells whether the content of a target is before the newest known one, whatever its time says.
    pub(super) fn is_old(&self, from: TargetId, is_registry: bool, stamp: &Stamp) -> bool {
        #[cfg(test)]
        if injected(Bug::OldStampBelieved) {
            return false;
        }
        match is_registry {
            // The registry that misses the newest content still holds one before it.
            true => self.pending().contains(&from) && self.is_before(stamp),
            false => self.is_before(stamp) || self.is_lost(stamp),
        }
    }

    /// Tells whether the newest known content has replaced a push, whose time may be later, by another
    /// clock. A later push of the same bytes that is not based on the newest content looks the same,
    /// so this does not count for a registry that has had the newest content.
    fn is_before(&self, stamp: &Stamp) -> bool {
        let current = self.lineage();
        current.is_some_and(|current| {
            current.sha256 != stamp.sha256
                && current.past.contains(&stamp.sha256)
                && stamp.base != Base::Content(current.sha256)
        })
    }

    /// Tells whether the newest known content has replaced a content.
    fn is_past(&self, sha256: Sha256) -> bool {
        self.lineage()
            .is_some_and(|lineage| lineage.past.contains(&sha256))
    }

    /// Follows the lineage to the content that is about to become the newest one. The registry takes
    /// a content in place of another only.
    pub(super) fn follow(&mut self, from: TargetId, is_registry: bool, stamp: &Stamp) {
        let Some(old) = self.lineage() else {
            return;
        };
        if old.sha256 == stamp.sha256 {
            return;
        }
        let before = self.seen.get(&from).and_then(|seen| seen.had.get());
        let moved = is_registry && before.is_some_and(|before| Some(before.when) == old.when);
        let past = match moved || stamp.base == Base::Content(old.sha256) {
            true => std::iter::once(old.sha256).chain(old.past).collect(),
            false => Vec::new(),
        };
        if !past.is_empty() || self.own.is_some() {
            let own = self.own_mut();
            (own.past, own.deleted) = (past, None);
        }
    }

    /// Remembers the content that is deleted now.
    pub(super) fn end_lineage(&mut self) {
        let deleted = self.lineage().map(|lineage| lineage.sha256);
        let own = self.own_mut();
        own.past = Vec::new();
        own.deleted = deleted.or(own.deleted);
    }
}
