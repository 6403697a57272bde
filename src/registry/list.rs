//! Listing: names, sizes and stamps from one LIST per repository, kept fresh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Registry;
use super::entry::Revision;
use super::error::{ErrorKind, RegistryError, overdue, panicked, reasons};
use super::events::{Event, Level};
use super::fallback::Replies;
use super::index::{From, ListingState};
use super::replica::{Replica, ReplicaSet, TargetId};
use super::singleflight::Overdue;
use crate::model::{ArtifactId, Item, Part, RepoName, Section};
use crate::store::{Failure, RepoListing};

/// How long the look-up of a known repository waits for the list of all. 40 ms: a store nearby has
/// answered by then, and together with the listing of the repository itself the whole path takes no
/// longer than one request with `--hedge` may.
const GLANCE: Duration = Duration::from_millis(40);

impl Registry {
    /// Lists the repositories that the configuration names, and those that the registries hold.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] if no target can answer and none ever has.
    pub async fn repos(self: &Arc<Self>) -> Result<Vec<RepoName>, RegistryError> {
        let (_, ever) = self.index.roots();
        let asked = self.refresh_roots(ever, self.fallback.patience()).await;
        let (_, ever) = self.index.roots();
        let unknown = match &asked {
            Err(error) => !ever || error.kind != ErrorKind::Outage,
            Ok(()) => false,
        };
        // Configured names are known even if no target can answer.
        if unknown && self.replica_sets.names().next().is_none() {
            asked?;
        }
        Ok(self.known_repos())
    }

    /// Returns the repositories known so far, without asking any target.
    pub(super) fn known_repos(&self) -> Vec<RepoName> {
        let (found, _) = self.index.roots();
        let names = self.replica_sets.names().cloned();
        let mut repos: BTreeSet<RepoName> = names.chain(found.into_keys()).collect();
        repos.extend(super::lock(&self.replay.repos).iter().cloned());
        repos.into_iter().collect()
    }

    /// Returns whether a repository exists.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] if no target can answer and none ever has.
    pub async fn has_repo(self: &Arc<Self>, repo: &RepoName) -> Result<bool, RegistryError> {
        if self.replica_sets.has(repo) || super::lock(&self.replay.repos).contains(repo) {
            return Ok(true);
        }
        let is_known = self.index.found_on(repo).is_some();
        // The look-up of a path's next name lists the repository itself, and waits for that too.
        let glance = self
            .fallback
            .patience()
            .map(|patience| patience.min(GLANCE));
        let asked = self.refresh_roots(is_known, glance).await;
        match (self.index.found_on(repo), asked) {
            (Some(_), _) => Ok(true),
            (None, Err(error)) if error.kind != ErrorKind::Outage || !self.index.roots().1 => {
                Err(error)
            }
            (None, _) => Ok(false),
        }
    }

    /// Lists the artifacts of a section.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] if the registry refuses, or no target can answer and none ever has.
    pub async fn list(
        self: &Arc<Self>,
        section: &Section,
    ) -> Result<Vec<(Item, Revision)>, RegistryError> {
        let is_known = self.index.age(section).is_some();
        match self.refresh(section, is_known).await {
            Err(error) if error.kind != ErrorKind::Outage || self.index.age(section).is_none() => {
                Err(error)
            }
            _ => Ok(self.index.show(section)),
        }
    }

