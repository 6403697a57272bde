use std::time::Duration;

use super::*;
use crate::config::parse_target;

#[test]
fn a_target_without_credentials_is_opened_and_refuses() {
    let env = |_: &str| None;
    let bucket = parse_target("s3://bucket/prefix?region=us-east-1").unwrap();
    let target = Target::open(Role::Registry, &bucket, &env).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let failure = runtime.unwrap().block_on(async {
        let end = Instant::now() + Duration::from_secs(1);
        target.probe(end).await.unwrap_err()
    });
    assert!(failure.reason.contains("AWS_ACCESS_KEY_ID"), "{failure}");
}

fn topology(registry: &str, backups: &[&str]) -> Topology {
    let backups = backups.iter().map(|url| parse_target(url).unwrap());
    Topology {
        repos: Vec::new(),
        migrations: Vec::new(),
        others: Some((parse_target(registry).unwrap(), backups.collect())),
        stamp_keys: None,
    }
}

/// Makes a folder, and returns its URL.
fn folder(dir: &std::path::Path, name: &str) -> String {
    let path = dir.join(name);
    std::fs::create_dir_all(&path).unwrap();
    format!("file://{}", path.display())
}

/// Mounts folders, and returns the registry's id with the warnings.
async fn mount(
    state: &std::path::Path,
    registry: &str,
    backups: &[&str],
) -> Result<(StoreId, Vec<String>), String> {
    let topology = topology(registry, backups);
    let stores = KnownStores::new(state);
    let end = Instant::now() + Duration::from_secs(2);
    let targets = Targets::open(&topology, Some(&stores), false).map_err(|error| error.0)?;
    let identified = targets.identify(end).await.map_err(|error| error.0)?;
    for replica in &targets.all {
        let _ = replica.ask(|target| target.probe(end)).await;
    }
    // The ids are kept by threads of their own.
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok((targets.first_registry().unwrap(), identified.warnings))
}

#[tokio::test]
async fn the_registry_is_known_while_it_is_out_and_by_its_backups() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let (reg, bak, here) = (at("reg"), at("bak"), at("here"));
    let url = |path: &std::path::Path| format!("file://{}", path.display());
    let (registry, backup) = (url(&reg), url(&bak));
    let (id, warnings) = mount(&here, &registry, &[&backup]).await.unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    std::fs::rename(&reg, at("away").join("reg")).unwrap();
    for state in [&here, &at("another-machine")] {
        let (known, _) = mount(state, &registry, &[&backup]).await.unwrap();
        assert_eq!(known, id);
    }
    std::fs::create_dir(&reg).unwrap();
    let other = at("third-machine");
    let (another, _) = mount(&other, &registry, &[]).await.unwrap();
    assert_ne!(another, id);
    let (now, warnings) = mount(&here, &registry, &[&backup]).await.unwrap();
    assert_eq!(now, another);
    assert!(warnings[0].contains("is not registry"), "{warnings:?}");
    let why = mount(&here, &backup, &[]).await.unwrap_err();
    assert!(why.contains("and no registry"), "{why}");
}

#[tokio::test]
async fn a_backup_of_another_registry_makes_no_new_registry_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let url = |name: &str| folder(dir.path(), name);
    let state = dir.path().join("state");
    mount(&state, &url("prod"), &[&url("prod-backup")])
        .await
        .unwrap();
    let why = mount(&state, &url("new"), &[&url("prod-backup")])
        .await
        .unwrap_err();
    assert!(why.contains("its backup belongs to registry"), "{why}");
    assert!(why.contains("atlasfs adopt"), "{why}");
    assert!(!dir.path().join("new/.atlasfs/store").exists());
}

#[tokio::test]
async fn a_mount_learns_the_ids_of_its_backups_at_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let url = |name: &str| folder(dir.path(), name);
    let state = dir.path().join("state");
    for registry in ["a", "b"] {
        let backup = url(&format!("{registry}-backup"));
        mount(&state, &url(registry), &[&backup]).await.unwrap();
    }
    // A slip: the mount forgets whose backup that is.
    let _ = mount(&state, &url("a"), &[&url("a-backup"), &url("b-backup")]).await;
    let said = std::fs::read(dir.path().join("b-backup/.atlasfs/store")).unwrap();
    let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
    let topology = topology(&url("b"), &[&url("b-backup")]);
    let targets = Targets::open(&topology, Some(&KnownStores::new(&state)), false).unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    targets.identify(end).await.unwrap();
    assert!(targets.all[1].is_named(said["id"].as_str().unwrap()));
}

#[tokio::test]
async fn configurations_without_a_url_are_told_apart_by_their_backups() {
    let dir = tempfile::tempdir().unwrap();
    let stores = KnownStores::new(&dir.path().join("state"));
    let end = Instant::now() + Duration::from_secs(2);
    let mut ids = Vec::new();
    for name in ["staging", "prod", "staging"] {
        let backup = dir.path().join(name);
        std::fs::create_dir_all(&backup).unwrap();
        let backup = parse_target(&format!("file://{}", backup.display())).unwrap();
        let topology = Topology {
            repos: Vec::new(),
            migrations: Vec::new(),
            others: Some((Location::AtlasCloud, vec![backup])),
            stamp_keys: None,
        };
        let targets = Targets::open(&topology, Some(&stores), false).unwrap();
        targets.identify(end).await.unwrap();
        let backup = &targets.all[1];
        backup.ask(|target| target.probe(end)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        ids.push(targets.first_registry().unwrap());
    }
    assert_eq!(ids[0], ids[2]);
    assert_ne!(ids[0], ids[1]);
}
