//! Failures without kept bytes: the reason why the last push of an artifact failed, for the next
//! mount.
//!
//! The file has a fixed number of slots, one failure each:
//!
//! ```text
//! <checksum> {"repo":"app","artifact":"schema","time":…,"failed":…}  padded with blanks to 1 KiB
//! ```
//!
//! Every mount writes the whole file, free slots as zeros, as soon as the disk has room for it. A
//! failure then overwrites a slot in place, which works on a full disk too. A slot that a crash or
//! the disk has damaged counts as free.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::clock::Clock;
use super::journal::{cut_line, read_line};
use super::room::Room;
use super::state_dir::{FAILURES, StateDir};
use super::{blocking, lock};
use crate::dir::Dir;
use crate::model::{ArtifactId, Item, RepoName, when_from_text, when_to_text};

/// The size of a slot. 1 KiB: the two longest names, and 400 bytes for the reason.
const SLOT_SIZE: usize = 1 << 10;

/// The number of slots. 64: a full disk is noticed long before it fails more artifacts than that.
const SLOT_COUNT: usize = 64;

/// The size of the file.
const FILE_SIZE: usize = SLOT_COUNT * SLOT_SIZE;

/// The failure of an artifact's last push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// The artifact.
    pub id: ArtifactId,
    /// The time of the failure, in nanoseconds since the epoch.
    pub when: u64,
    /// The reason.
    pub reason: String,
}

/// The failures of one mount without kept bytes.
#[derive(Debug)]
pub struct Failures {
    /// The state directory; `None` if it could not be made.
    dir: Option<PathBuf>,
    room: Room,
    clock: Arc<Clock>,
    /// Locked for bookkeeping only, never during disk access.
    slots: Mutex<Vec<Option<LastFailure>>>,
    /// Held while a slot is written, so that an older write never ends after a newer one.
    disk: Mutex<()>,
}

impl Failures {
    /// Reads the failures of earlier mounts, and reserves room for all slots.
    pub fn open(state: &StateDir, room: Room, clock: Arc<Clock>) -> Self {
        let dir = state.refusal().is_none().then(|| state.dir().to_owned());
        let failures = Self {
            dir,
            room,
            clock,
            slots: Mutex::new(vec![None; SLOT_COUNT]),
            disk: Mutex::default(),
        };
        if let Some(dir) = &failures.dir
            && let Err(error) = failures.reserve()
        {
            let file = dir.join(FAILURES);
            tracing::warn!(
                "can't reserve room for failed pushes in {}: {error}; make room, and mount again",
                file.display()
            );
        }
        failures
    }

    fn reserve(&self) -> io::Result<()> {
        let file = self.room.find(FILE_SIZE as u64, || self.file())?;
        let mut before = Vec::new();
        (&file).take(FILE_SIZE as u64).read_to_end(&mut before)?;
        let mut bytes = vec![0; FILE_SIZE];
        if let Some(begin) = bytes.get_mut(..before.len()) {
            begin.copy_from_slice(&before);
        }
        let slots = bytes.chunks_mut(SLOT_SIZE).map(|slot| {
            let failure = LastFailure::parse(slot);
            if failure.is_none() {
                slot.fill(0);
            }
            failure
        });
        *lock(&self.slots) = slots.collect();
        // Write the file even if nothing has changed: it may have holes.
        self.room
            .find(FILE_SIZE as u64, || file.write_all_at(&bytes, 0))?;
        file.set_len(FILE_SIZE as u64)
    }

    fn file(&self) -> io::Result<File> {
        let dir = self.dir.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        Dir::open(dir)?.file_or_new(FAILURES, 0o600)
    }

    /// Returns all failures.
    pub fn all(&self) -> Vec<LastFailure> {
        lock(&self.slots).iter().flatten().cloned().collect()
    }

