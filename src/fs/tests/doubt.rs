//! Pushes with an uncertain result: a reply was lost, or another writer may have changed the
//! artifact.

use std::time::Duration;

use super::fixtures::{choice, choice_of, fixture_of, replaying, set_all, unstamped_lists};
use super::kernel::{Choice, WRITE_ANEW};
use super::{V1, V2, V3};
use crate::fs::Error;
use crate::model::{Format, Stamp};
use crate::registry::{Durability, Settings};
use crate::store::{Fault, Kind, Memory};

#[tokio::test(start_paused = true)]
async fn a_save_after_one_whose_reply_was_lost_is_no_conflict() {
    for stores in [None, unstamped_lists()] {
        let fixture = fixture_of(Choice { stores, ..choice() }, V1).await;
        let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
        file.write(0, V2).unwrap();
        fixture.registry.set_fault(Fault::LoseReplies);
        assert_eq!(file.flush().await, Ok(()), "the backups have it");
        fixture.registry.set_fault(None);
        file.truncate(0).await.unwrap();
        file.write(0, V3).unwrap();
        assert_eq!(file.close().await, Ok(()));
        for store in fixture.all() {
            assert_eq!(store.content("app/schema").unwrap(), V3);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_between_two_attempts_causes_no_conflict() {
    for stores in [false, true] {
        for look in ["nobody", "ls", "cat"] {
            for again in [V2, V3] {
                let fixture = fixture_of(
                    Choice {
                        stores: stores.then(unstamped_lists).flatten(),
                        ..choice_of(Settings {
                            durability: Durability::Registry,
                            ..Settings::default()
                        })
                    },
                    V1,
                )
                .await;
                let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
                file.write(0, V2).unwrap();
                fixture.registry.set_fault(Fault::LoseReplies);
                assert_eq!(file.flush().await, Err(Error::Io));
                fixture.registry.set_fault(None);
                fixture.wait().await;
                match look {
                    "ls" => drop(fixture.ls("app").await.unwrap()),
                    "cat" => assert_eq!(fixture.cat("app/schema").await.unwrap(), V2),
                    _ => {}
                }
                file.truncate(0).await.unwrap();
                file.write(0, again).unwrap();
                assert_eq!(file.close().await, Ok(()), "{look}");
                assert_eq!(fixture.registry.content("app/schema").unwrap(), again);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unexplained_refusal_pushes_to_no_backup() {
    let fixture = fixture_of(choice(), V1).await;
    let other = fixture.another();
    other.cp("app/schema", V2).await.unwrap();
    fixture.registry.set_fault(Fault::FailHeads(Kind::Busy));
    assert_eq!(fixture.cp("app/schema", V3).await, Err(Error::Io));
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_push_makes_no_other_name() {
    let fixture = fixture_of(choice(), V1).await;
    assert_eq!(
        fixture.cp("app/schema.hcl", b"broken {").await,
        Err(Error::Invalid)
    );
    assert_eq!(fixture.stat("app/schema.sql").await, Err(Error::NotFound));
}

#[tokio::test(start_paused = true)]
async fn removing_the_kept_bytes_clears_the_error() {
    let fixture = fixture_of(choice(), V1).await;
    assert_eq!(
        fixture.cp("app/schema", b"broken {").await,
        Err(Error::Invalid)
    );
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["healthy"], false);
    let path = status["unpushed"][0]["path"].as_str().unwrap();
    fixture.rm(path).await.unwrap();
    assert_eq!(fixture.json(".atlasfs/status").await["healthy"], true);
}

#[tokio::test(start_paused = true)]
async fn an_artifact_listed_during_the_journal_write_is_not_replaced() {
    crate::registry::simulate_disk(Duration::from_millis(100));
    let fixture = fixture_of(choice(), V1).await;
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V3).unwrap();
    fixture.another().cp("app/schema", V2).await.unwrap();
    fixture.wait().await;
    let (looked, closed) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            fixture.stat("app/schema").await
        },
        file.close(),
    );
    assert_eq!(looked.unwrap().size, V2.len() as u64);
    assert_eq!(closed, Err(Error::Stale));
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_has_failed_twice_is_in_no_conflict_with_itself() {
    let fixture = fixture_of(
        choice_of(Settings {
            breaker: 0,
            ..Settings::default()
        }),
        V1,
    )
    .await;
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    set_all(&fixture, Fault::Fail(Kind::Unreachable));
    fixture.backups[1].set_fault(Fault::LoseReplies);
    assert_eq!(file.flush().await, Err(Error::Io));
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    file.truncate(0).await.unwrap();
    file.write(0, V3).unwrap();
    assert_eq!(file.flush().await, Err(Error::Io));
    // The backup decides while the registry is out, and is asked whether it has the push.
    assert_eq!(file.flush().await, Ok(()));
    set_all(&fixture, None);
    assert_eq!(file.close().await, Ok(()));
    assert_eq!(fixture.backups[1].content("app/schema").unwrap(), V3);
}

#[tokio::test(start_paused = true)]
async fn a_retried_push_is_newer_than_the_failed_ones_before_it() {
    let fixture = fixture_of(choice(), V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    let lose = |store: &Memory| store.set_fault(Fault::LoseReplies);
    fixture.backups.iter().for_each(lose);
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    assert_eq!(file.flush().await, Err(Error::Io));
    // The backup decides while the registry is out, and holds what this handle was not opened on.
    assert_eq!(fixture.cp("app/schema", V3).await, Err(Error::Stale));
    let stamp = || fixture.backups[0].object("app/schema").unwrap().stamp;
    let failed = stamp();
    fixture.backups.iter().for_each(|it| it.set_fault(None));
    assert_eq!(file.close().await, Ok(()));
    assert_eq!(fixture.backups[0].content("app/schema").unwrap(), V2);
    assert!(stamp() > failed, "or the failed push would replace it");
}

#[tokio::test(start_paused = true)]
async fn a_replay_in_the_background_causes_no_conflict() {
    let fixture = fixture_of(replaying(), V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V3).unwrap();
    // The close asks the registry, and the background replays V2 to it before the push.
    fixture
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(1_100)));
    assert_eq!(file.close().await, Ok(()));
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V3);
    }
}

#[tokio::test(start_paused = true)]
async fn content_put_there_by_hand_is_seen_and_not_overwritten_unread() {
    let fixture = fixture_of(choice(), V1).await;
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V3).unwrap();
    fixture.registry.place("app/schema", V2, None);
    assert_eq!(file.close().await, Err(Error::Stale));
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V2);
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    assert_eq!(fixture.cp("app/schema", V3).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn unreadable_content_can_be_replaced() {
    for stores in [None, unstamped_lists()] {
        let fixture = fixture_of(Choice { stores, ..choice() }, V1).await;
        let stamp = Stamp::new(1, V2, Format::Hcl);
        for store in fixture.all() {
            store.place("app/schema", b"rotten", Some(stamp));
        }
        fixture.wait().await;
        assert_eq!(fixture.cp("app/schema", V3).await, Ok(()));
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V3);
    }
}
