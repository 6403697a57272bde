//! Temporary files: the files that tools make for themselves. They live in this mount alone.
//!
//! [`TemporaryTree`] has the names, [`TemporaryFile`] is one file, and `names` has the operations
//! of the file system on both. A [`Quota`] limits the bytes, which lie in the staging directory.

mod file;
mod names;
mod xattrs;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use super::staging::Quota;
use super::types::{CreateAttrs, Error, Result};
use crate::model::RepoName;

use file::PREFIX;
pub(super) use file::{TemporaryFile, TemporaryKind};

/// A directory that can hold temporary files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum TemporaryDir {
    Root,
    Repo(RepoName),
    Plans(RepoName),
    Migrations(RepoName),
    Tags(RepoName),
    /// A temporary directory, by its number.
    Dir(u64),
}

/// The names of all temporary files.
#[derive(Debug)]
pub(super) struct TemporaryTree {
    names: HashMap<TemporaryDir, BTreeMap<OsString, Arc<TemporaryFile>>>,
    /// The directories that have a name, by number.
    directories: HashMap<u64, Weak<TemporaryFile>>,
    last: u64,
    budget: Arc<Quota>,
    staging: PathBuf,
}

impl TemporaryTree {
    /// Makes an empty tree, and removes the files that a killed mount has left.
    pub(super) fn new(limit: u64, staging: PathBuf) -> Self {
        remove_leftovers(&staging);
        Self {
            names: HashMap::new(),
            directories: HashMap::new(),
            last: 0,
            budget: Arc::new(Quota::new(limit)),
            staging,
        }
    }

    /// Finds a name.
    pub(super) fn find(&self, place: &TemporaryDir, name: &OsStr) -> Result<Arc<TemporaryFile>> {
        let found = self.names.get(place).and_then(|names| names.get(name));
        found.cloned().ok_or(Error::NotFound)
    }

    /// Makes a file without a name.
    pub(super) fn make(
        &mut self,
        kind: TemporaryKind,
        attrs: CreateAttrs,
        now: SystemTime,
    ) -> Result<Arc<TemporaryFile>> {
        self.last += 1;
        let budget = Arc::clone(&self.budget);
        let made = TemporaryFile::new(self.last, kind, attrs, budget, &self.staging, now)?;
        Ok(Arc::new(made))
    }

    /// Adds a name to a file; another file that had the name loses it.
    pub(super) fn insert(
        &mut self,
        place: TemporaryDir,
        name: OsString,
        temporary: Arc<TemporaryFile>,
        now: SystemTime,
    ) {
        // This fails only if the name is new.
        let _ = self.remove(&place, &name, now);
        temporary.add_links(1, now);
        self.names_have_changed(&place, i32::from(temporary.is_directory()), now);
        if temporary.is_directory() {
            let directory = Arc::downgrade(&temporary);
            self.directories.insert(temporary.number, directory);
        }
        self.names.entry(place).or_default().insert(name, temporary);
    }

    /// Removes a name; returns its file.
    pub(super) fn remove(
        &mut self,
        place: &TemporaryDir,
        name: &OsStr,
        now: SystemTime,
    ) -> Result<Arc<TemporaryFile>> {
        let names = self.names.get_mut(place).ok_or(Error::NotFound)?;
        let removed = names.remove(name).ok_or(Error::NotFound)?;
        if names.is_empty() {
            self.names.remove(place);
        }
        removed.add_links(-1, now);
        self.names_have_changed(place, -i32::from(removed.is_directory()), now);
        self.directories.remove(&removed.number);
        Ok(removed)
    }

    /// Records that the names in a directory have changed; only a temporary directory shows such a
    /// change.
    fn names_have_changed(&self, place: &TemporaryDir, directories: i32, now: SystemTime) {
        if let TemporaryDir::Dir(number) = place
            && let Some(directory) = self.directories.get(number).and_then(Weak::upgrade)
        {
            directory.names_have_changed(directories, now);
        }
    }

    /// Removes a name if it is still this file's.
    pub(super) fn remove_if(
        &mut self,
        place: &TemporaryDir,
        name: &OsStr,
        temporary: &Arc<TemporaryFile>,
        now: SystemTime,
    ) {
        let is = |found: Arc<TemporaryFile>| Arc::ptr_eq(&found, temporary);
        if self.find(place, name).is_ok_and(is) {
            let _ = self.remove(place, name, now);
        }
    }

    /// Lists a directory.
    pub(super) fn list(
        &self,
        place: &TemporaryDir,
    ) -> impl Iterator<Item = (&OsString, &Arc<TemporaryFile>)> + use<'_> {
        self.names.get(place).into_iter().flatten()
    }

    /// Tells whether a directory has no temporary file in it.
    pub(super) fn is_empty(&self, place: &TemporaryDir) -> bool {
        self.names.get(place).is_none_or(BTreeMap::is_empty)
    }
}

/// Removes the files that a killed mount has left.
fn remove_leftovers(staging: &Path) {
    let entries = std::fs::read_dir(staging).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let random = name.as_encoded_bytes().strip_prefix(PREFIX.as_bytes());
        let own = |random: &[u8]| random.len() == 6 && random.iter().all(u8::is_ascii_alphanumeric);
        if !random.is_some_and(own) {
            continue;
        }
        if let Err(error) = std::fs::remove_file(entry.path()) {
            let path = entry.path();
            tracing::warn!(
                "can't remove {}: {error}; remove it by hand",
                path.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Room;

    #[test]
    fn only_the_files_of_a_killed_mount_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["scratch-AbC123", "other", "scratch-notes.txt"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let _tree = TemporaryTree::new(1, dir.path().to_owned());
        let left = std::fs::read_dir(dir.path()).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["other", "scratch-notes.txt"]);
    }

    #[test]
    fn the_bytes_are_freed_with_the_last_reference() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let mut tree = TemporaryTree::new(10, dir.path().to_owned());
        let file = tree
            .make(TemporaryKind::File, CreateAttrs::default(), now)
            .unwrap();
        file.open(false, now).unwrap();
        file.write(0, b"0123456789", false, now, &Room::default())
            .unwrap();
        tree.insert(TemporaryDir::Root, ".a".into(), Arc::clone(&file), now);
        let other = tree
            .make(TemporaryKind::File, CreateAttrs::default(), now)
            .unwrap();
        other.open(false, now).unwrap();
        assert_eq!(
            other.write(0, b"x", false, now, &Room::default()),
            Err(Error::NoSpace)
        );
        tree.remove(&TemporaryDir::Root, OsStr::new(".a"), now)
            .unwrap();
        assert_eq!(
            other.write(0, b"x", false, now, &Room::default()),
            Err(Error::NoSpace)
        );
        drop(file);
        other.write(0, b"x", false, now, &Room::default()).unwrap();
        drop(other);
        drop(tree);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
