//! The backend for OCI registries: each artifact is an OCI artifact of one layer, under a tag that
//! encodes its key.
//!
//! Registries have no conditional writes, so each conditional write first takes a lease on the tag.
//! If the registry cannot hold leases, the backend checks the condition just before and just after
//! the write, which finds most races but not all. Registries list only tags, so the metadata of
//! each artifact costs one request.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use object_store::client::HttpConnector;
use url::Url;

use super::artifact::{EMPTY_CONTENT, digest, key_of, write};
use super::auth::Auth;
use super::client::Client;
use super::docker::is_hub;
use super::repository::{OciBackend, TagCache, listed};
use crate::store::backend::{is_below, waits_for};
use crate::store::http::failure::{Attempt, refusal};
use crate::store::http::opening::{Env, connector, invalid, is_loopback, options, unbuilt};
use crate::store::http::reply::Provider;
use crate::store::http::verdict::StoreOperation;
use crate::store::{
    Backend, Capabilities, Condition, Failure, Kind, Listed, OciLocation, SignedStamp, Stored,
    Token,
};

/// The number of manifests that are requested at once. A listing has a second or two, and a
/// registry on the internet takes 50 ms for each. Registries would reject a burst of twice as many.
const MAX_PARALLEL_LOOKUPS: usize = 16;
/// The host that really answers for Docker Hub.
const HUB_HOST: &str = "registry-1.docker.io";

/// Opens the backend for a repository, without sending anything.
pub(crate) fn open(location: &OciLocation, env: Env<'_>) -> Result<OciBackend, Failure> {
    let build = || {
        let OciLocation {
            host, repository, ..
        } = location;
        let host = if is_hub(host) { HUB_HOST } else { host };
        let parse = |scheme: &str| {
            let url = format!("{scheme}://{host}/v2/{repository}/");
            Url::parse(&url).map_err(|_| invalid("invalid host"))
        };
        let mut base = parse("https")?;
        if is_loopback(&base) {
            // As docker does.
            base = parse("http")?;
        }
        let connector = connector(&base, Provider::Oci);
        let http = connector.connect(&options(&base)).map_err(unbuilt)?;
        Ok(OciBackend {
            client: Arc::new(Client::new(http, base, Auth::find(location, env)?)),
            lease_support: OnceLock::new(),
            known: TagCache::default(),
            url: location.url.clone(),
        })
    };
    build().map_err(|(kind, why)| {
        Failure::new(kind, format!("cannot open {}: {why}", location.url)).before_asking()
    })
}

impl OciBackend {
    /// Returns the tags of the keys that start with `prefix` + `/`, with those keys.
    async fn tags_below(
        &self,
        attempt: Attempt<'_>,
        prefix: &str,
    ) -> Result<Vec<(String, String)>, Failure> {
        let tags: Vec<String> = self.tags(attempt, self.client.tags()).await?;
        let tags = tags.into_iter().filter_map(|tag| {
            let key = key_of(&tag)?;
            let is_below = key.strip_prefix(prefix)?.starts_with('/');
            is_below.then_some((tag, key))
        });
        Ok(tags.collect())
    }

    /// Lists the wanted keys that start with `prefix` + `/`: each costs a request.
    async fn list_keys_that(
        &self,
        prefix: &str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Listed>, Failure> {
        let attempt = Attempt::new("list", prefix, StoreOperation::List);
        let tags = self.tags_below(attempt, prefix).await?.into_iter();
        let wanted = tags.filter(|(_, key)| is_wanted(key));
        let wanted: Vec<_> = wanted.map(|(tag, key)| self.look_up(tag, key)).collect();
        let all = wanted.len();
        let look_up = async {
            let mut found = Vec::with_capacity(all);
            let mut replies = futures::stream::iter(wanted).buffer_unordered(MAX_PARALLEL_LOOKUPS);
            while let Some(reply) = replies.next().await {
                found.push(reply?);
                waits_for(Some(format!(
                    "looked up {} of {all} artifacts, with one request each: give listings more \
                     time",
                    found.len()
                )));
            }
            Ok(found)
        };
        let found = self.run(attempt, look_up).await;
        waits_for(None);
        Ok(found?.into_iter().flatten().collect())
    }
}

#[async_trait]
impl Backend for OciBackend {
    async fn get(&self, key: &str, limit: u64) -> Result<Stored, Failure> {
        let attempt = Attempt::new("read", key, StoreOperation::Read);
        let (token, manifest) = self.manifest(attempt).await?;
        if manifest.size > limit {
            let size = manifest.size;
            let why = format!("it has {size} bytes, more than the {limit} allowed");
            return Err(refusal(&self.url, Kind::TooBig, attempt, &why));
        }
        let content = self.run(
            attempt,
            self.client.download(&manifest.content, manifest.size),
        );
        let content = match content.await {
            Err(gone) if gone.kind == Kind::NotFound => {
                let why = "its manifest exists, but its content is missing";
                return Err(refusal(&self.url, Kind::Corrupt, attempt, why));
            }
            content => content?,
        };
        if (content.len() as u64) < manifest.size {
            let why = "the body was cut off";
            return Err(refusal(&self.url, Kind::Unreachable, attempt, why));
        }
        if digest(&content) != manifest.content {
            let why = "its bytes don't match their digest";
            return Err(refusal(&self.url, Kind::Corrupt, attempt, why));
        }
        Ok(Stored {
            content,
            stamp: manifest.stamp,
            unreadable: manifest.unreadable,
            token: Some(token),
            modified: manifest.modified,
        })
    }

