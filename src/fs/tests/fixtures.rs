//! Mounts for tests: their stores, settings and first contents.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::fs::{AuthorSetting, Fs, FsSettings};
use crate::model::{ArtifactId, Item, RepoName, nanos};
use crate::registry::{
    self, Registry, Replica, ReplicaSet, ReplicaSets, Settings, StateDir, TargetId, WallClock,
};
use crate::store::{Backend, Fault, Memory, Role, StampKeys, Target, Tombstone};

/// A file system on a registry and two backups in memory, without a mount.
pub(super) struct Fixture {
    pub(super) fs: Arc<Fs>,
    pub(super) registry: Memory,
    pub(super) backups: [Memory; 2],
    pub(super) state_dir: Arc<tempfile::TempDir>,
    pub(super) next_pid: AtomicU32,
}

/// The options of a test's mount.
#[derive(Default)]
pub(super) struct Choice {
    pub(super) registry: Settings,
    pub(super) allow_delete: bool,
    pub(super) read_only: bool,
    pub(super) named: Vec<&'static str>,
    pub(super) stores: Option<[Memory; 3]>,
    /// Stores of another kind, which replace the targets in memory.
    pub(super) drivers: Option<Vec<Arc<dyn Backend>>>,
    pub(super) wall: WallClock,
    pub(super) max_writers: Option<usize>,
    pub(super) temporary_bytes: Option<u64>,
    pub(super) staged_bytes: Option<u64>,
    /// Whether the background work runs.
    pub(super) replay: bool,
    pub(super) state_dir: Option<Arc<tempfile::TempDir>>,
    /// Whether the mount has yet to find out that the registry honours conditions.
    pub(super) untried: bool,
    /// The keys that sign stamps.
    pub(super) stamp_keys: Option<Arc<StampKeys>>,
    pub(super) author: AuthorSetting,
    /// The one backup of the migration directory of `app`, in place of the two others.
    pub(super) migrations: Option<Memory>,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(Choice::default())
    }

    pub(super) fn with(choice: Choice) -> Self {
        let stores = choice.stores.unwrap_or_default();
        let drivers = choice.drivers.unwrap_or_else(|| {
            let stores = stores.clone().into_iter();
            let drivers = stores.map(|store| -> Arc<dyn Backend> { Arc::new(store) });
            drivers.collect()
        });
        let watched: Vec<Arc<Replica>> = drivers
            .into_iter()
            .enumerate()
            .map(|(place, driver)| {
                let (role, url) = match place {
                    0 => (Role::Registry, "mem://registry".to_owned()),
                    n => (Role::Backup(n - 1), format!("mem://backup-{n}")),
                };
                let mut target = Target::new(role, &url, driver);
                if let Some(keys) = &choice.stamp_keys {
                    target.set_stamp_keys(Arc::clone(keys));
                }
                let watched = Replica::new(TargetId(place), target);
                if !choice.untried {
                    watched.presume_conditions(true);
                }
                Arc::new(watched)
            })
            .collect();
        let replica_set = ReplicaSet {
            registry: Arc::clone(&watched[0]),
            backups: watched[1..].to_vec(),
        };
        let named = choice.named.iter();
        let named = named.map(|name| (RepoName::parse(name).unwrap(), replica_set.clone()));
        let replica_sets = ReplicaSets::new(named.collect(), Some(replica_set.clone()));
        let migrations = choice.migrations.map(|store| {
            let target = Target::new(Role::Backup(0), "mem://migrations", Arc::new(store));
            let watched = Replica::new(TargetId(watched.len()), target);
            watched.presume_conditions(true);
            let replica_set = ReplicaSet {
                registry: Arc::clone(&replica_set.registry),
                backups: vec![Arc::new(watched)],
            };
            (RepoName::parse("app").unwrap(), replica_set)
        });
        let replica_sets = replica_sets.with_migrations(migrations.into_iter().collect());
        let state_dir = choice
            .state_dir
            .unwrap_or_else(|| Arc::new(tempfile::tempdir().unwrap()));
        let state = StateDir::open(state_dir.path(), "a test").unwrap();
        let registry = Registry::open(replica_sets, choice.registry, state, choice.wall);
        let settings = FsSettings {
            read_only: choice.read_only,
            allow_delete: choice.allow_delete,
            max_writers: choice.max_writers.unwrap_or(100),
            temporary_bytes: choice.temporary_bytes.unwrap_or(1 << 20),
            staged_bytes: choice.staged_bytes.unwrap_or(1 << 30),
            author: choice.author,
        };
        let mount = registry::Mount {
            dir: "/mnt".into(),
            started: SystemTime::now(),
            read_only: choice.read_only,
            read_only_reason: None,
        };
        let registry = registry.unwrap();
        if choice.replay {
            registry.start();
        }
        let [registry_store, first, second] = stores;
        Self {
            fs: Fs::new(registry, settings, mount),
            registry: registry_store,
            backups: [first, second],
            state_dir,
            // Higher than any pid of a real machine, so that it never matches a real thread.
            next_pid: AtomicU32::new(1 << 30),
        }
    }

    /// Mounts the same stores once more, as another machine would.
    pub(super) fn another(&self) -> Self {
        let [first, second] = self.backups.clone();
        Self::with(Choice {
            stores: Some([self.registry.clone(), first, second]),
            ..Choice::default()
        })
    }

    /// Ends this mount, as `kill -9` would, and mounts again with the same state directory.
    pub(super) fn restart(self, choice: Choice) -> Self {
        let [first, second] = self.backups.clone();
        let stores = Some([self.registry.clone(), first, second]);
        let state_dir = Some(Arc::clone(&self.state_dir));
        drop(self);
        Self::with(Choice {
            stores,
            state_dir,
            ..choice
        })
    }

    /// Waits for the background writes.
    pub(super) async fn settle(&self) {
        self.fs.registry.settle().await;
    }

    pub(super) fn all(&self) -> [&Memory; 3] {
        [&self.registry, &self.backups[0], &self.backups[1]]
    }
}

