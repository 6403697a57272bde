//! The verdict on every failing reply of a target: decided here, once, exhaustively.

use std::fmt;

/// What kind of failure a target's reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The store is there and has no such object (404).
    NotFound,
    /// The store refuses these credentials or this operation (401, 403).
    Denied,
    /// A precondition failed: somebody else has written in between (409 of a conditional write,
    /// 412).
    Conflict,
    /// The store calls the request malformed (400, 422, and every other 4xx).
    Invalid,
    /// The store is full or over its quota (413, 507, ENOSPC, EDQUOT).
    NoSpace,
    /// The store itself is gone: no such bucket or container, the folder of a `file://` target
    /// missing.
    StoreMissing,
    /// No complete reply: connection, DNS, TLS, time-out, reset, body cut off.
    Unreachable,
    /// The store answers that it can't answer now (408, 429, 5xx).
    Busy,
    /// The bytes don't match their stamp.
    Corrupt,
}

/// What a failure means for the operation that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The target has spoken: the operation ends here, and a read does not fall back.
    Answer,
    /// The target can't be heard: the next target is asked.
    Outage,
}

impl Kind {
    /// Decides what a failure of this kind means (DESIGN, section 5).
    pub fn verdict(self) -> Verdict {
        match self {
            Kind::NotFound | Kind::Denied | Kind::Conflict | Kind::Invalid | Kind::NoSpace => {
                Verdict::Answer
            }
            Kind::StoreMissing | Kind::Unreachable | Kind::Busy | Kind::Corrupt => Verdict::Outage,
        }
    }

    /// Returns the kind's name in events, metrics and status: `not-found`, `denied`, ….
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::NotFound => "not-found",
            Kind::Denied => "denied",
            Kind::Conflict => "conflict",
            Kind::Invalid => "invalid",
            Kind::NoSpace => "no-space",
            Kind::StoreMissing => "store-missing",
            Kind::Unreachable => "unreachable",
            Kind::Busy => "busy",
            Kind::Corrupt => "corrupt",
        }
    }
}

/// A target's failing reply: its kind, and in words what the target said. The words never hold a
/// secret: drivers build them from status, error code and redacted URLs only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: Kind,
    /// What was attempted, on what, and what the target answered.
    pub reason: String,
}

impl Failure {
    /// Makes a failure of a kind, with what the target said.
    pub fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }

    /// Tells whether the next target is to be asked.
    pub fn is_outage(&self) -> bool {
        self.kind.verdict() == Verdict::Outage
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.reason, self.kind.as_str())
    }
}
