//! Migration directories: their extended attributes, and what follows a change of their files.

use super::Fs;
use crate::model::{ArtifactId, Item, RepoName};

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

    /// Looks at a migration directory after a push or a deletion of a file.
    pub(super) fn directory_changed(&self, id: &ArtifactId) {
        if matches!(id.item, Item::Migration(_)) {
            self.registry.look_at_sum(&id.repo);
        }
    }
}
