//! The index log: the mount writes its knowledge down as it changes, and the next mount begins with
//! it.
//!
//! The targets' first answers correct that knowledge. Until then the mount serves it; its
//! high-water marks hold against the answers too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::clock::Clock;
use super::dirty_set::Changes;
use super::index::{DELETIONS, Index};
use super::index_file::{Fact, IndexFile, Note, Recalled};
use super::replica::ReplicaSet;
use super::replica_sets::ReplicaSets;
use super::{blocking, lock};
use crate::model::{ArtifactId, RepoName, Section, nanos};

/// How long the file is left alone after a failed write.
const WRITE_PAUSE: Duration = Duration::from_secs(10);

/// The index file, and the sources of its lines.
#[derive(Debug)]
pub struct IndexLog {
    index: Arc<Index>,
    replica_sets: Arc<ReplicaSets>,
    clock: Arc<Clock>,
    state: Mutex<LogState>,
}

#[derive(Debug)]
struct LogState {
    file: IndexFile,
    paused: Option<Instant>,
    told: bool,
}

/// Returns the replica set of a section: the configured one, that of the registry which lists its
/// repository, or the first one for a new repository.
pub fn replicas_of<'a>(
    replica_sets: &'a ReplicaSets,
    index: &Index,
    section: &Section,
) -> Option<&'a ReplicaSet> {
    let found = || index.found_on(&section.repo).unwrap_or(0);
    replica_sets
        .named(section)
        .or_else(|| replica_sets.open().get(found()))
}

impl IndexLog {
    /// Names the file.
    pub fn new(
        path: PathBuf,
        index: Arc<Index>,
        replica_sets: Arc<ReplicaSets>,
        clock: Arc<Clock>,
    ) -> Self {
        Self {
            index,
            replica_sets,
            clock,
            state: Mutex::new(LogState {
                file: IndexFile::new(path),
                paused: None,
                told: false,
            }),
        }
    }

    /// Fills the index with the facts of an earlier mount, as far as the configuration still names
    /// their subject. Returns the problem, if there was one.
    pub fn recall(&self) -> Option<String> {
        let recalled = lock(&self.state).file.recall();
        let Recalled { notes, damaged } = match recalled {
            Ok(recalled) => recalled,
            Err(error) => return Some(format!("it can't be read: {error}")),
        };
        let (mut roots, mut listed, mut artifacts) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for Note { registry, fact } in notes {
            match fact {
                Fact::Repos(repos) => drop(roots.insert(registry, repos)),
                Fact::Listed(section, when) => drop(listed.insert(section, (registry, when))),
                Fact::Artifact(id, facts) => drop(artifacts.insert(id, (registry, facts))),
            }
        }
        self.recall_roots(&roots);
        let now = self.clock.nanos();
        for (section, (registry, when)) in listed {
            if self.trusted(&section, &registry).is_some() {
                let age = Duration::from_nanos(now.saturating_sub(when));
                self.index.recall_listing(&section, age);
            }
        }
        for (id, (registry, facts)) in artifacts {
            if let Some(replicas) = self.trusted(&id.section(), &registry) {
                let facts = facts.up_to(self.clock.now());
                facts
                    .high_water
                    .iter()
                    .for_each(|high_water| self.clock.observe(high_water.when));
                self.index.recall(&id, facts, replicas.registry.id);
            }
        }
        damaged.map(|path| format!("it is damaged, and set aside as {}", path.display()))
    }

    fn recall_roots(&self, roots: &BTreeMap<String, BTreeSet<RepoName>>) {
        let mut found = BTreeMap::new();
        let mut known = false;
        for (place, replicas) in self.replica_sets.open().iter().enumerate() {
            let mut notes = roots.iter();
            let repos = notes.find(|(registry, _)| replicas.registry.is_named(registry));
            let repos = repos.map(|(_, repos)| repos);
            known |= repos.is_some();
            for repo in repos.into_iter().flatten() {
                found.entry(repo.clone()).or_insert(place);
            }
        }
        if known {
            self.index.recall_roots(found);
        }
    }

