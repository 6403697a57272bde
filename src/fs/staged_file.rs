//! A writer's own view of an artifact: the staging file that no reader sees.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

use bytes::Bytes;

use super::quota::Reservation;
use super::{Error, lock};
use crate::model::{ArtifactId, Format};
use crate::registry::{BaseVersion, Room};

/// Files take whole blocks of a disk.
pub(super) const BLOCK: u64 = 4096;

/// The bytes that a writer is working on, and how much of them has been pushed.
#[derive(Debug)]
pub(super) struct StagedFile {
    id: ArtifactId,
    suffix: Option<Format>,
    max_size: u64,
    /// The inode of the content that it was looked up for.
    shown: Option<u64>,
    state: Mutex<State>,
    /// Held while a push of these bytes is under way: the two flushes of a duplicated descriptor
    /// are one push.
    pub(super) turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    staging: Option<File>,
    /// What the staging file takes of this machine.
    reservation: Reservation,
    size: u64,
    time: SystemTime,
    base: BaseVersion,
    handles: u32,
    /// Counts changes.
    change: u64,
    /// The change that the last successful push included.
    pushed: u64,
    /// The change that the last failed push included.
    failed: u64,
    /// Whether anything has happened besides the truncation by opening.
    written: bool,
    /// Whether nothing has happened but that a new name was made without demanding that it be
    /// empty or new, as touch(1) does.
    touched: bool,
    /// Why a write has failed: what is here is not what the writer wanted, and is never pushed.
    broken: Option<Error>,
    /// The threads that have written since the last push, each with its process.
    writers: Vec<(u32, Option<u32>)>,
    /// The signal that has killed a writer amid its work: no close pushes what it left.
    torn: Option<i32>,
}

/// The bytes to push, and what they are to replace.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Which change they include.
    pub(super) change: u64,
    /// The bytes.
    pub(super) bytes: Bytes,
    /// What they may replace.
    pub(super) base: BaseVersion,
    /// Nothing has happened but the truncation by opening: a shell's redirection closes a
    /// duplicate before the program has written anything.
    pub(super) only_opened: bool,
    /// Nothing has happened but a touch(1) of a new name.
    pub(super) only_touched: bool,
}

/// Where a writer stands when its last handle goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Everything is pushed, or its failure was reported; or other handles are left.
    Nothing,
    /// Bytes that no close has tried to push.
    Unpushed,
    /// A truncation by opening that nothing followed.
    OnlyOpened,
    /// What a failed write has left, which is not to be pushed.
    Broken,
    /// What a killed writer has left, which is not to be pushed, but kept.
    Torn,
}

