//! A bucket or container: its keys, its listing, and the failures of attempts at it.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use object_store::Error as StoreError;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;

use super::quirks::{Quirks, stamp_from_listing};
use crate::store::http::failure::{Attempt, failure, no_store, refusal};
use crate::store::http::middleware::RequestLog;
use crate::store::http::reply::{Provider, RequestOutcome};
use crate::store::http::verdict::StoreOperation;
use crate::store::http::xml::{ListPage, ListedObject};
use crate::store::{Failure, Kind, Listed};

/// A bucket, and the prefix in it.
pub(super) struct Bucket {
    pub(super) lister: Arc<dyn PaginatedListStore>,
    pub(super) quirks: Quirks,
    /// Without leading or trailing slashes; empty for the whole bucket.
    pub(super) prefix: String,
    pub(super) url: String,
}

impl Bucket {
    /// Returns the exact path of a key in the bucket; refuses a key that object_store would
    /// normalise to another one.
    pub(super) fn path(&self, key: &str) -> Result<Path, Failure> {
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

    /// Looks an object up in the listing.
    pub(super) async fn listed(&self, key: &str) -> Result<Option<Listed>, Failure> {
        let attempt = Attempt::new("look up", key, StoreOperation::List);
        let mut from = None;
        loop {
            // A key comes before all others that begin with it.
            let page = self
                .page(attempt, key, false, Some(1), from.clone())
                .await?;
            let mut objects = page.objects.into_iter().map(|object| self.shown(object));
            match (objects.next(), page.next) {
                // Azure's pages may be empty.
                (None, next @ Some(_)) if next != from => from = next,
                (first, _) => return Ok(first.into_iter().chain(objects).find(|it| it.key == key)),
            }
        }
    }

    /// Returns an object of a listing.
    pub(super) fn shown(&self, object: ListedObject) -> Listed {
        Listed {
            key: self.relative(&object.key).into(),
            size: object.size,
            stamp: stamp_from_listing(&object, self.quirks.names()),
            unreadable: false,
            token: self
                .quirks
                .token(object.e_tag.as_deref(), object.generation.as_deref()),
            modified: object.modified.unwrap_or(UNIX_EPOCH),
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

    /// Collects the pages of a listing, up to the one that goes past the key `last`. Stores list in
    /// the order of the keys.
    pub(super) async fn pages(
        &self,
        attempt: Attempt<'_>,
        within: &str,
        delimited: bool,
        last: Option<&str>,
    ) -> Result<Vec<ListPage>, Failure> {
        let mut pages: Vec<ListPage> = Vec::new();
        let mut from: Option<String> = None;
        loop {
            let page = self.page(attempt, within, delimited, None, from.clone());
            let page = page.await?;
            let end = page.objects.last();
            let is_past = end
                .zip(last)
                .is_some_and(|(end, last)| self.relative(&end.key) > last);
            let next = page.next.clone().filter(|_| !is_past);
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
