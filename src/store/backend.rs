//! The one narrow interface that every store is driven through.
//!
//! A driver knows keys, bytes and stamps; it knows nothing of repositories, deadlines, fallback
//! or verdicts over several targets. A key is relative to the target's URL and made of validated
//! names (`app/plans/p1`), never of user input as it came.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use super::Failure;
use crate::model::Stamp;

/// The store's mark that tells one content of a key from the next: an ETag, a generation, or what
/// the driver makes up for the purpose. Opaque above the driver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Token(pub String);

/// When a write may replace what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    None,
    /// Only if the key has no content.
    Absent,
    /// Only if the content is still the one that the token was given for.
    Unchanged(Token),
}

/// An object as read from a store. The driver has not compared content and stamp; `Target` does.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The content.
    pub content: Bytes,
    /// The stamp that the store keeps with the content; `None` for what was put there by hand.
    pub stamp: Option<Stamp>,
    /// The token of this content, where the store gives one.
    pub token: Option<Token>,
    /// The store's own time of the content.
    pub modified: SystemTime,
}

/// An object as a listing (or HEAD) shows it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The key, relative to the target's URL.
    pub key: String,
    /// The size in bytes.
    pub size: u64,
    /// The stamp, where the store's listing carries it (`file` does, S3's LIST does not).
    pub stamp: Option<Stamp>,
    /// The token of the content, where the store's listing gives one.
    pub token: Option<Token>,
    /// The store's own time of the content.
    pub modified: SystemTime,
}

/// One store.
///
/// Futures may be dropped at any await point: a write is then either not there or there whole.
/// Drivers set no deadline of their own; the caller's `Target` does.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Reads an object: its content, stamp and token. One of more than `limit` bytes is refused
    /// ([`Kind::TooBig`](super::Kind::TooBig)) and never read into memory.
    async fn get(&self, key: &str, limit: u64) -> Result<Stored, Failure>;

    /// Reads what is known of an object without its content (never used to fill a listing).
    async fn head(&self, key: &str) -> Result<Listed, Failure>;

    /// Writes an object and its stamp, as one: no reader ever sees one without the other. When it
    /// returns `Ok` the object is durable. Returns the new content's token.
    async fn put(
        &self,
        key: &str,
        content: Bytes,
        stamp: &Stamp,
        condition: &Condition,
    ) -> Result<Option<Token>, Failure>;

    /// Deletes an object; one that isn't there is deleted already.
    async fn delete(&self, key: &str) -> Result<(), Failure>;

    /// Lists every object whose key starts with `prefix` + `/`, at any depth.
    ///
    /// Keys that can't be parsed as a path (`..`, `//`, control characters) are part of the
    /// answer, as they stand: hiding them is the caller's business, failing over them is nobody's.
    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Failure>;

    /// Lists the first segments of all keys that have more than one (the repositories).
    async fn list_prefixes(&self) -> Result<Vec<String>, Failure>;

    /// Tries whether the store is there and lets itself be listed.
    async fn probe(&self) -> Result<(), Failure>;

    /// Tells why this version has no backend for the store: it is then never asked anything.
    fn unsupported(&self) -> Option<&Failure> {
        None
    }

    /// Tells whether the store honours [`Condition`]s, if the driver knows or has a way of its own
    /// to find out; `None` if that shows when it is written to.
    async fn try_conditions(&self) -> Result<Option<Capabilities>, Failure> {
        Ok(None)
    }
}

/// The capabilities that a store has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether it honours conditions.
    pub honours_conditions: bool,
    /// Its refusal of another thing that a mount needs: to read an object, or to delete it.
    pub refused: Option<Failure>,
}

tokio::task_local! {
    static WAITING: Waiting;
}

/// The thing that one operation waits for, as far as its driver has said.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<Option<String>>>);

impl Waiting {
    /// Runs an operation whose driver may say what it waits for.
    pub(super) async fn over<T>(&self, operation: impl Future<Output = T>) -> T {
        WAITING.scope(self.clone(), operation).await
    }

    /// Returns that of the operation which is running, to be carried to another thread.
    pub(super) fn current() -> Self {
        WAITING.try_with(Self::clone).unwrap_or_default()
    }

    /// Runs the part of an operation that blocks this thread.
    pub(super) fn on_thread<T>(self, operation: impl FnOnce() -> T) -> T {
        WAITING.sync_scope(self, operation)
    }

    /// Returns what the operation was waiting for last.
    pub(super) fn last(&self) -> Option<String> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.clone()
    }

    fn set(&self, what: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

/// Notes what the operation that is running waits for from here on; `None` for nothing special.
pub(super) fn waits_for(what: Option<String>) {
    // Nobody may be listening: in a test of the driver alone.
    let _ = WAITING.try_with(|waiting| waiting.set(what));
}
