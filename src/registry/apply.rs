//! Apply: bringing one target up to date with a push, or a deletion, that it misses.
//!
//! Each target is asked first: a target that holds something newer by now misses nothing.

use bytes::Bytes;
use tokio::time::Instant;

use super::journal::{Journal, Record};
use super::replica::Replica;
use crate::model::{ArtifactId, Stamp, nanos};
use crate::store::{Condition, Failure, Kind, Token};

impl Replica {
    /// Applies an entry of the journal that the target misses.
    ///
    /// # Errors
    ///
    /// The target's failure.
    pub(super) async fn apply_entry(
        &self,
        journal: &Journal,
        record: &Record,
        end: Instant,
    ) -> Result<Option<Token>, Failure> {
        let (id, stamp) = (&record.id, &record.stamp);
        if record.deletes {
            return self
                .apply_deletion(id, stamp.when, end)
                .await
                .map(|()| None);
        }
        let condition = match self.ask(|target| target.head(id, end)).await {
            Ok(meta) => {
                let newer = meta
                    .stamp
                    .map_or(meta.modified >= stamp.time(), |there| there >= *stamp);
                if newer {
                    return Ok(None);
                }
                meta.token.map_or(Condition::None, Condition::Unchanged)
            }
            // A later deletion by another mount covers this push too.
            Err(failure) if failure.kind == Kind::NotFound => {
                let deleted = self.ask(|target| target.last_deleted(id, end)).await?;
                if deleted >= Some(stamp.when) {
                    return Ok(None);
                }
                Condition::Absent
            }
            Err(failure) => return Err(failure),
        };
        let content = journal.content(stamp.when).map_err(|error| {
            Failure::new(
                Kind::Unreachable,
                format!("can't read the journal: {error}"),
            )
        })?;
        self.apply(id, content, stamp, &condition, end).await
    }

    /// Puts content that the target lacks.
    ///
    /// # Errors
    ///
    /// The target's failure.
    pub(super) async fn apply(
        &self,
        id: &ArtifactId,
        content: Bytes,
        stamp: &Stamp,
        condition: &Condition,
        end: Instant,
    ) -> Result<Option<Token>, Failure> {
        let put = self.ask(|target| target.put(id, content, stamp, condition, end));
        let token = put.await?;
        self.pushes.increment();
        Ok(token)
    }

    /// Deletes an artifact, unless the target holds something newer than the deletion, and leaves a
    /// tombstone.
    ///
    /// # Errors
    ///
    /// The target's failure.
    pub(super) async fn apply_deletion(
        &self,
        id: &ArtifactId,
        when: u64,
        end: Instant,
    ) -> Result<(), Failure> {
        let there = self.ask(|target| target.head(id, end)).await;
        let is_newer = match there {
            Ok(meta) => match meta.stamp {
                Some(stamp) => stamp.when > when,
                None => nanos(meta.modified) > when,
            },
            Err(failure) if failure.kind == Kind::NotFound => false,
            Err(failure) => return Err(failure),
        };
        if is_newer {
            return Ok(());
        }
        self.ask(|target| target.delete(id, end)).await?;
        self.ask(|target| target.put_tombstone(id, when, end)).await
    }
}
