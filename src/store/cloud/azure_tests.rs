//! Tests of opening a container: accepted and refused parameters, and the environment. No test
//! sends a request.

use proptest::prelude::*;

use super::azure::{open, service};
use crate::arbitrary::{config, text};
use crate::store::cloud::credentials::azure::find;
use crate::store::http::opening::env_of as env;
use crate::store::{AzureLocation, Failure, Kind};

const ACCOUNT: (&str, &str) = ("AZURE_STORAGE_ACCOUNT", "acme");
const KEYS: [(&str, &str); 2] = [ACCOUNT, ("AZURE_STORAGE_KEY", "c0VjUmVU")];

fn location() -> AzureLocation {
    AzureLocation {
        url: "azblob://backup/prefix".into(),
        container: "backup".into(),
        prefix: "prefix".into(),
        ..AzureLocation::default()
    }
}

fn failure(location: &AzureLocation, pairs: &[(&str, &str)]) -> Failure {
    let failure = open(location, &env(pairs)).unwrap_err();
    assert!(
        failure
            .reason
            .starts_with("cannot open azblob://backup/prefix: ")
    );
    for secret in ["c0VjUmVU", "sEcReT", "s3cret"] {
        assert!(!failure.reason.contains(secret), "{failure}");
    }
    failure
}

fn at(location: &AzureLocation, pairs: &[(&str, &str)]) -> String {
    let env = env(pairs);
    let found = find(location, &env).map_err(|(_, why)| why).unwrap();
    let url = service(location, &found, &env)
        .map_err(|(_, why)| why)
        .unwrap();
    open(location, &env).unwrap();
    url.as_str().trim_end_matches('/').into()
}

/// Variables and their values.
type Pairs = &'static [(&'static str, &'static str)];
/// A change to a location.
type AzureChange = fn(&mut AzureLocation);

#[test]
fn each_parameter_that_chooses_an_address_does() {
    let cases: [(AzureChange, &str); 8] = [
        (|_| {}, "https://acme.blob.core.windows.net"),
        (
            |l| l.storage_account = Some("other".into()),
            "https://other.blob.core.windows.net",
        ),
        (
            |l| l.domain = Some("blob.core.chinacloudapi.cn".into()),
            "https://acme.blob.core.chinacloudapi.cn",
        ),
        (
            |l| l.protocol = Some("http".into()),
            "http://acme.blob.core.windows.net",
        ),
        (
            |l| (l.cdn, l.domain) = (true, Some("files.acme.example".into())),
            "https://files.acme.example",
        ),
        (
            |l| l.domain = Some("localhost:4711".into()),
            "https://localhost:4711/acme",
        ),
        (|l| l.local_emulator = true, "http://127.0.0.1:10000/acme"),
        (
            |l| (l.local_emulator, l.domain) = (true, Some("azurite:1".into())),
            "http://azurite:1/acme",
        ),
    ];
    for (change, expected) in cases {
        let mut location = location();
        change(&mut location);
        let sas = [
            ACCOUNT,
            (
                "AZURE_STORAGE_SAS_TOKEN",
                "?sv=1&sp=rl&se=2090-01-01&sig=s3cret%3D",
            ),
        ];
        assert_eq!(at(&location, &sas), expected);
    }
    for (pair, expected) in [
        (
            ("AZURE_STORAGE_DOMAIN", "d.example"),
            "https://acme.d.example",
        ),
        (
            ("AZURE_STORAGE_PROTOCOL", "http"),
            "http://acme.blob.core.windows.net",
        ),
        (
            ("AZURE_STORAGE_IS_LOCAL_EMULATOR", "true"),
            "http://127.0.0.1:10000/acme",
        ),
    ] {
        assert_eq!(at(&location(), &[KEYS[0], KEYS[1], pair]), expected);
    }
}

