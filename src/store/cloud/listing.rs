//! The listing of a cloud store, page by page.

use object_store::Error as StoreError;
use object_store::list::PaginatedListOptions;

use super::CloudBackend;
use crate::store::http::failure::{Attempt, failure, no_store, refusal};
use crate::store::http::middleware::{Exchange, Outcome};
use crate::store::http::opening::{Refusal, invalid};
use crate::store::http::permission::Provider;
use crate::store::http::xml::Page;
use crate::store::{Failure, Kind};

impl CloudBackend {
    /// Asks for one page of a listing of what starts with `<prefix>/<within>`.
    pub(super) async fn page(
        &self,
        attempt: Attempt<'_>,
        within: &str,
        delimited: bool,
        max_keys: Option<usize>,
        from: Option<String>,
    ) -> Result<Page, Failure> {
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
        let (result, exchange) = Exchange::of(true, listing).await;
        match (result, exchange.page()) {
            (Ok(_), Some(page)) => Ok(page),
            (Ok(_), None) => {
                let (why, fix) = match exchange.outcome() {
                    Outcome::Reply(seen) => (seen.error.code.clone(), no_store(&seen)),
                    Outcome::Unsent | Outcome::Broken { .. } => (None, None),
                };
                let why = why.unwrap_or_else(|| "the answer is not a listing".into());
                let failure = self.refusal(Kind::Unreachable, attempt, &why);
                Err(failure.with_fix(fix))
            }
            (Err(error), _) => Err(self.failure(attempt, &exchange.outcome(), &error)),
        }
    }

    /// Collects all pages of a listing.
    pub(super) async fn pages(
        &self,
        attempt: Attempt<'_>,
        within: &str,
        delimited: bool,
    ) -> Result<Vec<Page>, Failure> {
        let mut pages: Vec<Page> = Vec::new();
        let mut from: Option<String> = None;
        loop {
            let page = self.page(attempt, within, delimited, None, from.clone());
            let page = page.await?;
            let next = page.next.clone();
            pages.push(page);
            match next {
                None => return Ok(pages),
                same if same == from => {
                    let why = "the listing goes round in circles";
                    return Err(self.refusal(Kind::Unreachable, attempt, why));
                }
                next => from = next,
            }
        }
    }

    /// Returns a key of the bucket relative to the target's URL. One that is not below it (a
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

impl CloudBackend {
    /// Makes the failure of an attempt from what was seen of it.
    pub(super) fn failure(
        &self,
        attempt: Attempt<'_>,
        outcome: &Outcome,
        error: &StoreError,
    ) -> Failure {
        let failure = failure(&self.url, attempt, outcome, error, None);
        Provider::from(self.dialect).explained(failure, attempt.asked, outcome)
    }

    pub(super) fn refusal(&self, kind: Kind, attempt: Attempt<'_>, why: &str) -> Failure {
        refusal(&self.url, kind, attempt, why)
    }
}

/// Opens a store, or says in one line why it can't be opened.
pub(super) fn opened(
    url: &str,
    build: impl FnOnce() -> Result<CloudBackend, Refusal>,
) -> Result<CloudBackend, Failure> {
    let possible = |driver: CloudBackend| {
        driver
            .path("app/schema")
            .map(|_| driver)
            .map_err(|_| invalid("the prefix can't be part of a key"))
    };
    build().and_then(possible).map_err(|(kind, why)| Failure {
        // What is refused here is refused with what to do.
        fix: Some(why.clone()),
        ..Failure::new(kind, format!("cannot open {url}: {why}")).before_asking()
    })
}
