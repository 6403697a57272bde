//! Credentials: their sources, their use, and the hosts that must never get them.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use atlasfs::model::RepoName;
use atlasfs::store::{Kind, Location, Target};
use serde_json::json;

use super::stub_registry::{Received, StubRegistry, authorization, header, json_reply, refusal};
use super::support::behind::{every_operation, open_at, put};
use super::support::contract::{LIMIT, id, soon};
use super::support::serve::{Reply, Request};

/// `tester:s3cret`.
const BASIC: &str = "Basic dGVzdGVyOnMzY3JldA==";
const TAGS: &str = "GET v2/acme/atlas/tags/list";

/// Demands a token, unless the request has this one.
fn demand(request: &Request, token: &str) -> Option<Reply> {
    if authorization(request) == format!("Bearer {token}") {
        return None;
    }
    let host = &request.headers["host"];
    let demand = format!(
        "Bearer realm=\"http://{host}/token\",service=\"x\",scope=\"repository:acme/atlas:pull\""
    );
    let (status, mut headers, body) = refusal(401, "UNAUTHORIZED");
    headers.push(header("WWW-Authenticate", demand));
    Some((status, headers, body))
}

/// Demands user and password, unless the request has them.
fn demand_basic(request: &Request) -> Option<Reply> {
    let (status, mut headers, body) = refusal(401, "UNAUTHORIZED");
    headers.push(header("WWW-Authenticate", "Basic realm=\"x\""));
    (authorization(request) != BASIC).then_some((status, headers, body))
}

/// A folder with Docker's configuration file and helpers.
struct Docker(tempfile::TempDir);

impl Docker {
    fn new(config: &serde_json::Value) -> Self {
        let docker = Self(tempfile::tempdir().unwrap());
        docker.write(config);
        docker
    }

    fn write(&self, config: &serde_json::Value) {
        std::fs::write(self.0.path().join("config.json"), config.to_string()).unwrap();
    }

