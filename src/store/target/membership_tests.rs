use std::time::Duration;

use super::*;
use crate::model::{ArtifactId, Format, Item, RepoName, Stamp};
use crate::store::{Fault, IdRecord, Memory, StoreRole};

/// A mount's view of a registry and one backup.
struct Pair {
    registry: Target,
    backup: Target,
}

fn end() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

fn made_up() -> IdRecord {
    IdRecord::made_up().unwrap()
}

fn known(id: &StoreId) -> IdRecord {
    IdRecord {
        id: id.clone(),
        is_certain: true,
        former: Vec::new(),
    }
}

fn pair_of(stores: [&Memory; 2], registry: IdRecord, read_only: bool) -> Pair {
    pair_with(stores, registry, read_only, None)
}

fn pair_with(
    stores: [&Memory; 2],
    registry: IdRecord,
    read_only: bool,
    keys: Option<&str>,
) -> Pair {
    let keys = keys.map(|keys| Arc::new(StampKeys::parse(keys).unwrap()));
    let members = Arc::new(Members::default());
    let own = Arc::new(KnownId::new(registry, |_| {}));
    let backup = Arc::new(KnownId::new(made_up(), |_| {}));
    let target = |role, url, store: &Memory, own: &Arc<KnownId>, registry| {
        let mut target = Target::new(role, url, Arc::new(store.clone()));
        let (own, members) = (Arc::clone(own), Arc::clone(&members));
        if let Some(keys) = &keys {
            target.set_stamp_keys(Arc::clone(keys));
        }
        target.set_membership(Membership::new(
            role,
            read_only,
            own,
            vec![registry],
            members,
        ));
        target
    };
    Pair {
        registry: target(Role::Registry, "mem://r", stores[0], &own, Arc::clone(&own)),
        backup: target(Role::Backup(0), "mem://b", stores[1], &backup, own),
    }
}

fn pair(registry: &Memory, backup: &Memory) -> Pair {
    pair_of([registry, backup], made_up(), false)
}

fn id_of(target: &Target) -> StoreId {
    target.membership().unwrap().own().id()
}

async fn identity(store: &Memory) -> Option<Identity> {
    let target = Target::new(Role::Registry, "mem://x", Arc::new(store.clone()));
    let read = target.read_identity(end()).await.unwrap();
    read.map(|(identity, _)| identity)
}

fn schema() -> ArtifactId {
    ArtifactId {
        repo: RepoName::parse("app").unwrap(),
        item: Item::Schema,
    }
}

async fn put(target: &Target) {
    let id = schema();
    let content = bytes::Bytes::from_static(b"schema \"s\" {}\n");
    let stamp = Stamp::new(1, &content, Format::Hcl);
    let put = target.put(&id, content, &stamp, &Condition::None, end());
    put.await.unwrap();
}

async fn refused(target: &Target) -> String {
    let failure = target.repos(end()).await.unwrap_err();
    assert_eq!(failure.kind, Kind::WrongStore, "{failure}");
    assert!(failure.fix.is_some(), "{failure}");
    failure.reason
}

#[tokio::test]
async fn each_store_gets_an_identity_once() {
    let (registry, backup) = (Memory::default(), Memory::default());
    let mount = pair(&registry, &backup);
    mount.registry.probe(end()).await.unwrap();
    mount.backup.probe(end()).await.unwrap();
    let said = identity(&registry).await.unwrap();
    assert_eq!(
        (said.role, said.id),
        (StoreRole::Registry, id_of(&mount.registry))
    );
    let said = identity(&backup).await.unwrap();
    assert_eq!(
        (said.role, &said.id),
        (StoreRole::Backup, &id_of(&mount.backup))
    );
    assert_eq!(said.registries, [id_of(&mount.registry)]);
    let another = pair(&registry, &backup);
    another.registry.probe(end()).await.unwrap();
    another.backup.probe(end()).await.unwrap();
    assert_eq!(id_of(&another.registry), id_of(&mount.registry));
    assert_eq!(id_of(&another.backup), id_of(&mount.backup));
}

#[tokio::test]
async fn of_two_first_mounts_one_names_the_registry() {
    let (registry, backup) = (Memory::default(), Memory::default());
    let mounts: Vec<Pair> = (0..5).map(|_| pair(&registry, &backup)).collect();
    let probes = mounts.iter().map(|mount| mount.registry.probe(end()));
    for probed in futures::future::join_all(probes).await {
        probed.unwrap();
    }
    let said = identity(&registry).await.unwrap();
    assert!(mounts.iter().all(|mount| id_of(&mount.registry) == said.id));
}

