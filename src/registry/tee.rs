//! The tee: one push to every target.
//!
//! One push goes: turn → check → stamp → journal → registry → backups, all at once → verdict.
//! Whatever fails, the journal keeps the bytes; whoever has missed a success is given it by `redo`.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::claim::Claim;
use super::error::{Error, ErrorKind};
use super::events::{Event, Level};
use super::hedge::registry_deadline;
use super::journal::Journal;
use super::push::{Base, MOVED_ON, Push};
use super::record::Known;
use super::{Durability, Registry, disk};
use crate::artifact::{ArtifactId, Format, Item, Rejection, Stamp, check_plan, check_schema};
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::target::Condition;

impl Registry {
    /// Pushes a document to the registry and to every backup. `suffix` is the format that the
    /// file's name says. `base` is what the document may replace; it becomes the document itself
    /// as soon as any target has it, also if these are too few for a success.
    ///
    /// It ends by `end`, with what it knows then; the caller must not give up before.
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
        end: Instant,
    ) -> Result<(), Error> {
        let turn = timeout_at(end, self.turns.take(id)).await;
        let earlier = base.attempt;
        let stamp = match &turn {
            Ok(_) => self.prepare(id, &content, base, suffix).await,
            Err(_) => Err(not_our_turn("push", id)),
        };
        // Until the journal knows how it has ended: what is in doubt is what the background pushes.
        let live = stamp.as_ref().map(|stamp| self.redo.hands_off(stamp.when));
        let pushed = match &stamp {
            Ok(stamp) => {
                let push = Push {
                    id,
                    route: self.route(&id.repo)?,
                    content: &content,
                    stamp: *stamp,
                    attempt: earlier,
                    got: Vec::new(),
                    missing: Vec::new(),
                };
                self.tee(push, base, end).await
            }
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = &pushed {
            self.keep(id, &content, stamp.as_ref().ok().copied(), error)
                .await;
        }
        drop(live);
        pushed
    }

    /// Checks a document, and gives it its stamp.
    async fn prepare(
        self: &Arc<Self>,
        id: &ArtifactId,
        content: &Bytes,
        base: &mut Base,
        suffix: Option<Format>,
    ) -> Result<Stamp, Error> {
        let current = self.current(id).await;
        if !base.is(current.as_ref()) {
            return Err(conflict(id, MOVED_ON));
        }
        // What an earlier push of this handle has left somewhere is its base from now on.
        base.revision = current.as_ref().map(|known| known.revision);
        // What could not be read is taken for HCL: that is what must not become SQL by accident.
        let format = current.map(|known| known.stamp().map_or(Format::Hcl, |stamp| stamp.format));
        let format = self.check(id, content, suffix, format)?;
        let stamp = Stamp::new(self.stamps.next(self.wall.now()), content, format);
        Ok(base.attempt(stamp))
    }

    /// Gives a document to the targets, when it is durable on this machine.
    async fn tee(&self, mut push: Push<'_>, base: &mut Base, end: Instant) -> Result<(), Error> {
        let (id, stamp) = (push.id, push.stamp);
        self.journal_push(id, push.content, stamp, end).await?;
        let registry = &push.route.registry;
        let deadline = registry_deadline(push.route, end);
        match self.claim(&push, base, deadline).await {
            Claim::Got(token) => push.got.push((registry.id, token)),
            Claim::Missed(failure) => push.missing.push((registry, failure)),
            Claim::Lost(why) => return Err(conflict(id, &why)),
            Claim::Undecided(failure) => {
                let what = format!("can't push {id}: somebody may have been faster");
                return Err(Error::of_failures(what, [(registry.url(), &failure)]));
            }
        }
        // When the registry decides and has failed, a backup must not hold what nobody was told
        // to be pushed.
        if push.missing.is_empty() || self.settings.durability == Durability::Any {
            put_to_backups(&mut push, end).await;
        }
        self.take_in(&push, base);
        self.verdict(&push)?;
        self.settle_journal(&push, end).await;
        Ok(())
    }

    async fn journal_push(
        &self,
        id: &ArtifactId,
        content: &Bytes,
        stamp: Stamp,
        end: Instant,
    ) -> Result<(), Error> {
        let (owner, bytes) = (id.clone(), content.clone());
        #[cfg(test)]
        match () {
            () if planted(Bug::NoJournal) => return Ok(()),
            () if planted(Bug::LateJournal) => {
                let journal = Arc::clone(&self.journal);
                drop(tokio::spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
                    journal.begin(&owner, &stamp, &bytes)
                }));
                return Ok(());
            }
            () => {}
        }
        let write = move |journal: &Journal| journal.begin(&owner, &stamp, &bytes);
        self.write_journal("push", id, end, write).await
    }

    /// Waits until the journal has written down what is to be done; no target may see it before.
    pub(super) async fn write_journal(
        &self,
        what: &str,
        id: &ArtifactId,
        end: Instant,
        write: impl FnOnce(&Journal) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), Error> {
        let journal = Arc::clone(&self.journal);
        let written = match timeout_at(end, disk::apart(move || write(&journal))).await {
            Ok(Ok(written)) => written,
            Ok(Err(_)) => return Err(super::list::panicked("writing to the journal", id)),
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        written.map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    ErrorKind::NoSpace
                }
                _ => ErrorKind::Outage,
            };
            let message = format!("can't {what} {id}: the journal can't be written: {error}");
            Error::new(kind, message)
        })
    }

    /// Returns the content that a push would replace, with its format if anybody can tell it.
    async fn current(self: &Arc<Self>, id: &ArtifactId) -> Option<Known> {
        let current = self.catalogue.peek(id, |record| record.current().cloned());
        match current.flatten() {
            Some(known) if known.stamp().is_none() => {
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
            // As a desired state that is empty, whether or not anything is checked.
            _ if content.iter().all(u8::is_ascii_whitespace) => Err(Rejection::Empty),
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

    /// Tells that an artifact was truncated and closed, which pushes nothing.
    pub fn refuse_empty(&self, id: &ArtifactId) {
        let reason = format!("can't push {id}: {}", Rejection::Empty);
        self.tell_failed(id, 0, &Error::new(ErrorKind::Invalid, reason), None);
    }

    /// Tells that a write has failed, and that what it has left of a document is not pushed.
    pub fn refuse_broken(&self, id: &ArtifactId) {
        let reason = format!(
            "can't push {id}: writing it has failed (over --max-size, or this machine's disk), and \
             half a document is not pushed"
        );
        self.tell_failed(id, 0, &Error::new(ErrorKind::Invalid, reason), None);
    }

    /// Keeps what a killed writer has left of a document, and tells of it; nothing of it is pushed.
    pub async fn keep_torn(&self, id: &ArtifactId, content: &Bytes, signal: i32) {
        let signal = match signal {
            0 => "a signal".to_owned(),
            signal => format!("signal {signal}"),
        };
        let reason = format!(
            "can't push {id}: {signal} killed its writer before the file was closed, and half a \
             document is not pushed; write it again"
        );
        let torn = Error::new(ErrorKind::Torn, reason);
        self.keep(id, content, None, &torn).await;
    }

    /// Keeps the bytes of a push that failed, and tells of the failure. `stamp` is that of a push
    /// that got as far as the journal.
    async fn keep(&self, id: &ArtifactId, content: &Bytes, stamp: Option<Stamp>, error: &Error) {
        let mut kept = None;
        #[cfg(test)]
        if planted(Bug::NothingKept) {
            return;
        }
        if !content.is_empty() {
            let stamp = stamp.unwrap_or_else(|| {
                Stamp::new(self.stamps.next(self.wall.now()), content, Format::Hcl)
            });
            let (journal, owner, bytes) = (Arc::clone(&self.journal), id.clone(), content.clone());
            let reason = error.reason.clone();
            let keeping = disk::apart(move || journal.keep(&owner, &stamp, &bytes, &reason));
            kept = Some(
                keeping
                    .await
                    .unwrap_or_else(|bug| Err(std::io::Error::other(bug))),
            );
        }
        self.tell_failed(id, content.len(), error, kept);
    }

    fn tell_failed(
        &self,
        id: &ArtifactId,
        size: usize,
        error: &Error,
        kept: Option<std::io::Result<String>>,
    ) {
        let (kind, counter) = match error.kind {
            ErrorKind::Conflict => ("conflict", &self.metrics.pushes_conflict),
            ErrorKind::Invalid => ("push-refused", &self.metrics.pushes_refused),
            ErrorKind::Torn => ("torn", &self.metrics.pushes_failed),
            _ => ("push-failed", &self.metrics.pushes_failed),
        };
        counter.increment();
        self.catalogue
            .change(id, |record| record.failed(error.reason.clone()));
        let mut event = Event::new(Level::Error, kind, error.reason.clone())
            .with("artifact", id.to_string())
            .with("size", size);
        event = match kept {
            Some(Ok(path)) => event.with("kept", format!(".atlasfs/unpushed/{path}")),
            Some(Err(error)) => event.with("not_kept", error.to_string()),
            None => event,
        };
        self.tell(event);
    }
}

async fn put_to_backups(push: &mut Push<'_>, end: Instant) {
    let (id, stamp, content) = (push.id, &push.stamp, push.content);
    let route = push.route;
    #[cfg(test)]
    let end = end + std::time::Duration::from_secs(if planted(Bug::NoDeadline) { 60 } else { 0 });
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