    /// Returns the replica set of a section if `registry` is still its registry.
    fn trusted(&self, section: &Section, registry: &str) -> Option<&ReplicaSet> {
        let repo = &section.repo;
        let is_there = self.replica_sets.has(repo) || self.index.found_on(repo).is_some();
        let replicas = replicas_of(&self.replica_sets, &self.index, section)?;
        (is_there && replicas.registry.is_named(registry)).then_some(replicas)
    }

    /// Starts a task that writes every change, for as long as this value lives. Each write includes
    /// the changes made during the one before.
    pub fn start(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let wake = self.index.dirty.wake();
        let weak = Arc::downgrade(self);
        runtime.spawn(async move {
            loop {
                wake.notified().await;
                let Some(index_log) = weak.upgrade() else {
                    return;
                };
                let _ = blocking::run(move || index_log.write()).await;
            }
        });
    }

    /// Writes the changes. It waits for the disk.
    pub fn write(&self) {
        let mut state = lock(&self.state);
        if state.paused.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let changes = self.index.dirty.take();
        if changes.is_empty() {
            return;
        }
        let written = match state.file.is_due() {
            true => state.file.rewrite(self.everything()),
            false => state.file.append(self.notes(changes)),
        };
        state.paused = None;
        if let Err(error) = written {
            // The next attempt writes everything.
            state.paused = Some(Instant::now() + WRITE_PAUSE);
            if !state.told {
                let path = state.file.path().display();
                tracing::warn!("can't write the index for the next mount to {path}: {error}");
            }
            state.told = true;
        }
    }

    /// Returns everything that the next mount should know, most important first, in case the file
    /// can't hold it all. The next write adds changes made meanwhile.
    fn everything(&self) -> impl Iterator<Item = Note> {
        let sections = self.index.sections();
        let of_sections = Changes {
            artifacts: BTreeSet::new(),
            sections: sections.iter().cloned().collect(),
            roots: true,
        };
        let notes_of = move |gone| {
            let ids = sections.clone().into_iter();
            let ids = ids.flat_map(move |section| self.index.ids(&section, gone));
            ids.filter_map(|id| self.note(id))
        };
        let deletions = notes_of(true).take(DELETIONS);
        self.notes(of_sections)
            .chain(notes_of(false))
            .chain(deletions)
    }

    /// Returns the lines for some changes.
    fn notes(&self, changes: Changes) -> impl Iterator<Item = Note> {
        let roots = match changes.roots {
            true => self.roots(),
            false => Vec::new(),
        };
        let now = self.clock.now();
        let listed = changes.sections.into_iter().filter_map(move |section| {
            let age = self.index.age(&section)?;
            let when = now.checked_sub(age).map(nanos)?;
            let registry = self.registry(&section)?;
            let fact = Fact::Listed(section, when);
            Some(Note { registry, fact })
        });
        let artifacts = changes.artifacts.into_iter();
        let artifacts = artifacts.filter_map(|id| self.note(id));
        roots.into_iter().chain(listed).chain(artifacts)
    }

    fn note(&self, id: ArtifactId) -> Option<Note> {
        let replicas = replicas_of(&self.replica_sets, &self.index, &id.section())?;
        let registry = replicas.registry.id;
        let facts = self.index.peek(&id, |record| record.facts(registry));
        Some(Note {
            registry: replicas.registry.name(),
            fact: Fact::Artifact(id, Box::new(facts??)),
        })
    }

    fn registry(&self, section: &Section) -> Option<String> {
        let replicas = replicas_of(&self.replica_sets, &self.index, section)?;
        Some(replicas.registry.name())
    }

