//! The journal across a crash and a restart.

use std::time::Duration;

use super::fixtures::{
    choice, choice_of, fixture_of, replaying, set_all, unpushed, unstamped_lists,
};
use super::kernel::{Choice, Fixture, WRITE, WRITE_ANEW};
use super::{V1, V2, V3};
use crate::fs::Error;
use crate::registry::{Durability, Settings, simulate_disk};
use crate::store::{Fault, Kind, Memory};

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
async fn an_acknowledged_push_survives_a_restart_and_reaches_all_targets() {
    for stores in [None, unstamped_lists()] {
        let fixture = fixture_of(Choice { stores, ..choice() }, V1).await;
        fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
        fixture.backups[1].set_fault(Fault::Fail(Kind::Busy));
        fixture.cp("app/schema", V2).await.unwrap();
        let fixture = fixture.restart(replaying());
        set_all(&fixture, Fault::Fail(Kind::Unreachable));
        assert_eq!(
            fixture.json(".atlasfs/status").await["pending"][0]["artifact"],
            "app/schema"
        );
        set_all(&fixture, None);
        assert_eq!(
            fixture.cat("app/schema").await.unwrap(),
            V2,
            "never the old one again"
        );
        tokio::time::sleep(Duration::from_secs(100)).await;
        for store in fixture.all() {
            assert_eq!(store.content("app/schema").unwrap(), V2);
        }
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
        assert_eq!(fixture.cp("app/schema", V3).await, Ok(()));
    }
}

/// Crashes amid a push that has met these faults, and mounts again without them.
async fn crash_amid_a_push(fixture: Fixture, faults: [Fault; 3]) -> Fixture {
    for (store, fault) in fixture.all().into_iter().zip(faults) {
        store.set_fault(fault);
    }
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    drop(tokio::spawn(fixture.fs.clone().flush(file.fh, 0)));
    tokio::time::sleep(Duration::from_secs(10)).await;
    crash(&fixture, choice())
}

/// Mounts again with a copy of the state directory and of the stores, as a crash leaves them: the
/// first mount goes on.
fn crash(fixture: &Fixture, choice: Choice) -> Fixture {
    let copy = std::sync::Arc::new(tempfile::tempdir().unwrap());
    copy_dir(fixture.state_dir.path(), copy.path());
    Fixture::with(Choice {
        stores: Some(fixture.all().map(Memory::copy)),
        replay: true,
        state_dir: Some(copy),
        ..choice
    })
}

