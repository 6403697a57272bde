//! Targets that are out: they cost nobody more than they must, and are taken back.

use std::time::Duration;

use tokio::time::Instant;

use super::kernel::{Choice, World};
use super::{V1, V2};
use crate::fs::Error;
use crate::registry::Settings;
use crate::store::{Fault, Kind, Memory};

/// The longest pause between two probes, jitter included.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(45);

/// A mount as it is in real life, background work included, that has nothing in its cache.
pub(super) async fn world(settings: Settings) -> World {
    let world = World::with(Choice {
        registry: Settings {
            cache_bytes: 0,
            ..settings
        },
        named: vec!["app"],
        redo: true,
        ..Choice::default()
    });
    world.cp("app/schema", V1).await.unwrap();
    world.wait().await;
    forget_requests(&world);
    world
}

pub(super) fn forget_requests(world: &World) {
    world.all().iter().for_each(|store| drop(store.requests()));
}

/// The requests so far that were made for a user.
pub(super) fn asked(store: &Memory) -> Vec<String> {
    let requests = store.requests().into_iter();
    requests.filter(|request| request != "PROBE").collect()
}

impl World {
    pub(super) async fn breaker(&self, target: usize) -> String {
        let status = self.json(".atlasfs/status").await;
        status["targets"][target]["breaker"]
            .as_str()
            .unwrap()
            .into()
    }

    /// Lists until the registry's breaker is open. Each listing is one outage; that of a registry
    /// which hangs is hedged, and has it probed.
    async fn open_breaker(&self) {
        for _ in 0..3 {
            self.wait().await;
            let _ = self.ls("app").await;
        }
        if self.breaker(0).await == "closed" {
            tokio::time::sleep(Duration::from_secs(6)).await;
        }
        assert_eq!(self.breaker(0).await, "open");
    }

    pub(super) async fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        let events = String::from_utf8(self.cat(".atlasfs/events").await.unwrap()).unwrap();
        let events = events
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        events
            .filter(|event: &serde_json::Value| event["event"] == kind)
            .collect()
    }

    pub(super) async fn metric(&self, line: &str) -> bool {
        let metrics = String::from_utf8(self.cat(".atlasfs/metrics").await.unwrap()).unwrap();
        metrics.lines().any(|there| there == line)
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_is_skipped_after_some_outages_in_a_row() {
    let world = world(Settings::default()).await;
    world.registry.set_fault(Fault::Fail(Kind::Busy));
    for outages in 1..=3 {
        assert_eq!(world.breaker(0).await, "closed", "{outages}");
        world.wait().await;
        world.ls("app").await.unwrap();
    }
    assert_eq!(world.breaker(0).await, "open");
    forget_requests(&world);
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    assert_eq!(
        world.xattr("app/schema", "source").await.unwrap(),
        "mem://backup-1"
    );
    assert!(asked(&world.registry).is_empty());
    assert_eq!(world.breaker(1).await, "closed");
    let line = "atlasfs_target_breaker_open{target=\"mem://registry\"} 1";
    assert!(world.metric(line).await);
    let opened = world.events("breaker-open").await;
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0]["target"], "mem://registry");
    assert!(opened[0]["reason"].as_str().unwrap().contains("planted"));
}

#[tokio::test(start_paused = true)]
async fn a_skipped_target_delays_neither_reads_nor_pushes() {
    let world = world(Settings::default()).await;
    world.registry.set_fault(Fault::Hang);
    world.open_breaker().await;
    world.wait().await;
    let begun = Instant::now();
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    world.cp("app/schema", V2).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(10));
    for backup in &world.backups {
        assert_eq!(backup.content("app/schema").unwrap(), V2);
    }
    assert!(
        asked(&world.registry)
            .iter()
            .all(|request| !request.starts_with("PUT"))
    );
    let receipt = world.xattr("app/schema", "push").await.unwrap();
    assert!(receipt.contains("skipped: out since "), "{receipt}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_takes_a_target_back_without_any_user_and_what_it_is_owed_follows_at_once() {
    let world = world(Settings::default()).await;
    world.registry.set_fault(Fault::Fail(Kind::Unreachable));
    world.open_breaker().await;
    world.cp("app/schema", V2).await.unwrap();
    // By now the background work leaves the registry in peace for a minute each time.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.registry.content("app/schema").unwrap(), V1);
    forget_requests(&world);
    world.registry.set_fault(None);
    let healed = Instant::now();
    while world.breaker(0).await == "open" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(healed.elapsed() <= LONGEST_PAUSE);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(world.registry.content("app/schema").unwrap(), V2);
    assert_eq!(world.events("breaker-closed").await.len(), 1);
    world.wait().await;
    assert_eq!(world.cat("app/schema").await.unwrap(), V2);
    assert_eq!(
        world.xattr("app/schema", "source").await.unwrap(),
        "registry"
    );
}

