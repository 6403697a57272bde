//! Attributes, and what an inode may be set to.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::directory::kind;
use super::handle::Handle;
use super::node::{Node, Report, number_of_content};
use super::staged_file::StagedFile;
use super::{Attr, Entry, Error, FOR_EVER, FileKind, Fs, OpenMode, Result, SetAttr, Statfs, lock};
use crate::model::{ArtifactId, MAX_NAME_BYTES};
use crate::registry::Revision;

impl Fs {
    /// Returns the attributes, and for how long the kernel may keep them.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] for an inode that is no more.
    pub async fn getattr(self: Arc<Self>, ino: u64, fh: Option<u64>) -> Result<(Attr, Duration)> {
        if let Some(Handle::StagedFile { staged, .. }) = fh.and_then(|fh| self.handle(fh).ok()) {
            return Ok((self.attr_of(ino, &staged), Duration::ZERO));
        }
        let node = self.node(ino)?;
        if let Node::Content(id, known) = &node {
            let newest = self.registry.newest(id);
            if newest.as_ref().map(|newest| newest.revision) != Some(known.revision) {
                return self.outdated(ino, known, newest);
            }
        }
        let entry = self.entry(ino, &node);
        Ok((entry.attr, entry.attr_ttl))
    }

    /// Returns the attributes of a content that is not the newest any more. Handles that are open
    /// on it still see it. Nobody else can mean it: the kernel has followed a name that it looked
    /// up before the push, so stat(2) must tell of the content that an open of that name gives.
    fn outdated(
        &self,
        ino: u64,
        known: &Revision,
        newest: Option<Revision>,
    ) -> Result<(Attr, Duration)> {
        let is_open = lock(&self.handles).is_open(ino);
        let shown = newest.as_ref().map_or(ino, number_of_content);
        let told = match is_open {
            true => known,
            false => newest.as_ref().ok_or(Error::Stale)?,
        };
        let attr = Attr {
            shown,
            ..self.attr(ino, FileKind::File, told.size, told.time)
        };
        Ok((attr, Duration::ZERO))
    }

    /// Has the kernel ask anew for the attributes of the content that was the newest `before`.
    pub(super) fn outdate(&self, id: &ArtifactId, before: Option<Revision>) {
        let newest = self.registry.newest(id).map(|newest| newest.revision);
        if let Some(before) = before.filter(|before| Some(before.revision) != newest) {
            self.kernel.forget_attributes(number_of_content(&before));
        }
    }

    /// Returns how the kernel is to see a node.
    pub(super) fn entry(&self, ino: u64, node: &Node) -> Entry {
        let ttl = self.registry.settings().ttl;
        let started = self.settings.mount.started;
        let (kind, size, time, entry_ttl, attr_ttl) = match node {
            // Its name can become an artifact's at any time, and is then another inode.
            Node::TemporaryFile(temporary) => {
                let now = temporary.now();
                let bare = self.attr(ino, kind(node), now.size, now.modified);
                let attr = Attr {
                    perm: now.perm,
                    accessed: now.accessed,
                    changed: now.changed,
                    links: now.links,
                    uid: now.uid,
                    gid: now.gid,
                    device: temporary.device(),
                    ..bare
                };
                return Entry {
                    attr,
                    entry_ttl: Duration::ZERO,
                    attr_ttl: Duration::ZERO,
                };
            }
            Node::Root | Node::Plans(_) | Node::Control => {
                (FileKind::Directory, 0, started, FOR_EVER, FOR_EVER)
            }
            Node::Repo(_) => (FileKind::Directory, 0, started, ttl, FOR_EVER),
            Node::KeptDir(_) => (FileKind::Directory, 0, started, Duration::ZERO, FOR_EVER),
            Node::Report(report) => {
                let size = self.render(*report).len() as u64;
                (
                    FileKind::File,
                    size,
                    self.now(),
                    Duration::ZERO,
                    Duration::ZERO,
                )
            }
            Node::Kept { when, size } => {
                let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(*when);
                (FileKind::File, *size, time, Duration::ZERO, FOR_EVER)
            }
            Node::Damaged { size, .. } => (
                FileKind::File,
                *size,
                started,
                Duration::ZERO,
                Duration::ZERO,
            ),
            Node::Content(id, known) => {
                let fresh = self.registry.fresh_for(&id.repo);
                (FileKind::File, known.size, known.time, fresh, FOR_EVER)
            }
            Node::Blank(_) => {
                // `ls -l` tells it from an artifact: nobody but this mount's owner has it.
                let attr = Attr {
                    perm: 0o600,
                    ..self.attr(ino, FileKind::File, 0, started)
                };
                return Entry {
                    attr,
                    entry_ttl: Duration::ZERO,
                    attr_ttl: Duration::ZERO,
                };
            }
            Node::StagedFile(staged) => {
                return Entry {
                    attr: self.attr_of(ino, staged),
                    entry_ttl: Duration::ZERO,
                    attr_ttl: Duration::ZERO,
                };
            }
        };
        Entry {
            attr: self.attr(ino, kind, size, time),
            entry_ttl,
            attr_ttl,
        }
    }

