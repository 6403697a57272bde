//! One mount at a time: the check of a mount point and the mount itself are one step.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::MountError;

/// How long another process may take to check and mount: it waits for the kernel alone.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to look whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// Waits for the turn to mount on a directory; it ends when the lock is dropped, or its process
/// ends. Two mounts of one directory then see each other, whatever their state directories and
/// however they spell the path.
///
/// The lock is on the parent directory, which a mount doesn't cover. A file system without locks
/// gives none.
pub(super) fn take(dir: &Path) -> Result<Option<Flock<File>>, MountError> {
    let parent = dir.parent().unwrap_or(dir);
    // Some may pass through a directory and not read it.
    let Ok(mut file) = File::open(parent).or_else(|_| File::open(dir)) else {
        return Ok(None);
    };
    let until = Instant::now() + PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < until => {
                file = back;
                std::thread::sleep(LOOK);
            }
            Err((_, Errno::EWOULDBLOCK)) => return Err(MountError::Locked(parent.to_owned())),
            Err(_) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_waited_for_and_given_on() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("mnt");
        let first = take(&dir).unwrap();
        assert!(first.is_some());
        let second = std::thread::spawn({
            let dir = dir.clone();
            move || take(&dir).map(|lock| lock.is_some())
        });
        drop(first);
        assert!(second.join().unwrap().unwrap());
    }

    #[test]
    fn a_lock_that_is_never_given_up_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("mnt");
        let held = take(&dir).unwrap();
        let error = take(&dir).unwrap_err();
        drop(held);
        assert!(
            matches!(&error, MountError::Locked(path) if path == parent.path()),
            "{error}"
        );
    }
}
