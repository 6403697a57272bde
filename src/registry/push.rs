//! Push: the tee to every target, and its verdict.
//!
//! One push goes: turn → check → stamp → (the journal's place: issue B) → registry → backups, all
//! at once → verdict. Whatever fails, the bytes are kept.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::error::{Error, ErrorKind, reasons};
use super::events::{Event, Level};
use super::list::registry_deadline;
use super::receipt::receipt;
use super::record::{Expectation, Known};
use super::route::{Route, TargetId, Watched};
use super::{Durability, Registry, Unpushed};
use crate::artifact::{
    ArtifactId, Format, Item, Rejection, Sha256, Stamp, check_plan, check_schema,
};
use crate::target::{Condition, Failure, Kind, Token};

/// What a handle was opened on: the content that its push may replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// There was no such artifact.
    Absent,
    /// The content of this revision.
    Revision(u64),
}

impl Base {
    /// Returns the base that a handle has which is opened now.
    pub fn of(known: Option<&Known>) -> Self {
        known.map_or(Base::Absent, |known| Base::Revision(known.revision))
    }
}

/// A document on its way, and how far it has come.
struct Push<'a> {
    id: &'a ArtifactId,
    route: &'a Route,
    content: &'a Bytes,
    stamp: Stamp,
    got: Vec<(TargetId, Option<Token>)>,
    missing: Vec<(&'a Arc<Watched>, Failure)>,
}

impl Registry {
    /// Pushes a document to the registry and to every backup. `suffix` is the format that the
    /// file's name says. `base` is what the document may replace; it becomes the document itself
    /// as soon as any target has it, also if these are too few for a success.
    ///
    /// The caller must not give up before this returns: it keeps its own deadline.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if the registry no longer holds `base`; [`ErrorKind::Invalid`] if
    /// the document is refused; what the targets answered if too few of them have it. The bytes
    /// are kept in `unpushed` then.
    pub async fn push(
        self: &Arc<Self>,
        id: &ArtifactId,
        content: Bytes,
        base: &mut Base,
        suffix: Option<Format>,
    ) -> Result<(), Error> {
        let end = Instant::now() + self.settings.push;
        let pushed = match timeout_at(end, self.turns.take(id)).await {
            Ok(_turn) => self.push_in_turn(id, &content, base, suffix, end).await,
            Err(_) => Err(not_our_turn("push", id)),
        };
        match &pushed {
            Ok(()) => self.unpushed.pushed(id, &Sha256::of(&content)),
            Err(error) => self.keep(id, &content, error),
        }
        pushed
    }

    async fn push_in_turn(
        self: &Arc<Self>,
        id: &ArtifactId,
        content: &Bytes,
        base: &mut Base,
        suffix: Option<Format>,
        end: Instant,
    ) -> Result<(), Error> {
        let route = self.route(&id.repo)?;
        let current = self.current(id).await;
        if Base::of(current.as_ref()) != *base {
            return Err(conflict(
                id,
                "it has been pushed, or deleted, since it was opened",
            ));
        }
        // What could not be read is taken for HCL: that is what must not become SQL by accident.
        let format = current.map(|known| known.stamp.map_or(Format::Hcl, |stamp| stamp.format));
        let format = self.check(id, content, suffix, format)?;
        let when = self.stamps.next(self.wall.now());
        let mut push = Push {
            id,
            route,
            content,
            stamp: self.catalogue.change(id, |record| {
                record.attempt(Stamp::new(when, content, format))
            }),
            got: Vec::new(),
            missing: Vec::new(),
        };
        let deadline = registry_deadline(route, end);
        match self.put_to_registry(&push, deadline).await {
            Ok(token) => push.got.push((route.registry.id, token)),
            Err(failure) if failure.kind == Kind::Conflict => {
                return Err(conflict(id, &failure.reason));
            }
            Err(failure) => push.missing.push((&route.registry, failure)),
        }
        // When the registry decides and has failed, a backup must not hold what nobody was told
        // to be pushed.
        if push.missing.is_empty() || self.settings.durability == Durability::Any {
            put_to_backups(&mut push, end).await;
        }
        self.verdict(push, base)
    }

    /// Returns the content that a push would replace, with its format if anybody can tell it.
    async fn current(self: &Arc<Self>, id: &ArtifactId) -> Option<Known> {
        let current = self.catalogue.peek(id, |record| record.current().cloned());
        match current.flatten() {
            Some(known) if known.stamp.is_none() => {
                let pulled = self.pull(id).await.map(|pulled| pulled.known);
                Some(pulled.unwrap_or(known))
            }
            current => current,
        }
    }

