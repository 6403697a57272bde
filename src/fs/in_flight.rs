//! What is under way: counted, so that the process can wait for it before it ends.

use tokio::sync::watch;

/// Counts what is under way.
#[derive(Debug, Clone)]
pub struct UnderWay(watch::Sender<usize>);

/// One thing that is under way, for as long as this lives.
#[derive(Debug)]
pub struct Begun(UnderWay);

impl Default for UnderWay {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl UnderWay {
    /// Counts one more thing.
    #[must_use]
    pub fn begin(&self) -> Begun {
        self.0.send_modify(|count| *count += 1);
        Begun(self.clone())
    }

    /// Returns the count, to be watched.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let end = |count: &mut usize| *count = count.saturating_sub(1);
        self.0.0.send_modify(end);
    }
}
