//! Making, finding, moving and removing temporary files by name.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use super::{TemporaryDir, TemporaryFile, TemporaryKind};
use crate::fs::handle::{Handle, Opener};
use crate::fs::name::{
    InRepo, InRoot, in_migrations, in_plans, in_repo, in_root, in_tags, reserved, text,
};
use crate::fs::namespace::{InDirectory, in_directory};
use crate::fs::node::Node;
use crate::fs::{
    Caller, CreateAttrs, Error, FileKind, Fs, LookupEntry, OpenMode, Opened, Result, lock,
};
use crate::model::{Item, PlanName};
use crate::registry::{Event, Level};

impl Fs {
    /// Returns the directory of temporary files, if a name in this directory is that of a temporary
    /// file. In a temporary directory, every name is.
    pub(in crate::fs) fn temporary_dir(
        parent: &Node,
        name: &OsStr,
    ) -> Result<Option<TemporaryDir>> {
        let is_temporary = match parent {
            Node::Root => in_root(name)? == InRoot::TemporaryFile,
            Node::Repo(_) => in_repo(name)? == InRepo::TemporaryFile,
            Node::Plans(_) => in_plans(name)? == InRepo::TemporaryFile,
            Node::Migrations(_) => in_migrations(name)? == InRepo::TemporaryFile,
            Node::Tags(_) => in_tags(name)? == InRepo::TemporaryFile,
            Node::TemporaryFile(dir) if dir.is_directory() => text(name).map(|_| true)?,
            _ => false,
        };
        Ok(Self::temporary_dir_of(parent).filter(|_| is_temporary))
    }

    /// Returns a directory of the mount as a directory of temporary files.
    pub(in crate::fs) fn temporary_dir_of(dir: &Node) -> Option<TemporaryDir> {
        Some(match dir {
            Node::Root => TemporaryDir::Root,
            Node::Repo(repo) => TemporaryDir::Repo(repo.clone()),
            Node::Plans(repo) => TemporaryDir::Plans(repo.clone()),
            Node::Migrations(repo) => TemporaryDir::Migrations(repo.clone()),
            Node::Tags(repo) => TemporaryDir::Tags(repo.clone()),
            Node::TemporaryFile(dir) if dir.is_directory() => TemporaryDir::Dir(dir.number),
            _ => return None,
        })
    }

    /// Finds a temporary file.
    pub(in crate::fs) fn find_temporary(&self, place: &TemporaryDir, name: &OsStr) -> Result<Node> {
        lock(&self.temporary)
            .find(place, name)
            .map(Node::TemporaryFile)
    }

    /// Lists the temporary files of a directory.
    pub(in crate::fs) fn list_temporary(&self, dir: &Node) -> Vec<(OsString, Node)> {
        let tree = lock(&self.temporary);
        let place = Self::temporary_dir_of(dir);
        let files = place.iter().flat_map(|place| tree.list(place));
        files
            .map(|(name, temporary)| (name.clone(), Node::TemporaryFile(Arc::clone(temporary))))
            .collect()
    }

    /// Refuses a reserved name, or a name in a removed directory.
    fn check_new_temporary(&self, parent: &Node, name: &OsStr) -> Result<()> {
        if let Node::TemporaryFile(dir) = parent {
            return dir.has_name().then_some(()).ok_or(Error::NotFound);
        }
        let Some(why) = reserved(name) else {
            return Ok(());
        };
        let event = Event::new(Level::Warn, "refused", why);
        self.registry
            .report(event.with("name", name.to_string_lossy()));
        Err(Error::NotPermitted)
    }