    /// Returns an artifact's newest known content; `None` if there is none. With `stamp`, it
    /// includes the stamp, if any target can return it.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] if the registry refuses, or no target can answer and none ever has.
    pub async fn stat(
        self: &Arc<Self>,
        id: &ArtifactId,
        stamp: bool,
    ) -> Result<Option<Revision>, RegistryError> {
        let (begun, section) = (Instant::now(), id.section());
        let mut end = begun + self.settings.metadata;
        let asked = self.refresh_for(id).await;
        // The listing of versions shows their names alone.
        let stamp = stamp || id.item.is_immutable();
        let must_be_read = self.index.peek(id, |record| record.must_be_read(stamp));
        if let Err(error) = asked {
            // A pending push is known even if no target has ever answered.
            let is_known = self.index.age(&section).is_some() || self.exists(id);
            if error.kind != ErrorKind::Outage || !is_known {
                return Err(error);
            }
            end = end.min(begun + self.fallback.patience().unwrap_or(self.settings.metadata));
        }
        if must_be_read == Some(true) {
            // The listing says too little. Content that can't be read now is shown as listed.
            let looked_up = timeout_at(end, self.pull(id)).await;
            let looked_up =
                looked_up.unwrap_or_else(|_| Err(overdue(format!("list {id}"), end - begun)));
            match looked_up {
                Ok(_) => self.index.change(id, super::entry::Entry::was_looked_up),
                Err(error) if id.item.is_immutable() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(match must_be_read {
            None => None,
            Some(_) => self.index.change(id, |record| record.show()),
        })
    }

    /// Makes sure that a section's listing is fresh. If known data would do (`is_known`), this
    /// takes only a little while, and skipped targets are not asked.
    pub(super) async fn refresh(
        self: &Arc<Self>,
        section: &Section,
        is_known: bool,
    ) -> Result<(), RegistryError> {
        let skipped = self.replicas(section).is_ok_and(ReplicaSet::is_any_skipped);
        let pressing = skipped && !is_known;
        match self.index.freshness(section, pressing) {
            ListingState::Fresh => return Ok(()),
            ListingState::Failed(error) => return Err(error),
            ListingState::Due => {}
        }
        let registry = Arc::clone(self);
        let key = (section.clone(), pressing);
        let start = || async move {
            let listed = registry.list_now(&key.0, pressing).await;
            if let Err(error) = &listed {
                registry
                    .index
                    .fail(&key.0, error.clone(), pressing || !skipped);
            }
            listed
        };
        let key = (section.clone(), pressing);
        let listed = match self.fallback.patience().filter(|_| is_known) {
            None => self.lists.join(&key, start).await,
            Some(patience) => match self.lists.join_for(&key, patience, start).await {
                Ok(listed) => listed,
                Err(Overdue) => {
                    let error = overdue(format!("list {section}"), patience);
                    self.index.fail(section, error.clone(), false);
                    return Err(error);
                }
            },
        };
        listed.unwrap_or_else(|| Err(panicked("listing", section)))
    }

    async fn list_now(
        self: &Arc<Self>,
        section: &Section,
        pressing: bool,
    ) -> Result<(), RegistryError> {
        let replicas = self.replicas(section)?;
        let begun = Instant::now();
        let end = begun + self.settings.metadata;
        let ask = |target: Arc<Replica>, deadline| {
            let section = section.clone();
            async move {
                let reply =
                    target.ask_by(deadline, |target| target.list_section(&section, deadline));
                let reply = reply.await;
                (target, reply)
            }
        };
        let replies = self
            .fallback
            .ask_replicas(replicas, end, pressing, ask)
            .await;
        for (target, listing) in &replies.answers {
            if replicas.is_registry(target.id) {
                self.find_lost(section, replicas, listing, begun, end).await;
            }
            for section in &self.shown_with(section) {
                self.learn(section, replicas, target.id, listing, begun);
            }
            self.hide(target, listing.hidden.clone());
        }
        if section.is_of_versions() {
            self.recall_versions(replicas, &Section::versions(&section.repo));
        }
        let mut answers = replies.answers.iter();
        let by_registry = answers.any(|(target, _)| replicas.is_registry(target.id));
        // Without a registry, no backup stands in for one.
        let by_backups = replicas.has_registry() && !by_registry;
        for section in &self.shown_with(section) {
            self.index.set_by_backups(section, by_backups);
        }
        match replies.answers.is_empty() {
            true => Err(self.of_listing(format!("can't list {section}"), &replies.failures)),
            false => Ok(()),
        }
    }

    /// Returns the sections that a listing of one of them shows. The schemas and the migration
    /// directories of versions lie side by side, unless the latter have targets of their own.
    fn shown_with(&self, section: &Section) -> Vec<Section> {
        let repo = &section.repo;
        let has_both = self.replica_sets.of_migrations(repo).is_none();
        match section.part {
            Part::Versions | Part::Archives if has_both => {
                vec![Section::versions(repo), Section::archives(repo)]
            }
            _ => vec![section.clone()],
        }
    }

    /// Learns a target's listing of a section, begun at `begun`.
    pub(super) fn learn(
        &self,
        section: &Section,
        replicas: &ReplicaSet,
        target: TargetId,
        listing: &RepoListing,
        begun: Instant,
    ) {
        let from = From {
            target,
            is_registry: replicas.is_registry(target),
            // Nobody deletes a version: a registry that lacks one has lost it.
            decides_absence: !self.settings.fallback_on.not_found && !section.is_of_versions(),
        };
        for (item, meta) in &listing.items {
            meta.stamp
                .iter()
                .for_each(|stamp| self.clock.observe(stamp.when));
            if let Some(refused) = meta.refused {
                let (repo, item) = (section.repo.clone(), item.clone());
                let id = ArtifactId { repo, item };
                let url = self.url_of(target).unwrap_or_default();
                self.events.report_refused(&id, url, refused);
            }
        }
        self.index.list(section, from, listing, begun);
    }

    /// Makes sure that the list of repositories is fresh, as [`Registry::refresh`] does. It waits
    /// for `patience` if known repositories will do.
    async fn refresh_roots(
        self: &Arc<Self>,
        is_known: bool,
        patience: Option<Duration>,
    ) -> Result<(), RegistryError> {
        let skipped = self
            .replica_sets
            .open()
            .iter()
            .any(ReplicaSet::is_any_skipped);
        let pressing = skipped && !is_known;
        match self.index.roots_freshness(pressing) {
            ListingState::Fresh => return Ok(()),
            ListingState::Failed(error) => return Err(error),
            ListingState::Due => {}
        }
        let registry = Arc::clone(self);
        let start = || async move {
            let listed = registry.list_roots_now(pressing).await;
            if let Err(error) = &listed {
                registry
                    .index
                    .fail_roots(error.clone(), pressing || !skipped);
            }
            listed
        };
        let listed = match patience.filter(|_| is_known) {
            None => self.roots.join(&pressing, start).await,
            Some(patience) => match self.roots.join_for(&pressing, patience, start).await {
                Ok(listed) => listed,
                Err(Overdue) => {
                    let error = overdue("list the repositories", patience);
                    // A glance is too short to count as a failure.
                    if Some(patience) >= self.fallback.patience() {
                        self.index.fail_roots(error.clone(), false);
                    }
                    return Err(error);
                }
            },
        };
        listed.unwrap_or_else(|| Err(panicked("listing", "the repositories")))
    }

    async fn list_roots_now(&self, pressing: bool) -> Result<(), RegistryError> {
        let end = Instant::now() + self.settings.metadata;
        let mut found: BTreeMap<RepoName, usize> = BTreeMap::new();
        // A repository whose push is still pending for the registry exists all the same.
        let pending = self.journal.pending().into_iter();
        for pending in pending.filter(|pending| !pending.deletes) {
            let place = self.index.found_on(&pending.id.repo).unwrap_or(0);
            found.insert(pending.id.repo, place);
        }
        let mut failures: Vec<(Arc<Replica>, Failure)> = Vec::new();
        let replica_sets = self.replica_sets.open();
        let listings = replica_sets
            .iter()
            .map(|replicas| self.list_replicas(replicas, end, pressing));
        let replies = futures::future::join_all(listings).await.into_iter();
        let mut answers = Vec::new();
        for (place, replies) in replies.enumerate() {
            failures.extend(replies.failures);
            answers.extend(replies.answers.into_iter().map(|answer| (place, answer)));
        }
        // A backup may be another registry's, too, which then tells better what is its own.
        let of_backup =
            |place: usize, id| !replica_sets.get(place).is_some_and(|it| it.is_registry(id));
        answers.sort_by_key(|(place, (target, _))| of_backup(*place, target.id));
        let answered = !answers.is_empty();
        for (place, (target, (repos, hidden))) in answers {
            self.hide(&target, hidden);
            for repo in repos {
                found.entry(repo).or_insert(place);
            }
        }
        if !answered {
            return Err(self.of_listing("can't list the repositories".into(), &failures));
        }
        if !failures.is_empty() {
            // Without the registry, a list may lack repositories that a backup has missed.
            let (before, _) = self.index.roots();
            for (repo, place) in before {
                found.entry(repo).or_insert(place);
            }
        }
        self.index.set_roots(found);
        Ok(())
    }

    async fn list_replicas(
        &self,
        replicas: &ReplicaSet,
        end: Instant,
        pressing: bool,
    ) -> Replies<RepoNames> {
        let ask = |target: Arc<Replica>, deadline| async move {
            let reply = target.ask_by(deadline, |target| target.repos(deadline));
            let reply = reply.await;
            (target, reply)
        };
        let asking = self.fallback.ask_replicas(replicas, end, pressing, ask);
        let mut replies = asking.await;
        let mut names = replies.answers.iter().flat_map(|(_, (names, _))| names);
        if replies.failures.is_empty() && names.next().is_none() {
            replies.answers.extend(self.lost_repos(replicas, end).await);
        }
        replies
    }

    /// Creates the error of a listing that no target could return. Only the registry's failure,
    /// which comes first, can be an answer; a backup's failure only means that it couldn't help.
    fn of_listing(&self, what: String, failures: &[(Arc<Replica>, Failure)]) -> RegistryError {
        let answer = failures
            .first()
            .filter(|(_, failure)| !self.fallback.takes_over(failure));
        let kind = answer.map_or(ErrorKind::Outage, |(_, failure)| {
            ErrorKind::of(failure.kind)
        });
        let failures = failures
            .iter()
            .map(|(target, failure)| (target.url(), failure));
        RegistryError::new(kind, format!("{what}: {}", reasons(failures)))
    }

    /// Hides names outside the naming contract: they are counted, and logged once.
    fn hide(&self, target: &Replica, names: Vec<String>) {
        let new = self.index.hide(target.id, names);
        if let Some(first) = new.first() {
            let event = Event::new(
                Level::Warn,
                "hidden",
                "hiding names that are not valid repositories or artifacts",
            );
            self.report(
                event
                    .with("target", target.url())
                    .with("names", new.len())
                    .with("first", first.as_str()),
            );
        }
    }

    /// Returns the URL of a target.
    pub fn url_of(&self, id: TargetId) -> Option<&str> {
        let mut targets = self.replica_sets.targets().iter();
        targets
            .find(|target| target.id == id)
            .map(|target| target.url())
    }
}

/// The repositories that a target lists, and the names that it hides.
pub(super) type RepoNames = (Vec<RepoName>, Vec<String>);
