//! Opening, reading, writing and closing files.

use std::ffi::OsStr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::bounce::Wish;
use super::handle::Handle;
use super::node::{Node, Report};
use super::working::{Left, Working, local};
use super::{Entry, Error, Fs, OpenHow, Opened, Result, lock};
use crate::artifact::ArtifactId;
use crate::registry::{Base, Event, Known, Level};

impl Fs {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] sends the kernel back to look the name up again: for a reader whose inode
    /// is no longer the newest content, and for a writer, who gets an inode of its own.
    pub async fn open(self: Arc<Self>, ino: u64, how: OpenHow, pid: u32) -> Result<Opened> {
        if how.write || how.truncate {
            return self.open_for_writing(ino, how, pid).await;
        }
        let (handle, keep_cache) = match self.node(ino)? {
            Node::Content(id, known) => self.open_content(&id, &known, pid).await?,
            // Nobody has touched it but a push that failed: to read it as empty would mean
            // "drop everything".
            Node::Blank(id) if self.registry.has_error(&id) => return Err(Error::Io),
            Node::Blank(_) => (Handle::Bytes(Bytes::new()), false),
            Node::Working(working) if working.is_open() => {
                working.open(&self.staging_dir(), Base::default(), &[], false, self.now())?;
                let append = false;
                (Handle::Working { working, append }, true)
            }
            // The look-up was for a writer that has not come: readers go elsewhere.
            Node::Working(working) => {
                lock(&self.bounces).take(pid, working.id(), Wish::Write);
                return Err(Error::Stale);
            }
            Node::Report(report) => (Handle::Bytes(self.render(report)), false),
            Node::Kept { when, .. } => {
                let registry = Arc::clone(&self.registry);
                let read = tokio::task::spawn_blocking(move || registry.read_unpushed(when));
                let bytes = read.await.map_err(|_| Error::Io)?;
                (Handle::Bytes(bytes.map_err(|error| local(&error))?), false)
            }
            _ => return Err(Error::IsDirectory),
        };
        let no_flush = matches!(handle, Handle::Bytes(_));
        Ok(Opened {
            fh: self.insert(ino, handle),
            keep_cache,
            direct_io: !keep_cache,
            no_flush,
        })
    }

    /// Opens a content for reading. The kernel may keep its pages: they never change.
    async fn open_content(
        &self,
        id: &ArtifactId,
        known: &Known,
        pid: u32,
    ) -> Result<(Handle, bool)> {
        let pulled = self.registry.pull(id).await;
        let is_newest = match &pulled {
            Ok(pulled) => pulled.known.revision == known.revision,
            Err(error) => error.kind != crate::registry::ErrorKind::NotFound,
        };
        if is_newest {
            lock(&self.bounces).take(pid, id, Wish::Read);
        } else if self.send_back(pid, id, Wish::Read) {
            return Err(Error::Stale);
        }
        if !is_newest
            && pid != 0
            && pulled.is_ok()
            && let Some(bytes) = self.registry.cached(known)
        {
            // Sent back, and overtaken again: what was looked up a moment ago is given whole.
            // Newer bytes under this inode's size would be cut off by whoever trusts in it.
            return Ok((Handle::Bytes(bytes), true));
        }
        Ok((Handle::Bytes(pulled?.bytes), is_newest))
    }

    /// Sends a thread back to look the name up again; `false` if it has been, or can't be told
    /// from others: threads of foreign pid namespaces all come as 0.
    pub(super) fn send_back(&self, pid: u32, id: &ArtifactId, wish: Wish) -> bool {
        pid != 0 && lock(&self.bounces).send_back(pid, id, wish)
    }

    pub(super) async fn open_for_writing(
        self: Arc<Self>,
        ino: u64,
        how: OpenHow,
        pid: u32,
    ) -> Result<Opened> {
        self.writable()?;
        match self.node(ino)? {
            Node::Working(working) => {
                lock(&self.bounces).take(pid, working.id(), Wish::Write);
                self.open_working(&working, how, Start::Newest).await?;
                Ok(self.opened_working(ino, working, how, false))
            }
            Node::Content(id, _) | Node::Blank(id) => {
                if self.send_back(pid, &id, Wish::Write) {
                    return Err(Error::Stale);
                }
                // Sent back, and here again without a look-up: opened through /proc/self/fd. The
                // inode is shared with readers, so the kernel must not keep these pages.
                let working = Arc::new(self.working(&id, None, 0));
                self.open_working(&working, how, Start::Newest).await?;
                Ok(self.opened_working(ino, working, how, true))
            }
            Node::Report(Report::Jobs) => Ok(Opened {
                fh: self.insert(ino, Handle::Orders),
                keep_cache: false,
                direct_io: true,
                no_flush: true,
            }),
            node if node.is_directory() => Err(Error::IsDirectory),
            _ => Err(Error::NotPermitted),
        }
    }

    /// Creates and opens a file. Nobody else sees the name before its first close.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`] for a name that is not of the contract; [`Error::Exists`].
    pub async fn create(
        self: Arc<Self>,
        parent: u64,
        name: &OsStr,
        how: OpenHow,
    ) -> Result<(Entry, Opened)> {
        let (id, suffix) = self.parse_new(parent, name)?;
        let exists =
            self.resolve(&id, suffix).await?.is_some() || lock(&self.local).is_touched(&id, suffix);
        if exists && how.exclusive {
            return Err(Error::Exists);
        }
        let working = Arc::new(self.working(&id, suffix, 0));
        let start = match exists {
            true => Start::Newest,
            false => Start::Empty,
        };
        self.open_working(&working, how, start).await?;
        let entry = self.hand_out(Node::Working(Arc::clone(&working)));
        Ok((
            entry,
            self.opened_working(entry.attr.ino, working, how, false),
        ))
    }

    /// Opens a writer's view: what it begins with, and what its push may replace.
    async fn open_working(&self, working: &Working, how: OpenHow, start: Start) -> Result<()> {
        let opening = self.open_working_slowly(working, how, start);
        let opened = tokio::time::timeout(self.registry.settings().read, opening).await;
        opened.unwrap_or(Err(Error::Io))
    }

    async fn open_working_slowly(
        &self,
        working: &Working,
        how: OpenHow,
        start: Start,
    ) -> Result<()> {
        if lock(&self.handles).writers() >= self.settings.max_writers {
            return Err(Error::TooManyHandles);
        }
        let id = working.id();
        let mut base = Base::default();
        let mut content = Bytes::new();
        let mut empty = start == Start::Empty;
        if !working.is_open() {
            let known = self.registry.stat(id, false).await?;
            base = Base::of(known.as_ref());
            if known.is_some() && start == Start::Newest && !how.truncate {
                let pulled = self.registry.pull(id).await?;
                base = Base::of(Some(&pulled.known));
                content = pulled.bytes;
            }
            empty |= how.truncate && known.is_some();
        } else {
            empty |= how.truncate;
        }
        working.open(&self.staging_dir(), base, &content, empty, self.now())
    }

    fn opened_working(
        &self,
        ino: u64,
        working: Arc<Working>,
        how: OpenHow,
        direct_io: bool,
    ) -> Opened {
        let append = how.append;
        Opened {
            fh: self.insert(ino, Handle::Working { working, append }),
            keep_cache: !direct_io,
            direct_io,
            no_flush: false,
        }
    }

    fn insert(&self, ino: u64, handle: Handle) -> u64 {
        self.remember(ino);
        lock(&self.handles).insert(ino, handle)
    }

    /// Returns a handle.
    pub(super) fn handle(&self, fh: u64) -> Result<Handle> {
        lock(&self.handles).get(fh).cloned().ok_or(Error::BadHandle)
    }

    /// Reads from a handle; fewer bytes than asked for mean the end of the file.
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
            Handle::Working { working, .. } => working.read(offset, size),
            Handle::Orders => Ok(Bytes::new()),
            Handle::Directory(_) => Err(Error::IsDirectory),
        }
    }

    /// Writes to a handle's staging file. Local disk only: it never waits for a target.
    ///
    /// # Errors
    ///
    /// [`Error::TooBig`], [`Error::NoSpace`].
    pub fn write(&self, fh: u64, offset: u64, data: &[u8]) -> Result<u32> {
        match self.handle(fh)? {
            Handle::Working { working, append } => working.write(offset, data, append, self.now()),
            Handle::Orders => self.order(data),
            _ => Err(Error::BadHandle),
        }
    }

    /// Pushes what the handle has not pushed yet (close of one descriptor).
    ///
    /// # Errors
    ///
    /// What the push answers.
    pub async fn flush(self: Arc<Self>, fh: u64) -> Result<()> {
        match self.handle(fh)? {
            Handle::Working { working, .. } => self.push_apart(working).await,
            _ => Ok(()),
        }
    }

    /// Pushes what the handle has not pushed yet.
    ///
    /// # Errors
    ///
    /// What the push answers.
    pub async fn fsync(self: Arc<Self>, fh: u64) -> Result<()> {
        self.flush(fh).await
    }

    /// Drops a handle; pushes as a last resort what no close has tried to push.
    ///
    /// # Errors
    ///
    /// [`Error::BadHandle`]; nobody is told of anything else any more.
    pub async fn release(self: Arc<Self>, fh: u64) -> Result<()> {
        let removed = lock(&self.handles).remove(fh);
        let (ino, handle) = removed.ok_or(Error::BadHandle)?;
        let Handle::Working { working, .. } = handle else {
            self.forget(ino, 1);
            return Ok(());
        };
        // In a task of its own: who waits may give up, and the handle has to be given back.
        let ending = tokio::spawn(async move {
            self.clone().end(&working).await;
            working.close();
            self.forget(ino, 1);
        });
        ending.await.map_err(|_| Error::Io)
    }

    /// Does what is left to do when a writer's last handle goes.
    async fn end(self: Arc<Self>, working: &Arc<Working>) {
        match working.left() {
            Left::Nothing => {}
            Left::Unpushed => {
                let pushed = self.clone().push_apart(Arc::clone(working)).await;
                self.tell_unreported(working.id(), pushed);
            }
            Left::OnlyOpened if self.registry.exists(working.id()) => {
                self.registry.refuse_empty(working.id());
            }
            Left::OnlyOpened => {}
            Left::Broken => self.registry.refuse_broken(working.id()),
        }
    }

    fn tell_unreported(&self, id: &ArtifactId, pushed: Result<()>) {
        self.registry.count_unreported();
        let message = match &pushed {
            Ok(()) => "pushed after the last close, which could not report it".to_owned(),
            Err(error) => format!("the push after the last close failed: {error}"),
        };
        let level = if pushed.is_ok() {
            Level::Warn
        } else {
            Level::Error
        };
        let event = Event::new(level, "unreported", message);
        self.registry.tell(event.with("artifact", id.to_string()));
    }

    /// Pushes in a task of its own: who waits for it may give up at a deadline, and the push goes
    /// on to its own.
    async fn push_apart(self: Arc<Self>, working: Arc<Working>) -> Result<()> {
        if !working.is_changed() {
            return Ok(());
        }
        let push = tokio::spawn(async move {
            let _under_way = self.under_way();
            self.push(&working).await
        });
        push.await.unwrap_or(Err(Error::Io))
    }

    async fn push(&self, working: &Working) -> Result<()> {
        let end = Instant::now() + self.registry.settings().push_budget();
        let turn = timeout_at(end, working.turn.lock()).await;
        let _turn = turn.map_err(|_| Error::Io)?;
        let Some(snapshot) = working.snapshot()? else {
            return Ok(());
        };
        let (id, change, mut base) = (working.id(), snapshot.change, snapshot.base);
        if snapshot.bytes.is_empty() && base.is_absent() {
            lock(&self.local).touch(id.clone(), working.suffix());
            working.note(change, base, true);
            return Ok(());
        }
        if snapshot.only_opened {
            // `release` tells of it, if it stays at that.
            return Err(Error::Invalid);
        }
        let push = self
            .registry
            .push(id, snapshot.bytes, &mut base, working.suffix(), end);
        let pushed = push.await;
        working.note(change, base, pushed.is_ok());
        pushed?;
        lock(&self.local).untouch(id);
        Ok(())
    }
}

/// What a writer's view begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// The newest content, unless it is truncated.
    Newest,
    /// Nothing: the name is new.
    Empty,
}
