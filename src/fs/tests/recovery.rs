//! What happens when a fault ends, a reply is lost, or the mount is started again.

use std::time::Duration;

use super::kernel::{Choice, READ, WRITE, WRITE_ANEW, World};
use crate::artifact::{Format, Stamp};
use crate::fs::{Error, Making, OpenHow};
use crate::registry::{Durability, FallbackOn, Settings};
use crate::target::{Fault, Kind, Memory};

const V1: &[u8] = b"schema \"public\" {}\n";
const V2: &[u8] = b"schema \"public\" {}\nschema \"audit\" {}\n";
const V3: &[u8] = b"schema \"third\" {}\n";

fn choice() -> Choice {
    Choice {
        named: vec!["app"],
        ..Choice::default()
    }
}

fn with(settings: Settings) -> Choice {
    Choice {
        registry: settings,
        ..choice()
    }
}

fn unstamped_lists() -> Option<[Memory; 3]> {
    Some(std::array::from_fn(|_| Memory::without_listed_stamps()))
}

async fn world_with(choice: Choice, content: &[u8]) -> World {
    let world = World::with(choice);
    world.cp("app/schema", content).await.unwrap();
    world
}

fn set_all(world: &World, fault: impl Into<Option<Fault>> + Copy) {
    world.all().iter().for_each(|store| store.set_fault(fault));
}

