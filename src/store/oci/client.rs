//! What is asked of an OCI registry, by the distribution specification.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use object_store::Error as StoreError;
use object_store::client::{HttpClient, HttpRequest, HttpResponse};
use tokio::time::Instant;
use url::Url;

use super::auth::{Auth, Right};
use super::error::{error, header, succeeded, told};
use super::manifest::{MANIFEST, digest};
use crate::store::Kind;

/// A longer manifest is none of an artifact's.
pub(super) const MANIFEST_BYTES: u64 = 1 << 20;
/// Registries send readers on to where the blobs are; more often than this is a circle.
const REDIRECTS: usize = 3;

/// The header that says what a manifest's digest is.
const DIGEST: &str = "docker-content-digest";

/// What a registry means by a 405.
pub(super) const NO_DELETIONS: &str =
    "405: this registry lets nobody delete (docker-registry does with storage.delete.enabled)";

/// As long as object_store waits before it tries again.
const PAUSE: Duration = Duration::from_millis(50);
/// docker-registry answers with a 400 to all but one who upload the same blob at once, and every
/// artifact has the same configuration. Then it is there.
const UPLOAD_PAUSES: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];

/// Asks a registry about one repository.
pub(super) struct Client {
    http: HttpClient,
    /// `https://host/v2/repository/`.
    pub(super) base: Url,
    pub(super) auth: Auth,
    /// Held while a blob is uploaded that every artifact has.
    common: tokio::sync::Mutex<()>,
    /// What time the registry said last that it is, and when it was asked.
    clock: Mutex<Option<(Instant, u64)>>,
}

/// What became of a manifest that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    /// It was there.
    Now,
    /// It was not there.
    Before,
}

/// What lies under a tag.
pub(super) struct Tagged {
    pub(super) digest: String,
    pub(super) document: Bytes,
}

impl Client {
    /// Makes a client of a repository at `https://host/v2/repository/`.
    pub(super) fn new(http: HttpClient, base: Url, auth: Auth) -> Self {
        Self {
            http,
            base,
            auth,
            common: tokio::sync::Mutex::default(),
            clock: Mutex::default(),
        }
    }

    pub(super) fn at(&self, path: &str) -> Result<Url, StoreError> {
        self.base.join(path).map_err(|_| error("no such url"))
    }