    fn roots(&self) -> Vec<Note> {
        let (found, ever) = self.index.roots();
        let replica_sets = self.replica_sets.open().iter().enumerate();
        let notes = replica_sets.map(|(place, replicas)| {
            let repos = found.iter().filter(|(_, on)| **on == place);
            Note {
                registry: replicas.registry.name(),
                fact: Fact::Repos(repos.map(|(repo, _)| repo.clone()).collect()),
            }
        });
        match ever || !found.is_empty() {
            true => notes.collect(),
            false => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::model::{Format, Item, Stamp};
    use crate::registry::WallClock;
    use crate::registry::replica::{Replica, TargetId};
    use crate::store::{Memory, Role, Target};

    fn repo(name: &str) -> RepoName {
        RepoName::parse(name).unwrap()
    }

    fn schema(name: &str) -> ArtifactId {
        ArtifactId {
            repo: repo(name),
            item: Item::Schema,
        }
    }

    /// A mount of one registry, whose configuration names some repositories.
    fn mount(dir: &Path, url: &str, named: &[&str]) -> IndexLog {
        let target = Target::new(Role::Registry, url, Arc::new(Memory::default()));
        let replicas = ReplicaSet {
            registry: Arc::new(Replica::new(TargetId(3), target)),
            backups: Vec::new(),
        };
        let named = named.iter().map(|name| (repo(name), replicas.clone()));
        let replica_sets = ReplicaSets::new(named.collect(), Some(replicas.clone()));
        let index = Index::new(Duration::from_secs(1));
        IndexLog::new(
            dir.join("catalogue"),
            Arc::new(index),
            Arc::new(replica_sets),
            Arc::new(Clock::new(WallClock::new(|| UNIX_EPOCH))),
        )
    }

    fn push(index_log: &IndexLog, name: &str, stamp: Stamp) {
        index_log.index.change(&schema(name), |record| {
            record.pushed(stamp, &[], &[], Instant::now(), || 1);
        });
    }

    fn knows(index_log: &IndexLog, name: &str) -> Option<Stamp> {
        let known = index_log.index.peek(&schema(name), |record| {
            record.current().and_then(|known| known.stamp())
        });
        known.flatten()
    }

    #[test]
    fn what_one_registry_said_is_not_taken_for_the_word_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let stamp = Stamp::new(5, b"x", Format::Hcl);
        let before = mount(dir.path(), "mem://a", &["app"]);
        push(&before, "app", stamp);
        before.index.add_root(&repo("found"), 0);
        push(&before, "found", stamp);
        before.write();
        for (url, named, app, found) in [
            ("mem://a", &["app"][..], true, true),
            ("mem://a", &["other"], false, true),
            ("mem://b", &["app"], false, false),
        ] {
            let after = mount(dir.path(), url, named);
            assert_eq!(after.recall(), None);
            assert_eq!(knows(&after, "app").is_some(), app, "{url} {named:?}");
            assert_eq!(knows(&after, "found").is_some(), found, "{url} {named:?}");
            let next = after.clock.next_stamp();
            assert_eq!(
                next > stamp.when,
                app || found,
                "a push is newer than all known"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_written_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let index_log = mount(dir.path(), "mem://a", &["app", "b"]);
        let in_the_way = dir.path().join("catalogue.tmp");
        std::fs::create_dir(&in_the_way).unwrap();
        let stamp = Stamp::new(5, b"x", Format::Hcl);
        push(&index_log, "app", stamp);
        index_log.write();
        std::fs::remove_dir(in_the_way).unwrap();
        push(&index_log, "b", stamp);
        index_log.write();
        assert!(
            !dir.path().join("catalogue").exists(),
            "it is left alone for a while"
        );
        tokio::time::sleep(WRITE_PAUSE).await;
        index_log.write();
        let after = mount(dir.path(), "mem://a", &["app", "b"]);
        after.recall();
        assert_eq!(knows(&after, "app"), Some(stamp));
        assert_eq!(knows(&after, "b"), Some(stamp));
    }

    #[test]
    fn the_list_of_repositories_is_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let before = mount(dir.path(), "mem://a", &[]);
        before.index.set_roots(BTreeMap::from([(repo("app"), 0)]));
        before.write();
        let after = mount(dir.path(), "mem://a", &[]);
        after.recall();
        let (found, ever) = after.index.roots();
        assert!(ever && found.contains_key(&repo("app")));
    }
}
