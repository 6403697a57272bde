//! Lineage: each push names the content that it replaces.

use std::time::Duration;

use super::fixtures::{choice, fixture_of, fixture_with, replaying, unpushed};
use super::kernel::{Choice, Fixture, WRITE_ANEW};
use super::reconcile::{from_another_machine, order};
use super::{V1, V2, V3};
use crate::fs::Error;
use crate::model::{Author, Base, Format, Sha256, Stamp};
use crate::registry::WallClock;
use crate::store::{Fault, Kind, Memory};

fn base(fixture: &Fixture) -> [Option<Base>; 3] {
    fixture.all().map(|store| {
        let object = store.object("app/schema")?;
        object.stamp.map(|stamp| stamp.base)
    })
}

#[tokio::test]
async fn a_push_names_the_content_that_it_replaces_on_every_target() {
    let fixture = Fixture::with(Choice {
        allow_delete: true,
        ..Choice::default()
    });
    fixture.mkdir("app").await.unwrap();
    let (first, second) = (Sha256::of(V1), Sha256::of(V2));
    fixture.cp("app/schema", V1).await.unwrap();
    assert_eq!(base(&fixture), [Some(Base::New); 3]);
    fixture.cp("app/schema", V2).await.unwrap();
    assert_eq!(base(&fixture), [Some(Base::Content(first)); 3]);
    fixture.rm("app/schema").await.unwrap();
    fixture.cp("app/schema", V3).await.unwrap();
    assert_eq!(base(&fixture), [Some(Base::Deleted(second)); 3]);
}

#[tokio::test]
async fn the_next_push_upgrades_a_stamp_without_a_base() {
    let fixture = Fixture::new();
    for store in fixture.all() {
        store.place("app/schema", V1, Some(Stamp::new(7, V1, Format::Hcl)));
    }
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    fixture.cp("app/schema", V2).await.unwrap();
    assert_eq!(base(&fixture), [Some(Base::Content(Sha256::of(V1))); 3]);
}

#[tokio::test]
async fn a_push_over_content_by_hand_names_it() {
    let fixture = Fixture::new();
    fixture.registry.place("app/schema", V1, None);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    fixture.cp("app/schema", V2).await.unwrap();
    assert_eq!(base(&fixture)[0], Some(Base::Content(Sha256::of(V1))));
}

#[tokio::test(start_paused = true)]
async fn a_push_by_a_clock_behind_is_the_newest_by_its_base() {
    let fixture = fixture_with(V1).await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    let known = fixture
        .registry
        .object("app/schema")
        .unwrap()
        .stamp
        .unwrap();
    let behind = Stamp {
        base: Base::Content(known.sha256),
        ..Stamp::new(known.when - 1, V2, Format::Hcl)
    };
    fixture.registry.place("app/schema", V2, Some(behind));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    // A backup that missed it holds the content before it, whatever its time is.
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
}

/// Longer than replay and the repair that follows it need.
pub(super) const CALM: Duration = Duration::from_secs(100);

/// Makes another mount, which has no backup, push V3 over V1.
pub(super) fn overtake(registry: &Memory, author: Option<Author>) {
    let when = crate::model::nanos(std::time::SystemTime::now());
    let overtaking = Stamp {
        base: Base::Content(Sha256::of(V1)),
        author,
        ..Stamp::new(when, V3, Format::Hcl)
    };
    registry.place("app/schema", V3, Some(overtaking));
}