impl StagedFile {
    /// Makes a view of an artifact that has not been opened yet.
    pub(super) fn new(
        id: ArtifactId,
        suffix: Option<Format>,
        max_size: u64,
        reservation: Reservation,
        now: SystemTime,
        size: u64,
    ) -> Self {
        Self {
            id,
            suffix,
            max_size,
            shown: None,
            state: Mutex::new(State {
                staging: None,
                reservation,
                size,
                time: now,
                base: BaseVersion::default(),
                handles: 0,
                change: 0,
                pushed: 0,
                failed: 0,
                written: false,
                touched: false,
                broken: None,
                writers: Vec::new(),
                torn: None,
            }),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Shows the number of this inode to programs.
    pub(super) fn showing(self, shown: Option<u64>) -> Self {
        Self { shown, ..self }
    }

    /// Returns the number of the inode that programs are to see.
    pub(super) fn shown(&self) -> Option<u64> {
        self.shown
    }

    /// Returns the artifact.
    pub(super) fn id(&self) -> &ArtifactId {
        &self.id
    }

    /// Returns the format that the name's suffix says.
    pub(super) fn suffix(&self) -> Option<Format> {
        self.suffix
    }

    /// Tells whether a handle has been opened on it.
    pub(super) fn is_open(&self) -> bool {
        lock(&self.state).staging.is_some()
    }

    /// Tells whether there is anything that has not been pushed.
    pub(super) fn is_changed(&self) -> bool {
        let state = lock(&self.state);
        state.change != state.pushed
    }

    /// Takes note that the name has just been made by a touch(1): that alone is no empty document.
    pub(super) fn touch(&self) {
        lock(&self.state).touched = true;
    }

    /// Opens a handle. The first one sets what is there: `content`, to be replaced if it is still
    /// `base` by then. `empty`: the file is truncated, or new, which is a change already.
    pub(super) fn open(
        &self,
        staging_dir: &Path,
        room: &Room,
        base: BaseVersion,
        content: &[u8],
        empty: bool,
        now: SystemTime,
    ) -> Result<(), Error> {
        let mut state = lock(&self.state);
        if state.staging.is_none() {
            // What is cut off at once takes nothing.
            let kept = if empty { 0 } else { content.len() as u64 };
            state.reservation.resize(kept)?;
            let make = || in_staging(staging_dir, || tempfile::tempfile_in(staging_dir));
            let staging = room.find(BLOCK, make).map_err(|error| local(&error))?;
            write_in(room, &staging, content, 0)?;
            state.staging = Some(staging);
            state.size = content.len() as u64;
            state.base = base;
        }
        if empty {
            if let Some(staging) = &state.staging {
                staging.set_len(0).map_err(|error| local(&error))?;
            }
            state.reservation.resize(0)?;
            state.size = 0;
            state.time = now;
            state.change += 1;
            state.touched = false;
            state.begin_anew();
        }
        state.handles += 1;
        Ok(())
    }

    /// Takes over the bytes of a scratch file that has become the artifact, with its open handles.
    pub(super) fn adopt(
        &self,
        staging: Option<File>,
        handles: u32,
        base: BaseVersion,
        is_pushed: bool,
    ) {
        let mut state = lock(&self.state);
        state.staging = staging;
        state.handles = handles;
        state.base = base;
        if !is_pushed {
            state.change += 1;
            state.written = true;
        }
    }

    /// Closes a handle; the last one gives the staging file back. Says first what is left.
    pub(super) fn left(&self) -> Left {
        let state = lock(&self.state);
        let touched = state.touched && !state.written;
        if state.handles != 1 || state.change == state.pushed || touched {
            Left::Nothing
        } else if state.broken.is_some() {
            Left::Broken
        } else if state.change == state.failed {
            Left::Nothing
        } else if state.torn.is_some() {
            Left::Torn
        } else if !state.written && state.size == 0 {
            Left::OnlyOpened
        } else {
            Left::Unpushed
        }
    }

    /// Drops a handle.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.handles = state.handles.saturating_sub(1);
        if state.handles == 0 {
            state.staging = None;
            // To give back never fails.
            let _ = state.reservation.resize(0);
        }
    }

    /// Returns size and time as the writer sees them.
    pub(super) fn attributes(&self) -> (u64, SystemTime) {
        let state = lock(&self.state);
        (state.size, state.time)
    }

    /// Writes at an offset, or at the end.
    pub(super) fn write(
        &self,
        offset: u64,
        data: &[u8],
        append: bool,
        now: SystemTime,
        room: &Room,
    ) -> Result<u32, Error> {
        let mut state = lock(&self.state);
        let offset = if append { state.size } else { offset };
        let written = state.write(offset, data, self.max_size, room);
        state.change += 1;
        state.written = true;
        state.time = now;
        state.broken = state.broken.or(written.err());
        written?;
        u32::try_from(data.len()).map_err(|_| Error::Invalid)
    }

    /// Takes note of a thread that writes. The process that opened the file decides what becomes of
    /// it: when it writes on after another one was killed, its close is a save again.
    pub(super) fn written_by(
        &self,
        thread: u32,
        process: impl FnOnce() -> Option<u32>,
        opener: impl FnOnce() -> Option<u32>,
    ) {
        let mut state = lock(&self.state);
        let known = state.writers.iter().find(|(known, _)| *known == thread);
        let process = match known {
            Some((_, process)) => *process,
            None => {
                let process = process();
                state.writers.push((thread, process));
                process
            }
        };
        if state.torn.is_some() && process.is_some() && process == opener() {
            state.torn = None;
        }
    }

    /// Takes note that a signal has killed a process amid its work; tells whether it matters:
    /// `always`, or because the process may have written some of what is not pushed yet.
    pub(super) fn killed(&self, signal: i32, process: Option<u32>, always: bool) {
        let mut state = lock(&self.state);
        let mut writers = state.writers.iter();
        let may_be_its = |&(_, writer): &(u32, Option<u32>)| writer.is_none() || writer == process;
        if always || process.is_none() || writers.any(may_be_its) {
            state.torn = Some(signal);
        }
    }

    /// Returns the signal that has killed a writer amid its work.
    pub(super) fn torn(&self) -> Option<i32> {
        lock(&self.state).torn
    }

    /// Reads what the writer sees.
    pub(super) fn read(&self, offset: u64, size: u32) -> Result<Bytes, Error> {
        let state = lock(&self.state);
        let staging = state.staging.as_ref().ok_or(Error::BadHandle)?;
        let left = state.size.saturating_sub(offset).min(size.into());
        read_at(staging, offset, left).map_err(|error| local(&error))
    }

    /// Cuts, or extends with zeroes.
    pub(super) fn set_size(&self, size: u64, now: SystemTime) -> Result<(), Error> {
        let mut state = lock(&self.state);
        let set = state.set_size(size, self.max_size);
        // A size set on purpose is a change also where it was that already: `truncate -s 0`
        // means to push, and is told that nothing empty is pushed.
        state.change += 1;
        state.written = true;
        state.time = now;
        state.broken = match set {
            Ok(()) if size == 0 => {
                state.begin_anew();
                None
            }
            set => state.broken.or(set.err()),
        };
        set
    }

    /// Returns the bytes to push; `None` if there are none that have not been pushed.
    pub(super) fn snapshot(&self) -> Result<Option<Snapshot>, Error> {
        let state = lock(&self.state);
        if state.change == state.pushed {
            return Ok(None);
        }
        if let Some(error) = state.broken {
            return Err(error);
        }
        let staging = state.staging.as_ref().ok_or(Error::BadHandle)?;
        let bytes = read_at(staging, 0, state.size).map_err(|error| local(&error))?;
        Ok(Some(Snapshot {
            change: state.change,
            only_opened: !state.written && bytes.is_empty(),
            only_touched: !state.written && bytes.is_empty() && state.touched,
            bytes,
            base: state.base,
        }))
    }

    /// Takes note of how the push of a snapshot ended, and of what the next one may replace.
    pub(super) fn note(&self, change: u64, base: BaseVersion, succeeded: bool) {
        let mut state = lock(&self.state);
        state.base = base;
        match succeeded {
            true => state.pushed = change,
            false => state.failed = change,
        }
        if state.change == state.pushed {
            state.begin_anew();
        }
    }

    /// Tells whether the push of a change has failed, and its close has said so.
    pub(super) fn has_failed(&self, change: u64) -> bool {
        lock(&self.state).failed == change
    }
}

impl State {
    /// Forgets the troubles of writers whose bytes are pushed, or gone.
    fn begin_anew(&mut self) {
        self.broken = None;
        self.torn = None;
        self.writers.clear();
    }

