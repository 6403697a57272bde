//! Making, finding, moving and removing scratch files by name.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use super::{Kind, Place, TemporaryFile};
use crate::fs::handle::Handle;
use crate::fs::name::{InRepo, InRoot, in_plans, in_repo, in_root, text, why_not};
use crate::fs::node::Node;
use crate::fs::process::Opener;
use crate::fs::{CreateAttrs, Entry, Error, FileKind, Fs, OpenMode, Opened, Result, lock};
use crate::model::PlanName;
use crate::registry::{Event, Level};

impl Fs {
    /// Returns the directory of scratch files that a name in this directory belongs to, if what
    /// has such a name is a scratch file. Within a scratch directory everything is.
    pub(in crate::fs) fn temporary_place(parent: &Node, name: &OsStr) -> Result<Option<Place>> {
        let is_temporary = match parent {
            Node::Root => in_root(name)? == InRoot::TemporaryFile,
            Node::Repo(_) => in_repo(name)? == InRepo::TemporaryFile,
            Node::Plans(_) => in_plans(name)? == InRepo::TemporaryFile,
            Node::TemporaryFile(dir) if dir.is_directory() => text(name).map(|_| true)?,
            _ => false,
        };
        Ok(Self::place_of(parent).filter(|_| is_temporary))
    }

    /// Returns the directory of scratch files that a directory of the mount has.
    pub(in crate::fs) fn place_of(dir: &Node) -> Option<Place> {
        Some(match dir {
            Node::Root => Place::Root,
            Node::Repo(repo) => Place::Repo(repo.clone()),
            Node::Plans(repo) => Place::Plans(repo.clone()),
            Node::TemporaryFile(dir) if dir.is_directory() => Place::Dir(dir.number),
            _ => return None,
        })
    }

    /// Finds a scratch file.
    pub(in crate::fs) fn find_temporary(&self, place: &Place, name: &OsStr) -> Result<Node> {
        lock(&self.temporary)
            .find(place, name)
            .map(Node::TemporaryFile)
    }

    /// Lists the scratch files of a directory.
    pub(in crate::fs) fn list_temporary(&self, dir: &Node) -> Vec<(OsString, Node)> {
        let tree = lock(&self.temporary);
        let place = Self::place_of(dir);
        let files = place.iter().flat_map(|place| tree.list(place));
        files
            .map(|(name, temporary)| (name.clone(), Node::TemporaryFile(Arc::clone(temporary))))
            .collect()
    }

