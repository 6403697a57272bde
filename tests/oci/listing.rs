//! A listing costs a request for each artifact, and reports its progress if it takes too long.

use std::time::Duration;

use atlasfs::model::{Item, RepoName};
use atlasfs::store::{Kind, Location};
use serde_json::json;
use tokio::time::Instant;

use super::stub_registry::{StubRegistry, json_reply, manifest};
use super::support::behind::{Behind, open_at, put};
use super::support::contract::soon;
use super::support::server::Kind as Store;

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_was_listed_once_is_only_revalidated() {
    let Behind {
        target,
        proxy,
        server: _server,
        ..
    } = Behind::on(Store::Registry).await;
    for n in 0..5 {
        put(&target, &format!("app/plans/p{n}"), "one", 1)
            .await
            .unwrap();
    }
    proxy.forget();
    let app = RepoName::parse("app").unwrap();
    let first = target.list(&app, soon()).await.unwrap();
    assert_eq!(proxy.count("GET", "/manifests/"), 6);
    put(&target, "app/plans/p3", "another", 2).await.unwrap();
    proxy.forget();
    let second = target.list(&app, soon()).await.unwrap();
    assert_eq!(proxy.count("HEAD", "/manifests/"), 6);
    assert_eq!(proxy.count("GET", "/manifests/"), 1);
    for (item, meta) in &second.items {
        let is_new = *item == Item::from_key("plans/p3").unwrap();
        assert_eq!(first.items[item] != *meta, is_new, "{item}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_takes_too_long_says_how_far_it_came() {
    let tags: Vec<String> = (0..500).map(|n| format!("app_.plans_.p{n}")).collect();
    let registry = StubRegistry::start(move |request| {
        if request.path.ends_with("tags/list") {
            let body = json!({"name": "acme/atlas", "tags": tags});
            return Some(json_reply(200, &body));
        }
        // The first few are quick.
        let slow = !request.path.contains("_.p1");
        std::thread::sleep(Duration::from_millis(if slow { 200 } else { 0 }));
        Some((200, Vec::new(), manifest()))
    });
    let target = open_at(&Location::Oci(registry.location()), &[]);
    let app = RepoName::parse("app").unwrap();
    let deadline = Instant::now() + Duration::from_millis(1000);
    let failure = target.list(&app, deadline).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Unreachable);
    assert!(failure.timed_out);
    let told = failure.reason;
    let expected = "of 500 artifacts, with one request each";
    assert!(
        told.contains(expected) && !told.contains(": 0 of"),
        "{told}"
    );
    // The next failure doesn't mention the listing. A deadline of now could be met.
    let past = Instant::now() - Duration::from_millis(10);
    let failure = target.probe(past).await.unwrap_err();
    assert!(!failure.reason.contains("looked up"), "{failure}");
}
