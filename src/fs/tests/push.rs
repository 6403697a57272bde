//! Pushes: the meaning of a close.

use super::fixtures::{fixture_with, is_write, plan, with};
use super::kernel::{READ, READ_WRITE, WRITE, WRITE_ANEW};
use super::{V1, V2};
use crate::fs::{Error, OpenMode};
use crate::registry::{Durability, Settings};
use crate::store::{Fault, Kind};

#[tokio::test]
async fn a_close_pushes_the_same_bytes_to_every_target() {
    let fixture = fixture_with(V1).await;
    fixture
        .cp("app/plans/p1.plan.hcl", &plan("p1"))
        .await
        .unwrap();
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
        assert_eq!(store.content("app/plans/p1").unwrap(), plan("p1"));
    }
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(fixture.cat("app/plans/p1").await.unwrap(), plan("p1"));
}

#[tokio::test]
async fn one_save_is_one_put_on_each_target() {
    let fixture = fixture_with(V1).await;
    for store in fixture.all() {
        let puts = store
            .requests()
            .into_iter()
            .filter(|request| is_write(request));
        assert_eq!(puts.count(), 1);
    }
}

#[tokio::test]
async fn fsync_and_close_in_a_row_are_one_push() {
    let fixture = fixture_with(V1).await;
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    fixture.fs.clone().fsync(file.fh).await.unwrap();
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V2);
    fixture.registry.requests();
    file.flush().await.unwrap();
    file.close().await.unwrap();
    assert!(fixture.registry.requests().is_empty());
}

#[tokio::test]
async fn no_reader_sees_unfinished_writes() {
    let fixture = fixture_with(V1).await;
    let reader = fixture.open("app/schema", READ, false).await.unwrap();
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, b"half").unwrap();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(
        fixture.stat("app/schema").await.unwrap().size,
        V1.len() as u64
    );
    assert_eq!(reader.read_all().await.unwrap(), V1);
    file.truncate(0).await.unwrap();
    file.write(0, V2).unwrap();
    file.close().await.unwrap();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    assert_eq!(
        reader.read_all().await.unwrap(),
        V1,
        "a reader keeps what it opened"
    );
}

#[tokio::test]
async fn a_writer_sees_its_own_writes() {
    let fixture = fixture_with(V1).await;
    let file = fixture.open("app/schema", READ_WRITE, false).await.unwrap();
    assert_eq!(file.read_all().await.unwrap(), V1);
    file.write(V1.len() as u64, b"# more\n").unwrap();
    assert_eq!(file.size().await, V1.len() as u64 + 7);
    assert!(file.read_all().await.unwrap().ends_with(b"# more\n"));
    file.close().await.unwrap();
}

#[tokio::test]
async fn a_new_file_is_not_there_before_its_close() {
    let fixture = fixture_with(V1).await;
    let file = fixture.open("app/plans/p1", WRITE, true).await.unwrap();
    file.write(0, &plan("p1")).unwrap();
    assert_eq!(fixture.stat("app/plans/p1").await, Err(Error::NotFound));
    assert!(fixture.ls("app/plans").await.unwrap().is_empty());
    file.close().await.unwrap();
    assert_eq!(fixture.ls("app/plans").await.unwrap(), ["p1"]);
}

#[tokio::test]
async fn appending_writes_at_the_end() {
    let fixture = fixture_with(V1).await;
    let append = OpenMode {
        append: true,
        ..WRITE
    };
    let file = fixture.open("app/schema", append, false).await.unwrap();
    file.write(0, b"schema \"a\" {}\n").unwrap();
    file.write(3, b"schema \"b\" {}\n").unwrap();
    file.close().await.unwrap();
    let expected = [V1, b"schema \"a\" {}\nschema \"b\" {}\n"].concat();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), expected);
}

#[tokio::test]
async fn odd_offsets_and_sizes_give_the_right_bytes() {
    let fixture = with(Settings {
        validate: false,
        ..Settings::default()
    });
    let file = fixture.open("app/schema", WRITE, true).await.unwrap();
    file.write(5, b"world").unwrap();
    file.write(0, b"hello").unwrap();
    file.truncate(12).await.unwrap();
    file.truncate(9).await.unwrap();
    file.write(11, b"!").unwrap();
    file.close().await.unwrap();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), b"helloworl\0\0!");
}

