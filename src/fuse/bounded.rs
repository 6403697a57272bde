//! Work that may never return: a system call on a mount that nobody answers.

use std::os::fd::RawFd;
use std::sync::mpsc;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

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
            let_go();
            // A caller that has given up is no longer there to hear it.
            let _ = sender.send(work());
        });
    match started {
        Ok(_) => receiver.recv_timeout(limit).ok(),
        Err(_) => None,
    }
}

/// Gives this thread a table of descriptors of its own, with nothing in it.
///
/// A thread that waits for this very process's mount can't end before it is answered, also if the
/// process is killed. If it held the connection open, nobody would ever answer, nor tell the
/// kernel that nobody will: the process could not be killed, and the mount not be used again.
fn let_go() {
    if unshare(CloneFlags::CLONE_FILES).is_err() {
        // It may not be allowed to; then all is as before.
        return;
    }
    close_all();
}

/// Closes every descriptor but the standard ones. Nothing of this thread's table may be in use:
/// it is for the start of a process, or of a table of its own.
pub fn close_all() {
    let names = std::fs::read_dir("/proc/thread-self/fd")
        .into_iter()
        .flatten();
    let open: Vec<RawFd> = names
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // One of them was the list's own, and is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_holds_nothing_open_that_the_process_has_open() {
        let file = tempfile::tempfile().unwrap();
        let count = || std::fs::read_dir("/proc/thread-self/fd").unwrap().count();
        // The standard ones, and that of the list.
        assert!(within(Duration::from_secs(5), count).unwrap() <= 4);
        assert!(count() > 4, "the process has all that it had");
        file.metadata().unwrap();
    }

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
