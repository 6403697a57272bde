//! Scratch files: what tools make for themselves, which lives in this mount alone.
//!
//! [`Tree`] has the names, [`TemporaryFile`] what is behind one, `names` the operations on both, and
//! the bounds are a [`Quota`]. The bytes lie in the staging directory.

mod file;
mod names;
mod state;
mod xattr;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use super::quota::Quota;
use super::{CreateAttrs, Error, Result};
use crate::model::RepoName;

pub(super) use file::{Kind, TemporaryFile};

/// What the names of the files in the staging directory begin with. Files without names would need
/// a descriptor each, for as long as they exist.
const PREFIX: &str = "scratch-";

/// A directory that scratch files can be in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Root,
    Repo(RepoName),
    Plans(RepoName),
    /// A scratch directory, by its number.
    Dir(u64),
}

/// The names of all scratch files.
#[derive(Debug)]
pub(super) struct Tree {
    names: HashMap<Place, BTreeMap<OsString, Arc<TemporaryFile>>>,
    /// The directories that have a name, by number.
    directories: HashMap<u64, Weak<TemporaryFile>>,
    last: u64,
    budget: Arc<Quota>,
    staging: PathBuf,
}

impl Tree {
    /// Makes a tree with nothing in it, and removes what a mount that was killed has left.
    pub(super) fn new(limit: u64, staging: PathBuf) -> Self {
        sweep(&staging);
        Self {
            names: HashMap::new(),
            directories: HashMap::new(),
            last: 0,
            budget: Arc::new(Quota::new(limit)),
            staging,
        }
    }

    /// Finds a name.
    pub(super) fn find(&self, place: &Place, name: &OsStr) -> Result<Arc<TemporaryFile>> {
        let found = self.names.get(place).and_then(|names| names.get(name));
        found.cloned().ok_or(Error::NotFound)
    }

    /// Makes something new; it has no name yet.
    pub(super) fn make(
        &mut self,
        kind: Kind,
        attrs: CreateAttrs,
        now: SystemTime,
    ) -> Result<Arc<TemporaryFile>> {
        self.last += 1;
        let budget = Arc::clone(&self.budget);
        let made = TemporaryFile::new(self.last, kind, attrs, budget, &self.staging, now)?;
        Ok(Arc::new(made))
    }

    /// Gives a file one more name; what had the name before loses it.
    pub(super) fn insert(
        &mut self,
        place: Place,
        name: OsString,
        temporary: Arc<TemporaryFile>,
        now: SystemTime,
    ) {
        // Fails only if there was nothing of that name.
        let _ = self.remove(&place, &name, now);
        temporary.add_link(now);
        self.has_changed(&place, i32::from(temporary.is_directory()), now);
        if temporary.is_directory() {
            let directory = Arc::downgrade(&temporary);
            self.directories.insert(temporary.number, directory);
        }
        self.names.entry(place).or_default().insert(name, temporary);
    }

    /// Takes a name away from what it stands for.
    pub(super) fn remove(
        &mut self,
        place: &Place,
        name: &OsStr,
        now: SystemTime,
    ) -> Result<Arc<TemporaryFile>> {
        let names = self.names.get_mut(place).ok_or(Error::NotFound)?;
        let removed = names.remove(name).ok_or(Error::NotFound)?;
        if names.is_empty() {
            self.names.remove(place);
        }
        removed.remove_link(now);
        self.has_changed(place, -i32::from(removed.is_directory()), now);
        self.directories.remove(&removed.number);
        Ok(removed)
    }

    /// Takes note that the names in a directory have changed. What is not a scratch directory has
    /// nothing to be changed.
    fn has_changed(&self, place: &Place, directories: i32, now: SystemTime) {
        if let Place::Dir(number) = place
            && let Some(directory) = self.directories.get(number).and_then(Weak::upgrade)
        {
            directory.names_have_changed(directories, now);
        }
    }

    /// Takes a name away if it still stands for this file.
    pub(super) fn remove_if(
        &mut self,
        place: &Place,
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
        place: &Place,
    ) -> impl Iterator<Item = (&OsString, &Arc<TemporaryFile>)> + use<'_> {
        self.names.get(place).into_iter().flatten()
    }

    /// Tells whether a directory has no scratch file in it.
    pub(super) fn is_empty(&self, place: &Place) -> bool {
        self.names.get(place).is_none_or(BTreeMap::is_empty)
    }
}

fn sweep(staging: &Path) {
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
    fn what_a_killed_mount_has_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["scratch-AbC123", "other", "scratch-notes.txt"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let _tree = Tree::new(1, dir.path().to_owned());
        let left = std::fs::read_dir(dir.path()).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["other", "scratch-notes.txt"]);
    }

    #[test]
    fn the_bytes_go_with_the_last_who_holds_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let mut tree = Tree::new(10, dir.path().to_owned());
        let file = tree.make(Kind::File, CreateAttrs::default(), now).unwrap();
        file.open(false, now).unwrap();
        file.write(0, b"0123456789", false, now, &Room::default())
            .unwrap();
        tree.insert(Place::Root, ".a".into(), Arc::clone(&file), now);
        let other = tree.make(Kind::File, CreateAttrs::default(), now).unwrap();
        other.open(false, now).unwrap();
        assert_eq!(
            other.write(0, b"x", false, now, &Room::default()),
            Err(Error::NoSpace)
        );
        tree.remove(&Place::Root, OsStr::new(".a"), now).unwrap();
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
