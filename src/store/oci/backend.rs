//! The driver of an OCI registry: each artifact is an OCI artifact of one layer, under a tag that
//! stands for its key.
//!
//! Registries have no conditional writes: who writes on a condition claims the tag first. Where
//! claims can't be kept, the condition is looked at just before and just after the write, which finds
//! most races and not all. Nor do they list more than tags: what is known of an artifact costs a
//! request each.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use object_store::Error as StoreError;
use object_store::client::HttpConnector;
use serde_json::Value;
use url::Url;

use super::auth::Auth;
use super::client::Client;
use super::docker::is_hub;
use super::error::failed;
use super::known::Known;
use super::manifest::{EMPTY_CONTENT, Manifest, digest, read, write};
use super::name::{key_of, tag_of};
use crate::model::Stamp;
use crate::store::http::failure::{Attempt, refusal};
use crate::store::http::middleware::{Exchange, Outcome};
use crate::store::http::opening::{Env, connector, invalid, is_loopback, options, unbuilt};
use crate::store::http::permission::Provider;
use crate::store::verdict::Asked;
use crate::store::waiting::waits_for;
use crate::store::{
    Backend, Capabilities, Condition, Failure, Kind, Listed, OciLocation, Stored, Token,
};

/// As many manifests are asked for at once. A listing has a second or two, and a registry on the
/// internet takes 50 ms for each; twice as many would be a burst that registries turn down.
const AT_ONCE: usize = 16;
/// Where the hub really answers.
const HUB: &str = "registry-1.docker.io";

/// An OCI registry's repository.
pub(crate) struct OciBackend {
    pub(super) client: Arc<Client>,
    /// Whether claims can be kept there, and what the registry refuses for that; once it is tried.
    pub(super) claims: OnceLock<(bool, Option<Failure>)>,
    /// What is known of the tags, by the digest of what lies under them.
    known: Known,
    pub(super) url: String,
}

impl fmt::Debug for OciBackend {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "OciDriver({})", self.url)
    }
}

/// Opens the driver of a repository. Nothing is sent.
pub(crate) fn open(location: &OciLocation, env: Env<'_>) -> Result<OciBackend, Failure> {
    let build = || {
        let OciLocation {
            host, repository, ..
        } = location;
        let host = if is_hub(host) { HUB } else { host };
        let parse = |scheme: &str| {
            let url = format!("{scheme}://{host}/v2/{repository}/");
            Url::parse(&url).map_err(|_| invalid("that is no host"))
        };
        let mut base = parse("https")?;
        if is_loopback(&base) {
            // As docker does it.
            base = parse("http")?;
        }
        let connector = connector(&base, Provider::Oci);
        let http = connector.connect(&options(&base)).map_err(unbuilt)?;
        Ok(OciBackend {
            client: Arc::new(Client::new(http, base, Auth::find(location, env)?)),
            claims: OnceLock::new(),
            known: Known::default(),
            url: location.url.clone(),
        })
    };
    build().map_err(|(kind, why)| {
        Failure::new(kind, format!("cannot open {}: {why}", location.url)).before_asking()
    })
}

impl OciBackend {
    fn tag(&self, attempt: Attempt<'_>) -> Result<String, Failure> {
        let why = "the name is too long for a tag, which has 128 characters";
        tag_of(attempt.key).ok_or_else(|| refusal(&self.url, Kind::Invalid, attempt, why))
    }

    /// Runs an operation and turns its failure into ours.
    pub(super) async fn run<T>(
        &self,
        attempt: Attempt<'_>,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Failure> {
        self.seen(attempt, operation).await.0
    }

    /// Runs an operation, and returns what was seen of it, too.
    pub(super) async fn seen<T>(
        &self,
        attempt: Attempt<'_>,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> (Result<T, Failure>, Arc<Exchange>) {
        let (result, exchange) = Exchange::of(false, operation).await;
        let outcome = exchange.outcome();
        let result = result.map_err(|error| {
            let hint = |outcome: &Outcome| match outcome {
                Outcome::Reply(seen) if seen.status == 401 => Some(self.client.hint()),
                Outcome::Reply(seen) if seen.status == 404 && attempt.asked == Asked::List => {
                    Some("that is not said as an oci registry says it: correct the host".into())
                }
                Outcome::Reply(seen) if seen.status == 400 && self.client.speaks_http() => {
                    Some("http is spoken to loopback addresses: does it want https?".into())
                }
                // What rustls says of an answer that is none of TLS.
                Outcome::Broken { why, .. } if why.contains("invalidcontenttype") => Some(
                    "it speaks no https, and http is spoken to loopback addresses alone".into(),
                ),
                _ => None,
            };
            let failure = failed(&self.url, attempt, &outcome, &error, hint);
            Provider::Oci.explained(failure, attempt.asked, &outcome)
        });
        (result, exchange)
    }

    /// Asks for tags. None are there before the first push; who says "not found" in another way
    /// than a registry does is none.
    async fn tags<T: Default>(
        &self,
        attempt: Attempt<'_>,
        ask: impl Future<Output = Result<Option<T>, StoreError>>,
    ) -> Result<T, Failure> {
        let (tags, exchange) = self.seen(attempt, ask).await;
        match (tags?, exchange.outcome()) {
            (Some(tags), _) => Ok(tags),
            (None, Outcome::Reply(seen)) if seen.error.code.is_some() => Ok(T::default()),
            (None, _) => {
                let why = "404, and not as an oci registry says it: correct the host";
                Err(refusal(&self.url, Kind::StoreMissing, attempt, why))
            }
        }
    }

