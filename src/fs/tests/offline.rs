//! A mount that starts while every network is down serves all content that an earlier mount held.

use std::time::{Duration, SystemTime};

use super::fixtures::{delete_from, set_all, unstamped_lists};
use super::kernel::{Choice, Fixture};
use super::{LISTED, V1, V2};
use crate::fs::Error;
use crate::model::{Format, Stamp};
use crate::registry::{Settings, WallClock};
use crate::store::{Fault, Kind};

const PLAN: &[u8] = b"plan \"p\" {\nfrom=\"a\"\nto=\"b\"\nmigration=\"c\"\n}\n";

fn choice() -> Choice {
    Choice {
        registry: Settings {
            disk_cache_bytes: 1 << 20,
            ..Settings::default()
        },
        ..Choice::default()
    }
}

/// A mount that has read everything that another mount has pushed.
async fn fixture_with(choice: Choice) -> Fixture {
    let fixture = Fixture::with(choice);
    let other = fixture.another();
    other.mkdir("app").await.unwrap();
    other.cp("app/schema.hcl", V1).await.unwrap();
    other.cp("app/plans/p", PLAN).await.unwrap();
    for path in ["app/schema", "app/plans/p"] {
        fixture.cat(path).await.unwrap();
    }
    fixture
}

/// Ends the mount, and starts it again while every target is out.
async fn restart_offline(fixture: Fixture, choice: Choice) -> Fixture {
    fixture.settle().await;
    set_all(&fixture, Fault::Fail(Kind::Unreachable));
    fixture.restart(choice)
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_starts_while_all_targets_are_out_serves_all_it_holds_labelled() {
    for stores in [None, unstamped_lists()] {
        let fixture = fixture_with(Choice { stores, ..choice() }).await;
        let before = fixture.stat("app/schema").await.unwrap();
        let fixture = restart_offline(fixture, choice()).await;
        assert_eq!(fixture.ls("").await.unwrap(), ["app"]);
        assert_eq!(fixture.ls("app").await.unwrap(), LISTED);
        assert_eq!(fixture.ls("app/plans").await.unwrap(), ["p"]);
        let after = fixture.stat("app/schema.hcl").await.unwrap();
        assert_eq!((after.size, after.time), (before.size, before.time));
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        assert_eq!(fixture.cat("app/plans/p").await.unwrap(), PLAN);
        assert_eq!(
            fixture.xattr("app/schema", "source").await.unwrap(),
            "cache"
        );
        assert!(fixture.xattr("app/schema", "stale").await.is_some());
        assert_eq!(fixture.stat("app/plans/q").await, Err(Error::NotFound));
        assert_eq!(fixture.stat("app/schema.sql").await, Err(Error::NotFound));
        let status = fixture.json(".atlasfs/status").await;
        assert_eq!(status["disk_cache"]["hits"], 2);
        assert_eq!(status["disk_cache"]["entries"], 2);
        assert_eq!(status["disk_cache"]["error"], serde_json::json!(null));
    }
}

#[tokio::test(start_paused = true)]
async fn hung_targets_cost_a_mount_that_starts_its_deadlines_and_nothing_more() {
    let fixture = fixture_with(choice()).await;
    fixture.settle().await;
    set_all(&fixture, Fault::Hang);
    let fixture = fixture.restart(choice());
    let begun = tokio::time::Instant::now();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert!(
        begun.elapsed() <= Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn stale_is_the_time_since_a_target_confirmed_it() {
    let fixture = fixture_with(choice()).await;
    let an_hour_later = SystemTime::now() + Duration::from_secs(3600);
    let later = Choice {
        wall: WallClock::new(move || an_hour_later),
        ..choice()
    };
    let fixture = restart_offline(fixture, later).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let stale: u64 = fixture
        .xattr("app/schema", "stale")
        .await
        .unwrap()
        .parse()
        .unwrap();
    // The simulated clock stands still, while the real one advances a little.
    assert!((3_690..3_720).contains(&stale), "{stale}");
    fixture.settle().await;
    let fixture = fixture.restart(choice());
    set_all(&fixture, None::<Fault>);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(fixture.xattr("app/schema", "stale").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_content_that_was_never_read_is_an_error_and_its_name_is_there() {
    let fixture = fixture_with(choice()).await;
    fixture.another().cp("app/schema", V2).await.unwrap();
    fixture.wait().await;
    assert_eq!(
        fixture.stat("app/schema").await.unwrap().size,
        V2.len() as u64
    );
    let fixture = restart_offline(fixture, choice()).await;
    assert_eq!(
        fixture.stat("app/schema").await.unwrap().size,
        V2.len() as u64
    );
    assert_eq!(fixture.cat("app/schema").await, Err(Error::Io));
    assert_eq!(fixture.cat("app/plans/p").await.unwrap(), PLAN);
}

#[tokio::test(start_paused = true)]
async fn an_artifact_that_was_never_listed_is_an_error_to_read() {
    let fixture = Fixture::with(Choice {
        named: vec!["app", "never"],
        ..choice()
    });
    fixture.cp("app/schema", V1).await.unwrap();
    let named = Choice {
        named: vec!["app", "never"],
        ..choice()
    };
    let fixture = restart_offline(fixture, named).await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    for name in ["never/schema", "never/schema.hcl", "never/plans/p"] {
        assert_eq!(fixture.cat(name).await, Err(Error::Io), "{name}");
    }
    assert_eq!(fixture.ls("never").await, Err(Error::Io));
}

#[tokio::test(start_paused = true)]
async fn no_restart_leads_back_in_time() {
    for stores in [None, unstamped_lists()] {
        let fixture = fixture_with(Choice { stores, ..choice() }).await;
        let old = fixture.registry.object("app/schema").unwrap();
        fixture.cp("app/schema", V2).await.unwrap();
        fixture.settle().await;
        // Restore every target from yesterday's snapshot.
        for store in fixture.all() {
            store.place("app/schema", V1, old.stamp);
        }
        let fixture = fixture.restart(choice());
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
        assert_eq!(
            fixture.stat("app/schema").await.unwrap().size,
            V2.len() as u64
        );
        // Without a copy of its own, the mount returns an error rather than the old content.
        fixture.settle().await;
        std::fs::remove_dir_all(fixture.state_dir.path().join("cache")).unwrap();
        let fixture = fixture.restart(choice());
        assert_eq!(fixture.cat("app/schema").await, Err(Error::Io));
        set_all(&fixture, Fault::Fail(Kind::Unreachable));
        fixture.wait().await;
        assert_eq!(fixture.cat("app/schema").await, Err(Error::Io));
    }
}

#[tokio::test(start_paused = true)]
async fn an_acknowledged_push_is_served_after_a_kill_at_once() {
    let fixture = fixture_with(choice()).await;
    fixture.cp("app/schema", V2).await.unwrap();
    set_all(&fixture, Fault::Fail(Kind::Unreachable));
    // The test doesn't wait for the background work here.
    let fixture = fixture.restart(choice());
    let read = fixture.cat("app/schema").await;
    assert_ne!(read.as_deref(), Ok(V1), "never an older one");
    assert_eq!(
        fixture.stat("app/schema").await.unwrap().size,
        V2.len() as u64
    );
}

#[tokio::test(start_paused = true)]
async fn a_deletion_during_an_outage_shows_when_targets_return() {
    let fixture = fixture_with(choice()).await;
    let fixture = restart_offline(fixture, choice()).await;
    assert_eq!(fixture.cat("app/plans/p").await.unwrap(), PLAN);
    set_all(&fixture, None::<Fault>);
    delete_from(&fixture.registry, "app/plans/p").await;
    fixture.wait().await;
    assert_eq!(fixture.cat("app/plans/p").await, Err(Error::NotFound));
    assert!(fixture.ls("app/plans").await.unwrap().is_empty());
    // The backups still hold the artifact; the next mount doesn't restore it from there either.
    fixture.settle().await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    let fixture = fixture.restart(choice());
    assert_eq!(fixture.cat("app/plans/p").await, Err(Error::NotFound));
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_push_by_another_mount_shows_at_once_after_a_restart() {
    for stores in [None, unstamped_lists()] {
        let fixture = fixture_with(Choice { stores, ..choice() }).await;
        fixture.settle().await;
        let other = fixture.another();
        other.cp("app/schema", V2).await.unwrap();
        let fixture = fixture.restart(choice());
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
        let requests = fixture.registry.requests();
        assert!(requests.contains(&"GET app/schema".into()), "{requests:?}");
        assert_eq!(fixture.xattr("app/schema", "stale").await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_reads_nothing_again_that_has_not_changed() {
    for stores in [None, unstamped_lists()] {
        let fixture = fixture_with(Choice { stores, ..choice() }).await;
        let before = fixture.stat("app/schema").await.unwrap();
        fixture.settle().await;
        fixture.registry.requests();
        let fixture = fixture.restart(choice());
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        assert_eq!(fixture.stat("app/schema").await.unwrap().time, before.time);
        assert_eq!(fixture.registry.requests(), ["LIST /", "LIST app"]);
    }
}

#[tokio::test(start_paused = true)]
async fn content_put_there_by_hand_keeps_its_time_through_a_restart() {
    let fixture = fixture_with(choice()).await;
    fixture.registry.place("app/schema", V2, None);
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    let before = fixture.xattr("app/schema", "version").await;
    fixture.settle().await;
    let fixture = fixture.restart(choice());
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    assert_eq!(fixture.xattr("app/schema", "version").await, before);
    // The same content, put there once more.
    fixture.registry.place("app/schema", V2, None);
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    assert_eq!(fixture.xattr("app/schema", "version").await, before);
    fixture.registry.place("app/schema", V1, None);
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_push_while_all_targets_are_out_fails_and_its_bytes_are_kept() {
    let fixture = fixture_with(choice()).await;
    let fixture = restart_offline(fixture, choice()).await;
    assert_eq!(fixture.cp("app/schema", V2).await, Err(Error::Io));
    let status = fixture.json(".atlasfs/status").await;
    let path = status["unpushed"][0]["path"].as_str().unwrap();
    assert_eq!(fixture.cat(path).await.unwrap(), V2);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    set_all(&fixture, None::<Fault>);
    fixture.wait().await;
    assert_eq!(fixture.cp("app/schema", V2).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_mount_without_a_cache_in_memory_has_the_one_on_disk() {
    let settings = || Choice {
        registry: Settings {
            cache_bytes: 0,
            disk_cache_bytes: 1 << 20,
            ..Settings::default()
        },
        ..Choice::default()
    };
    let fixture = fixture_with(settings()).await;
    fixture.settle().await;
    fixture.registry.requests();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(
        fixture.xattr("app/schema", "source").await.unwrap(),
        "cache"
    );
    assert!(
        fixture
            .registry
            .requests()
            .iter()
            .all(|request| !request.starts_with("GET"))
    );
    let fixture = restart_offline(fixture, settings()).await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_mount_without_a_cache_on_disk_still_knows_the_names() {
    let fixture = fixture_with(Choice::default()).await;
    let fixture = restart_offline(fixture, Choice::default()).await;
    assert_eq!(fixture.ls("app").await.unwrap(), LISTED);
    assert_eq!(fixture.cat("app/schema").await, Err(Error::Io));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_can_not_be_written_is_no_error_of_a_read_or_a_push() {
    let dir = tempfile::tempdir().unwrap();
    let in_the_way = dir.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let fixture = fixture_with(Choice {
        registry: Settings {
            disk_cache_bytes: 1 << 20,
            cache_dir: Some(in_the_way),
            ..Settings::default()
        },
        ..Choice::default()
    })
    .await;
    assert_eq!(fixture.cp("app/schema", V2).await, Ok(()));
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    fixture.settle().await;
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["disk_cache"]["entries"], 0);
    assert!(
        status["disk_cache"]["error"]
            .as_str()
            .unwrap()
            .contains("file")
    );
}

#[tokio::test(start_paused = true)]
async fn a_damaged_cache_or_index_stops_no_start() {
    let fixture = fixture_with(choice()).await;
    fixture.settle().await;
    let dir = std::sync::Arc::clone(&fixture.state_dir);
    let index = dir.path().join("catalogue");
    let mut bytes = std::fs::read(&index).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&index, bytes).unwrap();
    for fan in std::fs::read_dir(dir.path().join("cache/sha256")).unwrap() {
        for file in std::fs::read_dir(fan.unwrap().path()).unwrap() {
            std::fs::write(file.unwrap().path(), "garbage").unwrap();
        }
    }
    let fixture = fixture.restart(choice());
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(fixture.cat("app/plans/p").await.unwrap(), PLAN);
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("catalogue-damaged"), "{events}");
    assert!(index.with_extension("damaged").exists());
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_is_not_found_any_more_is_forgotten() {
    let fixture = fixture_with(choice()).await;
    let fixture = restart_offline(fixture, choice()).await;
    assert_eq!(fixture.ls("").await.unwrap(), ["app"]);
    for store in fixture.all() {
        store.keys().iter().for_each(|key| store.remove(key));
    }
    set_all(&fixture, None::<Fault>);
    fixture.wait().await;
    assert!(fixture.ls("").await.unwrap().is_empty());
    let fixture = restart_offline(fixture, choice()).await;
    assert!(fixture.ls("").await.unwrap().is_empty());
    assert_eq!(fixture.stat("app").await, Err(Error::NotFound));
}

#[tokio::test(start_paused = true)]
async fn a_pending_push_does_not_undo_later_content() {
    let named = || Choice {
        named: vec!["app"],
        ..choice()
    };
    let fixture = Fixture::with(named());
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.backups[1].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V1).await.unwrap();
    let when = fixture
        .registry
        .object("app/schema")
        .unwrap()
        .stamp
        .unwrap()
        .when;
    let newer = Stamp::new(when + 1_000, V2, Format::Hcl);
    fixture.registry.place("app/schema", V2, Some(newer));
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    let fixture = restart_offline(fixture, named()).await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
}
