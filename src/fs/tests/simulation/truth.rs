//! The expected state: the contents of the stores, their writers and times, and the answers to each
//! mount.
//!
//! The reference model is a set of facts, each with the time from which it is true. The rules in
//! `reading`, `pushing` and `ending` are sentences over these facts. Where the contract promises
//! nothing, a rule says so and accepts any outcome.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::Instant;

use super::random::Random;
use crate::model::{Base, MAX_AHEAD, Sha256, Stamp};
use crate::store::{Fault, Kind};

/// Nanoseconds since the epoch, by the simulated clock.
pub(super) type Time = u64;

pub(super) const SECOND: Time = 1_000_000_000;
const BEGINNING: Time = 1_726_000_000 * SECOND;

/// Tells whether a store wrongly reports objects as missing or changed.
fn lies(fault: Option<Fault>) -> bool {
    use Fault::{Fail, FailHeads, FailReads, FailWrites};
    let kind = match fault {
        Some(Fail(kind) | FailHeads(kind) | FailReads(kind) | FailWrites(kind)) => kind,
        _ => return false,
    };
    matches!(kind, Kind::NotFound | Kind::Conflict)
}

pub(super) fn time_of(time: Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(time)
}

pub(super) fn show(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(content);
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.first() {
        Some(&"plan") => text
            .replace("plan \"p1\" {\n  from      = \"a\"\n  to        = ", "p1 ")
            .replace("\n  migration = \"x\"\n}", ""),
        _ => text.into_owned(),
    }
    .replace('\n', " ")
}

/// The keys of the artifacts, which are also their paths.
pub(super) const KEYS: [&str; 2] = ["app/schema", "app/plans/p1"];

#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) content: Bytes,
    pub(super) stamp: Option<Stamp>,
    pub(super) token: u64,
    pub(super) modified: Time,
}

/// The content of one store.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) objects: BTreeMap<String, Object>,
    pub(super) fault: Option<Fault>,
    /// The start of the present fault.
    pub(super) since: Time,
    pub(super) lists_stamps: bool,
    tokens: u64,
}

impl Shelf {
    fn put(&mut self, key: &str, content: Bytes, stamp: Option<Stamp>, now: Time) -> u64 {
        self.tokens += 1;
        let object = Object {
            content,
            stamp,
            token: self.tokens,
            modified: now,
        };
        self.objects.insert(key.into(), object);
        self.tokens
    }
}

/// The origin of a change of an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Actor {
    /// A handle.
    Writer(usize),
    /// A person with the provider's own tools.
    Hand,
}

/// A written content. No two are the same.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) artifact: usize,
    pub(super) actor: Actor,
    pub(super) mount: Option<usize>,
    /// The position in the order of contents: the stamp's time. A range until a store has been
    /// asked to take the content, and if it was pushed with two stamps.
    pub(super) order: (Time, Time),
    /// The time at which each store first had it.
    pub(super) landed: [Option<Time>; 3],
    /// The content that its handle has read.
    pub(super) base: Option<Bytes>,
    /// The journal that held the push is gone.
    pub(super) forgotten: bool,
    pub(super) state: State,
    /// The time at which its close returned, or its mount was killed.
    pub(super) ended: Option<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its close is in progress.
    Closing,
    /// Its close has reported success.
    Acknowledged,
    /// Its close has reported an error.
    Failed,
    /// Its mount was killed during the close.
    InDoubt,
    /// Put into a store by hand.
    Placed,
}

impl Text {
    pub(super) fn landed_first(&self) -> Option<Time> {
        self.landed.iter().flatten().min().copied()
    }
}

/// An open handle for writing.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) mount: usize,
    pub(super) artifact: usize,
    /// The times at which its open began and ended; later, those of its last successful close.
    pub(super) opened: (Time, Time),
    /// The high-water mark of the mount when the open began.
    pub(super) high_water: Time,
    pub(super) base: Option<Bytes>,
}

/// The answers to a mount since its start.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// The order of the newest content that the mount has served or acknowledged, or that is
    /// pending.
    pub(super) high_water: [Time; 2],
    /// The mount must not report the artifact as absent.
    pub(super) present: [bool; 2],
    pub(super) touched: [bool; 2],
    /// When a program last touched the name.
    pub(super) touched_at: [Time; 2],
    pub(super) erred: [bool; 2],
}

/// A deletion that was answered with success.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deletion {
    pub(super) mount: usize,
    pub(super) artifact: usize,
    pub(super) begun: Time,
    pub(super) ended: Time,
}

