//! The memory cache: contents by their hash, least recently used first out, bounded in bytes.

use std::sync::Mutex;

use bytes::Bytes;
use lru::LruCache;

use super::lock;
use crate::model::Sha256;

/// The size of the cache and its hit counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheFigures {
    /// Contents held.
    pub entries: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The bound in bytes.
    pub capacity: u64,
    /// Lookups that found their content.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
}

/// An LRU of contents, addressed by hash, so that nothing in it is ever out of date: the index
/// decides which content to serve.
#[derive(Debug)]
pub struct Cache {
    state: Mutex<LruState>,
}

#[derive(Debug)]
struct LruState {
    contents: LruCache<Sha256, Bytes>,
    figures: CacheFigures,
}

impl Cache {
    /// Creates a cache that holds at most `capacity` bytes of content.
    pub fn new(capacity: u64) -> Self {
        Self {
            state: Mutex::new(LruState {
                contents: LruCache::unbounded(),
                figures: CacheFigures {
                    capacity,
                    ..CacheFigures::default()
                },
            }),
        }
    }

    /// Returns a content and makes it the most recently used.
    pub fn get(&self, hash: &Sha256) -> Option<Bytes> {
        let mut state = lock(&self.state);
        let found = state.contents.get(hash).cloned();
        match found {
            Some(_) => state.figures.hits += 1,
            None => state.figures.misses += 1,
        }
        found
    }

    /// Keeps a content, unless it is larger than the whole cache.
    pub fn insert(&self, hash: Sha256, content: Bytes) {
        let mut state = lock(&self.state);
        let size = content.len() as u64;
        if size > state.figures.capacity || state.contents.contains(&hash) {
            return;
        }
        while state.figures.bytes + size > state.figures.capacity {
            let Some((_, dropped)) = state.contents.pop_lru() else {
                break;
            };
            state.figures.bytes -= dropped.len() as u64;
        }
        state.figures.bytes += size;
        state.contents.put(hash, content);
    }

    /// Returns the size of the cache and its hit counts.
    pub fn figures(&self) -> CacheFigures {
        let state = lock(&self.state);
        CacheFigures {
            entries: state.contents.len(),
            ..state.figures
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(byte: u8, size: usize) -> (Sha256, Bytes) {
        let content = Bytes::from(vec![byte; size]);
        (Sha256::of(&content), content)
    }

    #[test]
    fn the_cache_is_bounded_in_bytes_and_drops_the_least_recently_used() {
        let cache = Cache::new(100);
        let (a, b, c) = (content(1, 40), content(2, 40), content(3, 40));
        cache.insert(a.0, a.1);
        cache.insert(b.0, b.1);
        assert!(cache.get(&a.0).is_some());
        cache.insert(c.0, c.1);
        assert!(cache.get(&a.0).is_some());
        assert!(cache.get(&b.0).is_none(), "b was used least recently");
        assert!(cache.get(&c.0).is_some());
        let figures = cache.figures();
        assert_eq!((figures.entries, figures.bytes), (2, 80));
        assert_eq!((figures.hits, figures.misses), (3, 1));
    }

    #[test]
    fn what_is_larger_than_the_cache_is_not_kept_and_drops_nothing() {
        let cache = Cache::new(100);
        let (small, large) = (content(1, 100), content(2, 101));
        cache.insert(small.0, small.1);
        cache.insert(large.0, large.1);
        assert!(cache.get(&large.0).is_none());
        assert!(cache.get(&small.0).is_some());
    }

    #[test]
    fn the_same_content_counts_once() {
        let cache = Cache::new(100);
        for _ in 0..3 {
            let (hash, content) = content(1, 60);
            cache.insert(hash, content);
        }
        assert_eq!(cache.figures().bytes, 60);
    }
}