    fn write(&mut self, offset: u64, data: &[u8], max_size: u64, room: &Room) -> Result<(), Error> {
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|&end| end <= max_size)
            .ok_or(Error::TooBig)?;
        let staging = self.staging.as_ref().ok_or(Error::BadHandle)?;
        self.reservation.resize(self.size.max(end))?;
        write_in(room, staging, data, offset)?;
        self.size = self.size.max(end);
        Ok(())
    }

    fn set_size(&mut self, size: u64, max_size: u64) -> Result<(), Error> {
        if size > max_size {
            return Err(Error::TooBig);
        }
        let staging = self.staging.as_ref().ok_or(Error::BadHandle)?;
        self.reservation.resize(size)?;
        staging.set_len(size).map_err(|error| local(&error))?;
        self.size = size;
        Ok(())
    }
}

/// Makes a file in the staging directory, which a full disk may not have had room for so far.
pub(super) fn in_staging<T>(dir: &Path, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match make() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).create(dir)?;
            make()
        }
        made => made,
    }
}

/// Writes all of it, in the place of what can be given up if the disk is full.
pub(super) fn write_in(room: &Room, file: &File, data: &[u8], offset: u64) -> Result<(), Error> {
    let need = data.len() as u64 + BLOCK;
    let written = room.find(need, || file.write_all_at(data, offset));
    written.map_err(|error| local(&error))
}

/// Reads exactly so many bytes.
pub(super) fn read_at(file: &File, offset: u64, size: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes.into())
}

/// Maps an error of this machine's disk.
pub(super) fn local(error: &io::Error) -> Error {
    tracing::error!("can't use the staging directory: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace,
        io::ErrorKind::NotFound => Error::NotFound,
        _ => Error::Io,
    }
}
