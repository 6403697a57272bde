//! What is under way: counted, so that the process can wait for it before it ends.

use tokio::sync::watch;

/// Counts what is under way.
#[derive(Debug, Clone)]
pub struct InFlight(watch::Sender<usize>);

/// One thing that is under way, for as long as this lives.
#[derive(Debug)]
pub struct InFlightGuard(InFlight);

impl Default for InFlight {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl InFlight {
    /// Counts one more thing.
    #[must_use]
    pub fn begin(&self) -> InFlightGuard {
        self.0.send_modify(|count| *count += 1);
        InFlightGuard(self.clone())
    }

    /// Returns the count, to be watched.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let end = |count: &mut usize| *count = count.saturating_sub(1);
        self.0.0.send_modify(end);
    }
}
