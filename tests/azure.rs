//! The behaviour of the Azure driver alone: credentials of every kind, the names of metadata, and
//! the texts and hidden secrets of its messages.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod support;

use std::time::Duration;

use atlasfs::model::{Format, RepoName, Stamp};
use atlasfs::store::Kind;
use object_store::signer::Signer;
use support::azurite;
use support::behind::{Behind, every_operation, location_on, open_at, put, target_on};
use support::contract::{LIMIT, id, signing, soon};
use support::proxy::Fault;
use support::server::{Kind as Store, Server};

#[tokio::test(flavor = "multi_thread")]
async fn the_stamp_travels_under_names_that_azure_takes() {
    let behind = Behind::on(Store::Azurite).await;
    let target = signing(&behind.target, "ab");
    put(&target, "app/schema", "x", 1_726_000_000_123_456_789)
        .await
        .unwrap();
    let headers = behind.proxy.requests()[0].headers.clone();
    for header in [
        "authorization: SharedKey devstoreaccount1:",
        "x-ms-blob-content-type: text/plain; charset=utf-8\n",
        "x-ms-meta-atlas_stamp: 2024-09-10T20:26:40.123456789Z\n",
        "x-ms-meta-atlas_sha256: 2d711642b726b044",
        "x-ms-meta-atlas_format: hcl\n",
        "x-ms-meta-atlas_hmac: ",
    ] {
        assert!(headers.contains(header), "{header} not in {headers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_listing_shows_every_stamp_and_nothing_else_is_asked() {
    let behind = Behind::on(Store::Azurite).await;
    let when = 1_726_000_000_123_456_789;
    for n in 0..20 {
        let key = format!("app/plans/p{n}");
        put(&behind.target, &key, "x", when + n).await.unwrap();
    }
    let by_hand = "pre/app/plans/by-hand";
    behind.server.inject(&behind.bucket, by_hand, b"x").unwrap();
    behind.proxy.forget();
    let app = RepoName::parse("app").unwrap();
    let listing = behind.target.list(&app, soon()).await.unwrap();
    assert_eq!(listing.items.len(), 22);
    for (item, meta) in &listing.items {
        let number = item.to_string().replace("plans/p", "").parse::<u64>();
        let expected = match (&*item.to_string(), number) {
            ("plans/by-hand", _) => None,
            ("schema", _) => Some(Stamp::new(1, b"the schema state", Format::Hcl)),
            (_, number) => Some(Stamp::new(when + number.unwrap(), b"x", Format::Hcl)),
        };
        assert_eq!(meta.stamp, expected, "{item}");
    }
    let requests = behind.proxy.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(
        requests[0].path.contains("include=metadata"),
        "{requests:?}"
    );
    // Content that was replaced by hand has no stamp.
    let schema = "pre/app/schema";
    behind
        .server
        .inject(&behind.bucket, schema, b"by hand")
        .unwrap();
    let listing = behind.target.list(&app, soon()).await.unwrap();
    let schema = listing
        .items
        .iter()
        .find(|(item, _)| item.to_string() == "schema");
    assert_eq!(schema.unwrap().1.stamp, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_is_whole_beyond_the_five_thousand_names_of_a_page() {
    let behind = Behind::on(Store::Azurite).await;
    std::thread::scope(|scope| {
        for part in 0..4 {
            let behind = &behind;
            scope.spawn(move || {
                for n in (part..5_010).step_by(4) {
                    let key = format!("pre/app/plans/{n:05}");
                    behind.server.inject(&behind.bucket, &key, b"x").unwrap();
                }
            });
        }
    });
    let app = RepoName::parse("app").unwrap();
    let listing = behind.target.list(&app, soon()).await.unwrap();
    assert_eq!(listing.items.len(), 5_011);
    assert!(listing.items.values().all(|item| item.token.is_some()));
    assert_eq!(behind.proxy.count("GET", "comp=list"), 2);
    assert_eq!(behind.proxy.count("GET", "marker="), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_string_opens_the_emulator() {
    let server = Server::shared(Store::Azurite);
    let text = format!(
        "AccountName={};AccountKey={};BlobEndpoint={}/{}",
        azurite::ACCOUNT,
        azurite::KEY,
        server.endpoint(),
        azurite::ACCOUNT
    );
    let mut location = location_on(Store::Azurite, &server.bucket(), server.endpoint());
    if let atlasfs::store::Location::Azure(location) = &mut location {
        (location.domain, location.protocol) = (None, None);
    }
    let target = open_at(&location, &[("AZURE_STORAGE_CONNECTION_STRING", &text)]);
    put(&target, "app/schema", "x", 1).await.unwrap();
    target.probe(soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sas_grants_its_signed_permissions_and_is_never_shown() {
    let behind = Behind::on(Store::Azurite).await;
    let signer = object_store::azure::MicrosoftAzureBuilder::new()
        .with_account(azurite::ACCOUNT)
        .with_access_key(azurite::KEY)
        .with_container_name(&behind.bucket)
        .with_endpoint(format!("{}/{}", behind.server.endpoint(), azurite::ACCOUNT))
        .with_allow_http(true)
        .build()
        .unwrap();
    let path = "pre/app/schema".into();
    let url = signer.signed_url(reqwest::Method::GET, &path, Duration::from_secs(600));
    let url = url.await.unwrap();
    let sas = url.query().unwrap();
    support::secrets::note(sas.rsplit("sig=").next().unwrap());
    let env = [("AZURE_STORAGE_SAS_TOKEN", sas)];
    let target = target_on(
        Store::Azurite,
        &behind.bucket,
        behind.proxy.endpoint(),
        &env,
    );
    behind.proxy.forget();
    let got = target.get(&id("app/schema"), LIMIT, soon()).await.unwrap();
    assert_eq!(&*got.bytes, b"the schema state");
    let request = behind.proxy.requests()[0].clone();
    assert!(request.path.contains("sig="), "{request:?}");
    assert!(!request.headers.contains("authorization:"), "{request:?}");
    // The signature is for one blob, and for reading.
    let signature = url.query_pairs().find(|(name, _)| name == "sig").unwrap().1;
    for failure in [
        target.probe(soon()).await.unwrap_err(),
        put(&target, "app/schema", "x", 2).await.unwrap_err(),
        target.delete(&id("app/schema"), soon()).await.unwrap_err(),
    ] {
        assert_eq!(failure.kind, Kind::Denied, "{failure}");
        assert!(!failure.reason.contains(&*signature), "{failure}");
        assert!(!failure.reason.contains("sig="), "{failure}");
    }
    // The signature is in the URL, and errors of every layer often quote the URL.
    for fault in [
        Fault::Refuse,
        Fault::Reset,
        Fault::LoseReply,
        Fault::CutBody,
        Fault::Status(500, None),
        Fault::Body(200, "<html>log in</html>"),
        Fault::Redirect("http://127.0.0.1:9/".into()),
    ] {
        behind.proxy.set(fault);
        for (name, failure) in every_operation(&target, Duration::from_secs(10)).await {
            let shown = failure.map(|failure| format!("{failure:?}"));
            let shown = shown.unwrap_or_default();
            assert!(
                !shown.contains("sig=") && !shown.contains(&*signature),
                "{name}: {shown}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_quotes_azures_answer_and_never_a_signature() {
    let behind = Behind::on(Store::Azurite).await;
    let get = || async {
        let got = behind.target.get(&id("app/schema"), LIMIT, soon()).await;
        got.unwrap_err()
    };
    behind.proxy.set(Fault::Body(
        403,
        "<?xml version=\"1.0\"?><Error><Code>AuthenticationFailed</Code><Message>Server failed to \
         authenticate the request.\nRequestId:0f8fad5b-d9cb-469f-a165-70867728950e\nTime:2024\
         </Message><AuthenticationErrorDetail>Request date header too old: 'Tue, 10 Sep 2024'\
         </AuthenticationErrorDetail></Error>",
    ));
    let failure = get().await;
    assert_eq!(failure.kind, Kind::Denied);
    let expected = format!(
        "cannot read app/schema at {}: 403 AuthenticationFailed: Server failed to authenticate the \
         request. (this machine's clock is wrong)",
        behind.target.url()
    );
    assert_eq!(failure.reason, expected);
    for (status, code, kind) in [
        (404, "ContainerNotFound", Kind::StoreMissing),
        (409, "ContainerBeingDeleted", Kind::StoreMissing),
        (404, "BlobNotFound", Kind::NotFound),
        (403, "AuthorizationFailure", Kind::Denied),
        (409, "PublicAccessNotPermitted", Kind::Denied),
        (503, "ServerBusy", Kind::Busy),
    ] {
        behind.proxy.set(Fault::Status(status, Some(code)));
        assert_eq!(get().await.kind, kind, "{code}");
    }
    // "Not found" may mean the blob or the container. The driver asks the listing, which gives the
    // same answer.
    behind
        .proxy
        .set(Fault::Status(404, Some("ResourceNotFound")));
    assert_eq!(get().await.kind, Kind::StoreMissing);
}
