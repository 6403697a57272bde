//! Versions: each push of a schema makes one on every target, and it never changes.

use std::time::Duration;

use super::fixtures::{choice, choice_of, fixture_of, fixture_with, replaying, set_all};
use super::kernel::{Fixture, READ, READ_WRITE, WRITE, WRITE_ANEW};
use super::reconcile::{from_another_machine, order};
use super::{V1, V2, V3};
use crate::fs::Error;
use crate::registry::{Durability, Settings};
use crate::store::{Fault, Kind, Memory};

/// Longer than replay and the repair that follows it need.
const CALM: Duration = Duration::from_secs(100);

/// Makes a store refuse versions, and nothing else.
const NO_VERSIONS: Fault = Fault::Refuse("PUT app/versions/");

/// Returns the contents of a store's versions, oldest first.
fn versions(store: &Memory) -> Vec<Vec<u8>> {
    let keys = store.keys().into_iter();
    let keys = keys.filter(|key| key.starts_with("app/versions/"));
    keys.map(|key| store.content(&key).unwrap().to_vec())
        .collect()
}

fn each_has(fixture: &Fixture, expected: &[&[u8]]) {
    for store in fixture.all() {
        let mut held = versions(store);
        held.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(held, expected, "{:?}", store.keys());
    }
}

#[tokio::test]
async fn each_push_of_a_schema_makes_a_version_on_every_target() {
    let fixture = fixture_with(V1).await;
    fixture.cp("app/schema", V2).await.unwrap();
    each_has(&fixture, &[V1, V2]);
    for store in fixture.all() {
        let stamp = store.object("app/schema").unwrap().stamp.unwrap();
        let key = format!("app/versions/{}/schema", stamp.version());
        assert_eq!(store.object(&key).unwrap().stamp, Some(stamp));
    }
}

