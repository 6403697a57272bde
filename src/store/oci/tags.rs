//! The list of an OCI repository's tags, page by page.

use std::collections::HashSet;

use bytes::Bytes;
use object_store::Error as StoreError;
use serde_json::Value;
use url::Url;

use super::client::{Client, body};
use super::error::{header, succeeded, told};
use crate::store::Kind;

/// As many tags are asked for at once; a registry may give fewer.
const PAGE: &str = "1000";
/// A longer page of tags is none.
const TAGS_BYTES: u64 = 16 << 20;

/// A page of tags.
struct Tags {
    found: Vec<String>,
    next: Option<Url>,
}

impl Client {
    /// Lists all tags; `None` if the registry has no such repository, and says so as a registry
    /// does.
    pub(super) async fn tags(&self) -> Result<Option<Vec<String>>, StoreError> {
        let mut url = self.at(&format!("tags/list?n={PAGE}"))?;
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
                    let why = "the list of tags goes round in circles";
                    return Err(told(Kind::Unreachable, why));
                }
                Some(next) => url = next,
            }
        }
    }

    /// Tries whether tags can be listed; `None` as for all of them.
    pub(super) async fn try_tags(&self) -> Result<Option<()>, StoreError> {
        let url = self.at("tags/list?n=1")?;
        Ok(self.page(&url).await?.map(drop))
    }

    async fn page(&self, url: &Url) -> Result<Option<Tags>, StoreError> {
        let response = self.ask("GET", url, &[], Bytes::new()).await?;
        if response.status().as_u16() == 404
            && header(&response, "content-type").is_some_and(|kind| kind.contains("json"))
        {
            return Ok(None);
        }
        let response = succeeded(response)?;
        let next = header(&response, "link").and_then(|link| {
            let (place, kind) = link.trim().strip_prefix('<')?.split_once('>')?;
            // Where it goes on is the registry's to say, and never at which host.
            let mut next = url.clone();
            next.set_query(url.join(place).ok()?.query());
            kind.contains("next").then_some(next)
        });
        let no_listing = || {
            let why = "what answers there is no oci registry: correct the host";
            told(Kind::Unreachable, why)
        };
        let document = body(response, TAGS_BYTES).await?;
        let json: Value = serde_json::from_slice(&document).map_err(|_| no_listing())?;
        let (Some(_), Some(found)) = (json.get("name"), json.get("tags")) else {
            return Err(no_listing());
        };
        // `null` where there are none.
        let found = found.as_array().map_or(&[][..], Vec::as_slice);
        let found = found.iter().filter_map(Value::as_str).map(String::from);
        Ok(Some(Tags {
            found: found.collect(),
            next,
        }))
    }
}
