//! Push and pull: the three promises live here.
//!
//! [`Registry`] is the file system's view: a repository's artifacts, wherever they lie. A push
//! (`push`) goes to the targets of its [`ReplicaSet`]; a pull goes through the `index` (known
//! artifacts, their freshness) and the `cache` to the first target that can answer.

mod apply;
#[cfg(test)]
mod arbitrary_tests;
mod archive;
mod base;
mod blocking;
mod breaker;
mod cache;
mod check;
mod clock;
mod commit;
mod conditions;
mod conflict;
mod contents;
mod delete;
mod dirty_set;
mod disk_cache;
mod disk_files;
mod entry;
mod error;
mod events;
mod failures;
mod fallback;
mod history;
mod index;
mod index_file;
mod index_log;
mod journal;
mod keyed_lock;
mod known_stores;
mod list;
mod lost;
mod metrics;
mod private;
mod pull;
mod push;
mod receipt;
mod reconcile;
mod recovery;
mod replay;
mod replica;
mod replica_sets;
mod room;
mod settings;
mod singleflight;
mod state_dir;
mod state_root;
mod status;
mod sums;
mod unpushed;
mod watch;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::model::{ArtifactId, Section};

#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use cache::Cache;
use check::Checks;
use clock::Clock;
use contents::Contents;
use disk_cache::DiskCache;
use events::Events;
use failures::Failures;
use fallback::Fallback;
use index::Index;
use index_log::IndexLog;
use journal::Journal;
use keyed_lock::KeyedLock;
use metrics::Metrics;
use reconcile::{Jobs, Reconcile};
use replay::{Backoff, Replay};
use singleflight::SingleFlight;
use sums::Sums;

pub use crate::model::WallClock;
pub use base::BaseVersion;
#[cfg(test)]
pub(crate) use blocking::{simulate_computing, simulate_disk};
pub use check::PushDetails;
pub use entry::{Revision, Source};
pub use error::{ErrorKind, RegistryError};
pub use events::{Event, Level};
#[cfg(test)]
pub(crate) use journal::fail_reads;
pub use journal::{Damaged, Record as Unpushed};
pub use known_stores::{KnownStore, KnownStores};
pub use metrics::Counter;
pub use pull::Pulled;
pub use push::Wait;
pub use reconcile::{NotBegun, Order, UnknownOrder};
pub use replica::{Replica, ReplicaSet, TargetId, TargetState};
pub use replica_sets::ReplicaSets;
pub use room::Room;
pub use settings::{Durability, FallbackOn, Settings, UnknownDurability};
pub use state_dir::{StateDir, StateDirError, log_folder};
pub use state_root::StateRoot;
pub use status::{About, Mount, Open};

/// Locks a mutex, even after a panic while it was held: the panic has cost one EIO where it
/// happened, and the data behind these locks is bookkeeping that every later reply corrects.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The registry with its backups, as one mount sees it.
#[derive(Debug)]
pub struct Registry {
    settings: Arc<Settings>,
    replica_sets: Arc<ReplicaSets>,
    index: Arc<Index>,
    index_log: Arc<IndexLog>,
    contents: Arc<Contents>,
    room: Room,
    fallback: Fallback,
    events: Arc<Events>,
    metrics: Metrics,
    journal: Arc<Journal>,
    failures: Arc<Failures>,
    replay: Arc<Replay>,
    reconcile: Arc<Reconcile>,
    state: StateDir,
    clock: Arc<Clock>,
    /// Serialises the pushes and deletions of an artifact.
    pushes: KeyedLock<ArtifactId>,
    checks: Arc<Checks>,
    applies: Arc<KeyedLock<ArtifactId>>,
    sums: Sums,
    /// Keyed by section, and by whether the listing is pressing.
    lists: SingleFlight<(Section, bool), Result<(), RegistryError>>,
    /// Keyed by whether the listing is pressing.
    roots: SingleFlight<bool, Result<(), RegistryError>>,
    pulls: SingleFlight<(ArtifactId, u64), Result<Pulled, RegistryError>>,
}

