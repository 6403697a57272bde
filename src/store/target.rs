//! The target: the registry or one backup. Every operation on it has a deadline.

mod admission;
mod listing;
mod membership;
mod signing;

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use futures::FutureExt;
use tokio::time::{Instant, timeout_at};

use super::backend::Waiting;
use super::known_tombstones::KnownTombstones;
use super::{Backend, Condition, Failure, Kind, Location, StampKeys, StampRefusal, Token};
use crate::model::{ArtifactId, RepoName, Sha256, Stamp, WallClock};

pub use listing::RepoListing;
pub use membership::{Members, Membership};

/// The role of a target in the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The primary store.
    Registry,
    /// The backup at this index of the configured order, from 0.
    Backup(usize),
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Registry => out.write_str("registry"),
            Role::Backup(place) => write!(out, "backup {}", place + 1),
        }
    }
}

/// A content as read from a target, with a verified hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The bytes.
    pub bytes: Bytes,
    /// The stamp, or a substitute if the store has none.
    pub stamp: Stamp,
    /// Whether the store keeps a stamp with the bytes. Content that was put there by hand has none;
    /// its `stamp` is then made from the store's own time and the bytes.
    pub stamped: bool,
    /// Why the stamp in the store counts as none.
    pub refused: Option<StampRefusal>,
    /// The store's token, if it has one.
    pub token: Option<Token>,
    /// The store's own time.
    pub modified: SystemTime,
}

/// The metadata of an artifact, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The size in bytes.
    pub size: u64,
    /// The stamp, if the store shows it without the content.
    pub stamp: Option<Stamp>,
    /// Why the stamp in the store counts as none.
    pub refused: Option<StampRefusal>,
    /// The token, if the store shows it without the content.
    pub token: Option<Token>,
    /// The store's own time.
    pub modified: SystemTime,
}

/// The folder of the bookkeeping objects, beside the repositories.
const BOOKKEEPING: &str = ".atlasfs";

/// The registry or one backup.
#[derive(Debug, Clone)]
pub struct Target {
    role: Role,
    url: Arc<str>,
    pub(super) driver: Arc<dyn Backend>,
    membership: Option<Arc<Membership>>,
    /// The mount's clock; the machine's until it is set.
    pub(super) wall: Arc<OnceLock<WallClock>>,
    /// The keys that sign stamps. With them, a stamp without a signature counts as none.
    pub(super) stamp_keys: Option<Arc<StampKeys>>,
    pub(super) known_tombstones: Arc<Mutex<KnownTombstones>>,
}

impl Target {
    /// Makes a target from a backend; `url` is shown in messages.
    pub fn new(role: Role, url: &str, driver: Arc<dyn Backend>) -> Self {
        Self {
            role,
            url: url.into(),
            driver,
            membership: None,
            wall: Arc::default(),
            stamp_keys: None,
            known_tombstones: Arc::default(),
        }
    }

    /// Makes every operation check first that the store is the one that the mount means.
    pub fn set_membership(&mut self, mut membership: Membership) {
        if let Some(keys) = &self.stamp_keys {
            membership.set_stamp_keys(Arc::clone(keys));
        }
        self.membership = Some(Arc::new(membership));
    }

    /// Returns what the mount expects of the store.
    pub fn membership(&self) -> Option<&Arc<Membership>> {
        self.membership.as_ref()
    }

    /// Sets the clock that stamps are judged by, once.
    pub fn set_wall(&self, wall: &WallClock) {
        let _ = self.wall.set(wall.clone());
    }

    /// Opens the target at a location. `env` looks up environment variables.
    ///
    /// A store that is missing or can't be reached now still makes a target: its operations fail
    /// until the store is there.
    ///
    /// # Errors
    ///
    /// The location can never work as it is written: an option that can't be honoured, missing
    /// credentials, or a folder that ignores the case of names.
    pub fn open(
        role: Role,
        location: &Location,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let (driver, found) = super::open::build(location, env)?;
        if let Err(failure) = found
            && failure.unasked
            && failure.kind == Kind::Invalid
        {
            return Err(failure);
        }
        Ok(Self::new(role, &location.to_string(), driver))
    }

    /// Makes a target that can't be opened: each operation fails with the reason.
    pub fn unusable(role: Role, location: &Location, failure: Failure) -> Self {
        Self::new(role, &location.to_string(), super::open::unusable(failure))
    }

    /// Returns the target's role in the mount.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the target's URL for messages.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the reason why this version has no backend for the target, which then gets no
    /// request.
    pub fn unsupported(&self) -> Option<&Failure> {
        self.driver.unsupported()
    }

