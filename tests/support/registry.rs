//! Requests to docker-registry around the driver, and its configuration.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::Digest;

use super::http::{self, Response};

/// The registry's user.
pub const USER: &str = "tester";
/// The user's password.
pub const PASSWORD: &str = "s3cret";
/// The password's hash, for the file of users.
const HASH: &str = "$2b$04$FYUK8zTFDgRW0CH5LFtwm.WnnN3H5CyEWjM1ocUtn3b3EYN21ayBS";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Writes the registry's configuration, with its data below the same folder. `more` is empty,
/// `open` for a registry without login, `keeps` for one that refuses deletions, or the files of a
/// certificate and its key.
pub fn configure(addr: SocketAddr, data: &Path, more: &[&OsStr]) -> io::Result<PathBuf> {
    let users = data.join("users");
    std::fs::write(&users, format!("{USER}:{HASH}\n"))?;
    let auth = format!(
        "auth:\n  htpasswd:\n    realm: tests\n    path: {}\n",
        users.display()
    );
    let (auth, tls) = match more {
        [certificate, key] => (
            auth,
            format!(
                "  tls:\n    certificate: {}\n    key: {}\n",
                certificate.display(),
                key.display()
            ),
        ),
        [word] if *word == "open" => (String::new(), String::new()),
        _ => (auth, String::new()),
    };
    let deletes = !more.contains(&OsStr::new("keeps"));
    let config = data.join("config.yml");
    let text = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  \
         delete:\n    enabled: {deletes}\nhttp:\n  addr: {addr}\n{tls}{auth}",
        blobs(data).display(),
    );
    std::fs::write(&config, text)?;
    Ok(config)
}

fn blobs(data: &Path) -> PathBuf {
    data.join("blobs")
}

/// Puts artifacts with one content directly into the registry's data: the first by a request, and
/// the others as the files that the registry makes for a tag.
pub fn put_many(server: SocketAddr, data: &Path, repo: &str, keys: &[String]) {
    let (first, others) = keys.split_first().expect("a key");
    put(server, repo, first, b"x").expect("an artifact");
    let manifest = manifest(server, repo, first).expect("a manifest");
    let tags = "docker/registry/v2/repositories";
    let tags = blobs(data).join(tags).join(repo).join("_manifests/tags");
    for key in others {
        let current = tags.join(tag(key).expect("a tag")).join("current");
        std::fs::create_dir_all(&current).expect("a folder");
        std::fs::write(current.join("link"), digest(&manifest.body)).expect("a link");
    }
}

/// Puts an artifact there by hand. Concurrent uploads of one blob disturb each other in this
/// registry.
pub fn put(server: SocketAddr, repo: &str, key: &str, content: &[u8]) -> Result<(), String> {
    let mut tries = 0;
    loop {
        match put_once(server, repo, key, content) {
            Err(refusal) if refusal == "status 400" && tries < 50 => tries += 1,
            put => return put,
        }
    }
}

/// Writes an artifact as a tool like oras does: without a stamp, and with its own time.
fn put_once(server: SocketAddr, repo: &str, key: &str, content: &[u8]) -> Result<(), String> {
    let tag = tag(key)?;
    for blob in [content, b"{}"] {
        // Of several concurrent uploads of one blob, the registry refuses all but one.
        let there = format!("{repo}/blobs/{}", digest(blob));
        let is_there = || request(server, "HEAD", &there, &[], b"").status == 200;
        if is_there() {
            continue;
        }
        let begun = request(server, "POST", &format!("{repo}/blobs/uploads/"), &[], b"");
        let place = value(&begun, "location").ok_or("no place")?;
        let path = place.split_once("/v2/").ok_or("no path")?.1;
        let path = format!("{path}&digest={}", digest(blob));
        let kind = [("Content-Type", "application/octet-stream")];
        let done = request(server, "PUT", &path, &kind, blob);
        if done.status != 201 && !is_there() {
            return Err(format!("status {}", done.status));
        }
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": digest(b"{}"),
            "size": 2,
        },
        "layers": [{
            "mediaType": "text/plain",
            "digest": digest(content),
            "size": content.len(),
        }],
        "annotations": { "org.opencontainers.image.created": "2024-09-10T17:37:44Z" },
    });
    let path = format!("{repo}/manifests/{tag}");
    let kind = [("Content-Type", MANIFEST)];
    match request(server, "PUT", &path, &kind, manifest.to_string().as_bytes()).status {
        201 => Ok(()),
        status => Err(format!("status {status}")),
    }
}

