//! A stamp as a record keeps it.

use std::sync::Arc;

use crate::artifact::Stamp;

/// A stamp, or none, in the room of a pointer. The places of a record, and the inodes of its
/// contents, mostly keep the same one: it is in memory once for all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kept(Option<Arc<Stamp>>);

impl Kept {
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
