//! The backend for a bucket or container: one implementation over object_store for every provider.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use object_store::list::PaginatedListStore;
use object_store::{
    Attribute, Error as StoreError, GetOptions, GetResult, ObjectMeta, ObjectStore, PutMode,
    PutOptions,
};

use super::bucket::Bucket;
use super::claim::{Claim, Refused, Reply, proven};
use super::quirks::{Quirks, RemoveObject};
use super::quirks::{stamp_from_attributes, stamp_to_attributes};
use crate::store::http::failure::{Attempt, AttemptError, lacks_permission};
use crate::store::http::middleware::RequestLog;
use crate::store::http::reply::RequestOutcome;
use crate::store::http::verdict::StoreOperation;
use crate::store::{Backend, Condition, Failure, Kind, Listed, SignedStamp, Stored, Token};

/// A cloud store.
pub(crate) struct CloudBackend {
    store: Arc<dyn ObjectStore>,
    pub(super) remover: Arc<dyn RemoveObject>,
    pub(super) bucket: Bucket,
}

impl fmt::Debug for CloudBackend {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CloudDriver({})", self.bucket.url)
    }
}

impl CloudBackend {
    pub(super) fn new<S>(store: S, quirks: Quirks, prefix: &str, url: &str) -> Self
    where
        S: ObjectStore + PaginatedListStore,
    {
        let store = Arc::new(store);
        Self {
            remover: Arc::clone(&store) as Arc<dyn RemoveObject>,
            bucket: Bucket {
                lister: Arc::clone(&store) as Arc<dyn PaginatedListStore>,
                quirks,
                prefix: prefix.into(),
                url: url.into(),
            },
            store,
        }
    }

    /// Runs one operation of object_store and converts its error.
    async fn run<T>(
        &self,
        attempt: Attempt<'_>,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, AttemptError> {
        let (result, log) = RequestLog::record(false, operation).await;
        result.map_err(|error| {
            let outcome = log.outcome();
            AttemptError {
                hides: self.bucket.quirks == Quirks::S3 && lacks_permission(&outcome),
                failure: self.bucket.failure(attempt, &outcome, &error),
                coded: matches!(&outcome, RequestOutcome::Reply(seen) if seen.error.is_exact()),
                refused: log.is_refused(),
            }
        })
    }

    /// Reads the stamp from a reply, and whether there is an unreadable one. Refuses a reply that no
    /// store can have sent.
    fn stamp(
        &self,
        attempt: Attempt<'_>,
        result: &GetResult,
    ) -> Result<(Option<SignedStamp>, bool), Failure> {
        // A captive portal or proxy that answers 200 to everything sends neither.
        if result.meta.e_tag.is_none() && result.meta.last_modified.timestamp() == 0 {
            return Err(self.bucket.refusal(
                Kind::Unreachable,
                attempt,
                "the answer is not from a store",
            ));
        }
        let names = self.bucket.quirks.names();
        let stamp = stamp_from_attributes(&result.attributes, result.meta.size, names);
        Ok((stamp.unwrap_or_default(), stamp.is_err()))
    }

    /// Makes the token of a content that was read.
    fn token(&self, meta: &ObjectMeta) -> Option<Token> {
        self.bucket
            .quirks
            .token(meta.e_tag.as_deref(), meta.version.as_deref())
    }

    /// Confirms a failing reply without an error code, as after HEAD or from a gateway. "Not found"
    /// claims that the listing shows nothing, and "bad request" may mean an expired token. S3 also
    /// denies access to a missing object if the user lacks the permission to list.
    async fn confirmed(&self, failed: AttemptError) -> Refused {
        let AttemptError {
            failure,
            coded,
            hides,
            ..
        } = failed;
        if hides {
            return match self.probe().await {
                Err(probed) if probed.kind == Kind::Denied => probed.into(),
                _ => failure.into(),
            };
        }
        match failure.kind {
            Kind::NotFound if !coded => Refused {
                failure,
                claim: Some(Claim::Absent),
            },
            Kind::Invalid if !coded => self.probe().await.err().unwrap_or(failure).into(),
            _ => failure.into(),
        }
    }

