//! Reconcile: compares the targets and gives each what it lacks, so that a push reaches every
//! target even if its machine is gone.
//!
//! The journal knows this mount's pending pushes; reconcile looks at the targets alone. One round:
//! repositories → LIST and tombstones of every target → differences → repairs. Each repair is
//! conditional on the observed state, so it never replaces a push made meanwhile.

mod conflicts;
mod diff;
mod job;
mod repair;
mod scan;
mod tombstones;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lru::LruCache;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::check::Checks;
use super::clock::Clock;
use super::contents::Contents;
use super::events::Events;
use super::index::Index;
use super::metrics::Counter;
use super::replay::{Replay, jitter};
use super::replica::{ReplicaSet, TargetId};
use super::replica_sets::ReplicaSets;
use super::{Settings, lock};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{ArtifactId, RepoName, Section, Stamp};
use crate::store::Token;

use job::ReconcileJob;
pub use job::{Order, Task, UnknownOrder};
use scan::Share;

/// How many artifacts are compared at once. 8: this is background work, and the stores have other
/// clients to serve.
const CONCURRENT_COMPARISONS: usize = 8;

/// How many contents whose stamps are not in the store's listing are remembered, so that the next
/// round needs no request for each. 65,536: some 16 MB, and only on a site with that many.
const REMEMBERED_CONTENTS: usize = 65_536;

/// How long after its start a mount compares its targets for the first time. 10 s: late enough to
/// stay out of the way of the mount's first use.
const FIRST_ROUND: Duration = Duration::from_secs(10);

/// How long after its return a target is compared. 2 s: its pending pushes are replayed first.
const REPLAY_FIRST: Duration = Duration::from_secs(2);

/// Reconcile, and what it needs of the registry.
#[derive(Debug)]
pub(super) struct Reconcile {
    pub(super) settings: Arc<Settings>,
    pub(super) replica_sets: Arc<ReplicaSets>,
    pub(super) index: Arc<Index>,
    pub(super) contents: Arc<Contents>,
    pub(super) events: Arc<Events>,
    pub(super) clock: Arc<Clock>,
    pub(super) replay: Arc<Replay>,
    pub(super) checks: Arc<Checks>,
    pub(super) jobs: Jobs,
    /// The differences that it has repaired.
    pub(super) repaired: Counter,
}

/// The work of reconcile.
#[derive(Debug)]
pub(super) struct Jobs {
    /// The newest job that a user requested.
    asked: Mutex<Option<Arc<ReconcileJob>>>,
    /// The newest background round.
    round: Mutex<Option<Arc<ReconcileJob>>>,
    remembered: Mutex<LruCache<(TargetId, ArtifactId), Remembered>>,
    soon: Arc<Notify>,
}

/// A content that was observed on a target.
#[derive(Debug, Clone)]
struct Remembered {
    token: Token,
    stamp: Stamp,
    stamped: bool,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            round: Mutex::default(),
            remembered: Mutex::new(LruCache::unbounded()),
            soon: Arc::default(),
        }
    }
}

/// The reason not to begin a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotBegun {
    /// Another job is under way.
    #[error("another job is under way")]
    Busy,
    /// The mount is read-only.
    #[error("the mount is read-only")]
    ReadOnly,
}

impl Reconcile {
    /// Starts the background rounds. They end with the registry.
    pub(super) fn start(self: &Arc<Self>) {
        let interval = self.settings.repair;
        if interval.is_zero() || self.settings.read_only {
            return;
        }
        let (weak, soon) = (Arc::downgrade(self), Arc::clone(&self.jobs.soon));
        tokio::spawn(async move {
            let mut next = Instant::now() + FIRST_ROUND.min(interval);
            let mut rounds = 0;
            loop {
                if timeout_at(next, soon.notified()).await.is_ok() {
                    tokio::time::sleep(REPLAY_FIRST.min(interval)).await;
                }
                let Some(reconcile) = weak.upgrade() else {
                    return;
                };
                rounds += 1;
                let begun = reconcile.clock.nanos();
                let order = Order {
                    task: Task::Sync,
                    quick: true,
                    refill: false,
                };
                let job = Arc::new(ReconcileJob::new(rounds, order, begun));
                *lock(&reconcile.jobs.round) = Some(Arc::clone(&job));
                reconcile.carry_out(&job).await;
                let (differences, repaired) = job.figures();
                tracing::debug!(differences, repaired, "compared the targets");
                next = Instant::now() + interval.mul_f64(jitter(begun));
            }
        });
    }

    /// Begins a round soon: a target is back, and the pushes that it missed are unknown.
    pub(super) fn start_soon(&self) {
        self.jobs.soon.notify_one();
    }

