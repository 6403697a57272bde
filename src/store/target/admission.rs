//! Admission: the comparison of what a store says of itself with what the mount expects. Pure, so that
//! every rule has a test.

use std::sync::Arc;

use super::Role;
use crate::store::identity::{Identity, StoreId, StoreRole};
use crate::store::known_id::{Basis, KnownId};
use crate::store::{Condition, Failure, Kind, StampKeyId, StampKeys, Token};

/// The store that a mount expects behind one target.
#[derive(Debug)]
pub(super) struct ExpectedStore {
    pub(super) role: Role,
    /// Whether nothing may be written.
    pub(super) read_only: bool,
    /// The target's own id.
    pub(super) own: Arc<KnownId>,
    /// The registries that it belongs to; the registry itself: its own id.
    pub(super) registries: Vec<Arc<KnownId>>,
    /// The keys that sign stamps.
    pub(super) keys: Option<Arc<StampKeys>>,
}

/// The outcome of comparing what a store says with what the mount expects.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is the right one.
    Fits,
    /// Nothing speaks against it, and it says nothing.
    Unidentified,
    /// It gets this identity.
    Write(Identity, Condition),
    /// It has lost its identity, and gets it again if it holds anything; an empty one was wiped.
    UnlessEmpty,
    /// It is the wrong one: what it is, and the remedy.
    Refused(String, String),
}

impl ExpectedStore {
    /// Returns the identity that the store is to have.
    pub(super) fn identity(&self) -> Identity {
        let (id, role) = (self.own.id(), self.role);
        let identity = match role {
            Role::Registry => Identity::new(id.clone(), StoreRole::Registry, vec![id]),
            Role::Backup(_) => {
                let registries = self.registries.iter().map(|registry| registry.id());
                Identity::new(id, StoreRole::Backup, registries.collect())
            }
        };
        self.signed(identity)
    }

    fn signed(&self, identity: Identity) -> Identity {
        let stamp_key = self.keys.as_ref().map(|keys| keys.signing().clone());
        Identity {
            stamp_key,
            ..identity
        }
    }

    /// Makes a store say which key signs its pushes, once it is certain that the store is the right
    /// one. A store with the key of another mount gets nothing from this one.
    pub(super) fn with_key(
        &self,
        admission: Admission,
        heard: Option<&(Identity, Option<Token>)>,
    ) -> Admission {
        let said = heard.and_then(|(identity, _)| identity.stamp_key.as_ref());
        let is_foreign = said.is_some_and(|key| !self.knows(key));
        match (admission, heard) {
            (Admission::Write(..), _) if is_foreign => Admission::Fits,
            (Admission::Write(identity, condition), _) => {
                Admission::Write(self.signed(identity), condition)
            }
            (Admission::Fits, Some((identity, token)))
                if !self.read_only && !is_foreign && self.is_certain() =>
            {
                match self.signed(identity.clone()) {
                    signed if signed == *identity => Admission::Fits,
                    signed => self.claim(signed, token.as_ref()),
                }
            }
            (admission, _) => admission,
        }
    }

    /// Returns why a store takes no write of this mount if this key signs its pushes.
    pub(super) fn refusal_of(&self, url: &str, key: &StampKeyId) -> Option<Failure> {
        let (what, fix) = match &self.keys {
            Some(keys) if keys.knows(key) => return None,
            Some(keys) => (
                format!(
                    "{url} takes only pushes that are signed with key {key}, and this mount signs \
                     with key {}",
                    keys.signing()
                ),
                format!(
                    "mount with that key, or with both keys in the file to replace it; if it is \
                     lost: atlasfs adopt {url}"
                ),
            ),
            None => (
                format!("{url} takes only pushes that are signed with key {key}"),
                "mount with --stamp-key FILE to write".into(),
            ),
        };
        Some(Failure::new(Kind::Denied, what).with_fix(Some(fix)))
    }

    fn knows(&self, key: &StampKeyId) -> bool {
        let keys = self.keys.as_ref();
        keys.is_some_and(|keys| keys.knows(key))
    }

    /// Compares what a store says of itself with what the mount expects.
    pub(super) fn compare(
        &self,
        url: &str,
        heard: Option<&(Identity, Option<Token>)>,
    ) -> Admission {
        match (self.role, heard) {
            (Role::Registry, None) => self.compare_nameless_registry(url),
            (Role::Registry, Some((identity, token))) => {
                self.compare_registry(url, identity, token.as_ref())
            }
            (Role::Backup(_), None) => match self.read_only || self.is_registry_provisional() {
                true => Admission::Unidentified,
                false => Admission::Write(self.identity(), Condition::Absent),
            },
            (Role::Backup(_), Some((identity, token))) => {
                self.compare_backup(url, identity, token.as_ref())
            }
        }
    }