#[tokio::test(start_paused = true)]
async fn a_push_that_no_target_has_at_a_crash_has_failed() {
    let faults = [Fault::Hang; 3];
    let fixture = crash_amid_a_push(fixture_of(choice(), V1).await, faults).await;
    fixture.backups[1].set_fault(Fault::Hang);
    assert_eq!(unpushed(&fixture).await, [V2], "already while in doubt");
    tokio::time::sleep(Duration::from_secs(100)).await;
    let reason = || fixture.fs.registry.unpushed()[0].failed.clone().unwrap();
    assert!(
        reason().contains("asking the targets"),
        "a backup may have it"
    );
    set_all(&fixture, None);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(reason().contains("push it again"), "{}", reason());
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
    }
    let fixture = fixture.restart(choice());
    assert_eq!(unpushed(&fixture).await, [V2]);
    fixture.cp("app/schema", V2).await.unwrap();
    assert!(unpushed(&fixture).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_push_that_a_target_has_at_a_crash_is_rolled_forward() {
    for faults in [
        [Fault::LoseReplies, Fault::Hang, Fault::Hang],
        [Fault::Hang, Fault::LoseReplies, Fault::Hang],
    ] {
        let fixture = crash_amid_a_push(fixture_of(choice(), V1).await, faults).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(unpushed(&fixture).await.is_empty());
        for store in fixture.all() {
            assert_eq!(store.content("app/schema").unwrap(), V2, "{faults:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_in_doubt_is_not_made_over_a_newer_one() {
    let faults = [Fault::Hang; 3];
    let fixture = crash_amid_a_push(fixture_of(choice(), V1).await, faults).await;
    fixture.another().cp("app/schema", V3).await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(unpushed(&fixture).await, [V2]);
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_that_fails_while_the_disk_hangs_is_not_made_after_a_crash() {
    let settings = Settings {
        durability: Durability::Registry,
        ..Settings::default()
    };
    let fixture = fixture_of(choice_of(settings.clone()), V1).await;
    fixture.registry.set_fault(Fault::Hang);
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    let close = tokio::spawn(fixture.fs.clone().flush(file.fh, 0));
    tokio::time::sleep(Duration::from_secs(1)).await;
    simulate_disk(Duration::from_secs(60));
    assert_eq!(close.await.unwrap(), Err(Error::Io));
    simulate_disk(None);
    let fixture = crash(&fixture, choice_of(settings));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(unpushed(&fixture).await, [V2]);
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_push_is_kept_through_a_restart_and_not_pushed_by_it() {
    let fixture = fixture_of(choice(), V1).await;
    set_all(&fixture, Fault::FailWrites(Kind::Unreachable));
    assert_eq!(fixture.cp("app/schema", V2).await, Err(Error::Io));
    set_all(&fixture, None);
    let fixture = fixture.restart(replaying());
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    let status = fixture.json(".atlasfs/status").await;
    let path = status["unpushed"][0]["path"].as_str().unwrap();
    assert_eq!(fixture.cat(path).await.unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn a_full_journal_is_no_space_and_no_target_sees_the_push() {
    let fixture = Fixture::with(choice_of(Settings {
        journal_bytes: 10,
        ..Settings::default()
    }));
    assert_eq!(fixture.cp("app/schema", V1).await, Err(Error::NoSpace));
    for store in fixture.all() {
        assert_eq!(store.content("app/schema"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_is_in_the_journal_before_the_first_target_sees_it() {
    let fixture = Fixture::with(choice());
    set_all(&fixture, Fault::Slow(Duration::from_secs(1)));
    let file = fixture.open("app/schema", WRITE, true).await.unwrap();
    file.write(0, V1).unwrap();
    let close = tokio::spawn(fixture.fs.clone().flush(file.fh, 0));
    while !fixture
        .registry
        .requests()
        .iter()
        .any(|request| request.starts_with("PUT"))
    {
        tokio::task::yield_now().await;
    }
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["journal"]["bytes"], V1.len());
    assert_eq!(close.await.unwrap(), Ok(()));
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["journal"]["bytes"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_only_the_journal_knows_is_there_after_a_restart() {
    let fixture = Fixture::new();
    fixture.registry.set_fault(Fault::FailWrites(Kind::Denied));
    fixture.mkdir("new").await.unwrap();
    fixture.cp("new/schema", V1).await.unwrap();
    let fixture = fixture.restart(Choice::default());
    assert_eq!(fixture.ls("").await.unwrap(), ["new"]);
    assert_eq!(fixture.cat("new/schema").await.unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_the_registry_has_not_got_yet_is_there_after_a_restart() {
    let fixture = Fixture::new();
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.mkdir("app").await.unwrap();
    fixture.cp("app/schema", V1).await.unwrap();
    let fixture = fixture.restart(Choice::default());
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    fixture.registry.set_fault(None);
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert!(fixture.ls("").await.unwrap().contains(&"app".to_owned()));
}

/// Makes a journal without room for any document.
fn no_room() -> Choice {
    Choice {
        allow_delete: true,
        ..choice_of(Settings {
            journal_bytes: 10,
            ..Settings::default()
        })
    }
}

/// Returns the reasons of the last failed pushes, from the status.
async fn failures(fixture: &Fixture) -> Vec<String> {
    let status = fixture.json(".atlasfs/status").await;
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
    let fixture = fixture_of(choice(), V1).await.restart(no_room());
    assert_eq!(fixture.cp("app/schema", V2).await, Err(Error::NoSpace));
    let before = failures(&fixture).await;
    assert!(before[0].contains("could not be kept"), "{before:?}");
    let fixture = fixture.restart(choice());
    assert_eq!(failures(&fixture).await, before);
    assert_eq!(
        fixture.xattr("app/schema", "error").await,
        Some(before[0].clone())
    );
    let fixture = fixture.restart(choice());
    assert_eq!(failures(&fixture).await, before);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    fixture.cp("app/schema", V2).await.unwrap();
    assert_eq!(failures(&fixture).await, [""; 0]);
    assert_eq!(failures(&fixture.restart(choice())).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_ends_a_failure_without_bytes_for_good() {
    let fixture = fixture_of(choice(), V1).await.restart(no_room());
    assert_eq!(fixture.cp("app/schema", V2).await, Err(Error::NoSpace));
    let fixture = fixture.restart(no_room());
    assert_eq!(failures(&fixture).await.len(), 1);
    fixture.rm("app/schema").await.unwrap();
    assert_eq!(failures(&fixture).await, [""; 0]);
    assert_eq!(failures(&fixture.restart(choice())).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_a_new_artifact_can_be_removed_after_restarts() {
    let open = Choice {
        named: vec![],
        ..no_room()
    };
    let fixture = Fixture::with(open);
    fixture.mkdir("new").await.unwrap();
    assert_eq!(fixture.cp("new/schema", V1).await, Err(Error::NoSpace));
    let fixture = fixture.restart(Choice::default());
    assert_eq!(failures(&fixture).await.len(), 1);
    fixture.rm("new/schema").await.unwrap();
    assert_eq!(failures(&fixture).await, [""; 0]);
    assert_eq!(failures(&fixture.restart(choice())).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_push_rolled_forward_ends_an_earlier_failure_without_bytes() {
    let fixture = fixture_of(choice(), V1).await.restart(no_room());
    assert_eq!(fixture.cp("app/schema", V3).await, Err(Error::NoSpace));
    let fixture = fixture.restart(choice());
    assert_eq!(failures(&fixture).await.len(), 1);
    let faults = [Fault::LoseReplies, Fault::Hang, Fault::Hang];
    let fixture = crash_amid_a_push(fixture, faults).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(failures(&fixture).await, [""; 0]);
    assert_eq!(failures(&fixture.restart(choice())).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_keeps_its_bytes_replaces_one_without() {
    let fixture = fixture_of(choice(), V1).await.restart(no_room());
    assert_eq!(fixture.cp("app/schema", V2).await, Err(Error::NoSpace));
    let fixture = fixture.restart(choice());
    set_all(&fixture, Fault::FailWrites(Kind::Unreachable));
    assert_eq!(fixture.cp("app/schema", V3).await, Err(Error::Io));
    set_all(&fixture, None);
    let fixture = fixture.restart(choice());
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["errors"], serde_json::json!([]));
    let path = status["unpushed"][0]["path"].as_str().unwrap();
    fixture.rm(path).await.unwrap();
    assert_eq!(failures(&fixture).await, [""; 0]);
    assert_eq!(failures(&fixture.restart(choice())).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_empty_file_is_reported_after_a_restart() {
    let fixture = fixture_of(choice(), V1).await;
    assert_eq!(fixture.cp("app/schema", b"").await, Err(Error::Invalid));
    let before = failures(&fixture).await;
    assert_eq!(before.len(), 1);
    assert_eq!(failures(&fixture.restart(choice())).await, before);
}
