//! The journal: every push and every deletion, durable on this machine before the first target sees
//! it, until every target has it; and the bytes of the pushes that failed.
//!
//! One file a record, named by its stamp, so that no record can damage another:
//!
//! ```text
//! <checksum> {"repo":"app","artifact":"schema","time":…,"size":…,"sha256":…,"format":…,
//!             "deletes":false}
//! <size bytes of content>
//! <checksum> {"got":"s3://…"}
//! <checksum> {"failed":"…"}
//! ```
//!
//! A deletion has no content.
//!
//! The head and the content get their name by a rename when they are on disk, whole or not at all.
//! Lines are appended later; the last one may be torn by a crash, and is then as if never written:
//! a target that is given a push twice has it once.

mod file;
mod line;
mod record;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;
use serde_json::{Value, json};

use super::lock;
use crate::artifact::{ArtifactId, Stamp};
use crate::dir::open_regular;
#[cfg(test)]
use crate::planted::{Bug, planted};

use file::{cut_torn_end, read};
pub use line::{line, read_line};
pub use record::Record;
use record::{head, parse};

/// Where damaged records are set aside, within the journal's directory.
const DAMAGED: &str = "damaged";

/// The journal of one mount.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    /// How many bytes of content it may hold.
    capacity: u64,
    state: Mutex<State>,
    /// How much of each record a power cut leaves, in bytes.
    #[cfg(test)]
    durable: Mutex<BTreeMap<u64, u64>>,
}

/// What the journal holds. Locked for bookkeeping only, never while the disk is waited for.
#[derive(Debug, Default)]
struct State {
    records: BTreeMap<u64, Record>,
    /// Bytes of pushes that are being written.
    reserved: u64,
}

impl State {
    fn bytes(&self) -> u64 {
        let records = self.records.values();
        records.map(|record| record.stamp.size).sum::<u64>() + self.reserved
    }
}

