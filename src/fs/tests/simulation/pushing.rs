//! The valid outcomes of a push, a close and a deletion.

use bytes::Bytes;

use super::truth::{Actor, Deletion, KEYS, Object, SECOND, State, Text, Time, Truth, View, Writer};
use crate::fs::Error;
use crate::model::Stamp;
use crate::registry::Durability;

/// The result of a close, and the state of the mount at that moment.
pub(super) struct Told {
    pub(super) result: Result<(), Error>,
    /// The bytes are in `unpushed`.
    pub(super) kept: bool,
    /// A breaker was open meanwhile: the mount relies on earlier results for that target.
    pub(super) skips: bool,
    pub(super) durability: Durability,
}

impl Truth {
    /// A program starts to open a handle for writing.
    pub(super) fn opening(&mut self, mount: usize, artifact: usize) -> usize {
        let now = self.now();
        self.writers.push(Writer {
            mount,
            artifact,
            opened: (now, now),
            high_water: self.views[mount].high_water[artifact],
            base: None,
        });
        self.writers.len() - 1
    }

    /// The open has ended; `base` is the content that it has read.
    pub(super) fn opened(&mut self, writer: usize, base: Option<Bytes>) {
        self.writers[writer].opened.1 = self.now();
        self.writers[writer].base = base;
    }

    /// A close begins.
    pub(super) fn closing(&mut self, writer: usize, content: &Bytes) {
        let now = self.now();
        let Writer {
            mount,
            artifact,
            ref base,
            ..
        } = self.writers[writer];
        let text = Text {
            artifact,
            actor: Actor::Writer(writer),
            mount: Some(mount),
            order: (now, Time::MAX),
            landed: [None; 3],
            base: base.clone(),
            forgotten: false,
            state: State::Closing,
            ended: None,
        };
        self.log(|| format!("mount {mount} closes writer {writer}: {content:?}"));
        self.texts.entry(content.clone()).or_insert(text).state = State::Closing;
        self.pushing[artifact] += 1;
    }

    /// A close returns.
    pub(super) fn closed(&mut self, writer: usize, content: &Bytes, told: Told) {
        let Told {
            result,
            kept,
            skips,
            durability,
        } = told;
        let now = self.now();
        let Writer {
            mount,
            artifact,
            opened,
            ..
        } = self.writers[writer];
        self.log(|| format!("mount {mount} has closed writer {writer}: {result:?} {content:?}"));
        self.pushing[artifact] -= 1;
        let begun = self.texts[content].order.0;
        match result {
            Ok(()) => self.check_durable(content, durability),
            Err(error) => {
                self.must(kept, || {
                    format!("the bytes of a failed close ({error:?}) are kept")
                });
                self.check_failure(writer, content, error, skips);
            }
        }
        let deleted = self.deleted[artifact];
        let is_deleting = self.is_deleting(artifact) || self.is_lied_to();
        let text = self.texts.get_mut(content).unwrap();
        text.ended = Some(now);
        text.state = match result {
            Ok(()) => State::Acknowledged,
            Err(_) => State::Failed,
        };
        let order = text.order.0;
        let view = &mut self.views[mount];
        if result.is_err() {
            view.erred[artifact] = true;
            return;
        }
        view.touched[artifact] = false;
        view.erred[artifact] = false;
        if order > deleted && !is_deleting {
            view.high_water[artifact] = view.high_water[artifact].max(order);
            view.present[artifact] = true;
        }
        let writer = &mut self.writers[writer];
        writer.opened = (opened.0.max(begun.min(now)), now);
        writer.high_water = order;
        writer.base = Some(content.clone());
    }

    /// Close never lies: the bytes, or newer ones, have reached the targets that `--durability`
    /// names.
    fn check_durable(&mut self, content: &Bytes, durability: Durability) {
        let text = self.texts[content].clone();
        let has = |truth: &Truth, place: usize| {
            let newer = truth.order_at(place, text.artifact);
            text.landed[place].is_some() || newer.is_some_and(|newer| newer.0 > text.order.1)
        };
        let places: Vec<usize> = (0..3).filter(|&place| has(self, place)).collect();
        let holds = match durability {
            Durability::Any => !places.is_empty(),
            Durability::Registry => places.contains(&0),
            Durability::All => places.len() == 3,
        };
        self.must(holds, || {
            format!(
                "close never lies: {content:?} is on {places:?}, and --durability is {durability}"
            )
        });
    }