#[test]
fn a_connection_string_has_the_account_the_key_and_the_address() {
    const NAME: &str = "AZURE_STORAGE_CONNECTION_STRING";
    for (text, expected) in [
        (
            "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=c0VjUmVU;\
             EndpointSuffix=core.windows.net",
            "https://acme.blob.core.windows.net",
        ),
        (
            "AccountName=acme;AccountKey=c0VjUmVU;EndpointSuffix=core.usgovcloudapi.net",
            "https://acme.blob.core.usgovcloudapi.net",
        ),
        (
            "AccountName=acme;AccountKey=c0VjUmVU;BlobEndpoint=http://127.0.0.1:1/acme;",
            "http://127.0.0.1:1/acme",
        ),
        (
            "AccountName=acme;SharedAccessSignature=sv=1&si=policy&sig=s3cret%3D",
            "https://acme.blob.core.windows.net",
        ),
        (
            "BlobEndpoint=https://acme.blob.core.windows.net/;QueueEndpoint=https://acme.queue.x/;\
             SharedAccessSignature=sv=1&sp=rl&se=2090-01-01&sig=s3cret%3D",
            "https://acme.blob.core.windows.net",
        ),
        (
            "BlobEndpoint=http://127.0.0.1:1/acme;SharedAccessSignature=sp=rl&se=2090&sig=s3cret",
            "http://127.0.0.1:1/acme",
        ),
        (
            "UseDevelopmentStorage=true",
            "http://127.0.0.1:10000/devstoreaccount1",
        ),
    ] {
        assert_eq!(at(&location(), &[(NAME, text)]), expected);
        assert_eq!(
            at(&location(), &[("AZURE_STORAGEBLOB_CONNECTIONSTRING", text)]),
            expected
        );
    }
    for (text, expected) in [
        ("sEcReT", "it must be name=value"),
        ("AccountName=acme;AccountKey=sEc ReT", "a blank"),
        ("AccountName=acme;AccountKey=sEcReT!", "not base64"),
        (
            "AccountName=acme;AccountKey=c0VjUmVU;BlobEndpoint=s3cret",
            "BlobEndpoint",
        ),
        (
            "AccountName=acme;DefaultEndpointsProtocol=ftp",
            "DefaultEndpointsProtocol",
        ),
        ("AccountKey=c0VjUmVU", "the account is missing"),
        (
            "AccountName=acme;SharedAccessSignature=s3cret",
            "is not a SAS",
        ),
    ] {
        let failure = failure(&location(), &[(NAME, text)]);
        assert_eq!(failure.kind, Kind::Invalid);
        assert!(failure.reason.contains(expected), "{failure}");
    }
    let other = AzureLocation {
        storage_account: Some("other".into()),
        ..location()
    };
    let failure = failure(&other, &[(NAME, "AccountName=acme;AccountKey=c0VjUmVU")]);
    assert_eq!(failure.kind, Kind::Denied);
    assert!(failure.reason.contains("for another account"), "{failure}");
}

#[test]
fn what_azure_would_refuse_is_refused_at_once() {
    let cases: [(AzureChange, &str); 13] = [
        (|l| l.container = "$root".into(), "Azure reserves"),
        (|l| l.container = "$logs".into(), "Azure reserves"),
        (|l| l.container = "Backup".into(), "invalid container name"),
        (|l| l.container = "ba".into(), "invalid container name"),
        (|l| l.container = "a--b".into(), "invalid container name"),
        (|l| l.container = "-ab".into(), "invalid container name"),
        (|l| l.container = "a_b".into(), "invalid container name"),
        (|l| l.cdn = true, "cdn needs domain"),
        (
            |l| (l.cdn, l.local_emulator) = (true, true),
            "cdn excludes localemu",
        ),
        (
            |l| l.domain = Some("https://h".into()),
            "domain must be a host name",
        ),
        (
            |l| l.domain = Some("me:s3cret@h".into()),
            "domain must be a host name",
        ),
        (
            |l| l.storage_account = Some("a.b".into()),
            "without a domain",
        ),
        (|l| l.prefix = "a./b".into(), "prefix"),
    ];
    for (change, expected) in cases {
        let mut location = location();
        change(&mut location);
        let named = location.storage_account.is_some();
        let account = if named { "AZURE_UNUSED" } else { ACCOUNT.0 };
        let failure = failure(&location, &[KEYS[1], (account, ACCOUNT.1)]);
        assert_eq!(failure.kind, Kind::Invalid, "{failure}");
        assert!(failure.reason.contains(expected), "{failure}");
    }
}

