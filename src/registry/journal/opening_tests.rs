//! Opening the journal of an earlier mount while the disk fails, or after it has failed.

use std::fs;
use std::path::Path;

use super::*;
use crate::model::{Format, Item, RepoName};

fn id() -> ArtifactId {
    ArtifactId {
        repo: RepoName::parse("app").unwrap(),
        item: Item::Schema,
    }
}

/// Makes a journal of two pending pushes.
fn journal_of_two(dir: &Path) {
    let (journal, _) = Journal::open(dir.into(), 1_000).unwrap();
    for when in [5, 6] {
        let stamp = Stamp::new(when, b"x", Format::Hcl);
        journal.begin(&id(), &stamp, b"x").unwrap();
    }
}

#[test]
fn a_single_disk_error_is_retried() {
    let dir = tempfile::tempdir().unwrap();
    journal_of_two(dir.path());
    fail_reads(1);
    let (journal, damaged) = Journal::open(dir.path().into(), 1_000).unwrap();
    assert_eq!(journal.pending().len(), 2);
    assert!(damaged.is_empty() && journal.unread().is_empty());
}

#[test]
fn an_unreadable_file_stays_and_is_read_later() {
    let dir = tempfile::tempdir().unwrap();
    journal_of_two(dir.path());
    fail_reads(3);
    let (journal, damaged) = Journal::open(dir.path().into(), 1_000).unwrap();
    assert!(damaged.is_empty() && journal.damaged().is_empty());
    assert_eq!(journal.pending().len(), 1);
    let unread = journal.unread();
    assert_eq!(unread[0].file, journal.path(5));
    assert!(unread[0].reason.contains("the disk fails"));
    assert_eq!(journal.newest_unread(), Some(5));
    assert!(unread[0].file.exists());
    let (records, damaged) = journal.read_again();
    assert_eq!(records.len(), 1);
    assert!(damaged.is_empty() && journal.unread().is_empty());
    assert_eq!(journal.pending().len(), 2);
}

#[test]
fn an_object_in_place_of_an_entry_is_reported() {
    type Put = fn(&std::path::Path);
    let puts: [Put; 4] = [
        |file| nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        |file| fs::create_dir(file).unwrap(),
        |file| std::os::unix::fs::symlink("/dev/zero", file).unwrap(),
        |file| std::os::unix::fs::symlink("/nonexistent", file).unwrap(),
    ];
    for put in puts {
        let dir = tempfile::tempdir().unwrap();
        journal_of_two(dir.path());
        let file = dir.path().join(name(5));
        fs::remove_file(&file).unwrap();
        put(&file);
        for _ in ["the first mount", "a later one"] {
            let (journal, damaged) = Journal::open(dir.path().into(), 1_000).unwrap();
            assert!(damaged.is_empty());
            assert_eq!(journal.unread()[0].file, file);
            assert_eq!(journal.pending().len(), 1);
        }
        let (journal, _) = Journal::open(dir.path().into(), 1_000).unwrap();
        fs::rename(&file, dir.path().join("away")).unwrap();
        journal.read_again();
        assert!(journal.unread().is_empty());
    }
}

#[test]
fn damage_is_reported_after_restarts_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    journal_of_two(dir.path());
    fs::write(dir.path().join(name(5)), b"damaged").unwrap();
    let open = || Journal::open(dir.path().into(), 1_000).unwrap();
    let (journal, new) = open();
    let damaged = journal.damaged();
    assert_eq!((new.len(), damaged.len()), (1, 1));
    drop(journal);
    let (journal, new) = open();
    assert_eq!((new.len(), journal.damaged()), (0, damaged));
    assert_eq!(journal.read_damaged(&name(5)).unwrap(), "damaged");
    journal.remove_damaged(&name(5)).unwrap();
    assert!(journal.damaged().is_empty() && open().0.damaged().is_empty());
}

#[test]
fn a_damaged_file_removed_by_hand_is_no_longer_reported() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name(5)), b"damaged").unwrap();
    let (journal, new) = Journal::open(dir.path().into(), 1_000).unwrap();
    fs::remove_file(&new[0]).unwrap();
    assert!(journal.damaged().is_empty());
}

#[test]
fn a_damaged_file_never_replaces_one_of_the_same_name() {
    let dir = tempfile::tempdir().unwrap();
    for content in ["first", "second"] {
        fs::write(dir.path().join(name(5)), content).unwrap();
        Journal::open(dir.path().into(), 1_000).unwrap();
    }
    let (journal, _) = Journal::open(dir.path().into(), 1_000).unwrap();
    let damaged = journal.damaged().into_iter();
    let contents = damaged.map(|damaged| journal.read_damaged(&damaged.name).unwrap());
    assert_eq!(contents.collect::<Vec<_>>(), ["first", "second"]);
}

#[test]
fn a_damaged_file_that_cannot_move_is_reported_in_place() {
    let dir = tempfile::tempdir().unwrap();
    journal_of_two(dir.path());
    fs::write(dir.path().join(name(5)), b"damaged").unwrap();
    fs::write(dir.path().join(opening::DAMAGED), b"a file is in the way").unwrap();
    let (journal, damaged) = Journal::open(dir.path().into(), 1_000).unwrap();
    assert!(damaged.contains(&journal.path(5)) && journal.path(5).exists());
    let mut told = journal.damaged().into_iter();
    assert!(told.any(|damaged| damaged.file == journal.path(5)));
    assert_eq!(journal.pending().len(), 1);
}

#[test]
fn a_closed_journal_refuses_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::closed(dir.path().join("none"), "no room".into());
    let stamp = Stamp::new(5, b"x", Format::Hcl);
    let error = journal.begin(&id(), &stamp, b"x").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(error.to_string(), "no room");
    assert_eq!(journal.unread()[0].reason, "no room");
    assert!(!journal.is_to_be_read_again());
}
