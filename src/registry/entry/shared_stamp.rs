//! A stamp as a record keeps it.

use std::sync::Arc;

use super::Entry;
use crate::model::Stamp;

/// A stamp, or none, in the room of a pointer. The places of a record, and the inodes of its
/// contents, mostly keep the same one: it is in memory once for all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SharedStamp(Option<Arc<Stamp>>);

impl SharedStamp {
    pub(super) fn new(stamp: Option<Stamp>) -> Self {
        Self(stamp.map(Arc::new))
    }

    pub(super) fn get(&self) -> Option<Stamp> {
        self.0.as_deref().copied()
    }

    /// Tells whether both are the same one in memory.
    #[cfg(test)]
    pub(super) fn is(&self, other: &Self) -> bool {
        let both = self.0.as_ref().zip(other.0.as_ref());
        both.is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }
}

impl Entry {
    /// Makes what keeps a stamp: if the record keeps it already, that, for it is mostly the same
    /// one in every place.
    pub(super) fn keep(&self, stamp: Option<Stamp>) -> SharedStamp {
        let current = self.current.iter().map(|known| &known.stamp);
        let seen = self.seen.iter().map(|seen| &seen.stamp);
        let mut kept = current.chain([&self.high_water]).chain(seen);
        kept.find(|kept| kept.get() == stamp)
            .cloned()
            .unwrap_or_else(|| SharedStamp::new(stamp))
    }
}