#[derive(Debug)]
pub(super) struct Truth {
    begun: Instant,
    pub(super) network: Random,
    pub(super) stores: [Shelf; 3],
    pub(super) texts: BTreeMap<Bytes, Text>,
    pub(super) writers: Vec<Writer>,
    pub(super) views: Vec<View>,
    pub(super) deletions: Vec<Deletion>,
    /// Counts the events that invalidate every mount's knowledge of an artifact.
    pub(super) epochs: [u64; 2],
    /// Deletions in progress: the mount, the artifact and the start.
    pub(super) deleting: Vec<(usize, usize, Time)>,
    pub(super) pushing: [usize; 2],
    /// The time of the artifact's last deletion from any store, by a mount or another tool.
    pub(super) deleted: [Time; 2],
    /// The time of the artifact's last deletion from any store by a mount.
    pub(super) deleted_by_mount: [Time; 2],
    /// The end of the artifact's last deletion that a program asked for: it succeeded, or failed, or
    /// its mount was killed.
    pub(super) asked_to_delete: [Time; 2],
    /// The time from which the registry lacks the artifact.
    pub(super) absent_since: [Time; 2],
    /// The time at which the registry last lost a content that was put there by hand.
    pub(super) hand_lost: [Time; 2],
    /// The last time that a store began or ended to report objects wrongly as missing or changed.
    pub(super) lied: Option<Time>,
    /// How far each mount's clock is ahead, in seconds.
    pub(super) ahead: [i64; 3],
    /// This machine's disk hangs, or has hung: pushes may fail although every target would accept
    /// them.
    pub(super) slow_disk: bool,
    /// The content that each pushed content has named as its base, unless that is unknown.
    pub(super) bases: BTreeMap<Bytes, Option<Sha256>>,
    pub(super) violation: Option<String>,
    pub(super) trace: Option<Vec<String>>,
    written: usize,
}

/// The expected state, shared.
#[derive(Debug)]
pub(super) struct Sim(Mutex<Truth>);

