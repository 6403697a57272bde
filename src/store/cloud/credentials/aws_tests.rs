//! Tests of the sources of a bucket's credentials, and of the shared files' syntax. No test sends a
//! request.

use object_store::aws::{AmazonS3Builder, AwsCredential};
use std::sync::Arc;
use tempfile::TempDir;

use super::aws::known;
use crate::store::cloud::s3::{endpoint, open};
use crate::store::http::opening::{OpenError, env_of};
use crate::store::{Kind, S3Location};

/// A home directory with shared files.
struct Home {
    dir: TempDir,
    env: Vec<(String, String)>,
}

impl Home {
    fn new(config: &str, credentials: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let home = Self {
            dir,
            env: vec![("HOME".into(), home)],
        };
        home.write("config", config);
        home.write("credentials", credentials);
        home
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(".aws").join(name), text).unwrap();
    }

    fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.push((name.into(), value.into()));
        self
    }

    fn find(&self, location: &S3Location) -> Result<AmazonS3Builder, OpenError> {
        let pairs: Vec<(&str, &str)> = self.env.iter().map(|(n, v)| (&**n, &**v)).collect();
        let env = env_of(&pairs);
        let known = known(location, &env)?;
        let builder = AmazonS3Builder::new().with_bucket_name("b");
        let given = known.give(builder, location, "eu-west-1");
        given.map(|(builder, _)| builder)
    }

    /// Returns the id of the access key for a location.
    async fn id(&self, location: &S3Location) -> String {
        let store = self.find(location).unwrap().build().unwrap();
        let got: Arc<AwsCredential> = store.credentials().get_credential().await.unwrap();
        got.key_id.clone()
    }

    /// Returns the reason why there are no credentials.
    fn why(&self, location: &S3Location) -> String {
        let Err((kind, why)) = self.find(location) else {
            panic!("there are credentials");
        };
        assert_eq!(kind, Kind::Denied, "{why}");
        assert!(!why.contains("s3cret") && !why.contains('\n'), "{why}");
        why
    }
}

fn location() -> S3Location {
    S3Location {
        url: "s3://bucket".into(),
        bucket: "bucket".into(),
        region: Some("eu-west-1".into()),
        ..S3Location::default()
    }
}

fn of_profile(name: &str) -> S3Location {
    S3Location {
        profile: Some(name.into()),
        ..location()
    }
}

const KEYS: &str = "[default]\naws_access_key_id = ID-DEFAULT\naws_secret_access_key = s3cret\n\
                    [other]\naws_access_key_id = ID-OTHER\naws_secret_access_key = s3cret\n\
                    aws_session_token = s3cret\n";

#[tokio::test]
async fn the_sources_come_in_the_order_of_the_sdks_and_a_profile_in_the_url_comes_first() {
    let mut home = Home::new("", KEYS);
    home.set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c");
    assert_eq!(home.id(&location()).await, "ID-DEFAULT");
    home.set("AWS_DEFAULT_PROFILE", "other");
    assert_eq!(home.id(&location()).await, "ID-OTHER");
    home.set("AWS_PROFILE", "default");
    assert_eq!(home.id(&location()).await, "ID-DEFAULT");
    assert_eq!(home.id(&of_profile("other")).await, "ID-OTHER");
    home.set("AWS_ACCESS_KEY_ID", "ID-ENV");
    home.set("AWS_SECRET_ACCESS_KEY", "s3cret");
    assert_eq!(home.id(&location()).await, "ID-ENV");
    assert_eq!(home.id(&of_profile("other")).await, "ID-OTHER");
}

#[tokio::test]
async fn the_files_may_lie_elsewhere_and_need_not_be_there() {
    let mut home = Home::new("[profile p]\nregion = x\n", "");
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(elsewhere.path(), KEYS).unwrap();
    let why = home.why(&location());
    assert!(
        why.starts_with("no credentials: set AWS_ACCESS_KEY_ID"),
        "{why}"
    );
    assert!(why.contains("profile=… in the url or AWS_PROFILE"), "{why}");
    let path = elsewhere.path().to_str().unwrap().to_owned();
    home.set("AWS_SHARED_CREDENTIALS_FILE", &path);
    assert_eq!(home.id(&location()).await, "ID-DEFAULT");
    home.set("AWS_CONFIG_FILE", "/nonexistent/config");
    assert!(home.why(&of_profile("p")).contains("/nonexistent/config"));
}

