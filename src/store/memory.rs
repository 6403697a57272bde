//! A store in memory with injected faults, for the tests of the layers above.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Backend, Condition, Failure, Kind, Listed, SignedStamp, Stored, Token};
use crate::model::{Sha256, Stamp};

/// The injected fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Every operation fails.
    Fail(Kind),
    /// Writes fail, reads don't.
    FailWrites(Kind),
    /// Looking up an object without its content fails; other operations succeed.
    FailHeads(Kind),
    /// Reading objects and looking them up fails, as behind a portal; other operations succeed.
    FailReads(Kind),
    /// Requests of one method are denied; other requests succeed.
    Refuse(&'static str),
    /// No operation ever answers.
    Hang,
    /// Reads return bytes that don't match the stamp.
    Corrupt,
    /// Every operation is delayed.
    Slow(Duration),
    /// Every operation is delayed, and fails.
    FailLate(Duration, Kind),
    /// Writes succeed, but their replies are lost.
    LoseReplies,
    /// Every operation panics.
    Panic,
}

/// An object of the store.
#[derive(Debug, Clone)]
pub(crate) struct MemoryObject {
    pub(crate) content: Bytes,
    pub(crate) stamp: Option<Stamp>,
    /// The signature of the stamp.
    pub(crate) mac: Option<Sha256>,
    token: u64,
    modified: SystemTime,
}

impl MemoryObject {
    fn signed(&self) -> Option<SignedStamp> {
        let mac = self.mac;
        self.stamp.map(|stamp| SignedStamp { stamp, mac })
    }
}

#[derive(Debug, Default)]
struct MemoryState {
    objects: BTreeMap<String, MemoryObject>,
    fault: Option<Fault>,
    requests: Vec<String>,
    tokens: u64,
    /// The objects that the next reads return, this many, whatever the store holds.
    cached: (u32, BTreeMap<String, MemoryObject>),
    lists_no_stamps: bool,
    ignores_conditions: bool,
}

/// The store. Clones are the same store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<MemoryState>>, Option<Arc<Failure>>);

impl Memory {
    /// Makes a store whose listings include no stamps, like S3's.
    pub(crate) fn without_listed_stamps() -> Self {
        let memory = Self::default();
        memory.0.lock().unwrap().lists_no_stamps = true;
        memory
    }

    /// Makes a store that has no backend.
    pub(crate) fn unsupported() -> Self {
        let failure = Failure::new(Kind::Unreachable, "no backend, as planted");
        Self(Arc::default(), Some(Arc::new(failure)))
    }

    /// Makes a store that accepts every write and ignores conditions.
    pub(crate) fn ignoring_conditions() -> Self {
        let memory = Self::default();
        memory.0.lock().unwrap().ignores_conditions = true;
        memory
    }

    /// Makes another store with the same objects.
    pub(crate) fn copy(&self) -> Self {
        let state = self.0.lock().unwrap();
        let copy = MemoryState {
            objects: state.objects.clone(),
            tokens: state.tokens,
            ..MemoryState::default()
        };
        Self(Arc::new(Mutex::new(copy)), self.1.clone())
    }

    pub(crate) fn set_fault(&self, fault: impl Into<Option<Fault>>) {
        self.0.lock().unwrap().fault = fault.into();
    }

    pub(crate) fn object(&self, key: &str) -> Option<MemoryObject> {
        self.0.lock().unwrap().objects.get(key).cloned()
    }

    pub(crate) fn content(&self, key: &str) -> Option<Bytes> {
        self.object(key).map(|object| object.content)
    }

    /// Returns the keys of all objects.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().objects.keys().cloned().collect()
    }

    /// Puts an object there by hand.
    pub(crate) fn place(&self, key: &str, content: &[u8], stamp: Option<Stamp>) {
        let modified = stamp.map_or_else(SystemTime::now, |stamp| stamp.time());
        self.place_at(key, content, stamp, modified);
    }

    /// Puts an object there by hand, at a time of the store.
    pub(crate) fn place_at(
        &self,
        key: &str,
        content: &[u8],
        stamp: Option<Stamp>,
        modified: SystemTime,
    ) {
        let mut state = self.0.lock().unwrap();
        state.tokens += 1;
        let object = MemoryObject {
            content: Bytes::copy_from_slice(content),
            stamp,
            mac: None,
            token: state.tokens,
            modified,
        };
        state.objects.insert(key.into(), object);
    }

    /// Puts a copy of another object there by hand, with its stamp and signature.
    pub(crate) fn place_copy(&self, key: &str, object: &MemoryObject) {
        let mut state = self.0.lock().unwrap();
        state.tokens += 1;
        let token = state.tokens;
        let object = MemoryObject {
            token,
            ..object.clone()
        };
        state.objects.insert(key.into(), object);
    }

    /// Puts another store's disk in the place of this one's.
    pub(crate) fn replace_by(&self, other: &Memory) {
        let objects = other.0.lock().unwrap().objects.clone();
        self.0.lock().unwrap().objects = objects;
    }

    pub(crate) fn remove(&self, key: &str) {
        self.0.lock().unwrap().objects.remove(key);
    }

    /// Makes the next reads, this many, return the objects of now, as a cache before the store does.
    pub(crate) fn cache_reads(&self, count: u32) {
        let mut state = self.0.lock().unwrap();
        state.cached = (count, state.objects.clone());
    }

    /// Returns the requests so far, and clears them.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().requests)
    }

    async fn request(&self, what: String) -> Result<(), Failure> {
        let write = what.starts_with("PUT") || what.starts_with("DELETE");
        let fault = {
            let mut state = self.0.lock().unwrap();
            state.requests.push(what.clone());
            state.fault
        };
        match fault {
            Some(Fault::Fail(kind)) => Err(Failure::new(kind, format!("planted for {what}"))),
            Some(Fault::FailWrites(kind)) if write => {
                Err(Failure::new(kind, format!("planted for {what}")))
            }
            Some(Fault::FailHeads(kind)) if what.starts_with("HEAD") => {
                Err(Failure::new(kind, format!("planted for {what}")))
            }
            Some(Fault::FailReads(kind)) if what.starts_with("GET") || what.starts_with("HEAD") => {
                Err(Failure::new(kind, format!("planted for {what}")))
            }
            Some(Fault::Refuse(method)) if what.starts_with(method) => {
                Err(Failure::new(Kind::Denied, format!("planted for {what}")))
            }
            Some(Fault::Panic) => panic!("planted for {what}"),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Slow(delay)) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
            Some(Fault::FailLate(delay, kind)) => {
                tokio::time::sleep(delay).await;
                Err(Failure::new(kind, format!("planted for {what}")))
            }
            _ => Ok(()),
        }
    }
}

