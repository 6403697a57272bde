//! Values for the known state of a content and of a target.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::observed::SharedStamp;
use crate::model::{Sha256, Stamp};
use crate::registry::replica::TargetId;
use crate::store::{Meta, Token};

/// The newest content of an artifact that the mount knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The number of this content of the artifact, within this mount. It grows with each content.
    pub revision: u64,
    /// The size in bytes.
    pub size: u64,
    /// The time that the file system shows. It stays the same as long as the revision does.
    pub time: SystemTime,
    pub(super) stamp: SharedStamp,
    /// The target that reported it.
    pub(super) from: TargetId,
    /// Whether `time` has been shown already.
    pub(super) shown: bool,
}

impl Revision {
    /// Returns the stamp. If the store's listing carries none, it is `None` until the content has
    /// been read.
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamp.get()
    }
}

/// The expected state of the registry when a push replaces the current content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// No content.
    Absent,
    /// The content with this token.
    Token(Token),
    /// Unknown to the mount: the push has to ask the registry.
    Ask,
}

/// The known state of the registry when a push is to replace the current content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its expected state.
    pub expectation: Expectation,
    /// The stamp of the newest content known.
    pub newest: Option<Stamp>,
    /// Whether it may lack the artifact without a deletion.
    pub may_be_absent: bool,
}

/// Whether the mount accepts a content that a target returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It is the newest content known.
    Current,
    /// It is older than a content that this mount has served or pushed: the target is behind.
    Behind,
}

/// The origin of a content, as `user.atlas.source` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The memory cache.
    Cache,
    /// A target.
    Target(TargetId),
}

/// Returns the store's own time of a listed object, made unique to its content. Stores truncate
/// their times to the second, but the kernel distinguishes contents by time.
pub(super) fn unique_time(listed: &Meta) -> SystemTime {
    const SECOND: u32 = 1_000_000_000;
    let since = listed
        .modified
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if since.subsec_nanos() != 0 {
        return listed.modified;
    }
    let identity = match &listed.token {
        Some(token) => token.0.clone(),
        None => listed.size.to_string(),
    };
    let digits: String = Sha256::of(identity.as_bytes())
        .to_string()
        .chars()
        .take(7)
        .collect();
    let nanos = u32::from_str_radix(&digits, 16).map_or(0, |nanos| nanos % SECOND);
    listed.modified + Duration::from_nanos(nanos.into())
}
