//! Opening: from a location to the backend of its store, or to a stub if no backend is possible.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::cloud::{open_azure, open_gcs, open_s3};
use super::file::FileBackend;
use super::oci::open as open_oci;
use super::{Backend, Condition, Failure, Kind, Listed, Location, SignedStamp, Stored, Token};

/// A backend, and the result of its first look at the store.
pub(super) type OpenedBackend = (Arc<dyn Backend>, Result<(), Failure>);

/// Opens the backend of a location. `env` looks up environment variables.
///
/// It sends nothing over the network. It looks at a disk for at most two seconds.
///
/// # Errors
///
/// The location can't work as it is written, or the folder of a `file://` target is missing.
/// `Target::open` accepts a missing folder.
pub fn open(
    location: &Location,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<dyn Backend>, Failure> {
    let (driver, found) = build(location, env)?;
    found.map(|()| driver)
}

pub(super) fn build(
    location: &Location,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<OpenedBackend, Failure> {
    match location {
        Location::File(location) => {
            let (driver, found) = FileBackend::open(location);
            Ok((Arc::new(driver), found))
        }
        Location::S3(location) => cloud(open_s3(location, env)),
        Location::Gs(location) => cloud(open_gcs(location, env)),
        Location::Azure(location) => cloud(open_azure(location, env)),
        Location::Oci(location) => cloud(open_oci(location, env)),
        Location::AtlasCloud => Ok((Arc::new(Unavailable::for_atlas_cloud()), Ok(()))),
    }
}

/// A cloud store without credentials is still a target: the other targets still serve.
fn cloud(opened: Result<impl Backend, Failure>) -> Result<OpenedBackend, Failure> {
    match opened {
        Ok(driver) => Ok((Arc::new(driver), Ok(()))),
        Err(failure) if failure.kind == Kind::Denied => {
            let found = Err(failure.clone());
            Ok((Arc::new(Unavailable::denied(failure)), found))
        }
        Err(failure) => Err(failure),
    }
}

/// Makes the backend of a store that can't be opened.
pub(super) fn unusable(failure: Failure) -> Arc<dyn Backend> {
    Arc::new(Unavailable::denied(failure))
}

/// The stub for a store without a backend: every operation fails with the same answer.
#[derive(Debug)]
pub(super) struct Unavailable {
    answer: Failure,
    is_supported: bool,
}

impl Unavailable {
    /// Makes the stub for Atlas Cloud, the registry of a `repo` block without a `url`. The push
    /// protocol of Ariga's own CLI is not public, so the stub sends nothing, and the mount uses its
    /// backups.
    pub(super) fn for_atlas_cloud() -> Self {
        let why = "this version can't reach atlas cloud, because its protocol is not public";
        let fix = "set schema.repo.url, or --registry, to a store of your own";
        let answer = Failure::new(Kind::Unreachable, why).before_asking();
        Self {
            answer: answer.with_fix(Some(fix.into())),
            is_supported: false,
        }
    }

    /// Makes the stub for a store without credentials: the other targets still serve.
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
        _stamp: &SignedStamp,
        _condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        self.answer()
    }

    async fn delete(&self, _key: &str) -> Result<(), Failure> {
        self.answer()
    }

    async fn list_up_to(&self, _: &str, _: Option<&str>) -> Result<Vec<Listed>, Failure> {
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
