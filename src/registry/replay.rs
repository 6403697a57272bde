//! Replay: a background task applies pending journal entries to the targets that miss them.
//!
//! A target that fails is left alone for longer each time, and is asked at once when it answers
//! again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::apply::{Missed, Standing};
use super::clock::Clock;
use super::events::{Event, Events, Level};
use super::failures::Failures;
use super::index::Index;
use super::index_log::replicas_of;
use super::journal::{Journal, Record};
use super::keyed_lock::KeyedLock;
use super::replica::{Replica, ReplicaSet, TargetId};
use super::replica_sets::ReplicaSets;
use super::{Settings, lock};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{ArtifactId, RepoName, Section};
use crate::store::{Failure, Kind};

/// How long a target is left alone after its first failure, and at most. 1 s: most outages are a
/// restart. 1 min: a target that is back catches up before its users notice.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Replay, and what it needs of the registry.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) settings: Arc<Settings>,
    pub(super) replica_sets: Arc<ReplicaSets>,
    pub(super) index: Arc<Index>,
    pub(super) journal: Arc<Journal>,
    pub(super) failures: Arc<Failures>,
    pub(super) events: Arc<Events>,
    pub(super) clock: Arc<Clock>,
    /// Held while replay or reconcile writes an artifact to a target, or a deletion is under way.
    pub(super) applies: Arc<KeyedLock<ArtifactId>>,
    /// Repositories with pushes of earlier mounts, which no registry may list yet.
    pub(super) repos: Mutex<BTreeSet<RepoName>>,
    pub(super) backoff: Backoff,
    pub(super) wake: Arc<Notify>,
}

/// The targets that have failed, each left alone for a while.
#[derive(Debug, Default)]
pub(super) struct Backoff(Mutex<HashMap<TargetId, Pause>>);

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    length: Duration,
}

impl Backoff {
    pub(super) fn is_due(&self, target: TargetId) -> bool {
        let pauses = lock(&self.0);
        pauses
            .get(&target)
            .is_none_or(|pause| pause.until <= Instant::now())
    }

    /// Leaves a target alone: twice as long as the last time, with some jitter from a seed.
    pub(super) fn pause(&self, target: TargetId, seed: u64) {
        let mut pauses = lock(&self.0);
        let length = pauses
            .get(&target)
            .map_or(FIRST_PAUSE, |pause| (pause.length * 2).min(LONGEST_PAUSE));
        let until = Instant::now() + length.mul_f64(jitter(seed));
        pauses.insert(target, Pause { until, length });
    }

    /// Returns when the first of these targets is due.
    fn next(&self, waiting: &HashSet<TargetId>) -> Option<Instant> {
        let pauses = lock(&self.0);
        let pauses = pauses.iter();
        let until = pauses.filter(|(target, _)| waiting.contains(target));
        until.map(|(_, pause)| pause.until).min()
    }
}

impl Replay {
    /// Starts the background task. It ends with the registry.
    pub(super) fn start(self: &Arc<Self>) {
        let (weak, wake) = (Arc::downgrade(self), Arc::clone(&self.wake));
        tokio::spawn(async move {
            loop {
                let Some(replay) = weak.upgrade() else {
                    return;
                };
                let next = AssertUnwindSafe(replay.replay_all()).catch_unwind().await;
                let next = next.unwrap_or_else(|_| {
                    replay.events.report_bug("redo");
                    Some(Instant::now() + LONGEST_PAUSE)
                });
                drop(replay);
                match next {
                    Some(at) => {
                        let _ = tokio::time::timeout_at(at, wake.notified()).await;
                    }
                    None => wake.notified().await,
                }
            }
        });
    }

    /// Makes replay look at the journal.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Goes on at once with a target that answers.
    pub(super) fn recovered(&self, target: TargetId) {
        lock(&self.backoff.0).remove(&target);
        self.wake();
    }

    pub(super) fn replicas(&self, section: &Section) -> Option<&ReplicaSet> {
        replicas_of(&self.replica_sets, &self.index, section)
    }

    /// Returns the targets of this mount that miss an entry.
    pub(super) fn missing(&self, record: &Record) -> Vec<Arc<Replica>> {
        self.without(record, &record.got)
    }

    /// Returns the targets of this mount that miss an entry or its version.
    pub(super) fn behind(&self, record: &Record) -> Vec<Arc<Replica>> {
        let mut behind = self.missing(record);
        for target in self.missing_version(record) {
            if !behind.iter().any(|known| known.id == target.id) {
                behind.push(target);
            }
        }
        behind
    }

