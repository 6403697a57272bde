//! What exists in this mount alone: repositories that nothing has been pushed to yet, and
//! artifacts that were only touched.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ArtifactId, Format, Item, RepoName};

/// The local names.
#[derive(Debug, Default)]
pub(super) struct Local {
    repos: BTreeSet<RepoName>,
    touched: BTreeMap<ArtifactId, Option<Format>>,
}

impl Local {
    /// Makes a repository; `false` if it was made already.
    pub(super) fn make(&mut self, repo: RepoName) -> bool {
        self.repos.insert(repo)
    }

    /// Tells whether a repository was made here.
    pub(super) fn has(&self, repo: &RepoName) -> bool {
        self.repos.contains(repo)
    }

    /// Removes a repository; `false` if it wasn't made here.
    pub(super) fn remove(&mut self, repo: &RepoName) -> bool {
        self.repos.remove(repo)
    }

    /// Lists the repositories made here.
    pub(super) fn repos(&self) -> impl Iterator<Item = &RepoName> {
        self.repos.iter()
    }

    /// Takes note of an artifact that was created and left empty, and of its name's suffix.
    pub(super) fn touch(&mut self, id: ArtifactId, suffix: Option<Format>) {
        self.touched.insert(id, suffix);
    }

    /// Forgets a touched artifact; `false` if it wasn't one.
    pub(super) fn untouch(&mut self, id: &ArtifactId) -> bool {
        self.touched.remove(id).is_some()
    }

    /// Tells whether a touched artifact answers to a name with this suffix.
    pub(super) fn is_touched(&self, id: &ArtifactId, suffix: Option<Format>) -> bool {
        let touched = self.touched.get(id);
        touched.is_some_and(|made| made.is_none() || suffix.is_none() || *made == suffix)
    }

    /// Lists the touched artifacts of a repository.
    pub(super) fn touched(&self, repo: &RepoName) -> impl Iterator<Item = &Item> {
        let all = self.touched.keys();
        all.filter(move |id| id.repo == *repo).map(|id| &id.item)
    }
}