#[tokio::test]
async fn a_backup_of_another_registry_is_refused_untouched() {
    let (registry, backup, other) = (Memory::default(), Memory::default(), Memory::default());
    for (store, its) in [(&registry, &backup), (&other, &Memory::default())] {
        let mount = pair(store, its);
        mount.registry.probe(end()).await.unwrap();
        mount.backup.probe(end()).await.unwrap();
    }
    let before = backup.keys();
    let mount = pair(&other, &backup);
    mount.registry.probe(end()).await.unwrap();
    let why = refused(&mount.backup).await;
    assert!(
        why.contains("is a backup of registry") && why.contains("adopt mem://b"),
        "{why}"
    );
    assert_eq!(backup.keys(), before);
    let mount = pair(&other, &registry);
    mount.registry.probe(end()).await.unwrap();
    let why = refused(&mount.backup).await;
    assert!(why.contains("mem://b is registry"), "{why}");
    let mount = pair(&backup, &Memory::default());
    let why = refused(&mount.registry).await;
    assert!(why.contains("and no registry"), "{why}");
}

#[tokio::test]
async fn one_store_under_two_urls_is_one_target() {
    let store = Memory::default();
    let mount = pair(&store, &Memory::default());
    mount.registry.probe(end()).await.unwrap();
    for twin in [&store, &store.copy()] {
        let mount = pair(&store, twin);
        mount.registry.probe(end()).await.unwrap();
        let why = refused(&mount.backup).await;
        assert!(
            why.contains("is the registry itself, or a copy of it"),
            "{why}"
        );
    }
}

#[tokio::test]
async fn two_backups_are_two_stores() {
    let (registry, backup) = (Memory::default(), Memory::default());
    let mount = pair(&registry, &backup);
    put(&mount.registry).await;
    put(&mount.backup).await;
    let members = Arc::clone(&mount.backup.membership().unwrap().members);
    let own = Arc::new(KnownId::new(made_up(), |_| {}));
    let registries = vec![Arc::clone(mount.registry.membership().unwrap().own())];
    let mut twin = Target::new(Role::Backup(1), "mem://twin", Arc::new(backup.copy()));
    twin.set_membership(Membership::new(
        Role::Backup(1),
        false,
        own,
        registries,
        members,
    ));
    let why = refused(&twin).await;
    assert!(
        why.contains("mem://twin is the same store as mem://b"),
        "{why}"
    );
}

#[tokio::test]
async fn a_registry_that_garbles_contents_is_not_another_one() {
    let (registry, backup) = (Memory::default(), Memory::default());
    let first = pair(&registry, &backup);
    first.registry.probe(end()).await.unwrap();
    registry.set_fault(Some(Fault::Corrupt));
    let absent = ArtifactId {
        repo: RepoName::parse("app").unwrap(),
        item: Item::Schema,
    };
    let answer = first.registry.head(&absent, end()).await;
    assert_eq!(answer.unwrap_err().kind, Kind::NotFound);
    // Nobody learns a garbled id.
    let second = pair(&registry, &backup);
    let made_up = id_of(&second.registry);
    refused(&second.registry).await;
    assert_eq!(id_of(&second.registry), made_up);
}

#[tokio::test]
async fn a_wiped_registry_is_out_and_not_empty() {
    let (registry, backup) = (Memory::default(), Memory::default());
    let mount = pair(&registry, &backup);
    put(&mount.registry).await;
    put(&mount.backup).await;
    let id = id_of(&mount.registry);
    registry.replace_by(&Memory::default());
    for mount in [mount, pair_of([&registry, &backup], known(&id), false)] {
        let why = refused(&mount.registry).await;
        assert!(
            why.contains("is empty") && why.contains("sync --refill"),
            "{why}"
        );
        assert!(registry.keys().is_empty());
    }
    let mount = pair_of([&registry, &backup], known(&id), false);
    mount.registry.restore_identity(end()).await.unwrap();
    assert_eq!(mount.registry.repos(end()).await.unwrap().0, []);
    assert_eq!(identity(&registry).await.unwrap().id, id);
}

#[tokio::test]
async fn a_registry_that_lost_only_its_identity_gets_it_again() {
    let (registry, backup) = (Memory::default(), Memory::default());
    let mount = pair(&registry, &backup);
    put(&mount.registry).await;
    let id = id_of(&mount.registry);
    registry.remove(".atlasfs/store");
    let mount = pair_of([&registry, &backup], known(&id), false);
    mount.registry.probe(end()).await.unwrap();
    assert_eq!(identity(&registry).await.unwrap().id, id);
}

#[tokio::test]
async fn a_read_only_mount_writes_no_identity() {
    let (registry, backup) = (Memory::default(), Memory::default());
    let mount = pair_of([&registry, &backup], made_up(), true);
    mount.registry.repos(end()).await.unwrap();
    mount.backup.repos(end()).await.unwrap();
    assert!(registry.keys().is_empty() && backup.keys().is_empty());
}

