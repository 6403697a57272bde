//! Answers that only an OCI registry gives: redirects to its content, digests, and pages of tags.

use std::sync::Arc;
use std::time::Duration;

use atlasfs::model::RepoName;
use atlasfs::store::{Condition, Kind, Location, Target};
use serde_json::json;

use super::stub_registry::{CONTENT, StubRegistry, digest, header, json_reply, manifest, refusal};
use super::support::behind::{all_are, every_operation, open_at, put, put_if};
use super::support::contract::{LIMIT, id, soon};
use super::support::serve::{Answering, Reply, Request};

/// Starts a registry that redirects reads of content to another host.
fn sends_on_to(place: String) -> StubRegistry {
    StubRegistry::start(move |request| {
        let blob = request.path.contains("/blobs/sha256:") && request.method == "GET";
        let place = header("Location", format!("{place}?X-Signature=s3cret-signature"));
        blob.then(|| (307, vec![place], Vec::new()))
    })
}

/// Starts another host with content; it records the credentials of each request.
fn elsewhere(
    answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (Answering, Arc<std::sync::Mutex<Vec<String>>>) {
    let shown = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&shown);
    let server = Answering::start(move |request| {
        let authorization = super::stub_registry::authorization(request);
        let who = format!("{} {authorization}", request.path);
        noted.lock().unwrap().push(who);
        answer(request)
    });
    (server, shown)
}

fn open(registry: &StubRegistry) -> Target {
    open_at(&registry.location_as("tester", "s3cret"), &[])
}

