//! What can be known of a content and of a target, as values.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::observed::SharedStamp;
use crate::model::{Sha256, Stamp};
use crate::registry::replica::TargetId;
use crate::store::{Meta, Token};

/// The newest content of an artifact that the mount knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Tells one content of an artifact from the next, within this mount. Grows.
    pub revision: u64,
    /// The size in bytes.
    pub size: u64,
    /// The time that the file system shows. It stays the same for as long as the revision does.
    pub time: SystemTime,
    pub(super) stamp: SharedStamp,
    /// The target that told of it.
    pub(super) from: TargetId,
    /// Whether anybody has seen `time`.
    pub(super) shown: bool,
}

impl Revision {
    /// Returns the stamp; `None` until the content has been read from a store whose listing
    /// carries none.
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamp.get()
    }
}

/// What the registry is expected to hold when a push replaces the current content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing.
    Absent,
    /// The content with this token.
    Token(Token),
    /// The mount can't say: the registry has to be asked.
    Ask,
}

/// What is known of the registry when a push is to replace the current content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// What it is expected to hold.
    pub expectation: Expectation,
    /// The stamp of the newest content known.
    pub newest: Option<Stamp>,
    /// It may hold nothing without anybody having deleted it.
    pub may_be_absent: bool,
}

/// Whether a content that a target gave is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It is the newest content known.
    Current,
    /// It is older than what this mount has served or pushed: the target is behind.
    Behind,
}

/// Where a content came from, as `user.atlas.source` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The memory cache.
    Cache,
    /// A target.
    Target(TargetId),
}

/// Returns the store's own time of a listed object, made unique to its content: stores cut their
/// times to the second, and the kernel tells contents apart by their times.
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
