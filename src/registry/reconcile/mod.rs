//! Repair: the targets are compared, and each is given what it lacks, so that a push whose machine
//! is gone still reaches every target.
//!
//! The journal knows what this mount owes; repair knows nothing and looks. One round goes:
//! repositories → LIST and tombstones of every target → who lacks what → gifts. Every gift is
//! conditional on what was seen, so that it never replaces what somebody has pushed meanwhile.

mod diff;
mod job;
mod repair;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lru::LruCache;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::replay::jitter;
use super::replica::{ReplicaSet, TargetId};
use super::{Registry, lock};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{ArtifactId, RepoName, Stamp, nanos};
use crate::store::Token;

use job::Job;
pub use job::{Order, Task, UnknownOrder};

/// How many artifacts are compared at once. 8: it is background work, and the stores have others
/// to serve.
const AT_ONCE: usize = 8;

/// How many contents are remembered that a store's listing doesn't tell the stamp of, so that the
/// next round needs no request for each. 65,536: some 16 MB, and only where there are as many.
const REMEMBERED: usize = 65_536;

/// How long after its start a mount compares its targets for the first time. 10 s: long enough
/// not to be in the way of what the mount was made for.
const FIRST_ROUND: Duration = Duration::from_secs(10);

/// How long after a target is back it is compared. 2 s: it is given what the journal owes first.
const REPLAY_FIRST: Duration = Duration::from_secs(2);

/// What repair has to remember.
#[derive(Debug)]
pub(super) struct Reconcile {
    /// The newest job that somebody has asked for.
    asked: Mutex<Option<Arc<Job>>>,
    /// The newest round of the background.
    round: Mutex<Option<Arc<Job>>>,
    remembered: Mutex<LruCache<(TargetId, ArtifactId), Remembered>>,
    soon: Arc<Notify>,
}

/// A content that a target was seen to hold.
#[derive(Debug, Clone)]
struct Remembered {
    token: Token,
    stamp: Stamp,
    stamped: bool,
}

impl Default for Reconcile {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            round: Mutex::default(),
            remembered: Mutex::new(LruCache::unbounded()),
            soon: Arc::default(),
        }
    }
}

/// Why a job is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotBegun {
    /// Another one is under way.
    #[error("another job is under way")]
    Busy,
    /// The mount is read-only.
    #[error("the mount is read-only")]
    ReadOnly,
}

impl Registry {
    /// Starts the rounds. They end with the registry.
    pub(super) fn keep_repaired(self: &Arc<Self>) {
        let interval = self.settings.repair;
        if interval.is_zero() || self.settings.read_only {
            return;
        }
        let (weak, soon) = (Arc::downgrade(self), Arc::clone(&self.repair.soon));
        tokio::spawn(async move {
            let mut next = Instant::now() + FIRST_ROUND.min(interval);
            let mut rounds = 0;
            loop {
                if timeout_at(next, soon.notified()).await.is_ok() {
                    tokio::time::sleep(REPLAY_FIRST.min(interval)).await;
                }
                let Some(registry) = weak.upgrade() else {
                    return;
                };
                rounds += 1;
                let begun = nanos(registry.wall.now());
                let order = Order {
                    task: Task::Sync,
                    quick: true,
                };
                let job = Arc::new(Job::new(rounds, order, begun));
                *lock(&registry.repair.round) = Some(Arc::clone(&job));
                registry.carry_out(&job).await;
                let (differences, repaired) = job.figures();
                tracing::debug!(differences, repaired, "the targets were compared");
                next = Instant::now() + interval.mul_f64(jitter(begun));
            }
        });
    }

    /// Has the targets compared soon: one of them is back, and nobody knows what it has missed.
    pub(super) fn repair_soon(&self) {
        self.repair.soon.notify_one();
    }

