//! Tags: names of versions, as symbolic links.

use std::time::Duration;

use super::fixtures::{choice, choice_of, fixture_of, fixture_with, replaying, set_all};
use super::kernel::{Fixture, WRITE};
use super::reconcile::{from_another_machine, order};
use super::{V1, V2, V3};
use crate::fs::{Error, FileKind};
use crate::registry::Settings;
use crate::store::{Fault, Kind};

/// Longer than replay and the repair that follows it need.
const CALM: Duration = Duration::from_secs(100);

/// Returns the links to all versions, oldest first by their contents' order of pushing.
async fn link(fixture: &Fixture, content: &[u8]) -> String {
    for name in fixture.ls("app/versions").await.unwrap() {
        let path = format!("app/versions/{name}/schema");
        if fixture.cat(&path).await.unwrap() == content {
            return format!("../versions/{name}");
        }
    }
    panic!("no version of {}", String::from_utf8_lossy(content));
}

async fn two_versions() -> (Fixture, String, String) {
    let mut choice = choice();
    choice.allow_delete = true;
    let fixture = fixture_of(choice, V1).await;
    fixture.cp("app/schema", V2).await.unwrap();
    let (v1, v2) = (link(&fixture, V1).await, link(&fixture, V2).await);
    (fixture, v1, v2)
}

/// Does what `ln -sfn` does: a link of a random name, and a rename.
async fn force(fixture: &Fixture, to: &str, path: &str) -> crate::fs::Result<()> {
    let (dir, _) = path.rsplit_once('/').unwrap();
    let random = format!("{dir}/CuAbC123");
    fixture.symlink(to, &random).await.unwrap();
    let moved = match fixture.mv(&random, path).await {
        // The kernel tries once more.
        Err(Error::Stale) => fixture.mv(&random, path).await,
        moved => moved,
    };
    if moved.is_err() {
        fixture.rm(&random).await.unwrap();
    }
    moved
}

#[tokio::test]
async fn a_link_to_a_version_is_a_tag_on_every_target() {
    let (fixture, v1, _) = two_versions().await;
    fixture.symlink(&v1, "app/tags/prod").await.unwrap();
    assert_eq!(fixture.readlink("app/tags/prod").await.unwrap(), v1);
    let attr = fixture.stat("app/tags/prod").await.unwrap();
    assert_eq!((attr.kind, attr.size), (FileKind::Symlink, v1.len() as u64));
    let name = v1.rsplit('/').next().unwrap();
    for store in fixture.all() {
        assert_eq!(store.content("app/tags/prod").unwrap(), name);
    }
    let names = fixture.ls("app/tags").await.unwrap();
    assert_eq!(names, ["latest", "prod"]);
    let again = fixture.symlink(&v1, "app/tags/prod").await;
    assert_eq!(again.err(), Some(Error::Exists));
}

#[tokio::test]
async fn renaming_a_link_onto_a_tag_moves_it() {
    let (fixture, v1, v2) = two_versions().await;
    for to in [&v1, &v2, &v1] {
        force(&fixture, to, "app/tags/prod").await.unwrap();
        assert_eq!(fixture.readlink("app/tags/prod").await.unwrap(), *to);
        assert_eq!(fixture.ls("app/tags").await.unwrap(), ["latest", "prod"]);
    }
    fixture.symlink(&v2, "app/tags/.new").await.unwrap();
    fixture.mv("app/tags/.new", "app/tags/prod").await.unwrap();
    assert_eq!(fixture.readlink("app/tags/prod").await.unwrap(), v2);
}