impl Journal {
    /// Opens the journal in `dir`, with what earlier mounts have left there, and sets damaged
    /// records aside; their names come back with it.
    ///
    /// # Errors
    ///
    /// The I/O error if the directory can't be made, read or written.
    pub fn open(dir: PathBuf, capacity: u64) -> io::Result<(Self, Vec<PathBuf>)> {
        let damaged_dir = dir.join(DAMAGED);
        fs::create_dir_all(&damaged_dir)?;
        let mut records = BTreeMap::new();
        let mut damaged = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                // The place of the damaged ones, or a stranger's.
                continue;
            }
            if is_unfinished(&path) {
                // Not yet a record when the machine stopped: its close was never answered.
                fs::remove_file(&path)?;
                continue;
            }
            let bytes = read(&path).unwrap_or_default();
            match parse(&bytes) {
                // Under another name it could be neither read nor removed again.
                Some((record, _)) if path.ends_with(name(record.stamp.when)) => {
                    if record.deletes && record.failed.is_some() {
                        // It was to be removed, and the disk has not heard of that.
                        fs::remove_file(&path)?;
                        continue;
                    }
                    cut_torn_end(&path, &bytes);
                    records.insert(record.stamp.when, record);
                }
                _ => {
                    let aside = damaged_dir.join(path.file_name().unwrap_or_default());
                    fs::rename(&path, &aside)?;
                    damaged.push(aside);
                }
            }
        }
        let journal = Self {
            dir,
            capacity,
            state: Mutex::new(State {
                records,
                reserved: 0,
            }),
            #[cfg(test)]
            durable: Mutex::default(),
        };
        #[cfg(test)]
        for record in journal.select(|_| true) {
            journal.is_durable(record.stamp.when);
        }
        Ok((journal, damaged))
    }

    /// Makes a push durable, before any target sees it.
    ///
    /// # Errors
    ///
    /// The I/O error; [`io::ErrorKind::StorageFull`] also where the journal holds as much as it
    /// may. Then nothing is left of it.
    pub fn begin(&self, id: &ArtifactId, stamp: &Stamp, content: &[u8]) -> io::Result<()> {
        self.add(Record::new(id, stamp, false), content)
    }

    /// Makes a deletion durable, before any target sees it.
    ///
    /// # Errors
    ///
    /// As [`Self::begin`].
    pub fn begin_deletion(&self, id: &ArtifactId, stamp: &Stamp) -> io::Result<()> {
        self.add(Record::new(id, stamp, true), b"")
    }

    fn add(&self, record: Record, content: &[u8]) -> io::Result<()> {
        let stamp = record.stamp;
        {
            let mut state = lock(&self.state);
            let held = state.bytes();
            if held + stamp.size > self.capacity {
                let capacity = self.capacity;
                let message = format!("the journal holds {held} bytes and may hold {capacity}");
                return Err(io::Error::new(io::ErrorKind::StorageFull, message));
            }
            state.reserved += stamp.size;
        }
        let written = self.write(&record, content);
        let mut state = lock(&self.state);
        state.reserved -= stamp.size;
        written?;
        state.records.insert(stamp.when, record);
        Ok(())
    }

    fn write(&self, record: &Record, content: &[u8]) -> io::Result<()> {
        let place = self.path(record.stamp.when);
        let staging = place.with_extension("tmp");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = open_regular(&mut options, &staging).and_then(|mut file| {
            file.write_all(line(&head(record)).as_bytes())?;
            file.write_all(content)?;
            file.write_all(b"\n")?;
            #[cfg(test)]
            if planted(Bug::NoSync) {
                return Ok(());
            }
            file.sync_all()
        });
        let kept = written
            .and_then(|()| fs::rename(&staging, &place))
            .and_then(|()| File::open(&self.dir)?.sync_all());
        if kept.is_err() {
            // A full disk: what was written of it must not take the room of the next one.
            let _ = fs::remove_file(&staging);
            let _ = fs::remove_file(&place);
        }
        #[cfg(test)]
        if kept.is_ok() && !planted(Bug::NoSync) {
            self.is_durable(record.stamp.when);
        }
        kept
    }

    /// Takes note that a target has got a push. If that is lost in a crash, the target is given
    /// it once more.
    pub fn got(&self, when: u64, target: &str) {
        let is_news = lock(&self.state)
            .records
            .get_mut(&when)
            .is_some_and(|record| record.got.insert(target.to_owned()));
        if is_news && let Err(error) = self.append(when, &json!({ "got": target }), false) {
            tracing::warn!("can't write to the journal that {target} has got a push: {error}");
        }
    }

    /// Takes note that a push has failed, and that its close says so: it is kept, and not given
    /// to any target any more.
    ///
    /// # Errors
    ///
    /// The I/O error; then a crash would make an unfinished push of it.
    pub fn fail(&self, when: u64, reason: &str) -> io::Result<()> {
        match lock(&self.state).records.get_mut(&when) {
            Some(record) => record.failed = Some(reason.to_owned()),
            None => return Ok(()),
        }
        self.append(when, &json!({ "failed": reason }), true)
    }

    /// Keeps the bytes of a push that has failed, whether it got as far as the journal or not, and
    /// returns their path below `.atlasfs/unpushed`. The same bytes are kept once.
    ///
    /// # Errors
    ///
    /// The I/O error.
    pub fn keep(
        &self,
        id: &ArtifactId,
        stamp: &Stamp,
        content: &[u8],
        reason: &str,
    ) -> io::Result<String> {
        if !lock(&self.state).records.contains_key(&stamp.when) {
            self.begin(id, stamp, content)?;
        }
        self.fail(stamp.when, reason)?;
        let twins = self.select(|record| {
            record.id == *id
                && record.failed.is_some()
                && record.stamp.sha256 == stamp.sha256
                && record.stamp.when != stamp.when
        });
        twins
            .iter()
            .for_each(|twin| self.settle(id, twin.stamp.when));
        let kept = self.select(|record| record.stamp.when == stamp.when);
        Ok(kept.first().map(Record::path).unwrap_or_default())
    }

    /// Removes a record: every target has it, something newer has taken its place, or somebody
    /// wants it gone.
    ///
    /// # Errors
    ///
    /// The I/O error, `NotFound` if there is no such record.
    pub fn remove(&self, when: u64) -> io::Result<()> {
        let removed = lock(&self.state).records.remove(&when);
        let gone = fs::remove_file(self.path(when));
        if let (Some(record), Err(error)) = (removed, &gone)
            && error.kind() != io::ErrorKind::NotFound
        {
            lock(&self.state).records.insert(when, record);
        }
        gone
    }

    /// Removes a deletion that has failed, so that no power cut brings it back: who was told that
    /// nothing is deleted must not find it deleted later.
    pub fn abandon(&self, id: &ArtifactId, when: u64) {
        if let Err(error) = self.fail(when, "it was not carried out") {
            tracing::warn!("can't write to the journal that deleting {id} has failed: {error}");
        }
        self.settle(id, when);
    }

    /// Removes a push that every target has.
    pub fn settle(&self, id: &ArtifactId, when: u64) {
        match self.remove(when) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("can't remove a record of {id} from the journal: {error}");
            }
            _ => {}
        }
    }

    /// Returns the records that some predicate chooses, oldest first.
    pub fn select(&self, chosen: impl Fn(&Record) -> bool) -> Vec<Record> {
        let state = lock(&self.state);
        state
            .records
            .values()
            .filter(|record| chosen(record))
            .cloned()
            .collect()
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
        self.select(|record| record.failed.is_some())
    }

    /// Returns the pushes that some target may not have got, oldest first.
    pub fn owed(&self) -> Vec<Record> {
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
        let bytes = read(&self.path(when))?;
        let parsed = parse(&bytes);
        let (_, content) = parsed.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Bytes::copy_from_slice(content))
    }

    /// Returns how many bytes of content the journal holds.
    pub fn bytes(&self) -> u64 {
        lock(&self.state).bytes()
    }

    fn append(&self, when: u64, value: &Value, durably: bool) -> io::Result<()> {
        let mut file = open_regular(OpenOptions::new().append(true), &self.path(when))?;
        file.write_all(line(value).as_bytes())?;
        if durably {
            file.sync_data()?;
            #[cfg(test)]
            self.is_durable(when);
        }
        Ok(())
    }

    /// Takes note that a record is on disk as far as it is written.
    #[cfg(test)]
    fn is_durable(&self, when: u64) {
        let length = fs::metadata(self.path(when)).map_or(0, |meta| meta.len());
        lock(&self.durable).insert(when, length);
    }

    /// Returns what a power cut would leave of the journal: the names of its files and their
    /// lengths in bytes.
    #[cfg(test)]
    pub(crate) fn after_power_cut(&self) -> BTreeMap<String, u64> {
        let durable = lock(&self.durable);
        let durable = durable.iter();
        durable
            .map(|(when, length)| (format!("{when:020}"), *length))
            .collect()
    }

    fn path(&self, when: u64) -> PathBuf {
        self.dir.join(name(when))
    }
}

fn name(when: u64) -> String {
    format!("{when:020}")
}

/// Tells whether a path is that of a record which was not whole yet.
fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let digits = name.and_then(|name| name.strip_suffix(".tmp"));
    digits.is_some_and(|digits| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
