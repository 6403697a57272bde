//! Deleting: one request an object, so that the reply is about this object and nothing else.

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};

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
