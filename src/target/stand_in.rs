//! A stand-in for a store that this process can't speak to: every operation has the same answer.

use async_trait::async_trait;
use bytes::Bytes;

use super::{Condition, Driver, Failure, Kind, Listed, Stored, Token};
use crate::artifact::Stamp;

/// The stand-in.
#[derive(Debug)]
pub(super) struct StandIn {
    operations: Failure,
    probe: Failure,
}

impl StandIn {
    /// Stands in for Atlas Cloud, the registry of a `repo` block without a `url`. How Ariga's own
    /// CLI pushes there is not public, so it is known by name, and always an outage: a mount lives
    /// on its backups. A mount with nothing else makes no sense, so the probe refuses.
    pub(super) fn for_atlas_cloud() -> Self {
        let why = "atlas cloud can't be reached by this version, for its protocol is not public: \
                   set schema.repo.url, or --registry, to a store of your own";
        Self {
            operations: Failure::new(Kind::Unreachable, why),
            probe: Failure::new(Kind::Invalid, why),
        }
    }

    /// Stands in for a store that there are no credentials for: the other targets still serve.
    pub(super) fn denied(failure: Failure) -> Self {
        Self {
            operations: failure.clone(),
            probe: failure,
        }
    }

    fn answer<T>(&self) -> Result<T, Failure> {
        Err(self.operations.clone())
    }
}

#[async_trait]
impl Driver for StandIn {
    async fn get(&self, _key: &str, _limit: u64) -> Result<Stored, Failure> {
        self.answer()
    }

    async fn head(&self, _key: &str) -> Result<Listed, Failure> {
        self.answer()
    }

    async fn put(
        &self,
        _key: &str,
        _content: Bytes,
        _stamp: &Stamp,
        _condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        self.answer()
    }

    async fn delete(&self, _key: &str) -> Result<(), Failure> {
        self.answer()
    }

    async fn list(&self, _prefix: &str) -> Result<Vec<Listed>, Failure> {
        self.answer()
    }

    async fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        self.answer()
    }

    async fn probe(&self) -> Result<(), Failure> {
        Err(self.probe.clone())
    }
}
