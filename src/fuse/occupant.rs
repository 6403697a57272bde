//! The mount on a directory: its kind, whether it still answers, and its unmount.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::bounded::within;
use super::error::UnmountError;
use super::fusermount;
use super::mountinfo::{self, MountEntry};

/// The time limit to find out that a mount is dead. The kernel answers for a dead mount at once; a
/// slower answer means a hung mount.
const DEAD_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// The file system that is mounted on a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occupant {
    /// Nothing.
    Nothing,
    /// An atlasfs that answers, or may still answer.
    Atlasfs(MountEntry),
    /// The dead mount of an atlasfs whose process has ended.
    DeadAtlasfs(MountEntry),
    /// Another file system.
    Stranger(MountEntry),
}

/// Returns the absolute path of a directory without a request to a mount on it: a hung mount would
/// make the caller hang too.
pub fn resolve(dir: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(dir)?;
    if let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) {
        let path = parent.canonicalize()?.join(name);
        if mountinfo::topmost(&mountinfo::read()?, &path).is_some() {
            return Ok(path);
        }
    }
    absolute.canonicalize()
}

/// Returns the occupant of a directory, given its [resolved](resolve) path.
pub fn occupant(dir: &Path) -> io::Result<Occupant> {
    let Some(entry) = mountinfo::topmost(&mountinfo::read()?, dir) else {
        return Ok(Occupant::Nothing);
    };
    Ok(if !entry.is_atlasfs() {
        Occupant::Stranger(entry)
    } else if is_dead(dir) {
        Occupant::DeadAtlasfs(entry)
    } else {
        Occupant::Atlasfs(entry)
    })
}

/// Returns whether the file system on a directory has lost its process. The check is a statfs: the
/// kernel may answer a stat from its cache.
pub(super) fn is_dead(dir: &Path) -> bool {
    let dir = dir.to_owned();
    let answer = within(DEAD_CHECK_TIMEOUT, move || nix::sys::statvfs::statvfs(&dir));
    matches!(answer, Some(Err(errno)) if is_not_connected(&errno.into()))
}

pub(super) fn is_not_connected(error: &io::Error) -> bool {
    // An aborted connection returns ECONNABORTED until its last file is closed.
    let dead = [Errno::ENOTCONN, Errno::ECONNABORTED];
    error
        .raw_os_error()
        .is_some_and(|code| dead.contains(&Errno::from_raw(code)))
}

/// Unmounts an atlasfs, dead or alive; with `lazy` also while files are open.
pub fn unmount(dir: &Path, lazy: bool) -> Result<(), UnmountError> {
    let failed = |error| UnmountError::Failed(dir.to_owned(), error);
    // No request goes to the mount before: on a hung mount it would keep the mount busy.
    let result = match topmost(dir).map_err(failed)? {
        None => return Err(UnmountError::NotMounted(dir.to_owned())),
        Some(entry) if !entry.is_atlasfs() => {
            return Err(UnmountError::Stranger(dir.to_owned(), entry.fstype));
        }
        Some(_) if lazy => detach(dir),
        Some(_) => match unmount_top(dir, false) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && is_dead(dir) => {
                detach(dir)
            }
            result => result,
        },
    };
    result.map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => UnmountError::Busy(dir.to_owned()),
        _ => failed(error),
    })
}

/// Unmounts the top mount of a path, even if files are open.
pub(super) fn detach(dir: &Path) -> io::Result<()> {
    unmount_top(dir, true)
}

fn unmount_top(dir: &Path, lazy: bool) -> io::Result<()> {
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    flags.set(MntFlags::MNT_DETACH, lazy);
    match umount2(dir, flags) {
        Ok(()) => Ok(()),
        // fusermount3 mounts for users other than root, and unmounts for them.
        Err(Errno::EPERM) if !nix::unistd::geteuid().is_root() => fusermount::unmount(dir, lazy),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn topmost(dir: &Path) -> io::Result<Option<MountEntry>> {
    Ok(mountinfo::topmost(&mountinfo::read()?, dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_and_linked_paths_are_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(resolve(&link).unwrap(), real);
        assert_eq!(resolve(&real.join("../real/.")).unwrap(), real);
        assert!(resolve(&dir.path().join("none")).is_err());
        assert_eq!(resolve(Path::new("/")).unwrap(), Path::new("/"));
    }

    #[test]
    fn a_plain_directory_has_no_occupant_and_proc_a_stranger() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        assert_eq!(occupant(&path).unwrap(), Occupant::Nothing);
        assert!(matches!(
            occupant(Path::new("/proc")).unwrap(),
            Occupant::Stranger(_)
        ));
    }

    #[test]
    fn a_directory_without_a_mount_is_an_error_to_unmount() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let error = unmount(&path, false).unwrap_err();
        assert!(matches!(error, UnmountError::NotMounted(_)), "{error}");
    }
}
