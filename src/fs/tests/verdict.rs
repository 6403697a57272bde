//! A push whose close has failed stays failed, and its bytes are kept, however slow the disk is.

use std::time::Duration;

use super::fixtures::{choice, fixture_of, unpushed};
use super::kernel::{Choice, Fixture};
use super::{V1, V2};
use crate::fs::Error;
use crate::registry::{fail_reads, simulate_disk};
use crate::store::{Fault, Kind};

/// Longer than any push may take.
const HUNG: Duration = Duration::from_secs(20);

fn in_background() -> Choice {
    Choice {
        replay: true,
        allow_delete: true,
        ..choice()
    }
}

async fn pending(fixture: &Fixture) -> usize {
    let status = fixture.json(".atlasfs/status").await;
    status["pending"].as_array().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn a_push_that_outlasts_the_journal_is_kept_and_never_made() {
    let fixture = fixture_of(in_background(), V1).await;
    simulate_disk(HUNG);
    let begun = tokio::time::Instant::now();
    assert_eq!(fixture.cp("app/schema", V2).await, Err(Error::Io));
    assert!(begun.elapsed() <= Duration::from_millis(15_010));
    assert_eq!(
        unpushed(&fixture).await,
        [V2],
        "as soon as close has answered"
    );
    let error = fixture.xattr("app/schema", "error").await.unwrap();
    assert!(error.contains("disk did not answer"), "{error}");
    tokio::time::sleep(10 * HUNG).await;
    simulate_disk(None);
    tokio::time::sleep(10 * HUNG).await;
    assert_eq!(unpushed(&fixture).await, [V2]);
    assert_eq!(pending(&fixture).await, 0);
    let fixture = fixture.restart(in_background());
    tokio::time::sleep(10 * HUNG).await;
    assert_eq!(unpushed(&fixture).await, [V2]);
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_lost_after_the_close_are_reported_after_a_restart() {
    let fixture = fixture_of(in_background(), V1).await;
    simulate_disk(HUNG);
    assert_eq!(fixture.cp("app/schema", V2).await, Err(Error::Io));
    assert_eq!(unpushed(&fixture).await, [V2]);
    let error = fixture.xattr("app/schema", "error").await;
    let journal = fixture.state_dir.path().join("journal");
    std::fs::remove_dir_all(&journal).unwrap();
    std::fs::write(&journal, "in the way").unwrap();
    tokio::time::sleep(10 * HUNG).await;
    simulate_disk(None);
    assert!(unpushed(&fixture).await.is_empty());
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("not-kept"), "{events}");
    std::fs::remove_file(&journal).unwrap();
    let fixture = fixture.restart(in_background());
    assert!(error.is_some());
    assert_eq!(fixture.xattr("app/schema", "error").await, error);
    assert_eq!(fixture.json(".atlasfs/status").await["healthy"], false);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_outlasts_the_journal_is_never_made() {
    let fixture = fixture_of(in_background(), V1).await;
    simulate_disk(HUNG);
    assert_eq!(fixture.rm("app/schema").await, Err(Error::Io));
    tokio::time::sleep(10 * HUNG).await;
    simulate_disk(None);
    assert_eq!(pending(&fixture).await, 0);
    assert!(unpushed(&fixture).await.is_empty());
    let fixture = fixture.restart(in_background());
    tokio::time::sleep(10 * HUNG).await;
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_the_registry_refuses_ends_in_time_on_a_slow_disk() {
    let fixture = fixture_of(in_background(), V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Denied));
    simulate_disk(Duration::from_secs(3));
    let begun = tokio::time::Instant::now();
    assert_eq!(fixture.rm("app/schema").await, Err(Error::Denied));
    assert!(begun.elapsed() <= Duration::from_millis(15_010));
    simulate_disk(None);
}

#[tokio::test(start_paused = true)]
async fn a_journal_file_that_can_not_be_read_is_pushed_later() {
    let fixture = fixture_of(choice(), V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    fixture.registry.set_fault(None);
    fail_reads(3);
    let fixture = fixture.restart(choice());
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["healthy"], false);
    assert_eq!(status["pending"], serde_json::json!([]));
    let unread = &status["journal"]["unread"][0];
    assert!(
        unread["reason"]
            .as_str()
            .unwrap()
            .contains("the disk fails")
    );
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("journal-unread"), "{events}");
    fixture.fs.registry.start();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V2);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["journal"]["unread"], serde_json::json!([]));
}

#[tokio::test(start_paused = true)]
async fn every_mount_reports_damage_until_it_is_removed() {
    let fixture = fixture_of(choice(), V1).await;
    let name = format!("{:020}", 7);
    let journal = fixture.state_dir.path().join("journal");
    std::fs::write(journal.join(&name), b"damaged").unwrap();
    let mut fixture = fixture;
    for _ in 0..2 {
        fixture = fixture.restart(choice());
        let status = fixture.json(".atlasfs/status").await;
        assert_eq!(status["healthy"], false);
        let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
        assert!(events.contains("journal-damaged") && events.contains(&name));
    }
    let path = format!(".atlasfs/unpushed/damaged/{name}");
    assert_eq!(fixture.cat(&path).await.unwrap(), b"damaged");
    assert_eq!(
        fixture.ls(".atlasfs/unpushed/damaged").await.unwrap(),
        [name]
    );
    fixture.rm(&path).await.unwrap();
    assert_eq!(fixture.json(".atlasfs/status").await["healthy"], true);
    let fixture = fixture.restart(choice());
    assert_eq!(fixture.json(".atlasfs/status").await["healthy"], true);
}