    /// Reads what lies under a tag, and demands that something does.
    async fn manifest(&self, attempt: Attempt<'_>) -> Result<(Token, Manifest), Failure> {
        let tag = self.tag(attempt)?;
        let Some(tagged) = self.run(attempt, self.client.tagged(&tag)).await? else {
            // Of the whole repository, or of a portal: the list of tags tells.
            self.probe().await?;
            return Err(refusal(&self.url, Kind::NotFound, attempt, "404"));
        };
        let manifest = read(&tagged.document)
            .map_err(|why| refusal(&self.url, Kind::Corrupt, attempt, why))?;
        self.known.learn(tag, &tagged.digest, &manifest);
        Ok((Token(tagged.digest), manifest))
    }

    /// Reads what is known of a key; `None` if it is gone by now, or is no artifact.
    async fn look_up(&self, tag: String, key: String) -> Result<Option<Listed>, StoreError> {
        if let Some((digest, manifest)) = self.known.of(&tag)
            && self.client.digest_of(&tag).await?.as_ref() == Some(&digest)
        {
            return Ok(Some(listed(key, Token(digest), &manifest)));
        }
        let Some(tagged) = self.client.tagged(&tag).await? else {
            return Ok(None);
        };
        let Ok(manifest) = read(&tagged.document) else {
            return Ok(None);
        };
        self.known.learn(tag, &tagged.digest, &manifest);
        Ok(Some(listed(key, Token(tagged.digest), &manifest)))
    }
}

#[async_trait]
impl Backend for OciBackend {
    async fn get(&self, key: &str, limit: u64) -> Result<Stored, Failure> {
        let attempt = Attempt::new("read", key, Asked::Read);
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
                let why = "its manifest is there and its content is not";
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
            token: Some(token),
            modified: manifest.modified,
        })
    }

    async fn head(&self, key: &str) -> Result<Listed, Failure> {
        let attempt = Attempt::new("look up", key, Asked::Read);
        let (token, manifest) = self.manifest(attempt).await?;
        Ok(listed(key.into(), token, &manifest))
    }

    async fn put(
        &self,
        key: &str,
        content: Bytes,
        stamp: &Stamp,
        condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        let attempt = Attempt::new("write", key, Asked::Write);
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
        let attempt = Attempt::new("delete", key, Asked::Delete);
        let tag = self.tag(attempt)?;
        let Some(tagged) = self.run(attempt, self.client.tagged(&tag)).await? else {
            // Of a registry, or of a portal.
            return self.probe().await;
        };
        if serde_json::from_slice::<Value>(&tagged.document).is_err() {
            // A portal says yes to everything, to a deletion too.
            let why = "the answer is not a registry's";
            return Err(refusal(&self.url, Kind::Unreachable, attempt, why));
        }
        // Others' artifacts may lack what a claim is made of.
        let common = Bytes::from_static(EMPTY_CONTENT);
        self.run(attempt, self.client.upload_common(&common))
            .await?;
        let remove = self.run(attempt, self.client.remove(&tagged.digest));
        let look = async {
            match self.run(attempt, self.client.tagged(&tag)).await? {
                Some(now) if now.digest != tagged.digest => {
                    let why = "somebody else has written it meanwhile";
                    Err(refusal(&self.url, Kind::Conflict, attempt, why))
                }
                _ => Ok(()),
            }
        };
        let removed = self.claimed(attempt, &tag, look, remove).await;
        removed.map(drop)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Failure> {
        let attempt = Attempt::new("list", prefix, Asked::List);
        let tags: Vec<String> = self.tags(attempt, self.client.tags()).await?;
        let below = |key: &str| {
            let rest = key.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let mut wanted = Vec::new();
        for tag in tags {
            match key_of(&tag).filter(|key| below(key)) {
                Some(key) => wanted.push(self.look_up(tag, key)),
                None => continue,
            }
        }
        let all = wanted.len();
        let look_up = async {
            let mut found = Vec::with_capacity(all);
            let mut replies = futures::stream::iter(wanted).buffer_unordered(AT_ONCE);
            while let Some(reply) = replies.next().await {
                found.push(reply?);
                waits_for(Some(format!(
                    "{} of {all} artifacts were looked up, which costs a request each: give \
                     listings more time",
                    found.len()
                )));
            }
            Ok(found)
        };
        let found = self.run(attempt, look_up).await;
        waits_for(None);
        Ok(found?.into_iter().flatten().collect())
    }

    async fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        let attempt = Attempt::new("list", "the repositories", Asked::List);
        let tags: Vec<String> = self.tags(attempt, self.client.tags()).await?;
        let keys = tags.iter().filter_map(|tag| key_of(tag));
        let firsts = keys.filter_map(|key| Some(key.split_once('/')?.0.to_owned()));
        let firsts: BTreeSet<String> = firsts.collect();
        Ok(firsts.into_iter().collect())
    }

    async fn probe(&self) -> Result<(), Failure> {
        let attempt = Attempt::new("list", "the store", Asked::List);
        self.tags(attempt, self.client.try_tags()).await
    }

    async fn try_conditions(&self) -> Result<Option<Capabilities>, Failure> {
        let (honours_conditions, refused) = self.keeps_claims().await?;
        Ok(Some(Capabilities {
            honours_conditions,
            refused,
        }))
    }
}

fn listed(key: String, token: Token, manifest: &Manifest) -> Listed {
    Listed {
        key,
        size: manifest.size,
        stamp: manifest.stamp,
        token: Some(token),
        modified: manifest.modified,
    }
}
