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
    assert!(journal.pending().is_empty());
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
    assert!(journal.decide(5, Some("too late")));
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
    assert!(journal.decide(5, Some("too late")));
    journal.mark(5).unwrap();
    keeps(&open(dir.path()), 5, b"x", "too late");
    journal.finish(5, file.as_deref()).unwrap();
    keeps(&journal, 5, b"x", "too late");
    let durable = journal.after_power_cut();
    assert!(parse(&durable[&name(5)]).unwrap().0.failed.is_some());
}

#[test]
fn a_kill_before_the_rename_keeps_a_pushs_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    for (when, deletes) in [(5, false), (6, true)] {
        admit(&journal, when, if deletes { b"" } else { b"x" }, deletes);
        journal.write(when).unwrap();
        let staging = journal.path(when).with_extension("tmp");
        fs::rename(journal.path(when), &staging).unwrap();
        let after = open(dir.path());
        assert_eq!(after.in_doubt().len(), usize::from(!deletes));
        assert!(!staging.exists());
        assert_eq!(after.path(when).exists(), !deletes);
        let _ = fs::remove_file(after.path(when));
    }
}

#[test]
fn a_failed_deletion_leaves_no_entry_behind() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    admit(&journal, 5, b"", true);
    assert!(journal.decide(5, Some("too late")));
    journal.abandon(&id(), 5);
    journal.write(5).unwrap();
    admit(&journal, 6, b"", true);
    let file = journal.write_file(6).unwrap();
    assert!(journal.decide(6, Some("too late")));
    journal.abandon(&id(), 6);
    assert!(open(dir.path()).select(|_| true).is_empty(), "after a kill");
    journal.finish(6, file.as_deref()).unwrap();
    assert!(journal.select(|_| true).is_empty() && journal.failed().is_empty());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_failed_push_whose_file_is_gone_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    journal.begin(&id(), &push(5, b"x"), b"x").unwrap();
    fs::remove_file(journal.path(5)).unwrap();
    assert!(journal.fail(5, "out").is_err());
    assert!(journal.select(|_| true).is_empty());
}

#[test]
fn an_entry_without_a_verdict_on_disk_is_in_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    admit(&journal, 5, b"x", false);
    admit(&journal, 6, b"", true);
    journal.write(5).unwrap();
    journal.write(6).unwrap();
    assert!(journal.failed().is_empty() && journal.in_doubt().is_empty());
    // The disk hangs: the verdicts are in memory alone.
    assert!(journal.decide(5, Some("out")) && journal.decide(6, Some("out")));
    let after = open(dir.path());
    assert!(after.pending().is_empty());
    assert_eq!(after.in_doubt().len(), 2);
    assert_eq!(after.failed().len(), 1, "its bytes can be read meanwhile");
    assert_eq!(after.content(5).unwrap(), "x");
    assert!(after.decide(5, None));
    after.mark(5).unwrap();
    assert!(after.decide(6, Some("out")));
    after.abandon(&id(), 6);
    let last = open(dir.path());
    assert_eq!(last.pending().len(), 1);
    assert!(last.in_doubt().is_empty() && last.failed().is_empty());
}

#[test]
fn a_failed_push_removed_during_its_write_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    admit(&journal, 5, b"x", false);
    let file = journal.write_file(5).unwrap();
    assert!(journal.decide(5, Some("too late")));
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
