//! Targets that are back: any operation that needs one notices it.

use std::time::Duration;

use tokio::time::Instant;

use super::fixtures::{plan, set_all};
use super::kernel::{Choice, Fixture};
use super::resilience::{asked, fixture, forget_requests};
use super::{LISTED, V1, V2};
use crate::fs::Error;
use crate::registry::{Durability, Settings};
use crate::store::{Fault, Kind};

/// Lists until every target is skipped.
async fn skip_all(fixture: &Fixture) {
    set_all(fixture, Fault::Fail(Kind::Unreachable));
    for _ in 0..4 {
        fixture.wait().await;
        let _ = fixture.ls("app").await;
    }
    for target in 0..3 {
        assert_eq!(fixture.breaker(target).await, "open");
    }
}

/// A mount without a cache. All its targets are skipped, and have since come back.
async fn returned(settings: Settings) -> Fixture {
    let fixture = fixture(settings).await;
    skip_all(&fixture).await;
    set_all(&fixture, None);
    fixture
}

/// Asserts that a request takes no time: it doesn't wait for a probe.
async fn at_once<T>(request: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let reply = request.await;
    assert!(begun.elapsed() < Duration::from_millis(10));
    reply
}

#[tokio::test(start_paused = true)]
async fn a_read_that_nothing_else_can_serve_is_the_probe() {
    let fixture = returned(Settings::default()).await;
    assert_eq!(at_once(fixture.cat("app/schema")).await.unwrap(), V1);
    assert_eq!(fixture.breaker(0).await, "closed");
    assert_eq!(fixture.events("breaker-closed").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_would_fail_is_the_probe() {
    for durability in [Durability::Any, Durability::Registry, Durability::All] {
        let fixture = returned(Settings {
            durability,
            ..Settings::default()
        })
        .await;
        assert_eq!(at_once(fixture.cp("app/schema", V2)).await, Ok(()));
        for store in fixture.all() {
            let content = store.content("app/schema").unwrap();
            let degraded = durability == Durability::Registry;
            assert!(content == V2 || degraded, "{durability}");
        }
        assert_eq!(fixture.registry.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_to_a_new_name_is_the_probe() {
    let fixture = returned(Settings::default()).await;
    assert_eq!(at_once(fixture.cp("app/plans/p", &plan("p"))).await, Ok(()));
    assert_eq!(fixture.breaker(0).await, "closed");
}

#[tokio::test(start_paused = true)]
async fn a_push_reaches_the_one_backup_that_is_back() {
    let fixture = fixture(Settings::default()).await;
    skip_all(&fixture).await;
    fixture.backups[1].set_fault(None);
    assert_eq!(at_once(fixture.cp("app/schema", V2)).await, Ok(()));
    assert_eq!(fixture.backups[1].content("app/schema").unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_the_probe() {
    for durability in [Durability::Any, Durability::All] {
        let fixture = Fixture::with(Choice {
            registry: Settings {
                durability,
                ..Settings::default()
            },
            named: vec!["app"],
            allow_delete: true,
            replay: true,
            ..Choice::default()
        });
        fixture.cp("app/schema", V1).await.unwrap();
        skip_all(&fixture).await;
        set_all(&fixture, None);
        assert_eq!(at_once(fixture.rm("app/schema")).await, Ok(()));
        assert_eq!(fixture.registry.content("app/schema"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn look_ups_of_unknown_names_are_the_probe() {
    let fixture = fixture(Settings::default()).await;
    skip_all(&fixture).await;
    set_all(&fixture, None);
    let other = fixture.another();
    other.cp("app/plans/new", &plan("new")).await.unwrap();
    other.mkdir("second").await.unwrap();
    other.cp("second/schema", V2).await.unwrap();
    assert!(at_once(fixture.stat("app/plans/new")).await.is_ok());

    skip_all(&fixture).await;
    set_all(&fixture, None);
    assert_eq!(at_once(fixture.ls("second")).await.unwrap(), LISTED);

    skip_all(&fixture).await;
    set_all(&fixture, None);
    assert_eq!(at_once(fixture.mkdir("third")).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_hangs_keeps_nothing_from_the_registry_that_is_back() {
    let fixture = fixture(Settings::default()).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    for _ in 0..3 {
        fixture.wait().await;
        fixture.ls("app").await.unwrap();
    }
    assert_eq!(fixture.breaker(0).await, "open");
    fixture.registry.set_fault(None);
    for backup in &fixture.backups {
        backup.set_fault(Fault::Hang);
    }
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(
        fixture.xattr("app/schema", "source").await.unwrap(),
        "registry"
    );
}

#[tokio::test(start_paused = true)]
async fn a_push_leaves_time_for_the_registry_that_is_back() {
    let fixture = fixture(Settings::default()).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    for _ in 0..3 {
        fixture.wait().await;
        fixture.ls("app").await.unwrap();
    }
    assert_eq!(fixture.breaker(0).await, "open");
    for backup in &fixture.backups {
        backup.set_fault(Fault::Hang);
    }
    // The target comes back while the push waits for the backups, and before any probe.
    let push = async {
        assert_eq!(fixture.cp("app/schema", V2).await, Ok(()));
    };
    let back = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fixture.registry.set_fault(None);
    };
    tokio::join!(push, back);
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn one_request_at_a_time_is_on_trial_and_the_rest_wait_for_it() {
    let fixture = fixture(Settings::default()).await;
    for number in 0..20 {
        let name = format!("p{number}");
        let path = format!("app/plans/{name}");
        fixture.cp(&path, &plan(&name)).await.unwrap();
    }
    skip_all(&fixture).await;
    set_all(&fixture, Fault::Hang);
    forget_requests(&fixture);
    let reads = (0..20).map(|number| {
        let fixture = &fixture;
        async move { fixture.cat(&format!("app/plans/p{number}")).await }
    });
    let watch = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        for store in fixture.all() {
            let requests = store.requests();
            assert!(requests.len() <= 2, "one on trial, one probe: {requests:?}");
        }
        set_all(&fixture, None);
    };
    let (reads, ()) = tokio::join!(futures::future::join_all(reads), watch);
    assert!(reads.iter().all(Result::is_ok), "{reads:?}");
}

#[tokio::test(start_paused = true)]
async fn with_a_backup_that_serves_a_request_soon_probes_the_registry() {
    for (idle, pause) in [(0, 970), (600, 50), (7, 130)] {
        let fixture = fixture(Settings::default()).await;
        fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
        for _ in 0..3 {
            fixture.wait().await;
            fixture.ls("app").await.unwrap();
        }
        assert_eq!(fixture.breaker(0).await, "open");
        tokio::time::sleep(Duration::from_secs(idle)).await;
        forget_requests(&fixture);
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        }
        let requests = fixture.registry.requests();
        assert!(asked(&fixture.registry).is_empty(), "nobody waits for it");
        assert!((8..=12).contains(&requests.len()), "{requests:?}");
        tokio::time::sleep(Duration::from_millis(pause)).await;
        fixture.registry.set_fault(None);
        let back = Instant::now();
        while fixture.xattr("app/schema", "source").await.unwrap() != "registry" {
            assert!(back.elapsed() <= Duration::from_millis(1_050));
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_listing_counts_for_a_second_whatever_the_ttl() {
    let fixture = Fixture::with(Choice {
        registry: Settings {
            ttl: Duration::from_secs(600),
            ..Settings::default()
        },
        named: vec!["app"],
        replay: true,
        ..Choice::default()
    });
    set_all(&fixture, Fault::Fail(Kind::Unreachable));
    assert_eq!(fixture.ls("app").await, Err(Error::Io));
    set_all(&fixture, None);
    fixture.wait().await;
    assert_eq!(fixture.ls("app").await.unwrap(), ["plans"]);
}

/// Twice the hedge and 0.1 s.
const SOON: Duration = Duration::from_millis(600);

/// A mount with a schema in its cache, in memory or on disk alone.
async fn cached(settings: Settings) -> Fixture {
    let fixture = Fixture::with(Choice {
        registry: settings,
        named: vec!["app"],
        replay: true,
        ..Choice::default()
    });
    fixture.cp("app/schema", V1).await.unwrap();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    fixture.ls("").await.unwrap();
    fixture.settle().await;
    fixture.wait().await;
    fixture
}

fn caches() -> [Settings; 4] {
    let on_disk = Settings {
        cache_bytes: 0,
        disk_cache_bytes: 1 << 20,
        ..Settings::default()
    };
    let never_fresh = Duration::from_millis(1);
    [
        Settings::default(),
        on_disk.clone(),
        Settings {
            ttl: never_fresh,
            ..Settings::default()
        },
        Settings {
            ttl: never_fresh,
            ..on_disk
        },
    ]
}

/// Asserts that a program soon sees the known content, with the breakers closed and open.
async fn soon<T>(fixture: &Fixture, program: impl AsyncFn() -> T) {
    for pause in [0, 100, 700, 1_100, 2_500, 5_000, 20_000, 60_000] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let begun = Instant::now();
        program().await;
        assert!(begun.elapsed() <= SOON, "{pause}: {:?}", begun.elapsed());
    }
    assert_eq!(fixture.breaker(0).await, "open");
}

#[tokio::test(start_paused = true)]
async fn a_cached_file_is_read_soon_while_every_target_hangs() {
    for settings in caches() {
        let fixture = cached(settings).await;
        set_all(&fixture, Fault::Hang);
        soon(&fixture, async || {
            assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        })
        .await;
        assert!(fixture.xattr("app/schema", "stale").await.is_some());
        set_all(&fixture, None);
        fixture.another().cp("app/schema", V2).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let _ = fixture.cat("app/schema").await;
        fixture.wait().await;
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cached_file_of_a_repository_found_is_read_soon_too() {
    for registry in caches() {
        let fixture = Fixture::with(Choice {
            registry,
            replay: true,
            ..Choice::default()
        });
        let other = fixture.another();
        other.mkdir("app").await.unwrap();
        other.cp("app/schema", V1).await.unwrap();
        assert_eq!(fixture.ls("").await.unwrap(), ["app"]);
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        fixture.settle().await;
        fixture.wait().await;
        set_all(&fixture, Fault::Hang);
        soon(&fixture, async || {
            assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        })
        .await;
        soon(&fixture, async || {
            assert_eq!(fixture.ls("app").await.unwrap(), LISTED);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_list_of_repositories_hides_no_new_one() {
    let fixture = Fixture::new();
    fixture.mkdir("app").await.unwrap();
    fixture.cp("app/schema", V1).await.unwrap();
    let fixture = fixture.restart(Choice::default());
    assert_eq!(fixture.ls("").await.unwrap(), ["app"]);
    let other = fixture.another();
    other.mkdir("new").await.unwrap();
    other.cp("new/schema", V1).await.unwrap();
    fixture.wait().await;
    set_all(&fixture, Fault::Slow(Duration::from_millis(100)));
    fixture.stat("app").await.unwrap();
    assert_eq!(fixture.cat("new/schema").await.unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn known_names_are_shown_soon_while_every_target_hangs() {
    for settings in caches() {
        let fixture = cached(settings).await;
        set_all(&fixture, Fault::Hang);
        soon(&fixture, async || {
            assert_eq!(fixture.ls("app").await.unwrap(), LISTED);
        })
        .await;
        let size = V1.len() as u64;
        for path in ["app/schema", "app/schema.hcl"] {
            soon(&fixture, async || {
                assert_eq!(fixture.stat(path).await.unwrap().size, size);
            })
            .await;
        }
        soon(&fixture, async || {
            assert_eq!(fixture.ls("").await.unwrap(), ["app"]);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_on_disk_is_read_soon_after_its_backups_hang_too() {
    let fixture = cached(Settings {
        cache_bytes: 0,
        disk_cache_bytes: 1 << 20,
        ttl: Duration::from_secs(60),
        ..Settings::default()
    })
    .await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    tokio::time::sleep(Duration::from_secs(61)).await;
    // The listing is fresh, and comes from the backups themselves.
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    set_all(&fixture, Fault::Hang);
    soon(&fixture, async || {
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    })
    .await;
}
