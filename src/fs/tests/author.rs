//! The author of a push: named by its stamp, wherever that goes.

use std::ffi::OsStr;
use std::time::Duration;

use super::fixtures::{plan, unstamped_lists};
use super::kernel::{Choice, Fixture, WRITE};
use super::lineage::{CALM, overtake};
use super::reconcile::{choice, from_another_machine, order, repairing};
use super::{V1, V2};
use crate::fs::{AuthorSetting, Caller, CreateAttrs, SetAttr};
use crate::model::{Format, Stamp};
use crate::store::{Fault, Kind, Memory};

fn named(author: &str, choice: Choice) -> Choice {
    Choice {
        author: AuthorSetting::Fixed(author.parse().unwrap()),
        ..choice
    }
}

fn author(store: &Memory, key: &str) -> Option<String> {
    let author = store.object(key)?.stamp?.author?;
    Some(author.to_string())
}

#[track_caller]
fn all_name(fixture: &Fixture, key: &str, expected: Option<&str>) {
    for store in fixture.all() {
        assert_eq!(author(store, key).as_deref(), expected, "{key}");
    }
}

/// Returns the authors of the versions on the last backup.
fn of_versions(fixture: &Fixture) -> Vec<Option<String>> {
    let keys = fixture.backups[1].keys().into_iter();
    let versions = keys.filter(|key| key.contains("/versions/"));
    versions
        .map(|key| author(&fixture.backups[1], &key))
        .collect()
}

#[tokio::test]
async fn a_push_names_its_author_on_every_target() {
    let fixture = Fixture::with(named("Zoë <z@x.org>", choice()));
    fixture.cp("app/schema", V1).await.unwrap();
    all_name(&fixture, "app/schema", Some("Zoë <z@x.org>"));
    let shown = fixture.xattr("app/schema", "author").await;
    assert_eq!(shown.as_deref(), Some("Zoë <z@x.org>"));
    let reader = fixture.another();
    reader.cat("app/schema").await.unwrap();
    assert_eq!(reader.xattr("app/schema", "author").await, shown);
}

#[tokio::test]
async fn a_push_without_an_author_names_none() {
    let fixture = Fixture::with(choice());
    fixture.cp("app/schema", V1).await.unwrap();
    all_name(&fixture, "app/schema", None);
    assert_eq!(fixture.xattr("app/schema", "author").await, None);
}

#[tokio::test]
async fn a_stamp_of_an_earlier_version_is_read_without_an_author() {
    let fixture = Fixture::with(named("alice", choice()));
    for store in fixture.all() {
        store.place("app/schema", V1, Some(Stamp::new(7, V1, Format::Hcl)));
    }
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(fixture.xattr("app/schema", "author").await, None);
    fixture.cp("app/schema", V2).await.unwrap();
    all_name(&fixture, "app/schema", Some("alice"));
}

#[tokio::test]
async fn the_author_is_the_user_whose_process_writes() {
    let fixture = Fixture::with(Choice {
        author: AuthorSetting::User,
        ..choice()
    });
    let fs = || fixture.fs.clone();
    let caller = |uid| Caller {
        pid: fixture.pid(),
        uid: Some(uid),
    };
    let attrs = |uid| CreateAttrs {
        perm: 0o644,
        pid: fixture.pid(),
        uid: Some(uid),
        gid: None,
    };
    let is_by = |key: &str, user: &str| {
        let author = author(&fixture.backups[0], key).unwrap();
        let (by, host) = author.split_once('@').unwrap();
        assert_eq!((by, host.is_empty()), (user, false), "{key}");
    };
    // No real user has this number.
    let (unknown, number) = (4_000_000_001, "uid 4000000001");
    let plans = fixture.stat("app/plans").await.unwrap().ino;
    for (name, uid, user) in [("p1", 0, "root"), ("p2", unknown, number)] {
        let created = fs().create(plans, OsStr::new(name), WRITE, attrs(uid));
        let (_, opened) = created.await.unwrap();
        fs().write(opened.fh, 0, &plan(name), 0).unwrap();
        // The close may come from any thread; the kernel sends a release for none.
        fs().flush(opened.fh, 0).await.unwrap();
        fs().release(opened.fh).await.unwrap();
        is_by(&format!("app/plans/{name}"), user);
    }
    let longer = plan("p1").len() as u64 + 1;
    let ino = fixture.stat("app/plans/p1").await.unwrap().ino;
    let set = SetAttr {
        size: Some(longer - 2),
        ..SetAttr::default()
    };
    let thread = caller(unknown);
    let sent_back = fs().setattr(ino, None, set, thread).await;
    assert!(sent_back.is_err(), "the kernel looks up again");
    let ino = fixture.walk("app/plans/p1", thread.pid).await.unwrap().ino;
    fs().setattr(ino, None, set, thread).await.unwrap();
    is_by("app/plans/p1", number);
    fixture.cp("app/plans/.s", &plan("p1")).await.unwrap();
    let (from, to) = ((plans, OsStr::new(".s")), (plans, OsStr::new("p1")));
    fs().rename(from, to, false, caller(0)).await.unwrap();
    is_by("app/plans/p1", "root");
}

#[tokio::test(start_paused = true)]
async fn a_replayed_push_keeps_the_author_that_pushed() {
    let fixture = Fixture::with(named("alice", choice()));
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V1).await.unwrap();
    let fixture = fixture.restart(named("bob", repairing()));
    fixture.registry.set_fault(None);
    tokio::time::sleep(CALM).await;
    all_name(&fixture, "app/schema", Some("alice"));
}

#[tokio::test]
async fn the_author_is_known_offline_after_a_restart() {
    let fixture = Fixture::with(named("alice", choice()));
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.settle().await;
    super::fixtures::set_all(&fixture, Fault::Fail(Kind::Unreachable));
    let fixture = fixture.restart(named("bob", choice()));
    let author = fixture.xattr("app/schema", "author").await;
    assert_eq!(author.as_deref(), Some("alice"));
}

#[tokio::test(start_paused = true)]
async fn reconcile_copies_a_content_with_its_author() {
    for stores in [None, unstamped_lists()] {
        let fixture = Fixture::with(named("alice", Choice { stores, ..choice() }));
        fixture.backups[1].set_fault(Fault::Fail(Kind::Unreachable));
        fixture.cp("app/schema", V1).await.unwrap();
        fixture.backups[1].set_fault(None);
        let fixture = from_another_machine(fixture, named("bob", choice()));
        assert_eq!(order(&fixture, "sync").await["repaired"], 2);
        all_name(&fixture, "app/schema", Some("alice"));
        assert_eq!(of_versions(&fixture), [Some("alice".into())]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_conflict_names_both_contents_with_author_and_time() {
    let fixture = Fixture::with(named("alice", repairing()));
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V2).await.unwrap();
    let pushed = fixture.backups[0].object("app/schema").unwrap();
    fixture.registry.set_fault(None);
    overtake(&fixture.registry, "bob".parse().ok());
    tokio::time::sleep(Duration::from_secs(1) + CALM).await;
    let there = fixture.registry.object("app/schema").unwrap();
    let error = fixture.xattr("app/schema", "error").await.unwrap();
    for (object, author) in [(pushed, "alice"), (there, "bob")] {
        let when = crate::model::when_to_text(object.stamp.unwrap().when);
        assert!(error.contains(&format!("of {when} by {author}")), "{error}");
    }
    assert_eq!(
        of_versions(&fixture),
        ["alice"; 2].map(|it| Some(it.into()))
    );
}
