//! The journal: every push and every deletion, durable on this machine before the first target sees
//! it, until every target has it; and the bytes of the pushes that failed.
//!
//! Each entry is a file, named by its stamp, so that no entry can damage another:
//!
//! ```text
//! <checksum> {"failed":…,"decided":false}                       padded with blanks to 512 bytes
//! <checksum> {"repo":"app","artifact":"schema","time":…,"size":…,"sha256":…,"format":…,
//!             "deletes":false,"registry":"<id>","targets":["<id>",…]}
//! <size bytes of content>
//! <checksum> {"got":"<id>"}
//! ```
//!
//! It names the stores that it is for by their ids, for URLs and mount points can lead to other
//! stores later. A deletion has no content. A file is written under a temporary name and renamed when it is on
//! disk, so an entry is complete or absent.
//!
//! An entry is born undecided. The verdict overwrites its first line, in place: that needs no room,
//! and a disk writes one sector completely or not at all. `{"failed":null}` is a success that some
//! target may miss, `{"failed":"…"}` a failure whose bytes are kept. The verdict is set in memory
//! first, so an entry that is still being written at that time is created with it.
//!
//! If the mount ends before the verdict is on disk, the entry is in doubt, and counts as failed until
//! the targets have told whether it was made. A verdict that a hung disk has not taken can thus cost
//! a question to a target, and never makes a push that has failed.
//!
//! Lines are appended later. A crash may tear the last one, which then counts as never written:
//! applying a push to a target twice has the effect of once.

mod line;
mod opening;
mod record;
mod writing;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};

use super::lock;
use super::room::Room;
use crate::model::{ArtifactId, Base, Lineage, Stamp};

pub use line::{cut_line, line, read_line};
pub use opening::{Damaged, take_over};
pub use record::Record;
#[cfg(test)]
pub(crate) use record::fail_reads;
use record::parse;

/// The journal of one mount.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    /// How many bytes of content it may hold.
    capacity: u64,
    /// The reason why nothing can be written to it, if there is one.
    closed: Option<String>,
    room: Room,
    state: Mutex<JournalState>,
    /// The bytes of each entry that a power cut leaves.
    #[cfg(test)]
    durable: Mutex<BTreeMap<u64, Vec<u8>>>,
}

/// The state of the journal. Locked for bookkeeping only, never during disk access.
#[derive(Debug, Default)]
struct JournalState {
    records: BTreeMap<u64, Record>,
    writing: BTreeMap<u64, Writing>,
    /// The files that could not be read, each with the reason.
    unread: BTreeMap<PathBuf, String>,
    /// The paths of damaged files, by their names.
    damaged: BTreeMap<String, PathBuf>,
}

/// An entry on its way to the disk.
#[derive(Debug)]
struct Writing {
    record: Record,
    content: Bytes,
    /// Its file, once all of it is written.
    file: Option<Arc<File>>,
}

impl JournalState {
    fn bytes(&self) -> u64 {
        let writing = self.writing.values().map(|writing| &writing.record);
        let all = self.records.values().chain(writing);
        all.map(|record| record.stamp.size).sum()
    }

    /// Returns the failed pushes whose bytes are not on disk yet.
    fn kept_in_memory(&self) -> impl Iterator<Item = &Writing> {
        let writing = self.writing.iter();
        let kept = writing.filter(|(when, writing)| {
            let record = &writing.record;
            record.failed.is_some() && !record.deletes && !self.records.contains_key(when)
        });
        kept.map(|(_, writing)| writing)
    }
}

impl Journal {
    /// Records that a target has a push. If a crash loses that, replay applies the push once more.
    pub fn got(&self, when: u64, target: &str) {
        let got = json!({ "got": target });
        self.note(when, &got, |record| record.got.insert(target.to_owned()));
    }

    /// Records that a target has the content of a conflict as a version.
    pub fn got_version(&self, when: u64, target: &str) {
        let got = json!({ "version": target });
        self.note(when, &got, |it| it.versions.insert(target.to_owned()));
    }

