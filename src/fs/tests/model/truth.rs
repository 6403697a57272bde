//! The expected state: the names, their contents, and the answer of each operation.

use std::collections::{BTreeMap, BTreeSet};

use super::operation::SLOTS;
use super::staged_file::StagedFile;
use crate::fs::{Error, OpenMode, Result};
use crate::model::{ArtifactId, Format, Item, PlanName, RepoName};

/// The newest content of an artifact.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub(super) revision: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) format: Format,
}

/// A temporary file or directory.
#[derive(Debug, Clone, Default)]
pub(super) struct TemporaryFile {
    pub(super) is_directory: bool,
    pub(super) bytes: Vec<u8>,
    /// The artifact and the base of a failed rename.
    pub(super) tried: Option<(ArtifactId, Option<u64>)>,
    /// The staged file that its open handles work on.
    pub(super) pushed: Option<(ArtifactId, Option<Format>, u64)>,
}

/// An open file.
#[derive(Debug, Clone)]
pub(super) enum Handle {
    /// The content that a reader has opened.
    Bytes(Vec<u8>),
    StagedFile(ArtifactId, Option<Format>, u64),
    TemporaryFile(u64),
}

/// An open file, and its open mode.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) handle: Handle,
    pub(super) how: OpenMode,
}

/// The meaning of a name, whether it exists or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Repo(String),
    Plans,
    Artifact(ArtifactId, Option<Format>),
    TemporaryFile,
    /// A reserved name of a temporary file.
    Refused,
    Foreign,
}

/// The expected object at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Directory,
    Content(Vec<u8>),
    /// No content; `true` if a push of it has failed.
    Blank(bool),
    TemporaryFile(u64),
}

/// The whole expected state.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) allow_delete: bool,
    /// Repositories made here; `app` comes from the configuration.
    pub(super) repos: BTreeSet<String>,
    pub(super) artifacts: BTreeMap<ArtifactId, Content>,
    pub(super) touched: BTreeMap<ArtifactId, Option<Format>>,
    /// Artifacts whose last push has failed.
    pub(super) failed: BTreeSet<ArtifactId>,
    pub(super) names: BTreeMap<String, u64>,
    pub(super) temporary: BTreeMap<u64, TemporaryFile>,
    pub(super) workings: BTreeMap<u64, StagedFile>,
    pub(super) slots: [Option<Open>; SLOTS],
    /// The last number assigned to a content or a file.
    pub(super) last: u64,
}

/// Splits a path into its directory and its last name.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn artifact(repo: &str, item: Item) -> ArtifactId {
    let repo = RepoName::parse(repo).unwrap();
    ArtifactId { repo, item }
}

/// Returns the meaning of a path of [`PATHS`](super::operation::PATHS).
pub(super) fn name(path: &str) -> Name {
    let parts: Vec<&str> = path.split('/').collect();
    let schema = |repo, suffix| Name::Artifact(artifact(repo, Item::Schema), suffix);
    match parts[..] {
        [repo] if ["app", "new"].contains(&repo) => Name::Repo(repo.into()),
        [_, "plans"] => Name::Plans,
        [repo, "schema"] => schema(repo, None),
        [repo, "schema.hcl"] => schema(repo, Some(Format::Hcl)),
        [repo, "schema.sql"] => schema(repo, Some(Format::Sql)),
        [repo, "plans", plan] if !plan.starts_with('.') => {
            let plan = PlanName::parse(plan.trim_end_matches(".plan.hcl")).unwrap();
            Name::Artifact(artifact(repo, Item::Plan(plan)), None)
        }
        [_, ".git" | "4913"] => Name::Refused,
        [_, ".d", ..] => Name::TemporaryFile,
        [.., last] if last.starts_with('.') || last.ends_with('~') => Name::TemporaryFile,
        _ => Name::Foreign,
    }
}

impl Truth {
    pub(super) fn staged(&mut self, at: u64) -> &mut StagedFile {
        self.workings.get_mut(&at).expect("an open file")
    }

    pub(super) fn file(&mut self, number: u64) -> &mut TemporaryFile {
        self.temporary.get_mut(&number).expect("a scratch file")
    }

    /// Finds the directory that a path is in.
    pub(super) fn parent(&self, path: &str) -> Result<()> {
        match split(path).0 {
            "" => Ok(()),
            parent => match self.find(parent)? {
                Found::Directory => Ok(()),
                Found::TemporaryFile(at) if self.temporary[&at].is_directory => Ok(()),
                _ => Err(Error::NotDirectory),
            },
        }
    }

