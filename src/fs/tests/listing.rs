//! Contents whose listing has no stamp or a wrong one, and objects that are too large.

use std::time::{Duration, SystemTime};

use super::fixtures::unstamped_lists;
use super::kernel::{Choice, Fixture};
use super::pull::{uncached, with};
use super::{V1, V2};
use crate::fs::Error;
use crate::registry::Settings;
use crate::store::{Fault, Kind};

#[tokio::test(start_paused = true)]
async fn a_listing_without_stamps_costs_one_get_an_artifact_that_is_looked_at() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        stores: unstamped_lists(),
        ..Choice::default()
    });
    fixture.another().cp("app/schema", V1).await.unwrap_err();
    let other = fixture.another();
    other.mkdir("app").await.unwrap();
    other.cp("app/schema", V1).await.unwrap();
    fixture.registry.requests();
    let stamp = fixture
        .registry
        .object("app/schema")
        .unwrap()
        .stamp
        .unwrap();
    assert_eq!(fixture.stat("app/schema").await.unwrap().time, stamp.time());
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(
        fixture.stat("app/schema.hcl").await.unwrap().size,
        V1.len() as u64
    );
    assert_eq!(fixture.registry.requests(), ["LIST app", "GET app/schema"]);
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(fixture.registry.requests(), ["LIST app"]);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_content_does_not_change_while_one_looks() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        stores: unstamped_lists(),
        ..Choice::default()
    });
    let other = fixture.another();
    other.mkdir("app").await.unwrap();
    other.cp("app/schema", V1).await.unwrap();
    fixture.ls("app").await.unwrap();
    let shown = fixture.stat("app/schema").await.unwrap();
    fixture.cat("app/schema").await.unwrap();
    assert_eq!(fixture.stat("app/schema").await.unwrap(), shown);
    fixture.wait().await;
    assert_eq!(fixture.stat("app/schema").await.unwrap(), shown);
}

#[tokio::test]
async fn content_put_there_by_hand_is_served_with_the_stores_own_time() {
    let fixture = uncached(V1).await;
    fixture.registry.place("app/schema", V2, None);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    let age = SystemTime::now().duration_since(fixture.stat("app/schema").await.unwrap().time);
    assert!(age.unwrap() < Duration::from_secs(60));
}

#[tokio::test]
async fn a_stamp_that_is_not_of_the_bytes_is_an_outage_of_that_target() {
    let fixture = uncached(V1).await;
    let stamp = fixture.registry.object("app/schema").unwrap().stamp;
    fixture.registry.place("app/schema", V2, stamp);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(
        fixture.xattr("app/schema", "source").await.unwrap(),
        "mem://backup-1"
    );
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_missed_a_push_does_not_hide_it() {
    let fixture = uncached(V1).await;
    fixture.backups[0].remove("app/schema");
    fixture.registry.set_fault(Fault::Fail(Kind::Busy));
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(
        fixture.xattr("app/schema", "source").await.unwrap(),
        "mem://backup-2"
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_over_max_size_on_the_registry_falls_back() {
    let fixture = with(
        V1,
        Settings {
            cache_bytes: 0,
            max_size: 64,
            ..Settings::default()
        },
    )
    .await;
    fixture.registry.place("app/schema", &[b'x'; 65], None);
    for _ in 0..9 {
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        fixture.wait().await;
    }
    let fallback = fixture.events("fallback").await.pop().unwrap();
    assert_eq!(fallback["target"], "mem://backup-1");
    let reason = fallback["reason"].as_str().unwrap();
    assert!(reason.contains("--max-size"), "{reason}");
    assert_eq!(fixture.breaker(0).await, "closed");
}

#[tokio::test(start_paused = true)]
async fn an_object_over_max_size_on_every_target_names_the_flag() {
    let fixture = with(
        V1,
        Settings {
            max_size: 64,
            ..Settings::default()
        },
    )
    .await;
    for store in fixture.all() {
        store.place("app/schema", &[b'x'; 65], None);
    }
    assert_eq!(fixture.cat("app/schema").await, Err(Error::Io));
    let failed = fixture.events("pull-failed").await.pop().unwrap();
    let reason = failed["message"].as_str().unwrap();
    assert_eq!(reason.matches("--max-size").count(), 3, "{reason}");
}
