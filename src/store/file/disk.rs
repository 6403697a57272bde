//! The disk: the few file effects that make up the folder backend. Each is durable by itself, or
//! through the `SyncDir` that follows it.
//!
//! Effects are values, so that tests can record those of a put and replay every crash during them.

use std::fs::Metadata;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;

use crate::dir::Dir;
use crate::store::Kind;

/// One effect on the disk. Paths are relative to the folder.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    /// Makes a directory; an existing one is fine.
    MakeDir(PathBuf),
    /// Writes a new file, sets its time, and syncs its data.
    Write {
        /// The file's path below the folder.
        path: PathBuf,
        /// The file's bytes.
        content: Bytes,
        /// The file's modification time.
        modified: Option<SystemTime>,
    },
    /// Renames a file, replacing an existing one.
    Rename {
        /// The old name.
        from: PathBuf,
        /// The new name.
        to: PathBuf,
    },
    /// Removes a file; a missing one is fine.
    Remove(PathBuf),
    /// Removes a directory if it is empty.
    RemoveDir(PathBuf),
    /// Makes the names in a directory durable.
    SyncDir(PathBuf),
}

/// Performs effects.
#[derive(Debug, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) done: std::sync::Mutex<Vec<Effect>>,
}

impl Disk {
    /// Performs one effect.
    pub(super) fn apply(&self, root: &Dir, effect: Effect) -> io::Result<()> {
        perform(root, &effect)?;
        #[cfg(test)]
        self.done.lock().unwrap().push(effect);
        Ok(())
    }

    /// Makes the directories down to `path`, durably. It syncs existing directories too, because a
    /// crash may have come before their first sync.
    pub(super) fn make_dirs(&self, root: &Dir, path: &Path) -> io::Result<()> {
        let mut parent = PathBuf::new();
        for component in path.components() {
            let child = parent.join(component);
            if root.child(&child).is_err() {
                self.apply(root, Effect::MakeDir(child.clone()))?;
            }
            self.apply(root, Effect::SyncDir(parent))?;
            parent = child;
        }
        Ok(())
    }

    /// Removes `path` and the directories above it that become empty, up to `top`.
    pub(super) fn remove_empty_dirs(&self, root: &Dir, top: &Path, path: &Path) -> io::Result<()> {
        for dir in path.ancestors().take_while(|&dir| dir != top) {
            let removed = self.apply(root, Effect::RemoveDir(dir.to_path_buf()));
            if removed.is_err() {
                break;
            }
            if let Some(parent) = dir.parent() {
                self.apply(root, Effect::SyncDir(parent.to_path_buf()))?;
            }
        }
        Ok(())
    }
}

/// Performs one effect.
pub(super) fn perform(root: &Dir, effect: &Effect) -> io::Result<()> {
    match effect {
        Effect::MakeDir(path) => match root.make_dir(path, mode(root)?) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                root.child(path).map(drop)
            }
            result => result,
        },
        Effect::Write {
            path,
            content,
            modified,
        } => {
            let mut file = root.new_file(path, mode(root)? & 0o666)?;
            file.write_all(content)?;
            if let Some(modified) = modified {
                file.set_modified(*modified)?;
            }
            file.sync_all()
        }
        Effect::Rename { from, to } => root.rename(from, to),
        Effect::Remove(path) => match root.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        },
        Effect::RemoveDir(path) => root.remove_dir(path),
        Effect::SyncDir(path) => match root.sync(path) {
            // File systems without durable directories (some network and FUSE ones) return EINVAL.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            result => result,
        },
    }
}

/// Returns the folder's permissions. Files get no more than these, so they are open to no more
/// users than the folder; the umask restricts them further.
pub(super) fn mode(root: &Dir) -> io::Result<u32> {
    Ok(root.meta("")?.permissions().mode() & 0o777)
}

/// Visits all entries below a directory except directories, without following links, until a visit
/// breaks off. Entries that vanish meanwhile are skipped.
pub(super) fn walk(
    root: &Dir,
    top: &Path,
    last: Option<&str>,
    visit: &mut dyn FnMut(&Path, &Metadata) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut dirs: Vec<PathBuf> = vec![top.to_path_buf()];
    let gone = |error: &io::Error| matches!(Kind::of_io(error), Kind::NotFound | Kind::Invalid);
    while let Some(dir) = dirs.pop() {
        let names = match root.list(&dir) {
            Err(error) if gone(&error) => continue,
            names => names?,
        };
        for name in names {
            let path = dir.join(name);
            let key = path.as_os_str().as_encoded_bytes();
            if last.is_some_and(|last| key > last.as_bytes()) {
                continue;
            }
            match root.meta(&path) {
                Ok(meta) if meta.is_dir() => dirs.push(path),
                Ok(meta) if visit(&path, &meta).is_break() => return Ok(()),
                Ok(_) => {}
                Err(error) if gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Tells whether there is any file below a directory.
pub(super) fn has_file(root: &Dir, top: &Path) -> io::Result<bool> {
    let mut any = false;
    let mut found = |_: &Path, _: &Metadata| {
        any = true;
        ControlFlow::Break(())
    };
    walk(root, top, None, &mut found).map(|()| any)
}
