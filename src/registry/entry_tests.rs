//! The rules for accepting a target's answer, one test each.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::model::Format;
use crate::store::Token;
use bytes::Bytes;

const REGISTRY: TargetId = TargetId(0);
const BACKUP: TargetId = TargetId(1);
const OTHER: TargetId = TargetId(2);
const V1: &[u8] = b"one";
const V2: &[u8] = b"two!";

fn stamp(when: u64, content: &[u8]) -> Stamp {
    Stamp::new(when, content, Format::Hcl)
}

fn token(name: &str) -> Option<Token> {
    Some(Token(name.into()))
}

fn meta(token_name: &str, stamp: Option<Stamp>, content: &[u8]) -> Meta {
    Meta {
        size: content.len() as u64,
        stamp,
        refused: None,
        token: token(token_name),
        modified: UNIX_EPOCH + Duration::from_secs(1_000),
    }
}

fn content(token_name: &str, stamp: Stamp, bytes: &'static [u8]) -> Content {
    Content {
        bytes: Bytes::from_static(bytes),
        stamp,
        stamped: true,
        refused: None,
        token: token(token_name),
        modified: UNIX_EPOCH + Duration::from_secs(1_000),
    }
}

/// An entry, and the number of its newest revision.
struct Story {
    record: Entry,
    revision: u64,
}

impl Story {
    fn new() -> Self {
        Self {
            record: Entry::default(),
            revision: 0,
        }
    }

    fn listed(&mut self, from: TargetId, meta: &Meta) {
        self.listed_at(from, meta, Instant::now());
    }

    fn listed_at(&mut self, from: TargetId, meta: &Meta, begun: Instant) {
        let revision = &mut self.revision;
        self.record
            .listed(from, from == REGISTRY, meta, begun, || next(revision));
    }

    fn read(&mut self, from: TargetId, content: &Content) -> Freshness {
        self.read_at(from, content, Instant::now())
    }

    fn read_at(&mut self, from: TargetId, content: &Content, begun: Instant) -> Freshness {
        let revision = &mut self.revision;
        self.record
            .read(from, from == REGISTRY, content, begun, || next(revision))
    }

    fn expectation(&self) -> Expectation {
        self.record.view(REGISTRY).expectation
    }

    fn pushed(&mut self, stamp: Stamp, got: &[(TargetId, &str)], missing: &[TargetId]) {
        let got: Vec<_> = got
            .iter()
            .map(|(target, name)| (*target, token(name)))
            .collect();
        let revision = &mut self.revision;
        self.record
            .pushed(stamp, &got, missing, Instant::now(), || next(revision));
    }

    fn current(&self) -> Option<Stamp> {
        self.record.current().and_then(|known| known.stamp())
    }

    fn number(&self) -> u64 {
        self.record.current().map_or(0, |known| known.revision)
    }
}

fn next(revision: &mut u64) -> u64 {
    *revision += 1;
    *revision
}

