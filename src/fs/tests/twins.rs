//! The two names of one artifact: a change through one name shows through the other.

use std::sync::{Arc, Mutex};

use super::fixtures::{choice, fixture_of, fixture_with, plan};
use super::kernel::{Choice, Fixture, READ};
use super::{V1, V2};
use crate::fs::{Attr, Error};

/// Collects the inodes whose attributes the kernel must forget from now on.
fn invalidated(fixture: &Fixture) -> Arc<Mutex<Vec<u64>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let inodes = Arc::clone(&told);
    fixture
        .fs
        .connect(move |ino| inodes.lock().unwrap().push(ino));
    told
}

/// Asks for the attributes of an inode from an earlier look-up, as the kernel does.
async fn ask(fixture: &Fixture, before: &Attr) -> Result<Attr, Error> {
    let asked = fixture.fs.clone().getattr(before.ino, None).await;
    asked.map(|(attr, ttl)| {
        assert!(ttl.is_zero(), "the kernel must ask again");
        attr
    })
}

#[tokio::test]
async fn a_push_by_one_name_invalidates_the_other() {
    let fixture = fixture_with(V1).await;
    fixture.cp("app/plans/p1", &plan("p1")).await.unwrap();
    let another = |end: &str| [plan("p1"), end.into()].concat();
    for (by, other, new) in [
        ("app/schema.hcl", "app/schema", V2.to_vec()),
        ("app/schema", "app/schema.hcl", V1.to_vec()),
        ("app/plans/p1.plan.hcl", "app/plans/p1", another("# 1\n")),
        ("app/plans/p1", "app/plans/p1.plan.hcl", another("# 2\n")),
    ] {
        let before = fixture.stat(other).await.unwrap();
        let told = invalidated(&fixture);
        fixture.cp(by, &new).await.unwrap();
        assert_eq!(*told.lock().unwrap(), [before.ino], "{by}");
        let now = ask(&fixture, &before).await.unwrap();
        let after = fixture.stat(other).await.unwrap();
        assert_eq!(
            (now.shown, now.size, now.time),
            (after.shown, after.size, after.time),
            "{by}: stat tells what an open will give"
        );
    }
}

#[tokio::test]
async fn a_rename_onto_one_name_invalidates_the_other() {
    let fixture = fixture_with(V1).await;
    let before = fixture.stat("app/schema").await.unwrap();
    let told = invalidated(&fixture);
    fixture.cp("app/.new", V2).await.unwrap();
    fixture.mv("app/.new", "app/schema.hcl").await.unwrap();
    assert_eq!(*told.lock().unwrap(), [before.ino]);
    assert_eq!(ask(&fixture, &before).await.unwrap().size, V2.len() as u64);
}

