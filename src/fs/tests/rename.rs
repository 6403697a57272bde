//! Renaming a temporary file onto an artifact's name is a push.

use std::time::Duration;

use super::LISTED;
use super::fixtures::{choice, fixture_of, is_write};
use super::kernel::{Choice, Fixture, READ, READ_WRITE, WRITE};
use crate::fs::Error;
use crate::registry::{Durability, Settings};
use crate::store::{Fault, Kind};

pub(super) const V1: &[u8] = b"schema \"public\" {}\n";
pub(super) const V2: &[u8] = b"schema \"public\" { comment = \"2\" }\n";
pub(super) const V3: &[u8] = b"schema \"public\" { comment = \"three\" }\n";

fn plan(name: &str) -> Vec<u8> {
    format!("plan \"{name}\" {{\n  from = \"a\"\n  to = \"b\"\n  migration = \"c\"\n}}\n").into()
}

async fn fixture() -> Fixture {
    fixture_of(choice(), V1).await
}

pub(super) fn all_hold(fixture: &Fixture, key: &str, content: &[u8]) {
    for store in fixture.all() {
        assert_eq!(store.content(key).unwrap(), content, "{key}");
    }
}

/// Counts the write requests to each target since the last call.
fn writes(fixture: &Fixture) -> [usize; 3] {
    fixture.all().map(|store| {
        let requests = store.requests();
        let writes = requests.iter().filter(|request| is_write(request));
        writes.count()
    })
}

#[tokio::test]
async fn a_rename_onto_an_artifact_is_one_push_to_every_target() {
    let fixture = fixture().await;
    assert_eq!(writes(&fixture), [1; 3]);
    for (n, (from, to)) in [
        ("app/sedAbC123", "app/schema"),
        ("app/.schema.hcl.AbC123", "app/schema.hcl"),
        ("app/plans/.f", "app/schema"),
        (".f", "app/schema"),
    ]
    .into_iter()
    .enumerate()
    {
        let content = format!("schema \"public\" {{ comment = \"{n}\" }}\n");
        fixture.cp(from, content.as_bytes()).await.unwrap();
        fixture.mv(from, to).await.unwrap();
        all_hold(&fixture, "app/schema", content.as_bytes());
        assert_eq!(writes(&fixture), [1; 3], "one push");
        assert_eq!(fixture.cat("app/schema").await.unwrap(), content.as_bytes());
        assert_eq!(fixture.stat(from).await, Err(Error::NotFound));
        assert_eq!(fixture.ls("app").await.unwrap(), LISTED);
    }
    assert_eq!(fixture.xattr("app/schema", "error").await, None);
}

#[tokio::test]
async fn a_rename_makes_an_artifact_that_was_not_there() {
    let fixture = fixture().await;
    fixture.cp("app/plans/.p1.x", &plan("p1")).await.unwrap();
    fixture
        .mv("app/plans/.p1.x", "app/plans/p1.plan.hcl")
        .await
        .unwrap();
    all_hold(&fixture, "app/plans/p1", &plan("p1"));
    fixture.mkdir("new").await.unwrap();
    fixture.cp("new/.s", b"SELECT 1;\n").await.unwrap();
    let pid = fixture.pid();
    fixture
        .rename("new/.s", "new/schema.sql", true, pid)
        .await
        .unwrap();
    all_hold(&fixture, "new/schema", b"SELECT 1;\n");
    // The source is in the directory that rsync makes for delayed files.
    fixture.mkdir("app/plans/.~tmp~").await.unwrap();
    fixture
        .cp("app/plans/.~tmp~/p2", &plan("p2"))
        .await
        .unwrap();
    fixture
        .mv("app/plans/.~tmp~/p2", "app/plans/p2")
        .await
        .unwrap();
    all_hold(&fixture, "app/plans/p2", &plan("p2"));
    fixture.rmdir("app/plans/.~tmp~").await.unwrap();
}