    fn helper(&self, script: &str) {
        let path = self.0.path().join("docker-credential-test");
        // Write under another name: a program that is open for writing can't run.
        let new = path.with_extension("new");
        std::fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    fn open(&self, registry: &StubRegistry) -> Target {
        let path = self.0.path().to_str().unwrap();
        let env = [("DOCKER_CONFIG", path), ("PATH", path)];
        open_at(&Location::Oci(registry.location()), &env)
    }
}

fn helped() -> Docker {
    Docker::new(&json!({"credsStore": "test"}))
}

async fn refused(target: &Target) -> String {
    let failure = target.probe(soon()).await.unwrap_err();
    assert!(!failure.reason.contains("s3cret"), "{failure}");
    failure.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_with_user_and_password_and_they_go_nowhere_else() {
    let registry = StubRegistry::start(|request| match &*request.path {
        "token" => {
            assert_eq!(request.query["scope"], "repository:acme/atlas:pull");
            let token = json!({"token": "s3cret-token", "expires_in": 300});
            Some(json_reply(200, &token))
        }
        _ => demand(request, "s3cret-token"),
    });
    let target = open_at(&registry.location_as("tester", "s3cret"), &[]);
    target.probe(soon()).await.unwrap();
    target.probe(soon()).await.unwrap();
    let seen = registry.take();
    let seen: Vec<(&str, &str)> = seen.iter().map(|s| (&*s.what, &*s.authorization)).collect();
    let bearer = "Bearer s3cret-token";
    assert_eq!(
        seen,
        [
            (TAGS, ""),
            ("GET token", BASIC),
            (TAGS, bearer),
            (TAGS, bearer)
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_over_is_replaced_within_the_operation() {
    let made = Arc::new(AtomicU32::new(0));
    let newest = Arc::clone(&made);
    let registry = StubRegistry::start(move |request| match &*request.path {
        "token" => {
            let number = made.fetch_add(1, Ordering::SeqCst) + 1;
            // The token ends earlier than it claims.
            let token = json!({"access_token": format!("t{number}"), "expires_in": 3600});
            Some(json_reply(200, &token))
        }
        _ => demand(request, &format!("t{}", newest.load(Ordering::SeqCst))),
    });
    let target = open_at(&Location::Oci(registry.location()), &[]);
    target.probe(soon()).await.unwrap();
    registry.take();
    target.get(&id("app/schema"), LIMIT, soon()).await.unwrap();
    assert_eq!(registry.count("token"), 0);
    // Another client gets a token, which ends ours.
    let addr = registry.host().parse().unwrap();
    super::support::http::request(addr, "GET", "/token", &[], b"").unwrap();
    target.get(&id("app/schema"), LIMIT, soon()).await.unwrap();
    put(&target, "app/schema", "x", 1).await.unwrap();
    assert_eq!(registry.count("token"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_lives_for_seconds_is_no_reason_to_fail() {
    let registry = StubRegistry::start(|request| match &*request.path {
        "token" => Some(json_reply(200, &json!({"token": "t", "expires_in": 1}))),
        _ => demand(request, "t"),
    });
    let target = open_at(&Location::Oci(registry.location()), &[]);
    for _ in 0..3 {
        target.get(&id("app/schema"), LIMIT, soon()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_log_in_once() {
    let registry = StubRegistry::start(|request| match &*request.path {
        "token" => {
            std::thread::sleep(Duration::from_millis(50));
            Some(json_reply(200, &json!({"token": "t"})))
        }
        _ => demand(request, "t"),
    });
    let target = open_at(&Location::Oci(registry.location()), &[]);
    let key = id("app/schema");
    let reads = (0..20).map(|_| target.get(&key, LIMIT, soon()));
    for read in futures::future::join_all(reads).await {
        read.unwrap();
    }
    assert_eq!(registry.count("token"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_token_is_given_to_the_token_service_alone() {
    let registry = StubRegistry::start(|request| match &*request.path {
        "token" => Some(json_reply(200, &json!({"access_token": "t"}))),
        _ => demand(request, "t"),
    });
    let entry = json!({"auth": "MDAwMDo=", "identitytoken": "s3cret/identity"});
    let docker = Docker::new(&json!({"auths": {registry.host(): entry}}));
    docker.open(&registry).probe(soon()).await.unwrap();
    let seen = registry.take();
    let whats: Vec<&str> = seen.iter().map(|seen| &*seen.what).collect();
    assert_eq!(whats, [TAGS, "POST token", TAGS]);
    let form = "service=x&scope=repository%3Aacme%2Fatlas%3Apull&grant_type=refresh_token\
                &client_id=atlasfs&refresh_token=s3cret%2Fidentity";
    assert_eq!(seen[1].body, form);
    assert!(
        seen.iter()
            .all(|seen| !seen.authorization.contains("s3cret"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_is_asked_for_the_host_when_the_registry_demands_it_and_not_before() {
    let open = StubRegistry::start(|_| None);
    let registry = StubRegistry::start(demand_basic);
    let docker = helped();
    docker.helper(
        r#"cd "$(dirname "$0")"; echo "$1 $(cat)" >> asked
           echo '{"ServerURL": "x", "Username": "tester", "Secret": "s3cret"}'"#,
    );
    docker.open(&open).probe(soon()).await.unwrap();
    let asked = docker.0.path().join("asked");
    assert!(!asked.exists());
    let target = docker.open(&registry);
    let key = id("app/schema");
    let reads = (0..10).map(|_| target.get(&key, LIMIT, soon()));
    for read in futures::future::join_all(reads).await {
        read.unwrap();
    }
    let asked = std::fs::read_to_string(asked).unwrap();
    assert_eq!(asked, format!("get {}\n", registry.host()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helpers_token_is_an_identity_token() {
    let registry = StubRegistry::start(|request| match &*request.path {
        "token" => Some(json_reply(200, &json!({"access_token": "t"}))),
        _ => demand(request, "t"),
    });
    let docker = helped();
    docker.helper(r#"echo '{"Username": "<token>", "Secret": "s3cret-identity"}'"#);
    docker.open(&registry).probe(soon()).await.unwrap();
    let posted =
        |seen: &Received| seen.what == "POST token" && seen.body.contains("s3cret-identity");
    assert!(registry.take().iter().any(posted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_helper_delays_no_operation_and_is_named() {
    let registry = StubRegistry::start(demand_basic);
    let docker = helped();
    docker.helper("exec sleep 60");
    let target = docker.open(&registry);
    let deadline = Duration::from_millis(300);
    for (name, failure) in every_operation(&target, deadline).await {
        let failure = failure.unwrap();
        assert_eq!(failure.kind, Kind::Unreachable, "{name}");
        let expected = "docker-credential-test has not answered";
        assert!(failure.reason.contains(expected), "{name}: {failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_fails_is_an_outage_that_says_what_to_do_and_no_secret() {
    let registry = StubRegistry::start(demand_basic);
    for (script, kind, expected) in [
        (
            "echo s3cret; exit 1",
            Kind::Unreachable,
            "has failed: ask it by hand",
        ),
        (
            "echo s3cret",
            Kind::Unreachable,
            "returned no user and secret",
        ),
        (
            "echo 'credentials not found in native keychain'; exit 1",
            Kind::Denied,
            "requires credentials: run docker login",
        ),
        (
            r#"echo '{"Username": "tester", "Secret": "s3cret-but-wrong"}'"#,
            Kind::Denied,
            "the login that docker-credential-test returns",
        ),
    ] {
        let docker = helped();
        docker.helper(script);
        let target = docker.open(&registry);
        let failure = target.probe(soon()).await.unwrap_err();
        assert_eq!(failure.kind, kind, "{script}: {failure}");
        let told = refused(&target).await;
        assert!(told.contains(expected), "{script}: {told}");
    }
    // A missing helper.
    let told = refused(&helped().open(&registry)).await;
    assert!(told.contains("not in PATH: install it"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_docker_login_saves_later_open_the_registry() {
    let registry = StubRegistry::start(demand_basic);
    let login = |pair: &str| json!({"auths": {registry.host(): {"auth": pair}}});
    let docker = Docker::new(&json!({}));
    let target = docker.open(&registry);
    let told = refused(&target).await;
    assert!(
        told.contains("requires credentials: run docker login"),
        "{told}"
    );
    docker.write(&login("dGVzdGVyOndyb25n"));
    let told = refused(&target).await;
    assert!(
        told.contains("wrong or expired: run docker login"),
        "{told}"
    );
    docker.write(&login("dGVzdGVyOnMzY3JldA=="));
    target.probe(soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_in_the_url_is_reported_and_not_shown() {
    let registry = StubRegistry::start(demand_basic);
    let target = open_at(&registry.location_as("tester", "s3cret-but-wrong"), &[]);
    for (name, failure) in every_operation(&target, Duration::from_secs(10)).await {
        let failure = failure.unwrap();
        assert_eq!(failure.kind, Kind::Denied, "{name}");
        let told = failure.reason;
        assert!(
            told.contains("the user or token in its url is wrong"),
            "{told}"
        );
        assert!(!told.contains("s3cret"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_token_service_is_about_no_artifact() {
    for (status, kind, expected) in [
        (
            401,
            Kind::Denied,
            "returned no token: 401: the user or token",
        ),
        (
            403,
            Kind::Denied,
            "returned no token: 403: the user or token",
        ),
        (
            404,
            Kind::Denied,
            "returned no token: 404: the user or token",
        ),
        (429, Kind::Busy, "returned no token: 429"),
        (500, Kind::Busy, "returned no token: 500"),
        (200, Kind::Unreachable, "its answer has none"),
    ] {
        let registry = StubRegistry::start(move |request| match &*request.path {
            "token" => Some((status, Vec::new(), b"{}".to_vec())),
            _ => demand(request, "t"),
        });
        let target = open_at(&registry.location_as("tester", "s3cret"), &[]);
        for (name, failure) in every_operation(&target, Duration::from_secs(10)).await {
            let failure = failure.unwrap();
            assert_eq!(failure.kind, kind, "{name} {status}: {failure}");
            assert!(failure.reason.contains(expected), "{failure}");
            assert!(!failure.reason.contains("s3cret"), "{failure}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_demands_the_one_that_can_be_met_is_met() {
    let registry = StubRegistry::start(|request| {
        let (status, mut headers, body) = demand_basic(request)?;
        headers.insert(0, header("WWW-Authenticate", "Negotiate"));
        Some((status, headers, body))
    });
    let target = open_at(&registry.location_as("tester", "s3cret"), &[]);
    let app = RepoName::parse("app").unwrap();
    target.list(&app, soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_service_that_hangs_is_over_at_the_deadline() {
    let registry = StubRegistry::start(|request| match &*request.path {
        "token" => {
            std::thread::sleep(Duration::from_secs(5));
            None
        }
        _ => demand(request, "t"),
    });
    let target = open_at(&Location::Oci(registry.location()), &[]);
    let begun = Instant::now();
    let deadline = Duration::from_millis(300);
    for (name, failure) in every_operation(&target, deadline).await {
        assert_eq!(failure.unwrap().kind, Kind::Unreachable, "{name}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}
