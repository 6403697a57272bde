//! What is known of the tags of an OCI repository: the manifest that was last read under each.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use super::manifest::Manifest;

/// More artifacts than one mount is likely to list, at some 300 bytes each.
const TAGS: NonZeroUsize = NonZeroUsize::new(16 << 10).unwrap();

/// What is known of the tags. A manifest never changes; which one a tag is on, does: the digest
/// says whether this is still the one.
pub(super) struct Known(Mutex<LruCache<String, (String, Manifest)>>);

impl Default for Known {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(TAGS)))
    }
}

impl Known {
    /// Returns the digest and the manifest that a tag was on last.
    pub(super) fn of(&self, tag: &str) -> Option<(String, Manifest)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(tag).cloned()
    }

    /// Remembers what a tag is on.
    pub(super) fn learn(&self, tag: String, digest: &str, manifest: &Manifest) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.put(tag, (digest.into(), manifest.clone()));
    }
}