#[tokio::test]
async fn a_rename_is_checked_as_a_close_is() {
    let fixture = fixture().await;
    fixture.cp("app/.s", b"not { hcl").await.unwrap();
    assert_eq!(
        fixture.mv("app/.s", "app/schema.hcl").await,
        Err(Error::Invalid)
    );
    assert_eq!(fixture.cat("app/.s").await.unwrap(), b"not { hcl");
    fixture.cp("app/.s", b"").await.unwrap();
    assert_eq!(
        fixture.mv("app/.s", "app/schema").await,
        Err(Error::Invalid)
    );
    fixture.cp("app/plans/.p", &plan("other")).await.unwrap();
    assert_eq!(
        fixture.mv("app/plans/.p", "app/plans/p1").await,
        Err(Error::Invalid)
    );
    all_hold(&fixture, "app/schema", V1);
    assert_eq!(writes(&fixture), [1; 3]);
    let error = fixture.xattr("app/schema", "error").await.unwrap();
    assert!(error.contains("empty"), "{error}");
}

#[tokio::test]
async fn a_file_over_max_size_is_not_pushed() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        registry: Settings {
            max_size: 30,
            ..Settings::default()
        },
        ..Choice::default()
    });
    fixture.cp("app/.s", V3).await.unwrap();
    assert_eq!(fixture.mv("app/.s", "app/schema").await, Err(Error::TooBig));
    assert_eq!(fixture.cat("app/.s").await.unwrap(), V3);
}

