//! What the targets hold of one artifact, compared: who lacks what.
//!
//! Pure, so that every rule is a test: the newest stamp wins; what the registry holds is alive;
//! what it doesn't hold, and a tombstone is newer than, is deleted.

use crate::model::Stamp;
use crate::registry::replica::TargetId;
use crate::store::Token;

/// What one target holds of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// A content.
    Content {
        /// What is known of it.
        stamp: Stamp,
        /// Whether the store keeps that stamp. Content put there by hand has the store's own time.
        stamped: bool,
        /// The store's token of it.
        token: Option<Token>,
    },
    /// Bytes that are not their stamp's.
    Corrupt(Option<Token>),
}

/// What one target that could be heard holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The target.
    pub target: TargetId,
    /// What it holds.
    pub held: Held,
}

/// What is wrong with what a target holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It lacks the artifact.
    Missing,
    /// It has an older content, or the same without its stamp.
    Behind,
    /// Its bytes are not their stamp's.
    Corrupt,
    /// It holds what was deleted.
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

/// What is to be done about an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Every target that could be heard holds the same. `deleted`: nothing, as a tombstone says.
    Agreed {
        /// Whether it is nothing, and was something.
        deleted: bool,
    },
    /// Some target lacks the newest content.
    Lacking {
        /// What every target is to have.
        newest: Stamp,
        /// The stamp that it has where it was found: another one if it was put there by hand.
        found: Stamp,
        /// Who can give it, the registry first.
        from: Vec<TargetId>,
        /// Who lacks it.
        to: Vec<(Holding, Problem)>,
    },
    /// Some target holds what was deleted.
    Undeleted(Vec<TargetId>),
    /// Nobody who could be heard has it whole.
    Lost(Vec<(Holding, Problem)>),
    /// Only the registry can tell whether it is deleted, and it can't be heard.
    Unsure,
}

/// Compares what the targets hold, the registry first. `registry` is the one whose word on
/// deletions holds; `deleted` is the newest tombstone.
pub fn diff(registry: TargetId, holdings: &[Holding], deleted: Option<u64>) -> Finding {
    let contents = holdings.iter().filter_map(|holding| match &holding.held {
        Held::Content { stamp, stamped, .. } => Some((holding.target, *stamp, *stamped)),
        Held::Nothing | Held::Corrupt(_) => None,
    });
    let newest = contents.clone().max_by_key(|(target, stamp, stamped)| {
        // What was put into a backup by hand may be an old copy that somebody has restored. And
        // stores cut their times to the second: by hand means later within that second.
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
        Some(Held::Content { .. } | Held::Corrupt(_)) => true,
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
        Held::Content { stamp, stamped, .. } => Some(same(stamp, *stamped)),
        Held::Nothing | Held::Corrupt(_) => None,
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

fn missing(holdings: &[Holding], has: impl Fn(&Held) -> Option<bool>) -> Vec<(Holding, Problem)> {
    let missing = holdings.iter().filter_map(|holding| {
        let problem = match (&holding.held, has(&holding.held)) {
            (_, Some(true)) => return None,
            (Held::Nothing, _) => Problem::Missing,
            (Held::Content { .. }, _) => Problem::Behind,
            (Held::Corrupt(_), _) => Problem::Corrupt,
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
