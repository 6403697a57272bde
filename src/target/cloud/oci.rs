//! The driver of an OCI registry: each artifact is an OCI artifact of one layer, under a tag that
//! stands for its key.
//!
//! Registries have no conditional writes: a condition is looked at just before and just after the
//! write, which finds most races and not all. Nor do they list more than tags: what is known of an
//! artifact costs a request each.

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use object_store::Error as StoreError;
use object_store::client::HttpConnector;
use url::Url;

use super::exchange::{Connector, Exchange};
use super::failure::{Attempt, failure, refusal};
use super::oci_auth::Auth;
use super::oci_client::Client;
use super::oci_manifest::{EMPTY_CONTENT, Manifest, digest, read, write};
use super::oci_name::{key_of, tag_of};
use super::permission::Provider;
use super::opening::{Env, invalid, is_loopback, options, unbuilt};
use crate::artifact::Stamp;
use crate::target::verdict::Asked;
use crate::target::{Condition, Driver, Failure, Kind, Listed, OciLocation, Stored, Token};

/// As many manifests are asked for at once: more than one, and fewer than a burst.
const AT_ONCE: usize = 8;
/// An OCI registry's repository.
pub(in crate::target) struct OciDriver {
    client: Client,
    url: String,
}

impl fmt::Debug for OciDriver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "OciDriver({})", self.url)
    }
}

/// Opens the driver of a repository. Nothing is sent.
pub(in crate::target) fn open(location: &OciLocation, env: Env<'_>) -> Result<OciDriver, Failure> {
    let build = || {
        let OciLocation {
            host, repository, ..
        } = location;
        if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(invalid("a repository has lower-case letters only"));
        }
        let parse = |scheme: &str| {
            let url = format!("{scheme}://{host}/v2/{repository}/");
            Url::parse(&url).map_err(|_| invalid("that is no host"))
        };
        let mut base = parse("https")?;
        if is_loopback(&base) {
            // As docker does it.
            base = parse("http")?;
        }
        let connector = Connector {
            authority: base.authority().to_owned(),
            posts: true,
        };
        let http = connector.connect(&options(&base)).map_err(unbuilt)?;
        Ok(OciDriver {
            client: Client::new(http, base, Auth::find(location, env)?),
            url: location.url.clone(),
        })
    };
    build()
        .map_err(|(kind, why)| Failure::new(kind, format!("cannot open {}: {why}", location.url)))
}

impl OciDriver {
    fn tag(&self, attempt: Attempt<'_>) -> Result<String, Failure> {
        let why = "the name is too long for a tag, which has 128 characters";
        tag_of(attempt.key).ok_or_else(|| refusal(&self.url, Kind::Invalid, attempt, why))
    }

    /// Runs an operation and turns its failure into ours.
    async fn run<T>(
        &self,
        attempt: Attempt<'_>,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Failure> {
        let (result, exchange) = Exchange::of(false, operation).await;
        result.map_err(|error| {
            let outcome = exchange.outcome();
            let failure = failure(&self.url, attempt, &outcome, &error);
            Provider::Oci.explained(failure, attempt.asked, &outcome)
        })
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
        Ok((Token(tagged.digest), manifest))
    }

    /// Reads what is known of a key; `None` if it is gone by now, or is no artifact.
    async fn known(&self, tag: String, key: String) -> Result<Option<Listed>, StoreError> {
        let Some(tagged) = self.client.tagged(&tag).await? else {
            return Ok(None);
        };
        let manifest = read(&tagged.document).ok();
        Ok(manifest.map(|manifest| listed(key, Token(tagged.digest), &manifest)))
    }
}

#[async_trait]
impl Driver for OciDriver {
    async fn get(&self, key: &str, limit: u64) -> Result<Stored, Failure> {
        let attempt = Attempt::new("read", key, Asked::Read);
        let (token, manifest) = self.manifest(attempt).await?;
        if manifest.size > limit {
            let size = manifest.size;
            let why = format!("it has {size} bytes, more than the {limit} allowed");
            return Err(refusal(&self.url, Kind::Invalid, attempt, &why));
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
        let asked = match condition {
            Condition::None => Asked::Write,
            Condition::Absent | Condition::Unchanged(_) => Asked::WriteIf,
        };
        let attempt = Attempt::new("write", key, asked);
        let tag = self.tag(attempt)?;
        let there = async || {
            let tagged = self.run(attempt, self.client.tagged(&tag)).await?;
            Ok::<_, Failure>(tagged.map(|tagged| Token(tagged.digest)))
        };
        let conflict = || {
            let why = "something else is there";
            Err(refusal(&self.url, Kind::Conflict, attempt, why))
        };
        let manifest = write(key, stamp);
        let token = Token(digest(manifest.as_bytes()));
        let upload = async {
            self.client.upload(&content).await?;
            let common = Bytes::from_static(EMPTY_CONTENT);
            self.client.upload_common(&common).await
        };
        self.run(attempt, upload).await?;
        // As late as can be: whoever moves the tag from here on is not seen.
        match condition {
            Condition::None => {}
            Condition::Absent if there().await?.is_none() => {}
            Condition::Unchanged(token) if there().await?.as_ref() == Some(token) => {}
            Condition::Absent | Condition::Unchanged(_) => return conflict(),
        }
        self.run(attempt, self.client.tag(&tag, manifest)).await?;
        if asked == Asked::WriteIf && there().await?.as_ref() != Some(&token) {
            return conflict();
        }
        Ok(Some(token))
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        let attempt = Attempt::new("delete", key, Asked::Delete);
        let tag = self.tag(attempt)?;
        let delete = async {
            let Some(tagged) = self.client.tagged(&tag).await? else {
                return Ok(());
            };
            self.client.remove(&tagged.digest).await
        };
        self.run(attempt, delete).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Failure> {
        let attempt = Attempt::new("list", prefix, Asked::List);
        let tags = self.run(attempt, self.client.tags(true)).await?;
        let below = |key: &str| {
            let rest = key.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let mut wanted = Vec::new();
        for tag in tags {
            match key_of(&tag).filter(|key| below(key)) {
                Some(key) => wanted.push(self.known(tag, key)),
                None => continue,
            }
        }
        let known = futures::stream::iter(wanted).buffered(AT_ONCE).collect();
        let known = async {
            let known: Vec<Result<Option<Listed>, StoreError>> = known.await;
            known.into_iter().collect::<Result<Vec<_>, _>>()
        };
        Ok(self
            .run(attempt, known)
            .await?
            .into_iter()
            .flatten()
            .collect())
    }

    async fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        let attempt = Attempt::new("list", "the repositories", Asked::List);
        let tags = self.run(attempt, self.client.tags(true)).await?;
        let keys = tags.iter().filter_map(|tag| key_of(tag));
        let firsts = keys.filter_map(|key| Some(key.split_once('/')?.0.to_owned()));
        let firsts: BTreeSet<String> = firsts.collect();
        Ok(firsts.into_iter().collect())
    }

    async fn probe(&self) -> Result<(), Failure> {
        let attempt = Attempt::new("list", "the store", Asked::List);
        self.run(attempt, self.client.tags(false)).await.map(drop)
    }

    fn honours_conditions(&self) -> Option<bool> {
        // It is looked before a tag is moved; between the two another one may move it.
        Some(false)
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
