//! Work that may never return: a system call on a mount that nobody answers.

use std::sync::mpsc;
use std::time::Duration;

/// Runs `work` on a thread of its own; returns nothing if it has not ended within `limit`. The
/// thread then stays behind, for nobody can end a process that waits for a file system.
pub fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let started = std::thread::Builder::new()
        .name("bounded".to_owned())
        .spawn(move || {
            // A caller that has given up is no longer there to hear it.
            let _ = sender.send(work());
        });
    match started {
        Ok(_) => receiver.recv_timeout(limit).ok(),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_ends_in_time_is_answered() {
        assert_eq!(within(Duration::from_secs(5), || 3), Some(3));
    }

    #[test]
    fn work_that_never_ends_is_given_up() {
        let (_keep, never) = mpsc::channel::<()>();
        assert_eq!(
            within(Duration::from_millis(10), move || never.recv().is_ok()),
            None
        );
    }
}
