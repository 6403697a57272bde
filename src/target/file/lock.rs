//! The lock: one writer at a time in a folder, over all processes of the host.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait for the lock. Whoever holds it does so for one small write; longer than this
/// is a hung disk, and the caller's deadline is over anyway.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries. There is no time-limited flock, and a plain one could wait for ever.
const PAUSE: Duration = Duration::from_millis(2);

/// How a lock is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// With other readers.
    Shared,
    /// With nobody.
    Exclusive,
}

/// The lock, held until it is dropped. The kernel frees it when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Takes the lock, waiting up to [`PATIENCE`] for it.
pub(super) fn acquire(path: &Path, mode: Mode) -> io::Result<Lock> {
    let start = Instant::now();
    loop {
        if let Some(lock) = try_mode(path, mode)? {
            return Ok(lock);
        }
        if start.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Takes the lock exclusively if nobody has it.
pub(super) fn try_now(path: &Path) -> io::Result<Option<Lock>> {
    try_mode(path, Mode::Exclusive)
}

fn try_mode(path: &Path, mode: Mode) -> io::Result<Option<Lock>> {
    let file = match mode {
        Mode::Exclusive => OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?,
        Mode::Shared => OpenOptions::new().read(true).open(path)?,
    };
    let tried = match mode {
        Mode::Exclusive => file.try_lock(),
        Mode::Shared => file.try_lock_shared(),
    };
    match tried {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // A lock on a file that has been removed or replaced meanwhile keeps nobody out.
    let there = std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    let ours = file.metadata().map(|meta| (meta.dev(), meta.ino()))?;
    Ok(match there {
        Ok(there) if there == ours => Some(Lock { _file: file }),
        _ => None,
    })
}
