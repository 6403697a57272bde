//! A stand-in for a store that this process can't speak to: every operation has the same answer.

use async_trait::async_trait;
use bytes::Bytes;

use super::{Backend, Condition, Failure, Kind, Listed, Stored, Token};
use crate::model::Stamp;

/// The stand-in.
#[derive(Debug)]
pub(super) struct Unavailable {
    answer: Failure,
    is_supported: bool,
}

impl Unavailable {
    /// Stands in for Atlas Cloud, the registry of a `repo` block without a `url`. How Ariga's own
    /// CLI pushes there is not public, so it is known by name alone, and never asked: a mount lives
    /// on its backups.
    pub(super) fn for_atlas_cloud() -> Self {
        let why = "atlas cloud can't be reached by this version, for its protocol is not public";
        let fix = "set schema.repo.url, or --registry, to a store of your own";
        let answer = Failure::new(Kind::Unreachable, why).before_asking();
        Self {
            answer: answer.with_fix(Some(fix.into())),
            is_supported: false,
        }
    }

    /// Stands in for a store that there are no credentials for: the other targets still serve.
    pub(super) fn denied(failure: Failure) -> Self {
        Self {
            answer: failure,
            is_supported: true,
        }
    }

    fn answer<T>(&self) -> Result<T, Failure> {
        Err(self.answer.clone())
    }
}

#[async_trait]
impl Backend for Unavailable {
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
        self.answer()
    }

    fn unsupported(&self) -> Option<&Failure> {
        (!self.is_supported).then_some(&self.answer)
    }
}
