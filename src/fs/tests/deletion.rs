//! Deletions: the registry decides, targets that missed one catch up, and nothing comes back.

use std::sync::Arc;
use std::time::Duration;

use super::kernel::{Choice, Fixture, WRITE, WRITE_ANEW};
use super::{V1, V2};
use crate::fs::Error;
use crate::registry::{Durability, Settings};
use crate::store::{Fault, Kind, Memory};

fn choice() -> Choice {
    Choice {
        named: vec!["app"],
        allow_delete: true,
        ..Choice::default()
    }
}

fn with_replay() -> Choice {
    Choice {
        replay: true,
        ..choice()
    }
}

fn with(settings: Settings) -> Choice {
    Choice {
        registry: settings,
        ..choice()
    }
}

async fn fixture_with(choice: Choice) -> Fixture {
    let fixture = Fixture::with(choice);
    fixture.cp("app/schema", V1).await.unwrap();
    fixture
}

/// The keys of the tombstones that a store holds.
fn tombstones(store: &Memory) -> Vec<String> {
    let mut keys = store.keys();
    keys.retain(|key| key.starts_with(".atlasfs/deleted/"));
    keys
}

fn is_deleted(store: &Memory) -> bool {
    store.content("app/schema").is_none() && tombstones(store).len() == 1
}

#[tokio::test]
async fn deleting_is_refused_unless_the_mount_allows_it() {
    let fixture = fixture_with(Choice {
        allow_delete: false,
        ..choice()
    })
    .await;
    for name in ["app/schema", "app/schema.hcl"] {
        assert_eq!(fixture.rm(name).await, Err(Error::NotPermitted));
    }
    assert_eq!(fixture.rm("app/none").await, Err(Error::NotFound));
    assert_eq!(fixture.rm("app/plans").await, Err(Error::IsDirectory));
    for store in fixture.all() {
        assert!(store.content("app/schema").is_some());
    }
}

