//! The tee: one push to every target.
//!
//! One push goes: turn → check → stamp → journal → registry → backups, all at once → verdict.
//! Whatever fails, the journal keeps the bytes; whoever has missed a success is given it by `replay`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio::time::{Instant, timeout_at};

use super::breaker::pressing;
use super::check::Candidate;
use super::commit::Commit;
use super::entry::Revision;
use super::error::{Error, ErrorKind};
use super::events::{Event, Level};
use super::fallback::registry_deadline;
use super::journal::Record;
use super::push::{BaseVersion, MOVED_ON, Push, Wait};
use super::replica::share;
use super::room::is_full;
use super::{Durability, Registry, blocking};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{ArtifactId, Format, Rejection, Stamp};
use crate::store::Condition;

impl Registry {
    /// Pushes a document to the registry and to every backup. `suffix` is the format that the
    /// file's name says. `base` is what the document may replace; it becomes the document itself
    /// as soon as any target has it, also if these are too few for a success.
    ///
    /// It ends by `end`, with what it knows then; the caller must not give up before. `wait` says
    /// whether hung backups may use up all of that time.
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
        base: &mut BaseVersion,
        suffix: Option<Format>,
        end: Instant,
        wait: Wait,
    ) -> Result<(), Error> {
        let turn = timeout_at(end, self.turns.take(id)).await;
        let earlier = base.attempt;
        let stamp = match &turn {
            Ok(_) => self.prepare(id, &content, base, suffix, end).await,
            Err(_) => Err(not_our_turn("push", id)),
        };
        // Until the journal knows how it has ended: what is in doubt is what the background pushes.
        let live = stamp
            .as_ref()
            .map(|stamp| self.replay.hold_back(stamp.when));
        let ready = stamp
            .clone()
            .and_then(|stamp| Ok((stamp, self.replicas(&id.repo)?)));
        let mut pushed = match ready {
            Ok((stamp, replicas)) => {
                let push = Push {
                    id,
                    replicas,
                    content: &content,
                    stamp,
                    attempt: earlier,
                    got: Vec::new(),
                    missing: Vec::new(),
                };
                // A bug must not leave a record that the background would push.
                let teed = AssertUnwindSafe(self.tee(push, base, end, wait)).catch_unwind();
                teed.await
                    .unwrap_or_else(|_| Err(super::list::panicked("pushing", id)))
            }
            Err(error) => Err(error),
        };
        match &mut pushed {
            Ok(()) => self.remember_failure(id, None, end).await,
            Err(error) => {
                let stamp = stamp.as_ref().ok().copied();
                self.keep(id, &content, stamp, error, end).await;
            }
        }
        drop(live);
        pushed
    }

    /// Checks a document, and gives it its stamp.
    async fn prepare(
        self: &Arc<Self>,
        id: &ArtifactId,
        content: &Bytes,
        base: &mut BaseVersion,
        suffix: Option<Format>,
        end: Instant,
    ) -> Result<Stamp, Error> {
        let current = timeout_at(end, self.current(id)).await.map_err(|_| {
            let reason = format!("can't push {id}: no target has told its format in time");
            Error::new(ErrorKind::Outage, reason)
        })?;
        if !base.is(current.as_ref()) {
            return Err(conflict(id, MOVED_ON));
        }
        // What an earlier push of this handle has left somewhere is its base from now on.
        base.revision = current.as_ref().map(|known| known.revision);
        // What could not be read is taken for HCL: that is what must not become SQL by accident.
        let format = current.map(|known| known.stamp().map_or(Format::Hcl, |stamp| stamp.format));
        let candidate = Candidate {
            id,
            content,
            suffix,
            current: format,
        };
        let (format, sha256) = self.check(candidate, end).await?;
        Ok(base.attempt(Stamp {
            when: self.stamps.next(self.wall.now()),
            sha256,
            size: content.len() as u64,
            format,
        }))
    }

    /// Gives a document to the targets, when it is durable on this machine.
    async fn tee(
        self: &Arc<Self>,
        mut push: Push<'_>,
        base: &mut BaseVersion,
        end: Instant,
        wait: Wait,
    ) -> Result<(), Error> {
        let (id, stamp) = (push.id, push.stamp);
        let last = end;
        let end = self.journal_push(id, push.content, stamp, end).await?;
        // Where one target is enough, those that are skipped are asked only if no other has it.
        let any = self.settings.durability == Durability::Any;
        let skipped = push.replicas.is_any_skipped();
        self.give_to_targets(&mut push, base, end, wait, !any)
            .await?;
        if any && skipped && push.got.is_empty() {
            push.missing.clear();
            self.give_to_targets(&mut push, base, end, wait, true)
                .await?;
        }
        self.take_in(&push, base);
        self.verdict(&push)?;
        self.settle_journal(&push, last).await;
        Ok(())
    }

    /// Gives a document to the registry, which decides conflicts, and then to the backups.
    /// `is_pressing`: targets that are skipped are asked too.
    async fn give_to_targets(
        &self,
        push: &mut Push<'_>,
        base: &BaseVersion,
        end: Instant,
        wait: Wait,
        is_pressing: bool,
    ) -> Result<(), Error> {
        let (id, replicas) = (push.id, push.replicas);
        let registry = &replicas.registry;
        let until = |deadline: Instant| is_pressing.then_some(deadline);
        let deadline = registry_deadline(replicas, end);
        if replicas.has_registry() {
            let claim = self.commit(push, base, deadline);
            match pressing(until(deadline), claim).await {
                Commit::Got(token) => push.got.push((registry.id, token)),
                Commit::Missed(failure) => push.missing.push((registry, failure)),
                Commit::Lost(why) => return Err(conflict(id, &why)),
                Commit::Undecided(failure) => {
                    let what = format!("can't push {id}: somebody may have been faster");
                    return Err(Error::of_failures(what, [(registry.url(), &failure)]));
                }
            }
        }
        // When the registry decides and has failed, a backup must not hold what nobody was told
        // to be pushed.
        if !push.missing.is_empty() && self.settings.durability != Durability::Any {
            return Ok(());
        }
        let is_decided = !push.got.is_empty() && self.settings.durability != Durability::All;
        let end = match wait {
            Wait::ForVerdict if is_decided => end.min(Instant::now() + self.settings.metadata),
            // If none of these has it, those that are skipped need time as well.
            _ if push.got.is_empty() && !is_pressing && replicas.is_any_skipped() => share(end, 2),
            _ => end,
        };
        pressing(until(end), put_to_backups(push, end)).await;
        Ok(())
    }

    async fn journal_push(
        self: &Arc<Self>,
        id: &ArtifactId,
        content: &Bytes,
        stamp: Stamp,
        end: Instant,
    ) -> Result<Instant, Error> {
        let (record, bytes) = (Record::new(id, &stamp, false), content.clone());
        #[cfg(test)]
        match () {
            () if injected(Bug::NoJournal) => return Ok(end),
            () if injected(Bug::LateJournal) => {
                let journal = Arc::clone(&self.journal);
                drop(tokio::spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
                    journal.admit(record, bytes)?;
                    journal.write(stamp.when)
                }));
                return Ok(end);
            }
            () => {}
        }
        self.write_journal("push", record, bytes, end).await
    }

    /// Waits until the journal has written down what is to be done; no target may see it before.
    /// Returns when the targets must have answered: a failure takes the disk as long again, and must
    /// be on disk before it is told. For the same reason the journal has half of the time.
    pub(super) async fn write_journal(
        self: &Arc<Self>,
        what: &str,
        record: Record,
        content: Bytes,
        end: Instant,
    ) -> Result<Instant, Error> {
        let (begun, half) = (Instant::now(), share(end, 2));
        let (id, when, deletes) = (record.id.clone(), record.stamp.when, record.deletes);
        let written = match self.journal.admit(record, content) {
            Ok(()) => {
                let journal = Arc::clone(&self.journal);
                let mut writing = blocking::run(move || journal.write(when));
                match timeout_at(half, &mut writing).await {
                    Ok(Ok(written)) => written,
                    Ok(Err(_)) => return Err(super::list::panicked("writing to the journal", id)),
                    Err(_) => {
                        if !deletes {
                            self.watch_keeping(&id, writing);
                        }
                        let slow =
                            "this machine's disk has not answered within half of --push-timeout";
                        Err(std::io::Error::new(std::io::ErrorKind::TimedOut, slow))
                    }
                }
            }
            Err(error) => Err(error),
        };
        let took = begun.elapsed();
        written.map(|()| end - took).map_err(|error| {
            let kind = match is_full(&error) {
                true => ErrorKind::NoSpace,
                false => ErrorKind::Outage,
            };
            let message = format!("can't {what} {id}: the journal can't be written: {error}");
            Error::new(kind, message)
        })
    }

    /// Returns the content that a push would replace, with its format if anybody can tell it.
    async fn current(self: &Arc<Self>, id: &ArtifactId) -> Option<Revision> {
        let current = self.index.peek(id, |record| record.current().cloned());
        match current.flatten() {
            Some(known) if known.stamp().is_none() => {
                let pulled = self.pull(id).await.map(|pulled| pulled.known);
                Some(pulled.unwrap_or(known))
            }
            current => current,
        }
    }

    /// Tells that an artifact was truncated and closed, which pushes nothing.
    pub async fn refuse_empty(&self, id: &ArtifactId) {
        self.refuse_nothing(id, format!("can't push {id}: {}", Rejection::Empty))
            .await;
    }

    /// Tells that a write has failed, and that what it has left of a document is not pushed.
    pub async fn refuse_broken(&self, id: &ArtifactId) {
        let reason = format!(
            "can't push {id}: writing it has failed (over --max-size, or this machine's disk), and \
             half a document is not pushed"
        );
        self.refuse_nothing(id, reason).await;
    }

    async fn refuse_nothing(&self, id: &ArtifactId, reason: String) {
        let error = Error::new(ErrorKind::Invalid, reason);
        let limit = Instant::now() + self.settings.verdict_budget();
        self.remember_failure(id, Some(&error.reason), limit).await;
        self.tell_failed(id, 0, &error, None);
    }

    pub(super) fn tell_failed(
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
        self.index
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
    let replicas = push.replicas;
    #[cfg(test)]
    let end = end + std::time::Duration::from_secs(if injected(Bug::NoDeadline) { 60 } else { 0 });
    let puts = replicas.backups.iter().map(|backup| async move {
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
