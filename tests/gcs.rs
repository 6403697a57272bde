//! What only the GCS driver can meet: tokens, generations, and what goes to whom. It runs against
//! the stand-in that is written here, and where the two overlap against moto.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod support;

use atlasfs::artifact::RepoName;
use atlasfs::target::{Condition, GsLocation, Kind, Location, Target};
use support::behind::{Behind, all_are, keys, location_on, open_at, put, put_if, target_on};
use support::contract::{LIMIT, id, soon};
use support::proxy::Fault;
use support::server::{Kind as Store, Server};
use support::token;

/// The generation of what the stand-in holds as `app/schema`.
async fn generation(target: &Target) -> String {
    let head = target.head(&id("app/schema"), soon()).await.unwrap();
    head.token.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn stamp_token_and_condition_travel_in_headers() {
    let behind = Behind::on(Store::Gcs).await;
    let token = generation(&behind.target).await;
    assert!(token.parse::<u64>().is_ok(), "{token}");
    let app = RepoName::parse("app").unwrap();
    let listing = behind.target.list(&app, soon()).await.unwrap();
    let (_, listed) = listing.items.first_key_value().unwrap();
    assert_eq!(listed.token.as_ref().unwrap().0, token);
    behind.proxy.forget();
    let when = 1_726_000_000_123_456_789;
    let unchanged = Condition::Unchanged(listed.token.clone().unwrap());
    put_if(&behind.target, "app/schema", "x", when, &unchanged)
        .await
        .unwrap();
    put_if(
        &behind.target,
        "app/plans/p1",
        "x",
        when,
        &Condition::Absent,
    )
    .await
    .unwrap();
    let requests = behind.proxy.requests();
    let headers = requests[0].headers.clone();
    for header in [
        "authorization: Bearer ey",
        &format!("x-goog-if-generation-match: {token}\n"),
        "content-type: text/plain; charset=utf-8\n",
        "x-goog-meta-atlas-stamp: 2024-09-10T20:26:40.123456789Z\n",
        "x-goog-meta-atlas-sha256: 2d711642b726b044",
        "x-goog-meta-atlas-format: hcl\n",
    ] {
        assert!(headers.contains(header), "{header} not in {headers}");
    }
    let absent = "x-goog-if-generation-match: 0\n";
    assert!(requests[1].headers.contains(absent));
    assert_ne!(generation(&behind.target).await, token);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_generations_has_no_tokens_and_says_so() {
    // moto takes any token, and has neither generations nor Google's metadata.
    let server = Server::shared(Store::Moto);
    // It doesn't decode the name of a bucket, and object_store encodes hyphens.
    let bucket = "overlap".to_owned();
    assert_eq!(server.request("PUT", "/overlap", &[], b"").status, 200);
    let env = keys(Store::Gcs);
    let location = location_on(Store::Gcs, &bucket, server.endpoint());
    let endpoint = server.endpoint();
    let emulator = ("STORAGE_EMULATOR_HOST", endpoint.as_str());
    let target = open_at(&location, &[env, vec![emulator]].concat());
    put(&target, "app/schema", "x", 1).await.unwrap();
    for n in 0..1005 {
        let key = format!("pre/app/plans/{n:05}");
        server.inject(&bucket, &key, b"x").unwrap();
    }
    let app = RepoName::parse("app").unwrap();
    let listing = target.list(&app, soon()).await.unwrap();
    assert_eq!(listing.items.len(), 1006);
    assert!(listing.items.values().all(|item| item.token.is_none()));
    assert_eq!(target.repos(soon()).await.unwrap().0, [app]);
    let got = target.get(&id("app/schema"), LIMIT, soon()).await.unwrap();
    assert_eq!(
        (&*got.bytes, got.stamped, got.token),
        (&b"x"[..], false, None)
    );
    target.delete(&id("app/schema"), soon()).await.unwrap();
    target.delete(&id("app/schema"), soon()).await.unwrap();
    let gone = target.get(&id("app/schema"), LIMIT, soon()).await;
    assert_eq!(gone.unwrap_err().kind, Kind::NotFound);
    let missing = location_on(Store::Gcs, "no-such-bucket", server.endpoint());
    let missing = open_at(&missing, &[keys(Store::Gcs), vec![emulator]].concat());
    all_are(&missing, Kind::StoreMissing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_requests_and_those_to_an_emulator_carry_no_token() {
    let behind = Behind::on(Store::Gcs).await;
    let endpoint = behind.proxy.endpoint();
    let emulator = ("STORAGE_EMULATOR_HOST", endpoint.as_str());
    let location = GsLocation {
        url: "gs://public".into(),
        bucket: behind.bucket.clone(),
        ..GsLocation::default()
    };
    let anonymous = GsLocation {
        anonymous: true,
        ..location.clone()
    };
    let key = keys(Store::Gcs);
    for (location, env) in [
        (anonymous, [key, vec![emulator]].concat()),
        // gcloud's and the machine's own are not for an emulator either.
        (
            location,
            vec![emulator, ("GCE_METADATA_HOST", "127.0.0.1:9")],
        ),
    ] {
        behind.proxy.forget();
        let target = open_at(&Location::Gs(location), &env);
        all_are(&target, Kind::Denied).await;
        let requests = behind.proxy.requests();
        assert!(requests.len() >= 7, "{requests:?}");
        for request in requests {
            assert!(!request.headers.contains("authorization"), "{request:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_accounts_token_is_denied_at_every_operation_and_never_shown() {
    let server = Server::shared(Store::Gcs);
    let file = tempfile::NamedTempFile::new().unwrap();
    let key = std::fs::read_to_string(token::key_file()).unwrap();
    std::fs::write(file.path(), key.replace("tester@", "somebody@")).unwrap();
    let path = file.path().to_str().unwrap();
    let env = [("GOOGLE_APPLICATION_CREDENTIALS", path)];
    let target = target_on(Store::Gcs, &server.bucket(), server.endpoint(), &env);
    all_are(&target, Kind::Denied).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_says_what_google_said() {
    let behind = Behind::on(Store::Gcs).await;
    for (status, code, kind) in [
        (404, "NoSuchBucket", Kind::StoreMissing),
        (404, "NoSuchKey", Kind::NotFound),
        (401, "AuthenticationRequired", Kind::Denied),
        (403, "AccessDenied", Kind::Denied),
        (429, "SlowDown", Kind::Busy),
        (503, "ServiceUnavailable", Kind::Busy),
    ] {
        behind.proxy.set(Fault::Status(status, Some(code)));
        let got = behind.target.get(&id("app/schema"), LIMIT, soon()).await;
        let failure = got.unwrap_err();
        assert_eq!(failure.kind, kind, "{code}");
        let url = behind.target.url();
        let hint = match code {
            "NoSuchBucket" => " (make the bucket, or correct its name)",
            _ => "",
        };
        let expected =
            format!("cannot read app/schema at {url}: {status} {code}: told to fail{hint}");
        assert_eq!(failure.reason, expected);
    }
}