impl Sim {
    pub(super) fn new(seed: u64, mounts: usize, lists_stamps: [bool; 3], trace: bool) -> Self {
        Self(Mutex::new(Truth {
            begun: Instant::now(),
            network: Random::new(seed ^ 0xdead_beef),
            stores: lists_stamps.map(|lists_stamps| Shelf {
                lists_stamps,
                ..Shelf::default()
            }),
            texts: BTreeMap::new(),
            writers: Vec::new(),
            views: vec![View::default(); mounts],
            deletions: Vec::new(),
            epochs: [0; 2],
            deleting: Vec::new(),
            pushing: [0; 2],
            deleted: [0; 2],
            deleted_by_mount: [0; 2],
            asked_to_delete: [0; 2],
            absent_since: [0; 2],
            hand_lost: [0; 2],
            lied: None,
            ahead: [0; 3],
            slow_disk: false,
            bases: BTreeMap::new(),
            violation: None,
            trace: trace.then(Vec::new),
            written: 0,
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Truth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Truth {
    pub(super) fn now(&self) -> Time {
        BEGINNING + self.begun.elapsed().as_nanos() as Time
    }

    pub(super) fn log(&mut self, line: impl FnOnce() -> String) {
        let at = (self.now() - BEGINNING) as f64 / SECOND as f64;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{at:9.3} {}", line()));
        }
    }

    /// Records a violation if a sentence is not true.
    pub(super) fn must(&mut self, holds: bool, sentence: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            let sentence = sentence();
            self.log(|| format!("VIOLATED: {sentence}"));
            self.violation = Some(sentence);
        }
    }

    /// Makes a new content, or a new end of an existing one.
    pub(super) fn fresh(&mut self, artifact: usize, before: &[u8]) -> Bytes {
        self.written += 1;
        let n = self.written;
        let text = match (before.is_empty(), artifact) {
            (false, _) => format!("{}# and {n}\n", String::from_utf8_lossy(before)),
            (true, 0) => format!("schema \"w{n}\" {{}}\n"),
            (true, _) => format!(
                "plan \"p1\" {{\n  from      = \"a\"\n  to        = \"w{n}\"\n  migration = \"x\"\n}}\n"
            ),
        };
        text.into()
    }

    /// Returns the time by a mount's clock.
    pub(super) fn clock(&self, mount: usize) -> Time {
        let ahead = self.ahead[mount] * SECOND as i64;
        self.now().saturating_add_signed(ahead)
    }

    /// A mount writes a stamp: no other clock has moved its own.
    pub(super) fn check_stamp(&mut self, mount: usize, stamp: &Stamp) {
        let latest = self.clock(mount) + MAX_AHEAD;
        self.must(stamp.when <= latest, || {
            format!(
                "mount {mount} follows no clock that is wrong: it stamps {}",
                stamp.when
            )
        });
    }

    /// A program opens or closes a name without writing to it.
    pub(super) fn touch(&mut self, mount: usize, artifact: usize) {
        let now = self.now();
        let view = &mut self.views[mount];
        (view.touched[artifact], view.touched_at[artifact]) = (true, now);
    }

    /// Tells whether a content is based on another one, or on one based on that, and so on.
    pub(super) fn descends(&self, content: &Bytes, from: &Bytes) -> bool {
        let (mut at, from) = (content.clone(), Sha256::of(from));
        while let Some(Some(base)) = self.bases.get(&at) {
            if *base == from {
                return true;
            }
            let mut texts = self.texts.keys();
            match texts.find(|text| Sha256::of(text) == *base) {
                Some(text) if *text != at => at = text.clone(),
                _ => return false,
            }
        }
        false
    }

    /// Records the stamp of a content.
    pub(super) fn ordered(&mut self, content: &Bytes, stamp: &Stamp) {
        if stamp.base != Base::Unknown {
            self.bases.insert(content.clone(), stamp.base.content());
        }
        let now = self.now();
        if let Some(text) = self.texts.get_mut(content) {
            text.order = match text.order {
                (_, Time::MAX) => (now, now),
                (first, last) => (first.min(now), last.max(now)),
            };
        }
    }

    /// A content arrives in a store.
    pub(super) fn put(
        &mut self,
        place: usize,
        key: &str,
        content: Bytes,
        stamp: Option<Stamp>,
        mount: Option<usize>,
    ) -> u64 {
        let now = self.now();
        let Some(artifact) = KEYS.iter().position(|known| *known == key) else {
            self.must_keep_version(place, key, Some(&content));
            return self.stores[place].put(key, content, stamp, now);
        };
        let replaced = self.stores[place].objects.get(key).cloned();
        self.log(|| format!("  store {place} takes {content:?} of mount {mount:?}"));
        self.check_put(place, artifact, &content, replaced.as_ref(), mount);
        let by_hand = |object: &Object| self.texts[&object.content].actor == Actor::Hand;
        if place == 0 && replaced.as_ref().is_some_and(by_hand) {
            self.hand_lost[artifact] = now;
        }
        if let Some(text) = self.texts.get_mut(&content) {
            text.landed[place].get_or_insert(now);
        }
        if place == 0 {
            self.absent_since[artifact] = Time::MAX;
        }
        self.stores[place].put(key, content, stamp, now)
    }

    /// A content leaves a store.
    pub(super) fn delete(&mut self, place: usize, key: &str, mount: Option<usize>) {
        let now = self.now();
        let Some(artifact) = KEYS.iter().position(|known| *known == key) else {
            self.must_keep_version(place, key, None);
            self.stores[place].objects.remove(key);
            return;
        };
        self.log(|| format!("  store {place} deletes {key} for mount {mount:?}"));
        let removed = self.stores[place].objects.remove(key);
        self.deleted[artifact] = now;
        if mount.is_some() {
            self.deleted_by_mount[artifact] = now;
        }
        if place == 0 && removed.is_some() {
            self.absent_since[artifact] = now;
        }
        self.forget(artifact);
    }

    /// Invalidates every mount's knowledge of an artifact, because it may have been deleted.
    pub(super) fn forget(&mut self, artifact: usize) {
        self.epochs[artifact] += 1;
        for view in &mut self.views {
            view.high_water[artifact] = 0;
            view.present[artifact] = false;
        }
    }

    pub(super) fn set_fault(&mut self, place: usize, fault: Option<Fault>) {
        let now = self.now();
        let before = self.stores[place].fault;
        self.stores[place].fault = fault;
        if before != fault {
            self.stores[place].since = now;
        }
        if lies(before) || lies(fault) {
            self.lied = Some(now);
            (0..2).for_each(|artifact| self.forget(artifact));
        }
    }

    /// Tells whether a store lies, or has done so just now: the mount may then draw wrong
    /// conclusions.
    pub(super) fn is_lied_to(&self) -> bool {
        let lately = self.lied.is_some_and(|at| self.now() < at + 6 * SECOND);
        lately || self.stores.iter().any(|store| lies(store.fault))
    }

    pub(super) fn is_deleting(&self, artifact: usize) -> bool {
        self.deleting.iter().any(|(_, what, _)| *what == artifact)
    }

    /// The order of a store's content.
    pub(super) fn order_at(&self, place: usize, artifact: usize) -> Option<(Time, Time)> {
        let object = self.stores[place].objects.get(KEYS[artifact])?;
        let text = self.texts.get(&object.content);
        Some(text.map_or((0, 0), |text| text.order))
    }
}