#[tokio::test]
async fn a_backup_waits_for_its_registry_to_be_known() {
    let (registry, backup) = (Memory::default(), Memory::default());
    let mount = pair(&registry, &backup);
    registry.set_fault(Fault::Fail(Kind::Unreachable));
    mount.registry.probe(end()).await.unwrap_err();
    put(&mount.backup).await;
    assert_eq!(identity(&backup).await, None);
    registry.set_fault(None);
    mount.registry.probe(end()).await.unwrap();
    mount.backup.probe(end()).await.unwrap();
    let said = identity(&backup).await.unwrap();
    assert_eq!(said.registries, [id_of(&mount.registry)]);
}

#[tokio::test]
async fn a_backup_tells_which_registry_is_out() {
    let (registry, backup) = (Memory::default(), Memory::default());
    let first = pair(&registry, &backup);
    first.registry.probe(end()).await.unwrap();
    first.backup.probe(end()).await.unwrap();
    registry.set_fault(Fault::Fail(Kind::Unreachable));
    let mount = pair(&registry, &backup);
    let made_up = id_of(&mount.registry);
    mount.backup.probe(end()).await.unwrap();
    let own = mount.registry.membership().unwrap().own();
    assert_eq!(
        (own.id(), own.basis()),
        (id_of(&first.registry), Basis::Told)
    );
    assert!(
        own.is(made_up.as_str()),
        "pushes under the made-up id are this registry's"
    );
    registry.set_fault(None);
    registry.replace_by(&Memory::default());
    let why = refused(&mount.registry).await;
    assert!(why.contains("does not say which registry it is"), "{why}");
}

#[tokio::test]
async fn after_an_outage_the_store_is_asked_again() {
    let (registry, backup, other) = (Memory::default(), Memory::default(), Memory::default());
    let mount = pair(&registry, &backup);
    mount.registry.probe(end()).await.unwrap();
    pair(&other, &backup).registry.probe(end()).await.unwrap();
    registry.set_fault(Fault::Fail(Kind::Unreachable));
    mount.registry.probe(end()).await.unwrap_err();
    registry.set_fault(None);
    registry.replace_by(&other);
    let why = refused(&mount.registry).await;
    assert!(why.contains("and this mount is of registry"), "{why}");
}

#[tokio::test]
async fn an_adopted_store_gets_the_role_that_a_mount_gives_it() {
    let (registry, backup) = (Memory::default(), Memory::default());
    let mount = pair(&registry, &backup);
    mount.registry.probe(end()).await.unwrap();
    mount.backup.probe(end()).await.unwrap();
    let adopted = Identity::new(
        StoreId::random().unwrap(),
        StoreRole::Unassigned,
        Vec::new(),
    );
    let write = |store: &Memory| {
        let target = Target::new(Role::Registry, "mem://x", Arc::new(store.clone()));
        let adopted = adopted.clone();
        async move {
            target
                .write_identity(&adopted, &Condition::None, end())
                .await
                .unwrap()
        }
    };
    let other = Memory::default();
    write(&backup).await;
    let mount = pair(&other, &backup);
    mount.registry.probe(end()).await.unwrap();
    mount.backup.probe(end()).await.unwrap();
    let said = identity(&backup).await.unwrap();
    assert_eq!(
        (said.role, said.id),
        (StoreRole::Backup, adopted.id.clone())
    );
    assert_eq!(said.registries, [id_of(&mount.registry)]);
    write(&backup).await;
    let mount = pair(&backup, &Memory::default());
    mount.registry.probe(end()).await.unwrap();
    assert_eq!(identity(&backup).await.unwrap().role, StoreRole::Registry);
}

#[tokio::test]
async fn a_backup_may_be_shared_by_the_registries_of_one_configuration() {
    let (one, two, backup) = (Memory::default(), Memory::default(), Memory::default());
    let members = Arc::new(Members::default());
    let ids: Vec<Arc<KnownId>> = (0..2)
        .map(|_| Arc::new(KnownId::new(made_up(), |_| {})))
        .collect();
    for (store, id) in [&one, &two].into_iter().zip(&ids) {
        let mut target = Target::new(Role::Registry, "mem://r", Arc::new(store.clone()));
        let (own, members) = (Arc::clone(id), Arc::default());
        let registries = vec![Arc::clone(id)];
        target.set_membership(Membership::new(
            Role::Registry,
            false,
            own,
            registries,
            members,
        ));
        target.probe(end()).await.unwrap();
    }
    let own = Arc::new(KnownId::new(made_up(), |_| {}));
    let mut target = Target::new(Role::Backup(0), "mem://b", Arc::new(backup.clone()));
    let shared = ids.clone();
    target.set_membership(Membership::new(
        Role::Backup(0),
        false,
        own,
        shared,
        members,
    ));
    target.probe(end()).await.unwrap();
    let said = identity(&backup).await.unwrap();
    assert_eq!(said.registries, [ids[0].id(), ids[1].id()]);
    pair(&two, &backup).registry.probe(end()).await.unwrap();
}

#[path = "signing_tests.rs"]
mod signing;
