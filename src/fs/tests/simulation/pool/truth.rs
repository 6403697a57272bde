//! The expected state of the pool: which registry each store and each content belongs to, and the
//! sentences that must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::Instant;

use super::super::random::Random;
use super::schedule::{Forgery, STORES};
use crate::fs::Error;
use crate::model::{Base, Format, MAX_AHEAD, Sha256, Stamp, nanos};
use crate::store::{Fault, Memory};

/// The artifact of both registries.
pub(super) const KEY: &str = "app/schema";
const IDENTITY: &str = ".atlasfs/store";
const TOMBSTONES: &str = ".atlasfs/deleted/";

/// The simulated time at the start.
const BEGINNING: Duration = Duration::from_secs(1_726_000_000);
const MINUTE: u64 = 60 * 1_000_000_000;

/// A written content. No two are the same.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// The registry that it was written for; `None` if its mount could not know.
    pub(super) registry: Option<usize>,
    pub(super) is_acknowledged: bool,
    is_forged: bool,
    /// Wiped stores had it, or something based on it, and no other store.
    pub(super) is_lost: bool,
    /// Its mount did not have every store of the registry.
    pub(super) is_partial: bool,
    pub(super) machine: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Truth {
    begun: Instant,
    pub(super) network: Random,
    pub(super) stores: [Memory; STORES],
    /// The registry that each store belongs to. A wiped one belongs to none, and a slip may make it a
    /// backup of the other registry.
    pub(super) owners: [Option<usize>; STORES],
    /// The ids of the registries.
    ids: [Option<String>; 2],
    pub(super) texts: BTreeMap<Bytes, Text>,
    /// The hash of the content that each push is based on.
    bases: BTreeMap<Bytes, Sha256>,
    /// Whether a program has deleted the artifact of each registry.
    pub(super) removed: [bool; 2],
    /// Whether a store of each registry was ever wiped, or got its role after that.
    pub(super) is_wiped: [bool; 2],
    /// Whether a backup of each registry has ever got a forged content.
    pub(super) is_forged: [bool; 2],
    /// Whether a person has asked to fill each registry again.
    pub(super) is_refilled: [bool; 2],
    /// Whether each store has a fault.
    is_out: [bool; STORES],
    pub(super) violation: Option<String>,
    pub(super) trace: Option<Vec<String>>,
}

/// The expected state, shared.
#[derive(Debug)]
pub(super) struct Sim(Mutex<Truth>);

