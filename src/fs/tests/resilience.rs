//! Targets that are out or slow: they cost nobody more than they must.

use std::time::Duration;

use tokio::time::Instant;

use super::kernel::{Choice, World};
use crate::fs::Error;
use crate::registry::Settings;
use crate::target::{Fault, Kind, Memory};

const V1: &[u8] = b"schema \"public\" {}\n";
const V2: &[u8] = b"schema \"public\" {}\nschema \"audit\" {}\n";
/// The longest pause between two probes, jitter included.
const LONGEST_PAUSE: Duration = Duration::from_secs(45);

/// A mount as it is in real life, background work included, that has nothing in its cache.
async fn world(settings: Settings) -> World {
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

fn forget_requests(world: &World) {
    world.all().iter().for_each(|store| drop(store.requests()));
}

/// The requests so far that were made for a user.
fn asked(store: &Memory) -> Vec<String> {
    let requests = store.requests().into_iter();
    requests.filter(|request| request != "PROBE").collect()
}

impl World {
    async fn breaker(&self, target: usize) -> String {
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

    async fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        let events = String::from_utf8(self.cat(".atlasfs/events").await.unwrap()).unwrap();
        let events = events
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        events
            .filter(|event: &serde_json::Value| event["event"] == kind)
            .collect()
    }

    async fn metric(&self, line: &str) -> bool {
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
async fn with_every_target_skipped_all_ends_at_once_and_heals_by_itself() {
    let world = world(Settings::default()).await;
    for store in world.all() {
        store.set_fault(Fault::Hang);
    }
    for _ in 0..4 {
        world.wait().await;
        let _ = world.ls("app").await;
    }
    for target in 0..3 {
        assert_eq!(world.breaker(target).await, "open");
    }
    world.wait().await;
    let begun = Instant::now();
    assert_eq!(world.cat("app/schema").await, Err(Error::Io));
    assert_eq!(world.cp("app/plans/p", PLAN).await, Err(Error::Io));
    assert!(begun.elapsed() < Duration::from_millis(10));
    for store in world.all() {
        store.set_fault(None);
    }
    tokio::time::sleep(LONGEST_PAUSE + Duration::from_secs(2)).await;
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

/// A mount of `app` without background work, whose store's content another mount has pushed.
async fn hedged(settings: Settings) -> World {
    let world = World::with(Choice {
        registry: Settings {
            cache_bytes: 0,
            ..settings
        },
        named: vec!["app"],
        ..Choice::default()
    });
    let other = world.another();
    other.mkdir("app").await.unwrap();
    other.cp("app/schema", V1).await.unwrap();
    forget_requests(&world);
    world
}

fn millis(begun: Instant) -> u64 {
    begun.elapsed().as_millis() as u64
}

#[tokio::test(start_paused = true)]
async fn a_read_is_hedged_when_the_registry_hangs() {
    let world = hedged(Settings::default()).await;
    world.ls("app").await.unwrap();
    world.registry.set_fault(Fault::Hang);
    let begun = Instant::now();
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    assert!((250..=260).contains(&millis(begun)), "{}", millis(begun));
    assert_eq!(
        world.xattr("app/schema", "source").await.unwrap(),
        "mem://backup-1"
    );
    assert!(world.metric("atlasfs_hedges_total 1").await);
    assert!(
        world
            .metric("atlasfs_pulls_total{source=\"backup\"} 1")
            .await
    );
    let fallbacks = world.events("fallback").await;
    assert_eq!(fallbacks[0]["reason"], "hedged");
    assert_eq!(world.backups[1].requests(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_listing_is_hedged_too() {
    let world = hedged(Settings::default()).await;
    world.registry.set_fault(Fault::Hang);
    let begun = Instant::now();
    assert_eq!(world.ls("app").await.unwrap(), ["schema", "plans"]);
    assert!((250..=260).contains(&millis(begun)), "{}", millis(begun));
    let begun = Instant::now();
    assert_eq!(world.ls("").await.unwrap(), ["app"]);
    assert!((250..=260).contains(&millis(begun)), "{}", millis(begun));
    assert!(world.metric("atlasfs_hedges_total 2").await);
    assert_eq!(world.xattr("app/schema", "stale").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_fast_registry_leaves_the_backups_in_peace() {
    let world = hedged(Settings::default()).await;
    world
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(200)));
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    assert_eq!(world.ls("").await.unwrap(), ["app"]);
    for backup in &world.backups {
        assert_eq!(backup.requests(), [""; 0]);
    }
    assert!(world.metric("atlasfs_hedges_total 0").await);
}

#[tokio::test(start_paused = true)]
async fn the_registry_is_preferred_when_both_answer() {
    let world = hedged(Settings::default()).await;
    world.ls("app").await.unwrap();
    let slow = |millis| Fault::Slow(Duration::from_millis(millis));
    // Asked after 250 ms, the backup answers in the same moment, and later.
    for (registry, backup) in [(500, 250), (400, 200)] {
        world.registry.set_fault(slow(registry));
        world.backups[0].set_fault(slow(backup));
        let begun = Instant::now();
        assert_eq!(world.cat("app/schema").await.unwrap(), V1);
        assert!((registry..=registry + 10).contains(&millis(begun)));
        assert_eq!(
            world.xattr("app/schema", "source").await.unwrap(),
            "registry"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_registry_answers_ends_a_hedged_read() {
    for (denied, error) in [(false, Error::NotFound), (true, Error::Denied)] {
        let world = hedged(Settings {
            ttl: Duration::from_secs(60),
            ..Settings::default()
        })
        .await;
        world.ls("app").await.unwrap();
        world.registry.remove("app/schema");
        world.registry.set_fault(match denied {
            true => Fault::FailLate(Duration::from_millis(400), Kind::Denied),
            false => Fault::Slow(Duration::from_millis(400)),
        });
        world.backups[0].set_fault(Fault::Slow(Duration::from_millis(200)));
        assert_eq!(world.cat("app/schema").await, Err(error));
        assert_eq!(asked(&world.backups[0]), ["GET app/schema"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_brings_nothing_back_that_the_registry_says_is_deleted() {
    let world = hedged(Settings::default()).await;
    world.ls("app").await.unwrap();
    world.wait().await;
    world.registry.remove("app/schema");
    world
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(400)));
    for backup in &world.backups {
        backup.set_fault(Fault::Slow(Duration::from_millis(200)));
    }
    assert_eq!(world.cat("app/schema").await, Err(Error::NotFound));
    world.wait().await;
    world.registry.set_fault(Fault::Hang);
    assert_eq!(world.cat("app/schema").await, Err(Error::NotFound));
    assert_eq!(world.ls("app").await.unwrap(), ["plans"]);
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_is_behind_is_not_served_by_a_hedge() {
    for stores in [
        None,
        Some(std::array::from_fn(|_| Memory::without_listed_stamps())),
    ] {
        let world = World::with(Choice {
            registry: Settings {
                cache_bytes: 0,
                ..Settings::default()
            },
            named: vec!["app"],
            stores,
            ..Choice::default()
        });
        world.cp("app/schema", V1).await.unwrap();
        let other = world.another();
        other.wait().await;
        for backup in &world.backups {
            backup.set_fault(Fault::Fail(Kind::Busy));
        }
        other.cp("app/schema", V2).await.unwrap();
        for backup in &world.backups {
            backup.set_fault(None);
        }
        world.ls("app").await.unwrap();
        world
            .registry
            .set_fault(Fault::Slow(Duration::from_millis(400)));
        assert_eq!(world.cat("app/schema").await.unwrap(), V2);
        assert_eq!(
            world.xattr("app/schema", "source").await.unwrap(),
            "registry"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_mount_is_not_left_with_what_a_backup_that_is_behind_gave_it() {
    // Of the same size: a listing without stamps doesn't tell them apart.
    let newer: &[u8] = b"schema \"pablic\" {}\n";
    let stores = std::array::from_fn(|_| Memory::without_listed_stamps());
    let world = World::with(Choice {
        named: vec!["app"],
        stores: Some(stores),
        ..Choice::default()
    });
    let other = world.another();
    other.mkdir("app").await.unwrap();
    other.cp("app/schema", V1).await.unwrap();
    for backup in &world.backups {
        backup.set_fault(Fault::Fail(Kind::Busy));
    }
    other.cp("app/schema", newer).await.unwrap();
    for backup in &world.backups {
        backup.set_fault(None);
    }
    world.ls("app").await.unwrap();
    world
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(400)));
    let _ = world.cat("app/schema").await.unwrap();
    assert_eq!(world.cat("app/schema").await.unwrap(), newer);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_goes_on_to_the_next_backup_and_back_to_the_registry() {
    let world = hedged(Settings::default()).await;
    world.ls("app").await.unwrap();
    world.registry.set_fault(Fault::Hang);
    world.backups[0].set_fault(Fault::Fail(Kind::Busy));
    let begun = Instant::now();
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    assert!(millis(begun) <= 260);
    assert_eq!(
        world.xattr("app/schema", "source").await.unwrap(),
        "mem://backup-2"
    );
    world.backups[1].set_fault(Fault::Fail(Kind::Busy));
    world
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(600)));
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    assert_eq!(
        world.xattr("app/schema", "source").await.unwrap(),
        "registry"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_hedge_the_registry_has_its_whole_time() {
    let world = hedged(Settings {
        hedge: Duration::ZERO,
        ..Settings::default()
    })
    .await;
    world
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(900)));
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    for backup in &world.backups {
        assert_eq!(backup.requests(), [""; 0]);
    }
    assert!(world.metric("atlasfs_hedges_total 0").await);
}

#[tokio::test(start_paused = true)]
async fn hedged_or_not_a_read_with_every_target_hung_keeps_its_deadline() {
    for hedge in [0, 1, 250, 60_000] {
        let world = hedged(Settings {
            hedge: Duration::from_millis(hedge),
            ttl: Duration::from_secs(60),
            ..Settings::default()
        })
        .await;
        world.ls("app").await.unwrap();
        for store in world.all() {
            store.set_fault(Fault::Hang);
        }
        let begun = Instant::now();
        assert_eq!(world.cat("app/schema").await, Err(Error::Io));
        assert!(millis(begun) <= 5_010, "{}", millis(begun));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_registry_whose_reads_are_all_hedged_is_skipped_in_the_end() {
    let world = world(Settings::default()).await;
    world.registry.set_fault(Fault::Hang);
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(world.breaker(0).await, "open");
    let begun = Instant::now();
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    assert!(millis(begun) < 10);
    world.registry.set_fault(None);
    tokio::time::sleep(LONGEST_PAUSE).await;
    assert_eq!(world.breaker(0).await, "closed");
}

#[tokio::test(start_paused = true)]
async fn a_slow_registry_is_hedged_and_never_skipped() {
    let world = world(Settings::default()).await;
    world
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(400)));
    for _ in 0..20 {
        world.wait().await;
        assert_eq!(world.cat("app/schema").await.unwrap(), V1);
        assert_eq!(world.breaker(0).await, "closed");
    }
    let probes = world.registry.requests().into_iter();
    let probes = probes.filter(|request| request == "PROBE").count();
    assert!(probes <= 40, "{probes}");
}