/// Reads an artifact's content, if it exists.
pub fn get(server: SocketAddr, repo: &str, key: &str) -> Option<Vec<u8>> {
    let manifest = manifest(server, repo, key)?;
    let json: Value = serde_json::from_slice(&manifest.body).ok()?;
    let content = json["layers"][0]["digest"].as_str()?;
    let got = request(server, "GET", &format!("{repo}/blobs/{content}"), &[], b"");
    (got.status == 200).then_some(got.body)
}

/// Deletes an artifact.
pub fn delete(server: SocketAddr, repo: &str, key: &str) {
    let manifest = manifest(server, repo, key).expect("an artifact");
    let path = format!("{repo}/manifests/{}", digest(&manifest.body));
    assert_eq!(request(server, "DELETE", &path, &[], b"").status, 202);
}

/// Puts a lease under its tag. An artifact must exist already.
pub fn put_claim(server: SocketAddr, repo: &str, tag: &str) {
    let path = format!("{repo}/manifests/{tag}");
    let kind = [("Content-Type", MANIFEST)];
    let put = request(server, "PUT", &path, &kind, claim(tag).as_bytes());
    assert_eq!(put.status, 201);
}

/// Deletes such a lease.
pub fn delete_claim(server: SocketAddr, repo: &str, tag: &str) {
    let path = format!("{repo}/manifests/{}", digest(claim(tag).as_bytes()));
    assert_eq!(request(server, "DELETE", &path, &[], b"").status, 202);
}

fn claim(tag: &str) -> String {
    let empty = json!({
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": digest(b"{}"),
        "size": 2,
    });
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.atlasfs.claim.v1",
        "config": empty,
        "layers": [empty],
        "annotations": { "atlas-claim": tag },
    })
    .to_string()
}

/// Lists all tags, including those of no artifact.
pub fn tags(server: SocketAddr, repo: &str) -> Vec<String> {
    let got = request(server, "GET", &format!("{repo}/tags/list"), &[], b"");
    let json: Value = serde_json::from_slice(&got.body).expect("a list of tags");
    let tags = json["tags"].as_array().into_iter().flatten();
    tags.map(|tag| tag.as_str().expect("a tag").to_owned())
        .collect()
}

fn manifest(server: SocketAddr, repo: &str, key: &str) -> Option<Response> {
    let path = format!("{repo}/manifests/{}", tag(key).ok()?);
    let got = request(server, "GET", &path, &[("Accept", MANIFEST)], b"");
    (got.status == 200).then_some(got)
}

/// Returns the documented tag of a key.
fn tag(key: &str) -> Result<String, String> {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    match key.chars().all(known) {
        true => Ok(key.replace('_', "__").replace('/', "_.")),
        false => Err("no tag has such a character".into()),
    }
}

pub fn digest(bytes: &[u8]) -> String {
    let hash = sha2::Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn value<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    let lines = response
        .head
        .lines()
        .filter_map(|line| line.split_once(':'));
    let mut found = lines.filter(|(other, _)| other.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.trim())
}

/// Sends a request for a path below `/v2/`, as the registry's user.
pub fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let headers = [&[("Authorization", &*basic)], headers].concat();
    http::request(server, method, &format!("/v2/{path}"), &headers, body).expect("a reply")
}
