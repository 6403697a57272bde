//! Signed stamps: with a key, only signed stamps count as pushes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::fixtures::unstamped_lists;
use super::kernel::{Choice, Fixture};
use super::reconcile::{SOON, all_hold, choice, from_another_machine, order, repairing};
use super::{V1, V2, V3};
use crate::fs::Error;
use crate::model::{Base, Format, Item, Lineage, RepoName, Sha256, Stamp};
use crate::store::{Fault, Kind, Memory, Role, StampKeys, Target, Tombstone};

const OLD: &str = "abababababababababababababababababababababababababababababababab";
const NEW: &str = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";

fn keys(text: &str) -> Option<Arc<StampKeys>> {
    Some(Arc::new(StampKeys::parse(text).unwrap()))
}

fn signing(choice: Choice) -> Choice {
    Choice {
        stamp_keys: keys(OLD),
        ..choice
    }
}

/// A mount with a key, and a signed push on every target.
async fn signed(stores: Option<[Memory; 3]>) -> Fixture {
    let fixture = Fixture::with(signing(Choice { stores, ..choice() }));
    fixture.cp("app/schema", V1).await.unwrap();
    for store in fixture.all() {
        assert!(store.object("app/schema").unwrap().mac.is_some());
    }
    fixture
}

/// Puts a newer content with a perfect stamp, but without the key, into a store.
fn forge(store: &Memory, content: &[u8]) {
    let there = store.object("app/schema").and_then(|there| there.stamp);
    let stamp = Stamp {
        base: there.map_or(Base::New, |there| Base::Content(there.sha256)),
        ..Stamp::new(
            there.map_or(1, |there| there.when + 1_000_000_000),
            content,
            Format::Hcl,
        )
    };
    store.place("app/schema", content, Some(stamp));
}

async fn refused(fixture: &Fixture) -> Vec<String> {
    let events = fixture.events("stamp-refused").await;
    let target = |event: &Value| event["target"].as_str().unwrap().to_owned();
    events.iter().map(target).collect()
}

