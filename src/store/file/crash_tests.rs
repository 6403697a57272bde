//! Crash safety: each test records the effects of puts and deletes, builds every disk state that a
//! crash during them can leave, and reads it with a fresh backend.
//!
//! A crash keeps everything that was synced. Of names whose directory awaits its `SyncDir` it keeps
//! any subset.

use std::fs;
use std::path::{Path, PathBuf};

use super::disk::{Effect, perform};
use super::folder::Folder;
use super::*;
use crate::dir::Dir;
use crate::model::{Format, Stamp};

const KEY: &str = "app/plans/p1";
const MAX: u64 = 1 << 20;

/// Content and stamp, as a reader sees them.
type Seen = Option<(Vec<u8>, Option<SignedStamp>)>;

fn folder(dir: &Path) -> Folder {
    let folder = Folder::new(&FileLocation {
        url: "file://test".into(),
        dir: dir.into(),
        create_dir: false,
        known: false,
        read_only: false,
    });
    folder.prepare(false).unwrap();
    folder
}

/// Opens a fresh backend on a disk after a crash and reads.
fn see(dir: &Path) -> Seen {
    let folder = folder(dir);
    let seen = match folder.get(KEY, MAX) {
        Ok(stored) => Some((stored.content.to_vec(), stored.stamp)),
        Err(failure) => {
            assert_eq!(failure.kind, Kind::NotFound, "{failure}");
            None
        }
    };
    let listed = folder.list("app").unwrap();
    let listed = listed.iter().find(|object| object.key == KEY);
    assert_eq!(
        listed.map(|object| object.stamp),
        seen.as_ref().map(|(_, stamp)| *stamp),
        "the listing and the content agree"
    );
    seen
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            let time = entry.metadata().unwrap().modified().unwrap();
            fs::File::options()
                .write(true)
                .open(&target)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
    }
}

/// The directory whose sync makes the name of an effect durable. Temporary files need none: a
/// durable rename keeps the file.
fn unsynced_in(effect: &Effect) -> Option<PathBuf> {
    match effect {
        Effect::MakeDir(path)
        | Effect::Remove(path)
        | Effect::RemoveDir(path)
        | Effect::Rename { to: path, .. } => path.parent().map(Path::to_path_buf),
        Effect::Write { .. } | Effect::SyncDir(_) => None,
    }
}

/// Calls `check` with every disk that a crash during `effects` on `before` can leave, and whether
/// all effects were complete.
fn every_crash(before: &Path, effects: &[Effect], mut check: impl FnMut(&Path, bool)) -> usize {
    let mut states = 0;
    for end in 0..=effects.len() {
        let done = &effects[..end];
        let pending: Vec<usize> = (0..end)
            .filter(|&index| {
                unsynced_in(&done[index]).is_some_and(|dir| {
                    !done[index..]
                        .iter()
                        .any(|later| matches!(later, Effect::SyncDir(synced) if *synced == dir))
                })
            })
            .collect();
        assert!(pending.len() < 10);
        for lost in 0..1_u32 << pending.len() {
            for half_written in [false, true] {
                let temp = tempfile::tempdir().unwrap();
                let disk = temp.path().join("disk");
                copy(before, &disk);
                let root = Dir::open(&disk).unwrap();
                for (index, effect) in done.iter().enumerate() {
                    let place = pending.iter().position(|&pending| pending == index);
                    if place.is_none_or(|place| lost & (1 << place) == 0) {
                        // Effects that depend on a lost name are lost too.
                        let _ = perform(&root, effect);
                    }
                }
                if half_written {
                    let Some(Effect::Write { path, content, .. }) = effects.get(end) else {
                        continue;
                    };
                    fs::write(disk.join(path), &content[..content.len() / 2]).unwrap();
                }
                check(&disk, end == effects.len());
                states += 1;
            }
        }
    }
    states
}

/// Prepares a disk, records an operation on it, and checks every crash during the operation.
fn crashes_amid(prepare: impl Fn(&Folder), operation: impl Fn(&Folder), what: &str) -> usize {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("dir");
    let before = temp.path().join("before");
    fs::create_dir(&dir).unwrap();
    let subject = folder(&dir);
    prepare(&subject);
    copy(&dir, &before);
    let old = see(&before);
    subject.disk.done.lock().unwrap().clear();
    operation(&subject);
    let effects = std::mem::take(&mut *subject.disk.done.lock().unwrap());
    let new = see(&dir);
    assert_ne!(old, new);
    every_crash(&before, &effects, |disk, acknowledged| {
        let seen = see(disk);
        match acknowledged {
            true => assert_eq!(seen, new, "{what}: acknowledged and lost"),
            false => assert!(seen == old || seen == new, "{what}: {seen:?}"),
        }
        // The store still works.
        put(&folder(disk), b"after the crash", 99);
        assert_eq!(see(disk).unwrap().0, b"after the crash");
    })
}

fn put(folder: &Folder, content: &'static [u8], when: u64) {
    let stamp = SignedStamp::from(Stamp::new(when, content, Format::Hcl));
    let content = Bytes::from_static(content);
    folder.put(KEY, content, &stamp, &Condition::None).unwrap();
}

#[test]
fn a_crash_at_any_point_of_a_put_leaves_the_old_content_or_the_new_with_its_own_stamp() {
    let by_hand = |folder: &Folder| {
        fs::create_dir_all(folder.root.join("app/plans")).unwrap();
        fs::write(folder.root.join(KEY), "by hand").unwrap();
    };
    let mut states = 0;
    states += crashes_amid(|_| {}, |folder| put(folder, b"new", 2), "a first put");
    states += crashes_amid(
        |folder| put(folder, b"old", 1),
        |folder| put(folder, b"new", 2),
        "a second put",
    );
    states += crashes_amid(
        |folder| {
            put(folder, b"older", 1);
            put(folder, b"old", 2);
        },
        |folder| put(folder, b"new", 3),
        "a third put",
    );
    states += crashes_amid(
        |folder| put(folder, b"same", 1),
        |folder| put(folder, b"same", 2),
        "a put of the same bytes",
    );
    states += crashes_amid(
        by_hand,
        |folder| put(folder, b"new", 2),
        "a put over a file made by hand",
    );
    states += crashes_amid(
        |folder| {
            by_hand(folder);
            put(folder, b"old", 1);
        },
        |folder| put(folder, b"new", 2),
        "a second put over a file made by hand",
    );
    assert!(states > 100, "{states}");
}

#[test]
fn a_crash_at_any_point_of_a_delete_leaves_the_object_with_its_stamp_or_nothing() {
    let delete = |folder: &Folder| folder.delete(KEY).unwrap();
    crashes_amid(|folder| put(folder, b"old", 1), delete, "a delete");
    crashes_amid(
        |folder| {
            put(folder, b"older", 1);
            put(folder, b"old", 2);
        },
        delete,
        "a delete of the second content",
    );
}
