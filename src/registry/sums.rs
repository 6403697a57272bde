//! The sums of migration directories: whether each agrees with its `atlas.sum`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::entry::Revision;
use super::error::{RegistryError, overdue};
use super::keyed_lock::KeyedLock;
use super::{Registry, lock};
use crate::model::{
    ArtifactId, Author, Item, MigrationDirectory, MigrationName, RepoName, Section, SumState,
};

/// How many files of a directory are pulled at once. 8: a directory has dozens of small files.
const CONCURRENT_PULLS: usize = 8;

/// The sums that this mount has computed.
#[derive(Debug, Default)]
pub(super) struct Sums {
    known: Mutex<BTreeMap<RepoName, KnownSum>>,
    /// Held while a repository's directory is looked at after a change.
    looks: KeyedLock<RepoName>,
}

/// The sum of a directory, and the contents that it was computed of.
#[derive(Debug, Clone)]
struct KnownSum {
    revisions: Vec<u64>,
    state: SumState,
    /// Whether the directory is a version, or needs none.
    is_kept: bool,
}

/// A directory at one moment.
struct Look {
    directory: MigrationDirectory,
    /// The time of its newest file; `None` if a file has changed meanwhile.
    when: Option<u64>,
}

impl Registry {
    /// Returns whether a migration directory agrees with its `atlas.sum`. It reads the files, unless
    /// none has changed since the last time. It takes no longer than one read may; the files that it has
    /// read by then are cached for the next time.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] if a file can't be read.
    pub async fn sum(self: &Arc<Self>, repo: &RepoName) -> Result<SumState, RegistryError> {
        let listed = self.list(&Section::migrations(repo)).await?;
        let revisions = revisions(&listed);
        match self.known_sum(repo, &revisions) {
            Some(known) => Ok(known.state),
            None => {
                let limit = self.settings.read;
                let look = timeout(limit, self.look(repo, listed)).await;
                let late = |_| overdue(format!("read the migrations of {repo}"), limit);
                let state = look.map_err(late)??.directory.state();
                self.remember_sum(repo, revisions, &state, false);
                Ok(state)
            }
        }
    }

    /// Looks at a migration directory after a change by `author`: the status names a sum that is not
    /// ok, and a directory that agrees with its `atlas.sum` becomes a version.
    pub async fn directory_changed(self: Arc<Self>, repo: RepoName, author: Option<Author>) {
        let _turn = self.sums.looks.lock(&repo).await;
        // The next look reads the files that can't be read now.
        let Ok(listed) = self.list(&Section::migrations(&repo)).await else {
            return;
        };
        let revisions = revisions(&listed);
        let known = self.known_sum(&repo, &revisions);
        if known.is_some_and(|known| known.is_kept) {
            return;
        }
        let Ok(look) = self.look(&repo, listed).await else {
            return;
        };
        let state = look.directory.state();
        let is_kept = match (&state, look.when) {
            (SumState::Agrees, Some(_)) if self.settings.read_only => true,
            (SumState::Agrees, Some(when)) => {
                self.keep_directory(&repo, &look.directory, when, author)
                    .await
            }
            (SumState::Agrees, None) => false,
            (SumState::Absent | SumState::Differs(_), _) => true,
        };
        self.remember_sum(&repo, revisions, &state, is_kept);
    }

    fn known_sum(&self, repo: &RepoName, revisions: &[u64]) -> Option<KnownSum> {
        let known = lock(&self.sums.known).get(repo).cloned();
        known.filter(|known| known.revisions == revisions)
    }

    fn remember_sum(&self, repo: &RepoName, revisions: Vec<u64>, state: &SumState, is_kept: bool) {
        let known = KnownSum {
            revisions,
            state: state.clone(),
            is_kept,
        };
        lock(&self.sums.known).insert(repo.clone(), known);
    }

    /// Reads the files of a directory.
    async fn look(
        self: &Arc<Self>,
        repo: &RepoName,
        mut listed: Vec<(Item, Revision)>,
    ) -> Result<Look, RegistryError> {
        let is_sum =
            |(item, _): &(Item, Revision)| matches!(item, Item::Migration(name) if name.is_sum());
        if !listed.iter().any(is_sum) {
            // Nothing to compare: don't read the files.
            listed.clear();
        }
        let pulls = listed.into_iter().map(|(item, known)| async move {
            let repo = repo.clone();
            let id = ArtifactId { repo, item };
            let pulled = self.pull(&id).await?;
            let stamp = pulled.known.stamp();
            let when = stamp.filter(|_| pulled.known.revision == known.revision);
            Ok::<_, RegistryError>((id.item, pulled.bytes, when.map(|stamp| stamp.when)))
        });
        let pulls = futures::stream::iter(pulls).buffer_unordered(CONCURRENT_PULLS);
        let pulled: Vec<(Item, Bytes, Option<u64>)> = pulls.try_collect().await?;
        let times: Option<Vec<u64>> = pulled.iter().map(|(_, _, when)| *when).collect();
        let files = pulled
            .into_iter()
            .filter_map(|(item, content, _)| match item {
                Item::Migration(name) => Some((name, content)),
                _ => None,
            });
        Ok(Look {
            directory: MigrationDirectory {
                files: files.collect::<BTreeMap<MigrationName, Bytes>>(),
            },
            when: times.and_then(|times| times.into_iter().max()),
        })
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
        let wrong = sums.iter().filter(|(_, sum)| is_wrong(sum));
        wrong
            .map(|(repo, sum)| {
                if let Ok(runtime) = Handle::try_current() {
                    runtime.spawn(Arc::clone(self).directory_changed(repo.clone(), None));
                }
                json!({ "repo": repo.as_str(), "sum": sum.state.to_string() })
            })
            .collect()
    }
}

fn revisions(listed: &[(Item, Revision)]) -> Vec<u64> {
    listed.iter().map(|(_, known)| known.revision).collect()
}