#[tokio::test]
async fn keys_that_are_rotated_in_the_file_are_taken_without_mounting_anew() {
    let home = Home::new("", KEYS);
    let store = home.find(&location()).unwrap().build().unwrap();
    let id = async || {
        store
            .credentials()
            .get_credential()
            .await
            .map(|got| got.key_id.clone())
    };
    assert_eq!(id().await.unwrap(), "ID-DEFAULT");
    // During a write of the file the old keys still serve.
    home.write("credentials", "[default]\naws_access_key_id = NEW\n");
    assert_eq!(id().await.unwrap(), "ID-DEFAULT");
    home.write("credentials", &KEYS.replace("ID-DEFAULT", "ID-NEW"));
    for round in 0.. {
        if id().await.unwrap() == "ID-NEW" {
            break;
        }
        assert!(round < 3_000, "the old keys are used for ever");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[test]
fn region_and_endpoint_of_the_profile_stand_in_for_what_url_and_environment_lack() {
    let text = "[profile p]\nregion = eu-west-3\nservices = s\n\
                [services s]\ns3 =\n  endpoint_url = http://127.0.0.1:7\n";
    let mut home = Home::new(text, "");
    let at = |home: &Home, location: &S3Location| {
        let pairs: Vec<(&str, &str)> = home.env.iter().map(|(n, v)| (&**n, &**v)).collect();
        let env = env_of(&pairs);
        let known = known(location, &env).unwrap();
        let found = endpoint(location, &env, known.profile()).unwrap();
        (found.url, found.region)
    };
    let mut named = of_profile("p");
    named.region = None;
    assert_eq!(
        at(&home, &named),
        ("http://127.0.0.1:7".into(), "eu-west-3".into())
    );
    home.set("AWS_REGION", "eu-west-2");
    home.set("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:8");
    assert_eq!(
        at(&home, &named),
        ("http://127.0.0.1:8".into(), "eu-west-2".into())
    );
    home.set("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
    let own = "https://bucket.s3.eu-west-2.amazonaws.com".to_owned();
    assert_eq!(at(&home, &named), (own, "eu-west-2".into()));
}

#[test]
fn what_a_profile_cannot_be_used_for_is_refused_by_name_with_what_to_do() {
    let role = "role_arn = arn:aws:iam::1:role/r\n";
    for (text, expected) in [
        (
            "credential_process = /bin/s3cret\n".into(),
            "credential_process, which is not supported",
        ),
        (
            "sso_session = s\n".into(),
            "(SSO), which is not supported; aws configure export-credentials --profile p prints",
        ),
        (
            "sso_start_url = https://s3cret\n".into(),
            "(SSO), which is not supported",
        ),
        (
            "aws_access_key_id = s3cret\n".into(),
            "has no aws_secret_access_key",
        ),
        (
            "aws_secret_access_key = s3cret\n".into(),
            "has no aws_access_key_id",
        ),
        (
            "aws_access_key_id = a\naws_secret_access_key = s3cret s3cret\n".into(),
            "has a aws_secret_access_key with a blank, a line break",
        ),
        (
            "aws_access_key_id = a\naws_secret_access_key = s3cret\n  s3cret\n".into(),
            "a line break",
        ),
        ("web_identity_token_file = /t\n".into(), "but no role_arn"),
        (
            role.to_owned(),
            "no credentials to assume it: add source_profile or credential_source",
        ),
        (
            format!("{role}mfa_serial = x\nsource_profile = default\n"),
            "(mfa_serial)",
        ),
        (
            format!("{role}source_profile = none\n"),
            "\"none\" is in none of the shared files",
        ),
        (
            format!("{role}source_profile = p\n"),
            "source_profile without credentials",
        ),
        (
            format!("{role}source_profile = a\ncredential_source = Environment\n"),
            "keep one",
        ),
        (
            format!("{role}credential_source = Environment\n"),
            "set AWS_ACCESS_KEY_ID",
        ),
        (
            format!("{role}credential_source = EcsContainer\n"),
            "CONTAINER_CREDENTIALS_RELATIVE_URI is not set",
        ),
        (
            format!("{role}credential_source = s3cret\n"),
            "known are Environment, EcsContainer",
        ),
        (
            format!("{role}source_profile = q\n[profile q]\n{role}source_profile = p\n"),
            "or circular",
        ),
        (
            "role_arn = admin\ncredential_source = Ec2InstanceMetadata\n".into(),
            "invalid role ARN",
        ),
        (
            format!("{role}source_profile = default\nrole_session_name = s3cret s3cret\n"),
            "2 to 64 letters",
        ),
        (
            format!("{role}source_profile = default\nduration_seconds = long\n"),
            "is not a number",
        ),
        (
            "region = x\n".into(),
            "the profile \"p\" has no keys; no credentials: set",
        ),
        (
            "region\n".into(),
            "can't read the profile \"p\": line 2 of /",
        ),
    ] {
        let home = Home::new(&format!("[profile p]\n{text}"), KEYS);
        let why = home.why(&of_profile("p"));
        assert!(why.contains(expected), "{text}: {why}");
    }
    let home = Home::new("", KEYS);
    let why = home.why(&of_profile("q"));
    let expected = "there is no profile \"q\" in /";
    assert!(
        why.starts_with(expected) && why.contains("correct its name"),
        "{why}"
    );
}

#[test]
fn files_that_cannot_be_read_matter_only_if_they_are_needed() {
    let mut home = Home::new("not a file of profiles", "");
    let why = home.why(&location());
    assert!(
        why.contains("no credentials: set") && why.contains("line 1 of /"),
        "{why}"
    );
    home.set("AWS_ACCESS_KEY_ID", "a")
        .set("AWS_SECRET_ACCESS_KEY", "b");
    home.find(&location()).unwrap();
    home.set("AWS_PROFILE", "p");
    assert!(home.why(&location()).contains("profile \"p\": line 1 of /"));
}

#[tokio::test]
async fn a_profile_may_be_the_source_of_its_own_role_and_roles_may_be_chained() {
    let arn = "role_arn = arn:aws:iam::1:role/r\n";
    let text = format!(
        "[profile other]\n{arn}source_profile = other\n[profile next]\n{arn}source_profile = other\n\
         external_id = x\nduration_seconds = 900\nrole_session_name = me@example\n\
         [profile token]\n{arn}web_identity_token_file = /t\n"
    );
    let mut home = Home::new(&text, KEYS);
    for name in ["other", "next", "token"] {
        home.find(&of_profile(name)).unwrap();
    }
    // The token is usable by every reader, so it is never sent without TLS.
    home.set("AWS_ENDPOINT_URL_STS", "http://sts.example");
    assert!(home.why(&of_profile("token")).contains("needs TLS"));
    home.find(&of_profile("next")).unwrap();
}

#[test]
fn a_role_in_the_url_is_assumed_with_whatever_is_found_and_is_an_arn() {
    let home = Home::new("", KEYS);
    let role = |arn: &str| S3Location {
        role: Some(arn.into()),
        ..location()
    };
    home.find(&role("arn:aws:iam::123456789012:role/path/name"))
        .unwrap();
    let pairs: Vec<(&str, &str)> = home.env.iter().map(|(n, v)| (&**n, &**v)).collect();
    for wrong in [
        "admin",
        "arn:aws:iam::1:role/a b",
        "arn:aws:iam::1:role/a\u{e9}",
    ] {
        let failure = open(&role(wrong), &env_of(&pairs)).unwrap_err();
        assert_eq!(failure.kind, Kind::Invalid);
        assert!(failure.reason.contains("write arn:aws:iam::"), "{failure}");
    }
    let nobody = Home::new("", "");
    assert!(
        nobody
            .why(&role("arn:aws:iam::1:role/r"))
            .starts_with("no credentials")
    );
}
