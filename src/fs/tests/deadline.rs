//! Nothing hangs, and nothing grows without bound.

use std::time::Duration;

use super::fixtures::world_with;
use super::kernel::{Choice, WRITE, WRITE_ANEW, World};
use super::{V1, V2};
use crate::fs::{Error, Making};
use crate::store::{Fault, Memory};

#[tokio::test(start_paused = true)]
async fn a_push_answers_by_its_deadline_when_every_target_hangs() {
    let world = world_with(V1).await;
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    for store in world.all() {
        store.set_fault(Fault::Hang);
    }
    let begun = tokio::time::Instant::now();
    assert_eq!(file.flush().await, Err(Error::Io));
    assert!(begun.elapsed() <= Duration::from_secs(15) + Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_push_keeps_its_deadline_also_when_another_is_before_it() {
    let world = world_with(V1).await;
    let first = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    let second = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    first.write(0, V2).unwrap();
    second.write(0, V2).unwrap();
    for store in world.all() {
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
    let world = world_with(V1).await;
    world.registry.set_fault(Fault::Hang);
    for backup in &world.backups {
        backup.set_fault(Fault::Slow(Duration::from_secs(1)));
    }
    world.wait().await;
    let begun = tokio::time::Instant::now();
    world.cp("app/schema", V2).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15));
    for backup in &world.backups {
        assert_eq!(backup.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test(start_paused = true)]
async fn backups_are_pushed_to_at_once() {
    let world = world_with(V1).await;
    for backup in &world.backups {
        backup.set_fault(Fault::Slow(Duration::from_secs(1)));
    }
    let begun = tokio::time::Instant::now();
    world.cp("app/schema", V2).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 1);
}

#[tokio::test]
async fn the_number_of_writers_is_bounded() {
    let world = World::with(Choice {
        named: vec!["app"],
        max_writers: Some(2),
        ..Choice::default()
    });
    let _a = world.open("app/plans/a", WRITE, true).await.unwrap();
    let b = world.open("app/plans/b", WRITE, true).await.unwrap();
    let third = world.open("app/plans/c", WRITE, true).await;
    assert_eq!(third.err(), Some(Error::TooManyHandles));
    b.close().await.unwrap();
    world.open("app/plans/c", WRITE, true).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutting_down_waits_for_the_pushes_under_way() {
    let world = world_with(V1).await;
    world
        .registry
        .set_fault(Fault::Slow(Duration::from_secs(3)));
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    let fs = world.fs.clone();
    let fh = file.fh;
    let close = tokio::spawn(async move { fs.flush(fh, 0).await });
    tokio::task::yield_now().await;
    assert_eq!(world.fs.shut_down(Duration::from_secs(1)).await, 1);
    assert_eq!(world.fs.shut_down(Duration::from_secs(9)).await, 0);
    assert_eq!(close.await.unwrap(), Ok(()));
    assert_eq!(world.registry.content("app/schema").unwrap(), V2);
}

#[tokio::test]
async fn what_is_being_written_is_bounded_in_bytes_and_beyond_them_there_is_no_space() {
    let world = World::with(Choice {
        named: vec!["app"],
        staged_bytes: Some(30),
        ..Choice::default()
    });
    let first = world.open("app/schema", WRITE, true).await.unwrap();
    first.write(0, V1).unwrap();
    let second = world.open("app/plans/p1", WRITE, true).await.unwrap();
    assert_eq!(second.write(0, &[b'x'; 20]), Err(Error::NoSpace));
    assert_eq!(
        second.close().await,
        Err(Error::NoSpace),
        "and close says so"
    );
    assert_eq!(first.close().await, Ok(()));
    let third = world.open("app/plans/p1", WRITE, true).await.unwrap();
    assert_eq!(third.write(0, &[b'x'; 20]), Ok(()), "it is given back");
    assert_eq!(third.close().await, Err(Error::Invalid));
}

#[tokio::test(start_paused = true)]
async fn a_handle_whose_end_takes_too_long_is_given_back_all_the_same() {
    let world = world_with(V1).await;
    let file = world.open("app/schema", WRITE_ANEW, false).await.unwrap();
    file.write(0, V2).unwrap();
    world
        .all()
        .iter()
        .for_each(|store| store.set_fault(Fault::Hang));
    let (ino, fh) = (file.ino, file.fh);
    world.fs.forget(ino, 100);
    let release = world.fs.clone().release(fh);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), release)
            .await
            .is_err()
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.fs.clone().getattr(ino, None).await, Err(Error::Stale));
}

#[tokio::test(start_paused = true)]
async fn look_ups_and_opens_keep_their_deadlines_with_a_hung_registry() {
    for all in [false, true] {
        let world = World::with(Choice {
            stores: Some(std::array::from_fn(|_| Memory::without_listed_stamps())),
            named: vec!["app"],
            ..Choice::default()
        });
        let other = world.another();
        other.mkdir("app").await.unwrap();
        other.cp("app/schema.hcl", V1).await.unwrap();
        world.registry.set_fault(Fault::Hang);
        if all {
            world
                .all()
                .iter()
                .for_each(|store| store.set_fault(Fault::Hang));
        }
        let app = world.stat("app").await.unwrap().ino;
        let name = std::ffi::OsStr::new("schema.hcl");
        let begun = tokio::time::Instant::now();
        let looked = world.fs.clone().lookup(app, name, 1).await;
        // Where no target tells of the repository, the name can be saved to, and not be read.
        assert!(looked.is_ok());
        assert!(
            begun.elapsed() <= Duration::from_millis(2_010),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(world.cat("app/schema.hcl").await.is_ok(), !all);
        let begun = tokio::time::Instant::now();
        let created = world
            .fs
            .clone()
            .create(app, name, WRITE, Making::default())
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
