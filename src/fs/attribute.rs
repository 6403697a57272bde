//! Attributes, extended attributes, and what an inode may be set to.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::bounce::Wish;
use super::handle::Handle;
use super::node::{Node, Report};
use super::{Attr, Entry, Error, FOR_EVER, FileKind, Fs, OpenHow, Result, SetAttr, Statfs};
use crate::artifact::{MAX_NAME_BYTES, when_to_text};
use crate::registry::About;

/// The prefix of the extended attributes.
const PREFIX: &str = "user.atlas.";

impl Fs {
    /// Returns the attributes, and for how long the kernel may keep them.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] for an inode that is no more.
    pub async fn getattr(self: Arc<Self>, ino: u64, fh: Option<u64>) -> Result<(Attr, Duration)> {
        if let Some(Handle::Working { working, .. }) = fh.and_then(|fh| self.handle(fh).ok()) {
            let (size, time) = working.attributes();
            return Ok((self.attr(ino, FileKind::File, size, time), Duration::ZERO));
        }
        let node = self.node(ino)?;
        let entry = self.entry(ino, &node);
        Ok((entry.attr, entry.attr_ttl))
    }

    /// Returns how the kernel is to see a node.
    pub(super) fn entry(&self, ino: u64, node: &Node) -> Entry {
        let ttl = self.registry.settings().ttl;
        let started = self.settings.mount.started;
        let (kind, size, time, entry_ttl, attr_ttl) = match node {
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
            Node::Content(id, known) => {
                let fresh = self.registry.fresh_for(&id.repo);
                (FileKind::File, known.size, known.time, fresh, FOR_EVER)
            }
            Node::Blank(_) => (FileKind::File, 0, started, Duration::ZERO, Duration::ZERO),
            Node::Working(working) => {
                let (size, time) = working.attributes();
                (FileKind::File, size, time, Duration::ZERO, Duration::ZERO)
            }
        };
        Entry {
            attr: self.attr(ino, kind, size, time),
            entry_ttl,
            attr_ttl,
        }
    }

    fn attr(&self, ino: u64, kind: FileKind, size: u64, time: SystemTime) -> Attr {
        let perm = match (kind, self.settings.read_only) {
            (FileKind::Directory, false) => 0o755,
            (FileKind::Directory, true) => 0o555,
            (FileKind::File, false) => 0o644,
            (FileKind::File, true) => 0o444,
        };
        Attr {
            ino,
            kind,
            perm,
            size,
            time,
        }
    }

    /// Sets the size; accepts everything else and changes nothing: modes, owners and times are
    /// nothing that a target could keep.
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
        let Some(size) = set.size else {
            return self.getattr(ino, fh).await;
        };
        if let Some(Handle::Working { working, .. }) = fh.and_then(|fh| self.handle(fh).ok()) {
            working.set_size(size, self.now())?;
            return self.getattr(ino, fh).await;
        }
        let node = self.node(ino)?;
        match &node {
            Node::Working(working) if working.is_open() => working.set_size(size, self.now())?,
            Node::Working(_) => self.truncate_apart(ino, size, pid).await?,
            Node::Content(id, _) | Node::Blank(id) => {
                if self.send_back(pid, id, Wish::Write) {
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
        let how = OpenHow {
            write: true,
            ..OpenHow::default()
        };
        let opened = self.clone().open_for_writing(ino, how, pid).await?;
        let changed = match self.handle(opened.fh)? {
            Handle::Working { working, .. } => working.set_size(size, self.now()),
            _ => Err(Error::BadHandle),
        };
        let pushed = match changed {
            Ok(()) => self.clone().flush(opened.fh).await,
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

    /// Reads an extended attribute.
    ///
    /// # Errors
    ///
    /// [`Error::NoAttribute`].
    pub async fn getxattr(self: Arc<Self>, ino: u64, name: &OsStr) -> Result<Bytes> {
        let name = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let name = name.ok_or(Error::NoAttribute)?;
        let node = self.node(ino)?;
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
    /// [`Error::Stale`] for an inode that is no more.
    pub async fn listxattr(self: Arc<Self>, ino: u64) -> Result<Vec<String>> {
        let node = self.node(ino)?;
        let attributes = self.xattrs(&node).await.into_iter();
        Ok(attributes
            .map(|(name, _)| format!("{PREFIX}{name}"))
            .collect())
    }

    async fn xattrs(&self, node: &Node) -> Vec<(&'static str, String)> {
        let Some(id) = node.artifact() else {
            return Vec::new();
        };
        if matches!(node, Node::Content(_, known) if known.stamp.is_none()) {
            // Only the content tells its hash; what can't be read now has fewer attributes.
            let _ = self.registry.pull(id).await;
        }
        let mut attributes = vec![("url", id.atlas_url())];
        let Some(about) = self.registry.about(id) else {
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
        if let Some(stamp) = known.and_then(|known| known.stamp) {
            attributes.push(("version", version(stamp.when)));
            attributes.push(("sha256", stamp.sha256.to_string()));
        }
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

/// Writes a stamp's time as Atlas writes a version: `YYYYMMDDhhmmss`, UTC.
fn version(when: u64) -> String {
    let digits = when_to_text(when);
    digits
        .chars()
        .filter(char::is_ascii_digit)
        .take(14)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_atlas_time() {
        assert_eq!(version(1_725_989_864_000_000_001), "20240910173744");
    }
}
