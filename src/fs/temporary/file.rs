//! One scratch file (or directory, or symbolic link): its bytes, and what is set on it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;

use super::PREFIX;
use super::state::{Content, State};
use crate::fs::quota::{Quota, Reservation};
use crate::fs::staged_file::{StagedFile, in_staging, local, read_at, write_in};
use crate::fs::{CreateAttrs, Error, FileKind, Result, SetAttr, lock};
use crate::model::{ArtifactId, Format, PlanName, check_plan};
use crate::registry::{BaseVersion, Room};

/// What a name of the scratch files stands for.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::fs) enum Kind {
    File,
    Directory,
    /// A symbolic link, and where it leads.
    Symlink(OsString),
    /// A named pipe, a socket or a device: the kernel does all with it but keep its name.
    Special {
        kind: FileKind,
        device: u32,
    },
}

/// One scratch file.
#[derive(Debug)]
pub(in crate::fs) struct TemporaryFile {
    /// Tells it from all others of this mount.
    pub(in crate::fs) number: u64,
    pub(in crate::fs) kind: Kind,
    /// Held while a rename of it onto an artifact's name is under way.
    pub(in crate::fs) turn: tokio::sync::Mutex<()>,
    pub(super) budget: Arc<Quota>,
    pub(super) state: Mutex<State>,
}

/// What is set on a scratch file now.
#[derive(Debug, Clone, Copy)]
pub(in crate::fs) struct Now {
    pub(in crate::fs) size: u64,
    pub(in crate::fs) perm: u16,
    pub(in crate::fs) links: u32,
    pub(in crate::fs) uid: Option<u32>,
    pub(in crate::fs) gid: Option<u32>,
    pub(in crate::fs) accessed: SystemTime,
    pub(in crate::fs) modified: SystemTime,
    pub(in crate::fs) changed: SystemTime,
}

/// The bytes to push.
#[derive(Debug)]
pub(in crate::fs) struct Snapshot {
    /// Which change they include.
    pub(in crate::fs) change: u64,
    pub(in crate::fs) bytes: Bytes,
}

impl TemporaryFile {
    /// Makes one that has no name yet.
    pub(super) fn new(
        number: u64,
        kind: Kind,
        attrs: CreateAttrs,
        budget: Arc<Quota>,
        staging: &Path,
        now: SystemTime,
    ) -> Result<Self> {
        let content = match kind {
            Kind::File => {
                let make = || tempfile::Builder::new().prefix(PREFIX).tempfile_in(staging);
                let made = in_staging(staging, make);
                let path = made.map_err(|error| local(&error))?.into_temp_path();
                let open = None;
                let size = 0;
                Content::Stored { path, open, size }
            }
            Kind::Directory | Kind::Symlink(_) | Kind::Special { .. } => Content::None,
        };
        budget.take_file()?;
        let state = State {
            content,
            handles: 0,
            links: 0,
            directories: 0,
            change: 0,
            writer: 0,
            plan: None,
            tried: None,
            perm: attrs.perm,
            uid: attrs.uid,
            gid: attrs.gid,
            accessed: now,
            modified: now,
            changed: now,
            xattrs: BTreeMap::new(),
        };
        Ok(Self {
            number,
            kind,
            turn: tokio::sync::Mutex::default(),
            budget,
            state: Mutex::new(state),
        })
    }

    /// Tells whether it is a directory.
    pub(in crate::fs) fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Returns which device it is.
    pub(in crate::fs) fn device(&self) -> u32 {
        match self.kind {
            Kind::Special { device, .. } => device,
            Kind::File | Kind::Directory | Kind::Symlink(_) => 0,
        }
    }

    /// Counts one more name.
    pub(super) fn add_link(&self, now: SystemTime) {
        let mut state = lock(&self.state);
        state.links += 1;
        state.changed = now;
    }

    /// Counts one name less.
    pub(super) fn remove_link(&self, now: SystemTime) {
        let mut state = lock(&self.state);
        state.links = state.links.saturating_sub(1);
        state.changed = now;
    }

