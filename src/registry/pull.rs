//! Pull: fresh cache, registry, backups in order, stale cache, error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::Registry;
use super::entry::{Entry, Freshness, Revision, Source};
use super::error::{ErrorKind, RegistryError, panicked, reasons};
use super::events::{Event, Level};
use super::replica::{Replica, ReplicaSet, TargetId, share};
use crate::model::ArtifactId;
use crate::store::{Content, Failure, Kind, Target};

/// A pulled content.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The bytes.
    pub bytes: Bytes,
    /// Their revision in the index.
    pub known: Revision,
    /// The source of the bytes.
    pub source: Source,
    /// The time since any target last answered, if the content may be out of date.
    pub stale: Option<Duration>,
}

impl Pulled {
    /// Creates the result of a pull from the cache.
    pub(super) fn from_cache(bytes: Bytes, known: Revision, stale: Option<Duration>) -> Self {
        Self {
            bytes,
            known,
            source: Source::Cache,
            stale,
        }
    }
}

impl Registry {
    /// Pulls an artifact's newest content.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is none, the registry's refusal, or [`ErrorKind::Outage`]
    /// if no target or cache can serve it.
    pub async fn pull(self: &Arc<Self>, id: &ArtifactId) -> Result<Pulled, RegistryError> {
        let pulled = self.pull_once(id).await;
        match &pulled {
            Ok(pulled) => {
                let counter = match (pulled.stale, pulled.source) {
                    (Some(_), _) => &self.metrics.pulls_stale,
                    (None, Source::Cache) => &self.metrics.pulls_cache,
                    (None, Source::Target(target)) => match self.replicas(&id.section()) {
                        Ok(replicas) if replicas.is_registry(target) => {
                            &self.metrics.pulls_registry
                        }
                        _ => &self.metrics.pulls_backup,
                    },
                };
                counter.increment();
                self.index
                    .change(id, |record| record.answered(pulled.source));
            }
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => {
                self.metrics.pulls_failed.increment();
                let event = Event::new(Level::Error, "pull-failed", error.to_string());
                self.report(event.with("artifact", id.to_string()));
            }
        }
        pulled
    }

    /// Returns a content that is still in memory, newest or not, without asking any target.
    pub fn cached(&self, known: &Revision) -> Option<Bytes> {
        self.contents.memory.get(&known.stamp()?.sha256)
    }

    async fn pull_once(self: &Arc<Self>, id: &ArtifactId) -> Result<Pulled, RegistryError> {
        let begun = Instant::now();
        let end = begun + self.settings.read;
        let fresh = self.refresh_for(id).await;
        if let Err(error) = &fresh
            && error.kind != ErrorKind::Outage
        {
            return Err(error.clone());
        }
        let current = self.index.peek(id, |record| {
            let cached = match record.is_unidentified() {
                true => None,
                false => record.current().and_then(|known| known.stamp()),
            };
            (record.current().cloned(), cached)
        });
        let (current, stamp) = current.unwrap_or_default();
        let Some(known) = current else {
            return Err(match fresh {
                Err(error) if self.index.age(&id.section()).is_none() => error,
                _ => not_found(id),
            });
        };
        let stale = fresh.is_err().then(|| self.staleness(id));
        if let Some(bytes) = stamp.and_then(|stamp| self.contents.get(&stamp)) {
            return Ok(Pulled::from_cache(bytes, known, stale));
        }
        // A caller that comes after a push must not join a pull that began before it.
        let flight = (id.clone(), known.revision);
        let registry = Arc::clone(self);
        let id = id.clone();
        let pulled = self.pulls.join(&flight, || async move {
            let replicas = registry.replicas(&id.section())?;
            // While the registry is out, the backup that vouches for a content serves it as well:
            // its source then shows whether the backups can really serve.
            let backups_vouch = stale.is_none() && registry.index.is_by_backups(&id.section());
            let Some(bytes) = registry.contents.on_disk(stamp.as_ref(), end).await else {
                return registry.fetch(&id, replicas, end, true).await;
            };
            if backups_vouch {
                let soon = begun
                    + registry
                        .fallback
                        .patience()
                        .unwrap_or(registry.settings.read);
                let fetched = timeout_at(soon, registry.fetch(&id, replicas, end, false)).await;
                if let Ok(fetched) = fetched {
                    return fetched;
                }
            }
            Ok(Pulled::from_cache(bytes, known, stale))
        });
        let (id, _) = &flight;
        pulled.await.unwrap_or_else(|| Err(panicked("pulling", id)))
    }