    /// Returns the targets of this mount that an entry is for, without those that have it.
    pub(super) fn without(&self, record: &Record, has: &BTreeSet<String>) -> Vec<Arc<Replica>> {
        let Some(replicas) = self.replicas_for(record) else {
            return Vec::new();
        };
        let targets = replicas.targets();
        #[cfg(test)]
        let targets = targets.take(match injected(Bug::ForgottenTarget) {
            true => 2,
            false => usize::MAX,
        });
        let is_in = |stores: &BTreeSet<String>, target: &Replica| {
            stores.iter().any(|store| target.is_named(store))
        };
        targets
            .filter(|target| !is_in(has, target))
            .filter(|target| {
                #[cfg(test)]
                if injected(Bug::ReplayToAnyone) {
                    return true;
                }
                record.targets.is_empty() || is_in(&record.targets, target)
            })
            .cloned()
            .collect()
    }

    /// Returns the ids of the stores that miss an entry and are no targets of this mount.
    pub(super) fn missing_elsewhere(&self, record: &Record) -> BTreeSet<String> {
        let replicas = self.replicas_for(record);
        let is_here = |store: &String| {
            let mut targets = replicas.iter().flat_map(|replicas| replicas.targets());
            targets.any(|target| target.is_named(store))
        };
        let missing = record.targets.difference(&record.got);
        missing.filter(|store| !is_here(store)).cloned().collect()
    }

    /// Returns the ids of the stores that a push or deletion is for.
    pub(super) fn stores_for(&self, id: &ArtifactId, replicas: &ReplicaSet) -> BTreeSet<String> {
        let mut stores = self.stores_elsewhere(id);
        stores.extend(replicas.targets().map(|target| target.name()));
        stores
    }

    /// Returns the stores elsewhere that miss a push or deletion of an artifact. A newer one is for
    /// them, too.
    pub(super) fn stores_elsewhere(&self, id: &ArtifactId) -> BTreeSet<String> {
        let pending = self.journal.pending().into_iter();
        let pending = pending.filter(|record| record.id == *id);
        pending
            .flat_map(|record| self.missing_elsewhere(&record))
            .collect()
    }

    /// Gives up the pushes and deletions that wait for a store that is no target of this mount;
    /// returns how many there were.
    pub(super) fn forget(&self, store: &str) -> usize {
        let pending = self.journal.pending().into_iter();
        let waiting = pending.filter(|record| self.missing_elsewhere(record).contains(store));
        let waiting: Vec<Record> = waiting.collect();
        for record in &waiting {
            let event = Event::new(Level::Warn, "forgotten", "a store will never get a push");
            let event = event.with("artifact", record.id.to_string());
            self.events.report(event.with("store", store));
        }
        let (count, store, journal) = (waiting.len(), store.to_owned(), Arc::clone(&self.journal));
        let wake = Arc::clone(&self.wake);
        // The command must not wait for a hung disk.
        tokio::task::spawn_blocking(move || {
            for record in waiting {
                journal.got(record.stamp.when, &store);
            }
            wake.notify_one();
        });
        count
    }

    /// Returns the replica set that an entry is for, if this mount has it.
    fn replicas_for(&self, record: &Record) -> Option<&ReplicaSet> {
        let replicas = self.replicas(&record.id.section())?;
        let is_for_it = record.registry.is_empty() || replicas.registry.is_named(&record.registry);
        #[cfg(test)]
        let is_for_it = is_for_it || injected(Bug::ReplayToAnyone);
        is_for_it.then_some(replicas)
    }

    /// Applies every pending entry to the targets that are due; returns when to go on, if anything
    /// is left to do.
    async fn replay_all(&self) -> Option<Instant> {
        #[cfg(test)]
        assert!(!injected(Bug::BackgroundPanics), "planted");
        let again = self.read_again().await;
        let mut waiting = self.decide_doubts().await;
        waiting.extend(self.keep_versions().await);
        for record in &self.journal.select(Record::is_acknowledged) {
            let _applies = self.applies.lock(&record.id).await;
            // Meanwhile a push may have replaced it, or a deletion.
            let now = self.journal.find(record.stamp.when);
            if !now.is_some_and(|record| record.is_acknowledged()) {
                continue;
            }
            let missing = self.missing(record);
            waiting.extend(missing.iter().map(|target| target.id));
            let mut due: Vec<_> = missing
                .iter()
                .filter(|target| self.backoff.is_due(target.id))
                .collect();
            let is_whole = due.len() == missing.len();
            let mut is_given = true;
            // The registry decides: no other target gets a push that conflicts with it.
            if let Some(first) = due.first().filter(|first| self.decides(record, first)) {
                match self.try_to_apply(record, first).await {
                    Some(given) => is_given = given,
                    None => continue,
                }
                due.remove(0);
            }
            let applies = due.iter().map(|target| self.try_to_apply(record, target));
            let given = futures::future::join_all(applies).await;
            is_given &= given.iter().all(|given| *given == Some(true));
            let is_everywhere = self.missing_elsewhere(record).is_empty();
            #[cfg(test)]
            let is_everywhere = is_everywhere || injected(Bug::ForgottenElsewhere);
            let has_versions = (self.journal.find(record.stamp.when))
                .is_some_and(|record| self.missing_version(&record).is_empty());
            if is_whole && is_given && is_everywhere && has_versions {
                self.journal.settle(&record.id, record.stamp.when);
                let message = match record.deletes {
                    true => "replay has deleted it from every target",
                    false => "replay has pushed it to every target",
                };
                let event = Event::new(Level::Info, "redo", message);
                self.events
                    .report(event.with("artifact", record.id.to_string()));
            }
        }
        let next = self.backoff.next(&waiting);
        next.into_iter().chain(again).min()
    }

