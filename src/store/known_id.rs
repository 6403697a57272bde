//! The id of a store as far as a mount knows it, which may be late: a store that is out tells nothing.

use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::StoreId;

/// How the mount knows an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// It doesn't: it has made the id up, for a store that it has never reached.
    Provisional,
    /// A backup says that it belongs to this registry.
    Told,
    /// An earlier mount found it in this location.
    Known,
    /// The store says so itself.
    Confirmed,
}

/// The id of a store as far as this machine knows it, for the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdRecord {
    /// The id.
    pub id: StoreId,
    /// Whether it is more than made up.
    pub is_certain: bool,
    /// The made-up ids that it had before.
    pub former: Vec<StoreId>,
}

impl IdRecord {
    /// Makes up the id of a store that no mount has reached.
    ///
    /// # Errors
    ///
    /// The I/O error if the machine has no source of randomness.
    pub fn made_up() -> io::Result<Self> {
        Ok(Self {
            id: StoreId::random()?,
            is_certain: false,
            former: Vec::new(),
        })
    }
}

/// The id of one store, which a mount may learn late.
pub struct KnownId {
    state: Mutex<IdState>,
    /// Keeps each change for the next mount.
    keep: Box<dyn Fn(IdRecord) + Send + Sync>,
}

#[derive(Debug, Clone)]
struct IdState {
    id: StoreId,
    basis: Basis,
    former: Vec<StoreId>,
    /// Grows with each change.
    edition: u64,
}

impl fmt::Debug for KnownId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.lock(), out)
    }
}

impl KnownId {
    /// Makes the id of a store that is known from an earlier mount, or else made up; `keep` is called
    /// with each change.
    pub fn new(record: IdRecord, keep: impl Fn(IdRecord) + Send + Sync + 'static) -> Self {
        let basis = match record.is_certain {
            true => Basis::Known,
            false => Basis::Provisional,
        };
        Self {
            state: Mutex::new(IdState {
                id: record.id,
                basis,
                former: record.former,
                edition: 0,
            }),
            keep: Box::new(keep),
        }
    }

    /// Returns the id.
    pub fn id(&self) -> StoreId {
        self.lock().id.clone()
    }

    /// Returns how the mount knows the id.
    pub fn basis(&self) -> Basis {
        self.lock().basis
    }

    /// Tells whether the store has this id, or had it before the mount knew better.
    pub fn is(&self, id: &str) -> bool {
        let state = self.lock();
        state.id.as_str() == id || state.former.iter().any(|former| former.as_str() == id)
    }

    /// Sets a better known id. A made-up one goes on meaning this store.
    pub fn set(&self, id: StoreId, basis: Basis) {
        let mut state = self.lock();
        if state.id == id && state.basis == basis {
            return;
        }
        if state.id != id {
            let before = std::mem::replace(&mut state.id, id);
            match state.basis {
                Basis::Provisional => state.former.push(before),
                _ => state.former.clear(),
            }
            state.edition += 1;
        }
        state.edition += u64::from(state.basis == Basis::Provisional);
        state.basis = basis;
        let record = IdRecord {
            id: state.id.clone(),
            is_certain: basis != Basis::Provisional,
            former: state.former.clone(),
        };
        drop(state);
        (self.keep)(record);
    }

    /// Returns a number that grows with each change.
    pub(super) fn edition(&self) -> u64 {
        self.lock().edition
    }

    fn lock(&self) -> MutexGuard<'_, IdState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
