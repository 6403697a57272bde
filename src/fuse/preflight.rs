//! The checks before a mount, so that each problem has a clear error.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::MountError;
use super::fusermount;
use super::occupant::{Occupant, detach, is_not_connected, occupant, resolve, topmost};

/// A mount to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    /// The mount point.
    pub dir: PathBuf,
    /// The source that `mount` shows: a URL without secrets.
    pub source: String,
    /// The kernel refuses every write.
    pub read_only: bool,
    /// Other users have access too.
    pub allow_other: bool,
}

/// The system's settings for users other than root.
const FUSE_CONF: &str = "/etc/fuse.conf";

/// Checks everything that a mount needs, and removes the dead mount of an earlier atlasfs.
/// Returns the mount point's absolute path.
pub fn preflight(request: &MountRequest) -> Result<PathBuf, MountError> {
    let dir = resolve(&request.dir).map_err(|error| inaccessible(&request.dir, error))?;
    match occupant(&dir).map_err(|error| inaccessible(&dir, error))? {
        Occupant::Atlasfs(_) => return Err(MountError::MountedAlready(dir)),
        Occupant::DeadAtlasfs(_) => {
            clear_dead(&dir)?;
        }
        Occupant::Nothing | Occupant::Stranger(_) => {}
    }
    check_directory(&dir)?;
    // fusermount3 opens the device as the user, and each further thread of the session opens it
    // again.
    open_device()?;
    if !nix::unistd::geteuid().is_root() {
        check_user(request)?;
    }
    Ok(dir)
}

/// Removes the dead mount of an atlasfs; returns whether there was one.
pub fn clear_dead(dir: &Path) -> Result<bool, MountError> {
    let mut cleared = false;
    loop {
        let there = occupant(dir).map_err(|error| inaccessible(dir, error))?;
        let Occupant::DeadAtlasfs(_) = there else {
            return Ok(cleared);
        };
        detach(dir).map_err(|error| MountError::DeadEndPoint(dir.to_owned(), error))?;
        tracing::warn!(dir = %dir.display(), "removed the dead mount of an earlier atlasfs");
        cleared = true;
    }
}

/// Opens the kernel's FUSE device.
pub(super) fn open_device() -> Result<File, MountError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => MountError::NoDevice,
            _ => MountError::DeviceDenied(error),
        })
}

fn check_directory(dir: &Path) -> Result<(), MountError> {
    let unreadable = |error: io::Error| {
        if is_not_connected(&error) {
            MountError::DeadStranger(dir.to_owned(), fstype(dir))
        } else {
            inaccessible(dir, error)
        }
    };
    let metadata = std::fs::metadata(dir).map_err(unreadable)?;
    if !metadata.is_dir() {
        return Err(MountError::NotADirectory(dir.to_owned()));
    }
    let mut names = std::fs::read_dir(dir).map_err(unreadable)?;
    match names.next() {
        None => Ok(()),
        Some(_) => Err(MountError::NotEmpty(dir.to_owned())),
    }
}

fn fstype(dir: &Path) -> String {
    let top = topmost(dir).ok().flatten();
    top.map_or_else(|| "foreign".to_owned(), |entry| entry.fstype)
}

fn check_user(request: &MountRequest) -> Result<(), MountError> {
    if fusermount::find().is_none() {
        return Err(MountError::NoFusermount);
    }
    if request.allow_other {
        let conf = std::fs::read_to_string(FUSE_CONF).unwrap_or_default();
        if !allows_other(&conf) {
            return Err(MountError::AllowOther);
        }
    }
    Ok(())
}

fn allows_other(conf: &str) -> bool {
    conf.lines().any(|line| line.trim() == "user_allow_other")
}

fn inaccessible(dir: &Path, error: io::Error) -> MountError {
    if error.kind() == io::ErrorKind::NotFound {
        MountError::Missing(dir.to_owned())
    } else {
        MountError::Inaccessible(dir.to_owned(), error)
    }
}

/// The time limit to wait for another process that mounts: that process waits only for the kernel.
const MOUNT_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The time between two attempts to lock.
const MOUNT_LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// Locks a mount point for the check and the mount. Two processes that mount on one directory then
/// see each other, even with different state directories or spellings of the path.
///
/// The lock is on the parent directory, which a mount doesn't cover; `None` if its file system has
/// no locks.
pub(super) fn lock_mount_point(dir: &Path) -> Result<Option<Flock<File>>, MountError> {
    let parent = dir.parent().unwrap_or(dir);
    // A user may have permission to enter the parent but not to read it.
    let Ok(mut file) = File::open(parent).or_else(|_| File::open(dir)) else {
        return Ok(None);
    };
    let until = Instant::now() + MOUNT_LOCK_TIMEOUT;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < until => {
                file = back;
                std::thread::sleep(MOUNT_LOCK_INTERVAL);
            }
            Err((_, Errno::EWOULDBLOCK)) => return Err(MountError::Locked(parent.to_owned())),
            Err(_) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(dir: &Path) -> MountRequest {
        MountRequest {
            dir: dir.to_owned(),
            source: "test".to_owned(),
            read_only: false,
            allow_other: false,
        }
    }

    #[test]
    fn a_missing_mount_point_is_an_error_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let error = preflight(&request(&dir.path().join("none"))).unwrap_err();
        assert!(matches!(error, MountError::Missing(_)));
        assert!(error.to_string().contains("mkdir -p"), "{error}");
    }

    #[test]
    fn a_file_is_no_mount_point() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = preflight(&request(file.path())).unwrap_err();
        assert!(matches!(error, MountError::NotADirectory(_)), "{error}");
    }

    #[test]
    fn a_directory_with_files_is_no_mount_point() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x"), "").unwrap();
        let error = preflight(&request(dir.path())).unwrap_err();
        assert!(matches!(error, MountError::NotEmpty(_)), "{error}");
    }

    #[test]
    fn user_allow_other_needs_a_line_of_its_own() {
        assert!(allows_other("# x\n  user_allow_other \n"));
        assert!(!allows_other("#user_allow_other\n"));
        assert!(!allows_other(""));
    }

    #[test]
    fn a_second_mount_waits_for_the_lock_of_the_first() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("mnt");
        let first = lock_mount_point(&dir).unwrap();
        assert!(first.is_some());
        let second = std::thread::spawn({
            let dir = dir.clone();
            move || lock_mount_point(&dir).map(|lock| lock.is_some())
        });
        drop(first);
        assert!(second.join().unwrap().unwrap());
    }

    #[test]
    fn a_lock_that_is_never_released_is_an_error() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("mnt");
        let held = lock_mount_point(&dir).unwrap();
        let error = lock_mount_point(&dir).unwrap_err();
        drop(held);
        assert!(
            matches!(&error, MountError::Locked(path) if path == parent.path()),
            "{error}"
        );
    }
}
