//! Making, finding, moving and removing scratch files by name.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use super::{Kind, Place, Scratch};
use crate::fs::handle::Handle;
use crate::fs::name::{InRepo, InRoot, in_plans, in_repo, in_root, text, why_not};
use crate::fs::node::Node;
use crate::fs::process::Opener;
use crate::fs::{Entry, Error, FileKind, Fs, Making, OpenHow, Opened, Result, lock};
use crate::model::PlanName;
use crate::registry::{Event, Level};

impl Fs {
    /// Returns the directory of scratch files that a name in this directory belongs to, if what
    /// has such a name is a scratch file. Within a scratch directory everything is.
    pub(in crate::fs) fn scratch_place(parent: &Node, name: &OsStr) -> Result<Option<Place>> {
        let is_scratch = match parent {
            Node::Root => in_root(name)? == InRoot::Scratch,
            Node::Repo(_) => in_repo(name)? == InRepo::Scratch,
            Node::Plans(_) => in_plans(name)? == InRepo::Scratch,
            Node::Scratch(dir) if dir.is_directory() => text(name).map(|_| true)?,
            _ => false,
        };
        Ok(Self::place_of(parent).filter(|_| is_scratch))
    }

    /// Returns the directory of scratch files that a directory of the mount has.
    pub(in crate::fs) fn place_of(dir: &Node) -> Option<Place> {
        Some(match dir {
            Node::Root => Place::Root,
            Node::Repo(repo) => Place::Repo(repo.clone()),
            Node::Plans(repo) => Place::Plans(repo.clone()),
            Node::Scratch(dir) if dir.is_directory() => Place::Dir(dir.number),
            _ => return None,
        })
    }

    /// Finds a scratch file.
    pub(in crate::fs) fn find_scratch(&self, place: &Place, name: &OsStr) -> Result<Node> {
        lock(&self.scratch).find(place, name).map(Node::Scratch)
    }

    /// Lists the scratch files of a directory.
    pub(in crate::fs) fn list_scratch(&self, dir: &Node) -> Vec<(OsString, Node)> {
        let tree = lock(&self.scratch);
        let place = Self::place_of(dir);
        let files = place.iter().flat_map(|place| tree.list(place));
        files
            .map(|(name, scratch)| (name.clone(), Node::Scratch(Arc::clone(scratch))))
            .collect()
    }

    /// Refuses what must not be made, or only in a directory that is still there.
    fn may_make(&self, parent: &Node, name: &OsStr) -> Result<()> {
        if let Node::Scratch(dir) = parent {
            return dir.has_name().then_some(()).ok_or(Error::NotFound);
        }
        let Some(why) = why_not(name) else {
            return Ok(());
        };
        let event = Event::new(Level::Warn, "refused", why);
        self.registry
            .tell(event.with("name", name.to_string_lossy()));
        Err(Error::NotPermitted)
    }

    /// Makes a scratch file, directory or symbolic link.
    fn make_scratch(
        &self,
        parent: &Node,
        name: &OsStr,
        kind: Kind,
        making: Making,
    ) -> Result<Arc<Scratch>> {
        self.may_make(parent, name)?;
        let place = Self::place_of(parent).ok_or(Error::NotDirectory)?;
        let mut tree = lock(&self.scratch);
        if tree.find(&place, name).is_ok() {
            return Err(Error::Exists);
        }
        let now = self.now();
        let made = tree.make(kind, making, now)?;
        if let Node::Plans(_) = parent {
            let plan = name.to_str().and_then(|name| PlanName::parse(name).ok());
            made.could_be(plan);
        }
        tree.insert(place, name.to_owned(), Arc::clone(&made), now);
        Ok(made)
    }

    /// Makes a scratch file and opens it, or opens the one that has been made in between.
    pub(in crate::fs) fn create_scratch(
        &self,
        parent: &Node,
        name: &OsStr,
        how: OpenHow,
        making: Making,
    ) -> Result<(Entry, Opened)> {
        let scratch = match self.make_scratch(parent, name, Kind::File, making) {
            Err(Error::Exists) if !how.exclusive => {
                let place = Self::place_of(parent).ok_or(Error::NotDirectory)?;
                lock(&self.scratch).find(&place, name)?
            }
            made => made?,
        };
        let entry = self.hand_out(Node::Scratch(Arc::clone(&scratch)));
        match self.open_scratch(entry.attr.ino, &scratch, how, making.pid) {
            Ok(opened) => Ok((entry, opened)),
            Err(error) => {
                self.forget(entry.attr.ino, 1);
                Err(error)
            }
        }
    }

    /// Opens a scratch file.
    pub(in crate::fs) fn open_scratch(
        &self,
        ino: u64,
        scratch: &Arc<Scratch>,
        how: OpenHow,
        pid: u32,
    ) -> Result<Opened> {
        match scratch.kind {
            Kind::File => {}
            Kind::Directory => return Err(Error::IsDirectory),
            Kind::Symlink(_) => return Err(Error::Invalid),
            // The kernel opens these without asking.
            Kind::Special { .. } => return Err(Error::NotSupported),
        }
        if lock(&self.handles).writers() >= self.settings.max_writers {
            return Err(Error::TooManyHandles);
        }
        scratch.open(how.truncate, self.now())?;
        if how.write || how.truncate {
            scratch.written_by(pid);
        }
        let handle = Handle::Scratch {
            scratch: Arc::clone(scratch),
            append: how.append,
            opener: how.write.then_some(Opener {
                thread: pid,
                process: None,
                ino,
            }),
        };
        Ok(Opened {
            fh: self.insert(ino, handle),
            keep_cache: true,
            direct_io: false,
            // It may be renamed onto an artifact's name, and then be written to.
            no_flush: !how.write,
        })
    }

