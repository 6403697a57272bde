//! Pushes: what a close means.

use std::time::Duration;

use super::kernel::{Choice, READ, READ_WRITE, WRITE, WRITE_ANEW, World};
use crate::fs::{Error, OpenHow};
use crate::registry::{Durability, Settings};
use crate::target::{Fault, Kind, Memory};

const V1: &[u8] = b"schema \"public\" {}\n";
const V2: &[u8] = b"schema \"public\" {}\nschema \"audit\" {}\n";
const SQL: &[u8] = b"CREATE TABLE t (c int);\n";

fn plan(name: &str) -> Vec<u8> {
    format!("plan \"{name}\" {{\n  from = \"a=\"\n  to = \"b=\"\n  migration = \"SELECT 1\"\n}}\n")
        .into_bytes()
}

async fn world_with(content: &[u8]) -> World {
    let world = World::new();
    world.mkdir("app").await.unwrap();
    world.cp("app/schema.hcl", content).await.unwrap();
    world
}

fn with(settings: Settings) -> World {
    World::with(Choice {
        registry: settings,
        named: vec!["app"],
        ..Choice::default()
    })
}

#[tokio::test]
async fn a_close_pushes_the_same_bytes_to_every_target() {
    let world = world_with(V1).await;
    world
        .cp("app/plans/p1.plan.hcl", &plan("p1"))
        .await
        .unwrap();
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
        assert_eq!(store.content("app/plans/p1").unwrap(), plan("p1"));
    }
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    assert_eq!(world.cat("app/plans/p1").await.unwrap(), plan("p1"));
}

#[tokio::test]
async fn one_save_is_one_put_on_each_target() {
    let world = world_with(V1).await;
    for store in world.all() {
        let puts = store
            .requests()
            .into_iter()
            .filter(|request| request.starts_with("PUT"));
        assert_eq!(puts.count(), 1);
    }
}

#[tokio::test]
async fn fsync_and_close_in_a_row_are_one_push() {
    let world = world_with(V1).await;
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    world.fs.clone().fsync(file.fh).await.unwrap();
    assert_eq!(world.registry.content("app/schema").unwrap(), V2);
    world.registry.requests();
    file.flush().await.unwrap();
    file.close().await.unwrap();
    assert!(world.registry.requests().is_empty());
}

#[tokio::test]
async fn no_reader_sees_what_is_being_written() {
    let world = world_with(V1).await;
    let reader = world.open("app/schema", READ, false).await.unwrap();
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, b"half").unwrap();
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    assert_eq!(
        world.stat("app/schema").await.unwrap().size,
        V1.len() as u64
    );
    assert_eq!(reader.read_all().await.unwrap(), V1);
    file.truncate(0).await.unwrap();
    file.write(0, V2).unwrap();
    file.close().await.unwrap();
    assert_eq!(world.cat("app/schema").await.unwrap(), V2);
    assert_eq!(
        reader.read_all().await.unwrap(),
        V1,
        "a reader keeps what it opened"
    );
}

#[tokio::test]
async fn a_writer_sees_what_it_has_written() {
    let world = world_with(V1).await;
    let file = world.open("app/schema", READ_WRITE, false).await.unwrap();
    assert_eq!(file.read_all().await.unwrap(), V1);
    file.write(V1.len() as u64, b"# more\n").unwrap();
    assert_eq!(file.size().await, V1.len() as u64 + 7);
    assert!(file.read_all().await.unwrap().ends_with(b"# more\n"));
    file.close().await.unwrap();
}

#[tokio::test]
async fn a_new_file_is_not_there_before_its_close() {
    let world = world_with(V1).await;
    let file = world.open("app/plans/p1", WRITE, true).await.unwrap();
    file.write(0, &plan("p1")).unwrap();
    assert_eq!(world.stat("app/plans/p1").await, Err(Error::NotFound));
    assert!(world.ls("app/plans").await.unwrap().is_empty());
    file.close().await.unwrap();
    assert_eq!(world.ls("app/plans").await.unwrap(), ["p1"]);
}

#[tokio::test]
async fn appending_goes_to_the_end_of_what_is_there() {
    let world = world_with(V1).await;
    let append = OpenHow {
        append: true,
        ..WRITE
    };
    let file = world.open("app/schema", append, false).await.unwrap();
    file.write(0, b"schema \"a\" {}\n").unwrap();
    file.write(3, b"schema \"b\" {}\n").unwrap();
    file.close().await.unwrap();
    let expected = [V1, b"schema \"a\" {}\nschema \"b\" {}\n"].concat();
    assert_eq!(world.cat("app/schema").await.unwrap(), expected);
}

