//! The backend for a bucket or container: one implementation over object_store for every provider.

use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, GetResult, ObjectMeta, ObjectStore, PutMode, PutOptions,
};

use super::quirks::{Quirks, RemoveObject};
use super::quirks::{stamp_from_attributes, stamp_from_listing, stamp_to_attributes};
use crate::model::Stamp;
use crate::store::http::failure::{
    Attempt, AttemptError, failure, lacks_permission, no_store, refusal,
};
use crate::store::http::middleware::RequestLog;
use crate::store::http::opening::{OpenError, invalid};
use crate::store::http::reply::{Provider, RequestOutcome};
use crate::store::http::verdict::StoreOperation;
use crate::store::http::xml::ListPage;
use crate::store::{Backend, Condition, Failure, Kind, Listed, Stored, Token};

/// A cloud store: a bucket, and the prefix in it.
pub(crate) struct CloudBackend {
    store: Arc<dyn ObjectStore>,
    pub(super) lister: Arc<dyn PaginatedListStore>,
    pub(super) remover: Arc<dyn RemoveObject>,
    quirks: Quirks,
    /// Without leading or trailing slashes; empty for the whole bucket.
    prefix: String,
    url: String,
}

impl fmt::Debug for CloudBackend {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CloudDriver({})", self.url)
    }
}

impl CloudBackend {
    pub(super) fn new<S>(store: S, quirks: Quirks, prefix: &str, url: &str) -> Self
    where
        S: ObjectStore + PaginatedListStore,
    {
        let store = Arc::new(store);
        Self {
            lister: Arc::clone(&store) as Arc<dyn PaginatedListStore>,
            remover: Arc::clone(&store) as Arc<dyn RemoveObject>,
            store,
            quirks,
            prefix: prefix.into(),
            url: url.into(),
        }
    }

