//! A file of a version's migration directory.

use crate::model::{ArtifactId, MigrationName};

/// A file of a version's migration directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ArchivedFile {
    /// The version's migration directory.
    pub(super) archive: ArtifactId,
    pub(super) name: MigrationName,
    pub(super) size: u64,
}
