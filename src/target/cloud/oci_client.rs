//! What is asked of an OCI registry, by the distribution specification.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use object_store::Error as StoreError;
use object_store::client::{HttpClient, HttpRequest, HttpResponse};
use serde_json::Value;
use url::Url;

use super::oci_auth::{Auth, Challenge};
use super::oci_manifest::{MANIFEST, digest};

/// As many tags are asked for at once; a registry may give fewer.
const PAGE: &str = "1000";
/// A longer manifest is none of an artifact's.
const MANIFEST_BYTES: u64 = 1 << 20;
/// A longer page of tags is none.
const TAGS_BYTES: u64 = 16 << 20;
/// Registries send readers on to where the blobs are; more often than this is a circle.
const REDIRECTS: usize = 3;

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
    base: Url,
    auth: Auth,
    /// Held while a blob is uploaded that every artifact has.
    common: tokio::sync::Mutex<()>,
}

/// What lies under a tag.
pub(super) struct Tagged {
    pub(super) digest: String,
    pub(super) document: Bytes,
}

fn error(why: &str) -> StoreError {
    StoreError::Generic {
        store: "oci",
        source: why.into(),
    }
}

fn header<'r>(response: &'r HttpResponse, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

impl Client {
    /// Makes a client of a repository at `https://host/v2/repository/`.
    pub(super) fn new(http: HttpClient, base: Url, auth: Auth) -> Self {
        Self {
            http,
            base,
            auth,
            common: tokio::sync::Mutex::default(),
        }
    }

    fn at(&self, path: &str) -> Result<Url, StoreError> {
        self.base.join(path).map_err(|_| error("no such url"))
    }

