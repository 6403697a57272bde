//! The behaviour of the S3 driver alone: replies that no store sends, other regions, strange keys,
//! credentials from a service, and the texts and hidden secrets of its messages.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod support;

use std::time::Duration;

use atlasfs::model::{Item, RepoName};
use atlasfs::store::{Kind, S3Location};
use support::behind::{Behind, KEYS, all_are, every_operation, location, open, put, target};
use support::contract::{LIMIT, id, signing, soon};
use support::proxy::{Fault, Proxy};
use support::server::{Kind as Store, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_no_stores_is_an_outage() {
    let behind = Behind::new().await;
    behind
        .proxy
        .set(Fault::Body(200, "<html><body>please log in</body></html>"));
    for (name, failure) in every_operation(&behind.target, Duration::from_secs(10)).await {
        // For a DELETE, S3 itself sends a status alone.
        if name != "delete" {
            assert_eq!(failure.unwrap().kind, Kind::Unreachable, "{name}");
        }
    }
    let elsewhere = Proxy::start(behind.server.addr());
    behind
        .proxy
        .set(Fault::Redirect(format!("{}/stolen", elsewhere.endpoint())));
    all_are(&behind.target, Kind::Unreachable).await;
    assert!(elsewhere.requests().is_empty(), "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_in_another_region_is_refused_with_the_name_of_that_region() {
    let behind = Behind::new().await;
    for (status, body) in [
        (
            301,
            "<Error><Code>PermanentRedirect</Code><Region>eu-west-3</Region></Error>",
        ),
        (
            400,
            "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>",
        ),
    ] {
        behind.proxy.set(Fault::Body(status, body));
        let failure = behind.target.probe(soon()).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Invalid);
        assert!(failure.reason.contains("set region=eu-west-3"), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_names_the_operation_its_target_and_the_answer_and_no_secret() {
    let behind = Behind::new().await;
    behind.proxy.set(Fault::Body(
        403,
        "<Error><Code>SignatureDoesNotMatch</Code><Message>AKIDTESTTESTTEST is wrong</Message>\
         <AWSAccessKeyId>AKIDTESTTESTTEST</AWSAccessKeyId><StringToSign>AWS4-HMAC-SHA256\n\
         20240910T173744Z</StringToSign></Error>",
    ));
    let failure = behind
        .target
        .get(&id("app/schema"), LIMIT, soon())
        .await
        .unwrap_err();
    let (reason, url) = (failure.reason, behind.target.url());
    assert_eq!(
        reason,
        format!(
            "cannot read app/schema at {url}: 403 SignatureDoesNotMatch: \u{2026} is wrong (the secret key does not belong to the access key: correct it)"
        )
    );
    behind.proxy.set(Fault::Refuse);
    let failure = behind.target.probe(soon()).await.unwrap_err();
    assert!(failure.reason.contains("connection refused"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_no_path_can_hold_are_part_of_a_listing_and_hidden() {
    let behind = Behind::new().await;
    behind.proxy.set(Fault::Body(
        200,
        "<ListBucketResult><IsTruncated>false</IsTruncated>\
         <Contents><Key>pre/app/schema</Key><Size>4</Size></Contents>\
         <Contents><Key>pre/app/../other/schema</Key><Size>1</Size></Contents>\
         <Contents><Key>pre/app//schema</Key><Size>1</Size></Contents>\
         <Contents><Key>pre/app/plans/a&#x1;b</Key><Size>1</Size></Contents>\
         <Contents><Key>pre/app/schema/</Key><Size>0</Size></Contents>\
         <Contents><Key>/pre/app/schema</Key><Size>1</Size></Contents>\
         <CommonPrefixes><Prefix>pre/app/</Prefix></CommonPrefixes>\
         <CommonPrefixes><Prefix>pre//</Prefix></CommonPrefixes>\
         <CommonPrefixes><Prefix>pre/../</Prefix></CommonPrefixes></ListBucketResult>",
    ));
    let app = RepoName::parse("app").unwrap();
    let listing = behind.target.list(&app, soon()).await.unwrap();
    assert_eq!(listing.items.len(), 1);
    assert_eq!(listing.items[&Item::Schema].size, 4);
    // `app/schema/` sorts after the schema, where the listing stops: history may be long.
    assert_eq!(
        listing.hidden,
        [
            "app/../other/schema",
            "app//schema",
            "app/plans/a\u{1}b",
            "/pre/app/schema"
        ]
    );
    let (repos, hidden) = behind.target.repos(soon()).await.unwrap();
    assert_eq!(
        (repos, hidden),
        (vec![app], vec![String::new(), "..".into()])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_never_ends_does() {
    let behind = Behind::new().await;
    behind.proxy.set(Fault::Body(
        200,
        "<ListBucketResult><IsTruncated>true</IsTruncated>\
         <NextContinuationToken>again</NextContinuationToken></ListBucketResult>",
    ));
    let listed = behind
        .target
        .list(&RepoName::parse("app").unwrap(), soon())
        .await;
    assert_eq!(listed.unwrap_err().kind, Kind::Unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_listing_is_one_request_and_one_read_is_one() {
    let Behind {
        target,
        proxy,
        server: _server,
        ..
    } = Behind::new().await;
    target
        .list(&RepoName::parse("app").unwrap(), soon())
        .await
        .unwrap();
    target.get(&id("app/schema"), LIMIT, soon()).await.unwrap();
    put(&target, "app/schema", "x", 2).await.unwrap();
    assert_eq!(proxy.requests().len(), 3, "{:?}", proxy.requests());
    assert_eq!(proxy.count("GET", "list-type=2"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containers_credentials_are_fetched_and_their_failure_differs_from_the_stores() {
    let server = Server::shared(Store::S3s);
    let service = Proxy::start(server.addr());
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "token").unwrap();
    let address = format!("{}/credentials", service.endpoint());
    let env = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*address),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            token.path().to_str().unwrap(),
        ),
    ];
    let bucket = server.bucket();
    for (fault, kind) in [
        (Fault::Status(403, None), Kind::Denied),
        (Fault::Status(500, None), Kind::Busy),
        (Fault::Refuse, Kind::Unreachable),
        (Fault::Body(200, "no json"), Kind::Unreachable),
    ] {
        service.set(fault);
        all_are(&target(&bucket, server.endpoint(), &env), kind).await;
    }
    service.set(Fault::Body(
        200,
        r#"{"AccessKeyId": "AKIDTESTTESTTEST", "SecretAccessKey": "secret/test+key",
            "Token": "t", "Expiration": "2999-01-01T00:00:00Z"}"#,
    ));
    let target = target(&bucket, server.endpoint(), &env);
    service.forget();
    put(&target, "app/schema", "x", 1).await.unwrap();
    target.get(&id("app/schema"), LIMIT, soon()).await.unwrap();
    assert_eq!(service.requests().len(), 1, "credentials are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_and_stamp_travel_in_headers_and_anonymous_requests_carry_no_signature() {
    let server = Server::shared(Store::Moto);
    let proxy = Proxy::start(server.addr());
    let encrypted = S3Location {
        sse_type: Some("aws:kms".into()),
        kms_key_id: Some("the-key".into()),
        ..location(&server.bucket(), proxy.endpoint())
    };
    put(
        &signing(&open(&encrypted, &KEYS), "ab"),
        "app/schema",
        "x",
        1_726_000_000_123_456_789,
    )
    .await
    .unwrap();
    let headers = proxy.requests()[0].headers.clone();
    for header in [
        "authorization: AWS4-HMAC-SHA256 ",
        "x-amz-server-side-encryption: aws:kms\n",
        "x-amz-server-side-encryption-aws-kms-key-id: the-key\n",
        "content-type: text/plain; charset=utf-8\n",
        "x-amz-meta-atlas-stamp: 2024-09-10T20:26:40.123456789Z\n",
        "x-amz-meta-atlas-sha256: 2d711642b726b044",
        "x-amz-meta-atlas-format: hcl\n",
        "x-amz-meta-atlas-hmac: ",
    ] {
        assert!(headers.contains(header), "{header} not in {headers}");
    }
    proxy.forget();
    let anonymous = S3Location {
        anonymous: true,
        ..location(&server.bucket(), proxy.endpoint())
    };
    let anonymous = open(&anonymous, &[]);
    put(&anonymous, "app/schema", "x", 1).await.unwrap();
    // moto refuses unsigned reads; this test checks only the requests.
    let _ = anonymous.get(&id("app/schema"), LIMIT, soon()).await;
    for request in proxy.requests() {
        assert!(!request.headers.contains("authorization:"), "{request:?}");
    }
    // The third request finds out whether the right to list is missing.
    assert_eq!(proxy.requests().len(), 3);
    let s3s = Server::shared(Store::S3s);
    let public = S3Location {
        anonymous: true,
        ..location(&s3s.bucket(), s3s.endpoint())
    };
    let denied = open(&public, &[]).probe(soon()).await;
    assert_eq!(denied.unwrap_err().kind, Kind::Denied);
}