    fn check(
        &self,
        id: &ArtifactId,
        content: &Bytes,
        suffix: Option<Format>,
        current: Option<Format>,
    ) -> Result<Format, Error> {
        let checked = match &id.item {
            _ if content.is_empty() => Err(Rejection::Empty),
            Item::Plan(name) if self.settings.validate => {
                check_plan(content, name).map(|()| Format::Hcl)
            }
            Item::Plan(_) => Ok(Format::Hcl),
            Item::Schema if self.settings.validate => check_schema(content, suffix, current),
            Item::Schema => Ok(suffix
                .or(current)
                .unwrap_or_else(|| check_schema(content, None, None).unwrap_or(Format::Sql))),
        };
        checked.map_err(|rejection| {
            Error::new(ErrorKind::Invalid, format!("can't push {id}: {rejection}"))
        })
    }

    /// The registry decides conflicts: it takes the document only in place of what the mount
    /// believes it to hold.
    async fn put_to_registry(
        &self,
        push: &Push<'_>,
        deadline: Instant,
    ) -> Result<Option<Token>, Failure> {
        let (id, registry) = (push.id, &push.route.registry);
        let expectation = self
            .catalogue
            .peek(id, |record| record.expectation(registry.id))
            .unwrap_or(Expectation::Absent);
        let condition = match expectation {
            Expectation::Absent => Condition::Absent,
            Expectation::Token(token) => Condition::Unchanged(token),
            Expectation::Ask => self.ask_condition(id, registry, deadline).await?,
        };
        let content = push.content.clone();
        let (stamp, condition) = (&push.stamp, &condition);
        let put = registry.ask(|target| target.put(id, content, stamp, condition, deadline));
        match put.await {
            // A reply may have been lost on the way, and the request sent again: then the content
            // in the way is this very push.
            Err(failure) if failure.kind == Kind::Conflict => {
                let there = registry.ask(|target| target.head(id, deadline)).await;
                match there {
                    Ok(meta) if meta.stamp == Some(push.stamp) => Ok(meta.token),
                    _ => Err(failure),
                }
            }
            put => put,
        }
    }

    /// Asks the registry what it holds, and makes of it the condition under which it may be
    /// replaced: that it isn't newer than what this mount knows.
    async fn ask_condition(
        &self,
        id: &ArtifactId,
        registry: &Watched,
        deadline: Instant,
    ) -> Result<Condition, Failure> {
        let newer = || Failure::new(Kind::Conflict, "the registry holds a newer content");
        let floor = self
            .catalogue
            .peek(id, |record| record.newest_time())
            .flatten();
        let (owed, known) = self
            .catalogue
            .peek(id, |record| {
                (
                    record.owed().contains(&registry.id),
                    record.current().is_some(),
                )
            })
            .unwrap_or_default();
        match registry.ask(|target| target.head(id, deadline)).await {
            Err(failure) if failure.kind == Kind::NotFound && (owed || !known) => {
                Ok(Condition::Absent)
            }
            Err(failure) if failure.kind == Kind::NotFound => Err(Failure::new(
                Kind::Conflict,
                "it has been deleted from the registry",
            )),
            Err(failure) => Err(failure),
            Ok(meta) => {
                let when = meta.stamp.map_or(meta.modified, |stamp| stamp.time());
                match (floor, meta.token) {
                    (Some(floor), _) if when > floor => Err(newer()),
                    (None, _) => Err(newer()),
                    (Some(_), Some(token)) => Ok(Condition::Unchanged(token)),
                    (Some(_), None) => Ok(Condition::None),
                }
            }
        }
    }

    /// Decides whether the push has succeeded, and tells of it in every place where one may look.
    fn verdict(&self, push: Push<'_>, base: &mut Base) -> Result<(), Error> {
        let Push { id, stamp, .. } = push;
        let has_registry = push
            .got
            .iter()
            .any(|(target, _)| push.route.is_registry(*target));
        let done = match self.settings.durability {
            Durability::Any => !push.got.is_empty(),
            Durability::Registry => has_registry,
            Durability::All => push.missing.is_empty(),
        };
        let failures = || {
            let missing = push.missing.iter();
            missing.map(|(target, failure)| (target.url(), failure))
        };
        for target in push.route.targets() {
            if push.got.iter().any(|(got, _)| *got == target.id) {
                target.pushes.increment();
            }
        }
        if !push.got.is_empty() {
            let missing: Vec<TargetId> = push.missing.iter().map(|(target, _)| target.id).collect();
            let missed = |target: &Watched| {
                let mut missing = push.missing.iter();
                let missed = missing.find(|(missing, _)| missing.id == target.id);
                missed.map(|(_, failure)| failure.to_string())
            };
            let receipt = receipt(id, push.route, missed).to_string();
            self.cache.insert(stamp.sha256, push.content.clone());
            if let Some(place) = self.open_place(push.route) {
                self.catalogue.add_root(&id.repo, place);
            }
            *base = self.catalogue.change(id, |record| {
                let revision = || self.catalogue.next_revision();
                record.pushed(stamp, &push.got, &missing, Instant::now(), revision);
                record.receipt = Some(receipt);
                Base::of(record.current())
            });
        }
        if !done {
            return Err(Error::of_failures(format!("can't push {id}"), failures()));
        }
        self.tell_pushed(&push, &reasons(failures()));
        Ok(())
    }

