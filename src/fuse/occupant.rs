//! Who is mounted on a directory, and whether it still answers.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use super::bounded::within;
use super::mountinfo::{self, MountEntry};

/// How long a mount may take to show that it is dead, which the kernel tells by itself; one that
/// takes longer is not known to be.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is mounted on a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occupant {
    /// Nothing.
    Nothing,
    /// An atlasfs, which answers or may yet do so.
    Atlasfs(MountEntry),
    /// What is left of an atlasfs whose process has ended.
    DeadAtlasfs(MountEntry),
    /// Another file system.
    Stranger(MountEntry),
}

/// Returns the absolute path of a directory without asking what may be mounted on it: a mount
/// whose process hangs would hang the caller too.
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

/// Returns who is mounted on a directory, given by its [resolved](resolve) path.
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

/// Returns whether the file system on a directory has lost its process. It is asked with statfs,
/// for the kernel answers stat from its cache for a while.
pub(super) fn is_dead(dir: &Path) -> bool {
    let dir = dir.to_owned();
    let answer = within(PATIENCE, move || nix::sys::statvfs::statvfs(&dir));
    matches!(answer, Some(Err(errno)) if is_not_connected(&errno.into()))
}

pub(super) fn is_not_connected(error: &io::Error) -> bool {
    // An aborted connection says the second until the last file is closed.
    let dead = [Errno::ENOTCONN, Errno::ECONNABORTED];
    error
        .raw_os_error()
        .is_some_and(|code| dead.contains(&Errno::from_raw(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_or_linked_path_is_resolved() {
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
    fn an_ordinary_directory_has_no_occupant_and_proc_has_a_stranger() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        assert_eq!(occupant(&path).unwrap(), Occupant::Nothing);
        assert!(matches!(
            occupant(Path::new("/proc")).unwrap(),
            Occupant::Stranger(_)
        ));
    }
}