impl Registry {
    /// Opens the registry of a mount, with the mount's own files in `state`.
    ///
    /// # Errors
    ///
    /// [`StateDirError`] if the bytes that earlier mounts have kept can't be read.
    pub fn open(
        replica_sets: ReplicaSets,
        settings: Settings,
        state: StateDir,
        wall: WallClock,
    ) -> Result<Arc<Self>, StateDirError> {
        #[cfg(test)]
        let settings = match injected(Bug::FallbackOnNotFound) {
            true => Settings {
                fallback_on: FallbackOn {
                    not_found: true,
                    ..settings.fallback_on
                },
                ..settings
            },
            false => settings,
        };
        let cache_dir = settings.cache_dir.clone();
        let cache_dir = cache_dir.unwrap_or_else(|| state.cache());
        let disk = DiskCache::open(&cache_dir, settings.disk_cache_bytes);
        let room = disk.room(state.dir());
        let journal = open_journal(&state, settings.journal_bytes)?.with_room(room.clone());
        let journal = Arc::new(journal);
        let replica_sets = Arc::new(replica_sets);
        for target in replica_sets.targets() {
            target.target().set_wall(&wall);
        }
        let clock = Arc::new(Clock::new(wall));
        let failures = Arc::new(Failures::open(&state, room.clone(), Arc::clone(&clock)));
        let index = Arc::new(Index::new(settings.ttl));
        let index_log = Arc::new(IndexLog::new(
            state.index(),
            Arc::clone(&index),
            Arc::clone(&replica_sets),
            Arc::clone(&clock),
        ));
        let events = Arc::new(Events::new(Arc::clone(&clock)));
        let (applies, settings) = (Arc::default(), Arc::new(settings));
        let replay = Arc::new(Replay {
            settings: Arc::clone(&settings),
            replica_sets: Arc::clone(&replica_sets),
            index: Arc::clone(&index),
            journal: Arc::clone(&journal),
            failures: Arc::clone(&failures),
            events: Arc::clone(&events),
            clock: Arc::clone(&clock),
            applies: Arc::clone(&applies),
            repos: Mutex::default(),
            backoff: Backoff::default(),
            wake: Arc::default(),
        });
        let contents = Arc::new(Contents {
            memory: Cache::new(settings.cache_bytes),
            disk,
            journal: Arc::clone(&journal),
        });
        let checks = Arc::new(Checks::new(settings.validate));
        let reconcile = Arc::new(Reconcile {
            settings: Arc::clone(&settings),
            replica_sets: Arc::clone(&replica_sets),
            index: Arc::clone(&index),
            contents: Arc::clone(&contents),
            events: Arc::clone(&events),
            clock: Arc::clone(&clock),
            replay: Arc::clone(&replay),
            checks: Arc::clone(&checks),
            jobs: Jobs::default(),
            repaired: Counter::default(),
        });
        let registry = Self {
            index,
            index_log,
            contents,
            room,
            fallback: Fallback::new(settings.hedge, settings.fallback_on),
            events,
            metrics: Metrics::default(),
            pushes: KeyedLock::default(),
            checks,
            applies,
            sums: Sums::default(),
            lists: SingleFlight::default(),
            roots: SingleFlight::default(),
            pulls: SingleFlight::default(),
            settings,
            replica_sets,
            journal,
            failures,
            replay,
            reconcile,
            state,
            clock,
        };
        registry.replay.report_journal();
        if let Some(amiss) = registry.index_log.recall() {
            let event = Event::new(
                Level::Error,
                "catalogue-damaged",
                "the index of earlier mounts is incomplete",
            );
            registry.report(event.with("reason", amiss));
        }
        registry.replay.recover();
        registry.replay.recover_failures();
        registry.index_log.start();
        Ok(Arc::new(registry))
    }

    /// Starts the background tasks. They end with the registry.
    pub fn start(self: &Arc<Self>) {
        self.watch_targets();
        self.reconcile.start();
        // A read-only mount writes to no target: what waits for one waits on.
        if !self.settings.read_only {
            self.replay.start();
        }
    }

    /// Returns the settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the directory of the staged files.
    pub fn staging_dir(&self) -> PathBuf {
        self.state.staging()
    }

    /// Returns the way to make room for staged files.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Reports an event: one line in the log, and one in `.atlasfs/events`.
    pub fn report(&self, event: Event) {
        self.events.report(event);
    }

    /// Begins a job in the background; [`Registry::job`] tells how far it has come.
    ///
    /// # Errors
    ///
    /// [`NotBegun`].
    pub fn begin_job(&self, order: Order) -> Result<(), NotBegun> {
        self.reconcile.begin(order)
    }

    /// Gives up the pushes and deletions that wait for a store that is no target of this mount;
    /// returns how many there were.
    pub fn forget(&self, store: &str) -> usize {
        self.replay.forget(store)
    }

    /// Stops the job that is under way, if there is one. Its repairs so far remain.
    pub fn stop_job(&self) {
        self.reconcile.stop();
    }

    /// Returns the newest requested job as JSON; `{}` if there is none.
    pub fn job(&self) -> Value {
        self.reconcile.progress()
    }

    /// Waits until all queued writes are on disk.
    #[cfg(test)]
    pub(crate) async fn settle(&self) {
        self.contents.disk.settle().await;
        let index_log = Arc::clone(&self.index_log);
        tokio::task::spawn_blocking(move || index_log.write())
            .await
            .unwrap();
    }

    /// Stalls every check of a document for as long as the permit is held.
    #[cfg(test)]
    pub(crate) fn stall_checks(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.checks.stall()
    }

    /// Returns the files of the journal that a power cut would leave.
    #[cfg(test)]
    pub(crate) fn journal_after_power_cut(&self) -> std::collections::BTreeMap<String, Vec<u8>> {
        self.journal.after_power_cut()
    }

    /// Returns the replica set of a section: the configured one, that of the registry which lists
    /// its repository, or the first one for a new repository.
    fn replicas(&self, section: &Section) -> Result<&ReplicaSet, RegistryError> {
        index_log::replicas_of(&self.replica_sets, &self.index, section)
            .ok_or_else(|| RegistryError::new(ErrorKind::NotFound, "the mount has no registry"))
    }
}

fn open_journal(state: &StateDir, capacity: u64) -> Result<Journal, StateDirError> {
    let dir = state.journal();
    if let Some(reason) = state.refusal() {
        return Ok(Journal::closed(dir, reason.to_owned()));
    }
    let path = dir.display().to_string();
    let opened = Journal::open(dir, capacity);
    let opened = opened.map_err(|source| StateDirError::Io { path, source });
    Ok(opened?.0)
}
