//! Migration directories: plain files with a push each, and a sum over all of them.

use std::time::Duration;

use super::V1;
use super::fixtures::{Choice, choice, choice_of, fixture_with, replaying, unpushed};
use super::kernel::{Fixture, WRITE, WRITE_ANEW};
use super::reconcile::{from_another_machine, order};
use crate::fs::Error;
use crate::model::SumFile;
use crate::registry::Settings;
use crate::store::{Fault, Kind, Memory};

/// Longer than replay and the repair that follows it need.
pub(super) const CALM: Duration = Duration::from_secs(100);

pub(super) const FIRST: (&str, &[u8]) = ("20241018044955.sql", b"CREATE TABLE a (id int);\n");
pub(super) const SECOND: (&str, &[u8]) = ("20241018071458_more.sql", b"DROP TABLE a;\r\n");

/// Makes the content of `atlas.sum` for files in order.
pub(super) fn sum(files: &[(&str, &[u8])]) -> Vec<u8> {
    SumFile::compute(files.iter().copied())
        .to_string()
        .into_bytes()
}

pub(super) async fn copy(fixture: &Fixture, files: &[(&str, &[u8])]) {
    for (name, content) in files {
        let path = format!("app/migrations/{name}");
        fixture.cp(&path, content).await.unwrap();
    }
}

/// Makes a mount of a directory with two files and their sum.
pub(super) async fn directory(choice: Choice) -> Fixture {
    let fixture = Fixture::with(choice);
    copy(&fixture, &[FIRST, SECOND]).await;
    let sum = sum(&[FIRST, SECOND]);
    fixture.cp("app/migrations/atlas.sum", &sum).await.unwrap();
    fixture
}

async fn state(fixture: &Fixture) -> String {
    let sum = fixture.xattr("app/migrations", "sum");
    sum.await.unwrap()
}

