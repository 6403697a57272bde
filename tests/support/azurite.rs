//! Requests to azurite around the driver, signed with its key.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpRequest, HttpRequestBody};

use super::http::{self, Response};

/// The account of azurite.
pub const ACCOUNT: &str = "devstoreaccount1";
/// The account's key, which is public and the same everywhere.
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Makes a container.
pub fn create(server: SocketAddr, container: &str) {
    let made = request(
        server,
        "PUT",
        &format!("{container}?restype=container"),
        b"",
    );
    assert_eq!(made.status, 201);
}

/// Writes a blob without metadata.
pub fn put(server: SocketAddr, container: &str, key: &str, content: &[u8]) -> Result<(), String> {
    if key.contains(char::is_control) {
        // azurite accepts such a name, and then answers every listing with a 500.
        return Err("azurite can't list it".into());
    }
    let path = format!("{container}/{}", http::encode(key));
    match request(server, "PUT", &path, content).status {
        201 => Ok(()),
        status => Err(format!("status {status}")),
    }
}

/// Reads a blob, if it exists.
pub fn get(server: SocketAddr, container: &str, key: &str) -> Option<Vec<u8>> {
    let path = format!("{container}/{}", http::encode(key));
    let got = request(server, "GET", &path, b"");
    (got.status == 200).then_some(got.body)
}

/// Deletes a blob.
pub fn delete(server: SocketAddr, container: &str, key: &str) {
    let path = format!("{container}/{}", http::encode(key));
    assert_eq!(request(server, "DELETE", &path, b"").status, 202);
}

/// Signs access to a container: permissions as in `rl`, and the end time.
pub fn sas(container: &str, permissions: &str, end: &str) -> String {
    let version = "2020-12-06";
    // The fields in the order of Azure's documentation; missing ones are empty.
    let resource = format!("/blob/{ACCOUNT}/{container}");
    let signed = [
        permissions,
        "",
        end,
        &resource,
        "",
        "",
        "",
        version,
        "c",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
    ]
    .join("\n");
    let key = STANDARD.decode(KEY).expect("base64");
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-mac", "HMAC", "-binary", "-macopt"])
        .arg(format!("hexkey:{key}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl: run scripts/test, which installs it");
    let mut input = openssl.stdin.take().expect("a pipe");
    input.write_all(signed.as_bytes()).expect("a pipe");
    drop(input);
    let signature = openssl.wait_with_output().expect("a signature").stdout;
    let signature = STANDARD.encode(signature);
    let pairs = [
        ("sv", version),
        ("sr", "c"),
        ("sp", permissions),
        ("se", end),
        ("sig", &signature),
    ];
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs).finish()
}

/// Sends a signed request for a path below the account.
pub fn request(server: SocketAddr, method: &str, path: &str, body: &[u8]) -> Response {
    let path = format!("/{ACCOUNT}/{path}");
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = method.parse().expect("a method");
    *request.uri_mut() = format!("http://{server}{path}").parse().expect("a url");
    let headers = request.headers_mut();
    if method == "PUT" && !path.contains('?') {
        headers.insert("x-ms-blob-type", "BlockBlob".parse().expect("a value"));
    }
    if !body.is_empty() {
        headers.insert("content-length", body.len().into());
    }
    let key = AzureAccessKey::try_new(KEY).expect("a key");
    AzureAuthorizer::new(&AzureCredential::AccessKey(key), ACCOUNT)
        .try_authorize(&mut request)
        .expect("a signature");
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .filter(|(name, _)| *name != "content-length")
        .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
        .collect();
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
    http::request(server, method, &path, &headers, body).expect("a reply")
}
