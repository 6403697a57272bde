//! Delete: the registry decides, the journal makes it durable, and the other targets catch up
//! later.
//!
//! One deletion goes: lock → journal → tombstone and registry → tombstones and backups, all at
//! once. It is done once the registry has answered: for a backup that misses it, the deletion is
//! pending, as a push would be.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::breaker::pressing;
use super::error::{RegistryError, still_busy};
use super::events::{Event, Level};
use super::fallback::registry_deadline;
use super::journal::Record;
use super::replica::{ReplicaSet, share};
use super::{Durability, Registry, blocking};
use crate::model::{ArtifactId, Base, Format, Lineage, Stamp};
use crate::store::{Failure, Kind, Tombstone};

impl Registry {
    /// Deletes an artifact from the registry; if that fails, the deletion fails and nothing has
    /// changed. Then deletes it from every backup; for unreachable backups the deletion is pending.
    ///
    /// Returns by `end`.
    ///
    /// # Errors
    ///
    /// The registry's failure if it has not deleted the artifact. The targets' failures if no
    /// target, or with [`Durability::All`] not every target, has both deleted it and got the
    /// tombstone; then it is deleted from the registry all the same, and replay goes on.
    pub async fn delete(
        self: &Arc<Self>,
        id: &ArtifactId,
        end: Instant,
    ) -> Result<(), RegistryError> {
        let lock = timeout_at(end, self.pushes.lock(id)).await;
        let _lock = lock.map_err(|_| still_busy("delete", id))?;
        let applies = timeout_at(share(end, 3), self.applies.lock(id)).await;
        let _applies = applies.map_err(|_| still_busy("delete", id))?;
        let replicas = self.replicas(&id.section())?;
        let deletes = match self.to_be_deleted(id, replicas, share(end, 3)).await {
            Ok(deletes) => deletes,
            Err(failure) => {
                return Err(self.not_deleted(id, &[(replicas.registry.url(), failure)]));
            }
        };
        let stamp = Stamp {
            base: Base::Content(deletes.sha256),
            ..Stamp::new(self.clock.next_stamp(), b"", Format::Sql)
        };
        let record = Record {
            replaces: Some(deletes),
            registry: replicas.registry.name(),
            targets: self.replay.stores_for(id, replicas),
            ..Record::new(id, &stamp, true)
        };
        let elsewhere = self.replay.stores_elsewhere(id);
        let deletion = &record.tombstone();
        let last = end;
        let written = self.write_journal("delete", record, Bytes::new(), end);
        let end = match written.await {
            Ok(end) => end,
            Err(error) => {
                self.abandon(id, stamp.when, last).await;
                return Err(error);
            }
        };
        let registry = &replicas.registry;
        let deadline = registry_deadline(replicas, end);
        let deleting = async {
            // Write the tombstone first, so that a replay always finds it or the artifact.
            let put = registry.ask(|target| target.put_tombstone(id, deletion, deadline));
            put.await?;
            registry.ask(|target| target.delete(id, deadline)).await
        };
        // No other target can decide the deletion, so ask the registry even if it is skipped.
        let deleted = pressing(Some(deadline), deleting).await;
        if let Err(failure) = deleted {
            self.abandon(id, stamp.when, last).await;
            return Err(self.not_deleted(id, &[(registry.url(), failure)]));
        }
        self.journal.decide(stamp.when, None);
        self.owe_nothing_older(id, stamp.when, last).await;
        self.index
            .change(id, |record| record.deleted(Instant::now()));
        let limit = Instant::now() + self.settings.verdict_budget();
        self.failures.remember(id, None, limit).await;
        let all = self.settings.durability == Durability::All;
        let burials = self.bury(id, replicas, deletion, end);
        let failures = pressing(all.then_some(end), burials).await;
        if failures.is_empty() && elsewhere.is_empty() {
            self.drop_record(id, stamp.when, last).await;
            let event = Event::new(Level::Info, "delete", format!("{id} is deleted everywhere"));
            self.report(event.with("artifact", id.to_string()));
            return Ok(());
        }
        let (journal, when) = (Arc::clone(&self.journal), stamp.when);
        let _ = timeout_at(last, blocking::run(move || journal.mark(when))).await;
        self.replay.wake();
        let missing = RegistryError::of_failures(
            format!("{id} is deleted from the registry, but not yet from every target"),
            failures.iter().map(|(url, failure)| (*url, failure)),
        );
        let event = Event::new(Level::Warn, "delete-degraded", missing.reason.clone());
        self.report(event.with("artifact", id.to_string()));
        // Without a tombstone on any target, only this machine knows of the deletion.
        let is_known = failures.len() < replicas.targets().count();
        match self.settings.durability {
            Durability::Any | Durability::Registry if is_known => Ok(()),
            _ => Err(missing),
        }
    }

