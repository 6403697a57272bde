//! Staged files: the local file that a writer writes to before the push, and that no reader sees.

use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

use bytes::Bytes;

use super::staging::StagedBytes;
use super::types::{Error, Result, lock};
use crate::model::{ArtifactId, Format, PlanStatus};
use crate::registry::{BaseVersion, Room};

/// The bytes of a writer, and the state of their push.
#[derive(Debug)]
pub(super) struct StagedFile {
    id: ArtifactId,
    suffix: Option<Format>,
    max_size: u64,
    /// The inode number of the content that the writer looked up.
    shown: Option<u64>,
    state: Mutex<StagedState>,
    /// Held during a push: two flushes of a duplicated descriptor are one push.
    pub(super) push_lock: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct StagedState {
    bytes: StagedBytes,
    time: SystemTime,
    base: BaseVersion,
    handles: u32,
    /// The number of changes.
    change: u64,
    /// The change that the last successful push included.
    pushed: u64,
    /// The change that the last failed push included.
    failed: u64,
    /// The user that opened it for writing last; `None` for the user of the mount.
    user: Option<u32>,
    /// The status that the next push gives a plan, if a program has set one.
    status: Option<PlanStatus>,
    /// Whether anything was written after the truncation by an open.
    written: bool,
    /// Whether the name was made as touch(1) does: without O_TRUNC and O_EXCL.
    touched: bool,
    /// The error of a failed write: the bytes are incomplete, and are never pushed.
    broken: Option<Error>,
    /// The threads that have written since the last push, each with its process.
    writers: Vec<(u32, Option<u32>)>,
    /// The signal that killed a writer: no close pushes its incomplete bytes.
    torn: Option<i32>,
}

/// The bytes to push, and their base.
#[derive(Debug)]
pub(super) struct StagedSnapshot {
    /// The last change that they include.
    pub(super) change: u64,
    /// The bytes.
    pub(super) bytes: Bytes,
    /// The content that they may replace.
    pub(super) base: BaseVersion,
    /// Nothing was written after the truncation by an open: a shell's redirection closes a
    /// duplicate before the program writes.
    pub(super) only_opened: bool,
    /// Only a touch(1) made the name.
    pub(super) only_touched: bool,
    /// The status of a plan, if a program has set one.
    pub(super) status: Option<PlanStatus>,
}

/// The state of the bytes when the last handle is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remainder {
    /// Pushed, or the failure was reported; or other handles are open.
    Nothing,
    /// No close has tried to push them.
    Unpushed,
    /// An open has truncated the file, and nothing followed.
    OnlyOpened,
    /// A write has failed: never push the bytes.
    Broken,
    /// A killed writer has left the bytes: keep them without a push.
    Torn,
}

impl StagedFile {
    /// Makes a staged file of an artifact, not open yet.
    pub(super) fn new(
        id: ArtifactId,
        suffix: Option<Format>,
        max_size: u64,
        bytes: StagedBytes,
        now: SystemTime,
    ) -> Self {
        Self {
            id,
            suffix,
            max_size,
            shown: None,
            state: Mutex::new(StagedState {
                bytes,
                time: now,
                base: BaseVersion::default(),
                handles: 0,
                change: 0,
                pushed: 0,
                failed: 0,
                user: None,
                status: None,
                written: false,
                touched: false,
                broken: None,
                writers: Vec::new(),
                torn: None,
            }),
            push_lock: tokio::sync::Mutex::new(()),
        }
    }

    /// Sets the inode number that programs see.
    pub(super) fn showing(self, shown: Option<u64>) -> Self {
        Self { shown, ..self }
    }

    /// Returns the inode number that programs see.
    pub(super) fn shown(&self) -> Option<u64> {
        self.shown
    }

    /// Returns the artifact.
    pub(super) fn id(&self) -> &ArtifactId {
        &self.id
    }

    /// Returns the format of the name's suffix.
    pub(super) fn suffix(&self) -> Option<Format> {
        self.suffix
    }

    /// Tells whether a handle is open.
    pub(super) fn is_open(&self) -> bool {
        lock(&self.state).bytes.is_open()
    }

    /// Tells whether there are unpushed changes.
    pub(super) fn is_changed(&self) -> bool {
        let state = lock(&self.state);
        state.change != state.pushed
    }

    /// Records that a touch(1) made the name: a touched name is not yet an empty document.
    pub(super) fn touch(&self) {
        lock(&self.state).touched = true;
    }

    /// Records the user that opens it for writing: the author of its next push.
    pub(super) fn set_user(&self, uid: Option<u32>) {
        lock(&self.state).user = uid;
    }

    /// Returns the user that opened it for writing last; `None` for the user of the mount.
    pub(super) fn user(&self) -> Option<u32> {
        lock(&self.state).user
    }

    /// Sets the status that the next push gives the plan. A push under way has not got it.
    pub(super) fn set_status(&self, status: PlanStatus) {
        let mut state = lock(&self.state);
        state.status = Some(status);
        state.change += 1;
    }

    /// Returns the status that the next push gives the plan, if a program has set one.
    pub(super) fn status(&self) -> Option<PlanStatus> {
        lock(&self.state).status
    }