#[tokio::test]
async fn truncate_by_path_is_a_push() {
    let fixture = fixture_with(V2).await;
    let pid = fixture.pid();
    let set = crate::fs::SetAttr {
        size: Some(V1.len() as u64),
        ..crate::fs::SetAttr::default()
    };
    let ino = fixture.walk("app/schema", pid).await.unwrap().ino;
    let bounced = fixture.fs.clone().setattr(ino, None, set, pid).await;
    assert_eq!(bounced.unwrap_err(), Error::Stale);
    let ino = fixture.walk("app/schema", pid).await.unwrap().ino;
    fixture
        .fs
        .clone()
        .setattr(ino, None, set, pid)
        .await
        .unwrap();
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V1);
}

#[tokio::test]
async fn an_open_without_a_change_is_not_pushed() {
    let fixture = fixture_with(V1).await;
    fixture.registry.requests();
    let file = fixture.open("app/schema", WRITE, false).await.unwrap();
    file.close().await.unwrap();
    assert!(
        fixture
            .registry
            .requests()
            .iter()
            .all(|request| !request.starts_with("PUT"))
    );
}

#[tokio::test]
async fn any_succeeds_with_one_target_and_names_the_missing() {
    let fixture = fixture_with(V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Busy));
    fixture.backups[0].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V1);
    assert_eq!(fixture.backups[1].content("app/schema").unwrap(), V2);
    let pending = fixture.xattr("app/schema", "pending").await.unwrap();
    assert_eq!(pending, "mem://registry mem://backup-1");
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["pending"][0]["artifact"], "app/schema");
    assert_eq!(status["pushes"]["degraded"], 1);
    let receipt = fixture.xattr("app/schema", "push").await.unwrap();
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
    let fixture = fixture_with(V1).await;
    fixture.cp("app/plans/plan1", &plan("plan1")).await.unwrap();
    let receipt = fixture.xattr("app/plans/plan1", "push").await.unwrap();
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
    let fixture = with(Settings {
        durability: Durability::Registry,
        ..Settings::default()
    });
    fixture.backups[0].set_fault(Fault::Fail(Kind::Busy));
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    assert_eq!(fixture.cp("app/schema", V2).await, Err(Error::Io));
    assert_eq!(fixture.backups[1].content("app/schema").unwrap(), V1);
}

#[tokio::test]
async fn all_needs_every_target() {
    let fixture = with(Settings {
        durability: Durability::All,
        ..Settings::default()
    });
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.backups[1].set_fault(Fault::Fail(Kind::NoSpace));
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    assert_eq!(file.flush().await, Err(Error::NoSpace));
    assert_eq!(
        file.flush().await,
        Err(Error::NoSpace),
        "the next close says it again"
    );
    fixture.backups[1].set_fault(None);
    assert_eq!(
        file.flush().await,
        Ok(()),
        "and is right when it can be done"
    );
    file.close().await.unwrap();
    for store in fixture.all() {
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
        let fixture = fixture_with(V1).await;
        for store in fixture.all() {
            store.set_fault(Fault::FailWrites(kind));
        }
        assert_eq!(fixture.cp("app/schema", V2).await, Err(error), "{kind:?}");
    }
}

#[tokio::test]
async fn a_failed_push_is_visible_everywhere_and_its_bytes_are_kept() {
    let fixture = fixture_with(V1).await;
    for store in fixture.all() {
        store.set_fault(Fault::FailWrites(Kind::Unreachable));
    }
    assert_eq!(fixture.cp("app/schema", V2).await, Err(Error::Io));
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    let error = fixture.xattr("app/schema", "error").await.unwrap();
    assert!(error.contains("mem://backup-2"), "{error}");
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["healthy"], false);
    let path = status["unpushed"][0]["path"].as_str().unwrap();
    assert_eq!(fixture.cat(path).await.unwrap(), V2);
    let events = fixture.cat(".atlasfs/events").await.unwrap();
    assert!(
        String::from_utf8(events)
            .unwrap()
            .contains("\"event\":\"push-failed\"")
    );
    let metrics = String::from_utf8(fixture.cat(".atlasfs/metrics").await.unwrap()).unwrap();
    assert!(metrics.contains("atlasfs_pushes_total{verdict=\"failed\"} 1\n"));
    assert!(metrics.contains("atlasfs_unpushed 1\n"));

    for store in fixture.all() {
        store.set_fault(None);
    }
    fixture.cp("app/schema", V2).await.unwrap();
    assert_eq!(fixture.xattr("app/schema", "error").await, None);
    assert!(
        fixture.ls(".atlasfs/unpushed").await.unwrap().is_empty(),
        "pushed by now"
    );
}

