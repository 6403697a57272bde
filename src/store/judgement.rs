//! Which stamps count: a stamp that is unreadable, or too far ahead of every clock that is known,
//! counts as none.
//!
//! Its content counts as put by hand: it can be read and replaced, and moves no clock.

use std::time::SystemTime;

use super::Listed;
use super::stamp_refusal::StampRefusal;
use super::target::{Meta, Target};
use crate::model::{Stamp, WallClock, is_ahead, nanos};

impl Target {
    /// Returns the stamp if it counts. The store's own clock speaks for a stamp, too: this
    /// machine's may be behind.
    pub(super) fn judge(
        &self,
        stamp: Option<Stamp>,
        unreadable: bool,
        modified: SystemTime,
    ) -> Result<Option<Stamp>, StampRefusal> {
        match stamp {
            _ if unreadable => Err(StampRefusal::Unreadable),
            Some(stamp)
                if is_ahead(stamp.when, self.now())
                    && (!self.driver.keeps_time() || is_ahead(stamp.when, modified)) =>
            {
                Err(StampRefusal::Ahead(stamp.when))
            }
            stamp => Ok(stamp),
        }
    }

    /// Returns the time of a content that was put there by hand, in nanoseconds since the epoch.
    /// A file's time may be any: one that is too far ahead tells nothing.
    pub(super) fn when_by_hand(&self, modified: SystemTime) -> u64 {
        let (when, now) = (nanos(modified), self.now());
        match is_ahead(when, now) {
            true => nanos(now),
            false => when,
        }
    }

    /// Describes a listed object, with its stamp if that counts.
    pub(super) fn meta(&self, listed: Listed) -> Meta {
        let judged = self.judge(listed.stamp, listed.unreadable, listed.modified);
        Meta {
            size: listed.size,
            stamp: judged.unwrap_or_default(),
            refused: judged.err(),
            token: listed.token,
            modified: listed.modified,
        }
    }

    pub(super) fn now(&self) -> SystemTime {
        self.wall.get_or_init(WallClock::default).now()
    }
}
