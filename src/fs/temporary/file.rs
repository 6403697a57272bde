//! One temporary file (or directory, or symbolic link): its bytes, and its attributes.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;

use super::xattrs::Xattrs;
use crate::fs::staged_file::StagedFile;
use crate::fs::staging::{Quota, Reservation, StagedBytes};
use crate::fs::types::{
    Attr, Caller, CreateAttrs, Error, FileKind, Result, SetAttr, XattrFlag, lock,
};
use crate::model::{ArtifactId, Format, PlanName, check_plan};
use crate::registry::{BaseVersion, Room};

/// The prefix of the file names in the staging directory. A file without a name would need a
/// descriptor for as long as it exists.
pub(super) const PREFIX: &str = "scratch-";

/// The kind of a temporary file.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::fs) enum TemporaryKind {
    File,
    Directory,
    /// A symbolic link, with its destination.
    Symlink(OsString),
    /// A named pipe, a socket or a device: the mount keeps its name, and the kernel does the rest.
    Special {
        kind: FileKind,
        device: u32,
    },
}

/// A temporary file.
#[derive(Debug)]
pub(in crate::fs) struct TemporaryFile {
    /// Unique in this mount.
    pub(in crate::fs) number: u64,
    pub(in crate::fs) kind: TemporaryKind,
    /// Held during a rename onto an artifact's name.
    pub(in crate::fs) push_lock: tokio::sync::Mutex<()>,
    budget: Arc<Quota>,
    state: Mutex<TemporaryState>,
}

impl TemporaryFile {
    /// Makes a file without a name.
    pub(super) fn new(
        number: u64,
        kind: TemporaryKind,
        attrs: CreateAttrs,
        budget: Arc<Quota>,
        staging: &Path,
        now: SystemTime,
    ) -> Result<Self> {
        let content = match kind {
            TemporaryKind::File => {
                let reservation = Reservation::new(&budget);
                TemporaryContent::Stored(StagedBytes::named(staging, PREFIX, reservation)?)
            }
            _ => TemporaryContent::None,
        };
        budget.take_file()?;
        let state = TemporaryState {
            content,
            handles: 0,
            links: 0,
            directories: 0,
            change: 0,
            writer: Caller::default(),
            plan: None,
            tried: None,
            perm: attrs.perm,
            uid: attrs.uid,
            gid: attrs.gid,
            accessed: now,
            modified: now,
            changed: now,
            xattrs: Xattrs::new(Reservation::new(&budget)),
        };
        Ok(Self {
            number,
            kind,
            push_lock: tokio::sync::Mutex::default(),
            budget,
            state: Mutex::new(state),
        })
    }

    /// Tells whether it is a directory.
    pub(in crate::fs) fn is_directory(&self) -> bool {
        self.kind == TemporaryKind::Directory
    }

    /// Changes the number of its names.
    pub(super) fn add_links(&self, links: i32, now: SystemTime) {
        let mut state = lock(&self.state);
        state.links = state.links.saturating_add_signed(links);
        state.changed = now;
    }

    /// Records a change of a directory's names, and of the number of directories in it.
    pub(super) fn names_have_changed(&self, directories: i32, now: SystemTime) {
        let mut state = lock(&self.state);
        state.directories = state.directories.saturating_add_signed(directories);
        state.modified = now;
        state.changed = now;
    }

    /// Tells whether the file has a name left.
    pub(in crate::fs) fn has_name(&self) -> bool {
        lock(&self.state).links > 0
    }

    /// Returns the staged file that this file has become.
    pub(in crate::fs) fn pushed(&self) -> Option<Arc<StagedFile>> {
        match &lock(&self.state).content {
            TemporaryContent::Pushed(staged) => Some(Arc::clone(staged)),
            _ => None,
        }
    }

