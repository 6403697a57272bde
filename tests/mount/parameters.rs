//! Every parameter of a target's URL has its documented effect. The proof is in the requests to a
//! proxy, which stands for all hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::home::Home;
use super::program::run;
use super::support::serve::{Answering, Request};

/// A proxy that forwards nothing. It records every request, and answers like an empty store that
/// refuses writes.
struct Fixture {
    server: Answering,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Fixture {
    fn start() -> Self {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = Arc::clone(&seen);
        let server = Answering::start(move |request: &Request| {
            let Request {
                method,
                path,
                query,
                headers,
                ..
            } = request;
            let query: BTreeMap<_, _> = query.iter().collect();
            let note = format!("{method} {path} {query:?} {headers:?}");
            notes.lock().unwrap().push(note);
            let empty = match path.contains("container") {
                true => "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>",
                false => "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
            };
            match &**method {
                // No store has an identity yet.
                "GET" if path.ends_with("store") => {
                    let none = match path.contains("container") {
                        true => "<Error><Code>BlobNotFound</Code></Error>",
                        false => "<Error><Code>NoSuchKey</Code></Error>",
                    };
                    (404, Vec::new(), none.into())
                }
                "GET" => (200, Vec::new(), empty.into()),
                _ => (
                    403,
                    Vec::new(),
                    b"<Error><Code>AccessDenied</Code></Error>".to_vec(),
                ),
            }
        });
        Self { server, seen }
    }
}

/// The evidence of a parameter.
enum Shows {
    /// A text in some request.
    Sent(&'static str),
    /// A text in no request. Some requests must come.
    NeverSent(&'static str),
    /// A text in the output of `check`.
    Said(&'static str),
}

use Shows::{NeverSent, Said, Sent};

/// Scheme, parameter, URL, variables, evidence.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    Shows,
);

const SAS: &[(&str, &str)] = &[("AZURE_STORAGE_SAS_TOKEN", "sv=1&sp=rl&se=2999-01-01&sig=x")];
const EMULATOR: &[(&str, &str)] = &[("STORAGE_EMULATOR_HOST", "store.test:80")];

const ROWS: [Row; 34] = [
    (
        "s3",
        "region",
        "s3://bucket?disable_https=true&region=eu-west-3",
        &[],
        Sent("GET http://bucket.s3.eu-west-3.amazonaws.com"),
    ),
    (
        "s3",
        "region",
        "s3://bucket?disable_https=true&region=eu-west-3",
        &[],
        Sent("/eu-west-3/s3/aws4_request"),
    ),
    (
        "s3",
        "endpoint",
        "s3://bucket?endpoint=http://store.test:9000",
        &[],
        Sent("GET http://bucket.store.test:9000"),
    ),
    (
        "s3",
        "profile",
        "s3://bucket?endpoint=http://store.test&profile=p",
        &[],
        Sent("Credential=IDOFTHEPROFILE/"),
    ),
    (
        "s3",
        "anonymous",
        "s3://bucket?endpoint=http://store.test&anonymous=true",
        &[],
        NeverSent("authorization"),
    ),
    (
        "s3",
        "use_path_style",
        "s3://bucket?endpoint=http://store.test&use_path_style=true",
        &[],
        Sent("GET http://store.test/bucket"),
    ),
    (
        "s3",
        "s3ForcePathStyle",
        "s3://bucket?endpoint=http://store.test&s3ForcePathStyle=true",
        &[],
        Sent("GET http://store.test/bucket"),
    ),
    (
        "s3",
        "disable_https",
        "s3://bucket?disable_https=true",
        &[],
        Sent("GET http://bucket.s3.us-east-1.amazonaws.com"),
    ),
    (
        "s3",
        "disable_https",
        "s3://bucket",
        &[],
        Sent("CONNECT bucket.s3.us-east-1.amazonaws.com:443"),
    ),
    (
        "s3",
        "role",
        "s3://bucket?role=arn:aws:iam::123456789012:role/r",
        &[("AWS_ENDPOINT_URL_STS", "http://sts.test")],
        Sent("POST http://sts.test/"),
    ),
    (
        "s3",
        "role",
        "s3://bucket?role=arn:aws:iam::123456789012:role/r&region=cn-north-1",
        &[],
        Sent("CONNECT sts.cn-north-1.amazonaws.com.cn:443"),
    ),
    (
        "s3",
        "accelerate",
        "s3://bucket?disable_https=true&accelerate=true",
        &[],
        Sent("GET http://bucket.s3-accelerate.amazonaws.com"),
    ),
    (
        "s3",
        "ssetype",
        "s3://bucket?endpoint=http://store.test&ssetype=aws:kms:dsse",
        &[],
        Sent("\"x-amz-server-side-encryption\": \"aws:kms:dsse\""),
    ),
    (
        "s3",
        "kmskeyid",
        "s3://bucket?endpoint=http://store.test&ssetype=aws:kms&kmskeyid=the-key",
        &[],
        Sent("encryption-aws-kms-key-id\": \"the-key\""),
    ),
    (
        "s3",
        "dualstack",
        "s3://bucket?disable_https=true&dualstack=true",
        &[],
        Sent("GET http://bucket.s3.dualstack.us-east-1.amazonaws.com"),
    ),
    (
        "s3",
        "fips",
        "s3://bucket?disable_https=true&fips=true",
        &[],
        Sent("GET http://bucket.s3-fips.us-east-1.amazonaws.com"),
    ),
    (
        "s3",
        "hostname_immutable",
        "s3://bucket?endpoint=http://store.test&hostname_immutable=true",
        &[],
        Sent("GET http://store.test/bucket"),
    ),
    (
        "s3",
        "prefix",
        "s3://bucket/a?endpoint=http://store.test&prefix=b/c",
        &[],
        Sent("\"prefix\": \"a/b/c/\""),
    ),
    (
        "gs",
        "anonymous",
        "gs://bucket?anonymous=true",
        EMULATOR,
        NeverSent("authorization"),
    ),
    (
        "gs",
        "access_id",
        "gs://bucket?access_id=-",
        EMULATOR,
        Sent("GET http://store.test/bucket"),
    ),
    (
        "gs",
        "access_id",
        "gs://bucket?access_id=me@project.iam.gserviceaccount.com",
        EMULATOR,
        Sent("GET http://store.test/bucket"),
    ),
    (
        "gs",
        "universe_domain",
        "gs://bucket?universe_domain=universe.test&anonymous=true",
        &[],
        Sent("CONNECT storage.universe.test:443"),
    ),
    (
        "gs",
        "prefix",
        "gs://bucket/a?prefix=b/c",
        EMULATOR,
        Sent("\"prefix\": \"a/b/c/\""),
    ),
    (
        "azblob",
        "storage_account",
        "azblob://container?storage_account=theirs",
        SAS,
        Sent("CONNECT theirs.blob.core.windows.net:443"),
    ),
    (
        "azblob",
        "storage_account",
        "azureblob://container?storage_account=theirs",
        SAS,
        Sent("CONNECT theirs.blob.core.windows.net:443"),
    ),
    (
        "azblob",
        "domain",
        "azblob://container?storage_account=a&domain=blob.test",
        SAS,
        Sent("CONNECT a.blob.test:443"),
    ),
    (
        "azblob",
        "protocol",
        "azblob://container?storage_account=a&protocol=http",
        SAS,
        Sent("GET http://a.blob.core.windows.net/container"),
    ),
    (
        "azblob",
        "localemu",
        "azblob://container?localemu=true&domain=emulator.test",
        &[],
        Sent("GET http://emulator.test/devstoreaccount1/container"),
    ),
    (
        "azblob",
        "cdn",
        "azblob://container?storage_account=a&cdn=true&domain=cdn.test&protocol=http",
        SAS,
        Sent("GET http://cdn.test/container"),
    ),
    (
        "azblob",
        "prefix",
        "azblob://container/a?storage_account=a&protocol=http&prefix=b/c",
        SAS,
        Sent("\"prefix\": \"a/b/c/\""),
    ),
    (
        "file",
        "create_dir",
        "file:///HOME/new?create_dir=true",
        &[],
        Said("nothing there"),
    ),
    (
        "file",
        "create_dir",
        "file:///HOME/another?create_dir=false",
        &[],
        Said("restore it, or add ?create_dir=true"),
    ),
    (
        "oci",
        "",
        "oci://registry.test/r",
        &[],
        Sent("CONNECT registry.test:443"),
    ),
    (
        "oci",
        "",
        "oci://registry.test/r?tag=x",
        &[],
        Said("oci URLs have no parameters"),
    ),
];

#[test]
fn every_parameter_does_what_it_says() {
    let home = Home::new();
    let config = "[profile p]\nregion = us-east-1\naws_access_key_id = IDOFTHEPROFILE\n\
                  aws_secret_access_key = x\n";
    home.file(".aws/config", config);
    let world = Fixture::start();
    let proxy = format!("http://{}", world.server.addr());
    for (_, _, url, variables, shows) in &ROWS {
        world.seen.lock().unwrap().clear();
        let url = url.replace("/HOME", home.dir().to_str().unwrap());
        let mut command =
            home.atlasfs(["check", "--write", "--timeout", "30s", "--registry", &url]);
        for variable in ["AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY"] {
            command.env_remove(variable);
        }
        let variables = variables.iter().copied();
        command.env("ALL_PROXY", &proxy).envs(variables);
        let ran = run(&mut command);
        let seen = world.seen.lock().unwrap().clone();
        match shows {
            Sent(part) => {
                let found = seen.iter().any(|request| request.contains(part));
                assert!(found, "{url}: no {part} in {seen:#?}\n{ran}");
            }
            NeverSent(part) => {
                let found = seen.iter().any(|request| request.contains(part));
                assert!(
                    !found && !seen.is_empty(),
                    "{url}: {part} in {seen:#?}\n{ran}"
                );
            }
            Said(part) => {
                let said = ran.text() + &ran.stderr;
                assert!(said.contains(part), "{url}: {said}");
            }
        }
    }
    assert!(home.path("new").is_dir() && !home.path("another").exists());
}

#[test]
fn the_table_has_every_parameter_and_another_is_refused_with_the_list() {
    let home = Home::new();
    for (scheme, url) in [
        ("s3", "s3://bucket"),
        ("gs", "gs://bucket"),
        ("azblob", "azblob://container"),
        ("azblob", "azureblob://container"),
        ("file", "file:///dir"),
        ("oci", "oci://h/r"),
    ] {
        let url = format!("{url}?unheard_of=1");
        let ran = run(&mut home.atlasfs(["check", "--registry", &url]));
        let said = ran.fails(1, "unknown parameter \"unheard_of\"").stderr;
        let known: BTreeSet<&str> = match said.split_once(" are ") {
            Some((_, list)) => list.trim().split(", ").collect(),
            None => BTreeSet::new(),
        };
        let rows = ROWS
            .iter()
            .filter(|row| row.0 == scheme && !row.1.is_empty());
        let tried: BTreeSet<&str> = rows.map(|row| row.1).collect();
        assert_eq!(known, tried, "{url}: {said}");
    }
}
