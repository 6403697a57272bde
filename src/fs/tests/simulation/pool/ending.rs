//! The expected state after every fault has ended, and each machine has mounted each registry.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::schedule::STORES;
use super::truth::{KEY, Truth};
use crate::model::Sha256;

impl Truth {
    /// Returns the contents that a store keeps as versions: those of conflicts.
    fn versions(&self, place: usize) -> Vec<Bytes> {
        let store = &self.stores[place];
        let keys = store.keys().into_iter();
        let versions = keys.filter(|key| key.contains("/versions/"));
        versions.filter_map(|key| store.content(&key)).collect()
    }

    /// Checks the stores after all faults have ended, and each machine has mounted each registry.
    /// `repaired`: the mounts have also compared the targets. `kept`: the failed pushes that are
    /// kept anywhere.
    pub(super) fn ended(&mut self, repaired: bool, kept: &BTreeSet<Sha256>) {
        for registry in 0..2 {
            let of_it = self.texts.values();
            let of_it: Vec<_> = of_it
                .filter(|text| text.registry == Some(registry))
                .collect();
            let machines: BTreeSet<_> = of_it.iter().filter_map(|text| text.machine).collect();
            let mut of_it = of_it.iter();
            let is_whole = of_it.all(|text| text.is_acknowledged && !text.is_partial);
            // Only the registry can tell a forged content, or which of two writers' contents in its
            // backups is based on the other. Once it was wiped, the newest counts.
            let is_guess = self.is_forged[registry] || machines.len() > 1;
            if self.removed[registry] || (self.is_wiped[registry] && is_guess) {
                continue;
            }
            let own = |place: &usize| self.owners[*place] == Some(registry);
            let stores: Vec<usize> = (0..STORES).filter(own).collect();
            let held = stores.iter().map(|&place| self.stores[place].content(KEY));
            let held: Vec<Option<Bytes>> = held.collect();
            let acknowledged = self.texts.iter().filter(|(_, text)| {
                text.registry == Some(registry) && text.is_acknowledged && !text.is_lost
            });
            let texts = self.texts.keys();
            let unpushed = texts.filter(|text| kept.contains(&Sha256::of(text)));
            let versions = stores.iter().flat_map(|&place| self.versions(place));
            let versions: Vec<Bytes> = versions.collect();
            let there = held.iter().flatten().chain(unpushed).chain(&versions);
            let there: Vec<&Bytes> = there.collect();
            let nowhere = acknowledged.map(|(content, _)| content).find(|content| {
                let mut there = there.iter();
                !there.any(|held| held == content || self.descends(held, content))
            });
            let nowhere = nowhere.cloned();
            self.must(nowhere.is_none(), || {
                format!("what was acknowledged is somewhere in the end: {nowhere:?}")
            });
            // A conflict stays until somebody decides, and keeps the bytes.
            let conflicts =
                |content: &Bytes| held[0].is_some() && kept.contains(&Sha256::of(content));
            let alike = held
                .iter()
                .all(|content| *content == held[0] || content.as_ref().is_some_and(conflicts));
            let is_simple = machines.len() < 2
                && !self.is_wiped[registry]
                && !self.is_forged[registry]
                && (repaired || is_whole);
            self.must(alike || !is_simple, || {
                format!("every store of registry {registry} holds the same: {held:?}")
            });
        }
    }
}
