//! The history of a repository, as the index knows it.

use std::sync::Arc;

use super::Registry;
use super::entry::{Facts, Revision, Shown};
use super::error::{ErrorKind, RegistryError};
use super::journal::Record;
use super::replica::ReplicaSet;
use crate::model::{ArtifactId, Item, RepoName, Section, Version};

impl Registry {
    /// Makes sure that the listing which shows an artifact is fresh. Known immutable content needs none.
    pub(super) async fn refresh_for(
        self: &Arc<Self>,
        id: &ArtifactId,
    ) -> Result<(), RegistryError> {
        let is_known = self.exists(id);
        match is_known && id.item.is_immutable() {
            true => Ok(()),
            false => self.refresh(&id.section(), is_known).await,
        }
    }

    /// Returns the versions of a repository, oldest first.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] if the registry refuses, or no target can answer and none ever has.
    pub async fn versions(
        self: &Arc<Self>,
        repo: &RepoName,
    ) -> Result<Vec<Version>, RegistryError> {
        let section = Section::versions(repo);
        let is_known = self.index.age(&section).is_some();
        match self.refresh(&section, is_known).await {
            Err(error) if error.kind != ErrorKind::Outage || !is_known => return Err(error),
            _ => {}
        }
        let ids = self.index.ids(&section, false).into_iter();
        let versions = ids.filter_map(|id| match id.item {
            Item::Version(version) => Some(version),
            _ => None,
        });
        Ok(versions.collect())
    }

    /// Lists the tags of a repository.
    ///
    /// # Errors
    ///
    /// As for [`Self::versions`].
    pub async fn tags(
        self: &Arc<Self>,
        repo: &RepoName,
    ) -> Result<Vec<(Item, Revision)>, RegistryError> {
        self.list(&Section::tags(repo)).await
    }

    /// Returns whether a version exists.
    ///
    /// # Errors
    ///
    /// As for [`Self::versions`].
    pub async fn has_version(self: &Arc<Self>, id: &ArtifactId) -> Result<bool, RegistryError> {
        match self.refresh_for(id).await {
            Err(error) if !self.exists(id) => Err(error),
            _ => Ok(self.exists(id)),
        }
    }

    /// Adds the versions that the registry misses, and this mount's journal has, to the index.
    pub(super) fn recall_versions(&self, replicas: &ReplicaSet, section: &Section) {
        let is_here = |record: &Record| {
            let is_pushed = record.is_acknowledged() || record.outdated;
            record.id.repo == section.repo && record.makes_version() && is_pushed
        };
        for Record { stamp, .. } in self.journal.select(is_here) {
            let version = ArtifactId {
                repo: section.repo.clone(),
                item: Item::Version(stamp.version()),
            };
            if !self.exists(&version) {
                let facts = Facts {
                    current: Some(Shown::Stamped(stamp)),
                    ..Facts::default()
                };
                self.index.recall(&version, facts, replicas.registry.id);
            }
        }
    }
}