async fn read(target: &Target) -> Result<bytes::Bytes, (Kind, String)> {
    let got = target.get(&id("app/schema"), LIMIT, soon()).await;
    got.map(|content| content.bytes).map_err(|failure| {
        assert!(!failure.reason.contains("s3cret"), "{failure}");
        (failure.kind, failure.reason)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirected_read_sends_no_credentials_to_another_host() {
    let (cdn, shown) = elsewhere(|_| (200, Vec::new(), CONTENT.to_vec()));
    let there = format!("http://{}/there", cdn.addr());
    let registry = StubRegistry::start(move |request| {
        if super::stub_registry::authorization(request).is_empty() {
            let (status, mut headers, body) = refusal(401, "UNAUTHORIZED");
            headers.push(header("WWW-Authenticate", "Basic realm=\"x\""));
            return Some((status, headers, body));
        }
        let sent = vec![header("Location", there.clone())];
        request
            .path
            .contains("/blobs/")
            .then_some((307, sent, Vec::new()))
    });
    assert_eq!(read(&open(&registry)).await.unwrap(), CONTENT);
    assert_eq!(*shown.lock().unwrap(), ["there "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_of_a_redirect_can_demand_credentials_and_gets_none() {
    // The host names itself as the token service.
    let (thief, shown) = elsewhere(|request| {
        let host = &request.headers["host"];
        let demand = format!("Bearer realm=\"http://{host}/token\",service=\"x\"");
        let demand = vec![header("WWW-Authenticate", demand)];
        (401, demand, Vec::new())
    });
    let registry = sends_on_to(format!("http://{}/there", thief.addr()));
    let (kind, why) = read(&open(&registry)).await.unwrap_err();
    assert_eq!(kind, Kind::Unreachable, "{why}");
    assert_eq!(*shown.lock().unwrap(), ["there "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_readers_are_sent_on_to_may_fail_and_that_denies_nothing() {
    for (status, body, kind) in [
        (403, &b""[..], Kind::Unreachable),
        (404, b"", Kind::Corrupt),
        (429, b"", Kind::Busy),
        (503, b"", Kind::Busy),
        (200, b"the schema stat", Kind::Unreachable),
        (200, b"the schema st\xe4te", Kind::Corrupt),
        (200, b"the schema state and more", Kind::Corrupt),
    ] {
        let (cdn, _) = elsewhere(move |_| (status, Vec::new(), body.to_vec()));
        let registry = sends_on_to(format!("http://{}/there", cdn.addr()));
        let (told, why) = read(&open(&registry)).await.unwrap_err();
        assert_eq!(told, kind, "{status} {body:?}: {why}");
    }
    let (gone, _) = elsewhere(|_| (200, Vec::new(), Vec::new()));
    let there = format!("http://{}/there", gone.addr());
    drop(gone);
    for nowhere in [&*there, "ftp://127.0.0.1/there", "http://", "/v2/again"] {
        let registry = sends_on_to(nowhere.into());
        let (kind, why) = read(&open(&registry)).await.unwrap_err();
        // The last is a path of the registry itself, where nothing is.
        let expected = match nowhere {
            "/v2/again" => Kind::Corrupt,
            _ => Kind::Unreachable,
        };
        assert_eq!(kind, expected, "{nowhere}: {why}");
    }
    let circle = StubRegistry::start(|request| {
        let here = vec![header("Location", format!("/{}", request.path))];
        request
            .path
            .contains("/blobs/")
            .then_some((307, here, Vec::new()))
    });
    let (kind, why) = read(&open(&circle)).await.unwrap_err();
    assert_eq!(kind, Kind::Unreachable);
    assert!(why.contains("in a loop"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_not_the_one_it_is_said_to_be_is_corrupt() {
    let registry = StubRegistry::start(|request| {
        let said = header("Docker-Content-Digest", digest(b"another"));
        let is_manifest = request.path.contains("/manifests/");
        is_manifest.then(|| (200, vec![said], manifest()))
    });
    let target = open(&registry);
    let app = RepoName::parse("app").unwrap();
    for failure in [
        target.get(&id("app/schema"), LIMIT, soon()).await.err(),
        target.head(&id("app/schema"), soon()).await.err(),
        target.list(&app, soon()).await.err(),
    ] {
        assert_eq!(failure.unwrap().kind, Kind::Corrupt);
    }
}

/// Answers like a registry whose pages of tags have two entries each.
fn paged(request: &Request, tags: &[String]) -> Option<Reply> {
    let path = request.path.strip_prefix("v2/acme/atlas/")?;
    if path.starts_with("manifests/") {
        return Some((200, Vec::new(), manifest()));
    }
    (path == "tags/list").then(|| {
        let last = request.query.get("last").map_or("", |last| last);
        let rest: Vec<&String> = tags.iter().filter(|tag| tag.as_str() > last).collect();
        let page = &rest[..rest.len().min(2)];
        let (status, mut headers, body) =
            json_reply(200, &json!({"name": "acme/atlas", "tags": page}));
        if rest.len() > 2 {
            // Some registries include a host name, which other machines need not know.
            let next = format!(
                "<http://inside.example/v2/acme/atlas/tags/list?last={}&n=2>; rel=\"next\"",
                page[1]
            );
            headers.push(header("Link", next));
        }
        (status, headers, body)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_of_tags_are_asked_for_at_the_registry_itself() {
    let tags: Vec<String> = (0..7).map(|n| format!("app_.plans_.p{n}")).collect();
    let registry = StubRegistry::start(move |request| paged(request, &tags));
    let target = open_at(&Location::Oci(registry.location()), &[]);
    let app = RepoName::parse("app").unwrap();
    let listing = target.list(&app, soon()).await.unwrap();
    assert_eq!(listing.items.len(), 7);
    assert_eq!(registry.count("tags/list"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_tags_that_never_ends_is_an_outage() {
    // The same page again, two pages in turn, and new URLs without an end.
    for circle in 0..3_u32 {
        let registry = StubRegistry::start(move |request| {
            let number = request.query.get("last").and_then(|last| last.parse().ok());
            let number: u32 = number.unwrap_or(0);
            let next = match circle {
                0 => 0,
                1 => 1 - number.min(1),
                _ => number + 1,
            };
            let (status, mut headers, body) = json_reply(
                200,
                &json!({"name": "acme/atlas", "tags": ["app_.schema", "x"]}),
            );
            let link = format!("</v2/acme/atlas/tags/list?last={next}>; rel=\"next\"");
            headers.push(header("Link", link));
            let is_list = request.path.ends_with("tags/list");
            is_list.then_some((status, headers, body))
        });
        let target = open_at(&Location::Oci(registry.location()), &[]);
        let app = RepoName::parse("app").unwrap();
        let failure = target.list(&app, soon()).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Unreachable, "{failure}");
        assert!(failure.reason.contains("repeats itself"), "{failure}");
        target.probe(soon()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_not_found_in_another_way_is_no_registry() {
    let plain = |kind: &str, body: &[u8]| (404, vec![header("Content-Type", kind)], body.to_vec());
    for reply in [
        plain("text/html", b"<html>none</html>"),
        plain("application/json", b"{\"detail\": \"Not Found\"}"),
        plain("text/plain", b"404 page not found"),
    ] {
        let registry = StubRegistry::start(move |_| Some(reply.clone()));
        all_are(&open(&registry), Kind::StoreMissing).await;
    }
    // A server that answers every request with 200 is not a registry either.
    let portal = StubRegistry::start(|_| {
        let kind = header("Content-Type", "text/html");
        Some((200, vec![kind], b"<html>log in</html>".to_vec()))
    });
    for (name, failure) in every_operation(&open(&portal), Duration::from_secs(10)).await {
        let failure = failure.unwrap();
        assert_eq!(failure.kind, Kind::Unreachable, "{name}: {failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_has_to_be_made_first_is_missing_and_no_conflict() {
    // Like ECR: the repository looks empty to readers, and refuses writes.
    let registry = StubRegistry::start(|_| Some(refusal(404, "NAME_UNKNOWN")));
    let target = open(&registry);
    target.probe(soon()).await.unwrap();
    for condition in [Condition::None, Condition::Absent] {
        let failure = put_if(&target, "app/schema", "x", 1, &condition).await;
        let failure = failure.unwrap_err();
        assert_eq!(failure.kind, Kind::StoreMissing, "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_deletion_denies_it() {
    let registry = StubRegistry::start(|request| {
        let is_delete = request.method == "DELETE";
        is_delete.then(|| refusal(405, "UNSUPPORTED"))
    });
    let failure = open(&registry).delete(&id("app/schema"), soon()).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.kind, Kind::Denied, "{failure}");
    assert!(failure.reason.contains("allows no deletions"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_uploaded_where_the_registry_says_and_no_other_host_gets_credentials() {
    let (storage, shown) = elsewhere(|_| (201, vec![header("Location", "/x")], Vec::new()));
    let place = format!("http://{}/upload", storage.addr());
    let registry = StubRegistry::start(move |request| {
        let place = vec![header("Location", place.clone())];
        (request.method == "POST").then_some((202, place, Vec::new()))
    });
    put(&open(&registry), "app/schema", "new", 1).await.unwrap();
    let shown = shown.lock().unwrap();
    assert!(
        !shown.is_empty() && shown.iter().all(|who| who == "upload "),
        "{shown:?}"
    );
}