    /// Ends an acknowledged push that conflicts with the registry's content. Its bytes are kept until a
    /// person pushes or removes them.
    pub fn conflict(&self, when: u64, reason: &str) {
        self.decide(when, Some(reason));
        self.note(when, &json!({ "conflict": true }), |record| {
            !std::mem::replace(&mut record.conflicts, true)
        });
        if let Err(error) = self.keep(when) {
            tracing::warn!("can't journal a conflict: {error}");
        }
    }

    /// Appends to an entry's file what is news about it.
    fn note(&self, when: u64, news: &Value, is_news: impl FnOnce(&mut Record) -> bool) {
        let is_news = lock(&self.state)
            .records
            .get_mut(&when)
            .is_some_and(is_news);
        if is_news && let Err(error) = record::append(&self.path(when), &line(news)) {
            tracing::warn!("can't record {news} in the journal: {error}");
        }
    }

    /// Removes an entry: every target has it, something newer has replaced it, or a user removes
    /// it.
    ///
    /// # Errors
    ///
    /// The I/O error, `NotFound` if there is no such entry.
    pub fn remove(&self, when: u64) -> io::Result<()> {
        let (removed, on_its_way) = {
            let mut state = lock(&self.state);
            (state.records.remove(&when), state.writing.remove(&when))
        };
        let gone = fs::remove_file(self.path(when));
        match (removed, gone) {
            // The entry is still being written; its writer will find it removed.
            (None, Err(error)) if on_its_way.is_some() && is_gone(&error) => Ok(()),
            (Some(record), Err(error)) if !is_gone(&error) => {
                lock(&self.state).records.insert(when, record);
                Err(error)
            }
            (_, gone) => gone,
        }
    }

    /// Removes a push that every target has.
    pub fn settle(&self, id: &ArtifactId, when: u64) {
        match self.remove(when) {
            Err(error) if !is_gone(&error) => {
                tracing::warn!("can't remove a record of {id} from the journal: {error}");
            }
            _ => {}
        }
    }

    /// Returns the entries that a predicate chooses, oldest first.
    pub fn select(&self, chosen: impl Fn(&Record) -> bool) -> Vec<Record> {
        let state = lock(&self.state);
        let kept = state.kept_in_memory().map(|writing| &writing.record);
        let chosen = state
            .records
            .values()
            .chain(kept)
            .filter(|&record| chosen(record));
        let mut chosen: Vec<Record> = chosen.cloned().collect();
        chosen.sort_by_key(|record| record.stamp.when);
        chosen
    }

    /// Removes entries that a success makes pointless: the pending ones of the artifact, which are all
    /// older whatever their times say, failed pushes of the same bytes, and conflicts that every target
    /// keeps as a version. Returns the pending pushes that were not replaced, and that the registry has
    /// missed: they are conflicts.
    pub fn supersede(
        &self,
        id: &ArtifactId,
        by: &Stamp,
        replaces: Option<&Lineage>,
        is_registry: impl Fn(&str) -> bool,
    ) -> Vec<Record> {
        let pointless = self.select(|record| {
            record.id == *id
                && match record.failed {
                    None => record.stamp.when != by.when,
                    Some(_) if record.stamp == *by => false,
                    Some(_) => record.stamp.sha256 == by.sha256 || record.is_kept_elsewhere(),
                }
        });
        let (apart, pointless): (Vec<_>, Vec<_>) = pointless.into_iter().partition(|record| {
            let sha256 = record.stamp.sha256;
            let is_replaced = sha256 == by.sha256 || replaces.is_some_and(|it| it.holds(sha256));
            let is_settled = record.deletes || record.got.iter().any(|store| is_registry(store));
            // Stamps of earlier versions name no base.
            let is_known = record.stamp.base != Base::Unknown && by.base != Base::Unknown;
            record.is_acknowledged() && is_known && !is_replaced && !is_settled
        });
        pointless.iter().for_each(|record| self.outdate(record));
        apart
    }