    fn compare_nameless_registry(&self, url: &str) -> Admission {
        match self.own.basis() {
            Basis::Provisional if self.read_only => Admission::Unidentified,
            Basis::Provisional => Admission::Write(self.identity(), Condition::Absent),
            Basis::Told => Admission::Refused(
                format!(
                    "{url} does not say which registry it is, and its backup belongs to registry {}",
                    self.own.id()
                ),
                format!(
                    "correct the wrong url; if both are right, make them one: atlasfs adopt {url}, \
                     and adopt the backup; to read the backup: --read-only"
                ),
            ),
            Basis::Known | Basis::Confirmed => Admission::UnlessEmpty,
        }
    }

    fn compare_registry(&self, url: &str, identity: &Identity, token: Option<&Token>) -> Admission {
        let (known, basis) = (self.own.id(), self.own.basis());
        let is_known = known == identity.id;
        match identity.role {
            StoreRole::Registry if is_known || basis == Basis::Provisional => Admission::Fits,
            StoreRole::Unassigned if is_known || basis == Basis::Provisional => {
                let registries = vec![identity.id.clone()];
                let registry = Identity::new(identity.id.clone(), StoreRole::Registry, registries);
                self.claim(registry, token)
            }
            StoreRole::Unassigned => Admission::Refused(
                format!("{url} was adopted as a new store"),
                "unmount, and mount again to use it".into(),
            ),
            StoreRole::Registry => Admission::Refused(
                format!(
                    "{url} is registry {}, and this mount is of registry {known}",
                    identity.id
                ),
                "correct the url; to use the other registry, unmount, and mount again".into(),
            ),
            StoreRole::Backup => Admission::Refused(
                format!("{url} is {}, and no registry", identity.describe()),
                format!("correct the url, or make it a registry: atlasfs adopt {url}"),
            ),
        }
    }

    fn compare_backup(&self, url: &str, identity: &Identity, token: Option<&Token>) -> Admission {
        let expected: Vec<StoreId> = self
            .registries
            .iter()
            .map(|registry| registry.id())
            .collect();
        let wrong = || {
            let ids: Vec<&str> = expected.iter().map(StoreId::as_str).collect();
            Admission::Refused(
                format!(
                    "{url} is {}, not a backup of registry {}",
                    identity.describe(),
                    ids.join(" and ")
                ),
                format!("correct the url, or make it one: atlasfs adopt {url}"),
            )
        };
        match identity.role {
            StoreRole::Registry if expected.contains(&identity.id) => Admission::Refused(
                format!("{url} is the registry itself, or a copy of it"),
                format!("name another store, or make it a backup: atlasfs adopt {url}"),
            ),
            StoreRole::Registry => wrong(),
            StoreRole::Unassigned if self.is_registry_provisional() => Admission::Unidentified,
            StoreRole::Unassigned => {
                let backup = Identity::new(identity.id.clone(), StoreRole::Backup, expected);
                self.claim(backup, token)
            }
            StoreRole::Backup => {
                let belongs = |id: &StoreId| identity.registries.contains(id);
                if !expected.iter().any(belongs) && !self.is_registry_provisional() {
                    return wrong();
                }
                if expected.iter().all(belongs) || self.is_registry_provisional() {
                    return Admission::Fits;
                }
                // The configuration shares it between registries.
                let new = expected.iter().filter(|id| !belongs(id)).cloned();
                let mut shared = identity.clone();
                shared.registries.extend(new);
                self.claim(shared, token)
            }
        }
    }

    /// Returns the admission of a store that gets a new role.
    fn claim(&self, identity: Identity, token: Option<&Token>) -> Admission {
        match (self.read_only, token) {
            (true, _) => Admission::Unidentified,
            (false, Some(token)) => Admission::Write(identity, Condition::Unchanged(token.clone())),
            (false, None) => Admission::Write(identity, Condition::None),
        }
    }

    /// Tells whether a registry, or the registries of a backup, are more than a guess.
    fn is_certain(&self) -> bool {
        let mut registries = self.registries.iter();
        let is_known = |id: &Arc<KnownId>| matches!(id.basis(), Basis::Known | Basis::Confirmed);
        self.role == Role::Registry || registries.all(is_known)
    }

    fn is_registry_provisional(&self) -> bool {
        let mut registries = self.registries.iter();
        registries.any(|registry| registry.basis() == Basis::Provisional)
    }

    /// Makes the failure of a registry that is empty and has lost its identity.
    pub(super) fn wiped(&self, url: &str) -> Failure {
        let what = format!(
            "{url} is empty, and no longer says that it is registry {}: it has lost its content",
            self.own.id()
        );
        Failure::new(Kind::WrongStore, what).with_fix(Some(advice(url)))
    }
}

fn advice(url: &str) -> String {
    format!(
        "if it is that registry, fill it from the backups: atlasfs sync --refill DIR; if it is a new one: \
         atlasfs adopt {url}"
    )
}