/// Makes a plan.
pub fn plan(name: &str) -> Vec<u8> {
    format!("plan \"{name}\" {{\n  from = \"a=\"\n  to = \"b=\"\n  migration = \"SELECT 1\"\n}}\n")
        .into_bytes()
}

/// Makes a mount with a schema.
pub async fn fixture_with(content: &[u8]) -> Fixture {
    let fixture = Fixture::new();
    fixture.mkdir("app").await.unwrap();
    fixture.cp("app/schema.hcl", content).await.unwrap();
    fixture
}

/// Makes a mount of one repository, with these settings.
pub fn with(settings: Settings) -> Fixture {
    Fixture::with(Choice {
        registry: settings,
        named: vec!["app"],
        ..Choice::default()
    })
}

/// Returns the options for a mount of one repository.
pub fn choice() -> Choice {
    Choice {
        named: vec!["app"],
        ..Choice::default()
    }
}

/// Returns the options for a mount of one repository that replays in the background.
pub fn replaying() -> Choice {
    Choice {
        replay: true,
        ..choice()
    }
}

/// Returns the bytes of the failed pushes, oldest first.
pub async fn unpushed(fixture: &Fixture) -> Vec<Vec<u8>> {
    let mut kept = Vec::new();
    for push in fixture.fs.registry.unpushed() {
        let path = format!(".atlasfs/unpushed/{}", push.path());
        kept.push(fixture.cat(&path).await.unwrap());
    }
    kept
}

/// Returns the options for a mount of one repository, with these settings.
pub fn choice_of(settings: Settings) -> Choice {
    Choice {
        registry: settings,
        ..choice()
    }
}

/// Makes stores whose listings carry no stamps.
pub fn unstamped_lists() -> Option<[Memory; 3]> {
    Some(std::array::from_fn(|_| Memory::without_listed_stamps()))
}

/// Makes a mount with a schema and these options.
pub async fn fixture_of(choice: Choice, content: &[u8]) -> Fixture {
    let fixture = Fixture::with(choice);
    fixture.cp("app/schema", content).await.unwrap();
    fixture
}

/// Sets a fault of every target.
pub fn set_all(fixture: &Fixture, fault: impl Into<Option<Fault>> + Copy) {
    fixture
        .all()
        .iter()
        .for_each(|store| store.set_fault(fault));
}

/// Tells whether a request writes or deletes anything but a version.
pub(super) fn is_write(request: &str) -> bool {
    let reads = ["GET", "HEAD", "LIST", "PROBE"];
    !reads.iter().any(|verb| request.starts_with(verb)) && !request.contains("/versions/")
}

/// Makes another mount delete an artifact from a store: it leaves a tombstone.
pub(super) async fn delete_from(store: &Memory, key: &str) {
    let (repo, item) = key.split_once('/').unwrap();
    let id = ArtifactId {
        repo: RepoName::parse(repo).unwrap(),
        item: Item::from_key(item).unwrap(),
    };
    let tombstone = Tombstone {
        item: id.item.clone(),
        when: nanos(SystemTime::now()),
        deletes: None,
    };
    let target = Target::new(Role::Registry, "mem://", Arc::new(store.clone()));
    let end = Instant::now() + Duration::from_secs(1);
    target.put_tombstone(&id, &tombstone, end).await.unwrap();
    store.remove(key);
}
