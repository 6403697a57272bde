//! The journal: every push and every deletion, durable on this machine before the first target sees
//! it, until every target has it; and the bytes of the pushes that failed.
//!
//! One file a record, named by its stamp, so that no record can damage another:
//!
//! ```text
//! <checksum> {"failed":null}                                    filled up with blanks to 512 bytes
//! <checksum> {"repo":"app","artifact":"schema","time":…,"size":…,"sha256":…,"format":…,
//!             "deletes":false}
//! <size bytes of content>
//! <checksum> {"got":"s3://…"}
//! ```
//!
//! A deletion has no content. A file is written under a temporary name and renamed when it is on
//! disk, so a record is there whole or not at all.
//!
//! A push that fails is marked in the first line, in place: that needs no room, and a disk writes
//! one sector whole or not at all. The verdict is taken in memory first, so a record that is still
//! being written by then comes into being as failed. A temporary file that is whole and marked
//! holds the bytes of a failed push; any other one belongs to a close that was never answered.
//!
//! Lines are appended later; the last one may be torn by a crash, and is then as if never written:
//! a target that is given a push twice has it once.

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
use serde_json::json;

use super::lock;
use super::room::Room;
use crate::model::{ArtifactId, Stamp};

pub use line::{cut_line, line, read_line};
pub use opening::Damaged;
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
    /// Why nothing can be written to it, if that is so.
    closed: Option<String>,
    room: Room,
    state: Mutex<State>,
    /// What a power cut leaves of each record.
    #[cfg(test)]
    durable: Mutex<BTreeMap<u64, Vec<u8>>>,
}

/// What the journal holds. Locked for bookkeeping only, never while the disk is waited for.
#[derive(Debug, Default)]
struct State {
    records: BTreeMap<u64, Record>,
    writing: BTreeMap<u64, Writing>,
    /// Why files could not be read.
    unread: BTreeMap<PathBuf, String>,
    /// Where damaged files are, by their names.
    damaged: BTreeMap<String, PathBuf>,
}

/// A record on its way to the disk.
#[derive(Debug)]
struct Writing {
    record: Record,
    content: Bytes,
    /// Its file, as soon as all of it is written.
    file: Option<Arc<File>>,
}

impl State {
    fn bytes(&self) -> u64 {
        let writing = self.writing.values().map(|writing| &writing.record);
        let all = self.records.values().chain(writing);
        all.map(|record| record.stamp.size).sum()
    }

    /// Failed pushes whose bytes are not on disk yet.
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
    /// Takes note that a target has got a push. If that is lost in a crash, the target is given
    /// it once more.
    pub fn got(&self, when: u64, target: &str) {
        let is_news = lock(&self.state)
            .records
            .get_mut(&when)
            .is_some_and(|record| record.got.insert(target.to_owned()));
        let got = line(&json!({ "got": target }));
        if is_news && let Err(error) = record::append(&self.path(when), &got) {
            tracing::warn!("can't write to the journal that {target} has got a push: {error}");
        }
    }

    /// Removes a record: every target has it, something newer has taken its place, or somebody
    /// wants it gone.
    ///
    /// # Errors
    ///
    /// The I/O error, `NotFound` if there is no such record.
    pub fn remove(&self, when: u64) -> io::Result<()> {
        let (removed, on_its_way) = {
            let mut state = lock(&self.state);
            (state.records.remove(&when), state.writing.remove(&when))
        };
        let gone = fs::remove_file(self.path(when));
        match (removed, gone) {
            // Its writer finds that nobody wants it any more.
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

    /// Returns the records that some predicate chooses, oldest first.
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

    /// Removes what a success makes pointless: what is older of the artifact and still owed, and
    /// failed pushes of the same bytes.
    pub fn supersede(&self, id: &ArtifactId, by: &Stamp) {
        let pointless = self.select(|record| {
            record.id == *id
                && match record.failed {
                    None => record.stamp.when < by.when,
                    Some(_) => record.stamp.sha256 == by.sha256 && record.stamp != *by,
                }
        });
        for record in pointless {
            if let Err(error) = self.remove(record.stamp.when) {
                tracing::warn!("can't remove a record of {id} from the journal: {error}");
            }
        }
    }

    /// Returns the failed pushes, oldest first.
    pub fn failed(&self) -> Vec<Record> {
        self.select(|record| record.failed.is_some() && !record.deletes)
    }

    /// Returns the pushes that some target may not have got, oldest first.
    pub fn pending(&self) -> Vec<Record> {
        self.select(|record| record.failed.is_none())
    }

    /// Tells whether some target may not have got a push.
    pub fn owes(&self, when: u64) -> bool {
        let state = lock(&self.state);
        let record = state.records.get(&when);
        record.is_some_and(|record| record.failed.is_none())
    }

    /// Reads the content of a push.
    ///
    /// # Errors
    ///
    /// The I/O error, `NotFound` if there is no such push, `InvalidData` if the disk gives other
    /// bytes than were written.
    pub fn content(&self, when: u64) -> io::Result<Bytes> {
        let kept = |state: &State| {
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

    /// Takes note that a record is on disk as far as it is written.
    #[cfg(test)]
    fn is_durable(&self, when: u64) {
        let bytes = fs::read(self.path(when)).unwrap_or_default();
        lock(&self.durable).insert(when, bytes);
    }

    /// Returns what a power cut would leave of the journal: its files and their bytes.
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
