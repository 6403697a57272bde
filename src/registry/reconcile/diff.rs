//! The comparison of one artifact on all targets: which target lacks what.
//!
//! Pure, so that every rule has a test. The registry's content is given to the backups. A backup's
//! content is given to the registry only if it is based on the registry's, or if the registry lacks
//! the artifact without a tombstone. A tombstone deletes the content that it names, and those before
//! it. Anything else that may be an acknowledged push is a conflict, and stays where it is.

use std::collections::BTreeMap;

#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{Base, Sha256, Stamp};
use crate::registry::replica::TargetId;
use crate::store::{Token, Tombstone};

/// The state of an artifact on one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldContent {
    /// Nothing.
    Nothing,
    /// A content.
    Content {
        /// Its stamp.
        stamp: Stamp,
        /// Whether the store keeps that stamp. Content put there by hand has the store's own time
        /// instead.
        stamped: bool,
        /// The store's token for it.
        token: Option<Token>,
    },
    /// Bytes that don't match their stamp.
    Corrupt(Option<Token>),
}

/// The state of an artifact on one target that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The target.
    pub target: TargetId,
    /// The state there.
    pub held: HeldContent,
}

/// A problem with an artifact on one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The target lacks the artifact.
    Missing,
    /// The target has an older content, or an older stamp of the same bytes.
    Behind,
    /// The target's bytes don't match their stamp.
    Corrupt,
    /// The target holds a deleted artifact.
    Undeleted,
    /// The target holds a push that is not based on the registry's content.
    Conflict,
}

impl Problem {
    /// Returns the problem's name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Problem::Missing => "missing",
            Problem::Behind => "behind",
            Problem::Corrupt => "corrupt",
            Problem::Undeleted => "undeleted",
            Problem::Conflict => "conflict",
        }
    }
}

/// The outcome of comparing one artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Every target that answered holds the same.
    Agreed {
        /// Whether all hold nothing because the artifact was deleted, according to a tombstone.
        deleted: bool,
    },
    /// Some target lacks the newest content.
    Lacking {
        /// The stamp that every target is to have.
        newest: Box<Stamp>,
        /// The stamp of that content where it was found. It may differ if it was put there by hand.
        found: Box<Stamp>,
        /// The targets that hold it, the registry first.
        from: Vec<TargetId>,
        /// The targets that lack it. Those with a conflict keep their content.
        to: Vec<(Holding, Problem)>,
    },
    /// Some targets hold a deleted artifact, each with its tombstone; others a push that is based on
    /// a deleted content.
    Undeleted {
        /// The targets that hold a deleted content.
        held: Vec<(TargetId, Tombstone)>,
        /// The targets that hold another one, with its stamp.
        apart: Vec<(TargetId, Stamp)>,
    },
    /// No target that answered has an undamaged copy.
    Lost(Vec<(Holding, Problem)>),
    /// Only the registry can tell whether it is deleted, and the registry doesn't answer.
    Unsure,
}

/// A content of a target.
#[derive(Debug, Clone, Copy)]
struct Held {
    target: TargetId,
    stamp: Stamp,
    stamped: bool,
}

/// The knowledge of an artifact beside the targets' holdings.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The registry.
    pub registry: TargetId,
    /// A content of this mount that outranks the registry's, which ignores conditions.
    pub own: Option<TargetId>,
    /// Whether the registry honours conditions. Otherwise two pushes may both have been acknowledged,
    /// and the registry keeps one of them: that is no conflict to report.
    pub honours_conditions: bool,
    /// Whether stamps are signed: then content that was put into the registry by hand gets a stamp.
    pub signs: bool,
    /// The tombstones of all targets.
    pub tombstones: &'a [Tombstone],
    /// The contents that the newest known one has replaced.
    pub past: &'a [Sha256],
    /// The contents before those of the backups, as the backups' versions tell.
    pub before: &'a BTreeMap<Sha256, Vec<Sha256>>,
}

