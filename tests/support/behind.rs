//! A real store behind the proxy, and every operation of a target tried on it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use atlasfs::artifact::{Format, RepoName, Stamp};
use atlasfs::target::{Condition, Failure, Kind, Location, Role, S3Location, Target};
use bytes::Bytes;
use tokio::time::Instant;

use super::contract::{LIMIT, id, soon};
use super::proxy::Proxy;
use super::server::{ACCESS_KEY, Kind as Store, SECRET_KEY, Server};

/// The variables that hold the servers' keys.
pub const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
    ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
];

/// Opens a bucket, prefix `pre`, at an endpoint, with these variables as its environment.
pub fn target(bucket: &str, endpoint: String, env: &[(&str, &str)]) -> Target {
    open(&location(bucket, endpoint), env)
}

/// Describes a bucket, prefix `pre`, at an endpoint.
pub fn location(bucket: &str, endpoint: String) -> S3Location {
    S3Location {
        url: format!("s3://{bucket}/pre"),
        bucket: bucket.into(),
        prefix: "pre".into(),
        endpoint: Some(endpoint),
        ..S3Location::default()
    }
}

/// Opens a bucket with these variables as its environment.
pub fn open(location: &S3Location, env: &[(&str, &str)]) -> Target {
    let env: HashMap<&str, &str> = env.iter().copied().collect();
    let env = |name: &str| env.get(name).map(|value| (*value).into());
    Target::open(Role::Backup(0), &Location::S3(location.clone()), &env).unwrap()
}

/// A store behind a proxy, with one artifact in it.
pub struct Behind {
    /// The target, through the proxy.
    pub target: Target,
    /// The proxy; it passes everything.
    pub proxy: Proxy,
    /// The server behind it.
    pub server: Arc<Server>,
}

impl Behind {
    /// Makes the store and the artifact `app/schema`: `the schema state`.
    pub async fn new() -> Self {
        let server = Server::shared(Store::Moto);
        let proxy = Proxy::start(server.addr());
        let target = target(&server.bucket(), proxy.endpoint(), &KEYS);
        put(&target, "app/schema", "the schema state", 1)
            .await
            .unwrap();
        proxy.forget();
        Self {
            target,
            proxy,
            server,
        }
    }
}

/// Writes an artifact.
pub async fn put(target: &Target, key: &str, content: &str, when: u64) -> Result<(), Failure> {
    put_if(target, key, content, when, &Condition::None).await
}

/// Writes an artifact on a condition.
pub async fn put_if(
    target: &Target,
    key: &str,
    content: &str,
    when: u64,
    condition: &Condition,
) -> Result<(), Failure> {
    let stamp = Stamp::new(when, content.as_bytes(), Format::Hcl);
    let content = Bytes::copy_from_slice(content.as_bytes());
    let put = target
        .put(&id(key), content, &stamp, condition, soon())
        .await;
    put.map(drop)
}

/// Tries every operation and returns how each failed; `None` for success.
pub async fn every_operation(
    target: &Target,
    deadline: Duration,
) -> Vec<(&'static str, Option<Failure>)> {
    async fn by<T>(
        name: &'static str,
        deadline: Duration,
        operation: impl Future<Output = Result<T, Failure>>,
    ) -> (&'static str, Option<Failure>) {
        let start = Instant::now();
        let failure = operation.await.err();
        let over = start.elapsed().saturating_sub(deadline);
        assert!(
            over < Duration::from_millis(100),
            "{name} was {over:?} late"
        );
        (name, failure)
    }
    let (id, app) = (id("app/schema"), RepoName::parse("app").unwrap());
    let content = Bytes::from_static(b"new");
    let stamp = Stamp::new(2, &content, Format::Hcl);
    let end = || Instant::now() + deadline;
    vec![
        by("get", deadline, target.get(&id, LIMIT, end())).await,
        by("head", deadline, target.head(&id, end())).await,
        by("list", deadline, target.list(&app, end())).await,
        by("repos", deadline, target.repos(end())).await,
        by("probe", deadline, target.probe(end())).await,
        by(
            "put",
            deadline,
            target.put(&id, content, &stamp, &Condition::None, end()),
        )
        .await,
        by("delete", deadline, target.delete(&id, end())).await,
    ]
}

/// Tries every operation: each fails in one way, in time, and shows no secret.
pub async fn all_are(target: &Target, kind: Kind) {
    for (name, failure) in every_operation(target, Duration::from_secs(10)).await {
        let failure = failure.unwrap_or_else(|| panic!("{name} succeeds"));
        assert_eq!(failure.kind, kind, "{name}: {failure}");
        assert!(!failure.reason.contains(SECRET_KEY), "{failure}");
        assert!(!failure.reason.contains(ACCESS_KEY), "{failure}");
        assert!(!failure.reason.contains("Signature="), "{failure}");
    }
}
