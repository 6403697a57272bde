//! The behaviour of the OCI driver alone: demands for credentials, redirected reads, pages of tags,
//! artifacts for other tools, and deletion.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod leases;
mod listing;
mod login;
mod stub_registry;
mod tools;

use atlasfs::store::{Kind, Location};
use serde_json::Value;
use support::behind::{all_are, every_operation, location_on, open_at, put, target_on};
use support::contract::{LIMIT, id, soon};
use support::proxy::{Fault, Proxy};
use support::registry;
use support::server::{Kind as Store, Server};

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_is_what_oras_and_its_like_can_read() {
    let server = Server::shared(Store::Registry);
    let repo = server.bucket();
    let target = target_on(Store::Registry, &repo, server.endpoint(), &[]);
    put(&target, "app/schema", "x", 1_726_000_000_123_456_789)
        .await
        .unwrap();
    let path = format!("{repo}/manifests/app_.schema");
    let accept = [("Accept", "application/vnd.oci.image.manifest.v1+json")];
    let got = registry::request(server.addr(), "GET", &path, &accept, b"");
    let json: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(json["artifactType"], "application/vnd.atlasfs.artifact.v1");
    let layer = &json["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.atlasfs.content.v1");
    assert_eq!(
        layer["annotations"]["org.opencontainers.image.title"],
        "schema"
    );
    let notes = &json["annotations"];
    assert_eq!(notes["atlas-stamp"], "2024-09-10T20:26:40.123456789Z");
    assert_eq!(server.read(&repo, "app/schema").unwrap(), b"x");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_under_two_names_is_deleted_under_one() {
    let server = Server::shared(Store::Registry);
    let target = target_on(Store::Registry, &server.bucket(), server.endpoint(), &[]);
    put(&target, "app/plans/p1", "x", 1).await.unwrap();
    put(&target, "app/plans/p2", "x", 1).await.unwrap();
    target.delete(&id("app/plans/p1"), soon()).await.unwrap();
    let gone = target.get(&id("app/plans/p1"), LIMIT, soon()).await;
    assert_eq!(gone.unwrap_err().kind, Kind::NotFound);
    target
        .get(&id("app/plans/p2"), LIMIT, soon())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_denied_and_a_registry_that_is_out_is_out() {
    let server = Server::shared(Store::Registry);
    let proxy = Proxy::start(server.addr());
    let mut location = location_on(Store::Registry, &server.bucket(), proxy.endpoint());
    let target = open_at(&location, &[]);
    put(&target, "app/schema", "x", 1).await.unwrap();
    for (fault, kind) in [
        (Fault::Refuse, Kind::Unreachable),
        (Fault::Reset, Kind::Unreachable),
        (Fault::Status(403, None), Kind::Denied),
        (Fault::Status(429, None), Kind::Busy),
        (Fault::Status(500, None), Kind::Busy),
        (Fault::Status(404, None), Kind::StoreMissing),
    ] {
        let missing = fault == Fault::Status(404, None);
        proxy.set(fault);
        for (name, failure) in every_operation(&target, std::time::Duration::from_secs(10)).await {
            // Deleting a missing artifact succeeds.
            if !(missing && name == "delete") {
                assert_eq!(failure.unwrap().kind, kind, "{name}");
            }
        }
    }
    proxy.set(Fault::Pass);
    for credentials in [None, Some(("tester".into(), "s3cret-but-wrong".into()))] {
        if let Location::Oci(location) = &mut location {
            location.credentials = credentials;
        }
        all_are(&open_at(&location, &[]), Kind::Denied).await;
    }
}