    /// Tells whether a target decides conflicts: the registry, or the first backup if this version has
    /// no backend for the registry.
    fn decides(&self, record: &Record, target: &Replica) -> bool {
        let replicas = self.replicas(&record.id.section());
        let first = replicas.and_then(|replicas| replicas.targets().next());
        first.is_some_and(|first| first.id == target.id)
    }

    /// Applies one entry to one target; returns whether the target has it now, `None` if the entry
    /// conflicts with its content.
    async fn try_to_apply(&self, record: &Record, target: &Arc<Replica>) -> Option<bool> {
        let end = Instant::now() + self.settings.push;
        let (id, when) = (&record.id, record.stamp.when);
        let decides = self.decides(record, target);
        let mut is_decided = false;
        let limit = self.settings.max_size;
        let standing = if record.deletes {
            let deletion = record.tombstone();
            let deleted = target.apply_deletion(id, &deletion, limit, end).await;
            deleted.map(|()| Standing::Has(None))
        } else {
            let replicas = self.replicas(&id.section());
            is_decided = !decides
                && replicas.is_some_and(|replicas| {
                    let mut got = record.got.iter();
                    got.any(|store| replicas.registry.is_named(store))
                });
            let missed = Missed {
                id,
                stamp: &record.stamp,
                replaces: record.replaces.as_ref(),
                decided: is_decided.then_some(when),
                on_registry: replicas.is_some_and(|it| it.is_registry(target.id)),
                max_size: limit,
            };
            let applied = target.apply_push(&self.journal, missed, end).await;
            match applied {
                Ok(Standing::Apart(..)) if decides => {
                    let replaces = self.replaced(record, end).await;
                    let replaces = replaces.as_ref();
                    let missed = Missed { replaces, ..missed };
                    target.apply_push(&self.journal, missed, end).await
                }
                applied => applied,
            }
        };
        let standing = match standing {
            Ok(Standing::Apart(there, token)) if decides => {
                self.conflict(record, target, (there, token)).await;
                return None;
            }
            // Reconcile finds out what becomes of the other content.
            Ok(Standing::Apart(..)) if is_decided => Ok(None),
            Ok(Standing::Apart(..) | Standing::Behind(_)) => Err(Failure::new(
                Kind::Conflict,
                "it holds another content; the registry decides",
            )),
            Ok(Standing::Has(token)) => Ok(token),
            Err(failure) => Err(failure),
        };
        match standing {
            Ok(token) => {
                self.journal.got(when, &target.name());
                self.recovered(target.id);
                if !record.deletes {
                    self.index.change(id, |known| {
                        known.given(target.id, &record.stamp, token, Instant::now())
                    });
                }
                Some(true)
            }
            Err(failure) => {
                self.backoff
                    .pause(target.id, when ^ end.elapsed().as_nanos() as u64);
                tracing::debug!("{} still lacks {id}: {failure}", target.url());
                Some(false)
            }
        }
    }
}

/// Spreads the attempts of several mounts: a factor of 0.5 to 1.5, from a seed that differs
/// between them.
pub(super) fn jitter(seed: u64) -> f64 {
    let spread = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    0.5 + spread as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_target_that_nobody_waits_for_any_more_wakes_nobody() {
        let backoff = Backoff::default();
        backoff.pause(TargetId(1), 1);
        tokio::time::advance(FIRST_PAUSE * 2).await;
        assert_eq!(backoff.next(&HashSet::new()), None);
        backoff.pause(TargetId(2), 2);
        let next = backoff.next(&HashSet::from([TargetId(2)])).unwrap();
        assert!(
            next > Instant::now(),
            "a pause that is over is not waited for again and again"
        );
    }
}
