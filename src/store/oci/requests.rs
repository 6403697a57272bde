//! The requests to an OCI registry, by the distribution specification.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use object_store::Error as StoreError;
use object_store::client::HttpResponse;
use serde_json::Value;
use url::Url;

use super::artifact::{MANIFEST_TYPE, digest, read};
use super::client::{Client, MAX_MANIFEST_BYTES, body, error, header, succeeded, told};
use crate::store::Kind;

/// Registries redirect readers to the location of a blob. More redirects than this are a loop.
const MAX_REDIRECTS: usize = 3;

/// The header with the digest of a manifest.
const DIGEST_HEADER: &str = "docker-content-digest";

/// The meaning of a registry's 405.
pub(super) const NO_DELETIONS: &str =
    "405: this registry allows no deletions (docker-registry: set storage.delete.enabled)";

/// The meaning of a 404 that does not have a registry's form.
pub(super) const NOT_A_REGISTRYS_404: &str =
    "404, but not the answer of an oci registry: correct the host";

/// If several clients upload the same blob at once, docker-registry answers all but one with 400.
/// Every artifact has the same configuration blob. After the pause the blob is there.
const UPLOAD_PAUSES: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];

/// The number of tags in one request; a registry may return fewer.
const TAGS_PER_PAGE: &str = "1000";
/// The longest page of tags; a longer one is invalid.
const MAX_TAGS_BYTES: u64 = 16 << 20;

/// A page of tags.
struct TagPage {
    found: Vec<String>,
    next: Option<Url>,
}

/// The result of removing a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// The manifest was there.
    Now,
    /// The manifest was not there.
    Before,
}

/// The manifest under a tag.
pub(super) struct Tagged {
    pub(super) digest: String,
    pub(super) document: Bytes,
}

/// Tells whether a reply is a web page, which no registry sends in place of a manifest or blob.
fn is_page(response: &HttpResponse) -> bool {
    header(response, "content-type").is_some_and(|kind| kind.starts_with("text/html"))
}

impl Client {
    /// Reads the manifest under a tag; `None` if there is none.
    pub(super) async fn tagged(&self, tag: &str) -> Result<Option<Tagged>, StoreError> {
        let url = self.at(&format!("manifests/{tag}"))?;
        let response = self.ask("GET", &url, &[("accept", MANIFEST_TYPE)], Bytes::new());
        let response = response.await?;
        match response.status().as_u16() {
            404 if is_page(&response) => return Err(told(Kind::StoreMissing, NOT_A_REGISTRYS_404)),
            404 => return Ok(None),
            _ => {}
        }
        let response = succeeded(response)?;
        let said = header(&response, DIGEST_HEADER).map(str::to_owned);
        let document = body(response, MAX_MANIFEST_BYTES).await?;
        let digest = digest(&document);
        match said {
            // A captive portal or proxy answers 200 to everything.
            None if read(&document).is_err() => {
                Err(told(Kind::Unreachable, "the answer is not from a registry"))
            }
            Some(said) if said.starts_with("sha256:") && said != digest => {
                let why = "its manifest does not match the registry's digest";
                Err(told(Kind::Corrupt, why))
            }
            _ => Ok(Some(Tagged { digest, document })),
        }
    }

    /// Asks for the digest of the manifest under a tag; `None` if there is no manifest or the
    /// registry does not tell. Hubs with a pull limit don't count this request.
    pub(super) async fn digest_of(&self, tag: &str) -> Result<Option<String>, StoreError> {
        let url = self.at(&format!("manifests/{tag}"))?;
        let response = self.ask("HEAD", &url, &[("accept", MANIFEST_TYPE)], Bytes::new());
        let response = response.await?;
        if response.status().as_u16() == 404 {
            return Ok(None);
        }
        let response = succeeded(response)?;
        Ok(header(&response, DIGEST_HEADER).map(str::to_owned))
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
                // If only the reply was lost, the blob is there now.
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

    /// Uploads a blob that every artifact has; one upload at a time.
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
            // A redirect leads to an existing blob.
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
        let mut place = place.ok_or_else(|| error("the answer names no upload location"))?;
        place.query_pairs_mut().append_pair("digest", &digest);
        let headers = [("content-type", "application/octet-stream")];
        self.ask("PUT", &place, &headers, content.clone())
            .await
            .map(Some)
    }