    /// Reads an artifact of at most `limit` bytes and checks its hash.
    ///
    /// # Errors
    ///
    /// The target's failing answer; [`Kind::Corrupt`] if the bytes don't match the stamp,
    /// [`Kind::TooBig`] if there are more than `limit`.
    pub async fn get(
        &self,
        id: &ArtifactId,
        limit: u64,
        deadline: Instant,
    ) -> Result<Content, Failure> {
        let key = id.to_string();
        let attempt = format!("reading {key}");
        let stored = self.by(deadline, &attempt, self.driver.get(&key, limit));
        let stored = self.unless_wiped(stored.await, deadline).await?;
        #[cfg(test)]
        if crate::fault_injection::injected(crate::fault_injection::Bug::NoHashCheck)
            && let Some(stamp) = stored.stamp.map(|signed| signed.stamp)
        {
            return Ok(Content {
                bytes: stored.content,
                stamp,
                stamped: true,
                refused: None,
                token: stored.token,
                modified: stored.modified,
            });
        }
        if let Some(signed) = stored.stamp
            && !signed.stamp.matches(&stored.content)
        {
            return Err(Failure::new(
                Kind::Corrupt,
                format!(
                    "cannot read {key} at {}: its bytes don't match their stamp",
                    self.url
                ),
            ));
        }
        if let Some(version) = id.item.version()
            && !version.is_of(Sha256::of(&stored.content))
        {
            let why = format!("cannot read {key} at {}: its bytes are others", self.url);
            return Err(Failure::new(Kind::Corrupt, why));
        }
        let judged = self.judge(&key, stored.stamp, stored.unreadable, stored.modified);
        self.trust(&key, judged)?;
        let stamp = match judged.unwrap_or_else(|refused| self.unsigned(refused, stored.stamp)) {
            Some(stamp) => stamp,
            None => self.stamp_by_hand(&id.item, &stored).await,
        };
        Ok(Content {
            stamp,
            stamped: matches!(judged, Ok(Some(_))),
            refused: judged.err(),
            token: stored.token,
            modified: stored.modified,
            bytes: stored.content,
        })
    }

    /// Reads the metadata of an artifact without its content.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn head(&self, id: &ArtifactId, deadline: Instant) -> Result<Meta, Failure> {
        let key = id.to_string();
        let attempt = format!("looking up {key}");
        let listed = self.by(deadline, &attempt, self.driver.head(&key)).await;
        Ok(self.meta(self.unless_wiped(listed, deadline).await?))
    }

    /// Writes an artifact. When it returns `Ok` the target has it, durably.
    ///
    /// # Errors
    ///
    /// The target's failing answer. After an outage ([`Failure::is_outage`]) the artifact is either
    /// absent or complete.
    pub async fn put(
        &self,
        id: &ArtifactId,
        content: Bytes,
        stamp: &Stamp,
        condition: &Condition,
        deadline: Instant,
    ) -> Result<Option<Token>, Failure> {
        let key = id.to_string();
        if !stamp.matches(&content) {
            // No mount would ever serve such an object.
            return Err(Failure::new(
                Kind::Invalid,
                format!(
                    "cannot write {key} at {}: its stamp does not match its bytes",
                    self.url
                ),
            ));
        }
        self.has_tagged(id, &content, deadline).await?;
        let attempt = format!("writing {key}");
        let stamp = self.sign(&key, stamp);
        let put = self.driver.put(&key, content, &stamp, condition);
        self.writing(deadline, &attempt, put).await
    }

    /// Deletes an artifact; a missing artifact counts as deleted.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn delete(&self, id: &ArtifactId, deadline: Instant) -> Result<(), Failure> {
        let key = id.to_string();
        let deleted = self.driver.delete(&key);
        self.writing(deadline, &format!("deleting {key}"), deleted)
            .await
    }

    /// Lists the repositories, and the first segments of keys that are not valid repository names.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn repos(&self, deadline: Instant) -> Result<(Vec<RepoName>, Vec<String>), Failure> {
        let listed = self.by(
            deadline,
            "listing the repositories",
            self.driver.list_prefixes(),
        );
        let (mut repos, mut hidden) = (Vec::new(), Vec::new());
        let listed = listed.await?;
        if listed.iter().all(|prefix| prefix == BOOKKEEPING) {
            self.confirm(deadline).await?;
        }
        for prefix in listed {
            match RepoName::parse(&prefix) {
                Ok(repo) => repos.push(repo),
                Err(_) if prefix == BOOKKEEPING => {}
                Err(_) => hidden.push(prefix),
            }
        }
        repos.sort();
        repos.dedup();
        Ok((repos, hidden))
    }

    /// Tries whether the target exists and can be listed.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn probe(&self, deadline: Instant) -> Result<(), Failure> {
        self.by(deadline, "probing", self.driver.probe()).await
    }

    /// Waits for an operation until the deadline, after the check that the store is the right one.
    pub(super) async fn by<T>(
        &self,
        deadline: Instant,
        attempt: &str,
        operation: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        if let Some(membership) = &self.membership {
            membership.check(self, deadline).await?;
        }
        let reply = self.by_anyone(deadline, attempt, operation).await;
        // Another store may be there after an outage.
        if let (Some(membership), Err(failure)) = (&self.membership, &reply)
            && failure.is_outage()
            && !failure.is_of_one_object()
        {
            membership.doubt();
        }
        reply
    }

    /// Waits for an operation until the deadline, whatever the store is.
    pub(in crate::store) async fn by_anyone<T>(
        &self,
        deadline: Instant,
        attempt: &str,
        operation: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let start = Instant::now();
        // If a backend panics, only its own target has an outage.
        let guarded = AssertUnwindSafe(operation).catch_unwind().map(|ended| {
            ended.unwrap_or_else(|_| {
                let bug = format!("{attempt} at {} hit a bug; please report it", self.url);
                Err(Failure::new(Kind::Unreachable, bug))
            })
        });
        let waiting = Waiting::default();
        let ended = timeout_at(deadline, waiting.over(guarded)).await;
        ended.unwrap_or_else(|_| {
            let waited = deadline.saturating_duration_since(start).as_secs_f64();
            let mut reason = format!(
                "no answer within {waited:.1} s while {attempt} at {}",
                self.url
            );
            if let Some(last) = waiting.last() {
                reason.push_str(": ");
                reason.push_str(&last);
            }
            Err(Failure::no_answer(reason))
        })
    }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
