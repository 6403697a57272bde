//! Conflicts: two writers at once, and stores without conditional writes.

use std::time::Duration;

use super::fixtures::{fixture_with, plan, with};
use super::kernel::{Choice, Fixture, WRITE, WRITE_ANEW};
use super::{V1, V2};
use crate::fs::Error;
use crate::registry::{Durability, Settings};
use crate::store::{Fault, Kind, Memory};

#[tokio::test]
async fn of_two_writers_the_second_close_is_stale_and_its_bytes_are_kept() {
    let fixture = fixture_with(V1).await;
    let first = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    let second = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    first.write(0, V2).unwrap();
    second.write(0, b"schema \"loser\" {}\n").unwrap();
    first.close().await.unwrap();
    assert_eq!(second.close().await, Err(Error::Stale));
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
    let status = fixture.json(".atlasfs/status").await;
    let path = status["unpushed"][0]["path"].as_str().unwrap();
    assert_eq!(fixture.cat(path).await.unwrap(), b"schema \"loser\" {}\n");
}

#[tokio::test]
async fn of_two_mounts_the_second_close_is_stale_and_no_backup_sees_it() {
    let fixture = fixture_with(V1).await;
    let other = fixture.another();
    let first = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    let second = other.open("app/schema", WRITE_ANEW, false).await.unwrap();
    first.write(0, V2).unwrap();
    second.write(0, b"schema \"loser\" {}\n").unwrap();
    first.close().await.unwrap();
    assert_eq!(second.close().await, Err(Error::Stale));
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test]
async fn of_two_mounts_that_create_one_name_one_is_stale() {
    let fixture = fixture_with(V1).await;
    let other = fixture.another();
    let first = fixture.open("app/plans/p", WRITE, true).await.unwrap();
    let second = other.open("app/plans/p", WRITE, true).await.unwrap();
    first.write(0, &plan("p")).unwrap();
    second.write(0, &plan("p")).unwrap();
    first.close().await.unwrap();
    assert_eq!(second.close().await, Err(Error::Stale));
}

#[tokio::test]
async fn a_push_whose_reply_was_lost_is_found_out_by_the_next_close() {
    let fixture = with(Settings {
        durability: Durability::Registry,
        ..Settings::default()
    });
    fixture.cp("app/schema", V1).await.unwrap();
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    fixture.registry.set_fault(Fault::LoseReplies);
    assert_eq!(file.flush().await, Err(Error::Io));
    fixture.registry.set_fault(None);
    assert_eq!(file.flush().await, Ok(()));
    file.close().await.unwrap();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_reported_and_checked_before_each_push() {
    let registry = Memory::ignoring_conditions();
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        stores: Some([registry, Memory::default(), Memory::default()]),
        untried: true,
        ..Choice::default()
    });
    fixture.cp("app/schema", V1).await.unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(1);
    fixture.fs.registry.try_conditions(end).await;
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["targets"][0]["conditional_writes"], false);
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("conditions-ignored"));
    let loser = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    loser.write(0, V1).unwrap();
    fixture.another().cp("app/schema", V2).await.unwrap();
    assert_eq!(loser.close().await, Err(Error::Stale));
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test]
async fn a_store_that_has_not_been_tried_for_conditions_is_not_trusted_with_them() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        stores: Some([
            Memory::ignoring_conditions(),
            Memory::default(),
            Memory::default(),
        ]),
        untried: true,
        ..Choice::default()
    });
    fixture.cp("app/schema", V1).await.unwrap();
    let loser = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    loser.write(0, V1).unwrap();
    fixture.another().cp("app/schema", V2).await.unwrap();
    assert_eq!(loser.close().await, Err(Error::Stale));
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_out_when_mounting_is_tried_as_soon_as_it_answers() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        stores: Some([
            Memory::ignoring_conditions(),
            Memory::default(),
            Memory::default(),
        ]),
        untried: true,
        ..Choice::default()
    });
    let store = &fixture.registry;
    store.set_fault(Fault::Fail(Kind::Unreachable));
    let end = tokio::time::Instant::now() + Duration::from_secs(1);
    let refusals = fixture.fs.registry.try_conditions(end).await;
    assert!(refusals.is_empty(), "an outage is no refusal");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let status = fixture.json(".atlasfs/status").await;
    assert!(status["targets"][0]["conditional_writes"].is_null());
    store.set_fault(None);
    fixture.ls("app").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["targets"][0]["conditional_writes"], false);
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert_eq!(events.matches("conditions-ignored").count(), 1, "{events}");
}

#[tokio::test]
async fn a_store_without_a_capability_probe_is_reported() {
    let fixture = Fixture::with(Choice {
        untried: true,
        ..Choice::default()
    });
    fixture.registry.set_fault(Fault::FailWrites(Kind::Denied));
    let end = tokio::time::Instant::now() + Duration::from_secs(1);
    let refusals = fixture.fs.registry.try_conditions(end).await;
    assert_eq!(refusals.len(), 1);
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(
        status["targets"][0]["conditional_writes"],
        serde_json::Value::Null
    );
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("conditions-unknown"), "{events}");
    let failure = &status["targets"][0]["last_failure"];
    assert_eq!(failure["kind"], "denied", "{status:#}");
}