#[tokio::test(start_paused = true)]
async fn probes_come_after_a_second_and_then_more_and_more_rarely() {
    let world = world(Settings::default()).await;
    world.registry.set_fault(Fault::Fail(Kind::Unreachable));
    world.open_breaker().await;
    forget_requests(&world);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(world.registry.requests().first().unwrap(), "PROBE");
    tokio::time::sleep(Duration::from_secs(120)).await;
    world.registry.requests();
    tokio::time::sleep(Duration::from_secs(300)).await;
    let probes = world.registry.requests().len();
    assert!((6..=20).contains(&probes), "{probes} in 300 s");
}

#[tokio::test(start_paused = true)]
async fn a_hung_target_does_not_hang_its_probe() {
    let world = world(Settings::default()).await;
    world.registry.set_fault(Fault::Hang);
    world.open_breaker().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.registry.set_fault(None);
    tokio::time::sleep(LONGEST_PAUSE + Duration::from_secs(2)).await;
    assert_eq!(world.breaker(0).await, "closed");
}

#[tokio::test(start_paused = true)]
async fn outages_count_from_zero_when_a_target_is_back() {
    let world = world(Settings::default()).await;
    world.registry.set_fault(Fault::Fail(Kind::Busy));
    world.open_breaker().await;
    world.registry.set_fault(None);
    tokio::time::sleep(LONGEST_PAUSE).await;
    world.registry.set_fault(Fault::Fail(Kind::Busy));
    for _ in 0..2 {
        world.wait().await;
        world.ls("app").await.unwrap();
        assert_eq!(world.breaker(0).await, "closed");
    }
    world.wait().await;
    world.ls("app").await.unwrap();
    assert_eq!(world.breaker(0).await, "open");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_is_asked_each_time() {
    let world = world(Settings::default()).await;
    world.registry.set_fault(Fault::Fail(Kind::Denied));
    for _ in 0..9 {
        world.wait().await;
        assert_eq!(world.ls("app").await, Err(Error::Denied));
    }
    assert_eq!(world.breaker(0).await, "closed");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_object_does_not_have_its_store_skipped() {
    let world = world(Settings::default()).await;
    world.registry.set_fault(Fault::Corrupt);
    for _ in 0..9 {
        assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    }
    assert_eq!(world.breaker(0).await, "closed");
}

#[tokio::test(start_paused = true)]
async fn with_every_target_skipped_all_ends_in_time_and_heals_at_once() {
    let world = world(Settings::default()).await;
    for store in world.all() {
        store.set_fault(Fault::Hang);
    }
    for _ in 0..12 {
        world.wait().await;
        let _ = world.ls("app").await;
    }
    for target in 0..3 {
        assert_eq!(world.breaker(target).await, "open");
    }
    world.wait().await;
    let begun = Instant::now();
    assert_eq!(world.cat("app/schema").await, Err(Error::Io));
    assert!(begun.elapsed() <= Duration::from_millis(5_010));
    let begun = Instant::now();
    assert_eq!(world.cp("app/schema", V2).await, Err(Error::Io));
    assert!(begun.elapsed() <= Duration::from_millis(15_010));
    for store in world.all() {
        store.set_fault(None);
    }
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    assert_eq!(world.cp("app/plans/p", PLAN).await, Ok(()));
}

const PLAN: &[u8] = b"plan \"p\" {\nfrom=\"a\"\nto=\"b\"\nmigration=\"c\"\n}\n";

#[tokio::test(start_paused = true)]
async fn with_every_target_skipped_what_is_cached_is_served_at_once() {
    let world = World::with(Choice {
        named: vec!["app"],
        redo: true,
        ..Choice::default()
    });
    world.cp("app/schema", V1).await.unwrap();
    for store in world.all() {
        store.set_fault(Fault::Hang);
    }
    for _ in 0..4 {
        world.wait().await;
        let _ = world.ls("app").await;
    }
    world.wait().await;
    let begun = Instant::now();
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    assert!(begun.elapsed() < Duration::from_millis(10));
    assert!(world.xattr("app/schema", "stale").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn without_a_breaker_every_target_is_asked_each_time() {
    let world = world(Settings {
        breaker: 0,
        ..Settings::default()
    })
    .await;
    world.registry.set_fault(Fault::Fail(Kind::Busy));
    for _ in 0..9 {
        world.wait().await;
        world.ls("app").await.unwrap();
    }
    assert_eq!(world.breaker(0).await, "closed");
    assert_eq!(world.registry.requests(), ["LIST app"; 9]);
}

#[tokio::test(start_paused = true)]
async fn nobody_probes_for_a_mount_that_has_ended() {
    let world = world(Settings::default()).await;
    world.registry.set_fault(Fault::Fail(Kind::Busy));
    world.open_breaker().await;
    let store = world.registry.clone();
    drop(world);
    store.requests();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(store.requests().is_empty());
}
