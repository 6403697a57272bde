//! A slow registry: reads ask the backups as well.

use std::time::Duration;

use tokio::time::Instant;

use super::fixtures::delete_from;
use super::kernel::{Choice, Fixture};
use super::resilience::{LONGEST_PAUSE, asked, fixture, forget_requests};
use super::{LISTED, V1, V2};
use crate::fs::Error;
use crate::registry::Settings;
use crate::store::{Fault, Kind, Memory};

/// A mount of `app` without background work; another mount has pushed the content.
async fn hedged(settings: Settings) -> Fixture {
    let fixture = Fixture::with(Choice {
        registry: Settings {
            cache_bytes: 0,
            ..settings
        },
        named: vec!["app"],
        ..Choice::default()
    });
    let other = fixture.another();
    other.mkdir("app").await.unwrap();
    other.cp("app/schema", V1).await.unwrap();
    forget_requests(&fixture);
    fixture
}

fn millis(begun: Instant) -> u64 {
    begun.elapsed().as_millis() as u64
}

#[tokio::test(start_paused = true)]
async fn a_read_is_hedged_when_the_registry_hangs() {
    let fixture = hedged(Settings::default()).await;
    fixture.ls("app").await.unwrap();
    fixture.registry.set_fault(Fault::Hang);
    let begun = Instant::now();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert!((250..=260).contains(&millis(begun)), "{}", millis(begun));
    assert_eq!(
        fixture.xattr("app/schema", "source").await.unwrap(),
        "mem://backup-1"
    );
    assert!(fixture.metric("atlasfs_hedges_total 1").await);
    assert!(
        fixture
            .metric("atlasfs_pulls_total{source=\"backup\"} 1")
            .await
    );
    let fallbacks = fixture.events("fallback").await;
    assert_eq!(fallbacks[0]["reason"], "hedged");
    assert_eq!(fixture.backups[1].requests(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_listing_is_hedged_too() {
    let fixture = hedged(Settings::default()).await;
    fixture.registry.set_fault(Fault::Hang);
    let begun = Instant::now();
    assert_eq!(fixture.ls("app").await.unwrap(), LISTED);
    assert!((250..=260).contains(&millis(begun)), "{}", millis(begun));
    let begun = Instant::now();
    assert_eq!(fixture.ls("").await.unwrap(), ["app"]);
    assert!((250..=260).contains(&millis(begun)), "{}", millis(begun));
    assert!(fixture.metric("atlasfs_hedges_total 2").await);
    assert_eq!(fixture.xattr("app/schema", "stale").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_fast_registry_leaves_the_backups_in_peace() {
    let fixture = hedged(Settings::default()).await;
    fixture
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(200)));
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(fixture.ls("").await.unwrap(), ["app"]);
    for backup in &fixture.backups {
        assert_eq!(backup.requests(), [""; 0]);
    }
    assert!(fixture.metric("atlasfs_hedges_total 0").await);
}

#[tokio::test(start_paused = true)]
async fn the_registry_is_preferred_when_both_answer() {
    let fixture = hedged(Settings::default()).await;
    fixture.ls("app").await.unwrap();
    let slow = |millis| Fault::Slow(Duration::from_millis(millis));
    // The mount asks the backup after 250 ms. The backup answers at the same moment as the
    // registry, or later.
    for (registry, backup) in [(500, 250), (400, 200)] {
        fixture.registry.set_fault(slow(registry));
        fixture.backups[0].set_fault(slow(backup));
        let begun = Instant::now();
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        assert!((registry..=registry + 10).contains(&millis(begun)));
        assert_eq!(
            fixture.xattr("app/schema", "source").await.unwrap(),
            "registry"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_registrys_answer_ends_a_hedged_read() {
    for (denied, error) in [(false, Error::NotFound), (true, Error::Denied)] {
        let fixture = hedged(Settings {
            ttl: Duration::from_secs(60),
            ..Settings::default()
        })
        .await;
        fixture.ls("app").await.unwrap();
        delete_from(&fixture.registry, "app/schema").await;
        fixture.registry.set_fault(match denied {
            true => Fault::FailLate(Duration::from_millis(400), Kind::Denied),
            false => Fault::Slow(Duration::from_millis(400)),
        });
        fixture.backups[0].set_fault(Fault::Slow(Duration::from_millis(200)));
        assert_eq!(fixture.cat("app/schema").await, Err(error));
        assert_eq!(asked(&fixture.backups[0]), ["GET app/schema"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_brings_nothing_back_that_the_registry_says_is_deleted() {
    let fixture = hedged(Settings::default()).await;
    fixture.ls("app").await.unwrap();
    fixture.wait().await;
    delete_from(&fixture.registry, "app/schema").await;
    fixture
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(310)));
    for backup in &fixture.backups {
        backup.set_fault(Fault::Slow(Duration::from_millis(200)));
    }
    assert_eq!(fixture.cat("app/schema").await, Err(Error::NotFound));
    fixture.wait().await;
    fixture.registry.set_fault(Fault::Hang);
    assert_eq!(fixture.cat("app/schema").await, Err(Error::NotFound));
    assert_eq!(fixture.ls("app").await.unwrap(), ["plans"]);
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_is_behind_is_not_served_by_a_hedge() {
    for stores in [
        None,
        Some(std::array::from_fn(|_| Memory::without_listed_stamps())),
    ] {
        let fixture = Fixture::with(Choice {
            registry: Settings {
                cache_bytes: 0,
                ..Settings::default()
            },
            named: vec!["app"],
            stores,
            ..Choice::default()
        });
        fixture.cp("app/schema", V1).await.unwrap();
        let other = fixture.another();
        other.wait().await;
        for backup in &fixture.backups {
            backup.set_fault(Fault::Fail(Kind::Busy));
        }
        other.cp("app/schema", V2).await.unwrap();
        for backup in &fixture.backups {
            backup.set_fault(None);
        }
        fixture.ls("app").await.unwrap();
        fixture
            .registry
            .set_fault(Fault::Slow(Duration::from_millis(400)));
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
        assert_eq!(
            fixture.xattr("app/schema", "source").await.unwrap(),
            "registry"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_mount_replaces_the_old_content_of_a_backup_behind() {
    // The same size: a listing without stamps can't tell the two contents apart.
    let newer: &[u8] = b"schema \"pablic\" {}\n";
    let stores = std::array::from_fn(|_| Memory::without_listed_stamps());
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        stores: Some(stores),
        ..Choice::default()
    });
    let other = fixture.another();
    other.mkdir("app").await.unwrap();
    other.cp("app/schema", V1).await.unwrap();
    for backup in &fixture.backups {
        backup.set_fault(Fault::Fail(Kind::Busy));
    }
    other.cp("app/schema", newer).await.unwrap();
    for backup in &fixture.backups {
        backup.set_fault(None);
    }
    fixture.ls("app").await.unwrap();
    fixture
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(400)));
    let _ = fixture.cat("app/schema").await.unwrap();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), newer);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_goes_on_to_the_next_backup_and_back_to_the_registry() {
    let fixture = hedged(Settings::default()).await;
    fixture.ls("app").await.unwrap();
    fixture.registry.set_fault(Fault::Hang);
    fixture.backups[0].set_fault(Fault::Fail(Kind::Busy));
    let begun = Instant::now();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert!(millis(begun) <= 260);
    assert_eq!(
        fixture.xattr("app/schema", "source").await.unwrap(),
        "mem://backup-2"
    );
    fixture.backups[1].set_fault(Fault::Fail(Kind::Busy));
    fixture
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(600)));
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(
        fixture.xattr("app/schema", "source").await.unwrap(),
        "registry"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_hedge_the_registry_has_its_whole_time() {
    let fixture = hedged(Settings {
        hedge: Duration::ZERO,
        ..Settings::default()
    })
    .await;
    fixture
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(900)));
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    for backup in &fixture.backups {
        assert_eq!(backup.requests(), [""; 0]);
    }
    assert!(fixture.metric("atlasfs_hedges_total 0").await);
}

#[tokio::test(start_paused = true)]
async fn hedged_or_not_a_read_with_every_target_hung_keeps_its_deadline() {
    for hedge in [0, 1, 250, 60_000] {
        let fixture = hedged(Settings {
            hedge: Duration::from_millis(hedge),
            ttl: Duration::from_secs(60),
            ..Settings::default()
        })
        .await;
        fixture.ls("app").await.unwrap();
        for store in fixture.all() {
            store.set_fault(Fault::Hang);
        }
        let begun = Instant::now();
        assert_eq!(fixture.cat("app/schema").await, Err(Error::Io));
        assert!(millis(begun) <= 5_010, "{}", millis(begun));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_registry_whose_reads_are_all_hedged_is_skipped_in_the_end() {
    let fixture = fixture(Settings::default()).await;
    fixture.registry.set_fault(Fault::Hang);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(fixture.breaker(0).await, "open");
    let begun = Instant::now();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert!(millis(begun) < 10);
    fixture.registry.set_fault(None);
    tokio::time::sleep(LONGEST_PAUSE).await;
    assert_eq!(fixture.breaker(0).await, "closed");
}

#[tokio::test(start_paused = true)]
async fn a_slow_registry_is_hedged_and_never_skipped() {
    let fixture = fixture(Settings::default()).await;
    fixture
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(400)));
    for _ in 0..20 {
        fixture.wait().await;
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        assert_eq!(fixture.breaker(0).await, "closed");
    }
    let probes = fixture.registry.requests().into_iter();
    let probes = probes.filter(|request| request == "PROBE").count();
    assert!(probes <= 40, "{probes}");
}