    /// Returns the exact path of a key in the bucket; refuses a key that object_store would
    /// normalise to another one.
    fn path(&self, key: &str) -> Result<Path, Failure> {
        let full = match self.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        };
        match Path::parse(&full) {
            Ok(path) if path.as_ref() == full && !full.is_empty() && self.quirks.keeps(&full) => {
                Ok(path)
            }
            _ => Err(Failure::new(
                Kind::Invalid,
                format!("invalid key at {}: {key:?}", self.url),
            )),
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
                hides: self.quirks == Quirks::S3 && lacks_permission(&outcome),
                failure: self.failure(attempt, &outcome, &error),
                coded: matches!(&outcome, RequestOutcome::Reply(seen) if seen.error.is_exact()),
                refused: log.is_refused(),
            }
        })
    }

    /// Reads the stamp from a reply, and refuses a reply that no store can have sent.
    fn stamp(&self, attempt: Attempt<'_>, result: &GetResult) -> Result<Option<Stamp>, Failure> {
        // A captive portal or proxy that answers 200 to everything sends neither.
        if result.meta.e_tag.is_none() && result.meta.last_modified.timestamp() == 0 {
            return Err(self.refusal(Kind::Unreachable, attempt, "the answer is not from a store"));
        }
        stamp_from_attributes(&result.attributes, result.meta.size, self.quirks.names())
            .map_err(|unreadable| self.refusal(Kind::Corrupt, attempt, &unreadable.to_string()))
    }

    /// Makes the token of a content that was read.
    fn token(&self, meta: &ObjectMeta) -> Option<Token> {
        self.quirks
            .token(meta.e_tag.as_deref(), meta.version.as_deref())
    }

    /// Confirms a reply without an error code, as after HEAD or from a gateway. "Not found" may be
    /// about the bucket, and "bad request" may mean an expired token; a listing tells. S3 also
    /// denies access to a missing object if the user lacks the permission to list.
    async fn confirmed(&self, failure: AttemptError) -> Failure {
        let AttemptError {
            failure,
            coded,
            hides,
            ..
        } = failure;
        if hides {
            return match self.probe().await {
                Err(probed) if probed.kind == Kind::Denied => probed,
                _ => failure,
            };
        }
        if coded || !matches!(failure.kind, Kind::NotFound | Kind::Invalid) {
            return failure;
        }
        match self.probe().await {
            Err(probed) if failure.kind == Kind::Invalid => probed,
            Err(probed) if probed.kind == Kind::StoreMissing => probed,
            _ => failure,
        }
    }

    /// Checks the object after a failed conditional put. The put may have succeeded although its
    /// reply was lost; then the retried put itself breaks the condition.
    async fn settle(
        &self,
        key: &str,
        stamp: &Stamp,
        failed: Failure,
    ) -> Result<Option<Token>, Failure> {
        match self.head(key).await {
            Ok(there) if there.stamp.as_ref() == Some(stamp) => Ok(there.token),
            Err(missing) if missing.kind == Kind::StoreMissing => Err(missing),
            _ => Err(failed),
        }
    }

    /// Makes the failure of an attempt from the observed outcome.
    pub(super) fn failure(
        &self,
        attempt: Attempt<'_>,
        outcome: &RequestOutcome,
        error: &StoreError,
    ) -> Failure {
        let failure = failure(&self.url, attempt, outcome, error, None);
        Provider::from(self.quirks).explained(failure, attempt.operation, outcome)
    }

    pub(super) fn refusal(&self, kind: Kind, attempt: Attempt<'_>, why: &str) -> Failure {
        refusal(&self.url, kind, attempt, why)
    }

    /// Requests one page of a listing of the keys that start with `<prefix>/<within>`.
    pub(super) async fn page(
        &self,
        attempt: Attempt<'_>,
        within: &str,
        delimited: bool,
        max_keys: Option<usize>,
        from: Option<String>,
    ) -> Result<ListPage, Failure> {
        let prefix = match self.prefix.as_str() {
            "" => within.to_owned(),
            prefix => format!("{prefix}/{within}"),
        };
        let options = PaginatedListOptions {
            delimiter: delimited.then_some("/".into()),
            max_keys,
            page_token: from,
            ..PaginatedListOptions::default()
        };
        let prefix = Some(prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let listing = self.lister.list_paginated(prefix, options);
        let (result, log) = RequestLog::record(true, listing).await;
        match (result, log.page()) {
            (Ok(_), Some(page)) => Ok(page),
            (Ok(_), None) => {
                let (why, fix) = match log.outcome() {
                    RequestOutcome::Reply(seen) => (seen.error.code.clone(), no_store(&seen)),
                    RequestOutcome::Unsent | RequestOutcome::Broken { .. } => (None, None),
                };
                let why = why.unwrap_or_else(|| "the answer is not a listing".into());
                let failure = self.refusal(Kind::Unreachable, attempt, &why);
                Err(failure.with_fix(fix))
            }
            (Err(error), _) => Err(self.failure(attempt, &log.outcome(), &error)),
        }
    }

    /// Collects all pages of a listing.
    pub(super) async fn pages(
        &self,
        attempt: Attempt<'_>,
        within: &str,
        delimited: bool,
    ) -> Result<Vec<ListPage>, Failure> {
        let mut pages: Vec<ListPage> = Vec::new();
        let mut from: Option<String> = None;
        loop {
            let page = self.page(attempt, within, delimited, None, from.clone());
            let page = page.await?;
            let next = page.next.clone();
            pages.push(page);
            match next {
                None => return Ok(pages),
                same if same == from => {
                    let why = "the listing repeats itself";
                    return Err(self.refusal(Kind::Unreachable, attempt, why));
                }
                next => from = next,
            }
        }
    }

    /// Returns a key of the bucket relative to the target's URL. A key outside the prefix (from a
    /// store that ignores prefixes) stays whole.
    pub(super) fn relative<'k>(&self, key: &'k str) -> &'k str {
        match self.prefix.as_str() {
            "" => key,
            prefix => key
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_prefix('/'))
                .unwrap_or(key),
        }
    }
}

#[async_trait]
impl Backend for CloudBackend {
    async fn get(&self, key: &str, limit: u64) -> Result<Stored, Failure> {
        let path = self.path(key)?;
        let attempt = Attempt::new("read", key, StoreOperation::Read);
        let too_big = |size: u64| {
            let why = format!("it has {size} bytes, more than the {limit} allowed");
            self.refusal(Kind::TooBig, attempt, &why)
        };
        // Read the body inside `run`: object_store may send another request for its rest.
        let read = async {
            let result = self.store.get_opts(&path, GetOptions::default()).await?;
            let (meta, stamp) = (result.meta.clone(), self.stamp(attempt, &result));
            if stamp.is_err() || meta.size > limit {
                return Ok((meta, stamp, Vec::new()));
            }
            let mut content = Vec::new();
            let mut stream = result.into_stream();
            while let Some(chunk) = stream.next().await {
                content.extend_from_slice(&chunk?);
                if content.len() as u64 > limit {
                    break;
                }
            }
            Ok((meta, stamp, content))
        };
        let (meta, stamp, content) = match self.run(attempt, read).await {
            Err(failure) => return Err(self.confirmed(failure).await),
            Ok(read) => read,
        };
        let stamp = stamp?;
        let size = meta.size.max(content.len() as u64);
        if size > limit {
            return Err(too_big(size));
        }
        if content.len() as u64 != meta.size {
            return Err(self.refusal(Kind::Unreachable, attempt, "the body was cut off"));
        }
        let stored = Stored {
            content: content.into(),
            stamp,
            token: self.token(&meta),
            modified: meta.last_modified.into(),
        };
        if !self.quirks.vouches(&stored) {
            // `rclone serve s3` may send the size of one content and the bytes of the next.
            let there = self.head(key).await?;
            if (there.size, &there.token) != (size, &stored.token) {
                return Err(self.refusal(Kind::Busy, attempt, "it changed during the read"));
            }
        }
        Ok(stored)
    }

