//! The simulated stores: three shelves of one shared state, behind a network that is slow, loses
//! replies and breaks in the middle of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::truth::{KEYS, Object, Sim, time_of};
use crate::store::{Backend, Condition, Failure, Fault, Kind, Listed, SignedStamp, Stored, Token};

/// One mount's connection to one store.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) sim: Arc<Sim>,
    pub(super) place: usize,
    pub(super) mount: usize,
    /// Set when the mount is killed: its requests in flight have no effect from then on.
    pub(super) cut: Arc<AtomicBool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Get,
    Head,
    Write,
    List,
}

impl Way {
    async fn travel(&self) {
        let time = self.sim.lock().network.below(12) as u64 + 1;
        tokio::time::sleep(Duration::from_millis(time)).await;
        self.alive().await;
    }

    /// A slow store is slow at times, and never by the same amount.
    async fn dawdle(&self, time: Duration) {
        if self.coin() {
            let part = self.sim.lock().network.below(1_000) as u32;
            tokio::time::sleep(time * part / 500).await;
        }
    }

    async fn alive(&self) {
        if self.cut.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    fn fault(&self) -> Option<Fault> {
        self.sim.lock().stores[self.place].fault
    }

    fn coin(&self) -> bool {
        self.sim.lock().network.percent(50)
    }

    /// The request on its way to the store.
    async fn request(&self, asked: Asked) -> Result<(), Failure> {
        self.travel().await;
        let injected = |kind| Err(Failure::new(kind, "planted"));
        loop {
            match self.fault() {
                Some(Fault::Fail(kind)) => return injected(kind),
                Some(Fault::FailWrites(kind)) if asked == Asked::Write => return injected(kind),
                Some(Fault::FailHeads(kind)) if asked == Asked::Head => return injected(kind),
                Some(Fault::FailReads(kind)) if matches!(asked, Asked::Get | Asked::Head) => {
                    return injected(kind);
                }
                // A black hole loses a packet for good, or lets a retry through later.
                Some(Fault::Hang) if self.coin() => std::future::pending().await,
                Some(Fault::Hang) => tokio::time::sleep(Duration::from_millis(100)).await,
                Some(Fault::Slow(time)) => {
                    self.dawdle(time).await;
                    break;
                }
                _ => break,
            }
            self.alive().await;
        }
        self.alive().await;
        Ok(())
    }

    /// The reply on its way back.
    async fn reply(&self, asked: Asked) -> Result<(), Failure> {
        self.travel().await;
        let lost = Err(Failure::new(Kind::Unreachable, "the reply is lost"));
        match self.fault() {
            Some(Fault::Fail(Kind::Unreachable | Kind::StoreMissing)) => lost,
            Some(Fault::LoseReplies) if asked == Asked::Write => lost,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Slow(time)) => {
                self.dawdle(time).await;
                self.alive().await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn find(&self, key: &str) -> Result<Object, Failure> {
        let truth = self.sim.lock();
        let object = truth.stores[self.place].objects.get(key).cloned();
        object.ok_or_else(|| Failure::new(Kind::NotFound, format!("no {key}")))
    }

    /// The answer of a store with bad disks: half of the bytes, other bytes, or nothing.
    fn rotten(&self, content: &Bytes) -> Bytes {
        match self.sim.lock().network.below(3) {
            0 => content.slice(..content.len() / 2),
            1 => Bytes::from_static(b"schema \"rotten\" {}\n"),
            _ => Bytes::new(),
        }
    }
}

fn listed(key: &str, object: &Object, with_stamp: bool) -> Listed {
    Listed {
        key: key.into(),
        size: object.content.len() as u64,
        stamp: object.stamp.filter(|_| with_stamp).map(Into::into),
        unreadable: false,
        token: Some(Token(object.token.to_string())),
        modified: time_of(object.modified),
    }
}

#[async_trait]
impl Backend for Way {
    async fn get(&self, key: &str, _limit: u64) -> Result<Stored, Failure> {
        self.request(Asked::Get).await?;
        let mut object = self.find(key)?;
        // No mount can check content without a stamp.
        if self.fault() == Some(Fault::Corrupt) && object.stamp.is_some() {
            object.content = self.rotten(&object.content);
        }
        self.reply(Asked::Get).await?;
        Ok(Stored {
            content: object.content,
            stamp: object.stamp.map(Into::into),
            unreadable: false,
            token: Some(Token(object.token.to_string())),
            modified: time_of(object.modified),
        })
    }

    async fn head(&self, key: &str) -> Result<Listed, Failure> {
        self.request(Asked::Head).await?;
        let object = self.find(key)?;
        self.reply(Asked::Head).await?;
        Ok(listed(key, &object, true))
    }

    async fn put(
        &self,
        key: &str,
        content: Bytes,
        SignedStamp { stamp, .. }: &SignedStamp,
        condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        self.sim.lock().ordered(&content, stamp);
        // A tombstone keeps the time of its deletion wherever it is copied.
        if KEYS.contains(&key) {
            self.sim.lock().check_stamp(self.mount, stamp);
        }
        self.request(Asked::Write).await?;
        let token = {
            let mut truth = self.sim.lock();
            let there = truth.stores[self.place].objects.get(key);
            let there = there.map(|object| object.token.to_string());
            let met = match condition {
                Condition::None => true,
                Condition::Absent => there.is_none(),
                Condition::Unchanged(Token(token)) => there.as_ref() == Some(token),
            };
            met.then(|| truth.put(self.place, key, content, Some(*stamp), Some(self.mount)))
        };
        self.reply(Asked::Write).await?;
        match token {
            Some(token) => Ok(Some(Token(token.to_string()))),
            None => Err(Failure::new(Kind::Conflict, format!("{key} has changed"))),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.request(Asked::Write).await?;
        self.sim.lock().delete(self.place, key, Some(self.mount));
        self.reply(Asked::Write).await
    }

    async fn list_up_to(&self, prefix: &str, last: Option<&str>) -> Result<Vec<Listed>, Failure> {
        self.request(Asked::List).await?;
        let below = format!("{prefix}/");
        let listing = {
            let truth = self.sim.lock();
            let store = &truth.stores[self.place];
            let objects = store.objects.iter();
            objects
                .filter(|(key, _)| key.starts_with(&below))
                .filter(|(key, _)| last.is_none_or(|last| &***key <= last))
                .map(|(key, object)| listed(key, object, store.lists_stamps))
                .collect()
        };
        self.reply(Asked::List).await?;
        Ok(listing)
    }

    async fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        self.request(Asked::List).await?;
        let mut prefixes: Vec<String> = {
            let truth = self.sim.lock();
            let keys = truth.stores[self.place].objects.keys();
            keys.filter_map(|key| Some(key.split_once('/')?.0.to_owned()))
                .collect()
        };
        prefixes.dedup();
        self.reply(Asked::List).await?;
        Ok(prefixes)
    }

    async fn probe(&self) -> Result<(), Failure> {
        self.request(Asked::List).await
    }
}
