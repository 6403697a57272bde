//! One mount's connection to one store of the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::truth::{Sim, is_unreadable};
use crate::store::{Backend, Condition, Failure, Listed, Memory, SignedStamp, Stored, Token};

/// The connection. It takes time, and breaks when the mount is killed.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) sim: Arc<Sim>,
    pub(super) place: usize,
    /// Set when the mount is killed: its requests have no effect from then on.
    pub(super) cut: Arc<AtomicBool>,
}

impl Link {
    async fn travel(&self) {
        let time = self.sim.lock().network.below(12) as u64 + 1;
        tokio::time::sleep(Duration::from_millis(time)).await;
        if self.cut.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    /// Sends a request, and returns the store that gets it.
    async fn store(&self) -> Memory {
        self.travel().await;
        self.sim.lock().stores[self.place].clone()
    }
}

fn as_seen(mut listed: Listed, content: Option<&Bytes>) -> Listed {
    if content.is_some_and(is_unreadable) {
        (listed.stamp, listed.unreadable) = (None, true);
    }
    listed
}

#[async_trait]
impl Backend for Link {
    async fn get(&self, key: &str, limit: u64) -> Result<Stored, Failure> {
        let mut stored = self.store().await.get(key, limit).await?;
        self.travel().await;
        if is_unreadable(&stored.content) {
            (stored.stamp, stored.unreadable) = (None, true);
        }
        Ok(stored)
    }

    async fn head(&self, key: &str) -> Result<Listed, Failure> {
        let store = self.store().await;
        let listed = store.head(key).await?;
        self.travel().await;
        Ok(as_seen(listed, store.content(key).as_ref()))
    }

    async fn put(
        &self,
        key: &str,
        content: Bytes,
        stamp: &SignedStamp,
        condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        let store = self.store().await;
        self.sim
            .lock()
            .arrives(self.place, key, &content, &stamp.stamp);
        let put = store.put(key, content, stamp, condition).await;
        self.sim.lock().identified(self.place, key);
        self.travel().await;
        put
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        let store = self.store().await;
        let there = store.content(key);
        let deleted = store.delete(key).await;
        if deleted.is_ok() && there.is_some() {
            self.sim.lock().leaves(self.place, key);
        }
        self.travel().await;
        deleted
    }

    async fn list_up_to(&self, prefix: &str, last: Option<&str>) -> Result<Vec<Listed>, Failure> {
        let store = self.store().await;
        let listed = store.list_up_to(prefix, last).await?;
        self.travel().await;
        let listed = listed.into_iter().map(|listed| {
            let content = store.content(&listed.key);
            as_seen(listed, content.as_ref())
        });
        Ok(listed.collect())
    }

    async fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        let listed = self.store().await.list_prefixes().await;
        self.travel().await;
        listed
    }

    async fn probe(&self) -> Result<(), Failure> {
        self.store().await.probe().await
    }
}
