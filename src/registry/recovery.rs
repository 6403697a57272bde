//! Recovery: what earlier mounts have left in the journal.
//!
//! A push or deletion that has succeeded is pending for the targets that miss it. One in doubt, whose
//! mount ended first, is decided by the targets: if they have it as `--durability` requires, it has
//! succeeded; otherwise it has failed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::events::{Event, Level};
use super::failures::LastFailure;
use super::journal::Record;
use super::replay::Replay;
use super::replica::{Replica, TargetId};
use super::unpushed::kept;
use super::{Durability, blocking, lock};
use crate::store::{Failure, Kind};

/// How long after a disk error a journal file is read again. 2 s: a read of this machine's disk
/// costs nothing, and an acknowledged push waits for it.
const READ_AGAIN: Duration = Duration::from_secs(2);

impl Replay {
    /// Loads the pending entries of earlier mounts: they are newer than the targets' answers until
    /// the targets have them.
    pub(super) fn recover(&self) {
        // New pushes must get later stamps than entries that can't be read now.
        let unread = self.journal.newest_unread().into_iter();
        let in_doubt = self.journal.in_doubt().into_iter();
        unread
            .chain(in_doubt.map(|record| record.stamp.when))
            .for_each(|when| self.clock.observe(when));
        self.recover_these(self.journal.pending());
        self.wake();
    }

    fn recover_these(&self, pending: Vec<Record>) {
        for record in pending {
            self.clock.observe(record.stamp.when);
            let missing: Vec<TargetId> = self
                .missing(&record)
                .iter()
                .map(|target| target.id)
                .collect();
            let is_complete = missing.is_empty() && self.missing_version(&record).is_empty();
            if is_complete && self.missing_elsewhere(&record).is_empty() {
                self.journal.settle(&record.id, record.stamp.when);
                continue;
            }
            if !record.deletes && !missing.is_empty() {
                self.recover_push(&record, &missing);
            }
            let message = match missing.is_empty() {
                true if !is_complete => "resumed from an earlier mount",
                true => "waits for a store that this mount does not have",
                false => "resumed from an earlier mount",
            };
            let event = Event::new(Level::Info, "journal", message);
            self.events
                .report(event.with("artifact", record.id.to_string()));
        }
    }

    fn recover_push(&self, record: &Record, missing: &[TargetId]) {
        lock(&self.repos).insert(record.id.repo.clone());
        let Some(replicas) = self.replicas(&record.id.section()) else {
            return;
        };
        self.index.change(&record.id, |known| {
            let revision = || self.index.next_revision();
            let registry = replicas.registry.id;
            if known.recover(record.stamp, missing, registry, Instant::now(), revision) {
                known.remember_past(record.replaces.as_ref());
            }
        });
        self.index.add_root(&record.id.repo, 0);
    }

    /// Loads the failures of earlier mounts. A later push or deletion that is pending in the
    /// journal has ended the failure.
    pub(super) fn recover_failures(&self) {
        for record in self.journal.select(|record| record.conflicts) {
            let reason = record.failed.unwrap_or_default();
            self.index.change(&record.id, |entry| entry.failed(reason));
        }
        let pending = self.journal.pending();
        for LastFailure { id, when, reason } in self.failures.all() {
            let mut later = pending.iter().filter(|record| record.stamp.when > when);
            if later.any(|record| record.id == id) {
                drop(self.failures.begin_to_remember(&id, None));
            } else if self.replicas(&id.section()).is_some() {
                // The repository must show the failure, even if no registry lists it yet.
                lock(&self.repos).insert(id.repo.clone());
                self.index.change(&id, |record| record.failed(reason));
            }
        }
    }

    /// Reports the files of the journal that are damaged, or could not be read.
    pub(super) fn report_journal(&self) {
        for damaged in self.journal.damaged() {
            let message = "a journal file is damaged, so its push is not replayed: inspect it, \
                           then remove it";
            let event = Event::new(Level::Error, "journal-damaged", message)
                .with("path", damaged.file.display().to_string())
                .with("kept", kept(&damaged));
            self.events.report(event);
        }
        for unread in self.journal.unread() {
            let message = "can't read a journal file; it stays in place, and this mount (every few \
                           seconds) or the next one tries again";
            let event = Event::new(Level::Error, "journal-unread", message)
                .with("path", unread.file.display().to_string())
                .with("reason", unread.reason);
            self.events.report(event);
        }
    }

