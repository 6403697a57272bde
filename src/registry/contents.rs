//! Contents by their hash: in memory, on this machine's disk, or in a pending entry of the journal.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::cache::Cache;
use super::disk_cache::DiskCache;
use super::journal::Journal;
use crate::model::{Sha256, Stamp};

/// How long a pull waits for this machine's disk before it asks the targets. 250 ms: a disk that
/// is slower than that is slower than most registries.
const DISK_TIMEOUT: Duration = Duration::from_millis(250);

/// How long the pull waits for the disk if the targets have used up all of the time. 25 ms: the
/// disk is the only source left, and the request may be late by more than that.
const LAST_DISK_TIMEOUT: Duration = Duration::from_millis(25);

/// Both caches, and the journal.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) memory: Cache,
    pub(super) disk: DiskCache,
    pub(super) journal: Arc<Journal>,
}

impl Contents {
    /// Keeps a content in both caches.
    pub(super) fn insert(&self, hash: Sha256, content: &Bytes) {
        self.memory.insert(hash, content.clone());
        self.disk.insert(hash, content.clone());
    }

    /// Returns a content from memory, or from a pending push in the journal.
    pub(super) fn get(&self, stamp: &Stamp) -> Option<Bytes> {
        if let Some(bytes) = self.memory.get(&stamp.sha256) {
            self.disk.touch(&stamp.sha256);
            return Some(bytes);
        }
        let pending = self.journal.pending().into_iter();
        let mut pending = pending.filter(|record| record.stamp == *stamp);
        let bytes = self.journal.content(pending.next()?.stamp.when).ok()?;
        self.insert(stamp.sha256, &bytes);
        Some(bytes)
    }

    /// Returns a content from disk, if the disk returns it soon, and by `end` or shortly after.
    pub(super) async fn on_disk(&self, stamp: Option<&Stamp>, end: Instant) -> Option<Bytes> {
        let hash = stamp?.sha256;
        let now = Instant::now();
        let end = end.clamp(now + LAST_DISK_TIMEOUT, now + DISK_TIMEOUT);
        let bytes = timeout_at(end, self.disk.get(&hash)).await.ok()??;
        self.memory.insert(hash, bytes.clone());
        Some(bytes)
    }
}