    /// Asks for an object until the reply is proven.
    async fn prove<T, F>(&self, attempt: Attempt<'_>, ask: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Reply<T>>,
    {
        let refuse = |why: &str| {
            let fix = "a portal or a proxy may be answering in the store's place";
            let failure = self.bucket.refusal(Kind::Unreachable, attempt, why);
            failure.with_fix(Some(fix.into()))
        };
        proven(ask, || self.bucket.listed(attempt.key), refuse).await
    }

    async fn get_once(&self, attempt: Attempt<'_>, limit: u64) -> Reply<Stored> {
        let path = self.bucket.path(attempt.key)?;
        let too_big = |size: u64| {
            let why = format!("it has {size} bytes, more than the {limit} allowed");
            self.bucket.refusal(Kind::TooBig, attempt, &why)
        };
        // Read the body inside `run`: object_store may send another request for its rest.
        let read = async {
            let result = self.store.get_opts(&path, GetOptions::default()).await?;
            let (meta, stamp) = (result.meta.clone(), self.stamp(attempt, &result));
            let kind = result.attributes.get(&Attribute::ContentType);
            let is_page = kind.is_some_and(|kind| kind.starts_with("text/html"));
            let mut content = Vec::new();
            if stamp.is_err() || meta.size > limit {
                return Ok((meta, stamp, is_page, content));
            }
            let mut stream = result.into_stream();
            while let Some(chunk) = stream.next().await {
                content.extend_from_slice(&chunk?);
                if content.len() as u64 > limit {
                    break;
                }
            }
            Ok((meta, stamp, is_page, content))
        };
        let (meta, stamp, is_page, content) = match self.run(attempt, read).await {
            Err(failed) => return Err(self.confirmed(failed).await),
            Ok(read) => read,
        };
        let (stamp, unreadable) = stamp?;
        let size = meta.size.max(content.len() as u64);
        if size > limit {
            return Err(too_big(size).into());
        }
        if content.len() as u64 != meta.size {
            let cut = self
                .bucket
                .refusal(Kind::Unreachable, attempt, "the body was cut off");
            return Err(cut.into());
        }
        let stored = Stored {
            content: content.into(),
            stamp,
            unreadable,
            token: self.token(&meta),
            modified: meta.last_modified.into(),
        };
        // The target compares a stamp with the bytes, and wrong bytes are replaced: but not by
        // reason of a web page with the headers of the object.
        let proven = stamp.is_some_and(|it| !is_page || it.stamp.matches(&stored.content));
        let claim = (!proven).then(|| Claim::from(&stored));
        Ok((stored, claim))
    }

    async fn head_once(&self, attempt: Attempt<'_>) -> Reply<Listed> {
        let path = self.bucket.path(attempt.key)?;
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let head = self.run(attempt, self.store.get_opts(&path, options));
        let result = match head.await {
            Err(failed) => return Err(self.confirmed(failed).await),
            Ok(result) => result,
        };
        let (stamp, unreadable) = self.stamp(attempt, &result)?;
        let listed = Listed {
            key: attempt.key.into(),
            size: result.meta.size,
            stamp,
            unreadable,
            token: self.token(&result.meta),
            modified: result.meta.last_modified.into(),
        };
        let claim = listed.stamp.is_none().then(|| Claim::from(&listed));
        Ok((listed, claim))
    }

    /// Checks the object after a failed conditional put. The put may have succeeded although its
    /// reply was lost; then the retried put itself breaks the condition.
    async fn settle(
        &self,
        key: &str,
        stamp: &SignedStamp,
        failed: Failure,
    ) -> Result<Option<Token>, Failure> {
        match self.head(key).await {
            Ok(there) if there.stamp.as_ref() == Some(stamp) => Ok(there.token),
            Err(missing) if missing.kind == Kind::StoreMissing => Err(missing),
            _ => Err(failed),
        }
    }
}

#[async_trait]
impl Backend for CloudBackend {
    async fn get(&self, key: &str, limit: u64) -> Result<Stored, Failure> {
        let attempt = Attempt::new("read", key, StoreOperation::Read);
        self.prove(attempt, || self.get_once(attempt, limit)).await
    }

