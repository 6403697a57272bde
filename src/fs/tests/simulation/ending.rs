//! The expected state after every fault has ended and no push is pending.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::truth::{Actor, KEYS, State, Text, Truth};
use crate::model::Sha256;

impl Truth {
    /// Checks the stores after all faults have ended and every journal has been replayed.
    /// `repaired`: the mounts have also compared the targets.
    pub(super) fn ended(&mut self, repaired: bool) {
        let versions = self.versions();
        for artifact in 0..2 {
            self.must_keep_all(artifact, &versions);
            self.must_hold_the_newest(artifact, repaired);
            self.must_be_alike(artifact, repaired);
        }
        self.must_keep_every_version(repaired);
    }

    /// An object that is no artifact is replaced or deleted: a version never is.
    pub(super) fn must_keep_version(&mut self, place: usize, key: &str, by: Option<&Bytes>) {
        let there = self.stores[place].objects.get(key);
        let is_other = there.is_some_and(|there| Some(&there.content) != by);
        self.must(!(is_other && key.contains("/versions/")), || {
            format!("no version ever changes: {key} of store {place}")
        });
    }

    /// Every acknowledged push of the schema is a version on every target. Without repair, a target
    /// may miss that of a push that another one has replaced.
    fn must_keep_every_version(&mut self, repaired: bool) {
        let texts = self.texts.iter();
        let acknowledged = texts.filter(|(_, text)| {
            text.artifact == 0 && text.state == State::Acknowledged && !text.forgotten
        });
        let newest = acknowledged.clone().map(|(_, text)| text.order).max();
        let has = |place: &usize, content: &Bytes| {
            let mut objects = self.stores[*place].objects.iter();
            objects.any(|(key, it)| key.contains("/versions/") && it.content == content)
        };
        let missed = acknowledged.filter(|(content, text)| {
            let holders = (0..3).filter(|place| has(place, content)).count();
            let is_last = Some(text.order) == newest && self.deleted[0] == 0;
            holders < if repaired || is_last { 3 } else { 1 }
        });
        let missed: Vec<&Bytes> = missed.map(|(content, _)| content).collect();
        let missed = format!("{missed:?}");
        self.must(missed == "[]", || {
            format!("every target has the version of every acknowledged push: {missed}")
        });
    }

    /// Returns the contents that every store keeps as versions.
    fn versions(&self) -> BTreeSet<Bytes> {
        let texts = self.texts.keys().filter(|content| {
            self.stores.iter().all(|store| {
                let mut objects = store.objects.iter();
                objects.any(|(key, it)| key.contains("/versions/") && it.content == *content)
            })
        });
        texts.cloned().collect()
    }

    /// Every acknowledged content was in the registry, or something based on it; or it is a conflict,
    /// which only another writer can cause, and is kept as a version on every target.
    fn must_keep_all(&mut self, artifact: usize, versions: &BTreeSet<Bytes>) {
        let deleted = self.asked_to_delete[artifact];
        let there = self.stores[0].objects.get(KEYS[artifact]);
        let there = there.map(|object| object.content.clone());
        let landed = self.texts.iter();
        let landed = landed.filter(|(_, text)| text.landed[0].is_some());
        let landed: Vec<&Bytes> = landed.map(|(content, _)| content).collect();
        let has_landed = |content: &Bytes| {
            let mut landed = landed.iter();
            landed.any(|it| *it == content || self.descends(it, content))
        };
        let texts = self.texts.iter();
        let mut lost = texts.filter(|(content, text)| {
            let is_in = there
                .as_ref()
                .is_some_and(|there| there == *content || self.descends(there, content));
            let held = self.stores.iter();
            let held = held.filter_map(|store| store.objects.get(KEYS[artifact]));
            let mut held = held.map(|held| &held.content).chain(versions);
            let is_kept = held.any(|held| held == *content || self.descends(held, content));
            text.artifact == artifact
                && text.state == State::Acknowledged
                && text.order.0 > deleted
                && !text.forgotten
                && !has_landed(content)
                && !is_in
                && !is_kept
        });
        if let Some((content, _)) = lost.next() {
            let content = content.clone();
            drop(lost);
            self.must(false, || {
                format!("an acknowledged push is replaced or kept: {content:?} is nowhere")
            });
        }
    }

