//! Errors of pushes and pulls.

use std::fmt;
use std::time::Duration;

use crate::model::ArtifactId;
use crate::store::{Failure, Kind};

/// The kind of failure that an operation on the registry ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The artifact does not exist.
    NotFound,
    /// A target refuses these credentials.
    Denied,
    /// Another writer has pushed in between.
    Conflict,
    /// A check, or a target, refuses the document.
    Invalid,
    /// A target, or this machine, is full.
    NoSpace,
    /// Every target that could answer has an outage.
    Outage,
    /// A signal killed the writer in mid-write.
    Torn,
}

/// The failure of a push or a pull, with a message: what failed, on what, why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RegistryError {
    /// The kind of failure.
    pub kind: ErrorKind,
    /// The message.
    pub reason: String,
}

impl RegistryError {
    /// Creates an error.
    pub fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }

    /// Creates the error of an operation whose targets have failed: the first answer among the
    /// failures decides; without one, it is an outage.
    pub fn of_failures<'a>(
        what: impl std::fmt::Display,
        failures: impl IntoIterator<Item = (&'a str, &'a Failure)>,
    ) -> Self {
        let failures: Vec<_> = failures.into_iter().collect();
        let kind = failures
            .iter()
            .map(|(_, failure)| ErrorKind::of(failure.kind))
            .find(|kind| *kind != ErrorKind::Outage)
            .unwrap_or(ErrorKind::Outage);
        Self::new(kind, format!("{what}: {}", reasons(failures)))
    }
}

/// Returns each target's failure, with its URL.
pub fn reasons<'a>(failures: impl IntoIterator<Item = (&'a str, &'a Failure)>) -> String {
    let reasons: Vec<String> = failures
        .into_iter()
        .map(|(url, failure)| match failure.reason.contains(url) {
            true => failure.to_string(),
            false => format!("{url}: {failure}"),
        })
        .collect();
    reasons.join("; ")
}

impl ErrorKind {
    /// Maps a target's failure to the error of the operation, if nothing else helps.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::NotFound => ErrorKind::NotFound,
            Kind::Denied => ErrorKind::Denied,
            Kind::Conflict => ErrorKind::Conflict,
            Kind::Invalid => ErrorKind::Invalid,
            Kind::NoSpace => ErrorKind::NoSpace,
            Kind::StoreMissing
            | Kind::WrongStore
            | Kind::Unreachable
            | Kind::Busy
            | Kind::Corrupt
            | Kind::TooBig => ErrorKind::Outage,
        }
    }
}

/// Creates the error of a look-up that is still under way after the caller's wait.
pub(super) fn overdue(what: impl fmt::Display, waited: Duration) -> RegistryError {
    let waited = waited.as_secs_f64();
    let reason = format!("can't {what}: no target has answered within {waited:.2} s");
    RegistryError::new(ErrorKind::Outage, reason)
}

/// Creates the error of a task that has panicked.
pub(super) fn panicked(what: &str, on: impl fmt::Display) -> RegistryError {
    RegistryError::new(
        ErrorKind::Outage,
        format!("{what} {on} hit a bug; please report it"),
    )
}

/// Creates the error of a push or deletion whose time was used up by the one before it.
pub(super) fn still_busy(what: &str, id: &ArtifactId) -> RegistryError {
    RegistryError::new(
        ErrorKind::Outage,
        format!("can't {what} {id}: the push before it is still under way"),
    )
}

/// Makes the error of a push whose base is no longer the newest content.
pub(super) fn conflict(id: &ArtifactId, why: &str) -> RegistryError {
    RegistryError::new(
        ErrorKind::Conflict,
        format!("can't push {id}: {why}; read it again and merge"),
    )
}