#[tokio::test]
async fn a_failed_push_invalidates_nothing() {
    let fixture = fixture_with(V1).await;
    let told = invalidated(&fixture);
    assert_eq!(fixture.cp("app/schema", b"{").await, Err(Error::Invalid));
    assert!(told.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_open_handle_on_the_old_content_sees_its_size() {
    let fixture = fixture_with(V1).await;
    let before = fixture.stat("app/schema").await.unwrap();
    let reader = fixture.open("app/schema", READ, false).await.unwrap();
    fixture.cp("app/schema.hcl", V2).await.unwrap();
    let now = ask(&fixture, &before).await.unwrap();
    assert_eq!((now.size, now.time), (before.size, before.time));
    let after = fixture.stat("app/schema").await.unwrap();
    assert_eq!(now.shown, after.shown, "cp compares the numbers");
    assert_eq!(reader.read_all().await.unwrap(), V1);
    reader.close().await.unwrap();
    assert_eq!(ask(&fixture, &before).await.unwrap().size, V2.len() as u64);
}

#[tokio::test]
async fn a_deletion_by_one_name_invalidates_the_other() {
    let fixture = deleting().await;
    let before = fixture.stat("app/schema").await.unwrap();
    let told = invalidated(&fixture);
    fixture.rm("app/schema.hcl").await.unwrap();
    assert_eq!(*told.lock().unwrap(), [before.ino]);
    assert_eq!(ask(&fixture, &before).await, Err(Error::Stale));
}

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
async fn a_mirroring_program_cannot_delete_an_artifact_it_wrote_by_another_name() {
    let fixture = deleting().await;
    let pid = fixture.pid();
    fixture.ls_by("app", pid).await.unwrap();
    fixture.walk("app/schema.hcl", pid).await.unwrap();
    let refused = fixture.rm_by("app/schema", pid).await;
    assert_eq!(refused, Err(Error::NotPermitted));
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("mistakes one file for two"), "{events}");
    // The program may delete the artifact by the name that it knows, and every other artifact.
    fixture.rm_by("app/plans/p1", pid).await.unwrap();
    fixture.rm_by("app/schema.hcl", pid).await.unwrap();
    assert_eq!(fixture.registry.content("app/schema"), None);
}

#[tokio::test]
async fn everybody_else_deletes_by_either_name() {
    for name in ["app/schema", "app/schema.hcl"] {
        let fixture = deleting().await;
        let mirror = fixture.pid();
        fixture.ls_by("app", mirror).await.unwrap();
        fixture.walk("app/schema.hcl", mirror).await.unwrap();
        fixture.rm(name).await.unwrap();
        assert_eq!(fixture.registry.content("app/schema"), None, "{name}");
    }
    // A program that has only listed, or only used the other name, may delete.
    let fixture = deleting().await;
    let pid = fixture.pid();
    fixture.walk("app/schema.hcl", pid).await.unwrap();
    fixture.rm_by("app/schema", pid).await.unwrap();
}

#[tokio::test]
async fn a_plan_named_like_a_temporary_file_is_listed_by_its_file_name() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        ..Choice::default()
    });
    for name in ["p1.tmp", "sedAbC123"] {
        let key = format!("app/plans/{name}");
        fixture.registry.place(&key, b"x", None);
        assert_eq!(fixture.stat(&key).await, Err(Error::NotFound), "{name}");
    }
    let files = ["p1.tmp.plan.hcl", "sedAbC123.plan.hcl"];
    assert_eq!(fixture.ls("app/plans").await.unwrap(), files);
    assert_eq!(
        fixture.cat("app/plans/p1.tmp.plan.hcl").await.unwrap(),
        b"x"
    );
    // The bare name is that of a temporary file, before and after.
    fixture.cp("app/plans/p1.tmp", b"mine").await.unwrap();
    assert_eq!(fixture.cat("app/plans/p1.tmp").await.unwrap(), b"mine");
    assert_eq!(
        fixture.cat("app/plans/p1.tmp.plan.hcl").await.unwrap(),
        b"x"
    );
}

#[tokio::test]
async fn a_plan_named_like_a_temporary_file_is_pushed_by_its_file_name() {
    let fixture = fixture_of(choice(), V1).await;
    for name in ["v2.tmp", "v2.tmp.1", "XXAbC123"] {
        let (file, key) = (
            format!("app/plans/{name}.plan.hcl"),
            format!("app/plans/{name}"),
        );
        fixture.cp(&file, &plan(name)).await.unwrap();
        for store in fixture.all() {
            assert_eq!(store.content(&key).unwrap(), plan(name), "{name}");
        }
        assert_eq!(fixture.cat(&file).await.unwrap(), plan(name));
        let listed = fixture.ls("app/plans").await.unwrap();
        assert!(listed.contains(&format!("{name}.plan.hcl")), "{listed:?}");
    }
    for path in ["app/x.tmp.sql", "app/schema.tmp.hcl"] {
        assert_eq!(
            fixture.cp(path, V2).await,
            Err(Error::NotPermitted),
            "{path}"
        );
    }
}
