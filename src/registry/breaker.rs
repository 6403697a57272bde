//! The breaker of a target: after some outages in a row the target is skipped at once, and probed
//! in the background until it answers.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::Registry;
use super::events::{Event, Level};
use super::redo::jitter;
use super::route::Watched;
use crate::artifact::nanos;
use crate::target::Failure;

/// How long a target is left in peace before its first probe, and at most. One second: most
/// outages are a restart; thirty: who has mended a store looks whether the mount has seen it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Outages since the last answer.
    outages: u32,
    open: bool,
    /// A question was given up unanswered, for somebody else was faster. Whether that is an outage
    /// or a slow answer only a probe can tell.
    doubted: bool,
}

/// When a breaker opens, and how long a question has to be unanswered to raise a doubt.
#[derive(Debug, Clone, Copy)]
struct Limits {
    outages: u32,
    patience: Duration,
}

/// Counts the outages of a target in a row, and is open when there are too many.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Until they are set nobody probes, and so it stays closed.
    limits: OnceLock<Limits>,
    state: watch::Sender<State>,
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

impl Registry {
    /// Puts the breakers to work, each with somebody who probes its target while it is open.
    pub(super) fn watch_targets(self: &Arc<Self>) {
        if self.settings.breaker == 0 {
            return;
        }
        let limits = Limits {
            outages: self.settings.breaker,
            patience: self.settings.hedge,
        };
        for target in self.routes.targets() {
            let _ = target.breaker.limits.set(limits);
            let watch = Watch {
                registry: Arc::downgrade(self),
                target: Arc::downgrade(target),
                state: target.breaker.state.subscribe(),
                pause: FIRST_PAUSE,
            };
            tokio::spawn(watch.keep());
        }
    }
}

/// Who waits for a target's breaker to open, and sees to it that it closes again. It keeps neither
/// the registry nor the target alive, and ends with them.
struct Watch {
    registry: Weak<Registry>,
    target: Weak<Watched>,
    state: watch::Receiver<State>,
    pause: Duration,
}

impl Watch {
    async fn keep(mut self) {
        let mut closed: Option<Instant> = None;
        while self
            .state
            .wait_for(|state| state.open || state.doubted)
            .await
            .is_ok()
        {
            if !self.state.borrow().open {
                // One probe a second: a target that is only slow has enough to do.
                let next = Instant::now() + FIRST_PAUSE;
                if !self.probe().await {
                    return;
                }
                let _ = timeout_at(next, self.state.wait_for(|state| state.open)).await;
                continue;
            }
            // A target that answers probes and nothing else is not taken back every second.
            if closed.is_none_or(|closed| closed.elapsed() > LONGEST_PAUSE) {
                self.pause = FIRST_PAUSE;
            }
            if !self.opened() || !self.probe_until_closed().await || !self.closed() {
                return;
            }
            closed = Some(Instant::now());
        }
    }

    /// Returns `false` when there is nobody left to probe for.
    async fn probe_until_closed(&mut self) -> bool {
        loop {
            let Some(pause) = self.next_pause() else {
                return false;
            };
            // The reply to a question that was on its way may close it too.
            let closes = timeout(pause, self.state.wait_for(|state| !state.open)).await;
            if let Ok(closed) = closes.map(|closed| closed.is_ok()) {
                return closed;
            }
            if !self.probe().await {
                return false;
            }
        }
    }

    fn next_pause(&mut self) -> Option<Duration> {
        let now = nanos(self.registry.upgrade()?.wall.now());
        let pause = self.pause.mul_f64(jitter(now));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }

    async fn probe(&self) -> bool {
        let deadline = self.registry.upgrade().map(|it| it.settings.metadata);
        let (Some(deadline), Some(target)) = (deadline, self.target.upgrade()) else {
            return false;
        };
        target.probe(Instant::now() + deadline).await;
        true
    }

    fn opened(&self) -> bool {
        let (Some(registry), Some(target)) = (self.registry.upgrade(), self.target.upgrade())
        else {
            return false;
        };
        let reason = target.health().last_failure;
        let reason = reason.map(|(_, failure)| failure.to_string());
        let message = "the target is skipped until it answers a probe";
        let event = Event::new(Level::Warn, "breaker-open", message);
        registry.tell(
            event
                .with("target", target.url())
                .with("reason", reason.unwrap_or_default()),
        );
        true
    }

    fn closed(&self) -> bool {
        let (Some(registry), Some(target)) = (self.registry.upgrade(), self.target.upgrade())
        else {
            return false;
        };
        let event = Event::new(Level::Info, "breaker-closed", "the target answers again");
        registry.tell(event.with("target", target.url()));
        registry.redo.recovered(target.id);
        registry.repair_soon();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Kind;

    fn breaker(limit: u32) -> Breaker {
        let breaker = Breaker::default();
        let limits = Limits {
            outages: limit,
            patience: Duration::ZERO,
        };
        breaker.limits.set(limits).unwrap();
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
