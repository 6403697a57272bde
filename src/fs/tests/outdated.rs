//! Reads through a cache before the registry, which answers with what it had.

use std::time::{Duration, UNIX_EPOCH};

use super::fixtures::unstamped_lists;
use super::kernel::{Choice, Fixture};
use super::{V1, V2, V3};
use crate::model::{Format, Stamp, nanos};

/// A mount that has read `V1`, before reads of the registry come from a cache this many times, and
/// another mount pushes `V2` to the registry and the first backup.
async fn before_a_cache(reads: u32) -> Fixture {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        stores: unstamped_lists(),
        ..Choice::default()
    });
    let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
    let stamp = |seconds, content| Stamp::new(nanos(at(seconds)), content, Format::Hcl);
    for store in fixture.all() {
        store.place_at("app/schema", V1, Some(stamp(1, V1)), at(1));
    }
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    fixture.registry.cache_reads(reads);
    for store in fixture.all().into_iter().take(2) {
        store.place_at("app/schema", V2, Some(stamp(9, V2)), at(9));
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    fixture
}

#[tokio::test(start_paused = true)]
async fn content_older_than_the_registry_lists_is_an_outage() {
    let fixture = before_a_cache(u32::MAX).await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    let source = fixture.xattr("app/schema", "source").await.unwrap();
    assert_eq!(source, "mem://backup-1");
    let fallback = fixture.events("fallback").await.pop().unwrap();
    let reason = fallback["reason"].as_str().unwrap();
    assert!(reason.contains("older than"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn content_that_crosses_a_newer_listing_is_read_again() {
    let fixture = before_a_cache(1).await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    let source = fixture.xattr("app/schema", "source").await.unwrap();
    assert_eq!(source, "registry");
}

#[tokio::test(start_paused = true)]
async fn content_newer_than_the_registry_listed_is_served_at_once() {
    let fixture = before_a_cache(0).await;
    fixture.ls("app").await.unwrap();
    let newer = UNIX_EPOCH + Duration::from_secs(1_700_000_010);
    let stamp = Stamp::new(nanos(newer), V3, Format::Hcl);
    fixture
        .registry
        .place_at("app/schema", V3, Some(stamp), newer);
    fixture.registry.requests();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V3);
    assert_eq!(fixture.registry.requests(), ["GET app/schema"]);
}
