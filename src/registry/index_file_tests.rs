//! The rules of the index file, one test each.

use super::*;
use crate::model::{Format, MAX_AHEAD, PlanStatus, Section, Sha256};

fn stamp(when: u64) -> Stamp {
    Stamp {
        when,
        sha256: Sha256::of(&when.to_le_bytes()),
        size: when,
        format: Format::Hcl,
        base: Base::Content(Sha256::of(b"base")),
        author: "alice@build-7".parse().ok(),
        status: PlanStatus::Pending,
    }
}

fn notes() -> Vec<Note> {
    let repo = RepoName::parse("app").unwrap();
    let artifact = |item: &str, facts| {
        let item = Item::from_key(item).unwrap();
        let repo = repo.clone();
        Fact::Artifact(ArtifactId { repo, item }, Box::new(facts))
    };
    let shown = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
    [
        Fact::Repos(BTreeSet::new()),
        Fact::Repos(BTreeSet::from([
            repo.clone(),
            RepoName::parse("b").unwrap(),
        ])),
        Fact::Listed(Section::current(&repo), 1_700_000_000_000_000_001),
        artifact(
            "schema",
            Facts {
                current: Some(Shown::Stamped(stamp(7))),
                high_water: Some(stamp(7)),
                token: Some(Token("\"etag\"\n".into())),
                gone: false,
            },
        ),
        artifact(
            "plans/p1",
            Facts {
                current: Some(Shown::Stamped(stamp(7))),
                high_water: Some(stamp(9)),
                ..Facts::default()
            },
        ),
        artifact(
            "plans/p2",
            Facts {
                current: Some(Shown::Unread {
                    size: 3,
                    time: shown,
                }),
                ..Facts::default()
            },
        ),
        artifact(
            "plans/p3",
            Facts {
                gone: true,
                ..Facts::default()
            },
        ),
    ]
    .into_iter()
    .map(|fact| Note {
        registry: "mem://registry".into(),
        fact,
    })
    .collect()
}

fn text() -> Vec<u8> {
    notes().iter().map(to_line).collect::<String>().into_bytes()
}

#[test]
fn every_note_reads_back_as_it_was_written() {
    assert_eq!(parse(&text()), (notes(), true));
}

#[test]
fn a_truncated_index_file_is_whole_up_to_a_line() {
    let (text, notes) = (text(), notes());
    for end in 0..=text.len() {
        let lines = text[..end].iter().filter(|&&byte| byte == b'\n').count();
        assert_eq!(
            parse(&text[..end]),
            (notes[..lines].to_vec(), true),
            "{end}"
        );
    }
}

#[test]
fn a_flipped_bit_is_detected_and_spares_all_other_lines() {
    let (text, notes) = (text(), notes());
    for place in 0..text.len() {
        for bit in 0..8 {
            let mut text = text.clone();
            text[place] ^= 1 << bit;
            let (parsed, whole) = parse(&text);
            assert!(parsed.iter().all(|note| notes.contains(note)), "{place}");
            // Without its end, the last line counts as torn. A line that is split costs one note.
            assert!(!whole || place + 1 == text.len(), "{place}");
            assert!(parsed.len() + 2 >= notes.len(), "{place}");
        }
    }
}

#[test]
fn arbitrary_bytes_yield_no_notes_and_no_panic() {
    let mut seed = 7_u64;
    for length in 0..2_000 {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        assert_eq!(parse(&bytes).0, []);
    }
    for value in [
        json!(null),
        json!({"registry": "r"}),
        json!({"registry": "r", "repos": ["../x"]}),
        json!({"registry": "r", "repos": 1}),
        json!({"registry": "r", "repo": "a", "listed": "soon"}),
        json!({"registry": "r", "repo": "a", "artifact": "x/y/z"}),
        json!({"registry": "r", "repo": "a", "artifact": "schema", "floor": 1}),
        json!({"registry": "r", "repo": "a", "artifact": "schema", "current": "floor"}),
        json!({"registry": "r", "repo": "a", "artifact": "schema", "current": {"size": -1}}),
    ] {
        assert_eq!(
            parse(line(&value).as_bytes()),
            (Vec::new(), false),
            "{value}"
        );
    }
}

#[test]
fn a_stamp_far_ahead_is_not_recalled() {
    use std::time::UNIX_EPOCH;
    let ahead = stamp(MAX_AHEAD + 1);
    let facts = Facts {
        current: Some(Shown::Stamped(ahead)),
        high_water: Some(ahead),
        ..Facts::default()
    };
    assert_eq!(facts.clone().up_to(UNIX_EPOCH), Facts::default());
    let soon = UNIX_EPOCH + Duration::from_nanos(1);
    assert_eq!(facts.clone().up_to(soon), facts);
}

#[test]
fn written_and_appended_notes_are_recalled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalogue");
    let mut file = IndexFile::new(path.clone());
    assert_eq!(file.recall().unwrap().notes, []);
    assert!(file.is_due());
    let notes = notes();
    file.rewrite(notes[..2].to_vec()).unwrap();
    assert!(!file.is_due());
    file.append(notes[2..].to_vec()).unwrap();
    let recalled = IndexFile::new(path.clone()).recall().unwrap();
    assert_eq!((recalled.notes, recalled.damaged), (notes, None));
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_damaged_index_file_still_yields_its_undamaged_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalogue");
    let mut bytes = text();
    bytes[30] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let recalled = IndexFile::new(path.clone()).recall().unwrap();
    assert_eq!(recalled.notes, notes()[1..]);
    let aside = recalled.damaged.unwrap();
    assert_eq!(fs::read(aside).unwrap(), bytes);
    assert!(!path.exists());
}

#[test]
fn the_index_file_is_bounded_after_any_number_of_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalogue");
    let mut file = IndexFile::new(path.clone());
    let notes = notes();
    let mut longest = 0;
    for _ in 0..10_000 {
        match file.is_due() {
            true => file.rewrite(notes.clone()).unwrap(),
            false => file.append(notes.clone()).unwrap(),
        }
        longest = longest.max(file.length);
    }
    assert!(longest <= SLACK + 10_000, "{longest}");
    assert_eq!(fs::metadata(path).unwrap().len(), file.length);
}

#[test]
fn a_failed_write_keeps_the_old_index_until_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalogue");
    let mut file = IndexFile::new(path.clone());
    let notes = notes();
    file.rewrite(notes[..1].to_vec()).unwrap();
    let in_the_way = path.with_extension("tmp");
    fs::create_dir(&in_the_way).unwrap();
    assert!(file.rewrite(notes.clone()).is_err());
    assert!(file.is_due());
    assert_eq!(file.recall().unwrap().notes, notes[..1]);
    fs::remove_dir(in_the_way).unwrap();
    file.rewrite(notes.clone()).unwrap();
    assert_eq!(file.recall().unwrap().notes, notes);
}
