//! Deleting an artifact by one of its two names: by `rm`, and by programs that take the names for
//! two files.

use super::fixtures::{fixture_with, plan};
use super::kernel::{Choice, Fixture};
use super::{V1, V2};
use crate::fs::Error;
use crate::store::{Fault, Kind};

async fn deleting() -> Fixture {
    let fixture = Fixture::with(Choice {
        allow_delete: true,
        named: vec!["app"],
        ..Choice::default()
    });
    fixture.cp("app/schema.hcl", V1).await.unwrap();
    fixture.cp("app/plans/p1", &plan("p1")).await.unwrap();
    fixture
}

#[tokio::test]
async fn a_program_that_lists_deletes_a_schema_by_both_names() {
    // The number 0 stands for all invisible threads.
    for ([first, second], invisible) in [
        (["app/schema", "app/schema.hcl"], false),
        (["app/schema.hcl", "app/schema"], false),
        (["app/schema", "app/schema.hcl"], true),
    ] {
        let fixture = deleting().await;
        let pid = if invisible { 0 } else { fixture.pid() };
        fixture.ls_by("app", pid).await.unwrap();
        // A program that mirrors a folder removes the name that the folder lacks, and keeps the
        // other.
        for _ in 0..2 {
            fixture.rm_by(first, pid).await.unwrap();
            for name in [first, second] {
                assert_eq!(fixture.cat(name).await.unwrap(), V1, "{first}");
            }
        }
        let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
        let name = first.rsplit('/').next().unwrap();
        assert!(events.contains(&format!("\"name\":\"{name}\"")), "{events}");
        fixture.rm_by(second, pid).await.unwrap();
        for store in fixture.all() {
            assert_eq!(store.content("app/schema"), None, "{first}");
        }
        assert_eq!(fixture.rm_by(first, pid).await, Err(Error::NotFound));
    }
}

#[tokio::test]
async fn a_removed_name_counts_for_one_content_and_one_program() {
    let fixture = deleting().await;
    let pid = fixture.pid();
    fixture.ls_by("app", pid).await.unwrap();
    fixture.rm_by("app/schema", pid).await.unwrap();
    // The program writes what it means to keep, and removes the stray name of before.
    fixture.cp("app/schema", V2).await.unwrap();
    fixture.rm_by("app/schema.hcl", pid).await.unwrap();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    let other = fixture.pid();
    fixture.ls_by("app", other).await.unwrap();
    fixture.rm_by("app/schema", other).await.unwrap();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    fixture.rm_by("app/schema", pid).await.unwrap();
    assert_eq!(fixture.registry.content("app/schema"), None);
}

#[tokio::test]
async fn a_failed_deletion_by_the_second_name_can_be_repeated() {
    let fixture = deleting().await;
    let pid = fixture.pid();
    fixture.ls_by("app", pid).await.unwrap();
    fixture.rm_by("app/schema", pid).await.unwrap();
    fixture.registry.set_fault(Fault::FailWrites(Kind::Denied));
    let failed = fixture.rm_by("app/schema.hcl", pid).await;
    assert_eq!(failed, Err(Error::Denied));
    fixture.registry.set_fault(None);
    fixture.rm_by("app/schema.hcl", pid).await.unwrap();
    assert_eq!(fixture.registry.content("app/schema"), None);
}

#[tokio::test]
async fn without_allow_delete_no_name_is_removed() {
    let fixture = fixture_with(V1).await;
    let pid = fixture.pid();
    fixture.ls_by("app", pid).await.unwrap();
    for name in ["app/schema", "app/schema.hcl"] {
        let refused = fixture.rm_by(name, pid).await;
        assert_eq!(refused, Err(Error::NotPermitted), "{name}");
    }
}

#[tokio::test]
async fn no_mirroring_program_deletes_a_plan_it_wrote_by_its_alias() {
    let fixture = deleting().await;
    let pid = fixture.pid();
    fixture.ls_by("app/plans", pid).await.unwrap();
    fixture.walk("app/plans/p1.plan.hcl", pid).await.unwrap();
    let refused = fixture.rm_by("app/plans/p1", pid).await;
    assert_eq!(refused, Err(Error::NotPermitted));
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("mistakes one file for two"), "{events}");
    // The program may delete the plan by the name that it knows.
    fixture.rm_by("app/plans/p1.plan.hcl", pid).await.unwrap();
    assert_eq!(fixture.registry.content("app/plans/p1"), None);
}

#[tokio::test]
async fn everybody_else_deletes_by_either_name() {
    for name in [
        "app/schema",
        "app/schema.hcl",
        "app/plans/p1",
        "app/plans/p1.plan.hcl",
    ] {
        let fixture = deleting().await;
        let mirror = fixture.pid();
        fixture.ls_by("app", mirror).await.unwrap();
        fixture.walk("app/schema.hcl", mirror).await.unwrap();
        fixture.walk("app/plans/p1.plan.hcl", mirror).await.unwrap();
        fixture.rm(name).await.unwrap();
        let key = name.trim_end_matches(".plan.hcl").trim_end_matches(".hcl");
        assert_eq!(fixture.registry.content(key), None, "{name}");
    }
    // A program that has only listed, or only used the other name, may delete a plan.
    let fixture = deleting().await;
    let pid = fixture.pid();
    fixture.walk("app/plans/p1.plan.hcl", pid).await.unwrap();
    fixture.rm_by("app/plans/p1", pid).await.unwrap();
}

#[tokio::test]
async fn a_rename_onto_the_other_name_changes_nothing() {
    let fixture = deleting().await;
    for (from, to) in [
        ("app/schema", "app/schema.hcl"),
        ("app/schema.hcl", "app/schema"),
    ] {
        fixture.mv(from, to).await.unwrap();
        for name in [from, to] {
            assert_eq!(fixture.cat(name).await.unwrap(), V1);
        }
    }
    let sql = fixture.mv("app/schema", "app/schema.sql").await;
    assert_eq!(sql, Err(Error::NotPermitted));
}
