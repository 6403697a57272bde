//! The end of a fault: targets that missed a push catch up.

use std::sync::Arc;
use std::time::Duration;

use super::fixtures::{choice, choice_of, fixture_of, replaying};
use super::kernel::{Choice, Fixture, WRITE};
use super::{V1, V2, V3};
use crate::fs::Error;
use crate::registry::{FallbackOn, Settings};
use crate::store::{Backend, Fault, Kind, Memory};

#[tokio::test(start_paused = true)]
async fn content_shown_during_an_outage_never_goes_back() {
    let fixture = fixture_of(choice(), V1).await;
    let other = fixture.another();
    assert_eq!(other.cat("app/schema").await.unwrap(), V1);
    fixture.registry.set_fault(Fault::Fail(Kind::Busy));
    fixture.backups[1].set_fault(Fault::Fail(Kind::Busy));
    fixture.cp("app/schema", V2).await.unwrap();
    fixture.backups[1].set_fault(None);
    other.wait().await;
    assert_eq!(
        other.stat("app/schema").await.unwrap().size,
        V2.len() as u64
    );
    fixture.registry.set_fault(None);
    other.wait().await;
    assert_eq!(
        other.stat("app/schema").await.unwrap().size,
        V2.len() as u64
    );
    assert_eq!(other.cat("app/schema").await.unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn a_targets_last_failure_goes_when_it_is_over() {
    let fixture = fixture_of(choice(), V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Busy));
    fixture.cp("app/schema", V2).await.unwrap();
    let status = fixture.json(".atlasfs/status").await;
    let failure = &status["targets"][0]["last_failure"];
    assert_eq!(failure["kind"], Kind::Busy.as_str(), "{status:#}");
    fixture.registry.set_fault(None);
    fixture.wait().await;
    fixture.cp("app/schema", V3).await.unwrap();
    let status = fixture.json(".atlasfs/status").await;
    let target = &status["targets"][0];
    assert_eq!(
        target["last_failure"],
        serde_json::Value::Null,
        "{status:#}"
    );
    assert!(target["failures"].as_u64().unwrap() > 0, "{status:#}");
}

#[tokio::test(start_paused = true)]
async fn content_read_from_backups_can_be_written() {
    let fallback_on = FallbackOn {
        not_found: true,
        denied: false,
    };
    let settings = || Settings {
        fallback_on,
        ..Settings::default()
    };
    let fixture = fixture_of(choice_of(settings()), V1).await;
    fixture.registry.remove("app/schema");
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(fixture.cp("app/schema", V2).await, Ok(()));
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn a_backups_refusal_removes_nothing_in_an_outage() {
    let fixture = fixture_of(choice(), V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.backups[0].set_fault(Fault::Fail(Kind::Denied));
    fixture.backups[1].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.wait().await;
    assert_eq!(
        fixture.stat("app/schema").await.unwrap().size,
        V1.len() as u64
    );
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_missed_a_push_catches_up_when_it_returns() {
    let fixture = fixture_of(replaying(), V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.backups[0].set_fault(Fault::Hang);
    fixture.cp("app/schema", V2).await.unwrap();
    assert_eq!(
        fixture.json(".atlasfs/status").await["pending"][0]["artifact"],
        "app/schema"
    );
    fixture.registry.set_fault(None);
    fixture.backups[0].set_fault(None);
    tokio::time::sleep(Duration::from_secs(100)).await;
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
    assert_eq!(fixture.xattr("app/schema", "pending").await, None);
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["pending"], serde_json::json!([]));
    assert_eq!(status["journal"]["bytes"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_late_replay_never_overwrites_a_newer_push() {
    let fixture = fixture_of(choice(), V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    fixture.registry.set_fault(None);
    let other = fixture.another();
    other.wait().await;
    other.cp("app/schema", V3).await.unwrap();
    let fixture = fixture.restart(replaying());
    tokio::time::sleep(Duration::from_secs(100)).await;
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V3);
    }
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V3);
    assert_eq!(
        fixture.json(".atlasfs/status").await["pending"],
        serde_json::json!([])
    );
}

#[tokio::test(start_paused = true)]
async fn a_replay_keeps_content_put_there_by_hand_at_the_same_time() {
    let fixture = fixture_of(replaying(), V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    let pushed = fixture.backups[0].object("app/schema").unwrap().stamp;
    let time = pushed.unwrap().time();
    fixture.registry.place_at("app/schema", V3, None, time);
    fixture.registry.set_fault(None);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V3);
}

#[tokio::test(start_paused = true)]
async fn the_background_rests_while_no_due_target_has_pending_pushes() {
    let fixture = fixture_of(replaying(), V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    fixture.registry.set_fault(None);
    fixture.cp("app/schema", V3).await.unwrap();
    fixture.backups[0].set_fault(Fault::Hang);
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.backups[0].requests();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = fixture.backups[0].requests().len();
    assert!((5..40).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_target_without_pending_pushes_causes_no_background_work() {
    let fixture = fixture_of(
        Choice {
            replay: true,
            ..choice_of(Settings {
                breaker: 0,
                ..Settings::default()
            })
        },
        V1,
    )
    .await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.backups[0].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    fixture.backups[0].set_fault(None);
    fixture.cp("app/schema", V3).await.unwrap();
    // A task that never rests would stop the paused clock, and this sleep would never end.
    tokio::time::sleep(Duration::from_secs(600)).await;
    fixture.registry.set_fault(None);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V3);
}

#[tokio::test]
async fn a_push_that_lost_is_not_made_by_the_background() {
    for _ in 0..50 {
        let fixture = Fixture::with(replaying());
        let other = fixture.another();
        other.mkdir("app").await.unwrap();
        let loser = fixture.open("app/schema", WRITE, true).await.unwrap();
        other.cp("app/schema", V1).await.unwrap();
        loser.write(0, V2).unwrap();
        assert_eq!(loser.close().await, Err(Error::Stale));
        tokio::time::sleep(Duration::from_millis(2)).await;
        for store in fixture.all() {
            assert_eq!(store.content("app/schema").unwrap(), V1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_panics_is_an_outage_of_its_target_alone() {
    let fixture = fixture_of(replaying(), V1).await;
    fixture.registry.set_fault(Fault::Panic);
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(fixture.cp("app/schema", V2).await, Ok(()));
    fixture.registry.set_fault(None);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn the_background_goes_on_after_it_has_met_a_bug() {
    use crate::fault_injection::{Bug, inject};
    let fixture = fixture_of(replaying(), V1).await;
    inject(Some(Bug::BackgroundPanics));
    fixture.backups[0].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    fixture.cp(".atlasfs/jobs", b"verify").await.unwrap();
    fixture.wait().await;
    inject(None);
    fixture.backups[0].set_fault(None);
    assert_eq!(fixture.json(".atlasfs/jobs").await["state"], "stopped");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(fixture.backups[0].content("app/schema").unwrap(), V2);
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("hit a bug"), "{events}");
}

#[tokio::test(start_paused = true)]
async fn every_backup_of_five_catches_up() {
    let stores: Vec<Memory> = (0..6).map(|_| Memory::default()).collect();
    let drivers = stores
        .iter()
        .map(|store| -> Arc<dyn Backend> { Arc::new(store.clone()) });
    let fixture = Fixture::with(Choice {
        replay: true,
        drivers: Some(drivers.collect()),
        ..choice()
    });
    stores[5].set_fault(Some(Fault::Fail(Kind::Unreachable)));
    fixture.cp("app/schema", V1).await.unwrap();
    assert_eq!(stores[5].content("app/schema"), None);
    stores[5].set_fault(None);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(stores[5].content("app/schema").unwrap(), V1);
}
