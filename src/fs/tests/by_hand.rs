//! Content that another tool put into a store: reconcile gives it away only if a push could hold it.

use std::time::Duration;

use super::fixtures::unstamped_lists;
use super::kernel::{Choice, Fixture};
use super::reconcile::{SOON, all_hold, choice, from_another_machine, order, repairing};
use super::{V1, V2};
use crate::store::Memory;

const BY_HAND: &[u8] = b"schema \"by_hand\" {}\n";

#[tokio::test(start_paused = true)]
async fn content_put_into_the_registry_by_hand_reaches_the_backups() {
    for stores in [None, unstamped_lists()] {
        let fixture = Fixture::with(Choice { stores, ..choice() });
        fixture.cp("app/schema", V1).await.unwrap();
        fixture.registry.place("app/schema", BY_HAND, None);
        let fixture = from_another_machine(fixture, repairing());
        tokio::time::sleep(SOON).await;
        assert!(all_hold(&fixture, BY_HAND));
        assert_eq!(fixture.cat("app/schema").await.unwrap(), BY_HAND);
        assert_eq!(order(&fixture, "verify").await["differences"], 0);
    }
}

#[tokio::test(start_paused = true)]
async fn content_put_by_hand_that_no_push_may_hold_stays_where_it_is() {
    let page: &[u8] = b"<html><body>Please log in</body></html>";
    for (stores, by_hand) in [
        (None, page),
        (unstamped_lists(), page),
        (None, b"\n"),
        (None, b"schema \"s\" {\n"),
    ] {
        let fixture = Fixture::with(Choice { stores, ..choice() });
        fixture.cp("app/schema", V1).await.unwrap();
        fixture.registry.place("app/schema", by_hand, None);
        fixture.registry.place("app/plans/p1", page, None);
        let fixture = from_another_machine(fixture, repairing());
        tokio::time::sleep(SOON).await;
        for backup in &fixture.backups {
            assert_eq!(backup.content("app/schema").unwrap(), V1);
            assert_eq!(backup.content("app/plans/p1"), None);
        }
        assert_eq!(fixture.cat("app/schema").await.unwrap(), by_hand);
        let event = fixture.events("not-given").await.pop().unwrap();
        assert_eq!(event["target"], "mem://registry", "{event}");
        for job in ["verify", "sync"] {
            let report = order(&fixture, job).await;
            assert_eq!(
                (&report["differences"], &report["repaired"]),
                (&4.into(), &0.into())
            );
            for found in report["found"].as_array().unwrap() {
                let error = found["error"].as_str().unwrap();
                assert!(error.contains("put there by hand"), "{error}");
            }
        }
        fixture.cp("app/schema", V2).await.unwrap();
        assert!(all_hold(&fixture, V2), "a push replaces it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_site_without_validation_gives_away_what_it_would_push() {
    let fixture = Fixture::with(choice());
    fixture.cp("app/schema", V1).await.unwrap();
    fixture
        .registry
        .place("app/schema", b"schema \"s\" {\n", None);
    let mut choice = repairing();
    choice.registry.validate = false;
    let fixture = from_another_machine(fixture, choice);
    tokio::time::sleep(SOON).await;
    assert!(all_hold(&fixture, b"schema \"s\" {\n"));
}

#[tokio::test(start_paused = true)]
async fn content_that_a_mount_only_read_is_not_restored_as_its_push() {
    let fixture = Fixture::with(Choice {
        stores: Some([
            Memory::ignoring_conditions(),
            Memory::default(),
            Memory::default(),
        ]),
        untried: true,
        ..choice()
    });
    let end = tokio::time::Instant::now() + SOON;
    fixture.fs.registry.try_conditions(end).await;
    fixture.cp("app/schema", V1).await.unwrap();
    let pushed = fixture.registry.object("app/schema").unwrap().stamp;
    fixture.registry.place("app/schema", BY_HAND, None);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), BY_HAND);
    fixture.registry.place("app/schema", V1, pushed);
    let report = order(&fixture, "sync").await;
    assert!(all_hold(&fixture, V1), "{report:#}");
}