    /// Finds the file at a path.
    pub(super) fn find(&self, path: &str) -> Result<Found> {
        self.parent(path)?;
        let found = match name(path) {
            Name::Repo(repo) => self.has(&repo).then_some(Found::Directory),
            Name::Plans => Some(Found::Directory),
            Name::Artifact(id, suffix) => self.find_artifact(&id, suffix),
            Name::TemporaryFile | Name::Refused => {
                self.names.get(path).copied().map(Found::TemporaryFile)
            }
            Name::Foreign => None,
        };
        found.ok_or(Error::NotFound)
    }

    pub(super) fn has(&self, repo: &str) -> bool {
        repo == "app" || self.repos.contains(repo)
    }

    fn find_artifact(&self, id: &ArtifactId, suffix: Option<Format>) -> Option<Found> {
        if let Some(content) = self.artifacts.get(id) {
            let is_named = suffix.is_none_or(|suffix| suffix == content.format);
            return is_named.then(|| Found::Content(content.bytes.clone()));
        }
        let failed = self.failed.contains(id);
        (failed || self.is_touched(id, suffix)).then_some(Found::Blank(failed))
    }

    /// Tells whether this name is that of a touched artifact.
    pub(super) fn is_touched(&self, id: &ArtifactId, suffix: Option<Format>) -> bool {
        let made = self.touched.get(id);
        made.is_some_and(|made| suffix.is_none_or(|suffix| suffix == made.unwrap_or(Format::Hcl)))
    }

    /// Tells whether a name is that of an artifact with content, or of a touched one.
    pub(super) fn is_there(&self, id: &ArtifactId, suffix: Option<Format>) -> bool {
        match self.find_artifact(id, suffix) {
            Some(Found::Content(_)) => true,
            _ => !self.artifacts.contains_key(id) && self.is_touched(id, suffix),
        }
    }

    /// Lists a directory, sorted.
    pub(super) fn list(&self, dir: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let here = |path: &str| split(path).0 == dir && !path.is_empty();
        names.extend(self.names.keys().filter(|path| here(path)).cloned());
        let artifacts = self.artifacts.keys().chain(self.touched.keys());
        names.extend(artifacts.map(|id| match &id.item {
            Item::Plan(plan) => format!("{}/plans/{}", id.repo.as_str(), plan.as_str()),
            _ => format!("{}/schema", id.repo.as_str()),
        }));
        let pushed = self.artifacts.iter();
        let pushed = pushed.map(|(id, content)| (id, content.format));
        let touched = self.touched.iter();
        let touched = touched.map(|(id, suffix)| (id, suffix.unwrap_or(Format::Hcl)));
        let schemas = pushed.chain(touched.filter(|(id, _)| !self.artifacts.contains_key(id)));
        let schemas = schemas.filter(|(id, _)| id.item == Item::Schema);
        names.extend(schemas.map(|(id, format)| {
            let suffix = match format {
                Format::Hcl => "hcl",
                Format::Sql => "sql",
            };
            format!("{}/schema.{suffix}", id.repo.as_str())
        }));
        let repos = self.repos.iter().map(String::as_str).chain(["app"]);
        names.extend(repos.flat_map(|repo| [repo.to_owned(), format!("{repo}/plans")]));
        let names = names.iter().filter(|path| here(path));
        let names: BTreeSet<_> = names.map(|path| split(path).1.to_owned()).collect();
        names.into_iter().collect()
    }

    /// Reads an open file.
    pub(super) fn read(&self, open: &Open) -> Vec<u8> {
        match &open.handle {
            Handle::Bytes(bytes) => bytes.clone(),
            Handle::StagedFile(.., at) => self.workings[at].bytes.clone(),
            Handle::TemporaryFile(number) => match &self.temporary[number] {
                TemporaryFile {
                    pushed: Some((.., at)),
                    ..
                } => self.workings[at].bytes.clone(),
                file => file.bytes.clone(),
            },
        }
    }

    /// Returns the artifact that an open file shows.
    pub(super) fn view(&self, open: &Open) -> Option<(ArtifactId, Option<Format>, u64)> {
        match &open.handle {
            Handle::Bytes(_) => None,
            Handle::StagedFile(id, suffix, at) => Some((id.clone(), *suffix, *at)),
            Handle::TemporaryFile(number) => self.temporary[number].pushed.clone(),
        }
    }

    pub(super) fn change(&mut self, open: &Open, change: impl FnOnce(&mut Vec<u8>)) {
        match (self.view(open), &open.handle) {
            (Some((.., at)), _) => self.staged(at).change(change),
            (None, Handle::TemporaryFile(number)) => change(&mut self.file(*number).bytes),
            (None, _) => panic!("a reader writes"),
        }
    }
}
