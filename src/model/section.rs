//! Sections of the registry: the parts of a repository that one listing shows.

use std::fmt;

use super::{ArtifactId, Item, RepoName};

/// A part of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The schema and the plans, as they are now.
    Current,
    /// The files of the migration directory.
    Migrations,
    /// The versions.
    Versions,
    /// The tags.
    Tags,
}

/// A part of one repository. Its `Display` is the key that it lies under in a store: `app`,
/// `app/versions`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Section {
    /// The repository.
    pub repo: RepoName,
    /// Its part.
    pub part: Part,
}

impl Section {
    /// Names the schema and the plans of a repository.
    pub fn current(repo: &RepoName) -> Self {
        let (repo, part) = (repo.clone(), Part::Current);
        Self { repo, part }
    }

    /// Names the migration directory of a repository.
    pub fn migrations(repo: &RepoName) -> Self {
        let (repo, part) = (repo.clone(), Part::Migrations);
        Self { repo, part }
    }

    /// Names the versions of a repository.
    pub fn versions(repo: &RepoName) -> Self {
        let (repo, part) = (repo.clone(), Part::Versions);
        Self { repo, part }
    }

    /// Names the tags of a repository.
    pub fn tags(repo: &RepoName) -> Self {
        let (repo, part) = (repo.clone(), Part::Tags);
        Self { repo, part }
    }

    /// Parses a section's key.
    pub fn from_key(key: &str) -> Option<Self> {
        let (repo, part) = match key.split_once('/') {
            None => (key, Part::Current),
            Some((repo, "migrations")) => (repo, Part::Migrations),
            Some((repo, "versions")) => (repo, Part::Versions),
            Some((repo, "tags")) => (repo, Part::Tags),
            Some(_) => return None,
        };
        let repo = RepoName::parse(repo).ok()?;
        Some(Self { repo, part })
    }
}

impl fmt::Display for Section {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Current => write!(out, "{}", self.repo),
            Part::Migrations => write!(out, "{}/migrations", self.repo),
            Part::Versions => write!(out, "{}/versions", self.repo),
            Part::Tags => write!(out, "{}/tags", self.repo),
        }
    }
}

impl ArtifactId {
    /// Returns the section whose listing shows the artifact.
    pub fn section(&self) -> Section {
        match self.item {
            Item::Schema | Item::Plan(_) => Section::current(&self.repo),
            Item::Migration(_) => Section::migrations(&self.repo),
            Item::Version(_) => Section::versions(&self.repo),
            Item::Tag(_) => Section::tags(&self.repo),
        }
    }
}
