//! One row of the table: the work, the figures of each subject, and the verdict on the goal.

use super::sample::Samples;

/// The subject of the goals.
pub const ATLASFS: &str = "atlasfs";
/// The floor: the no-op file system.
pub const NOOP: &str = "no-op";

/// The unit of a row's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Time,
    /// Requests, or calls.
    Count,
    /// Bytes.
    Bytes,
    /// A fraction of one.
    Share,
}

/// Whether a goal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The goal holds.
    Holds,
    /// The goal is broken.
    Fails,
    /// No peer is there for a comparison.
    Open,
}

/// A goal of a row, with its verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// The goal's text.
    pub words: String,
    /// The limit on atlasfs's median.
    pub limit: Option<f64>,
    pub verdict: Verdict,
}

/// The result of one subject.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// The samples.
    Took(Samples),
    /// The reason why there are no samples.
    None(String),
}

/// A row.
#[derive(Debug, Clone)]
pub struct Row {
    /// The name for `--row`.
    pub group: &'static str,
    /// The work.
    pub work: String,
    /// The meaning of the figures.
    pub unit: Unit,
    /// Each subject's figures, in order.
    pub cells: Vec<(String, Cell)>,
    /// The goals; empty for a row that is only reported.
    pub goals: Vec<Goal>,
    /// Whether the row is counted, and not timed. Only a bug can break a counted goal.
    pub counted: bool,
}

impl Row {
    /// Begins a timed row.
    pub fn timed(group: &'static str, work: impl Into<String>) -> Self {
        Self {
            group,
            work: work.into(),
            unit: Unit::Time,
            cells: Vec::new(),
            goals: Vec::new(),
            counted: false,
        }
    }

    /// Begins a counted row.
    pub fn counted(group: &'static str, work: impl Into<String>, unit: Unit) -> Self {
        Self {
            unit,
            counted: true,
            ..Self::timed(group, work)
        }
    }

    /// Adds a subject's samples.
    #[must_use]
    pub fn took(mut self, subject: &str, samples: Samples) -> Self {
        self.cells.push((subject.into(), Cell::Took(samples)));
        self
    }

    /// Adds the reason why a subject has no samples.
    #[must_use]
    pub fn none(mut self, subject: &str, why: impl Into<String>) -> Self {
        self.cells.push((subject.into(), Cell::None(why.into())));
        self
    }

    /// Adds a goal: atlasfs's median is at most `limit`.
    #[must_use]
    pub fn at_most(mut self, limit: f64, words: impl Into<String>) -> Self {
        let median = self.median(ATLASFS).unwrap_or(f64::NAN);
        self.goals.push(Goal {
            words: words.into(),
            limit: Some(limit),
            verdict: match median <= limit {
                true => Verdict::Holds,
                false => Verdict::Fails,
            },
        });
        self
    }

    /// Adds a goal: atlasfs's median is below that of every present peer. Where the kernel alone
    /// answers, no subject can be faster than another, so a median within a peer's quartiles counts
    /// as well.
    #[must_use]
    pub fn faster_than_each_peer(self) -> Self {
        let words = "faster than each peer";
        let limits = self.cells.iter().filter_map(|(subject, cell)| match cell {
            Cell::Took(samples) if subject != ATLASFS && subject != NOOP => {
                Some(samples.quartiles().1)
            }
            _ => None,
        });
        match limits.min_by(f64::total_cmp) {
            Some(limit) => self.at_most(limit, words),
            None => {
                let mut row = self;
                row.goals.push(Goal {
                    words: words.into(),
                    limit: None,
                    verdict: Verdict::Open,
                });
                row
            }
        }
    }

    /// Returns a subject's median.
    pub fn median(&self, subject: &str) -> Option<f64> {
        self.samples(subject).map(Samples::median)
    }

    /// Returns a subject's samples.
    pub fn samples(&self, subject: &str) -> Option<&Samples> {
        let cell = self.cells.iter().find(|(name, _)| name == subject);
        match cell {
            Some((_, Cell::Took(samples))) => Some(samples),
            _ => None,
        }
    }

    /// Returns a subject's median in units of the no-op's median.
    pub fn ratio(&self, subject: &str) -> Option<f64> {
        Some(self.median(subject)? / self.median(NOOP)?)
    }

    /// Returns whether the row makes the harness fail.
    pub fn is_broken(&self) -> bool {
        self.counted && self.goals.iter().any(|goal| goal.verdict == Verdict::Fails)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64) -> Row {
        Row::timed("stat", "stat")
            .took(NOOP, Samples::one(10.0))
            .took(ATLASFS, Samples::one(ours))
    }

    #[test]
    fn a_goal_holds_up_to_its_limit() {
        let judge = |ours| row(ours).at_most(11.5, "").goals[0].verdict;
        assert_eq!(judge(11.5), Verdict::Holds);
        assert_eq!(judge(11.6), Verdict::Fails);
        assert_eq!(judge(f64::NAN), Verdict::Fails);
        assert_eq!(row(11.5).ratio(ATLASFS), Some(1.15));
    }

    #[test]
    fn every_peer_counts_and_an_absent_one_does_not() {
        let judge = |ours: f64| {
            let row = row(ours).took("s3fs", Samples::new([20.0, 22.0, 24.0, 26.0, 28.0]));
            let row = row.took("rclone", Samples::one(40.0)).none("mount-s3", "");
            row.faster_than_each_peer().goals[0].verdict
        };
        assert_eq!(judge(19.0), Verdict::Holds);
        assert_eq!(judge(27.0), Verdict::Fails);
        let alone = row(1.0).none("s3fs", "").faster_than_each_peer();
        assert_eq!(alone.goals[0].verdict, Verdict::Open);
    }

    #[test]
    fn only_what_is_counted_breaks_a_run() {
        assert!(!row(99.0).at_most(1.0, "").is_broken());
        let counted = |gets| {
            let row = Row::counted("cold", "GETs", Unit::Count);
            row.took(ATLASFS, Samples::one(gets)).at_most(1.0, "")
        };
        assert!(counted(2.0).is_broken());
        assert!(!counted(1.0).is_broken());
    }
}
