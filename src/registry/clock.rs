//! The clock of a mount: the machine's time, and the strictly increasing times of its stamps.

use std::time::SystemTime;

use crate::model::{StampClock, WallClock, nanos};

/// The machine's time, and the source of stamps.
#[derive(Debug, Default)]
pub struct Clock {
    wall: WallClock,
    stamps: StampClock,
}

impl Clock {
    /// Makes the clock of a mount.
    pub fn new(wall: WallClock) -> Self {
        let stamps = StampClock::default();
        Self { wall, stamps }
    }

    /// Returns the machine's time.
    pub fn now(&self) -> SystemTime {
        self.wall.now()
    }

    /// Returns the machine's time in nanoseconds since the epoch.
    pub fn nanos(&self) -> u64 {
        nanos(self.now())
    }

    /// Returns the time of the next stamp, in nanoseconds since the epoch.
    pub fn next_stamp(&self) -> u64 {
        self.stamps.next(self.now())
    }

    /// Makes the next stamp later than one that was observed, unless that is too far ahead.
    pub fn observe(&self, when: u64) {
        self.stamps.observe(when, self.now());
    }
}