    /// Returns the content that a deletion names: the registry's, or the newest known one if the
    /// registry misses it; and the contents before it. A registry that doesn't tell what it holds
    /// deletes nothing: the tombstone would not name it, and the backups' copies would not be deleted.
    async fn to_be_deleted(
        self: &Arc<Self>,
        id: &ArtifactId,
        replicas: &ReplicaSet,
        end: Instant,
    ) -> Result<Lineage, Failure> {
        // Content that was put there by hand is known by its bytes alone.
        let _ = timeout_at(end, self.current(id)).await;
        let known = self.index.peek(id, |entry| entry.lineage()).flatten();
        let known = self.journal.extended(id, known);
        let asked = replicas.registry.held(id, self.settings.max_size, end);
        let there = pressing(Some(end), asked).await?;
        let mut deletes = match (there, known) {
            (Some((stamp, _)), Some(known)) if !known.holds(stamp.sha256) => {
                let mut deletes = Lineage::new(&stamp, true, &[]);
                deletes.extend([known.sha256]);
                deletes.extend(known.past);
                deletes
            }
            (Some((stamp, _)), None) => Lineage::new(&stamp, true, &[]),
            (_, Some(known)) => known,
            // A tombstone that names nothing would delete by time.
            (None, None) => {
                let why = "it is gone, or too damaged to be named: if it is still listed, push it \
                           anew, and delete that";
                return Err(Failure::new(Kind::NotFound, why));
            }
        };
        // The backups have this mount's pending pushes, and the deletion ends those, too.
        let is_push = |it: &Record| it.id == *id && it.is_acknowledged() && !it.deletes;
        for push in self.journal.select(is_push) {
            deletes.extend([push.stamp.sha256]);
            deletes.when = deletes.when.max(Some(push.stamp.when));
        }
        // Another mount may read the time of its stamp, which this one's clock does not believe.
        let is_by_hand = there.is_some_and(|(_, stamped)| !stamped);
        deletes.when = deletes.when.filter(|_| !is_by_hand);
        Ok(deletes)
    }

    /// Leaves a tombstone in every target, and deletes the artifact from the backups.
    async fn bury<'a>(
        &self,
        id: &ArtifactId,
        replicas: &'a ReplicaSet,
        deletion: &Tombstone,
        end: Instant,
    ) -> Vec<(&'a str, Failure)> {
        let burials = replicas.targets().map(|target| async move {
            let buried = match replicas.is_registry(target.id) {
                true => {
                    let put = target.ask(|target| target.put_tombstone(id, deletion, end));
                    put.await
                }
                false => {
                    let limit = self.settings.max_size;
                    target.apply_deletion(id, deletion, limit, end).await
                }
            };
            if buried.is_ok() {
                self.journal.got(deletion.when, &target.name());
            }
            (target.url(), buried)
        });
        let buried = futures::future::join_all(burials).await.into_iter();
        buried
            .filter_map(|(url, buried)| Some((url, buried.err()?)))
            .collect()
    }

    /// Cancels a failed deletion, so that replay skips it. The verdict holds at once; the wait for
    /// the disk ends shortly after `end`.
    async fn abandon(&self, id: &ArtifactId, when: u64, end: Instant) {
        if !self.journal.decide(when, Some("it was cancelled")) {
            return;
        }
        let (journal, id) = (Arc::clone(&self.journal), id.clone());
        let limit = end + self.settings.verdict_budget() / 2;
        let _ = timeout_at(limit, blocking::run(move || journal.abandon(&id, when))).await;
    }

    async fn drop_record(&self, id: &ArtifactId, when: u64, end: Instant) {
        let (journal, id) = (Arc::clone(&self.journal), id.clone());
        let _ = timeout_at(end, blocking::run(move || journal.settle(&id, when))).await;
    }

    /// Removes the pending entries before a deletion from the journal, so that no target gets them any
    /// more. Their times say nothing: this machine's clock may have been set back.
    async fn owe_nothing_older(&self, id: &ArtifactId, when: u64, end: Instant) {
        #[cfg(test)]
        if crate::fault_injection::injected(crate::fault_injection::Bug::Resurrection) {
            return;
        }
        let (journal, id) = (Arc::clone(&self.journal), id.clone());
        let settling = blocking::run(move || {
            let pending = journal.select(|record| {
                record.id == id && record.failed.is_none() && record.stamp.when != when
            });
            pending.iter().for_each(|record| journal.outdate(record));
        });
        let _ = timeout_at(end, settling).await;
    }

    fn not_deleted(&self, id: &ArtifactId, failures: &[(&str, Failure)]) -> RegistryError {
        let failures = failures.iter().map(|(url, failure)| (*url, failure));
        let error = RegistryError::of_failures(format!("can't delete {id}"), failures);
        let event = Event::new(Level::Error, "delete-failed", error.reason.clone());
        self.report(event.with("artifact", id.to_string()));
        error
    }
}
