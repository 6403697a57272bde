//! The whole push: lock → validate → journal → commit → replicate → decide → complete.
//!
//! If a step fails, the bytes are kept in `unpushed`. If the push succeeds and a target misses it,
//! the journal keeps the bytes, and `replay` pushes them to that target later.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::base::BaseVersion;
use super::breaker::pressing;
use super::check::PushDetails;
use super::commit::{Commit, CommitOutcome};
use super::conflict::apart;
use super::error::{RegistryError, conflict, panicked, reasons, still_busy};
use super::events::{Event, Level};
use super::fallback::registry_deadline;
use super::journal::Record;
use super::receipt::receipt;
use super::replica::{Replica, ReplicaSet, TargetId, share};
use super::{Durability, Registry, blocking};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{ArtifactId, Lineage, Section, Stamp};
use crate::store::{Condition, Failure, Token};

/// How long a push waits for backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until its deadline.
    ForAll,
    /// Once the verdict is decided, for as long as a target has to answer a listing. Replay pushes
    /// to a slower backup later.
    ForVerdict,
}

/// A push under way.
pub(super) struct Push<'a> {
    registry: &'a Arc<Registry>,
    pub(super) id: &'a ArtifactId,
    pub(super) replicas: &'a ReplicaSet,
    pub(super) content: &'a Bytes,
    pub(super) stamp: Stamp,
    /// The contents that it may replace: its base, and those before.
    replaces: Option<Lineage>,
    /// An earlier push of the same handle that seems to have failed.
    pub(super) attempt: Option<Stamp>,
    wait: Wait,
    /// The targets that have it, with the tokens that they returned.
    got: Vec<(TargetId, Option<Token>)>,
    /// The targets that miss it.
    missing: Vec<(&'a Arc<Replica>, Failure)>,
    /// The targets that have its version.
    versions: Vec<TargetId>,
}

impl Registry {
    /// Pushes a document to the registry and to every backup. It may replace the content `base`, which
    /// becomes the document itself as soon as any target has it, even if that is too few.
    ///
    /// It ends by `end`, with the verdict known by then; the caller must not give up before. `wait`
    /// says whether hung backups may use up all of that time.
    ///
    /// # Errors
    ///
    /// `ErrorKind::Conflict` if the registry no longer holds `base`; `ErrorKind::Invalid` if
    /// the document is refused; the targets' failures if too few of them have it. The bytes are
    /// kept in `unpushed` then.
    pub async fn push(
        self: &Arc<Self>,
        id: &ArtifactId,
        content: Bytes,
        base: &mut BaseVersion,
        details: PushDetails,
        end: Instant,
        wait: Wait,
    ) -> Result<(), RegistryError> {
        let lock = timeout_at(end, self.pushes.lock(id)).await;
        let attempt = base.attempt;
        let stamp = match &lock {
            Ok(_) => self.validate(id, &content, base, details, end).await,
            Err(_) => Err(still_busy("push", id)),
        };
        if let (Ok((stamp, _)), None) = (&stamp, attempt)
            && self.has_already(id, stamp, base, end).await
        {
            base.attempt = None;
            return Ok(());
        }
        let ready = stamp
            .clone()
            .and_then(|(stamp, replaces)| Ok((stamp, replaces, self.replicas(&id.section())?)));
        let mut pushed = match ready {
            Ok((stamp, replaces, replicas)) => {
                let push = Push {
                    registry: self,
                    id,
                    replicas,
                    content: &content,
                    stamp,
                    replaces,
                    attempt,
                    wait,
                    got: Vec::new(),
                    missing: Vec::new(),
                    versions: Vec::new(),
                };
                // After a panic the push has failed.
                let run = AssertUnwindSafe(push.run(base, end)).catch_unwind();
                run.await.unwrap_or_else(|_| Err(panicked("pushing", id)))
            }
            Err(error) => Err(error),
        };
        match &mut pushed {
            Ok(()) => self.failures.remember(id, None, end).await,
            Err(error) => {
                let stamp = stamp.as_ref().ok().map(|(stamp, _)| *stamp);
                self.keep(id, &content, stamp, error, end).await;
            }
        }
        pushed
    }
}

