//! The breaker of a target: after some outages in a row, requests skip the target at once, and
//! background probes ask it until it answers. A request that nothing else can serve passes all the
//! same, and is a probe itself.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::{Instant, timeout_at};

use crate::store::Failure;

tokio::task_local! {
    /// The time until which the current request waits to pass an open breaker.
    static PRESSING: Option<Instant>;
}

/// Runs a request that may pass open breakers, if it is admitted by `end`; with `None` it may not.
pub(super) async fn pressing<T>(end: Option<Instant>, request: impl Future<Output = T>) -> T {
    PRESSING.scope(end, request).await
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BreakerState {
    /// Outages since the last answer.
    outages: u32,
    pub(super) open: bool,
    /// A question was dropped unanswered because another target was faster. Only a probe can tell
    /// an outage from a slow answer.
    pub(super) doubted: bool,
    /// A request wants the target while it is skipped.
    pub(super) wanted: bool,
}

/// The outages that open a breaker, and how long a question stays unanswered before it raises a
/// doubt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) outages: u32,
    pub(super) patience: Duration,
}

/// Runs a part of a request: if the request is pressing, the part is admitted by `end` or not at
/// all.
pub(super) async fn pressing_by<T>(end: Instant, part: impl Future<Output = T>) -> T {
    let until = PRESSING.try_with(|until| *until).ok().flatten();
    pressing(until.map(|until| until.min(end)), part).await
}

/// Counts a target's outages in a row, and opens when there are too many.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Unset until probes run; until then the breaker stays closed.
    limits: OnceLock<Limits>,
    state: watch::Sender<BreakerState>,
    /// Held by the one request that passes while the breaker is open.
    trial: Mutex<()>,
}

/// A request's admission to a target. While the breaker is open, there is one at a time.
pub(super) struct Admission<'a> {
    _trial: Option<MutexGuard<'a, ()>>,
}

impl Breaker {
    /// Returns whether requests skip the target.
    pub(super) fn is_open(&self) -> bool {
        self.state.borrow().open
    }

    /// Returns the state's name in the status.
    pub(super) fn as_str(&self) -> &'static str {
        match self.is_open() {
            true => "open",
            false => "closed",
        }
    }

    /// Activates the breaker; returns its state for the watch that probes.
    pub(super) fn begin(&self, limits: Limits) -> watch::Receiver<BreakerState> {
        let _ = self.limits.set(limits);
        self.state.subscribe()
    }

    /// Admits a request to the target; returns `None` if the target is skipped. A pressing request
    /// waits until the breaker closes, or until no other request is on trial.
    pub(super) async fn admit(&self) -> Option<Admission<'_>> {
        if self.is_open() {
            self.state
                .send_if_modified(|state| !std::mem::replace(&mut state.wanted, true));
            let end = PRESSING.try_with(|end| *end).ok().flatten()?;
            let mut state = self.state.subscribe();
            tokio::select! {
                biased;
                _ = state.wait_for(|state| !state.open) => {}
                trial = timeout_at(end, self.trial.lock()) => {
                    let _trial = Some(trial.ok()?);
                    return Some(Admission { _trial });
                }
            }
        }
        Some(Admission { _trial: None })
    }

    /// Records that a probe begins; it serves all requests that want the target.
    pub(super) fn satisfied(&self) {
        self.state.send_if_modified(|state| {
            state.wanted = false;
            false
        });
    }

    /// Records a reply.
    pub(super) fn note(&self, failure: Option<&Failure>) {
        let Some(limits) = self.limits.get() else {
            return;
        };
        self.state.send_if_modified(|state| {
            let before = state.open;
            match failure {
                Some(failure) if failure.is_of_one_object() => {}
                Some(failure) if failure.is_outage() => {
                    state.outages = state.outages.saturating_add(1);
                    state.open |= state.outages >= limits.outages;
                }
                _ => *state = BreakerState::default(),
            }
            state.open != before
        });
    }

    /// Starts to watch a question.
    pub(super) fn question(&self) -> Question<'_> {
        Question {
            breaker: self,
            begun: Instant::now(),
            is_answered: false,
        }
    }

    fn doubt(&self, unanswered_for: Duration) {
        let limits = self.limits.get();
        if limits.is_some_and(|limits| unanswered_for >= limits.patience) {
            self.state
                .send_if_modified(|state| !std::mem::replace(&mut state.doubted, true));
        }
    }
}

/// A question under way. Dropped without a reply, it raises a doubt about its target: otherwise a
/// hung target would never count as out while backups answer all of its questions.
pub(super) struct Question<'a> {
    breaker: &'a Breaker,
    begun: Instant,
    is_answered: bool,
}

impl Question<'_> {
    /// Records the reply.
    pub(super) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.breaker.doubt(self.begun.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Kind;

    fn breaker(limit: u32) -> Breaker {
        let breaker = Breaker::default();
        let limits = Limits {
            outages: limit,
            patience: Duration::ZERO,
        };
        breaker.begin(limits);
        breaker
    }

    fn note(breaker: &Breaker, kinds: &[Kind]) -> bool {
        for kind in kinds {
            breaker.note(Some(&Failure::new(*kind, "planted")));
        }
        breaker.is_open()
    }

    #[test]
    fn only_outages_in_a_row_open_it() {
        let breaker = breaker(3);
        assert!(!note(&breaker, &[Kind::Busy, Kind::StoreMissing]));
        assert!(!note(&breaker, &[Kind::Denied, Kind::Busy, Kind::Busy]));
        breaker.note(None);
        assert!(!note(&breaker, &[Kind::Busy, Kind::Unreachable]));
        assert!(note(&breaker, &[Kind::Busy]));
    }

    #[test]
    fn a_corrupt_object_says_nothing_about_its_store() {
        let breaker = breaker(2);
        assert!(!note(&breaker, &[Kind::Corrupt, Kind::Corrupt, Kind::Busy]));
        assert!(note(&breaker, &[Kind::Corrupt, Kind::Busy, Kind::Corrupt]));
    }

    #[test]
    fn an_answer_closes_it_and_outages_count_from_zero() {
        let breaker = breaker(2);
        assert!(note(&breaker, &[Kind::Busy, Kind::Busy]));
        assert!(!note(&breaker, &[Kind::Denied]));
        assert!(!note(&breaker, &[Kind::Busy]));
        assert!(note(&breaker, &[Kind::Busy]));
    }

    #[test]
    fn it_stays_closed_while_nobody_would_probe() {
        assert!(!note(&Breaker::default(), &[Kind::Busy; 9]));
    }
}