#[tokio::test]
async fn kept_bytes_can_be_removed() {
    let fixture = fixture_with(V1).await;
    for store in fixture.all() {
        store.set_fault(Fault::FailWrites(Kind::Busy));
    }
    assert_eq!(
        fixture.cp("app/plans/p1", &plan("p1")).await,
        Err(Error::Io)
    );
    assert_eq!(fixture.ls(".atlasfs/unpushed").await.unwrap(), ["app"]);
    assert_eq!(
        fixture.ls(".atlasfs/unpushed/app").await.unwrap(),
        ["plans"]
    );
    let kept = fixture.ls(".atlasfs/unpushed/app/plans").await.unwrap();
    let path = format!(".atlasfs/unpushed/app/plans/{}", kept[0]);
    assert!(kept[0].starts_with("p1@"));
    fixture.rm(&path).await.unwrap();
    assert!(fixture.ls(".atlasfs/unpushed").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_first_push_that_failed_is_not_read_as_empty() {
    let fixture = fixture_with(V1).await;
    for store in fixture.all() {
        store.set_fault(Fault::FailWrites(Kind::Busy));
    }
    assert_eq!(
        fixture.cp("app/plans/p1", &plan("p1")).await,
        Err(Error::Io)
    );
    assert_eq!(fixture.cat("app/plans/p1").await, Err(Error::Io));
    assert!(fixture.xattr("app/plans/p1", "error").await.is_some());
    assert!(fixture.ls("app/plans").await.unwrap().is_empty());
    fixture.rm("app/plans/p1").await.unwrap();
    assert_eq!(fixture.stat("app/plans/p1").await, Err(Error::NotFound));
}

#[tokio::test]
async fn a_release_without_a_close_pushes_and_is_counted() {
    let fixture = fixture_with(V1).await;
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    file.release().await;
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V2);
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["pushes"]["unreported"], 1);
}

#[tokio::test]
async fn a_failure_that_a_close_has_reported_is_not_tried_again_by_release() {
    let fixture = fixture_with(V1).await;
    fixture
        .registry
        .set_fault(Fault::FailWrites(Kind::Conflict));
    assert_eq!(fixture.cp("app/schema", V2).await, Err(Error::Stale));
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["pushes"]["unreported"], 0);
    assert_eq!(status["pushes"]["conflict"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_writer_sees_the_inode_number_of_its_look_up() {
    let fixture = fixture_with(V1).await;
    let seen = fixture.stat("app/schema").await.unwrap();
    let file = fixture.open("app/schema", WRITE, false).await.unwrap();
    assert_ne!(file.ino, seen.ino, "it has an inode of its own");
    let shown = |fh| fixture.fs.clone().getattr(file.ino, fh, 0);
    assert_eq!(shown(None).await.unwrap().0.shown, seen.ino);
    assert_eq!(shown(Some(file.fh)).await.unwrap().0.shown, seen.ino);
    file.close().await.unwrap();
    // Another writer has pushed in between: vim rightly doesn't write then.
    let pid = fixture.pid();
    let seen = fixture.walk("app/schema", pid).await.unwrap();
    fixture.another().cp("app/schema", V2).await.unwrap();
    let sent_back = fixture.fs.clone().open(seen.ino, WRITE, pid).await;
    assert_eq!(sent_back.err(), Some(Error::Stale));
    fixture.wait().await;
    let writer = fixture.walk("app/schema", pid).await.unwrap();
    assert_ne!(writer.shown, seen.ino);
}

#[tokio::test(start_paused = true)]
async fn threads_without_a_number_are_served_at_once() {
    let fixture = fixture_with(V1).await;
    let ino = fixture.walk("app/schema", 0).await.unwrap().ino;
    let how = OpenMode {
        truncate: true,
        ..WRITE
    };
    let opened = fixture.fs.clone().open(ino, how, 0).await.unwrap();
    assert!(opened.direct_io);
    fixture.fs.write(opened.fh, 0, V2, 0).unwrap();
    fixture.fs.clone().flush(opened.fh, 0).await.unwrap();
    fixture.fs.clone().release(opened.fh).await.unwrap();
    let opened = fixture.fs.clone().open(ino, READ, 0).await.unwrap();
    assert!(opened.direct_io, "the inode is of the old content");
    let read = fixture.fs.clone().read(opened.fh, 0, 1_000).await.unwrap();
    assert_eq!(read, V2);
}
