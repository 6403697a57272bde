//! What an operation is waiting for, for the message of the deadline that ends it.

use std::sync::{Arc, Mutex, PoisonError};

tokio::task_local! {
    static WAITING: Waiting;
}

/// What one operation is waiting for, as far as its driver has said.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<Option<String>>>);

impl Waiting {
    /// Runs an operation whose driver may say what it waits for.
    pub(super) async fn over<T>(&self, operation: impl Future<Output = T>) -> T {
        WAITING.scope(self.clone(), operation).await
    }

    /// Returns that of the operation which is running, to be carried to another thread.
    pub(super) fn current() -> Self {
        WAITING.try_with(Self::clone).unwrap_or_default()
    }

    /// Runs the part of an operation that blocks this thread.
    pub(super) fn on_thread<T>(self, operation: impl FnOnce() -> T) -> T {
        WAITING.sync_scope(self, operation)
    }

    /// Returns what the operation was waiting for last.
    pub(super) fn last(&self) -> Option<String> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.clone()
    }

    fn set(&self, what: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

/// Notes what the operation that is running waits for from here on; `None` for nothing special.
pub(super) fn waits_for(what: Option<String>) {
    // Nobody may be listening: in a test of the driver alone.
    let _ = WAITING.try_with(|waiting| waiting.set(what));
}
