//! The history of a repository: its versions, which never change.

use std::ffi::{OsStr, OsString};

use super::name::in_version;
use super::node::Node;
use super::{Error, Fs, Result};
use crate::model::{ArtifactId, Format, Item, RepoName, Version};
use crate::registry::Revision;

impl Fs {
    /// Finds a version among those of a repository.
    pub(super) async fn find_version(&self, repo: &RepoName, name: &OsStr) -> Result<Node> {
        let version = name.to_str().and_then(|name| Version::parse(name).ok());
        let id = ArtifactId {
            repo: repo.clone(),
            item: Item::Version(version.ok_or(Error::NotFound)?),
        };
        match self.registry.has_version(&id).await? {
            true => Ok(Node::Version(id)),
            false => Err(Error::NotFound),
        }
    }

    /// Lists the versions of a repository.
    pub(super) async fn versions(&self, repo: &RepoName) -> Result<Vec<(OsString, Node)>> {
        let versions = match self.registry.versions(repo).await {
            Err(error) if self.is_new(repo, &error) => Vec::new(),
            versions => versions?,
        };
        let entry = |version: Version| {
            let name = version.as_str().into();
            let repo = repo.clone();
            let item = Item::Version(version);
            (name, Node::Version(ArtifactId { repo, item }))
        };
        Ok(versions.into_iter().map(entry).collect())
    }

    /// Finds a file of a version.
    pub(super) async fn find_in_version(&self, id: &ArtifactId, name: &OsStr) -> Result<Node> {
        let suffix = in_version(name)?.ok_or(Error::NotFound)?;
        let known = self.version_schema(id).await?;
        match suffix.is_none_or(|suffix| suffix == format(&known)) {
            true => Ok(Node::Content(id.clone(), known)),
            false => Err(Error::NotFound),
        }
    }

    /// Lists the files of a version: its schema under both of its names.
    pub(super) async fn list_version(&self, id: &ArtifactId) -> Result<Vec<(OsString, Node)>> {
        let known = self.version_schema(id).await?;
        let with_suffix = match format(&known) {
            Format::Hcl => "schema.hcl",
            Format::Sql => "schema.sql",
        };
        let node = Node::Content(id.clone(), known);
        Ok(vec![
            ("schema".into(), node.clone()),
            (with_suffix.into(), node),
        ])
    }

    async fn version_schema(&self, id: &ArtifactId) -> Result<Revision> {
        self.registry.stat(id, true).await?.ok_or(Error::NotFound)
    }
}

fn format(known: &Revision) -> Format {
    known.stamp().map_or(Format::Hcl, |stamp| stamp.format)
}