    /// Ends an entry that something newer has replaced. An acknowledged push stays until every target has
    /// its version; once one has it, it stays only while half of the journal is free. Reconcile gives
    /// it to the others.
    pub fn outdate(&self, record: &Record) {
        let has_room = self.bytes() <= self.capacity / 2;
        let is_missing = !record.targets.is_subset(&record.versions) && has_room;
        let is_push = record.makes_version() && record.decided && record.failed.is_none();
        match is_push && (is_missing || record.versions.is_empty()) {
            true => self.note(record.stamp.when, &json!({ "outdated": true }), |record| {
                !std::mem::replace(&mut record.outdated, true)
            }),
            false => self.settle(&record.id, record.stamp.when),
        }
    }

    /// Adds the contents that pending pushes of an artifact replaced to a lineage: targets that miss
    /// such a push still hold one of them.
    pub fn extended(&self, id: &ArtifactId, lineage: Option<Lineage>) -> Option<Lineage> {
        let mut lineage = lineage?;
        let mut pending = self.select(|record| record.id == *id && record.failed.is_none());
        pending.sort_by_key(|record| std::cmp::Reverse(record.stamp.when));
        for replaced in pending {
            if lineage.holds(replaced.stamp.sha256)
                && let Some(replaces) = replaced.replaces
            {
                lineage.extend([replaces.sha256]);
                lineage.extend(replaces.past);
            }
        }
        Some(lineage)
    }

    /// Returns the failed pushes, oldest first.
    pub fn failed(&self) -> Vec<Record> {
        self.select(|record| record.failed.is_some() && !record.deletes)
    }

    /// Returns the pushes and deletions that some target may be missing, oldest first, including
    /// those under way.
    pub fn pending(&self) -> Vec<Record> {
        self.select(|record| record.failed.is_none() && !record.outdated)
    }

    /// Returns the pushes and deletions whose mount ended before they were decided, oldest first.
    pub fn in_doubt(&self) -> Vec<Record> {
        self.select(Record::is_in_doubt)
    }

    /// Returns the entry of a push or deletion.
    pub fn find(&self, when: u64) -> Option<Record> {
        lock(&self.state).records.get(&when).cloned()
    }

    /// Reads the content of a push.
    ///
    /// # Errors
    ///
    /// The I/O error, `NotFound` if there is no such push, `InvalidData` if the disk returns other
    /// bytes than were written.
    pub fn content(&self, when: u64) -> io::Result<Bytes> {
        let kept = |state: &JournalState| {
            let mut kept = state.kept_in_memory();
            let found = kept.find(|writing| writing.record.stamp.when == when)?;
            Some(found.content.clone())
        };
        if let Some(content) = kept(&lock(&self.state)) {
            return Ok(content);
        }
        let bytes = record::read(&self.path(when))?;
        let parsed = parse(&bytes);
        let (_, content) = parsed.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Bytes::copy_from_slice(content))
    }

    /// Returns how many bytes of content the journal holds.
    pub fn bytes(&self) -> u64 {
        lock(&self.state).bytes()
    }

    /// Records that an entry is on disk as far as it is written.
    #[cfg(test)]
    fn is_durable(&self, when: u64) {
        let bytes = fs::read(self.path(when)).unwrap_or_default();
        lock(&self.durable).insert(when, bytes);
    }

    /// Returns the files of the journal that a power cut would leave, and their bytes.
    #[cfg(test)]
    pub(crate) fn after_power_cut(&self) -> BTreeMap<String, Vec<u8>> {
        let durable = lock(&self.durable);
        let durable = durable.iter();
        durable
            .map(|(when, bytes)| (name(*when), bytes.clone()))
            .collect()
    }

    fn path(&self, when: u64) -> PathBuf {
        self.dir.join(name(when))
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn name(when: u64) -> String {
    format!("{when:020}")
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "journal/verdict_tests.rs"]
mod verdict_tests;

#[cfg(test)]
#[path = "journal/opening_tests.rs"]
mod opening_tests;
