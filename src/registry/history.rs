//! The history of a repository, as the index knows it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Registry;
use super::entry::{Facts, Revision, Shown};
use super::error::{ErrorKind, RegistryError};
use super::journal::Record;
use super::replica::ReplicaSet;
use crate::model::{ArtifactId, Item, Part, RepoName, Section, Version};

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

    /// Returns the versions of a repository, oldest first: those of its schema, and those of its
    /// migration directory.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] if the registry refuses, or no target can answer and none ever has.
    pub async fn versions(
        self: &Arc<Self>,
        repo: &RepoName,
    ) -> Result<BTreeSet<Version>, RegistryError> {
        let mut versions = BTreeSet::new();
        for section in [Section::versions(repo), Section::archives(repo)] {
            let parts = self.version_parts(&section).await?.into_iter();
            versions.extend(parts.filter_map(|part| part.version().cloned()));
        }
        Ok(versions)
    }

    /// Returns the newest part of a version: the version's own, or the last one before it. Names order
    /// versions up to the second, so one of the same second counts.
    ///
    /// # Errors
    ///
    /// As for [`Self::versions`].
    pub async fn part_at(
        self: &Arc<Self>,
        section: &Section,
        version: &Version,
    ) -> Result<Option<ArtifactId>, RegistryError> {
        let own = match section.part {
            Part::Archives => Item::Archive(version.clone()),
            _ => Item::Version(version.clone()),
        };
        let own = ArtifactId {
            repo: section.repo.clone(),
            item: own,
        };
        if self.exists(&own) {
            return Ok(Some(own));
        }
        let is_before = |part: &Item| part.version().is_some_and(|it| it.when() <= version.when());
        let mut parts = self.version_parts(section).await?;
        parts.retain(is_before);
        let newest = parts
            .into_iter()
            .max_by(|one, other| one.version().cmp(&other.version()));
        Ok(newest.map(|item| ArtifactId { item, ..own }))
    }

    async fn version_parts(
        self: &Arc<Self>,
        section: &Section,
    ) -> Result<Vec<Item>, RegistryError> {
        let is_known = self.index.age(section).is_some();
        match self.refresh(section, is_known).await {
            Err(error) if error.kind != ErrorKind::Outage || !is_known => return Err(error),
            _ => {}
        }
        let ids = self.index.ids(section, false).into_iter();
        Ok(ids.map(|id| id.item).collect())
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
    pub async fn has_version(
        self: &Arc<Self>,
        repo: &RepoName,
        version: &Version,
    ) -> Result<bool, RegistryError> {
        let id = |item| ArtifactId {
            repo: repo.clone(),
            item,
        };
        let parts = [
            Item::Version(version.clone()),
            Item::Archive(version.clone()),
        ]
        .map(id);
        if parts.iter().any(|part| self.exists(part)) {
            return Ok(true);
        }
        for part in &parts {
            self.refresh_for(part).await?;
        }
        Ok(parts.iter().any(|part| self.exists(part)))
    }

    /// Returns whether a tag may name a version: the targets of tags are those of the schema, and must
    /// have a part of it.
    ///
    /// # Errors
    ///
    /// As for [`Self::versions`].
    pub async fn may_tag(
        self: &Arc<Self>,
        repo: &RepoName,
        version: &Version,
    ) -> Result<bool, RegistryError> {
        let schema = ArtifactId {
            repo: repo.clone(),
            item: Item::Version(version.clone()),
        };
        let is_there = self.has_version(repo, version).await?;
        let is_alone = self.replica_sets.of_migrations(repo).is_some() && !self.exists(&schema);
        Ok(is_there && !is_alone)
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