    async fn head(&self, key: &str) -> Result<Listed, Failure> {
        let path = self.path(key)?;
        let attempt = Attempt::new("look up", key, StoreOperation::Read);
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let head = self.run(attempt, self.store.get_opts(&path, options));
        let result = match head.await {
            Err(failure) => return Err(self.confirmed(failure).await),
            Ok(result) => result,
        };
        Ok(Listed {
            key: key.into(),
            size: result.meta.size,
            stamp: self.stamp(attempt, &result)?,
            token: self.token(&result.meta),
            modified: result.meta.last_modified.into(),
        })
    }

    async fn put(
        &self,
        key: &str,
        content: Bytes,
        stamp: &Stamp,
        condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        let path = self.path(key)?;
        let (mode, operation) = match condition {
            Condition::None => (PutMode::Overwrite, StoreOperation::Write),
            Condition::Absent => (PutMode::Create, StoreOperation::WriteIf),
            Condition::Unchanged(expected) => {
                let Some(version) = self.quirks.version(expected) else {
                    let attempt = Attempt::new("write", key, StoreOperation::WriteIf);
                    let why = "the token does not belong to this store";
                    return Err(self.refusal(Kind::Conflict, attempt, why));
                };
                (PutMode::Update(version), StoreOperation::WriteIf)
            }
        };
        let attempt = Attempt::new("write", key, operation);
        let options = PutOptions {
            mode,
            attributes: stamp_to_attributes(stamp, &content, self.quirks.names()),
            ..PutOptions::default()
        };
        let put = self.store.put_opts(&path, content.into(), options);
        match self.run(attempt, put).await {
            Ok(result) => Ok(self
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
        let path = self.path(key)?;
        let attempt = Attempt::new("delete", key, StoreOperation::Delete);
        match self.run(attempt, self.remover.remove(&path)).await {
            Err(AttemptError { failure, .. }) if failure.kind != Kind::NotFound => Err(failure),
            _ => Ok(()),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Failure> {
        let attempt = Attempt::new("list", prefix, StoreOperation::List);
        let pages = self.pages(attempt, &format!("{prefix}/"), false).await?;
        let objects = pages.into_iter().flat_map(|page| page.objects);
        Ok(objects
            .map(|object| Listed {
                key: self.relative(&object.key).into(),
                size: object.size,
                stamp: stamp_from_listing(&object, self.quirks.names()),
                token: self
                    .quirks
                    .token(object.e_tag.as_deref(), object.generation.as_deref()),
                modified: object.modified.unwrap_or(UNIX_EPOCH),
            })
            .collect())
    }

    async fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        let attempt = Attempt::new("list", "the repositories", StoreOperation::List);
        let pages = self.pages(attempt, "", true).await?;
        let prefixes = pages.into_iter().flat_map(|page| page.prefixes);
        Ok(prefixes
            .map(|prefix| {
                let relative = self.relative(&prefix);
                relative.strip_suffix('/').unwrap_or(relative).into()
            })
            .collect())
    }

    async fn probe(&self) -> Result<(), Failure> {
        let attempt = Attempt::new("list", "the store", StoreOperation::List);
        let page = self.page(attempt, "", false, Some(1), None);
        page.await.map(drop)
    }
}

/// Opens a store, or explains in one line why it can't be opened.
pub(super) fn opened(
    url: &str,
    build: impl FnOnce() -> Result<CloudBackend, OpenError>,
) -> Result<CloudBackend, Failure> {
    let possible = |driver: CloudBackend| {
        driver
            .path("app/schema")
            .map(|_| driver)
            .map_err(|_| invalid("the prefix can't be part of a key"))
    };
    build().and_then(possible).map_err(|(kind, why)| Failure {
        // The reason says what to do.
        fix: Some(why.clone()),
        ..Failure::new(kind, format!("cannot open {url}: {why}")).before_asking()
    })
}