async fn later() {
    tokio::time::advance(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_listing_begun_before_a_push_does_not_undo_it() {
    let mut story = Story::new();
    let begun = Instant::now();
    later().await;
    story.pushed(stamp(2, V2), &[(REGISTRY, "b")], &[]);
    story.listed_at(REGISTRY, &meta("a", Some(stamp(1, V1)), V1), begun);
    story.record.unlisted(REGISTRY, true, begun);
    assert_eq!(story.current(), Some(stamp(2, V2)));
    assert_eq!(story.expectation(), Expectation::Token(Token("b".into())));
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_object_keeps_its_revision_and_stamp() {
    let mut story = Story::new();
    story.listed(REGISTRY, &meta("a", None, V1));
    let number = story.number();
    assert!(story.record.must_be_read(false));
    assert_eq!(
        story.read(REGISTRY, &content("a", stamp(1, V1), V1)),
        Freshness::Current
    );
    later().await;
    story.listed(REGISTRY, &meta("a", None, V1));
    assert_eq!(story.number(), number);
    assert_eq!(
        story.current(),
        Some(stamp(1, V1)),
        "its stamp is remembered"
    );
    assert!(!story.record.must_be_read(false));
}

#[tokio::test(start_paused = true)]
async fn a_shown_time_stays_the_same() {
    let mut story = Story::new();
    story.listed(REGISTRY, &meta("a", None, V1));
    let shown = story.record.show().unwrap().time;
    story.read(REGISTRY, &content("a", stamp(1, V1), V1));
    assert_eq!(story.record.show().unwrap().time, shown);
}

#[tokio::test(start_paused = true)]
async fn two_contents_within_one_second_show_different_times() {
    let mut story = Story::new();
    story.listed(REGISTRY, &meta("a", None, V1));
    let first = story.record.show().unwrap().time;
    later().await;
    story.listed(REGISTRY, &meta("b", None, V1));
    assert_ne!(story.record.show().unwrap().time, first);
}

#[tokio::test(start_paused = true)]
async fn the_mount_never_goes_behind_a_content_that_it_showed() {
    let mut story = Story::new();
    story.listed(REGISTRY, &meta("b", Some(stamp(2, V2)), V2));
    let old = content("x", stamp(1, V1), V1);
    assert_eq!(story.read(BACKUP, &old), Freshness::Behind);
    story.listed(BACKUP, &meta("x", Some(stamp(1, V1)), V1));
    assert_eq!(story.current(), Some(stamp(2, V2)));
    story.listed(REGISTRY, &meta("a", Some(stamp(1, V1)), V1));
    assert_eq!(
        story.current(),
        Some(stamp(2, V2)),
        "its old state is restored"
    );
    assert_eq!(story.expectation(), Expectation::Ask);
}

#[tokio::test(start_paused = true)]
async fn a_read_begun_before_an_own_change_is_behind_it() {
    let mut story = Story::new();
    story.listed(REGISTRY, &meta("a", Some(stamp(1, V1)), V1));
    let begun = Instant::now();
    later().await;
    story.pushed(stamp(2, V2), &[(REGISTRY, "b")], &[]);
    let late = content("a", stamp(1, V1), V1);
    assert_eq!(story.read_at(REGISTRY, &late, begun), Freshness::Behind);
    assert_eq!(story.expectation(), Expectation::Token(Token("b".into())));
    let begun = Instant::now();
    later().await;
    story.record.deleted(Instant::now());
    let late = content("b", stamp(2, V2), V2);
    assert_eq!(story.read_at(REGISTRY, &late, begun), Freshness::Behind);
    assert!(story.record.current().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_token_of_an_older_content_is_no_condition() {
    let mut story = Story::new();
    story.listed(REGISTRY, &meta("a", Some(stamp(1, V1)), V1));
    later().await;
    story.pushed(stamp(2, V2), &[(BACKUP, "x")], &[REGISTRY]);
    assert_eq!(story.expectation(), Expectation::Ask);
}

#[tokio::test(start_paused = true)]
async fn an_artifact_that_returns_after_a_deletion_may_be_older() {
    let mut story = Story::new();
    story.pushed(stamp(5, V2), &[(REGISTRY, "a")], &[]);
    later().await;
    story.record.unlisted(REGISTRY, true, Instant::now());
    later().await;
    story.listed(REGISTRY, &meta("b", Some(stamp(1, V1)), V1));
    assert_eq!(story.current(), Some(stamp(1, V1)));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_object_is_read_before_it_is_accepted() {
    let mut story = Story::new();
    story.pushed(stamp(2, V2), &[(BACKUP, "x")], &[REGISTRY]);
    later().await;
    story.listed(REGISTRY, &meta("old", None, V1));
    assert!(story.record.is_unidentified());
    assert_eq!(story.current(), Some(stamp(2, V2)));
    assert_eq!(story.expectation(), Expectation::Ask);
    assert_eq!(
        story.read(REGISTRY, &content("old", stamp(1, V1), V1)),
        Freshness::Behind
    );
    assert!(!story.record.is_unidentified());
    later().await;
    story.listed(REGISTRY, &meta("old", None, V1));
    assert!(
        !story.record.is_unidentified(),
        "it is known to be the old one"
    );
}

#[tokio::test(start_paused = true)]
async fn an_artifact_pending_for_the_registry_is_not_deleted() {
    let mut story = Story::new();
    story.pushed(stamp(1, V1), &[(BACKUP, "x")], &[REGISTRY]);
    later().await;
    story.record.unlisted(REGISTRY, true, Instant::now());
    assert!(story.record.current().is_some());
    assert!(!story.record.absent(REGISTRY, Instant::now()));
    assert_eq!(story.expectation(), Expectation::Ask);
}

#[tokio::test(start_paused = true)]
async fn a_target_with_the_newest_content_has_nothing_pending() {
    let mut story = Story::new();
    story.pushed(stamp(1, V1), &[(BACKUP, "x")], &[REGISTRY, OTHER]);
    later().await;
    story.listed(REGISTRY, &meta("a", Some(stamp(1, V1)), V1));
    assert_eq!(story.record.pending().len(), 1);
    story.read(OTHER, &content("y", stamp(1, V1), V1));
    assert!(story.record.pending().is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_backup_restores_an_artifact_deleted_from_the_registry() {
    let mut story = Story::new();
    story.listed(REGISTRY, &meta("a", Some(stamp(1, V1)), V1));
    later().await;
    story.record.unlisted(REGISTRY, true, Instant::now());
    story.listed(BACKUP, &meta("x", Some(stamp(1, V1)), V1));
    assert!(story.record.current().is_none());
    story.listed(REGISTRY, &meta("c", Some(stamp(3, V2)), V2));
    assert_eq!(
        story.current(),
        Some(stamp(3, V2)),
        "the registry itself does"
    );
}

#[tokio::test(start_paused = true)]
async fn content_put_into_the_registry_by_hand_is_the_newest() {
    let mut story = Story::new();
    let noon: u64 = 1_700_000_000_000_000_000;
    story.pushed(stamp(noon, V1), &[(REGISTRY, "a")], &[]);
    later().await;
    let by_hand = Content {
        stamped: false,
        refused: None,
        ..content("b", stamp(noon - 3_000_000_000, V2), V2)
    };
    assert_eq!(story.read(REGISTRY, &by_hand), Freshness::Current);
    let number = story.number();
    assert_eq!(story.read(REGISTRY, &by_hand), Freshness::Current);
    assert_eq!(story.number(), number, "it is the same one again");
    assert_eq!(
        story.read(BACKUP, &content("x", stamp(noon, V1), V1)),
        Freshness::Behind
    );
    assert_eq!(story.expectation(), Expectation::Token(Token("b".into())));
}

#[tokio::test(start_paused = true)]
async fn content_is_outdated_if_the_store_lists_another_of_a_later_second() {
    let mut story = Story::new();
    let read = |token, millis| Content {
        modified: UNIX_EPOCH + Duration::from_millis(millis),
        ..content(token, stamp(7, V1), V1)
    };
    assert!(!story.record.is_outdated(REGISTRY, &read("a", 0)));
    let listed = Meta {
        modified: UNIX_EPOCH + Duration::from_millis(9_900),
        ..meta("b", None, V2)
    };
    story.listed(REGISTRY, &listed);
    for (token, millis, is_outdated) in [
        ("a", 8_999, true),
        ("a", 9_000, false),
        ("a", 12_000, false),
        ("b", 0, false),
    ] {
        let read = read(token, millis);
        assert_eq!(story.record.is_outdated(REGISTRY, &read), is_outdated);
        assert!(!story.record.is_outdated(BACKUP, &read));
    }
}

#[tokio::test(start_paused = true)]
async fn content_put_by_hand_before_a_missed_push_is_older() {
    let mut story = Story::new();
    story.listed(BACKUP, &meta("x", Some(stamp(2_000, V1)), V1));
    later().await;
    let by_hand = Content {
        stamped: false,
        refused: None,
        ..content("b", stamp(1_000, V2), V2)
    };
    assert_eq!(story.read(REGISTRY, &by_hand), Freshness::Behind);
    assert_eq!(story.current(), Some(stamp(2_000, V1)));
}

#[tokio::test(start_paused = true)]
async fn bytes_read_before_a_replay_are_behind_it() {
    let mut story = Story::new();
    story.pushed(stamp(7, V2), &[(BACKUP, "b")], &[REGISTRY]);
    later().await;
    let begun = Instant::now();
    later().await;
    let replayed = stamp(7, V2);
    story
        .record
        .given(REGISTRY, &replayed, token("r"), Instant::now());
    let by_hand = Content {
        stamped: false,
        refused: None,
        ..content("a", stamp(3, V1), V1)
    };
    assert_eq!(story.read_at(REGISTRY, &by_hand, begun), Freshness::Behind);
    assert_eq!(story.current(), Some(replayed));
    // In a read that began later, the same object is newer: it was put there after the replay.
    later().await;
    assert_eq!(story.read(REGISTRY, &by_hand), Freshness::Current);
}

#[tokio::test(start_paused = true)]
async fn content_put_into_a_backup_keeps_the_stores_time() {
    let mut story = Story::new();
    story.pushed(stamp(2_000, V1), &[(REGISTRY, "a")], &[BACKUP]);
    later().await;
    let by_hand = Content {
        stamped: false,
        refused: None,
        ..content("b", stamp(1_000, V2), V2)
    };
    assert_eq!(story.read(BACKUP, &by_hand), Freshness::Behind);
}

#[tokio::test(start_paused = true)]
async fn a_listing_begun_before_a_replay_deletes_nothing() {
    let mut story = Story::new();
    story.pushed(stamp(1, V1), &[(BACKUP, "a")], &[REGISTRY]);
    later().await;
    let begun = Instant::now();
    later().await;
    let now = Instant::now();
    story.record.given(REGISTRY, &stamp(1, V1), token("b"), now);
    story.record.unlisted(REGISTRY, true, begun);
    assert_eq!(story.current(), Some(stamp(1, V1)));
    later().await;
    story.record.unlisted(REGISTRY, true, Instant::now());
    assert_eq!(story.current(), None);
}

#[test]
fn all_targets_of_an_entry_share_one_stamp() {
    let mut story = Story::new();
    let stamp = stamp(1, V1);
    for target in [REGISTRY, BACKUP, OTHER] {
        story.listed(target, &meta("e1", Some(stamp), V1));
    }
    story.listed(REGISTRY, &meta("e2", Some(stamp), V1));
    let record = &story.record;
    let current = record.current().unwrap();
    let seen = record.seen.iter().map(|seen| &seen.stamp);
    for kept in seen.chain([&record.high_water]) {
        assert!(kept.is(&current.stamp), "{record:?}");
    }
}

/// A mount of a hundred thousand artifacts keeps an entry for each. Their inodes have a test of
/// their own.
#[test]
fn a_listed_artifact_takes_a_bounded_amount_of_memory() {
    assert!(size_of::<Entry>() <= 120, "{}", size_of::<Entry>());
    assert!(size_of::<Revision>() <= 56, "{}", size_of::<Revision>());
    let sighting = size_of::<(TargetId, ObservedState)>();
    assert!(sighting <= 72, "{sighting}");
    let mut story = Story::new();
    story.listed(REGISTRY, &meta("e1", None, V1));
    assert!(story.record.own.is_none());
}