#[tokio::test]
async fn a_deletion_removes_from_every_target() {
    let fixture = fixture_with(choice()).await;
    fixture.rm("app/schema.hcl").await.unwrap();
    for store in fixture.all() {
        assert!(is_deleted(store));
    }
    assert_eq!(fixture.stat("app/schema").await, Err(Error::NotFound));
    fixture.cp("app/schema", V1).await.unwrap();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_missed_a_deletion_catches_up_when_it_returns() {
    for restarts in [false, true] {
        let fixture = fixture_with(with_replay()).await;
        fixture.backups[1].set_fault(Fault::Fail(Kind::Unreachable));
        assert_eq!(fixture.rm("app/schema").await, Ok(()));
        assert_eq!(fixture.stat("app/schema").await, Err(Error::NotFound));
        let status = fixture.json(".atlasfs/status").await;
        assert_eq!(status["pending"][0]["targets"][0], "mem://backup-2");
        let fixture = match restarts {
            true => fixture.restart(with_replay()),
            false => fixture,
        };
        assert_eq!(fixture.stat("app/schema").await, Err(Error::NotFound));
        assert_eq!(fixture.backups[1].content("app/schema").unwrap(), V1);
        fixture.backups[1].set_fault(None);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(fixture.all().into_iter().all(is_deleted));
        let status = fixture.json(".atlasfs/status").await;
        assert_eq!(status["pending"].as_array().unwrap().len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pending_deletion_never_removes_a_later_push() {
    let fixture = fixture_with(with_replay()).await;
    fixture.backups[1].set_fault(Fault::FailWrites(Kind::Unreachable));
    fixture.rm("app/schema").await.unwrap();
    let other = fixture.another();
    fixture.wait().await;
    fixture.backups[1].set_fault(None);
    other.cp("app/schema", V2).await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pending_push_does_not_undo_another_mounts_deletion() {
    let fixture = Fixture::with(with_replay());
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V1).await.unwrap();
    let other = Fixture::with(Choice {
        stores: Some(fixture.all().map(Clone::clone)),
        ..choice()
    });
    assert_eq!(other.cat("app/schema").await.unwrap(), V1);
    fixture.registry.set_fault(None);
    // The first mount doesn't know yet that the registry is back.
    other.rm("app/schema").await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(fixture.all().into_iter().all(is_deleted));
    assert_eq!(fixture.stat("app/schema").await, Err(Error::NotFound));
}

/// Crashes amid a deletion that has met these faults at the registry and at the backups, and mounts
/// again with every target back.
async fn crash_amid_a_deletion(faults: [Fault; 2]) -> Fixture {
    let fixture = fixture_with(choice()).await;
    fixture.registry.set_fault(faults[0]);
    fixture
        .backups
        .iter()
        .for_each(|it| it.set_fault(faults[1]));
    let app = fixture.stat("app").await.unwrap().ino;
    let fs = fixture.fs.clone();
    drop(tokio::spawn(fs.unlink(
        app,
        std::ffi::OsStr::new("schema"),
        0,
    )));
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Copy the disk as a crash would leave it.
    let left = Arc::new(tempfile::tempdir().unwrap());
    let journal = |dir: &tempfile::TempDir| dir.path().join("journal");
    std::fs::create_dir(journal(&left)).unwrap();
    for entry in std::fs::read_dir(journal(&fixture.state_dir)).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            std::fs::copy(entry.path(), journal(&left).join(entry.file_name())).unwrap();
        }
    }
    let stores = Some(fixture.all().map(Memory::copy));
    let fixture = Fixture::with(Choice {
        stores,
        state_dir: Some(left),
        ..with_replay()
    });
    tokio::time::sleep(Duration::from_secs(100)).await;
    fixture
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_the_registry_has_made_at_a_crash_is_rolled_forward() {
    let fixture = crash_amid_a_deletion([Fault::Slow(Duration::from_millis(100)), Fault::Hang]);
    let fixture = fixture.await;
    assert!(fixture.all().into_iter().all(is_deleted));
    assert_eq!(fixture.stat("app/schema").await, Err(Error::NotFound));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_the_registry_has_not_made_at_a_crash_is_never_made() {
    let fixture = crash_amid_a_deletion([Fault::Hang, Fault::Hang]).await;
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
    }
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["healthy"], true, "{status:#}");
}

#[tokio::test(start_paused = true)]
async fn with_durability_all_a_deletion_says_that_a_backup_has_missed_it() {
    let settings = Settings {
        durability: Durability::All,
        ..Settings::default()
    };
    let fixture = fixture_with(with(settings)).await;
    fixture.backups[0].set_fault(Fault::Fail(Kind::Denied));
    assert_eq!(fixture.rm("app/schema").await, Err(Error::Denied));
    assert_eq!(fixture.stat("app/schema").await, Err(Error::NotFound));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_the_registry_refuses_changes_nothing_later_either() {
    let fixture = fixture_with(with_replay()).await;
    fixture.registry.set_fault(Fault::FailWrites(Kind::Denied));
    assert_eq!(fixture.rm("app/schema").await, Err(Error::Denied));
    fixture.registry.set_fault(None);
    tokio::time::sleep(Duration::from_secs(100)).await;
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
    }
}

#[tokio::test]
async fn nothing_is_deleted_anywhere_while_the_registry_is_out() {
    let fixture = fixture_with(choice()).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    assert_eq!(fixture.rm("app/schema").await, Err(Error::Io));
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_artifact_is_not_replayed_to_a_backup() {
    let fixture = fixture_with(with_replay()).await;
    fixture.backups[1].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    fixture.backups[1].set_fault(None);
    fixture.rm("app/schema").await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    for store in fixture.all() {
        assert_eq!(store.content("app/schema"), None);
    }
    assert_eq!(fixture.json(".atlasfs/status").await["journal"]["bytes"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_artifact_is_not_replayed_to_the_registry() {
    let fixture = fixture_with(with_replay()).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    fixture.registry.set_fault(None);
    assert_eq!(fixture.rm("app/schema").await, Ok(()));
    tokio::time::sleep(Duration::from_secs(100)).await;
    for store in fixture.all() {
        assert_eq!(store.content("app/schema"), None);
    }
    assert_eq!(fixture.cat("app/schema").await, Err(Error::NotFound));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_keeps_its_deadline_also_when_it_has_to_list_first() {
    let fixture = fixture_with(choice()).await;
    fixture.backups[0].set_fault(Fault::Hang);
    fixture
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(900)));
    fixture.wait().await;
    let app = fixture.stat("app").await.unwrap().ino;
    let begun = tokio::time::Instant::now();
    let name = std::ffi::OsStr::new("schema");
    assert_eq!(fixture.fs.clone().unlink(app, name, 0).await, Ok(()));
    assert!(begun.elapsed() <= Duration::from_millis(15_010));
    // The deletion doesn't start while an earlier push uses up the whole time.
    let fixture = fixture_with(choice()).await;
    let app = fixture.stat("app").await.unwrap().ino;
    let stores = fixture.all();
    stores.iter().for_each(|store| store.set_fault(Fault::Hang));
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    let push = tokio::spawn(fixture.fs.clone().flush(file.fh, 0));
    fixture.wait().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(
        fixture.fs.clone().unlink(app, name, 0).await,
        Err(Error::Io)
    );
    assert!(begun.elapsed() <= Duration::from_millis(15_010));
    assert_eq!(push.await.unwrap(), Err(Error::Io));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_leaves_no_empty_file() {
    let fixture = Fixture::with(choice());
    let touched = fixture.open("app/schema", WRITE, true).await.unwrap();
    touched.close().await.unwrap();
    let other = fixture.another();
    other.mkdir("app").await.unwrap();
    other.cp("app/schema", V1).await.unwrap();
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(fixture.rm("app/schema").await, Ok(()));
    assert_eq!(fixture.cat("app/schema").await, Err(Error::NotFound));
}

#[tokio::test]
async fn the_tombstone_is_there_before_the_artifact_goes() {
    let fixture = fixture_with(choice()).await;
    fixture.registry.requests();
    fixture.rm("app/schema").await.unwrap();
    let requests = fixture.registry.requests().into_iter();
    let changes = requests.filter(|it| it.starts_with("PUT") || it.starts_with("DELETE"));
    let changes: Vec<String> = changes.collect();
    assert!(
        changes[0].starts_with("PUT .atlasfs/deleted/"),
        "{changes:?}"
    );
    assert_eq!(changes[1], "DELETE app/schema");
}

#[tokio::test(start_paused = true)]
async fn a_touched_name_is_gone_with_a_degraded_deletion() {
    let fixture = Fixture::with(with(Settings {
        durability: Durability::All,
        ..Settings::default()
    }));
    let touched = fixture.open("app/schema", WRITE, true).await.unwrap();
    touched.close().await.unwrap();
    fixture.backups[1].set_fault(Fault::LoseReplies);
    assert_eq!(fixture.cp("app/schema", V1).await, Err(Error::Io));
    assert_eq!(fixture.rm("app/schema").await, Err(Error::Io));
    assert_eq!(fixture.registry.content("app/schema"), None);
    assert_eq!(fixture.cat("app/schema").await, Err(Error::NotFound));
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_does_not_tell_what_it_holds_deletes_nothing() {
    let fixture = fixture_with(choice()).await;
    fixture
        .registry
        .set_fault(Fault::FailHeads(Kind::Unreachable));
    assert_eq!(fixture.rm("app/schema").await, Err(Error::Io));
    fixture.registry.set_fault(None);
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
        assert!(tombstones(store).is_empty());
    }
    fixture.rm("app/schema").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_two_removals_at_once_the_second_deletes_no_later_push() {
    let fixture = fixture_with(choice()).await;
    let (one, two) = tokio::join!(fixture.rm("app/schema"), fixture.rm("app/schema"));
    assert!(one.is_ok() || two.is_ok());
    for store in fixture.all() {
        for key in tombstones(store) {
            let tombstone = store.content(&key).unwrap();
            let tombstone = String::from_utf8(tombstone.to_vec()).unwrap();
            assert!(tombstone.contains("sha256"), "{tombstone}");
        }
    }
}
