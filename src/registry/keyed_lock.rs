//! Turns: one push of an artifact at a time.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::OwnedMutexGuard;

use super::lock;

/// A queue for each key; a key that nobody waits for costs nothing.
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
        write!(out, "Turns({})", lock(&self.queues).len())
    }
}

impl<K: Clone + Eq + Hash> KeyedLock<K> {
    /// Waits for the key's turn, which ends when the guard is dropped.
    pub async fn take(&self, key: &K) -> OwnedMutexGuard<()> {
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
        let turns = KeyedLock::default();
        let first = turns.take(&1).await;
        let _other = turns.take(&2).await;
        let waits = tokio::time::timeout(Duration::from_secs(1), turns.take(&1)).await;
        assert!(waits.is_err());
        drop(first);
        let _next = turns.take(&1).await;
    }

    #[tokio::test]
    async fn a_key_that_nobody_holds_is_forgotten() {
        let turns = KeyedLock::default();
        for key in 0..100 {
            let _turn = turns.take(&key).await;
        }
        assert!(lock(&turns.queues).len() <= 2);
    }
}
