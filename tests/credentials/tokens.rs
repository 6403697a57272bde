//! The sources of tokens for the stores of Google and Azure. Each source is tried on stubs of the
//! services that give tokens out, also while these fail.

use std::collections::BTreeMap;
use std::time::Duration;

use atlasfs::model::RepoName;
use atlasfs::store::{Failure, Kind, Target};
use tokio::time::Instant;

use super::support::behind::{all_are, location_on, open_at, put};
use super::support::contract::{LIMIT, id, soon};
use super::support::gcs::Gcs;
use super::support::server::Kind as Store;
use super::support::service::{How, Service};
use super::support::token;
use super::support::way::{Gate, file, ways};

async fn works(target: &Target) -> Result<(), Failure> {
    target.probe(soon()).await?;
    let app = RepoName::parse("app").unwrap();
    target.list(&app, soon()).await?;
    put(target, "app/schema", "x", 1).await?;
    target.head(&id("app/schema"), soon()).await?;
    target.delete(&id("app/schema"), soon()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_asks_as_its_service_wants_it_once_and_the_token_opens_the_store() {
    let service = Service::start();
    for way in ways(&service) {
        let gate = Gate::new(way.kind, &service);
        let target = gate.target(&way);
        assert_eq!(
            service.asked().len(),
            0,
            "{}: opening asks nobody",
            way.name
        );
        works(&target).await.unwrap();
        let asked = service.asked();
        assert_eq!(asked.len(), 1, "{}: {asked:?}", way.name);
        assert_eq!(asked[0].what, way.what, "{}", way.name);
        let holds = |map: &BTreeMap<String, String>, wanted: &[(&str, &str)]| {
            for (name, value) in wanted {
                let found = map.get(*name).map(String::as_str);
                assert_eq!(found, Some(*value), "{}: {name} of {map:?}", way.name);
            }
        };
        holds(&asked[0].fields, &way.fields);
        holds(&asked[0].headers, &way.headers);
        assert!(gate.asked() >= 5, "{}", way.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_over_or_revoked_is_fetched_anew_and_the_operation_goes_on() {
    let service = Service::start();
    for way in ways(&service) {
        service.set(How::Give(0));
        let gate = Gate::new(way.kind, &service);
        let target = gate.target(&way);
        works(&target).await.unwrap();
        let asked = service.asked().len();
        assert!(asked >= 5, "{}: over as soon as it is given", way.name);
        service.set(How::Give(3600));
        works(&target).await.unwrap();
        assert_eq!(service.asked().len(), 1, "{}", way.name);
        for _ in 0..3 {
            service.revoke();
            works(&target).await.unwrap();
            assert_eq!(service.asked().len(), 1, "{}: revoked", way.name);
        }
        // The token is revoked, and the service is down: it is unknown whether the request is
        // allowed.
        service.revoke();
        service.set(How::Say(503, ""));
        all_are(&target, Kind::Busy).await;
        // The login is revoked for good: the store's answer decides.
        service.set(How::Say(400, "{\"error\": \"invalid_grant\"}"));
        all_are(&target, Kind::Denied).await;
        service.set(How::Give(3600));
        service.asked();
        works(&target).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_a_new_token_is_believed_and_the_service_is_not_pressed() {
    let (service, other) = (Service::start(), Service::start());
    for way in ways(&service) {
        let gate = Gate::new(way.kind, &other);
        let target = gate.target(&way);
        all_are(&target, Kind::Denied).await;
        let failure = target.probe(soon()).await.unwrap_err();
        assert!(failure.reason.contains(": 401 "), "{failure}");
        assert_eq!(service.asked().len(), 1, "{}", way.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_the_token_service_differs_from_one_of_the_store() {
    let service = Service::start();
    for way in ways(&service) {
        let gate = Gate::new(way.kind, &service);
        for (status, body, kind, expected) in [
            (403, "", Kind::Denied, "403"),
            (
                401,
                "{\"error\": \"invalid_client\"}",
                Kind::Denied,
                "401 invalid_client",
            ),
            (
                400,
                "{\"error\": \"invalid_grant\", \"error_description\": \"Token has been revoked, \
                 s3cret0123456789.\"}",
                Kind::Denied,
                "400 invalid_grant: Token has been revoked, …",
            ),
            (
                403,
                "{\"error\": {\"status\": \"PERMISSION_DENIED\", \"message\": \"no scope\"}}",
                Kind::Denied,
                "403 PERMISSION_DENIED: no scope",
            ),
            (429, "", Kind::Busy, "429"),
            (500, "<html>", Kind::Busy, "500"),
            (503, "", Kind::Busy, "503"),
            (302, "", Kind::Unreachable, "302"),
            (
                200,
                "<html>log in</html>",
                Kind::Unreachable,
                "its answer has no token",
            ),
            (
                200,
                "{\"access_token\": 7}",
                Kind::Unreachable,
                "its answer has no token",
            ),
            (
                200,
                "{\"access_token\": \"\"}",
                Kind::Unreachable,
                "its answer has no token",
            ),
            (
                200,
                "{\"access_token\": \"a\\r\\nb: c\"}",
                Kind::Unreachable,
                "its answer has no token",
            ),
        ] {
            service.set(How::Say(status, body));
            let target = gate.target(&way);
            if matches!(status, 403 | 503) {
                all_are(&target, kind).await;
            }
            let failure = target.probe(soon()).await.unwrap_err();
            assert_eq!(failure.kind, kind, "{failure}");
            let place = service.url("");
            let expected = format!("can't get credentials from {place}: {expected}");
            assert!(failure.reason.contains(&expected), "{failure}");
            assert!(!failure.reason.contains('\n'), "{failure}");
        }
        assert_eq!(
            gate.asked(),
            0,
            "{}: nothing goes out without a token",
            way.name
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operation_waits_for_a_token_service_beyond_its_deadline() {
    let service = Service::start();
    for way in ways(&service) {
        let gate = Gate::new(way.kind, &service);
        let target = gate.target(&way);
        service.set(How::Hang);
        let deadline = Duration::from_millis(200);
        let app = RepoName::parse("app").unwrap();
        let end = || Instant::now() + deadline;
        for failure in [
            target.probe(end()).await.unwrap_err(),
            target.list(&app, end()).await.unwrap_err(),
            target.head(&id("app/schema"), end()).await.unwrap_err(),
            target
                .get(&id("app/schema"), LIMIT, end())
                .await
                .unwrap_err(),
            target.delete(&id("app/schema"), end()).await.unwrap_err(),
        ] {
            assert_eq!(failure.kind, Kind::Unreachable, "{failure}");
            // The background waits longer for the service.
            assert!(failure.timed_out, "{failure}");
            let hangs = format!("{} does not answer", service.url(""));
            assert!(failure.reason.ends_with(&hangs), "{failure}");
        }
        // One request serves all of them, and the token is there for the next operation.
        assert_eq!(service.asked().len(), 1, "{}", way.name);
        service.set(How::Give(3600));
        works(&target).await.unwrap();
        assert_eq!(service.asked().len(), 0, "{}", way.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there_is_named() {
    let service = Service::start();
    let ways = ways(&service);
    let place = service.url("");
    let gates: Vec<Gate> = ways
        .iter()
        .map(|way| Gate::new(way.kind, &service))
        .collect();
    drop(service);
    for (way, gate) in ways.iter().zip(gates) {
        let failure = gate.target(way).probe(soon()).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Unreachable, "{}", way.name);
        let expected = format!("can't get credentials from {place}: connection refused");
        assert!(failure.reason.contains(&expected), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_file_of_a_workload_is_read_each_time() {
    let service = Service::start();
    let way = ways(&service).remove(2);
    let gate = Gate::new(way.kind, &service);
    let target = gate.target(&way);
    works(&target).await.unwrap();
    let file = way.file.as_ref().unwrap();
    std::fs::write(file.path(), "s3cret-newer").unwrap();
    service.revoke();
    works(&target).await.unwrap();
    let asked = service.asked();
    assert_eq!(asked[1].fields["client_assertion"], "s3cret-newer");
    std::fs::remove_file(file.path()).unwrap();
    service.revoke();
    let failure = target.probe(soon()).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Unreachable);
    let path = file.path().to_str().unwrap();
    assert!(failure.reason.contains(path), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_operations_at_once_cost_one_token() {
    let service = Service::start();
    for way in ways(&service) {
        let gate = Gate::new(way.kind, &service);
        let target = gate.target(&way);
        let probes = (0..40).map(|_| target.probe(soon()));
        let done = futures::future::join_all(probes).await;
        assert!(done.iter().all(Result::is_ok), "{}: {done:?}", way.name);
        service.revoke();
        let probes = (0..40).map(|_| target.probe(soon()));
        let done = futures::future::join_all(probes).await;
        assert!(done.iter().all(Result::is_ok), "{}: {done:?}", way.name);
        assert_eq!(service.asked().len(), 2, "{}", way.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_accounts_token_is_signed_by_its_key_and_by_no_other() {
    let gcs = Gcs::start();
    gcs.create("bucket");
    let endpoint = format!("http://{}", gcs.addr());
    let location = location_on(Store::Gcs, "bucket", endpoint.clone());
    // The file's own token_uri is not used: that request would be refused.
    let own = std::fs::read_to_string(token::key_file()).unwrap();
    let own = own.replacen('{', "{\"token_uri\": \"http://127.0.0.1:9/token\", ", 1);
    for (content, opens) in [
        (own.clone(), true),
        (token::new_key(), false),
        (own.replace("the-key", "another-key"), false),
    ] {
        let file = file(&content);
        let env = [
            (
                "GOOGLE_APPLICATION_CREDENTIALS",
                file.path().to_str().unwrap(),
            ),
            ("STORAGE_EMULATOR_HOST", &*endpoint),
        ];
        let target = open_at(&location, &env);
        match opens {
            true => {
                put(&target, "app/schema", "x", 1).await.unwrap();
                let got = target.get(&id("app/schema"), LIMIT, soon()).await;
                assert_eq!(&*got.unwrap().bytes, b"x");
            }
            false => all_are(&target, Kind::Denied).await,
        }
    }
}
