//! Apply: bringing one target up to date with a push, or a deletion, that it misses.
//!
//! Each target is asked first: it gets a push only in place of the push's base, or of a content
//! before that. A deletion deletes the content that it names, and those before it.

use bytes::Bytes;
use tokio::time::Instant;

use super::journal::{Journal, Record};
use super::replica::Replica;
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{ArtifactId, Base, Lineage, Stamp};
use crate::store::{Condition, Failure, Kind, Token, Tombstone};

/// The content of a target, compared with a push.
#[derive(Debug)]
pub(super) enum Standing {
    /// The target has the push, or something based on it.
    Has(Option<Token>),
    /// The target has the base, or a content before it, and may get the push on this condition.
    Behind(Condition),
    /// The target has something else, with this stamp and token.
    Apart(Stamp, Option<Token>),
}

/// A push that a target may miss.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missed<'a> {
    pub(super) id: &'a ArtifactId,
    pub(super) stamp: &'a Stamp,
    /// The contents that it may replace.
    pub(super) replaces: Option<&'a Lineage>,
    /// The time of the content that the registry has had: older contents of a backup give way, as
    /// they do to a push.
    pub(super) decided: Option<u64>,
    /// Whether the registry misses it.
    pub(super) on_registry: bool,
    /// The largest content, in bytes, that is read to be compared.
    pub(super) max_size: u64,
}

impl Missed<'_> {
    /// Compares the push with a content of a target.
    fn compare(&self, there: &Stamp, stamped: bool, token: Option<Token>) -> Standing {
        let unchanged = |token: Option<Token>| {
            Standing::Behind(token.map_or(Condition::None, Condition::Unchanged))
        };
        let is_older = there.when < self.stamp.when;
        if there.sha256 == self.stamp.sha256 {
            // Content that was put there by hand has no status.
            let is_same = there.status == self.stamp.status;
            return match (stamped, is_older) {
                (true, true) => unchanged(token),
                (false, _) if !is_same => unchanged(token),
                (true, false) if !is_same => Standing::Apart(*there, token),
                _ => Standing::Has(token),
            };
        }
        let holds = |lineage: &Lineage| lineage.covers_push(there, stamped);
        #[cfg(test)]
        if injected(Bug::StrangerReplaced) {
            return unchanged(token);
        }
        if self.replaces.is_some_and(holds) {
            return unchanged(token);
        }
        if there.base == Base::Content(self.stamp.sha256) {
            return Standing::Has(None);
        }
        // Stamps of earlier versions name no base. Their times order them.
        let is_unknown =
            (stamped && there.base == Base::Unknown) || self.stamp.base == Base::Unknown;
        let is_sibling = there.base == self.stamp.base;
        // The registry decides: older contents of a backup give way, as they do to a push.
        let gives_way = self
            .decided
            .is_some_and(|decided| !stamped || (there.when < decided && !is_sibling));
        match (is_unknown && is_older) || gives_way {
            true => unchanged(token),
            false => Standing::Apart(*there, token),
        }
    }

    /// Compares the push with a target that holds nothing, and its tombstones. A tombstone of another
    /// content, even of the push's base, deletes no push.
    fn compare_absent(&self, tombstones: &[Tombstone]) -> Standing {
        if tombstones.iter().any(|it| it.covers(self.stamp, true)) {
            return Standing::Has(None);
        }
        Standing::Behind(Condition::Absent)
    }
}

impl Replica {
    /// Compares the target's content with a push.
    ///
    /// # Errors
    ///
    /// The target's failure.
    pub(super) async fn standing(
        &self,
        missed: Missed<'_>,
        end: Instant,
    ) -> Result<Standing, Failure> {
        let (id, limit) = (missed.id, missed.max_size);
        let meta = match self.ask(|target| target.head(id, end)).await {
            Ok(meta) => meta,
            Err(failure) if failure.kind == Kind::NotFound => {
                let tombstones = self.ask(|target| target.tombstones_of(id, end)).await?;
                return Ok(missed.compare_absent(&tombstones));
            }
            Err(failure) => return Err(failure),
        };
        if let Some(stamp) = meta.stamp {
            return Ok(missed.compare(&stamp, true, meta.token));
        }
        // Only its bytes tell a content that was put there by hand.
        match self.ask(|target| target.get(id, limit, end)).await {
            Ok(content) => Ok(missed.compare(&content.stamp, content.stamped, content.token)),
            // Of the registry, perhaps only the answer is damaged; reconcile repairs what stays damaged.
            Err(failure) if failure.kind == Kind::Corrupt && !missed.on_registry => Ok(
                Standing::Behind(meta.token.map_or(Condition::None, Condition::Unchanged)),
            ),
            Err(failure) => Err(failure),
        }
    }

    /// Applies a pending push of the journal to the target, unless it holds something else.
    ///
    /// # Errors
    ///
    /// The target's failure.
    pub(super) async fn apply_push(
        &self,
        journal: &Journal,
        missed: Missed<'_>,
        end: Instant,
    ) -> Result<Standing, Failure> {
        let condition = match self.standing(missed, end).await? {
            Standing::Behind(condition) => condition,
            standing => return Ok(standing),
        };
        let (id, stamp) = (missed.id, missed.stamp);
        let content = journal.content(stamp.when).map_err(|error| {
            Failure::new(
                Kind::Unreachable,
                format!("can't read the journal: {error}"),
            )
        })?;
        let put = self.apply(id, content, stamp, &condition, end);
        put.await.map(Standing::Has)
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

    /// Returns what the target holds, and whether it is a push: a stamp tells, or else its bytes. `None`
    /// if it holds nothing, or nothing that can be named.
    ///
    /// # Errors
    ///
    /// The target's failure.
    pub(super) async fn held(
        &self,
        id: &ArtifactId,
        limit: u64,
        end: Instant,
    ) -> Result<Option<(Stamp, bool)>, Failure> {
        match self.ask(|target| target.head(id, end)).await {
            Ok(meta) if meta.stamp.is_some() => Ok(meta.stamp.map(|stamp| (stamp, true))),
            Ok(_) => match self.ask(|target| target.get(id, limit, end)).await {
                Ok(content) => Ok(Some((content.stamp, content.stamped))),
                Err(failure) if failure.kind == Kind::Corrupt => Ok(None),
                Err(failure) => Err(failure),
            },
            Err(failure) if failure.kind == Kind::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Deletes the content that a deletion names, and leaves a tombstone. Any other content stays.
    ///
    /// # Errors
    ///
    /// The target's failure.
    pub(super) async fn apply_deletion(
        &self,
        id: &ArtifactId,
        deletion: &Tombstone,
        limit: u64,
        end: Instant,
    ) -> Result<(), Failure> {
        let there = self.held(id, limit, end).await?;
        if let Some((stamp, stamped)) = there {
            match deletion.covers(&stamp, stamped) {
                true => self.ask(|target| target.delete(id, end)).await?,
                // A deletion of an earlier version says nothing of a later content.
                false if deletion.deletes.is_none() => return Ok(()),
                false => {}
            }
        }
        self.ask(|target| target.put_tombstone(id, deletion, end))
            .await
    }
}

impl Record {
    /// Returns the tombstone of a deletion.
    pub(super) fn tombstone(&self) -> Tombstone {
        Tombstone {
            item: self.id.item.clone(),
            when: self.stamp.when,
            deletes: self.replaces.clone(),
        }
    }
}
