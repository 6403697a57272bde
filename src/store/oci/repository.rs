//! One repository of an OCI registry: the manifests under its tags, and how a tag is moved.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use lru::LruCache;
use object_store::Error as StoreError;

use super::artifact::{Manifest, digest, read, tag_of};
use super::client::{Client, OciError};
use super::lease::Lease;
use super::requests::{NO_DELETIONS, NOT_A_REGISTRYS_404};
use crate::store::http::failure::{Attempt, failure, refusal};
use crate::store::http::middleware::RequestLog;
use crate::store::http::reply::{Provider, RequestOutcome};
use crate::store::http::verdict::StoreOperation;
use crate::store::{Condition, Failure, Kind, Listed, Token};

/// A repository of an OCI registry.
pub(crate) struct OciBackend {
    pub(super) client: Arc<Client>,
    /// Whether the registry can hold leases, and its refusal of a request that leases need; set by
    /// the first trial.
    pub(super) lease_support: OnceLock<(bool, Option<Failure>)>,
    /// The manifests that were read last, by tag.
    pub(super) known: TagCache,
    pub(super) url: String,
}

impl fmt::Debug for OciBackend {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "OciDriver({})", self.url)
    }
}

impl OciBackend {
    pub(super) fn tag(&self, attempt: Attempt<'_>) -> Result<String, Failure> {
        let why = "the name is too long for a tag of at most 128 characters";
        tag_of(attempt.key).ok_or_else(|| refusal(&self.url, Kind::Invalid, attempt, why))
    }

    /// Runs an operation and converts its error.
    pub(super) async fn run<T>(
        &self,
        attempt: Attempt<'_>,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Failure> {
        self.seen(attempt, operation).await.0
    }

    /// Runs an operation, and also returns the log of its requests.
    pub(super) async fn seen<T>(
        &self,
        attempt: Attempt<'_>,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> (Result<T, Failure>, Arc<RequestLog>) {
        let (result, log) = RequestLog::record(false, operation).await;
        let outcome = log.outcome();
        let result = result.map_err(|error| {
            let hint = |outcome: &RequestOutcome| match outcome {
                RequestOutcome::Reply(seen) if seen.status == 401 => Some(self.client.hint()),
                RequestOutcome::Reply(seen)
                    if seen.status == 404 && attempt.operation == StoreOperation::List =>
                {
                    Some("this is not the answer of an oci registry: correct the host".into())
                }
                RequestOutcome::Reply(seen) if seen.status == 400 && self.client.speaks_http() => {
                    Some("atlasfs speaks http to loopback addresses: does it want https?".into())
                }
                // The message of rustls for a reply that is not TLS.
                RequestOutcome::Broken { why, .. } if why.contains("invalidcontenttype") => Some(
                    "it does not speak https, and atlasfs speaks http only to loopback addresses"
                        .into(),
                ),
                _ => None,
            };
            let failure = failed(&self.url, attempt, &outcome, &error, hint);
            Provider::Oci.explained(failure, attempt.operation, &outcome)
        });
        (result, log)
    }

    /// Asks for tags. Before the first push there are none. A 404 that does not have a registry's
    /// form means that the host is not a registry.
    pub(super) async fn tags<T: Default>(
        &self,
        attempt: Attempt<'_>,
        ask: impl Future<Output = Result<Option<T>, StoreError>>,
    ) -> Result<T, Failure> {
        let (tags, log) = self.seen(attempt, ask).await;
        match (tags?, log.outcome()) {
            (Some(tags), _) => Ok(tags),
            (None, RequestOutcome::Reply(seen)) if seen.error.code.is_some() => Ok(T::default()),
            (None, _) => Err(refusal(
                &self.url,
                Kind::StoreMissing,
                attempt,
                NOT_A_REGISTRYS_404,
            )),
        }
    }

    /// Tries whether the tags can be listed.
    pub(super) async fn try_listing(&self) -> Result<(), Failure> {
        let attempt = Attempt::new("list", "the store", StoreOperation::List);
        self.tags(attempt, self.client.try_tags()).await
    }

    /// Reads the manifest under a tag; fails if there is none.
    pub(super) async fn manifest(
        &self,
        attempt: Attempt<'_>,
    ) -> Result<(Token, Manifest), Failure> {
        let tag = self.tag(attempt)?;
        let Some(tagged) = self.run(attempt, self.client.tagged(&tag)).await? else {
            // The 404 may be about the whole repository, or come from a captive portal: the list of
            // tags tells.
            self.try_listing().await?;
            return Err(refusal(&self.url, Kind::NotFound, attempt, "404"));
        };
        let manifest = read(&tagged.document)
            .map_err(|why| refusal(&self.url, Kind::Corrupt, attempt, why))?;
        self.known.learn(tag, &tagged.digest, &manifest);
        Ok((Token(tagged.digest), manifest))
    }

