//! Status and metrics: the mount as people and probes see it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::entry::{Entry, Source};
use super::index::FAILED_FOR;
use super::journal::Record;
use super::metrics::{
    CACHE_BYTES, CACHE_ENTRIES, CACHE_HITS, CACHE_MISSES, DISK_CACHE_BYTES, DISK_CACHE_ENTRIES,
    DISK_CACHE_HITS, DISK_CACHE_MISSES, HANDLES, HEDGES, HIDDEN, INODES, JOINED, PENDING, REPAIRED,
    TARGET_BREAKER_OPEN, TARGET_FAILURES, TARGET_OPERATIONS, TARGET_TIMEOUTS, TARGET_UP, UNPUSHED,
};
use super::replica::{Replica, TargetId, TargetState};
use super::{Registry, Revision};
use crate::model::{ArtifactId, Section, nanos, when_to_text};

/// The values of an artifact's extended attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The newest known content.
    pub known: Option<Revision>,
    /// The source of the last pull: `cache`, `registry`, or the backup's URL.
    pub source: Option<String>,
    /// The time since any target last answered, if none answers now.
    pub stale: Option<Duration>,
    /// The URLs of the targets that miss the newest push.
    pub pending: Vec<String>,
    /// The reason why the last push failed.
    pub error: Option<String>,
    /// The receipt of the last push.
    pub receipt: Option<String>,
}

/// The facts of the status that are not the registry's own.
#[derive(Debug, Clone)]
pub struct Mount {
    /// The mount point.
    pub dir: String,
    /// The time when the mount began.
    pub started: SystemTime,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Why it is read-only, unless the user wants it so.
    pub read_only_reason: Option<String>,
}

/// How much of the mount is in use.
#[derive(Debug, Clone, Copy)]
pub struct Open {
    /// Inodes that are referred to.
    pub inodes: usize,
    /// Open files and directories.
    pub handles: usize,
}

impl Registry {
    /// Returns the values of an artifact's extended attributes.
    pub fn about(&self, id: &ArtifactId) -> Option<About> {
        let registry = self.replicas(&id.section()).ok()?.registry.id;
        let failing = self.index.is_failing(&id.section());
        let stale = failing.then(|| self.staleness(id));
        self.index.peek(id, |record| About {
            known: record.current().cloned(),
            source: record.source().and_then(|source| match source {
                Source::Cache => Some("cache".into()),
                Source::Target(target) if target == registry => Some("registry".into()),
                Source::Target(target) => self.url_of(target).map(str::to_owned),
            }),
            stale,
            pending: self.pending_urls(record),
            error: record.error().map(str::to_owned),
            receipt: record.receipt().map(str::to_owned),
        })
    }

    /// Returns whether the last push of an artifact has failed.
    pub fn has_error(&self, id: &ArtifactId) -> bool {
        let error = self.index.peek(id, |record| record.error().is_some());
        error.unwrap_or_default()
    }

    /// Forgets that the last push of an artifact has failed; returns `false` if it hasn't.
    pub async fn forget_error(&self, id: &ArtifactId) -> bool {
        let limit = Instant::now() + self.settings.verdict_budget();
        self.failures.remember(id, None, limit).await;
        self.has_error(id) && self.index.change(id, |record| record.forget_error())
    }

    /// Returns whether an artifact is known to have a content.
    pub fn exists(&self, id: &ArtifactId) -> bool {
        let exists = self.index.peek(id, |record| record.current().is_some());
        exists.unwrap_or_default()
    }

    /// Returns the newest known content of an artifact, without asking any target.
    pub fn newest(&self, id: &ArtifactId) -> Option<Revision> {
        let newest = self.index.peek(id, |record| record.current().cloned());
        newest.flatten()
    }

    /// Returns whether any target has ever listed a section.
    pub fn was_listed(&self, section: &Section) -> bool {
        self.index.age(section).is_some()
    }

