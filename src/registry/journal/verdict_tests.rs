//! A failed push is never made, even if the disk or the process fails.

use std::fs;
use std::path::Path;

use bytes::Bytes;

use super::record::{Record, head};
use super::*;
use crate::model::{Format, Item, RepoName};

fn id() -> ArtifactId {
    ArtifactId {
        repo: RepoName::parse("app").unwrap(),
        item: Item::Schema,
    }
}

fn push(when: u64, content: &[u8]) -> Stamp {
    Stamp::new(when, content, Format::Hcl)
}

fn open(dir: &Path) -> Journal {
    let (journal, damaged) = Journal::open(dir.into(), 1_000_000).unwrap();
    assert!(damaged.is_empty(), "{damaged:?}");
    journal
}

fn admit(journal: &Journal, when: u64, content: &'static [u8], deletes: bool) {
    let record = Record::new(&id(), &push(when, content), deletes);
    journal.admit(record, Bytes::from_static(content)).unwrap();
}

/// Asserts that a push has failed and that its bytes are kept.
fn keeps(journal: &Journal, when: u64, content: &[u8], reason: &str) {
    assert!(journal.pending().is_empty() && !journal.owes(when));
    let failed = journal.failed();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].failed.as_deref(), Some(reason));
    assert_eq!(journal.content(when).unwrap(), content);
}

#[test]
fn marking_a_failure_takes_no_disk_space() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    journal.begin(&id(), &push(5, b"x"), b"x").unwrap();
    let before = fs::metadata(journal.path(5)).unwrap().len();
    let reason = "\u{1}é".repeat(1_000);
    journal.fail(5, &reason).unwrap();
    assert_eq!(fs::metadata(journal.path(5)).unwrap().len(), before);
    let failed = open(dir.path()).failed().remove(0).failed.unwrap();
    let start = failed.strip_suffix('…').unwrap();
    assert!(start.len() > 100 && reason.starts_with(start), "{failed}");
}

#[test]
fn a_push_that_fails_before_its_write_is_written_failed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    admit(&journal, 5, b"x", false);
    assert!(journal.decide(5, "too late"));
    journal.mark(5).unwrap();
    keeps(&journal, 5, b"x", "too late");
    assert!(!journal.path(5).exists(), "the disk has not taken it yet");
    journal.write(5).unwrap();
    keeps(&journal, 5, b"x", "too late");
    keeps(&open(dir.path()), 5, b"x", "too late");
}

#[test]
fn a_failure_after_the_rename_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    admit(&journal, 5, b"x", false);
    // The directory's sync hangs, and the journal doesn't have the entry yet.
    let file = journal.write_file(5).unwrap();
    assert!(journal.pending().is_empty());
    assert!(journal.decide(5, "too late"));
    journal.mark(5).unwrap();
    keeps(&open(dir.path()), 5, b"x", "too late");
    journal.finish(5, file.as_deref()).unwrap();
    keeps(&journal, 5, b"x", "too late");
    let durable = journal.after_power_cut();
    assert!(parse(&durable[&name(5)]).unwrap().0.failed.is_some());
}

#[test]
fn a_kill_before_the_rename_keeps_a_failed_pushs_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let staging = journal.path(5).with_extension("tmp");
    for (reason, kept) in [(Some("too late"), true), (None, false)] {
        journal.begin(&id(), &push(5, b"x"), b"x").unwrap();
        if let Some(reason) = reason {
            journal.fail(5, reason).unwrap();
        }
        fs::rename(journal.path(5), &staging).unwrap();
        let after = open(dir.path());
        assert_eq!(after.failed().len(), usize::from(kept));
        assert!(after.pending().is_empty() && !staging.exists());
        assert_eq!(after.path(5).exists(), kept);
    }
}

#[test]
fn a_failed_deletion_leaves_no_entry_behind() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    admit(&journal, 5, b"", true);
    assert!(journal.decide(5, "too late"));
    journal.abandon(&id(), 5);
    journal.write(5).unwrap();
    admit(&journal, 6, b"", true);
    let file = journal.write_file(6).unwrap();
    assert!(journal.decide(6, "too late"));
    journal.abandon(&id(), 6);
    assert!(open(dir.path()).select(|_| true).is_empty(), "after a kill");
    journal.finish(6, file.as_deref()).unwrap();
    assert!(journal.select(|_| true).is_empty() && journal.failed().is_empty());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_push_that_cannot_be_marked_is_removed_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    journal.begin(&id(), &push(5, b"x"), b"x").unwrap();
    fs::remove_file(journal.path(5)).unwrap();
    assert!(journal.fail(5, "out").is_err());
    assert!(journal.select(|_| true).is_empty());
    journal.begin(&id(), &push(6, b"x"), b"x").unwrap();
    fs::remove_file(journal.path(6)).unwrap();
    fs::create_dir(journal.path(6)).unwrap();
    let error = journal.fail(6, "out").unwrap_err().to_string();
    let file = journal.path(6).display().to_string();
    assert!(error.contains(&file) && error.contains("remove it before the next mount"));
    assert!(!journal.owes(6), "this mount never makes it");
}

#[test]
fn a_failed_push_removed_during_its_write_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    admit(&journal, 5, b"x", false);
    let file = journal.write_file(5).unwrap();
    assert!(journal.decide(5, "too late"));
    journal.remove(5).unwrap();
    journal.finish(5, file.as_deref()).unwrap();
    assert!(journal.failed().is_empty());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_same_push_is_not_written_twice_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    admit(&journal, 5, b"x", false);
    let again = Record::new(&id(), &push(5, b"x"), false);
    let error = journal.admit(again, Bytes::from_static(b"x")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    assert_eq!(journal.bytes(), 1);
}

#[test]
fn entries_of_earlier_versions_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = |when| dir.path().join(name(when));
    for (when, last) in [(5, json!({"got": "s3://b"})), (6, json!({"failed": "out"}))] {
        let record = Record::new(&id(), &push(when, b"a\nb"), false);
        let text = format!("{}a\nb\n{}", line(&head(&record)), line(&last));
        fs::write(path(when), text).unwrap();
    }
    let journal = open(dir.path());
    assert!(journal.pending()[0].got.contains("s3://b"));
    assert_eq!(journal.failed()[0].failed.as_deref(), Some("out"));
    for when in [5, 6] {
        assert_eq!(journal.content(when).unwrap(), "a\nb");
    }
}
