//! The journal: every push, durable on this machine before the first target sees it, until every
//! target has it; and the bytes of those that failed.
//!
//! One file a record, named by its stamp, so that no record can damage another:
//!
//! ```text
//! <checksum> {"repo":"app","artifact":"schema","time":…,"size":…,"sha256":…,"format":…}
//! <size bytes of content>
//! <checksum> {"got":"s3://…"}
//! <checksum> {"failed":"…"}
//! ```
//!
//! The head and the content get their name by a rename when they are on disk, whole or not at all.
//! Lines are appended later; the last one may be torn by a crash, and is then as if never written:
//! a target that is given a push twice has it once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;
use serde_json::{Value, json};

use super::lock;
use crate::artifact::{
    ArtifactId, Item, PlanName, RepoName, Sha256, Stamp, when_from_text, when_to_text,
};

/// Where damaged records are set aside, within the journal's directory.
const DAMAGED: &str = "damaged";

/// How many bytes the lines of a record may take, the head and those appended: thousands of them.
const LINES: u64 = 1 << 20;

/// How many hexadecimal digits of a line's SHA-256 stand before it.
const CHECKSUM: usize = 16;

/// One push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The artifact.
    pub id: ArtifactId,
    /// What is known of the content that it is to have.
    pub stamp: Stamp,
    /// The URLs of the targets that have got it.
    pub got: BTreeSet<String>,
    /// Why it failed, if its close has said so.
    pub failed: Option<String>,
}

impl Record {
    /// Returns where the bytes of a failed push are below `.atlasfs/unpushed`: the artifact's key,
    /// `@` and the time, `app/schema@20240910T173744.000000001Z`.
    pub fn path(&self) -> String {
        let time = when_to_text(self.stamp.when).replace(['-', ':'], "");
        format!("{}@{time}", self.id)
    }
}

/// The journal of one mount.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    /// How many bytes of content it may hold.
    capacity: u64,
    state: Mutex<State>,
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
            if path.extension().is_some_and(|suffix| suffix == "tmp") {
                // Not yet a record when the machine stopped: its close was never answered.
                fs::remove_file(&path)?;
                continue;
            }
            let bytes = read(&path).unwrap_or_default();
            match parse(&bytes) {
                // Under another name it could be neither read nor removed again.
                Some((record, _)) if path.ends_with(name(record.stamp.when)) => {
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
        };
        Ok((journal, damaged))
    }

    /// Makes a push durable, before any target sees it.
    ///
    /// # Errors
    ///
    /// The I/O error; [`io::ErrorKind::StorageFull`] also where the journal holds as much as it
    /// may. Then nothing is left of it.
    pub fn begin(&self, id: &ArtifactId, stamp: &Stamp, content: &[u8]) -> io::Result<()> {
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
        let record = Record {
            id: id.clone(),
            stamp: *stamp,
            got: BTreeSet::new(),
            failed: None,
        };
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
        let written = File::create(&staging).and_then(|mut file| {
            file.write_all(line(&head(record)).as_bytes())?;
            file.write_all(content)?;
            file.write_all(b"\n")?;
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

    /// Removes what a success makes pointless: older pushes of the artifact that are still owed,
    /// and failed ones of the same bytes.
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
        let bytes = fs::read(self.path(when))?;
        let parsed = parse(&bytes);
        let (_, content) = parsed.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Bytes::copy_from_slice(content))
    }

    /// Returns how many bytes of content the journal holds.
    pub fn bytes(&self) -> u64 {
        lock(&self.state).bytes()
    }

    fn append(&self, when: u64, value: &Value, durably: bool) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.path(when))?;
        file.write_all(line(value).as_bytes())?;
        match durably {
            true => file.sync_data(),
            false => Ok(()),
        }
    }

    fn path(&self, when: u64) -> PathBuf {
        self.dir.join(name(when))
    }
}

fn name(when: u64) -> String {
    format!("{when:020}")
}

/// Reads as much of a file as a record with such a head can have.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = BufReader::new(File::open(path)?).take(LINES);
    file.read_until(b'\n', &mut bytes)?;
    let size = read_line(&bytes).and_then(|(head, _)| head.get("size")?.as_u64());
    file.set_limit(size.unwrap_or_default().saturating_add(LINES));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Cuts off a last line that a crash has torn, or the next one would be part of it.
fn cut_torn_end(path: &Path, bytes: &[u8]) {
    let end = bytes.iter().rposition(|&byte| byte == b'\n');
    let whole = end.map_or(0, |end| end + 1);
    if whole < bytes.len() {
        let file = OpenOptions::new().write(true).open(path);
        if let Err(error) = file.and_then(|file| file.set_len(whole as u64)) {
            tracing::warn!("can't mend {}: {error}", path.display());
        }
    }
}

fn head(record: &Record) -> Value {
    json!({
        "repo": record.id.repo.as_str(),
        "artifact": record.id.item.to_string(),
        "time": when_to_text(record.stamp.when),
        "size": record.stamp.size,
        "sha256": record.stamp.sha256.to_string(),
        "format": record.stamp.format.as_str(),
    })
}

/// Writes a line with its checksum before it.
pub(super) fn line(value: &Value) -> String {
    let text = value.to_string();
    format!("{} {text}\n", checksum(text.as_bytes()))
}

fn checksum(text: &[u8]) -> String {
    let mut digits = Sha256::of(text).to_string();
    digits.truncate(CHECKSUM);
    digits
}

/// Reads the line that `bytes` begin with; returns it and what follows.
pub(super) fn read_line(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let (text, rest) = (bytes.get(..end)?, bytes.get(end + 1..)?);
    let sum = text.get(..CHECKSUM)?;
    let text = text.get(CHECKSUM..)?.strip_prefix(b" ")?;
    match checksum(text).as_bytes() == sum {
        true => Some((serde_json::from_slice(text).ok()?, rest)),
        false => None,
    }
}

/// Reads a record and its content; `None` if either is damaged. A torn line at the end is not.
fn parse(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (head, rest) = read_line(bytes)?;
    let text = |key: &str| head.get(key).and_then(Value::as_str);
    let item = match text("artifact")?.split_once('/') {
        None => Item::Schema,
        Some((_, name)) => Item::Plan(PlanName::parse(name).ok()?),
    };
    let size = head.get("size").and_then(Value::as_u64)?;
    let content = rest.get(..usize::try_from(size).ok()?)?;
    let stamp = Stamp {
        when: when_from_text(text("time")?)?,
        sha256: text("sha256")?.parse().ok()?,
        size,
        format: text("format")?.parse().ok()?,
    };
    if !stamp.matches(content) {
        return None;
    }
    let mut record = Record {
        id: ArtifactId {
            repo: RepoName::parse(text("repo")?).ok()?,
            item,
        },
        stamp,
        got: BTreeSet::new(),
        failed: None,
    };
    let mut lines = rest.get(content.len()..)?.strip_prefix(b"\n")?;
    while let Some((line, rest)) = read_line(lines) {
        if let Some(target) = line.get("got").and_then(Value::as_str) {
            record.got.insert(target.into());
        }
        if let Some(reason) = line.get("failed").and_then(Value::as_str) {
            record.failed = Some(reason.into());
        }
        lines = rest;
    }
    // What is no line and yet has an end was not torn: it may have said that the push has failed.
    (!lines.contains(&b'\n')).then_some((record, content))
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