    pub(super) async fn send(
        &self,
        method: &str,
        url: &Url,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<HttpResponse, StoreError> {
        let bad = |_| error("a header can't be sent");
        let mut request = HttpRequest::new(body.into());
        *request.method_mut() = method.parse().map_err(|_| error("no such method"))?;
        *request.uri_mut() = url.as_str().parse().map_err(|_| error("no such url"))?;
        for (name, value) in headers {
            let value = value.parse().map_err(bad)?;
            request.headers_mut().insert(*name, value);
        }
        let sent = self.http.execute(request).await;
        sent.map_err(|source| StoreError::Generic {
            store: "oci",
            source: Box::new(source),
        })
    }

    /// Follows a reference that the registry gives. One to itself keeps TLS, of which a registry
    /// behind a front need not know.
    fn follow(&self, from: &Url, to: &str) -> Option<Url> {
        let mut url = from.join(to).ok()?;
        if self.base.scheme() == "https" && url.authority() == self.base.authority() {
            url.set_scheme("https").ok()?;
        }
        Some(url)
    }

    /// Tells whether a URL is the registry's own, and not of one that it has sent us to.
    fn is_own(&self, url: &Url) -> bool {
        url.authority() == self.base.authority() && url.scheme() == self.base.scheme()
    }

    /// Sends a request as who one is: once more after a bad moment, and once more with a token.
    pub(super) async fn ask(
        &self,
        method: &str,
        url: &Url,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<HttpResponse, StoreError> {
        // What is uploaded in a session can be uploaded once. A manifest that has got lost may come
        // late, over what somebody else has written by then.
        let puts = method == "PUT";
        let mut again = !puts || !url.path().contains("/blobs/uploads/");
        let right = Right::to(method);
        let own = self.is_own(url);
        // What somebody else has logged in with may not open this: then it is our turn.
        let mut logins = if own { 2 } else { 0 };
        let mut authorization = self.auth.header(right);
        loop {
            let mut all = headers.to_vec();
            // The registry's, and nobody else's.
            if let Some(authorization) = authorization.as_deref().filter(|_| own) {
                all.push(("authorization", authorization));
            }
            let asked = Instant::now();
            let reply = self.send(method, url, &all, body.clone()).await;
            if let Some(now) = reply.as_ref().ok().filter(|_| own).and_then(time_of) {
                *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, now));
            }
            let bad = match reply {
                Ok(response) => match response.status().as_u16() {
                    401 if logins > 0 => {
                        match self
                            .log_in(right, &response, authorization.as_deref())
                            .await?
                        {
                            Some((header, new)) => {
                                authorization = Some(header);
                                logins = if new { 0 } else { logins - 1 };
                                false
                            }
                            None => return Ok(response),
                        }
                    }
                    429 | 500 | 503 if again => true,
                    501..=599 if again && !puts => true,
                    _ => return Ok(response),
                },
                Err(_) if again && !puts => true,
                Err(error) => return Err(error),
            };
            if bad {
                again = false;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Returns what time it was by the registry's own clock, in seconds since 1970, at its last
    /// reply, and when that was asked for; `None` if it has not said.
    pub(super) fn clock(&self) -> Option<(Instant, u64)> {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether http is spoken, without TLS.
    pub(super) fn speaks_http(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// Says what to do when one is not let in.
    pub(super) fn hint(&self) -> String {
        self.auth.hint()
    }

    /// Reads what lies under a tag; `None` if nothing does.
    pub(super) async fn tagged(&self, tag: &str) -> Result<Option<Tagged>, StoreError> {
        let url = self.at(&format!("manifests/{tag}"))?;
        let response = self.ask("GET", &url, &[("accept", MANIFEST)], Bytes::new());
        let response = response.await?;
        if response.status().as_u16() == 404 {
            return Ok(None);
        }
        let response = succeeded(response)?;
        let said = header(&response, DIGEST).map(str::to_owned);
        let document = body(response, MANIFEST_BYTES).await?;
        let digest = digest(&document);
        match said {
            Some(said) if said.starts_with("sha256:") && said != digest => {
                let why = "its manifest is not the one that the registry says it is";
                Err(told(Kind::Corrupt, why))
            }
            _ => Ok(Some(Tagged { digest, document })),
        }
    }

    /// Asks for the digest of what lies under a tag; `None` if nothing does or the registry doesn't
    /// say. Hubs that count how often one pulls don't count this.
    pub(super) async fn digest_of(&self, tag: &str) -> Result<Option<String>, StoreError> {
        let url = self.at(&format!("manifests/{tag}"))?;
        let response = self.ask("HEAD", &url, &[("accept", MANIFEST)], Bytes::new());
        let response = response.await?;
        if response.status().as_u16() == 404 {
            return Ok(None);
        }
        let response = succeeded(response)?;
        Ok(header(&response, DIGEST).map(str::to_owned))
    }

    /// Uploads a blob, unless it is there.
    pub(super) async fn upload(&self, content: &Bytes) -> Result<(), StoreError> {
        let mut lost = false;
        for pause in UPLOAD_PAUSES {
            match self.upload_once(content).await {
                Ok(None) => return Ok(()),
                Ok(Some(done)) if done.status().as_u16() != 400 => {
                    return succeeded(done).map(drop);
                }
                Ok(Some(_)) => {}
                // Only the reply may be lost: then it is there.
                Err(_) if !lost => lost = true,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause).await;
        }
        match self.upload_once(content).await? {
            None => Ok(()),
            Some(done) => succeeded(done).map(drop),
        }
    }

    /// Uploads a blob that every artifact has, one after the other.
    pub(super) async fn upload_common(&self, content: &Bytes) -> Result<(), StoreError> {
        let _one = self.common.lock().await;
        self.upload(content).await
    }

    /// Uploads a blob and returns the reply; `None` if it is there.
    async fn upload_once(&self, content: &Bytes) -> Result<Option<HttpResponse>, StoreError> {
        let digest = digest(content);
        let there = self.at(&format!("blobs/{digest}"))?;
        let there = self.ask("HEAD", &there, &[], Bytes::new()).await?;
        match there.status().as_u16() {
            // Readers are sent on to what is there.
            200..=399 => return Ok(None),
            429 | 500..=599 => return Ok(Some(there)),
            _ => {}
        }
        let begin = self.at("blobs/uploads/")?;
        let begun = self.ask("POST", &begin, &[], Bytes::new()).await?;
        if !begun.status().is_success() {
            return Ok(Some(begun));
        }
        let place = header(&begun, "location").and_then(|place| self.follow(&begin, place));
        let mut place = place.ok_or_else(|| error("no place to upload to"))?;
        place.query_pairs_mut().append_pair("digest", &digest);
        let headers = [("content-type", "application/octet-stream")];
        self.ask("PUT", &place, &headers, content.clone())
            .await
            .map(Some)
    }

    /// Reads a blob, or as much of it as shows that it is longer than it should be.
    pub(super) async fn download(&self, digest: &str, limit: u64) -> Result<Bytes, StoreError> {
        let mut url = self.at(&format!("blobs/{digest}"))?;
        for _ in 0..=REDIRECTS {
            let response = self.ask("GET", &url, &[], Bytes::new()).await?;
            let status = response.status().as_u16();
            if matches!(status, 301 | 302 | 303 | 307 | 308) {
                let next = header(&response, "location").and_then(|next| self.follow(&url, next));
                // Never from https to http.
                let next = next.filter(|n| n.scheme() == "https" || n.scheme() == url.scheme());
                let nowhere = "the registry sends readers on to where no content can be";
                url = next.ok_or_else(|| told(Kind::Unreachable, nowhere))?;
                continue;
            }
            if !response.status().is_success() && !self.is_own(&url) {
                // The registry has not denied anything: its own storage has.
                let host = url.host_str().unwrap_or_default();
                let why = format!("{status} from {host}, where the registry sends readers on to");
                let kind = match status {
                    404 | 410 => Kind::Corrupt,
                    408 | 429 | 500..=599 => Kind::Busy,
                    _ => Kind::Unreachable,
                };
                return Err(told(kind, why));
            }
            return body(succeeded(response)?, limit).await;
        }
        let why = "the registry sends readers round in circles";
        Err(told(Kind::Unreachable, why))
    }

    /// Puts a manifest under a tag.
    pub(super) async fn tag(&self, tag: &str, manifest: String) -> Result<(), StoreError> {
        let url = self.at(&format!("manifests/{tag}"))?;
        let headers = [("content-type", MANIFEST)];
        let body = Bytes::from(manifest);
        let put = succeeded(self.ask("PUT", &url, &headers, body).await?)?;
        match header(&put, "location").or(header(&put, DIGEST)) {
            Some(_) => Ok(()),
            // A portal or proxy that answers 200 to everything.
            None => Err(error("the answer is not a registry's")),
        }
    }

    /// Deletes a manifest, and with it the tags that are on it.
    pub(super) async fn remove(&self, digest: &str) -> Result<Removed, StoreError> {
        let url = self.at(&format!("manifests/{digest}"))?;
        let deleted = self.ask("DELETE", &url, &[], Bytes::new()).await?;
        match deleted.status().as_u16() {
            404 => Ok(Removed::Before),
            405 => Err(told(Kind::Denied, NO_DELETIONS)),
            _ => succeeded(deleted).map(|_| Removed::Now),
        }
    }

    /// Tries whether anybody may delete, with a manifest that nobody has.
    pub(super) async fn try_removal(&self) -> Result<bool, StoreError> {
        let url = self.at(&format!("manifests/{}", digest(b"nothing")))?;
        let deleted = self.ask("DELETE", &url, &[], Bytes::new()).await?;
        match deleted.status().as_u16() {
            404 => Ok(true),
            405 => Ok(false),
            _ => succeeded(deleted).map(|_| true),
        }
    }
}

/// Returns what time a reply says that it is, in seconds since 1970.
fn time_of(response: &HttpResponse) -> Option<u64> {
    let time = chrono::DateTime::parse_from_rfc2822(header(response, "date")?).ok()?;
    u64::try_from(time.timestamp()).ok()
}

/// Reads a body of at most so many bytes; one more says that there are more.
pub(super) async fn body(response: HttpResponse, limit: u64) -> Result<Bytes, StoreError> {
    let mut stream = response.into_body().bytes_stream();
    let mut read = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|source| StoreError::Generic {
            store: "oci",
            source: Box::new(source),
        })?;
        read.extend_from_slice(&chunk);
        if read.len() as u64 > limit {
            break;
        }
    }
    Ok(read.into())
}
