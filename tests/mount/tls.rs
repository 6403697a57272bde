//! TLS to every provider's store, with an authority from the environment, and with every fault of a
//! certificate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::home::Home;
use super::program::{bash, run};
use super::store::schema;
use super::support::behind::keys;
use super::support::registry;
use super::support::server::{Kind, Server};
use super::support::service::{How, Service};
use super::support::tls::{Certificates, Front};

/// The stores of all providers, each on its own server, and the prefix of their objects.
struct Site {
    home: Home,
    certificates: Certificates,
    servers: Vec<(Kind, Arc<Server>, String)>,
}

const KINDS: [Kind; 4] = [Kind::Moto, Kind::Azurite, Kind::Gcs, Kind::Registry];

impl Site {
    fn new() -> Self {
        let made = KINDS.map(|kind| {
            let server = Server::shared(kind);
            let bucket = server.bucket();
            (kind, server, bucket)
        });
        Self {
            home: Home::new(),
            certificates: Certificates::new(),
            servers: made.into(),
        }
    }

    /// Returns the flags for the stores, each with a port of `localhost`.
    fn flags(&self, scheme: &str, ports: &[u16]) -> Vec<String> {
        let urls = self
            .servers
            .iter()
            .zip(ports)
            .map(|((kind, _, bucket), port)| match kind {
                Kind::Azurite => {
                    format!("azblob://{bucket}/pre?domain=localhost:{port}&protocol={scheme}")
                }
                Kind::Gcs => format!("gs://{bucket}/pre"),
                // The driver uses no TLS for loopback addresses.
                Kind::Registry => format!("oci://registry.example:{port}/{bucket}"),
                _ => format!(
                    "s3://{bucket}/pre?region=us-east-1&use_path_style=true&\
                 endpoint={scheme}://localhost:{port}"
                ),
            });
        let names = std::iter::once("--registry").chain(std::iter::repeat("--backup"));
        names
            .zip(urls)
            .flat_map(|(name, url)| [name.into(), url])
            .collect()
    }

    fn set(&self, command: &mut Command, scheme: &str, ports: &[u16], authority: PathBuf) {
        let host = format!("registry.example:{}", ports[3]);
        let auth = STANDARD.encode(format!("{}:{}", registry::USER, registry::PASSWORD));
        let logins = serde_json::json!({"auths": {host: {"auth": auth}}});
        self.home.file(".docker/config.json", logins.to_string());
        command
            .envs(keys(Kind::Gcs))
            .env(
                "STORAGE_EMULATOR_HOST",
                format!("{scheme}://localhost:{}", ports[2]),
            )
            .env("SSL_CERT_FILE", authority);
    }

    /// Runs `check` with `registry.example` as a name of this machine; returns the result of each
    /// store.
    fn check(&self, scheme: &str, ports: &[u16], authority: PathBuf) -> Vec<Value> {
        self.home
            .file("hosts", "127.0.0.1 localhost registry.example\n");
        let script = r#"mount --bind hosts /etc/hosts; exec "$@""#;
        let program = super::home::ATLASFS.to_owned();
        let check = ["check", "--write", "--json", "--timeout", "10s"].map(String::from);
        let args = [vec![program], check.into(), self.flags(scheme, ports)].concat();
        let inner = bash(script, args);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--"]);
        command.arg(inner.get_program()).args(inner.get_args());
        self.home.enter(&mut command);
        self.set(&mut command, scheme, ports, authority);
        let ran = run(&mut command);
        let report: Value =
            serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"));
        report["targets"].as_array().unwrap().clone()
    }

    fn fronts(&self, certificate: &str) -> Vec<Front> {
        let [certificate, key] = [certificate, "key.pem"].map(|name| self.certificates.path(name));
        let servers = self.servers.iter().map(|(_, server, _)| server.addr());
        servers
            .map(|addr: SocketAddr| Front::start(addr, &certificate, &key))
            .collect()
    }
}

