//! Tests of the credentials that Docker's file and helpers provide.

use std::os::unix::fs::PermissionsExt;

use super::*;

struct HelperFolder(tempfile::TempDir);

impl HelperFolder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn read(&self, text: &str, host: &str) -> Result<DockerEntry, String> {
        std::fs::write(self.0.path().join("config.json"), text).unwrap();
        let path = self.0.path().to_str().unwrap().to_owned();
        let env = |name: &str| matches!(name, "DOCKER_CONFIG" | "PATH").then(|| path.clone());
        DockerFile::find(&env).unwrap().read(host)
    }

    /// Returns the credentials in the file itself: one word for the kind, and the value.
    fn here(&self, text: &str, host: &str) -> Result<String, String> {
        Ok(match self.read(text, host)? {
            DockerEntry::Here(DockerCredentials::None) => "none".into(),
            DockerEntry::Here(DockerCredentials::Basic(pair)) => format!("basic {pair}"),
            DockerEntry::Here(DockerCredentials::Identity(token)) => format!("identity {token}"),
            DockerEntry::Helper(helper, _) => format!("helper {}", helper?.name()),
        })
    }
}

#[test]
fn what_docker_login_has_kept_is_found_under_every_name_of_the_host() {
    let folder = HelperFolder::new();
    let basic = Ok("basic bWU6czNjcmV0".to_owned());
    for (name, host) in [
        ("ghcr.io", "ghcr.io"),
        ("https://ghcr.io", "ghcr.io"),
        ("https://ghcr.io/v2/", "ghcr.io"),
        ("ghcr.io/", "ghcr.io"),
        ("http://127.0.0.1:5000", "127.0.0.1:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("https://index.docker.io/v1/", "registry-1.docker.io"),
    ] {
        let text = format!(r#"{{"auths": {{"{name}": {{"auth": "bWU6czNjcmV0"}}}}}}"#);
        assert_eq!(folder.here(&text, host), basic, "{name} {host}");
    }
    // No entry of another host matches.
    for name in [
        "docker.io",
        "ghcr.io.example.org",
        "ghcr.io:444",
        "example.org/ghcr.io",
        "ghcr.io/somebody",
    ] {
        let text = format!(r#"{{"auths": {{"{name}": {{"auth": "bWU6czNjcmV0"}}}}}}"#);
        assert_eq!(folder.here(&text, "ghcr.io"), Ok("none".into()), "{name}");
    }
}

#[test]
fn every_form_of_credentials_is_read() {
    let folder = HelperFolder::new();
    for (entry, expected) in [
        (
            r#"{"username": "me", "password": "s3cret"}"#,
            "basic bWU6czNjcmV0",
        ),
        (
            r#"{"auth": "MDAwMDo=", "identitytoken": "s3cret"}"#,
            "identity s3cret",
        ),
        ("{}", "none"),
    ] {
        let text = format!(r#"{{"auths": {{"ghcr.io": {entry}}}}}"#);
        assert_eq!(folder.here(&text, "ghcr.io"), Ok(expected.into()));
    }
    assert_eq!(folder.here("{}", "ghcr.io"), Ok("none".into()));
}

#[test]
fn the_hosts_own_helper_comes_before_the_one_for_all() {
    let folder = HelperFolder::new();
    for name in ["one", "all"] {
        let program = folder.0.path().join(format!("docker-credential-{name}"));
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let text = r#"{"credHelpers": {"ghcr.io": "one"}, "credsStore": "all",
        "auths": {"ghcr.io": {"auth": "bWU6czNjcmV0"}}}"#;
    for (host, expected) in [("ghcr.io", "one"), ("quay.io", "all")] {
        let expected = format!("helper docker-credential-{expected}");
        assert_eq!(folder.here(text, host), Ok(expected));
    }
}

#[test]
fn what_is_wrong_with_dockers_file_is_told_and_never_quoted() {
    let folder = HelperFolder::new();
    for (text, expected) in [
        ("s3cret", "is not json: correct or remove it"),
        (
            r#"{"auths": {"ghcr.io": {"auth": "s3cret"}}}"#,
            "no user:password for ghcr.io: run docker login",
        ),
        (
            r#"{"auths": {"ghcr.io": {"auth": "czNjcmV0"}}}"#,
            "no user:password for ghcr.io: run docker login",
        ),
        (
            r#"{"credHelpers": {"ghcr.io": "none-such"}}"#,
            "docker-credential-none-such, which is not in PATH: install it",
        ),
        (r#"{"credsStore": "../x"}"#, "names an invalid helper"),
    ] {
        let why = folder.here(text, "ghcr.io").unwrap_err();
        assert!(why.contains(expected) && !why.contains("s3cret"), "{why}");
    }
}