#[tokio::test]
async fn an_empty_file_does_not_get_a_new_artifacts_name() {
    let fixture = fixture().await;
    fixture.cp("app/plans/.p", b"").await.unwrap();
    let moved = fixture.mv("app/plans/.p", "app/plans/p1").await;
    assert_eq!(moved, Err(Error::Invalid));
    assert_eq!(fixture.cat("app/plans/.p").await.unwrap(), b"");
    assert_eq!(fixture.cat("app/plans/p1").await, Err(Error::Io));
    let error = fixture.xattr("app/plans/p1", "error").await.unwrap();
    assert!(error.contains("drop everything"), "{error}");
    assert_eq!(writes(&fixture), [1; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_rename_that_fails_leaves_both_files_and_keeps_the_bytes() {
    let fixture = fixture().await;
    fixture.cp("app/.s", V2).await.unwrap();
    for store in fixture.all() {
        store.set_fault(Fault::Fail(Kind::Unreachable));
    }
    assert_eq!(fixture.mv("app/.s", "app/schema").await, Err(Error::Io));
    assert_eq!(fixture.cat("app/.s").await.unwrap(), V2);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    let kept = fixture.ls(".atlasfs/unpushed/app").await.unwrap();
    assert_eq!(kept.len(), 1);
    let path = format!(".atlasfs/unpushed/app/{}", kept[0]);
    assert_eq!(fixture.cat(&path).await.unwrap(), V2);
    // mv(1) then copies, and removes the kept bytes.
    assert_eq!(
        fixture.mv(&path, "app/schema").await,
        Err(Error::CrossDevice)
    );
    for store in fixture.all() {
        store.set_fault(None);
    }
    fixture.mv("app/.s", "app/schema").await.unwrap();
    all_hold(&fixture, "app/schema", V2);
    assert_eq!(fixture.ls(".atlasfs/unpushed").await.unwrap(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_rename_while_no_target_answers_keeps_its_bytes() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        ..Choice::default()
    });
    fixture.cp("app/.s", V2).await.unwrap();
    let pid = fixture.pid();
    let app = fixture.stat("app").await.unwrap().ino;
    for store in fixture.all() {
        store.set_fault(Fault::Fail(Kind::Unreachable));
    }
    let (from, to) = (std::ffi::OsStr::new(".s"), std::ffi::OsStr::new("schema"));
    let renamed = fixture
        .fs
        .clone()
        .rename((app, from), (app, to), false, pid);
    assert_eq!(renamed.await, Err(Error::Io));
    assert_eq!(fixture.ls(".atlasfs/unpushed/app").await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_degraded_rename_succeeds_as_a_degraded_close_does() {
    let fixture = fixture().await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/.s", V2).await.unwrap();
    fixture.mv("app/.s", "app/schema").await.unwrap();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    assert_eq!(fixture.stat("app/.s").await, Err(Error::NotFound));
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        registry: Settings {
            durability: Durability::All,
            ..Settings::default()
        },
        ..Choice::default()
    });
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.backups[1].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/.s", V2).await.unwrap();
    assert_eq!(fixture.mv("app/.s", "app/schema").await, Err(Error::Io));
    assert_eq!(fixture.cat("app/.s").await.unwrap(), V2);
    fixture.backups[1].set_fault(None);
    // The second attempt is the same push: the traces of the first are no conflict.
    fixture.mv("app/.s", "app/schema").await.unwrap();
    all_hold(&fixture, "app/schema", V2);
}

#[tokio::test]
async fn rename_noreplace_replaces_nothing() {
    let fixture = fixture().await;
    fixture.cp("app/.s", V2).await.unwrap();
    let pid = fixture.pid();
    for name in ["app/schema", "app/schema.hcl"] {
        let kept = fixture.rename("app/.s", name, true, pid).await;
        assert_eq!(kept, Err(Error::Exists), "{name}");
    }
    assert_eq!(fixture.cat("app/.s").await.unwrap(), V2);
    assert_eq!(writes(&fixture), [1; 3]);
}

#[tokio::test]
async fn a_handle_of_a_renamed_file_writes_to_the_artifact() {
    let fixture = fixture().await;
    let file = fixture.open("app/.s", READ_WRITE, true).await.unwrap();
    file.write(0, V2).unwrap();
    file.flush().await.unwrap();
    fixture.mv("app/.s", "app/schema").await.unwrap();
    all_hold(&fixture, "app/schema", V2);
    assert_eq!(file.read_all().await.unwrap(), V2);
    assert_eq!(file.size().await, V2.len() as u64);
    file.flush().await.unwrap();
    assert_eq!(writes(&fixture), [2; 3], "nothing has changed since");
    file.write(0, V3).unwrap();
    assert_eq!(
        fixture.cat("app/schema").await.unwrap(),
        V2,
        "not before a close"
    );
    file.flush().await.unwrap();
    all_hold(&fixture, "app/schema", V3);
    // The handle doesn't overwrite another writer's content.
    fixture.cp("app/schema", V1).await.unwrap();
    file.write(0, V3).unwrap();
    assert_eq!(file.close().await, Err(Error::Stale));
    all_hold(&fixture, "app/schema", V1);
}

#[tokio::test]
async fn a_killed_writers_renamed_file_is_pushed_at_release() {
    let fixture = fixture().await;
    let file = fixture.open("app/.s", WRITE, true).await.unwrap();
    file.write(0, V2).unwrap();
    fixture.mv("app/.s", "app/schema").await.unwrap();
    file.write(0, V3).unwrap();
    file.release().await;
    all_hold(&fixture, "app/schema", V3);
}

#[tokio::test(start_paused = true)]
async fn a_write_during_a_rename_is_pushed_too() {
    let fixture = fixture().await;
    let file = fixture.open("app/.s", WRITE, true).await.unwrap();
    file.write(0, V2).unwrap();
    fixture
        .registry
        .set_fault(Fault::Slow(std::time::Duration::from_secs(1)));
    let late = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        file.write(0, V3).unwrap();
        file.close().await
    };
    let (renamed, closed) = tokio::join!(fixture.mv("app/.s", "app/schema"), late);
    renamed.unwrap();
    closed.unwrap();
    all_hold(&fixture, "app/schema", V3);
    assert_eq!(fixture.stat("app/.s").await, Err(Error::NotFound));
}

#[tokio::test]
async fn a_reader_of_the_old_content_keeps_it_through_a_rename() {
    let fixture = fixture().await;
    let reader = fixture.open("app/schema", READ, false).await.unwrap();
    fixture.cp("app/.s", V2).await.unwrap();
    fixture.mv("app/.s", "app/schema").await.unwrap();
    assert_eq!(reader.read_all().await.unwrap(), V1);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    reader.close().await.unwrap();
}

#[tokio::test]
async fn a_renamed_file_no_longer_counts_as_temporary() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        temporary_bytes: Some(V3.len() as u64),
        ..Choice::default()
    });
    for content in [V3, V2, V3, V2] {
        fixture.cp("app/.s", content).await.unwrap();
        fixture.mv("app/.s", "app/schema").await.unwrap();
    }
    let staging = fixture.state_dir.path().join("staging");
    assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0);
}

