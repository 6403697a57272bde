//! The two names of one artifact: a change through one name shows through the other.

use std::sync::{Arc, Mutex};

use super::closer::Machine;
use super::fixtures::{choice, fixture_of, fixture_with, plan, set_all, unstamped_lists};
use super::kernel::{Choice, Fixture, READ, WRITE};
use super::{LISTED, V1, V2};
use crate::fs::{Attr, Error};
use crate::store::{Fault, Kind};

const SQL: &[u8] = b"CREATE TABLE t (c int);\n";

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
    let asked = fixture.fs.clone().getattr(before.ino, None, 0).await;
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
async fn a_stat_by_name_looks_up_what_another_process_holds_open() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let [holder, hidden, other] = [1, 2, 3];
    machine.holds(holder, true);
    machine.hide(hidden);
    let before = fixture.stat("app/schema").await.unwrap();
    let reader = fixture.open("app/schema", READ, false).await.unwrap();
    fixture.cp("app/schema.hcl", V2).await.unwrap();
    let size = async |fh, pid| {
        let asked = fixture.fs.clone().getattr(before.ino, fh, pid).await;
        asked.map(|(attr, _)| attr.size)
    };
    assert_eq!(size(None, other).await, Err(Error::Stale));
    // A reader's size must not change, or the kernel would cut its content off.
    assert_eq!(size(Some(reader.fh), other).await, Ok(before.size));
    assert_eq!(size(None, holder).await, Ok(before.size));
    assert_eq!(size(None, hidden).await, Ok(before.size));
    reader.close().await.unwrap();
    assert_eq!(size(None, other).await, Ok(V2.len() as u64));
}

#[tokio::test]
async fn a_deletion_by_one_name_invalidates_the_other() {
    let fixture = fixture_of(
        Choice {
            allow_delete: true,
            ..choice()
        },
        V1,
    )
    .await;
    let before = fixture.stat("app/schema").await.unwrap();
    let told = invalidated(&fixture);
    fixture.rm("app/schema.hcl").await.unwrap();
    assert_eq!(*told.lock().unwrap(), [before.ino]);
    assert_eq!(ask(&fixture, &before).await, Err(Error::Stale));
}

#[tokio::test]
async fn the_twin_has_the_suffix_of_the_format() {
    let fixture = fixture_with(V1).await;
    let before = fixture.stat("app/schema.hcl").await.unwrap();
    fixture.cp("app/schema.sql", SQL).await.unwrap();
    let names = ["schema", "schema.sql", "plans"];
    assert_eq!(fixture.ls("app").await.unwrap(), names);
    // The kernel still knows the old name, and must look it up again.
    assert_eq!(ask(&fixture, &before).await, Err(Error::Stale));
    assert_eq!(fixture.stat("app/schema.hcl").await, Err(Error::NotFound));
    fixture.cp("app/schema.hcl", V1).await.unwrap();
    assert_eq!(fixture.ls("app").await.unwrap(), LISTED);
}

#[tokio::test]
async fn every_listed_name_of_a_touched_schema_is_found() {
    for (name, twin, none) in [
        ("schema", "schema.hcl", "schema.sql"),
        ("schema.hcl", "schema.hcl", "schema.sql"),
        ("schema.sql", "schema.sql", "schema.hcl"),
    ] {
        let fixture = Fixture::with(choice());
        let path = format!("app/{name}");
        let touched = fixture.open(&path, WRITE, true).await.unwrap();
        touched.close().await.unwrap();
        let listed = numbers(&fixture, "app").await;
        let names: Vec<_> = listed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..2], ["schema", twin], "{name}");
        assert_eq!(listed[0].1, listed[1].1, "{name}: one inode number");
        for found in ["schema", twin] {
            let ino = fixture.stat(&format!("app/{found}")).await.unwrap().ino;
            assert_eq!(ino, listed[0].1, "{name}");
        }
        let none = fixture.stat(&format!("app/{none}")).await;
        assert_eq!(none, Err(Error::NotFound), "{name}");
        // `rm -r` removes one name after the other.
        let pid = fixture.pid();
        fixture.ls_by("app", pid).await.unwrap();
        fixture.rm_by("app/schema", pid).await.unwrap();
        fixture.rm_by(&format!("app/{twin}"), pid).await.unwrap();
        assert_eq!(fixture.ls("app").await.unwrap(), ["plans"], "{name}");
    }
}