#[tokio::test]
async fn odd_offsets_and_sizes_give_the_right_bytes() {
    let world = with(Settings {
        validate: false,
        ..Settings::default()
    });
    let file = world.open("app/schema", WRITE, true).await.unwrap();
    file.write(5, b"world").unwrap();
    file.write(0, b"hello").unwrap();
    file.truncate(12).await.unwrap();
    file.truncate(9).await.unwrap();
    file.write(11, b"!").unwrap();
    file.close().await.unwrap();
    assert_eq!(world.cat("app/schema").await.unwrap(), b"helloworl\0\0!");
}

#[tokio::test]
async fn truncate_by_path_is_a_push() {
    let world = world_with(V2).await;
    let pid = world.pid();
    let set = crate::fs::SetAttr {
        size: Some(V1.len() as u64),
        ..crate::fs::SetAttr::default()
    };
    let ino = world.walk("app/schema", pid).await.unwrap().ino;
    let bounced = world.fs.clone().setattr(ino, None, set, pid).await;
    assert_eq!(bounced.unwrap_err(), Error::Stale);
    let ino = world.walk("app/schema", pid).await.unwrap().ino;
    world.fs.clone().setattr(ino, None, set, pid).await.unwrap();
    assert_eq!(world.registry.content("app/schema").unwrap(), V1);
}

#[tokio::test]
async fn what_was_opened_and_not_changed_is_not_pushed() {
    let world = world_with(V1).await;
    world.registry.requests();
    let file = world.open("app/schema", WRITE, false).await.unwrap();
    file.close().await.unwrap();
    assert!(
        world
            .registry
            .requests()
            .iter()
            .all(|request| !request.starts_with("PUT"))
    );
}

#[tokio::test]
async fn any_succeeds_when_one_target_has_it_and_says_who_is_missing() {
    let world = world_with(V1).await;
    world.registry.set_fault(Fault::Fail(Kind::Busy));
    world.backups[0].set_fault(Fault::Fail(Kind::Unreachable));
    world.cp("app/schema", V2).await.unwrap();
    assert_eq!(world.registry.content("app/schema").unwrap(), V1);
    assert_eq!(world.backups[1].content("app/schema").unwrap(), V2);
    let pending = world.xattr("app/schema", "pending").await.unwrap();
    assert_eq!(pending, "mem://registry mem://backup-1");
    let status = world.json(".atlasfs/status").await;
    assert_eq!(status["pending"][0]["artifact"], "app/schema");
    assert_eq!(status["pushes"]["degraded"], 1);
    let receipt = world.xattr("app/schema", "push").await.unwrap();
    let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!(receipt["File"]["URL"], "atlas://app");
    assert!(receipt["File"]["Error"].is_string());
    assert!(receipt["Backups"][0]["Error"].is_string());
    assert_eq!(
        receipt["Backups"][1],
        serde_json::json!({"URL": "mem://backup-2"})
    );
}

#[tokio::test]
async fn the_receipt_of_a_plan_is_atlas_own() {
    let world = world_with(V1).await;
    world.cp("app/plans/plan1", &plan("plan1")).await.unwrap();
    let receipt = world.xattr("app/plans/plan1", "push").await.unwrap();
    let expected = serde_json::json!({
        "File": {"URL": "atlas://app/plans/plan1", "Status": "APPROVED"},
        "Backups": [{"URL": "mem://backup-1"}, {"URL": "mem://backup-2"}],
    });
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&receipt).unwrap(),
        expected
    );
}

#[tokio::test]
async fn registry_needs_the_registry_and_gives_no_backup_what_has_failed() {
    let world = with(Settings {
        durability: Durability::Registry,
        ..Settings::default()
    });
    world.backups[0].set_fault(Fault::Fail(Kind::Busy));
    world.cp("app/schema", V1).await.unwrap();
    world.registry.set_fault(Fault::Fail(Kind::Unreachable));
    assert_eq!(world.cp("app/schema", V2).await, Err(Error::Io));
    assert_eq!(world.backups[1].content("app/schema").unwrap(), V1);
}