    /// Reads journal files again that could not be read so far; returns when to go on.
    pub(super) async fn read_again(&self) -> Option<Instant> {
        if !self.journal.is_to_be_read_again() {
            return None;
        }
        let journal = Arc::clone(&self.journal);
        if let Ok((records, damaged)) = blocking::run(move || journal.read_again()).await {
            if !damaged.is_empty() {
                self.report_journal();
            }
            let pending = records.into_iter().filter(Record::is_acknowledged);
            self.recover_these(pending.collect());
            self.recover_failures();
        }
        let again = self.journal.is_to_be_read_again();
        again.then(|| Instant::now() + READ_AGAIN)
    }

    /// Decides the entries in doubt; returns the targets whose answers are missing.
    pub(super) async fn decide_doubts(&self) -> HashSet<TargetId> {
        let mut waiting = HashSet::new();
        for record in self.journal.in_doubt() {
            let (id, when) = (&record.id, record.stamp.when);
            let _applies = self.applies.lock(id).await;
            let failed = match (self.was_made(&record, &mut waiting).await, record.deletes) {
                (None, _) => continue,
                (Some(true), _) => None,
                (Some(false), true) => Some("the mount ended before the deletion did"),
                (Some(false), false) => Some("the mount ended before the push did; push it again"),
            };
            if !self.journal.decide(when, failed) {
                continue;
            }
            let (journal, id, deletes) = (Arc::clone(&self.journal), id.clone(), record.deletes);
            let marking = blocking::run(move || match (failed, deletes) {
                (None, _) => journal.mark(when),
                (Some(_), true) => {
                    journal.abandon(&id, when);
                    Ok(())
                }
                (Some(_), false) => journal.keep(when).map(drop),
            });
            // A hung disk must not keep replay from the other entries: the verdict holds in memory.
            let marked = timeout(self.settings.push, marking).await;
            if let Ok(Ok(Err(error))) = marked {
                tracing::warn!("can't journal how {} ended: {error}", record.id);
            }
            match failed {
                None => {
                    self.recover_these(self.journal.find(when).into_iter().collect());
                    self.recover_failures();
                }
                Some(reason) => {
                    let event = Event::new(Level::Warn, "journal", reason);
                    self.events
                        .report(event.with("artifact", record.id.to_string()));
                }
            }
        }
        waiting
    }

    /// Asks the targets that decide whether an entry in doubt was made; `None` if too few of them
    /// answer.
    async fn was_made(&self, record: &Record, waiting: &mut HashSet<TargetId>) -> Option<bool> {
        let replicas = self.replicas(&record.id.section())?;
        let any = self.settings.durability == Durability::Any && !record.deletes;
        let targets = replicas.targets();
        let deciding = targets.filter(|target| any || replicas.is_registry(target.id));
        let asks = deciding.map(|target| async move {
            let has = match self.backoff.is_due(target.id) {
                true => self.has_made(record, target).await.ok(),
                false => None,
            };
            (target.id, has)
        });
        let answers = futures::future::join_all(asks).await;
        if answers.iter().any(|(_, has)| *has == Some(true)) {
            return Some(true);
        }
        let missing = answers.iter().filter(|(_, has)| has.is_none());
        let missing: Vec<TargetId> = missing.map(|(target, _)| *target).collect();
        waiting.extend(&missing);
        missing.is_empty().then_some(false)
    }

    /// Asks a target whether it holds the content of a push, or has made a deletion.
    async fn has_made(&self, record: &Record, target: &Replica) -> Result<bool, Failure> {
        let end = Instant::now() + self.settings.push;
        let (id, when) = (&record.id, record.stamp.when);
        let there = match target.ask(|target| target.head(id, end)).await {
            Ok(meta) => Ok(!record.deletes && meta.stamp == Some(record.stamp)),
            Err(failure) if failure.kind == Kind::NotFound && record.deletes => {
                let deleted = target.ask(|target| target.tombstones_of(id, end)).await;
                deleted.map(|deleted| deleted.iter().any(|it| it.when >= when))
            }
            Err(failure) if failure.kind == Kind::NotFound => Ok(false),
            Err(failure) => Err(failure),
        };
        if there.is_err() {
            self.backoff.pause(target.id, when);
        }
        there
    }
}