    async fn send(
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

    /// Sends a request as who one is: once more after a bad moment, and once more with a token.
    async fn ask(
        &self,
        method: &str,
        url: &Url,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<HttpResponse, StoreError> {
        // What is uploaded in a session can be uploaded once.
        let mut again = method != "PUT" || !url.path().contains("/blobs/uploads/");
        let (mut challenged, mut bad) = (false, false);
        let mut authorization = self.auth.header();
        loop {
            let mut all = headers.to_vec();
            // The registry's, and nobody else's.
            if let Some(authorization) = authorization.as_deref()
                && url.authority() == self.base.authority()
                && url.scheme() == self.base.scheme()
            {
                all.push(("authorization", authorization));
            }
            match self.send(method, url, &all, body.clone()).await {
                Ok(response) => match response.status().as_u16() {
                    401 if !challenged => {
                        challenged = true;
                        match self.log_in(&response).await? {
                            Some(header) => authorization = Some(header),
                            None => return Ok(response),
                        }
                    }
                    429 | 500..=599 if again => (again, bad) = (false, true),
                    _ => return Ok(response),
                },
                Err(_) if again => (again, bad) = (false, true),
                Err(error) => return Err(error),
            }
            if std::mem::take(&mut bad) {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Answers a registry's demand; `None` if there is nothing to answer it with.
    async fn log_in(&self, response: &HttpResponse) -> Result<Option<Arc<str>>, StoreError> {
        let challenge = header(response, "www-authenticate");
        match challenge.and_then(|text| Challenge::read(text, &self.base)) {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(self.auth.answer_basic()),
            Some(Challenge::Bearer(realm)) => {
                let basic = self.auth.basic();
                let headers: Vec<_> = basic.iter().map(|b| ("authorization", &**b)).collect();
                let response = self.send("GET", &realm, &headers, Bytes::new()).await?;
                let document = body(succeeded(response)?, MANIFEST_BYTES).await?;
                let header = self.auth.answer_bearer(&document);
                header
                    .map(Some)
                    .ok_or_else(|| error("the answer has no token"))
            }
        }
    }

    /// Reads what lies under a tag; `None` if nothing does.
    pub(super) async fn tagged(&self, tag: &str) -> Result<Option<Tagged>, StoreError> {
        let url = self.at(&format!("manifests/{tag}"))?;
        let response = self.ask("GET", &url, &[("accept", MANIFEST)], Bytes::new());
        let response = response.await?;
        if response.status().as_u16() == 404 {
            return Ok(None);
        }
        let document = body(succeeded(response)?, MANIFEST_BYTES).await?;
        Ok(Some(Tagged {
            digest: digest(&document),
            document,
        }))
    }

    /// Uploads a blob, unless it is there.
    pub(super) async fn upload(&self, content: &Bytes) -> Result<(), StoreError> {
        for pause in UPLOAD_PAUSES {
            let uploaded = self.upload_once(content).await?;
            if uploaded.status().as_u16() != 400 {
                return succeeded(uploaded).map(drop);
            }
            tokio::time::sleep(pause).await;
        }
        succeeded(self.upload_once(content).await?).map(drop)
    }

    /// Uploads a blob that every artifact has, one after the other.
    pub(super) async fn upload_common(&self, content: &Bytes) -> Result<(), StoreError> {
        let _one = self.common.lock().await;
        self.upload(content).await
    }

    async fn upload_once(&self, content: &Bytes) -> Result<HttpResponse, StoreError> {
        let digest = digest(content);
        let there = self.at(&format!("blobs/{digest}"))?;
        let there = self.ask("HEAD", &there, &[], Bytes::new()).await?;
        if there.status().is_success() {
            return Ok(there);
        }
        let begin = self.at("blobs/uploads/")?;
        let begun = succeeded(self.ask("POST", &begin, &[], Bytes::new()).await?)?;
        let place = header(&begun, "location").and_then(|place| begin.join(place).ok());
        let mut place = place.ok_or_else(|| error("no place to upload to"))?;
        place.query_pairs_mut().append_pair("digest", &digest);
        let headers = [("content-type", "application/octet-stream")];
        self.ask("PUT", &place, &headers, content.clone()).await
    }

    /// Reads a blob, or as much of it as shows that it is longer than it should be.
    pub(super) async fn download(&self, digest: &str, limit: u64) -> Result<Bytes, StoreError> {
        let mut url = self.at(&format!("blobs/{digest}"))?;
        for _ in 0..=REDIRECTS {
            let response = self.ask("GET", &url, &[], Bytes::new()).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return body(succeeded(response)?, limit).await;
            }
            let next = header(&response, "location").and_then(|next| url.join(next).ok());
            let next = next.filter(|next| next.scheme() == self.base.scheme());
            url = next.ok_or_else(|| error("it is sent to where there is no blob"))?;
        }
        Err(error("it is sent round in circles"))
    }

    /// Lists all tags, or tries whether that can be done.
    pub(super) async fn tags(&self, all: bool) -> Result<Vec<String>, StoreError> {
        let page = if all { PAGE } else { "1" };
        let mut url = self.at(&format!("tags/list?n={page}"))?;
        let mut tags: Vec<String> = Vec::new();
        loop {
            let response = self.ask("GET", &url, &[], Bytes::new()).await?;
            if response.status().as_u16() == 404 {
                // Nothing has been pushed yet. A store says so, a portal has another page.
                let json = header(&response, "content-type").is_some_and(|t| t.contains("json"));
                return if json {
                    Ok(tags)
                } else {
                    succeeded(response).map(|_| tags)
                };
            }
            let response = succeeded(response)?;
            let next = header(&response, "link").and_then(|link| {
                let (place, kind) = link.trim().strip_prefix('<')?.split_once('>')?;
                kind.contains("next").then(|| url.join(place).ok())?
            });
            let json: Value = serde_json::from_slice(&body(response, TAGS_BYTES).await?)
                .map_err(|_| error("the answer is not a listing"))?;
            let (name, found) = (json.get("name"), json.get("tags"));
            if name.is_none() || found.is_none() {
                return Err(error("the answer is not a listing"));
            }
            let found = found
                .and_then(Value::as_array)
                .map_or(&[][..], Vec::as_slice);
            tags.extend(found.iter().filter_map(Value::as_str).map(String::from));
            match next {
                Some(next) if next != url && all => url = next,
                _ => return Ok(tags),
            }
        }
    }

    /// Puts a manifest under a tag.
    pub(super) async fn tag(&self, tag: &str, manifest: String) -> Result<(), StoreError> {
        let url = self.at(&format!("manifests/{tag}"))?;
        let headers = [("content-type", MANIFEST)];
        let body = Bytes::from(manifest);
        let put = succeeded(self.ask("PUT", &url, &headers, body).await?)?;
        match header(&put, "location").or(header(&put, "docker-content-digest")) {
            Some(_) => Ok(()),
            // A portal or proxy that answers 200 to everything.
            None => Err(error("the answer is not a registry's")),
        }
    }

    /// Deletes a manifest, and with it the tags that are on it.
    pub(super) async fn remove(&self, digest: &str) -> Result<(), StoreError> {
        let url = self.at(&format!("manifests/{digest}"))?;
        let deleted = self.ask("DELETE", &url, &[], Bytes::new()).await?;
        match deleted.status().as_u16() {
            404 => Ok(()),
            _ => succeeded(deleted).map(drop),
        }
    }
}

fn succeeded(response: HttpResponse) -> Result<HttpResponse, StoreError> {
    match response.status().is_success() {
        true => Ok(response),
        false => Err(error("refused")),
    }
}

/// Reads a body of at most so many bytes; one more says that there are more.
async fn body(response: HttpResponse, limit: u64) -> Result<Bytes, StoreError> {
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
