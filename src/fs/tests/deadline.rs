//! Nothing hangs, and nothing grows without bound.

use std::time::Duration;

use super::fixtures::fixture_with;
use super::kernel::{Choice, Fixture, WRITE, WRITE_ANEW};
use super::{V1, V2};
use crate::fs::{CreateAttrs, Error};
use crate::store::{Fault, Memory};

#[tokio::test(start_paused = true)]
async fn a_push_answers_by_its_deadline_when_every_target_hangs() {
    let fixture = fixture_with(V1).await;
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    for store in fixture.all() {
        store.set_fault(Fault::Hang);
    }
    let begun = tokio::time::Instant::now();
    assert_eq!(file.flush().await, Err(Error::Io));
    assert!(begun.elapsed() <= Duration::from_secs(15) + Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_push_keeps_its_deadline_also_when_another_is_before_it() {
    let fixture = fixture_with(V1).await;
    let first = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    let second = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    first.write(0, V2).unwrap();
    second.write(0, V2).unwrap();
    for store in fixture.all() {
        store.set_fault(Fault::Hang);
    }
    let begun = tokio::time::Instant::now();
    let (one, two) = tokio::join!(first.flush(), second.flush());
    assert_eq!((one, two), (Err(Error::Io), Err(Error::Io)));
    assert!(
        begun.elapsed() <= Duration::from_millis(15_010),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_hung_registry_leaves_the_backups_their_time() {
    let fixture = fixture_with(V1).await;
    fixture.registry.set_fault(Fault::Hang);
    for backup in &fixture.backups {
        backup.set_fault(Fault::Slow(Duration::from_secs(1)));
    }
    fixture.wait().await;
    let begun = tokio::time::Instant::now();
    fixture.cp("app/schema", V2).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15));
    for backup in &fixture.backups {
        assert_eq!(backup.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test(start_paused = true)]
async fn backups_are_pushed_to_at_once() {
    let fixture = fixture_with(V1).await;
    for backup in &fixture.backups {
        backup.set_fault(Fault::Slow(Duration::from_secs(1)));
    }
    let begun = tokio::time::Instant::now();
    fixture.cp("app/schema", V2).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 1);
}

#[tokio::test]
async fn the_number_of_writers_is_bounded() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        max_writers: Some(2),
        ..Choice::default()
    });
    let _a = fixture.open("app/plans/a", WRITE, true).await.unwrap();
    let b = fixture.open("app/plans/b", WRITE, true).await.unwrap();
    let third = fixture.open("app/plans/c", WRITE, true).await;
    assert_eq!(third.err(), Some(Error::TooManyHandles));
    b.close().await.unwrap();
    fixture.open("app/plans/c", WRITE, true).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutting_down_waits_for_the_pushes_under_way() {
    let fixture = fixture_with(V1).await;
    fixture
        .registry
        .set_fault(Fault::Slow(Duration::from_secs(3)));
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    let fs = fixture.fs.clone();
    let fh = file.fh;
    let close = tokio::spawn(async move { fs.flush(fh, 0).await });
    tokio::task::yield_now().await;
    assert_eq!(fixture.fs.shut_down(Duration::from_secs(1)).await, 1);
    assert_eq!(fixture.fs.shut_down(Duration::from_secs(9)).await, 0);
    assert_eq!(close.await.unwrap(), Ok(()));
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V2);
}

#[tokio::test]
async fn the_total_size_of_staged_files_is_limited() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        staged_bytes: Some(30),
        ..Choice::default()
    });
    let first = fixture.open("app/schema", WRITE, true).await.unwrap();
    first.write(0, V1).unwrap();
    let second = fixture.open("app/plans/p1", WRITE, true).await.unwrap();
    assert_eq!(second.write(0, &[b'x'; 20]), Err(Error::NoSpace));
    assert_eq!(
        second.close().await,
        Err(Error::NoSpace),
        "and close says so"
    );
    assert_eq!(first.close().await, Ok(()));
    let third = fixture.open("app/plans/p1", WRITE, true).await.unwrap();
    assert_eq!(third.write(0, &[b'x'; 20]), Ok(()), "it is given back");
    assert_eq!(third.close().await, Err(Error::Invalid));
}

#[tokio::test(start_paused = true)]
async fn a_slow_release_still_frees_its_handle() {
    let fixture = fixture_with(V1).await;
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    fixture
        .all()
        .iter()
        .for_each(|store| store.set_fault(Fault::Hang));
    let (ino, fh) = (file.ino, file.fh);
    fixture.fs.forget(ino, 100);
    let release = fixture.fs.clone().release(fh);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), release)
            .await
            .is_err()
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        fixture.fs.clone().getattr(ino, None, 0).await,
        Err(Error::Stale)
    );
}

#[tokio::test(start_paused = true)]
async fn look_ups_and_opens_keep_their_deadlines_with_a_hung_registry() {
    for all in [false, true] {
        let fixture = Fixture::with(Choice {
            stores: Some(std::array::from_fn(|_| Memory::without_listed_stamps())),
            named: vec!["app"],
            ..Choice::default()
        });
        let other = fixture.another();
        other.mkdir("app").await.unwrap();
        other.cp("app/schema.hcl", V1).await.unwrap();
        fixture.registry.set_fault(Fault::Hang);
        if all {
            fixture
                .all()
                .iter()
                .for_each(|store| store.set_fault(Fault::Hang));
        }
        let app = fixture.stat("app").await.unwrap().ino;
        let name = std::ffi::OsStr::new("schema.hcl");
        let begun = tokio::time::Instant::now();
        let looked = fixture.fs.clone().lookup(app, name, 1).await;
        // If no target answers for the repository, a save reaches the push, and a read fails.
        assert!(looked.is_ok());
        assert!(
            begun.elapsed() <= Duration::from_millis(2_010),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(fixture.cat("app/schema.hcl").await.is_ok(), !all);
        let begun = tokio::time::Instant::now();
        let created = fixture
            .fs
            .clone()
            .create(app, name, WRITE, CreateAttrs::default())
            .await;
        assert_eq!(
            created.is_ok(),
            !all,
            "it may be there, and its bytes are needed"
        );
        assert!(
            begun.elapsed() <= Duration::from_millis(5_010),
            "{:?}",
            begun.elapsed()
        );
    }
}
