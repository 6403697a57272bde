//! Commit: the registry accepts a push only in place of the content that the mount expects there.

use bytes::Bytes;
use tokio::time::Instant;

use super::apply::{Missed, Standing};
use super::base::{BaseVersion, MOVED_ON};
use super::entry::{Expectation, View};
use super::index::Index;
use super::replica::{Replica, TargetId};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{ArtifactId, Base, Lineage, Sha256, Stamp};
use crate::store::{Condition, Failure, Kind, Meta, Token};

/// The outcome of a push at the registry.
#[derive(Debug)]
pub(super) enum CommitOutcome {
    /// The registry has it.
    Got(Option<Token>),
    /// The registry does not have it, and no other writer was faster.
    Missed(Failure),
    /// Another writer was faster; the text says how.
    Lost(String),
    /// The registry reported a conflict, and an outage hides the content that caused it.
    Undecided(Failure),
}

/// A compare-and-swap of an artifact in the registry.
pub(super) struct Commit<'a> {
    pub(super) index: &'a Index,
    pub(super) registry: &'a Replica,
    pub(super) id: &'a ArtifactId,
    pub(super) content: &'a Bytes,
    pub(super) stamp: Stamp,
    /// The contents that it may replace.
    pub(super) replaces: Option<&'a Lineage>,
    /// The registry that is out, if this is a backup that decides in its place.
    pub(super) stands_in_for: Option<TargetId>,
    /// An earlier push of the same handle that seems to have failed.
    pub(super) attempt: Option<Stamp>,
    /// The largest content, in bytes, that is read to be compared.
    pub(super) max_size: u64,
    /// Whether the registry's "not found" doesn't count as a deletion.
    pub(super) absent_is_unknown: bool,
}

