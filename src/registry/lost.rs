//! Lost artifacts: the registry lacks what this mount has known, and has no tombstone for it. They are
//! not deleted: reads go on from the backups, and reconcile gives them back to the registry.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Registry;
use super::events::{Event, Level};
use super::list::RepoNames;
use super::replica::{Replica, ReplicaSet};
use crate::model::{ArtifactId, Base, Lineage, Section, Stamp};
use crate::store::{Failure, RepoListing, Tombstone};

/// How long the backups have to tell whether an empty registry has lost something. A quarter of a
/// second: as long as a listing waits for the other backups once one has answered.
const GLANCE: Duration = Duration::from_millis(250);

impl Registry {
    /// Finds what the registry has lost: the known artifacts that its listing lacks, and that no tombstone
    /// deletes. If it can't tell its tombstones, nothing is deleted.
    pub(super) async fn find_lost(
        self: &Arc<Self>,
        section: &Section,
        replicas: &ReplicaSet,
        listing: &RepoListing,
        begun: Instant,
        end: Instant,
    ) {
        if self.settings.fallback_on.not_found {
            return;
        }
        let registry = &replicas.registry;
        let known = self.index.ids(section, false).into_iter();
        let unlisted = known.filter(|id| !listing.items.contains_key(&id.item));
        let stamp = |id: ArtifactId| {
            let known = self
                .index
                .peek(&id, |entry| Some(entry.current()?.stamp()))?;
            Some((id, known?))
        };
        let unlisted: Vec<(ArtifactId, Option<Stamp>)> = unlisted.filter_map(stamp).collect();
        if !unlisted.is_empty() {
            let tombstones = tombstones(section, registry, end).await.unwrap_or_default();
            for (id, stamp) in unlisted {
                let of_item = tombstones.iter().filter(|it| it.item == id.item);
                if !is_deleted(of_item, stamp.as_ref()) {
                    self.lose(&id, registry, begun);
                }
            }
        } else if listing.items.is_empty() {
            self.ask_backups_for_lost(section, replicas, begun, end)
                .await;
        }
    }

    /// Tells whether the registry, which has answered that an artifact is absent, has lost it.
    pub(super) async fn is_lost(&self, id: &ArtifactId, registry: &Replica, end: Instant) -> bool {
        let known = self.index.peek(id, |entry| {
            let known = entry.current().map(|known| known.stamp());
            known.filter(|_| !entry.pending().contains(&registry.id))
        });
        let Some(stamp) = known.flatten() else {
            return false;
        };
        if self.settings.fallback_on.not_found {
            return false;
        }
        let tombstones = match id.item.is_immutable() {
            true => Ok(Vec::new()),
            false => registry.ask(|target| target.tombstones_of(id, end)).await,
        };
        match tombstones {
            Ok(tombstones) if is_deleted(tombstones.iter(), stamp.as_ref()) => false,
            Ok(_) => {
                self.lose(id, registry, Instant::now());
                true
            }
            Err(failure) => failure.is_outage(),
        }
    }

    /// Records and reports that the registry has lost an artifact.
    fn lose(&self, id: &ArtifactId, registry: &Replica, begun: Instant) {
        let is_news = self
            .index
            .change(id, |entry| entry.vanish(registry.id, begun));
        if is_news {
            self.reconcile.start_soon();
        }
        // Versions are many, and lost with their schema.
        if is_news && !id.item.is_immutable() {
            let message = format!(
                "{} has lost {id}: it has no tombstone for it; the backups serve it, and it gets \
                 it back",
                registry.url()
            );
            let event = Event::new(Level::Error, "lost", message);
            let event = event.with("artifact", id.to_string());
            self.report(event.with("target", registry.url()));
        }
    }

    /// Looks at the backups if the registry lists nothing of a repository that this mount does not
    /// know: it may have been emptied.
    async fn ask_backups_for_lost(
        self: &Arc<Self>,
        section: &Section,
        replicas: &ReplicaSet,
        begun: Instant,
        end: Instant,
    ) {
        let asked = replicas.backups.iter().map(|backup| async move {
            let listed = backup.ask(|target| target.list_section(section, end)).await;
            Ok::<_, Failure>((backup, listed?))
        });
        let Ok(asked) = timeout(GLANCE, futures::future::join_all(asked)).await else {
            return;
        };
        let held: Vec<_> = asked.into_iter().flatten().collect();
        if held.iter().all(|(_, listing)| listing.items.is_empty()) {
            return;
        }
        let registry = &replicas.registry;
        let Ok(tombstones) = tombstones(section, registry, end).await else {
            return;
        };
        for (backup, mut listing) in held {
            listing.items.retain(|item, meta| {
                let of_item = tombstones.iter().filter(|it| it.item == *item);
                !is_deleted(of_item, meta.stamp.as_ref())
            });
            self.learn(section, replicas, backup.id, &listing, begun);
            for item in listing.items.into_keys() {
                let repo = section.repo.clone();
                self.lose(&ArtifactId { repo, item }, registry, begun);
            }
        }
    }

    /// Returns the repositories that the backups hold, of a registry that lists none.
    pub(super) async fn lost_repos(
        &self,
        replicas: &ReplicaSet,
        end: Instant,
    ) -> Vec<(Arc<Replica>, RepoNames)> {
        let asked = replicas.backups.iter().map(|backup| async move {
            let names = backup.ask(|target| target.repos(end)).await.ok()?;
            Some((Arc::clone(backup), names))
        });
        let asked = timeout(GLANCE, futures::future::join_all(asked)).await;
        asked.into_iter().flatten().flatten().collect()
    }

    /// Returns the artifacts that their registry has lost.
    pub(super) fn lost(&self) -> Vec<String> {
        let mut lost = Vec::new();
        self.index.visit(|id, entry| {
            if entry.has_vanished() && !id.item.is_immutable() {
                lost.push(id.to_string());
            }
        });
        lost
    }
}

/// Returns the tombstones of a section. Versions have none: nothing deletes them.
async fn tombstones(
    section: &Section,
    registry: &Replica,
    end: Instant,
) -> Result<Vec<Tombstone>, Failure> {
    match section.is_of_versions() {
        true => Ok(Vec::new()),
        false => {
            registry
                .ask(|target| target.tombstones(&section.repo, end))
                .await
        }
    }
}

/// Tells whether a tombstone deletes a content: it names it, or is later. A later one may not know the
/// older content that a backup still holds. Of an unread content, any tombstone counts. A later push
/// of the same bytes is none: it has removed the tombstones.
fn is_deleted<'a>(
    mut tombstones: impl Iterator<Item = &'a Tombstone>,
    stamp: Option<&Stamp>,
) -> bool {
    let names = |it: &Lineage, stamp: &Stamp| {
        it.holds(stamp.sha256) && stamp.base != Base::Deleted(it.sha256)
    };
    tombstones.any(|it| {
        stamp.is_none_or(|stamp| {
            stamp.when <= it.when || it.deletes.as_ref().is_some_and(|it| names(it, stamp))
        })
    })
}