fn ports(fronts: &[Front]) -> Vec<u16> {
    fronts.iter().map(Front::port).collect()
}

#[test]
fn a_bad_certificate_is_explained_for_every_provider() {
    let site = Site::new();
    let good = site.fronts("cert.pem");
    let ca = || site.certificates.path("ca.pem");
    for (found, kind) in site.check("https", &ports(&good), ca()).iter().zip(KINDS) {
        assert_eq!(found["reachable"], true, "{found:#}");
        // docker-registry doesn't know of the TLS before it, and its upload URLs use http.
        assert_eq!(found["writable"], true, "{kind:?}: {found:#}");
    }
    let unknown = "its certificate has no issuer that this machine trusts (add the authority to \
                   the system's certificates (update-ca-certificates), or name its file with \
                   SSL_CERT_FILE";
    for (certificate, authority, says) in [
        ("cert.pem", "other.pem", unknown),
        (
            "elsewhere.pem",
            "ca.pem",
            "its certificate is for another host (correct the host",
        ),
        (
            "over.pem",
            "ca.pem",
            "its certificate has expired (renew it",
        ),
        (
            "early.pem",
            "ca.pem",
            "its certificate is not valid yet (is this machine's clock",
        ),
    ] {
        let fronts = site.fronts(certificate);
        let authority = site.certificates.path(authority);
        let found = site.check("https", &ports(&fronts), authority);
        assert_eq!(found.len(), KINDS.len());
        for found in found {
            let error = found["error"].as_str().unwrap_or_default();
            assert!(error.contains(says), "{certificate}: {found:#}");
            assert_eq!(found["reachable"], false, "{found:#}");
        }
    }
    // https to a port for http, and http to one for https. The driver always uses https for an OCI
    // registry.
    let plain: Vec<u16> = site
        .servers
        .iter()
        .map(|(_, server, _)| server.addr().port())
        .collect();
    for found in site.check("https", &plain, ca()) {
        let error = found["error"].as_str().unwrap_or_default();
        assert!(
            // An OCI registry outside loopback never uses http, so its message doesn't suggest
            // http.
            error.contains("is http meant, or another port?")
                || (error.contains("oci://") && error.contains("it does not speak https")),
            "{found:#}"
        );
    }
    for found in site.check("http", &ports(&good), ca()).iter().take(3) {
        let error = found["error"].as_str().unwrap_or_default();
        assert!(
            error.contains("is https meant, or another port?"),
            "{found:#}"
        );
    }
}

#[test]
fn a_mount_pushes_and_pulls_over_tls_with_an_authority_of_ones_own() {
    let mut site = Site::new();
    site.servers.truncate(3);
    let fronts = site.fronts("cert.pem");
    let ports = [ports(&fronts), vec![0]].concat();
    let mut command = site.home.mounting("mnt", site.flags("https", &ports));
    site.set(
        &mut command,
        "https",
        &ports,
        site.certificates.path("ca.pem"),
    );
    let (mounted, ran) = site.home.mount_by("mnt", &mut command);
    assert_eq!(ran.stderr, "");
    std::fs::create_dir(mounted.path("app")).unwrap();
    let content = schema(&"over TLS ".repeat(10_000));
    mounted.cp("app/schema", &content).ok();
    for (kind, server, bucket) in &site.servers {
        let held = server.read(bucket, "pre/app/schema");
        assert_eq!(held.as_deref(), Some(content.as_bytes()), "{kind:?}");
    }
    mounted.unmount();
    drop(fronts);
}