    /// Makes a temporary file, directory or symbolic link.
    fn make_temporary(
        &self,
        parent: &Node,
        name: &OsStr,
        kind: TemporaryKind,
        attrs: CreateAttrs,
    ) -> Result<Arc<TemporaryFile>> {
        self.check_new_temporary(parent, name)?;
        let place = Self::temporary_dir_of(parent).ok_or(Error::NotDirectory)?;
        let mut tree = lock(&self.temporary);
        if tree.find(&place, name).is_ok() {
            return Err(Error::Exists);
        }
        let now = self.now();
        let made = tree.make(kind, attrs, now)?;
        if let Node::Plans(_) = parent {
            let plan = name.to_str().and_then(|name| PlanName::parse(name).ok());
            made.set_plan(plan);
        }
        tree.insert(place, name.to_owned(), Arc::clone(&made), now);
        Ok(made)
    }

    /// Makes and opens a temporary file, or opens the one that another thread has just made.
    pub(in crate::fs) fn create_temporary(
        &self,
        parent: &Node,
        name: &OsStr,
        how: OpenMode,
        attrs: CreateAttrs,
    ) -> Result<(LookupEntry, Opened)> {
        let temporary = match self.make_temporary(parent, name, TemporaryKind::File, attrs) {
            Err(Error::Exists) if !how.exclusive => {
                let place = Self::temporary_dir_of(parent).ok_or(Error::NotDirectory)?;
                lock(&self.temporary).find(&place, name)?
            }
            made => made?,
        };
        let entry = self.lookup_entry(Node::TemporaryFile(Arc::clone(&temporary)));
        match self.open_temporary(entry.attr.ino, &temporary, how, attrs.caller()) {
            Ok(opened) => Ok((entry, opened)),
            Err(error) => {
                self.forget(entry.attr.ino, 1);
                Err(error)
            }
        }
    }

    /// Opens a temporary file.
    pub(in crate::fs) fn open_temporary(
        &self,
        ino: u64,
        temporary: &Arc<TemporaryFile>,
        how: OpenMode,
        caller: Caller,
    ) -> Result<Opened> {
        match temporary.kind {
            TemporaryKind::File => {}
            TemporaryKind::Directory => return Err(Error::IsDirectory),
            TemporaryKind::Symlink(_) => return Err(Error::Invalid),
            // The kernel opens special files itself.
            TemporaryKind::Special { .. } => return Err(Error::NotSupported),
        }
        if lock(&self.handles).writers() >= self.settings.max_writers {
            return Err(Error::TooManyHandles);
        }
        temporary.open(how.truncate, self.now())?;
        if how.write || how.truncate {
            temporary.set_writer(caller);
        }
        let handle = Handle::TemporaryFile {
            temporary: Arc::clone(temporary),
            append: how.append,
            opener: how.write.then_some(Opener {
                thread: caller.pid,
                process: None,
                ino,
            }),
        };
        Ok(Opened {
            fh: self.insert(ino, handle),
            keep_cache: true,
            direct_io: false,
            // A rename can turn the file into an artifact, and its close then pushes.
            no_flush: !how.write,
        })
    }

    /// Makes a temporary directory.
    pub(in crate::fs) fn mkdir_temporary(
        &self,
        parent: &Node,
        name: &OsStr,
        attrs: CreateAttrs,
    ) -> Result<LookupEntry> {
        let made = self.make_temporary(parent, name, TemporaryKind::Directory, attrs)?;
        Ok(self.lookup_entry(Node::TemporaryFile(made)))
    }

