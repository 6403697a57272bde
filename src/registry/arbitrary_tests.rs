//! State directories of arbitrary bytes: the journal, the index file and the disk cache. None of
//! these bytes stop a start, and only undamaged ones are accepted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::disk_files::DiskFiles;
use super::index_file::IndexFile;
use super::journal::{Journal, Record};
use crate::arbitrary::{bytes, config};
use crate::model::{ArtifactId, Format, Item, PlanName, RepoName, Sha256, Stamp};

const WHEN: u64 = 1_700_000_000_000_000_001;
const CONTENT: &[u8] = b"plan\n";

fn id() -> ArtifactId {
    ArtifactId {
        repo: RepoName::parse("app").unwrap(),
        item: Item::Plan(PlanName::parse("p1").unwrap()),
    }
}

fn file_of(dir: &Path, when: u64) -> PathBuf {
    dir.join(format!("{when:020}"))
}

fn open(dir: &Path) -> (Journal, Vec<PathBuf>) {
    Journal::open(dir.into(), 1 << 30).unwrap()
}

/// Returns the bytes of an entry's file with appended lines, and the entry.
fn real_record() -> (Vec<u8>, Record) {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let stamp = Stamp::new(WHEN, CONTENT, Format::Hcl);
    journal.begin(&id(), &stamp, CONTENT).unwrap();
    journal.got(WHEN, "file:///a");
    journal.got(WHEN, "s3://b");
    journal.fail(WHEN, "too few").unwrap();
    let record = journal.failed().remove(0);
    (fs::read(file_of(dir.path(), WHEN)).unwrap(), record)
}

/// Asserts that each entry can be read whole, and that the first opening deals with all damage.
fn is_sane(dir: &Path) -> Result<Vec<Record>, TestCaseError> {
    let (journal, damaged) = open(dir);
    for aside in &damaged {
        prop_assert!(aside.exists(), "{:?} is not set aside", aside);
    }
    let records = journal.select(|_| true);
    for record in &records {
        let content = journal.content(record.stamp.when);
        prop_assert!(record.stamp.matches(&content.unwrap()));
    }
    drop(journal);
    let (journal, damaged) = open(dir);
    prop_assert_eq!(damaged, Vec::<PathBuf>::new());
    prop_assert_eq!(journal.select(|_| true), records.clone());
    for record in &records {
        journal.remove(record.stamp.when).unwrap();
    }
    prop_assert_eq!(open(dir).0.select(|_| true), vec![]);
    Ok(records)
}