impl<'a> Push<'a> {
    async fn run(mut self, base: &mut BaseVersion, last: Instant) -> Result<(), RegistryError> {
        let end = self.journal(last).await?;
        // If one target is enough, skipped targets are asked only if no other has it.
        let any = self.registry.settings.durability == Durability::Any;
        let skipped = self.replicas.is_any_skipped();
        self.commit_and_replicate(base, end, !any).await?;
        if any && skipped && self.got.is_empty() {
            self.missing.clear();
            self.commit_and_replicate(base, end, true).await?;
        }
        self.index(base);
        self.decide()?;
        self.complete(last).await;
        Ok(())
    }

    /// Makes the push durable on this machine; returns the targets' deadline.
    async fn journal(&self, end: Instant) -> Result<Instant, RegistryError> {
        let record = Record {
            replaces: self.replaces.clone(),
            registry: self.replicas.registry.name(),
            targets: self.registry.replay.stores_for(self.id, self.replicas),
            ..Record::new(self.id, &self.stamp, false)
        };
        let bytes = self.content.clone();
        let writing = self.registry.write_journal("push", record, bytes, end);
        writing.await
    }

    /// Pushes to the registry, which decides conflicts, and then to the backups. `is_pressing`:
    /// skipped targets are asked too.
    async fn commit_and_replicate(
        &mut self,
        base: &BaseVersion,
        end: Instant,
        is_pressing: bool,
    ) -> Result<(), RegistryError> {
        let deadline = registry_deadline(self.replicas, end);
        if self.replicas.has_registry() {
            let registry = &self.replicas.registry;
            self.commit(registry, base, deadline, is_pressing).await?;
        }
        let settings = &self.registry.settings;
        // If the registry decides and has failed, no backup may hold a push that fails.
        if !self.missing.is_empty() && settings.durability != Durability::Any {
            return Ok(());
        }
        let is_decided = !self.got.is_empty() && settings.durability != Durability::All;
        let end = match self.wait {
            Wait::ForVerdict if is_decided => end.min(Instant::now() + settings.metadata),
            // If no target has it yet, skipped targets need time as well.
            _ if self.got.is_empty() && !is_pressing && self.replicas.is_any_skipped() => {
                share(end, 2)
            }
            _ => end,
        };
        // While the registry is out, the first backup that answers decides.
        let backups = &self.replicas.backups;
        for (place, backup) in backups.iter().enumerate() {
            if !self.got.is_empty() {
                break;
            }
            let deadline = share(end, backups.len() - place);
            self.commit(backup, base, deadline, is_pressing).await?;
        }
        pressing(is_pressing.then_some(end), self.replicate(end)).await;
        Ok(())
    }

    /// Replaces the base in the registry, or in a backup in its place, with the document.
    async fn commit(
        &mut self,
        registry: &'a Arc<Replica>,
        base: &BaseVersion,
        deadline: Instant,
        is_pressing: bool,
    ) -> Result<(), RegistryError> {
        let settings = &self.registry.settings;
        let commit = Commit {
            index: &self.registry.index,
            registry,
            id: self.id,
            content: self.content,
            stamp: self.stamp,
            replaces: self.replaces.as_ref(),
            stands_in_for: Some(self.replicas.registry.id).filter(|out| *out != registry.id),
            attempt: self.attempt,
            max_size: settings.max_size,
            absent_is_unknown: settings.fallback_on.not_found,
        };
        let pressing_until = is_pressing.then_some(deadline);
        match pressing(pressing_until, commit.run(base, deadline)).await {
            CommitOutcome::Got(token) => self.got.push((registry.id, token)),
            CommitOutcome::Missed(failure) => self.missing.push((registry, failure)),
            CommitOutcome::Lost(why) => return Err(conflict(self.id, &why)),
            CommitOutcome::Undecided(failure) => {
                let what = format!("can't push {}: another writer may have won", self.id);
                return Err(RegistryError::of_failures(
                    what,
                    [(registry.url(), &failure)],
                ));
            }
        }
        Ok(())
    }

