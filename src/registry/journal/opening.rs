//! Opening the journal of an earlier mount. A disk error is not damage: the file stays in place,
//! and is read again later. Damaged files are set aside until a user removes them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

use bytes::Bytes;

use super::record::{Record, cut_torn_end, parse, read};
use super::{Journal, JournalState, is_gone, lock, name};
use crate::registry::room::{Room, is_full};

/// The folder for damaged files, within the journal's directory.
pub(super) const DAMAGED: &str = "damaged";

/// The pauses between the tries, before a disk error is accepted. Most errors pass at once: no
/// descriptor was free, or no memory.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];

/// A file of the journal whose content is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its name, which it also has below `.atlasfs/unpushed/damaged`.
    pub name: String,
    /// Its path.
    pub file: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

/// A file of the journal that could not be read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Its path.
    pub file: PathBuf,
    /// The reason why it could not be read.
    pub reason: String,
}

/// The outcome of reading a file.
enum Found {
    Nothing,
    Record(Box<Record>),
    Damaged(PathBuf),
}

impl Journal {
    /// Opens the journal in `dir` with the entries of earlier mounts, and sets damaged files aside.
    /// Returns the journal, and the files that were set aside now.
    ///
    /// # Errors
    ///
    /// The I/O error if the directory can't be made or listed. A full disk is no error, nor is a
    /// file that can't be read.
    pub fn open(dir: PathBuf, capacity: u64) -> io::Result<(Self, Vec<PathBuf>)> {
        let journal = Self::new(dir, capacity, None);
        match fs::create_dir_all(&journal.dir) {
            Err(error) if is_full(&error) => {}
            made => made?,
        }
        let aside = journal.dir.join(DAMAGED);
        for file in patiently(|| files(&aside))? {
            lock(&journal.state).is_damaged(file);
        }
        let mut damaged = Vec::new();
        for file in patiently(|| files(&journal.dir))? {
            if let Found::Damaged(aside) = journal.take_in(&file) {
                damaged.push(aside);
            }
        }
        #[cfg(test)]
        for record in journal.select(|_| true) {
            journal.is_durable(record.stamp.when);
        }
        journal.outdate_replaced();
        Ok((journal, damaged))
    }

    /// Ends the entries that a later one has replaced. They were ended before, but a power cut can
    /// undo that: only entries and verdicts are synced.
    fn outdate_replaced(&self) {
        let pending = self.select(Record::is_acknowledged);
        let is_replaced = |old: &&Record| {
            pending.iter().any(|new| {
                let replaces = new.replaces.as_ref();
                new.id == old.id
                    && new.stamp.when > old.stamp.when
                    && replaces.is_some_and(|it| it.holds(old.stamp.sha256))
            })
        };
        let replaced = pending.iter().filter(is_replaced);
        replaced.for_each(|record| self.outdate(record));
    }

    /// Makes a journal that never holds an entry, for the given reason.
    pub fn closed(dir: PathBuf, reason: String) -> Self {
        Self::new(dir, 0, Some(reason))
    }

    fn new(dir: PathBuf, capacity: u64, closed: Option<String>) -> Self {
        Self {
            dir,
            capacity,
            closed,
            room: Room::default(),
            state: Mutex::default(),
            #[cfg(test)]
            durable: Mutex::default(),
        }
    }

    /// Makes the journal free space through `room` when the disk is full.
    #[must_use]
    pub fn with_room(self, room: Room) -> Self {
        Self { room, ..self }
    }