    /// Takes note that a directory's names have changed, and whether it has a directory more or
    /// less in it.
    pub(super) fn names_have_changed(&self, directories: i32, now: SystemTime) {
        let mut state = lock(&self.state);
        state.directories = state.directories.saturating_add_signed(directories);
        state.modified = now;
        state.changed = now;
    }

    /// Tells whether it has a name left.
    pub(in crate::fs) fn has_name(&self) -> bool {
        lock(&self.state).links > 0
    }

    /// Returns the view of the artifact that it has become.
    pub(in crate::fs) fn pushed(&self) -> Option<Arc<StagedFile>> {
        match &lock(&self.state).content {
            Content::Pushed(staged) => Some(Arc::clone(staged)),
            Content::None | Content::Stored { .. } => None,
        }
    }

    /// Returns what is set on it.
    pub(in crate::fs) fn now(&self) -> Now {
        let state = lock(&self.state);
        let (size, modified) = match (&state.content, &self.kind) {
            (Content::Stored { size, .. }, _) => (*size, state.modified),
            (Content::Pushed(staged), _) => staged.attributes(),
            (Content::None, Kind::Symlink(to)) => (to.len() as u64, state.modified),
            (Content::None, _) => (0, state.modified),
        };
        Now {
            size,
            perm: state.perm,
            // Pushed, it has the artifact's name.
            links: match &state.content {
                Content::Pushed(_) => 1,
                // Its name, its own `.`, and the `..` of each directory in it.
                Content::None if self.is_directory() && state.links > 0 => 2 + state.directories,
                Content::None | Content::Stored { .. } => state.links,
            },
            uid: state.uid,
            gid: state.gid,
            accessed: state.accessed,
            modified,
            changed: state.changed,
        }
    }

    /// Opens it once more.
    pub(in crate::fs) fn open(&self, truncate: bool, now: SystemTime) -> Result<()> {
        let mut state = lock(&self.state);
        state.open()?;
        if truncate && let Err(error) = state.set_size(0, &self.budget, now) {
            state.close();
            return Err(error);
        }
        Ok(())
    }

    /// Closes it once.
    pub(in crate::fs) fn close(&self) {
        lock(&self.state).close();
    }

    /// Takes note of who writes.
    pub(in crate::fs) fn written_by(&self, pid: u32) {
        lock(&self.state).writer = pid;
    }

    /// Takes note that its name could be a plan's as well.
    pub(super) fn could_be(&self, plan: Option<PlanName>) {
        lock(&self.state).plan = plan;
    }

    /// Returns the plan that its name would be, if that very plan is in it: whoever wrote that meant
    /// a push.
    pub(in crate::fs) fn meant_as_plan(&self, max_size: u64) -> Option<PlanName> {
        let plan = lock(&self.state).plan.clone();
        plan.filter(|plan| {
            let snapshot = self.snapshot(max_size);
            snapshot.is_ok_and(|snapshot| check_plan(&snapshot.bytes, plan).is_ok())
        })
    }

    /// Reads from an open one.
    pub(in crate::fs) fn read(&self, offset: u64, size: u32) -> Result<Bytes> {
        let state = lock(&self.state);
        let Content::Stored {
            open: Some(file),
            size: len,
            ..
        } = &state.content
        else {
            return Err(Error::BadHandle);
        };
        let left = len.saturating_sub(offset).min(size.into());
        read_at(file, offset, left).map_err(|error| local(&error))
    }

