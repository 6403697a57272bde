//! The index: names, sizes and stamps of every artifact that the mount knows of, and how fresh that
//! knowledge is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::dirty_set::DirtySet;
use super::entry::{Entry, Facts, Revision};
use super::error::RegistryError;
use super::lock;
use super::replica::TargetId;
use crate::model::{ArtifactId, Item, RepoName, Section};
use crate::store::RepoListing;

/// The freshness of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListingState {
    /// A target has answered within the TTL.
    Fresh,
    /// It is time to ask the targets.
    Due,
    /// Asking failed, within the TTL: the known data is stale, and asking again would only wait for
    /// the same failure.
    Failed(RegistryError),
}

/// The time and the result of the last listing.
#[derive(Debug, Clone, Default)]
struct Listing {
    succeeded: Option<Instant>,
    /// The age of an earlier mount's last success, and the time at which that age was computed.
    recalled: Option<(Duration, Instant)>,
    /// The time when the success was last written to the index file.
    written: Option<Instant>,
    failed: Option<Failed>,
    /// The last success came from the backups, not from the registry.
    by_backups: bool,
    /// This mount has changed something since.
    expired: bool,
}

/// A failed listing.
#[derive(Debug, Clone)]
struct Failed {
    error: RegistryError,
    /// The time until which asking again would only wait for the same failure.
    until: Instant,
    /// Whether skipped targets were asked too.
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
            (_, Some(at)) if at.elapsed() < ttl && !self.expired => ListingState::Fresh,
            _ => ListingState::Due,
        }
    }

    fn fail(&mut self, error: RegistryError, pressing: bool, ttl: Duration) {
        self.failed = Some(Failed {
            error,
            until: Instant::now() + ttl.min(FAILED_FOR),
            pressing,
        });
    }

    /// Lets the next request ask the targets again: one of them is back.
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
        self.expired = false;
    }

    /// Returns whether the success is due to be written to the index file.
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

/// The longest time that a failure counts, whatever the TTL is. 1 s: the end of an outage is
/// noticed within a second.
pub(super) const FAILED_FOR: Duration = Duration::from_secs(1);

/// How far the file may be behind with the time of a repository's last listing. 10 s: after a
/// restart, content may look that much staler than it is.
const WRITTEN_EVERY: Duration = Duration::from_secs(10);

/// The source of a listing.
#[derive(Debug, Clone, Copy)]
pub struct From {
    /// The target.
    pub target: TargetId,
    /// Whether it is the repository's registry.
    pub is_registry: bool,
    /// Whether an artifact that the registry doesn't list counts as deleted.
    pub decides_absence: bool,
}

#[derive(Debug, Default)]
struct SectionIndex {
    listing: Listing,
    /// Boxed, because half of a B-tree's places are empty.
    records: BTreeMap<Item, Box<Entry>>,
}

/// The index of one mount.
#[derive(Debug)]
pub struct Index {
    ttl: Duration,
    sections: Mutex<HashMap<Section, SectionIndex>>,
    roots: Mutex<Roots>,
    hidden: Mutex<HashSet<(TargetId, String)>>,
    revisions: AtomicU64,
    /// Changes that are not in the index file yet.
    pub(super) dirty: DirtySet,
}

/// The repositories that the registries list, each with the position of its registry's replica set.
#[derive(Debug, Default)]
struct Roots {
    listing: Listing,
    found: BTreeMap<RepoName, usize>,
}

/// How many hidden names are remembered, so that each is logged once: a store full of foreign
/// objects must not fill this machine's memory.
const HIDDEN_REMEMBERED: usize = 10_000;

/// How many deletions of a repository are remembered, and written down for the next mount: during
/// an outage of the registry, they keep the backups from bringing deleted artifacts back.
pub const DELETIONS: usize = 10_000;

