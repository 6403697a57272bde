//! The catalogue: names, sizes and stamps of every artifact that the mount has heard of, and how
//! fresh that knowledge is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::dirty_set::DirtySet;
use super::entry::{Entry, Facts, Revision};
use super::error::Error;
use super::lock;
use super::replica::TargetId;
use crate::model::{ArtifactId, Item, RepoName};
use crate::store::RepoListing;

/// How fresh the knowledge of something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListingState {
    /// A target has told of it within the TTL.
    Fresh,
    /// It is time to ask.
    Due,
    /// Asking failed, within the TTL: what is known is stale, and asking again would only wait
    /// for the same failure.
    Failed(Error),
}

/// When something was last listed, and how that ended.
#[derive(Debug, Clone, Default)]
struct Listing {
    succeeded: Option<Instant>,
    /// How long ago an earlier mount saw it succeed, and when that was reckoned.
    recalled: Option<(Duration, Instant)>,
    /// When the success was last told to the catalogue's file.
    written: Option<Instant>,
    failed: Option<Failed>,
    /// The last success was the backups', and not the registry's.
    by_backups: bool,
}

/// How asking failed.
#[derive(Debug, Clone)]
struct Failed {
    error: Error,
    /// Until when asking again would only wait for the same failure.
    until: Instant,
    /// Whether targets that are skipped were asked too.
    pressing: bool,
}

impl Listing {
    fn freshness(&self, ttl: Duration, pressing: bool) -> ListingState {
        let failed = self.failed.as_ref();
        let failed = failed.filter(|failed| failed.pressing || !pressing);
        match (failed, self.succeeded) {
            (Some(failed), _) if Instant::now() < failed.until => {
                ListingState::Failed(failed.error.clone())
            }
            (_, Some(at)) if at.elapsed() < ttl => ListingState::Fresh,
            _ => ListingState::Due,
        }
    }

    fn fail(&mut self, error: Error, pressing: bool, ttl: Duration) {
        self.failed = Some(Failed {
            error,
            until: Instant::now() + ttl.min(FAILED_FOR),
            pressing,
        });
    }

    /// Has the targets asked again: one of them is back.
    fn forgive(&mut self) {
        if let Some(failed) = &mut self.failed {
            failed.until = Instant::now();
        }
    }

    /// Counts from the answer and not from the question: while a target hangs, a listing may take
    /// longer than the TTL, and must not be out of date when it arrives.
    fn succeed(&mut self) {
        self.succeeded = Some(Instant::now());
        self.failed = None;
    }

    /// Tells whether it is time to write to the catalogue's file that it has succeeded.
    fn is_to_be_written(&mut self) -> bool {
        let written = self.written;
        let is_due = written.is_none_or(|written| written.elapsed() >= WRITTEN_EVERY);
        if is_due {
            self.written = Some(Instant::now());
        }
        is_due
    }

    fn age(&self) -> Option<Duration> {
        let recalled = self.recalled.map(|(age, at)| age + at.elapsed());
        self.succeeded.map(|at| at.elapsed()).or(recalled)
    }
}

/// For how long a failure counts at most, whatever the TTL is. 1 s: the end of an outage is noticed
/// within a second.
pub(super) const FAILED_FOR: Duration = Duration::from_secs(1);

/// How far the file may be behind with when a repository was last listed: a restart may make what
/// is served look so much more stale than it is.
const WRITTEN_EVERY: Duration = Duration::from_secs(10);

/// Who told of a repository's artifacts.
#[derive(Debug, Clone, Copy)]
pub struct From {
    /// The target.
    pub target: TargetId,
    /// Whether it is the repository's registry.
    pub is_registry: bool,
    /// Whether what the registry doesn't list is taken for deleted.
    pub decides_absence: bool,
}

#[derive(Debug, Default)]
struct RepoIndex {
    listing: Listing,
    /// Boxed, for half of a B-tree's places are empty.
    records: BTreeMap<Item, Box<Entry>>,
}

/// The catalogue of one mount.
#[derive(Debug)]
pub struct Index {
    ttl: Duration,
    repos: Mutex<HashMap<RepoName, RepoIndex>>,
    roots: Mutex<Roots>,
    hidden: Mutex<HashSet<(TargetId, String)>>,
    revisions: AtomicU64,
    /// What the catalogue's file has not been told yet.
    pub(super) dirty: DirtySet,
}

/// The repositories that the registries list, each with the place of its registry's route.
#[derive(Debug, Default)]
struct Roots {
    listing: Listing,
    found: BTreeMap<RepoName, usize>,
}

/// How many hidden names are remembered, so that each is logged once: a store full of foreign
/// objects must not fill this machine's memory.
const HIDDEN_REMEMBERED: usize = 10_000;

