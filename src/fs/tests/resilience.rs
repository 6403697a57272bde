//! Outages of targets: they cost little, and end when a probe succeeds.

use std::time::Duration;

use tokio::time::Instant;

use super::kernel::{Choice, Fixture};
use super::{V1, V2};
use crate::fs::Error;
use crate::registry::Settings;
use crate::store::{Fault, Kind, Memory};

/// The longest pause between two probes, jitter included.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(45);

/// A realistic mount, background work included, with an empty cache.
pub(super) async fn fixture(settings: Settings) -> Fixture {
    let fixture = Fixture::with(Choice {
        registry: Settings {
            cache_bytes: 0,
            ..settings
        },
        named: vec!["app"],
        replay: true,
        ..Choice::default()
    });
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.wait().await;
    forget_requests(&fixture);
    fixture
}

pub(super) fn forget_requests(fixture: &Fixture) {
    fixture
        .all()
        .iter()
        .for_each(|store| drop(store.requests()));
}

/// Returns the requests so far that were made for a user.
pub(super) fn asked(store: &Memory) -> Vec<String> {
    let requests = store.requests().into_iter();
    requests.filter(|request| request != "PROBE").collect()
}

impl Fixture {
    pub(super) async fn breaker(&self, target: usize) -> String {
        let status = self.json(".atlasfs/status").await;
        status["targets"][target]["breaker"]
            .as_str()
            .unwrap()
            .into()
    }

    /// Lists until the registry's breaker is open. Each listing is one outage. For a hung registry,
    /// each listing is hedged and starts a probe.
    async fn open_breaker(&self) {
        for _ in 0..3 {
            self.wait().await;
            let _ = self.ls("app").await;
        }
        if self.breaker(0).await == "closed" {
            tokio::time::sleep(Duration::from_secs(6)).await;
        }
        assert_eq!(self.breaker(0).await, "open");
    }

    pub(super) async fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        let events = String::from_utf8(self.cat(".atlasfs/events").await.unwrap()).unwrap();
        let events = events
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        events
            .filter(|event: &serde_json::Value| event["event"] == kind)
            .collect()
    }

    pub(super) async fn metric(&self, line: &str) -> bool {
        let metrics = String::from_utf8(self.cat(".atlasfs/metrics").await.unwrap()).unwrap();
        metrics.lines().any(|there| there == line)
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_is_skipped_after_some_outages_in_a_row() {
    let fixture = fixture(Settings::default()).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Busy));
    for outages in 1..=3 {
        assert_eq!(fixture.breaker(0).await, "closed", "{outages}");
        fixture.wait().await;
        fixture.ls("app").await.unwrap();
    }
    assert_eq!(fixture.breaker(0).await, "open");
    forget_requests(&fixture);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(
        fixture.xattr("app/schema", "source").await.unwrap(),
        "mem://backup-1"
    );
    assert!(asked(&fixture.registry).is_empty());
    assert_eq!(fixture.breaker(1).await, "closed");
    let line = "atlasfs_target_breaker_open{target=\"mem://registry\"} 1";
    assert!(fixture.metric(line).await);
    let opened = fixture.events("breaker-open").await;
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0]["target"], "mem://registry");
    assert!(opened[0]["reason"].as_str().unwrap().contains("planted"));
}

#[tokio::test(start_paused = true)]
async fn a_skipped_target_delays_neither_reads_nor_pushes() {
    let fixture = fixture(Settings::default()).await;
    fixture.registry.set_fault(Fault::Hang);
    fixture.open_breaker().await;
    fixture.wait().await;
    let begun = Instant::now();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    fixture.cp("app/schema", V2).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(10));
    for backup in &fixture.backups {
        assert_eq!(backup.content("app/schema").unwrap(), V2);
    }
    assert!(
        asked(&fixture.registry)
            .iter()
            .all(|request| !request.starts_with("PUT"))
    );
    let receipt = fixture.xattr("app/schema", "push").await.unwrap();
    assert!(receipt.contains("skipped: out since "), "{receipt}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_closes_the_breaker_and_starts_the_replay() {
    let fixture = fixture(Settings::default()).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.open_breaker().await;
    fixture.cp("app/schema", V2).await.unwrap();
    // By now the background work probes the registry only about once a minute.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V1);
    forget_requests(&fixture);
    fixture.registry.set_fault(None);
    let healed = Instant::now();
    while fixture.breaker(0).await == "open" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(healed.elapsed() <= LONGEST_PAUSE);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V2);
    assert_eq!(fixture.events("breaker-closed").await.len(), 1);
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    assert_eq!(
        fixture.xattr("app/schema", "source").await.unwrap(),
        "registry"
    );
}

