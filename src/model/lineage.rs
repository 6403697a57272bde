//! The lineage of a content: what it replaced, and what that had replaced.

use super::{Base, Sha256, Stamp};

/// How many replaced contents a lineage names. Longer ones lose their oldest contents: a target that
/// has missed more pushes than that is rare, and costs a person's decision.
const LONGEST: usize = 64;

/// A content, and the contents that it replaced, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// The hash of the content.
    pub sha256: Sha256,
    /// The time of its stamp, which tells apart two pushes of the same bytes.
    pub when: Option<u64>,
    /// The hashes of the contents that it replaced, newest first.
    pub past: Vec<Sha256>,
}

impl Lineage {
    /// Makes the lineage of a content from its stamp, if the store keeps one, and the known past.
    pub fn new(stamp: &Stamp, stamped: bool, past: &[Sha256]) -> Self {
        let mut lineage = Self {
            sha256: stamp.sha256,
            when: stamped.then_some(stamp.when),
            past: Vec::new(),
        };
        lineage.extend(stamp.base.content().into_iter().chain(past.iter().copied()));
        lineage
    }

    /// Adds older contents.
    pub fn extend(&mut self, past: impl IntoIterator<Item = Sha256>) {
        for sha256 in past {
            if !self.holds(sha256) && self.past.len() < LONGEST {
                self.past.push(sha256);
            }
        }
    }

    /// Tells whether a content is this one, or one that it replaced.
    pub fn holds(&self, sha256: Sha256) -> bool {
        self.sha256 == sha256 || self.past.contains(&sha256)
    }

    /// Tells whether a push may be replaced by one that replaces this content: it has the same bytes, or
    /// is one before it. A later push of the bytes of an earlier one is a roll-back, and is neither.
    pub fn covers_push(&self, push: &Stamp, stamped: bool) -> bool {
        let is_later = stamped && self.when.is_some_and(|when| push.when > when);
        let is_rollback = is_later && push.base != Base::Unknown;
        push.sha256 == self.sha256 || (self.past.contains(&push.sha256) && !is_rollback)
    }

    /// Tells whether deleting this content deletes a push, too: it is this one or one before it, and
    /// no later push of the same bytes.
    pub fn covers(&self, push: &Stamp, stamped: bool) -> bool {
        let when = self.when.filter(|_| stamped);
        if push.sha256 == self.sha256 && when == Some(push.when) {
            return true;
        }
        // A stamp without a base may have been made for a content that was put there by hand.
        let is_later = when.is_some_and(|when| push.when > when) && push.base != Base::Unknown;
        self.holds(push.sha256) && !is_later && push.base != Base::Deleted(self.sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Format;

    fn stamp(when: u64, content: &[u8], base: Base) -> Stamp {
        Stamp {
            base,
            ..Stamp::new(when, content, Format::Hcl)
        }
    }

    #[test]
    fn a_lineage_names_the_newest_contents_once() {
        let base = Base::Content(Sha256::of(b"2"));
        let mut lineage = Lineage::new(&stamp(3, b"3", base), true, &[Sha256::of(b"1")]);
        lineage.extend((0..100_u64).map(|n| Sha256::of(&n.to_le_bytes())));
        lineage.extend([Sha256::of(b"2")]);
        assert_eq!(lineage.past[..2], [Sha256::of(b"2"), Sha256::of(b"1")]);
        assert_eq!(lineage.past.len(), LONGEST);
        assert!(lineage.holds(Sha256::of(b"3")));
        assert!(!lineage.holds(Sha256::of(b"4")));
    }

    #[test]
    fn a_deletion_covers_its_content_and_those_before_it() {
        let (v1, v2) = (stamp(1, b"1", Base::New), Base::Content(Sha256::of(b"1")));
        let v2 = stamp(2, b"2", v2);
        let deleted = Lineage::new(&v2, true, &[]);
        assert!(deleted.covers(&v2, true));
        assert!(deleted.covers(&v1, true));
        assert!(deleted.covers(&stamp(9, b"2", Base::Unknown), false));
        assert!(!deleted.covers(&stamp(1, b"other", Base::New), true));
    }

    #[test]
    fn a_deletion_covers_no_later_push_of_the_same_bytes() {
        let v1 = stamp(1, b"1", Base::New);
        let v2 = stamp(2, b"2", Base::Content(v1.sha256));
        let deleted = Lineage::new(&v2, true, &[]);
        let again = stamp(3, b"2", Base::Deleted(v2.sha256));
        assert!(!deleted.covers(&again, true));
        assert!(!deleted.covers(&stamp(4, b"1", Base::Content(again.sha256)), true));
    }
}