    async fn head(&self, key: &str) -> Result<Listed, Failure> {
        let attempt = Attempt::new("look up", key, StoreOperation::Read);
        let (token, manifest) = self.manifest(attempt).await?;
        Ok(listed(key.into(), token, &manifest))
    }

    async fn put(
        &self,
        key: &str,
        content: Bytes,
        stamp: &SignedStamp,
        condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        let attempt = Attempt::new("write", key, StoreOperation::Write);
        let tag = self.tag(attempt)?;
        let upload = async {
            self.client.upload(&content).await?;
            let common = Bytes::from_static(EMPTY_CONTENT);
            self.client.upload_common(&common).await
        };
        self.run(attempt, upload).await?;
        let manifest = write(key, stamp);
        let moved = match condition {
            Condition::None => self.move_tag(attempt, &tag, manifest).await,
            Condition::Absent | Condition::Unchanged(_) => {
                self.move_tag_if(attempt, &tag, manifest, condition).await
            }
        };
        moved.map(Some)
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        let attempt = Attempt::new("delete", key, StoreOperation::Delete);
        let tag = self.tag(attempt)?;
        let Some(tagged) = self.run(attempt, self.client.tagged(&tag)).await? else {
            // Is this the 404 of a registry, or of a captive portal?
            return self.try_listing().await;
        };
        // The artifacts of other tools may lack the blob that a lease refers to.
        let common = Bytes::from_static(EMPTY_CONTENT);
        self.run(attempt, self.client.upload_common(&common))
            .await?;
        let remove = self.run(attempt, self.client.remove(&tagged.digest));
        let look = async {
            match self.run(attempt, self.client.tagged(&tag)).await? {
                Some(now) if now.digest != tagged.digest => {
                    let why = "another writer has changed it in the meantime";
                    Err(refusal(&self.url, Kind::Conflict, attempt, why))
                }
                _ => Ok(()),
            }
        };
        let removed = self.with_lease(attempt, &tag, look, remove).await;
        removed.map(drop)
    }

    async fn list_up_to(&self, prefix: &str, last: Option<&str>) -> Result<Vec<Listed>, Failure> {
        self.list_keys_that(prefix, |key| last.is_none_or(|last| key <= last))
            .await
    }

    async fn list_without(
        &self,
        prefix: &str,
        without: &str,
        last: Option<&str>,
    ) -> Result<Vec<Listed>, Failure> {
        let is_wanted = |key: &str| !is_below(key, without) && last.is_none_or(|last| key <= last);
        self.list_keys_that(prefix, is_wanted).await
    }

    async fn list_keys(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let attempt = Attempt::new("list", prefix, StoreOperation::List);
        let tags = self.tags_below(attempt, prefix).await?;
        Ok(tags.into_iter().map(|(_, key)| key).collect())
    }

    async fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        let attempt = Attempt::new("list", "the repositories", StoreOperation::List);
        let tags: Vec<String> = self.tags(attempt, self.client.tags()).await?;
        let keys = tags.iter().filter_map(|tag| key_of(tag));
        let firsts = keys.filter_map(|key| Some(key.split_once('/')?.0.to_owned()));
        let firsts: BTreeSet<String> = firsts.collect();
        Ok(firsts.into_iter().collect())
    }

    async fn probe(&self) -> Result<(), Failure> {
        self.try_listing().await
    }

    async fn try_conditions(&self) -> Result<Option<Capabilities>, Failure> {
        let (honours_conditions, refused) = self.supports_leases().await?;
        Ok(Some(Capabilities {
            honours_conditions,
            refused,
        }))
    }
}