    /// Returns the time since any target last listed an artifact's repository.
    pub(super) fn staleness(&self, id: &ArtifactId) -> Duration {
        self.index.age(&id.section()).unwrap_or_default()
    }

    /// Returns how long the knowledge of a section is still fresh.
    pub fn fresh_for(&self, section: &Section) -> Duration {
        let age = self.index.age(section).unwrap_or_default();
        // Keep stale knowledge for as long as asking again would be of no use.
        Some(self.settings.ttl.saturating_sub(age))
            .filter(|left| !left.is_zero())
            .unwrap_or(self.settings.ttl.min(FAILED_FOR))
    }

    fn pending_urls(&self, record: &Entry) -> Vec<String> {
        let urls = record.pending().iter().filter_map(|&id| self.url_of(id));
        urls.map(str::to_owned).collect()
    }

    /// Returns the status as JSON.
    pub fn status(self: &Arc<Self>, mount: &Mount) -> Value {
        let targets = self.replica_sets.targets();
        let missing = self.missing_somewhere();
        let pending = self.pending();
        let unpushed = self.journal.failed();
        let (errors, lost) = (self.errors(), self.lost());
        let (damaged, unread) = (self.journal.damaged(), self.journal.unread());
        let healthy = pending.is_empty()
            && damaged.is_empty()
            && unread.is_empty()
            && unpushed.is_empty()
            && errors.is_empty()
            && lost.is_empty()
            && self.replica_sets.unsupported().next().is_none()
            && targets.iter().all(|target| {
                matches!(
                    target.health().state,
                    TargetState::Ok | TargetState::Unknown
                )
            });
        let uptime = self.clock.now().duration_since(mount.started);
        let cache = self.contents.memory.figures();
        let (disk, disk_problem) = self.contents.disk.figures();
        let unpushed = unpushed.iter().map(|kept| {
            json!({
                "path": format!(".atlasfs/unpushed/{}", kept.path()),
                "artifact": kept.id.to_string(),
                "time": when_to_text(kept.stamp.when),
                "size": kept.stamp.size,
                "sha256": kept.stamp.sha256.to_string(),
                "reason": kept.failed,
            })
        });
        let damaged = damaged.iter().map(|damaged| {
            json!({
                "path": super::unpushed::kept(damaged),
                "file": damaged.file.display().to_string(),
                "size": damaged.size,
            })
        });
        let unread = unread.iter().map(
            |unread| json!({ "file": unread.file.display().to_string(), "reason": unread.reason }),
        );
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "mount": mount.dir,
            "pid": std::process::id(),
            "started": time_to_text(mount.started),
            "uptime_seconds": uptime.unwrap_or_default().as_secs(),
            "durability": self.settings.durability.as_str(),
            "read_only": mount.read_only,
            "read_only_reason": mount.read_only_reason,
            "healthy": healthy,
            "targets": self
                .replica_sets
                .unsupported()
                .chain(targets)
                .map(|target| self.target_status(target, missing.contains(&target.id)))
                .collect::<Vec<_>>(),
            "pending": pending,
            "unpushed": unpushed.collect::<Vec<_>>(),
            "journal": {
                "bytes": self.journal.bytes(),
                "capacity": self.settings.journal_bytes,
                "damaged": damaged.collect::<Vec<_>>(),
                "unread": unread.collect::<Vec<_>>(),
            },
            "repair": self.reconcile.round(),
            "cache": {
                "entries": cache.entries,
                "bytes": cache.bytes,
                "capacity": cache.capacity,
                "hits": cache.hits,
                "misses": cache.misses,
            },
            "disk_cache": {
                "entries": disk.entries,
                "bytes": disk.bytes,
                "capacity": disk.capacity,
                "hits": disk.hits,
                "misses": disk.misses,
                "error": disk_problem,
            },
            "pushes": {
                "complete": self.metrics.pushes_complete.get(),
                "degraded": self.metrics.pushes_degraded.get(),
                "failed": self.metrics.pushes_failed.get(),
                "conflict": self.metrics.pushes_conflict.get(),
                "refused": self.metrics.pushes_refused.get(),
                "unreported": self.metrics.unreported.get(),
            },
            "reads": {
                "hedged": self.fallback.hedges.get(),
                "joined": self.joined(),
            },
            "limits": {
                "metadata_ms": self.settings.metadata.as_millis(),
                "read_ms": self.settings.read.as_millis(),
                "push_ms": self.settings.push.as_millis(),
                "hedge_ms": self.settings.hedge.as_millis(),
                "breaker": self.settings.breaker,
                "repair_ms": self.settings.repair.as_millis(),
            },
            "errors": errors,
            "lost": lost,
            "sums": self.wrong_sums(),
            "repos": self.known_repos().len(),
            "hidden_names": self.index.hidden(),
        })
    }

    /// Tells whether a push or deletion of an artifact is pending. Tests ask this far too often for
    /// the whole status.
    #[cfg(test)]
    pub(crate) fn is_pending(&self, id: &ArtifactId) -> bool {
        let pending = |record: &Record| record.id == *id && record.failed.is_none();
        !self.journal.select(pending).is_empty()
    }

    /// Tells whether the mount skips a target because its breaker is open.
    #[cfg(test)]
    pub(crate) fn skips_a_target(&self) -> bool {
        let mut targets = self.replica_sets.targets().iter();
        targets.any(|target| target.breaker.is_open())
    }

    /// Returns how many reads and listings shared another one's request.
    fn joined(&self) -> u64 {
        self.lists.joined() + self.roots.joined() + self.pulls.joined()
    }

    /// Returns the targets that some push is pending for.
    fn missing_somewhere(&self) -> HashSet<TargetId> {
        let pending = self.journal.pending().into_iter();
        pending
            .flat_map(|record| {
                let missing = self.replay.behind(&record);
                missing.iter().map(|target| target.id).collect::<Vec<_>>()
            })
            .collect()
    }

    fn target_status(&self, target: &Replica, is_missing: bool) -> Value {
        let health = target.health();
        let is_registry = self
            .replica_sets
            .open()
            .iter()
            .any(|replicas| replicas.is_registry(target.id));
        let named = self.replica_sets.repos_of(target.id);
        let repos: Vec<&str> = match named.is_empty() || is_registry {
            true => vec!["*"],
            false => named.iter().map(|repo| repo.as_str()).collect(),
        };
        // A target that answers listings may still refuse the push that is pending for it.
        let is_over = health.state == TargetState::Ok && !is_missing;
        let last_failure = health.last_failure.filter(|_| !is_over);
        let last_failure = match target.unsupported() {
            // It has not failed, because it was not asked.
            Some(failure) => Some(json!({
                "time": null,
                "kind": health.state.as_str(),
                "reason": failure.reason,
            })),
            // Events and counters show failures that are over.
            None => last_failure.map(|(time, failure)| {
                json!({
                    "time": time_to_text(time),
                    "kind": failure.kind.as_str(),
                    "reason": failure.reason,
                })
            }),
        };
        json!({
            "role": if is_registry { "registry" } else { "backup" },
            "url": target.url(),
            "repos": repos,
            "state": health.state.as_str(),
            "since": health.since.map(time_to_text),
            "breaker": target.breaker.as_str(),
            "conditional_writes": target.conditions(),
            "last_failure": last_failure,
            "pulls": target.pulls.get(),
            "pushes": target.pushes.get(),
            "answers": target.answers(),
            "failures": health.failures.values().sum::<u64>(),
            "timeouts": target.timeouts.get(),
        })
    }

    fn pending(&self) -> Vec<Value> {
        let pending = self.journal.pending().into_iter();
        pending.map(|record| {
            json!({
                "artifact": record.id.to_string(),
                "stamp": when_to_text(record.stamp.when),
                "targets": self.replay.behind(&record).iter().map(|target| target.url()).collect::<Vec<_>>(),
                "elsewhere": self.elsewhere(&record),
            })
        })
        .collect()
    }

    /// Returns the stores that miss an entry and are no targets of this mount.
    fn elsewhere(&self, record: &Record) -> Vec<Value> {
        let stores = self.replay.missing_elsewhere(record).into_iter();
        stores
            .map(|store| json!({ "location": self.state.location_of(&store), "id": store }))
            .collect()
    }

    fn errors(&self) -> Vec<Value> {
        let mut errors = Vec::new();
        self.index.visit(|id, record| {
            if let Some(error) = record.error() {
                errors.push(json!({ "artifact": id.to_string(), "reason": error }));
            }
        });
        errors
    }

    /// Returns the newest events, one JSON object a line.
    pub fn events(&self) -> String {
        self.events.text()
    }

    /// Counts a push whose outcome no close could report.
    pub fn count_unreported(&self) {
        self.metrics.unreported.increment();
    }

    /// Returns the metrics as Prometheus text.
    pub fn metrics(&self, open: Open) -> String {
        let mut text = String::new();
        self.metrics.write(&mut text);
        let none: &[(&str, &str)] = &[];
        REPAIRED.write(&mut text, [(none, self.reconcile.repaired.get())]);
        HEDGES.write(&mut text, [(none, self.fallback.hedges.get())]);
        INODES.write(&mut text, [(none, open.inodes)]);
        HANDLES.write(&mut text, [(none, open.handles)]);
        UNPUSHED.write(&mut text, [(none, self.journal.failed().len())]);
        PENDING.write(&mut text, [(none, self.pending().len())]);
        HIDDEN.write(&mut text, [(none, self.index.hidden())]);
        let cache = self.contents.memory.figures();
        CACHE_ENTRIES.write(&mut text, [(none, cache.entries)]);
        CACHE_BYTES.write(&mut text, [(none, cache.bytes)]);
        CACHE_HITS.write(&mut text, [(none, cache.hits)]);
        CACHE_MISSES.write(&mut text, [(none, cache.misses)]);
        let (disk, _) = self.contents.disk.figures();
        DISK_CACHE_ENTRIES.write(&mut text, [(none, disk.entries)]);
        DISK_CACHE_BYTES.write(&mut text, [(none, disk.bytes)]);
        DISK_CACHE_HITS.write(&mut text, [(none, disk.hits)]);
        DISK_CACHE_MISSES.write(&mut text, [(none, disk.misses)]);
        let targets: Vec<_> = self.replica_sets.targets().iter().collect();
        let labels: Vec<_> = targets
            .iter()
            .map(|target| [("target", target.url())])
            .collect();
        let each = || targets.iter().zip(&labels);
        TARGET_UP.write(
            &mut text,
            each().map(|(target, labels)| {
                let up = u8::from(target.health().state != TargetState::Outage);
                (&labels[..], up)
            }),
        );
        TARGET_BREAKER_OPEN.write(
            &mut text,
            each().map(|(target, labels)| (&labels[..], u8::from(target.breaker.is_open()))),
        );
        TARGET_OPERATIONS.write(
            &mut text,
            each().map(|(target, labels)| (&labels[..], target.answers())),
        );
        TARGET_TIMEOUTS.write(
            &mut text,
            each().map(|(target, labels)| (&labels[..], target.timeouts.get())),
        );
        JOINED.write(&mut text, [(none, self.joined())]);
        let failures: Vec<_> = targets
            .iter()
            .flat_map(|target| {
                let failures = target.health().failures.into_iter();
                failures.map(|(kind, count)| ([("target", target.url()), ("kind", kind)], count))
            })
            .collect();
        TARGET_FAILURES.write(
            &mut text,
            failures.iter().map(|(labels, count)| (&labels[..], *count)),
        );
        text
    }
}

fn time_to_text(time: SystemTime) -> String {
    when_to_text(nanos(time))
}
