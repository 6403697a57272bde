//! Mistakes with OCI registries: `check` and the mount print one line with the remedy.

use serde_json::json;

use super::home::Home;
use super::mounted::Mounted;
use super::program::run;
use super::support::registry::PASSWORD;
use super::support::serve::Answering;
use super::support::server::{Kind, Server};

/// Asserts that `check` and the mount report the fault of a registry, each in one line.
#[track_caller]
fn both_say(home: &Home, url: &str, expected: &str) {
    let flags = ["--registry", url];
    let checked = run(home.atlasfs(["check"]).args(flags));
    assert_ne!(checked.code, Some(0), "{url}: {checked}");
    let mut mounting = home.mounting("mnt", flags);
    let mounted = run(&mut mounting);
    if mounted.code == Some(0) {
        Mounted::at(home.clone(), &home.path("mnt")).unmount();
    }
    for ran in [checked, mounted] {
        let said = format!("{}{}", ran.text(), ran.stderr);
        let told = said.lines().any(|line| line.contains(expected));
        assert!(told, "{url}: {expected} is not in {said}");
        assert!(!said.contains(PASSWORD), "{url}: {said}");
    }
}

#[test]
fn a_mistake_in_a_url_is_reported() {
    let home = Home::new();
    for (path, expected) in [
        ("", "it names no repository"),
        ("/", "it names no repository"),
        ("/Acme/atlas", "must have lower-case letters only"),
        ("/acme/atlas:latest", "it must not have a tag or digest"),
        // Text before an `@` may be a token, so the command line must not show it.
        ("/acme/atlas@sha256:0011", "credentials never come from"),
    ] {
        both_say(&home, &format!("oci://127.0.0.1:9{path}"), expected);
    }
    // A slash at the end is allowed, and has no effect.
    let server = Server::open_registry();
    let url = format!("oci://{}/acme/atlas/", server.addr());
    run(&mut home.atlasfs(["check", "--registry", &url])).ok();
    home.mount("mnt", ["--registry", &url]).unmount();
}

#[test]
fn a_mistake_in_the_credentials_is_reported() {
    let home = Home::new();
    let server = Server::shared(Kind::Registry);
    let url = format!("oci://{}/acme/atlas", server.addr());
    both_say(&home, &url, "requires credentials: run docker login");
    let auth = json!({"auth": "dGVzdGVyOndyb25n"});
    let logins = json!({"auths": {server.addr().to_string(): auth}});
    home.file(".docker/config.json", logins.to_string());
    both_say(&home, &url, "is wrong or expired: run docker login");
    home.file(".docker/config.json", format!("auths = {PASSWORD}"));
    both_say(&home, &url, "is not json: correct or remove it");
    home.file(
        ".docker/config.json",
        json!({"credsStore": "none-such"}).to_string(),
    );
    both_say(
        &home,
        &url,
        "docker-credential-none-such, which is not in PATH",
    );
}

#[test]
fn a_host_that_is_no_registry_is_reported() {
    let home = Home::new();
    for (status, body) in [
        (200, "<html>hello</html>"),
        (404, "<html>no such page</html>"),
    ] {
        let portal = Answering::start(move |_| {
            let kind = ("Content-Type".to_owned(), "text/html".to_owned());
            (status, vec![kind], body.as_bytes().to_vec())
        });
        let url = format!("oci://{}/acme/atlas", portal.addr());
        both_say(&home, &url, "correct the host");
    }
}

#[test]
fn http_instead_of_https_is_reported_and_the_reverse() {
    let home = Home::new();
    let plain = Server::shared(Kind::Registry);
    // The same address in a form for which the driver doesn't use http.
    let url = format!(
        "oci://[::ffff:127.0.0.1]:{}/acme/atlas",
        plain.addr().port()
    );
    both_say(&home, &url, "it does not speak https");
    let files = ["cert.pem", "key.pem"].map(|name| home.path(name));
    let mut openssl = std::process::Command::new("openssl");
    openssl
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=localhost", "-out"])
        .arg(&files[0])
        .arg("-keyout")
        .arg(&files[1]);
    run(&mut openssl).ok();
    let tls = Server::registry_with_tls(&files[0], &files[1]);
    let url = format!("oci://{}/acme/atlas", tls.addr());
    both_say(&home, &url, "does it want https?");
}