#[tokio::test]
async fn a_listing_shows_one_inode_number_for_both_names() {
    let fixture = fixture_with(V1).await;
    let listed = numbers(&fixture, "app").await;
    let ino = fixture.stat("app/schema").await.unwrap().ino;
    assert_eq!((listed[0].1, listed[1].1), (ino, ino));
}

/// Lists a directory as a plain readdir does: names and inode numbers.
async fn numbers(fixture: &Fixture, path: &str) -> Vec<(String, u64)> {
    let ino = fixture.stat(path).await.unwrap().ino;
    let fh = fixture.fs.clone().opendir(ino, 0).await.unwrap();
    let listing = fixture.fs.clone().readdir(fh, 0).await.unwrap();
    let mut listed = Vec::new();
    fixture.fs.for_each_entry(&listing, 2, false, |entry| {
        listed.push((entry.name.to_str().unwrap().to_owned(), entry.ino));
        true
    });
    fixture.fs.releasedir(fh);
    listed
}

#[tokio::test]
async fn a_first_push_that_no_target_lists_has_two_names() {
    let fixture = Fixture::new();
    fixture.mkdir("new").await.unwrap();
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("new/schema", SQL).await.unwrap();
    let names = ["schema", "schema.sql", "plans"];
    assert_eq!(fixture.ls("new").await.unwrap(), names);
    set_all(&fixture, Fault::Fail(Kind::Unreachable));
    assert_eq!(fixture.ls("new").await.unwrap(), names);
    let fixture = fixture.restart(Choice::default());
    assert_eq!(fixture.ls("new").await.unwrap(), names);
    for name in ["new/schema", "new/schema.sql"] {
        fixture.stat(name).await.unwrap();
    }
}

#[tokio::test]
async fn content_put_there_by_hand_has_two_names() {
    for stores in [None, unstamped_lists()] {
        let fixture = Fixture::with(Choice { stores, ..choice() });
        for (content, twin) in [(SQL, "schema.sql"), (V1, "schema.hcl")] {
            fixture.registry.place("app/schema", content, None);
            let other = fixture.another();
            let names = ["schema", twin, "plans"];
            assert_eq!(other.ls("app").await.unwrap(), names);
            let ino = other.stat("app/schema").await.unwrap().ino;
            let twin = format!("app/{twin}");
            assert_eq!(other.stat(&twin).await.unwrap().ino, ino);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_without_stamps_reads_the_schema_once_for_its_format() {
    let fixture = Fixture::with(Choice {
        stores: unstamped_lists(),
        ..choice()
    });
    fixture.cp("app/schema", SQL).await.unwrap();
    fixture.cp("app/plans/p1", &plan("p1")).await.unwrap();
    let other = fixture.another();
    fixture.registry.requests();
    let names = ["schema", "schema.sql", "plans"];
    assert_eq!(other.ls("app").await.unwrap(), names);
    let gets = || {
        let requests = fixture.registry.requests().into_iter();
        requests.filter(|it| it.starts_with("GET app/")).count()
    };
    assert_eq!(gets(), 1);
    other.wait().await;
    assert_eq!(other.ls("app").await.unwrap(), names);
    assert_eq!(gets(), 0);
    // If nothing can be read, the names are those that a look-up finds.
    let other = fixture.another();
    other.ls("app/plans").await.unwrap();
    set_all(&fixture, Fault::Hang);
    assert_eq!(other.ls("app").await.unwrap(), LISTED);
}

#[tokio::test]
async fn a_copy_of_both_names_there_and_back_is_harmless() {
    let fixture = fixture_with(V1).await;
    let names = ["app/schema", "app/schema.hcl"];
    for content in [V1, V2] {
        for name in names {
            fixture.cp(name, content).await.unwrap();
        }
        for store in fixture.all() {
            assert_eq!(store.content("app/schema").unwrap(), content);
        }
        assert_eq!(fixture.xattr("app/schema", "error").await, None);
    }
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
