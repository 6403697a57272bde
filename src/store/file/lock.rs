//! The lock: it allows one writer at a time in a folder, over all processes of the host. The module
//! also finds the holder, because a stopped or hung process would keep every writer away.

use std::fs::{File, TryLockError, read_dir, read_to_string};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::stat::{major, minor};

use super::disk::mode;
use crate::dir::Dir;

/// The lock file. It stays empty.
pub(super) const LOCK: &str = ".atlasfs/lock";

/// The longest wait for the lock. 10 s: the holder needs it for one small write. A longer wait
/// means a hung disk, and the caller's deadline is over anyway.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two tries. There is no flock with a timeout, and a plain one could wait for
/// ever.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(2);
/// The wait before looking up the holder, which costs more than most waits.
const HOLDER_LOOKUP_DELAY: Duration = Duration::from_millis(50);

/// The sharing of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockMode {
    /// Shared with other readers.
    Shared,
    /// Not shared.
    Exclusive,
}

/// The lock, held until it is dropped. The kernel frees it when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// The result of one try to take the lock.
enum LockAttempt {
    Taken(Lock),
    /// Another process holds it.
    Held(File),
    /// The file was removed or replaced meanwhile.
    Moved,
}

/// Takes the lock, waiting up to [`LOCK_TIMEOUT`] for it. After a while it passes the holder to
/// `tell`.
pub(super) fn acquire(root: &Dir, mode: LockMode, tell: impl Fn(String)) -> io::Result<Lock> {
    let start = Instant::now();
    let mut told = false;
    loop {
        match try_mode(root, mode)? {
            LockAttempt::Taken(lock) => return Ok(lock),
            LockAttempt::Held(file) if !told && start.elapsed() > HOLDER_LOOKUP_DELAY => {
                tell(holder(&file));
                told = true;
            }
            LockAttempt::Held(_) | LockAttempt::Moved => {}
        }
        if start.elapsed() > LOCK_TIMEOUT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(LOCK_POLL_INTERVAL);
    }
}

/// Takes the exclusive lock if it is free.
pub(super) fn try_now(root: &Dir) -> io::Result<Option<Lock>> {
    Ok(match try_mode(root, LockMode::Exclusive)? {
        LockAttempt::Taken(lock) => Some(lock),
        LockAttempt::Held(_) | LockAttempt::Moved => None,
    })
}

fn try_mode(root: &Dir, how: LockMode) -> io::Result<LockAttempt> {
    let file = match how {
        LockMode::Exclusive => {
            // Otherwise users without write access to the folder could lock writers out.
            let writers = mode(root)? & 0o222;
            root.file_or_new(LOCK, writers | writers << 1)?
        }
        LockMode::Shared => root.file(LOCK)?,
    };
    let tried = match how {
        LockMode::Exclusive => file.try_lock(),
        LockMode::Shared => file.try_lock_shared(),
    };
    match tried {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(LockAttempt::Held(file)),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // A lock on a file that was removed or replaced meanwhile excludes no other process.
    let there = root.meta(LOCK).map(|meta| (meta.dev(), meta.ino()));
    let ours = file.metadata().map(|meta| (meta.dev(), meta.ino()))?;
    Ok(match there {
        Ok(there) if there == ours => LockAttempt::Taken(Lock { _file: file }),
        _ => LockAttempt::Moved,
    })
}

/// The most bytes of the kernel's list of locks that are read. 1 MiB: about 15,000 locks.
const MAX_LOCKS_BYTES: u64 = 1 << 20;

/// Names the process that holds a lock on a file, if this machine's kernel knows it.
pub(super) fn holder(file: &File) -> String {
    let pid = file.metadata().ok().and_then(|meta| {
        let (device, inode) = (meta.dev(), meta.ino());
        let taken_by = find(&read(Path::new("/proc/locks")), device, inode);
        let lives = |pid: &u32| Path::new(&format!("/proc/{pid}")).exists();
        // A process that has ended may have left the descriptor to another one.
        let descriptor = || by_descriptor(device, inode);
        taken_by.filter(lives).or_else(descriptor)
    });
    pid.map_or_else(|| "another process holds its lock".into(), describe)
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    // An unreadable file belongs to another user.
    let _ = File::open(path).and_then(|file| file.take(MAX_LOCKS_BYTES).read_to_string(&mut text));
    text
}

/// Finds the process with an flock on a file: `1: FLOCK  ADVISORY  WRITE 708 fe:00:13107 0 EOF`.
fn find(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let device = format!("{:02x}:{:02x}", major(device), minor(device));
    let held = locks.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        // A line with an arrow is a waiting process, so it has no match.
        let flock = words.next()? == "FLOCK";
        let pid = words.nth(2)?.parse().ok()?;
        let (on, number) = words.next()?.rsplit_once(':')?;
        (flock && number.parse() == Ok(inode)).then_some((pid, on == device))
    });
    let held: Vec<(u32, bool)> = held.collect();
    let exact = held.iter().find(|(_, exact)| *exact);
    // On some file systems that list has another device than stat.
    let only = held.first().filter(|_| held.len() == 1);
    exact.or(only).map(|(pid, _)| *pid).filter(|pid| *pid != 0)
}