fn listed(key: &str, object: &MemoryObject, with_stamp: bool) -> Listed {
    Listed {
        key: key.into(),
        size: object.content.len() as u64,
        stamp: object.signed().filter(|_| with_stamp),
        unreadable: false,
        token: Some(Token(object.token.to_string())),
        modified: object.modified,
    }
}

#[async_trait]
impl Backend for Memory {
    async fn get(&self, key: &str, limit: u64) -> Result<Stored, Failure> {
        self.request(format!("GET {key}")).await?;
        let mut state = self.0.lock().unwrap();
        let is_cached = state.cached.0 > 0;
        state.cached.0 -= u32::from(is_cached);
        let objects = match is_cached {
            true => &state.cached.1,
            false => &state.objects,
        };
        let object = objects.get(key);
        let object = object.ok_or_else(|| Failure::new(Kind::NotFound, format!("no {key}")))?;
        if object.content.len() as u64 > limit {
            return Err(Failure::new(Kind::TooBig, "too large"));
        }
        let content = match state.fault {
            Some(Fault::Corrupt) => Bytes::from_static(b"garbage"),
            _ => object.content.clone(),
        };
        Ok(Stored {
            content,
            stamp: object.signed(),
            unreadable: false,
            token: Some(Token(object.token.to_string())),
            modified: object.modified,
        })
    }

    async fn head(&self, key: &str) -> Result<Listed, Failure> {
        self.request(format!("HEAD {key}")).await?;
        let state = self.0.lock().unwrap();
        let object = state.objects.get(key);
        let object = object.ok_or_else(|| Failure::new(Kind::NotFound, format!("no {key}")))?;
        Ok(listed(key, object, true))
    }

    async fn put(
        &self,
        key: &str,
        content: Bytes,
        stamp: &SignedStamp,
        condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        self.request(format!("PUT {key}")).await?;
        let mut state = self.0.lock().unwrap();
        let there = state
            .objects
            .get(key)
            .map(|object| object.token.to_string());
        let met = match condition {
            Condition::None => true,
            Condition::Absent => there.is_none(),
            Condition::Unchanged(Token(token)) => there.as_ref() == Some(token),
        };
        if !met && !state.ignores_conditions {
            return Err(Failure::new(Kind::Conflict, format!("{key} has changed")));
        }
        state.tokens += 1;
        let token = state.tokens;
        let object = MemoryObject {
            content,
            stamp: Some(stamp.stamp),
            mac: stamp.mac,
            token,
            modified: SystemTime::now(),
        };
        state.objects.insert(key.into(), object);
        match state.fault {
            Some(Fault::LoseReplies) => Err(Failure::new(Kind::Unreachable, "the reply is lost")),
            _ => Ok(Some(Token(token.to_string()))),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.request(format!("DELETE {key}")).await?;
        self.remove(key);
        Ok(())
    }

    async fn list_up_to(&self, prefix: &str, last: Option<&str>) -> Result<Vec<Listed>, Failure> {
        self.request(format!("LIST {prefix}")).await?;
        let state = self.0.lock().unwrap();
        let below = format!("{prefix}/");
        let objects = state.objects.iter();
        Ok(objects
            .filter(|(key, _)| key.starts_with(&below))
            .filter(|(key, _)| last.is_none_or(|last| &***key <= last))
            .map(|(key, object)| listed(key, object, !state.lists_no_stamps))
            .collect())
    }

    async fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        self.request("LIST /".into()).await?;
        let state = self.0.lock().unwrap();
        let keys = state.objects.keys();
        let mut prefixes: Vec<String> = keys
            .filter_map(|key| Some(key.split_once('/')?.0.to_owned()))
            .collect();
        prefixes.dedup();
        Ok(prefixes)
    }

    async fn probe(&self) -> Result<(), Failure> {
        self.request("PROBE".into()).await
    }

    fn unsupported(&self) -> Option<&Failure> {
        self.1.as_deref()
    }
}