#[test]
fn each_source_of_credentials_is_taken_when_it_is_whole() {
    type Pair = (&'static str, &'static str);
    const TENANT: Pair = ("AZURE_TENANT_ID", "t-1");
    const CLIENT: Pair = ("AZURE_CLIENT_ID", "c-1");
    const SECRET: Pair = ("AZURE_CLIENT_SECRET", "s3cret");
    const TOKEN: Pair = ("AZURE_FEDERATED_TOKEN_FILE", "/t");
    let whole: [Pairs; 8] = [
        &KEYS,
        &[
            ACCOUNT,
            ("AZURE_STORAGE_SAS_TOKEN", "sp=rl&se=2090&sig=s3cret"),
        ],
        &[ACCOUNT, TENANT, CLIENT, SECRET],
        &[
            ACCOUNT,
            TENANT,
            CLIENT,
            SECRET,
            ("AZURE_AUTHORITY_HOST", "login.example/"),
        ],
        &[ACCOUNT, TENANT, CLIENT, TOKEN],
        &[ACCOUNT, ("IDENTITY_ENDPOINT", "http://127.0.0.1:9/msi")],
        &[
            ACCOUNT,
            ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9"),
        ],
        &[
            ACCOUNT,
            ("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential"),
        ],
    ];
    for pairs in whole {
        open(&location(), &env(pairs)).unwrap();
    }
    let partial: [(Pairs, Kind, &str); 12] = [
        (&[], Kind::Invalid, "the account is missing"),
        (&[ACCOUNT], Kind::Denied, "no credentials"),
        (&[ACCOUNT, TENANT, CLIENT], Kind::Denied, "no credentials"),
        (
            &[ACCOUNT, CLIENT, SECRET],
            Kind::Denied,
            "need AZURE_TENANT_ID",
        ),
        (
            &[ACCOUNT, TENANT, TOKEN],
            Kind::Denied,
            "need AZURE_TENANT_ID",
        ),
        (
            &[ACCOUNT, ("AZURE_TENANT_ID", "t/../s"), CLIENT, SECRET],
            Kind::Invalid,
            "AZURE_TENANT_ID must be",
        ),
        (
            &[
                ACCOUNT,
                TENANT,
                CLIENT,
                SECRET,
                ("AZURE_AUTHORITY_HOST", "http://evil.example"),
            ],
            Kind::Invalid,
            "AZURE_AUTHORITY_HOST must be https",
        ),
        (
            &[ACCOUNT, ("AZURE_STORAGE_KEY", "s3cret!")],
            Kind::Invalid,
            "AZURE_STORAGE_KEY is not a key",
        ),
        (
            &[ACCOUNT, ("AZURE_STORAGE_KEY", "c0VjUmVU\n")],
            Kind::Invalid,
            "AZURE_STORAGE_KEY holds a blank",
        ),
        (
            &[ACCOUNT, ("AZURE_STORAGE_SAS_TOKEN", "s3cret")],
            Kind::Invalid,
            "AZURE_STORAGE_SAS_TOKEN is not a SAS",
        ),
        (
            &[
                ACCOUNT,
                ("AZURE_STORAGE_SAS_TOKEN", "\"sp=r&se=2090&sig=s3cret\""),
            ],
            Kind::Invalid,
            "AZURE_STORAGE_SAS_TOKEN has quotes",
        ),
        (
            &[
                ACCOUNT,
                (
                    "AZURE_STORAGE_SAS_TOKEN",
                    "https://a.blob.core.windows.net/c?sp=r&se=2090&sig=s3cret",
                ),
            ],
            Kind::Invalid,
            "AZURE_STORAGE_SAS_TOKEN is a whole URL",
        ),
    ];
    for (pairs, kind, expected) in partial {
        let failure = failure(&location(), pairs);
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.reason.contains(expected), "{failure}");
    }
}

#[test]
fn a_key_of_one_account_is_not_tried_on_another() {
    let other = AzureLocation {
        storage_account: Some("other".into()),
        ..location()
    };
    let refused = failure(&other, &KEYS);
    assert_eq!(refused.kind, Kind::Denied);
    assert!(refused.reason.contains("another account"), "{refused}");
    open(&other, &env(&KEYS[1..])).unwrap();
}

#[test]
fn a_driver_shows_no_credentials_when_it_is_printed() {
    let driver = open(&location(), &env(&KEYS)).unwrap();
    assert_eq!(format!("{driver:?}"), "CloudDriver(azblob://backup/prefix)");
}

#[test]
fn a_key_without_its_sign_is_not_taken_for_a_misspelt_name() {
    let env = env(&[
        ACCOUNT,
        (
            "AZURE_STORAGE_CONNECTION_STRING",
            "AccountKeyc0VjUmVUc0VjUmVU",
        ),
    ]);
    let (_, why) = find(&location(), &env).err().unwrap();
    assert!(!why.contains("c0VjUmVU"), "{why}");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_arbitrary_connection_string_or_signature_panics_or_is_quoted(text in text(&[
        "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=c0VjUmVUc0VjUmVUc0VjUmVU;\
         EndpointSuffix=core.windows.net;BlobEndpoint=https://acme.blob.core.windows.net/",
        "sv=2020-12-06&sr=c&sp=rl&se=2090-01-01T00%3A00%3A00Z&sig=c0VjUmVUc0VjUmVUc0VjUmVU%3D",
    ])) {
        for name in ["AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_SAS_TOKEN"] {
            let env = env(&[ACCOUNT, (name, &text)]);
            if let Err((_, why)) = find(&location(), &env) {
                prop_assert!(!why.contains("c0VjUmVUc0VjUmVU"), "{}", why);
                prop_assert!(!why.contains('\n'), "{:?}", why);
            }
        }
    }
}