    fn check_failure(&mut self, writer: usize, content: &Bytes, error: Error, skips: bool) {
        let Writer {
            mount,
            artifact,
            opened,
            high_water,
            ..
        } = self.writers[writer];
        let all_well = self.stores.iter().all(|store| store.fault.is_none());
        let since = self
            .stores
            .iter()
            .map(|store| store.since)
            .max()
            .unwrap_or(0);
        let calm = all_well && !skips && !self.slow_disk && since + 2 * SECOND < opened.0;
        if error != Error::Stale {
            self.must(!calm, || {
                format!("a push succeeds when every target is well: {error:?}")
            });
            return;
        }
        // A store that wrongly reports content as missing or changed causes false conflicts.
        let lied = self.lied.is_some_and(|at| at + 6 * SECOND >= opened.0) || self.is_lied_to();
        let at = self.deleted[artifact];
        let deleted = at >= opened.0 || at > high_water || self.is_deleting(artifact);
        // A handle also learns too late about content unknown to its own mount: content that landed
        // before the open, and that the mount neither served nor acknowledged. A push that failed,
        // as far as its close could tell, is such content.
        let there = self.stores[0].objects.get(KEYS[artifact]);
        let there = there.map(|object| &object.content);
        let somebody = self.texts.iter().any(|(content, text)| {
            // Content put there by hand during an outage must not be replaced unread.
            let by_hand = text.actor == Actor::Hand && there == Some(content);
            let mut landed = text.landed.iter().flatten();
            let since = match text.mount == Some(mount) && !text.forgotten {
                true => text.landed_first() >= Some(opened.0),
                // Another mount's journal may bring the content to the registry at any time. The
                // listing behind an open may be as old as the TTL, or as an outage. If only the
                // backups have the content, the registry reports it as deleted.
                false => {
                    landed.any(|landed| *landed + 3 * SECOND >= opened.0)
                        || (text.landed[0].is_none() && text.landed_first().is_some())
                }
            };
            let untold = text.landed_first().is_some() && text.order.1 > high_water;
            text.artifact == artifact
                && text.actor != Actor::Writer(writer)
                && (since || untold || by_hand)
        });
        let by_hand = self.hand_lost[artifact] >= opened.0;
        self.must(lied || deleted || somebody || by_hand, || {
            format!(
                "a conflict means that somebody else has changed it: mount {mount}, {content:?}"
            )
        });
    }

