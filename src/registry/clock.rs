//! The clock of a mount: the machine's time, and the strictly increasing times of its stamps.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::model::{StampClock, nanos};

/// The machine's wall clock, as a value: stamps come from it, and tests can set it.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl WallClock {
    /// Wraps a source of time.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the time.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("WallClock")
    }
}

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

    /// Makes the next stamp later than one that was observed.
    pub fn observe(&self, when: u64) {
        self.stamps.observe(when);
    }
}
