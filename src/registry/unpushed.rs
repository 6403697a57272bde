//! The journal's side of a push: the push is durable before any target sees it, and its bytes are
//! kept if it fails.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::error::{ErrorKind, RegistryError, panicked, still_busy};
use super::events::{Event, Level};
use super::journal::{Damaged, Record};
use super::replica::share;
use super::room::is_full;
use super::{Registry, Unpushed, blocking};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{ArtifactId, Format, Rejection, Stamp};

impl Registry {
    /// Returns the failed pushes whose bytes are kept, oldest first.
    pub fn unpushed(&self) -> Vec<Unpushed> {
        self.journal.failed()
    }

    /// Reads the bytes of a failed push.
    ///
    /// # Errors
    ///
    /// The I/O error, `NotFound` if there is no such push.
    pub fn read_unpushed(&self, when: u64) -> io::Result<Bytes> {
        self.journal.content(when)
    }

    /// Removes a failed push for good.
    ///
    /// # Errors
    ///
    /// The I/O error, `NotFound` if there is no such push.
    pub async fn remove_unpushed(&self, when: u64) -> io::Result<()> {
        let removed = self.journal.select(|record| record.stamp.when == when);
        self.journal.remove(when)?;
        // Removing the last failed push of an artifact acknowledges its error.
        for id in removed.iter().map(|record| &record.id) {
            if !self.journal.failed().iter().any(|record| record.id == *id) {
                self.forget_error(id).await;
            }
        }
        Ok(())
    }

    /// Returns the damaged files of the journal.
    pub fn damaged(&self) -> Vec<Damaged> {
        self.journal.damaged()
    }

    /// Reads a damaged file of the journal as it is.
    ///
    /// # Errors
    ///
    /// The I/O error, `NotFound` if there is no such file.
    pub fn read_damaged(&self, name: &str) -> io::Result<Bytes> {
        self.journal.read_damaged(name)
    }

    /// Removes a damaged file of the journal for good.
    ///
    /// # Errors
    ///
    /// The I/O error, `NotFound` if there is no such file.
    pub fn remove_damaged(&self, name: &str) -> io::Result<()> {
        self.journal.remove_damaged(name)
    }

    /// Keeps the bytes of a push that was not even begun, and reports the failure.
    pub async fn refuse(self: &Arc<Self>, id: &ArtifactId, content: &Bytes, end: Instant) {
        let mut error = still_busy("push", id);
        self.keep(id, content, None, &mut error, end).await;
    }

