//! The rules of reconcile, one test each.

use super::*;
use crate::model::{Format, Item, Lineage};

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

fn over(target: usize, when: u64, base: u64) -> Holding {
    let stamp = Stamp {
        base: Base::Content(Sha256::of(&base.to_le_bytes())),
        ..stamp(when, &when.to_le_bytes())
    };
    content(target, stamp, true)
}

/// A tombstone of an earlier version.
fn at(when: u64) -> Tombstone {
    Tombstone {
        item: Item::Schema,
        when,
        deletes: None,
    }
}

/// A tombstone that names a content.
fn of(holding: &Holding) -> Tombstone {
    let HeldContent::Content { stamp, .. } = &holding.held else {
        panic!("{holding:?}")
    };
    Tombstone {
        deletes: Some(Lineage::new(stamp, true, &[])),
        ..at(1_000)
    }
}

fn compare(holdings: &[Holding], tombstones: &[Tombstone]) -> Finding {
    let known = Known {
        registry: REGISTRY,
        own: None,
        honours_conditions: true,
        signs: false,
        tombstones,
        past: &[],
        before: &BTreeMap::new(),
    };
    diff(known, holdings)
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
    assert_eq!(compare(&holdings, &[]), agreed);
    assert_eq!(compare(&[nothing(0), nothing(1)], &[]), agreed);
}

#[test]
fn the_registry_gets_a_push_made_over_its_content() {
    let finding = compare(&[pushed(0, 5), over(1, 7, 5), nothing(2)], &[]);
    let expected = (
        7,
        vec![1],
        vec![(0, Problem::Behind), (2, Problem::Missing)],
    );
    assert_eq!(given(&finding), Some(expected), "whatever its time is");
    let finding = compare(&[pushed(0, 5), over(1, 3, 5)], &[]);
    assert_eq!(given(&finding).unwrap().2, [(0, Problem::Behind)]);
    let finding = compare(&[nothing(0), pushed(1, 7)], &[]);
    let expected = (7, vec![1], vec![(0, Problem::Missing)]);
    assert_eq!(
        given(&finding),
        Some(expected),
        "a push whose machine is gone"
    );
}

#[test]
fn a_stranger_in_a_backup_never_reaches_the_registry() {
    for stranger in [pushed(1, 7), over(1, 7, 6)] {
        let finding = compare(&[over(0, 5, 4), stranger], &[]);
        assert_eq!(given(&finding).unwrap().2, [(1, Problem::Conflict)]);
    }
}

#[test]
fn of_two_pushes_over_one_content_the_backups_stays_there() {
    let finding = compare(&[over(0, 7, 4), over(1, 5, 4), over(2, 4, 3)], &[]);
    let expected = [(1, Problem::Conflict), (2, Problem::Behind)];
    assert_eq!(given(&finding).unwrap().2, expected);
}

#[test]
fn a_tombstone_deletes_the_content_that_it_names() {
    let (deleted, other) = (over(1, 5, 4), over(2, 6, 5));
    let tombstone = of(&deleted);
    let finding = compare(
        &[nothing(0), deleted, other.clone()],
        std::slice::from_ref(&tombstone),
    );
    let HeldContent::Content { stamp, .. } = other.held else {
        panic!()
    };
    let expected = Finding::Undeleted {
        held: vec![(TargetId(1), tombstone.clone())],
        apart: vec![(TargetId(2), stamp)],
    };
    assert_eq!(finding, expected);
    // A push after the deletion, however early its time is.
    let again = Stamp {
        base: Base::Deleted(Sha256::of(&5_u64.to_le_bytes())),
        ..self::stamp(3, b"again")
    };
    let finding = compare(&[nothing(0), content(1, again, true)], &[tombstone]);
    assert_eq!(given(&finding).unwrap().2, [(0, Problem::Missing)]);
}

#[test]
fn corrupt_bytes_are_replaced_by_undamaged_ones() {
    let finding = compare(&[corrupt(0), pushed(1, 7)], &[]);
    let expected = (7, vec![1], vec![(0, Problem::Corrupt)]);
    assert_eq!(given(&finding), Some(expected));
    let finding = compare(&[corrupt(0), nothing(1)], &[]);
    assert!(matches!(finding, Finding::Lost(to) if to.len() == 2));
}

#[test]
fn an_artifact_older_than_its_tombstone_is_deleted_everywhere() {
    let finding = compare(&[nothing(0), pushed(1, 5)], &[at(6)]);
    let expected = Finding::Undeleted {
        held: vec![(TargetId(1), at(6))],
        apart: vec![],
    };
    assert_eq!(finding, expected);
    let agreed = Finding::Agreed { deleted: true };
    let finding = compare(&[nothing(0), nothing(1)], &[at(6)]);
    assert_eq!(finding, agreed);
}

#[test]
fn a_push_after_a_deletion_keeps_the_artifact_alive() {
    let finding = compare(&[nothing(0), pushed(1, 7)], &[at(6)]);
    assert_eq!(given(&finding).unwrap().0, 7);
}

#[test]
fn the_registrys_artifact_is_alive_despite_a_newer_tombstone() {
    let finding = compare(&[pushed(0, 5), nothing(1)], &[at(6)]);
    assert_eq!(given(&finding).unwrap().2, [(1, Problem::Missing)]);
}

#[test]
fn no_deletion_is_decided_while_the_registry_is_out() {
    let finding = compare(&[pushed(1, 5), nothing(2)], &[at(6)]);
    assert_eq!(finding, Finding::Unsure);
    let finding = compare(&[pushed(1, 5), nothing(2)], &[]);
    assert_eq!(given(&finding).unwrap().2, [(2, Problem::Missing)]);
}

#[test]
fn content_put_by_hand_gets_a_newer_stamp() {
    // The store's time is truncated to the second, and the earlier push fell within that second.
    let by_hand = content(0, stamp(5 * SECOND, b"by hand"), false);
    let finding = compare(&[by_hand, pushed(1, 5 * SECOND + 7)], &[]);
    let expected = (5 * SECOND + 8, vec![0], vec![(1, Problem::Behind)]);
    assert_eq!(given(&finding), Some(expected));
}

#[test]
fn a_push_newer_than_content_put_by_hand_stays_in_the_backup() {
    let by_hand = content(0, stamp(3 * SECOND, b"by hand"), false);
    let finding = compare(&[by_hand, pushed(1, 5 * SECOND)], &[]);
    assert_eq!(given(&finding).unwrap().2, [(1, Problem::Conflict)]);
}

#[test]
fn equal_bytes_agree_without_equal_stamps() {
    let by_hand = content(0, stamp(3 * SECOND, b"same"), false);
    let with_stamp = content(1, stamp(4 * SECOND + 1, b"same"), true);
    let agreed = Finding::Agreed { deleted: false };
    assert_eq!(compare(&[by_hand, with_stamp], &[]), agreed);
}

#[test]
fn an_old_copy_restored_into_a_backup_does_not_win() {
    let restored = content(1, stamp(90 * SECOND, b"old"), false);
    let finding = compare(&[pushed(0, 5), restored.clone()], &[]);
    let expected = (5, vec![0], vec![(1, Problem::Behind)]);
    assert_eq!(given(&finding), Some(expected));
    let finding = compare(&[nothing(0), restored], &[]);
    let to = given(&finding).unwrap().2;
    assert_eq!(to, [(0, Problem::Missing)], "but it is better than nothing");
}