#[tokio::test]
async fn a_tag_names_an_existing_version_of_its_repository() {
    let (fixture, v1, _) = two_versions().await;
    let absent = "../versions/20240910173744-0a1b2c3d";
    for (to, expected) in [
        (absent, Error::NotFound),
        ("../versions/latest", Error::Invalid),
        ("../schema", Error::Invalid),
        ("/etc/passwd", Error::Invalid),
        ("", Error::Invalid),
        (&v1[3..], Error::Invalid),
    ] {
        let made = fixture.symlink(to, "app/tags/prod").await;
        assert_eq!(made.err(), Some(expected), "{to}");
        let moved = force(&fixture, to, "app/tags/prod").await;
        assert_eq!(moved.err(), Some(expected), "{to}");
    }
    assert_eq!(fixture.ls("app/tags").await.unwrap(), ["latest"]);
    for path in ["app/tags/-x", "app/tags/a b"] {
        let made = fixture.symlink(&v1, path).await;
        assert_eq!(made.err(), Some(Error::NotPermitted), "{path}");
    }
    let file = fixture.open("app/tags/prod", WRITE, true).await;
    assert_eq!(file.err(), Some(Error::NotPermitted));
    assert_eq!(
        fixture.mkdir("app/tags/prod").await,
        Err(Error::NotPermitted)
    );
}

#[tokio::test]
async fn a_word_that_begins_as_the_links_of_ln_is_a_tag() {
    let (fixture, v1, _) = two_versions().await;
    fixture.symlink(&v1, "app/tags/Customer").await.unwrap();
    assert!(fixture.registry.content("app/tags/Customer").is_some());
}

#[tokio::test]
async fn latest_is_the_newest_version_and_nobody_changes_it() {
    let (fixture, v1, v2) = two_versions().await;
    let latest = fixture.readlink("app/tags/latest").await.unwrap();
    assert_eq!(latest, v2);
    let refused = Some(Error::NotPermitted);
    assert_eq!(fixture.rm("app/tags/latest").await.err(), refused);
    let moved = force(&fixture, &v1, "app/tags/latest").await;
    assert_eq!(moved.err(), refused);
    let renamed = fixture.mv("app/tags/latest", "app/tags/x").await;
    assert_eq!(renamed.err(), refused);
    fixture.mkdir("new").await.unwrap();
    let none = fixture.readlink("new/tags/latest").await;
    assert_eq!(none.err(), Some(Error::NotFound));
}

#[tokio::test]
async fn the_newest_of_versions_of_one_second_is_latest() {
    let fixture = fixture_with(V1).await;
    let other = fixture.another();
    for content in [V2, V3, V1, V2] {
        fixture.cp("app/schema", content).await.unwrap();
        let newest = fixture.xattr("app/schema", "version").await.unwrap();
        let newest = format!("../versions/{newest}");
        assert_eq!(fixture.readlink("app/tags/latest").await.unwrap(), newest);
        other.wait().await;
        assert_eq!(other.readlink("app/tags/latest").await.unwrap(), newest);
    }
}

#[tokio::test]
async fn a_repository_without_versions_lists_no_latest() {
    let fixture = fixture_with(V1).await;
    fixture.mkdir("new").await.unwrap();
    assert!(fixture.ls("new/tags").await.unwrap().is_empty());
    fixture.registry.place("other/schema", V1, None);
    fixture.wait().await;
    assert!(fixture.ls("other/tags").await.unwrap().is_empty());
    assert_eq!(fixture.ls("app/tags").await.unwrap(), ["latest"]);
}

#[tokio::test]
async fn removing_a_tag_needs_the_right_to_delete() {
    let (fixture, v1, _) = two_versions().await;
    fixture.symlink(&v1, "app/tags/prod").await.unwrap();
    fixture.rm("app/tags/prod").await.unwrap();
    for store in fixture.all() {
        assert_eq!(store.content("app/tags/prod"), None);
    }
    assert_eq!(fixture.ls("app/tags").await.unwrap(), ["latest"]);
    let fixture = fixture_with(V1).await;
    let v1 = link(&fixture, V1).await;
    fixture.symlink(&v1, "app/tags/prod").await.unwrap();
    let removed = fixture.rm("app/tags/prod").await;
    assert_eq!(removed.err(), Some(Error::NotPermitted));
}

