//! Redo: the background gives each target what the journal says that it has missed.
//!
//! A target that fails is left in peace for longer each time, and is asked at once when it
//! is seen to answer again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::events::{Event, Level};
use super::journal::Record;
use super::replica::{Replica, TargetId};
use super::{Registry, blocking, lock};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::RepoName;

/// How long a target is left in peace after its first failure, and at most. One second: most
/// outages are a restart; one minute: a target that is back is given what it is owed before
/// anybody wonders.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long after an error of the disk a file of the journal is read again. 2 s: a read of this
/// machine's disk costs nothing, and an acknowledged push waits for it.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// What the background work has to remember.
#[derive(Debug, Default)]
pub(super) struct Replay {
    wake: Arc<Notify>,
    /// Pushes that are being made by their own close.
    live: Mutex<HashSet<u64>>,
    pauses: Mutex<HashMap<TargetId, Pause>>,
    /// Repositories with pushes of earlier mounts, which no registry may list yet.
    pub(super) repos: Mutex<BTreeSet<RepoName>>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    length: Duration,
}

/// Keeps the background's hands off a push for as long as its close is making it.
#[derive(Debug)]
pub(super) struct HeldBack<'a> {
    replay: &'a Replay,
    when: u64,
}

impl Drop for HeldBack<'_> {
    fn drop(&mut self) {
        lock(&self.replay.live).remove(&self.when);
        // The background may have looked at the journal while it had to keep its hands off.
        self.replay.wake();
    }
}

impl Replay {
    pub(super) fn hold_back(&self, when: u64) -> HeldBack<'_> {
        lock(&self.live).insert(when);
        HeldBack { replay: self, when }
    }

    /// Has the background look at the journal.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    fn is_due(&self, target: TargetId) -> bool {
        let pauses = lock(&self.pauses);
        pauses
            .get(&target)
            .is_none_or(|pause| pause.until <= Instant::now())
    }

    /// Leaves a target in peace: twice as long as the last time, a little more or less.
    fn pause(&self, target: TargetId, jitter: f64) {
        let mut pauses = lock(&self.pauses);
        let length = pauses
            .get(&target)
            .map_or(FIRST_PAUSE, |pause| (pause.length * 2).min(LONGEST_PAUSE));
        let until = Instant::now() + length.mul_f64(jitter);
        pauses.insert(target, Pause { until, length });
    }

    /// Ends the pause of a target that answers.
    pub(super) fn recovered(&self, target: TargetId) {
        lock(&self.pauses).remove(&target);
        self.wake();
    }

    /// Returns when the first of these targets is due.
    fn next(&self, waiting: &HashSet<TargetId>) -> Option<Instant> {
        let pauses = lock(&self.pauses);
        let pauses = pauses.iter();
        let until = pauses.filter(|(target, _)| waiting.contains(target));
        until.map(|(_, pause)| pause.until).min()
    }
}

impl Registry {
    /// Starts the background work. It ends with the registry.
    pub fn start(self: &Arc<Self>) {
        self.watch_targets();
        self.keep_repaired();
        let weak = Arc::downgrade(self);
        let wake = Arc::clone(&self.replay.wake);
        tokio::spawn(async move {
            loop {
                let Some(registry) = weak.upgrade() else {
                    return;
                };
                let next = AssertUnwindSafe(registry.replay_all()).catch_unwind().await;
                let next = next.unwrap_or_else(|_| {
                    registry.tell_bug("redo");
                    Some(Instant::now() + LONGEST_PAUSE)
                });
                drop(registry);
                match next {
                    Some(at) => {
                        let _ = tokio::time::timeout_at(at, wake.notified()).await;
                    }
                    None => wake.notified().await,
                }
            }
        });
    }

    /// Tells that the background has met a bug. It goes on: what is owed is owed.
    pub(super) fn tell_bug(&self, what: &str) {
        let message = "the background met a bug, and tries again later; please report it";
        self.tell(Event::new(Level::Error, "bug", message).with("in", what));
    }

    /// Takes up what earlier mounts have left in the journal: it is newer than what the targets
    /// say until they have got it.
    pub(super) fn take_up(&self) {
        // What can't be read now must not be newer than what is pushed meanwhile.
        self.journal
            .newest_unread()
            .iter()
            .for_each(|&when| self.stamps.observe(when));
        self.take_up_these(self.journal.pending());
        self.replay.wake();
    }

    fn take_up_these(&self, pending: Vec<Record>) {
        for record in pending {
            self.stamps.observe(record.stamp.when);
            let missing: Vec<TargetId> = self
                .missing(&record)
                .iter()
                .map(|target| target.id)
                .collect();
            if missing.is_empty() {
                self.journal.settle(&record.id, record.stamp.when);
                continue;
            }
            if !record.deletes {
                self.take_up_push(&record, &missing);
            }
            let event = Event::new(Level::Info, "journal", "taken up from an earlier mount");
            self.tell(event.with("artifact", record.id.to_string()));
        }
    }