    fn tell_pushed(&self, push: &Push<'_>, why_missing: &str) {
        let Push { id, stamp, .. } = push;
        let event = match push.missing.is_empty() {
            true => {
                self.metrics.pushes_complete.increment();
                Event::new(Level::Info, "push", format!("{id} is on every target"))
            }
            false => {
                self.metrics.pushes_degraded.increment();
                let message = format!("{id} is pushed, but not to every target: {why_missing}");
                Event::new(Level::Warn, "push-degraded", message)
            }
        };
        let urls = |targets: Vec<&str>| json!(targets);
        let got = push
            .got
            .iter()
            .filter_map(|(target, _)| self.url_of(*target));
        let missing = push.missing.iter().map(|(target, _)| target.url());
        self.tell(
            event
                .with("artifact", id.to_string())
                .with("size", stamp.size)
                .with("sha256", stamp.sha256.to_string())
                .with("format", stamp.format.as_str())
                .with("targets", urls(got.collect()))
                .with("missing", urls(missing.collect())),
        );
    }

    /// Tells that an artifact was truncated and closed, which pushes nothing.
    pub fn refuse_empty(&self, id: &ArtifactId) {
        let reason = format!("can't push {id}: {}", Rejection::Empty);
        self.keep(id, &Bytes::new(), &Error::new(ErrorKind::Invalid, reason));
    }

    /// Tells that a write has failed, and that what it has left of a document is not pushed.
    pub fn refuse_broken(&self, id: &ArtifactId) {
        let reason = format!(
            "can't push {id}: writing it has failed (over --max-size, or this machine's disk), and \
             half a document is not pushed"
        );
        self.keep(id, &Bytes::new(), &Error::new(ErrorKind::Invalid, reason));
    }

    /// Keeps the bytes of a push that failed, and tells of the failure.
    fn keep(&self, id: &ArtifactId, content: &Bytes, error: &Error) {
        let (kind, counter) = match error.kind {
            ErrorKind::Conflict => ("conflict", &self.metrics.pushes_conflict),
            ErrorKind::Invalid => ("push-refused", &self.metrics.pushes_refused),
            _ => ("push-failed", &self.metrics.pushes_failed),
        };
        counter.increment();
        self.catalogue
            .change(id, |record| record.error = Some(error.reason.clone()));
        let mut event = Event::new(Level::Error, kind, error.reason.clone())
            .with("artifact", id.to_string())
            .with("size", content.len());
        if !content.is_empty() {
            let unpushed = Unpushed {
                id: id.clone(),
                when: self.stamps.next(self.wall.now()),
                size: content.len() as u64,
                sha256: Sha256::of(content),
                reason: error.reason.clone(),
            };
            let path = unpushed.path();
            event = match self.unpushed.keep(unpushed, content) {
                Ok(()) => event.with("kept", format!(".atlasfs/unpushed/{path}")),
                Err(error) => event.with("not_kept", error.to_string()),
            };
        }
        self.tell(event);
    }

    /// Returns the place of a route among those of the registries.
    fn open_place(&self, route: &Route) -> Option<usize> {
        let mut open = self.routes.open().iter();
        open.position(|open| open.registry.id == route.registry.id)
    }
}

async fn put_to_backups(push: &mut Push<'_>, end: Instant) {
    let (id, stamp, content) = (push.id, &push.stamp, push.content);
    let route = push.route;
    let puts = route.backups.iter().map(|backup| async move {
        let content = content.clone();
        let put = backup.ask(|target| target.put(id, content, stamp, &Condition::None, end));
        (backup, put.await)
    });
    for (backup, put) in futures::future::join_all(puts).await {
        match put {
            Ok(token) => push.got.push((backup.id, token)),
            Err(failure) => push.missing.push((backup, failure)),
        }
    }
}

/// The push or deletion before this one has taken all of the time.
pub(super) fn not_our_turn(what: &str, id: &ArtifactId) -> Error {
    Error::new(
        ErrorKind::Outage,
        format!("can't {what} {id}: the push before it is still under way"),
    )
}

fn conflict(id: &ArtifactId, why: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("can't push {id}: {why}; read it again and merge"),
    )
}
