//! The behaviour of the GCS driver alone: tokens, generations, and the receiver of each secret. It
//! runs on this project's stub, and for the common part also on moto.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod support;

use std::sync::Arc;

use atlasfs::model::RepoName;
use atlasfs::store::{Condition, GsLocation, Kind, Location, Target};
use support::behind::{Behind, all_are, keys, location_on, open_at, put, put_if, target_on};
use support::contract::{LIMIT, id, signing, soon};
use support::gcs::Gcs;
use support::http::{self, Response};
use support::proxy::Fault;
use support::server::{Kind as Store, Server};
use support::token;

/// Returns the generation of the stub's `app/schema`.
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
    let target = signing(&behind.target, "ab");
    put_if(&target, "app/schema", "x", when, &unchanged)
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
        "x-goog-meta-atlas-hmac: ",
    ] {
        assert!(headers.contains(header), "{header} not in {headers}");
    }
    let absent = "x-goog-if-generation-match: 0\n";
    assert!(requests[1].headers.contains(absent));
    assert_ne!(generation(&behind.target).await, token);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_generations_has_no_tokens_and_says_so() {
    // moto accepts any token, and has neither generations nor Google's metadata.
    let server = Server::shared(Store::Moto);
    // moto doesn't decode bucket names, and object_store encodes hyphens.
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

/// Sends a request: method, path, headers, body.
type Ask<'a> = dyn Fn(&str, &str, &[(&str, &str)], &[u8]) -> Response + 'a;

/// Tries a part that Google's XML interface and S3's have in common, and records the answers
/// without the parts that differ.
fn common_part(ask: &Ask<'_>) -> Vec<String> {
    let text = |reply: &Response| String::from_utf8_lossy(&reply.body).into_owned();
    let all = |document: &str, name: &str| {
        let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
        let parts = document.split(&*begin).skip(1);
        let values = parts.filter_map(|part| part.split_once(&*end));
        values
            .map(|(value, _)| value.to_owned())
            .collect::<Vec<_>>()
    };
    let mut said = Vec::new();
    for key in ["a", "dir/b", "dir/c d", "dir/sub/d%25", "e&amp;"] {
        let key = key.replace("&amp;", "%26").replace(' ', "%20");
        let put = ask(
            "PUT",
            &format!("/overlap/{key}"),
            &[("content-type", "x/y")],
            b"0123456789",
        );
        said.push(format!("put {key}: {}", put.status));
    }
    for range in ["bytes=2-4", "bytes=8-20", "bytes=3-", "bytes=10-12"] {
        let got = ask("GET", "/overlap/a", &[("range", range)], b"");
        let body = match got.status {
            206 => text(&got),
            _ => all(&text(&got), "Code").concat(),
        };
        let head = got.head.to_lowercase();
        let told = head
            .lines()
            .find(|line| line.starts_with("content-range: "));
        let told = told.filter(|_| got.status == 206);
        said.push(format!("{range}: {} {body} {told:?}", got.status));
    }
    for method in ["GET", "HEAD"] {
        let got = ask(method, "/overlap/dir/c%20d", &[], b"");
        let head = got.head.to_lowercase();
        let has = |name: &str| head.contains(&format!("\n{name}: "));
        let known = ["etag", "last-modified", "content-type"].map(has);
        said.push(format!("{method}: {} {} {known:?}", got.status, text(&got)));
    }
    for query in [
        "",
        "&prefix=dir/",
        "&prefix=dir/&delimiter=/",
        "&delimiter=/",
        "&prefix=none",
    ] {
        for most in [1, 2, 100] {
            let (mut from, mut pages) = (String::new(), 0);
            let (mut keys, mut sizes, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
            loop {
                let path = format!("/overlap?list-type=2&max-keys={most}{query}{from}");
                let document = text(&ask("GET", &path, &[], b""));
                pages += 1;
                keys.extend(all(&document, "Key"));
                sizes.extend(all(&document, "Size"));
                let common = all(&document, "CommonPrefixes").concat();
                prefixes.extend(all(&common, "Prefix"));
                let next = all(&document, "NextContinuationToken");
                assert_eq!(
                    next.len(),
                    usize::from(document.contains(">true<")),
                    "{document}"
                );
                match next.first() {
                    Some(next) => {
                        let next = next.replace("&amp;", "&");
                        from = format!("&continuation-token={}", http::encode(&next));
                    }
                    None => break,
                }
            }
            said.push(format!(
                "{query} {most}: {pages} {keys:?} {sizes:?} {prefixes:?}"
            ));
        }
    }
    for (method, path) in [
        ("DELETE", "/overlap/a"),
        ("GET", "/overlap/a"),
        ("HEAD", "/overlap/a"),
        ("GET", "/no-such-bucket/a"),
        ("GET", "/no-such-bucket?list-type=2"),
    ] {
        let reply = ask(method, path, &[], b"");
        let code = all(&text(&reply), "Code").concat();
        said.push(format!("{method} {path}: {} {code}", reply.status));
    }
    said
}

#[test]
fn the_stub_and_moto_answer_alike_where_they_overlap() {
    let moto = Server::start(Store::Moto);
    assert_eq!(moto.request("PUT", "/overlap", &[], b"").status, 200);
    let gcs = Gcs::opened_by(Arc::new(|token| token == "Bearer any"));
    gcs.create("overlap");
    let token = [("authorization", "Bearer any")];
    let of_gcs = common_part(&|method, path, headers, body| {
        let headers = [&token, headers].concat();
        http::request(gcs.addr(), method, path, &headers, body).unwrap()
    });
    let of_moto =
        common_part(&|method, path, headers, body| moto.request(method, path, headers, body));
    assert_eq!(of_gcs.len(), of_moto.len());
    for (gcs, moto) in of_gcs.iter().zip(&of_moto) {
        assert_eq!(gcs, moto);
    }
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
        // Credentials of gcloud and of the machine are not for an emulator either.
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
async fn a_message_quotes_googles_answer() {
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
            "NoSuchBucket" => " (create the bucket, or correct its name)",
            "AccessDenied" => " (needs the permission storage.objects.get)",
            _ => "",
        };
        let expected =
            format!("cannot read app/schema at {url}: {status} {code}: told to fail{hint}");
        assert_eq!(failure.reason, expected);
    }
}
