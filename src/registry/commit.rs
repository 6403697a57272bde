//! The registry's word on a push: it takes it only in place of what the mount believes it to hold.

use tokio::time::Instant;

use super::Registry;
use super::base::{BaseVersion, MOVED_ON};
use super::entry::{Expectation, View};
use super::push::Push;
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::store::{Condition, Failure, Kind, Meta, Token};

/// What became of a push at the registry.
#[derive(Debug)]
pub(super) enum Commit {
    /// The registry has it.
    Got(Option<Token>),
    /// The registry has not got it, and nobody else has been faster.
    Missed(Failure),
    /// Somebody else has been faster, and how.
    Lost(String),
    /// The registry has refused it as it does when somebody has been faster, and can't be asked
    /// who that was.
    Undecided(Failure),
}

impl Registry {
    /// Pushes to the registry, unless it has moved on since the content that is to be replaced.
    pub(super) async fn commit(
        &self,
        push: &Push<'_>,
        base: &BaseVersion,
        deadline: Instant,
    ) -> Commit {
        let (id, registry) = (push.id, &push.replicas.registry);
        // A listing may have come in while the journal was written: what the mount knows by now
        // makes the condition, so it must still be what the handle was opened on.
        let view = self.index.peek(id, |record| {
            let current = record.current().and_then(|known| known.stamp());
            let own = current.is_some() && current == push.attempt;
            (record.view(registry.id), own || base.is(record.current()))
        });
        let absent = View {
            expectation: Expectation::Absent,
            newest: None,
            may_be_absent: true,
        };
        let (view, is_base) = view.unwrap_or_else(|| (absent, base.is(None)));
        if !is_base {
            return Commit::Lost(MOVED_ON.into());
        }
        let asked = match &view.expectation {
            Expectation::Absent => Ok(Condition::Absent),
            Expectation::Token(token) => Ok(Condition::Unchanged(token.clone())),
            Expectation::Ask => self.ask_condition(push, &view, deadline).await,
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
        let refused = match self.put_if(push, &condition, deadline).await {
            Ok(token) => return Commit::Got(token),
            Err(failure) if failure.kind == Kind::Conflict => failure,
            Err(failure) => return Commit::Missed(failure),
        };
        // Replies get lost: what is in the way may be this push, or an earlier one of its handle.
        // Or the background has just given the registry what is to be replaced.
        let there = registry.ask(|target| target.head(id, deadline)).await;
        match there {
            Ok(meta) if meta.stamp == Some(push.stamp) => Commit::Got(meta.token),
            Ok(meta)
                if meta.stamp.is_some()
                    && (meta.stamp == push.attempt || meta.stamp <= view.newest) =>
            {
                match self.put_if(push, &unchanged(meta), deadline).await {
                    Ok(token) => Commit::Got(token),
                    Err(failure) if failure.kind == Kind::Conflict => Commit::Lost(failure.reason),
                    Err(failure) => Commit::Missed(failure),
                }
            }
            Err(failure) if failure.is_outage() => Commit::Undecided(failure),
            Ok(_) | Err(_) => Commit::Lost(refused.reason),
        }
    }

    async fn put_if(
        &self,
        push: &Push<'_>,
        condition: &Condition,
        deadline: Instant,
    ) -> Result<Option<Token>, Failure> {
        let content = push.content.clone();
        let (id, stamp) = (push.id, &push.stamp);
        let registry = &push.replicas.registry;
        self.check_condition(id, registry, condition, deadline)
            .await?;
        let put = registry.ask(|target| target.put(id, content, stamp, condition, deadline));
        put.await
    }

    /// Asks the registry what it holds, and makes of that the condition under which it may be
    /// replaced.
    async fn ask_condition(
        &self,
        push: &Push<'_>,
        view: &View,
        deadline: Instant,
    ) -> Result<Condition, Commit> {
        let (id, registry) = (push.id, &push.replicas.registry);
        let may_be_absent = view.may_be_absent || self.settings.fallback_on.not_found;
        let meta = match registry.ask(|target| target.head(id, deadline)).await {
            Ok(meta) => meta,
            Err(failure) if failure.kind == Kind::NotFound => {
                return match may_be_absent {
                    true => Ok(Condition::Absent),
                    false => Err(Commit::Lost("it has been deleted from the registry".into())),
                };
            }
            Err(failure) => return Err(Commit::Missed(failure)),
        };
        match meta.stamp {
            Some(stamp) if stamp == push.stamp => Err(Commit::Got(meta.token)),
            Some(stamp) if Some(stamp) <= view.newest || Some(stamp) == push.attempt => {
                Ok(unchanged(meta))
            }
            Some(_) => Err(Commit::Lost("the registry holds a newer content".into())),
            None => self.replace_unstamped(push, meta, deadline).await,
        }
    }

    /// Nothing tells how old a content is that was put there by hand, so it is not replaced
    /// unread. One that nobody can read is: there is no other way to mend it.
    async fn replace_unstamped(
        &self,
        push: &Push<'_>,
        meta: Meta,
        deadline: Instant,
    ) -> Result<Condition, Commit> {
        let (id, limit) = (push.id, self.settings.max_size);
        let registry = &push.replicas.registry;
        match registry.ask(|target| target.get(id, limit, deadline)).await {
            Err(failure) if failure.kind == Kind::Corrupt => Ok(unchanged(meta)),
            Ok(content) if content.stamp.sha256 == push.stamp.sha256 => Ok(unchanged(meta)),
            Ok(_) => Err(Commit::Lost(
                "the registry holds a content that was put there by hand".into(),
            )),
            Err(failure) => Err(Commit::Missed(failure)),
        }
    }
}

/// Returns the condition that a content is still the one that was looked at. A store without
/// tokens can't be asked that.
fn unchanged(meta: Meta) -> Condition {
    meta.token.map_or(Condition::None, Condition::Unchanged)
}
