//! Tests of opening a bucket: accepted and refused parameters, and the environment. No test sends a
//! request.

use std::path::Path;

use super::gcs::open;
use crate::store::http::opening::env_of as env;
use crate::store::{Failure, GsLocation, Kind};

const EMULATOR: (&str, &str) = ("STORAGE_EMULATOR_HOST", "127.0.0.1:9");
const USER: &str = r#"{"type": "authorized_user", "client_id": "c", "client_secret": "s3cret",
                       "refresh_token": "s3cret"}"#;

fn location() -> GsLocation {
    GsLocation {
        url: "gs://acme-backup/prefix".into(),
        bucket: "acme-backup".into(),
        prefix: "prefix".into(),
        ..GsLocation::default()
    }
}

fn failure(location: &GsLocation, pairs: &[(&str, &str)]) -> Failure {
    let failure = open(location, &env(pairs)).unwrap_err();
    assert!(
        failure
            .reason
            .starts_with("cannot open gs://acme-backup/prefix: "),
        "{failure}"
    );
    assert!(!failure.reason.contains("s3cret"), "{failure}");
    failure
}

#[test]
fn without_credentials_the_message_says_what_to_set_and_nobody_is_asked() {
    let failure = failure(&location(), &[("HOME", "/nonexistent")]);
    assert_eq!(failure.kind, Kind::Denied);
    for word in [
        "GOOGLE_APPLICATION_CREDENTIALS",
        "gcloud auth application-default login",
        "GCE_METADATA_HOST",
        "anonymous=true",
    ] {
        assert!(failure.reason.contains(word), "{failure}");
    }
}

#[test]
fn each_source_of_credentials_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let gcloud = folder.path().join(".config/gcloud");
    std::fs::create_dir_all(&gcloud).unwrap();
    let file = gcloud.join("application_default_credentials.json");
    std::fs::write(&file, USER).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    for (name, value) in [
        ("GOOGLE_APPLICATION_CREDENTIALS", text(&file)),
        ("CLOUDSDK_CONFIG", text(&gcloud)),
        ("HOME", text(folder.path())),
        ("GCE_METADATA_HOST", "127.0.0.1:9".into()),
        ("GCE_METADATA_HOST", "metadata.google.internal".into()),
        (EMULATOR.0, EMULATOR.1.into()),
    ] {
        open(&location(), &env(&[(name, &value)])).unwrap();
    }
    let anonymous = GsLocation {
        anonymous: true,
        access_id: Some("-".into()),
        ..location()
    };
    open(&anonymous, &env(&[])).unwrap();
}

#[test]
fn a_file_that_is_no_credentials_is_told_and_never_quoted() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let env = [("GOOGLE_APPLICATION_CREDENTIALS", path)];
    for (content, expected) in [
        ("s3cret", "is not json"),
        ("{}", "has no type"),
        (r#"{"type": "external_account"}"#, "type external_account"),
        (r#"{"type": "s3cret with blanks"}"#, "has no type"),
        (r#"{"type": "service_account"}"#, "has no private_key"),
        (
            r#"{"type": "authorized_user", "client_id": "c"}"#,
            "has no client_secret",
        ),
        (
            r#"{"type": "service_account", "private_key": "s3cret", "private_key_id": "k",
                "client_email": "e"}"#,
            "private_key of the credentials file can't be read",
        ),
    ] {
        std::fs::write(path, content).unwrap();
        let failure = failure(&location(), &env);
        assert_eq!(failure.kind, Kind::Denied);
        assert!(failure.reason.contains(expected), "{failure}");
    }
    let failure = failure(&location(), &[(env[0].0, "/nonexistent/key.json")]);
    assert_eq!(failure.kind, Kind::Denied);
    assert!(
        failure.reason.contains("/nonexistent/key.json"),
        "{failure}"
    );
}

#[test]
fn credentials_go_to_their_own_universe_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), USER).unwrap();
    let env = [(
        "GOOGLE_APPLICATION_CREDENTIALS",
        file.path().to_str().unwrap(),
    )];
    let elsewhere = GsLocation {
        universe_domain: Some("apis.example".into()),
        ..location()
    };
    let failure = failure(&elsewhere, &env);
    assert_eq!(failure.kind, Kind::Denied);
    assert!(failure.reason.contains("universe"), "{failure}");
    let own = USER.replace('{', r#"{"universe_domain": "apis.example","#);
    std::fs::write(file.path(), own).unwrap();
    open(&elsewhere, &self::env(&env)).unwrap();
}

/// A change to a location.
type GcsChange = fn(&mut GsLocation);

#[test]
fn what_google_would_refuse_is_refused_at_once() {
    let cases: [(GcsChange, &str); 6] = [
        (|l| l.bucket = "Acme".into(), "invalid bucket name"),
        (|l| l.bucket = "a".into(), "invalid bucket name"),
        (|l| l.bucket = "-ab".into(), "invalid bucket name"),
        (|l| l.bucket = "a/b".into(), "invalid bucket name"),
        (
            |l| l.universe_domain = Some("a/b".into()),
            "universe_domain must be",
        ),
        (|l| l.prefix = "a//b".into(), "prefix"),
    ];
    for (change, expected) in cases {
        let mut location = location();
        change(&mut location);
        let failure = failure(&location, &[EMULATOR]);
        assert_eq!(failure.kind, Kind::Invalid, "{failure}");
        assert!(failure.reason.contains(expected), "{failure}");
    }
    for (name, value) in [
        (EMULATOR.0, "ftp://h"),
        (EMULATOR.0, "http://me:s3cret@h"),
        (EMULATOR.0, "h/path"),
        ("GCE_METADATA_HOST", "h/path"),
    ] {
        let failure = failure(&location(), &[(name, value)]);
        assert_eq!(failure.kind, Kind::Invalid);
        assert!(failure.reason.contains(name), "{failure}");
    }
}

#[test]
fn a_driver_shows_no_credentials_when_it_is_printed() {
    let driver = open(&location(), &env(&[EMULATOR])).unwrap();
    assert_eq!(
        format!("{driver:?}"),
        "CloudDriver(gs://acme-backup/prefix)"
    );
}
