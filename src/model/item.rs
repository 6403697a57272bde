//! The artifacts of repositories, and their keys in a store.

use std::fmt;

use super::{MigrationName, PlanName, RepoName, TagName, Version};

/// The name of a version's migration directory.
const ARCHIVE: &str = "migrations.tar";

/// One thing that a repository holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// The schema state.
    Schema,
    /// A pre-planned migration.
    Plan(PlanName),
    /// A file of the migration directory.
    Migration(MigrationName),
    /// The schema state of a version.
    Version(Version),
    /// The migration directory of a version, as Atlas's archive.
    Archive(Version),
    /// A tag. Its content is the name of a version.
    Tag(TagName),
}

impl Item {
    /// Parses the part of a store's key that follows the repository: `schema` or `plans/<name>`.
    pub fn from_key(key: &str) -> Option<Self> {
        match key.split_once('/') {
            None => (key == "schema").then_some(Item::Schema),
            Some(("plans", name)) => PlanName::parse(name).ok().map(Item::Plan),
            Some(("migrations", name)) => MigrationName::parse(name).ok().map(Item::Migration),
            Some(("tags", name)) => TagName::parse(name).ok().map(Item::Tag),
            Some(("versions", rest)) => {
                let (version, content) = rest.split_once('/')?;
                let version = Version::parse(version).ok()?;
                match content {
                    "schema" => Some(Item::Version(version)),
                    ARCHIVE => Some(Item::Archive(version)),
                    _ => None,
                }
            }
            Some(_) => None,
        }
    }
}

impl Item {
    /// Tells whether it never changes once it is there.
    pub fn is_immutable(&self) -> bool {
        self.version().is_some()
    }

    /// Returns the version that it is a part of.
    pub fn version(&self) -> Option<&Version> {
        match self {
            Item::Version(version) | Item::Archive(version) => Some(version),
            Item::Schema | Item::Plan(_) | Item::Migration(_) | Item::Tag(_) => None,
        }
    }

    /// Tells whether it belongs to the migration directory, which may have targets of its own.
    pub fn is_of_migrations(&self) -> bool {
        matches!(self, Item::Migration(_) | Item::Archive(_))
    }

    /// Tells whether an empty content is legal: `atlas migrate new` makes an empty file.
    pub fn may_be_empty(&self) -> bool {
        matches!(self, Item::Migration(name) if !name.is_sum())
    }

    /// Tells whether each push of it makes a version.
    pub fn has_versions(&self) -> bool {
        matches!(self, Item::Schema)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Schema => out.write_str("schema"),
            Item::Plan(name) => write!(out, "plans/{name}"),
            Item::Migration(name) => write!(out, "migrations/{name}"),
            Item::Version(version) => write!(out, "versions/{version}/schema"),
            Item::Archive(version) => write!(out, "versions/{version}/{ARCHIVE}"),
            Item::Tag(tag) => write!(out, "tags/{tag}"),
        }
    }
}

/// An artifact's identity: which item of which repository.
///
/// Its `Display` is the artifact's key in a store, relative to the target's URL: `app/schema`,
/// `app/plans/20240910173744`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactId {
    /// The repository that holds the artifact.
    pub repo: RepoName,
    /// The artifact of that repository.
    pub item: Item,
}

impl ArtifactId {
    /// Returns the artifact's URL in Atlas's own notation: `atlas://app`, `atlas://app/plans/p1`.
    pub fn atlas_url(&self) -> String {
        match &self.item {
            // The files of a directory have no URLs of their own.
            Item::Schema | Item::Migration(_) => format!("atlas://{}", self.repo),
            Item::Plan(name) => format!("atlas://{}/plans/{name}", self.repo),
            Item::Version(version) | Item::Archive(version) => {
                format!("atlas://{}?version={version}", self.repo)
            }
            Item::Tag(tag) => format!("atlas://{}?tag={tag}", self.repo),
        }
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.repo, self.item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_an_item_parses_back() {
        for key in [
            "schema",
            "plans/20240910173744",
            "plans/sedAbC123",
            "plans/p1.tmp",
            "migrations/20240910173744_x.sql",
            "migrations/V1__x.sql",
            "migrations/1_x.up.sql",
            "migrations/atlas.sum",
            "versions/20240910173744-0a1b2c3d/schema",
            "versions/20240910173744-0a1b2c3d/migrations.tar",
            "tags/prod",
        ] {
            assert_eq!(Item::from_key(key).unwrap().to_string(), key);
        }
        for foreign in [
            "",
            "plans",
            "plans/",
            "plans/a/b",
            "schema/x",
            "other",
            "plans/../x",
            "versions",
            "versions/20240910173744-0a1b2c3d",
            "versions/20240910173744-0a1b2c3d/other",
            "versions/20240910173744-0A1B2C3D/schema",
            "versions/2024091017374-0a1b2c3d/schema",
            "versions/20240910173744-0a1b2c3/schema",
            "versions/20240910173744/schema",
            "migrations/",
            "migrations/README.md",
            "migrations/.sql",
            "migrations/a/1.sql",
            "migrations/1.sql.tmp",
            "tags/latest",
            "tags/a/b",
        ] {
            assert_eq!(Item::from_key(foreign), None, "{foreign:?}");
        }
    }
}
