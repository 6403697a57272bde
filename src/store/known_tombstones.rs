//! The tombstones of a target that have been read: they never change.

use std::collections::{HashMap, HashSet};

use crate::model::Lineage;

/// How many tombstones are remembered.
const REMEMBERED: usize = 10_000;

/// The tombstones of a target that have been read.
#[derive(Debug, Default)]
pub(super) struct KnownTombstones {
    /// The contents that they name, by their keys.
    pub(super) deletes: HashMap<String, Option<Lineage>>,
    /// The keys of those that no key of this mount has signed.
    pub(super) refused: HashSet<String>,
    /// The refused ones that nobody has been told of.
    pub(super) untold: Vec<String>,
}

impl KnownTombstones {
    /// Remembers the content that a tombstone names.
    pub(super) fn keep(&mut self, key: &str, deletes: Option<Lineage>) {
        if self.deletes.len() >= REMEMBERED {
            self.deletes.clear();
        }
        self.deletes.insert(key.to_owned(), deletes);
    }

    /// Remembers a tombstone that counts for nothing.
    pub(super) fn refuse(&mut self, key: &str) {
        if self.refused.len() >= REMEMBERED {
            self.refused.clear();
            self.untold.clear();
        }
        self.refused.insert(key.to_owned());
        self.untold.push(key.to_owned());
    }
}