    /// Writes to an open one, at an offset or at the end.
    pub(in crate::fs) fn write(
        &self,
        offset: u64,
        data: &[u8],
        append: bool,
        now: SystemTime,
        room: &Room,
    ) -> Result<u32> {
        let mut state = lock(&self.state);
        let written = u32::try_from(data.len()).map_err(|_| Error::Invalid)?;
        let Content::Stored {
            open: Some(file),
            size,
            ..
        } = &mut state.content
        else {
            return Err(Error::BadHandle);
        };
        let offset = if append { *size } else { offset };
        let end = offset.checked_add(data.len() as u64);
        let end = end.ok_or(Error::TooBig)?;
        let more = end.saturating_sub(*size);
        self.budget.take(more)?;
        if let Err(error) = write_in(room, file, data, offset) {
            self.budget.give(more);
            return Err(error);
        }
        *size = end.max(*size);
        state.modified_at(now);
        Ok(written)
    }

    /// Sets what is to be set.
    pub(in crate::fs) fn set(&self, set: &SetAttr, now: SystemTime) -> Result<()> {
        let mut state = lock(&self.state);
        if let Some(size) = set.size {
            state.open()?;
            let sized = state.set_size(size, &self.budget, now);
            state.close();
            sized?;
        }
        state.perm = set.perm.unwrap_or(state.perm);
        state.uid = set.uid.or(state.uid);
        state.gid = set.gid.or(state.gid);
        state.accessed = set.accessed.unwrap_or(state.accessed);
        state.modified = set.modified.unwrap_or(state.modified);
        state.changed = now;
        Ok(())
    }

    /// Returns the bytes to push, if they are not too many.
    pub(in crate::fs) fn snapshot(&self, max_size: u64) -> Result<Snapshot> {
        let mut state = lock(&self.state);
        state.open()?;
        let bytes = match &state.content {
            Content::Stored { size, .. } if *size > max_size => Err(Error::TooBig),
            Content::Stored {
                open: Some(file),
                size,
                ..
            } => read_at(file, 0, *size).map_err(|error| local(&error)),
            _ => Err(Error::Stale),
        };
        state.close();
        Ok(Snapshot {
            change: state.change,
            bytes: bytes?,
        })
    }

    /// Returns the thread that has written it, and what an earlier rename onto this artifact's
    /// name was to replace.
    pub(in crate::fs) fn origin(&self, id: &ArtifactId) -> (u32, Option<BaseVersion>) {
        let state = lock(&self.state);
        let tried = state.tried.as_ref().filter(|(tried, _)| tried == id);
        (state.writer, tried.map(|(_, base)| *base))
    }

    /// Takes note that a push has failed, and of what the next try may replace.
    pub(in crate::fs) fn has_failed(&self, id: &ArtifactId, base: BaseVersion) {
        lock(&self.state).tried = Some((id.clone(), base));
    }

    /// Takes note that a change of it has become an artifact: from now on it is a writer's view of
    /// that for whoever has it open, and nothing for everybody else. `false` if it has changed
    /// since, and nobody is left to push that.
    pub(in crate::fs) fn becomes(
        &self,
        change: u64,
        id: ArtifactId,
        suffix: Option<Format>,
        base: BaseVersion,
        max_size: u64,
        mut reservation: Reservation,
    ) -> bool {
        let mut state = lock(&self.state);
        let (handles, is_pushed) = (state.handles, state.change == change);
        if handles == 0 && !is_pushed {
            return false;
        }
        let Content::Stored { open, size, .. } = &mut state.content else {
            return true;
        };
        let (staging, size) = (open.take(), *size);
        // They are there already; the next write has to find room for all of them.
        let _ = reservation.resize(size);
        self.budget.give(size);
        let staged = StagedFile::new(id, suffix, max_size, reservation, state.modified, size);
        staged.adopt(staging, handles, base, is_pushed);
        state.content = Content::Pushed(Arc::new(staged));
        true
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let state = lock(&self.state);
        let size = match &state.content {
            Content::Stored { size, .. } => *size,
            Content::None | Content::Pushed(_) => 0,
        };
        let xattrs = state.xattrs.iter();
        let xattrs: usize = xattrs.map(|(name, value)| name.len() + value.len()).sum();
        self.budget.give(size + xattrs as u64);
        self.budget.give_file();
    }
}