    /// A content is about to replace another one in a store.
    pub(super) fn check_put(
        &mut self,
        place: usize,
        artifact: usize,
        content: &Bytes,
        replaced: Option<&Object>,
        mount: Option<usize>,
    ) {
        let Some(mount) = mount else {
            return;
        };
        let Some(text) = self.texts.get(content).cloned() else {
            self.must(false, || {
                format!("nobody has written what is pushed: {content:?}")
            });
            return;
        };
        let never_made = text.state == State::Failed && text.landed_first().is_none();
        self.must(!never_made, || {
            format!("a failed push is made by nobody: {content:?} comes to store {place}")
        });
        let ended = text.ended.unwrap_or(Time::MAX);
        let mut deletions = self.deletions.iter();
        // Another mount's journal doesn't know of the deletion; only tombstones tell it, later.
        let resurrected = deletions.any(|deletion| {
            deletion.artifact == artifact && deletion.mount == mount && deletion.begun > ended
        });
        self.must(!resurrected, || {
            format!("what was deleted stays deleted: {content:?} comes back in store {place}")
        });
        let Some(old) = replaced
            .and_then(|object| self.texts.get(&object.content))
            .cloned()
        else {
            return;
        };
        let is_newer = old.order.0 > text.order.1;
        // A close sends the backups what the registry has accepted, without a check for contents of
        // other mounts there. Only a later repair aligns the backups of two mounts.
        let own = old.mount == Some(mount);
        // A push goes to the registry first. If the content comes there later, reconcile has found it
        // elsewhere, perhaps while its close was still under way.
        let is_found = text.mount != Some(mount) || (place == 0 && text.landed_first().is_some());
        let is_retried = text.state != State::Closing || is_found;
        self.must(!is_newer || !(own || is_retried), || {
            format!(
                "nothing newer is overwritten: store {place} loses a newer one than {content:?}"
            )
        });
        let old_content = replaced
            .map(|object| object.content.clone())
            .unwrap_or_default();
        // The retried close of one handle replaces its own failed push.
        // The base of a push over a listed content that could not be read is unknown.
        let is_over = old.actor == text.actor
            || !self.bases.contains_key(content)
            || self.descends(content, &old_content);
        self.must(place != 0 || !is_retried || is_over, || {
            format!(
                "the registry gets {content:?} only over its base, and not over {old_content:?}"
            )
        });
        if place != 0 || is_retried || old.actor == text.actor {
            return;
        }
        let Actor::Writer(writer) = text.actor else {
            return;
        };
        let opened = self.writers[writer].opened.1;
        // The journal of a killed mount knows the content in flight as the newest.
        let known = own && old.ended.is_some_and(|ended| ended < opened);
        let unseen = !known && old.landed_first().is_some_and(|landed| landed > opened);
        let base = text.base.as_ref().and_then(|base| self.texts.get(base));
        let newer_than_base = base.is_some_and(|base| old.order.0 > base.order.1);
        // The registry missed the newest content of the mount in an outage, and got an older one
        // since. Stamps order the two, as they would for a replay.
        let high_water = self.writers[writer].high_water;
        let mut texts = self.texts.values();
        let is_behind = old.order.1 < high_water
            && texts.any(|text| text.order.0 == high_water && text.landed[0].is_none());
        self.must((!unseen || is_behind) && !newer_than_base, || {
            format!("of two writers one wins: {content:?} of mount {mount} replaces what it was not opened on")
        });
    }

    /// Another tool puts a content into the registry.
    pub(super) fn place(&mut self, artifact: usize) {
        let now = self.now();
        let content = self.fresh(artifact, b"");
        let text = Text {
            artifact,
            actor: Actor::Hand,
            mount: None,
            order: (now, now),
            landed: [None; 3],
            base: None,
            forgotten: false,
            state: State::Placed,
            ended: Some(now),
        };
        self.texts.insert(content.clone(), text);
        let stamp: Option<Stamp> = None;
        self.put(0, KEYS[artifact], content, stamp, None);
    }

    /// A deletion begins.
    pub(super) fn deleting(&mut self, mount: usize, artifact: usize) {
        let now = self.now();
        self.deleting.push((mount, artifact, now));
        self.forget(artifact);
    }

    /// A deletion returns.
    pub(super) fn deleted(
        &mut self,
        mount: usize,
        artifact: usize,
        begun: Time,
        result: Result<(), Error>,
    ) {
        let now = self.now();
        self.log(|| format!("mount {mount} has removed {}: {result:?}", KEYS[artifact]));
        self.deleting
            .retain(|deletion| *deletion != (mount, artifact, begun));
        // The mount removes local files, and names that it knows as absent, without a request to a
        // target.
        let asked = self.deleted_by_mount[artifact] >= begun;
        self.asked_to_delete[artifact] = now;
        self.forget(artifact);
        let view: &mut View = &mut self.views[mount];
        view.touched[artifact] &= view.touched_at[artifact] >= begun;
        // A failed deletion leaves the error of an earlier push, and its name.
        view.erred[artifact] &= result.is_err();
        if result.is_err() || !asked {
            return;
        }
        self.deletions.push(Deletion {
            mount,
            artifact,
            begun,
            ended: now,
        });
        let newer = |object: &Object| {
            let text = self.texts.get(&object.content);
            text.is_some_and(|text| text.landed.iter().flatten().any(|landed| *landed >= begun))
        };
        let left = self.stores[0].objects.get(KEYS[artifact]);
        let gone = left.is_none_or(newer);
        self.must(gone, || {
            format!(
                "what is deleted, the registry has not got: {}",
                KEYS[artifact]
            )
        });
    }
}