impl Known<'_> {
    /// Tells whether a push is one that the registry's content has replaced. A later push of the same
    /// bytes is a roll-back.
    fn is_past(&self, push: &Stamp, current: &Stamp) -> bool {
        let is_before = current.base == Base::Content(push.sha256);
        (is_before || self.past.contains(&push.sha256)) && push.when <= current.when
    }

    /// Tells whether a push is based on a content, or on one that is based on it.
    fn is_over(&self, push: &Stamp, content: Sha256) -> bool {
        let before = self.before.get(&push.sha256);
        push.base == Base::Content(content) || before.is_some_and(|it| it.contains(&content))
    }
}

/// Compares the holdings of the targets, the registry first.
pub fn diff(known: Known<'_>, holdings: &[Holding]) -> Finding {
    let held: Vec<Held> = holdings
        .iter()
        .filter_map(|holding| match &holding.held {
            HeldContent::Content { stamp, stamped, .. } => Some(Held {
                target: holding.target,
                stamp: *stamp,
                stamped: *stamped,
            }),
            HeldContent::Nothing | HeldContent::Corrupt(_) => None,
        })
        .collect();
    let is_deleted = |held: &Held| deletion(known.tombstones, held);
    let by_registry = holdings.iter().find(|it| it.target == known.registry);
    let leader = match by_registry.map(|holding| &holding.held) {
        Some(HeldContent::Content { stamp, .. }) => leader(known, &held, stamp),
        Some(HeldContent::Corrupt(_)) => newest(&held),
        // Only the registry can tell whether the artifact is deleted.
        None if held.iter().any(|held| is_deleted(held).is_some()) => return Finding::Unsure,
        None if !held.is_empty() && !known.tombstones.is_empty() => return Finding::Unsure,
        None => newest(&held),
        Some(HeldContent::Nothing) => match revived(known, &held) {
            None if !held.is_empty() => {
                let covered = |held: &Held| Some((held.target, is_deleted(held)?));
                return Finding::Undeleted {
                    held: held.iter().filter_map(covered).collect(),
                    apart: held
                        .iter()
                        .filter(|held| is_deleted(held).is_none())
                        .map(|held| (held.target, held.stamp))
                        .collect(),
                };
            }
            revived => revived,
        },
    };
    let Some(leader) = leader else {
        let lost: Vec<_> = missing(holdings, |_| None);
        return match lost.iter().any(|(_, problem)| *problem == Problem::Corrupt) {
            true => Finding::Lost(lost),
            false => Finding::Agreed {
                deleted: !known.tombstones.is_empty(),
            },
        };
    };
    lacking(known, &leader, &held, holdings)
}

/// Returns the content that every target is to have, if the registry has one: its own, or the newest
/// that is based on it.
fn leader(known: Known<'_>, held: &[Held], there: &Stamp) -> Option<Held> {
    let by_registry = held.iter().find(|held| held.target == known.registry);
    let by_registry = by_registry.copied()?;
    if let Some(own) = known.own {
        return held.iter().find(|held| held.target == own).copied();
    }
    #[cfg(test)]
    match () {
        () if injected(Bug::OldestWins) => {
            return held.iter().min_by_key(|held| held.stamp).copied();
        }
        () if injected(Bug::NewestWins) => return newest(held),
        () => {}
    }
    let mut over = held.iter().filter(|held| {
        held.stamped
            && known.is_over(&held.stamp, there.sha256)
            && held.stamp.sha256 != there.sha256
            && !known.is_past(&held.stamp, there)
    });
    let over = over.next().map(|first| over.fold(first, later));
    over.copied().or(Some(by_registry))
}

fn later<'a>(one: &'a Held, other: &'a Held) -> &'a Held {
    match one.stamp < other.stamp {
        true => other,
        false => one,
    }
}

/// Returns the newest content; one that was put into a backup by hand may be a restored old copy, so
/// it counts last.
fn newest(held: &[Held]) -> Option<Held> {
    let newest = held.iter().max_by_key(|held| (held.stamped, held.stamp));
    newest.copied()
}

/// Returns the tombstone that deletes a content.
fn deletion(tombstones: &[Tombstone], held: &Held) -> Option<Tombstone> {
    let covers = |it: &&Tombstone| it.covers(&held.stamp, held.stamped);
    tombstones.iter().find(covers).cloned()
}