    /// Makes a push or deletion durable in the journal; no target may see it before. Returns the
    /// targets' deadline: to mark a failure takes the disk as long again, and must be done before
    /// the failure is reported. For the same reason the journal has half of the time.
    pub(super) async fn write_journal(
        self: &Arc<Self>,
        what: &str,
        record: Record,
        content: Bytes,
        end: Instant,
    ) -> Result<Instant, RegistryError> {
        #[cfg(test)]
        match () {
            () if record.deletes => {}
            () if injected(Bug::NoJournal) => return Ok(end),
            () if injected(Bug::LateJournal) => {
                let (journal, when) = (Arc::clone(&self.journal), record.stamp.when);
                drop(tokio::spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
                    journal.admit(record, content)?;
                    journal.write(when)
                }));
                return Ok(end);
            }
            () => {}
        }
        let (begun, half) = (Instant::now(), share(end, 2));
        let (id, when, deletes) = (record.id.clone(), record.stamp.when, record.deletes);
        let written = match self.journal.admit(record, content) {
            Ok(()) => {
                let journal = Arc::clone(&self.journal);
                let mut writing = blocking::run(move || journal.write(when));
                match timeout_at(half, &mut writing).await {
                    Ok(Ok(written)) => written,
                    Ok(Err(_)) => return Err(panicked("writing to the journal", id)),
                    Err(_) => {
                        if !deletes {
                            self.watch_keeping(&id, writing);
                        }
                        let slow = "the local disk did not answer within half of --push-timeout";
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
            let message = format!("can't {what} {id}: can't write the journal: {error}");
            RegistryError::new(kind, message)
        })
    }

    /// Reports that an artifact was truncated and closed, which pushes nothing.
    pub async fn refuse_empty(&self, id: &ArtifactId) {
        self.refuse_nothing(id, format!("can't push {id}: {}", Rejection::Empty))
            .await;
    }

    /// Reports that a write has failed, and that the partial document is not pushed.
    pub async fn refuse_broken(&self, id: &ArtifactId) {
        let reason = format!(
            "can't push {id}: a write failed (over --max-size, or on the local disk), so the \
             partial document is not pushed"
        );
        self.refuse_nothing(id, reason).await;
    }

    async fn refuse_nothing(&self, id: &ArtifactId, reason: String) {
        let error = RegistryError::new(ErrorKind::Invalid, reason);
        let limit = Instant::now() + self.settings.verdict_budget();
        self.failures.remember(id, Some(&error.reason), limit).await;
        self.report_failure(id, 0, &error, None);
    }

    /// Keeps the partial document of a killed writer, and reports it; nothing of it is pushed.
    pub async fn keep_torn(
        self: &Arc<Self>,
        id: &ArtifactId,
        content: &Bytes,
        signal: i32,
        end: Instant,
    ) {
        let signal = match signal {
            0 => "a signal".to_owned(),
            signal => format!("signal {signal}"),
        };
        let reason = format!(
            "can't push {id}: {signal} killed its writer before the file was closed, so the \
             partial document is not pushed; write it again"
        );
        let mut torn = RegistryError::new(ErrorKind::Torn, reason);
        self.keep(id, content, None, &mut torn, end).await;
    }

    /// Keeps the bytes of a failed push, and reports the failure. `stamp` is that of a push that
    /// may have reached the journal. The verdict holds at once; the wait for the disk ends shortly
    /// after `end`, and the write goes on.
    pub(super) async fn keep(
        self: &Arc<Self>,
        id: &ArtifactId,
        content: &Bytes,
        stamp: Option<Stamp>,
        error: &mut RegistryError,
        end: Instant,
    ) {
        #[cfg(test)]
        if injected(Bug::NothingKept) {
            return;
        }
        let limit = end + self.settings.verdict_budget() / 2;
        if content.is_empty() {
            self.failures.remember(id, Some(&error.reason), limit).await;
            return self.report_failure(id, 0, error, None);
        }
        let stamp = match stamp {
            Some(stamp) => stamp,
            None => {
                let (when, bytes) = (self.clock.next_stamp(), content.clone());
                // Hashing 16 MB would keep a runtime thread from other requests.
                let hashed = blocking::compute(move || Stamp::new(when, &bytes, Format::Hcl)).await;
                hashed.unwrap_or_else(|_| Stamp::new(when, content, Format::Hcl))
            }
        };
        let mut record = Record::new(id, &stamp, false);
        (record.failed, record.decided) = (Some(error.reason.clone()), true);
        let path = record.path();
        let kept = match self.keep_in_memory(&record, content) {
            Ok(is_new) => {
                let mut keeping = self.keep_on_disk(record, content.clone(), is_new);
                match timeout_at(limit, &mut keeping).await {
                    Ok(kept) => kept.unwrap_or_else(|bug| Err(io::Error::other(bug))),
                    Err(_) => {
                        self.watch_keeping(id, keeping);
                        Ok(path)
                    }
                }
            }
            Err(full) => Err(full),
        };
        if let Err(why) = &kept {
            let reason = &mut error.reason;
            reason.push_str(&format!("; its bytes could not be kept: {why}"));
        }
        // Kept bytes have their reason in the journal.
        let reason = kept.is_err().then_some(&*error.reason);
        self.failures.remember(id, reason, limit).await;
        self.report_failure(id, content.len(), error, Some(kept));
    }

    /// Decides that a push has failed. Returns whether the push is new to the journal.
    fn keep_in_memory(&self, failed: &Record, content: &Bytes) -> io::Result<bool> {
        if self
            .journal
            .decide(failed.stamp.when, failed.failed.as_deref())
        {
            return Ok(false);
        }
        self.journal.admit(failed.clone(), content.clone())?;
        Ok(true)
    }

    fn keep_on_disk(
        &self,
        failed: Record,
        content: Bytes,
        is_new: bool,
    ) -> JoinHandle<io::Result<String>> {
        let (journal, when) = (Arc::clone(&self.journal), failed.stamp.when);
        blocking::run(move || {
            if is_new {
                journal.write(when)?;
                return journal.keep(when);
            }
            journal.keep(when).or_else(|_| {
                // Its entry is gone, or can't be changed: a new one may find room.
                journal.admit(failed, content)?;
                journal.write(when)?;
                journal.keep(when)
            })
        })
    }

    /// Reports bytes that the disk did not take in time, and that are not kept in the end.
    pub(super) fn watch_keeping<T: Send + 'static>(
        self: &Arc<Self>,
        id: &ArtifactId,
        keeping: JoinHandle<io::Result<T>>,
    ) {
        let (registry, id) = (Arc::downgrade(self), id.clone());
        tokio::spawn(async move {
            let kept = keeping.await;
            let (Ok(Err(error)), Some(registry)) = (kept, registry.upgrade()) else {
                return;
            };
            let message = format!("the bytes of a failed push of {id} could not be kept: {error}");
            let event = Event::new(Level::Error, "not-kept", message);
            registry.report(event.with("artifact", id.to_string()));
            let reason = registry
                .index
                .peek(&id, |record| record.error().map(str::to_owned));
            if let Some(reason) = reason.flatten() {
                drop(registry.failures.begin_to_remember(&id, Some(&reason)));
            }
        });
    }

    fn report_failure(
        &self,
        id: &ArtifactId,
        size: usize,
        error: &RegistryError,
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
        self.report(event);
    }
}

/// Returns the path of a damaged file in the mount.
pub(super) fn kept(damaged: &Damaged) -> String {
    format!(".atlasfs/unpushed/damaged/{}", damaged.name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{
        BaseVersion, PushDetails, ReplicaSets, Settings, StateDir, Wait, WallClock,
    };
    use super::*;
    use crate::model::{Item, RepoName};

    #[tokio::test]
    async fn a_push_without_a_registry_keeps_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), "a test").unwrap();
        let replicas = ReplicaSets::new(Vec::new(), None);
        let registry = Registry::open(replicas, Settings::default(), state, WallClock::default());
        let registry = registry.unwrap();
        let id = ArtifactId {
            repo: RepoName::parse("app").unwrap(),
            item: Item::Schema,
        };
        let content = Bytes::from_static(b"schema \"main\" {}\n");
        let mut base = BaseVersion::default();
        let end = Instant::now() + Duration::from_secs(60);
        let pushed = registry.push(
            &id,
            content.clone(),
            &mut base,
            PushDetails::default(),
            end,
            Wait::ForAll,
        );
        assert_eq!(pushed.await.unwrap_err().kind, ErrorKind::NotFound);
        let kept: Vec<u64> = registry.unpushed().iter().map(|it| it.stamp.when).collect();
        assert_eq!(kept.len(), 1);
        assert_eq!(registry.read_unpushed(kept[0]).unwrap(), content);
    }
}
