//! The breaker of a target: after some outages in a row the target is skipped at once, and probed
//! in the background until it answers. A request that nothing else can serve is let through all the
//! same, and is a probe itself.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::{Instant, timeout_at};

use crate::store::Failure;

tokio::task_local! {
    /// Until when the request at hand waits to be let through to a target that is skipped.
    static PRESSING: Option<Instant>;
}

/// Makes a request that is let through to targets that are skipped, if it gets its turn by `end`;
/// `None`: it is not.
pub(super) async fn pressing<T>(end: Option<Instant>, request: impl Future<Output = T>) -> T {
    PRESSING.scope(end, request).await
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct State {
    /// Outages since the last answer.
    outages: u32,
    pub(super) open: bool,
    /// A question was given up unanswered, for somebody else was faster. Whether that is an outage
    /// or a slow answer only a probe can tell.
    pub(super) doubted: bool,
    /// A request wants the target while it is skipped.
    pub(super) wanted: bool,
}

/// When a breaker opens, and how long a question has to be unanswered to raise a doubt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) outages: u32,
    pub(super) patience: Duration,
}

/// Makes a part of a request: where it is pressing, it gets its turn by `end` or not at all.
pub(super) async fn pressing_by<T>(end: Instant, part: impl Future<Output = T>) -> T {
    let until = PRESSING.try_with(|until| *until).ok().flatten();
    pressing(until.map(|until| until.min(end)), part).await
}

/// Counts the outages of a target in a row, and is open when there are too many.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Until they are set nobody probes, and so it stays closed.
    limits: OnceLock<Limits>,
    state: watch::Sender<State>,
    /// Held by the one request that is let through while the breaker is open.
    trial: Mutex<()>,
}

/// A request's admission to a target. While the breaker is open there is one at a time.
pub(super) struct Admission<'a> {
    _trial: Option<MutexGuard<'a, ()>>,
}

impl Breaker {
    /// Tells whether the target is to be skipped.
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

    /// Puts the breaker to work; returns its state for the watch that probes.
    pub(super) fn begin(&self, limits: Limits) -> watch::Receiver<State> {
        let _ = self.limits.set(limits);
        self.state.subscribe()
    }

    /// Lets a request through to the target; `None` if the target is skipped. A pressing request
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

    /// Takes note that a probe begins, for all requests that want the target.
    pub(super) fn satisfied(&self) {
        self.state.send_if_modified(|state| {
            state.wanted = false;
            false
        });
    }

    /// Takes note of a reply.
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
                _ => *state = State::default(),
            }
            state.open != before
        });
    }

    /// Begins to watch a question.
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

/// A question on its way. Dropped without a reply, it raises a doubt about its target: a hung one
/// whose questions are all hedged would never be seen to have an outage.
pub(super) struct Question<'a> {
    breaker: &'a Breaker,
    begun: Instant,
    is_answered: bool,
}

impl Question<'_> {
    /// Takes note of the reply.
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