#[test]
fn azurites_own_tls_works_and_a_file_without_certificates_is_reported() {
    let home = Home::new();
    let certificates = Certificates::new();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| certificates.path(name));
    let server = Server::with_tls(&certificate, &key);
    let port = server.addr().port();
    let url =
        |protocol: &str| format!("azblob://backup?domain=localhost:{port}&protocol={protocol}");
    let check = |protocol: &str, authority: PathBuf| {
        let mut command = home.atlasfs(["check", "--registry", &url(protocol)]);
        run(command.env("SSL_CERT_FILE", authority))
    };
    // The missing container proves that the store answered.
    let ran = check("https", certificates.path("ca.pem"));
    assert!(ran.text().contains("404 ContainerNotFound"), "{ran}");
    let ran = check("https", certificates.path("other.pem"));
    assert!(
        ran.text().contains("no issuer that this machine trusts"),
        "{ran}"
    );
    let ran = check("http", certificates.path("ca.pem"));
    assert!(
        ran.text().contains("is https meant, or another port?"),
        "{ran}"
    );
    let ran = check("https", home.file("nothing.pem", ""));
    let says = "install ca-certificates, or name a file of certificates with SSL_CERT_FILE";
    assert!(ran.text().contains(says), "{ran}");
    let mut command = home.mounting("none", ["--registry", &*url("https")]);
    command.env("SSL_CERT_FILE", home.path("nothing.pem"));
    run(&mut command).fails(1, says);
}

/// Makes a token like Entra's, without a valid signature.
fn entra_token(audience: &str, lasts: i64) -> String {
    let now = chrono::Utc::now().timestamp();
    let claims = serde_json::json!({
        "aud": audience, "iss": "https://sts.windows.net/the-tenant/",
        "iat": now - 60, "nbf": now - 60, "exp": now + lasts,
    });
    let parts = [
        r#"{"typ":"JWT","alg":"RS256"}"#.into(),
        claims.to_string(),
        "s3cret".into(),
    ];
    parts
        .map(|part: String| URL_SAFE_NO_PAD.encode(part))
        .join(".")
}

/// Makes a container over TLS, with a token.
fn make_container(port: u16, authority: &std::path::Path, token: &str) {
    let pem = std::fs::read(authority).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_merge([reqwest::Certificate::from_pem(&pem).unwrap()])
        .build()
        .unwrap();
    let url = format!("https://localhost:{port}/devstoreaccount1/backup?restype=container");
    let made = client
        .put(url)
        .bearer_auth(token)
        .header("x-ms-version", "2023-11-03")
        .header("content-length", "0");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let status = runtime.block_on(async { made.send().await.unwrap().status() });
    assert_eq!(status, 201);
}

#[test]
fn azurite_takes_the_tokens_of_a_principal_over_tls_and_refuses_bad_ones() {
    let home = Home::new();
    let certificates = Certificates::new();
    let [certificate, key, ca] =
        ["cert.pem", "key.pem", "ca.pem"].map(|name| certificates.path(name));
    let server = Server::with_tls(&certificate, &key);
    let port = server.addr().port();
    let storage = "https://storage.azure.com";
    make_container(port, &ca, &entra_token(storage, 600));
    let service = Service::start();
    let url = format!("azblob://backup?domain=localhost:{port}&protocol=https");
    for (token, code) in [
        (entra_token(storage, 600), 0),
        (entra_token("https://vault.azure.net", 600), 1),
        (entra_token(storage, -1), 1),
        ("s3cret-nonsense".into(), 1),
    ] {
        service.set(How::Token(token.clone()));
        let mut command = home.atlasfs(["check", "--write", "--registry", &url]);
        command
            .env("SSL_CERT_FILE", &ca)
            .env_remove("AZURE_STORAGE_KEY")
            .env("AZURE_TENANT_ID", "the-tenant")
            .env("AZURE_CLIENT_ID", "the-client")
            .env("AZURE_CLIENT_SECRET", "s3cret")
            .env("AZURE_AUTHORITY_HOST", service.url(""));
        let ran = run(&mut command);
        assert_eq!(ran.code, Some(code), "{ran}");
        assert!(code == 0 || ran.text().contains(": 40"), "{ran}");
        assert!(!ran.text().contains(&token), "{ran}");
    }
}
