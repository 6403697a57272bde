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
    /// The schemas of the versions.
    Versions,
    /// The migration directories of the versions.
    Archives,
    /// The tags.
    Tags,
}

impl Part {
    fn of(item: &Item) -> Self {
        match item {
            Item::Schema | Item::Plan(_) => Part::Current,
            Item::Migration(_) => Part::Migrations,
            Item::Version(_) => Part::Versions,
            Item::Archive(_) => Part::Archives,
            Item::Tag(_) => Part::Tags,
        }
    }
}

/// A part of one repository. Its `Display` is the key that it lies under in a store: `app`,
/// `app/versions`. The migration directories of versions lie beside their schemas; theirs is a name
/// of its own, `app/versions/migrations`.
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

    /// Names the migration directories in the versions of a repository.
    pub fn archives(repo: &RepoName) -> Self {
        let (repo, part) = (repo.clone(), Part::Archives);
        Self { repo, part }
    }

    /// Names the tags of a repository.
    pub fn tags(repo: &RepoName) -> Self {
        let (repo, part) = (repo.clone(), Part::Tags);
        Self { repo, part }
    }

    /// Tells whether it is a part of the versions, which nobody deletes.
    pub fn is_of_versions(&self) -> bool {
        matches!(self.part, Part::Versions | Part::Archives)
    }

    /// Tells whether its listing shows an item.
    pub fn shows(&self, item: &Item) -> bool {
        Part::of(item) == self.part
    }

    /// Parses a section's key.
    pub fn from_key(key: &str) -> Option<Self> {
        let (repo, part) = match key.split_once('/') {
            None => (key, Part::Current),
            Some((repo, "migrations")) => (repo, Part::Migrations),
            Some((repo, "versions")) => (repo, Part::Versions),
            Some((repo, "versions/migrations")) => (repo, Part::Archives),
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
            Part::Archives => write!(out, "{}/versions/migrations", self.repo),
            Part::Tags => write!(out, "{}/tags", self.repo),
        }
    }
}

impl ArtifactId {
    /// Returns the section whose listing shows the artifact.
    pub fn section(&self) -> Section {
        let repo = self.repo.clone();
        let part = Part::of(&self.item);
        Section { repo, part }
    }
}