    /// Reads the metadata of a key; `None` if it is gone, or is not an artifact.
    pub(super) async fn look_up(
        &self,
        tag: String,
        key: String,
    ) -> Result<Option<Listed>, StoreError> {
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

    /// Finds out whether the registry can hold leases, and which request it refuses. A result that
    /// may change, such as a refused login or a missing permission, is not remembered.
    pub(super) async fn supports_leases(&self) -> Result<(bool, Option<Failure>), Failure> {
        if let Some(known) = self.lease_support.get() {
            return Ok(known.clone());
        }
        let deletes = Attempt::new("delete", "a manifest", StoreOperation::Delete);
        match self.run(deletes, self.client.try_removal()).await {
            Err(refused) if refused.is_outage() => return Err(refused),
            Err(refused) => return Ok((false, Some(refused))),
            Ok(false) => {
                let refused = refusal(&self.url, Kind::Denied, deletes, NO_DELETIONS);
                return Ok(self.known((false, Some(refused))));
            }
            Ok(true) => {}
        }
        let writes = Attempt::new("write", "a lease", StoreOperation::Write);
        match self.run(writes, Lease::is_possible(&self.client)).await {
            Err(refused) if refused.is_outage() => Err(refused),
            Err(refused) if refused.kind == Kind::Denied => Ok((false, Some(refused))),
            Err(refused) => Ok(self.known((false, Some(refused)))),
            Ok(possible) => Ok(self.known((possible, None))),
        }
    }

    fn known(&self, known: (bool, Option<Failure>)) -> (bool, Option<Failure>) {
        self.lease_support.get_or_init(|| known).clone()
    }

    /// Runs `look` and then `change`, under a lease if the registry can hold leases.
    pub(super) async fn with_lease<T>(
        &self,
        attempt: Attempt<'_>,
        tag: &str,
        look: impl Future<Output = Result<(), Failure>>,
        change: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        if !self.supports_leases().await?.0 {
            // Look as late as possible: a write between look and change goes unnoticed.
            look.await?;
            return change.await;
        }
        let lease = self.run(attempt, Lease::on(&self.client, tag)).await?;
        look.await?;
        lease.over(change).await.unwrap_or_else(|| {
            let why = "it took so long that another writer may have changed it in the meantime";
            Err(refusal(&self.url, Kind::Busy, attempt, why))
        })
    }

    /// Puts a manifest under a tag, if a condition holds.
    pub(super) async fn move_tag_if(
        &self,
        attempt: Attempt<'_>,
        tag: &str,
        manifest: String,
        condition: &Condition,
    ) -> Result<Token, Failure> {
        let look = async || {
            let tagged = self.run(attempt, self.client.tagged(tag)).await?;
            Ok::<_, Failure>(tagged.map(|tagged| Token(tagged.digest)))
        };
        let why = "something else is stored there";
        let conflict = || refusal(&self.url, Kind::Conflict, attempt, why);
        let before = async {
            match (condition, look().await?) {
                (Condition::None, _) | (Condition::Absent, None) => Ok(()),
                (Condition::Unchanged(token), Some(there)) if there == *token => Ok(()),
                _ => Err(conflict()),
            }
        };
        let change = async {
            let token = self.move_tag(attempt, tag, manifest).await?;
            match look().await? {
                Some(there) if there == token => Ok(token),
                _ => Err(conflict()),
            }
        };
        self.with_lease(attempt, tag, before, change).await
    }

    /// Puts a manifest under a tag.
    pub(super) async fn move_tag(
        &self,
        attempt: Attempt<'_>,
        tag: &str,
        manifest: String,
    ) -> Result<Token, Failure> {
        let token = Token(digest(manifest.as_bytes()));
        let (moved, log) = self.seen(attempt, self.client.tag(tag, manifest)).await;
        match moved {
            Ok(()) => Ok(token),
            Err(failed) if failed.is_outage() && !log.is_refused() => {
                self.settle(tag, token, failed).await
            }
            Err(failed) => Err(failed),
        }
    }

    /// Checks the tag after a failed write: the write may have happened although its reply was
    /// lost.
    async fn settle(&self, tag: &str, token: Token, failed: Failure) -> Result<Token, Failure> {
        let (there, _) = RequestLog::record(false, self.client.tagged(tag)).await;
        match there {
            Ok(Some(tagged)) if tagged.digest == token.0 => Ok(token),
            _ => Err(failed),
        }
    }
}

/// Makes the failure of an attempt. `hint` says what to do, if that is known.
pub(super) fn failed(
    url: &str,
    attempt: Attempt<'_>,
    outcome: &RequestOutcome,
    error: &StoreError,
    hint: impl FnOnce(&RequestOutcome) -> Option<String>,
) -> Failure {
    if let StoreError::Generic { source, .. } = error
        && let Some(OciError { kind, why }) = source.downcast_ref::<OciError>()
    {
        return refusal(url, *kind, attempt, why);
    }
    failure(url, attempt, outcome, error, hint(outcome))
}

/// More artifacts than one mount is likely to list; each takes about 300 bytes.
const MAX_CACHED_TAGS: NonZeroUsize = NonZeroUsize::new(16 << 10).unwrap();

/// The last known manifest under each tag. A manifest never changes, but a tag may move: the digest
/// tells whether the manifest is still current.
pub(super) struct TagCache(Mutex<LruCache<String, (String, Manifest)>>);

impl Default for TagCache {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_CACHED_TAGS)))
    }
}

impl TagCache {
    /// Returns the digest and the manifest that the tag had last.
    pub(super) fn of(&self, tag: &str) -> Option<(String, Manifest)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(tag).cloned()
    }

    /// Remembers the manifest under a tag.
    pub(super) fn learn(&self, tag: String, digest: &str, manifest: &Manifest) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.put(tag, (digest.into(), manifest.clone()));
    }
}

pub(super) fn listed(key: String, token: Token, manifest: &Manifest) -> Listed {
    Listed {
        key,
        size: manifest.size,
        stamp: manifest.stamp,
        unreadable: manifest.unreadable,
        token: Some(token),
        modified: manifest.modified,
    }
}
