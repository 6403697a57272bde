//! The root of the state directories: what this machine keeps of each registry, by its id, for the
//! mounts of it.
//!
//! ```text
//! stores/                  which store each location is
//! registries/<id>/<n>/     the n-th of the mounts of this registry that run at the same time
//! ```
//!
//! A mount takes the first directory that is free, and takes over what mounts that have ended have
//! left in the journals of the others. So a push that waits for a target is replayed by any later
//! mount of its registry, and by no mount of another one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::journal;
use super::known_stores::KnownStores;
use super::replica_sets::ReplicaSets;
use super::room::is_full;
use super::state_dir::{REGISTRIES, StateDir, StateDirError, claim};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::store::StoreId;

/// The most mounts of one registry at the same time in one root: far more than any machine has.
const MAX_MOUNTS: usize = 256;

/// The root of the state directories of a user, or of `--state-dir`.
#[derive(Debug)]
pub struct StateRoot {
    path: PathBuf,
}

impl StateRoot {
    /// Makes the directory if it is missing, private to its owner.
    ///
    /// # Errors
    ///
    /// [`StateDirError`].
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        match claim(path) {
            // Reading must work on a full disk.
            Err(StateDirError::Io { source, .. }) if is_full(&source) => {}
            claimed => drop(claimed?),
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Returns what this machine knows of the stores.
    pub fn stores(&self) -> KnownStores {
        KnownStores::new(&self.path)
    }

    /// Opens the first free state directory of a registry. `holder` describes this mount to another
    /// one that finds the directory locked.
    ///
    /// # Errors
    ///
    /// [`StateDirError`].
    pub fn of_registry(&self, id: &StoreId, holder: &str) -> Result<StateDir, StateDirError> {
        let dir = self.path.join(REGISTRIES).join(id.as_str());
        let mut number = 1;
        loop {
            match StateDir::open(&dir.join(number.to_string()), holder) {
                Err(StateDirError::InUse { .. }) if number < MAX_MOUNTS => number += 1,
                opened => return Ok(opened?.with_locations(self.stores().locations())),
            }
        }
    }

    /// Moves what mounts that have ended have left in their journals into this mount's own, as far as
    /// it is for this mount's registries. A file that can't be moved stays for the next mount.
    pub fn take_over(&self, own: &StateDir, replica_sets: &ReplicaSets) {
        let is_ours = |registry: &str| {
            #[cfg(test)]
            if injected(Bug::ReplayToAnyone) {
                return true;
            }
            let mut open = replica_sets.open().iter();
            open.any(|replicas| replicas.registry.is_named(registry))
        };
        for registry in subfolders(&self.path.join(REGISTRIES)) {
            let name = registry.file_name().unwrap_or_default().to_string_lossy();
            let all = is_ours(&name);
            for dir in subfolders(&registry).filter(|dir| dir != own.dir()) {
                let Some(left) = StateDir::left_behind(&dir) else {
                    continue;
                };
                let moved = journal::take_over(&left.journal(), &own.journal(), |record| {
                    // A push that failed before it was journalled names no registry.
                    let named = record.map(|record| &*record.registry);
                    named
                        .filter(|registry| !registry.is_empty())
                        .map_or(all, is_ours)
                });
                if let Err(error) = moved {
                    let dir = left.dir().display();
                    tracing::warn!(
                        "can't take over the pushes that an earlier mount left in {dir}: {error}"
                    );
                }
            }
        }
    }
}

fn subfolders(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries: io::Result<Vec<_>> = fs::read_dir(dir).and_then(Iterator::collect);
    let entries = entries.unwrap_or_default().into_iter();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{ArtifactId, Format, Item, RepoName, Stamp};
    use crate::registry::journal::{Journal, Record};
    use crate::registry::replica::{Replica, ReplicaSet, TargetId};
    use crate::store::{Memory, Role, Target};

    fn id() -> StoreId {
        StoreId::random().unwrap()
    }

    /// The targets of a mount whose registry has this name.
    fn replica_sets(registry: &str) -> ReplicaSets {
        let target = Target::new(Role::Registry, registry, Arc::new(Memory::default()));
        let replicas = ReplicaSet {
            registry: Arc::new(Replica::new(TargetId(0), target)),
            backups: Vec::new(),
        };
        ReplicaSets::new(Vec::new(), Some(replicas))
    }

    /// Leaves a pending push for a registry in a state directory.
    fn leave(state: &StateDir, registry: &str, when: u64) {
        let (journal, _) = Journal::open(state.journal(), 1 << 20).unwrap();
        let id = ArtifactId {
            repo: RepoName::parse("app").unwrap(),
            item: Item::Schema,
        };
        let stamp = Stamp::new(when, b"x", Format::Sql);
        let record = Record {
            registry: registry.to_owned(),
            ..Record::new(&id, &stamp, false)
        };
        journal
            .admit(record, bytes::Bytes::from_static(b"x"))
            .unwrap();
        journal.write(when).unwrap();
    }

    fn left(state: &StateDir) -> usize {
        let (journal, _) = Journal::open(state.journal(), 1 << 20).unwrap();
        journal.select(|_| true).len()
    }

    #[test]
    fn mounts_of_one_registry_have_a_state_directory_each() {
        let dir = tempfile::tempdir().unwrap();
        let root = StateRoot::open(dir.path()).unwrap();
        let registry = id();
        let first = root.of_registry(&registry, "a").unwrap();
        let second = root.of_registry(&registry, "b").unwrap();
        assert_ne!(first.dir(), second.dir());
        let before = first.dir().to_owned();
        drop(first);
        assert_eq!(root.of_registry(&registry, "c").unwrap().dir(), before);
    }

    #[test]
    fn pushes_of_ended_mounts_are_taken_over_by_their_registry_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = StateRoot::open(dir.path()).unwrap();
        let (ours, other) = (id(), id());
        let first = root.of_registry(&ours, "a").unwrap();
        leave(&first, ours.as_str(), 1);
        let ended = root.of_registry(&ours, "b").unwrap();
        leave(&ended, ours.as_str(), 2);
        // A mount of several registries keeps its pushes under the first one.
        leave(&ended, other.as_str(), 3);
        leave(&ended, "", 4);
        drop(ended);
        let mount = root.of_registry(&other, "c").unwrap();
        root.take_over(&mount, &replica_sets(other.as_str()));
        assert_eq!(left(&mount), 1);
        let mount = root.of_registry(&ours, "d").unwrap();
        root.take_over(&mount, &replica_sets(ours.as_str()));
        assert_eq!(left(&mount), 2, "the first mount still runs");
        drop((first, mount));
        let mount = root.of_registry(&ours, "e").unwrap();
        root.take_over(&mount, &replica_sets(ours.as_str()));
        assert_eq!(left(&mount), 3);
    }
}
