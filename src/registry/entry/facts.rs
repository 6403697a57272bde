//! The facts of an entry that outlast the mount, and their restoration by the next mount.

use std::time::SystemTime;

use tokio::time::Instant;

use super::{Entry, ObservedState, Revision, SharedStamp};
use crate::model::{Stamp, is_ahead};
use crate::registry::replica::TargetId;
use crate::store::Token;

/// The facts about one artifact that are saved for the next mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The newest content known.
    pub current: Option<Shown>,
    /// The newest stamp that was served, shown or pushed. The mount never goes back behind it, not
    /// even after a restart.
    pub high_water: Option<Stamp>,
    /// The registry's token of the newest content. It identifies that content without another read.
    pub token: Option<Token>,
    /// Whether the registry reported the artifact as absent.
    pub gone: bool,
}

impl Facts {
    /// Removes the stamps that are too far ahead of a clock: this machine's was wrong when they were
    /// saved, and nothing that anybody pushes now would be newer.
    pub fn up_to(mut self, now: SystemTime) -> Self {
        let counts = |stamp: &Stamp| !is_ahead(stamp.when, now);
        self.high_water = self.high_water.filter(counts);
        self.current = self.current.filter(|current| match current {
            Shown::Stamped(stamp) => counts(stamp),
            Shown::Unread { .. } => true,
        });
        self
    }
}

/// The known facts about one content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Its stamp.
    Stamped(Stamp),
    /// The facts in a listing without stamps.
    Unread {
        /// The size in bytes.
        size: u64,
        /// The time that the file system showed.
        time: SystemTime,
    },
}

/// A summary of the facts that reveals a change without a copy of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Essence {
    current: Option<(u64, Option<Stamp>)>,
    high_water: Option<Stamp>,
    gone: bool,
}

impl Entry {
    /// Returns a summary that differs as soon as the facts have changed.
    pub fn essence(&self) -> Essence {
        let current = self.current.as_ref();
        Essence {
            current: current.map(|known| (known.revision, known.stamp())),
            high_water: self.high_water.get(),
            gone: self.gone,
        }
    }

    /// Returns the facts that outlast the mount; `None` if there are none.
    pub fn facts(&self, registry: TargetId) -> Option<Facts> {
        let current = self.current.as_ref().map(|known| match known.stamp() {
            Some(stamp) => Shown::Stamped(stamp),
            None => Shown::Unread {
                size: known.size,
                time: known.time,
            },
        });
        let seen = self.seen.get(&registry).filter(|seen| {
            let stamp = seen.stamp.get().map(Shown::Stamped);
            stamp.is_some() && stamp == current
        });
        let facts = Facts {
            current,
            high_water: self.high_water.get(),
            token: seen.and_then(|seen| seen.token.clone()),
            gone: self.gone,
        };
        (facts != Facts::default()).then_some(facts)
    }

    /// Restores the facts that an earlier mount saved.
    pub fn restore(&mut self, facts: Facts, registry: TargetId, revision: impl FnOnce() -> u64) {
        let Facts {
            current,
            high_water,
            token,
            gone,
        } = facts;
        let stamp = match &current {
            Some(Shown::Stamped(stamp)) => Some(*stamp),
            _ => None,
        };
        self.high_water = self.keep(high_water.max(stamp));
        let kept = self.keep(stamp);
        self.current = current.map(|current| {
            let (size, time) = match current {
                Shown::Stamped(stamp) => (stamp.size, stamp.time()),
                Shown::Unread { size, time } => (size, time),
            };
            Revision {
                revision: revision(),
                size,
                time,
                stamp: kept,
                from: registry,
                shown: true,
            }
        });
        self.gone = gone;
        if let (Some(stamp), Some(token)) = (stamp, token) {
            let seen = ObservedState {
                token: Some(token),
                size: stamp.size,
                modified: None,
                stamp: self.keep(Some(stamp)),
                had: SharedStamp::default(),
            };
            self.saw(registry, seen);
        }
    }

    /// Loads a push from the journal of an earlier mount, unless that mount later learned of a
    /// newer content or of a deletion. Returns whether the push is the newest known content.
    pub fn recover(
        &mut self,
        stamp: Stamp,
        missing: &[TargetId],
        registry: TargetId,
        at: Instant,
        revision: impl FnOnce() -> u64,
    ) -> bool {
        let deleted = self.gone && !missing.contains(&registry);
        let is_newest = !deleted && self.high_water.get() <= Some(stamp);
        if is_newest {
            self.pushed(stamp, &[], missing, at, revision);
        }
        is_newest
    }
}
