//! Opening, reading and writing files.

use std::ffi::OsStr;
use std::sync::Arc;

use bytes::Bytes;

use super::handle::{Handle, Opener};
use super::node::{ControlFile, Node};
use super::staged_file::StagedFile;
use super::staging::disk_error;
use super::threads::Intent;
use super::{Caller, CreateAttrs, Error, Fs, LookupEntry, OpenMode, Opened, Result, lock};
use crate::model::ArtifactId;
use crate::registry::{BaseVersion, Registry, Revision};

impl Fs {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] makes the kernel look the name up again: for a reader whose inode is no
    /// longer the newest content, and for a writer, which gets an inode of its own.
    pub async fn open(
        self: Arc<Self>,
        ino: u64,
        how: OpenMode,
        caller: impl Into<Caller>,
    ) -> Result<Opened> {
        let caller = caller.into();
        let pid = caller.pid;
        let node = self.node(ino)?;
        if let Node::TemporaryFile(temporary) = &node {
            if how.write || how.truncate {
                self.writable()?;
            }
            return match temporary.pushed() {
                None => self.open_temporary(ino, temporary, how, caller),
                // Through /proc/self/fd: an open handle works on the artifact.
                Some(staged) if staged.is_open() => {
                    self.open_staged(&staged, how, StartContent::Newest).await?;
                    Ok(self.opened_staged(ino, staged, how, false, caller))
                }
                Some(_) => Err(Error::Stale),
            };
        }
        if how.write || how.truncate {
            return self.open_for_writing(ino, how, caller).await;
        }
        let (handle, keep_cache) = match node {
            Node::Content(id, known) => self.open_content(&id, &known, pid).await?,
            // A failed push made this name, or no target answers. Empty content would mean "drop
            // everything".
            Node::Blank(id)
                if self.registry.exists(&id) && self.retry_as_stale(pid, &id, Intent::Read) =>
            {
                return Err(Error::Stale);
            }
            Node::Blank(id) if self.registry.has_error(&id) || !self.is_touched(&id, None) => {
                return Err(Error::Io);
            }
            Node::Blank(_) => (Handle::Bytes(Bytes::new()), false),
            Node::StagedFile(staged) if staged.is_open() => {
                let room = self.registry.room();
                let (dir, base) = (self.staging_dir(), BaseVersion::default());
                staged.open(&dir, room, base, &[], false, self.now())?;
                let handle = Handle::StagedFile {
                    staged,
                    append: false,
                    opener: None,
                };
                (handle, true)
            }
            // The look-up was for a writer that has not opened the file; a reader looks up again.
            Node::StagedFile(staged) => {
                lock(&self.stale_retries).take(pid, staged.id(), Intent::Write);
                return Err(Error::Stale);
            }
            Node::Archived(file) => (Handle::Bytes(self.read_archived(&file).await?), true),
            Node::ControlFile(report) => (Handle::Bytes(self.render(report)), false),
            Node::Kept { when, .. } => {
                let read = self.read_kept(move |registry| registry.read_unpushed(when));
                (Handle::Bytes(read.await?), false)
            }
            Node::Damaged { name, .. } => {
                let read = self.read_kept(move |registry| registry.read_damaged(&name));
                (Handle::Bytes(read.await?), false)
            }
            _ => return Err(Error::IsDirectory),
        };
        Ok(Opened {
            fh: self.insert(ino, handle),
            keep_cache,
            direct_io: !keep_cache,
            no_flush: true,
        })
    }

    /// Opens a content for reading; returns also whether the kernel may keep its pages.
    async fn open_content(
        &self,
        id: &ArtifactId,
        known: &Revision,
        pid: u32,
    ) -> Result<(Handle, bool)> {
        let pulled = self.registry.pull(id).await;
        let is_newest = match &pulled {
            Ok(pulled) => pulled.known.revision == known.revision,
            Err(error) => error.kind != crate::registry::ErrorKind::NotFound,
        };
        if is_newest {
            lock(&self.stale_retries).take(pid, id, Intent::Read);
            lock(&self.reads).record(pid, id, BaseVersion::of(Some(known)));
        } else if self.retry_as_stale(pid, id, Intent::Read) {
            return Err(Error::Stale);
        }
        if !is_newest
            && pid != 0
            && pulled.is_ok()
            && let Some(bytes) = self.registry.cached(known)
        {
            // Another push has overtaken this open after the retry: serve the content of the last
            // look-up. The kernel would cut newer bytes off at this inode's size.
            lock(&self.reads).record(pid, id, BaseVersion::of(Some(known)));
            return Ok((Handle::Bytes(bytes), true));
        }
        let pulled = pulled?;
        lock(&self.reads).record(pid, id, BaseVersion::of(Some(&pulled.known)));
        Ok((Handle::Bytes(pulled.bytes), is_newest))
    }

    /// Tells whether to answer ESTALE, so that the thread looks the name up again; `false` if it
    /// has done so already, or belongs to a foreign pid namespace (number 0).
    pub(super) fn retry_as_stale(&self, pid: u32, id: &ArtifactId, intent: Intent) -> bool {
        pid != 0 && lock(&self.stale_retries).start(pid, id, intent)
    }

    /// Tells whether to answer ESTALE, so that a writer gets an inode of its own.
    pub(super) fn retry_for_writing(&self, pid: u32, node: &Node) -> bool {
        match node {
            Node::Content(id, _) | Node::Blank(id) => self.retry_as_stale(pid, id, Intent::Write),
            _ => false,
        }
    }

    pub(super) async fn open_for_writing(
        self: Arc<Self>,
        ino: u64,
        how: OpenMode,
        caller: Caller,
    ) -> Result<Opened> {
        let pid = caller.pid;
        self.writable()?;
        let node = self.node(ino)?;
        if (node.is_immutable() || node.is_tag()) && !node.is_directory() {
            return Err(Error::NotPermitted);
        }
        if self.retry_for_writing(pid, &node) {
            return Err(Error::Stale);
        }
        match node {
            Node::StagedFile(staged) => {
                lock(&self.stale_retries).take(pid, staged.id(), Intent::Write);
                lock(&self.reads).forget(pid, staged.id());
                self.open_staged(&staged, how, StartContent::Newest).await?;
                Ok(self.opened_staged(ino, staged, how, false, caller))
            }
            Node::Content(id, _) | Node::Blank(id) => {
                // No look-up after ESTALE: opened through /proc/self/fd. Readers share the inode,
                // so the kernel must not keep these pages.
                let staged = Arc::new(self.staged(&id, None, 0));
                self.open_staged(&staged, how, StartContent::Newest).await?;
                Ok(self.opened_staged(ino, staged, how, true, caller))
            }
            Node::ControlFile(ControlFile::Jobs) => Ok(Opened {
                fh: self.insert(ino, Handle::Jobs),
                keep_cache: false,
                direct_io: true,
                no_flush: true,
            }),
            node if node.is_directory() => Err(Error::IsDirectory),
            _ => Err(Error::NotPermitted),
        }
    }

    /// Creates and opens a file. Other programs see the name after its first close.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`] for an invalid name; [`Error::Exists`].
    pub async fn create(
        self: Arc<Self>,
        parent: u64,
        name: &OsStr,
        how: OpenMode,
        attrs: CreateAttrs,
    ) -> Result<(LookupEntry, Opened)> {
        self.writable()?;
        let parent = self.node(parent)?;
        if Self::temporary_dir(&parent, name)?.is_some() {
            return self.create_temporary(&parent, name, how, attrs);
        }
        let (id, suffix) = self.parse_new(&parent, name)?;
        self.record_name(attrs.pid, &id, name);
        let exists = self.is_there(&id, suffix).await?;
        if exists && how.exclusive {
            return Err(Error::Exists);
        }
        let staged = Arc::new(self.staged(&id, suffix, 0));
        let start = match exists {
            true => StartContent::Newest,
            false => StartContent::Empty,
        };
        self.open_staged(&staged, how, start).await?;
        // touch(1) sets neither flag; cp(1), install(1) and a shell's `>` do.
        let is_touch = !how.truncate && !how.exclusive;
        if !exists && is_touch && !id.item.may_be_empty() {
            staged.touch();
        }
        // A new name is a change even if it is opened only for reading.
        let how = OpenMode { write: true, ..how };
        let entry = self.lookup_entry(Node::StagedFile(Arc::clone(&staged)));
        Ok((
            entry,
            self.opened_staged(entry.attr.ino, staged, how, false, attrs.caller()),
        ))
    }

    /// Opens a staged file within the read deadline: sets its content and base.
    async fn open_staged(
        &self,
        staged: &StagedFile,
        how: OpenMode,
        start: StartContent,
    ) -> Result<()> {
        let opening = self.load_staged(staged, how, start);
        let opened = tokio::time::timeout(self.registry.settings().read, opening).await;
        opened.unwrap_or(Err(Error::Io))
    }

    async fn load_staged(
        &self,
        staged: &StagedFile,
        how: OpenMode,
        start: StartContent,
    ) -> Result<()> {
        if lock(&self.handles).writers() >= self.settings.max_writers {
            return Err(Error::TooManyHandles);
        }
        let id = staged.id();
        let mut base = BaseVersion::default();
        let mut content = Bytes::new();
        let mut empty = start == StartContent::Empty;
        if !staged.is_open() {
            let known = match self.resolve(id, None).await {
                // The open truncates the content anyway. The push will require that the artifact be
                // absent.
                Err(Error::Io) if how.truncate && !self.registry.was_listed(&id.section()) => None,
                known => known?,
            };
            base = BaseVersion::of(known.as_ref());
            if known.is_some() && start == StartContent::Newest && !how.truncate {
                let pulled = self.registry.pull(id).await?;
                base = BaseVersion::of(Some(&pulled.known));
                content = pulled.bytes;
            }
        }
        empty |= how.truncate;
        let (dir, room) = (self.staging_dir(), self.registry.room());
        staged.open(&dir, room, base, &content, empty, self.now())
    }

    fn opened_staged(
        &self,
        ino: u64,
        staged: Arc<StagedFile>,
        how: OpenMode,
        direct_io: bool,
        Caller { pid, uid }: Caller,
    ) -> Opened {
        if how.write || how.truncate {
            staged.set_user(uid);
        }
        // Look the process up now: the thread may end long before the close.
        let processes = self.processes.get().filter(|_| pid != 0);
        let opener = Opener {
            thread: pid,
            process: processes.and_then(|processes| processes.process_of(pid)),
            ino,
        };
        let handle = Handle::StagedFile {
            staged,
            append: how.append,
            opener: (how.write || how.truncate).then_some(opener),
        };
        Opened {
            fh: self.insert(ino, handle),
            keep_cache: !direct_io,
            direct_io,
            no_flush: false,
        }
    }

    pub(super) fn insert(&self, ino: u64, handle: Handle) -> u64 {
        self.remember(ino);
        lock(&self.handles).insert(ino, handle)
    }

    /// Returns a handle.
    pub(super) fn handle(&self, fh: u64) -> Result<Handle> {
        lock(&self.handles).get(fh).cloned().ok_or(Error::BadHandle)
    }

    /// Reads from a handle; a short result means the end of the file.
    ///
    /// # Errors
    ///
    /// [`Error::BadHandle`].
    pub async fn read(self: Arc<Self>, fh: u64, offset: u64, size: u32) -> Result<Bytes> {
        match self.handle(fh)? {
            Handle::Bytes(bytes) => {
                let begin = usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let end = begin.saturating_add(size as usize).min(bytes.len());
                Ok(bytes.slice(begin..end))
            }
            Handle::StagedFile { staged, .. } => staged.read(offset, size),
            Handle::Jobs => Ok(Bytes::new()),
            Handle::TemporaryFile { temporary, .. } => match temporary.pushed() {
                Some(staged) => staged.read(offset, size),
                None => temporary.read(offset, size),
            },
            Handle::Directory(_) => Err(Error::IsDirectory),
        }
    }

    /// Reads a file below `.atlasfs/unpushed`.
    async fn read_kept(
        &self,
        read: impl FnOnce(&Registry) -> std::io::Result<Bytes> + Send + 'static,
    ) -> Result<Bytes> {
        let registry = Arc::clone(&self.registry);
        let read = tokio::task::spawn_blocking(move || read(&registry));
        let bytes = read.await.map_err(|_| Error::Io)?;
        bytes.map_err(|error| disk_error(&error))
    }

    /// Writes to a handle's staged file, on the local disk: it never waits for a target.
    ///
    /// # Errors
    ///
    /// [`Error::TooBig`], [`Error::NoSpace`].
    pub fn write(&self, fh: u64, offset: u64, data: &[u8], pid: u32) -> Result<u32> {
        let room = self.registry.room();
        let handle = self.handle(fh)?;
        if let (Some(staged), Some(opener)) = (handle.staged(), handle.opener()) {
            self.record_writer(&staged, opener, pid);
        }
        match handle {
            Handle::StagedFile { staged, append, .. } => {
                staged.write(offset, data, append, self.now(), room)
            }
            Handle::Jobs => self.request_job(data),
            Handle::TemporaryFile {
                temporary, append, ..
            } => match temporary.pushed() {
                Some(staged) => staged.write(offset, data, append, self.now(), room),
                None => temporary.write(offset, data, append, self.now(), room),
            },
            _ => Err(Error::BadHandle),
        }
    }

    fn record_writer(&self, staged: &StagedFile, opener: Opener, thread: u32) {
        if let Some(processes) = self.processes.get() {
            let opened_by = || opener.process(&**processes);
            let process = || match thread {
                0 => None,
                thread if thread == opener.thread => opened_by(),
                thread => processes.process_of(thread),
            };
            staged.written_by(thread, process, opened_by);
        }
    }

    /// Extends a file with zeroes up to this size: fallocate(2) without a mode.
    ///
    /// # Errors
    ///
    /// [`Error::TooBig`], [`Error::NoSpace`], [`Error::BadHandle`].
    pub fn allocate(&self, fh: u64, offset: u64, length: u64) -> Result<()> {
        let end = offset.checked_add(length).ok_or(Error::TooBig)?;
        let handle = self.handle(fh)?;
        if let Some(staged) = handle.staged() {
            return match staged.attributes().0 < end {
                true => staged.set_size(end, self.now()),
                false => Ok(()),
            };
        }
        match handle {
            Handle::TemporaryFile { temporary, .. } => temporary.extend(end, self.now()),
            _ => Err(Error::BadHandle),
        }
    }
}

/// The initial content of a staged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StartContent {
    /// The newest content, unless the open truncates it.
    Newest,
    /// None: the name is new.
    Empty,
}