impl Sim {
    pub(super) fn new(seed: u64, trace: bool) -> Self {
        Self(Mutex::new(Truth {
            begun: Instant::now(),
            network: Random::new(seed ^ 0xdead_beef),
            stores: Default::default(),
            owners: std::array::from_fn(|place| Some(place / 3)),
            ids: [None, None],
            texts: BTreeMap::new(),
            bases: BTreeMap::new(),
            removed: [false; 2],
            is_wiped: [false; 2],
            is_forged: [false; 2],
            is_refilled: [false; 2],
            is_out: [false; STORES],
            violation: None,
            trace: trace.then(Vec::new),
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Truth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whether the stamp of a content can't be read.
pub(super) fn is_unreadable(content: &Bytes) -> bool {
    content.ends_with(b"# unreadable\n")
}

impl Truth {
    pub(super) fn now(&self) -> SystemTime {
        UNIX_EPOCH + BEGINNING + self.begun.elapsed()
    }

    pub(super) fn log(&mut self, line: impl FnOnce() -> String) {
        let at = self.begun.elapsed().as_secs_f64();
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

    pub(super) fn set_fault(&mut self, place: usize, fault: Option<Fault>) {
        self.stores[place].set_fault(fault);
        self.is_out[place] = fault.is_some();
    }

    /// Makes a new content of a registry.
    pub(super) fn fresh(
        &mut self,
        registry: Option<usize>,
        machine: Option<usize>,
        is_partial: bool,
    ) -> Bytes {
        let letter = match registry {
            Some(0) => 'a',
            Some(_) => 'b',
            None => 'x',
        };
        let content = Bytes::from(format!("schema \"{letter}{}\" {{}}\n", self.texts.len()));
        let text = Text {
            registry,
            is_acknowledged: false,
            is_forged: false,
            is_lost: false,
            is_partial,
            machine,
        };
        self.texts.insert(content.clone(), text);
        content
    }

    /// Returns the registry with an id.
    pub(super) fn registry_of(&self, is_named: impl Fn(&str) -> bool) -> Option<usize> {
        let mut ids = self.ids.iter();
        ids.position(|id| id.as_ref().is_some_and(|id| is_named(id)))
    }

    /// A store may have got an identity.
    pub(super) fn identified(&mut self, place: usize, key: &str) {
        if key != IDENTITY {
            return;
        }
        let said = self.stores[place].content(IDENTITY);
        let said = said.and_then(|said| serde_json::from_slice(&said).ok());
        let said: serde_json::Value = said.unwrap_or_default();
        let registry = said["registry"].as_str().unwrap_or_default().to_owned();
        self.log(|| format!("  store {place} is of {registry}: {}", said["role"]));
        if place.is_multiple_of(3) {
            self.ids[place / 3].get_or_insert_with(|| registry.clone());
        }
        if self.owners[place].is_none() {
            self.owners[place] = self.registry_of(|id| id == registry);
            if let Some(owner) = self.owners[place] {
                self.is_wiped[owner] = true;
            }
        }
    }

    /// A close has reported success.
    pub(super) fn acknowledged(&mut self, content: &Bytes) {
        if let Some(text) = self.texts.get_mut(content) {
            text.is_acknowledged = true;
        }
    }

    /// Something is about to be put into a store by a mount.
    pub(super) fn arrives(&mut self, place: usize, key: &str, content: &Bytes, stamp: &Stamp) {
        let owner = self.owners[place];
        if key == IDENTITY && place.is_multiple_of(3) && self.ids[place / 3].is_some() {
            let is_registry = String::from_utf8_lossy(content).contains("\"role\": \"registry\"");
            let is_asked = self.is_refilled[place / 3];
            self.must(!is_registry || is_asked, || {
                format!("only a person's word makes a wiped store the registry again: {place}")
            });
        }
        if key.starts_with(TOMBSTONES) {
            let named = self.named_by(content);
            self.log(|| format!("  store {place} gets a tombstone of {named:?}"));
            for text in named {
                let registry = self.texts[&text].registry;
                let removed = registry.is_some_and(|registry| self.removed[registry]);
                let is_own = owner.is_none() || registry == owner;
                self.must(is_own && removed, || {
                    format!("no store gets a tombstone of what its registry has not deleted: {text:?} in {place}")
                });
            }
        }
        if key != KEY {
            return;
        }
        self.log(|| format!("  store {place} gets {content:?} over {:?}", stamp.base));
        // While a wiped registry is filled again, it seems to have deleted what it still lacks.
        if let Base::Content(base) | Base::Deleted(base) = stamp.base {
            self.bases.insert(content.clone(), base);
        }
        let latest = nanos(self.now()) + MAX_AHEAD;
        self.must(stamp.when <= latest, || {
            format!("no forged stamp moves a clock: {}", stamp.when)
        });
        let Some(text) = self.texts.get(content).cloned() else {
            self.must(false, || format!("nobody has written {content:?}"));
            return;
        };
        self.must(owner.is_none() || text.registry == owner, || {
            format!("no content of another registry comes into a store: {content:?} in {place}")
        });
        let Some(registry) = text.registry else {
            return;
        };
        // A registry that was wiped is filled with the newest content of its backups.
        let is_filled = self.is_wiped[registry];
        let there = self.stores[3 * registry].content(KEY).is_some();
        self.must(!(text.is_forged && there && !is_filled), || {
            format!("a backup's forged content is given to nobody: {content:?} to {place}")
        });
    }

    fn named_by(&self, tombstone: &Bytes) -> Vec<Bytes> {
        let tombstone = String::from_utf8_lossy(tombstone);
        let texts = self.texts.keys();
        let named = texts.filter(|text| tombstone.contains(&Sha256::of(text).to_string()));
        named.cloned().collect()
    }

    /// A mount has deleted something from a store.
    pub(super) fn leaves(&mut self, place: usize, key: &str) {
        self.log(|| format!("  store {place} loses {key}"));
        if let (KEY, Some(owner)) = (key, self.owners[place]) {
            let removed = self.removed[owner];
            self.must(removed, || {
                format!("nothing is deleted that no program has deleted: in {place}")
            });
        }
    }

    /// A program is about to delete the artifact.
    pub(super) fn removes(&mut self, registry: Option<usize>) {
        if let Some(registry) = registry {
            self.removed[registry] = true;
        }
    }

    /// A mount has answered a read. `stores`: its targets.
    pub(super) fn read(
        &mut self,
        registry: Option<usize>,
        stores: [usize; 3],
        read: &Result<Bytes, Error>,
    ) {
        self.log(|| format!("  read: {read:?}"));
        match read {
            Ok(content) if content.is_empty() => {}
            Ok(content) => {
                let of = self.texts.get(content).map(|text| text.registry);
                self.must(of == Some(registry), || {
                    format!("no mount serves what is another registry's: {content:?}")
                });
            }
            Err(Error::NotFound) => {
                let Some(owner) = registry else { return };
                let holds = |place: usize| {
                    self.owners[place] == registry
                        && !self.is_out[place]
                        && self.stores[place].content(KEY).is_some()
                };
                let is_nameless = self.is_nameless(owner);
                let is_right = stores[0] == 3 * owner;
                let is_there = match is_nameless {
                    true => stores[1..].iter().any(|&place| holds(place)),
                    false => holds(3 * owner),
                };
                let absent = self.removed[owner] || !is_there || !is_right;
                self.must(absent, || {
                    "what a store has is not reported as deleted".into()
                });
            }
            Err(_) => {}
        }
    }

    /// Tells whether a registry has lost its identity.
    pub(super) fn is_nameless(&self, registry: usize) -> bool {
        self.stores[3 * registry].content(IDENTITY).is_none()
    }

    /// A store loses everything.
    pub(super) fn wipe(&mut self, place: usize) {
        let contents = |wiped: bool| {
            let stores = self.stores.iter().enumerate();
            let stores = stores.filter(|(other, _)| (*other == place) == wiped);
            let contents = stores.filter_map(|(_, store)| store.content(KEY));
            contents.collect::<Vec<_>>()
        };
        let (there, elsewhere) = (contents(true), contents(false));
        let is_in = |content: &Bytes, held: &[Bytes]| {
            let mut held = held.iter();
            held.any(|held| held == content || self.descends(held, content))
        };
        let texts = self.texts.keys();
        let lost = texts.filter(|text| is_in(text, &there) && !is_in(text, &elsewhere));
        let lost: BTreeSet<Bytes> = lost.cloned().collect();
        for (content, text) in &mut self.texts {
            text.is_lost |= lost.contains(content);
        }
        for key in self.stores[place].keys() {
            self.stores[place].remove(&key);
        }
        if let Some(owner) = self.owners[place] {
            self.is_wiped[owner] = true;
        }
        self.owners[place] = None;
    }

    /// A person puts a content with a forged stamp into a backup, if its registry has one.
    pub(super) fn forge(&mut self, place: usize, forgery: Forgery) {
        let Some(registry) = self.owners[place] else {
            return;
        };
        let Some(current) = self.stores[3 * registry].content(KEY) else {
            return;
        };
        self.is_forged[registry] = true;
        let mut content = self.fresh(Some(registry), None, false);
        if let Forgery::Unreadable = forgery {
            self.texts.remove(&content);
            content = [&content[..], b"# unreadable\n"].concat().into();
        }
        let text = Text {
            registry: Some(registry),
            is_acknowledged: false,
            is_forged: true,
            is_lost: false,
            is_partial: false,
            machine: None,
        };
        // A mount that has seen the stamp pushes over what it names.
        let other = Bytes::from(format!("other than {content:?}"));
        for forged in [&content, &other] {
            self.texts.insert(forged.clone(), text.clone());
            self.bases.insert(forged.clone(), Sha256::of(&current));
        }
        let now = nanos(self.now());
        let stamp = |when, of: &[u8], base| Stamp {
            base,
            ..Stamp::new(when, of, Format::Hcl)
        };
        let over = Base::Content(Sha256::of(&current));
        let stamp = match forgery {
            Forgery::Stranger => {
                let stranger = Base::Content(Sha256::of(b"a stranger"));
                stamp(now + MINUTE, &content, stranger)
            }
            Forgery::Future => stamp(now + 10_000_000 * MINUTE, &content, over),
            Forgery::Unreadable => stamp(now + MINUTE, &content, over),
            Forgery::OtherBytes => stamp(now + MINUTE, &other, over),
        };
        self.log(|| format!("  store {place} is given {content:?} by hand"));
        self.stores[place].place(KEY, &content, Some(stamp));
    }

    /// Tells whether a content is based on another one, or on one based on that, and so on.
    pub(super) fn descends(&self, content: &Bytes, from: &Bytes) -> bool {
        let (mut at, from) = (content, Sha256::of(from));
        for _ in 0..self.bases.len() {
            let Some(base) = self.bases.get(at) else {
                return false;
            };
            if *base == from {
                return true;
            }
            let mut texts = self.texts.keys();
            match texts.find(|text| Sha256::of(text) == *base) {
                Some(text) => at = text,
                None => return false,
            }
        }
        false
    }
}
