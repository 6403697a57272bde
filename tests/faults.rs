//! The verdict of each driver on a failing store: the kind of failure, the deadline, and the
//! message, which hides secrets. The stores are real servers behind a proxy that breaks requests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod support;

use std::time::Duration;

use atlasfs::model::RepoName;
use atlasfs::store::{Condition, Failure, Kind, Location};
use support::behind::{
    AZURE_KEYS, Behind, KEYS, all_are, every_operation, keys, location_on, open_at, put, put_if,
    target, target_on,
};
use support::contract::{LIMIT, id, soon};
use support::proxy::{Fault, Proxy};
use support::server::{Kind as Store, Server};
use support::tls::self_signed;
use tokio::time::Instant;

/// Makes each of these tests on each kind of server.
macro_rules! on_every_store {
    ([$($test:ident),* $(,)?], $($store:ident: $kind:expr),* $(,)?) => {
        on_every_store!(@each [$($test),*] [$($store: $kind),*]);
    };
    (@each $tests:tt [$($store:ident: $kind:expr),*]) => {
        $(on_every_store!(@one $tests $store $kind);)*
    };
    (@one [$($test:ident),*] $store:ident $kind:expr) => {
        mod $store {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test($kind).await;
            })*
        }
    };
}

on_every_store!(
    [
        each_status_has_its_kind_at_every_operation,
        no_complete_reply_is_an_outage_at_every_operation,
        no_trust_is_an_outage_at_every_operation,
        a_redirect_of_a_store_is_not_followed,
        a_store_that_says_when_to_ask_again_is_not_asked_sooner,
        a_not_found_that_is_cut_off_is_an_outage_for_its_code_is_lost,
        a_changed_byte_is_corrupt,
        every_operation_ends_at_its_deadline_when_the_store_hangs,
        one_bad_moment_is_tried_again_once_and_quickly,
        a_conditional_put_whose_reply_is_lost_is_recognised_as_done,
        an_unexpected_success_status_is_an_outage,
        an_error_or_a_page_in_a_success_is_an_outage,
        a_write_that_was_done_under_another_status_is_recognised,
    ],
    s3: Store::Moto,
    azure: Store::Azurite,
    gcs: Store::Gcs,
    oci: Store::Registry,
);

// An OCI repository exists from the first push on, and its operations take more than one request.
on_every_store!(
    [
        a_missing_store_is_reported_by_every_operation,
        deleting_a_missing_artifact_succeeds_and_each_operation_is_one_request,
    ],
    s3_alone: Store::Moto,
    azure_alone: Store::Azurite,
    gcs_alone: Store::Gcs,
);

