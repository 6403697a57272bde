//! The targets of a mount or a check: opened, and asked which stores they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::topology::{StartError, Topology};
use crate::config::RepoConfig;
use crate::registry::{KnownStore, KnownStores, Replica, ReplicaSet, ReplicaSets, TargetId};
use crate::store::{
    Basis, Failure, IdRecord, Identity, Kind, KnownId, Location, Members, Membership, Role,
    StoreId, StoreRole, Target,
};

/// The targets of a configuration. A location that several repositories name is one target.
pub(super) struct Targets {
    all: Vec<Arc<Replica>>,
    places: Vec<Place>,
    read_only: bool,
}

/// The targets' answers to the question which stores they are.
pub(super) struct Identified {
    /// Warnings for the user, one line each.
    pub(super) warnings: Vec<String>,
    /// The targets that did not answer.
    pub(super) failed: BTreeMap<TargetId, Failure>,
}

/// A location, and its uses in the configuration.
struct Place {
    location: Location,
    role: Role,
    id: Arc<KnownId>,
    /// The registries that it is a backup of.
    registries: Vec<Arc<KnownId>>,
}

impl Targets {
    /// Opens the targets. `stores` tells what earlier mounts know of them.
    ///
    /// # Errors
    ///
    /// [`StartError`] for a target that can never work as configured, and for a state directory that
    /// can't be read.
    pub(super) fn open(
        topology: &Topology,
        stores: Option<&KnownStores>,
        read_only: bool,
    ) -> Result<Self, StartError> {
        let env = |name: &str| std::env::var(name).ok();
        let mut places: Vec<Place> = Vec::new();
        for (registry, backups) in topology.sets() {
            let name = match (registry, backups.first()) {
                // Each configuration without a url has a registry of its own, known by its backup.
                (Location::AtlasCloud, Some(backup)) => {
                    format!("atlas cloud before {}", backup.actual_name(&env))
                }
                _ => registry.actual_name(&env),
            };
            let role = Role::Registry;
            let registry = place(&mut places, registry, name, role, stores, read_only)?;
            for (number, backup) in backups.iter().enumerate() {
                let role = Role::Backup(number);
                let name = backup.actual_name(&env);
                let backup = place(&mut places, backup, name, role, stores, read_only)?;
                let id = |at: usize| places.get(at).map(|place| Arc::clone(&place.id));
                if let Some(registry) = id(registry)
                    && let Some(backup) = places.get_mut(backup)
                    && !backup
                        .registries
                        .iter()
                        .any(|known| Arc::ptr_eq(known, &registry))
                {
                    backup.registries.push(registry);
                }
            }
        }
        let members = Arc::new(Members::default());
        let mut all = Vec::new();
        for (number, place) in places.iter().enumerate() {
            let mut target = match Target::open(place.role, &place.location, &env) {
                // A check reports it like any other failure.
                Err(failure) if stores.is_none() => {
                    Target::unusable(place.role, &place.location, failure)
                }
                opened => opened.map_err(|failure| StartError(failure.reason.clone()))?,
            };
            if let Some(keys) = &topology.stamp_keys {
                target.set_stamp_keys(Arc::clone(keys));
            }
            if target.unsupported().is_none() {
                let registries = match place.role {
                    Role::Registry => vec![Arc::clone(&place.id)],
                    Role::Backup(_) => place.registries.clone(),
                };
                let (own, members) = (Arc::clone(&place.id), Arc::clone(&members));
                // A check gives no store an identity.
                let only_reads = read_only || stores.is_none();
                let expected = Membership::new(place.role, only_reads, own, registries, members);
                target.set_membership(expected);
            }
            all.push(Arc::new(Replica::new(TargetId(number), target)));
        }
        Ok(Self {
            all,
            places,
            read_only,
        })
    }