    /// Opens a handle. The first one sets the content and its base. `empty` means that the file is
    /// truncated or new, which already is a change.
    pub(super) fn open(
        &self,
        staging_dir: &Path,
        room: &Room,
        base: BaseVersion,
        content: &[u8],
        empty: bool,
        now: SystemTime,
    ) -> Result<()> {
        let mut state = lock(&self.state);
        if !state.bytes.is_open() {
            state.bytes.create(staging_dir, room, content)?;
            state.base = base;
        }
        if empty {
            state.bytes.set_size(0)?;
            state.time = now;
            state.change += 1;
            state.touched = false;
            state.reset_writers();
        }
        state.handles += 1;
        Ok(())
    }

    /// Takes over the open handles of a temporary file that has become the artifact.
    pub(super) fn adopt(&self, handles: u32, base: BaseVersion, is_pushed: bool) {
        let mut state = lock(&self.state);
        state.handles = handles;
        state.base = base;
        if !is_pushed {
            state.change += 1;
            state.written = true;
        }
    }

    /// Returns the state of the bytes, if this is the last handle.
    pub(super) fn remainder(&self) -> Remainder {
        let state = lock(&self.state);
        let touched = state.touched && !state.written;
        if state.handles != 1 || state.change == state.pushed || touched {
            Remainder::Nothing
        } else if state.broken.is_some() {
            Remainder::Broken
        } else if state.change == state.failed {
            Remainder::Nothing
        } else if state.torn.is_some() {
            Remainder::Torn
        } else if !state.written && state.bytes.size() == 0 && !self.id.item.may_be_empty() {
            Remainder::OnlyOpened
        } else {
            Remainder::Unpushed
        }
    }

    /// Closes a handle; the last one frees the bytes.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.handles = state.handles.saturating_sub(1);
        if state.handles == 0 {
            state.bytes.close();
        }
    }

    /// Returns the size and time that the writer sees.
    pub(super) fn attributes(&self) -> (u64, SystemTime) {
        let state = lock(&self.state);
        (state.bytes.size(), state.time)
    }

    /// Writes at an offset, or at the end.
    pub(super) fn write(
        &self,
        offset: u64,
        data: &[u8],
        append: bool,
        now: SystemTime,
        room: &Room,
    ) -> Result<u32> {
        let mut state = lock(&self.state);
        let offset = if append { state.bytes.size() } else { offset };
        let written = state.bytes.write(offset, data, self.max_size, room);
        state.change += 1;
        state.written = true;
        state.time = now;
        state.broken = state.broken.or(written.err());
        written?;
        u32::try_from(data.len()).map_err(|_| Error::Invalid)
    }

    /// Records a thread that writes. If the process that opened the file writes on after another
    /// one was killed, its close is a save again.
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

    /// Records that a signal has killed a process. It counts `always`, or if the process may have
    /// written some of the unpushed bytes.
    pub(super) fn killed(&self, signal: i32, process: Option<u32>, always: bool) {
        let mut state = lock(&self.state);
        let mut writers = state.writers.iter();
        let may_be_its = |&(_, writer): &(u32, Option<u32>)| writer.is_none() || writer == process;
        if always || process.is_none() || writers.any(may_be_its) {
            state.torn = Some(signal);
        }
    }

    /// Returns the signal that killed a writer.
    pub(super) fn torn(&self) -> Option<i32> {
        lock(&self.state).torn
    }

    /// Reads the bytes that the writer sees.
    pub(super) fn read(&self, offset: u64, size: u32) -> Result<Bytes> {
        lock(&self.state).bytes.read(offset, size.into())
    }

    /// Cuts the file, or extends it with zeroes.
    pub(super) fn set_size(&self, size: u64, now: SystemTime) -> Result<()> {
        let mut state = lock(&self.state);
        let set = match size <= self.max_size {
            true => state.bytes.set_size(size),
            false => Err(Error::TooBig),
        };
        // An explicit size is a change even if the size stays the same: `truncate -s 0` means a
        // push, and fails because empty content is never pushed.
        state.change += 1;
        state.written = true;
        state.time = now;
        state.broken = match set {
            Ok(()) if size == 0 => {
                state.reset_writers();
                None
            }
            set => state.broken.or(set.err()),
        };
        set
    }

    /// Returns the bytes to push; `None` if all are pushed.
    pub(super) fn snapshot(&self) -> Result<Option<StagedSnapshot>> {
        let state = lock(&self.state);
        if state.change == state.pushed {
            return Ok(None);
        }
        if let Some(error) = state.broken {
            return Err(error);
        }
        let bytes = state.bytes.read(0, state.bytes.size())?;
        Ok(Some(StagedSnapshot {
            change: state.change,
            only_opened: !state.written && bytes.is_empty(),
            only_touched: !state.written && bytes.is_empty() && state.touched,
            bytes,
            base: state.base,
            status: state.status,
        }))
    }

    /// Records the end of a push, and the base of the next one.
    pub(super) fn push_ended(&self, change: u64, base: BaseVersion, succeeded: bool) {
        let mut state = lock(&self.state);
        state.base = base;
        match succeeded {
            true => state.pushed = change,
            false => state.failed = change,
        }
        if state.change == state.pushed {
            state.status = None;
            state.reset_writers();
        }
    }

    /// Tells whether the push of a change has failed, and a close has reported it.
    pub(super) fn has_failed(&self, change: u64) -> bool {
        lock(&self.state).failed == change
    }
}

impl StagedState {
    /// Forgets errors and writers of bytes that are pushed, or gone.
    fn reset_writers(&mut self) {
        self.broken = None;
        self.torn = None;
        self.writers.clear();
    }
}