#[tokio::test]
async fn all_needs_every_target() {
    let world = with(Settings {
        durability: Durability::All,
        ..Settings::default()
    });
    world.cp("app/schema", V1).await.unwrap();
    world.backups[1].set_fault(Fault::Fail(Kind::NoSpace));
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    assert_eq!(file.flush().await, Err(Error::NoSpace));
    assert_eq!(
        file.flush().await,
        Err(Error::NoSpace),
        "the next close says it again"
    );
    world.backups[1].set_fault(None);
    assert_eq!(
        file.flush().await,
        Ok(()),
        "and is right when it can be done"
    );
    file.close().await.unwrap();
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test]
async fn the_errno_is_that_of_the_answer_and_eio_when_all_are_out() {
    for (kind, error) in [
        (Kind::Unreachable, Error::Io),
        (Kind::Busy, Error::Io),
        (Kind::StoreMissing, Error::Io),
        (Kind::Denied, Error::Denied),
        (Kind::Invalid, Error::Invalid),
        (Kind::NoSpace, Error::NoSpace),
        (Kind::Conflict, Error::Stale),
    ] {
        let world = world_with(V1).await;
        for store in world.all() {
            store.set_fault(Fault::FailWrites(kind));
        }
        assert_eq!(world.cp("app/schema", V2).await, Err(error), "{kind:?}");
    }
}

#[tokio::test]
async fn a_failed_push_is_visible_everywhere_and_its_bytes_are_kept() {
    let world = world_with(V1).await;
    for store in world.all() {
        store.set_fault(Fault::FailWrites(Kind::Unreachable));
    }
    assert_eq!(world.cp("app/schema", V2).await, Err(Error::Io));
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    let error = world.xattr("app/schema", "error").await.unwrap();
    assert!(error.contains("mem://backup-2"), "{error}");
    let status = world.json(".atlasfs/status").await;
    assert_eq!(status["healthy"], false);
    let path = status["unpushed"][0]["path"].as_str().unwrap();
    assert_eq!(world.cat(path).await.unwrap(), V2);
    let events = world.cat(".atlasfs/events").await.unwrap();
    assert!(
        String::from_utf8(events)
            .unwrap()
            .contains("\"event\":\"push-failed\"")
    );
    let metrics = String::from_utf8(world.cat(".atlasfs/metrics").await.unwrap()).unwrap();
    assert!(metrics.contains("atlasfs_pushes_total{verdict=\"failed\"} 1\n"));
    assert!(metrics.contains("atlasfs_unpushed 1\n"));

    for store in world.all() {
        store.set_fault(None);
    }
    world.cp("app/schema", V2).await.unwrap();
    assert_eq!(world.xattr("app/schema", "error").await, None);
    assert!(
        world.ls(".atlasfs/unpushed").await.unwrap().is_empty(),
        "pushed by now"
    );
}

