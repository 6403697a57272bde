//! Tests of stores whose pushes are signed.

use super::*;

const OLD: &str = "abababababababababababababababababababababababababababababababab";
const NEW: &str = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";

/// Asks both stores which they are, as a mount with these keys; returns why they take no write.
async fn refusals(stores: [&Memory; 2], keys: Option<&str>) -> [Option<String>; 2] {
    let pair = pair_with(stores, made_up(), false, keys);
    for target in [&pair.registry, &pair.backup] {
        target.probe(end()).await.unwrap();
        let target_refuses = target.delete(&schema(), end()).await;
        let told = target_refuses.err().map(|failure| failure.reason);
        assert_eq!(told, target.write_refusal().map(|failure| failure.reason));
    }
    [&pair.registry, &pair.backup].map(|target| Some(target.write_refusal()?.reason))
}

async fn stamp_keys(stores: [&Memory; 2]) -> Vec<String> {
    let mut keys = Vec::new();
    for store in stores {
        let key = identity(store).await.unwrap().stamp_key;
        keys.push(key.map_or("none".to_owned(), |key| key.to_string()));
    }
    keys
}

#[tokio::test]
async fn stores_name_the_key_that_signs_and_refuse_others() {
    let [old, new] = [OLD, NEW].map(|key| StampKeys::parse(key).unwrap());
    let [old, new] = [&old, &new].map(|keys| vec![keys.signing().to_string(); 2]);
    let (registry, backup) = (Memory::default(), Memory::default());
    let stores = [&registry, &backup];
    assert_eq!(refusals(stores, None).await, [None, None]);
    assert_eq!(stamp_keys(stores).await, ["none", "none"]);
    // One step of a change of keys after the other.
    let both = format!("{OLD}\n{NEW}");
    let swapped = format!("{NEW}\n{OLD}");
    for (keys, named) in [(OLD, &old), (&both, &old), (&swapped, &new), (NEW, &new)] {
        assert_eq!(refusals(stores, Some(keys)).await, [None, None]);
        assert_eq!(stamp_keys(stores).await, *named);
    }
    for (keys, part) in [
        (None, "mount with --stamp-key FILE"),
        (Some(OLD), "this mount signs with key"),
    ] {
        for told in refusals(stores, keys).await {
            let told = told.unwrap();
            assert!(told.contains(part) && told.contains(&new[0]), "{told}");
        }
        assert_eq!(stamp_keys(stores).await, new, "nothing has changed");
    }
}

#[tokio::test]
async fn no_backup_gets_a_key_before_its_registry_is_known() {
    let (registry, backup) = (Memory::default(), Memory::default());
    refusals([&registry, &backup], None).await;
    registry.set_fault(Fault::Fail(Kind::Unreachable));
    let pair = pair_with([&registry, &backup], made_up(), false, Some(OLD));
    pair.registry.probe(end()).await.unwrap_err();
    pair.backup.probe(end()).await.unwrap();
    assert_eq!(identity(&backup).await.unwrap().stamp_key, None);
}

#[tokio::test]
async fn a_store_that_takes_no_key_is_still_known() {
    let (registry, backup) = (Memory::default(), Memory::default());
    refusals([&registry, &backup], None).await;
    let id = identity(&registry).await.unwrap().id;
    registry.set_fault(Fault::FailWrites(Kind::Denied));
    let pair = pair_with([&registry, &backup], made_up(), false, Some(OLD));
    pair.registry.probe(end()).await.unwrap();
    assert_eq!(id_of(&pair.registry), id);
}

#[tokio::test]
async fn a_mount_without_the_key_shares_no_backup_that_is_signed() {
    let (registry, backup) = (Memory::default(), Memory::default());
    refusals([&registry, &backup], Some(OLD)).await;
    let before = identity(&backup).await;
    let first = identity(&registry).await.unwrap().id;
    let ids = [known(&first), known(&StoreId::random().unwrap())];
    let mut target = Target::new(Role::Backup(0), "mem://b", Arc::new(backup.clone()));
    target.set_membership(Membership::new(
        Role::Backup(0),
        false,
        Arc::new(KnownId::new(made_up(), |_| {})),
        ids.map(|id| Arc::new(KnownId::new(id, |_| {}))).into(),
        Arc::default(),
    ));
    target.probe(end()).await.unwrap();
    assert!(target.write_refusal().is_some());
    assert_eq!(identity(&backup).await, before);
}

#[tokio::test]
async fn a_read_only_mount_names_no_key() {
    let (registry, backup) = (Memory::default(), Memory::default());
    let stores = [&registry, &backup];
    refusals(stores, None).await;
    let pair = pair_with(stores, made_up(), true, Some(OLD));
    pair.registry.probe(end()).await.unwrap();
    pair.backup.probe(end()).await.unwrap();
    assert_eq!(stamp_keys(stores).await, ["none", "none"]);
}

#[tokio::test]
async fn a_store_that_was_out_at_first_refuses_unsigned_writes_later() {
    let (registry, backup) = (Memory::default(), Memory::default());
    refusals([&registry, &backup], Some(OLD)).await;
    let pair = pair(&registry, &backup);
    registry.set_fault(Fault::Fail(Kind::Unreachable));
    pair.registry.probe(end()).await.unwrap_err();
    assert!(pair.registry.write_refusal().is_none());
    registry.set_fault(None);
    let keys = registry.keys();
    let deleted = pair.registry.delete(&schema(), end()).await;
    assert_eq!(deleted.unwrap_err().kind, Kind::Denied);
    let probed = pair.registry.round_trip(end()).await;
    assert_eq!(probed.unwrap_err().kind, Kind::Denied);
    assert_eq!(registry.keys(), keys);
}