/// How many deletions are remembered of a repository, and written down for the next mount: as long
/// as the registry is out, they keep the backups from bringing back what it has deleted.
pub const DELETIONS: usize = 10_000;

impl Index {
    /// Makes an empty catalogue whose knowledge is fresh for `ttl`.
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            repos: Mutex::default(),
            roots: Mutex::default(),
            hidden: Mutex::default(),
            revisions: AtomicU64::new(1),
            dirty: DirtySet::default(),
        }
    }

    /// Issues the number of a new content.
    pub fn next_revision(&self) -> u64 {
        self.revisions.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells how fresh the listing of a repository is. A `pressing` request asks again where only
    /// targets that are not skipped have failed.
    pub fn freshness(&self, repo: &RepoName, pressing: bool) -> ListingState {
        let repos = lock(&self.repos);
        let repo_index = repos.get(repo);
        repo_index.map_or(ListingState::Due, |repo_index| {
            repo_index.listing.freshness(self.ttl, pressing)
        })
    }

    /// Has every listing that failed tried again: a target is back.
    pub fn forgive(&self) {
        let mut repos = lock(&self.repos);
        repos
            .values_mut()
            .for_each(|repo_index| repo_index.listing.forgive());
        drop(repos);
        lock(&self.roots).listing.forgive();
    }

    /// Tells whether the newest try to list a repository has failed, however long ago that was.
    pub fn is_failing(&self, repo: &RepoName) -> bool {
        let repos = lock(&self.repos);
        let repo_index = repos.get(repo);
        repo_index.is_some_and(|repo_index| repo_index.listing.failed.is_some())
    }

    /// Tells for how long no target has listed a repository, for this mount or an earlier one;
    /// `None` if none ever has.
    pub fn age(&self, repo: &RepoName) -> Option<Duration> {
        lock(&self.repos).get(repo)?.listing.age()
    }

    /// Takes note of whether backups have listed a repository in place of its registry.
    pub fn set_by_backups(&self, repo: &RepoName, by_backups: bool) {
        if let Some(repo_index) = lock(&self.repos).get_mut(repo) {
            repo_index.listing.by_backups = by_backups;
        }
    }

    /// Tells whether backups have listed a repository in place of its registry.
    pub fn is_by_backups(&self, repo: &RepoName) -> bool {
        let repos = lock(&self.repos);
        repos
            .get(repo)
            .is_some_and(|repo_index| repo_index.listing.by_backups)
    }

    /// Takes note of a target's listing of a repository, begun at `begun`.
    pub fn list(&self, repo: &RepoName, from: From, listing: &RepoListing, begun: Instant) {
        let mut repos = lock(&self.repos);
        let repo_index = repos.entry(repo.clone()).or_default();
        repo_index.listing.succeed();
        if repo_index.listing.is_to_be_written() {
            self.dirty.repo(repo);
        }
        for (item, listed) in &listing.items {
            let record = repo_index.records.entry(item.clone()).or_default();
            let before = record.essence();
            record.listed(from.target, from.is_registry, listed, begun, || {
                self.next_revision()
            });
            if record.essence() != before {
                self.dirty.artifact(repo, item);
            }
        }
        for (item, record) in &mut repo_index.records {
            if !listing.items.contains_key(item) {
                let decides = from.is_registry && from.decides_absence;
                let before = record.essence();
                record.unlisted(from.target, decides, begun);
                if record.essence() != before {
                    self.dirty.artifact(repo, item);
                }
            }
        }
        let mut deletions = DELETIONS;
        repo_index.records.retain(|_, record| {
            let is_deletion = record.is_deletion();
            deletions = deletions.saturating_sub(usize::from(is_deletion));
            !(record.is_blank() || (is_deletion && deletions == 0))
        });
    }

    /// Takes note that no target could list a repository.
    pub fn fail(&self, repo: &RepoName, error: Error, pressing: bool) {
        let mut repos = lock(&self.repos);
        let repo_index = repos.entry(repo.clone()).or_default();
        repo_index.listing.fail(error, pressing, self.ttl);
    }

    /// Looks at what is known of an artifact, if anything is.
    pub fn peek<T>(&self, id: &ArtifactId, look: impl FnOnce(&Entry) -> T) -> Option<T> {
        let repos = lock(&self.repos);
        let record = repos.get(&id.repo)?.records.get(&id.item)?;
        Some(look(record))
    }

    /// Changes what is known of an artifact.
    pub fn change<T>(&self, id: &ArtifactId, change: impl FnOnce(&mut Entry) -> T) -> T {
        let mut repos = lock(&self.repos);
        let repo_index = repos.entry(id.repo.clone()).or_default();
        let record = repo_index.records.entry(id.item.clone()).or_default();
        let before = record.essence();
        let changed = change(record);
        if record.essence() != before {
            self.dirty.artifact(&id.repo, &id.item);
        }
        changed
    }

    /// Takes over what an earlier mount knew of an artifact.
    pub fn recall(&self, id: &ArtifactId, facts: Facts, registry: TargetId) {
        let mut repos = lock(&self.repos);
        let repo_index = repos.entry(id.repo.clone()).or_default();
        let record = repo_index.records.entry(id.item.clone()).or_default();
        record.restore(facts, registry, || self.next_revision());
    }

    /// Takes over that an earlier mount has listed a repository so long ago.
    pub fn recall_listing(&self, repo: &RepoName, age: Duration) {
        let mut repos = lock(&self.repos);
        let repo_index = repos.entry(repo.clone()).or_default();
        repo_index.listing.recalled = Some((age, Instant::now()));
    }

    /// Takes over the repositories that an earlier mount has found.
    pub fn recall_roots(&self, found: BTreeMap<RepoName, usize>) {
        let mut roots = lock(&self.roots);
        roots.listing.recalled = Some((Duration::ZERO, Instant::now()));
        roots.found = found;
    }

    /// Returns the repositories of which anything is known.
    pub fn repos(&self) -> Vec<RepoName> {
        lock(&self.repos).keys().cloned().collect()
    }

    /// Shows every artifact of a repository.
    pub fn show(&self, repo: &RepoName) -> Vec<(Item, Revision)> {
        let mut repos = lock(&self.repos);
        let Some(repo_index) = repos.get_mut(repo) else {
            return Vec::new();
        };
        let shown = repo_index.records.iter_mut();
        shown
            .filter_map(|(item, record)| Some((item.clone(), record.show()?)))
            .collect()
    }

    /// Returns a repository's artifacts of which something is known: those that the registry has
    /// said are `gone`, or the others.
    pub fn ids(&self, repo: &RepoName, gone: bool) -> Vec<ArtifactId> {
        let repos = lock(&self.repos);
        let records = repos.get(repo).into_iter();
        let records = records.flat_map(|repo_index| &repo_index.records);
        records
            .filter(|(_, record)| record.is_gone() == gone)
            .map(|(item, _)| ArtifactId {
                repo: repo.clone(),
                item: item.clone(),
            })
            .collect()
    }

    /// Visits every record.
    pub fn visit(&self, mut visit: impl FnMut(ArtifactId, &Entry)) {
        for (repo, repo_index) in lock(&self.repos).iter() {
            for (item, record) in &repo_index.records {
                let id = ArtifactId {
                    repo: repo.clone(),
                    item: item.clone(),
                };
                visit(id, record);
            }
        }
    }

    /// Tells how fresh the list of repositories is.
    pub fn roots_freshness(&self, pressing: bool) -> ListingState {
        lock(&self.roots).listing.freshness(self.ttl, pressing)
    }

    /// Takes note of the repositories that the registries list.
    pub fn set_roots(&self, found: BTreeMap<RepoName, usize>) {
        let mut roots = lock(&self.roots);
        let is_news = roots.listing.succeeded.is_none() || roots.found != found;
        roots.listing.succeed();
        roots.found = found;
        if is_news {
            self.dirty.roots();
        }
    }

    /// Takes note that the registries could not be listed.
    pub fn fail_roots(&self, error: Error, pressing: bool) {
        lock(&self.roots).listing.fail(error, pressing, self.ttl);
    }

    /// Takes note of a repository that came into being by a push of this mount.
    pub fn add_root(&self, repo: &RepoName, replicas: usize) {
        let mut roots = lock(&self.roots);
        if !roots.found.contains_key(repo) {
            roots.found.insert(repo.clone(), replicas);
            self.dirty.roots();
        }
    }

    /// Returns the repositories found, and whether they were ever listed.
    pub fn roots(&self) -> (BTreeMap<RepoName, usize>, bool) {
        let roots = lock(&self.roots);
        (roots.found.clone(), roots.listing.age().is_some())
    }

    /// Returns the place of the route that a repository was found on.
    pub fn found_on(&self, repo: &RepoName) -> Option<usize> {
        lock(&self.roots).found.get(repo).copied()
    }

    /// Takes note of names that are not shown; returns those that are new.
    pub fn hide(&self, target: TargetId, names: Vec<String>) -> Vec<String> {
        let mut hidden = lock(&self.hidden);
        let names = names.into_iter();
        names
            .filter(|name| {
                hidden.len() < HIDDEN_REMEMBERED && hidden.insert((target, name.clone()))
            })
            .collect()
    }

    /// Returns how many names are not shown.
    pub fn hidden(&self) -> usize {
        lock(&self.hidden).len()
    }
}
