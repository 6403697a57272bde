//! A real store behind the proxy, and a trial of every operation on it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use atlasfs::model::{Format, RepoName, Stamp};
use atlasfs::store::{
    AzureLocation, Condition, Failure, GsLocation, Kind, Location, OciLocation, Role, S3Location,
    Target,
};
use bytes::Bytes;
use tokio::time::Instant;

use super::azurite;
use super::contract::{LIMIT, id, soon};
use super::proxy::Proxy;
use super::registry;
use super::secrets;
use super::server::{ACCESS_KEY, Kind as Store, SECRET_KEY, Server};
use super::token;

/// The variables that hold the keys of the S3 servers.
pub const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
    ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
];

/// The variables that hold azurite's key.
pub const AZURE_KEYS: [(&str, &str); 2] = [
    ("AZURE_STORAGE_ACCOUNT", azurite::ACCOUNT),
    ("AZURE_STORAGE_KEY", azurite::KEY),
];

/// Returns the variables that hold a server's keys.
pub fn keys(kind: Store) -> Vec<(&'static str, &'static str)> {
    match kind {
        Store::Moto | Store::S3s | Store::Rclone => KEYS.into(),
        Store::Azurite => AZURE_KEYS.into(),
        Store::Registry => Vec::new(),
        Store::Gcs => vec![("GOOGLE_APPLICATION_CREDENTIALS", token::key_file())],
    }
}

/// Opens an S3 bucket, prefix `pre`, at an endpoint, with these variables as its environment.
pub fn target(bucket: &str, endpoint: String, env: &[(&str, &str)]) -> Target {
    target_on(Store::Moto, bucket, endpoint, env)
}

/// Opens a bucket or container, prefix `pre`, at an endpoint of a kind of server.
pub fn target_on(kind: Store, bucket: &str, endpoint: String, env: &[(&str, &str)]) -> Target {
    let location = location_on(kind, bucket, endpoint.clone());
    // Google's clients have no other setting for the endpoint.
    let emulator = ("STORAGE_EMULATOR_HOST", &*endpoint);
    open_at(&location, &[env, &[emulator]].concat())
}

/// Describes an S3 bucket, prefix `pre`, at an endpoint.
pub fn location(bucket: &str, endpoint: String) -> S3Location {
    S3Location {
        url: format!("s3://{bucket}/pre"),
        bucket: bucket.into(),
        prefix: "pre".into(),
        endpoint: Some(endpoint),
        ..S3Location::default()
    }
}

/// Describes a bucket or container, prefix `pre`, at an endpoint of a kind of server.
pub fn location_on(kind: Store, bucket: &str, endpoint: String) -> Location {
    match kind {
        Store::Moto | Store::S3s | Store::Rclone => Location::S3(location(bucket, endpoint)),
        Store::Azurite => Location::Azure(AzureLocation {
            url: format!("azblob://{bucket}/pre"),
            container: bucket.into(),
            prefix: "pre".into(),
            storage_account: Some(azurite::ACCOUNT.into()),
            domain: Some(endpoint.trim_start_matches("http://").into()),
            protocol: Some("http".into()),
            ..AzureLocation::default()
        }),
        Store::Registry => Location::Oci(OciLocation {
            url: format!("oci://registry/{bucket}"),
            host: endpoint.trim_start_matches("http://").into(),
            repository: bucket.into(),
            credentials: Some((registry::USER.into(), registry::PASSWORD.into())),
        }),
        Store::Gcs => Location::Gs(GsLocation {
            url: format!("gs://{bucket}/pre"),
            bucket: bucket.into(),
            prefix: "pre".into(),
            ..GsLocation::default()
        }),
    }
}

/// Opens an S3 bucket with these variables as its environment.
pub fn open(location: &S3Location, env: &[(&str, &str)]) -> Target {
    open_at(&Location::S3(location.clone()), env)
}

/// Opens a store with these variables as its environment.
pub fn open_at(location: &Location, env: &[(&str, &str)]) -> Target {
    let env: HashMap<&str, &str> = env.iter().copied().collect();
    let env = |name: &str| env.get(name).map(|value| (*value).into());
    Target::open(Role::Backup(0), location, &env).unwrap()
}

/// A store behind a proxy, with one artifact in it.
pub struct Behind {
    /// The target, through the proxy.
    pub target: Target,
    /// The proxy; it passes everything.
    pub proxy: Proxy,
    /// The server behind it.
    pub server: Arc<Server>,
    /// The bucket or container.
    pub bucket: String,
}

impl Behind {
    /// Makes the store on moto, and in it the artifact `app/schema`: `the schema state`.
    pub async fn new() -> Self {
        Self::on(Store::Moto).await
    }

    /// Makes the store on a kind of server.
    pub async fn on(kind: Store) -> Self {
        let server = Server::shared(kind);
        let proxy = Proxy::start(server.addr());
        let bucket = server.bucket();
        let target = target_on(kind, &bucket, proxy.endpoint(), &keys(kind));
        put(&target, "app/schema", "the schema state", 1)
            .await
            .unwrap();
        proxy.forget();
        Self {
            target,
            proxy,
            server,
            bucket,
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

/// Tries every operation and returns the failure of each; `None` for success.
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

/// Asserts that every operation fails in one way, in time, and shows no secret.
pub async fn all_are(target: &Target, kind: Kind) {
    for (name, failure) in every_operation(target, Duration::from_secs(10)).await {
        let failure = failure.unwrap_or_else(|| panic!("{name} succeeds"));
        assert_eq!(failure.kind, kind, "{name}: {failure}");
        // The debug output must not show it either.
        let printed = format!("{failure} {failure:?} {failure:#?}");
        secrets::shows_none(name, printed.as_bytes());
    }
}