    /// Begins a job in the background; [`Reconcile::progress`] tells how far it has come.
    ///
    /// # Errors
    ///
    /// [`NotBegun::Busy`] while one is under way.
    pub(super) fn begin(self: &Arc<Self>, order: Order) -> Result<(), NotBegun> {
        if order.task == Task::Sync && self.settings.read_only {
            return Err(NotBegun::ReadOnly);
        }
        let mut asked = lock(&self.jobs.asked);
        let last = asked.as_ref();
        if last.is_some_and(|job| job.is_running()) {
            return Err(NotBegun::Busy);
        }
        let id = last.map_or(0, |job| job.id) + 1;
        let job = Arc::new(ReconcileJob::new(id, order, self.clock.nanos()));
        *asked = Some(Arc::clone(&job));
        drop(asked);
        let reconcile = Arc::clone(self);
        tokio::spawn(async move { reconcile.carry_out(&job).await });
        Ok(())
    }

    /// Stops the job that is under way, if there is one. Its repairs so far remain.
    pub(super) fn stop(&self) {
        if let Some(job) = lock(&self.jobs.asked).as_ref() {
            job.stop.notify_one();
        }
    }

    /// Returns the newest requested job as JSON; `{}` if there is none.
    pub(super) fn progress(&self) -> Value {
        let asked = lock(&self.jobs.asked);
        asked.as_ref().map_or(json!({}), |job| job.to_json(true))
    }

    /// Returns the newest background round, for the status.
    pub(super) fn round(&self) -> Value {
        let round = lock(&self.jobs.round);
        round.as_ref().map_or(Value::Null, |job| job.to_json(false))
    }

    /// Runs a job to its end, or until it is stopped.
    async fn carry_out(&self, job: &ReconcileJob) {
        let compared = AssertUnwindSafe(self.compare_all(job)).catch_unwind();
        let stopped = tokio::select! {
            compared = compared => compared.is_err_and(|_| {
                self.events.report_bug("repair");
                true
            }),
            () = job.stop.notified() => true,
        };
        job.end(self.clock.nanos(), stopped);
    }

    async fn compare_all(&self, job: &ReconcileJob) {
        #[cfg(test)]
        assert!(!injected(Bug::BackgroundPanics), "planted");
        if job.order.refill {
            self.restore_identities(job).await;
        }
        for (repo, replicas) in self.repos_to_compare(job).await {
            let migrations = self.replica_sets.of_migrations(&repo);
            let share = match migrations {
                None => Share::All,
                Some(_) => Share::AllButMigrations,
            };
            self.compare_repo(job, &repo, replicas, share).await;
            if let Some(replicas) = migrations {
                let share = Share::Migrations;
                self.compare_repo(job, &repo, replicas, share).await;
            }
        }
    }

    /// Gives each target that has lost its identity the one that it is to have.
    async fn restore_identities(&self, job: &ReconcileJob) {
        let end = Instant::now() + self.settings.push;
        for target in self.replica_sets.targets() {
            if let Err(failure) = target.restore_identity(end).await {
                job.unheard(target.url(), &failure.reason);
            }
            target.probe(end).await;
        }
    }

    /// Returns every repository that any target holds, with its replica set.
    async fn repos_to_compare(&self, job: &ReconcileJob) -> BTreeMap<RepoName, &ReplicaSet> {
        let end = Instant::now() + self.settings.push;
        let mut repos: BTreeMap<RepoName, &ReplicaSet> = BTreeMap::new();
        for name in self.replica_sets.names() {
            let replicas = self.replica_sets.named(&Section::current(name));
            repos.extend(replicas.map(|replicas| (name.clone(), replicas)));
        }
        let asked = self.replica_sets.targets().iter().map(|target| async move {
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
            let mut open = self.replica_sets.open().iter();
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
        // Add repositories that only backups hold so far. With several registries, it is unknown
        // which one each belongs to.
        if let [replicas] = self.replica_sets.open() {
            for repo in in_backups {
                if self.is_free(&repo) {
                    repos.entry(repo).or_insert(replicas);
                }
            }
        }
        repos
    }

    fn is_free(&self, repo: &RepoName) -> bool {
        !self.replica_sets.has(repo)
    }

    async fn compare_repo(
        &self,
        job: &ReconcileJob,
        repo: &RepoName,
        replicas: &ReplicaSet,
        share: Share,
    ) {
        let scan = self.scan(job, repo, replicas, share).await;
        let items = scan.items();
        job.expect(items.len());
        let (scan, repo) = (&scan, repo);
        // A target takes a tag only if it has the version.
        self.compare_versions(job, scan, repo, share).await;
        let comparisons = items.into_iter().map(|item| {
            let repo = repo.clone();
            let id = ArtifactId { repo, item };
            let comparison = async move {
                self.compare_artifact(job, scan, &id).await;
                job.compared();
            };
            comparison.boxed()
        });
        let mut comparisons =
            futures::stream::iter(comparisons).buffer_unordered(CONCURRENT_COMPARISONS);
        while comparisons.next().await.is_some() {}
    }
}