    /// Puts the document into all other backups, and its version into every target, at once.
    async fn replicate(&mut self, end: Instant) {
        let (id, stamp, content) = (self.id, &self.stamp, self.content);
        let replicas = self.replicas;
        #[cfg(test)]
        let end =
            end + std::time::Duration::from_secs(if injected(Bug::NoDeadline) { 60 } else { 0 });
        let asked = |backup: &&Arc<Replica>| {
            let missing = self.missing.iter().map(|(missing, _)| missing.id);
            let mut asked = missing.chain(self.got.iter().map(|(got, _)| *got));
            asked.any(|asked| asked == backup.id)
        };
        let backups = replicas.backups.iter().filter(|backup| !asked(backup));
        // A push that may still fail makes no version; replay adds it once that is decided.
        let is_decided = self.registry.settings.durability != Durability::All;
        let makes_version = is_decided && !self.got.is_empty() && id.item.has_versions();
        let version = |target: &'a Arc<Replica>| async move {
            #[cfg(test)]
            let makes_version = makes_version
                && (replicas.is_registry(target.id) || !injected(Bug::VersionSkipped));
            let put = target.ask(|target| target.put_version(id, content.clone(), stamp, end));
            makes_version && put.await.is_ok()
        };
        let puts = backups.map(|backup| async move {
            let put =
                backup.ask(|target| target.put(id, content.clone(), stamp, &Condition::None, end));
            (backup, futures::join!(put, version(backup)))
        });
        let decided = replicas.targets().filter(|target| self.has(target));
        let versions = decided.map(|target| async move { (target, version(target).await) });
        let (puts, mut versions) = futures::join!(
            futures::future::join_all(puts),
            futures::future::join_all(versions)
        );
        for (backup, (put, version)) in puts {
            versions.push((backup, version));
            match put {
                Ok(token) => self.got.push((backup.id, token)),
                Err(failure) => self.missing.push((backup, failure)),
            }
        }
        let versions = versions.into_iter().filter(|(_, has_it)| *has_it);
        self.versions.extend(versions.map(|(target, _)| target.id));
    }

    /// Makes the document the newest content in the index, if any target has it: it can be read
    /// from there whatever the verdict is.
    fn index(&self, base: &mut BaseVersion) {
        if self.got.is_empty() {
            return;
        }
        let (registry, id, stamp) = (self.registry, self.id, self.stamp);
        for target in self.replicas.targets().filter(|target| self.has(target)) {
            target.pushes.increment();
        }
        let missing: Vec<TargetId> = self.missing.iter().map(|(target, _)| target.id).collect();
        let missed = |target: &Replica| {
            let mut missing = self.missing.iter();
            let missed = missing.find(|(missing, _)| missing.id == target.id);
            let missed = missed.map(|(_, failure)| failure);
            let missed = missed.or_else(|| target.unsupported());
            missed.map(Failure::to_string)
        };
        let receipt = receipt(id, stamp.status, self.replicas, missed).to_string();
        registry.contents.insert(stamp.sha256, self.content);
        registry.index.expire(&Section::versions(&id.repo));
        let mut open = registry.replica_sets.open().iter();
        if let Some(place) = open.position(|open| open.registry.id == self.replicas.registry.id) {
            registry.index.add_root(&id.repo, place);
        }
        *base = registry.index.change(id, |entry| {
            let revision = || registry.index.next_revision();
            entry.pushed(stamp, &self.got, &missing, Instant::now(), revision);
            entry.set_receipt(receipt);
            BaseVersion::of(entry.current())
        });
    }

    /// Decides by the durability whether the push has succeeded.
    fn decide(&self) -> Result<(), RegistryError> {
        let done = match self.registry.settings.durability {
            Durability::Any => !self.got.is_empty(),
            Durability::Registry => self.has(&self.replicas.registry),
            Durability::All => self.missing.is_empty(),
        };
        #[cfg(test)]
        let done = done || (injected(Bug::RegistryNotNeeded) && !self.got.is_empty());
        match done {
            true => Ok(()),
            false => {
                let what = format!("can't push {}", self.id);
                Err(RegistryError::of_failures(what, self.failures()))
            }
        }
    }

    /// Reports a success, and writes to the journal that it is one, and which targets have it.
    ///
    /// The close waits for that until `end`: if the mount dies, the next one would have to ask the
    /// targets for the verdict, and would replay a complete entry into a registry from which another
    /// mount may just be deleting the artifact.
    async fn complete(self, end: Instant) {
        self.report();
        let registry = self.registry;
        let journal = Arc::clone(&registry.journal);
        let index_log = Arc::clone(&registry.index_log);
        let (id, stamp) = (self.id.clone(), self.stamp);
        let names = |has: &dyn Fn(&Replica) -> bool| -> Vec<String> {
            let targets = self.replicas.targets().filter(|target| has(target));
            targets.map(|target| target.name()).collect()
        };
        let got = names(&|target| self.has(target));
        let versions = names(&|target| self.versions.contains(&target.id));
        let has_versions =
            !id.item.has_versions() || versions.len() == self.replicas.targets().count();
        let elsewhere = registry.replay.stores_elsewhere(&id);
        let is_complete = self.missing.is_empty() && elsewhere.is_empty() && has_versions;
        if !is_complete {
            journal.decide(stamp.when, None);
        }
        let (replaces, decider) = (self.replaces, Arc::clone(&self.replicas.registry));
        let settling = blocking::run(move || {
            // Write the index before the journal forgets the push: after a crash one of them must
            // know it.
            index_log.write();
            let is_registry = |store: &str| decider.is_named(store);
            let lost = journal.supersede(&id, &stamp, replaces.as_ref(), is_registry);
            let lost = lost.into_iter().map(|record| {
                let reason = apart(decider.url(), Some(&stamp), &record.stamp);
                journal.conflict(record.stamp.when, &reason);
                (record, reason)
            });
            let lost: Vec<_> = lost.collect();
            match is_complete {
                true => {
                    journal.settle(&id, stamp.when);
                    // Replay removes what the disk has not let go of.
                    journal.decide(stamp.when, None);
                }
                false => {
                    got.iter().for_each(|name| journal.got(stamp.when, name));
                    (versions.iter()).for_each(|name| journal.got_version(stamp.when, name));
                    let _ = journal.mark(stamp.when);
                }
            }
            lost
        });
        let settled = timeout_at(end, settling).await;
        let lost = settled.ok().and_then(Result::ok).unwrap_or_default();
        for (record, reason) in lost {
            registry.replay.report_conflict(&record, reason);
        }
        if !is_complete {
            registry.replay.wake();
        }
    }

    fn report(&self) {
        let (id, stamp, metrics) = (self.id, self.stamp, &self.registry.metrics);
        let event = if self.missing.is_empty() {
            metrics.pushes_complete.increment();
            Event::new(Level::Info, "push", format!("{id} is on every target"))
        } else {
            metrics.pushes_degraded.increment();
            let why = reasons(self.failures());
            let message = format!("{id} is pushed, but not to every target: {why}");
            Event::new(Level::Warn, "push-degraded", message)
        };
        let missing: Vec<&str> = self.failures().map(|(url, _)| url).collect();
        let got: Vec<&str> = self.targets_of_got().map(|target| target.url()).collect();
        self.registry.report(
            event
                .with("artifact", id.to_string())
                .with("size", stamp.size)
                .with("sha256", stamp.sha256.to_string())
                .with("format", stamp.format.as_str())
                .with("targets", json!(got))
                .with("missing", json!(missing)),
        );
    }

    fn has(&self, target: &Replica) -> bool {
        self.got.iter().any(|(got, _)| *got == target.id)
    }

    fn failures(&self) -> impl Iterator<Item = (&str, &Failure)> {
        let missing = self.missing.iter();
        missing.map(|(target, failure)| (target.url(), failure))
    }

    fn targets_of_got(&self) -> impl Iterator<Item = &Arc<Replica>> {
        self.replicas.targets().filter(|target| self.has(target))
    }
}