/// Returns the content that the registry gets although it lacks the artifact: any without a tombstone;
/// otherwise a push that was made after the deletion.
fn revived(known: Known<'_>, held: &[Held]) -> Option<Held> {
    let tombstones = known.tombstones;
    let is_by_time = tombstones.iter().all(|it| it.deletes.is_none());
    let alive = held.iter().filter(|held| {
        let is_new = match held.stamp.base {
            Base::Deleted(deleted) => {
                let mut names = tombstones.iter().filter_map(|it| it.deletes.as_ref());
                names.any(|deletes| deletes.holds(deleted))
            }
            Base::Unknown | Base::New | Base::Content(_) => false,
        };
        deletion(tombstones, held).is_none() && (is_by_time || is_new)
    });
    newest(&alive.copied().collect::<Vec<_>>())
}

/// Returns what each target lacks of the leading content.
fn lacking(known: Known<'_>, leader: &Held, held: &[Held], holdings: &[Holding]) -> Finding {
    let found = leader.stamp;
    let others = held.iter().filter(|held| held.stamp != found);
    let latest = others.map(|held| held.stamp.when).max().unwrap_or(0);
    let pushed = held.iter().filter(|held| known.signs && held.stamped);
    let pushed = pushed.map(|held| held.stamp).max();
    let newest = match pushed.filter(|pushed| pushed.sha256 == found.sha256) {
        _ if leader.stamped => found,
        // It is the newest push, without its stamp.
        Some(pushed) => pushed,
        None => Stamp {
            when: found.when.max(latest.saturating_add(1)),
            ..found
        },
    };
    let same = |stamp: &Stamp, is_stamped: bool| match is_stamped || !known.signs {
        true => {
            let by_hand = !(leader.stamped && is_stamped) && stamp.sha256 == found.sha256;
            *stamp == found || (by_hand && (!leader.stamped || stamp.status == found.status))
        }
        false => false,
    };
    let to = missing(holdings, |held| match held {
        HeldContent::Content { stamp, stamped, .. } => Some(same(stamp, *stamped)),
        HeldContent::Nothing | HeldContent::Corrupt(_) => None,
    });
    let to: Vec<_> = to
        .into_iter()
        .map(|(holding, problem)| match &holding.held {
            HeldContent::Content { stamp, stamped, .. }
                if holding.target != known.registry
                    && *stamped
                    && is_apart(known, leader, stamp) =>
            {
                (holding, Problem::Conflict)
            }
            _ => (holding, problem),
        })
        .collect();
    match to.is_empty() {
        true => Finding::Agreed { deleted: false },
        false => Finding::Lacking {
            newest: Box::new(newest),
            found: Box::new(found),
            from: held
                .iter()
                .filter(|held| held.stamp == found)
                .map(|held| held.target)
                .collect(),
            to,
        },
    }
}

/// Tells whether a backup's push may be one that was acknowledged, and that the leading content is
/// not based on: it is newer, or based on the same content.
fn is_apart(known: Known<'_>, leader: &Held, there: &Stamp) -> bool {
    let found = leader.stamp;
    if !known.honours_conditions || there.sha256 == found.sha256 || known.is_past(there, &found) {
        return false;
    }
    let is_sibling = found.base != Base::Unknown && there.base == found.base;
    is_sibling || there.when > rounded_up(&found, leader.stamped)
}

fn missing(
    holdings: &[Holding],
    has: impl Fn(&HeldContent) -> Option<bool>,
) -> Vec<(Holding, Problem)> {
    let missing = holdings.iter().filter_map(|holding| {
        let problem = match (&holding.held, has(&holding.held)) {
            (_, Some(true)) => return None,
            (HeldContent::Nothing, _) => Problem::Missing,
            (HeldContent::Content { .. }, _) => Problem::Behind,
            (HeldContent::Corrupt(_), _) => Problem::Corrupt,
        };
        Some((holding.clone(), problem))
    });
    missing.collect()
}

/// Stores truncate times to the second: content put by hand may be as late as that second's end.
fn rounded_up(stamp: &Stamp, stamped: bool) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    match !stamped && stamp.when.is_multiple_of(SECOND) {
        true => stamp.when + SECOND - 1,
        false => stamp.when,
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