    /// Returns the targets of each repository.
    pub(super) fn replica_sets(&self, topology: &Topology) -> ReplicaSets {
        let set = |registry: &Location, backups: &[Location]| {
            let backups = backups.iter().filter_map(|backup| self.at(backup));
            Some(ReplicaSet {
                registry: self.at(registry)?,
                backups: backups.collect(),
            })
        };
        let sets = |repos: &[RepoConfig]| {
            let repos = repos.iter();
            let sets = repos
                .filter_map(|repo| Some((repo.name.clone(), set(&repo.registry, &repo.backups)?)));
            sets.collect()
        };
        let others = topology.others.as_ref();
        let others = others.and_then(|(registry, backups)| set(registry, backups));
        ReplicaSets::new(sets(&topology.repos), others).with_migrations(sets(&topology.migrations))
    }

    /// Returns every target, with its role.
    pub(super) fn with_roles(&self) -> impl Iterator<Item = (Role, &Arc<Replica>)> {
        let roles = self.places.iter().map(|place| place.role);
        roles.zip(&self.all)
    }

    /// Asks each target which store it is, until the deadline. What a registry says counts before what
    /// its backups say of it, and both before what this machine knows.
    ///
    /// # Errors
    ///
    /// [`StartError`] if a registry's URL leads to another kind of store, and for a writable mount of
    /// a registry that says nothing while its backup belongs to one.
    pub(super) async fn identify(&self, deadline: Instant) -> Result<Identified, StartError> {
        let asked = self.all.iter();
        let asked =
            asked.map(|replica| async move { (replica.id, replica.read_identity(deadline).await) });
        let (mut heard, mut failed) = (BTreeMap::new(), BTreeMap::new());
        for (target, reply) in futures::future::join_all(asked).await {
            match reply {
                Ok(Some(said)) => drop(heard.insert(target, said)),
                Ok(None) => {}
                Err(failure) => drop(failed.insert(target, failure)),
            }
        }
        let mut warnings = Vec::new();
        for (place, replica) in self.places.iter().zip(&self.all) {
            if place.role != Role::Registry {
                continue;
            }
            match heard.get(&replica.id) {
                Some(said) if said.role != StoreRole::Backup => {
                    let known = place.id.id();
                    if place.id.basis() == Basis::Known && known != said.id {
                        warnings.push(format!(
                            "{} is not registry {known} any more, but {}: pushes that wait for the \
                             old one are kept for it",
                            replica.url(),
                            said.describe(),
                        ));
                        place.id.set(said.id.clone(), Basis::Known);
                    }
                }
                _ if place.id.basis() == Basis::Provisional => {
                    if let Some(told) = self.told_by_backups(place, &heard) {
                        place.id.set(told, Basis::Told);
                    } else if replica.unsupported().is_some() {
                        // It will never say which registry it is.
                        place.id.set(place.id.id(), Basis::Known);
                    }
                }
                _ => {}
            }
            if failed.contains_key(&replica.id) {
                continue;
            }
            let checked = replica.ask(|target| target.check_identity(deadline));
            if let Err(failure) = checked.await
                && failure.kind == Kind::WrongStore
            {
                // Nobody knows whether the backup is this registry's, so no push may reach it.
                let is_guess = place.id.basis() == Basis::Told && !self.read_only;
                if is_guess || heard.contains_key(&replica.id) {
                    return Err(StartError(failure.reason));
                }
            }
        }
        // A push that waits for a backup names its id. Replay must not wait for another request to
        // learn it: another registry's mount may have forgotten whose store is there.
        for (place, replica) in self.places.iter().zip(&self.all) {
            if place.role != Role::Registry && heard.contains_key(&replica.id) {
                // The mount reports a wrong store as an outage.
                let _ = replica.ask(|target| target.check_identity(deadline)).await;
            }
        }
        Ok(Identified { warnings, failed })
    }

