//! A stub of an OCI registry with one artifact, `app/schema` in the repository `acme/atlas`. A test
//! chooses its answers.

use std::sync::{Arc, Mutex};

use atlasfs::store::{Location, OciLocation};
use serde_json::{Value, json};
use sha2::Digest;

use super::support::serve::{Answering, Reply, Request};

/// The artifact's content.
pub const CONTENT: &[u8] = b"the schema state";

/// A running stub of a registry.
pub struct StubRegistry {
    server: Answering,
    seen: Arc<Mutex<Vec<Received>>>,
}

/// A received request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Method and path: `GET v2/acme/atlas/tags/list`.
    pub what: String,
    /// The header of the same name.
    pub authorization: String,
    /// The body, as text.
    pub body: String,
}

impl StubRegistry {
    /// Starts a registry. `answer` comes first; `None` means the usual answer.
    pub fn start(answer: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let server = Answering::start(move |request| {
            noted.lock().unwrap().push(Received {
                what: format!("{} {}", request.method, request.path),
                authorization: authorization(request).into(),
                body: String::from_utf8_lossy(&request.body).into_owned(),
            });
            answer(request).unwrap_or_else(|| usual(request))
        });
        Self { server, seen }
    }

    pub fn host(&self) -> String {
        self.server.addr().to_string()
    }

    /// Returns the location of its repository, without credentials.
    pub fn location(&self) -> OciLocation {
        OciLocation {
            url: "oci://registry/acme/atlas".into(),
            host: self.host(),
            repository: "acme/atlas".into(),
            credentials: None,
        }
    }

    /// Returns the location of its repository, with user and password.
    pub fn location_as(&self, user: &str, password: &str) -> Location {
        Location::Oci(OciLocation {
            credentials: Some((user.into(), password.into())),
            ..self.location()
        })
    }

    /// Returns the received requests, and forgets them.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// Counts the received requests whose method and path contain a text.
    pub fn count(&self, what: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.what.contains(what)).count()
    }
}

pub fn authorization(request: &Request) -> &str {
    request.headers.get("authorization").map_or("", |v| v)
}

pub fn header(name: &str, value: impl Into<String>) -> (String, String) {
    (name.into(), value.into())
}

/// Makes a registry's refusal.
pub fn refusal(status: u16, code: &str) -> Reply {
    let body = json!({"errors": [{"code": code, "message": "told to fail"}]});
    json_reply(status, &body)
}

pub fn json_reply(status: u16, body: &Value) -> Reply {
    let kind = header("Content-Type", "application/json");
    (status, vec![kind], body.to_string().into_bytes())
}

pub fn digest(bytes: &[u8]) -> String {
    let hash = sha2::Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Returns a manifest of the artifact as a user would write it.
pub fn manifest() -> Vec<u8> {
    let layer = json!({"digest": digest(CONTENT), "size": CONTENT.len()});
    json!({"schemaVersion": 2, "layers": [layer]})
        .to_string()
        .into_bytes()
}

fn usual(request: &Request) -> Reply {
    let path = request.path.strip_prefix("v2/acme/atlas/").unwrap_or("");
    let said = |body: &[u8]| header("Docker-Content-Digest", digest(body));
    match (&*request.method, path) {
        ("GET", "tags/list") => {
            json_reply(200, &json!({"name": "acme/atlas", "tags": ["app_.schema"]}))
        }
        ("GET" | "HEAD", "manifests/app_.schema") => (200, vec![said(&manifest())], manifest()),
        ("GET" | "HEAD", path) if path.starts_with("blobs/") => {
            match path.ends_with(&digest(CONTENT)) {
                true => (200, vec![said(CONTENT)], CONTENT.to_vec()),
                false => refusal(404, "BLOB_UNKNOWN"),
            }
        }
        ("POST", "blobs/uploads/") => {
            let place = header("Location", "/v2/acme/atlas/blobs/uploads/1?state=x");
            (202, vec![place], Vec::new())
        }
        ("PUT", _) => {
            let place = header("Location", "/v2/acme/atlas/there");
            (201, vec![place, said(&request.body)], Vec::new())
        }
        ("DELETE", _) => (202, Vec::new(), Vec::new()),
        _ => refusal(404, "MANIFEST_UNKNOWN"),
    }
}
