//! Attributes of an inode, extended ones included.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::handle::Handle;
use super::history::TAG_BYTES;
use super::node::{ControlFile, Node};
use super::plan_status::STATUS_XATTR;
use super::staged_file::StagedFile;
use super::{
    Attr, Caller, Error, FOR_EVER, FileKind, Fs, LookupEntry, OpenMode, Result, SetAttr, Statfs,
    XattrFlag, lock,
};
use crate::model::{ArtifactId, Item, MAX_NAME_BYTES, Version};
use crate::registry::About;

/// The prefix of the extended attributes of an artifact.
const ARTIFACT_XATTR_PREFIX: &str = "user.atlas.";

impl Fs {
    /// Returns the attributes, and the time that the kernel may keep them.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] for an unknown inode.
    pub async fn getattr(
        self: Arc<Self>,
        ino: u64,
        fh: Option<u64>,
        pid: u32,
    ) -> Result<(Attr, Duration)> {
        if let Some(Handle::StagedFile { staged, .. }) = fh.and_then(|fh| self.handle(fh).ok()) {
            return Ok((self.attr_of(ino, &staged), Duration::ZERO));
        }
        let node = self.node(ino)?;
        if let Node::Content(id, known) = &node {
            let newest = self.registry.newest(id);
            if newest.as_ref().map(|newest| newest.revision) != Some(known.revision) {
                let is_open = lock(&self.handles).is_open(ino);
                // fstat(2) sends no handle, but its process has the file open.
                let by_name = is_open && fh.is_none() && self.has_no_content_open(pid).await;
                return self.outdated(ino, known, newest, is_open && !by_name);
            }
        }
        let entry = self.entry(ino, &node);
        Ok((entry.attr, entry.attr_ttl))
    }

