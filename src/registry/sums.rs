//! The sums of migration directories: whether each agrees with its `atlas.sum`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::entry::Revision;
use super::error::RegistryError;
use super::{Registry, lock};
use crate::model::{ArtifactId, Item, MigrationName, RepoName, Section, SumFile};

/// How many files of a directory are pulled at once. 8: a directory has dozens of small files.
const CONCURRENT_PULLS: usize = 8;

/// Whether a migration directory agrees with its `atlas.sum`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SumState {
    /// It does.
    Agrees,
    /// It has no `atlas.sum`.
    Absent,
    /// The first difference, in Atlas's words.
    Differs(String),
}

impl fmt::Display for SumState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            SumState::Agrees => "ok",
            SumState::Absent => "absent",
            SumState::Differs(difference) => difference,
        })
    }
}

/// The sums that this mount has computed.
#[derive(Debug, Default)]
pub(super) struct Sums {
    known: Mutex<BTreeMap<RepoName, KnownSum>>,
    /// The repositories whose sum is to be computed in the background.
    due: Mutex<BTreeSet<RepoName>>,
}

/// The sum of a directory, and the contents that it was computed of.
#[derive(Debug, Clone)]
struct KnownSum {
    revisions: Vec<u64>,
    state: SumState,
}

/// The files of a migration directory.
#[derive(Debug, Default)]
struct Directory {
    sum: Option<Bytes>,
    files: BTreeMap<MigrationName, Bytes>,
}

impl Directory {
    fn state(&self) -> SumState {
        let Some(sum) = &self.sum else {
            return SumState::Absent;
        };
        let sum = match SumFile::parse(sum) {
            Ok(sum) => sum,
            // It was put there by hand.
            Err(invalid) => return SumState::Differs(format!("atlas.sum: {invalid}")),
        };
        let files = self.files.iter();
        let actual = SumFile::compute(files.map(|(name, content)| (name.as_str(), &**content)));
        match sum.difference(&actual) {
            None => SumState::Agrees,
            Some(difference) => SumState::Differs(difference.to_string()),
        }
    }
}

impl Registry {
    /// Returns whether a migration directory agrees with its `atlas.sum`. It reads the files that
    /// have changed since the last time.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] if a file can't be read.
    pub async fn sum(self: &Arc<Self>, repo: &RepoName) -> Result<SumState, RegistryError> {
        let listed = self.list(&Section::migrations(repo)).await?;
        let revisions: Vec<u64> = listed.iter().map(|(_, known)| known.revision).collect();
        let known = lock(&self.sums.known).get(repo).cloned();
        if let Some(known) = known.filter(|known| known.revisions == revisions) {
            return Ok(known.state);
        }
        let state = self.directory(repo, listed).await?.state();
        let known = KnownSum {
            revisions,
            state: state.clone(),
        };
        lock(&self.sums.known).insert(repo.clone(), known);
        Ok(state)
    }

    /// Pulls the files of a directory.
    async fn directory(
        self: &Arc<Self>,
        repo: &RepoName,
        listed: Vec<(Item, Revision)>,
    ) -> Result<Directory, RegistryError> {
        let pulls = listed.into_iter().map(|(item, _)| async {
            let repo = repo.clone();
            let id = ArtifactId { repo, item };
            let pulled = self.pull(&id).await?;
            Ok::<_, RegistryError>((id.item, pulled.bytes))
        });
        let pulls = futures::stream::iter(pulls).buffer_unordered(CONCURRENT_PULLS);
        let pulled: Vec<(Item, Bytes)> = pulls.try_collect().await?;
        let mut directory = Directory::default();
        for (item, content) in pulled {
            match item {
                Item::Migration(name) if name.is_sum() => directory.sum = Some(content),
                Item::Migration(name) => drop(directory.files.insert(name, content)),
                _ => {}
            }
        }
        Ok(directory)
    }

    /// Computes the sum of a directory in the background, for the status.
    pub fn look_at_sum(self: &Arc<Self>, repo: &RepoName) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if lock(&self.sums.due).insert(repo.clone()) {
            let (registry, repo) = (Arc::clone(self), repo.clone());
            runtime.spawn(async move {
                lock(&registry.sums.due).remove(&repo);
                // What can't be read now stays as it is.
                let _ = registry.sum(&repo).await;
            });
        }
    }

    /// Returns the repositories whose sum is not ok, as far as this mount has looked. It looks again
    /// at each of them, for the next time.
    pub(super) fn wrong_sums(self: &Arc<Self>) -> Vec<Value> {
        let sums = lock(&self.sums.known);
        let is_wrong = |sum: &KnownSum| match sum.state {
            SumState::Agrees => false,
            SumState::Absent => !sum.revisions.is_empty(),
            SumState::Differs(_) => true,
        };
        let wrong: Vec<_> = sums.iter().filter(|(_, sum)| is_wrong(sum)).collect();
        wrong.iter().for_each(|(repo, _)| self.look_at_sum(repo));
        let wrong = wrong.into_iter();
        wrong
            .map(|(repo, sum)| json!({ "repo": repo.as_str(), "sum": sum.state.to_string() }))
            .collect()
    }
}
