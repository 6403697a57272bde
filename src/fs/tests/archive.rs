//! Migration directories in versions: each push that makes a directory agree with its `atlas.sum`
//! makes one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use super::fixtures::{Choice, choice, choice_of, replaying, set_all};
use super::kernel::{Fixture, READ_WRITE, WRITE, WRITE_ANEW};
use super::migrations::{CALM, FIRST, SECOND, copy, directory, sum};
use super::reconcile::{from_another_machine, order};
use super::{V1, V2};
use crate::fs::Error;
use crate::registry::{Settings, WallClock};
use crate::store::{Fault, Kind, Memory};

/// Makes a store refuse versions, and nothing else.
const NO_VERSIONS: Fault = Fault::Refuse("PUT app/versions/");

/// Returns the keys of a store's archives.
fn archives(store: &Memory) -> Vec<String> {
    let mut keys = store.keys();
    keys.retain(|key| key.ends_with("/migrations.tar"));
    keys
}

async fn versions(fixture: &Fixture) -> Vec<String> {
    fixture.ls("app/versions").await.unwrap()
}

/// Pushes a third file, and the sum of all.
async fn extend(fixture: &Fixture) {
    let third = ("2025.sql", &b"SELECT 3;\n"[..]);
    let sum = sum(&[FIRST, SECOND, third]);
    copy(fixture, &[third, ("atlas.sum", &sum)]).await;
}

#[tokio::test]
async fn a_push_that_makes_a_directory_agree_makes_a_version() {
    let fixture = Fixture::with(choice());
    copy(&fixture, &[FIRST, SECOND]).await;
    assert_eq!(versions(&fixture).await, [""; 0]);
    let right = sum(&[FIRST, SECOND]);
    copy(&fixture, &[("atlas.sum", &right)]).await;
    let [version] = &versions(&fixture).await[..] else {
        panic!("not one version");
    };
    for store in fixture.all() {
        assert_eq!(
            archives(store),
            [format!("app/versions/{version}/migrations.tar")]
        );
    }
    let dir = format!("app/versions/{version}");
    assert_eq!(
        fixture.ls_all(&dir, fixture.pid()).await.unwrap(),
        ["migrations"]
    );
    let shown = fixture.xattr(&dir, "sha256").await.unwrap();
    assert_eq!(shown[..8], version[15..]);
    let dir = format!("{dir}/migrations");
    let files = fixture.ls(&dir).await.unwrap();
    assert_eq!(files, [FIRST.0, SECOND.0, "atlas.sum"]);
    for (name, content) in [FIRST, SECOND, ("atlas.sum", &right)] {
        let path = format!("{dir}/{name}");
        assert_eq!(fixture.cat(&path).await.unwrap(), content);
        assert_eq!(
            fixture.stat(&path).await.unwrap().size,
            content.len() as u64
        );
    }
    extend(&fixture).await;
    assert_eq!(versions(&fixture).await.len(), 2);
    assert_eq!(fixture.ls(&dir).await.unwrap(), files, "it never changes");
    assert!(fixture.fs.registry.unpushed().is_empty());
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["pending"], serde_json::json!([]));
}

#[tokio::test]
async fn a_deletion_and_a_rename_make_a_version_too() {
    let (seconds, fixture) = with_clock();
    let right = sum(&[FIRST, SECOND]);
    let right = ("atlas.sum", &right[..]);
    copy(&fixture, &[FIRST, SECOND, right, ("2025.sql", b"x")]).await;
    let alone = sum(&[FIRST]);
    copy(&fixture, &[(".new", &alone)]).await;
    fixture
        .mv("app/migrations/.new", "app/migrations/atlas.sum")
        .await
        .unwrap();
    fixture.rm("app/migrations/2025.sql").await.unwrap();
    assert_eq!(archives(&fixture.registry).len(), 1);
    fixture
        .rm("app/migrations/20241018071458_more.sql")
        .await
        .unwrap();
    assert_eq!(archives(&fixture.registry).len(), 2);
    // The same content, at a later time.
    seconds.fetch_add(10, Ordering::Relaxed);
    copy(&fixture, &[SECOND, (".new", right.1)]).await;
    fixture
        .mv("app/migrations/.new", "app/migrations/atlas.sum")
        .await
        .unwrap();
    assert_eq!(archives(&fixture.registry).len(), 3);
}

