//! A time limit for system calls that may never return, as on a mount whose process hangs.

use std::os::fd::RawFd;
use std::sync::mpsc;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

/// Runs `work` on a thread of its own; returns `None` if it has not ended within `limit`. The
/// thread then stays behind: a thread that waits for a file system can't be killed.
pub fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let started = std::thread::Builder::new()
        .name("bounded".to_owned())
        .spawn(move || {
            drop_descriptors();
            // The send fails if the caller has given up.
            let _ = sender.send(work());
        });
    match started {
        Ok(_) => receiver.recv_timeout(limit).ok(),
        Err(_) => None,
    }
}

/// Gives this thread an empty descriptor table of its own.
///
/// A thread that waits for this process's own mount can't end before the mount answers, even if the
/// process is killed. If the thread held the FUSE connection open, the kernel would wait for an
/// answer for ever: the process could not end, and the mount point could not be used again.
fn drop_descriptors() {
    if unshare(CloneFlags::CLONE_FILES).is_err() {
        // Not permitted: keep the shared table.
        return;
    }
    close_all();
}

/// Closes every descriptor but the standard ones. Call it only while none of them is in use: at the
/// start of a process, or in a thread with a table of its own.
pub fn close_all() {
    let names = std::fs::read_dir("/proc/thread-self/fd")
        .into_iter()
        .flatten();
    let open: Vec<RawFd> = names
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The listing's own descriptor is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_inherits_no_open_descriptors() {
        let file = tempfile::tempfile().unwrap();
        let count = || std::fs::read_dir("/proc/thread-self/fd").unwrap().count();
        // The standard descriptors, and the listing's own.
        assert!(within(Duration::from_secs(5), count).unwrap() <= 4);
        assert!(count() > 4, "the process keeps its descriptors");
        file.metadata().unwrap();
    }

    #[test]
    fn work_that_ends_in_time_returns_its_result() {
        assert_eq!(within(Duration::from_secs(5), || 3), Some(3));
    }

    #[test]
    fn work_that_never_ends_returns_nothing() {
        let (_keep, never) = mpsc::channel::<()>();
        assert_eq!(
            within(Duration::from_millis(10), move || never.recv().is_ok()),
            None
        );
    }
}
