//! The comparison of one artifact on all targets: which target lacks what.
//!
//! Pure, so that every rule has a test. The newest stamp wins. An artifact on the registry is
//! alive. An artifact that the registry lacks is deleted if a tombstone is newer.

use crate::model::Stamp;
use crate::registry::replica::TargetId;
use crate::store::Token;

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
}

impl Problem {
    /// Returns the problem's name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Problem::Missing => "missing",
            Problem::Behind => "behind",
            Problem::Corrupt => "corrupt",
            Problem::Undeleted => "undeleted",
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
        newest: Stamp,
        /// The stamp of that content where it was found. It may differ if it was put there by hand.
        found: Stamp,
        /// The targets that hold it, the registry first.
        from: Vec<TargetId>,
        /// The targets that lack it.
        to: Vec<(Holding, Problem)>,
    },
    /// Some targets hold a deleted artifact.
    Undeleted(Vec<TargetId>),
    /// No target that answered has an undamaged copy.
    Lost(Vec<(Holding, Problem)>),
    /// Only the registry can tell whether it is deleted, and the registry doesn't answer.
    Unsure,
}

/// Compares the holdings of the targets, the registry first. `registry` decides about deletions;
/// `deleted` is the time of the newest tombstone.
pub fn diff(registry: TargetId, holdings: &[Holding], deleted: Option<u64>) -> Finding {
    let contents = holdings.iter().filter_map(|holding| match &holding.held {
        HeldContent::Content { stamp, stamped, .. } => Some((holding.target, *stamp, *stamped)),
        HeldContent::Nothing | HeldContent::Corrupt(_) => None,
    });
    let newest = contents.clone().max_by_key(|(target, stamp, stamped)| {
        // Content put into a backup by hand may be a restored old copy, so it counts last. Stores
        // truncate times to the second: take content put by hand as late in that second.
        let counts = *stamped || *target == registry;
        (counts, rounded_up(stamp, *stamped), *stamp)
    });
    #[cfg(test)]
    let newest = match crate::fault_injection::injected(crate::fault_injection::Bug::OldestWins) {
        true => contents.clone().min_by_key(|(_, stamp, _)| *stamp),
        false => newest,
    };
    let Some((_, found, stamped)) = newest else {
        let lost: Vec<_> = missing(holdings, |_| None);
        return match lost.iter().any(|(_, problem)| *problem == Problem::Corrupt) {
            true => Finding::Lost(lost),
            false => Finding::Agreed {
                deleted: deleted.is_some(),
            },
        };
    };
    let by_registry = holdings.iter().find(|holding| holding.target == registry);
    let is_alive = match by_registry.map(|holding| &holding.held) {
        Some(HeldContent::Content { .. } | HeldContent::Corrupt(_)) => true,
        _ => deleted.is_none_or(|deleted| found.when > deleted),
    };
    if !is_alive {
        return match by_registry {
            None => Finding::Unsure,
            Some(_) => Finding::Undeleted(contents.map(|(target, ..)| target).collect()),
        };
    }
    let others = contents.clone().filter(|(_, stamp, _)| *stamp != found);
    let latest = others.map(|(_, stamp, _)| stamp.when).max().unwrap_or(0);
    let newest = match stamped {
        true => found,
        false => Stamp {
            when: found.when.max(latest.saturating_add(1)),
            ..found
        },
    };
    let same = |stamp: &Stamp, is_stamped: bool| {
        *stamp == found || (!(stamped && is_stamped) && stamp.sha256 == found.sha256)
    };
    let to = missing(holdings, |held| match held {
        HeldContent::Content { stamp, stamped, .. } => Some(same(stamp, *stamped)),
        HeldContent::Nothing | HeldContent::Corrupt(_) => None,
    });
    match to.is_empty() {
        true => Finding::Agreed { deleted: false },
        false => Finding::Lacking {
            newest,
            found,
            from: contents
                .filter(|(_, stamp, _)| *stamp == found)
                .map(|(target, ..)| target)
                .collect(),
            to,
        },
    }
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