impl Index {
    /// Creates an empty index whose knowledge is fresh for `ttl`.
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            sections: Mutex::default(),
            roots: Mutex::default(),
            hidden: Mutex::default(),
            revisions: AtomicU64::new(1),
            dirty: DirtySet::default(),
        }
    }

    /// Issues the revision of a new content.
    pub fn next_revision(&self) -> u64 {
        self.revisions.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns how fresh the listing of a repository is. A `pressing` request asks again if only
    /// targets that are not skipped have failed.
    pub fn freshness(&self, section: &Section, pressing: bool) -> ListingState {
        let sections = lock(&self.sections);
        let section_index = sections.get(section);
        section_index.map_or(ListingState::Due, |section_index| {
            section_index.listing.freshness(self.ttl, pressing)
        })
    }

    /// Makes the next request list a section again, if it was ever listed.
    pub fn expire(&self, section: &Section) {
        if let Some(section_index) = lock(&self.sections).get_mut(section) {
            section_index.listing.expired = true;
        }
    }

    /// Lets every failed listing be tried again: a target is back.
    pub fn forgive(&self) {
        let mut sections = lock(&self.sections);
        sections
            .values_mut()
            .for_each(|section_index| section_index.listing.forgive());
        drop(sections);
        lock(&self.roots).listing.forgive();
    }

    /// Returns whether the newest attempt to list a repository has failed, however long ago that
    /// was.
    pub fn is_failing(&self, section: &Section) -> bool {
        let sections = lock(&self.sections);
        let section_index = sections.get(section);
        section_index.is_some_and(|section_index| section_index.listing.failed.is_some())
    }

    /// Returns the time since a target last listed a repository, for this mount or an earlier one;
    /// `None` if none ever has.
    pub fn age(&self, section: &Section) -> Option<Duration> {
        lock(&self.sections).get(section)?.listing.age()
    }

    /// Records whether backups have listed a repository in place of its registry.
    pub fn set_by_backups(&self, section: &Section, by_backups: bool) {
        if let Some(section_index) = lock(&self.sections).get_mut(section) {
            section_index.listing.by_backups = by_backups;
        }
    }

    /// Returns whether backups have listed a repository in place of its registry.
    pub fn is_by_backups(&self, section: &Section) -> bool {
        let sections = lock(&self.sections);
        sections
            .get(section)
            .is_some_and(|section_index| section_index.listing.by_backups)
    }

    /// Updates the index from a target's listing of a repository, begun at `begun`.
    pub fn list(&self, section: &Section, from: From, listing: &RepoListing, begun: Instant) {
        let mut sections = lock(&self.sections);
        let section_index = sections.entry(section.clone()).or_default();
        section_index.listing.succeed();
        if section_index.listing.is_to_be_written() {
            self.dirty.section(section);
        }
        let items = listing.items.iter();
        for (item, listed) in items.filter(|(item, _)| section.shows(item)) {
            let record = section_index.records.entry(item.clone()).or_default();
            let before = record.essence();
            record.listed(from.target, from.is_registry, listed, begun, || {
                self.next_revision()
            });
            if record.essence() != before {
                self.dirty.artifact(&section.repo, item);
            }
        }
        for (item, record) in &mut section_index.records {
            if !listing.items.contains_key(item) {
                let decides = from.is_registry && from.decides_absence;
                let before = record.essence();
                record.unlisted(from.target, decides, begun);
                if record.essence() != before {
                    self.dirty.artifact(&section.repo, item);
                }
            }
        }
        let mut deletions = DELETIONS;
        section_index.records.retain(|_, record| {
            let is_deletion = record.is_deletion();
            deletions = deletions.saturating_sub(usize::from(is_deletion));
            !(record.is_blank() || (is_deletion && deletions == 0))
        });
    }

    /// Records that no target could list a repository.
    pub fn fail(&self, section: &Section, error: RegistryError, pressing: bool) {
        let mut sections = lock(&self.sections);
        let section_index = sections.entry(section.clone()).or_default();
        section_index.listing.fail(error, pressing, self.ttl);
    }

    /// Passes the entry of an artifact to `look`, if there is one.
    pub fn peek<T>(&self, id: &ArtifactId, look: impl FnOnce(&Entry) -> T) -> Option<T> {
        let sections = lock(&self.sections);
        let record = sections.get(&id.section())?.records.get(&id.item)?;
        Some(look(record))
    }

    /// Changes the entry of an artifact, which is created if there is none.
    pub fn change<T>(&self, id: &ArtifactId, change: impl FnOnce(&mut Entry) -> T) -> T {
        let mut sections = lock(&self.sections);
        let section_index = sections.entry(id.section()).or_default();
        let record = section_index.records.entry(id.item.clone()).or_default();
        let before = record.essence();
        let changed = change(record);
        if record.essence() != before {
            self.dirty.artifact(&id.repo, &id.item);
        }
        changed
    }

    /// Loads an earlier mount's facts about an artifact.
    pub fn recall(&self, id: &ArtifactId, facts: Facts, registry: TargetId) {
        let mut sections = lock(&self.sections);
        let section_index = sections.entry(id.section()).or_default();
        let record = section_index.records.entry(id.item.clone()).or_default();
        record.restore(facts, registry, || self.next_revision());
    }

    /// Loads the age of an earlier mount's listing of a repository.
    pub fn recall_listing(&self, section: &Section, age: Duration) {
        let mut sections = lock(&self.sections);
        let section_index = sections.entry(section.clone()).or_default();
        section_index.listing.recalled = Some((age, Instant::now()));
    }

    /// Loads the repositories that an earlier mount has found.
    pub fn recall_roots(&self, found: BTreeMap<RepoName, usize>) {
        let mut roots = lock(&self.roots);
        roots.listing.recalled = Some((Duration::ZERO, Instant::now()));
        roots.found = found;
    }

    /// Returns all sections in the index.
    pub fn sections(&self) -> Vec<Section> {
        lock(&self.sections).keys().cloned().collect()
    }

    /// Returns every artifact of a repository for display: their times are fixed from now on.
    pub fn show(&self, section: &Section) -> Vec<(Item, Revision)> {
        let mut sections = lock(&self.sections);
        let Some(section_index) = sections.get_mut(section) else {
            return Vec::new();
        };
        let shown = section_index.records.iter_mut();
        shown
            .filter_map(|(item, record)| Some((item.clone(), record.show()?)))
            .collect()
    }

    /// Returns a repository's artifacts that have an entry: those that are `gone` by the registry's
    /// answer, or the others.
    pub fn ids(&self, section: &Section, gone: bool) -> Vec<ArtifactId> {
        let sections = lock(&self.sections);
        let records = sections.get(section).into_iter();
        let records = records.flat_map(|section_index| &section_index.records);
        records
            .filter(|(_, record)| record.is_gone() == gone)
            .map(|(item, _)| ArtifactId {
                repo: section.repo.clone(),
                item: item.clone(),
            })
            .collect()
    }

    /// Visits every entry.
    pub fn visit(&self, mut visit: impl FnMut(ArtifactId, &Entry)) {
        for (section, section_index) in lock(&self.sections).iter() {
            for (item, record) in &section_index.records {
                let id = ArtifactId {
                    repo: section.repo.clone(),
                    item: item.clone(),
                };
                visit(id, record);
            }
        }
    }

    /// Returns how fresh the list of repositories is.
    pub fn roots_freshness(&self, pressing: bool) -> ListingState {
        lock(&self.roots).listing.freshness(self.ttl, pressing)
    }

    /// Records the repositories that the registries list.
    pub fn set_roots(&self, found: BTreeMap<RepoName, usize>) {
        let mut roots = lock(&self.roots);
        let is_news = roots.listing.succeeded.is_none() || roots.found != found;
        roots.listing.succeed();
        roots.found = found;
        if is_news {
            self.dirty.roots();
        }
    }

    /// Records that the registries could not be listed.
    pub fn fail_roots(&self, error: RegistryError, pressing: bool) {
        lock(&self.roots).listing.fail(error, pressing, self.ttl);
    }

    /// Records a repository that a push of this mount has created.
    pub fn add_root(&self, repo: &RepoName, replicas: usize) {
        let mut roots = lock(&self.roots);
        if !roots.found.contains_key(repo) {
            roots.found.insert(repo.clone(), replicas);
            self.dirty.roots();
        }
    }

    /// Returns the known repositories, and whether they were ever listed.
    pub fn roots(&self) -> (BTreeMap<RepoName, usize>, bool) {
        let roots = lock(&self.roots);
        (roots.found.clone(), roots.listing.age().is_some())
    }

    /// Returns the position of the replica set that a repository was found on.
    pub fn found_on(&self, repo: &RepoName) -> Option<usize> {
        lock(&self.roots).found.get(repo).copied()
    }

    /// Records names that are not shown; returns the new ones.
    pub fn hide(&self, target: TargetId, names: Vec<String>) -> Vec<String> {
        let mut hidden = lock(&self.hidden);
        let names = names.into_iter();
        names
            .filter(|name| {
                hidden.len() < HIDDEN_REMEMBERED && hidden.insert((target, name.clone()))
            })
            .collect()
    }

    /// Returns the number of names that are not shown.
    pub fn hidden(&self) -> usize {
        lock(&self.hidden).len()
    }
}
