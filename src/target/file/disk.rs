//! The disk: the few effects on files that the folder driver is made of, each durable in itself
//! or made so by the `SyncDir` that follows it.
//!
//! They are values so that tests can record a put's effects and replay every crash amid them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;

/// One effect on the disk.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    /// Makes a directory; one that is there is fine.
    MakeDir(PathBuf),
    /// Writes a new file, gives it its time, and syncs its data.
    Write {
        /// Where.
        path: PathBuf,
        /// What.
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
    pub(super) fn apply(&self, effect: Effect) -> io::Result<()> {
        perform(&effect)?;
        #[cfg(test)]
        self.done.lock().unwrap().push(effect);
        Ok(())
    }

    /// Makes the directories between `root`, which must be there, and `path`, durably.
    ///
    /// Each is made by itself, so that a root that has vanished is never made again; each is
    /// synced also when it was there, for whoever made it may not have got that far.
    pub(super) fn make_dirs(&self, root: &Path, path: &Path) -> io::Result<()> {
        let Ok(below) = path.strip_prefix(root) else {
            return Ok(());
        };
        let mut parent = root.to_path_buf();
        for component in below.components() {
            let child = parent.join(component);
            if !child.is_dir() {
                self.apply(Effect::MakeDir(child.clone()))?;
            }
            self.apply(Effect::SyncDir(parent))?;
            parent = child;
        }
        Ok(())
    }

    /// Removes `path` and the directories above it that are empty then, up to `root`.
    pub(super) fn remove_empty_dirs(&self, root: &Path, path: &Path) -> io::Result<()> {
        for dir in path.ancestors().take_while(|&dir| dir != root) {
            if self.apply(Effect::RemoveDir(dir.to_path_buf())).is_err() {
                break;
            }
            if let Some(parent) = dir.parent() {
                self.apply(Effect::SyncDir(parent.to_path_buf()))?;
            }
        }
        Ok(())
    }
}

/// Carries out one effect.
pub(super) fn perform(effect: &Effect) -> io::Result<()> {
    match effect {
        Effect::MakeDir(path) => match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result,
        },
        Effect::Write {
            path,
            content,
            modified,
        } => {
            let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
            file.write_all(content)?;
            if let Some(modified) = modified {
                file.set_modified(*modified)?;
            }
            file.sync_all()
        }
        Effect::Rename { from, to } => fs::rename(from, to),
        Effect::Remove(path) => match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        },
        Effect::RemoveDir(path) => fs::remove_dir(path),
        Effect::SyncDir(path) => match File::open(path)?.sync_all() {
            // File systems without durable directories (some network and FUSE ones) say so.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result,
        },
    }
}