/// Returns a content's versions in a store.
fn versions(store: &Memory, content: &[u8]) -> Vec<String> {
    let keys = store.keys().into_iter();
    let keys = keys.filter(|key| key.starts_with("app/versions/"));
    keys.filter(|key| store.content(key).unwrap() == content)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_push_of_an_outage_that_was_overtaken_is_kept_and_told() {
    let fixture = fixture_of(replaying(), V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    // Another mount, which has no backup and has not seen that push, pushes over its base.
    fixture.registry.set_fault(None);
    overtake(&fixture.registry, None);
    tokio::time::sleep(CALM).await;
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V3);
    for backup in &fixture.backups {
        assert_eq!(backup.content("app/schema").unwrap(), V2);
    }
    assert_eq!(unpushed(&fixture).await, [V2]);
    let error = fixture.xattr("app/schema", "error").await.unwrap();
    for content in [V2, V3] {
        let name = format!("{:.12}", Sha256::of(content).to_string());
        assert!(error.contains(&name), "{error}");
    }
    let told = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(!told.contains("pushed it to every target"), "{told}");
    // The registry decides, and the next push ends it everywhere.
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V3);
    fixture.cp("app/schema", V2).await.unwrap();
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
    assert!(unpushed(&fixture).await.is_empty());
    assert_eq!(fixture.xattr("app/schema", "error").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_reaches_every_target_as_a_version() {
    let fixture = fixture_of(replaying(), V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.backups[1].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    fixture.registry.set_fault(None);
    overtake(&fixture.registry, None);
    tokio::time::sleep(CALM).await;
    assert_eq!(versions(&fixture.registry, V2).len(), 1);
    assert_eq!(versions(&fixture.backups[1], V2), [""; 0]);
    // The next mount goes on with the target that was out.
    let fixture = fixture.restart(replaying());
    fixture.backups[1].set_fault(None);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V3);
    let error = fixture.xattr("app/schema", "error").await.unwrap();
    assert!(error.contains("is not based on that"), "{error}");
    tokio::time::sleep(CALM).await;
    for store in fixture.all() {
        let [version] = &versions(store, V2)[..] else {
            panic!("one version: {:?}", store.keys());
        };
        let sha256 = Sha256::of(V2).to_string();
        assert!(version.ends_with(&format!("-{sha256:.8}/schema")));
        assert_eq!(versions(store, V3), [""; 0]);
    }
    assert_eq!(unpushed(&fixture).await, [V2]);
    let listed = fixture.ls("app").await.unwrap();
    assert!(!listed.contains(&"versions".into()), "{listed:?}");
    // Any push decides, and nothing is lost by it.
    fixture.cp("app/schema", V1).await.unwrap();
    assert!(unpushed(&fixture).await.is_empty());
    assert_eq!(fixture.xattr("app/schema", "error").await, None);
    assert_eq!(versions(&fixture.registry, V2).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_of_a_lost_machine_reaches_every_target_as_a_version() {
    let fixture = fixture_with(V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    fixture.registry.set_fault(None);
    overtake(&fixture.registry, None);
    let fixture = from_another_machine(fixture, choice());
    let report = order(&fixture, "verify").await;
    let found = report["found"].as_array().unwrap();
    assert!(
        found.iter().any(|it| it["problem"] == "conflict"),
        "{report}"
    );
    // Only the backups got it from the push.
    let kept = fixture.all().map(|it| versions(it, V2).len());
    assert_eq!(kept, [0, 1, 1]);
    order(&fixture, "sync").await;
    for store in fixture.all() {
        assert_eq!(versions(store, V2).len(), 1);
    }
    fixture.registry.requests();
    order(&fixture, "sync").await;
    let requests = fixture.registry.requests();
    assert!(!requests.is_empty());
    let is_put = |request: &String| request.starts_with("PUT");
    assert!(!requests.iter().any(is_put), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn the_last_of_several_pushes_of_an_outage_survives_its_machine() {
    let fixture = fixture_of(replaying(), V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    for content in [V2, V3, V2] {
        fixture.cp("app/schema", content).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    fixture.cp("app/schema", V3).await.unwrap();
    fixture.registry.set_fault(None);
    let fixture = from_another_machine(fixture, choice());
    order(&fixture, "sync").await;
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_over_those_of_a_lost_machine_is_no_conflict() {
    let fixture = fixture_of(replaying(), V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    for content in [V2, V3] {
        fixture.cp("app/schema", content).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let fixture = from_another_machine(fixture, replaying());
    let newest = b"schema \"newest\" {}\n";
    fixture.cp("app/schema", newest).await.unwrap();
    fixture.registry.set_fault(None);
    tokio::time::sleep(CALM).await;
    assert_eq!(fixture.registry.content("app/schema").unwrap(), newest[..]);
    assert!(unpushed(&fixture).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn while_the_registry_is_out_one_of_two_writers_wins() {
    let fixture = fixture_with(V1).await;
    let other = fixture.another();
    assert_eq!(other.cat("app/schema").await.unwrap(), V1);
    let first = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    let second = other.open("app/schema", WRITE_ANEW, false).await.unwrap();
    first.write(0, V2).unwrap();
    second.write(0, V3).unwrap();
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    assert_eq!(first.close().await, Ok(()));
    assert_eq!(second.close().await, Err(Error::Stale));
    for backup in &fixture.backups {
        assert_eq!(backup.content("app/schema").unwrap(), V2);
    }
    assert_eq!(unpushed(&other).await, [V3]);
}

#[tokio::test(start_paused = true)]
async fn while_the_registry_is_out_no_push_replaces_an_unseen_one() {
    for unseen in [&[V2][..], &[V2, V3]] {
        let fixture = fixture_with(V1).await;
        let other = fixture.another();
        assert_eq!(other.cat("app/schema").await.unwrap(), V1);
        let late = other.open("app/schema", WRITE_ANEW, false).await.unwrap();
        late.write(0, b"schema \"late\" {}\n").unwrap();
        for content in unseen {
            fixture.cp("app/schema", content).await.unwrap();
        }
        fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
        assert_eq!(late.close().await, Err(Error::Stale));
        for backup in &fixture.backups {
            let there = backup.content("app/schema").unwrap();
            assert_eq!(Some(&&there[..]), unseen.last());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pending_push_by_a_clock_behind_is_served_after_a_restart() {
    let behind = || Choice {
        wall: WallClock::new(|| std::time::SystemTime::now() - Duration::from_secs(3600)),
        ..choice()
    };
    let fixture = Fixture::with(Choice {
        stores: Some(std::array::from_fn(|_| Memory::without_listed_stamps())),
        ..behind()
    });
    fixture
        .registry
        .set_fault(Fault::FailWrites(Kind::StoreMissing));
    fixture.registry.place("app/schema", V1, None);
    fixture.cp("app/schema", V2).await.unwrap();
    let fixture = fixture.restart(behind());
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_by_a_clock_ahead_deletes_no_later_push() {
    let fixture = fixture_of(replaying(), V1).await;
    let [first, second] = fixture.backups.clone();
    let ahead = Fixture::with(Choice {
        allow_delete: true,
        wall: WallClock::new(|| std::time::SystemTime::now() + Duration::from_secs(3600)),
        stores: Some([fixture.registry.clone(), first, second]),
        ..Choice::default()
    });
    ahead.rm("app/schema").await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fixture.cat("app/schema").await, Err(Error::NotFound));
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    fixture.registry.set_fault(None);
    tokio::time::sleep(CALM).await;
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
}

#[tokio::test]
async fn a_push_never_replaces_a_roll_back_that_its_writer_has_not_seen() {
    let fixture = fixture_with(V1).await;
    fixture.cp("app/schema", V2).await.unwrap();
    let other = fixture.another();
    assert_eq!(other.cat("app/schema").await.unwrap(), V2);
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    other.cp("app/schema", V1).await.unwrap();
    file.write(0, V3).unwrap();
    assert_eq!(file.close().await, Err(Error::Stale));
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_roll_back_in_an_outage_reaches_the_registry() {
    // By the mount that made it, and by another one if its machine is lost.
    for is_lost in [false, true] {
        let fixture = fixture_of(replaying(), V1).await;
        fixture.cp("app/schema", V2).await.unwrap();
        let other = fixture.another();
        assert_eq!(other.cat("app/schema").await.unwrap(), V2);
        fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
        fixture.cp("app/schema", V1).await.unwrap();
        if is_lost {
            drop(fixture);
            other.registry.set_fault(None);
            order(&other, "sync").await;
            assert_eq!(other.registry.content("app/schema").unwrap(), V1);
            other.wait().await;
            assert_eq!(other.cat("app/schema").await.unwrap(), V1);
        } else {
            fixture.registry.set_fault(None);
            tokio::time::sleep(CALM).await;
            assert_eq!(fixture.registry.content("app/schema").unwrap(), V1);
        }
    }
}
