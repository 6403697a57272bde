//! The rules of reconcile, one test each.

use super::*;
use crate::model::Format;

const REGISTRY: TargetId = TargetId(0);
const SECOND: u64 = 1_000_000_000;

fn stamp(when: u64, content: &[u8]) -> Stamp {
    Stamp::new(when, content, Format::Hcl)
}

fn content(target: usize, stamp: Stamp, stamped: bool) -> Holding {
    Holding {
        target: TargetId(target),
        held: HeldContent::Content {
            stamp,
            stamped,
            token: None,
        },
    }
}

fn pushed(target: usize, when: u64) -> Holding {
    content(target, stamp(when, &when.to_le_bytes()), true)
}

fn nothing(target: usize) -> Holding {
    Holding {
        target: TargetId(target),
        held: HeldContent::Nothing,
    }
}

fn corrupt(target: usize) -> Holding {
    Holding {
        target: TargetId(target),
        held: HeldContent::Corrupt(None),
    }
}

/// A repair: the newest stamp's time, the sources, and the lacking targets with their problems.
type Given = (u64, Vec<usize>, Vec<(usize, Problem)>);

fn given(finding: &Finding) -> Option<Given> {
    let Finding::Lacking {
        newest, from, to, ..
    } = finding
    else {
        return None;
    };
    Some((
        newest.when,
        from.iter().map(|from| from.0).collect(),
        to.iter()
            .map(|(holding, problem)| (holding.target.0, *problem))
            .collect(),
    ))
}

#[test]
fn targets_with_equal_contents_are_left_alone() {
    let holdings = [pushed(0, 5), pushed(1, 5)];
    let agreed = Finding::Agreed { deleted: false };
    assert_eq!(diff(REGISTRY, &holdings, None), agreed);
    assert_eq!(diff(REGISTRY, &[nothing(0), nothing(1)], None), agreed);
}

#[test]
fn the_newest_stamp_wins_wherever_it_lies() {
    let finding = diff(REGISTRY, &[pushed(0, 5), pushed(1, 7), nothing(2)], None);
    let expected = (
        7,
        vec![1],
        vec![(0, Problem::Behind), (2, Problem::Missing)],
    );
    assert_eq!(given(&finding), Some(expected));
    let finding = diff(REGISTRY, &[nothing(0), pushed(1, 7)], None);
    let expected = (7, vec![1], vec![(0, Problem::Missing)]);
    assert_eq!(
        given(&finding),
        Some(expected),
        "a push whose machine is gone"
    );
}

#[test]
fn corrupt_bytes_are_replaced_by_undamaged_ones() {
    let finding = diff(REGISTRY, &[corrupt(0), pushed(1, 7)], None);
    let expected = (7, vec![1], vec![(0, Problem::Corrupt)]);
    assert_eq!(given(&finding), Some(expected));
    let finding = diff(REGISTRY, &[corrupt(0), nothing(1)], None);
    assert!(matches!(finding, Finding::Lost(to) if to.len() == 2));
}

#[test]
fn an_artifact_older_than_its_tombstone_is_deleted_everywhere() {
    let finding = diff(REGISTRY, &[nothing(0), pushed(1, 5)], Some(6));
    assert_eq!(finding, Finding::Undeleted(vec![TargetId(1)]));
    let agreed = Finding::Agreed { deleted: true };
    let finding = diff(REGISTRY, &[nothing(0), nothing(1)], Some(6));
    assert_eq!(finding, agreed);
}

#[test]
fn a_push_after_a_deletion_keeps_the_artifact_alive() {
    let finding = diff(REGISTRY, &[nothing(0), pushed(1, 7)], Some(6));
    assert_eq!(given(&finding).unwrap().0, 7);
}

#[test]
fn the_registrys_artifact_is_alive_despite_a_newer_tombstone() {
    let finding = diff(REGISTRY, &[pushed(0, 5), nothing(1)], Some(6));
    assert_eq!(given(&finding).unwrap().2, [(1, Problem::Missing)]);
}

#[test]
fn no_deletion_is_decided_while_the_registry_is_out() {
    let finding = diff(REGISTRY, &[pushed(1, 5), nothing(2)], Some(6));
    assert_eq!(finding, Finding::Unsure);
    let finding = diff(REGISTRY, &[pushed(1, 5), nothing(2)], None);
    assert_eq!(given(&finding).unwrap().2, [(2, Problem::Missing)]);
}

#[test]
fn content_put_by_hand_gets_a_newer_stamp() {
    // The store's time is truncated to the second, and the earlier push fell within that second.
    let by_hand = content(0, stamp(5 * SECOND, b"by hand"), false);
    let finding = diff(REGISTRY, &[by_hand, pushed(1, 5 * SECOND + 7)], None);
    let expected = (5 * SECOND + 8, vec![0], vec![(1, Problem::Behind)]);
    assert_eq!(given(&finding), Some(expected));
}

#[test]
fn content_put_by_hand_before_a_push_is_behind_it() {
    let by_hand = content(0, stamp(3 * SECOND, b"by hand"), false);
    let finding = diff(REGISTRY, &[by_hand, pushed(1, 5 * SECOND)], None);
    let expected = (5 * SECOND, vec![1], vec![(0, Problem::Behind)]);
    assert_eq!(given(&finding), Some(expected));
}

#[test]
fn equal_bytes_agree_without_equal_stamps() {
    let by_hand = content(0, stamp(3 * SECOND, b"same"), false);
    let with_stamp = content(1, stamp(4 * SECOND + 1, b"same"), true);
    let agreed = Finding::Agreed { deleted: false };
    assert_eq!(diff(REGISTRY, &[by_hand, with_stamp], None), agreed);
}

#[test]
fn an_old_copy_restored_into_a_backup_does_not_win() {
    let restored = content(1, stamp(90 * SECOND, b"old"), false);
    let finding = diff(REGISTRY, &[pushed(0, 5), restored.clone()], None);
    let expected = (5, vec![0], vec![(1, Problem::Behind)]);
    assert_eq!(given(&finding), Some(expected));
    let finding = diff(REGISTRY, &[nothing(0), restored], None);
    let to = given(&finding).unwrap().2;
    assert_eq!(to, [(0, Problem::Missing)], "but it is better than nothing");
}