fn file_name() -> impl Strategy<Value = String> {
    let real = format!("{WHEN:020}");
    prop_oneof![
        4 => Just(real.clone()),
        1 => Just(format!("{real}.tmp")),
        1 => any::<u64>().prop_map(|when| format!("{when:020}")),
        2 => "[a-z0-9. ~-]{1,30}".prop_filter("a name", |name| name != "." && name != ".."),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_journal_of_arbitrary_files_opens_with_its_undamaged_entries(
        files in proptest::collection::btree_map(file_name(), bytes(vec![real_record().0]), 0..5),
        folder in proptest::option::of(file_name()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        if let Some(folder) = folder {
            fs::create_dir_all(dir.path().join(folder).join("x")).unwrap();
        }
        for (name, bytes) in &files {
            // The write fails if the folder has the same name.
            let _ = fs::write(dir.path().join(name), bytes);
        }
        let records = is_sane(dir.path())?;
        prop_assert!(records.iter().all(|record| record.id == id()));
    }

    #[test]
    fn an_index_file_of_arbitrary_bytes_never_stops_a_start(content in bytes(catalogues())) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue");
        fs::write(&path, &content).unwrap();
        let recalled = IndexFile::new(path.clone()).recall().unwrap();
        prop_assert_eq!(recalled.damaged.is_some(), !path.exists());
        // Accepted notes survive a rewrite unchanged.
        let mut file = IndexFile::new(path.clone());
        file.rewrite(recalled.notes.clone()).unwrap();
        let again = file.recall().unwrap();
        prop_assert_eq!(again.notes, recalled.notes);
        prop_assert_eq!(again.damaged, None);
    }

    #[test]
    fn the_disk_cache_returns_the_inserted_bytes_or_nothing(
        content in bytes(vec![CONTENT.to_vec()]),
        files in proptest::collection::btree_map(cache_name(), bytes(vec![CONTENT.to_vec()]), 0..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in &files {
            let path = dir.path().join("sha256").join(name);
            // One name may be both a file and a folder; then these calls fail.
            let _ = fs::create_dir_all(path.parent().unwrap());
            let _ = fs::write(path, bytes);
        }
        let cache = DiskFiles::new(dir.path(), 1 << 20);
        cache.open();
        let hash = Sha256::of(CONTENT);
        if let Some(found) = cache.get(&hash) {
            prop_assert_eq!(found, CONTENT);
        }
        let hash = Sha256::of(&content);
        cache.insert(hash, &content);
        prop_assert!(cache.get(&hash).is_none_or(|found| found == content));
    }
}

fn catalogues() -> Vec<Vec<u8>> {
    let line = |text: &str| super::journal::line(&serde_json::from_str(text).unwrap());
    let stamp = format!(
        r#"{{"time":"2024-09-10T17:37:44.000000001Z","size":5,"sha256":"{}","format":"hcl"}}"#,
        Sha256::of(CONTENT)
    );
    let lines = [
        line(r#"{"registry":"file:///r","repos":["app","b"]}"#),
        line(r#"{"registry":"file:///r","repo":"app","listed":"2024-09-10T17:37:44.000000001Z"}"#),
        line(&format!(
            r#"{{"registry":"file:///r","repo":"app","artifact":"schema","current":"high_water","high_water":{stamp},"token":"t"}}"#
        )),
        line(
            r#"{"registry":"file:///r","repo":"app","artifact":"plans/p","current":{"size":3,"shown":"2024-09-10T17:37:44.000000001Z"}}"#,
        ),
    ];
    // Only a bug could write these lines: their checksums are right, and their texts are wrong.
    let bugs = [
        r#"{"registry":"file:///r","repo":"app","artifact":"schema","current":"high_water"}"#,
        r#"{"registry":"","repos":[1]}"#,
        r#"[]"#,
        r#"{"registry":"r","repo":"app","artifact":"plans/p","current":{"size":18446744073709551615,"shown":"2554-07-21T23:34:33.709551615Z"}}"#,
    ];
    let mut all: Vec<Vec<u8>> = bugs.iter().map(|text| line(text).into_bytes()).collect();
    all.push(lines.concat().into_bytes());
    all
}

fn cache_name() -> impl Strategy<Value = String> {
    let hash = Sha256::of(CONTENT).to_string();
    let place = format!("{}/{hash}", &hash[..2]);
    prop_oneof![
        3 => Just(place),
        1 => Just(hash),
        1 => "tmp-[a-z]{3}",
        1 => "[0-9a-f]{2}/[0-9a-f]{4}",
        1 => "[0-9a-f]{2}",
    ]
}

#[test]
fn a_truncated_entry_is_set_aside_or_loses_only_lines() {
    let (bytes, whole) = real_record();
    let mut ends = BTreeMap::new();
    for end in 0..=bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(file_of(dir.path(), WHEN), &bytes[..end]).unwrap();
        let said = match is_sane(dir.path()).unwrap().pop() {
            None => "damaged",
            Some(record) => {
                assert_eq!((&record.id, &record.stamp), (&whole.id, &whole.stamp));
                assert!(record.got.is_subset(&whole.got));
                assert_eq!(record.failed, whole.failed);
                assert_eq!(record.got == whole.got, end == bytes.len());
                "whole"
            }
        };
        *ends.entry(said).or_insert(0) += 1;
    }
    assert!(ends["damaged"] > 100 && ends["whole"] > 50, "{ends:?}");
}

#[test]
fn a_flipped_bit_before_the_end_sets_an_entry_aside() {
    let (bytes, whole) = real_record();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let dir = tempfile::tempdir().unwrap();
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            fs::write(file_of(dir.path(), WHEN), &flipped).unwrap();
            let found = is_sane(dir.path()).unwrap().pop();
            if at + 1 < bytes.len() {
                assert_eq!(found, None, "bit {bit} of byte {at}");
            } else {
                // As if the last line had never been written.
                let mut whole = whole.clone();
                assert!(whole.got.remove("s3://b"));
                assert_eq!(found.unwrap(), whole);
            }
        }
    }
}

#[test]
fn a_line_appended_after_a_torn_one_is_read() {
    let (bytes, _) = real_record();
    let dir = tempfile::tempdir().unwrap();
    fs::write(file_of(dir.path(), WHEN), &bytes[..bytes.len() - 5]).unwrap();
    let (journal, _) = open(dir.path());
    journal.got(WHEN, "file:///c");
    drop(journal);
    let (journal, damaged) = open(dir.path());
    assert!(damaged.is_empty(), "{damaged:?}");
    assert!(journal.failed()[0].got.contains("file:///c"));
}

#[test]
fn an_entry_under_another_name_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("copy"), real_record().0).unwrap();
    let (journal, damaged) = open(dir.path());
    assert_eq!(journal.select(|_| true), []);
    assert_eq!(damaged.len(), 1);
}

#[test]
fn a_huge_file_takes_no_more_memory_than_its_entry() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, whole) = real_record();
    for content in [&bytes[..], b"no record at all"] {
        let file = file_of(dir.path(), WHEN);
        fs::write(&file, content).unwrap();
        // A terabyte, all of it a hole.
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        let (journal, damaged) = open(dir.path());
        let is_record = content.starts_with(&bytes);
        assert_eq!(damaged.is_empty(), is_record);
        assert_eq!(
            journal.failed(),
            if is_record {
                vec![whole.clone()]
            } else {
                vec![]
            }
        );
    }
}
