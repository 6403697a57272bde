//! The valid answers of a read.

use bytes::Bytes;

use super::truth::{KEYS, SECOND, State, Text, Time, Truth, show};
use crate::fs::Error;
use crate::store::{Fault, Kind};

/// The time that a mount may rely on its last answer: the TTL of 1 s, and 0.2 s for a listing in
/// flight.
const TTL: Time = SECOND * 6 / 5;

/// The expected state when a read began.
#[derive(Debug, Clone, Copy)]
pub(super) struct BegunRead {
    pub(super) mount: usize,
    pub(super) artifact: usize,
    begun: Time,
    high_water: Time,
    present: bool,
    pub(super) touched: bool,
    epoch: u64,
    quiet: bool,
}

impl Truth {
    pub(super) fn begin_read(&self, mount: usize, artifact: usize) -> BegunRead {
        let view = &self.views[mount];
        BegunRead {
            mount,
            artifact,
            begun: self.now(),
            high_water: view.high_water[artifact],
            present: view.present[artifact],
            touched: view.touched[artifact],
            epoch: self.epochs[artifact],
            quiet: self.is_quiet(artifact),
        }
    }

    /// Tells whether no push, deletion or lie is in progress, and no fault has changed lately.
    pub(super) fn is_quiet(&self, artifact: usize) -> bool {
        let since = self.stores.iter().map(|store| store.since).max();
        self.pushing[artifact] == 0
            && !self.is_deleting(artifact)
            && !self.is_lied_to()
            && since.is_none_or(|since| since == 0 || since + TTL <= self.now())
    }

    /// Tells whether no event since the start of the read has invalidated the mount's knowledge.
    fn holds_still(&self, begun: &BegunRead) -> bool {
        let artifact = begun.artifact;
        begun.epoch == self.epochs[artifact] && !self.is_deleting(artifact) && !self.is_lied_to()
    }

    /// A read has ended. `owes`: this mount's journal holds a push of the artifact.
    pub(super) fn end_read(
        &mut self,
        begun: &BegunRead,
        result: &Result<Bytes, Error>,
        owes: bool,
    ) {
        let BegunRead {
            mount, artifact, ..
        } = *begun;
        let still = self.holds_still(begun);
        self.log(|| {
            let shown = result.as_ref().map(|content| show(content));
            format!("mount {mount} reads {}: {shown:?}", KEYS[artifact])
        });
        match result {
            Ok(content) => self.read_content(begun, content, still),
            Err(Error::NotFound) if still => {
                self.must(!begun.present, || {
                    format!(
                        "what mount {mount} has acknowledged or served is never lost: no {}",
                        KEYS[artifact]
                    )
                });
                let view = &mut self.views[mount];
                if !view.present[artifact] {
                    view.high_water[artifact] = 0;
                }
            }
            Err(Error::NotFound) => {}
            Err(error) => {
                self.must(*error != Error::Stale || !still, || {
                    "a read is never stale".into()
                });
                if begun.quiet && still {
                    self.should_have_succeeded(begun, *error);
                }
            }
        }
        if begun.quiet && self.is_quiet(artifact) && still {
            self.check_answers(begun, result, owes);
        }
    }

    fn read_content(&mut self, begun: &BegunRead, content: &Bytes, still: bool) {
        let BegunRead {
            mount, artifact, ..
        } = *begun;
        let touched = begun.touched || self.views[mount].touched[artifact];
        if content.is_empty() && touched {
            self.must(!still || !begun.present, || {
                "what is there is never read as empty".into()
            });
            return;
        }
        let Some(text) = self
            .texts
            .get(content)
            .filter(|text| text.artifact == artifact)
            .cloned()
        else {
            self.must(false, || {
                format!("no content is read that nobody wrote: {content:?}")
            });
            return;
        };
        if !still {
            return;
        }
        // After a conflict the registry's content counts, which is no ancestor of the push that was
        // served before.
        let is_apart = !self.is_simple(artifact) && {
            let mut texts = self.texts.iter();
            let before = texts.find(|(_, before)| {
                before.artifact == artifact && before.order.0 == begun.high_water
            });
            before.is_some_and(|(before, _)| !self.descends(before, content))
        };
        self.must(text.order.1 >= begun.high_water || is_apart, || {
            format!(
                "mount {mount} never goes back in time: it reads {content:?} after something newer"
            )
        });
        let settled = text.landed[0].is_some() && text.order.0 > self.deleted[artifact];
        let view = &mut self.views[mount];
        view.high_water[artifact] = match is_apart {
            true => text.order.0,
            false => view.high_water[artifact].max(text.order.0),
        };
        // If only a backup and another mount's journal have the content, the registry reports it as
        // deleted.
        view.present[artifact] |= settled;
    }

    fn texts_of(&self, artifact: usize) -> impl Iterator<Item = &Text> {
        let all = self.texts.values();
        all.filter(move |text| text.artifact == artifact)
    }

    /// Tells whether a store answers, and soon.
    fn is_well(&self, place: usize) -> bool {
        match self.stores[place].fault {
            None | Some(Fault::FailWrites(_) | Fault::LoseReplies | Fault::FailHeads(_)) => true,
            Some(Fault::Slow(time)) => time.as_millis() <= 100,
            _ => false,
        }
    }

