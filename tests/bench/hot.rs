//! The hot paths below FUSE, to locate a slowdown that scripts/bench shows.
//!
//! `cargo bench --bench hot` runs all, `cargo bench --bench hot -- pull` those with this text in
//! their name. The setup is that of a mount, but without the kernel, and with stores in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that can't go on stops with the reason"
)]

#[path = "memory.rs"]
mod memory;

use std::ffi::OsStr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use atlasfs::fs::{CreateAttrs, Fs, OpenMode, ROOT};
use atlasfs::model::{
    ArtifactId, Format, Item, PlanName, RepoName, Section, Sha256, Stamp, check_schema,
};
use atlasfs::registry::{
    self, Registry, Replica, ReplicaSet, ReplicaSets, StateDir, TargetId, WallClock,
};
use atlasfs::store::{Backend, Role, Target};
use divan::{Bencher, black_box};
use tokio::runtime::Runtime;

use memory::Memory;

fn main() {
    divan::main();
}

/// Any process id except 0: requests of threads in other pid namespaces have the id 0.
const PID: u32 = 4711;

/// A file system with a registry and two backups in memory.
struct Fixture {
    runtime: Runtime,
    registry: Arc<Registry>,
    fs: Arc<Fs>,
    state: tempfile::TempDir,
}

impl Fixture {
    /// Makes a fixture with so many plans in the repository `app`, and its schema.
    fn new(plans: usize) -> Self {
        let runtime = Runtime::new().unwrap();
        let inside = runtime.enter();
        let stores = [Memory::default(), Memory::default(), Memory::default()];
        for store in &stores {
            store.fill("app/schema", &schema("bench"));
            for number in 0..plans {
                store.fill(&format!("app/plans/{}", plan_name(number)), b"plan");
            }
        }
        let roles = [Role::Registry, Role::Backup(0), Role::Backup(1)];
        let targets = stores.into_iter().zip(roles).enumerate();
        let targets = targets.map(|(place, (store, role))| {
            let driver: Arc<dyn Backend> = Arc::new(store);
            let target = Target::new(role, &format!("memory://{place}"), driver);
            Arc::new(Replica::new(TargetId(place), target))
        });
        let mut targets = targets.collect::<Vec<_>>().into_iter();
        let route = ReplicaSet {
            registry: targets.next().unwrap(),
            backups: targets.collect(),
        };
        // A folder in memory, so only the calls are measured, and no disk.
        let state = tempfile::tempdir_in("/dev/shm").unwrap();
        let settings = registry::Settings {
            // A long `ttl` keeps listings out of the measurement, except where they are measured.
            ttl: Duration::from_secs(3600),
            ..registry::Settings::default()
        };
        let registry = Registry::open(
            ReplicaSets::new(Vec::new(), Some(route)),
            settings,
            StateDir::open(state.path(), "the benchmark").unwrap(),
            WallClock::default(),
        );
        let registry = registry.unwrap();
        let mount = registry::Mount {
            dir: "/bench".into(),
            started: SystemTime::now(),
            read_only: false,
            read_only_reason: None,
        };
        let settings = atlasfs::fs::FsSettings {
            read_only: false,
            allow_delete: false,
            max_writers: 512,
            temporary_bytes: 1 << 20,
            staged_bytes: 1 << 30,
            author: atlasfs::fs::AuthorSetting::User,
        };
        let fs = Fs::new(Arc::clone(&registry), settings, mount);
        drop(inside);
        Self {
            runtime,
            registry,
            fs,
            state,
        }
    }

    /// Looks up `app/NAME`, as the kernel does.
    fn find(&self, name: &str) -> (u64, u64) {
        self.runtime.block_on(async {
            let app = self
                .fs
                .clone()
                .lookup(ROOT, OsStr::new("app"), PID)
                .await
                .unwrap();
            let app = app.attr.ino;
            let found = self
                .fs
                .clone()
                .lookup(app, OsStr::new(name), PID)
                .await
                .unwrap();
            (app, found.attr.ino)
        })
    }

    /// Polls once, as the session's thread does, and expects the result at once.
    fn at_once<T>(&self, future: impl Future<Output = T>) -> T {
        let _inside = self.runtime.enter();
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic_pending(),
        }
    }
}

fn panic_pending() -> ! {
    // An answer from memory never waits. If it did, the figure would have no meaning.
    std::process::abort()
}

fn id(plan: Option<usize>) -> ArtifactId {
    let item = match plan {
        None => Item::Schema,
        Some(number) => Item::Plan(PlanName::parse(&plan_name(number)).unwrap()),
    };
    ArtifactId {
        repo: RepoName::parse("app").unwrap(),
        item,
    }
}

fn plan_name(number: usize) -> String {
    format!("2024091017{number:04}")
}

/// Makes a schema state of 4 KiB.
fn schema(mark: &str) -> Vec<u8> {
    let mut text = format!("schema \"main\" {{\n  comment = \"{mark}\"\n}}\n");
    while text.len() < 4086 {
        text.push_str("# padding\n");
    }
    text.into_bytes()
}

/// One name among few and among many. The cost must not depend on their number.
#[divan::bench(args = [10, 1_000, 10_000])]
fn lookup(bencher: Bencher, plans: usize) {
    let world = Fixture::new(plans);
    let (app, _) = world.find("schema");
    bencher.bench_local(|| {
        let found = world
            .at_once(world.fs.clone().lookup(app, OsStr::new("schema"), PID))
            .unwrap();
        world.fs.forget(black_box(found).attr.ino, 1);
    });
}

