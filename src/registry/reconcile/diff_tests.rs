//! The rules of repair, one by one.

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
        held: Held::Content {
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
        held: Held::Nothing,
    }
}

fn corrupt(target: usize) -> Holding {
    Holding {
        target: TargetId(target),
        held: Held::Corrupt(None),
    }
}

/// What is given: the newest stamp's time, from whom, to whom and why.
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
fn targets_that_hold_the_same_are_left_alone() {
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
fn bytes_that_are_not_their_stamps_are_replaced_by_whole_ones() {
    let finding = diff(REGISTRY, &[corrupt(0), pushed(1, 7)], None);
    let expected = (7, vec![1], vec![(0, Problem::Corrupt)]);
    assert_eq!(given(&finding), Some(expected));
    let finding = diff(REGISTRY, &[corrupt(0), nothing(1)], None);
    assert!(matches!(finding, Finding::Lost(to) if to.len() == 2));
}

#[test]
fn what_a_tombstone_is_newer_than_is_deleted_from_who_has_missed_it() {
    let finding = diff(REGISTRY, &[nothing(0), pushed(1, 5)], Some(6));
    assert_eq!(finding, Finding::Undeleted(vec![TargetId(1)]));
    let agreed = Finding::Agreed { deleted: true };
    let finding = diff(REGISTRY, &[nothing(0), nothing(1)], Some(6));
    assert_eq!(finding, agreed);
}

#[test]
fn what_was_pushed_after_a_deletion_is_alive() {
    let finding = diff(REGISTRY, &[nothing(0), pushed(1, 7)], Some(6));
    assert_eq!(given(&finding).unwrap().0, 7);
}

#[test]
fn what_the_registry_holds_is_alive_whatever_the_clocks_said() {
    let finding = diff(REGISTRY, &[pushed(0, 5), nothing(1)], Some(6));
    assert_eq!(given(&finding).unwrap().2, [(1, Problem::Missing)]);
}

#[test]
fn nothing_is_deleted_and_nothing_brought_back_while_the_registry_is_out() {
    let finding = diff(REGISTRY, &[pushed(1, 5), nothing(2)], Some(6));
    assert_eq!(finding, Finding::Unsure);
    let finding = diff(REGISTRY, &[pushed(1, 5), nothing(2)], None);
    assert_eq!(given(&finding).unwrap().2, [(2, Problem::Missing)]);
}

#[test]
fn what_was_put_there_by_hand_gets_a_stamp_that_is_newer_than_what_it_replaces() {
    // The store's time is cut to the second, and the push before it was in that second.
    let by_hand = content(0, stamp(5 * SECOND, b"by hand"), false);
    let finding = diff(REGISTRY, &[by_hand, pushed(1, 5 * SECOND + 7)], None);
    let expected = (5 * SECOND + 8, vec![0], vec![(1, Problem::Behind)]);
    assert_eq!(given(&finding), Some(expected));
}

#[test]
fn what_was_put_there_by_hand_before_a_push_is_behind_it() {
    let by_hand = content(0, stamp(3 * SECOND, b"by hand"), false);
    let finding = diff(REGISTRY, &[by_hand, pushed(1, 5 * SECOND)], None);
    let expected = (5 * SECOND, vec![1], vec![(0, Problem::Behind)]);
    assert_eq!(given(&finding), Some(expected));
}

#[test]
fn the_same_bytes_need_no_stamp_to_be_the_same() {
    let by_hand = content(0, stamp(3 * SECOND, b"same"), false);
    let with_stamp = content(1, stamp(4 * SECOND + 1, b"same"), true);
    let agreed = Finding::Agreed { deleted: false };
    assert_eq!(diff(REGISTRY, &[by_hand, with_stamp], None), agreed);
}

#[test]
fn an_old_copy_that_was_restored_into_a_backup_by_hand_does_not_win() {
    let restored = content(1, stamp(90 * SECOND, b"old"), false);
    let finding = diff(REGISTRY, &[pushed(0, 5), restored.clone()], None);
    let expected = (5, vec![0], vec![(1, Problem::Behind)]);
    assert_eq!(given(&finding), Some(expected));
    let finding = diff(REGISTRY, &[nothing(0), restored], None);
    let to = given(&finding).unwrap().2;
    assert_eq!(to, [(0, Problem::Missing)], "but it is better than nothing");
}