    /// Refuses what must not be made, or only in a directory that is still there.
    fn may_make(&self, parent: &Node, name: &OsStr) -> Result<()> {
        if let Node::TemporaryFile(dir) = parent {
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
    fn make_temporary(
        &self,
        parent: &Node,
        name: &OsStr,
        kind: Kind,
        attrs: CreateAttrs,
    ) -> Result<Arc<TemporaryFile>> {
        self.may_make(parent, name)?;
        let place = Self::place_of(parent).ok_or(Error::NotDirectory)?;
        let mut tree = lock(&self.temporary);
        if tree.find(&place, name).is_ok() {
            return Err(Error::Exists);
        }
        let now = self.now();
        let made = tree.make(kind, attrs, now)?;
        if let Node::Plans(_) = parent {
            let plan = name.to_str().and_then(|name| PlanName::parse(name).ok());
            made.could_be(plan);
        }
        tree.insert(place, name.to_owned(), Arc::clone(&made), now);
        Ok(made)
    }

    /// Makes a scratch file and opens it, or opens the one that has been made in between.
    pub(in crate::fs) fn create_temporary(
        &self,
        parent: &Node,
        name: &OsStr,
        how: OpenMode,
        attrs: CreateAttrs,
    ) -> Result<(Entry, Opened)> {
        let temporary = match self.make_temporary(parent, name, Kind::File, attrs) {
            Err(Error::Exists) if !how.exclusive => {
                let place = Self::place_of(parent).ok_or(Error::NotDirectory)?;
                lock(&self.temporary).find(&place, name)?
            }
            made => made?,
        };
        let entry = self.hand_out(Node::TemporaryFile(Arc::clone(&temporary)));
        match self.open_temporary(entry.attr.ino, &temporary, how, attrs.pid) {
            Ok(opened) => Ok((entry, opened)),
            Err(error) => {
                self.forget(entry.attr.ino, 1);
                Err(error)
            }
        }
    }

    /// Opens a scratch file.
    pub(in crate::fs) fn open_temporary(
        &self,
        ino: u64,
        temporary: &Arc<TemporaryFile>,
        how: OpenMode,
        pid: u32,
    ) -> Result<Opened> {
        match temporary.kind {
            Kind::File => {}
            Kind::Directory => return Err(Error::IsDirectory),
            Kind::Symlink(_) => return Err(Error::Invalid),
            // The kernel opens these without asking.
            Kind::Special { .. } => return Err(Error::NotSupported),
        }
        if lock(&self.handles).writers() >= self.settings.max_writers {
            return Err(Error::TooManyHandles);
        }
        temporary.open(how.truncate, self.now())?;
        if how.write || how.truncate {
            temporary.written_by(pid);
        }
        let handle = Handle::TemporaryFile {
            temporary: Arc::clone(temporary),
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
    pub(in crate::fs) fn mkdir_temporary(
        &self,
        parent: &Node,
        name: &OsStr,
        attrs: CreateAttrs,
    ) -> Result<Entry> {
        let made = self.make_temporary(parent, name, Kind::Directory, attrs)?;
        Ok(self.hand_out(Node::TemporaryFile(made)))
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
        attrs: CreateAttrs,
    ) -> Result<Entry> {
        self.writable()?;
        let parent = self.node(parent)?;
        if Self::temporary_place(&parent, name)?.is_none() {
            return Err(self.refuse(name));
        }
        let attrs = CreateAttrs {
            perm: 0o777,
            ..attrs
        };
        let made = self.make_temporary(&parent, name, Kind::Symlink(to), attrs)?;
        Ok(self.hand_out(Node::TemporaryFile(made)))
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
        attrs: CreateAttrs,
    ) -> Result<Entry> {
        self.writable()?;
        let parent = self.node(parent)?;
        if Self::temporary_place(&parent, name)?.is_none() {
            return Err(self.refuse(name));
        }
        let kind = match kind {
            FileKind::File => Kind::File,
            FileKind::Fifo | FileKind::Socket => Kind::Special { kind, device: 0 },
            FileKind::CharDevice | FileKind::BlockDevice => Kind::Special { kind, device },
            FileKind::Directory | FileKind::Symlink => return Err(Error::Invalid),
        };
        let made = self.make_temporary(&parent, name, kind, attrs)?;
        Ok(self.hand_out(Node::TemporaryFile(made)))
    }

    /// Reads a symbolic link.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for everything else.
    pub async fn readlink(self: Arc<Self>, ino: u64) -> Result<OsString> {
        match self.node(ino)? {
            Node::TemporaryFile(temporary) => match &temporary.kind {
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
        let place = Self::temporary_place(&parent, name)?;
        let (Node::TemporaryFile(temporary), Some(place)) = (self.node(ino)?, place) else {
            return Err(self.refuse(name));
        };
        if temporary.is_directory() {
            return Err(Error::NotPermitted);
        }
        self.may_make(&parent, name)?;
        let mut tree = lock(&self.temporary);
        if tree.find(&place, name).is_ok() {
            return Err(Error::Exists);
        }
        if !temporary.has_name() {
            return Err(Error::NotFound);
        }
        tree.insert(place, name.to_owned(), Arc::clone(&temporary), self.now());
        drop(tree);
        Ok(self.hand_out(Node::TemporaryFile(temporary)))
    }

    /// Removes a scratch file's name. Who has it open keeps it.
    pub(in crate::fs) fn unlink_temporary(&self, place: &Place, name: &OsStr) -> Result<()> {
        let mut tree = lock(&self.temporary);
        match tree.find(place, name)?.is_directory() {
            true => Err(Error::IsDirectory),
            false => tree.remove(place, name, self.now()).map(drop),
        }
    }

    /// Removes a scratch directory.
    pub(in crate::fs) fn rmdir_temporary(&self, place: &Place, name: &OsStr) -> Result<()> {
        let mut tree = lock(&self.temporary);
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
    pub(in crate::fs) fn rename_temporary(
        &self,
        from: (&Place, &OsStr),
        (parent, to): (&Node, &OsStr),
        no_replace: bool,
    ) -> Result<()> {
        self.may_make(parent, to)?;
        let place = Self::place_of(parent).ok_or(Error::NotDirectory)?;
        let mut tree = lock(&self.temporary);
        let temporary = tree.find(from.0, from.1)?;
        if let Ok(there) = tree.find(&place, to) {
            if no_replace {
                return Err(Error::Exists);
            }
            if Arc::ptr_eq(&there, &temporary) {
                // Two names of one file: POSIX leaves both.
                return Ok(());
            }
            match (temporary.is_directory(), there.is_directory()) {
                (true, false) => return Err(Error::NotDirectory),
                (false, true) => return Err(Error::IsDirectory),
                (true, true) if !tree.is_empty(&Place::Dir(there.number)) => {
                    return Err(Error::NotEmpty);
                }
                _ => {}
            }
        }
        let now = self.now();
        let temporary = tree.remove(from.0, from.1, now)?;
        tree.insert(place, to.to_owned(), temporary, now);
        Ok(())
    }
}