#[tokio::test]
async fn of_two_mounts_that_move_one_tag_one_wins() {
    let (fixture, v1, v2) = two_versions().await;
    fixture.symlink(&v1, "app/tags/prod").await.unwrap();
    let other = fixture.another();
    assert_eq!(other.readlink("app/tags/prod").await.unwrap(), v1);
    force(&fixture, &v2, "app/tags/prod").await.unwrap();
    fixture.cp("app/schema", V3).await.unwrap();
    let v3 = link(&fixture, V3).await;
    let moved = force(&other, &v3, "app/tags/prod").await;
    assert_eq!(moved.err(), Some(Error::Stale));
    assert_eq!(fixture.readlink("app/tags/prod").await.unwrap(), v2);
    let made = force(&other, &v3, "app/tags/new");
    let (one, two) = futures::join!(made, fixture.symlink(&v2, "app/tags/new"));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    // The kernel retries a rename after ESTALE.
    fixture.symlink(&v3, "app/tags/.new").await.unwrap();
    other.wait().await;
    assert_eq!(fixture.readlink("app/tags/prod").await.unwrap(), v2);
    force(&other, &v1, "app/tags/prod").await.unwrap();
    let moved = fixture.mv("app/tags/.new", "app/tags/prod").await;
    assert_eq!(moved.err(), Some(Error::Stale));
    let again = fixture.mv("app/tags/.new", "app/tags/prod").await;
    assert_eq!(again.err(), Some(Error::Stale));
}

#[tokio::test(start_paused = true)]
async fn a_missed_tag_reaches_its_target_after_its_version() {
    let fixture = fixture_of(replaying(), V1).await;
    fixture.backups[0].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    let v2 = link(&fixture, V2).await;
    fixture.symlink(&v2, "app/tags/prod").await.unwrap();
    // The target is back, and does not take versions yet.
    fixture.backups[0].set_fault(Fault::Refuse("PUT app/versions/"));
    tokio::time::sleep(CALM).await;
    assert_eq!(fixture.backups[0].content("app/tags/prod"), None);
    fixture.backups[0].set_fault(None);
    tokio::time::sleep(CALM).await;
    let tagged = fixture.backups[0].content("app/tags/prod").unwrap();
    let key = format!("app/versions/{}/schema", String::from_utf8_lossy(&tagged));
    assert_eq!(fixture.backups[0].content(&key).unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn reconcile_gives_each_target_the_tags_that_it_lacks() {
    let fixture = fixture_with(V1).await;
    let v1 = link(&fixture, V1).await;
    fixture.symlink(&v1, "app/tags/prod").await.unwrap();
    let name = v1.rsplit('/').next().unwrap();
    fixture.backups[1].remove("app/tags/prod");
    fixture.backups[1].remove(&format!("app/versions/{name}/schema"));
    let fixture = from_another_machine(fixture, choice());
    assert_eq!(order(&fixture, "sync").await["repaired"], 2);
    assert_eq!(fixture.backups[1].content("app/tags/prod").unwrap(), name);
}

#[tokio::test(start_paused = true)]
async fn a_pinned_deployment_works_in_an_outage_and_without_a_network() {
    let choice = || {
        choice_of(Settings {
            disk_cache_bytes: 1 << 20,
            ..Settings::default()
        })
    };
    let fixture = fixture_of(choice(), V1).await;
    let v1 = link(&fixture, V1).await;
    fixture.symlink(&v1, "app/tags/prod").await.unwrap();
    fixture.cp("app/schema", V2).await.unwrap();
    let schema = format!("app/{}/schema.hcl", &v1[3..]);
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.wait().await;
    assert_eq!(fixture.readlink("app/tags/prod").await.unwrap(), v1);
    assert_eq!(fixture.cat(&schema).await.unwrap(), V1);
    fixture.settle().await;
    set_all(&fixture, Fault::Fail(Kind::Unreachable));
    let fixture = fixture.restart(choice());
    assert_eq!(fixture.readlink("app/tags/prod").await.unwrap(), v1);
    assert_eq!(fixture.cat(&schema).await.unwrap(), V1);
    assert!(fixture.readlink("app/tags/latest").await.is_ok());
}
