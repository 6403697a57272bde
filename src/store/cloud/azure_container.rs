//! What a container of Azure is asked around object_store: to delete one blob, and to list with
//! each blob's metadata.

use std::time::Duration;

use async_trait::async_trait;
use object_store::azure::{AzureAuthorizer, AzureCredentialProvider};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{Error as StoreError, ListResult};
use url::Url;

use super::remove::Remove;
use crate::store::http::credential_cache::CredentialError;

/// As long as object_store waits before it tries again.
const PAUSE: Duration = Duration::from_millis(50);

/// A container, and what opens it.
pub(super) struct Container {
    pub(super) client: HttpClient,
    pub(super) credentials: AzureCredentialProvider,
    pub(super) account: String,
    /// The container's URL.
    pub(super) url: Url,
}

/// object_store has only Azure's batch: its reply is a 202 whatever becomes of the blob, and many
/// a SAS and many a gateway doesn't allow it.
#[async_trait]
impl Remove for Container {
    async fn remove(&self, path: &Path) -> Result<(), StoreError> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path.parts());
        }
        self.ask("DELETE", &url).await
    }
}

/// object_store doesn't ask for the metadata, and so a listing would have no stamps.
#[async_trait]
impl PaginatedListStore for Container {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        options: PaginatedListOptions,
    ) -> Result<PaginatedListResult, StoreError> {
        let mut url = self.url.clone();
        let most = options.max_keys.map(|most| most.to_string());
        url.query_pairs_mut()
            .extend_pairs([
                ("restype", "container"),
                ("comp", "list"),
                ("include", "metadata"),
            ])
            .extend_pairs(prefix.map(|prefix| ("prefix", prefix)))
            .extend_pairs(options.delimiter.map(|delimiter| ("delimiter", delimiter)))
            .extend_pairs(options.page_token.map(|token| ("marker", token)))
            .extend_pairs(most.map(|most| ("maxresults", most)));
        self.ask("GET", &url).await?;
        // The page itself is read within the exchange.
        Ok(PaginatedListResult {
            result: ListResult {
                common_prefixes: Vec::new(),
                objects: Vec::new(),
                extensions: Default::default(),
            },
            page_token: None,
        })
    }
}

impl Container {
    /// Sends a request, as often as everything else is tried: once more.
    async fn ask(&self, method: &str, url: &Url) -> Result<(), StoreError> {
        match self.send(method, url).await {
            Ok(status) if status == 429 || status >= 500 => {}
            Ok(status) => return done(status),
            Err(error) if CredentialError::of(&error).is_some() => return Err(error),
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
        done(self.send(method, url).await?)
    }

    async fn send(&self, method: &str, url: &Url) -> Result<u16, StoreError> {
        let credential = self.credentials.get_credential().await?;
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method.parse().map_err(generic)?;
        *request.uri_mut() = url.as_str().parse().map_err(generic)?;
        AzureAuthorizer::new(&credential, &self.account).try_authorize(&mut request)?;
        let response = self.client.execute(request).await.map_err(generic)?;
        Ok(response.status().as_u16())
    }
}

fn done(status: u16) -> Result<(), StoreError> {
    match status {
        200..=299 => Ok(()),
        refused => Err(generic(format!("status {refused}"))),
    }
}

fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Generic {
        store: "MicrosoftAzure",
        source: source.into(),
    }
}
