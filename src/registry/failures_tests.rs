//! The file of the failures that kept no bytes, on full disks and after damage.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::*;
use crate::model::{MAX_NAME_BYTES, PlanName};

fn schema(repo: &str) -> ArtifactId {
    ArtifactId {
        repo: RepoName::parse(repo).unwrap(),
        item: Item::Schema,
    }
}

fn failure(repo: &str, when: u64) -> LastFailure {
    LastFailure {
        id: schema(repo),
        when,
        reason: format!("can't push {repo}"),
    }
}

fn open(dir: &Path) -> Failures {
    let state = StateDir::open(dir, "a test").unwrap();
    Failures::open(&state, Room::default(), Arc::default())
}

fn fail(failures: &Failures, failure: LastFailure) {
    let place = failures.note(failure).unwrap();
    failures.write(place).unwrap();
}

#[test]
fn a_failure_fits_into_its_reserved_space() {
    let dir = tempfile::tempdir().unwrap();
    let failures = open(dir.path());
    let file = dir.path().join(FAILURES);
    File::open(&file).unwrap().sync_all().unwrap();
    let before = fs::metadata(&file).unwrap();
    assert!(
        before.blocks() * 512 >= FILE_SIZE as u64,
        "the file has holes"
    );
    for number in 0..SLOT_COUNT as u64 {
        fail(&failures, failure(&format!("r{number}"), number));
    }
    let after = fs::metadata(&file).unwrap();
    assert_eq!(after.len(), before.len());
    assert_eq!(after.blocks(), before.blocks());
    assert_eq!(open(dir.path()).all(), failures.all());
    assert_eq!(failures.all().len(), SLOT_COUNT);
}

#[test]
fn each_artifact_has_one_failure_and_the_oldest_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let failures = open(dir.path());
    for number in 0..SLOT_COUNT as u64 {
        fail(&failures, failure(&format!("r{number}"), 100 - number));
    }
    fail(&failures, failure("r5", 200));
    assert_eq!(failures.all().len(), SLOT_COUNT);
    fail(&failures, failure("new", 300));
    let held = open(dir.path()).all();
    assert_eq!(held.len(), SLOT_COUNT);
    assert!(held.contains(&failure("new", 300)) && held.contains(&failure("r5", 200)));
    let oldest = schema(&format!("r{}", SLOT_COUNT - 1));
    assert!(held.iter().all(|held| held.id != oldest));
}

#[test]
fn a_forgotten_failure_stays_forgotten_and_frees_its_slot() {
    let dir = tempfile::tempdir().unwrap();
    let failures = open(dir.path());
    fail(&failures, failure("a", 1));
    fail(&failures, failure("b", 2));
    let place = failures.forget(&schema("a")).unwrap();
    failures.write(place).unwrap();
    assert_eq!(failures.forget(&schema("a")), None);
    let failures = open(dir.path());
    assert_eq!(failures.all(), [failure("b", 2)]);
    assert_eq!(failures.note(failure("c", 3)), Some(place));
}

#[test]
fn a_damaged_failures_file_loses_only_its_damaged_slots() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FAILURES);
    let write = |bytes: &[u8]| fs::write(&file, bytes).unwrap();
    let failures = open(dir.path());
    let (a, b) = (failure("a", 1), failure("b", 2));
    fail(&failures, a.clone());
    fail(&failures, b.clone());
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[30] ^= 1;
    let mut longer = whole.clone();
    longer.extend([b'x'; 5_000]);
    for (bytes, left) in [
        (&whole[..], vec![a.clone(), b.clone()]),
        (&flipped, vec![b.clone()]),
        (&longer, vec![a.clone(), b]),
        (&whole[..SLOT_SIZE], vec![a.clone()]),
        (&whole[..SLOT_SIZE + 100], vec![a]),
        (&whole[..SLOT_SIZE - 1], vec![]),
        (b"", vec![]),
        (&[0xff; FILE_SIZE], vec![]),
    ] {
        write(bytes);
        let failures = open(dir.path());
        assert_eq!(failures.all(), left);
        assert_eq!(fs::metadata(&file).unwrap().len(), FILE_SIZE as u64);
        fail(&failures, failure("next", 9));
        assert!(open(dir.path()).all().contains(&failure("next", 9)));
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(open(dir.path()).all(), []);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn the_longest_names_leave_room_for_the_reason() {
    let longest = "a".repeat(MAX_NAME_BYTES);
    let mut long = failure(&longest, u64::MAX / 2);
    long.id.item = Item::Plan(PlanName::parse(&longest).unwrap());
    long.reason = "\u{1}é".repeat(1_000);
    let slot = long.to_slot().unwrap();
    assert_eq!(slot.len(), SLOT_SIZE);
    let parsed = LastFailure::parse(&slot).unwrap();
    assert_eq!((&parsed.id, parsed.when), (&long.id, long.when));
    let start = parsed.reason.strip_suffix('…').unwrap();
    assert!(
        start.len() > 50 && long.reason.starts_with(start),
        "{start}"
    );
}

#[test]
fn an_older_write_never_undoes_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let failures = open(dir.path());
    let noted = failures.note(failure("a", 1)).unwrap();
    let forgotten = failures.forget(&schema("a")).unwrap();
    failures.write(forgotten).unwrap();
    failures.write(noted).unwrap();
    assert_eq!(open(dir.path()).all(), []);
}