    /// Returns the attributes of a node, with their times to live.
    pub(super) fn entry(&self, ino: u64, node: &Node) -> LookupEntry {
        let ttl = self.registry.settings().ttl;
        let started = self.mount.started;
        let (kind, size, time, entry_ttl, attr_ttl) = match node {
            // A rename can turn this name into an artifact's, with another inode, at any time.
            Node::TemporaryFile(temporary) => {
                let attr = temporary.attr(ino);
                return LookupEntry {
                    attr,
                    entry_ttl: Duration::ZERO,
                    attr_ttl: Duration::ZERO,
                };
            }
            Node::Root | Node::Plans(_) | Node::Control => {
                (FileKind::Directory, 0, started, FOR_EVER, FOR_EVER)
            }
            Node::Repo(_) => (FileKind::Directory, 0, started, ttl, FOR_EVER),
            Node::Migrations(_) | Node::Versions(_) | Node::Tags(_) => {
                (FileKind::Directory, 0, started, FOR_EVER, FOR_EVER)
            }
            Node::Latest(_) => (FileKind::Symlink, TAG_BYTES, started, FOR_EVER, FOR_EVER),
            Node::Content(id, known) if node.is_tag() => {
                let fresh = self.registry.fresh_for(&id.section());
                (FileKind::Symlink, TAG_BYTES, known.time, fresh, FOR_EVER)
            }
            Node::Version(id) | Node::Archive(id) => {
                (FileKind::Directory, 0, time_of(id), FOR_EVER, FOR_EVER)
            }
            Node::Archived(file) => {
                let time = time_of(&file.archive);
                (FileKind::File, file.size, time, FOR_EVER, FOR_EVER)
            }
            Node::Content(id, known) if id.item.is_immutable() => {
                (FileKind::File, known.size, known.time, FOR_EVER, FOR_EVER)
            }
            Node::KeptDir(_) => (FileKind::Directory, 0, started, Duration::ZERO, FOR_EVER),
            Node::ControlFile(report) => {
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
                let fresh = self.registry.fresh_for(&id.section());
                (FileKind::File, known.size, known.time, fresh, FOR_EVER)
            }
            Node::Blank(_) => {
                // The mode shows in `ls -l` that the artifact is in this mount alone.
                let attr = Attr {
                    perm: 0o600,
                    ..self.attr(ino, FileKind::File, 0, started)
                };
                return LookupEntry {
                    attr,
                    entry_ttl: Duration::ZERO,
                    attr_ttl: Duration::ZERO,
                };
            }
            Node::StagedFile(staged) => {
                return LookupEntry {
                    attr: self.attr_of(ino, staged),
                    entry_ttl: Duration::ZERO,
                    attr_ttl: Duration::ZERO,
                };
            }
        };
        let mut attr = self.attr(ino, kind, size, time);
        if node.is_immutable() {
            attr.perm &= 0o555;
        }
        if node.is_tag() {
            attr.perm = 0o777;
        }
        LookupEntry {
            attr,
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

    pub(super) fn attr(&self, ino: u64, kind: FileKind, size: u64, time: SystemTime) -> Attr {
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

    /// Sets the size. Modes, owners and times are accepted, but only temporary files keep them: a
    /// target can't store them.
    ///
    /// # Errors
    ///
    /// [`Error::TooBig`], [`Error::NoSpace`]; for a truncation by path, the error of the push.
    pub async fn setattr(
        self: Arc<Self>,
        ino: u64,
        fh: Option<u64>,
        set: SetAttr,
        caller: impl Into<Caller>,
    ) -> Result<(Attr, Duration)> {
        let caller = caller.into();
        self.writable()?;
        let node = self.node(ino)?;
        if node.is_immutable() {
            return Err(Error::NotPermitted);
        }
        if let Node::TemporaryFile(temporary) = &node {
            match (temporary.pushed(), set.size) {
                (None, _) => temporary.set(&set, self.now())?,
                (Some(staged), Some(size)) => staged.set_size(size, self.now())?,
                (Some(_), None) => {}
            }
            return self.getattr(ino, fh, caller.pid).await;
        }
        let Some(size) = set.size else {
            return self.getattr(ino, fh, caller.pid).await;
        };
        if let Some(Handle::StagedFile { staged, .. }) = fh.and_then(|fh| self.handle(fh).ok()) {
            staged.set_size(size, self.now())?;
            return self.getattr(ino, fh, caller.pid).await;
        }
        match &node {
            Node::StagedFile(staged) if staged.is_open() => staged.set_size(size, self.now())?,
            Node::StagedFile(_) => self.truncate_in_task(ino, size, caller).await?,
            Node::Content(..) | Node::Blank(_) => {
                if self.retry_for_writing(caller.pid, &node) {
                    return Err(Error::Stale);
                }
                self.truncate_in_task(ino, size, caller).await?;
            }
            // A shell's redirection truncates the file before it writes.
            Node::ControlFile(ControlFile::Jobs) => {}
            node if node.is_directory() => return Err(Error::IsDirectory),
            _ => return Err(Error::NotPermitted),
        }
        self.getattr(ino, fh, caller.pid).await
    }

    /// Truncates in a task of its own: the handle must be released even if the caller gives up.
    async fn truncate_in_task(self: &Arc<Self>, ino: u64, size: u64, caller: Caller) -> Result<()> {
        let truncation = tokio::spawn(Arc::clone(self).truncate_by_path(ino, size, caller));
        truncation.await.unwrap_or(Err(Error::Io))
    }

    /// Does truncate(2): opens, changes the size, and closes, which pushes.
    async fn truncate_by_path(self: Arc<Self>, ino: u64, size: u64, caller: Caller) -> Result<()> {
        let how = OpenMode {
            write: true,
            ..OpenMode::default()
        };
        let opened = self.clone().open_for_writing(ino, how, caller).await?;
        let changed = match self.handle(opened.fh)? {
            Handle::StagedFile { staged, .. } => staged.set_size(size, self.now()),
            _ => Err(Error::BadHandle),
        };
        let pushed = match changed {
            Ok(()) => self.clone().flush(opened.fh, caller.pid).await,
            Err(error) => Err(error),
        };
        self.release(opened.fh).await?;
        pushed
    }

    /// Returns made-up figures: an object store has no known size.
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

    /// Reads an extended attribute.
    ///
    /// # Errors
    ///
    /// [`Error::NoAttribute`].
    pub async fn getxattr(self: Arc<Self>, ino: u64, name: &OsStr) -> Result<Bytes> {
        let node = self.node(ino)?;
        if let Node::TemporaryFile(temporary) = &node {
            return temporary.xattr(name);
        }
        let name = name
            .to_str()
            .and_then(|name| name.strip_prefix(ARTIFACT_XATTR_PREFIX));
        let name = name.ok_or(Error::NoAttribute)?;
        let attributes = self.xattrs(&node).await;
        let mut attributes = attributes.into_iter();
        let found = attributes.find(|(known, _)| *known == name);
        found
            .map(|(_, value)| value.into())
            .ok_or(Error::NoAttribute)
    }

    /// Lists the names of an inode's extended attributes.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] for an unknown inode.
    pub async fn listxattr(self: Arc<Self>, ino: u64) -> Result<Vec<OsString>> {
        let node = self.node(ino)?;
        if let Node::TemporaryFile(temporary) = &node {
            return Ok(temporary.xattrs());
        }
        let attributes = self.xattrs(&node).await.into_iter();
        Ok(attributes
            .map(|(name, _)| format!("{ARTIFACT_XATTR_PREFIX}{name}").into())
            .collect())
    }

    /// Sets an extended attribute of a temporary file, or the status of a plan, which is a push.
    ///
    /// # Errors
    ///
    /// [`Error::NotSupported`] for others; the error of the flag; [`Error::NoSpace`];
    /// [`Error::Invalid`] for another status; the error of the push.
    pub async fn setxattr(
        self: Arc<Self>,
        ino: u64,
        name: &OsStr,
        value: &[u8],
        flag: XattrFlag,
        caller: impl Into<Caller>,
    ) -> Result<()> {
        self.writable()?;
        let is_status = name == STATUS_XATTR;
        let node = match self.node(ino)? {
            Node::TemporaryFile(temporary) => match temporary.pushed().filter(|_| is_status) {
                Some(staged) => Node::StagedFile(staged),
                None => return temporary.set_xattr(name, value, flag, self.now()),
            },
            node if node.is_immutable() => return Err(Error::NotPermitted),
            node => node,
        };
        match is_status {
            true => self.set_status(node, value, flag, caller.into()).await,
            false => Err(Error::NotSupported),
        }
    }

    /// Removes an extended attribute of a temporary file.
    ///
    /// # Errors
    ///
    /// [`Error::NotSupported`] for other files; [`Error::NoAttribute`].
    pub fn removexattr(&self, ino: u64, name: &OsStr) -> Result<()> {
        self.writable()?;
        match self.node(ino)? {
            Node::TemporaryFile(temporary) => temporary.remove_xattr(name, self.now()),
            _ => Err(Error::NotSupported),
        }
    }

    async fn xattrs(&self, node: &Node) -> Vec<(&'static str, String)> {
        if let Node::Migrations(repo) = node {
            return self.directory_xattrs(repo).await;
        }
        let Some(id) = node.artifact() else {
            return Vec::new();
        };
        let is_unread = match node {
            Node::Content(_, known) => known.stamp().is_none(),
            Node::Version(_) | Node::Archive(_) => true,
            _ => false,
        };
        if is_unread {
            // Without a stamp, the hash is computed from the content; unreadable content has none.
            let _ = self.registry.pull(id).await;
        }
        let mut attributes = vec![("url", id.atlas_url())];
        // A writer sees the status that its close will push.
        let mut status = match node {
            Node::StagedFile(staged) => staged.status(),
            _ => None,
        };
        let Some(about) = self.registry.about(id) else {
            attributes.extend(status.map(|status| ("status", status.to_string())));
            return attributes;
        };
        let About {
            known,
            source,
            stale,
            pending,
            error,
            receipt,
        } = about;
        if let Some(stamp) = known.and_then(|known| known.stamp()) {
            attributes.push(("version", stamp.version().to_string()));
            attributes.push(("sha256", stamp.sha256.to_string()));
            attributes.extend(stamp.author.map(|author| ("author", author.to_string())));
            if matches!(id.item, Item::Plan(_)) {
                status = status.or(Some(stamp.status));
            }
        }
        attributes.extend(status.map(|status| ("status", status.to_string())));
        attributes.extend(source.map(|source| ("source", source)));
        attributes.extend(stale.map(|stale| ("stale", stale.as_secs().to_string())));
        if !pending.is_empty() {
            attributes.push(("pending", pending.join(" ")));
        }
        attributes.extend(error.map(|error| ("error", error)));
        attributes.extend(receipt.map(|receipt| ("push", receipt)));
        attributes
    }
}

/// Returns the time of a version.
fn time_of(id: &ArtifactId) -> SystemTime {
    let when = id.item.version().map_or(0, Version::when);
    SystemTime::UNIX_EPOCH + Duration::from_nanos(when)
}