#[tokio::test(start_paused = true)]
async fn a_forged_push_in_a_backup_reaches_no_reader_and_no_target() {
    for stores in [None, unstamped_lists()] {
        let fixture = signed(stores).await;
        forge(&fixture.backups[0], V2);
        let fixture = from_another_machine(fixture, signing(choice()));
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        // A mount without a cache reads the other backup.
        let cold = from_another_machine(fixture, signing(choice()));
        assert_eq!(cold.cat("app/schema").await.unwrap(), V1);
        cold.registry.set_fault(None);
        let report = order(&cold, "sync").await;
        assert_eq!(report["repaired"], 1, "{report:#}");
        assert!(all_hold(&cold, V1));
        assert_eq!(order(&cold, "verify").await["differences"], 0);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_key_the_same_forgery_would_win() {
    let fixture = Fixture::with(choice());
    fixture.cp("app/schema", V1).await.unwrap();
    forge(&fixture.backups[0], V2);
    let fixture = from_another_machine(fixture, repairing());
    tokio::time::sleep(SOON).await;
    assert!(all_hold(&fixture, V2));
}

#[tokio::test(start_paused = true)]
async fn a_forged_stamp_is_reported_and_replaced_by_the_next_push() {
    let fixture = signed(None).await;
    forge(&fixture.backups[0], V2);
    let fixture = from_another_machine(fixture, signing(choice()));
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(refused(&fixture).await, ["mem://backup-1"]);
    // While the registry is out, the first backup decides: a forgery is no push that has won.
    fixture.cp("app/schema", V3).await.unwrap();
    for backup in &fixture.backups {
        assert_eq!(backup.content("app/schema").unwrap(), V3);
    }
}

#[tokio::test(start_paused = true)]
async fn an_artifact_that_only_a_forger_knows_stays_in_its_backup() {
    let fixture = signed(None).await;
    forge(&fixture.backups[1], V1);
    fixture.backups[1].place("app/plans/p1", &super::fixtures::plan("p1"), None);
    fixture.backups[1].place("evil/schema", V2, Some(Stamp::new(7, V2, Format::Hcl)));
    let fixture = from_another_machine(fixture, signing(repairing()));
    tokio::time::sleep(SOON).await;
    order(&fixture, "sync").await;
    for store in [&fixture.registry, &fixture.backups[0]] {
        assert_eq!(store.content("app/plans/p1"), None);
        assert_eq!(store.content("evil/schema"), None);
    }
    let report = order(&fixture, "verify").await;
    let found = report["found"].as_array().unwrap();
    let there = found.iter().filter(|found| found["problem"] == "corrupt");
    let there: Vec<_> = there.map(|found| &found["target"]).collect();
    assert_eq!(there, ["mem://backup-2"; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_stamp_that_was_moved_to_another_artifact_counts_as_none() {
    let fixture = signed(None).await;
    fixture.cp("app/schema", V2).await.unwrap();
    fixture.mkdir("app2").await.unwrap();
    fixture.cp("app2/schema", V3).await.unwrap();
    let moved = fixture.backups[0].object("app2/schema").unwrap();
    fixture.backups[0].place_copy("app/schema", &moved);
    let fixture = from_another_machine(fixture, signing(repairing()));
    tokio::time::sleep(SOON).await;
    assert!(all_hold(&fixture, V2));
    assert!(refused(&fixture).await.contains(&"mem://backup-1".into()));
}

/// Deletes the artifact in the registry's name, with these keys.
async fn bury(store: &Memory, stamp_keys: Option<Arc<StampKeys>>) {
    let pushed = store.object("app/schema").unwrap().stamp.unwrap();
    let mut target = Target::new(Role::Backup(0), "mem://forger", Arc::new(store.clone()));
    if let Some(keys) = stamp_keys {
        target.set_stamp_keys(keys);
    }
    let tombstone = Tombstone {
        item: Item::Schema,
        when: pushed.when + 1,
        deletes: Some(Lineage::new(&pushed, true, &[])),
    };
    let id = crate::model::ArtifactId {
        repo: RepoName::parse("app").unwrap(),
        item: Item::Schema,
    };
    let end = tokio::time::Instant::now() + SOON;
    target.put_tombstone(&id, &tombstone, end).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_forged_tombstone_deletes_nothing_and_is_reported() {
    for (forger, holds) in [(None, true), (keys(NEW), true), (keys(OLD), false)] {
        let fixture = signed(None).await;
        bury(&fixture.backups[0], forger).await;
        // The registry lacks it: only a tombstone keeps it from coming back.
        fixture.registry.remove("app/schema");
        let fixture = from_another_machine(fixture, signing(repairing()));
        tokio::time::sleep(SOON).await;
        assert_eq!(all_hold(&fixture, V1), holds);
        let told = refused(&fixture).await;
        assert_eq!(told == ["mem://backup-1"], holds, "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_signed_and_passes_a_forgery_in_a_backup() {
    let fixture = signed(None).await;
    forge(&fixture.backups[0], V2);
    fixture.rm("app/schema").await.unwrap();
    let keys = fixture.registry.keys();
    let tombstone = keys.iter().find(|key| key.starts_with(".atlasfs/deleted/"));
    let tombstone = fixture.registry.object(tombstone.unwrap()).unwrap();
    assert!(tombstone.mac.is_some());
    assert_eq!(fixture.registry.content("app/schema"), None);
    assert_eq!(fixture.backups[1].content("app/schema"), None);
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["pending"], serde_json::json!([]));
    assert_eq!(fixture.cat("app/schema").await, Err(Error::NotFound));
}

#[tokio::test(start_paused = true)]
async fn sync_signs_the_pushes_of_before_the_key() {
    for stores in [None, unstamped_lists()] {
        let fixture = Fixture::with(Choice { stores, ..choice() });
        fixture.cp("app/schema", V1).await.unwrap();
        fixture.cp("app/schema", V2).await.unwrap();
        fixture.backups[1].remove("app/schema");
        let pushed = fixture.registry.object("app/schema").unwrap().stamp;
        let before = from_another_machine(fixture, choice());
        assert_eq!(before.cat("app/schema").await.unwrap(), V2);
        before.settle().await;
        // The index knows the unsigned push.
        let fixture = before.restart(signing(choice()));
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
        let report = order(&fixture, "sync").await;
        assert_eq!(report["repaired"], 3, "{report:#}");
        let stamps = fixture.all().map(|store| {
            let object = store.object("app/schema").unwrap();
            assert!(object.mac.is_some());
            object.stamp
        });
        assert_eq!(stamps, [pushed; 3]);
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
        assert_eq!(order(&fixture, "verify").await["differences"], 0);
        let status = fixture.json(".atlasfs/status").await;
        assert_eq!(status["healthy"], true, "{status:#}");
        let other = from_another_machine(fixture, signing(choice()));
        other.registry.set_fault(Fault::Fail(Kind::Unreachable));
        assert_eq!(other.cat("app/schema").await.unwrap(), V2);
        assert_eq!(refused(&other).await, [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn pushes_of_before_the_key_are_replaced_and_deleted() {
    for stores in [None, unstamped_lists()] {
        let fixture = Fixture::with(Choice { stores, ..choice() });
        fixture.cp("app/schema", V1).await.unwrap();
        let copies = fixture.all().map(Memory::copy);
        let fixture = from_another_machine(fixture, signing(choice()));
        fixture.cat("app/schema").await.unwrap();
        fixture.cp("app/schema", V2).await.unwrap();
        assert!(all_hold(&fixture, V2));
        for store in fixture.all() {
            assert!(store.object("app/schema").unwrap().mac.is_some());
        }
        let fixture = Fixture::with(signing(Choice {
            stores: Some(copies),
            ..choice()
        }));
        fixture.rm("app/schema").await.unwrap();
        assert_eq!(fixture.cat("app/schema").await, Err(Error::NotFound));
        // A backup's copy is nobody's push: it comes back nowhere.
        order(&fixture, "sync").await;
        assert_eq!(fixture.registry.content("app/schema"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_push_gets_its_stamp_back_in_the_registry() {
    let fixture = signed(None).await;
    let pushed = fixture.registry.object("app/schema").unwrap();
    fixture.registry.place("app/schema", V1, None);
    let fixture = from_another_machine(fixture, signing(choice()));
    order(&fixture, "sync").await;
    let object = fixture.registry.object("app/schema").unwrap();
    assert_eq!((object.stamp, object.mac), (pushed.stamp, pushed.mac));
}

#[tokio::test(start_paused = true)]
async fn pushes_stay_valid_through_a_change_of_keys() {
    let mut fixture = signed(None).await;
    let both = format!("{OLD}\n{NEW}");
    let swapped = format!("{NEW}\n{OLD}");
    for (text, content) in [(both.as_str(), V2), (&swapped, V3)] {
        fixture = from_another_machine(
            fixture,
            Choice {
                stamp_keys: keys(text),
                ..choice()
            },
        );
        fixture.cat("app/schema").await.unwrap();
        fixture.cp("app/schema", content).await.unwrap();
        assert_eq!(refused(&fixture).await, [""; 0]);
    }
    // Each push since the swap is the new key's, so the old one can go.
    let fixture = from_another_machine(
        fixture,
        Choice {
            stamp_keys: keys(NEW),
            ..choice()
        },
    );
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V3);
    assert_eq!(refused(&fixture).await, [""; 0]);
    assert_eq!(order(&fixture, "verify").await["differences"], 0);
    let stranger = from_another_machine(fixture, signing(choice()));
    stranger.cat("app/schema").await.unwrap();
    assert_ne!(refused(&stranger).await, [""; 0]);
}

#[tokio::test]
async fn a_mount_without_a_key_reads_signed_pushes() {
    let fixture = signed(None).await;
    fixture.cp("app/schema", V2).await.unwrap();
    let keyless = from_another_machine(fixture, choice());
    for out in 0..2 {
        assert_eq!(keyless.cat("app/schema").await.unwrap(), V2);
        keyless.all()[out].set_fault(Fault::Fail(Kind::Unreachable));
    }
    assert_eq!(keyless.cat("app/schema").await.unwrap(), V2);
    assert_eq!(refused(&keyless).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_pending_push_is_signed_when_replay_makes_it() {
    let fixture = signed(None).await;
    fixture.backups[1].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    fixture.backups[1].set_fault(None);
    let restarted = fixture.restart(signing(super::fixtures::replaying()));
    tokio::time::sleep(SOON).await;
    let object = restarted.backups[1].object("app/schema").unwrap();
    assert_eq!(object.stamp.unwrap().sha256, Sha256::of(V2));
    assert!(object.mac.is_some());
}
