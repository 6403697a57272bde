//! What the journal keeps, over a crash and a restart.

use std::time::Duration;

use super::fixtures::{choice, choice_of, set_all, unstamped_lists, world_of};
use super::kernel::{Choice, WRITE, WRITE_ANEW, World};
use super::{V1, V2, V3};
use crate::fs::Error;
use crate::registry::Settings;
use crate::store::{Fault, Kind};

fn holds_a_record(journal: &std::path::Path) -> bool {
    let mut entries = std::fs::read_dir(journal)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.any(|path| path.is_file() && path.extension().is_none())
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => {
                std::fs::create_dir_all(&target).unwrap();
                copy_dir(&entry.path(), &target);
            }
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_survives_a_restart_and_is_given_to_all() {
    for stores in [None, unstamped_lists()] {
        let world = world_of(Choice { stores, ..choice() }, V1).await;
        world.registry.set_fault(Fault::Fail(Kind::Unreachable));
        world.backups[1].set_fault(Fault::Fail(Kind::Busy));
        world.cp("app/schema", V2).await.unwrap();
        let world = world.restart(Choice {
            redo: true,
            ..choice()
        });
        set_all(&world, Fault::Fail(Kind::Unreachable));
        assert_eq!(
            world.json(".atlasfs/status").await["pending"][0]["artifact"],
            "app/schema"
        );
        set_all(&world, None);
        assert_eq!(
            world.cat("app/schema").await.unwrap(),
            V2,
            "never the old one again"
        );
        tokio::time::sleep(Duration::from_secs(100)).await;
        for store in world.all() {
            assert_eq!(store.content("app/schema").unwrap(), V2);
        }
        assert_eq!(world.cat("app/schema").await.unwrap(), V2);
        assert_eq!(world.cp("app/schema", V3).await, Ok(()));
    }
}

/// Crashes while a push is in doubt, and mounts again with every target back.
async fn crash_in_doubt(world: World) -> World {
    set_all(&world, Fault::Hang);
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    let close = tokio::spawn(world.fs.clone().flush(file.fh, 0));
    let journal = world.state_dir.path().join("journal");
    while !holds_a_record(&journal) {
        tokio::task::yield_now().await;
    }
    close.abort();
    let state_dir = std::sync::Arc::clone(&world.state_dir);
    let copy = std::sync::Arc::new(tempfile::tempdir().unwrap());
    copy_dir(state_dir.path(), copy.path());
    set_all(&world, None);
    let stores = Some([
        world.registry.clone(),
        world.backups[0].clone(),
        world.backups[1].clone(),
    ]);
    World::with(Choice {
        stores,
        redo: true,
        state_dir: Some(copy),
        ..choice()
    })
}

#[tokio::test(start_paused = true)]
async fn what_was_in_doubt_at_a_crash_is_rolled_forward() {
    let world = crash_in_doubt(world_of(choice(), V1).await).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_push_is_kept_through_a_restart_and_not_pushed_by_it() {
    let world = world_of(choice(), V1).await;
    set_all(&world, Fault::FailWrites(Kind::Unreachable));
    assert_eq!(world.cp("app/schema", V2).await, Err(Error::Io));
    set_all(&world, None);
    let world = world.restart(Choice {
        redo: true,
        ..choice()
    });
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    let status = world.json(".atlasfs/status").await;
    let path = status["unpushed"][0]["path"].as_str().unwrap();
    assert_eq!(world.cat(path).await.unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn a_full_journal_is_no_space_and_no_target_sees_the_push() {
    let world = World::with(choice_of(Settings {
        journal_bytes: 10,
        ..Settings::default()
    }));
    assert_eq!(world.cp("app/schema", V1).await, Err(Error::NoSpace));
    for store in world.all() {
        assert_eq!(store.content("app/schema"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_is_in_the_journal_before_the_first_target_sees_it() {
    let world = World::with(choice());
    set_all(&world, Fault::Slow(Duration::from_secs(1)));
    let file = world.open("app/schema", WRITE, true).await.unwrap();
    file.write(0, V1).unwrap();
    let close = tokio::spawn(world.fs.clone().flush(file.fh, 0));
    while !world
        .registry
        .requests()
        .iter()
        .any(|request| request.starts_with("PUT"))
    {
        tokio::task::yield_now().await;
    }
    let status = world.json(".atlasfs/status").await;
    assert_eq!(status["journal"]["bytes"], V1.len());
    assert_eq!(close.await.unwrap(), Ok(()));
    let status = world.json(".atlasfs/status").await;
    assert_eq!(status["journal"]["bytes"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_only_the_journal_knows_is_there_after_a_restart() {
    let world = World::new();
    world.registry.set_fault(Fault::FailWrites(Kind::Denied));
    world.mkdir("new").await.unwrap();
    world.cp("new/schema", V1).await.unwrap();
    let world = world.restart(Choice::default());
    assert_eq!(world.ls("").await.unwrap(), ["new"]);
    assert_eq!(world.cat("new/schema").await.unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_the_registry_has_not_got_yet_is_there_after_a_restart() {
    let world = World::new();
    world.registry.set_fault(Fault::Fail(Kind::Unreachable));
    world.mkdir("app").await.unwrap();
    world.cp("app/schema", V1).await.unwrap();
    let world = world.restart(Choice::default());
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    world.registry.set_fault(None);
    world.wait().await;
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    assert!(world.ls("").await.unwrap().contains(&"app".to_owned()));
}

/// Makes a journal that has no room for any document.
fn no_room() -> Choice {
    Choice {
        allow_delete: true,
        ..choice_of(Settings {
            journal_bytes: 10,
            ..Settings::default()
        })
    }
}

/// Returns why the last pushes failed, by the status.
async fn failures(world: &World) -> Vec<String> {
    let status = world.json(".atlasfs/status").await;
    assert_eq!(status["unpushed"], serde_json::json!([]));
    let errors = status["errors"].as_array().unwrap();
    assert_eq!(status["healthy"], errors.is_empty());
    let reasons = errors
        .iter()
        .map(|error| error["reason"].as_str().unwrap().to_owned());
    reasons.collect()
}

#[tokio::test(start_paused = true)]
async fn a_failure_without_bytes_survives_restarts_until_a_push_succeeds() {
    let world = world_of(choice(), V1).await.restart(no_room());
    assert_eq!(world.cp("app/schema", V2).await, Err(Error::NoSpace));
    let before = failures(&world).await;
    assert!(before[0].contains("could not be kept"), "{before:?}");
    let world = world.restart(choice());
    assert_eq!(failures(&world).await, before);
    assert_eq!(
        world.xattr("app/schema", "error").await,
        Some(before[0].clone())
    );
    let world = world.restart(choice());
    assert_eq!(failures(&world).await, before);
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    world.cp("app/schema", V2).await.unwrap();
    assert_eq!(failures(&world).await, [""; 0]);
    assert_eq!(failures(&world.restart(choice())).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_ends_a_failure_without_bytes_for_good() {
    let world = world_of(choice(), V1).await.restart(no_room());
    assert_eq!(world.cp("app/schema", V2).await, Err(Error::NoSpace));
    let world = world.restart(no_room());
    assert_eq!(failures(&world).await.len(), 1);
    world.rm("app/schema").await.unwrap();
    assert_eq!(failures(&world).await, [""; 0]);
    assert_eq!(failures(&world.restart(choice())).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_a_new_artifact_can_be_removed_after_restarts() {
    let open = Choice {
        named: vec![],
        ..no_room()
    };
    let world = World::with(open);
    world.mkdir("new").await.unwrap();
    assert_eq!(world.cp("new/schema", V1).await, Err(Error::NoSpace));
    let world = world.restart(Choice::default());
    assert_eq!(failures(&world).await.len(), 1);
    world.rm("new/schema").await.unwrap();
    assert_eq!(failures(&world).await, [""; 0]);
    assert_eq!(failures(&world.restart(choice())).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_push_rolled_forward_ends_an_earlier_failure_without_bytes() {
    let world = world_of(choice(), V1).await.restart(no_room());
    assert_eq!(world.cp("app/schema", V3).await, Err(Error::NoSpace));
    let world = world.restart(choice());
    assert_eq!(failures(&world).await.len(), 1);
    let world = crash_in_doubt(world).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(failures(&world).await, [""; 0]);
    assert_eq!(failures(&world.restart(choice())).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_keeps_its_bytes_replaces_one_without() {
    let world = world_of(choice(), V1).await.restart(no_room());
    assert_eq!(world.cp("app/schema", V2).await, Err(Error::NoSpace));
    let world = world.restart(choice());
    set_all(&world, Fault::FailWrites(Kind::Unreachable));
    assert_eq!(world.cp("app/schema", V3).await, Err(Error::Io));
    set_all(&world, None);
    let world = world.restart(choice());
    let status = world.json(".atlasfs/status").await;
    assert_eq!(status["errors"], serde_json::json!([]));
    let path = status["unpushed"][0]["path"].as_str().unwrap();
    world.rm(path).await.unwrap();
    assert_eq!(failures(&world).await, [""; 0]);
    assert_eq!(failures(&world.restart(choice())).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_empty_file_is_told_after_a_restart() {
    let world = world_of(choice(), V1).await;
    assert_eq!(world.cp("app/schema", b"").await, Err(Error::Invalid));
    let before = failures(&world).await;
    assert_eq!(before.len(), 1);
    assert_eq!(failures(&world.restart(choice())).await, before);
}
