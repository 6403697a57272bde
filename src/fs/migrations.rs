//! Migration directories: their extended attributes, what follows a change of their files, and the
//! directories in versions.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::archived_file::ArchivedFile;
use super::node::Node;
use super::{Error, Fs, Result};
use crate::model::{ArtifactId, Author, Item, MigrationDirectory, MigrationName, RepoName};

/// How long a close waits for the version that it makes. The version comes in any case. 2 s: as
/// long as a target has for a listing.
const VERSION_WAIT: Duration = Duration::from_secs(2);

impl Fs {
    /// Returns the extended attributes of a migration directory.
    pub(super) async fn directory_xattrs(&self, repo: &RepoName) -> Vec<(&'static str, String)> {
        let id = ArtifactId {
            repo: repo.clone(),
            item: Item::Schema,
        };
        let mut attributes = vec![("url", id.atlas_url())];
        // Files that can't be read have no sum.
        let sum = self.registry.sum(repo).await;
        attributes.extend(sum.ok().map(|sum| ("sum", sum.to_string())));
        attributes
    }

    /// Looks at a migration directory after a push or a deletion of one of its files.
    pub(super) async fn directory_changed(&self, id: &ArtifactId, author: Option<Author>) {
        if !matches!(id.item, Item::Migration(_)) {
            return;
        }
        let in_flight = self.pushes.begin();
        let changed = Arc::clone(&self.registry).directory_changed(id.repo.clone(), author);
        // In a task of its own: the version is made even if the caller gives up.
        let look = tokio::spawn(async move {
            let _in_flight = in_flight;
            changed.await;
        });
        let _ = timeout(VERSION_WAIT, look).await;
    }

    /// Lists the migration directory of a version.
    pub(super) async fn list_archive(&self, id: &ArtifactId) -> Result<Vec<(OsString, Node)>> {
        let files = self.archive(id).await?.files.into_iter();
        let entry = |(name, content): (MigrationName, Bytes)| {
            let file = ArchivedFile {
                archive: id.clone(),
                size: content.len() as u64,
                name: name.clone(),
            };
            (name.as_str().into(), Node::Archived(Box::new(file)))
        };
        Ok(files.map(entry).collect())
    }

    /// Finds a file in the migration directory of a version.
    pub(super) async fn find_archived(&self, id: &ArtifactId, name: &OsStr) -> Result<Node> {
        let mut files = self.list_archive(id).await?.into_iter();
        let found = files.find(|(other, _)| other == name);
        found.map(|(_, node)| node).ok_or(Error::NotFound)
    }

    /// Reads a file in the migration directory of a version.
    pub(super) async fn read_archived(&self, file: &ArchivedFile) -> Result<Bytes> {
        let mut directory = self.archive(&file.archive).await?;
        directory.files.remove(&file.name).ok_or(Error::Io)
    }

    async fn archive(&self, id: &ArtifactId) -> Result<MigrationDirectory> {
        let archive = self.registry.pull(id).await?.bytes;
        MigrationDirectory::from_archive(&archive).map_err(|_| Error::Io)
    }
}