    /// Records a failure, in place of the artifact's last one or of the oldest. [`Self::write`]
    /// makes the returned slot durable.
    pub fn note(&self, failure: LastFailure) -> Option<usize> {
        let mut slots = lock(&self.slots);
        let own = position(&slots, &failure.id);
        let when = |slot: &Option<LastFailure>| slot.as_ref().map(|failure| failure.when);
        // A free slot counts as older than any failure.
        let oldest = || (0..slots.len()).min_by_key(|&place| slots.get(place).map(when));
        let place = own.or_else(oldest)?;
        *slots.get_mut(place)? = Some(failure);
        Some(place)
    }

    /// Forgets the failure of an artifact; returns `None` if there is none. [`Self::write`] makes
    /// the returned slot durable.
    pub fn forget(&self, id: &ArtifactId) -> Option<usize> {
        let mut slots = lock(&self.slots);
        let place = position(&slots, id)?;
        *slots.get_mut(place)? = None;
        Some(place)
    }

    /// Writes the current state of a slot. It waits for the disk.
    ///
    /// # Errors
    ///
    /// The I/O error.
    pub fn write(&self, place: usize) -> io::Result<()> {
        if self.dir.is_none() {
            return Ok(());
        }
        let _guard = lock(&self.disk);
        let failure = lock(&self.slots).get(place).cloned().flatten();
        let slot = failure.and_then(|failure| failure.to_slot());
        let slot = slot.unwrap_or_else(|| vec![0; SLOT_SIZE]);
        self.room.find(SLOT_SIZE as u64, || {
            let file = self.file()?;
            file.write_all_at(&slot, (place * SLOT_SIZE) as u64)?;
            file.sync_data()
        })
    }
}

fn position(slots: &[Option<LastFailure>], id: &ArtifactId) -> Option<usize> {
    slots
        .iter()
        .position(|slot| slot.as_ref().is_some_and(|failure| failure.id == *id))
}

impl LastFailure {
    fn to_slot(&self) -> Option<Vec<u8>> {
        let line = cut_line(&self.reason, SLOT_SIZE, |reason| {
            json!({
                "repo": self.id.repo.as_str(),
                "artifact": self.id.item.to_string(),
                "time": when_to_text(self.when),
                "failed": reason,
            })
        });
        line.map(String::into_bytes)
    }

    fn parse(slot: &[u8]) -> Option<Self> {
        // A free slot, as most are, takes no look at all of its bytes.
        slot.first().filter(|&&byte| byte != 0)?;
        let (value, _) = read_line(slot)?;
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        Some(Self {
            id: ArtifactId {
                repo: RepoName::parse(text("repo")?).ok()?,
                item: Item::from_key(text("artifact")?)?,
            },
            when: when_from_text(text("time")?)?,
            reason: text("failed")?.to_owned(),
        })
    }
}

impl Failures {
    /// Records for the next mount why the last push of an artifact failed, or with `None` that this
    /// is over. The wait for the disk ends at `limit`; the write goes on.
    pub(super) async fn remember(
        self: &Arc<Self>,
        id: &ArtifactId,
        reason: Option<&str>,
        limit: Instant,
    ) {
        if let Some(writing) = self.begin_to_remember(id, reason) {
            let _ = timeout_at(limit, writing).await;
        }
    }

    pub(super) fn begin_to_remember(
        self: &Arc<Self>,
        id: &ArtifactId,
        reason: Option<&str>,
    ) -> Option<JoinHandle<()>> {
        let place = match reason {
            Some(reason) => self.note(LastFailure {
                id: id.clone(),
                when: self.clock.next_stamp(),
                reason: reason.to_owned(),
            }),
            None => self.forget(id),
        };
        let (place, failures, id) = (place?, Arc::clone(self), id.clone());
        Some(blocking::run(move || {
            if let Err(error) = failures.write(place) {
                tracing::warn!(
                    "the next mount won't know how the last push of {id} ended: {error}"
                );
            }
        }))
    }
}

#[cfg(test)]
#[path = "failures_tests.rs"]
mod tests;
