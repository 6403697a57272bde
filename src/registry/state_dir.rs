//! The state directory: what a mount keeps on this machine, and the lock that makes it one
//! mount's.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::room::is_full;

/// Why a state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Another mount uses it.
    #[error(
        "the state directory {dir} is in use by {holder}: unmount that, or choose another one \
         with --state-dir"
    )]
    InUse {
        /// The directory.
        dir: String,
        /// What the other mount says of itself.
        holder: String,
    },
    /// It can't be made, read or written.
    #[error("can't use the state directory {path}: {source}; choose another one with --state-dir")]
    Io {
        /// What the operation was on.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// A state directory, locked for as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    dir: PathBuf,
    /// The lock; or why there is none, on a full disk that nothing was ever kept on.
    lock: Result<File, String>,
}

impl StateDir {
    /// Makes the directory if it isn't there, for its owner alone, and locks it. `holder` is what
    /// another mount that finds it locked says of this one.
    ///
    /// # Errors
    ///
    /// [`StateDirError`].
    pub fn open(dir: &Path, holder: &str) -> Result<Self, StateDirError> {
        let wrong = |path: &Path| {
            let path = path.display().to_string();
            move |source| StateDirError::Io { path, source }
        };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        // A full disk keeps nobody from reading. What is missing is made by the first push that
        // finds room.
        let unlocked = |error: io::Error| Self {
            dir: dir.to_owned(),
            lock: Err(format!(
                "the state directory {} could not be made when mounting ({error}): make room, and \
                 mount again",
                dir.display()
            )),
        };
        match builder.create(dir) {
            Err(error) if is_full(&error) => return Ok(unlocked(error)),
            made => made.map_err(wrong(dir))?,
        }
        let staging = dir.join("staging");
        match builder.create(&staging) {
            Err(error) if is_full(&error) => {}
            made => made.map_err(wrong(&staging))?,
        }
        let path = dir.join("lock");
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let lock = match lock {
            Err(error) if is_full(&error) => return Ok(unlocked(error)),
            lock => lock.map_err(wrong(&path))?,
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.take(1_000).read_to_string(&mut holder);
                return Err(StateDirError::InUse {
                    dir: dir.display().to_string(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(wrong(&path)(source)),
        }
        let holder = format!("{holder}\n");
        // In this order a full disk takes it in the place of the last one.
        let written = lock
            .write_all_at(holder.as_bytes(), 0)
            .and_then(|()| lock.set_len(holder.len() as u64));
        match written {
            Err(error) if !is_full(&error) => Err(wrong(&path)(error)),
            _ => Ok(Self {
                dir: dir.to_owned(),
                lock: Ok(lock),
            }),
        }
    }

    /// Returns the directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns why nothing can be kept here, if that is so.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.lock.as_ref().err().map(String::as_str)
    }

    /// Returns where staging files lie.
    pub fn staging(&self) -> PathBuf {
        self.dir.join("staging")
    }

    /// Returns where the journal lies.
    pub(super) fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    /// Returns where the catalogue's file lies.
    pub(super) fn catalogue(&self) -> PathBuf {
        self.dir.join("catalogue")
    }

    /// Returns where the cache on disk lies, unless told otherwise.
    pub(super) fn cache(&self) -> PathBuf {
        self.dir.join("cache")
    }
}

/// Makes a name for a mount point's own folder below the state directory of a user.
pub fn folder_of(mount_point: &Path) -> PathBuf {
    let mut name = String::new();
    for byte in mount_point.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' if name.is_empty() => {}
            b'/' => name.push('-'),
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') => {
                name.push(char::from(*byte));
            }
            byte => name.push_str(&format!("%{byte:02x}")),
        }
    }
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_mount_is_refused_with_the_name_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path(), "the mount on /mnt/a, process 7").unwrap();
        let second = StateDir::open(dir.path(), "the mount on /mnt/b").unwrap_err();
        let message = second.to_string();
        assert!(
            message.contains("in use by the mount on /mnt/a, process 7"),
            "{message}"
        );
        assert!(message.contains("--state-dir"), "{message}");
        drop(first);
        StateDir::open(dir.path(), "the mount on /mnt/b").unwrap();
    }

    #[test]
    fn it_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        let _lock = StateDir::open(&state, "").unwrap();
        for path in [state.join("staging"), state] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
    }

    #[test]
    fn a_directory_that_can_not_be_made_is_named() {
        let error = StateDir::open(Path::new("/dev/null/x"), "").unwrap_err();
        assert!(error.to_string().contains("/dev/null/x"), "{error}");
    }

    #[test]
    fn mount_points_have_different_folders() {
        assert_eq!(
            folder_of(Path::new("/mnt/registry")),
            Path::new("mnt-registry")
        );
        assert_eq!(
            folder_of(Path::new("/mnt-registry")),
            Path::new("mnt%2dregistry")
        );
        assert_eq!(folder_of(Path::new("/é")), Path::new("%c3%a9"));
    }
}