    /// Makes a symbolic link among the temporary files.
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
    ) -> Result<LookupEntry> {
        self.writable()?;
        let parent = self.node(parent)?;
        if Self::temporary_dir(&parent, name)?.is_none() {
            return match in_directory(&parent, name) {
                Ok(InDirectory::Artifact(id, _)) if matches!(id.item, Item::Tag(_)) => {
                    self.push_tag(&id, &to, true, attrs.uid).await?;
                    self.lookup_tag(&id).await
                }
                _ => Err(self.refuse(name)),
            };
        }
        let attrs = CreateAttrs {
            perm: 0o777,
            ..attrs
        };
        let made = self.make_temporary(&parent, name, TemporaryKind::Symlink(to), attrs)?;
        Ok(self.lookup_entry(Node::TemporaryFile(made)))
    }

    /// Makes a file without opening it, a named pipe, a socket or a device, as a temporary file.
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
    ) -> Result<LookupEntry> {
        self.writable()?;
        let parent = self.node(parent)?;
        if Self::temporary_dir(&parent, name)?.is_none() {
            return Err(self.refuse(name));
        }
        let kind = match kind {
            FileKind::File => TemporaryKind::File,
            FileKind::Fifo | FileKind::Socket => TemporaryKind::Special { kind, device: 0 },
            FileKind::CharDevice | FileKind::BlockDevice => TemporaryKind::Special { kind, device },
            FileKind::Directory | FileKind::Symlink => return Err(Error::Invalid),
        };
        let made = self.make_temporary(&parent, name, kind, attrs)?;
        Ok(self.lookup_entry(Node::TemporaryFile(made)))
    }

    /// Reads a symbolic link.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for other files.
    pub async fn readlink(self: Arc<Self>, ino: u64) -> Result<OsString> {
        match self.node(ino)? {
            Node::TemporaryFile(temporary) => match &temporary.kind {
                TemporaryKind::Symlink(to) => Ok(to.clone()),
                _ => Err(Error::Invalid),
            },
            node => self.read_tag(&node).await,
        }
    }

    /// Makes a hard link between temporary files.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`] if either side is an artifact: tools then copy.
    pub async fn link(self: Arc<Self>, ino: u64, parent: u64, name: &OsStr) -> Result<LookupEntry> {
        self.writable()?;
        let parent = self.node(parent)?;
        let place = Self::temporary_dir(&parent, name)?;
        let (Node::TemporaryFile(temporary), Some(place)) = (self.node(ino)?, place) else {
            return Err(self.refuse(name));
        };
        if temporary.is_directory() {
            return Err(Error::NotPermitted);
        }
        self.check_new_temporary(&parent, name)?;
        let mut tree = lock(&self.temporary);
        if tree.find(&place, name).is_ok() {
            return Err(Error::Exists);
        }
        if !temporary.has_name() {
            return Err(Error::NotFound);
        }
        tree.insert(place, name.to_owned(), Arc::clone(&temporary), self.now());
        drop(tree);
        Ok(self.lookup_entry(Node::TemporaryFile(temporary)))
    }

    /// Removes a temporary file's name. Open handles keep the file.
    pub(in crate::fs) fn unlink_temporary(&self, place: &TemporaryDir, name: &OsStr) -> Result<()> {
        let mut tree = lock(&self.temporary);
        match tree.find(place, name)?.is_directory() {
            true => Err(Error::IsDirectory),
            false => tree.remove(place, name, self.now()).map(drop),
        }
    }

    /// Removes a temporary directory.
    pub(in crate::fs) fn rmdir_temporary(&self, place: &TemporaryDir, name: &OsStr) -> Result<()> {
        let mut tree = lock(&self.temporary);
        let dir = tree.find(place, name)?;
        if !dir.is_directory() {
            return Err(Error::NotDirectory);
        }
        if !tree.is_empty(&TemporaryDir::Dir(dir.number)) {
            return Err(Error::NotEmpty);
        }
        tree.remove(place, name, self.now()).map(drop)
    }

    /// Renames a temporary file to another temporary name.
    pub(in crate::fs) fn rename_temporary(
        &self,
        from: (&TemporaryDir, &OsStr),
        (parent, to): (&Node, &OsStr),
        no_replace: bool,
    ) -> Result<()> {
        self.check_new_temporary(parent, to)?;
        let place = Self::temporary_dir_of(parent).ok_or(Error::NotDirectory)?;
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
                (true, true) if !tree.is_empty(&TemporaryDir::Dir(there.number)) => {
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
