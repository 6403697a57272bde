//! The watch over a target: while its breaker is open, the watch probes it until it answers: each
//! second while requests want it, and with growing pauses while none do.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Registry;
use super::breaker::{BreakerState, Limits};
use super::events::{Event, Level};
use super::replay::jitter;
use super::replica::Replica;

/// How long a target is left alone before its first probe, and at most. 1 s: most outages are a
/// restart. 30 s: after the repair of a store, its operators check whether the mount has noticed.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Registry {
    /// Activates the breakers, each with a watch that probes its target while it is open.
    pub(super) fn watch_targets(self: &Arc<Self>) {
        if self.settings.breaker == 0 {
            return;
        }
        let limits = Limits {
            outages: self.settings.breaker,
            patience: self.settings.hedge,
        };
        for target in self.replica_sets.targets() {
            let watch = Watch {
                registry: Arc::downgrade(self),
                target: Arc::downgrade(target),
                state: target.breaker.begin(limits),
                pause: FIRST_PAUSE,
            };
            tokio::spawn(watch.keep());
        }
    }
}

/// The task that waits for a target's breaker to open, and probes until it closes again. It keeps
/// neither the registry nor the target alive, and ends with them.
struct Watch {
    registry: Weak<Registry>,
    target: Weak<Replica>,
    state: watch::Receiver<BreakerState>,
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
                // One probe a second: a slow target has enough to do.
                let next = Instant::now() + FIRST_PAUSE;
                if !self.probe().await {
                    return;
                }
                let _ = timeout_at(next, self.state.wait_for(|state| state.open)).await;
                continue;
            }
            // A target that answers nothing but probes is not readmitted every second.
            if closed.is_none_or(|closed| closed.elapsed() > LONGEST_PAUSE) {
                self.pause = FIRST_PAUSE;
            }
            if !self.opened() || !self.probe_until_closed().await || !self.closed() {
                return;
            }
            closed = Some(Instant::now());
        }
    }

    /// Returns `false` if the registry or the target is gone.
    async fn probe_until_closed(&mut self) -> bool {
        let mut begun = Instant::now();
        loop {
            let Some(pause) = self.next_pause() else {
                return false;
            };
            let due = Instant::now() + pause;
            let soonest = due.min(begun + FIRST_PAUSE);
            // The reply to a question under way may close it too.
            let closes = timeout_at(soonest, self.state.wait_for(|state| !state.open)).await;
            if let Ok(closed) = closes.map(|closed| closed.is_ok()) {
                return closed;
            }
            let changes = self.state.wait_for(|state| !state.open || state.wanted);
            match timeout_at(due, changes)
                .await
                .map(|state| state.map(|it| it.open))
            {
                Ok(Ok(false)) => return true,
                Ok(Err(_)) => return false,
                Ok(Ok(true)) | Err(_) => {}
            }
            begun = Instant::now();
            if !self.probe().await {
                return false;
            }
        }
    }

    fn next_pause(&mut self) -> Option<Duration> {
        let now = self.registry.upgrade()?.clock.nanos();
        let pause = self.pause.mul_f64(jitter(now));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }

    async fn probe(&self) -> bool {
        let deadline = self.registry.upgrade().map(|it| it.settings.metadata);
        let (Some(deadline), Some(target)) = (deadline, self.target.upgrade()) else {
            return false;
        };
        target.breaker.satisfied();
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
        let message = "skipping the target until it answers a probe";
        let event = Event::new(Level::Warn, "breaker-open", message);
        registry.report(
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
        registry.report(event.with("target", target.url()));
        registry.index.forgive();
        registry.replay.recovered(target.id);
        registry.reconcile.start_soon();
        true
    }
}
