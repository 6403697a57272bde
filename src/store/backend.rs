//! The narrow interface that every store implements.
//!
//! A backend handles keys, bytes and stamps. It has no notion of repositories, deadlines, fallback
//! or verdicts over several targets. A key is relative to the target's URL and consists of
//! validated names (`app/plans/p1`), never of raw user input.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Failure, SignedStamp};

/// The store's mark that distinguishes one content of a key from the next: an ETag, a generation,
/// or a mark that the backend makes up. Opaque above the backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Token(pub String);

/// The condition under which a write may replace the current content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    None,
    /// Only if the key has no content.
    Absent,
    /// Only if the content is still the one that the token belongs to.
    Unchanged(Token),
}

/// An object as read from a store. `Target`, not the backend, compares content and stamp.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The content.
    pub content: Bytes,
    /// The stamp that the store keeps with the content; `None` if the content was put there by
    /// hand.
    pub stamp: Option<SignedStamp>,
    /// Whether the store keeps a stamp that can't be read.
    pub unreadable: bool,
    /// The token of this content, if the store has one.
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
    /// The stamp, if the store's listing includes it (`file` does, S3's LIST does not).
    pub stamp: Option<SignedStamp>,
    /// Whether the listing includes a stamp that can't be read.
    pub unreadable: bool,
    /// The token of the content, if the store's listing includes it.
    pub token: Option<Token>,
    /// The store's own time of the content.
    pub modified: SystemTime,
}

/// One store.
///
/// Futures may be dropped at any await point: the write is then either absent or complete. Backends
/// set no deadline of their own; the caller's `Target` does.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Reads an object: its content, stamp and token. An object of more than `limit` bytes is
    /// refused ([`Kind::TooBig`](super::Kind::TooBig)) and never read into memory.
    async fn get(&self, key: &str, limit: u64) -> Result<Stored, Failure>;

    /// Reads an object's metadata without its content (never used to fill a listing).
    async fn head(&self, key: &str) -> Result<Listed, Failure>;

    /// Writes an object and its stamp atomically: no reader ever sees one without the other. When
    /// it returns `Ok` the object is durable. Returns the new content's token.
    async fn put(
        &self,
        key: &str,
        content: Bytes,
        stamp: &SignedStamp,
        condition: &Condition,
    ) -> Result<Option<Token>, Failure>;

    /// Deletes an object; a missing object counts as deleted.
    async fn delete(&self, key: &str) -> Result<(), Failure>;

    /// Lists every object whose key starts with `prefix` + `/`, at any depth.
    ///
    /// Keys that can't be parsed as a path (`..`, `//`, control characters) are part of the answer,
    /// unchanged. The caller hides them; they never fail the listing.
    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Failure> {
        self.list_up_to(prefix, None).await
    }

    /// Lists as [`list`](Self::list) does, without the keys after `last`: in stores with pages, it
    /// asks for none after that.
    async fn list_up_to(&self, prefix: &str, last: Option<&str>) -> Result<Vec<Listed>, Failure>;

    /// Lists as [`Self::list_up_to`], but not the keys that start with `without` + `/`.
    async fn list_without(
        &self,
        prefix: &str,
        without: &str,
        last: Option<&str>,
    ) -> Result<Vec<Listed>, Failure> {
        let mut listed = self.list_up_to(prefix, last).await?;
        listed.retain(|listed| !is_below(&listed.key, without));
        Ok(listed)
    }

    /// Lists the keys that start with `prefix` + `/` alone, for stores where anything more costs a
    /// request for each.
    async fn list_keys(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let listed = self.list(prefix).await?;
        Ok(listed.into_iter().map(|listed| listed.key).collect())
    }

    /// Lists the first segments of all keys with more than one segment (the repositories).
    async fn list_prefixes(&self) -> Result<Vec<String>, Failure>;

    /// Tries whether the store exists and can be listed.
    async fn probe(&self) -> Result<(), Failure>;

    /// Makes a store usable that has lost its own bookkeeping, on a person's word.
    async fn restore(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Returns whether `modified` comes from a clock of the store, and not from the writer.
    fn keeps_time(&self) -> bool {
        false
    }

    /// Returns the reason why this version has no backend for the store, which then gets no
    /// request.
    fn unsupported(&self) -> Option<&Failure> {
        None
    }

    /// Tells whether the store honours [`Condition`]s, if the backend knows this or can find out by
    /// itself; `None` if only a trial write can show it.
    async fn try_conditions(&self) -> Result<Option<Capabilities>, Failure> {
        Ok(None)
    }
}

/// Tells whether a key lies below another.
pub(super) fn is_below(key: &str, other: &str) -> bool {
    let rest = key.strip_prefix(other);
    rest.is_some_and(|rest| rest.starts_with('/'))
}

/// The capabilities that a store has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether the store honours conditions.
    pub honours_conditions: bool,
    /// The store's refusal of another operation that a mount needs: to read an object, or to delete
    /// it.
    pub refused: Option<Failure>,
}

tokio::task_local! {
    static WAITING: Waiting;
}

/// The thing that one operation waits for, as reported by its backend.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<Option<String>>>);

impl Waiting {
    /// Runs an operation whose backend may report what it waits for.
    pub(super) async fn over<T>(&self, operation: impl Future<Output = T>) -> T {
        WAITING.scope(self.clone(), operation).await
    }

    /// Returns the value of the running operation, for use on another thread.
    pub(super) fn current() -> Self {
        WAITING.try_with(Self::clone).unwrap_or_default()
    }

    /// Runs the part of an operation that blocks this thread.
    pub(super) fn on_thread<T>(self, operation: impl FnOnce() -> T) -> T {
        WAITING.sync_scope(self, operation)
    }

    /// Returns the last thing that the operation waited for.
    pub(super) fn last(&self) -> Option<String> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.clone()
    }

    fn set(&self, what: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

/// Notes the thing that the running operation waits for from now on; `None` for nothing special.
pub(super) fn waits_for(what: Option<String>) {
    // There is no listener in a test of the backend alone.
    let _ = WAITING.try_with(|waiting| waiting.set(what));
}
