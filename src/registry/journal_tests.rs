//! The journal, before and after crashes.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::model::{Format, Item, Lineage, PlanName, PlanStatus, RepoName, when_to_text};

fn id() -> ArtifactId {
    ArtifactId {
        repo: RepoName::parse("app").unwrap(),
        item: Item::Plan(PlanName::parse("p1").unwrap()),
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

#[test]
fn an_entry_survives_a_restart_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let stamp = Stamp {
        author: "Zoë\u{a0}<z@x>".parse().ok(),
        status: PlanStatus::Pending,
        ..push(5, b"a\nb")
    };
    journal.begin(&id(), &stamp, b"a\nb").unwrap();
    journal.got(5, "s3://bucket");
    journal.begin(&id(), &push(6, b""), b"").unwrap();
    journal.begin(&id(), &push(7, b""), b"").unwrap();
    journal.fail(7, "every target is out").unwrap();
    let before = journal.select(|_| true);
    drop(journal);
    let journal = open(dir.path());
    assert_eq!(journal.select(|_| true), before);
    assert!(stamp.author.is_some());
    assert_eq!(journal.find(5).unwrap().stamp.author, stamp.author);
    assert_eq!(journal.find(6).unwrap().stamp.author, None);
    assert_eq!(journal.content(5).unwrap(), "a\nb");
    assert_eq!(journal.pending().len(), 2);
    assert_eq!(journal.failed().len(), 1);
    assert!(journal.pending()[0].got.contains("s3://bucket"));
}

#[test]
fn a_deletion_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    journal.begin_deletion(&id(), &push(5, b"")).unwrap();
    journal.got(5, "s3://bucket");
    drop(journal);
    let pending = open(dir.path()).pending();
    assert!(pending[0].deletes && pending[0].got.contains("s3://bucket"));
}

#[test]
fn a_failed_deletion_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    journal.begin_deletion(&id(), &push(5, b"")).unwrap();
    journal.abandon(&id(), 5);
    assert!(!journal.path(5).exists());
    // A power cut undoes the unsynced removal, but not the synced mark before it.
    assert!(journal.after_power_cut().contains_key(&name(5)));
    journal.begin_deletion(&id(), &push(6, b"")).unwrap();
    journal.fail(6, "it was cancelled").unwrap();
    drop(journal);
    let journal = open(dir.path());
    assert!(journal.select(|_| true).is_empty() && !journal.path(6).exists());
}

#[test]
fn a_truncated_entry_is_damaged_or_loses_only_lines() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    journal
        .begin(&id(), &push(5, b"content"), b"content")
        .unwrap();
    let whole = fs::read(journal.path(5)).unwrap();
    journal.got(5, "a");
    journal.fail(5, "b").unwrap();
    let bytes = fs::read(journal.path(5)).unwrap();
    for end in 0..=bytes.len() {
        match parse(&bytes[..end]) {
            None => assert!(end < whole.len()),
            Some((record, content)) => {
                assert!(end >= whole.len());
                assert_eq!(content, b"content");
                assert_eq!(record.failed.as_deref(), Some("b"));
                assert_eq!(record.got.len(), usize::from(end == bytes.len()));
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_detected_and_its_entry_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    journal
        .begin(&id(), &push(5, b"content"), b"content")
        .unwrap();
    journal.begin(&id(), &push(6, b"other"), b"other").unwrap();
    let bytes = fs::read(journal.path(5)).unwrap();
    for at in 0..bytes.len() - 1 {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert!(parse(&flipped).is_none(), "at {at}");
    }
    let mut flipped = bytes;
    flipped[40] ^= 1;
    fs::write(journal.path(5), flipped).unwrap();
    assert!(journal.content(5).is_err());
    let (journal, damaged) = Journal::open(dir.path().into(), 1_000).unwrap();
    assert_eq!(damaged.len(), 1);
    assert!(damaged[0].parent().unwrap().ends_with(opening::DAMAGED) && damaged[0].exists());
    assert_eq!(journal.pending().len(), 1);
}

#[test]
fn arbitrary_bytes_yield_no_entry_and_no_panic() {
    let mut seed: u64 = 7;
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..seed % 200)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            })
            .collect();
        assert!(parse(&bytes).is_none());
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    }
    let liar = json!({"repo":"app","artifact":"schema","time":when_to_text(1),"size":u64::MAX});
    assert!(parse(line(&liar).as_bytes()).is_none());
}

#[test]
fn an_unfinished_entry_is_removed_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    fs::write(journal.path(9).with_extension("tmp"), b"half").unwrap();
    drop(journal);
    open(dir.path());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_full_journal_refuses_an_entry_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path().into(), 10).unwrap();
    journal
        .begin(&id(), &push(1, b"123456"), b"123456")
        .unwrap();
    let error = journal
        .begin(&id(), &push(2, b"12345"), b"12345")
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(journal.bytes(), 6);
    journal.remove(1).unwrap();
    journal.begin(&id(), &push(2, b"12345"), b"12345").unwrap();
    assert_eq!(
        journal.remove(1).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

#[test]
fn a_success_removes_older_pushes_and_failures_of_equal_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    journal.begin(&id(), &push(1, b"old"), b"old").unwrap();
    journal.begin(&id(), &push(2, b"new"), b"new").unwrap();
    journal.fail(2, "out").unwrap();
    journal.begin(&id(), &push(3, b"other"), b"other").unwrap();
    journal.fail(3, "out").unwrap();
    journal.begin(&id(), &push(4, b"new"), b"new").unwrap();
    let lost = journal.supersede(&id(), &push(4, b"new"), None, |store| {
        store == "mem://registry"
    });
    assert_eq!(lost, []);
    let left: Vec<u64> = journal
        .select(|_| true)
        .iter()
        .map(|record| record.stamp.when)
        .collect();
    assert_eq!(left, [3, 4]);
}

#[test]
fn the_path_names_artifact_and_time() {
    let record = Record::new(&id(), &push(1_725_989_864_000_000_001, b""), false);
    assert_eq!(record.path(), "app/plans/p1@20240910T173744.000000001Z");
}

#[test]
fn what_a_later_push_has_replaced_ends_even_if_a_power_cut_undid_that() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let old = push(1, b"old");
    journal.begin(&id(), &old, b"old").unwrap();
    journal.begin(&id(), &push(2, b"other"), b"other").unwrap();
    let record = Record {
        replaces: Some(Lineage::new(&old, true, &[])),
        ..Record::new(&id(), &push(3, b"new"), false)
    };
    journal.admit(record, Bytes::from_static(b"new")).unwrap();
    journal.write(3).unwrap();
    assert!(journal.decide(3, None));
    journal.mark(3).unwrap();
    drop(journal);
    let pending = open(dir.path()).pending().into_iter();
    assert!(pending.map(|record| record.stamp.when).eq([2, 3]));
}
