//! A mount of one registry of the pool, as a machine's configuration and state directory make it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::schedule::{Wiring, wiring};
use super::store::Link;
use super::truth::{KEY, Sim};
use crate::fs::tests::kernel::Fixture;
use crate::fs::{AuthorSetting, Error, Fs, FsSettings};
use crate::model::{RepoName, Sha256};
use crate::registry::{
    self, Registry, Replica, ReplicaSet, ReplicaSets, Settings, StateRoot, TargetId, WallClock,
};
use crate::store::{Basis, Kind, KnownId, Members, Membership, Role, StoreRole, Target};

/// A mount for as long as its process lives.
pub(super) struct Mount {
    fixture: Fixture,
    sim: Arc<Sim>,
    pub(super) cut: Arc<AtomicBool>,
    /// The mount's knowledge of its registry.
    id: Arc<KnownId>,
    pub(super) stores: [usize; 3],
}

impl Mount {
    /// Starts a mount; `None` if the configuration is refused.
    pub(super) async fn start(
        sim: &Arc<Sim>,
        wiring: Wiring,
        repair: Duration,
        dir: &Arc<tempfile::TempDir>,
    ) -> Option<Arc<Self>> {
        let cut = Arc::new(AtomicBool::new(false));
        let root = StateRoot::open(dir.path()).unwrap();
        let ids = wiring.map(|(name, _)| Arc::new(known_id(&root, name)));
        let members = Arc::new(Members::default());
        let replicas: Vec<Arc<Replica>> = (0..3)
            .map(|slot| {
                let (name, place) = wiring[slot];
                let role = match slot {
                    0 => Role::Registry,
                    n => Role::Backup(n - 1),
                };
                let (sim, cut) = (Arc::clone(sim), Arc::clone(&cut));
                let link = Arc::new(Link { sim, place, cut });
                let mut target = Target::new(role, &format!("mem://{name}"), link);
                let (own, members) = (Arc::clone(&ids[slot]), Arc::clone(&members));
                let registries = vec![Arc::clone(&ids[0])];
                target.set_membership(Membership::new(role, false, own, registries, members));
                let replica = Replica::new(TargetId(slot), target);
                replica.presume_conditions(true);
                Arc::new(replica)
            })
            .collect();
        if !identify(&replicas, &ids[0]).await {
            return None;
        }
        let state = root.of_registry(&ids[0].id(), "a test").unwrap();
        let replica_set = ReplicaSet {
            registry: Arc::clone(&replicas[0]),
            backups: replicas[1..].to_vec(),
        };
        let repo = RepoName::parse("app").unwrap();
        let replica_sets = ReplicaSets::new(vec![(repo, replica_set.clone())], Some(replica_set));
        root.take_over(&state, &replica_sets);
        let clock = Arc::clone(sim);
        let wall = WallClock::new(move || clock.lock().now());
        let settings = Settings {
            repair,
            ..Settings::default()
        };
        let registry = Registry::open(replica_sets, settings, state, wall).unwrap();
        registry.start();
        let settings = FsSettings {
            read_only: false,
            allow_delete: true,
            max_writers: 100,
            temporary_bytes: 1 << 20,
            staged_bytes: 1 << 30,
            author: AuthorSetting::None,
        };
        let mount = registry::Mount {
            dir: "/mnt".into(),
            started: SystemTime::now(),
            read_only: false,
            read_only_reason: None,
        };
        let fixture = Fixture {
            fs: Fs::new(registry, settings, mount),
            registry: Default::default(),
            backups: Default::default(),
            state_dir: Arc::clone(dir),
            next_pid: AtomicU32::new(1 << 30),
        };
        Some(Arc::new(Self {
            fixture,
            sim: Arc::clone(sim),
            cut,
            id: Arc::clone(&ids[0]),
            stores: wiring.map(|(_, place)| place),
        }))
    }

    /// Returns the registry that this mount takes itself to be of.
    pub(super) fn registry(&self) -> Option<usize> {
        self.sim.lock().registry_of(|id| self.id.is(id))
    }