    /// A read succeeds if any target with the newest content can answer, and the registry doesn't
    /// refuse.
    fn should_have_succeeded(&mut self, begun: &BegunRead, error: Error) {
        let BegunRead {
            mount, artifact, ..
        } = *begun;
        let is_outage = match self.stores[0].fault {
            Some(Fault::Fail(kind) | Fault::FailReads(kind)) => {
                matches!(kind, Kind::StoreMissing | Kind::Unreachable | Kind::Busy)
            }
            Some(Fault::Hang | Fault::Corrupt) => true,
            _ => false,
        };
        let newest = self.texts_of(artifact).map(|text| text.order.1).max();
        let mut places = 0..3;
        let can = places.any(|place| {
            let order = self.order_at(place, artifact);
            self.is_well(place) && order.is_some_and(|order| Some(order.0) >= newest)
        });
        let allowed = self.is_well(0) || is_outage;
        // A name known only from a failed push returns that error.
        let blank = self.views[mount].erred[artifact] && !begun.present;
        // Content missing in the registry may be a deletion that a backup has missed.
        let there = self.order_at(0, artifact).is_some();
        let holds = !(can && allowed && there && self.is_quiet(artifact) && !blank);
        self.must(holds, || {
            format!(
                "a read by mount {mount} succeeds if a target that has it can answer: {error:?}"
            )
        });
    }

    /// The registry's answer is final: the mount asks no backup.
    fn check_answers(&mut self, begun: &BegunRead, result: &Result<Bytes, Error>, owes: bool) {
        let BegunRead {
            mount, artifact, ..
        } = *begun;
        let has_content = result.as_ref().is_ok_and(|content| !content.is_empty());
        if let Some(Fault::Fail(kind @ (Kind::Denied | Kind::Invalid | Kind::NoSpace))) =
            self.stores[0].fault
        {
            self.must(!has_content || owes, || {
                format!(
                    "a registry that refuses ({}) is no fallback for mount {mount}",
                    kind.as_str()
                )
            });
        }
        let absent = !self.stores[0].objects.contains_key(KEYS[artifact])
            && self.absent_since[artifact].saturating_add(TTL) <= begun.begun;
        // Slower than `--hedge`, the registry is not waited for, and only it reports a deletion.
        let is_hedged = matches!(self.stores[0].fault, Some(Fault::Slow(_)));
        // A tombstone names what was pushed before; without one that names it, the registry has lost it.
        let deletion = self.deleted_by_mount[artifact];
        let mut pushed = self.texts.values().filter(|it| it.artifact == artifact);
        let is_deleted = deletion > 0
            && deletion >= self.deleted[artifact]
            && pushed.all(|it| {
                it.ended
                    .is_some_and(|ended| ended <= self.absent_since[artifact])
            });
        if absent && is_deleted && self.is_well(0) && !is_hedged && !owes {
            self.must(!has_content, || {
                format!("what the registry has not got is not there, and mount {mount} reads it")
            });
        }
    }

    /// A handle reads the content of its open.
    pub(super) fn read_again(&mut self, first: &Bytes, again: &Bytes) {
        self.must(first == again, || {
            "a reader keeps what it has opened".into()
        });
    }

    /// A look-up of a name has ended; `there`: the mount has found it.
    pub(super) fn seen(&mut self, begun: &BegunRead, there: bool) {
        let (mount, artifact) = (begun.mount, begun.artifact);
        let holds = there || !self.holds_still(begun) || !begun.present;
        self.must(holds, || {
            format!(
                "the name of what mount {mount} has acknowledged or served stays: {}",
                KEYS[artifact]
            )
        });
    }

    /// A mount was killed, and starts again: it knows the pending pushes of its journal, unless the
    /// journal is `lost`.
    pub(super) fn restarted(&mut self, mount: usize, lost: bool) {
        let now = self.now();
        for text in self.texts.values_mut() {
            if text.mount == Some(mount) && text.state == State::Closing {
                text.state = State::InDoubt;
                text.ended = Some(now);
                self.pushing[text.artifact] -= 1;
            }
        }
        let killed: Vec<usize> = self
            .deleting
            .extract_if(.., |(by, ..)| *by == mount)
            .map(|(_, what, _)| what)
            .collect();
        killed.into_iter().for_each(|artifact| {
            self.asked_to_delete[artifact] = now;
            self.forget(artifact);
        });
        self.views[mount] = Default::default();
        let own = self.texts.values_mut();
        own.filter(|text| text.mount == Some(mount))
            .for_each(|text| text.forgotten |= lost);
        for artifact in 0..2 {
            let owed = self.texts_of(artifact).filter(|text| {
                let missed = |place| {
                    let newer = self
                        .order_at(place, artifact)
                        .is_some_and(|order| order.0 >= text.order.0);
                    text.landed[place].is_none() && !newer
                };
                text.mount == Some(mount)
                    && !text.forgotten
                    && text.state == State::Acknowledged
                    && text.order.0 > self.deleted[artifact]
                    && (0..3).any(missed)
            });
            let high_water = owed.map(|text| text.order.0).max();
            let present = high_water.is_some() && !self.is_lied_to();
            let view = &mut self.views[mount];
            view.high_water[artifact] = high_water.unwrap_or(0);
            view.present[artifact] = present;
        }
    }
}
