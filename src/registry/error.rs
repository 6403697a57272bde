//! Why a push or a pull fails.

use crate::store::{Failure, Kind};

/// What kind of failure an operation on the registry ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such artifact.
    NotFound,
    /// A target refuses these credentials.
    Denied,
    /// Somebody else has pushed in between.
    Conflict,
    /// A check, or a target, refuses the document.
    Invalid,
    /// A target, or this machine, is full.
    NoSpace,
    /// Every target that could answer has an outage.
    Outage,
    /// A signal has killed the writer amid its work.
    Torn,
}

/// Why a push or a pull failed, in words too: what, on what, why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Error {
    /// The kind of failure.
    pub kind: ErrorKind,
    /// The words.
    pub reason: String,
}

impl Error {
    /// Makes an error.
    pub fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }

    /// Makes the error that an operation ends with when these targets have failed: the first
    /// answer among the failures decides, and an outage only if there is none.
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

/// Says what each target has answered, each with its URL.
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
    /// Maps a target's failure to what an operation ends with if nothing else helps.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::NotFound => ErrorKind::NotFound,
            Kind::Denied => ErrorKind::Denied,
            Kind::Conflict => ErrorKind::Conflict,
            Kind::Invalid => ErrorKind::Invalid,
            Kind::NoSpace => ErrorKind::NoSpace,
            Kind::StoreMissing | Kind::Unreachable | Kind::Busy | Kind::Corrupt | Kind::TooBig => {
                ErrorKind::Outage
            }
        }
    }
}
