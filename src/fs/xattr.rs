//! Extended attributes: what is known of an artifact, and what tools keep beside a scratch file.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use bytes::Bytes;

use super::node::Node;
use super::{Error, Fs, Result, XattrFlag};
use crate::model::when_to_text;
use crate::registry::About;

/// The prefix of the extended attributes of an artifact.
const PREFIX: &str = "user.atlas.";

impl Fs {
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
        let name = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
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
    /// [`Error::Stale`] for an inode that is no more.
    pub async fn listxattr(self: Arc<Self>, ino: u64) -> Result<Vec<OsString>> {
        let node = self.node(ino)?;
        if let Node::TemporaryFile(temporary) = &node {
            return Ok(temporary.xattrs());
        }
        let attributes = self.xattrs(&node).await.into_iter();
        Ok(attributes
            .map(|(name, _)| format!("{PREFIX}{name}").into())
            .collect())
    }

    /// Sets an extended attribute of a scratch file.
    ///
    /// # Errors
    ///
    /// [`Error::NotSupported`] for everything else; what the flag asks for; [`Error::NoSpace`].
    pub fn setxattr(&self, ino: u64, name: &OsStr, value: &[u8], flag: XattrFlag) -> Result<()> {
        self.writable()?;
        match self.node(ino)? {
            Node::TemporaryFile(temporary) => temporary.set_xattr(name, value, flag, self.now()),
            _ => Err(Error::NotSupported),
        }
    }

    /// Removes an extended attribute of a scratch file.
    ///
    /// # Errors
    ///
    /// [`Error::NotSupported`] for everything else; [`Error::NoAttribute`].
    pub fn removexattr(&self, ino: u64, name: &OsStr) -> Result<()> {
        self.writable()?;
        match self.node(ino)? {
            Node::TemporaryFile(temporary) => temporary.remove_xattr(name, self.now()),
            _ => Err(Error::NotSupported),
        }
    }

    async fn xattrs(&self, node: &Node) -> Vec<(&'static str, String)> {
        let Some(id) = node.artifact() else {
            return Vec::new();
        };
        if matches!(node, Node::Content(_, known) if known.stamp().is_none()) {
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
        if let Some(stamp) = known.and_then(|known| known.stamp()) {
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
