//! How a record comes into being, and how a push becomes a failed one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use bytes::Bytes;

use super::record::{Record, mark, write};
use super::{Journal, Writing, is_gone, lock};
use crate::dir::open_regular;
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::ArtifactId;
#[cfg(test)]
use crate::model::Stamp;

/// What a file takes beyond its content: its lines, and the block that is not full.
const BESIDES: u64 = 16 << 10;

impl Journal {
    /// Takes a record in, in memory alone; [`Self::write`] makes it durable.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::StorageFull`] where the journal holds as much as it may, or can't be
    /// written at all; `ResourceBusy` while the same push of earlier is still on its way to the
    /// disk.
    pub fn admit(&self, record: Record, content: Bytes) -> io::Result<()> {
        let full = |message| Err(io::Error::new(io::ErrorKind::StorageFull, message));
        if let Some(reason) = &self.closed {
            return full(reason.clone());
        }
        let when = record.stamp.when;
        let mut state = lock(&self.state);
        let (held, capacity) = (state.bytes(), self.capacity);
        if held + record.stamp.size > capacity {
            return full(format!(
                "the journal holds {held} bytes and may hold {capacity}"
            ));
        }
        if state.writing.contains_key(&when) {
            let message = "this machine's disk has not taken the last try yet";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        let writing = Writing {
            record,
            content,
            file: None,
        };
        state.writing.insert(when, writing);
        Ok(())
    }

    /// Makes a record durable, before any target sees what it is about. A push that has failed by
    /// then becomes a failed one, and a deletion becomes none.
    ///
    /// # Errors
    ///
    /// The I/O error. Then nothing is left of it.
    pub fn write(&self, when: u64) -> io::Result<()> {
        let need = {
            let mut state = lock(&self.state);
            let Some(writing) = state.writing.get_mut(&when) else {
                return Ok(());
            };
            writing.record.stamp.size + BESIDES
        };
        let written = self.room.find(need, || self.write_file(when));
        let finished = written.and_then(|file| self.finish(when, file.as_deref()));
        if finished.is_err() {
            lock(&self.state).writing.remove(&when);
        }
        finished
    }

    /// Writes the file of a record, and says which it is; nothing is left of it after an error.
    pub(super) fn write_file(&self, when: u64) -> io::Result<Option<Arc<File>>> {
        let Some((record, content)) = self.on_its_way(when) else {
            return Ok(None);
        };
        fs::create_dir_all(&self.dir)?;
        let place = self.path(when);
        let staging = place.with_extension("tmp");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = Arc::new(open_regular(&mut options, &staging)?);
        let written = write(&file, &record, &content).and_then(|()| {
            self.publish(when, &file)?;
            #[cfg(test)]
            if injected(Bug::NoSync) {
                return Ok(());
            }
            file.sync_all()
        });
        let named = written.and_then(|()| fs::rename(&staging, &place));
        let was_named = named.is_ok();
        let kept = named.and_then(|()| File::open(&self.dir)?.sync_all());
        if kept.is_err() {
            if let Some(writing) = lock(&self.state).writing.get_mut(&when) {
                writing.file = None;
            }
            // A full disk: the rest must not take the room of the next one. The name may outlast
            // a power cut, so it must not stand for a push to be made.
            let _ = fs::remove_file(&staging);
            if was_named {
                let _ = mark(&file, "its record could not be kept");
                let _ = fs::remove_file(&place);
            }
        }
        #[cfg(test)]
        if kept.is_ok() && !injected(Bug::NoSync) {
            self.is_durable(when);
        }
        kept.map(|()| Some(file))
    }

    fn on_its_way(&self, when: u64) -> Option<(Record, Bytes)> {
        let state = lock(&self.state);
        let writing = state.writing.get(&when)?;
        Some((writing.record.clone(), writing.content.clone()))
    }

    /// Has a verdict write to the file from now on; one that came before is written here.
    fn publish(&self, when: u64, file: &Arc<File>) -> io::Result<()> {
        let failed = {
            let mut state = lock(&self.state);
            let Some(writing) = state.writing.get_mut(&when) else {
                return Ok(());
            };
            writing.file = Some(Arc::clone(file));
            writing.record.failed.clone()
        };
        failed.map_or(Ok(()), |reason| mark(file, &reason))
    }

    /// Makes what is on disk one of the journal's records, as the verdict says by now.
    pub(super) fn finish(&self, when: u64, file: Option<&File>) -> io::Result<()> {
        let mut marked = None;
        loop {
            let failed = {
                let mut state = lock(&self.state);
                let Some(writing) = state.writing.get(&when) else {
                    break;
                };
                let failed = writing.record.failed.clone();
                if failed == marked {
                    let Some(writing) = state.writing.remove(&when) else {
                        break;
                    };
                    if writing.record.deletes && failed.is_some() {
                        break;
                    }
                    state.records.insert(when, writing.record);
                    return Ok(());
                }
                failed
            };
            if let (Some(file), Some(reason)) = (file, &failed)
                && let Err(error) = mark(file, reason)
            {
                return Err(self.give_up(when, error));
            }
            #[cfg(test)]
            self.is_durable(when);
            marked = failed;
        }
        // Nobody wants it any more.
        let place = self.path(when);
        for path in [place.with_extension("tmp"), place] {
            match fs::remove_file(path) {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes note, in memory, that a push or a deletion has failed: from now on this mount gives
    /// it to no target. Returns whether the journal knows it; then [`Self::mark`] makes that
    /// durable.
    pub fn decide(&self, when: u64, reason: &str) -> bool {
        let mut state = lock(&self.state);
        #[cfg(test)]
        if injected(Bug::LateRecord) && state.writing.contains_key(&when) {
            return true;
        }
        let reason = Some(reason.to_owned());
        match state.writing.get_mut(&when) {
            Some(writing) => writing.record.failed = reason,
            None => match state.records.get_mut(&when) {
                Some(record) => record.failed = reason,
                None => return false,
            },
        }
        true
    }

    /// Writes down that a push has failed, in the file of its record. Where the disk refuses even
    /// that, the record is removed: a later mount must not push it.
    ///
    /// # Errors
    ///
    /// The I/O error; then its bytes are not kept.
    pub fn mark(&self, when: u64) -> io::Result<()> {
        let (reason, file) = {
            let state = lock(&self.state);
            match (state.writing.get(&when), state.records.get(&when)) {
                (Some(writing), _) => match &writing.file {
                    Some(file) => (writing.record.failed.clone(), Some(Arc::clone(file))),
                    // The one that writes the file marks it.
                    None => return Ok(()),
                },
                (None, Some(record)) => (record.failed.clone(), None),
                (None, None) => return Ok(()),
            }
        };
        let Some(reason) = reason else {
            return Ok(());
        };
        let marked = match file {
            Some(file) => mark(&file, &reason),
            None => {
                let file = open_regular(File::options().write(true), &self.path(when));
                file.and_then(|file| mark(&file, &reason))
            }
        };
        marked.map_err(|error| self.give_up(when, error))?;
        #[cfg(test)]
        if lock(&self.state).records.contains_key(&when) {
            self.is_durable(when);
        }
        Ok(())
    }

    /// Removes a record that can't be marked as failed.
    fn give_up(&self, when: u64, why: io::Error) -> io::Error {
        let place = self.path(when);
        let mut gone = Ok(());
        for path in [place.with_extension("tmp"), place.clone()] {
            match fs::remove_file(path) {
                Err(error) if !is_gone(&error) => gone = Err(error),
                _ => {}
            }
        }
        let gone = gone.and_then(|()| File::open(&self.dir)?.sync_all());
        match gone {
            Ok(()) => {
                let mut state = lock(&self.state);
                state.records.remove(&when);
                state.writing.remove(&when);
                #[cfg(test)]
                lock(&self.durable).remove(&when);
                why
            }
            Err(error) => io::Error::new(
                why.kind(),
                format!(
                    "{why}, and {} can't be removed ({error}): remove it before the next mount, \
                     which would push it",
                    place.display()
                ),
            ),
        }
    }

    /// Writes down that a push has failed, and returns the path of its bytes below
    /// `.atlasfs/unpushed`. The same bytes are kept once.
    ///
    /// # Errors
    ///
    /// The I/O error; then its bytes are not kept.
    pub fn keep(&self, when: u64) -> io::Result<String> {
        self.mark(when)?;
        let kept = self.select(|record| record.stamp.when == when);
        let kept = kept.first().ok_or(io::ErrorKind::NotFound)?;
        // What is not on disk yet must not cost what is.
        let is_on_disk = !lock(&self.state).writing.contains_key(&when);
        let twins = self.select(|record| {
            is_on_disk
                && record.id == kept.id
                && record.failed.is_some()
                && record.stamp.sha256 == kept.stamp.sha256
                && record.stamp.when != when
        });
        let twins = twins.iter().map(|twin| twin.stamp.when);
        twins.for_each(|twin| self.settle(&kept.id, twin));
        Ok(kept.path())
    }

    /// Removes a deletion that has failed and is decided, so that no power cut brings it back: an
    /// `rm` that has failed must delete nothing later.
    pub fn abandon(&self, id: &ArtifactId, when: u64) {
        let is_on_its_way = lock(&self.state).writing.contains_key(&when);
        if let Err(error) = self.mark(when) {
            tracing::warn!("can't write to the journal that deleting {id} has failed: {error}");
        } else if !is_on_its_way {
            self.settle(id, when);
        }
    }
}

#[cfg(test)]
impl Journal {
    /// Makes a push durable.
    pub fn begin(&self, id: &ArtifactId, stamp: &Stamp, content: &[u8]) -> io::Result<()> {
        self.admit(
            Record::new(id, stamp, false),
            Bytes::copy_from_slice(content),
        )?;
        self.write(stamp.when)
    }

    /// Makes a deletion durable.
    pub fn begin_deletion(&self, id: &ArtifactId, stamp: &Stamp) -> io::Result<()> {
        self.admit(Record::new(id, stamp, true), Bytes::new())?;
        self.write(stamp.when)
    }

    /// Makes a push a failed one.
    pub fn fail(&self, when: u64, reason: &str) -> io::Result<()> {
        assert!(self.decide(when, reason));
        self.mark(when)
    }
}
