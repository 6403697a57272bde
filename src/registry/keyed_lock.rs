//! A lock for each key: one push of an artifact at a time.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::OwnedMutexGuard;

use super::lock;

/// A queue for each key; an unused key costs nothing.
pub struct KeyedLock<K> {
    queues: Mutex<HashMap<K, Weak<tokio::sync::Mutex<()>>>>,
}

impl<K> Default for KeyedLock<K> {
    fn default() -> Self {
        Self {
            queues: Mutex::default(),
        }
    }
}

impl<K> fmt::Debug for KeyedLock<K> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "KeyedLock({})", lock(&self.queues).len())
    }
}

impl<K: Clone + Eq + Hash> KeyedLock<K> {
    /// Locks a key until the guard is dropped.
    pub async fn lock(&self, key: &K) -> OwnedMutexGuard<()> {
        let queue = {
            let mut queues = lock(&self.queues);
            queues.retain(|_, queue| queue.strong_count() > 0);
            match queues.get(key).and_then(Weak::upgrade) {
                Some(queue) => queue,
                None => {
                    let queue = Arc::default();
                    queues.insert(key.clone(), Arc::downgrade(&queue));
                    queue
                }
            }
        };
        queue.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_key_waits_and_another_does_not() {
        let locks = KeyedLock::default();
        let first = locks.lock(&1).await;
        let _other = locks.lock(&2).await;
        let waits = tokio::time::timeout(Duration::from_secs(1), locks.lock(&1)).await;
        assert!(waits.is_err());
        drop(first);
        let _next = locks.lock(&1).await;
    }

    #[tokio::test]
    async fn a_key_that_nobody_holds_is_forgotten() {
        let locks = KeyedLock::default();
        for key in 0..100 {
            let _lock = locks.lock(&key).await;
        }
        assert!(lock(&locks.queues).len() <= 2);
    }
}