#[tokio::test]
async fn a_push_makes_its_version_beside_the_backups() {
    let fixture = fixture_with(V1).await;
    fixture
        .all()
        .iter()
        .for_each(|store| drop(store.requests()));
    fixture.cp("app/schema", V2).await.unwrap();
    for store in fixture.all() {
        let requests = store.requests();
        let puts = requests.iter().filter(|it| it.starts_with("PUT"));
        assert_eq!(puts.count(), 2, "{requests:?}");
        let looks = requests.iter().filter(|it| it.starts_with("HEAD"));
        assert_eq!(looks.count(), 0, "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_never_decides_and_reaches_its_target_later() {
    for durability in [Durability::Any, Durability::Registry, Durability::All] {
        let mut choice = replaying();
        choice.registry = Settings {
            durability,
            ..choice.registry
        };
        let fixture = fixture_of(choice, V1).await;
        set_all(&fixture, NO_VERSIONS);
        fixture.cp("app/schema", V2).await.unwrap();
        let status = fixture.json(".atlasfs/status").await;
        assert_eq!(status["pending"][0]["artifact"], "app/schema");
        assert_eq!(status["healthy"], false);
        set_all(&fixture, None::<Fault>);
        tokio::time::sleep(CALM).await;
        each_has(&fixture, &[V1, V2]);
        let status = fixture.json(".atlasfs/status").await;
        assert!(status["pending"].as_array().unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pending_version_survives_a_restart() {
    let fixture = fixture_of(replaying(), V1).await;
    fixture.backups[1].set_fault(NO_VERSIONS);
    fixture.cp("app/schema", V2).await.unwrap();
    fixture.backups[1].set_fault(None);
    let fixture = fixture.restart(replaying());
    tokio::time::sleep(CALM).await;
    each_has(&fixture, &[V1, V2]);
}

#[tokio::test(start_paused = true)]
async fn no_version_is_lost_when_a_newer_push_follows() {
    for by in ["push", "deletion"] {
        let mut choice = replaying();
        choice.allow_delete = true;
        let fixture = fixture_of(choice, V1).await;
        set_all(&fixture, NO_VERSIONS);
        fixture.cp("app/schema", V2).await.unwrap();
        match by {
            "push" => fixture.cp("app/schema", V3).await.unwrap(),
            _ => fixture.rm("app/schema").await.unwrap(),
        }
        let mut choice = replaying();
        choice.registry.repair = Duration::from_secs(10);
        let fixture = fixture.restart(choice);
        set_all(&fixture, None::<Fault>);
        tokio::time::sleep(CALM).await;
        match by {
            "push" => each_has(&fixture, &[V1, V2, V3]),
            _ => each_has(&fixture, &[V1, V2]),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn reconcile_gives_each_target_the_versions_that_it_lacks() {
    let fixture = fixture_with(V1).await;
    fixture.cp("app/schema", V2).await.unwrap();
    for (store, place) in fixture.all().into_iter().zip(0..) {
        let keys = store.keys().into_iter();
        let mut keys = keys.filter(|key| key.contains("/versions/"));
        let key = keys.nth(place % 2).unwrap();
        store.remove(&key);
    }
    let fixture = from_another_machine(fixture, choice());
    let report = order(&fixture, "verify").await;
    assert_eq!(report["differences"], 3, "{report}");
    assert_eq!(report["found"][0]["problem"], "missing");
    assert_eq!(order(&fixture, "sync").await["repaired"], 3);
    each_has(&fixture, &[V1, V2]);
    assert_eq!(order(&fixture, "verify").await["differences"], 0);
}

#[tokio::test(start_paused = true)]
async fn reconcile_spreads_no_damaged_version() {
    let fixture = fixture_with(V1).await;
    let keys = fixture.registry.keys().into_iter();
    let key = keys.into_iter().find(|key| key.contains("/versions/"));
    let key = key.unwrap();
    fixture.backups[0].place(&key, V2, None);
    fixture.backups[1].remove(&key);
    fixture.registry.remove(&key);
    let fixture = from_another_machine(fixture, choice());
    assert_eq!(order(&fixture, "sync").await["repaired"], 0);
    assert_eq!(fixture.registry.content(&key), None);
}

#[tokio::test]
async fn pushing_what_is_there_already_changes_nothing() {
    let fixture = fixture_with(V1).await;
    let before = fixture.stat("app/schema").await.unwrap();
    let version = fixture.xattr("app/schema", "version").await;
    fixture
        .all()
        .iter()
        .for_each(|store| drop(store.requests()));
    fixture.cp("app/schema", V1).await.unwrap();
    assert_eq!(fixture.stat("app/schema").await.unwrap().ino, before.ino);
    assert_eq!(fixture.xattr("app/schema", "version").await, version);
    each_has(&fixture, &[V1]);
    for store in fixture.all() {
        let requests = store.requests();
        assert!(!requests.iter().any(|it| it.starts_with("PUT")));
    }
    let open = fixture.open("app/schema", READ, false).await.unwrap();
    assert_eq!(open.read_all().await.unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn pushing_what_only_seems_to_be_there_is_a_push() {
    // Another mount has just replaced it.
    let fixture = fixture_with(V1).await;
    let other = fixture.another();
    other.cp("app/schema", V2).await.unwrap();
    assert!(fixture.cp("app/schema", V1).await.is_err());
    // The registry is out, or a backup misses it.
    let fixture = fixture_with(V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.backups[0].requests();
    fixture.cp("app/schema", V1).await.unwrap();
    let requests = fixture.backups[0].requests();
    assert!(requests.iter().any(|it| it == "PUT app/schema"));
    let fixture = fixture_of(replaying(), V1).await;
    fixture.backups[0].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    fixture.registry.requests();
    fixture.cp("app/schema", V2).await.unwrap();
    let requests = fixture.registry.requests();
    assert!(requests.iter().any(|it| it == "PUT app/schema"));
}

/// Returns the path of the only version.
async fn version_of(fixture: &Fixture) -> String {
    let names = fixture.ls("app/versions").await.unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    format!("app/versions/{}", names[0])
}

#[tokio::test]
async fn the_mount_shows_each_version_as_it_was() {
    let fixture = fixture_with(V1).await;
    let all = fixture.ls_all("app", fixture.pid()).await.unwrap();
    assert!(all.contains(&"versions".into()));
    let version = version_of(&fixture).await;
    fixture.cp("app/schema", V2).await.unwrap();
    assert_eq!(fixture.ls("app/versions").await.unwrap().len(), 2);
    for name in ["schema", "schema.hcl"] {
        let path = format!("{version}/{name}");
        assert_eq!(fixture.cat(&path).await.unwrap(), V1);
        let attr = fixture.stat(&path).await.unwrap();
        assert_eq!((attr.size, attr.perm), (V1.len() as u64, 0o444));
    }
    assert_eq!(
        fixture.ls(&version).await.unwrap(),
        ["schema", "schema.hcl"]
    );
    let name = version.rsplit('/').next().unwrap();
    assert_eq!(
        fixture.xattr(&version, "version").await.as_deref(),
        Some(name)
    );
    let sha256 = crate::model::Sha256::of(V1).to_string();
    assert_eq!(fixture.xattr(&version, "sha256").await, Some(sha256));
    let absent = format!("{version}/schema.sql");
    assert_eq!(fixture.stat(&absent).await.err(), Some(Error::NotFound));
    for name in ["latest", "20240910173744-0a1b2c3d", "x"] {
        let path = format!("app/versions/{name}");
        assert_eq!(fixture.stat(&path).await.err(), Some(Error::NotFound));
    }
}

#[tokio::test]
async fn nothing_changes_a_version() {
    let mut choice = choice();
    choice.allow_delete = true;
    let fixture = fixture_of(choice, V1).await;
    let version = version_of(&fixture).await;
    let schema = format!("{version}/schema.hcl");
    let refused = Some(Error::NotPermitted);
    for how in [WRITE, WRITE_ANEW, READ_WRITE] {
        assert_eq!(fixture.open(&schema, how, false).await.err(), refused);
    }
    assert_eq!(fixture.cp(&schema, V2).await.err(), refused);
    assert_eq!(fixture.rm(&schema).await.err(), refused);
    assert_eq!(fixture.rmdir(&version).await.err(), refused);
    assert_eq!(fixture.rmdir("app/versions").await.err(), refused);
    assert_eq!(fixture.mv(&schema, "app/schema.hcl").await.err(), refused);
    for path in ["app/versions/20240910173744-0a1b2c3d", "app/versions/.x"] {
        assert_eq!(fixture.mkdir(path).await.err(), refused, "{path}");
        assert_eq!(fixture.cp(path, V2).await.err(), refused, "{path}");
        assert_eq!(fixture.symlink("x", path).await.err(), refused, "{path}");
    }
    fixture.cp("app/.new", V2).await.unwrap();
    assert_eq!(fixture.mv("app/.new", &schema).await.err(), refused);
    assert_eq!(
        fixture.mv("app/.new", &format!("{version}/.x")).await.err(),
        refused
    );
    assert_eq!(fixture.cat(&schema).await.unwrap(), V1);
    each_has(&fixture, &[V1]);
}

#[tokio::test(start_paused = true)]
async fn versions_are_read_in_an_outage_and_after_a_restart_without_network() {
    let choice = || {
        choice_of(Settings {
            disk_cache_bytes: 1 << 20,
            ..Settings::default()
        })
    };
    let fixture = fixture_of(choice(), V1).await;
    let version = version_of(&fixture).await;
    let schema = format!("{version}/schema");
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.wait().await;
    assert_eq!(fixture.cat(&schema).await.unwrap(), V1);
    assert_eq!(fixture.ls("app/versions").await.unwrap().len(), 1);
    fixture.settle().await;
    set_all(&fixture, Fault::Fail(Kind::Unreachable));
    let fixture = fixture.restart(choice());
    assert_eq!(fixture.ls("app/versions").await.unwrap().len(), 1);
    assert_eq!(fixture.cat(&schema).await.unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_push_shows_its_version_at_once_also_if_the_registry_is_out() {
    let fixture = fixture_of(choice(), V1).await;
    assert_eq!(fixture.ls("app/versions").await.unwrap().len(), 1);
    fixture
        .registry
        .set_fault(Fault::Refuse("PUT app/versions/"));
    fixture.cp("app/schema", V2).await.unwrap();
    assert_eq!(fixture.ls("app/versions").await.unwrap().len(), 2);
    for name in fixture.ls("app/versions").await.unwrap() {
        let schema = format!("app/versions/{name}/schema");
        assert!(!fixture.cat(&schema).await.unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_pays_for_versions_that_nobody_looks_at() {
    let fixture = fixture_of(choice(), V1).await;
    for place in 0..50 {
        let key = format!("app/versions/202409101737{place:02}-0a1b2c3d/schema");
        fixture.registry.place(&key, V2, None);
    }
    fixture.wait().await;
    fixture.registry.requests();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    fixture.ls("app").await.unwrap();
    fixture.stat("app/versions").await.unwrap();
    fixture.cp("app/schema", V2).await.unwrap();
    let requests = fixture.registry.requests();
    let mut looks = requests.iter().filter(|it| !it.starts_with("PUT"));
    assert!(!looks.any(|it| it.contains("versions")), "{requests:?}");
    fixture.ls("app/versions").await.unwrap();
    let requests = fixture.registry.requests();
    assert_eq!(requests, ["LIST app/versions"]);
}
