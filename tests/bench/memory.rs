//! A store in memory, for benchmarks of the layers above it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use atlasfs::model::{Format, Stamp};
use atlasfs::store::{
    Backend, Capabilities, Condition, Failure, Kind, Listed, SignedStamp, Stored, Token,
};
use bytes::Bytes;

#[derive(Debug, Clone)]
struct Object {
    content: Bytes,
    stamp: Stamp,
    token: Token,
    modified: SystemTime,
}

/// The store. Clones share the same objects.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<String, Object>>>);

impl Memory {
    /// Stores an object.
    pub fn fill(&self, key: &str, content: &[u8]) {
        let when = 1_725_989_864_000_000_000 + self.objects().len() as u64;
        let stamp = Stamp::new(when, content, Format::Hcl);
        self.insert(key, Bytes::copy_from_slice(content), stamp);
    }

    fn insert(&self, key: &str, content: Bytes, stamp: Stamp) -> Token {
        let token = Token(stamp.when.to_string());
        let object = Object {
            content,
            stamp,
            token: token.clone(),
            modified: SystemTime::now(),
        };
        self.objects().insert(key.to_owned(), object);
        token
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing() -> Failure {
    Failure::new(Kind::NotFound, "not there")
}

fn listed(key: &str, object: &Object) -> Listed {
    Listed {
        key: key.to_owned(),
        size: object.content.len() as u64,
        stamp: Some(object.stamp.into()),
        unreadable: false,
        token: Some(object.token.clone()),
        modified: object.modified,
    }
}

#[async_trait]
impl Backend for Memory {
    async fn get(&self, key: &str, _limit: u64) -> Result<Stored, Failure> {
        let object = self.objects().get(key).cloned().ok_or_else(missing)?;
        Ok(Stored {
            content: object.content,
            stamp: Some(object.stamp.into()),
            unreadable: false,
            token: Some(object.token),
            modified: object.modified,
        })
    }

    async fn head(&self, key: &str) -> Result<Listed, Failure> {
        let objects = self.objects();
        objects
            .get(key)
            .map(|object| listed(key, object))
            .ok_or_else(missing)
    }

    async fn put(
        &self,
        key: &str,
        content: Bytes,
        stamp: &SignedStamp,
        condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        let there = self.objects().get(key).map(|object| object.token.clone());
        let may = match condition {
            Condition::None => true,
            Condition::Absent => there.is_none(),
            Condition::Unchanged(token) => there.as_ref() == Some(token),
        };
        match may {
            true => Ok(Some(self.insert(key, content, stamp.stamp))),
            false => Err(Failure::new(Kind::Conflict, "it has changed")),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.objects().remove(key);
        Ok(())
    }

    async fn list_up_to(&self, prefix: &str, last: Option<&str>) -> Result<Vec<Listed>, Failure> {
        let prefix = format!("{prefix}/");
        let objects = self.objects();
        let below = objects.iter().filter(|(key, _)| key.starts_with(&prefix));
        let below = below.filter(|(key, _)| last.is_none_or(|last| &***key <= last));
        Ok(below.map(|(key, object)| listed(key, object)).collect())
    }

    async fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        let objects = self.objects();
        let mut names: Vec<String> = objects
            .keys()
            .filter_map(|key| Some(key.split_once('/')?.0.to_owned()))
            .collect();
        names.dedup();
        Ok(names)
    }

    async fn probe(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn try_conditions(&self) -> Result<Option<Capabilities>, Failure> {
        Ok(Some(Capabilities {
            honours_conditions: true,
            refused: None,
        }))
    }
}
