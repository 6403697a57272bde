//! Lost is not deleted: a registry that lacks something without a tombstone.

use std::time::Duration;

use super::fixtures::{choice, fixture_of, plan};
use super::kernel::{Choice, Fixture};
use super::reconcile::{from_another_machine, order};
use super::{V1, V2};
use crate::fs::Error;
use crate::store::{Fault, Kind, Memory};

/// Empties a store, as `aws s3 rm --recursive` does.
fn empty(store: &Memory) {
    store.keys().iter().for_each(|key| store.remove(key));
}

async fn event(fixture: &Fixture, name: &str) -> bool {
    let events = fixture.cat(".atlasfs/events").await.unwrap();
    let events = String::from_utf8(events).unwrap();
    events.contains(&format!("\"event\":\"{name}\""))
}

#[tokio::test(start_paused = true)]
async fn backups_serve_what_the_registry_has_lost() {
    for is_one in [true, false] {
        let fixture = fixture_of(choice(), V1).await;
        fixture.cp("app/plans/p1", &plan("p1")).await.unwrap();
        match is_one {
            true => fixture.registry.remove("app/schema"),
            false => empty(&fixture.registry),
        }
        fixture.wait().await;
        assert_eq!(
            fixture.ls("app").await.unwrap(),
            ["schema", "schema.hcl", "plans"]
        );
        assert_eq!(fixture.cat("app/schema.hcl").await.unwrap(), V1);
        assert_eq!(fixture.cat("app/plans/p1").await.unwrap(), plan("p1"));
        assert!(event(&fixture, "lost").await);
        let status = fixture.json(".atlasfs/status").await;
        assert_eq!(status["healthy"], false);
        assert_eq!(
            status["lost"].as_array().unwrap().len(),
            if is_one { 1 } else { 2 }
        );
        // Reconcile gives it back.
        order(&fixture, "sync").await;
        assert_eq!(fixture.registry.content("app/schema").unwrap(), V1);
        fixture.wait().await;
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        assert_eq!(fixture.ls("app/plans").await.unwrap(), ["p1"]);
        assert_eq!(fixture.json(".atlasfs/status").await["healthy"], true);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backup_serves_what_was_lost_and_is_in_no_cache() {
    let fixture = fixture_of(choice(), V1).await;
    let other = fixture.another();
    other.ls("app").await.unwrap();
    fixture.registry.remove("app/schema");
    // By the listing, or by the registry's answer to the read.
    for wait in [false, true] {
        if wait {
            other.wait().await;
        }
        assert_eq!(other.cat("app/schema").await.unwrap(), V1);
    }
    assert!(event(&other, "lost").await);
}

#[tokio::test(start_paused = true)]
async fn what_has_a_tombstone_is_deleted_and_not_lost() {
    let fixture = Fixture::with(Choice {
        allow_delete: true,
        ..choice()
    });
    fixture.cp("app/schema", V1).await.unwrap();
    let other = fixture.another();
    assert_eq!(other.cat("app/schema").await.unwrap(), V1);
    fixture.rm("app/schema").await.unwrap();
    other.wait().await;
    assert_eq!(other.cat("app/schema").await.err(), Some(Error::NotFound));
    assert!(!event(&other, "lost").await);
    assert_eq!(other.json(".atlasfs/status").await["healthy"], true);
}

#[tokio::test(start_paused = true)]
async fn a_new_machine_deploys_while_the_registry_is_empty() {
    let fixture = fixture_of(choice(), V1).await;
    empty(&fixture.registry);
    let fixture = from_another_machine(fixture, choice());
    assert_eq!(fixture.cat("app/schema.hcl").await.unwrap(), V1);
    assert!(event(&fixture, "lost").await);
    assert_eq!(fixture.json(".atlasfs/status").await["healthy"], false);
    // An earlier deletion still holds.
    let deleting = || Choice {
        allow_delete: true,
        ..choice()
    };
    let fixture = fixture_of(deleting(), V1).await;
    fixture.backups[1].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.rm("app/schema").await.unwrap();
    fixture.backups[1].set_fault(None);
    let fixture = from_another_machine(fixture, choice());
    assert_eq!(fixture.cat("app/schema").await.err(), Some(Error::NotFound));
}

#[tokio::test(start_paused = true)]
async fn a_new_machine_deploys_a_tag_while_the_registry_is_empty() {
    let fixture = fixture_of(choice(), V1).await;
    let version = fixture.ls("app/versions").await.unwrap().remove(0);
    let link = format!("../versions/{version}");
    fixture.symlink(&link, "app/tags/prod").await.unwrap();
    let before = fixture.registry.keys();
    empty(&fixture.registry);
    let unnamed = Choice {
        named: Vec::new(),
        ..choice()
    };
    let fixture = from_another_machine(fixture, unnamed);
    assert_eq!(fixture.ls("").await.unwrap(), ["app"]);
    assert_eq!(fixture.readlink("app/tags/prod").await.unwrap(), link);
    let path = format!("app/versions/{version}/schema.hcl");
    assert_eq!(fixture.cat(&path).await.unwrap(), V1);
    assert_eq!(fixture.ls("app/versions").await.unwrap(), [version]);
    order(&fixture, "sync").await;
    assert_eq!(fixture.registry.keys(), before);
}

#[tokio::test(start_paused = true)]
async fn a_push_over_lost_content_succeeds() {
    let fixture = fixture_of(choice(), V1).await;
    empty(&fixture.registry);
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    fixture.cp("app/schema", V2).await.unwrap();
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
    assert_eq!(fixture.json(".atlasfs/status").await["healthy"], true);
}

#[tokio::test(start_paused = true)]
async fn reconcile_starts_at_once_when_something_is_lost() {
    let mut choice = choice();
    choice.replay = true;
    choice.registry.repair = Duration::from_secs(3600);
    let fixture = fixture_of(choice, V1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    fixture.registry.remove("app/schema");
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V1);
}