    async fn head(&self, key: &str) -> Result<Listed, Failure> {
        let attempt = Attempt::new("look up", key, StoreOperation::Read);
        self.prove(attempt, || self.head_once(attempt)).await
    }

    async fn put(
        &self,
        key: &str,
        content: Bytes,
        stamp: &SignedStamp,
        condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        let path = self.bucket.path(key)?;
        let (mode, operation) = match condition {
            Condition::None => (PutMode::Overwrite, StoreOperation::Write),
            Condition::Absent => (PutMode::Create, StoreOperation::WriteIf),
            Condition::Unchanged(expected) => {
                let Some(version) = self.bucket.quirks.version(expected) else {
                    let attempt = Attempt::new("write", key, StoreOperation::WriteIf);
                    let why = "the token does not belong to this store";
                    return Err(self.bucket.refusal(Kind::Conflict, attempt, why));
                };
                (PutMode::Update(version), StoreOperation::WriteIf)
            }
        };
        let attempt = Attempt::new("write", key, operation);
        let options = PutOptions {
            mode,
            attributes: stamp_to_attributes(stamp, &content, self.bucket.quirks.names()),
            ..PutOptions::default()
        };
        let put = self.store.put_opts(&path, content.into(), options);
        match self.run(attempt, put).await {
            Ok(result) => Ok(self
                .bucket
                .quirks
                .token(result.e_tag.as_deref(), result.version.as_deref())),
            Err(AttemptError {
                failure,
                refused: false,
                ..
            }) if operation == StoreOperation::WriteIf
                && (failure.kind == Kind::Conflict || failure.is_outage()) =>
            {
                self.settle(key, stamp, failure).await
            }
            Err(AttemptError { failure, .. }) => Err(failure),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        let path = self.bucket.path(key)?;
        let attempt = Attempt::new("delete", key, StoreOperation::Delete);
        match self.run(attempt, self.remover.remove(&path)).await {
            Err(AttemptError { failure, .. }) if failure.kind != Kind::NotFound => Err(failure),
            _ => Ok(()),
        }
    }

    async fn list_up_to(&self, prefix: &str, last: Option<&str>) -> Result<Vec<Listed>, Failure> {
        let attempt = Attempt::new("list", prefix, StoreOperation::List);
        let within = format!("{prefix}/");
        let pages = self.bucket.pages(attempt, &within, false, last).await?;
        let objects = pages.into_iter().flat_map(|page| page.objects);
        let listed = objects.map(|object| self.bucket.shown(object));
        Ok(listed
            .filter(|listed| last.is_none_or(|last| &*listed.key <= last))
            .collect())
    }

    async fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        let attempt = Attempt::new("list", "the repositories", StoreOperation::List);
        let pages = self.bucket.pages(attempt, "", true, None).await?;
        let prefixes = pages.into_iter().flat_map(|page| page.prefixes);
        Ok(prefixes
            .map(|prefix| {
                let relative = self.bucket.relative(&prefix);
                relative.strip_suffix('/').unwrap_or(relative).into()
            })
            .collect())
    }

    fn keeps_time(&self) -> bool {
        true
    }

    async fn probe(&self) -> Result<(), Failure> {
        let attempt = Attempt::new("list", "the store", StoreOperation::List);
        let page = self.bucket.page(attempt, "", false, Some(1), None);
        page.await.map(drop)
    }
}
