//! Delete: an artifact goes from every target, or the deletion fails.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::Registry;
use super::error::Error;
use super::events::{Event, Level};
use super::push::not_our_turn;
use super::route::share;
use crate::artifact::ArtifactId;
use crate::target::{Failure, Kind};

impl Registry {
    /// Deletes an artifact from every target. The backups go first, when the registry has shown
    /// that it answers: as long as one of them still holds the artifact, the registry does too, it
    /// stays visible, and the deletion can be repeated.
    ///
    /// # Errors
    ///
    /// What the first target answered that didn't delete it.
    pub async fn delete(self: &Arc<Self>, id: &ArtifactId) -> Result<(), Error> {
        let end = Instant::now() + self.settings.push;
        let turn = timeout_at(end, self.turns.take(id)).await;
        let _turn = turn.map_err(|_| not_our_turn("delete", id))?;
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
            self.journal.supersede_all(id);
            self.catalogue
                .change(id, |record| record.deleted(Instant::now()));
            let event = Event::new(Level::Info, "delete", format!("{id} is deleted everywhere"));
            self.tell(event.with("artifact", id.to_string()));
            return Ok(());
        }
        Err(self.not_deleted(id, &failures))
    }

    fn not_deleted(&self, id: &ArtifactId, failures: &[(&str, Failure)]) -> Error {
        let failures = failures.iter().map(|(url, failure)| (*url, failure));
        let error = Error::of_failures(format!("can't delete {id} from every target"), failures);
        let event = Event::new(Level::Error, "delete-failed", error.reason.clone());
        self.tell(event.with("artifact", id.to_string()));
        error
    }
}