#[tokio::test]
async fn an_artifact_never_leaves_its_name() {
    let fixture = fixture().await;
    fixture.cp("app/plans/p1", &plan("p1")).await.unwrap();
    fixture.mkdir("new").await.unwrap();
    for (from, to) in [
        ("app/schema", "app/schema~"),
        ("app/schema", "app/schema___jb_old___"),
        ("app/schema", "app/schema.sql"),
        ("app/schema", "new/schema"),
        ("app/schema", "app/plans/p2"),
        ("app/plans/p1", "app/plans/.p1"),
        ("app/plans", "app/.plans"),
        ("app", "other"),
        ("new", ".new"),
    ] {
        assert_eq!(
            fixture.mv(from, to).await,
            Err(Error::NotPermitted),
            "{from} to {to}"
        );
    }
    assert_eq!(
        fixture.mv("app/plans/p1", "app/plans/p2").await,
        Err(Error::Invalid)
    );
    assert_eq!(
        fixture.mv("app/plans/none", "app/plans/p2").await,
        Err(Error::NotFound)
    );
    all_hold(&fixture, "app/schema", V1);
    all_hold(&fixture, "app/plans/p1", &plan("p1"));
}

#[tokio::test]
async fn a_rename_of_an_artifact_onto_itself_does_nothing() {
    let fixture = fixture().await;
    fixture.mv("app/schema", "app/schema").await.unwrap();
    fixture.mv("app/schema", "app/schema.hcl").await.unwrap();
    assert_eq!(writes(&fixture), [1; 3]);
}

#[tokio::test]
async fn only_a_file_can_become_an_artifact() {
    let fixture = fixture().await;
    fixture.symlink("x", "app/.l").await.unwrap();
    assert_eq!(
        fixture.mv("app/.l", "app/schema").await,
        Err(Error::NotPermitted)
    );
    fixture.mkdir("app/.d").await.unwrap();
    assert_eq!(
        fixture.mv("app/.d", "app/schema").await,
        Err(Error::NotDirectory)
    );
    assert_eq!(
        fixture.mv("app/.d", "app/plans").await,
        Err(Error::NotEmpty)
    );
    fixture.cp("app/.f", b"x").await.unwrap();
    assert_eq!(
        fixture.mv("app/.f", "app/plans").await,
        Err(Error::IsDirectory)
    );
}

#[tokio::test(start_paused = true)]
async fn a_rename_does_not_wait_for_a_hung_backup_once_it_is_decided() {
    let fixture = fixture().await;
    fixture.cp("app/.s", V2).await.unwrap();
    fixture.backups[0].set_fault(Fault::Hang);
    let begun = tokio::time::Instant::now();
    fixture.mv("app/.s", "app/schema").await.unwrap();
    let waited = begun.elapsed();
    let most = fixture.fs.registry.settings().metadata + Duration::from_millis(10);
    assert!(waited <= most, "{waited:?}");
    for store in [&fixture.registry, &fixture.backups[1]] {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
    let pending = fixture.xattr("app/schema", "pending").await;
    assert_eq!(pending.as_deref(), Some("mem://backup-1"));
}

#[tokio::test(start_paused = true)]
async fn a_rename_waits_for_a_slow_backup_that_decides() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        registry: Settings {
            durability: Durability::All,
            ..Settings::default()
        },
        ..Choice::default()
    });
    fixture.cp("app/.s", V2).await.unwrap();
    fixture.backups[0].set_fault(Fault::Slow(Duration::from_secs(5)));
    fixture.mv("app/.s", "app/schema").await.unwrap();
    assert_eq!(fixture.backups[0].content("app/schema").unwrap(), V2);
}
