//! The facts of a record that outlast the mount, and how they come back.

use std::time::SystemTime;

use tokio::time::Instant;

use super::{Entry, ObservedState, Revision, SharedStamp};
use crate::model::Stamp;
use crate::registry::replica::TargetId;
use crate::store::Token;

/// What is kept of one artifact for the next mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The newest content known.
    pub current: Option<Shown>,
    /// The newest stamp that was served, shown or pushed: there is no way back behind it, also not
    /// by a restart.
    pub high_water: Option<Stamp>,
    /// The registry's token of the newest content, which saves reading it again to identify it.
    pub token: Option<Token>,
    /// The registry has said that it is not there.
    pub gone: bool,
}

/// What is known of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Everything.
    Stamped(Stamp),
    /// What a listing without stamps says.
    Unread {
        /// The size in bytes.
        size: u64,
        /// The time that was shown.
        time: SystemTime,
    },
}

/// What tells whether the facts have changed, without a copy of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Essence {
    current: Option<(u64, Option<Stamp>)>,
    high_water: Option<Stamp>,
    gone: bool,
}

impl Entry {
    /// Returns what tells whether the facts have changed.
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

    /// Takes the facts over that an earlier mount has left.
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

    /// Takes a push up that an earlier mount has left in its journal, unless that mount has heard
    /// later of something newer, or of a deletion.
    pub fn take_up(
        &mut self,
        stamp: Stamp,
        missing: &[TargetId],
        registry: TargetId,
        at: Instant,
        revision: impl FnOnce() -> u64,
    ) {
        let deleted = self.gone && !missing.contains(&registry);
        if !deleted && self.high_water.get() <= Some(stamp) {
            self.pushed(stamp, &[], missing, at, revision);
        }
    }
}
