//! Delete: an artifact goes from every target, or the deletion fails.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::Registry;
use super::error::Error;
use super::events::{Event, Level};
use super::push::not_our_turn;
use crate::artifact::ArtifactId;
use crate::target::Failure;

impl Registry {
    /// Deletes an artifact from every target. The backups go first: as long as one of them still
    /// holds it, the registry does too, the artifact stays visible, and the deletion can be
    /// repeated.
    ///
    /// # Errors
    ///
    /// What the first target answered that didn't delete it.
    pub async fn delete(self: &Arc<Self>, id: &ArtifactId) -> Result<(), Error> {
        let end = Instant::now() + self.settings.push;
        let turn = timeout_at(end, self.turns.take(id)).await;
        let _turn = turn.map_err(|_| not_our_turn("delete", id))?;
        let route = self.route(&id.repo)?;
        let half = super::list::registry_deadline(route, end);
        let deletions = route.backups.iter().map(|backup| async move {
            let deleted = backup.ask(|target| target.delete(id, half)).await;
            (backup.url(), deleted)
        });
        let mut failures: Vec<(&str, Failure)> = futures::future::join_all(deletions)
            .await
            .into_iter()
            .filter_map(|(url, deleted)| Some((url, deleted.err()?)))
            .collect();
        if failures.is_empty() {
            let registry = &route.registry;
            if let Err(failure) = registry.ask(|target| target.delete(id, end)).await {
                failures.push((registry.url(), failure));
            }
        }
        let artifact = id.to_string();
        if failures.is_empty() {
            self.catalogue
                .change(id, |record| record.deleted(Instant::now()));
            let event = Event::new(Level::Info, "delete", format!("{id} is deleted everywhere"));
            self.tell(event.with("artifact", artifact));
            return Ok(());
        }
        let failures = failures.iter().map(|(url, failure)| (*url, failure));
        let error = Error::of_failures(format!("can't delete {id} from every target"), failures);
        let event = Event::new(Level::Error, "delete-failed", error.reason.clone());
        self.tell(event.with("artifact", artifact));
        Err(error)
    }
}
