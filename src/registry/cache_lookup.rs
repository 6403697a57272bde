//! What this machine has of a content: in memory, on disk, or in the journal on its way.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::Registry;
use super::entry::{Revision, Source};
use super::pull::Pulled;
use crate::model::{Sha256, Stamp};

/// How long a pull waits for this machine's disk before it asks the targets. 250 ms: a disk that
/// is slower than that is slower than most registries.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long the disk is waited for when the targets have taken all of the time: it is all that is
/// left, and less than what a request may be late.
const LAST: Duration = Duration::from_millis(25);

impl Pulled {
    /// Makes what a pull from the cache gives.
    pub(super) fn from_cache(bytes: Bytes, known: Revision, stale: Option<Duration>) -> Self {
        Self {
            bytes,
            known,
            source: Source::Cache,
            stale,
        }
    }
}

impl Registry {
    /// Keeps a content in the caches.
    pub(super) fn cache_insert(&self, hash: Sha256, content: &Bytes) {
        self.cache.insert(hash, content.clone());
        self.disk.insert(hash, content.clone());
    }

    /// Returns a content that is in memory, or in the journal on its way.
    pub(super) fn cache_lookup(&self, stamp: &Stamp) -> Option<Bytes> {
        if let Some(bytes) = self.cache.get(&stamp.sha256) {
            self.disk.touch(&stamp.sha256);
            return Some(bytes);
        }
        let pending = self.journal.pending().into_iter();
        let mut pending = pending.filter(|record| record.stamp == *stamp);
        let bytes = self.journal.content(pending.next()?.stamp.when).ok()?;
        self.cache_insert(stamp.sha256, &bytes);
        Some(bytes)
    }

    /// Returns a content that is on disk, if the disk gives it soon, and by `end` or shortly after.
    pub(super) async fn on_disk(&self, stamp: Option<&Stamp>, end: Instant) -> Option<Bytes> {
        let hash = stamp?.sha256;
        let now = Instant::now();
        let end = end.clamp(now + LAST, now + PATIENCE);
        let bytes = timeout_at(end, self.disk.get(&hash)).await.ok()??;
        self.cache.insert(hash, bytes.clone());
        Some(bytes)
    }
}