    pub(super) async fn save(&self, machine: usize) {
        let registry = self.registry();
        let is_partial = !self.is_right();
        let content = self.sim.lock().fresh(registry, Some(machine), is_partial);
        let saved = self.fixture.cp(KEY, &content).await;
        let mut truth = self.sim.lock();
        truth.log(|| format!("  saved {content:?} of {registry:?}: {saved:?}"));
        if saved.is_ok() {
            truth.acknowledged(&content);
        }
    }

    pub(super) async fn cat(&self) {
        let read = self.fixture.cat(KEY).await.map(Bytes::from);
        let registry = self.registry();
        self.sim.lock().read(registry, self.stores, &read);
    }

    pub(super) async fn remove(&self) {
        let registry = self.registry();
        self.sim.lock().removes(registry);
        let removed: Result<(), Error> = self.fixture.rm(KEY).await;
        self.sim.lock().log(|| format!("  removed: {removed:?}"));
    }

    /// Tells whether the mount has every store of its registry, and no other.
    fn is_right(&self) -> bool {
        let right = |registry: usize| wiring(registry).map(|(_, place)| place);
        self.registry().map(right) == Some(self.stores)
    }

    /// Gives the stores their lost identities, if the configuration is the right one, and fills them.
    pub(super) fn refill(&self) {
        if self.is_right()
            && let Some(registry) = self.registry()
        {
            self.sim.lock().is_refilled[registry] = true;
            let order = "sync refill".parse().unwrap();
            let _ = self.fixture.fs.registry.begin_job(order);
        }
    }

    /// Returns the hashes of the failed pushes that the mount keeps.
    pub(super) fn kept(&self) -> Vec<Sha256> {
        let kept = self.fixture.fs.registry.unpushed().into_iter();
        kept.map(|kept| kept.stamp.sha256).collect()
    }
}

/// Returns what a machine knows of the store at a place, and keeps what the mount learns of it.
fn known_id(root: &StateRoot, name: usize) -> KnownId {
    let (stores, location) = (root.stores(), format!("mem:{name}"));
    let known = stores.find(&location).unwrap();
    if !known.is_known {
        stores.keep(&location, &known.record).unwrap();
    }
    KnownId::new(known.record, move |record| {
        // The directory is gone with its machine.
        let _ = stores.keep(&location, &record);
    })
}

/// Asks each target which store it is, as a mount does at its start; returns whether the
/// configuration is accepted.
async fn identify(replicas: &[Arc<Replica>], id: &KnownId) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    let asked = replicas.iter().map(|replica| replica.read_identity(end));
    let heard = futures::future::join_all(asked).await;
    let has_failed = heard[0].is_err();
    let heard: Vec<_> = heard.into_iter().map(|said| said.ok().flatten()).collect();
    let by_registry = heard[0].as_ref();
    if let Some(said) = by_registry.filter(|said| said.role != StoreRole::Backup) {
        if id.basis() == Basis::Known && id.id() != said.id {
            id.set(said.id.clone(), Basis::Known);
        }
    } else if id.basis() == Basis::Provisional {
        let mut told = heard[1..].iter().flatten();
        let told = told.find_map(|said| match (said.role, &*said.registries) {
            (StoreRole::Backup, [only]) => Some(only.clone()),
            _ => None,
        });
        if let Some(told) = told {
            id.set(told, Basis::Told);
        }
    }
    if !has_failed {
        let checked = replicas[0].ask(|target| target.check_identity(end)).await;
        let is_wrong = checked.is_err_and(|failure| failure.kind == Kind::WrongStore);
        if is_wrong && (id.basis() == Basis::Told || heard[0].is_some()) {
            return false;
        }
    }
    for (backup, heard) in replicas.iter().zip(&heard).skip(1) {
        if heard.is_some() {
            let _ = backup.ask(|target| target.check_identity(end)).await;
        }
    }
    true
}

/// Copies a state directory: the old process may still write to its own.
pub(super) fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().unwrap().is_dir() {
            true => {
                std::fs::create_dir(&to).unwrap();
                copy(&from, &to);
            }
            // A file may vanish meanwhile.
            false => drop(std::fs::copy(&from, &to)),
        }
    }
}