    fn attr_of(&self, ino: u64, staged: &StagedFile) -> Attr {
        let (size, time) = staged.attributes();
        Attr {
            shown: staged.shown().unwrap_or(ino),
            ..self.attr(ino, FileKind::File, size, time)
        }
    }

    fn attr(&self, ino: u64, kind: FileKind, size: u64, time: SystemTime) -> Attr {
        let perm = match (kind, self.settings.read_only) {
            (FileKind::Directory, false) => 0o755,
            (FileKind::Directory, true) => 0o555,
            (_, false) => 0o644,
            (_, true) => 0o444,
        };
        Attr {
            ino,
            shown: ino,
            kind,
            perm,
            size,
            time,
            accessed: time,
            changed: time,
            links: match kind {
                FileKind::Directory => 2,
                _ => 1,
            },
            uid: None,
            gid: None,
            device: 0,
        }
    }

    /// Sets the size; accepts everything else, and keeps it for scratch files alone: modes, owners
    /// and times are nothing that a target could keep.
    ///
    /// # Errors
    ///
    /// [`Error::TooBig`], [`Error::NoSpace`]; for a truncation by path, what a push answers.
    pub async fn setattr(
        self: Arc<Self>,
        ino: u64,
        fh: Option<u64>,
        set: SetAttr,
        pid: u32,
    ) -> Result<(Attr, Duration)> {
        self.writable()?;
        let node = self.node(ino)?;
        if let Node::TemporaryFile(temporary) = &node {
            match (temporary.pushed(), set.size) {
                (None, _) => temporary.set(&set, self.now())?,
                (Some(staged), Some(size)) => staged.set_size(size, self.now())?,
                (Some(_), None) => {}
            }
            return self.getattr(ino, fh).await;
        }
        let Some(size) = set.size else {
            return self.getattr(ino, fh).await;
        };
        if let Some(Handle::StagedFile { staged, .. }) = fh.and_then(|fh| self.handle(fh).ok()) {
            staged.set_size(size, self.now())?;
            return self.getattr(ino, fh).await;
        }
        match &node {
            Node::StagedFile(staged) if staged.is_open() => staged.set_size(size, self.now())?,
            Node::StagedFile(_) => self.truncate_apart(ino, size, pid).await?,
            Node::Content(..) | Node::Blank(_) => {
                if self.send_back_to_write(pid, &node) {
                    return Err(Error::Stale);
                }
                self.truncate_apart(ino, size, pid).await?;
            }
            // A shell's redirection makes it empty before it writes.
            Node::Report(Report::Jobs) => {}
            node if node.is_directory() => return Err(Error::IsDirectory),
            _ => return Err(Error::NotPermitted),
        }
        self.getattr(ino, fh).await
    }

    /// Truncates in a task of its own: a caller that gives up must not leave a handle behind.
    async fn truncate_apart(self: &Arc<Self>, ino: u64, size: u64, pid: u32) -> Result<()> {
        let truncation = tokio::spawn(Arc::clone(self).truncate_by_path(ino, size, pid));
        truncation.await.unwrap_or(Err(Error::Io))
    }

    /// truncate(2): an open, a change of size, and a close whose push answers.
    async fn truncate_by_path(self: Arc<Self>, ino: u64, size: u64, pid: u32) -> Result<()> {
        let how = OpenMode {
            write: true,
            ..OpenMode::default()
        };
        let opened = self.clone().open_for_writing(ino, how, pid).await?;
        let changed = match self.handle(opened.fh)? {
            Handle::StagedFile { staged, .. } => staged.set_size(size, self.now()),
            _ => Err(Error::BadHandle),
        };
        let pushed = match changed {
            Ok(()) => self.clone().flush(opened.fh, pid).await,
            Err(error) => Err(error),
        };
        self.release(opened.fh).await?;
        pushed
    }

    /// Returns synthetic figures: an object store is never full and never counted.
    pub fn statfs(&self) -> Statfs {
        const BLOCK: u32 = 4096;
        const BLOCKS: u64 = 1 << 40;
        Statfs {
            blocks: BLOCKS,
            free: BLOCKS,
            files: 1 << 40,
            block_size: BLOCK,
            name_max: MAX_NAME_BYTES as u32,
        }
    }
}
