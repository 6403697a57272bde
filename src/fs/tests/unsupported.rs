//! A registry without a backend in this version: the mount uses its backups, and no operation waits
//! for the registry.

use std::sync::Arc;
use std::time::Duration;

use super::fixtures::plan;
use super::kernel::{Choice, Fixture};
use super::resilience::forget_requests;
use super::{V1, V2};
use crate::fs::Error;
use crate::registry::Settings;
use crate::store::{Fault, Kind, Memory};

fn choice(stores: [Memory; 3]) -> Choice {
    Choice {
        registry: Settings {
            disk_cache_bytes: 1 << 20,
            repair: Duration::from_secs(30),
            ..Settings::default()
        },
        named: vec!["app"],
        allow_delete: true,
        replay: true,
        stores: Some(stores),
        ..Choice::default()
    }
}

fn island() -> Fixture {
    Fixture::with(choice([
        Memory::unsupported(),
        Memory::default(),
        Memory::default(),
    ]))
}

#[tokio::test(start_paused = true)]
async fn a_push_is_complete_on_the_backups() {
    let fixture = island();
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.cp("app/plans/p", &plan("p")).await.unwrap();
    for backup in &fixture.backups {
        assert_eq!(backup.content("app/schema").unwrap(), V1);
    }
    assert_eq!(fixture.xattr("app/schema", "pending").await, None);
    assert_eq!(fixture.events("push").await.len(), 2);
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["pending"], serde_json::json!([]));
    assert_eq!(status["journal"]["bytes"], 0);
    let receipt = fixture.xattr("app/plans/p", "push").await.unwrap();
    let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!(receipt["File"]["Status"], serde_json::Value::Null);
    let error = receipt["File"]["Error"].as_str().unwrap();
    assert!(error.contains("no backend"), "{error}");
    assert_eq!(receipt["Backups"][0].get("Error"), None);
}

#[tokio::test(start_paused = true)]
async fn nothing_asks_or_waits_for_the_registry() {
    let fixture = island();
    for _ in 0..9 {
        fixture.cp("app/schema", V1).await.unwrap();
        fixture.cp("app/schema", V2).await.unwrap();
        fixture.wait().await;
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
        assert_eq!(fixture.ls("").await.unwrap(), ["app"]);
        assert_eq!(fixture.stat("app/plans/q").await, Err(Error::NotFound));
    }
    assert_eq!(fixture.rm("app/schema").await, Err(Error::Io));
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(fixture.registry.requests().is_empty());
    for event in [
        "breaker-open",
        "breaker-closed",
        "fallback",
        "push-degraded",
    ] {
        assert!(fixture.events(event).await.is_empty(), "{event}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_distinguishes_it_from_an_outage() {
    let fixture = island();
    fixture.cp("app/schema", V1).await.unwrap();
    let status = fixture.json(".atlasfs/status").await;
    let registry = &status["targets"][0];
    assert_eq!(registry["role"], "registry");
    assert_eq!(registry["state"], "unsupported");
    assert_eq!(registry["breaker"], "closed");
    assert_eq!(
        (&registry["failures"], &registry["since"]),
        (&0.into(), &serde_json::Value::Null)
    );
    let reason = registry["last_failure"]["reason"].as_str().unwrap();
    assert!(reason.contains("no backend"), "{reason}");
    assert_eq!(status["healthy"], false);
    let backups = status["targets"].as_array().unwrap()[1..].iter();
    assert!(
        backups
            .map(|backup| &backup["state"])
            .all(|state| state == "ok")
    );
}

#[tokio::test(start_paused = true)]
async fn the_background_leaves_the_backups_in_peace() {
    let fixture = island();
    fixture.cp("app/schema", V1).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    forget_requests(&fixture);
    tokio::time::sleep(Duration::from_secs(120)).await;
    for backup in &fixture.backups {
        // One round every 30 s: a listing of the repositories, and of one repository's artifacts
        // and tombstones.
        let requests = backup.requests();
        assert!(requests.len() <= 9 * 3, "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_that_waits_for_a_registry_without_a_backend_is_kept() {
    let stores: [Memory; 3] = Default::default();
    let fixture = Fixture::with(choice(stores.clone()));
    stores[0].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V1).await.unwrap();
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["pending"][0]["targets"][0], "mem://registry");
    let state_dir = Some(Arc::clone(&fixture.state_dir));
    drop(fixture);
    let [_, first, second] = stores;
    let fixture = Fixture::with(Choice {
        state_dir,
        ..choice([Memory::unsupported(), first, second])
    });
    let status = fixture.json(".atlasfs/status").await;
    let pending = &status["pending"][0];
    assert_eq!(pending["targets"], serde_json::json!([]));
    assert_eq!(pending["elsewhere"][0]["id"], "mem://registry");
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_is_out_is_all_that_a_push_is_pending_for() {
    let fixture = island();
    fixture.backups[0].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.cp("app/schema", V1).await.unwrap();
    let pending = fixture.xattr("app/schema", "pending").await.unwrap();
    assert_eq!(pending.trim(), "mem://backup-1");
    fixture.backups[0].set_fault(None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(fixture.backups[0].content("app/schema").unwrap(), V1);
    assert_eq!(fixture.xattr("app/schema", "pending").await, None);
}

#[tokio::test(start_paused = true)]
async fn the_backups_are_read_in_order_and_the_cache_before_them() {
    let fixture = island();
    let other = Fixture::with(choice([
        Memory::unsupported(),
        fixture.backups[0].clone(),
        fixture.backups[1].clone(),
    ]));
    other.cp("app/schema", V1).await.unwrap();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    let source = fixture.xattr("app/schema", "source").await.unwrap();
    assert_eq!(source, "mem://backup-1");
    fixture.wait().await;
    forget_requests(&fixture);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    for backup in &fixture.backups {
        let requests = backup.requests();
        assert!(
            requests.iter().all(|request| !request.starts_with("GET")),
            "{requests:?}"
        );
    }
    fixture.backups[0].set_fault(Fault::Fail(Kind::Unreachable));
    other.cp("app/schema", V2).await.unwrap();
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    let source = fixture.xattr("app/schema", "source").await.unwrap();
    assert_eq!(source, "mem://backup-2");
}