impl Commit<'_> {
    /// Replaces `base`, unless the registry has moved on since.
    pub(super) async fn run(&self, base: &BaseVersion, deadline: Instant) -> CommitOutcome {
        let (id, registry) = (self.id, self.registry);
        // A listing may have arrived while the journal was written. The condition comes from the
        // index as it is now, so its newest content must still be the handle's base.
        let view = self.index.peek(id, |record| {
            let current = record.current().and_then(|known| known.stamp());
            // The registry may have this push, although its reply was lost. A listing may show it
            // without its stamp.
            let own = current.is_some() && [self.attempt, Some(self.stamp)].contains(&current);
            let is_listed = |out| record.is_unread_on(out);
            let own = own || self.stands_in_for.is_some_and(is_listed);
            (record.view(registry.id), own || base.is(record.current()))
        });
        let absent = View {
            expectation: Expectation::Absent,
            newest: None,
            may_be_absent: true,
        };
        let (view, is_base) = view.unwrap_or_else(|| (absent, base.is(None)));
        if !is_base {
            return CommitOutcome::Lost(MOVED_ON.into());
        }
        let asked = match &view.expectation {
            Expectation::Absent => Ok(Condition::Absent),
            Expectation::Token(token) => Ok(Condition::Unchanged(token.clone())),
            Expectation::Ask if let Some(out) = self.stands_in_for => {
                let was_there = self.index.peek(id, |record| record.was_on(out));
                self.ask_backup(was_there.unwrap_or_default(), deadline)
                    .await
            }
            Expectation::Ask => self.ask_condition(&view, deadline).await,
        };
        let condition = match asked {
            Ok(condition) => condition,
            Err(commit) => return commit,
        };
        #[cfg(test)]
        let condition = match injected(Bug::ConflictIgnored) {
            true => Condition::None,
            false => condition,
        };
        let refused = match self.put_if(&condition, deadline).await {
            Ok(token) => return CommitOutcome::Got(token),
            Err(failure) if failure.kind == Kind::Conflict => failure,
            Err(failure) => return CommitOutcome::Missed(failure),
        };
        // Replies get lost: the content in the way may be this push, or an earlier push of its
        // handle. Or replay or reconcile has just applied the content to be replaced.
        let there = registry.ask(|target| target.head(id, deadline)).await;
        match there {
            Ok(meta) if meta.stamp == Some(self.stamp) => CommitOutcome::Got(meta.token),
            Ok(meta)
                if meta
                    .stamp
                    .is_some_and(|there| self.may_replace(&there, &view)) =>
            {
                match self.put_if(&unchanged(meta), deadline).await {
                    Ok(token) => CommitOutcome::Got(token),
                    Err(failure) if failure.kind == Kind::Conflict => {
                        CommitOutcome::Lost(failure.reason)
                    }
                    Err(failure) => CommitOutcome::Missed(failure),
                }
            }
            Err(failure) if failure.is_outage() => CommitOutcome::Undecided(failure),
            Ok(_) | Err(_) => CommitOutcome::Lost(refused.reason),
        }
    }

    /// Tells whether the registry's content is the base, or was before it. A stamp of an earlier
    /// version names no base: its time tells. The base with another status is not the base.
    fn may_replace(&self, there: &Stamp, view: &View) -> bool {
        let is_base = |newest: Stamp| newest.sha256 == there.sha256;
        if Some(*there) != self.attempt
            && let Some(newest) = view.newest.filter(|it| is_base(*it))
            && ![newest.status, self.stamp.status].contains(&there.status)
        {
            return false;
        }
        let is_older = there.base == Base::Unknown && Some(*there) <= view.newest;
        Some(*there) == view.newest
            || Some(*there) == self.attempt
            || self.replaces.is_some_and(|it| it.covers_push(there, true))
            || is_older
    }

    fn holds(&self, sha256: Sha256) -> bool {
        self.stamp.sha256 == sha256 || self.replaces.is_some_and(|it| it.holds(sha256))
    }

    /// Asks a backup for its current content. It may have missed pushes, and then gets this one.
    /// `is_decided`: the registry has had the base. What is newer than that may be a push over it.
    async fn ask_backup(
        &self,
        is_decided: bool,
        deadline: Instant,
    ) -> Result<Condition, CommitOutcome> {
        let missed = Missed {
            id: self.id,
            stamp: &self.stamp,
            replaces: self.replaces,
            decided: self
                .replaces
                .and_then(|base| base.when)
                .filter(|_| is_decided),
            on_registry: false,
            max_size: self.max_size,
        };
        match self.registry.standing(missed, deadline).await {
            Ok(Standing::Behind(condition)) => Ok(condition),
            Ok(Standing::Has(token)) => Err(CommitOutcome::Got(token)),
            Ok(Standing::Apart(..)) => Err(CommitOutcome::Lost(format!(
                "{} holds newer content, and the registry is out",
                self.registry.url()
            ))),
            Err(failure) => Err(CommitOutcome::Missed(failure)),
        }
    }

    async fn put_if(
        &self,
        condition: &Condition,
        deadline: Instant,
    ) -> Result<Option<Token>, Failure> {
        let content = self.content.clone();
        let (id, stamp, registry) = (self.id, &self.stamp, self.registry);
        registry.check_condition(id, condition, deadline).await?;
        let put = registry.ask(|target| target.put(id, content, stamp, condition, deadline));
        put.await
    }

    /// Asks the registry for its current content, and derives the condition for replacing it.
    async fn ask_condition(
        &self,
        view: &View,
        deadline: Instant,
    ) -> Result<Condition, CommitOutcome> {
        let (id, registry) = (self.id, self.registry);
        let may_be_absent = view.may_be_absent || self.absent_is_unknown;
        let meta = match registry.ask(|target| target.head(id, deadline)).await {
            Ok(meta) => meta,
            Err(failure) if failure.kind == Kind::NotFound => {
                return match may_be_absent {
                    true => Ok(Condition::Absent),
                    false => Err(CommitOutcome::Lost(
                        "it has been deleted from the registry".into(),
                    )),
                };
            }
            Err(failure) => return Err(CommitOutcome::Missed(failure)),
        };
        match meta.stamp {
            Some(stamp) if stamp == self.stamp => Err(CommitOutcome::Got(meta.token)),
            Some(stamp) if self.may_replace(&stamp, view) => Ok(unchanged(meta)),
            Some(_) => Err(CommitOutcome::Lost(
                "the registry holds newer content".into(),
            )),
            None => self.replace_unstamped(meta, deadline).await,
        }
    }

    /// Decides on content that was put there by hand. Its age is unknown, so it is not replaced
    /// unread. Unreadable content is replaced: nothing else can repair it.
    async fn replace_unstamped(
        &self,
        meta: Meta,
        deadline: Instant,
    ) -> Result<Condition, CommitOutcome> {
        let (id, limit, registry) = (self.id, self.max_size, self.registry);
        match registry.ask(|target| target.get(id, limit, deadline)).await {
            Err(failure) if failure.kind == Kind::Corrupt => Ok(unchanged(meta)),
            Ok(content) if self.holds(content.stamp.sha256) => Ok(unchanged(meta)),
            Ok(_) => Err(CommitOutcome::Lost(
                "the registry holds content that another tool wrote".into(),
            )),
            Err(failure) => Err(CommitOutcome::Missed(failure)),
        }
    }
}

/// Returns the condition that a content is still the one in `meta`. A store without tokens can't
/// check it.
fn unchanged(meta: Meta) -> Condition {
    meta.token.map_or(Condition::None, Condition::Unchanged)
}
