//! The expected state after every fault has ended and no push is pending.

use super::truth::{Actor, KEYS, State, Text, Truth};

impl Truth {
    /// Checks the stores after all faults have ended and every journal has been replayed.
    /// `repaired`: the mounts have also compared the targets.
    pub(super) fn ended(&mut self, repaired: bool) {
        for artifact in 0..2 {
            self.must_hold_the_newest(artifact, repaired);
            self.must_be_alike(artifact, repaired);
        }
    }

    /// The registry holds the newest acknowledged content, or a newer one. Only a deletion may
    /// remove it. Stamps order the contents of several mounts.
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
        if text.order.0 <= self.deleted[artifact] {
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

    /// Tells whether only one mount has pushed the artifact, without a deletion or other tools.
    fn is_simple(&self, artifact: usize) -> bool {
        let texts = || self.texts.values().filter(|text| text.artifact == artifact);
        let first = texts().next().and_then(|text| text.mount);
        let alone = |text: &Text| text.actor != Actor::Hand && text.mount == first;
        texts().all(alone) && self.deleted[artifact] == 0
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
        self.must(alike || (!repaired && (failed || !simple)), || {
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
                let own = text.mount == Some(last.mount);
                (own || repaired) && text.ended.is_some_and(|ended| ended < last.begun)
            })
        {
            self.must(contents.iter().all(Option::is_none), || {
                format!("what was deleted stays deleted: {contents:?}")
            });
        }
    }
}
