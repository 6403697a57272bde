//! The lock: one writer at a time in a folder, over all processes of the host.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::disk::mode;
use super::holder::holder;
use crate::dir::Dir;

/// The lock's file. It is never written to.
pub(super) const LOCK: &str = ".atlasfs/lock";

/// How long to wait for the lock. Whoever holds it does so for one small write; longer than this
/// is a hung disk, and the caller's deadline is over anyway.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries. There is no time-limited flock, and a plain one could wait for ever.
const PAUSE: Duration = Duration::from_millis(2);
/// How long to wait before the holder is looked for, which costs more than most waits.
const TELL_AFTER: Duration = Duration::from_millis(50);

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

/// How a try to take the lock ended.
enum Tried {
    Taken(Lock),
    /// Another process has it.
    Held(File),
    /// The file was removed or replaced meanwhile.
    Moved,
}

/// Takes the lock, waiting up to [`PATIENCE`] for it. `tell` is told who holds it if that takes
/// long.
pub(super) fn acquire(root: &Dir, mode: Mode, tell: impl Fn(String)) -> io::Result<Lock> {
    let start = Instant::now();
    let mut told = false;
    loop {
        match try_mode(root, mode)? {
            Tried::Taken(lock) => return Ok(lock),
            Tried::Held(file) if !told && start.elapsed() > TELL_AFTER => {
                tell(holder(&file));
                told = true;
            }
            Tried::Held(_) | Tried::Moved => {}
        }
        if start.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Takes the lock exclusively if nobody has it.
pub(super) fn try_now(root: &Dir) -> io::Result<Option<Lock>> {
    Ok(match try_mode(root, Mode::Exclusive)? {
        Tried::Taken(lock) => Some(lock),
        Tried::Held(_) | Tried::Moved => None,
    })
}

fn try_mode(root: &Dir, how: Mode) -> io::Result<Tried> {
    let file = match how {
        Mode::Exclusive => {
            // Users who may not write in the folder could otherwise lock writers out.
            let writers = mode(root)? & 0o222;
            root.file_or_new(LOCK, writers | writers << 1)?
        }
        Mode::Shared => root.file(LOCK)?,
    };
    let tried = match how {
        Mode::Exclusive => file.try_lock(),
        Mode::Shared => file.try_lock_shared(),
    };
    match tried {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Tried::Held(file)),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // A lock on a file that has been removed or replaced meanwhile keeps nobody out.
    let there = root.meta(LOCK).map(|meta| (meta.dev(), meta.ino()));
    let ours = file.metadata().map(|meta| (meta.dev(), meta.ino()))?;
    Ok(match there {
        Ok(there) if there == ours => Tried::Taken(Lock { _file: file }),
        _ => Tried::Moved,
    })
}