/// Finds a process with a descriptor that has an flock on a file.
fn by_descriptor(device: u64, inode: u64) -> Option<u32> {
    let names = |path: PathBuf| read_dir(path).into_iter().flatten().flatten();
    names("/proc".into()).find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        names(process.path().join("fdinfo"))
            .any(|descriptor| {
                let text = read(&descriptor.path());
                let mut locks = text.lines().filter_map(|line| line.strip_prefix("lock:"));
                locks.any(|lock| find(lock, device, inode).is_some())
            })
            .then_some(pid)
    })
}

fn describe(pid: u32) -> String {
    let comm = read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    // A process can choose its own name, so escape it.
    let name: String = comm.trim_end().escape_debug().collect();
    match state {
        Some('T' | 't') => format!(
            "process {pid} ({name}) holds its lock and is stopped: kill -CONT {pid}, or end it"
        ),
        _ => format!("process {pid} ({name}) holds its lock: end it if it hangs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
        1: POSIX  ADVISORY  WRITE 11 fe:00:77 0 EOF\n\
        2: FLOCK  ADVISORY  WRITE 22 fe:00:77 0 EOF\n\
        2: -> FLOCK  ADVISORY  WRITE 33 fe:00:77 0 EOF\n\
        3: FLOCK  ADVISORY  READ  44 00:2f:77 0 EOF\n\
        4: FLOCK  ADVISORY  WRITE 55 00:30:99 0 EOF\n\
        5: FLOCK  ADVISORY  WRITE 0 00:30:98 0 EOF\n\
        garbage\n\n";

    #[test]
    fn the_holder_is_found_by_device_and_inode() {
        let device = nix::sys::stat::makedev(0xfe, 0);
        assert_eq!(find(LIST, device, 77), Some(22));
        assert_eq!(find(LIST, nix::sys::stat::makedev(0, 0x2f), 77), Some(44));
        assert_eq!(find(LIST, device, 1), None);
        assert_eq!(find(LIST, device, 99), Some(55), "the only one");
        assert_eq!(find(LIST, device, 98), None, "of another container");
    }

    #[test]
    fn a_lock_is_found_by_the_descriptor_too() {
        let file = tempfile::tempfile().unwrap();
        file.lock().unwrap();
        let meta = file.metadata().unwrap();
        let found = by_descriptor(meta.dev(), meta.ino());
        assert_eq!(found, Some(std::process::id()));
    }

    #[test]
    fn a_lock_of_this_process_names_it() {
        let file = tempfile::tempfile().unwrap();
        file.lock().unwrap();
        let told = holder(&file);
        assert!(told.contains(&std::process::id().to_string()), "{told}");
    }
}
