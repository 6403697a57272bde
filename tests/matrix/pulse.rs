//! The machine's pulse: it tells when a processor has stood still, as it does for half a minute now
//! and then when its kernel clears up behind processes that end. No mount can be blamed for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// How often each processor is to run something.
const BEAT: Duration = Duration::from_millis(100);
/// A processor that runs nothing for so long stands still. A busy one is late by some milliseconds.
const STOP: Duration = Duration::from_secs(3);

/// Feels the pulse for as long as it lives.
#[derive(Debug)]
pub struct Pulse {
    stops: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
}

impl Pulse {
    /// Begins: a thread on each processor.
    pub fn start() -> Self {
        let pulse = Self {
            stops: Arc::default(),
            ends: Arc::default(),
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for processor in 0..processors {
            let (stops, ends) = (Arc::clone(&pulse.stops), Arc::clone(&pulse.ends));
            std::thread::spawn(move || {
                let mut own = CpuSet::new();
                if own.set(processor).is_ok() {
                    // Where that is not allowed, any processor will do.
                    let _ = sched_setaffinity(Pid::from_raw(0), &own);
                }
                while !ends.load(Ordering::Relaxed) {
                    let slept = Instant::now();
                    std::thread::sleep(BEAT);
                    if slept.elapsed() > STOP {
                        stops.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        pulse
    }

    /// Returns how often a processor has stood still so far.
    pub fn stops(&self) -> usize {
        self.stops.load(Ordering::Relaxed)
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}