    /// The registry of a single writer holds the newest acknowledged content, or a newer one. Only a
    /// deletion may remove it.
    fn must_hold_the_newest(&mut self, artifact: usize, repaired: bool) {
        let texts = self
            .texts
            .iter()
            .filter(|(_, text)| text.artifact == artifact);
        let acknowledged = texts.filter(|(_, text)| text.state == State::Acknowledged);
        let newest = acknowledged.max_by_key(|(_, text)| text.order);
        let Some((content, text)) = newest.map(|(content, text)| (content.clone(), text.clone()))
        else {
            return;
        };
        if text.order.0 <= self.deleted[artifact] || !self.is_simple(artifact) {
            return;
        }
        for place in 0..3 {
            let order = self.order_at(place, artifact);
            // Without repair, backups may miss the contents of several mounts and other tools'
            // deletions.
            if place == 0 || repaired || self.is_simple(artifact) {
                self.must(order.is_some_and(|order| order.1 >= text.order.0), || {
                    format!(
                        "what was acknowledged is never lost: store {place} has not got {content:?}"
                    )
                });
            }
        }
    }

    /// Tells whether only one mount has pushed the artifact, without a deletion or other tools, and
    /// still has its journal: that alone knows all that its pushes have replaced.
    fn is_alone(&self, artifact: usize) -> bool {
        let texts = || self.texts.values().filter(|text| text.artifact == artifact);
        let first = texts().next().and_then(|text| text.mount);
        let alone =
            |text: &Text| text.actor != Actor::Hand && text.mount == first && !text.forgotten;
        texts().all(alone) && self.deleted[artifact] == 0
    }

    /// Tells whether no push can be a conflict. A push that has failed, or whose mount was killed, and
    /// that the registry has all the same, is another writer's.
    pub(super) fn is_simple(&self, artifact: usize) -> bool {
        let there = self.stores[0].objects.get(KEYS[artifact]);
        let there = there.and_then(|there| self.texts.get(&there.content));
        let is_unknown =
            there.is_some_and(|text| matches!(text.state, State::InDoubt | State::Failed));
        self.is_alone(artifact) && !is_unknown
    }

    /// Every target holds the same bytes. Without repair, a failed push that reached some targets
    /// may stay on those alone until the next push.
    fn must_be_alike(&mut self, artifact: usize, repaired: bool) {
        let contents: Vec<_> = (0..3)
            .map(|place| {
                let object = self.stores[place].objects.get(KEYS[artifact]);
                object.map(|object| object.content.clone())
            })
            .collect();
        let alike = contents.iter().all(|content| *content == contents[0]);
        let mut failed = contents.iter().flatten();
        let failed = failed.any(|content| self.texts[content].state == State::Failed);
        let simple = self.is_simple(artifact);
        let registry = contents[0].clone();
        let mut backups = contents[1..].iter().flatten();
        // A backup keeps a push that the registry's content is not based on.
        let behind = backups.any(|content| {
            registry
                .as_ref()
                .is_some_and(|registry| self.descends(registry, content))
        });
        // A push over the registry's content, or of an artifact that it lacks, is given to it.
        let over = contents[1..]
            .iter()
            .flatten()
            .any(|content| match &registry {
                Some(registry) => self.bases.get(content) == Some(&Some(Sha256::of(registry))),
                None => self.deleted[artifact] == 0,
            });
        let apart = !simple && !behind && !over;
        let unrepaired = !repaired && (failed || !self.is_alone(artifact));
        self.must(alike || apart || unrepaired, || {
            format!("every target holds the same bytes: {contents:?}")
        });
        let last = self
            .deletions
            .iter()
            .filter(|deletion| deletion.artifact == artifact);
        let last = last.max_by_key(|deletion| deletion.ended).copied();
        let mut texts = self.texts.values().filter(|text| text.artifact == artifact);
        if let Some(last) = last
            && texts.all(|text| {
                // A deletion names what the registry held then, and deletes no other push.
                let was_there = text.landed[0].is_some_and(|landed| landed < last.begun);
                let own = text.mount == Some(last.mount);
                (own || (repaired && was_there))
                    && text.ended.is_some_and(|ended| ended < last.begun)
            })
        {
            // Without the journal, nobody knows that an old content in a backup is an ancestor of the
            // deleted one: it stays there, as a conflict.
            let mut texts = self.texts.values();
            let is_unknown = texts.any(|text| text.artifact == artifact && text.forgotten);
            let checked = if is_unknown { 1 } else { 3 };
            self.must(contents[..checked].iter().all(Option::is_none), || {
                format!("what was deleted stays deleted: {contents:?}")
            });
        }
    }
}
