//! Push and pull: the three promises live here.
//!
//! [`Registry`] is what the file system sees: a repository's artifacts, wherever they lie.
//! A push goes through `tee` to the targets of its [`Route`]; a pull goes through the
//! `catalogue` (what is known, how fresh) and the `cache` to the first target that can answer.

#[cfg(test)]
mod arbitrary_tests;
mod at_hand;
mod breaker;
mod cache;
mod catalogue;
mod catalogue_file;
mod check;
mod claim;
mod conditions;
mod delete;
mod disk;
mod disk_cache;
mod disk_files;
mod error;
mod events;
mod failures;
mod flight;
mod gift;
mod hedge;
mod journal;
mod list;
mod metrics;
mod private;
mod pull;
mod push;
mod recall;
mod receipt;
mod record;
mod redo;
mod repair;
mod room;
mod route;
mod settings;
mod state_dir;
mod status;
mod tee;
mod turn;
mod unpushed;
mod unwritten;
mod verdict;
mod watch;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Semaphore;

use crate::artifact::{ArtifactId, RepoName, StampClock, nanos};

#[cfg(test)]
use crate::planted::{Bug, planted};
use cache::Cache;
use catalogue::Catalogue;
use disk_cache::DiskCache;
use events::Events;
use failures::Failures;
use flight::Flights;
use journal::Journal;
use metrics::Metrics;
use recall::Recall;
use turn::Turns;

#[cfg(test)]
pub(crate) use disk::{simulate_computing, simulate_disk};
pub use error::{Error, ErrorKind};
pub use events::{Event, Level};
#[cfg(test)]
pub(crate) use journal::fail_reads;
pub use journal::{Damaged, Record as Unpushed};
pub use metrics::Counter;
pub use pull::Pulled;
pub use push::{Base, Wait};
pub use record::{Known, Source};
pub use repair::{NotBegun, Order, UnknownOrder};
pub use room::Room;
pub use route::{Route, Routes, State, TargetId, Watched};
pub use settings::{Durability, FallbackOn, Settings, UnknownDurability};
pub use state_dir::{StateDir, StateDirError, folder_of};
pub use status::{About, Mount, Open};

/// Locks a mutex. A panic while it was held is answered with one EIO where it happened; the data
/// behind these locks is bookkeeping that every next reply corrects, so it is used as it is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The machine's wall clock, as a value: stamps come from it, and tests turn it.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl WallClock {
    /// Wraps a source of time.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the time.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("WallClock")
    }
}

/// The registry with its backups, as one mount sees it.
#[derive(Debug)]
pub struct Registry {
    settings: Settings,
    routes: Arc<Routes>,
    catalogue: Arc<Catalogue>,
    recall: Arc<Recall>,
    cache: Cache,
    disk: DiskCache,
    room: Room,
    events: Events,
    metrics: Metrics,
    journal: Arc<Journal>,
    failures: Arc<Failures>,
    redo: redo::Redo,
    repair: repair::Repair,
    state: StateDir,
    stamps: StampClock,
    wall: WallClock,
    turns: Turns<ArtifactId>,
    /// The checks of documents that may run now.
    checks: Arc<Semaphore>,
    /// Who gives targets what they are owed: the background, or nobody while a deletion goes on.
    gifts: Turns<ArtifactId>,
    /// By repository, and whether the listing is pressing.
    lists: Flights<(RepoName, bool), Result<(), Error>>,
    /// By whether the listing is pressing.
    roots: Flights<bool, Result<(), Error>>,
    pulls: Flights<(ArtifactId, u64), Result<Pulled, Error>>,
}

impl Registry {
    /// Opens the registry of a mount, whose own files lie in `state`.
    ///
    /// # Errors
    ///
    /// [`StateDirError`] if the bytes that earlier mounts have kept can't be read.
    pub fn open(
        routes: Routes,
        settings: Settings,
        state: StateDir,
        wall: WallClock,
    ) -> Result<Arc<Self>, StateDirError> {
        #[cfg(test)]
        let settings = match planted(Bug::FallbackOnNotFound) {
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
        let failures = Failures::open(&state, room.clone());
        let routes = Arc::new(routes);
        let catalogue = Arc::new(Catalogue::new(settings.ttl));
        let recall = Arc::new(Recall::new(
            state.catalogue(),
            Arc::clone(&catalogue),
            Arc::clone(&routes),
            wall.clone(),
        ));
        let registry = Self {
            catalogue,
            recall,
            cache: Cache::new(settings.cache_bytes),
            disk,
            room,
            events: Events::default(),
            metrics: Metrics::default(),
            stamps: StampClock::default(),
            turns: Turns::default(),
            checks: Arc::new(Semaphore::new(check::AT_ONCE)),
            gifts: Turns::default(),
            lists: Flights::default(),
            roots: Flights::default(),
            pulls: Flights::default(),
            settings,
            routes,
            journal: Arc::new(journal),
            failures: Arc::new(failures),
            redo: redo::Redo::default(),
            repair: repair::Repair::default(),
            state,
            wall,
        };
        registry.tell_of_journal();
        if let Some(amiss) = registry.recall.recall(&registry.stamps) {
            let event = Event::new(
                Level::Error,
                "catalogue-damaged",
                "what the mount knew before is not all there",
            );
            registry.tell(event.with("reason", amiss));
        }
        registry.take_up();
        registry.recall_failures();
        registry.recall.start();
        Ok(Arc::new(registry))
    }

    /// Returns the settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns where staging files lie.
    pub fn staging_dir(&self) -> PathBuf {
        self.state.staging()
    }

    /// Returns what makes room where staging files lie.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Tells an event: one line in the log, and one in `.atlasfs/events`.
    pub fn tell(&self, event: Event) {
        self.events.tell(nanos(self.wall.now()), event);
    }

    /// Waits until everything is on disk that is on its way there.
    #[cfg(test)]
    pub(crate) async fn settle(&self) {
        self.disk.settle().await;
        let recall = Arc::clone(&self.recall);
        tokio::task::spawn_blocking(move || recall.write())
            .await
            .unwrap();
    }

    /// Returns what a power cut would leave of the journal.
    #[cfg(test)]
    pub(crate) fn journal_after_power_cut(&self) -> std::collections::BTreeMap<String, Vec<u8>> {
        self.journal.after_power_cut()
    }

    /// Returns the route of a repository: the configuration's, that of the registry which lists
    /// it, or the first for one that is to come.
    fn route(&self, repo: &RepoName) -> Result<&Route, Error> {
        recall::route_of(&self.routes, &self.catalogue, repo)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "the mount has no registry"))
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
