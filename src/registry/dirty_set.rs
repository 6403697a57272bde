//! What has changed in the catalogue and is not in its file yet.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::lock;
use crate::model::{ArtifactId, Item, RepoName};

/// Names of what has changed. What they stand for is looked up when it is written, so that a
/// hundred changes of one artifact are one line.
#[derive(Debug, Default)]
pub struct DirtySet {
    changes: Mutex<Changes>,
    wake: Arc<Notify>,
}

/// The names.
#[derive(Debug, Default)]
pub struct Changes {
    /// Artifacts.
    pub artifacts: BTreeSet<ArtifactId>,
    /// Repositories that were listed.
    pub repos: BTreeSet<RepoName>,
    /// Whether it is also the list of repositories.
    pub roots: bool,
}

impl Changes {
    /// Tells whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.artifacts.is_empty() && self.repos.is_empty() && !self.roots
    }
}

impl DirtySet {
    /// Takes note of a changed artifact.
    pub fn artifact(&self, repo: &RepoName, item: &Item) {
        let (repo, item) = (repo.clone(), item.clone());
        self.add(|changes| {
            changes.artifacts.insert(ArtifactId { repo, item });
        });
    }

    /// Takes note of a listed repository.
    pub fn repo(&self, repo: &RepoName) {
        self.add(|changes| {
            changes.repos.insert(repo.clone());
        });
    }

    /// Takes note of a new list of repositories.
    pub fn roots(&self) {
        self.add(|changes| changes.roots = true);
    }

    fn add(&self, add: impl FnOnce(&mut Changes)) {
        add(&mut lock(&self.changes));
        self.wake.notify_one();
    }

    /// Takes all changes so far.
    pub fn take(&self) -> Changes {
        std::mem::take(&mut lock(&self.changes))
    }

    /// Returns what is notified of a change.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }
}
