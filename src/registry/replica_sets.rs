//! The targets of each section: those that the configuration names, or those of the registry that
//! holds its repository.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::replica::{Replica, ReplicaSet, TargetId};
use crate::model::{Part, RepoName, Section};

/// The replica set of each repository.
#[derive(Debug)]
pub struct ReplicaSets {
    named: BTreeMap<RepoName, ReplicaSet>,
    /// The migration directories with targets of their own.
    migrations: BTreeMap<RepoName, ReplicaSet>,
    /// One replica set per registry, in the order of the configuration: a repository that the
    /// configuration doesn't name belongs to the first registry that lists it.
    open: Vec<ReplicaSet>,
    targets: Vec<Arc<Replica>>,
}

impl ReplicaSets {
    /// Creates the replica sets of a mount: the repositories that the configuration names, each
    /// with its own targets, in the configuration's order. `others` is the replica set of a mount
    /// that was given its targets without naming repositories.
    pub fn new(named: Vec<(RepoName, ReplicaSet)>, others: Option<ReplicaSet>) -> Self {
        let mut all = Self {
            named: BTreeMap::new(),
            migrations: BTreeMap::new(),
            open: Vec::new(),
            targets: Vec::new(),
        };
        let sets = named.iter().map(|(_, replicas)| replicas).chain(&others);
        sets.for_each(|replicas| all.add(replicas));
        all.named = named.into_iter().collect();
        all
    }

    /// Adds the migration directories that have other targets than the rest of their repositories.
    pub fn with_migrations(mut self, migrations: Vec<(RepoName, ReplicaSet)>) -> Self {
        for (_, replicas) in &migrations {
            self.add(replicas);
        }
        self.migrations = migrations.into_iter().collect();
        self
    }

    fn add(&mut self, replicas: &ReplicaSet) {
        let mut open = self.open.iter();
        if !open.any(|known| known.registry.id == replicas.registry.id) {
            self.open.push(replicas.clone());
        }
        for target in replicas.targets() {
            if !self.targets.iter().any(|known| known.id == target.id) {
                self.targets.push(Arc::clone(target));
            }
        }
        self.targets.sort_by_key(|target| target.id);
    }

    /// Returns the targets of a section, if the configuration names its repository.
    pub fn named(&self, section: &Section) -> Option<&ReplicaSet> {
        let repo = &section.repo;
        let migrations = match section.part {
            Part::Migrations | Part::Archives => self.migrations.get(repo),
            Part::Current | Part::Versions | Part::Tags => None,
        };
        migrations.or_else(|| self.named.get(repo))
    }

    /// Tells whether the configuration names a repository.
    pub fn has(&self, repo: &RepoName) -> bool {
        self.named.contains_key(repo)
    }

    /// Returns the targets of a repository's migration directory, if they are others than the rest's.
    pub fn of_migrations(&self, repo: &RepoName) -> Option<&ReplicaSet> {
        self.migrations.get(repo)
    }

    /// Returns the names in the configuration.
    pub fn names(&self) -> impl Iterator<Item = &RepoName> {
        self.named.keys()
    }

    /// Returns one replica set per registry.
    pub fn open(&self) -> &[ReplicaSet] {
        &self.open
    }

    /// Returns the registries that this version has no backend for.
    pub fn unsupported(&self) -> impl Iterator<Item = &Arc<Replica>> {
        let open = self.open.iter().filter(|replicas| !replicas.has_registry());
        open.map(|replicas| &replicas.registry)
    }

    /// Returns every target of the mount.
    pub fn targets(&self) -> &[Arc<Replica>] {
        &self.targets
    }

    /// Returns the repositories that the configuration names for a target.
    pub fn repos_of(&self, id: TargetId) -> Vec<&RepoName> {
        let sets = self.named.iter().chain(&self.migrations);
        let repos = sets.filter(|(_, replicas)| replicas.targets().any(|target| target.id == id));
        let repos: BTreeSet<&RepoName> = repos.map(|(name, _)| name).collect();
        repos.into_iter().collect()
    }
}