    /// Reads a file of an earlier mount.
    fn take_in(&self, file: &Path) -> Found {
        let read = patiently(|| match read(file) {
            Err(error) if is_gone(&error) => Ok(None),
            read => read.map(Some),
        });
        let bytes = match read {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                lock(&self.state).unread.remove(file);
                return Found::Nothing;
            }
            Err(error) => return self.is_unread(file, &error),
        };
        lock(&self.state).unread.remove(file);
        let record = parse(&bytes).map(|(record, _)| record);
        match record {
            // A failed deletion leaves no entry, but its removal did not reach the disk.
            Some(record) if record.deletes && record.failed.is_some() && record.decided => {
                self.sweep(file)
            }
            Some(record) if is_temporary(file) => {
                let place = self.path(record.stamp.when);
                let is_own = place.with_extension("tmp") == file;
                if record.deletes || !is_own {
                    return self.sweep(file);
                }
                match fs::rename(file, &place) {
                    Ok(()) => self.found(record),
                    Err(error) => self.is_unread(file, &error),
                }
            }
            // Not yet an entry when the machine stopped: its close was never answered.
            None if is_temporary(file) => self.sweep(file),
            // Under another name, the journal could neither read nor remove it later.
            Some(record) if file.ends_with(name(record.stamp.when)) => {
                cut_torn_end(file, &bytes);
                self.found(record)
            }
            _ => Found::Damaged(self.set_aside(file)),
        }
    }

    fn is_unread(&self, file: &Path, why: &io::Error) -> Found {
        let mut state = lock(&self.state);
        state.unread.insert(file.into(), why.to_string());
        Found::Nothing
    }

    fn found(&self, record: Record) -> Found {
        let mut state = lock(&self.state);
        state.records.insert(record.stamp.when, record.clone());
        Found::Record(Box::new(record))
    }

    fn sweep(&self, file: &Path) -> Found {
        if let Err(error) = fs::remove_file(file) {
            tracing::warn!("can't remove {}: {error}", file.display());
        }
        Found::Nothing
    }

    /// Sets a damaged file aside and returns its path: the old one if it can't be moved.
    fn set_aside(&self, file: &Path) -> PathBuf {
        let dir = self.dir.join(DAMAGED);
        let name = file.file_name().unwrap_or_default().to_owned();
        // An earlier damaged file may have the same name.
        let names = (0..).map(|number| match number {
            0 => name.clone(),
            number => {
                let mut name = name.clone();
                name.push(format!(".{number}"));
                name
            }
        });
        let mut places = names.map(|name| dir.join(name));
        let place = places.find(|place| fs::symlink_metadata(place).is_err());
        let place = place.unwrap_or_else(|| dir.join(&name));
        let moved = fs::create_dir_all(&dir).and_then(|()| fs::rename(file, &place));
        let aside = match moved {
            Ok(()) => place,
            Err(error) => {
                tracing::warn!("can't set {} aside: {error}", file.display());
                file.to_owned()
            }
        };
        lock(&self.state).is_damaged(aside.clone());
        aside
    }

    /// Retries the files that could not be read so far. Returns the entries found, and the damaged
    /// files.
    pub fn read_again(&self) -> (Vec<Record>, Vec<PathBuf>) {
        let unread: Vec<PathBuf> = lock(&self.state).unread.keys().cloned().collect();
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        for file in unread {
            match self.take_in(&file) {
                Found::Nothing => {}
                Found::Record(record) => records.push(*record),
                Found::Damaged(aside) => damaged.push(aside),
            }
        }
        (records, damaged)
    }

    /// Returns the files that could not be read so far; for a closed journal, its directory too.
    pub fn unread(&self) -> Vec<Unread> {
        let state = lock(&self.state);
        let closed = self.closed.as_ref().map(|reason| (&self.dir, reason));
        let unread = state.unread.iter().chain(closed);
        let unread = unread.map(|(file, reason)| Unread {
            file: file.clone(),
            reason: reason.clone(),
        });
        unread.collect()
    }

    /// Tells whether some files have to be read again.
    pub fn is_to_be_read_again(&self) -> bool {
        !lock(&self.state).unread.is_empty()
    }

    /// Returns the newest time among the names of the unread files.
    pub fn newest_unread(&self) -> Option<u64> {
        let state = lock(&self.state);
        let names = state
            .unread
            .keys()
            .filter_map(|file| file.file_stem()?.to_str());
        names.filter_map(|name| name.parse().ok()).max()
    }

    /// Returns the damaged files that have not been removed yet.
    pub fn damaged(&self) -> Vec<Damaged> {
        let damaged: BTreeMap<String, PathBuf> = lock(&self.state).damaged.clone();
        let there = damaged.into_iter().filter_map(|(name, file)| {
            let size = match fs::symlink_metadata(&file) {
                Err(error) if is_gone(&error) => {
                    lock(&self.state).damaged.remove(&name);
                    return None;
                }
                meta => meta.map_or(0, |meta| meta.len()),
            };
            Some(Damaged { name, file, size })
        });
        there.collect()
    }

    /// Reads a damaged file, up to the maximum size of an entry with its head.
    ///
    /// # Errors
    ///
    /// The I/O error, `NotFound` if there is no such file.
    pub fn read_damaged(&self, name: &str) -> io::Result<Bytes> {
        Ok(read(&self.damaged_file(name)?)?.into())
    }

    /// Removes a damaged file permanently.
    ///
    /// # Errors
    ///
    /// The I/O error, `NotFound` if there is no such file.
    pub fn remove_damaged(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.damaged_file(name)?)?;
        lock(&self.state).damaged.remove(name);
        Ok(())
    }

    fn damaged_file(&self, name: &str) -> io::Result<PathBuf> {
        let file = lock(&self.state).damaged.get(name).cloned();
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl JournalState {
    fn is_damaged(&mut self, file: PathBuf) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        self.damaged.insert(name.into_owned(), file.clone());
    }
}

/// Moves the files of one journal that are to be in another one; `is_ours` decides by the entry, or
/// `None` for a file that holds none. No mount may have either journal open.
///
/// # Errors
///
/// The I/O error. The files that were not moved stay in place.
pub fn take_over(
    from: &Path,
    into: &Path,
    is_ours: impl Fn(Option<&Record>) -> bool,
) -> io::Result<()> {
    for folder in ["", DAMAGED] {
        let (from, into) = (from.join(folder), into.join(folder));
        let mut moved = false;
        for file in files(&from)? {
            let bytes = read(&file).unwrap_or_default();
            let record = parse(&bytes).map(|(record, _)| record);
            let place = into.join(file.file_name().unwrap_or_default());
            if is_ours(record.as_ref()) && fs::symlink_metadata(&place).is_err() {
                fs::rename(&file, &place)?;
                moved = true;
            }
        }
        if moved {
            // The new place first: after a crash, an entry may be in both, and is never in none.
            fs::File::open(&into)?.sync_all()?;
            fs::File::open(&from)?.sync_all()?;
        }
    }
    Ok(())
}

/// Lists the files of a directory, sorted; none if it doesn't exist. A link or a directory is
/// listed only under an entry's name: it has taken that entry's place.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::NotADirectory => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_file() || is_record(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_temporary(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "tmp")
        && is_record(&file.with_extension(""))
}

/// Tells whether a file has an entry's name.
fn is_record(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit()))
}

/// Retries a failed read after a pause.
fn patiently<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for pause in PAUSES {
        match read() {
            Err(_) => sleep(pause),
            read => return read,
        }
    }
    read()
}