    /// Reads the files of the journal again that could not be read so far; returns when to go on.
    async fn read_again(&self) -> Option<Instant> {
        if !self.journal.is_to_be_read_again() {
            return None;
        }
        let journal = Arc::clone(&self.journal);
        if let Ok((records, damaged)) = blocking::run(move || journal.read_again()).await {
            if !damaged.is_empty() {
                self.tell_of_journal();
            }
            let pending = records.into_iter().filter(|record| record.failed.is_none());
            self.take_up_these(pending.collect());
            self.recall_failures();
        }
        let again = self.journal.is_to_be_read_again();
        again.then(|| Instant::now() + READ_AGAIN)
    }

    fn take_up_push(&self, record: &Record, missing: &[TargetId]) {
        lock(&self.replay.repos).insert(record.id.repo.clone());
        let Ok(replicas) = self.replicas(&record.id.repo) else {
            return;
        };
        self.index.change(&record.id, |known| {
            let revision = || self.index.next_revision();
            let registry = replicas.registry.id;
            known.take_up(record.stamp, missing, registry, Instant::now(), revision);
        });
        self.index.add_root(&record.id.repo, 0);
    }

    /// Returns the targets that have not got a record.
    pub(super) fn missing(&self, record: &Record) -> Vec<Arc<Replica>> {
        let Ok(replicas) = self.replicas(&record.id.repo) else {
            return Vec::new();
        };
        let targets = replicas.targets();
        #[cfg(test)]
        let targets = targets.take(match injected(Bug::ForgottenTarget) {
            true => 2,
            false => usize::MAX,
        });
        targets
            .filter(|target| !record.got.contains(target.url()))
            .cloned()
            .collect()
    }

    /// Gives every target what it is owed, as far as it is due; returns when to go on, if there
    /// is anything left to do.
    async fn replay_all(self: &Arc<Self>) -> Option<Instant> {
        #[cfg(test)]
        assert!(!injected(Bug::BackgroundPanics), "planted");
        let again = self.read_again().await;
        let pending = self.owed_and_not_live();
        let mut waiting = HashSet::new();
        for record in &pending {
            let _gifts = self.applies.lock(&record.id).await;
            if !self.journal.owes(record.stamp.when) {
                continue;
            }
            let missing = self.missing(record);
            waiting.extend(missing.iter().map(|target| target.id));
            let due = missing
                .iter()
                .filter(|target| self.replay.is_due(target.id));
            let applies = due.map(|target| self.try_to_apply(record, target));
            let given = futures::future::join_all(applies).await;
            if missing.is_empty() || (given.len() == missing.len() && given.iter().all(|&got| got))
            {
                self.journal.settle(&record.id, record.stamp.when);
                let message = match record.deletes {
                    true => "it is deleted from every target now",
                    false => "every target has it now",
                };
                let event = Event::new(Level::Info, "redo", message);
                self.tell(event.with("artifact", record.id.to_string()));
            }
        }
        let next = self.replay.next(&waiting);
        next.into_iter().chain(again).min()
    }

    /// Returns the pushes that are owed, but for those that their own close is still making.
    fn owed_and_not_live(&self) -> Vec<Record> {
        let mut pending = self.journal.pending();
        let live = lock(&self.replay.live);
        pending.retain(|record| !live.contains(&record.stamp.when));
        pending
    }

    /// Gives one target one record; tells whether it has it now.
    async fn try_to_apply(&self, record: &Record, target: &Arc<Replica>) -> bool {
        let end = Instant::now() + self.settings.push;
        let (id, when) = (&record.id, record.stamp.when);
        match self.apply_entry(record, target, end).await {
            Ok(token) => {
                self.journal.got(when, target.url());
                self.replay.recovered(target.id);
                if !record.deletes {
                    self.index.change(id, |known| {
                        known.given(target.id, &record.stamp, token, Instant::now())
                    });
                }
                true
            }
            Err(failure) => {
                self.replay
                    .pause(target.id, jitter(when ^ end.elapsed().as_nanos() as u64));
                tracing::debug!("{} has still not got {id}: {failure}", target.url());
                false
            }
        }
    }
}

/// Spreads the attempts of several mounts: 0.5 to 1.5, by what differs between them.
pub(super) fn jitter(seed: u64) -> f64 {
    let spread = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    0.5 + spread as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_target_that_nobody_waits_for_any_more_wakes_nobody() {
        let replay = Replay::default();
        replay.pause(TargetId(1), 1.0);
        tokio::time::advance(FIRST_PAUSE * 2).await;
        assert_eq!(replay.next(&HashSet::new()), None);
        replay.pause(TargetId(2), 1.0);
        let next = replay.next(&HashSet::from([TargetId(2)])).unwrap();
        assert!(
            next > Instant::now(),
            "a pause that is over is not waited for again and again"
        );
    }
}