    /// Reads a blob; if it is longer than the limit, only a little more than that.
    pub(super) async fn download(&self, digest: &str, limit: u64) -> Result<Bytes, StoreError> {
        let mut url = self.at(&format!("blobs/{digest}"))?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.ask("GET", &url, &[], Bytes::new()).await?;
            let status = response.status().as_u16();
            if matches!(status, 301 | 302 | 303 | 307 | 308) {
                let next = header(&response, "location").and_then(|next| self.follow(&url, next));
                // Never redirect from https to http.
                let next = next.filter(|n| n.scheme() == "https" || n.scheme() == url.scheme());
                let nowhere = "the registry redirects reads to an invalid location";
                url = next.ok_or_else(|| told(Kind::Unreachable, nowhere))?;
                continue;
            }
            if !response.status().is_success() && !self.is_own(&url) {
                // This refusal comes from the registry's storage, not from the registry.
                let host = url.host_str().unwrap_or_default();
                let why = format!("{status} from {host}, to which the registry redirects reads");
                let kind = match status {
                    404 | 410 => Kind::Corrupt,
                    408 | 429 | 500..=599 => Kind::Busy,
                    _ => Kind::Unreachable,
                };
                return Err(told(kind, why));
            }
            let response = succeeded(response)?;
            if is_page(&response) {
                return Err(told(Kind::Unreachable, "the answer is a web page"));
            }
            return body(response, limit).await;
        }
        let why = "the registry redirects reads in a loop";
        Err(told(Kind::Unreachable, why))
    }

    /// Puts a manifest under a tag.
    pub(super) async fn tag(&self, tag: &str, manifest: String) -> Result<(), StoreError> {
        let url = self.at(&format!("manifests/{tag}"))?;
        let headers = [("content-type", MANIFEST_TYPE)];
        let body = Bytes::from(manifest);
        let put = succeeded(self.ask("PUT", &url, &headers, body).await?)?;
        match header(&put, "location").or(header(&put, DIGEST_HEADER)) {
            Some(_) => Ok(()),
            // A captive portal or proxy answers 200 to everything.
            None => Err(error("the answer is not from a registry")),
        }
    }

    /// Deletes a manifest together with all tags on it.
    pub(super) async fn remove(&self, digest: &str) -> Result<Removal, StoreError> {
        let url = self.at(&format!("manifests/{digest}"))?;
        let deleted = self.ask("DELETE", &url, &[], Bytes::new()).await?;
        match deleted.status().as_u16() {
            404 => Ok(Removal::Before),
            405 => Err(told(Kind::Denied, NO_DELETIONS)),
            _ => succeeded(deleted).map(|_| Removal::Now),
        }
    }

    /// Tries whether the registry allows deletions, with a manifest that does not exist.
    pub(super) async fn try_removal(&self) -> Result<bool, StoreError> {
        let url = self.at(&format!("manifests/{}", digest(b"nothing")))?;
        let deleted = self.ask("DELETE", &url, &[], Bytes::new()).await?;
        match deleted.status().as_u16() {
            404 => Ok(true),
            405 => Ok(false),
            _ => succeeded(deleted).map(|_| true),
        }
    }

    /// Lists all tags; `None` if the registry answers, as a registry does, that it has no such
    /// repository.
    pub(super) async fn tags(&self) -> Result<Option<Vec<String>>, StoreError> {
        let mut url = self.at(&format!("tags/list?n={TAGS_PER_PAGE}"))?;
        let (mut tags, mut known) = (Vec::new(), HashSet::new());
        loop {
            let Some(page) = self.page(&url).await? else {
                return Ok(None);
            };
            let before = known.len();
            for tag in page.found {
                if known.insert(tag.clone()) {
                    tags.push(tag);
                }
            }
            match page.next {
                None => return Ok(Some(tags)),
                Some(_) if known.len() == before => {
                    let why = "the list of tags repeats itself";
                    return Err(told(Kind::Unreachable, why));
                }
                Some(next) => url = next,
            }
        }
    }

    /// Tries whether tags can be listed; `None` as in [`Client::tags`].
    pub(super) async fn try_tags(&self) -> Result<Option<()>, StoreError> {
        let url = self.at("tags/list?n=1")?;
        Ok(self.page(&url).await?.map(drop))
    }

    async fn page(&self, url: &Url) -> Result<Option<TagPage>, StoreError> {
        let response = self.ask("GET", url, &[], Bytes::new()).await?;
        if response.status().as_u16() == 404
            && header(&response, "content-type").is_some_and(|kind| kind.contains("json"))
        {
            return Ok(None);
        }
        let response = succeeded(response)?;
        let next = header(&response, "link").and_then(|link| {
            let (place, kind) = link.trim().strip_prefix('<')?.split_once('>')?;
            // The registry chooses the next page, but never another host.
            let mut next = url.clone();
            next.set_query(url.join(place).ok()?.query());
            kind.contains("next").then_some(next)
        });
        let no_listing = || {
            let why = "the server there is not an oci registry: correct the host";
            told(Kind::Unreachable, why)
        };
        let document = body(response, MAX_TAGS_BYTES).await?;
        let json: Value = serde_json::from_slice(&document).map_err(|_| no_listing())?;
        let (Some(_), Some(found)) = (json.get("name"), json.get("tags")) else {
            return Err(no_listing());
        };
        // `null` if there are no tags.
        let found = found.as_array().map_or(&[][..], Vec::as_slice);
        let found = found.iter().filter_map(Value::as_str).map(String::from);
        Ok(Some(TagPage {
            found: found.collect(),
            next,
        }))
    }
}