#[tokio::test]
async fn kept_bytes_can_be_removed() {
    let world = world_with(V1).await;
    for store in world.all() {
        store.set_fault(Fault::FailWrites(Kind::Busy));
    }
    assert_eq!(world.cp("app/plans/p1", &plan("p1")).await, Err(Error::Io));
    assert_eq!(world.ls(".atlasfs/unpushed").await.unwrap(), ["app"]);
    assert_eq!(world.ls(".atlasfs/unpushed/app").await.unwrap(), ["plans"]);
    let kept = world.ls(".atlasfs/unpushed/app/plans").await.unwrap();
    let path = format!(".atlasfs/unpushed/app/plans/{}", kept[0]);
    assert!(kept[0].starts_with("p1@"));
    world.rm(&path).await.unwrap();
    assert!(world.ls(".atlasfs/unpushed").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_first_push_that_failed_is_not_read_as_empty() {
    let world = world_with(V1).await;
    for store in world.all() {
        store.set_fault(Fault::FailWrites(Kind::Busy));
    }
    assert_eq!(world.cp("app/plans/p1", &plan("p1")).await, Err(Error::Io));
    assert_eq!(world.cat("app/plans/p1").await, Err(Error::Io));
    assert!(world.xattr("app/plans/p1", "error").await.is_some());
    assert!(world.ls("app/plans").await.unwrap().is_empty());
    world.rm("app/plans/p1").await.unwrap();
    assert_eq!(world.stat("app/plans/p1").await, Err(Error::NotFound));
}

#[tokio::test]
async fn a_handle_that_nobody_closed_is_pushed_as_a_last_resort_and_counted() {
    let world = world_with(V1).await;
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    file.release().await;
    assert_eq!(world.registry.content("app/schema").unwrap(), V2);
    let status = world.json(".atlasfs/status").await;
    assert_eq!(status["pushes"]["unreported"], 1);
}

#[tokio::test]
async fn a_failure_that_a_close_has_reported_is_not_tried_again_by_release() {
    let world = world_with(V1).await;
    world.registry.set_fault(Fault::FailWrites(Kind::Conflict));
    assert_eq!(world.cp("app/schema", V2).await, Err(Error::Stale));
    let status = world.json(".atlasfs/status").await;
    assert_eq!(status["pushes"]["unreported"], 0);
    assert_eq!(status["pushes"]["conflict"], 1);
}

#[tokio::test]
async fn an_empty_document_is_refused_and_nothing_changes() {
    let world = world_with(V1).await;
    assert_eq!(world.cp("app/schema", b"").await, Err(Error::Invalid));
    assert_eq!(world.cp("app/schema", b" \n").await, Err(Error::Invalid));
    let file = world.open("app/schema", WRITE, false).await.unwrap();
    file.truncate(0).await.unwrap();
    assert_eq!(file.close().await, Err(Error::Invalid));
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
    }
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    let error = world.xattr("app/schema", "error").await.unwrap();
    assert!(error.contains("drop everything"), "{error}");
}

#[tokio::test]
async fn the_empty_close_of_a_shells_redirection_leaves_no_trace() {
    let world = world_with(V1).await;
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    assert_eq!(
        file.flush().await,
        Err(Error::Invalid),
        "the shell doesn't look"
    );
    file.write(0, V2).unwrap();
    file.close().await.unwrap();
    assert_eq!(world.xattr("app/schema", "error").await, None);
    let status = world.json(".atlasfs/status").await;
    assert_eq!(status["pushes"]["refused"], 0);
    assert_eq!(world.cat("app/schema").await.unwrap(), V2);
}

#[tokio::test]
async fn a_new_file_that_was_only_touched_stays_local_and_empty() {
    let world = world_with(V1).await;
    let file = world.open("app/plans/p1", WRITE, true).await.unwrap();
    file.flush().await.unwrap();
    file.close().await.unwrap();
    assert_eq!(world.ls("app/plans").await.unwrap(), ["p1"]);
    assert_eq!(world.cat("app/plans/p1").await.unwrap(), b"");
    assert_eq!(world.registry.content("app/plans/p1"), None);
    world.cp("app/plans/p1", &plan("p1")).await.unwrap();
    assert_eq!(world.cat("app/plans/p1").await.unwrap(), plan("p1"));
    assert_eq!(world.ls("app/plans").await.unwrap(), ["p1"]);
}

#[tokio::test]
async fn a_touched_file_can_be_removed_without_allow_delete() {
    let world = world_with(V1).await;
    let file = world.open("app/plans/p1", WRITE, true).await.unwrap();
    file.close().await.unwrap();
    world.rm("app/plans/p1").await.unwrap();
    assert!(world.ls("app/plans").await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_over_the_limit_is_refused_where_it_is_written() {
    let world = with(Settings {
        max_size: 100,
        validate: false,
        ..Settings::default()
    });
    let file = world.open("app/schema", WRITE, true).await.unwrap();
    file.write(99, b"a").unwrap();
    file.close().await.unwrap();
    assert_eq!(world.registry.content("app/schema").unwrap().len(), 100);
    let file = world.open("app/schema", WRITE_ANEW, true).await.unwrap();
    assert_eq!(file.write(99, b"ab"), Err(Error::TooBig));
    let file = world.open("app/schema", WRITE_ANEW, true).await.unwrap();
    assert_eq!(file.write(u64::MAX, b"ab"), Err(Error::TooBig));
    let file = world.open("app/schema", WRITE_ANEW, true).await.unwrap();
    assert_eq!(file.truncate(101).await, Err(Error::TooBig));
}

#[tokio::test]
async fn half_a_document_is_not_pushed() {
    let world = with(Settings {
        max_size: 100,
        ..Settings::default()
    });
    world.cp("app/schema.sql", SQL).await.unwrap();
    let file = world
        .open("app/schema.sql", WRITE_ANEW, false)
        .await
        .unwrap();
    file.write(0, &[b'x'; 100]).unwrap();
    assert_eq!(file.write(100, b"y"), Err(Error::TooBig));
    assert_eq!(file.flush().await, Err(Error::TooBig));
    assert_eq!(file.close().await, Err(Error::TooBig));
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), SQL);
    }
    let error = world.xattr("app/schema", "error").await.unwrap();
    assert!(error.contains("half a document"), "{error}");
    assert_eq!(world.json(".atlasfs/status").await["healthy"], false);
}