    /// Returns its attributes.
    pub(in crate::fs) fn attr(&self, ino: u64) -> Attr {
        let state = lock(&self.state);
        let (size, time) = match (&state.content, &self.kind) {
            (TemporaryContent::Stored(bytes), _) => (bytes.size(), state.modified),
            (TemporaryContent::Pushed(staged), _) => staged.attributes(),
            (_, TemporaryKind::Symlink(to)) => (to.len() as u64, state.modified),
            _ => (0, state.modified),
        };
        let device = match self.kind {
            TemporaryKind::Special { device, .. } => device,
            _ => 0,
        };
        Attr {
            ino,
            shown: ino,
            kind: self.file_kind(),
            perm: state.perm,
            size,
            time,
            accessed: state.accessed,
            changed: state.changed,
            links: match &state.content {
                // The file has the artifact's name.
                TemporaryContent::Pushed(_) => 1,
                // Its name, its own `.`, and the `..` of each directory in it.
                _ if self.is_directory() && state.links > 0 => 2 + state.directories,
                _ => state.links,
            },
            uid: state.uid,
            gid: state.gid,
            device,
        }
    }

    /// Returns its kind for stat(2).
    pub(in crate::fs) fn file_kind(&self) -> FileKind {
        match self.kind {
            TemporaryKind::File => FileKind::File,
            TemporaryKind::Directory => FileKind::Directory,
            TemporaryKind::Symlink(_) => FileKind::Symlink,
            TemporaryKind::Special { kind, .. } => kind,
        }
    }

    /// Opens a handle.
    pub(in crate::fs) fn open(&self, truncate: bool, now: SystemTime) -> Result<()> {
        let mut state = lock(&self.state);
        state.open()?;
        if truncate && let Err(error) = state.set_size(0, now) {
            state.close();
            return Err(error);
        }
        Ok(())
    }

    /// Closes a handle.
    pub(in crate::fs) fn close(&self) {
        lock(&self.state).close();
    }

    /// Records the thread that writes.
    pub(in crate::fs) fn set_writer(&self, caller: Caller) {
        lock(&self.state).writer = caller;
    }

    /// Sets the plan that the name may stand for.
    pub(super) fn set_plan(&self, plan: Option<PlanName>) {
        lock(&self.state).plan = plan;
    }

    /// Returns the plan that the name may stand for, if the file holds that very plan: the writer
    /// intended a push.
    pub(in crate::fs) fn plan(&self, max_size: u64) -> Option<PlanName> {
        let plan = lock(&self.state).plan.clone();
        plan.filter(|plan| {
            let snapshot = self.snapshot(max_size);
            snapshot.is_ok_and(|(_, bytes)| check_plan(&bytes, plan).is_ok())
        })
    }

    /// Reads; the file must be open.
    pub(in crate::fs) fn read(&self, offset: u64, size: u32) -> Result<Bytes> {
        let mut state = lock(&self.state);
        state.bytes()?.read(offset, size.into())
    }

