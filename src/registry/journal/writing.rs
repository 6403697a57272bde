//! Writing an entry, and its verdict.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use bytes::Bytes;

use super::record::{Record, mark, write};
use super::{Journal, JournalState, Writing, is_gone, lock};
use crate::dir::open_regular;
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::ArtifactId;
#[cfg(test)]
use crate::model::Stamp;

/// The bytes that a file takes beyond its content: its lines, and a partly filled block.
const BESIDES: u64 = 16 << 10;

impl Journal {
    /// Admits an entry, in memory alone; [`Self::write`] makes it durable.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::StorageFull`] if the entry would exceed the journal's capacity, or the
    /// journal is closed; `ResourceBusy` while an earlier try of the same push is still on its way
    /// to the disk.
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
            let message = "the local disk is still busy with the previous attempt";
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

    /// Makes an entry durable, before any target sees its push or deletion. A push that has failed
    /// by then is written as failed; a deletion that has failed leaves no entry.
    ///
    /// # Errors
    ///
    /// The I/O error. Then the entry is dropped.
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

    /// Writes an entry's file and returns it. After an error, nothing is left of it.
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
            // On a full disk, the remains must not take the next entry's space.
            let _ = fs::remove_file(&staging);
            if was_named {
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

    /// Makes later verdicts go to the file, and writes an earlier one to it here.
    fn publish(&self, when: u64, file: &Arc<File>) -> io::Result<()> {
        let record = {
            let mut state = lock(&self.state);
            let Some(writing) = state.writing.get_mut(&when) else {
                return Ok(());
            };
            writing.file = Some(Arc::clone(file));
            writing.record.clone()
        };
        match record.decided {
            true => mark(file, &record),
            false => Ok(()),
        }
    }

    /// Adds the file on disk to the journal's entries, with the latest verdict.
    pub(super) fn finish(&self, when: u64, file: Option<&File>) -> io::Result<()> {
        let mut marked = None;
        loop {
            let record = {
                let mut state = lock(&self.state);
                let Some(writing) = state.writing.get(&when) else {
                    break;
                };
                let record = writing.record.clone();
                if !record.decided || marked.as_ref() == Some(&record) {
                    state.writing.remove(&when);
                    if record.deletes && record.failed.is_some() {
                        break;
                    }
                    state.records.insert(when, record);
                    return Ok(());
                }
                record
            };
            if let Some(file) = file {
                mark(file, &record)?;
            }
            #[cfg(test)]
            self.is_durable(when);
            marked = Some(record);
        }
        // The entry was removed meanwhile, or it is a failed deletion.
        let place = self.path(when);
        for path in [place.with_extension("tmp"), place] {
            match fs::remove_file(path) {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Decides in memory that a push or a deletion has succeeded, or failed: this mount applies it
    /// only if it has succeeded. Returns whether the journal has it; then [`Self::mark`] makes the
    /// verdict durable.
    pub fn decide(&self, when: u64, failed: Option<&str>) -> bool {
        let mut state = lock(&self.state);
        #[cfg(test)]
        if injected(Bug::LateRecord) && state.writing.contains_key(&when) {
            return true;
        }
        let JournalState {
            writing, records, ..
        } = &mut *state;
        let writing = writing.get_mut(&when).map(|writing| &mut writing.record);
        let Some(record) = writing.or_else(|| records.get_mut(&when)) else {
            return false;
        };
        record.failed = failed.map(str::to_owned);
        record.decided = true;
        true
    }

    /// Writes the verdict of a push or deletion to its entry's file. If the disk refuses, the next
    /// mount finds the entry in doubt.
    ///
    /// # Errors
    ///
    /// `NotFound` if the file is gone; then its bytes are not kept.
    pub fn mark(&self, when: u64) -> io::Result<()> {
        let (record, file) = {
            let state = lock(&self.state);
            match (state.writing.get(&when), state.records.get(&when)) {
                (Some(writing), _) => match &writing.file {
                    Some(file) => (writing.record.clone(), Some(Arc::clone(file))),
                    // The writer of the file marks it.
                    None => return Ok(()),
                },
                (None, Some(record)) => (record.clone(), None),
                (None, None) => return Ok(()),
            }
        };
        if !record.decided {
            return Ok(());
        }
        let marked = match file {
            Some(file) => mark(&file, &record),
            None => {
                let file = open_regular(File::options().write(true), &self.path(when));
                file.and_then(|file| mark(&file, &record))
            }
        };
        match marked {
            Err(error) if is_gone(&error) => {
                lock(&self.state).records.remove(&when);
                return Err(error);
            }
            Err(error) => {
                let id = &record.id;
                tracing::warn!("can't record in the journal how a push of {id} ended: {error}");
            }
            Ok(()) =>
            {
                #[cfg(test)]
                if lock(&self.state).records.contains_key(&when) {
                    self.is_durable(when);
                }
            }
        }
        Ok(())
    }

    /// Marks a push as failed on disk, and returns the path of its bytes below `.atlasfs/unpushed`.
    /// The same bytes are kept once.
    ///
    /// # Errors
    ///
    /// The I/O error; then its bytes are not kept.
    pub fn keep(&self, when: u64) -> io::Result<String> {
        self.mark(when)?;
        let kept = self.select(|record| record.stamp.when == when);
        let kept = kept.first().ok_or(io::ErrorKind::NotFound)?;
        // Bytes that are not on disk yet must not replace bytes that are.
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

    /// Removes a deletion whose failure is decided, and marks it first, so that no power cut brings
    /// it back: a failed `rm` must delete nothing later.
    pub fn abandon(&self, id: &ArtifactId, when: u64) {
        let is_on_its_way = lock(&self.state).writing.contains_key(&when);
        if let Err(error) = self.mark(when) {
            tracing::warn!("can't record in the journal that deleting {id} failed: {error}");
        } else if !is_on_its_way {
            self.settle(id, when);
        }
    }
}

#[cfg(test)]
impl Journal {
    /// Makes a push durable that has succeeded.
    pub fn begin(&self, id: &ArtifactId, stamp: &Stamp, content: &[u8]) -> io::Result<()> {
        self.admit(
            Record::new(id, stamp, false),
            Bytes::copy_from_slice(content),
        )?;
        self.write(stamp.when)?;
        self.end(stamp.when, None)
    }

    /// Makes a deletion durable that has succeeded.
    pub fn begin_deletion(&self, id: &ArtifactId, stamp: &Stamp) -> io::Result<()> {
        self.admit(Record::new(id, stamp, true), Bytes::new())?;
        self.write(stamp.when)?;
        self.end(stamp.when, None)
    }

    /// Marks a push as failed.
    pub fn fail(&self, when: u64, reason: &str) -> io::Result<()> {
        self.end(when, Some(reason))
    }

    fn end(&self, when: u64, failed: Option<&str>) -> io::Result<()> {
        assert!(self.decide(when, failed));
        self.mark(when)
    }
}