#[tokio::test]
async fn each_migration_file_is_pushed_to_every_target() {
    let fixture = directory(choice()).await;
    for store in fixture.all() {
        for (name, content) in [FIRST, SECOND] {
            let key = format!("app/migrations/{name}");
            assert_eq!(store.content(&key).unwrap(), content);
        }
    }
    let names = fixture.ls("app/migrations").await.unwrap();
    assert_eq!(names, [FIRST.0, SECOND.0, "atlas.sum"]);
    assert_eq!(
        fixture
            .cat("app/migrations/20241018071458_more.sql")
            .await
            .unwrap(),
        SECOND.1
    );
    let all = fixture.ls_all("app", fixture.pid()).await.unwrap();
    assert!(all.contains(&"migrations".to_owned()), "{all:?}");
    let other = fixture.another();
    other.cp("app/schema", V1).await.unwrap();
    assert_eq!(other.ls("app/migrations").await.unwrap(), names);
    assert_eq!(other.ls("app/plans").await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn migration_files_of_every_format_are_files() {
    let fixture = Fixture::with(choice());
    for name in [
        "V1__init.sql",
        "R__views.sql",
        "1_init.up.sql",
        "1_init.down.sql",
        "x.sql",
    ] {
        let path = format!("app/migrations/{name}");
        fixture.cp(&path, b"SELECT 1;\n").await.unwrap();
        assert_eq!(fixture.cat(&path).await.unwrap(), b"SELECT 1;\n");
        assert!(fixture.registry.content(&path).is_some());
    }
    for name in ["README.md", "V1__a b.sql", "dir", "atlas.sum.bak"] {
        let created = fixture
            .open(&format!("app/migrations/{name}"), WRITE, true)
            .await;
        assert_eq!(created.err(), Some(Error::NotPermitted), "{name}");
    }
}

#[tokio::test]
async fn a_migration_file_may_be_empty_and_a_touch_pushes_it() {
    let fixture = Fixture::with(choice());
    let path = "app/migrations/1.sql";
    for how in [WRITE, WRITE_ANEW] {
        let file = fixture.open(path, how, true).await.unwrap();
        file.close().await.unwrap();
        assert_eq!(fixture.registry.content(path).unwrap(), b""[..]);
        fixture.registry.remove(path);
        fixture.wait().await;
    }
    fixture.cp(path, b"SELECT 1;").await.unwrap();
    let file = fixture.open(path, WRITE, false).await.unwrap();
    file.truncate(0).await.unwrap();
    file.close().await.unwrap();
    assert_eq!(fixture.registry.content(path).unwrap(), b""[..]);
    fixture
        .cp("app/migrations/.1.sql.AbC123", b"")
        .await
        .unwrap();
    fixture
        .mv("app/migrations/.1.sql.AbC123", "app/migrations/2.sql")
        .await
        .unwrap();
    assert_eq!(
        fixture.registry.content("app/migrations/2.sql").unwrap(),
        b""[..]
    );
}

#[tokio::test]
async fn atlas_sum_must_parse_as_one() {
    let fixture = Fixture::with(choice());
    let path = "app/migrations/atlas.sum";
    for content in [&b""[..], b"SELECT 1;\n", b"h1:x\n1.sql h1:y\n"] {
        assert_eq!(fixture.cp(path, content).await, Err(Error::Invalid));
    }
    let torn = &sum(&[FIRST, SECOND])[..60];
    assert_eq!(fixture.cp(path, torn).await, Err(Error::Invalid));
    let error = fixture.xattr(path, "error").await.unwrap();
    assert!(
        error.contains("line 2 is not \"<file> h1:<hash>\""),
        "{error}"
    );
    assert_eq!(unpushed(&fixture).await.last().unwrap(), torn);
    fixture.cp("app/migrations/.new", torn).await.unwrap();
    let moved = fixture.mv("app/migrations/.new", path).await;
    assert_eq!(moved, Err(Error::Invalid));
    assert_eq!(fixture.registry.content(path), None);
    let crlf = String::from_utf8(sum(&[FIRST]))
        .unwrap()
        .replace('\n', "\r\n");
    fixture.cp(path, crlf.as_bytes()).await.unwrap();
    assert_eq!(fixture.registry.content(path).unwrap(), crlf);
}

#[tokio::test]
async fn the_sum_of_a_directory_names_the_first_difference() {
    let mut choice = choice();
    choice.allow_delete = true;
    let fixture = Fixture::with(choice);
    assert_eq!(state(&fixture).await, "absent");
    let url = fixture.xattr("app/migrations", "url").await;
    assert_eq!(url.unwrap(), "atlas://app");
    copy(&fixture, &[FIRST, SECOND]).await;
    assert_eq!(state(&fixture).await, "absent");
    let right = sum(&[FIRST, SECOND]);
    fixture
        .cp("app/migrations/atlas.sum", &right)
        .await
        .unwrap();
    assert_eq!(state(&fixture).await, "ok");
    copy(&fixture, &[(SECOND.0, b"DROP TABLE a;\n")]).await;
    assert_eq!(
        state(&fixture).await,
        "L3: 20241018071458_more.sql was edited"
    );
    copy(&fixture, &[SECOND, ("2025.sql", b"")]).await;
    assert_eq!(state(&fixture).await, "L4: 2025.sql was added");
    copy(&fixture, &[("2025.sql", b"-- atlas:sum ignore\n")]).await;
    assert_eq!(state(&fixture).await, "ok");
    fixture
        .rm("app/migrations/20241018044955.sql")
        .await
        .unwrap();
    assert_eq!(state(&fixture).await, "L2: 20241018044955.sql was removed");
    fixture.rm("app/migrations/atlas.sum").await.unwrap();
    assert_eq!(state(&fixture).await, "absent");
    fixture
        .registry
        .place("app/migrations/atlas.sum", b"<<<<", None);
    fixture.wait().await;
    let by_hand = "atlas.sum: line 1 is not the hash of the other lines";
    assert_eq!(state(&fixture).await, by_hand);
}

/// Waits until the background has looked at the directory, and returns the sums of the status.
async fn sums(fixture: &Fixture) -> serde_json::Value {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    fixture.json(".atlasfs/status").await["sums"].take()
}

#[tokio::test(start_paused = true)]
async fn the_status_lists_repositories_whose_sum_is_not_ok() {
    let fixture = Fixture::with(choice());
    assert_eq!(sums(&fixture).await, serde_json::json!([]));
    copy(&fixture, &[FIRST, SECOND]).await;
    let absent = serde_json::json!([{ "repo": "app", "sum": "absent" }]);
    assert_eq!(sums(&fixture).await, absent);
    let right = sum(&[FIRST, SECOND]);
    fixture
        .cp("app/migrations/atlas.sum", &right)
        .await
        .unwrap();
    assert_eq!(sums(&fixture).await, serde_json::json!([]));
    copy(&fixture, &[(FIRST.0, b"")]).await;
    let edited = serde_json::json!([
        { "repo": "app", "sum": "L2: 20241018044955.sql was edited" }
    ]);
    assert_eq!(sums(&fixture).await, edited);
    // Another mount mends it.
    copy(&fixture.another(), &[FIRST]).await;
    fixture.wait().await;
    sums(&fixture).await;
    assert_eq!(sums(&fixture).await, serde_json::json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_migration_directory_has_targets_of_its_own() {
    let store = Memory::default();
    let with = |choice: Choice| Choice {
        migrations: Some(store.clone()),
        ..choice
    };
    let mut replaying = replaying();
    replaying.allow_delete = true;
    let fixture = directory(with(replaying)).await;
    fixture.cp("app/schema", V1).await.unwrap();
    let first = "app/migrations/20241018044955.sql";
    for holder in [&fixture.registry, &store] {
        assert_eq!(holder.content(first).unwrap(), FIRST.1);
    }
    let is_migration = |key: &String| key.contains("/migrations");
    let strangers = |fixture: &Fixture| {
        let schema = fixture
            .backups
            .iter()
            .flat_map(Memory::keys)
            .filter(is_migration);
        let own = store.keys().into_iter();
        schema
            .chain(own.filter(|key| key.contains("schema")))
            .collect::<Vec<_>>()
    };
    assert_eq!(strangers(&fixture), [""; 0]);
    // A push that its backup misses is pending for that backup alone.
    store.set_fault(Fault::Fail(Kind::Unreachable));
    copy(&fixture, &[(FIRST.0, b"SELECT 2;\n")]).await;
    let pending = fixture.xattr(first, "pending").await;
    assert_eq!(pending.unwrap(), "mem://migrations");
    store.set_fault(None);
    tokio::time::sleep(CALM).await;
    assert_eq!(store.content(first).unwrap(), b"SELECT 2;\n"[..]);
    // In an outage of the registry, its backup serves.
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    let other = Fixture::with(with(Choice {
        stores: Some([
            fixture.registry.clone(),
            fixture.backups[0].clone(),
            fixture.backups[1].clone(),
        ]),
        ..choice()
    }));
    assert_eq!(other.cat(first).await.unwrap(), b"SELECT 2;\n");
    assert_eq!(other.cat("app/schema").await.unwrap(), V1);
    fixture.registry.set_fault(None);
    // Reconcile keeps the two apart, and repairs each.
    store.remove(first);
    fixture.backups[0].remove("app/schema");
    let report = order(&fixture, "sync").await;
    assert_eq!(report["repaired"], 2, "{report}");
    assert_eq!(store.content(first).unwrap(), b"SELECT 2;\n"[..]);
    assert_eq!(fixture.backups[0].content("app/schema").unwrap(), V1);
    fixture.rm(first).await.unwrap();
    for holder in [&fixture.registry, &store] {
        assert_eq!(holder.content(first), None);
    }
    assert_eq!(order(&fixture, "verify").await["differences"], 0);
    assert_eq!(strangers(&fixture), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn reconcile_gives_each_target_the_migration_files_that_it_lacks() {
    let fixture = directory(choice()).await;
    fixture.backups[1].remove("app/migrations/atlas.sum");
    fixture.registry.remove("app/migrations/20241018044955.sql");
    let fixture = from_another_machine(fixture, choice());
    let report = order(&fixture, "sync").await;
    assert_eq!(report["repaired"], 2, "{report}");
    for store in fixture.all() {
        let keys = store.keys().into_iter();
        let files = keys.filter(|key| key.starts_with("app/migrations/"));
        assert_eq!(files.count(), 3);
    }
}

#[tokio::test]
async fn of_two_mounts_that_push_one_migration_file_one_wins() {
    let fixture = directory(choice()).await;
    let other = fixture.another();
    let path = "app/migrations/20241018044955.sql";
    let mine = fixture.open(path, WRITE, false).await.unwrap();
    mine.write(0, b"SELECT 1;\n").unwrap();
    copy(&other, &[(FIRST.0, b"SELECT 2;\n")]).await;
    assert_eq!(mine.close().await, Err(Error::Stale));
    assert_eq!(fixture.registry.content(path).unwrap(), b"SELECT 2;\n"[..]);
}

#[tokio::test]
async fn a_migration_file_keeps_its_name_and_needs_the_right_to_be_deleted() {
    let fixture = directory(choice()).await;
    let path = "app/migrations/20241018044955.sql";
    let refused = Err(Error::NotPermitted);
    assert_eq!(fixture.rm(path).await, refused);
    assert_eq!(fixture.mv(path, "app/migrations/2.sql").await, refused);
    assert_eq!(fixture.mv(path, "app/schema").await, refused);
    assert_eq!(fixture.rmdir("app/migrations").await, refused);
    assert_eq!(fixture.ln(path, "app/migrations/2.sql").await, refused);
    let fixture = fixture_with(V1).await;
    fixture.mkdir("new").await.unwrap();
    fixture.cp("new/migrations/1.sql", b"").await.unwrap();
    assert_eq!(fixture.rmdir("new").await, Err(Error::NotEmpty));
}

#[tokio::test(start_paused = true)]
async fn migrations_are_read_in_an_outage_and_after_a_restart_without_network() {
    let choice = || {
        choice_of(Settings {
            disk_cache_bytes: 1 << 20,
            ..Settings::default()
        })
    };
    let fixture = directory(choice()).await;
    assert_eq!(state(&fixture).await, "ok");
    fixture.settle().await;
    super::fixtures::set_all(&fixture, Fault::Fail(Kind::Unreachable));
    let fixture = fixture.restart(choice());
    assert_eq!(fixture.ls("app/migrations").await.unwrap().len(), 3);
    let path = "app/migrations/20241018044955.sql";
    assert_eq!(fixture.cat(path).await.unwrap(), FIRST.1);
    assert_eq!(state(&fixture).await, "ok");
}

#[tokio::test(start_paused = true)]
async fn a_schema_costs_no_look_at_the_migrations() {
    let fixture = directory(choice()).await;
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.wait().await;
    fixture.registry.requests();
    fixture.cat("app/schema").await.unwrap();
    fixture.ls("app").await.unwrap();
    fixture.stat("app/migrations").await.unwrap();
    assert_eq!(fixture.registry.requests(), ["LIST app"]);
}

#[tokio::test(start_paused = true)]
async fn backups_serve_the_migration_files_that_the_registry_has_lost() {
    let mut fixture = directory(choice()).await;
    let keys = fixture.registry.keys().into_iter();
    keys.for_each(|key| fixture.registry.remove(&key));
    let path = "app/migrations/20241018044955.sql";
    for knows_it in [true, false] {
        if !knows_it {
            fixture = from_another_machine(fixture, choice());
        }
        fixture.wait().await;
        assert_eq!(fixture.cat(path).await.unwrap(), FIRST.1);
        assert_eq!(fixture.ls("app/migrations").await.unwrap().len(), 3);
        assert_eq!(state(&fixture).await, "ok");
    }
    order(&fixture, "sync").await;
    assert_eq!(fixture.registry.content(path).unwrap(), FIRST.1);
}
