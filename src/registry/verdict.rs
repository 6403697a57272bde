//! The verdict on a push, and all the places where it can be seen.

use std::sync::Arc;

use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::error::{Error, reasons};
use super::events::{Event, Level};
use super::push::{BaseVersion, Push};
use super::receipt::receipt;
use super::replica::{Replica, ReplicaSet, TargetId};
use super::{Durability, Registry, blocking};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::store::Failure;

impl Push<'_> {
    fn has(&self, target: &Replica) -> bool {
        self.got.iter().any(|(got, _)| *got == target.id)
    }

    fn failures(&self) -> impl Iterator<Item = (&str, &Failure)> {
        let missing = self.missing.iter();
        missing.map(|(target, failure)| (target.url(), failure))
    }

    fn urls_of_got(&self) -> Vec<String> {
        let targets = self.replicas.targets();
        let got = targets.filter(|target| self.has(target));
        got.map(|target| target.url().to_owned()).collect()
    }
}

impl Registry {
    /// Takes a pushed content for the newest one, if any target has it: it can be read from there
    /// whatever the verdict is.
    pub(super) fn take_in(&self, push: &Push<'_>, base: &mut BaseVersion) {
        if push.got.is_empty() {
            return;
        }
        let (id, stamp) = (push.id, push.stamp);
        for target in push.replicas.targets().filter(|target| push.has(target)) {
            target.pushes.increment();
        }
        let missing: Vec<TargetId> = push.missing.iter().map(|(target, _)| target.id).collect();
        let missed = |target: &Replica| {
            let mut missing = push.missing.iter();
            let missed = missing.find(|(missing, _)| missing.id == target.id);
            let missed = missed.map(|(_, failure)| failure);
            missed
                .or_else(|| target.unsupported())
                .map(Failure::to_string)
        };
        let receipt = receipt(id, push.replicas, missed).to_string();
        self.cache_insert(stamp.sha256, push.content);
        if let Some(place) = self.open_place(push.replicas) {
            self.index.add_root(&id.repo, place);
        }
        *base = self.index.change(id, |record| {
            let revision = || self.index.next_revision();
            record.pushed(stamp, &push.got, &missing, Instant::now(), revision);
            record.set_receipt(receipt);
            BaseVersion::of(record.current())
        });
    }

    /// Decides whether a push has succeeded, and tells of it if it has.
    pub(super) fn verdict(&self, push: &Push<'_>) -> Result<(), Error> {
        let done = match self.settings.durability {
            Durability::Any => !push.got.is_empty(),
            Durability::Registry => push.has(&push.replicas.registry),
            Durability::All => push.missing.is_empty(),
        };
        #[cfg(test)]
        let done = done || (injected(Bug::RegistryNotNeeded) && !push.got.is_empty());
        if !done {
            let what = format!("can't push {}", push.id);
            return Err(Error::of_failures(what, push.failures()));
        }
        self.tell_pushed(push);
        Ok(())
    }

    fn tell_pushed(&self, push: &Push<'_>) {
        let Push { id, stamp, .. } = push;
        let event = match push.missing.is_empty() {
            true => {
                self.metrics.pushes_complete.increment();
                Event::new(Level::Info, "push", format!("{id} is on every target"))
            }
            false => {
                self.metrics.pushes_degraded.increment();
                let why = reasons(push.failures());
                let message = format!("{id} is pushed, but not to every target: {why}");
                Event::new(Level::Warn, "push-degraded", message)
            }
        };
        let missing: Vec<&str> = push.failures().map(|(url, _)| url).collect();
        self.tell(
            event
                .with("artifact", id.to_string())
                .with("size", stamp.size)
                .with("sha256", stamp.sha256.to_string())
                .with("format", stamp.format.as_str())
                .with("targets", json!(push.urls_of_got()))
                .with("missing", json!(missing)),
        );
    }

    /// Writes to the journal who has got a push that succeeded. If that is late, the background asks
    /// the targets before it gives them anything; and yet the answer waits for it: a push that was
    /// answered and is still in the journal of a mount that has died would be given, by the next
    /// one, to a registry from which somebody is just deleting it.
    pub(super) async fn settle_journal(&self, push: &Push<'_>, end: Instant) {
        let (journal, index_log) = (Arc::clone(&self.journal), Arc::clone(&self.index_log));
        let (id, stamp, got) = (push.id.clone(), push.stamp, push.urls_of_got());
        let is_complete = push.missing.is_empty();
        let settling = blocking::run(move || {
            // Before the journal forgets the push: a crash must leave one of them that knows it.
            index_log.write();
            journal.supersede(&id, &stamp);
            match is_complete {
                true => journal.settle(&id, stamp.when),
                false => got.iter().for_each(|url| journal.got(stamp.when, url)),
            }
        });
        let _ = timeout_at(end, settling).await;
        if !is_complete {
            self.replay.wake();
        }
    }

    /// Returns the place of a route among those of the registries.
    fn open_place(&self, replicas: &ReplicaSet) -> Option<usize> {
        let mut open = self.routes.open().iter();
        open.position(|open| open.registry.id == replicas.registry.id)
    }
}