    /// Makes a scratch directory.
    pub(in crate::fs) fn mkdir_scratch(
        &self,
        parent: &Node,
        name: &OsStr,
        making: Making,
    ) -> Result<Entry> {
        let made = self.make_scratch(parent, name, Kind::Directory, making)?;
        Ok(self.hand_out(Node::Scratch(made)))
    }

    /// Makes a symbolic link among the scratch files.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`] for every other name; [`Error::Exists`], [`Error::NoSpace`].
    pub async fn symlink(
        self: Arc<Self>,
        parent: u64,
        name: &OsStr,
        to: OsString,
        making: Making,
    ) -> Result<Entry> {
        self.writable()?;
        let parent = self.node(parent)?;
        if Self::scratch_place(&parent, name)?.is_none() {
            return Err(self.refuse(name));
        }
        let making = Making {
            perm: 0o777,
            ..making
        };
        let made = self.make_scratch(&parent, name, Kind::Symlink(to), making)?;
        Ok(self.hand_out(Node::Scratch(made)))
    }

    /// Makes a file without opening it, a named pipe, a socket or a device among the scratch
    /// files.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`] for every other name; [`Error::Exists`], [`Error::NoSpace`].
    pub async fn mknod(
        self: Arc<Self>,
        parent: u64,
        name: &OsStr,
        kind: FileKind,
        device: u32,
        making: Making,
    ) -> Result<Entry> {
        self.writable()?;
        let parent = self.node(parent)?;
        if Self::scratch_place(&parent, name)?.is_none() {
            return Err(self.refuse(name));
        }
        let kind = match kind {
            FileKind::File => Kind::File,
            FileKind::Fifo | FileKind::Socket => Kind::Special { kind, device: 0 },
            FileKind::CharDevice | FileKind::BlockDevice => Kind::Special { kind, device },
            FileKind::Directory | FileKind::Symlink => return Err(Error::Invalid),
        };
        let made = self.make_scratch(&parent, name, kind, making)?;
        Ok(self.hand_out(Node::Scratch(made)))
    }

    /// Reads a symbolic link.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for everything else.
    pub async fn readlink(self: Arc<Self>, ino: u64) -> Result<OsString> {
        match self.node(ino)? {
            Node::Scratch(scratch) => match &scratch.kind {
                Kind::Symlink(to) => Ok(to.clone()),
                _ => Err(Error::Invalid),
            },
            _ => Err(Error::Invalid),
        }
    }

    /// Gives a scratch file one more name among the scratch files.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`] where an artifact is on either side: tools then copy.
    pub async fn link(self: Arc<Self>, ino: u64, parent: u64, name: &OsStr) -> Result<Entry> {
        self.writable()?;
        let parent = self.node(parent)?;
        let place = Self::scratch_place(&parent, name)?;
        let (Node::Scratch(scratch), Some(place)) = (self.node(ino)?, place) else {
            return Err(self.refuse(name));
        };
        if scratch.is_directory() {
            return Err(Error::NotPermitted);
        }
        self.may_make(&parent, name)?;
        let mut tree = lock(&self.scratch);
        if tree.find(&place, name).is_ok() {
            return Err(Error::Exists);
        }
        if !scratch.has_name() {
            return Err(Error::NotFound);
        }
        tree.insert(place, name.to_owned(), Arc::clone(&scratch), self.now());
        drop(tree);
        Ok(self.hand_out(Node::Scratch(scratch)))
    }

    /// Removes a scratch file's name. Who has it open keeps it.
    pub(in crate::fs) fn unlink_scratch(&self, place: &Place, name: &OsStr) -> Result<()> {
        let mut tree = lock(&self.scratch);
        match tree.find(place, name)?.is_directory() {
            true => Err(Error::IsDirectory),
            false => tree.remove(place, name, self.now()).map(drop),
        }
    }

    /// Removes a scratch directory.
    pub(in crate::fs) fn rmdir_scratch(&self, place: &Place, name: &OsStr) -> Result<()> {
        let mut tree = lock(&self.scratch);
        let dir = tree.find(place, name)?;
        if !dir.is_directory() {
            return Err(Error::NotDirectory);
        }
        if !tree.is_empty(&Place::Dir(dir.number)) {
            return Err(Error::NotEmpty);
        }
        tree.remove(place, name, self.now()).map(drop)
    }

    /// Renames a scratch file to another name of a scratch file.
    pub(in crate::fs) fn rename_scratch(
        &self,
        from: (&Place, &OsStr),
        (parent, to): (&Node, &OsStr),
        no_replace: bool,
    ) -> Result<()> {
        self.may_make(parent, to)?;
        let place = Self::place_of(parent).ok_or(Error::NotDirectory)?;
        let mut tree = lock(&self.scratch);
        let scratch = tree.find(from.0, from.1)?;
        if let Ok(there) = tree.find(&place, to) {
            if no_replace {
                return Err(Error::Exists);
            }
            if Arc::ptr_eq(&there, &scratch) {
                // Two names of one file: POSIX leaves both.
                return Ok(());
            }
            match (scratch.is_directory(), there.is_directory()) {
                (true, false) => return Err(Error::NotDirectory),
                (false, true) => return Err(Error::IsDirectory),
                (true, true) if !tree.is_empty(&Place::Dir(there.number)) => {
                    return Err(Error::NotEmpty);
                }
                _ => {}
            }
        }
        let now = self.now();
        let scratch = tree.remove(from.0, from.1, now)?;
        tree.insert(place, to.to_owned(), scratch, now);
        Ok(())
    }
}