#[tokio::test(start_paused = true)]
async fn a_save_after_one_whose_reply_was_lost_is_no_conflict() {
    for stores in [None, unstamped_lists()] {
        let world = world_with(Choice { stores, ..choice() }, V1).await;
        let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
        file.write(0, V2).unwrap();
        world.registry.set_fault(Fault::LoseReplies);
        assert_eq!(file.flush().await, Ok(()), "the backups have it");
        world.registry.set_fault(None);
        file.truncate(0).await.unwrap();
        file.write(0, V3).unwrap();
        assert_eq!(file.close().await, Ok(()));
        for store in world.all() {
            assert_eq!(store.content("app/schema").unwrap(), V3);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_looks_meanwhile_makes_no_conflict_of_a_push_that_is_tried_again() {
    for stores in [false, true] {
        for look in ["nobody", "ls", "cat"] {
            for again in [V2, V3] {
                let world = world_with(
                    Choice {
                        stores: stores.then(unstamped_lists).flatten(),
                        ..with(Settings {
                            durability: Durability::Registry,
                            ..Settings::default()
                        })
                    },
                    V1,
                )
                .await;
                let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
                file.write(0, V2).unwrap();
                world.registry.set_fault(Fault::LoseReplies);
                assert_eq!(file.flush().await, Err(Error::Io));
                world.registry.set_fault(None);
                world.wait().await;
                match look {
                    "ls" => drop(world.ls("app").await.unwrap()),
                    "cat" => assert_eq!(world.cat("app/schema").await.unwrap(), V2),
                    _ => {}
                }
                file.truncate(0).await.unwrap();
                file.write(0, again).unwrap();
                assert_eq!(file.close().await, Ok(()), "{look}");
                assert_eq!(world.registry.content("app/schema").unwrap(), again);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_nobody_can_explain_gives_no_backup_anything() {
    let world = world_with(choice(), V1).await;
    let other = world.another();
    other.cp("app/schema", V2).await.unwrap();
    world.registry.set_fault(Fault::FailHeads(Kind::Busy));
    assert_eq!(world.cp("app/schema", V3).await, Err(Error::Io));
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_shown_while_the_registry_was_out_does_not_go_back_with_it() {
    let world = world_with(choice(), V1).await;
    let other = world.another();
    assert_eq!(other.cat("app/schema").await.unwrap(), V1);
    world.registry.set_fault(Fault::Fail(Kind::Busy));
    world.backups[1].set_fault(Fault::Fail(Kind::Busy));
    world.cp("app/schema", V2).await.unwrap();
    world.backups[1].set_fault(None);
    other.wait().await;
    assert_eq!(
        other.stat("app/schema").await.unwrap().size,
        V2.len() as u64
    );
    world.registry.set_fault(None);
    other.wait().await;
    assert_eq!(
        other.stat("app/schema").await.unwrap().size,
        V2.len() as u64
    );
    assert_eq!(other.cat("app/schema").await.unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn content_put_there_by_hand_is_seen_and_not_overwritten_unread() {
    let world = world_with(choice(), V1).await;
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V3).unwrap();
    world.registry.place("app/schema", V2, None);
    assert_eq!(file.close().await, Err(Error::Stale));
    assert_eq!(world.registry.content("app/schema").unwrap(), V2);
    world.wait().await;
    assert_eq!(world.cat("app/schema").await.unwrap(), V2);
    assert_eq!(world.cp("app/schema", V3).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_read_can_be_replaced() {
    for stores in [None, unstamped_lists()] {
        let world = world_with(Choice { stores, ..choice() }, V1).await;
        let stamp = Stamp::new(1, V2, Format::Hcl);
        for store in world.all() {
            store.place("app/schema", b"rotten", Some(stamp));
        }
        world.wait().await;
        assert_eq!(world.cp("app/schema", V3).await, Ok(()));
        assert_eq!(world.cat("app/schema").await.unwrap(), V3);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_site_reads_from_backups_it_can_also_write() {
    let fallback_on = FallbackOn {
        not_found: true,
        denied: false,
    };
    let settings = || Settings {
        fallback_on,
        ..Settings::default()
    };
    let world = world_with(with(settings()), V1).await;
    world.registry.remove("app/schema");
    world.wait().await;
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    assert_eq!(world.cp("app/schema", V2).await, Ok(()));
    assert_eq!(world.registry.content("app/schema").unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_refuses_takes_nothing_away_in_an_outage() {
    let world = world_with(choice(), V1).await;
    world.registry.set_fault(Fault::Fail(Kind::Unreachable));
    world.backups[0].set_fault(Fault::Fail(Kind::Denied));
    world.backups[1].set_fault(Fault::Fail(Kind::Unreachable));
    world.wait().await;
    assert_eq!(
        world.stat("app/schema").await.unwrap().size,
        V1.len() as u64
    );
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_push_makes_no_other_name() {
    let world = world_with(choice(), V1).await;
    assert_eq!(
        world.cp("app/schema.hcl", b"broken {").await,
        Err(Error::Invalid)
    );
    assert_eq!(world.stat("app/schema.sql").await, Err(Error::NotFound));
}

#[tokio::test(start_paused = true)]
async fn white_space_is_empty_also_where_nothing_is_checked() {
    let world = world_with(
        with(Settings {
            validate: false,
            ..Settings::default()
        }),
        V1,
    )
    .await;
    assert_eq!(world.cp("app/schema", b" \n").await, Err(Error::Invalid));
}

#[tokio::test(start_paused = true)]
async fn threads_that_can_not_be_told_apart_are_served_at_once() {
    let world = world_with(choice(), V1).await;
    let ino = world.walk("app/schema", 0).await.unwrap().ino;
    let how = OpenHow {
        truncate: true,
        ..WRITE
    };
    let opened = world.fs.clone().open(ino, how, 0).await.unwrap();
    assert!(opened.direct_io);
    world.fs.write(opened.fh, 0, V2).unwrap();
    world.fs.clone().flush(opened.fh).await.unwrap();
    world.fs.clone().release(opened.fh).await.unwrap();
    let opened = world.fs.clone().open(ino, READ, 0).await.unwrap();
    assert!(opened.direct_io, "the inode is of the old content");
    let read = world.fs.clone().read(opened.fh, 0, 1_000).await.unwrap();
    assert_eq!(read, V2);
}

#[tokio::test(start_paused = true)]
async fn a_handle_whose_end_takes_too_long_is_given_back_all_the_same() {
    let world = world_with(choice(), V1).await;
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    set_all(&world, Fault::Hang);
    let (ino, fh) = (file.ino, file.fh);
    world.fs.forget(ino, 100);
    let release = world.fs.clone().release(fh);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), release)
            .await
            .is_err()
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.fs.clone().getattr(ino, None).await, Err(Error::Stale));
}

#[tokio::test(start_paused = true)]
async fn look_ups_and_opens_keep_their_deadlines_with_a_hung_registry() {
    for all in [false, true] {
        let world = World::with(Choice {
            stores: unstamped_lists(),
            ..choice()
        });
        let other = world.another();
        other.mkdir("app").await.unwrap();
        other.cp("app/schema.hcl", V1).await.unwrap();
        world.registry.set_fault(Fault::Hang);
        if all {
            set_all(&world, Fault::Hang);
        }
        let app = world.stat("app").await.unwrap().ino;
        let name = std::ffi::OsStr::new("schema.hcl");
        let begun = tokio::time::Instant::now();
        let looked = world.fs.clone().lookup(app, name, 1).await;
        assert_eq!(looked.is_ok(), !all);
        assert!(
            begun.elapsed() <= Duration::from_millis(2_010),
            "{:?}",
            begun.elapsed()
        );
        let begun = tokio::time::Instant::now();
        let created = world
            .fs
            .clone()
            .create(app, name, WRITE, Making::default())
            .await;
        assert_eq!(created.is_ok(), !all);
        assert!(
            begun.elapsed() <= Duration::from_millis(5_010),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_missed_a_push_is_given_it_when_it_is_back() {
    let world = world_with(
        Choice {
            redo: true,
            ..choice()
        },
        V1,
    )
    .await;
    world.registry.set_fault(Fault::Fail(Kind::Unreachable));
    world.backups[0].set_fault(Fault::Hang);
    world.cp("app/schema", V2).await.unwrap();
    assert_eq!(
        world.json(".atlasfs/status").await["pending"][0]["artifact"],
        "app/schema"
    );
    world.registry.set_fault(None);
    world.backups[0].set_fault(None);
    tokio::time::sleep(Duration::from_secs(100)).await;
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
    assert_eq!(world.xattr("app/schema", "pending").await, None);
    let status = world.json(".atlasfs/status").await;
    assert_eq!(status["pending"], serde_json::json!([]));
    assert_eq!(status["journal"]["bytes"], 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_survives_a_restart_and_is_given_to_all() {
    for stores in [None, unstamped_lists()] {
        let world = world_with(Choice { stores, ..choice() }, V1).await;
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

#[tokio::test(start_paused = true)]
async fn what_was_in_doubt_at_a_crash_is_rolled_forward() {
    let world = world_with(choice(), V1).await;
    set_all(&world, Fault::Hang);
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    let close = tokio::spawn(world.fs.clone().flush(file.fh));
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
    let world = World::with(Choice {
        stores,
        redo: true,
        state_dir: Some(copy),
        ..choice()
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
}

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
async fn a_push_given_late_never_overwrites_a_newer_one() {
    let world = world_with(choice(), V1).await;
    world.registry.set_fault(Fault::Fail(Kind::Unreachable));
    world.cp("app/schema", V2).await.unwrap();
    world.registry.set_fault(None);
    let other = world.another();
    other.wait().await;
    other.cp("app/schema", V3).await.unwrap();
    let world = world.restart(Choice {
        redo: true,
        ..choice()
    });
    tokio::time::sleep(Duration::from_secs(100)).await;
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V3);
    }
    assert_eq!(world.cat("app/schema").await.unwrap(), V3);
    assert_eq!(
        world.json(".atlasfs/status").await["pending"],
        serde_json::json!([])
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_push_is_kept_through_a_restart_and_not_pushed_by_it() {
    let world = world_with(choice(), V1).await;
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
    let world = World::with(with(Settings {
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
    let close = tokio::spawn(world.fs.clone().flush(file.fh));
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
async fn who_removes_the_kept_bytes_has_seen_the_error() {
    let world = world_with(choice(), V1).await;
    assert_eq!(
        world.cp("app/schema", b"broken {").await,
        Err(Error::Invalid)
    );
    let status = world.json(".atlasfs/status").await;
    assert_eq!(status["healthy"], false);
    let path = status["unpushed"][0]["path"].as_str().unwrap();
    world.rm(path).await.unwrap();
    assert_eq!(world.json(".atlasfs/status").await["healthy"], true);
}

#[tokio::test(start_paused = true)]
async fn the_background_rests_while_nothing_is_owed_to_who_is_due() {
    let world = world_with(
        Choice {
            redo: true,
            ..choice()
        },
        V1,
    )
    .await;
    world.registry.set_fault(Fault::Fail(Kind::Unreachable));
    world.cp("app/schema", V2).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.registry.set_fault(None);
    world.cp("app/schema", V3).await.unwrap();
    world.backups[0].set_fault(Fault::Hang);
    world.cp("app/schema", V1).await.unwrap();
    world.backups[0].requests();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = world.backups[0].requests().len();
    assert!((5..40).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_owed_nothing_more_gives_the_background_no_work() {
    let world = world_with(
        Choice {
            redo: true,
            ..with(Settings {
                breaker: 0,
                ..Settings::default()
            })
        },
        V1,
    )
    .await;
    world.registry.set_fault(Fault::Fail(Kind::Unreachable));
    world.backups[0].set_fault(Fault::Fail(Kind::Unreachable));
    world.cp("app/schema", V2).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    world.backups[0].set_fault(None);
    world.cp("app/schema", V3).await.unwrap();
    // With nobody at rest, time would stand still here.
    tokio::time::sleep(Duration::from_secs(600)).await;
    world.registry.set_fault(None);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.registry.content("app/schema").unwrap(), V3);
}

#[tokio::test(start_paused = true)]
async fn what_the_background_gives_meanwhile_makes_no_conflict() {
    let world = world_with(
        Choice {
            redo: true,
            ..choice()
        },
        V1,
    )
    .await;
    world.registry.set_fault(Fault::Fail(Kind::Unreachable));
    world.cp("app/schema", V2).await.unwrap();
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V3).unwrap();
    // The close asks what the registry holds, and the background gives it V2 before its push.
    world
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(1_100)));
    assert_eq!(file.close().await, Ok(()));
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V3);
    }
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

#[tokio::test]
async fn a_push_that_lost_is_not_made_by_the_background() {
    for _ in 0..50 {
        let world = World::with(Choice {
            redo: true,
            ..choice()
        });
        let other = world.another();
        other.mkdir("app").await.unwrap();
        let loser = world.open("app/schema", WRITE, true).await.unwrap();
        other.cp("app/schema", V1).await.unwrap();
        loser.write(0, V2).unwrap();
        assert_eq!(loser.close().await, Err(Error::Stale));
        tokio::time::sleep(Duration::from_millis(2)).await;
        for store in world.all() {
            assert_eq!(store.content("app/schema").unwrap(), V1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_listed_while_the_journal_is_written_is_not_replaced_unseen() {
    crate::registry::simulate_disk(Duration::from_millis(100));
    let world = world_with(choice(), V1).await;
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V3).unwrap();
    world.another().cp("app/schema", V2).await.unwrap();
    world.wait().await;
    let (looked, closed) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            world.stat("app/schema").await
        },
        file.close(),
    );
    assert_eq!(looked.unwrap().size, V2.len() as u64);
    assert_eq!(closed, Err(Error::Stale));
    assert_eq!(world.registry.content("app/schema").unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_has_failed_twice_is_in_no_conflict_with_itself() {
    let world = world_with(
        with(Settings {
            breaker: 0,
            ..Settings::default()
        }),
        V1,
    )
    .await;
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    set_all(&world, Fault::Fail(Kind::Unreachable));
    world.backups[1].set_fault(Fault::LoseReplies);
    assert_eq!(file.flush().await, Err(Error::Io));
    world.wait().await;
    assert_eq!(world.cat("app/schema").await.unwrap(), V2);
    file.truncate(0).await.unwrap();
    file.write(0, V3).unwrap();
    assert_eq!(file.flush().await, Err(Error::Io));
    assert_eq!(file.flush().await, Err(Error::Io));
    set_all(&world, None);
    assert_eq!(file.close().await, Ok(()));
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_panics_is_an_outage_of_its_target_alone() {
    let world = world_with(
        Choice {
            redo: true,
            ..choice()
        },
        V1,
    )
    .await;
    world.registry.set_fault(Fault::Panic);
    world.wait().await;
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    assert_eq!(world.cp("app/schema", V2).await, Ok(()));
    world.registry.set_fault(None);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.registry.content("app/schema").unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn the_background_goes_on_after_it_has_met_a_bug() {
    use crate::planted::{Bug, plant};
    let world = world_with(
        Choice {
            redo: true,
            ..choice()
        },
        V1,
    )
    .await;
    plant(Some(Bug::BackgroundPanics));
    world.backups[0].set_fault(Fault::Fail(Kind::Unreachable));
    world.cp("app/schema", V2).await.unwrap();
    world.cp(".atlasfs/jobs", b"verify").await.unwrap();
    world.wait().await;
    plant(None);
    world.backups[0].set_fault(None);
    assert_eq!(world.json(".atlasfs/jobs").await["state"], "stopped");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.backups[0].content("app/schema").unwrap(), V2);
    let events = String::from_utf8(world.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("met a bug"), "{events}");
}