/// Makes a mount whose clock the test sets.
fn with_clock() -> (Arc<AtomicU64>, Fixture) {
    let seconds = Arc::new(AtomicU64::new(1_700_000_000));
    let clock = Arc::clone(&seconds);
    let now = move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed));
    let fixture = Fixture::with(Choice {
        wall: WallClock::new(now),
        allow_delete: true,
        ..choice()
    });
    (seconds, fixture)
}

#[tokio::test]
async fn a_version_shows_the_newest_schema_and_migrations_up_to_it() {
    let (seconds, fixture) = with_clock();
    let right = sum(&[FIRST, SECOND]);
    fixture.cp("app/schema", V1).await.unwrap();
    seconds.fetch_add(10, Ordering::Relaxed);
    copy(&fixture, &[FIRST, SECOND, ("atlas.sum", &right)]).await;
    seconds.fetch_add(10, Ordering::Relaxed);
    fixture.cp("app/schema", V2).await.unwrap();
    seconds.fetch_add(10, Ordering::Relaxed);
    extend(&fixture).await;
    let mut shown = Vec::new();
    for version in versions(&fixture).await {
        let schema = fixture
            .cat(&format!("app/versions/{version}/schema.hcl"))
            .await;
        let files = fixture
            .ls(&format!("app/versions/{version}/migrations"))
            .await;
        shown.push((schema.unwrap(), files.map(|files| files.len())));
    }
    let expected = [
        (V1.to_vec(), Err(Error::NotFound)),
        (V1.to_vec(), Ok(3)),
        (V2.to_vec(), Ok(3)),
        (V2.to_vec(), Ok(4)),
    ];
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn nothing_changes_a_versions_migrations() {
    let mut choice = choice();
    choice.allow_delete = true;
    let fixture = directory(choice).await;
    let version = versions(&fixture).await.remove(0);
    let dir = format!("app/versions/{version}/migrations");
    let path = format!("{dir}/{}", FIRST.0);
    let refused = Some(Error::NotPermitted);
    for how in [WRITE, WRITE_ANEW, READ_WRITE] {
        assert_eq!(fixture.open(&path, how, false).await.err(), refused);
    }
    assert_eq!(fixture.cp(&path, b"x").await.err(), refused);
    assert_eq!(fixture.rm(&path).await.err(), refused);
    assert_eq!(fixture.rmdir(&dir).await.err(), refused);
    assert_eq!(
        fixture.mv(&path, "app/migrations/9.sql").await.err(),
        refused
    );
    for name in ["9.sql", ".x", "x~"] {
        let path = format!("{dir}/{name}");
        assert_eq!(fixture.mkdir(&path).await.err(), refused, "{name}");
        assert_eq!(fixture.cp(&path, b"x").await.err(), refused, "{name}");
        assert_eq!(fixture.symlink("x", &path).await.err(), refused, "{name}");
    }
    let tar = format!("app/versions/{version}/migrations.tar");
    assert_eq!(fixture.stat(&tar).await.err(), Some(Error::NotFound));
}

#[tokio::test]
async fn every_mount_gives_a_directory_the_same_version() {
    let fixture = directory(choice()).await;
    let made = archives(&fixture.registry);
    let content = fixture.registry.content(&made[0]).unwrap();
    let other = fixture.another();
    let right = sum(&[FIRST, SECOND]);
    copy(&other, &[("atlas.sum", &right)]).await;
    assert_eq!(archives(&fixture.registry), made);
    fixture
        .all()
        .iter()
        .for_each(|store| store.remove(&made[0]));
    let other = fixture.another();
    copy(&other, &[("atlas.sum", &right)]).await;
    for store in fixture.all() {
        assert_eq!(archives(store), made);
        assert_eq!(store.content(&made[0]).unwrap(), content);
    }
}

#[tokio::test(start_paused = true)]
async fn a_missed_archive_fails_no_close_and_reaches_its_target_later() {
    for restarts in [false, true] {
        let mut fixture = Fixture::with(replaying());
        set_all(&fixture, NO_VERSIONS);
        let right = sum(&[FIRST, SECOND]);
        copy(&fixture, &[FIRST, SECOND, ("atlas.sum", &right)]).await;
        let version = versions(&fixture).await.remove(0);
        let files = fixture
            .ls(&format!("app/versions/{version}/migrations"))
            .await;
        assert_eq!(files.unwrap().len(), 3, "this mount has it");
        let pending = fixture.json(".atlasfs/status").await["pending"].take();
        let expected = format!("app/versions/{version}/migrations.tar");
        assert_eq!(pending[0]["artifact"], expected, "{pending}");
        assert_eq!(pending[0]["targets"].as_array().unwrap().len(), 3);
        set_all(&fixture, None::<Fault>);
        if restarts {
            fixture = fixture.restart(replaying());
        }
        tokio::time::sleep(CALM).await;
        for store in fixture.all() {
            assert_eq!(archives(store), [&*expected]);
        }
        let status = fixture.json(".atlasfs/status").await;
        assert_eq!(status["pending"], serde_json::json!([]));
    }
}

#[tokio::test(start_paused = true)]
async fn reconcile_gives_each_target_the_archives_that_it_lacks() {
    let fixture = directory(choice()).await;
    extend(&fixture).await;
    let made = archives(&fixture.registry);
    fixture.registry.remove(&made[0]);
    fixture.backups[1].remove(&made[1]);
    let fixture = from_another_machine(fixture, choice());
    let report = order(&fixture, "sync").await;
    assert_eq!(report["repaired"], 2, "{report}");
    for store in fixture.all() {
        assert_eq!(archives(store), made);
    }
}

#[tokio::test(start_paused = true)]
async fn archives_go_to_the_targets_of_their_directory() {
    let store = Memory::default();
    let fixture = directory(Choice {
        migrations: Some(store.clone()),
        ..choice()
    })
    .await;
    fixture.cp("app/schema", V1).await.unwrap();
    let made = archives(&fixture.registry);
    assert_eq!(archives(&store), made);
    assert_eq!(
        store
            .keys()
            .iter()
            .filter(|key| key.ends_with("schema"))
            .count(),
        0
    );
    for backup in &fixture.backups {
        assert_eq!(archives(backup), [""; 0]);
    }
    assert_eq!(versions(&fixture).await.len(), 2);
    store.remove(&made[0]);
    assert_eq!(order(&fixture, "sync").await["repaired"], 1);
    assert_eq!(archives(&store), made);
    for backup in &fixture.backups {
        assert_eq!(archives(backup), [""; 0]);
    }
    // The targets of tags are those of the schema.
    let name = made[0].split('/').nth(2).unwrap();
    let tagged = fixture
        .symlink(&format!("../versions/{name}"), "app/tags/x")
        .await;
    assert_eq!(tagged.err(), Some(Error::NotFound));
}

#[tokio::test]
async fn a_tag_names_a_version_that_has_only_migrations() {
    let fixture = directory(choice()).await;
    let version = versions(&fixture).await.remove(0);
    let link = format!("../versions/{version}");
    assert_eq!(fixture.readlink("app/tags/latest").await.unwrap(), link);
    fixture.symlink(&link, "app/tags/prod").await.unwrap();
    for store in fixture.all() {
        assert_eq!(store.content("app/tags/prod").unwrap(), version);
    }
}

#[tokio::test(start_paused = true)]
async fn a_versions_migrations_are_read_in_an_outage_and_without_a_network() {
    let choice = || {
        choice_of(Settings {
            disk_cache_bytes: 1 << 20,
            ..Settings::default()
        })
    };
    let fixture = directory(choice()).await;
    let version = versions(&fixture).await.remove(0);
    let path = format!("app/versions/{version}/migrations/{}", FIRST.0);
    let other = fixture.another();
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    assert_eq!(other.cat(&path).await.unwrap(), FIRST.1);
    fixture.wait().await;
    assert_eq!(fixture.cat(&path).await.unwrap(), FIRST.1);
    fixture.settle().await;
    set_all(&fixture, Fault::Fail(Kind::Unreachable));
    let fixture = fixture.restart(choice());
    assert_eq!(versions(&fixture).await, [&*version]);
    assert_eq!(fixture.cat(&path).await.unwrap(), FIRST.1);
}

#[tokio::test]
async fn damaged_or_foreign_archives_are_never_served() {
    let fixture = directory(choice()).await;
    let key = archives(&fixture.registry).remove(0);
    let version = versions(&fixture).await.remove(0);
    let path = format!("app/versions/{version}/migrations/{}", FIRST.0);
    // Its hash is another one: the next target serves.
    fixture.registry.place(&key, b"something else", None);
    assert_eq!(fixture.another().cat(&path).await.unwrap(), FIRST.1);
    set_all(&fixture, None::<Fault>);
    fixture
        .all()
        .iter()
        .for_each(|store| store.place(&key, b"something else", None));
    assert_eq!(fixture.another().cat(&path).await, Err(Error::Io));
}
