//! Atlas Cloud as a registry: known by name, and always an outage.
//!
//! A `repo` block without a `url` means Atlas Cloud, and how Ariga's own CLI pushes there is not
//! public. Such a mount lives on its backups: every read falls back, every push warns.

use async_trait::async_trait;
use bytes::Bytes;

use super::{Condition, Driver, Failure, Kind, Listed, Stored, Token};
use crate::artifact::Stamp;

/// The stand-in for Atlas Cloud.
#[derive(Debug)]
pub(super) struct AtlasCloud;

const WHY: &str = "atlas cloud can't be reached by this version, for its protocol is not public: \
                   set schema.repo.url, or --registry, to a store of your own";

fn out<T>() -> Result<T, Failure> {
    Err(Failure::new(Kind::Unreachable, WHY))
}

#[async_trait]
impl Driver for AtlasCloud {
    async fn get(&self, _key: &str, _limit: u64) -> Result<Stored, Failure> {
        out()
    }

    async fn head(&self, _key: &str) -> Result<Listed, Failure> {
        out()
    }

    async fn put(
        &self,
        _key: &str,
        _content: Bytes,
        _stamp: &Stamp,
        _condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        out()
    }

    async fn delete(&self, _key: &str) -> Result<(), Failure> {
        out()
    }

    async fn list(&self, _prefix: &str) -> Result<Vec<Listed>, Failure> {
        out()
    }

    async fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        out()
    }

    async fn probe(&self) -> Result<(), Failure> {
        // Unlike an outage it won't end: a mount with nothing else makes no sense.
        Err(Failure::new(Kind::Invalid, WHY))
    }
}
