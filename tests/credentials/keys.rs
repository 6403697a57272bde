//! Keys for S3 that do not come from variables: those of a container, of an instance, and of the
//! shared files.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use atlasfs::store::Kind;

use super::support::behind::{all_are, target};
use super::support::contract::soon;
use super::support::proxy::{Fault, Proxy};
use super::support::serve::Answering;
use super::support::server::{ACCESS_KEY, Kind as Store, SECRET_KEY, Server};
use super::support::sts::Sts;
use super::{ARN, home, works};

/// A stub of the credential services of a container and of an EC2 instance. It gives out one
/// session.
fn machine() -> Answering {
    const SESSION: &str = r#"{"AccessKeyId": "ASIAMACHINE", "SecretAccessKey": "s3cret-of-it",
        "Token": "machine-session", "Expiration": "2999-01-01T00:00:00Z"}"#;
    Answering::start(|request| {
        let has = |name: &str, value: &str| request.headers.get(name).is_some_and(|v| v == value);
        let roles = "latest/meta-data/iam/security-credentials/";
        let known = has("x-aws-ec2-metadata-token", "the-metadata-token");
        let body = match (&*request.method, &*request.path) {
            ("PUT", "latest/api/token") => "the-metadata-token",
            ("GET", path) if known && path == roles => "the-role",
            ("GET", path) if known && path.strip_prefix(roles) == Some("the-role") => SESSION,
            ("GET", "container") if has("authorization", "the-container-token") => SESSION,
            _ => return (403, Vec::new(), Vec::new()),
        };
        (200, Vec::new(), body.into())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profiles_role_is_assumed_with_the_credentials_of_its_container_or_instance() {
    let (server, sts, machine) = (Server::shared(Store::Moto), Sts::start(), machine());
    let before = Proxy::start(sts.addr());
    let token = tempfile::NamedTempFile::new().unwrap();
    let (container, instance) = (
        format!("http://{}/container", machine.addr()),
        format!("http://{}/", machine.addr()),
    );
    let of_container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*container),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            token.path().to_str().unwrap(),
        ),
    ];
    let of_instance = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*instance)];
    for (source, place, env) in [
        ("EcsContainer", "the container's service", &of_container[..]),
        (
            "Ec2InstanceMetadata",
            "the instance's metadata",
            &of_instance,
        ),
    ] {
        std::fs::write(token.path(), "the-container-token").unwrap();
        let profile = format!("[profile p]\nrole_arn = {ARN}\ncredential_source = {source}\n");
        let (files, endpoint) = (home(&profile, ""), before.endpoint());
        let more = [
            ("HOME", files.path().to_str().unwrap()),
            ("AWS_PROFILE", "p"),
            ("AWS_ENDPOINT_URL_STS", &*endpoint),
        ];
        let env = [env, &more].concat();
        let bucket = server.bucket();
        works(&target(&bucket, server.endpoint(), &env)).await;
        let sent = before.requests();
        before.forget();
        assert_eq!(sent.len(), 1, "{source}: {sent:?}");
        for part in [
            "Credential=ASIAMACHINE/",
            "x-amz-security-token: machine-session\n",
        ] {
            assert!(sent[0].headers.contains(part), "{source}: {sent:?}");
        }
        // If that service refuses, STS gets no request.
        let nowhere = format!("http://{}/nowhere", machine.addr());
        let refused = [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*nowhere),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*nowhere),
        ];
        let env: Vec<(&str, &str)> = env
            .into_iter()
            .map(|(name, value)| {
                let other = refused.iter().find(|(refused, _)| *refused == name);
                (name, other.map_or(value, |(_, value)| value))
            })
            .collect();
        let target = target(&bucket, server.endpoint(), &env);
        all_are(&target, Kind::Denied).await;
        let failure = target.probe(soon()).await.unwrap_err();
        let part = format!("can't get credentials from {place}: 403");
        assert!(failure.reason.contains(&part), "{failure}");
        assert!(before.requests().is_empty(), "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machines_keys_that_the_store_takes_no_longer_are_fetched_anew() {
    let server = Server::shared(Store::S3s);
    let proxy = Proxy::start(server.addr());
    let asked = Arc::new(AtomicU32::new(0));
    let asking = Arc::clone(&asked);
    let service = Answering::start(move |_| {
        let session = asking.fetch_add(1, Ordering::SeqCst) + 1;
        let body = format!(
            "{{\"AccessKeyId\": \"{ACCESS_KEY}\", \"SecretAccessKey\": \"{SECRET_KEY}\", \
             \"Token\": \"session-{session}\", \"Expiration\": \"2999-01-01T00:00:00Z\"}}"
        );
        (200, Vec::new(), body.into())
    });
    let token = tempfile::NamedTempFile::new().unwrap();
    let address = format!("http://{}/container", service.addr());
    let env = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*address),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            token.path().to_str().unwrap(),
        ),
    ];
    let target = target(&server.bucket(), proxy.endpoint(), &env);
    works(&target).await;
    proxy.set(Fault::Over("session-1", 400, "ExpiredToken"));
    works(&target).await;
    works(&target).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_rotated_in_the_shared_file_open_the_store_without_mounting_anew() {
    let server = Server::shared(Store::S3s);
    let keys = |secret: &str| {
        format!("[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {secret}\n")
    };
    let files = home("", &keys("wrong"));
    let env = [("HOME", files.path().to_str().unwrap())];
    let target = target(&server.bucket(), server.endpoint(), &env);
    all_are(&target, Kind::Denied).await;
    std::fs::write(files.path().join(".aws/credentials"), keys(SECRET_KEY)).unwrap();
    for round in 0.. {
        match target.probe(soon()).await {
            Ok(()) => break,
            Err(failure) => assert_eq!(failure.kind, Kind::Denied, "{failure}"),
        }
        assert!(round < 600, "the old keys are used for ever");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    works(&target).await;
}
