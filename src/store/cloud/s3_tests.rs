//! Tests of opening a bucket: accepted and refused parameters, and the environment. No test sends a
//! request.

use super::s3::{Endpoint, endpoint, open};
use crate::store::http::opening::env_of as env;
use crate::store::{Failure, Kind, S3Location};

const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "sEcReT/key+"),
];

fn location() -> S3Location {
    S3Location {
        url: "s3://bucket/prefix".into(),
        bucket: "bucket".into(),
        prefix: "prefix".into(),
        region: Some("eu-west-1".into()),
        ..S3Location::default()
    }
}

fn with_keys(location: &S3Location) -> Result<(), Failure> {
    open(location, &env(&KEYS)).map(drop)
}

fn refusal(location: &S3Location) -> String {
    let failure = with_keys(location).unwrap_err();
    assert_eq!(failure.kind, Kind::Invalid, "{failure}");
    failure.reason
}

fn at(location: &S3Location) -> String {
    let Endpoint {
        url,
        virtual_hosted,
        ..
    } = endpoint(location, &env(&[]), None).unwrap();
    match virtual_hosted {
        true => url,
        false => format!("{url}/{}", location.bucket),
    }
}

/// A change to a location.
type S3Change = fn(&mut S3Location);

#[test]
fn each_parameter_that_chooses_an_address_does() {
    let cases: [(S3Change, &str); 13] = [
        (|_| {}, "https://bucket.s3.eu-west-1.amazonaws.com"),
        (
            |l| l.use_path_style = true,
            "https://s3.eu-west-1.amazonaws.com/bucket",
        ),
        (
            |l| l.disable_https = true,
            "http://bucket.s3.eu-west-1.amazonaws.com",
        ),
        (
            |l| l.accelerate = true,
            "https://bucket.s3-accelerate.amazonaws.com",
        ),
        (
            |l| l.dualstack = true,
            "https://bucket.s3.dualstack.eu-west-1.amazonaws.com",
        ),
        (
            |l| l.fips = true,
            "https://bucket.s3-fips.eu-west-1.amazonaws.com",
        ),
        (
            |l| l.region = Some("cn-north-1".into()),
            "https://bucket.s3.cn-north-1.amazonaws.com.cn",
        ),
        (
            |l| l.bucket = "a.b".into(),
            "https://s3.eu-west-1.amazonaws.com/a.b",
        ),
        (
            |l| l.endpoint = Some("http://127.0.0.1:9000".into()),
            "http://127.0.0.1:9000/bucket",
        ),
        (
            |l| l.endpoint = Some("https://minio.example:9000/base/".into()),
            "https://bucket.minio.example:9000/base",
        ),
        (
            |l| {
                l.endpoint = Some("https://minio.example".into());
                l.use_path_style = true;
            },
            "https://minio.example/bucket",
        ),
        (
            |l| {
                l.endpoint = Some("https://minio.example".into());
                l.hostname_immutable = true;
            },
            "https://minio.example/bucket",
        ),
        (
            |l| l.endpoint = Some("http://localhost:9000".into()),
            "http://localhost:9000/bucket",
        ),
    ];
    for (change, expected) in cases {
        let mut location = location();
        change(&mut location);
        assert_eq!(at(&location), expected);
        with_keys(&location).unwrap();
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    fn endpoint(location: &mut S3Location, url: &str) {
        location.endpoint = Some(url.into());
    }
    let cases: [(S3Change, &str); 24] = [
        (|l| l.role = Some("arn".into()), "invalid role ARN"),
        (
            |l| (l.role, l.anonymous) = (Some("arn:aws:iam::1:role/r".into()), true),
            "anonymous excludes role",
        ),
        (|l| l.bucket = "Bucket".into(), "lower-case letters"),
        (|l| l.bucket = "b_c".into(), "lower-case letters"),
        (|l| l.bucket = "bu".into(), "3 to 63"),
        (|l| l.bucket = "bucket-".into(), "invalid AWS bucket name"),
        (|l| l.bucket = "a/b".into(), "invalid bucket name"),
        (
            |l| l.bucket = "x--use1-az4--x-s3".into(),
            "directory buckets",
        ),
        (
            |l| l.hostname_immutable = true,
            "hostname_immutable needs endpoint",
        ),
        (
            |l| (l.accelerate, l.fips) = (true, true),
            "accelerate excludes fips",
        ),
        (
            |l| (l.accelerate, l.use_path_style) = (true, true),
            "use_path_style",
        ),
        (
            |l| (l.accelerate, l.bucket) = (true, "a.b".into()),
            "without dots",
        ),
        (
            |l| {
                l.dualstack = true;
                endpoint(l, "https://h");
            },
            "endpoint excludes",
        ),
        (|l| endpoint(l, "minio"), "endpoint is not a url"),
        (|l| endpoint(l, "ftp://h"), "must start with https"),
        (
            |l| endpoint(l, "https://me:secret@h"),
            "must not hold credentials",
        ),
        (|l| endpoint(l, "https://h?x=1"), "query"),
        (
            |l| {
                l.disable_https = true;
                endpoint(l, "https://h");
            },
            "disable_https contradicts",
        ),
        (|l| l.region = Some("eu west".into()), "invalid region"),
        (|l| l.region = None, "region is missing"),
        (|l| l.sse_type = Some("rot13".into()), "ssetype must be"),
        (
            |l| l.kms_key_id = Some("k".into()),
            "kmskeyid needs ssetype",
        ),
        (
            |l| {
                l.sse_type = Some("AES256".into());
                l.kms_key_id = Some("k".into());
            },
            "kmskeyid needs ssetype",
        ),
        (|l| l.prefix = "a//b".into(), "prefix"),
    ];
    for (change, expected) in cases {
        let mut location = location();
        change(&mut location);
        let reason = refusal(&location);
        assert!(reason.contains(expected), "{reason}");
        assert!(
            reason.starts_with("cannot open s3://bucket/prefix: "),
            "{reason}"
        );
        assert!(!reason.contains("secret@"), "{reason}");
    }
}

#[test]
fn every_kind_of_encryption_opens() {
    for (kind, key) in [
        ("AES256", None),
        ("aws:kms", None),
        ("aws:kms", Some("key")),
        ("aws:kms:dsse", Some("key")),
    ] {
        let location = S3Location {
            sse_type: Some(kind.into()),
            kms_key_id: key.map(String::from),
            ..location()
        };
        with_keys(&location).unwrap();
    }
}

#[test]
fn without_credentials_the_message_says_what_to_set() {
    let failure = open(&location(), &env(&[])).unwrap_err();
    assert_eq!(failure.kind, Kind::Denied);
    for word in [
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "anonymous=true",
    ] {
        assert!(failure.reason.contains(word), "{failure}");
    }
}

#[test]
fn each_source_of_credentials_is_taken_when_it_is_whole() {
    let whole: [&[(&str, &str)]; 6] = [
        &KEYS,
        &[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"),
            ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ],
        &[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c")],
        &[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/c"),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/t"),
        ],
        &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")],
        &[("AWS_EC2_METADATA_DISABLED", "false")],
    ];
    for pairs in whole {
        open(&location(), &env(pairs)).unwrap();
    }
    let partial: [(&[(&str, &str)], &str); 10] = [
        (&[KEYS[0]], "without AWS_SECRET_ACCESS_KEY"),
        (&[KEYS[1]], "without AWS_ACCESS_KEY_ID"),
        (
            &[("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")],
            "needs AWS_ROLE_ARN",
        ),
        (&[("AWS_ROLE_ARN", "arn")], "no credentials"),
        (&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "c")], "slash"),
        (
            &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/c")],
            "needs AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ),
        (
            &[
                (
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    "http://evil.example/c",
                ),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/t"),
            ],
            "must be https",
        ),
        (&[("AWS_EC2_METADATA_DISABLED", "true")], "no credentials"),
        (
            &[
                ("AWS_EC2_METADATA_DISABLED", "TRUE"),
                ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9"),
            ],
            "no credentials",
        ),
        (
            &[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")],
            "no credentials",
        ),
    ];
    for (pairs, expected) in partial {
        let failure = open(&location(), &env(pairs)).unwrap_err();
        assert!(failure.reason.contains(expected), "{failure}");
    }
}

#[test]
fn a_key_with_a_line_break_is_named_and_not_shown() {
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE\n"),
        ("AWS_SECRET_ACCESS_KEY", "sEcReT\r"),
        ("AWS_SECRET_ACCESS_KEY", "sEcReT\u{0}x"),
        ("AWS_SESSION_TOKEN", "sEcReT x"),
    ] {
        let mut pairs = KEYS.to_vec();
        pairs.retain(|(other, _)| *other != name);
        pairs.push((name, value));
        let failure = open(&location(), &env(&pairs)).unwrap_err();
        assert_eq!(failure.kind, Kind::Invalid);
        assert!(failure.reason.contains(name), "{failure}");
        assert!(
            !failure.reason.contains("sEcReT") && !failure.reason.contains("AKID"),
            "{failure}"
        );
    }
}

#[test]
fn anonymous_needs_no_credentials_and_the_environment_may_name_region_and_endpoint() {
    let anonymous = S3Location {
        anonymous: true,
        region: None,
        ..location()
    };
    open(&anonymous, &env(&[("AWS_DEFAULT_REGION", "eu-west-1")])).unwrap();
    let named = endpoint(
        &anonymous,
        &env(&[
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:2"),
        ]),
        None,
    );
    let named = named.unwrap();
    assert_eq!(
        (&*named.url, &*named.region),
        ("http://127.0.0.1:2", "us-east-1")
    );
    let fips = S3Location {
        fips: true,
        ..location()
    };
    let pairs = [("AWS_ENDPOINT_URL", "http://127.0.0.1:1")];
    let chosen = endpoint(&fips, &env(&pairs), None).unwrap();
    assert_eq!(chosen.url, "https://bucket.s3-fips.eu-west-1.amazonaws.com");
}

#[test]
fn a_driver_shows_no_credentials_when_it_is_printed() {
    let driver = open(&location(), &env(&KEYS)).unwrap();
    assert_eq!(format!("{driver:?}"), "CloudDriver(s3://bucket/prefix)");
}