#[tokio::test]
async fn broken_documents_are_refused_before_any_target_sees_a_byte() {
    let world = world_with(V1).await;
    for (path, content) in [
        ("app/schema.hcl", SQL),
        ("app/schema", SQL),
        ("app/plans/p1", b"plan {" as &[u8]),
        ("app/plans/p1", b"plan \"p2\" {}"),
        ("app/plans/p1", SQL),
    ] {
        assert_eq!(world.cp(path, content).await, Err(Error::Invalid), "{path}");
        let error = world.xattr(path, "error").await.unwrap();
        assert!(error.starts_with("can't push app/"), "{error}");
    }
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
        assert_eq!(store.content("app/plans/p1"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn an_hcl_state_that_was_only_listed_is_not_turned_into_sql_by_accident() {
    let stores = std::array::from_fn(|_| crate::target::Memory::without_listed_stamps());
    let world = World::with(Choice {
        named: vec!["app"],
        stores: Some(stores),
        ..Choice::default()
    });
    let other = world.another();
    other.mkdir("app").await.unwrap();
    other.cp("app/schema.hcl", V1).await.unwrap();
    world.ls("app").await.unwrap();
    assert_eq!(world.cp("app/schema", SQL).await, Err(Error::Invalid));
    assert_eq!(world.registry.content("app/schema").unwrap(), V1);
}

#[tokio::test]
async fn schema_sql_turns_the_state_into_sql_on_purpose() {
    let world = world_with(V1).await;
    assert_eq!(world.stat("app/schema.sql").await, Err(Error::NotFound));
    world.cp("app/schema.sql", SQL).await.unwrap();
    assert_eq!(world.cat("app/schema").await.unwrap(), SQL);
    assert_eq!(world.cat("app/schema.sql").await.unwrap(), SQL);
    assert_eq!(world.stat("app/schema.hcl").await, Err(Error::NotFound));
    assert_eq!(world.ls("app").await.unwrap(), ["schema", "plans"]);
}

#[tokio::test]
async fn without_validation_the_bytes_are_pushed_as_they_are() {
    let world = with(Settings {
        validate: false,
        ..Settings::default()
    });
    world
        .cp("app/plans/p1", b"\0\xff not a plan")
        .await
        .unwrap();
    assert_eq!(
        world.cat("app/plans/p1").await.unwrap(),
        b"\0\xff not a plan"
    );
    assert_eq!(world.cp("app/plans/p1", b"").await, Err(Error::Invalid));
}

#[tokio::test]
async fn of_two_writers_the_second_close_is_stale_and_its_bytes_are_kept() {
    let world = world_with(V1).await;
    let first = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    let second = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    first.write(0, V2).unwrap();
    second.write(0, b"schema \"loser\" {}\n").unwrap();
    first.close().await.unwrap();
    assert_eq!(second.close().await, Err(Error::Stale));
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
    let status = world.json(".atlasfs/status").await;
    let path = status["unpushed"][0]["path"].as_str().unwrap();
    assert_eq!(world.cat(path).await.unwrap(), b"schema \"loser\" {}\n");
}

#[tokio::test]
async fn of_two_mounts_the_second_close_is_stale_and_no_backup_sees_it() {
    let world = world_with(V1).await;
    let other = world.another();
    let first = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    let second = other.open("app/schema", WRITE_ANEW, false).await.unwrap();
    first.write(0, V2).unwrap();
    second.write(0, b"schema \"loser\" {}\n").unwrap();
    first.close().await.unwrap();
    assert_eq!(second.close().await, Err(Error::Stale));
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test]
async fn of_two_mounts_that_create_one_name_one_is_stale() {
    let world = world_with(V1).await;
    let other = world.another();
    let first = world.open("app/plans/p", WRITE, true).await.unwrap();
    let second = other.open("app/plans/p", WRITE, true).await.unwrap();
    first.write(0, &plan("p")).unwrap();
    second.write(0, &plan("p")).unwrap();
    first.close().await.unwrap();
    assert_eq!(second.close().await, Err(Error::Stale));
}

#[tokio::test]
async fn a_push_whose_reply_was_lost_is_found_out_by_the_next_close() {
    let world = with(Settings {
        durability: Durability::Registry,
        ..Settings::default()
    });
    world.cp("app/schema", V1).await.unwrap();
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    world.registry.set_fault(Fault::LoseReplies);
    assert_eq!(file.flush().await, Err(Error::Io));
    world.registry.set_fault(None);
    assert_eq!(file.flush().await, Ok(()));
    file.close().await.unwrap();
    assert_eq!(world.cat("app/schema").await.unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn a_push_answers_by_its_deadline_when_every_target_hangs() {
    let world = world_with(V1).await;
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    for store in world.all() {
        store.set_fault(Fault::Hang);
    }
    let begun = tokio::time::Instant::now();
    assert_eq!(file.flush().await, Err(Error::Io));
    assert!(begun.elapsed() <= Duration::from_secs(15) + Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_push_keeps_its_deadline_also_when_another_is_before_it() {
    let world = world_with(V1).await;
    let first = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    let second = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    first.write(0, V2).unwrap();
    second.write(0, V2).unwrap();
    for store in world.all() {
        store.set_fault(Fault::Hang);
    }
    let begun = tokio::time::Instant::now();
    let (one, two) = tokio::join!(first.flush(), second.flush());
    assert_eq!((one, two), (Err(Error::Io), Err(Error::Io)));
    assert!(
        begun.elapsed() <= Duration::from_millis(15_010),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_hung_registry_leaves_the_backups_their_time() {
    let world = world_with(V1).await;
    world.registry.set_fault(Fault::Hang);
    for backup in &world.backups {
        backup.set_fault(Fault::Slow(Duration::from_secs(1)));
    }
    world.wait().await;
    let begun = tokio::time::Instant::now();
    world.cp("app/schema", V2).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15));
    for backup in &world.backups {
        assert_eq!(backup.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test(start_paused = true)]
async fn backups_are_pushed_to_at_once() {
    let world = world_with(V1).await;
    for backup in &world.backups {
        backup.set_fault(Fault::Slow(Duration::from_secs(1)));
    }
    let begun = tokio::time::Instant::now();
    world.cp("app/schema", V2).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 1);
}

#[tokio::test]
async fn the_number_of_writers_is_bounded() {
    let world = World::with(Choice {
        named: vec!["app"],
        max_writers: Some(2),
        ..Choice::default()
    });
    let _a = world.open("app/plans/a", WRITE, true).await.unwrap();
    let b = world.open("app/plans/b", WRITE, true).await.unwrap();
    let third = world.open("app/plans/c", WRITE, true).await;
    assert_eq!(third.err(), Some(Error::TooManyHandles));
    b.close().await.unwrap();
    world.open("app/plans/c", WRITE, true).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutting_down_waits_for_the_pushes_under_way() {
    let world = world_with(V1).await;
    world
        .registry
        .set_fault(Fault::Slow(Duration::from_secs(3)));
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    let fs = world.fs.clone();
    let fh = file.fh;
    let close = tokio::spawn(async move { fs.flush(fh).await });
    tokio::task::yield_now().await;
    assert_eq!(world.fs.shut_down(Duration::from_secs(1)).await, 1);
    assert_eq!(world.fs.shut_down(Duration::from_secs(9)).await, 0);
    assert_eq!(close.await.unwrap(), Ok(()));
    assert_eq!(world.registry.content("app/schema").unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn a_writer_is_told_the_number_of_the_file_that_it_has_looked_up() {
    let world = world_with(V1).await;
    let seen = world.stat("app/schema").await.unwrap();
    let file = world.open("app/schema", WRITE, false).await.unwrap();
    assert_ne!(file.ino, seen.ino, "it has an inode of its own");
    let shown = |fh| world.fs.clone().getattr(file.ino, fh);
    assert_eq!(shown(None).await.unwrap().0.shown, seen.ino);
    assert_eq!(shown(Some(file.fh)).await.unwrap().0.shown, seen.ino);
    file.close().await.unwrap();
    // Somebody else has pushed in between: vim is right not to write then.
    let pid = world.pid();
    let seen = world.walk("app/schema", pid).await.unwrap();
    world.another().cp("app/schema", V2).await.unwrap();
    let sent_back = world.fs.clone().open(seen.ino, WRITE, pid).await;
    assert_eq!(sent_back.err(), Some(Error::Stale));
    world.wait().await;
    let writer = world.walk("app/schema", pid).await.unwrap();
    assert_ne!(writer.shown, seen.ino);
}

#[tokio::test]
async fn what_is_being_written_is_bounded_in_bytes_and_beyond_them_there_is_no_space() {
    let world = World::with(Choice {
        named: vec!["app"],
        staged_bytes: Some(30),
        ..Choice::default()
    });
    let first = world.open("app/schema", WRITE, true).await.unwrap();
    first.write(0, V1).unwrap();
    let second = world.open("app/plans/p1", WRITE, true).await.unwrap();
    assert_eq!(second.write(0, &[b'x'; 20]), Err(Error::NoSpace));
    assert_eq!(
        second.close().await,
        Err(Error::NoSpace),
        "and close says so"
    );
    assert_eq!(first.close().await, Ok(()));
    let third = world.open("app/plans/p1", WRITE, true).await.unwrap();
    assert_eq!(third.write(0, &[b'x'; 20]), Ok(()), "it is given back");
    assert_eq!(third.close().await, Err(Error::Invalid));
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_told_of_and_looked_at_before_each_push() {
    let registry = Memory::ignoring_conditions();
    let world = World::with(Choice {
        named: vec!["app"],
        stores: Some([registry, Memory::default(), Memory::default()]),
        untried: true,
        ..Choice::default()
    });
    world.cp("app/schema", V1).await.unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(1);
    world.fs.registry.try_conditions(end).await;
    let status = world.json(".atlasfs/status").await;
    assert_eq!(status["targets"][0]["conditional_writes"], false);
    let events = String::from_utf8(world.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("conditions-ignored"));
    let loser = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    loser.write(0, V1).unwrap();
    world.another().cp("app/schema", V2).await.unwrap();
    assert_eq!(loser.close().await, Err(Error::Stale));
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test]
async fn a_store_that_has_not_been_tried_for_conditions_is_not_trusted_with_them() {
    let world = World::with(Choice {
        named: vec!["app"],
        stores: Some([
            Memory::ignoring_conditions(),
            Memory::default(),
            Memory::default(),
        ]),
        untried: true,
        ..Choice::default()
    });
    world.cp("app/schema", V1).await.unwrap();
    let loser = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    loser.write(0, V1).unwrap();
    world.another().cp("app/schema", V2).await.unwrap();
    assert_eq!(loser.close().await, Err(Error::Stale));
    for store in world.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_out_when_mounting_is_tried_as_soon_as_it_answers() {
    let world = World::with(Choice {
        named: vec!["app"],
        stores: Some([
            Memory::ignoring_conditions(),
            Memory::default(),
            Memory::default(),
        ]),
        untried: true,
        ..Choice::default()
    });
    let store = &world.registry;
    store.set_fault(Fault::Fail(Kind::Unreachable));
    let end = tokio::time::Instant::now() + Duration::from_secs(1);
    let refusals = world.fs.registry.try_conditions(end).await;
    assert!(refusals.is_empty(), "an outage is no refusal");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let status = world.json(".atlasfs/status").await;
    assert!(status["targets"][0]["conditional_writes"].is_null());
    store.set_fault(None);
    world.ls("app").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let status = world.json(".atlasfs/status").await;
    assert_eq!(status["targets"][0]["conditional_writes"], false);
    let events = String::from_utf8(world.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert_eq!(events.matches("conditions-ignored").count(), 1, "{events}");
}

#[tokio::test]
async fn a_store_that_can_not_be_tried_for_conditions_is_told_of() {
    let world = World::with(Choice {
        untried: true,
        ..Choice::default()
    });
    world.registry.set_fault(Fault::FailWrites(Kind::Denied));
    let end = tokio::time::Instant::now() + Duration::from_secs(1);
    let refusals = world.fs.registry.try_conditions(end).await;
    assert_eq!(refusals.len(), 1);
    let status = world.json(".atlasfs/status").await;
    assert_eq!(
        status["targets"][0]["conditional_writes"],
        serde_json::Value::Null
    );
    let events = String::from_utf8(world.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("conditions-unknown"), "{events}");
    let failure = &status["targets"][0]["last_failure"];
    assert_eq!(failure["kind"], "denied", "{status:#}");
}
