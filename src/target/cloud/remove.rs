//! Deleting: one request an object, so that the reply is about this object and nothing else.

use std::time::Duration;

use async_trait::async_trait;
use object_store::azure::{AzureAuthorizer, AzureCredentialProvider};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use url::Url;

/// Deletes objects.
#[async_trait]
pub(super) trait Remove: Send + Sync {
    /// Deletes an object; one that isn't there may be an error.
    async fn remove(&self, path: &Path) -> Result<(), StoreError>;
}

#[async_trait]
impl<S: ObjectStore> Remove for S {
    async fn remove(&self, path: &Path) -> Result<(), StoreError> {
        self.delete(path).await
    }
}

/// Deletes blobs of a container.
///
/// object_store has only Azure's batch: its reply is a 202 whatever becomes of the blob, and many
/// a SAS and many a gateway doesn't allow it.
pub(super) struct AzureRemove {
    pub(super) client: HttpClient,
    pub(super) credentials: AzureCredentialProvider,
    pub(super) account: String,
    /// The container's URL.
    pub(super) container: Url,
}

/// As long as object_store waits before it tries again.
const PAUSE: Duration = Duration::from_millis(50);

#[async_trait]
impl Remove for AzureRemove {
    async fn remove(&self, path: &Path) -> Result<(), StoreError> {
        // As often as everything else is tried: once more.
        match self.send(path).await {
            Ok(status) if status == 429 || status >= 500 => {}
            Ok(status) => return done(status),
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
        done(self.send(path).await?)
    }
}

impl AzureRemove {
    async fn send(&self, path: &Path) -> Result<u16, StoreError> {
        let credential = self.credentials.get_credential().await?;
        let mut url = self.container.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path.parts());
        }
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = "DELETE".parse().map_err(generic)?;
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
        store: "azure",
        source: source.into(),
    }
}