async fn a_missing_store_is_reported_by_every_operation(kind: Store) {
    let server = Server::shared(kind);
    let missing = target_on(kind, "no-such-bucket", server.endpoint(), &keys(kind));
    all_are(&missing, Kind::StoreMissing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3s_fs_has_a_missing_bucket_when_it_is_probed() {
    // s3s-fs reports a missing key when a read comes, and makes the bucket when a write comes.
    let server = Server::shared(Store::S3s);
    let missing = target("no-such-bucket", server.endpoint(), &KEYS);
    let failure = missing.probe(soon()).await.unwrap_err();
    assert_eq!(failure.kind, Kind::StoreMissing);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_denied_at_every_operation() {
    let moto = Server::start(Store::Moto);
    let bucket = moto.bucket();
    moto.demand_credentials();
    all_are(&target(&bucket, moto.endpoint(), &KEYS), Kind::Denied).await;
    let s3s = Server::shared(Store::S3s);
    let wrong = [KEYS[0], ("AWS_SECRET_ACCESS_KEY", "wrong")];
    all_are(&target(&s3s.bucket(), s3s.endpoint(), &wrong), Kind::Denied).await;
    let azurite = Server::shared(Store::Azurite);
    let (bucket, endpoint) = (azurite.bucket(), azurite.endpoint());
    let wrong = [AZURE_KEYS[0], ("AZURE_STORAGE_KEY", "d3Jvbmc=")];
    let target = target_on(Store::Azurite, &bucket, endpoint, &wrong);
    all_are(&target, Kind::Denied).await;
}

async fn deleting_a_missing_artifact_succeeds_and_each_operation_is_one_request(kind: Store) {
    let behind = Behind::on(kind).await;
    let (target, app) = (&behind.target, RepoName::parse("app").unwrap());
    target.delete(&id("app/plans/none"), soon()).await.unwrap();
    target.list(&app, soon()).await.unwrap();
    target.get(&id("app/schema"), LIMIT, soon()).await.unwrap();
    put(target, "app/schema", "x", 2).await.unwrap();
    target.delete(&id("app/schema"), soon()).await.unwrap();
    let methods: Vec<_> = behind.proxy.requests();
    let methods: Vec<&str> = methods.iter().map(|request| &*request.method).collect();
    assert_eq!(methods, ["DELETE", "GET", "GET", "PUT", "DELETE"]);
    let gone = target.get(&id("app/schema"), LIMIT, soon()).await;
    assert_eq!(gone.unwrap_err().kind, Kind::NotFound);
}

async fn each_status_has_its_kind_at_every_operation(store: Store) {
    let behind = Behind::on(store).await;
    for (status, code, kind) in [
        (401, None, Kind::Denied),
        (403, Some("AccessDenied"), Kind::Denied),
        (400, None, Kind::Invalid),
        (400, Some("ExpiredToken"), Kind::Denied),
        (422, None, Kind::Invalid),
        (408, None, Kind::Busy),
        (429, Some("SlowDown"), Kind::Busy),
        (500, Some("InternalError"), Kind::Busy),
        (501, Some("NotImplemented"), Kind::Busy),
        (503, None, Kind::Busy),
    ] {
        behind.proxy.set(Fault::Status(status, code));
        all_are(&behind.target, kind).await;
    }
    // OCI registries don't have this code, so the driver asks the registry for its tags.
    let no_key = match store {
        Store::Registry => Kind::StoreMissing,
        _ => Kind::NotFound,
    };
    let missing = Kind::StoreMissing;
    for (status, code, [read, list, write]) in [
        (404, Some("NoSuchKey"), [no_key, missing, missing]),
        // A server that answers "not found" to everything is not a store.
        (404, None, [missing; 3]),
        (409, None, [Kind::Busy; 3]),
        (412, None, [Kind::Busy, Kind::Busy, Kind::Conflict]),
        // Only the rest of an interrupted body is requested by its range.
        (416, None, [Kind::Busy, Kind::Invalid, Kind::Invalid]),
        (413, None, [Kind::Invalid, Kind::Invalid, Kind::NoSpace]),
        (507, None, [Kind::Busy, Kind::Busy, Kind::NoSpace]),
    ] {
        behind.proxy.set(Fault::Status(status, code));
        let outcomes = every_operation(&behind.target, Duration::from_secs(10)).await;
        for (name, failure) in outcomes {
            let expected = match name {
                "get" => Some(read),
                "list" | "repos" | "probe" => Some(list),
                "put" => Some(write),
                // Deleting a missing artifact succeeds; HEAD has no body with a code.
                _ => continue,
            };
            assert_eq!(
                failure.map(|failure| failure.kind),
                expected,
                "{name} {status}"
            );
        }
    }
}

async fn no_complete_reply_is_an_outage_at_every_operation(kind: Store) {
    let behind = Behind::on(kind).await;
    for fault in [Fault::Refuse, Fault::Reset, Fault::LoseReply] {
        behind.proxy.set(fault);
        all_are(&behind.target, Kind::Unreachable).await;
    }
    behind.proxy.set(Fault::Pass);
    put(&behind.target, "app/schema", "the schema state", 9)
        .await
        .unwrap();
    behind.proxy.set(Fault::CutBody);
    let got = behind.target.get(&id("app/schema"), LIMIT, soon()).await;
    assert_eq!(got.unwrap_err().kind, Kind::Unreachable);
    let app = RepoName::parse("app").unwrap();
    let listed = behind.target.list(&app, soon()).await;
    assert_eq!(listed.unwrap_err().kind, Kind::Unreachable);
}

async fn no_trust_is_an_outage_at_every_operation(kind: Store) {
    // One server speaks no TLS, and the other has a certificate from no known authority.
    let (plain, certificate) = (Server::shared(kind), self_signed());
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| certificate.path().join(name));
    let stranger = Server::registry_with_tls(&cert, &key);
    for addr in [plain.addr(), stranger.addr()] {
        let endpoint = format!("https://{addr}");
        let mut location = location_on(kind, "bucket", endpoint.clone());
        match &mut location {
            Location::Azure(azure) => {
                azure.domain = Some(addr.to_string());
                azure.protocol = Some("https".into());
            }
            // The same address in a form for which the driver doesn't use http.
            Location::Oci(oci) => oci.host = format!("[::ffff:127.0.0.1]:{}", addr.port()),
            _ => {}
        }
        let emulator = ("STORAGE_EMULATOR_HOST", &*endpoint);
        let target = open_at(&location, &[keys(kind), vec![emulator]].concat());
        all_are(&target, Kind::Unreachable).await;
    }
}

async fn a_redirect_of_a_store_is_not_followed(kind: Store) {
    let behind = Behind::on(kind).await;
    let elsewhere = Proxy::start(behind.server.addr());
    let there = format!("{}/?X-Amz-Signature=s3cret", elsewhere.endpoint());
    behind.proxy.set(Fault::Redirect(there));
    all_are(&behind.target, Kind::Unreachable).await;
    assert_eq!(elsewhere.requests(), []);
}

async fn a_store_that_says_when_to_ask_again_is_not_asked_sooner(kind: Store) {
    let behind = Behind::on(kind).await;
    for status in [429, 503] {
        behind.proxy.set(Fault::Wait(status));
        behind.proxy.forget();
        let outcomes = every_operation(&behind.target, Duration::from_secs(10)).await;
        for (name, failure) in &outcomes {
            assert_eq!(failure.as_ref().unwrap().kind, Kind::Busy, "{name}");
        }
        let requests = behind.proxy.requests();
        assert_eq!(requests.len(), outcomes.len(), "{status}: {requests:?}");
        behind.proxy.forget();
        let new = put_if(&behind.target, "app/plans/p", "x", 5, &Condition::Absent).await;
        assert_eq!(new.unwrap_err().kind, Kind::Busy);
        let requests = behind.proxy.requests();
        assert_eq!(requests.len(), 1, "{status}: {requests:?}");
    }
    // A later request is sent without a wait.
    behind.proxy.set(Fault::Pass);
    put(&behind.target, "app/schema", "again", 5).await.unwrap();
}

async fn a_not_found_that_is_cut_off_is_an_outage_for_its_code_is_lost(kind: Store) {
    let behind = Behind::on(kind).await;
    let read = || async {
        let got = behind.target.get(&id("app/plans/p1"), LIMIT, soon()).await;
        got.unwrap_err().kind
    };
    assert_eq!(read().await, Kind::NotFound);
    behind.proxy.set(Fault::CutBody);
    assert_eq!(read().await, Kind::Unreachable);
}

async fn a_changed_byte_is_corrupt(kind: Store) {
    let behind = Behind::on(kind).await;
    behind.proxy.set(Fault::CorruptBody);
    let got = behind.target.get(&id("app/schema"), LIMIT, soon()).await;
    assert_eq!(got.unwrap_err().kind, Kind::Corrupt);
}

async fn every_operation_ends_at_its_deadline_when_the_store_hangs(kind: Store) {
    let deadline = Duration::from_millis(300);
    let behind = Behind::on(kind).await;
    for fault in [
        Fault::Hang,
        Fault::Delay(Duration::from_secs(5)),
        Fault::Drip(1, Duration::from_millis(100)),
    ] {
        behind.proxy.set(fault);
        for (name, failure) in every_operation(&behind.target, deadline).await {
            assert_eq!(failure.unwrap().kind, Kind::Unreachable, "{name}");
        }
    }
    behind.proxy.set(Fault::Delay(Duration::from_millis(50)));
    put(&behind.target, "app/schema", "again", 5).await.unwrap();
}

async fn one_bad_moment_is_tried_again_once_and_quickly(kind: Store) {
    let behind = Behind::on(kind).await;
    let (target, proxy) = (&behind.target, &behind.proxy);
    let start = Instant::now();
    for status in [500, 503, 429] {
        proxy.set(Fault::FailFirst(1, status));
        target.get(&id("app/schema"), LIMIT, soon()).await.unwrap();
        proxy.set(Fault::FailFirst(1, status));
        put(target, "app/schema", "the schema state", 2)
            .await
            .unwrap();
        proxy.set(Fault::FailFirst(2, status));
        let failure = target
            .get(&id("app/schema"), LIMIT, soon())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, Kind::Busy);
    }
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(proxy.count("GET", "schema"), 3 * 4);
    // In an OCI registry, the first request of a push asks whether the content exists.
    let puts = if kind == Store::Registry { 1 } else { 2 };
    assert_eq!(proxy.count("PUT", "schema"), 3 * puts);
}

async fn a_conditional_put_whose_reply_is_lost_is_recognised_as_done(kind: Store) {
    let behind = Behind::on(kind).await;
    let (target, proxy) = (&behind.target, &behind.proxy);
    proxy.set_for(&["PUT"], Fault::LoseReply);
    put_if(target, "app/plans/p1", "one", 2, &Condition::Absent)
        .await
        .unwrap();
    let token = target
        .head(&id("app/schema"), soon())
        .await
        .unwrap()
        .token
        .unwrap();
    put_if(target, "app/schema", "two", 3, &Condition::Unchanged(token))
        .await
        .unwrap();
    // The content of another writer is still a conflict.
    proxy.set(Fault::Pass);
    let conflict = put_if(target, "app/plans/p1", "one", 4, &Condition::Absent).await;
    assert_eq!(conflict.unwrap_err().kind, Kind::Conflict);
    // And a write that did not arrive does not count as done.
    proxy.set_for(&["PUT"], Fault::Reset);
    let lost = put_if(target, "app/plans/p2", "x", 5, &Condition::Absent).await;
    assert_eq!(lost.unwrap_err().kind, Kind::Unreachable);
}

/// Returns the statuses of a successful PUT and of a successful DELETE.
fn successes(kind: Store) -> (u16, &'static [u16]) {
    match kind {
        Store::Moto | Store::S3s | Store::Rclone | Store::Gcs => (200, &[200, 204]),
        Store::Azurite | Store::Registry => (201, &[200, 202, 204]),
    }
}

/// Sends one request while the store answers its method wrongly: that is an outage.
async fn outage(behind: &Behind, method: &'static str, fault: Fault) -> Failure {
    let (target, schema) = (&behind.target, id("app/schema"));
    behind.proxy.set_for(&[method], fault);
    let done = match method {
        "PUT" => put(target, "app/schema", "new", 5).await,
        "DELETE" => target.delete(&schema, soon()).await,
        _ => target.get(&schema, LIMIT, soon()).await.map(drop),
    };
    behind.proxy.set(Fault::Pass);
    let there = target.get(&schema, LIMIT, soon()).await.unwrap();
    assert_eq!(there.bytes, "the schema state", "{method}");
    let failure = done.unwrap_err();
    assert_eq!(failure.kind, Kind::Unreachable, "{method}: {failure}");
    failure
}

async fn an_unexpected_success_status_is_an_outage(kind: Store) {
    let behind = Behind::on(kind).await;
    let (put_status, deletions) = successes(kind);
    for status in [200, 201, 202, 203, 204, 205, 206, 207, 304] {
        if status != put_status {
            outage(&behind, "PUT", Fault::Claim(status, "")).await;
        }
        if !deletions.contains(&status) {
            outage(&behind, "DELETE", Fault::Claim(status, "")).await;
        }
        // Replies with the other statuses have no body, even if more bytes follow.
        if [201, 202, 203, 206].contains(&status) {
            outage(&behind, "GET", Fault::Restate(status)).await;
        }
    }
}

async fn an_error_or_a_page_in_a_success_is_an_outage(kind: Store) {
    let behind = Behind::on(kind).await;
    let (put_status, deletions) = successes(kind);
    let xml = "<Error><Code>InternalError</Code><Message>We failed</Message></Error>";
    let json = r#"{"errors":[{"code":"UNKNOWN","message":"We failed"}]}"#;
    let page = "<!DOCTYPE html><html>Sign in, please</html>";
    for (body, told) in [
        (xml, "InternalError"),
        (json, "UNKNOWN"),
        (page, "web page"),
    ] {
        let failure = outage(&behind, "PUT", Fault::Claim(put_status, body)).await;
        assert!(failure.reason.contains(told), "{failure}");
        for &status in deletions.iter().filter(|status| **status != 204) {
            let failure = outage(&behind, "DELETE", Fault::Claim(status, body)).await;
            assert!(failure.reason.contains(told), "{failure}");
        }
    }
}

async fn a_write_that_was_done_under_another_status_is_recognised(kind: Store) {
    let behind = Behind::on(kind).await;
    behind.proxy.set_for(&["PUT"], Fault::Restate(203));
    let new = put_if(&behind.target, "app/plans/p1", "one", 2, &Condition::Absent).await;
    match kind {
        // The upload of the content comes first, and has no condition.
        Store::Registry => assert_eq!(new.unwrap_err().kind, Kind::Unreachable),
        _ => new.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_ends_at_its_deadline_while_the_server_is_frozen_and_works_afterwards() {
    for kind in [Store::Moto, Store::Azurite, Store::Registry] {
        let deadline = Duration::from_millis(300);
        let server = Server::start(kind);
        let frozen = target_on(kind, &server.bucket(), server.endpoint(), &keys(kind));
        put(&frozen, "app/schema", "x", 1).await.unwrap();
        server.freeze();
        for (name, failure) in every_operation(&frozen, deadline).await {
            assert_eq!(failure.unwrap().kind, Kind::Unreachable, "{name}");
        }
        server.thaw();
        put(&frozen, "app/plans/p1", "x", 3).await.unwrap();
    }
}
