//! Conflicts: acknowledged pushes that are not based on the registry's content. Nothing is overwritten:
//! every target gets the content as a version, and a person decides by the next push. Versions of the
//! pushes that the registry misses tell later what is a conflict.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::{Instant, timeout};

use super::blocking;
use super::events::{Event, Level};
use super::journal::Record;
use super::replay::Replay;
use super::replica::{Replica, TargetId};
use crate::model::{Lineage, Stamp, when_to_text};
use crate::store::{Token, version_key};

impl Replay {
    /// Ends a push that was acknowledged, and that the registry can't get: it holds something that
    /// the push is not based on.
    pub(super) async fn conflict(
        &self,
        record: &Record,
        registry: &Replica,
        (there, token): (Stamp, Option<Token>),
    ) {
        let (id, stamp) = (&record.id, record.stamp);
        let reason = apart(registry.url(), Some(&there), &stamp);
        // A hung disk must not keep replay from other entries: the verdict holds in memory.
        self.journal.decide(stamp.when, Some(&reason));
        let (journal, why) = (Arc::clone(&self.journal), reason.clone());
        let keeping = blocking::run(move || journal.conflict(stamp.when, &why));
        let _ = timeout(self.settings.push, keeping).await;
        self.index.change(id, |entry| {
            let revision = || self.index.next_revision();
            entry.yield_to(registry.id, (there, token), stamp, Instant::now(), revision);
        });
        self.report_conflict(record, reason);
    }

    /// Returns the contents that a push replaces, also those that only the versions in its backups tell:
    /// the mount that made the pushes before it may be lost.
    pub(super) async fn replaced(&self, record: &Record, end: Instant) -> Option<Lineage> {
        let mut replaces = record.replaces.clone()?;
        let replicas = self.replicas(&record.id.section())?;
        let has = |target: &&Arc<Replica>| record.got.iter().any(|it| target.is_named(it));
        for target in replicas.backups.iter().filter(has) {
            let known = [&[replaces.sha256], &*replaces.past].concat();
            let before = target.ask(|target| target.contents_before(&record.id, &known, end));
            replaces.extend(before.await.unwrap_or_default());
        }
        Some(replaces)
    }

    /// Reports the conflict of a push that the journal keeps.
    pub(super) fn report_conflict(&self, record: &Record, reason: String) {
        let id = &record.id;
        self.index.change(id, |entry| entry.failed(reason.clone()));
        let event = Event::new(Level::Error, "conflict", reason);
        let event = event.with("artifact", id.to_string());
        let event = event.with("kept", format!(".atlasfs/unpushed/{}", record.path()));
        self.events
            .report(event.with("version", version_key(id, &record.stamp)));
        // The targets miss the version.
        self.wake();
    }

    /// Gives the contents of pushes to targets as versions; returns the targets that miss one.
    pub(super) async fn keep_versions(&self) -> HashSet<TargetId> {
        let mut waiting = HashSet::new();
        let is_push =
            |record: &Record| record.conflicts || record.outdated || record.is_acknowledged();
        for record in self.journal.select(|it| is_push(it) && !it.deletes) {
            let missing = self.missing_version(&record);
            waiting.extend(missing.iter().map(|target| target.id));
            let due = missing.iter().filter(|it| self.backoff.is_due(it.id));
            let puts = due.map(|target| self.keep_version(&record, target));
            let kept = futures::future::join_all(puts).await;
            if let (true, Some(record)) =
                (kept.contains(&true), self.journal.find(record.stamp.when))
                && record.outdated
            {
                match self.missing_version(&record).is_empty() {
                    true => self.journal.settle(&record.id, record.stamp.when),
                    false => self.journal.outdate(&record),
                }
            }
        }
        waiting
    }

    /// Returns the targets that miss the content of a push as a version. A conflict, and a push of a
    /// schema, is for all. Of another push that the registry misses, the backups that have it keep a
    /// version: if this machine is lost, and a later push has replaced it, the version tells another
    /// mount what that is based on.
    pub(super) fn missing_version(&self, record: &Record) -> Vec<Arc<Replica>> {
        if record.deletes || record.id.item.is_immutable() {
            return Vec::new();
        }
        let mut missing = self.without(record, &record.versions);
        #[cfg(test)]
        if crate::fault_injection::injected(crate::fault_injection::Bug::VersionSkipped) {
            let replicas = self.replicas(&record.id.section());
            missing.retain(|target| replicas.is_some_and(|it| it.is_registry(target.id)));
        }
        if !record.conflicts && !record.makes_version() {
            let has = |target: &Replica| record.got.iter().any(|store| target.is_named(store));
            let replicas = self.replicas(&record.id.section());
            let is_decided = replicas.is_some_and(|replicas| has(&replicas.registry));
            missing.retain(|target| !is_decided && has(target));
        }
        missing
    }

    /// Gives the content of a push to a target as a version; returns whether the target has it now.
    async fn keep_version(&self, record: &Record, target: &Replica) -> bool {
        let (id, stamp) = (&record.id, &record.stamp);
        let (journal, when) = (Arc::clone(&self.journal), stamp.when);
        let content = match blocking::run(move || journal.content(when)).await {
            Ok(Ok(content)) => content,
            // A person has removed it.
            _ => return false,
        };
        let end = Instant::now() + self.settings.push;
        let put = target.ask(|target| target.keep_version(id, content.clone(), stamp, end));
        match put.await {
            Ok(()) => {
                self.journal.got_version(when, &target.name());
                self.recovered(target.id);
                true
            }
            Err(failure) => {
                self.backoff.pause(target.id, when);
                tracing::debug!("{} lacks a version of {id}: {failure}", target.url());
                false
            }
        }
    }
}

/// Describes the conflict of an acknowledged push with the registry's content.
pub(super) fn apart(url: &str, there: Option<&Stamp>, push: &Stamp) -> String {
    let of = |stamp: &Stamp| {
        let (when, sha256) = (when_to_text(stamp.when), stamp.sha256.to_string());
        let by = stamp.author.map(|author| format!(" by {author}"));
        let status = stamp.status.to_text().map(|status| format!(", {status}"));
        let [by, status] = [by, status].map(Option::unwrap_or_default);
        format!("{sha256:.12} of {when}{by}{status}")
    };
    let there = there.map_or("nothing, its base was deleted".into(), of);
    format!(
        "{url} holds {there}, and the acknowledged push {} is not based on that; push the one \
         to keep, or remove this one",
        of(push)
    )
}