    fn told_by_backups(
        &self,
        registry: &Place,
        heard: &BTreeMap<TargetId, Identity>,
    ) -> Option<StoreId> {
        let places = self.places.iter().zip(&self.all);
        let mut backups = places.filter(|(place, _)| {
            let mut registries = place.registries.iter();
            registries.any(|known| Arc::ptr_eq(known, &registry.id))
        });
        backups.find_map(|(_, replica)| {
            let said = heard.get(&replica.id)?;
            let is_backup = said.role == StoreRole::Backup;
            match &*said.registries {
                [only] if is_backup => Some(only.clone()),
                // A shared backup doesn't tell which of its registries this one is.
                _ => None,
            }
        })
    }

    /// Returns why no registry takes a write of this mount, if that is so: others sign its pushes.
    pub(super) fn write_refusal(&self) -> Option<Failure> {
        let registries = self.with_roles();
        let registries = registries.filter(|(role, _)| *role == Role::Registry);
        let refusals = registries.map(|(_, registry)| registry.target().write_refusal());
        let refusals: Option<Vec<Failure>> = refusals.collect();
        refusals?.into_iter().next()
    }

    /// Returns failures with the URLs of their targets.
    pub(super) fn urls_of<'a>(
        &'a self,
        failed: &'a BTreeMap<TargetId, Failure>,
    ) -> impl Iterator<Item = (&'a str, &'a Failure)> {
        let all = self.all.iter();
        all.filter_map(|replica| Some((replica.url(), failed.get(&replica.id)?)))
    }

    /// Tells whether a target that is missing was there at an earlier mount: it returns when its disk
    /// is mounted.
    pub(super) fn is_away(&self, target: TargetId, failure: &Failure) -> bool {
        let place = self.places.get(target.0);
        failure.kind == Kind::StoreMissing
            && place.is_some_and(|place| match &place.location {
                Location::File(folder) => folder.known,
                _ => false,
            })
    }

    /// Returns the id of the registry that the mount's own files belong to.
    pub(super) fn first_registry(&self) -> Option<StoreId> {
        let mut places = self.places.iter();
        let first = places.find(|place| place.role == Role::Registry);
        first.map(|place| place.id.id())
    }

    fn at(&self, location: &Location) -> Option<Arc<Replica>> {
        let place = self
            .places
            .iter()
            .position(|place| is_same(place, location))?;
        self.all.get(place).cloned()
    }
}

/// Returns the place of a location, whose actual name is `name`; a new one is added.
fn place(
    places: &mut Vec<Place>,
    location: &Location,
    name: String,
    role: Role,
    stores: Option<&KnownStores>,
    read_only: bool,
) -> Result<usize, StartError> {
    if let Some(at) = places.iter().position(|place| is_same(place, location)) {
        if let (Some(place), Role::Registry) = (places.get_mut(at), role) {
            place.role = role;
        }
        return Ok(at);
    }
    let (id, is_known) = match stores {
        Some(stores) => {
            let found: KnownStore = stores.find(&name).map_err(|error| {
                StartError(format!("can't tell which store {location} is: {error}"))
            })?;
            if !found.is_known
                && let Err(error) = stores.keep(&name, &found.record)
            {
                tracing::warn!("can't keep which store {location} is: {error}");
            }
            (stores.known_id(&found), found.record.is_certain)
        }
        None => {
            let record = IdRecord::made_up().map_err(StartError::new)?;
            (KnownId::new(record, |_| {}), false)
        }
    };
    let mut location = location.clone();
    if let Location::File(folder) = &mut location {
        folder.known = is_known;
        folder.read_only = read_only;
    }
    places.push(Place {
        location,
        role,
        id: Arc::new(id),
        registries: Vec::new(),
    });
    Ok(places.len() - 1)
}

/// Tells whether a place is that of a location in the configuration.
fn is_same(place: &Place, location: &Location) -> bool {
    match (&place.location, location) {
        (Location::File(one), Location::File(other)) => {
            (&one.dir, one.create_dir) == (&other.dir, other.create_dir)
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
#[path = "targets_tests.rs"]
mod tests;
