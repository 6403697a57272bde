//! Changes of the index that are not in its file yet.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::lock;
use crate::model::{ArtifactId, Item, RepoName, Section};

/// Names of changed items. Their state is looked up when it is written, so that a hundred changes
/// of one artifact make one line.
#[derive(Debug, Default)]
pub struct DirtySet {
    changes: Mutex<Changes>,
    wake: Arc<Notify>,
}

/// The names of changed items.
#[derive(Debug, Default)]
pub struct Changes {
    /// Artifacts.
    pub artifacts: BTreeSet<ArtifactId>,
    /// Folders that were listed.
    pub sections: BTreeSet<Section>,
    /// Whether the list of repositories has changed.
    pub roots: bool,
}

impl Changes {
    /// Returns whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.artifacts.is_empty() && self.sections.is_empty() && !self.roots
    }
}

impl DirtySet {
    /// Records a changed artifact.
    pub fn artifact(&self, repo: &RepoName, item: &Item) {
        let (repo, item) = (repo.clone(), item.clone());
        self.add(|changes| {
            changes.artifacts.insert(ArtifactId { repo, item });
        });
    }

    /// Records a listed section.
    pub fn section(&self, section: &Section) {
        self.add(|changes| {
            changes.sections.insert(section.clone());
        });
    }

    /// Records a new list of repositories.
    pub fn roots(&self) {
        self.add(|changes| changes.roots = true);
    }

    fn add(&self, add: impl FnOnce(&mut Changes)) {
        add(&mut lock(&self.changes));
        self.wake.notify_one();
    }

    /// Removes and returns all changes so far.
    pub fn take(&self) -> Changes {
        std::mem::take(&mut lock(&self.changes))
    }

    /// Returns the handle that every change notifies.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }
}