#[tokio::test(start_paused = true)]
async fn probes_come_after_a_second_and_then_more_and_more_rarely() {
    let fixture = fixture(Settings::default()).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.open_breaker().await;
    forget_requests(&fixture);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(fixture.registry.requests().first().unwrap(), "PROBE");
    tokio::time::sleep(Duration::from_secs(120)).await;
    fixture.registry.requests();
    tokio::time::sleep(Duration::from_secs(300)).await;
    let probes = fixture.registry.requests().len();
    assert!((6..=20).contains(&probes), "{probes} in 300 s");
}

#[tokio::test(start_paused = true)]
async fn a_hung_target_does_not_hang_its_probe() {
    let fixture = fixture(Settings::default()).await;
    fixture.registry.set_fault(Fault::Hang);
    fixture.open_breaker().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    fixture.registry.set_fault(None);
    tokio::time::sleep(LONGEST_PAUSE + Duration::from_secs(2)).await;
    assert_eq!(fixture.breaker(0).await, "closed");
}

#[tokio::test(start_paused = true)]
async fn outages_count_from_zero_when_a_target_is_back() {
    let fixture = fixture(Settings::default()).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Busy));
    fixture.open_breaker().await;
    fixture.registry.set_fault(None);
    tokio::time::sleep(LONGEST_PAUSE).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Busy));
    for _ in 0..2 {
        fixture.wait().await;
        fixture.ls("app").await.unwrap();
        assert_eq!(fixture.breaker(0).await, "closed");
    }
    fixture.wait().await;
    fixture.ls("app").await.unwrap();
    assert_eq!(fixture.breaker(0).await, "open");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_is_asked_each_time() {
    let fixture = fixture(Settings::default()).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Denied));
    for _ in 0..9 {
        fixture.wait().await;
        assert_eq!(fixture.ls("app").await, Err(Error::Denied));
    }
    assert_eq!(fixture.breaker(0).await, "closed");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_object_does_not_have_its_store_skipped() {
    let fixture = fixture(Settings::default()).await;
    fixture.registry.set_fault(Fault::Corrupt);
    for _ in 0..9 {
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    }
    assert_eq!(fixture.breaker(0).await, "closed");
}

#[tokio::test(start_paused = true)]
async fn with_every_target_skipped_all_ends_in_time_and_heals_at_once() {
    let fixture = fixture(Settings::default()).await;
    for store in fixture.all() {
        store.set_fault(Fault::Hang);
    }
    for _ in 0..12 {
        fixture.wait().await;
        let _ = fixture.ls("app").await;
    }
    for target in 0..3 {
        assert_eq!(fixture.breaker(target).await, "open");
    }
    fixture.wait().await;
    let begun = Instant::now();
    assert_eq!(fixture.cat("app/schema").await, Err(Error::Io));
    assert!(begun.elapsed() <= Duration::from_millis(5_010));
    let begun = Instant::now();
    assert_eq!(fixture.cp("app/schema", V2).await, Err(Error::Io));
    assert!(begun.elapsed() <= Duration::from_millis(15_010));
    for store in fixture.all() {
        store.set_fault(None);
    }
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(fixture.cp("app/plans/p", PLAN).await, Ok(()));
}

const PLAN: &[u8] = b"plan \"p\" {\nfrom=\"a\"\nto=\"b\"\nmigration=\"c\"\n}\n";

#[tokio::test(start_paused = true)]
async fn with_every_target_skipped_cached_content_is_served_at_once() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        replay: true,
        ..Choice::default()
    });
    fixture.cp("app/schema", V1).await.unwrap();
    for store in fixture.all() {
        store.set_fault(Fault::Hang);
    }
    for _ in 0..4 {
        fixture.wait().await;
        let _ = fixture.ls("app").await;
    }
    fixture.wait().await;
    let begun = Instant::now();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert!(begun.elapsed() < Duration::from_millis(10));
    assert!(fixture.xattr("app/schema", "stale").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn without_a_breaker_every_target_is_asked_each_time() {
    let fixture = fixture(Settings {
        breaker: 0,
        ..Settings::default()
    })
    .await;
    fixture.registry.set_fault(Fault::Fail(Kind::Busy));
    for _ in 0..9 {
        fixture.wait().await;
        fixture.ls("app").await.unwrap();
    }
    assert_eq!(fixture.breaker(0).await, "closed");
    assert_eq!(fixture.registry.requests(), ["LIST app"; 9]);
}

#[tokio::test(start_paused = true)]
async fn an_ended_mount_sends_no_probes() {
    let fixture = fixture(Settings::default()).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Busy));
    fixture.open_breaker().await;
    let store = fixture.registry.clone();
    drop(fixture);
    store.requests();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(store.requests().is_empty());
}
