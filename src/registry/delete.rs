//! Delete: an artifact goes from every target, or the deletion fails.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::error::Error;
use super::events::{Event, Level};
use super::route::share;
use super::tee::not_our_turn;
use super::{Registry, disk};
use crate::artifact::ArtifactId;
use crate::target::{Failure, Kind};

impl Registry {
    /// Deletes an artifact from every target. The backups go first, when the registry has shown
    /// that it answers: as long as one of them still holds the artifact, the registry does too, it
    /// stays visible, and the deletion can be repeated.
    ///
    /// It ends by `end`.
    ///
    /// # Errors
    ///
    /// What the first target answered that didn't delete it.
    pub async fn delete(self: &Arc<Self>, id: &ArtifactId, end: Instant) -> Result<(), Error> {
        let turn = timeout_at(end, self.turns.take(id)).await;
        let _turn = turn.map_err(|_| not_our_turn("delete", id))?;
        let gifts = timeout_at(share(end, 3), self.gifts.take(id)).await;
        let _gifts = gifts.map_err(|_| not_our_turn("delete", id))?;
        let route = self.route(&id.repo)?;
        let half = super::hedge::registry_deadline(route, end);
        let registry = &route.registry;
        let there = registry.ask(|target| target.head(id, share(end, 3))).await;
        if let Err(failure) = there
            && failure.kind != Kind::NotFound
        {
            return Err(self.not_deleted(id, &[(registry.url(), failure)]));
        }
        let deletions = route.backups.iter().map(|backup| async move {
            let deleted = backup.ask(|target| target.delete(id, half)).await;
            (backup.url(), deleted)
        });
        let mut failures: Vec<(&str, Failure)> = futures::future::join_all(deletions)
            .await
            .into_iter()
            .filter_map(|(url, deleted)| Some((url, deleted.err()?)))
            .collect();
        if failures.is_empty()
            && let Err(failure) = registry.ask(|target| target.delete(id, end)).await
        {
            failures.push((registry.url(), failure));
        }
        if failures.is_empty() {
            // What some target had missed so far, it is not given any more.
            self.owe_nothing(id).await;
            self.catalogue
                .change(id, |record| record.deleted(Instant::now()));
            let event = Event::new(Level::Info, "delete", format!("{id} is deleted everywhere"));
            self.tell(event.with("artifact", id.to_string()));
            return Ok(());
        }
        Err(self.not_deleted(id, &failures))
    }

    /// Takes the pushes of a deleted artifact out of the journal: who has missed one is not given
    /// it any more.
    async fn owe_nothing(&self, id: &ArtifactId) {
        #[cfg(test)]
        if crate::planted::planted(crate::planted::Bug::Resurrection) {
            return;
        }
        let (journal, id) = (Arc::clone(&self.journal), id.clone());
        let settling = disk::apart(move || {
            let owed = journal.select(|record| record.id == id && record.failed.is_none());
            let owed = owed.iter().map(|record| record.stamp.when);
            owed.for_each(|when| journal.settle(&id, when));
        });
        let _ = settling.await;
    }

    fn not_deleted(&self, id: &ArtifactId, failures: &[(&str, Failure)]) -> Error {
        let failures = failures.iter().map(|(url, failure)| (*url, failure));
        let error = Error::of_failures(format!("can't delete {id} from every target"), failures);
        let event = Event::new(Level::Error, "delete-failed", error.reason.clone());
        self.tell(event.with("artifact", id.to_string()));
        error
    }
}
