//! The disk: the few effects on files that the folder driver is made of, each durable in itself
//! or made so by the `SyncDir` that follows it.
//!
//! They are values so that tests can record a put's effects and replay every crash amid them.

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
    /// Makes a directory; one that is there is fine.
    MakeDir(PathBuf),
    /// Writes a new file, gives it its time, and syncs its data.
    Write {
        /// The file's path below the folder.
        path: PathBuf,
        /// The file's bytes.
        content: Bytes,
        /// The file's modification time.
        modified: Option<SystemTime>,
    },
    /// Renames a file, over another one if there is one.
    Rename {
        /// The name it has.
        from: PathBuf,
        /// The name it gets.
        to: PathBuf,
    },
    /// Removes a file; one that isn't there is fine.
    Remove(PathBuf),
    /// Removes a directory if it is empty.
    RemoveDir(PathBuf),
    /// Makes the names in a directory durable.
    SyncDir(PathBuf),
}

/// Carries effects out.
#[derive(Debug, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) done: std::sync::Mutex<Vec<Effect>>,
}

impl Disk {
    /// Carries out one effect.
    pub(super) fn apply(&self, root: &Dir, effect: Effect) -> io::Result<()> {
        perform(root, &effect)?;
        #[cfg(test)]
        self.done.lock().unwrap().push(effect);
        Ok(())
    }

    /// Makes the directories down to `path`, durably. Each is synced also when it was there, for
    /// its maker may have crashed before that.
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

    /// Removes `path` and the directories above it that are empty then, up to `top`.
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

/// Carries out one effect.
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
            // File systems without durable directories (some network and FUSE ones) say so.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            result => result,
        },
    }
}

/// Returns the permissions of the folder. Nothing in it is open to more users than the folder is;
/// the umask takes away more.
pub(super) fn mode(root: &Dir) -> io::Result<u32> {
    Ok(root.meta("")?.permissions().mode() & 0o777)
}

/// Visits everything below a directory that is not itself a directory, following no link, until
/// there is nothing left or a visit says that it is enough. What vanishes meanwhile was never
/// there.
pub(super) fn walk(
    root: &Dir,
    top: &Path,
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
    walk(root, top, &mut found).map(|()| any)
}
