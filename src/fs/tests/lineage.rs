//! Lineage: each push names the content that it replaces.

use std::time::Duration;

use super::fixtures::fixture_with;
use super::kernel::{Choice, Fixture};
use super::{V1, V2, V3};
use crate::model::{Base, Format, Sha256, Stamp};
use crate::store::{Fault, Kind};

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