    /// Asks the targets, and serves from the caches if none can answer. `is_pressing`: skipped
    /// targets are asked too, if nothing else helps.
    async fn fetch(
        &self,
        id: &ArtifactId,
        replicas: &ReplicaSet,
        end: Instant,
        is_pressing: bool,
    ) -> Result<Pulled, RegistryError> {
        // On the heap: the futures around it would each hold all of it on the stack.
        let request = || Box::pin(self.fetch_once(id, replicas, end));
        let fetched = match is_pressing {
            true => {
                let serves = |fetched: &Fetched<'_>| fetched.is_ok();
                self.fallback.press(replicas, end, serves, request).await
            }
            false => request().await,
        };
        match fetched {
            Ok(ended) => ended,
            Err(failures) => self.serve_stale(id, &failures, end).await,
        }
    }

    /// Asks the registry and then, or meanwhile, the backups in order.
    async fn fetch_once<'a>(
        &self,
        id: &ArtifactId,
        replicas: &'a ReplicaSet,
        end: Instant,
    ) -> Fetched<'a> {
        let registry = &replicas.registry;
        let before = self.index.peek(id, Entry::revision).flatten();
        let deadline = share(end, replicas.targets().count());
        let is_told_absent = AtomicBool::new(false);
        let from_registry = async {
            let begun = Instant::now();
            let reply = self.fetch_from(id, replicas, registry, deadline).await;
            let failure = reply.as_ref().err();
            let is_absent = failure.is_some_and(|failure| failure.kind == Kind::NotFound);
            is_told_absent.store(is_absent, Ordering::Relaxed);
            if is_absent && self.is_lost(id, registry, deadline).await {
                return (reply, false);
            }
            let ends = failure.is_none_or(|failure| self.ends_here(id, registry, failure, begun));
            (reply, ends)
        };
        let from_backups = self.fetch_from_backups(id, replicas, end);
        // A backup that missed a push must not hide that the registry lists another content.
        let serve = |(pulled, _): &FromBackups<'_>| {
            let another = |record: &Entry| record.lists_another(registry.id, before);
            // Only the registry's tombstones tell whether it is deleted.
            !is_told_absent.load(Ordering::Relaxed)
                && pulled.is_some()
                && self.index.peek(id, another) != Some(true)
        };
        let (reply, backups) = self
            .fallback
            .registry_first(
                replicas,
                from_registry,
                from_backups,
                |(_, ends)| !ends,
                serve,
            )
            .await;
        let mut failures: Vec<(&str, Failure)> = Vec::new();
        match reply {
            Some((Ok(pulled), _)) => return Ok(Ok(pulled)),
            Some((Err(failure), true)) if failure.kind == Kind::NotFound => {
                return Ok(Err(not_found(id)));
            }
            Some((Err(failure), true)) => {
                let what = format!("can't pull {id}");
                return Ok(Err(RegistryError::of_failures(
                    what,
                    [(registry.url(), &failure)],
                )));
            }
            Some((Err(failure), false)) => failures.push((registry.url(), failure)),
            None => self
                .index
                .change(id, |record| record.unconfirmed(registry.id)),
        }
        let (pulled, failed) = backups.unwrap_or_default();
        if let Some((backup, pulled)) = pulled {
            if replicas.has_registry() {
                self.report_fallback(id, replicas, backup, failures.first());
            }
            return Ok(Ok(pulled));
        }
        failures.extend(failed);
        Err(failures)
    }

    async fn fetch_from_backups<'a>(
        &self,
        id: &ArtifactId,
        replicas: &'a ReplicaSet,
        end: Instant,
    ) -> FromBackups<'a> {
        let mut failures = Vec::new();
        for (place, backup) in replicas.backups.iter().enumerate() {
            let deadline = share(end, replicas.backups.len() - place);
            match self.fetch_from(id, replicas, backup, deadline).await {
                Ok(pulled) => return (Some((backup, pulled)), failures),
                Err(failure) => failures.push((backup.url(), failure)),
            }
        }
        (None, failures)
    }

    async fn fetch_from(
        &self,
        id: &ArtifactId,
        replicas: &ReplicaSet,
        target: &Replica,
        deadline: Instant,
    ) -> Result<Pulled, Failure> {
        let content = target.ask_by(deadline, |store| {
            self.get_as_listed(id, replicas, target.id, store, deadline)
        });
        let (content, begun) = content.await.map_err(|failure| match failure.kind {
            Kind::TooBig => failure.with_fix(Some("mount with a larger --max-size".into())),
            _ => failure,
        })?;
        let behind = || Failure::new(Kind::Corrupt, "it is older than content already served");
        self.believe(id, replicas, target, &content, begun)
            .ok_or_else(behind)
    }

    /// Reads an artifact from a target, and tells when the read began. A cache before the store may
    /// return an older content than the store lists. So may a read that was under way while the
    /// listing came; so the target is listed and read once more.
    async fn get_as_listed(
        &self,
        id: &ArtifactId,
        replicas: &ReplicaSet,
        target: TargetId,
        store: &Target,
        deadline: Instant,
    ) -> Result<(Content, Instant), Failure> {
        let mut is_last = false;
        loop {
            let begun = Instant::now();
            let content = store.get(id, self.settings.max_size, deadline).await?;
            let outdated = |record: &Entry| record.is_outdated(target, &content);
            match self.index.peek(id, outdated) {
                Some(true) if is_last => {
                    let reason = format!(
                        "cannot read {id} at {}: the answer is older than what the store lists (a \
                         cache or a proxy may be answering in its place)",
                        store.url()
                    );
                    return Err(Failure::new(Kind::Unreachable, reason));
                }
                Some(true) => is_last = true,
                Some(false) | None => return Ok((content, begun)),
            }
            let begun = Instant::now();
            let section = id.section();
            let listing = store.list_section(&section, deadline).await?;
            self.learn(&section, replicas, target, &listing, begun);
        }
    }

    /// Decides whether the registry's failure is an answer, which ends the pull. A backup's answer
    /// never ends it: the next backup may have what this one missed.
    fn ends_here(
        &self,
        id: &ArtifactId,
        registry: &Replica,
        failure: &Failure,
        begun: Instant,
    ) -> bool {
        match failure.kind {
            // Deleted is deleted, unless the registry never got it from this mount.
            Kind::NotFound => {
                !self.settings.fallback_on.not_found
                    && self
                        .index
                        .change(id, |record| record.absent(registry.id, begun))
            }
            Kind::Corrupt | Kind::TooBig => {
                self.index.change(id, |record| record.unreadable());
                false
            }
            _ => !self.fallback.takes_over(failure),
        }
    }

    /// Accepts a content from a target, unless the target is behind.
    fn believe(
        &self,
        id: &ArtifactId,
        replicas: &ReplicaSet,
        target: &Replica,
        content: &Content,
        begun: Instant,
    ) -> Option<Pulled> {
        self.clock.observe(content.stamp.when);
        if let Some(refused) = content.refused {
            self.events.report_refused(id, target.url(), refused);
        }
        let known = self.index.change(id, |record| {
            let is_registry = replicas.is_registry(target.id);
            let revision = || self.index.next_revision();
            match record.read(target.id, is_registry, content, begun, revision) {
                Freshness::Current => record.current().cloned(),
                Freshness::Behind => None,
            }
        });
        let Some(known) = known else {
            let event = Event::new(Level::Warn, "behind", "the target has older content");
            self.report(
                event
                    .with("artifact", id.to_string())
                    .with("target", target.url()),
            );
            return None;
        };
        target.pulls.increment();
        self.contents.insert(content.stamp.sha256, &content.bytes);
        Some(Pulled {
            bytes: content.bytes.clone(),
            known,
            source: Source::Target(target.id),
            stale: None,
        })
    }

    fn report_fallback(
        &self,
        id: &ArtifactId,
        replicas: &ReplicaSet,
        target: &Replica,
        failure: Option<&(&str, Failure)>,
    ) {
        let reason = failure.map_or_else(|| "hedged".into(), |(_, failure)| failure.to_string());
        let event = Event::new(
            Level::Warn,
            "fallback",
            format!("{id} was served by a backup, {}", target.url()),
        );
        self.report(
            event
                .with("artifact", id.to_string())
                .with("target", target.url())
                .with("registry", replicas.registry.url())
                .with("reason", reason),
        );
    }

    /// Serves the newest known content from the cache if no target can, and labels it stale.
    async fn serve_stale(
        &self,
        id: &ArtifactId,
        failures: &[(&str, Failure)],
        end: Instant,
    ) -> Result<Pulled, RegistryError> {
        let known = self.index.peek(id, |record| record.current().cloned());
        let Some(known) = known.flatten() else {
            return Err(not_found(id));
        };
        let bytes = match known.stamp().and_then(|stamp| self.contents.get(&stamp)) {
            None => self.contents.on_disk(known.stamp().as_ref(), end).await,
            bytes => bytes,
        };
        match bytes {
            Some(bytes) => Ok(Pulled::from_cache(bytes, known, Some(self.staleness(id)))),
            // The index lists the artifact, so no backup's answer can be the whole truth.
            None => {
                let reasons = reasons(failures.iter().map(|(url, failure)| (*url, failure)));
                Err(RegistryError::new(
                    ErrorKind::Outage,
                    format!("can't pull {id}: {reasons}"),
                ))
            }
        }
    }
}

/// The targets' replies to a pull: the result of the pull, or why no target could decide it.
type Fetched<'a> = Result<Result<Pulled, RegistryError>, Vec<(&'a str, Failure)>>;

/// The first backup that could serve, with its content; and the failures of those before it.
type FromBackups<'a> = (Option<(&'a Arc<Replica>, Pulled)>, Vec<(&'a str, Failure)>);

fn not_found(id: &ArtifactId) -> RegistryError {
    RegistryError::new(ErrorKind::NotFound, format!("there is no {id}"))
}