    /// Writes at an offset or at the end; the file must be open.
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
        let bytes = state.bytes()?;
        let offset = if append { bytes.size() } else { offset };
        bytes.write(offset, data, u64::MAX, room)?;
        state.modified_at(now);
        Ok(written)
    }

    /// Extends the file with zeroes up to this size; the file must be open.
    pub(in crate::fs) fn extend(&self, size: u64, now: SystemTime) -> Result<()> {
        let mut state = lock(&self.state);
        match state.bytes()?.size() < size {
            true => state.set_size(size, now),
            false => Ok(()),
        }
    }

    /// Sets attributes.
    pub(in crate::fs) fn set(&self, set: &SetAttr, now: SystemTime) -> Result<()> {
        let mut state = lock(&self.state);
        if let Some(size) = set.size {
            state.open()?;
            let sized = state.set_size(size, now);
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

    /// Returns the bytes to push, and the change that they include.
    pub(in crate::fs) fn snapshot(&self, max_size: u64) -> Result<(u64, Bytes)> {
        let mut state = lock(&self.state);
        state.open()?;
        let read = match &state.content {
            TemporaryContent::Stored(bytes) if bytes.size() > max_size => Err(Error::TooBig),
            TemporaryContent::Stored(bytes) => bytes.read(0, bytes.size()),
            _ => Err(Error::Stale),
        };
        state.close();
        Ok((state.change, read?))
    }

    /// Returns the thread that wrote the file last, and the base of an earlier failed rename onto
    /// this artifact's name.
    pub(in crate::fs) fn origin(&self, id: &ArtifactId) -> (u32, Option<BaseVersion>) {
        let state = lock(&self.state);
        let tried = state.tried.as_ref().filter(|(tried, _)| tried == id);
        (state.writer.pid, tried.map(|(_, base)| *base))
    }

    /// Records a failed push, and the base of the next attempt.
    pub(in crate::fs) fn set_failed(&self, id: &ArtifactId, base: BaseVersion) {
        lock(&self.state).tried = Some((id.clone(), base));
    }

    /// Turns the file into a staged file after the push of `change`: its open handles now work on
    /// the artifact. Returns `false` if the file has changed since, and no handle is left to push
    /// that change.
    pub(in crate::fs) fn become_staged(
        &self,
        change: u64,
        id: ArtifactId,
        suffix: Option<Format>,
        base: BaseVersion,
        max_size: u64,
        reservation: Reservation,
    ) -> bool {
        let mut state = lock(&self.state);
        let (handles, is_pushed) = (state.handles, state.change == change);
        if handles == 0 && !is_pushed {
            return false;
        }
        let TemporaryContent::Stored(bytes) = &mut state.content else {
            return true;
        };
        let bytes = bytes.take_unnamed(reservation);
        let staged = StagedFile::new(id, suffix, max_size, bytes, state.modified);
        staged.adopt(handles, base, is_pushed);
        staged.set_user(state.writer.uid);
        state.content = TemporaryContent::Pushed(Arc::new(staged));
        true
    }

    /// Sets an extended attribute.
    pub(in crate::fs) fn set_xattr(
        &self,
        name: &OsStr,
        value: &[u8],
        flag: XattrFlag,
        now: SystemTime,
    ) -> Result<()> {
        let mut state = lock(&self.state);
        state.xattrs.set(name, value, flag)?;
        state.changed = now;
        Ok(())
    }

    /// Returns an extended attribute.
    pub(in crate::fs) fn xattr(&self, name: &OsStr) -> Result<Bytes> {
        lock(&self.state).xattrs.get(name)
    }

    /// Lists the names of the extended attributes.
    pub(in crate::fs) fn xattrs(&self) -> Vec<OsString> {
        lock(&self.state).xattrs.names()
    }

    /// Removes an extended attribute.
    pub(in crate::fs) fn remove_xattr(&self, name: &OsStr, now: SystemTime) -> Result<()> {
        let mut state = lock(&self.state);
        state.xattrs.remove(name)?;
        state.changed = now;
        Ok(())
    }
}

/// The mutable part of a temporary file.
#[derive(Debug)]
struct TemporaryState {
    content: TemporaryContent,
    handles: u32,
    links: u32,
    /// The number of directories in it.
    directories: u32,
    /// Counts changes of the bytes.
    change: u64,
    /// The thread that last opened the file for writing.
    writer: Caller,
    /// The plan that the name may stand for.
    plan: Option<PlanName>,
    /// The artifact and the base of a failed rename.
    tried: Option<(ArtifactId, BaseVersion)>,
    perm: u16,
    uid: Option<u32>,
    gid: Option<u32>,
    accessed: SystemTime,
    modified: SystemTime,
    changed: SystemTime,
    xattrs: Xattrs,
}

/// The bytes of a temporary file.
#[derive(Debug)]
enum TemporaryContent {
    /// A directory, a link or a device has no bytes.
    None,
    /// In the staging directory; open while there is a handle.
    Stored(StagedBytes),
    /// Pushed: open handles work on the artifact.
    Pushed(Arc<StagedFile>),
}

impl TemporaryState {
    fn open(&mut self) -> Result<()> {
        let TemporaryContent::Stored(bytes) = &mut self.content else {
            return Err(Error::Stale);
        };
        bytes.open()?;
        self.handles += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.handles = self.handles.saturating_sub(1);
        if self.handles == 0
            && let TemporaryContent::Stored(bytes) = &mut self.content
        {
            bytes.close();
        }
    }

    fn bytes(&mut self) -> Result<&mut StagedBytes> {
        match &mut self.content {
            TemporaryContent::Stored(bytes) => Ok(bytes),
            _ => Err(Error::BadHandle),
        }
    }

    fn set_size(&mut self, size: u64, now: SystemTime) -> Result<()> {
        self.bytes()?.set_size(size)?;
        self.modified_at(now);
        Ok(())
    }

    fn modified_at(&mut self, now: SystemTime) {
        self.change += 1;
        self.modified = now;
        self.changed = now;
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        self.budget.give_file();
    }
}