#[divan::bench(args = [10, 10_000])]
fn getattr(bencher: Bencher, plans: usize) {
    let world = Fixture::new(plans);
    let (_, schema) = world.find("schema");
    bencher.bench_local(|| {
        world
            .at_once(world.fs.clone().getattr(schema, None, 0))
            .unwrap()
    });
}

#[divan::bench(args = [10, 10_000])]
fn open_read_release(bencher: Bencher, plans: usize) {
    let world = Fixture::new(plans);
    let (_, schema) = world.find("schema");
    let how = OpenMode {
        read: true,
        ..OpenMode::default()
    };
    // The first open pulls.
    let first = world
        .runtime
        .block_on(world.fs.clone().open(schema, how, PID));
    world
        .runtime
        .block_on(world.fs.clone().release(first.unwrap().fh))
        .unwrap();
    bencher.bench_local(|| {
        let opened = world
            .at_once(world.fs.clone().open(schema, how, PID))
            .unwrap();
        let read = world
            .at_once(world.fs.clone().read(opened.fh, 0, 4096))
            .unwrap();
        black_box(read);
        world.at_once(world.fs.clone().release(opened.fh)).unwrap();
    });
}

/// The number of entries that fit in a reply to READDIRPLUS of 32 KiB, which glibc reads at once.
const ROOM: usize = 190;

/// A whole directory by READDIRPLUS. The cost must be linear.
#[divan::bench(args = [100, 1_000, 10_000])]
fn readdirplus(bencher: Bencher, plans: usize) {
    let world = Fixture::new(plans);
    let (_, folder) = world.find("plans");
    bencher
        .counter(divan::counter::ItemsCount::new(plans))
        .bench_local(|| {
            let fh = world.at_once(world.fs.clone().opendir(folder, 0)).unwrap();
            let (mut offset, mut seen) = (0, 0);
            loop {
                let listing = world
                    .runtime
                    .block_on(world.fs.clone().readdir(fh, offset))
                    .unwrap();
                let (from, mut taken) = (offset, Vec::with_capacity(ROOM));
                world.fs.for_each_entry(&listing, from, true, |listed| {
                    let has_room = taken.len() < ROOM;
                    if has_room {
                        offset = listed.offset;
                        taken.push(listed.entry);
                    }
                    has_room
                });
                if taken.is_empty() {
                    break;
                }
                seen += taken.len();
                for entry in taken.into_iter().flatten() {
                    world.fs.forget(entry.attr.ino, 1);
                }
            }
            world.fs.releasedir(fh);
            assert_eq!(seen, plans + 2);
        });
}

/// Write and close, with three targets and a journal, all in memory.
#[divan::bench(args = [10, 10_000])]
fn push(bencher: Bencher, plans: usize) {
    let world = Fixture::new(plans);
    let number = AtomicU64::new(0);
    let (app, _) = world.find("schema");
    let how = OpenMode {
        write: true,
        truncate: true,
        ..OpenMode::default()
    };
    bencher
        .with_inputs(|| schema(&number.fetch_add(1, Ordering::Relaxed).to_string()))
        .bench_local_values(|content| {
            world.runtime.block_on(async {
                let (fs, name) = (&world.fs, OsStr::new("schema"));
                let making = CreateAttrs {
                    pid: PID,
                    ..CreateAttrs::default()
                };
                let (entry, opened) = fs.clone().create(app, name, how, making).await.unwrap();
                fs.write(opened.fh, 0, &content, 0).unwrap();
                fs.clone().flush(opened.fh, 0).await.unwrap();
                fs.clone().release(opened.fh).await.unwrap();
                fs.forget(entry.attr.ino, 1);
            });
        });
    assert!(world.state.path().is_dir());
}

/// The registry's part of an open.
#[divan::bench]
fn pull_from_the_cache(bencher: Bencher) {
    let world = Fixture::new(10);
    let id = id(None);
    world.runtime.block_on(world.registry.pull(&id)).unwrap();
    bencher.bench_local(|| world.at_once(world.registry.pull(&id)).unwrap());
}

/// A LIST of all targets once per `--ttl`.
#[divan::bench(args = [100, 10_000])]
fn list_what_is_fresh(bencher: Bencher, plans: usize) {
    let world = Fixture::new(plans);
    let app = Section::current(&RepoName::parse("app").unwrap());
    world.runtime.block_on(world.registry.list(&app)).unwrap();
    bencher.bench_local(|| world.at_once(world.registry.list(&app)).unwrap());
}

#[divan::bench(args = [4 << 10, 1 << 20])]
fn hash(bencher: Bencher, bytes: usize) {
    let content = vec![b'#'; bytes];
    bencher
        .counter(divan::counter::BytesCount::new(bytes))
        .bench_local(|| Sha256::of(black_box(&content)));
}

#[divan::bench]
fn stamp_matches(bencher: Bencher) {
    let content = schema("bench");
    let stamp = Stamp::new(1, &content, Format::Hcl);
    bencher.bench_local(|| stamp.matches(black_box(&content)));
}

#[divan::bench]
fn check_a_schema(bencher: Bencher) {
    let content = schema("bench");
    bencher.bench_local(|| check_schema(black_box(&content), Some(Format::Hcl), None).is_ok());
}