    /// Begins a job in the background; [`Registry::job`] tells how far it has come.
    ///
    /// # Errors
    ///
    /// [`NotBegun::Busy`] while one is under way.
    pub fn begin_job(self: &Arc<Self>, order: Order) -> Result<(), NotBegun> {
        if order.task == Task::Sync && self.settings.read_only {
            return Err(NotBegun::ReadOnly);
        }
        let mut asked = lock(&self.repair.asked);
        let last = asked.as_ref();
        if last.is_some_and(|job| job.is_running()) {
            return Err(NotBegun::Busy);
        }
        let id = last.map_or(0, |job| job.id) + 1;
        let job = Arc::new(Job::new(id, order, nanos(self.wall.now())));
        *asked = Some(Arc::clone(&job));
        drop(asked);
        let registry = Arc::clone(self);
        tokio::spawn(async move { registry.carry_out(&job).await });
        Ok(())
    }

    /// Stops the job that is under way, if one is. What it has done stays done.
    pub fn stop_job(&self) {
        if let Some(job) = lock(&self.repair.asked).as_ref() {
            job.stop.notify_one();
        }
    }

    /// Returns the newest job that somebody has asked for, as JSON; `{}` if nobody has.
    pub fn job(&self) -> Value {
        let asked = lock(&self.repair.asked);
        asked.as_ref().map_or(json!({}), |job| job.to_json(true))
    }

    /// Returns the newest round of the background for the status.
    pub(super) fn round(&self) -> Value {
        let round = lock(&self.repair.round);
        round.as_ref().map_or(Value::Null, |job| job.to_json(false))
    }

    /// Carries a job out, to its end or until it is stopped.
    async fn carry_out(&self, job: &Job) {
        let compared = AssertUnwindSafe(self.compare_all(job)).catch_unwind();
        let stopped = tokio::select! {
            compared = compared => compared.is_err_and(|_| {
                self.tell_bug("repair");
                true
            }),
            () = job.stop.notified() => true,
        };
        job.end(nanos(self.wall.now()), stopped);
    }

    async fn compare_all(&self, job: &Job) {
        #[cfg(test)]
        assert!(!injected(Bug::BackgroundPanics), "planted");
        for (repo, replicas) in self.repos_to_compare(job).await {
            self.compare_repo(job, &repo, replicas).await;
        }
    }

    /// Returns every repository that any target holds, with its route.
    async fn repos_to_compare(&self, job: &Job) -> BTreeMap<RepoName, &ReplicaSet> {
        let end = Instant::now() + self.settings.push;
        let mut repos: BTreeMap<RepoName, &ReplicaSet> = BTreeMap::new();
        for name in self.routes.names() {
            repos.extend(
                self.routes
                    .named(name)
                    .map(|replicas| (name.clone(), replicas)),
            );
        }
        let asked = self.routes.targets().iter().map(|target| async move {
            let held = target.ask(|target| target.repos(end)).await;
            (target, held)
        });
        let mut in_backups = BTreeSet::new();
        for (target, held) in futures::future::join_all(asked).await {
            let held = match held {
                Ok((held, _)) => held,
                Err(failure) => {
                    job.unheard(target.url(), &failure.reason);
                    continue;
                }
            };
            let mut open = self.routes.open().iter();
            match open.find(|replicas| replicas.is_registry(target.id)) {
                Some(replicas) => {
                    let new = held.into_iter().filter(|repo| self.is_free(repo));
                    for repo in new {
                        repos.entry(repo).or_insert(replicas);
                    }
                }
                None => in_backups.extend(held),
            }
        }
        // What only backups hold, of a repository that no registry has got yet. With several
        // registries nobody can tell whose it is.
        if let [replicas] = self.routes.open() {
            for repo in in_backups {
                if self.is_free(&repo) {
                    repos.entry(repo).or_insert(replicas);
                }
            }
        }
        repos
    }

    fn is_free(&self, repo: &RepoName) -> bool {
        self.routes.named(repo).is_none()
    }

    async fn compare_repo(&self, job: &Job, repo: &RepoName, replicas: &ReplicaSet) {
        let view = self.scan(job, repo, replicas).await;
        let items = view.items();
        job.expect(items.len());
        let (view, repo) = (&view, repo);
        let comparisons = items.into_iter().map(|item| {
            let repo = repo.clone();
            let id = ArtifactId { repo, item };
            let comparison = async move {
                self.compare_artifact(job, view, &id).await;
                job.compared();
            };
            comparison.boxed()
        });
        let mut comparisons = futures::stream::iter(comparisons).buffer_unordered(AT_ONCE);
        while comparisons.next().await.is_some() {}
    }
}
