//! The background's own rounds: soon after the start, whenever a target is back, and then at the
//! interval that the mount was given.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::job::{Job, Order, Task};
use crate::model::nanos;
use crate::registry::replay::jitter;
use crate::registry::{Registry, lock};

/// How long after its start a mount compares its targets for the first time. 10 s: long enough
/// not to be in the way of what the mount was made for.
const FIRST: Duration = Duration::from_secs(10);

/// How long after a target is back it is compared. 2 s: it is given what the journal owes first.
const SETTLING: Duration = Duration::from_secs(2);

impl Registry {
    /// Starts the rounds. They end with the registry.
    pub(in crate::registry) fn keep_repaired(self: &Arc<Self>) {
        let interval = self.settings.repair;
        if interval.is_zero() || self.settings.read_only {
            return;
        }
        let (weak, soon) = (Arc::downgrade(self), Arc::clone(&self.repair.soon));
        tokio::spawn(async move {
            let mut next = Instant::now() + FIRST.min(interval);
            let mut rounds = 0;
            loop {
                if timeout_at(next, soon.notified()).await.is_ok() {
                    tokio::time::sleep(SETTLING.min(interval)).await;
                }
                let Some(registry) = weak.upgrade() else {
                    return;
                };
                rounds += 1;
                let begun = nanos(registry.wall.now());
                let order = Order {
                    task: Task::Sync,
                    quick: true,
                };
                let job = Arc::new(Job::new(rounds, order, begun));
                *lock(&registry.repair.round) = Some(Arc::clone(&job));
                registry.carry_out(&job).await;
                let (differences, repaired) = job.figures();
                tracing::debug!(differences, repaired, "the targets were compared");
                next = Instant::now() + interval.mul_f64(jitter(begun));
            }
        });
    }

    /// Has the targets compared soon: one of them is back, and nobody knows what it has missed.
    pub(in crate::registry) fn repair_soon(&self) {
        self.repair.soon.notify_one();
    }
}
